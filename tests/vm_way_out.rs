//! Every way out lets go of what it says, is audited, is said in the posture, and ends when it should.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use std::fs;
use std::path::Path;
use std::process::Command;

use cartouche::control::Standing::{Admitted, Released, Revoked};
use cartouche::event::{Code, Event};
use cartouche::posture::{ReasonCode, Report, RuntimeState};
use daemon::Outcome::{Done, NotStarted, Refused};
use daemon::{Daemon, Mark, PINS, Tool};

fn has(report: &Report, code: ReasonCode) -> bool {
    let mut reasons = report.cartouche.reasons.iter();
    reasons.any(|reason| reason.code == code)
}

fn tells(daemon: &Daemon, mark: Mark, word: &str) -> Event {
    daemon.audit.tells_that(mark, word, |event| {
        event.code == Code::WayOut && event.detail.as_deref() == Some(word)
    })
}

/// Another command line of the kernel, as far as programs can read it.
struct CommandLine;

impl CommandLine {
    fn with(word: &str) -> Self {
        let line = fs::read_to_string("/proc/cmdline").unwrap();
        fs::write("/tmp/cmdline", format!("{} {word}\n", line.trim())).unwrap();
        let mut mount = Command::new("mount");
        let mount = mount.args(["--bind", "/tmp/cmdline", "/proc/cmdline"]);
        assert!(mount.status().unwrap().success());
        Self
    }
}

impl Drop for CommandLine {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("/proc/cmdline").status();
    }
}

#[test]
fn a_released_artifact_holds_nobody_until_it_is_enforced_again() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("released");
    let other = Tool::new("released-not");
    other.drop(&other.artifact());
    daemon.comes_to("released-not", Admitted);
    let mut running = tool.start();
    assert_eq!(running.reads("other"), Refused);
    let mark = daemon.audit.mark();

    let said = daemon::cartouche_ok(&["release", "released"]);

    assert!(said.contains("cartouche mode released enforce"), "{said}");
    assert_eq!(running.reads("other"), Done);
    assert_eq!(running.reads("mine"), Done);
    tool.is_free();
    other.is_held();
    assert_eq!(
        tells(&daemon, mark, "release").artifact.as_deref(),
        Some("released")
    );
    let report = daemon.reports("BREAK_GLASS", |report| has(report, ReasonCode::BreakGlass));
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    assert!(
        !has(&report, ReasonCode::EnvelopeDrift),
        "{:?}",
        report.cartouche.reasons
    );
    assert_eq!(daemon.standing("released"), Some(Released));
    assert_eq!(daemon.listed("released").unwrap().mode, None);
    // twice, or only to be recorded, makes no sense
    for words in [["release", "released", ""], ["mode", "released", "audit"]] {
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        assert_eq!(
            daemon::cartouche(&words).status.code(),
            Some(1),
            "{words:?}"
        );
    }
    // it lasts: through a reading of everything, a restart, and a crash
    daemon.settles();
    running_is_free(&mut running);
    daemon.restart();
    daemon.kill();
    daemon.start();
    tool.is_free();
    running_is_free(&mut running);
    other.is_held();
    assert_eq!(daemon.standing("released"), Some(Released));
    daemon.reports("BREAK_GLASS", |report| has(report, ReasonCode::BreakGlass));
    let child = running.tell("/bin/sh -c 'echo child'");
    assert_eq!(child, "child");

    daemon::cartouche_ok(&["mode", "released", "enforce"]);

    tells(&daemon, mark, "release-ended");
    assert_eq!(running.reads("other"), Refused);
    assert_eq!(running.reads("mine"), Done);
    tool.is_held();
    daemon.reports("ENFORCE", |report| {
        report.runtime_state == RuntimeState::Enforce
    });
    assert_eq!(daemon.standing("released"), Some(Admitted));
    daemon.audit.is_whole();
}

fn running_is_free(running: &mut daemon::Running) {
    assert_eq!(running.reads("other"), Done);
}

#[test]
fn a_changed_file_ends_a_release_and_a_removed_one_revokes() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("let-go");
    let mark = daemon.audit.mark();
    daemon::cartouche_ok(&["release", "let-go"]);
    tool.is_free();

    // the same again is no admission
    tool.drop(&tool.artifact());
    daemon.settles();
    assert_eq!(daemon.standing("let-go"), Some(Released));
    tool.is_free();

    tool.drop(&tool.artifact_that(&[("fs:read", "mine"), ("fs:read", "/etc/hostname")]));

    daemon.comes_to("let-go", Admitted);
    tells(&daemon, mark, "release-ended");
    tool.is_held();

    daemon::cartouche_ok(&["release", "let-go"]);
    tool.is_free();
    tool.remove();
    daemon.comes_to("let-go", Revoked);
    assert_eq!(tool.reads("mine"), NotStarted);
    daemon::cartouche_ok(&["forget", "let-go"]);
    tool.is_free();
    daemon.reports("ENFORCE", |report| {
        report.runtime_state == RuntimeState::Enforce
    });
}

