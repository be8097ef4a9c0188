//! How the daemon ends, one number a reason, so that a unit file and a script can tell them apart.

use std::collections::BTreeSet;

use super::Blocker;

macro_rules! exit_codes {
    ($($(#[$meta:meta])* $variant:ident = $code:literal $sentence:literal,)*) => {
        /// How `cartouched` ends.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ExitCode { $($(#[$meta])* $variant = $code,)* }

        impl ExitCode {
            /// Every code, in ascending order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What it means, for the table in `--help`.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }
        }
    };
}

exit_codes! {
    Success = 0 "Ended as asked; enforcement stays pinned unless a way out was taken",
    Failure = 1 "Ended by an error that is none of the following",
    Usage = 2 "Wrong arguments",
    Configuration = 10 "The configuration is invalid",
    NotRoot = 11 "Not started as root",
    AlreadyRunning = 12 "Another cartouched is running",
    State = 13 "A directory or file of its own cannot be used",
    Unattached = 14 "The kernel took the programs but did not attach them",
    CanaryFailed = 15 "The canary was not refused: nothing is enforced",
    BpffsUnmounted = 20 "Refused: BPFFS_UNMOUNTED",
    CoreUnsupported = 21 "Refused: CORE_UNSUPPORTED",
    BpfLsmDisabled = 22 "Refused: BPF_LSM_DISABLED",
    ExecIdentityUnavailable = 23 "Refused: EXEC_IDENTITY_UNAVAILABLE",
    NetworkHookUnavailable = 24 "Refused: NETWORK_HOOK_UNAVAILABLE",
    ExecRuntimeDepsHookUnavailable = 25 "Refused: EXEC_RUNTIME_DEPS_HOOK_UNAVAILABLE",
    ImaAppraisalUnavailable = 26 "Refused: IMA_APPRAISAL_UNAVAILABLE",
    CapabilityAuditOnly = 27 "Refused: CAPABILITY_AUDIT_ONLY",
}

impl ExitCode {
    /// The code for a refusal; of several blockers the one that explains the others.
    pub fn of_blockers(blockers: &BTreeSet<Blocker>) -> Option<Self> {
        blockers.iter().copied().map(Self::of_blocker).min()
    }

    const fn of_blocker(blocker: Blocker) -> Self {
        match blocker {
            Blocker::CapabilityAuditOnly => Self::CapabilityAuditOnly,
            Blocker::BpfLsmDisabled => Self::BpfLsmDisabled,
            Blocker::CoreUnsupported => Self::CoreUnsupported,
            Blocker::BpffsUnmounted => Self::BpffsUnmounted,
            Blocker::NetworkHookUnavailable => Self::NetworkHookUnavailable,
            Blocker::ExecIdentityUnavailable => Self::ExecIdentityUnavailable,
            Blocker::ExecRuntimeDepsHookUnavailable => Self::ExecRuntimeDepsHookUnavailable,
            Blocker::ImaAppraisalUnavailable => Self::ImaAppraisalUnavailable,
        }
    }

    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_every_blocker_has_its_own() {
        let codes: BTreeSet<_> = ExitCode::ALL.iter().map(|code| code.code()).collect();
        let refusals: BTreeSet<_> = Blocker::ALL
            .iter()
            .map(|&blocker| ExitCode::of_blocker(blocker))
            .collect();

        assert_eq!(codes.len(), ExitCode::ALL.len());
        assert_eq!(refusals.len(), Blocker::ALL.len());
        for &blocker in Blocker::ALL {
            let meaning = ExitCode::of_blocker(blocker).meaning();
            assert_eq!(meaning, format!("Refused: {blocker}"));
        }
    }

    #[test]
    fn the_cause_is_named_rather_than_what_follows_from_it() {
        let blockers = BTreeSet::from([Blocker::CapabilityAuditOnly, Blocker::BpfLsmDisabled]);

        assert_eq!(
            ExitCode::of_blockers(&blockers),
            Some(ExitCode::BpfLsmDisabled)
        );
        assert_eq!(ExitCode::of_blockers(&BTreeSet::new()), None);
    }
}
