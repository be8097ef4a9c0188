//! A file in the policies directory is an artifact in force, however it came there; gone, its rights are gone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

use cartouche::config::Paths;
use cartouche::control::Standing::{Admitted, Revoked};
use cartouche::control::{Client, Request, Response};
use cartouche::event::Code;
use daemon::Outcome::{Done, NotStarted, Silenced};
use daemon::{Daemon, POLICIES, SHIPPED, Tool};
use rustix::process::Signal;

#[test]
fn rights_end_before_another_program_is_hashed() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let (quick, slow) = (Tool::new("quick"), Tool::new("slow"));
    for tool in [&quick, &slow] {
        tool.drop(&tool.artifact());
        daemon.comes_to(&tool.id, Admitted);
    }
    // many seconds' work in an emulated machine
    let next = slow.file("next");
    fs::write(&next, "A".repeat(96 << 20)).unwrap();
    let begun = Instant::now();

    quick.remove();
    fs::rename(&next, &slow.path).unwrap();

    daemon::eventually("its rights are gone", || {
        (quick.reads("mine") == NotStarted).then_some(())
    });
    let gone = begun.elapsed();
    daemon.settles();
    let hashed = begun.elapsed();
    assert!(gone < hashed / 2, "{gone:?} of {hashed:?}");
}

#[test]
fn a_file_that_is_copied_in_is_an_artifact_in_force() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("copied");
    tool.is_free();
    let mark = daemon.audit.mark();

    fs::write(tool.policy(), tool.artifact()).unwrap();

    daemon.comes_to("copied", Admitted);
    tool.is_held();
    let told = daemon.audit.tells(mark, Code::Drift, "copied");
    assert_eq!(told.runtime.unwrap().object, tool.file("other"));
    daemon.audit.is_whole();
}

#[test]
fn a_file_that_is_renamed_in_is_an_artifact_in_force() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("renamed");
    tool.is_free();

    tool.drop(&tool.artifact());

    daemon.comes_to("renamed", Admitted);
    tool.is_held();
}

#[test]
fn a_link_within_the_directory_is_an_artifact_in_force() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("linked");
    // a name that is no artifact's
    fs::write(format!("{POLICIES}/linked.text"), tool.artifact()).unwrap();
    daemon.settles();
    tool.is_free();

    symlink("linked.text", tool.policy()).unwrap();

    daemon.comes_to("linked", Admitted);
    tool.is_held();
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
    assert_eq!(running.reads("mine"), Silenced);
    assert_eq!(tool.reads("mine"), NotStarted);
    let told = daemon.audit.tells(mark, Code::Drift, "removed");
    assert_eq!(told.detail.as_deref(), Some("revoked"));

    tool.drop(&artifact);

    daemon.comes_to("removed", Admitted);
    tool.is_held();
    let mut running = tool.start();

    tool.remove();
    daemon.comes_to("removed", Revoked);
    daemon::cartouche_ok(&["forget", "removed"]);

    daemon.audit.tells(mark, Code::Forgotten, "removed");
    assert_eq!(daemon.standing("removed"), None);
    tool.is_free();
    // the process that was bound stays refused
    assert_eq!(running.reads("mine"), Silenced);
    daemon.audit.is_whole();
}

#[test]
fn an_editor_that_removes_and_writes_again_does_not_revoke() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("edited");
    let artifact = tool.artifact();
    tool.drop(&artifact);
    daemon.comes_to("edited", Admitted);
    let wider = tool.artifact_that(&[("fs:read", "mine"), ("fs:read", "other")]);
    let hammer = tool.hammer();
    let mark = daemon.audit.mark();

    tool.remove();
    fs::write(tool.policy(), &wider).unwrap();

    daemon.audit.tells(mark, Code::Admitted, "edited");
    daemon.settles();
    assert!(daemon.audit.of(mark, Code::Revoked, "edited").is_empty());
    assert_eq!(hammer.stop().lost, 0);
    tool.is_free();
}

