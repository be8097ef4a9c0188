//! A kernel array of 8-byte values, mapped into this process: a value is read and replaced with one load or
//! store, which a system call does not promise.

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::sys::{Plain, bytes_of, from_bytes};
use super::table::shape;
use super::{Error, Result};

/// An array of `V`, each 8 bytes long, by index.
pub struct Words<V> {
    first: NonNull<AtomicU64>,
    entries: u32,
    types: PhantomData<V>,
}

impl<V: Plain> Words<V> {
    /// Maps an array that was made with BPF_F_MMAPABLE.
    pub fn map(fd: &OwnedFd, name: &'static str) -> Result<Self> {
        const { assert!(size_of::<V>() == size_of::<u64>()) };
        let info = shape(fd.as_fd(), name)?;
        if info.key_size as usize != size_of::<u32>() || info.value_size as usize != size_of::<V>()
        {
            return Err(Error::new(
                format!("use map {name}, which has another shape than this build"),
                std::io::Error::from_raw_os_error(libc::EINVAL),
            ));
        }
        // SAFETY: a new mapping at a place of the kernel's choice; the kernel refuses it if the array is
        // shorter than that.
        let first = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length(info.max_entries),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(first.cast::<AtomicU64>()) {
            Some(first) if first.as_ptr().cast() != libc::MAP_FAILED => Ok(Self {
                first,
                entries: info.max_entries,
                types: PhantomData,
            }),
            _ => Err(Error::new(
                format!("map the map {name} into memory"),
                std::io::Error::last_os_error(),
            )),
        }
    }

    /// The value at an index; None beyond the end.
    pub fn load(&self, index: u32) -> Option<V> {
        let word = self.word(index)?.load(Ordering::Acquire);
        from_bytes(&word.to_ne_bytes())
    }

    /// Replaces the value at an index; false beyond the end. What was written before is seen by whoever sees
    /// this.
    pub fn store(&self, index: u32, value: V) -> bool {
        let (Some(word), Some(value)) = (self.word(index), from_bytes(bytes_of(&value))) else {
            return false;
        };
        word.store(value, Ordering::Release);
        true
    }

    fn word(&self, index: u32) -> Option<&AtomicU64> {
        // SAFETY: within the mapping, which lives as long as `self`, page-aligned, and only ever used as
        // 8-byte words; the kernel's programs load a word at once, too.
        (index < self.entries).then(|| unsafe { self.first.add(index as usize).as_ref() })
    }
}

/// Of a mapping, in bytes; the kernel rounds it up to pages.
fn length(entries: u32) -> usize {
    entries as usize * size_of::<u64>()
}

impl<V> Drop for Words<V> {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; nothing borrows from it any more.
        unsafe { libc::munmap(self.first.as_ptr().cast(), length(self.entries)) };
    }
}
