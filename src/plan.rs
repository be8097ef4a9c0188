//! What an envelope means to the kernel: all rules of one artifact, folded so that one lookup decides.
//! Pure; loading a plan is the enforcers' part.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::admission::Effective;
use crate::artifact::capability::{Capability, CapabilityName, Transition};
use crate::artifact::endpoint::{Endpoint, Protocol};
use crate::artifact::kcap;
use crate::artifact::pattern::{Pattern, PatternKind};
use crate::artifact::protected;
use crate::artifact::socket::SocketKind;
use crate::bpf::sys;

/// Rights of files, in the order of `enum right` in c-bpf/cartouche.h.
const FILE_RIGHTS: [(usize, CapabilityName); 8] = [
    (sys::right::RIGHT_READ.0 as usize, CapabilityName::FsRead),
    (sys::right::RIGHT_WRITE.0 as usize, CapabilityName::FsWrite),
    (
        sys::right::RIGHT_CREATE.0 as usize,
        CapabilityName::FsCreate,
    ),
    (
        sys::right::RIGHT_DELETE.0 as usize,
        CapabilityName::FsDelete,
    ),
    (
        sys::right::RIGHT_SETUID.0 as usize,
        CapabilityName::FsSetuid,
    ),
    (
        sys::right::RIGHT_EXEC.0 as usize,
        CapabilityName::ProcessExec,
    ),
    (sys::right::RIGHT_LOAD.0 as usize, CapabilityName::CodeLoad),
    (UNIX, CapabilityName::IpcUnix),
];
const UNIX: usize = sys::right::RIGHT_UNIX.0 as usize;

/// A byte that no rule can contain stands for "any other name".
const ANY_NAME: &str = "\u{1}";

/// Read and written by everything that was ever linked; no envelope has to say so.
const IMPLIED_DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// Where terminals lie, of which nobody knows the names before.
const TERMINALS: &str = "/dev/pts";

/// All rules of one artifact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// By the bytes of the trie's key: an exact rule ends in NUL.
    pub files: BTreeMap<Vec<u8>, FileNode>,
    /// One address and one port each.
    pub endpoints: BTreeMap<SingleEndpoint, u16>,
    /// Networks and ranges of ports.
    pub ranges: Vec<EndpointRange>,
    /// Powers, Linux capabilities, kinds of sockets.
    pub grants: BTreeMap<Grant, u16>,
    /// What it may do to processes of other artifacts.
    pub targets: BTreeMap<Target, u16>,
    /// Files that may be mapped executable for what they are.
    pub code: BTreeMap<FileKey, u16>,
    /// PLAN_* of c-bpf/cartouche.h.
    pub flags: u16,
    /// By path: the rules of pinned files, which [`Plan::pin`] makes files of.
    pinned: BTreeMap<String, u16>,
    /// Rule n is `rules[n - 1]`; 0 is "no rule".
    pub rules: Vec<Rule>,
}

/// A file as the kernel itself knows it; see `struct subject_key`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct FileKey {
    pub ino: u64,
    pub dev: u32,
    pub generation: u32,
}

/// The origin of what no envelope has to say.
pub const IMPLIED: &str = "implied";

/// One declared line of an envelope, as audit lines and counters name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    pub capability: CapabilityName,
    /// The path, endpoint or word; empty if the capability has none.
    pub text: String,
    /// Where it came from: the capability itself, a profile, or [`IMPLIED`].
    pub origin: String,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.as_str() {
            "" => write!(f, "{}", self.capability),
            text => write!(f, "{} {text}", self.capability),
        }
    }
}

/// The rights of everything whose longest match a key is; see `struct file_rule`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileNode {
    /// Numbers of rules, for the right to run with RULE_ARTIFACT.
    pub near: [u16; sys::right::RIGHTS.0 as usize],
    pub deep: [u16; sys::right::RIGHTS.0 as usize],
    /// Rights that an exact rule grants; only these open a device.
    pub exact: u8,
    /// A rule begins here or below, in a place where the subject could rename.
    pub ancestor: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SingleEndpoint {
    pub listen: bool,
    /// IPPROTO_*.
    pub protocol: u8,
    /// IPv4 as v4-mapped.
    pub address: [u8; 16],
    pub port: u16,
}

