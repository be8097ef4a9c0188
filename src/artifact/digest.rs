//! The digest that binds an envelope to its artifact: SHA-256 over canonical JSON (RFC 8785), lists
//! taken as sets. `tests/digest_reference.py` is the same in another language.

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
            Self::Invalid(problems) => problems.fmt(f),
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
