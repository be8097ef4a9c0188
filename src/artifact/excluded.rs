//! System programs that no artifact may claim unless the site names them by exact path: a confined or
//! refused shell, login or package manager locks the administrator out.

use super::protected;

/// Recognised by the last component of the path, whatever its directory.
#[rustfmt::skip]
const PROGRAMS: &[&str] = &[
    // PID 1.
    "systemd", "systemd-executor", "init", "runit", "openrc-init", "busybox",
    // Shells, as /etc/shells lists them.
    "sh", "bash", "rbash", "dash", "ash", "zsh", "rzsh", "ksh", "ksh93", "rksh", "rksh93", "mksh",
    "mksh-static", "lksh", "fish", "csh", "bsd-csh", "tcsh", "yash", "nu", "pwsh", "screen", "tmux",
    // The ways in.
    "login", "su", "sudo", "su-rs", "sudo-rs", "doas", "pkexec", "runuser", "sshd", "sshd-session",
    "sshd-auth", "dropbear", "dropbearmulti", "getty", "agetty", "mingetty", "fgetty", "sulogin",
    // The system bus.
    "dbus-daemon", "dbus-broker", "dbus-broker-launch",
    // Package managers.
    "apt", "apt-get", "aptitude", "dpkg", "unattended-upgrade", "dnf", "dnf-3", "dnf5", "microdnf",
    "yum", "rpm", "rpm-ostree", "zypper", "pacman", "apk", "snap", "snapd", "flatpak", "packagekitd",
];

/// As above; a version such as `3.11` or `-3.0` may follow.
#[rustfmt::skip]
const INTERPRETERS: &[&str] = &[
    "awk", "gawk", "mawk", "original-awk", "beam.smp", "bun", "deno", "dotnet", "env", "escript",
    "expect", "guile", "java", "julia", "lua", "luajit", "mono", "mono-sgen", "node", "nodejs",
    "osh", "perl", "php", "pypy", "python", "R", "Rscript", "ruby", "tclsh", "wish",
];

/// Whether artifacts may claim `path` only where the site names it by exact path. Interpreters are
/// shared by every program that they run, so they are excluded unless a unit tells whose process it is.
pub fn is_excluded(path: &str, has_unit: bool) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    PROGRAMS.contains(&name)
        || is_shared_object(name)
        || protected::is_protected(path)
        || (!has_unit && INTERPRETERS.iter().any(|word| is_with_version(name, word)))
}

/// `ld.so`, `ld-linux-x86-64.so.2`, `libc.so.6`, `plugin.so`: some can be run, and all are mapped by others,
/// who must not be kept from it.
fn is_shared_object(name: &str) -> bool {
    name.ends_with(".so") || name.contains(".so.")
}

fn is_with_version(name: &str, word: &str) -> bool {
    name.strip_prefix(word).is_some_and(|rest| {
        rest.bytes()
            .all(|b| b.is_ascii_digit() || b == b'.' || b == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_lock_the_administrator_out_is_excluded() {
        for path in [
            "/usr/lib/systemd/systemd",
            "/usr/bin/bash",
            "/usr/bin/dash",
            "/usr/sbin/sshd",
            "/usr/bin/sudo",
            "/usr/sbin/agetty",
            "/usr/bin/dbus-daemon",
            "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
            "/usr/bin/dpkg",
            "/usr/bin/perl5.36.0",
            "/usr/bin/guile-3.0",
            "/usr/bin/python3.11",
            "/usr/sbin/cartouched",
            "/usr/libexec/cartouche/canary",
        ] {
            assert!(is_excluded(path, false), "{path}");
        }
    }

    #[test]
    fn programs_with_like_names_are_not() {
        for path in [
            "/usr/bin/node_exporter",
            "/usr/bin/prometheus-node-exporter",
            "/usr/bin/socat",
            "/usr/bin/python3-config",
            "/usr/bin/shellcheck",
            "/opt/ld-tool",
        ] {
            assert!(!is_excluded(path, false), "{path}");
        }
    }

    #[test]
    fn a_unit_tells_whose_interpreter_it_is() {
        assert!(!is_excluded("/usr/bin/python3.11", true));
        assert!(is_excluded("/usr/bin/bash", true));
    }
}
