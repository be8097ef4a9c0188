//! `cartouche list`.

use jiff::Timestamp;

use super::absence::Absence;
use super::table::{or_dash, table};
use super::{Answer, Error, Exit, ask, snapshot};
use crate::audit::printable;
use crate::config::Paths;
use crate::control::{Listed, Request, Response};

/// List all artifacts: admitted, waiting, rejected and revoked
///
/// Without the daemon, shows what was in force when it last ran, and ends with code 5.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(paths: &Paths) -> Result<Answer, Error> {
    match ask(paths, &Request::List) {
        Ok(Response::List { artifacts }) => Answer::new(text(&artifacts), &artifacts),
        Ok(_) => Err(Error::OtherAnswer),
        Err(error) => {
            let artifacts = snapshot::artifacts(error, paths)?;
            let text = format!("{}{}", Absence::of(paths).note(), text(&artifacts));
            Ok(Answer::new(text, &artifacts)?.exit(Exit::NotRunning))
        }
    }
}

/// The mode, and when it ends by itself.
pub(super) fn mode(listed: &Listed) -> String {
    let mode = or_dash(listed.mode.as_ref());
    match &listed.mode_until {
        Some(until) if is_past(until) => {
            format!("{mode}, overdue since {until}, ends when cartouched runs")
        }
        Some(until) => format!("{mode} until {until}"),
        None => mode,
    }
}

fn is_past(time: &str) -> bool {
    time.parse::<Timestamp>()
        .is_ok_and(|time| time <= Timestamp::now())
}

fn text(artifacts: &[Listed]) -> String {
    if artifacts.is_empty() {
        return "There are no artifacts\n".to_owned();
    }
    let rows: Vec<_> = artifacts
        .iter()
        .map(|one| {
            [
                or_dash(one.id.as_ref()),
                or_dash(one.version.as_ref()),
                or_dash(one.publisher.as_ref()),
                one.standing.to_string(),
                mode(one),
                one.tasks.to_string(),
                one.denials.to_string(),
                one.file.clone(),
            ]
        })
        .collect();
    let head = [
        "ID",
        "VERSION",
        "PUBLISHER",
        "STANDING",
        "MODE",
        "TASKS",
        "DENIALS",
        "FILE",
    ];
    let mut text = table(head, &rows);
    for one in artifacts {
        if let Some(problem) = &one.problem {
            text.push_str(&format!(
                "\n{}: {}\n",
                printable(&one.file),
                printable(problem)
            ));
        }
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;
    use crate::config::Mode;
    use crate::control::Standing;

    pub(in crate::command) fn listed() -> Listed {
        Listed {
            id: Some("exporter".into()),
            version: Some("1.5.0".into()),
            publisher: Some("prometheus".into()),
            file: "/etc/cartouche/policies.d/exporter.toml".into(),
            standing: Standing::Admitted,
            mode: Some(Mode::Enforce),
            mode_until: None,
            tasks: 3,
            denials: 12,
            problem: None,
        }
    }

    #[test]
    fn artifacts_stand_in_a_table_and_problems_below_it() {
        let broken = Listed {
            id: None,
            version: None,
            publisher: None,
            file: "x.toml".into(),
            standing: Standing::Rejected,
            mode: None,
            tasks: 0,
            denials: 0,
            problem: Some("line 1, column 1: no".into()),
            ..listed()
        };

        assert_eq!(
            text(&[listed(), broken]),
            "ID        VERSION  PUBLISHER   STANDING  MODE     TASKS  DENIALS  FILE\n\
             exporter  1.5.0    prometheus  admitted  enforce  3      12       /etc/cartouche/policies.d/exporter.toml\n\
             -         -        -           rejected  -        0      0        x.toml\n\
             \nx.toml: line 1, column 1: no\n"
        );
    }

    #[test]
    fn a_mode_that_should_have_ended_is_said_to_be_overdue() {
        let until = |until: &str| {
            mode(&Listed {
                mode: Some(Mode::Audit),
                mode_until: Some(until.into()),
                ..listed()
            })
        };

        assert_eq!(
            until("2020-01-01T00:00:00Z"),
            "audit, overdue since 2020-01-01T00:00:00Z, ends when cartouched runs"
        );
        assert_eq!(
            until("2999-01-01T00:00:00Z"),
            "audit until 2999-01-01T00:00:00Z"
        );
    }

    #[test]
    fn without_the_daemon_the_snapshot_is_shown_and_said_to_be_one() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(&paths.state).unwrap();
        let snapshot = serde_json::json!({ "version": 1, "listed": [listed()] });
        fs::write(paths.admitted(), snapshot.to_string()).unwrap();

        let answer = run(&paths).unwrap();

        assert_eq!(answer.exit, Exit::NotRunning);
        assert!(answer.text.starts_with("The daemon is not running"));
        assert!(answer.text.contains("exporter"));
    }
}
