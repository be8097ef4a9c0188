//! What the kernel reports, in the words of the audit.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use crate::artifact::kcap;
use crate::artifact::socket::{SocketKind, UDP_SOCKET};
use crate::audit::outside;
use crate::bpf::sys;
use crate::enforcer::OUTSIDE;
use crate::error::chain;
use crate::event::{Code, ErrorCode, Event, Outcome, Runtime};

use super::{Node, canary, guard};

/// Who has slot 0, in a form that no id has.
const NOBODY: &str = "(outside)";

/// How long a loss counts as recent.
const LATELY: Duration = Duration::from_secs(3600);

impl Node {
    /// Takes all records from the ring, and accounts for those that did not fit.
    pub fn drain(&mut self) {
        match self.kernel.drain() {
            Ok((records, malformed)) => {
                let mut slots = std::collections::BTreeSet::new();
                for record in &records {
                    slots.insert(record.slot);
                    self.take(record);
                }
                if malformed > 0 {
                    self.lose(None, malformed, "malformed");
                }
                for slot in slots {
                    self.account(slot);
                }
            }
            Err(error) => self.record(
                Event::new(Code::EventsLost, Outcome::Noted)
                    .detail("ring")
                    .message(chain(&error)),
            ),
        }
    }

    /// Compares the counters of all slots with what came through the ring.
    pub fn account_all(&mut self) {
        for slot in self
            .holders
            .keys()
            .copied()
            .chain([OUTSIDE])
            .collect::<Vec<_>>()
        {
            self.account(slot);
        }
    }

    fn account(&mut self, slot: u32) {
        let Ok(totals) = self.kernel.totals(slot) else {
            return;
        };
        let told = self.lost_told.get(&slot).copied().unwrap_or(0);
        let lost = totals.lost.saturating_sub(told);
        if lost == 0 {
            return;
        }
        let holder = self.holders.get(&slot).cloned();
        self.lose(holder.clone(), lost, "ring-full");
        self.lost_told.insert(slot, totals.lost);
        let name = match slot {
            OUTSIDE => NOBODY,
            _ => holder.as_deref().unwrap_or_default(),
        };
        let noted = self.kernel.note_holder(slot, name, totals.lost);
        if let Err(error) = noted {
            self.record(
                Event::new(Code::EventsLost, Outcome::Noted)
                    .detail("account")
                    .message(chain(&error)),
            );
        }
    }

    fn lose(&mut self, id: Option<String>, count: u64, detail: &str) {
        let mut event = Event::new(Code::EventsLost, Outcome::Noted).detail(detail).message(
            "These decisions were carried out and counted, but there was no room to report each",
        );
        event.artifact = id;
        event.count = count;
        self.lost.push((Instant::now(), count));
        self.record(event);
    }

    /// Decisions lost since the daemon started, and within the last hour.
    pub(super) fn losses(&self) -> (u64, u64) {
        let total = self.lost.iter().map(|(_, count)| count).sum();
        let lately = self
            .lost
            .iter()
            .filter(|(at, _)| at.elapsed() < LATELY)
            .map(|(_, count)| count)
            .sum();
        (total, lately)
    }

    fn take(&mut self, record: &sys::event) {
        let holder = self.holders.get(&record.slot).cloned();
        if holder.as_deref() == Some(canary::ID) && self.canary.saw(record) {
            return;
        }
        let mut event = translate(record);
        if u32::from(record.object_kind) == sys::object_kind::OBJECT_PROCESS.0
            && let Some(whose) = self.holders.get(&record.other)
            && let Some(runtime) = &mut event.runtime
        {
            runtime.object = format!("{whose} ({})", runtime.object);
        }
        let rejection = holder
            .as_deref()
            .and_then(|holder| holder.strip_prefix("file:"))
            .and_then(|file| self.files.get(file));
        match (rejection, holder) {
            (Some(file), _) => {
                event.artifact = file.verdict.id.clone();
                event = event.fact("rejected", file.verdict.error.clone().unwrap_or_default());
            }
            // no artifact was aimed at, but Cartouche itself
            (None, Some(holder)) if holder == guard::HOLDER => {}
            (None, Some(holder)) => event.artifact = Some(holder),
            // nobody's: what is managed belongs to no artifact
            (None, None) if record.slot == OUTSIDE => {
                if let Some(runtime) = &mut event.runtime {
                    runtime.rule = self.managed_by(&runtime.object);
                }
            }
            (None, None) => event = event.fact("slot", record.slot.to_string()),
        }
        self.record(event);
    }
}

