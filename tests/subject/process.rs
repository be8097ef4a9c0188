//! Who performs an act: a child, a thread, another directory. And waiting.

use std::time::Duration;

use crate::{Done, Errno, c, number, outcome, perform as perform_one, sys};

pub fn perform(words: &[&str]) -> Option<Done> {
    Some(match words {
        ["fork", act @ ..] => in_child(fork(), act),
        // says so, and takes its time; the child does the act after it has waited for a file
        ["fork-heavy", megabytes, gate, then @ ..] => {
            let memory = vec![1_u8; (number(megabytes) as usize) << 20];
            println!("up");
            let child = fork();
            if child.is_ok_and(|pid| pid == 0) {
                let _ = crate::perform(&["await", gate]);
            }
            drop(memory);
            in_child(child, then)
        }
        ["clone3", act @ ..] => in_child(clone3(0), act),
        ["clone-user", act @ ..] => in_child(clone3(libc::CLONE_NEWUSER as u64), act),
        // shares the tables of files and of the file system with its parent
        ["clone-shared", act @ ..] => {
            in_child(clone3((libc::CLONE_FILES | libc::CLONE_FS) as u64), act)
        }
        // no longer this process's child: its parent is the parent of this one
        ["clone-parent", act @ ..] => sibling(act),
        // its parent is gone before it acts
        ["orphan", act @ ..] => orphan(act),
        ["thread", act @ ..] => in_thread(act),
        // the main thread is gone before another one acts, which then ends the process
        ["leaderless", act @ ..] => leaderless(act),
        ["in", directory, act @ ..] => {
            sys!(SYS_chdir, c(directory).as_ptr()).and_then(|_| perform_one(act))
        }
        ["descend", name, depth, act @ ..] => descend(name, depth).and_then(|()| perform_one(act)),
        ["mkdirs", name, depth] => make_directories(name, depth),
        // the outcome is that of the last time
        ["repeat", times, act @ ..] => {
            for _ in 1..number(times) {
                let _ = perform_one(act);
            }
            perform_one(act)
        }
        // each prints its outcome; that of the last one counts
        ["each", acts @ ..] => {
            let mut last = Ok(());
            for (number, act) in acts.split(|word| *word == "then").enumerate() {
                if number > 0 {
                    println!("{}", outcome(last));
                }
                last = perform_one(act);
            }
            last
        }
        ["await", path] => await_path(path),
        // the line of a script: `#!/subject exists`, to which the kernel adds the script and its arguments
        ["exists", path] => std::fs::metadata(path).map(drop).map_err(|_| Errno::last()),
        ["exists", path, "--", act @ ..] => {
            println!("{}", outcome(perform_one(&["exists", path])));
            perform_one(act)
        }
        ["up", act @ ..] => {
            println!("up");
            perform_one(act)
        }
        ["say", text] => {
            println!("{text}");
            Ok(())
        }
        // moves itself into a cgroup
        ["join", cgroup] => std::fs::write(format!("{cgroup}/cgroup.procs"), "0")
            .map_err(|error| Errno(error.raw_os_error().unwrap_or(0))),
        ["say-effective-user"] => {
            println!("{}", unsafe { libc::geteuid() });
            Ok(())
        }
        // dumps core, if it may
        ["crash"] => {
            unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
            sys!(SYS_kill, std::process::id(), libc::SIGSEGV).map(drop)
        }
        ["setuid", uid] => sys!(SYS_setuid, number(uid)).map(drop),
        _ => return None,
    })
}

fn fork() -> Result<i64, Errno> {
    crate::returned(i64::from(unsafe { libc::fork() }))
}

fn clone3(flags: u64) -> Result<i64, Errno> {
    #[repr(C)]
    #[derive(Default)]
    struct CloneArguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
    }
    let arguments = CloneArguments {
        flags,
        exit_signal: if flags & libc::CLONE_PARENT as u64 == 0 {
            libc::SIGCHLD as u64
        } else {
            0
        },
        ..Default::default()
    };
    sys!(
        SYS_clone3,
        &raw const arguments,
        size_of::<CloneArguments>()
    )
}

