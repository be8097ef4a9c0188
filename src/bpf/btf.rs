//! What the running kernel says of itself: its BTF.

use std::ffi::CString;
use std::io;
use std::ptr::NonNull;

use super::{Error, Result};

/// The kernel's own type information; owns the parsed copy (some MiB) until dropped.
pub struct KernelTypes {
    btf: NonNull<libbpf_sys::btf>,
}

impl KernelTypes {
    /// Reads /sys/kernel/btf/vmlinux. Fails where the kernel was built without BTF.
    pub fn read() -> Result<Self> {
        // SAFETY: no arguments; returns an owned pointer, or NULL with errno.
        let btf = unsafe { libbpf_sys::btf__load_vmlinux_btf() };
        NonNull::new(btf).map(|btf| Self { btf }).ok_or_else(|| {
            Error::new(
                "read the kernel's type information (BTF)",
                io::Error::last_os_error(),
            )
        })
    }

    /// Whether the kernel has a function of this name, such as `bpf_lsm_file_truncate`.
    pub fn has_function(&self, name: &str) -> bool {
        let Ok(name) = CString::new(name) else {
            return false;
        };
        // SAFETY: `btf` is valid until drop, `name` is NUL-terminated and outlives the call.
        let id = unsafe {
            libbpf_sys::btf__find_by_name_kind(
                self.btf.as_ptr(),
                name.as_ptr(),
                libbpf_sys::BTF_KIND_FUNC,
            )
        };
        id > 0
    }
}

impl Drop for KernelTypes {
    fn drop(&mut self) {
        // SAFETY: owned by us, freed once.
        unsafe { libbpf_sys::btf__free(self.btf.as_ptr()) };
    }
}
