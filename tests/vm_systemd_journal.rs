//! What journald takes from the daemon, as an administrator finds it again; and the chain of the living log.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Command, Output};
use std::sync::Once;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

const POLICIES: &str = "/etc/cartouche/policies.d";
const STATE: &str = "/var/lib/cartouche";
const ROOM: &str = "/srv/journal";

/// Leaves the test where no systemd may be filled with a unit: everywhere but in a guest of the harness.
macro_rules! in_a_guest {
    () => {
        if std::env::var("CARTOUCHE_REQUIRE").as_deref() != Ok("lsm") {
            eprintln!("skipped: runs in a virtual machine only");
            return;
        }
        install();
    };
}

fn run(line: &str) -> Output {
    Command::new("sh").args(["-c", line]).output().unwrap()
}

#[track_caller]
fn succeeds(line: &str) -> String {
    let output = run(line);
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A daemon of which the log is rotated soon, and a program in it with files of its own.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        succeeds("cp -r installed/. / && systemctl daemon-reload");
        succeeds("mkdir -p /etc/cartouche/cartouche.toml.d");
        fs::write(
            "/etc/cartouche/cartouche.toml.d/audit.toml",
            "[audit]\nmax_size = \"64 KiB\"\n",
        )
        .unwrap();
        succeeds("systemctl enable --now cartouched.service");
        succeeds(&format!(
            "mkdir -p {ROOM} && cp /bin/dash {ROOM}/tool && cd {ROOM} && echo content >mine && \
             cartouche new {ROOM}/tool --id journal >draft && \
             printf '\n[[envelope.capability]]\nname = \"fs:read\"\npaths = [\"{ROOM}/mine\"]\n\
             justification = \"tested\"\n' >>draft && cartouche seal draft"
        ));
    });
}

