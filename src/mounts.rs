//! Tells that something was mounted or unmounted: inotify says nothing of it, and a path may lead to another
//! file since.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

/// The mounts of this mount namespace.
#[derive(Debug)]
pub struct Mounts {
    /// Readable after a change. The file itself is readable always, and tells a change by POLLPRI.
    changed: OwnedFd,
    /// Registered in `changed` as long as it is open.
    _mountinfo: File,
}

impl Mounts {
    pub fn watch() -> io::Result<Self> {
        let mountinfo = File::open("/proc/self/mountinfo")?;
        let changed = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(0);
        epoll::add(&changed, &mountinfo, data, epoll::EventFlags::PRI)?;
        Ok(Self {
            changed,
            _mountinfo: mountinfo,
        })
    }

    /// Takes note of the changes until now.
    pub fn collect(&self) -> io::Result<()> {
        let mut events = Vec::with_capacity(1);
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        epoll::wait(&self.changed, spare_capacity(&mut events), Some(&now))?;
        Ok(())
    }
}

impl AsFd for Mounts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.changed.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_readable(mounts: &Mounts) -> bool {
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut descriptors = [PollFd::new(mounts, PollFlags::IN)];
        poll(&mut descriptors, Some(&at_once)).unwrap() == 1
    }

    #[test]
    fn without_a_change_there_is_nothing_to_read() {
        let mounts = Mounts::watch().unwrap();
        mounts.collect().unwrap();

        assert!(!is_readable(&mounts));
    }
}