/// An operation and what it is done with; see `struct grant_key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// `enum operation`.
    pub operation: u32,
    pub value: u32,
}

/// An operation on processes of another artifact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// `enum operation`.
    pub operation: u32,
    pub artifact: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointRange {
    pub listen: bool,
    pub protocol: u8,
    pub address: [u8; 16],
    pub mask: [u8; 16],
    pub port_first: u16,
    pub port_last: u16,
    pub rule: u16,
}

/// Why an envelope cannot be a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    TooManyRules(usize),
    TooManyRanges(usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyRules(count) => write!(
                f,
                "The envelope has {count} rules and the kernel takes at most {RULES_MAX}"
            ),
            Self::TooManyRanges(count) => write!(
                f,
                "The envelope has {count} endpoints with a network or a range of ports and the kernel \
                 takes at most {}",
                sys::NET_RANGES_MAX
            ),
        }
    }
}

impl std::error::Error for Error {}

/// Numbers of rules, above which a bit of their own is.
const RULES_MAX: u16 = sys::RULE_ARTIFACT as u16 - 1;

/// Whether a key lies in the second trie of a plan.
pub fn is_long(key: &[u8]) -> bool {
    key.len() > sys::RULE_SHORT as usize
}

/// One capability and the numbers of its rules.
struct Numbered {
    capability: Capability,
    paths: BTreeMap<Pattern, u16>,
}

impl Plan {
    /// Folds an envelope. `loaders` are the interpreters that its executables need (PT_INTERP, `#!`):
    /// implied, as the executables themselves.
    pub fn compile(effective: &Effective, loaders: &BTreeSet<String>) -> Result<Self, Error> {
        let mut plan = Self::default();
        let mut numbered = Vec::new();
        for (capability, origin) in capabilities(effective, loaders) {
            let mut paths = BTreeMap::new();
            for path in &capability.paths {
                paths.insert(path.clone(), plan.number(&capability, path, &origin)?);
            }
            for endpoint in &capability.endpoints {
                let number = plan.number(&capability, endpoint, &origin)?;
                plan.add_endpoint(capability.name, endpoint, number);
            }
            for path in capability.files.keys() {
                let number = plan.number(&capability, path, &origin)?;
                plan.pinned.entry(path.clone()).or_insert(number);
            }
            plan.add_words(&capability, &origin)?;
            numbered.push(Numbered { capability, paths });
        }
        if plan.ranges.len() > sys::NET_RANGES_MAX as usize {
            return Err(Error::TooManyRanges(plan.ranges.len()));
        }
        for key in keys(&numbered) {
            let node = fold(&key, &numbered);
            plan.files.insert(key, node);
        }
        plan.mark_ancestors(&numbered);
        let declared = &effective.capabilities;
        if declared.iter().any(|one| !one.capability.except.is_empty()) {
            plan.flags |= sys::PLAN_EXCEPT as u16;
        }
        if plan.files.keys().any(|key| is_long(key)) {
            plan.flags |= sys::PLAN_LONG_RULES as u16;
        }
        Ok(plan)
    }

    /// What slot 0 is held to: the paths at which nothing runs that no artifact admits.
    pub fn managed(patterns: &BTreeSet<Pattern>) -> Result<Self, Error> {
        let mut plan = Self::default();
        let mut capability = Capability::new(CapabilityName::ProcessExec);
        capability.paths.clone_from(patterns);
        let mut paths = BTreeMap::new();
        for path in patterns {
            paths.insert(path.clone(), plan.number(&capability, path, IMPLIED)?);
        }
        let numbered = [Numbered { capability, paths }];
        plan.files = keys(&numbered)
            .into_iter()
            .map(|key| {
                let node = fold(&key, &numbered);
                (key, node)
            })
            .collect();
        plan.flags = sys::PLAN_MANAGED as u16;
        if plan.files.keys().any(|key| is_long(key)) {
            plan.flags |= sys::PLAN_LONG_RULES as u16;
        }
        Ok(plan)
    }

