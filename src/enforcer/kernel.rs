//! The kernel side of the node as one thing: all domains, the slots that tasks point to, the ring.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::cut::Cut;
use super::exec::{Exec, Identity};
use super::file::FileRules;
use super::guard::{Guard, place_of};
use super::ipc::Ipc;
use super::network::Network;
use super::privilege::Privilege;
use super::unit::UnitRules;
use super::{Enforcer, Error, Held, Hook, PIN_ROOT, PlanNumber, Uses, pins};
use crate::artifact::capability::CapabilityName;
use crate::bpf;
use crate::bpf::link::pinned_program;
use crate::bpf::ring::Ring;
use crate::bpf::running::RunningKernel;
use crate::bpf::sys::{self, Plain};
use crate::bpf::table::{Table, Write};
use crate::bpf::words::Words;
use crate::plan::{FileKey, Plan};

/// What a slot's tasks are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    /// Never used in this boot: denies.
    Unknown,
    /// A plan is in force.
    Admitted,
    /// Every hooked operation is denied.
    Revoked,
    /// Rejected, waiting, or being examined: does not run.
    Refused,
    /// Its tasks are outside as long as this stands.
    Released,
}

/// The command, which may take enforcement off this node while no daemon runs.
const COMMAND: &str = "/usr/bin/cartouche";

/// Whether refusals are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    Audit,
}

/// Counted by the kernel for one slot since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub denied: u64,
    pub would_deny: u64,
    /// Decisions of these without a record of their own.
    pub lost: u64,
    /// Refusals that the kernel asked for without audit; no record either.
    pub silent: u64,
}

/// All programs and maps. Dropping it closes descriptors; what is pinned stays in force.
pub struct Kernel {
    exec: Exec,
    files: FileRules,
    network: Network,
    ipc: Ipc,
    privilege: Privilege,
    guard: Guard,
    cut: Cut,
    slots: Words<sys::slot>,
    holders: Table<u32, sys::holder>,
    counts: Table<u32, sys::slot_counts>,
    ring: Ring,
    root: PathBuf,
}

impl Kernel {
    /// Loads all programs and makes or takes over the pinned maps. Attaches nothing.
    pub fn load() -> Result<Self, Error> {
        let root = Path::new(PIN_ROOT);
        pins::prepare(root)?;
        let running = RunningKernel::read(root)?;
        let guard = Guard::load(root, &running)?;
        guard.take_over()?;
        let exec = Exec::load(root, &running)?;
        let ipc = Ipc::load(root, &running)?;
        let own = std::env::current_exe().ok();
        for program in [own.as_deref(), Some(Path::new(COMMAND))]
            .into_iter()
            .flatten()
        {
            if let Some((directory, name)) = place_of(program) {
                guard.keep(&exec.identify(&directory)?.0, name)?;
            }
        }
        Ok(Self {
            guard,
            files: FileRules::load(root, &running)?,
            network: Network::load(root, &running)?,
            privilege: Privilege::load(root, &running)?,
            cut: Cut::load(root, &running)?,
            slots: Words::map(&exec.object().map("slots")?, "slots")?,
            holders: ipc.holders()?,
            counts: Table::new(exec.object().map("counts")?, "counts")?,
            ring: Ring::new(exec.object().map("events")?)?,
            ipc,
            exec,
            root: root.to_owned(),
        })
    }

    /// The table of domains.
    pub fn domains(&self) -> [&dyn Enforcer; 7] {
        [
            &self.exec,
            &self.files,
            &self.network,
            &self.ipc,
            &self.privilege,
            &self.guard,
            &self.cut,
        ]
    }

    /// Which capabilities some domain enforces.
    pub fn enforceable(&self) -> BTreeSet<CapabilityName> {
        self.domains()
            .iter()
            .flat_map(|domain| domain.capabilities())
            .copied()
            .collect()
    }

