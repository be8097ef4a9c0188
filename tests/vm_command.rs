//! Every command against a living daemon: what it does, what it says to people and to programs, and how it
//! ends when it cannot do what it was told.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use cartouche::artifact::digest::sha256_hex;
use cartouche::command::cli;
use cartouche::control::Standing::{Admitted, Rejected, Revoked, Waiting};
use cartouche::event::Code;
use daemon::Outcome::{Done, NotStarted, Refused};
use daemon::{POLICIES, Tool, cartouche, cartouche_json, cartouche_ok, seal};
use serde_json::Value;

/// A directory for drafts.
const DESK: &str = "/srv/desk";

const LOG: &str = "/var/lib/cartouche/audit.jsonl";

/// Puts a text on the desk.
fn put(name: &str, text: &str) -> String {
    fs::create_dir_all(DESK).unwrap();
    let path = format!("{DESK}/{name}");
    fs::write(&path, text).unwrap();
    path
}

/// Asserts that a command ends so, and says these words on standard error; with `--json` the same in JSON.
#[track_caller]
fn fails(arguments: &[&str], code: i32, words: &[&str]) {
    let output = cartouche(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert_eq!(output.stdout, b"", "{arguments:?}");
    let (json_code, json) = cartouche_json(arguments);
    assert_eq!(json_code, Some(code), "{arguments:?}: {json}");
    assert_eq!(json["exit"], code, "{arguments:?}: {json}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: {said:?}: {word:?}");
        let told = json["error"].as_str().unwrap();
        assert!(told.contains(word), "{arguments:?}: {told:?}: {word:?}");
    }
}

/// Asserts that the answer is so many; both forms are returned.
#[track_caller]
fn answers(arguments: &[&str], code: i32) -> (String, Value) {
    let output = cartouche(arguments);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {output:?}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with('\n'), "{arguments:?}: {text:?}");
    let (json_code, json) = cartouche_json(arguments);
    assert_eq!(json_code, Some(code), "{arguments:?}: {json}");
    (text, json)
}

/// The command of an ordinary user.
fn as_nobody(arguments: &[&str]) -> Output {
    Command::new("/usr/bin/cartouche")
        .args(arguments)
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap()
}

#[test]
fn every_command_explains_itself_and_refuses_what_it_does_not_know() {
    daemon::require_lsm!();
    let _daemon = daemon::running();
    let names: Vec<String> = cli()
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    assert!(names.len() >= 12, "{names:?}");

    let help = cartouche_ok(&["--help"]);
    assert!(help.contains("Exit codes:\n    0  Done"), "{help}");
    for name in &names {
        assert!(help.contains(&format!("\n  {name} ")), "{help}");
        let own = cartouche_ok(&[name, "--help"]);
        assert!(own.contains(&format!("cartouche {name}")), "{own}");
        assert_eq!(cartouche(&[name, "--wrong"]).status.code(), Some(2));
        let (code, json) = cartouche_json(&[name, "--wrong"]);
        assert_eq!((code, &json["exit"]), (Some(2), &2.into()), "{json}");
        assert!(
            json["error"].as_str().unwrap().contains("--wrong"),
            "{json}"
        );
    }
    assert_eq!(cartouche(&["wrong"]).status.code(), Some(2));
    assert_eq!(cartouche(&[]).status.code(), Some(2));
    let daemons = Command::new("/usr/sbin/cartouched").arg("--help").output();
    let said = String::from_utf8(daemons.unwrap().stdout).unwrap();
    assert!(said.contains("22  Refused: BPF_LSM_DISABLED"), "{said}");
}

#[test]
fn what_the_commands_and_files_refer_to_is_installed() {
    daemon::require_lsm!();
    let _daemon = daemon::running();
    let installed = |path: &str| format!("/job/installed{path}");

    let posture = String::from_utf8(cartouche(&["posture"]).stdout).unwrap();
    let scope = fs::read_to_string(installed("/etc/cartouche/scope.toml")).unwrap();

    for (text, document) in [(&posture, "threat-model.md"), (&scope, "artifact.md")] {
        let path = format!("/usr/share/doc/cartouche/{document}");
        assert!(text.contains(&path), "{text}");
        assert!(fs::metadata(installed(&path)).unwrap().is_file());
    }
    let documents = installed("/usr/share/doc/cartouche");
    for document in [
        "README.md",
        "SECURITY.md",
        "artifact.md",
        "codes.md",
        "way-out.md",
    ] {
        let text = fs::read_to_string(format!("{documents}/{document}")).unwrap();
        let links = text
            .split("](")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap());
        for link in links.filter(|link| !link.contains("://")) {
            let there = fs::metadata(format!("{documents}/{link}"));
            assert!(there.is_ok_and(|file| file.is_file()), "{document}: {link}");
        }
    }
    for file in [
        "schemas/artifact.json",
        "digest_reference.py",
        "LICENSE-MIT",
    ] {
        assert!(
            fs::metadata(format!("{documents}/{file}")).is_ok(),
            "{file}"
        );
    }
    for directory in ["policies.d", "cartouche.toml.d"] {
        let path = installed(&format!("/etc/cartouche/{directory}"));
        assert!(fs::metadata(path).unwrap().is_dir());
    }
}

