//! Admission: what a decision is made from and what it says. The steps are `gate`'s. A pure function:
//! no file system, no clock, no kernel.

mod gate;
mod identity;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::artifact::capability::{Capability, CapabilityName};
use crate::artifact::digest::sha256_hex;
use crate::artifact::draft::Claimed;
use crate::artifact::problem::Problems;
use crate::artifact::profile::ProfileSet;
use crate::artifact::scope::Scope;
use crate::error::chain;
use crate::event::{Detail, ErrorCode, Event};
use crate::executable::Loaders;
use crate::trusted_file;

/// All that a decision depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// The artifact file's name, without directories.
    pub name: String,
    /// The file's bytes; empty if there is a `file_problem`.
    pub document: Vec<u8>,
    /// Why the file could not be read or may not be trusted.
    pub file_problem: Option<FileProblem>,
    /// Whether a signature lies beside the artifact.
    pub signature_present: bool,
    /// The names of the site grants beside the artifact.
    pub site_grants: BTreeSet<String>,
    pub profiles: ProfileSet,
    pub scope: Scope,
    /// One for each executable that the artifact names, in any order.
    pub executables: Vec<ExecutableFacts>,
    /// One for each file that the artifact pins, in any order.
    pub code: Vec<ExecutableFacts>,
    pub node: Node,
    pub admitted: Admitted,
    pub options: Options,
}

/// Why a file could not be read or may not be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProblem {
    pub detail: Detail,
    /// A sentence without a full stop.
    pub message: String,
}

impl From<&trusted_file::Error> for FileProblem {
    fn from(error: &trusted_file::Error) -> Self {
        Self {
            detail: error.detail(),
            message: chain(error),
        }
    }
}

/// How the gate is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Whether executables and pinned files are compared; `cartouche verify --no-executables` runs where
    /// they are not.
    pub executables: bool,
    /// Whether a document without a digest is judged as if it had its own; `cartouche verify` goes on past a
    /// missing one, to tell of the other faults as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_if_sealed: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            executables: true,
            as_if_sealed: false,
        }
    }
}

impl Inputs {
    /// Every input by name, as bytes that say all that the decision took from it. Their hashes stand in
    /// CART-001; stored under them, they are what a replay needs.
    ///
    /// Of the admitted set only what this artifact can collide with, so that the size of a decision's
    /// record does not grow with their number.
    pub fn parts(&self) -> BTreeMap<String, Part<'_>> {
        let file = (
            &self.name,
            &self.file_problem,
            self.signature_present,
            &self.site_grants,
        );
        let mut parts = BTreeMap::from([
            ("document".to_owned(), Part::of(self.document.as_slice())),
            ("file".to_owned(), Part::of(json(&file))),
            (
                "scope".to_owned(),
                Part::hashed(&self.scope.source, &self.scope.sha256),
            ),
            ("executables".to_owned(), Part::of(json(&self.executables))),
            ("node".to_owned(), Part::of(json(&self.node))),
            ("admitted".to_owned(), Part::of(json(&self.rivals()))),
            ("options".to_owned(), Part::of(json(&self.options))),
        ]);
        if !self.code.is_empty() {
            parts.insert("code".to_owned(), Part::of(json(&self.code)));
        }
        for (name, profile) in self.profiles.iter() {
            parts.insert(
                format!("profile.{name}"),
                Part::hashed(&profile.source, &profile.sha256),
            );
        }
        parts
    }

    /// The hex SHA-256 of each part.
    pub fn hashes(&self) -> BTreeMap<String, String> {
        self.parts()
            .into_iter()
            .map(|(name, part)| (name, part.sha256.into_owned()))
            .collect()
    }

    /// What is admitted and could be in the way of this artifact.
    fn rivals(&self) -> BTreeMap<&String, &AdmittedSummary> {
        let claimed = Claimed::of(&self.document);
        self.admitted
            .iter()
            .filter(|(id, summary)| {
                let paths = |path: &str| summary.executables.contains(path);
                let other = (id.as_str(), summary.file.as_str(), summary.unit.as_deref());
                claimed.is_rival_of(&self.name, other, paths)
            })
            .collect()
    }
}

/// One input of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'i> {
    pub bytes: Cow<'i, [u8]>,
    /// Of the bytes, in hex.
    pub sha256: Cow<'i, str>,
}

