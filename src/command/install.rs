//! `cartouche install`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::{Answer, Error, Exit, require, time, unanswered, verify};
use crate::admission::{Options, Verdict};
use crate::artifact::digest::sha256_hex;
use crate::atomic_write::atomic_write;
use crate::audit::printable;
use crate::config::Paths;
use crate::control::{self, Client, Request, Response, Standing};
use crate::error::chain;
use crate::trusted_file::{Fault, TrustedDirectory};

/// How much longer than the daemon waits the command does.
const MARGIN: Duration = Duration::from_secs(5);

/// Put an artifact into force: verify it, copy it as a whole, wait for the verdict
///
/// What is rejected does not stay: what was there under its name before is put back. To undo an
/// installation, remove the file from /etc/cartouche/policies.d.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The artifact, sealed; its name stays and must end in .toml
    file: PathBuf,

    /// How long to wait for the verdict
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = time::duration)]
    timeout: Duration,
}

pub(super) fn run(args: &Args, paths: &Paths) -> Result<Answer, Error> {
    let mut answer = install(args, paths)?;
    // a program finds what went wrong in one place, whether there is a verdict or not
    if answer.exit != Exit::Done
        && let Some(object) = answer.json.as_object_mut()
    {
        object.insert("exit".to_owned(), answer.exit.code().into());
    }
    Ok(answer)
}

fn install(args: &Args, paths: &Paths) -> Result<Answer, Error> {
    let name = name(&args.file)?;
    let checked = verify::check(&args.file, Options::default(), paths)?;
    let acceptable = match &checked.decision.verdict {
        Verdict::Admitted(_) => true,
        Verdict::Rejected { waiting, .. } => *waiting,
    };
    if !acceptable {
        return checked.answer(&args.file);
    }
    require(&paths.etc)?;
    let policies = paths.policies();
    if let Err(Error::NotInstalled { path }) = require(&policies) {
        return Err(Error::NoDirectory { path });
    }
    trust(&policies, paths.owner)?;
    let target = policies.join(name);
    let before = match fs::read(&target) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::file("read", &target)(error)),
    };
    atomic_write(&target, &checked.bytes, 0o644).map_err(|source| Error::NotWritten { source })?;
    let client = Client::new(&paths.control(), args.timeout + MARGIN);
    let request = Request::Wait {
        file: name.to_owned(),
        sha256: sha256_hex(&checked.bytes),
        timeout_ms: u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let shown = printable(&target.to_string_lossy());
    let mut answer = match client.ask(&request) {
        Ok(Response::Verdict(verdict)) if verdict.standing == Standing::Rejected => {
            let rejected = told(&shown, &verdict)?;
            let again = before.as_ref() == Some(&checked.bytes);
            take_back(&target, before.filter(|_| !again), again, rejected)
        }
        Ok(Response::Verdict(verdict)) => told(&shown, &verdict),
        Ok(_) => Err(Error::OtherAnswer),
        Err(error) => untold(&shown, &unanswered(error, paths)),
    }?;
    for warning in &checked.warnings {
        answer
            .text
            .push_str(&format!("warning: {}\n", printable(warning)));
    }
    Ok(answer)
}

/// Fails if the daemon would not read artifacts there. Who may not look leaves that to the daemon.
fn trust(directory: &Path, owner: u32) -> Result<(), Error> {
    match TrustedDirectory::open(directory, owner) {
        Err(source) if !matches!(source.fault, Fault::System(_)) => {
            Err(Error::Untrusted { source })
        }
        _ => Ok(()),
    }
}

/// Undoes the copying of what was rejected, and says what lies there now. What lay there `already` stays.
fn take_back(
    target: &Path,
    before: Option<Vec<u8>>,
    already: bool,
    rejected: Answer,
) -> Result<Answer, Error> {
    let (undone, what) = match before {
        _ if already => (Ok(()), "it lay there before and stays"),
        Some(bytes) => (
            atomic_write(target, &bytes, 0o644).map_err(|error| chain(&error)),
            "the file that was there before is put back",
        ),
        None => (
            fs::remove_file(target).map_err(|error| error.to_string()),
            "it was taken away again",
        ),
    };
    let shown = printable(&target.to_string_lossy());
    let what = match &undone {
        Ok(()) => what.to_owned(),
        Err(why) => format!("it could not be taken away again and still lies there: {why}"),
    };
    let mut json = rejected.json;
    if let Some(object) = json.as_object_mut() {
        object.insert("file_now".to_owned(), what.clone().into());
    }
    Ok(Answer {
        text: format!("{}{shown}: {what}\n", rejected.text),
        json,
        ..rejected
    })
}

