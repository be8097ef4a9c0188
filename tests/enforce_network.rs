//! Domain network on a real kernel: where a subject may connect and send, what it may serve, which sockets
//! it may make. Everything happens on loopback, of which all of 127.0.0.0/8 and ::1 is there.

#![allow(clippy::unwrap_used)] // outside of #[test] too: this file is nothing but tests

mod guest;

use std::net::{TcpListener, TcpStream, UdpSocket};

use cartouche::bpf::sys::operation;
use cartouche::enforcer::{Kernel, Mode, SlotState};
use guest::USERS;

const CONNECT: u32 = operation::OP_NET_CONNECT.0;
const LISTEN: u32 = operation::OP_NET_LISTEN.0;
const SOCKET: u32 = operation::OP_NET_SOCKET.0;

/// Somebody to talk to, on IPv4 and IPv6 alike, at a port of the kernel's choice.
struct Server {
    port: u16,
    _tcp: TcpListener,
    _udp: UdpSocket,
}

impl Server {
    fn start() -> Self {
        let tcp = TcpListener::bind("[::]:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let udp = UdpSocket::bind(("::", port)).unwrap();
        Self {
            port,
            _tcp: tcp,
            _udp: udp,
        }
    }
}

/// A port that nobody has.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn connecting_needs_net_connect() {
    guest::run(|guest| {
        let (yes, no) = (Server::start(), Server::start());
        for uid in USERS {
            for protocol in ["tcp", "udp"] {
                let rules = format!("net:connect {protocol}://127.0.0.1:{}", yes.port);
                let subject = guest.subject(&rules).by(uid);
                subject.may(&format!("connect {protocol} 127.0.0.1:{}", yes.port));
                for to in [
                    format!("127.0.0.1:{}", no.port),
                    format!("127.0.0.2:{}", yes.port),
                    format!("[::1]:{}", yes.port),
                ] {
                    subject.may_not(&format!("connect {protocol} {to}"));
                }
                let denials = subject.denials();
                assert_eq!(denials.len(), 3, "{denials:?}");
                let object = format!("[::ffff:127.0.0.1]:{}", no.port);
                assert_eq!(denials[0].what(), (CONNECT, object.as_str()));
            }
        }
    });
}

#[test]
fn a_protocol_is_not_the_other() {
    guest::run(|guest| {
        let server = Server::start();
        let port = server.port;
        let tcp = guest.subject(&format!(
            "net:connect tcp://127.0.0.1:{port} udp://127.0.0.1:1"
        ));
        let udp = guest.subject(&format!("net:connect udp://127.0.0.1:{port}"));

        tcp.may(&format!("connect tcp 127.0.0.1:{port}"));
        tcp.may_not(&format!(
            "connect udp 127.0.0.1:{port}, sendto 127.0.0.1:{port}"
        ));
        udp.may(&format!(
            "connect udp 127.0.0.1:{port}, sendto 127.0.0.1:{port}"
        ));
        udp.may_not(&format!("connect tcp 127.0.0.1:{port}"));
    });
}

#[test]
fn both_spellings_of_an_ipv4_address_are_one() {
    guest::run(|guest| {
        let server = Server::start();
        let port = server.port;
        let rules =
            |address: &str| format!("net:connect tcp://{address}:{port} udp://{address}:{port}");
        for subject in [
            guest.subject(&rules("127.0.0.1")),
            guest.subject(&rules("[::ffff:127.0.0.1]")),
        ] {
            for act in [
                "connect tcp 127.0.0.1:P",
                "connect tcp [::ffff:127.0.0.1]:P",
                "connect udp [::ffff:127.0.0.1]:P",
                "sendto [::ffff:127.0.0.1]:P",
                "sendto-mixed 127.0.0.1:P",
                "connect-mixed udp 127.0.0.1:P",
            ] {
                let act = act.replace('P', &port.to_string());
                subject.may(&act);
                subject.may_not(&act.replace("127.0.0.1", "127.0.0.9"));
            }
        }
        let other = guest.subject("net:connect tcp://[::1]:9 udp://[::1]:9");
        other.may_not(&format!(
            "connect tcp [::ffff:127.0.0.1]:{port}, sendto-mixed 127.0.0.1:{port}"
        ));
    });
}

