//! Acts of domain privilege: powers over the machine. Those that would succeed are chosen to do no harm:
//! they set what is set already, or fail for another reason than EPERM.

use std::mem::zeroed;

use libc::{AT_FDCWD, CLONE_NEWNS, CLONE_NEWUSER};

use crate::{Done, Errno, c, number, open, sys};

/// linux/mount.h, linux/keyctl.h, asm-generic/ioctls.h, linux/bpf.h, linux/userfaultfd.h, linux/kexec.h,
/// linux/fcntl.h
const OPEN_TREE_CLONE: u32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
const KEYCTL_DESCRIBE: i32 = 6;
const KEY_SPEC_USER_KEYRING: i32 = -4;
const KEY_SPEC_PROCESS_KEYRING: i32 = -2;
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;
const BPF_MAP_CREATE: i32 = 0;
const BPF_OBJ_GET: i32 = 7;
const BPF_PROG_GET_NEXT_ID: i32 = 11;
const BPF_MAP_GET_NEXT_ID: i32 = 12;
const BPF_MAP_GET_FD_BY_ID: i32 = 14;
const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;
const BPF_LINK_UPDATE: i32 = 29;
const BPF_LINK_DETACH: i32 = 34;
const USERFAULTFD_IOC_NEW: u64 = 0xaa00;
const KEXEC_FILE_UNLOAD: u64 = 1;
const F_SETLEASE: i32 = 1024;

