//! From a decision to a plan in force: stage, swap, bind, claim. Nothing is in force half.

use std::collections::{BTreeMap, BTreeSet};

use crate::admission::{self, AdmittedSummary, Decision, Effective, Verdict as GateVerdict};
use crate::artifact::digest::sha256_hex;
use crate::artifact::draft::claimed_id;
use crate::config::Mode;
use crate::control::{Standing, Verdict};
use crate::enforcer::{self, Identity, SlotState};
use crate::error::chain;
use crate::event::{Code, Event, Outcome};
use crate::plan::Plan;
use crate::registry::Entry;

use super::claim::device_of;
use super::examine::{Examined, key};
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
            blockers,
        }
    }

    /// What is admitted, without what goes away in this very change.
    pub(super) fn admitted_summaries(&self, vanished: &BTreeSet<String>) -> admission::Admitted {
        let mut summaries: admission::Admitted = self
            .registry
            .artifacts
            .iter()
            .filter(|(_, entry)| !entry.revoked && !vanished.contains(&entry.file))
            .map(|(id, entry)| {
                let summary = AdmittedSummary {
                    file: entry.file.clone(),
                    executables: executable_paths(&entry.effective),
                };
                (id.clone(), summary)
            })
            .collect();
        summaries.insert(
            super::canary::ID.to_owned(),
            AdmittedSummary {
                file: String::new(),
                executables: BTreeSet::from([super::canary::PROGRAM.to_owned()]),
            },
        );
        summaries
    }

    /// Puts a decision into the kernel.
    pub(super) fn carry_out(
        &mut self,
        name: &str,
        inputs: &admission::Inputs,
        decision: &Decision,
        own: &BTreeSet<String>,
        examined: &BTreeMap<String, Examined>,
    ) -> Verdict {
        let document = &inputs.document;
        match &decision.verdict {
            GateVerdict::Admitted(effective) => {
                let identities = examined
                    .iter()
                    .map(|(path, entry)| (path.clone(), entry.identity))
                    .collect();
                let mode = self
                    .registry
                    .artifacts
                    .get(&effective.id)
                    .filter(|entry| !entry.revoked)
                    .map_or((Mode::Enforce, None), |e| (e.mode, e.mode_until));
                let entry = Entry {
                    file: name.to_owned(),
                    document: sha256_hex(document),
                    loaders: effective.loaders(
                        inputs
                            .executables
                            .iter()
                            .filter_map(|fact| fact.found.as_ref()),
                    ),
                    effective: effective.clone(),
                    mode: mode.0,
                    mode_until: mode.1,
                    revoked: false,
                    claims: BTreeSet::new(),
                };
                let id = effective.id.clone();
                match self.put_in_force(&id, entry, identities, own) {
                    Ok(()) => Verdict {
                        standing: Standing::Admitted,
                        id: Some(id),
                        error: None,
                        detail: None,
                        messages: effective.narrowed.clone(),
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
                id: claimed_id(document),
                error: error.map(|error| error.to_string()),
                detail: Some(detail.to_string()),
                messages: vec![problems.to_string()],
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
        }
    }

    /// Stages a plan, binds the executables, swaps, and lets the old plan go. The executables may have been
    /// those of `own` artifacts, or of one that is revoked.
    fn put_in_force(
        &mut self,
        id: &str,
        mut entry: Entry,
        identities: BTreeMap<String, Identity>,
        own: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let plan = Plan::compile(&entry.effective, &entry.loaders).map_err(Error::Plan)?;
        let slot = self.slot(id)?;
        let number = self.plan_number()?;
        let staged = self.kernel.stage(number, &plan);
        let bound = staged
            .and_then(|()| self.bind_all(slot, &mut entry, &identities, own))
            .and_then(|()| {
                let mode = self.kernel_mode(entry.mode);
                self.kernel.commit(slot, number, &plan, mode)
            });
        if let Err(error) = bound {
            // nothing points to the plan: what is in force is what was
            let _ = self.kernel.retire(number, &plan);
            self.plans.remove(&number);
            return Err(error.into());
        }
        self.after_commit(id, slot, number, plan, entry, identities)
    }

    /// Binds and claims the executables of an artifact.
    fn bind_all(
        &self,
        slot: u32,
        entry: &mut Entry,
        identities: &BTreeMap<String, Identity>,
        own: &BTreeSet<String>,
    ) -> Result<(), enforcer::Error> {
        let in_force: BTreeSet<u32> = self
            .live
            .iter()
            .filter(|(id, _)| !own.contains(*id))
            .map(|(_, live)| live.slot)
            .chain(self.slot_of(super::canary::ID))
            .collect();
        let earlier = self.holders.keys().copied();
        let earlier = earlier.filter(|slot| !in_force.contains(slot)).collect();
        for executable in &entry.effective.executables {
            let Some(identity) = identities.get(&executable.path) else {
                // not what was admitted: claimed, so that nothing runs there
                let dev = device_of(&executable.path);
                entry.claims.insert((dev, executable.path.clone()));
                self.kernel.claim(dev, &executable.path, slot)?;
                continue;
            };
            entry.claims.insert((identity.dev, executable.path.clone()));
            self.kernel.claim(identity.dev, &executable.path, slot)?;
            self.kernel
                .bind_in_place_of(&earlier, identity, slot, executable.script)?;
        }
        Ok(())
    }

    /// What follows from a plan in force: read back, old claims and the old plan let go.
    fn after_commit(
        &mut self,
        id: &str,
        slot: u32,
        number: enforcer::PlanNumber,
        plan: Plan,
        entry: Entry,
        identities: BTreeMap<String, Identity>,
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
            plan,
            identities,
            verified: false,
        };
        // the kernel knows a running script by its interpreter only: adoption cannot see it
        for executable in entry.effective.executables.iter().filter(|e| e.script) {
            self.unrecognised.insert(executable.path.clone());
        }
        if let Some(old) = self.live.insert(id.to_owned(), live) {
            self.retire(id, &old);
        }
        self.registry.artifacts.insert(id.to_owned(), entry);
        if let Some(live) = self.live.get(id) {
            let verified = self.read_back(id, live)?;
            if let Some(live) = self.live.get_mut(id) {
                live.verified = verified;
            }
        }
        Ok(())
    }

    /// Lets a plan go that was replaced: its last counts are told, files that are no longer of the
    /// artifact are let go.
    pub(super) fn retire(&mut self, id: &str, old: &Live) {
        let now = std::time::Instant::now();
        self.plans.remove(&old.number);
        match self.kernel.retire(old.number, &old.plan) {
            Ok(uses) => {
                let counters = counters(&old.plan, &uses);
                let closed = self.uses.close(id, &counters, now);
                for event in closed.events {
                    self.record(event);
                }
            }
            Err(error) => self.record(
                Event::new(Code::EventsLost, Outcome::Noted)
                    .artifact(id)
                    .detail("uses")
                    .message(chain(&error)),
            ),
        }
        let kept: BTreeSet<_> = self
            .live
            .values()
            .flat_map(|live| live.identities.values().map(key))
            .collect();
        for identity in old.identities.values() {
            if !kept.contains(&key(identity)) {
                let _ = self.kernel.unbind(identity);
            }
        }
    }

    /// After a start: the last admitted version, if its executables are still what they were. Where
    /// they are not, the claim stays and nothing runs.
    pub(super) fn resume_admitted(&mut self, id: &str, entry: &Entry) -> Result<(), Error> {
        let slot = self.slot(id)?;
        let (state, _, old_number) = self.kernel.state(slot)?;
        let old_plan = Plan::compile(&entry.effective, &entry.loaders).ok();
        let mut identities = BTreeMap::new();
        for bound in &entry.effective.executables {
            let paths = [bound.path.clone()];
            let examined = self.examine(id, &paths);
            let own = BTreeSet::from([id.to_owned()]);
            let facts = self.facts(&own, &bound.path, examined.get(&bound.path));
            let same = facts.problem.is_none()
                && facts
                    .found
                    .is_some_and(|found| found.sha256 == bound.sha256);
            match examined.get(&bound.path) {
                Some(entry) if same => {
                    identities.insert(bound.path.clone(), entry.identity);
                }
                _ => self.release(&examined),
            }
        }
        let own = BTreeSet::from([id.to_owned()]);
        self.put_in_force(id, entry.clone(), identities, &own)?;
        if state == SlotState::Admitted
            && let Some(plan) = old_plan
        {
            let uses = self.kernel.retire(old_number, &plan)?;
            self.plans.remove(&old_number);
            // used while no daemon ran, or told before by one that ended: better twice than never
            let told = self
                .uses
                .close(id, &counters(&plan, &uses), std::time::Instant::now());
            for event in told.events {
                self.record(event);
            }
        }
        Ok(())
    }
}

/// Counters by the words of the rules.
pub(super) fn counters(plan: &Plan, uses: &enforcer::Uses) -> BTreeMap<String, u64> {
    let mut counters: BTreeMap<String, u64> = plan
        .rules
        .iter()
        .filter(|rule| rule.origin != "implied")
        .map(|rule| (rule.to_string(), 0))
        .collect();
    for (number, count) in uses {
        if let Some(rule) = plan.rule(*number)
            && rule.origin != "implied"
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
