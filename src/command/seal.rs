//! `cartouche seal`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::{Answer, Error};
use crate::artifact::digest::seal;
use crate::artifact::draft::Draft;
use crate::atomic_write::atomic_write;
use crate::audit::printable;

/// Bind the envelope of a draft to its artifact: write or correct its digest
///
/// Comments, order and layout of the file stay. A draft with a fault is not changed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The draft
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<Answer, Error> {
    let path = &args.file;
    let read = Error::file("read", path);
    let text = fs::read_to_string(path).map_err(read)?;
    let name = path.to_string_lossy();
    let sealed = seal(&text, &name).map_err(|source| Error::Seal {
        path: path.clone(),
        source,
    })?;
    let changed = sealed != text;
    if changed {
        let examined = Error::file("examined", path);
        let mode = fs::metadata(path).map_err(examined)?.mode() & 0o777;
        // Through a link, what it leads to is written, not the link replaced.
        let real = fs::canonicalize(path).map_err(Error::file("found", path))?;
        atomic_write(&real, sealed.as_bytes(), mode)
            .map_err(|source| Error::NotWritten { source })?;
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
    let text = format!("{}: {done}, {digest}\n", printable(&name));
    let json = serde_json::json!({ "file": name, "changed": changed, "digest": digest });
    Answer::new(text, &json)
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
        let args = Args { file: file.clone() };

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

        let error = run(&Args { file: file.clone() }).unwrap_err();

        assert_eq!(error.exit(), Exit::No);
        assert!(!fs::read_to_string(&file).unwrap().contains("digest"));
    }
}
