//! `cartouche posture`.

use std::fs;
use std::path::Path;

use jiff::Timestamp;

use super::absence::Absence;
use super::table::pairs;
use super::{Answer, Error, Exit, ask};
use crate::audit::printable;
use crate::config::Paths;
use crate::control::{Request, Response};
use crate::posture::{Reason, ReasonCode, Report, RuntimeState};

/// Show what this node really enforces, as in /var/lib/cartouche/capabilities.json
///
/// Ends with code 0 exactly if the state is ENFORCE, with 3 if it is another. Without the daemon, shows
/// its last report of this boot, and ends with code 5.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(paths: &Paths) -> Result<Answer, Error> {
    match ask(paths, &Request::Posture) {
        Ok(Response::Posture(report)) => {
            let exit = match report.runtime_state {
                RuntimeState::Enforce => Exit::Done,
                _ => Exit::No,
            };
            Ok(Answer::new(text(&report), &report)?.exit(exit))
        }
        Ok(_) => Err(Error::OtherAnswer),
        Err(error) => {
            // The report may be read by all, the socket only by root.
            let Some(mut report) = last_report(paths) else {
                return Err(error);
            };
            // A user who may not ask has only the report's own word for it that it still holds.
            let silent = error.exit() == Exit::NotRunning;
            let unpinned = silent && Absence::of(paths) != Absence::Pinned;
            if unpinned {
                nothing_in_force(&mut report);
            }
            let valid = !silent && is_valid(&report, &boot_id(), Timestamp::now());
            let (note, exit) = match (valid, report.runtime_state) {
                (true, RuntimeState::Enforce) => (String::new(), Exit::Done),
                (true, _) => (String::new(), Exit::No),
                (false, _) => (
                    format!(
                        "The daemon is not running. This is what was last said, at {}:\n\n",
                        report.cartouche.written_at
                    ),
                    Exit::NotRunning,
                ),
            };
            Ok(Answer::new(note + &text(&report), &report)?.exit(exit))
        }
    }
}

/// Takes back what the last daemon said is in force: its pins are gone.
fn nothing_in_force(report: &mut Report) {
    report.runtime_state = RuntimeState::Degraded;
    report.audit_only = true;
    let met = &mut report.requirements_met;
    met.network = false;
    met.exec_identity = false;
    met.exec_runtime_deps = false;
    report.cartouche.kernel_mode = None;
    let reasons = &mut report.cartouche.reasons;
    reasons.retain(|reason| {
        !matches!(
            reason.code,
            ReasonCode::NotAttached | ReasonCode::AdmissionStopped
        )
    });
    reasons.push(Reason {
        code: ReasonCode::NotAttached,
        message: "Nothing is enforced: no daemon runs, and nothing of it is pinned in the kernel"
            .to_owned(),
    });
}

fn last_report(paths: &Paths) -> Option<Report> {
    let bytes = fs::read(paths.report_link()).ok()?;
    serde_json::from_slice(&bytes).ok()
}

pub(super) fn boot_id() -> String {
    fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Whether a report is of this boot and the daemon was heard of lately.
fn is_valid(report: &Report, boot_id: &str, now: Timestamp) -> bool {
    let until: Option<Timestamp> = report.cartouche.valid_until.parse().ok();
    report.cartouche.boot_id == boot_id && until.is_some_and(|until| now <= until)
}

/// For people: where a way out took everything off, without what merely follows from that.
fn text(report: &Report) -> String {
    let detached = is_detached(report);
    let mut rows = vec![
        ("State", state(report)),
        ("Kernel", kernel(report, detached)),
    ];
    if !detached {
        rows.push(("Blockers", blockers(report)));
        rows.push(("Canary", canary(report).to_owned()));
    }
    rows.extend(requirements(report));
    let own = &report.cartouche;
    rows.extend([
        ("Artifacts", own.artifacts.len().to_string()),
        (
            "Audit head",
            format!("{} {}", own.audit_seq, own.audit_head),
        ),
        ("Written", own.written_at.clone()),
    ]);
    pairs(&rows) + &reasons(report, detached) + &unmediated(report)
}

fn has(report: &Report, code: ReasonCode) -> bool {
    report.cartouche.reasons.iter().any(|one| one.code == code)
}

/// Whether nothing is attached because an administrator asked for that.
fn is_detached(report: &Report) -> bool {
    has(report, ReasonCode::BreakGlass) && has(report, ReasonCode::NotAttached)
}

fn state(report: &Report) -> String {
    let state = report.runtime_state;
    if has(report, ReasonCode::BreakGlass) {
        format!("{state}: an administrator took a way out, see BREAK_GLASS below")
    } else {
        state.to_string()
    }
}

fn kernel(report: &Report, detached: bool) -> String {
    if detached {
        report.kernel_version.clone()
    } else {
        format!("{}, support {}", report.kernel_version, report.capability)
    }
}

fn blockers(report: &Report) -> String {
    let blockers: Vec<_> = report.enforce_blockers.iter().map(|b| b.as_str()).collect();
    if blockers.is_empty() {
        "none".to_owned()
    } else {
        blockers.join(" ")
    }
}

fn canary(report: &Report) -> &'static str {
    let canary = &report.cartouche.canary;
    match (canary.ran_at_unix, canary.passed) {
        (None, _) => "did not run",
        (_, true) => "refused, as it must be",
        (_, false) => "NOT refused, or not reported",
    }
}

