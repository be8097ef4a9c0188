//! No trick gets past an envelope. Each of tests/bypass/manifest.toml is played by a program outside, for
//! whom it must work, and by a subject, for whom it must not; what no hook sees is listed as such.

#![allow(clippy::unwrap_used)] // outside of #[test] too: this file is nothing but tests

mod bypass;
mod guest;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use bypass::{Cast, Ended, Expected, Manifest, Trick};

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

#[test]
fn every_trick_is_listed_and_everything_listed_is_there() {
    let output = Command::new("/job/bypass").output().unwrap();
    let known: BTreeSet<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();

    assert_eq!(Manifest::load().problems(&known), [""; 0]);
}

#[test]
fn no_trick_gets_past_an_envelope() {
    guest::run(|guest| {
        for (name, value) in LENIENT {
            let _ = fs::write(format!("/proc/sys/{name}"), value);
        }
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let manifest = Manifest::load();
        let only = fs::read_to_string("/job/only").unwrap_or_default();
        let cast = Cast::new(guest);
        let mut lines = Vec::new();
        for trick in &manifest.tricks {
            if !trick.exists_on(&release)
                || !only.is_empty() && !only.contains(&format!(" {} ", trick.name))
            {
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
            "{} tricks: {} refused, {} unseen, {} succeed, {} otherwise wrong; {} more are played by other tests",
            lines.len(),
            count("refused"),
            count("unseen"),
            count("BYPASS"),
            bad.len() - count("BYPASS"),
            manifest.covered.len()
        );
        bad.iter().for_each(|line| line.print());
        assert_eq!(good.len(), lines.len());
    });
}
