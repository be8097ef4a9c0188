//! Domain guard: what of Cartouche nobody else may touch. It has no rules of plans.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::exec::Identity;
use super::{Enforcer, Error, Hook, attach_trampolines, hooks_of};
use crate::artifact::capability::CapabilityName;
use crate::bpf::object::{Id, Object};
use crate::bpf::running::RunningKernel;
use crate::bpf::sys::{self, Plain};
use crate::bpf::table::{Table, Write};

/// The namespace in which mounts over the pins are everybody's.
const FIRST_NAMESPACE: &str = "/proc/1/ns/mnt";

pub(super) struct Guard {
    object: Object<sys::guard_bpf>,
    guarded: Table<u32, sys::guarded>,
    ids: Table<sys::guarded_id, u32>,
    keepers: Table<sys::keeper_key, u32>,
}

impl Guard {
    pub(super) fn load(root: &Path, running: &RunningKernel) -> Result<Self, Error> {
        let object = Object::<sys::guard_bpf>::load(root, running)?;
        Ok(Self {
            guarded: Table::new(object.map("guarded")?, "guarded")?,
            ids: Table::new(object.map("guarded_ids")?, "guarded_ids")?,
            keepers: Table::new(object.map("keepers")?, "keepers")?,
            object,
        })
    }

    /// From now on whatever file of this name lies in this directory may touch what is guarded.
    pub(super) fn keep(&self, directory: &Identity, name: &str) -> Result<(), Error> {
        let mut key = sys::keeper_key::zeroed();
        key.directory = directory.key();
        let length = name.len().min(key.name.len() - 1);
        key.name[..length].copy_from_slice(&name.as_bytes()[..length]);
        Ok(self.keepers.write(&key, &1, Write::Replace)?)
    }

    /// Guards these maps and programs, the pins, and the process that calls.
    pub(super) fn stand(&self, ids: &[Id], pins: &Identity, slot: u32) -> Result<(), Error> {
        let keys: Vec<_> = ids.iter().map(key).collect();
        for key in &keys {
            self.ids.write(key, &1, Write::Replace)?;
        }
        for (old, _) in self.ids.entries()? {
            if !keys
                .iter()
                .any(|key| (key.kind, key.id) == (old.kind, old.id))
            {
                self.ids.remove(&old)?;
            }
        }
        let path = Path::new(FIRST_NAMESPACE);
        let namespace = path.metadata().map_err(|source| Error::Pin {
            path: path.to_owned(),
            source,
        })?;
        let mut guarded = sys::guarded::zeroed();
        guarded.pins_ino = pins.ino;
        guarded.pins_dev = pins.dev;
        guarded.namespace = namespace.ino() as u32;
        guarded.slot = slot;
        guarded.on = 1;
        self.guarded.write(&0, &guarded, Write::Replace)?;
        Ok(self.object.stand_guard()?)
    }

    /// What an earlier process guards, and has left behind, guards the process that calls from now on.
    pub(super) fn take_over(&self) -> Result<(), Error> {
        if self.is_standing()? {
            self.object.stand_guard()?;
        }
        Ok(())
    }

    pub(super) fn stand_down(&self) -> Result<(), Error> {
        Ok(self
            .guarded
            .write(&0, &sys::guarded::zeroed(), Write::Replace)?)
    }

    pub(super) fn is_standing(&self) -> Result<bool, Error> {
        let guarded = self.guarded.lookup(&0)?;
        Ok(guarded.is_some_and(|guarded| guarded.on != 0))
    }
}

fn key(id: &Id) -> sys::guarded_id {
    let (kind, id) = match id {
        Id::Map(id) => (sys::guarded_kind::GUARDED_MAP, *id),
        Id::Program(id) => (sys::guarded_kind::GUARDED_PROGRAM, *id),
    };
    sys::guarded_id { kind: kind.0, id }
}

/// The directory and the name of a program.
pub(super) fn place_of(program: &Path) -> Option<(File, &str)> {
    let directory = File::open(program.parent()?).ok()?;
    Some((directory, program.file_name()?.to_str()?))
}

impl Enforcer for Guard {
    fn domain(&self) -> &'static str {
        "guard"
    }

    fn capabilities(&self) -> &'static [CapabilityName] {
        &[]
    }

    fn hooks(&self) -> Vec<Hook> {
        hooks_of(&self.object)
    }

    fn ids(&self) -> Result<Vec<Id>, Error> {
        Ok(self.object.ids()?)
    }

    fn attach(&self, directory: &Path) -> Result<(), Error> {
        attach_trampolines(&self.object, directory)
    }
}
