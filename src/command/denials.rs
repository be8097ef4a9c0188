//! `cartouche denials`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::suggestion::Rule;
use super::{Answer, Error, hint, require, suggestion, time};
use crate::artifact::capability::CapabilityName;
use crate::audit::{Record, each_record, printable};
use crate::config::Paths;
use crate::event::{Code, Outcome, Runtime};
use crate::registry::{Entry, Registry};

/// Show what was refused, and the lines that would allow it
///
/// Reads /var/lib/cartouche/audit*.jsonl, so it works without the daemon. Equal refusals are shown
/// once, with their count; the newest come last. What the envelope in force declares by now is left
/// out. To find all that a program needs in one round, let it run in audit mode first: "cartouche
/// mode ID audit --for 1h".
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only those of this artifact
    id: Option<String>,

    /// Only newer ones: a duration such as 1h, or a time such as 2026-01-31T08:00:00Z (without an
    /// offset: UTC)
    #[arg(long, value_name = "DURATION|TIME", allow_hyphen_values = true)]
    since: Option<String>,

    /// Also those that the envelope in force declares by now
    #[arg(long)]
    all: bool,
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
    /// Why it was refused, as a detail word.
    detail: Option<String>,
    exe: String,
    uid: u32,
    count: u64,
    first: String,
    last: String,
    /// Whether the envelope in force declares it by now.
    declared: bool,
    #[serde(skip)]
    rule: Option<Rule>,
    /// TOML that would allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<String>,
    /// The directory all of which that would allow, because the name itself cannot be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    allows_all_of: Option<String>,
    /// A sentence: why nothing would, or what else to do.
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
    require(&paths.state)?;
    let mut denials = Denials::default();
    each_record(&paths.state, |record| {
        denials.note(&record);
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
    // without it, nothing is known to be declared by now
    let registry = Registry::open(&paths.admitted()).ok();
    let artifacts = registry
        .map(|registry| registry.artifacts)
        .unwrap_or_default();
    if let Some(id) = &args.id {
        denials.require(id, artifacts.contains_key(id))?;
    }
    let mut denials = denials.sorted(&artifacts);
    let all = denials.len();
    if !args.all {
        denials.retain(|denial| !denial.declared);
    }
    Answer::new(text(&denials, all - denials.len()), &denials)
}

/// What makes two refusals equal.
type Kind = (
    (Option<String>, Code, Outcome, Option<String>),
    (String, String),
    (String, u32),
);

#[derive(Default)]
struct Denials {
    kinds: BTreeMap<Kind, Denial>,
    /// Every artifact of the log, and when it was last put in force.
    artifacts: BTreeMap<String, Option<String>>,
}

impl Denials {
    /// Takes from any record which artifacts there were.
    fn note(&mut self, record: &Record) {
        if let Some(id) = &record.event.artifact {
            let admitted = self.artifacts.entry(id.clone()).or_default();
            if record.event.code == Code::Admitted {
                *admitted = Some(record.time.clone());
            }
        }
    }

    /// Fails for an id that nothing was ever called: that nothing was refused to it means nothing.
    fn require(&self, id: &str, known: bool) -> Result<(), Error> {
        if known || self.artifacts.contains_key(id) {
            return Ok(());
        }
        let hint = hint(id, self.artifacts.keys().map(String::as_str));
        Err(Error::NotFound {
            message: format!(
                "There is no artifact {id:?}, nor does the audit log tell of one; {hint}"
            ),
        })
    }

    fn add(&mut self, record: Record) {
        let mut event = record.event;
        let refused = matches!(event.outcome, Outcome::Denied | Outcome::WouldDeny);
        let Some(runtime) = event.runtime.take().filter(|_| refused) else {
            return;
        };
        event.detail = suggestion::reason(event.detail.as_deref(), &runtime.operation);
        let kind = (
            (
                event.artifact.clone(),
                event.code,
                event.outcome,
                event.detail.clone(),
            ),
            (runtime.operation.clone(), runtime.object.clone()),
            (runtime.exe.clone(), runtime.uid),
        );
        let denial = self.kinds.entry(kind).or_insert_with(|| {
            let (rule, never) = match suggestion::allow(&event, &runtime) {
                Ok(rule) => (Some(rule), None),
                Err(why) => (None, Some(why)),
            };
            let allows_all_of = rule
                .as_ref()
                .and_then(|rule| rule.stands_for_all_of(&runtime.object))
                .map(str::to_owned);
            Denial {
                artifact: event.artifact.clone(),
                code: event.code,
                outcome: event.outcome,
                operation: runtime.operation,
                object: runtime.object,
                detail: event.detail.clone(),
                exe: runtime.exe,
                uid: runtime.uid,
                count: 0,
                first: record.time.clone(),
                last: String::new(),
                declared: false,
                allow: rule
                    .as_ref()
                    .map(|rule| suggestion::lines(&BTreeSet::from([rule.clone()]))),
                allows_all_of,
                rule,
                never,
            }
        });
        denial.count = denial.count.saturating_add(event.count);
        denial.last = record.time;
    }

    /// The newest last.
    fn sorted(self, artifacts: &BTreeMap<String, Entry>) -> Vec<Denial> {
        let mut denials: Vec<_> = self.kinds.into_values().collect();
        denials.sort_by(|a, b| a.last.cmp(&b.last));
        for denial in &mut denials {
            let Some(id) = &denial.artifact else { continue };
            let in_force = artifacts.get(id).filter(|entry| !entry.revoked);
            // what was refused under the envelope in force is not declared, whatever it looks like
            let before = self
                .artifacts
                .get(id)
                .and_then(Option::as_ref)
                .is_some_and(|admitted| denial.last < *admitted);
            let runtime = Runtime {
                operation: denial.operation.clone(),
                object: denial.object.clone(),
                ..Runtime::default()
            };
            denial.declared = before
                && denial.rule.is_some()
                && in_force
                    .is_some_and(|entry| suggestion::is_declared(&entry.effective, &runtime));
            let pins = in_force.is_some_and(|entry| {
                let mut pinned = entry.effective.code();
                pinned.any(|(path, _)| *path == denial.object)
            });
            if pins && denial.operation == CapabilityName::CodeLoad.as_str() {
                denial.rule = None;
                denial.allow = None;
                denial.never = Some(suggestion::OTHER_CONTENT.to_owned());
            }
        }
        denials
    }
}

fn text(denials: &[Denial], left_out: usize) -> String {
    let mut text = String::new();
    let mut rules: BTreeMap<&str, BTreeSet<Rule>> = BTreeMap::new();
    for denial in denials {
        let artifact = denial.artifact.as_deref().unwrap_or("-");
        text.push_str(&format!(
            "{}  {}  {}  {} {}\n",
            denial.last,
            printable(artifact),
            denial.outcome,
            printable(&denial.operation),
            printable(or_unnamed(&denial.object))
        ));
        text.push_str(&format!(
            "  {} since {}, by {} as user {}{}\n",
            times(denial.count),
            denial.first,
            printable(&denial.exe),
            denial.uid,
            denial
                .detail
                .as_ref()
                // what the lines below are for
                .filter(|word| *word != "no-rule")
                .map(|word| format!(": {}", printable(word)))
                .unwrap_or_default()
        ));
        if denial.declared {
            text.push_str("  The envelope in force declares it by now\n");
        } else if let Some(rule) = &denial.rule {
            rules.entry(artifact).or_default().insert(rule.clone());
            if let Some(directory) = &denial.allows_all_of {
                text.push_str(&format!(
                    "  The name cannot be written in a rule; the lines below allow all of {}\n",
                    printable(directory)
                ));
            }
        }
        if let Some(why) = &denial.never {
            text.push_str(&format!("  {}\n", printable(why)));
        }
    }
    for (artifact, rules) in rules {
        text.push_str(&format!(
            "\nThis would allow it, in the artifact {}:\n\n",
            printable(artifact)
        ));
        for line in suggestion::lines(&rules).lines() {
            text.push_str(format!("    {}", printable(line)).trim_end());
            text.push('\n');
        }
    }
    match (denials.is_empty(), left_out) {
        (true, 0) => "Nothing was refused\n".to_owned(),
        (true, _) => {
            format!("Nothing was refused that is not declared by now; --all shows {left_out}\n")
        }
        (false, 0) => text,
        (false, _) => format!(
            "{text}\n{left_out} more, which the envelope in force declares by now, are left out; --all \
             shows them\n"
        ),
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        _ => format!("{count} times"),
    }
}

/// The kernel does not name every object.
fn or_unnamed(object: &str) -> &str {
    if object.is_empty() {
        "(not named by the kernel)"
    } else {
        object
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::audit::{AuditLog, Limits};
    use crate::command::Exit;
    use crate::event::Event;

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
        asked(id, since).unwrap()
    }

    fn asked(id: Option<&str>, since: Option<&str>) -> Result<Answer, Error> {
        let args = Args {
            id: id.map(str::to_owned),
            since: since.map(str::to_owned),
            all: false,
        };
        told(
            &[
                Event::new(Code::Admitted, Outcome::Admitted).artifact("a"),
                denial("a", "fs:read", "/etc/shadow", 1),
                denial("b", "mount", "/mnt\u{1b}[2J", 1),
                denial("a", "fs:read", "/etc/shadow", 41),
            ],
            &args,
        )
    }

    fn of(events: &[Event]) -> Answer {
        let args = Args {
            id: None,
            since: None,
            all: false,
        };
        told(events, &args).unwrap()
    }

    /// What is said of a log of these events.
    fn told(events: &[Event], args: &Args) -> Result<Answer, Error> {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(&paths.state).unwrap();
        let mut log = AuditLog::open(&paths.state, Limits::default()).unwrap();
        for event in events {
            log.append(event.clone()).unwrap();
        }
        run(args, &paths)
    }

    #[test]
    fn an_id_that_nothing_has_is_an_error_and_not_an_artifact_without_denials() {
        let error = asked(Some("no-such-b"), None).unwrap_err();

        assert_eq!(error.exit(), Exit::NotFound);
        assert!(error.to_string().contains("there is \"b\""), "{error}");
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
                .contains("No line would allow it: no capability allows"),
            "{}",
            answer.text
        );
        assert!(!answer.text.contains('\u{1b}'));
    }

    #[test]
    fn one_power_that_nothing_grants_is_one_refusal_whichever_hook_saw_it() {
        let answer = of(&[
            denial("a", "mount", "/x", 1).detail("no-rule"),
            denial("a", "mount", "/x", 2).detail("never-grantable"),
        ]);

        let list = answer.json.as_array().unwrap();
        assert_eq!(list.len(), 1, "{}", answer.text);
        assert_eq!(
            (&list[0]["count"], &list[0]["detail"]),
            (&3.into(), &"never-grantable".into())
        );
        assert!(
            answer.text.contains("as user 0: never-grantable\n"),
            "{}",
            answer.text
        );
    }

    #[test]
    fn a_program_of_a_rejected_artifact_is_not_said_to_lack_a_line() {
        let answer = of(&[denial("a", "exec", "/usr/bin/tool", 1).detail("refused")]);

        assert!(
            answer
                .text
                .contains("\n  Its artifact is not admitted; \"cartouche list\" tells why\n"),
            "{}",
            answer.text
        );
        assert!(!answer.text.contains("No line"), "{}", answer.text);
    }

    #[test]
    fn a_suggestion_that_allows_more_than_was_refused_says_so() {
        let answer = of(&[denial("a", "fs:read", "/tmp/a*b", 1).detail("no-rule")]);

        assert!(
            answer
                .text
                .contains("cannot be written in a rule; the lines below allow all of /tmp\n"),
            "{}",
            answer.text
        );
        assert_eq!(answer.json[0]["allows_all_of"], "/tmp");
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
