//! The gate: inputs in, decision and events out. No file system, no clock, no kernel.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::artifact::capability::{Capability, CapabilityName};
use crate::artifact::problem::Problem;
use crate::event::{Detail, ErrorCode, Event};

/// What was found where an artifact names an executable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutableFacts {
    /// As the artifact writes it.
    pub path: String,
    /// Absent if there is no such file, or if it could not be examined.
    pub found: Option<FoundFile>,
    /// Why it could not be examined, or may not be pinned, as a sentence without a full stop; absent
    /// beside an absent `found` means that the file is missing.
    pub problem: Option<String>,
}

/// A file as its descriptor shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundFile {
    /// Of its content, 64 lower-case hex digits.
    pub sha256: String,
    /// Whether the path that was opened goes through no symlink.
    pub realpath_ok: bool,
    pub regular: bool,
    /// Permission bits, set-id bits included.
    pub mode: u32,
    pub uid: u32,
    /// The type of its file system, such as `ext4`.
    pub filesystem: String,
    /// Whether it begins with `#!`.
    pub script: bool,
}

/// An artifact that is admitted now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmittedSummary {
    /// The artifact file's name, without directories.
    pub file: String,
    pub executables: BTreeSet<String>,
}

/// What this node can enforce at present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub enforceable: BTreeSet<CapabilityName>,
    /// The posture's blockers with their reasons; empty also where the node only audits because it was
    /// configured to.
    pub blockers: Vec<String>,
}

/// What the gate decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub verdict: Verdict,
    /// In the order of the gate's steps.
    pub events: Vec<Event>,
    /// Executables that run for nobody unless this artifact admits them; none that the scope excludes.
    pub claims: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Admitted(Effective),
    Rejected {
        error: Option<ErrorCode>,
        detail: Detail,
        /// Rejected only because an executable is missing.
        waiting: bool,
        problems: Vec<Problem>,
    },
}

/// An executable that was recognised by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundExecutable {
    pub path: String,
    pub sha256: String,
    pub script: bool,
}

/// A capability in force and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveCapability {
    /// Never a profile.
    pub capability: Capability,
    /// `profile:NAME`, or the capability's own name.
    pub origin: String,
}

/// What an admitted artifact means: profiles expanded, optional capabilities outside the scope gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effective {
    pub id: String,
    pub version: String,
    pub publisher: String,
    pub description: Option<String>,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
    pub executables: Vec<BoundExecutable>,
    pub capabilities: Vec<EffectiveCapability>,
    /// The optional capabilities that the scope took away, as sentences.
    pub narrowed: Vec<String>,
}

/// The admitted set by id.
pub type Admitted = BTreeMap<String, AdmittedSummary>;
