//! From a decision to a plan in force: stage, swap, bind, claim. Nothing is in force half.

use std::collections::{BTreeMap, BTreeSet};

use crate::admission::{self, AdmittedSummary, Decision, Effective, Verdict as GateVerdict};
use crate::artifact::digest::sha256_hex;
use crate::artifact::draft::Claimed;
use crate::config::Mode;
use crate::control::{Standing, Verdict};
use crate::enforcer::{self, Identity, SlotState};
use crate::error::chain;
use crate::event::{Code, Event, Outcome};
use crate::plan::{FileKey, IMPLIED, Plan};
use crate::registry::Entry;

use super::claim::device_of;
use super::examine::{Found, NamedAs};
use super::{Error, Live, Node};

impl Node {
    pub(super) fn gate_node(&self) -> admission::Node {
        let mut enforceable = self.kernel.enforceable();
        enforceable.insert(crate::artifact::capability::CapabilityName::Profile);
        let blockers = match &self.report {
            Some(report) if self.enforcing => report
                .enforce_blockers
                .iter()
                .map(ToString::to_string)
                .collect(),
            _ => Vec::new(),
        };
        admission::Node {
            enforceable,
            measures: self.kernel.can_measure(),
            blockers,
        }
    }

    /// What is admitted and could be in the way of an artifact, without what goes away in this very change.
    pub(super) fn rivals(
        &self,
        name: &str,
        claimed: &Claimed,
        vanished: &BTreeSet<String>,
    ) -> admission::Admitted {
        let mut rivals: admission::Admitted = self
            .registry
            .artifacts
            .iter()
            .filter(|(_, entry)| !entry.revoked && !vanished.contains(&entry.file))
            .filter(|(id, entry)| {
                let executables = &entry.effective.executables;
                let has = |path: &str| executables.iter().any(|own| own.path == path);
                let unit = entry.effective.unit.as_deref();
                claimed.is_rival_of(name, (id, &entry.file, unit), has)
            })
            .map(|(id, entry)| {
                let summary = AdmittedSummary {
                    file: entry.file.clone(),
                    executables: executable_paths(&entry.effective),
                    unit: entry.effective.unit.clone(),
                };
                (id.clone(), summary)
            })
            .collect();
        rivals.insert(
            super::canary::ID.to_owned(),
            AdmittedSummary {
                file: String::new(),
                executables: BTreeSet::from([super::canary::PROGRAM.to_owned()]),
                unit: None,
            },
        );
        rivals
    }

    /// Puts a decision into the kernel.
    pub(super) fn carry_out(
        &mut self,
        inputs: &admission::Inputs,
        decision: &Decision,
        own: &BTreeSet<String>,
        found: &Found,
    ) -> Verdict {
        match &decision.verdict {
            GateVerdict::Admitted(effective) => {
                let executables = found.executables.iter();
                let code = found.code.iter();
                // what was narrowed away is not pinned
                let is_declared = |path: &String| effective.code().any(|(own, _)| own == path);
                let bound = Bound {
                    executables: executables
                        .map(|(path, entry)| (path.clone(), entry.identity))
                        .collect(),
                    code: code
                        .filter(|(path, _)| is_declared(path))
                        .map(|(path, entry)| (path.clone(), entry.identity))
                        .collect(),
                };
                let mode = self
                    .registry
                    .artifacts
                    .get(&effective.id)
                    .filter(|entry| !entry.revoked)
                    .map_or((Mode::Enforce, None), |e| (e.mode, e.mode_until));
                let entry = Entry {
                    file: inputs.name.clone(),
                    document: sha256_hex(&inputs.document),
                    loaders: effective.loaders(
                        inputs
                            .executables
                            .iter()
                            .filter_map(|fact| fact.found.as_ref()),
                    ),
                    effective: effective.clone(),
                    code: bound.keys_of_code(),
                    mode: mode.0,
                    mode_until: mode.1,
                    revoked: false,
                    released: false,
                    claims: BTreeSet::new(),
                };
                let id = effective.id.clone();
                match self.put_in_force(&id, entry, bound, own) {
                    Ok(()) => Verdict {
                        standing: Standing::Admitted,
                        id: Some(id),
                        error: None,
                        detail: None,
                        messages: effective.narrowed.clone(),
                        unenforced: None,
                    },
                    Err(error) => self.not_in_force(id, &error),
                }
            }
            GateVerdict::Rejected {
                error,
                detail,
                waiting,
                problems,
            } => Verdict {
                standing: if *waiting {
                    Standing::Waiting
                } else {
                    Standing::Rejected
                },
                id: decision.id.clone(),
                error: error.map(|error| error.to_string()),
                detail: Some(detail.to_string()),
                messages: vec![problems.to_string()],
                unenforced: None,
            },
        }
    }

