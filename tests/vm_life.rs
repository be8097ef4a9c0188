//! Enforcement does not depend on the daemon's life: it may be told to read again, be ended, be killed, be
//! started anew, and no subject gains or loses a right by it. Starting takes seconds in an emulated machine
//! (the kernel waits for a grace period at each of its hooks), so each test starts it as seldom as it can.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use std::fs;
use std::process::Command;
use std::time::Duration;

use cartouche::control::Standing::{Admitted, Rejected, Revoked};
use cartouche::event::{Code, Event};
use cartouche::posture::{ReasonCode, RuntimeState};
use daemon::Outcome::{Done, NotStarted, Refused, Silenced};
use daemon::{Daemon, POLICIES, Tool};
use rustix::process::Signal;

const REGISTRY: &str = "/var/lib/cartouche/admitted.json";

/// What a reboot leaves of Cartouche: its files. The machine of a test cannot be booted twice, so the last
/// boot is given another name, and everything that lived in its kernel is removed.
fn forget_boot() {
    daemon::forget_kernel();
    let text = fs::read_to_string(REGISTRY).unwrap();
    let mut registry: serde_json::Value = serde_json::from_str(&text).unwrap();
    registry["boot_id"] = "another".into();
    fs::write(REGISTRY, registry.to_string()).unwrap();
}

/// Waits until the kernel, which takes its time to detach programs, holds a program to nothing.
#[track_caller]
fn is_let_go(tool: &Tool) {
    daemon::eventually("nothing is enforced", || {
        (tool.reads("other") == Done).then_some(())
    });
}

#[test]
fn what_has_not_changed_is_not_decided_again() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let (settled, newcomer) = (Tool::new("settled"), Tool::new("newcomer"));
    settled.drop_by_copy(&settled.artifact());
    daemon.comes_to("settled", Admitted);
    let mark = daemon.audit.mark();
    let file = format!("{POLICIES}/newcomer.toml");
    fs::write(&file, newcomer.artifact()).unwrap();
    daemon.comes_to("newcomer", Admitted);

    daemon.signal(Signal::HUP);
    fs::remove_file(&file).unwrap();
    daemon.comes_to("newcomer", Revoked);

    assert_eq!(daemon.audit.of(mark, Code::Submitted, "newcomer").len(), 1);
    assert_eq!(daemon.audit.of(mark, Code::Submitted, "settled").len(), 0);
    settled.is_held();
}

#[test]
fn a_hang_up_reads_and_watches_everything_again() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let (hidden, later) = (Tool::new("hidden"), Tool::new("later"));
    let covering = "/srv/covering";
    let _ = fs::remove_dir_all(covering);
    fs::create_dir(covering).unwrap();
    let cover = || {
        Command::new("mount")
            .args(["--bind", covering, POLICIES])
            .status()
    };
    let uncover = || Command::new("umount").arg(POLICIES).status();
    let later_artifact = later.artifact();
    let file = format!("{covering}/hidden.toml");
    fs::write(&file, hidden.artifact()).unwrap();

    // no directory changes by a mount, so nothing tells of it
    assert!(cover().unwrap().success());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(daemon.standing("hidden"), None);
    daemon.signal(Signal::HUP);

    daemon.comes_to("hidden", Admitted);
    hidden.is_held();
    assert!(uncover().unwrap().success());
    daemon.signal(Signal::HUP);
    daemon.comes_to("hidden", Revoked);

    // the directory that is there now is watched, also if nothing was to be read in it
    fs::remove_file(file).unwrap();
    assert!(cover().unwrap().success());
    let mark = daemon.audit.mark();
    daemon.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(500));
    later.drop_by_copy(&later_artifact);

    daemon.audit.tells(mark, Code::Admitted, "later");
    assert!(uncover().unwrap().success());
    daemon.signal(Signal::HUP);
}

#[test]
fn an_ended_daemon_leaves_everything_in_force_and_says_that_it_is_gone() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("ended");
    let mut running = tool.start();
    daemon.reports("ENFORCE", |report| {
        report.runtime_state == RuntimeState::Enforce
    });

    assert!(daemon.stop().success());

    let report = daemon.report();
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    let codes: Vec<_> = report
        .cartouche
        .reasons
        .iter()
        .map(|reason| reason.code)
        .collect();
    assert_eq!(codes, [ReasonCode::AdmissionStopped]);
    assert!(!report.audit_only);
    tool.is_held();
    assert_eq!(running.reads("mine"), Done);
    assert_eq!(running.reads("other"), Refused);
    // nobody admits: the program of a new artifact runs as before, and a removed one keeps its envelope
    let new = Tool::new("unseen");
    new.drop(&new.artifact());
    assert_eq!(new.reads("other"), Done);
    tool.remove();
    tool.is_held();
    assert_eq!(daemon::cartouche(&["posture"]).status.code(), Some(5));
    assert_eq!(daemon::cartouche(&["list"]).status.code(), Some(5));

    // what happened meanwhile is made up for
    let mark = daemon.audit.mark();
    daemon.start();
    daemon.comes_to("unseen", Admitted);
    daemon.comes_to("ended", Revoked);
    assert_eq!(running.reads("mine"), Silenced);
    daemon.audit.counts(mark, "ended", &tool.file("other"), 3);
    daemon.reports("ENFORCE", |report| {
        report.runtime_state == RuntimeState::Enforce
    });
    daemon.audit.is_whole();
}

