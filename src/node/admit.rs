//! From a file to a plan in force: read, examine, decide, stage, swap. Nothing is in force half.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::admission::{
    self, AdmittedSummary, Decision, Effective, ExecutableFacts, Options, Verdict as GateVerdict,
};
use crate::artifact::digest::sha256_hex;
use crate::artifact::draft::{claimed_id, claimed_paths};
use crate::config::Mode;
use crate::control::{Standing, Verdict};
use crate::enforcer::{self, Identity, SlotState};
use crate::error::chain;
use crate::event::{Code, Event, Outcome};
use crate::executable;
use crate::plan::Plan;
use crate::policies::{Policies, PolicyFile};
use crate::registry::Entry;
use crate::site::Site;

use super::{Error, FileVerdict, Live, Node};

/// An executable that is examined. Everything that is said of it comes from this one descriptor: its path
/// may be another file by now.
struct Examined {
    opened: executable::Opened,
    identity: Identity,
    /// Whether its key was put into the kernel for the examination.
    ours: bool,
    /// Why nobody can be kept from writing to it.
    problem: Option<String>,
}

impl Node {
    /// Reads the policies directories and brings the kernel in line with them. `touched` limits the work
    /// to files of these names and to executables of these paths; None means everything.
    pub fn reconcile(&mut self, touched: Option<&BTreeSet<String>>) {
        let wanted = touched.map(|touched| self.concerned(touched));
        let mut policies = Policies::read(&self.paths, wanted.as_ref());
        let mut vanished = self.vanished(&policies);
        let is_new = |file: &String| !self.files.contains_key(file);
        if !vanished.is_empty() && policies.present.iter().any(is_new) {
            // renamed, perhaps, and only the old name told yet: it must not lose its rights between
            policies = Policies::read(&self.paths, None);
            vanished = self.vanished(&policies);
        }
        self.tell_ignored(&policies);
        let admitted: BTreeSet<String> = self
            .registry
            .artifacts
            .values()
            .filter(|entry| !entry.revoked)
            .map(|entry| entry.file.clone())
            .collect();
        let mut order: Vec<(&String, &PolicyFile)> = policies.files.iter().collect();
        // what is admitted already goes first, then /etc, then /usr/lib, each by name
        order.sort_by_key(|(name, file)| {
            (
                !admitted.contains(*name),
                !file.administrator,
                (*name).clone(),
            )
        });
        let mut changed = false;
        for (name, file) in order {
            changed |= self.consider(name, file, &vanished);
        }
        for name in self.files.keys().cloned().collect::<Vec<_>>() {
            if !policies.incomplete && !policies.present.contains(&name) {
                changed |= self.file_gone(&name);
            }
        }
        for file in vanished {
            changed |= self.revoke_file(&file, None);
        }
        if changed {
            self.adopt();
            self.unsaved = true;
        }
        self.answer_waiting();
    }

    /// The files of artifacts in force that are not there any more.
    fn vanished(&self, policies: &Policies) -> BTreeSet<String> {
        self.registry
            .artifacts
            .values()
            .filter(|entry| !entry.revoked)
            .map(|entry| entry.file.clone())
            .filter(|file| !policies.incomplete && !policies.present.contains(file))
            .collect()
    }

    /// The profiles or the scope changed: everything that depends on them is decided anew.
    pub fn reread_site(&mut self) {
        match Site::read(&self.paths) {
            Ok(site) => {
                self.site = site;
                self.site_problem = None;
            }
            Err(error) => {
                let message = format!(
                    "{}; the scope and profiles read before stay in force",
                    chain(&error)
                );
                self.record(
                    Event::new(Code::FileIgnored, Outcome::Noted)
                        .detail("site")
                        .message(message.clone()),
                );
                self.site_problem = Some(message);
            }
        }
        self.reconcile(None);
    }

    /// The files that a change is about: touched themselves, or by an executable of theirs.
    fn concerned(&self, touched: &BTreeSet<String>) -> BTreeSet<String> {
        self.files
            .iter()
            .filter(|(_, file)| !file.executables.is_disjoint(touched))
            .map(|(name, _)| name.clone())
            .chain(touched.iter().cloned())
            .collect()
    }

    fn tell_ignored(&mut self, policies: &Policies) {
        for (path, why) in &policies.ignored {
            if self.ignored.insert(path.clone()) {
                self.record(
                    Event::new(Code::FileIgnored, Outcome::Noted)
                        .fact("file", path.clone())
                        .message(why.clone()),
                );
            }
        }
        self.ignored
            .retain(|path| policies.ignored.contains_key(path));
    }

