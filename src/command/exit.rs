//! How the command ends and why it could not do what it was told.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::absence::Absence;
use crate::artifact::digest::SealError;
use crate::control::Why;
use crate::{atomic_write, audit, control, site, trusted_file, way_out};

macro_rules! exits {
    ($($variant:ident = $code:literal $meaning:literal,)*) => {
        /// How the command ends.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Exit { $($variant = $code,)* }

        impl Exit {
            /// Every way to end, in ascending order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What it means.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
        }
    };
}

exits! {
    Done = 0 "Done; the answer is yes",
    Failed = 1 "Could not be done",
    Usage = 2 "Wrong arguments",
    No = 3 "The answer is no: rejected, log changed, or state not ENFORCE",
    NotFound = 4 "There is no such file or artifact",
    NotRunning = 5 "The daemon is not running",
    NotPermitted = 6 "Only root may do this",
    TimedOut = 7 "No answer or verdict in time",
    CannotRun = 126 "run: the command cannot be executed",
    NoCommand = 127 "run: there is no such command",
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table of all ways to end, for `--help`.
pub(super) fn table() -> String {
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        text.push_str(&format!("  {:>3}  {}\n", exit.code(), exit.meaning()));
    }
    text
}

/// Why a subcommand could not do what it was told.
#[derive(Debug)]
pub enum Error {
    /// A file could not be read or examined.
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A command did not start.
    NotRun { program: PathBuf, source: io::Error },
    /// A file was not written.
    NotWritten { source: atomic_write::Error },
    /// A draft cannot be sealed.
    Seal { path: PathBuf, source: SealError },
    /// The site's scope or profiles are not usable.
    Site { source: site::Error },
    /// The daemon did not answer, or refused.
    Daemon { source: control::Error },
    /// No daemon answers.
    NotRunning {
        absence: Absence,
        source: control::Error,
    },
    /// There is not even a directory of Cartouche's on this machine.
    NotInstalled { path: PathBuf },
    /// Cartouche is installed, but for this directory.
    NoDirectory { path: PathBuf },
    /// The daemon would read nothing in the directory for artifacts.
    Untrusted { source: trusted_file::Error },
    /// The daemon gave an answer to another question.
    OtherAnswer,
    /// The audit log could not be read.
    Log { source: audit::Error },
    /// An answer could not be put into JSON.
    Json { source: serde_json::Error },
    /// Enforcement was not taken off.
    WayOut { source: way_out::Error },
    /// What was asked for does not exist; a sentence.
    NotFound { message: String },
    /// What was asked for does not make sense; a sentence.
    Unfit { message: String },
}

impl Error {
    pub(super) fn file<'a>(
        doing: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::File {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    /// With which code the command ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::File { source, .. }
            | Self::NotWritten {
                source: atomic_write::Error::NotWritten { source, .. },
            }
            | Self::Log {
                source: audit::Error::File { source, .. },
            } => of_io(source),
            Self::Daemon { source } => match source {
                control::Error::NotRunning { .. } => Exit::NotRunning,
                control::Error::NotPermitted { .. } => Exit::NotPermitted,
                control::Error::TimedOut => Exit::TimedOut,
                control::Error::Refused(refused) => match refused.why {
                    Why::NotFound => Exit::NotFound,
                    Why::NotPermitted => Exit::NotPermitted,
                    Why::TimedOut => Exit::TimedOut,
                    Why::Unfit | Why::Malformed | Why::Failed => Exit::Failed,
                },
                control::Error::Broken { .. } | control::Error::Malformed { .. } => Exit::Failed,
            },
            Self::Seal { .. } => Exit::No,
            Self::NotFound { .. } | Self::NoDirectory { .. } => Exit::NotFound,
            Self::NotInstalled { .. } | Self::NotRunning { .. } => Exit::NotRunning,
            Self::Unfit { .. } => Exit::Usage,
            // as env(1) and the shells do
            Self::NotRun { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Exit::NoCommand
            }
            Self::NotRun { .. } => Exit::CannotRun,
            Self::NotWritten { .. }
            | Self::Site { .. }
            | Self::Untrusted { .. }
            | Self::OtherAnswer
            | Self::Log { .. }
            | Self::WayOut { .. }
            | Self::Json { .. } => Exit::Failed,
        }
    }
}

