//! Domain guard on a real kernel: what of Cartouche root outside any artifact is kept from, and that the very same
//! is free while nothing is guarded, and always free towards what is others'.

#![allow(clippy::unwrap_used)] // outside of #[test] too: this file is nothing but tests

mod guest;

use std::fs;
use std::path::Path;

use cartouche::bpf::object::Id;
use cartouche::bpf::sys::{operation, reason};
use cartouche::enforcer::PIN_ROOT;
use guest::{Guest, Program};

/// A slot that no subject of a test gets.
const SLOT: u32 = 8000;

/// Guards this very process, as the daemon does.
fn guarded(guest: &Guest, test: impl Fn()) {
    let kernel = guest.kernel.borrow();
    kernel.note_holder(SLOT, "cartouche:guard", 0).unwrap();
    kernel.stand_guard(SLOT).unwrap();
    assert!(kernel.is_guarded().unwrap());
    drop(kernel);
    test();
    guest.kernel.borrow().stand_down().unwrap();
}

/// What a refusal says, and that there is one.
fn told(guest: &Guest) -> Vec<(u32, u32)> {
    guest
        .denials_of(SLOT)
        .iter()
        .map(|denial| (denial.operation, denial.reason))
        .collect()
}

#[test]
fn pins_stay_where_they_are() {
    guest::run(|guest| {
        let outsider = guest.outsider();
        let own = format!("{PIN_ROOT}/test");
        let elsewhere = "/sys/fs/bpf/elsewhere";
        fs::create_dir(&own).unwrap();
        fs::create_dir(elsewhere).unwrap();
        let acts = [
            format!("rmdir {own}"),
            format!("rename {own} {own}2"),
            format!("rename {own} {elsewhere}/x"),
            format!("rename {elsewhere} {PIN_ROOT}/x"),
            format!("rename {PIN_ROOT} {elsewhere}/x"),
            format!("rename {PIN_ROOT} /sys/fs/bpf/other"),
            format!("unlink {PIN_ROOT}/links/file_open"),
        ];
        guarded(guest, || {
            told(guest);
            // once refused, still refused
            outsider.may_not(&acts.join(", "));
            assert_eq!(told(guest).len(), acts.len());
            for act in &acts {
                outsider.may_not(act);
                let told = told(guest);
                assert_eq!(
                    told,
                    [(operation::OP_GUARD.0, reason::REASON_GUARDED.0)],
                    "{act}"
                );
            }
            assert!(Path::new(&format!("{PIN_ROOT}/links/file_open")).exists());
            // what others have pinned is theirs
            outsider.may(&format!("mkdir {elsewhere}/mine, rmdir {elsewhere}/mine"));
            // and its own keeper may
            fs::create_dir(format!("{PIN_ROOT}/kept")).unwrap();
            fs::remove_dir(format!("{PIN_ROOT}/kept")).unwrap();
        });
        outsider.may(&format!(
            "rename {own} {own}2, rename {own}2 {own}, rmdir {own}"
        ));
        fs::remove_dir(elsewhere).unwrap();
        assert!(told(guest).is_empty());
    });
}

#[test]
fn nobody_else_gets_a_descriptor_of_a_map() {
    guest::run(|guest| {
        let outsider = guest.outsider();
        let subject = guest.subject("net:connect tcp://10.0.0.0/8:1-9\nfs:read /srv/t/x");
        let ids: Vec<u32> = {
            let kernel = guest.kernel.borrow();
            let ids = kernel.domains().into_iter().flat_map(|d| d.ids().unwrap());
            ids.filter_map(|id| match id {
                Id::Map(id) => Some(id),
                Id::Program(_) => None,
            })
            .collect()
        };
        assert!(ids.len() > 20, "{ids:?}");
        // those of plans come and go: all that there are
        let all = || outsider.run("bpf-map-ids");
        let free = all();
        assert!(
            free.iter().any(|line| line.contains("cartouche_paths")),
            "{free:?}"
        );
        assert!(
            free.iter().any(|line| line.contains("cartouche_range")),
            "{free:?}"
        );
        let path = format!("{PIN_ROOT}/slots");
        guarded(guest, || {
            outsider.may_not(&format!("bpf-get {path}"));
            for id in &ids {
                outsider.may_not(&format!("bpf-map-by-id {id}"));
            }
            let left = all();
            assert!(
                !left.iter().any(|line| line.contains("cartouche_")),
                "{left:?}"
            );
            // maps of its own
            outsider.may("bpf-map");
        });
        outsider.may(&format!("bpf-get {path}"));
        for id in &ids {
            outsider.may(&format!("bpf-map-by-id {id}"));
        }
        drop(subject);
    });
}

