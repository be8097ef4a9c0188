//! Sees changes of files: the policies directories, the site's limits, the executables of artifacts. What
//! changed comes out as names; what it means is the node's.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_io::Async;
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

use crate::config::Paths;
use crate::site::{PROFILES, SCOPE};

/// Events within this time are one change: an editor that deletes and writes again does not revoke.
const QUIET: Duration = Duration::from_millis(10);

/// Room for events that are read at once, in bytes.
const BUFFER: usize = 64 << 10;

/// What changed since it was last asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Something cannot be told apart: everything is to be read again.
    pub everything: bool,
    /// The scope or a profile.
    pub site: bool,
    /// Names of artifact files, and paths of executables.
    pub touched: BTreeSet<String>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The watches and what they saw.
pub struct Watch {
    inotify: Inotify,
    ready: Async<OwnedFd>,
    paths: Paths,
    /// Executables by directory.
    executables: BTreeMap<String, BTreeSet<String>>,
    watched: BTreeMap<PathBuf, WatchDescriptor>,
    changes: Changes,
    due: Option<Instant>,
}

impl Watch {
    pub fn new(paths: &Paths) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let ready = Async::new_nonblocking(inotify.as_fd().try_clone_to_owned()?)?;
        let mut watch = Self {
            inotify,
            ready,
            paths: paths.clone(),
            executables: BTreeMap::new(),
            watched: BTreeMap::new(),
            changes: Changes::default(),
            due: None,
        };
        watch.renew();
        Ok(watch)
    }

    /// Watches the directories of these executables too, and no longer those of others.
    pub fn follow(&mut self, executables: BTreeMap<String, BTreeSet<String>>) {
        if self.executables != executables {
            self.executables = executables;
            self.renew();
        }
    }

    /// Returns once events are there to [`Watch::collect`].
    pub async fn readable(&self) -> io::Result<()> {
        self.ready.readable().await
    }

    /// Reads the events that wait. They are one change with those that follow soon.
    pub fn collect(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let mut seen: Vec<(WatchDescriptor, EventMask, Option<OsString>)> = Vec::new();
        loop {
            match self.inotify.read_events(&mut buffer) {
                Ok(events) => {
                    seen.extend(events.map(|event| {
                        (event.wd.clone(), event.mask, event.name.map(OsString::from))
                    }))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        for (descriptor, mask, name) in seen {
            self.take(&descriptor, mask, name);
        }
        if !self.changes.is_empty() {
            self.due.get_or_insert(Instant::now() + QUIET);
        }
        Ok(())
    }

    /// When the change is complete.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The complete change, if it is time.
    pub fn changes(&mut self, now: Instant) -> Option<Changes> {
        if self.due? > now {
            return None;
        }
        self.due = None;
        let changes = std::mem::take(&mut self.changes);
        if changes.everything {
            self.renew();
        }
        Some(changes)
    }

    fn take(&mut self, descriptor: &WatchDescriptor, mask: EventMask, name: Option<OsString>) {
        if mask.contains(EventMask::Q_OVERFLOW) {
            self.changes.everything = true;
            self.changes.site = true;
            return;
        }
        let directory = self
            .watched
            .iter()
            .find(|(_, watched)| *watched == descriptor)
            .map(|(directory, _)| directory.clone());
        let Some(directory) = directory else {
            return;
        };
        if mask.intersects(EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED) {
            self.watched.remove(&directory);
            self.changes.everything = true;
            return;
        }
        let Some(name) = name.and_then(|name| name.into_string().ok()) else {
            return;
        };
        let path = directory.join(&name);
        if mask.contains(EventMask::CREATE) && is_being_written(&path) {
            return;
        }
        self.classify(&directory, &name);
    }

    fn classify(&mut self, directory: &Path, name: &str) {
        let path = directory.join(name);
        if directory == self.paths.policies() || directory == self.paths.shipped_policies() {
            self.changes.touched.insert(artifact_of(name).to_owned());
        }
        if directory == self.paths.etc && name == SCOPE
            || self
                .profile_directories()
                .iter()
                .any(|profiles| directory == profiles)
        {
            self.changes.site = true;
        }
        if self
            .executables
            .get(directory.to_string_lossy().as_ref())
            .is_some_and(|names| names.contains(name))
        {
            self.changes
                .touched
                .insert(path.to_string_lossy().into_owned());
        }
        if self.wanted().iter().any(|wanted| wanted.starts_with(&path)) {
            self.changes.everything = true;
            self.changes.site = true;
        }
    }

    fn profile_directories(&self) -> [PathBuf; 2] {
        [self.paths.lib.join(PROFILES), self.paths.etc.join(PROFILES)]
    }

    /// The directories whose content matters.
    fn wanted(&self) -> BTreeSet<PathBuf> {
        let fixed = [
            self.paths.policies(),
            self.paths.shipped_policies(),
            self.paths.etc.clone(),
        ];
        fixed
            .into_iter()
            .chain(self.profile_directories())
            .chain(self.executables.keys().map(PathBuf::from))
            .collect()
    }

    /// Watches every wanted directory and its parent, or what exists above it, as they are now.
    pub fn renew(&mut self) {
        let mut targets = BTreeSet::new();
        for wanted in self.wanted() {
            let mut at = Some(wanted.as_path());
            while let Some(here) = at {
                at = here.parent();
                if here.is_dir() {
                    targets.insert(here.to_owned());
                    break;
                }
            }
            // the directory itself may be replaced
            if let Some(parent) = wanted.parent().filter(|parent| parent.is_dir()) {
                targets.insert(parent.to_owned());
            }
        }
        let gone: Vec<PathBuf> = self
            .watched
            .keys()
            .filter(|path| !targets.contains(*path))
            .cloned()
            .collect();
        for path in gone {
            if let Some(descriptor) = self.watched.remove(&path) {
                // already gone with its directory
                let _ = self.inotify.watches().remove(descriptor);
            }
        }
        let mask = WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        for path in targets {
            match self.inotify.watches().add(&path, mask) {
                Ok(descriptor) => {
                    self.watched.insert(path, descriptor);
                }
                // went away in between: its parent tells when it comes back
                Err(_) => self.changes.everything = self.watched.remove(&path).is_some(),
            }
        }
    }
}

/// The artifact that a file in a policies directory belongs to.
fn artifact_of(name: &str) -> &str {
    [".minisig", ".d"]
        .iter()
        .filter_map(|suffix| name.strip_suffix(suffix))
        .find(|artifact| artifact.ends_with(".toml"))
        .unwrap_or(name)
}

/// A regular file that was just created is read when it is closed. Links, fifos and the like are not
/// written, and never closed.
fn is_being_written(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn site() -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(paths.policies()).unwrap();
        (root, paths)
    }

    fn settle(watch: &mut Watch) -> Changes {
        for _ in 0..200 {
            std::thread::sleep(Duration::from_millis(2));
            watch.collect().unwrap();
            if let Some(changes) = watch.changes(Instant::now()) {
                return changes;
            }
        }
        Changes::default()
    }

    #[test]
    fn a_file_that_is_written_renamed_or_removed_is_named() {
        let (_root, paths) = site();
        let mut watch = Watch::new(&paths).unwrap();
        let file = paths.policies().join("a.toml");

        fs::write(&file, "x").unwrap();
        assert_eq!(
            settle(&mut watch).touched,
            BTreeSet::from(["a.toml".to_owned()])
        );
        fs::rename(&file, paths.policies().join("b.toml")).unwrap();
        let renamed = settle(&mut watch).touched;
        assert_eq!(
            renamed,
            BTreeSet::from(["a.toml".to_owned(), "b.toml".to_owned()])
        );
        fs::remove_file(paths.policies().join("b.toml")).unwrap();
        assert_eq!(
            settle(&mut watch).touched,
            BTreeSet::from(["b.toml".to_owned()])
        );
    }

    #[test]
    fn a_signature_touches_its_artifact() {
        let (_root, paths) = site();
        let mut watch = Watch::new(&paths).unwrap();

        fs::write(paths.policies().join("a.toml.minisig"), "x").unwrap();

        assert_eq!(
            settle(&mut watch).touched,
            BTreeSet::from(["a.toml".to_owned()])
        );
    }

    #[test]
    fn a_directory_that_is_replaced_or_made_later_is_read_whole_and_watched_again() {
        let (_root, paths) = site();
        let mut watch = Watch::new(&paths).unwrap();

        fs::rename(paths.policies(), paths.etc.join("old")).unwrap();
        fs::create_dir(paths.policies()).unwrap();
        assert!(settle(&mut watch).everything);
        fs::write(paths.policies().join("a.toml"), "x").unwrap();
        assert!(settle(&mut watch).touched.contains("a.toml"));
        fs::create_dir_all(paths.shipped_policies()).unwrap();
        assert!(settle(&mut watch).everything);
        while watch.due().is_some() {
            settle(&mut watch);
        }
        fs::write(paths.shipped_policies().join("b.toml"), "x").unwrap();
        assert!(settle(&mut watch).touched.contains("b.toml"));
    }

    #[test]
    fn an_executable_is_followed_and_its_neighbours_are_not() {
        let (root, paths) = site();
        let bin = root.path().join("opt/bin");
        fs::create_dir_all(&bin).unwrap();
        let mut watch = Watch::new(&paths).unwrap();
        let directory = bin.to_str().unwrap().to_owned();
        watch.follow(BTreeMap::from([(
            directory,
            BTreeSet::from(["tool".to_owned()]),
        )]));

        fs::write(bin.join("other"), "x").unwrap();
        fs::write(bin.join("tool"), "x").unwrap();

        let tool = bin.join("tool").to_str().unwrap().to_owned();
        assert_eq!(settle(&mut watch).touched, BTreeSet::from([tool]));
    }

    #[test]
    fn the_scope_and_profiles_are_the_site() {
        let (_root, paths) = site();
        let mut watch = Watch::new(&paths).unwrap();

        fs::write(paths.etc.join(SCOPE), "x").unwrap();

        assert!(settle(&mut watch).site);
    }
}
