//! Plans of envelopes that a test writes down in a line or two.

use std::collections::BTreeSet;

use cartouche::admission::{BoundExecutable, Effective, EffectiveCapability};
use cartouche::artifact::capability::CapabilityName;
use cartouche::artifact::draft::Draft;
use cartouche::artifact::profile::ProfileSet;
use cartouche::executable;
use cartouche::plan::Plan;

/// A plan of some capabilities, as they stand in an artifact.
pub fn plan(capabilities: &str) -> Plan {
    plan_of("/srv/t/plan", capabilities)
}

/// The same for an executable of that path.
pub fn plan_of(executable: &str, capabilities: &str) -> Plan {
    let text = format!(
        "schema_version = \"1.0.0\"\n[artifact]\nid = \"t\"\nversion = \"1\"\npublisher = \"p\"\n\
         [[artifact.executable]]\npath = \"{executable}\"\nsha256 = \"{}\"\n{capabilities}",
        "0".repeat(64)
    );
    let draft = Draft::parse(text.as_bytes(), "t.toml").unwrap_or_else(|e| panic!("{text}\n{e:?}"));
    let profiles = ProfileSet::shipped();
    let capabilities = draft.capabilities.into_iter().flat_map(|declared| {
        let origin = declared.full_name();
        let meant = match declared.name {
            CapabilityName::Profile => profiles.expand(&declared).expect("a shipped profile"),
            _ => vec![declared],
        };
        meant
            .into_iter()
            .map(move |capability| EffectiveCapability {
                origin: origin.clone(),
                capability: capability.into(),
            })
    });
    let effective = Effective {
        id: "t".into(),
        version: "1".into(),
        publisher: "p".into(),
        description: None,
        digest: String::new(),
        executables: vec![BoundExecutable {
            path: executable.to_owned(),
            sha256: String::new(),
            script: false,
            measured: BTreeSet::new(),
        }],
        capabilities: capabilities.collect(),
        unit: None,
        narrowed: Vec::new(),
    };
    let loaders = match executable::examine(executable).found {
        Some(found) => effective.loaders(std::iter::once(&found)),
        None => BTreeSet::from(["/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2".to_owned()]),
    };
    Plan::compile(&effective, &loaders).unwrap()
}

/// Capabilities as they stand in an artifact, from a short form of one a line:
/// `fs:read /a/** /b except /a/c`, `net:connect tcp://*:80`, `code:generate`, `profile:base`,
/// `process:exec /x transition artifact`, `code:load pinned /a.so`.
pub fn toml(envelope: &str) -> String {
    envelope.lines().map(capability).collect()
}

/// The paths that an envelope in that form pins.
pub fn pinned(envelope: &str) -> impl Iterator<Item = &str> {
    let lines = envelope.lines();
    let lines = lines.filter_map(|line| line.trim().strip_prefix("code:load pinned "));
    lines.flat_map(str::split_whitespace)
}

fn capability(line: &str) -> String {
    let mut words = line.split_whitespace();
    let Some(name) = words.next() else {
        return String::new();
    };
    let list = |words: &[&str]| format!("{words:?}");
    let items: Vec<&str> = words.collect();
    let (items, transition) = match items.as_slice() {
        [items @ .., "transition", whose] => (items, Some(*whose)),
        items => (items, None),
    };
    let (items, pinned) = match items {
        ["pinned", items @ ..] => (&[][..], items),
        items => (items, &[][..]),
    };
    let (items, except) = match items.iter().position(|word| *word == "except") {
        Some(at) => (&items[..at], &items[at + 1..]),
        None => (items, &[][..]),
    };
    let mut text =
        format!("[[envelope.capability]]\nname = \"{name}\"\njustification = \"tested\"\n");
    if !items.is_empty() {
        let key = match name {
            "net:socket" => "sockets",
            "net:connect" | "net:listen" => "endpoints",
            "process:signal" | "process:trace" => "targets",
            "kernel:capability" => "kcaps",
            _ => "paths",
        };
        text += &format!("{key} = {}\n", list(items));
    }
    // what has the content is the test's own matter
    let hash = "0".repeat(64);
    for path in pinned {
        text += &format!("[[envelope.capability.file]]\npath = \"{path}\"\nsha256 = \"{hash}\"\n");
    }
    if let Some(whose) = transition {
        text += &format!("transition = \"{whose}\"\n");
    }
    if !except.is_empty() {
        text += &format!("except = {}\n", list(except));
    }
    text
}
