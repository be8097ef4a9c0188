//! The attachment of one program to one hook, and its pin.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;

use super::{Error, Result, check};

/// An attachment. A pinned one outlives this value and this process.
#[must_use = "dropping a link that is not pinned detaches the program"]
pub struct Link {
    link: NonNull<libbpf_sys::bpf_link>,
}

impl Link {
    pub(super) fn from_raw(
        link: *mut libbpf_sys::bpf_link,
        attempt: impl FnOnce() -> String,
    ) -> Result<Self> {
        NonNull::new(link)
            .map(|link| Self { link })
            .ok_or_else(|| Error::new(attempt(), io::Error::last_os_error()))
    }

    /// Keeps the attachment in force until the file is unlinked.
    pub fn pin(&self, path: &Path) -> Result<()> {
        let c_path = CString::new(path.as_os_str().as_encoded_bytes())?;
        // SAFETY: the link is valid, the path NUL-terminated; libbpf copies it.
        let result = unsafe { libbpf_sys::bpf_link__pin(self.link.as_ptr(), c_path.as_ptr()) };
        check(result, || format!("pin {}", path.display())).map(|_| ())
    }

    pub(super) fn read_iterator(&self) -> Result<Vec<u8>> {
        // SAFETY: the link is valid; its descriptor stays its own.
        let link = unsafe { libbpf_sys::bpf_link__fd(self.link.as_ptr()) };
        // SAFETY: takes a number; returns a new descriptor.
        let fd = unsafe { libbpf_sys::bpf_iter_create(link) };
        check(fd, || "start the iterator".to_owned())?;
        // SAFETY: just returned to us, nobody else owns it.
        let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let mut written = Vec::new();
        file.read_to_end(&mut written)
            .map_err(|source| Error::new("run the iterator", source))?;
        Ok(written)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once. A pinned link only loses this descriptor.
        unsafe { libbpf_sys::bpf_link__destroy(self.link.as_ptr()) };
    }
}

/// What is pinned. Who drops the last descriptor of a link that is pinned no more comes back when its program
/// is detached; otherwise the kernel detaches it at leisure.
pub fn pinned(path: &Path) -> Result<OwnedFd> {
    let c_path = CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: NUL-terminated path; returns a new descriptor.
    let fd = unsafe { libbpf_sys::bpf_obj_get(c_path.as_ptr()) };
    check(fd, || format!("open the pin {}", path.display()))?;
    // SAFETY: just returned to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The id of the program behind a pinned link, `None` if the link was detached from its cgroup, which
/// leaves the pin; fails if the pin is none.
pub fn pinned_program(path: &Path) -> Result<Option<u32>> {
    let fd = pinned(path)?;
    let mut info = libbpf_sys::bpf_link_info::default();
    let mut size = size_of::<libbpf_sys::bpf_link_info>() as u32;
    // SAFETY: `info` and `size` outlive the call, and the size is its own.
    let result = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(fd.as_raw_fd(), (&raw mut info).cast(), &raw mut size)
    };
    check(result, || format!("read the link {}", path.display()))?;
    let at_cgroup = info.type_ == libbpf_sys::BPF_LINK_TYPE_CGROUP;
    // SAFETY: the kernel filled in the member that belongs to the type; zeroes before.
    let detached = at_cgroup && unsafe { info.__bindgen_anon_1.cgroup.cgroup_id } == 0;
    Ok((!detached).then_some(info.prog_id))
}
