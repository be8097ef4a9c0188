//! capabilities.json says the truth at every moment: what is really enforced, and why not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cartouche::config::Mode as Asked;
use cartouche::control::Standing::{Admitted, Rejected, Waiting};
use cartouche::enforcer::{Identity, Kernel, Mode, PIN_ROOT, SlotState};
use cartouche::event::{Code, Outcome as Ending};
use cartouche::plan::{FileNode, SingleEndpoint};
use cartouche::posture::{Blocker, ReasonCode, Report, RuntimeState};
use daemon::Outcome::{Done, NotStarted, Refused};
use daemon::{Daemon, POLICIES, Tool};
use rustix::process::Signal;

const REPORT: &str = "/var/lib/cartouche/capabilities.json";
const LOG: &str = "/var/lib/cartouche/audit.jsonl";
const CANARY: &str = "/usr/libexec/cartouche/canary";
const DROP_IN: &str = "/etc/cartouche/cartouche.toml.d";

/// Plans are read back once a minute, and when the daemon is told to read everything again.
const READ_BACK: Duration = Duration::from_secs(150);

fn codes(report: &Report) -> Vec<ReasonCode> {
    let reasons = &report.cartouche.reasons;
    reasons.iter().map(|reason| reason.code).collect()
}

/// Waits until the report gives a reason.
#[track_caller]
fn says(daemon: &Daemon, code: ReasonCode) -> Report {
    daemon.reports(code.as_str(), |report| codes(report).contains(&code))
}

#[track_caller]
fn enforces(daemon: &Daemon) -> Report {
    let report = daemon.reports("ENFORCE", |report| {
        report.runtime_state == RuntimeState::Enforce
    });
    assert_eq!(untrue(&report), None);
    report
}

/// What speaks against a report that claims to enforce.
fn untrue(report: &Report) -> Option<String> {
    let own = &report.cartouche;
    let artifacts = own.artifacts.values();
    let wrong = [
        ("a blocker", !report.enforce_blockers.is_empty()),
        ("incapable", !report.enforce_capable),
        ("reasons", !own.reasons.is_empty()),
        ("audit only", report.audit_only),
        ("the canary", !own.canary.passed),
        ("the mode", own.kernel_mode != Some(Asked::Enforce)),
        (
            "a hook",
            !report.hooks.lsm_file_open || !report.hooks.lsm_socket_connect,
        ),
        ("the LSM", !report.lsm_enabled),
        (
            "an artifact",
            artifacts
                .filter(|one| one.standing.as_str() == "admitted")
                .any(|one| one.mode != Asked::Enforce || !one.envelope_match),
        ),
        ("a requirement", {
            let met = &report.requirements_met;
            !(met.network && met.exec_identity && met.exec_runtime_deps)
        }),
    ];
    let enforce = report.runtime_state == RuntimeState::Enforce;
    let words: Vec<_> = wrong
        .iter()
        .filter(|w| enforce && w.1)
        .map(|w| w.0)
        .collect();
    (!words.is_empty()).then(|| format!("ENFORCE in spite of {}: {report:#?}", words.join(", ")))
}

