//! Replaces a file as a whole: a reader sees the old content or the new one, also after a crash.

use std::error;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Uid, fchmod, fchown, fsync, openat, renameat, unlinkat,
};
use rustix::io::Errno;

/// Why a file was not replaced, or not durably.
#[derive(Debug)]
pub enum Error {
    /// The old content, if any, is still in force.
    NotWritten { path: PathBuf, source: io::Error },
    /// The new content is in force, but a crash may bring the old one back.
    NotDurable { path: PathBuf, source: io::Error },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWritten { path, .. } => {
                write!(f, "{path:?} could not be written and is as it was")
            }
            Self::NotDurable { path, .. } => {
                write!(
                    f,
                    "{path:?} is written, but a crash may bring its old content back"
                )
            }
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::NotWritten { source, .. } | Self::NotDurable { source, .. } => Some(source),
        }
    }
}

/// Makes `bytes` the content of `path` with the permission bits `mode`, whatever the umask.
///
/// The temporary file lies beside it, its name begins with a dot, and it is gone on return.
pub fn atomic_write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let looks = Looks { mode, owner: None };
    write_as(path, bytes, looks)
}

/// Makes `bytes` the content of `path`, which is there already and keeps its permission bits and, as far as
/// this process may give files away, its owner and group.
pub fn atomic_rewrite(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let before = fs::metadata(path).map_err(|source| Error::NotWritten {
        path: path.to_owned(),
        source,
    })?;
    let looks = Looks {
        mode: before.mode() & 0o777,
        owner: Some((before.uid(), before.gid())),
    };
    write_as(path, bytes, looks)
}

/// What the new file gets beside its content.
#[derive(Clone, Copy)]
struct Looks {
    mode: u32,
    /// User and group; those of this process if absent.
    owner: Option<(u32, u32)>,
}

fn write_as(path: &Path, bytes: &[u8], looks: Looks) -> Result<(), Error> {
    let not_written = |source: io::Error| Error::NotWritten {
        path: path.to_owned(),
        source,
    };
    let name = path
        .file_name()
        .ok_or_else(|| not_written(io::Error::from(io::ErrorKind::InvalidFilename)))?;
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, parent, flags, Mode::empty()).map_err(|e| not_written(e.into()))?;
    let temporary = temporary_name(name.to_owned());
    let written = write_temporary(&directory, &temporary, bytes, looks)
        .and_then(|()| Ok(renameat(&directory, &temporary, &directory, name)?));
    if let Err(source) = written {
        // The first error is the one to report; a leftover is hidden and replaced next time.
        let _ = unlinkat(&directory, &temporary, AtFlags::empty());
        return Err(not_written(source));
    }
    fsync(&directory).map_err(|e| Error::NotDurable {
        path: path.to_owned(),
        source: e.into(),
    })
}

/// A name that no other writer of this or another process uses now.
fn temporary_name(name: OsString) -> OsString {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.{number}.tmp", std::process::id()));
    temporary
}

fn write_temporary(
    directory: &OwnedFd,
    temporary: &OsString,
    bytes: &[u8],
    looks: Looks,
) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let create = || openat(directory, temporary, flags, Mode::RUSR | Mode::WUSR);
    let descriptor = match create() {
        // Left by a process of this number that crashed.
        Err(Errno::EXIST) => {
            unlinkat(directory, temporary, AtFlags::empty())?;
            create()?
        }
        other => other?,
    };
    let mut file = File::from(descriptor);
    file.write_all(bytes)?;
    if let Some((user, group)) = looks.owner {
        give(&file, None, Some(Gid::from_raw(group)))?;
        give(&file, Some(Uid::from_raw(user)), None)?;
    }
    fchmod(&file, Mode::from_raw_mode(looks.mode))?;
    file.sync_all()
}

/// Gives a file to a user or a group. An ordinary user may not, nor to a group of others: then it stays the
/// writer's own, as with any editor.
fn give(file: &File, user: Option<Uid>, group: Option<Gid>) -> io::Result<()> {
    match fchown(file, user, group) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    fn names(temp: &TempDir) -> Vec<OsString> {
        fs::read_dir(temp.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect()
    }

    #[test]
    fn the_new_content_replaces_the_old_with_the_mode_asked_for() {
        let temp = TempDir::new().unwrap();
        let path = temp.path().join("report.json");
        atomic_write(&path, b"old, and longer", 0o600).unwrap();

        atomic_write(&path, b"new", 0o644).unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o644
        );
        assert_eq!(names(&temp), ["report.json"]);
    }

    #[test]
    fn a_rewritten_file_keeps_its_mode_and_root_leaves_it_to_its_owner() {
        let temp = TempDir::new().unwrap();
        let path = temp.path().join("draft.toml");
        atomic_write(&path, b"old", 0o640).unwrap();
        let root = rustix::process::geteuid().is_root();
        if root {
            std::os::unix::fs::chown(&path, Some(65534), Some(65533)).unwrap();
        }

        atomic_rewrite(&path, b"new").unwrap();

        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(metadata.mode() & 0o7777, 0o640);
        if root {
            assert_eq!((metadata.uid(), metadata.gid()), (65534, 65533));
        }
        assert!(atomic_rewrite(&temp.path().join("none"), b"x").is_err());
    }

    #[test]
    fn a_failure_leaves_the_old_state_and_no_litter() {
        let temp = TempDir::new().unwrap();
        let occupied = temp.path().join("occupied");
        fs::create_dir_all(occupied.join("below")).unwrap();

        let error = atomic_write(&occupied, b"x", 0o644).unwrap_err();

        assert!(matches!(error, Error::NotWritten { .. }));
        assert_eq!(names(&temp), ["occupied"]);
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let temp = TempDir::new().unwrap();

        let error = atomic_write(&temp.path().join("none/x"), b"x", 0o644).unwrap_err();

        assert!(matches!(error, Error::NotWritten { .. }));
        assert!(error::Error::source(&error).is_some());
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let temp = TempDir::new().unwrap();
        let target = temp.path().join("target");
        fs::write(&target, "kept").unwrap();
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();

        atomic_write(&link, b"new", 0o644).unwrap();

        assert_eq!(fs::read(&target).unwrap(), b"kept");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
    }
}
