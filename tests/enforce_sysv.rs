//! Domain ipc on a real kernel: objects of System V and POSIX message queues belong to the subject that made
//! them; those of others it does not use, whatever their permissions say.

#![allow(clippy::unwrap_used)] // outside of #[test] too: this file is nothing but tests

mod guest;

use cartouche::bpf::sys::{operation, reason};
use cartouche::enforcer::SlotState;
use guest::{Denial, Program, Subject, USERS};

const OBJECT: u32 = operation::OP_IPC_OBJECT.0;

/// What can be done to objects, and what the kernel answers to whom it is refused; the last of each kind
/// removes it. `KEY` stands for their key.
const SHARED_MEMORY: [(&str, &str); 7] = [
    ("shm-find KEY", "EACCES"),
    ("shm-attach ID", "EACCES"),
    ("shm-stat ID", "EACCES"),
    ("shm-stat-any ID", "EPERM"),
    ("shm-set ID", "EPERM"),
    ("shm-lock ID", "EPERM"),
    ("shm-remove ID", "EPERM"),
];
const SEMAPHORES: [(&str, &str); 8] = [
    ("sem-find KEY", "EACCES"),
    ("sem-operate ID", "EACCES"),
    ("sem-value ID", "EACCES"),
    ("sem-set-value ID", "EACCES"),
    ("sem-stat ID", "EACCES"),
    ("sem-stat-any ID", "EPERM"),
    ("sem-set ID", "EPERM"),
    ("sem-remove ID", "EPERM"),
];
const MESSAGES: [(&str, &str); 7] = [
    ("msg-find KEY", "EACCES"),
    ("msg-send ID", "EACCES"),
    ("msg-receive ID", "EACCES"),
    ("msg-stat ID", "EACCES"),
    ("msg-stat-any ID", "EPERM"),
    ("msg-set ID", "EPERM"),
    ("msg-remove ID", "EPERM"),
];

/// All of them on the objects of one key that have these numbers.
fn all_acts(key: u32, numbers: &[String]) -> Vec<(String, String, &'static str)> {
    let of = |acts: &'static [(&'static str, &'static str)], id: &String| {
        let id = id.clone();
        acts.iter().map(move |(act, refused)| {
            let act = act.replace("KEY", &key.to_string()).replace("ID", &id);
            (act, id.clone(), *refused)
        })
    };
    of(&SHARED_MEMORY, &numbers[0])
        .chain(of(&SEMAPHORES, &numbers[1]))
        .chain(of(&MESSAGES, &numbers[2]))
        .collect()
}

/// Makes one object of each kind, and tells their numbers.
fn make(maker: &Program, key: u32) -> Vec<String> {
    let lines = maker.run(&format!("sysv-make {key}"));
    assert_eq!(lines[1], "ok", "{lines:?}");
    lines[0].split(' ').map(str::to_owned).collect()
}

/// Whom root's Linux capabilities are refused, the kernel asks for some here, and goes on without.
fn denied_objects(subject: &Subject<'_>) -> Vec<Denial> {
    let mut denials = subject.denials();
    denials.retain(|denial| denial.operation == OBJECT);
    denials
}

fn remove(maker: &Program, numbers: &[String]) {
    let [memory, semaphores, messages] = numbers else {
        panic!("{numbers:?}");
    };
    maker.may(&format!(
        "shm-remove {memory}, sem-remove {semaphores}, msg-remove {messages}"
    ));
}

#[test]
fn objects_of_others_are_not_used() {
    guest::run(|guest| {
        for (uid, key) in USERS.into_iter().zip(1000..) {
            let mut outsider = guest.outsider();
            outsider.uid = uid;
            let other = guest.subject("").by(uid);
            let subject = guest.subject("").by(uid);
            for maker in [&outsider, &*other] {
                let numbers = make(maker, key);
                for (act, id, refused) in all_acts(key, &numbers) {
                    subject.gets(&act, refused);
                    let denials = subject.denials();
                    assert_eq!(denials.len(), 1, "{act}: {denials:?}");
                    assert_eq!(denials[0].what(), (OBJECT, id.as_str()), "{act}");
                    assert_eq!(denials[0].reason, reason::REASON_NEVER.0);
                }
                remove(maker, &numbers);
            }
            // the control: who is outside may all of it
            let numbers = make(&outsider, key);
            for (act, ..) in all_acts(key, &numbers) {
                outsider.may(&act);
            }
        }
    });
}

