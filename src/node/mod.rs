//! The node: what is admitted, what the kernel holds of it, and every change between the two. All
//! synchronous; `daemon` brings the files, the clock and the sockets.

mod admit;
mod adopt;
mod answer;
mod canary;
mod claim;
mod cut;
mod examine;
mod guard;
mod managed;
mod mode;
mod observe;
mod reconcile;
mod release;
mod retire;
mod revoke;
mod runtime;
mod unit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Instant;

use crate::audit::{self, Audit, Limits, Settings, Uses};
use crate::bpf::sys;
use crate::config::{self, Config, Mode, Paths};
use crate::control::{Call, Standing, Verdict};
use crate::enforcer::{self, Identity, Kernel, OUTSIDE, PlanNumber, SlotState};
use crate::error::chain;
use crate::event::{Code, Event, Outcome};
use crate::plan;
use crate::posture::{Adoption, Posture, Report, System};
use crate::registry::{self, Inputs, Registry};
use crate::site::{self, Site};

use retire::Retired;

pub use canary::{ANSWERED, CONNECT_REFUSED, CanaryRun, EXEC_REFUSED, OPEN_REFUSED};
pub use observe::without_kernel;
pub use runtime::{OPERATIONS, REASONS};

/// Everything that the daemon knows.
pub struct Node {
    config: Config,
    paths: Paths,
    system: System,
    kernel: Kernel,
    audit: Audit,
    uses: Uses,
    posture: Posture,
    report: Option<Report>,
    registry: Registry,
    inputs: Inputs,
    /// The last valid one; `site_problem` says if a newer one is not.
    site: Site,
    site_problem: Option<String>,
    /// Why the configuration as it is now would not be taken at a start.
    config_problem: Option<String>,
    /// Whether refusals are carried out: false after an audit fallback or by configuration.
    enforcing: bool,
    /// By file name: the verdict on every artifact file that is there now.
    files: BTreeMap<String, FileVerdict>,
    managed: Option<managed::Managed>,
    /// By id: what the kernel holds for admitted artifacts.
    live: BTreeMap<String, Live>,
    /// Who has a slot: an id, or `file:NAME` for what was never admitted.
    holders: BTreeMap<u32, String>,
    /// The same the other way round.
    slots: BTreeMap<String, u32>,
    /// By slot: of the kernel's count of lost decisions, what the audit has been told.
    lost_told: BTreeMap<u32, u64>,
    canary: canary::State,
    cut: cut::State,
    /// By id: what adoptions found since the daemon started.
    adopted: BTreeMap<String, Adoption>,
    /// A way out for the whole node that was taken, as a sentence.
    way_out: Option<String>,
    /// Whether nothing is attached any more, because that was asked for.
    detached: bool,
    next_plan: PlanNumber,
    /// Plans in the kernel, in force or about to be.
    plans: BTreeSet<PlanNumber>,
    /// What is admitted changed and is not written down yet.
    unsaved: bool,
    /// Every file has been decided about since the start: what the kernel holds beyond is nobody's.
    reconciled: bool,
    /// Plans that are in force no more.
    retired: VecDeque<Retired>,
    /// Why it could not be written down.
    save_problem: Option<String>,
    /// Policies directories that are not read, as sentences.
    unread_directories: Vec<String>,
    /// Which sinks took records when the last report was made.
    reported_sinks: Vec<bool>,
    /// Artifacts that are still to be read back in the round under way.
    unread: Vec<String>,
    ignored: BTreeSet<String>,
    waiting_calls: Vec<Call>,
    started_at: String,
    lost: Vec<(Instant, u64)>,
    /// Executables whose running tasks adoption cannot recognise: scripts.
    unrecognised: BTreeSet<String>,
}

/// What became of one artifact file.
#[derive(Debug, Clone)]
struct FileVerdict {
    /// SHA-256 of its content, empty if it could not be read.
    document: String,
    verdict: Verdict,
    /// SHA-256 of the hashes of all inputs of the decision.
    inputs: String,
    /// Executables that it names.
    executables: BTreeSet<String>,
    /// Files that it pins.
    code: BTreeSet<String>,
    /// Executables that do not run for its sake, while it is not admitted.
    claimable: BTreeSet<String>,
    /// The claims that it holds of these; another may have been first.
    claims: BTreeSet<(u32, String)>,
    /// The unit whose processes do not run for its sake, while it is not admitted.
    unit: Option<String>,
    /// Whether it is TOML at all.
    parsable: bool,
}