pub fn perform(words: &[&str]) -> Option<Done> {
    Some(match words {
        ["mount", at] => mount("tmpfs", at, Some("tmpfs"), 0),
        ["mount-bind", from, at] => mount(from, at, None, libc::MS_BIND),
        ["remount", at] => mount("none", at, None, libc::MS_REMOUNT | libc::MS_RDONLY),
        ["mount-private", at] => mount("none", at, None, libc::MS_PRIVATE),
        ["mount-shared", at] => mount("none", at, None, libc::MS_SHARED | libc::MS_REC),
        ["mount-private-all", at] => mount("none", at, None, libc::MS_PRIVATE | libc::MS_REC),
        ["move-mount-old", from, to] => mount(from, to, None, libc::MS_MOVE),
        ["umount", at] => sys!(SYS_umount2, c(at).as_ptr(), libc::MNT_DETACH).map(drop),
        ["move-mount", from, to] => open_tree(from).and_then(|fd| move_mount(fd, to)),
        ["move-mount-opened", from, to] => {
            open(from, libc::O_PATH, 0).and_then(|fd| move_mount(fd, to))
        }
        ["fspick", at] => sys!(SYS_fspick, AT_FDCWD, c(at).as_ptr(), 0).map(drop),
        ["open-tree", from] => open_tree(from).map(drop),
        ["fsopen"] => sys!(SYS_fsopen, c"tmpfs".as_ptr(), 0).map(drop),
        ["mount-setattr", at] => {
            let attributes = [0_u64; 4];
            sys!(
                SYS_mount_setattr,
                AT_FDCWD,
                c(at).as_ptr(),
                0,
                attributes.as_ptr(),
                32
            )
            .map(drop)
        }
        ["pivot-root", new] => sys!(SYS_pivot_root, c(new).as_ptr(), c(new).as_ptr()).map(drop),
        ["chroot", to] => sys!(SYS_chroot, c(to).as_ptr()).map(drop),
        ["unshare-user"] => sys!(SYS_unshare, CLONE_NEWUSER).map(drop),
        // a user is the same one in the new namespace
        ["map-user", uid] => {
            let map = format!("{uid} {uid} 1");
            open("/proc/self/uid_map", libc::O_WRONLY, 0)
                .and_then(|fd| sys!(SYS_write, fd, map.as_ptr(), map.len()).map(drop))
        }
        ["unshare-user-mount"] => sys!(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS).map(drop),
        ["unshare-mount"] => sys!(SYS_unshare, CLONE_NEWNS).map(drop),
        ["unshare", namespace] => sys!(SYS_unshare, namespace_flag(namespace)).map(drop),
        ["setns", path] => {
            open(path, libc::O_RDONLY, 0).and_then(|fd| sys!(SYS_setns, fd, 0).map(drop))
        }
        ["setns-process"] => sys!(SYS_pidfd_open, std::process::id(), 0)
            .and_then(|fd| sys!(SYS_setns, fd, libc::CLONE_NEWUTS).map(drop)),
        ["bpf-map"] => bpf_map(),
        ["bpf-get", path] => bpf_get(path).map(drop),
        ["bpf-map-by-id", id] => map_by_id(number(id) as u32).map(drop),
        ["bpf-map-ids"] => map_ids(),
        ["bpf-link-update", path] => bpf_get(path).and_then(|link| {
            // no descriptor of a program
            let attributes = [link as u32, u32::MAX, 0, 0];
            sys!(SYS_bpf, BPF_LINK_UPDATE, attributes.as_ptr(), 16).map(drop)
        }),
        ["bpf-link-detach", path] => bpf_get(path).and_then(|link| {
            let attributes = [link as u32];
            sys!(SYS_bpf, BPF_LINK_DETACH, attributes.as_ptr(), 4).map(drop)
        }),
        ["bpf-ids"] => {
            let attributes = [0_u64; 2];
            sys!(SYS_bpf, BPF_PROG_GET_NEXT_ID, attributes.as_ptr(), 16).map(drop)
        }
        ["perf"] => perf(),
        ["io-uring"] => {
            let mut parameters = [0_u8; 120];
            sys!(SYS_io_uring_setup, 4, parameters.as_mut_ptr()).map(drop)
        }
        ["userfaultfd"] => sys!(SYS_userfaultfd, 1).map(drop), // UFFD_USER_MODE_ONLY
        ["userfaultfd-device"] => open("/dev/userfaultfd", libc::O_RDWR, 0)
            .and_then(|fd| sys!(SYS_ioctl, fd, USERFAULTFD_IOC_NEW, 0).map(drop)),
        ["finit-module", path] => open(path, libc::O_RDONLY, 0)
            .and_then(|fd| sys!(SYS_finit_module, fd, c"".as_ptr(), 0).map(drop)),
        ["init-module"] => sys!(SYS_init_module, c"x".as_ptr(), 1, c"".as_ptr()).map(drop),
        ["delete-module"] => sys!(SYS_delete_module, c"no-such-module".as_ptr(), 0).map(drop),
        ["kexec"] => sys!(SYS_kexec_load, 0, 0, 0, 0).map(drop),
        ["kexec-file"] => sys!(SYS_kexec_file_load, -1, -1, 0, 0, KEXEC_FILE_UNLOAD).map(drop),
        ["key-session"] => sys!(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0).map(drop),
        ["key-add"] => sys!(
            SYS_add_key,
            c"user".as_ptr(),
            c"cartouche".as_ptr(),
            c"1".as_ptr(),
            1,
            KEY_SPEC_PROCESS_KEYRING
        )
        .map(drop),
        ["key-describe"] => {
            sys!(SYS_keyctl, KEYCTL_DESCRIBE, KEY_SPEC_USER_KEYRING, 0, 0).map(drop)
        }
        ["sethostname"] => sys!(SYS_sethostname, c"cartouche".as_ptr(), 9).map(drop),
        ["raise-priority"] => sys!(SYS_setpriority, libc::PRIO_PROCESS, 0, -1).map(drop),
        ["set-groups"] => sys!(SYS_setgroups, 0, 0).map(drop),
        ["read-kernel-log"] => {
            let mut bytes = [0_u8; 8];
            sys!(SYS_syslog, 3, bytes.as_mut_ptr(), 8).map(drop)
        }
        ["reboot"] => sys!(
            SYS_reboot,
            libc::LINUX_REBOOT_MAGIC1,
            libc::LINUX_REBOOT_MAGIC2,
            libc::LINUX_REBOOT_CMD_CAD_OFF,
            0
        )
        .map(drop),
        ["swapon", path] => sys!(SYS_swapon, c(path).as_ptr(), 0).map(drop),
        ["set-clock"] => set_clock(),
        ["acct"] => sys!(SYS_acct, 0).map(drop),
        ["access-read", path] => access_without_effective(path),
        ["iopl"] => sys!(SYS_iopl, 3).map(drop),
        ["open-by-handle", path] => open_by_handle(path),
        ["drop-bounding"] => sys!(SYS_prctl, libc::PR_CAPBSET_DROP, 0, 0, 0, 0).map(drop),
        ["mark-packets"] => mark_packets(),
        ["wake-alarm"] => sys!(SYS_timerfd_create, libc::CLOCK_REALTIME_ALARM, 0).map(drop),
        ["hang-up"] => sys!(SYS_vhangup).map(drop),
        ["lease", path] => open(path, libc::O_RDONLY, 0)
            .and_then(|fd| sys!(SYS_fcntl, fd, F_SETLEASE, libc::F_RDLCK).map(drop)),
        ["file-capability", path] => file_capability(path),
        ["fanotify"] => sys!(SYS_fanotify_init, 0, 0).map(drop),
        ["terminal-inject"] => terminal(TIOCSTI),
        ["terminal-linux"] => terminal(TIOCLINUX),
        ["terminal-size"] => terminal(libc::TIOCGWINSZ),
        ["hold-terminal"] => hold_terminal(),
        ["mlock-unlimited"] => raise_limit(),
        ["bind-privileged", port] => {
            crate::perform(&["bind", "tcp", &format!("127.0.0.1:{}", number(port))])
        }
        _ => return None,
    })
}

