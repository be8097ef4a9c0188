//! Acts of domain network: sockets, connecting, sending, serving.

use std::mem::zeroed;
use std::net::{IpAddr, SocketAddr};

use libc::{AF_INET, AF_INET6, AF_UNSPEC, SOCK_DGRAM, SOCK_STREAM};

use crate::{Done, Errno, number, sys};

/// linux/tcp.h
const TCP_FASTOPEN_CONNECT: i32 = 30;
const MSG_FASTOPEN: i32 = 0x2000_0000;
/// linux/in6.h
const IPV6_RTHDR: i32 = 57;

pub fn perform(words: &[&str]) -> Option<Done> {
    Some(match words {
        ["socket", family, kind, protocol] => {
            sys!(SYS_socket, number(family), number(kind), number(protocol)).map(drop)
        }
        ["connect-mptcp", to] => {
            let to = Address::parse(to);
            sys!(SYS_socket, to.family, SOCK_STREAM, libc::IPPROTO_MPTCP)
                .and_then(|fd| connect(fd, &to))
        }
        ["ping", to] => ping(&Address::parse(to), false),
        ["ping-connected", to] => ping(&Address::parse(to), true),
        ["netlink-links"] => netlink_links(),
        ["connect", protocol, to] => {
            let to = Address::parse(to);
            socket(to.family, protocol).and_then(|fd| connect(fd, &to))
        }
        // an IPv4 address on an IPv6 socket
        ["connect-mixed", protocol, to] => {
            socket(AF_INET6, protocol).and_then(|fd| connect(fd, &Address::parse(to)))
        }
        ["reconnect", protocol, to, then] => {
            let to = Address::parse(to);
            socket(to.family, protocol)
                .and_then(|fd| connect(fd, &to).map(|()| fd))
                .and_then(|fd| connect(fd, &Address::nowhere()).map(|()| fd))
                .and_then(|fd| connect(fd, &Address::parse(then)))
        }
        ["fastopen", to] => {
            let to = Address::parse(to);
            socket(to.family, "tcp").and_then(|fd| send(fd, &to, MSG_FASTOPEN))
        }
        ["fastopen-connect", to] => fast_open(&Address::parse(to)),
        ["sendto", to] => {
            let to = Address::parse(to);
            socket(to.family, "udp").and_then(|fd| send(fd, &to, 0))
        }
        ["sendto-mixed", to] => {
            socket(AF_INET6, "udp").and_then(|fd| send(fd, &Address::parse(to), 0))
        }
        ["sendto-unspecified", to] => {
            let mut to = Address::parse(to);
            let fd = socket(to.family, "udp");
            to.set_family(AF_UNSPEC);
            fd.and_then(|fd| send(fd, &to, 0))
        }
        ["sendto-connected", connected, to] => {
            let first = Address::parse(connected);
            socket(first.family, "udp")
                .and_then(|fd| connect(fd, &first).map(|()| fd))
                .and_then(|fd| send(fd, &Address::parse(to), 0))
        }
        // by way of another host: RFC 791, RFC 6275
        ["sendto-by", way, to] => {
            let to = Address::parse(to);
            socket(to.family, "udp")
                .and_then(|fd| route_by(fd, &Address::parse(way)).map(|()| fd))
                .and_then(|fd| send(fd, &to, 0))
        }
        ["connect-by", way, to] => {
            let to = Address::parse(to);
            socket(to.family, "tcp")
                .and_then(|fd| route_by(fd, &Address::parse(way)).map(|()| fd))
                .and_then(|fd| connect(fd, &to))
        }
        // the same, said with the datagram
        ["send-by-message", way, to] => {
            let to = Address::parse(to);
            socket(to.family, "udp")
                .and_then(|fd| connect(fd, &to).map(|()| fd))
                .and_then(|fd| {
                    let (level, option, route) = route(&Address::parse(way));
                    let kind = if level == libc::IPPROTO_IP {
                        libc::IP_RETOPTS
                    } else {
                        option
                    };
                    send_message(fd, level, kind, &route)
                })
        }
        ["send-hops", hops, to] => {
            let to = Address::parse(to);
            let hops = number(hops) as i32;
            socket(to.family, "udp")
                .and_then(|fd| connect(fd, &to).map(|()| fd))
                .and_then(|fd| {
                    let (level, kind) = if to.family == AF_INET {
                        (libc::IPPROTO_IP, libc::IP_TTL)
                    } else {
                        (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)
                    };
                    send_message(fd, level, kind, &hops.to_ne_bytes())
                })
        }
        ["set-option", level, option] => socket(AF_INET6, "udp").and_then(|fd| {
            set_option_to(fd, number(level) as i32, number(option) as i32, &[0; 32])
        }),
        ["set-hops", hops] => socket(AF_INET, "udp").and_then(|fd| {
            let hops = number(hops) as i32;
            set_option_to(fd, libc::IPPROTO_IP, libc::IP_TTL, &hops.to_ne_bytes())
        }),
        ["bind", protocol, at] => bound(protocol, &Address::parse(at)).map(drop),
        ["bind-unspecified", at] => {
            let mut at = Address::parse(at);
            let fd = socket(at.family, "tcp");
            at.set_family(AF_UNSPEC);
            fd.and_then(|fd| bind(fd, &at))
        }
        ["listen", at] => listening(&Address::parse(at)).map(drop),
        ["listen-unbound"] => {
            socket(AF_INET, "tcp").and_then(|fd| sys!(SYS_listen, fd, 8).map(drop))
        }
        // says that it serves, and takes one connection; `await` would be too late for the client
        ["accept", at] => accept(&Address::parse(at)),
        // the listening socket is made first; accepting waits for a file to appear
        ["accept-after", at, path] => accept_after(&Address::parse(at), path),
        _ => return None,
    })
}

