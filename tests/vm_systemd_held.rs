//! Programs that are recognised by where they run and not by what they are: every process of a systemd unit,
//! and what `cartouche run` starts. The program is Perl's interpreter, which other scripts use freely.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;
use std::sync::Once;
use std::thread::sleep;
use std::time::Duration;

/// Leaves the test where no systemd may be filled with units: everywhere but in a guest of the harness.
macro_rules! in_a_guest {
    () => {
        if std::env::var("CARTOUCHE_REQUIRE").as_deref() != Ok("lsm") {
            eprintln!("skipped: runs in a virtual machine only");
            return;
        }
        install();
    };
}

/// Runs a line of shell: its exit status and what it printed.
fn shell(line: &str) -> (i32, String) {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    eprintln!("$ {line}\n{text}");
    (output.status.code().unwrap_or(-1), text)
}

#[track_caller]
fn succeeds(line: &str) -> String {
    let (status, text) = shell(line);
    assert_eq!(status, 0, "{line}: {text}");
    text
}

#[track_caller]
fn eventually(line: &str) {
    for _ in 0..100 {
        if shell(line).0 == 0 {
            return;
        }
        sleep(Duration::from_millis(200));
    }
    panic!("{line}");
}

/// Tells of each file whether it can be read.
const SCRIPT: &str = r#"
$| = 1;
sub told { for (@_) { print open(my $file, "<", $_) ? "$_ read\n" : "$_ $!\n"; } }
told("/srv/held/mine", "/srv/held/other");
if (@ARGV) { sleep 1 until -e $ARGV[0]; told("/srv/held/other"); sleep 1 while 1; }
"#;

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        succeeds("cp -r installed/. / && systemctl daemon-reload");
        succeeds("systemctl enable --now cartouched.service");
        eventually("cartouche posture");
        fs::create_dir_all("/srv/held").unwrap();
        for name in ["mine", "other"] {
            fs::write(format!("/srv/held/{name}"), "content").unwrap();
        }
        fs::write("/srv/held/script.pl", SCRIPT).unwrap();
    });
    succeeds("rm -f /etc/cartouche/policies.d/*.toml /srv/held/gate");
    for id in ["held", "taken"] {
        shell(&format!("cartouche forget {id}"));
    }
    succeeds("systemctl reset-failed");
}

/// A unit that runs the script, with these lines beside.
fn unit(name: &str, lines: &str) {
    fs::write(
        format!("/run/systemd/system/{name}.service"),
        format!(
            "[Service]\nExecStart=/usr/bin/perl /srv/held/script.pl\n\
             StandardOutput=truncate:/srv/held/{name}.out\n{lines}\n"
        ),
    )
    .unwrap();
    succeeds("systemctl daemon-reload");
}

/// Seals and installs an artifact for Perl in a unit.
fn artifact(id: &str, unit: &str) -> (i32, String) {
    let path = format!("/srv/held/{id}.toml");
    let hash = succeeds("sha256sum /usr/bin/perl");
    fs::write(
        &path,
        format!(
            "schema_version = \"1.0.0\"\n[artifact]\nid = \"{id}\"\nversion = \"1\"\npublisher = \"local\"\n\
             [[artifact.executable]]\npath = \"/usr/bin/perl\"\nsha256 = \"{}\"\n\
             [artifact.unit]\nname = \"{unit}\"\n[envelope]\n\
             [[envelope.capability]]\nname = \"profile:base\"\njustification = \"starts\"\n\
             [[envelope.capability]]\nname = \"fs:read\"\n\
             paths = [\"/srv/held/script.pl\", \"/srv/held/mine\", \"/usr/share/perl/**\", \"/usr/lib/**\"]\n\
             justification = \"tested\"\n",
            hash.split(' ').next().unwrap()
        ),
    )
    .unwrap();
    succeeds(&format!("cartouche seal {path}"));
    shell(&format!("cartouche install {path}"))
}

#[track_caller]
fn says(name: &str, text: &str) {
    eventually(&format!("grep -qxF '{text}' /srv/held/{name}.out"));
}

const READ: &str = "/srv/held/mine read";
const REFUSED: &str = "/srv/held/other Operation not permitted";
const FREE: &str = "/srv/held/other read";

