//! Acts of domain exec: running programs, mapping and making code.

use std::ptr::{null, null_mut};

use libc::{MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE};

use crate::process::exit_status;
use crate::{Done, Errno, c, number, open, sys};

const PAGE: usize = 4096;
/// linux/shm.h, linux/personality.h
const SHM_EXEC: i32 = 0o100_000;
const READ_IMPLIES_EXEC: u64 = 0x0040_0000;
const X: i32 = PROT_READ | PROT_EXEC;
const WX: i32 = PROT_READ | PROT_WRITE | PROT_EXEC;
const RW: i32 = PROT_READ | PROT_WRITE;

pub fn perform(words: &[&str]) -> Option<Done> {
    Some(match words {
        ["exec", program @ ..] => run(unsafe { libc::fork() }.into(), program),
        ["vfork-exec", program @ ..] => vfork(program),
        ["traced-exec", program @ ..] => traced(program),
        ["become", program @ ..] => Err(execve(program)),
        ["thread-become", program @ ..] => std::thread::scope(|scope| {
            scope
                .spawn(|| Err(execve(program)))
                .join()
                .expect("execve returns or does not")
        }),
        // the exec is decided, and does not come through before the path is there
        ["exec-held", path, program @ ..] => exec_held(path, program),
        ["exec-opened", program @ ..] => exec_opened(program),
        // opened, and without a name when it is run
        ["exec-deleted", program @ ..] => open(program[0], libc::O_PATH, 0).and_then(|fd| {
            sys!(SYS_unlink, c(program[0]).as_ptr())?;
            exec_descriptor(fd, program)
        }),
        ["exec-memfd", program @ ..] => copy_of_self().and_then(|fd| exec_descriptor(fd, program)),
        ["map-exec", path] => map(path, libc::O_RDONLY, X, MAP_PRIVATE),
        ["map-read", path] => map(path, libc::O_RDONLY, PROT_READ, MAP_PRIVATE),
        ["map-write-exec", path] => map(path, libc::O_RDWR, WX, MAP_SHARED),
        ["map-then-exec", path] => map_then_exec(path, false),
        ["map-change-exec", path] => map_then_exec(path, true),
        ["map-exec-anonymous"] => anonymous(WX).map(drop),
        ["make-exec-anonymous"] => {
            anonymous(RW).and_then(|page| sys!(SYS_mprotect, page, PAGE, X).map(drop))
        }
        ["map-exec-memfd"] => {
            copy_of_self().and_then(|fd| sys!(SYS_mmap, 0, PAGE, X, MAP_PRIVATE, fd, 0).map(drop))
        }
        ["attach-exec"] => attach_exec(),
        ["imply-exec"] => {
            sys!(SYS_personality, READ_IMPLIES_EXEC).and_then(|_| anonymous(RW).map(drop))
        }
        ["personality", flags] => sys!(SYS_personality, number(flags)).map(drop),
        ["no-new-privs"] => sys!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).map(drop),
        ["ask-personality"] => sys!(SYS_personality, 0xffff_ffff_u32).map(drop),
        ["imply-exec-32"] => personality_of_32(READ_IMPLIES_EXEC),
        ["ask-personality-32"] => personality_of_32(0xffff_ffff),
        ["imply-exec-break"] => imply_exec_break(),
        ["write-own-memory"] => write_own_memory(),
        ["is-secure"] => match unsafe { libc::getauxval(libc::AT_SECURE) } {
            0 => Err(Errno(libc::ENODATA)),
            _ => Ok(()),
        },
        _ => return None,
    })
}

/// What remains of a program's line is its arguments; execve returns only an errno.
fn execve(program: &[&str]) -> Errno {
    let arguments: Vec<_> = program.iter().map(|word| c(word)).collect();
    let mut pointers: Vec<_> = arguments.iter().map(|word| word.as_ptr()).collect();
    pointers.push(null());
    unsafe { libc::execv(pointers[0], pointers.as_ptr()) };
    Errno::last()
}