/// An echo request, RFC 792, by a socket for it; and its answer.
fn ping(to: &Address, connected: bool) -> Done {
    let fd = sys!(SYS_socket, to.family, SOCK_DGRAM, libc::IPPROTO_ICMP)?;
    let request = [8_u8, 0, 0, 0, 0, 0, 0, 1];
    if connected {
        connect(fd, to)?;
        sys!(SYS_write, fd, request.as_ptr(), request.len())?;
    } else {
        let address = to.bytes.as_ptr();
        sys!(SYS_sendto, fd, request.as_ptr(), 8, 0, address, to.length)?;
    }
    let mut answer = [0_u8; 8];
    sys!(SYS_read, fd, answer.as_mut_ptr(), answer.len()).map(drop)
}

/// Asks for all links: RTM_GETLINK of rtnetlink(7).
fn netlink_links() -> Done {
    let fd = sys!(
        SYS_socket,
        libc::AF_NETLINK,
        libc::SOCK_RAW,
        libc::NETLINK_ROUTE
    )?;
    let address = [libc::AF_NETLINK, 0, 0];
    sys!(SYS_bind, fd, address.as_ptr(), 12)?;
    // nlmsghdr: length, type and flags (request, dump), sequence, port; rtgenmsg: any family
    let request = [17_u32, 18 | 0x301 << 16, 1, 0, 0];
    sys!(
        SYS_sendto,
        fd,
        request.as_ptr(),
        17,
        0,
        address.as_ptr(),
        12
    )?;
    let mut answer = [0_u8; 4096];
    sys!(SYS_read, fd, answer.as_mut_ptr(), answer.len()).map(drop)
}

/// A socket address as bytes.
struct Address {
    family: i32,
    bytes: [u8; 28],
    length: usize,
}

impl Address {
    fn parse(text: &str) -> Self {
        let address: SocketAddr = text
            .parse()
            .unwrap_or_else(|_| panic!("no address: {text}"));
        let mut this = Self {
            family: 0,
            bytes: [0; 28],
            length: 0,
        };
        this.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address.ip() {
            IpAddr::V4(ip) => {
                this.bytes[4..8].copy_from_slice(&ip.octets());
                this.length = 16;
                this.set_family(AF_INET);
            }
            IpAddr::V6(ip) => {
                this.bytes[8..24].copy_from_slice(&ip.octets());
                this.length = 28;
                this.set_family(AF_INET6);
            }
        }
        this
    }

