//! Where Cartouche's files lie.

use std::path::{Path, PathBuf};

/// Where Cartouche's files lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// What the administrator writes.
    pub etc: PathBuf,
    /// What packages ship.
    pub lib: PathBuf,
    /// What outlives a reboot.
    pub state: PathBuf,
    /// What does not.
    pub run: PathBuf,
    /// The pins.
    pub bpffs: PathBuf,
    /// Where syslog listens.
    pub syslog: PathBuf,
    /// The user to whom the files must belong.
    pub owner: u32,
}

impl Default for Paths {
    fn default() -> Self {
        let mut paths = Self::under(Path::new("/"));
        paths.owner = 0;
        paths
    }
}

impl Paths {
    /// The same layout below another root, with files of this process's own user, for tests.
    pub fn under(root: &Path) -> Self {
        Self {
            etc: root.join("etc/cartouche"),
            lib: root.join("usr/lib/cartouche"),
            state: root.join("var/lib/cartouche"),
            run: root.join("run/cartouche"),
            bpffs: root.join("sys/fs/bpf/cartouche"),
            syslog: root.join("dev/log"),
            owner: rustix::process::geteuid().as_raw(),
        }
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.etc.join("cartouche.toml")
    }

    /// The administrator's artifacts.
    pub fn policies(&self) -> PathBuf {
        self.etc.join("policies.d")
    }

    /// The artifacts that packages ship.
    pub fn shipped_policies(&self) -> PathBuf {
        self.lib.join("policies.d")
    }

    /// What is admitted, revoked and audited.
    pub fn admitted(&self) -> PathBuf {
        self.state.join("admitted.json")
    }

    /// Where the daemon listens to the command.
    pub fn control(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// The posture report itself.
    pub fn report(&self) -> PathBuf {
        self.run.join("capabilities.json")
    }

    /// The link to the report that outlives a reboot, but leads nowhere after it.
    pub fn report_link(&self) -> PathBuf {
        self.state.join("capabilities.json")
    }
}
