//! The chain: each record carries the hash of the one before, so that an edit, a cut or a change of
//! order shows. It proves order and wholeness, not authorship: compare the head with an older copy.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::artifact::digest::{canonical, hex};
use crate::event::Event;

/// What the first record of a log names as the hash before it.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// An event with its place in the log; one line of audit.jsonl.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Position in the log, from 1, without gaps.
    pub seq: u64,
    /// When it was recorded: RFC 3339, UTC, microseconds.
    pub time: String,
    /// The hash of the record before, [`GENESIS`] in the first.
    pub prev: String,
    /// SHA-256 over `prev` (as 64 hex digits) followed by the canonical JSON (RFC 8785) of this
    /// record without `prev` and `hash`; 64 lower-case hex digits.
    pub hash: String,
    #[serde(flatten)]
    pub event: Event,
}

/// The newest record of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its position, 0 in an empty log.
    pub seq: u64,
    /// Its hash, [`GENESIS`] in an empty log.
    pub hash: String,
}

impl Head {
    /// The head of a log without records.
    pub fn genesis() -> Self {
        Self {
            seq: 0,
            hash: GENESIS.to_owned(),
        }
    }

    /// The record that `event` becomes after this head, and its line without the newline.
    pub fn link(
        &self,
        event: Event,
        time: Timestamp,
    ) -> Result<(Record, String), serde_json::Error> {
        let mut record = Record {
            seq: self.seq + 1,
            time: format!("{time:.6}"),
            prev: self.hash.clone(),
            hash: String::new(),
            event,
        };
        let mut value = serde_json::to_value(&record)?;
        record.hash = hash_of(&mut value);
        value["hash"] = Value::from(record.hash.clone());
        value["prev"] = Value::from(record.prev.clone());
        Ok((record, canonical(&value)))
    }
}

impl Record {
    /// The head of a log that ends with this record.
    pub fn head(&self) -> Head {
        Head {
            seq: self.seq,
            hash: self.hash.clone(),
        }
    }

    /// Reads one line; `None` unless it is a record exactly as it was written.
    ///
    /// The line must be the canonical JSON of what it says and carry its own hash: an added or
    /// doubled key, another spelling or another order of keys is an edit too.
    pub fn read(line: &[u8]) -> Option<Self> {
        let mut value: Value = serde_json::from_slice(line).ok()?;
        if canonical(&value).as_bytes() != line {
            return None;
        }
        let record: Self = serde_json::from_value(value.clone()).ok()?;
        (hash_of(&mut value) == record.hash).then_some(record)
    }
}

/// Hashes a record; takes `prev` and `hash` out of it.
fn hash_of(record: &mut Value) -> String {
    let mut prev = None;
    if let Some(object) = record.as_object_mut() {
        object.remove("hash");
        prev = object.remove("prev");
    }
    let prev = prev.as_ref().and_then(Value::as_str).unwrap_or(GENESIS);
    let mut hasher = Sha256::new();
    hasher.update(prev);
    hasher.update(canonical(record));
    hex(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Code, Outcome};

    fn linked() -> (Record, String) {
        let event = Event::new(Code::Admitted, Outcome::Admitted)
            .artifact("exporter")
            .message("a \"quoted\" word\nand a line")
            .fact("z", "1")
            .fact("a", "2");
        Head::genesis()
            .link(
                event,
                Timestamp::from_microsecond(1_700_000_000_123_456).unwrap(),
            )
            .unwrap()
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let (record, line) = linked();

        assert_eq!(Record::read(line.as_bytes()), Some(record.clone()));
        assert_eq!(record.time, "2023-11-14T22:13:20.123456Z");
        assert_eq!(record.seq, 1);
        assert_eq!(record.prev, GENESIS);
    }

    #[test]
    fn keys_are_sorted_and_the_hash_is_the_documented_one() {
        let (record, line) = linked();
        let body = r#"{"artifact":"exporter","code":"CART-002","count":1,"facts":{"a":"2","z":"1"},"message":"a \"quoted\" word\nand a line","outcome":"admitted","seq":1,"time":"2023-11-14T22:13:20.123456Z"}"#;

        let expected = hex(&Sha256::digest(format!("{GENESIS}{body}")));

        assert_eq!(record.hash, expected);
        let keys = [
            "artifact", "code", "count", "facts", "hash", "message", "outcome", "prev", "seq",
            "time",
        ];
        let places: Vec<_> = keys
            .iter()
            .map(|key| line.find(&format!("\"{key}\":")).unwrap())
            .collect();
        assert!(places.is_sorted(), "{line}");
    }

    #[test]
    fn any_other_spelling_of_a_record_is_an_edit() {
        let (_, line) = linked();

        for edited in [
            line.replace("exporter", "exportex"),
            line.replace("\"count\":1", "\"count\": 1"),
            line.replace("{\"artifact\"", "{\"artifact\":\"other\",\"artifact\""),
            line.replace("\"count\":1", "\"count\":1,\"coux\":1"),
            line.replace("admitted\",\"prev", "rejected\",\"prev"),
            String::from("{}"),
            String::new(),
        ] {
            assert_ne!(edited, line);
            assert_eq!(Record::read(edited.as_bytes()), None, "{edited}");
        }
    }

    #[test]
    fn two_records_with_one_content_have_different_hashes() {
        let event = Event::new(Code::Started, Outcome::Noted);
        let time = Timestamp::UNIX_EPOCH;
        let (first, _) = Head::genesis().link(event.clone(), time).unwrap();

        let (second, _) = first.head().link(event, time).unwrap();

        assert_eq!(second.prev, first.hash);
        assert_ne!(second.hash, first.hash);
    }
}
