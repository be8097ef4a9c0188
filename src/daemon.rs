//! cartouched: one thread that brings files, kernel records, questions, signals and the clock to the node.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use async_signal::{Signal, Signals};
use async_std::channel::{Receiver, bounded};
use clap::Parser;
use futures_lite::{StreamExt, future};
use rustix::fs::{FlockOperation, Mode as FileMode, OFlags, flock, fstat, openat};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::audit::Audit;
use crate::bpf;
use crate::config::{Config, Gate, Layer, Mode, Paths};
use crate::control::{self, Call};
use crate::enforcer::Kernel;
use crate::error::chain;
use crate::event::{Code, Event, Outcome};
use crate::mounts::Mounts;
use crate::node::{self, CanaryRun, Node};
use crate::posture::{
    self, Admission, Blocker, ExitCode, Observed, Posture, Programs, Report, Start, System, publish,
};
use crate::site::Site;
use crate::watch::Watch;
use crate::way_out::{self, AtBoot};

/// How often the canary flies, every plan is read back and the report is renewed.
const MINUTE: Duration = Duration::from_secs(60);

/// Between two steps of reading back, or of letting plans go, in which everything else has its turn.
const PAUSE: Duration = Duration::from_millis(1);

/// How often the head of the audit chain and the use of rules are written down.
const HOUR: Duration = Duration::from_secs(3600);

/// How long after a change the canary is sent: several changes are one.
const SOON: Duration = Duration::from_millis(200);

/// How long after a change it is written down and reported. It is in force before; more changes that
/// wait shall not wait for the report.
const AT_ONCE: Duration = Duration::from_millis(20);

/// Holds programs to the envelopes that their artifacts declare.
#[derive(Debug, Parser)]
#[command(name = "cartouched", version, after_help = exit_codes())]
struct Arguments {
    /// What to do when this node cannot enforce: fail-closed or audit-fallback
    #[arg(long, value_name = "GATE", value_parser = gate)]
    gate: Option<Gate>,
    /// Whether to refuse or only to record: enforce or audit
    #[arg(long, value_name = "MODE", value_parser = mode)]
    mode: Option<Mode>,
    /// Only say whether the configuration, the scope and the profiles are valid
    #[arg(long)]
    check: bool,
}

fn gate(text: &str) -> Result<Gate, String> {
    word(Gate::ALL, Gate::as_str, text)
}

fn mode(text: &str) -> Result<Mode, String> {
    word(Mode::ALL, Mode::as_str, text)
}

fn word<T: Copy>(all: &[T], name: fn(T) -> &'static str, text: &str) -> Result<T, String> {
    all.iter()
        .copied()
        .find(|one| name(*one) == text)
        .ok_or_else(|| {
            let known: Vec<_> = all.iter().map(|one| name(*one)).collect();
            format!("expected {}", known.join(" or "))
        })
}

fn exit_codes() -> String {
    let mut text = String::from("Exit status:\n");
    for code in ExitCode::ALL {
        text.push_str(&format!("  {:>2}  {}\n", code.code(), code.meaning()));
    }
    text.push_str(
        "\nSIGHUP reads artifacts, scope and profiles again, and says whether a change of cartouche.toml \
         needs a restart.\nSIGTERM ends the daemon; enforcement stays pinned.",
    );
    text
}

/// The program. Everything that must be said when it cannot start goes to standard error too.
pub fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    let code = match run(&arguments) {
        Ok(code) => code,
        Err(Failure { code, message }) => {
            say(3, &message);
            code
        }
    };
    code.into()
}

/// Says something on standard error, line by line; where that is the journal, with its priority.
fn say(priority: u8, text: &str) {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let prefix = match is_stream(&stream, io::stderr()) {
        true => format!("<{priority}>"),
        false => String::new(),
    };
    for line in text.lines() {
        eprintln!("{prefix}cartouched: {line}");
    }
}

