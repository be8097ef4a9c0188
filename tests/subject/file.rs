//! Acts of domain file: opening, changing, creating, deleting and moving.

use std::mem::zeroed;

use libc::{AT_FDCWD, AT_SYMLINK_FOLLOW};

use crate::{Done, Errno, c, number, open, sys};

/// linux/fs.h
const FS_IOC_GETFLAGS: u64 = 0x8008_6601;
const FS_IOC_SETFLAGS: u64 = 0x4008_6602;
const FS_IOC_FSGETXATTR: u64 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u64 = 0x401c_5820;
const FS_IMMUTABLE_FL: u64 = 0x10;
const FS_NODUMP_FL: u64 = 0x40;
/// asm-generic/fcntl.h: what execve opens with; no business of open().
const FMODE_EXEC: i32 = 0x20;

const XATTR: &str = "user.cartouche";

pub fn perform(words: &[&str]) -> Option<Done> {
    Some(match words {
        ["ioctl", path, command] => {
            let nothing = [0_u64; 1024];
            open(path, libc::O_RDONLY, 0)
                .and_then(|fd| sys!(SYS_ioctl, fd, number(command), nothing.as_ptr()).map(drop))
        }
        ["open-read", path] => open(path, libc::O_RDONLY | libc::O_NONBLOCK, 0).map(drop),
        ["open-write", path] => open(path, libc::O_WRONLY | libc::O_NONBLOCK, 0).map(drop),
        ["open-both", path] => open(path, libc::O_RDWR | libc::O_NONBLOCK, 0).map(drop),
        ["open-truncate", path] => open(path, libc::O_RDONLY | libc::O_TRUNC, 0).map(drop),
        ["open-as-exec", path] => open(path, libc::O_RDONLY | FMODE_EXEC, 0).map(drop),
        ["open-path", path] => open(path, libc::O_PATH, 0).map(drop),
        ["open-write-only", path] => open(path, libc::O_ACCMODE, 0).map(drop),
        ["read", path] => read(path),
        ["create", path] => {
            open(path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o644).map(drop)
        }
        ["open-create", path] => open(path, libc::O_RDWR | libc::O_CREAT, 0o644).map(drop),
        ["create-truncate", path] => {
            let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
            open(path, flags, 0o644).and_then(|fd| sys!(SYS_ftruncate, fd, 10).map(drop))
        }
        ["create-mode", mode, path] => {
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
            open(path, flags, number(mode) as u32).map(drop)
        }
        ["readdir", path] => read_directory(path),
        ["mkdir", path] => sys!(SYS_mkdirat, AT_FDCWD, c(path).as_ptr(), 0o755).map(drop),
        ["rmdir", path] => {
            sys!(SYS_unlinkat, AT_FDCWD, c(path).as_ptr(), libc::AT_REMOVEDIR).map(drop)
        }
        ["unlink", path] => sys!(SYS_unlinkat, AT_FDCWD, c(path).as_ptr(), 0).map(drop),
        ["symlink", to, path] => {
            sys!(SYS_symlinkat, c(to).as_ptr(), AT_FDCWD, c(path).as_ptr()).map(drop)
        }
        ["link", from, to] => link(from, to, 0),
        ["link-opened", from, to] => open(from, libc::O_PATH, 0)
            .and_then(|fd| link(&format!("/proc/self/fd/{fd}"), to, AT_SYMLINK_FOLLOW)),
        ["rename", from, to] => rename(from, to, 0),
        ["rename-exchange", from, to] => rename(from, to, libc::RENAME_EXCHANGE),
        ["rename-new", from, to] => rename(from, to, libc::RENAME_NOREPLACE),
        ["mkfifo", path] => make_node(path, libc::S_IFIFO | 0o644, 0),
        ["mkfifo-mode", mode, path] => make_node(path, libc::S_IFIFO | number(mode) as u32, 0),
        ["mksocket", path] => make_node(path, libc::S_IFSOCK | 0o644, 0),
        ["mkchar", path] => make_node(path, libc::S_IFCHR | 0o644, libc::makedev(1, 3)),
        ["mkwhiteout", path] => make_node(path, libc::S_IFCHR, 0),
        ["mkblock", path] => make_node(path, libc::S_IFBLK | 0o644, libc::makedev(7, 0)),
        ["truncate", path] => sys!(SYS_truncate, c(path).as_ptr(), 1).map(drop),
        ["ftruncate", path] => {
            open(path, libc::O_WRONLY, 0).and_then(|fd| sys!(SYS_ftruncate, fd, 1).map(drop))
        }
        ["fallocate", path] => {
            open(path, libc::O_WRONLY, 0).and_then(|fd| sys!(SYS_fallocate, fd, 0, 0, 16).map(drop))
        }
        ["memfd-truncate"] => sys!(SYS_memfd_create, c"m".as_ptr(), 0)
            .and_then(|fd| sys!(SYS_ftruncate, fd, 10).map(drop)),
        ["deleted-truncate", path] => deleted(path, |fd| sys!(SYS_ftruncate, fd, 10).map(drop)),
        ["deleted-reopen", path] => deleted(path, |fd| reopen(fd, libc::O_RDWR)),
        ["reopen-write", path] => {
            open(path, libc::O_RDONLY, 0).and_then(|fd| reopen(fd, libc::O_WRONLY))
        }
        ["reopen-path", path] => {
            open(path, libc::O_PATH, 0).and_then(|fd| reopen(fd, libc::O_RDONLY))
        }
        ["memfd-reopen"] => {
            sys!(SYS_memfd_create, c"m".as_ptr(), 0).and_then(|fd| reopen(fd, libc::O_RDWR))
        }
        ["pipe-reopen"] => pipe().and_then(|ends| reopen(ends[0].into(), libc::O_RDONLY)),
        ["chmod", mode, path] => {
            sys!(SYS_fchmodat, AT_FDCWD, c(path).as_ptr(), number(mode)).map(drop)
        }
        ["fchmod", mode, path] => open(path, libc::O_RDONLY, 0)
            .and_then(|fd| sys!(SYS_fchmod, fd, number(mode)).map(drop)),
        ["chown", id, path] => sys!(
            SYS_fchownat,
            AT_FDCWD,
            c(path).as_ptr(),
            number(id),
            number(id),
            0
        )
        .map(drop),
        ["utimes", path] => sys!(SYS_utimensat, AT_FDCWD, c(path).as_ptr(), 0, 0).map(drop),
        ["futimes", path] => {
            open(path, libc::O_RDONLY, 0).and_then(|fd| sys!(SYS_utimensat, fd, 0, 0, 0).map(drop))
        }
        ["setxattr", path] => sys!(
            SYS_setxattr,
            c(path).as_ptr(),
            c(XATTR).as_ptr(),
            c"1".as_ptr(),
            1,
            0
        )
        .map(drop),
        ["fsetxattr", path] => open(path, libc::O_RDONLY, 0).and_then(|fd| {
            sys!(SYS_fsetxattr, fd, c(XATTR).as_ptr(), c"1".as_ptr(), 1, 0).map(drop)
        }),
        ["removexattr", path] => {
            sys!(SYS_removexattr, c(path).as_ptr(), c(XATTR).as_ptr()).map(drop)
        }
        ["setacl", path] => set_acl(path),
        ["removeacl", path] => sys!(
            SYS_removexattr,
            c(path).as_ptr(),
            c"system.posix_acl_access".as_ptr()
        )
        .map(drop),
        ["setflags", path] => set_flags(path, FS_NODUMP_FL),
        ["immutable", path] => set_flags(path, FS_IMMUTABLE_FL),
        ["fssetxattr", path] => set_project(path),
        ["otmpfile", directory] => nameless(directory).map(drop),
        ["otmpfile-mode", mode, directory] => {
            let flags = libc::O_TMPFILE | libc::O_RDWR;
            open(directory, flags, number(mode) as u32).map(drop)
        }
        ["inotify", path] => sys!(SYS_inotify_init1, 0).and_then(|fd| {
            sys!(
                SYS_inotify_add_watch,
                fd,
                c(path).as_ptr(),
                libc::IN_ALL_EVENTS
            )
            .map(drop)
        }),
        ["otmpfile-link", directory, path] => nameless(directory)
            .and_then(|fd| link(&format!("/proc/self/fd/{fd}"), path, AT_SYMLINK_FOLLOW)),
        ["otmpfile-reopen", directory] => {
            nameless(directory).and_then(|fd| reopen(fd, libc::O_RDWR))
        }
        ["lock-shared", path] => lock(path, libc::O_RDONLY, libc::LOCK_SH),
        ["lock-exclusive", path] => lock(path, libc::O_RDONLY, libc::LOCK_EX),
        ["lock-created", path] => lock(path, libc::O_RDONLY | libc::O_CREAT, libc::LOCK_EX),
        ["lock-written", path] => lock(path, libc::O_WRONLY, libc::LOCK_EX),
        ["lock-range", path] => lock_range(path),
        ["memfd-lock"] => sys!(SYS_memfd_create, c"m".as_ptr(), 0)
            .and_then(|fd| reopened(fd, libc::O_RDONLY))
            .and_then(|fd| sys!(SYS_flock, fd, libc::LOCK_EX).map(drop)),
        // a pair of terminals, through which a word goes
        ["own-terminal"] => own_terminal(),
        // huge pages: without a name, and as a memory file
        ["huge-pages"] => huge_pages(
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB,
            -1,
        ),
        ["huge-memfd"] => {
            let size = HUGE as i64;
            sys!(SYS_memfd_create, c"huge".as_ptr(), libc::MFD_HUGETLB)
                .and_then(|fd| sys!(SYS_ftruncate, fd, size).map(|_| fd))
                .and_then(|fd| huge_pages(libc::MAP_SHARED, fd))
        }
        ["carry", from, to, name] => carry(from, to, name),
        _ => return None,
    })
}

