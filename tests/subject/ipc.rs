//! Acts of domain ipc: signals, tracing, unix sockets, descriptors from others.

use std::mem::zeroed;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr::null_mut;

use libc::{AF_UNIX, SOCK_DGRAM, SOCK_STREAM};

use crate::network::unix_address;
use crate::process::exit_status;
use crate::{Done, Errno, number, sys};

/// asm-generic/fcntl.h, ioctls.h, sockios.h, linux/fcntl.h, ptrace.h
const DN_CREATE: i32 = 4;
const F_SETOWN_EX: i32 = 15;
const F_SETSIG: i32 = 10;
const FIOASYNC: u64 = 0x5452;
const FIOSETOWN: u64 = 0x8901;
const PTRACE_SEIZE: u64 = 0x4206;
const PTRACE_TRACEME: u64 = 0;

pub fn perform(words: &[&str]) -> Option<Done> {
    Some(match words {
        ["kill", pid] => sys!(SYS_kill, number(pid), libc::SIGUSR1).map(drop),
        ["signal", pid, signal] => sys!(SYS_kill, number(pid), number(signal)).map(drop),
        ["kill-0", pid] => sys!(SYS_kill, number(pid), 0).map(drop),
        ["kill-all"] => sys!(SYS_kill, -1, libc::SIGUSR1).map(drop),
        ["kill-self"] => sys!(SYS_kill, own_pid(), 0).map(drop),
        ["kill-parent"] => sys!(SYS_kill, parent(), 0).map(drop),
        // a child that runs a program, and has said a line
        ["signal-child", program @ ..] => signal_child(program),
        ["kill-child"] => kill_child(),
        ["tgkill", pid] => sys!(SYS_tgkill, number(pid), number(pid), 0).map(drop),
        ["pidfd-signal", pid] => sys!(SYS_pidfd_open, number(pid), 0)
            .and_then(|fd| sys!(SYS_pidfd_send_signal, fd, 0, 0, 0).map(drop)),
        ["pidfd-getfd", pid] => sys!(SYS_pidfd_open, number(pid), 0)
            .and_then(|fd| sys!(SYS_pidfd_getfd, fd, 0, 0).map(drop)),
        ["ptrace", pid] => sys!(SYS_ptrace, PTRACE_SEIZE, number(pid), 0, 0).map(drop),
        ["ptrace-child"] => ptrace_child(),
        ["traceme"] => sys!(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0).map(drop),
        ["vm-read", pid] => vm_read(number(pid)),
        ["prlimit", pid] => set_limit(number(pid)),
        ["renice", pid] => sys!(SYS_setpriority, libc::PRIO_PROCESS, number(pid), 1).map(drop),
        ["renice-user", uid] => sys!(SYS_setpriority, libc::PRIO_USER, number(uid), 1).map(drop),
        ["set-scheduler", pid] => {
            let priority = 0_i32;
            sys!(
                SYS_sched_setscheduler,
                number(pid),
                libc::SCHED_BATCH,
                &raw const priority
            )
            .map(drop)
        }
        ["set-attributes", pid] => {
            // size, SCHED_OTHER, no flags, nice 1: linux/sched/types.h
            let attributes = [48_u32, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
            sys!(SYS_sched_setattr, number(pid), attributes.as_ptr(), 0).map(drop)
        }
        ["set-group-self"] => sys!(SYS_setpgid, 0, 0).map(drop),
        ["set-group-child"] => with_child(|child| sys!(SYS_setpgid, child, child).map(drop)),
        ["set-group-children"] => with_child(|first| {
            sys!(SYS_setpgid, first, first)?;
            with_child(|second| sys!(SYS_setpgid, second, first).map(drop))
        }),
        ["join-group", group] => sys!(SYS_setpgid, 0, number(group)).map(drop),
        ["set-affinity", pid] => {
            let processors = [u64::MAX; 16];
            let size = size_of_val(&processors);
            sys!(
                SYS_sched_setaffinity,
                number(pid),
                size,
                processors.as_ptr()
            )
            .map(drop)
        }
        // best effort, in the middle
        ["set-ioprio", pid] => sys!(SYS_ioprio_set, 1, number(pid), (2 << 13) | 4).map(drop),
        ["setown", pid] => {
            on_socket(|fd| sys!(SYS_fcntl, fd, libc::F_SETOWN, number(pid)).map(drop))
        }
        ["setown-self"] => on_socket(|fd| sys!(SYS_fcntl, fd, libc::F_SETOWN, own_pid()).map(drop)),
        ["setown-other", pid] => {
            let owner = [1_i32, number(pid) as i32]; // F_OWNER_PID
            on_socket(|fd| sys!(SYS_fcntl, fd, F_SETOWN_EX, owner.as_ptr()).map(drop))
        }
        ["setsig"] => on_socket(|fd| sys!(SYS_fcntl, fd, F_SETSIG, libc::SIGIO).map(drop)),
        ["set-async"] => on_socket(set_async),
        ["ioctl-set-async"] => on_socket(ioctl_set_async),
        ["own-and-set-async"] => on_socket(|fd| {
            sys!(SYS_fcntl, fd, libc::F_SETOWN, own_pid())?;
            sys!(SYS_fcntl, fd, F_SETSIG, libc::SIGRTMIN())?;
            set_async(fd)
        }),
        // a descriptor's signal to a process; 0: its default one
        ["signal-by-descriptor", pid, signal] => Owned::socket()
            .and_then(|owned| owned.give(number(pid), number(signal)).map(|()| owned))
            .and_then(|owned| owned.happens()),
        // which this process makes itself the owner of, and waits for
        ["signal-oneself", signal] => signal_oneself(number(signal) as i32),
        // a child makes itself the owner and then becomes a program, which says a line and waits. Once it is
        // signalled: ok if that ends it, else EPERM
        ["signal-what-becomes", "socket", signal, how @ ..] => {
            signal_what_becomes(Owned::socket(), signal, how)
        }
        ["signal-what-becomes", "lease", path, signal, how @ ..] => {
            signal_what_becomes(Owned::file(path), signal, how)
        }
        ["signal-what-becomes", "directory", path, signal, how @ ..] => {
            signal_what_becomes(Owned::directory(path), signal, how)
        }
        // of what is standard input
        ["setown-input", pid] => sys!(SYS_fcntl, 0, libc::F_SETOWN, number(pid)).map(drop),
        ["set-async-input"] => set_async(0),
        ["ioctl-set-async-input"] => ioctl_set_async(0),
        ["set-killing-input"] => sys!(SYS_fcntl, 0, F_SETSIG, libc::SIGKILL).map(drop),
        ["ioctl-setown", pid] => {
            let owner = number(pid) as i32;
            on_socket(|fd| sys!(SYS_ioctl, fd, FIOSETOWN, &raw const owner).map(drop))
        }
        ["unix-connect", name] => connect(name, SOCK_STREAM),
        ["unix-seqpacket", name] => connect(name, libc::SOCK_SEQPACKET),
        ["unix-send", name] => send_to(name),
        ["unix-bind", name] => bound(name, SOCK_STREAM).map(drop),
        ["unix-bind-datagram", name] => bound(name, SOCK_DGRAM).map(drop),
        ["unix-self-unnamed"] => connect_unnamed(),
        ["unix-serve", name] => bound(name, SOCK_STREAM)
            .and_then(|fd| sys!(SYS_listen, fd, 8).map(drop))
            .and_then(|()| crate::perform(&["up", "await", "/no such file"])),
        // with zeros to the end of the address, which are part of an abstract name
        ["unix-serve-padded", name] => serve_padded(name),
        ["unix-connect-padded", name] => connect_padded(name),
        ["unix-self", name] => bound(name, SOCK_STREAM)
            .and_then(|fd| sys!(SYS_listen, fd, 8).map(drop))
            .and_then(|()| connect(name, SOCK_STREAM)),
        ["unix-send-self", name] => bound(name, SOCK_DGRAM).and_then(|_| send_to(name)),
        ["unix-pair"] => pair(SOCK_STREAM),
        ["unix-pair-datagram"] => pair(SOCK_DGRAM),
        // on the socket that is standard input
        ["receive"] => receive(0),
        // its own sockets, the last one accepted, by way of another of its sockets
        ["pass-sockets", at] => pass_sockets(at),
        _ => return None,
    })
}

fn own_pid() -> i64 {
    i64::from(std::process::id())
}

fn parent() -> i64 {
    i64::from(unsafe { libc::getppid() })
}

fn kill_child() -> Done {
    with_child(|_| Ok(()))
}

fn signal_child(program: &[&str]) -> Done {
    let mut child = std::process::Command::new(program[0])
        .args(&program[1..])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .map_err(|_| Errno::last())?;
    let mut line = String::new();
    if let Some(output) = &mut child.stdout {
        let _ = std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line);
    }
    print!("{line}");
    sys!(SYS_kill, child.id(), libc::SIGTERM).map(drop)
}

