//! What the site laid down for all artifacts: its profiles over the shipped ones, and its scope.

use std::fmt;
use std::path::Path;

use crate::artifact::problem::Problems;
use crate::artifact::profile::ProfileSet;
use crate::artifact::scope::Scope;
use crate::config::Paths;
use crate::trusted_file::{self, Fault, TrustedDirectory};

/// The name of the scope file in /etc/cartouche.
pub const SCOPE: &str = "scope.toml";

/// The directory of profiles in /etc/cartouche and /usr/lib/cartouche.
pub const PROFILES: &str = "profiles.d";

/// What admission takes from the site.
#[derive(Debug, Clone)]
pub struct Site {
    pub profiles: ProfileSet,
    pub scope: Scope,
    /// Profiles that were left out, as sentences: what needs them is rejected.
    pub problems: Vec<String>,
}

/// Why nothing can be admitted on this site.
#[derive(Debug)]
pub enum Error {
    /// The scope or a directory could not be read, or others than root may have written it.
    Unreadable { source: trusted_file::Error },
    /// The scope is none; without it nothing limits what artifacts are granted.
    Scope { source: Problems },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { .. } => f.write_str("What the site laid down could not be read"),
            Self::Scope { .. } => {
                f.write_str("The scope is not valid; nothing is admitted under it")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source } => Some(source),
            Self::Scope { source } => Some(source),
        }
    }
}

impl Site {
    /// Reads /etc/cartouche/scope.toml, or takes the shipped scope, and the profiles: those built in,
    /// those of packages, those of the administrator; a later one replaces an earlier of its name.
    pub fn read(paths: &Paths) -> Result<Self, Error> {
        let scope = match file(&paths.etc, SCOPE, paths.owner)? {
            Some(bytes) => Scope::parse(&bytes, SCOPE),
            None => Scope::shipped(),
        };
        let mut files: Vec<_> = ProfileSet::shipped()
            .iter()
            .map(|(name, profile)| (format!("{name}.toml"), profile.source.clone().into_bytes()))
            .collect();
        let mut problems = Vec::new();
        for dir in [&paths.lib, &paths.etc] {
            files.extend(profiles(&dir.join(PROFILES), paths.owner, &mut problems)?);
        }
        let (profiles, broken) = ProfileSet::load(files);
        problems.extend(broken.iter().map(ToString::to_string));
        Ok(Self {
            profiles,
            scope: scope.map_err(|source| Error::Scope { source })?,
            problems,
        })
    }
}

fn open(path: &Path, owner: u32) -> Result<Option<TrustedDirectory>, Error> {
    match TrustedDirectory::open(path, owner) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if matches!(error.fault, Fault::Vanished) => Ok(None),
        Err(source) => Err(Error::Unreadable { source }),
    }
}

fn file(dir: &Path, name: &str, owner: u32) -> Result<Option<Vec<u8>>, Error> {
    let Some(dir) = open(dir, owner)? else {
        return Ok(None);
    };
    match dir.read(name) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.fault, Fault::Vanished) => Ok(None),
        Err(source) => Err(Error::Unreadable { source }),
    }
}

/// The profile files of a directory. One that cannot be read is given as empty, so that it replaces
/// what it stands for and artifacts that need it are rejected.
fn profiles(
    path: &Path,
    owner: u32,
    problems: &mut Vec<String>,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let Some(dir) = open(path, owner)? else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    for name in dir.names().map_err(|source| Error::Unreadable { source })? {
        let name = name.to_string_lossy().into_owned();
        if !name.ends_with(".toml") || name.starts_with('.') {
            continue;
        }
        match dir.read(&name) {
            Ok(bytes) => files.push((name, bytes)),
            Err(error) => {
                problems.push(error.to_string());
                files.push((name, Vec::new()));
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PROFILE: &str = "schema_version = \"1.0.0\"\ndescription = \"ours\"\n[[capability]]\nname = \"fs:read\"\npaths = [\"/srv/**\"]\n";

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let paths = Paths::under(root.path());
        (root, paths)
    }

    #[test]
    fn an_empty_site_has_the_shipped_scope_and_profiles() {
        let (_root, paths) = root(&[]);

        let site = Site::read(&paths).unwrap();

        assert_eq!(site.scope, Scope::shipped().unwrap());
        assert_eq!(site.profiles, ProfileSet::shipped());
        assert_eq!(site.problems, [""; 0]);
    }

    #[test]
    fn the_administrator_s_profile_replaces_the_packages_and_the_built_in_one() {
        let other = PROFILE.replace("ours", "theirs");
        let (_root, paths) = root(&[
            ("usr/lib/cartouche/profiles.d/base.toml", &other),
            ("usr/lib/cartouche/profiles.d/db.toml", &other),
            ("etc/cartouche/profiles.d/base.toml", PROFILE),
        ]);

        let site = Site::read(&paths).unwrap();

        assert_eq!(site.profiles.get("base").unwrap().description, "ours");
        assert_eq!(site.profiles.get("db").unwrap().description, "theirs");
        assert!(site.profiles.get("tls").is_some());
    }

    #[test]
    fn a_broken_profile_is_gone_and_told_but_a_broken_scope_is_fatal() {
        let (_root, paths) = root(&[("etc/cartouche/profiles.d/base.toml", "description = 1")]);
        let site = Site::read(&paths).unwrap();
        assert!(site.profiles.get("base").is_none());
        assert_eq!(site.problems.len(), 1);

        let (_root, paths) = root(&[("etc/cartouche/scope.toml", "schema_version = \"9\"")]);
        assert!(matches!(Site::read(&paths), Err(Error::Scope { .. })));
    }
}
