//! Adoption: running tasks of admitted executables are held to their envelope from now on. What they have open
//! and could not open any more stays usable; it is told, once, and counted in the posture.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};

use crate::audit::outside;
use crate::bpf::sys;
use crate::error::chain;
use crate::event::{Code, Event, Outcome};
use crate::plan::{Grant, Plan};
use crate::posture::Adoption;

use super::Node;

/// How long looking may keep everything else waiting, at each adoption.
const PATIENCE: Duration = Duration::from_millis(100);

/// Descriptors that are looked at, at each adoption.
const DESCRIPTORS_MAX: u64 = 8192;

/// Descriptors that are named in one event.
const NAMED_MAX: usize = 16;

/// What the kernel adds to the name of a file that has none any more.
const DELETED: &[u8] = b" (deleted)";

impl Node {
    /// Binds running tasks of admitted executables, and tells how many and what they hold.
    pub(super) fn adopt(&mut self) {
        let adopted = match self.kernel.adopt() {
            Ok(adopted) => adopted,
            Err(error) => {
                let event = Event::new(Code::Adopted, Outcome::Noted)
                    .detail("failed")
                    .message(format!(
                        "{}; tasks that ran before their artifact may be outside it",
                        chain(&error)
                    ));
                self.record(event);
                return;
            }
        };
        let mut processes: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        for (slot, tgid) in adopted {
            if let Some(id) = self.holders.get(&slot) {
                processes.entry(id.clone()).or_default().insert(tgid);
            }
        }
        let mut look = Look::begin();
        for (id, processes) in processes {
            let found = look.at_all(&self.plan_of(&id), &processes);
            let event = found.event(&id);
            add(self.adopted.entry(id).or_default(), &found.counts);
            self.record(event);
        }
    }
}

fn add(sum: &mut Adoption, more: &Adoption) {
    sum.processes += more.processes;
    sum.holding_more += more.holding_more;
    sum.descriptors += more.descriptors;
    sum.sockets += more.sockets;
    sum.not_examined += more.not_examined;
}

/// A descriptor that the envelope would not let its process open.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    pid: u32,
    descriptor: u32,
    /// `read`, `write` or both; empty for what has no path.
    access: &'static str,
    what: String,
}

/// What the processes of one artifact hold.
#[derive(Debug, Default)]
struct Found {
    counts: Adoption,
    /// The first of them.
    held: Vec<Held>,
}

impl Found {
    fn event(&self, id: &str) -> Event {
        let counts = &self.counts;
        let mut message = format!(
            "{} running processes are held to the envelope from now on",
            counts.processes
        );
        let mut event = Event::new(Code::Adopted, Outcome::Noted)
            .artifact(id)
            .fact("processes", counts.processes.to_string());
        if counts.holding_more > 0 {
            message += &format!(
                "; {} of them keep {} descriptors that it would not let them open",
                counts.holding_more, counts.descriptors
            );
            event = event
                .detail("holds-more")
                .fact("holding_more", counts.holding_more.to_string())
                .fact("descriptors", counts.descriptors.to_string());
        }
        if counts.sockets > 0 {
            event = event.fact("sockets", counts.sockets.to_string());
        }
        if counts.not_examined > 0 {
            event = event.fact("not_examined", counts.not_examined.to_string());
        }
        for (number, held) in (1..).zip(&self.held) {
            let words = [held.access, held.what.as_str()];
            let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
            event = event.fact(
                format!("held_{number:02}"),
                format!("{} fd {}: {}", held.pid, held.descriptor, words.join(" ")),
            );
        }
        event.message(message)
    }
}

/// What is left of one adoption's share.
struct Look {
    patience: Duration,
    descriptors: u64,
}

impl Look {
    fn begin() -> Self {
        Self {
            patience: PATIENCE,
            descriptors: DESCRIPTORS_MAX,
        }
    }

