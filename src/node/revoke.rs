//! The way back: rights end at once and stay ended until the administrator says otherwise.

use crate::config::Mode;
use crate::control::{Refused, Response, Standing, Why};
use crate::enforcer::{self, SlotState};
use crate::error::chain;
use crate::event::{Code, Event, Outcome};
use crate::registry::Entry;

use super::admit::executable_paths;
use super::{Error, Node, now_unix, rfc3339};

/// Seconds until a mode that could not be ended is tried again.
const RETRY: u64 = 60;

impl Node {
    /// Ends all rights of an artifact. Its claims stay: the program does not come back unconfined.
    pub(super) fn revoke(&mut self, id: &str) {
        let mut event = Event::new(Code::Revoked, Outcome::Revoked).artifact(id);
        let closed = self.slot(id).and_then(|slot| {
            self.end_rights(slot)?;
            Ok(slot)
        });
        match closed {
            Ok(slot) => {
                let tasks = self
                    .kernel
                    .tasks()
                    .ok()
                    .and_then(|tasks| tasks.get(&slot).copied())
                    .unwrap_or(0);
                let what = match self.enforcing {
                    true => "Every hooked operation of its tasks is refused from now on",
                    false => "Nothing is refused to its tasks, as this node only audits",
                };
                event = event.fact("tasks", tasks.to_string()).message(format!(
                    "{what}, and its executables do not run; \"cartouche forget\" ends that"
                ));
            }
            Err(error) => {
                event = event.detail("failed").message(format!(
                    "{}; its old envelope is still in force",
                    chain(&error)
                ));
            }
        }
        if let Some(live) = self.live.remove(id) {
            // the executables stay bound, so they are not retired with the plan
            let live = super::Live {
                identities: std::collections::BTreeMap::new(),
                ..live
            };
            let plan = self.plan_of(id);
            self.retire(id, &live, plan);
        }
        let mut released = None;
        if let Some(entry) = self.registry.artifacts.get_mut(id) {
            for executable in &entry.effective.executables {
                self.unrecognised.remove(&executable.path);
            }
            if std::mem::take(&mut entry.released) {
                released = Some(entry.clone());
            }
            entry.revoked = true;
            entry.mode = Mode::Enforce;
            entry.mode_until = None;
        }
        if let Some(entry) = released
            && let Err(error) = self.keep_revoked(id, &entry)
        {
            event = event
                .detail("failed")
                .message(format!("{}; its executables may still run", chain(&error)));
        }
        self.record(event);
        self.settle_cut();
        // one that is just being started may not be among them yet
        self.look_again();
        self.settle_on_demand();
    }

    /// After a start: what was revoked is refused again before anything else happens.
    pub(super) fn keep_revoked(&mut self, id: &str, entry: &Entry) -> Result<(), Error> {
        let slot = self.slot(id)?;
        self.end_rights(slot)?;
        let mut claims = entry.claims.clone();
        // what an artifact in force runs by now is its own
        let taken: std::collections::BTreeSet<String> = self
            .registry
            .artifacts
            .values()
            .filter(|other| !other.revoked)
            .flat_map(|other| executable_paths(&other.effective))
            .collect();
        let everywhere = entry.effective.unit.is_none();
        for path in executable_paths(&entry.effective) {
            let path = &path;
            if taken.contains(path) || !everywhere {
                continue;
            }
            let dev = self.device_now(path);
            self.kernel.claim(dev, path, slot)?;
            claims.insert((dev, path.clone()));
        }
        if let Some(entry) = self.registry.artifacts.get_mut(id) {
            entry.claims = claims;
        }
        Ok(())
    }

