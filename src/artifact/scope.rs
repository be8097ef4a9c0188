//! The scope file: the most that artifacts may be granted on this site, by whom they come from.
//! Whether one stays below it is `ceiling`'s.

use std::collections::{BTreeMap, BTreeSet};

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::capability::Capability;
use super::ceiling::{Ceiling, Level};
use super::digest::sha256_hex;
use super::entry::{Declared, Rights, pattern};
use super::is_short_name;
use super::pattern::Pattern;
use super::problem::Problems;
use super::profile::{ProfileSet, read_capabilities};
use super::reader::{At, Reader, Table};
use crate::event::Detail;

/// The versions of the scope format that this build reads.
pub const SCHEMA_VERSIONS: &[&str] = &["1.0.0"];

/// The scope that the packages ship.
const SHIPPED: &str = include_str!("../../policies/scope.toml");

/// A parsed scope.toml.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    pub schema_version: String,
    /// For everybody; has executables and capabilities.
    pub site: Limits,
    /// Narrows the site for artifacts without a signature.
    pub unsigned: Option<Limits>,
    /// Narrows the site for artifacts that a publisher signed.
    pub publishers: BTreeMap<String, Limits>,
    /// The file, for the record of a decision.
    pub source: String,
    /// Of `source`, in hex.
    pub sha256: String,
}

/// One section of a scope.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Executables that artifacts may claim; absent: as the site.
    pub executables: Option<BTreeSet<Pattern>>,
    /// And those of them that they may not.
    pub executables_except: BTreeSet<Pattern>,
    /// Capabilities that artifacts may hold; absent: as the site.
    pub capabilities: Option<Vec<Capability>>,
}

/// The file as written.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ScopeFile {
    /// The version of this format.
    #[schemars(extend("enum" = SCHEMA_VERSIONS))]
    schema_version: At<String>,
    /// The most that any artifact may have.
    site: SiteTable,
    /// Narrows it for artifacts without a signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    unsigned: Option<LimitsTable>,
    /// Narrows it for artifacts that a publisher signed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$" }))]
    publisher: BTreeMap<String, LimitsTable>,
}

/// The site's section; its executables and capabilities must be written.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SiteTable {
    /// Patterns of programs that artifacts may claim. System programs, such as shells, need an exact
    /// path.
    #[schemars(length(min = 1), inner(regex(pattern = r"^/")))]
    executables: Vec<At<String>>,
    /// Patterns carved out of `executables`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), inner(regex(pattern = r"^/")))]
    executables_except: Option<Vec<At<String>>>,
    /// What artifacts may hold.
    #[schemars(length(min = 1))]
    capability: Vec<Rights>,
}

/// A section that narrows the site; what is absent is as the site has it.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct LimitsTable {
    /// Patterns of programs that these artifacts may claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), inner(regex(pattern = r"^/")))]
    executables: Option<Vec<At<String>>>,
    /// Patterns carved out of `executables`, or out of the site's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), inner(regex(pattern = r"^/")))]
    executables_except: Option<Vec<At<String>>>,
    /// What these artifacts may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    capability: Option<Vec<Rights>>,
}

/// The JSON schema of scope.toml.
pub fn schema() -> Schema {
    let mut schema = schemars::schema_for!(ScopeFile);
    schema.insert(
        "title".to_owned(),
        "Cartouche scope, schema version 1.0.0".into(),
    );
    schema
}

impl Scope {
    /// The scope that the packages ship.
    pub fn shipped() -> Result<Self, Problems> {
        Self::parse(SHIPPED.as_bytes(), "scope.toml")
    }

    /// Parses a scope; `name` is its file's, for messages.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, Problems> {
        let reader = Reader::new(name, bytes)?;
        let toml = reader.parse()?;
        let mut root = reader.root(&toml);
        let schema_version = root.schema_version(SCHEMA_VERSIONS)?;
        root.require("site");
        let site = root.table("site").map(|mut table| {
            table.require("executables");
            table.require("capability");
            read_limits(&mut table)
        });
        let unsigned = root
            .table("unsigned")
            .map(|mut table| read_limits(&mut table));
        let mut publishers = BTreeMap::new();
        for (publisher, mut table) in root
            .table("publisher")
            .map(|mut table| table.named_tables())
            .unwrap_or_default()
        {
            if !is_short_name(&publisher.value) {
                let message = format!(
                    "publisher {:?} is not of the form [a-z0-9][a-z0-9_-]{{0,62}}",
                    publisher.value
                );
                reader.invalid(&publisher.span, Detail::BadValue, message);
            }
            publishers.insert(publisher.value, read_limits(&mut table));
        }
        root.finish();
        match site {
            Some(site) if reader.is_clean() => Ok(Self {
                schema_version: schema_version.value,
                site,
                unsigned,
                publishers,
                source: String::from_utf8_lossy(bytes).into_owned(),
                sha256: sha256_hex(bytes),
            }),
            _ => Err(reader.fail(true)),
        }
    }

    /// The limits of an artifact: the site's and, narrowing them, those of its valid signature's
    /// publisher or of unsigned files.
    pub fn ceiling(&self, signed_by: Option<&str>, profiles: &ProfileSet) -> Ceiling<'_> {
        let narrowing = match signed_by {
            Some(publisher) => self.publishers.get(publisher),
            None => self.unsigned.as_ref(),
        };
        let levels = std::iter::once(&self.site)
            .chain(narrowing)
            .map(|limits| Level {
                limits,
                capabilities: limits.capabilities.as_ref().map(|capabilities| {
                    let expanded = capabilities.iter().filter_map(|c| profiles.expand(c));
                    expanded.flatten().collect()
                }),
            })
            .collect();
        Ceiling { levels }
    }
}

fn read_limits(table: &mut Table<'_, '_>) -> Limits {
    let executables = table.strings("executables");
    let except = table.strings("executables_except");
    let capabilities = read_capabilities(table, Declared::Scope).map(|(_, understood)| understood);
    table.finish();
    let patterns = |texts: Option<Vec<At<String>>>| -> Option<BTreeSet<Pattern>> {
        Some(
            texts?
                .iter()
                .filter_map(|text| pattern(table, text))
                .collect(),
        )
    };
    Limits {
        executables: patterns(executables),
        executables_except: patterns(except).unwrap_or_default(),
        capabilities,
    }
}
