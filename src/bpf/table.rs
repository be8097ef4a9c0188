//! Kernel maps as typed tables. A table owns its descriptor; the map lives as long as a pin, a program or
//! another map holds it.

use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::sys::Plain;
use super::{Error, Result, check};

/// What happens to an entry that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    Replace,
    /// Fails with EEXIST if the key is there.
    New,
}

/// A map of `K` to `V`.
pub struct Table<K, V> {
    fd: OwnedFd,
    name: &'static str,
    types: PhantomData<(K, V)>,
}

impl<K: Plain, V: Plain> Table<K, V> {
    /// A table over a descriptor. Fails if the map's key or value has another size.
    pub fn new(fd: OwnedFd, name: &'static str) -> Result<Self> {
        let info = shape(fd.as_fd(), name)?;
        if info.key_size as usize != size_of::<K>() || info.value_size as usize != size_of::<V>() {
            return Err(Error::new(
                format!("use map {name}, which has another shape than this build"),
                io::Error::from_raw_os_error(libc::EINVAL),
            ));
        }
        Ok(Self {
            fd,
            name,
            types: PhantomData,
        })
    }

    /// A trie of prefixes. `K` begins with the prefix length in bits.
    pub fn new_trie(name: &'static str, entries: u32) -> Result<Self> {
        let flags = libbpf_sys::BPF_F_NO_PREALLOC;
        Self::create(libbpf_sys::BPF_MAP_TYPE_LPM_TRIE, name, entries, flags)
    }

    /// An array that can stand in an array of maps, whatever its length.
    pub fn new_inner_array(name: &'static str, entries: u32) -> Result<Self> {
        let flags = libbpf_sys::BPF_F_INNER_MAP;
        Self::create(libbpf_sys::BPF_MAP_TYPE_ARRAY, name, entries, flags)
    }

    fn create(kind: u32, name: &'static str, entries: u32, flags: u32) -> Result<Self> {
        let c_name = CString::new(name)?;
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as u64,
            map_flags: flags,
            ..Default::default()
        };
        // SAFETY: name and options outlive the call; sizes are those of the types.
        let fd = unsafe {
            libbpf_sys::bpf_map_create(
                kind,
                c_name.as_ptr(),
                size_of::<K>() as u32,
                size_of::<V>() as u32,
                entries.max(1),
                &raw const options,
            )
        };
        check(fd, || format!("create the map {name}"))?;
        Ok(Self {
            // SAFETY: just returned to us.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            name,
            types: PhantomData,
        })
    }

    pub fn lookup(&self, key: &K) -> Result<Option<V>> {
        let mut value = V::zeroed();
        // SAFETY: key and value have the sizes that `new` checked or `create` gave.
        let result = unsafe {
            libbpf_sys::bpf_map_lookup_elem(
                self.fd.as_raw_fd(),
                std::ptr::from_ref(key).cast(),
                (&raw mut value).cast(),
            )
        };
        let found = present(check(result, || format!("look up in map {}", self.name)))?;
        Ok(found.then_some(value))
    }

    pub fn write(&self, key: &K, value: &V, how: Write) -> Result<()> {
        let flags = match how {
            Write::Replace => libbpf_sys::BPF_ANY,
            Write::New => libbpf_sys::BPF_NOEXIST,
        };
        // SAFETY: as in `lookup`.
        let result = unsafe {
            libbpf_sys::bpf_map_update_elem(
                self.fd.as_raw_fd(),
                std::ptr::from_ref(key).cast(),
                std::ptr::from_ref(value).cast(),
                u64::from(flags),
            )
        };
        check(result, || format!("write to map {}", self.name)).map(|_| ())
    }

    /// Whether there was such an entry.
    pub fn remove(&self, key: &K) -> Result<bool> {
        // SAFETY: as in `lookup`.
        let result = unsafe {
            libbpf_sys::bpf_map_delete_elem(self.fd.as_raw_fd(), std::ptr::from_ref(key).cast())
        };
        present(check(result, || format!("remove from map {}", self.name)))
    }

    /// All entries. Of a table that changes meanwhile, some may be missing or stand twice.
    pub fn entries(&self) -> Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        let mut chunk: u32 = 64;
        // where the kernel goes on: it takes a whole key, or the first 4 bytes of one
        let mut place: Option<K> = None;
        loop {
            let mut keys = vec![K::zeroed(); chunk as usize];
            let mut values = vec![V::zeroed(); chunk as usize];
            let mut next = K::zeroed();
            let mut count = chunk;
            let from = place.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            // SAFETY: there is room for `count` keys and values of the sizes that `new` checked or `create`
            // gave, and for a place, which is no longer than a key; the kernel only reads `from`.
            let result = unsafe {
                libbpf_sys::bpf_map_lookup_batch(
                    self.fd.as_raw_fd(),
                    from.cast_mut().cast(),
                    (&raw mut next).cast(),
                    keys.as_mut_ptr().cast(),
                    values.as_mut_ptr().cast(),
                    &raw mut count,
                    std::ptr::null(),
                )
            };
            let more = match check(result, || format!("read map {}", self.name)) {
                // a bucket of a hash that holds more than there was room for
                Err(error) if error.errno() == libc::ENOSPC => {
                    chunk *= 2;
                    continue;
                }
                read => present(read)?,
            };
            let read = (count as usize).min(keys.len());
            entries.extend(keys.into_iter().zip(values).take(read));
            if !more {
                return Ok(entries);
            }
            place = Some(next);
        }
    }
}

