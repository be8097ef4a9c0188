//! Domain privilege on a real kernel: powers over the machine, granted one by one or never. Each act is
//! one that works for a program outside, run by the same user.

#![allow(clippy::unwrap_used)] // outside of #[test] too: this file is nothing but tests

mod guest;

use std::fs;

use cartouche::artifact::kcap;
use cartouche::bpf::sys::{operation, reason, right};
use guest::{Guest, Program, Subject, USERS};

const MOUNT: u32 = operation::OP_MOUNT.0;
const NAMESPACE: u32 = operation::OP_NAMESPACE.0;
const BPF: u32 = operation::OP_BPF.0;
const MODULE: u32 = operation::OP_MODULE.0;
const CAPABILITY: u32 = operation::OP_LINUX_CAPABILITY.0;
const SETUID: u32 = right::RIGHT_SETUID.0;
/// linux/capability.h
const CAP_SYS_CHROOT: u32 = 18;
const CAP_SYS_ADMIN: u32 = 21;

/// Asserts that an act ends with this errno, and that a record says what was tried.
#[track_caller]
fn refuses(subject: &Subject, act: &str, errno: &str, what: (u32, &str)) {
    subject.denials();

    let lines = subject.run(act);

    let denials = subject.denials();
    assert_eq!(lines, [errno], "{act} (uid {}): {denials:?}", subject.uid);
    let told = denials.iter().find(|denial| denial.what() == what);
    let told = told.unwrap_or_else(|| panic!("{act}: no {what:?} in {denials:?}"));
    assert_eq!((told.uid, told.refused), (subject.uid, true), "{act}");
}

/// A flat refusal: EPERM, and nothing that would allow it.
#[track_caller]
fn refuses_flatly(subject: &Subject, act: &str, tried: u32) {
    refuses(subject, act, "EPERM", (tried, "0"));
}

#[track_caller]
fn refuses_capability(subject: &Subject, act: &str, number: u32) {
    refuses(subject, act, "EPERM", (CAPABILITY, &number.to_string()));
}

/// The test program, outside, run by a user.
fn outsider(guest: &Guest, uid: u32) -> Program {
    let mut outsider = guest.outsider();
    outsider.uid = uid;
    outsider
}

/// Lets the kernel itself allow an act to everybody, so that only Cartouche refuses.
fn sysctl(name: &str, value: &str) {
    fs::write(format!("/proc/sys/{name}"), value).unwrap_or_else(|e| panic!("{name}: {e}"));
}

#[test]
fn mounts_of_every_api_are_refused() {
    guest::run(|guest| {
        let room = guest.files(&["from/", "at/"]);
        let acts = [
            ("mount R/at", MOUNT, 0),
            ("mount-bind R/from R/at", MOUNT, 0),
            ("remount R/at", MOUNT, 0),
            ("mount-private R/at", MOUNT, 0),
            ("move-mount-old R/from R/at", MOUNT, 0),
            ("umount R/at", CAPABILITY, CAP_SYS_ADMIN),
            ("move-mount R/from R/at", CAPABILITY, CAP_SYS_ADMIN),
            ("move-mount-opened R/from R/at", CAPABILITY, CAP_SYS_ADMIN),
            ("open-tree R/from", CAPABILITY, CAP_SYS_ADMIN),
            ("fsopen", CAPABILITY, CAP_SYS_ADMIN),
            ("fspick R/at", CAPABILITY, CAP_SYS_ADMIN),
            ("mount-setattr R/at", CAPABILITY, CAP_SYS_ADMIN),
            ("pivot-root R/at", CAPABILITY, CAP_SYS_ADMIN),
        ];
        let subject = guest.subject(&format!("fs:read {room}/**\nfs:write {room}/**"));
        let outsider = guest.outsider();
        for (act, tried, number) in acts {
            let act = act.replace('R', &room);
            refuses(&subject, &act, "EPERM", (tried, &number.to_string()));
            outsider.may(&format!(
                "unshare-mount, mount {room}/from, mount {room}/at, {act}"
            ));
        }
    });
}

