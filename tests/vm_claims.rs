//! What stands at a claimed path runs only if it is what was admitted; no other file changes that.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cartouche::control::Standing::{Admitted, Rejected, Revoked};
use cartouche::event::Code;
use daemon::Outcome::{Done, NotStarted, Refused};
use daemon::{Daemon, POLICIES, Tool};

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

/// Lets something else stand at a program's path for moments, again and again, while all is read anew.
fn flicker(daemon: &Daemon, tool: &Tool, other: &str, rounds: u32) {
    let (good, ended) = (tool.file("good"), AtomicBool::new(false));
    let _ = fs::remove_file(&good);
    fs::copy(&tool.path, &good).unwrap();
    let flips = thread::scope(|scope| {
        let flipping = scope.spawn(|| {
            let mut flips = 0_u64;
            while !ended.load(Ordering::Relaxed) {
                let next = tool.file("next");
                let content = if flips.is_multiple_of(2) {
                    other
                } else {
                    &good
                };
                let _ = fs::remove_file(&next);
                fs::copy(content, &next).unwrap();
                fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).unwrap();
                fs::rename(&next, &tool.path).unwrap();
                flips += 1;
                // no rhythm that the daemon could fall into
                thread::sleep(Duration::from_millis(flips * 37 % 83));
            }
            flips
        });
        for _ in 0..rounds {
            daemon.settles();
        }
        ended.store(true, Ordering::Relaxed);
        flipping.join().unwrap()
    });
    assert!(flips > u64::from(rounds) / 4, "{flips}");
    fs::rename(&good, &tool.path).unwrap();
}

#[test]
fn what_stands_at_the_path_for_a_moment_widens_no_envelope() {
    daemon::require_lsm!();
    let mut daemon = daemon::running();
    let tool = Tool::new("flickering");
    tool.drop(&tool.artifact());
    daemon.comes_to("flickering", Admitted);
    let loaders = || {
        let text = fs::read_to_string("/var/lib/cartouche/admitted.json");
        let text = text.unwrap_or_else(|_| "null".to_owned());
        let registry: serde_json::Value = serde_json::from_str(&text).unwrap();
        registry["artifacts"]["flickering"]["loaders"].clone()
    };
    let reads_shadow = || {
        let act = "read -r line </etc/shadow && echo content";
        let output = Command::new(&tool.path).args(["-c", act]).output().unwrap();
        !output.stdout.is_empty()
    };
    let before = daemon::eventually("it is written down", || {
        let loaders = loaders();
        loaders.to_string().contains("ld-linux").then_some(loaders)
    });
    let script = tool.file("script");
    fs::write(&script, "#!/etc/shadow\n").unwrap();

    flicker(&daemon, &tool, &script, 120);

    daemon.settles();
    daemon::eventually("it runs again", || {
        (tool.reads("mine") == Done).then_some(())
    });
    assert_eq!(tool.reads("other"), Refused);
    // ended, it has written down all that it holds
    assert!(daemon.stop().success());
    assert_eq!(loaders(), before);
    assert!(!reads_shadow());
    daemon.audit.is_whole();
    daemon.start();
}

/// Tries until the time is over, and counts how often the program ran.
fn runs_within(time: Duration, program: &str) -> (u32, u32) {
    let begun = Instant::now();
    let (mut ran, mut refused) = (0, 0);
    while begun.elapsed() < time {
        match Command::new(program).args(["-c", ":"]).status() {
            Ok(status) if status.success() => ran += 1,
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => refused += 1,
            _ => {}
        }
    }
    (ran, refused)
}

/// Gives a file another name and its own again, without end, while `what` goes on.
fn while_it_is_renamed<T>(path: &str, what: impl FnOnce() -> T) -> T {
    let (aside, ended) = (format!("{path}.aside"), AtomicBool::new(false));
    thread::scope(|scope| {
        let renaming = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                fs::rename(path, &aside).unwrap();
                fs::rename(&aside, path).unwrap();
            }
        });
        let result = what();
        ended.store(true, Ordering::Relaxed);
        renaming.join().unwrap();
        result
    })
}

#[test]
fn what_is_renamed_while_it_is_started_counts_by_the_name_it_was_asked_for() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("renamed");
    tool.drop(&tool.artifact());
    daemon.comes_to("renamed", Admitted);
    let unclaimed = tool.file("unclaimed");
    fs::copy("/bin/dash", &unclaimed).unwrap();
    tool.install("other content");

    // the attempts hit the moment between opening the file and the decision: several in a hundred once ran
    let claimed = while_it_is_renamed(&tool.path, || {
        runs_within(Duration::from_secs(10), &tool.path)
    });
    let free = while_it_is_renamed(&unclaimed, || {
        runs_within(Duration::from_secs(2), &unclaimed)
    });

    assert_eq!(claimed.0, 0, "{claimed:?}");
    assert!(claimed.1 > 20, "{claimed:?}");
    assert!(free.0 > 5 && free.1 == 0, "{free:?}");
}

