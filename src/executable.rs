//! What a file that an artifact names as its executable really is, as one open descriptor shows it.
//! Whether that is good enough is the gate's matter.

mod loaders;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat, openat2};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::admission::{ExecutableFacts, FoundFile};
use crate::artifact::digest::hex;

pub use loaders::Loaders;

/// How much is read at once, in bytes.
const BLOCK: usize = 256 << 10;

/// The part of a file in which headers are looked for, in bytes; PT_INTERP lies at the beginning of
/// every ELF file that a common linker makes.
const HEAD: usize = 1 << 20;

/// The largest executable that is hashed, in bytes: meanwhile the daemon does nothing else.
const SIZE_MAX: u64 = 1 << 30;

/// FS_CASEFOLD_FL of linux/fs.h.
const CASEFOLD: u32 = 0x4000_0000;

/// Types of file systems by the magic number of statfs(2), from linux/magic.h.
const FILESYSTEMS: &[(u64, &str)] = &[
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x9123_683e, "btrfs"),
    (0xf2f5_2010, "f2fs"),
    (0x794c_7630, "overlay"),
    (0x7371_7368, "squashfs"),
    (0xe0f5_e1e2, "erofs"),
    (0x2fc1_2fc1, "zfs"),
    (0x6573_5546, "fuse"),
    (0x0102_1997, "9p"),
    (0x6969, "nfs"),
    (0x4d44, "vfat"),
];

/// An executable, opened for reading.
#[derive(Debug)]
pub struct Opened {
    pub file: File,
    /// As it was asked for.
    pub path: String,
    /// Whether its path goes through no symlink.
    pub realpath: bool,
}

/// Opens the file at an absolute path; `None` if there is none. Only a regular file or a directory is
/// really opened: opening a device may already do something, and opening a fifo wait.
pub fn open(path: &str) -> io::Result<Option<Opened>> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let direct = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    let (opened, realpath) = match direct {
        Err(Errno::LOOP) => (openat(CWD, path, flags, Mode::empty()), false),
        other => (other, true),
    };
    match opened {
        Ok(descriptor) => Ok(Some(Opened {
            file: readable(descriptor)?,
            path: path.to_owned(),
            realpath,
        })),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The same file for reading; still only its path if it is neither a file nor a directory.
fn readable(descriptor: OwnedFd) -> io::Result<File> {
    let kind = FileType::from_raw_mode(fstat(&descriptor)?.st_mode);
    if !matches!(kind, FileType::RegularFile | FileType::Directory) {
        return Ok(File::from(descriptor));
    }
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(openat(CWD, path, flags, Mode::empty())?))
}

/// Opens and examines the executable at `path`.
pub fn examine(path: &str) -> ExecutableFacts {
    let found = match open(path) {
        Ok(Some(opened)) => facts(&opened).map(Some),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    let (found, problem) = match found {
        Ok(found) => (found, None),
        Err(error) => (None, Some(format!("it cannot be read: {error}"))),
    };
    ExecutableFacts {
        path: path.to_owned(),
        found,
        problem,
        taken_by: None,
        written: false,
    }
}

/// Reads an open executable to its end.
pub fn facts(opened: &Opened) -> io::Result<FoundFile> {
    let metadata = opened.file.metadata()?;
    let magic = fstatfs(&opened.file)?.f_type.cast_unsigned();
    let filesystem = FILESYSTEMS
        .iter()
        .find(|(number, _)| *number == magic)
        .map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned());
    let (sha256, head) = if metadata.is_file() {
        if metadata.len() > SIZE_MAX {
            return Err(io::Error::other("it is larger than 1 GiB"));
        }
        read((&opened.file).take(SIZE_MAX))?
    } else {
        (String::new(), Vec::new())
    };
    Ok(FoundFile {
        sha256,
        realpath_ok: opened.realpath,
        regular: metadata.is_file(),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        filesystem,
        script: head.starts_with(b"#!"),
        replaceable: loaders::is_replaceable(&opened.path),
        casefold: in_casefold_directory(&opened.path),
        loaders: Loaders::of(&head),
    })
}

