//! What is not admitted: bad files of every kind disturb nobody, and the program of an artifact that is
//! rejected or waits does not run.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use cartouche::artifact::digest::sha256_hex;
use cartouche::control::Standing::{Admitted, Rejected, Revoked, Waiting};
use cartouche::event::{Code, Event, Outcome as Ending};
use cartouche::posture::{ReasonCode, RuntimeState};
use daemon::Outcome::{Done, NotStarted, Refused, Silenced};
use daemon::{Daemon, Mark, POLICIES, Tool, seal};
use serde::Deserialize;

/// Waits for the verdict on a file, and returns the events of its decision.
#[track_caller]
fn verdict(daemon: &Daemon, mark: Mark, file: &str) -> Vec<Event> {
    verdicts(daemon, mark, &BTreeSet::from([file.to_owned()]))
        .remove(file)
        .unwrap()
}

/// Waits for the first verdict on each of these files, and returns the events of the decisions.
#[track_caller]
fn verdicts(daemon: &Daemon, mark: Mark, files: &BTreeSet<String>) -> BTreeMap<String, Vec<Event>> {
    daemon::eventually("the decisions are complete", || {
        let mut decisions: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        let mut decided: Vec<Event> = Vec::new();
        for event in daemon
            .audit
            .since(mark)
            .into_iter()
            .map(|record| record.event)
        {
            if event.code == Code::Submitted {
                decided.clear();
            }
            let ends = matches!(event.code, Code::Admitted | Code::Rejected);
            decided.push(event);
            if ends && let Some(file) = decided[0].facts.get("file") {
                decisions
                    .entry(file.clone())
                    .or_insert_with(|| decided.clone());
            }
        }
        decisions.retain(|file, _| files.contains(file));
        (decisions.len() == files.len()).then_some(decisions)
    })
}

/// `ERR_CART_… detail`, or `CART-003 detail` where the contract has no error.
fn told(events: &[Event]) -> String {
    let last = events.last().unwrap();
    let error = last
        .error
        .map_or(last.code.as_str(), |error| error.as_str());
    format!("{error} {}", last.detail.as_deref().unwrap_or_default())
}

