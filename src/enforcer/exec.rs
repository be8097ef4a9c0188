//! Domain exec: identities, claims and labels; process:exec and code:* through the rules of paths.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::on_demand::attach_again;
use super::rule_hash::RuleHash;
use super::unit::{UnitRules, Units};
use super::{Enforcer, Error, Held, Hook, PlanNumber, Uses, attach_trampolines, hooks_of, pin};
use crate::artifact::capability::CapabilityName;
use crate::artifact::digest::hex;
use crate::bpf;
use crate::bpf::object::{Id, Object};
use crate::bpf::running::RunningKernel;
use crate::bpf::sys::{self, Plain};
use crate::bpf::table::{Table, Write};
use crate::plan::{FileKey, Plan};

/// Compares the content of measured executables; attached only while there are any, because everybody's
/// execs pay for it.
pub const MEASURE_PROGRAM: &str = "measure";

/// Rounds of adoption before a fork storm is called one.
const ADOPTION_ROUNDS: u32 = 64;

pub(super) struct Exec {
    object: Object<sys::exec_bpf>,
    subjects: Table<sys::subject_key, sys::subject>,
    claims: Table<sys::claim_key, sys::claim>,
    claim_names: Table<sys::claim_name_key, u32>,
    mirror: Table<u64, u32>,
    /// By a pidfd of the process.
    labels: Table<i32, sys::label>,
    units: Units,
    pinned_code: RuleHash<sys::code_key>,
    measured: Table<sys::measured_key, u32>,
    /// Processes labelled by adoption since load, as last read.
    adopted: Cell<u64>,
}

/// A file as the kernel's hooks will see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub ino: u64,
    /// s_dev, `major << 20 | minor`; not always st_dev.
    pub dev: u32,
    pub generation: u32,
    /// The magic number of its file system, as in linux/magic.h.
    pub magic: u64,
    /// Open descriptors that can write to it, at that moment.
    pub writers: i32,
}

impl Identity {
    /// What makes two identities the same file.
    pub fn file_key(&self) -> FileKey {
        FileKey {
            ino: self.ino,
            dev: self.dev,
            generation: self.generation,
        }
    }

    pub(super) fn key(&self) -> sys::subject_key {
        subject_key(self.file_key())
    }
}

pub(super) fn subject_key(file: FileKey) -> sys::subject_key {
    sys::subject_key {
        ino: file.ino,
        dev: file.dev,
        generation: file.generation,
    }
}

/// Of an entry that makes the file nobody's program.
const NO_PROGRAM: u32 = sys::SUBJECT_EXAMINED | sys::SUBJECT_CODE;

impl Exec {
    pub(super) fn load(root: &Path, running: &RunningKernel) -> Result<Self, Error> {
        let object = Object::<sys::exec_bpf>::load(root, running)?;
        object.spare(std::process::id());
        let units = Units::new(&object)?;
        // the programs of before know of units: these must, from their first moment on
        object.look_for_units(units.are_there()?);
        Ok(Self {
            subjects: Table::new(object.map("subjects")?, "subjects")?,
            claims: Table::new(object.map("claims")?, "claims")?,
            claim_names: Table::new(object.map("claim_names")?, "claim_names")?,
            mirror: Table::new(object.map("mirror")?, "mirror")?,
            labels: Table::new(object.map("labels")?, "labels")?,
            units,
            measured: Table::new(object.map("measured")?, "measured")?,
            pinned_code: RuleHash::new(
                object.map("pinned_code")?,
                "pinned_code",
                |key: &sys::code_key| key.plan,
            )?,
            adopted: Cell::new(0),
            object,
        })
    }

    pub(super) fn object(&self) -> &Object<sys::exec_bpf> {
        &self.object
    }

