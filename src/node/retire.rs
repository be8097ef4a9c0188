//! The end of plans that are in force no more. Nothing waits for it: the kernel ends what still looks at them
//! first, which takes it a while.

use std::time::Instant;

use crate::audit::Account;
use crate::enforcer::PlanNumber;
use crate::error::chain;
use crate::event::{Code, Event, Outcome};
use crate::plan::Plan;

use super::admit::counters;
use super::{Live, Node};

/// A plan that no slot points to any more.
pub(super) struct Retired {
    id: String,
    number: PlanNumber,
    plan: Plan,
    account: Account,
}

impl Node {
    /// Lets a plan of an artifact go, and files that no artifact has any more.
    pub(super) fn retire(&mut self, id: &str, old: &Live, plan: Plan) {
        self.retire_plan(id, old.number, plan);
        // what cannot be let go stays write-protected, which is the safe side
        for identity in old.identities.values() {
            let _ = self.let_executable_go(identity);
        }
        for identity in old.code.values() {
            let _ = self.let_code_go(identity);
        }
    }

    /// Lets a plan go. Its number is nobody's until it is gone.
    pub(super) fn retire_plan(&mut self, id: &str, number: PlanNumber, plan: Plan) {
        self.retired.push_back(Retired {
            id: id.to_owned(),
            number,
            plan,
            account: self.uses.take(id),
        });
    }

    /// Whether plans wait for their end.
    pub fn is_retiring(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Ends the plan that waits longest, and tells its last counts.
    pub fn retire_one(&mut self) {
        let Some(retired) = self.retired.pop_front() else {
            return;
        };
        match self.kernel.retire(retired.number, &retired.plan) {
            Ok(uses) => {
                let counters = counters(&retired.plan, &uses);
                for event in retired
                    .account
                    .close(&retired.id, &counters, Instant::now())
                {
                    self.record(event);
                }
            }
            Err(error) => self.record(
                Event::new(Code::EventsLost, Outcome::Noted)
                    .artifact(&retired.id)
                    .detail("uses")
                    .message(chain(&error)),
            ),
        }
        self.plans.remove(&retired.number);
    }

    /// Ends all that wait.
    pub(super) fn retire_all(&mut self) {
        while self.is_retiring() {
            self.retire_one();
        }
    }
}