/// Whether `file` is the one that JOURNAL_STREAM names, as `DEVICE:INODE`: who inherits the variable may
/// write elsewhere.
fn is_stream(journal: &str, file: impl AsFd) -> bool {
    fstat(file).is_ok_and(|stat| journal == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Why the daemon ends early.
struct Failure {
    code: ExitCode,
    message: String,
}

impl Failure {
    fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let paths = Paths::default();
    if arguments.check {
        return check(arguments, &paths);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(
            ExitCode::NotRoot,
            "cartouched must be started as root",
        ));
    }
    let state = |error: node::Error| Failure::new(ExitCode::State, chain(&error));
    node::make_directories(&paths).map_err(state)?;
    let _lock = lock(&paths)?;
    let at_boot = AtBoot::read();
    match &at_boot {
        AtBoot::Off => return stay_off(&paths),
        AtBoot::Unknown(word) => say(
            4,
            &format!("warning: cartouche={word:?} on the kernel command line means nothing"),
        ),
        AtBoot::Audit | AtBoot::Nothing => {}
    }
    let system = System::probe(Path::new("/"), &paths.bpffs);
    let layer = Layer::of_command_line(arguments.gate, arguments.mode);
    let loaded = Config::load(&paths, std::env::vars_os(), &layer).map_err(|error| {
        let why = chain(&error);
        tell_failure(&Config::default(), &paths, system.clone(), &why);
        Failure::new(ExitCode::Configuration, why)
    })?;
    for warning in &loaded.warnings {
        say(4, &format!("warning: {warning}"));
    }
    let config = loaded.config;
    // before the programs are loaded, which takes longer
    if let Err(error) = Site::read(&paths) {
        let why = chain(&error);
        tell_failure(&config, &paths, system, &why);
        return Err(Failure::new(ExitCode::Configuration, why));
    }
    let audit = node::open_audit(&config, &paths).map_err(state)?;
    let (mut node, start) = start(config, &paths, system, audit, at_boot == AtBoot::Audit)?;
    let canary = node.send_canary();
    node.reconcile(None);
    node.close_strangers();
    if let Some(run) = canary {
        node.canary_returned(run);
    }
    if start == Start::Enforce && !node.canary_passed() {
        node.refuse("The canary was not refused: nothing is enforced on this node");
        return Err(Failure::new(
            ExitCode::CanaryFailed,
            "The canary was not refused what it may not do: nothing is enforced on this node",
        ));
    }
    node.publish();
    bpf::release_memory();
    let signal = serve(&mut node, &paths, &layer)
        .map_err(|error| Failure::new(ExitCode::Failure, error.to_string()))?;
    node.stop(signal);
    Ok(ExitCode::Success)
}

/// Nothing is loaded, and nothing stays: the kernel's command line says so.
fn stay_off(paths: &Paths) -> Result<ExitCode, Failure> {
    let way = "cartouche=off on the kernel command line";
    let untold = way_out::take_off(paths, "boot-off", way)
        .map_err(|error| Failure::new(ExitCode::State, chain(&error)))?;
    for one in &untold {
        say(4, &format!("warning: {one}"));
    }
    say(4, &format!("{way}: nothing is enforced"));
    // not started by systemd: nobody to tell
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    Ok(ExitCode::Success)
}

/// Reads what a start reads before anything else, and changes nothing.
fn check(arguments: &Arguments, paths: &Paths) -> Result<ExitCode, Failure> {
    let invalid = |why: String| Failure::new(ExitCode::Configuration, why);
    let layer = Layer::of_command_line(arguments.gate, arguments.mode);
    let loaded =
        Config::load(paths, std::env::vars_os(), &layer).map_err(|error| invalid(chain(&error)))?;
    let site = Site::read(paths).map_err(|error| invalid(chain(&error)))?;
    for warning in loaded.warnings.iter().chain(&site.problems) {
        say(4, &format!("warning: {warning}"));
    }
    println!("The configuration, the scope and the profiles are valid.");
    Ok(ExitCode::Success)
}

/// One daemon at a time.
fn lock(paths: &Paths) -> Result<OwnedFd, Failure> {
    let path = paths.run.join("cartouched.lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(
        rustix::fs::CWD,
        &path,
        flags,
        FileMode::from_raw_mode(0o600),
    )
    .map_err(|error| Failure::new(ExitCode::State, format!("{path:?}: {error}")))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| Failure::new(ExitCode::AlreadyRunning, "Another cartouched is running"))?;
    Ok(file)
}

