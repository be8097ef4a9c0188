//! The domains: what this node can enforce, and how a plan comes into force. Each domain is one C file,
//! one module here and one test file; the table in [`Kernel`] is the list of all.

mod cut;
mod exec;
mod file;
mod guard;
mod ipc;
mod kernel;
mod network;
mod on_demand;
mod pins;
mod privilege;
mod rule_hash;
mod unit;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;

use crate::artifact::capability::CapabilityName;
use crate::bpf;
use crate::bpf::link::Link;
use crate::bpf::object::{Id, Kind, Object, Skeleton};
use crate::plan::Plan;

pub use cut::CUT_PROGRAMS;
pub use exec::{Identity, MEASURE_PROGRAM};
pub use kernel::{Kernel, Mode, OUTSIDE, SlotState, Totals};
pub use network::DATAGRAM_PROGRAMS;
pub use pins::{CGROUP_ROOT, PIN_ROOT};
pub use unit::UnitRules;

/// How often each rule of a plan allowed something since it came into force.
pub type Uses = BTreeMap<u16, u64>;

/// What the kernel holds of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Whether it is the plan, the whole plan, and nothing else.
    pub equal: bool,
    /// How often its rules allowed something; empty where it is not equal.
    pub uses: Uses,
}

impl Held {
    fn equal(uses: Uses) -> Self {
        Self { equal: true, uses }
    }

    fn different() -> Self {
        Self {
            equal: false,
            uses: Uses::new(),
        }
    }
}

/// The number of a plan: its index in the kernel's tables of rules.
pub type PlanNumber = u32;

/// What every domain does.
pub trait Enforcer {
    /// The name of its C file, module and test.
    fn domain(&self) -> &'static str;

    /// Which capabilities it enforces. One capability belongs to one domain.
    fn capabilities(&self) -> &'static [CapabilityName];

    /// Its hooks, and whether this kernel has them.
    fn hooks(&self) -> Vec<Hook>;

    /// Its maps and programs, as the kernel calls them.
    fn ids(&self) -> Result<Vec<Id>, Error>;

    /// Attaches all its programs; each pinned below `directory` by the name of its hook.
    fn attach(&self, directory: &Path) -> Result<(), Error>;

    // A domain without rules of its own has nothing to stage; those below go together.

    /// Puts the rules of a plan into the kernel under a number that no slot uses yet.
    fn stage(&self, _: PlanNumber, _: &Plan) -> Result<(), Error> {
        Ok(())
    }

    /// Reads a staged plan back.
    fn read_back(&self, _: PlanNumber, _: &Plan) -> Result<Held, Error> {
        Ok(Held::equal(Uses::new()))
    }

    /// Adds how many rules the kernel holds of each plan in tables that plans share: those that are too many
    /// show only there.
    fn counts(&self, _: &mut BTreeMap<PlanNumber, u64>) -> Result<(), Error> {
        Ok(())
    }

    /// Removes from such tables what belongs to plans that nobody uses.
    fn remove_unused(&self, _: &BTreeSet<PlanNumber>) -> Result<(), Error> {
        Ok(())
    }

    /// Removes a plan that no slot uses any more, and tells its last counts.
    fn retire(&self, _: PlanNumber, _: &Plan) -> Result<Uses, Error> {
        Ok(Uses::new())
    }
}

/// One hook of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub name: String,
    /// The id of our program for it; `None` where this kernel lacks the hook, which is allowed only for
    /// hooks that are marked so.
    pub program: Option<u32>,
}

/// What went wrong between the daemon and the kernel.
#[derive(Debug)]
pub enum Error {
    /// A call into the kernel failed.
    Kernel(bpf::Error),
    /// A file or directory of pins.
    Pin {
        path: std::path::PathBuf,
        source: io::Error,
    },
    /// A fixed number of places is used up.
    Full { what: &'static str, limit: u32 },
    /// The file is an executable of the artifact in this slot.
    OtherOwner(u32),
    /// Something wants to be labelled for ever: the kernel keeps finding tasks.
    AdoptionDoesNotEnd,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(_) => f.write_str("The kernel refused a step of enforcement"),
            Self::Pin { path, .. } => write!(f, "The pin {} cannot be changed", path.display()),
            Self::Full { what, limit } => {
                write!(
                    f,
                    "All {limit} places for {what} are taken until the next boot"
                )
            }
            Self::OtherOwner(slot) => write!(
                f,
                "An executable belongs to the artifact in slot {slot}, in force or revoked"
            ),
            Self::AdoptionDoesNotEnd => {
                f.write_str("New running tasks of admitted executables keep appearing")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Kernel(source) => Some(source),
            Self::Pin { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<bpf::Error> for Error {
    fn from(source: bpf::Error) -> Self {
        Self::Kernel(source)
    }
}

/// The hooks of an object.
fn hooks_of<S: Skeleton>(object: &Object<S>) -> Vec<Hook> {
    object
        .programs()
        .iter()
        .filter(|program| program.kind() != Kind::OnDemand)
        .map(|program| Hook {
            name: program.name().to_owned(),
            program: program.id(),
        })
        .collect()
}

/// Attaches the LSM and fentry programs of an object and pins their links, but for what is attached on
/// demand.
fn attach_trampolines<S: Skeleton>(object: &Object<S>, directory: &Path) -> Result<(), Error> {
    for program in object.programs() {
        let on_demand = program.name() == MEASURE_PROGRAM;
        if program.kind() == Kind::Trampoline && program.is_loaded() && !on_demand {
            pin(program.attach()?, directory, program.name())?;
        }
    }
    Ok(())
}

fn pin(link: Link, directory: &Path, name: &str) -> Result<(), Error> {
    link.pin(&directory.join(name)).map_err(Error::from)
}
