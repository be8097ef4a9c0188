//! `cartouche status`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::absence::Absence;
use super::table::pairs;
use super::{Answer, Error, Exit, ask, snapshot};
use crate::audit::printable;
use crate::config::Paths;
use crate::control::{Listed, Request, Response, Standing, Status};

/// Show how the daemon is, and how many artifacts are in force
///
/// Without the daemon, shows how many were when it last ran, and ends with code 5.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(paths: &Paths) -> Result<Answer, Error> {
    match ask(paths, &Request::Status) {
        Ok(Response::Status(status)) => Answer::new(text(&status), &running(&status)?),
        Ok(_) => Err(Error::OtherAnswer),
        Err(error) => {
            let artifacts = snapshot::artifacts(error, paths)?;
            let counts = counts(&artifacts);
            let text = format!(
                "{}{}",
                Absence::of(paths).note(),
                pairs(&[("Artifacts", count(&counts))])
            );
            Ok(Answer::new(text, &not_running(&counts))?.exit(Exit::NotRunning))
        }
    }
}

/// The status for programs.
fn running(status: &Status) -> Result<Value, Error> {
    let mut json = serde_json::to_value(status).map_err(|source| Error::Json { source })?;
    if let Some(object) = json.as_object_mut() {
        object.insert("running".to_owned(), true.into());
    }
    Ok(json)
}

/// The same keys, without what only a daemon knows.
fn not_running(counts: &BTreeMap<Standing, u64>) -> Value {
    serde_json::json!({
        "running": false,
        "version": null,
        "pid": null,
        "started_at": null,
        "state": null,
        "reasons": null,
        "artifacts": counts,
        "tasks": null,
        "denials": null,
        "lost_events": null,
        "audit_seq": null,
        "audit_head": null,
    })
}

fn counts(artifacts: &[Listed]) -> BTreeMap<Standing, u64> {
    let mut counts: BTreeMap<_, _> = Standing::ALL
        .iter()
        .map(|standing| (*standing, 0))
        .collect();
    for one in artifacts {
        *counts.entry(one.standing).or_insert(0) += 1;
    }
    counts
}

fn count(counts: &BTreeMap<Standing, u64>) -> String {
    let counts: Vec<_> = counts
        .iter()
        .map(|(standing, count)| format!("{count} {standing}"))
        .collect();
    counts.join(", ")
}

fn text(status: &Status) -> String {
    let mut text = pairs(&[
        ("State", status.state.clone()),
        (
            "Daemon",
            format!(
                "{}, pid {}, since {}",
                status.version, status.pid, status.started_at
            ),
        ),
        ("Artifacts", count(&status.artifacts)),
        ("Tasks held", status.tasks.to_string()),
        ("Denials", status.denials.to_string()),
        ("Events lost", status.lost_events.to_string()),
        (
            "Audit head",
            format!("{} {}", status.audit_seq, status.audit_head),
        ),
    ]);
    if !status.reasons.is_empty() {
        text.push_str("\nNot ENFORCE, because:\n");
        for reason in &status.reasons {
            text.push_str(&format!("  {}\n", printable(reason)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_find_the_same_keys_with_and_without_the_daemon() {
        let status = Status {
            version: String::new(),
            pid: 0,
            started_at: String::new(),
            state: String::new(),
            reasons: vec![],
            artifacts: counts(&[]),
            tasks: 0,
            denials: 0,
            lost_events: 0,
            audit_seq: 0,
            audit_head: String::new(),
        };
        let keys =
            |value: &Value| -> Vec<_> { value.as_object().unwrap().keys().cloned().collect() };

        let with = running(&status).unwrap();
        let without = not_running(&counts(&[]));

        assert_eq!(keys(&with), keys(&without));
        assert_eq!(with["artifacts"], without["artifacts"]);
        assert_eq!(
            (&with["running"], &without["running"]),
            (&true.into(), &false.into())
        );
    }

    #[test]
    fn a_status_says_what_is_in_force_and_what_is_wrong() {
        let status = Status {
            version: "0.1.0".into(),
            pid: 7,
            started_at: "2026-01-31T12:00:00Z".into(),
            state: "DEGRADED".into(),
            reasons: vec!["The audit sink syslog does not take records".into()],
            artifacts: BTreeMap::from([(Standing::Admitted, 2), (Standing::Waiting, 1)]),
            tasks: 5,
            denials: 1,
            lost_events: 0,
            audit_seq: 9,
            audit_head: "ab".into(),
        };

        assert_eq!(
            text(&status),
            "State        DEGRADED\n\
             Daemon       0.1.0, pid 7, since 2026-01-31T12:00:00Z\n\
             Artifacts    2 admitted, 1 waiting\n\
             Tasks held   5\n\
             Denials      1\n\
             Events lost  0\n\
             Audit head   9 ab\n\
             \nNot ENFORCE, because:\n  The audit sink syslog does not take records\n"
        );
    }
}