    /// The same plan for the files that were found where it pins some. One that was not found is not
    /// mapped.
    pub fn pin(mut self, found: &BTreeMap<String, FileKey>) -> Self {
        for (path, rule) in &self.pinned {
            if let Some(key) = found.get(path) {
                self.code.entry(*key).or_insert(*rule);
            }
        }
        if !self.code.is_empty() {
            self.flags |= sys::PLAN_PINNED_CODE as u16;
        }
        self
    }

    /// How many rules lie in tables that plans share.
    pub fn shared_rules(&self) -> u64 {
        let shared =
            self.endpoints.len() + self.grants.len() + self.targets.len() + self.code.len();
        shared as u64
    }

    /// The rule of a number that the kernel reported.
    pub fn rule(&self, number: u16) -> Option<&Rule> {
        self.rules.get(usize::from(number).checked_sub(1)?)
    }

    /// The number of the rule that grants a right of files at a path, 0 if none does: what the kernel finds.
    pub fn rule_for(&self, right: sys::right, path: &[u8]) -> u16 {
        let Some((node, deep)) = self.node_for(path) else {
            return 0;
        };
        let numbers = if deep { &node.deep } else { &node.near };
        numbers[right.0 as usize]
    }

    /// Whether a file at a path may be opened for a right, as the kernel would decide.
    pub fn may_open(&self, right: sys::right, path: &[u8], is_device: bool) -> bool {
        let exact = || {
            self.node_for(path)
                .is_some_and(|(node, deep)| !deep && node.exact & 1 << right.0 != 0)
        };
        self.rule_for(right, path) != 0 && (!is_device || exact())
    }

    /// The longest key that a path, with its NUL, begins with, and whether a slash follows.
    fn node_for(&self, path: &[u8]) -> Option<(&FileNode, bool)> {
        let bytes = [path, b"\0"].concat();
        let longest = bytes.len().min(sys::RULE_MAX as usize);
        (1..=longest).rev().find_map(|length| {
            let node = self.files.get(&bytes[..length])?;
            Some((node, bytes[length..].contains(&b'/')))
        })
    }

    fn number(
        &mut self,
        capability: &Capability,
        text: &impl fmt::Display,
        origin: &str,
    ) -> Result<u16, Error> {
        self.rules.push(Rule {
            capability: capability.name,
            text: text.to_string(),
            origin: origin.to_owned(),
        });
        let number = u16::try_from(self.rules.len()).ok();
        number
            .filter(|number| *number <= RULES_MAX)
            .ok_or(Error::TooManyRules(self.rules.len()))
    }

    fn add_endpoint(&mut self, name: CapabilityName, endpoint: &Endpoint, rule: u16) {
        let listen = name == CapabilityName::NetListen;
        let protocol = match endpoint.protocol() {
            Protocol::Tcp => libc::IPPROTO_TCP as u8,
            Protocol::Udp => libc::IPPROTO_UDP as u8,
        };
        let (address, prefix) = endpoint.network();
        let ports = endpoint.ports();
        self.flags |= sys::PLAN_NET_ANY as u16;
        if endpoint.protocol() == Protocol::Udp {
            self.flags |= sys::PLAN_UDP as u16;
        }
        if prefix == 128 && ports.start() == ports.end() {
            let single = SingleEndpoint {
                listen,
                protocol,
                address,
                port: *ports.start(),
            };
            self.endpoints.entry(single).or_insert(rule);
        } else {
            self.ranges.push(EndpointRange {
                listen,
                protocol,
                address,
                mask: mask(prefix),
                port_first: *ports.start(),
                port_last: *ports.end(),
                rule,
            });
        }
    }

