//! The artifact file as written: its tables and keys, and the JSON document that the digest is of.
//! What they amount to is a [`Draft`](super::draft::Draft).

use std::borrow::Cow;
use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use super::capability::{Capability, CapabilityName};
use super::draft::{Executable, SCHEMA_VERSIONS, Verify};
use super::entry::{Declared, Rights, check_sha256, exact_path};
use super::problem::Place;
use super::reader::{At, Table};
use super::{digest, is_id, is_sha256, is_short_name, schema, unit};
use crate::event::Detail;

/// Most rules of an artifact, those of profiles not counted: all are compared with the scope, and
/// all take room in the kernel.
const MAX_RULES: usize = 1024;

/// The JSON schema of the file.
pub fn schema() -> Schema {
    schema::published::<ArtifactFile>("Cartouche artifact, schema version 1.0.0")
}

// Serialises to the document that the digest is of; doc comments here are the schema's descriptions.
/// Who a program is and what it may do.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ArtifactFile {
    /// The version of this format.
    #[schemars(extend("enum" = SCHEMA_VERSIONS))]
    pub schema_version: At<String>,
    pub artifact: IdentityTable,
    pub envelope: EnvelopeTable,
}

/// Who the program is.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct IdentityTable {
    /// Unique on the node.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$"))]
    pub id: At<String>,
    #[schemars(length(min = 1))]
    pub version: At<String>,
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9_-]{0,62}$"))]
    pub publisher: At<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub description: Option<At<String>>,
    /// The programs; any of them makes a task a subject.
    #[schemars(length(min = 1))]
    pub executable: Vec<ExecutableTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitTable>,
}

/// A program, by path and content.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ExecutableTable {
    /// Absolute, canonical and its own realpath.
    #[schemars(regex(pattern = r"^/"))]
    pub path: At<String>,
    /// 64 lower-case hex digits, or a list of which the file must match one.
    pub sha256: Hashes,
    /// `pinned` unless written.
    #[schemars(extend("enum" = ["pinned", "measured"]), default = "verify_by_default")]
    pub verify: At<String>,
}

/// One hash or several, as written: the digest tells them apart.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Hashes {
    One(At<String>),
    Several(Vec<At<String>>),
}

impl JsonSchema for Hashes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Hashes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = serde_json::json!({ "type": "string", "pattern": "^[0-9a-f]{64}$" });
        schemars::json_schema!({
            "anyOf": [one, { "type": "array", "items": one, "minItems": 1, "uniqueItems": true }]
        })
    }
}

/// A systemd unit whose every process is a subject.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct UnitTable {
    #[schemars(regex(pattern = r"^[A-Za-z0-9:_.@\\-]+\.service$"))]
    pub name: At<String>,
}

/// What the program may do.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EnvelopeTable {
    /// Written by `cartouche seal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<At<String>>,
    #[schemars(length(min = 1))]
    pub capability: Vec<CapabilityTable>,
    #[serde(skip)]
    pub start: usize,
}

/// One declaration of the envelope.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, transform = schema::qualify)]
pub struct CapabilityTable {
    #[serde(flatten)]
    pub rights: Rights,
    /// Why the program needs it.
    #[schemars(length(min = 1))]
    pub justification: At<String>,
    /// Whether the artifact is useless without it, `true` unless written.
    #[schemars(default = "mandatory_by_default")]
    pub mandatory: bool,
}

fn verify_by_default() -> At<String> {
    At {
        value: Verify::Pinned.to_string(),
        span: 0..0,
    }
}

fn mandatory_by_default() -> bool {
    true
}

/// The executables and capabilities that the tables mean, with their places.
pub type Understood = (Vec<Executable>, Vec<(Capability, Place)>);

impl ArtifactFile {
    /// Reads and understands the rest of the file; `None` only beside a reported problem.
    pub fn read(
        schema_version: At<String>,
        root: &mut Table<'_, '_>,
    ) -> Option<(Self, Understood)> {
        root.require("artifact");
        let artifact = root.table("artifact").map(IdentityTable::read);
        let envelope = root.table("envelope").map(EnvelopeTable::read);
        root.finish();
        let (artifact, executables) = artifact??;
        let (envelope, capabilities) = envelope??;
        Some((
            Self {
                schema_version,
                artifact,
                envelope,
            },
            (executables, capabilities),
        ))
    }
}

impl IdentityTable {
    fn read(mut table: Table<'_, '_>) -> Option<(Self, Vec<Executable>)> {
        let id = table.required_string("id");
        let version = table.required_string("version");
        let publisher = table.required_string("publisher");
        let description = table.string("description");
        table.require("executable");
        let executables = table.tables("executable");
        let unit = table.table("unit").and_then(UnitTable::read);
        table.finish();
        check_name(
            &table,
            id.as_ref(),
            is_id,
            "id",
            "[a-z0-9][a-z0-9._-]{0,62}",
        );
        check_name(
            &table,
            publisher.as_ref(),
            is_short_name,
            "publisher",
            "[a-z0-9][a-z0-9_-]{0,62}",
        );
        let read: Vec<_> = executables?
            .into_iter()
            .map(ExecutableTable::read)
            .collect();
        let (executable, understood): (Vec<_>, Vec<Executable>) = read
            .into_iter()
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .unzip();
        report_duplicates(&table, "executable", executable.iter().map(|e| &e.path));
        let measured = understood.iter().zip(&executable);
        for (_, one) in measured.filter(|(one, _)| unit.is_some() && one.verify == Verify::Measured)
        {
            let message = "what runs in a unit cannot be measured by this version of Cartouche; leave \
                           verify away";
            table
                .reader()
                .invalid(&one.verify.span, Detail::Unsupported, message);
        }
        let identity = Self {
            id: id?,
            version: version?,
            publisher: publisher?,
            description,
            executable,
            unit,
        };
        Some((identity, understood))
    }
}

