//! From facts to the report. A pure function: no file, no clock, no kernel.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::history::{History, Transition};
use super::observed::{Admission, Observed, Programs};
use super::reason::{admitted, reasons};
use super::report::*;
use crate::artifact::capability::CapabilityName;
use crate::config::{Gate, Mode};

/// How long a report holds without a new one, in seconds: two and a half runs of the canary.
pub const REPORT_LIFETIME: u64 = 150;

/// The hooks that tell programs apart.
const IDENTITY: &[&str] = &["bprm_creds_for_exec", "bprm_committing_creds", "task_alloc"];

/// Compares the content of measured executables.
const MEASURE: &[&str] = &["measure"];

/// The hooks that decide about loaded code.
const RUNTIME_DEPS: &[&str] = &["mmap_file", "file_mprotect"];

/// The hooks that decide about the network, and those of them that only udp needs.
const NETWORK: &[&str] = &[
    "socket_create",
    "socket_bind",
    "socket_listen",
    "socket_accept",
    "socket_connect",
    "socket_setsockopt",
    "cgroup/connect4",
    "cgroup/connect6",
];
const NETWORK_UDP: &[&str] = &[
    "cgroup/sendmsg4",
    "cgroup/sendmsg6",
    "ip_cmsg_send",
    "ip6_datagram_send_ctl",
];

#[cfg(test)]
pub(super) const ALL_NEEDED: &[&str] = &[
    "bprm_creds_for_exec",
    "bprm_committing_creds",
    "bprm_check_security",
    "measure",
    "task_alloc",
    "mmap_file",
    "file_mprotect",
    "file_open",
    "socket_create",
    "socket_bind",
    "socket_listen",
    "socket_accept",
    "socket_connect",
    "socket_setsockopt",
    "cgroup/connect4",
    "cgroup/connect6",
    "cgroup/sendmsg4",
    "cgroup/sendmsg6",
    "ip_cmsg_send",
    "ip6_datagram_send_ctl",
];

/// Evaluates what is known now after what was known before.
pub fn evaluate(observed: &Observed, before: &History) -> Report {
    let lsm_enabled = lsm_enabled(observed);
    let capability = level(observed, lsm_enabled);
    let requirements = requirements(observed);
    let blockers = blockers(observed, capability, lsm_enabled, &requirements);
    let reasons = reasons(observed, &blockers);
    let runtime_state = state(observed, &reasons);
    let history = before.after(Transition {
        at_unix: observed.now_unix,
        state: runtime_state,
        reasons: reasons
            .iter()
            .map(|reason| reason.code)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
    });
    Report {
        schema_version: SCHEMA_VERSION,
        schema_semver: SCHEMA_SEMVER.to_owned(),
        generated_at_unix: observed.now_unix,
        kernel_version: observed.system.kernel_version.clone(),
        capability,
        audit_only: !refuses(observed, capability),
        enforce_capable: blockers.is_empty(),
        runtime_state,
        lsm_enabled,
        core_supported: observed.core_supported,
        features: features(observed, lsm_enabled),
        hooks: Hooks {
            lsm_file_open: attached(observed, &["file_open"]),
            lsm_inode_permission: false,
            lsm_bprm_check_security: attached(observed, &["bprm_check_security"]),
            lsm_file_mmap: attached(observed, &["mmap_file"]),
            lsm_socket_connect: attached(observed, &["socket_connect"]),
            lsm_socket_bind: attached(observed, &["socket_bind"]),
        },
        policy: policy(observed),
        requirements_met: met(observed, capability, &requirements, &blockers),
        requirements,
        exec_identity: ExecIdentity {
            kernel_enabled: capability == Level::Full && attached(observed, IDENTITY),
            kernel_allow_exec_inode_entries: observed.subjects,
            runtime_deps_hook_attached: attached(observed, RUNTIME_DEPS),
            userspace_fallback_allowlist_entries: 0,
        },
        state_transitions: StateTransitions {
            total: history.total,
            degradation_total: history.degradations,
            strict_mode: observed.gate == Gate::FailClosed,
            enforce_requested: observed.mode == Mode::Enforce,
        },
        enforce_blockers: blockers,
        cartouche: own(observed, reasons, history),
    }
}

