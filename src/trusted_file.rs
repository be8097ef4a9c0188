//! Files that only their owner can have written: opened below a trusted directory, checked on the open
//! descriptor and read once. What is in them is the reader's matter.

use std::collections::BTreeSet;
use std::error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat,
};
use rustix::io::Errno;

use crate::event::Detail;

/// Largest file that is read, in bytes.
pub const MAX_SIZE: u64 = 1024 * 1024;

/// What a link that masks a file of the same name leads to.
const MASK: &[u8] = b"/dev/null";

/// Write permission for anybody but the owner. A POSIX ACL shows in the group bits.
const OTHERS_WRITE: u32 = 0o022;

/// A directory that only its owner can change.
#[derive(Debug)]
pub struct TrustedDirectory {
    descriptor: OwnedFd,
    path: PathBuf,
    owner: u32,
}

/// Why a file or directory is not read.
#[derive(Debug)]
pub struct Error {
    pub path: PathBuf,
    pub fault: Fault,
}

/// What is wrong with it.
#[derive(Debug)]
pub enum Fault {
    /// It does not exist, or not any more.
    Vanished,
    /// It is a link to /dev/null: the administrator wants no file of this name.
    Masked,
    /// It is a symbolic link that leaves its directory.
    Symlink,
    /// It is something else than a regular file; the word says what.
    NotRegular(&'static str),
    /// It is something else than a directory.
    NotDirectory,
    /// It belongs to this user.
    Owner(u32),
    /// Others than its owner may write it; the permission bits.
    Writable(u32),
    /// It is larger than [`MAX_SIZE`]; the size in bytes.
    TooLarge(u64),
    /// It changed while it was read.
    Changed,
    /// The system refused.
    System(io::Error),
}

impl Error {
    /// The stable word for it.
    pub fn detail(&self) -> Detail {
        match self.fault {
            Fault::Vanished | Fault::Changed => Detail::Vanished,
            Fault::Masked | Fault::Symlink => Detail::Symlink,
            Fault::NotRegular(_) | Fault::NotDirectory => Detail::NotRegular,
            Fault::Owner(_) | Fault::Writable(_) => Detail::Untrusted,
            Fault::TooLarge(_) => Detail::TooLarge,
            Fault::System(_) => Detail::Unreadable,
        }
    }

    fn new(path: &Path, fault: Fault) -> Self {
        Self {
            path: path.to_owned(),
            fault,
        }
    }

    fn system(path: &Path, error: Errno) -> Self {
        let fault = match error {
            Errno::NOENT => Fault::Vanished,
            Errno::LOOP => Fault::Symlink,
            Errno::NOTDIR => Fault::NotDirectory,
            other => Fault::System(other.into()),
        };
        Self::new(path, fault)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.path)?;
        match &self.fault {
            Fault::Vanished => f.write_str("does not exist"),
            Fault::Masked => f.write_str("is masked by a link to /dev/null"),
            Fault::Symlink => {
                f.write_str("is a symbolic link out of its directory; put the file itself there")
            }
            Fault::NotRegular(kind) => write!(f, "is {kind}, not a regular file; remove it"),
            Fault::NotDirectory => f.write_str("is not a directory"),
            Fault::Owner(uid) => {
                write!(
                    f,
                    "belongs to user {uid} and is not trusted; run chown root on it"
                )
            }
            Fault::Writable(mode) => write!(
                f,
                "has mode {mode:04o}, so that others can write it, and is not trusted; run \
                 chmod go-w on it"
            ),
            Fault::TooLarge(size) => {
                write!(f, "has {size} bytes; the most that is read is {MAX_SIZE}")
            }
            Fault::Changed => f.write_str("changed while it was read"),
            Fault::System(_) => f.write_str("cannot be read"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.fault {
            Fault::System(source) => Some(source),
            _ => None,
        }
    }
}

impl TrustedDirectory {
    /// Opens a directory and checks that it belongs to `owner`, 0 but in tests, and that nobody else
    /// can write it. The last component of `path` must not be a symbolic link.
    pub fn open(path: &Path, owner: u32) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor =
            openat(CWD, path, flags, Mode::empty()).map_err(|e| Error::system(path, e))?;
        let stat = fstat(&descriptor).map_err(|e| Error::system(path, e))?;
        check_owner(path, &stat, owner)?;
        Ok(Self {
            descriptor,
            path: path.to_owned(),
            owner,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it, without `.` and `..`.
    pub fn names(&self) -> Result<BTreeSet<OsString>, Error> {
        let entries = Dir::read_from(&self.descriptor).map_err(|e| Error::system(&self.path, e))?;
        let mut names = BTreeSet::new();
        for entry in entries {
            let entry = entry.map_err(|e| Error::system(&self.path, e))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.insert(name.to_owned());
            }
        }
        Ok(names)
    }

    /// The bytes of the file `name`, which must not hold a `/`.
    ///
    /// A symbolic link is followed once and only to a name in this directory; what it leads to is
    /// checked like a file.
    pub fn read(&self, name: impl AsRef<OsStr>) -> Result<Vec<u8>, Error> {
        let name = name.as_ref();
        let stat = self.stat(name)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return self.read_regular(name, &stat);
        }
        let target = self.link_target(name)?;
        let stat = self.stat(&target)?;
        self.read_regular(&target, &stat)
    }