fn read(path: &str) -> Done {
    let fd = open(path, libc::O_RDONLY | libc::O_NONBLOCK, 0)?;
    let mut bytes = [0_u8; 64];
    sys!(SYS_read, fd, bytes.as_mut_ptr(), bytes.len()).map(drop)
}

fn read_directory(path: &str) -> Done {
    let fd = open(path, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let mut bytes = [0_u8; 4096];
    sys!(SYS_getdents64, fd, bytes.as_mut_ptr(), bytes.len()).map(drop)
}

fn link(from: &str, to: &str, flags: i32) -> Done {
    sys!(
        SYS_linkat,
        AT_FDCWD,
        c(from).as_ptr(),
        AT_FDCWD,
        c(to).as_ptr(),
        flags
    )
    .map(drop)
}

fn rename(from: &str, to: &str, flags: u32) -> Done {
    sys!(
        SYS_renameat2,
        AT_FDCWD,
        c(from).as_ptr(),
        AT_FDCWD,
        c(to).as_ptr(),
        flags
    )
    .map(drop)
}

fn make_node(path: &str, mode: u32, device: u64) -> Done {
    sys!(SYS_mknodat, AT_FDCWD, c(path).as_ptr(), mode, device).map(drop)
}

/// Opens what is open already, by its link in /proc.
fn reopen(fd: i64, flags: i32) -> Done {
    reopened(fd, flags).map(drop)
}

fn reopened(fd: i64, flags: i32) -> Result<i64, Errno> {
    open(&format!("/proc/self/fd/{fd}"), flags, 0)
}

fn lock(path: &str, flags: i32, kind: i32) -> Done {
    let fd = open(path, flags, 0o644)?;
    sys!(SYS_flock, fd, kind | libc::LOCK_NB)?;
    sys!(SYS_close, fd).map(drop)
}

/// All of a file, as fcntl locks it.
fn lock_range(path: &str) -> Done {
    let fd = open(path, libc::O_RDWR, 0)?;
    let mut range: libc::flock = unsafe { zeroed() };
    range.l_type = libc::F_WRLCK as libc::c_short;
    sys!(SYS_fcntl, fd, libc::F_SETLK, &raw const range)?;
    sys!(SYS_close, fd).map(drop)
}

/// Opens a file for reading and writing, deletes it, and goes on with the descriptor.
fn deleted(path: &str, act: impl Fn(i64) -> Done) -> Done {
    let fd = open(path, libc::O_RDWR, 0)?;
    sys!(SYS_unlinkat, AT_FDCWD, c(path).as_ptr(), 0)?;
    act(fd)
}

fn nameless(directory: &str) -> Result<i64, Errno> {
    open(directory, libc::O_TMPFILE | libc::O_RDWR, 0o644)
}

pub fn pipe() -> Result<[i32; 2], Errno> {
    let mut ends = [0; 2];
    crate::returned(i64::from(unsafe { libc::pipe(ends.as_mut_ptr()) })).map(|_| ends)
}

/// An access list of one more user than the mode names; linux/posix_acl_xattr.h.
fn set_acl(path: &str) -> Done {
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 4, 1000),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 4, u32::MAX),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let name = c"system.posix_acl_access";
    sys!(
        SYS_setxattr,
        c(path).as_ptr(),
        name.as_ptr(),
        list.as_ptr(),
        list.len(),
        0
    )
    .map(drop)
}