#[test]
fn everything_is_detached_with_and_without_the_daemon() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("detached");
    for with_daemon in [true, false] {
        tool.is_held();
        let mut running = tool.start();
        if !with_daemon {
            assert!(daemon.stop().success());
            tool.is_held();
        }
        let mark = daemon.audit.mark();

        let said = daemon::cartouche_ok(&["detach", "--all"]);

        assert!(said.contains("Nothing is enforced any more"), "{said}");
        if with_daemon {
            assert!(daemon.ends().success());
        }
        assert!(!Path::new(PINS).exists());
        assert_eq!(tool.reads("other"), Done);
        assert_eq!(running.reads("other"), Done);
        tells(&daemon, mark, "detach");
        let report = daemon.report();
        assert!(
            has(&report, ReasonCode::BreakGlass),
            "{:?}",
            report.cartouche.reasons
        );
        assert!(
            !has(&report, ReasonCode::HookMissing),
            "{:?}",
            report.cartouche.reasons
        );
        assert_eq!(report.runtime_state, RuntimeState::Degraded);
        assert!(report.audit_only);
        let shown = daemon::cartouche(&["posture"]);
        assert_eq!(shown.status.code(), Some(5));
        let shown = String::from_utf8_lossy(&shown.stdout);
        assert!(shown.contains("detached enforcement"), "{shown}");
        // what merely follows from it is not told, nor is the machine blamed
        assert!(
            !shown.contains("BLOCKED") && !shown.contains("CANARY"),
            "{shown}"
        );
        let listed = daemon::cartouche(&["list"]);
        let listed = String::from_utf8_lossy(&listed.stdout);
        assert!(listed.contains("nothing is enforced"), "{listed}");
        let log = daemon::cartouche_ok(&["audit", "verify"]);
        assert!(
            log.contains("was compared with the posture report"),
            "{log}"
        );
        daemon.audit.is_whole();

        // it begins again with the next start
        daemon.start();
        daemon.comes_to("detached", Admitted);
        tool.is_held();
        daemon.reports("ENFORCE", |report| {
            report.runtime_state == RuntimeState::Enforce
        });
    }
    // nothing is detached by half a command
    assert_eq!(daemon::cartouche(&["detach"]).status.code(), Some(2));
    tool.is_held();
}

#[test]
fn the_kernel_s_command_line_lets_go_of_everything() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("booted");
    tool.is_held();
    assert!(daemon.stop().success());
    let mark = daemon.audit.mark();
    {
        let _line = CommandLine::with("cartouche=off");

        let (code, said) = daemon.start_in_vain(&[]);

        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("cartouche=off"), "{said}");
        assert!(!Path::new(PINS).exists());
        assert_eq!(tool.reads("other"), Done);
        tells(&daemon, mark, "boot-off");
        let report = daemon.report();
        assert!(has(&report, ReasonCode::BreakGlass));
        assert_eq!(report.runtime_state, RuntimeState::Degraded);
        let log = daemon::cartouche_ok(&["audit", "verify"]);
        assert!(
            log.contains("was compared with the posture report"),
            "{log}"
        );
        let told = daemon::cartouche(&["mode", "booted", "audit"]);
        assert_eq!(told.status.code(), Some(5));
        let told = String::from_utf8_lossy(&told.stderr);
        assert!(
            told.contains("cartouche=off") && !told.contains("systemctl"),
            "{told}"
        );
    }
    let gone = Tool::new("booted-gone");
    {
        let _line = CommandLine::with("cartouche=off cartouche=audit");
        daemon.start();
        daemon.comes_to("booted", Admitted);
        let mut running = tool.start();

        tool.is_free();

        tells(&daemon, mark, "boot-audit");
        let report = daemon.reports("BREAK_GLASS", |report| has(report, ReasonCode::BreakGlass));
        assert_eq!(report.runtime_state, RuntimeState::AuditFallback);
        let told = daemon::cartouche(&["mode", "booted", "enforce"]);
        let told = String::from_utf8_lossy(&told.stderr);
        assert!(
            told.contains("because of cartouche=audit on the kernel"),
            "{told}"
        );
        let artifact = format!("{}/booted.toml", tool.room);
        fs::write(&artifact, tool.artifact()).unwrap();
        let told = daemon::cartouche_ok(&["install", &artifact]);
        assert!(
            told.contains("this node only audits: nothing is refused"),
            "{told}"
        );
        daemon
            .audit
            .tells_that(mark, "what would be refused", |event| {
                event.outcome == cartouche::event::Outcome::WouldDeny
            });
        // a revocation too
        gone.drop(&gone.artifact());
        daemon.comes_to("booted-gone", Admitted);
        let mut held = gone.start();
        gone.remove();
        daemon.comes_to("booted-gone", Revoked);
        assert_eq!(held.reads("other"), Done);
        assert_eq!(running.reads("other"), Done);
        assert!(daemon.stop().success());
    }
    daemon.start();
    daemon.comes_to("booted", Admitted);
    tool.is_held();
    daemon.reports("ENFORCE", |report| {
        report.runtime_state == RuntimeState::Enforce
    });
    daemon.audit.is_whole();
}