/// A program of Debian under a name of its own, what it is started with, and the profiles it needs.
const PROGRAMS: [(&str, &[&str], &[&str]); 4] = [
    ("cat", &["/dev/null"], &["base"]),
    ("getent", &["passwd", "root"], &["base", "users", "dns"]),
    ("getent", &["hosts", "localhost"], &["base", "users", "dns"]),
    ("dash", &["-c", "echo started"], &["base"]),
];

#[test]
fn the_draft_of_new_starts_its_program_once_it_is_sealed_and_installed() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let _ = fs::remove_dir_all("/srv/drafted");
    fs::create_dir_all("/srv/drafted").unwrap();

    for (number, (name, arguments, profiles)) in PROGRAMS.iter().enumerate() {
        let id = format!("drafted-{number}");
        let program = format!("/srv/drafted/{name}-{number}");
        fs::copy(format!("/usr/bin/{name}"), &program).unwrap();
        let (text, json) = answers(&["new", &program, "--id", &id], 0);
        assert_eq!(json["id"], *id);
        assert_eq!(json["draft"].as_str(), Some(text.as_str()));
        assert_eq!(json["warnings"], serde_json::json!([]));
        let draft: toml::Table = text.parse().unwrap();
        assert_eq!(draft["artifact"]["id"].as_str(), Some(id.as_str()));
        let executable = &draft["artifact"]["executable"][0];
        assert_eq!(executable["path"].as_str(), Some(program.as_str()));
        let hash = sha256_hex(&fs::read(&program).unwrap());
        assert_eq!(executable["sha256"].as_str(), Some(hash.as_str()));
        for profile in *profiles {
            assert!(text.contains(&format!("\"profile:{profile}\"")), "{text}");
        }
        let file = put(&format!("{id}.toml"), &text);

        let (_, json) = answers(&["verify", &file], 3);
        assert_eq!(json["error"], "ERR_CART_DIGEST_MISMATCH");
        cartouche_ok(&["seal", &file]);
        answers(&["verify", &file], 0);
        let (_, json) = cartouche_json(&["install", &file]);

        assert_eq!(json["standing"], "admitted", "{json}");
        let output = Command::new(&program).args(*arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{name} {arguments:?}: {output:?}: {}",
            cartouche_ok(&["denials", &id])
        );
        let held = daemon.listed(&id).unwrap();
        assert_eq!((held.standing, held.denials), (Admitted, 0), "{held:?}");
    }
    // and it is held to what the draft declares
    let refused = Command::new("/srv/drafted/cat-0")
        .arg("/etc/shadow")
        .output();
    let refused = refused.unwrap();
    assert!(!refused.status.success(), "{refused:?}");
    let (text, _) = answers(&["denials", "drafted-0"], 0);
    assert!(text.contains("fs:read /etc/shadow"), "{text}");
}

#[test]
fn the_draft_of_a_script_starts_it_too() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let _ = fs::remove_dir_all("/srv/script");
    fs::create_dir_all("/srv/script").unwrap();
    let path = "/srv/script/hello";
    fs::write(path, "#!/bin/sh\necho hello\nread -r line </etc/shadow\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();

    let (text, _) = answers(&["new", path, "--id", "hello"], 0);
    assert!(
        text.contains("It is a script that /usr/bin/dash runs"),
        "{text}"
    );
    let bypass = format!("# Warning: {path} is a script and is held only");
    assert!(text.contains(&bypass), "{text}");
    let file = put("hello.toml", &text);
    cartouche_ok(&["seal", &file]);
    cartouche_ok(&["install", &file]);

    daemon.comes_to("hello", Admitted);
    let output = Command::new(path).output().unwrap();
    assert_eq!(output.stdout, b"hello\n", "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("/etc/shadow: Operation not permitted"),
        "{said}"
    );
}

#[test]
fn new_finds_a_program_as_a_shell_does_and_says_what_cannot_become_an_artifact() {
    daemon::require_lsm!();
    let _daemon = daemon::running();
    let room = "/srv/found";
    let _ = fs::remove_dir_all(room);
    fs::create_dir_all(room).unwrap();
    symlink("/usr/bin/cat", format!("{room}/link")).unwrap();
    fs::write(format!("{room}/garbage"), "no program").unwrap();
    fs::copy("/usr/bin/cat", format!("{room}/setuid")).unwrap();
    fs::set_permissions(format!("{room}/setuid"), fs::Permissions::from_mode(0o4755)).unwrap();

    let (by_name, _) = answers(&["new", "cat"], 0);
    assert!(by_name.contains("path   = \"/usr/bin/cat\""), "{by_name}");
    assert!(by_name.contains("id          = \"cat\""), "{by_name}");
    let (linked, _) = answers(&["new", &format!("{room}/link")], 0);
    assert!(linked.contains("leads to /usr/bin/cat"), "{linked}");
    let (_, setuid) = answers(&["new", &format!("{room}/setuid")], 0);
    assert!(
        setuid["warnings"][0]
            .as_str()
            .unwrap()
            .contains("chmod ug-s")
    );
    let (_, shell) = answers(&["new", "/usr/bin/dash"], 0);
    let warning = shell["warnings"][0].as_str().unwrap();
    assert!(warning.contains("scope.toml"), "{warning}");

    fails(
        &["new", "no-such-program"],
        4,
        &["in PATH", "write its path"],
    );
    fails(&["new", "/srv/none"], 4, &["\"/srv/none\"", "No such file"]);
    fails(&["new", room], 2, &["is not a regular file"]);
    let garbage = format!("{room}/garbage");
    fails(&["new", &garbage], 2, &["neither an ELF file nor a script"]);
    for wrong in [["--id", "No Id"], ["--publisher", "a.b"]] {
        let output = cartouche(&["new", "cat", wrong[0], wrong[1]]);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("is of the form [a-z0-9]"), "{said}");
    }
}

