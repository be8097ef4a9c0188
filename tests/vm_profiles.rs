//! Each shipped profile lets a real program of Debian's do what the profile's description says, and
//! without the profile that program does not.

#![allow(clippy::unwrap_used)] // outside of #[test] too: this file is nothing but tests

mod guest;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread;

use cartouche::artifact::profile::ProfileSet;
use cartouche::enforcer::Mode;
use guest::{Guest, Program, Subject, USERS};

/// A program that needs a profile.
struct Need<'a> {
    profile: &'a str,
    /// What else its envelope holds, with and without the profile.
    envelope: &'a str,
    command: &'a [&'a str],
    environment: &'a [(&'a str, &'a str)],
    /// What it says if it got what it needs, as each of USERS.
    says: [&'a str; 2],
}

impl Need<'_> {
    fn is_met(&self, guest: &Guest) {
        let profile = format!("profile:{}\n{}", self.profile, self.envelope);
        let path = fs::canonicalize(self.command[0]).unwrap();
        let path = path.to_str().unwrap();
        for (uid, says) in USERS.into_iter().zip(self.says) {
            let run = |envelope: &str| {
                let subject = Subject::of(guest, Program::from(path), envelope, Mode::Enforce);
                let mut program = Program::from(path);
                program.uid = uid;
                let output = program
                    .command(&self.command[1..])
                    .envs(self.environment.iter().copied())
                    .output()
                    .unwrap();
                let text = [output.stdout, output.stderr].concat();
                (String::from_utf8(text).unwrap(), subject.denials())
            };

            let (with, denials) = run(&profile);
            let (without, _) = run(self.envelope);

            let what = format!("{:?} (uid {uid})", self.command);
            assert!(with.contains(says), "{what}: {with}\n{denials:#?}");
            assert!(!without.contains(says), "{what}: {without}");
        }
    }
}

#[test]
fn every_profile_is_tested_here() {
    let tested = BTreeSet::from(["base", "dns", "locale", "notify", "syslog", "tls", "users"]);
    let shipped = ProfileSet::shipped();

    assert_eq!(
        shipped
            .iter()
            .map(|(name, _)| name)
            .collect::<BTreeSet<_>>(),
        tested
    );
}

#[test]
fn a_dynamically_linked_program_starts_with_base() {
    guest::run(|guest| {
        Need {
            profile: "base",
            envelope: "fs:read /etc/hostname",
            command: &["/usr/bin/echo", "started"],
            environment: &[],
            says: ["started"; 2],
        }
        .is_met(guest);
    });
}

