//! `cartouche status`.

use std::collections::BTreeMap;

use super::table::pairs;
use super::{Answer, Error, Exit, daemon, snapshot};
use crate::audit::printable;
use crate::config::Paths;
use crate::control::{Listed, Request, Response, Standing, Status};

/// Show how the daemon is, and how many artifacts are in force
///
/// Without the daemon, shows how many were when it last ran, and ends with code 5.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(paths: &Paths) -> Result<Answer, Error> {
    match daemon(paths).ask(&Request::Status) {
        Ok(Response::Status(status)) => Answer::new(text(&status), &status),
        Ok(_) => Err(Error::OtherAnswer),
        Err(error) => {
            let artifacts = snapshot::artifacts(error, paths)?;
            let counts = counts(&artifacts);
            let text = format!(
                "{}{}",
                snapshot::note(paths),
                pairs(&[("Artifacts", count(&counts))])
            );
            let json = serde_json::json!({ "running": false, "artifacts": counts });
            Ok(Answer::new(text, &json)?.exit(Exit::NotRunning))
        }
    }
}

fn counts(artifacts: &[Listed]) -> BTreeMap<Standing, u64> {
    let mut counts = BTreeMap::new();
    for one in artifacts {
        *counts.entry(one.standing).or_insert(0) += 1;
    }
    counts
}

fn count(counts: &BTreeMap<Standing, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
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