#[test]
fn an_enforcing_node_says_so_with_everything_that_belongs_to_it() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("told");
    let first = daemon.reports("the first", |report| {
        report.cartouche.artifacts.contains_key("told")
    });
    let rules = first.policy.protect_path_count;
    let second = Tool::new("told-second");
    let more = "\n[[envelope.capability]]\nname = \"net:connect\"\n\
                endpoints = [\"tcp://127.0.0.1:80\"]\njustification = \"tested\"\n";

    second.drop(&daemon::seal(&(second.artifact() + more)));

    daemon.comes_to("told-second", Admitted);
    let report = daemon.reports("two artifacts", |report| {
        report.cartouche.artifacts.len() == 2
    });
    assert_eq!(untrue(&report), None);
    let own = &report.cartouche;
    assert_eq!(own.pid, daemon.pid().as_raw_nonzero().get().cast_unsigned());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(own.boot_id, boot.trim());
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(report.kernel_version, release.trim());
    let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_second();
    let lifetime = time(&own.valid_until) - time(&own.written_at);
    assert!((60..=150).contains(&lifetime), "{lifetime}");
    let policy = &report.policy;
    assert!(policy.protect_path_count > rules && rules > 0);
    assert_eq!(policy.network_rule_count, 1);
    assert!(policy.protect_connect && policy.parse_ok);
    assert_eq!(policy.allow_binary_hash_count, 2);
    assert_eq!(report.exec_identity.kernel_allow_exec_inode_entries, 2);
    assert!(report.requirements.network_connect_required);
    assert!(!report.requirements.network_bind_required);
    let head = own.audit_head.clone();
    daemon::cartouche_ok(&["audit", "verify", "--head", &head]);

    // the keys that the contract demands, and readable for everybody
    let text = fs::read_to_string(REPORT).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    for key in [
        "schema_version",
        "schema_semver",
        "generated_at_unix",
        "kernel_version",
        "capability",
        "audit_only",
        "enforce_capable",
        "enforce_blockers",
        "runtime_state",
        "lsm_enabled",
        "core_supported",
        "features",
        "hooks",
        "policy",
        "requirements",
        "requirements_met",
        "exec_identity",
        "state_transitions",
    ] {
        assert!(!json[key].is_null(), "{key}");
    }
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["schema_semver"], "1.2.0");
    assert_eq!(
        fs::metadata(REPORT).unwrap().permissions().mode() & 0o777,
        0o644
    );
    assert!(fs::read_link(REPORT).unwrap().starts_with("/run/"));
    assert_eq!(tool.reads("other"), Refused);
}

#[test]
fn a_rejected_file_is_named_and_degrades_only_if_nothing_of_it_can_be_held_back() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("sound");
    enforces(&daemon);
    let bad = Tool::new("bad");
    bad.drop(&bad.artifact().replace("\"fs:read\"", "\"fs:raed\""));
    daemon.comes_to("bad", Rejected);
    let waits = Tool::new("waits");
    let artifact = waits.artifact();
    fs::remove_file(&waits.path).unwrap();
    waits.drop(&artifact);
    daemon.comes_to("waits", Waiting);

    // its program does not run, so the node holds what it says
    let report = daemon.reports("the waiting one", |report| {
        report.cartouche.artifacts.contains_key("waits")
    });
    assert_eq!(
        report.runtime_state,
        RuntimeState::Enforce,
        "{:?}",
        codes(&report)
    );
    assert_eq!(
        report.cartouche.artifacts["waits"].standing.as_str(),
        "waiting"
    );
    assert!(report.cartouche.rejected["bad.toml"].starts_with("ERR_CART_INVALID_ENVELOPE"));
    assert_eq!(bad.reads("mine"), NotStarted);
    assert!(report.policy.parse_ok);

    // from this one nothing can be read: whatever it was for runs
    let garbage = format!("{POLICIES}/garbage.toml");
    daemon::rename_into(&garbage, b"\xff no TOML").unwrap();
    let report = says(&daemon, ReasonCode::FileUnparsable);
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    assert!(!report.policy.parse_ok);

    fs::remove_file(&garbage).unwrap();
    bad.remove();
    waits.remove();
    assert!(enforces(&daemon).cartouche.rejected.is_empty());
    assert_eq!(tool.reads("other"), Refused);
}

