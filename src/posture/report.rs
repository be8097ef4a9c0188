//! capabilities.json: the contract's fields under their names, ours in one object beside them.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::history::Transition;
use crate::audit::{Head, SinkState};
use crate::config::{Gate, Mode};
use crate::event::stable_words;

/// The compatibility anchor of the contract.
pub const SCHEMA_VERSION: u32 = 1;

/// The version of the contract's fields.
pub const SCHEMA_SEMVER: &str = "1.2.0";

stable_words! {
    /// Why this node cannot enforce; the contract's codes.
    #[derive(JsonSchema)]
    Blocker {
        /// The capability level is not "Full".
        CapabilityAuditOnly = "CAPABILITY_AUDIT_ONLY",
        /// `bpf` is not among the active LSMs.
        BpfLsmDisabled = "BPF_LSM_DISABLED",
        /// A program with a CO-RE relocation does not load.
        CoreUnsupported = "CORE_UNSUPPORTED",
        /// There is no bpffs at the pin root.
        BpffsUnmounted = "BPFFS_UNMOUNTED",
        /// A network hook that is needed is not attached.
        NetworkHookUnavailable = "NETWORK_HOOK_UNAVAILABLE",
        /// A hook that tells programs apart is not attached.
        ExecIdentityUnavailable = "EXEC_IDENTITY_UNAVAILABLE",
        /// A hook that decides about code that is loaded is not attached.
        ExecRuntimeDepsHookUnavailable = "EXEC_RUNTIME_DEPS_HOOK_UNAVAILABLE",
        /// IMA appraisal is required and not active.
        ImaAppraisalUnavailable = "IMA_APPRAISAL_UNAVAILABLE",
    }
}

impl Blocker {
    /// What an administrator can do about it.
    pub const fn cure(self) -> &'static str {
        match self {
            Self::CapabilityAuditOnly => "mend what the other blockers name",
            Self::BpfLsmDisabled => "add bpf to the boot parameter lsm= and reboot",
            Self::CoreUnsupported => {
                "the kernel needs CONFIG_DEBUG_INFO_BTF=y and kernel.kptr_restrict = 0 or 1, and programs must load"
            }
            Self::BpffsUnmounted => "mount it: mount -t bpf bpf /sys/fs/bpf",
            Self::NetworkHookUnavailable => {
                "it takes cgroup2 at /sys/fs/cgroup and Linux 6.1 or later"
            }
            Self::ExecIdentityUnavailable => {
                "it takes Linux 6.1 or later with BPF LSM, and IMA where a program is measured"
            }
            Self::ExecRuntimeDepsHookUnavailable => "it takes Linux 6.1 or later with BPF LSM",
            Self::ImaAppraisalUnavailable => {
                "boot with ima_appraise=enforce, or do not require it in cartouche.toml"
            }
        }
    }

    /// Whether it stands on every machine on which nothing is attached, whatever that machine can do.
    pub const fn follows_from_detaching(self) -> bool {
        match self {
            Self::CapabilityAuditOnly
            | Self::NetworkHookUnavailable
            | Self::ExecIdentityUnavailable
            | Self::ExecRuntimeDepsHookUnavailable => true,
            Self::BpfLsmDisabled
            | Self::CoreUnsupported
            | Self::BpffsUnmounted
            | Self::ImaAppraisalUnavailable => false,
        }
    }
}

stable_words! {
    /// What the node does now; the contract's states.
    #[derive(JsonSchema)]
    RuntimeState {
        /// Every admitted artifact is enforced, and that was tried.
        Enforce = "ENFORCE",
        /// No subject is refused anything; what would be is recorded.
        AuditFallback = "AUDIT_FALLBACK",
        /// Anything else; `cartouche.reasons` says what.
        Degraded = "DEGRADED",
    }
}

stable_words! {
    /// How far the kernel supports Cartouche.
    #[derive(JsonSchema)]
    Level {
        /// All probes pass.
        Full = "Full",
        /// Programs load, but `bpf` is not an active LSM.
        AuditOnly = "AuditOnly",
        /// Programs do not load.
        Disabled = "Disabled",
        /// The probe itself failed.
        Unknown = "Unknown",
    }
}

stable_words! {
    /// Why the state is not ENFORCE.
    #[derive(JsonSchema)]
    ReasonCode {
        /// A blocker stands.
        Blocked = "BLOCKED",
        /// The daemon refused to start.
        StartRefused = "START_REFUSED",
        /// No daemon admits artifacts; enforcement is pinned.
        AdmissionStopped = "ADMISSION_STOPPED",
        /// The node was asked to audit only.
        AuditRequested = "AUDIT_REQUESTED",
        /// The node fell back to auditing.
        AuditFallback = "AUDIT_FALLBACK",
        /// The kernel holds no mode: its programs are not attached.
        NotAttached = "NOT_ATTACHED",
        /// A hook that should be attached is not.
        HookMissing = "HOOK_MISSING",
        /// An artifact is in audit mode.
        ArtifactInAudit = "ARTIFACT_IN_AUDIT",
        /// What the kernel holds of an artifact is not its envelope.
        EnvelopeDrift = "ENVELOPE_DRIFT",
        /// An update was rejected: of an artifact, a program, the scope, a profile or the configuration.
        UpdateFailed = "UPDATE_FAILED",
        /// A file without a predecessor could not be parsed; nothing of it is claimed.
        FileUnparsable = "FILE_UNPARSABLE",
        /// The canary was not refused, or its refusal was not reported.
        CanaryFailed = "CANARY_FAILED",
        /// The canary did not run lately.
        CanaryPending = "CANARY_PENDING",
        /// Decisions were counted, but could not be reported one by one.
        EventsLost = "EVENTS_LOST",
        /// An audit sink does not take records.
        SinkLost = "SINK_LOST",
        /// An administrator took a way out.
        BreakGlass = "BREAK_GLASS",
    }
}

