//! From the directories to what is to be done: which files are new, changed or gone, and in which order they
//! are decided.

use std::collections::{BTreeMap, BTreeSet};

use crate::admission::{self, Options, Part};
use crate::artifact::digest::sha256_hex;
use crate::artifact::draft::Claimed;
use crate::control::{Standing, Verdict};
use crate::error::chain;
use crate::event::{Code, Event, Outcome};
use crate::policies::{Policies, PolicyFile};
use crate::site::Site;

use super::examine::{Examined, Found, key};
use super::{FileVerdict, Node};

impl Node {
    /// Reads the policies directories and brings the kernel in line with them. `touched` limits the work
    /// to files of these names and to executables and pinned files of these paths; None means everything.
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
        let mut changed = false;
        let something_new = policies
            .present
            .iter()
            .any(|file| !self.files.contains_key(file));
        if !something_new {
            // nothing can take their place: their rights end before anything is read or hashed
            for file in &vanished {
                changed |= self.revoke_file(file, None);
            }
        }
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
        for (name, file) in order {
            changed |= self.consider(name, file, &vanished);
        }
        for name in self.files.keys().cloned().collect::<Vec<_>>() {
            if policies.unread.is_empty() && !policies.present.contains(&name) {
                changed |= self.file_gone(&name);
            }
        }
        for file in vanished {
            changed |= self.revoke_file(&file, None);
        }
        let first = !std::mem::replace(&mut self.reconciled, true);
        if changed || first {
            self.settle_units();
        }
        if changed {
            self.adopt();
            self.unsaved = true;
        }
        if !self.waiting_calls.is_empty() {
            // who waits for a verdict is told as well whether it lasts
            self.save();
        }
        self.answer_waiting();
        // last, because it waits for the disk
        self.store_inputs();
    }

    /// Writes down what the decisions were made from.
    fn store_inputs(&mut self) {
        if let Err(error) = self.inputs.store() {
            self.record(
                Event::new(Code::SinkChanged, Outcome::Noted)
                    .detail("inputs")
                    .message(chain(&error)),
            );
        }
    }

    /// The files of artifacts in force that are not there any more.
    fn vanished(&self, policies: &Policies) -> BTreeSet<String> {
        self.registry
            .artifacts
            .values()
            .filter(|entry| !entry.revoked)
            .map(|entry| entry.file.clone())
            .filter(|file| policies.unread.is_empty() && !policies.present.contains(file))
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

    /// The files that a change is about: touched themselves, or by a file that they name.
    fn concerned(&self, touched: &BTreeSet<String>) -> BTreeSet<String> {
        self.files
            .iter()
            .filter(|(_, file)| {
                !file.executables.is_disjoint(touched) || !file.code.is_disjoint(touched)
            })
            .map(|(name, _)| name.clone())
            .chain(touched.iter().cloned())
            .collect()
    }

    fn tell_ignored(&mut self, policies: &Policies) {
        for (path, why) in policies.ignored.iter().chain(&policies.unread) {
            if self.ignored.insert(path.clone()) {
                self.record(
                    Event::new(Code::FileIgnored, Outcome::Noted)
                        .fact("file", path.clone())
                        .message(why.clone()),
                );
            }
        }
        self.ignored.retain(|path| {
            policies.ignored.contains_key(path) || policies.unread.contains_key(path)
        });
        self.unread_directories = policies
            .unread
            .iter()
            .map(|(path, why)| {
                format!(
                    "The directory {path:?} is not read ({why}): what is put there or removed changes nothing"
                )
            })
            .collect();
    }

    /// Decides about one file. Whether anything changed.
    fn consider(&mut self, name: &str, file: &PolicyFile, vanished: &BTreeSet<String>) -> bool {
        let empty = Vec::new();
        let document = file.document.as_ref().unwrap_or(&empty);
        let claimed = Claimed::of(document);
        if let Some(id) = self.released_from(name, &sha256_hex(document)) {
            self.keep_released_file(name, id, document, claimed);
            return false;
        }
        let slot_name = claimed.id.clone().unwrap_or_else(|| format!("file:{name}"));
        let found = self.examine_all(&slot_name, &claimed);
        let own = self.making_way(&slot_name, name, vanished);
        let facts = |paths: &[String], found: &BTreeMap<String, Examined>| -> Vec<_> {
            let facts = paths.iter();
            facts
                .map(|path| self.facts(&own, path, found.get(path)))
                .collect()
        };
        let executables = facts(&claimed.paths, &found.executables);
        let mut code = facts(&claimed.code, &found.code);
        for fact in &mut code {
            // whose program it is besides is no reason to decide again
            fact.taken_by = None;
        }
        let mut inputs = admission::Inputs {
            name: name.to_owned(),
            document: document.clone(),
            file_problem: file.document.as_ref().err().cloned(),
            signature_present: file.signature,
            site_grants: file.site_grants.clone(),
            profiles: self.site.profiles.clone(),
            scope: self.site.scope.clone(),
            executables,
            code,
            node: self.gate_node(),
            admitted: self.rivals(name, &claimed, vanished),
            options: Options::default(),
        };
        let parts = inputs.parts();
        if self.is_unchanged(name, &fingerprint(&parts), &claimed, &found) {
            self.release_all(&found);
            return false;
        }
        self.inputs.take(parts.into_values());
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
        let verdict = self.carry_out(&inputs, &decision, &own, &found);
        self.release_all(&found);
        for event in admitted {
            if verdict.standing == Standing::Admitted {
                self.record(event);
            }
        }
        if verdict.standing == Standing::Admitted {
            self.revoke_file(name, verdict.id.as_deref());
            // now it is one of the admitted itself, and that alone is no reason to decide again
            inputs.admitted = self.rivals(name, &claimed, vanished);
        }
        let claimable: BTreeSet<String> = match verdict.standing {
            Standing::Admitted => BTreeSet::new(),
            _ => decision.claims.into_iter().collect(),
        };
        let claims = self.claim_for_file(name, &claimable);
        let verdict_standing = verdict.standing;
        self.files.insert(
            name.to_owned(),
            FileVerdict {
                document: sha256_hex(document),
                verdict,
                inputs: fingerprint(&inputs.parts()),
                executables: claimed.paths.into_iter().collect(),
                code: claimed.code.into_iter().collect(),
                claimable,
                claims,
                unit: match verdict_standing {
                    Standing::Admitted => None,
                    _ => decision.unit,
                },
                parsable: claimed.parsable,
            },
        );
        true
    }

    /// A file whose artifact is released is not decided about until it changes.
    fn keep_released_file(&mut self, name: &str, id: String, document: &[u8], claimed: Claimed) {
        let document = sha256_hex(document);
        let known = self.files.get(name);
        if known.is_some_and(|file| file.document == document) {
            return;
        }
        self.unclaim_but(name, &BTreeSet::new());
        let file = FileVerdict {
            document,
            verdict: Verdict {
                standing: Standing::Admitted,
                id: Some(id),
                error: None,
                detail: None,
                messages: Vec::new(),
                unenforced: None,
            },
            inputs: String::new(),
            executables: claimed.paths.into_iter().collect(),
            code: claimed.code.into_iter().collect(),
            claimable: BTreeSet::new(),
            claims: BTreeSet::new(),
            unit: None,
            parsable: true,
        };
        self.files.insert(name.to_owned(), file);
    }

    /// The same inputs as last time, and what it names are still the files that are bound and pinned.
    fn is_unchanged(
        &self,
        name: &str,
        fingerprint: &str,
        claimed: &Claimed,
        found: &Found,
    ) -> bool {
        let Some(before) = self.files.get(name) else {
            return false;
        };
        if before.inputs != fingerprint {
            return false;
        }
        if before.verdict.standing != Standing::Admitted {
            return self.moved(&before.claims).is_empty();
        }
        let Some(id) = &before.verdict.id else {
            return false;
        };
        let (Some(live), Some(entry)) = (self.live.get(id), self.registry.artifacts.get(id)) else {
            return false;
        };
        let bound = claimed.paths.iter().all(|path| {
            let bound = live.identities.get(path).map(key);
            bound.is_some() && bound == found.executables.get(path).map(|e| key(&e.identity))
        });
        // what was narrowed away is not pinned
        let pinned = entry.effective.code().all(|(path, _)| {
            let pinned = live.code.get(path).map(key);
            pinned.is_some() && pinned == found.code.get(path).map(|e| key(&e.identity))
        });
        bound && pinned
    }

    /// A file that was there is not any more, and it had no artifact in force.
    fn file_gone(&mut self, name: &str) -> bool {
        self.unclaim_but(name, &BTreeSet::new());
        self.files.remove(name).is_some()
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
}

/// One hash of all inputs of a decision.
fn fingerprint(parts: &BTreeMap<String, Part<'_>>) -> String {
    let lines: String = parts
        .iter()
        .map(|(name, part)| format!("{name} {}\n", part.sha256))
        .collect();
    sha256_hex(lines.as_bytes())
}
