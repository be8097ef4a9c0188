//! What there is of Cartouche while no daemon answers.

use crate::config::Paths;
use crate::way_out::AtBoot;

/// What is in force without the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// What is pinned in the kernel, and maybe enforced.
    Pinned,
    /// Nothing.
    Unpinned,
    /// Nothing, and the kernel's command line keeps it so.
    Off,
}

impl Absence {
    pub(super) fn of(paths: &Paths) -> Self {
        Self::at(&AtBoot::read(), paths)
    }

    /// Who may not look whether something is pinned does not know that it is not.
    fn at(boot: &AtBoot, paths: &Paths) -> Self {
        match (paths.bpffs.join("links").try_exists(), boot) {
            (Ok(false), AtBoot::Off) => Self::Off,
            (Ok(false), _) => Self::Unpinned,
            _ => Self::Pinned,
        }
    }

    /// What to do about it, after the words that the daemon is not running.
    pub(super) const fn cure(self) -> &'static str {
        match self {
            Self::Pinned => {
                "start it with \"systemctl start cartouched\" (what it had put in force is in force without it)"
            }
            Self::Unpinned => {
                "start it with \"systemctl start cartouched\" (nothing is in force without it)"
            }
            Self::Off => {
                "cartouche=off on the kernel command line keeps it from that, and nothing is in force; boot \
                 without it"
            }
        }
    }

    /// Said before what is shown from when the daemon last ran.
    pub(super) const fn note(self) -> &'static str {
        match self {
            Self::Pinned => {
                "The daemon is not running. When it last was, this was in force and still is if the machine was\n\
                 not rebooted since:\n\n"
            }
            Self::Unpinned => {
                "The daemon is not running, and nothing of it is left in the kernel: nothing is enforced. When it\n\
                 last was, this was in force:\n\n"
            }
            Self::Off => {
                "The daemon is not running, because of cartouche=off on the kernel command line: nothing is\n\
                 enforced until the machine is booted without it. When the daemon last ran, this was in force:\n\n"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_pinned_is_said_to_be_in_force() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());

        let unpinned = Absence::at(&AtBoot::Nothing, &paths);
        let off = Absence::at(&AtBoot::Off, &paths);
        std::fs::create_dir_all(paths.bpffs.join("links")).unwrap();
        let pinned = Absence::at(&AtBoot::Off, &paths);

        assert_eq!(
            (unpinned, off, pinned),
            (Absence::Unpinned, Absence::Off, Absence::Pinned)
        );
        assert!(pinned.cure().contains("is in force without it"));
        assert!(unpinned.cure().contains("nothing is in force"));
        assert!(!off.cure().contains("systemctl") && off.cure().contains("cartouche=off"));
        assert!(off.note().contains("cartouche=off"));
    }
}
