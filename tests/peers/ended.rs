//! A program that is started, woken and waited for, and how it ended.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Longer than any of them waits by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// A file and not a pipe: nothing hangs on what a program leaves behind.
const OUTPUT: &str = "/tmp/peer";

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    status: Option<ExitStatus>,
    said: String,
}

impl Ended {
    /// Runs a command, as the leader of a process group, to its end.
    pub fn of(words: &[String], room: &str) -> Self {
        let output = File::create(OUTPUT).unwrap();
        let started = Command::new(&words[0])
            .args(&words[1..])
            .current_dir(room)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                return Self {
                    status: None,
                    said: format!("not started: {error}"),
                };
            }
        };
        let pid = Pid::from_child(&child);
        let begun = Instant::now();
        let mut status = None;
        while status.is_none() && begun.elapsed() < PATIENCE {
            wake(pid);
            sleep(Duration::from_millis(5));
            status = child.try_wait().unwrap();
        }
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = child.wait();
        let said = fs::read(OUTPUT).unwrap();
        Self {
            status,
            said: String::from_utf8_lossy(&said).trim().replace('\n', " | "),
        }
    }

    /// Whether it says so, in its own words. Some of them end well whatever happened.
    pub fn has_passed(&self) -> bool {
        self.status.is_some_and(|status| status.success())
            && self.said.contains("PASS")
            && !self.said.contains("FAIL")
    }

    pub fn tell(&self) -> String {
        match self.status {
            Some(status) => format!("{status}: {}", self.said),
            None => format!("no end: {}", self.said),
        }
    }
}

/// Some wait for SIGUSR1 in the middle, so that rules can be changed there. Who is not in pause(2) or
/// rt_sigsuspend(2) might not expect it yet.
fn wake(pid: Pid) {
    let call = fs::read_to_string(format!("/proc/{}/syscall", pid.as_raw_nonzero()));
    let call = call.unwrap_or_default();
    if ["34", "130"].contains(&call.split(' ').next().unwrap_or_default()) {
        let _ = kill_process(pid, Signal::USR1);
    }
}