    /// What the kernel knows of an open file, and its path as rules see it (None if it has none there).
    pub(super) fn identify(&self, file: &File) -> Result<(Identity, Option<String>), Error> {
        let seen = self.object.identify(file.as_fd())?;
        let length = (seen.length as usize).min(seen.path.len());
        let path = (seen.error == 0)
            .then(|| String::from_utf8(seen.path[..length].to_vec()).ok())
            .flatten();
        let identity = Identity {
            ino: seen.key.ino,
            dev: seen.key.dev,
            generation: seen.key.generation,
            magic: seen.magic,
            writers: seen.writers,
        };
        Ok((identity, path))
    }

    /// From now on nobody writes to the file; running it is nobody's matter yet. False if it is bound
    /// or examined already.
    pub(super) fn examine(&self, identity: &Identity, slot: u32) -> Result<bool, Error> {
        let subject = sys::subject {
            slot,
            flags: sys::SUBJECT_EXAMINED,
        };
        match self.subjects.write(&identity.key(), &subject, Write::New) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == libc::EEXIST => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// From now on nobody writes to the file, and running it is a matter of the slot. It may be another
    /// slot's only if that `is_free`.
    pub(super) fn bind(
        &self,
        identity: &Identity,
        slot: u32,
        (script, hashes): (bool, &BTreeSet<String>),
        is_free: impl Fn(u32) -> bool,
    ) -> Result<(), Error> {
        let script_flag = if script { sys::SUBJECT_SCRIPT } else { 0 };
        let flags = match hashes.is_empty() {
            true => script_flag,
            false => script_flag | sys::SUBJECT_MEASURED,
        };
        let key = identity.key();
        if let Some(held) = self.subjects.lookup(&key)?
            && held.slot != slot
            && !is_free(held.slot)
            && held.flags & NO_PROGRAM == 0
        {
            return Err(Error::OtherOwner(held.slot));
        }
        let admitted = hashes.iter().map(|hash| measured_key(identity, hash));
        for content in admitted {
            self.measured.write(&content, &slot, Write::Replace)?;
        }
        let subject = sys::subject { slot, flags };
        self.subjects.write(&key, &subject, Write::Replace)?;
        self.forget_contents(identity, hashes)
    }

    pub(super) fn unbind(&self, identity: &Identity) -> Result<(), Error> {
        self.subjects.remove(&identity.key())?;
        self.forget_contents(identity, &BTreeSet::new())
    }

    /// Removes the contents of a file that are admitted no more, all but these.
    fn forget_contents(&self, identity: &Identity, but: &BTreeSet<String>) -> Result<(), Error> {
        for (content, _) in self.contents(identity)? {
            if !but.contains(&hex(&content.sha256)) {
                self.measured.remove(&content)?;
            }
        }
        Ok(())
    }

    fn contents(&self, identity: &Identity) -> Result<Vec<(sys::measured_key, u32)>, Error> {
        let mut contents = self.measured.entries()?;
        let key = identity.key();
        contents.retain(|(content, _)| sys::bytes_of(&content.file) == sys::bytes_of(&key));
        Ok(contents)
    }

    /// Whether exactly these contents of a bound file run; none: it is not measured.
    pub(super) fn is_measured(
        &self,
        identity: &Identity,
        hashes: &BTreeSet<String>,
    ) -> Result<bool, Error> {
        let held = self.subjects.lookup(&identity.key())?;
        let flagged = held.is_some_and(|held| held.flags & sys::SUBJECT_MEASURED != 0);
        let contents = self.contents(identity)?;
        let contents: BTreeSet<String> = contents.iter().map(|one| hex(&one.0.sha256)).collect();
        Ok(flagged != hashes.is_empty() && contents == *hashes)
    }

    /// Whether this kernel can hash at exec.
    pub(super) fn can_measure(&self) -> bool {
        let program = self.object.program(MEASURE_PROGRAM);
        program.is_ok_and(|program| program.is_loaded())
    }

    /// Whether some executable is measured.
    pub(super) fn measures(&self) -> Result<bool, Error> {
        Ok(!self.measured.entries()?.is_empty())
    }

    /// Attaches the program that measures, or lets it go.
    pub(super) fn watch_contents(&self, links: &Path, wanted: bool) -> Result<(), Error> {
        let path = links.join(MEASURE_PROGRAM);
        match (wanted, path.exists()) {
            (true, false) => {
                let program = self.object.program(MEASURE_PROGRAM)?;
                pin(attach_again(&program)?, links, MEASURE_PROGRAM)
            }
            (false, true) => {
                std::fs::remove_file(&path).map_err(|source| Error::Pin { path, source })
            }
            _ => Ok(()),
        }
    }

    /// Whether a file is bound to the slot, and not only examined for it.
    pub(super) fn is_bound(&self, identity: &Identity, slot: u32) -> Result<bool, Error> {
        let held = self.subjects.lookup(&identity.key())?;
        Ok(held.is_some_and(|held| held.slot == slot && held.flags & NO_PROGRAM == 0))
    }

    /// From now on nobody writes to the file; refusals are told for the slot. Whose program it is does not
    /// change.
    pub(super) fn pin(&self, identity: &Identity, slot: u32) -> Result<(), Error> {
        if self.is_program(identity)? {
            return Ok(());
        }
        self.pin_only(identity, slot)
    }

    /// The same for a file that is nobody's program any more.
    pub(super) fn pin_only(&self, identity: &Identity, slot: u32) -> Result<(), Error> {
        let flags = sys::SUBJECT_CODE;
        let subject = sys::subject { slot, flags };
        self.subjects
            .write(&identity.key(), &subject, Write::Replace)?;
        Ok(())
    }

    /// Lets a file be written to that no artifact pins any more, unless it is somebody's program.
    pub(super) fn unpin(&self, identity: &Identity) -> Result<(), Error> {
        if self.is_program(identity)? {
            return Ok(());
        }
        self.unbind(identity)
    }

    fn is_program(&self, identity: &Identity) -> Result<bool, Error> {
        let held = self.subjects.lookup(&identity.key())?;
        Ok(held.is_some_and(|held| held.flags & NO_PROGRAM == 0))
    }

    /// Whether nobody can write to a file, and not only for as long as it is examined.
    pub(super) fn is_pinned(&self, identity: &Identity) -> Result<bool, Error> {
        let held = self.subjects.lookup(&identity.key())?;
        Ok(held.is_some_and(|held| held.flags & sys::SUBJECT_EXAMINED == 0))
    }

    /// Whether a path is claimed for the slot.
    pub(super) fn is_claimed(&self, dev: u32, path: &str, slot: u32) -> Result<bool, Error> {
        let held = self.claims.lookup(&claim_key(dev, path))?;
        let filtered = self.claim_names.lookup(&name_key(dev, path))?.is_some();
        Ok(filtered && held.is_some_and(|held| held.slot == slot))
    }

    /// All bound identities with their slots.
    pub(super) fn bindings(&self) -> Result<Vec<(Identity, u32)>, Error> {
        let entries = self.subjects.entries()?;
        let slots = entries.iter().map(|(key, held)| (identity(key), held.slot));
        Ok(slots.collect())
    }

    /// All files that are pinned and nobody's program.
    pub(super) fn pins(&self) -> Result<Vec<Identity>, Error> {
        let entries = self.subjects.entries()?;
        let pins = entries
            .iter()
            .filter(|(_, held)| held.flags & sys::SUBJECT_CODE != 0);
        Ok(pins.map(|(key, _)| identity(key)).collect())
    }

    /// Nothing runs under this path on this device but what is bound.
    pub(super) fn claim(&self, dev: u32, path: &str, slot: u32) -> Result<(), Error> {
        let name = name_key(dev, path);
        self.claim_names.write(&name, &slot, Write::Replace)?;
        self.claims
            .write(&claim_key(dev, path), &sys::claim { slot }, Write::Replace)?;
        Ok(())
    }

    /// Ends a claim, if it still is this slot's. The name's filter stays if another claim has the same
    /// last component.
    pub(super) fn unclaim(&self, dev: u32, path: &str, slot: u32) -> Result<(), Error> {
        let key = claim_key(dev, path);
        if self
            .claims
            .lookup(&key)?
            .is_none_or(|claim| claim.slot != slot)
        {
            return Ok(());
        }
        self.claims.remove(&key)?;
        let name = name_key(dev, path);
        let shared = self.claims.entries()?.iter().any(|(other, _)| {
            let length = other.path.iter().position(|b| *b == 0).unwrap_or(0);
            let text = String::from_utf8_lossy(&other.path[..length]);
            sys::bytes_of(&name_key(other.dev, &text)) == sys::bytes_of(&name)
        });
        if !shared {
            self.claim_names.remove(&name)?;
        }
        Ok(())
    }

    /// All claims: device, path, slot.
    pub(super) fn claims(&self) -> Result<Vec<(u32, String, u32)>, Error> {
        let entries = self.claims.entries()?;
        Ok(entries
            .into_iter()
            .map(|(key, claim)| {
                let length = key.path.iter().position(|b| *b == 0).unwrap_or(0);
                let path = String::from_utf8_lossy(&key.path[..length]).into_owned();
                (key.dev, path, claim.slot)
            })
            .collect())
    }

    /// Binds running tasks until a round finds none. Tells the slots and numbers of their processes.
    pub(super) fn adopt(&self) -> Result<BTreeSet<(u32, u32)>, Error> {
        let mut adopted = BTreeSet::new();
        for _ in 0..ADOPTION_ROUNDS {
            let (total, labelled) = self.object.adopt()?;
            adopted.extend(labelled.iter().map(|bound| (bound.slot, bound.tgid)));
            if self.adopted.replace(total) == total {
                return Ok(adopted);
            }
        }
        Err(Error::AdoptionDoesNotEnd)
    }

    /// Holds units and their executables, and if they are `all`, no others.
    pub(super) fn hold_units(&self, rules: &UnitRules, all: bool) -> Result<(), Error> {
        self.units.hold(&self.object, rules, all)
    }

    pub(super) fn units(&self) -> &Units {
        &self.units
    }

    /// The slot of a running process, 0 if it is outside.
    pub(super) fn slot_of(&self, process: BorrowedFd<'_>) -> Result<u32, Error> {
        let label = self.labels.lookup(&process.as_raw_fd())?;
        Ok(label.map_or(0, |label| label.slot))
    }

    /// Leads the next program of a process outside into a slot. False if the process is a subject.
    pub(super) fn invite(&self, process: BorrowedFd<'_>, slot: u32) -> Result<bool, Error> {
        if self.slot_of(process)? != 0 {
            return Ok(false);
        }
        let label = sys::label {
            invited: slot,
            ..sys::label::zeroed()
        };
        let process = process.as_raw_fd();
        match self.labels.write(&process, &label, Write::New) {
            Err(error) if error.errno() == libc::EEXIST => {
                // invited before, and nothing came of it
                self.labels.write(&process, &label, Write::Replace)?;
            }
            written => written?,
        }
        Ok(true)
    }

    /// Kills a process if it is bound to the slot; false if it is not, or is none any more. Between the look
    /// and the signal the number cannot become another's: both go by one descriptor.
    pub(super) fn kill(&self, slot: u32, tgid: u32) -> Result<bool, Error> {
        let Some(pid) = i32::try_from(tgid).ok().and_then(Pid::from_raw) else {
            return Ok(false);
        };
        let ended = |error: Errno| match error {
            Errno::SRCH => Ok(false),
            error => Err(bpf::Error::new(format!("end the process {tgid}"), error.into()).into()),
        };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(error) => return ended(error),
        };
        match self.labels.lookup(&process.as_raw_fd()) {
            Ok(Some(label)) if label.slot == slot => {}
            Ok(_) => return Ok(false),
            Err(error) if error.errno() == libc::ESRCH => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        match pidfd_send_signal(process, Signal::KILL) {
            Ok(()) => Ok(true),
            Err(error) => ended(error),
        }
    }

    /// Running processes by slot.
    pub(super) fn tasks(&self) -> Result<BTreeMap<u32, u32>, Error> {
        let mut tasks = BTreeMap::new();
        for (_, slot) in self.mirror.entries()? {
            if slot != 0 {
                *tasks.entry(slot).or_insert(0) += 1;
            }
        }
        Ok(tasks)
    }
}

impl Enforcer for Exec {
    fn domain(&self) -> &'static str {
        "exec"
    }

