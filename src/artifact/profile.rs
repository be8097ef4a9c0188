//! Profiles: rule sets of the platform that `profile:NAME` capabilities mean.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::capability::Capability;
use super::digest::sha256_hex;
use super::entry::{Declared, Rights};
use super::problem::{Place, Problem, Problems};
use super::reader::{At, Reader, Table};
use super::{is_short_name, schema};
use crate::event::{Detail, ErrorCode};

/// The versions of the profile format that this build reads.
pub const SCHEMA_VERSIONS: &[&str] = &["1.0.0"];

/// The profiles that the packages ship, by name.
const SHIPPED: [(&str, &str); 7] = [
    ("base", include_str!("../../policies/profiles/base.toml")),
    ("dns", include_str!("../../policies/profiles/dns.toml")),
    (
        "locale",
        include_str!("../../policies/profiles/locale.toml"),
    ),
    (
        "notify",
        include_str!("../../policies/profiles/notify.toml"),
    ),
    (
        "syslog",
        include_str!("../../policies/profiles/syslog.toml"),
    ),
    ("tls", include_str!("../../policies/profiles/tls.toml")),
    ("users", include_str!("../../policies/profiles/users.toml")),
];

/// A named rule set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub schema_version: String,
    pub description: String,
    /// At least one, none a profile itself.
    pub capabilities: Vec<Capability>,
    /// The file, for the record of a decision.
    pub source: String,
    /// Of `source`, in hex.
    pub sha256: String,
}

/// A rule set of the platform that `profile:NAME` means.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ProfileFile {
    /// The version of this format.
    #[schemars(extend("enum" = SCHEMA_VERSIONS))]
    schema_version: At<String>,
    /// What a program can do with it.
    #[schemars(length(min = 1))]
    description: At<String>,
    #[schemars(length(min = 1))]
    capability: Vec<Rights>,
}

impl Profile {
    /// Parses a profile; `name` is its file's, for messages.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, Problems> {
        let reader = Reader::new(name, bytes)?;
        let toml = reader.parse()?;
        let mut root = reader.root(&toml);
        let schema_version = root.schema_version(SCHEMA_VERSIONS)?;
        let description = root.required_string("description");
        root.require("capability");
        let read = read_capabilities(&mut root, Declared::Profile);
        root.finish();
        match (description, read) {
            (Some(description), Some((capability, capabilities))) if reader.is_clean() => {
                let file = ProfileFile {
                    schema_version,
                    description,
                    capability,
                };
                Ok(Self {
                    schema_version: file.schema_version.value,
                    description: file.description.value,
                    capabilities,
                    source: String::from_utf8_lossy(bytes).into_owned(),
                    sha256: sha256_hex(bytes),
                })
            }
            _ => Err(reader.fail(true)),
        }
    }
}

/// `[[capability]]` without justification and mandatory, as profiles and scopes have it.
pub(super) fn read_capabilities(
    table: &mut Table<'_, '_>,
    declared: Declared,
) -> Option<(Vec<Rights>, Vec<Capability>)> {
    let tables = table.tables("capability")?;
    let read: Vec<_> = tables
        .into_iter()
        .map(|mut table| {
            let rights = Rights::read(&mut table);
            table.finish();
            let rights = rights?;
            let capability = rights.understand(&table, declared)?;
            Some((rights, capability))
        })
        .collect();
    Some(
        read.into_iter()
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .unzip(),
    )
}

/// The JSON schema of a profile file.
pub fn schema() -> Schema {
    schema::published::<ProfileFile>("Cartouche profile, schema version 1.0.0")
}

/// The profiles of a node by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileSet {
    profiles: BTreeMap<String, Profile>,
}

impl ProfileSet {
    /// The profiles that the packages ship.
    pub fn shipped() -> Self {
        let files = SHIPPED.map(|(name, text)| (format!("{name}.toml"), text.as_bytes().to_vec()));
        Self::load(files).0
    }