#[test]
fn being_root_of_a_user_namespace_helps_nothing() {
    guest::run(|guest| {
        let room = guest.files(&["at/"]);
        for uid in USERS {
            let subject = guest.subject(&format!("fs:read {room}/**")).by(uid);
            let outsider = outsider(guest, uid);
            let mut unshare = Program::from("/usr/bin/unshare");
            unshare.uid = uid;
            for (act, what) in [
                (&["mount", &format!("{room}/at")][..], (MOUNT, "0")),
                (&["fsopen"], (CAPABILITY, "21")),
                (&["umount", "/proc"], (CAPABILITY, "21")),
                (&["chroot", "/"], (CAPABILITY, "18")),
                (&["unshare", "pid"], (CAPABILITY, "21")),
            ] {
                let within = |program: &str| {
                    let words = [&["-U", "-r", "-m", "--", program], act].concat();
                    unshare.run_words(&words)
                };
                subject.denials();
                let lines = within(&subject.path);
                let denials = subject.denials();
                assert_eq!(lines, ["EPERM"], "{act:?} (uid {uid}): {denials:?}");
                assert!(
                    denials.iter().any(|denial| denial.what() == what),
                    "{act:?}: {denials:?}"
                );
                if act[0] != "umount" {
                    assert_eq!(within(&outsider.path), ["ok"], "{act:?} (uid {uid})");
                }
            }
        }
    });
}

#[test]
fn changing_the_root_is_refused() {
    guest::run(|guest| {
        let room = guest.files(&["root/"]);
        let subject = guest.subject(&format!("fs:read {room}/**"));

        refuses_capability(&subject, &format!("chroot {room}/root"), CAP_SYS_CHROOT);
        guest.outsider().may(&format!("chroot {room}/root"));
    });
}

#[test]
fn user_namespaces_are_refused() {
    guest::run(|guest| {
        for uid in USERS {
            let subject = guest.subject("").by(uid);
            for act in [
                "unshare-user",
                "unshare-user-mount",
                "clone-user say made",
                "fork unshare-user",
                "thread clone-user say made",
            ] {
                refuses_flatly(&subject, act, NAMESPACE);
            }
            assert_eq!(subject.run("fork say made"), ["made", "ok"]);
            let outsider = outsider(guest, uid);
            outsider.may("unshare-user");
            outsider.may("unshare-user-mount");
            outsider.may("fork unshare-user");
            assert_eq!(outsider.run("clone-user say made"), ["made", "ok"]);
        }
    });
}

#[test]
fn no_namespace_is_made_or_entered() {
    guest::run(|guest| {
        let subject = guest.subject("fs:read /proc/**");
        let outsider = guest.outsider();
        for act in [
            "unshare-mount",
            "unshare net",
            "unshare pid",
            "unshare uts",
            "unshare ipc",
            "unshare cgroup",
            "unshare time",
            "setns /proc/self/ns/net",
            "setns /proc/self/ns/mnt",
            "setns /proc/self/ns/uts",
            "setns-process",
        ] {
            refuses_capability(&subject, act, CAP_SYS_ADMIN);
            outsider.may(act);
        }
    });
}

#[test]
fn bpf_is_refused() {
    guest::run(|guest| {
        sysctl("kernel/unprivileged_bpf_disabled", "0");
        for uid in USERS {
            let subject = guest.subject("").by(uid);
            let outsider = outsider(guest, uid);
            refuses_flatly(&subject, "bpf-map", BPF);
            refuses_flatly(&subject, "bpf-get /sys/fs/bpf/none", BPF);
            outsider.may("bpf-map");
            if uid == 0 {
                refuses_flatly(&subject, "bpf-ids", BPF);
                outsider.may("bpf-ids");
                outsider.gets("bpf-get /sys/fs/bpf/none", "ENOENT");
            }
        }
    });
}

#[test]
fn performance_events_are_refused() {
    guest::run(|guest| {
        sysctl("kernel/perf_event_paranoid", "2");
        for uid in USERS {
            let subject = guest.subject("").by(uid);
            refuses_flatly(&subject, "perf", operation::OP_PERF.0);
            outsider(guest, uid).may("perf");
        }
    });
}

#[test]
fn io_uring_is_refused() {
    guest::run(|guest| {
        for uid in USERS {
            let subject = guest.subject("").by(uid);
            refuses_flatly(&subject, "io-uring", operation::OP_IO_URING.0);
            outsider(guest, uid).may("io-uring");
        }
    });
}

