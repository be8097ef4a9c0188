//! The facts of the posture, read back from the kernel, and the report that is made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::artifact::capability::CapabilityName;
use crate::bpf::sys;
use crate::config::{Config, Mode, Paths};
use crate::control::Standing;
use crate::enforcer::{self, CUT_PROGRAMS, DATAGRAM_PROGRAMS, MEASURE_PROGRAM, SlotState, Uses};
use crate::error::chain;
use crate::event::{Code, Detail, Event, Outcome};
use crate::plan::Plan;
use crate::posture::{
    self, Admission, ArtifactFacts, Canary, Hook, Observed, Programs, Report, System, publish,
};

use super::admit::counters;
use super::{Error, Live, Node, now_unix};

/// How long reading back may keep everything else waiting.
const STEP: Duration = Duration::from_millis(2);

/// Programs that hang at the cgroup root, by the names that the report uses.
const CGROUP_PROGRAMS: [&str; 4] = ["connect4", "connect6", "sendmsg4", "sendmsg6"];

/// What no hook of this build sees, or what is refused flatly because its domain is missing; see
/// docs/threat-model.md.
const UNMEDIATED: [&str; 10] = [
    "access",
    "after-revocation",
    "executable-stack",
    "guard",
    "inherited-descriptors",
    "page-zero",
    "posix-mq-unlink",
    "securebits",
    "stat",
    "xattr-read",
];

/// What is true of a node on which no programs are loaded.
pub fn without_kernel(
    config: &Config,
    paths: &Paths,
    system: System,
    programs: Programs,
    admission: Admission,
) -> Observed {
    Observed {
        now_unix: now_unix(),
        pid: std::process::id(),
        core_supported: system.btf && programs == Programs::Loaded,
        system,
        programs,
        hooks: BTreeMap::new(),
        kernel_mode: None,
        gate: config.gate,
        mode: config.mode,
        require: config.require,
        admission,
        canary: Canary::default(),
        artifacts: Vec::new(),
        rejected: BTreeMap::new(),
        failed_updates: BTreeSet::new(),
        replaced: BTreeSet::new(),
        not_taken: Vec::new(),
        unparsable: BTreeSet::new(),
        managed_match: true,
        parse_ok: true,
        path_rules: 0,
        network_rules: 0,
        subjects: 0,
        claims: 0,
        snapshot: paths.admitted(),
        snapshot_present: paths.admitted().exists(),
        lost_events: 0,
        lost_lately: 0,
        sinks: Vec::new(),
        save_problem: None,
        audit_head: crate::audit::Head::genesis(),
        break_glass: None,
        unmediated: UNMEDIATED.iter().map(|word| (*word).to_owned()).collect(),
        unrecognised: BTreeSet::new(),
    }
}

impl Node {
    /// Begins to read every plan, binding and claim back from the kernel; [`Node::read_some_back`] does it.
    pub fn begin_read_back(&mut self) {
        self.drain();
        self.account_all();
        self.retry_writing();
        self.unread = self.live.keys().cloned().collect();
    }