    /// What a capability grants that is neither a path nor an endpoint.
    fn add_words(&mut self, capability: &Capability, origin: &str) -> Result<(), Error> {
        let name = capability.name;
        if name == CapabilityName::CodeGenerate {
            self.flags |= sys::PLAN_CODE_GENERATE as u16;
        }
        for socket in &capability.abstracts {
            let text = format!("@{socket}");
            let number = self.number(capability, &text, origin)?;
            let node = self.files.entry([text.as_bytes(), b"\0"].concat());
            node.or_default().near[UNIX] = number;
        }
        let Some(operation) = operation(name) else {
            return Ok(());
        };
        let words = capability.sockets.iter();
        let words = words.chain(&capability.kcaps).chain(&capability.targets);
        let mut words: Vec<&str> = words.map(String::as_str).collect();
        if words.is_empty() {
            words.push("");
        }
        for word in words {
            let rule = self.number(capability, &word, origin)?;
            match value(name, word) {
                Some(value) => {
                    self.grants
                        .entry(Grant { operation, value })
                        .or_insert(rule);
                }
                None => {
                    let artifact = word.to_owned();
                    self.targets
                        .entry(Target {
                            operation,
                            artifact,
                        })
                        .or_insert(rule);
                }
            }
        }
        Ok(())
    }

    /// A subject may not rename an ancestor of any of its rules: what lies below would fall under
    /// another rule. Only places where it may create or delete at all need the mark.
    fn mark_ancestors(&mut self, numbered: &[Numbered]) {
        let mut bases = BTreeSet::new();
        for own in protected::PATHS {
            let mut base = own;
            while base != "/" && bases.insert(base.to_owned()) {
                base = parent(base);
            }
        }
        for entry in numbered {
            for pattern in entry
                .capability
                .paths
                .iter()
                .chain(&entry.capability.except)
            {
                let mut base = match pattern.kind() {
                    PatternKind::Children | PatternKind::Subtree => pattern.base(),
                    PatternKind::Exact | PatternKind::NamePrefix => parent(pattern.base()),
                };
                while base != "/" && bases.insert(base.to_owned()) {
                    base = parent(base);
                }
            }
        }
        for base in bases {
            let mut key = base.into_bytes();
            key.push(0);
            let mut node = self
                .files
                .get(&key)
                .cloned()
                .unwrap_or_else(|| fold(&key, numbered));
            let moves = [sys::right::RIGHT_CREATE, sys::right::RIGHT_DELETE]
                .iter()
                .any(|right| node.near[right.0 as usize] != 0);
            if moves {
                node.ancestor = true;
                self.files.insert(key, node);
            }
        }
    }
}

/// What the kernel calls a capability that is neither about paths nor about endpoints.
fn operation(name: CapabilityName) -> Option<u32> {
    Some(match name {
        CapabilityName::NetSocket => sys::operation::OP_NET_SOCKET.0,
        CapabilityName::IpcReceive => sys::operation::OP_IPC_RECEIVE.0,
        CapabilityName::ProcessSignal => sys::operation::OP_SIGNAL.0,
        CapabilityName::ProcessTrace => sys::operation::OP_TRACE.0,
        CapabilityName::KernelCapability => sys::operation::OP_LINUX_CAPABILITY.0,
        CapabilityName::KernelNamespace => sys::operation::OP_NAMESPACE.0,
        CapabilityName::KernelPerf => sys::operation::OP_PERF.0,
        CapabilityName::KernelKeyring => sys::operation::OP_KEYRING.0,
        CapabilityName::KernelIoUring => sys::operation::OP_IO_URING.0,
        _ => return None,
    })
}

/// A word as `struct grant_key` has it; None if it is the id of an artifact.
fn value(name: CapabilityName, word: &str) -> Option<u32> {
    match name {
        CapabilityName::NetSocket => SocketKind::parse(word).map(SocketKind::number),
        CapabilityName::KernelCapability => kcap::number(word),
        CapabilityName::ProcessSignal | CapabilityName::ProcessTrace => match word {
            "self" => Some(sys::target::TARGET_SELF.0),
            "children" => Some(sys::target::TARGET_CHILDREN.0),
            _ => None,
        },
        _ => Some(0),
    }
}