#[test]
fn decisions_that_could_not_be_reported_are_told_and_degrade() {
    daemon::require_lsm!();
    let mut daemon = daemon::running();
    let tool = Tool::new("loud");
    fs::remove_file(&tool.path).unwrap();
    fs::copy("/job/subject", &tool.path).unwrap();
    fs::set_permissions(&tool.path, Permissions::from_mode(0o755)).unwrap();
    tool.drop(&tool.artifact());
    daemon.comes_to("loud", Admitted);
    let before = enforces(&daemon).cartouche.lost_events;
    let mark = daemon.audit.mark();
    let refusals = |count: &str| {
        let acts = ["repeat", count, "open-read", &tool.file("other")];
        let output = Command::new(&tool.path).args(acts).output().unwrap();
        assert_eq!(output.stdout, b"EPERM\n", "{output:?}");
    };

    refusals("20");
    daemon.audit.counts(mark, "loud", &tool.file("other"), 20);
    assert_eq!(enforces(&daemon).cartouche.lost_events, before);
    // more than the budget of a second
    refusals("5000");

    let told = daemon.audit.tells(mark, Code::EventsLost, "loud");
    assert!(told.count > 0);
    daemon.settles();
    let report = says(&daemon, ReasonCode::EventsLost);
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    assert!(report.cartouche.lost_events > before);
    assert!(!report.audit_only && report.enforce_capable);
    // each is counted all the same, at the latest after a minute
    let counted = || -> u64 {
        let records = daemon.audit.since(mark).into_iter();
        let events = records.map(|record| record.event);
        events
            .filter(|event| event.artifact.as_deref() == Some("loud"))
            .filter(|event| matches!(event.code, Code::Drift | Code::EventsLost))
            .map(|event| event.count)
            .sum()
    };
    let begun = Instant::now();
    while counted() < 5020 && begun.elapsed() < READ_BACK {
        thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(counted(), 5020);
    daemon.restart();
    enforces(&daemon);
}

#[test]
fn a_hook_that_is_taken_away_is_seen() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("hooked");
    assert!(enforces(&daemon).hooks.lsm_file_open);
    assert_eq!(tool.reads("other"), Refused);

    fs::remove_file(format!("{PIN_ROOT}/links/file_open")).unwrap();
    daemon::eventually("the kernel lets go", || {
        (tool.reads("other") == Done).then_some(())
    });
    daemon.settles();

    let report = says(&daemon, ReasonCode::HookMissing);
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    assert!(!report.hooks.lsm_file_open && !report.cartouche.hooks["file_open"]);
    assert!(report.hooks.lsm_socket_connect);
    let report = says(&daemon, ReasonCode::CanaryFailed);
    let canary = &report.cartouche.canary;
    assert!(!canary.open_refused && canary.connect_refused && canary.exec_refused);

    daemon.restart();
    assert!(enforces(&daemon).hooks.lsm_file_open);
    assert_eq!(tool.reads("other"), Refused);
}

#[test]
#[allow(unsafe_code)]
fn a_network_program_that_is_detached_under_its_pin_is_seen() {
    daemon::require_lsm!();
    let (mut daemon, _tool) = daemon::with_tool("networked");
    assert!(enforces(&daemon).requirements_met.network);
    let pin = format!("{PIN_ROOT}/links/connect4");
    let c_pin = CString::new(pin.clone()).unwrap();

    // SAFETY: a NUL-terminated path; returns a new descriptor.
    let fd = unsafe { libbpf_sys::bpf_obj_get(c_pin.as_ptr()) };
    assert!(fd >= 0);
    // SAFETY: just returned to us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: takes a number.
    assert_eq!(unsafe { libbpf_sys::bpf_link_detach(fd.as_raw_fd()) }, 0);
    drop(fd);
    assert!(fs::exists(&pin).unwrap());
    daemon.settles();

    let report = says(&daemon, ReasonCode::HookMissing);
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    assert!(!report.cartouche.hooks["cgroup/connect4"]);
    assert!(report.cartouche.hooks["cgroup/connect6"]);
    assert!(
        report
            .enforce_blockers
            .contains(&Blocker::NetworkHookUnavailable)
    );
    assert!(!report.enforce_capable && !report.requirements_met.network);
    daemon.restart();
    enforces(&daemon);
}