/// Does something to a child that waits, and kills it.
fn with_child(act: impl Fn(i32) -> Done) -> Done {
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            unsafe { libc::pause() };
        }
    }
    let done = act(child);
    sys!(SYS_kill, child, libc::SIGKILL)?;
    let mut status = 0;
    sys!(SYS_wait4, child, &raw mut status, 0, 0)?;
    done
}

fn ptrace_child() -> Done {
    let child = unsafe { libc::fork() };
    if child == 0 {
        let traced = sys!(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
        unsafe { libc::_exit(traced.map_or_else(|errno| errno.0, |_| 0)) }
    }
    exit_status(child.into())
}

fn vm_read(pid: i64) -> Done {
    let mut bytes = [0_u8; 8];
    let here = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: 8,
    };
    let there = libc::iovec {
        iov_base: null_mut(),
        iov_len: 8,
    };
    sys!(
        SYS_process_vm_readv,
        pid,
        &raw const here,
        1,
        &raw const there,
        1,
        0
    )
    .map(drop)
}

fn set_limit(pid: i64) -> Done {
    let mut limit: libc::rlimit = unsafe { zeroed() };
    sys!(SYS_prlimit64, pid, libc::RLIMIT_CORE, 0, &raw mut limit)?;
    sys!(SYS_prlimit64, pid, libc::RLIMIT_CORE, &raw const limit, 0).map(drop)
}