/// The name under which it is installed, which the daemon must not take for a leftover.
fn name(file: &Path) -> Result<&str, Error> {
    file.file_name()
        .and_then(|name| name.to_str())
        .filter(|name| name.ends_with(".toml") && !name.starts_with('.') && *name != ".toml")
        .ok_or_else(|| Error::Unfit {
            message: format!(
                "The file {file:?} cannot be installed under its name; rename it to NAME.toml"
            ),
        })
}

fn told(target: &str, verdict: &control::Verdict) -> Result<Answer, Error> {
    let id = verdict.id.as_deref().unwrap_or("-");
    let mut text = match verdict.standing {
        Standing::Admitted => {
            let held = verdict.unenforced.as_deref();
            let held = held.unwrap_or("its programs are held to it now");
            format!("{target}: admitted as {id}; {held}\n")
        }
        Standing::Waiting => {
            format!(
                "{target}: waiting; it is admitted when its program is there, which does not run otherwise\n"
            )
        }
        Standing::Released => format!("{target}: released; its programs run without an envelope\n"),
        Standing::Rejected | Standing::Revoked => format!(
            "{target}: {}: {} {}\n",
            verdict.standing,
            verdict.error.as_deref().unwrap_or_default(),
            verdict.detail.as_deref().unwrap_or_default()
        ),
    };
    for message in &verdict.messages {
        text.push_str(&format!("{target}: {}\n", printable(message)));
    }
    let exit = match verdict.standing {
        Standing::Admitted => Exit::Done,
        _ => Exit::No,
    };
    Ok(Answer::new(text, verdict)?.exit(exit))
}