/// What root does to the tables behind the daemon's back, and takes back again.
fn tampered(daemon: &Daemon, tool: &Tool, what: &str, harm: impl Fn(), heal: impl Fn()) {
    enforces(daemon);
    assert_eq!(tool.reads("other"), Refused, "{what}");
    harm();
    daemon.signal(Signal::HUP);

    let begun = Instant::now();
    let report = loop {
        let report = daemon.report();
        if codes(&report).contains(&ReasonCode::EnvelopeDrift) {
            break report;
        }
        assert!(begun.elapsed() < READ_BACK, "{what}: {:?}", codes(&report));
        thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(report.runtime_state, RuntimeState::Degraded, "{what}");
    assert!(
        !report.cartouche.artifacts[&tool.id].envelope_match,
        "{what}"
    );
    assert!(!report.requirements_met.exec_identity, "{what}");
    heal();
    daemon.signal(Signal::HUP);
    let begun = Instant::now();
    while daemon.report().runtime_state != RuntimeState::Enforce {
        assert!(
            begun.elapsed() < READ_BACK,
            "{what}: {:?}",
            codes(&daemon.report())
        );
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn tables_that_were_tampered_with_are_seen() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("tampered");
    // being admitted itself is news to its next decision, which puts it in force once more
    daemon.settles();
    daemon.settles();
    // as bpftool would: by the pins
    let kernel = Kernel::load().unwrap();
    let (identity, _) = kernel
        .identify(&fs::File::open(&tool.path).unwrap())
        .unwrap();
    let of_tool = |one: &(Identity, u32)| (one.0.ino, one.0.dev) == (identity.ino, identity.dev);
    let slot = kernel
        .bindings()
        .unwrap()
        .into_iter()
        .find(of_tool)
        .unwrap()
        .1;
    let claim = kernel
        .claims()
        .unwrap()
        .into_iter()
        .find(|one| one.2 == slot)
        .unwrap();
    let (_, _, number) = kernel.state(slot).unwrap();
    let registry = fs::read_to_string("/var/lib/cartouche/admitted.json").unwrap();
    let registry: serde_json::Value = serde_json::from_str(&registry).unwrap();
    let entry = &registry["artifacts"]["tampered"];
    let effective = serde_json::from_value(entry["effective"].clone()).unwrap();
    let loaders = serde_json::from_value(entry["loaders"].clone()).unwrap();
    let plan = cartouche::plan::Plan::compile(&effective, &loaders).unwrap();
    assert!(kernel.read_back(slot, number, &plan).unwrap().equal);

    // seen as soon as anything is reported
    tampered(
        &daemon,
        &tool,
        "the mode",
        || {
            kernel
                .commit(slot, number, plan.flags, Mode::Audit)
                .unwrap();
            assert_eq!(tool.reads("other"), Done);
            daemon.settles();
        },
        || {
            kernel
                .commit(slot, number, plan.flags, Mode::Enforce)
                .unwrap();
            daemon.settles();
        },
    );
    tampered(
        &daemon,
        &tool,
        "the slot",
        || {
            kernel.close(slot, SlotState::Revoked).unwrap();
            daemon.settles();
        },
        || {
            kernel
                .commit(slot, number, plan.flags, Mode::Enforce)
                .unwrap();
            daemon.settles();
        },
    );
    // seen when it is read back
    tampered(
        &daemon,
        &tool,
        "the binding and the claim",
        || {
            kernel.unclaim(claim.0, &claim.1, slot).unwrap();
            kernel.unbind(&identity).unwrap();
            assert_eq!(tool.reads("other"), Done);
        },
        || {
            kernel.claim(claim.0, &claim.1, slot).unwrap();
            kernel.bind(&identity, slot, false).unwrap();
        },
    );
    assert_eq!(tool.reads("other"), Refused);
    let mut wider = plan.clone();
    wider.files.insert(b"/srv/".to_vec(), FileNode::default());
    let mut further = plan.clone();
    let somewhere = SingleEndpoint {
        listen: false,
        protocol: 6,
        address: [0; 16],
        port: 1,
    };
    further.endpoints.insert(somewhere, 1);
    for (what, more) in [("a rule more", wider), ("an endpoint more", further)] {
        tampered(
            &daemon,
            &tool,
            what,
            || kernel.stage(number, &more).unwrap(),
            || {
                kernel.retire(number, &more).unwrap();
                kernel.stage(number, &plan).unwrap();
            },
        );
    }
}

#[test]
fn a_canary_that_is_not_refused_degrades_and_lets_no_daemon_start() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("mine");
    enforces(&daemon);
    let aside = format!("{CANARY}.aside");

    // another program, bound to nothing
    fs::rename(CANARY, &aside).unwrap();
    fs::copy(&aside, CANARY).unwrap();
    daemon.settles();

    let report = says(&daemon, ReasonCode::CanaryFailed);
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    assert!(!report.cartouche.canary.passed && !report.cartouche.canary.open_refused);

    fs::rename(&aside, CANARY).unwrap();
    daemon.settles();
    enforces(&daemon);

    // one that cannot try anything
    assert!(daemon.stop().success());
    fs::rename(CANARY, &aside).unwrap();
    fs::copy("/bin/true", CANARY).unwrap();
    let (code, said) = daemon.start_in_vain(&[]);
    assert_eq!(code, Some(15), "{said}");
    let report = daemon.report();
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    assert!(codes(&report).contains(&ReasonCode::StartRefused));
    assert!(codes(&report).contains(&ReasonCode::CanaryFailed));
    assert_eq!(tool.reads("other"), Refused);

    fs::rename(&aside, CANARY).unwrap();
    daemon.start();
    enforces(&daemon);
}

/// Tries until nobody runs the file: while somebody does, the kernel refuses by itself.
fn opened_for_writing(path: &str) -> std::io::Result<fs::File> {
    loop {
        let opened = fs::OpenOptions::new().append(true).open(path);
        match &opened {
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            _ => return opened,
        }
    }
}

#[test]
fn what_strangers_do_with_the_canary_is_audited() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    enforces(&daemon);
    let copy = "/srv/canary-copy";
    let _ = fs::remove_file(copy);
    fs::copy(CANARY, copy).unwrap();
    let mark = daemon.audit.mark();

    let refused = opened_for_writing(CANARY).unwrap_err();

    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    assert!(opened_for_writing(copy).is_ok());
    let told = daemon.audit.tells_that(mark, "the writing", |event| {
        let by = event.runtime.as_ref();
        by.is_some_and(|one| one.operation == "write-executable" && one.object == CANARY)
    });
    assert_eq!((told.code, told.outcome), (Code::Drift, Ending::Denied));
    assert_eq!(told.artifact.as_deref(), Some("cartouche.canary"));

    // one that somebody else started
    let mark = daemon.audit.mark();
    let status = Command::new(CANARY).status().unwrap();
    assert_eq!(status.code(), Some(64 + 1 + 2 + 4));
    let told = daemon.audit.tells_that(mark, "its own attempts", |event| {
        event
            .runtime
            .as_ref()
            .is_some_and(|one| one.operation == "fs:read")
    });
    assert_eq!(told.artifact.as_deref(), Some("cartouche.canary"));
    // the daemon's own are its own matter
    let mark = daemon.audit.mark();
    let flown = daemon.report().cartouche.canary.ran_at_unix;
    daemon.settles();
    daemon.reports("another flight", |report| {
        report.cartouche.canary.ran_at_unix > flown && report.cartouche.canary.passed
    });
    let told = daemon.audit.since(mark);
    assert!(
        !told.iter().any(|one| one.event.runtime.is_some()),
        "{told:#?}"
    );
}

