//! Domain file: the tries of paths of each plan, which also serve process:exec and code:load.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::exec::{identity, subject_key};
use super::{Enforcer, Error, Held, Hook, PlanNumber, Uses, attach_trampolines, hooks_of};
use crate::artifact::capability::CapabilityName;
use crate::bpf::object::{Id, Object};
use crate::bpf::running::RunningKernel;
use crate::bpf::sys::{self, Plain};
use crate::bpf::table::{MapArray, Table, Write};
use crate::plan::{FileKey, FileNode, Plan, is_long};

type Entry<K> = (K, sys::file_rule);

pub(super) struct FileRules {
    object: Object<sys::file_bpf>,
    short: Tries<sys::short_key>,
    long: Tries<sys::long_key>,
    ways: Table<sys::subject_key, u32>,
}

/// The tries of all plans for keys of one length.
struct Tries<K> {
    places: MapArray,
    name: &'static str,
    key: fn(&[u8]) -> K,
}

impl<K: Plain> Tries<K> {
    fn new(
        object: &Object<sys::file_bpf>,
        name: &'static str,
        key: fn(&[u8]) -> K,
    ) -> Result<Self, Error> {
        Ok(Self {
            places: MapArray::new(object.map(name)?, name),
            name,
            key,
        })
    }

    fn stage(&self, number: PlanNumber, nodes: &Nodes<'_>) -> Result<(), Error> {
        let trie = Table::new_trie(TRIE, nodes.len() as u32)?;
        for (bytes, node) in nodes {
            trie.write(&(self.key)(bytes), &rule(bytes, node), Write::New)?;
        }
        Ok(self.places.place(number, &trie)?)
    }

    fn entries(&self, number: PlanNumber) -> Result<Option<Vec<Entry<K>>>, Error> {
        let trie: Option<Table<K, sys::file_rule>> = self.places.get(number, self.name)?;
        Ok(trie.map(|trie| trie.entries()).transpose()?)
    }

    /// The counters of a trie that holds exactly these nodes; None of any other.
    fn read_back(&self, number: PlanNumber, nodes: &Nodes<'_>) -> Result<Option<Uses>, Error> {
        let Some(entries) = self.entries(number)? else {
            return Ok(None);
        };
        let held: BTreeMap<&[u8], &sys::file_rule> = entries
            .iter()
            .map(|(key, rule)| (sys::bytes_of(key), rule))
            .collect();
        let equal = |(bytes, node): (&&[u8], &&FileNode)| {
            let held = held.get(sys::bytes_of(&(self.key)(bytes)));
            held.is_some_and(|held| {
                let mut expected = rule(bytes, node);
                expected.near_used = held.near_used;
                expected.deep_used = held.deep_used;
                sys::bytes_of(&expected) == sys::bytes_of(*held)
            })
        };
        let all = held.len() == nodes.len() && nodes.iter().all(equal);
        Ok(all.then(|| counted(&entries)))
    }

    fn retire(&self, number: PlanNumber) -> Result<Uses, Error> {
        let trie: Option<Table<K, sys::file_rule>> = self.places.get(number, self.name)?;
        let Some(trie) = trie else {
            return Ok(Uses::new());
        };
        // ends once no program is inside: what is counted after this is complete
        self.places.clear(number)?;
        Ok(counted(&trie.entries()?))
    }
}

/// The name of every trie in the kernel.
const TRIE: &str = "cartouche_paths";

/// Nodes by the bytes of their keys.
type Nodes<'p> = BTreeMap<&'p [u8], &'p FileNode>;

/// The nodes of the first and of the second trie.
fn nodes(plan: &Plan) -> (Nodes<'_>, Nodes<'_>) {
    plan.files
        .iter()
        .map(|(bytes, node)| (bytes.as_slice(), node))
        .partition(|(bytes, _)| !is_long(bytes))
}

impl FileRules {
    pub(super) fn load(root: &Path, running: &RunningKernel) -> Result<Self, Error> {
        let object = Object::load_file(root, running)?;
        Ok(Self {
            short: Tries::new(&object, "file_rules", short_key)?,
            long: Tries::new(&object, "long_file_rules", long_key)?,
            ways: Table::new(object.map("script_ways")?, "script_ways")?,
            object,
        })
    }

    /// From now on no subject moves or removes these files and directories.
    pub(super) fn keep_ways(&self, places: &BTreeSet<FileKey>) -> Result<(), Error> {
        for place in places {
            self.ways.write(&subject_key(*place), &1, Write::Replace)?;
        }
        Ok(())
    }

    /// The same, and subjects may do so with all others.
    pub(super) fn keep_only_ways(&self, places: &BTreeSet<FileKey>) -> Result<(), Error> {
        self.keep_ways(places)?;
        for (key, _) in self.ways.entries()? {
            if !places.contains(&identity(&key).file_key()) {
                self.ways.remove(&key)?;
            }
        }
        Ok(())
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
            CapabilityName::FsSetuid,
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
        let (short, long) = nodes(plan);
        if !long.is_empty() {
            self.long.stage(number, &long)?;
        }
        self.short.stage(number, &short)
    }

    fn read_back(&self, number: PlanNumber, plan: &Plan) -> Result<Held, Error> {
        let (short, long) = nodes(plan);
        let Some(mut uses) = self.short.read_back(number, &short)? else {
            return Ok(Held::different());
        };
        if !long.is_empty() {
            match self.long.read_back(number, &long)? {
                Some(more) => add(&mut uses, &more),
                None => return Ok(Held::different()),
            }
        }
        Ok(Held::equal(uses))
    }

    fn retire(&self, number: PlanNumber, _: &Plan) -> Result<Uses, Error> {
        let mut uses = self.short.retire(number)?;
        add(&mut uses, &self.long.retire(number)?);
        Ok(uses)
    }
}

/// The counters beside the rules, summed by rule.
fn counted<K>(entries: &[Entry<K>]) -> Uses {
    let mut uses = Uses::new();
    for (_, rule) in entries {
        let numbers = rule.near.iter().chain(&rule.deep);
        let counts = rule.near_used.iter().chain(&rule.deep_used);
        for (number, count) in numbers.zip(counts) {
            let number = number & !(sys::RULE_ARTIFACT as u16);
            if number != 0 && *count != 0 {
                *uses.entry(number).or_insert(0) += u64::from(*count);
            }
        }
    }
    uses
}

fn add(uses: &mut Uses, more: &Uses) {
    for (number, count) in more {
        *uses.entry(*number).or_insert(0) += count;
    }
}

/// `bytes` is at least 1 and at most RULE_SHORT long.
fn short_key(bytes: &[u8]) -> sys::short_key {
    let mut key = sys::short_key::zeroed();
    let length = bytes.len().min(key.path.len());
    key.prefixlen = length as u32 * 8;
    key.path[..length].copy_from_slice(&bytes[..length]);
    key
}

/// `bytes` is at least 1 and at most RULE_MAX long: patterns are up to 255 bytes, and a NUL.
fn long_key(bytes: &[u8]) -> sys::long_key {
    let mut key = sys::long_key::zeroed();
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