/// The posture of this node; the content of capabilities.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Cartouche posture report", extend("x-schema-semver" = SCHEMA_SEMVER))]
pub struct Report {
    #[schemars(extend("const" = SCHEMA_VERSION))]
    pub schema_version: u32,
    #[schemars(extend("const" = SCHEMA_SEMVER))]
    pub schema_semver: String,
    /// When this was written, in seconds since 1970.
    pub generated_at_unix: u64,
    /// As `uname -r` says.
    pub kernel_version: String,
    pub capability: Level,
    /// True exactly if nothing is refused.
    pub audit_only: bool,
    /// True exactly if `enforce_blockers` is empty.
    pub enforce_capable: bool,
    pub enforce_blockers: BTreeSet<Blocker>,
    pub runtime_state: RuntimeState,
    /// Whether `bpf` is an active LSM.
    pub lsm_enabled: bool,
    /// Whether a program with a CO-RE relocation loads.
    pub core_supported: bool,
    pub features: Features,
    pub hooks: Hooks,
    pub policy: Policy,
    pub requirements: Requirements,
    pub requirements_met: RequirementsMet,
    pub exec_identity: ExecIdentity,
    pub state_transitions: StateTransitions,
    /// What only Cartouche says.
    pub cartouche: Own,
}

impl Report {
    /// The same, as a witness of the log up to `head`.
    pub fn with_audit_head(mut self, head: &Head) -> Self {
        self.cartouche.audit_seq = head.seq;
        self.cartouche.audit_head = head.hash.clone();
        self
    }
}

/// The JSON schema of capabilities.json.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Report)
}

/// What the kernel offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Features {
    pub bpf_lsm: bool,
    pub cgroup_v2: bool,
    pub btf: bool,
    pub bpf_syscall: bool,
    pub ringbuf: bool,
    pub tracepoints: bool,
    pub bpffs: bool,
    pub ima: bool,
    pub ima_appraisal: bool,
}

/// Whether these hooks are attached now; all others are under `cartouche.hooks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hooks {
    pub lsm_file_open: bool,
    /// Always false: it would cost every task, and file_open decides.
    pub lsm_inode_permission: bool,
    pub lsm_bprm_check_security: bool,
    pub lsm_file_mmap: bool,
    pub lsm_socket_connect: bool,
    pub lsm_socket_bind: bool,
}

/// What is admitted and held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Policy {
    /// admitted.json.
    pub applied_path: String,
    /// Whether it exists.
    pub snapshot_present: bool,
    /// Whether every artifact file was parsed.
    pub parse_ok: bool,
    /// Network rules that the kernel holds.
    pub network_rule_count: u64,
    /// Path rules that the kernel holds.
    pub protect_path_count: u64,
    /// Whether an envelope in force has `net:connect`.
    pub protect_connect: bool,
    /// Whether an envelope in force has `code:load`.
    pub protect_runtime_deps: bool,
    pub require_ima_appraisal: bool,
    /// Admitted executables.
    pub allow_binary_hash_count: u64,
}

/// What an admitted or waiting artifact, or the configuration, needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Requirements {
    /// Any artifact: one without `net:*` must be refused the network.
    pub network_enforcement_required: bool,
    pub network_connect_required: bool,
    pub network_bind_required: bool,
    pub exec_identity_required: bool,
    pub exec_allowlist_required: bool,
    pub verified_exec_required: bool,
    pub verified_exec_runtime_deps_required: bool,
    pub ima_appraisal_required: bool,
}

/// Whether each requirement is enforced: attached, read back and in force. True also for what nothing
/// requires; never true merely because the node audits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequirementsMet {
    pub network: bool,
    pub exec_identity: bool,
    pub exec_runtime_deps: bool,
    pub ima_appraisal: bool,
}

/// How programs are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecIdentity {
    /// Whether the kernel decides who is who.
    pub kernel_enabled: bool,
    /// Executables that the kernel knows as subjects.
    pub kernel_allow_exec_inode_entries: u64,
    pub runtime_deps_hook_attached: bool,
    /// Always 0: there is no such fallback.
    pub userspace_fallback_allowlist_entries: u64,
}

/// How often the state changed since the daemon started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StateTransitions {
    pub total: u64,
    /// Changes to anything but ENFORCE.
    pub degradation_total: u64,
    /// Whether the gate is fail-closed.
    pub strict_mode: bool,
    /// Whether the configuration asks for enforcement.
    pub enforce_requested: bool,
}