#[test]
fn a_killed_daemon_s_report_runs_out_and_a_failed_start_replaces_it() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("orphaned");
    enforces(&daemon);
    const REGISTRY: &str = "/var/lib/cartouche/admitted.json";

    daemon.kill();

    // it could not say anything: whoever reads this must look at its time, and the command does
    let report = daemon.report();
    assert_eq!(report.runtime_state, RuntimeState::Enforce);
    let until: jiff::Timestamp = report.cartouche.valid_until.parse().unwrap();
    let left = until.as_second() - jiff::Timestamp::now().as_second();
    assert!(left <= 150, "{left}");
    let output = daemon::cartouche(&["posture"]);
    assert_eq!(output.status.code(), Some(5));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("The daemon is not running."), "{said}");
    assert_eq!(tool.reads("other"), Refused);

    // one that cannot take over does not leave it standing
    let kept = fs::read(REGISTRY).unwrap();
    fs::write(REGISTRY, "damaged").unwrap();
    let (code, said) = daemon.start_in_vain(&[]);
    assert_eq!(code, Some(13), "{said}");
    let report = daemon.report();
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    assert!(
        codes(&report).contains(&ReasonCode::StartRefused),
        "{:?}",
        codes(&report)
    );
    assert!(!report.audit_only, "what was in force is in force");
    assert_eq!(tool.reads("other"), Refused);
    fs::write(REGISTRY, kept).unwrap();

    daemon.start();
    enforces(&daemon);
}