#[test]
fn sealing_changes_the_digest_and_nothing_else() {
    daemon::require_lsm!();
    let _daemon = daemon::running();
    let tool = Tool::new("sealed");
    let draft = cartouche_ok(&["new", &tool.path, "--id", "sealed"]);
    let file = put("sealed.toml", &format!("# kept\n{draft}"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&file, Some(65534), Some(65533)).unwrap();

    let first = cartouche_json(&["seal", &file]);
    let sealed = fs::read_to_string(&file).unwrap();
    let second = cartouche_json(&["seal", &file]);

    assert_eq!((first.0, &first.1["changed"]), (Some(0), &true.into()));
    assert_eq!((second.0, &second.1["changed"]), (Some(0), &false.into()));
    assert_eq!(first.1["digest"], second.1["digest"]);
    let digest = first.1["digest"].as_str().unwrap();
    assert!(sealed.starts_with("# kept\n"), "{sealed}");
    let without: Vec<_> = sealed.lines().filter(|l| !l.contains(digest)).collect();
    assert_eq!(without.len() + 1, sealed.lines().count());
    assert!(
        without
            .iter()
            .all(|line| draft.contains(line) || *line == "# kept")
    );
    let looks = fs::metadata(&file).unwrap();
    assert_eq!(looks.permissions().mode() & 0o777, 0o640);
    assert_eq!((looks.uid(), looks.gid()), (65534, 65533));

    let faulty = sealed.replace("profile:base", "fs:raed");
    let file = put("faulty.toml", &faulty);
    fails(&["seal", &file], 3, &["was not sealed", "fs:raed", "line "]);
    assert_eq!(fs::read_to_string(&file).unwrap(), faulty);
    fails(
        &["seal", "/srv/none.toml"],
        4,
        &["\"/srv/none.toml\"", "No such file"],
    );
}

#[test]
fn verify_says_what_the_daemon_would_say() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("verified");
    let artifact = tool.artifact();
    let good = put("verified.toml", &artifact);

    let (text, json) = answers(&["verify", &good], 0);
    assert!(
        text.contains("would be admitted: verified 1 of local"),
        "{text}"
    );
    assert_eq!(json["admissible"], true);
    assert_eq!(json["effective"]["id"], "verified");

    let misspelt = put(
        "misspelt.toml",
        &artifact.replace("\"fs:read\"", "\"fs:raed\""),
    );
    let (text, json) = answers(&["verify", &misspelt], 3);
    assert_eq!(json["error"], "ERR_CART_INVALID_ENVELOPE");
    assert!(text.contains("line ") && text.contains("fs:raed"), "{text}");
    let wide = tool.artifact_that(&[("fs:write", "/etc/passwd")]);
    let (text, json) = answers(&["verify", &put("wide.toml", &wide)], 3);
    assert_eq!(json["error"], "ERR_CART_OVER_SCOPED");
    assert!(text.contains("/etc/passwd"), "{text}");
    fails(&["verify", "/srv/none.toml"], 4, &["\"/srv/none.toml\""]);
    assert_eq!(cartouche(&["verify"]).status.code(), Some(2));

    // the same verdicts as the daemon's
    for (text, standing) in [(&artifact, Admitted), (&wide, Rejected)] {
        let _ = fs::remove_file(tool.policy());
        daemon.settles();
        tool.drop(text);
        daemon.settles();
        let listed = daemon.list();
        let found = listed
            .iter()
            .find(|one| one.file == "verified.toml")
            .unwrap();
        // once admitted, a failed update leaves the artifact revoked, and the file rejected beside it
        let standings: Vec<_> = listed.iter().map(|one| one.standing).collect();
        assert!(standings.contains(&standing), "{found:?} {standings:?}");
    }

    // also of a file that others can change
    let _ = fs::remove_file(tool.policy());
    daemon.settles();
    tool.drop(&artifact);
    fs::set_permissions(tool.policy(), fs::Permissions::from_mode(0o666)).unwrap();
    let (text, json) = answers(&["verify", &tool.policy()], 3);
    assert_eq!(json["detail"], "untrusted", "{text}");
    assert!(text.contains("chmod go-w"), "{text}");
    fs::remove_file(tool.policy()).unwrap();
    daemon.settles();

    fs::remove_file(&tool.path).unwrap();
    let (text, json) = answers(&["verify", &good], 3);
    assert_eq!(json["waiting"], true, "{json}");
    assert!(text.contains("would wait"), "{text}");
    let (_, json) = answers(&["verify", "--no-executables", &good], 0);
    assert_eq!(json["admissible"], true);
    // without the programs everything else still counts
    let (_, json) = answers(&["verify", "--no-executables", &misspelt], 3);
    assert_eq!(json["error"], "ERR_CART_INVALID_ENVELOPE");
}

