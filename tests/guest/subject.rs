//! A copy of the test program that is bound to a slot and a plan, and what the kernel says about it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Deref;

use cartouche::bpf::sys;
use cartouche::enforcer::{Identity, Kernel, MEASURE_PROGRAM, Mode, SlotState, Totals};
use cartouche::plan::{FileKey, Plan};

use super::envelope::{pinned, plan_of, toml};
use super::{Guest, Program, ROOM};

/// Bound until it is dropped; its slot is revoked then.
pub struct Subject<'g> {
    guest: &'g Guest,
    program: Program,
    pub slot: u32,
    pub identity: Identity,
    /// What is in force, and its number.
    plan: RefCell<(u32, Plan)>,
    /// The files that its first envelope pins.
    pins: Pins,
    /// What the kernel had counted for the slot before: counters outlive a test binary.
    before: Totals,
}

impl Deref for Subject<'_> {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl<'g> Subject<'g> {
    pub fn new(guest: &'g Guest, envelope: &str, mode: Mode) -> Self {
        let path = format!("{ROOM}/subject{}", guest.number());
        let program = Program::copy(&path);
        Self::of(guest, program, envelope, mode)
    }

    /// Binds a program that is there, whatever it is.
    pub fn of(guest: &'g Guest, program: Program, envelope: &str, mode: Mode) -> Self {
        Self::bind(guest, program, envelope, mode, false)
    }

    /// Binds a script, under its name.
    pub fn script(guest: &'g Guest, path: &str, envelope: &str) -> Self {
        let envelope = format!("profile:base\n{envelope}");
        let subject = Self::bind(guest, Program::from(path), &envelope, Mode::Enforce, true);
        subject.claims();
        subject
    }

    fn bind(guest: &'g Guest, program: Program, envelope: &str, mode: Mode, script: bool) -> Self {
        let slot = guest.slot();
        let number = guest.number();
        let pins = Pins::of(guest, envelope);
        let plan = plan_of(&program.path, &toml(envelope)).pin(&pins.keys());
        let kernel = guest.kernel.borrow();
        pins.take(&kernel, slot);
        let file = File::open(&program.path).unwrap();
        let (identity, path) = kernel.identify(&file).unwrap();
        assert_eq!(path.as_deref(), Some(program.path.as_str()));
        let before = kernel.totals(slot).unwrap();
        kernel.note_holder(slot, id_of(&program.path), 0).unwrap();
        kernel.stage(number, &plan).unwrap();
        kernel.commit(slot, number, plan.flags, mode).unwrap();
        kernel.bind(&identity, slot, script).unwrap();
        assert!(kernel.read_back(slot, number, &plan).unwrap().equal);
        drop(kernel);
        guest.take_records(slot);
        Self {
            guest,
            program,
            slot,
            identity,
            plan: RefCell::new((number, plan)),
            pins,
            before,
        }
    }

    /// The id of its artifact.
    pub fn id(&self) -> &str {
        id_of(&self.path)
    }

    /// Lets nothing else run under its path.
    pub fn claims(&self) {
        let kernel = self.guest.kernel.borrow();
        kernel
            .claim(self.identity.dev, &self.path, self.slot)
            .unwrap();
    }

    /// From now on it runs only with a content of one of these hashes; none: whatever it is.
    pub fn measures(&self, hashes: &BTreeSet<String>) {
        let kernel = self.guest.kernel.borrow();
        let how = (false, hashes);
        kernel
            .bind_in_place_of(|_| false, &self.identity, self.slot, how)
            .unwrap();
        assert!(kernel.is_measured(&self.identity, hashes).unwrap());
        kernel.settle_measuring().unwrap();
        let attached = kernel.attached();
        assert_eq!(attached[MEASURE_PROGRAM], !hashes.is_empty());
    }

    pub fn unclaims(&self) {
        let kernel = self.guest.kernel.borrow();
        kernel
            .unclaim(self.identity.dev, &self.path, self.slot)
            .unwrap();
    }

    /// Runs as another user from here on.
    pub fn by(mut self, uid: u32) -> Self {
        self.program.uid = uid;
        self
    }

    /// Puts another envelope in force.
    pub fn changes_to(&self, envelope: &str, mode: Mode) {
        let plan = plan_of(&self.path, &toml(envelope));
        let number = self.guest.number();
        let kernel = self.guest.kernel.borrow();
        kernel.stage(number, &plan).unwrap();
        kernel.commit(self.slot, number, plan.flags, mode).unwrap();
        let (old, retired) = self.plan.replace((number, plan));
        kernel.retire(old, &retired).unwrap();
    }

    /// Takes all rights away, or lets nothing start.
    pub fn closes(&self, state: SlotState) {
        self.guest.kernel.borrow().close(self.slot, state).unwrap();
    }

    /// What was refused (or would have been) since the last question.
    pub fn denials(&self) -> Vec<Denial> {
        self.guest
            .take_records(self.slot)
            .iter()
            .map(Denial::from)
            .collect()
    }

    /// What the kernel has counted since this subject was bound.
    pub fn totals(&self) -> Totals {
        let now = self.guest.kernel.borrow().totals(self.slot).unwrap();
        Totals {
            denied: now.denied - self.before.denied,
            would_deny: now.would_deny - self.before.would_deny,
            lost: now.lost - self.before.lost,
            silent: now.silent - self.before.silent,
        }
    }

    /// How often the rule with this text (`fs:read /x`) allowed something.
    pub fn uses(&self, rule: &str) -> u64 {
        let (number, plan) = &*self.plan.borrow();
        let kernel = self.guest.kernel.borrow();
        let held = kernel.read_back(self.slot, *number, plan).unwrap();
        assert!(held.equal);
        held.uses
            .iter()
            .filter(|(number, _)| plan.rule(**number).is_some_and(|r| r.to_string() == rule))
            .map(|(_, count)| count)
            .sum()
    }
}