fn on_socket(act: impl Fn(i64) -> Done) -> Done {
    let mut ends = [0_i32; 2];
    sys!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, ends.as_mut_ptr())?;
    act(ends[0].into())
}

/// A descriptor that can have an owner, and what makes it signal that one.
enum Owned {
    Socket([i32; 2]),
    File(i64, String),
    Directory(i64, String),
}

impl Owned {
    fn socket() -> Result<Self, Errno> {
        let mut ends = [0_i32; 2];
        sys!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, ends.as_mut_ptr())?;
        Ok(Self::Socket(ends))
    }

    fn file(path: &str) -> Result<Self, Errno> {
        let fd = crate::open(path, libc::O_RDONLY, 0)?;
        Ok(Self::File(fd, path.to_owned()))
    }

    fn directory(path: &str) -> Result<Self, Errno> {
        let fd = crate::open(path, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
        // it is watched until the watcher closes it
        sys!(SYS_fcntl, fd, libc::F_SETFD, 0)?;
        Ok(Self::Directory(fd, path.to_owned()))
    }

    /// Makes a process the owner; of files only this one.
    fn give(&self, pid: i64, signal: i64) -> Done {
        match self {
            Self::Socket([fd, _]) => {
                sys!(SYS_fcntl, *fd, libc::F_SETOWN, pid)?;
                sys!(SYS_fcntl, *fd, F_SETSIG, signal)?;
                set_async((*fd).into())
            }
            Self::File(fd, _) => {
                sys!(SYS_fcntl, *fd, F_SETSIG, signal)?;
                sys!(SYS_fcntl, *fd, libc::F_SETLEASE, libc::F_RDLCK).map(drop)
            }
            Self::Directory(fd, _) => {
                sys!(SYS_fcntl, *fd, F_SETSIG, signal)?;
                sys!(SYS_fcntl, *fd, libc::F_NOTIFY, DN_CREATE).map(drop)
            }
        }
    }

    fn happens(&self) -> Done {
        match self {
            Self::Socket([_, peer]) => sys!(SYS_write, *peer, c"x".as_ptr(), 1).map(drop),
            Self::File(_, path) => {
                match crate::open(path, libc::O_WRONLY | libc::O_NONBLOCK, 0) {
                    // it waits for the lease
                    Err(Errno(libc::EAGAIN)) | Ok(_) => Ok(()),
                    Err(errno) => Err(errno),
                }
            }
            Self::Directory(_, path) => {
                let made = format!("{path}/{}", std::process::id());
                crate::open(&made, libc::O_CREAT | libc::O_WRONLY, 0o600).map(drop)
            }
        }
    }
}

