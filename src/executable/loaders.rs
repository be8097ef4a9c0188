//! What the kernel maps to start a program: its ELF interpreter (PT_INTERP) or that of its `#!` line, and
//! theirs. The bytes of the program say only a name, so what is implied by it depends on who can change
//! what the name leads to.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use goblin::elf::Elf;
use serde::{Deserialize, Serialize};

use super::{HEAD, open};

/// Interpreters of interpreters, as the kernel allows (BINPRM's depth in fs/exec.c).
const DEPTH: usize = 5;

/// Symlinks on the way to one, as the kernel allows (MAXSYMLINKS).
const LINKS_MAX: usize = 40;

/// What everybody may do with a program: one that not everybody can read is nobody's loader.
const ALL_READ_AND_RUN: u32 = 0o555;

/// Write permission for anybody but the owner.
const OTHERS_WRITE: u32 = 0o022;

/// What a program needs to start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaders {
    /// The real paths of those that only root can replace.
    pub paths: BTreeSet<String>,
    /// Every file, directory and symlink on the way to these: who may change one of them decides what is
    /// loaded.
    pub ways: BTreeSet<String>,
    /// The names of those that others than root can replace, or that are no programs.
    pub untrusted: BTreeSet<String>,
}

impl Loaders {
    /// Those of a program that begins so.
    pub(super) fn of(head: &[u8]) -> Self {
        let mut found = Self::default();
        let mut next = interpreter(head);
        let mut by_line = head.starts_with(b"#!");
        for _ in 0..DEPTH {
            let Some(name) = next else {
                break;
            };
            let Some(path) = resolve(&name, &mut found.ways) else {
                found.untrusted.insert(name);
                break;
            };
            let head = head_of(&path).unwrap_or_default();
            if !is_loader(&head, by_line) {
                found.untrusted.insert(name);
                break;
            }
            next = interpreter(&head);
            by_line = head.starts_with(b"#!");
            if !found.paths.insert(path) {
                break;
            }
        }
        found
    }
}

/// The program that a name leads to, through what root alone can change; the way is added to `ways`.
fn resolve(name: &str, ways: &mut BTreeSet<String>) -> Option<String> {
    let at = follow(name, ways)?;
    let metadata = fs::symlink_metadata(&at).ok()?;
    let runs = metadata.is_file() && metadata.mode() & ALL_READ_AND_RUN == ALL_READ_AND_RUN;
    at.to_str().filter(|_| runs).map(str::to_owned)
}

/// Whatever a name leads to, likewise.
fn follow(name: &str, ways: &mut BTreeSet<String>) -> Option<PathBuf> {
    let mut at = PathBuf::from("/");
    let mut left: VecDeque<PathBuf> = parts(Path::new(name));
    let mut links = 0;
    if !name.starts_with('/') {
        return None;
    }
    while let Some(part) = left.pop_front() {
        if part == Path::new("..") {
            at.pop();
            continue;
        }
        let here = at.join(part);
        let metadata = fs::symlink_metadata(&here).ok()?;
        if metadata.uid() != 0 || (!metadata.is_symlink() && metadata.mode() & OTHERS_WRITE != 0) {
            return None;
        }
        ways.insert(here.to_str()?.to_owned());
        if metadata.is_symlink() {
            links += 1;
            if links > LINKS_MAX {
                return None;
            }
            let target = fs::read_link(&here).ok()?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for part in parts(&target).into_iter().rev() {
                left.push_front(part);
            }
        } else {
            at = here;
        }
    }
    Some(at)
}

/// Whether others than root can put another file under this name.
pub(super) fn is_replaceable(path: &str) -> bool {
    follow(path, &mut BTreeSet::new()).is_none()
}

/// Whether a file that begins so can be what another one is started by: named in a `#!` line any program, as
/// PT_INTERP only what needs none itself. Whoever writes an executable writes down the name, and what it
/// names can be read.
fn is_loader(head: &[u8], by_line: bool) -> bool {
    match Elf::parse_header(head) {
        Ok(header) => {
            by_line || header.e_type == goblin::elf::header::ET_DYN && interpreter(head).is_none()
        }
        Err(_) => by_line && head.starts_with(b"#!"),
    }
}

fn parts(path: &Path) -> VecDeque<PathBuf> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
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
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_name_is_followed_through_links_and_each_step_is_on_the_way() {
        let mut ways = BTreeSet::new();

        let shell = resolve("/bin/../bin/sh", &mut ways).unwrap();

        assert_eq!(
            Path::new(&shell),
            Path::new("/bin/sh").canonicalize().unwrap()
        );
        assert!(ways.contains(&shell) && ways.contains("/bin"), "{ways:?}");
    }

    #[test]
    fn what_others_than_root_can_replace_is_not_trusted() {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let link = dir.path().join("sh");
        symlink("/bin/sh", &link).unwrap();

        // everybody may write to /tmp
        assert_eq!(resolve(link.to_str().unwrap(), &mut BTreeSet::new()), None);
        let script = format!("#!{}\n", link.display());
        let loaders = Loaders::of(script.as_bytes());
        assert_eq!(loaders.paths, BTreeSet::new());
        assert_eq!(loaders.untrusted.len(), 1);
    }

    #[test]
    fn only_a_program_is_a_loader() {
        for name in ["/etc/passwd", "/etc", "/nonexistent", "bin/sh", ""] {
            assert_eq!(resolve(name, &mut BTreeSet::new()), None, "{name}");
        }
    }

    #[test]
    fn a_dynamic_linker_is_what_needs_none_itself() {
        let shell = head_of(&resolve("/bin/sh", &mut BTreeSet::new()).unwrap()).unwrap();
        let linker =
            head_of(&resolve(&interpreter(&shell).unwrap(), &mut BTreeSet::new()).unwrap());

        assert!(is_loader(&linker.unwrap(), false));
        assert!(!is_loader(&shell, false) && is_loader(&shell, true));
        assert!(!is_loader(b"#!/bin/sh", false) && is_loader(b"#!/bin/sh", true));
        assert!(!is_loader(b"root:*:1:", true));
    }

    #[test]
    fn what_only_root_may_read_is_no_loader_but_is_not_replaceable() {
        let dir = tempfile::tempdir_in("/root").unwrap();
        let path = dir.path().join("backup");
        fs::copy("/bin/sh", &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let path = path.to_str().unwrap();

        assert_eq!(resolve(path, &mut BTreeSet::new()), None);
        assert!(!is_replaceable(path));
        assert!(is_replaceable("/tmp/x") && is_replaceable("/nonexistent"));
    }
}