fn requirements(report: &Report) -> [(&'static str, String); 4] {
    let requirements = &report.requirements;
    let met = &report.requirements_met;
    [
        (
            "Network",
            requirements.network_enforcement_required,
            met.network,
        ),
        (
            "Identity",
            requirements.exec_identity_required,
            met.exec_identity,
        ),
        (
            "Loaded code",
            requirements.verified_exec_runtime_deps_required,
            met.exec_runtime_deps,
        ),
        (
            "IMA appraisal",
            requirements.ima_appraisal_required,
            met.ima_appraisal,
        ),
    ]
    .map(|(name, required, met)| {
        let need = match (required, met) {
            (false, _) => "not required",
            (true, true) => "required, enforced",
            (true, false) => "required, NOT enforced",
        };
        (name, need.to_owned())
    })
}

fn reasons(report: &Report, detached: bool) -> String {
    let told: Vec<_> = report
        .cartouche
        .reasons
        .iter()
        .filter(|reason| !detached || !follows_from_detaching(report, reason))
        .map(|reason| format!("  {}  {}\n", reason.code, printable(&reason.message)))
        .collect();
    if told.is_empty() {
        return String::new();
    }
    format!("\nNot ENFORCE, because:\n{}", told.concat())
}

/// Whether a reason is there on every node from which enforcement was taken off.
fn follows_from_detaching(report: &Report, reason: &Reason) -> bool {
    match reason.code {
        ReasonCode::AdmissionStopped
        | ReasonCode::EnvelopeDrift
        | ReasonCode::CanaryFailed
        | ReasonCode::CanaryPending => true,
        // but what the machine itself lacks stays to be said
        ReasonCode::Blocked => !report
            .enforce_blockers
            .iter()
            .any(|one| !one.follows_from_detaching() && reason.message.contains(one.as_str())),
        _ => false,
    }
}

fn unmediated(report: &Report) -> String {
    let unmediated = &report.cartouche.unmediated;
    if unmediated.is_empty() {
        return String::new();
    }
    let words: String = unmediated
        .iter()
        .map(|one| format!("  {}\n", printable(one)))
        .collect();
    format!(
        "\nNot decided about in this build (/usr/share/doc/cartouche/threat-model.md explains the words):\n{words}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posture::{Admission, History, Observed, Programs, evaluate, publish};

    fn report(change: impl FnOnce(&mut Observed)) -> Report {
        let mut observed = Observed::sound();
        change(&mut observed);
        evaluate(&observed, &History::default())
    }

    #[test]
    fn a_degraded_node_says_why() {
        let text = text(&report(|observed| observed.sinks[0].working = false));

        assert!(text.starts_with("State          DEGRADED\n"), "{text}");
        assert!(text.contains("SINK_LOST  The audit sink syslog"), "{text}");
        assert!(
            text.contains("Network        required, enforced\n"),
            "{text}"
        );
    }

    #[test]
    fn after_a_way_out_it_is_told_first_and_the_machine_is_not_blamed() {
        let off = |change: fn(&mut Observed)| {
            report(|observed| {
                observed.break_glass = Some("cartouche=off on the kernel command line".into());
                observed.kernel_mode = None;
                observed.hooks.clear();
                observed.programs = Programs::Unknown("it was not tried".into());
                observed.admission = Admission::Stopped;
                observed.canary.ran_at_unix = None;
                change(observed);
            })
        };

        let sound = text(&off(|_| {}));
        let lacking = text(&off(|observed| observed.system.bpffs = false));

        let (_, why) = sound.split_once("Not ENFORCE, because:\n").unwrap();
        let why = why.split("\n\n").next().unwrap().trim_end();
        assert_eq!(
            why,
            "  BREAK_GLASS  An administrator took a way out: cartouche=off on the kernel command line\n  \
             NOT_ATTACHED  No programs are attached"
        );
        assert!(
            sound.starts_with("State          DEGRADED: an administrator took a way out"),
            "{sound}"
        );
        assert!(
            !sound.contains("Blockers") && !sound.contains("Unknown"),
            "{sound}"
        );
        assert!(lacking.contains("BPFFS_UNMOUNTED; mount it"), "{lacking}");
        assert!(!lacking.contains("CAPABILITY_AUDIT_ONLY"), "{lacking}");
    }

    #[test]
    fn a_report_of_another_boot_or_of_long_ago_is_not_valid() {
        let report = report(|_| {});
        let now: Timestamp = report.cartouche.written_at.parse().unwrap();
        let later: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();

        assert!(is_valid(&report, "b", now));
        assert!(!is_valid(&report, "c", now));
        assert!(!is_valid(&report, "b", later));
    }

    #[test]
    fn the_last_report_is_shown_without_the_daemon_but_is_no_yes() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(&paths.run).unwrap();
        fs::create_dir_all(&paths.state).unwrap();
        publish(&report(|_| {}), &paths).unwrap();

        let answer = run(&paths).unwrap();

        assert_eq!(answer.exit, Exit::NotRunning);
        assert!(answer.text.starts_with("The daemon is not running"));
        // nothing is pinned under this root
        assert!(answer.text.contains("NOT_ATTACHED"), "{}", answer.text);
        assert_eq!(answer.json["requirements_met"]["network"], false);

        fs::create_dir_all(paths.bpffs.join("links")).unwrap();
        let pinned = run(&paths).unwrap();
        assert!(!pinned.text.contains("NOT_ATTACHED"), "{}", pinned.text);
    }
}
