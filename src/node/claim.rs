//! Which paths run nothing but what is admitted, and for whose sake.

use std::collections::BTreeSet;
use std::path::Path;

use crate::enforcer::{self, SlotState};
use crate::error::chain;
use crate::event::{Code, Event, Outcome};
use crate::executable;

use super::Node;

impl Node {
    /// Claims what a rejected or waiting artifact names, unless somebody else holds the claim.
    pub(super) fn claim_for_file(
        &mut self,
        name: &str,
        paths: &BTreeSet<String>,
    ) -> BTreeSet<(u32, String)> {
        let mut claims = BTreeSet::new();
        for path in paths {
            let claim = (self.device_now(path), path.clone());
            let mut others = self.registry.artifacts.values();
            if others.any(|entry| entry.claims.contains(&claim)) {
                continue;
            }
            match self.claim_as_file(name, claim.0, path) {
                Ok(()) => {
                    claims.insert(claim);
                }
                Err(error) => self.tell_claim(path, &error),
            }
        }
        self.unclaim_but(name, &claims);
        claims
    }

    /// After a mount: paths that lead to another file system now are looked at again, and what was
    /// revoked stays claimed there too. Whether anything changed.
    pub fn follow_mounts(&mut self) -> bool {
        let mut touched = BTreeSet::new();
        let mut revoked = Vec::new();
        for file in self.files.values() {
            touched.extend(self.moved(&file.claims));
        }
        for (id, entry) in &self.registry.artifacts {
            let moved = self.moved(&entry.claims);
            if entry.revoked {
                revoked.extend(moved.into_iter().map(|path| (id.clone(), path)));
            } else {
                touched.extend(moved);
            }
        }
        for (id, path) in &revoked {
            let dev = self.device_now(path);
            let claimed = self
                .slot(id)
                .and_then(|slot| self.kernel.claim(dev, path, slot));
            match claimed {
                Ok(()) => {
                    if let Some(entry) = self.registry.artifacts.get_mut(id) {
                        entry.claims.insert((dev, path.clone()));
                        self.unsaved = true;
                    }
                }
                Err(error) => self.tell_claim(path, &error),
            }
        }
        if !touched.is_empty() {
            self.reconcile(Some(&touched));
        }
        !touched.is_empty() || !revoked.is_empty()
    }

    /// The paths of claims that lead to a file system where they are not claimed.
    pub(super) fn moved(&self, claims: &BTreeSet<(u32, String)>) -> BTreeSet<String> {
        claims
            .iter()
            .map(|(_, path)| (self.device_now(path), path.clone()))
            .filter(|claim| !claims.contains(claim))
            .map(|(_, path)| path)
            .collect()
    }

    pub(super) fn device_now(&self, path: &str) -> u32 {
        self.device(path).unwrap_or_else(|| device_of(path))
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
    pub(super) fn unclaim_but(&mut self, name: &str, kept: &BTreeSet<(u32, String)>) {
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
