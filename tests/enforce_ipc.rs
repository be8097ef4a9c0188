//! Domain ipc on a real kernel: a subject does nothing to processes of others, everything to its own, and
//! takes no more by a descriptor than it may open.

#![allow(clippy::unwrap_used)] // outside of #[test] too: this file is nothing but tests

mod guest;

use std::fs::File;
use std::io::{BufRead, BufReader, IoSlice, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use cartouche::bpf::sys::{operation, reason, right};
use guest::{Program, USERS};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

const SIGNAL: u32 = operation::OP_SIGNAL.0;
const TRACE: u32 = operation::OP_TRACE.0;
const UNIX: u32 = right::RIGHT_UNIX.0;

/// What a process can do to another, that would work for root outside.
const ON_OTHERS: [(&str, u32); 16] = [
    ("kill-0 PID", SIGNAL),
    ("tgkill PID", SIGNAL),
    ("pidfd-signal PID", SIGNAL),
    ("setown PID", SIGNAL),
    ("setown-other PID", SIGNAL),
    ("ioctl-setown PID", SIGNAL),
    ("prlimit PID", SIGNAL),
    ("renice PID", SIGNAL),
    ("set-affinity PID", SIGNAL),
    ("set-scheduler PID", SIGNAL),
    ("set-attributes PID", SIGNAL),
    ("set-ioprio PID", SIGNAL),
    ("pidfd-getfd PID", TRACE),
    ("ptrace PID", TRACE),
    ("vm-read PID", TRACE),
    ("kill PID", SIGNAL),
];

#[test]
fn nothing_is_done_to_a_process_of_others() {
    guest::run(|guest| {
        let room = guest.files(&[]);
        let outsider = guest.outsider();
        for uid in USERS {
            let mut bystander = Program::from(outsider.path.as_str());
            bystander.uid = uid;
            let waiting = format!("up await {room}/never");
            let mut stranger = bystander.spawn(&waiting);
            let other_subject = guest.subject("").by(uid);
            let mut other = other_subject.spawn(&waiting);
            assert_eq!((stranger.line(), other.line()), ("up".into(), "up".into()));
            let subject = guest.subject("").by(uid);
            for (act, wanted) in ON_OTHERS {
                for pid in [stranger.pid(), other.pid()] {
                    subject.may_not(&act.replace("PID", &pid.to_string()));
                    let denials = subject.denials();
                    let told: Vec<_> = denials.iter().filter(|d| d.operation == wanted).collect();
                    assert!(!told.is_empty(), "{act}: {denials:?}");
                    let never = act.starts_with("ioctl");
                    let expected =
                        [reason::REASON_NO_RULE, reason::REASON_NEVER][usize::from(never)];
                    assert_eq!(told[0].reason, expected.0, "{act}");
                    if !act.starts_with("ioctl") && act != "setown-other PID" {
                        assert_eq!(told[0].object, pid.to_string(), "{act}");
                    }
                    if !act.contains("setown") {
                        let slots = [(stranger.pid(), 0), (other.pid(), other_subject.slot)];
                        assert!(slots.contains(&(pid, told[0].other)), "{act}: {told:?}");
                    }
                }
            }
        }
        // the control: root outside may all of it, the last of which ends the process
        for (act, _) in ON_OTHERS {
            let mut victim = outsider.spawn(&format!("up await {room}/never"));
            assert_eq!(victim.line(), "up");
            outsider.is_not_refused(&act.replace("PID", &victim.pid().to_string()));
        }
    });
}

#[test]
fn what_is_done_to_another_artifact_s_processes_is_granted_by_its_id() {
    guest::run(|guest| {
        let scope = "/proc/sys/kernel/yama/ptrace_scope";
        let before = std::fs::read(scope).unwrap();
        std::fs::write(scope, "0").unwrap();
        let room = guest.files(&[]);
        let waiting = format!("up await {room}/never");
        for uid in USERS {
            let friend = guest.subject("").by(uid);
            let other = guest.subject("").by(uid);
            for (name, granted) in [("process:signal", SIGNAL), ("process:trace", TRACE)] {
                let rule = format!("{name} {}", friend.id());
                let subject = guest.subject(&rule).by(uid);
                for (act, needed) in ON_OTHERS {
                    // a descriptor's owner is oneself
                    if act.contains("setown") {
                        continue;
                    }
                    let mut target = friend.spawn(&waiting);
                    let mut stranger = other.spawn(&waiting);
                    assert_eq!((target.line(), stranger.line()), ("up".into(), "up".into()));
                    subject.may_not(&act.replace("PID", &stranger.pid().to_string()));
                    let act = act.replace("PID", &target.pid().to_string());
                    if needed == granted {
                        subject.denials();
                        let lines = subject.run(&act);
                        let denials = subject.denials();
                        assert!(denials.is_empty(), "{rule}: {act}: {lines:?} {denials:?}");
                        assert!(!["EPERM", "EACCES"].contains(&lines[0].as_str()), "{act}");
                    } else {
                        subject.may_not(&act);
                    }
                }
                assert!(subject.uses(&rule) > 0);
            }
        }
        std::fs::write(scope, before).unwrap();
    });
}

#[test]
fn tracing_its_own_is_granted_by_name_or_with_making_code() {
    guest::run(|guest| {
        for uid in USERS {
            guest
                .subject("process:trace self")
                .by(uid)
                .may("ptrace-child");
            guest
                .subject("process:signal self")
                .by(uid)
                .may_not("ptrace-child");
        }
    });
}

#[test]
fn a_signal_to_all_reaches_its_own_only() {
    guest::run(|guest| {
        let room = guest.files(&[]);
        let waiting = format!("up await {room}/ever");
        for uid in USERS {
            let mut outsider = guest.outsider();
            outsider.uid = uid;
            let subject = guest.subject("").by(uid);
            let (mut stranger, mut own) = (outsider.spawn(&waiting), subject.spawn(&waiting));
            assert_eq!((stranger.line(), own.line()), ("up".into(), "up".into()));

            // the kernel calls it a success whoever refused
            subject.may("kill-all");

            let ended = own.child.wait().unwrap();
            assert_eq!(ended.signal(), Some(libc::SIGUSR1));
            assert!(stranger.child.try_wait().unwrap().is_none());
            let pid = stranger.pid().to_string();
            let denials = subject.denials();
            assert!(denials.iter().any(|denial| denial.what() == (SIGNAL, &pid)));
        }
        // the control, which ends no process of root's
        let mut outsider = guest.outsider();
        outsider.uid = 65534;
        let mut stranger = outsider.spawn(&waiting);
        assert_eq!(stranger.line(), "up");
        outsider.may("kill-all");
        let ended = stranger.child.wait().unwrap();
        assert_eq!(ended.signal(), Some(libc::SIGUSR1));
    });
}

#[test]
fn the_priority_of_all_processes_of_a_user_is_not_its_to_change() {
    guest::run(|guest| {
        let room = guest.files(&[]);
        let mut outsider = guest.outsider();
        outsider.uid = 65534;
        let mut stranger = outsider.spawn(&format!("up await {room}/ever"));
        assert_eq!(stranger.line(), "up");
        let stat = format!("/proc/{}/stat", stranger.pid());
        let nice = || {
            let stat = std::fs::read_to_string(&stat).unwrap();
            stat.split(' ').nth(18).unwrap().to_owned()
        };
        let subject = guest.subject("").by(65534);

        subject.may_not("renice-user 65534");
        assert_eq!(nice(), "0");
        outsider.may("renice-user 65534");
        assert_eq!(nice(), "1");
    });
}

#[test]
fn the_parent_outside_is_a_process_of_others() {
    guest::run(|guest| {
        for uid in USERS {
            let subject = guest.subject("").by(uid);
            subject.may_not("kill-parent, traceme");
        }
        let outsider = guest.outsider();
        outsider.may("kill-parent, traceme");
    });
}

#[test]
fn what_proc_tells_of_a_process_of_others_is_refused() {
    guest::run(|guest| {
        let room = guest.files(&[]);
        let mut stranger = guest.outsider().spawn(&format!("up await {room}/never"));
        assert_eq!(stranger.line(), "up");
        let pid = stranger.pid();
        let subject = guest.subject("fs:read /proc/**\nfs:write /proc/**\ncode:generate");
        for name in ["mem", "environ", "maps"] {
            let lines = subject.run(&format!("open-read /proc/{pid}/{name}"));
            assert!(
                ["EPERM", "EACCES"].contains(&lines[0].as_str()),
                "{name}: {lines:?}"
            );
            guest
                .outsider()
                .may(&format!("open-read /proc/{pid}/{name}"));
        }
        subject.may(&format!("open-read /proc/{pid}/status"));
        let denials = subject.denials();
        assert!(
            denials.iter().all(|denial| denial.operation == TRACE),
            "{denials:?}"
        );
    });
}

#[test]
fn inside_the_own_subject_all_is_free() {
    guest::run(|guest| {
        let room = guest.files(&[]);
        for uid in USERS {
            // who traces writes code
            let subject = guest.subject("code:generate").by(uid);
            subject.may("ptrace-child");
            guest.subject("").by(uid).may_not("ptrace-child");
            subject.may("kill-self, kill-child, fork kill-parent, fork fork kill-parent");
            subject.may("setown-self, setsig, set-group-self, set-group-child");
            subject.may("set-async, ioctl-set-async, own-and-set-async");
            for act in ["renice", "set-affinity", "set-scheduler", "set-attributes"] {
                subject.may(&format!("{act} 0"));
            }
            let mut other = subject.spawn(&format!("up await {room}/never"));
            assert_eq!(other.line(), "up");
            for (act, _) in ON_OTHERS {
                // whose descriptors signal whom is decided by the number alone: only oneself
                if act.contains("setown")
                    || (uid != 0 && ["ptrace PID", "vm-read PID", "pidfd-getfd PID"].contains(&act))
                {
                    continue;
                }
                let lines = subject.run(&act.replace("PID", &other.pid().to_string()));
                // tracing takes CAP_SYS_PTRACE here (Yama), and a subject has no Linux capability
                assert!(
                    lines == ["ok"]
                        || act == "vm-read PID"
                        || (lines == ["EPERM"]
                            && subject
                                .denials()
                                .iter()
                                .all(|d| d.operation == operation::OP_LINUX_CAPABILITY.0)),
                    "{act}: {lines:?}"
                );
            }
        }
    });
}

#[test]
fn a_process_owns_its_descriptors_by_its_number_in_its_own_pid_namespace() {
    guest::run(|guest| {
        let subject = guest.subject("");
        let namespace = Program::from("/usr/bin/unshare");
        let words = ["--pid", "--fork", subject.path.as_str(), "setown-self"];

        assert_eq!(namespace.run_words(&words), ["ok"]);
        assert_eq!(subject.denials(), []);
        let words = ["--pid", "--fork", subject.path.as_str(), "setown", "2"];
        assert_eq!(namespace.run_words(&words), ["EPERM"]);
    });
}

#[test]
fn a_terminal_signals_its_foreground_for_no_subject() {
    guest::run(|guest| {
        let acts = [
            "set-killing-input",
            "set-async-input",
            "ioctl-set-async-input",
        ];
        let on_terminal = |program: &Program, terminal: &str, acts: &[&str]| {
            let input = File::options()
                .read(true)
                .write(true)
                .open(terminal)
                .unwrap();
            let mut command = program.command(&acts.join(" , ").split(' ').collect::<Vec<_>>());
            let output = command.stdin(Stdio::from(input)).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        for uid in USERS {
            let mut outsider = guest.outsider();
            outsider.uid = uid;
            let hold = "hold-terminal , up await /no";
            for asked in [&["set-async-input"][..], &["ioctl-set-async-input"]] {
                let mut stranger = outsider.spawn_words(&hold.split(' ').collect::<Vec<_>>());
                let terminal = stranger.line();
                let subject = guest.subject("").by(uid);

                for act in acts {
                    assert_eq!(on_terminal(&subject, &terminal, &[act]), "EPERM\n", "{act}");
                    let denials = subject.denials();
                    assert_eq!((denials.len(), denials[0].operation), (1, SIGNAL), "{act}");
                }
                let mut typing = stranger.child.stdin.take().unwrap();
                typing.write_all(b"\n").unwrap();
                assert_eq!(
                    (stranger.line(), stranger.line()),
                    ("ok".into(), "up".into())
                );

                // the control: the descriptor must stay open
                let mut victim = outsider.spawn_words(&hold.split(' ').collect::<Vec<_>>());
                let terminal = victim.line();
                let mut attacker = outsider
                    .command(
                        &[
                            &["set-killing-input", ","],
                            asked,
                            &[",", "up", "await", "/no"],
                        ]
                        .concat(),
                    )
                    .stdin(
                        File::options()
                            .read(true)
                            .write(true)
                            .open(&terminal)
                            .unwrap(),
                    )
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                let mut lines = BufReader::new(attacker.stdout.take().unwrap()).lines();
                for wanted in ["ok", "ok", "up"] {
                    assert_eq!(lines.next().unwrap().unwrap(), wanted);
                }
                let mut typing = victim.child.stdin.take().unwrap();
                typing.write_all(b"\n").unwrap();
                let ended = victim.child.wait().unwrap();
                assert_eq!(ended.signal(), Some(libc::SIGKILL));
                attacker.kill().unwrap();
                attacker.wait().unwrap();
            }
        }
    });
}

#[test]
fn what_others_are_signalled_by_is_not_changed() {
    guest::run(|guest| {
        let acts = [
            "set-killing-input",
            "set-async-input",
            "ioctl-set-async-input",
        ];
        let outsider = guest.outsider();
        for uid in USERS {
            let subject = guest.subject("").by(uid);
            let (input, _peer) = UnixStream::pair().unwrap();
            let on_input = |program: &Program, words: &[&str]| {
                let mut command = program.command(words);
                let input = OwnedFd::from(input.try_clone().unwrap());
                let output = command.stdin(Stdio::from(input)).output().unwrap();
                String::from_utf8(output.stdout).unwrap().trim().to_owned()
            };
            let own = std::process::id().to_string();
            assert_eq!(on_input(&outsider, &["setown-input", &own]), "ok");
            for act in acts {
                assert_eq!(on_input(&subject, &[act]), "EPERM", "{act}");
                let denials = subject.denials();
                assert_eq!((denials.len(), denials[0].operation), (1, SIGNAL), "{act}");
            }
            // nobody is signalled
            assert_eq!(on_input(&outsider, &["setown-input", "0"]), "ok");
            for act in acts {
                assert_eq!(on_input(&subject, &[act]), "ok", "{act}");
            }
            assert_eq!(subject.denials(), []);
        }
    });
}

/// Ends processes that wait for a file, at its end.
struct Gate(String);

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.0, "");
    }
}