impl<'i> Part<'i> {
    pub fn of(bytes: impl Into<Cow<'i, [u8]>>) -> Self {
        let bytes = bytes.into();
        Self {
            sha256: sha256_hex(&bytes).into(),
            bytes,
        }
    }

    /// A text whose hash is known already.
    fn hashed(text: &'i str, sha256: &'i str) -> Self {
        Self {
            bytes: text.as_bytes().into(),
            sha256: sha256.into(),
        }
    }
}

/// JSON of a type of ours, which always has one.
fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Decides about one artifact. The same inputs give the same decision, byte for byte.
pub fn decide(inputs: &Inputs) -> Decision {
    gate::decide(inputs)
}

/// What was found where an artifact names an executable, or a file that it pins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutableFacts {
    /// As the artifact writes it.
    pub path: String,
    /// Absent if there is no such file, or if it could not be examined.
    pub found: Option<FoundFile>,
    /// Why it could not be examined, or may not be pinned, as a sentence without a full stop; absent
    /// beside an absent `found` means that the file is missing.
    pub problem: Option<String>,
    /// The admitted artifact of which this very file is an executable already, under whatever path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_by: Option<String>,
    /// Whether some process could write to it while it was read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub written: bool,
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
    /// Whether others than root can put another file under its name.
    #[serde(default)]
    pub replaceable: bool,
    /// Whether its directory takes names without regard to case.
    #[serde(default)]
    pub casefold: bool,
    /// What the kernel maps to start it: PT_INTERP, the `#!` line, and theirs.
    #[serde(default)]
    pub loaders: Loaders,
}

/// An artifact that is admitted now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmittedSummary {
    /// The artifact file's name, without directories.
    pub file: String,
    pub executables: BTreeSet<String>,
    /// Its executables are its own in this unit only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// What this node can enforce at present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub enforceable: BTreeSet<CapabilityName>,
    /// Whether the kernel can hash an executable at each exec.
    #[serde(default)]
    pub measures: bool,
    /// The posture's blockers with their reasons; empty also where the node only audits because it was
    /// configured to.
    pub blockers: Vec<String>,
}

/// What the gate decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    pub verdict: Verdict,
    /// The id that the artifact claims, if it has the form of one.
    pub id: Option<String>,
    /// In the order of the gate's steps.
    pub events: Vec<Event>,
    /// Executables that run for nobody unless this artifact admits them; none that the scope excludes.
    pub claims: Vec<String>,
    /// Instead of them, the unit whose processes do not run.
    pub unit: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Admitted(Effective),
    Rejected {
        error: Option<ErrorCode>,
        detail: Detail,
        /// Rejected only because an executable or a pinned file is missing.
        waiting: bool,
        /// All of the step that failed; never empty.
        problems: Problems,
    },
}

/// An executable that was recognised by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundExecutable {
    pub path: String,
    pub sha256: String,
    pub script: bool,
    /// The contents with which it runs, if the kernel is to compare them at each exec; else none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub measured: BTreeSet<String>,
}

/// A capability in force and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveCapability {
    /// Never a profile. Those of one profile are shared by all artifacts that name it.
    pub capability: Arc<Capability>,
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
    /// Every process of this unit is a subject, and the executables are its own there only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    pub capabilities: Vec<EffectiveCapability>,
    /// The optional capabilities that the scope took away, as sentences.
    pub narrowed: Vec<String>,
}

/// Whether one of these capabilities is enough to change what stands at this path.
fn may_replace<'c>(mut capabilities: impl Iterator<Item = &'c Capability>, path: &str) -> bool {
    let changes = [
        CapabilityName::FsWrite,
        CapabilityName::FsCreate,
        CapabilityName::FsDelete,
    ];
    capabilities.any(|one| changes.contains(&one.name) && one.grants_path(path))
}

impl Effective {
    /// The files that it pins, with their hashes.
    pub fn code(&self) -> impl Iterator<Item = (&String, &String)> {
        self.capabilities
            .iter()
            .flat_map(|one| &one.capability.files)
    }