#[test]
fn fast_open_is_connecting() {
    guest::run(|guest| {
        let server = Server::start();
        for uid in USERS {
            let port = server.port;
            let subject = guest
                .subject(&format!(
                    "net:connect tcp://127.0.0.1:{port} tcp://[::1]:{port}"
                ))
                .by(uid);
            for address in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
                subject.may(&format!(
                    "fastopen {address}:{port}, fastopen-connect {address}:{port}"
                ));
            }
            for address in ["127.0.0.2", "[::ffff:127.0.0.2]"] {
                subject.may_not(&format!(
                    "fastopen {address}:{port}, fastopen-connect {address}:{port}"
                ));
            }
            subject.may_not(&format!("fastopen 127.0.0.1:{}", free_port()));
            let denials = subject.denials();
            assert_eq!(denials.len(), 5, "{denials:?}");
            assert!(denials.iter().all(|denial| denial.operation == CONNECT));
            assert_eq!(denials[0].object, format!("[::ffff:127.0.0.2]:{port}"));
        }
    });
}

#[test]
fn a_datagram_is_judged_by_its_address() {
    guest::run(|guest| {
        let (yes, no) = (Server::start(), Server::start());
        let (yes, no) = (yes.port, no.port);
        for uid in USERS {
            let subject = guest
                .subject(&format!(
                    "net:connect udp://127.0.0.1:{yes} udp://[::1]:{yes}"
                ))
                .by(uid);
            subject.may(&format!("sendto 127.0.0.1:{yes}, sendto [::1]:{yes}"));
            subject.may(&format!("sendto-unspecified 127.0.0.1:{yes}"));
            subject.may(&format!("sendto-connected 127.0.0.1:{yes} 127.0.0.1:{yes}"));
            subject.may_not(&format!("sendto 127.0.0.1:{no}, sendto [::1]:{no}"));
            subject.may_not(&format!("sendto-unspecified 127.0.0.1:{no}"));
            subject.may_not(&format!("sendto-connected 127.0.0.1:{yes} 127.0.0.1:{no}"));
            let denials = subject.denials();
            assert_eq!(denials.len(), 4, "{denials:?}");
            assert_eq!(
                denials[0].what(),
                (CONNECT, format!("[::ffff:127.0.0.1]:{no}").as_str())
            );
        }
    });
}

#[test]
fn disconnecting_opens_nothing() {
    guest::run(|guest| {
        let (yes, no) = (Server::start(), Server::start());
        let (yes, no) = (yes.port, no.port);
        let subject = guest.subject(&format!(
            "net:connect tcp://127.0.0.1:{yes} udp://127.0.0.1:{yes}"
        ));
        for protocol in ["tcp", "udp"] {
            subject.may(&format!(
                "reconnect {protocol} 127.0.0.1:{yes} 127.0.0.1:{yes}"
            ));
            subject.may_not(&format!(
                "reconnect {protocol} 127.0.0.1:{yes} 127.0.0.1:{no}"
            ));
        }
    });
}

#[test]
fn nothing_goes_by_way_of_another_host() {
    guest::run(|guest| {
        let server = Server::start();
        let port = server.port;
        let rules = ["tcp", "udp"].map(|protocol| {
            format!("net:connect {protocol}://127.0.0.1:{port} {protocol}://[::1]:{port}")
        });
        for uid in USERS {
            let subject = guest.subject(&rules.join("\n")).by(uid);
            let mut outsider = guest.outsider();
            outsider.uid = uid;
            for (way, to) in [("127.0.0.2", "127.0.0.1"), ("[::2]", "[::1]")] {
                for act in ["sendto", "connect tcp"] {
                    subject.may(&format!("{act} {to}:{port}"));
                }
                for act in ["sendto-by", "connect-by", "send-by-message"] {
                    let act = format!("{act} {way}:0 {to}:{port}");
                    subject.may_not(&act);
                    let denials = subject.denials();
                    // newer kernels ask for CAP_NET_RAW first, which an ordinary user lacks anyway
                    let asked = operation::OP_LINUX_CAPABILITY.0;
                    let told = denials.first().map(|denial| denial.operation);
                    assert!(
                        told == Some(CONNECT)
                            || (to == "127.0.0.1" && told == (uid == 0).then_some(asked)),
                        "{act}: {denials:?}"
                    );
                }
            }
            for act in ["sendto-by", "send-by-message"] {
                // there is no route to ::2
                outsider.gets(&format!("{act} [::2]:0 [::1]:{port}"), "ENETUNREACH");
                if uid == 0 {
                    outsider.may(&format!("{act} 127.0.0.2:0 127.0.0.1:{port}"));
                }
            }
        }
    });
}