fn set_flags(path: &str, more: u64) -> Done {
    let fd = open(path, libc::O_RDONLY, 0)?;
    let mut flags = 0_u64;
    sys!(SYS_ioctl, fd, FS_IOC_GETFLAGS, &raw mut flags)?;
    flags |= more;
    sys!(SYS_ioctl, fd, FS_IOC_SETFLAGS, &raw const flags).map(drop)
}

fn set_project(path: &str) -> Done {
    let fd = open(path, libc::O_RDONLY, 0)?;
    let mut attributes: [u8; 28] = unsafe { zeroed() };
    sys!(SYS_ioctl, fd, FS_IOC_FSGETXATTR, attributes.as_mut_ptr())?;
    sys!(SYS_ioctl, fd, FS_IOC_FSSETXATTR, attributes.as_ptr()).map(drop)
}

/// Moves a directory with a descriptor on it, then opens a file below that descriptor.
fn carry(from: &str, to: &str, name: &str) -> Done {
    let directory = open(from, libc::O_PATH | libc::O_DIRECTORY, 0)?;
    rename(from, to, 0)?;
    sys!(SYS_openat, directory, c(name).as_ptr(), libc::O_RDONLY, 0).map(drop)
}

/// openpty(3).
fn own_terminal() -> Done {
    let mut ends = [0_i32; 2];
    let [here, there] = &mut ends;
    let null = std::ptr::null_mut();
    if unsafe { libc::openpty(here, there, null, null.cast(), null.cast()) } != 0 {
        return Err(Errno::last());
    }
    let mut word = [0_u8; 2];
    sys!(SYS_write, ends[0], c"a\n".as_ptr(), 2)?;
    sys!(SYS_read, ends[1], word.as_mut_ptr(), 2).map(drop)
}

/// One huge page of x86-64.
const HUGE: usize = 2 << 20;

fn huge_pages(flags: i32, descriptor: i64) -> Done {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let page = sys!(SYS_mmap, 0, HUGE, protection, flags, descriptor, 0)?;
    unsafe { *(page as *mut u8) = 1 };
    Ok(())
}
