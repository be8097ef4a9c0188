//! What the running kernel says of itself.

use std::ffi::CString;
use std::io;
use std::path::Path;
use std::ptr::NonNull;

use super::object::Object;
use super::{Error, Result};

/// Its type information and the address that programs read.
pub struct RunningKernel {
    types: Types,
    rename_lock: u64,
}

impl RunningKernel {
    /// Fails where the kernel was built without BTF, or does not tell this process its addresses.
    pub fn read(pin_root: &Path) -> Result<Self> {
        Ok(Self {
            types: Types::read()?,
            rename_lock: Object::find_rename_lock(pin_root)?,
        })
    }

    /// Whether the kernel has a function of this name, such as `bpf_lsm_file_truncate`.
    pub fn has_function(&self, name: &str) -> bool {
        self.types.has_function(name)
    }

    /// Where it keeps the sequence of renames, never 0.
    pub fn rename_lock(&self) -> u64 {
        self.rename_lock
    }
}

/// Its BTF; owns the parsed copy (some MiB) until dropped.
struct Types {
    btf: NonNull<libbpf_sys::btf>,
}

impl Types {
    /// Reads /sys/kernel/btf/vmlinux.
    fn read() -> Result<Self> {
        // SAFETY: no arguments; returns an owned pointer, or NULL with errno.
        let btf = unsafe { libbpf_sys::btf__load_vmlinux_btf() };
        NonNull::new(btf).map(|btf| Self { btf }).ok_or_else(|| {
            Error::new(
                "read the kernel's type information (BTF)",
                io::Error::last_os_error(),
            )
        })
    }

    fn has_function(&self, name: &str) -> bool {
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

impl Drop for Types {
    fn drop(&mut self) {
        // SAFETY: owned by us, freed once.
        unsafe { libbpf_sys::btf__free(self.btf.as_ptr()) };
    }
}