#[test]
fn a_descriptor_signals_nobody_who_was_another_when_he_became_its_owner() {
    guest::run(|guest| {
        let room = guest.files(&[]);
        let gate = Gate(format!("{room}/gate"));
        for uid in USERS {
            let other = guest.subject("").by(uid);
            let path = &other.path;
            let run = format!("process:exec {path} transition artifact");
            // SIGIO, the default, ends a program that does not expect it; so do those of real time
            for signal in ["9", "0", "40"] {
                for way in ["become", "thread-become"] {
                    let becomes = format!(
                        "signal-what-becomes socket {signal} {way} {path} up await {}",
                        gate.0
                    );
                    let subject = guest.subject(&run).by(uid);
                    subject.may_not(&becomes);
                    // what was written, and the end of who wrote
                    let denials = subject.denials();
                    assert!(!denials.is_empty(), "{becomes}");
                    let told = denials.iter().map(|one| (one.operation, one.other));
                    assert!(
                        told.eq(denials.iter().map(|_| (SIGNAL, other.slot))),
                        "{denials:?}"
                    );

                    // the twins: the same label, and who may signal the other one
                    for envelope in [
                        format!("process:exec {path}"),
                        format!("{run}\nprocess:signal children"),
                        format!("{run}\nprocess:signal {}", other.id()),
                    ] {
                        let subject = guest.subject(&envelope).by(uid);
                        assert_eq!(subject.run(&becomes), ["ok"], "{envelope}: {becomes}");
                        assert_eq!(subject.denials(), []);
                    }
                }
            }
        }
    });
}

