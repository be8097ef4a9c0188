//! What subjects were allowed, told seldom: CART-006 on first use, then hourly and at revocation,
//! with the count. The kernel counts; the daemon reads the counters and feeds them here.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::event::{Code, Event, Outcome, Runtime};

/// How often a rule that is used is told again.
const PERIOD: Duration = Duration::from_secs(3600);

/// Running totals of one artifact: the rule as `capability` or `capability pattern` → how often the
/// kernel allowed something by it since the rule was put in force. A rule that is missing was never used.
pub type Counters = BTreeMap<String, u64>;

/// What is known of the use of every rule that was ever used.
#[derive(Debug, Default)]
pub struct Uses {
    artifacts: BTreeMap<String, Account>,
}

/// What is known of the use of one plan's rules, by rule.
#[derive(Debug, Default)]
pub struct Account {
    rules: BTreeMap<String, Use>,
}

#[derive(Debug)]
struct Use {
    /// The kernel's counter when it was last read.
    seen: u64,
    /// Uses that no event has told yet.
    untold: u64,
    /// All uses since the daemon knows the rule.
    total: u64,
    told_at: Option<Instant>,
}

impl Uses {
    /// Takes the counters of an artifact as they are now; events for first uses, and for rules whose
    /// last telling is an hour ago. A counter that went back was started anew.
    pub fn feed(&mut self, artifact: &str, counters: &Counters, now: Instant) -> Vec<Event> {
        if counters.is_empty() {
            return Vec::new();
        }
        let account = self.artifacts.entry(artifact.to_owned()).or_default();
        account.feed(artifact, counters, now)
    }

    /// The account of an artifact, to be closed when its last counters are known; another begins.
    pub fn take(&mut self, artifact: &str) -> Account {
        self.artifacts.remove(artifact).unwrap_or_default()
    }

    /// How often each rule of an artifact was used; those that never were are missing.
    pub fn totals(&self, artifact: &str) -> Counters {
        self.artifacts
            .get(artifact)
            .into_iter()
            .flat_map(|account| &account.rules)
            .map(|(rule, one)| (rule.clone(), one.total))
            .collect()
    }
}

impl Account {
    fn feed(&mut self, artifact: &str, counters: &Counters, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        for (rule, &count) in counters {
            let one = self.rules.entry(rule.clone()).or_insert(Use {
                seen: 0,
                untold: 0,
                total: 0,
                told_at: None,
            });
            let new = count.checked_sub(one.seen).unwrap_or(count);
            one.seen = count;
            one.untold = one.untold.saturating_add(new);
            one.total = one.total.saturating_add(new);
            let first = one.told_at.is_none();
            let due = one
                .told_at
                .is_none_or(|told| now.saturating_duration_since(told) >= PERIOD);
            if one.untold > 0 && due {
                one.told_at = Some(now);
                events.push(one.tell(artifact, rule, if first { "first-use" } else { "use" }));
            }
        }
        events
    }

    /// Ends the account with the last counters: events for all uses not yet told.
    pub fn close(mut self, artifact: &str, counters: &Counters, now: Instant) -> Vec<Event> {
        let mut events = self.feed(artifact, counters, now);
        for (rule, mut one) in self.rules {
            if one.untold > 0 {
                events.push(one.tell(artifact, &rule, "last-use"));
            }
        }
        events
    }
}

impl Use {
    fn tell(&mut self, artifact: &str, rule: &str, detail: &str) -> Event {
        let mut event = Event::new(Code::CheckPassed, Outcome::Allowed)
            .artifact(artifact)
            .detail(detail)
            .fact("total", self.total.to_string());
        event.count = std::mem::take(&mut self.untold);
        event.runtime = Some(Runtime {
            operation: rule.split(' ').next().unwrap_or(rule).to_owned(),
            rule: rule.to_owned(),
            ..Runtime::default()
        });
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(pairs: &[(&str, u64)]) -> Counters {
        pairs
            .iter()
            .map(|&(rule, count)| (rule.to_owned(), count))
            .collect()
    }

    fn told(events: &[Event]) -> Vec<(&str, u64)> {
        events
            .iter()
            .map(|event| (event.detail.as_deref().unwrap(), event.count))
            .collect()
    }

    #[test]
    fn first_use_is_told_at_once_and_later_ones_hourly() {
        let mut uses = Uses::default();
        let start = Instant::now();
        let minute = Duration::from_secs(60);

        let first = uses.feed("a", &counters(&[("fs:read /x", 3)]), start);
        let soon = uses.feed("a", &counters(&[("fs:read /x", 10)]), start + minute);
        let hour = uses.feed("a", &counters(&[("fs:read /x", 12)]), start + 60 * minute);
        let idle = uses.feed("a", &counters(&[("fs:read /x", 12)]), start + 120 * minute);

        assert_eq!(told(&first), [("first-use", 3)]);
        assert_eq!(first[0].runtime.as_ref().unwrap().operation, "fs:read");
        assert_eq!(told(&soon), []);
        assert_eq!(told(&hour), [("use", 9)]);
        assert_eq!(hour[0].facts["total"], "12");
        assert_eq!(told(&idle), []);
    }

    #[test]
    fn revocation_tells_the_rest() {
        let mut uses = Uses::default();
        let start = Instant::now();
        uses.feed("a", &counters(&[("fs:read", 1)]), start);

        let account = uses.take("a");
        // the next plan of the artifact is counted apart
        uses.feed("a", &counters(&[("fs:read", 2)]), start);
        let told_last = account.close("a", &counters(&[("fs:read", 5)]), start);

        assert_eq!(told(&told_last), [("last-use", 4)]);
        assert_eq!(uses.take("a").close("a", &counters(&[]), start), []);
        assert_eq!(uses.totals("a"), Counters::new());
    }

    #[test]
    fn a_counter_that_went_back_was_started_anew() {
        let mut uses = Uses::default();
        let start = Instant::now();
        uses.feed("a", &counters(&[("fs:read", 100)]), start);

        uses.feed("a", &counters(&[("fs:read", 7)]), start);

        assert_eq!(uses.totals("a")["fs:read"], 107);
    }
}