    /// The profiles in `files`, which are file names with their bytes; a later file replaces an earlier
    /// one of its name. A file that is no profile is left out and reported: artifacts that need it are
    /// rejected, others are not disturbed.
    pub fn load(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> (Self, Vec<Problems>) {
        let mut set = Self::default();
        let mut broken = Vec::new();
        for (file, bytes) in files {
            let name = file.strip_suffix(".toml").unwrap_or(&file);
            // What a broken file replaces is not what the administrator wants to be in force.
            set.profiles.remove(name);
            if !is_short_name(name) {
                let message =
                    "the file's name is not of the form [a-z0-9][a-z0-9_-]{0,62}.toml; rename it";
                let problem = Problem::new(
                    Place::default(),
                    ErrorCode::InvalidEnvelope,
                    Detail::BadValue,
                    message,
                );
                let list = vec![problem];
                broken.push(Problems {
                    name: file,
                    schema_known: false,
                    list,
                    omitted: 0,
                });
                continue;
            }
            match Profile::parse(&bytes, &file) {
                Ok(profile) => {
                    set.profiles.insert(name.to_owned(), profile);
                }
                Err(problems) => broken.push(problems),
            }
        }
        (set, broken)
    }

    pub fn get(&self, name: &str) -> Option<&Profile> {
        self.profiles.get(name)
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Profile)> {
        self.profiles
            .iter()
            .map(|(name, profile)| (name.as_str(), profile))
    }

    /// What `capability` means: itself, or the capabilities of the profile that it names. `None` if
    /// there is no such profile. What a profile grants is as mandatory as the capability that names it.
    pub fn expand(&self, capability: &Capability) -> Option<Vec<Capability>> {
        let Some(name) = &capability.profile else {
            return Some(vec![capability.clone()]);
        };
        let profile = self.get(name)?;
        let expanded = profile
            .capabilities
            .iter()
            .cloned()
            .map(|expanded| Capability {
                mandatory: capability.mandatory,
                ..expanded
            });
        Some(expanded.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::capability::CapabilityName;

    const PROFILE: &str = r#"schema_version = "1.0.0"
description = "example"
[[capability]]
name = "fs:read"
paths = ["/a"]
"#;

    fn detail(text: &str) -> Detail {
        Profile::parse(text.as_bytes(), "x.toml").unwrap_err().list[0].detail
    }

    #[test]
    fn every_shipped_profile_is_valid_and_pins_nothing() {
        let set = ProfileSet::shipped();

        assert_eq!(set.iter().count(), SHIPPED.len());
        for (name, profile) in set.iter() {
            assert!(
                profile.capabilities.iter().all(|one| one.files.is_empty()),
                "{name}"
            );
        }
    }

    #[test]
    fn broken_profiles_name_their_fault() {
        assert!(Profile::parse(PROFILE.as_bytes(), "x.toml").is_ok());
        let table = [
            (PROFILE.replace("1.0.0", "2"), Detail::SchemaUnknown),
            (
                PROFILE.replace("description = \"example\"\n", ""),
                Detail::MissingKey,
            ),
            (PROFILE.replace("fs:read", "profile:base"), Detail::BadValue),
            (PROFILE.replace("/a", "a"), Detail::BadPath),
            (
                format!("{PROFILE}justification = \"x\"\n"),
                Detail::UnknownKey,
            ),
            (
                "schema_version = \"1.0.0\"\ndescription = \"x\"\n".to_owned(),
                Detail::MissingKey,
            ),
        ];

        for (text, expected) in table {
            assert_eq!(detail(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_broken_file_is_left_out_together_with_what_it_replaces() {
        let files = [
            ("a.toml", PROFILE),
            ("b.toml", PROFILE),
            ("a.toml", "broken"),
            ("A.toml", PROFILE),
        ];
        let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));

        let (set, broken) = ProfileSet::load(files);

        assert_eq!(set.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["b"]);
        assert_eq!(
            broken.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
            ["a.toml", "A.toml"]
        );
    }

    #[test]
    fn a_profile_expands_to_capabilities_as_mandatory_as_its_name() {
        let (set, _) = ProfileSet::load([("a.toml".to_owned(), PROFILE.as_bytes().to_vec())]);
        let mut named = Capability::new(CapabilityName::Profile);
        named.profile = Some("a".to_owned());
        named.mandatory = false;

        let expanded = set.expand(&named).unwrap();

        assert_eq!(expanded.len(), 1);
        assert_eq!(expanded[0].name, CapabilityName::FsRead);
        assert!(!expanded[0].mandatory);
        named.profile = Some("b".to_owned());
        assert_eq!(set.expand(&named), None);
    }

    #[test]
    fn an_ordinary_capability_expands_to_itself() {
        let capability = Capability::new(CapabilityName::CodeGenerate);

        assert_eq!(
            ProfileSet::default().expand(&capability),
            Some(vec![capability])
        );
    }
}
