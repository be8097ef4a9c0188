//! Whether the daemon may start enforcing, must audit, or must refuse: no pretend enforcement.

use std::collections::BTreeSet;

use super::{Blocker, ExitCode};
use crate::config::{Gate, Mode};

/// How the daemon starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Enforce,
    /// It was asked to audit, or falls back to it.
    Audit,
    /// It writes its report and ends with this code.
    Refuse(ExitCode),
}

/// Decides from the configuration and the blockers that stand.
pub fn decide(gate: Gate, mode: Mode, blockers: &BTreeSet<Blocker>) -> Start {
    match (mode, gate, ExitCode::of_blockers(blockers)) {
        (Mode::Enforce, _, None) => Start::Enforce,
        (Mode::Enforce, Gate::FailClosed, Some(code)) => Start::Refuse(code),
        (Mode::Enforce, Gate::AuditFallback, Some(_)) | (Mode::Audit, _, _) => Start::Audit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enforcement_starts_exactly_without_blockers() {
        let none = BTreeSet::new();
        for &gate in Gate::ALL {
            assert_eq!(decide(gate, Mode::Enforce, &none), Start::Enforce);
            assert_eq!(decide(gate, Mode::Audit, &none), Start::Audit);
            for &blocker in Blocker::ALL {
                let start = decide(gate, Mode::Enforce, &BTreeSet::from([blocker]));

                match gate {
                    Gate::FailClosed => assert!(matches!(start, Start::Refuse(_))),
                    Gate::AuditFallback => assert_eq!(start, Start::Audit),
                }
            }
        }
    }
}
