//! `verify = "measured"`: the kernel hashes a program at each exec, so that it runs with its admitted content
//! only, also where nobody can be kept from changing it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use cartouche::control::Standing::{Admitted, Rejected, Revoked};
use cartouche::event::Code;
use daemon::Outcome::NotStarted;
use daemon::{Daemon, Mark, Tool};

fn measured(tool: &Tool) -> String {
    let text = tool.artifact();
    let text = text.replacen("sha256 = ", "verify = \"measured\"\nsha256 = ", 1);
    daemon::seal(&text)
}

/// Runs a program, or panics.
#[track_caller]
fn command(words: &[&str]) {
    let status = Command::new(words[0]).args(&words[1..]).status().unwrap();
    assert!(status.success(), "{words:?}");
}

#[track_caller]
fn is_told(daemon: &Daemon, mark: Mark, tool: &Tool) {
    let event = daemon.audit.tells_that(mark, "another content", |event| {
        event.code == Code::DigestMismatch && event.runtime.is_some()
    });
    assert_eq!(event.detail.as_deref(), Some("content"));
    assert_eq!(event.artifact.as_ref(), Some(&tool.id));
    assert_eq!(event.runtime.unwrap().object, tool.path);
}

#[track_caller]
fn measures(daemon: &Daemon, wanted: bool) {
    daemon.reports("whether anything is measured", |report| {
        let hook = report.cartouche.hooks.get("measure");
        report.requirements.verified_exec_required == wanted && hook == Some(&wanted)
    });
}

#[test]
fn what_was_written_by_a_descriptor_of_before_does_not_run() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("busy");
    let artifact = measured(&tool);
    measures(&daemon, false);
    let mut writer = OpenOptions::new().append(true).open(&tool.path).unwrap();

    tool.drop(&artifact);

    daemon.comes_to("busy", Admitted);
    measures(&daemon, true);
    let report = daemon.reports("no blocker", |report| report.enforce_blockers.is_empty());
    assert!(report.requirements_met.exec_identity);
    let mark = daemon.audit.mark();
    writer.write_all(b"changed").unwrap();
    drop(writer);
    assert_eq!(tool.reads("mine"), NotStarted);
    is_told(&daemon, mark, &tool);
    // from here on it is kept from changing, as a pinned one
    assert!(OpenOptions::new().append(true).open(&tool.path).is_err());
    tool.install("");
    daemon::eventually("it is admitted again", || {
        (tool.reads("mine") != NotStarted).then_some(())
    });
    tool.is_held();

    tool.remove();
    daemon.comes_to("busy", Revoked);
    assert_eq!(tool.reads("mine"), NotStarted);
    daemon::cartouche_ok(&["forget", "busy"]);
    measures(&daemon, false);
    tool.is_free();
}

#[test]
fn on_an_overlay_a_program_runs_as_long_as_its_layers_hold_it() {
    daemon::require_lsm!();
    let mut daemon = daemon::running();
    let tool = Tool::new("overlaid");
    let layers = "/srv/layers";
    let _ = fs::remove_dir_all(layers);
    for layer in ["lower", "upper", "work"] {
        fs::create_dir_all(format!("{layers}/{layer}")).unwrap();
    }
    let lower = format!("{layers}/lower/tool");
    fs::rename(&tool.path, &lower).unwrap();
    for name in ["mine", "other"] {
        fs::copy(tool.file(name), format!("{layers}/lower/{name}")).unwrap();
    }
    let _ = Command::new("modprobe").arg("overlay").status();
    let options = format!("lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work");
    command(&[
        "mount", "-t", "overlay", "overlay", "-o", &options, &tool.room,
    ]);
    let good = fs::read(&lower).unwrap();
    let pinned = tool.artifact();

    tool.drop(&pinned);
    daemon.comes_to("overlaid", Rejected);
    let problem = daemon.listed("overlaid").unwrap().problem.unwrap();
    assert!(
        problem.contains("verify = \\\"measured\\\"") || problem.contains("verify = \"measured\"")
    );
    tool.drop(&measured(&tool));
    daemon.comes_to("overlaid", Admitted);

    tool.is_held();
    let mark = daemon.audit.mark();
    // past the overlay: no hook knows that this is the same file
    OpenOptions::new()
        .append(true)
        .open(&lower)
        .unwrap()
        .write_all(b"changed")
        .unwrap();
    assert_eq!(tool.reads("mine"), NotStarted);
    is_told(&daemon, mark, &tool);
    let lines = OpenOptions::new().write(true).open(&lower).unwrap();
    lines.set_len(good.len() as u64).unwrap();
    drop(lines);
    tool.is_held();

    // and after a restart
    daemon.restart();
    tool.is_held();
    measures(&daemon, true);
    fs::write(&lower, [&good[..], b"changed"].concat()).unwrap();
    assert_eq!(tool.reads("mine"), NotStarted);

    tool.remove();
    daemon.comes_to("overlaid", Revoked);
    command(&["umount", &tool.room]);
}

#[test]
fn in_every_subvolume_of_btrfs_a_program_is_its_content() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let (image, volumes) = ("/srv/volumes.image", "/srv/volumes");
    let tool = Tool {
        id: "subvolumes".to_owned(),
        ..Tool::new("subvolume")
    };
    fs::create_dir_all(volumes).unwrap();
    for words in [
        &["truncate", "-s", "120M", image][..],
        &["mkfs.btrfs", "-q", image],
        &["modprobe", "-a", "btrfs", "loop"],
        &["mount", "-o", "loop", image, volumes],
        &["btrfs", "subvolume", "create", "/srv/volumes/one"],
        &["mount", "--bind", "/srv/volumes/one", &tool.room],
    ] {
        command(words);
    }
    for name in ["mine", "other"] {
        fs::write(tool.file(name), "content\n").unwrap();
    }
    tool.install("");
    let snapshot = |name: &str| {
        let room = format!("{volumes}/{name}");
        command(&["btrfs", "subvolume", "snapshot", &tool.room, &room]);
        Tool {
            id: tool.id.clone(),
            path: format!("{room}/tool"),
            room,
        }
    };
    let before = snapshot("before");
    OpenOptions::new()
        .append(true)
        .open(&tool.path)
        .unwrap()
        .write_all(b"changed")
        .unwrap();
    let after = snapshot("after");
    // a snapshot's files have the number and generation of those that it was made of
    let number = |tool: &Tool| fs::metadata(&tool.path).unwrap().ino();
    assert_eq!(number(&tool), number(&before));
    assert_eq!(number(&tool), number(&after));
    let may = [("fs:read", "mine"), ("fs:read", &after.file("mine"))];
    let pinned = tool.artifact_that(&may);

    tool.drop(&pinned);
    daemon.comes_to(&tool.id, Rejected);
    tool.drop(&daemon::seal(&pinned.replacen(
        "sha256 = ",
        "verify = \"measured\"\nsha256 = ",
        1,
    )));
    daemon.comes_to(&tool.id, Admitted);

    tool.is_held();
    after.is_held();
    let mark = daemon.audit.mark();
    assert_eq!(before.reads("mine"), NotStarted);
    is_told(&daemon, mark, &before);

    tool.remove();
    daemon.comes_to(&tool.id, Revoked);
    assert_eq!(after.reads("mine"), NotStarted);
    daemon::cartouche_ok(&["forget", &tool.id]);
    before.is_free();
    after.is_free();
    command(&["umount", &tool.room]);
    command(&["umount", volumes]);
}