fn signal_oneself(signal: i32) -> Done {
    let expected = if signal == 0 { libc::SIGIO } else { signal };
    let mut set: libc::sigset_t = unsafe { zeroed() };
    unsafe {
        libc::sigaddset(&raw mut set, expected);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, null_mut());
    }
    let owned = Owned::socket()?;
    owned.give(own_pid(), signal.into())?;
    owned.happens()?;
    let patience = libc::timespec {
        tv_sec: 2,
        tv_nsec: 0,
    };
    let got = unsafe { libc::sigtimedwait(&raw const set, null_mut(), &raw const patience) };
    crate::returned(got.into()).map(drop)
}

fn signal_what_becomes(owned: Result<Owned, Errno>, signal: &str, how: &[&str]) -> Done {
    let owned = owned?;
    let mut line = [0_i32; 2];
    crate::returned(i64::from(unsafe { libc::pipe(line.as_mut_ptr()) }))?;
    let child = crate::returned(unsafe { libc::fork() }.into())?;
    if child == 0 {
        let done = sys!(SYS_dup2, line[1], 1)
            // nobody waits for what it holds of its parent's
            .and_then(|_| sys!(SYS_dup2, line[1], 2))
            .and_then(|_| sys!(SYS_close, line[1]))
            .and_then(|_| owned.give(own_pid(), number(signal)))
            .and_then(|()| crate::perform(how));
        unsafe { libc::_exit(done.map_or_else(|errno| errno.0, |()| 0)) }
    }
    sys!(SYS_close, line[1])?;
    let mut said = [0_u8; 3];
    if sys!(SYS_read, line[0], said.as_mut_ptr(), said.len())? == 0 {
        return exit_status(child);
    }
    owned.happens()?;
    std::thread::sleep(std::time::Duration::from_millis(200));
    let mut status = 0;
    match sys!(SYS_wait4, child, &raw mut status, libc::WNOHANG, 0)? {
        0 => Err(Errno(libc::EPERM)),
        _ if libc::WIFSIGNALED(status) => Ok(()),
        _ => Err(Errno(libc::ECHILD)),
    }
}

fn set_async(fd: i64) -> Done {
    let flags = sys!(SYS_fcntl, fd, libc::F_GETFL, 0)?;
    sys!(SYS_fcntl, fd, libc::F_SETFL, flags | libc::O_ASYNC as i64).map(drop)
}

fn ioctl_set_async(fd: i64) -> Done {
    let on = 1_i32;
    sys!(SYS_ioctl, fd, FIOASYNC, &raw const on).map(drop)
}

fn connect(name: &str, kind: i32) -> Done {
    let fd = sys!(SYS_socket, AF_UNIX, kind, 0)?;
    let (address, length) = unix_address(name);
    sys!(SYS_connect, fd, &raw const address, length).map(drop)
}