/// Files that an envelope pins, by path.
struct Pins(BTreeMap<String, Identity>);

impl Pins {
    fn of(guest: &Guest, envelope: &str) -> Self {
        let kernel = guest.kernel.borrow();
        let identity = |path: &str| {
            let file = File::open(path).unwrap();
            (path.to_owned(), kernel.identify(&file).unwrap().0)
        };
        Self(pinned(envelope).map(identity).collect())
    }

    fn keys(&self) -> BTreeMap<String, FileKey> {
        let pins = self.0.iter();
        pins.map(|(path, identity)| (path.clone(), identity.file_key()))
            .collect()
    }

    fn take(&self, kernel: &Kernel, slot: u32) {
        for identity in self.0.values() {
            kernel.pin(identity, slot).unwrap();
        }
    }

    fn let_go(&self, kernel: &Kernel) {
        for identity in self.0.values() {
            let _ = kernel.unpin(identity);
        }
    }
}

fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Drop for Subject<'_> {
    fn drop(&mut self) {
        let kernel = self.guest.kernel.borrow();
        let _ = kernel.close(self.slot, SlotState::Revoked);
        let _ = kernel.unclaim(self.identity.dev, &self.path, self.slot);
        let _ = kernel.unbind(&self.identity);
        self.pins.let_go(&kernel);
        let (number, plan) = &*self.plan.borrow();
        let _ = kernel.retire(*number, plan);
    }
}

/// A record of the ring, as far as tests compare it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    pub operation: u32,
    /// The path; else `ADDRESS:PORT` in IPv6 form; else the number.
    pub object: String,
    pub exe: String,
    pub comm: String,
    pub uid: u32,
    pub tgid: u32,
    pub reason: u32,
    /// The slot of the process that it was aimed at.
    pub other: u32,
    pub refused: bool,
    /// Bytes of the whole path, which may be more than the record holds.
    pub object_length: u32,
}

impl Denial {
    /// Short enough to compare: what was tried, and to what.
    pub fn what(&self) -> (u32, &str) {
        (self.operation, &self.object)
    }
}

impl From<&sys::event> for Denial {
    fn from(event: &sys::event) -> Self {
        let object = match u32::from(event.object_kind) {
            kind if kind == sys::object_kind::OBJECT_PATH.0 => {
                text(&event.object, event.object_length)
            }
            kind if kind == sys::object_kind::OBJECT_ENDPOINT.0 => {
                std::net::SocketAddr::from((event.address, event.port)).to_string()
            }
            kind if kind == sys::object_kind::OBJECT_NUMBER.0
                || kind == sys::object_kind::OBJECT_PROCESS.0 =>
            {
                event.number.to_string()
            }
            _ => String::new(),
        };
        Self {
            operation: u32::from(event.operation),
            object,
            exe: text(&event.exe, event.exe_length),
            comm: text(&event.comm, event.comm.len() as u32),
            uid: event.uid,
            tgid: event.tgid,
            reason: u32::from(event.reason),
            other: event.other,
            refused: u32::from(event.verdict) == sys::verdict::VERDICT_DENIED.0,
            object_length: event.object_length,
        }
    }
}

fn text(bytes: &[u8], length: u32) -> String {
    let bytes = &bytes[..bytes.len().min(length as usize)];
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}
