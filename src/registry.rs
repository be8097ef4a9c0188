//! What this node has admitted and revoked, kept across restarts and reboots: admitted.json, and the
//! inputs of every decision under their SHA-256.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::admission::{Effective, Part};
use crate::artifact::capability::Capability;
use crate::atomic_write::{self, atomic_write};
use crate::audit::Head;
use crate::config::Mode;
use crate::control::Listed;
use crate::plan::{self, FileKey, Plan};

/// The form of admitted.json.
const VERSION: u32 = 1;

/// All that must be known again after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    version: u32,
    /// What `cartouche list` shows while the daemon does not run.
    pub listed: Vec<Listed>,
    /// By id: admitted and revoked artifacts.
    pub artifacts: BTreeMap<String, Entry>,
    /// The newest record of the audit log when this was written: a log that ends before it was cut.
    #[serde(default = "Head::genesis")]
    pub audit_head: Head,
    /// What profiles mean, each once in memory.
    #[serde(skip)]
    shared: BTreeSet<Arc<Capability>>,
}

/// One artifact that was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The artifact file's name, without directories.
    pub file: String,
    /// SHA-256 of the file, under which it lies in inputs/.
    pub document: String,
    pub effective: Effective,
    /// Real paths of the interpreters that its executables need.
    pub loaders: BTreeSet<String>,
    /// By path: the pinned files as they were found.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub code: BTreeMap<String, FileKey>,
    pub mode: Mode,
    /// Seconds since 1970 at which the mode goes back to enforce.
    pub mode_until: Option<u64>,
    /// Set when its file went away; its program does not run.
    pub revoked: bool,
    /// Set while an administrator lets its tasks and programs be outside.
    #[serde(default)]
    pub released: bool,
    /// Claimed paths with the s_dev that they were claimed on.
    pub claims: BTreeSet<(u32, String)>,
}

impl Entry {
    /// What the kernel is to hold for it.
    pub fn plan(&self) -> Result<Plan, plan::Error> {
        Ok(Plan::compile(&self.effective, &self.loaders)?.pin(&self.code))
    }
}

/// Why the registry cannot be kept.
#[derive(Debug)]
pub enum Error {
    Unreadable {
        path: PathBuf,
        source: io::Error,
    },
    /// What was admitted is not known: nothing may be let go.
    Malformed {
        path: PathBuf,
        source: serde_json::Error,
    },
    OtherVersion {
        path: PathBuf,
        version: u32,
    },
    Unwritable {
        source: atomic_write::Error,
    },
    Unprintable {
        source: serde_json::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, .. } => write!(f, "{path:?} cannot be read"),
            Self::Malformed { path, .. } => write!(
                f,
                "{path:?} is damaged, so it is not known what was admitted and revoked; move it away \
                 to start with nothing admitted"
            ),
            Self::OtherVersion { path, version } => {
                write!(
                    f,
                    "{path:?} has the form {version}, which this build does not know"
                )
            }
            Self::Unwritable { .. } => f.write_str(
                "What is admitted could not be written down; a restart would not know it",
            ),
            Self::Unprintable { .. } => f.write_str("What is admitted could not be put into JSON"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Malformed { source, .. } | Self::Unprintable { source } => Some(source),
            Self::Unwritable { source } => Some(source),
            Self::OtherVersion { .. } => None,
        }
    }
}

