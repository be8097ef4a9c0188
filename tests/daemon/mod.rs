//! The daemon as an administrator meets it: installed, started, given artifacts, asked. One daemon for all
//! tests of a file, which run one after the other.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

mod audit;
mod syslog;
mod tool;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cartouche::config::Paths;
use cartouche::control::{Client, Error, Listed, Request, Response, Standing, Status};
use cartouche::posture::Report;
use rustix::process::{Pid, Signal, kill_process};

#[allow(unused_imports)]
pub use audit::{Audit, Mark};
#[allow(unused_imports)]
pub use syslog::Syslog;
#[allow(unused_imports)]
pub use tool::{Hammered, Outcome, Running, Tool, seal};

/// Where the administrator puts artifacts, and where packages do.
pub const POLICIES: &str = "/etc/cartouche/policies.d";
pub const SHIPPED: &str = "/usr/lib/cartouche/policies.d";

/// What the daemon leaves in the kernel.
pub const PINS: &str = "/sys/fs/bpf/cartouche";

/// How long anything may take in an emulated machine, whose processor others use too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long the daemon may take to start there: the kernel verifies a program for each of its hooks.
const START: Duration = Duration::from_secs(240);

/// Whether BPF LSM programs are enforced here: `bpf` is in the list of active LSMs.
pub fn has_lsm() -> bool {
    fs::read_to_string("/sys/kernel/security/lsm")
        .is_ok_and(|list| list.split(',').any(|name| name.trim() == "bpf"))
        && rustix::process::geteuid().is_root()
}

/// Leaves the test where the kernel cannot enforce; fails instead where the harness demands it.
#[allow(unused_macros)]
macro_rules! require_lsm {
    () => {
        if !crate::daemon::has_lsm() {
            let demanded = std::env::var("CARTOUCHE_REQUIRE").is_ok_and(|value| value == "lsm");
            assert!(!demanded, "bpf is not an active LSM here, and the harness demands it");
            eprintln!("skipped: needs root on a kernel with bpf in its LSM list; `make test` runs it in a VM");
            return;
        }
    };
}
#[allow(unused_imports)]
pub(crate) use require_lsm;

/// The one daemon of this machine, for the time of a test.
pub struct Daemon {
    child: MutexGuard<'static, Option<Child>>,
    pub audit: Audit,
}

static CHILD: Mutex<Option<Child>> = Mutex::new(None);

/// A running daemon without artifacts. What earlier tests revoked is forgotten.
pub fn running() -> Daemon {
    let mut daemon = installed();
    if daemon.child.is_none() {
        daemon.start();
    }
    empty(POLICIES);
    empty(SHIPPED);
    daemon.ask(&Request::Rescan);
    for artifact in daemon.list() {
        let id = artifact.id.expect("what is left was admitted once");
        daemon.ask(&Request::Forget { id });
    }
    daemon
}

/// A running daemon and a program that may read `mine`.
pub fn with_tool(id: &str) -> (Daemon, Tool) {
    let daemon = running();
    let tool = Tool::new(id);
    tool.drop(&tool.artifact());
    daemon.comes_to(id, Standing::Admitted);
    (daemon, tool)
}

/// No daemon, and nothing that one left behind: neither on disk nor in the kernel.
pub fn stopped() -> Daemon {
    let mut daemon = installed();
    if daemon.child.is_some() {
        daemon.stop();
    }
    empty(POLICIES);
    empty(SHIPPED);
    empty("/etc/cartouche/cartouche.toml.d");
    let _ = fs::remove_dir_all("/var/lib/cartouche");
    forget_kernel();
    daemon
}

/// Takes all pins away, and with them all programs and tables.
pub fn forget_kernel() {
    if Path::new(PINS).exists() {
        fs::remove_dir_all(PINS).unwrap();
    }
}

fn installed() -> Daemon {
    let child = CHILD.lock().unwrap_or_else(PoisonError::into_inner);
    if child.is_none() {
        install();
        syslog::listen();
    }
    Daemon {
        child,
        audit: Audit,
    }
}

/// What `make install` puts where.
fn install() {
    for (program, target) in [
        ("cartouched", "/usr/sbin"),
        ("cartouche", "/usr/bin"),
        ("canary", "/usr/libexec/cartouche"),
    ] {
        fs::create_dir_all(target).unwrap();
        copy(
            Path::new("/job").join(program),
            Path::new(target).join(program),
            0o755,
        );
    }
    for directory in [POLICIES, SHIPPED, "/usr/lib/cartouche/profiles.d"] {
        fs::create_dir_all(directory).unwrap();
    }
    for profile in fs::read_dir("/job/policies/profiles").unwrap() {
        let profile = profile.unwrap();
        let target = Path::new("/usr/lib/cartouche/profiles.d").join(profile.file_name());
        copy(profile.path(), target, 0o644);
    }
    copy(
        "/job/policies/scope.toml".into(),
        "/etc/cartouche/scope.toml".into(),
        0o644,
    );
    fs::create_dir_all("/job/out").unwrap();
}

fn copy(from: PathBuf, to: PathBuf, mode: u32) {
    let _ = fs::remove_file(&to);
    fs::copy(&from, &to).unwrap_or_else(|error| panic!("{from:?} to {to:?}: {error}"));
    fs::set_permissions(&to, Permissions::from_mode(mode)).unwrap();
}