/// What the kernel holds for an admitted artifact.
struct Live {
    slot: u32,
    number: PlanNumber,
    /// PLAN_* of c-bpf/cartouche.h.
    flags: u16,
    path_rules: u64,
    /// Endpoints of one address and one port.
    single_endpoints: u64,
    /// Rules in tables that plans share.
    shared_rules: u64,
    endpoint_ranges: u64,
    identities: BTreeMap<String, Identity>,
    /// Pinned files by path.
    code: BTreeMap<String, Identity>,
    /// Whether the last read-back equalled the plan.
    verified: bool,
}

/// Why the node cannot be run.
#[derive(Debug)]
pub enum Error {
    Audit(audit::Error),
    Registry(registry::Error),
    Site(site::Error),
    Enforcer(enforcer::Error),
    Plan(plan::Error),
    /// The canary's program cannot be bound.
    Canary(String),
    Directory {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Audit(_) => f.write_str("The audit log cannot be kept"),
            Self::Registry(_) => f.write_str("What was admitted before is not known"),
            Self::Site(_) => f.write_str("The site's own limits are not known"),
            Self::Enforcer(_) => f.write_str("The kernel side cannot be used"),
            Self::Plan(_) => f.write_str("The envelope does not fit into the kernel's tables"),
            Self::Canary(why) => write!(f, "The canary cannot be bound: {why}"),
            Self::Directory { path, .. } => write!(f, "The directory {path:?} cannot be used"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Audit(source) => Some(source),
            Self::Registry(source) => Some(source),
            Self::Site(source) => Some(source),
            Self::Enforcer(source) => Some(source),
            Self::Plan(source) => Some(source),
            Self::Directory { source, .. } => Some(source),
            Self::Canary(_) => None,
        }
    }
}

impl From<enforcer::Error> for Error {
    fn from(source: enforcer::Error) -> Self {
        Self::Enforcer(source)
    }
}

