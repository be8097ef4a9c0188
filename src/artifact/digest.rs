//! The digest that binds an envelope to its artifact: SHA-256 over canonical JSON (RFC 8785), lists
//! taken as sets. `tests/digest_reference.py` is the same in another language.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::draft::Draft;
use super::problem::Problems;

/// Keeps this digest apart from every other use of SHA-256 over JSON.
const DOMAIN: &str = "cartouche-artifact-v1\n";

/// Canonical JSON: keys by their UTF-16 code units, lists sorted by the bytes of their elements.
/// Artifacts hold no numbers, so that RFC 8785's form of them does not matter.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut members: Vec<_> = object.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            let members: Vec<String> = members
                .into_iter()
                .map(|(key, value)| format!("{}:{}", quoted(key), canonical(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(list) => {
            let mut elements: Vec<String> = list.iter().map(canonical).collect();
            elements.sort();
            format!("[{}]", elements.join(","))
        }
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// serde_json escapes exactly what RFC 8785 does.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// `sha256:` and the hex digest of a document, which must be without its own digest.
pub fn digest(document: &Value) -> String {
    let mut hasher = Sha256::new();
    hasher.update(DOMAIN);
    hasher.update(canonical(document));
    format!("sha256:{}", hex(&hasher.finalize()))
}

/// The hex SHA-256 of `bytes`.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// Why a text could not be sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealError {
    /// It is no valid artifact.
    Invalid(Problems),
    /// The envelope is written in a form in which no digest can be put.
    Layout,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(problems) => {
                for problem in &problems.list {
                    write!(f, "\n  {problem}")?;
                }
                match problems.omitted {
                    0 => Ok(()),
                    more => write!(f, "\n  and {more} more"),
                }
            }
            Self::Layout => f.write_str(
                "the digest cannot be put into an envelope written in this form; write it as [envelope]",
            ),
        }
    }
}

impl std::error::Error for SealError {}

/// `text` with `envelope.digest` written or corrected; comments, order and layout stay. `name` is the
/// file's, for messages.
pub fn seal(text: &str, name: &str) -> Result<String, SealError> {
    let draft = Draft::parse(text.as_bytes(), name).map_err(SealError::Invalid)?;
    let digest = draft.computed_digest();
    if draft.digest.as_ref() == Some(&digest) {
        return Ok(text.to_owned());
    }
    let sealed = match draft.digest_span {
        Some(span) => {
            let (before, after) = text
                .get(..span.start)
                .zip(text.get(span.end..))
                .ok_or(SealError::Layout)?;
            format!("{before}\"{digest}\"{after}")
        }
        None => insert(text, &digest).ok_or(SealError::Layout)?,
    };
    // Whatever the layout was, only a text that now carries its own digest leaves.
    match Draft::parse(sealed.as_bytes(), name) {
        Ok(draft)
            if draft.digest.as_ref() == Some(&digest) && draft.computed_digest() == digest =>
        {
            Ok(sealed)
        }
        _ => Err(SealError::Layout),
    }
}

/// `text` with the hash of each executable and pinned file in `found` declared: in place of the one that
/// stands there, or before those of a list. What is declared already stays as it is.
pub fn declare_hashes(
    text: &str,
    name: &str,
    found: &BTreeMap<String, String>,
) -> Result<String, SealError> {
    let draft = Draft::parse(text.as_bytes(), name).map_err(SealError::Invalid)?;
    let executables = draft
        .executables
        .iter()
        .filter_map(|one| Some((one, found.get(&one.path)?)))
        .filter(|(one, hash)| !one.sha256.contains(*hash))
        .map(|(one, hash)| (one.hash_span.clone(), one.hash_list, hash));
    let code = draft
        .code
        .iter()
        .filter_map(|one| Some((one, found.get(&one.path)?)))
        .filter(|(one, hash)| one.sha256 != **hash)
        .map(|(one, hash)| (one.hash_span.clone(), false, hash));
    let mut stale: Vec<_> = executables.chain(code).collect();
    // the last first, so that the spans of the others stay true
    stale.sort_by_key(|(span, _, _)| std::cmp::Reverse(span.start));
    let mut text = text.to_owned();
    for (span, is_list, hash) in stale {
        if text.get(span.clone()).is_none() || span.is_empty() {
            return Err(SealError::Layout);
        }
        if is_list {
            text.insert_str(span.start, &format!("\"{hash}\", "));
        } else {
            text.replace_range(span, &format!("\"{hash}\""));
        }
    }
    Ok(text)
}

