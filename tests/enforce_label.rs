//! How a label changes, on a real kernel: a subject that runs another artifact's program under that one's
//! envelope, where its own says so, and never into less.

#![allow(clippy::unwrap_used)] // outside of #[test] too: this file is nothing but tests

mod guest;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;

use cartouche::bpf::sys::{operation, reason};
use cartouche::enforcer::{Mode, SlotState, UnitRules};
use guest::{Guest, Program, Subject, USERS};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

const LABEL: u32 = operation::OP_LABEL.0;

/// Asserts that the last refusal was one of a change of label, for this reason.
#[track_caller]
fn refused_label(subject: &Subject, expected: reason) {
    let denials = subject.denials();
    let told = denials.iter().find(|denial| denial.operation == LABEL);
    assert_eq!(
        told.map(|told| told.reason),
        Some(expected.0),
        "{denials:?}"
    );
}

#[test]
fn a_program_takes_its_own_artifact_s_label_where_the_envelope_says_so() {
    guest::run(|guest| {
        let room = guest.files(&["mine", "yours"]);
        let (mine, yours) = (format!("{room}/mine"), format!("{room}/yours"));
        let other = guest.subject(&format!("fs:read {yours}"));
        let path = &other.path;
        for uid in USERS {
            let transition = format!("fs:read {mine}\nprocess:exec {path} transition artifact");
            let subject = guest.subject(&transition).by(uid);
            for way in ["exec", "vfork-exec", "thread-become", "fork exec", "become"] {
                let line = |act: &str| subject.run(&format!("{way} {path} {act}"))[0].clone();
                assert_eq!(line(&format!("open-read {yours}")), "ok", "{way}");
                assert_eq!(line(&format!("open-read {mine}")), "EPERM", "{way}");
                assert_eq!(line("is-secure"), "ok", "{way}");
            }
            // what it has become starts is the other's as well
            let own = guest.subject(&format!("process:exec {path} transition artifact"));
            assert_eq!(
                own.run(&format!("exec {path} fork open-read {yours}"))[0],
                "ok"
            );
            let inherit = format!("fs:read {mine}\nprocess:exec {path}");
            let subject = guest.subject(&inherit).by(uid);
            assert_eq!(
                subject.run(&format!("exec {path} open-read {yours}"))[0],
                "EPERM"
            );
            assert_eq!(
                subject.run(&format!("exec {path} open-read {mine}"))[0],
                "ok"
            );
            assert_eq!(subject.run(&format!("exec {path} is-secure"))[0], "ENODATA");
        }
    });
}

#[test]
fn a_program_without_an_artifact_in_force_does_not_run_so() {
    guest::run(|guest| {
        let outsider = guest.outsider();
        let other = guest.subject("");
        let subject = guest.subject(&format!(
            "process:exec {} {} transition artifact",
            outsider.path, other.path
        ));

        subject.may_not(&format!("exec {} exists /", outsider.path));
        refused_label(&subject, reason::REASON_NO_ARTIFACT);
        assert_eq!(
            subject.run(&format!("exec {} exists /", other.path)),
            ["ok", "ok"]
        );
        other.closes(SlotState::Revoked);
        subject.may_not(&format!("exec {} exists /", other.path));
    });
}

#[test]
fn its_own_program_keeps_its_label() {
    guest::run(|guest| {
        let path = "/srv/t/again";
        let program = Program::copy(path);
        let room = guest.files(&["mine"]);
        let subject = Subject::of(
            guest,
            program,
            &format!("profile:base\nfs:read {room}/mine\nprocess:exec {path} transition artifact"),
            Mode::Enforce,
        );

        assert_eq!(
            subject.run(&format!("exec {path} open-read {room}/mine"))[0],
            "ok"
        );
    });
}

#[test]
fn nobody_goes_into_audit_mode_but_from_there() {
    guest::run(|guest| {
        let lenient = guest.audited("");
        let rule = format!("process:exec {} transition artifact", lenient.path);

        let subject = guest.subject(&rule);
        subject.may_not(&format!("exec {} exists /", lenient.path));
        refused_label(&subject, reason::REASON_WIDENS);
        let run = format!("exec {} exists /", lenient.path);
        assert_eq!(guest.audited(&rule).run(&run), ["ok", "ok"]);
        lenient.changes_to("profile:base", Mode::Enforce);
        assert_eq!(subject.run(&run), ["ok", "ok"]);
    });
}