    /// What its executables need to start and is implied: their loaders, but for those of an executable
    /// that could replace one itself. The interpreter of a program in its own tree is for its envelope
    /// to name.
    pub fn loaders<'f>(&self, found: impl Iterator<Item = &'f FoundFile>) -> BTreeSet<String> {
        found
            .map(|found| &found.loaders)
            .filter(|loaders| !loaders.ways.iter().any(|path| self.may_replace(path)))
            .flat_map(|loaders| loaders.paths.clone())
            .collect()
    }

    fn may_replace(&self, path: &str) -> bool {
        let capabilities = self.capabilities.iter().map(|one| one.capability.as_ref());
        may_replace(capabilities, path)
    }

    /// Sentences about loaders that are not implied.
    pub fn loader_warnings(&self, facts: &[ExecutableFacts]) -> Vec<String> {
        let mut warnings = Vec::new();
        for fact in facts {
            let Some(found) = &fact.found else {
                continue;
            };
            for name in &found.loaders.untrusted {
                warnings.push(format!(
                    "{} is started by {name:?}, which others than root can replace or which is no \
                     program; if it is meant, grant fs:read and code:load on its real path",
                    fact.path
                ));
            }
            if let Some(path) = found.loaders.ways.iter().find(|way| self.may_replace(way)) {
                warnings.push(format!(
                    "{} may replace {path:?}, by which it is started: its interpreter is not implied; \
                     grant fs:read and code:load on its real path, or take away the right to change it",
                    fact.path
                ));
            }
        }
        warnings
    }
}

