//! Domain exec on a real kernel: who becomes a subject and stays one, what runs, which code is mapped.

#![allow(clippy::unwrap_used)] // outside of #[test] too: this file is nothing but tests

mod guest;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;

use cartouche::artifact::digest::sha256_hex;
use cartouche::bpf::sys::{operation, reason, right};
use cartouche::enforcer::{
    CUT_PROGRAMS, DATAGRAM_PROGRAMS, Kernel, MEASURE_PROGRAM, Mode, OUTSIDE, SlotState,
};
use cartouche::plan::Plan;
use guest::{Program, ROOM, Subject, USERS};

const READ: u32 = right::RIGHT_READ.0;
const EXEC: u32 = right::RIGHT_EXEC.0;
const LOAD: u32 = right::RIGHT_LOAD.0;
const CLAIMED: u32 = operation::OP_CLAIMED.0;
const GENERATE: u32 = operation::OP_CODE_GENERATE.0;

#[test]
fn every_program_attaches_again_and_again_without_a_gap() {
    guest::run(|guest| {
        for _ in 0..2 {
            let kernel = Kernel::load().unwrap();

            kernel.attach().unwrap();

            let absent = kernel.absent_hooks();
            for (hook, attached) in kernel.attached() {
                let on_demand = is_on_demand(&hook);
                assert!(attached || absent.contains(&hook) || on_demand, "{hook}");
            }
            // the programs are new ones, the maps the same
            let room = guest.files(&["file"]);
            guest.subject("").may_not(&format!("open-read {room}/file"));
        }
    });
}

fn is_on_demand(hook: &str) -> bool {
    DATAGRAM_PROGRAMS.contains(&hook) || CUT_PROGRAMS.contains(&hook) || hook == MEASURE_PROGRAM
}

/// The hooks that each domain owns by the design, on the newest kernel: one program each, but for `measure`,
/// which sleeps, and shares bprm_check_security while it is attached.
const HOOKS: [(&str, &str); 7] = [
    (
        "exec",
        "bprm_check_security bprm_committing_creds bprm_creds_for_exec file_mprotect \
         ia32_personality measure mmap_file task_alloc task_free task_newtask x64_personality",
    ),
    (
        "file",
        "file_ioctl file_ioctl_compat file_lock file_open file_truncate inode_remove_acl \
         inode_removexattr inode_set_acl inode_setattr inode_setxattr mnt_drop_write mnt_drop_write_file \
         mnt_want_write mnt_want_write_file path_chmod path_chown path_link path_mkdir path_mknod \
         path_notify path_rename path_rmdir path_symlink path_truncate path_unlink",
    ),
    (
        "network",
        "connect4 connect6 ip6_datagram_send_ctl ip_cmsg_send sendmsg4 sendmsg6 socket_accept \
         socket_bind socket_connect socket_create socket_listen socket_post_create \
         socket_setsockopt",
    ),
    (
        "ipc",
        "file_fcntl file_receive file_send_sigiotask ipc_permission mqueue_create_attr msg_queue_alloc_security \
         msg_queue_free_security msg_queue_msgctl ptrace_access_check ptrace_traceme \
         sem_alloc_security sem_free_security sem_semctl shm_alloc_security shm_free_security \
         shm_shmctl task_kill task_movememory task_setioprio task_setnice task_setpgid \
         task_setrlimit task_setscheduler unix_may_send unix_stream_connect",
    ),
    (
        "privilege",
        "capable inode_init_security_anon kernel_load_data kernel_module_request kernel_read_file key_alloc key_permission move_mount \
         perf_event_open sb_mount sb_pivotroot sb_remount sb_umount uring_cmd \
         uring_override_creds uring_sqpoll userns_create",
    ),
    ("guard", "bpf bpf_map bpf_prog"),
    (
        "cut",
        "file_permission socket_getsockopt socket_recvmsg socket_sendmsg",
    ),
];

/// Those that came after 6.1.
const NEW_HOOKS: [&str; 3] = ["file_truncate", "inode_remove_acl", "inode_set_acl"];

#[test]
fn each_domain_has_exactly_the_hooks_of_the_design() {
    guest::run(|guest| {
        let kernel = guest.kernel.borrow();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();

        let attached = kernel.attached();

        let expected_absent = if release.starts_with("6.1.") {
            &NEW_HOOKS[..]
        } else {
            &[]
        };
        let absent = kernel.absent_hooks();
        assert_eq!(Vec::from_iter(&absent), expected_absent, "{release}");
        assert_eq!(kernel.domains().map(|d| d.domain()), HOOKS.map(|h| h.0));
        for (domain, (name, hooks)) in kernel.domains().iter().zip(HOOKS) {
            // a list, not a set: a hook with two programs would stand there twice
            let mut owned: Vec<String> = domain.hooks().into_iter().map(|h| h.name).collect();
            owned.sort();
            assert_eq!(owned, Vec::from_iter(hooks.split_whitespace()), "{name}");
        }
        for (hook, attached) in &attached {
            let on_demand = is_on_demand(hook);
            let expected = !on_demand && !expected_absent.contains(&hook.as_str());
            assert_eq!(*attached, expected, "{hook}");
        }
        assert_eq!(attached.len(), 98);
    });
}

#[test]
fn running_a_program_needs_process_exec() {
    guest::run(|guest| {
        let (yes, no) = (guest.outsider().path, guest.outsider().path);
        for uid in USERS {
            let subject = guest.subject(&format!("process:exec {yes}")).by(uid);
            for way in [
                "exec",
                "vfork-exec",
                "exec-opened",
                "thread-become",
                "become",
            ] {
                assert_eq!(
                    subject.run(&format!("{way} {yes} say hello"))[0],
                    "hello",
                    "{way}"
                );
                subject.may_not(&format!("{way} {no} say hello"));
                let denials = subject.denials();
                assert_eq!(denials.len(), 1, "{denials:?}");
                assert_eq!(denials[0].what(), (EXEC, no.as_str()));
            }
        }
    });
}

#[test]
fn a_child_stays_a_subject_however_it_is_made() {
    guest::run(|guest| {
        let room = guest.files(&["yes", "no"]);
        let other = guest.outsider().path;
        let rules = format!("fs:read {room}/yes\nprocess:exec {other}");
        for uid in USERS {
            let subject = guest.subject(&rules).by(uid);
            for way in [
                "fork",
                "fork fork",
                "thread",
                "fork thread",
                "clone3",
                "clone-shared",
            ] {
                subject.may(&format!("{way} open-read {room}/yes"));
                subject.may_not(&format!("{way} open-read {room}/no"));
            }
            for way in ["clone-parent", "orphan"] {
                assert_eq!(
                    subject.run(&format!("{way} open-read {room}/yes")),
                    ["ok", "ok"]
                );
                assert_eq!(
                    subject.run(&format!("{way} open-read {room}/no")),
                    ["EPERM", "ok"]
                );
            }
            for way in [
                "exec",
                "vfork-exec",
                "fork exec",
                "thread exec",
                "become",
                "thread-become",
            ] {
                let yes = subject.run(&format!("{way} {other} open-read {room}/yes"));
                let no = subject.run(&format!("{way} {other} open-read {room}/no"));
                assert_eq!((yes[0].as_str(), no[0].as_str()), ("ok", "EPERM"), "{way}");
            }
        }
    });
}