#[test]
fn a_node_that_is_asked_to_audit_says_so() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("audited");
    let late = Tool::new("audited-late");
    assert!(daemon.stop().success());

    daemon.start_with(&["--mode", "audit"]);

    let report = says(&daemon, ReasonCode::AuditRequested);
    assert_eq!(report.runtime_state, RuntimeState::AuditFallback);
    assert!(report.enforce_capable && !report.state_transitions.enforce_requested);
    assert!(!report.requirements_met.network && !report.requirements_met.exec_identity);
    assert_eq!(tool.reads("other"), Done);
    let mark = daemon.audit.mark();
    late.drop(&late.artifact());
    daemon.comes_to("audited-late", Admitted);
    assert_eq!(late.reads("other"), Done);
    let told = daemon.audit.tells(mark, Code::Drift, "audited-late");
    assert_eq!(told.outcome, Ending::WouldDeny);
    assert_eq!(daemon::cartouche(&["posture"]).status.code(), Some(3));
    // who is who stays enforced, and so the report does not say that nothing is refused
    late.install("another version");
    assert_eq!(late.reads("mine"), NotStarted);
    assert!(!daemon.report().audit_only);
    // no artifact is shown as enforced, and none is promised to be
    assert_eq!(daemon.listed("audited").unwrap().mode, Some(Asked::Audit));
    let told = daemon::cartouche(&["mode", "audited", "enforce"]);
    let said = String::from_utf8(told.stderr).unwrap();
    assert_eq!(told.status.code(), Some(1), "{said}");
    assert!(said.contains("the whole node only audits"), "{said}");
    assert_eq!(tool.reads("other"), Done);

    daemon.restart();
    assert_eq!(daemon.listed("audited").unwrap().mode, Some(Asked::Enforce));
    tool.remove();
    late.remove();
    daemon.settles();
    tool.drop(&tool.artifact());
    daemon.comes_to("audited", Admitted);
    assert_eq!(tool.reads("other"), Refused);
    enforces(&daemon);
}

#[test]
fn a_requirement_that_this_node_does_not_meet_refuses_the_start_or_falls_back() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("required");
    fs::create_dir_all(DROP_IN).unwrap();
    let file = format!("{DROP_IN}/require.toml");
    assert!(daemon.stop().success());
    fs::write(&file, "[require]\nima_appraisal = true\n").unwrap();

    let (code, said) = daemon.start_in_vain(&[]);

    assert_eq!(code, Some(26), "{said}");
    assert!(said.contains("IMA_APPRAISAL_UNAVAILABLE"), "{said}");
    let report = daemon.report();
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    assert!(codes(&report).contains(&ReasonCode::StartRefused));
    assert!(
        report
            .enforce_blockers
            .contains(&Blocker::ImaAppraisalUnavailable)
    );
    assert!(!report.enforce_capable && !report.requirements_met.ima_appraisal);

    // in the words of the configuration
    fs::write(
        &file,
        "gate = \"audit-fallback\"\n\n[require]\nima_appraisal = true\n",
    )
    .unwrap();
    daemon.start();
    let report = says(&daemon, ReasonCode::AuditFallback);
    assert_eq!(report.runtime_state, RuntimeState::AuditFallback);
    assert!(!report.state_transitions.strict_mode && report.state_transitions.enforce_requested);
    assert_eq!(tool.reads("other"), Done);

    fs::remove_file(&file).unwrap();
    daemon.restart();
    assert_eq!(tool.reads("other"), Refused);
    enforces(&daemon);
}

#[test]
fn a_reload_says_what_a_changed_configuration_takes_and_what_is_wrong_with_it() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("reloaded");
    enforces(&daemon);
    fs::create_dir_all(DROP_IN).unwrap();
    let file = format!("{DROP_IN}/reload.toml");
    let reload = |text: &str, word: &str| {
        let mark = daemon.audit.mark();
        fs::write(&file, text).unwrap();
        daemon.signal(Signal::HUP);
        daemon.audit.tells_that(mark, word, |event| {
            event.code == Code::FileIgnored
                && event.detail.as_deref() == Some("configuration")
                && event
                    .message
                    .as_ref()
                    .is_some_and(|told| told.contains(word))
        });
    };

    reload("mode = \"audit\"\n", "when cartouched is restarted");
    assert_eq!(tool.reads("other"), Refused);
    enforces(&daemon);
    reload("moo = \"audit\"\n", "moo");
    says(&daemon, ReasonCode::UpdateFailed);
    assert_eq!(tool.reads("other"), Refused);

    fs::remove_file(&file).unwrap();
    daemon.signal(Signal::HUP);
    enforces(&daemon);
}