/// The admitted set by id.
pub type Admitted = BTreeMap<String, AdmittedSummary>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::digest::seal;
    use crate::event::Code;

    fn artifact() -> String {
        let hash = sha256_hex(b"example");
        let text = format!(
            r#"schema_version = "1.0.0"
[artifact]
id = "example"
version = "1"
publisher = "example"
[[artifact.executable]]
path = "/usr/bin/example"
sha256 = "{hash}"
[envelope]
[[envelope.capability]]
name = "fs:write"
paths = ["/var/lib/example/**"]
justification = "keeps its state"
"#
        );
        seal(&text, "example.toml").unwrap()
    }

    fn inputs(document: &str) -> Inputs {
        let found = FoundFile {
            sha256: sha256_hex(b"example"),
            realpath_ok: true,
            regular: true,
            mode: 0o755,
            uid: 0,
            filesystem: "ext4".to_owned(),
            script: false,
            replaceable: false,
            casefold: false,
            loaders: Loaders::default(),
        };
        Inputs {
            name: "example.toml".to_owned(),
            document: document.as_bytes().to_vec(),
            file_problem: None,
            signature_present: false,
            site_grants: BTreeSet::new(),
            profiles: ProfileSet::shipped(),
            scope: Scope::shipped().unwrap(),
            executables: vec![ExecutableFacts {
                path: "/usr/bin/example".to_owned(),
                found: Some(found),
                problem: None,
                taken_by: None,
                written: false,
            }],
            code: Vec::new(),
            node: Node {
                enforceable: CapabilityName::ALL.iter().copied().collect(),
                measures: true,
                blockers: Vec::new(),
            },
            admitted: Admitted::new(),
            options: Options::default(),
        }
    }

    fn error(inputs: &Inputs) -> Option<ErrorCode> {
        let decision = decide(inputs);
        let last = decision.events.last().unwrap();
        match decision.verdict {
            Verdict::Rejected { error, .. } => {
                assert_eq!((last.code, last.error), (Code::Rejected, error));
                error
            }
            Verdict::Admitted(_) => panic!("admitted"),
        }
    }

    fn error_of(old: &str, new: &str) -> Option<ErrorCode> {
        let artifact = artifact();
        assert!(artifact.contains(old), "{old}");
        error(&inputs(&artifact.replace(old, new)))
    }

    #[test]
    fn a_valid_artifact_is_admitted_as_declared() {
        let Verdict::Admitted(effective) = decide(&inputs(&artifact())).verdict else {
            panic!("rejected");
        };

        assert_eq!(effective.executables[0].path, "/usr/bin/example");
        assert_eq!(effective.capabilities.len(), 1);
        assert!(
            effective.capabilities[0]
                .capability
                .grants_path("/var/lib/example/x")
        );
        assert!(effective.narrowed.is_empty());
    }

    #[test]
    fn a_loader_that_the_program_could_replace_is_not_implied() {
        let mut inputs = inputs(&artifact());
        let Verdict::Admitted(effective) = decide(&inputs).verdict else {
            panic!("rejected");
        };
        // the envelope grants fs:write on /var/lib/example/**
        for (way, implied) in [("/usr/lib/ld.so", 1), ("/var/lib/example/ld.so", 0)] {
            let found = inputs.executables[0].found.as_mut().unwrap();
            found.loaders.paths = BTreeSet::from(["/usr/lib/ld-2.so".to_owned()]);
            found.loaders.ways = BTreeSet::from([way.to_owned()]);
            let found = inputs.executables[0].found.as_ref();

            assert_eq!(effective.loaders(found.into_iter()).len(), implied, "{way}");
            let warnings = effective.loader_warnings(&inputs.executables);
            assert_eq!(warnings.len(), 1 - implied, "{warnings:?}");
        }
    }

    #[test]
    fn an_artifact_without_an_envelope_is_rejected() {
        let text = artifact();
        let (head, _) = text.split_once("[envelope]").unwrap();

        assert_eq!(error(&inputs(head)), Some(ErrorCode::MissingEnvelope));
    }

    #[test]
    fn an_envelope_without_capabilities_is_rejected() {
        let text = artifact();
        let (head, _) = text.split_once("[[envelope.capability]]").unwrap();

        assert_eq!(error(&inputs(head)), Some(ErrorCode::EmptyCapabilities));
    }

    #[test]
    fn an_envelope_that_breaks_the_format_is_rejected() {
        assert_eq!(
            error_of("fs:write", "fs:wright"),
            Some(ErrorCode::InvalidEnvelope)
        );
        assert_eq!(
            error_of("[artifact]", "[artifact"),
            Some(ErrorCode::InvalidEnvelope)
        );
    }

    #[test]
    fn an_unknown_schema_version_is_rejected() {
        assert_eq!(error_of("1.0.0", "1.1.0"), Some(ErrorCode::SchemaUnknown));
    }

    #[test]
    fn an_envelope_changed_after_it_was_sealed_is_rejected() {
        let found = error_of("/var/lib/example/**", "/var/lib/**");

        assert_eq!(found, Some(ErrorCode::DigestMismatch));
    }

    #[test]
    fn an_envelope_moved_to_another_identity_is_rejected() {
        let found = error_of("id = \"example\"", "id = \"other\"");

        assert_eq!(found, Some(ErrorCode::DigestMismatch));
    }

    #[test]
    fn a_program_with_other_content_is_rejected() {
        let mut inputs = inputs(&artifact());
        let found = inputs.executables[0].found.as_mut().unwrap();
        found.sha256 = sha256_hex(b"other");

        assert_eq!(error(&inputs), Some(ErrorCode::DigestMismatch));
    }

    #[test]
    fn an_envelope_beyond_the_scope_is_rejected() {
        let text = artifact().replace("/var/lib/example/**", "/etc/**");
        let text = seal(&text, "example.toml").unwrap();

        assert_eq!(error(&inputs(&text)), Some(ErrorCode::OverScoped));
    }

    #[test]
    fn an_id_that_is_admitted_already_is_rejected() {
        let mut inputs = inputs(&artifact());
        let executables = BTreeSet::from(["/usr/bin/other".to_owned()]);
        let summary = AdmittedSummary {
            unit: None,
            file: "other.toml".to_owned(),
            executables,
        };
        inputs.admitted.insert("example".to_owned(), summary);

        assert_eq!(error(&inputs), Some(ErrorCode::DuplicateArtifact));
    }

    #[test]
    fn a_file_that_cannot_be_trusted_is_rejected_unread() {
        let mut inputs = inputs("");
        inputs.file_problem = Some(FileProblem {
            detail: Detail::Untrusted,
            message: "others can write it".to_owned(),
        });

        assert_eq!(error(&inputs), Some(ErrorCode::InvalidEnvelope));
    }

    #[test]
    fn every_decision_ends_with_a_verdict_and_begins_with_its_inputs() {
        for text in [artifact(), String::new(), artifact().replace("1.0.0", "2")] {
            let decision = decide(&inputs(&text));

            assert_eq!(decision.events[0].code, Code::Submitted);
            let last = decision.events.last().unwrap().code;
            assert!(matches!(last, Code::Admitted | Code::Rejected));
            assert!(decision.events.iter().all(|event| event.detail.is_some()));
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes() {
        let once = decide(&inputs(&artifact()));
        let again = decide(&inputs(&artifact()));

        let json = |decision: &Decision| serde_json::to_string(decision).unwrap();
        assert_eq!(json(&once), json(&again));
    }
}
