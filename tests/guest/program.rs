//! The test program on its way: a copy of it, run with acts on its command line.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A copy of the test program at a path of its own; see tests/subject/subject.rs for what it can do.
pub struct Program {
    pub path: String,
    pub uid: u32,
}

impl From<&str> for Program {
    /// One of this machine's own.
    fn from(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            uid: 0,
        }
    }
}

impl Program {
    pub fn copy(path: &str) -> Self {
        let source = env::var("CARTOUCHE_SUBJECT").unwrap_or_else(|_| "/job/subject".to_owned());
        Self::copy_of(&source, path)
    }

    /// A copy of another program.
    pub fn copy_of(source: &str, path: &str) -> Self {
        // a new inode, whatever stood there
        let _ = fs::remove_file(path);
        fs::copy(source, path).unwrap_or_else(|error| panic!("{source}: {error}"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        Self::from(path)
    }

    /// Runs acts (`open-read /x, kill-self`) and returns the lines that it prints. Not even started: the
    /// error of execve. Killed: `killed by N` at the end.
    pub fn run(&self, acts: &str) -> Vec<String> {
        self.run_words(&words(acts))
    }

    /// The same for words with spaces, commas or newlines in them.
    pub fn run_words(&self, words: &[&str]) -> Vec<String> {
        let output = match self.command(words).output() {
            Ok(output) => output,
            Err(error) => return vec![errno(&error)],
        };
        std::io::stderr().write_all(&output.stderr).unwrap();
        let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned)
            .collect();
        match output.status.signal() {
            Some(signal) => lines.push(format!("killed by {signal}")),
            None if !output.status.success() => lines.push(format!("{}", output.status)),
            None => {}
        }
        lines
    }

    /// Starts acts and goes on.
    pub fn spawn(&self, acts: &str) -> Running {
        self.spawn_words(&words(acts))
    }

    /// The same for words with spaces or commas in them.
    pub fn spawn_words(&self, words: &[&str]) -> Running {
        let mut child = self
            .command(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(words).current_dir("/");
        if self.uid != 0 {
            command.uid(self.uid).gid(self.uid);
        }
        command
    }

    /// Asserts that each act succeeds.
    #[track_caller]
    pub fn may(&self, acts: &str) {
        self.gets(acts, "ok");
    }

    /// Asserts that each act is refused.
    #[track_caller]
    pub fn may_not(&self, acts: &str) {
        self.gets(acts, "EPERM");
    }

    /// Asserts the same line for each act. An act with a line of its own needs [`run`](Self::run).
    #[track_caller]
    pub fn gets(&self, acts: &str, expected: &str) {
        let lines = self.run(acts);
        let count = acts.split(',').count();
        assert!(
            lines.len() == count && lines.iter().all(|line| line == expected),
            "{acts} (uid {}): {lines:?}, not {expected}",
            self.uid
        );
    }

    /// Asserts that an act is not refused: it succeeds, or fails for a reason of its own.
    #[track_caller]
    pub fn is_not_refused(&self, act: &str) {
        let lines = self.run(act);
        assert!(
            lines.len() == 1 && lines[0] != "EPERM" && lines[0] != "EACCES",
            "{act} (uid {}): {lines:?}",
            self.uid
        );
    }
}

/// A program that acts while the test goes on.
pub struct Running {
    pub child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its next line, without the newline; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn words(acts: &str) -> Vec<&str> {
    acts.split(',')
        .flat_map(|act| std::iter::once(",").chain(act.split_whitespace()))
        .skip(1)
        .collect()
}

fn errno(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => "EPERM".to_owned(),
        _ => format!("not started: {error}"),
    }
}
