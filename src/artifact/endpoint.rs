//! Network endpoints: `tcp|udp://ADDRESS[/PREFIX]:PORT[-PORT]` and which contains which.
//! IPv4 lives in IPv6's v4-mapped range, so that both spellings are one.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event::stable_words;

/// Length of `::ffff:0:0/96`, below which every IPv4 address lies.
const V4_MAPPED_PREFIX: u8 = 96;

stable_words! {
    Protocol {
        Tcp = "tcp",
        Udp = "udp",
    }
}

/// A set of transport addresses: one protocol, one network, one range of ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    protocol: Protocol,
    address: u128,
    prefix: u8,
    first: u16,
    last: u16,
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointError {
    Protocol,
    Port,
    PortOrder,
    Address,
    Prefix,
    HostBits,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => "does not begin with tcp:// or udp://",
            Self::Port => {
                "does not end with a port; write :443, :8000-8100 or :* (0 to 65535)"
            }
            Self::PortOrder => "has a range of ports that ends before it begins",
            Self::Address => {
                "has no address; write 192.0.2.1, [2001:db8::1] or * (host names are not enforceable)"
            }
            Self::Prefix => "has a prefix length out of range; IPv4 has 0 to 32, IPv6 0 to 128",
            Self::HostBits => {
                "has address bits set behind its prefix; write the network's own address"
            }
        })
    }
}

impl std::error::Error for EndpointError {}

impl Endpoint {
    /// Parses any spelling; `Display` gives the canonical one.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let (protocol, rest) = Protocol::ALL
            .iter()
            .find_map(|p| Some((*p, text.strip_prefix(p.as_str())?.strip_prefix("://")?)))
            .ok_or(EndpointError::Protocol)?;
        let (network, ports) = rest.rsplit_once(':').ok_or(EndpointError::Port)?;
        // Before the address: `tcp://[::1]` has its last colon inside the brackets.
        let (first, last) = parse_ports(ports)?;
        let (address, prefix) = parse_network(network)?;
        if address & !mask(prefix) != 0 {
            return Err(EndpointError::HostBits);
        }
        Ok(Self {
            protocol,
            address,
            prefix,
            first,
            last,
        })
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The network as IPv6 in network byte order (IPv4 v4-mapped) and its prefix length, 0 to 128.
    pub fn network(&self) -> ([u8; 16], u8) {
        (self.address.to_be_bytes(), self.prefix)
    }

    pub fn ports(&self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// Whether every address and port of `other` belongs to this endpoint.
    pub fn covers(&self, other: &Endpoint) -> bool {
        covered_by_union(other, std::slice::from_ref(self))
    }
}

/// Whether every address and port of `endpoint` belongs to at least one of `union`. Exact: two
/// halves of a network together cover it, and so do two halves of a range of ports.
pub fn covered_by_union<'a>(
    endpoint: &Endpoint,
    union: impl IntoIterator<Item = &'a Endpoint>,
) -> bool {
    let candidates: Vec<&Endpoint> = union
        .into_iter()
        .filter(|e| {
            e.protocol == endpoint.protocol && e.first <= endpoint.last && endpoint.first <= e.last
        })
        .collect();
    // Which candidates hold a port changes only where one begins or has just ended.
    let mut steps: Vec<u16> = candidates
        .iter()
        .flat_map(|e| [Some(e.first), e.last.checked_add(1)])
        .flatten()
        .filter(|port| endpoint.ports().contains(port))
        .collect();
    steps.push(endpoint.first);
    steps.iter().all(|port| {
        let networks: Vec<(u128, u8)> = candidates
            .iter()
            .filter(|e| e.ports().contains(port))
            .map(|e| (e.address, e.prefix))
            .collect();
        network_covered((endpoint.address, endpoint.prefix), &networks)
    })
}

/// Whether the union of `networks` holds all of `network`.
fn network_covered((address, prefix): (u128, u8), networks: &[(u128, u8)]) -> bool {
    if networks
        .iter()
        .any(|(a, p)| *p <= prefix && address & mask(*p) == *a)
    {
        return true;
    }
    let inside: Vec<(u128, u8)> = networks
        .iter()
        .filter(|(a, p)| *p > prefix && a & mask(prefix) == address)
        .copied()
        .collect();
    if inside.is_empty() {
        return false;
    }
    // Something longer lies inside, so prefix < 128 and there are two halves.
    let half = prefix + 1;
    network_covered((address, half), &inside)
        && network_covered((address | 1 << (128 - half), half), &inside)
}