    /// The kernel did not take an admitted artifact: rejected, and what was in force before stays.
    fn not_in_force(&mut self, id: String, error: &Error) -> Verdict {
        let message = chain(error);
        self.record(
            Event::new(Code::Rejected, Outcome::Rejected)
                .artifact(&id)
                .detail("kernel")
                .message(message.clone()),
        );
        Verdict {
            standing: Standing::Rejected,
            id: Some(id),
            error: None,
            detail: Some("kernel".to_owned()),
            messages: vec![message],
            unenforced: None,
        }
    }

    /// Stages a plan, binds the executables and pins the code, swaps, and lets the old plan go. The
    /// executables may have been those of `own` artifacts, or of one that is revoked.
    fn put_in_force(
        &mut self,
        id: &str,
        mut entry: Entry,
        files: Bound,
        own: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let plan = entry.plan().map_err(Error::Plan)?;
        let slot = self.slot(id)?;
        let number = self.plan_number()?;
        let staged = self.kernel.stage(number, &plan);
        let bound = staged
            .and_then(|()| self.bind_all(slot, &mut entry, &files, own))
            .and_then(|()| {
                let mode = self.kernel_mode(entry.mode);
                self.kernel.commit(slot, number, plan.flags, mode)
            });
        if let Err(error) = bound {
            // nothing points to the plan: what is in force is what was
            let _ = self.kernel.retire(number, &plan);
            self.plans.remove(&number);
            return Err(error.into());
        }
        self.after_commit(id, slot, number, plan, entry, files)
    }

    /// Binds and claims the executables of an artifact, and pins its code. Executables of a unit only stay
    /// write-protected, as they are since their examination, and others run them freely.
    fn bind_all(
        &self,
        slot: u32,
        entry: &mut Entry,
        files: &Bound,
        own: &BTreeSet<String>,
    ) -> Result<(), enforcer::Error> {
        let is_free = |held: u32| match self.holders.get(&held) {
            Some(holder) if holder == super::canary::ID => false,
            Some(holder) => own.contains(holder) || !self.live.contains_key(holder),
            None => false,
        };
        // those of others stay kept, also of artifacts that a starting daemon has not resumed yet
        self.kernel.keep_ways(scripts(&entry.effective))?;
        let everywhere = entry.effective.unit.is_none();
        for executable in entry.effective.executables.iter().filter(|_| everywhere) {
            let Some(identity) = files.executables.get(&executable.path) else {
                // not what was admitted: claimed, so that nothing runs there
                let dev = device_of(&executable.path);
                entry.claims.insert((dev, executable.path.clone()));
                self.kernel.claim(dev, &executable.path, slot)?;
                continue;
            };
            entry.claims.insert((identity.dev, executable.path.clone()));
            self.kernel.claim(identity.dev, &executable.path, slot)?;
            self.kernel.bind_in_place_of(
                is_free,
                identity,
                slot,
                (executable.script, &executable.measured),
            )?;
        }
        for identity in files.code.values() {
            self.kernel.pin(identity, slot)?;
        }
        Ok(())
    }

    /// Lets subjects do as they may with scripts that are admitted no more.
    pub(super) fn settle_scripts(&self) -> Result<(), enforcer::Error> {
        let artifacts = self.registry.artifacts.iter();
        let live = artifacts.filter(|(id, _)| self.live.contains_key(*id));
        self.kernel
            .keep_only_ways(live.flat_map(|(_, entry)| scripts(&entry.effective)))
    }

    /// What follows from a plan in force: read back, old claims and the old plan let go.
    fn after_commit(
        &mut self,
        id: &str,
        slot: u32,
        number: enforcer::PlanNumber,
        plan: Plan,
        entry: Entry,
        files: Bound,
    ) -> Result<(), Error> {
        let old_claims = self
            .registry
            .artifacts
            .get(id)
            .map(|old| old.claims.clone())
            .unwrap_or_default();
        for (dev, path) in old_claims.difference(&entry.claims) {
            self.unclaim(*dev, path, slot)?;
        }
        let live = Live {
            slot,
            number,
            flags: plan.flags,
            path_rules: plan.files.len() as u64,
            single_endpoints: plan.endpoints.len() as u64,
            shared_rules: plan.shared_rules(),
            endpoint_ranges: plan.ranges.len() as u64,
            identities: files.executables,
            code: files.code,
            verified: false,
        };
        // the kernel knows a running script by its interpreter only: adoption cannot see it
        for executable in entry.effective.executables.iter().filter(|e| e.script) {
            self.unrecognised.insert(executable.path.clone());
        }
        self.tell_end_of_release(id);
        let old_plan = self.plan_of(id);
        if let Some(old) = self.live.insert(id.to_owned(), live) {
            self.retire(id, &old, old_plan);
        }
        let has_unit = entry.effective.unit.is_some();
        self.registry.insert(id, entry);
        if has_unit {
            self.settle_units();
        }
        self.read_back(id);
        Ok(())
    }