/// Someone who listens where systemd, the journal or syslogd does, until a test is over.
fn service(path: &str) -> UnixDatagram {
    fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
    let _ = fs::remove_file(path);
    let service = UnixDatagram::bind(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
    service
}

/// Python, which says that it has sent a datagram.
fn sends_to(guest: &Guest, profile: &str, path: &str) {
    let service = service(path);
    let script = format!(
        "import socket\nsocket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'word', {path:?})\nprint('sent')"
    );

    Need {
        profile,
        envelope: "profile:base\nfs:read /usr/lib/** /usr/local/lib/** /usr/bin/**",
        command: &["/usr/bin/python3", "-ISc", &script],
        environment: &[],
        says: ["sent"; 2],
    }
    .is_met(guest);

    let mut word = [0; 8];
    assert_eq!(service.recv(&mut word).unwrap(), 4);
}

#[test]
fn systemd_is_told_that_a_service_is_ready_with_notify() {
    guest::run(|guest| sends_to(guest, "notify", "/run/systemd/notify"));
}

#[test]
fn messages_are_left_in_the_journal_and_in_syslog_with_syslog() {
    guest::run(|guest| {
        for path in [
            "/run/systemd/journal/dev-log",
            "/run/systemd/journal/socket",
            "/dev/log",
        ] {
            sends_to(guest, "syslog", path);
        }
    });
}

#[test]
fn names_of_users_are_looked_up_with_users() {
    guest::run(|guest| {
        Need {
            profile: "users",
            envelope: "profile:base",
            command: &["/usr/bin/id", "-un"],
            environment: &[],
            says: ["root", "nobody"],
        }
        .is_met(guest);
    });
}

#[test]
fn host_names_are_looked_up_with_dns() {
    guest::run(|guest| {
        let server = UdpSocket::bind("127.0.0.1:53").unwrap();
        thread::spawn(move || answers_all(&server));
        fs::write(
            "/etc/resolv.conf",
            "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n",
        )
        .unwrap();

        Need {
            profile: "dns",
            envelope: "profile:base",
            command: &["/usr/bin/getent", "hosts", "localhost"],
            environment: &[],
            says: ["localhost"; 2],
        }
        .is_met(guest);
        Need {
            profile: "dns",
            // all that is read; what is asked is the profile's
            envelope: "profile:base\nfs:read /etc/** /run/**",
            command: &["/usr/bin/getent", "ahostsv4", "somewhere.test"],
            environment: &[],
            says: ["127.1.2.3"; 2],
        }
        .is_met(guest);
    });
}

/// A name server that knows one address; RFC 1035.
fn answers_all(server: &UdpSocket) {
    let mut query = [0; 512];
    while let Ok((length, client)) = server.recv_from(&mut query) {
        // one question: its name ends with a zero, then type and class
        let name = query[12..length]
            .iter()
            .position(|byte| *byte == 0)
            .unwrap();
        let question = &query[12..12 + name + 5];
        let answer = [
            &query[..2],
            &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0],
            question,
            &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 1, 2, 3],
        ]
        .concat();
        server.send_to(&answer, client).unwrap();
    }
}

#[test]
fn messages_are_in_the_user_s_language_with_locale() {
    guest::run(|guest| {
        let room = "/usr/share/locale/de/LC_MESSAGES";
        fs::create_dir_all(room).unwrap();
        let messages = messages(&[
            ("", "Content-Type: text/plain; charset=UTF-8\n"),
            ("missing operand", "Operand fehlt"),
        ]);
        fs::write(format!("{room}/coreutils.mo"), messages).unwrap();

        Need {
            profile: "locale",
            envelope: "profile:base",
            command: &["/usr/bin/mkdir"],
            environment: &[("LC_ALL", "C.UTF-8"), ("LANGUAGE", "de")],
            says: ["Operand fehlt"; 2],
        }
        .is_met(guest);
    });
}

/// A catalogue of messages, sorted by what is translated; "The Format of GNU MO Files" in gettext's manual.
fn messages(pairs: &[(&str, &str)]) -> Vec<u8> {
    let count = pairs.len() as u32;
    let texts = pairs.iter().map(|p| p.0).chain(pairs.iter().map(|p| p.1));
    let mut head: Vec<u32> = vec![0x9504_12de, 0, count, 28, 28 + 8 * count, 0, 0];
    let mut body = Vec::new();
    for text in texts {
        let at = 28 + 16 * count + body.len() as u32;
        head.extend([text.len() as u32, at]);
        body.extend(text.bytes().chain([0]));
    }
    let mut file: Vec<u8> = head.into_iter().flat_map(u32::to_le_bytes).collect();
    file.extend(body);
    file
}

#[test]
fn certificates_are_verified_with_tls() {
    guest::run(|guest| {
        let room = guest.files(&[]);
        let all = "/usr/share/ca-certificates/mozilla";
        let some = fs::read_dir(all).unwrap().next().unwrap().unwrap().path();
        let certificate = format!("{room}/certificate");
        fs::copy(some, &certificate).unwrap();

        Need {
            profile: "tls",
            envelope: &format!("profile:base\nfs:read {room}/*"),
            command: &[
                "/usr/bin/openssl",
                "verify",
                "-CApath",
                "/etc/ssl/certs",
                &certificate,
            ],
            environment: &[],
            says: ["certificate: OK"; 2],
        }
        .is_met(guest);
    });
}