#[test]
fn renaming_the_file_keeps_the_rights_without_a_gap() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("moved");
    tool.drop(&tool.artifact());
    daemon.comes_to("moved", Admitted);
    let hammer = tool.hammer();

    for turn in 0..3 {
        let elsewhere = format!("{POLICIES}/moved-{turn}.toml");
        fs::rename(tool.policy(), &elsewhere).unwrap();
        daemon::eventually("it is known by its new name", || {
            let listed = daemon.listed("moved")?;
            assert_eq!(listed.standing, Admitted);
            (format!("{POLICIES}/{}", listed.file) == elsewhere).then_some(())
        });
        fs::rename(&elsewhere, tool.policy()).unwrap();
        daemon::eventually("it has its old name again", || {
            (daemon.listed("moved")?.file == "moved.toml").then_some(())
        });
    }

    let seen = hammer.stop();
    assert!(seen.tries > 0);
    assert_eq!((seen.through, seen.lost), (0, 0));
    tool.is_held();
}

#[test]
fn the_administrator_s_file_replaces_the_package_s_of_the_same_name() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("override");
    let shipped = format!("{SHIPPED}/override.toml");
    let all = tool.artifact_that(&[("fs:read", "mine"), ("fs:read", "other")]);
    fs::write(&shipped, &all).unwrap();
    daemon.comes_to("override", Admitted);
    tool.is_free();
    let mark = daemon.audit.mark();

    tool.drop(&tool.artifact());

    daemon.audit.tells(mark, Code::Admitted, "override");
    tool.is_held();

    let mark = daemon.audit.mark();
    tool.remove();

    daemon.audit.tells(mark, Code::Admitted, "override");
    assert!(daemon.audit.of(mark, Code::Revoked, "override").is_empty());
    tool.is_free();
}

#[test]
fn a_link_to_dev_null_masks_the_package_s_file() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("masked");
    fs::write(format!("{SHIPPED}/masked.toml"), tool.artifact()).unwrap();
    daemon.comes_to("masked", Admitted);

    symlink("/dev/null", tool.policy()).unwrap();

    daemon.comes_to("masked", Revoked);
    assert_eq!(tool.reads("mine"), NotStarted);

    tool.remove();

    daemon.comes_to("masked", Admitted);
    tool.is_held();
}

#[test]
fn the_directory_itself_may_be_replaced() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let (stays, comes, late) = (Tool::new("stays"), Tool::new("comes"), Tool::new("late"));
    stays.drop(&stays.artifact());
    daemon.comes_to("stays", Admitted);
    let (new, old) = ("/etc/cartouche/next.d", "/etc/cartouche/last.d");
    let _ = fs::remove_dir_all(old);
    fs::create_dir(new).unwrap();
    fs::copy(stays.policy(), format!("{new}/stays.toml")).unwrap();
    fs::write(format!("{new}/comes.toml"), comes.artifact()).unwrap();
    let late_artifact = late.artifact();
    let hammer = stays.hammer();

    fs::rename(POLICIES, old).unwrap();
    fs::rename(new, POLICIES).unwrap();

    daemon.comes_to("comes", Admitted);
    comes.is_held();
    let seen = hammer.stop();
    assert_eq!((seen.through, seen.lost), (0, 0));
    // the new directory is the one that counts from now on
    fs::write(format!("{old}/late.toml"), &late_artifact).unwrap();
    daemon.settles();
    assert_eq!(daemon.standing("late"), None);
    late.drop(&late_artifact);
    daemon.comes_to("late", Admitted);
    fs::remove_file(stays.policy()).unwrap();
    daemon.comes_to("stays", Revoked);
    fs::remove_dir_all(old).unwrap();
}

#[test]
fn the_directory_may_come_after_the_daemon() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("early");
    let artifact = tool.artifact();
    fs::remove_dir(POLICIES).unwrap();
    daemon.settles();

    fs::create_dir(POLICIES).unwrap();
    tool.drop(&artifact);

    daemon.comes_to("early", Admitted);
    tool.is_held();
}

#[test]
fn what_a_full_queue_lost_is_found_by_reading_everything_again() {
    daemon::require_lsm!();
    const QUEUE: &str = "/proc/sys/fs/inotify/max_queued_events";
    let mut daemon = daemon::running();
    let (stays, goes, comes) = (
        Tool::new("queue-a"),
        Tool::new("queue-b"),
        Tool::new("queue-c"),
    );
    let usual = fs::read_to_string(QUEUE).unwrap();
    // it holds for queues that are made from now on
    fs::write(QUEUE, "4").unwrap();
    daemon.restart();
    fs::write(QUEUE, usual).unwrap();
    for tool in [&stays, &goes] {
        tool.drop(&tool.artifact());
        daemon.comes_to(&tool.id, Admitted);
    }
    let artifact = comes.artifact();
    daemon.signal(Signal::STOP);

    for number in 0..20 {
        fs::write(format!("{POLICIES}/.{number}"), "").unwrap();
    }
    goes.remove();
    comes.drop(&artifact);
    daemon.signal(Signal::CONT);

    daemon.comes_to("queue-c", Admitted);
    daemon.comes_to("queue-b", Revoked);
    daemon.comes_to("queue-a", Admitted);
    comes.is_held();
}