#[test]
fn a_lease_and_a_watched_directory_signal_no_other_artifact() {
    guest::run(|guest| {
        let room = guest.files(&["file", "watched/"]);
        let gate = Gate(format!("{room}/gate"));
        let other = guest.subject("");
        let path = &other.path;
        let files = format!(
            "fs:read {room}/**\nfs:write {room}/**\nfs:create {room}/**\nprocess:exec {path}"
        );
        for act in [
            format!("lease {room}/file"),
            format!("directory {room}/watched"),
        ] {
            let becomes = format!(
                "signal-what-becomes {act} 9 become {path} up await {}",
                gate.0
            );
            let subject = guest.subject(&format!("{files} transition artifact"));
            subject.may_not(&becomes);
            assert!(!subject.denials().is_empty(), "{act}");

            let subject = guest.subject(&files);
            assert_eq!(subject.run(&becomes), ["ok"], "{act}");
            assert_eq!(subject.denials(), []);
        }
    });
}

#[test]
fn its_own_descriptors_signal_a_subject() {
    guest::run(|guest| {
        for uid in USERS {
            let subject = guest.subject("").by(uid);
            let outsider = guest.outsider();
            for signal in [0, 29, 23, 40, 10] {
                let acts = [
                    format!("signal-oneself {signal}"),
                    format!("fork signal-oneself {signal}"),
                    format!("thread signal-oneself {signal}"),
                ];
                subject.may(&acts.join(", "));
                outsider.may(&acts.join(", "));
            }
            assert_eq!(subject.denials(), []);
            // and what it has become
            let starter = guest.subject(&format!(
                "process:exec {} transition artifact",
                subject.path
            ));
            let lines = starter.run(&format!("exec {} signal-oneself 40", subject.path));
            assert_eq!(lines, ["ok", "ok"]);
        }
    });
}