#[test]
fn install_waits_for_the_verdict_and_ends_with_it() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("installed");
    let artifact = tool.artifact();
    let file = put("installed.toml", &artifact);
    assert_eq!(tool.reads("other"), Done);

    let output = cartouche(&["install", &file]);

    // at this moment, not later
    assert_eq!(tool.reads("other"), Refused);
    assert_eq!(tool.reads("mine"), Done);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let target = format!("{POLICIES}/installed.toml");
    assert!(
        said.contains(&format!("{target}: admitted as installed")),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&target).unwrap(), artifact);
    // again: the same content has its verdict already
    let (_, json) = answers(&["install", &file], 0);
    assert_eq!(
        (&json["standing"], &json["id"]),
        (&"admitted".into(), &"installed".into())
    );

    // rejected by the command itself: nothing is copied
    let bad = put("bad.toml", &artifact.replace("\"fs:read\"", "\"fs:raed\""));
    let (text, json) = answers(&["install", &bad], 3);
    assert_eq!(json["error"], "ERR_CART_INVALID_ENVELOPE", "{text}");
    assert!(!fs::exists(format!("{POLICIES}/bad.toml")).unwrap());
    assert_eq!(tool.reads("mine"), Done);

    // rejected by what only the daemon knows
    let rival = Tool::new("rival");
    let taken = seal(&rival.artifact().replace("\"rival\"", "\"installed\""));
    let (text, json) = answers(&["install", &put("rival.toml", &taken)], 3);
    assert_eq!(json["standing"], "rejected");
    assert_eq!(json["error"], "ERR_CART_DUPLICATE_ARTIFACT");
    assert!(
        text.contains("rival.toml: rejected: ERR_CART_DUPLICATE_ARTIFACT"),
        "{text}"
    );
    // and it does not lie there to take effect later
    assert!(
        text.contains("rival.toml: it was taken away again"),
        "{text}"
    );
    assert!(!fs::exists(format!("{POLICIES}/rival.toml")).unwrap());
    daemon.settles();
    assert_eq!(rival.reads("other"), Done);
    // a file that it would have replaced comes back
    let kept = rival.artifact();
    answers(&["install", &put("rival.toml", &kept)], 0);
    let (text, _) = answers(&["install", &put("rival.toml", &taken)], 3);
    assert!(text.contains("that was there before is put back"), "{text}");
    assert_eq!(fs::read_to_string(rival.policy()).unwrap(), kept);
    daemon.comes_to("rival", Admitted);
    assert_eq!(rival.reads("mine"), Done);
    assert_eq!(rival.reads("other"), Refused);

    // waits for its program
    let late = Tool::new("late");
    let waiting = put("late.toml", &late.artifact());
    fs::remove_file(&late.path).unwrap();
    let (text, json) = answers(&["install", &waiting], 3);
    assert_eq!(json["standing"], "waiting", "{text}");
    daemon.comes_to("late", Waiting);

    let odd = put("odd.conf", &artifact);
    fails(&["install", &odd], 2, &["rename it to NAME.toml"]);
    fails(&["install", "/srv/none.toml"], 4, &["\"/srv/none.toml\""]);
    let impatient = cartouche(&["install", "--timeout", "soon", &file]);
    assert_eq!(impatient.status.code(), Some(2));
}

#[test]
fn forget_says_who_holds_the_program_next() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("first");
    let second = seal(&tool.artifact().replace("\"first\"", "\"second\""));
    let path = format!("{POLICIES}/second.toml");
    fs::write(&path, &second).unwrap();
    daemon.comes_to("second", Rejected);
    tool.remove();
    daemon.comes_to("first", Revoked);

    let (_, json) = cartouche_json(&["forget", "first"]);

    let told = json["message"].as_str().unwrap().to_owned();
    assert!(
        told.contains("is held to the artifact \"second\" now"),
        "{told}"
    );
    assert_eq!(tool.reads("other"), Refused);
    fs::remove_file(&path).unwrap();
    daemon.comes_to("second", Revoked);
    let (_, json) = cartouche_json(&["forget", "second"]);
    let told = json["message"].as_str().unwrap().to_owned();
    assert!(
        told.contains("runs without an envelope from now on"),
        "{told}"
    );
    assert_eq!(tool.reads("other"), Done);
}

#[test]
fn an_upgraded_program_runs_again_once_its_artifact_names_it() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("upgraded");
    let file = put("upgraded.toml", &tool.artifact());
    let mark = daemon.audit.mark();
    tool.install("version 2");
    assert_eq!(tool.reads("mine"), NotStarted);
    daemon.settles();

    let (text, _) = answers(&["posture"], 3);
    assert!(
        text.contains("A program of upgraded is not the one"),
        "{text}"
    );
    let (text, _) = answers(&["list"], 0);
    assert!(text.contains("Its program does not run"), "{text}");
    let told = daemon.audit.tells_that(mark, "the upgrade", |event| {
        event.code == Code::DigestMismatch && event.runtime.is_some()
    });
    assert!(told.message.unwrap().contains("seal --update-hashes"));
    let (_, json) = answers(&["seal", "--update-hashes", &file], 0);
    assert!(json["digest"].as_str().unwrap().starts_with("sha256:"));
    answers(&["install", &file], 0);

    assert_eq!(tool.reads("mine"), Done);
    assert_eq!(tool.reads("other"), Refused);
}