#[test]
fn a_program_outside_becomes_a_subject_however_it_execs() {
    guest::run(|guest| {
        let room = guest.files(&["yes", "no"]);
        let outsider = guest.outsider();
        let subject = guest.subject(&format!("fs:read {room}/yes"));
        for way in [
            "exec",
            "vfork-exec",
            "exec-opened",
            "become",
            "thread-become",
            "fork thread-become",
        ] {
            let yes = outsider.run(&format!("{way} {} open-read {room}/yes", subject.path));
            let no = outsider.run(&format!("{way} {} open-read {room}/no", subject.path));
            assert_eq!((yes[0].as_str(), no[0].as_str()), ("ok", "EPERM"), "{way}");
        }
        // and the one that ran it is none
        let program = &subject.path;
        assert_eq!(
            outsider.run(&format!(
                "exec {program} open-read {room}/no, open-read {room}/no"
            )),
            ["EPERM", "ok", "ok"]
        );
    });
}

#[test]
fn the_label_changes_with_at_secure() {
    guest::run(|guest| {
        let outsider = guest.outsider();
        let subject = guest.subject("");

        assert_eq!(
            outsider.run(&format!("exec {} is-secure", subject.path))[0],
            "ok"
        );
        assert_eq!(
            outsider.run(&format!("exec {} is-secure", outsider.path))[0],
            "ENODATA"
        );
    });
}

#[test]
fn a_subject_keeps_its_label_in_the_program_of_another() {
    guest::run(|guest| {
        let room = guest.files(&["mine", "yours"]);
        let other = guest.subject(&format!("fs:read {room}/yours"));
        let path = &other.path;
        let subject = guest.subject(&format!("fs:read {room}/mine\nprocess:exec {path}"));

        let acts = format!("open-read {room}/mine, open-read {room}/yours");
        // the line is split at commas: the first act runs in the other program, the second in this one
        assert_eq!(
            subject.run(&format!("exec {path} {acts}")),
            ["ok", "ok", "EPERM"]
        );
        assert_eq!(
            subject.run(&format!("exec {path} open-read {room}/yours, say end"))[0],
            "EPERM"
        );
        other.may(&format!("open-read {room}/yours"));
    });
}

#[test]
fn a_script_needs_process_exec_and_so_does_its_interpreter() {
    guest::run(|guest| {
        let room = guest.files(&["no"]);
        let interpreter = guest.outsider().path;
        let script = guest.script(&format!("#!{interpreter} exists\n"));
        let code = format!("fs:read {script}\n");
        let both = guest.subject(&format!("{code}process:exec {script} {interpreter}"));
        let script_only = guest.subject(&format!("{code}process:exec {script}"));
        let interpreter_only = guest.subject(&format!("{code}process:exec {interpreter}"));

        assert_eq!(
            both.run_words(&["become", &script, "--", "open-read", &format!("{room}/no")]),
            ["ok", "EPERM"]
        );
        script_only.may_not(&format!("exec {script}"));
        assert_eq!(
            script_only.denials()[0].what(),
            (EXEC, interpreter.as_str())
        );
        interpreter_only.may_not(&format!("exec {script}"));
        assert_eq!(
            interpreter_only.denials()[0].what(),
            (EXEC, script.as_str())
        );
    });
}

#[test]
fn a_script_of_anybody_runs_under_the_label_of_its_interpreter() {
    guest::run(|guest| {
        let room = guest.files(&["no"]);
        let subject = guest.subject("");
        let script = guest.script(&format!("#!{} exists\n", subject.path));
        let outsider = guest.outsider();
        let no = format!("{room}/no");

        for way in ["become", "thread-become"] {
            assert_eq!(
                outsider.run_words(&[way, &script, "--", "open-read", &no]),
                ["ok", "EPERM"]
            );
        }
        assert_eq!(
            outsider.run(&format!("exec {} is-secure", subject.path))[0],
            "ok"
        );
        subject.closes(SlotState::Refused);
        assert_eq!(outsider.run_words(&["become", &script]), ["EPERM"]);
    });
}