/// The envelope's capabilities, the implied ones, and Cartouche's own files carved out of all.
fn capabilities(effective: &Effective, loaders: &BTreeSet<String>) -> Vec<(Capability, String)> {
    let mut all: Vec<(Capability, String)> = effective
        .capabilities
        .iter()
        .map(|entry| ((*entry.capability).clone(), entry.origin.clone()))
        .collect();
    let devices = IMPLIED_DEVICES.iter().map(|path| (*path).to_owned());
    let code: BTreeSet<String> = effective
        .executables
        .iter()
        .map(|executable| executable.path.clone())
        .chain(loaders.iter().cloned())
        .collect();
    for (name, paths) in [
        (
            CapabilityName::FsRead,
            // who may map a file has to open it first
            devices
                .clone()
                .chain(code.clone())
                .chain(effective.code().map(|(path, _)| path.clone()))
                .collect::<Vec<_>>(),
        ),
        (CapabilityName::FsWrite, devices.collect()),
        (CapabilityName::CodeLoad, code.into_iter().collect()),
    ] {
        let mut capability = Capability::new(name);
        capability.paths = paths
            .iter()
            .filter_map(|path| Pattern::parse(path).ok())
            .collect();
        all.push((capability, IMPLIED.to_owned()));
    }
    for (capability, _) in &mut all {
        if capability.name.acts_on_paths() {
            carve_out(capability);
        }
    }
    all
}

/// Takes Cartouche's own files out of a broader rule.
fn carve_out(capability: &mut Capability) {
    for own in protected::PATHS {
        for text in [own.to_owned(), format!("{own}/**")] {
            let Ok(pattern) = Pattern::parse(&text) else {
                continue;
            };
            let broader =
                |path: &Pattern| path.covers(&pattern) && !protected::is_protected(path.base());
            if capability.paths.iter().any(broader) {
                capability.except.insert(pattern);
            }
        }
    }
}

/// The trie's keys that a set of capabilities needs.
fn keys(numbered: &[Numbered]) -> BTreeSet<Vec<u8>> {
    let mut keys = BTreeSet::new();
    for entry in numbered {
        for pattern in entry
            .capability
            .paths
            .iter()
            .chain(&entry.capability.except)
        {
            let base = pattern.base().as_bytes();
            let exact = [base, b"\0"].concat();
            let below = if base == b"/" {
                b"/".to_vec()
            } else {
                [base, b"/"].concat()
            };
            match pattern.kind() {
                PatternKind::Exact => keys.extend([exact]),
                PatternKind::NamePrefix => keys.extend([base.to_vec()]),
                PatternKind::Children => keys.extend([below]),
                PatternKind::Subtree => keys.extend([exact, below]),
            }
        }
    }
    keys
}

/// What holds for all paths whose longest key is this one: asked of the capabilities themselves, with a
/// name that no rule contains.
fn fold(key: &[u8], numbered: &[Numbered]) -> FileNode {
    let text = String::from_utf8_lossy(key);
    let (near, deep, exact) = match text.strip_suffix('\0') {
        Some("/") => ("/".to_owned(), format!("/{ANY_NAME}/{ANY_NAME}"), true),
        Some(path) => (
            path.to_owned(),
            format!("{path}/{ANY_NAME}/{ANY_NAME}"),
            true,
        ),
        None => (
            format!("{text}{ANY_NAME}"),
            format!("{text}{ANY_NAME}/{ANY_NAME}"),
            false,
        ),
    };
    let mut node = FileNode::default();
    for (right, name) in FILE_RIGHTS {
        node.near[right] = granting(name, &near, numbered).unwrap_or(0);
        node.deep[right] = granting(name, &deep, numbered).unwrap_or(0);
        if (exact || text == format!("{TERMINALS}/")) && names_device(name, &near, numbered) {
            node.exact |= 1 << right;
        }
    }
    node
}