#[test]
fn a_stopped_daemon_s_verdict_does_not_come_in_time() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("slow");
    let file = put("slow.toml", &tool.artifact());
    daemon.signal(rustix::process::Signal::STOP);

    let begun = Instant::now();
    let (code, json) = cartouche_json(&["install", "--timeout", "1s", &file]);

    assert!(begun.elapsed() < Duration::from_secs(30));
    daemon.signal(rustix::process::Signal::CONT);
    assert_eq!((code, &json["standing"]), (Some(7), &Value::Null), "{json}");
    // copied all the same, and judged as soon as somebody can
    daemon.comes_to("slow", Admitted);
    answers(&["install", &file], 0);
}

#[test]
fn list_status_and_inspect_tell_what_is_in_force_and_what_it_did() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("shown");
    let gone = Tool::new("shown-gone");
    gone.drop(&gone.artifact());
    daemon.comes_to("shown-gone", Admitted);
    gone.remove();
    let bad = Tool::new("shown-bad");
    bad.drop(&bad.artifact().replace("\"fs:read\"", "\"fs:raed\""));
    daemon.comes_to("shown-gone", Revoked);
    daemon.comes_to("shown-bad", Rejected);
    let mut running = tool.start();
    for _ in 0..3 {
        assert_eq!(running.reads("mine"), Done);
    }
    assert_eq!(running.reads("other"), Refused);

    let (text, json) = answers(&["list"], 0);
    let of = |id: &str| {
        let list = json.as_array().unwrap();
        list.iter().find(|one| one["id"] == id).unwrap().clone()
    };
    let shown = of("shown");
    assert_eq!(shown["standing"], "admitted");
    assert_eq!(shown["mode"], "enforce");
    assert_eq!(
        (&shown["tasks"], &shown["denials"]),
        (&1.into(), &1.into()),
        "{shown}"
    );
    assert_eq!(
        (&shown["version"], &shown["publisher"]),
        (&"1".into(), &"local".into())
    );
    assert_eq!(shown["problem"], Value::Null);
    assert_eq!(of("shown-gone")["standing"], "revoked");
    assert_eq!(of("shown-gone")["mode"], Value::Null);
    assert_eq!(of("shown-bad")["standing"], "rejected");
    let problem = of("shown-bad")["problem"].clone();
    assert!(
        problem
            .as_str()
            .unwrap()
            .contains("ERR_CART_INVALID_ENVELOPE")
    );
    assert!(text.starts_with("ID "), "{text}");
    assert!(
        text.contains("shown-bad.toml: ERR_CART_INVALID_ENVELOPE"),
        "{text}"
    );

    let (text, json) = answers(&["status"], 0);
    assert_eq!(json["state"], daemon.report().runtime_state.as_str());
    assert_eq!(json["pid"], daemon.pid().as_raw_nonzero().get());
    assert_eq!(json["artifacts"]["admitted"], 1);
    assert_eq!(json["artifacts"]["revoked"], 1);
    assert_eq!(json["artifacts"]["rejected"], 1);
    assert_eq!(
        (&json["tasks"], &json["lost_events"]),
        (&1.into(), &0.into()),
        "{json}"
    );
    assert!(
        text.contains("1 admitted, 0 waiting, 1 rejected, 1 revoked"),
        "{text}"
    );

    let (text, json) = answers(&["inspect", "shown"], 0);
    assert_eq!(json["listed"]["id"], "shown");
    let rule = format!("fs:read {}", tool.file("mine"));
    assert_eq!(json["uses"][&rule], 3, "{}", json["uses"]);
    assert_eq!(json["effective"]["executables"][0]["path"], *tool.path);
    assert!(
        text.contains(&format!("{}  used 3 times", tool.file("mine"))),
        "{text}"
    );
    let (_, json) = answers(&["inspect", "shown-gone"], 0);
    assert_eq!(
        (&json["listed"]["standing"], &json["effective"]),
        (&"revoked".into(), &Value::Null)
    );
    let (text, _) = answers(&["inspect", "shown-bad"], 0);
    assert!(
        text.contains("Problem: ERR_CART_INVALID_ENVELOPE"),
        "{text}"
    );
    fails(
        &["inspect", "no-such"],
        4,
        &["There is no artifact \"no-such\"; \"cartouche list\" shows all"],
    );
    fails(
        &["inspect", "shown-b"],
        4,
        &["there is \"shown\", \"shown-bad\""],
    );
}

