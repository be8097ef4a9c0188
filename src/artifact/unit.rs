//! Names of systemd units, and those that no artifact may hold.

/// Most bytes of a name, UNIT_NAME_MAX of systemd less its NUL.
const LENGTH_MAX: usize = 255;

/// A confined or refused one of these locks the administrator out.
const EXCLUDED: &[&str] = &[
    "cartouched.service",
    "dbus.service",
    "dbus-broker.service",
    "ssh.service",
    "sshd.service",
    "dropbear.service",
    "console-getty.service",
    "emergency.service",
    "rescue.service",
    "polkit.service",
];

/// The same for all instances, or all names that begin so.
const EXCLUDED_PREFIXES: &[&str] = &[
    "autovt@",
    "container-getty@",
    "getty@",
    "serial-getty@",
    "ssh@",
    "sshd@",
    "systemd-",
    "user@",
    "user-runtime-dir@",
];

/// Whether a text has the form of a service's name; a template alone runs no process.
pub fn is_service(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".service") else {
        return false;
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":_.@\\-".contains(&byte);
    !stem.is_empty()
        && name.len() <= LENGTH_MAX
        && !stem.starts_with('@')
        && !stem.ends_with('@')
        && stem.bytes().all(allowed)
}

/// Whether no artifact may hold this unit.
pub fn is_excluded(name: &str) -> bool {
    EXCLUDED.contains(&name)
        || EXCLUDED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named_as_systemd_names_them() {
        for name in [
            "a.service",
            "prometheus-node-exporter.service",
            "a@b.service",
            "x\\x2dy.service",
        ] {
            assert!(is_service(name), "{name}");
        }
        let long = format!("{}.service", "a".repeat(250));
        for name in [
            "",
            ".service",
            "a",
            "a.socket",
            "a@.service",
            "@a.service",
            "a/b.service",
            "ä.service",
            &long,
        ] {
            assert!(!is_service(name), "{name}");
        }
    }

    #[test]
    fn the_ways_in_are_nobody_s() {
        for name in [
            "ssh.service",
            "getty@tty1.service",
            "systemd-journald.service",
            "cartouched.service",
            "user@0.service",
        ] {
            assert!(is_excluded(name), "{name}");
        }
        assert!(!is_excluded("nginx.service"));
    }
}