#[test]
fn no_option_leads_by_way_of_another_host() {
    guest::run(|guest| {
        let outsider = guest.outsider();
        for uid in USERS {
            let subject = guest.subject("net:connect udp://[::1]:9").by(uid);
            // IPV6_2292RTHDR, IPV6_2292PKTOPTIONS, IPV6_FLOWLABEL_MGR, IPV6_RTHDR
            for option in [5, 6, 32, 57] {
                subject.may_not(&format!("set-option 41 {option}"));
                assert_eq!(subject.denials().len(), 1, "{option}");
                assert_ne!(outsider.run(&format!("set-option 41 {option}")), ["EPERM"]);
            }
        }
    });
}

#[test]
fn datagrams_are_judged_as_long_as_somebody_may_hold_such_a_socket() {
    guest::run(|guest| {
        let watched = || guest.kernel.borrow().attached()["sendmsg4"];
        let subject = guest.subject("net:connect udp://127.0.0.1:9");
        let mut running = subject.spawn("up await /no");
        assert_eq!(running.line(), "up");

        subject.closes(SlotState::Revoked);
        guest.kernel.borrow().settle_datagrams().unwrap();
        assert!(watched());
        // as when the daemon starts anew
        let next = Kernel::load().unwrap();
        next.attach().unwrap();
        guest.kernel.replace(next);
        guest.kernel.borrow().settle_datagrams().unwrap();
        assert!(watched());

        drop(running);
        // a task that has ended is gone a moment later
        let gone = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            guest.kernel.borrow().settle_datagrams().unwrap();
            !watched()
        });
        assert!(gone);
    });
}

#[test]
fn other_options_and_control_messages_are_free() {
    guest::run(|guest| {
        let server = Server::start();
        let port = server.port;
        for uid in USERS {
            let subject = guest
                .subject(&format!(
                    "net:connect udp://127.0.0.1:{port} udp://[::1]:{port}"
                ))
                .by(uid);
            subject.may("set-hops 3");
            subject.may(&format!(
                "send-hops 3 127.0.0.1:{port}, send-hops 3 [::1]:{port}"
            ));
            subject.may_not("sendto 127.0.0.1:1, sendto [::1]:1");
            assert_eq!(subject.denials().len(), 2);
        }
    });
}

#[test]
fn networks_and_ranges_of_ports_end_where_they_say() {
    guest::run(|guest| {
        let subject = guest.subject(
            "net:connect tcp://127.1.2.0/24:1000-1002 tcp://127.9.0.0/16:* tcp://*:2000 udp://[::1]/128:53-53",
        );
        for to in [
            "127.1.2.0:1000",
            "127.1.2.255:1002",
            "127.1.2.3:1001",
            "127.9.0.1:1",
            "127.9.255.255:65535",
            "127.0.0.1:2000",
            "[::1]:2000",
        ] {
            subject.gets(&format!("connect tcp {to}"), "ECONNREFUSED");
        }
        for to in [
            "127.1.1.255:1000",
            "127.1.3.0:1000",
            "127.1.2.3:999",
            "127.1.2.3:1003",
            "127.10.0.0:1",
            "127.8.255.255:1",
            "127.0.0.1:1999",
            "[::1]:2001",
            "[::1]:53",
        ] {
            subject.may_not(&format!("connect tcp {to}"));
        }
        subject.may("connect udp [::1]:53");
        subject.may_not("connect udp [::1]:54, connect udp 127.0.0.1:53");
    });
}

