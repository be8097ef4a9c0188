//! What this node really enforces, said without flattery: facts in, report out, written where
//! monitoring finds it. Nothing reads the report back, but for a start that is refused while the last
//! one's enforcement is pinned: it knows no more than that report.

mod evaluate;
mod exit_code;
mod gate;
mod history;
mod observed;
mod probe;
mod publish;
mod reason;
mod report;

pub use evaluate::{REPORT_LIFETIME, evaluate};
pub use exit_code::ExitCode;
pub use gate::{Start, decide};
pub use history::{History, Transition};
pub use observed::{Admission, ArtifactFacts, Canary, Hook, Observed, Programs, Standing};
pub use probe::System;
pub use publish::{Error, publish};
pub use report::*;

use crate::event::{Code, Event, Outcome};

/// The posture as it was last told.
#[derive(Debug, Default)]
pub struct Posture {
    history: History,
}

impl Posture {
    /// Evaluates the facts; beside the report, a CART-106 if the state or its reasons changed.
    pub fn update(&mut self, observed: &Observed) -> (Report, Option<Event>) {
        let report = evaluate(observed, &self.history);
        let changed = self.history.newest() != report.cartouche.transitions.last();
        self.history = History {
            total: report.state_transitions.total,
            degradations: report.state_transitions.degradation_total,
            transitions: report.cartouche.transitions.clone(),
        };
        let event = changed.then(|| change(&report));
        (report, event)
    }
}

/// The last report of this boot, carried on by a daemon that cannot start: what is pinned stays in force.
pub fn refused(last: Report, why: &str, now_unix: u64) -> (Report, Event) {
    let mut report = last;
    report.generated_at_unix = now_unix;
    report.runtime_state = RuntimeState::Degraded;
    let own = &mut report.cartouche;
    own.pid = std::process::id();
    own.written_at = evaluate::rfc3339(now_unix);
    own.valid_until = evaluate::rfc3339(now_unix.saturating_add(REPORT_LIFETIME));
    own.reasons.retain(|reason| {
        !matches!(
            reason.code,
            ReasonCode::StartRefused | ReasonCode::AdmissionStopped
        )
    });
    own.reasons.insert(
        0,
        Reason {
            code: ReasonCode::StartRefused,
            message: format!(
                "The daemon refused to start: {why}; what was in force stays in force until the next boot"
            ),
        },
    );
    let event = change(&report);
    (report, event)
}

fn change(report: &Report) -> Event {
    let reasons: Vec<_> = report
        .cartouche
        .reasons
        .iter()
        .map(|reason| reason.code.as_str())
        .collect();
    let mut event = Event::new(Code::PostureChanged, Outcome::Noted)
        .detail(
            report
                .runtime_state
                .as_str()
                .to_ascii_lowercase()
                .replace('_', "-"),
        )
        .fact("state", report.runtime_state.as_str());
    if !reasons.is_empty() {
        event = event.fact("reasons", reasons.join(","));
    }
    if !report.enforce_blockers.is_empty() {
        let blockers: Vec<_> = report.enforce_blockers.iter().map(|b| b.as_str()).collect();
        event = event.fact("blockers", blockers.join(","));
    }
    let told: Vec<_> = report
        .cartouche
        .reasons
        .iter()
        .map(|reason| reason.message.as_str())
        .collect();
    if told.is_empty() {
        event.message("Every admitted artifact is enforced")
    } else {
        event.message(told.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_state_is_told_once() {
        let mut posture = Posture::default();
        let good = Observed::sound();
        let mut bad = Observed::sound();
        bad.artifacts[0].envelope_match = false;

        let told: Vec<_> = [&good, &good, &bad, &bad, &good]
            .map(|observed| {
                posture
                    .update(observed)
                    .1
                    .map(|event| event.facts["state"].clone())
            })
            .into();

        assert_eq!(
            told,
            [
                Some("ENFORCE".to_owned()),
                None,
                Some("DEGRADED".to_owned()),
                None,
                Some("ENFORCE".to_owned())
            ]
        );
        let (report, _) = posture.update(&good);
        assert_eq!(report.state_transitions.total, 3);
        assert_eq!(report.state_transitions.degradation_total, 1);
    }
}
