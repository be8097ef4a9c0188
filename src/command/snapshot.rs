//! What was admitted when the daemon last said so, for when it does not run.

use std::fs;
use std::io;

use serde::Deserialize;

use super::Error;
use crate::config::Paths;
use crate::control::{self, Listed};

/// The part of admitted.json that people ask about; the rest of it is the daemon's own.
#[derive(Debug, Deserialize)]
struct Snapshot {
    listed: Vec<Listed>,
}

/// The artifacts of admitted.json, if the daemon does not run and the file can be read; else the
/// error that kept the daemon from answering.
pub(super) fn artifacts(error: Error, paths: &Paths) -> Result<Vec<Listed>, Error> {
    let silent = matches!(
        error,
        Error::Daemon {
            source: control::Error::NotRunning { .. }
        }
    );
    if !silent {
        return Err(error);
    }
    let path = paths.admitted();
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Error::file("read", &path)(source));
        }
        Err(_) => return Err(error),
    };
    let snapshot: Option<Snapshot> = serde_json::from_slice(&bytes).ok();
    snapshot.map(|snapshot| snapshot.listed).ok_or(error)
}

/// Whether nothing is pinned in the kernel, so that nothing is enforced without the daemon. Who may not look
/// does not know it.
pub(super) fn is_unpinned(paths: &Paths) -> bool {
    matches!(paths.bpffs.join("links").try_exists(), Ok(false))
}

/// Said before what is shown from it.
pub(super) fn note(paths: &Paths) -> &'static str {
    if is_unpinned(paths) {
        "The daemon is not running, and nothing of it is left in the kernel: nothing is enforced. When it\n\
         last was, this was in force:\n\n"
    } else {
        "The daemon is not running. When it last was, this was in force and still is if the machine was\n\
         not rebooted since:\n\n"
    }
}