    /// Decides about one file. Whether anything changed.
    fn consider(&mut self, name: &str, file: &PolicyFile, vanished: &BTreeSet<String>) -> bool {
        let empty = Vec::new();
        let document = file.document.as_ref().unwrap_or(&empty);
        let paths = claimed_paths(document);
        let slot_name = claimed_id(document).unwrap_or_else(|| format!("file:{name}"));
        let examined = self.examine(&slot_name, &paths);
        let own = self.making_way(&slot_name, name, vanished);
        let facts = paths
            .iter()
            .map(|path| self.facts(&own, path, examined.get(path)))
            .collect();
        let inputs = admission::Inputs {
            name: name.to_owned(),
            document: document.clone(),
            file_problem: file.document.as_ref().err().cloned(),
            signature_present: file.signature,
            site_grants: file.site_grants.clone(),
            profiles: self.site.profiles.clone(),
            scope: self.site.scope.clone(),
            executables: facts,
            node: self.gate_node(),
            admitted: self.admitted_summaries(vanished),
            options: Options::default(),
        };
        let hashes = inputs.hashes();
        if self.is_unchanged(name, &hashes, &inputs.executables, &examined) {
            self.release(&examined);
            return false;
        }
        let decision = admission::decide(&inputs);
        // whoever reads that it is admitted may rely on it: that is told when it is in force
        let (admitted, events): (Vec<Event>, Vec<Event>) = decision
            .events
            .iter()
            .cloned()
            .partition(|event| event.code == Code::Admitted);
        for event in events {
            self.record(event);
        }
        let verdict = self.carry_out(name, &inputs, &decision, &own, &examined);
        self.release(&examined);
        for event in admitted {
            if verdict.standing == Standing::Admitted {
                self.record(event);
            }
        }
        if verdict.standing == Standing::Admitted {
            self.revoke_file(name, verdict.id.as_deref());
        }
        let parts = inputs.parts();
        if let Err(error) = self.inputs.store(parts.values().map(Vec::as_slice)) {
            self.record(
                Event::new(Code::SinkChanged, Outcome::Noted)
                    .detail("inputs")
                    .message(chain(&error)),
            );
        }
        let claimable: BTreeSet<String> = match verdict.standing {
            Standing::Admitted => BTreeSet::new(),
            _ => decision.claims.into_iter().collect(),
        };
        let claims = self.claim_for_file(name, &claimable);
        self.files.insert(
            name.to_owned(),
            FileVerdict {
                document: sha256_hex(document),
                verdict,
                inputs: hashes,
                executables: paths.into_iter().collect(),
                claimable,
                claims,
                parsable: file.document.is_ok()
                    && toml::from_slice::<toml::Table>(document).is_ok(),
            },
        );
        true
    }

    /// Revokes what is in force from a file, but for the id that it has now. Whether anything was.
    fn revoke_file(&mut self, name: &str, but: Option<&str>) -> bool {
        let gone: Vec<String> = self
            .registry
            .artifacts
            .iter()
            .filter(|(id, entry)| entry.file == name && !entry.revoked && Some(id.as_str()) != but)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &gone {
            self.revoke(id);
        }
        !gone.is_empty()
    }

    /// The same inputs as last time, and the executables are still the files that are bound.
    fn is_unchanged(
        &self,
        name: &str,
        hashes: &BTreeMap<String, String>,
        facts: &[ExecutableFacts],
        examined: &BTreeMap<String, Examined>,
    ) -> bool {
        let Some(before) = self.files.get(name) else {
            return false;
        };
        if before.inputs != *hashes {
            return false;
        }
        if before.verdict.standing != Standing::Admitted {
            return true;
        }
        let Some(live) = before.verdict.id.as_ref().and_then(|id| self.live.get(id)) else {
            return false;
        };
        facts.iter().all(|fact| {
            let bound = live.identities.get(&fact.path).map(key);
            bound.is_some() && bound == examined.get(&fact.path).map(|e| key(&e.identity))
        })
    }

