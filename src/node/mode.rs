//! What a mode comes to on this node, in words for whoever asks.

use crate::config::Mode;

use super::{Node, rfc3339};

impl Node {
    /// Why nothing is refused to an admitted artifact; None if it is held to its envelope.
    pub(super) fn unenforced(&self, id: &str) -> Option<String> {
        let entry = self.registry.artifacts.get(id)?;
        unenforced(self.enforcing, entry.mode, entry.mode_until)
    }

    /// Why the whole node only audits.
    pub(super) fn why_it_only_audits(&self) -> String {
        why_it_only_audits(self.way_out.as_deref(), self.config.mode)
    }
}

fn unenforced(node_enforces: bool, mode: Mode, until: Option<u64>) -> Option<String> {
    match (node_enforces, mode) {
        (false, _) => Some("this node only audits: nothing is refused".to_owned()),
        (true, Mode::Audit) => {
            let until = until
                .and_then(rfc3339)
                .map(|until| format!(" until {until}"))
                .unwrap_or_default();
            Some(format!("in audit mode{until}: nothing is refused"))
        }
        (true, Mode::Enforce) => None,
    }
}

fn why_it_only_audits(way_out: Option<&str>, configured: Mode) -> String {
    match (way_out, configured) {
        (Some(way), _) => format!("of {way}; boot without it"),
        (None, Mode::Audit) => {
            "it was started with mode = \"audit\"; change that and restart cartouched".to_owned()
        }
        (None, Mode::Enforce) => "it cannot enforce; \"cartouche posture\" says why".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_is_held_only_in_enforce_mode_on_a_node_that_enforces() {
        let told = |node, mode, until| unenforced(node, mode, until).unwrap_or_default();

        assert_eq!(told(true, Mode::Enforce, None), "");
        assert_eq!(
            told(true, Mode::Audit, None),
            "in audit mode: nothing is refused"
        );
        assert_eq!(
            told(true, Mode::Audit, Some(1_700_000_000)),
            "in audit mode until 2023-11-14T22:13:20Z: nothing is refused"
        );
        assert_eq!(
            told(false, Mode::Enforce, None),
            "this node only audits: nothing is refused"
        );
    }

    #[test]
    fn the_kernel_s_command_line_is_named_before_the_configuration() {
        let by_boot = Some("cartouche=audit on the kernel command line");

        for mode in [Mode::Audit, Mode::Enforce] {
            assert_eq!(
                why_it_only_audits(by_boot, mode),
                "of cartouche=audit on the kernel command line; boot without it"
            );
        }
        assert!(why_it_only_audits(None, Mode::Audit).contains("mode = \"audit\""));
        assert!(why_it_only_audits(None, Mode::Enforce).contains("it cannot enforce"));
    }
}