/// The most specific rule of a right that grants a path. Of two alike, the one that keeps the label of whoever
/// runs it.
fn granting(name: CapabilityName, path: &str, numbered: &[Numbered]) -> Option<u16> {
    numbered
        .iter()
        .filter(|entry| entry.capability.name == name && entry.capability.grants_path(path))
        .flat_map(|entry| {
            let takes_own = entry.capability.transition == Some(Transition::Artifact);
            let flag = if takes_own {
                sys::RULE_ARTIFACT as u16
            } else {
                0
            };
            entry
                .paths
                .iter()
                .map(move |(pattern, number)| (pattern, number | flag))
        })
        .filter(|(pattern, _)| pattern.matches(path))
        .max_by_key(|(pattern, number)| (pattern.specificity(), std::cmp::Reverse(*number)))
        .map(|(_, number)| number)
}

/// Whether a rule opens a device at a path: names it, or all terminals.
fn names_device(name: CapabilityName, path: &str, numbered: &[Numbered]) -> bool {
    let names = |pattern: &Pattern| match pattern.kind() {
        PatternKind::Exact => pattern.base() == path,
        PatternKind::Children => pattern.base() == TERMINALS && pattern.matches(path),
        PatternKind::NamePrefix | PatternKind::Subtree => false,
    };
    numbered.iter().any(|entry| {
        entry.capability.name == name
            && entry.capability.grants_path(path)
            && entry.paths.keys().any(names)
    })
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(slash) => &path[..slash],
    }
}