/// Puts the digest below `[envelope]`, or an `[envelope]` before the first capability.
fn insert(text: &str, digest: &str) -> Option<String> {
    let mut sealed = String::with_capacity(text.len() + 100);
    let mut lines = text.split_inclusive('\n');
    for line in lines.by_ref() {
        let header: String = line.split('#').next()?.split_whitespace().collect();
        match header.as_str() {
            "[envelope]" => {
                sealed.push_str(line);
                if !line.ends_with('\n') {
                    sealed.push('\n');
                }
                sealed.push_str(&format!("digest = \"{digest}\"\n"));
            }
            "[[envelope.capability]]" => {
                sealed.push_str(&format!("[envelope]\ndigest = \"{digest}\"\n\n{line}"));
            }
            _ => {
                sealed.push_str(line);
                continue;
            }
        }
        sealed.extend(lines);
        return Some(sealed);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ARTIFACT: &str = r#"# who it is
schema_version = "1.0.0"
[artifact]
id = "example" # its name
version = "1"
publisher = "example"
[[artifact.executable]]
path = "/usr/bin/example"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"

[envelope]   # what it may do

[[envelope.capability]]
name = "fs:read"
paths = ["/b", "/a"]
justification = "x"
"#;

    fn digest_of(text: &str) -> String {
        Draft::parse(text.as_bytes(), "x.toml")
            .unwrap()
            .computed_digest()
    }

    #[test]
    fn a_hash_is_replaced_or_put_before_those_of_a_list_and_nothing_else_changes() {
        let zeros = "0".repeat(64);
        let ones = "1".repeat(64);
        let second = format!(
            "[[artifact.executable]]\npath = \"/usr/bin/two\"\nsha256 = [\"{zeros}\"] # both\n[envelope]"
        );
        let text = ARTIFACT.replacen("[envelope]", &second, 1);
        let found = ["/usr/bin/example", "/usr/bin/two", "/usr/bin/other"]
            .map(|path| (path.to_owned(), ones.clone()));

        let declared = declare_hashes(&text, "x.toml", &BTreeMap::from(found.clone())).unwrap();

        let expected = text
            .replacen(&format!("\"{zeros}\""), &format!("\"{ones}\""), 1)
            .replace(
                &format!("[\"{zeros}\"]"),
                &format!("[\"{ones}\", \"{zeros}\"]"),
            );
        assert_eq!(declared, expected);
        let again = declare_hashes(&declared, "x.toml", &BTreeMap::from(found)).unwrap();
        assert_eq!(again, declared);
    }

    #[test]
    fn strings_are_written_as_rfc_8785_writes_them() {
        let value = json!("\u{20ac}$\u{f}\nA'B\"\\\\\"/\u{7f}");

        assert_eq!(
            canonical(&value),
            "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\u{7f}\""
        );
    }

    #[test]
    fn keys_are_sorted_by_utf16_code_units() {
        // RFC 8785, 3.2.3: the emoji's surrogate sorts before U+FB33.
        let value = json!({
            "\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh",
            "1": "One", "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control", "\u{f6}": "O Diaeresis"
        });

        let text = canonical(&value);

        let at = |word: &str| text.find(word).unwrap();
        let order = [
            "Carriage",
            "One",
            "Control",
            "O Diaeresis",
            "Euro",
            "Emoji",
            "Hebrew",
        ];
        assert!(
            order.windows(2).all(|pair| at(pair[0]) < at(pair[1])),
            "{text}"
        );
    }

    #[test]
    fn lists_are_sets() {
        assert_eq!(
            canonical(&json!(["b", "a", { "b": true, "a": [] }])),
            r#"["a","b",{"a":[],"b":true}]"#
        );
    }

    #[test]
    fn order_comments_and_written_defaults_do_not_matter() {
        let same = ARTIFACT
            .replace("[\"/b\", \"/a\"]", "[\n  \"/a\", # one\n  \"/b\",\n]")
            .replace("justification", "mandatory = true\njustification")
            .replace("sha256 =", "verify = \"pinned\"\nsha256 =");

        assert_eq!(digest_of(&same), digest_of(ARTIFACT));
    }

    #[test]
    fn every_change_of_meaning_changes_the_digest() {
        for (old, new) in [
            ("version = \"1\"", "version = \"2\""),
            ("\"/a\"", "\"/a*\""),
            ("\"x\"", "\"y\""),
            ("publisher = \"example\"", "publisher = \"other\""),
            ("/usr/bin/example", "/usr/bin/other"),
            ("justification", "mandatory = false\njustification"),
        ] {
            assert_ne!(
                digest_of(&ARTIFACT.replacen(old, new, 1)),
                digest_of(ARTIFACT),
                "{old}"
            );
        }
    }

    #[test]
    fn the_digest_of_an_artifact_is_for_ever() {
        assert_eq!(
            digest_of(ARTIFACT),
            "sha256:57e39ef6dffc2b7110c09a357f6c202ac9a25f9094db9c0df361cf125e5c22cd"
        );
    }

    #[test]
    fn sealing_adds_one_line_and_changes_no_other() {
        let sealed = seal(ARTIFACT, "x.toml").unwrap();

        let digest = digest_of(ARTIFACT);
        let line = format!("digest = \"{digest}\"\n");
        assert_eq!(sealed.replacen(&line, "", 1), ARTIFACT);
        assert_eq!(
            Draft::parse(sealed.as_bytes(), "x.toml").unwrap().digest,
            Some(digest)
        );
        assert_eq!(seal(&sealed, "x.toml").unwrap(), sealed);
    }

    #[test]
    fn a_stale_digest_is_corrected_in_place() {
        let sealed = seal(ARTIFACT, "x.toml").unwrap();
        let changed = sealed.replace("\"/a\"", "\"/c\"");

        let again = seal(&changed, "x.toml").unwrap();

        assert_eq!(again.lines().count(), sealed.lines().count());
        assert_ne!(again, changed);
        let draft = Draft::parse(again.as_bytes(), "x.toml").unwrap();
        assert_eq!(draft.digest, Some(draft.computed_digest()));
    }

    #[test]
    fn an_envelope_without_a_header_gets_one() {
        let text = ARTIFACT.replace("[envelope]   # what it may do\n", "");

        let sealed = seal(&text, "x.toml").unwrap();

        assert!(sealed.contains("\n[envelope]\ndigest = \"sha256:"));
    }

    #[test]
    fn an_envelope_in_one_line_cannot_be_sealed() {
        let (head, _) = ARTIFACT.split_once("[envelope]").unwrap();
        let capability = "{ name = \"fs:read\", paths = [\"/a\"], justification = \"x\" }";
        let text = head.replace(
            "[artifact]",
            &format!("envelope = {{ capability = [{capability}] }}\n[artifact]"),
        );

        assert_eq!(seal(&text, "x.toml"), Err(SealError::Layout));
    }

    #[test]
    fn what_is_invalid_is_not_sealed() {
        let text = ARTIFACT.replace("fs:read", "fs:execute");

        assert!(matches!(seal(&text, "x.toml"), Err(SealError::Invalid(_))));
    }
}