    /// After a start: ends what the kernel still holds for artifacts and files that nobody knows any more,
    /// because what was admitted was moved away, or a rejected file went while no daemon ran. Tasks that
    /// were bound are refused; the programs run outside.
    pub fn close_strangers(&mut self) {
        let known = |name: &str| match name.strip_prefix("file:") {
            Some(file) => self.files.contains_key(file),
            None => {
                [super::canary::ID, super::guard::HOLDER].contains(&name)
                    || self.registry.artifacts.contains_key(name)
            }
        };
        let strangers: Vec<(u32, String)> = self
            .holders
            .iter()
            .filter(|(_, name)| !known(name))
            .map(|(slot, name)| (*slot, name.clone()))
            .collect();
        if let Err(error) = self.let_strange_code_go() {
            self.record(
                Event::new(Code::Revoked, Outcome::Noted)
                    .detail("failed")
                    .message(chain(&error)),
            );
        }
        for (slot, name) in strangers {
            match self.close_stranger(slot) {
                Ok(false) => {}
                Ok(true) => self.record(
                    Event::new(Code::Revoked, Outcome::Revoked)
                        .artifact(&name)
                        .detail("not-known")
                        .message(
                            "It was in force and is not known any more: every hooked operation of its \
                             tasks is refused, and its executables run without an envelope",
                        ),
                ),
                Err(error) => self.record(
                    Event::new(Code::Revoked, Outcome::Noted)
                        .artifact(&name)
                        .detail("failed")
                        .message(chain(&error)),
                ),
            }
        }
        // what they hold open
        self.settle_cut();
        self.look_again();
    }

    /// Whether it was in force.
    fn close_stranger(&mut self, slot: u32) -> Result<bool, enforcer::Error> {
        let (state, _, _) = self.kernel.state(slot)?;
        if state == SlotState::Admitted {
            self.end_rights(slot)?;
        }
        self.unbind_slot(slot)?;
        for (dev, path, _) in self.kernel.claims()?.iter().filter(|held| held.2 == slot) {
            self.unclaim(*dev, path, slot)?;
        }
        Ok(state == SlotState::Admitted)
    }

    pub(super) fn unbind_slot(&self, slot: u32) -> Result<(), enforcer::Error> {
        for (identity, bound) in self.kernel.bindings()? {
            if bound == slot {
                self.let_executable_go(&identity)?;
            }
        }
        Ok(())
    }

    /// Ends a revocation: the program may run outside again. Tasks that were bound stay refused.
    pub(super) fn forget(&mut self, id: &str) -> Response {
        match self.standing_of(id) {
            Some(Standing::Revoked) => {}
            Some(Standing::Released) => {
                return Response::refused(
                    Why::Unfit,
                    format!(
                        "The artifact {id:?} is released, so its programs run; to forget it, remove its \
                         file first"
                    ),
                );
            }
            Some(_) => {
                return Response::refused(
                    Why::Unfit,
                    format!("The artifact {id:?} is in force; remove its file first"),
                );
            }
            None => {
                return Response::refused(Why::NotFound, format!("There is no artifact {id:?}"));
            }
        }
        let paths = self
            .registry
            .artifacts
            .get(id)
            .map(|entry| executable_paths(&entry.effective))
            .unwrap_or_default();
        if let Err(error) = self.let_go(id) {
            return Response::refused(Why::Failed, chain(&error));
        }
        self.record(Event::new(Code::Forgotten, Outcome::Noted).artifact(id));
        // a rejected file that names the same executables claims them now
        self.files
            .retain(|_, file| file.verdict.standing == Standing::Admitted);
        self.reconcile(None);
        self.unsaved = true;
        let fates: Vec<_> = paths.iter().map(|path| self.fate(path)).collect();
        Response::Done {
            message: format!("The artifact {id:?} is forgotten. {}", fates.join(" ")),
        }
    }

    /// What becomes of a program at this path, as a sentence.
    fn fate(&self, path: &str) -> String {
        let holder = self
            .registry
            .artifacts
            .iter()
            .find(|(_, entry)| entry.claims.iter().any(|(_, claimed)| claimed == path));
        if let Some((id, entry)) = holder {
            return match entry.revoked {
                false => format!("{path:?} is held to the artifact {id:?} now."),
                true => format!("{path:?} still does not run, because {id:?} is revoked too."),
            };
        }
        let claimant = self
            .files
            .iter()
            .find(|(_, file)| file.claims.iter().any(|(_, claimed)| claimed == path));
        match claimant {
            Some((name, _)) => format!(
                "{path:?} still does not run, because {name:?} names it and is not admitted."
            ),
            None => format!("{path:?} runs without an envelope from now on."),
        }
    }

    fn let_go(&mut self, id: &str) -> Result<(), enforcer::Error> {
        let Some(entry) = self.registry.artifacts.get(id).cloned() else {
            return Ok(());
        };
        let slot = self.slot(id)?;
        self.unbind_slot(slot)?;
        for (dev, path) in &entry.claims {
            self.unclaim(*dev, path, slot)?;
        }
        self.registry.artifacts.remove(id);
        self.settle_units();
        self.settle_on_demand();
        Ok(())
    }