    fn stat(&self, name: &OsStr) -> Result<Stat, Error> {
        statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| Error::system(&self.path.join(name), e))
    }

    /// The sibling that the link `name` leads to.
    fn link_target(&self, name: &OsStr) -> Result<OsString, Error> {
        let path = self.path.join(name);
        let target = readlinkat(&self.descriptor, name, Vec::new())
            .map_err(|e| Error::system(&path, e))?
            .into_bytes();
        if target == MASK {
            return Err(Error::new(&path, Fault::Masked));
        }
        if target.contains(&b'/') || target == b".." || target == b"." {
            return Err(Error::new(&path, Fault::Symlink));
        }
        Ok(OsStr::from_bytes(&target).to_owned())
    }

    fn read_regular(&self, name: &OsStr, stat: &Stat) -> Result<Vec<u8>, Error> {
        let path = self.path.join(name);
        // Before the open, which may wait for a device; after it again, for what was opened.
        check_regular(&path, stat)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let descriptor = openat(
            &self.descriptor,
            name,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| Error::system(&path, e))?;
        let before = fstat(&descriptor).map_err(|e| Error::system(&path, e))?;
        check_regular(&path, &before)?;
        check_owner(&path, &before, self.owner)?;
        let size = u64::try_from(before.st_size).unwrap_or(u64::MAX);
        if size > MAX_SIZE {
            return Err(Error::new(&path, Fault::TooLarge(size)));
        }
        let mut file = File::from(descriptor);
        let mut bytes = Vec::new();
        (&mut file)
            .take(MAX_SIZE + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::new(&path, Fault::System(e)))?;
        let after = fstat(&file).map_err(|e| Error::system(&path, e))?;
        if version(&before) != version(&after) || u64::try_from(bytes.len()) != Ok(size) {
            return Err(Error::new(&path, Fault::Changed));
        }
        Ok(bytes)
    }
}

impl AsFd for TrustedDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// What a write changes.
fn version(stat: &Stat) -> [i128; 4] {
    [
        stat.st_size.into(),
        stat.st_mtime.into(),
        stat.st_mtime_nsec.into(),
        stat.st_ctime_nsec.into(),
    ]
}

fn check_regular(path: &Path, stat: &Stat) -> Result<(), Error> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Symlink => return Err(Error::new(path, Fault::Symlink)),
        FileType::Directory => "a directory",
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "of an unknown kind",
    };
    Err(Error::new(path, Fault::NotRegular(kind)))
}

