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
use super::{digest, is_id, unit};
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
    /// The bytes of its first hash, quotes included.
    pub(super) hash_span: Range<usize>,
    /// Whether its hashes are written as a list.
    pub(super) hash_list: bool,
}

impl Executable {
    /// The contents that the kernel compares at each exec; none if it is pinned.
    pub fn contents_to_measure(&self) -> BTreeSet<String> {
        match self.verify {
            Verify::Pinned => BTreeSet::new(),
            Verify::Measured => self.sha256.clone(),
        }
    }
}

/// A file that a `code:load` pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedCode {
    /// Absolute, canonical and its own realpath.
    pub path: String,
    pub sha256: String,
    /// Of its path in the file.
    pub place: Place,
    /// The bytes of its hash, quotes included.
    pub(super) hash_span: Range<usize>,
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
    /// The files that `capabilities` pin, in the order of the file.
    pub code: Vec<PinnedCode>,
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
        let pinned = file.envelope.capability.iter();
        let code = pinned
            .flat_map(|table| table.rights.file.iter().flatten())
            .map(|pinned| PinnedCode {
                path: pinned.path.value.clone(),
                sha256: pinned.sha256.value.clone(),
                place: reader.place(pinned.path.span.start),
                hash_span: pinned.sha256.span.clone(),
            })
            .collect();
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
            code,
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

/// What a file that may be an artifact lays claim to, whatever else is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claimed {
    /// Whether it is TOML at all; without that nothing of it is known.
    pub parsable: bool,
    /// The id, if it has the form of one.
    pub id: Option<String>,
    /// The canonical executable paths, sorted. While the artifact is not admitted these programs do not run.
    pub paths: Vec<String>,
    /// The unit that the artifact holds for: then its programs are its own there only, and while it is not
    /// admitted the unit's processes do not run.
    pub unit: Option<String>,
    /// The canonical paths of files that it pins, sorted. Nothing is claimed by them.
    pub code: Vec<String>,
}

impl Claimed {
    pub fn of(bytes: &[u8]) -> Self {
        let Some(toml) = std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| DeTable::parse(text).ok())
        else {
            return Self::default();
        };
        let artifact = |key| toml.get_ref().get("artifact")?.get_ref().get(key);
        let paths = exact_paths(elements(artifact("executable")));
        let envelope = toml.get_ref().get("envelope");
        let capabilities = envelope.and_then(|envelope| envelope.get_ref().get("capability"));
        let files = elements(capabilities).flat_map(|one| elements(one.get_ref().get("file")));
        let code = exact_paths(files);
        Self {
            parsable: true,
            id: artifact("id")
                .and_then(|id| id.get_ref().as_str())
                .filter(|id| is_id(id))
                .map(str::to_owned),
            paths,
            code,
            unit: artifact("unit")
                .and_then(|unit| unit.get_ref().get("name")?.get_ref().as_str())
                .filter(|name| unit::is_service(name) && !unit::is_excluded(name))
                .map(str::to_owned),
        }
    }

    /// Whether this, in the file `name`, and an artifact in force can be in each other's way: by file, by
    /// id, by unit, or by an executable of which `has` tells whether it is the other's.
    pub fn is_rival_of(
        &self,
        name: &str,
        (id, file, other_unit): (&str, &str, Option<&str>),
        has: impl Fn(&str) -> bool,
    ) -> bool {
        let same = match (self.unit.as_deref(), other_unit) {
            (None, None) => self.paths.iter().any(|path| has(path)),
            (own, other) => own == other,
        };
        file == name || self.id.as_deref() == Some(id) || same
    }
}

type Value<'t> = serde_spanned::Spanned<DeValue<'t>>;

/// What a list holds; nothing if it is none.
fn elements<'v, 't>(list: Option<&'v Value<'t>>) -> impl Iterator<Item = &'v Value<'t>> {
    let list = list.and_then(|list| list.get_ref().as_array());
    list.into_iter().flat_map(|list| list.iter())
}