#[test]
fn userfaultfd_is_refused() {
    guest::run(|guest| {
        let device = "/dev/userfaultfd";
        let envelope = format!("fs:read {device}\nfs:write {device}");
        guest.outsider().may(&format!("chmod 0o666 {device}"));
        for uid in USERS {
            let subject = guest.subject(&envelope).by(uid);
            let outsider = outsider(guest, uid);
            for act in ["userfaultfd", "userfaultfd-device"] {
                refuses_flatly(&subject, act, operation::OP_USERFAULTFD.0);
                outsider.may(act);
            }
            // other nameless files are no power
            subject.may("memfd-reopen");
        }
    });
}

#[test]
fn keyrings_are_refused() {
    guest::run(|guest| {
        for uid in USERS {
            let subject = guest.subject("").by(uid);
            let outsider = outsider(guest, uid);
            for (act, errno) in [
                ("key-session", "EPERM"),
                ("key-add", "EPERM"),
                // the kernel's word for a keyring that it could not make
                ("key-describe", "ENOKEY"),
            ] {
                refuses(&subject, act, errno, (operation::OP_KEYRING.0, "0"));
                outsider.may(act);
            }
        }
    });
}

#[test]
fn a_subject_makes_the_kernel_load_no_module() {
    guest::run(|guest| {
        let room = guest.files(&["asked"]);
        let asked = format!("{room}/asked");
        let loader = guest.script(&format!("#!/bin/sh\necho \"$*\" >{asked}\n"));
        sysctl("kernel/modprobe", &loader);
        fs::write(&asked, "").unwrap();
        // neither a program nor text: the kernel looks for a module that knows the format
        let unknown = guest.script("\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}");
        let outsider = guest.outsider();
        for uid in USERS {
            let subject = guest
                .subject(&format!("process:exec {unknown}\nfs:read {unknown}"))
                .by(uid);
            let lines = subject.run(&format!("exec {unknown}"));
            let denials = subject.denials();
            assert_ne!(lines, ["ok"]);
            assert!(
                denials.iter().any(|denial| denial.operation == MODULE),
                "{denials:?}"
            );
            assert_eq!(fs::read_to_string(&asked).unwrap(), "");
        }
        outsider.gets(&format!("exec {unknown}"), "ENOEXEC");
        assert!(fs::read_to_string(&asked).unwrap().contains("binfmt-"));
        sysctl("kernel/modprobe", "/sbin/modprobe");
    });
}

/// The acts, their Linux capability, what the subject gets, and what root outside gets.
const POWERS: [(&str, u32, &str, &str); 33] = [
    ("chown 1 R/mine", 0, "EPERM", "ok"),
    ("open-write R/hidden", 1, "EACCES", "ok"),
    ("open-read R/hidden", 2, "EACCES", "ok"),
    ("access-read R/hidden", 2, "EACCES", "ok"),
    ("open-by-handle R/mine", 2, "EPERM", "ok"),
    ("chmod 0o640 R/other", 3, "EPERM", "ok"),
    ("set-groups", 6, "EPERM", "ok"),
    ("setuid 65534", 7, "EPERM", "ok"),
    ("drop-bounding", 8, "EPERM", "ok"),
    ("immutable R/mine", 9, "EPERM", "ok"),
    ("bind-privileged 80", 10, "EACCES", "ok"),
    ("mark-packets", 12, "EPERM", "ok"),
    ("init-module", 16, "EPERM", "ENOEXEC"),
    ("finit-module R/other", 16, "EPERM", "ENOEXEC"),
    ("delete-module", 16, "EPERM", "ENOENT"),
    ("iopl", 17, "EPERM", "ok"),
    ("chroot /", 18, "EPERM", "ok"),
    ("acct", 20, "EPERM", "ok"),
    ("sethostname", 21, "EPERM", "ok"),
    ("swapon /none", 21, "EPERM", "ENOENT"),
    ("fanotify", 21, "EPERM", "ok"),
    ("reboot", 22, "EPERM", "ok"),
    ("kexec", 22, "EPERM", "ok"),
    ("kexec-file", 22, "EPERM", "ok"),
    ("raise-priority", 23, "EACCES", "ok"),
    ("mlock-unlimited", 24, "EPERM", "ok"),
    ("set-clock", 25, "EPERM", "ok"),
    ("hang-up", 26, "EPERM", "ok"),
    ("lease R/other", 28, "EACCES", "ok"),
    ("file-capability R/other", 31, "EPERM", "ok"),
    ("read-kernel-log", 34, "EPERM", "ok"),
    ("wake-alarm", 35, "EPERM", "ok"),
    ("unshare-mount", 21, "EPERM", "ok"),
];

