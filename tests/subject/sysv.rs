//! Acts on shared memory, semaphores and message queues of System V, by their numbers, and on POSIX message
//! queues, by their names.

use std::mem::zeroed;

use libc::{GETVAL, IPC_CREAT, IPC_RMID, IPC_SET, IPC_STAT, SETVAL, SHM_LOCK};

use crate::{Done, Errno, c, number, sys};

/// linux/shm.h, sem.h, msg.h, ipc.h
const SHM_STAT_ANY: i32 = 15;
const SEM_STAT_ANY: i32 = 20;
const MSG_STAT_ANY: i32 = 13;
const INDEX_MASK: i64 = 0x7fff;

pub fn perform(words: &[&str]) -> Option<Done> {
    Some(match words {
        // prints their numbers
        ["sysv-make", key] => make(number(key)),
        ["shm-find", key] => sys!(SYS_shmget, number(key), 0, 0).map(drop),
        ["sem-find", key] => sys!(SYS_semget, number(key), 0, 0).map(drop),
        ["msg-find", key] => sys!(SYS_msgget, number(key), 0).map(drop),
        ["shm-attach", id] => sys!(SYS_shmat, number(id), 0, 0).map(drop),
        ["shm-stat", id] => shm(id, IPC_STAT),
        ["shm-stat-any", id] => shm(&index(id), SHM_STAT_ANY),
        ["shm-set", id] => shm(id, IPC_SET),
        ["shm-lock", id] => shm(id, SHM_LOCK),
        ["shm-remove", id] => shm(id, IPC_RMID),
        ["sem-operate", id] => {
            let up = [0_u16, 1, 0];
            sys!(SYS_semop, number(id), up.as_ptr(), 1).map(drop)
        }
        ["sem-value", id] => sys!(SYS_semctl, number(id), 0, GETVAL, 0).map(drop),
        ["sem-set-value", id] => sys!(SYS_semctl, number(id), 0, SETVAL, 1).map(drop),
        ["sem-stat", id] => sem(id, IPC_STAT),
        ["sem-stat-any", id] => sem(&index(id), SEM_STAT_ANY),
        ["sem-set", id] => sem(id, IPC_SET),
        ["sem-remove", id] => sem(id, IPC_RMID),
        ["msg-send", id] => {
            let message = [1_i64, 0];
            sys!(
                SYS_msgsnd,
                number(id),
                message.as_ptr(),
                8,
                libc::IPC_NOWAIT
            )
            .map(drop)
        }
        ["msg-receive", id] => {
            let mut message = [0_i64; 2];
            let flags = libc::IPC_NOWAIT;
            sys!(SYS_msgrcv, number(id), message.as_mut_ptr(), 8, 0, flags).map(drop)
        }
        ["msg-stat", id] => msg(id, IPC_STAT),
        ["msg-stat-any", id] => msg(&index(id), MSG_STAT_ANY),
        ["msg-set", id] => msg(id, IPC_SET),
        ["msg-remove", id] => msg(id, IPC_RMID),
        ["queue-make", name] => queue(name, libc::O_CREAT | libc::O_EXCL | libc::O_RDWR).map(drop),
        ["queue-open", name] => queue(name, libc::O_RDONLY).map(drop),
        ["queue-use", name] => use_queue(name),
        ["queue-remove", name] => sys!(SYS_mq_unlink, c(name).as_ptr()).map(drop),
        _ => return None,
    })
}

fn make(key: i64) -> Done {
    let flags = IPC_CREAT | 0o666;
    let memory = sys!(SYS_shmget, key, 4096, flags)?;
    let semaphores = sys!(SYS_semget, key, 1, flags)?;
    let messages = sys!(SYS_msgget, key, flags)?;
    println!("{memory} {semaphores} {messages}");
    Ok(())
}

/// Where an object lies in the kernel's table.
fn index(id: &str) -> String {
    (number(id) & INDEX_MASK).to_string()
}

macro_rules! control {
    ($name:ident, $call:ident, $state:ident . $permissions:ident $(, $which:literal)?) => {
        /// What it is set to is what it has.
        fn $name(id: &str, command: i32) -> Done {
            let mut state: libc::$state = unsafe { zeroed() };
            state.$permissions.uid = unsafe { libc::geteuid() };
            state.$permissions.gid = unsafe { libc::getegid() };
            state.$permissions.mode = 0o666;
            sys!($call, number(id) $(, $which)?, command, &raw mut state).map(drop)
        }
    };
}
control!(shm, SYS_shmctl, shmid_ds.shm_perm);
control!(sem, SYS_semctl, semid_ds.sem_perm, 0);
control!(msg, SYS_msgctl, msqid_ds.msg_perm);

fn queue(name: &str, flags: i32) -> Result<i64, Errno> {
    let flags = flags | libc::O_NONBLOCK;
    sys!(SYS_mq_open, c(name).as_ptr(), flags, 0o666, 0)
}

fn use_queue(name: &str) -> Done {
    let queue = queue(name, libc::O_RDWR)?;
    sys!(SYS_mq_timedsend, queue, c"hello".as_ptr(), 5, 0, 0)?;
    let mut text = [0_u8; 8192];
    let taken = sys!(
        SYS_mq_timedreceive,
        queue,
        text.as_mut_ptr(),
        text.len(),
        0,
        0
    )?;
    if &text[..taken as usize] == b"hello" {
        Ok(())
    } else {
        Err(Errno(libc::EBADMSG))
    }
}
