//! The fence round libbpf: everything unsafe is in here, and nothing outside sees a `bpf_*` function, the
//! sign of an errno or a raw pointer.
#![allow(unsafe_code)]

pub mod link;
pub mod object;
pub mod ring;
pub mod running;
pub mod sys;
pub mod table;
pub mod words;

use std::ffi::NulError;
use std::io;

/// A call into the kernel or libbpf that failed.
#[derive(Debug)]
pub struct Error {
    attempt: String,
    source: io::Error,
}

impl Error {
    pub(crate) fn new(attempt: impl Into<String>, source: io::Error) -> Self {
        Self {
            attempt: attempt.into(),
            source,
        }
    }

    /// The errno, 0 if there was none.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {}", self.attempt)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<NulError> for Error {
    fn from(_: NulError) -> Self {
        Self::new(
            "pass a name with a NUL byte",
            io::Error::from_raw_os_error(libc::EINVAL),
        )
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// The one place that knows how libbpf reports: a negative errno, or -1 with errno set.
fn check(value: i32, attempt: impl FnOnce() -> String) -> Result<i32> {
    if value >= 0 {
        return Ok(value);
    }
    let source = if value == -1 {
        io::Error::last_os_error()
    } else {
        io::Error::from_raw_os_error(-value)
    };
    Err(Error::new(attempt(), source))
}

/// Gives freed memory back to the system: what libbpf used while it read the kernel's BTF, and what a report of
/// many artifacts took, would stay in the heap.
pub fn release_memory() {
    // SAFETY: touches only free memory of the allocator.
    unsafe { libc::malloc_trim(0) };
}

/// Returns once every program that runs now has ended: what they have read before is in use no more. Without
/// membarrier(2) it returns at once, and a program may find a plan gone that it is about to ask; that denies.
pub fn wait_for_programs() {
    // MEMBARRIER_CMD_GLOBAL of linux/membarrier.h: waits as the kernel itself does before it frees what its
    // readers may hold
    const GLOBAL: libc::c_int = 1;
    // SAFETY: takes three integers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
}

/// Switches off libbpf's own messages on standard error; errors still come back from each call.
pub fn quiet_libbpf() {
    // SAFETY: None is allowed and switches printing off.
    unsafe { libbpf_sys::libbpf_set_print(None) };
}