fn of_io(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::NotFound => Exit::NotFound,
        io::ErrorKind::PermissionDenied => Exit::NotPermitted,
        _ => Exit::Failed,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { doing, path, .. } if self.exit() == Exit::NotPermitted => write!(
                f,
                "The file {path:?} could not be {doing}, which only root may; run the command as root"
            ),
            Self::File { doing, path, .. } => {
                write!(f, "The file {path:?} could not be {doing}")
            }
            Self::NotRun { program, .. } if self.exit() == Exit::NoCommand => {
                write!(f, "There is no command {program:?}, or not what interprets it")
            }
            Self::NotRun { program, .. } => write!(
                f,
                "The command {program:?} was not run; \"cartouche denials\" tells whether it was refused"
            ),
            Self::NotWritten { .. } if self.exit() == Exit::NotPermitted => f.write_str(
                "The file was not written, because only root may write there; run the command as root",
            ),
            Self::NotWritten { .. } => f.write_str("The file was not written"),
            Self::Seal { path, .. } => write!(f, "The draft {path:?} was not sealed"),
            Self::Site { .. } => f.write_str("The artifact cannot be judged on this machine"),
            Self::Daemon { source } => source.fmt(f),
            Self::NotRunning { absence, source } => write!(f, "{source}; {}", absence.cure()),
            Self::NotInstalled { path } => write!(
                f,
                "Cartouche is not installed on this machine, or never ran: there is no directory \
                 {path:?}; install it, then: systemctl enable --now cartouched"
            ),
            Self::NoDirectory { path } => write!(
                f,
                "There is no directory {path:?}; make it: install -d -m 755 {}",
                path.display()
            ),
            Self::Untrusted { .. } => f.write_str(
                "Nothing was installed, because the daemon reads no artifact from that directory",
            ),
            Self::OtherAnswer => f.write_str(
                "The daemon answered another question; it may be of another version than this command",
            ),
            Self::Log { .. } if self.exit() == Exit::NotPermitted => {
                f.write_str("Only root may read the audit log; run the command as root")
            }
            Self::Log { .. } => f.write_str("The audit log could not be read"),
            Self::Json { .. } => f.write_str("The answer could not be put into JSON"),
            Self::WayOut { source } => source.fmt(f),
            Self::NotFound { message } | Self::Unfit { message } => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } | Self::NotRun { source, .. } => Some(source),
            Self::NotWritten { source } => Some(source),
            Self::Seal { source, .. } => Some(source),
            Self::Site { source } => Some(source),
            Self::Untrusted { source } => Some(source),
            // Shown in place of this error.
            Self::Daemon { source } | Self::NotRunning { source, .. } => {
                std::error::Error::source(source)
            }
            Self::WayOut { source } => std::error::Error::source(source),
            Self::Log { source } => Some(source),
            Self::Json { source } => Some(source),
            Self::NotInstalled { .. }
            | Self::NoDirectory { .. }
            | Self::OtherAnswer
            | Self::NotFound { .. }
            | Self::Unfit { .. } => None,
        }
    }
}

impl From<control::Error> for Error {
    fn from(source: control::Error) -> Self {
        Self::Daemon { source }
    }
}

impl From<audit::Error> for Error {
    fn from(source: audit::Error) -> Self {
        Self::Log { source }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn exit_codes_are_distinct() {
        let codes: BTreeSet<_> = Exit::ALL.iter().map(|exit| exit.code()).collect();

        assert_eq!(codes.len(), Exit::ALL.len());
    }

    #[test]
    fn a_missing_file_and_a_forbidden_one_end_differently() {
        let of = |kind: io::ErrorKind| Error::file("read", Path::new("x"))(kind.into()).exit();

        assert_eq!(of(io::ErrorKind::NotFound), Exit::NotFound);
        assert_eq!(of(io::ErrorKind::PermissionDenied), Exit::NotPermitted);
        assert_eq!(of(io::ErrorKind::Other), Exit::Failed);
    }

    #[test]
    fn a_command_that_does_not_run_ends_as_under_env() {
        let of = |kind: io::ErrorKind| {
            let program = PathBuf::from("x");
            let source = kind.into();
            Error::NotRun { program, source }.exit().code()
        };

        assert_eq!(of(io::ErrorKind::NotFound), 127);
        assert_eq!(of(io::ErrorKind::PermissionDenied), 126);
    }

    #[test]
    fn who_may_not_is_told_that_root_may() {
        let forbidden = || io::Error::from(io::ErrorKind::PermissionDenied);
        let path = || PathBuf::from("/x");
        for error in [
            Error::file("read", &path())(forbidden()),
            Error::NotWritten {
                source: atomic_write::Error::NotWritten {
                    path: path(),
                    source: forbidden(),
                },
            },
            Error::Log {
                source: audit::Error::File {
                    doing: "read",
                    path: path(),
                    source: forbidden(),
                },
            },
        ] {
            assert_eq!(error.exit(), Exit::NotPermitted);
            let told = error.to_string().to_lowercase();
            assert!(told.contains("only root may"), "{told}");
        }
    }
}