    /// The plan of an artifact as it is written down; without rules if it is not.
    pub(super) fn plan_of(&self, id: &str) -> Plan {
        let entry = self.registry.artifacts.get(id);
        entry
            .and_then(|entry| entry.plan().ok())
            .unwrap_or_default()
    }

    /// The file at a path, kept from changing from now on, if it has the content that was admitted.
    fn still_there(
        &mut self,
        id: &str,
        path: &String,
        (sha256, measured): (&String, &BTreeSet<String>),
        named: NamedAs,
    ) -> Option<Identity> {
        let is_measured = !measured.is_empty();
        let contents: BTreeSet<&String> = measured.iter().chain([sha256]).collect();
        let examined = self.examine(id, std::slice::from_ref(path), named);
        let own = BTreeSet::from([id.to_owned()]);
        let facts = self.facts(&own, path, examined.get(path));
        let same = facts.problem.is_none()
            && (!facts.written || is_measured)
            && facts
                .found
                .is_some_and(|found| contents.contains(&found.sha256));
        match examined.get(path) {
            Some(entry) if same => Some(entry.identity),
            _ => {
                self.release(&examined);
                None
            }
        }
    }

    /// After a start: the last admitted version, if its executables are still what they were. Where
    /// they are not, the claim stays and nothing runs. Pinned code that is another now is not mapped.
    pub(super) fn resume_admitted(&mut self, id: &str, entry: &Entry) -> Result<(), Error> {
        let slot = self.slot(id)?;
        let (state, _, old_number) = self.kernel.state(slot)?;
        let old_plan = entry.plan().ok();
        let mut files = Bound::default();
        for bound in &entry.effective.executables {
            let (path, contents) = (&bound.path, (&bound.sha256, &bound.measured));
            let named = NamedAs::executable_of(entry.effective.unit.is_some());
            if let Some(identity) = self.still_there(id, path, contents, named) {
                files.executables.insert(path.clone(), identity);
            }
        }
        for (path, sha256) in entry.effective.code() {
            let contents = (sha256, &BTreeSet::new());
            if let Some(identity) = self.still_there(id, path, contents, NamedAs::Code) {
                files.code.insert(path.clone(), identity);
            }
        }
        let own = BTreeSet::from([id.to_owned()]);
        let entry = Entry {
            code: files.keys_of_code(),
            ..entry.clone()
        };
        self.put_in_force(id, entry, files, &own)?;
        if state == SlotState::Admitted
            && let Some(plan) = old_plan
        {
            // used while no daemon ran, or told before by one that ended: better twice than never
            self.retire_plan(id, old_number, plan);
        }
        Ok(())
    }
}

/// The files of an artifact as the kernel is to know them, by path.
#[derive(Default)]
struct Bound {
    executables: BTreeMap<String, Identity>,
    code: BTreeMap<String, Identity>,
}

impl Bound {
    fn keys_of_code(&self) -> BTreeMap<String, FileKey> {
        let code = self.code.iter();
        code.map(|(path, identity)| (path.clone(), identity.file_key()))
            .collect()
    }
}

/// Counters by the words of the rules.
pub(super) fn counters(plan: &Plan, uses: &enforcer::Uses) -> BTreeMap<String, u64> {
    let mut counters = BTreeMap::new();
    for (number, count) in uses {
        if let Some(rule) = plan.rule(*number)
            && rule.origin != IMPLIED
        {
            *counters.entry(rule.to_string()).or_insert(0) += count;
        }
    }
    counters
}

/// The paths of an envelope's executables.
pub(super) fn executable_paths(effective: &Effective) -> BTreeSet<String> {
    effective
        .executables
        .iter()
        .map(|executable| executable.path.clone())
        .collect()
}

/// The scripts among an artifact's executables.
fn scripts(effective: &Effective) -> impl Iterator<Item = &str> {
    let scripts = effective.executables.iter().filter(|one| one.script);
    scripts.map(|one| one.path.as_str())
}