#[test]
fn links_are_neither_updated_nor_detached() {
    guest::run(|guest| {
        let outsider = guest.outsider();
        let path = format!("{PIN_ROOT}/links/connect4");
        guarded(guest, || {
            outsider.may_not(&format!("bpf-link-update {path}"));
            outsider.may_not(&format!("bpf-link-detach {path}"));
        });
        // without a program to put there
        outsider.gets(&format!("bpf-link-update {path}"), "EBADF");
    });
}

#[test]
fn the_daemon_is_not_ended_stopped_or_traced() {
    guest::run(|guest| {
        let outsider = guest.outsider();
        let pid = std::process::id();
        let harmless = [
            // ignored by whoever does not want it
            format!("signal {pid} 28"),
            format!("prlimit {pid}"),
            format!("ptrace {pid}"),
            format!("pidfd-getfd {pid}"),
        ];
        let mut other = outsider.spawn("up await /no");
        assert_eq!(other.line(), "up");
        guarded(guest, || {
            for act in &harmless {
                outsider.may_not(act);
            }
            for number in [2, 3, 6, 9, 10, 11, 15, 19, 20, 34] {
                outsider.may_not(&format!("signal {pid} {number}"));
            }
            // to ask, and to have it read its configuration again
            outsider.may(&format!("signal {pid} 0, signal {pid} 18"));
            outsider.may(&format!("open-read /proc/{pid}/status"));
            // the word of /proc for a refusal of whatever kind
            outsider.gets(&format!("open-read /proc/{pid}/mem"), "EACCES");
            let other = other.pid();
            outsider.may(&format!(
                "ptrace {other}, signal {other} 28, prlimit {other}"
            ));
        });
        for act in &harmless {
            outsider.may(act);
        }
        outsider.may(&format!("open-read /proc/{pid}/mem"));
    });
}

#[test]
fn no_descriptor_signals_the_daemon() {
    guest::run(|guest| {
        let outsider = guest.outsider();
        let audited = guest.audited("");
        let pid = std::process::id();
        // SIGIO, the default, ends a program that does not expect it
        let signals = [0, 9, 15, 19, 29, 34];
        guarded(guest, || {
            told(guest);
            for signal in signals {
                // who writes learns nothing of it; its end is an event too
                outsider.may(&format!("signal-by-descriptor {pid} {signal}"));
                let expected = (operation::OP_GUARD.0, reason::REASON_GUARDED.0);
                assert_eq!(told(guest), [expected, expected]);
            }
            audited.may(&format!("signal-by-descriptor {pid} 9"));
            assert!(!told(guest).is_empty());
        });
        // the control: it ends whoever is not guarded
        for signal in signals {
            let mut other = outsider.spawn("up await /no");
            assert_eq!(other.line(), "up");
            let other_pid = other.pid();
            guarded(guest, || {
                outsider.may(&format!("signal-by-descriptor {other_pid} {signal}"));
                assert!(told(guest).is_empty());
            });
            if signal != 19 {
                assert!(!other.child.wait().unwrap().success());
            }
        }
        // and nothing is told of it where nothing is guarded: SIGWINCH, which nobody minds
        outsider.may(&format!("signal-by-descriptor {pid} 28"));
        assert!(told(guest).is_empty());
    });
}