#[test]
fn serving_needs_net_listen() {
    guest::run(|guest| {
        let (yes, no) = (free_port(), free_port());
        for uid in USERS {
            let subject = guest
                .subject(&format!(
                    "net:listen tcp://127.0.0.1:{yes} udp://127.0.0.1:{yes}"
                ))
                .by(uid);
            subject.may(&format!(
                "bind tcp 127.0.0.1:{yes}, listen 127.0.0.1:{yes}, bind udp 127.0.0.1:{yes}"
            ));
            for at in [
                format!("127.0.0.1:{no}"),
                format!("127.0.0.2:{yes}"),
                format!("0.0.0.0:{yes}"),
            ] {
                subject.may_not(&format!("bind tcp {at}, listen {at}, bind udp {at}"));
            }
            subject.may_not(&format!(
                "bind tcp [::]:{yes}, listen [::1]:{yes}, bind-unspecified 0.0.0.0:{yes}"
            ));
            let denials = subject.denials();
            assert_eq!(denials.len(), 12, "{denials:?}");
            assert_eq!(
                denials[0].what(),
                (LISTEN, format!("[::ffff:127.0.0.1]:{no}").as_str())
            );
        }
    });
}

#[test]
fn a_wildcard_serves_every_address_of_the_port() {
    guest::run(|guest| {
        let port = free_port();
        let subject = guest.subject(&format!("net:listen tcp://*:{port}"));

        for at in ["127.0.0.1", "0.0.0.0", "[::]", "[::1]"] {
            subject.may(&format!("listen {at}:{port}"));
        }
        subject.may(&format!("bind-unspecified 0.0.0.0:{port}"));
        subject.may_not(&format!("listen 0.0.0.0:{}", free_port()));
    });
}

#[test]
fn listening_at_a_port_of_the_kernel_s_choice_needs_a_rule_for_it() {
    guest::run(|guest| {
        for uid in USERS {
            let all = guest.subject("net:listen tcp://*:*").by(uid);
            let one = guest.subject("net:listen tcp://127.0.0.1:8080").by(uid);
            let client = guest.subject("net:connect tcp://127.0.0.1:8080").by(uid);
            let none = guest.subject("").by(uid);

            all.may("listen-unbound, listen 127.0.0.1:0, bind tcp 127.0.0.1:0");
            for subject in [&one, &client] {
                subject.may("bind tcp 127.0.0.1:0");
                subject.may_not("listen-unbound, listen 127.0.0.1:0");
            }
            none.may_not("bind tcp 127.0.0.1:0, listen-unbound");
        }
    });
}

#[test]
fn accepting_is_asked_again() {
    guest::run(|guest| {
        for uid in USERS {
            let port = free_port();
            let room = guest.files(&[]);
            let gate = format!("{room}/gate");
            let subject = guest
                .subject(&format!("net:listen tcp://127.0.0.1:{port}"))
                .by(uid);
            let mut running = subject.spawn(&format!("accept 127.0.0.1:{port}"));
            assert_eq!(running.line(), "listening");
            drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
            assert_eq!(running.line(), "ok");

            let acts = format!("accept-after 127.0.0.1:{port} {gate}");
            let mut running = subject.spawn(&acts);
            assert_eq!(running.line(), "listening");
            subject.changes_to("profile:base", Mode::Enforce);
            let _second = TcpStream::connect(("127.0.0.1", port)).unwrap();
            std::fs::write(&gate, "").unwrap();

            assert_eq!(running.line(), "EPERM");
            assert_eq!(subject.denials()[0].operation, LISTEN);
        }
    });
}

