//! Kinds of sockets that have no endpoints, as `net:socket` names them: `FAMILY/PROTOCOL`, such as
//! `netlink/route`, `inet/icmp` or `packet/*`.

use std::fmt;

use crate::bpf::sys;

/// A family of address_families(7) and, unless it is any, a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketKind {
    pub family: u16,
    /// None: every protocol of the family.
    pub protocol: Option<u16>,
}

/// How the audit calls an ordinary UDP socket, which only a declared udp endpoint allows.
pub const UDP_SOCKET: &str = "udp";

type Names = [(&'static str, u16)];

const FAMILIES: &Names = &[
    ("inet", libc::AF_INET as u16),
    ("inet6", libc::AF_INET6 as u16),
    ("netlink", libc::AF_NETLINK as u16),
    ("packet", libc::AF_PACKET as u16),
    ("vsock", libc::AF_VSOCK as u16),
    ("alg", libc::AF_ALG as u16),
    ("xdp", libc::AF_XDP as u16),
    ("can", libc::AF_CAN as u16),
    ("bluetooth", libc::AF_BLUETOOTH as u16),
    ("tipc", libc::AF_TIPC as u16),
    ("rds", libc::AF_RDS as u16),
];

/// include/uapi/linux/netlink.h
const NETLINK: &Names = &[
    ("route", libc::NETLINK_ROUTE as u16),
    ("usersock", libc::NETLINK_USERSOCK as u16),
    ("sock_diag", libc::NETLINK_SOCK_DIAG as u16),
    ("nflog", libc::NETLINK_NFLOG as u16),
    ("xfrm", libc::NETLINK_XFRM as u16),
    ("iscsi", libc::NETLINK_ISCSI as u16),
    ("audit", libc::NETLINK_AUDIT as u16),
    ("connector", libc::NETLINK_CONNECTOR as u16),
    ("netfilter", libc::NETLINK_NETFILTER as u16),
    ("kobject_uevent", libc::NETLINK_KOBJECT_UEVENT as u16),
    ("generic", libc::NETLINK_GENERIC as u16),
    ("rdma", libc::NETLINK_RDMA as u16),
    ("crypto", libc::NETLINK_CRYPTO as u16),
];

/// include/uapi/linux/in.h; tcp and udp are the raw ones, as net:connect and net:listen have the others.
const INET: &Names = &[
    ("icmp", libc::IPPROTO_ICMP as u16),
    ("igmp", libc::IPPROTO_IGMP as u16),
    ("tcp", libc::IPPROTO_TCP as u16),
    ("udp", libc::IPPROTO_UDP as u16),
    ("gre", libc::IPPROTO_GRE as u16),
    ("esp", libc::IPPROTO_ESP as u16),
    ("ah", libc::IPPROTO_AH as u16),
    ("icmpv6", libc::IPPROTO_ICMPV6 as u16),
    ("sctp", libc::IPPROTO_SCTP as u16),
    ("udplite", libc::IPPROTO_UDPLITE as u16),
    ("raw", libc::IPPROTO_RAW as u16),
    ("mptcp", libc::IPPROTO_MPTCP as u16),
];

/// The highest family that a kernel knows, AF_MCTP, and the highest number of a protocol.
const FAMILY_MAX: u16 = 45;
const PROTOCOL_MAX: u16 = 1023;

impl SocketKind {
    /// None if the text names no kind of socket that net:socket decides about.
    pub fn parse(text: &str) -> Option<Self> {
        let (family, protocol) = text.split_once('/')?;
        let family = number(FAMILIES, family, FAMILY_MAX)?;
        let local = libc::AF_UNIX.cast_unsigned();
        if family == 0 || u32::from(family) == local {
            return None;
        }
        let protocol = match protocol {
            "*" => None,
            word => Some(number(protocols(family), word, PROTOCOL_MAX)?),
        };
        // bind() gives a packet socket another protocol than it was made for
        let is_packet = i32::from(family) == libc::AF_PACKET;
        (protocol.is_none() || !is_packet).then_some(Self { family, protocol })
    }

    /// As the kernel reports what was refused: family << 16 | protocol.
    pub fn from_number(number: u32) -> Self {
        let family = (number >> 16) as u16;
        let any = i32::from(family) == libc::AF_PACKET;
        Self {
            family,
            protocol: (!any).then_some(number as u16),
        }
    }

    /// As a plan grants it, see `struct grant_key`.
    pub fn number(self) -> u32 {
        let protocol = self.protocol.map_or(sys::ANY_PROTOCOL, u32::from);
        u32::from(self.family) << 16 | protocol
    }
}

impl fmt::Display for SocketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |names: &Names, number: u16| {
            let known = names.iter().find(|(_, known)| *known == number);
            known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
        };
        let protocol = self.protocol.map(|it| name(protocols(self.family), it));
        write!(
            f,
            "{}/{}",
            name(FAMILIES, self.family),
            protocol.as_deref().unwrap_or("*")
        )
    }
}

fn protocols(family: u16) -> &'static Names {
    match i32::from(family) {
        libc::AF_NETLINK => NETLINK,
        libc::AF_INET | libc::AF_INET6 => INET,
        _ => &[],
    }
}

/// A name of the table, or a decimal number without leading zeros.
fn number(names: &Names, word: &str, max: u16) -> Option<u16> {
    if let Some((_, number)) = names.iter().find(|(name, _)| *name == word) {
        return Some(*number);
    }
    let number: u16 = word.parse().ok()?;
    let canonical = number.to_string() == word;
    // what has a name is written by it, so that two texts never mean one socket
    let named = names.iter().any(|(_, known)| *known == number);
    (canonical && !named && number <= max).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_socket_is_written_in_one_way() {
        for text in [
            "netlink/route",
            "netlink/22",
            "inet/icmp",
            "inet6/icmpv6",
            "inet/mptcp",
            "inet/*",
            "packet/*",
            "vsock/0",
            "43/*",
        ] {
            let kind = SocketKind::parse(text).map(|kind| kind.to_string());

            assert_eq!(kind.as_deref(), Some(text));
        }
        for text in [
            "",
            "inet",
            "inet/",
            "/icmp",
            "unix/*",
            "1/0",
            "0/0",
            "2/1",
            "inet/1",
            "inet/01",
            "inet/tcp6",
            "packet/3",
            "packet/ip",
            "46/*",
            "inet/1024",
            "netlink/sock-diag",
        ] {
            assert_eq!(SocketKind::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_was_refused_is_written_as_an_artifact_would_write_it() {
        for (number, text) in [
            (16 << 16, "netlink/route"),
            (16 << 16 | 99, "netlink/99"),
            (17 << 16 | 768, "packet/*"),
            (77 << 16 | 2, "77/2"),
            (2 << 16 | 262, "inet/mptcp"),
        ] {
            assert_eq!(SocketKind::from_number(number).to_string(), text);
        }
    }

    #[test]
    fn any_protocol_is_a_number_that_no_protocol_has() {
        assert_eq!(
            SocketKind::parse("packet/*").unwrap().number(),
            17 << 16 | 0xffff
        );
        assert!(u32::from(PROTOCOL_MAX) < sys::ANY_PROTOCOL);
    }
}
