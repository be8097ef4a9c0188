//! What tests in a guest share: the rule that a skip is never silent, and plans from a line of TOML.
#![allow(dead_code, unused_macros)]

use std::collections::BTreeSet;

use cartouche::admission::{BoundExecutable, Effective, EffectiveCapability};
use cartouche::artifact::draft::Draft;
use cartouche::plan::Plan;

/// Whether BPF LSM programs are enforced here: `bpf` is in the list of active LSMs.
pub fn has_lsm() -> bool {
    std::fs::read_to_string("/sys/kernel/security/lsm")
        .is_ok_and(|l| l.split(',').any(|l| l.trim() == "bpf"))
        && rustix::process::geteuid().is_root()
}

/// Leaves the test where the kernel cannot enforce; fails instead where the harness demands it.
macro_rules! require_lsm {
    () => {
        if !crate::guest::has_lsm() {
            let demanded = std::env::var("CARTOUCHE_REQUIRE").is_ok_and(|v| v == "lsm");
            assert!(!demanded, "bpf is not an active LSM here, and the harness demands it");
            eprintln!("skipped: needs root on a kernel with bpf in its LSM list; `make test` runs it in a VM");
            return;
        }
    };
}
pub(crate) use require_lsm;

/// A plan of some capabilities, as they stand in an artifact.
pub fn plan(capabilities: &str) -> Plan {
    let text = format!(
        "schema_version = \"1.0.0\"\n[artifact]\nid = \"t\"\nversion = \"1\"\npublisher = \"p\"\n\
         [[artifact.executable]]\npath = \"/srv/t/reader\"\nsha256 = \"{}\"\n{capabilities}",
        "0".repeat(64)
    );
    let draft = Draft::parse(text.as_bytes(), "t.toml").unwrap();
    let effective = Effective {
        id: "t".into(),
        version: "1".into(),
        publisher: "p".into(),
        description: None,
        digest: String::new(),
        executables: vec![BoundExecutable {
            path: "/srv/t/reader".into(),
            sha256: String::new(),
            script: false,
        }],
        capabilities: draft
            .capabilities
            .into_iter()
            .map(|capability| EffectiveCapability {
                origin: "t".into(),
                capability,
            })
            .collect(),
        narrowed: Vec::new(),
    };
    let loaders = BTreeSet::from(["/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2".to_owned()]);
    Plan::compile(&effective, &loaders).unwrap()
}