/// The programs and files that the artifacts of the table name, each for what its name says. Nobody starts
/// them.
fn install_examples() {
    let program = |name: &str, content: &str, mode: u32| {
        let path = Path::new("/usr/bin").join(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    for name in ["example", "busy", "taken"] {
        program(name, "example", 0o755);
    }
    program("second", "second", 0o755);
    program("setuid", "example", 0o4755);
    let _ = fs::remove_file("/usr/bin/link");
    symlink("example", "/usr/bin/link").unwrap();
    let _ = fs::create_dir("/usr/bin/directory");
    // and what they pin
    let _ = fs::create_dir_all("/opt/directory");
    for name in ["a.so", "busy.so"] {
        fs::write(format!("/opt/{name}"), "code").unwrap();
    }
    let _ = fs::remove_file("/opt/link.so");
    symlink("a.so", "/opt/link.so").unwrap();
}

/// A folder of the table: its artifacts by the file names that they get here.
fn table(folder: &str) -> BTreeMap<String, String> {
    fs::read_dir(format!("/job/artifacts/{folder}"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| !ELSEWHERE.contains(&name.as_str()))
        .map(|(name, path)| {
            (
                format!("{folder}-{name}"),
                fs::read_to_string(path).unwrap(),
            )
        })
        .collect()
}

/// An artifact of the table with the content that its programs have here: what comes before the scope in
/// the order of the gate shall not be what rejects it.
fn with_real_content(text: &str) -> String {
    let table: toml::Table = text.parse().unwrap();
    let mut real = text.to_owned();
    for executable in table["artifact"]["executable"].as_array().unwrap() {
        let path = executable["path"].as_str().unwrap();
        if !fs::exists(path).unwrap() {
            fs::write(path, "example").unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        let hash = sha256_hex(&fs::read(path).unwrap());
        real = real.replace(executable["sha256"].as_str().unwrap(), &hash);
    }
    seal(&real)
}

/// What an artifact of the table says in its first line.
fn expected(text: &str) -> &str {
    text.lines().next().unwrap().trim_start_matches("# ")
}

/// Cases of the table that need a node other than this one.
const ELSEWHERE: [&str; 5] = [
    // an overlay, and a directory without regard to case, at /usr/bin; an overlay at /opt
    "executable-overlay.toml",
    "code-filesystem.toml",
    "executable-casefold.toml",
    // scripts of which the content is none
    "executable-script-others-replace.toml",
    "executable-script-replaces-itself.toml",
];

#[test]
fn every_artifact_of_the_table_gets_its_verdict_and_none_disturbs_another() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let bystander = Tool::new("bystander");
    bystander.drop(&bystander.artifact());
    daemon.comes_to("bystander", Admitted);
    let hammer = bystander.hammer();
    install_examples();
    let example = fs::read_to_string("/job/artifacts/accepted/example.toml").unwrap();
    let taken = example
        .replace("\"example\"", "\"taken\"")
        .replace("/usr/bin/example", "/usr/bin/taken");
    let mark = daemon.audit.mark();
    fs::write(format!("{POLICIES}/taken.toml"), seal(&taken)).unwrap();
    daemon.audit.tells(mark, Code::Admitted, "taken");
    let busy = ["/usr/bin/busy", "/opt/busy.so"]
        .map(|path| fs::OpenOptions::new().write(true).open(path).unwrap());

    // all that is rejected at once
    let mut rejected = table("rejected");
    for text in rejected.values_mut() {
        if expected(text).ends_with(" executable-out-of-scope") {
            *text = with_real_content(text);
        }
    }
    let waiting = "/etc/cartouche/waiting";
    fs::create_dir_all(waiting).unwrap();
    for (file, text) in &rejected {
        fs::write(format!("{waiting}/{file}"), text).unwrap();
    }
    for file in rejected.keys() {
        fs::rename(format!("{waiting}/{file}"), format!("{POLICIES}/{file}")).unwrap();
    }
    let decisions = verdicts(&daemon, mark, &rejected.keys().cloned().collect());
    let mut wrong: Vec<_> = rejected
        .iter()
        .map(|(file, text)| {
            (
                file.clone(),
                expected(text).to_owned(),
                told(&decisions[file]),
            )
        })
        .filter(|(_, expected, found)| expected != found)
        .collect();
    daemon::empty_of(POLICIES, "rejected-");
    daemon.settles();

    // what is accepted, one after the other: nearly all are versions of one artifact
    for (file, text) in table("accepted") {
        let mark = daemon.audit.mark();
        daemon::rename_into(&format!("{POLICIES}/accepted.toml"), text.as_bytes()).unwrap();
        let events = verdict(&daemon, mark, "accepted.toml");
        let found = events.last().unwrap().detail.clone().unwrap();
        if found != expected(&text) {
            wrong.push((file, expected(&text).to_owned(), found));
        }
    }

    assert_eq!(wrong, [], "(file, expected, found)");
    drop(busy);
    let seen = hammer.stop();
    assert_eq!((seen.through, seen.lost), (0, 0));
    assert_eq!(daemon.standing("bystander"), Some(Admitted));
    assert!(daemon.audit.of(mark, Code::Revoked, "bystander").is_empty());
    daemon.audit.is_whole();
}

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    make: String,
    error: String,
    detail: String,
}

/// Makes what no file with a comment in its first line can be, and beside its later place what belongs to it.
fn make(case: &str, path: &Path, later: &Path, example: &str) {
    let write = |bytes: &[u8], mode: u32| {
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    let beside = |ending: &str| format!("{}.{ending}", later.display());
    match case {
        "a fifo" => {
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
        }
        "a directory" => fs::create_dir(path).unwrap(),
        "a socket" => drop(UnixListener::bind(path).unwrap()),
        "a link out of the directory" => symlink("/etc/passwd", path).unwrap(),
        "a file that everybody can write" => write(example.as_bytes(), 0o666),
        "a file that its group can write" => write(example.as_bytes(), 0o664),
        "two mebibytes" => {
            let filler = format!("# {}\n", "x".repeat(2 * 1024 * 1024));
            write((example.to_owned() + &filler).as_bytes(), 0o644);
        }
        "an empty file" => write(b"", 0o644),
        "an executable" => write(b"\x7fELF\x02\x01\x01\x00\xff\xfe", 0o644),
        "zeros" => write(&[0; 512], 0o644),
        "latin-1" => write(&[example.as_bytes(), b"# caf\xe9\n"].concat(), 0o644),
        "utf-16" => {
            let wide: Vec<u8> = example.encode_utf16().flat_map(u16::to_le_bytes).collect();
            write(&[&b"\xff\xfe"[..], &wide].concat(), 0o644);
        }
        "cut inside a string" => {
            let cut = example.rfind("reads").unwrap() + 3;
            write(&example.as_bytes()[..cut], 0o644);
        }
        "cut before the capabilities" => {
            let cut = example.find("[[envelope.capability]]").unwrap();
            write(&example.as_bytes()[..cut], 0o644);
        }
        "a signature beside it" => {
            write(example.as_bytes(), 0o644);
            fs::write(beside("minisig"), "untrusted comment: none\n").unwrap();
        }
        "a site grant beside it" => {
            write(example.as_bytes(), 0o644);
            fs::create_dir(beside("d")).unwrap();
            fs::write(beside("d/more.toml"), "").unwrap();
        }
        other => panic!("no way to make {other:?}"),
    }
}

#[test]
fn what_is_no_artifact_at_all_gets_its_verdict_and_disturbs_nobody() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let bystander = Tool::new("onlooker");
    bystander.drop(&bystander.artifact());
    daemon.comes_to("onlooker", Admitted);
    let hammer = bystander.hammer();
    install_examples();
    let example = fs::read_to_string("/job/artifacts/accepted/example.toml").unwrap();
    let cases = fs::read_to_string("/job/artifacts/cases.toml").unwrap();
    let mut cases = toml::from_str::<Cases>(&cases).unwrap().case;
    // what vanished is not there: see the next test
    cases.retain(|case| case.make != "a file that vanished");

    let mark = daemon.audit.mark();
    for (number, case) in cases.iter().enumerate() {
        let (waiting, path) = (
            format!("/etc/cartouche/odd-{number}"),
            format!("{POLICIES}/odd-{number}.toml"),
        );
        make(&case.make, Path::new(&waiting), Path::new(&path), &example);
        fs::rename(&waiting, &path).unwrap();
    }

    let files: Vec<String> = (0..cases.len())
        .map(|number| format!("odd-{number}.toml"))
        .collect();
    let decisions = verdicts(&daemon, mark, &files.iter().cloned().collect());
    let wrong: Vec<_> = cases
        .iter()
        .zip(files)
        .map(|(case, file)| {
            (
                &case.make,
                format!("{} {}", case.error, case.detail),
                told(&decisions[&file]),
            )
        })
        .filter(|(_, expected, found)| expected != found)
        .collect();
    assert_eq!(wrong, [], "(case, expected, found)");
    daemon::empty_of(POLICIES, "odd-");
    let seen = hammer.stop();
    assert_eq!((seen.through, seen.lost), (0, 0));
    // the hammer is too loud for a record of each refusal; nothing else remains
    daemon.reports("nothing but losses", |report| {
        let mut reasons = report.cartouche.reasons.iter();
        reasons.all(|reason| reason.code == ReasonCode::EventsLost)
    });
    daemon.audit.is_whole();
}

#[test]
fn files_that_come_and_go_at_once_disturb_nobody() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let bystander = Tool::new("steady");
    bystander.drop(&bystander.artifact());
    daemon.comes_to("steady", Admitted);
    let fleeting = Tool::new("fleeting");
    let artifact = fleeting.artifact();
    let hammer = bystander.hammer();

    for round in 0..300 {
        fs::write(format!("{POLICIES}/gone-{}.toml", round % 7), "x").unwrap();
        fs::write(fleeting.policy(), &artifact).unwrap();
        fs::remove_file(format!("{POLICIES}/gone-{}.toml", round % 7)).unwrap();
        fs::remove_file(fleeting.policy()).unwrap();
    }

    daemon.settles();
    let seen = hammer.stop();
    assert_eq!((seen.through, seen.lost), (0, 0));
    assert_ne!(daemon.standing("fleeting"), Some(Admitted));
    fleeting.drop(&artifact);
    daemon.comes_to("fleeting", Admitted);
    fleeting.is_held();
    bystander.is_held();
    daemon.audit.is_whole();
}

#[test]
fn the_program_of_a_rejected_artifact_does_not_run() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("rejected");
    let artifact = tool.artifact();
    assert_eq!(tool.reads("mine"), Done);
    let mark = daemon.audit.mark();

    tool.drop(&artifact.replace("\"fs:read\"", "\"fs:raed\""));

    daemon.comes_to("rejected", Rejected);
    assert_eq!(tool.reads("mine"), NotStarted);
    let told = daemon
        .audit
        .tells_that(mark, "the refusal", |event| event.outcome == Ending::Denied);
    assert_eq!(told.artifact.as_deref(), Some("rejected"));
    assert_eq!(told.detail.as_deref(), Some("refused"));
    assert_eq!(told.runtime.unwrap().object, tool.path);

    tool.drop(&artifact);
    daemon.comes_to("rejected", Admitted);
    tool.is_held();

    // one that never was admitted claims nothing any more once it is gone
    let other = Tool::new("rejected-too");
    other.drop(&other.artifact().replace("\"fs:read\"", "\"fs:raed\""));
    daemon.comes_to("rejected-too", Rejected);
    assert_eq!(other.reads("mine"), NotStarted);
    other.remove();
    daemon::eventually("it is gone", || {
        daemon.standing("rejected-too").is_none().then_some(())
    });
    assert_eq!(other.reads("other"), Done);
}