#[test]
fn every_use_of_a_linux_capability_is_refused() {
    guest::run(|guest| {
        let room = guest.files_of(65534, &["other", "hidden", "mine"]);
        let outsider = guest.outsider();
        outsider.may(&format!("chmod 0o000 {room}/hidden, chown 0 {room}/mine"));
        let subject = guest.subject(&format!(
            "fs:read / {room}/**\nfs:write {room}/**\nnet:listen tcp://127.0.0.1:80"
        ));
        for (act, number, errno, _) in POWERS {
            let act = act.replace("R/", &format!("{room}/"));
            refuses(&subject, &act, errno, (CAPABILITY, &number.to_string()));
        }
        for (act, _, _, outside) in POWERS {
            outsider.gets(&act.replace("R/", &format!("{room}/")), outside);
        }
    });
}

#[test]
fn a_linux_capability_that_a_user_was_given_is_refused_too() {
    guest::run(|guest| {
        let gives = |program: &str, kcap: &str, act: &[&str]| {
            let kcap = format!("+{kcap}");
            let words = [
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--inh-caps",
                &kcap,
                "--ambient-caps",
                &kcap,
                program,
            ];
            Program::from("/usr/bin/setpriv").run_words(&[&words, act].concat())
        };
        let subject = guest.subject("net:listen tcp://127.0.0.1:81");
        let outsider = guest.outsider();
        for (kcap, act, number, errno) in [
            ("sys_chroot", &["chroot", "/"][..], "18", "EPERM"),
            ("sys_admin", &["sethostname"], "21", "EPERM"),
            (
                "net_bind_service",
                &["bind-privileged", "81"],
                "10",
                "EACCES",
            ),
            ("setuid", &["setuid", "0"], "7", "EPERM"),
        ] {
            subject.denials();
            assert_eq!(gives(&subject.path, kcap, act), [errno], "{kcap}");
            let denials = subject.denials();
            assert!(
                denials
                    .iter()
                    .any(|denial| denial.what() == (CAPABILITY, number) && denial.uid == 65534),
                "{kcap}: {denials:?}"
            );
            assert_eq!(gives(&outsider.path, kcap, act), ["ok"], "{kcap}");
        }
    });
}

#[test]
fn set_id_bits_are_refused() {
    guest::run(|guest| {
        for uid in USERS {
            let room = guest.files_of(uid, &["file"]);
            let subject = guest
                .subject(&format!(
                    "fs:read {room}/**\nfs:write {room}/**\nfs:create {room}/**"
                ))
                .by(uid);
            let outsider = outsider(guest, uid);
            for mode in ["0o4755", "0o2755", "0o6755"] {
                for (act, path) in [
                    ("chmod MODE R/file", "file"),
                    ("fchmod MODE R/file", "file"),
                    ("create-mode MODE R/new", "new"),
                    ("mkfifo-mode MODE R/fifo", "fifo"),
                ] {
                    let path = format!("{room}/{path}");
                    let act = act.replace('R', &room);
                    let with_bits = act.replace("MODE", mode);
                    refuses(&subject, &with_bits, "EPERM", (SETUID, &path));
                    let without_bits = act.replace("MODE", "0o755");
                    for (program, act) in [(&*subject, &without_bits), (&outsider, &with_bits)] {
                        program.may(act);
                        if ["new", "fifo"].iter().any(|name| path.ends_with(name)) {
                            fs::remove_file(&path).unwrap();
                        }
                    }
                }
                let act = format!("otmpfile-mode {mode} {room}");
                subject.may_not(&act);
                assert_eq!(subject.denials()[0].operation, SETUID);
                subject.may(&format!("otmpfile-mode 0o755 {room}"));
                outsider.may(&act);
            }
        }
    });
}

