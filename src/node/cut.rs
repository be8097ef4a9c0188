//! What tasks of revoked artifacts hold open: refused while there are such tasks, and after that nobody pays
//! for it any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::config::OnRevoke;
use crate::enforcer::{self, SlotState};
use crate::error::chain;
use crate::event::{Code, Event, Outcome};

use super::Node;

/// How often it is looked whether such tasks are left, while there are any.
const LOOK: Duration = Duration::from_secs(1);

/// How long everything else may wait for tasks that are killed to end.
const KILLING: Duration = Duration::from_millis(250);

/// Between two looks for such tasks.
const PAUSE: Duration = Duration::from_millis(1);

/// What was found last.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Tasks of revoked artifacts.
    pub(super) tasks: u64,
    /// When to look again; never while there are none.
    pub(super) due: Option<Instant>,
    /// Why it could not be done.
    problem: Option<String>,
}

impl Node {
    /// Attaches the programs that refuse held descriptors if a revoked artifact has tasks, else lets them go.
    /// Tells each change; whether there was one.
    pub(super) fn settle_cut(&mut self) -> bool {
        let before = self.cut.problem.take();
        let killed = self.kill_revoked();
        let settled = killed.and_then(|()| {
            let tasks = self.kernel.tasks_without_rights()?;
            self.cut.tasks = tasks.len() as u64;
            self.kernel.cut(!tasks.is_empty())
        });
        let tasks = self.cut.tasks;
        let (changed, told) = match settled {
            Ok(changed) => (changed, changed.then(|| told(tasks))),
            Err(error) => {
                let problem = chain(&error);
                let is_new = before.as_ref() != Some(&problem);
                let event = is_new.then(|| failed(&problem));
                self.cut.problem = Some(problem);
                (is_new, event)
            }
        };
        // the list of tasks changes while it is read: one look that finds none is not the last
        let again = tasks > 0 || changed || self.cut.problem.is_some();
        self.cut.due = again.then(|| Instant::now() + LOOK);
        if let Some(event) = told {
            self.record(event);
        }
        changed || before.is_some() != self.cut.problem.is_some()
    }

    /// Whether the configuration asks to end the tasks of what is revoked.
    pub(super) fn kills(&self) -> bool {
        self.config.on_revoke == OnRevoke::Kill && self.enforcing
    }

    /// Kills the tasks of revoked artifacts, if that is asked for, until none is left. One that the kernel
    /// does not let go at once is left to the next look.
    fn kill_revoked(&mut self) -> Result<(), enforcer::Error> {
        if !self.kills() {
            return Ok(());
        }
        let begun = Instant::now();
        let mut killed: BTreeSet<(u32, u32)> = BTreeSet::new();
        let finished = loop {
            let left = match self.kernel.tasks_without_rights() {
                Ok(left) => left,
                Err(error) => break Err(error),
            };
            let mut revoked = left.iter().filter(|(slot, _)| {
                matches!(self.kernel.state(*slot), Ok((SlotState::Revoked, ..)))
            });
            let Some(_) = revoked.clone().next() else {
                break Ok(());
            };
            let round = revoked.try_for_each(|task| {
                if self.kernel.kill(task.0, task.1)? {
                    killed.insert(*task);
                }
                Ok(())
            });
            if round.is_err() || begun.elapsed() > KILLING {
                break round;
            }
            std::thread::sleep(PAUSE);
        };
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for (slot, _) in killed {
            *counts.entry(slot).or_insert(0) += 1;
        }
        for (slot, count) in counts {
            let mut event = Event::new(Code::Revoked, Outcome::Revoked)
                .detail("killed")
                .fact("processes", count.to_string())
                .message(format!(
                    "{count} of its processes were ended, as on_revoke = \"kill\" asks"
                ));
            event.artifact = self.holders.get(&slot).cloned();
            self.record(event);
        }
        finished
    }

    /// Looks again soon, whatever was found.
    pub(super) fn look_again(&mut self) {
        self.cut.due.get_or_insert(Instant::now() + LOOK);
    }

    /// Looks again if it is time. Whether anything changed.
    pub(super) fn cut_due(&mut self) -> bool {
        self.cut.due.is_some_and(|due| due <= Instant::now()) && self.settle_cut()
    }
}

fn told(tasks: u64) -> Event {
    let event = Event::new(Code::HeldDescriptors, Outcome::Noted);
    match tasks {
        0 => event
            .detail("cut-ended")
            .message("No task of a revoked artifact is left"),
        tasks => event
            .detail("cut")
            .fact("tasks", tasks.to_string())
            .message(
                "What tasks of revoked artifacts hold open is refused to them, until none is left",
            ),
    }
}

fn failed(problem: &str) -> Event {
    Event::new(Code::SinkChanged, Outcome::Noted)
        .detail("cut")
        .message(format!(
            "{problem}; what tasks of revoked artifacts hold open may stay usable, or everybody pays \
             for refusing it"
        ))
}