/// Where the list cannot be read, a refused canary is the proof.
fn lsm_enabled(observed: &Observed) -> bool {
    observed
        .system
        .bpf_lsm()
        .unwrap_or_else(|| observed.canary.refused())
}

fn level(observed: &Observed, lsm_enabled: bool) -> Level {
    match observed.programs {
        Programs::Unknown(_) => Level::Unknown,
        Programs::Refused(_) => Level::Disabled,
        Programs::Loaded if lsm_enabled => Level::Full,
        Programs::Loaded => Level::AuditOnly,
    }
}

fn attached(observed: &Observed, names: &[&str]) -> bool {
    names
        .iter()
        .all(|name| observed.hooks.get(*name).is_some_and(|hook| hook.attached))
}

fn declares(observed: &Observed, name: CapabilityName) -> bool {
    observed
        .artifacts
        .iter()
        .any(|artifact| artifact.capabilities.contains(&name))
}

fn requirements(observed: &Observed) -> Requirements {
    let require = observed.require;
    let any = !observed.artifacts.is_empty();
    Requirements {
        // An envelope without net:* is kept by the same hooks as one with it.
        network_enforcement_required: any || require.network,
        network_connect_required: declares(observed, CapabilityName::NetConnect) || require.network,
        network_bind_required: declares(observed, CapabilityName::NetListen) || require.network,
        exec_identity_required: any || require.exec_identity,
        exec_allowlist_required: declares(observed, CapabilityName::ProcessExec),
        verified_exec_required: observed.artifacts.iter().any(|artifact| artifact.measured),
        verified_exec_runtime_deps_required: declares(observed, CapabilityName::CodeLoad)
            || require.exec_runtime_deps,
        ima_appraisal_required: require.ima_appraisal,
    }
}

fn network_attached(observed: &Observed) -> bool {
    let udp = observed.artifacts.iter().any(|artifact| artifact.udp);
    observed.system.cgroup_v2
        && attached(observed, NETWORK)
        && (!udp || attached(observed, NETWORK_UDP))
}

fn blockers(
    observed: &Observed,
    capability: Level,
    lsm_enabled: bool,
    requirements: &Requirements,
) -> BTreeSet<Blocker> {
    let identity_missing = requirements.exec_identity_required && !attached(observed, IDENTITY);
    [
        (Blocker::CapabilityAuditOnly, capability != Level::Full),
        (Blocker::BpfLsmDisabled, !lsm_enabled),
        (Blocker::CoreUnsupported, !observed.core_supported),
        (Blocker::BpffsUnmounted, !observed.system.bpffs),
        (
            Blocker::NetworkHookUnavailable,
            requirements.network_enforcement_required && !network_attached(observed),
        ),
        (
            Blocker::ExecIdentityUnavailable,
            identity_missing
                || (requirements.verified_exec_required && !attached(observed, MEASURE)),
        ),
        (
            Blocker::ExecRuntimeDepsHookUnavailable,
            requirements.verified_exec_runtime_deps_required && !attached(observed, RUNTIME_DEPS),
        ),
        (
            Blocker::ImaAppraisalUnavailable,
            requirements.ima_appraisal_required && !observed.system.ima_appraisal,
        ),
    ]
    .into_iter()
    .filter_map(|(blocker, raised)| raised.then_some(blocker))
    .collect()
}

/// Whether the kernel refuses anything to anybody.
fn refuses(observed: &Observed, capability: Level) -> bool {
    let all_in_audit = admitted(observed).all(|artifact| artifact.mode == Mode::Audit)
        && admitted(observed).next().is_some();
    // audit mode does not soften a claim: what is not admitted does not run
    let claims = observed.claims > 0;
    capability == Level::Full
        && match observed.kernel_mode {
            Some(Mode::Enforce) => claims || !all_in_audit,
            Some(Mode::Audit) => claims,
            None => false,
        }
}

