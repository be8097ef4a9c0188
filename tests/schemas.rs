//! The published schemas are those of the types that read and write the files.

#![allow(clippy::unwrap_used)]

use cartouche::artifact::{draft, profile, scope};
use cartouche::{audit, posture};
use schemars::Schema;

/// Compares the schema with the published file, or writes it when told to.
fn pinned(name: &str, schema: &Schema) {
    let path = format!("{}/schemas/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let generated = serde_json::to_string_pretty(schema).unwrap() + "\n";
    if std::env::var_os("CARTOUCHE_WRITE_SCHEMAS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }

    let published = std::fs::read_to_string(&path).unwrap();

    assert!(
        published == generated,
        "{path} is stale: run the tests with CARTOUCHE_WRITE_SCHEMAS=1"
    );
}

#[test]
fn the_published_schema_of_artifacts_is_that_of_the_types() {
    pinned("artifact", &draft::schema());
}

#[test]
fn the_published_schema_of_scopes_is_that_of_the_types() {
    pinned("scope", &scope::schema());
}

#[test]
fn the_published_schema_of_profiles_is_that_of_the_types() {
    pinned("profile", &profile::schema());
}

#[test]
fn the_published_schema_of_audit_records_is_that_of_the_types() {
    pinned("event", &audit::schema());
}

#[test]
fn the_published_schema_of_the_posture_report_is_that_of_the_types() {
    pinned("capabilities_v1", &posture::schema());
}