/// The bits of an address that a prefix fixes.
fn mask(prefix: u8) -> [u8; 16] {
    let bits = u128::MAX
        .checked_shl(128 - u32::from(prefix.min(128)))
        .unwrap_or(0);
    bits.to_be_bytes()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::admission::{BoundExecutable, EffectiveCapability};
    use proptest::prelude::*;

    const READ: sys::right = sys::right::RIGHT_READ;
    const WRITE: sys::right = sys::right::RIGHT_WRITE;
    const CREATE: sys::right = sys::right::RIGHT_CREATE;

    pub(crate) fn capability(name: CapabilityName, paths: &[&str], except: &[&str]) -> Capability {
        let mut capability = Capability::new(name);
        capability.paths = paths.iter().map(|p| Pattern::parse(p).unwrap()).collect();
        capability.except = except.iter().map(|p| Pattern::parse(p).unwrap()).collect();
        capability
    }

    fn effective(capabilities: Vec<Capability>) -> Effective {
        Effective {
            id: "a".into(),
            version: "1".into(),
            publisher: "p".into(),
            description: None,
            digest: String::new(),
            executables: vec![BoundExecutable {
                path: "/usr/bin/tool".into(),
                sha256: String::new(),
                script: false,
                measured: BTreeSet::new(),
            }],
            capabilities: capabilities
                .into_iter()
                .map(|capability| EffectiveCapability {
                    origin: capability.name.to_string(),
                    capability: capability.into(),
                })
                .collect(),
            unit: None,
            narrowed: Vec::new(),
        }
    }

    pub(crate) fn compile(capabilities: Vec<Capability>) -> Plan {
        Plan::compile(&effective(capabilities), &BTreeSet::new()).unwrap()
    }

    fn rule_for(plan: &Plan, right: sys::right, path: &str) -> u16 {
        plan.rule_for(right, path.as_bytes())
    }

    #[test]
    fn the_most_specific_rule_of_a_right_decides() {
        let plan = compile(vec![
            capability(CapabilityName::FsRead, &["/srv/**"], &["/srv/keys/**"]),
            capability(CapabilityName::FsWrite, &["/srv/*"], &[]),
        ]);

        assert_ne!(rule_for(&plan, READ, "/srv/a/b/c"), 0);
        assert_eq!(rule_for(&plan, READ, "/srv/keys/a"), 0);
        assert_eq!(rule_for(&plan, READ, "/srv/keys"), 0);
        assert_ne!(rule_for(&plan, READ, "/srv"), 0);
        assert_ne!(rule_for(&plan, WRITE, "/srv/a"), 0);
        assert_eq!(rule_for(&plan, WRITE, "/srv/a/b"), 0);
        assert_eq!(rule_for(&plan, WRITE, "/srv"), 0);
    }

    #[test]
    fn an_exception_binds_its_own_capability_only() {
        let plan = compile(vec![
            capability(CapabilityName::FsRead, &["/srv/**"], &["/srv/keys/**"]),
            capability(CapabilityName::FsRead, &["/srv/keys/public"], &[]),
        ]);

        assert_ne!(rule_for(&plan, READ, "/srv/keys/public"), 0);
        assert_eq!(rule_for(&plan, READ, "/srv/keys/private"), 0);
    }

    #[test]
    fn devices_need_an_exact_rule() {
        let plan = compile(vec![capability(
            CapabilityName::FsRead,
            &["/dev/**", "/dev/kvm"],
            &[],
        )]);

        assert_eq!(plan.files[b"/dev/kvm\0".as_slice()].exact, 1 << READ.0);
        assert_eq!(plan.files[b"/dev\0".as_slice()].exact, 0);
    }

    #[test]
    fn terminals_need_a_rule_that_is_about_them() {
        for (rule, opens) in [("/dev/pts/*", true), ("/dev/pts/**", false), ("/**", false)] {
            let plan = compile(vec![capability(CapabilityName::FsRead, &[rule], &[])]);

            assert!(plan.may_open(READ, b"/dev/pts/7", false), "{rule}");
            assert_eq!(plan.may_open(READ, b"/dev/pts/7", true), opens, "{rule}");
            assert!(!plan.may_open(READ, b"/dev/pts/7/7", true), "{rule}");
        }
    }

    #[test]
    fn the_own_executable_and_the_usual_devices_are_implied() {
        let plan = compile(vec![capability(CapabilityName::FsRead, &["/x"], &[])]);

        assert_ne!(rule_for(&plan, READ, "/usr/bin/tool"), 0);
        assert_ne!(rule_for(&plan, WRITE, "/dev/null"), 0);
        assert_eq!(rule_for(&plan, WRITE, "/usr/bin/tool"), 0);
    }

    #[test]
    fn managed_paths_are_a_plan_of_their_own() {
        let patterns = ["/opt/ext/**", "/usr/bin/tool"].map(|text| Pattern::parse(text).unwrap());

        let plan = Plan::managed(&patterns.into()).unwrap();

        let exec = sys::right::RIGHT_EXEC;
        for (path, managed) in [
            ("/opt/ext", true),
            ("/opt/ext/a/b", true),
            ("/usr/bin/tool", true),
            ("/opt/extra", false),
            ("/usr/bin/tools", false),
            ("/dev/null", false),
        ] {
            assert_eq!(rule_for(&plan, exec, path) != 0, managed, "{path}");
            assert_eq!(rule_for(&plan, READ, path), 0, "{path}");
        }
    }

    #[test]
    fn pinned_code_is_mapped_by_what_it_is_and_read_by_its_path() {
        let mut pinned = Capability::new(CapabilityName::CodeLoad);
        for path in ["/opt/a.so", "/opt/b.so", "/opt/gone.so"] {
            pinned.files.insert(path.to_owned(), String::new());
        }
        let key = FileKey {
            ino: 7,
            dev: 1,
            generation: 2,
        };
        // two names of one file
        let found = BTreeMap::from([("/opt/a.so".to_owned(), key), ("/opt/b.so".to_owned(), key)]);

        let plan = compile(vec![pinned]).pin(&found);

        assert_eq!(plan.code.keys().collect::<Vec<_>>(), [&key]);
        let rule = plan.rule(plan.code[&key]).unwrap();
        assert_eq!(rule.to_string(), "code:load /opt/a.so");
        assert_eq!(u32::from(plan.flags), sys::PLAN_PINNED_CODE);
        assert_eq!(plan.shared_rules(), 1);
        assert_ne!(rule_for(&plan, READ, "/opt/gone.so"), 0);
        let load = sys::right::RIGHT_LOAD;
        assert_eq!(rule_for(&plan, load, "/opt/a.so"), 0);
    }

    #[test]
    fn cartouche_s_own_files_are_carved_out_of_broader_rules() {
        let plan = compile(vec![capability(CapabilityName::FsWrite, &["/var/**"], &[])]);

        assert_ne!(rule_for(&plan, WRITE, "/var/lib/other"), 0);
        assert_eq!(rule_for(&plan, WRITE, "/var/lib/cartouche"), 0);
        assert_eq!(rule_for(&plan, WRITE, "/var/lib/cartouche/audit.jsonl"), 0);
    }

    #[test]
    fn an_ancestor_of_cartouche_s_own_files_is_marked_where_it_could_be_renamed() {
        let plan = compile(vec![capability(CapabilityName::FsDelete, &["/var/*"], &[])]);

        assert!(plan.files[b"/var/lib\0".as_slice()].ancestor);
    }

    #[test]
    fn an_ancestor_of_a_rule_is_marked_where_it_could_be_renamed() {
        let plan = compile(vec![
            capability(CapabilityName::FsCreate, &["/srv/app/**"], &[]),
            capability(CapabilityName::FsRead, &["/srv/app/conf/open"], &[]),
        ]);

        assert!(plan.files[b"/srv/app/conf\0".as_slice()].ancestor);
        assert!(plan.files[b"/srv/app\0".as_slice()].ancestor);
        assert!(!plan.files.contains_key(b"/srv\0".as_slice()));
        assert_ne!(rule_for(&plan, CREATE, "/srv/app/conf"), 0);
    }

    #[test]
    fn of_two_rules_for_one_program_the_more_specific_says_whose_label_it_gets() {
        let mut own = capability(CapabilityName::ProcessExec, &["/usr/bin/*", "/x"], &[]);
        own.transition = Some(Transition::Artifact);
        let inherit = capability(CapabilityName::ProcessExec, &["/usr/bin/a", "/x"], &[]);

        let plan = compile(vec![own, inherit]);

        let takes_own = |path| {
            let rule = rule_for(&plan, sys::right::RIGHT_EXEC, path);
            assert_ne!(rule, 0);
            u32::from(rule) & sys::RULE_ARTIFACT != 0
        };
        assert!(takes_own("/usr/bin/b"));
        assert!(!takes_own("/usr/bin/a"));
        assert!(!takes_own("/x"));
    }

    #[test]
    fn single_endpoints_and_ranges_are_kept_apart() {
        let mut listen = Capability::new(CapabilityName::NetListen);
        listen.endpoints = ["tcp://127.0.0.1:80", "udp://10.0.0.0/8:53-54"]
            .iter()
            .map(|text| Endpoint::parse(text).unwrap())
            .collect();

        let plan = compile(vec![listen]);

        assert_eq!(plan.endpoints.len(), 1);
        assert_eq!(plan.ranges[0].mask[..13], [0xff; 13]);
        assert_eq!(plan.ranges[0].mask[13..], [0; 3]);
        assert_eq!(u32::from(plan.flags), sys::PLAN_NET_ANY | sys::PLAN_UDP);
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        proptest::string::string_regex("(/[ab]{1,2}){1,3}(|\\*|/\\*|/\\*\\*)")
            .unwrap()
            .prop_map(|text| Pattern::parse(&text).unwrap())
    }

    proptest! {
        /// The folded trie says what the capabilities say, for every path.
        #[test]
        fn folding_keeps_the_meaning(
            rules in proptest::collection::vec(
                (proptest::collection::btree_set(any_pattern(), 1..4),
                 proptest::collection::btree_set(any_pattern(), 0..3)), 1..4),
            path in "(/[abc]{1,3}){1,5}",
        ) {
            let capabilities: Vec<Capability> = rules
                .into_iter()
                .map(|(paths, except)| {
                    let mut capability = Capability::new(CapabilityName::FsRead);
                    capability.paths = paths;
                    capability.except = except;
                    capability
                })
                .collect();
            let expected = capabilities.iter().any(|c| c.grants_path(&path));

            let plan = compile(capabilities);

            prop_assert_eq!(rule_for(&plan, READ, &path) != 0, expected);
        }
    }
}