impl Registry {
    /// Reads it, or begins an empty one.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let empty = Self {
            version: VERSION,
            listed: Vec::new(),
            artifacts: BTreeMap::new(),
            audit_head: Head::genesis(),
            shared: BTreeSet::new(),
        };
        let bytes = match fs::read(path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(empty),
            Err(source) => {
                let path = path.to_owned();
                return Err(Error::Unreadable { path, source });
            }
            Ok(bytes) => bytes,
        };
        let mut registry: Self =
            serde_json::from_slice(&bytes).map_err(|source| Error::Malformed {
                path: path.to_owned(),
                source,
            })?;
        if registry.version != VERSION {
            return Err(Error::OtherVersion {
                path: path.to_owned(),
                version: registry.version,
            });
        }
        for entry in registry.artifacts.values_mut() {
            share(&mut registry.shared, &mut entry.effective);
        }
        Ok(registry)
    }

    /// The files of all artifacts that are not revoked.
    pub fn files_in_force(&self) -> BTreeSet<&String> {
        self.artifacts
            .values()
            .filter(|entry| !entry.revoked)
            .map(|entry| &entry.file)
            .collect()
    }

    /// Puts an artifact in, in place of what was there under its id.
    pub fn insert(&mut self, id: &str, mut entry: Entry) {
        self.shared.retain(|one| Arc::strong_count(one) > 1);
        share(&mut self.shared, &mut entry.effective);
        self.artifacts.insert(id.to_owned(), entry);
    }

    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let bytes = serde_json::to_vec(self).map_err(|source| Error::Unprintable { source })?;
        atomic_write(path, &bytes, 0o600).map_err(|source| Error::Unwritable { source })
    }
}

/// Lets the capabilities that come from profiles be those that are `shared`.
fn share(shared: &mut BTreeSet<Arc<Capability>>, effective: &mut Effective) {
    for one in &mut effective.capabilities {
        if !one.origin.starts_with("profile:") {
            continue;
        }
        match shared.get(&one.capability) {
            Some(same) => one.capability = Arc::clone(same),
            None => {
                shared.insert(Arc::clone(&one.capability));
            }
        }
    }
}

/// The bytes that decisions were made from, each once, named by its SHA-256.
#[derive(Debug)]
pub struct Inputs {
    directory: PathBuf,
    known: BTreeSet<String>,
    /// By SHA-256: what is not on the disk yet.
    unstored: BTreeMap<String, Vec<u8>>,
}

impl Inputs {
    pub fn new(state: &Path) -> Self {
        Self {
            directory: state.join("inputs"),
            known: BTreeSet::new(),
            unstored: BTreeMap::new(),
        }
    }

    /// Keeps what was not there before, until [`Inputs::store`] writes it.
    pub fn take<'a>(&mut self, parts: impl IntoIterator<Item = Part<'a>>) {
        for part in parts {
            if !self.known.contains(part.sha256.as_ref()) {
                self.unstored
                    .entry(part.sha256.into_owned())
                    .or_insert_with(|| part.bytes.into_owned());
            }
        }
    }

    /// Writes what was taken, durably. What could not be written is tried again by the next call.
    pub fn store(&mut self) -> Result<(), Error> {
        if !self.unstored.is_empty() {
            fs::create_dir_all(&self.directory).map_err(|source| Error::Unreadable {
                path: self.directory.clone(),
                source,
            })?;
        }
        while let Some(entry) = self.unstored.first_entry() {
            let path = self.directory.join(entry.key());
            if !path.exists() {
                atomic_write(&path, entry.get(), 0o600)
                    .map_err(|source| Error::Unwritable { source })?;
            }
            self.known.insert(entry.remove_entry().0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::digest::sha256_hex;

    #[test]
    fn a_damaged_registry_is_an_error_and_a_missing_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admitted.json");
        assert!(Registry::open(&path).unwrap().artifacts.is_empty());
        fs::write(&path, "{").unwrap();

        let error = Registry::open(&path).unwrap_err();

        assert!(matches!(error, Error::Malformed { .. }));
    }

    #[test]
    fn an_input_is_stored_once_under_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let mut inputs = Inputs::new(dir.path());

        inputs.take([b"a", b"a", b"b"].map(|bytes| Part::of(bytes.as_slice())));
        inputs.store().unwrap();

        let stored = fs::read(dir.path().join("inputs").join(sha256_hex(b"a"))).unwrap();
        assert_eq!(stored, b"a");
        assert_eq!(fs::read_dir(dir.path().join("inputs")).unwrap().count(), 2);
    }
}