    /// Attaches this build's programs in the place of whatever is pinned, without a gap.
    pub fn attach(&self) -> Result<(), Error> {
        pins::replace(&self.root, |directory| {
            for domain in self.domains() {
                domain.attach(directory)?;
            }
            if !self.slots_with_udp()?.is_empty() {
                self.network.watch_datagrams(directory, true)?;
            }
            if !self.tasks_without_rights()?.is_empty() {
                self.cut.watch_held(directory, true)?;
            }
            if self.exec.measures()? && self.exec.can_measure() {
                self.exec.watch_contents(directory, true)?;
            }
            Ok(())
        })
    }

    /// Takes enforcement off this node: nothing of Cartouche is left in the kernel but what this process
    /// itself holds.
    pub fn detach(root: &Path) -> Result<(), Error> {
        pins::remove_all(root)
    }

    /// Guards pins, maps, links and this process against everybody else; refusals are told on behalf of
    /// `slot`.
    pub fn stand_guard(&self, slot: u32) -> Result<(), Error> {
        let pins = File::open(&self.root).map_err(|source| Error::Pin {
            path: self.root.clone(),
            source,
        })?;
        let mut ids = Vec::new();
        for domain in self.domains() {
            ids.extend(domain.ids()?);
        }
        self.guard.stand(&ids, &self.identify(&pins)?.0, slot)
    }

    /// Guards nothing any more.
    pub fn stand_down(&self) -> Result<(), Error> {
        self.guard.stand_down()
    }

    pub fn is_guarded(&self) -> Result<bool, Error> {
        self.guard.is_standing()
    }

    /// Every hook by domain; true if this very build's program is attached to it at this moment.
    pub fn attached(&self) -> BTreeMap<String, bool> {
        let links = pins::links(&self.root);
        let there = |hook: &Hook| pinned_program(&links.join(&hook.name)).ok().flatten();
        self.domains()
            .iter()
            .flat_map(|domain| domain.hooks())
            .map(|hook| {
                let attached = hook.program.is_some() && there(&hook) == hook.program;
                (hook.name, attached)
            })
            .collect()
    }

    /// Hooks that this kernel does not have.
    pub fn absent_hooks(&self) -> BTreeSet<String> {
        self.domains()
            .iter()
            .flat_map(|domain| domain.hooks())
            .filter(|hook| hook.program.is_none())
            .map(|hook| hook.name)
            .collect()
    }

    /// What the kernel knows of an open file; see [`Identity`]. The path is as rules see it.
    pub fn identify(&self, file: &File) -> Result<(Identity, Option<String>), Error> {
        self.exec.identify(file)
    }

