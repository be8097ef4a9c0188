//! Domain network: single endpoints in one hash, networks and port ranges in a list of each plan.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::rule_hash::{RuleHash, count};
use super::{CGROUP_ROOT, Enforcer, Error, Held, Hook, PlanNumber, Uses, hooks_of, on_demand, pin};
use crate::artifact::capability::CapabilityName;
use crate::bpf::link::Link;
use crate::bpf::object::{Id, Kind, Object};
use crate::bpf::running::RunningKernel;
use crate::bpf::sys::{self, Plain};
use crate::bpf::table::{MapArray, Table, Write};
use crate::plan::{EndpointRange, Plan, SingleEndpoint};

/// Judge datagrams; attached only while some artifact declares udp, because everybody's addressed sends
/// pay for them.
pub const DATAGRAM_PROGRAMS: [&str; 4] = [
    "sendmsg4",
    "sendmsg6",
    "ip_cmsg_send",
    "ip6_datagram_send_ctl",
];

type Ranges = Table<u32, sys::net_range>;

pub(super) struct Network {
    object: Object<sys::network_bpf>,
    singles: RuleHash<sys::net_key>,
    ranges: MapArray,
}

impl Network {
    pub(super) fn load(root: &Path, running: &RunningKernel) -> Result<Self, Error> {
        let object = Object::<sys::network_bpf>::load(root, running)?;
        Ok(Self {
            singles: RuleHash::new(
                object.map("net_rules")?,
                "net_rules",
                |key: &sys::net_key| key.plan,
            )?,
            ranges: MapArray::new(object.map("net_ranges")?, "net_ranges"),
            object,
        })
    }

    /// Attaches the programs for datagrams, or lets them go.
    pub(super) fn watch_datagrams(&self, links: &Path, wanted: bool) -> Result<(), Error> {
        on_demand::settle(wanted, &DATAGRAM_PROGRAMS, links, |name| {
            self.attach_program(name)
        })?;
        Ok(())
    }

    fn attach_program(&self, name: &str) -> Result<Link, Error> {
        let program = self.object.program(name)?;
        if program.kind() == Kind::Cgroup {
            let path = PathBuf::from(CGROUP_ROOT);
            let root = File::open(&path).map_err(|source| Error::Pin { path, source })?;
            Ok(program.attach_cgroup(root.as_fd())?)
        } else {
            on_demand::attach_again(&program)
        }
    }

    fn list(&self, number: PlanNumber) -> Result<Option<Ranges>, Error> {
        Ok(self.ranges.get(number, "a plan's endpoint ranges")?)
    }
}

/// The single endpoints of a plan as the kernel has them.
fn singles(number: PlanNumber, plan: &Plan) -> impl Iterator<Item = (sys::net_key, u16)> {
    plan.endpoints
        .iter()
        .map(move |(single, rule)| (single_key(number, single), *rule))
}

impl Enforcer for Network {
    fn domain(&self) -> &'static str {
        "network"
    }

    fn capabilities(&self) -> &'static [CapabilityName] {
        &[
            CapabilityName::NetConnect,
            CapabilityName::NetListen,
            CapabilityName::NetSocket,
        ]
    }

    fn hooks(&self) -> Vec<Hook> {
        hooks_of(&self.object)
    }

    fn ids(&self) -> Result<Vec<Id>, Error> {
        Ok(self.object.ids()?)
    }

    fn attach(&self, directory: &Path) -> Result<(), Error> {
        for program in self.object.programs() {
            if program.is_loaded() && !DATAGRAM_PROGRAMS.contains(&program.name()) {
                let name = program.name();
                pin(self.attach_program(name)?, directory, name)?;
            }
        }
        Ok(())
    }

    fn stage(&self, number: PlanNumber, plan: &Plan) -> Result<(), Error> {
        self.singles.stage(singles(number, plan))?;
        if plan.ranges.is_empty() {
            // a daemon that was killed may have left its own here
            if self.list(number)?.is_some() {
                self.ranges.clear(number)?;
            }
            return Ok(());
        }
        // one more than needed: the entry of zeroes ends the list
        let list = Ranges::new_inner_array("cartouche_range", plan.ranges.len() as u32 + 1)?;
        for (index, range) in plan.ranges.iter().enumerate() {
            list.write(&(index as u32), &range_value(range), Write::Replace)?;
        }
        Ok(self.ranges.place(number, &list)?)
    }

    fn read_back(&self, number: PlanNumber, plan: &Plan) -> Result<Held, Error> {
        let Held { equal, mut uses } = self.singles.read_back(singles(number, plan))?;
        if !equal {
            return Ok(Held::different());
        }
        let Some(list) = self.list(number)? else {
            return Ok(match plan.ranges.is_empty() {
                true => Held::equal(uses),
                false => Held::different(),
            });
        };
        let ranges = list.entries()?;
        let Some((held, [(_, end)])) = ranges.split_at_checked(plan.ranges.len()) else {
            return Ok(Held::different());
        };
        let equal = |(range, (_, held)): (&EndpointRange, &(u32, sys::net_range))| {
            let mut expected = range_value(range);
            expected.used = held.used;
            sys::bytes_of(&expected) == sys::bytes_of(held)
        };
        if held.is_empty() || end.protocol != 0 || !plan.ranges.iter().zip(held).all(equal) {
            return Ok(Held::different());
        }
        for (_, range) in held {
            count(&mut uses, range.rule, range.used);
        }
        Ok(Held::equal(uses))
    }

    fn counts(&self, counts: &mut BTreeMap<PlanNumber, u64>) -> Result<(), Error> {
        self.singles.counts(counts)
    }

    fn remove_unused(&self, used: &BTreeSet<PlanNumber>) -> Result<(), Error> {
        self.singles.remove_unused(used)
    }

    fn retire(&self, number: PlanNumber, plan: &Plan) -> Result<Uses, Error> {
        let list = self.list(number)?;
        if list.is_some() {
            // ends once no program is inside: what is counted after this is complete
            self.ranges.clear(number)?;
        }
        let mut uses = self.singles.retire(singles(number, plan))?;
        for (_, range) in list.map_or_else(|| Ok(Vec::new()), |list| list.entries())? {
            count(&mut uses, range.rule, range.used);
        }
        Ok(uses)
    }
}

fn direction(listen: bool) -> u8 {
    if listen {
        sys::net_direction::NET_LISTEN.0 as u8
    } else {
        sys::net_direction::NET_CONNECT.0 as u8
    }
}

fn single_key(plan: PlanNumber, single: &SingleEndpoint) -> sys::net_key {
    sys::net_key {
        plan,
        direction: direction(single.listen),
        protocol: single.protocol,
        port: single.port,
        address: single.address,
    }
}

fn range_value(range: &EndpointRange) -> sys::net_range {
    let words = |bytes: &[u8; 16]| {
        let (high, low) = bytes.split_at(8);
        let word = |half: &[u8]| half.try_into().map_or(0, u64::from_ne_bytes);
        [word(high), word(low)]
    };
    let mut value = sys::net_range::zeroed();
    value.address = words(&range.address);
    value.mask = words(&range.mask);
    value.port_first = range.port_first;
    value.port_last = range.port_last;
    value.direction = direction(range.listen);
    value.protocol = range.protocol;
    value.rule = range.rule;
    value
}