/// Removes everything in a directory, if that is there.
pub fn empty(directory: &str) {
    empty_of(directory, "");
}

/// Removes what in a directory has a name that begins so.
pub fn empty_of(directory: &str, begin: &str) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let entry = entry.unwrap();
        if !entry.file_name().to_string_lossy().starts_with(begin) {
            continue;
        }
        let path = entry.path();
        match path.symlink_metadata().unwrap().is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }
}

impl Daemon {
    /// Starts it as a service manager does, and waits until it answers.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    pub fn start_with(&mut self, arguments: &[&str]) {
        assert!(self.child.is_none(), "it runs already");
        let mut child = spawn(arguments);
        let begun = Instant::now();
        while self.try_ask(&Request::Status).is_err() {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("cartouched ended with {status}: {}", tail_of_output());
            }
            if begun.elapsed() > START {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("cartouched does not answer: {}", tail_of_output());
            }
            sleep(Duration::from_millis(100));
        }
        *self.child = Some(child);
    }

    /// Starts one that is expected to give up, and says how it did.
    pub fn start_in_vain(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = command(arguments).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    }

    /// Ends it as a service manager does.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Ends it without a word.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    pub fn restart(&mut self) {
        assert!(self.stop().success());
        self.start();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    /// Waits for one that was told to end.
    pub fn ends(&mut self) -> ExitStatus {
        self.wait()
    }

    fn wait(&mut self) -> ExitStatus {
        self.child.take().expect("it runs").wait().unwrap()
    }

    pub fn try_ask(&self, request: &Request) -> Result<Response, Error> {
        Client::new(&Paths::default().control(), PATIENCE).ask(request)
    }

    #[track_caller]
    pub fn ask(&self, request: &Request) -> Response {
        self.try_ask(request)
            .unwrap_or_else(|error| panic!("{request:?}: {error:?}: {}", tail_of_output()))
    }

    pub fn list(&self) -> Vec<Listed> {
        match self.ask(&Request::List) {
            Response::List { artifacts } => artifacts,
            other => panic!("{other:?}"),
        }
    }

    pub fn status(&self) -> Status {
        match self.ask(&Request::Status) {
            Response::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// What is listed of one artifact.
    pub fn listed(&self, id: &str) -> Option<Listed> {
        self.list()
            .into_iter()
            .find(|one| one.id.as_deref() == Some(id))
    }

    pub fn standing(&self, id: &str) -> Option<Standing> {
        self.listed(id).map(|one| one.standing)
    }

    /// Waits until an artifact stands so.
    #[track_caller]
    pub fn comes_to(&self, id: &str, standing: Standing) {
        let mut last = None;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            last = self.listed(id);
            if last.as_ref().map(|one| one.standing) == Some(standing) {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        panic!("{id} does not become {standing}: {last:?}");
    }

    /// Waits until everything that changed so far was seen. Every change of a file is answered in its
    /// turn, so a file that is put in last is answered last.
    pub fn settles(&self) {
        self.ask(&Request::Rescan);
    }

    /// The report as anybody can read it.
    pub fn report(&self) -> Report {
        let bytes = fs::read("/var/lib/cartouche/capabilities.json").unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Waits for the report to say what `wanted` looks for.
    #[track_caller]
    pub fn reports(&self, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        let begun = Instant::now();
        loop {
            let report = self.report();
            if wanted(&report) {
                return report;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "no report says: {what}: {:?} {:?}",
                report.runtime_state,
                report.cartouche.reasons
            );
            sleep(Duration::from_millis(50));
        }
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/sbin/cartouched");
    // the tests end it and look into its tables as the administrator may not
    command.env("CARTOUCHED_GUARD", "off");
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .current_dir("/");
    command
}

fn spawn(arguments: &[&str]) -> Child {
    let log = File::options()
        .append(true)
        .create(true)
        .open("/job/out/cartouched.log")
        .unwrap();
    command(arguments).stderr(log).spawn().unwrap()
}

/// What the daemon wrote to standard error last.
fn tail_of_output() -> String {
    let text = fs::read_to_string("/job/out/cartouched.log").unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Runs the command `cartouche`.
pub fn cartouche(arguments: &[&str]) -> Output {
    Command::new("/usr/bin/cartouche")
        .args(arguments)
        .output()
        .unwrap()
}

/// Runs the command `cartouche`, which must succeed, and returns its output.
#[track_caller]
pub fn cartouche_ok(arguments: &[&str]) -> String {
    let output = cartouche(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the command `cartouche` with `--json`; its exit code and what it said.
pub fn cartouche_json(arguments: &[&str]) -> (Option<i32>, serde_json::Value) {
    let output = cartouche(&[arguments, &["--json"]].concat());
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"));
    (output.status.code(), json)
}

/// Waits for something that takes its time.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// Puts a file in its place in one step, as package managers and careful editors do.
pub fn rename_into(path: &str, content: &[u8]) -> io::Result<()> {
    let beside = "/etc/cartouche/incoming";
    fs::write(beside, content)?;
    fs::rename(beside, path)
}