#[test]
fn a_subject_uses_what_its_own_has_made() {
    guest::run(|guest| {
        for (uid, key) in USERS.into_iter().zip(2000..) {
            let subject = guest.subject("").by(uid);
            let mut outsider = guest.outsider();
            outsider.uid = uid;
            for user in [&*subject, &outsider] {
                // by one process, used by others
                let numbers = make(&subject, key);
                for (act, ..) in all_acts(key, &numbers) {
                    user.may(&act);
                }
            }
            assert_eq!(denied_objects(&subject), []);
        }
    });
}

#[test]
fn an_object_in_the_place_of_one_s_own_is_not_one_s_own() {
    guest::run(|guest| {
        let subject = guest.subject("");
        let outsider = guest.outsider();
        for key in 3000..3020 {
            let own = make(&subject, key);
            remove(&subject, &own);
            // the memory is free when all processors have gone on
            std::thread::sleep(std::time::Duration::from_millis(30));
            let numbers = make(&outsider, key);
            for (act, _, refused) in all_acts(key, &numbers) {
                subject.gets(&act, refused);
            }
            remove(&outsider, &numbers);
        }
    });
}

#[test]
fn without_rights_no_object_is_made_or_used() {
    guest::run(|guest| {
        let room = guest.files(&[]);
        let subject = guest.subject("");
        let numbers = make(&subject, 4000);
        let acts = all_acts(4000, &numbers);
        let words: Vec<_> = acts.iter().map(|(act, ..)| act.as_str()).collect();
        let later = format!(
            "up await {room}/revoked, sysv-make 4001, {}",
            words.join(", ")
        );
        let mut running = subject.spawn(&later);
        assert_eq!(running.line(), "up");

        subject.closes(SlotState::Revoked);
        std::fs::write(format!("{room}/revoked"), "").unwrap();

        assert_eq!([running.line(), running.line()], ["ok", "EPERM"]);
        for (act, _, refused) in &acts {
            assert_eq!(&running.line(), refused, "{act}");
        }
        remove(&guest.outsider(), &numbers);
    });
}

#[test]
fn audit_mode_tells_of_objects_and_refuses_nothing() {
    guest::run(|guest| {
        let subject = guest.audited("");
        let numbers = make(&guest.outsider(), 5000);
        for (act, id, _) in all_acts(5000, &numbers) {
            subject.may(&act);
            let denials = subject.denials();
            assert_eq!(denials[0].what(), (OBJECT, id.as_str()), "{act}");
            assert!(!denials[0].refused);
        }
    });
}

#[test]
fn a_posix_queue_is_its_maker_s() {
    guest::run(|guest| {
        for (uid, number) in USERS.into_iter().zip(0..) {
            let name = |whose| format!("{whose}-{number}");
            let mut outsider = guest.outsider();
            outsider.uid = uid;
            let other = guest.subject("").by(uid);
            let subject = guest.subject("").by(uid);
            outsider.may(&format!("queue-make {}", name("outside")));
            other.may(&format!("queue-make {}", name("other")));

            for whose in ["outside", "other"] {
                subject.may_not(&format!("queue-open {0}, queue-use {0}", name(whose)));
                assert_eq!(denied_objects(&subject).len(), 2);
            }

            let own = name("own");
            subject.may(&format!("queue-make {own}"));
            // in other processes than the one that made it
            subject.may(&format!("queue-open {own}, queue-use {own}"));
            outsider.may(&format!("queue-use {own}, queue-use {}", name("outside")));
            subject.may(&format!(
                "queue-remove {own}, queue-make {own}, queue-use {own}"
            ));
            subject.may(&format!("queue-remove {own}"));
            assert_eq!(denied_objects(&subject), []);
            // a queue of the name that the own one had
            outsider.may(&format!("queue-make {own}"));
            subject.may_not(&format!("queue-open {own}"));
            outsider.may(&format!("queue-remove {own}"));
        }
    });
}