#[test]
fn other_sockets_are_refused() {
    guest::run(|guest| {
        // family, type, protocol
        let sockets = [
            ("netlink, route", 16, 3, 0_u32),
            ("packet", 17, 3, 768),
            ("raw", 2, 3, 1),
            ("raw, IPv6", 10, 3, 58),
            ("ping", 2, 2, 1),
            ("UDP-Lite", 2, 2, 136),
            ("MPTCP", 2, 1, 262),
            ("SCTP", 2, 1, 132),
            ("AF_ALG", 38, 5, 0),
            ("vsock", 40, 1, 0),
            ("AF_XDP", 44, 3, 0),
            ("bluetooth", 31, 3, 1),
            ("CAN", 29, 3, 1),
            ("RDS", 21, 5, 0),
            ("TIPC", 30, 1, 0),
            ("KCM", 41, 5, 0),
            ("SMC", 43, 1, 0),
            ("AX.25", 3, 5, 0),
            ("unspecified", 0, 1, 0),
            ("no such family", 99, 1, 0),
        ];
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 65534").unwrap();
        let outsider = guest.outsider();
        for uid in USERS {
            let subject = guest
                .subject("net:connect tcp://*:* udp://*:*\nnet:listen tcp://*:* udp://*:*")
                .by(uid);
            for (name, family, kind, protocol) in sockets {
                let act = format!("socket {family} {kind} {protocol}");
                // made, or of a family that this kernel has not
                outsider.is_not_refused(&act);
                let lines = subject.run(&act);
                let denials = subject.denials();
                // what the kernel itself does not know it says first
                if family == 99 {
                    assert_eq!(lines, ["EAFNOSUPPORT"], "{name}");
                    continue;
                }
                assert_eq!(lines, ["EPERM"], "{name}");
                let number = (family << 16 | protocol).to_string();
                assert_eq!(denials.len(), 1, "{name}: {denials:?}");
                assert_eq!(denials[0].what(), (SOCKET, number.as_str()), "{name}");
            }
            for (_, family, kind, protocol) in
                [("", 2, 1, 0), ("", 10, 2, 0), ("", 1, 1, 0), ("", 1, 5, 0)]
            {
                subject.may(&format!("socket {family} {kind} {protocol}"));
            }
            // flags are no type
            subject.may("socket 2 526337 6");
        }
    });
}

#[test]
fn kinds_of_sockets_are_granted_one_by_one() {
    guest::run(|guest| {
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 65534").unwrap();
        let sockets = [
            ("netlink/route", "socket 16 3 0"),
            ("netlink/sock_diag", "socket 16 3 4"),
            ("inet/icmp", "socket 2 2 1"),
            ("inet6/icmpv6", "socket 10 2 58"),
            ("inet/udplite", "socket 2 2 136"),
            ("inet/mptcp", "socket 2 1 262"),
            ("inet/sctp", "socket 2 1 132"),
            ("alg/*", "socket 38 5 0"),
            ("vsock/*", "socket 40 1 0"),
        ];
        let outsider = guest.outsider();
        for (_, act) in sockets {
            // loads what the kernel needs for it: a subject may not
            outsider.may(act);
        }
        for uid in USERS {
            for (kind, act) in sockets {
                let subject = guest.subject(&format!("net:socket {kind}")).by(uid);
                subject.may(act);
                assert_eq!(subject.uses(&format!("net:socket {kind}")), 1);
                for (other, act) in sockets {
                    if other != kind {
                        subject.may_not(act);
                    }
                }
                subject.may_not("socket 16 3 15, socket 2 2 0");
            }
            let all = guest
                .subject("net:socket netlink/* inet/* packet/*\nkernel:capability CAP_NET_RAW")
                .by(uid);
            all.may("socket 16 3 0, socket 16 3 15, socket 2 2 1, netlink-links");
            // ordinary UDP is a matter of endpoints
            all.may_not("socket 2 2 0, socket 2 2 17, socket 10 2 58");
            if uid == 0 {
                all.may("socket 17 3 768, socket 17 2 0, socket 2 3 17, socket 2 3 6");
            }
        }
    });
}

#[test]
fn a_socket_of_no_endpoint_is_used_by_whom_it_is_granted_to() {
    guest::run(|guest| {
        let server = Server::start();
        let port = server.port;
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 65534").unwrap();
        for uid in USERS {
            let subject = guest
                .subject("net:socket netlink/route inet/icmp inet/mptcp")
                .by(uid);
            subject.may("netlink-links, ping 127.0.0.1:0, ping-connected 127.0.0.1:0");
            // MPTCP goes where TCP may
            subject.may_not(&format!("connect-mptcp 127.0.0.1:{port}"));
            let client = guest
                .subject(&format!(
                    "net:socket inet/mptcp\nnet:connect tcp://127.0.0.1:{port}"
                ))
                .by(uid);
            client.may(&format!("connect-mptcp 127.0.0.1:{port}"));
            client.may_not("netlink-links, ping 127.0.0.1:0");
            let mut outsider = guest.outsider();
            outsider.uid = uid;
            outsider.may(&format!(
                "netlink-links, ping 127.0.0.1:0, connect-mptcp 127.0.0.1:{port}"
            ));
        }
    });
}