#[test]
fn a_program_that_two_rejected_files_name_runs_only_when_both_are_gone() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("both");
    let bad = tool.artifact().replace("\"fs:read\"", "\"fs:raed\"");
    let (first, second) = (
        format!("{POLICIES}/both-1.toml"),
        format!("{POLICIES}/both-2.toml"),
    );
    let is_listed = |file: &str| daemon.list().iter().any(|one| one.file == file);
    for (remains, goes) in [(&first, &second), (&second, &first)] {
        for path in [&first, &second] {
            daemon::rename_into(path, bad.as_bytes()).unwrap();
            let file = path.rsplit('/').next().unwrap();
            daemon::eventually("it is rejected", || is_listed(file).then_some(()));
        }
        assert_eq!(tool.reads("mine"), NotStarted);

        fs::remove_file(goes).unwrap();
        daemon.settles();
        assert_eq!(tool.reads("mine"), NotStarted);
        fs::remove_file(remains).unwrap();
        daemon.settles();
        assert_eq!(tool.reads("other"), Done);
    }
}

#[test]
fn forgetting_one_artifact_does_not_free_a_program_that_another_holds() {
    daemon::require_lsm!();
    let mut daemon = daemon::running();
    let tool = Tool::new("held-first");
    tool.drop(&tool.artifact());
    daemon.comes_to("held-first", Admitted);
    tool.remove();
    daemon.comes_to("held-first", Revoked);
    let second = tool.artifact().replace("\"held-first\"", "\"held-second\"");
    daemon::rename_into(
        &format!("{POLICIES}/held-second.toml"),
        seal(&second).as_bytes(),
    )
    .unwrap();
    daemon.comes_to("held-second", Admitted);
    tool.is_held();

    daemon.restart();

    tool.is_held();
    daemon::cartouche_ok(&["forget", "held-first"]);
    tool.is_held();
    // also what comes to stand there later is the second one's
    tool.install("another version");
    assert_eq!(tool.reads("mine"), NotStarted);
}