fn met(
    observed: &Observed,
    capability: Level,
    requirements: &Requirements,
    blockers: &BTreeSet<Blocker>,
) -> RequirementsMet {
    let in_force = capability == Level::Full
        && observed.kernel_mode == Some(Mode::Enforce)
        && admitted(observed).all(|artifact| artifact.envelope_match);
    let met =
        |required: bool, blocker: Blocker| !required || (in_force && !blockers.contains(&blocker));
    RequirementsMet {
        network: met(
            requirements.network_enforcement_required,
            Blocker::NetworkHookUnavailable,
        ),
        exec_identity: met(
            requirements.exec_identity_required || requirements.verified_exec_required,
            Blocker::ExecIdentityUnavailable,
        ),
        exec_runtime_deps: met(
            requirements.verified_exec_runtime_deps_required,
            Blocker::ExecRuntimeDepsHookUnavailable,
        ),
        // Appraisal is the kernel's own; it does not depend on Cartouche's mode.
        ima_appraisal: !blockers.contains(&Blocker::ImaAppraisalUnavailable),
    }
}

fn state(observed: &Observed, reasons: &[Reason]) -> RuntimeState {
    let audits_everything = observed.kernel_mode == Some(Mode::Audit)
        && observed.programs == Programs::Loaded
        && observed.admission == Admission::Running;
    if reasons.is_empty() {
        RuntimeState::Enforce
    } else if audits_everything {
        RuntimeState::AuditFallback
    } else {
        RuntimeState::Degraded
    }
}

fn features(observed: &Observed, lsm_enabled: bool) -> Features {
    let system = &observed.system;
    let loaded = observed.programs == Programs::Loaded;
    Features {
        bpf_lsm: lsm_enabled,
        cgroup_v2: system.cgroup_v2,
        btf: system.btf,
        bpf_syscall: system.bpf_syscall || loaded,
        // The programs hold a ring: they load exactly if there is one.
        ringbuf: loaded,
        tracepoints: system.tracepoints,
        bpffs: system.bpffs,
        ima: system.ima,
        ima_appraisal: system.ima_appraisal,
    }
}

fn policy(observed: &Observed) -> Policy {
    let in_force = |name| admitted(observed).any(|artifact| artifact.capabilities.contains(&name));
    Policy {
        applied_path: observed.snapshot.display().to_string(),
        snapshot_present: observed.snapshot_present,
        parse_ok: observed.parse_ok,
        network_rule_count: observed.network_rules,
        protect_path_count: observed.path_rules,
        protect_connect: in_force(CapabilityName::NetConnect),
        protect_runtime_deps: in_force(CapabilityName::CodeLoad),
        require_ima_appraisal: observed.require.ima_appraisal,
        allow_binary_hash_count: admitted(observed)
            .map(|artifact| artifact.executables)
            .sum(),
    }
}

fn own(observed: &Observed, reasons: Vec<Reason>, history: History) -> Own {
    let canary = &observed.canary;
    let artifacts: BTreeMap<_, _> = observed
        .artifacts
        .iter()
        .map(|artifact| {
            let posture = ArtifactPosture {
                version: artifact.version.clone(),
                publisher: artifact.publisher.clone(),
                digest: artifact.digest.clone(),
                standing: artifact.standing,
                mode: artifact.mode,
                envelope_match: artifact.envelope_match,
                adopted: artifact.adopted,
            };
            (artifact.id.clone(), posture)
        })
        .collect();
    Own {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: observed.system.boot_id.clone(),
        pid: observed.pid,
        written_at: rfc3339(observed.now_unix),
        valid_until: rfc3339(observed.now_unix.saturating_add(REPORT_LIFETIME)),
        mode: observed.mode,
        gate: observed.gate,
        kernel_mode: observed.kernel_mode,
        reasons,
        artifacts,
        rejected: observed.rejected.clone(),
        hooks: observed
            .hooks
            .iter()
            .map(|(name, hook)| (name.clone(), hook.attached))
            .collect(),
        canary: CanaryPosture {
            passed: canary.passed(),
            ran_at_unix: canary.ran_at_unix,
            open_refused: canary.open_refused,
            connect_refused: canary.connect_refused,
            exec_refused: canary.exec_refused,
            events_seen: canary.events_seen,
        },
        audit_head: observed.audit_head.hash.clone(),
        audit_seq: observed.audit_head.seq,
        sinks: observed.sinks.clone(),
        lost_events: observed.lost_events,
        unrecognised: observed.unrecognised.clone(),
        unmediated: observed.unmediated.clone(),
        transitions: history.transitions,
    }
}