#[test]
fn a_killed_daemon_changes_nothing_and_the_next_one_tells_all_that_happened() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("killed");
    let mut running = tool.start();
    assert_eq!(running.reads("other"), Refused);
    let mark = daemon.audit.mark();

    daemon.kill();

    for _ in 0..40 {
        assert_eq!(running.reads("other"), Refused);
    }
    assert_eq!(running.reads("mine"), Done);
    tool.is_held();

    daemon.start();

    // one record for each of the 41, folded or not
    daemon.audit.counts(mark, "killed", &tool.file("other"), 41);
    assert_eq!(daemon.status().lost_events, 0);
    // the process that ran all along is still the subject that it was
    assert_eq!(daemon.listed("killed").unwrap().tasks, 1);
    assert_eq!(running.reads("mine"), Done);
    assert_eq!(running.reads("other"), Refused);
    tool.remove();
    daemon.comes_to("killed", Revoked);
    assert_eq!(running.reads("mine"), Silenced);
    daemon.audit.is_whole();
}

#[test]
fn a_daemon_that_is_killed_right_after_an_admission_leaves_no_rights_without_an_owner() {
    daemon::require_lsm!();
    let mut daemon = daemon::running();
    let (stays, goes) = (Tool::new("just-stays"), Tool::new("just-goes"));
    let mut running = [stays.start(), goes.start()];
    let artifacts = [stays.artifact(), goes.artifact()];

    stays.drop(&artifacts[0]);
    goes.drop(&artifacts[1]);
    // before it is written down
    daemon::eventually("both are in force", || {
        let mut held = running.iter_mut().map(|one| one.reads("other") == Refused);
        held.all(|held| held).then_some(())
    });
    daemon.kill();
    goes.remove();
    daemon.start();

    stays.is_held();
    assert_eq!(running[0].reads("mine"), Done);
    assert_eq!(running[0].reads("other"), Refused);
    assert_eq!(running[1].reads("mine"), Silenced);
    assert_ne!(daemon.standing("just-goes"), Some(Admitted));
    daemon.audit.is_whole();
}

#[test]
fn nothing_gets_through_while_the_daemon_is_started_anew() {
    daemon::require_lsm!();
    let mut daemon = daemon::running();
    // names a program and is not admitted, before the others are
    let rejected = Tool::new("rejected");
    rejected.drop(&rejected.artifact().replace("sha256:", "sha256:0"));
    daemon::eventually("it has been looked at", || {
        (rejected.reads("mine") == NotStarted).then_some(())
    });
    let tools = ["zeta", "alpha"].map(Tool::new);
    for (tool, id) in tools.iter().zip(["zeta", "alpha"]) {
        tool.drop(&tool.artifact());
        daemon.comes_to(id, Admitted);
    }
    let mark = daemon.audit.mark();
    let hammers = tools.each_ref().map(Tool::hammer);

    for _ in 0..2 {
        daemon.restart();
    }
    daemon.kill();
    daemon.start();

    for (hammer, tool) in hammers.into_iter().zip(&tools) {
        let seen = hammer.stop();
        println!("{seen:?}");
        assert!(seen.tries > 100, "{seen:?}");
        let unexpected: Vec<Event> = daemon.audit.drifts_but(mark, &tool.file("other"));
        assert_eq!((seen.through, seen.lost), (0, 0), "{unexpected:#?}");
        tool.is_held();
    }
}

#[test]
fn an_invalid_replacement_leaves_the_envelope_in_force_also_when_all_starts_anew() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("replaced");
    let artifact = tool.artifact();
    let mark = daemon.audit.mark();

    tool.drop(&artifact.replace("\"fs:read\"", "\"fs:raed\""));

    let degraded = |daemon: &Daemon| {
        daemon.reports("UPDATE_FAILED", |report| {
            let mut reasons = report.cartouche.reasons.iter();
            reasons.any(|reason| reason.code == ReasonCode::UpdateFailed)
        })
    };
    daemon.audit.tells(mark, Code::Rejected, "replaced");
    assert_eq!(degraded(&daemon).runtime_state, RuntimeState::Degraded);
    tool.is_held();
    let listed = daemon.listed("replaced").unwrap();
    assert_eq!(listed.standing, Admitted);
    assert!(
        listed
            .problem
            .unwrap()
            .contains("ERR_CART_INVALID_ENVELOPE")
    );

    daemon.restart();

    degraded(&daemon);
    tool.is_held();

    // after a reboot the kernel knows nothing, so only the files can tell
    assert!(daemon.stop().success());
    forget_boot();
    is_let_go(&tool);
    daemon.start();

    degraded(&daemon);
    tool.is_held();

    tool.drop(&artifact);
    daemon.reports("ENFORCE", |report| {
        report.runtime_state == RuntimeState::Enforce
    });
    tool.is_held();
    daemon.audit.is_whole();
}