/// Lines of the daemon's own unit, which nobody can forge, behind a cursor.
fn journal(cursor: &str) -> Vec<Value> {
    let text = succeeds(&format!(
        "journalctl --sync && journalctl -o json _SYSTEMD_UNIT=cartouched.service --after-cursor='{cursor}'"
    ));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Admits the artifact as if it had never been there.
fn admit() {
    succeeds(&format!(
        "if [ -e {POLICIES}/journal.toml ]; then
             rm {POLICIES}/journal.toml
             until cartouche forget journal; do sleep 0.2; done
         fi
         cp {ROOM}/draft {POLICIES}/journal.toml
         until cartouche inspect journal | grep -q '^Standing *admitted'; do sleep 0.1; done"
    ));
}

fn cursor() -> String {
    // the unit's own: what the kernel says comes with another clock
    let text =
        succeeds("journalctl --sync && journalctl -n 1 -o json _SYSTEMD_UNIT=cartouched.service");
    let last: Value = serde_json::from_str(text.trim()).unwrap();
    last["__CURSOR"].as_str().unwrap().to_owned()
}

/// Waits for a line that begins so and holds all these words.
#[track_caller]
fn told(cursor: &str, begin: &str, words: &[&str]) -> Value {
    let mut lines = Vec::new();
    for _ in 0..100 {
        lines = journal(cursor);
        let found = lines.iter().find(|line| {
            let text = line["MESSAGE"].as_str().unwrap_or_default();
            text.starts_with(begin) && words.iter().all(|word| text.contains(word))
        });
        if let Some(found) = found {
            return found.clone();
        }
        sleep(Duration::from_millis(200));
    }
    let texts: Vec<_> = lines.iter().map(|line| &line["MESSAGE"]).collect();
    panic!("no line {begin} {words:?}: {texts:#?}");
}

/// Asserts that a line came from the daemon, as what, and how loud.
#[track_caller]
fn is_of_daemon(line: &Value, priority: &str) {
    let pid = succeeds("systemctl show -P MainPID cartouched.service");
    assert_eq!(line["SYSLOG_IDENTIFIER"], "cartouched", "{line}");
    assert_eq!(line["PRIORITY"], priority, "{line}");
    assert_eq!(line["SYSLOG_FACILITY"], "10", "authpriv: {line}");
    assert_eq!(line["SYSLOG_PID"], pid.trim(), "{line}");
    assert_eq!(line["_PID"], pid.trim(), "{line}");
    assert_eq!(line["_TRANSPORT"], "syslog", "{line}");
}

/// The sequence number in a line is that of the record in the log, and the record says the same.
#[track_caller]
fn is_in_log(line: &Value, code: &str, outcome: &str) {
    let text = line["MESSAGE"].as_str().unwrap();
    let (_, rest) = text.split_once(" seq=").unwrap();
    let seq: u64 = rest.split(' ').next().unwrap().parse().unwrap();
    let found = succeeds(&format!("cat {STATE}/audit*.jsonl"));
    let records = found
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let record = records
        .into_iter()
        .find(|record| record["seq"] == seq)
        .unwrap();
    assert_eq!(record["code"], code, "{record}");
    assert_eq!(record["outcome"], outcome, "{record}");
}

#[test]
fn each_decision_is_one_line_under_its_code() {
    in_a_guest!();
    let start = cursor();

    admit();
    let admitted = told(
        &start,
        "CART-002 admission admitted",
        &["artifact=journal "],
    );
    succeeds(&format!("{ROOM}/tool -c 'read -r line <{ROOM}/mine'"));
    assert!(
        !run(&format!("{ROOM}/tool -c 'read -r line </etc/shadow'"))
            .status
            .success()
    );
    let words = [
        "artifact=journal op=fs:read object=\"/etc/shadow\"",
        "error=ERR_CART_DRIFT_DETECTED",
    ];
    let denied = told(&start, "CART-007 drift denied", &words);
    succeeds(&format!(
        "sed s/fs:read/fs:raed/ {ROOM}/draft >{POLICIES}/journal.toml"
    ));
    let words = ["artifact=journal ", "error=ERR_CART_INVALID_ENVELOPE"];
    let rejected = told(&start, "CART-003 admission rejected", &words);
    succeeds(&format!("rm {POLICIES}/journal.toml"));
    let revoked = told(
        &start,
        "CART-101 revocation revoked",
        &["artifact=journal "],
    );
    succeeds("cartouche forget journal");
    let forgotten = told(&start, "CART-104 forget noted", &["artifact=journal "]);

    for (line, priority, code, outcome) in [
        (&admitted, "5", "CART-002", "admitted"),
        (&denied, "4", "CART-007", "denied"),
        (&rejected, "3", "CART-003", "rejected"),
        (&revoked, "5", "CART-101", "revoked"),
        (&forgotten, "5", "CART-104", "noted"),
    ] {
        is_of_daemon(line, priority);
        is_in_log(line, code, outcome);
    }
    let text = denied["MESSAGE"].as_str().unwrap();
    assert!(text.contains(&format!("exe=\"{ROOM}/tool\"")), "{text}");
    assert!(text.contains(" uid=0"), "{text}");
    // what was allowed is no line of its own
    let lines = journal(&start);
    let of_mine = |line: &&Value| {
        line["MESSAGE"]
            .as_str()
            .unwrap_or_default()
            .contains(&format!("{ROOM}/mine\""))
    };
    let shown: Vec<_> = lines
        .iter()
        .filter(of_mine)
        .filter(|l| l["MESSAGE"].as_str().unwrap().contains("denied"))
        .collect();
    assert_eq!(shown, Vec::<&Value>::new());
}

#[test]
fn levels_tell_what_needs_attention() {
    in_a_guest!();
    let start = cursor();

    admit();
    told(
        &start,
        "CART-002 admission admitted",
        &["artifact=journal "],
    );
    succeeds(&format!("echo x >{POLICIES}/stranger.txt"));
    succeeds("cartouche mode journal audit");

    is_of_daemon(&told(&start, "CART-107 file noted", &["stranger.txt"]), "4");
    is_of_daemon(&told(&start, "CART-103 mode noted", &["detail=audit"]), "4");
    is_of_daemon(
        &told(
            &start,
            "CART-106 posture noted",
            &["reasons=ARTIFACT_IN_AUDIT"],
        ),
        "4",
    );
    is_of_daemon(
        &told(&start, "CART-010 schema valid", &["artifact=journal "]),
        "7",
    );
    succeeds(&format!("rm {POLICIES}/stranger.txt"));
    succeeds("cartouche mode journal enforce");
    is_of_daemon(
        &told(&start, "CART-103 mode noted", &["detail=enforce"]),
        "5",
    );
    let start = cursor();
    succeeds("systemctl restart cartouched.service");
    is_of_daemon(
        &told(&start, "CART-109 start noted", &["mode=enforce"]),
        "6",
    );
}

#[test]
fn a_name_with_a_line_in_it_forges_none() {
    in_a_guest!();
    admit();
    let start = cursor();
    let forged = "CART-002 admission admitted artifact=forged seq=1";
    let path = format!("{ROOM}/x\n{forged}");
    fs::write(&path, "x\n").unwrap();

    let output = Command::new(format!("{ROOM}/tool"))
        .args(["-c", &format!("read -r line <'{path}'")])
        .output()
        .unwrap();

    assert!(!output.status.success());
    let line = told(&start, "CART-007 drift denied", &["x\\u{a}CART-002"]);
    is_of_daemon(&line, "4");
    let lines = journal(&start);
    assert!(!lines.iter().any(|line| {
        line["MESSAGE"]
            .as_str()
            .unwrap_or_default()
            .starts_with(forged)
    }));
}

/// All files of the log, oldest first; the current one last.
fn log_files() -> Vec<String> {
    let text = succeeds(&format!(
        "ls {STATE}/audit.*.jsonl | sort; ls {STATE}/audit.jsonl"
    ));
    text.lines().map(str::to_owned).collect()
}

/// What `cartouche audit verify` says while a change to these files stands.
#[track_caller]
fn verdict_on(files: &[String], change: impl Fn()) -> String {
    let kept: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    change();
    let output = Command::new("cartouche")
        .args(["audit", "verify"])
        .output()
        .unwrap();
    for (file, content) in files.iter().zip(kept) {
        fs::write(file, content).unwrap();
    }
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_chain_holds_across_rotations_and_shows_every_change() {
    in_a_guest!();
    admit();
    succeeds(&format!(
        "cd {ROOM} && for i in $(seq 7); do list=$(seq -s ' ' ${{i}}00 ${{i}}99); \
         for n in $list; do echo x >f$n; done; \
         ./tool -c \"for n in $list; do read -r line <f\\$n && exit 1; done; exit 0\" || exit 1; \
         sleep 1; done"
    ));
    let mut files = Vec::new();
    for _ in 0..100 {
        files = log_files();
        if files.len() >= 4 {
            break;
        }
        sleep(Duration::from_millis(200));
    }
    assert!(files.len() >= 4, "{files:?}");
    succeeds("systemctl stop cartouched.service");
    let files = log_files();
    let report = fs::read_to_string(format!("{STATE}/capabilities.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let head = report["cartouche"]["audit_head"].as_str().unwrap();

    let said = succeeds(&format!("cartouche audit verify --head {head}"));
    assert!(
        said.contains(&format!(
            "in {} files are as they were written",
            files.len()
        )),
        "{said}"
    );

    let (old, current) = (&files[1], files.last().unwrap());
    let text = |file: &String| fs::read_to_string(file).unwrap();
    let said = verdict_on(&files, || {
        fs::write(old, text(old).replacen("\"denied\"", "\"noted\"", 1)).unwrap();
    });
    assert!(said.contains("was edited"), "{said}");
    // cut at the end of a rotated file, in the middle, and a whole file
    let said = verdict_on(&files, || {
        let cut = text(old);
        let end = cut.trim_end().rfind('\n').unwrap();
        fs::write(old, &cut[..=end]).unwrap();
    });
    assert!(said.contains("missing"), "{said}");
    let said = verdict_on(&files, || fs::remove_file(old).unwrap());
    assert!(said.contains("this file"), "{said}");
    // the last of one file and the first of the next exchanged
    let next = &files[2];
    let said = verdict_on(&files, || {
        let (a, b) = (text(old), text(next));
        let end = a.trim_end().rfind('\n').unwrap() + 1;
        let begin = b.find('\n').unwrap() + 1;
        fs::write(old, format!("{}{}", &a[..end], &b[..begin])).unwrap();
        fs::write(next, format!("{}{}", &a[end..], &b[begin..])).unwrap();
    });
    assert!(said.contains("stands at the wrong place"), "{said}");
    let said = verdict_on(&files, || {
        let (a, b) = (text(old), text(next));
        fs::write(old, b).unwrap();
        fs::write(next, a).unwrap();
    });
    assert!(said.contains("the name does not fit"), "{said}");
    // a cut at the very end shows against the head that was written down
    let whole = text(current);
    let end = whole.trim_end().rfind('\n').unwrap();
    fs::write(current, &whole[..=end]).unwrap();
    let cut = run(&format!("cartouche audit verify --head {head}"));
    fs::write(current, &whole).unwrap();
    assert_eq!(cut.status.code(), Some(3), "{cut:?}");

    // all was put back: the next daemon goes on
    succeeds("systemctl reset-failed cartouched.service; systemctl start cartouched.service");
    succeeds(&format!("cartouche audit verify --head {head}"));
}
