//! Repeats of one runtime denial become one record with a count; never is one dropped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::event::{Code, Event, Outcome, Runtime};

/// How long repeats of a denial are held back.
pub const WINDOW: Duration = Duration::from_secs(1);

/// How many different denials may be held back at once; one more flushes them all.
const HELD: usize = 4096;

/// Holds repeats back: the first of its kind passes at once, those of the same kind within the
/// window are counted and pass as one event when it ends. The counts that come out add up to the
/// counts that went in.
#[derive(Debug)]
pub struct Fold {
    window: Duration,
    kinds: BTreeMap<Kind, Held>,
    /// The end of the window that ends first.
    next: Option<Instant>,
}

/// What makes two denials equal: everything but which task it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    code: Code,
    outcome: Outcome,
    detail: Option<String>,
    artifact: Option<String>,
    operation: String,
    object: String,
    exe: String,
    comm: String,
    uid: u32,
    rule: String,
}

#[derive(Debug)]
struct Held {
    until: Instant,
    /// The newest repeat, its count being that of all held back.
    repeats: Option<Event>,
}

impl Fold {
    pub fn new(window: Duration) -> Self {
        Self {
            window,
            kinds: BTreeMap::new(),
            next: None,
        }
    }

    /// Takes an event and returns those that are to be recorded now, in order.
    pub fn push(&mut self, event: Event, now: Instant) -> Vec<Event> {
        let Some(kind) = Kind::of(&event) else {
            return vec![event];
        };
        let mut ready = self.due(now);
        if let Some(held) = self.kinds.get_mut(&kind) {
            let before = held.repeats.as_ref().map_or(0, |repeats| repeats.count);
            let count = before.saturating_add(event.count);
            held.repeats = Some(Event { count, ..event });
            return ready;
        }
        if self.kinds.len() >= HELD {
            ready.extend(self.drain());
        }
        let until = now + self.window;
        self.next = Some(self.next.map_or(until, |next| next.min(until)));
        self.kinds.insert(
            kind,
            Held {
                until,
                repeats: None,
            },
        );
        ready.push(event);
        ready
    }

    /// The end of the window that ends first; `None` while nothing is held back.
    pub fn next_due(&self) -> Option<Instant> {
        self.next
    }

    /// The repeats whose window has ended. A kind that repeated keeps a window, so that a steady
    /// stream yields one event a window; one that did not is forgotten.
    pub fn due(&mut self, now: Instant) -> Vec<Event> {
        let mut ready = Vec::new();
        if self.next.is_none_or(|next| next > now) {
            return ready;
        }
        let until = now + self.window;
        self.kinds.retain(|_, held| {
            if held.until > now {
                return true;
            }
            held.until = until;
            let repeats = held.repeats.take();
            let keep = repeats.is_some();
            ready.extend(repeats);
            keep
        });
        self.next = self.kinds.values().map(|held| held.until).min();
        ready
    }

    /// Everything that is held back, at once.
    pub fn drain(&mut self) -> Vec<Event> {
        self.next = None;
        std::mem::take(&mut self.kinds)
            .into_values()
            .filter_map(|held| held.repeats)
            .collect()
    }
}

impl Kind {
    /// `None` for events that are never folded.
    fn of(event: &Event) -> Option<Self> {
        if !matches!(event.outcome, Outcome::Denied | Outcome::WouldDeny) {
            return None;
        }
        let runtime: &Runtime = event.runtime.as_ref()?;
        Some(Self {
            code: event.code,
            outcome: event.outcome,
            detail: event.detail.clone(),
            artifact: event.artifact.clone(),
            operation: runtime.operation.clone(),
            object: runtime.object.clone(),
            exe: runtime.exe.clone(),
            comm: runtime.comm.clone(),
            uid: runtime.uid,
            rule: runtime.rule.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn denial(object: &str) -> Event {
        let mut event = Event::new(Code::Drift, Outcome::Denied).artifact("exporter");
        event.runtime = Some(Runtime {
            operation: "fs:read".into(),
            object: object.into(),
            ..Runtime::default()
        });
        event
    }

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn the_first_passes_at_once_and_repeats_come_as_one() {
        let start = Instant::now();
        let mut fold = Fold::new(WINDOW);

        assert_eq!(fold.push(denial("/a"), start), [denial("/a")]);
        assert_eq!(fold.push(denial("/a"), after(start, 10)), []);
        assert_eq!(fold.push(denial("/b"), after(start, 20)), [denial("/b")]);
        assert_eq!(fold.push(denial("/a"), after(start, 30)), []);

        assert_eq!(fold.next_due(), Some(after(start, 1000)));
        let repeats = fold.due(after(start, 1000));
        assert_eq!(repeats.len(), 1);
        assert_eq!(repeats[0].count, 2);
    }

    #[test]
    fn a_quiet_fold_wants_no_timer() {
        let start = Instant::now();
        let mut fold = Fold::new(WINDOW);
        fold.push(denial("/a"), start);

        assert_eq!(fold.due(after(start, 1000)), []);
        assert_eq!(fold.next_due(), None);
        assert_eq!(fold.push(denial("/a"), after(start, 1500)), [denial("/a")]);
    }

    #[test]
    fn which_task_it_was_does_not_make_a_denial_another() {
        let start = Instant::now();
        let mut fold = Fold::new(WINDOW);
        fold.push(denial("/a"), start);
        let mut other = denial("/a");
        other.runtime.as_mut().unwrap().pid = 77;

        assert_eq!(fold.push(other, start), []);
    }

    #[test]
    fn decisions_of_admission_are_never_held_back() {
        let start = Instant::now();
        let mut fold = Fold::new(WINDOW);
        let rejected = Event::new(Code::Rejected, Outcome::Rejected);

        assert_eq!(
            fold.push(rejected.clone(), start),
            std::slice::from_ref(&rejected)
        );
        assert_eq!(fold.push(rejected.clone(), start), [rejected]);
    }

    #[test]
    fn a_flood_of_different_denials_is_bounded_and_complete() {
        let start = Instant::now();
        let mut fold = Fold::new(WINDOW);
        let mut out = 0;

        for number in 0..3 * HELD {
            let event = denial(&format!("/{}", number / 2));
            out += fold
                .push(event, start)
                .iter()
                .map(|event| event.count)
                .sum::<u64>();
            assert!(fold.kinds.len() <= HELD);
        }
        out += fold.drain().iter().map(|event| event.count).sum::<u64>();

        assert_eq!(out, 3 * HELD as u64);
    }

    proptest! {
        #[test]
        fn counts_out_equal_counts_in(
            steps in prop::collection::vec((0u64..3, 0u64..900, 1u64..4, any::<bool>()), 0..200)
        ) {
            let start = Instant::now();
            let mut fold = Fold::new(WINDOW);
            let (mut time, mut given, mut got) = (0, 0, 0);

            for (object, wait, count, timer) in steps {
                time += wait;
                given += count;
                let event = Event { count, ..denial(&format!("/{object}")) };
                let mut out = fold.push(event, after(start, time));
                if timer {
                    out.extend(fold.due(after(start, time)));
                }
                got += out.iter().map(|event| event.count).sum::<u64>();
            }
            got += fold.drain().iter().map(|event| event.count).sum::<u64>();

            prop_assert_eq!(got, given);
        }
    }
}