#[test]
fn a_reboot_keeps_what_is_admitted_admitted_and_what_is_revoked_revoked() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("boots");
    let gone = Tool::new("boots-gone");
    gone.drop(&gone.artifact());
    daemon.comes_to("boots-gone", Admitted);
    gone.remove();
    daemon.comes_to("boots-gone", Revoked);
    let upgraded = Tool::new("boots-upgraded");
    upgraded.drop(&upgraded.artifact());
    daemon.comes_to("boots-upgraded", Admitted);
    assert!(daemon.stop().success());
    forget_boot();
    upgraded.install("another version");
    is_let_go(&gone);

    daemon.start();

    tool.is_held();
    assert_eq!(gone.reads("mine"), NotStarted);
    assert_eq!(upgraded.reads("mine"), NotStarted);
    assert_eq!(daemon.standing("boots-gone"), Some(Revoked));
    daemon::cartouche_ok(&["forget", "boots-gone"]);
    assert_eq!(gone.reads("mine"), Done);
}

#[test]
fn what_nobody_knows_any_more_is_let_go_when_the_daemon_starts() {
    daemon::require_lsm!();
    let mut daemon = daemon::running();
    let (old, new, bad) = (
        Tool::new("lost"),
        Tool::new("lost-new"),
        Tool::new("lost-bad"),
    );
    old.drop(&old.artifact());
    daemon.comes_to("lost", Admitted);
    let mut running = old.start();
    assert_eq!(running.reads("mine"), Done);
    bad.drop(&bad.artifact().replace("\"fs:read\"", "\"fs:raed\""));
    daemon.comes_to("lost-bad", Rejected);
    assert_eq!(bad.reads("mine"), NotStarted);
    assert!(daemon.stop().success());

    // what the daemon says to do where its record of what is admitted is damaged
    fs::remove_file(REGISTRY).unwrap();
    old.remove();
    bad.remove();
    new.drop(&new.artifact_that(&[("fs:read", "/srv/**")]));
    let mark = daemon.audit.mark();
    daemon.start();

    // nobody's rights become another's, and nobody keeps rights for which nobody answers
    daemon.audit.tells(mark, Code::Revoked, "lost");
    assert_eq!(new.reads("other"), Done);
    assert_eq!(running.reads("mine"), Silenced);
    // as if they had never been admitted or rejected
    for tool in [&old, &bad] {
        assert_eq!(daemon.standing(&tool.id), None);
        assert_eq!(tool.reads("other"), Done);
    }
}

#[test]
fn a_running_program_and_its_child_are_held_as_soon_as_the_artifact_is_admitted() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("adopted");
    let artifact = tool.artifact();
    let (mut running, mut parent) = (tool.start(), tool.start());
    // another program, started by it
    assert_eq!(
        parent.tell("/bin/sh -c 'echo child; exec /bin/sh'"),
        "child"
    );
    let mut outside = Tool::new("outside").start();
    for process in [&mut running, &mut parent] {
        assert_eq!(process.reads("other"), Done);
    }
    let mark = daemon.audit.mark();

    tool.drop(&artifact);

    let told = daemon
        .audit
        .tells_that(mark, "the adoption", |event| event.code == Code::Adopted);
    assert_eq!(told.facts["processes"], "3");
    for process in [&mut running, &mut parent] {
        assert_eq!(process.reads("other"), Refused);
        assert_eq!(process.reads("mine"), Done);
    }
    assert_eq!(outside.reads("other"), Done);
    daemon.comes_to("adopted", Admitted);
    assert_eq!(daemon.listed("adopted").unwrap().tasks, 3);
}

#[test]
fn a_second_daemon_does_not_start() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("only");

    let (code, said) = daemon.start_in_vain(&[]);

    assert_eq!(code, Some(12), "{said}");
    tool.is_held();
    assert_eq!(daemon.standing("only"), Some(Admitted));
    daemon.audit.is_whole();
}

/// Without its addresses nobody would notice that a path is renamed while it is walked.
#[test]
fn where_the_kernel_hides_its_addresses_it_does_not_start() {
    daemon::require_lsm!();
    let restrict = "/proc/sys/kernel/kptr_restrict";
    let mut daemon = daemon::stopped();
    fs::write(restrict, "2").unwrap();

    let (code, said) = daemon.start_in_vain(&[]);

    fs::write(restrict, "1").unwrap();
    assert_eq!(code, Some(21), "{said}");
    assert!(said.contains("kernel.kptr_restrict"), "{said}");
    daemon.start();
    daemon.reports("ENFORCE", |report| {
        report.runtime_state == RuntimeState::Enforce
    });
}