/// What only Cartouche says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Own {
    /// Of Cartouche.
    pub version: String,
    /// Of the boot in which this was written; another one makes the report void.
    pub boot_id: String,
    /// Of the daemon that wrote this.
    pub pid: u32,
    /// RFC 3339, UTC.
    pub written_at: String,
    /// RFC 3339, UTC; after that the daemon did not say anything for too long.
    pub valid_until: String,
    /// What the configuration asks for.
    pub mode: Mode,
    pub gate: Gate,
    /// What the kernel holds; absent if no programs are attached.
    pub kernel_mode: Option<Mode>,
    /// Why the state is not ENFORCE; empty if it is.
    pub reasons: Vec<Reason>,
    /// Admitted and waiting artifacts by id.
    pub artifacts: BTreeMap<String, ArtifactPosture>,
    /// Rejected files and why.
    pub rejected: BTreeMap<String, String>,
    /// Every hook of this build and whether it is attached now.
    pub hooks: BTreeMap<String, bool>,
    pub canary: CanaryPosture,
    /// Hash of the newest audit record, to find a cut with `cartouche audit verify --head`.
    pub audit_head: String,
    pub audit_seq: u64,
    pub sinks: Vec<SinkState>,
    /// Decisions that were counted but not reported one by one, since the daemon started.
    pub lost_events: u64,
    /// Running tasks that could not be recognised and so were not adopted.
    pub unrecognised: BTreeSet<String>,
    /// What Cartouche does not decide about in this build.
    pub unmediated: BTreeSet<String>,
    /// The newest changes of state, oldest first.
    pub transitions: Vec<Transition>,
}

/// One reason why the state is not ENFORCE.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    pub code: ReasonCode,
    /// A sentence without a full stop.
    pub message: String,
}

/// One artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactPosture {
    pub version: String,
    pub publisher: String,
    pub digest: String,
    /// `admitted` or `waiting`.
    pub standing: super::Standing,
    pub mode: Mode,
    /// Whether what the kernel holds is what the envelope says.
    pub envelope_match: bool,
    #[serde(default)]
    pub adopted: Adoption,
}

/// Processes that ran before they were bound to an artifact, since the daemon started, and what they had open
/// then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Adoption {
    pub processes: u64,
    /// Those of them that had descriptors open that the envelope would not let them open.
    pub holding_more: u64,
    /// How many such descriptors they had.
    pub descriptors: u64,
    /// Sockets that they had; where these lead was not compared with the envelope.
    pub sockets: u64,
    /// Processes of which not all descriptors were looked at, because it would have taken too long.
    pub not_examined: u64,
}

/// How the last trial of the refusals went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CanaryPosture {
    pub passed: bool,
    /// Seconds since 1970; absent if it did not run yet.
    pub ran_at_unix: Option<u64>,
    pub open_refused: bool,
    pub connect_refused: bool,
    pub exec_refused: bool,
    /// Whether each refusal was reported.
    pub events_seen: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posture::{History, Observed, evaluate};

    #[test]
    fn every_field_of_the_contract_is_there_under_its_name() {
        let report = evaluate(&Observed::sound(), &History::default());

        let json = serde_json::to_value(&report).unwrap();

        let top = [
            "schema_version",
            "schema_semver",
            "generated_at_unix",
            "kernel_version",
            "capability",
            "audit_only",
            "enforce_capable",
            "enforce_blockers",
            "runtime_state",
            "lsm_enabled",
            "core_supported",
            "features",
            "hooks",
            "policy",
            "requirements",
            "requirements_met",
            "exec_identity",
            "state_transitions",
        ];
        for key in top {
            assert!(json.get(key).is_some(), "{key}");
        }
        assert_eq!(json.as_object().unwrap().len(), top.len() + 1);
        for key in [
            "network",
            "exec_identity",
            "exec_runtime_deps",
            "ima_appraisal",
        ] {
            assert!(json["requirements_met"][key].is_boolean(), "{key}");
        }
        assert_eq!(json["schema_version"], 1);
        assert_eq!(json["schema_semver"], "1.2.0");
    }

    #[test]
    fn the_contract_s_words_keep_their_spelling() {
        let blockers: Vec<_> = Blocker::ALL
            .iter()
            .map(|blocker| blocker.as_str())
            .collect();

        assert_eq!(
            blockers,
            [
                "CAPABILITY_AUDIT_ONLY",
                "BPF_LSM_DISABLED",
                "CORE_UNSUPPORTED",
                "BPFFS_UNMOUNTED",
                "NETWORK_HOOK_UNAVAILABLE",
                "EXEC_IDENTITY_UNAVAILABLE",
                "EXEC_RUNTIME_DEPS_HOOK_UNAVAILABLE",
                "IMA_APPRAISAL_UNAVAILABLE"
            ]
        );
        let states: Vec<_> = RuntimeState::ALL
            .iter()
            .map(|state| state.as_str())
            .collect();
        assert_eq!(states, ["ENFORCE", "AUDIT_FALLBACK", "DEGRADED"]);
    }
}