/// Whether the file's directory finds it under other spellings, as ext4 and f2fs can (`chattr +F`).
fn in_casefold_directory(path: &str) -> bool {
    let Some(directory) = Path::new(path).parent() else {
        return false;
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(CWD, directory, flags, Mode::empty())
        .and_then(|directory| rustix::fs::ioctl_getflags(&directory))
        .is_ok_and(|flags| flags.bits() & CASEFOLD != 0)
}

/// The hash of a file, and its beginning: both of the same bytes.
fn read(mut file: io::Take<&File>) -> io::Result<(String, Vec<u8>)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BLOCK];
    let mut head = Vec::new();
    file.get_mut().seek(io::SeekFrom::Start(0))?;
    loop {
        let length = match file.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return Ok((hex(&hasher.finalize()), head));
        };
        let room = HEAD.saturating_sub(head.len()).min(bytes.len());
        head.extend_from_slice(&bytes[..room]);
        hasher.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::artifact::digest::sha256_hex;

    #[test]
    fn a_program_is_hashed_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("tool");
        let content = b"#!/bin/sh\n".repeat(100_000);
        fs::write(&path, &content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();

        let found = examine(path.to_str().unwrap()).found.unwrap();

        assert_eq!(found.sha256, sha256_hex(&content));
        assert_eq!(found.mode, 0o4755);
        assert!(found.script && found.regular && found.realpath_ok);
        assert!(!found.filesystem.is_empty());
    }

    #[test]
    fn a_path_through_a_link_is_no_realpath() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        fs::write(real.join("tool"), "x").unwrap();
        symlink(&real, real.join("link")).unwrap();

        let facts = examine(real.join("link/tool").to_str().unwrap());

        assert!(!facts.found.unwrap().realpath_ok);
    }

    #[test]
    fn what_is_missing_has_no_problem_and_what_is_no_file_no_hash() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();

        let missing = examine(real.join("tool").to_str().unwrap());
        let directory = examine(real.to_str().unwrap());

        assert_eq!((missing.found, missing.problem), (None, None));
        let found = directory.found.unwrap();
        assert!(!found.regular && found.sha256.is_empty());
    }

    fn of(path: &str) -> std::collections::BTreeSet<String> {
        examine(path).found.unwrap().loaders.paths
    }

    #[test]
    fn a_dynamic_program_needs_its_elf_interpreter() {
        let own = std::env::current_exe().unwrap();

        let found = of(own.to_str().unwrap());

        assert_eq!(found.len(), 1);
        assert!(found.iter().all(|path| path.contains("ld-")), "{found:?}");
    }

    #[test]
    fn a_script_needs_its_interpreter_and_what_that_needs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script");
        fs::write(&path, "#! /bin/sh -e\n").unwrap();

        let found = of(path.to_str().unwrap());

        let shell = std::path::Path::new("/bin/sh").canonicalize().unwrap();
        assert!(found.contains(shell.to_str().unwrap()));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_fifo_is_looked_at_and_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("fifo");
        rustix::fs::mkfifoat(CWD, &path, Mode::from_raw_mode(0o700)).unwrap();

        let opened = open(path.to_str().unwrap()).unwrap().unwrap();

        // a reader would let it in
        let flags = OFlags::WRONLY | OFlags::NONBLOCK;
        let writer = openat(CWD, &path, flags, Mode::empty());
        assert_eq!(writer.unwrap_err(), Errno::NXIO);
        assert!(!facts(&opened).unwrap().regular);
    }

    #[test]
    fn what_would_take_long_to_read_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("giant");
        File::create(&path).unwrap().set_len(4 << 40).unwrap();

        let facts = examine(path.to_str().unwrap());

        assert!(facts.problem.unwrap().contains("larger than 1 GiB"));
    }

    #[test]
    fn a_file_that_is_no_program_needs_nothing() {
        assert!(of("/etc/passwd").is_empty());
        assert!(examine("/nonexistent").found.is_none());
    }
}