#[test]
fn a_script_is_a_subject_by_its_admitted_name() {
    guest::run(|guest| {
        let room = guest.files(&["yes", "no"]);
        let outsider = guest.outsider();
        let path = guest.script(&format!("#!{} exists\n", outsider.path));
        let interpreter = &outsider.path;
        let rules = format!("fs:read {room}/yes");
        // others than root could replace it, so it is not implied
        let alone = Subject::script(guest, &path, &rules);
        assert_eq!(outsider.run_words(&["become", &path]), ["EPERM"]);
        let refused = (right::RIGHT_LOAD.0, interpreter.as_str());
        assert_eq!(alone.denials()[0].what(), refused);
        drop(alone);
        let rules = format!("{rules} {interpreter}\ncode:load {interpreter}");
        let subject = Subject::script(guest, &path, &rules);
        let run = |path: &str, file: &str| {
            outsider.run_words(&["become", path, "--", "open-read", &format!("{room}/{file}")])
        };

        assert_eq!(run(&path, "yes"), ["ok", "ok"]);
        assert_eq!(run(&path, "no"), ["ok", "EPERM"]);
        // the interpreter would open another name than the one that was decided about
        let alias = format!("{room}/alias");
        outsider.may(&format!(
            "link {path} {alias}, symlink {path} {room}/symlink"
        ));
        subject.denials();
        assert_eq!(run(&alias, "yes"), ["EPERM"]);
        assert_eq!(run(&format!("{room}/symlink"), "yes"), ["EPERM"]);
        assert_eq!(run(&format!("{room}/../../..{path}"), "yes"), ["EPERM"]);
        // nor is it that name in a chroot, in which the interpreter would look for it
        let chroot = |root: &str| {
            let act = format!("mount --rbind / /mnt && exec chroot {root} {path} , exists /");
            let output = std::process::Command::new("unshare")
                .args(["-m", "sh", "-c", &act])
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert_eq!(chroot("/mnt"), "");
        assert_eq!(chroot("/"), "ok\nok\n");
        for denial in subject.denials() {
            assert_eq!(denial.reason, reason::REASON_SCRIPT_PATH.0);
        }
    });
}

#[test]
fn no_subject_puts_another_file_in_the_place_of_an_admitted_script() {
    guest::run(|guest| {
        let room = guest.files(&["evil"]);
        let outsider = guest.outsider();
        outsider.may(&format!(
            "mkdir {room}/bin, mkdir {room}/bin/mine, mkdir {room}/free, mkdir {room}/free/mine"
        ));
        for directory in ["bin", "free"] {
            let script = format!("{room}/{directory}/mine/script");
            fs::write(&script, format!("#!{} exists\n", outsider.path)).unwrap();
        }
        let script = format!("{room}/bin/mine/script");
        guest
            .kernel
            .borrow()
            .keep_ways([script.as_str()].into_iter())
            .unwrap();
        let subject = guest.subject(&format!(
            "fs:create {room}/**\nfs:delete {room}/**\nfs:write {room}/**"
        ));
        let acts = |directory: &str| {
            let at = format!("{room}/{directory}");
            [
                format!("rename {room}/evil {at}/mine/script"),
                format!("rename {at}/mine/script {room}/script"),
                format!("rename-exchange {room}/evil {at}/mine/script"),
                format!("rename-exchange {at}/mine/script {room}/evil"),
                format!("rename {at}/mine {room}/away"),
                format!("rename-exchange {at}/mine {room}/evil"),
                format!("rename {at} {room}/away"),
                format!("unlink {at}/mine/script"),
            ]
        };

        for act in acts("bin") {
            subject.may_not(&act);
            let denials = subject.denials();
            assert_eq!(denials.len(), 1, "{act}: {denials:?}");
            assert_eq!(denials[0].operation, operation::OP_MOVE.0, "{act}");
        }
        let [over, ..] = acts("free");
        subject.may(&over);
        let [_, away, ..] = acts("free");
        subject.may(&away);
        subject.may(&format!("rename {room}/free/mine {room}/away"));
        subject.may(&format!("rename {room}/free {room}/freed"));
        subject.may(&format!("unlink {room}/script"));
        // another one that is kept takes nothing from it
        let other = ["/usr/bin/ldd"].into_iter();
        guest.kernel.borrow().keep_ways(other).unwrap();
        subject.may_not(&format!("unlink {script}"));
        let none = std::iter::empty();
        guest.kernel.borrow().keep_only_ways(none).unwrap();
        subject.may(&format!("unlink {script}"));
    });
}

#[test]
fn mapping_code_needs_code_load() {
    guest::run(|guest| {
        let room = guest.files(&["yes", "no"]);
        for uid in USERS {
            let subject = guest
                .subject(&format!("fs:read {room}/*\ncode:load {room}/yes"))
                .by(uid);
            for act in ["map-exec", "map-then-exec"] {
                subject.may(&format!("{act} {room}/yes"));
                subject.may_not(&format!("{act} {room}/no"));
                let denials = subject.denials();
                assert_eq!(denials.len(), 1);
                assert_eq!(
                    denials[0].what(),
                    (right::RIGHT_LOAD.0, format!("{room}/no").as_str())
                );
            }
            subject.may(&format!("map-read {room}/no"));
        }
    });
}

#[test]
fn pinned_code_is_mapped_under_every_name_and_no_other_file_under_its_own() {
    guest::run(|guest| {
        for uid in USERS {
            let room = guest.files_of(uid, &["pinned", "other", "written"]);
            let outsider = guest.outsider();
            outsider.may(&format!("link {room}/pinned {room}/alias"));
            let subject = guest
                .subject(&format!(
                    "fs:read {room}/alias {room}/other\nfs:write {room}/pinned {room}/written\n\
                     code:load pinned {room}/pinned"
                ))
                .by(uid);
            for act in ["map-exec", "map-then-exec"] {
                subject.may(&format!("{act} {room}/pinned"));
                subject.may(&format!("{act} {room}/alias"));
                assert_eq!(subject.denials(), []);
                subject.may_not(&format!("{act} {room}/other"));
                let denials = subject.denials();
                let refused = (right::RIGHT_LOAD.0, format!("{room}/other"));
                assert_eq!(denials.len(), 1, "{denials:?}");
                assert_eq!(denials[0].what(), (refused.0, refused.1.as_str()));
            }
            assert_eq!(subject.uses(&format!("code:load {room}/pinned")), 4);
            // its private copy, changed, is no longer that file
            subject.may_not(&format!("map-change-exec {room}/pinned"));
            // nobody changes it, by whatever name
            outsider.may_not(&format!("open-write {room}/pinned, open-both {room}/alias"));
            outsider.may_not(&format!("truncate {room}/alias"));
            subject.may_not(&format!("open-write {room}/pinned"));
            subject.may(&format!("open-write {room}/written"));
            // another file takes its name
            outsider.may(&format!("rename {room}/other {room}/pinned"));
            subject.may_not(&format!("map-exec {room}/pinned"));
            subject.may(&format!("open-read {room}/pinned, map-exec {room}/alias"));
            subject.closes(SlotState::Revoked);
            subject.may_not("say ok");
            let alias = format!("{room}/alias");
            drop(subject);
            outsider.may(&format!("open-write {alias}"));
        }
    });
}

#[test]
fn a_program_of_another_s_stays_that_while_it_is_pinned() {
    guest::run(|guest| {
        let room = guest.files(&["yours"]);
        let other = guest.subject(&format!("fs:read {room}/yours"));
        let path = &other.path;
        let pinning = guest.subject(&format!("code:load pinned {path}"));

        pinning.may(&format!("map-exec {path}"));
        other.may(&format!("open-read {room}/yours"));
        other.may_not("open-read /etc/shadow");
        drop(pinning);
        guest.outsider().may_not(&format!("open-write {path}"));
        other.may_not("open-read /etc/shadow");
    });
}

#[test]
fn the_pinned_interpreter_of_an_admitted_script_runs_it() {
    guest::run(|guest| {
        let interpreter = guest.outsider().path;
        let outsider = guest.outsider();
        for (rule, expected) in [("", "EPERM"), (" pinned", "ok")] {
            let script = guest.script(&format!("#!{interpreter} exists\n"));
            let pin = match rule {
                "" => String::new(),
                _ => format!("\ncode:load pinned {interpreter}"),
            };
            let subject = Subject::script(guest, &script, &format!("fs:read {script}{pin}"));
            assert_eq!(outsider.run_words(&["become", &script]), [expected]);
            drop(subject);
        }
    });
}

#[test]
fn an_admitted_program_does_not_run_outside_past_its_execve() {
    guest::run(|guest| {
        let mut linker = Program::from("/lib64/ld-linux-x86-64.so.2");
        let subject = guest.subject("");
        for uid in USERS {
            let mut outsider = guest.outsider();
            (outsider.uid, linker.uid) = (uid, uid);
            let say = |path: &str| linker.run(&format!("{path} say hello"));
            for act in ["map-exec", "map-then-exec"] {
                outsider.may(&format!("{act} {}", outsider.path));
                outsider.may_not(&format!("{act} {}", subject.path));
                let denials = subject.denials();
                assert_eq!(denials.len(), 1, "{denials:?}");
                assert_eq!(
                    denials[0].what(),
                    (right::RIGHT_LOAD.0, subject.path.as_str())
                );
                assert_eq!(denials[0].reason, reason::REASON_BY_LOADER.0);
            }
            outsider.may(&format!("map-read {}", subject.path));
            assert_eq!(say(&outsider.path), ["hello", "ok"]);
            assert_ne!(say(&subject.path)[0], "hello");
            assert_eq!(subject.denials().len(), 1);
        }
        // its own, and those of others that it may load, are a subject's to map
        let rule = format!("code:load {}\nfs:read {}", subject.path, subject.path);
        guest
            .subject(&rule)
            .may(&format!("map-exec {}", subject.path));
        let audited = guest.audited("");
        guest.outsider().may(&format!("map-exec {}", audited.path));
        assert!(!audited.denials()[0].refused);
        subject.closes(SlotState::Refused);
        guest
            .outsider()
            .may_not(&format!("map-exec {}", subject.path));
    });
}

/// Puts managed paths in force until it is dropped.
struct Managed<'g> {
    guest: &'g guest::Guest,
    number: u32,
    plan: Plan,
}

