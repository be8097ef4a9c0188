//! Domain cut on a real kernel: what a subject holds open when its rights end is refused to it, and to nobody
//! else; while nothing is revoked, nobody pays.

#![allow(clippy::unwrap_used)] // outside of #[test] too: this file is nothing but tests

mod guest;

use std::fs::{self, File};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cartouche::bpf::sys::{operation, reason};
use cartouche::enforcer::{CUT_PROGRAMS, Kernel, Mode, SlotState};
use guest::{Guest, Program, USERS};

/// What no hook sees; see docs/threat-model.md.
const UNSEEN: [&str; 3] = ["vmsplice", "tee", "splice of pipes"];

/// What is refused by other hooks, with or without this domain.
const BY_OTHERS: [&str; 4] = ["ftruncate", "mmap", "accept", "setsockopt"];

/// Programs that are attached while there is anything to refuse.
const ALL: usize = CUT_PROGRAMS.len();

/// A process that holds everything open, and a file in which it says what became of its use.
struct Holder {
    room: String,
    _running: guest::Running,
}

impl Holder {
    fn start(guest: &Guest, room: &str, program: &Program) -> Self {
        let report = format!("{room}/report");
        let port = 20_000 + guest.number();
        let gates = ["one", "two", "three", "four"].map(|gate| format!("{room}/{gate}"));
        let mut running =
            program.spawn(&format!("hold {report} {room} {port} {}", gates.join(" ")));
        assert_eq!(running.line(), "up");
        Self {
            room: room.to_owned(),
            _running: running,
        }
    }

    /// Lets it use everything once; what came of it, by name.
    fn uses(&self, gate: &str) -> Vec<(String, String)> {
        let gate = format!("{}/{gate}", self.room);
        fs::write(&gate, "").unwrap();
        let begun = Instant::now();
        loop {
            let text = fs::read_to_string(format!("{}/report", self.room)).unwrap();
            if text.contains(&format!("{gate} is done\n")) {
                let begin = format!("{gate}: ");
                let lines = text.lines().filter_map(|line| line.strip_prefix(&begin));
                let split = lines.map(|line| line.split_once(": ").unwrap());
                return split
                    .map(|(name, outcome)| (name.to_owned(), outcome.to_owned()))
                    .collect();
            }
            assert!(begun.elapsed() < Duration::from_secs(50), "{text}");
            sleep(Duration::from_millis(5));
        }
    }

    /// Asserts that it may use everything, but what others refuse.
    #[track_caller]
    fn may(&self, gate: &str, but: &[&str]) {
        for (name, outcome) in self.uses(gate) {
            let expected = match but.contains(&name.as_str()) {
                true => "EPERM",
                false => "ok",
            };
            assert_eq!(outcome, expected, "{gate}: {name}");
        }
    }

    /// Asserts that it is refused everything that a hook sees.
    #[track_caller]
    fn may_not(&self, gate: &str) {
        let outcomes = self.uses(gate);
        assert!(outcomes.len() > 30, "{outcomes:?}");
        for (name, outcome) in outcomes {
            match UNSEEN.contains(&name.as_str()) {
                true => assert_ne!(outcome, "EPERM", "{gate}: {name}"),
                false => assert_eq!(outcome, "EPERM", "{gate}: {name}"),
            }
        }
    }
}

/// A room with what is held, for everybody.
fn room(guest: &Guest) -> String {
    let room = guest.files(&["file", "other", "report"]);
    fs::write(format!("{room}/file"), [1; 4096]).unwrap();
    File::options()
        .write(true)
        .open(format!("{room}/report"))
        .unwrap()
        .set_len(64 << 10)
        .unwrap();
    room
}

fn envelope(room: &str) -> String {
    format!(
        "fs:read {room}/**\nfs:write {room}/**\nnet:listen tcp://127.0.0.1:* udp://127.0.0.1:*\n\
         net:connect tcp://127.0.0.1:* udp://127.0.0.1:*"
    )
}

/// How many of the programs are attached.
fn attached(guest: &Guest) -> usize {
    let attached = guest.kernel.borrow().attached();
    CUT_PROGRAMS.iter().filter(|name| attached[**name]).count()
}

/// Looks for tasks without rights; how many there are, and whether anything was attached or let go.
fn settle(guest: &Guest) -> (usize, bool) {
    let kernel = guest.kernel.borrow();
    let tasks = kernel.tasks_without_rights().unwrap();
    let changed = kernel.cut(!tasks.is_empty()).unwrap();
    (tasks.len(), changed)
}

