//! What starts a program besides itself: the ELF interpreter and the `#!` line. Every subject may map
//! these; no envelope has to name them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use goblin::elf::Elf;

/// The part of a file in which headers are looked for, in bytes; PT_INTERP lies at the beginning of
/// every ELF file that a common linker makes.
const HEAD: u64 = 1 << 20;

/// Interpreters of interpreters, as the kernel allows (BINPRM's depth in fs/exec.c).
const DEPTH: usize = 5;

/// The real paths of everything that the kernel maps to start `path`, without `path` itself.
pub fn loaders(path: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut next = Some(path.to_owned());
    for _ in 0..DEPTH {
        let Some(path) = next else { break };
        // what cannot be read or has no interpreter needs none
        next = read_head(&path)
            .ok()
            .and_then(|head| interpreter(&head))
            .and_then(|path| Path::new(&path).canonicalize().ok())
            .and_then(|path| path.into_os_string().into_string().ok())
            .filter(|path| found.insert(path.clone()));
    }
    found
}

fn read_head(path: &str) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
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
    use super::*;

    #[test]
    fn a_dynamic_program_needs_its_elf_interpreter() {
        let own = std::env::current_exe().unwrap();

        let found = loaders(own.to_str().unwrap());

        assert_eq!(found.len(), 1);
        assert!(found.iter().all(|path| path.contains("ld-")), "{found:?}");
    }

    #[test]
    fn a_script_needs_its_interpreter_and_what_that_needs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script");
        std::fs::write(&path, "#! /bin/sh -e\n").unwrap();

        let found = loaders(path.to_str().unwrap());

        let shell = Path::new("/bin/sh").canonicalize().unwrap();
        assert!(found.contains(shell.to_str().unwrap()));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_file_that_is_no_program_needs_nothing() {
        assert!(loaders("/etc/passwd").is_empty());
        assert!(loaders("/nonexistent").is_empty());
    }
}