#[test]
fn who_is_traced_or_shares_its_files_takes_no_other_label() {
    guest::run(|guest| {
        let other = guest.subject("");
        let path = &other.path;
        let rule = format!("process:exec {path}");
        let own = format!("process:trace self\n{rule} transition artifact");
        let inherit = format!("process:trace self\n{rule}");
        for uid in USERS {
            let subject = guest.subject(&own).by(uid);
            subject.may_not(&format!("traced-exec {path} exists /"));
            refused_label(&subject, reason::REASON_UNSAFE);
            subject.may_not(&format!("clone-shared become {path} exists /"));
            refused_label(&subject, reason::REASON_UNSAFE);
            let inherits = guest.subject(&inherit).by(uid);
            for way in ["traced-exec", "clone-shared become"] {
                let lines = inherits.run(&format!("{way} {path} exists /"));
                assert_eq!(lines.first().map(String::as_str), Some("ok"), "{way}");
            }
        }
    });
}

#[test]
fn a_script_takes_its_own_label_and_lends_it_to_no_other_interpreter() {
    guest::run(|guest| {
        let room = guest.files(&["mine", "yours"]);
        let interpreter = guest.outsider().path;
        let script = guest.script(&format!("#!{interpreter} exists\n"));
        let other = Subject::script(
            guest,
            &script,
            &format!("fs:read {room}/yours {script} {interpreter}\ncode:load {interpreter}"),
        );
        let subject = guest.subject(&format!("process:exec {script} transition artifact"));

        let lines = |act: &str| {
            subject.run_words(&["become", &script, "--", act, &format!("{room}/yours")])
        };
        assert_eq!(lines("open-read"), ["ok", "ok"]);
        assert!(other.denials().is_empty());

        // a rule for the interpreter that is to take its own label says nothing of a script of nobody's
        let free = guest.script(&format!("#!{interpreter} exists\n"));
        let subject = guest.subject(&format!(
            "process:exec {interpreter} transition artifact\nprocess:exec {free}\nfs:read {free}"
        ));
        assert_eq!(subject.run_words(&["become", &free]), ["EPERM"]);
        refused_label(&subject, reason::REASON_WIDENS);
        let subject = guest.subject(&format!(
            "process:exec {interpreter} {free}\nfs:read {free}"
        ));
        assert_eq!(subject.run_words(&["become", &free]), ["ok"]);
    });
}

#[test]
fn children_of_another_artifact_are_signalled_where_that_is_granted() {
    guest::run(|guest| {
        let other = guest.subject("fs:read /srv/t/**");
        let path = &other.path;
        let room = guest.files(&[]);
        let run = format!("process:exec {path} transition artifact");
        for (rule, expected) in [("", "EPERM"), ("\nprocess:signal children", "ok")] {
            let subject = guest.subject(&format!("{run}{rule}"));
            let gate = format!("{room}/{expected}");
            let mut running = subject.spawn(&format!("signal-child {path} up await {gate}"));
            assert_eq!([running.line(), running.line()], ["up", expected], "{rule}");
            // the child that its parent may not end
            std::fs::write(gate, "").unwrap();
        }
        // not those that others have started
        let mut stranger = other.spawn("up await /no");
        assert_eq!(stranger.line(), "up");
        let subject = guest.subject("process:signal children");
        subject.may_not(&format!("kill-0 {}", stranger.pid()));
    });
}

#[test]
fn a_setuid_program_gains_uids_and_no_rights() {
    guest::run(|guest| {
        let room = guest.files(&["mine", "roots"]);
        let outsider = guest.outsider();
        let program = guest.outsider().path;
        outsider.may(&format!("chmod 0o600 {room}/roots, chmod 0o4755 {program}"));
        let subject = guest
            .subject(&format!(
                "fs:read {room}/mine {room}/roots\nprocess:exec {program}"
            ))
            .by(65534);
        let act = |act: &str| subject.run(&format!("exec {program} {act}"))[0].clone();

        assert_eq!(act("say-effective-user"), "0");
        // the file's owner by now, and still within the envelope
        assert_eq!(act(&format!("open-read {room}/roots")), "ok");
        assert_eq!(act("open-read /etc/shadow"), "EPERM");
        assert_eq!(act("set-groups"), "EPERM");
        let mut free = guest.outsider();
        free.uid = 65534;
        assert_eq!(free.run(&format!("exec {program} set-groups"))[0], "ok");
        subject.may_not(&format!("chmod 0o755 {room}/mine"));
    });
}

