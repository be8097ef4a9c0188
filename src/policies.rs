//! The two policies directories as one list: /etc over /usr/lib by file name, masks applied, leftovers of
//! editors and packages passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::admission::FileProblem;
use crate::config::Paths;
use crate::trusted_file::{Fault, TrustedDirectory};

/// One artifact file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    pub document: Result<Vec<u8>, FileProblem>,
    /// Whether it lies in /etc.
    pub administrator: bool,
    pub signature: bool,
    pub site_grants: BTreeSet<String>,
}

/// All artifact files at one moment.
#[derive(Debug, Default)]
pub struct Policies {
    /// By file name, without directories: all that were asked for.
    pub files: BTreeMap<String, PolicyFile>,
    /// The names of all that are there, asked for or not; masked ones only if they were not asked for.
    pub present: BTreeSet<String>,
    /// Directories that are there and could not be read, and why: what is missing here may still be there.
    pub unread: BTreeMap<String, String>,
    /// What was passed over and why, as sentences: by path.
    pub ignored: BTreeMap<String, String>,
}

impl Policies {
    /// Reads both directories, or of their files only those `wanted`. A missing one is empty; one that is
    /// not trusted gives no files, and why.
    pub fn read(paths: &Paths, wanted: Option<&BTreeSet<String>>) -> Self {
        let mut policies = Self::default();
        let mut masked = BTreeSet::new();
        policies.read_directory(&paths.policies(), true, paths.owner, &mut masked, wanted);
        policies.read_directory(
            &paths.shipped_policies(),
            false,
            paths.owner,
            &mut masked,
            wanted,
        );
        policies
    }

    fn read_directory(
        &mut self,
        path: &Path,
        administrator: bool,
        owner: u32,
        masked: &mut BTreeSet<String>,
        wanted: Option<&BTreeSet<String>>,
    ) {
        let directory = match TrustedDirectory::open(path, owner) {
            Ok(directory) => directory,
            Err(error) if matches!(error.fault, Fault::Vanished) => return,
            Err(error) => {
                self.unread
                    .insert(path.display().to_string(), error.to_string());
                return;
            }
        };
        let entries = match directory.names() {
            Ok(entries) => entries,
            Err(error) => {
                self.unread
                    .insert(path.display().to_string(), error.to_string());
                return;
            }
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            match entry.into_string() {
                Ok(name) => {
                    names.insert(name);
                }
                Err(entry) => {
                    self.ignored.insert(
                        path.join(entry).display().to_string(),
                        "Its name is not UTF-8".to_owned(),
                    );
                }
            }
        }
        for name in &names {
            if is_leftover(name) || belongs_to_artifact(name, &names) {
                continue;
            }
            if !name.ends_with(".toml") {
                self.ignored.insert(
                    path.join(name).display().to_string(),
                    "Its name does not end in .toml".to_owned(),
                );
                continue;
            }
            if masked.contains(name) || self.files.contains_key(name) {
                continue;
            }
            if wanted.is_some_and(|wanted| !wanted.contains(name)) {
                self.present.insert(name.clone());
                continue;
            }
            let document = match directory.read(name) {
                Ok(bytes) => Ok(bytes),
                Err(error) if matches!(error.fault, Fault::Masked) => {
                    masked.insert(name.clone());
                    continue;
                }
                Err(error) if matches!(error.fault, Fault::Vanished) => continue,
                Err(error) => Err(FileProblem::from(&error)),
            };
            let file = PolicyFile {
                document,
                administrator,
                signature: names.contains(&format!("{name}.minisig")),
                site_grants: site_grants(path, name),
            };
            self.present.insert(name.clone());
            self.files.insert(name.clone(), file);
        }
    }
}

/// What editors and package managers leave behind.
fn is_leftover(name: &str) -> bool {
    name.starts_with('.')
        || name.ends_with('~')
        || name
            .rsplit('.')
            .next()
            .is_some_and(|ending| ending.starts_with("dpkg-") || ending.starts_with("rpm"))
}

