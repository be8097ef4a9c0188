//! How a sink is: when it fails and when it works again, each told once, with what was lost between.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::chain;
use crate::event::{Code, Event, Outcome};

/// How a sink is now, for the posture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SinkState {
    /// `audit.jsonl` or `syslog`.
    pub name: String,
    /// Whether it took the newest record.
    pub working: bool,
    /// Records that it did not take since the daemon started.
    pub lost: u64,
}

#[derive(Debug)]
pub(super) struct Health {
    name: &'static str,
    /// Records lost since the sink failed; `None` while it works.
    failing: Option<u64>,
    lost: u64,
}

impl Health {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            failing: None,
            lost: 0,
        }
    }

    pub(super) fn state(&self) -> SinkState {
        SinkState {
            name: self.name.to_owned(),
            working: self.failing.is_none(),
            lost: self.lost,
        }
    }

    /// The sink took a record; an event if it had failed before.
    pub(super) fn works(&mut self) -> Option<Event> {
        let lost = self.failing.take()?;
        Some(
            self.change("restored")
                .fact("lost", lost.to_string())
                .message(format!(
                    "The audit sink {} works again; {lost} records did not reach it",
                    self.name
                )),
        )
    }

    /// The sink did not take a record; an event if it worked before.
    pub(super) fn failed(&mut self, cause: &dyn std::error::Error) -> Option<Event> {
        self.lost += 1;
        if let Some(lost) = &mut self.failing {
            *lost += 1;
            return None;
        }
        self.failing = Some(1);
        Some(self.change("failed").message(format!(
            "The audit sink {} does not take records ({}); the other sink carries on and the lost ones are counted",
            self.name,
            chain(cause)
        )))
    }

    fn change(&self, detail: &str) -> Event {
        Event::new(Code::SinkChanged, Outcome::Noted)
            .detail(detail)
            .fact("sink", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_and_return_are_each_told_once() {
        let mut health = Health::new("syslog");
        let cause = std::io::Error::other("full");

        let told = [
            health.works(),
            health.failed(&cause),
            health.failed(&cause),
            health.works(),
            health.works(),
        ];

        assert_eq!(
            told.map(|event| event.and_then(|event| event.detail)),
            [
                None,
                Some("failed".into()),
                None,
                Some("restored".into()),
                None
            ]
        );
        assert_eq!(health.state().lost, 2);
    }
}