/// Makes the directories of what is kept, where they are missing.
pub fn make_directories(paths: &Paths) -> Result<(), Error> {
    for path in [&paths.state, &paths.run] {
        std::fs::create_dir_all(path).map_err(|source| Error::Directory {
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}

/// Opens the audit, which comes before everything else: a refused start is recorded too.
pub fn open_audit(config: &Config, paths: &Paths) -> Result<Audit, Error> {
    Audit::open(&Settings {
        dir: paths.state.clone(),
        limits: Limits {
            max_size: config.audit.max_size.0,
            keep: config.audit.keep,
        },
        syslog: config.audit.syslog.then(|| paths.syslog.clone()),
    })
    .map_err(Error::Audit)
}

impl Node {
    /// Takes over what the kernel and the state directory hold. The programs are loaded; they are
    /// attached here, before anything is admitted.
    pub fn open(
        config: Config,
        paths: Paths,
        system: System,
        kernel: Kernel,
        audit: Audit,
        enforcing: bool,
    ) -> Result<Self, Error> {
        let registry = Registry::open(&paths.admitted()).map_err(Error::Registry)?;
        let site = Site::read(&paths).map_err(Error::Site)?;
        kernel.attach()?;
        kernel.remove_unused()?;
        let used = kernel.slots_in_use()?;
        let mut node = Self {
            inputs: Inputs::new(&paths.state),
            uses: Uses::default(),
            posture: Posture::default(),
            report: None,
            site_problem: None,
            config_problem: None,
            enforcing,
            files: BTreeMap::new(),
            managed: None,
            live: BTreeMap::new(),
            holders: BTreeMap::new(),
            slots: BTreeMap::new(),
            lost_told: BTreeMap::new(),
            canary: canary::State::default(),
            cut: cut::State::default(),
            adopted: BTreeMap::new(),
            way_out: None,
            detached: false,
            next_plan: 1,
            plans: used.values().copied().collect(),
            unsaved: false,
            reconciled: false,
            retired: VecDeque::new(),
            save_problem: None,
            unread_directories: Vec::new(),
            reported_sinks: Vec::new(),
            unread: Vec::new(),
            ignored: BTreeSet::new(),
            waiting_calls: Vec::new(),
            started_at: jiff::Timestamp::now().to_string(),
            lost: Vec::new(),
            unrecognised: BTreeSet::new(),
            config,
            paths,
            system,
            kernel,
            audit,
            registry,
            site,
        };
        node.compare_log();
        node.record(
            Event::new(Code::Started, Outcome::Noted)
                .fact("version", env!("CARGO_PKG_VERSION"))
                .fact("mode", if enforcing { "enforce" } else { "audit" }),
        );
        for (slot, (name, lost_told)) in node.kernel.holders()? {
            node.lost_told.insert(slot, lost_told);
            if slot == OUTSIDE {
                continue;
            }
            node.slots.insert(name.clone(), slot);
            node.holders.insert(slot, name);
            // a daemon that was killed had only given it out
            if node.kernel.state(slot)?.0 == SlotState::Unknown {
                node.kernel.close(slot, SlotState::Refused)?;
            }
        }
        node.resume();
        node.settle_cut();
        node.manage()?;
        node.bind_canary()?;
        node.guard()?;
        Ok(node)
    }

    /// Tells if the audit log ends before what was in it when this node last wrote down what is admitted.
    fn compare_log(&mut self) {
        let last = self.registry.audit_head.seq;
        let missing = last.saturating_sub(self.audit.head().seq);
        if missing == 0 {
            return;
        }
        let mut event = Event::new(Code::EventsLost, Outcome::Noted)
            .detail("log-cut")
            .fact("head", self.registry.audit_head.hash.clone())
            .fact("head_seq", last.to_string())
            .message(
                "The audit log ended with this record once and does not reach it any more: its end was cut \
                 off, or lost in a crash of the machine",
            );
        event.count = missing;
        self.lost.push((Instant::now(), missing));
        self.record(event);
    }

    /// Puts the last admitted set in force again, and keeps what was revoked revoked.
    fn resume(&mut self) {
        let entries: Vec<(String, registry::Entry)> = self
            .registry
            .artifacts
            .iter()
            .map(|(id, entry)| (id.clone(), entry.clone()))
            .collect();
        for (id, entry) in entries {
            let resumed = if entry.revoked {
                self.keep_revoked(&id, &entry)
            } else if entry.released {
                self.keep_released(&id).map(drop).map_err(Error::from)
            } else {
                self.resume_admitted(&id, &entry)
            };
            if let Err(error) = resumed {
                self.record(
                    Event::new(Code::Rejected, Outcome::Rejected)
                        .artifact(&id)
                        .detail("resume")
                        .message(chain(&error)),
                );
            }
        }
        self.settle_units();
        self.adopt();
    }

    /// Compares the configuration as it is now with the one that this daemon was started with. What changed
    /// needs a restart, and what is wrong would keep the next one from starting: both are told.
    pub fn compare_config(&mut self, now: Result<Config, config::Error>) {
        let told = match &now {
            Ok(now) if *now == self.config => None,
            Ok(_) => Some(
                "The configuration changed; it takes effect when cartouched is restarted"
                    .to_owned(),
            ),
            Err(error) => Some(format!(
                "The configuration is not valid: {}; the one read before stays in force, and cartouched \
                 cannot be started again with this one. Reload when it is mended",
                chain(error)
            )),
        };
        if let Some(message) = &told {
            self.record(
                Event::new(Code::FileIgnored, Outcome::Noted)
                    .detail("configuration")
                    .message(message.clone()),
            );
        }
        self.config_problem = told.filter(|_| now.is_err());
    }

    fn record(&mut self, event: Event) {
        self.audit.record(event, Instant::now());
    }

    /// Writes down what is admitted, if it changed. A failure is told and retried with the next change.
    /// Killed before it, the daemon finds the rest again in the policies directories.
    pub fn save(&mut self) {
        if !std::mem::take(&mut self.unsaved) {
            return;
        }
        self.registry.listed = self.listed();
        self.registry.audit_head = self.audit.head().clone();
        let saved = self.registry.save(&self.paths.admitted());
        self.registry.listed = Vec::new();
        let Err(error) = saved else {
            self.save_problem = None;
            return;
        };
        self.unsaved = true;
        let problem = chain(&error);
        if self.save_problem.as_ref() != Some(&problem) {
            self.record(
                Event::new(Code::SinkChanged, Outcome::Noted)
                    .detail("registry")
                    .message(problem.clone()),
            );
        }
        self.save_problem = Some(problem);
    }

    /// Tries again what could not be written.
    fn retry_writing(&mut self) {
        if self.save_problem.is_some() {
            self.save();
        }
        if self.audit.sinks().iter().any(|sink| !sink.working) {
            self.audit.record_head();
        }
    }

    /// Whether a sink began to fail, or works again, since the last report.
    pub fn sinks_changed(&self) -> bool {
        self.working_sinks() != self.reported_sinks
    }

    fn working_sinks(&self) -> Vec<bool> {
        let sinks = self.audit.sinks();
        sinks
            .iter()
            .map(|sink| sink.working)
            .chain([self.save_problem.is_none()])
            .collect()
    }

    /// The slot of a name: its own since boot, or a new one. Never one that somebody else had.
    fn slot(&mut self, name: &str) -> Result<u32, enforcer::Error> {
        if let Some(slot) = self.slot_of(name) {
            return Ok(slot);
        }
        let slot = self.holders.keys().next_back().map_or(1, |last| last + 1);
        if slot >= sys::SLOTS_MAX {
            return Err(enforcer::Error::Full {
                what: "artifacts",
                limit: sys::SLOTS_MAX - 1,
            });
        }
        self.kernel.note_holder(slot, name, 0)?;
        self.kernel.close(slot, SlotState::Refused)?;
        self.holders.insert(slot, name.to_owned());
        self.slots.insert(name.to_owned(), slot);
        Ok(slot)
    }

    fn slot_of(&self, name: &str) -> Option<u32> {
        self.slots.get(name).copied()
    }

    /// A plan number that nothing uses.
    fn plan_number(&mut self) -> Result<PlanNumber, enforcer::Error> {
        for _ in 0..sys::PLANS_MAX {
            let number = self.next_plan;
            self.next_plan = number % (sys::PLANS_MAX - 1) + 1;
            if self.plans.insert(number) {
                return Ok(number);
            }
        }
        Err(enforcer::Error::Full {
            what: "plans",
            limit: sys::PLANS_MAX - 1,
        })
    }

    /// What an artifact's mode comes to on this node, which may only audit.
    fn effective_mode(&self, mode: Mode) -> Mode {
        if self.enforcing { mode } else { Mode::Audit }
    }

    /// The mode in which a plan is put in force.
    fn kernel_mode(&self, mode: Mode) -> enforcer::Mode {
        if self.effective_mode(mode) == Mode::Enforce {
            enforcer::Mode::Enforce
        } else {
            enforcer::Mode::Audit
        }
    }

    /// When the audit wants to be called, or tasks of revoked artifacts are to be looked for.
    pub fn next_due(&self) -> Option<Instant> {
        [self.audit.next_due(), self.cut.due]
            .into_iter()
            .flatten()
            .min()
    }

    /// Seconds until the next mode that was set for a time ends.
    pub fn next_mode_end(&self) -> Option<u64> {
        let now = now_unix();
        self.registry
            .artifacts
            .values()
            .filter_map(|entry| entry.mode_until)
            .map(|until| until.saturating_sub(now))
            .min()
    }

    /// Writes folded repeats whose time has come, ends modes whose time is over, and looks for tasks of revoked
    /// artifacts. Whether the posture changed.
    pub fn flush_due(&mut self) -> bool {
        self.audit.flush_due(Instant::now());
        let cut = self.cut_due();
        self.end_modes() || cut
    }

    /// Once an hour: the head of the audit chain.
    pub fn hourly(&mut self) {
        self.audit.record_head();
    }

    /// Readable while kernel records wait.
    pub fn ring_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.kernel.ring_fd()
    }

    /// Directories of executables and pinned files that the verdicts depend on, with the names in them.
    pub fn executables(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut directories: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let files = self.files.values();
        for path in files.flat_map(|file| file.executables.iter().chain(&file.code)) {
            if let Some((directory, name)) = path.rsplit_once('/') {
                let directory = if directory.is_empty() { "/" } else { directory };
                directories
                    .entry(directory.to_owned())
                    .or_default()
                    .insert(name.to_owned());
            }
        }
        directories
    }

    /// Ends the daemon: enforcement stays pinned, and the posture says that nobody admits.
    pub fn stop(&mut self, signal: &str) {
        self.drain();
        self.retire_all();
        self.read_back_all();
        self.unsaved = true;
        self.save();
        self.record(Event::new(Code::Stopped, Outcome::Noted).fact("signal", signal));
        self.publish_stopped();
        self.audit.flush();
    }

    fn standing_of(&self, id: &str) -> Option<Standing> {
        let entry = self.registry.artifacts.get(id)?;
        Some(standing(entry))
    }

    /// Ends the rights of a slot's tasks: a node that only audits refuses them nothing.
    fn end_rights(&self, slot: u32) -> Result<(), enforcer::Error> {
        self.kernel
            .revoke(slot, self.kernel_mode(Mode::Enforce), self.kills())
    }
}

/// How what is written down stands.
fn standing(entry: &registry::Entry) -> Standing {
    match (entry.revoked, entry.released) {
        (true, _) => Standing::Revoked,
        (false, true) => Standing::Released,
        (false, false) => Standing::Admitted,
    }
}

/// A time for people: RFC 3339, UTC; None for one beyond all calendars.
fn rfc3339(unix: u64) -> Option<String> {
    let time = jiff::Timestamp::from_second(i64::try_from(unix).ok()?).ok()?;
    Some(time.to_string())
}

/// Seconds since 1970.
fn now_unix() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}