#[test]
fn a_subject_joins_process_groups_of_its_own_only() {
    guest::run(|guest| {
        let outsider = guest.outsider();
        let mut stranger = outsider.spawn("set-group-self, up await /no");
        assert_eq!(
            (stranger.line(), stranger.line()),
            ("ok".into(), "up".into())
        );
        let group = stranger.pid().to_string();
        let join = format!("join-group {group}");
        for uid in USERS {
            let subject = guest.subject("").by(uid);
            subject.may_not(&join);
            let denials = subject.denials();
            assert_eq!(
                (denials.len(), denials[0].what()),
                (1, (SIGNAL, group.as_str()))
            );
            // where it was started is no choice of its own
            let output = subject
                .command(&["join-group", &group])
                .process_group(stranger.pid().cast_signed())
                .output()
                .unwrap();
            assert_eq!(output.stdout, b"ok\n");
            // as a shell does for a pipeline
            subject.may("set-group-self, set-group-child, set-group-children");
            assert_eq!(subject.denials(), []);
        }
        outsider.may(&format!("{join}, set-group-self, set-group-children"));
    });
}

#[test]
fn a_process_group_is_found_by_its_number_in_the_own_pid_namespace() {
    guest::run(|guest| {
        let subject = guest.subject("");
        let namespace = Program::from("/usr/bin/unshare");
        let words = [
            "--pid",
            "--fork",
            subject.path.as_str(),
            "set-group-children",
        ];

        assert_eq!(namespace.run_words(&words), ["ok"]);
        assert_eq!(subject.denials(), []);
    });
}

