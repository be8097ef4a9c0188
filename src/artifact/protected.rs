//! What no scope can grant, because an envelope that held it would be none.

use super::capability::Capability;
use super::kcap;
use super::pattern::Pattern;

/// Cartouche's own files, as subtrees: `/a` stands for `/a` and all below it. A rule that only contains
/// them is admitted; the plan carves them out.
pub const PATHS: [&str; 9] = [
    "/etc/cartouche",
    "/run/cartouche",
    "/sys/fs/bpf/cartouche",
    "/sys/fs/cgroup/system.slice/cartouched.service",
    "/usr/bin/cartouche",
    "/usr/lib/cartouche",
    "/usr/libexec/cartouche",
    "/usr/sbin/cartouched",
    "/var/lib/cartouche",
];

/// Whether `path` is one of Cartouche's own files.
pub fn is_protected(path: &str) -> bool {
    PATHS.iter().any(|own| {
        path.strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// What of `capability` can never be granted: rules that act on Cartouche's own files and Linux
/// capabilities that end every envelope.
pub fn never_grantable(capability: &Capability) -> Vec<String> {
    let own_files = capability
        .paths
        .iter()
        .filter(|path| capability.name.acts_on_paths() && is_protected(path.base()))
        .map(Pattern::to_string);
    let kcaps = capability
        .kcaps
        .iter()
        .filter(|name| kcap::is_never_grantable(name))
        .cloned();
    own_files.chain(kcaps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::capability::CapabilityName;

    fn with_path(name: CapabilityName, path: &str) -> Capability {
        let mut capability = Capability::new(name);
        capability.paths.insert(Pattern::parse(path).unwrap());
        capability
    }

    #[test]
    fn cartouche_s_own_files_are_altered_by_nobody() {
        for path in [
            "/etc/cartouche/**",
            "/etc/cartouche/scope.toml",
            "/usr/bin/cartouche*",
        ] {
            let capability = with_path(CapabilityName::FsWrite, path);

            assert_eq!(never_grantable(&capability), [path]);
        }
    }

    #[test]
    fn the_control_socket_is_nobody_s() {
        let capability = with_path(CapabilityName::IpcUnix, "/run/cartouche/control.sock");

        assert_eq!(never_grantable(&capability).len(), 1);
    }

    #[test]
    fn reading_them_and_writing_around_them_is_a_matter_of_scope() {
        for (name, path) in [
            (CapabilityName::FsRead, "/etc/cartouche/**"),
            (CapabilityName::FsWrite, "/etc/**"),
            (CapabilityName::FsCreate, "/etc/cartouche.d/x"),
            (CapabilityName::FsDelete, "/usr/bin/*"),
        ] {
            assert!(never_grantable(&with_path(name, path)).is_empty(), "{path}");
        }
    }

    #[test]
    fn linux_capabilities_that_open_every_envelope_are_refused() {
        let mut capability = Capability::new(CapabilityName::KernelCapability);
        capability.kcaps = ["CAP_CHOWN", "CAP_SYS_ADMIN"].map(str::to_owned).into();

        assert_eq!(never_grantable(&capability), ["CAP_SYS_ADMIN"]);
    }
}
