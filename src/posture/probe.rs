//! What the running kernel says of itself, read from plain files. Whether programs load and are
//! called, only loading them and the canary can tell.

use std::fs;
use std::path::Path;

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// The features of a kernel as its files show them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct System {
    /// As `uname -r` says; empty if unreadable.
    pub kernel_version: String,
    /// Empty if unreadable.
    pub boot_id: String,
    /// The active LSMs in their order; `None` if the list cannot be read.
    pub lsm: Option<Vec<String>>,
    /// Whether the kernel carries its own BTF.
    pub btf: bool,
    /// Whether it has bpf(2).
    pub bpf_syscall: bool,
    pub tracepoints: bool,
    /// Whether a cgroup2 hierarchy is mounted.
    pub cgroup_v2: bool,
    /// Whether the pin root, or the directory that it is made in, is on a bpffs.
    pub bpffs: bool,
    pub ima: bool,
    /// Whether the IMA policy has an appraise rule.
    pub ima_appraisal: bool,
}

impl System {
    /// Reads the files below `root` (`/`, or a test's tree); `pins` is where Cartouche pins.
    pub fn probe(root: &Path, pins: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        let line = |path| read(path).map(|text| text.trim().to_owned());
        let exists = |path: &str| root.join(path).exists();
        Self {
            kernel_version: line("proc/sys/kernel/osrelease").unwrap_or_default(),
            boot_id: line("proc/sys/kernel/random/boot_id").unwrap_or_default(),
            lsm: line("sys/kernel/security/lsm")
                .map(|list| list.split(',').map(str::to_owned).collect()),
            btf: exists("sys/kernel/btf/vmlinux"),
            // This knob exists exactly if the kernel was built with bpf(2).
            bpf_syscall: exists("proc/sys/kernel/unprivileged_bpf_disabled"),
            tracepoints: exists("sys/kernel/tracing/events")
                || exists("sys/kernel/debug/tracing/events"),
            cgroup_v2: read("proc/self/mountinfo").is_some_and(|text| mounts_cgroup2(&text)),
            bpffs: on_bpffs(pins) || pins.parent().is_some_and(on_bpffs),
            ima: exists("sys/kernel/security/ima"),
            ima_appraisal: read("sys/kernel/security/ima/policy")
                .is_some_and(|text| text.lines().any(is_appraise_rule)),
        }
    }

    /// Whether `bpf` is an active LSM; `None` if the list cannot be read.
    pub fn bpf_lsm(&self) -> Option<bool> {
        let list = self.lsm.as_ref()?;
        Some(list.iter().any(|name| name == "bpf"))
    }
}

/// In mountinfo the type follows the separator, because the fields before it are of any number.
fn mounts_cgroup2(mountinfo: &str) -> bool {
    mountinfo.lines().any(|line| {
        line.split_once(" - ")
            .and_then(|(_, after)| after.split(' ').next())
            == Some("cgroup2")
    })
}

/// `dont_appraise` is a rule too, but no such one.
fn is_appraise_rule(line: &str) -> bool {
    line.split_ascii_whitespace().next() == Some("appraise")
}

fn on_bpffs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type.cast_unsigned() == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn probe(files: &[(&str, &str)]) -> System {
        let root = tree(files);
        System::probe(root.path(), &root.path().join("sys/fs/bpf/cartouche"))
    }

    #[test]
    fn a_machine_without_any_of_it_has_none_of_it() {
        assert_eq!(probe(&[]), System::default());
        assert_eq!(probe(&[]).bpf_lsm(), None);
    }

    #[test]
    fn a_debian_kernel_is_read_as_it_is() {
        let system = probe(&[
            ("proc/sys/kernel/osrelease", "6.1.0-40-amd64\n"),
            ("proc/sys/kernel/random/boot_id", "5a5a\n"),
            ("proc/sys/kernel/unprivileged_bpf_disabled", "2\n"),
            (
                "sys/kernel/security/lsm",
                "lockdown,capability,yama,apparmor,bpf",
            ),
            ("sys/kernel/btf/vmlinux", ""),
            ("sys/kernel/tracing/events/header", ""),
            (
                "proc/self/mountinfo",
                "24 1 0:22 / /x - y rw - ext4 cgroup2 rw\n29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n",
            ),
        ]);

        assert_eq!(system.kernel_version, "6.1.0-40-amd64");
        assert_eq!(system.bpf_lsm(), Some(true));
        assert!(system.btf && system.bpf_syscall && system.tracepoints && system.cgroup_v2);
        assert!(!system.ima && !system.ima_appraisal);
        assert!(!system.bpffs, "a plain directory is no bpffs");
    }

    #[test]
    fn a_name_that_contains_bpf_is_not_bpf() {
        let system = probe(&[("sys/kernel/security/lsm", "capability,bpfx,xbpf\n")]);

        assert_eq!(system.bpf_lsm(), Some(false));
    }

    #[test]
    fn a_cgroup_v1_mount_is_not_a_cgroup2() {
        let line = "30 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup2 rw,cpu\n";

        assert!(!probe(&[("proc/self/mountinfo", line)]).cgroup_v2);
    }

    #[test]
    fn only_an_appraise_rule_is_appraisal() {
        let policy = "sys/kernel/security/ima/policy";
        let without = probe(&[(
            policy,
            "measure func=BPRM_CHECK\ndont_appraise fsmagic=0x9fa0\n",
        )]);
        let with = probe(&[(
            policy,
            "measure func=BPRM_CHECK\nappraise func=BPRM_CHECK\n",
        )]);

        assert!(without.ima && !without.ima_appraisal);
        assert!(with.ima_appraisal);
    }
}
