//! The unit of the daemon, as `make install` puts it into a system: hardened, early, and hard to lose.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::sync::Once;
use std::thread::sleep;
use std::time::Duration;

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

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        succeeds("cp -r installed/. / && systemctl daemon-reload");
        succeeds("systemctl enable --now cartouched.service");
    });
    // the tests end the daemon on purpose, more often than systemd would bear
    succeeds("systemctl reset-failed cartouched.service");
    succeeds("systemctl start cartouched.service");
}

#[test]
fn systemd_finds_no_fault_in_the_unit() {
    in_a_guest!();

    let text = succeeds("systemd-analyze verify cartouched.service");

    assert!(!text.contains("cartouched"), "{text}");
}

#[test]
fn ordinary_services_start_after_it() {
    in_a_guest!();

    let before = succeeds("systemctl show -P Before cartouched.service");
    let wanted = succeeds("systemctl show -P WantedBy cartouched.service");

    assert!(before.contains("sysinit.target"), "{before}");
    assert!(wanted.contains("sysinit.target"), "{wanted}");
}

#[test]
fn the_hardened_daemon_enforces_and_anybody_may_read_its_report() {
    in_a_guest!();

    let text = succeeds("setpriv --reuid 65534 --clear-groups cartouche posture");

    assert!(text.starts_with("State          ENFORCE\n"), "{text}");
}

#[test]
fn a_stopped_daemon_leaves_enforcement_and_a_report_that_says_so() {
    in_a_guest!();
    let links = succeeds("ls /sys/fs/bpf/cartouche/links");

    succeeds("systemctl stop cartouched.service");

    assert_eq!(succeeds("ls /sys/fs/bpf/cartouche/links"), links);
    let (status, text) = shell("cartouche posture");
    assert_ne!(status, 0, "{text}");
    assert!(text.contains("DEGRADED"), "{text}");
    assert!(text.contains("ADMISSION_STOPPED"), "{text}");
}

#[test]
fn a_killed_daemon_is_started_again() {
    in_a_guest!();
    let pid = succeeds("systemctl show -P MainPID cartouched.service");

    succeeds("systemctl kill --kill-whom=main --signal=KILL cartouched.service");

    // from its first moments on nobody else ends it; this signal would not
    eventually(&format!(
        "p=$(systemctl show -P MainPID cartouched.service); test $p -ne 0 -a $p -ne {} && ! kill -URG $p",
        pid.trim()
    ));
    assert_eq!(
        shell("systemctl is-active cartouched.service").1,
        "activating\n"
    );
    eventually(&format!(
        "test $(systemctl show -P MainPID cartouched.service) -ne {} && cartouche posture",
        pid.trim()
    ));
}

#[test]
fn root_outside_is_kept_from_what_is_the_daemon_s_own() {
    in_a_guest!();
    eventually("cartouche posture");
    let pid = succeeds("systemctl show -P MainPID cartouched.service");
    let pid = pid.trim();

    for line in [
        format!("kill -KILL {pid}"),
        format!("kill -STOP {pid}"),
        "rm -r /sys/fs/bpf/cartouche".to_owned(),
        "mv /sys/fs/bpf/cartouche /sys/fs/bpf/other".to_owned(),
        "umount /sys/fs/bpf".to_owned(),
        "mount -t tmpfs none /sys/fs/bpf".to_owned(),
    ] {
        assert_ne!(shell(&line).0, 0, "{line}");
    }

    succeeds(&format!(
        "test $(systemctl show -P MainPID cartouched.service) -eq {pid}"
    ));
    eventually("journalctl _SYSTEMD_UNIT=cartouched.service | grep -q 'op=guard'");
    let text = succeeds("cartouche posture");
    assert!(text.starts_with("State          ENFORCE\n"), "{text}");
    assert!(!text.contains("guard"), "{text}");
    // who has nothing to do with it is left alone
    succeeds("sleep 60 & kill -KILL $!");
    succeeds("mkdir /sys/fs/bpf/mine && rmdir /sys/fs/bpf/mine");
}

#[test]
fn without_the_guard_the_report_says_so() {
    in_a_guest!();
    succeeds("mkdir -p /etc/cartouche/cartouche.toml.d");
    succeeds("echo 'guard = \"off\"' >/etc/cartouche/cartouche.toml.d/guard.toml");
    succeeds("systemctl restart cartouched.service");

    eventually("cartouche posture | grep -q guard");
    let pid = succeeds("systemctl show -P MainPID cartouched.service");
    succeeds(&format!("kill -KILL {pid}"));

    succeeds("rm /etc/cartouche/cartouche.toml.d/guard.toml");
    eventually("systemctl is-active cartouched.service");
}

#[test]
fn the_command_takes_enforcement_off_where_nobody_else_can() {
    in_a_guest!();
    eventually("cartouche posture");
    succeeds("systemctl stop cartouched.service");
    assert_ne!(shell("rm -r /sys/fs/bpf/cartouche").0, 0);
    assert_ne!(
        shell("cp /usr/bin/cartouche /tmp/other && /tmp/other detach --all").0,
        0
    );

    succeeds("cartouche detach --all");

    assert!(!std::path::Path::new("/sys/fs/bpf/cartouche/links").exists());
    succeeds("systemctl start cartouched.service");
    eventually("cartouche posture");
}

#[test]
fn reload_reads_everything_again() {
    in_a_guest!();

    succeeds("systemctl reload cartouched.service");

    eventually("cartouche posture");
}