/// Waits for the kernel to end processes that were killed.
fn is_over(guest: &Guest, holder: Holder) {
    drop(holder);
    let begun = Instant::now();
    while settle(guest).0 > 0 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_was_open_is_refused_from_the_revocation_to_the_readmission() {
    guest::run(|guest| {
        let bystanders = [(), ()].map(|()| room(guest));
        let other = guest.subject(&envelope(&bystanders[0]));
        let outsider = guest.outsider();
        for uid in USERS {
            // attached and let go twice, once for each user
            let room = self::room(guest);
            let subject = guest.subject(&envelope(&room)).by(uid);
            let holder = Holder::start(guest, &room, &subject);
            assert_eq!((settle(guest), attached(guest)), ((0, false), 0));
            holder.may("one", &[]);
            subject.denials();

            subject.closes(SlotState::Revoked);

            // not attached yet: without this domain all that is held stays usable. What was attached before
            // ends some time after its pin.
            sleep(Duration::from_secs(2));
            holder.may("two", &BY_OTHERS);
            let before = subject.totals().denied;
            assert_eq!((settle(guest), attached(guest)), ((1, true), ALL));
            assert_eq!(settle(guest), (1, false));
            subject.denials();
            holder.may_not("three");
            let denials = subject.denials();
            assert!(denials.iter().all(|one| one.refused), "{denials:?}");
            assert!(
                denials
                    .iter()
                    .all(|one| one.reason == reason::REASON_REVOKED.0),
                "{denials:?}"
            );
            let held = operation::OP_HELD.0;
            let told: Vec<_> = denials.iter().filter(|d| d.operation == held).collect();
            let of_file = told.iter().any(|d| d.object == format!("{room}/file"));
            assert!(of_file, "{denials:?}");
            // pipes and sockets have no path
            assert!(told.iter().any(|d| d.object.is_empty()), "{denials:?}");
            assert!(subject.totals().denied >= before + 30);

            // the twins: everybody else meanwhile
            let outside = room_again(guest, &bystanders[1]);
            Holder::start(guest, &outside, &outsider).may("one", &[]);
            let outside = room_again(guest, &bystanders[0]);
            Holder::start(guest, &outside, &other).may("one", &[]);
            assert_eq!(other.denials(), []);

            // in force again, the very same descriptors are usable
            subject.changes_to(&format!("profile:base\n{}", envelope(&room)), Mode::Enforce);
            holder.may("four", &[]);
            assert_eq!((settle(guest), attached(guest)), ((0, true), 0));
            is_over(guest, holder);
        }
    });
}

/// The same room, as it was at first.
fn room_again(guest: &Guest, room: &str) -> String {
    let _ = fs::remove_file(format!("{room}/one"));
    let fresh = self::room(guest);
    fs::copy(format!("{fresh}/file"), format!("{room}/file")).unwrap();
    fs::copy(format!("{fresh}/report"), format!("{room}/report")).unwrap();
    room.to_owned()
}

#[test]
fn it_is_let_go_with_the_last_task_and_attached_for_the_next_at_once() {
    guest::run(|guest| {
        for _ in 0..3 {
            let room = self::room(guest);
            let subject = guest.subject(&envelope(&room));
            let (first, second) = (
                Holder::start(guest, &room, &subject),
                Holder::start(guest, &room, &subject),
            );
            subject.closes(SlotState::Revoked);

            assert_eq!((settle(guest), attached(guest)), ((2, true), ALL));

            drop(first);
            let begun = Instant::now();
            while settle(guest).0 > 1 {
                assert!(begun.elapsed() < Duration::from_secs(10));
            }
            assert_eq!(attached(guest), ALL);
            is_over(guest, second);
            assert_eq!((settle(guest), attached(guest)), ((0, false), 0));
        }
    });
}

#[test]
fn in_audit_mode_nothing_that_is_open_is_refused() {
    guest::run(|guest| {
        let (room, gone_room) = (self::room(guest), self::room(guest));
        let audited = guest.audited("");
        let holder = Holder::start(guest, &room, &audited);
        let gone = guest.subject(&envelope(&gone_room));
        let told = Holder::start(guest, &gone_room, &gone);
        // what a node does that only audits
        let kernel = guest.kernel.borrow();
        kernel.revoke(gone.slot, Mode::Audit, false).unwrap();
        drop(kernel);
        gone.denials();

        assert_eq!((settle(guest), attached(guest)), ((1, true), ALL));

        holder.may("one", &[]);
        told.may("one", &[]);
        let denials = gone.denials();
        assert!(denials.iter().any(|d| d.operation == operation::OP_HELD.0));
        assert!(denials.iter().all(|one| !one.refused), "{denials:?}");
        is_over(guest, told);
    });
}

#[test]
fn a_task_of_an_unknown_slot_is_refused_too() {
    guest::run(|guest| {
        let room = self::room(guest);
        let subject = guest.subject(&envelope(&room));
        let holder = Holder::start(guest, &room, &subject);
        subject.closes(SlotState::Unknown);

        assert_eq!((settle(guest), attached(guest)), ((1, true), ALL));

        holder.may_not("one");
        is_over(guest, holder);
    });
}

/// How often a reader tried, and could.
fn counters(report: &str) -> (u64, u64) {
    let bytes = fs::read(report).unwrap();
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    (word(0), word(8))
}

#[test]
fn an_upgrade_leaves_no_moment_in_which_it_could_read() {
    guest::run(|guest| {
        let room = self::room(guest);
        let report = format!("{room}/report");
        let subject = guest.subject(&envelope(&room));
        let mut running = subject.spawn(&format!("read-on {report} {room}/file"));
        assert_eq!(running.line(), "up");
        let (_, could) = counters(&report);
        sleep(Duration::from_millis(100));
        assert!(counters(&report).1 > could, "it does not even read");
        subject.closes(SlotState::Revoked);
        assert_eq!((settle(guest), attached(guest)), ((1, true), ALL));
        let (tries, could) = counters(&report);

        let next = Kernel::load().unwrap();
        next.attach().unwrap();
        guest.kernel.replace(next);

        let after = counters(&report);
        assert_eq!(after.1, could);
        assert!(after.0 > tries + 10, "{after:?}, {tries}");
        assert_eq!((settle(guest), attached(guest)), ((1, false), ALL));
        drop(running);
        let begun = Instant::now();
        while settle(guest).0 > 0 {
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
        assert_eq!(attached(guest), 0);
    });
}
