//! What stands at a claimed path runs only if it is what was admitted; no other file changes that.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use std::fs;

use cartouche::control::Standing::Admitted;
use cartouche::event::Code;
use daemon::Outcome::{Done, NotStarted, Refused};
use daemon::{POLICIES, Tool};

#[test]
fn a_rejected_file_that_is_edited_takes_no_claim_from_the_artifact_in_force() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("claimed");
    let rival = format!("{POLICIES}/rival.toml");
    let mark = daemon.audit.mark();
    let broken = tool.artifact().replace("sha256:", "sha256:0");
    daemon::rename_into(&rival, broken.as_bytes()).unwrap();
    daemon::eventually("the rival is rejected", || {
        let listed = daemon.list();
        listed
            .iter()
            .any(|one| one.file == "rival.toml")
            .then_some(())
    });
    tool.drop(&tool.artifact());
    daemon.comes_to("claimed", Admitted);
    assert_eq!(tool.reads("other"), Refused);

    daemon::rename_into(&rival, format!("{broken}\n# edited").as_bytes()).unwrap();
    daemon.settles();
    tool.install("other content");

    assert_eq!(tool.reads("mine"), NotStarted);
    daemon.audit.tells(mark, Code::DigestMismatch, "claimed");
    fs::remove_file(&rival).unwrap();
    daemon.settles();
    assert_eq!(tool.reads("mine"), NotStarted);
}

#[test]
fn one_file_under_two_names_belongs_to_one_artifact() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("original");
    let other = Tool::new("alias");
    tool.drop(&tool.artifact());
    daemon.comes_to("original", Admitted);
    fs::remove_file(other.file("tool")).unwrap();
    fs::hard_link(tool.file("tool"), other.file("tool")).unwrap();

    other.drop(&other.artifact());

    daemon::eventually("the alias is rejected", || {
        let listed = daemon.list();
        listed
            .iter()
            .any(|one| one.file == "alias.toml" && one.standing != Admitted)
            .then_some(())
    });
    assert_eq!(tool.reads("mine"), Done);
    assert_eq!(tool.reads("other"), Refused);
}