pub(super) fn rfc3339(unix: u64) -> String {
    i64::try_from(unix)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map(|time| time.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Require;
    use crate::posture::{ArtifactFacts, Canary, Hook, Standing};

    type Change = fn(&mut Observed);

    fn report(change: impl FnOnce(&mut Observed)) -> Report {
        let mut observed = Observed::sound();
        change(&mut observed);
        evaluate(&observed, &History::default())
    }

    fn detach(observed: &mut Observed, name: &str) {
        let hook = observed.hooks.get_mut(name).unwrap();
        hook.attached = false;
        hook.expected = false;
    }

    fn without_artifacts(observed: &mut Observed) {
        observed.artifacts.clear();
    }

    #[test]
    fn a_sound_node_enforces() {
        let report = report(|_| {});

        assert_eq!(report.runtime_state, RuntimeState::Enforce);
        assert_eq!(report.cartouche.reasons, []);
        assert!(report.enforce_capable && !report.audit_only);
        assert_eq!(report.capability, Level::Full);
        assert_eq!(
            report.requirements_met,
            RequirementsMet {
                network: true,
                exec_identity: true,
                exec_runtime_deps: true,
                ima_appraisal: true
            }
        );
        assert_eq!(report.cartouche.written_at, "2023-11-14T22:13:20Z");
        assert_eq!(report.cartouche.valid_until, "2023-11-14T22:15:50Z");
    }

    #[test]
    #[rustfmt::skip]
    fn each_blocker_is_raised_exactly_by_its_facts() {
        use Blocker::*;
        let cases: &[(&str, Change, &[Blocker])] = &[
            ("bpf not in the list", |o| o.system.lsm = Some(vec!["yama".into()]), &[CapabilityAuditOnly, BpfLsmDisabled]),
            ("list unreadable, canary refused", |o| o.system.lsm = None, &[]),
            ("list unreadable, canary not refused", |o| { o.system.lsm = None; o.canary = Canary::default() }, &[CapabilityAuditOnly, BpfLsmDisabled]),
            ("list says bpf, canary not refused", |o| o.canary = Canary::default(), &[]),
            ("programs refused", |o| o.programs = Programs::Refused("EPERM".into()), &[CapabilityAuditOnly]),
            ("programs not tried", |o| o.programs = Programs::Unknown("no root".into()), &[CapabilityAuditOnly]),
            ("no relocation", |o| o.core_supported = false, &[CoreUnsupported]),
            ("no bpffs", |o| o.system.bpffs = false, &[BpffsUnmounted]),
            ("no cgroup2", |o| o.system.cgroup_v2 = false, &[NetworkHookUnavailable]),
            ("no connect hook", |o| detach(o, "socket_connect"), &[NetworkHookUnavailable]),
            ("no cgroup connect", |o| detach(o, "cgroup/connect6"), &[NetworkHookUnavailable]),
            ("no sendmsg with udp", |o| detach(o, "cgroup/sendmsg4"), &[NetworkHookUnavailable]),
            ("no sendmsg without udp", |o| { detach(o, "cgroup/sendmsg4"); o.artifacts[0].udp = false }, &[]),
            ("no hook, no net capability", |o| { detach(o, "socket_bind"); o.artifacts[0].capabilities.clear() }, &[NetworkHookUnavailable]),
            ("no hook, no artifact", |o| { detach(o, "socket_bind"); without_artifacts(o) }, &[]),
            ("no hook, network required", |o| { detach(o, "socket_bind"); without_artifacts(o); o.require.network = true }, &[NetworkHookUnavailable]),
            ("no creds hook", |o| detach(o, "bprm_creds_for_exec"), &[ExecIdentityUnavailable]),
            ("no committing hook", |o| detach(o, "bprm_committing_creds"), &[ExecIdentityUnavailable]),
            ("no task_alloc", |o| detach(o, "task_alloc"), &[ExecIdentityUnavailable]),
            ("no task_alloc, no artifact", |o| { detach(o, "task_alloc"); without_artifacts(o) }, &[]),
            ("no task_alloc, required", |o| { detach(o, "task_alloc"); without_artifacts(o); o.require.exec_identity = true }, &[ExecIdentityUnavailable]),
            ("no task_alloc, waiting", |o| { detach(o, "task_alloc"); o.artifacts[0].standing = Standing::Waiting }, &[ExecIdentityUnavailable]),
            ("measured", |o| o.artifacts[0].measured = true, &[]),
            ("measured, without IMA", |o| { o.artifacts[0].measured = true; detach(o, "measure") }, &[ExecIdentityUnavailable]),
            ("without IMA", |o| detach(o, "measure"), &[]),
            ("no mmap_file", |o| detach(o, "mmap_file"), &[ExecRuntimeDepsHookUnavailable]),
            ("no file_mprotect", |o| detach(o, "file_mprotect"), &[ExecRuntimeDepsHookUnavailable]),
            ("no mmap_file, no code:load", |o| { detach(o, "mmap_file"); o.artifacts[0].capabilities.clear() }, &[]),
            ("no mmap_file, required", |o| { detach(o, "mmap_file"); without_artifacts(o); o.require.exec_runtime_deps = true }, &[ExecRuntimeDepsHookUnavailable]),
            ("ima required", |o| o.require.ima_appraisal = true, &[ImaAppraisalUnavailable]),
            ("ima required and active", |o| { o.require.ima_appraisal = true; o.system.ima_appraisal = true }, &[]),
        ];
        let mut raised = BTreeSet::new();
        for (name, change, expected) in cases {
            let report = report(change);

            let expected: BTreeSet<_> = expected.iter().copied().collect();
            assert_eq!(report.enforce_blockers, expected, "{name}");
            assert_eq!(report.enforce_capable, expected.is_empty(), "{name}");
            if !expected.is_empty() {
                assert_eq!(report.runtime_state, RuntimeState::Degraded, "{name}");
            }
            raised.extend(expected);
        }
        assert_eq!(raised.len(), Blocker::ALL.len());
    }

    #[test]
    fn a_rejected_or_waiting_artifact_alone_does_not_degrade() {
        let report = report(|observed| {
            observed.rejected.insert("x.toml".into(), "CART-003".into());
            observed.artifacts.push(ArtifactFacts {
                id: "late".into(),
                standing: Standing::Waiting,
                envelope_match: false,
                ..observed.artifacts[0].clone()
            });
        });

        assert_eq!(report.runtime_state, RuntimeState::Enforce);
    }

    #[test]
    fn audit_only_says_whether_anything_is_refused() {
        let cases: &[(Change, bool)] = &[
            (|_| {}, false),
            (without_artifacts, false),
            (|o| o.kernel_mode = Some(Mode::Audit), false),
            (
                |o| {
                    o.kernel_mode = Some(Mode::Audit);
                    o.claims = 0
                },
                true,
            ),
            (|o| o.kernel_mode = None, true),
            (|o| o.system.lsm = Some(vec![]), true),
            (|o| o.programs = Programs::Refused(String::new()), true),
            (|o| o.admission = Admission::Stopped, false),
            (
                |o| {
                    o.artifacts[0].mode = Mode::Audit;
                    o.claims = 0
                },
                true,
            ),
            (|o| o.artifacts[0].mode = Mode::Audit, false),
        ];
        for (number, (change, expected)) in cases.iter().enumerate() {
            assert_eq!(report(change).audit_only, *expected, "case {number}");
        }
    }

    #[test]
    fn auditing_meets_no_requirement() {
        let report = report(|observed| observed.kernel_mode = Some(Mode::Audit));

        let met = report.requirements_met;
        assert!(!met.network && !met.exec_identity && !met.exec_runtime_deps);
    }

    /// Any combination of facts. Each group of them is left sound half of the time: otherwise hardly
    /// a node would come near enforcing.
    fn any_facts() -> impl Strategy<Value = Observed> {
        let hooks = prop::collection::vec(any::<(bool, bool)>(), ALL_NEEDED.len());
        let choices = prop::array::uniform5(0usize..3);
        let flags = any::<[bool; 20]>();
        (
            any::<[bool; 4]>(),
            any::<[bool; 4]>(),
            hooks,
            choices,
            flags,
            0u64..400,
        )
            .prop_map(|(keep, require, hooks, choose, flag, age)| {
                let mut o = Observed::sound();
                if !keep[0] {
                    o.system.bpffs = flag[0];
                    o.system.cgroup_v2 = flag[1];
                    o.core_supported = flag[2];
                    o.system.ima_appraisal = flag[3];
                    let lists: [Option<Vec<String>>; 3] =
                        [None, Some(vec![]), Some(vec!["bpf".into()])];
                    o.system.lsm = lists[choose[0]].clone();
                }
                if !keep[1] {
                    for ((_, hook), (attached, expected)) in o.hooks.iter_mut().zip(hooks) {
                        *hook = Hook { attached, expected };
                    }
                }
                if !keep[2] {
                    let why = || "why".to_owned();
                    o.kernel_mode = [None, Some(Mode::Audit), Some(Mode::Enforce)][choose[1]];
                    o.programs = [
                        Programs::Loaded,
                        Programs::Refused(why()),
                        Programs::Unknown(why()),
                    ][choose[2]]
                        .clone();
                    o.admission = [
                        Admission::Running,
                        Admission::Stopped,
                        Admission::Refused(why()),
                    ][choose[3]]
                        .clone();
                    o.canary.open_refused = flag[4];
                    o.canary.connect_refused = flag[5];
                    o.canary.events_seen = flag[6];
                    o.now_unix += age;
                }
                if !keep[3] {
                    let mut one = o.artifacts.remove(0);
                    one.mode = if flag[7] { Mode::Audit } else { Mode::Enforce };
                    one.envelope_match = flag[8];
                    one.udp = flag[9];
                    one.measured = flag[10];
                    if flag[11] {
                        one.capabilities.clear();
                    }
                    o.artifacts = vec![one; choose[4]];
                    if flag[12] {
                        o.failed_updates.insert("x".into());
                    }
                    o.sinks[0].working = flag[13];
                    o.lost_lately = u64::from(flag[14]);
                    o.mode = if flag[15] { Mode::Audit } else { Mode::Enforce };
                    o.gate = if flag[16] {
                        Gate::AuditFallback
                    } else {
                        Gate::FailClosed
                    };
                }
                o.require = Require {
                    network: require[0],
                    exec_identity: require[1],
                    exec_runtime_deps: require[2],
                    ima_appraisal: require[3],
                };
                o
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_combination_of_facts_pretends_to_enforce(o in any_facts()) {
            let report = evaluate(&o, &History::default());
            let up = |names: &[&str]| names.iter().all(|name| o.hooks[*name].attached);
            let any = !o.artifacts.is_empty();
            let called = o.programs == Programs::Loaded
                && o.system.lsm.as_ref().map_or(o.canary.refused(), |list| list.contains(&"bpf".to_owned()));
            let in_force = called && o.kernel_mode == Some(Mode::Enforce)
                && o.artifacts.iter().all(|artifact| artifact.envelope_match);

            if report.runtime_state == RuntimeState::Enforce {
                prop_assert!(called && o.core_supported && o.system.bpffs);
                prop_assert!(in_force && o.admission == Admission::Running);
                prop_assert!(o.artifacts.iter().all(|artifact| artifact.mode == Mode::Enforce));
                prop_assert!(o.canary.refused() && o.canary.events_seen);
                prop_assert!(o.now_unix - o.canary.ran_at_unix.unwrap() <= REPORT_LIFETIME);
                prop_assert!(o.sinks.iter().all(|sink| sink.working) && o.lost_lately == 0);
                prop_assert!(o.failed_updates.is_empty());
                prop_assert!(!any || up(IDENTITY) && up(NETWORK) && o.system.cgroup_v2);
                prop_assert!(o.hooks.values().all(|hook| hook.attached || !hook.expected));
                prop_assert!(!report.audit_only);
            }
            prop_assert_eq!(report.enforce_capable, report.enforce_blockers.is_empty());
            prop_assert!(report.enforce_capable || report.runtime_state != RuntimeState::Enforce);
            prop_assert_eq!(report.runtime_state == RuntimeState::Enforce, report.cartouche.reasons.is_empty());

            let met = report.requirements_met;
            if any || o.require.network {
                prop_assert!(!met.network || in_force && up(NETWORK) && o.system.cgroup_v2);
            }
            if any || o.require.exec_identity {
                prop_assert!(!met.exec_identity || in_force && up(IDENTITY));
            }
            if o.require.exec_runtime_deps {
                prop_assert!(!met.exec_runtime_deps || in_force && up(RUNTIME_DEPS));
            }
            prop_assert!(!o.require.ima_appraisal || met.ima_appraisal == o.system.ima_appraisal);
        }
    }
}
