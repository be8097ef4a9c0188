//! Puts the report where it is read: whole or not at all, and gone after a reboot.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::Report;
use crate::atomic_write::{self, atomic_write};
use crate::config::Paths;

/// Why the report does not stand where it is read.
#[derive(Debug)]
pub enum Error {
    /// The report could not be put into JSON.
    Unwritable { source: serde_json::Error },
    /// The report itself was not written.
    Report { source: atomic_write::Error },
    /// The report is written, but the link to it could not be made.
    Link { path: PathBuf, source: io::Error },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwritable { .. } => f.write_str("The posture report could not be put into JSON"),
            Self::Report { .. } => f.write_str("The posture report was not written"),
            Self::Link { path, .. } => write!(
                f,
                "The posture report is written, but the link {path:?} to it could not be made"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unwritable { source } => Some(source),
            Self::Report { source } => Some(source),
            Self::Link { source, .. } => Some(source),
        }
    }
}

/// Writes the report to /run, readable by all, and makes the link in /var lead there.
pub fn publish(report: &Report, paths: &Paths) -> Result<(), Error> {
    let mut text =
        serde_json::to_vec_pretty(report).map_err(|source| Error::Unwritable { source })?;
    text.push(b'\n');
    let target = paths.report();
    atomic_write(&target, &text, 0o644).map_err(|source| Error::Report { source })?;
    let link = paths.report_link();
    if fs::read_link(&link).is_ok_and(|there| there == target) {
        return Ok(());
    }
    replace_link(&target, &link).map_err(|source| Error::Link { path: link, source })
}

fn replace_link(target: &Path, link: &Path) -> io::Result<()> {
    let new = link.with_extension("json.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, &new)?;
    fs::rename(&new, link)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::posture::{History, Observed, evaluate};

    #[test]
    fn the_report_is_read_through_the_link() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(&paths.run).unwrap();
        fs::create_dir_all(&paths.state).unwrap();
        fs::write(paths.report_link(), "stale").unwrap();
        let report = evaluate(&Observed::sound(), &History::default());

        publish(&report, &paths).unwrap();
        publish(&report, &paths).unwrap();

        let text = fs::read_to_string(paths.report_link()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        let mode = fs::metadata(paths.report()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
        assert_eq!(fs::read_link(paths.report_link()).unwrap(), paths.report());
        assert_eq!(fs::read_dir(&paths.run).unwrap().count(), 1);
    }
}
