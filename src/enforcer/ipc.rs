//! Domain ipc: what a subject does to processes of others, by the id of their artifact. Its paths of sockets are
//! in the file domain's trie, its single words among the grants of domain privilege.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::rule_hash::RuleHash;
use super::{Enforcer, Error, Held, Hook, PlanNumber, Uses, attach_trampolines, hooks_of};
use crate::artifact::capability::CapabilityName;
use crate::bpf::object::{Id, Object};
use crate::bpf::running::RunningKernel;
use crate::bpf::sys::{self, Plain};
use crate::bpf::table::Table;
use crate::plan::Plan;

pub(super) struct Ipc {
    object: Object<sys::ipc_bpf>,
    targets: RuleHash<sys::target_key>,
}

impl Ipc {
    pub(super) fn load(root: &Path, running: &RunningKernel) -> Result<Self, Error> {
        let object = Object::<sys::ipc_bpf>::load(root, running)?;
        Ok(Self {
            targets: RuleHash::new(
                object.map("target_grants")?,
                "target_grants",
                |key: &sys::target_key| key.plan,
            )?,
            object,
        })
    }

    /// Whose a slot is; target rules find it there.
    pub(super) fn holders(&self) -> Result<Table<u32, sys::holder>, Error> {
        Ok(Table::new(self.object.map("holders")?, "holders")?)
    }
}

/// What a plan allows towards other artifacts, as the kernel has it.
fn targets(number: PlanNumber, plan: &Plan) -> impl Iterator<Item = (sys::target_key, u16)> {
    plan.targets.iter().map(move |(target, rule)| {
        let mut key = sys::target_key::zeroed();
        key.plan = number;
        key.operation = target.operation;
        // an id is shorter than the key, which ends in NUL
        let length = target.artifact.len().min(key.artifact.len() - 1);
        key.artifact[..length].copy_from_slice(&target.artifact.as_bytes()[..length]);
        (key, *rule)
    })
}

impl Enforcer for Ipc {
    fn domain(&self) -> &'static str {
        "ipc"
    }

    fn capabilities(&self) -> &'static [CapabilityName] {
        &[
            CapabilityName::IpcUnix,
            CapabilityName::IpcReceive,
            CapabilityName::ProcessSignal,
            CapabilityName::ProcessTrace,
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
        self.targets.stage(targets(number, plan))
    }

    fn read_back(&self, number: PlanNumber, plan: &Plan) -> Result<Held, Error> {
        self.targets.read_back(targets(number, plan))
    }

    fn counts(&self, counts: &mut BTreeMap<PlanNumber, u64>) -> Result<(), Error> {
        self.targets.counts(counts)
    }

    fn remove_unused(&self, used: &BTreeSet<PlanNumber>) -> Result<(), Error> {
        self.targets.remove_unused(used)
    }

    fn retire(&self, number: PlanNumber, plan: &Plan) -> Result<Uses, Error> {
        self.targets.retire(targets(number, plan))
    }
}