fn check_owner(path: &Path, stat: &Stat, owner: u32) -> Result<(), Error> {
    if stat.st_uid != owner {
        return Err(Error::new(path, Fault::Owner(stat.st_uid)));
    }
    if stat.st_mode & OTHERS_WRITE != 0 {
        return Err(Error::new(path, Fault::Writable(stat.st_mode & 0o7777)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use tempfile::TempDir;

    fn owner() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn place() -> (TempDir, TrustedDirectory) {
        let temp = TempDir::new().unwrap();
        fs::set_permissions(temp.path(), Permissions::from_mode(0o755)).unwrap();
        let directory = TrustedDirectory::open(temp.path(), owner()).unwrap();
        (temp, directory)
    }

    fn write(temp: &TempDir, name: &str, bytes: &[u8], mode: u32) {
        let path = temp.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn fault(directory: &TrustedDirectory, name: &str) -> Fault {
        directory.read(name).unwrap_err().fault
    }

    #[test]
    fn a_file_of_the_owner_is_read() {
        let (temp, directory) = place();
        write(&temp, "a.toml", b"hello", 0o644);

        assert_eq!(directory.read("a.toml").unwrap(), b"hello");
        assert_eq!(
            directory.names().unwrap(),
            BTreeSet::from(["a.toml".into()])
        );
    }

    #[test]
    fn a_file_that_others_can_write_is_not() {
        let (temp, directory) = place();
        write(&temp, "group", b"", 0o664);
        write(&temp, "world", b"", 0o646);

        assert!(matches!(fault(&directory, "group"), Fault::Writable(0o664)));
        assert!(matches!(fault(&directory, "world"), Fault::Writable(0o646)));
    }

    #[test]
    fn a_file_of_another_owner_is_not() {
        let (temp, _) = place();
        write(&temp, "a.toml", b"", 0o644);

        let error = TrustedDirectory::open(temp.path(), owner() + 1).unwrap_err();

        assert!(matches!(error.fault, Fault::Owner(uid) if uid == owner()));
        assert_eq!(error.detail(), Detail::Untrusted);
    }

    #[test]
    fn a_directory_that_others_can_write_is_not_trusted() {
        let (temp, _) = place();
        fs::set_permissions(temp.path(), Permissions::from_mode(0o777)).unwrap();

        let error = TrustedDirectory::open(temp.path(), owner()).unwrap_err();

        assert!(matches!(error.fault, Fault::Writable(0o777)));
    }

    #[test]
    fn a_fifo_a_socket_and_a_directory_are_named_and_do_not_block() {
        let (temp, directory) = place();
        rustix::fs::mkfifoat(CWD, temp.path().join("fifo"), Mode::from_raw_mode(0o600)).unwrap();
        let _listener = UnixListener::bind(temp.path().join("socket")).unwrap();
        fs::create_dir(temp.path().join("directory")).unwrap();

        assert!(matches!(
            fault(&directory, "fifo"),
            Fault::NotRegular("a fifo")
        ));
        assert!(matches!(
            fault(&directory, "socket"),
            Fault::NotRegular("a socket")
        ));
        assert!(matches!(
            fault(&directory, "directory"),
            Fault::NotRegular("a directory")
        ));
    }

    #[test]
    fn what_is_not_there_vanished() {
        let (_temp, directory) = place();

        assert!(matches!(fault(&directory, "a.toml"), Fault::Vanished));
    }

    #[test]
    fn a_link_to_dev_null_is_a_mask() {
        let (temp, directory) = place();
        symlink("/dev/null", temp.path().join("a.toml")).unwrap();

        assert!(matches!(fault(&directory, "a.toml"), Fault::Masked));
    }

    #[test]
    fn a_link_is_followed_once_and_only_to_a_sibling() {
        let (temp, directory) = place();
        write(&temp, "real", b"here", 0o644);
        fs::create_dir(temp.path().join("sub")).unwrap();
        write(&temp, "sub/real", b"there", 0o644);
        for (name, target) in [
            ("sibling", "real"),
            ("absolute", "/etc/passwd"),
            ("below", "sub/real"),
            ("above", "../x"),
            ("chain", "sibling"),
            ("dangling", "nothing"),
            ("parent", ".."),
        ] {
            symlink(target, temp.path().join(name)).unwrap();
        }

        assert_eq!(directory.read("sibling").unwrap(), b"here");
        for name in ["absolute", "below", "above", "chain", "parent"] {
            assert!(matches!(fault(&directory, name), Fault::Symlink), "{name}");
        }
        assert!(matches!(fault(&directory, "dangling"), Fault::Vanished));
    }

    #[test]
    fn a_directory_reached_through_a_link_is_not_trusted() {
        let (temp, _) = place();
        symlink(temp.path(), temp.path().join("link")).unwrap();

        let error = TrustedDirectory::open(&temp.path().join("link"), owner()).unwrap_err();

        assert!(matches!(error.fault, Fault::NotDirectory | Fault::Symlink));
    }

    #[test]
    fn one_mebibyte_is_read_and_one_byte_more_is_not() {
        let (temp, directory) = place();
        write(&temp, "full", &vec![b'#'; 1024 * 1024], 0o644);
        write(&temp, "over", &vec![b'#'; 1024 * 1024 + 1], 0o644);

        assert_eq!(directory.read("full").unwrap().len(), 1024 * 1024);
        assert!(matches!(
            fault(&directory, "over"),
            Fault::TooLarge(1_048_577)
        ));
    }

    #[test]
    fn a_file_whose_size_lies_is_not_read() {
        // Files of procfs have size 0 and content.
        let directory = TrustedDirectory {
            descriptor: File::open("/proc/self").unwrap().into(),
            path: "/proc/self".into(),
            owner: owner(),
        };

        assert!(matches!(fault(&directory, "status"), Fault::Changed));
    }

    #[test]
    fn a_message_says_which_file_and_what_to_do() {
        let error = Error::new(Path::new("/etc/x\n.toml"), Fault::Writable(0o666));

        assert_eq!(
            error.to_string(),
            "\"/etc/x\\n.toml\" has mode 0666, so that others can write it, and is not trusted; run \
             chmod go-w on it"
        );
    }
}