impl ExecutableTable {
    fn read(mut table: Table<'_, '_>) -> Option<(Self, Executable)> {
        let path = table.required_string("path");
        table.require("sha256");
        let is_list = table.is_list("sha256");
        let hashes = table.string_or_strings("sha256");
        let verify = table.string("verify");
        table.finish();
        for hash in hashes.iter().flatten() {
            check_sha256(&table, hash);
        }
        let verify = verify.unwrap_or_else(verify_by_default);
        let understood_verify = Verify::ALL
            .iter()
            .find(|v| v.as_str() == verify.value)
            .copied();
        if understood_verify.is_none() {
            let message = format!("verify is {:?}; write pinned or measured", verify.value);
            table
                .reader()
                .invalid(&verify.span, Detail::BadValue, message);
        }
        let path = path?;
        let understood = Executable {
            path: exact_path(&table, &path)?,
            sha256: hashes
                .iter()
                .flatten()
                .map(|hash| hash.value.clone())
                .collect(),
            verify: understood_verify?,
            hash_span: hashes
                .iter()
                .flatten()
                .next()
                .map(|hash| hash.span.clone())
                .unwrap_or_default(),
            hash_list: is_list,
            place: table.reader().place(path.span.start),
        };
        let hashes = hashes?;
        let sha256 = match <[At<String>; 1]>::try_from(hashes) {
            Ok([one]) if !is_list => Hashes::One(one),
            Ok(list) => Hashes::Several(list.into()),
            Err(list) => Hashes::Several(list),
        };
        Some((
            Self {
                path,
                sha256,
                verify,
            },
            understood,
        ))
    }
}

impl UnitTable {
    fn read(mut table: Table<'_, '_>) -> Option<Self> {
        let name = table.required_string("name")?;
        table.finish();
        if !unit::is_service(&name.value) {
            let message = format!(
                "{:?} is no service of the system manager; write NAME.service, an instance as \
                 NAME@INSTANCE.service",
                name.value
            );
            table
                .reader()
                .invalid(&name.span, Detail::BadValue, message);
        }
        Some(Self { name })
    }
}

impl EnvelopeTable {
    fn read(mut table: Table<'_, '_>) -> Option<(Self, Vec<(Capability, Place)>)> {
        let digest = table.string("digest");
        let capabilities = table.tables("capability");
        table.finish();
        if let Some(digest) = &digest
            && !digest.value.strip_prefix("sha256:").is_some_and(is_sha256)
        {
            let message =
                "digest is not sha256: and 64 lower-case hex digits; run `cartouche seal`";
            table
                .reader()
                .invalid(&digest.span, Detail::BadValue, message);
        }
        let read: Vec<_> = capabilities?
            .into_iter()
            .map(CapabilityTable::read)
            .collect();
        let (capability, understood): (Vec<_>, Vec<_>) = read
            .into_iter()
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .unzip();
        report_equal_capabilities(&table, &capability);
        let rules: usize = capability.iter().map(|table| table.rights.rules()).sum();
        if rules > MAX_RULES {
            let message = format!("the envelope has {rules} rules; the most is {MAX_RULES}");
            table
                .reader()
                .invalid(&table.span, Detail::TooMany, message);
        }
        Some((
            Self {
                digest,
                capability,
                start: table.span.start,
            },
            understood,
        ))
    }
}

impl CapabilityTable {
    fn read(mut table: Table<'_, '_>) -> Option<(Self, (Capability, Place))> {
        let rights = Rights::read(&mut table);
        let justification = table.required_string("justification");
        let mandatory = table
            .boolean("mandatory")
            .is_none_or(|mandatory| mandatory.value);
        table.finish();
        let mut rights = rights?;
        let mut capability = rights.understand(&table, Declared::Artifact)?;
        let justification = justification?;
        capability.justification = justification.value.clone();
        capability.mandatory = mandatory;
        if capability.name == CapabilityName::ProcessExec && rights.transition.is_none() {
            let inherit = capability
                .transition
                .map(|t| t.to_string())
                .unwrap_or_default();
            rights.transition = Some(At {
                value: inherit,
                span: 0..0,
            });
        }
        let place = table.reader().place(rights.name.span.start);
        Some((
            Self {
                rights,
                justification,
                mandatory,
            },
            (capability, place),
        ))
    }
}

fn check_name(
    table: &Table<'_, '_>,
    name: Option<&At<String>>,
    valid: fn(&str) -> bool,
    key: &str,
    form: &str,
) {
    if let Some(name) = name
        && !valid(&name.value)
    {
        let message = format!("{key} {:?} is not of the form {form}", name.value);
        table
            .reader()
            .invalid(&name.span, Detail::BadValue, message);
    }
}

fn report_duplicates<'v>(
    table: &Table<'_, '_>,
    what: &str,
    values: impl Iterator<Item = &'v At<String>>,
) {
    let mut seen = BTreeSet::new();
    for at in values {
        if !seen.insert(&at.value) {
            let message = format!("{what} {:?} stands twice; remove one", at.value);
            table.reader().invalid(&at.span, Detail::Duplicate, message);
        }
    }
}

/// Two capabilities of one name may differ; two that say the same are a slip.
fn report_equal_capabilities(table: &Table<'_, '_>, capabilities: &[CapabilityTable]) {
    let mut seen = BTreeSet::new();
    for capability in capabilities {
        let value = serde_json::to_value(capability).unwrap_or_default();
        if !seen.insert(digest::canonical(&value)) {
            let name = &capability.rights.name;
            let message = format!("this {} stands twice; remove one", name.value);
            table
                .reader()
                .invalid(&name.span, Detail::Duplicate, message);
        }
    }
}