/// Loads, attaches and takes over, or says in the report why not.
fn start(
    config: Config,
    paths: &Paths,
    system: System,
    mut audit: Audit,
    audits_by_boot: bool,
) -> Result<(Node, Start), Failure> {
    bpf::quiet_libbpf();
    let kernel = match Kernel::load() {
        Ok(kernel) => kernel,
        Err(error) => {
            let why = chain(&error);
            let programs = Programs::Refused(why.clone());
            let refusal = Admission::Refused(why.clone());
            let observed = node::without_kernel(&config, paths, system, programs, refusal);
            let (code, blockers) = tell_refusal(&observed, paths, &mut audit);
            return Err(Failure::new(code, format!("{why}{}", cures(&blockers))));
        }
    };
    let gate = config.gate;
    let mode = match audits_by_boot {
        true => Mode::Audit,
        false => config.mode,
    };
    let opened = Node::open(
        config.clone(),
        paths.clone(),
        system.clone(),
        kernel,
        audit,
        mode == Mode::Enforce,
    );
    let mut node = match opened {
        Ok(node) => node,
        Err(error) => {
            let why = chain(&error);
            tell_failure(&config, paths, system, &why);
            let code = match error {
                node::Error::Site(_) => ExitCode::Configuration,
                _ => ExitCode::State,
            };
            return Err(Failure::new(code, why));
        }
    };
    if audits_by_boot {
        node.audits_by_boot();
    }
    let blockers = node.blockers();
    let start = posture::decide(gate, mode, &blockers);
    match start {
        Start::Enforce => {}
        Start::Audit => node.only_audit(),
        Start::Refuse(code) => {
            let words: Vec<_> = blockers.iter().map(ToString::to_string).collect();
            let why = format!("This node cannot enforce: {}", words.join(", "));
            node.refuse(&why);
            return Err(Failure::new(code, format!("{why}{}", cures(&blockers))));
        }
    }
    Ok((node, start))
}

/// What to do about blockers, a line each, for whoever starts the daemon by hand.
fn cures(blockers: &BTreeSet<Blocker>) -> String {
    blockers
        .iter()
        .map(|blocker| format!("\n{blocker}: {}", blocker.cure()))
        .collect()
}

/// Writes the report of a node that nobody takes over: what an earlier daemon said of itself holds no longer,
/// but what it put into the kernel does.
fn tell_failure(config: &Config, paths: &Paths, system: System, why: &str) {
    let Ok(mut audit) = node::open_audit(config, paths) else {
        return;
    };
    let pinned = paths.bpffs.join("links").exists();
    let last = std::fs::read(paths.report())
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Report>(&bytes).ok())
        .filter(|last| pinned && last.cartouche.boot_id == system.boot_id);
    if let Some(last) = last {
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        let (report, event) = posture::refused(last, why, now);
        put(report, Some(event), paths, &mut audit);
        return;
    }
    let refusal = Admission::Refused(why.to_owned());
    let observed = Observed {
        kernel_mode: pinned.then_some(Mode::Enforce),
        ..node::without_kernel(config, paths, system, Programs::Loaded, refusal)
    };
    tell_refusal(&observed, paths, &mut audit);
}

/// Writes the report of a node on which nothing could be loaded.
fn tell_refusal(
    observed: &Observed,
    paths: &Paths,
    audit: &mut Audit,
) -> (ExitCode, BTreeSet<Blocker>) {
    let (report, event) = Posture::default().update(observed);
    let blockers = report.enforce_blockers.clone();
    put(report, event, paths, audit);
    let code = ExitCode::of_blockers(&blockers).unwrap_or(ExitCode::Unattached);
    (code, blockers)
}