#[test]
fn device_nodes_are_refused() {
    guest::run(|guest| {
        for uid in USERS {
            let room = guest.files_of(uid, &[]);
            let subject = guest.subject(&format!("fs:create {room}/**")).by(uid);
            let outsider = outsider(guest, uid);
            for act in ["mkwhiteout", "mkchar", "mkblock"] {
                let act = format!("{act} {room}/{act}");
                refuses(&subject, &act, "EPERM", (operation::OP_DEVICE_NODE.0, ""));
                // to others than root the kernel gives only 0:0, which is no device
                if uid == 0 || act.starts_with("mkwhiteout") {
                    outsider.may(&act);
                }
            }
            subject.may(&format!("mkfifo {room}/fifo, mksocket {room}/socket"));
        }
    });
}

#[test]
fn nothing_is_typed_into_a_terminal() {
    guest::run(|guest| {
        // since 6.2 the kernel can refuse it by itself
        let _ = fs::write("/proc/sys/dev/tty/legacy_tiocsti", "1");
        let envelope = "fs:read /dev/ptmx /dev/pts/*\nfs:write /dev/ptmx /dev/pts/*";
        for uid in USERS {
            let subject = guest.subject(envelope).by(uid);
            let outsider = outsider(guest, uid);
            for act in ["terminal-inject", "terminal-linux"] {
                let lines = subject.run(act);
                assert_eq!(lines, ["EPERM"], "{act}");
                let denials = subject.denials();
                assert_eq!(denials.len(), 1, "{act}: {denials:?}");
                assert_eq!(denials[0].operation, operation::OP_TERMINAL_INJECT.0);
                assert_eq!(denials[0].reason, reason::REASON_NEVER.0);
                assert!(denials[0].object.starts_with("/dev/pts/"), "{denials:?}");
            }
            outsider.may("terminal-inject");
            outsider.gets("terminal-linux", "ENOTTY");
            subject.may("terminal-size");
        }
    });
}

#[test]
fn powers_are_granted_one_by_one() {
    guest::run(|guest| {
        sysctl("kernel/perf_event_paranoid", "2");
        let powers = [
            ("kernel:namespace", "unshare-user"),
            ("kernel:perf", "perf"),
            ("kernel:keyring", "key-session, key-add, key-describe"),
            ("kernel:io_uring", "io-uring"),
        ];
        for uid in USERS {
            for (power, acts) in powers {
                let subject = guest.subject(power).by(uid);
                subject.may(acts);
                assert!(subject.uses(power) > 0, "{power}");
                for (other, acts) in powers {
                    if other != power {
                        let act = acts.split(", ").next().unwrap();
                        subject.may_not(act);
                    }
                }
                subject.may_not("bpf-map, userfaultfd");
            }
        }
    });
}

#[test]
fn linux_capabilities_are_granted_one_by_one() {
    guest::run(|guest| {
        let outsider = guest.outsider();
        for (act, number, errno, outside) in POWERS {
            let room = guest.files_of(65534, &["other", "hidden", "mine"]);
            outsider.may(&format!("chmod 0o000 {room}/hidden, chown 0 {room}/mine"));
            let act = act.replace("R/", &format!("{room}/"));
            let kcap = kcap::NAMES[number as usize];
            let subject = guest.subject(&format!(
                "kernel:capability {kcap}\nfs:read / {room}/**\nfs:write {room}/**\n\
                 fs:setuid {room}/**\nnet:listen tcp://127.0.0.1:80"
            ));
            if kcap::is_never_grantable(kcap) {
                // admission would refuse it, and so does the kernel
                let why = subject.run(&act);
                assert_eq!(why, [errno], "{act}");
                let denials = subject.denials();
                let told = denials.iter().find(|denial| denial.operation == CAPABILITY);
                assert_eq!(told.map(|told| told.reason), Some(reason::REASON_NEVER.0));
                continue;
            }
            if act == "kexec" {
                // the capability is not all that it takes
                refuses_flatly(&subject, &act, MODULE);
                continue;
            }
            subject.gets(&act, outside);
            assert!(
                subject.uses(&format!("kernel:capability {kcap}")) > 0,
                "{act}"
            );
            subject.may_not("sethostname");
        }
    });
}

