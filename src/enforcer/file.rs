//! Domain file: the trie of paths of each plan, which also serves process:exec and code:load.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Enforcer, Error, Hook, PlanNumber, Uses, attach_trampolines, hooks_of};
use crate::artifact::capability::CapabilityName;
use crate::bpf::btf::KernelTypes;
use crate::bpf::object::Object;
use crate::bpf::sys::{self, Plain};
use crate::bpf::table::{MapArray, Table, Write};
use crate::plan::{FileNode, Plan};

type Trie = Table<sys::file_key, sys::file_rule>;

pub(super) struct FileRules {
    object: Object<sys::file_bpf>,
    tries: MapArray,
}

impl FileRules {
    pub(super) fn load(root: &Path, types: &KernelTypes) -> Result<Self, Error> {
        let object = Object::<sys::file_bpf>::load(root, types)?;
        Ok(Self {
            tries: MapArray::new(object.map("file_rules")?, "file_rules"),
            object,
        })
    }

    fn trie(&self, number: PlanNumber) -> Result<Option<Trie>, Error> {
        Ok(self.tries.get(number, "a plan's paths")?)
    }
}

impl Enforcer for FileRules {
    fn domain(&self) -> &'static str {
        "file"
    }

    fn capabilities(&self) -> &'static [CapabilityName] {
        &[
            CapabilityName::FsRead,
            CapabilityName::FsWrite,
            CapabilityName::FsCreate,
            CapabilityName::FsDelete,
        ]
    }

    fn hooks(&self) -> Vec<Hook> {
        hooks_of(&self.object)
    }

    fn attach(&self, directory: &Path) -> Result<(), Error> {
        attach_trampolines(&self.object, directory)
    }

    fn stage(&self, number: PlanNumber, plan: &Plan) -> Result<(), Error> {
        let trie = Trie::new_trie("plan_paths", plan.files.len() as u32)?;
        for (bytes, node) in &plan.files {
            trie.write(&key(bytes), &rule(bytes, node), Write::New)?;
        }
        Ok(self.tries.place(number, &trie)?)
    }

    fn verify(&self, number: PlanNumber, plan: &Plan) -> Result<bool, Error> {
        let Some(trie) = self.trie(number)? else {
            return Ok(false);
        };
        let keys: BTreeSet<Vec<u8>> = trie
            .keys()?
            .iter()
            .map(|key| sys::bytes_of(key).to_vec())
            .collect();
        if keys.len() != plan.files.len() {
            return Ok(false);
        }
        for (bytes, node) in &plan.files {
            // a lookup answers with the longest match: it must be this very key
            let key = key(bytes);
            if !keys.contains(sys::bytes_of(&key)) {
                return Ok(false);
            }
            let Some(held) = trie.lookup(&key)? else {
                return Ok(false);
            };
            let mut expected = rule(bytes, node);
            expected.near_used = held.near_used;
            expected.deep_used = held.deep_used;
            if sys::bytes_of(&expected) != sys::bytes_of(&held) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn uses(&self, number: PlanNumber, _: &Plan) -> Result<Uses, Error> {
        self.trie(number)?
            .map_or_else(|| Ok(Uses::new()), |trie| counted(&trie))
    }

    fn retire(&self, number: PlanNumber, _: &Plan) -> Result<Uses, Error> {
        let trie = self.trie(number)?;
        // ends once no program is inside: what is counted after this is complete
        self.tries.clear(number)?;
        trie.map_or_else(|| Ok(Uses::new()), |trie| counted(&trie))
    }
}

/// The counters beside the rules, summed by rule.
fn counted(trie: &Trie) -> Result<Uses, Error> {
    let mut uses = Uses::new();
    for (_, rule) in trie.entries()? {
        let numbers = rule.near.iter().chain(&rule.deep);
        let counts = rule.near_used.iter().chain(&rule.deep_used);
        for (number, count) in numbers.zip(counts) {
            if *number != 0 && *count != 0 {
                *uses.entry(*number).or_insert(0) += count;
            }
        }
    }
    Ok(uses)
}

/// `bytes` is at least 1 and at most RULE_MAX long: patterns are up to 255 bytes, and a NUL.
fn key(bytes: &[u8]) -> sys::file_key {
    let mut key = sys::file_key::zeroed();
    let length = bytes.len().min(key.path.len());
    key.prefixlen = length as u32 * 8;
    key.path[..length].copy_from_slice(&bytes[..length]);
    key
}

fn rule(bytes: &[u8], node: &FileNode) -> sys::file_rule {
    let mask = |numbers: &[u16]| {
        numbers
            .iter()
            .enumerate()
            .filter(|(_, number)| **number != 0)
            .fold(0_u8, |mask, (right, _)| mask | 1 << right)
    };
    let mut rule = sys::file_rule::zeroed();
    rule.near = node.near;
    rule.deep = node.deep;
    rule.near_mask = mask(&node.near);
    rule.deep_mask = mask(&node.deep);
    rule.exact_mask = node.exact;
    rule.flags = if node.ancestor {
        sys::NODE_ANCESTOR as u8
    } else {
        0
    };
    rule.length = bytes.len().saturating_sub(1) as u8;
    rule
}
