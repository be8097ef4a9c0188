//! How the state came to be: the newest changes and how many there were.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::report::{ReasonCode, RuntimeState};

/// How many changes are kept.
const KEPT: usize = 32;

/// One change of the state or of its reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    /// Seconds since 1970.
    pub at_unix: u64,
    pub state: RuntimeState,
    pub reasons: Vec<ReasonCode>,
}

/// What is remembered since the daemon started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Changes of the state.
    pub total: u64,
    /// Changes of the state to anything but ENFORCE.
    pub degradations: u64,
    /// The newest changes, oldest first.
    pub transitions: Vec<Transition>,
}

impl History {
    pub(super) fn newest(&self) -> Option<&Transition> {
        self.transitions.last()
    }

    /// The history with this state added, if it is news.
    pub(super) fn after(&self, next: Transition) -> Self {
        let mut history = self.clone();
        let newest = self.newest();
        let same_state = newest.is_some_and(|newest| newest.state == next.state);
        if same_state && newest.is_some_and(|newest| newest.reasons == next.reasons) {
            return history;
        }
        if !same_state {
            history.total += 1;
            history.degradations += u64::from(next.state != RuntimeState::Enforce);
        }
        history.transitions.push(next);
        let old = history.transitions.len().saturating_sub(KEPT);
        history.transitions.drain(..old);
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition(at_unix: u64, state: RuntimeState, reasons: &[ReasonCode]) -> Transition {
        Transition {
            at_unix,
            state,
            reasons: reasons.to_vec(),
        }
    }

    #[test]
    fn only_changes_are_kept_and_only_so_many() {
        let mut history = History::default();

        for number in 0..100 {
            let state = RuntimeState::ALL[number % 2];
            for repeat in 0..3 {
                history = history.after(transition(number as u64 * 3 + repeat, state, &[]));
            }
        }

        assert_eq!(history.total, 100);
        assert_eq!(history.degradations, 50);
        assert_eq!(history.transitions.len(), KEPT);
        assert_eq!(history.newest().map(|newest| newest.at_unix), Some(297));
    }

    #[test]
    fn another_reason_for_the_same_state_is_kept_but_no_transition() {
        let first = History::default().after(transition(
            1,
            RuntimeState::Degraded,
            &[ReasonCode::SinkLost],
        ));

        let second = first.after(transition(
            2,
            RuntimeState::Degraded,
            &[ReasonCode::EventsLost],
        ));

        assert_eq!(second.total, 1);
        assert_eq!(second.transitions.len(), 2);
    }
}
