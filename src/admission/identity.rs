//! Whether what lies at an executable's path is the declared program, and can be kept so.

use super::{BoundExecutable, ExecutableFacts, FoundFile};
use crate::artifact::draft::{Executable, PinnedCode, Verify};
use crate::event::Detail;

/// File systems on which the kernel's key of a file stays the file's, and its content stays put while
/// writes are refused. On others (overlays, snapshots, network) it does not.
const PINNABLE: [&str; 4] = ["ext4", "xfs", "tmpfs", "ramfs"];

/// An executable as declared, for a node that does not have it.
pub(super) fn declared(executable: &Executable) -> BoundExecutable {
    BoundExecutable {
        path: executable.path.clone(),
        sha256: executable.sha256.first().cloned().unwrap_or_default(),
        script: false,
        measured: executable.contents_to_measure(),
    }
}

const WRITTEN: &str = "some process has it open for writing";

fn is_written(facts: Option<&ExecutableFacts>) -> bool {
    facts.is_some_and(|facts| facts.written)
}

/// The file if it is the declared one and can be pinned, or will be measured, else why not.
pub(super) fn examine<'f>(
    executable: &Executable,
    facts: Option<&'f ExecutableFacts>,
) -> Result<&'f FoundFile, (Detail, String)> {
    let path = &executable.path;
    let Some(found) = facts.and_then(|facts| facts.found.as_ref()) else {
        return Err(match facts.and_then(|facts| facts.problem.as_ref()) {
            Some(problem) => (
                Detail::ExecutableUnreadable,
                format!("{path:?} could not be examined: {problem}"),
            ),
            None => (
                Detail::Waiting,
                format!("{path:?} does not exist; the artifact is admitted when it appears"),
            ),
        });
    };
    let refuse = |detail, message: String| Err((detail, format!("{path:?} {message}")));
    if !found.realpath_ok {
        let message = "is reached through a symbolic link; write the path of the file itself, as \
                       realpath(1) shows it";
        return refuse(Detail::ExecutableNotRealpath, message.to_owned());
    }
    if !found.regular {
        return refuse(
            Detail::ExecutableNotRegular,
            "is no regular file".to_owned(),
        );
    }
    if found.mode & 0o6000 != 0 {
        let message = "changes its user or group when run; remove its set-id bits";
        return refuse(Detail::ExecutableSetId, message.to_owned());
    }
    let measured = executable.verify == Verify::Measured;
    if !PINNABLE.contains(&found.filesystem.as_str()) && (!measured || found.script) {
        let message = match measured {
            false => format!(
                "lies on {}, where a file cannot be pinned; write verify = \"measured\", which has the kernel \
                 hash it at each exec, or move it to one of {}",
                found.filesystem,
                PINNABLE.join(", ")
            ),
            true => format!(
                "is a script, which its interpreter reads after it was measured, and lies on {}, where it \
                 may change in between; move it to one of {}",
                found.filesystem,
                PINNABLE.join(", ")
            ),
        };
        return refuse(Detail::ExecutableFilesystem, message);
    }
    if found.casefold {
        let message = "lies in a directory that takes names without regard to case, where other spellings \
                       of the name are not claimed; move it";
        return refuse(Detail::ExecutableFilesystem, message.to_owned());
    }
    if found.script && found.replaceable {
        let message = "is a script, which its interpreter opens by name, and others than root can put \
                       another file there; let root own it and every directory above it";
        return refuse(Detail::ExecutableReplaceable, message.to_owned());
    }
    if let Some(problem) = facts.and_then(|facts| facts.problem.as_ref()) {
        return refuse(
            Detail::ExecutableUnreadable,
            format!("cannot be pinned: {problem}"),
        );
    }
    if is_written(facts) && (!measured || found.script) {
        let message = format!("cannot be pinned: {WRITTEN}");
        return refuse(Detail::ExecutableUnreadable, message);
    }
    if !executable.sha256.contains(&found.sha256) {
        let message = format!(
            "has the content sha256 {}, which is not declared; if it is the wanted version, run \
             `cartouche seal --update-hashes` on the artifact",
            found.sha256
        );
        return refuse(Detail::ExecutableMismatch, message);
    }
    Ok(found)
}

/// The file if it is the declared one and can be kept from changing, else why not.
pub(super) fn examine_code<'f>(
    pinned: &PinnedCode,
    facts: Option<&'f ExecutableFacts>,
) -> Result<&'f FoundFile, (Detail, String)> {
    let path = &pinned.path;
    let problem = facts.and_then(|facts| facts.problem.as_ref());
    let Some(found) = facts.and_then(|facts| facts.found.as_ref()) else {
        return Err(match problem {
            Some(problem) => (
                Detail::CodeUnreadable,
                format!("{path:?} could not be examined: {problem}"),
            ),
            // as with a program: a package may bring it a moment later
            None => (
                Detail::Waiting,
                format!("{path:?} does not exist; the artifact is admitted when it appears"),
            ),
        });
    };
    let refuse = |detail, message: String| Err((detail, format!("{path:?} {message}")));
    if !found.realpath_ok {
        let message = "is reached through a symbolic link; pin the file itself, by the path that \
                       realpath(1) shows";
        return refuse(Detail::CodeNotRealpath, message.to_owned());
    }
    if !found.regular {
        return refuse(Detail::CodeNotRegular, "is no regular file".to_owned());
    }
    if !PINNABLE.contains(&found.filesystem.as_str()) {
        let message = format!(
            "lies on {}, where a file cannot be pinned; move it to one of {}, or declare it in paths",
            found.filesystem,
            PINNABLE.join(", ")
        );
        return refuse(Detail::CodeFilesystem, message);
    }
    if let Some(problem) = problem {
        return refuse(
            Detail::CodeUnreadable,
            format!("cannot be pinned: {problem}"),
        );
    }
    if is_written(facts) {
        return refuse(
            Detail::CodeUnreadable,
            format!("cannot be pinned: {WRITTEN}"),
        );
    }
    if pinned.sha256 != found.sha256 {
        let message = format!(
            "has the content sha256 {}, which is not declared; if it is the wanted version, run \
             `cartouche seal --update-hashes` on the artifact",
            found.sha256
        );
        return refuse(Detail::CodeMismatch, message);
    }
    Ok(found)
}