#[test]
fn datagram_sockets_need_some_udp_endpoint() {
    guest::run(|guest| {
        for uid in USERS {
            guest
                .subject("net:connect tcp://*:*")
                .by(uid)
                .may_not("socket 2 2 0, socket 10 2 17");
            guest
                .subject("net:listen udp://*:53")
                .by(uid)
                .may("socket 2 2 0, socket 10 2 17");
        }
    });
}

#[test]
fn without_a_rule_no_stream_goes_anywhere() {
    guest::run(|guest| {
        let server = Server::start();
        for uid in USERS {
            let subject = guest.subject("").by(uid);
            subject.may("socket 2 1 0");
            subject.may_not(&format!(
                "connect tcp 127.0.0.1:{0}, fastopen 127.0.0.1:{0}",
                server.port
            ));
            subject.may_not("listen-unbound, bind tcp 127.0.0.1:0");
        }
    });
}

#[test]
fn children_and_threads_are_held_to_the_same_endpoints() {
    guest::run(|guest| {
        let (yes, no) = (Server::start(), Server::start());
        let (yes, no) = (yes.port, no.port);
        let subject = guest.subject(&format!(
            "net:connect tcp://127.0.0.1:{yes} udp://127.0.0.1:{yes}"
        ));
        for way in ["fork", "thread", "clone3", "fork thread"] {
            for act in ["connect tcp", "connect udp", "fastopen", "sendto"] {
                subject.may(&format!("{way} {act} 127.0.0.1:{yes}"));
                subject.may_not(&format!("{way} {act} 127.0.0.1:{no}"));
            }
        }
    });
}

#[test]
fn rules_of_endpoints_count_each_use_once() {
    guest::run(|guest| {
        let server = Server::start();
        let port = server.port;
        let rules = [
            format!("tcp://127.0.0.1:{port}"),
            format!("tcp://127.0.0.0/8:{port}"),
            format!("udp://127.0.0.1:{port}"),
        ];
        let subject = guest.subject(&format!("net:connect {}", rules.join(" ")));

        subject.may(&format!(
            "connect tcp 127.0.0.1:{port}, fastopen 127.0.0.1:{port}, connect tcp 127.0.0.2:{port}"
        ));
        subject.may(&format!("sendto 127.0.0.1:{port}"));

        let uses = rules.map(|rule| subject.uses(&format!("net:connect {rule}")));
        assert_eq!(uses, [2, 1, 1]);
    });
}

#[test]
fn what_was_staged_and_never_used_is_granted_to_nobody() {
    guest::run(|guest| {
        let server = Server::start();
        let port = server.port;
        let narrow = "profile:base\nnet:connect tcp://127.0.0.1:1";
        let subject = guest.subject("net:connect tcp://127.0.0.1:1");
        // as a daemon leaves it that is killed between staging and swapping; the next takes this number
        for endpoint in ["127.0.0.1", "127.0.0.0/8"] {
            let left = format!("profile:base\nnet:connect tcp://{endpoint}:{port}");
            let next = guest.number() + 1;
            let kernel = guest.kernel.borrow();
            let plan = guest::plan_of(&subject.path, &guest::toml(&left));
            kernel.stage(next, &plan).unwrap();
            kernel.remove_unused().unwrap();
            drop(kernel);

            subject.changes_to(narrow, Mode::Enforce);

            subject.may_not(&format!("connect tcp 127.0.0.1:{port}"));
            subject.changes_to(&left, Mode::Enforce);
            subject.may(&format!("connect tcp 127.0.0.1:{port}"));
        }
    });
}

#[test]
fn audit_mode_tells_each_connection_once() {
    guest::run(|guest| {
        let server = Server::start();
        let port = server.port;
        let subject = guest.audited("");

        subject.may(&format!("connect tcp 127.0.0.1:{port}"));

        let denials = subject.denials();
        assert_eq!(denials.len(), 1, "{denials:?}");
        assert_eq!(denials[0].exe, subject.path);
    });
}

#[test]
fn a_program_outside_connects_and_serves() {
    guest::run(|guest| {
        let server = Server::start();
        let port = server.port;
        let _watched = guest.subject("net:connect udp://*:1");
        let outsider = guest.outsider();

        outsider.may(&format!(
            "connect tcp 127.0.0.1:{port}, fastopen [::1]:{port}, sendto 127.0.0.1:{port}"
        ));
        outsider.may("listen 127.0.0.1:0, listen-unbound, socket 16 3 0");
    });
}