#[test]
fn a_program_whose_artifact_is_rejected_is_told_so_by_denials_and_forget() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let bad = Tool::new("unsound");
    bad.drop(&bad.artifact().replace("\"fs:read\"", "\"fs:raed\""));
    daemon.comes_to("unsound", Rejected);
    let mark = daemon.audit.mark();
    assert_eq!(bad.reads("mine"), NotStarted);
    daemon.audit.tells(mark, Code::Drift, "unsound");

    let (text, json) = answers(&["denials", "unsound"], 0);

    assert!(
        text.contains("Its artifact is not admitted; \"cartouche list\" tells why"),
        "{text}"
    );
    assert_eq!(json[0]["detail"], "refused", "{json}");
    fails(
        &["forget", "unsound"],
        1,
        &[
            "is rejected, not revoked",
            "remove its file \"unsound.toml\"",
        ],
    );
    assert_eq!(bad.reads("mine"), NotStarted);
    bad.remove();
    daemon.settles();
    assert_eq!(bad.reads("mine"), Done);
}

#[test]
fn the_lines_that_denials_shows_allow_what_was_refused() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("asks");
    let other = Tool::new("asks-not");
    other.drop(&other.artifact());
    daemon.comes_to("asks-not", Admitted);
    let mark = daemon.audit.mark();
    for _ in 0..3 {
        assert_eq!(tool.reads("other"), Refused);
    }
    assert_eq!(other.reads("other"), Refused);
    daemon.audit.counts(mark, "asks", &tool.file("other"), 3);
    daemon
        .audit
        .counts(mark, "asks-not", &other.file("other"), 1);

    let (text, json) = answers(&["denials", "asks"], 0);

    let list = json.as_array().unwrap();
    assert_eq!(list.len(), 1, "{json}");
    let denial = &list[0];
    assert_eq!(denial["artifact"], "asks");
    assert_eq!(
        (&denial["code"], &denial["outcome"]),
        (&"CART-007".into(), &"denied".into())
    );
    assert_eq!(
        (&denial["operation"], &denial["count"]),
        (&"fs:read".into(), &3.into())
    );
    assert_eq!(denial["object"], tool.file("other"));
    assert_eq!(denial["exe"], *tool.path);
    assert!(
        text.contains("This would allow it, in the artifact asks"),
        "{text}"
    );
    // all but the reason, which nobody knows but who adds it
    let allow = denial["allow"]
        .as_str()
        .unwrap()
        .replace("\"\"", "\"tested\"");
    let wider = seal(&format!("{}\n{allow}", tool.artifact()));
    let (_, verdict) = answers(&["install", &put("asks.toml", &wider)], 0);
    assert_eq!(verdict["standing"], "admitted");
    assert_eq!(tool.reads("other"), Done);

    let (_, all) = answers(&["denials", "--all"], 0);
    let ids: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|d| &d["artifact"])
        .collect();
    assert!(
        ids.contains(&&"asks".into()) && ids.contains(&&"asks-not".into()),
        "{ids:?}"
    );
    // newer than now: nothing; newer than an hour ago: all
    let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60);
    let (text, json) = answers(&["denials", "--since", &now.to_string(), "asks"], 0);
    assert_eq!(
        (text.as_str(), json),
        ("Nothing was refused\n", serde_json::json!([]))
    );
    // declared by now, so it is not shown as refused
    let (text, json) = answers(&["denials", "--since", "1h", "asks"], 0);
    assert_eq!(json, serde_json::json!([]));
    assert!(text.contains("--all shows 1"), "{text}");
    let (_, json) = answers(&["denials", "--all", "--since", "1h", "asks"], 0);
    assert_eq!(json[0]["declared"], true, "{json}");
    fails(
        &["denials", "no-such"],
        4,
        &["There is no artifact \"no-such\""],
    );
    fails(
        &["denials", "--since", "lately"],
        2,
        &["\"lately\"", "write 1h"],
    );
    fails(&["denials", "--since", "-1h"], 2, &["without the minus"]);
}

#[test]
fn audit_mode_lets_through_and_tells_what_it_would_refuse() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("trial");
    let mark = daemon.audit.mark();

    let (text, json) = answers(&["mode", "trial", "audit"], 0);

    assert_eq!(json["done"], true);
    assert!(text.contains("in audit mode. Nothing is refused"), "{text}");
    assert_eq!(tool.reads("other"), Done);
    assert_eq!(tool.reads("mine"), Done);
    let told = daemon.audit.tells(mark, Code::Drift, "trial");
    assert_eq!(told.outcome, cartouche::event::Outcome::WouldDeny);
    assert_eq!(told.runtime.unwrap().object, tool.file("other"));
    let told = daemon.audit.tells(mark, Code::ModeChanged, "trial");
    assert_eq!(told.detail.as_deref(), Some("audit"));
    let (_, denials) = answers(&["denials", "trial"], 0);
    assert_eq!(denials[0]["outcome"], "would-deny");
    let (_, listed) = answers(&["inspect", "trial"], 0);
    assert_eq!(listed["listed"]["mode"], "audit");
    assert_eq!(listed["listed"]["mode_until"], Value::Null);
    let (text, _) = answers(&["posture"], 3);
    assert!(text.contains("ARTIFACT_IN_AUDIT"), "{text}");

    answers(&["mode", "trial", "enforce"], 0);

    assert_eq!(tool.reads("other"), Refused);
    assert_eq!(tool.reads("mine"), Done);
    daemon.reports("ENFORCE", |report| {
        report.runtime_state.as_str() == "ENFORCE"
    });
}

