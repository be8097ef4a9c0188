//! `cartouche audit verify`.

use std::fs;

use serde::Deserialize;

use super::posture::boot_id;
use super::{Answer, Error, Exit, require};
use crate::audit::{Expected, Head, Report, verify_against};
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
    /// A cut at the end is found against the posture report of this boot, which names the newest record
    /// at the time when it was written; so is a log that is gone. After a reboot there is no such report,
    /// and whoever can cut the log can write the report too. A cut at the very end shows then only against
    /// a head that was kept elsewhere, with --head: the daemon writes the head of the chain hourly to the
    /// journal (CART-111), from where it can be sent to another machine.
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
    // before the log is read, which only grows
    let witness = witness(paths, &boot_id());
    if witness.is_none() {
        require(&paths.state)?;
    }
    let expected = Expected {
        hash: head.clone(),
        begun: witness.is_some() || paths.admitted().exists(),
        witness,
    };
    let report = verify_against(&paths.state, &expected)?;
    let exit = if report.problems.is_empty() {
        Exit::Done
    } else {
        Exit::No
    };
    Ok(Answer::new(text(&report, head.is_some()), &report)?.exit(exit))
}

/// The part of the posture report that tells of the log.
#[derive(Deserialize)]
struct PostureReport {
    cartouche: Own,
}

#[derive(Deserialize)]
struct Own {
    boot_id: String,
    audit_seq: u64,
    audit_head: String,
}

/// The record that the posture report of this boot names.
fn witness(paths: &Paths, boot_id: &str) -> Option<Head> {
    let bytes = fs::read(paths.report()).ok()?;
    let own = serde_json::from_slice::<PostureReport>(&bytes)
        .ok()?
        .cartouche;
    // a daemon that could not open its log names none
    (own.boot_id == boot_id && own.audit_seq > 0).then_some(Head {
        seq: own.audit_seq,
        hash: own.audit_head,
    })
}

fn text(report: &Report, with_head: bool) -> String {
    let mut text: String = report
        .problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect();
    if report.problems.is_empty() {
        text.push_str(&format!(
            "{} in {} {}{}\n",
            counted(report.records, "record"),
            counted(report.files.len() as u64, "file"),
            match report.records {
                1 => "is as it was written",
                _ => "are as they were written",
            },
            if with_head {
                ", and the expected head is among them"
            } else {
                ""
            }
        ));
    }
    match &report.witness {
        Some(witness) => text.push_str(&format!(
            "The end was compared with the posture report, which names record {}. A cut after that one \
             shows only against a head that was kept elsewhere, with --head\n",
            witness.seq
        )),
        None if !with_head => text.push_str(
            "There is no posture report of this boot to compare the end with. A cut at the end shows only \
             against a head that was kept elsewhere, with --head\n",
        ),
        None => {}
    }
    text.push_str(&format!("head {} {}\n", report.head.seq, report.head.hash));
    text
}

fn counted(number: u64, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        _ => format!("{number} {thing}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::audit::{AuditLog, CURRENT, Limits};
    use crate::event::{Code, Event, Outcome};

    fn verified(paths: &Paths) -> Answer {
        let command = Command::Verify { head: None };
        run(&Args { command }, paths).unwrap()
    }

    /// Where so many records were written, and the report of this boot names the newest.
    fn witnessed(root: &std::path::Path, records: u64) -> Paths {
        let paths = Paths::under(root);
        fs::create_dir_all(&paths.state).unwrap();
        fs::create_dir_all(&paths.run).unwrap();
        let mut log = AuditLog::open(&paths.state, Limits::default()).unwrap();
        for _ in 0..records {
            log.append(Event::new(Code::Started, Outcome::Noted))
                .unwrap();
        }
        report(&paths, &boot_id(), log.head());
        paths
    }

    fn report(paths: &Paths, boot_id: &str, head: &Head) {
        let own = serde_json::json!({
            "boot_id": boot_id, "audit_seq": head.seq, "audit_head": head.hash, "version": "0",
        });
        let report = serde_json::json!({ "cartouche": own, "runtime_state": "ENFORCE" });
        fs::write(paths.report(), report.to_string()).unwrap();
    }

    fn cut(paths: &Paths, keep: usize) {
        let file = paths.state.join(CURRENT);
        let text = fs::read_to_string(&file).unwrap();
        let kept: String = text.split_inclusive('\n').take(keep).collect();
        fs::write(file, kept).unwrap();
    }

    #[test]
    fn a_cut_at_the_end_is_found_against_the_posture_report_and_says_how_much_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let paths = witnessed(root.path(), 5);

        let whole = verified(&paths);
        cut(&paths, 2);
        let shortened = verified(&paths);
        fs::remove_file(paths.state.join(CURRENT)).unwrap();
        let removed = verified(&paths);
        fs::remove_dir_all(&paths.state).unwrap();
        let all_removed = verified(&paths);

        assert_eq!(whole.exit, Exit::Done, "{}", whole.text);
        assert!(whole.text.contains("names record 5"), "{}", whole.text);
        assert_eq!(whole.json["witness"]["seq"], 5);
        assert_eq!(shortened.exit, Exit::No);
        assert!(
            shortened
                .text
                .contains("3 records, 3 to 5, are missing at the end"),
            "{}",
            shortened.text
        );
        assert_eq!(shortened.json["problems"][0]["fault"], "end-missing");
        for answer in [removed, all_removed] {
            assert_eq!(answer.exit, Exit::No);
            assert!(answer.text.contains("was removed"), "{}", answer.text);
        }
    }

    #[test]
    fn a_report_of_another_boot_is_no_witness_and_that_is_said() {
        let root = tempfile::tempdir().unwrap();
        let paths = witnessed(root.path(), 3);
        let head = verify_against(&paths.state, &Expected::default())
            .unwrap()
            .head;
        report(&paths, "another", &head);
        cut(&paths, 2);

        let answer = verified(&paths);

        assert_eq!(answer.exit, Exit::Done);
        assert!(
            answer
                .text
                .contains("There is no posture report of this boot"),
            "{}",
            answer.text
        );
    }

    #[test]
    fn no_log_where_the_daemon_has_run_is_a_no_and_where_it_never_did_none() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(&paths.state).unwrap();

        let never = verified(&paths);
        fs::write(paths.admitted(), "{}").unwrap();
        let removed = verified(&paths);

        assert_eq!(never.exit, Exit::Done);
        assert_eq!(removed.exit, Exit::No);
        assert!(
            removed.text.contains("although the daemon has run"),
            "{}",
            removed.text
        );
    }

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
                .starts_with("1 record in 1 file is as it was written, and")
        );
        assert_eq!(edited.exit, Exit::No);
        assert!(
            edited
                .text
                .starts_with("audit.jsonl:1: record 1 was edited")
        );
    }
}
