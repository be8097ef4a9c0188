//! A hash of rules that all plans share: an entry's key begins with the number of its plan.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use super::{Error, Held, PlanNumber, Uses};
use crate::bpf::sys::{self, Plain};
use crate::bpf::table::{Table, Write};

pub(super) struct RuleHash<K> {
    table: Table<K, sys::rule>,
    plan_of: fn(&K) -> PlanNumber,
}

impl<K: Plain> RuleHash<K> {
    pub(super) fn new(
        map: OwnedFd,
        name: &'static str,
        plan_of: fn(&K) -> PlanNumber,
    ) -> Result<Self, Error> {
        Ok(Self {
            table: Table::new(map, name)?,
            plan_of,
        })
    }

    /// Writes the rules of a plan: keys and the numbers that they have in it.
    pub(super) fn stage(&self, rules: impl Iterator<Item = (K, u16)>) -> Result<(), Error> {
        for (key, rule) in rules {
            let value = sys::rule {
                used: 0,
                rule: u32::from(rule),
                pad: 0,
            };
            self.table.write(&key, &value, Write::Replace)?;
        }
        Ok(())
    }

    /// Whether all these rules are there. Those that are too many show in [`RuleHash::counts`].
    pub(super) fn read_back(&self, rules: impl Iterator<Item = (K, u16)>) -> Result<Held, Error> {
        let mut uses = Uses::new();
        for (key, rule) in rules {
            match self.table.lookup(&key)? {
                Some(held) if held.rule == u32::from(rule) => count(&mut uses, rule, held.used),
                _ => return Ok(Held::different()),
            }
        }
        Ok(Held::equal(uses))
    }

    /// Removes these rules, and tells how often each allowed something.
    pub(super) fn retire(&self, rules: impl Iterator<Item = (K, u16)>) -> Result<Uses, Error> {
        let mut uses = Uses::new();
        for (key, _) in rules {
            if let Some(rule) = self.table.lookup(&key)? {
                count(&mut uses, rule.rule as u16, rule.used);
                self.table.remove(&key)?;
            }
        }
        Ok(uses)
    }

    /// Adds how many rules the kernel holds of each plan.
    pub(super) fn counts(&self, counts: &mut BTreeMap<PlanNumber, u64>) -> Result<(), Error> {
        for (key, _) in self.table.entries()? {
            *counts.entry((self.plan_of)(&key)).or_insert(0) += 1;
        }
        Ok(())
    }

    /// Removes rules of plans that nobody uses: staged by a daemon that was killed, they would be granted to
    /// whoever gets the plan's number next.
    pub(super) fn remove_unused(&self, used: &BTreeSet<PlanNumber>) -> Result<(), Error> {
        for (key, _) in self.table.entries()? {
            if !used.contains(&(self.plan_of)(&key)) {
                self.table.remove(&key)?;
            }
        }
        Ok(())
    }
}

/// Adds to how often a rule allowed something.
pub(super) fn count(uses: &mut Uses, rule: u16, used: u64) {
    if rule != 0 && used != 0 {
        *uses.entry(rule).or_insert(0) += used;
    }
}