#[test]
fn unix_sockets_of_others_are_refused() {
    guest::run(|guest| {
        let room = guest.directory();
        let outsider = guest.outsider();
        let _stream = UnixListener::bind(format!("{room}/stream")).unwrap();
        let _datagram = UnixDatagram::bind(format!("{room}/datagram")).unwrap();
        for name in ["stream", "datagram"] {
            outsider.may(&format!("chmod 0o777 {room}/{name}"));
        }
        let mut abstracts = outsider.spawn("unix-serve @cartouche-stream");
        assert_eq!(abstracts.line(), "up");
        let acts = [
            format!("unix-connect {room}/stream"),
            format!("unix-send {room}/datagram"),
            "unix-connect @cartouche-stream".to_owned(),
            "unix-bind @cartouche-free".to_owned(),
            "unix-bind-datagram @cartouche-free".to_owned(),
        ];
        for uid in USERS {
            let subject = guest
                .subject(&format!(
                    "fs:read {room}/**\nfs:write {room}/**\nfs:create {room}/**"
                ))
                .by(uid);
            for act in &acts {
                subject.may_not(act);
                let denials = subject.denials();
                assert_eq!(
                    (denials.len(), denials[0].operation),
                    (1, UNIX),
                    "{act}: {denials:?}"
                );
            }
        }
        for act in &acts {
            outsider.may(act);
        }
    });
}