/// The cgroup of a unit as the system manager makes it, and its slices.
fn cgroup(path: &str) -> String {
    let path = format!("/sys/fs/cgroup/{path}");
    fs::create_dir_all(&path).unwrap();
    path
}

/// Holds a unit to a subject, with these programs as its own.
fn hold_unit(guest: &Guest, name: &str, subject: &Subject, programs: &[&Program]) {
    let kernel = guest.kernel.borrow();
    let identities = programs.iter().map(|program| {
        let file = fs::File::open(&program.path).unwrap();
        (kernel.identify(&file).unwrap().0, subject.slot)
    });
    let rules = UnitRules {
        units: BTreeMap::from([(name.to_owned(), subject.slot)]),
        programs: identities.collect(),
    };
    kernel.hold_units(&rules, true).unwrap();
}

fn hold_no_unit(guest: &Guest) {
    let kernel = guest.kernel.borrow();
    kernel.hold_units(&UnitRules::default(), true).unwrap();
}

#[test]
fn every_process_of_a_unit_is_a_subject() {
    guest::run(|guest| {
        let room = guest.files(&["yes", "no"]);
        let (yes, no) = (format!("{room}/yes"), format!("{room}/no"));
        let program = guest.outsider();
        let helper = guest.outsider();
        let subject = guest.subject(&format!("fs:read {yes}\nprocess:exec {}", helper.path));
        hold_unit(guest, "held.service", &subject, &[&program]);
        let outsider = guest.outsider();
        let started_in = |cgroup: &str, program: &Program, act: &str| {
            outsider.run(&format!("join {cgroup}, become {} {act}", program.path))
        };

        for path in [
            "system.slice/held.service",
            "a.slice/a-b.slice/held.service",
            "system.slice/held.service/inner/one",
        ] {
            let cgroup = cgroup(path);
            for (act, expected) in [("open-read YES", "ok"), ("open-read NO", "EPERM")] {
                let act = act.replace("YES", &yes).replace("NO", &no);
                let lines = started_in(&cgroup, &program, &act);
                assert_eq!(lines, ["ok", expected], "{path}: {act}");
                // what the envelope lets it run may be the first, too
                let lines = started_in(&cgroup, &helper, &act);
                assert_eq!(lines, ["ok", expected], "{path}: {act}");
            }
            assert_eq!(started_in(&cgroup, &program, "is-secure"), ["ok", "ok"]);
            assert_eq!(
                started_in(&cgroup, &program, &format!("fork open-read {no}")),
                ["ok", "EPERM"]
            );
            // nothing else is started there
            assert_eq!(
                started_in(&cgroup, &outsider, &format!("open-read {yes}")),
                ["ok", "EPERM"]
            );
            let denials = subject.denials();
            assert!(denials.iter().any(|denial| denial.object == outsider.path));
        }
        for path in [
            "system.slice/other.service",
            "system.slice/other.service/held.service",
            "user.slice/user-1.slice/user@1.service/app.slice/held.service",
        ] {
            let cgroup = cgroup(path);
            assert_eq!(
                started_in(&cgroup, &program, &format!("open-read {no}")),
                ["ok", "ok"],
                "{path}"
            );
        }
        // and outside of the unit the program is nobody's
        program.may(&format!("open-read {no}"));
        hold_no_unit(guest);
        let cgroup = cgroup("system.slice/held.service");
        assert_eq!(
            started_in(&cgroup, &program, &format!("open-read {no}")),
            ["ok", "ok"]
        );
    });
}

