//! What programs ordinarily do and no other test has for its subject: terminals, huge pages, core dumps,
//! namespaces that others made for them. An honest envelope lets it happen without a refusal.

#![allow(clippy::unwrap_used)] // outside of #[test] too: this file is nothing but tests

mod guest;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cartouche::enforcer::Mode;
use guest::{Guest, Program, Subject, USERS};

/// Asserts that a program's output has a word, and that nothing was refused.
#[track_caller]
fn says(subject: &Subject, command: &mut Command, word: &str) {
    let output = command.output().unwrap();

    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let denials = subject.denials();
    assert!(text.contains(word), "{command:?}: {text}\n{denials:#?}");
    assert!(denials.is_empty(), "{command:?}: {denials:#?}");
}

/// Asserts that acts succeed and nothing was refused.
#[track_caller]
fn does(subject: &Subject, acts: &str) {
    subject.may(acts);

    let denials = subject.denials();
    assert!(denials.is_empty(), "{acts}: {denials:#?}");
}

const TERMINALS: &str = "fs:read /dev/ptmx /dev/pts/*\nfs:write /dev/ptmx /dev/pts/*";

#[test]
fn a_pair_of_terminals_is_opened_and_used() {
    guest::run(|guest| {
        for uid in USERS {
            does(&guest.subject(TERMINALS).by(uid), "own-terminal");
        }
    });
}

#[test]
fn script_runs_a_shell_in_a_terminal_of_its_own() {
    guest::run(|guest| {
        let path = "/usr/bin/script";
        let subject = Subject::of(
            guest,
            Program::from(path),
            &format!(
                "profile:base\nprofile:locale\nprofile:users\n{TERMINALS}\nfs:read /usr/bin/*\nfs:write /dev/null\n\
                 process:exec /usr/bin/dash /usr/bin/tty\nkernel:capability CAP_FOWNER CAP_CHOWN"
            ),
            Mode::Enforce,
        );

        says(
            &subject,
            Command::new(path)
                .args(["-qec", "tty; echo done", "/dev/null"])
                .env("SHELL", "/bin/sh"),
            "done",
        );
    });
}

#[test]
fn huge_pages_are_mapped() {
    guest::run(|guest| {
        fs::write("/proc/sys/vm/nr_hugepages", "4").unwrap();
        for uid in USERS {
            does(&guest.subject("").by(uid), "huge-pages, huge-memfd");
        }
        fs::write("/proc/sys/vm/nr_hugepages", "0").unwrap();
    });
}

/// Says where the kernel leaves core dumps, until it is dropped.
struct CorePattern(String);

impl CorePattern {
    fn new(pattern: &str) -> Self {
        let path = "/proc/sys/kernel/core_pattern";
        let before = fs::read_to_string(path).unwrap();
        fs::write(path, pattern).unwrap();
        Self(before)
    }
}

impl Drop for CorePattern {
    fn drop(&mut self) {
        fs::write("/proc/sys/kernel/core_pattern", self.0.trim()).unwrap();
    }
}

/// The test program crashes, with cores of any size.
fn crashes(subject: &Subject) {
    let limited = format!("ulimit -c unlimited; exec {} crash", subject.path);
    let status = Command::new("/usr/bin/sh")
        .args(["-c", &limited])
        .status()
        .unwrap();

    assert!(!status.success());
}