fn mount(from: &str, at: &str, kind: Option<&str>, flags: u64) -> Done {
    let kind = kind.map(c);
    let kind = kind.as_ref().map_or(std::ptr::null(), |kind| kind.as_ptr());
    sys!(SYS_mount, c(from).as_ptr(), c(at).as_ptr(), kind, flags, 0).map(drop)
}

fn open_tree(from: &str) -> Result<i64, Errno> {
    sys!(SYS_open_tree, AT_FDCWD, c(from).as_ptr(), OPEN_TREE_CLONE)
}

fn move_mount(fd: i64, to: &str) -> Done {
    let empty = c"".as_ptr();
    sys!(
        SYS_move_mount,
        fd,
        empty,
        AT_FDCWD,
        c(to).as_ptr(),
        MOVE_MOUNT_F_EMPTY_PATH
    )
    .map(drop)
}

fn namespace_flag(name: &str) -> i32 {
    match name {
        "pid" => libc::CLONE_NEWPID,
        "net" => libc::CLONE_NEWNET,
        "uts" => libc::CLONE_NEWUTS,
        "ipc" => libc::CLONE_NEWIPC,
        "cgroup" => libc::CLONE_NEWCGROUP,
        "time" => 0x80, // CLONE_NEWTIME, linux/sched.h
        _ => panic!("no such namespace: {name}"),
    }
}

/// An array of one word: type, key size, value size, entries.
fn bpf_map() -> Done {
    let mut attributes = [0_u32; 18];
    attributes[..4].copy_from_slice(&[2, 4, 4, 1]);
    sys!(SYS_bpf, BPF_MAP_CREATE, attributes.as_ptr(), 72).map(drop)
}

fn bpf_get(path: &str) -> Result<i64, Errno> {
    let path = c(path);
    let attributes = [path.as_ptr() as u64, 0];
    sys!(SYS_bpf, BPF_OBJ_GET, attributes.as_ptr(), 16)
}

fn map_by_id(id: u32) -> Result<i64, Errno> {
    let attributes = [id, 0, 0, 0];
    sys!(SYS_bpf, BPF_MAP_GET_FD_BY_ID, attributes.as_ptr(), 16)
}

/// The names of all maps of which a descriptor is to be had.
fn map_ids() -> Done {
    let mut attributes = [0_u32; 4];
    while sys!(SYS_bpf, BPF_MAP_GET_NEXT_ID, attributes.as_mut_ptr(), 16).is_ok() {
        attributes[0] = attributes[1];
        let Ok(map) = map_by_id(attributes[0]) else {
            continue;
        };
        // struct bpf_map_info: six words, then the name
        let mut info = [0_u8; 128];
        let request = [map as u64 | 128 << 32, info.as_mut_ptr() as u64];
        sys!(SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, request.as_ptr(), 16)?;
        let name = info[24..40].split(|byte| *byte == 0).next().unwrap();
        println!("{}", String::from_utf8_lossy(name));
        sys!(SYS_close, map)?;
    }
    Ok(())
}

