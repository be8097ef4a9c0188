//! The directories of pins, and the swap of one generation of programs for the next without a gap.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::Error;
use crate::bpf::link::pinned;

/// Where maps and links are pinned; below it `links` is in force.
pub const PIN_ROOT: &str = "/sys/fs/bpf/cartouche";
/// The root of the unified cgroup hierarchy, where the network programs hang.
pub const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// The links in force.
pub fn links(root: &Path) -> PathBuf {
    root.join("links")
}

/// Makes the pin root if it is not there, readable for root only.
pub fn prepare(root: &Path) -> Result<(), Error> {
    match fs::DirBuilder::new().mode(0o700).create(root) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(failed(root, source)),
        _ => fs::set_permissions(root, fs::Permissions::from_mode(0o700))
            .map_err(|source| failed(root, source)),
    }
}

/// Fills `links_next` with `fill`, puts it in the place of `links` in one step, and then lets the old
/// programs go. Whatever fails or dies on the way, the old ones stay in force.
pub fn replace(root: &Path, fill: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let (links, next) = (links(root), root.join("links_next"));
    remove(&next)?;
    create(&next)?;
    if let Err(error) = fill(&next) {
        // the old programs are in force; the error that counts is the first one
        let _ = remove(&next);
        return Err(error);
    }
    if !links.exists() {
        create(&links)?;
    }
    renameat_with(CWD, &next, CWD, &links, RenameFlags::EXCHANGE)
        .map_err(|source| failed(&links, source.into()))?;
    remove(&next)
}

/// Unpins everything: the programs are detached first, then the tables go. The only way in which pins in force
/// are removed.
pub fn remove_all(root: &Path) -> Result<(), Error> {
    remove_with(&links(root), detach)?;
    remove_with(&root.join("links_next"), detach)?;
    remove(root)
}

/// Removes a pin; if it is one of a link, its program is called no more afterwards.
fn detach(path: &Path) -> io::Result<()> {
    let link = pinned(path);
    fs::remove_file(path)?;
    drop(link);
    Ok(())
}

/// Unpins everything in a directory. Programs detach some time later.
pub fn remove(directory: &Path) -> Result<(), Error> {
    remove_with(directory, |path| fs::remove_file(path))
}

fn remove_with(directory: &Path, unpin: impl Fn(&Path) -> io::Result<()>) -> Result<(), Error> {
    let entries = match fs::read_dir(directory) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(directory, source)),
        Ok(entries) => entries,
    };
    for entry in entries {
        let path = entry.map_err(|source| failed(directory, source))?.path();
        unpin(&path).map_err(|source| failed(&path, source))?;
    }
    fs::remove_dir(directory).map_err(|source| failed(directory, source))
}

fn create(directory: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .mode(0o700)
        .create(directory)
        .map_err(|source| failed(directory, source))
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Pin {
        path: path.to_owned(),
        source,
    }
}