    fn capabilities(&self) -> &'static [CapabilityName] {
        &[
            CapabilityName::ProcessExec,
            CapabilityName::CodeLoad,
            CapabilityName::CodeGenerate,
        ]
    }

    fn hooks(&self) -> Vec<Hook> {
        hooks_of(&self.object)
    }

    fn ids(&self) -> Result<Vec<Id>, Error> {
        Ok(self.object.ids()?)
    }

    fn attach(&self, directory: &Path) -> Result<(), Error> {
        attach_trampolines(&self.object, directory)
    }

    // Its rules of paths and flags the file domain's trie and the slot hold.

    fn stage(&self, number: PlanNumber, plan: &Plan) -> Result<(), Error> {
        self.pinned_code.stage(code(number, plan))
    }

    fn read_back(&self, number: PlanNumber, plan: &Plan) -> Result<Held, Error> {
        self.pinned_code.read_back(code(number, plan))
    }

    fn counts(&self, counts: &mut BTreeMap<PlanNumber, u64>) -> Result<(), Error> {
        self.pinned_code.counts(counts)
    }

    fn remove_unused(&self, used: &BTreeSet<PlanNumber>) -> Result<(), Error> {
        self.pinned_code.remove_unused(used)
    }

    fn retire(&self, number: PlanNumber, plan: &Plan) -> Result<Uses, Error> {
        self.pinned_code.retire(code(number, plan))
    }
}

