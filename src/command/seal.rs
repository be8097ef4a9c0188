//! `cartouche seal`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::{Answer, Error};
use crate::artifact::digest::{SealError, declare_hashes, seal};
use crate::artifact::draft::{Claimed, Draft};
use crate::atomic_write::atomic_rewrite;
use crate::audit::printable;
use crate::executable;

/// Bind the envelope of a draft to its artifact: write or correct its digest
///
/// Comments, order and layout of the file stay. A draft with a fault is not changed. Whether the
/// programs are the declared ones is not looked at, unless --update-hashes is given: see "cartouche
/// verify".
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The draft
    file: PathBuf,

    /// First declare the programs and the files that code:load pins as they are now, as after a package
    /// upgrade: replaces each sha256 that is another; in a list of several, adds it
    #[arg(long)]
    update_hashes: bool,
}

pub(super) fn run(args: &Args) -> Result<Answer, Error> {
    let path = &args.file;
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Error::Unfit {
            message: format!("{path:?} is not a regular file; seal writes the digest into one"),
        });
    }
    let bytes = fs::read(path).map_err(Error::file("read", path))?;
    let name = path.to_string_lossy();
    let not_sealed = |source| Error::Seal {
        path: path.clone(),
        source,
    };
    let text = text_of(bytes, &name).map_err(not_sealed)?;
    let found = if args.update_hashes {
        hashes(text.as_bytes())?
    } else {
        BTreeMap::new()
    };
    let declared = declare_hashes(&text, &name, &found).map_err(not_sealed)?;
    let updated: Vec<_> = found
        .iter()
        .filter(|(_, hash)| declared.contains(*hash) && !text.contains(*hash))
        .collect();
    let sealed = seal(&declared, &name).map_err(not_sealed)?;
    let changed = sealed != text;
    if changed {
        // Through a link, what it leads to is written, not the link replaced.
        let real = fs::canonicalize(path).map_err(Error::file("found", path))?;
        atomic_rewrite(&real, sealed.as_bytes()).map_err(|source| Error::NotWritten { source })?;
    }
    let digest = Draft::parse(sealed.as_bytes(), &name)
        .ok()
        .and_then(|draft| draft.digest)
        .unwrap_or_default();
    let done = if changed {
        "sealed"
    } else {
        "was sealed already"
    };
    let mut text = format!("{}: {done}, {digest}\n", printable(&name));
    for (program, hash) in &updated {
        text.push_str(&format!("  {} is sha256:{hash} now\n", printable(program)));
    }
    let updated: BTreeMap<_, _> = updated.into_iter().collect();
    let json = serde_json::json!({
        "file": name, "changed": changed, "digest": digest, "updated": updated,
    });
    Answer::new(text, &json)
}

/// A draft as text; what is none is refused with line and column, as every other fault.
fn text_of(bytes: Vec<u8>, name: &str) -> Result<String, SealError> {
    String::from_utf8(bytes).map_err(|error| match Draft::parse(error.as_bytes(), name) {
        Err(problems) => SealError::Invalid(problems),
        // not reached: a document is UTF-8
        Ok(_) => SealError::Layout,
    })
}