#[test]
fn leftovers_of_editors_and_packages_are_no_artifacts() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("leftover");
    let artifact = tool.artifact();
    let mark = daemon.audit.mark();

    for name in [
        "leftover.toml~",
        ".leftover.toml.swp",
        "leftover.toml.dpkg-new",
        "leftover.toml.rpmsave",
    ] {
        fs::write(format!("{POLICIES}/{name}"), &artifact).unwrap();
    }
    fs::write(format!("{POLICIES}/leftover.txt"), &artifact).unwrap();

    // a stranger is told once, and nothing else happens
    daemon.audit.tells_that(mark, "the stranger", |event| {
        event.code == Code::FileIgnored && event.facts["file"].ends_with("leftover.txt")
    });
    daemon.settles();
    daemon.settles();
    let told = daemon.audit.since(mark);
    assert_eq!(
        told.iter()
            .filter(|r| r.event.code == Code::FileIgnored)
            .count(),
        1
    );
    assert!(!told.iter().any(|r| r.event.code == Code::Submitted));
    tool.is_free();
    // its twin: the right name
    tool.drop(&artifact);
    daemon.comes_to("leftover", Admitted);
}

#[test]
fn a_hundred_files_at_once_are_all_admitted() {
    daemon::require_lsm!();
    let daemon = daemon::running();

    many_are_admitted(&daemon, "hundred", 100);
}

#[test]
#[ignore = "long: minutes in an emulated machine"]
fn a_thousand_files_at_once_are_all_admitted() {
    daemon::require_lsm!();
    let daemon = daemon::running();

    many_are_admitted(&daemon, "thousand", 1000);

    // taking them away one by one would hold up the next test
    drop(daemon);
    drop(daemon::stopped());
}

/// Moves so many artifacts in, each of a program of its own, as fast as the file system takes them.
fn many_are_admitted(daemon: &Daemon, name: &str, count: usize) {
    let tool = Tool::new(name);
    let pattern = tool.artifact_that(&[("fs:read", "mine")]);
    let waiting = format!("/etc/cartouche/{name}");
    fs::create_dir_all(&waiting).unwrap();
    for number in 0..count {
        let program = format!("{}-{number}", tool.path);
        fs::copy(&tool.path, &program).unwrap();
        let text = pattern
            .replace(&format!("\"{name}\""), &format!("\"{name}-{number}\""))
            .replace(&format!("\"{}\"", tool.path), &format!("\"{program}\""));
        let text = cartouche::artifact::digest::seal(&text, "many.toml").unwrap();
        fs::write(format!("{waiting}/{name}-{number}.toml"), text).unwrap();
    }
    let begun = std::time::Instant::now();

    for number in 0..count {
        let file = format!("{name}-{number}.toml");
        fs::rename(format!("{waiting}/{file}"), format!("{POLICIES}/{file}")).unwrap();
    }

    let limit = daemon::PATIENCE + std::time::Duration::from_millis(count as u64 * 500);
    // what comes at once is one piece of work, and the question waits for its end
    let client = Client::new(&Paths::default().control(), limit);
    loop {
        let Ok(Response::Status(status)) = client.ask(&Request::Status) else {
            panic!("no answer within {limit:?}");
        };
        let admitted = status.artifacts[&Admitted];
        if admitted == count as u64 {
            break;
        }
        assert!(
            begun.elapsed() < limit,
            "{admitted} of {count} are admitted"
        );
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    println!(
        "{count} artifacts were admitted within {:?}",
        begun.elapsed()
    );
    for number in [0, count / 2, count - 1] {
        let one = Tool {
            id: format!("{name}-{number}"),
            room: tool.room.clone(),
            path: format!("{}-{number}", tool.path),
        };
        one.is_held();
    }
    fs::remove_dir_all(waiting).unwrap();
    daemon.audit.is_whole();
}
