//! `cartouche denials`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{Answer, Error, suggestion, time};
use crate::audit::{Record, each_record, printable};
use crate::config::Paths;
use crate::event::{Code, Outcome};

/// Show what was refused, and beside each refusal the lines that would allow it
///
/// Reads /var/lib/cartouche/audit*.jsonl, so it works without the daemon. Equal refusals are shown
/// once, with their count; the newest come last.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only those of this artifact
    id: Option<String>,

    /// Only newer ones: a duration such as 1h, or a time such as 2026-01-31T08:00:00Z (without an
    /// offset: UTC)
    #[arg(long, value_name = "DURATION|TIME")]
    since: Option<String>,
}

/// Equal refusals.
#[derive(Debug, Serialize)]
struct Denial {
    artifact: Option<String>,
    code: Code,
    /// `denied`, or `would-deny` in audit mode.
    outcome: Outcome,
    operation: String,
    object: String,
    exe: String,
    uid: u32,
    count: u64,
    first: String,
    last: String,
    /// TOML that would allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<String>,
    /// Why nothing would.
    #[serde(skip_serializing_if = "Option::is_none")]
    never: Option<String>,
}

pub(super) fn run(args: &Args, paths: &Paths) -> Result<Answer, Error> {
    let since = args
        .since
        .as_deref()
        .map(|text| time::since(text, Timestamp::now()))
        .transpose()
        .map_err(|message| Error::Unfit { message })?;
    let mut denials = Denials::default();
    each_record(&paths.state, |record| {
        // A time that cannot be read is shown rather than left out.
        let new = since.is_none_or(|since| {
            let time: Result<Timestamp, _> = record.time.parse();
            time.map_or(true, |time| time >= since)
        });
        let id = args.id.as_deref();
        if new && id.is_none_or(|id| record.event.artifact.as_deref() == Some(id)) {
            denials.add(record);
        }
    })?;
    let denials = denials.sorted();
    Answer::new(text(&denials), &denials)
}

/// What makes two refusals equal.
type Kind = (
    (Option<String>, Code, Outcome),
    (String, String),
    (String, u32),
);

#[derive(Default)]
struct Denials {
    kinds: BTreeMap<Kind, Denial>,
}

impl Denials {
    fn add(&mut self, record: Record) {
        let event = record.event;
        let refused = matches!(event.outcome, Outcome::Denied | Outcome::WouldDeny);
        let Some(runtime) = event.runtime.filter(|_| refused) else {
            return;
        };
        let kind = (
            (event.artifact.clone(), event.code, event.outcome),
            (runtime.operation.clone(), runtime.object.clone()),
            (runtime.exe.clone(), runtime.uid),
        );
        let denial = self.kinds.entry(kind).or_insert_with(|| {
            let (allow, never) = match suggestion::allow(event.code, &runtime) {
                Ok(lines) => (Some(lines), None),
                Err(why) => (None, Some(why)),
            };
            Denial {
                artifact: event.artifact,
                code: event.code,
                outcome: event.outcome,
                operation: runtime.operation,
                object: runtime.object,
                exe: runtime.exe,
                uid: runtime.uid,
                count: 0,
                first: record.time.clone(),
                last: String::new(),
                allow,
                never,
            }
        });
        denial.count = denial.count.saturating_add(event.count);
        denial.last = record.time;
    }

    /// The newest last.
    fn sorted(self) -> Vec<Denial> {
        let mut denials: Vec<_> = self.kinds.into_values().collect();
        denials.sort_by(|a, b| a.last.cmp(&b.last));
        denials
    }
}

fn text(denials: &[Denial]) -> String {
    if denials.is_empty() {
        return "Nothing was refused\n".to_owned();
    }
    let mut text = String::new();
    for denial in denials {
        let artifact = denial.artifact.as_deref().unwrap_or("-");
        text.push_str(&format!(
            "{}  {}  {}  {} {}\n",
            denial.last,
            printable(artifact),
            denial.outcome,
            printable(&denial.operation),
            printable(&denial.object)
        ));
        text.push_str(&format!(
            "  {} times since {}, by {} as user {}\n",
            denial.count,
            denial.first,
            printable(&denial.exe),
            denial.uid
        ));
        if let Some(lines) = &denial.allow {
            text.push_str(&format!(
                "  This would allow it, in the artifact {}:\n\n",
                printable(artifact)
            ));
            for line in lines.lines() {
                text.push_str(&format!("    {}\n", printable(line)));
            }
        }
        if let Some(why) = &denial.never {
            text.push_str(&format!("  Nothing would allow it: {}\n", printable(why)));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::audit::{AuditLog, Limits};
    use crate::event::{Event, Runtime};

    fn denial(artifact: &str, operation: &str, object: &str, count: u64) -> Event {
        let mut event = Event::new(Code::Drift, Outcome::Denied).artifact(artifact);
        event.count = count;
        event.runtime = Some(Runtime {
            operation: operation.into(),
            object: object.into(),
            exe: "/usr/bin/cat".into(),
            ..Runtime::default()
        });
        event
    }

    fn shown(id: Option<&str>, since: Option<&str>) -> Answer {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(&paths.state).unwrap();
        let mut log = AuditLog::open(&paths.state, Limits::default()).unwrap();
        for event in [
            Event::new(Code::Admitted, Outcome::Admitted).artifact("a"),
            denial("a", "fs:read", "/etc/shadow", 1),
            denial("b", "mount", "/mnt\u{1b}[2J", 1),
            denial("a", "fs:read", "/etc/shadow", 41),
        ] {
            log.append(event).unwrap();
        }
        let args = Args {
            id: id.map(str::to_owned),
            since: since.map(str::to_owned),
        };
        run(&args, &paths).unwrap()
    }

    #[test]
    fn equal_denials_are_one_with_their_count_and_the_lines_that_allow_them() {
        let answer = shown(Some("a"), None);

        let list = answer.json.as_array().unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!(list[0]["count"], 42);
        assert!(
            answer
                .text
                .contains("    paths         = [\"/etc/shadow\"]\n"),
            "{}",
            answer.text
        );
    }

    #[test]
    fn what_nothing_allows_is_said_and_does_not_steer_the_terminal() {
        let answer = shown(Some("b"), Some("1h"));

        assert!(
            answer
                .text
                .contains("Nothing would allow it: no capability allows"),
            "{}",
            answer.text
        );
        assert!(!answer.text.contains('\u{1b}'));
    }

    #[test]
    fn older_ones_are_left_out() {
        assert_eq!(
            shown(None, Some("2999-01-01")).text,
            "Nothing was refused\n"
        );
        assert_eq!(shown(None, None).json.as_array().unwrap().len(), 2);
    }
}
