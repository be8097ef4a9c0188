//! Answers to the control socket.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use crate::control::{Call, Inspected, Listed, Request, Response, Standing, Status, Verdict, Why};

use crate::plan::IMPLIED;

use super::{Node, now_unix, rfc3339};

impl Node {
    /// Answers a call, or keeps it until what it waits for has happened. Whether anything changed.
    pub fn answer(&mut self, call: Call) -> bool {
        if self.is_subject(&call) {
            call.answer(Response::refused(
                Why::NotPermitted,
                "What is held to an artifact asks nothing of Cartouche",
            ));
            return false;
        }
        let (response, changed) = match &call.request {
            Request::Status => (self.status(), false),
            Request::List => {
                let artifacts = self.listed();
                (Response::List { artifacts }, false)
            }
            Request::Inspect { id } => (self.inspect(&id.clone()), false),
            Request::Posture => (Response::Posture(Box::new(self.report())), false),
            Request::Mode {
                id,
                mode,
                for_seconds,
            } => (self.set_mode(&id.clone(), *mode, *for_seconds), true),
            Request::Forget { id } => (self.forget(&id.clone()), true),
            Request::Run { id } => (self.invite(&id.clone(), &call), false),
            Request::Release { id } => (self.release_artifact(&id.clone()), true),
            Request::Detach => (self.detach(), true),
            Request::Rescan => {
                self.reread_site();
                let message = "The policies directories were read again.".to_owned();
                (Response::Done { message }, true)
            }
            Request::Wait { .. } => {
                self.waiting_calls.push(call);
                self.answer_waiting();
                return false;
            }
        };
        call.answer(if changed {
            self.lasting(response)
        } else {
            response
        });
        changed
    }

    /// Whether the process that asks is a subject, or is not there to be looked at.
    fn is_subject(&self, call: &Call) -> bool {
        call.process
            .as_ref()
            .is_none_or(|process| !matches!(self.kernel.slot_of(process.as_fd()), Ok(0)))
    }

    /// What is done, and whether a restart will know it.
    fn lasting(&mut self, response: Response) -> Response {
        self.save();
        match (response, &self.save_problem) {
            (Response::Done { message }, Some(why)) => Response::refused(
                Why::Failed,
                format!("{message} But after a restart it is as it was before: {why}"),
            ),
            (response, _) => response,
        }
    }

    /// Answers those who wait for the verdict on a file.
    pub(super) fn answer_waiting(&mut self) {
        for call in std::mem::take(&mut self.waiting_calls) {
            match self.verdict_for(&call.request) {
                Some(verdict) => {
                    call.answer(Response::Verdict(verdict));
                }
                None if call.is_abandoned() => {}
                None => self.waiting_calls.push(call),
            }
        }
    }

    fn verdict_for(&self, request: &Request) -> Option<Verdict> {
        let Request::Wait { file, sha256, .. } = request else {
            return None;
        };
        let known = self.files.get(file)?;
        (known.document == *sha256).then(|| {
            let mut verdict = known.verdict.clone();
            if let Some(id) = self.released_from(file, sha256) {
                verdict.standing = Standing::Released;
                verdict.messages.push(format!(
                    "The artifact stays released: \"cartouche mode {id} enforce\" ends that"
                ));
            } else if verdict.standing == Standing::Admitted {
                verdict.unenforced = verdict.id.as_deref().and_then(|id| self.unenforced(id));
            }
            verdict.messages.extend(self.save_problem.clone());
            verdict
        })
    }

