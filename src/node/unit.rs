//! Which systemd units are whose.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use crate::control::{Call, Response, Why};
use crate::enforcer::{self, SlotState, UnitRules};
use crate::error::chain;
use crate::event::{Code, Event, Outcome};

use super::Node;

impl Node {
    /// Brings the kernel in line with whose units are whose: of what is in force, then of what is revoked,
    /// whose units' processes do not run, then of files that are not admitted.
    pub(super) fn settle_units(&mut self) {
        let settled = self
            .unit_rules()
            .and_then(|rules| self.kernel.hold_units(&rules, self.reconciled));
        if let Err(error) = settled {
            self.record(
                Event::new(Code::Rejected, Outcome::Rejected)
                    .detail("unit")
                    .message(chain(&error)),
            );
        }
    }

    fn unit_rules(&mut self) -> Result<UnitRules, enforcer::Error> {
        let mut rules = UnitRules::default();
        let artifacts = self.registry.artifacts.iter();
        let mut artifacts: Vec<_> = artifacts.filter(|(_, entry)| !entry.released).collect();
        artifacts.sort_by_key(|(_, entry)| entry.revoked);
        for (id, entry) in artifacts {
            let (Some(unit), Some(slot)) = (&entry.effective.unit, self.slot_of(id)) else {
                continue;
            };
            rules.units.entry(unit.clone()).or_insert(slot);
            let identities = self.live.get(id).map(|live| &live.identities);
            let identities = identities.into_iter().flat_map(BTreeMap::values);
            rules.programs.extend(identities.map(|own| (*own, slot)));
        }
        let files: Vec<_> = self
            .files
            .iter()
            .filter_map(|(name, file)| Some((name.clone(), file.unit.clone()?)))
            .filter(|(_, unit)| !rules.units.contains_key(unit))
            .collect();
        for (name, unit) in files {
            let slot = self.slot(&format!("file:{name}"))?;
            self.kernel.close(slot, SlotState::Refused)?;
            rules.units.entry(unit).or_insert(slot);
        }
        Ok(rules)
    }

    /// Whether the kernel holds the unit of an artifact, if it has one, to its slot.
    pub(super) fn holds_unit(&self, id: &str) -> Result<bool, enforcer::Error> {
        let (Some(live), Some(entry)) = (self.live.get(id), self.registry.artifacts.get(id)) else {
            return Ok(false);
        };
        let Some(unit) = &entry.effective.unit else {
            return Ok(true);
        };
        let mut programs = live.identities.values().copied();
        self.kernel.is_unit_of(unit, &mut programs, live.slot)
    }

    /// `cartouche run`: leads the next program of the process that asks into an artifact.
    pub(super) fn invite(&mut self, id: &str, call: &Call) -> Response {
        let Some(slot) = self.live.get(id).map(|live| live.slot) else {
            return match self.standing_of(id) {
                Some(standing) => Response::refused(
                    Why::Unfit,
                    format!("The artifact {id:?} is {standing}, so nothing runs under it"),
                ),
                None => Response::refused(Why::NotFound, format!("There is no artifact {id:?}")),
            };
        };
        let Some(process) = &call.process else {
            return Response::refused(Why::Failed, "The process that asks is gone");
        };
        match self.kernel.invite(process.as_fd(), slot) {
            Ok(true) => Response::Done {
                message: format!("The next program of this process is held to {id:?}."),
            },
            Ok(false) => Response::refused(
                Why::NotPermitted,
                "The process that asks is held to an artifact already",
            ),
            Err(error) => Response::refused(Why::Failed, chain(&error)),
        }
    }
}