#[test]
fn unix_sockets_of_others_are_granted_by_path_or_abstract_name() {
    guest::run(|guest| {
        let room = guest.directory();
        let outsider = guest.outsider();
        let _stream = UnixListener::bind(format!("{room}/stream")).unwrap();
        let _datagram = UnixDatagram::bind(format!("{room}/datagram")).unwrap();
        let _other = UnixListener::bind(format!("{room}/other")).unwrap();
        for name in ["stream", "datagram", "other"] {
            outsider.may(&format!("chmod 0o777 {room}/{name}"));
        }
        let long = format!("@{}", "long".repeat(20));
        let mut served = ["@stream", "@stream/of/path", "@other", long.as_str()].map(|name| {
            let mut server = outsider.spawn(&format!("unix-serve {name}"));
            assert_eq!(server.line(), "up");
            server
        });
        for uid in USERS {
            let rules = [
                format!("{room}/stream"),
                format!("{room}/datagram"),
                "@stream".to_owned(),
                "@stream/of/path".to_owned(),
                "@free".to_owned(),
                long.clone(),
            ];
            let subject = guest
                .subject(&format!("ipc:unix {}", rules.join(" ")))
                .by(uid);
            for act in [
                format!("unix-connect {room}/stream"),
                format!("unix-send {room}/datagram"),
                "unix-connect @stream".to_owned(),
                "unix-connect @stream/of/path".to_owned(),
                format!("unix-connect {long}"),
                // the name itself, too
                "unix-bind @free".to_owned(),
                "unix-bind-datagram @free".to_owned(),
            ] {
                subject.may(&act);
            }
            assert_eq!(subject.uses("ipc:unix @stream"), 1);
            assert_eq!(subject.uses(&format!("ipc:unix {room}/stream")), 1);
            for (act, object) in [
                (
                    format!("unix-connect {room}/other"),
                    format!("{room}/other"),
                ),
                ("unix-connect @other".to_owned(), "@other".to_owned()),
                ("unix-bind @freer".to_owned(), "@freer".to_owned()),
                ("unix-bind @fre".to_owned(), "@fre".to_owned()),
            ] {
                subject.may_not(&act);
                let denials = subject.denials();
                assert_eq!(denials.len(), 1, "{act}: {denials:?}");
                assert_eq!(denials[0].object, object, "{act}");
            }
            let all = guest.subject(&format!("ipc:unix {room}/**")).by(uid);
            all.may(&format!("unix-connect {room}/other"));
            all.may_not("unix-connect @stream");
        }
        for server in &mut served {
            server.child.kill().unwrap();
        }
    });
}