/// The hashes of the programs and pinned files that an artifact names, as they are now.
fn hashes(document: &[u8]) -> Result<BTreeMap<String, String>, Error> {
    let claimed = Claimed::of(document);
    let programs = claimed.paths.into_iter().map(|path| ("program", path));
    let code = claimed.code.into_iter().map(|path| ("pinned file", path));
    programs
        .chain(code)
        .map(|(what, path)| match executable::examine(&path).found {
            Some(found) => Ok((path, found.sha256)),
            None => Err(Error::NotFound {
                message: format!(
                    "The {what} {path:?} is not there or cannot be read, so its hash is not known; \
                     nothing was changed"
                ),
            }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Exit;
    use crate::command::verify::tests::DRAFT;

    #[test]
    fn a_draft_is_sealed_once_and_keeps_its_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        fs::write(&file, DRAFT).unwrap();
        let args = Args {
            file: file.clone(),
            update_hashes: false,
        };

        let first = run(&args).unwrap();
        let sealed = fs::read_to_string(&file).unwrap();
        let second = run(&args).unwrap();

        assert_eq!(first.json["changed"], true);
        assert_eq!(second.json["changed"], false);
        let without: String = sealed
            .lines()
            .filter(|line| !line.trim_start().starts_with("digest"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(without.trim_end(), DRAFT.trim_end());
    }

    #[test]
    fn a_draft_with_a_fault_is_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        fs::write(&file, DRAFT.replace("fs:read", "fs:raed")).unwrap();

        let error = run(&Args {
            file: file.clone(),
            update_hashes: false,
        })
        .unwrap_err();

        assert_eq!(error.exit(), Exit::No);
        assert!(!fs::read_to_string(&file).unwrap().contains("digest"));
    }

    #[test]
    fn what_is_not_utf_8_is_named_with_line_and_column() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        let latin = DRAFT.replace("a comment", "caf\u{e9}");
        let latin: Vec<u8> = latin.chars().map(|c| u8::try_from(c).unwrap()).collect();
        fs::write(&file, &latin).unwrap();
        let args = Args {
            file: file.clone(),
            update_hashes: false,
        };

        let error = run(&args).unwrap_err();

        assert_eq!(error.exit(), Exit::No);
        let told = crate::error::chain(&error);
        assert!(told.contains("line 1, column 6"), "{told}");
        assert_eq!(fs::read(&file).unwrap(), latin);
    }

    #[test]
    fn an_updated_pinned_file_is_declared_and_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let [program, library] = ["tool", "lib.so"].map(|name| dir.path().join(name));
        fs::write(&program, "").unwrap();
        fs::write(&library, "version 2").unwrap();
        let text = DRAFT.replace("/opt/tool/bin/tool", &program.to_string_lossy());
        let old = "0".repeat(64);
        let text = format!(
            "{text}\n[[envelope.capability]]\nname = \"code:load\"\njustification = \"a plugin\"\n\
             [[envelope.capability.file]]\npath = {library:?}\nsha256 = \"{old}\" # its hash\n"
        );
        let file = dir.path().join("x.toml");
        fs::write(&file, text).unwrap();
        let args = Args {
            file: file.clone(),
            update_hashes: true,
        };

        let answer = run(&args).unwrap();

        let hash = crate::artifact::digest::sha256_hex(b"version 2");
        let sealed = fs::read_to_string(&file).unwrap();
        assert!(sealed.contains(&format!("sha256 = \"{hash}\" # its hash")));
        assert_eq!(answer.json["updated"][&*library.to_string_lossy()], *hash);
        fs::remove_file(&library).unwrap();
        let error = run(&args).unwrap_err();
        assert!(crate::error::chain(&error).starts_with("The pinned file"));
    }

    #[test]
    fn an_updated_program_is_declared_and_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("tool");
        fs::write(&program, "version 2").unwrap();
        let text = DRAFT.replace("/opt/tool/bin/tool", &program.to_string_lossy());
        assert_ne!(text, DRAFT);
        let file = dir.path().join("x.toml");
        fs::write(&file, text).unwrap();
        let args = Args {
            file: file.clone(),
            update_hashes: true,
        };

        let answer = run(&args).unwrap();

        let hash = crate::artifact::digest::sha256_hex(b"version 2");
        assert!(fs::read_to_string(&file).unwrap().contains(&hash));
        assert_eq!(answer.json["updated"][&*program.to_string_lossy()], *hash);
        assert_eq!(run(&args).unwrap().json["changed"], false);
        fs::remove_file(&program).unwrap();
        assert_eq!(run(&args).unwrap_err().exit(), Exit::NotFound);
    }
}