#[test]
fn who_may_override_permissions_is_told_nothing_of_the_smaller_part_of_that() {
    guest::run(|guest| {
        let room = guest.files_of(65534, &["hidden", "shut/"]);
        fs::write(format!("{room}/shut/inside"), "inside").unwrap();
        guest.outsider().may(&format!(
            "chmod 0o000 {room}/hidden, chmod 0o000 {room}/shut"
        ));
        let subject = guest.subject(&format!(
            "kernel:capability CAP_DAC_OVERRIDE\nfs:read / {room}/**"
        ));

        subject.may(&format!(
            "open-read {room}/hidden, open-read {room}/shut/inside"
        ));

        assert_eq!(subject.denials().len(), 0);
        // opened by its handle, a file needs that part and no other
        refuses_capability(&subject, &format!("open-by-handle {room}/hidden"), 2);
    });
}

#[test]
fn a_chroot_changes_no_path() {
    guest::run(|guest| {
        let room = guest.files(&["jail/", "secret"]);
        fs::write(format!("{room}/jail/open"), "").unwrap();
        fs::write(format!("{room}/jail/closed"), "").unwrap();
        let subject = guest.subject(&format!(
            "kernel:capability CAP_SYS_CHROOT\nfs:read {room}/jail {room}/jail/open /closed"
        ));

        let lines = subject.run(&format!(
            "chroot {room}/jail, open-read /open, open-read /closed"
        ));

        assert_eq!(lines, ["ok", "ok", "EPERM"]);
    });
}

#[test]
fn who_makes_a_user_namespace_mounts_and_enters_nothing_there() {
    guest::run(|guest| {
        let room = guest.files(&["at/"]);
        for uid in USERS {
            let envelope =
                format!("kernel:namespace\nfs:read /proc/** {room}/**\nfs:write /proc/self/**");
            let subject = guest.subject(&envelope).by(uid);
            let outsider = outsider(guest, uid);
            let map = format!("unshare-user, map-user {uid}");
            subject.may(&format!(
                "{map}, unshare net, unshare pid, unshare uts, unshare-mount"
            ));
            subject.may("unshare-user-mount, open-read /proc/self/status");
            for act in [
                format!("mount {room}/at"),
                "fsopen".to_owned(),
                "umount /proc".to_owned(),
                format!("open-tree {room}"),
                format!("mount-setattr {room}/at"),
                "setns /proc/self/ns/uts".to_owned(),
                "sethostname".to_owned(),
                "chroot /".to_owned(),
            ] {
                let lines = subject.run(&format!("{map}, unshare uts, unshare-mount, {act}"));
                assert_eq!(
                    lines,
                    ["ok", "ok", "ok", "ok", "EPERM"],
                    "{act} (uid {uid})"
                );
                if !act.starts_with("umount") && !act.starts_with("setns") {
                    let lines = outsider.run(&format!("{map}, unshare uts, unshare-mount, {act}"));
                    assert_eq!(lines, ["ok"; 5], "{act} (uid {uid})");
                }
            }
            // the 32-bit gate has other numbers
            guest
                .subject("")
                .by(uid)
                .may_not("unshare-user, unshare-user-mount");
        }
    });
}

#[test]
fn set_id_bits_are_granted_by_path() {
    guest::run(|guest| {
        for uid in USERS {
            let room = guest.files_of(uid, &["file", "other"]);
            let subject = guest
                .subject(&format!(
                    "fs:read {room}/**\nfs:write {room}/**\nfs:create {room}/**\n\
                     fs:setuid {room}/file {room}/new"
                ))
                .by(uid);
            subject.may(&format!(
                "chmod 0o4755 {room}/file, create-mode 0o4755 {room}/new"
            ));
            subject.may_not(&format!(
                "chmod 0o4755 {room}/other, create-mode 0o4755 {room}/none"
            ));
            // what has them does not come to lie where none may be
            subject.may(&format!("chmod 0o755 {room}/file"));
        }
    });
}

#[test]
fn audit_mode_tells_of_powers_and_refuses_none() {
    guest::run(|guest| {
        let subject = guest.audited("");

        subject.may("chroot /, io-uring, key-add, unshare-user");

        let denials = subject.denials();
        for what in [
            (CAPABILITY, "18"),
            (operation::OP_IO_URING.0, "0"),
            (operation::OP_KEYRING.0, "0"),
            (NAMESPACE, "0"),
        ] {
            let told = denials.iter().find(|denial| denial.what() == what);
            assert!(told.is_some_and(|denial| !denial.refused), "{denials:?}");
        }
    });
}
