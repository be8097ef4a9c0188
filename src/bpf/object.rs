//! One BPF object of ours, from its skeleton: opened, then loaded with its maps shared by their pins.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;

use super::link::Link;
use super::running::RunningKernel;
use super::sys::{self, Plain};
use super::table::shape;
use super::{Error, Result, check};

/// A skeleton that bpftool generated.
///
/// # Safety
/// The three functions are the ones that bpftool generated for this very type.
pub unsafe trait Skeleton: Sized {
    const NAME: &'static str;
    /// # Safety
    /// `options` is valid for the call.
    unsafe fn open(options: *const libbpf_sys::bpf_object_open_opts) -> *mut Self;
    /// # Safety
    /// `this` came from `open` and is not used again.
    unsafe fn destroy(this: *mut Self);
    fn skeleton(&self) -> *mut libbpf_sys::bpf_object_skeleton;
    fn object(&self) -> *mut libbpf_sys::bpf_object;
    /// Where its programs find the address of the kernel's rename_lock; NULL if they do not read that.
    fn rename_lock(&self) -> *mut u64;
}

macro_rules! skeleton {
    ($type:ident, $open:ident, $destroy:ident) => {
        skeleton!($type, $open, $destroy, |skeleton| {
            // SAFETY: libbpf has mapped the variables of an object that is open.
            unsafe { &raw mut (*skeleton.rodata).rename_lock_address }
        });
    };
    ($type:ident, $open:ident, $destroy:ident, |$this:ident| $rename_lock:expr) => {
        // SAFETY: names of one generated skeleton.
        unsafe impl Skeleton for sys::$type {
            const NAME: &'static str = stringify!($type);
            unsafe fn open(options: *const libbpf_sys::bpf_object_open_opts) -> *mut Self {
                // SAFETY: the caller vouches for `options`.
                unsafe { sys::$open(options) }
            }
            unsafe fn destroy(this: *mut Self) {
                // SAFETY: the caller vouches for `this`.
                unsafe { sys::$destroy(this) }
            }
            fn skeleton(&self) -> *mut libbpf_sys::bpf_object_skeleton {
                self.skeleton
            }
            fn object(&self) -> *mut libbpf_sys::bpf_object {
                self.obj
            }
            fn rename_lock(&self) -> *mut u64 {
                let $this = self;
                $rename_lock
            }
        }
    };
}

skeleton!(exec_bpf, exec_bpf__open_opts, exec_bpf__destroy);
skeleton!(file_bpf, file_bpf__open_opts, file_bpf__destroy);
skeleton!(network_bpf, network_bpf__open_opts, network_bpf__destroy);
skeleton!(ipc_bpf, ipc_bpf__open_opts, ipc_bpf__destroy);
skeleton!(
    privilege_bpf,
    privilege_bpf__open_opts,
    privilege_bpf__destroy
);
skeleton!(guard_bpf, guard_bpf__open_opts, guard_bpf__destroy);
skeleton!(cut_bpf, cut_bpf__open_opts, cut_bpf__destroy);
skeleton!(
    symbol_bpf,
    symbol_bpf__open_opts,
    symbol_bpf__destroy,
    |_skeleton| std::ptr::null_mut()
);

/// A loaded object. Dropping it closes its descriptors; what is pinned stays in force.
#[must_use = "dropping it closes the programs that are not pinned"]
pub struct Object<S: Skeleton> {
    skeleton: NonNull<S>,
}

/// How a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// LSM hook, fentry, fexit or tracepoint: knows its hook.
    Trampoline,
    /// At a cgroup.
    Cgroup,
    /// Run on demand: iterators and syscall programs.
    OnDemand,
}

/// What the kernel calls a part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    Map(u32),
    Program(u32),
}

/// A program of an object.
pub struct Program<'a> {
    program: NonNull<libbpf_sys::bpf_program>,
    name: &'a str,
    section: &'a str,
}

impl<S: Skeleton> Object<S> {
    /// Opens and loads. Maps marked for it are shared through pins below `pin_root`; programs for hooks
    /// that this kernel lacks are left out.
    pub fn load(pin_root: &Path, running: &RunningKernel) -> Result<Self> {
        let object = Self::open(pin_root)?;
        object.fit(running)?;
        object.load_opened()
    }