#[test]
fn a_writer_of_before_is_noticed_though_it_is_gone_when_the_hash_is_made() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("written");
    // long enough to be written to while it is read
    tool.install(&"A".repeat(12 << 20));
    let artifact = tool.artifact();
    let writer = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&tool.path)
        .unwrap();
    let mut reading = inotify::Inotify::init().unwrap();
    reading
        .watches()
        .add(&tool.path, inotify::WatchMask::ACCESS)
        .unwrap();
    let path = tool.path.clone();
    let writing = thread::spawn(move || {
        let mut buffer = [0; 4096];
        // the beginning is read by now
        let seen = reading.read_events_blocking(&mut buffer).unwrap().count();
        thread::sleep(Duration::from_millis(20));
        writer.write_all_at(b"EVIL", 200 << 10).unwrap();
        drop(writer);
        seen
    });

    tool.drop(&artifact);

    daemon.comes_to("written", Rejected);
    // where it is not even read while somebody can write to it, nobody has read it yet
    fs::read(&path).unwrap();
    assert!(writing.join().unwrap() > 0);
    daemon.settles();
    daemon.comes_to("written", Rejected);
    assert_eq!(tool.reads("mine"), NotStarted);
    // and its twin, written by nobody
    tool.install("");
    daemon::rename_into(&tool.policy(), tool.artifact().as_bytes()).unwrap();
    daemon.comes_to("written", Admitted);
    assert_eq!(tool.reads("mine"), Done);
}

#[test]
fn a_script_that_others_can_replace_is_rejected() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("scripted");
    fs::remove_file(&tool.path).unwrap();
    fs::write(&tool.path, "#!/bin/sh\n:\n").unwrap();
    fs::set_permissions(&tool.path, fs::Permissions::from_mode(0o755)).unwrap();
    let artifact = tool.artifact();
    let everybody = |may| {
        let mode = if may { 0o777 } else { 0o755 };
        fs::set_permissions(&tool.room, fs::Permissions::from_mode(mode)).unwrap();
    };
    everybody(true);

    tool.drop(&artifact);

    daemon.comes_to("scripted", Rejected);
    assert!(Command::new(&tool.path).status().is_err());
    everybody(false);
    daemon.settles();
    daemon.comes_to("scripted", Admitted);
    assert!(Command::new(&tool.path).status().unwrap().success());
}

#[test]
fn another_subject_puts_nothing_in_the_place_of_an_admitted_script() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let script = Tool::new("kept");
    fs::remove_file(&script.path).unwrap();
    fs::write(&script.path, "#!/bin/sh\necho mine\n").unwrap();
    fs::set_permissions(&script.path, fs::Permissions::from_mode(0o755)).unwrap();
    script.drop(&script.artifact());
    daemon.comes_to("kept", Admitted);
    let other = Tool::new("swapping");
    other.drop(&other.artifact_that(&[
        ("fs:create", "/srv/node/**"),
        ("fs:delete", "/srv/node/**"),
        ("process:exec", "/usr/bin/mv"),
    ]));
    daemon.comes_to("swapping", Admitted);
    let mut running = other.start();
    let mut moves = |from: &str, to: &str| {
        running.tell(&format!(
            "/usr/bin/mv -T {from} {to} 2>/dev/null && echo moved || echo kept"
        ))
    };
    let evil = other.file("evil");
    fs::write(&evil, "#!/bin/sh\necho evil\n").unwrap();

    assert_eq!(moves(&evil, &script.path), "kept");
    assert_eq!(moves(&script.path, &other.file("away")), "kept");
    assert_eq!(moves(&script.room, &other.file("away")), "kept");
    let output = Command::new(&script.path).output().unwrap();
    assert_eq!(output.stdout, b"mine\n");

    // without the artifact it is a file like any other
    script.remove();
    daemon.comes_to("kept", Revoked);
    daemon::cartouche_ok(&["forget", "kept"]);
    assert_eq!(moves(&evil, &script.path), "moved");
}

#[test]
fn a_program_that_is_a_fifo_is_rejected_and_holds_nobody_up() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("fifo");
    let artifact = tool.artifact();
    fs::remove_file(&tool.path).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o755);
    rustix::fs::mkfifoat(rustix::fs::CWD, &tool.path, mode).unwrap();

    tool.drop(&artifact);

    daemon.comes_to("fifo", Rejected);
    fs::remove_file(&tool.path).unwrap();
    tool.install("");
    daemon.comes_to("fifo", Admitted);
    assert_eq!(tool.reads("mine"), Done);
}