impl<'g> Managed<'g> {
    fn new(guest: &'g guest::Guest, patterns: &[&str], mode: Mode) -> Self {
        let patterns = patterns.iter().map(|text| text.parse().unwrap()).collect();
        let plan = Plan::managed(&patterns).unwrap();
        let number = guest.number();
        let kernel = guest.kernel.borrow();
        kernel.stage(number, &plan).unwrap();
        kernel.manage(Some((number, plan.flags)), mode).unwrap();
        assert!(kernel.read_back(OUTSIDE, number, &plan).unwrap().equal);
        drop(kernel);
        guest.denials_of(OUTSIDE);
        Self {
            guest,
            number,
            plan,
        }
    }
}

impl Drop for Managed<'_> {
    fn drop(&mut self) {
        let kernel = self.guest.kernel.borrow();
        kernel.manage(None, Mode::Enforce).unwrap();
        kernel.retire(self.number, &self.plan).unwrap();
    }
}

#[test]
fn at_a_managed_path_nothing_runs_that_no_artifact_admits() {
    guest::run(|guest| {
        let room = guest.files(&["code", "pinned"]);
        let (program, other) = (format!("{room}/program"), guest.outsider().path);
        Program::copy(&program);
        let script = format!("{room}/script");
        fs::write(&script, format!("#!{other} exists\n")).unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        let interpreted = guest.script(&format!("#!{program} exists\n"));
        let ways = [
            "exec",
            "vfork-exec",
            "exec-opened",
            "become",
            "thread-become",
        ];
        let refused = |denials: Vec<guest::Denial>, act, object: &str| {
            assert_eq!(denials.len(), 1, "{denials:?}");
            assert_eq!(denials[0].what(), (act, object));
            assert_eq!(denials[0].reason, reason::REASON_MANAGED.0);
            assert!(denials[0].refused);
        };
        for uid in USERS {
            let mut outsider = guest.outsider();
            outsider.uid = uid;
            for path in [&program, &script] {
                outsider.is_not_refused(&format!("become {path}"));
            }

            let managed = Managed::new(guest, &[&format!("{room}/**")], Mode::Enforce);

            for way in ways {
                outsider.may_not(&format!("{way} {program} say hello"));
                refused(guest.denials_of(OUTSIDE), CLAIMED, &program);
                assert_eq!(
                    outsider.run(&format!("{way} {other} say hello"))[0],
                    "hello"
                );
            }
            for path in [&script, &interpreted] {
                outsider.may_not(&format!("become {path}"));
                let object = if *path == script { path } else { &program };
                refused(guest.denials_of(OUTSIDE), CLAIMED, object);
            }
            for act in ["map-exec", "map-then-exec"] {
                outsider.may_not(&format!("{act} {room}/code"));
                refused(guest.denials_of(OUTSIDE), LOAD, &format!("{room}/code"));
            }
            outsider.may(&format!("map-read {room}/code, map-exec {other}"));
            // pinned by anybody, it is admitted code
            let pinning = guest.subject(&format!("code:load pinned {room}/pinned"));
            outsider.may(&format!("map-exec {room}/pinned"));
            pinning.closes(SlotState::Revoked);
            outsider.may_not(&format!("map-exec {room}/pinned"));
            drop(pinning);
            // a subject's own envelope says it
            let rules = format!("fs:read {room}/code\ncode:load {room}/code");
            let subject = guest
                .subject(&format!("{rules}\nprocess:exec {program}"))
                .by(uid);
            subject.may(&format!("map-exec {room}/code"));
            assert_eq!(
                subject.run(&format!("exec {program} say hello"))[0],
                "hello"
            );
            subject.may_not(&format!("become {script}"));
            // and an admitted program runs
            let path = format!("{room}/admitted");
            let own =
                Subject::of(guest, Program::copy(&path), "profile:base", Mode::Enforce).by(uid);
            assert_eq!(
                outsider.run(&format!("become {path} say hello"))[0],
                "hello"
            );
            own.closes(SlotState::Refused);
            outsider.may_not(&format!("become {path} say hello"));
            drop(own);
            drop(managed);
            outsider.is_not_refused(&format!("become {program}"));
            outsider.may(&format!("map-exec {room}/code"));
        }
        let _managed = Managed::new(guest, &[&program, &format!("{room}/co*")], Mode::Audit);
        let outsider = guest.outsider();
        outsider.is_not_refused(&format!("become {program}"));
        assert!(!guest.denials_of(OUTSIDE)[0].refused);
        outsider.may(&format!("map-exec {room}/code"));
        assert!(!guest.denials_of(OUTSIDE)[0].refused);
        outsider.is_not_refused(&format!("become {script}"));
        assert_eq!(guest.denials_of(OUTSIDE), []);
    });
}

#[test]
fn what_has_no_name_that_can_be_told_is_no_way_around_managed_paths() {
    guest::run(|guest| {
        let room = guest.directory();
        let (inside, outside) = (format!("{room}/program"), format!("{room}.program"));
        let outsider = guest.outsider();
        let _managed = Managed::new(guest, &[&format!("{room}/**")], Mode::Enforce);
        for (path, expected) in [(&inside, "EPERM"), (&outside, "hello")] {
            Program::copy(path);
            // by a descriptor, and deleted in between
            let act = format!("exec-deleted {path} say hello");
            assert_eq!(outsider.run(&act)[0], expected);
        }
        assert_eq!(
            outsider.run("exec-memfd code say made"),
            ["made", "ok", "ok"]
        );
    });
}

#[test]
fn a_measured_program_runs_with_an_admitted_content_only() {
    guest::run(|guest| {
        let subject = guest.subject("");
        let own = sha256_hex(&fs::read(&subject.path).unwrap());
        let other = sha256_hex(b"other");
        let outsider = guest.outsider();
        let script = guest.script(&format!("#!{} exists\n", subject.path));
        let rule = format!("process:exec {} {script}\nfs:read {script}", subject.path);
        let parent = guest.subject(&rule);
        let measure = |hashes: &[&String]| {
            let hashes = hashes.iter().map(|hash| (*hash).clone()).collect();
            subject.measures(&hashes);
        };
        for uid in USERS {
            let outsider = Program {
                path: outsider.path.clone(),
                uid,
            };
            let ways = [
                "exec",
                "vfork-exec",
                "exec-opened",
                "become",
                "thread-become",
            ];
            measure(&[&other, &own]);
            for way in ways {
                let lines = outsider.run(&format!("{way} {} say hello", subject.path));
                assert_eq!(lines[0], "hello", "{way}");
            }
            assert_eq!(outsider.run(&format!("become {script}")), ["ok"]);
            assert_eq!(subject.denials(), []);
            measure(&[&other]);
            for way in ways {
                outsider.may_not(&format!("{way} {} say hello", subject.path));
                let denials = subject.denials();
                assert_eq!(denials.len(), 1, "{denials:?}");
                assert_eq!(denials[0].what(), (CLAIMED, subject.path.as_str()));
                assert_eq!(denials[0].reason, reason::REASON_CONTENT.0);
            }
            for act in [
                format!("become {script}"),
                format!("become {}", subject.path),
            ] {
                outsider.may_not(&act);
                parent.may_not(&act);
                assert_eq!(subject.denials().len(), 2, "{act} {:?}", parent.denials());
            }
            measure(&[]);
            assert_eq!(
                outsider.run(&format!("exec {} say hello", subject.path))[0],
                "hello"
            );
        }
    });
}

