//! What a file that an artifact names as its executable really is, as one open descriptor shows it.
//! Whether that is good enough is the gate's matter.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use goblin::elf::Elf;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, openat, openat2};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::admission::{ExecutableFacts, FoundFile};
use crate::artifact::digest::hex;

/// How much is read at once, in bytes.
const BLOCK: usize = 256 << 10;

/// The part of a file in which headers are looked for, in bytes; PT_INTERP lies at the beginning of
/// every ELF file that a common linker makes.
const HEAD: usize = 1 << 20;

/// Interpreters of interpreters, as the kernel allows (BINPRM's depth in fs/exec.c).
const DEPTH: usize = 5;

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
    /// Whether its path goes through no symlink.
    pub realpath: bool,
}

/// Opens the file at an absolute path; `None` if there is none. It never waits, not even for a fifo.
pub fn open(path: &str) -> io::Result<Option<Opened>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let direct = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    let (opened, realpath) = match direct {
        Err(Errno::LOOP) => (openat(CWD, path, flags, Mode::empty()), false),
        other => (other, true),
    };
    match opened {
        Ok(descriptor) => Ok(Some(Opened {
            file: File::from(descriptor),
            realpath,
        })),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
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
        read(&opened.file)?
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
        loaders: loaders(&head),
    })
}

/// The hash of a file, and its beginning: both of the same bytes.
fn read(mut file: &File) -> io::Result<(String, Vec<u8>)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BLOCK];
    let mut head = Vec::new();
    file.seek(io::SeekFrom::Start(0))?;
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

/// The beginning of the regular file at `path`; it never waits.
fn head_of(path: &str) -> Option<Vec<u8>> {
    let opened = open(path).ok().flatten()?;
    if !opened.file.metadata().ok()?.is_file() {
        return None;
    }
    let mut head = Vec::new();
    opened.file.take(HEAD as u64).read_to_end(&mut head).ok()?;
    Some(head)
}

/// The real paths of everything that the kernel maps to start a program that begins so.
fn loaders(head: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut next = interpreter(head);
    for _ in 0..DEPTH {
        let path = next
            .and_then(|path| Path::new(&path).canonicalize().ok())
            .and_then(|path| path.into_os_string().into_string().ok());
        let Some(path) = path.filter(|path| found.insert(path.clone())) else {
            break;
        };
        next = head_of(&path).and_then(|head| interpreter(&head));
    }
    found
}

fn interpreter(head: &[u8]) -> Option<String> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next()?;
        let text = std::str::from_utf8(line).ok()?;
        return text.split_whitespace().next().map(str::to_owned);
    }
    let header = Elf::parse_header(head).ok()?;
    let mut elf = Elf::lazy_parse(header).ok()?;
    let context = goblin::container::Ctx::new(
        if header.e_ident[goblin::elf::header::EI_CLASS] == goblin::elf::header::ELFCLASS64 {
            goblin::container::Container::Big
        } else {
            goblin::container::Container::Little
        },
        header.endianness().ok()?,
    );
    elf.program_headers = goblin::elf::ProgramHeader::parse(
        head,
        usize::try_from(header.e_phoff).ok()?,
        usize::from(header.e_phnum),
        context,
    )
    .ok()?;
    let segment = elf
        .program_headers
        .iter()
        .find(|segment| segment.p_type == goblin::elf::program_header::PT_INTERP)?;
    let bytes = head.get(segment.file_range())?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    String::from_utf8(bytes[..end].to_vec()).ok()
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

    fn of(path: &str) -> BTreeSet<String> {
        examine(path).found.unwrap().loaders
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
    fn a_file_that_is_no_program_needs_nothing() {
        assert!(of("/etc/passwd").is_empty());
        assert!(examine("/nonexistent").found.is_none());
    }
}
