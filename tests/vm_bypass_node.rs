//! Attempts at getting past an envelope by way of the daemon: while artifacts come, change and go, and at
//! the daemon itself. They are listed in tests/bypass/manifest.toml.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cartouche::control::Standing::Admitted;
use daemon::Outcome::{Done, NotStarted, Refused};

/// How often an artifact changes.
const PACE: Duration = Duration::from_millis(10);

/// How long anything is tried.
const TRIAL: Duration = Duration::from_secs(10);

/// Does something again and again while another thing goes on; what that came to.
fn meanwhile<T>(mut change: impl FnMut(u32) + Send, act: impl FnOnce() -> T) -> T {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let mut turn = 0;
            while !ended.load(Ordering::Relaxed) {
                change(turn);
                turn += 1;
                thread::sleep(PACE);
            }
            turn
        });
        let result = act();
        ended.store(true, Ordering::Relaxed);
        assert!(changing.join().unwrap() > 20);
        result
    })
}

#[test]
fn what_starts_while_its_artifact_changes_all_the_time_is_held() {
    daemon::require_lsm!();
    let (_daemon, tool) = daemon::with_tool("changing");
    let artifacts = [
        tool.artifact(),
        tool.artifact_that(&[("fs:read", "mine"), ("fs:write", "mine")]),
    ];

    let (mut held, begun) = (0, Instant::now());
    meanwhile(
        |turn| tool.drop(&artifacts[turn as usize % 2]),
        || {
            while begun.elapsed() < TRIAL {
                assert_eq!(tool.reads("other"), Refused);
                held += 1;
            }
        },
    );

    assert!(held > 20, "{held}");
    tool.is_held();
}

#[test]
fn what_starts_or_runs_while_its_artifact_comes_and_goes_never_gets_out() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("flapping");
    let artifact = tool.artifact();
    let mut running = tool.start();

    let (mut refused, mut not_started, begun) = (0, 0, Instant::now());
    meanwhile(
        |turn| match turn % 2 {
            0 => tool.remove(),
            _ => tool.drop(&artifact),
        },
        || {
            while begun.elapsed() < TRIAL {
                // a shell that is refused its own input in between ends
                assert_ne!(running.reads("other"), Done);
                // a shell that is refused its library in between says so in other words
                match tool.reads("other") {
                    Done => panic!("it read what it may not"),
                    Refused => refused += 1,
                    NotStarted => not_started += 1,
                    daemon::Outcome::Silenced | daemon::Outcome::Other(_) => {}
                }
            }
        },
    );

    assert!(refused + not_started > 20, "{refused} {not_started}");
    tool.drop(&artifact);
    daemon.comes_to("flapping", Admitted);
    tool.is_held();
}

#[test]
fn no_subject_ends_or_stops_the_daemon() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("signalling");
    let pid = daemon.pid().as_raw_nonzero();
    let mut running = tool.start();

    for signal in ["KILL", "STOP", "TERM", "HUP", "0"] {
        let act = format!("kill -{signal} {pid} 2>/dev/null && echo sent || echo refused");
        assert_eq!(running.tell(&act), "refused", "{signal}");
    }

    // the control: this test may
    let asked = Command::new("kill").args(["-0", &pid.to_string()]).status();
    assert!(asked.is_ok_and(|status| status.success()));
    daemon.settles();
    tool.is_held();
}