/// Waits for a whole core: who writes it may be another.
#[track_caller]
fn has_core(path: &str) {
    let begun = Instant::now();
    while fs::read(path).map_or(true, |core| !core.starts_with(b"\x7fELF")) {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "no core at {path}"
        );
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_core_is_dumped_where_the_envelope_lets_files_be_made() {
    guest::run(|guest| {
        let room = guest.directory();
        let _pattern = CorePattern::new(&format!("{room}/core"));
        let core = format!("{room}/core");

        crashes(&guest.subject(""));
        assert!(!Path::new(&core).exists());
        let subject = guest.subject(&format!(
            "fs:create {core}\nfs:write {core}\nfs:delete {core}"
        ));
        crashes(&subject);

        has_core(&core);
        assert!(subject.denials().is_empty());
    });
}

#[test]
fn a_core_goes_to_a_program_of_others_without_a_rule() {
    guest::run(|guest| {
        let room = guest.directory();
        let handler = guest.script(&format!("#!/bin/sh\nexec cat >{room}/core\n"));
        let _pattern = CorePattern::new(&format!("|{handler}"));
        let subject = guest.subject("");

        crashes(&subject);

        has_core(&format!("{room}/core"));
        assert!(subject.denials().is_empty());
    });
}

/// A command in namespaces of its own, which an outsider made: mounts, processes, network, names.
fn in_namespaces(program: &str, acts: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/unshare");
    command
        .args([
            "--mount",
            "--pid",
            "--net",
            "--uts",
            "--ipc",
            "--fork",
            "--mount-proc",
            program,
        ])
        .args(acts);
    command
}

#[test]
fn who_is_started_in_other_namespaces_is_held_there_and_to_the_same() {
    guest::run(|guest| {
        let room = guest.files(&["mine", "other"]);
        let subject = guest.subject(&format!("fs:read {room}/mine"));
        let acts = |path: &str| ["open-read".to_owned(), path.to_owned()];
        let run = |path: &str| {
            let acts = acts(path);
            let acts: Vec<_> = acts.iter().map(String::as_str).collect();
            let output = in_namespaces(&subject.path, &acts).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };

        assert_eq!(run(&format!("{room}/mine")), "ok\n");
        assert_eq!(run("/proc/self/status"), "ok\n");
        assert_eq!(subject.denials().len(), 0);
        assert_eq!(run(&format!("{room}/other")), "EPERM\n");
        assert_eq!(subject.denials().len(), 1);
    });
}

#[test]
fn outsiders_make_namespaces_and_mounts_as_ever() {
    guest::run(|guest| {
        let _subject = guest.subject("");
        let outsider = guest.outsider();
        let mounts = "mount -t tmpfs none /mnt && mount --bind /etc /mnt && ip link set lo up && \
                      hostname inside && ";

        let output = in_namespaces(
            "/usr/bin/sh",
            &[
                "-c",
                &format!("{mounts}exec {} open-read /mnt/passwd", outsider.path),
            ],
        )
        .output()
        .unwrap();

        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "ok\n",
            "{output:?}"
        );
        let status = Command::new("/usr/bin/unshare")
            .args(["--user", "--map-root-user", "--mount", "true"])
            .status()
            .unwrap();
        assert!(status.success());
    });
}

/// A root directory for a container: this machine's programs, seen through other mounts.
fn container(guest: &Guest, program: &str, acts: &str) -> String {
    let room = guest.directory();
    for name in [
        "usr", "etc", "srv", "proc", "sys", "dev", "run", "tmp", "var",
    ] {
        fs::create_dir(format!("{room}/{name}")).unwrap();
    }
    for name in ["bin", "lib", "lib64", "sbin"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), format!("{room}/{name}")).unwrap();
    }
    fs::write(format!("{room}/etc/os-release"), "ID=container\n").unwrap();
    fs::write(
        format!("{room}/etc/machine-id"),
        "c0ffee00c0ffee00c0ffee00c0ffee01\n",
    )
    .unwrap();
    let script = format!("{program} {acts}");
    let output = Command::new("systemd-nspawn")
        .args([
            "--quiet",
            "--register=no",
            "--link-journal=no",
            "--keep-unit",
            "--as-pid2",
            "--private-network",
        ])
        .args([
            "--bind-ro=/usr",
            "--bind=/srv",
            "--pipe",
            "-D",
            &room,
            "sh",
            "-c",
            &script,
        ])
        .output()
        .unwrap();
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_container_is_made_as_ever_and_an_artifact_s_program_in_it_is_held() {
    guest::run(|guest| {
        let room = guest.files(&["mine", "other"]);
        let subject = guest.subject(&format!("fs:read {room}/mine"));
        let outsider = guest.outsider();
        let acts = format!("open-read {room}/mine , open-read {room}/other");

        assert_eq!(container(guest, &outsider.path, &acts), "ok\nok\n");
        assert_eq!(container(guest, &subject.path, &acts), "ok\nEPERM\n");
    });
}
