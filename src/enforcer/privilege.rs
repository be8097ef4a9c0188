//! Domain privilege: powers over the machine. Holds the grants of all domains that are one word.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::rule_hash::RuleHash;
use super::{Enforcer, Error, Held, Hook, PlanNumber, Uses, attach_trampolines, hooks_of};
use crate::artifact::capability::CapabilityName;
use crate::bpf::object::{Id, Object};
use crate::bpf::running::RunningKernel;
use crate::bpf::sys;
use crate::plan::Plan;

pub(super) struct Privilege {
    object: Object<sys::privilege_bpf>,
    grants: RuleHash<sys::grant_key>,
}

impl Privilege {
    pub(super) fn load(root: &Path, running: &RunningKernel) -> Result<Self, Error> {
        let object = Object::<sys::privilege_bpf>::load(root, running)?;
        Ok(Self {
            grants: RuleHash::new(object.map("grants")?, "grants", |key: &sys::grant_key| {
                key.plan
            })?,
            object,
        })
    }
}

/// The grants of a plan, as the kernel has them.
fn grants(number: PlanNumber, plan: &Plan) -> impl Iterator<Item = (sys::grant_key, u16)> {
    plan.grants.iter().map(move |(grant, rule)| {
        let key = sys::grant_key {
            plan: number,
            operation: grant.operation,
            value: grant.value,
        };
        (key, *rule)
    })
}

impl Enforcer for Privilege {
    fn domain(&self) -> &'static str {
        "privilege"
    }

    fn capabilities(&self) -> &'static [CapabilityName] {
        &[
            CapabilityName::KernelCapability,
            CapabilityName::KernelNamespace,
            CapabilityName::KernelPerf,
            CapabilityName::KernelKeyring,
            CapabilityName::KernelIoUring,
        ]
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

    fn stage(&self, number: PlanNumber, plan: &Plan) -> Result<(), Error> {
        self.grants.stage(grants(number, plan))
    }

    fn read_back(&self, number: PlanNumber, plan: &Plan) -> Result<Held, Error> {
        self.grants.read_back(grants(number, plan))
    }

    fn counts(&self, counts: &mut BTreeMap<PlanNumber, u64>) -> Result<(), Error> {
        self.grants.counts(counts)
    }

    fn remove_unused(&self, used: &BTreeSet<PlanNumber>) -> Result<(), Error> {
        self.grants.remove_unused(used)
    }

    fn retire(&self, number: PlanNumber, plan: &Plan) -> Result<Uses, Error> {
        self.grants.retire(grants(number, plan))
    }
}