/// The file is in place, but what became of it is not known.
fn untold(target: &str, error: &Error) -> Result<Answer, Error> {
    let cause = chain(error);
    let text = format!(
        "{target}: copied, but there is no verdict: {cause}. It is judged when the daemon reads it; see \"cartouche list\"\n"
    );
    let json = json!({ "standing": null, "file": target, "error": cause });
    Ok(Answer::new(text, &json)?.exit(error.exit()))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::artifact::digest::seal;
    use crate::command::verify::tests::DRAFT;

    fn installed(name: &str, text: &str) -> (tempfile::TempDir, Paths, Result<Answer, Error>) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(paths.policies()).unwrap();
        let file = root.path().join(name);
        fs::write(&file, text).unwrap();
        let args = Args {
            file,
            timeout: Duration::from_millis(100),
        };
        let answer = run(&args, &paths);
        (root, paths, answer)
    }

    #[test]
    fn a_rejected_artifact_is_not_copied() {
        let (_root, paths, answer) = installed("tool.toml", DRAFT);

        let answer = answer.unwrap();
        assert_eq!((answer.exit, &answer.json["exit"]), (Exit::No, &3.into()));
        assert_eq!(fs::read_dir(paths.policies()).unwrap().count(), 0);
    }

    #[test]
    fn without_the_daemon_it_is_copied_and_said_to_be_unjudged() {
        let sealed = seal(DRAFT, "tool.toml").unwrap();
        let (_root, paths, answer) = installed("tool.toml", &sealed);

        let answer = answer.unwrap();
        assert_eq!(answer.exit, Exit::NotRunning, "{}", answer.text);
        assert_eq!(answer.json["exit"], 5);
        let copied = fs::read_to_string(paths.policies().join("tool.toml")).unwrap();
        assert_eq!(copied, sealed);
    }

    #[test]
    fn nothing_is_copied_to_where_the_daemon_reads_nothing() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(paths.policies()).unwrap();
        fs::set_permissions(paths.policies(), Permissions::from_mode(0o777)).unwrap();
        let file = root.path().join("tool.toml");
        let waiting = DRAFT.replace("/opt/tool/", "/no/such/");
        fs::write(&file, seal(&waiting, "tool.toml").unwrap()).unwrap();
        let args = Args {
            file,
            timeout: Duration::from_millis(100),
        };

        let told = chain(&run(&args, &paths).unwrap_err());

        assert!(
            told.contains("mode 0777") && told.contains("chmod go-w"),
            "{told}"
        );
        assert_eq!(fs::read_dir(paths.policies()).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_policies_directory_is_named_and_is_not_a_missing_installation() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let file = root.path().join("tool.toml");
        let waiting = DRAFT.replace("/opt/tool/", "/no/such/");
        fs::write(&file, seal(&waiting, "tool.toml").unwrap()).unwrap();
        let args = Args {
            file,
            timeout: Duration::from_millis(100),
        };

        let never = run(&args, &paths).unwrap_err();
        fs::create_dir_all(&paths.etc).unwrap();
        let missing = run(&args, &paths).unwrap_err();

        assert_eq!(never.exit(), Exit::NotRunning);
        assert_eq!(missing.exit(), Exit::NotFound);
        let told = missing.to_string();
        assert!(told.contains("policies.d\"; make it: install -d"), "{told}");
    }

    #[test]
    fn a_name_that_the_daemon_would_ignore_is_refused() {
        for name in ["tool", ".tool.toml", "tool.toml~", ".toml"] {
            let (_root, _, answer) = installed(name, DRAFT);

            assert!(matches!(answer, Err(Error::Unfit { .. })), "{name}");
        }
    }

    #[test]
    fn the_daemon_s_verdict_decides_the_exit_code() {
        let verdict = |standing| control::Verdict {
            standing,
            id: Some("tool".into()),
            error: Some("ERR_CART_DUPLICATE_ARTIFACT".into()),
            detail: Some("duplicate-id".into()),
            messages: vec!["The id is taken".into()],
            unenforced: None,
        };

        let admitted = told("x", &verdict(Standing::Admitted)).unwrap();
        let rejected = told("x", &verdict(Standing::Rejected)).unwrap();

        assert_eq!(admitted.exit, Exit::Done);
        assert_eq!(rejected.exit, Exit::No);
        assert!(
            rejected
                .text
                .contains("ERR_CART_DUPLICATE_ARTIFACT duplicate-id\nx: The id is taken")
        );
    }

    #[test]
    fn an_admitted_artifact_to_which_nothing_is_refused_is_not_said_to_be_held() {
        let admitted = |unenforced: Option<&str>| {
            let verdict = control::Verdict {
                standing: Standing::Admitted,
                id: Some("tool".into()),
                error: None,
                detail: None,
                messages: vec![],
                unenforced: unenforced.map(str::to_owned),
            };
            told("x", &verdict).unwrap().text
        };

        assert_eq!(
            admitted(None),
            "x: admitted as tool; its programs are held to it now\n"
        );
        assert_eq!(
            admitted(Some("in audit mode: nothing is refused")),
            "x: admitted as tool; in audit mode: nothing is refused\n"
        );
    }

    #[test]
    fn what_was_rejected_does_not_stay_and_what_it_replaced_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("tool.toml");
        let rejected = || Answer::new("no\n", &json!({})).unwrap().exit(Exit::No);
        fs::write(&target, "new").unwrap();

        let back = take_back(&target, Some(b"old".into()), false, rejected()).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        assert!(back.text.contains("is put back"), "{}", back.text);
        let same = take_back(&target, None, true, rejected()).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        assert!(same.text.contains("stays"), "{}", same.text);
        let gone = take_back(&target, None, false, rejected()).unwrap();
        assert!(!target.exists());
        assert!(gone.text.contains("taken away again"), "{}", gone.text);
        let failed = take_back(&target, None, false, rejected()).unwrap();
        assert!(failed.text.contains("still lies there"), "{}", failed.text);
        assert_eq!(failed.exit, Exit::No);
    }
}