/// A record as an event, but for whose it is.
fn translate(record: &sys::event) -> Event {
    let operation = operation(record.operation);
    let would = u32::from(record.verdict) == sys::verdict::VERDICT_WOULD_DENY.0;
    let content = u32::from(record.reason) == sys::reason::REASON_CONTENT.0;
    let (code, error) = if content {
        (Code::DigestMismatch, ErrorCode::DigestMismatch)
    } else {
        (Code::Drift, ErrorCode::DriftDetected)
    };
    let outcome = if would {
        Outcome::WouldDeny
    } else {
        Outcome::Denied
    };
    let mut event = Event::new(code, outcome)
        .error(error)
        .detail(reason(record.reason));
    if content && !would {
        event = event.message(
            "The file at this path is not the program that its artifact names, so it did not run; \
             after an upgrade run \"cartouche seal --update-hashes\" on the artifact",
        );
    }
    event.runtime = Some(Runtime {
        pid: record.pid,
        tgid: record.tgid,
        comm: text(&record.comm, record.comm.len() as u32),
        exe: text(&record.exe, record.exe_length),
        uid: record.uid,
        operation: operation.to_owned(),
        object: object(record, operation),
        rule: String::new(),
    });
    event
}

fn text(bytes: &[u8], length: u32) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let mut text = outside(&bytes[..end]);
    if length as usize > bytes.len() {
        text.push('…');
    }
    text
}

fn object(record: &sys::event, operation: &str) -> String {
    match u32::from(record.object_kind) {
        x if x == sys::object_kind::OBJECT_PATH.0 => text(&record.object, record.object_length),
        x if x == sys::object_kind::OBJECT_ENDPOINT.0 => {
            let protocol = match i32::from(record.protocol) {
                libc::IPPROTO_TCP => "tcp",
                libc::IPPROTO_UDP => "udp",
                _ => "other",
            };
            let address = Ipv6Addr::from(record.address);
            match address.to_ipv4_mapped() {
                Some(v4) => format!("{protocol}://{v4}:{}", record.port),
                None => format!("{protocol}://[{address}]:{}", record.port),
            }
        }
        x if x == sys::object_kind::OBJECT_NUMBER.0 && operation == "net:socket" => socket(record),
        x if x == sys::object_kind::OBJECT_NUMBER.0 => number(record.number, operation),
        x if x == sys::object_kind::OBJECT_PROCESS.0 => format!("pid {}", record.number),
        _ => String::new(),
    }
}

/// A bare number in the words of what it counts.
fn number(number: u32, operation: &str) -> String {
    match operation {
        "kernel:capability" => kcap::NAMES
            .get(number as usize)
            .map_or_else(|| format!("CAP_{number}"), |name| (*name).to_owned()),
        "ipc:receive" => format!("file system {number:#x}"),
        "ipc-object" => format!("id {number}"),
        _ => String::new(),
    }
}

/// As `net:socket` would name it, but for a socket that is a matter of endpoints.
fn socket(record: &sys::event) -> String {
    let kind = SocketKind::from_number(record.number);
    let protocol = kind.protocol.map_or(-1, i32::from);
    let inet = matches!(i32::from(kind.family), libc::AF_INET | libc::AF_INET6);
    match (i32::from(record.kind), protocol) {
        (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) if inet => UDP_SOCKET.to_owned(),
        (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) if inet => "tcp".to_owned(),
        _ => kind.to_string(),
    }
}

/// The words of operations, in the kernel's order: a capability's name where one would allow it.
pub const OPERATIONS: [&str; sys::operation::OPERATIONS.0 as usize] = [
    "fs:read",
    "fs:write",
    "fs:create",
    "fs:delete",
    "fs:setuid",
    "process:exec",
    "code:load",
    "ipc:unix",
    "code:generate",
    "net:connect",
    "net:listen",
    "net:socket",
    "ipc:receive",
    "process:signal",
    "process:trace",
    "kernel:capability",
    "kernel:namespace",
    "kernel:perf",
    "kernel:keyring",
    "kernel:io_uring",
    "mount",
    "bpf",
    "module",
    "device-node",
    "userfaultfd",
    "terminal-inject",
    "label",
    "exec",
    "write-executable",
    "move",
    "fork",
    "guard",
    "held-descriptor",
    "ipc-object",
];

