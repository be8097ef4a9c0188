//! What is found at the path of an executable or of a pinned file, while nobody can write to it; and what
//! becomes of a file that an artifact has no more.

use std::collections::{BTreeMap, BTreeSet};

use crate::admission::ExecutableFacts;
use crate::artifact::capability::{Capability, CapabilityName};
use crate::artifact::draft::Claimed;
use crate::enforcer::{self, Identity};
use crate::error::chain;
use crate::executable;
use crate::plan::FileKey;

use super::{Live, Node};

/// As what an artifact names a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamedAs {
    Executable,
    /// In the unit that the artifact holds for.
    ExecutableInUnit,
    Code,
}

impl NamedAs {
    pub(super) fn executable_of(has_unit: bool) -> Self {
        match has_unit {
            true => Self::ExecutableInUnit,
            false => Self::Executable,
        }
    }
}

/// What an artifact names, by path.
#[derive(Default)]
pub(super) struct Found {
    pub(super) executables: BTreeMap<String, Examined>,
    pub(super) code: BTreeMap<String, Examined>,
}

/// A file that is examined. Everything that is said of it comes from this one descriptor: its path
/// may be another file by now.
pub(super) struct Examined {
    pub(super) opened: executable::Opened,
    pub(super) identity: Identity,
    /// Whether its key was put into the kernel for the examination.
    ours: bool,
    /// Why nobody can be kept from writing to it.
    problem: Option<String>,
    /// Whether somebody could write to it when that began.
    written: bool,
}

impl Node {
    /// Blocks writes to all that an artifact names, before it is hashed.
    pub(super) fn examine_all(&mut self, slot_name: &str, claimed: &Claimed) -> Found {
        Found {
            executables: self.examine(
                slot_name,
                &claimed.paths,
                NamedAs::executable_of(claimed.unit.is_some()),
            ),
            code: self.examine(slot_name, &claimed.code, NamedAs::Code),
        }
    }

    /// Whether an artifact may name a file at all: else nobody is kept from writing to it for its sake.
    fn may_name(&self, path: &str, named: NamedAs) -> bool {
        let ceiling = self.site.scope.ceiling(None, &self.site.profiles);
        match named {
            NamedAs::Executable => ceiling.allows_executable(path, false),
            NamedAs::ExecutableInUnit => ceiling.allows_executable(path, true),
            NamedAs::Code => {
                let mut pinned = Capability::new(CapabilityName::CodeLoad);
                pinned.files.insert(path.to_owned(), String::new());
                ceiling.outside(&pinned).is_empty()
            }
        }
    }

    /// Blocks writes to files before they are hashed.
    pub(super) fn examine(
        &mut self,
        slot_name: &str,
        paths: &[String],
        named: NamedAs,
    ) -> BTreeMap<String, Examined> {
        let mut examined = BTreeMap::new();
        for path in paths {
            let allowed = self.may_name(path, named);
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
            let mut problem = blocked.as_ref().err().map(|error| chain(error));
            let ours = blocked.unwrap_or(false);
            // nobody becomes a writer from now on; one that was before could change what is read by now, and
            // be gone before it is looked for again
            let written = problem.is_none() && regular && self.is_written(&opened, &mut problem);
            let entry = Examined {
                opened,
                identity,
                ours,
                problem,
                written,
            };
            examined.insert(path.clone(), entry);
        }
        examined
    }

    /// Whether a file may change while it is read; why that cannot be told.
    fn is_written(&self, opened: &executable::Opened, problem: &mut Option<String>) -> bool {
        match self.kernel.identify(&opened.file) {
            Ok((now, _)) => now.writers > 0,
            Err(error) => {
                *problem = Some(chain(&error));
                false
            }
        }
    }

    /// Ends the examination of what was not bound or pinned in the meantime.
    pub(super) fn release_all(&mut self, found: &Found) {
        self.release(&found.executables);
        self.release(&found.code);
    }

    pub(super) fn release(&mut self, examined: &BTreeMap<String, Examined>) {
        for entry in examined.values().filter(|entry| entry.ours) {
            // what cannot be taken back stays write-protected, which is the safe side
            let _ = self.let_executable_go(&entry.identity);
        }
    }

    /// A file that was an executable: it may be another's by now, and others may pin it.
    pub(super) fn let_executable_go(&self, identity: &Identity) -> Result<(), enforcer::Error> {
        if self.owner(identity).is_some() {
            return Ok(());
        }
        match self.pinner(identity) {
            Some(slot) => self.kernel.pin_only(identity, slot),
            None => self.kernel.unbind(identity),
        }
    }

    /// A file that an artifact pins no more: others may, and it may be somebody's executable.
    pub(super) fn let_code_go(&self, identity: &Identity) -> Result<(), enforcer::Error> {
        match self.pinner(identity) {
            Some(slot) => self.kernel.pin(identity, slot),
            None => self.kernel.unpin(identity),
        }
    }

    /// After a start: ends what the kernel still pins for nobody, because it was replaced while no daemon ran.
    pub(super) fn let_strange_code_go(&self) -> Result<(), enforcer::Error> {
        for identity in self.kernel.pins()? {
            self.let_code_go(&identity)?;
        }
        Ok(())
    }

    /// The slot of an artifact in force that pins a file.
    fn pinner(&self, identity: &Identity) -> Option<u32> {
        let same = |own: &Identity| key(own) == key(identity);
        // what runs as a unit's own is nobody's program elsewhere, but nobody writes to it
        let in_unit =
            |id: &str, live: &Live| self.has_unit(id) && live.identities.values().any(same);
        self.live
            .iter()
            .find(|(id, live)| live.code.values().any(same) || in_unit(id, live))
            .map(|(_, live)| live.slot)
    }

    /// What is found at a path now, with the writers that the kernel counts. `own` are the ids to which the
    /// file may belong.
    pub(super) fn facts(
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
        let written = examined.written || self.is_written(&examined.opened, &mut problem);
        match self.kernel.identify(&examined.opened.file) {
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
                .filter(|id| !own.contains(*id) && !self.has_unit(id))
                .map(str::to_owned),
            written,
        }
    }

    /// The id of a file, and those that go when it is admitted: its earlier ones, and those of files that
    /// went away in this very change.
    pub(super) fn making_way(
        &self,
        id: &str,
        name: &str,
        vanished: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        self.registry
            .artifacts
            .iter()
            .filter(|(_, entry)| entry.file == name || vanished.contains(&entry.file))
            .map(|(id, _)| id.clone())
            .chain([id.to_owned()])
            .collect()
    }

    /// Whether an artifact holds for one unit only.
    fn has_unit(&self, id: &str) -> bool {
        let entry = self.registry.artifacts.get(id);
        entry.is_some_and(|entry| entry.effective.unit.is_some())
    }

    /// The artifact in force that a file belongs to, under whatever path.
    pub(super) fn owner(&self, identity: &Identity) -> Option<&str> {
        self.live
            .iter()
            .find(|(_, live)| {
                live.identities
                    .values()
                    .any(|own| key(own) == key(identity))
            })
            .map(|(id, _)| id.as_str())
    }
}

/// What makes two identities the same file.
pub(super) fn key(identity: &Identity) -> FileKey {
    identity.file_key()
}
