//! Capabilities as understood: their names, their qualifiers and what they grant.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::endpoint::Endpoint;
use super::pattern::Pattern;
use crate::event::stable_words;

stable_words! {
    /// What a capability allows. `profile:NAME` is one name; the profile's own is beside it.
    CapabilityName {
        FsRead = "fs:read",
        FsWrite = "fs:write",
        FsCreate = "fs:create",
        FsDelete = "fs:delete",
        FsSetuid = "fs:setuid",
        ProcessExec = "process:exec",
        CodeLoad = "code:load",
        CodeGenerate = "code:generate",
        NetConnect = "net:connect",
        NetListen = "net:listen",
        NetSocket = "net:socket",
        IpcUnix = "ipc:unix",
        IpcReceive = "ipc:receive",
        ProcessSignal = "process:signal",
        ProcessTrace = "process:trace",
        KernelCapability = "kernel:capability",
        KernelNamespace = "kernel:namespace",
        KernelPerf = "kernel:perf",
        KernelKeyring = "kernel:keyring",
        KernelIoUring = "kernel:io_uring",
        Profile = "profile",
    }
}

/// The keys that qualify a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qualifier {
    /// `paths`, and `except` beside it.
    Paths,
    /// `paths`, in which `@name` is an abstract socket.
    PathsAndAbstract,
    /// `paths` or `[[…file]]`.
    PathsOrFiles,
    /// `paths`, and `transition` beside it.
    PathsAndTransition,
    Endpoints,
    Sockets,
    Targets,
    Kcaps,
    None,
}

/// Every key that qualifies a capability.
pub const KEYS: [&str; 8] = [
    "paths",
    "except",
    "endpoints",
    "sockets",
    "targets",
    "kcaps",
    "transition",
    "file",
];

/// The keys of one kind of qualifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QualifierKeys {
    /// One of these is written, and only one.
    pub one_of: &'static [&'static str],
    /// These may stand beside it.
    pub beside: &'static [&'static str],
}

impl Qualifier {
    pub const fn keys(self) -> QualifierKeys {
        let (one_of, beside): (&[&str], &[&str]) = match self {
            Self::Paths | Self::PathsAndAbstract => (&["paths"], &["except"]),
            Self::PathsOrFiles => (&["paths", "file"], &["except"]),
            Self::PathsAndTransition => (&["paths"], &["except", "transition"]),
            Self::Endpoints => (&["endpoints"], &[]),
            Self::Sockets => (&["sockets"], &[]),
            Self::Targets => (&["targets"], &[]),
            Self::Kcaps => (&["kcaps"], &[]),
            Self::None => (&[], &[]),
        };
        QualifierKeys { one_of, beside }
    }
}

impl CapabilityName {
    /// The name and, for `profile:NAME`, the profile.
    pub fn parse(text: &str) -> Option<(Self, Option<&str>)> {
        if let Some(profile) = text.strip_prefix("profile:") {
            return super::is_short_name(profile).then_some((Self::Profile, Some(profile)));
        }
        Self::ALL
            .iter()
            .find(|name| **name != Self::Profile && name.as_str() == text)
            .map(|name| (*name, None))
    }

    pub const fn qualifier(self) -> Qualifier {
        match self {
            Self::FsRead | Self::FsWrite | Self::FsCreate | Self::FsDelete | Self::FsSetuid => {
                Qualifier::Paths
            }
            Self::ProcessExec => Qualifier::PathsAndTransition,
            Self::CodeLoad => Qualifier::PathsOrFiles,
            Self::IpcUnix => Qualifier::PathsAndAbstract,
            Self::NetConnect | Self::NetListen => Qualifier::Endpoints,
            Self::NetSocket => Qualifier::Sockets,
            Self::ProcessSignal | Self::ProcessTrace => Qualifier::Targets,
            Self::KernelCapability => Qualifier::Kcaps,
            Self::CodeGenerate
            | Self::IpcReceive
            | Self::KernelNamespace
            | Self::KernelPerf
            | Self::KernelKeyring
            | Self::KernelIoUring
            | Self::Profile => Qualifier::None,
        }
    }

    /// Whether it does something to what its `paths` name.
    pub const fn acts_on_paths(self) -> bool {
        matches!(
            self,
            Self::FsWrite | Self::FsCreate | Self::FsDelete | Self::FsSetuid | Self::IpcUnix
        )
    }
}