/// The child acts and prints the outcome; the parent waits, and says nothing of its own.
fn in_child(child: Result<i64, Errno>, act: &[&str]) -> Done {
    match child? {
        0 => {
            let done = perform_one(act);
            unsafe { libc::_exit(done.map_or_else(|errno| errno.0, |()| 0)) }
        }
        pid => exit_status(pid),
    }
}

/// Waits for a child of which the status is an errno.
pub fn exit_status(pid: i64) -> Done {
    let mut status = 0;
    sys!(SYS_wait4, pid, &raw mut status, libc::__WALL, 0)?;
    match libc::WEXITSTATUS(status) {
        _ if libc::WIFSIGNALED(status) => {
            println!("killed by {}", libc::WTERMSIG(status));
            Ok(())
        }
        0 => Ok(()),
        errno => Err(Errno(errno)),
    }
}

/// The outcome is printed by the sibling; the line of this process is that of the cloning.
fn sibling(act: &[&str]) -> Done {
    let mut ends = [0; 2];
    crate::returned(i64::from(unsafe { libc::pipe(ends.as_mut_ptr()) }))?;
    match clone3(libc::CLONE_PARENT as u64)? {
        0 => {
            println!("{}", outcome(perform_one(act)));
            unsafe { libc::_exit(0) }
        }
        _ => wait_for_end(ends),
    }
}

fn orphan(act: &[&str]) -> Done {
    let mut ends = [0; 2];
    crate::returned(i64::from(unsafe { libc::pipe(ends.as_mut_ptr()) }))?;
    if fork()? != 0 {
        return wait_for_end(ends);
    }
    let parent = unsafe { libc::getpid() };
    if fork()? != 0 {
        unsafe { libc::_exit(0) };
    }
    while unsafe { libc::getppid() } == parent {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("{}", outcome(perform_one(act)));
    unsafe { libc::_exit(0) }
}

/// The writing end closes when the last process that holds it has ended.
fn wait_for_end(ends: [i32; 2]) -> Done {
    let mut byte = 0_u8;
    sys!(SYS_close, ends[1])?;
    sys!(SYS_read, ends[0], &raw mut byte, 1).map(drop)
}

fn in_thread(act: &[&str]) -> Done {
    std::thread::scope(|scope| {
        scope
            .spawn(|| perform_one(act))
            .join()
            .expect("the acting thread ended by itself")
    })
}

fn leaderless(act: &[&str]) -> Done {
    let act: Vec<String> = act.iter().map(|word| (*word).to_owned()).collect();
    std::thread::spawn(move || {
        let has_ended = |stat: String| stat.rsplit_once(") ").is_some_and(|s| s.1.starts_with('Z'));
        while !std::fs::read_to_string("/proc/self/stat").is_ok_and(has_ended) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let words: Vec<&str> = act.iter().map(String::as_str).collect();
        println!("{}", outcome(perform_one(&words)));
        unsafe { libc::_exit(0) }
    });
    // this thread alone: not exit_group
    sys!(SYS_exit, 0).map(drop)
}

fn descend(name: &str, depth: &str) -> Done {
    for _ in 0..number(depth) {
        sys!(SYS_chdir, c(name).as_ptr())?;
    }
    Ok(())
}

/// Makes and enters one directory in the other.
fn make_directories(name: &str, depth: &str) -> Done {
    for _ in 0..number(depth) {
        sys!(SYS_mkdirat, libc::AT_FDCWD, c(name).as_ptr(), 0o777)?;
        sys!(SYS_chdir, c(name).as_ptr())?;
    }
    Ok(())
}

/// stat() is judged by nobody, so this works for a subject of a revoked artifact too.
fn await_path(path: &str) -> Done {
    while std::fs::symlink_metadata(path).is_err() {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