    fn open(pin_root: &Path) -> Result<Self> {
        let root = CString::new(pin_root.as_os_str().as_encoded_bytes())?;
        let options = libbpf_sys::bpf_object_open_opts {
            sz: size_of::<libbpf_sys::bpf_object_open_opts>() as u64,
            pin_root_path: root.as_ptr(),
            ..Default::default()
        };
        // SAFETY: `options` and the path in it outlive the call; libbpf copies both.
        let opened = unsafe { S::open(&raw const options) };
        let skeleton = NonNull::new(opened).ok_or_else(|| {
            Error::new(
                format!("open the BPF object {}", S::NAME),
                io::Error::last_os_error(),
            )
        })?;
        Ok(Self { skeleton })
    }

    /// Before it is loaded: selects its programs, and tells them what they cannot know.
    fn fit(&self, running: &RunningKernel) -> Result<()> {
        for program in self.programs() {
            if program.is_optional() && running.has_function(&program.kernel_function()) {
                // SAFETY: the program belongs to the open object, which is not loaded yet.
                let result = unsafe { libbpf_sys::bpf_program__set_autoload(program.raw(), true) };
                check(result, || format!("select the program {}", program.name))?;
            }
        }
        let place = self.typed().rename_lock();
        if !place.is_null() {
            // SAFETY: a variable that libbpf has mapped, and nobody reads it before the load.
            unsafe { *place = running.rename_lock() };
        }
        Ok(())
    }

    fn load_opened(self) -> Result<Self> {
        // SAFETY: the skeleton is valid and open, and this is the only load.
        let result = unsafe { libbpf_sys::bpf_object__load_skeleton(self.typed().skeleton()) };
        check(result, || format!("load the BPF object {}", S::NAME))?;
        Ok(self)
    }

    /// The typed skeleton: programs and variables by their names.
    pub(super) fn typed(&self) -> &S {
        // SAFETY: valid until drop; libbpf changes it only in calls that we make.
        unsafe { self.skeleton.as_ref() }
    }

    /// All programs, loaded or left out.
    pub fn programs(&self) -> Vec<Program<'_>> {
        let mut programs = Vec::new();
        let mut last = std::ptr::null_mut();
        loop {
            // SAFETY: `last` is NULL or a program of this object.
            last = unsafe { libbpf_sys::bpf_object__next_program(self.typed().object(), last) };
            let Some(program) = NonNull::new(last) else {
                return programs;
            };
            // SAFETY: a string that lives as long as the object.
            let name = unsafe { CStr::from_ptr(libbpf_sys::bpf_program__name(last)) };
            // SAFETY: likewise.
            let section = unsafe { CStr::from_ptr(libbpf_sys::bpf_program__section_name(last)) };
            programs.push(Program {
                program,
                name: name.to_str().unwrap_or_default(),
                section: section.to_str().unwrap_or_default(),
            });
        }
    }

    /// One program by its name.
    pub fn program(&self, name: &str) -> Result<Program<'_>> {
        self.programs()
            .into_iter()
            .find(|program| program.name == name)
            .ok_or_else(|| {
                Error::new(
                    format!("find the program {name} in {}", S::NAME),
                    io::Error::from_raw_os_error(libc::ENOENT),
                )
            })
    }

    /// All its maps and programs, as the kernel calls them.
    pub fn ids(&self) -> Result<Vec<Id>> {
        let programs = self.programs();
        let mut ids: Vec<Id> = programs
            .iter()
            .filter_map(Program::id)
            .map(Id::Program)
            .collect();
        let mut last = std::ptr::null_mut();
        loop {
            // SAFETY: `last` is NULL or a map of this object.
            last = unsafe { libbpf_sys::bpf_object__next_map(self.typed().object(), last) };
            if last.is_null() {
                return Ok(ids);
            }
            // SAFETY: a map of this object, and its descriptor is open while the object lives.
            let fd = unsafe { libbpf_sys::bpf_map__fd(last) };
            if fd >= 0 {
                // SAFETY: as above; the borrow ends here.
                let fd = unsafe { BorrowedFd::borrow_raw(fd) };
                ids.push(Id::Map(shape(fd, "of an object")?.id));
            }
        }
    }

    /// A descriptor of one of its maps, our own copy.
    pub fn map(&self, name: &str) -> Result<OwnedFd> {
        let c_name = CString::new(name)?;
        // SAFETY: the object is valid, the name NUL-terminated.
        let fd = unsafe {
            libbpf_sys::bpf_object__find_map_fd_by_name(self.typed().object(), c_name.as_ptr())
        };
        check(fd, || format!("find the map {name} in {}", S::NAME))?;
        // SAFETY: libbpf keeps this descriptor open while the object lives, longer than the borrow.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        borrowed
            .try_clone_to_owned()
            .map_err(|source| Error::new(format!("copy the descriptor of map {name}"), source))
    }
}