    /// Changes the mode of one artifact, and says what that means on this node.
    pub(super) fn set_mode(&mut self, id: &str, mode: Mode, for_seconds: Option<u64>) -> Response {
        if self.is_released(id) {
            if mode == Mode::Audit {
                return Response::refused(
                    Why::Unfit,
                    format!(
                        "The artifact {id:?} is released, so nothing is told of it; \"cartouche mode {id} \
                         enforce\" ends that"
                    ),
                );
            }
            if let Err(error) = self.hold_again(id) {
                return Response::refused(Why::Failed, chain(&error));
            }
        }
        let until = match self.change_mode(id, mode, for_seconds) {
            Ok(until) => until,
            Err(refused) => return Response::Refused(refused),
        };
        if !self.enforcing && mode == Mode::Enforce {
            let why = self.why_it_only_audits();
            return Response::refused(
                Why::Unfit,
                format!(
                    "Nothing is refused to the artifact {id:?}: the whole node only audits, because \
                     {why}. The artifact is set to enforce mode for when the node enforces"
                ),
            );
        }
        let what = match mode {
            Mode::Enforce => "What its envelope does not declare is refused",
            Mode::Audit => "Nothing is refused to it; what would be is recorded",
        };
        let until = until
            .and_then(rfc3339)
            .map(|until| format!(" until {until}"))
            .unwrap_or_default();
        Response::Done {
            message: format!("The artifact {id:?} is in {mode} mode{until}. {what}."),
        }
    }

    /// Changes the mode of one artifact; when it ends by itself.
    fn change_mode(
        &mut self,
        id: &str,
        mode: Mode,
        for_seconds: Option<u64>,
    ) -> Result<Option<u64>, Refused> {
        let refused = |why, message| Err(Refused { why, message });
        let Some(live) = self.live.get(id) else {
            let why = if self.standing_of(id).is_some() {
                Why::Unfit
            } else {
                Why::NotFound
            };
            return refused(why, format!("There is no artifact {id:?} in force"));
        };
        let kernel_mode = self.kernel_mode(mode);
        let committed = self
            .kernel
            .commit(live.slot, live.number, live.flags, kernel_mode);
        if let Err(error) = committed {
            return refused(Why::Failed, chain(&error));
        }
        let until = for_seconds
            .filter(|_| mode == Mode::Audit)
            .map(|seconds| now_unix().saturating_add(seconds));
        if let Some(entry) = self.registry.artifacts.get_mut(id) {
            entry.mode = mode;
            entry.mode_until = until;
        }
        let mut event = Event::new(Code::ModeChanged, Outcome::Noted)
            .artifact(id)
            .detail(mode.as_str());
        if let Some(seconds) = for_seconds {
            event = event.fact("seconds", seconds.to_string());
        }
        self.record(event);
        self.unsaved = true;
        Ok(until)
    }

    /// Ends modes that were set for a time and whose time is over. Whether any was.
    pub(super) fn end_modes(&mut self) -> bool {
        let now = now_unix();
        let over: Vec<String> = self
            .registry
            .artifacts
            .iter()
            .filter(|(_, entry)| entry.mode_until.is_some_and(|until| until <= now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &over {
            if let Err(refused) = self.change_mode(id, Mode::Enforce, None) {
                let event = Event::new(Code::ModeChanged, Outcome::Noted)
                    .artifact(id)
                    .detail("failed")
                    .message(refused.message);
                self.record(event);
                if let Some(entry) = self.registry.artifacts.get_mut(id) {
                    entry.mode_until = Some(now + RETRY);
                }
            }
        }
        !over.is_empty()
    }

    /// Attaches or lets go what is there only while some artifact needs it.
    pub(super) fn settle_on_demand(&mut self) {
        for (word, settled) in [
            ("datagrams", self.kernel.settle_datagrams()),
            ("measuring", self.kernel.settle_measuring()),
            ("scripts", self.settle_scripts()),
        ] {
            if let Err(error) = settled {
                self.record(
                    Event::new(Code::SinkChanged, Outcome::Noted)
                        .detail(word)
                        .message(chain(&error)),
                );
            }
        }
    }
}
