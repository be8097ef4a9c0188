//! Managed paths: where nothing runs, for tasks outside, that no artifact admits. A plan like any other,
//! which slot 0 points to.

use crate::enforcer::{self, OUTSIDE, PlanNumber};
use crate::plan::Plan;

use super::{Error, Node};

/// The managed paths in force.
pub(super) struct Managed {
    number: PlanNumber,
    plan: Plan,
    /// Whether the last read-back equalled the plan.
    verified: bool,
}

impl Node {
    /// Puts the managed paths of the configuration in force, in place of those of an earlier daemon.
    pub(super) fn manage(&mut self) -> Result<(), Error> {
        let before = self.kernel.managed();
        let mode = self.kernel_mode(self.config.mode);
        if self.config.managed.is_empty() {
            self.kernel.manage(None, mode)?;
        } else {
            let plan = Plan::managed(&self.config.managed).map_err(Error::Plan)?;
            let number = self.plan_number()?;
            self.kernel.stage(number, &plan)?;
            self.kernel.manage(Some((number, plan.flags)), mode)?;
            self.managed = Some(Managed {
                number,
                plan,
                verified: true,
            });
        }
        if let Some(number) = before {
            // what it counted is nobody's use
            self.kernel.retire(number, &Plan::default())?;
            self.plans.remove(&number);
        }
        Ok(())
    }

    /// From now on what runs there is only told.
    pub(super) fn only_audit_managed(&self) -> Result<(), enforcer::Error> {
        match &self.managed {
            Some(managed) => {
                let plan = (managed.number, managed.plan.flags);
                self.kernel.manage(Some(plan), enforcer::Mode::Audit)
            }
            None => Ok(()),
        }
    }

    /// Reads the managed paths back.
    pub(super) fn read_managed_back(&mut self) {
        let Some(managed) = &mut self.managed else {
            return;
        };
        let held = self
            .kernel
            .read_back(OUTSIDE, managed.number, &managed.plan);
        managed.verified = held.is_ok_and(|held| held.equal);
    }

    /// Whether the kernel holds the managed paths as they are configured.
    pub(super) fn managed_match(&self) -> bool {
        match &self.managed {
            Some(managed) => managed.verified && self.kernel.managed() == Some(managed.number),
            None => self.kernel.managed().is_none(),
        }
    }

    /// The managed path that covers an object, as the configuration has it.
    pub(super) fn managed_by(&self, object: &str) -> String {
        let covering = self
            .config
            .managed
            .iter()
            .filter(|path| path.matches(object));
        let closest = covering.max_by_key(|path| path.specificity());
        closest.map_or_else(String::new, |path| format!("managed {path}"))
    }
}
