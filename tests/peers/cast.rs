//! Who plays a row: three copies of its program, two of them with an artifact.

use std::fs;
use std::process::Command;

use cartouche::artifact::digest::{seal, sha256_hex};

use super::room::{furnish, look};
use super::{Ended, PEERS, Row};
use crate::daemon::POLICIES;
use crate::guest::toml;

/// Where the copies lie, and their rooms.
const STAGE: &str = "/srv/peers";

/// The widest envelope: what a scope can grant at all.
const EVERYTHING: &str = "\
    fs:read /**\nfs:write /**\nfs:create /**\nfs:delete /**\nfs:setuid /**\nprocess:exec /**\n\
    code:load /**\ncode:generate\nnet:connect tcp://*:* udp://*:*\nnet:listen tcp://*:* udp://*:*\n\
    net:socket packet/* netlink/*\nipc:unix /**\nipc:receive\nprocess:signal self children\n\
    process:trace self children\nkernel:namespace\nkernel:perf\nkernel:keyring\nkernel:io_uring\n\
    kernel:capability CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID \
    CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW \
    CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_CHROOT CAP_SYS_PACCT CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE \
    CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_SYSLOG \
    CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON";

/// A scope that grants it.
pub fn scope() -> String {
    let site = toml(EVERYTHING).replace("[[envelope.capability]]", "[[site.capability]]");
    let lines = site
        .lines()
        .filter(|line| !line.starts_with("justification"));
    // any unix socket and any kind of socket, as rows name them
    let lines = lines.map(|line| match line {
        line if line.starts_with("sockets") => "sockets = [\"*/*\"]",
        line if line.starts_with("targets") => "targets = [\"*\"]",
        line => line,
    });
    let lines: Vec<_> = lines.collect();
    format!(
        "schema_version = \"1.0.0\"\n[site]\nexecutables = [\"{STAGE}/**\"]\n{}\n\
         [[site.capability]]\nname = \"ipc:unix\"\npaths = [\"@*\"]\n",
        lines.join("\n")
    )
}

/// One of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Held to nothing.
    Free,
    /// Its envelope says what it does; or all that there is, where nothing is enough.
    Honest,
    /// Its envelope lacks something of that.
    Narrow,
}

impl Who {
    pub const ALL: [Self; 3] = [Self::Free, Self::Honest, Self::Narrow];

    fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Honest => "honest",
            Self::Narrow => "narrow",
        }
    }
}

/// A row with its copies in place.
pub struct Part {
    pub row: Row,
    /// No other row has it.
    number: usize,
}

impl Part {
    pub fn new(row: Row, number: usize) -> Self {
        let this = Self { row, number };
        fs::create_dir_all(this.stage()).unwrap();
        for who in Who::ALL {
            fs::copy(format!("{PEERS}/{}", this.row.program), this.path(who)).unwrap();
            furnish(&this.room(who), &this.row.files);
        }
        this
    }

    fn stage(&self) -> String {
        format!("{STAGE}/{}", self.row.name())
    }

    fn path(&self, who: Who) -> String {
        format!("{}/{}", self.stage(), who.as_str())
    }

    fn room(&self, who: Who) -> String {
        format!("{}/of-{}", self.stage(), who.as_str())
    }

    /// The id of its artifact.
    pub fn id(&self, who: Who) -> String {
        format!("{}-{}", self.row.name(), who.as_str())
    }

    /// A text of the row with names of what is there.
    pub fn filled(&self, text: &str, who: Who) -> String {
        // who is started by an outsider is told so by the kernel
        let secure = u8::from(who != Who::Free);
        text.replace("ROOM", &self.room(who))
            .replace("SELF", &self.path(who))
            .replace("PEERS", PEERS)
            .replace("SECURE", &secure.to_string())
            .replace(
                "ONE",
                &(20_000 + 10 * self.number + who as usize).to_string(),
            )
            .replace(
                "TWO",
                &(30_000 + 10 * self.number + who as usize).to_string(),
            )
    }

    fn envelope(&self, who: Who) -> String {
        let row = &self.row;
        let mut lines = row.envelope.clone();
        match who {
            Who::Honest if row.always => lines = vec![EVERYTHING.to_owned()],
            Who::Narrow => {
                lines.retain(|line| Some(line) != row.without.as_ref());
                lines.extend_from_slice(&row.instead);
            }
            _ => {}
        }
        self.filled(&format!("profile:base\n{}", lines.join("\n")), who)
    }

    /// The artifact of one of its two subjects: where it belongs, and the text.
    pub fn artifact(&self, who: Who) -> (String, String) {
        let (id, path) = (self.id(who), self.path(who));
        let text = format!(
            "schema_version = \"1.0.0\"\n[artifact]\nid = \"{id}\"\nversion = \"1\"\n\
             publisher = \"local\"\n[[artifact.executable]]\npath = \"{path}\"\n\
             sha256 = \"{}\"\n[envelope]\n{}",
            sha256_hex(&fs::read(&path).unwrap()),
            toml(&self.envelope(who))
        );
        let sealed = seal(&text, &id).unwrap_or_else(|error| panic!("{text}\n{error:?}"));
        (format!("{POLICIES}/{id}.toml"), sealed)
    }

    /// Starts one of them; how it ended, and what is not as it was.
    pub fn play(&self, who: Who) -> (Ended, Vec<String>) {
        let room = self.room(who);
        if let Some(before) = &self.row.before {
            assert!(self.shell(before, who), "{}: {before}", self.row.name());
        }
        let command = self.filled(&self.row.command(), who);
        let words: Vec<_> = command.split_whitespace().map(str::to_owned).collect();
        let was = look(&room, &self.row.leaves);
        let ended = Ended::of(&words, &room);
        let is = look(&room, &self.row.leaves);
        if let Some(after) = &self.row.after {
            self.shell(after, who);
        }
        let keys = was
            .keys()
            .chain(is.keys().filter(|key| !was.contains_key(*key)));
        let changed = keys.filter(|key| was.get(*key) != is.get(*key)).cloned();
        (ended, changed.collect())
    }

    fn shell(&self, script: &str, who: Who) -> bool {
        let output = Command::new("/bin/sh")
            .args(["-c", &self.filled(script, who)])
            .output()
            .unwrap();
        output.status.success()
    }
}