#[test]
fn making_code_needs_code_generate() {
    guest::run(|guest| {
        for uid in USERS {
            let room = guest.files_of(uid, &["file"]);
            let rules = format!(
                "fs:read {room}/file /proc/self/mem\nfs:write {room}/file /proc/self/mem\ncode:load {room}/file"
            );
            let without = guest.subject(&rules).by(uid);
            let with = guest.subject(&format!("{rules}\ncode:generate")).by(uid);
            for act in [
                "map-exec-anonymous",
                "make-exec-anonymous",
                "map-change-exec F",
                "map-write-exec F",
                "map-exec-memfd",
                "attach-exec",
                "write-own-memory",
                "exec-memfd code say made",
                "ptrace-child",
            ] {
                let act = act.replace('F', &format!("{room}/file"));
                without.may_not(&act);
                let lines = with.run(&act);
                assert_eq!(
                    lines.last().map(String::as_str),
                    Some("ok"),
                    "{act}: {lines:?}"
                );
            }
        }
    });
}

#[test]
fn making_all_that_can_be_read_executable_ends_a_subject_without_code_generate() {
    guest::run(|guest| {
        let acts = [
            "imply-exec",
            "imply-exec-break",
            "thread imply-exec",
            "imply-exec-32",
        ];
        for uid in USERS {
            let subject = guest.subject("").by(uid);
            for act in acts {
                assert_eq!(subject.run(act), ["killed by 9"], "{act}");
                let denials = subject.denials();
                // one of each copy of the programs: those let go before may be there for a moment
                assert!(!denials.is_empty(), "{act}");
                for told in denials {
                    assert_eq!((told.what(), told.refused), ((GENERATE, ""), true), "{act}");
                }
            }
            subject.may("ask-personality, ask-personality-32");
            assert_eq!(subject.denials(), []);
            let with = guest.subject("code:generate").by(uid);
            let mut outsider = guest.outsider();
            outsider.uid = uid;
            for act in acts {
                with.may(act);
                outsider.may(act);
            }
        }
        // and tells of it only, in audit mode
        let audited = guest.audited("");
        audited.may("imply-exec-break");
        assert!(!audited.denials()[0].refused);
    });
}

/// An ELF file of one segment that maps the whole file readable, and asks for a dynamic linker.
fn elf(linker: Option<&str>) -> Vec<u8> {
    let mut text = linker.unwrap_or_default().as_bytes().to_vec();
    text.push(0);
    let segments: &[(u32, u32, u64)] = match linker {
        Some(_) => &[(3, 4, text.len() as u64), (1, 5, 4096)],
        None => &[(1, 4, 4096)],
    };
    let start = 64 + 56 * segments.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([3, 0, 62, 0, 1, 0, 0, 0]); // ET_DYN, x86-64
    file.extend([start, 64, 0].map(u64::to_le_bytes).concat());
    file.extend([
        0,
        0,
        0,
        0,
        64,
        0,
        56,
        0,
        segments.len() as u8,
        0,
        64,
        0,
        0,
        0,
        0,
        0,
    ]);
    for (kind, flags, size) in segments {
        let offset = if *kind == 3 { start } else { 0 };
        file.extend([kind, flags].map(|word| word.to_le_bytes()).concat());
        file.extend(
            [offset, offset, offset, *size, *size, 4096]
                .map(u64::to_le_bytes)
                .concat(),
        );
    }
    file.extend(text);
    file.resize(4096, 0);
    file
}

#[test]
fn starting_a_program_maps_no_linker_beyond_the_envelope_not_even_to_read_it() {
    guest::run(|guest| {
        let room = guest.files(&["linker", "program"]);
        let (linker, program) = (format!("{room}/linker"), format!("{room}/program"));
        std::fs::write(&linker, elf(None)).unwrap();
        std::fs::write(&program, elf(Some(&linker))).unwrap();
        let runs = format!("process:exec {program}\ncode:load {program}");
        let subject = guest.subject(&runs);
        let loads = guest.subject(&format!("{runs}\ncode:load {linker}"));

        // both end in the linker that has no code; only one of them has seen it
        subject.run(&format!("exec {program}"));
        let denials = subject.denials();
        assert_eq!(denials.len(), 1, "{denials:?}");
        assert_eq!(denials[0].what(), (right::RIGHT_LOAD.0, linker.as_str()));
        loads.run(&format!("exec {program}"));
        assert_eq!(loads.denials(), []);
        assert_eq!(loads.uses(&format!("code:load {linker}")), 1);
    });
}

#[test]
fn what_runs_from_memory_stays_a_subject() {
    guest::run(|guest| {
        let room = guest.files(&["no"]);
        let subject = guest.subject("code:generate");

        assert_eq!(
            subject.run(&format!("exec-memfd code open-read {room}/no"))[0],
            "EPERM"
        );
    });
}

#[test]
fn a_claimed_path_runs_no_other_content() {
    guest::run(|guest| {
        let subject = guest.subject("");
        let outsider = guest.outsider();
        subject.claims();
        let insider = guest.subject(&format!("process:exec {ROOM}/**"));

        assert_eq!(
            outsider.run(&format!("exec {} say hello", subject.path)),
            ["hello", "ok", "ok"]
        );
        // as a package manager would replace it
        let old = format!("{}.old", subject.path);
        outsider.may(&format!("rename {} {old}", subject.path));
        let replaced = Program::copy(&subject.path);
        for way in ["exec", "vfork-exec", "exec-opened", "thread-become"] {
            outsider.may_not(&format!("{way} {} say hello", subject.path));
        }
        insider.may_not(&format!("exec {} say hello", subject.path));
        let interpreted = guest.script(&format!("#!{}\n", subject.path));
        outsider.may_not(&format!("exec {interpreted}"));
        insider.may_not(&format!("exec {interpreted}"));
        let denials = subject.denials();
        assert_eq!(denials.len(), 7, "{denials:?}");
        for denial in denials {
            assert_eq!(
                denial.what(),
                (operation::OP_CLAIMED.0, subject.path.as_str())
            );
            assert_eq!(denial.reason, reason::REASON_CONTENT.0);
        }
        // another name is not claimed, and what was admitted still is what it was
        outsider.may(&format!("link {} {ROOM}/unclaimed", subject.path));
        assert_eq!(
            outsider.run(&format!("exec {ROOM}/unclaimed say hello")),
            ["hello", "ok", "ok"]
        );
        assert_eq!(
            outsider.run(&format!("exec {old} say hello")),
            ["hello", "ok", "ok"]
        );
        subject.unclaims();
        assert_eq!(replaced.run("say hello"), ["hello", "ok"]);
    });
}

