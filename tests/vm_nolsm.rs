//! A kernel without `bpf` in its list of LSMs takes all programs and calls none of them: nothing may pretend
//! to enforce there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use std::fs;

use cartouche::control::Standing::Admitted;
use cartouche::posture::{Blocker, Level, ReasonCode, Report, RuntimeState};
use daemon::Outcome::Done;
use daemon::Tool;

/// Leaves the test where it may not boot its own kernel; fails where the harness booted another one.
macro_rules! require_no_lsm {
    () => {
        if std::env::var("CARTOUCHE_REQUIRE").as_deref() != Ok("lsm") {
            eprintln!("skipped: runs in a virtual machine only");
            return;
        }
        assert!(!daemon::has_lsm(), "this kernel enforces");
    };
}

#[track_caller]
fn enforces_nothing(report: &Report) {
    assert_eq!(report.capability, Level::AuditOnly);
    assert!(report.audit_only && !report.enforce_capable && !report.lsm_enabled);
    assert!(!report.features.bpf_lsm && report.core_supported);
    let blockers: Vec<_> = report.enforce_blockers.iter().copied().collect();
    assert_eq!(
        blockers,
        [Blocker::CapabilityAuditOnly, Blocker::BpfLsmDisabled]
    );
    let canary = &report.cartouche.canary;
    assert!(!canary.passed && !canary.open_refused);
}

fn gives(report: &Report, code: ReasonCode) -> bool {
    report
        .cartouche
        .reasons
        .iter()
        .any(|reason| reason.code == code)
}

#[test]
fn the_daemon_refuses_to_start_and_says_why() {
    require_no_lsm!();
    let daemon = daemon::stopped();
    let tool = Tool::new("unheld");
    tool.drop(&tool.artifact());

    let (code, said) = daemon.start_in_vain(&[]);

    assert_eq!(code, Some(22), "{said}");
    assert!(said.contains("BPF_LSM_DISABLED"), "{said}");
    let report = daemon.report();
    enforces_nothing(&report);
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    assert!(gives(&report, ReasonCode::StartRefused));
    assert!(report.state_transitions.strict_mode);
    assert_eq!(tool.reads("other"), Done);
    let posture = daemon::cartouche(&["posture"]);
    assert_eq!(posture.status.code(), Some(5), "{posture:?}");
    let text = String::from_utf8(posture.stdout).unwrap();
    assert!(
        text.contains("Blockers       CAPABILITY_AUDIT_ONLY BPF_LSM_DISABLED"),
        "{text}"
    );
    daemon
        .audit
        .tells_that(daemon::Mark(0), "the blockers", |event| {
            event.facts.get("blockers").map(String::as_str)
                == Some("CAPABILITY_AUDIT_ONLY,BPF_LSM_DISABLED")
        });
}

#[test]
fn with_the_gate_audit_fallback_it_runs_and_claims_nothing() {
    require_no_lsm!();
    let mut daemon = daemon::stopped();
    let drop_in = "/etc/cartouche/cartouche.toml.d";
    fs::create_dir_all(drop_in).unwrap();
    fs::write(
        format!("{drop_in}/gate.toml"),
        "gate = \"audit-fallback\"\n",
    )
    .unwrap();
    let tool = Tool::new("fallback");

    daemon.start();
    tool.drop(&tool.artifact());

    daemon.comes_to("fallback", Admitted);
    let report = daemon.reports("the artifact", |report| {
        report.cartouche.artifacts.contains_key("fallback")
    });
    enforces_nothing(&report);
    assert_eq!(report.runtime_state, RuntimeState::AuditFallback);
    assert!(gives(&report, ReasonCode::AuditFallback) && gives(&report, ReasonCode::Blocked));
    assert!(!report.requirements_met.exec_identity && !report.requirements_met.network);
    assert!(!report.state_transitions.strict_mode);
    assert_eq!(tool.reads("other"), Done);
    assert_eq!(daemon::cartouche(&["posture"]).status.code(), Some(3));

    // the option weighs more than the file
    assert!(daemon.stop().success());
    let (code, said) = daemon.start_in_vain(&["--gate", "fail-closed"]);
    assert_eq!(code, Some(22), "{said}");
}
