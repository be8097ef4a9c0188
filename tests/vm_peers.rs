//! AppArmor's own test programs, compiled from Debian's source package, under Cartouche: an honest envelope lets
//! each pass, a narrower one refuses what it lacks and says so, and some things nobody is granted.

#![allow(clippy::unwrap_used, clippy::expect_used)] // outside of #[test] too: this file is nothing but tests

mod daemon;
mod guest;
mod peers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use cartouche::control::Standing;
use cartouche::event::Code;
use daemon::{Daemon, Mark, rename_into};
use peers::{Ended, PEERS, Part, Who};

#[test]
fn every_program_of_the_image_plays() {
    let there = fs::read_dir(PEERS).unwrap();
    let there: BTreeSet<String> = there
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();

    assert_eq!(peers::problems(&there), [""; 0]);
}

/// How a row went, but for what the audit says of it.
struct Line {
    part: Part,
    free: Ended,
    honest: Ended,
    narrow: Ended,
    changed: Vec<String>,
}

impl Line {
    fn play(part: Part) -> Self {
        let (free, _) = part.play(Who::Free);
        let (honest, mut changed) = part.play(Who::Honest);
        let (narrow, changed_by_narrow) = part.play(Who::Narrow);
        match part.row.always {
            true => changed.extend(changed_by_narrow),
            false => changed = changed_by_narrow,
        }
        Self {
            part,
            free,
            honest,
            narrow,
            changed,
        }
    }

    /// What is not as it should be, given what was told of each artifact.
    fn faults(&self, told: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
        let row = &self.part.row;
        let is_refused = row.is_refused() && !row.passes;
        let of = |who| told.get(&self.part.id(who)).cloned().unwrap_or_default();
        let expected = |who| -> BTreeSet<String> {
            let told = row.told.iter();
            told.map(|told| self.part.filled(told, who)).collect()
        };
        let mut faults = Vec::new();
        let mut check = |is_good: bool, fault: &str| {
            if !is_good {
                faults.push(fault.to_owned());
            }
        };
        check(self.free.has_passed(), "it fails outside");
        if row.always {
            check(!self.honest.has_passed(), "the widest envelope grants it");
            check(
                is_told(&expected(Who::Honest), &of(Who::Honest)),
                &format!("told with the widest envelope: {:?}", of(Who::Honest)),
            );
        } else {
            check(
                self.honest.has_passed(),
                "its envelope does not let it pass",
            );
            check(
                of(Who::Honest).is_empty(),
                &format!("told with its envelope: {:?}", of(Who::Honest)),
            );
        }
        check(
            self.narrow.has_passed() != is_refused,
            "the narrower envelope",
        );
        check(
            row.always || is_told(&expected(Who::Narrow), &of(Who::Narrow)),
            &format!("told with the narrower envelope: {:?}", of(Who::Narrow)),
        );
        check(
            !is_refused || self.changed.is_empty(),
            &format!("it changed {:?}", self.changed),
        );
        faults
    }
}

/// Whether that and nothing else is told; an operation alone stands for any object.
fn is_told(expected: &BTreeSet<String>, told: &BTreeSet<String>) -> bool {
    let fits = |told: &String| {
        let operation = told.split(' ').next().unwrap_or_default();
        expected.contains(told) || expected.contains(operation)
    };
    told.len() >= expected.len() && told.iter().all(fits)
}

/// `operation object` of every refusal behind a place, by artifact.
fn told(daemon: &Daemon, mark: Mark) -> BTreeMap<String, BTreeSet<String>> {
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for record in daemon.audit.since(mark) {
        let event = record.event;
        if let (Code::Drift, Some(id), Some(did)) = (event.code, event.artifact, event.runtime) {
            let what = format!("{} {}", did.operation, did.object);
            told.entry(id)
                .or_default()
                .insert(what.trim_end().to_owned());
        }
    }
    told
}

/// The parts with all of their artifacts in force.
fn admitted(daemon: &Daemon) -> Vec<Part> {
    let begun = Instant::now();
    let rows = peers::rows().into_iter().enumerate();
    let parts: Vec<_> = rows.map(|(number, row)| Part::new(row, number)).collect();
    let both = parts
        .iter()
        .flat_map(|part| [Who::Honest, Who::Narrow].map(|who| part.artifact(who)));
    let artifacts: Vec<_> = both.collect();
    eprintln!("{:?} written", begun.elapsed());
    for (path, text) in &artifacts {
        rename_into(path, text.as_bytes()).unwrap();
    }
    daemon.settles();
    let list = daemon.list();
    let rejected: Vec<_> = list
        .iter()
        .filter(|one| one.standing != Standing::Admitted)
        .collect();
    assert!(rejected.is_empty(), "{rejected:#?}");
    assert_eq!(list.len(), 2 * parts.len());
    parts
}

#[test]
fn programs_written_for_another_module_are_held_and_not_hindered() {
    daemon::require_lsm!();
    let begun = Instant::now();
    let mut daemon = daemon::stopped();
    fs::write("/etc/cartouche/scope.toml", peers::scope()).unwrap();
    daemon.start();
    eprintln!("{} s: the daemon runs", begun.elapsed().as_secs());
    let parts = admitted(&daemon);
    eprintln!("{} s: all are admitted", begun.elapsed().as_secs());
    let mark = daemon.audit.mark();

    let lines: Vec<_> = parts.into_iter().map(Line::play).collect();

    eprintln!("{} s: all have played", begun.elapsed().as_secs());
    // the last row is refused something, and records come in their order
    let last = lines.last().unwrap().part.id(Who::Narrow);
    let waited = Instant::now();
    while !told(&daemon, mark).contains_key(&last) && waited.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = told(&daemon, mark);
    let mut bad = 0;
    for line in &lines {
        let faults = line.faults(&told);
        let word = match (faults.is_empty(), line.part.row.is_refused()) {
            (false, _) => "WRONG",
            (true, true) => "held",
            (true, false) => "free",
        };
        eprintln!("{word:6} {}", line.part.row.name());
        if !faults.is_empty() {
            bad += 1;
            eprintln!("    {}", faults.join("\n    "));
            for (who, ended) in [
                ("free", &line.free),
                ("honest", &line.honest),
                ("narrow", &line.narrow),
            ] {
                eprintln!("    {who}: {}", ended.tell());
            }
        }
    }
    eprintln!("{} rows, {bad} wrong", lines.len());
    assert_eq!(bad, 0);
}