#[test]
fn a_claimed_name_means_another_file_in_a_chroot() {
    guest::run(|guest| {
        let subject = guest.subject("");
        subject.claims();
        fs::rename(&subject.path, format!("{}.aside", subject.path)).unwrap();
        let replaced = Program::copy(&subject.path);
        let chroot = |root: &str| {
            let act = format!(
                "mount --rbind / /mnt && exec chroot {root} {} say hello",
                subject.path
            );
            let output = std::process::Command::new("unshare")
                .args(["-m", "sh", "-c", &act])
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };

        assert_eq!(replaced.run("say hello"), ["EPERM"]);
        assert_eq!(chroot("/"), "");
        assert_eq!(chroot("/mnt"), "hello\nok\n");
    });
}

#[test]
fn a_refused_artifact_s_program_does_not_run() {
    guest::run(|guest| {
        let subject = guest.subject("");
        let outsider = guest.outsider();
        for state in [SlotState::Refused, SlotState::Revoked, SlotState::Unknown] {
            subject.closes(state);
            for uid in USERS {
                let mut runner = Program::from(outsider.path.as_str());
                runner.uid = uid;
                for way in [
                    "exec",
                    "vfork-exec",
                    "exec-opened",
                    "become",
                    "thread-become",
                ] {
                    runner.may_not(&format!("{way} {} say hello", subject.path));
                }
            }
        }
        let denials = subject.denials();
        assert_eq!(denials.len(), 30);
        assert!(
            denials
                .iter()
                .all(|d| d.operation == operation::OP_CLAIMED.0),
            "{denials:?}"
        );
    });
}

#[test]
fn an_exec_that_fails_leaves_nothing_behind() {
    guest::run(|guest| {
        let room = guest.files(&["file"]);
        let outsider = guest.outsider();
        let garbage = guest.script("no program at all");
        let _bound = Subject::of(
            guest,
            Program::from(garbage.as_str()),
            "profile:base",
            Mode::Enforce,
        );

        for way in ["become", "thread-become"] {
            assert_eq!(
                outsider.run(&format!(
                    "{way} {garbage}, become {} open-read {room}/file",
                    outsider.path
                )),
                ["ENOEXEC", "ok"]
            );
        }
    });
}

#[test]
fn sharing_its_files_and_directories_nobody_becomes_a_subject() {
    guest::run(|guest| {
        let outsider = guest.outsider();
        let subject = guest.subject("");

        outsider.may_not(&format!("clone-shared become {}", subject.path));
        assert_eq!(subject.denials()[0].reason, reason::REASON_UNSAFE.0);
    });
}

#[test]
fn revocation_reaches_a_running_process_at_its_next_act() {
    guest::run(|guest| {
        let room = guest.files(&["file"]);
        let other = guest.outsider().path;
        let rules = format!(
            "fs:read {room}/**\nfs:write {room}/**\nfs:create {room}/**\nfs:delete {room}/**\n\
             process:exec {other}\ncode:load {other} {room}/**\ncode:generate\n\
             net:connect tcp://*:* udp://*:*\nnet:listen tcp://*:*"
        );
        let acts = [
            "open-read F".to_owned(),
            "open-write F".to_owned(),
            "truncate F".to_owned(),
            "utimes F".to_owned(),
            "create R/new".to_owned(),
            "unlink F".to_owned(),
            "memfd-truncate".to_owned(),
            "pipe-reopen".to_owned(),
            format!("exec {other} say hello"),
            "map-exec-anonymous".to_owned(),
            "connect tcp 127.0.0.1:9".to_owned(),
            "sendto 127.0.0.1:9".to_owned(),
            "listen 127.0.0.1:0".to_owned(),
            "kill-self".to_owned(),
            "unix-pair-datagram".to_owned(),
        ];
        let line = acts
            .join(", ")
            .replace("R/", &format!("{room}/"))
            .replace('F', &format!("{room}/file"));
        for (state, why) in [
            (SlotState::Revoked, reason::REASON_REVOKED),
            (SlotState::Unknown, reason::REASON_UNKNOWN_SLOT),
            (SlotState::Refused, reason::REASON_REFUSED),
        ] {
            let subject = guest.subject(&rules);
            let gate = format!("{room}/gate{}", guest.number());
            let mut running =
                subject.spawn(&format!("open-read {room}/file, await {gate}, {line}"));
            assert_eq!(running.line(), "ok");

            subject.closes(state);
            fs::write(&gate, "").unwrap();

            assert_eq!(running.line(), "ok");
            for act in line.split(", ") {
                assert_eq!(running.line(), "EPERM", "{act} {state:?}");
            }
            let denials = subject.denials();
            assert!(denials.len() >= acts.len(), "{denials:?}");
            assert!(
                denials.iter().all(|denial| denial.reason == why.0),
                "{denials:?}"
            );
        }
    });
}

#[test]
fn another_envelope_holds_from_the_next_act_on() {
    guest::run(|guest| {
        let room = guest.files(&["a", "b"]);
        let subject = guest.subject(&format!("fs:read {room}/a"));
        let gate = format!("{room}/gate");
        let acts = format!("open-read {room}/a, open-read {room}/b");
        let mut running = subject.spawn(&format!("{acts}, await {gate}, {acts}"));
        assert_eq!(
            (running.line(), running.line()),
            ("ok".into(), "EPERM".into())
        );

        subject.changes_to(&format!("fs:read {room}/b"), Mode::Enforce);
        fs::write(&gate, "").unwrap();

        assert_eq!(running.line(), "ok");
        assert_eq!(
            (running.line(), running.line()),
            ("EPERM".into(), "ok".into())
        );
    });
}

#[test]
fn audit_mode_refuses_nothing_and_says_what_it_would_refuse() {
    guest::run(|guest| {
        let room = guest.files(&["file", "pinned"]);
        let other = guest.outsider().path;
        for uid in USERS {
            let subject = guest.audited("").by(uid);
            let acts = format!(
                "open-read {room}/file, open-write {room}/file, exec {other} in / say hello, \
                 map-exec-anonymous, kill 1, connect udp 127.0.0.1:9, unshare-user"
            );
            let lines = subject.run(&acts);
            assert!(
                !lines.contains(&"EPERM".to_owned()) || uid != 0,
                "{lines:?}"
            );
            let totals = subject.totals();
            assert_eq!(totals.denied, 0);
            assert!(totals.would_deny >= 7, "{totals:?}");
            let denials = subject.denials();
            assert!(denials.iter().all(|denial| !denial.refused));
            assert_eq!(
                denials.len() as u64 + totals.lost + totals.silent,
                totals.would_deny
            );
            assert!(
                denials
                    .iter()
                    .any(|d| d.what() == (READ, &format!("{room}/file")))
            );
        }
    });
}