/// The child's own lines come first; then `ok` if it ran, whatever became of it.
fn run(child: i64, program: &[&str]) -> Done {
    match child {
        0 => {
            let errno = execve(program);
            unsafe { libc::_exit(errno.0) }
        }
        pid => exit_status(pid),
    }
}

/// posix_spawn does it with CLONE_VM | CLONE_VFORK.
fn vfork(program: &[&str]) -> Done {
    let arguments: Vec<_> = program.iter().map(|word| c(word)).collect();
    let mut pointers: Vec<_> = arguments
        .iter()
        .map(|word| word.as_ptr().cast_mut())
        .collect();
    pointers.push(null_mut());
    let mut pid = 0;
    let errno = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            pointers[0],
            null(),
            null(),
            pointers.as_ptr(),
            [null_mut()].as_ptr(),
        )
    };
    if errno != 0 {
        return Err(Errno(errno));
    }
    exit_status(pid.into())
}

/// In a child that this process traces.
fn traced(program: &[&str]) -> Done {
    let child = crate::returned(unsafe { libc::fork() }.into())?;
    if child == 0 {
        let traced = sys!(SYS_ptrace, libc::PTRACE_TRACEME as libc::c_long, 0, 0, 0);
        let errno = traced.err().unwrap_or_else(|| execve(program));
        unsafe { libc::_exit(errno.0) }
    }
    let mut status = 0;
    sys!(SYS_wait4, child, &raw mut status, libc::__WALL, 0)?;
    if libc::WIFSTOPPED(status) {
        sys!(SYS_ptrace, libc::PTRACE_DETACH as libc::c_long, child, 0, 0)?;
        return exit_status(child);
    }
    match libc::WEXITSTATUS(status) {
        0 => Ok(()),
        errno => Err(Errno(errno)),
    }
}

/// An exec waits for all other threads to end, and a tracer can keep one of them from ending. The thread
/// that runs the program is not traced.
fn exec_held(path: &str, program: &[&str]) -> Done {
    let (mut threads, mut gate) = ([0; 2], [0; 2]);
    crate::returned(i64::from(unsafe { libc::pipe(threads.as_mut_ptr()) }))?;
    crate::returned(i64::from(unsafe { libc::pipe(gate.as_mut_ptr()) }))?;
    let child = crate::returned(unsafe { libc::fork() }.into())?;
    if child == 0 {
        let end = threads[1];
        std::thread::spawn(move || {
            let thread = unsafe { libc::gettid() };
            let _ = sys!(SYS_write, end, &raw const thread, size_of::<i32>());
            loop {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        });
        let mut byte = 0_u8;
        sys!(SYS_read, gate[0], &raw mut byte, 1)?;
        let errno = execve(program);
        unsafe { libc::_exit(errno.0) }
    }
    let mut thread = 0_i32;
    sys!(SYS_read, threads[0], &raw mut thread, size_of::<i32>())?;
    let seize = libc::PTRACE_SEIZE as libc::c_long;
    sys!(SYS_ptrace, seize, thread, 0, libc::PTRACE_O_TRACEEXIT)?;
    sys!(SYS_write, gate[1], [0_u8].as_ptr(), 1)?;
    let mut status = 0;
    sys!(SYS_wait4, thread, &raw mut status, libc::__WALL, 0)?;
    println!("held");
    while std::fs::symlink_metadata(path).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    sys!(
        SYS_ptrace,
        libc::PTRACE_DETACH as libc::c_long,
        thread,
        0,
        0
    )?;
    exit_status(child)
}

fn exec_opened(program: &[&str]) -> Done {
    let fd = open(program[0], libc::O_PATH, 0)?;
    exec_descriptor(fd, program)
}

fn exec_descriptor(fd: i64, program: &[&str]) -> Done {
    let arguments: Vec<_> = program.iter().map(|word| c(word)).collect();
    let mut pointers: Vec<_> = arguments.iter().map(|word| word.as_ptr()).collect();
    pointers.push(null());
    match unsafe { libc::fork() } {
        0 => {
            let environment = [null::<libc::c_char>()];
            let result = sys!(
                SYS_execveat,
                fd,
                c"".as_ptr(),
                pointers.as_ptr(),
                environment.as_ptr(),
                libc::AT_EMPTY_PATH
            );
            unsafe { libc::_exit(result.map_or_else(|errno| errno.0, |_| 0)) }
        }
        pid => exit_status(pid.into()),
    }
}

/// This very program, in memory of its own.
fn copy_of_self() -> Result<i64, Errno> {
    let bytes = std::fs::read("/proc/self/exe").map_err(|_| Errno::last())?;
    let fd = sys!(SYS_memfd_create, c"code".as_ptr(), 0)?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let written = sys!(SYS_write, fd, rest.as_ptr(), rest.len())?;
        rest = &rest[written as usize..];
    }
    Ok(fd)
}

