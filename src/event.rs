//! The vocabulary of decisions: stable codes, errors, detail words and the event that carries them.
//! Codes come from the artifact contract and are never reused. What is written where is `audit`'s.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares an enum whose variants have one stable spelling each.
macro_rules! stable_words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            ::serde::Serialize, ::serde::Deserialize,
        )]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable spelling.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use stable_words;

stable_words! {
    #[derive(JsonSchema)]
    /// What happened. 001–010 are the contract's; 1xx are Cartouche's own.
    Code {
        /// Artifact submitted for admission.
        Submitted = "CART-001",
        /// Artifact admission succeeded.
        Admitted = "CART-002",
        /// Artifact admission rejected (fail-closed).
        Rejected = "CART-003",
        /// Capability envelope validated.
        EnvelopeValid = "CART-004",
        /// Capability envelope validation failed.
        EnvelopeInvalid = "CART-005",
        /// Runtime enforcement check passed.
        CheckPassed = "CART-006",
        /// Runtime enforcement drift detected.
        Drift = "CART-007",
        /// Artifact digest verified.
        DigestVerified = "CART-008",
        /// Artifact digest mismatch.
        DigestMismatch = "CART-009",
        /// Schema version validated.
        SchemaValidated = "CART-010",
        /// An artifact went away; its rights are gone.
        Revoked = "CART-101",
        /// Running tasks were bound to an admitted artifact.
        Adopted = "CART-102",
        /// The mode of an artifact was changed.
        ModeChanged = "CART-103",
        /// A revocation was ended by the administrator.
        Forgotten = "CART-104",
        /// Decisions that were counted but could not be reported one by one.
        EventsLost = "CART-105",
        /// The posture of the node changed.
        PostureChanged = "CART-106",
        /// A file in a policies directory was not read, or the configuration or the scope was not taken.
        FileIgnored = "CART-107",
        /// An audit sink failed or works again.
        SinkChanged = "CART-108",
        /// The daemon started.
        Started = "CART-109",
        /// The daemon stopped; enforcement stays pinned.
        Stopped = "CART-110",
        /// The head of the audit chain, written down for comparison.
        ChainHead = "CART-111",
        /// What tasks of revoked artifacts hold open is refused from now on, or no such task is left.
        HeldDescriptors = "CART-112",
        /// An administrator took a way out of enforcement, or ended it.
        WayOut = "CART-113",
    }
}

stable_words! {
    #[derive(JsonSchema)]
    /// Why a decision was negative.
    ErrorCode {
        MissingEnvelope = "ERR_CART_MISSING_ENVELOPE",
        InvalidEnvelope = "ERR_CART_INVALID_ENVELOPE",
        DigestMismatch = "ERR_CART_DIGEST_MISMATCH",
        OverScoped = "ERR_CART_OVER_SCOPED",
        DriftDetected = "ERR_CART_DRIFT_DETECTED",
        SchemaUnknown = "ERR_CART_SCHEMA_UNKNOWN",
        EmptyCapabilities = "ERR_CART_EMPTY_CAPABILITIES",
        DuplicateArtifact = "ERR_CART_DUPLICATE_ARTIFACT",
    }
}

