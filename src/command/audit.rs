//! `cartouche audit verify`.

use super::{Answer, Error, Exit, require};
use crate::audit::{Report, verify};
use crate::config::Paths;

/// Check the audit log
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Find every edit, cut, change of order and missing file in /var/lib/cartouche/audit*.jsonl
    ///
    /// A cut at the very end shows only against an expected head: the daemon writes the head of the
    /// chain hourly to the journal (CART-111) and into the posture report.
    Verify {
        /// A hash that must be in the log: the head as it was written down elsewhere
        #[arg(long, value_name = "HASH", value_parser = head)]
        head: Option<String>,
    },
}

fn head(text: &str) -> Result<String, String> {
    if crate::artifact::is_sha256(text) {
        Ok(text.to_owned())
    } else {
        Err("a head is 64 lower-case hex digits".to_owned())
    }
}

pub(super) fn run(args: &Args, paths: &Paths) -> Result<Answer, Error> {
    let Command::Verify { head } = &args.command;
    require(&paths.state)?;
    let report = verify(&paths.state, head.as_deref())?;
    let exit = if report.problems.is_empty() {
        Exit::Done
    } else {
        Exit::No
    };
    Ok(Answer::new(text(&report, head.is_some()), &report)?.exit(exit))
}

fn text(report: &Report, with_head: bool) -> String {
    let mut text: String = report
        .problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect();
    if report.problems.is_empty() {
        text.push_str(&format!(
            "{} records in {} files are as they were written{}\n",
            report.records,
            report.files.len(),
            if with_head {
                ", and the expected head is among them"
            } else {
                ""
            }
        ));
    }
    text.push_str(&format!("head {} {}\n", report.head.seq, report.head.hash));
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::audit::{AuditLog, CURRENT, Limits};
    use crate::event::{Code, Event, Outcome};

    #[test]
    fn a_sound_log_is_a_yes_and_an_edited_one_a_no() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(&paths.state).unwrap();
        let mut log = AuditLog::open(&paths.state, Limits::default()).unwrap();
        log.append(Event::new(Code::Started, Outcome::Noted))
            .unwrap();
        let head = Some(log.head().hash.clone());
        let args = Args {
            command: Command::Verify { head },
        };

        let sound = run(&args, &paths).unwrap();
        let file = paths.state.join(CURRENT);
        let edited = fs::read_to_string(&file)
            .unwrap()
            .replace("noted", "denied");
        fs::write(&file, edited).unwrap();
        let edited = run(&args, &paths).unwrap();

        assert_eq!(sound.exit, Exit::Done);
        assert!(
            sound
                .text
                .starts_with("1 records in 1 files are as they were written, and")
        );
        assert_eq!(edited.exit, Exit::No);
        assert!(
            edited
                .text
                .starts_with("audit.jsonl:1: record 1 was edited")
        );
    }
}
