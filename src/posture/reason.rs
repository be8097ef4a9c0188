//! Why a node is not in ENFORCE: every fact that speaks against it, each in a sentence.

use std::collections::BTreeSet;

use super::evaluate::REPORT_LIFETIME;
use super::observed::{Admission, ArtifactFacts, Observed, Programs, Standing};
use super::report::{Blocker, Reason, ReasonCode};
use crate::config::Mode;

/// The artifacts that are in force.
pub(super) fn admitted(observed: &Observed) -> impl Iterator<Item = &ArtifactFacts> {
    observed
        .artifacts
        .iter()
        .filter(|artifact| artifact.standing == Standing::Admitted)
}

/// Everything that keeps the node from ENFORCE.
pub(super) fn reasons(observed: &Observed, blockers: &BTreeSet<Blocker>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut add = |code, message: String| reasons.push(Reason { code, message });
    // the first, as much of the rest follows from it
    if let Some(way) = &observed.break_glass {
        add(
            ReasonCode::BreakGlass,
            format!("An administrator took a way out: {way}"),
        );
    }
    for blocker in blockers {
        add(
            ReasonCode::Blocked,
            format!("This node cannot enforce: {blocker}; {}", blocker.cure()),
        );
    }
    if let Programs::Refused(why) | Programs::Unknown(why) = &observed.programs {
        add(
            ReasonCode::Blocked,
            format!("The kernel programs are not loaded: {why}"),
        );
    }
    match &observed.admission {
        Admission::Running => {}
        Admission::Refused(why) => add(
            ReasonCode::StartRefused,
            format!("The daemon refused to start: {why}"),
        ),
        Admission::Stopped => add(
            ReasonCode::AdmissionStopped,
            match observed.kernel_mode {
                Some(_) => "No daemon admits artifacts; what was in force stays in force",
                None => "No daemon admits artifacts",
            }
            .to_owned(),
        ),
    }
    match (observed.kernel_mode, observed.mode) {
        (Some(Mode::Enforce), _) => {}
        // said below, as what it is
        (Some(Mode::Audit), Mode::Enforce) if observed.break_glass.is_some() => {}
        (None, _) => add(
            ReasonCode::NotAttached,
            "No programs are attached".to_owned(),
        ),
        (Some(Mode::Audit), Mode::Audit) => add(
            ReasonCode::AuditRequested,
            "The configuration asks to record only".to_owned(),
        ),
        (Some(Mode::Audit), Mode::Enforce) => add(
            ReasonCode::AuditFallback,
            "The node fell back to recording only".to_owned(),
        ),
    }
    for (name, hook) in &observed.hooks {
        if hook.expected && !hook.attached && observed.kernel_mode.is_some() {
            add(
                ReasonCode::HookMissing,
                format!("The hook {name} is not attached"),
            );
        }
    }
    for artifact in admitted(observed) {
        let id = &artifact.id;
        if artifact.mode == Mode::Audit {
            add(
                ReasonCode::ArtifactInAudit,
                format!("The artifact {id} is in audit mode"),
            );
        }
        if !artifact.envelope_match {
            add(
                ReasonCode::EnvelopeDrift,
                format!("What the kernel holds of {id} is not its envelope"),
            );
        }
    }
    if !observed.managed_match {
        add(
            ReasonCode::EnvelopeDrift,
            "What the kernel holds of the managed paths is not what the configuration says"
                .to_owned(),
        );
    }
    for id in &observed.failed_updates {
        add(
            ReasonCode::UpdateFailed,
            format!("An update of {id} was rejected; the version before it is in force"),
        );
    }
    for id in &observed.replaced {
        add(
            ReasonCode::UpdateFailed,
            format!(
                "A program of {id} is not the one that its artifact names, or is not there, and does \
                 not run; after an upgrade, \"cartouche seal --update-hashes\" on the artifact helps"
            ),
        );
    }
    for message in &observed.not_taken {
        add(ReasonCode::UpdateFailed, message.clone());
    }
    for file in &observed.unparsable {
        add(
            ReasonCode::FileUnparsable,
            format!("The file {file:?} could not be read as TOML; its program is not held back"),
        );
    }
    add_canary_and_losses(observed, &mut add);
    reasons
}