fn send_to(name: &str) -> Done {
    let fd = sys!(SYS_socket, AF_UNIX, SOCK_DGRAM, 0)?;
    let (address, length) = unix_address(name);
    sys!(
        SYS_sendto,
        fd,
        c"hello".as_ptr(),
        5,
        0,
        &raw const address,
        length
    )
    .map(drop)
}

fn bound(name: &str, kind: i32) -> Result<i64, Errno> {
    let fd = sys!(SYS_socket, AF_UNIX, kind, 0)?;
    let (address, length) = unix_address(name);
    sys!(SYS_bind, fd, &raw const address, length).map(|_| fd)
}

fn serve_padded(name: &str) -> Done {
    let fd = sys!(SYS_socket, AF_UNIX, SOCK_STREAM, 0)?;
    let (address, _) = unix_address(name);
    sys!(SYS_bind, fd, &raw const address, size_of_val(&address))?;
    sys!(SYS_listen, fd, 8)?;
    crate::perform(&["up", "await", "/no such file"])
}

fn connect_padded(name: &str) -> Done {
    let fd = sys!(SYS_socket, AF_UNIX, SOCK_STREAM, 0)?;
    let (address, _) = unix_address(name);
    sys!(SYS_connect, fd, &raw const address, size_of_val(&address)).map(drop)
}

/// Binds without a name, and connects to the one that came of it.
fn connect_unnamed() -> Done {
    let fd = bound("", SOCK_STREAM)?;
    sys!(SYS_listen, fd, 8)?;
    let (mut address, _) = unix_address("");
    let mut length = size_of_val(&address) as libc::socklen_t;
    sys!(SYS_getsockname, fd, &raw mut address, &raw mut length)?;
    let other = sys!(SYS_socket, AF_UNIX, SOCK_STREAM, 0)?;
    sys!(SYS_connect, other, &raw const address, length).map(drop)
}

fn pair(kind: i32) -> Done {
    let mut ends = [0_i32; 2];
    sys!(SYS_socketpair, AF_UNIX, kind, 0, ends.as_mut_ptr())?;
    sys!(SYS_sendto, ends[0], c"hello".as_ptr(), 5, 0, 0, 0).map(drop)
}

/// Without the descriptor the message comes all the same, cut: EBADF here.
fn receive(from: i64) -> Done {
    let mut byte = [0_u8; 1];
    let mut control = [0_u64; 8];
    let mut vector = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    sys!(SYS_recvmsg, from, &raw mut message, 0)?;
    if message.msg_flags & libc::MSG_CTRUNC != 0 || message.msg_controllen == 0 {
        return Err(Errno(libc::EBADF));
    }
    Ok(())
}

fn pass_sockets(at: &str) -> Done {
    let failed = |error: std::io::Error| Errno(error.raw_os_error().unwrap_or(0));
    let (here, there) = UnixStream::pair().map_err(failed)?;
    let listener = TcpListener::bind(at).map_err(failed)?;
    let client = TcpStream::connect(at).map_err(failed)?;
    let (server, _) = listener.accept().map_err(failed)?;
    for socket in [
        here.as_raw_fd(),
        listener.as_raw_fd(),
        client.as_raw_fd(),
        server.as_raw_fd(),
    ] {
        send_descriptor(here.as_raw_fd().into(), socket)?;
        receive(there.as_raw_fd().into())?;
    }
    Ok(())
}

/// cmsg(3), by hand.
fn send_descriptor(to: i64, descriptor: i32) -> Done {
    let mut control = [0_u64; 3];
    control[0] = 20;
    control[1] = u64::from(libc::SOL_SOCKET as u32) | u64::from(libc::SCM_RIGHTS as u32) << 32;
    control[2] = descriptor as u64;
    let mut vector = libc::iovec {
        iov_base: c"x".as_ptr().cast_mut().cast(),
        iov_len: 1,
    };
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    sys!(SYS_sendmsg, to, &raw const message, 0).map(drop)
}