/// The pinned files of a plan as the kernel has them.
fn code(plan: PlanNumber, own: &Plan) -> impl Iterator<Item = (sys::code_key, u16)> {
    own.code.iter().map(move |(file, rule)| {
        let file = subject_key(*file);
        (sys::code_key { file, plan, pad: 0 }, *rule)
    })
}

/// `hash` is 64 hex digits; what is none is a content that no file has.
fn measured_key(identity: &Identity, hash: &str) -> sys::measured_key {
    let mut key = sys::measured_key::zeroed();
    key.file = identity.key();
    for (at, byte) in key.sha256.iter_mut().enumerate() {
        let digits = hash.get(at * 2..at * 2 + 2).unwrap_or_default();
        *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
    }
    key
}

/// As far as a key tells.
pub(super) fn identity(key: &sys::subject_key) -> Identity {
    Identity {
        ino: key.ino,
        dev: key.dev,
        generation: key.generation,
        magic: 0,
        writers: 0,
    }
}

fn claim_key(dev: u32, path: &str) -> sys::claim_key {
    let mut key = sys::claim_key {
        dev,
        path: [0; sys::RULE_MAX as usize],
    };
    let length = path.len().min(key.path.len() - 1);
    key.path[..length].copy_from_slice(&path.as_bytes()[..length]);
    key
}

fn name_key(dev: u32, path: &str) -> sys::claim_name_key {
    let name = path.rsplit('/').next().unwrap_or_default().as_bytes();
    let mut key = sys::claim_name_key {
        dev,
        name: [0; sys::CLAIM_NAME_MAX as usize],
    };
    let length = name.len().min(key.name.len() - 1);
    key.name[..length].copy_from_slice(&name[..length]);
    key
}
