//! How a label changes, on a real kernel: a subject that runs another artifact's program under that one's
//! envelope, where its own says so, and never into less.

#![allow(clippy::unwrap_used)] // outside of #[test] too: this file is nothing but tests

mod guest;

use cartouche::bpf::sys::{operation, reason};
use cartouche::enforcer::{Mode, SlotState};
use guest::{Program, Subject, USERS};

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
        let run = format!("process:exec {path} transition artifact");
        for (rule, expected) in [("", "EPERM"), ("\nprocess:signal children", "ok")] {
            let subject = guest.subject(&format!("{run}{rule}"));
            let lines = subject.run(&format!("signal-child {path} up await /no"));
            assert_eq!(lines, ["up", expected], "{rule}");
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