    fn at_all(&mut self, plan: &Plan, processes: &BTreeSet<u32>) -> Found {
        let mut found = Found::default();
        let end = Instant::now() + self.patience;
        for pid in processes {
            let before = found.counts.descriptors;
            let whole = self.at(plan, *pid, end, &mut found);
            found.counts.processes += 1;
            found.counts.not_examined += u64::from(!whole);
            found.counts.holding_more += u64::from(found.counts.descriptors > before);
        }
        self.patience = end.saturating_duration_since(Instant::now());
        found
    }

    /// Whether all descriptors of a process were looked at. One that has ended has none.
    fn at(&mut self, plan: &Plan, pid: u32, end: Instant, found: &mut Found) -> bool {
        let process = format!("/proc/{pid}");
        let Ok(entries) = fs::read_dir(format!("{process}/fd")) else {
            return !Path::new(&process).exists();
        };
        for entry in entries.flatten() {
            if self.descriptors == 0 || Instant::now() > end {
                return false;
            }
            self.descriptors -= 1;
            let name = entry.file_name();
            let Some(descriptor) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // closed in the meantime
            let Ok(target) = fs::read_link(entry.path()) else {
                continue;
            };
            let target = target.as_os_str().as_bytes();
            let access = match judge(plan, &process, descriptor, target) {
                Verdict::Granted => continue,
                Verdict::Socket => {
                    found.counts.sockets += 1;
                    continue;
                }
                Verdict::Beyond(access) => access,
            };
            found.counts.descriptors += 1;
            if found.held.len() < NAMED_MAX {
                found.held.push(Held {
                    pid,
                    descriptor,
                    access,
                    what: outside(target),
                });
            }
        }
        true
    }
}

/// What an envelope says of one descriptor.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Granted,
    /// Where it leads is not known here.
    Socket,
    /// It could not be opened now, for this access.
    Beyond(&'static str),
}

fn judge(plan: &Plan, process: &str, descriptor: u32, target: &[u8]) -> Verdict {
    if target.starts_with(b"socket:") {
        return Verdict::Socket;
    }
    if !target.starts_with(b"/") {
        return match power(target) {
            Some(power) if !plan.grants.contains_key(&power) => Verdict::Beyond(""),
            _ => Verdict::Granted,
        };
    }
    let path = target.strip_suffix(DELETED).unwrap_or(target);
    if path.len() < target.len() && is_memory(path) {
        return Verdict::Granted;
    }
    let Some((reads, writes)) = access(process, descriptor) else {
        return Verdict::Granted;
    };
    let may =
        |right, wanted: bool| !wanted || plan.may_open(right, path, is_device(process, descriptor));
    let read = may(sys::right::RIGHT_READ, reads);
    let write = may(sys::right::RIGHT_WRITE, writes);
    match (read, write) {
        (true, true) => Verdict::Granted,
        (false, true) => Verdict::Beyond("read"),
        (true, false) => Verdict::Beyond("write"),
        (false, false) => Verdict::Beyond("read,write"),
    }
}

/// The power that a descriptor without a path stands for.
fn power(target: &[u8]) -> Option<Grant> {
    let operation = match target.strip_prefix(b"anon_inode:")? {
        b"[io_uring]" => sys::operation::OP_IO_URING,
        b"[perf_event]" => sys::operation::OP_PERF,
        b"[userfaultfd]" => sys::operation::OP_USERFAULTFD,
        name if name.starts_with(b"bpf") => sys::operation::OP_BPF,
        _ => return None,
    };
    Some(Grant {
        operation: operation.0,
        value: 0,
    })
}

/// Memory that looks like a file: no rule is about it.
fn is_memory(path: &[u8]) -> bool {
    path.starts_with(b"/memfd:") || path.starts_with(b"/SYSV") || path == b"/dev/zero"
}

/// Whether it is open for reading and for writing; None for a mere path, or if it is closed.
fn access(process: &str, descriptor: u32) -> Option<(bool, bool)> {
    let text = fs::read_to_string(format!("{process}/fdinfo/{descriptor}")).ok()?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
    if flags & libc::O_PATH != 0 {
        return None;
    }
    Some(match flags & libc::O_ACCMODE {
        libc::O_RDONLY => (true, false),
        libc::O_WRONLY => (false, true),
        // for ioctl only, the kernel asks for both
        _ => (true, true),
    })
}

