//! The way out for one artifact: its programs and its tasks are outside, until it is enforced or admitted
//! again. Nothing of that is hidden: it is audited, and the posture says so as long as it lasts.

use crate::config::Mode;
use crate::control::{Response, Standing, Why};
use crate::enforcer::{self, Kernel, SlotState};
use crate::error::chain;
use crate::event::{Code, Event, Outcome};

use super::{Error, Live, Node};

impl Node {
    /// Lets an artifact's programs and tasks go.
    pub(super) fn release_artifact(&mut self, id: &str) -> Response {
        match self.standing_of(id) {
            Some(Standing::Admitted) => {}
            Some(Standing::Released) => {
                return Response::refused(
                    Why::Unfit,
                    format!("The artifact {id:?} is released already"),
                );
            }
            Some(_) => {
                return Response::refused(
                    Why::Unfit,
                    format!(
                        "The artifact {id:?} is revoked; \"cartouche forget\" lets its programs run"
                    ),
                );
            }
            None => {
                return Response::refused(Why::NotFound, format!("There is no artifact {id:?}"));
            }
        }
        let Some(entry) = self.registry.artifacts.get_mut(id) else {
            return Response::refused(Why::NotFound, format!("There is no artifact {id:?}"));
        };
        entry.released = true;
        entry.mode = Mode::Enforce;
        entry.mode_until = None;
        let claims = std::mem::take(&mut entry.claims);
        let entry = entry.clone();
        let plan = self.plan_of(id);
        self.unsaved = true;
        self.record(
            Event::new(Code::WayOut, Outcome::Noted)
                .artifact(id)
                .detail("release")
                .message(
                    "Nothing is refused to its tasks, and its programs run without an envelope, until it \
                     is enforced or admitted again",
                ),
        );
        // before its files are let go, which nobody owns then
        let live = self.live.remove(id);
        let let_go = self.keep_released(id).and_then(|slot| {
            for (dev, path) in &claims {
                self.unclaim(*dev, path, slot)?;
            }
            Ok(())
        });
        if let Some(live) = live {
            let live = Live {
                identities: std::collections::BTreeMap::new(),
                ..live
            };
            self.retire(id, &live, plan);
        }
        for executable in &entry.effective.executables {
            self.unrecognised.remove(&executable.path);
        }
        self.settle_on_demand();
        match let_go {
            Ok(()) => Response::Done {
                message: format!(
                    "The artifact {id:?} is released: nothing is refused to its tasks, and its programs \
                     run without an envelope. \"cartouche mode {id} enforce\" ends that."
                ),
            },
            Err(error) => {
                let message = format!("{}; some of its programs may still not run", chain(&error));
                self.record(
                    Event::new(Code::WayOut, Outcome::Noted)
                        .artifact(id)
                        .detail("failed")
                        .message(message.clone()),
                );
                Response::refused(Why::Failed, message)
            }
        }
    }

    /// Lets the tasks of a released artifact go, also after a start, and its files.
    pub(super) fn keep_released(&mut self, id: &str) -> Result<u32, enforcer::Error> {
        let slot = self.slot(id)?;
        self.kernel.close(slot, SlotState::Released)?;
        self.unbind_slot(slot)?;
        self.settle_units();
        Ok(slot)
    }

    /// Puts a released artifact in force again, as it was admitted last.
    pub(super) fn hold_again(&mut self, id: &str) -> Result<(), Error> {
        let Some(mut entry) = self.registry.artifacts.get(id).cloned() else {
            return Ok(());
        };
        entry.released = false;
        self.resume_admitted(id, &entry)?;
        self.adopt();
        self.unsaved = true;
        Ok(())
    }

    /// Tells that a release is over, if there was one.
    pub(super) fn tell_end_of_release(&mut self, id: &str) {
        if self.is_released(id) {
            self.record(
                Event::new(Code::WayOut, Outcome::Noted)
                    .artifact(id)
                    .detail("release-ended"),
            );
        }
    }

    pub(super) fn is_released(&self, id: &str) -> bool {
        let entry = self.registry.artifacts.get(id);
        entry.is_some_and(|entry| entry.released)
    }

    /// The released artifact of a file that is what it was when it was admitted.
    pub(super) fn released_from(&self, file: &str, document: &str) -> Option<String> {
        let mut entries = self.registry.artifacts.iter();
        entries
            .find(|(_, entry)| entry.released && entry.file == file && entry.document == document)
            .map(|(id, _)| id.clone())
    }

    /// Takes enforcement off the whole node; the daemon ends after that.
    pub(super) fn detach(&mut self) -> Response {
        let removed = Kernel::detach(&self.paths.bpffs);
        self.detached = removed.is_ok();
        let way = "an administrator detached enforcement";
        self.way_out = Some(way.to_owned());
        let event = Event::new(Code::WayOut, Outcome::Noted);
        match removed {
            Ok(()) => {
                self.record(
                    event
                        .detail("detach")
                        .message(format!("{way}: nothing is enforced")),
                );
                Response::Done {
                    message: "Nothing is enforced any more, and cartouched ends. That begins again when it is \
                              started, also by the next boot."
                        .to_owned(),
                }
            }
            Err(error) => {
                let message = format!("{}; what is still pinned is still in force", chain(&error));
                self.record(event.detail("failed").message(message.clone()));
                Response::refused(Why::Failed, message)
            }
        }
    }

    /// Whether enforcement was taken off, so that the daemon has nothing to do.
    pub fn is_detached(&self) -> bool {
        self.detached
    }

    /// Takes down that the kernel's command line asks for no refusals.
    pub fn audits_by_boot(&mut self) {
        let way = "cartouche=audit on the kernel command line";
        self.way_out = Some(way.to_owned());
        self.record(
            Event::new(Code::WayOut, Outcome::Noted)
                .detail("boot-audit")
                .message(format!("{way}: nothing is refused to any task")),
        );
    }

    /// Every way out that was taken, as a sentence each; None if there is none.
    pub(super) fn ways_out(&self) -> Option<String> {
        let released = self
            .registry
            .artifacts
            .iter()
            .filter(|(_, entry)| entry.released)
            .map(|(id, _)| format!("the artifact {id} is released"));
        let ways: Vec<_> = self.way_out.iter().cloned().chain(released).collect();
        (!ways.is_empty()).then(|| ways.join(", "))
    }
}
