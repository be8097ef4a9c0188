//! The codes of the program, of docs/codes.md, of the published schema and of the contract are the same.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cartouche::artifact::capability::CapabilityName;
use cartouche::event::{Code, Detail, ErrorCode};
use cartouche::node::{OPERATIONS, REASONS};
use cartouche::posture::{Blocker, ReasonCode};
use serde_json::Value;

fn file(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The first column of the table below a heading, without its backquotes, in order.
fn table(text: &str, heading: &str) -> Vec<String> {
    let section = text.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect()
}

/// The words that the schema of events allows for a type.
fn schema(kind: &str) -> BTreeSet<String> {
    let schema: Value = serde_json::from_str(&file("schemas/event.json")).unwrap();
    let kind = &schema["$defs"][kind];
    let constants = kind["oneOf"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| &one["const"]);
    let words = kind["enum"].as_array().into_iter().flatten();
    constants
        .chain(words)
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

fn set(words: &[String]) -> BTreeSet<String> {
    assert_eq!(
        words.iter().collect::<BTreeSet<_>>().len(),
        words.len(),
        "a word stands twice"
    );
    words.iter().cloned().collect()
}

#[test]
fn every_code_is_documented_and_published() {
    let codes: Vec<String> = Code::ALL.iter().map(ToString::to_string).collect();

    assert_eq!(table(&file("docs/codes.md"), "Events"), codes);
    assert_eq!(schema("Code"), set(&codes));
}

#[test]
fn every_error_is_documented_and_published() {
    let errors: Vec<String> = ErrorCode::ALL.iter().map(ToString::to_string).collect();

    assert_eq!(set(&table(&file("docs/codes.md"), "Errors")), set(&errors));
    assert_eq!(schema("ErrorCode"), set(&errors));
}

#[test]
fn every_detail_word_is_documented() {
    let details: Vec<String> = Detail::ALL.iter().map(ToString::to_string).collect();

    assert_eq!(table(&file("docs/codes.md"), "Detail words"), details);
}

#[test]
fn every_reason_and_blocker_of_the_posture_is_documented() {
    let text = file("docs/codes.md");
    let reasons: Vec<String> = ReasonCode::ALL.iter().map(ToString::to_string).collect();
    let blockers: Vec<String> = Blocker::ALL.iter().map(ToString::to_string).collect();

    assert_eq!(table(&text, "Posture reasons"), reasons);
    assert_eq!(table(&text, "Blockers"), blockers);
}

#[test]
fn every_word_of_a_refusal_is_documented() {
    let text = file("docs/codes.md");
    let powers = OPERATIONS
        .iter()
        .filter(|word| CapabilityName::parse(word).is_none());

    assert_eq!(table(&text, "Words of refusals"), REASONS);
    assert_eq!(
        table(&text, "Words of operations"),
        powers.copied().collect::<Vec<_>>()
    );
}

/// The words that stand in the sources as `.detail("…")`, tests left out.
fn words_of(dir: &Path, words: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            words_of(&path, words);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let found = code.split(".detail(\"").skip(1);
        words.extend(found.map(|rest| rest.split('"').next().unwrap().to_owned()));
    }
}

#[test]
fn every_word_that_the_daemon_writes_itself_is_documented() {
    let mut written = BTreeSet::new();
    words_of(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut written,
    );
    assert!(written.len() > 10, "{written:?}");

    let documented = set(&table(&file("docs/codes.md"), "Words of the daemon"));

    assert_eq!(written.difference(&documented).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn the_contract_s_codes_and_errors_are_all_there() {
    let contract: BTreeSet<String> = (1..=10).map(|number| format!("CART-{number:03}")).collect();
    let errors = [
        "ERR_CART_MISSING_ENVELOPE",
        "ERR_CART_INVALID_ENVELOPE",
        "ERR_CART_DIGEST_MISMATCH",
        "ERR_CART_OVER_SCOPED",
        "ERR_CART_DRIFT_DETECTED",
        "ERR_CART_SCHEMA_UNKNOWN",
        "ERR_CART_EMPTY_CAPABILITIES",
        "ERR_CART_DUPLICATE_ARTIFACT",
    ];

    assert!(contract.is_subset(&schema("Code")));
    assert_eq!(schema("ErrorCode"), errors.map(str::to_owned).into());
}
