//! The program that the enforcement tests confine. It performs the acts named on its command line, in
//! order, separated by `,`, and prints one line for each: `ok`, or the name of the errno.
//!
//!     subject open-read /etc/passwd , fork connect tcp 127.0.0.1:80
//!
//! Each module holds the acts of one domain; this file reads the command line and names the outcome.
#![allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    clippy::expect_used
)]

mod cut;
mod exec;
mod file;
mod ipc;
mod network;
mod privilege;
mod process;
mod sysv;

use std::ffi::CString;
use std::fmt;

/// An act that runs longer than this many seconds hangs: the kernel ends the process.
const PATIENCE: u32 = 300;

fn main() {
    unsafe { libc::alarm(PATIENCE) };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for act in arguments.split(|word| word == ",") {
        let words: Vec<&str> = act.iter().map(String::as_str).collect();
        println!("{}", outcome(perform(&words)));
    }
}

/// Does one act.
fn perform(words: &[&str]) -> Done {
    [
        process::perform,
        file::perform,
        exec::perform,
        network::perform,
        ipc::perform,
        privilege::perform,
        cut::perform,
        sysv::perform,
    ]
    .iter()
    .find_map(|domain| domain(words))
    .unwrap_or_else(|| panic!("no such act: {words:?}"))
}

/// What an act ended with.
type Done = Result<(), Errno>;

fn outcome(done: Done) -> String {
    done.map_or_else(|errno| errno.to_string(), |()| "ok".to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Errno(i32);

impl Errno {
    fn last() -> Self {
        Self(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}

macro_rules! names {
    ($errno:expr, $($name:ident)*) => {
        match $errno { $(libc::$name => stringify!($name).to_owned(),)* other => format!("errno {other}") }
    };
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&names!(
            self.0,
            EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT
            ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG
            ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY
            ELOOP ENODATA EOVERFLOW EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT
            EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE
            EADDRNOTAVAIL ENETDOWN ENETUNREACH ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN
            ETIMEDOUT ECONNREFUSED EHOSTUNREACH EALREADY EINPROGRESS ESTALE ENOKEY EKEYEXPIRED
            EKEYREVOKED EKEYREJECTED ENOTRECOVERABLE
        ))
    }
}

/// A system call, its arguments as words: a count or descriptor, or an errno.
macro_rules! sys {
    ($name:ident $(, $argument:expr)* $(,)?) => {
        crate::returned(unsafe {
            libc::syscall(libc::$name $(, $argument as libc::c_long)*)
        })
    };
}
pub(crate) use sys;

fn returned(result: libc::c_long) -> Result<i64, Errno> {
    if result < 0 {
        Err(Errno::last())
    } else {
        Ok(result)
    }
}

/// A string for the kernel.
fn c(text: &str) -> CString {
    CString::new(text).expect("an argument of the command line has no NUL")
}

fn number(text: &str) -> i64 {
    let (digits, radix) = text
        .strip_prefix("0o")
        .map_or((text, 10), |octal| (octal, 8));
    i64::from_str_radix(digits, radix).unwrap_or_else(|_| panic!("no number: {text}"))
}

/// Opens, and returns the descriptor.
fn open(path: &str, flags: i32, mode: u32) -> Result<i64, Errno> {
    sys!(
        SYS_openat,
        libc::AT_FDCWD,
        c(path).as_ptr(),
        flags | libc::O_CLOEXEC,
        mode
    )
}