#[test]
fn running_processes_are_adopted_with_their_children() {
    guest::run(|guest| {
        let room = guest.files(&["file"]);
        let program = guest.outsider();
        let bystander = guest.outsider();
        let gate = format!("{room}/gate");
        let acts = format!("up await {gate}, open-read {room}/file");
        let mut alone = program.spawn(&acts);
        let mut parent =
            program.spawn(&format!("fork up await {gate}, fork open-read {room}/file"));
        let mut threaded = program.spawn(&format!(
            "thread up await {gate}, thread open-read {room}/file"
        ));
        let mut other = bystander.spawn(&acts);
        for running in [&mut alone, &mut parent, &mut threaded, &mut other] {
            assert_eq!(running.line(), "up");
        }

        let subject = Subject::of(guest, program, "profile:base", Mode::Enforce);
        let adopted = guest.kernel.borrow().adopt().unwrap().len();
        let tasks = guest.kernel.borrow().tasks().unwrap();
        fs::write(&gate, "").unwrap();

        // the one alone, the parent and its child, the threaded one
        assert_eq!((adopted, tasks.get(&subject.slot)), (4, Some(&4)));
        for running in [&mut alone, &mut parent, &mut threaded] {
            assert_eq!(
                (running.line(), running.line()),
                ("ok".into(), "EPERM".into())
            );
        }
        assert_eq!((other.line(), other.line()), ("ok".into(), "ok".into()));
        assert_eq!(guest.kernel.borrow().adopt().unwrap().len(), 0);
    });
}

#[test]
fn what_a_subject_had_started_before_it_became_one_stays_outside() {
    guest::run(|guest| {
        let room = guest.files(&["file"]);
        let helper = guest.outsider();
        let subject = guest.subject("");
        let gate = format!("{room}/gate");
        let script = format!(
            "{} up await {gate} , open-read {room}/file & exec {} await {gate}",
            helper.path, subject.path
        );
        let mut shell = Program::from("/bin/sh").spawn_words(&["-c", &script]);
        assert_eq!(shell.line(), "up");

        let another = guest.outsider();
        let _admitted = Subject::of(guest, another, "profile:base", Mode::Enforce);
        assert_eq!(guest.kernel.borrow().adopt().unwrap().len(), 0);

        fs::write(&gate, "").unwrap();
        // it waited and read, the subject waited
        for _ in 0..3 {
            assert_eq!(shell.line(), "ok");
        }
    });
}

#[test]
fn a_child_that_was_being_made_during_the_adoption_is_held() {
    guest::run(|guest| {
        let room = guest.files(&["file"]);
        for round in 0..6 {
            let program = guest.outsider();
            let gate = format!("{room}/gate{round}");
            let mut running = program.spawn(&format!("fork-heavy 64 {gate} open-read {room}/file"));
            assert_eq!(running.line(), "up");
            std::thread::sleep(std::time::Duration::from_millis(round * 4));
            let _subject = Subject::of(guest, program, "profile:base", Mode::Enforce);
            guest.kernel.borrow().adopt().unwrap();

            fs::write(&gate, "").unwrap();
            assert_eq!(running.line(), "EPERM", "the child, round {round}");
        }
    });
}

#[test]
fn a_process_whose_main_thread_has_ended_is_adopted_all_the_same() {
    guest::run(|guest| {
        let room = guest.files(&["yes", "no"]);
        let (program, bystander) = (guest.outsider(), guest.outsider());
        let gate = format!("{room}/gate");
        let acts = format!(
            "leaderless each say up then await {gate} then open-read {room}/yes then open-read {room}/no"
        );
        let mut running = program.spawn(&acts);
        let mut other = bystander.spawn(&acts);
        for process in [&mut running, &mut other] {
            assert_eq!((process.line(), process.line()), ("up".into(), "ok".into()));
        }

        let rules = format!("profile:base\nfs:read {room}/yes");
        let subject = Subject::of(guest, program, &rules, Mode::Enforce);
        let adopted = guest.kernel.borrow().adopt().unwrap().len();
        let tasks = guest.kernel.borrow().tasks().unwrap();
        fs::write(&gate, "").unwrap();

        assert_eq!((adopted, tasks.get(&subject.slot)), (1, Some(&1)));
        let held = [running.line(), running.line(), running.line()];
        let free = [other.line(), other.line(), other.line()];
        assert_eq!(held, ["ok", "ok", "EPERM"]);
        assert_eq!(free, ["ok", "ok", "ok"]);
    });
}

#[test]
fn an_exec_that_was_under_way_during_admission_ends_inside_the_envelope() {
    guest::run(|guest| {
        let room = guest.files(&["yes", "no"]);
        let (program, bystander) = (guest.outsider(), guest.outsider());
        let gate = format!("{room}/gate");
        let starter = guest.outsider();
        let begin = |path: &str| {
            let acts = format!(
                "exec-held {gate} {path} each open-read {room}/yes then open-read {room}/no"
            );
            let mut process = starter.spawn(&acts);
            assert_eq!(process.line(), "held");
            process
        };
        let mut running = begin(&program.path);
        let mut other = begin(&bystander.path);

        let rules = format!("profile:base\nfs:read {room}/yes");
        let subject = Subject::of(guest, program, &rules, Mode::Enforce);
        // it still has its old image, so there is nobody to adopt
        assert_eq!(guest.kernel.borrow().adopt().unwrap().len(), 0);
        fs::write(&gate, "").unwrap();

        assert_eq!(
            (running.line(), running.line()),
            ("ok".into(), "EPERM".into())
        );
        assert_eq!((other.line(), other.line()), ("ok".into(), "ok".into()));
        let denials = subject.denials();
        assert_eq!(denials.len(), 1, "{denials:?}");
        assert_eq!(denials[0].what(), (READ, format!("{room}/no").as_str()));
    });
}

#[test]
fn a_process_whose_exec_failed_is_adopted_all_the_same() {
    guest::run(|guest| {
        let room = guest.files(&["file"]);
        let program = guest.outsider();
        let garbage = guest.script("no program at all");
        let bound = Program::from(garbage.as_str());
        let _bound = Subject::of(guest, bound, "profile:base", Mode::Enforce);
        let gate = format!("{room}/gate");
        let mut running = program.spawn(&format!(
            "become {garbage}, await {gate}, open-read {room}/file"
        ));
        assert_eq!(running.line(), "ENOEXEC");

        let _subject = Subject::of(guest, program, "profile:base", Mode::Enforce);
        let adopted = guest.kernel.borrow().adopt().unwrap().len();
        fs::write(&gate, "").unwrap();

        assert_eq!(adopted, 1);
        assert_eq!(
            (running.line(), running.line()),
            ("ok".into(), "EPERM".into())
        );
    });
}

#[test]
fn a_record_says_who_did_what_to_what() {
    guest::run(|guest| {
        let room = guest.files(&["file"]);
        for uid in USERS {
            let subject = guest.subject("").by(uid);
            let running = subject.spawn(&format!("open-read {room}/file, await {room}/never"));
            let denial = loop {
                if let Some(denial) = subject.denials().pop() {
                    break denial;
                }
            };

            assert_eq!(denial.what(), (READ, format!("{room}/file").as_str()));
            assert_eq!(denial.exe, subject.path);
            assert_eq!(denial.comm, subject.path.rsplit('/').next().unwrap());
            assert_eq!((denial.tgid, denial.uid), (running.pid(), uid));
            assert_eq!(denial.reason, reason::REASON_NO_RULE.0);
            assert!(denial.refused);
        }
    });
}

