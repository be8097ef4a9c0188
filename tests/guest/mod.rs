//! What tests in a guest share: one loaded kernel side, subjects bound to a plan of their own, and the
//! rule that a skip is never silent.
//!
//! A test is a sentence and a closure: `guest::run(|guest| …)`. Loading all programs takes seconds in an
//! emulated guest, so one thread loads them once and runs every closure of the file, one at a time.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

mod envelope;
mod program;
mod subject;

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use cartouche::bpf::sys;
use cartouche::enforcer::{Kernel, Mode};

#[allow(unused_imports)]
pub use envelope::{plan, plan_of, toml};
#[allow(unused_imports)]
pub use program::{Program, Running};
#[allow(unused_imports)]
pub use subject::{Denial, Subject};

/// Root and an ordinary user: what holds for one must hold for the other.
pub const USERS: [u32; 2] = [0, 65534];

/// Where tests keep their files: on ext4, which knows attributes, flags and file handles.
pub const ROOM: &str = "/srv/t";

/// Whether BPF LSM programs are enforced here: `bpf` is in the list of active LSMs.
pub fn has_lsm() -> bool {
    fs::read_to_string("/sys/kernel/security/lsm")
        .is_ok_and(|l| l.split(',').any(|l| l.trim() == "bpf"))
        && rustix::process::geteuid().is_root()
}

/// Leaves the test where the kernel cannot enforce; fails instead where the harness demands it.
macro_rules! require_lsm {
    () => {
        if !crate::guest::has_lsm() {
            let demanded = std::env::var("CARTOUCHE_REQUIRE").is_ok_and(|v| v == "lsm");
            assert!(!demanded, "bpf is not an active LSM here, and the harness demands it");
            eprintln!("skipped: needs root on a kernel with bpf in its LSM list; `make test` runs it in a VM");
            return;
        }
    };
}
#[allow(unused_imports)]
pub(crate) use require_lsm;

/// A test, and where to say how it ended.
type Job = (Box<dyn FnOnce(&Guest) + Send>, Sender<thread::Result<()>>);

/// Runs a test with the kernel side attached, or says why it does not.
pub fn run(test: impl FnOnce(&Guest) + Send + 'static) {
    static DESK: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();

    require_lsm!();
    let desk = DESK.get_or_init(|| {
        let (desk, jobs) = channel::<Job>();
        // libtest would keep what this thread says for the test that started it
        set_hook(Box::new(|panic| {
            let _ = writeln!(io::stderr(), "{panic}");
        }));
        thread::spawn(move || {
            let guest = Guest::new();
            for (job, done) in jobs {
                let _ = done.send(catch_unwind(AssertUnwindSafe(|| job(&guest))));
            }
        });
        Mutex::new(desk)
    });
    let (done, outcome) = channel();
    // held until the test ends: one test at a time, whatever --test-threads says
    let desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
    desk.send((Box::new(test), done))
        .expect("the kernel side loads");
    if let Err(panic) = outcome.recv().expect("the kernel side loads") {
        resume_unwind(panic);
    }
}

/// The kernel side of this machine, and what the tests of a file have used up of it.
pub struct Guest {
    pub kernel: RefCell<Kernel>,
    /// The last slot given out; the kernel side expects them in order.
    last_slot: Cell<u32>,
    /// The last number given out for a plan or a name.
    last: Cell<u32>,
    /// Records that were read and not yet asked for.
    records: RefCell<Vec<sys::event>>,
}

impl Guest {
    fn new() -> Self {
        fs::create_dir_all(ROOM).unwrap();
        fs::set_permissions(ROOM, fs::Permissions::from_mode(0o777)).unwrap();
        let kernel = Kernel::load().unwrap();
        kernel.attach().unwrap();
        Self {
            kernel: RefCell::new(kernel),
            last_slot: Cell::new(0),
            last: Cell::new(0),
            records: RefCell::default(),
        }
    }

    /// A number that nobody has had.
    pub fn number(&self) -> u32 {
        self.last.set(self.last.get() + 1);
        self.last.get()
    }

    fn slot(&self) -> u32 {
        self.last_slot.set(self.last_slot.get() + 1);
        self.last_slot.get()
    }

    /// A fresh directory for everybody.
    pub fn directory(&self) -> String {
        let path = format!("{ROOM}/d{}", self.number());
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        path
    }

    /// A fresh directory with files in it that everybody may use, and directories (`a/`): where nothing
    /// but Cartouche refuses.
    pub fn files(&self, names: &[&str]) -> String {
        self.files_of(0, names)
    }

    /// The same, all owned by a user: changing attributes is an owner's business.
    pub fn files_of(&self, uid: u32, names: &[&str]) -> String {
        let room = self.directory();
        for name in names {
            let path = format!("{room}/{name}");
            match name.strip_suffix('/') {
                Some(_) => fs::create_dir(&path).unwrap(),
                None => fs::write(&path, name).unwrap(),
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
            chown(&path, Some(uid), Some(uid)).unwrap();
        }
        chown(&room, Some(uid), Some(uid)).unwrap();
        room
    }

    /// A file that can be run: a script, or no program at all.
    pub fn script(&self, text: &str) -> String {
        let path = format!("{ROOM}/script{}", self.number());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// The test program, held to nothing.
    pub fn outsider(&self) -> Program {
        Program::copy(&format!("{ROOM}/outsider{}", self.number()))
    }

    /// The test program, bound to an envelope in which it can start; see [`envelope::toml`] for how
    /// that is written.
    pub fn subject(&self, envelope: &str) -> Subject<'_> {
        Subject::new(self, &format!("profile:base\n{envelope}"), Mode::Enforce)
    }

    /// The same, with nothing refused.
    pub fn audited(&self, envelope: &str) -> Subject<'_> {
        Subject::new(self, &format!("profile:base\n{envelope}"), Mode::Audit)
    }

    /// What was refused on behalf of a slot since the last question.
    pub fn denials_of(&self, slot: u32) -> Vec<Denial> {
        self.take_records(slot).iter().map(Denial::from).collect()
    }

    /// All records of a slot that were not asked for yet.
    fn take_records(&self, slot: u32) -> Vec<sys::event> {
        let (new, malformed) = self.kernel.borrow_mut().drain().unwrap();
        assert_eq!(malformed, 0);
        let mut records = self.records.borrow_mut();
        records.extend(new);
        let (taken, kept) = records.drain(..).partition(|record| record.slot == slot);
        *records = kept;
        taken
    }
}
