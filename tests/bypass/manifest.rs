//! The list of tricks: what each tries, by whom, and what must come of it.

use std::collections::BTreeSet;

use cartouche::artifact::capability::CapabilityName;
use serde::Deserialize;

use super::stage::STAGE;

/// Where a trick that is not refused has to be written down.
const THREAT_MODEL: &str = include_str!("../../docs/threat-model.md");

macro_rules! sources {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("../", $name, ".rs")))),*] };
}

/// Where other tests stand.
const SOURCES: &[(&str, &str)] = sources!(
    "enforce_exec" "enforce_file" "enforce_ipc" "enforce_network" "enforce_privilege" "vm_bypass_node"
    "vm_claims" "vm_drop" "vm_life"
);

/// How it is seen that a trick worked: from outside, wherever that is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The content of a file beyond the envelope was printed.
    Secret,
    /// A process of others does not live as before.
    Victim,
    /// A service beyond the envelope was talked to.
    Reached,
    /// Files beyond the envelope, or their attributes, are not as before.
    Changed,
    /// The program says that it was done: a power was had.
    Done,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    #[default]
    Refused,
    /// No hook sees it: it works, and the threat model says so.
    Unseen,
}

/// How the program comes to run; all but the first are known for what they do to a label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    #[default]
    Itself,
    /// It runs already when its artifact is admitted.
    Before,
    HardLink,
    SymbolicLink,
    /// By a bind mount that root made before.
    BindMount,
    /// As an argument of the dynamic linker.
    Linker,
    /// By a process that leaves it a ring of its own.
    RingStarter,
    /// Under a name that another file has in the meantime.
    Replaced,
}

/// What goes on around the program all the while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meanwhile {
    /// Another envelope comes into force every few milliseconds; none allows the trick.
    EnvelopesChange,
    /// All rights are taken away, and given again.
    RevokedAndAdmitted,
    /// Directories around the secret are renamed by others.
    DirectoriesMove,
}

/// What the program has as its standard input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// A socket with messages from a helper outside, a descriptor in each; see `Stage::helper`.
    #[default]
    Helper,
    /// A socket to a helper outside that uses io_uring.
    RingHelper,
    /// The secret, opened by the one who starts it.
    Secret,
    /// A UDP socket.
    Datagrams,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Trick {
    pub name: String,
    pub tries: String,
    pub effect: Effect,
    #[serde(default = "root")]
    pub users: Vec<u32>,
    /// The program's function, where it has another name.
    pub runs: Option<String>,
    /// What the subject may, beyond what all may; `ROOM` and `SELF` stand for paths.
    #[serde(default)]
    pub envelope: Vec<String>,
    /// Where the trick exists; everywhere if not said.
    #[serde(default)]
    pub kernels: Vec<String>,
    /// A capability that the subject is given once a build enforces it.
    pub needs: Option<String>,
    #[serde(default)]
    pub expected: Expected,
    /// Of one that is unseen: a line of the threat model.
    pub said: Option<String>,
    /// Why nothing is told of the refusal.
    pub quiet: Option<String>,
    #[serde(default)]
    pub start: Start,
    pub meanwhile: Option<Meanwhile>,
    /// Depends on the moment: played also where tasks interrupt each other in the kernel.
    #[serde(default)]
    pub moment: bool,
    #[serde(default)]
    pub input: Input,
    /// An act of the example subject instead of a program of this directory; it ends with `ok`.
    pub act: Option<String>,
}

/// A trick that another test plays with all that it needs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Covered {
    pub name: String,
    pub tries: String,
    /// `FILE::TEST`
    pub by: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[serde(rename = "trick")]
    pub tricks: Vec<Trick>,
    #[serde(rename = "covered")]
    pub covered: Vec<Covered>,
}

fn root() -> Vec<u32> {
    vec![0]
}

impl Manifest {
    pub fn load() -> Self {
        toml::from_str(include_str!("manifest.toml")).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What is wrong with it, given the tricks that the program knows.
    pub fn problems(&self, known: &BTreeSet<String>) -> Vec<String> {
        let mut problems = Vec::new();
        let mut listed = BTreeSet::new();
        let names = self.tricks.iter().map(|trick| &trick.name);
        for name in names.chain(self.covered.iter().map(|covered| &covered.name)) {
            if !listed.insert(name.clone()) {
                problems.push(format!("{name} is listed twice"));
            }
        }
        for trick in self.tricks.iter().filter(|trick| trick.act.is_none()) {
            if !known.contains(trick.function()) {
                problems.push(format!("{} is listed, and no program", trick.name));
            }
        }
        let used = self.tricks.iter().map(|trick| trick.function().to_owned());
        for name in known.difference(&used.collect()) {
            problems.push(format!("{name} is a program, and not listed"));
        }
        for trick in &self.tricks {
            let said = trick
                .said
                .as_deref()
                .is_some_and(|s| THREAT_MODEL.contains(s));
            if (trick.expected == Expected::Unseen) != said {
                problems.push(format!("{}: the threat model does not fit", trick.name));
            }
        }
        for covered in &self.covered {
            if covered.tries.is_empty() {
                problems.push(format!("{}: tries what?", covered.name));
            }
            if !is_test(&covered.by) {
                problems.push(format!("{}: no test {}", covered.name, covered.by));
            }
        }
        problems
    }
}

/// Whether `FILE::TEST` is there.
fn is_test(name: &str) -> bool {
    name.split_once("::").is_some_and(|(file, test)| {
        SOURCES
            .iter()
            .any(|(name, text)| *name == file && text.contains(&format!("#[test]\nfn {test}()")))
    })
}

impl Trick {
    /// What the program is asked for.
    pub fn function(&self) -> &str {
        self.runs.as_deref().unwrap_or(&self.name)
    }

    pub fn exists_on(&self, release: &str) -> bool {
        let on = |kernel: &String| release.starts_with(&format!("{kernel}."));
        self.kernels.is_empty() || self.kernels.iter().any(on)
    }

    /// Whether its program is changed or bound while the trick is played, or is another one.
    pub fn is_alone(&self) -> bool {
        self.start != Start::Itself || self.meanwhile.is_some() || self.act.is_some()
    }

    /// What the subject may: its own program, what is open, and what the trick needs.
    pub fn envelope(&self) -> String {
        let mut lines = vec![
            "profile:base".to_owned(),
            "fs:read ROOM/open ROOM/open/**".to_owned(),
            "fs:write ROOM/open ROOM/open/**".to_owned(),
            "fs:create ROOM/open/**".to_owned(),
            "fs:delete ROOM/open/**".to_owned(),
            "process:exec SELF".to_owned(),
        ];
        lines.extend(self.envelope.iter().cloned());
        lines.extend(self.needs.iter().filter(|need| is_enforced(need)).cloned());
        lines.join("\n").replace("ROOM", STAGE)
    }
}

fn is_enforced(capability: &str) -> bool {
    let name = capability.split(' ').next().unwrap_or_default();
    CapabilityName::parse(name).is_some()
}