fn operation(operation: u16) -> &'static str {
    OPERATIONS
        .get(usize::from(operation))
        .copied()
        .unwrap_or("unknown")
}

/// The words of the kernel's reasons, in its order.
pub const REASONS: [&str; 16] = [
    "no-rule",
    "revoked",
    "unknown-slot",
    "unnameable",
    "race",
    "never-grantable",
    "memory",
    "refused",
    "content",
    "widens",
    "unsafe",
    "script-path",
    "no-artifact",
    "guarded",
    "managed",
    "by-loader",
];

fn reason(reason: u8) -> &'static str {
    REASONS
        .get(usize::from(reason))
        .copied()
        .unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::sys::Plain;

    fn record(operation: u32) -> sys::event {
        let mut record = sys::event::zeroed();
        record.operation = operation as u16;
        record
    }

    #[test]
    fn every_reason_of_a_refusal_is_documented() {
        let text = include_str!("../../docs/codes.md");
        let (_, table) = text.split_once("## Words of refusals").unwrap();
        let (table, _) = table.split_once("\n## ").unwrap();

        let documented: Vec<_> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .collect();

        assert_eq!(documented, REASONS);
    }

    #[test]
    fn a_socket_is_written_as_an_artifact_would_write_it() {
        let mut event = record(sys::operation::OP_NET_SOCKET.0);
        event.object_kind = sys::object_kind::OBJECT_NUMBER.0 as u8;
        for (family, kind, protocol, expected) in [
            (libc::AF_NETLINK, libc::SOCK_RAW, 0, "netlink/route"),
            (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_UDP, "inet/udp"),
            (libc::AF_INET6, libc::SOCK_DGRAM, 0, UDP_SOCKET),
            (
                libc::AF_INET,
                libc::SOCK_DGRAM,
                libc::IPPROTO_ICMP,
                "inet/icmp",
            ),
        ] {
            event.number = (family << 16 | protocol) as u32;
            event.kind = kind as u16;

            assert_eq!(translate(&event).runtime.unwrap().object, expected);
        }
    }

    #[test]
    fn a_path_that_the_kernel_cut_says_so() {
        let mut event = record(sys::right::RIGHT_READ.0);
        event.object_kind = sys::object_kind::OBJECT_PATH.0 as u8;
        event.object = [b'a'; 256];
        event.object_length = 300;

        let runtime = translate(&event).runtime.unwrap();

        assert!(runtime.object.ends_with("a…"));
        assert_eq!(runtime.operation, "fs:read");
    }

    #[test]
    fn an_endpoint_is_written_as_a_rule_would_write_it() {
        let mut event = record(sys::operation::OP_NET_CONNECT.0);
        event.object_kind = sys::object_kind::OBJECT_ENDPOINT.0 as u8;
        event.protocol = libc::IPPROTO_TCP as u8;
        event.port = 80;
        event.address = "::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap().octets();

        let four = translate(&event).runtime.unwrap().object;
        event.address = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
        let six = translate(&event).runtime.unwrap().object;

        assert_eq!(four, "tcp://10.0.0.1:80");
        assert_eq!(six, "tcp://[2001:db8::1]:80");
    }

    #[test]
    fn what_is_not_admitted_at_a_claimed_path_is_a_digest_mismatch() {
        let mut event = record(sys::operation::OP_CLAIMED.0);
        event.reason = sys::reason::REASON_CONTENT.0 as u8;

        let event = translate(&event);

        assert_eq!(event.code, Code::DigestMismatch);
        assert_eq!(event.error, Some(ErrorCode::DigestMismatch));
    }

    #[test]
    fn every_operation_and_reason_has_its_word() {
        assert_eq!(operation(sys::operation::OP_GUARD.0 as u16), "guard");
        assert_eq!(
            operation(sys::operation::OP_HELD.0 as u16),
            "held-descriptor"
        );
        assert_eq!(
            operation(sys::operation::OP_IPC_OBJECT.0 as u16),
            "ipc-object"
        );
        assert_eq!(operation(sys::operation::OPERATIONS.0 as u16), "unknown");
        assert_eq!(reason(sys::reason::REASON_GUARDED.0 as u8), "guarded");
    }
}