#[test]
fn an_abstract_name_with_a_nul_inside_is_another_one() {
    guest::run(|guest| {
        let mut server = guest.outsider().spawn("unix-serve-padded @padded");
        assert_eq!(server.line(), "up");
        let subject = guest.subject("ipc:unix @padded");

        subject.may_not("unix-connect-padded @padded");

        assert_eq!(subject.denials()[0].reason, reason::REASON_UNNAMEABLE.0);
        guest.outsider().may("unix-connect-padded @padded");
    });
}

#[test]
fn a_socket_bound_in_another_mount_namespace_has_the_name_that_the_subject_sees() {
    guest::run(|guest| {
        let room = guest.directory();
        let outsider = guest.outsider();
        let namespace = Program::from("/usr/bin/unshare");
        let mut server = namespace.spawn(&format!(
            "--mount {} unix-serve {room}/private",
            outsider.path
        ));
        assert_eq!(server.line(), "up");
        outsider.may(&format!("chmod 0o777 {room}/private"));
        for uid in USERS {
            let subject = guest.subject(&format!("ipc:unix {room}/private")).by(uid);
            subject.may(&format!("unix-connect {room}/private"));
            let subject = guest.subject(&format!("ipc:unix {room}/other")).by(uid);
            subject.may_not(&format!("unix-connect {room}/private"));
            assert_eq!(subject.denials()[0].object, format!("{room}/private"));
        }
    });
}

#[test]
fn a_socket_s_name_is_told_where_only_a_part_of_its_file_system_is_mounted() {
    guest::run(|guest| {
        let room = guest.files(&["whole/", "part/"]);
        // as the root of a distribution that lies in a subvolume
        let mounts = format!(
            "mount -t tmpfs none {room}/whole && mkdir {room}/whole/sub && \
             mount --bind {room}/whole/sub {room}/part && umount {room}/whole"
        );
        sh(&mounts);
        let outsider = guest.outsider();
        let mut server = Program::from("/usr/bin/unshare").spawn(&format!(
            "--mount {} unix-serve {room}/part/private",
            outsider.path
        ));
        assert_eq!(server.line(), "up");

        let subject = guest.subject(&format!("ipc:unix {room}/part/private"));
        subject.may(&format!("unix-connect {room}/part/private"));
        let subject = guest.subject(&format!("ipc:unix {room}/private"));
        subject.may_not(&format!("unix-connect {room}/part/private"));
        drop(server);
        sh(&format!("umount {room}/part"));
    });
}

#[track_caller]
fn sh(script: &str) {
    let status = Command::new("sh").args(["-c", script]).status().unwrap();
    assert!(status.success(), "{script}");
}

#[test]
fn another_subject_s_unix_socket_is_one_of_others() {
    guest::run(|guest| {
        let room = guest.files(&[]);
        let server = guest.subject(&format!("fs:create {room}/*"));
        let client = guest.subject(&format!("fs:write {room}/*"));
        let mut serving = server.spawn(&format!("unix-serve {room}/server"));
        assert_eq!(serving.line(), "up");

        client.may_not(&format!("unix-connect {room}/server"));
        server.may(&format!("unix-connect {room}/server"));
    });
}

#[test]
fn unix_sockets_of_its_own_are_free() {
    guest::run(|guest| {
        for uid in USERS {
            let room = guest.files_of(uid, &[]);
            let subject = guest.subject(&format!("fs:create {room}/*")).by(uid);
            subject.may(&format!(
                "unix-pair, unix-pair-datagram, unix-self {room}/a, unix-send-self {room}/b"
            ));
            // a name of the kernel's choice
            subject.may("unix-self-unnamed, fork unix-pair");
            // a name in a directory is created there
            guest
                .subject("")
                .by(uid)
                .may_not(&format!("unix-self {room}/c"));
        }
    });
}