/// Puts a report where it is read, and its change into the audit.
fn put(report: Report, event: Option<Event>, paths: &Paths, audit: &mut Audit) {
    if let Some(event) = event {
        audit.record(event, Instant::now());
    }
    if let Err(error) = publish(&report.with_audit_head(audit.head()), paths) {
        audit.record(
            Event::new(Code::SinkChanged, Outcome::Noted)
                .detail("posture")
                .message(chain(&error)),
            Instant::now(),
        );
    }
    audit.flush();
}

fn serve(node: &mut Node, paths: &Paths, layer: &Layer) -> io::Result<&'static str> {
    let listener = control::bind(&paths.control())?;
    let (sender, calls) = bounded(64);
    let watch = Watch::new(paths)?;
    async_io::block_on(async {
        let served = async {
            control::serve(listener, sender).await?;
            Ok("socket")
        };
        future::or(served, attend(node, watch, calls, (paths, layer))).await
    })
}

/// What the daemon waits for.
enum Wake {
    Files,
    Records,
    Call(Call),
    Signal(Signal),
    Clock,
    CanaryBack,
    Mounts,
}

/// The canary's flights and the other things that the clock brings.
struct Clock {
    minute: Instant,
    hour: Instant,
    /// Whether the minute's reading back is under way.
    reading_back: bool,
    canary_due: Option<Instant>,
    report_due: Option<Instant>,
    canary: Option<(CanaryRun, Async<OwnedFd>)>,
}

async fn attend(
    node: &mut Node,
    mut watch: Watch,
    calls: Receiver<Call>,
    (paths, layer): (&Paths, &Layer),
) -> io::Result<&'static str> {
    let mut signals = Signals::new([Signal::Term, Signal::Int, Signal::Hup])?;
    let ring = Async::new_nonblocking(node.ring_fd().try_clone_to_owned()?)?;
    let mounts = Async::new_nonblocking(Mounts::watch()?)?;
    let mut clock = Clock {
        minute: Instant::now() + MINUTE,
        hour: Instant::now() + HOUR,
        reading_back: false,
        canary_due: Some(Instant::now() + SOON),
        report_due: None,
        canary: None,
    };
    watch.follow(node.executables());
    // what changed between the first reading and the first watch
    node.reconcile(None);
    node.publish();
    node.save();
    // not started by systemd: nobody to tell
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    loop {
        let wake = next(node, &watch, &calls, &mut signals, (&ring, &mounts), &clock).await?;
        match wake {
            Wake::Files => watch.collect()?,
            Wake::Records => node.drain(),
            Wake::Call(call) => {
                if node.answer(call) {
                    settle(node, &mut watch, &mut clock);
                }
                if node.is_detached() {
                    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
                    // who asked for it gets the answer meanwhile
                    Timer::after(SOON).await;
                    return Ok("detach");
                }
            }
            Wake::Signal(Signal::Hup) => {
                watch.renew();
                let now = Config::load(paths, std::env::vars_os(), layer);
                node.compare_config(now.map(|loaded| loaded.config));
                node.reread_site();
                settle(node, &mut watch, &mut clock);
                // what the kernel holds is read back now, too
                clock.minute = Instant::now();
            }
            Wake::Signal(signal) => {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
                return Ok(if signal == Signal::Int {
                    "SIGINT"
                } else {
                    "SIGTERM"
                });
            }
            Wake::CanaryBack => {
                if let Some((run, _)) = clock.canary.take() {
                    node.canary_returned(run);
                    node.publish();
                }
            }
            Wake::Mounts => {
                mounts.get_ref().collect()?;
                watch.renew();
                if node.follow_mounts() {
                    settle(node, &mut watch, &mut clock);
                }
            }
            Wake::Clock => {}
        }
        let now = Instant::now();
        if let Some(changes) = watch.changes(now) {
            if changes.site {
                node.reread_site();
            } else if changes.everything {
                node.reconcile(None);
            } else {
                node.reconcile(Some(&changes.touched));
            }
            settle(node, &mut watch, &mut clock);
        }
        tick(node, &mut clock, now);
    }
}

