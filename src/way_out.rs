//! The way out for the whole node while no daemon enforces: what the kernel's command line says, and taking
//! everything out of the kernel. Audited, and said in the posture.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use crate::audit;
use crate::config::{Config, Layer, Paths};
use crate::enforcer::{self, Kernel};
use crate::error::chain;
use crate::event::{Code, Event, Outcome};
use crate::node;
use crate::posture::{Admission, Observed, Posture, Programs, System, publish};

/// The word of the kernel's command line; the last one counts.
const WORD: &str = "cartouche=";

/// What the kernel's command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AtBoot {
    Nothing,
    /// Nothing is refused to anybody but what is claimed and not admitted.
    Audit,
    /// Nothing is loaded, and what is pinned goes.
    Off,
    /// Something that is not known.
    Unknown(String),
}

impl AtBoot {
    /// Reads the command line of the running kernel. One that cannot be read asks for nothing.
    pub fn read() -> Self {
        let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        Self::of(&line)
    }

    fn of(line: &str) -> Self {
        let mut words = line.split_ascii_whitespace().rev();
        match words.find_map(|word| word.strip_prefix(WORD)) {
            None => Self::Nothing,
            Some("audit") => Self::Audit,
            Some("off") => Self::Off,
            Some(other) => Self::Unknown(other.to_owned()),
        }
    }
}

/// Why enforcement was not taken off, or not wholly.
#[derive(Debug)]
pub enum Error {
    /// A daemon runs, and would attach what is taken away.
    Running { source: audit::Error },
    /// The pins could not be removed.
    Pins { source: enforcer::Error },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running { .. } => f.write_str(
                "Nothing was done, because cartouched is just starting or ending; try again",
            ),
            Self::Pins { .. } => f.write_str(
                "Enforcement was not taken off wholly: what is still pinned is still in force",
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Running { source } => Some(source),
            Self::Pins { source } => Some(source),
        }
    }
}

/// Takes all that is pinned out of the kernel, while no daemon runs. `way` is a sentence without a full stop.
/// A way out must not depend on a valid configuration, or on room on the disk: what could not be written
/// down is returned, as sentences.
pub fn take_off(paths: &Paths, word: &str, way: &str) -> Result<Vec<String>, Error> {
    let mut untold = Vec::new();
    let layer = Layer::default();
    let config = Config::load(paths, [], &layer).map_or_else(|_| Config::default(), |l| l.config);
    let opened = node::make_directories(paths)
        .and_then(|()| node::open_audit(&config, paths))
        .map_err(|error| match error {
            node::Error::Audit(source @ audit::Error::Locked { .. }) => Err(source),
            error => Ok(chain(&error)),
        });
    let mut audit = match opened {
        Ok(audit) => Some(audit),
        Err(Ok(why)) => {
            untold.push(format!("This is not in the audit log: {why}"));
            None
        }
        Err(Err(source)) => return Err(Error::Running { source }),
    };
    let removed = Kernel::detach(&paths.bpffs);
    let mut event = Event::new(Code::WayOut, Outcome::Noted);
    event = match &removed {
        Ok(()) => event
            .detail(word)
            .message(format!("{way}: nothing is enforced")),
        Err(error) => event.detail("failed").message(chain(error)),
    };
    let system = System::probe(Path::new("/"), &paths.bpffs);
    let observed = Observed {
        core_supported: system.btf,
        break_glass: Some(way.to_owned()),
        ..node::without_kernel(
            &config,
            paths,
            system,
            Programs::Unknown("it was not tried".to_owned()),
            Admission::Stopped,
        )
    };
    let (mut report, change) = Posture::default().update(&observed);
    if let Some(audit) = &mut audit {
        audit.record(event, Instant::now());
        if let Some(change) = change.filter(|_| removed.is_ok()) {
            audit.record(change, Instant::now());
        }
        audit.flush();
        if audit.records_lost() > 0 {
            untold.push("This is not in the audit log, which takes no records".to_owned());
        }
        report = report.with_audit_head(audit.head());
    }
    if removed.is_ok()
        && let Err(error) = publish(&report, paths)
    {
        untold.push(chain(&error));
    }
    removed
        .map(|()| untold)
        .map_err(|source| Error::Pins { source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posture::Report;

    #[test]
    fn the_last_word_of_the_command_line_counts() {
        for (line, expected) in [
            ("BOOT_IMAGE=/vmlinuz ro quiet\n", AtBoot::Nothing),
            ("ro cartouche=audit quiet\n", AtBoot::Audit),
            ("cartouche=audit cartouche=off", AtBoot::Off),
            ("xcartouche=off cartouche.x=off", AtBoot::Nothing),
            ("cartouche=none", AtBoot::Unknown("none".to_owned())),
        ] {
            assert_eq!(AtBoot::of(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_taken_off_is_audited_and_in_the_posture() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        std::fs::create_dir_all(paths.bpffs.join("links")).unwrap();
        std::fs::write(paths.bpffs.join("links/file_open"), "").unwrap();
        std::fs::write(paths.bpffs.join("slots"), "").unwrap();

        let untold = take_off(&paths, "detach", "an administrator detached it").unwrap();

        assert_eq!(untold, [""; 0]);
        assert!(!paths.bpffs.exists());
        let (mut codes, mut newest) = (Vec::new(), String::new());
        audit::each_record(&paths.state, |record| {
            codes.push(record.event.code);
            newest = record.hash;
        })
        .unwrap();
        assert!(codes.contains(&Code::WayOut) && codes.contains(&Code::PostureChanged));
        let text = std::fs::read_to_string(paths.report()).unwrap();
        let report: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(report.cartouche.audit_head, newest, "it is no witness");
        assert!(
            text.contains("BREAK_GLASS") && text.contains("\"DEGRADED\""),
            "{text}"
        );
    }

    #[test]
    fn while_a_daemon_holds_the_log_nothing_is_done() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        std::fs::create_dir_all(paths.bpffs.join("links")).unwrap();
        node::make_directories(&paths).unwrap();
        let _held = node::open_audit(&Config::default(), &paths).unwrap();

        let error = take_off(&paths, "detach", "an administrator detached it").unwrap_err();

        assert!(matches!(error, Error::Running { .. }));
        assert!(paths.bpffs.join("links").exists());
    }
}