/// Devices need an exact rule. No file server is asked.
fn is_device(process: &str, descriptor: u32) -> bool {
    let name = format!("{process}/fd/{descriptor}");
    let found = statx(CWD, &name, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE);
    found.is_ok_and(|found| {
        matches!(
            FileType::from_raw_mode(u32::from(found.stx_mode)),
            FileType::CharacterDevice | FileType::BlockDevice
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::artifact::capability::CapabilityName;
    use crate::plan::tests::{capability, compile};

    fn verdict(plan: &Plan, file: &File) -> Verdict {
        let descriptor = file.as_raw_fd() as u32;
        let target = fs::read_link(format!("/proc/self/fd/{descriptor}")).unwrap();
        judge(
            plan,
            "/proc/self",
            descriptor,
            target.as_os_str().as_bytes(),
        )
    }

    #[test]
    fn a_descriptor_is_judged_by_its_path_and_by_how_it_is_open() {
        let directory = tempfile::tempdir().unwrap();
        let mine = directory.path().join("mine");
        let other = directory.path().join("other");
        for path in [&mine, &other] {
            fs::write(path, "").unwrap();
        }
        let mut open = OpenOptions::new();
        let both = open.read(true).write(true);
        let name = mine.to_str().unwrap();
        let reads = compile(vec![capability(CapabilityName::FsRead, &[name], &[])]);
        let all = compile(vec![
            capability(CapabilityName::FsRead, &[name], &[]),
            capability(CapabilityName::FsWrite, &[name], &[]),
        ]);

        assert_eq!(
            verdict(&reads, &File::open(&mine).unwrap()),
            Verdict::Granted
        );
        assert_eq!(
            verdict(&reads, &both.open(&mine).unwrap()),
            Verdict::Beyond("write")
        );
        assert_eq!(verdict(&all, &both.open(&mine).unwrap()), Verdict::Granted);
        assert_eq!(
            verdict(&all, &both.open(&other).unwrap()),
            Verdict::Beyond("read,write")
        );
        let removed = File::open(&mine).unwrap();
        fs::remove_file(&mine).unwrap();
        assert_eq!(verdict(&reads, &removed), Verdict::Granted);
    }

    #[test]
    fn devices_that_no_rule_names_exactly_are_beyond() {
        let plan = compile(vec![capability(CapabilityName::FsRead, &["/dev/**"], &[])]);

        let null = File::open("/dev/null").unwrap();
        let directory = File::open("/dev").unwrap();
        assert_eq!(verdict(&plan, &null), Verdict::Granted);
        assert_eq!(verdict(&plan, &directory), Verdict::Granted);
        assert!(plan.may_open(sys::right::RIGHT_READ, b"/dev/kvm", false));
        assert!(!plan.may_open(sys::right::RIGHT_READ, b"/dev/kvm", true));
    }

    #[test]
    fn what_has_no_path_is_a_socket_a_power_or_nothing() {
        let plan = compile(vec![capability(CapabilityName::FsRead, &["/x"], &[])]);
        let judge = |target: &str| judge(&plan, "/proc/self", 0, target.as_bytes());

        assert_eq!(judge("socket:[7]"), Verdict::Socket);
        assert_eq!(judge("anon_inode:[io_uring]"), Verdict::Beyond(""));
        assert_eq!(judge("anon_inode:bpf-map"), Verdict::Beyond(""));
        assert_eq!(judge("anon_inode:[eventpoll]"), Verdict::Granted);
        assert_eq!(judge("pipe:[7]"), Verdict::Granted);
        assert_eq!(judge("/memfd:x (deleted)"), Verdict::Granted);
    }

    #[test]
    fn what_takes_too_long_is_counted_and_not_looked_at() {
        let mut look = Look {
            patience: PATIENCE,
            descriptors: 0,
        };

        let own = BTreeSet::from([std::process::id()]);
        let found = look.at_all(&Plan::default(), &own);

        assert_eq!((found.counts.processes, found.counts.not_examined), (1, 1));
        assert_eq!(found.event("x").facts["not_examined"], "1");
    }
}
