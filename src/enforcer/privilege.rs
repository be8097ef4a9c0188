//! Domain privilege: powers over the machine. Refused flatly in this version, so it has no rules.

use std::path::Path;

use super::{Enforcer, Error, Hook, attach_trampolines, hooks_of};
use crate::artifact::capability::CapabilityName;
use crate::bpf::btf::KernelTypes;
use crate::bpf::object::Object;
use crate::bpf::sys;

pub(super) struct Privilege {
    object: Object<sys::privilege_bpf>,
}

impl Privilege {
    pub(super) fn load(root: &Path, types: &KernelTypes) -> Result<Self, Error> {
        Ok(Self {
            object: Object::<sys::privilege_bpf>::load(root, types)?,
        })
    }
}

impl Enforcer for Privilege {
    fn domain(&self) -> &'static str {
        "privilege"
    }

    fn capabilities(&self) -> &'static [CapabilityName] {
        &[]
    }

    fn hooks(&self) -> Vec<Hook> {
        hooks_of(&self.object)
    }

    fn attach(&self, directory: &Path) -> Result<(), Error> {
        attach_trampolines(&self.object, directory)
    }
}