#[test]
fn an_artifact_waits_for_its_program_which_does_not_run_before() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("waits");
    let artifact = tool.artifact();
    fs::remove_file(&tool.path).unwrap();
    let mark = daemon.audit.mark();

    tool.drop(&artifact);

    daemon.comes_to("waits", Waiting);
    let told = daemon.audit.tells(mark, Code::Rejected, "waits");
    assert_eq!(told.detail.as_deref(), Some("waiting"));
    // another program comes first
    tool.install("another version");
    daemon.comes_to("waits", Rejected);
    assert_eq!(tool.reads("mine"), NotStarted);
    tool.install("");
    daemon.comes_to("waits", Admitted);
    tool.is_held();
}

#[test]
fn an_artifact_waits_also_where_another_file_system_is_mounted() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("mounted");
    let artifact = tool.artifact();
    fs::remove_file(&tool.path).unwrap();
    tool.drop(&artifact);
    daemon.comes_to("mounted", Waiting);
    let room = Path::new(&tool.path).parent().unwrap().to_owned();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(&room)
        .status();
    assert!(mount.unwrap().success());
    for name in ["mine", "other"] {
        fs::write(tool.file(name), "content\n").unwrap();
    }
    daemon.settles();

    // nothing tells of the mount but the kernel's list of mounts
    tool.install("another version");
    daemon.comes_to("mounted", Rejected);
    assert_eq!(tool.reads("mine"), NotStarted);
    tool.install("");
    daemon.comes_to("mounted", Admitted);
    tool.is_held();
    let _ = Command::new("umount").arg("-l").arg(&room).status();
}

