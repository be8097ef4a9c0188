//! Tricks to get past an envelope: the list of them, and the stage on which each is played twice, by a
//! program outside, which must succeed, and by a subject, which must not.
#![allow(dead_code, clippy::unwrap_used)]

mod manifest;
mod play;
mod stage;

use std::fs;

use crate::guest::Guest;
pub use manifest::Manifest;
use manifest::{Expected, Trick};
use play::{Cast, Ended};

/// Lets the kernel itself allow everybody what it can, so that only Cartouche refuses.
const LENIENT: [(&str, &str); 10] = [
    ("dev/tty/legacy_tiocsti", "1"),
    ("fs/protected_fifos", "0"),
    ("fs/protected_hardlinks", "0"),
    ("fs/protected_regular", "0"),
    ("fs/protected_symlinks", "0"),
    ("kernel/perf_event_paranoid", "-1"),
    ("kernel/unprivileged_bpf_disabled", "0"),
    ("kernel/yama/ptrace_scope", "0"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
    ("net/ipv4/tcp_fastopen", "3"),
];

/// How it went with one trick by one user.
struct Line {
    trick: Trick,
    uid: u32,
    outside: Ended,
    confined: Ended,
    verdict: &'static str,
}

impl Line {
    fn play(cast: &Cast, trick: &Trick, uid: u32) -> Self {
        let outside = cast.outside(trick, uid);
        let confined = cast.confined(trick, uid);
        let verdict = match (trick.expected, confined.worked) {
            _ if !outside.worked => "BROKEN",
            (Expected::Refused, true) => "BYPASS",
            (Expected::Refused, false) if confined.refused == 0 && trick.quiet.is_none() => {
                "UNTOLD"
            }
            (Expected::Refused, false) => "refused",
            (Expected::Unseen, true) => "unseen",
            (Expected::Unseen, false) => "NOW SEEN",
        };
        Self {
            trick: trick.clone(),
            uid,
            outside,
            confined,
            verdict,
        }
    }

    fn is_good(&self) -> bool {
        ["refused", "unseen"].contains(&self.verdict)
    }

    fn print(&self) {
        eprintln!(
            "{:9} {:30} {:5}  {} | outside: {} | confined: {} | {} refused",
            self.verdict,
            self.trick.name,
            self.uid,
            self.trick.tries,
            self.outside.said,
            self.confined.said,
            self.confined.refused
        );
    }
}

/// Plays all tricks that are chosen and exist on this kernel, tells how it went, and fails if one of them
/// got past its envelope, or does not work where nobody refuses it.
pub fn play(guest: &Guest, chosen: impl Fn(&Trick) -> bool) {
    for (name, value) in LENIENT {
        let _ = fs::write(format!("/proc/sys/{name}"), value);
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let manifest = Manifest::load();
    let cast = Cast::new(guest);
    let mut lines = Vec::new();
    for trick in &manifest.tricks {
        if !trick.exists_on(&release) || !chosen(trick) {
            continue;
        }
        for uid in &trick.users {
            let line = Line::play(&cast, trick, *uid);
            line.print();
            lines.push(line);
        }
    }

    let (good, bad): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.is_good());
    let count = |verdict| lines.iter().filter(|line| line.verdict == verdict).count();
    eprintln!(
        "{} tricks: {} refused, {} unseen, {} succeed, {} otherwise wrong; other tests play {} more",
        lines.len(),
        count("refused"),
        count("unseen"),
        count("BYPASS"),
        bad.len() - count("BYPASS"),
        manifest.covered.len()
    );
    bad.iter().for_each(|line| line.print());
    assert!(!lines.is_empty() && good.len() == lines.len());
}