    /// Whether a round of reading back is under way.
    pub fn is_reading_back(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Reads a few artifacts back, and only a few, so that what happens meanwhile does not wait. After the
    /// last, mends what can be mended.
    pub fn read_some_back(&mut self) {
        let begun = Instant::now();
        while let Some(id) = self.unread.pop() {
            self.read_back(&id);
            if begun.elapsed() >= STEP {
                break;
            }
        }
        if self.unread.is_empty() {
            self.read_managed_back();
            self.count_shared_rules();
            self.settle_on_demand();
            self.keep_guard();
            self.adopt();
            self.settle_cut();
        }
    }

    /// Some tables are shared by all plans: whether any has more rules there than its own shows by their
    /// number.
    fn count_shared_rules(&mut self) {
        let held = self.kernel.shared_rules().ok();
        for live in self.live.values_mut() {
            let equal = held.as_ref().is_some_and(|held| {
                held.get(&live.number).copied().unwrap_or(0) == live.shared_rules
            });
            live.verified &= equal;
        }
    }

    /// A round of reading back in one go.
    pub(super) fn read_back_all(&mut self) {
        for id in self.live.keys().cloned().collect::<Vec<_>>() {
            self.read_back(&id);
        }
    }

    /// Compares what the kernel holds for an artifact with what was put there, and takes the counters of its
    /// rules: CART-006.
    pub(super) fn read_back(&mut self, id: &str) {
        // what cannot be read back is not known to be in force
        let held = self.held(id).unwrap_or_else(|error| {
            let event = Event::new(Code::EventsLost, Outcome::Noted)
                .artifact(id)
                .detail("uses")
                .message(chain(&error));
            self.record(event);
            None
        });
        if let Some(live) = self.live.get_mut(id) {
            live.verified = held.is_some();
        }
        if let Some((plan, uses)) = held {
            let counters = counters(&plan, &uses);
            for event in self.uses.feed(id, &counters, Instant::now()) {
                self.record(event);
            }
        }
    }

    /// The plan of an artifact and its counters; None if the kernel holds anything else.
    fn held(&self, id: &str) -> Result<Option<(Plan, Uses)>, Error> {
        let (Some(live), Some(entry)) = (self.live.get(id), self.registry.artifacts.get(id)) else {
            return Ok(None);
        };
        let everywhere = entry.effective.unit.is_none();
        for identity in live.identities.values().filter(|_| everywhere) {
            if !self.kernel.is_bound(identity, live.slot)? {
                return Ok(None);
            }
        }
        if !self.holds_unit(id)? {
            return Ok(None);
        }
        for executable in &entry.effective.executables {
            if let Some(identity) = live.identities.get(&executable.path)
                && !self.kernel.is_measured(identity, &executable.measured)?
            {
                return Ok(None);
            }
        }
        for (path, _) in entry.effective.code() {
            match live.code.get(path) {
                Some(identity) if self.kernel.is_pinned(identity)? => {}
                _ => return Ok(None),
            }
        }
        for (dev, path) in &entry.claims {
            if !self.kernel.is_claimed(*dev, path, live.slot)? {
                return Ok(None);
            }
        }
        let plan = entry.plan().map_err(Error::Plan)?;
        let held = self.kernel.read_back(live.slot, live.number, &plan)?;
        Ok(held.equal.then_some((plan, held.uses)))
    }

    /// Whether the kernel holds an artifact to its plan, in its mode, at this moment.
    fn is_in_force(&self, live: &Live, mode: Mode) -> bool {
        let held = self.kernel.state(live.slot).ok();
        held == Some((SlotState::Admitted, self.kernel_mode(mode), live.number))
    }

    /// Writes the report if it is due to change, or anyway to renew its time.
    pub fn publish(&mut self) {
        self.publish_as(Admission::Running);
    }

    pub(super) fn publish_stopped(&mut self) {
        self.publish_as(Admission::Stopped);
    }

    fn publish_as(&mut self, admission: Admission) {
        let mut observed = self.observe(admission.clone());
        let (mut report, event) = self.posture.update(&observed);
        if let Some(event) = event {
            self.record(event);
            // the change itself moved the head of the chain
            observed = self.observe(admission);
            report = self.posture.update(&observed).0;
        }
        if let Err(error) = publish(&report, &self.paths) {
            self.record(
                Event::new(Code::SinkChanged, Outcome::Noted)
                    .detail("posture")
                    .message(chain(&error)),
            );
        }
        self.report = Some(report);
        self.reported_sinks = self.working_sinks();
    }

    /// The last report.
    pub(super) fn report(&mut self) -> Report {
        if let Some(report) = &self.report {
            return report.clone();
        }
        let observed = self.observe(Admission::Running);
        self.posture.update(&observed).0
    }

    /// Why this node cannot enforce, as the report would say it now.
    pub fn blockers(&self) -> BTreeSet<posture::Blocker> {
        let observed = self.observe(Admission::Running);
        let report = posture::evaluate(&observed, &posture::History::default());
        report.enforce_blockers.iter().copied().collect()
    }

    /// Whether the canary was refused all that it tried, and each refusal was seen.
    pub fn canary_passed(&self) -> bool {
        self.canary.last.passed()
    }

    /// From now on nothing is refused, and the report says so.
    pub fn only_audit(&mut self) {
        self.enforcing = false;
        let revoked = self
            .registry
            .artifacts
            .iter()
            .filter(|(_, entry)| entry.revoked);
        let slots: Vec<_> = revoked.filter_map(|(id, _)| self.slot_of(id)).collect();
        for slot in slots {
            // a store into mapped memory, which fails for slots beyond the last only
            let _ = self.end_rights(slot);
        }
        if let Err(error) = self.only_audit_managed() {
            self.record(
                Event::new(Code::ModeChanged, Outcome::Noted)
                    .detail("failed")
                    .message(chain(&error)),
            );
        }
        let ids: Vec<_> = self.live.keys().cloned().collect();
        for id in ids {
            if let Some(live) = self.live.get(&id)
                && let Err(error) =
                    self.kernel
                        .commit(live.slot, live.number, live.flags, enforcer::Mode::Audit)
            {
                self.record(
                    Event::new(Code::ModeChanged, Outcome::Noted)
                        .artifact(&id)
                        .detail("failed")
                        .message(chain(&error)),
                );
            }
        }
        self.keep_guard();
    }

    /// The daemon does not start: the report says why, and so does the audit.
    pub fn refuse(&mut self, why: &str) {
        self.publish_as(Admission::Refused(why.to_owned()));
        self.audit.flush();
    }

    fn observe(&self, admission: Admission) -> Observed {
        let (lost_events, lost_lately) = self.losses();
        let claims: usize = self
            .registry
            .artifacts
            .values()
            .map(|entry| entry.claims.len())
            .chain(self.files.values().map(|file| file.claims.len()))
            .sum();
        Observed {
            hooks: self.hooks(),
            kernel_mode: (!self.detached).then_some(match self.enforcing {
                true => Mode::Enforce,
                false => Mode::Audit,
            }),
            break_glass: self.ways_out(),
            canary: self.canary.last,
            artifacts: self.artifact_facts(),
            rejected: self.rejected(),
            failed_updates: self.failed_updates(false),
            replaced: self.failed_updates(true),
            not_taken: self
                .site_problem
                .iter()
                .chain(&self.config_problem)
                .chain(&self.site.problems)
                .chain(&self.unread_directories)
                .cloned()
                .collect(),
            unparsable: self.unparsable(),
            managed_match: self.managed_match(),
            parse_ok: self.files.values().all(|file| file.parsable),
            path_rules: self.live.values().map(|live| live.path_rules).sum(),
            network_rules: self
                .live
                .values()
                .map(|live| live.single_endpoints + live.endpoint_ranges)
                .sum(),
            subjects: self
                .live
                .values()
                .map(|live| live.identities.len() as u64)
                .sum(),
            claims: claims as u64,
            lost_events: lost_events + self.audit.records_lost(),
            lost_lately,
            sinks: self.audit.sinks(),
            save_problem: self.save_problem.clone(),
            audit_head: self.audit.head().clone(),
            unrecognised: self.unrecognised.clone(),
            unmediated: UNMEDIATED
                .iter()
                .filter(|word| **word != "guard" || !self.is_guarded())
                .map(|word| (*word).to_owned())
                .collect(),
            ..without_kernel(
                &self.config,
                &self.paths,
                self.system.clone(),
                Programs::Loaded,
                admission,
            )
        }
    }

    fn hooks(&self) -> BTreeMap<String, Hook> {
        let absent = self.kernel.absent_hooks();
        let udp = self
            .live
            .values()
            .any(|live| u32::from(live.flags) & sys::PLAN_UDP != 0);
        let measured = self.measured_ids().next().is_some();
        self.kernel
            .attached()
            .into_iter()
            .map(|(name, attached)| {
                let needed = match name.as_str() {
                    name if DATAGRAM_PROGRAMS.contains(&name) => udp,
                    name if CUT_PROGRAMS.contains(&name) => self.cut.tasks > 0,
                    MEASURE_PROGRAM => measured,
                    _ => true,
                };
                let expected = needed && !absent.contains(&name);
                let name = if CGROUP_PROGRAMS.contains(&name.as_str()) {
                    format!("cgroup/{name}")
                } else {
                    name
                };
                (name, Hook { attached, expected })
            })
            .collect()
    }

    /// The artifacts in force of which the kernel compares an executable at each exec.
    fn measured_ids(&self) -> impl Iterator<Item = &String> {
        let entries = self.registry.artifacts.iter();
        entries
            .filter(|(_, entry)| !entry.revoked)
            .filter(|(_, entry)| {
                let mut executables = entry.effective.executables.iter();
                executables.any(|one| !one.measured.is_empty())
            })
            .map(|(id, _)| id)
    }

    fn artifact_facts(&self) -> Vec<ArtifactFacts> {
        let admitted = self
            .registry
            .artifacts
            .iter()
            .filter(|(_, entry)| super::standing(entry) == Standing::Admitted);
        let mut facts: Vec<ArtifactFacts> = admitted
            .map(|(id, entry)| {
                let live = self.live.get(id);
                let flags = live.map_or(0, |live| u32::from(live.flags));
                ArtifactFacts {
                    id: id.clone(),
                    version: entry.effective.version.clone(),
                    publisher: entry.effective.publisher.clone(),
                    digest: entry.effective.digest.clone(),
                    standing: posture::Standing::Admitted,
                    mode: self.effective_mode(entry.mode),
                    envelope_match: live
                        .is_some_and(|live| live.verified && self.is_in_force(live, entry.mode)),
                    executables: live.map_or(0, |live| live.identities.len() as u64),
                    capabilities: entry
                        .effective
                        .capabilities
                        .iter()
                        .map(|capability| capability.capability.name)
                        .collect(),
                    udp: flags & sys::PLAN_UDP != 0,
                    measured: self.measured_ids().any(|own| own == id),
                    adopted: self.adopted.get(id).copied().unwrap_or_default(),
                }
            })
            .collect();
        for file in self.files.values() {
            if file.verdict.standing == Standing::Waiting
                && let Some(id) = &file.verdict.id
                && !facts.iter().any(|fact| fact.id == *id)
            {
                facts.push(ArtifactFacts {
                    id: id.clone(),
                    version: String::new(),
                    publisher: String::new(),
                    digest: String::new(),
                    standing: posture::Standing::Waiting,
                    mode: Mode::Enforce,
                    envelope_match: false,
                    executables: 0,
                    capabilities: BTreeSet::<CapabilityName>::new(),
                    udp: false,
                    measured: false,
                    adopted: posture::Adoption::default(),
                });
            }
        }
        facts
    }

    fn rejected(&self) -> BTreeMap<String, String> {
        self.files
            .iter()
            .filter(|(_, file)| file.verdict.standing == Standing::Rejected)
            .map(|(name, file)| {
                let why = [&file.verdict.error, &file.verdict.detail]
                    .into_iter()
                    .flatten()
                    .cloned()
                    .collect::<Vec<_>>();
                (name.clone(), why.join(" "))
            })
            .collect()
    }

    /// Artifacts in force whose file is not admitted as it is now: with another program at the path of
    /// one of theirs, if `replaced`, else for what the file itself says.
    pub(super) fn failed_updates(&self, replaced: bool) -> BTreeSet<String> {
        self.registry
            .artifacts
            .iter()
            .filter(|(_, entry)| super::standing(entry) == Standing::Admitted)
            .filter(|(_, entry)| {
                self.files.get(&entry.file).is_some_and(|file| {
                    let program = file.document == entry.document
                        && file.verdict.detail.as_deref().is_some_and(is_of_program);
                    file.verdict.standing != Standing::Admitted && program == replaced
                })
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn unparsable(&self) -> BTreeSet<String> {
        let in_force = self.registry.files_in_force();
        self.files
            .iter()
            .filter(|(name, file)| !file.parsable && !in_force.contains(name))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// Whether a detail word is about what lies at the path of a program or of a pinned file.
fn is_of_program(detail: &str) -> bool {
    detail == Detail::Waiting.as_str()
        || detail.starts_with("code-")
        || (detail.starts_with("executable-") && detail != Detail::ExecutableOutOfScope.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threat_model_explains_every_word_of_unmediated_and_no_other() {
        let text = include_str!("../../docs/threat-model.md");
        let (_, table) = text.split_once("### Words of the posture").unwrap();
        let (table, _) = table.split_once("\n## ").unwrap();

        let explained: Vec<_> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(word, _)| word)
            .collect();

        assert_eq!(explained, UNMEDIATED);
    }
}