#[test]
fn a_broken_scope_degrades_at_once_and_a_start_with_it_keeps_what_was_known() {
    daemon::require_lsm!();
    const SCOPE: &str = "/etc/cartouche/scope.toml";
    let (mut daemon, tool) = daemon::with_tool("scoped");
    enforces(&daemon);
    let kept = fs::read(SCOPE).ok();

    fs::write(SCOPE, "nonsense = 1\n").unwrap();
    daemon.signal(Signal::HUP);

    let report = says(&daemon, ReasonCode::UpdateFailed);
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    assert!(report.cartouche.reasons[0].message.contains("scope"));
    assert!(daemon.stop().success());
    let (code, said) = daemon.start_in_vain(&[]);
    assert_eq!(code, Some(10), "{said}");
    let report = daemon.report();
    assert!(codes(&report).contains(&ReasonCode::StartRefused));
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    assert!(report.cartouche.artifacts.contains_key("scoped"));
    assert!(report.cartouche.audit_seq > 0 && !report.audit_only);
    assert_eq!(tool.reads("other"), Refused);

    match kept {
        Some(bytes) => fs::write(SCOPE, bytes).unwrap(),
        None => fs::remove_file(SCOPE).unwrap(),
    }
    daemon.start();
    enforces(&daemon);
}

#[test]
fn an_audit_log_that_takes_nothing_is_told() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("mute");
    enforces(&daemon);
    let chattr = |how: &str| Command::new("chattr").args([how, LOG]).status().unwrap();
    assert!(chattr("+i").success());

    assert_eq!(tool.reads("other"), Refused);

    // without anything else that happens
    let report = says(&daemon, ReasonCode::SinkLost);
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    let sinks = &report.cartouche.sinks;
    assert!(sinks.iter().any(|sink| !sink.working), "{sinks:?}");
    assert!(sinks.iter().any(|sink| sink.working), "{sinks:?}");
    // no verdict depends on it
    assert_eq!((tool.reads("other"), tool.reads("mine")), (Refused, Done));
    assert!(chattr("-i").success());
    // the minute's work finds out by itself; a reload does not wait for it
    daemon.signal(Signal::HUP);
    enforces(&daemon);
    daemon.audit.is_whole();
}

#[test]
fn a_log_that_was_cut_while_no_daemon_ran_is_told_by_the_next() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("cut");
    assert_eq!(tool.reads("other"), Refused);
    assert!(daemon.stop().success());
    let written = fs::read_to_string(LOG).unwrap();
    let lines: Vec<&str> = written.split_inclusive('\n').collect();
    fs::write(LOG, lines[..lines.len() - 5].concat()).unwrap();
    let mark = daemon.audit.mark();

    daemon.start();

    let records = daemon.audit.since(mark);
    let cut = records
        .iter()
        .find(|one| one.event.detail.as_deref() == Some("log-cut"));
    let cut = &cut.unwrap().event;
    // it was written down before the last of them
    assert!(
        cut.code == Code::EventsLost && (1..=5).contains(&cut.count),
        "{cut:?}"
    );
    says(&daemon, ReasonCode::EventsLost);
    // told once
    assert!(daemon.stop().success());
    daemon.start();
    enforces(&daemon);
}

#[test]
fn what_cannot_be_written_down_is_told_to_who_asked_for_it() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("unwritten");
    enforces(&daemon);
    const REGISTRY: &str = "/var/lib/cartouche/admitted.json";
    let aside = format!("{REGISTRY}.aside");
    fs::rename(REGISTRY, &aside).unwrap();
    fs::create_dir(REGISTRY).unwrap();

    let output = daemon::cartouche(&["mode", &tool.id, "audit"]);

    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("after a restart it is as it was before"),
        "{said}"
    );
    // in force nevertheless, and said so
    assert_eq!(tool.reads("other"), Done);
    says(&daemon, ReasonCode::SinkLost);
    fs::remove_dir(REGISTRY).unwrap();
    fs::rename(&aside, REGISTRY).unwrap();
    let output = daemon::cartouche(&["mode", &tool.id, "enforce"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(tool.reads("other"), Refused);
    enforces(&daemon);
}

#[test]
fn a_directory_that_is_not_trusted_is_not_read_and_that_is_told() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("open");
    enforces(&daemon);
    let everybody = |may| {
        let mode = if may { 0o777 } else { 0o755 };
        fs::set_permissions(POLICIES, Permissions::from_mode(mode)).unwrap();
    };
    everybody(true);

    // whoever removes it there may be anybody
    let report = says(&daemon, ReasonCode::UpdateFailed);
    fs::remove_file(tool.policy()).unwrap();
    daemon.settles();

    let reasons = format!("{:?}", report.cartouche.reasons);
    assert!(
        reasons.contains(POLICIES) && reasons.contains("chmod go-w"),
        "{reasons}"
    );
    assert_eq!((tool.reads("mine"), tool.reads("other")), (Done, Refused));
    everybody(false);
    daemon.comes_to(&tool.id, cartouche::control::Standing::Revoked);
    enforces(&daemon);
    assert_eq!(tool.reads("mine"), NotStarted);
}