#[test]
fn running_processes_of_a_unit_are_adopted() {
    guest::run(|guest| {
        let room = guest.files(&["no"]);
        let outsider = guest.outsider();
        let cgroup = cgroup("system.slice/adopted.service");
        let gate = format!("{room}/gate");
        let mut running = outsider.spawn(&format!(
            "join {cgroup}, up await {gate}, open-read {room}/no"
        ));
        assert_eq!((running.line(), running.line()), ("ok".into(), "up".into()));
        let subject = guest.subject(&format!("fs:read {gate}"));
        hold_unit(guest, "adopted.service", &subject, &[]);

        let adopted = guest.kernel.borrow().adopt().unwrap();

        assert_eq!(Vec::from_iter(adopted), [(subject.slot, running.pid())]);
        fs::write(&gate, "").unwrap();
        assert_eq!(
            (running.line(), running.line()),
            ("ok".into(), "EPERM".into())
        );
        hold_no_unit(guest);
    });
}

#[test]
fn a_unit_without_an_artifact_in_force_starts_nothing() {
    guest::run(|guest| {
        let program = guest.outsider();
        let subject = guest.subject("");
        hold_unit(guest, "closed.service", &subject, &[&program]);
        let cgroup = cgroup("system.slice/closed.service");
        let act = format!("join {cgroup}, become {} exists /", program.path);

        assert_eq!(program.run(&act), ["ok", "ok"]);
        for state in [SlotState::Revoked, SlotState::Refused] {
            subject.closes(state);
            assert_eq!(program.run(&act), ["ok", "EPERM"]);
        }
        hold_no_unit(guest);
    });
}

#[test]
fn who_is_invited_becomes_a_subject_with_its_next_program() {
    guest::run(|guest| {
        let room = guest.files(&["yes", "no"]);
        let (yes, no) = (format!("{room}/yes"), format!("{room}/no"));
        let outsider = guest.outsider();
        let other = guest.subject("");
        let subject = guest.subject(&format!("fs:read {yes}"));
        let gate = format!("{room}/gate");
        let invited = |act: &str| {
            let _ = fs::remove_file(&gate);
            let mut process = outsider.spawn(&format!("up await {gate}, open-read {no}, {act}"));
            assert_eq!(process.line(), "up");
            let pid = Pid::from_raw(process.pid().cast_signed()).unwrap();
            let process_fd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
            let kernel = guest.kernel.borrow();
            assert!(kernel.invite(process_fd.as_fd(), subject.slot).unwrap());
            assert_eq!(kernel.slot_of(process_fd.as_fd()).unwrap(), 0);
            fs::write(&gate, "").unwrap();
            // it is outside until it runs something
            assert_eq!((process.line(), process.line()), ("ok".into(), "ok".into()));
            let mut lines = Vec::new();
            loop {
                match process.line() {
                    line if line.is_empty() => return lines,
                    line => lines.push(line),
                }
            }
        };
        let path = &outsider.path;

        assert_eq!(invited(&format!("become {path} open-read {yes}")), ["ok"]);
        assert_eq!(invited(&format!("become {path} open-read {no}")), ["EPERM"]);
        assert_eq!(
            invited(&format!("thread-become {path} open-read {no}")),
            ["EPERM"]
        );
        // a child that runs something was not invited
        assert_eq!(
            invited(&format!("exec {path} open-read {no}")),
            ["ok", "ok"]
        );
        // nobody takes another artifact's program along
        assert_eq!(
            invited(&format!("become {} exists /", other.path)),
            ["EPERM"]
        );
        // who is a subject stays one
        let mut running = other.spawn("up await /no");
        assert_eq!(running.line(), "up");
        let pid = Pid::from_raw(running.pid().cast_signed()).unwrap();
        let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let kernel = guest.kernel.borrow();
        assert!(!kernel.invite(process.as_fd(), subject.slot).unwrap());
        assert_eq!(kernel.slot_of(process.as_fd()).unwrap(), other.slot);
    });
}

#[test]
fn a_unit_s_own_program_is_the_unit_s_also_where_another_artifact_has_it_elsewhere() {
    guest::run(|guest| {
        let room = guest.files(&["unit", "elsewhere"]);
        let elsewhere = guest.subject(&format!("fs:read {room}/elsewhere"));
        let in_unit = guest.subject(&format!("fs:read {room}/unit"));
        hold_unit(guest, "both.service", &in_unit, &[&elsewhere]);
        let cgroup = cgroup("system.slice/both.service");
        let outsider = guest.outsider();
        let path = &elsewhere.path;

        for (file, expected) in [("unit", "ok"), ("elsewhere", "EPERM")] {
            let act = format!("join {cgroup}, become {path} open-read {room}/{file}");
            assert_eq!(outsider.run(&act), ["ok", expected], "{file}");
        }
        elsewhere.may(&format!("open-read {room}/elsewhere"));
        hold_no_unit(guest);
    });
}