/// After a change: new watches, a new report at once, and soon a canary.
fn settle(node: &mut Node, watch: &mut Watch, clock: &mut Clock) {
    watch.follow(node.executables());
    clock.report_due.get_or_insert(Instant::now() + AT_ONCE);
    clock.canary_due.get_or_insert(Instant::now() + SOON);
}

fn tick(node: &mut Node, clock: &mut Clock, now: Instant) {
    if node.flush_due() {
        clock.report_due = Some(now);
    }
    if node.sinks_changed() {
        clock.report_due = Some(now);
    }
    if clock.report_due.is_some_and(|due| due <= now) {
        clock.report_due = None;
        node.publish();
        node.save();
        bpf::release_memory();
    }
    if now >= clock.minute {
        clock.minute = now + MINUTE;
        node.begin_read_back();
        clock.reading_back = true;
    }
    if node.is_retiring() {
        node.retire_one();
    }
    if clock.reading_back {
        node.read_some_back();
        if !node.is_reading_back() {
            clock.reading_back = false;
            node.publish();
            clock.canary_due = Some(now);
        }
    }
    if now >= clock.hour {
        clock.hour = now + HOUR;
        node.hourly();
    }
    if clock.canary.is_none() && clock.canary_due.is_some_and(|due| due <= now) {
        clock.canary_due = None;
        clock.canary = node.send_canary().and_then(|run| {
            let pid = rustix::process::Pid::from_child(&run.child);
            let ended = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            Some((run, Async::new(ended).ok()?))
        });
        if clock.canary.is_none() {
            node.publish();
        }
    }
}

async fn next(
    node: &Node,
    watch: &Watch,
    calls: &Receiver<Call>,
    signals: &mut Signals,
    (ring, mounts): (&Async<OwnedFd>, &Async<Mounts>),
    clock: &Clock,
) -> io::Result<Wake> {
    let files = async {
        watch.readable().await?;
        Ok(Wake::Files)
    };
    let records = async {
        ring.readable().await?;
        Ok(Wake::Records)
    };
    let mounted = async {
        mounts.readable().await?;
        Ok(Wake::Mounts)
    };
    let call = async {
        match calls.recv().await {
            Ok(call) => Ok(Wake::Call(call)),
            Err(_) => Err(io::Error::other("The control socket is gone")),
        }
    };
    let signal = async {
        match signals.next().await {
            Some(signal) => signal.map(Wake::Signal),
            None => Err(io::Error::other("Signals cannot be received any more")),
        }
    };
    let canary = async {
        match &clock.canary {
            Some((_, ended)) => {
                ended.readable().await?;
                Ok(Wake::CanaryBack)
            }
            None => future::pending().await,
        }
    };
    let alarm = async {
        Timer::at(next_alarm(node, watch, clock)).await;
        Ok(Wake::Clock)
    };
    let outside = future::or(signal, future::or(future::or(files, mounted), call));
    let inside = future::or(records, future::or(canary, alarm));
    future::or(outside, inside).await
}

fn next_alarm(node: &Node, watch: &Watch, clock: &Clock) -> Instant {
    let mode_end = node
        .next_mode_end()
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let canary_due = clock.canary_due.filter(|_| clock.canary.is_none());
    [
        (clock.reading_back || node.is_retiring()).then(|| Instant::now() + PAUSE),
        watch.due(),
        node.next_due(),
        canary_due,
        clock.report_due,
        mode_end,
    ]
    .into_iter()
    .flatten()
    .fold(clock.minute.min(clock.hour), Instant::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_that_the_variable_names_is_the_journal() {
        let (own, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let stat = fstat(&own).unwrap();
        let named = format!("{}:{}", stat.st_dev, stat.st_ino);

        assert!(is_stream(&named, &own));
        assert!(!is_stream(&named, &other));
        assert!(!is_stream("", &own));
    }
}
