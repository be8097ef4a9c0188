//! The directory that a program acts on, and what it looks like there and on this machine.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, lgetxattr, mknodat};

/// What programs would change of the whole machine.
const MACHINE: [&str; 8] = [
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/ctrl-alt-del",
    "/proc/sys/kernel/msgmax",
    "/proc/self/mountinfo",
    "/proc/swaps",
    "/proc/sysvipc/msg",
    "/proc/sysvipc/sem",
];

/// Sixteen bytes and more, all of which a program may read at once.
const CONTENT: &str = "the content of a file of the room";

/// Makes a directory and the files in it: `d/` a directory, `p|` a named pipe.
pub fn furnish(room: &str, files: &[String]) {
    fs::create_dir_all(room).unwrap();
    for name in files {
        let path = format!("{room}/{name}");
        if name.ends_with('/') {
            fs::create_dir(&path).unwrap();
        } else if let Some(path) = path.strip_suffix('|') {
            mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        } else {
            fs::write(&path, CONTENT).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        }
    }
}

/// How the room and the machine look; but for what a program may leave in it.
pub fn look(room: &str, leaves: &[String]) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    see(Path::new(room), &mut seen);
    for name in leaves {
        seen.remove(&format!("{room}/{name}"));
    }
    for path in MACHINE {
        let content = fs::read_to_string(path).unwrap_or_default();
        seen.insert(path.to_owned(), content);
    }
    seen
}

fn see(directory: &Path, seen: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let found = path.symlink_metadata().unwrap();
        let mut content = DefaultHasher::new();
        if found.is_dir() {
            // what is mounted is the machine's matter
            if found.dev() == directory.metadata().unwrap().dev() {
                see(&path, seen);
            }
        } else if found.is_file() {
            fs::read(&path).unwrap().hash(&mut content);
        }
        for attribute in ["user.sdtest", "trusted.sdtest"] {
            let mut value = [0; 64];
            let length = lgetxattr(&path, attribute, &mut value);
            length
                .ok()
                .map(|length| &value[..length])
                .hash(&mut content);
        }
        let look = format!(
            "{:o} {}:{} {} links, {} bytes, {:x}",
            found.mode(),
            found.uid(),
            found.gid(),
            found.nlink(),
            found.size(),
            content.finish()
        );
        seen.insert(path.to_str().unwrap().to_owned(), look);
    }
}
