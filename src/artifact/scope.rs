//! The scope file: the most that artifacts may be granted on this site, by whom they come from.
//! Whether one stays below it is `ceiling`'s.

use std::collections::{BTreeMap, BTreeSet};

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::capability::Capability;
use super::ceiling::{Ceiling, Level};
use super::digest::sha256_hex;
use super::entry::{Declared, Rights, pattern};
use super::pattern::Pattern;
use super::problem::Problems;
use super::profile::{ProfileSet, read_capabilities};
use super::reader::{At, Reader, Table};
use super::{is_short_name, schema};
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

/// The most that artifacts may be granted on this site.
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
    #[schemars(default, extend("propertyNames" = { "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$" }))]
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
    schema::published::<ScopeFile>("Cartouche scope, schema version 1.0.0")
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

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = r#"schema_version = "1.0.0"
[site]
executables = ["/**", "/usr/bin/bash"]
executables_except = ["/tmp/**"]
[[site.capability]]
name = "fs:read"
paths = ["/**"]
[[site.capability]]
name = "profile:base"
"#;

    fn scope(rest: &str) -> Scope {
        Scope::parse(format!("{SITE}{rest}").as_bytes(), "scope.toml").unwrap()
    }

    fn details(text: &str) -> Vec<Detail> {
        let problems = Scope::parse(text.as_bytes(), "scope.toml").unwrap_err();
        problems.list.iter().map(|problem| problem.detail).collect()
    }

    fn read(path: &str) -> Capability {
        let mut capability = Capability::new(crate::artifact::capability::CapabilityName::FsRead);
        capability.paths.insert(Pattern::parse(path).unwrap());
        capability
    }

    #[test]
    fn the_shipped_scope_is_valid() {
        let scope = Scope::shipped().unwrap();

        assert!(scope.site.capabilities.is_some());
        assert!(scope.unsigned.is_none());
    }

    #[test]
    fn the_site_must_say_what_is_allowed() {
        assert_eq!(
            details("schema_version = \"1.0.0\"\n"),
            [Detail::MissingKey]
        );
        assert_eq!(
            details("schema_version = \"1.0.0\"\n[site]\n"),
            [Detail::MissingKey, Detail::MissingKey]
        );
        assert_eq!(details("[site]\n"), [Detail::SchemaMissing]);
    }

    #[test]
    fn unknown_keys_and_publishers_of_the_wrong_form_are_refused() {
        assert_eq!(details(&format!("{SITE}[sites]\n")), [Detail::UnknownKey]);
        assert_eq!(
            details(&format!("{SITE}justification = \"x\"\n")),
            [Detail::UnknownKey]
        );
        assert_eq!(
            details(&format!("{SITE}[publisher.\"a.b\"]\n")),
            [Detail::BadValue]
        );
        assert_eq!(
            details(&format!("{SITE}[publisher]\na = 1\n")),
            [Detail::WrongType]
        );
    }

    #[test]
    fn a_section_narrows_the_site_and_never_widens_it() {
        let scope = scope(
            r#"
[unsigned]
executables = ["/opt/**", "/tmp/x"]
[[unsigned.capability]]
name = "fs:read"
paths = ["/srv/**"]
[publisher.example]
[[publisher.example.capability]]
name = "net:connect"
endpoints = ["tcp://*:*"]
"#,
        );
        let profiles = ProfileSet::shipped();

        let unsigned = scope.ceiling(None, &profiles);
        let example = scope.ceiling(Some("example"), &profiles);
        let other = scope.ceiling(Some("other"), &profiles);

        assert!(unsigned.allows_executable("/opt/x", false));
        assert!(!unsigned.allows_executable("/usr/bin/x", false));
        assert!(!unsigned.allows_executable("/tmp/x", false));
        assert!(unsigned.outside(&read("/srv/x")).is_empty());
        assert!(!unsigned.outside(&read("/etc/x")).is_empty());
        assert!(example.allows_executable("/usr/bin/x", false));
        assert!(!example.outside(&read("/srv/x")).is_empty());
        assert!(other.outside(&read("/etc/x")).is_empty());
    }

    #[test]
    fn system_programs_are_claimed_by_exact_path_only() {
        let profiles = ProfileSet::shipped();
        let scope = scope("[unsigned]\nexecutables = [\"/usr/**\"]\n");

        let signed = scope.ceiling(Some("example"), &profiles);
        let unsigned = scope.ceiling(None, &profiles);

        assert!(signed.allows_executable("/usr/bin/bash", false));
        assert!(!signed.allows_executable("/usr/bin/dash", false));
        assert!(!unsigned.allows_executable("/usr/bin/bash", false));
        assert!(unsigned.allows_executable("/usr/bin/socat", false));
    }

    #[test]
    fn a_profile_in_the_scope_allows_what_it_means() {
        let narrow = SITE.replace("paths = [\"/**\"]", "paths = [\"/srv/**\"]");
        let scope = Scope::parse(narrow.as_bytes(), "scope.toml").unwrap();
        let profiles = ProfileSet::shipped();

        let ceiling = scope.ceiling(None, &profiles);

        assert!(ceiling.outside(&read("/etc/ld.so.cache")).is_empty());
        assert!(!ceiling.outside(&read("/etc/shadow")).is_empty());
    }
}
