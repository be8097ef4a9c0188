//! Units whose every process is a subject, and the executables that they start as their own.

use std::collections::{BTreeMap, BTreeSet};

use super::Error;
use super::exec::Identity;
use crate::bpf::object::Object;
use crate::bpf::sys::{self, Plain};
use crate::bpf::table::{Table, Write};

pub(super) struct Units {
    slots: Table<sys::unit_key, u32>,
    programs: Table<sys::unit_program_key, u32>,
}

/// What the kernel is to hold: units by name, and the executables of slots.
#[derive(Debug, Default)]
pub struct UnitRules {
    pub units: BTreeMap<String, u32>,
    pub programs: BTreeSet<(Identity, u32)>,
}

impl Units {
    pub(super) fn new(object: &Object<sys::exec_bpf>) -> Result<Self, Error> {
        Ok(Self {
            slots: Table::new(object.map("units")?, "units")?,
            programs: Table::new(object.map("unit_programs")?, "unit_programs")?,
        })
    }

    /// Whether the kernel holds any unit.
    pub(super) fn are_there(&self) -> Result<bool, Error> {
        Ok(!self.slots.entries()?.is_empty())
    }

    /// Brings the kernel in line; lets others go only if these are `all`. Executables come before their units
    /// and go after them, so that no unit lacks its own.
    pub(super) fn hold(
        &self,
        object: &Object<sys::exec_bpf>,
        rules: &UnitRules,
        all: bool,
    ) -> Result<(), Error> {
        let keys: Vec<_> = rules.programs.iter().map(program_key).collect();
        for key in &keys {
            self.programs.write(key, &1, Write::Replace)?;
        }
        if !rules.units.is_empty() {
            object.look_for_units(true);
        }
        for (name, slot) in &rules.units {
            let key = unit_key(name);
            if self.slots.lookup(&key)? != Some(*slot) {
                self.slots.write(&key, slot, Write::Replace)?;
            }
        }
        if !all {
            return Ok(());
        }
        let names: BTreeSet<_> = rules.units.keys().map(|name| unit_key(name).name).collect();
        for (key, _) in self.slots.entries()? {
            if !names.contains(&key.name) {
                self.slots.remove(&key)?;
            }
        }
        if rules.units.is_empty() {
            object.look_for_units(false);
        }
        let wanted: BTreeSet<&[u8]> = keys.iter().map(sys::bytes_of).collect();
        for (key, _) in self.programs.entries()? {
            if !wanted.contains(sys::bytes_of(&key)) {
                self.programs.remove(&key)?;
            }
        }
        Ok(())
    }

    /// Whose unit this is.
    pub(super) fn slot_of(&self, name: &str) -> Result<Option<u32>, Error> {
        Ok(self.slots.lookup(&unit_key(name))?)
    }

    pub(super) fn is_program(&self, identity: Identity, slot: u32) -> Result<bool, Error> {
        let key = program_key(&(identity, slot));
        Ok(self.programs.lookup(&key)?.is_some())
    }
}

/// `name` is at most 255 bytes long.
fn unit_key(name: &str) -> sys::unit_key {
    let mut key = sys::unit_key::zeroed();
    let length = name.len().min(key.name.len() - 1);
    key.name[..length].copy_from_slice(&name.as_bytes()[..length]);
    key
}

fn program_key((identity, slot): &(Identity, u32)) -> sys::unit_program_key {
    sys::unit_program_key {
        file: identity.key(),
        slot: *slot,
        pad: 0,
    }
}
