//! An artifact file, parsed and understood, but not yet admitted.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::capability::Capability;
use crate::event::stable_words;

stable_words! {
    /// How an executable is recognised.
    Verify {
        /// Hashed once at admission and kept from changing while admitted.
        Pinned = "pinned",
        /// Hashed by the kernel at each exec.
        Measured = "measured",
    }
}

/// A program that makes a task a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executable {
    /// Absolute, canonical and its own realpath.
    pub path: String,
    /// The file's content must have one of these.
    pub sha256: BTreeSet<String>,
    pub verify: Verify,
}

/// A parsed artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    pub schema_version: String,
    pub id: String,
    pub version: String,
    pub publisher: String,
    pub description: Option<String>,
    /// At least one, no path twice.
    pub executables: Vec<Executable>,
    pub unit: Option<String>,
    /// `sha256:` and 64 hex digits; absent until `cartouche seal` wrote it.
    pub digest: Option<String>,
    /// At least one, in the order of the file.
    pub capabilities: Vec<Capability>,
}