/// What the kernel knows of a map.
pub(super) fn shape(fd: BorrowedFd<'_>, name: &str) -> Result<libbpf_sys::bpf_map_info> {
    let mut info = libbpf_sys::bpf_map_info::default();
    let mut size = size_of::<libbpf_sys::bpf_map_info>() as u32;
    // SAFETY: `info` and `size` outlive the call, and the size is its own.
    let result = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(fd.as_raw_fd(), (&raw mut info).cast(), &raw mut size)
    };
    check(result, || format!("read the shape of map {name}"))?;
    Ok(info)
}

/// An array whose values are maps of one shape.
pub struct MapArray {
    fd: OwnedFd,
    name: &'static str,
}

impl MapArray {
    pub fn new(fd: OwnedFd, name: &'static str) -> Self {
        Self { fd, name }
    }

    /// Puts an inner map into a place; returns once no program can still be in the map that was there.
    pub fn place<K: Plain, V: Plain>(&self, index: u32, inner: &Table<K, V>) -> Result<()> {
        let fd = inner.fd.as_raw_fd();
        // SAFETY: the key is a u32 and the value a descriptor, as for every array of maps.
        let result = unsafe {
            libbpf_sys::bpf_map_update_elem(
                self.fd.as_raw_fd(),
                (&raw const index).cast(),
                (&raw const fd).cast(),
                u64::from(libbpf_sys::BPF_ANY),
            )
        };
        check(result, || format!("put a map into {}", self.name)).map(|_| ())
    }

    /// Empties a place; returns once no program can still be inside. Whether there was anything.
    pub fn clear(&self, index: u32) -> Result<bool> {
        // SAFETY: the key is a u32.
        let result = unsafe {
            libbpf_sys::bpf_map_delete_elem(self.fd.as_raw_fd(), (&raw const index).cast())
        };
        present(check(result, || format!("take a map out of {}", self.name)))
    }

    /// The inner map in a place.
    pub fn get<K: Plain, V: Plain>(
        &self,
        index: u32,
        name: &'static str,
    ) -> Result<Option<Table<K, V>>> {
        let mut id = 0_u32;
        // SAFETY: key and value are u32: to user space an array of maps reads as ids.
        let result = unsafe {
            libbpf_sys::bpf_map_lookup_elem(
                self.fd.as_raw_fd(),
                (&raw const index).cast(),
                (&raw mut id).cast(),
            )
        };
        if !present(check(result, || format!("look into {}", self.name)))? {
            return Ok(None);
        }
        // SAFETY: takes a number; returns a new descriptor.
        let fd = unsafe { libbpf_sys::bpf_map_get_fd_by_id(id) };
        check(fd, || format!("open map {id} of {}", self.name))?;
        // SAFETY: just returned to us.
        Table::new(unsafe { OwnedFd::from_raw_fd(fd) }, name).map(Some)
    }
}

/// Turns "no such entry" into false.
fn present(result: Result<i32>) -> Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.errno() == libc::ENOENT => Ok(false),
        Err(error) => Err(error),
    }
}