/// The canonical paths without a wildcard that tables name as their `path`, sorted.
fn exact_paths<'v, 't: 'v>(tables: impl Iterator<Item = &'v Value<'t>>) -> Vec<String> {
    let paths: BTreeSet<String> = tables
        .filter_map(|table| table.get_ref().get("path")?.get_ref().as_str())
        .filter(|path| Pattern::parse(path).is_ok_and(|p| p.kind() == PatternKind::Exact))
        .map(str::to_owned)
        .collect();
    paths.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::capability::{CapabilityName, Transition};
    use proptest::prelude::*;

    const HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn header() -> String {
        format!(
            r#"schema_version = "1.0.0"
[artifact]
id = "example"
version = "1"
publisher = "example"
[[artifact.executable]]
path = "/usr/bin/example"
sha256 = "{HASH}"
"#
        )
    }

    /// An artifact with one capability, which starts at line 9.
    fn with_capability(keys: &str) -> String {
        format!(
            "{}[[envelope.capability]]\njustification = \"x\"\n{keys}\n",
            header()
        )
    }

    fn valid() -> String {
        with_capability("name = \"fs:read\"\npaths = [\"/etc/example\"]")
    }

    fn problems(text: &str) -> Problems {
        Draft::parse(text.as_bytes(), "x.toml").unwrap_err()
    }

    fn only(text: &str) -> (ErrorCode, Detail, usize) {
        let problems = problems(text);
        assert_eq!(problems.list.len(), 1, "{problems}");
        let problem = &problems.list[0];
        (problem.code.unwrap(), problem.detail, problem.line)
    }

    #[test]
    fn a_whole_artifact_is_understood() {
        let text = header()
            + r#"[envelope]
digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
[[envelope.capability]]
name = "process:exec"
paths = ["/usr/bin/*"]
except = ["/usr/bin/su"]
justification = "starts tools"
mandatory = false
"#;

        let draft = Draft::parse(text.as_bytes(), "x.toml").unwrap();

        assert_eq!(
            (draft.id.as_str(), draft.publisher.as_str()),
            ("example", "example")
        );
        assert_eq!(draft.digest, Some(format!("sha256:{HASH}")));
        assert_eq!(draft.executables[0].path, "/usr/bin/example");
        assert_eq!(draft.executables[0].verify, Verify::Pinned);
        let [capability] = &draft.capabilities[..] else {
            panic!("one capability")
        };
        assert_eq!(capability.name, CapabilityName::ProcessExec);
        assert_eq!(capability.transition, Some(Transition::Inherit));
        assert_eq!(capability.justification, "starts tools");
        assert!(!capability.mandatory);
        assert!(capability.grants_path("/usr/bin/ls") && !capability.grants_path("/usr/bin/su"));
        assert_eq!(draft.capability_places[0].line, 12);
        assert_eq!(draft.digest_place.line, 10);
    }

    #[test]
    fn only_keys_with_a_default_are_filled_in() {
        let text = with_capability("name = \"process:exec\"\npaths = [\"/usr/bin/ls\"]");

        let draft = Draft::parse(text.as_bytes(), "x.toml").unwrap();

        assert_eq!(
            draft.document,
            serde_json::json!({
                "schema_version": "1.0.0",
                "artifact": {
                    "id": "example", "version": "1", "publisher": "example",
                    "executable": [{
                        "path": "/usr/bin/example", "sha256": HASH, "verify": "pinned"
                    }],
                },
                "envelope": { "capability": [{
                    "name": "process:exec", "paths": ["/usr/bin/ls"], "transition": "inherit",
                    "justification": "x", "mandatory": true,
                }] },
            })
        );
    }

    #[test]
    fn the_schema_version_is_read_before_anything_else() {
        let unknown = valid().replace("1.0.0", "1.0.1") + "[nonsense]\n";
        let number = valid().replace("\"1.0.0\"", "1");
        let missing = valid().replace("schema_version", "schema");

        let code = ErrorCode::SchemaUnknown;
        assert_eq!(only(&unknown), (code, Detail::SchemaUnknown, 1));
        assert_eq!(only(&number), (code, Detail::SchemaUnknown, 1));
        assert_eq!(only(&missing), (code, Detail::SchemaMissing, 1));
        assert!(!problems(&unknown).schema_known);
    }

    #[test]
    fn an_artifact_without_an_envelope_or_with_an_empty_one_says_which() {
        let missing = ErrorCode::MissingEnvelope;
        assert_eq!(only(&header()).0, missing);
        assert!(problems(&header()).schema_known);
        let empty = ErrorCode::EmptyCapabilities;
        assert_eq!(only(&(header() + "[envelope]\n")).0, empty);
        assert_eq!(only(&(header() + "[envelope]\ncapability = []\n")).0, empty);
        let wrong = ErrorCode::InvalidEnvelope;
        assert_eq!(
            only(&(header() + "[envelope]\ncapability = \"all\"\n")).0,
            wrong
        );
        assert_eq!(
            only(&header().replace("[artifact]", "envelope = \"\"\n[artifact]")).0,
            wrong
        );
    }

    #[test]
    fn what_is_not_toml_or_not_utf8_names_the_place() {
        let invalid = ErrorCode::InvalidEnvelope;
        assert_eq!(only("a = 1\nb = \n"), (invalid, Detail::Syntax, 2));
        let twice = valid() + "[artifact]\nid = \"x\"\n";
        assert_eq!(problems(&twice).list[0].detail, Detail::Syntax);

        let latin1 = Draft::parse(b"# ok\n# caf\xe9\n", "x.toml").unwrap_err();

        assert_eq!(
            (latin1.list[0].detail, latin1.list[0].line),
            (Detail::NotUtf8, 2)
        );
        assert_eq!(latin1.list[0].column, 6);
    }

    #[test]
    fn every_problem_is_reported_at_once_in_the_order_of_the_file() {
        let text = r#"schema_version = "1.0.0"
extra = 1
[artifact]
id = "X"
version = 3
publisher = "a.b"
[[artifact.executable]]
path = "/bin/../x"
sha256 = []
[envelope]
digest = "md5:0"
[[envelope.capability]]
name = "fs:read"
paths = ["/a*b", "b"]
mandatory = "yes"
[[envelope.capability]]
name = "fs:execute"
justification = ""
"#;

        let found: Vec<_> = problems(text)
            .list
            .iter()
            .map(|p| (p.line, p.detail))
            .collect();

        assert_eq!(
            found,
            [
                (2, Detail::UnknownKey),
                (4, Detail::BadValue),
                (5, Detail::WrongType),
                (6, Detail::BadValue),
                (8, Detail::BadPath),
                (9, Detail::EmptyValue),
                (11, Detail::BadValue),
                (12, Detail::MissingKey),
                (14, Detail::BadPath),
                (14, Detail::BadPath),
                (15, Detail::WrongType),
                (17, Detail::UnknownCapability),
                (18, Detail::EmptyValue),
            ]
        );
    }

    #[test]
    fn problems_beyond_fifty_are_counted() {
        let unknown: String = (0..60).map(|n| format!("key{n} = true\n")).collect();
        let text = valid().replacen("[artifact]", &format!("{unknown}[artifact]"), 1);

        let problems = problems(&text);

        assert_eq!((problems.list.len(), problems.omitted), (50, 10));
        assert!(problems.to_string().ends_with("; and 10 more"));
    }

    #[test]
    fn an_envelope_longer_than_anybody_reads_is_refused() {
        let list = |count: usize| {
            let paths: Vec<_> = (0..count).map(|n| format!("\"/a/{n}\"")).collect();
            format!("name = \"fs:read\"\npaths = [{}]", paths.join(","))
        };
        let two = with_capability(&list(1000))
            + "[[envelope.capability]]\njustification = \"y\"\n"
            + &list(25);

        assert!(Draft::parse(with_capability(&list(1024)).as_bytes(), "x.toml").is_ok());
        assert_eq!(only(&with_capability(&list(1025))).1, Detail::TooMany);
        assert_eq!(only(&two).1, Detail::TooMany);
    }

    #[test]
    fn only_strings_booleans_lists_and_tables_are_values() {
        for value in ["1", "1.5", "1979-05-27", "true", "[\"1\"]", "{ a = \"1\" }"] {
            let text = valid().replace("version = \"1\"", &format!("version = {value}"));

            assert_eq!(
                only(&text),
                (ErrorCode::InvalidEnvelope, Detail::WrongType, 4),
                "{value}"
            );
        }
    }

    #[test]
    fn pinned_code_is_known_with_its_places() {
        let text = with_capability(&format!(
            "name = \"code:load\"\n[[envelope.capability.file]]\npath = \"/opt/b.so\"\n\
             sha256 = \"{HASH}\"\n[[envelope.capability.file]]\npath = \"/opt/a.so\"\nsha256 = \"{HASH}\""
        ));

        let draft = Draft::parse(text.as_bytes(), "x.toml").unwrap();

        let code: Vec<_> = draft
            .code
            .iter()
            .map(|file| (file.path.as_str(), file.place.line))
            .collect();
        assert_eq!(code, [("/opt/b.so", 13), ("/opt/a.so", 16)]);
        assert_eq!(
            &text[draft.code[0].hash_span.clone()],
            format!("\"{HASH}\"")
        );
        let claimed = Claimed::of(text.as_bytes());
        assert_eq!(claimed.code, ["/opt/a.so", "/opt/b.so"]);
        assert_eq!(claimed.paths, ["/usr/bin/example"]);
    }

    #[test]
    fn equal_things_twice_are_a_slip() {
        let executable = valid().replacen(
            "[[envelope",
            &format!(
                "[[artifact.executable]]\npath = \"/usr/bin/example\"\nsha256 = \"{HASH}\"\n[[envelope"
            ),
            1,
        );
        let capability = valid()
            + "[[envelope.capability]]\nname = \"fs:read\"\n\
            mandatory = true\npaths = [\"/etc/example\"]\njustification = \"x\"\n";
        let hash = valid().replace(&format!("\"{HASH}\""), &format!("[\"{HASH}\", \"{HASH}\"]"));
        let endpoint = with_capability(
            "name = \"net:connect\"\nendpoints = [\"tcp://127.0.0.1:1\", \"tcp://[::ffff:127.0.0.1]:1\"]",
        );

        for text in [executable, capability, hash, endpoint] {
            assert_eq!(only(&text).1, Detail::Duplicate, "{text}");
        }
    }

    #[test]
    fn executables_are_claimed_whatever_else_fails() {
        let broken = r#"
schema_version = 7
[artifact]
id = "Not An Id"
[[artifact.executable]]
path = "/usr/bin/b"
[[artifact.executable]]
path = "/usr/bin/../a"
[[artifact.executable]]
path = "/usr/bin/*"
[[artifact.executable]]
path = "/usr/bin/a"
sha256 = "x"
"#;

        assert_eq!(
            Claimed::of(broken.as_bytes()).paths,
            ["/usr/bin/a", "/usr/bin/b"]
        );
        assert_eq!(Claimed::of(broken.as_bytes()).id, None);
        assert_eq!(
            Claimed::of(valid().as_bytes()).id.as_deref(),
            Some("example")
        );
        assert_eq!(Claimed::of(b"not = = toml"), Claimed::default());
        assert!(Claimed::of(b"artifact = 1").paths.is_empty());
        assert!(!Claimed::of(b"\xff").parsable);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(problems) = Draft::parse(&bytes, "x.toml") {
                prop_assert!(!problems.list.is_empty());
            }
        }

        #[test]
        fn no_mutation_makes_the_parser_panic(at in 0usize..400, byte in any::<u8>()) {
            let mut bytes = valid().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;

            if let Err(problems) = Draft::parse(&bytes, "x.toml") {
                prop_assert!(!problems.list.is_empty());
            }
            Claimed::of(&bytes);
        }
    }
}