#[test]
fn a_mode_that_was_set_for_a_time_ends_by_itself_and_the_report_says_so() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("briefly");
    daemon.reports("ENFORCE", |report| {
        report.runtime_state.as_str() == "ENFORCE"
    });
    let mark = daemon.audit.mark();
    let begun = Instant::now();

    let (_, json) = cartouche_json(&["mode", "briefly", "audit", "--for", "10s"]);

    assert!(
        json["message"]
            .as_str()
            .unwrap()
            .contains("in audit mode until 2"),
        "{json}"
    );
    assert_eq!(tool.reads("other"), Done);
    let (_, listed) = cartouche_json(&["inspect", "briefly"]);
    let until: jiff::Timestamp = listed["listed"]["mode_until"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let left = until.as_second() - jiff::Timestamp::now().as_second();
    assert!((0..=10).contains(&left), "{left}");
    daemon.reports("ARTIFACT_IN_AUDIT", |report| {
        report.cartouche.artifacts["briefly"].mode.as_str() == "audit"
    });
    daemon::eventually("it is refused again", || {
        (tool.reads("other") == Refused).then_some(())
    });
    assert!(
        begun.elapsed() >= Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
    daemon.audit.tells_that(mark, "the end", |event| {
        event.code == Code::ModeChanged && event.detail.as_deref() == Some("enforce")
    });
    // long before the next minute
    let ended = Instant::now();
    daemon.reports("ENFORCE", |report| {
        report.runtime_state.as_str() == "ENFORCE"
    });
    assert!(
        ended.elapsed() < Duration::from_secs(20),
        "{:?}",
        ended.elapsed()
    );
    assert_eq!(tool.reads("mine"), Done);
}

#[test]
fn a_mode_that_was_set_for_a_time_ends_also_while_no_daemon_runs() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("away");
    cartouche_ok(&["mode", "away", "audit", "--for", "2s"]);
    assert_eq!(tool.reads("other"), Done);
    assert!(daemon.stop().success());
    std::thread::sleep(Duration::from_secs(3));

    daemon.start();

    daemon::eventually("it is refused again", || {
        (tool.reads("other") == Refused).then_some(())
    });
    assert_eq!(tool.reads("mine"), Done);
    assert_eq!(daemon.listed("away").unwrap().mode_until, None);
}

#[test]
fn mode_and_forget_refuse_what_makes_no_sense() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("sensible");

    fails(
        &["mode", "no-such", "audit"],
        4,
        &["There is no artifact \"no-such\""],
    );
    fails(
        &["mode", "sensible", "enforce", "--for", "1h"],
        2,
        &["leave --for away"],
    );
    for wrong in [
        &["mode", "sensible"][..],
        &["mode", "sensible", "off"],
        &["mode", "sensible", "audit", "--for", "0s"],
        &["forget"],
        &["inspect"],
    ] {
        assert_eq!(cartouche(wrong).status.code(), Some(2), "{wrong:?}");
    }
    fails(
        &["forget", "no-such"],
        4,
        &["There is no artifact \"no-such\""],
    );
    fails(
        &["forget", "sensible"],
        1,
        &["is in force", "remove its file first"],
    );
    assert_eq!(tool.reads("other"), Refused);

    tool.remove();
    daemon.comes_to("sensible", Revoked);
    fails(
        &["mode", "sensible", "audit"],
        1,
        &["no artifact \"sensible\" in force"],
    );
    assert_eq!(tool.reads("mine"), NotStarted);
    let (_, json) = cartouche_json(&["forget", "sensible"]);
    assert_eq!(json["done"], true, "{json}");
    assert_eq!(tool.reads("other"), Done);
    fails(
        &["forget", "sensible"],
        4,
        &["There is no artifact \"sensible\""],
    );
}

#[test]
fn posture_is_the_report_and_ends_with_its_state() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("postured");
    daemon.reports("ENFORCE", |report| {
        report.runtime_state.as_str() == "ENFORCE"
    });

    let (text, json) = answers(&["posture"], 0);

    assert!(text.starts_with("State          ENFORCE\n"), "{text}");
    assert_eq!(json["runtime_state"], "ENFORCE");
    assert_eq!(
        json["cartouche"]["artifacts"]["postured"]["envelope_match"],
        true
    );
    let file = put("postured.toml", &tool.artifact());
    // whoever may not ask the daemon reads the report
    let nobody = as_nobody(&["posture"]);
    assert_eq!(nobody.status.code(), Some(0), "{nobody:?}");
    for command in [
        &["list"][..],
        &["status"],
        &["forget", "postured"],
        &["mode", "postured", "audit"],
        &["denials"],
        &["audit", "verify"],
        &["install", &file],
    ] {
        let output = as_nobody(command);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(6), "{command:?}: {said}");
        assert!(said.to_lowercase().contains("only root may"), "{said}");
    }
    assert_eq!(tool.reads("other"), Refused);

    tool.drop(&tool.artifact().replace("\"fs:read\"", "\"fs:raed\""));
    daemon.reports("DEGRADED", |report| {
        report.runtime_state.as_str() == "DEGRADED"
    });
    let (text, json) = answers(&["posture"], 3);
    assert_eq!(json["cartouche"]["reasons"][0]["code"], "UPDATE_FAILED");
    assert!(
        text.contains("Not ENFORCE, because:\n  UPDATE_FAILED  An update of postured"),
        "{text}"
    );
}