    /// Blocks writes to the executables before they are hashed.
    fn examine(&mut self, slot_name: &str, paths: &[String]) -> BTreeMap<String, Examined> {
        let mut examined = BTreeMap::new();
        for path in paths {
            let allowed = self
                .site
                .scope
                .ceiling(None, &self.site.profiles)
                .allows_executable(path, false);
            let Ok(Some(opened)) = executable::open(path) else {
                continue;
            };
            let Ok((identity, _)) = self.kernel.identify(&opened.file) else {
                continue;
            };
            let regular = opened
                .file
                .metadata()
                .is_ok_and(|metadata| metadata.is_file());
            let blocked = if allowed && regular {
                self.slot(slot_name)
                    .and_then(|slot| self.kernel.examine(&identity, slot))
            } else {
                Ok(false)
            };
            let problem = blocked.as_ref().err().map(|error| chain(error));
            let ours = blocked.unwrap_or(false);
            let entry = Examined {
                opened,
                identity,
                ours,
                problem,
            };
            examined.insert(path.clone(), entry);
        }
        examined
    }

    /// Ends the examination of what was not bound in the meantime.
    fn release(&mut self, examined: &BTreeMap<String, Examined>) {
        let bound: BTreeSet<_> = self
            .live
            .values()
            .flat_map(|live| live.identities.values().map(key))
            .collect();
        for entry in examined.values().filter(|entry| entry.ours) {
            if !bound.contains(&key(&entry.identity)) {
                // what cannot be taken back stays write-protected, which is the safe side
                let _ = self.kernel.unbind(&entry.identity);
            }
        }
    }

    /// What is found at a path now, with the writers that the kernel counts. `own` are the ids to which the
    /// file may belong.
    fn facts(
        &self,
        own: &BTreeSet<String>,
        path: &str,
        examined: Option<&Examined>,
    ) -> ExecutableFacts {
        let Some(examined) = examined else {
            // missing, or not to be opened: then this says why
            return executable::examine(path);
        };
        let (found, mut problem) = match executable::facts(&examined.opened) {
            Ok(found) => (Some(found), examined.problem.clone()),
            Err(error) => (None, Some(format!("it cannot be read: {error}"))),
        };
        // after the reading: nobody may have written meanwhile, and it must still be there
        match self.kernel.identify(&examined.opened.file) {
            Ok((now, _)) if now.writers > 0 => {
                problem = Some("some process has it open for writing".to_owned());
            }
            Ok((_, Some(seen))) if seen == path => {}
            // a path through a symlink has its own word in the gate
            Ok((_, Some(_))) if found.as_ref().is_some_and(|found| !found.realpath_ok) => {}
            Ok((_, Some(seen))) => problem = Some(format!("the kernel knows it as {seen:?}")),
            Ok((_, None)) => problem = Some("it was replaced or removed meanwhile".to_owned()),
            Err(error) => problem = Some(chain(&error)),
        }
        ExecutableFacts {
            path: path.to_owned(),
            found,
            problem,
            taken_by: self
                .owner(&examined.identity)
                .filter(|id| !own.contains(*id))
                .map(str::to_owned),
        }
    }

    /// The id of a file, and those that go when it is admitted: its earlier ones, and those of files that
    /// went away in this very change.
    fn making_way(&self, id: &str, name: &str, vanished: &BTreeSet<String>) -> BTreeSet<String> {
        self.registry
            .artifacts
            .iter()
            .filter(|(_, entry)| entry.file == name || vanished.contains(&entry.file))
            .map(|(id, _)| id.clone())
            .chain([id.to_owned()])
            .collect()
    }

    /// The artifact in force that a file belongs to, under whatever path.
    fn owner(&self, identity: &Identity) -> Option<&str> {
        self.live
            .iter()
            .find(|(_, live)| {
                live.identities
                    .values()
                    .any(|own| key(own) == key(identity))
            })
            .map(|(id, _)| id.as_str())
    }