/// The bits that a prefix fixes.
fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

fn parse_ports(text: &str) -> Result<(u16, u16), EndpointError> {
    if text == "*" {
        return Ok((0, u16::MAX));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first = parse_number(first).ok_or(EndpointError::Port)?;
    let last = parse_number(last).ok_or(EndpointError::Port)?;
    if first > last {
        return Err(EndpointError::PortOrder);
    }
    Ok((first, last))
}

fn parse_network(text: &str) -> Result<(u128, u8), EndpointError> {
    if text == "*" {
        return Ok((0, 0));
    }
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (
            address,
            Some(parse_number(prefix).ok_or(EndpointError::Prefix)?),
        ),
        None => (text, None),
    };
    let (address, shortest) = match address.strip_prefix('[').and_then(|a| a.strip_suffix(']')) {
        Some(inner) => (
            inner
                .parse::<Ipv6Addr>()
                .map_err(|_| EndpointError::Address)?,
            0,
        ),
        None => {
            let v4: Ipv4Addr = address.parse().map_err(|_| EndpointError::Address)?;
            (v4.to_ipv6_mapped(), V4_MAPPED_PREFIX)
        }
    };
    let prefix = match prefix {
        None => 128,
        Some(length) => {
            let length = u8::try_from(length).map_err(|_| EndpointError::Prefix)?;
            length
                .checked_add(shortest)
                .filter(|p| *p <= 128)
                .ok_or(EndpointError::Prefix)?
        }
    };
    Ok((u128::from(address), prefix))
}

