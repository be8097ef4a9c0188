//! An artifact file, parsed and understood, but not yet admitted.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::capability::Capability;
use super::file::ArtifactFile;
pub use super::file::schema;
use super::pattern::{Pattern, PatternKind};
use super::problem::{Place, Problems};
use super::reader::Reader;
use super::{digest, is_id};
use crate::event::{Detail, ErrorCode, stable_words};

/// The versions of the format that this build reads, oldest first.
pub const SCHEMA_VERSIONS: &[&str] = &["1.0.0"];

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// Absolute, canonical and its own realpath.
    pub path: String,
    /// The file's content must have one of these.
    pub sha256: BTreeSet<String>,
    pub verify: Verify,
    /// Of its path in the file.
    pub place: Place,
}

/// A parsed artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Where each of `capabilities` stands.
    pub capability_places: Vec<Place>,
    pub id_place: Place,
    /// Where the digest stands, or belongs.
    pub digest_place: Place,
    /// The bytes of the digest's value, quotes included.
    pub(super) digest_span: Option<Range<usize>>,
    /// The document without its digest, defaults filled in: what the digest is of.
    pub document: serde_json::Value,
}

impl Draft {
    /// Parses an artifact; `name` is its file's, for messages.
    ///
    /// On failure all problems of the first step that failed: syntax, schema, envelope, capabilities,
    /// validity.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, Problems> {
        let reader = Reader::new(name, bytes)?;
        let toml = reader.parse()?;
        let mut root = reader.root(&toml);
        let schema_version = root.schema_version(SCHEMA_VERSIONS)?;
        require_capabilities(&reader, toml.get_ref())?;
        let file = ArtifactFile::read(schema_version, &mut root);
        match file {
            Some((file, understood)) if reader.is_clean() => {
                let (executables, capabilities) = understood;
                Ok(Self::assemble(&reader, file, executables, capabilities))
            }
            _ => Err(reader.fail(true)),
        }
    }

    /// The digest that the envelope must carry.
    pub fn computed_digest(&self) -> String {
        digest::digest(&self.document)
    }

    fn assemble(
        reader: &Reader<'_>,
        mut file: ArtifactFile,
        executables: Vec<Executable>,
        capabilities: Vec<(Capability, Place)>,
    ) -> Self {
        let digest = file.envelope.digest.take();
        let digest_start = digest
            .as_ref()
            .map_or(file.envelope.start, |digest| digest.span.start);
        let document = serde_json::to_value(&file).unwrap_or_default();
        let (capabilities, capability_places) = capabilities.into_iter().unzip();
        Self {
            schema_version: file.schema_version.value,
            id_place: reader.place(file.artifact.id.span.start),
            id: file.artifact.id.value,
            version: file.artifact.version.value,
            publisher: file.artifact.publisher.value,
            description: file.artifact.description.map(|text| text.value),
            executables,
            unit: file.artifact.unit.map(|unit| unit.name.value),
            capabilities,
            capability_places,
            digest_place: reader.place(digest_start),
            digest_span: digest.as_ref().map(|digest| digest.span.clone()),
            digest: digest.map(|digest| digest.value),
            document,
        }
    }
}

/// Fails if there is no envelope, or one without a single capability.
fn require_capabilities(reader: &Reader<'_>, root: &DeTable<'_>) -> Result<(), Problems> {
    let Some(envelope) = root.get("envelope") else {
        let message = "there is no [envelope]; without one nothing is allowed and nothing admitted";
        reader.report(
            &(0..0),
            ErrorCode::MissingEnvelope,
            Detail::EnvelopeMissing,
            message,
        );
        return Err(reader.fail(true));
    };
    let empty = match envelope.get_ref() {
        DeValue::Table(table) => match table.get("capability").map(|list| list.get_ref()) {
            None => true,
            Some(DeValue::Array(list)) => list.is_empty(),
            Some(_) => false,
        },
        _ => false,
    };
    if empty {
        let message = "the envelope declares no capability; add [[envelope.capability]]";
        let code = ErrorCode::EmptyCapabilities;
        reader.report(&envelope.span(), code, Detail::CapabilitiesEmpty, message);
        return Err(reader.fail(true));
    }
    Ok(())
}

/// The canonical executable paths of anything that is TOML, whatever else is wrong with it. While the
/// artifact is not admitted these programs do not run.
pub fn claimed_paths(bytes: &[u8]) -> Vec<String> {
    let Some(toml) = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| DeTable::parse(text).ok())
    else {
        return Vec::new();
    };
    let executables = toml
        .get_ref()
        .get("artifact")
        .and_then(|artifact| artifact.get_ref().get("executable"))
        .and_then(|executables| executables.get_ref().as_array().map(|list| list.iter()));
    let paths: BTreeSet<String> = executables
        .into_iter()
        .flatten()
        .filter_map(|executable| executable.get_ref().get("path")?.get_ref().as_str())
        .filter(|path| Pattern::parse(path).is_ok_and(|p| p.kind() == PatternKind::Exact))
        .map(str::to_owned)
        .collect();
    paths.into_iter().collect()
}

/// The id of anything that is TOML, if it has the form of one.
pub fn claimed_id(bytes: &[u8]) -> Option<String> {
    let toml = DeTable::parse(std::str::from_utf8(bytes).ok()?).ok()?;
    let id = toml
        .get_ref()
        .get("artifact")?
        .get_ref()
        .get("id")?
        .get_ref()
        .as_str()?;
    is_id(id).then(|| id.to_owned())
}