    fn gate_node(&self) -> admission::Node {
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
    fn admitted_summaries(&self, vanished: &BTreeSet<String>) -> admission::Admitted {
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
    fn carry_out(
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
                    loaders: inputs
                        .executables
                        .iter()
                        .filter_map(|fact| fact.found.as_ref())
                        .flat_map(|found| found.loaders.clone())
                        .collect(),
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
        if u32::from(plan.flags) & crate::bpf::sys::PLAN_UDP != 0 {
            self.udp_slots.insert(slot);
        }
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

    /// Claims what a rejected or waiting artifact names, unless somebody else holds the claim.
    fn claim_for_file(&mut self, name: &str, paths: &BTreeSet<String>) -> BTreeSet<(u32, String)> {
        let held: BTreeSet<String> = self
            .registry
            .artifacts
            .values()
            .flat_map(|entry| entry.claims.iter().map(|(_, path)| path.clone()))
            .collect();
        let mut claims = BTreeSet::new();
        for path in paths.difference(&held) {
            let dev = self.device(path).unwrap_or_else(|| device_of(path));
            match self.claim_as_file(name, dev, path) {
                Ok(()) => {
                    claims.insert((dev, path.clone()));
                }
                Err(error) => self.tell_claim(path, &error),
            }
        }
        self.unclaim_but(name, &claims);
        claims
    }

    fn claim_as_file(&mut self, name: &str, dev: u32, path: &str) -> Result<(), enforcer::Error> {
        let slot = self.slot(&format!("file:{name}"))?;
        self.kernel.close(slot, SlotState::Refused)?;
        self.kernel.claim(dev, path, slot)
    }

    fn tell_claim(&mut self, path: &str, error: &enforcer::Error) {
        self.record(
            Event::new(Code::Rejected, Outcome::Rejected)
                .detail("claim")
                .fact("path", path)
                .message(chain(error)),
        );
    }

    /// Ends the claims that a file had while it was not admitted, but for these.
    fn unclaim_but(&mut self, name: &str, kept: &BTreeSet<(u32, String)>) {
        let Some(slot) = self.slot_of(&format!("file:{name}")) else {
            return;
        };
        let Some(file) = self.files.get_mut(name) else {
            return;
        };
        file.claimable.clear();
        let claims = std::mem::take(&mut file.claims);
        for (dev, path) in claims.difference(kept) {
            if let Err(error) = self.unclaim(*dev, path, slot) {
                self.tell_claim(path, &error);
            }
        }
    }

    /// Ends a claim of a slot. Whoever else names the path holds it from then on: a revoked artifact, or
    /// a file that is not admitted.
    pub(super) fn unclaim(
        &mut self,
        dev: u32,
        path: &str,
        slot: u32,
    ) -> Result<(), enforcer::Error> {
        let claim = (dev, path.to_owned());
        let artifact = self
            .registry
            .artifacts
            .iter()
            .filter(|(_, entry)| entry.claims.contains(&claim))
            .filter_map(|(id, _)| self.slot_of(id))
            .find(|heir| *heir != slot);
        if let Some(heir) = artifact {
            return self.kernel.claim(dev, path, heir);
        }
        let file = self
            .files
            .iter()
            .find(|(_, file)| file.claimable.contains(path))
            .map(|(name, _)| name.clone());
        let Some(heir) = file else {
            return self.kernel.unclaim(dev, path, slot);
        };
        self.claim_as_file(&heir, dev, path)?;
        if let Some(file) = self.files.get_mut(&heir) {
            file.claims.insert(claim);
        }
        Ok(())
    }

    /// The s_dev of what is at a path, or of the nearest directory that exists.
    pub(super) fn device(&self, path: &str) -> Option<u32> {
        let mut at = Some(Path::new(path));
        while let Some(here) = at {
            if let Some(text) = here.to_str()
                && let Ok(Some(opened)) = executable::open(text)
                && let Ok((identity, _)) = self.kernel.identify(&opened.file)
            {
                return Some(identity.dev);
            }
            at = here.parent();
        }
        None
    }

    /// A file that was there is not any more, and it had no artifact in force.
    fn file_gone(&mut self, name: &str) -> bool {
        self.unclaim_but(name, &BTreeSet::new());
        self.files.remove(name).is_some()
    }
}

/// What makes two identities the same file.
pub(super) fn key(identity: &Identity) -> (u64, u32, u32) {
    (identity.ino, identity.dev, identity.generation)
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

/// s_dev from user space, for what cannot be opened: right but on btrfs and overlayfs, where pinned
/// executables are not taken.
pub(super) fn device_of(path: &str) -> u32 {
    use std::os::unix::fs::MetadataExt;

    let mut at = Some(Path::new(path));
    while let Some(here) = at {
        if let Ok(metadata) = here.metadata() {
            let dev = metadata.dev();
            return rustix::fs::major(dev) << 20 | rustix::fs::minor(dev);
        }
        at = here.parent();
    }
    0
}

/// The paths of an envelope's executables.
pub(super) fn executable_paths(effective: &Effective) -> BTreeSet<String> {
    effective
        .executables
        .iter()
        .map(|executable| executable.path.clone())
        .collect()
}