#[test]
fn the_report_is_whole_and_true_while_everything_changes() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("moving");
    enforces(&daemon);
    let artifact = tool.artifact();
    let ended = AtomicBool::new(false);

    let (seen, wrong) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut seen, mut wrong) = (Vec::new(), Vec::new());
            while !ended.load(Ordering::Relaxed) {
                let bytes = fs::read(REPORT).unwrap();
                match serde_json::from_slice::<Report>(&bytes) {
                    Ok(report) => {
                        wrong.extend(untrue(&report));
                        if seen.last() != Some(&report.runtime_state) {
                            seen.push(report.runtime_state);
                        }
                    }
                    Err(error) => wrong.push(error.to_string()),
                }
                thread::sleep(Duration::from_millis(5));
            }
            (seen, wrong)
        });
        for _ in 0..2 {
            daemon::cartouche_ok(&["mode", "moving", "audit"]);
            says(&daemon, ReasonCode::ArtifactInAudit);
            daemon::cartouche_ok(&["mode", "moving", "enforce"]);
            enforces(&daemon);
            tool.drop("no = \"artifact\"");
            says(&daemon, ReasonCode::UpdateFailed);
            tool.drop(&artifact);
            enforces(&daemon);
        }
        daemon.restart();
        enforces(&daemon);
        ended.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });

    assert_eq!(wrong, Vec::<String>::new());
    assert!(seen.len() >= 9, "{seen:?}");
    let told = &daemon.report().state_transitions;
    assert!(told.total >= told.degradation_total);
}

#[test]
fn without_a_bpf_file_system_the_daemon_refuses_to_start() {
    daemon::require_lsm!();
    let mut daemon = daemon::stopped();
    let umount = Command::new("umount").arg("/sys/fs/bpf").status().unwrap();
    assert!(umount.success());

    let (code, said) = daemon.start_in_vain(&[]);

    let mount = Command::new("mount")
        .args(["-t", "bpf", "-o", "mode=700", "bpf", "/sys/fs/bpf"])
        .status()
        .unwrap();
    assert!(mount.success());
    assert_eq!(code, Some(20), "{said}");
    assert!(said.contains("mount -t bpf"), "{said}");
    let report = daemon.report();
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    assert!(report.enforce_blockers.contains(&Blocker::BpffsUnmounted));
    assert!(codes(&report).contains(&ReasonCode::StartRefused));
    assert!(report.audit_only && !report.features.bpffs);

    daemon.start();
    assert!(enforces(&daemon).features.bpffs);
}

#[test]
fn a_report_of_an_earlier_boot_does_not_outlive_it() {
    daemon::require_lsm!();
    let (daemon, _tool) = daemon::with_tool("booted");
    enforces(&daemon);

    // a file system that keeps nothing, reached by a link
    let target = fs::read_link(REPORT).unwrap();
    let run = rustix::fs::statfs(target.parent().unwrap()).unwrap();
    let tmpfs = 0x0102_1994;
    assert_eq!(run.f_type.cast_unsigned(), tmpfs);

    // what stands in its place is replaced at the next report
    fs::remove_file(REPORT).unwrap();
    symlink("/nowhere", REPORT).unwrap();
    daemon.settles();
    daemon::eventually("the link is mended", || {
        (fs::read_link(REPORT).unwrap() == target).then_some(())
    });
    enforces(&daemon);
}