#[test]
fn a_subject_in_audit_mode_is_kept_from_it_as_others_are() {
    guest::run(|guest| {
        let subject = guest.audited("");
        let pid = std::process::id();
        guarded(guest, || {
            for act in [
                format!("signal {pid} 28"),
                format!("prlimit {pid}"),
                format!("unlink {PIN_ROOT}/links/file_open"),
                format!("rename {PIN_ROOT}/links/file_open {PIN_ROOT}/links/another"),
            ] {
                subject.may_not(&act);
            }
        });
        subject.may(&format!("signal {pid} 28, prlimit {pid}"));
    });
}

#[test]
fn a_namespace_that_shares_its_mounts_is_no_way_to_the_pins() {
    guest::run(|guest| {
        let outsider = guest.outsider();
        let shared = |act: &str| {
            let words = [
                "--mount",
                "--propagation",
                "unchanged",
                &outsider.path,
                act,
                "/sys/fs/bpf",
            ];
            Program::from("/usr/bin/unshare").run_words(&words)
        };
        outsider.may("mount-shared /");
        guarded(guest, || {
            assert_eq!(shared("umount"), ["EPERM"]);
            assert_eq!(shared("mount"), ["EPERM"]);
        });
        outsider.may("mount-private-all /");
        assert!(Path::new(PIN_ROOT).exists());
    });
}

#[test]
fn the_pins_are_not_covered_or_unmounted_for_all() {
    guest::run(|guest| {
        let outsider = guest.outsider();
        guarded(guest, || {
            outsider.may_not(&format!("mount {PIN_ROOT}"));
            outsider.may_not("mount /sys/fs/bpf");
            outsider.may_not("umount /sys/fs/bpf");
            // what only its own processes see is everybody's own business
            outsider.may(&format!("unshare-mount, mount {PIN_ROOT}"));
            outsider.may("unshare-mount, umount /sys/fs/bpf");
            outsider.may("mount /mnt, umount /mnt");
        });
        outsider.may(&format!("mount {PIN_ROOT}, umount {PIN_ROOT}"));
    });
}

#[test]
fn the_pins_are_not_moved_away() {
    guest::run(|guest| {
        let outsider = guest.outsider();
        let (from, to) = ("/mnt/from", "/mnt/to");
        fs::create_dir_all(from).unwrap();
        fs::create_dir_all(to).unwrap();
        // a mount below a shared one is not moved at all
        outsider.may(&format!("mount-private-all /, mount {from}"));
        guarded(guest, || {
            outsider.may_not(&format!("move-mount-opened /sys/fs/bpf {to}"));
            // what is others', what only its own processes see, and a copy
            outsider.may(&format!(
                "move-mount-opened {from} {to}, move-mount-opened {to} {from}"
            ));
            outsider.may(&format!(
                "unshare-mount, move-mount-opened /sys/fs/bpf {to}"
            ));
            outsider.may(&format!(
                "unshare-mount, move-mount /sys/fs/bpf {to}, umount {to}"
            ));
        });
        outsider.may(&format!(
            "move-mount-opened /sys/fs/bpf {to}, move-mount-opened {to} /sys/fs/bpf"
        ));
        outsider.may(&format!("umount {from}"));
        assert!(Path::new(PIN_ROOT).exists());
    });
}

#[test]
fn a_subject_is_refused_all_of_it_guarded_or_not() {
    guest::run(|guest| {
        let subject = guest.subject(
            "fs:read /sys/**\nfs:write /sys/fs/**\nfs:delete /sys/fs/**\nkernel:perf\nprocess:trace children",
        );
        let pid = std::process::id();
        for act in [
            format!("bpf-get {PIN_ROOT}/slots"),
            "bpf-map".to_owned(),
            format!("unlink {PIN_ROOT}/links/file_open"),
            format!("ptrace {pid}"),
            format!("signal {pid} 0"),
        ] {
            subject.may_not(&act);
        }
    });
}