#[test]
fn every_refusal_is_counted_also_those_without_a_record() {
    guest::run(|guest| {
        let room = guest.files(&["file"]);
        let subject = guest.subject("");

        subject.may_not(&format!("repeat 2000 open-read {room}/file"));

        let totals = subject.totals();
        let seen = subject.denials().len() as u64;
        assert_eq!(totals.denied, 2000);
        assert!(totals.lost > 0, "the budget of a second: {totals:?}");
        assert_eq!(
            seen + totals.lost + totals.silent,
            totals.denied,
            "{totals:?}"
        );
    });
}

#[test]
fn strangers_do_not_use_up_the_records_of_a_subject() {
    guest::run(|guest| {
        let room = guest.files(&["file"]);
        let subject = guest.subject("");
        let outsider = guest.outsider();

        outsider.may_not(&format!("repeat 2000 open-write {}", subject.path));
        subject.may_not(&format!("repeat 250 open-read {room}/file"));

        let denials = subject.denials();
        let own = denials.iter().filter(|d| d.exe == subject.path).count();
        assert!(subject.totals().lost > 0);
        assert_eq!(own, 250, "{:?} {:?}", denials.last(), subject.totals());
    });
}

#[test]
fn a_full_ring_changes_no_verdict_and_loses_no_count() {
    guest::run(|guest| {
        let room = guest.files(&["file"]);
        let subjects: Vec<Subject> = (0..16).map(|_| guest.subject("")).collect();

        for subject in &subjects {
            subject.may_not(&format!("repeat 255 open-read {room}/file"));
        }

        let totals: Vec<_> = subjects.iter().map(Subject::totals).collect();
        let seen: Vec<_> = subjects.iter().map(|s| s.denials().len() as u64).collect();
        assert!(
            totals.iter().all(|totals| totals.denied == 255),
            "{totals:?}"
        );
        for (totals, seen) in totals.iter().zip(&seen) {
            assert_eq!(totals.denied, seen + totals.lost + totals.silent);
        }
        let lost: u64 = totals.iter().map(|totals| totals.lost).sum();
        assert!(lost > 0, "the ring never was full");
        // and it works again
        subjects[0].may_not(&format!("open-read {room}/file"));
        assert_eq!(subjects[0].denials().len(), 1);
    });
}

#[test]
fn debian_s_programs_start_with_the_base_profile() {
    guest::run(|guest| {
        for (program, arguments, more) in [
            (
                "/usr/bin/cat",
                &["/etc/hostname"][..],
                "fs:read /etc/hostname",
            ),
            ("/usr/bin/ls", &["/srv"], "fs:read /srv"),
            ("/usr/bin/socat", &["-V"], ""),
            ("/usr/bin/prometheus-node-exporter", &["--version"], ""),
            (
                "/usr/bin/python3",
                &["-c", "print(1)"],
                "fs:read /usr/lib/python3*",
            ),
        ] {
            let path = fs::canonicalize(program).unwrap();
            let path = path.to_str().unwrap();
            let more = more.replace(
                "/usr/lib/python3*",
                &format!("/usr/lib/{}/**", path.rsplit('/').next().unwrap()),
            );
            let more = format!("profile:base\n{more}");
            let subject = Subject::of(guest, Program::from(path), &more, Mode::Enforce);
            for uid in USERS {
                let mut program = Program::from(path);
                program.uid = uid;
                let output = program.command(arguments).output().unwrap();
                assert!(
                    output.status.success(),
                    "{path}: {output:?}\n{:#?}",
                    subject.denials()
                );
                assert!(!output.stdout.is_empty());
            }
            drop(subject);
        }
    });
}

#[test]
fn a_file_is_named_as_realpath_names_it() {
    guest::run(|guest| {
        let room = guest.files(&[
            "plain",
            "a/",
            "a/b/",
            "a/b/c",
            "x (deleted)",
            "low/",
            "merged/",
            "bound/",
            "tmp/",
        ]);
        let shell = format!(
            "mount --bind {room}/a {room}/bound && mount -t tmpfs none {room}/tmp && echo 1 >{room}/tmp/1 && \
             mount --bind {room}/plain {room}/tmp/1 && mkdir {room}/tmp/d && \
             mount --rbind {room}/bound {room}/tmp/d && echo 1 >{room}/low/1 && modprobe overlay && \
             mount -t overlay -o lowerdir={room}/low:{room}/a none {room}/merged"
        );
        assert!(
            std::process::Command::new("sh")
                .args(["-c", &shell])
                .status()
                .unwrap()
                .success()
        );
        let long = (0..15).fold(format!("{room}/a"), |path, _| {
            format!("{path}/{}", "l".repeat(250))
        });
        fs::create_dir_all(&long).unwrap();
        let names = [
            "/",
            "/etc",
            "/etc/passwd",
            "/bin/sh",
            "/proc",
            "/proc/uptime",
            "/sys/kernel",
            "/dev/null",
            "/dev/pts",
            "/sys/fs/bpf",
            &format!("{room}/plain"),
            &format!("{room}/x (deleted)"),
            &format!("{room}/bound/b/c"),
            &format!("{room}/tmp"),
            &format!("{room}/tmp/1"),
            &format!("{room}/tmp/d/b/c"),
            &format!("{room}/merged/1"),
            &format!("{room}/merged/b"),
            &long,
            &format!("{room}/.././../t"),
        ];
        let kernel = guest.kernel.borrow();
        for name in names {
            let file = File::open(name).unwrap_or_else(|error| panic!("{name}: {error}"));
            let real = fs::canonicalize(name).unwrap();
            let (_, path) = kernel.identify(&file).unwrap();
            assert_eq!(path.as_deref(), real.to_str(), "{name}");
        }
        let own = File::open("/proc/self/status").unwrap();
        let init = File::open("/proc/1/status").unwrap();
        assert_eq!(
            kernel.identify(&own).unwrap().1.as_deref(),
            Some("/proc/self/status")
        );
        assert_eq!(
            kernel.identify(&init).unwrap().1.as_deref(),
            Some("/proc/*/status")
        );
        // no name: deleted, of a pipe, on a mount that is gone
        let deleted = File::open(format!("{room}/x (deleted)")).unwrap();
        fs::remove_file(format!("{room}/x (deleted)")).unwrap();
        assert_eq!(kernel.identify(&deleted).unwrap().1, None);
        let gone = File::open(format!("{room}/tmp/1")).unwrap();
        let status = std::process::Command::new("umount")
            .args(["-l", &format!("{room}/tmp")])
            .status();
        assert!(status.unwrap().success());
        assert_eq!(kernel.identify(&gone).unwrap().1, None);
        let (reader, _writer) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(reader));
        assert_eq!(kernel.identify(&pipe).unwrap().1, None);
    });
}