/// Sends a descriptor to the subject's standard input and returns what it says of it.
fn hands_over(subject: &Program, descriptor: BorrowedFd<'_>) -> String {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(
        &ours,
        &[IoSlice::new(b"x")],
        &mut control,
        SendFlags::empty(),
    )
    .unwrap();
    let output = subject
        .command(&["receive"])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_descriptor_from_others_brings_no_more_than_the_envelope() {
    guest::run(|guest| {
        let room = guest.files(&["read", "write", "none"]);
        let open = |name: &str, write: bool| {
            File::options()
                .read(true)
                .write(write)
                .open(format!("{room}/{name}"))
                .unwrap()
        };
        let (pipe, _writer) = std::io::pipe().unwrap();
        let memory = memfd_create("memory", MemfdFlags::CLOEXEC).unwrap();
        let (socket, _peer) = UnixStream::pair().unwrap();
        let counter = eventfd(0, EventfdFlags::empty()).unwrap();
        let device = File::open("/dev/null").unwrap();
        let kernel_log = File::open("/dev/kmsg").unwrap();
        for uid in USERS {
            let subject = guest
                .subject(&format!(
                    "fs:read {room}/read {room}/write /dev/**\nfs:write {room}/write"
                ))
                .by(uid);
            let takes = |descriptor: BorrowedFd<'_>| hands_over(&subject, descriptor);

            assert_eq!(takes(open("read", false).as_fd()), "ok");
            assert_eq!(takes(open("write", true).as_fd()), "ok");
            assert_eq!(takes(open("read", true).as_fd()), "EBADF");
            assert_eq!(takes(open("none", false).as_fd()), "EBADF");
            assert_eq!(takes(pipe.as_fd()), "ok");
            assert_eq!(takes(memory.as_fd()), "ok");
            assert_eq!(takes(device.as_fd()), "ok");
            assert_eq!(takes(kernel_log.as_fd()), "EBADF");
            assert_eq!(takes(socket.as_fd()), "EBADF");
            assert_eq!(takes(counter.as_fd()), "EBADF");
            let denials = subject.denials();
            assert_eq!(denials.len(), 5, "{denials:?}");
        }
        let outsider = guest.outsider();
        let any = guest.subject("ipc:receive");
        // a ring passes them without being asked
        let ring = guest.subject("kernel:io_uring");
        for descriptor in [socket.as_fd(), counter.as_fd(), open("none", true).as_fd()] {
            assert_eq!(hands_over(&outsider, descriptor), "ok");
            assert_eq!(hands_over(&any, descriptor), "ok");
            assert_eq!(hands_over(&ring, descriptor), "ok");
        }
        assert_eq!(any.uses("ipc:receive"), 3);
    });
}

#[test]
fn a_socket_of_its_own_comes_back_by_way_of_another() {
    guest::run(|guest| {
        let at = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        for uid in USERS {
            let subject = guest
                .subject(&format!("net:listen tcp://{at}\nnet:connect tcp://{at}"))
                .by(uid);

            subject.may(&format!("pass-sockets {at}"));

            assert!(subject.denials().is_empty());
        }
    });
}

#[test]
fn what_it_inherited_is_its_own() {
    guest::run(|guest| {
        let room = guest.files(&["input", "output"]);
        let subject = guest.subject("");
        let status = subject
            .command(&["say", "written"])
            .stdin(File::open(format!("{room}/input")).unwrap())
            .stdout(File::create(format!("{room}/output")).unwrap())
            .status()
            .unwrap();

        assert!(status.success());
        assert_eq!(
            std::fs::read_to_string(format!("{room}/output")).unwrap(),
            "written\nok\n"
        );
        assert!(subject.denials().is_empty());
    });
}