#[test]
fn every_process_of_a_unit_is_held_and_the_same_interpreter_elsewhere_is_not() {
    in_a_guest!();
    unit("held", "");
    assert_eq!(artifact("held", "held.service").0, 0);

    succeeds("systemctl start held.service");

    says("held", READ);
    says("held", REFUSED);
    let free = succeeds("perl /srv/held/script.pl");
    assert!(free.contains(FREE), "{free}");
    assert!(succeeds("cartouche inspect held").contains("Every process of held.service"));
    eventually("cartouche posture");
}

#[test]
fn the_system_manager_s_sandbox_is_made_before_the_envelope_holds() {
    in_a_guest!();
    unit(
        "held",
        "PrivateTmp=yes\nProtectSystem=strict\nProtectHome=yes\nPrivateDevices=yes\nDynamicUser=yes\n\
         NoNewPrivileges=yes\nProtectKernelTunables=yes\nRestrictNamespaces=yes\nSystemCallFilter=@system-service",
    );
    assert_eq!(artifact("held", "held.service").0, 0);

    let started = shell("systemctl start held.service").0;

    assert_eq!(started, 0);
    says("held", READ);
    says("held", REFUSED);
}

#[test]
fn what_a_unit_runs_already_is_held_from_the_admission_on() {
    in_a_guest!();
    unit(
        "held",
        "ExecStart=\nExecStart=/usr/bin/perl /srv/held/script.pl /srv/held/gate",
    );
    succeeds("systemctl start held.service");
    says("held", FREE);

    assert_eq!(artifact("held", "held.service").0, 0);
    succeeds("truncate -s 0 /srv/held/held.out && touch /srv/held/gate");

    says("held", REFUSED);
    assert!(succeeds("cartouche list").contains("held"));
    // without its artifact the unit does not come back
    succeeds("rm /etc/cartouche/policies.d/held.toml");
    eventually("cartouche list | grep -q revoked");
    succeeds("systemctl stop held.service");
    assert_ne!(
        shell("systemctl start held.service; sleep 1; systemctl is-active held.service").0,
        0
    );
    succeeds("cartouche forget held");
    succeeds("systemctl reset-failed held.service; truncate -s 0 /srv/held/held.out");
    succeeds("systemctl start held.service");
    says("held", FREE);
    succeeds("systemctl stop held.service");
}

#[test]
fn a_unit_belongs_to_one_artifact_and_the_ways_in_to_none() {
    in_a_guest!();
    unit("held", "");
    assert_eq!(artifact("held", "held.service").0, 0);

    let (status, text) = artifact("taken", "held.service");
    assert_ne!(status, 0);
    assert!(text.contains("duplicate-unit"), "{text}");
    let (status, text) = artifact("taken", "ssh.service");
    assert_ne!(status, 0);
    assert!(text.contains("unit-out-of-scope"), "{text}");
    // another unit may have the same interpreter
    assert_eq!(artifact("taken", "other.service").0, 0);
}

#[test]
fn a_command_runs_under_an_artifact_that_is_not_its_own() {
    in_a_guest!();
    assert_eq!(artifact("held", "held.service").0, 0);

    let text = succeeds("cartouche run held -- perl /srv/held/script.pl");
    assert!(text.contains(READ) && text.contains(REFUSED), "{text}");
    // nothing of it is left for what comes after
    let free = succeeds("perl /srv/held/script.pl");
    assert!(free.contains(FREE), "{free}");
    let (status, text) = shell("cartouche run held -- /usr/bin/no-such-command");
    assert_eq!(status, 127, "{text}");
    assert!(text.contains("There is no command"), "{text}");
    assert_eq!(shell("cartouche run none -- true").0, 4);
    assert_eq!(
        shell("setpriv --reuid 65534 --clear-groups cartouche run held -- true").0,
        6
    );
    // a command of another artifact keeps to that one
    succeeds(
        "cp /usr/bin/true /usr/local/bin/own && cartouche new /usr/local/bin/own --id taken >/srv/held/own.toml",
    );
    succeeds("cartouche seal /srv/held/own.toml && cartouche install /srv/held/own.toml");
    assert_eq!(shell("cartouche run held -- /usr/local/bin/own").0, 126);
    succeeds("/usr/local/bin/own");
}
