//! The facts that a posture is made of. The daemon fills them in from what the kernel holds, never
//! from what was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::JsonSchema;

use super::{Adoption, System};
use crate::artifact::capability::CapabilityName;
use crate::audit::{Head, SinkState};
use crate::config::{Gate, Mode, Require};
use crate::event::stable_words;

/// Everything that is known at one moment.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Seconds since 1970.
    pub now_unix: u64,
    /// Of the daemon.
    pub pid: u32,
    pub system: System,
    pub programs: Programs,
    /// Whether a program with a CO-RE relocation loaded.
    pub core_supported: bool,
    /// By the LSM hook's own name (`file_open`), or `cgroup/connect4` and the like.
    pub hooks: BTreeMap<String, Hook>,
    /// The mode that the kernel holds for the whole node; `None` while no programs are attached.
    pub kernel_mode: Option<Mode>,
    pub gate: Gate,
    /// What the configuration asks for.
    pub mode: Mode,
    pub require: Require,
    pub admission: Admission,
    pub canary: Canary,
    /// Admitted and waiting ones.
    pub artifacts: Vec<ArtifactFacts>,
    /// File name → why, for rejected artifacts that are not waiting.
    pub rejected: BTreeMap<String, String>,
    /// Ids whose update was rejected; the version before it is in force.
    pub failed_updates: BTreeSet<String>,
    /// Ids whose program does not run, because what lies at its path is not what the artifact names.
    pub replaced: BTreeSet<String>,
    /// Why the configuration, the scope or a profile is not in force as it is now, as sentences.
    pub not_taken: Vec<String>,
    /// Names of files that could not be parsed and have no predecessor in force.
    pub unparsable: BTreeSet<String>,
    /// Whether the kernel holds the managed paths as they are configured.
    pub managed_match: bool,
    /// Whether every artifact file was parsed, those with a predecessor included.
    pub parse_ok: bool,
    /// Path rules that the kernel holds.
    pub path_rules: u64,
    /// Network rules that the kernel holds.
    pub network_rules: u64,
    /// Executables that the kernel knows as subjects.
    pub subjects: u64,
    /// Paths that the kernel refuses to run without their artifact.
    pub claims: u64,
    /// Where admitted.json lies.
    pub snapshot: PathBuf,
    pub snapshot_present: bool,
    /// Decisions counted but not reported one by one, since the daemon started.
    pub lost_events: u64,
    /// The same, within the last hour.
    pub lost_lately: u64,
    pub sinks: Vec<SinkState>,
    /// Why what is admitted could not be written down.
    pub save_problem: Option<String>,
    pub audit_head: Head,
    /// Which way out an administrator took.
    pub break_glass: Option<String>,
    pub unmediated: BTreeSet<String>,
    pub unrecognised: BTreeSet<String>,
}

/// Whether the kernel took the programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Programs {
    Loaded,
    /// It did not, for this reason.
    Refused(String),
    /// It could not be tried, for this reason.
    Unknown(String),
}

/// One hook of this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// Whether its link was found in the kernel.
    pub attached: bool,
    /// Whether it should be there now; some are attached only while they are needed.
    pub expected: bool,
}

/// Whether a daemon admits artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    Running,
    /// The daemon refuses to start, for this reason.
    Refused(String),
    /// It ended; what it attached stays.
    Stopped,
}

/// What the canary saw when it last ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Canary {
    /// Seconds since 1970.
    pub ran_at_unix: Option<u64>,
    pub open_refused: bool,
    pub connect_refused: bool,
    pub exec_refused: bool,
    pub events_seen: bool,
}

impl Canary {
    /// Whether every forbidden act was refused, and each refusal reported.
    pub fn passed(&self) -> bool {
        self.ran_at_unix.is_some() && self.refused() && self.events_seen
    }

    /// Whether every forbidden act was refused.
    pub fn refused(&self) -> bool {
        self.open_refused && self.connect_refused && self.exec_refused
    }
}

stable_words! {
    /// How an artifact stands.
    #[derive(JsonSchema)]
    Standing {
        Admitted = "admitted",
        /// Rejected only because an executable is missing.
        Waiting = "waiting",
    }
}

/// One admitted or waiting artifact.
#[derive(Debug, Clone)]
pub struct ArtifactFacts {
    pub id: String,
    pub version: String,
    pub publisher: String,
    pub digest: String,
    pub standing: Standing,
    pub mode: Mode,
    /// Whether the plan read back from the kernel equals the envelope's.
    pub envelope_match: bool,
    pub executables: u64,
    /// What its effective envelope declares, profiles expanded.
    pub capabilities: BTreeSet<CapabilityName>,
    /// Whether it names a udp endpoint.
    pub udp: bool,
    /// Whether an executable is to be hashed by the kernel at each exec.
    pub measured: bool,
    pub adopted: Adoption,
}

#[cfg(test)]
impl Observed {
    /// A node on which all is as it should be, with one artifact that uses every domain.
    pub(crate) fn sound() -> Self {
        let attached = Hook {
            attached: true,
            expected: true,
        };
        Self {
            now_unix: 1_700_000_000,
            pid: 7,
            system: System {
                kernel_version: "6.12.1".into(),
                boot_id: "b".into(),
                lsm: Some(vec!["capability".into(), "bpf".into()]),
                btf: true,
                bpf_syscall: true,
                tracepoints: true,
                cgroup_v2: true,
                bpffs: true,
                ima: false,
                ima_appraisal: false,
            },
            programs: Programs::Loaded,
            core_supported: true,
            hooks: super::evaluate::ALL_NEEDED
                .iter()
                .map(|name| ((*name).to_owned(), attached))
                .collect(),
            kernel_mode: Some(Mode::Enforce),
            gate: Gate::FailClosed,
            mode: Mode::Enforce,
            require: Require::default(),
            admission: Admission::Running,
            canary: Canary {
                ran_at_unix: Some(1_700_000_000),
                open_refused: true,
                connect_refused: true,
                exec_refused: true,
                events_seen: true,
            },
            artifacts: vec![ArtifactFacts {
                id: "exporter".into(),
                version: "1".into(),
                publisher: "p".into(),
                digest: "sha256:00".into(),
                standing: Standing::Admitted,
                mode: Mode::Enforce,
                envelope_match: true,
                executables: 1,
                capabilities: CapabilityName::ALL.iter().copied().collect(),
                udp: true,
                measured: false,
                adopted: Adoption::default(),
            }],
            rejected: BTreeMap::new(),
            failed_updates: BTreeSet::new(),
            replaced: BTreeSet::new(),
            not_taken: Vec::new(),
            unparsable: BTreeSet::new(),
            managed_match: true,
            parse_ok: true,
            path_rules: 3,
            network_rules: 2,
            subjects: 1,
            claims: 1,
            snapshot: "/var/lib/cartouche/admitted.json".into(),
            snapshot_present: true,
            lost_events: 0,
            lost_lately: 0,
            save_problem: None,
            sinks: vec![SinkState {
                name: "syslog".into(),
                working: true,
                lost: 0,
            }],
            audit_head: Head::genesis(),
            break_glass: None,
            unmediated: BTreeSet::new(),
            unrecognised: BTreeSet::new(),
        }
    }
}
