//! Domain cut: what tasks of revoked artifacts hold open. No rules; attached only while there are such tasks.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Enforcer, Error, Hook, hooks_of, on_demand};
use crate::artifact::capability::CapabilityName;
use crate::bpf::object::{Id, Object};
use crate::bpf::running::RunningKernel;
use crate::bpf::sys;

/// Judge every read, write, send and receive of everybody.
pub const CUT_PROGRAMS: [&str; 4] = [
    "file_permission",
    "socket_sendmsg",
    "socket_recvmsg",
    "socket_getsockopt",
];

pub(super) struct Cut {
    object: Object<sys::cut_bpf>,
}

impl Cut {
    pub(super) fn load(root: &Path, running: &RunningKernel) -> Result<Self, Error> {
        Ok(Self {
            object: Object::<sys::cut_bpf>::load(root, running)?,
        })
    }

    /// Attaches the programs, or lets them go. Whether anything changed.
    pub(super) fn watch_held(&self, links: &Path, wanted: bool) -> Result<bool, Error> {
        on_demand::settle(wanted, &CUT_PROGRAMS, links, |name| {
            on_demand::attach_again(&self.object.program(name)?)
        })
    }

    /// Running processes that are bound: their slots and numbers. One that is begun meanwhile may be missing.
    pub(super) fn bound(&self) -> Result<BTreeSet<(u32, u32)>, Error> {
        let records = self.object.program("list_bound")?.iterate()?;
        Ok(records
            .chunks_exact(size_of::<sys::bound_task>())
            .filter_map(sys::from_bytes::<sys::bound_task>)
            .map(|bound| (bound.slot, bound.tgid))
            .collect())
    }
}

impl Enforcer for Cut {
    fn domain(&self) -> &'static str {
        "cut"
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

    /// Nothing: see [`watch_held`](Self::watch_held).
    fn attach(&self, _: &Path) -> Result<(), Error> {
        Ok(())
    }
}