fn map(path: &str, flags: i32, protection: i32, kind: i32) -> Done {
    let fd = open(path, flags, 0)?;
    sys!(SYS_mmap, 0, PAGE, protection, kind, fd, 0).map(drop)
}

/// Maps a file's private copy writable, changes it or not, and makes it executable.
fn map_then_exec(path: &str, change: bool) -> Done {
    let fd = open(path, libc::O_RDONLY, 0)?;
    let page = sys!(SYS_mmap, 0, PAGE, RW, MAP_PRIVATE, fd, 0)?;
    if change {
        unsafe { *(page as *mut u8) = 0xc3 };
    }
    sys!(SYS_mprotect, page, PAGE, X).map(drop)
}

fn anonymous(protection: i32) -> Result<i64, Errno> {
    sys!(
        SYS_mmap,
        0,
        PAGE,
        protection,
        MAP_PRIVATE | MAP_ANONYMOUS,
        -1,
        0
    )
}

fn attach_exec() -> Done {
    let segment = sys!(SYS_shmget, libc::IPC_PRIVATE, PAGE, 0o700)?;
    let attached = sys!(SYS_shmat, segment, 0, SHM_EXEC);
    sys!(SYS_shmctl, segment, libc::IPC_RMID, 0)?;
    attached.map(drop)
}

/// By the system calls of 32-bit programs: 136, its argument in EBX, which the compiler keeps to itself.
fn personality_of_32(personality: u64) -> Done {
    let mut result = 136_u64;
    unsafe {
        std::arch::asm!(
            "xchg rbx, {argument}",
            "int 0x80",
            "xchg rbx, {argument}",
            argument = inout(reg) personality => _,
            inout("rax") result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    crate::returned(i64::from(result as i32).min(0)).map(drop)
}

/// Runs what it writes into a heap that grew while all that can be read was executable.
fn imply_exec_break() -> Done {
    let start = (sys!(SYS_brk, 0)? as usize).next_multiple_of(PAGE);
    sys!(SYS_personality, READ_IMPLIES_EXEC)?;
    let end = sys!(SYS_brk, start + PAGE)?;
    sys!(SYS_personality, 0)?;
    if end as usize != start + PAGE {
        return Err(Errno(libc::ENOMEM));
    }
    let returns = [0xc3_u8];
    unsafe {
        let code = start as *mut [u8; 1];
        code.write_volatile(returns);
        std::mem::transmute::<*mut [u8; 1], extern "C" fn()>(code)();
    }
    Ok(())
}

fn write_own_memory() -> Done {
    let fd = open("/proc/self/mem", libc::O_RDWR, 0)?;
    let function = write_own_memory as *const u8;
    let byte = unsafe { *function };
    sys!(SYS_pwrite64, fd, &raw const byte, 1, function).map(drop)
}