#[test]
fn an_artifact_waits_also_for_a_directory_of_its_program() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("deep");
    let deep = Tool {
        id: "deep".to_owned(),
        room: tool.room.clone(),
        path: format!("{}/a/b/tool", tool.room),
    };
    fs::create_dir_all(format!("{}/a/b", tool.room)).unwrap();
    deep.install("");
    let artifact = deep.artifact();
    fs::remove_dir_all(format!("{}/a", tool.room)).unwrap();

    deep.drop(&artifact);

    daemon.comes_to("deep", Waiting);
    fs::create_dir(format!("{}/a", tool.room)).unwrap();
    fs::create_dir(format!("{}/a/b", tool.room)).unwrap();
    deep.install("");
    daemon.comes_to("deep", Admitted);
    deep.is_held();
}

#[test]
fn a_replaced_program_does_not_run_until_the_artifact_matches() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("upgraded");
    tool.drop(&tool.artifact());
    daemon.comes_to("upgraded", Admitted);
    let mut running = tool.start();
    let mark = daemon.audit.mark();

    tool.install("another version");

    // the name is claimed: it does not run, not even before the daemon has seen it
    assert_eq!(tool.reads("mine"), NotStarted);
    let told = daemon.audit.tells_that(mark, "the refusal", |event| {
        event.code == Code::DigestMismatch && event.runtime.is_some()
    });
    assert_eq!(told.artifact.as_deref(), Some("upgraded"));
    assert_eq!(told.runtime.unwrap().object, tool.path);
    let told = daemon.audit.tells(mark, Code::Rejected, "upgraded");
    assert_eq!(told.detail.as_deref(), Some("executable-mismatch"));
    daemon.reports("UPDATE_FAILED", |report| {
        let mut reasons = report.cartouche.reasons.iter();
        reasons.any(|reason| reason.code == ReasonCode::UpdateFailed)
    });
    // the old version still runs, as it was held before
    assert_eq!(running.reads("mine"), Done);
    assert_eq!(running.reads("other"), Refused);

    tool.drop(&tool.artifact());

    daemon.comes_to("upgraded", Admitted);
    daemon.reports("ENFORCE", |report| {
        report.runtime_state == RuntimeState::Enforce
    });
    tool.is_held();
    assert_eq!(running.reads("other"), Refused);
}

