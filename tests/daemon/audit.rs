//! What the daemon wrote down, as the tests ask for it.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cartouche::audit::{Record, each_record};
use cartouche::event::{Code, Event};

use super::{PATIENCE, cartouche_ok};

const STATE: &str = "/var/lib/cartouche";

/// The audit log.
#[derive(Debug, Clone, Copy)]
pub struct Audit;

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub u64);

impl Audit {
    /// The end of the log as it is now.
    pub fn mark(self) -> Mark {
        Mark(self.records().last().map_or(0, |record| record.seq))
    }

    pub fn records(self) -> Vec<Record> {
        self.since(Mark(0))
    }

    /// All records behind a place.
    pub fn since(self, mark: Mark) -> Vec<Record> {
        let mut records = Vec::new();
        if Path::new(STATE).exists() {
            each_record(Path::new(STATE), |record| {
                if record.seq > mark.0 {
                    records.push(record);
                }
            })
            .unwrap();
        }
        records
    }

    /// Records behind a place with a code, of one artifact.
    pub fn of(self, mark: Mark, code: Code, artifact: &str) -> Vec<Event> {
        self.since(mark)
            .into_iter()
            .map(|record| record.event)
            .filter(|event| event.code == code && event.artifact.as_deref() == Some(artifact))
            .collect()
    }

    /// Refusals behind a place, but those of one object.
    pub fn drifts_but(self, mark: Mark, object: &str) -> Vec<Event> {
        self.since(mark)
            .into_iter()
            .map(|record| record.event)
            .filter(|event| event.code == Code::Drift)
            .filter(|event| {
                event
                    .runtime
                    .as_ref()
                    .is_some_and(|run| run.object != object)
            })
            .collect()
    }

    /// Waits for a record of one artifact with a code.
    #[track_caller]
    pub fn tells(self, mark: Mark, code: Code, artifact: &str) -> Event {
        self.tells_that(mark, &format!("{code} of {artifact}"), |event| {
            event.code == code && event.artifact.as_deref() == Some(artifact)
        })
    }

    /// Waits for a record that fits.
    #[track_caller]
    pub fn tells_that(self, mark: Mark, what: &str, fits: impl Fn(&Event) -> bool) -> Event {
        let begun = Instant::now();
        loop {
            let records = self.since(mark);
            if let Some(found) = records.iter().find(|record| fits(&record.event)) {
                return found.event.clone();
            }
            if begun.elapsed() > PATIENCE {
                let told: Vec<_> = records.iter().map(|record| &record.event).collect();
                panic!("the audit does not tell: {what}: {told:#?}");
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits until refusals of one operation on one object add up to a number, and no more come.
    #[track_caller]
    pub fn counts(self, mark: Mark, artifact: &str, object: &str, expected: u64) {
        let begun = Instant::now();
        let counted = || -> u64 {
            self.of(mark, Code::Drift, artifact)
                .iter()
                .filter(|event| {
                    event
                        .runtime
                        .as_ref()
                        .is_some_and(|one| one.object == object)
                })
                .map(|event| event.count)
                .sum()
        };
        while counted() < expected && begun.elapsed() < PATIENCE {
            sleep(Duration::from_millis(50));
        }
        assert_eq!(counted(), expected, "refusals of {object} to {artifact}");
    }

    /// Asserts that nothing was changed, cut or reordered.
    #[track_caller]
    pub fn is_whole(self) {
        let said = cartouche_ok(&["audit", "verify"]);
        assert!(said.contains("are as they were written"), "{said}");
    }
}