/// A decimal number in its only spelling: no sign, no leading zero.
fn parse_number(text: &str) -> Option<u16> {
    let number: u16 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Ipv6Addr::from(self.address);
        write!(f, "{}://", self.protocol)?;
        match address
            .to_ipv4_mapped()
            .filter(|_| self.prefix >= V4_MAPPED_PREFIX)
        {
            _ if self.prefix == 0 => f.write_str("*")?,
            Some(v4) if self.prefix == 128 => write!(f, "{v4}")?,
            Some(v4) => write!(f, "{v4}/{}", self.prefix - V4_MAPPED_PREFIX)?,
            None if self.prefix == 128 => write!(f, "[{address}]")?,
            None => write!(f, "[{address}]/{}", self.prefix)?,
        }
        match (self.first, self.last) {
            (0, u16::MAX) => f.write_str(":*"),
            (first, last) if first == last => write!(f, ":{first}"),
            (first, last) => write!(f, ":{first}-{last}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        Self::parse(&text)
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text).unwrap()
    }

    #[test]
    fn every_spelling_has_one_canonical_form() {
        let table = [
            ("tcp://127.0.0.1:80", "tcp://127.0.0.1:80"),
            ("tcp://127.0.0.1/32:80-80", "tcp://127.0.0.1:80"),
            ("tcp://[::ffff:127.0.0.1]:80", "tcp://127.0.0.1:80"),
            ("udp://10.0.0.0/8:53", "udp://10.0.0.0/8:53"),
            ("udp://[::ffff:10.0.0.0]/104:53", "udp://10.0.0.0/8:53"),
            ("tcp://0.0.0.0/0:*", "tcp://0.0.0.0/0:*"),
            ("tcp://0.0.0.0:9100", "tcp://0.0.0.0:9100"),
            ("tcp://[::]:9100", "tcp://[::]:9100"),
            ("tcp://[::]/0:1-2", "tcp://*:1-2"),
            ("tcp://*:0-65535", "tcp://*:*"),
            ("tcp://[2001:DB8:0::]/32:443", "tcp://[2001:db8::]/32:443"),
        ];

        for (text, canonical) in table {
            assert_eq!(endpoint(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn each_broken_endpoint_names_its_fault() {
        let table = [
            ("", EndpointError::Protocol),
            ("sctp://*:1", EndpointError::Protocol),
            ("tcp:*:1", EndpointError::Protocol),
            ("tcp://127.0.0.1", EndpointError::Port),
            ("tcp://[::1]", EndpointError::Port),
            ("tcp://*:http", EndpointError::Port),
            ("tcp://*:080", EndpointError::Port),
            ("tcp://*:+80", EndpointError::Port),
            ("tcp://*:65536", EndpointError::Port),
            ("tcp://*:", EndpointError::Port),
            ("tcp://*:1-", EndpointError::Port),
            ("tcp://*:2-1", EndpointError::PortOrder),
            ("tcp://example.org:80", EndpointError::Address),
            ("tcp://::1:80", EndpointError::Address),
            ("tcp://[fe80::1%eth0]:80", EndpointError::Address),
            ("tcp://:80", EndpointError::Address),
            ("tcp://*/8:80", EndpointError::Address),
            ("tcp://10.0.0.0/33:80", EndpointError::Prefix),
            ("tcp://10.0.0.0/:80", EndpointError::Prefix),
            ("tcp://[::]/129:80", EndpointError::Prefix),
            ("tcp://[::]/256:80", EndpointError::Prefix),
            ("tcp://10.0.0.1/8:80", EndpointError::HostBits),
            ("tcp://[2001:db8::1]/32:80", EndpointError::HostBits),
        ];

        for (text, error) in table {
            assert_eq!(Endpoint::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn ipv4_lies_in_the_v4_mapped_range() {
        let (address, prefix) = endpoint("tcp://10.0.0.0/8:1").network();

        assert_eq!(
            address,
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 0]
        );
        assert_eq!(prefix, 104);
    }

    #[test]
    fn any_address_covers_both_families_and_one_protocol() {
        let any = endpoint("tcp://*:*");

        assert!(any.covers(&endpoint("tcp://10.0.0.1:80")));
        assert!(any.covers(&endpoint("tcp://[2001:db8::1]:80")));
        assert!(!any.covers(&endpoint("udp://10.0.0.1:80")));
        assert!(!endpoint("tcp://0.0.0.0/0:*").covers(&any));
        assert!(!endpoint("tcp://*:1-79").covers(&endpoint("tcp://*:79-80")));
    }

    #[test]
    fn halves_together_cover_the_whole() {
        let whole = endpoint("tcp://10.0.0.0/8:1-200");
        let networks = ["tcp://10.0.0.0/9:*", "tcp://10.128.0.0/9:*"].map(endpoint);
        let ports = ["tcp://*:1-100", "tcp://*:101-65535"].map(endpoint);
        let gap = ["tcp://*:1-100", "tcp://*:102-65535"].map(endpoint);

        assert!(covered_by_union(&whole, &networks));
        assert!(covered_by_union(&whole, &ports));
        assert!(!covered_by_union(&whole, &gap));
        assert!(!covered_by_union(&whole, &networks[..1]));
        assert!(!covered_by_union(&whole, &[]));
    }

    fn any_endpoint() -> impl Strategy<Value = Endpoint> {
        (0u8..=4, 0u32..16, 0u16..4, 0u16..4).prop_map(|(bits, host, first, length)| {
            // Sixteen addresses, so that random networks meet each other.
            let address = Ipv4Addr::from(0x0a00_0000 | (host >> (4 - bits) << (4 - bits)));
            endpoint(&format!(
                "tcp://{address}/{}:{first}-{}",
                28 + bits,
                first + length
            ))
        })
    }

    proptest! {
        #[test]
        fn a_union_covers_exactly_what_its_members_hold(
            whole in any_endpoint(), union in prop::collection::vec(any_endpoint(), 0..6)
        ) {
            let holds = |e: &Endpoint, host: u32, port: u16| {
                e.covers(&endpoint(&format!("tcp://{}:{port}", Ipv4Addr::from(0x0a00_0000 | host))))
            };

            let contained = (0..16).all(|host| (0..8).all(|port| {
                !holds(&whole, host, port) || union.iter().any(|e| holds(e, host, port))
            }));

            prop_assert_eq!(covered_by_union(&whole, &union), contained);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(tcp://)?\\PC*") {
            if let Ok(e) = Endpoint::parse(&text) {
                prop_assert_eq!(Endpoint::parse(&e.to_string()), Ok(e));
            }
        }
    }
}