/// Counts its own page faults: allowed to everybody where perf_event_paranoid says so.
fn perf() -> Done {
    let mut attributes = [0_u8; 112];
    attributes[0] = 1; // PERF_TYPE_SOFTWARE
    attributes[4] = 112;
    attributes[8] = 2; // PERF_COUNT_SW_PAGE_FAULTS
    attributes[40] = 0b0110_0000; // exclude_kernel, exclude_hv
    sys!(SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0).map(drop)
}

fn set_clock() -> Done {
    let mut now: libc::timespec = unsafe { zeroed() };
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    sys!(SYS_clock_settime, libc::CLOCK_REALTIME, &raw const now).map(drop)
}

fn open_by_handle(path: &str) -> Done {
    let mut handle = [0_u32; 34];
    handle[0] = 128;
    let mut mount = 0_i32;
    sys!(
        SYS_name_to_handle_at,
        AT_FDCWD,
        c(path).as_ptr(),
        handle.as_mut_ptr(),
        &raw mut mount,
        0
    )?;
    let directory = open("/", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    sys!(
        SYS_open_by_handle_at,
        directory,
        handle.as_ptr(),
        libc::O_RDONLY
    )
    .map(drop)
}

fn mark_packets() -> Done {
    let fd = sys!(SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let mark = 1_i32;
    sys!(
        SYS_setsockopt,
        fd,
        libc::SOL_SOCKET,
        libc::SO_MARK,
        &raw const mark,
        4
    )
    .map(drop)
}

/// Puts away its effective capabilities: access(2) asks with those that root could have, and newer
/// kernels put on other credentials only where the two differ.
fn access_without_effective(path: &str) -> Done {
    let header = [0x2008_0522_u32, 0]; // _LINUX_CAPABILITY_VERSION_3, this thread
    let mut sets = [0_u32; 6];
    sys!(SYS_capget, header.as_ptr(), sets.as_mut_ptr())?;
    (sets[0], sets[3]) = (0, 0);
    sys!(SYS_capset, header.as_ptr(), sets.as_ptr())?;
    sys!(SYS_faccessat, AT_FDCWD, c(path).as_ptr(), libc::R_OK).map(drop)
}

/// CAP_CHOWN, to whoever runs it: VFS_CAP_REVISION_2 of linux/capability.h.
fn file_capability(path: &str) -> Done {
    let data = [0x0200_0001_u32, 1, 0, 0, 0];
    sys!(
        SYS_setxattr,
        c(path).as_ptr(),
        c"security.capability".as_ptr(),
        data.as_ptr(),
        size_of_val(&data),
        0
    )
    .map(drop)
}

/// On a terminal of its own: there, no Linux capability is asked for.
fn terminal(command: u64) -> Done {
    let (_, path) = own_terminal()?;
    let terminal = open(&path, libc::O_RDWR, 0)?;
    let mut argument = [b'x', 0, 0, 0, 0, 0, 0, 0];
    sys!(SYS_ioctl, terminal, command, argument.as_mut_ptr()).map(drop)
}

/// Tells its name, and types a line into it when a line comes on standard input.
fn hold_terminal() -> Done {
    let (master, path) = own_terminal()?;
    open(&path, libc::O_RDWR, 0)?;
    println!("{path}");
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|_| Errno::last())?;
    sys!(SYS_write, master, c"x\n".as_ptr(), 2).map(drop)
}

/// A new terminal: its master, and the name under which the first one that opens it has it as its
/// controlling one.
fn own_terminal() -> Result<(i64, String), Errno> {
    let master = open("/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY, 0)?;
    let unlock = 0_i32;
    sys!(SYS_ioctl, master, libc::TIOCSPTLCK, &raw const unlock)?;
    let mut number = 0_i32;
    sys!(SYS_ioctl, master, libc::TIOCGPTN, &raw mut number)?;
    sys!(SYS_setsid)?;
    Ok((master, format!("/dev/pts/{number}")))
}

fn raise_limit() -> Done {
    let mut limit: libc::rlimit = unsafe { zeroed() };
    sys!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, 0, &raw mut limit)?;
    limit.rlim_max += 1;
    sys!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, &raw const limit, 0).map(drop)
}