#[test]
fn without_the_daemon_every_command_says_so_or_does_its_work() {
    daemon::require_lsm!();
    let (mut daemon, tool) = daemon::with_tool("alone");
    assert_eq!(tool.reads("other"), Refused);
    daemon.audit.tells(daemon::Mark(0), Code::Drift, "alone");
    let keys =
        |json: &Value| -> Vec<String> { json.as_object().unwrap().keys().cloned().collect() };
    let (_, with_daemon) = answers(&["status"], 0);
    assert_eq!(with_daemon["running"], true);
    assert!(daemon.stop().success());

    for command in [&["mode", "alone", "audit"][..], &["forget", "alone"]] {
        fails(
            command,
            5,
            &["is not running", "systemctl start cartouched"],
        );
    }
    fails(
        &["inspect", "no-such"],
        4,
        &["was no artifact \"no-such\"; "],
    );
    fails(&["inspect", "alon"], 4, &["there is \"alone\""]);
    let (text, json) = answers(&["list"], 5);
    assert!(text.starts_with("The daemon is not running."), "{text}");
    assert_eq!(
        (&json[0]["id"], &json[0]["standing"]),
        (&"alone".into(), &"admitted".into())
    );
    let (_, json) = answers(&["status"], 5);
    assert_eq!(
        (&json["running"], &json["artifacts"]["admitted"]),
        (&false.into(), &1.into())
    );
    assert_eq!(keys(&json), keys(&with_daemon));
    let (text, _) = answers(&["inspect", "alone"], 5);
    assert!(text.contains("Standing   admitted"), "{text}");
    let (text, json) = answers(&["posture"], 5);
    assert!(text.contains("ADMISSION_STOPPED"), "{text}");
    assert_eq!(json["runtime_state"], "DEGRADED");
    let (_, json) = answers(&["denials", "alone"], 0);
    assert_eq!(json[0]["object"], tool.file("other"));
    cartouche_ok(&["audit", "verify"]);
    let late = Tool::new("alone-late");
    let file = put("alone-late.toml", &late.artifact());
    answers(&["verify", &file], 0);
    let (text, json) = answers(&["install", &file], 5);
    assert!(text.contains("copied, but there is no verdict"), "{text}");
    assert_eq!(
        (&json["standing"], &json["exit"]),
        (&Value::Null, &5.into())
    );
    assert_eq!(late.reads("other"), Done);
    assert_eq!(tool.reads("other"), Refused);

    daemon.start();

    daemon.comes_to("alone-late", Admitted);
    assert_eq!(late.reads("other"), Refused);
}

#[test]
fn audit_verify_says_whether_the_log_is_as_it_was_written() {
    daemon::require_lsm!();
    let (daemon, tool) = daemon::with_tool("chained");
    let mark = daemon.audit.mark();
    assert_eq!(tool.reads("other"), Refused);
    daemon.audit.tells(mark, Code::Drift, "chained");
    let head = daemon.report().cartouche.audit_head;

    let (text, json) = answers(&["audit", "verify", "--head", &head], 0);

    assert!(text.contains("the expected head is among them"), "{text}");
    assert_eq!(json["problems"], serde_json::json!([]));
    let absent = "0".repeat(64);
    let (_, json) = answers(&["audit", "verify", "--head", &absent], 3);
    assert_eq!(json["problems"].as_array().unwrap().len(), 1, "{json}");
    let short = cartouche(&["audit", "verify", "--head", "12"]);
    assert_eq!(short.status.code(), Some(2));

    // nothing is to be added meanwhile
    daemon.signal(rustix::process::Signal::STOP);
    let written = fs::read_to_string(LOG).unwrap();
    let object = tool.file("other");
    fs::write(LOG, written.replace(&object, "/srv/harmless")).unwrap();
    let (text, json) = answers(&["audit", "verify"], 3);
    assert!(text.contains("was edited"), "{text}");
    assert!(!json["problems"].as_array().unwrap().is_empty());
    // the report is the witness of what was cut off at the end, and of a log that is gone
    let named = daemon.report().cartouche.audit_seq;
    let (first, _) = written.split_once('\n').unwrap();
    fs::write(LOG, format!("{first}\n")).unwrap();
    let (text, json) = answers(&["audit", "verify"], 3);
    assert!(text.contains("missing at the end"), "{text}");
    assert_eq!(json["problems"][0]["last_seq"], named, "{json}");
    fs::write(LOG, &written).unwrap();
    let away = format!("{LOG}.away");
    fs::rename(LOG, &away).unwrap();
    let (text, _) = answers(&["audit", "verify"], 3);
    assert!(text.contains("the log was removed"), "{text}");
    fs::rename(&away, LOG).unwrap();
    daemon.signal(rustix::process::Signal::CONT);
    answers(&["audit", "verify"], 0);
}
