//! Guarding Cartouche itself against root outside any artifact.

use crate::config::Guard;
use crate::error::chain;
use crate::event::{Code, Event, Outcome};

use super::{Error, Node};

/// On behalf of whom its refusals are told: no artifact has such an id.
pub(super) const HOLDER: &str = "cartouche:guard";

impl Node {
    /// Guards what is attached and this process, or nothing: where the node only audits, nobody is refused
    /// anything.
    pub(super) fn guard(&mut self) -> Result<(), Error> {
        if !self.enforcing || self.config.guard == Guard::Off {
            return Ok(self.kernel.stand_down()?);
        }
        let slot = self.slot(HOLDER)?;
        Ok(self.kernel.stand_guard(slot)?)
    }

    /// Whether the kernel says that it guards.
    pub(super) fn is_guarded(&self) -> bool {
        self.kernel.is_guarded().unwrap_or(false)
    }

    /// Guards again what is guarded no more, though it should be.
    pub(super) fn keep_guard(&mut self) {
        if let Err(error) = self.guard() {
            self.record(
                Event::new(Code::SinkChanged, Outcome::Noted)
                    .detail("guard")
                    .message(chain(&error)),
            );
        }
    }
}