stable_words! {
    /// Whose label a program that is run gets.
    Transition {
        /// The child keeps the label of its parent.
        Inherit = "inherit",
        /// The child takes its own artifact's label, and must have one.
        Artifact = "artifact",
    }
}

/// One capability of an envelope, a profile or a scope. Which sets may be filled follows from the
/// name; a set that does not belong to it is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Capability {
    pub name: CapabilityName,
    /// The profile's name, exactly if `name` is `Profile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub paths: BTreeSet<Pattern>,
    /// Carved out of this capability, and of no other.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub except: BTreeSet<Pattern>,
    /// Abstract unix sockets without their `@`, for `ipc:unix`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub abstracts: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub endpoints: BTreeSet<Endpoint>,
    /// `FAMILY/PROTOCOL`, such as `netlink/route`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sockets: BTreeSet<String>,
    /// `self`, `children` or the id of an artifact.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub targets: BTreeSet<String>,
    /// Linux capabilities, such as `CAP_NET_BIND_SERVICE`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub kcaps: BTreeSet<String>,
    /// Set exactly for `process:exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<Transition>,
    /// Pinned code: path to SHA-256 in lower-case hex.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Why the program needs it; empty in profiles and scopes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub justification: String,
    /// Whether the artifact is useless without it; else the scope may narrow it away.
    pub mandatory: bool,
}

impl Capability {
    /// A mandatory capability with no qualifier yet.
    pub fn new(name: CapabilityName) -> Self {
        Self {
            name,
            profile: None,
            paths: BTreeSet::new(),
            except: BTreeSet::new(),
            abstracts: BTreeSet::new(),
            endpoints: BTreeSet::new(),
            sockets: BTreeSet::new(),
            targets: BTreeSet::new(),
            kcaps: BTreeSet::new(),
            transition: (name == CapabilityName::ProcessExec).then_some(Transition::Inherit),
            files: BTreeMap::new(),
            justification: String::new(),
            mandatory: true,
        }
    }

    /// The name as artifacts write it: `fs:read`, `profile:base`.
    pub fn full_name(&self) -> String {
        match &self.profile {
            Some(profile) => format!("profile:{profile}"),
            None => self.name.as_str().to_owned(),
        }
    }

    /// Whether this capability alone allows `path`: of `paths` and `except` the most specific
    /// pattern that matches it decides. This is the meaning that a plan must keep.
    pub fn grants_path(&self, path: &str) -> bool {
        let best = |patterns: &BTreeSet<Pattern>| {
            patterns
                .iter()
                .filter(|p| p.matches(path))
                .map(Pattern::specificity)
                .max()
        };
        match (best(&self.paths), best(&self.except)) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(granted), Some(excepted)) => granted > excepted,
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability(paths: &[&str], except: &[&str]) -> Capability {
        let patterns = |texts: &[&str]| texts.iter().map(|t| Pattern::parse(t).unwrap()).collect();
        Capability {
            paths: patterns(paths),
            except: patterns(except),
            ..Capability::new(CapabilityName::FsRead)
        }
    }

    #[test]
    fn names_are_those_of_the_design() {
        for name in CapabilityName::ALL {
            let written = match name {
                CapabilityName::Profile => "profile:base",
                other => other.as_str(),
            };

            assert_eq!(CapabilityName::parse(written).map(|(n, _)| n), Some(*name));
        }
        assert_eq!(CapabilityName::parse("profile"), None);
        assert_eq!(CapabilityName::parse("profile:"), None);
        assert_eq!(CapabilityName::parse("profile:a.b"), None);
        assert_eq!(CapabilityName::parse("fs:execute"), None);
    }

    #[test]
    fn an_exception_is_carved_out_and_a_narrower_rule_put_back() {
        let capability = capability(&["/a/**", "/a/b/c"], &["/a/b/**"]);

        assert!(capability.grants_path("/a/x"));
        assert!(!capability.grants_path("/a/b"));
        assert!(!capability.grants_path("/a/b/x"));
        assert!(capability.grants_path("/a/b/c"));
        assert!(!capability.grants_path("/b"));
    }

    #[test]
    fn a_capability_survives_json() {
        let mut capability = capability(&["/a/**"], &["/a/b"]);
        capability.endpoints = BTreeSet::from([Endpoint::parse("tcp://*:80").unwrap()]);

        let json = serde_json::to_string(&capability).unwrap();

        assert_eq!(
            serde_json::from_str::<Capability>(&json).unwrap(),
            capability
        );
    }
}