    fn status(&mut self) -> Response {
        let report = self.report();
        let listed = self.listed();
        let mut artifacts = BTreeMap::new();
        for standing in Standing::ALL {
            let count = listed
                .iter()
                .filter(|one| one.standing == *standing)
                .count();
            artifacts.insert(*standing, count as u64);
        }
        let head = self.audit.head().clone();
        Response::Status(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started_at.clone(),
            state: report.runtime_state.to_string(),
            reasons: report
                .cartouche
                .reasons
                .iter()
                .map(|reason| reason.message.clone())
                .collect(),
            artifacts,
            tasks: listed.iter().map(|one| one.tasks).sum(),
            denials: listed.iter().map(|one| one.denials).sum(),
            lost_events: self.losses().0,
            audit_seq: head.seq,
            audit_head: head.hash,
        })
    }

    fn inspect(&mut self, id: &str) -> Response {
        self.read_back(id);
        let Some(listed) = self
            .listed()
            .into_iter()
            .find(|one| one.id.as_deref() == Some(id))
        else {
            return Response::refused(Why::NotFound, format!("There is no artifact {id:?}"));
        };
        let entry = self
            .registry
            .artifacts
            .get(id)
            .filter(|entry| !entry.revoked);
        // declared but never used is worth to be known, too
        let mut uses: BTreeMap<String, u64> = entry
            .and_then(|entry| entry.plan().ok())
            .into_iter()
            .flat_map(|plan| plan.rules)
            .filter(|rule| rule.origin != IMPLIED)
            .map(|rule| (rule.to_string(), 0))
            .collect();
        uses.extend(self.uses.totals(id));
        Response::Inspect(Box::new(Inspected {
            listed,
            effective: entry.map(|entry| entry.effective.clone()),
            uses,
            adopted: self.adopted.get(id).copied().unwrap_or_default(),
        }))
    }

    /// All artifacts, those of the registry and files that never were admitted.
    pub(super) fn listed(&self) -> Vec<Listed> {
        let tasks = self.kernel.tasks().unwrap_or_default();
        let counts = |name: &str| {
            // a file of which nothing is claimed has no slot; slot 0 has what is refused for nobody's sake
            self.slot_of(name).map_or((0, 0), |slot| {
                let denials = self.kernel.totals(slot).map_or(0, |totals| totals.denied);
                (u64::from(tasks.get(&slot).copied().unwrap_or(0)), denials)
            })
        };
        let replaced = self.failed_updates(true);
        let mut listed: Vec<Listed> = self
            .registry
            .artifacts
            .iter()
            .map(|(id, entry)| {
                let (tasks, denials) = counts(id);
                let problem = self
                    .files
                    .get(&entry.file)
                    .filter(|file| file.verdict.standing != Standing::Admitted)
                    .map(|file| problem(&file.verdict))
                    .map(|problem| match replaced.contains(id) {
                        true => format!("Its program does not run: {problem}"),
                        false => problem,
                    });
                Listed {
                    id: Some(id.clone()),
                    version: Some(entry.effective.version.clone()),
                    publisher: Some(entry.effective.publisher.clone()),
                    file: entry.file.clone(),
                    standing: super::standing(entry),
                    mode: (super::standing(entry) == Standing::Admitted)
                        .then_some(self.effective_mode(entry.mode)),
                    // a node that only audits does so without end
                    mode_until: entry
                        .mode_until
                        .filter(|_| self.enforcing)
                        .and_then(|until| {
                            let left = until.saturating_sub(now_unix());
                            rfc3339(until).filter(|_| left > 0)
                        }),
                    tasks,
                    denials,
                    problem: match super::standing(entry) {
                        Standing::Revoked => Some(format!(
                            "Its file is gone and its programs do not run; put the file back, or \
                             \"cartouche forget {id}\" lets them run without an envelope"
                        )),
                        Standing::Released => Some(format!(
                            "Its programs run without an envelope; \"cartouche mode {id} enforce\" ends \
                             that"
                        )),
                        _ => problem,
                    },
                }
            })
            .collect();
        let in_force = self.registry.files_in_force();
        for (name, file) in &self.files {
            if in_force.contains(name) || file.verdict.standing == Standing::Admitted {
                continue;
            }
            let (tasks, denials) = counts(&format!("file:{name}"));
            listed.push(Listed {
                id: file.verdict.id.clone(),
                version: None,
                publisher: None,
                file: name.clone(),
                standing: file.verdict.standing,
                mode: None,
                mode_until: None,
                tasks,
                denials,
                problem: Some(problem(&file.verdict)),
            });
        }
        listed
    }
}

fn problem(verdict: &Verdict) -> String {
    let words = [&verdict.error, &verdict.detail]
        .into_iter()
        .flatten()
        .cloned();
    words
        .chain(verdict.messages.iter().cloned())
        .collect::<Vec<_>>()
        .join(" ")
}