#[test]
fn a_package_that_brings_program_and_artifact_together_is_admitted_by_itself() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("package");
    tool.drop(&tool.artifact());
    daemon.comes_to("package", Admitted);
    tool.install("version 2");
    let next = tool.artifact();
    tool.install("");
    daemon.settles();
    tool.is_held();

    tool.install("version 2");
    tool.drop(&next);

    daemon::eventually("it runs", || (tool.reads("mine") == Done).then_some(()));
    tool.is_held();
}

#[test]
fn an_admitted_program_cannot_be_written_to() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("pinned");
    assert!(fs::OpenOptions::new().append(true).open(&tool.path).is_ok());
    tool.drop(&tool.artifact());
    daemon.comes_to("pinned", Admitted);

    let refused = fs::OpenOptions::new()
        .append(true)
        .open(&tool.path)
        .unwrap_err();

    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    tool.remove();
    daemon.comes_to("pinned", Revoked);
    daemon::cartouche_ok(&["forget", "pinned"]);
    assert!(fs::OpenOptions::new().append(true).open(&tool.path).is_ok());
}

#[test]
fn the_first_admitted_of_two_artifacts_with_one_id_or_program_stays() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let (first, other) = (Tool::new("taken-first"), Tool::new("taken-other"));
    first.drop(&first.artifact());
    daemon.comes_to("taken-first", Admitted);
    let same_id = seal(
        &other
            .artifact()
            .replace("\"taken-other\"", "\"taken-first\""),
    );
    let same_program = seal(
        &first
            .artifact()
            .replace("\"taken-first\"", "\"taken-second\""),
    );

    for (file, text, detail) in [
        ("a-same-id.toml", same_id, "duplicate-id"),
        ("a-same-program.toml", same_program, "duplicate-executable"),
    ] {
        let mark = daemon.audit.mark();
        daemon::rename_into(&format!("{POLICIES}/{file}"), text.as_bytes()).unwrap();
        let found = told(&verdict(&daemon, mark, file));
        assert_eq!(found, format!("ERR_CART_DUPLICATE_ARTIFACT {detail}"));
    }

    first.is_held();
    assert_eq!(other.reads("mine"), NotStarted);
    // when the first goes, the next in line is not admitted by that: its program is still revoked
    let report = daemon.report();
    assert!(!report.audit_only);
}

#[test]
fn an_update_that_changes_the_id_ends_the_old_one() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("id-before");
    let artifact = tool.artifact();
    tool.drop(&artifact);
    daemon.comes_to("id-before", Admitted);
    let mut running = tool.start();

    tool.drop(&seal(&artifact.replace("\"id-before\"", "\"id-after\"")));

    daemon.comes_to("id-after", Admitted);
    assert_eq!(daemon.standing("id-before"), Some(Revoked));
    assert_eq!(running.reads("mine"), Silenced);
    tool.is_held();
    daemon::cartouche_ok(&["forget", "id-before"]);
    tool.is_held();
    daemon.reports("ENFORCE", |report| {
        report.runtime_state == RuntimeState::Enforce
    });
}

#[test]
fn what_an_update_no_longer_names_is_still_held_back_by_a_rejected_file() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let (tool, second) = (Tool::new("two-programs"), Tool::new("two-second"));
    let alone = tool.artifact();
    let block = second.artifact();
    let block = block
        [block.find("[[artifact.executable]]").unwrap()..block.find("[envelope]").unwrap()]
        .to_owned();
    let both = seal(&alone.replace("[envelope]", &format!("{block}[envelope]")));
    tool.drop(&both);
    daemon.comes_to("two-programs", Admitted);
    assert_eq!(second.reads("other"), Refused);
    second.drop(&second.artifact().replace("\"fs:read\"", "\"fs:raed\""));
    daemon.comes_to("two-second", Rejected);
    assert_eq!(second.reads("other"), Refused);

    tool.drop(&alone);

    daemon::eventually("it does not run", || {
        (second.reads("mine") == NotStarted).then_some(())
    });
    tool.is_held();
    second.remove();
    daemon::eventually("it is free", || {
        (second.reads("other") == Done).then_some(())
    });
}