impl Object<sys::file_bpf> {
    /// [`load`](Self::load), also on a kernel that has no storage in inodes, and calls no program of an LSM.
    pub fn load_file(pin_root: &Path, running: &RunningKernel) -> Result<Self> {
        let object = Self::open(pin_root)?;
        object.fit(running)?;
        let storage = libbpf_sys::BPF_MAP_TYPE_INODE_STORAGE;
        // SAFETY: makes a map of that type and lets it go; NULL stands for no options.
        if unsafe { libbpf_sys::libbpf_probe_bpf_map_type(storage, std::ptr::null()) } == 0 {
            let typed = object.typed();
            // SAFETY: the map belongs to the open object, which is not loaded yet.
            let result =
                unsafe { libbpf_sys::bpf_map__set_autocreate(typed.maps.queue_slots, false) };
            check(result, || "leave out the map queue_slots".to_owned())?;
            // SAFETY: libbpf has mapped it, and nobody reads it before the load.
            unsafe { (*typed.rodata).has_inode_storage = false };
        }
        object.load_opened()
    }
}

impl Object<sys::symbol_bpf> {
    /// The address of the kernel's rename_lock. Without it a walk would not notice a rename on its way.
    pub fn find_rename_lock(pin_root: &Path) -> Result<u64> {
        let mut address = 0_u64;
        let object = Self::open(pin_root)?.load_opened()?;
        let result = object.program("find_rename_lock")?.run(&mut address)?;
        let errno = match (result.cast_signed(), address) {
            (0, 0) => libc::ENOENT,
            (0, _) => return Ok(address),
            (error, _) => -error,
        };
        Err(Error::new(
            "learn an address from the kernel, which takes CAP_SYSLOG and kernel.kptr_restrict = 0 or 1",
            io::Error::from_raw_os_error(errno),
        ))
    }
}

impl Object<sys::exec_bpf> {
    /// What the kernel knows of a descriptor of ours; see `identify` in c-bpf/adopt.bpf.c.
    pub fn identify(&self, fd: BorrowedFd<'_>) -> Result<Box<sys::identity>> {
        let mut request = fd.as_raw_fd();
        self.program("identify")?.run(&mut request)?;
        // SAFETY: libbpf mapped .bss at load; it lives as long as the object. The program above has
        // ended, and only this process runs it.
        Ok(Box::new(unsafe {
            std::ptr::read_volatile(&raw const (*self.typed().bss).identified)
        }))
    }

    /// Spares a process from adoption: the daemon itself.
    pub fn spare(&self, tgid: u32) {
        // SAFETY: as in `identify`; a plain word that the iterator reads.
        unsafe { std::ptr::write_volatile(&raw mut (*self.typed().bss).spared_tgid, tgid) };
    }

    /// Whether the exec hook looks at the cgroup of who is outside.
    pub fn look_for_units(&self, there_are: bool) {
        // SAFETY: as in `identify`; a plain word that programs read.
        unsafe {
            std::ptr::write_volatile(&raw mut (*self.typed().bss).has_units, u32::from(there_are));
        }
    }

    /// Runs the adoption once. Tells how many processes it has labelled since load, and which now.
    pub fn adopt(&self) -> Result<(u64, Vec<sys::bound_task>)> {
        let written = self.program("adopt")?.iterate()?;
        // SAFETY: as in `identify`.
        let total = unsafe { std::ptr::read_volatile(&raw const (*self.typed().bss).adopted) };
        let labelled = written
            .chunks_exact(size_of::<sys::bound_task>())
            .filter_map(sys::from_bytes::<sys::bound_task>);
        Ok((total, labelled.collect()))
    }
}

impl Object<sys::guard_bpf> {
    /// Makes this process the one that is guarded.
    pub fn stand_guard(&self) -> Result<()> {
        self.program("stand_guard")?.run(&mut 0_u32)?;
        Ok(())
    }
}

