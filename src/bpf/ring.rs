//! The ring of records: read in order, each record checked and copied before it is used.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use super::sys::{self, from_bytes};
use super::{Error, Result, check};

/// The consumer's end. Records that came while nobody read are still there.
pub struct Ring {
    ring: NonNull<libbpf_sys::ring_buffer>,
    inbox: NonNull<Inbox>,
    _map: OwnedFd,
}

/// Where the callback puts what it reads.
#[derive(Default)]
struct Inbox {
    events: Vec<sys::event>,
    malformed: u64,
}

impl Ring {
    pub fn new(map: OwnedFd) -> Result<Self> {
        let inbox = NonNull::from(Box::leak(Box::new(Inbox::default())));
        // SAFETY: the descriptor is a ring's, the callback has libbpf's type, and the inbox lives until
        // `drop` has freed the ring.
        let ring = unsafe {
            libbpf_sys::ring_buffer__new(
                map.as_raw_fd(),
                Some(receive),
                inbox.as_ptr().cast(),
                std::ptr::null(),
            )
        };
        match NonNull::new(ring) {
            Some(ring) => Ok(Self {
                ring,
                inbox,
                _map: map,
            }),
            None => {
                let source = io::Error::last_os_error();
                // SAFETY: leaked above, and libbpf did not keep it.
                drop(unsafe { Box::from_raw(inbox.as_ptr()) });
                Err(Error::new("map the event ring", source))
            }
        }
    }

    /// Everything that waits, oldest first, and how many records had a wrong size.
    pub fn drain(&mut self) -> Result<(Vec<sys::event>, u64)> {
        // SAFETY: valid until drop; the callback runs inside this call only.
        let result = unsafe { libbpf_sys::ring_buffer__consume(self.ring.as_ptr()) };
        check(result, || "read the event ring".to_owned())?;
        // SAFETY: no callback runs now, and `&mut self` excludes another.
        let inbox = unsafe { self.inbox.as_mut() };
        Ok((
            std::mem::take(&mut inbox.events),
            std::mem::take(&mut inbox.malformed),
        ))
    }
}

impl AsFd for Ring {
    /// Readable while records wait.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: valid until drop.
        let fd = unsafe { libbpf_sys::ring_buffer__epoll_fd(self.ring.as_ptr()) };
        // SAFETY: the ring owns this descriptor until drop, longer than the borrow.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: owned, freed once, and before the inbox.
        unsafe { libbpf_sys::ring_buffer__free(self.ring.as_ptr()) };
        // SAFETY: leaked in `new`, and nobody else has it now.
        drop(unsafe { Box::from_raw(self.inbox.as_ptr()) });
    }
}

unsafe extern "C" fn receive(
    inbox: *mut c_void,
    data: *mut c_void,
    size: libbpf_sys::size_t,
) -> c_int {
    // SAFETY: the pointer that `new` passed; only `drain` runs this, and it holds no reference meanwhile.
    let inbox = unsafe { &mut *inbox.cast::<Inbox>() };
    // SAFETY: libbpf gives `size` readable bytes for the time of the call.
    let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size as usize) };
    match from_bytes(bytes) {
        Some(event) if bytes.len() == size_of::<sys::event>() => inbox.events.push(event),
        _ => inbox.malformed += 1,
    }
    0
}