stable_words! {
    /// The word that narrows an admission's code. Never reused, never renamed.
    Detail {
        // CART-001
        /// No artifact of this file name is admitted.
        New = "new",
        /// The file of an admitted artifact changed, or what it depends on did.
        Update = "update",

        // The file as such, ERR_CART_INVALID_ENVELOPE.
        /// It could not be read.
        Unreadable = "unreadable",
        /// It went away, or changed, while it was read.
        Vanished = "vanished",
        /// Others than root can change it or replace it.
        Untrusted = "untrusted",
        /// It is a symbolic link.
        Symlink = "symlink",
        /// It is a directory, a fifo, a socket or a device.
        NotRegular = "not-regular",
        /// It is larger than 1 MiB.
        TooLarge = "too-large",
        /// It is not UTF-8.
        NotUtf8 = "not-utf8",
        /// It is not TOML.
        Syntax = "syntax",

        // Schema, CART-010 and ERR_CART_SCHEMA_UNKNOWN.
        SchemaKnown = "schema-known",
        /// There is no `schema_version`.
        SchemaMissing = "schema-missing",
        /// This build does not know that `schema_version`.
        SchemaUnknown = "schema-unknown",

        // ERR_CART_MISSING_ENVELOPE, ERR_CART_EMPTY_CAPABILITIES.
        EnvelopeMissing = "envelope-missing",
        CapabilitiesEmpty = "capabilities-empty",

        // Validation, CART-004, CART-005 and ERR_CART_INVALID_ENVELOPE.
        EnvelopeValid = "envelope-valid",
        /// A key that the format does not have, or not there.
        UnknownKey = "unknown-key",
        /// A key that is not optional.
        MissingKey = "missing-key",
        /// Another type of value belongs there.
        WrongType = "wrong-type",
        /// An empty string or list.
        EmptyValue = "empty-value",
        /// A list or an envelope that is longer than anybody reads.
        TooMany = "too-many",
        /// A control character in a string.
        ControlCharacter = "control-character",
        /// The same thing twice.
        Duplicate = "duplicate",
        /// A name, version, hash or word of the wrong form.
        BadValue = "bad-value",
        /// No path, or no path pattern.
        BadPath = "bad-path",
        /// No endpoint.
        BadEndpoint = "bad-endpoint",
        /// No capability has that name.
        UnknownCapability = "unknown-capability",
        /// A qualifier that another capability has.
        ForeignQualifier = "foreign-qualifier",
        /// A capability without the qualifier that says how far it goes.
        MissingQualifier = "missing-qualifier",
        /// An exception that lies outside what it is carved from.
        BadExcept = "bad-except",
        /// No profile has that name.
        UnknownProfile = "unknown-profile",
        /// Part of the format that this build cannot enforce.
        Unsupported = "unsupported",

        // Digest, CART-008, CART-009 and ERR_CART_DIGEST_MISMATCH.
        EnvelopeDigest = "envelope-digest",
        /// The envelope has no digest yet.
        Unsealed = "unsealed",
        ExecutableDigest = "executable-digest",
        /// An executable's content is not the declared one.
        ExecutableMismatch = "executable-mismatch",
        /// The path of an executable is not that of the file it leads to.
        ExecutableNotRealpath = "executable-not-realpath",
        /// An executable that is no regular file.
        ExecutableNotRegular = "executable-not-regular",
        /// An executable that changes its user or group when run.
        ExecutableSetId = "executable-set-id",
        /// A file system on which a file cannot be pinned.
        ExecutableFilesystem = "executable-filesystem",
        /// A script that others than root, or the artifact itself, can replace.
        ExecutableReplaceable = "executable-replaceable",
        /// An executable that could not be examined.
        ExecutableUnreadable = "executable-unreadable",
        CodeDigest = "code-digest",
        /// The content of a pinned file is not the declared one.
        CodeMismatch = "code-mismatch",
        /// The path of a pinned file is not that of the file it leads to.
        CodeNotRealpath = "code-not-realpath",
        /// A pinned file that is no regular file.
        CodeNotRegular = "code-not-regular",
        /// A file system on which code cannot be pinned.
        CodeFilesystem = "code-filesystem",
        /// A pinned file that could not be examined.
        CodeUnreadable = "code-unreadable",
        /// Rejected only because an executable or a pinned file is missing.
        Waiting = "waiting",

        // ERR_CART_DUPLICATE_ARTIFACT
        DuplicateId = "duplicate-id",
        DuplicateExecutable = "duplicate-executable",
        DuplicateUnit = "duplicate-unit",

        // ERR_CART_OVER_SCOPED
        ExecutableOutOfScope = "executable-out-of-scope",
        UnitOutOfScope = "unit-out-of-scope",
        CapabilityOutOfScope = "capability-out-of-scope",
        /// No scope can grant it.
        NeverGrantable = "never-grantable",
        /// Every capability was optional and outside the scope.
        NothingLeft = "nothing-left",

        // CART-002, CART-003
        Admitted = "admitted",
        /// Admitted without its optional capabilities that are outside the scope.
        Narrowed = "narrowed",
        /// This node cannot enforce it.
        NodeCannotEnforce = "node-cannot-enforce",
    }
}

impl From<Detail> for String {
    fn from(detail: Detail) -> Self {
        detail.as_str().to_owned()
    }
}

stable_words! {
    #[derive(JsonSchema)]
    /// How a decision ended.
    Outcome {
        Submitted = "submitted",
        Admitted = "admitted",
        Rejected = "rejected",
        Valid = "valid",
        Invalid = "invalid",
        Revoked = "revoked",
        Allowed = "allowed",
        Denied = "denied",
        WouldDeny = "would-deny",
        Noted = "noted",
    }
}

/// What a task did, as the kernel saw it; present on CART-006 and CART-007.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema)]
pub struct Runtime {
    /// Thread id in the initial pid namespace.
    pub pid: u32,
    /// Thread-group id (what user space calls the process id).
    pub tgid: u32,
    /// Name of the task, at most 15 bytes.
    pub comm: String,
    /// Path of the running executable, empty if the kernel could not name it.
    pub exe: String,
    pub uid: u32,
    /// The capability or the refused power, such as `fs:write` or `mount`.
    pub operation: String,
    /// What it was done to: a path, an endpoint, a name.
    pub object: String,
    /// The rule that decided, empty if none matched.
    pub rule: String,
}

/// One decision or change, before it has a place (seq, time, chain) in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    pub code: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorCode>,
    /// A stable lower-case word that narrows the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    pub outcome: Outcome,
    /// A sentence for a person: what is wrong, where, what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Further facts, such as the hashes of a decision's inputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// How many equal events this one stands for, at least 1.
    pub count: u64,
}

impl Event {
    /// An event that stands for itself, with nothing optional set.
    pub fn new(code: Code, outcome: Outcome) -> Self {
        Self {
            code,
            error: None,
            detail: None,
            artifact: None,
            outcome,
            message: None,
            facts: BTreeMap::new(),
            runtime: None,
            count: 1,
        }
    }

    pub fn error(mut self, error: ErrorCode) -> Self {
        self.error = Some(error);
        self
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn artifact(mut self, id: impl Into<String>) -> Self {
        self.artifact = Some(id.into());
        self
    }

    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    pub fn fact(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.facts.insert(key.into(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_word_stands_for_two_things() {
        let words = |all: &[&'static str]| all.iter().copied().collect::<BTreeSet<_>>().len();

        let details: Vec<_> = Detail::ALL.iter().map(|detail| detail.as_str()).collect();
        let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();

        assert_eq!(words(&details), details.len());
        assert_eq!(words(&codes), codes.len());
    }

    #[test]
    fn the_contract_s_codes_keep_their_spelling() {
        let codes: Vec<_> = Code::ALL.iter().take(10).map(|c| c.as_str()).collect();

        assert_eq!(codes.first(), Some(&"CART-001"));
        assert_eq!(codes.last(), Some(&"CART-010"));
        assert_eq!(ErrorCode::ALL.len(), 8);
    }
}
