//! A file in the policies directory is an artifact in force, however it came there; gone, its rights are gone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use std::fs;
use std::os::unix::fs::symlink;

use cartouche::control::Standing::{Admitted, Revoked};
use cartouche::event::Code;
use daemon::Outcome::{Done, NotStarted, Refused};
use daemon::{POLICIES, Tool};

/// Asserts that a program is held to an envelope of `mine`.
#[track_caller]
fn is_held(tool: &Tool) {
    assert_eq!(tool.reads("mine"), Done);
    assert_eq!(tool.reads("other"), Refused);
}

/// Asserts that a program is held to nothing.
#[track_caller]
fn is_free(tool: &Tool) {
    assert_eq!(tool.reads("mine"), Done);
    assert_eq!(tool.reads("other"), Done);
}

#[test]
fn a_file_that_is_copied_in_is_an_artifact_in_force() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("copied");
    is_free(&tool);
    let mark = daemon.audit.mark();

    fs::write(tool.policy(), tool.artifact()).unwrap();

    daemon.comes_to("copied", Admitted);
    is_held(&tool);
    let told = daemon.audit.tells(mark, Code::Drift, "copied");
    assert_eq!(told.runtime.unwrap().object, tool.file("other"));
    daemon.audit.is_whole();
}

#[test]
fn a_file_that_is_renamed_in_is_an_artifact_in_force() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("renamed");
    is_free(&tool);

    tool.drop(&tool.artifact());

    daemon.comes_to("renamed", Admitted);
    is_held(&tool);
}

#[test]
fn a_link_within_the_directory_is_an_artifact_in_force() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("linked");
    // a name that is no artifact's
    fs::write(format!("{POLICIES}/linked.text"), tool.artifact()).unwrap();
    daemon.settles();
    is_free(&tool);

    symlink("linked.text", tool.policy()).unwrap();

    daemon.comes_to("linked", Admitted);
    is_held(&tool);
}

#[test]
fn a_removed_file_takes_all_rights_away_until_it_is_forgotten_or_comes_back() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("removed");
    let artifact = tool.artifact();
    tool.drop(&artifact);
    daemon.comes_to("removed", Admitted);
    let mut running = tool.start();
    assert_eq!(running.reads("mine"), Done);
    let mark = daemon.audit.mark();

    tool.remove();

    let told = daemon.audit.tells(mark, Code::Revoked, "removed");
    assert_eq!(told.facts["tasks"], "1");
    assert_eq!(running.reads("mine"), Refused);
    assert_eq!(tool.reads("mine"), NotStarted);
    let told = daemon.audit.tells(mark, Code::Drift, "removed");
    assert_eq!(told.detail.as_deref(), Some("revoked"));

    tool.drop(&artifact);

    daemon.comes_to("removed", Admitted);
    assert_eq!(running.reads("mine"), Done);
    is_held(&tool);

    tool.remove();
    daemon.comes_to("removed", Revoked);
    daemon::cartouche_ok(&["forget", "removed"]);

    daemon.audit.tells(mark, Code::Forgotten, "removed");
    assert_eq!(daemon.standing("removed"), None);
    is_free(&tool);
    // the process that was bound stays refused
    assert_eq!(running.reads("mine"), Refused);
    daemon.audit.is_whole();
}
