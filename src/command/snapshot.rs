//! What was admitted when the daemon last said so, for when it does not run.

use std::fs;
use std::io;

use serde::Deserialize;

use super::Error;
use crate::config::Paths;
use crate::control::Listed;

/// The part of admitted.json that people ask about; the rest of it is the daemon's own.
#[derive(Debug, Deserialize)]
struct Snapshot {
    listed: Vec<Listed>,
}

/// The artifacts of admitted.json, if the daemon does not run and the file can be read; else the
/// error that kept the daemon from answering.
pub(super) fn artifacts(error: Error, paths: &Paths) -> Result<Vec<Listed>, Error> {
    if !matches!(error, Error::NotRunning { .. }) {
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