    /// From now on no subject puts another file in the place of one of these scripts, or of a directory above.
    /// A place that is not there is nobody's.
    pub fn keep_ways<'s>(&self, scripts: impl Iterator<Item = &'s str>) -> Result<(), Error> {
        self.files.keep_ways(&self.ways_of(scripts)?)
    }

    /// The same, and of no others any more.
    pub fn keep_only_ways<'s>(&self, scripts: impl Iterator<Item = &'s str>) -> Result<(), Error> {
        self.files.keep_only_ways(&self.ways_of(scripts)?)
    }

    fn ways_of<'s>(
        &self,
        scripts: impl Iterator<Item = &'s str>,
    ) -> Result<BTreeSet<FileKey>, Error> {
        let places: BTreeSet<&Path> = scripts
            .flat_map(|script| Path::new(script).ancestors())
            .collect();
        let mut ways = BTreeSet::new();
        for place in places {
            let place = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
                .open(place);
            if let Ok(place) = place {
                ways.insert(self.identify(&place)?.0.file_key());
            }
        }
        Ok(ways)
    }

    /// From now on nobody writes to the file, so that it can be hashed; running it is nobody's matter
    /// yet. False if it is bound or examined already.
    pub fn examine(&self, identity: &Identity, slot: u32) -> Result<bool, Error> {
        self.exec.examine(identity, slot)
    }

    /// From now on nobody writes to the file, and running it is a matter of the slot.
    pub fn bind(&self, identity: &Identity, slot: u32, script: bool) -> Result<(), Error> {
        let as_admitted = BTreeSet::new();
        self.exec
            .bind(identity, slot, (script, &as_admitted), |_| false)
    }

    /// The same for a file that may be a matter of another slot, if that `is_free`. If there are `hashes`, it
    /// runs only as long as its content has one of them.
    pub fn bind_in_place_of(
        &self,
        is_free: impl Fn(u32) -> bool,
        identity: &Identity,
        slot: u32,
        (script, hashes): (bool, &BTreeSet<String>),
    ) -> Result<(), Error> {
        if !hashes.is_empty() {
            self.exec.watch_contents(&pins::links(&self.root), true)?;
        }
        self.exec.bind(identity, slot, (script, hashes), is_free)
    }

    /// Whether exactly these contents of a bound file run; none: it is not measured.
    pub fn is_measured(
        &self,
        identity: &Identity,
        hashes: &BTreeSet<String>,
    ) -> Result<bool, Error> {
        self.exec.is_measured(identity, hashes)
    }

    /// Whether this kernel can hash at exec.
    pub fn can_measure(&self) -> bool {
        self.exec.can_measure()
    }

    /// Attaches the program that measures if it is missing, or lets it go once nothing is measured.
    pub fn settle_measuring(&self) -> Result<(), Error> {
        let wanted = self.exec.measures()?;
        self.exec.watch_contents(&pins::links(&self.root), wanted)
    }

    pub fn unbind(&self, identity: &Identity) -> Result<(), Error> {
        self.exec.unbind(identity)
    }

    /// From now on nobody writes to the file; whose program it is does not change.
    pub fn pin(&self, identity: &Identity, slot: u32) -> Result<(), Error> {
        self.exec.pin(identity, slot)
    }

    /// The same for a file that is nobody's program any more.
    pub fn pin_only(&self, identity: &Identity, slot: u32) -> Result<(), Error> {
        self.exec.pin_only(identity, slot)
    }

    /// Lets a file be written to that no artifact pins any more, unless it is somebody's program.
    pub fn unpin(&self, identity: &Identity) -> Result<(), Error> {
        self.exec.unpin(identity)
    }

    /// Whether nobody can write to a file.
    pub fn is_pinned(&self, identity: &Identity) -> Result<bool, Error> {
        self.exec.is_pinned(identity)
    }

    /// All files that are pinned and nobody's program.
    pub fn pins(&self) -> Result<Vec<Identity>, Error> {
        self.exec.pins()
    }

    /// Whether a file is bound to the slot.
    pub fn is_bound(&self, identity: &Identity, slot: u32) -> Result<bool, Error> {
        self.exec.is_bound(identity, slot)
    }

    /// Whether a path is claimed for the slot.
    pub fn is_claimed(&self, dev: u32, path: &str, slot: u32) -> Result<bool, Error> {
        self.exec.is_claimed(dev, path, slot)
    }

    pub fn bindings(&self) -> Result<Vec<(Identity, u32)>, Error> {
        self.exec.bindings()
    }

    pub fn claim(&self, dev: u32, path: &str, slot: u32) -> Result<(), Error> {
        self.exec.claim(dev, path, slot)
    }

    /// Ends a claim, if it still is this slot's.
    pub fn unclaim(&self, dev: u32, path: &str, slot: u32) -> Result<(), Error> {
        self.exec.unclaim(dev, path, slot)
    }

    pub fn claims(&self) -> Result<Vec<(u32, String, u32)>, Error> {
        self.exec.claims()
    }

    /// Puts a plan into the kernel, beside the one in force. Nothing changes for any task.
    pub fn stage(&self, number: PlanNumber, plan: &Plan) -> Result<(), Error> {
        for domain in self.domains() {
            if let Err(error) = domain.stage(number, plan) {
                // nobody uses the number: what was staged is taken back as far as possible
                let _ = self.retire(number, plan);
                return Err(error);
            }
        }
        if u32::from(plan.flags) & sys::PLAN_UDP != 0 {
            self.network
                .watch_datagrams(&pins::links(&self.root), true)?;
        }
        Ok(())
    }

    /// Puts a staged plan with these flags in force: one store.
    pub fn commit(
        &self,
        slot: u32,
        number: PlanNumber,
        flags: u16,
        mode: Mode,
    ) -> Result<(), Error> {
        self.write_slot(slot, SlotState::Admitted, mode, flags, number)
    }

    /// Puts a staged plan of managed paths in force for the tasks outside, or ends it: one store.
    pub fn manage(&self, plan: Option<(PlanNumber, u16)>, mode: Mode) -> Result<(), Error> {
        match plan {
            Some((number, flags)) => self.commit(OUTSIDE, number, flags, mode),
            None => self.close(OUTSIDE, SlotState::Unknown),
        }
    }

    /// The plan of managed paths that is in force.
    pub fn managed(&self) -> Option<PlanNumber> {
        let held = self.slots.load(OUTSIDE)?;
        (u32::from(held.flags) & sys::PLAN_MANAGED != 0).then_some(held.plan)
    }

    /// Changes what all tasks of a slot are held to, without a plan: revoked, refused or released.
    pub fn close(&self, slot: u32, state: SlotState) -> Result<(), Error> {
        self.write_slot(slot, state, Mode::Enforce, 0, 0)
    }

    /// Ends all rights of a slot's tasks; in audit mode that is only told. Tasks that are `dying` make no
    /// others any more.
    pub fn revoke(&self, slot: u32, mode: Mode, dying: bool) -> Result<(), Error> {
        let flags = if dying { sys::SLOT_DYING as u16 } else { 0 };
        self.write_slot(slot, SlotState::Revoked, mode, flags, 0)
    }

    /// Kills a process if it is bound to the slot, and tells whether it was.
    pub fn kill(&self, slot: u32, tgid: u32) -> Result<bool, Error> {
        self.exec.kill(slot, tgid)
    }

    /// The state of a slot as the kernel holds it.
    pub fn state(&self, slot: u32) -> Result<(SlotState, Mode, PlanNumber), Error> {
        let held = self.slots.load(slot).unwrap_or(EMPTY_SLOT);
        let state = match u32::from(held.state) {
            x if x == sys::slot_state::SLOT_ADMITTED.0 => SlotState::Admitted,
            x if x == sys::slot_state::SLOT_REVOKED.0 => SlotState::Revoked,
            x if x == sys::slot_state::SLOT_REFUSED.0 => SlotState::Refused,
            x if x == sys::slot_state::SLOT_RELEASED.0 => SlotState::Released,
            _ => SlotState::Unknown,
        };
        let mode = if u32::from(held.mode) == sys::slot_mode::MODE_AUDIT.0 {
            Mode::Audit
        } else {
            Mode::Enforce
        };
        Ok((state, mode, held.plan))
    }

    /// Writes down who has a slot, where it lasts as long as the slot itself, and how many of its lost
    /// decisions are told. At most 255 bytes of the name count.
    pub fn note_holder(&self, slot: u32, name: &str, lost_told: u64) -> Result<(), Error> {
        let mut value = sys::holder::zeroed();
        value.lost_told = lost_told;
        let length = name.len().min(value.name.len() - 1);
        value.name[..length].copy_from_slice(&name.as_bytes()[..length]);
        Ok(self.holders.write(&slot, &value, Write::Replace)?)
    }

    /// Who has a slot in this boot, and how many of its lost decisions are told.
    pub fn holders(&self) -> Result<BTreeMap<u32, (String, u64)>, Error> {
        let name = |value: &sys::holder| {
            let length = value.name.iter().position(|byte| *byte == 0).unwrap_or(0);
            String::from_utf8_lossy(&value.name[..length]).into_owned()
        };
        let entries = self.holders.entries()?;
        Ok(entries
            .iter()
            .map(|(slot, value)| (*slot, (name(value), value.lost_told)))
            .collect())
    }

    /// Slots in use and the plans that they point to.
    pub fn slots_in_use(&self) -> Result<BTreeMap<u32, PlanNumber>, Error> {
        let slots = self.slots_given()?;
        Ok(slots
            .into_iter()
            .map(|(slot, held)| (slot, held.plan))
            .chain(self.managed().map(|number| (OUTSIDE, number)))
            .collect())
    }

    /// All slots that somebody holds, in use or not.
    fn slots_given(&self) -> Result<BTreeMap<u32, sys::slot>, Error> {
        let mut given = BTreeMap::new();
        for slot in self.holders()?.into_keys() {
            given.insert(slot, self.slots.load(slot).unwrap_or(EMPTY_SLOT));
        }
        Ok(given)
    }

    /// How many rules the kernel holds of each plan in tables that plans share; reading a plan back does not
    /// see those that are too many.
    pub fn shared_rules(&self) -> Result<BTreeMap<PlanNumber, u64>, Error> {
        let mut counts = BTreeMap::new();
        for domain in self.domains() {
            domain.counts(&mut counts)?;
        }
        Ok(counts)
    }

    /// Removes what a daemon that was killed had staged for plans that no slot points to.
    pub fn remove_unused(&self) -> Result<(), Error> {
        let used = self.slots_in_use()?.into_values().collect();
        for domain in self.domains() {
            domain.remove_unused(&used)?;
        }
        Ok(())
    }

    /// What the kernel holds for a slot, against the plan that should be in force.
    pub fn read_back(&self, slot: u32, number: PlanNumber, plan: &Plan) -> Result<Held, Error> {
        let held = self.slots.load(slot).unwrap_or(EMPTY_SLOT);
        if held.plan != number
            || held.flags & !(sys::SLOT_HAD_UDP as u16) != plan.flags
            || u32::from(held.state) != sys::slot_state::SLOT_ADMITTED.0
        {
            return Ok(Held::different());
        }
        let mut uses = Uses::new();
        for domain in self.domains() {
            let held = domain.read_back(number, plan)?;
            if !held.equal {
                return Ok(held);
            }
            uses.extend(held.uses);
        }
        Ok(Held::equal(uses))
    }

    /// Removes a plan that no slot points to, and tells its last counts. Waits for programs that read the slot
    /// before it pointed elsewhere.
    pub fn retire(&self, number: PlanNumber, plan: &Plan) -> Result<Uses, Error> {
        bpf::wait_for_programs();
        let mut uses = Uses::new();
        for domain in self.domains() {
            uses.extend(domain.retire(number, plan)?);
        }
        Ok(uses)
    }

    /// Attaches the datagram programs if they are missing, or lets them go once nobody can hold a datagram socket: no plan in force declares
    /// udp, and no task is left of the slots whose plan once did.
    pub fn settle_datagrams(&self) -> Result<(), Error> {
        let tasks = self.exec.tasks()?;
        let mut needed = false;
        for (slot, held) in self.slots_with_udp()? {
            if u32::from(held.flags) & sys::PLAN_UDP != 0 || tasks.contains_key(&slot) {
                needed = true;
                continue;
            }
            let flags = held.flags & !(sys::SLOT_HAD_UDP as u16);
            self.slots.store(slot, sys::slot { flags, ..held });
        }
        self.network
            .watch_datagrams(&pins::links(&self.root), needed)
    }

    /// Refuses what is held open to whom it is not [a right](Self::tasks_without_rights) any more, or lets the
    /// programs for that go. Whether anything changed.
    pub fn cut(&self, wanted: bool) -> Result<bool, Error> {
        self.cut.watch_held(&pins::links(&self.root), wanted)
    }

    /// Running processes of slots that are revoked, or unknown: slots and process numbers.
    pub fn tasks_without_rights(&self) -> Result<BTreeSet<(u32, u32)>, Error> {
        let mut tasks = BTreeSet::new();
        // who forks and ends without a pause may be missed once
        for _ in 0..2 {
            for (slot, tgid) in self.cut.bound()? {
                if matches!(self.state(slot)?.0, SlotState::Revoked | SlotState::Unknown) {
                    tasks.insert((slot, tgid));
                }
            }
            if !tasks.is_empty() {
                break;
            }
        }
        Ok(tasks)
    }

    /// Binds running tasks of bound executables. Tells the slots and numbers of their processes.
    pub fn adopt(&self) -> Result<BTreeSet<(u32, u32)>, Error> {
        self.exec.adopt()
    }

    /// Running processes by slot.
    pub fn tasks(&self) -> Result<BTreeMap<u32, u32>, Error> {
        self.exec.tasks()
    }

    /// Holds units and their executables, and if they are `all`, no others.
    pub fn hold_units(&self, rules: &UnitRules, all: bool) -> Result<(), Error> {
        self.exec.hold_units(rules, all)
    }

    /// Whether a unit and its executables are held to a slot.
    pub fn is_unit_of(
        &self,
        name: &str,
        programs: &mut dyn Iterator<Item = Identity>,
        slot: u32,
    ) -> Result<bool, Error> {
        let units = self.exec.units();
        for identity in programs {
            if !units.is_program(identity, slot)? {
                return Ok(false);
            }
        }
        Ok(units.slot_of(name)? == Some(slot))
    }

    /// The slot of a running process, 0 if it is outside.
    pub fn slot_of(&self, process: BorrowedFd<'_>) -> Result<u32, Error> {
        self.exec.slot_of(process)
    }

    /// Leads the next program of a process outside into a slot. False if the process is a subject.
    pub fn invite(&self, process: BorrowedFd<'_>, slot: u32) -> Result<bool, Error> {
        self.exec.invite(process, slot)
    }

    /// What the kernel counted for a slot.
    pub fn totals(&self, slot: u32) -> Result<Totals, Error> {
        let Some(counts) = self.counts.lookup(&slot)? else {
            return Ok(Totals::default());
        };
        Ok(Totals {
            denied: counts.denied.iter().sum(),
            would_deny: counts.would_deny.iter().sum(),
            lost: counts.lost,
            silent: counts.silent,
        })
    }

    /// All records that wait, and how many were malformed.
    pub fn drain(&mut self) -> Result<(Vec<sys::event>, u64), Error> {
        Ok(self.ring.drain()?)
    }

    /// Readable while records wait.
    pub fn ring_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// Slots of which tasks may hold datagram sockets, as the kernel remembers it.
    fn slots_with_udp(&self) -> Result<BTreeMap<u32, sys::slot>, Error> {
        let mut slots = self.slots_given()?;
        slots.retain(|_, held| u32::from(held.flags) & sys::SLOT_HAD_UDP != 0);
        Ok(slots)
    }

    fn write_slot(
        &self,
        slot: u32,
        state: SlotState,
        mode: Mode,
        flags: u16,
        plan: PlanNumber,
    ) -> Result<(), Error> {
        let state = match state {
            SlotState::Unknown => sys::slot_state::SLOT_UNKNOWN,
            SlotState::Admitted => sys::slot_state::SLOT_ADMITTED,
            SlotState::Revoked => sys::slot_state::SLOT_REVOKED,
            SlotState::Refused => sys::slot_state::SLOT_REFUSED,
            SlotState::Released => sys::slot_state::SLOT_RELEASED,
        };
        let mode = match mode {
            Mode::Enforce => sys::slot_mode::MODE_ENFORCE,
            Mode::Audit => sys::slot_mode::MODE_AUDIT,
        };
        let before = self.slots.load(slot).unwrap_or(EMPTY_SLOT);
        let had_udp = before.flags & sys::SLOT_HAD_UDP as u16;
        let has_udp = u32::from(flags) & sys::PLAN_UDP != 0;
        let value = sys::slot {
            state: state.0 as u8,
            mode: mode.0 as u8,
            flags: flags | had_udp | if has_udp { sys::SLOT_HAD_UDP as u16 } else { 0 },
            plan,
        };
        match self.slots.store(slot, value) {
            true => Ok(()),
            false => Err(Error::Full {
                what: "artifacts",
                limit: sys::SLOTS_MAX - 1,
            }),
        }
    }
}

/// The slot of all tasks that have none.
pub const OUTSIDE: u32 = 0;

const EMPTY_SLOT: sys::slot = sys::slot {
    state: 0,
    mode: 0,
    flags: 0,
    plan: 0,
};