fn add_canary_and_losses(observed: &Observed, add: &mut impl FnMut(ReasonCode, String)) {
    let canary = &observed.canary;
    let fresh = canary
        .ran_at_unix
        .is_some_and(|at| observed.now_unix.saturating_sub(at) <= REPORT_LIFETIME);
    if !fresh {
        add(
            ReasonCode::CanaryPending,
            "The canary has not tried the refusals lately".to_owned(),
        );
    } else if !canary.passed() {
        add(
            ReasonCode::CanaryFailed,
            "The canary was not refused, or its refusal was not reported".to_owned(),
        );
    }
    if observed.lost_lately > 0 {
        add(
            ReasonCode::EventsLost,
            format!(
                "{} decisions could not be reported one by one",
                observed.lost_lately
            ),
        );
    }
    for sink in observed.sinks.iter().filter(|sink| !sink.working) {
        add(
            ReasonCode::SinkLost,
            format!("The audit sink {} does not take records", sink.name),
        );
    }
    if let Some(why) = &observed.save_problem {
        add(ReasonCode::SinkLost, why.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posture::{History, RuntimeState, evaluate};

    type Change = fn(&mut Observed);

    #[test]
    #[rustfmt::skip]
    fn each_reason_takes_the_node_out_of_enforce() {
        use ReasonCode::*;
        use RuntimeState::{AuditFallback as Fallback, Degraded};
        let cases: &[(Change, RuntimeState, ReasonCode)] = &[
            (|o| o.system.bpffs = false, Degraded, Blocked),
            (|o| o.admission = Admission::Refused("x".into()), Degraded, StartRefused),
            (|o| o.admission = Admission::Stopped, Degraded, AdmissionStopped),
            (|o| { o.kernel_mode = Some(Mode::Audit); o.mode = Mode::Audit }, Fallback, AuditRequested),
            (|o| { o.kernel_mode = Some(Mode::Audit); o.system.lsm = Some(vec![]) }, Fallback, AuditFallback),
            (|o| o.kernel_mode = None, Degraded, NotAttached),
            (|o| o.hooks.get_mut("file_open").unwrap().attached = false, Degraded, HookMissing),
            (|o| o.artifacts[0].mode = Mode::Audit, Degraded, ArtifactInAudit),
            (|o| o.artifacts[0].envelope_match = false, Degraded, EnvelopeDrift),
            (|o| { o.failed_updates.insert("exporter".into()); }, Degraded, UpdateFailed),
            (|o| o.managed_match = false, Degraded, EnvelopeDrift),
            (|o| { o.replaced.insert("exporter".into()); }, Degraded, UpdateFailed),
            (|o| o.not_taken.push("The scope is not valid".into()), Degraded, UpdateFailed),
            (|o| { o.unparsable.insert("x.toml".into()); }, Degraded, FileUnparsable),
            (|o| o.canary.exec_refused = false, Degraded, CanaryFailed),
            (|o| o.canary.events_seen = false, Degraded, CanaryFailed),
            (|o| o.canary.ran_at_unix = None, Degraded, CanaryPending),
            (|o| o.now_unix += REPORT_LIFETIME + 1, Degraded, CanaryPending),
            (|o| o.lost_lately = 3, Degraded, EventsLost),
            (|o| o.sinks[0].working = false, Degraded, SinkLost),
            (|o| o.save_problem = Some("full".into()), Degraded, SinkLost),
            (|o| o.break_glass = Some("cartouche=audit".into()), Degraded, BreakGlass),
        ];
        let mut seen = BTreeSet::new();
        for (change, state, code) in cases {
            let mut observed = Observed::sound();
            change(&mut observed);

            let report = evaluate(&observed, &History::default());

            assert_eq!(report.runtime_state, *state, "{code}");
            assert!(report.cartouche.reasons.iter().any(|reason| reason.code == *code), "{code}");
            seen.insert(*code);
        }
        assert_eq!(seen.len(), ReasonCode::ALL.len());
    }
}