impl<S: Skeleton> Drop for Object<S> {
    fn drop(&mut self) {
        // SAFETY: from `open`, destroyed once.
        unsafe { S::destroy(self.skeleton.as_ptr()) };
    }
}

impl Program<'_> {
    fn raw(&self) -> *mut libbpf_sys::bpf_program {
        self.program.as_ptr()
    }

    pub fn name(&self) -> &str {
        self.name
    }

    /// Left out unless it is selected: its section began with `?`, which libbpf has taken off.
    fn is_optional(&self) -> bool {
        // SAFETY: the program belongs to a live object.
        unsafe { !libbpf_sys::bpf_program__autoload(self.raw()) }
    }

    /// The kernel function that it hangs on, or cannot do without.
    fn kernel_function(&self) -> String {
        let hook = self.section.rsplit('/').next().unwrap_or_default();
        match self.section.split('/').next() {
            Some("lsm") => format!("bpf_lsm_{hook}"),
            // the hook is everywhere; what the program calls there, only where IMA is built in
            Some("lsm.s") => "ima_file_hash".to_owned(),
            _ => hook.to_owned(),
        }
    }

    pub fn kind(&self) -> Kind {
        match self.section.split('/').next() {
            Some("lsm" | "lsm.s" | "fentry" | "fexit" | "tp_btf") => Kind::Trampoline,
            Some("cgroup") => Kind::Cgroup,
            _ => Kind::OnDemand,
        }
    }

    /// False for a hook that this kernel lacks.
    pub fn is_loaded(&self) -> bool {
        // SAFETY: the program belongs to a live object.
        unsafe { libbpf_sys::bpf_program__fd(self.raw()) >= 0 }
    }

    /// Its id in the kernel, `None` if it is not loaded; 0, which no program has, if it cannot be told.
    pub fn id(&self) -> Option<u32> {
        if !self.is_loaded() {
            return None;
        }
        let mut info = libbpf_sys::bpf_prog_info::default();
        let mut size = size_of::<libbpf_sys::bpf_prog_info>() as u32;
        // SAFETY: the program belongs to a live object.
        let fd = unsafe { libbpf_sys::bpf_program__fd(self.raw()) };
        // SAFETY: `info` and `size` outlive the call, and the size is its own. All addresses in it are
        // zero, so the kernel writes to nothing behind them.
        unsafe { libbpf_sys::bpf_prog_get_info_by_fd(fd, &raw mut info, &raw mut size) };
        Some(info.id)
    }

    /// Attaches to its hook.
    pub fn attach(&self) -> Result<Link> {
        // SAFETY: loaded and alive; returns an owned link, or NULL with errno.
        let link = unsafe { libbpf_sys::bpf_program__attach(self.raw()) };
        Link::from_raw(link, || format!("attach {} to its hook", self.name))
    }

    /// Attaches to a cgroup, beside others that are there.
    pub fn attach_cgroup(&self, cgroup: BorrowedFd<'_>) -> Result<Link> {
        // SAFETY: as above; the descriptor is open for the call.
        let link =
            unsafe { libbpf_sys::bpf_program__attach_cgroup(self.raw(), cgroup.as_raw_fd()) };
        Link::from_raw(link, || format!("attach {} to the cgroup root", self.name))
    }

    /// Runs an iterator to its end; what it wrote.
    pub fn iterate(&self) -> Result<Vec<u8>> {
        // SAFETY: an iterator program, without options.
        let link = unsafe { libbpf_sys::bpf_program__attach_iter(self.raw(), std::ptr::null()) };
        Link::from_raw(link, || format!("attach the iterator {}", self.name))?.read_iterator()
    }

    /// Runs a syscall program once on a context of plain bytes.
    fn run<C: Plain>(&self, context: &mut C) -> Result<u32> {
        let mut options = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as u64,
            ctx_in: std::ptr::from_mut(context).cast(),
            ctx_size_in: size_of::<C>() as u32,
            ..Default::default()
        };
        // SAFETY: the context outlives the call and has the size given; the program is loaded.
        let result = unsafe {
            libbpf_sys::bpf_prog_test_run_opts(
                libbpf_sys::bpf_program__fd(self.raw()),
                &raw mut options,
            )
        };
        check(result, || format!("run the program {}", self.name))?;
        Ok(options.retval)
    }
}