#[test]
fn an_invitation_outlives_an_execve_that_fails() {
    guest::run(|guest| {
        let room = guest.files(&["no"]);
        let outsider = guest.outsider();
        let subject = guest.subject("");
        let gate = format!("{room}/gate");
        let unknown = guest.script("neither a program nor a script");
        let mut process = outsider.spawn(&format!(
            "up await {gate}, become {unknown}, become {} open-read {room}/no",
            outsider.path
        ));
        assert_eq!(process.line(), "up");
        let pid = Pid::from_raw(process.pid().cast_signed()).unwrap();
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let kernel = guest.kernel.borrow();
        assert!(kernel.invite(descriptor.as_fd(), subject.slot).unwrap());

        fs::write(&gate, "").unwrap();

        let lines = [process.line(), process.line(), process.line()];
        assert_eq!(lines, ["ok", "ENOEXEC", "EPERM"]);
    });
}

#[test]
fn what_a_subject_makes_for_itself_does_not_cross_into_another_artifact() {
    guest::run(|guest| {
        let room = guest.files(&["mine", "yours"]);
        let (mine, yours) = (format!("{room}/mine"), format!("{room}/yours"));
        let other = guest.subject(&format!("fs:read {yours}"));
        let path = &other.path;
        let rules = format!("fs:read /srv {mine}\nkernel:capability CAP_SYS_CHROOT");
        let subject = guest.subject(&format!("{rules}\nprocess:exec {path} transition artifact"));
        let inheriting = guest.subject(&format!("{rules}\nprocess:exec {path}"));
        let outsider = guest.outsider();
        // its filters of system calls come with the first, and its root directory is one
        for (hand, name) in [
            ("no-new-privs", path.as_str()),
            ("personality 262144", path),
            ("chroot /srv", &path["/srv".len()..]),
        ] {
            let lines = subject.run(&format!("{hand}, become {name} open-read {yours}"));
            assert_eq!(lines, ["ok", "EPERM"], "{hand}");
            refused_label(&subject, reason::REASON_UNSAFE);
        }
        for hand in ["no-new-privs", "personality 262144"] {
            let lines = inheriting.run(&format!("{hand}, become {path} open-read {mine}"));
            assert_eq!(lines, ["ok", "ok"], "{hand}");
            // who is outside narrows what it could do itself
            let lines = outsider.run(&format!("{hand}, become {path} open-read {yours}"));
            assert_eq!(lines, ["ok", "ok"], "{hand}");
        }
        assert_eq!(
            subject.run(&format!("become {path} open-read {yours}")),
            ["ok"]
        );
    });
}

#[test]
fn who_is_released_keeps_its_label_whatever_it_runs() {
    guest::run(|guest| {
        let room = guest.files(&["no"]);
        let outsider = guest.outsider();
        let broken = guest.script("#!/no/interpreter\n");
        let rules = "code:load /no/**";
        let _other = Subject::script(guest, &broken, rules);
        for act in ["become", "thread-become"] {
            let subject = guest.subject("");
            let gate = |number: u32| format!("{room}/{act}{number}");
            let mut process = subject.spawn(&format!(
                "up await {}, {act} {} each await {} then become {broken} then await {} then open-read {room}/no",
                gate(1), outsider.path, gate(2), gate(3)
            ));
            assert_eq!(process.line(), "up");
            subject.closes(SlotState::Released);
            fs::write(gate(1), "").unwrap();
            assert_eq!(process.line(), "ok");

            fs::write(gate(2), "").unwrap();

            // an exec of a program that has a label, and that fails
            assert_eq!([process.line(), process.line()], ["ok", "ENOENT"], "{act}");
            subject.changes_to("profile:base", Mode::Enforce);
            fs::write(gate(3), "").unwrap();
            assert_eq!([process.line(), process.line()], ["ok", "EPERM"], "{act}");
        }
    });
}
