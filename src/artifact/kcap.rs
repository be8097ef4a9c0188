//! Linux capabilities by name, from include/uapi/linux/capability.h, and those that no envelope holds.

/// In the order of their numbers, CAP_CHOWN = 0 to CAP_CHECKPOINT_RESTORE = 40.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// With one of these a task could leave any envelope.
const NEVER_GRANTABLE: [&str; 9] = [
    "CAP_BPF",
    // names any file it can open as its own executable (PR_SET_MM)
    "CAP_CHECKPOINT_RESTORE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_SYS_ADMIN",
    "CAP_SYS_MODULE",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
];

pub fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// The name that is meant by one in other letters, or without `CAP_`.
pub fn spelled(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    NAMES
        .into_iter()
        .find(|known| *known == name || known.strip_prefix("CAP_") == Some(&name))
}

/// Its number in the kernel.
pub fn number(name: &str) -> Option<u32> {
    let place = NAMES.iter().position(|known| *known == name)?;
    u32::try_from(place).ok()
}

pub fn is_never_grantable(name: &str) -> bool {
    NEVER_GRANTABLE.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernel_s() {
        assert_eq!(number("CAP_SYS_ADMIN"), Some(21));
        assert_eq!(number("CAP_BPF"), Some(39));
        assert_eq!(number("CAP_NONE"), None);
    }

    #[test]
    fn a_name_in_other_letters_is_known() {
        assert_eq!(spelled("cap_net_raw"), Some("CAP_NET_RAW"));
        assert_eq!(spelled("NET_RAW"), Some("CAP_NET_RAW"));
        assert_eq!(spelled("CAP_NONE"), None);
    }

    #[test]
    fn what_is_never_grantable_exists() {
        assert!(NEVER_GRANTABLE.iter().all(|name| is_known(name)));
    }
}