    fn nowhere() -> Self {
        Self {
            family: AF_UNSPEC,
            bytes: [0; 28],
            length: 16,
        }
    }

    fn set_family(&mut self, family: i32) {
        self.family = family;
        self.bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    }
}

fn socket(family: i32, protocol: &str) -> Result<i64, Errno> {
    let kind = if protocol == "udp" {
        SOCK_DGRAM
    } else {
        SOCK_STREAM
    };
    sys!(SYS_socket, family, kind | libc::SOCK_CLOEXEC, 0)
}

fn connect(fd: i64, to: &Address) -> Done {
    sys!(SYS_connect, fd, to.bytes.as_ptr(), to.length).map(drop)
}

fn send(fd: i64, to: &Address, flags: i32) -> Done {
    sys!(
        SYS_sendto,
        fd,
        c"hello".as_ptr(),
        5,
        flags,
        to.bytes.as_ptr(),
        to.length
    )
    .map(drop)
}

/// The connection is made by the first write.
fn fast_open(to: &Address) -> Done {
    let fd = socket(to.family, "tcp")?;
    set_option(fd, libc::IPPROTO_TCP, TCP_FASTOPEN_CONNECT)?;
    connect(fd, to)?;
    sys!(SYS_write, fd, c"hello".as_ptr(), 5).map(drop)
}

fn set_option(fd: i64, level: i32, option: i32) -> Done {
    set_option_to(fd, level, option, &1_i32.to_ne_bytes())
}

fn set_option_to(fd: i64, level: i32, option: i32, value: &[u8]) -> Done {
    sys!(
        SYS_setsockopt,
        fd,
        level,
        option,
        value.as_ptr(),
        value.len()
    )
    .map(drop)
}

fn route_by(fd: i64, way: &Address) -> Done {
    let (level, option, route) = route(way);
    set_option_to(fd, level, option, &route)
}

/// A loose source route of IPv4; a routing header of IPv6, type 2.
fn route(way: &Address) -> (i32, i32, Vec<u8>) {
    if way.family == AF_INET {
        let option = [&[131, 7, 4], &way.bytes[4..8], &[0]].concat();
        (libc::IPPROTO_IP, libc::IP_OPTIONS, option)
    } else {
        let header = [&[0, 2, 2, 1, 0, 0, 0, 0], &way.bytes[8..24]].concat();
        (libc::IPPROTO_IPV6, IPV6_RTHDR, header)
    }
}

/// Sends with a control message.
fn send_message(fd: i64, level: i32, kind: i32, value: &[u8]) -> Done {
    let mut control = (16 + value.len()).to_ne_bytes().to_vec();
    control.extend([level.to_ne_bytes(), kind.to_ne_bytes()].concat());
    control.extend(value);
    let mut vector = libc::iovec {
        iov_base: c"hello".as_ptr().cast_mut().cast(),
        iov_len: 5,
    };
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = control.len();
    sys!(SYS_sendmsg, fd, &raw const message, 0).map(drop)
}

fn bind(fd: i64, at: &Address) -> Done {
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    sys!(SYS_bind, fd, at.bytes.as_ptr(), at.length).map(drop)
}

fn bound(protocol: &str, at: &Address) -> Result<i64, Errno> {
    let fd = socket(at.family, protocol)?;
    bind(fd, at).map(|()| fd)
}

fn listening(at: &Address) -> Result<i64, Errno> {
    let fd = bound("tcp", at)?;
    sys!(SYS_listen, fd, 8).map(|_| fd)
}

fn accept(at: &Address) -> Done {
    let fd = listening(at)?;
    println!("listening");
    sys!(SYS_accept4, fd, 0, 0, 0).map(drop)
}

fn accept_after(at: &Address, path: &str) -> Done {
    let fd = listening(at)?;
    println!("listening");
    crate::perform(&["await", path])?;
    sys!(SYS_accept4, fd, 0, 0, 0).map(drop)
}

/// A unix address: a path, or `@` and an abstract name.
pub fn unix_address(name: &str) -> (libc::sockaddr_un, usize) {
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    for (to, from) in address.sun_path.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    if name.starts_with('@') {
        address.sun_path[0] = 0;
    }
    (address, 2 + name.len())
}