/// Signatures and site grants are read with their artifact; without one they are strangers.
fn belongs_to_artifact(name: &str, names: &BTreeSet<String>) -> bool {
    [".minisig", ".d"]
        .iter()
        .filter_map(|suffix| name.strip_suffix(suffix))
        .any(|artifact| artifact.ends_with(".toml") && names.contains(artifact))
}

fn site_grants(directory: &Path, name: &str) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(directory.join(format!("{name}.d"))) else {
        return BTreeSet::new();
    };
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !is_leftover(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn paths(root: &Path) -> Paths {
        let paths = Paths::under(root);
        fs::create_dir_all(paths.policies()).unwrap();
        fs::create_dir_all(paths.shipped_policies()).unwrap();
        paths
    }

    #[test]
    fn the_administrator_s_file_replaces_the_package_s_and_a_mask_removes_it() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        for name in ["a.toml", "b.toml", "c.toml"] {
            fs::write(paths.shipped_policies().join(name), "shipped").unwrap();
        }
        fs::write(paths.policies().join("a.toml"), "own").unwrap();
        symlink("/dev/null", paths.policies().join("b.toml")).unwrap();

        let policies = Policies::read(&paths, None);

        let names: Vec<_> = policies.files.keys().map(String::as_str).collect();
        assert_eq!(names, ["a.toml", "c.toml"]);
        assert_eq!(
            policies.files["a.toml"].document.as_deref(),
            Ok(&b"own"[..])
        );
        assert!(!policies.files["c.toml"].administrator);
    }

    #[test]
    fn only_what_is_wanted_is_read_but_all_that_is_there_is_named() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        fs::write(paths.policies().join("a.toml"), "a").unwrap();
        fs::write(paths.policies().join("b.toml"), "b").unwrap();
        let wanted = BTreeSet::from(["a.toml".to_owned(), "gone.toml".to_owned()]);

        let policies = Policies::read(&paths, Some(&wanted));

        assert_eq!(policies.files.keys().collect::<Vec<_>>(), ["a.toml"]);
        assert_eq!(policies.present.len(), 2);
    }

    #[test]
    fn leftovers_are_passed_over_in_silence_and_strangers_are_told() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        for name in [
            "a.toml~",
            ".a.toml.swp",
            "a.toml.dpkg-new",
            "a.toml.rpmsave",
            "notes.txt",
        ] {
            fs::write(paths.policies().join(name), "").unwrap();
        }

        let policies = Policies::read(&paths, None);

        assert!(policies.files.is_empty());
        assert_eq!(policies.ignored.len(), 1);
        assert!(
            policies
                .ignored
                .keys()
                .all(|path| path.ends_with("notes.txt"))
        );
    }

    #[test]
    fn a_name_that_is_no_text_and_a_directory_that_cannot_be_trusted_are_told() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::PermissionsExt;

        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        fs::write(paths.policies().join(OsStr::from_bytes(b"a\xff.toml")), "").unwrap();
        let read = Policies::read(&paths, None);
        fs::set_permissions(paths.policies(), fs::Permissions::from_mode(0o777)).unwrap();

        let untrusted = Policies::read(&paths, None);

        assert_eq!((read.ignored.len(), read.unread.len()), (1, 0));
        assert_eq!((untrusted.ignored.len(), untrusted.unread.len()), (0, 1));
    }

    #[test]
    fn a_signature_and_site_grants_are_seen_with_their_artifact() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        fs::write(paths.policies().join("a.toml"), "").unwrap();
        fs::write(paths.policies().join("a.toml.minisig"), "").unwrap();
        fs::create_dir(paths.policies().join("a.toml.d")).unwrap();
        fs::write(paths.policies().join("a.toml.d/more.toml"), "").unwrap();

        let policies = Policies::read(&paths, None);

        assert!(policies.files["a.toml"].signature);
        assert_eq!(policies.files["a.toml"].site_grants.len(), 1);
        assert!(policies.ignored.is_empty());
    }
}
