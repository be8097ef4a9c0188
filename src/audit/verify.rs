//! Whether a log is what was written: every edit, cut, change of order and missing file is named with
//! its file and sequence number.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Serialize;

use super::log::{CURRENT, all_files, open_for_reading, rotated_files};
use super::{Error, Head, Record};
use crate::event::Code;

/// What is wrong at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The line is not a record as it was written.
    Edited,
    /// The record is whole, but the one before it was exchanged.
    Unchained,
    /// Records are missing before this one.
    Missing,
    /// The record stands at another place than it was written to.
    Reordered,
    /// A whole rotated file is missing.
    FileMissing,
    /// A file is not the one that its name says.
    FileMisnamed,
    /// The last line has no end: a crash, or a cut.
    Torn,
    /// The expected head is not in the log: its end was cut off, or all of it was written anew.
    HeadMissing,
    /// The log ends before the record that the posture report names.
    EndMissing,
    /// The record that the posture report names is another one in the log.
    Rewritten,
    /// There is no record at all where the daemon has run.
    LogMissing,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub fault: Fault,
    /// Name of the file in the log's directory.
    pub file: String,
    /// Line in the file, from 1; 0 if it is about the file as a whole.
    pub line: u64,
    /// The record concerned, or the first missing one.
    pub seq: u64,
    /// The last missing record, else equal to `seq`.
    pub last_seq: u64,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            seq,
            last_seq,
            ..
        } = self;
        match self.fault {
            Fault::Edited => write!(
                f,
                "{file}:{line}: record {seq} was edited: its content does not match its hash"
            ),
            Fault::Unchained => write!(
                f,
                "{file}:{line}: record {seq} does not follow the record before it, which was exchanged"
            ),
            Fault::Missing if seq == last_seq => {
                write!(f, "{file}:{line}: record {seq} is missing before this line")
            }
            Fault::Missing => write!(
                f,
                "{file}:{line}: records {seq} to {last_seq} are missing before this line"
            ),
            Fault::Reordered => write!(
                f,
                "{file}:{line}: record {seq} stands at the wrong place or twice"
            ),
            Fault::FileMissing if seq == last_seq => write!(
                f,
                "{file}: this file, beginning with record {seq}, is missing"
            ),
            Fault::FileMissing => write!(
                f,
                "{file}: this file is missing, and with it records {seq} to {last_seq}"
            ),
            Fault::FileMisnamed => write!(
                f,
                "{file}: the name does not fit its first record, which is {seq}"
            ),
            Fault::Torn => write!(
                f,
                "{file}:{line}: the last line, after record {seq}, is incomplete: a crash, or a cut"
            ),
            Fault::EndMissing if seq == last_seq => write!(
                f,
                "{file}: record {seq} is missing at the end: the posture report names it as written"
            ),
            Fault::EndMissing => write!(
                f,
                "{file}: {} records, {seq} to {last_seq}, are missing at the end: the posture report names record {last_seq} as written",
                last_seq - seq + 1
            ),
            Fault::Rewritten => write!(
                f,
                "{file}: record {seq} is not the one that the posture report names: the log was written anew"
            ),
            Fault::LogMissing if *last_seq > 0 => write!(
                f,
                "{file}: there is no record, although the posture report names record {last_seq} as written: the log was removed"
            ),
            Fault::LogMissing => write!(
                f,
                "{file}: there is no record, although the daemon has run on this machine: the log was removed"
            ),
            Fault::HeadMissing => write!(
                f,
                "{file}: the expected head is not in the log, which ends with record {seq}: its end was cut off or it was written anew"
            ),
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Names of the files that were read, oldest first.
    pub files: Vec<String>,
    /// How many whole records they hold.
    pub records: u64,
    /// The first record that is there, 0 if none.
    pub first: u64,
    /// The newest record; write it down to find a later cut.
    pub head: Head,
    /// The record that the log must reach, as somebody else says.
    pub witness: Option<Head>,
    pub problems: Vec<Problem>,
}

/// What is known of a log from elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The hash of a record that must be in it.
    pub hash: Option<String>,
    /// A record that was written before the check began; a log may go on after it.
    pub witness: Option<Head>,
    /// Whether a daemon has ever written to it.
    pub begun: bool,
}

/// Checks the log in `dir`; with `hash`, that of a record that must be in it.
///
/// # Errors
/// A file cannot be read; what it holds is then neither right nor wrong.
pub fn verify(dir: &Path, hash: Option<&str>) -> Result<Report, Error> {
    let expected = Expected {
        hash: hash.map(str::to_owned),
        ..Expected::default()
    };
    verify_against(dir, &expected)
}

/// Checks the log in `dir` against itself and what is `expected` of it.
///
/// # Errors
/// A file cannot be read; what it holds is then neither right nor wrong.
pub fn verify_against(dir: &Path, expected: &Expected) -> Result<Report, Error> {
    let failed = |source| Error::File {
        doing: "read",
        path: dir.to_owned(),
        source,
    };
    // with its directory all of the log is gone
    if matches!(dir.try_exists(), Ok(false)) {
        let mut check = Check::new(expected);
        check.ends();
        return Ok(check.report);
    }
    // A daemon that rotates while the files are read must not look like a missing file.
    for _ in 0..2 {
        let before = rotated_files(dir).map_err(failed)?;
        let report = Check::new(expected).run(dir)?;
        if report.problems.is_empty() || before == rotated_files(dir).map_err(failed)? {
            return Ok(report);
        }
    }
    Check::new(expected).run(dir)
}

struct Check<'a> {
    expected: &'a Expected,
    /// Whether the expected hash, and the witness, were met.
    found: bool,
    witnessed: bool,
    report: Report,
    /// Lines that are no records since the newest one that is.
    unreadable: u64,
    /// Numbers of records that came later than their place.
    late: BTreeSet<u64>,
    /// The oldest record that a rotation left, as the log itself says.
    oldest: u64,
    /// The first record and where it stands.
    begin: Option<(u64, String)>,
}

impl<'a> Check<'a> {
    fn new(expected: &'a Expected) -> Self {
        Self {
            expected,
            found: false,
            witnessed: false,
            report: Report {
                files: Vec::new(),
                records: 0,
                first: 0,
                head: Head::genesis(),
                witness: expected.witness.clone(),
                problems: Vec::new(),
            },
            unreadable: 0,
            late: BTreeSet::new(),
            oldest: 1,
            begin: None,
        }
    }

    fn run(mut self, dir: &Path) -> Result<Report, Error> {
        let listing = |source| Error::File {
            doing: "listed",
            path: dir.to_owned(),
            source,
        };
        let rotated = rotated_files(dir).map_err(listing)?;
        for path in all_files(dir).map_err(listing)? {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            let named = rotated
                .iter()
                .find(|file| file.path == path)
                .map(|file| file.first);
            self.file(&path, &name, named)
                .map_err(|source| Error::File {
                    doing: "read",
                    path: path.clone(),
                    source,
                })?;
            self.report.files.push(name);
        }
        self.ends();
        Ok(self.report)
    }

    fn file(&mut self, path: &Path, name: &str, named: Option<u64>) -> io::Result<()> {
        let mut reader = BufReader::new(open_for_reading(path)?);
        let mut line = Vec::new();
        let mut number = 0;
        while reader.read_until(b'\n', &mut line)? > 0 {
            number += 1;
            let place = Place {
                file: name,
                line: number,
                first_of: named.filter(|_| number == 1),
            };
            if line.pop_if(|byte| *byte == b'\n').is_none() {
                self.problem(&place, Fault::Torn, self.report.head.seq);
            } else if let Some(record) = Record::read(&line) {
                self.record(&place, &record);
            } else {
                self.edited(&place);
            }
            line.clear();
        }
        Ok(())
    }

    fn record(&mut self, place: &Place<'_>, record: &Record) {
        self.report.records += 1;
        self.found |= self.expected.hash.as_ref() == Some(&record.hash);
        self.witnessed |= self.expected.witness.as_ref() == Some(&record.head());
        if let Some(first) = place.first_of
            && first != record.seq
        {
            self.problem(place, Fault::FileMisnamed, record.seq);
        }
        if record.event.code == Code::ChainHead
            && let Some(Ok(oldest)) = record.event.facts.get("oldest").map(|text| text.parse())
        {
            self.oldest = oldest;
        }
        let unreadable = std::mem::take(&mut self.unreadable);
        if self.begin.is_none() {
            self.begin = Some((
                record.seq - unreadable.min(record.seq),
                place.file.to_owned(),
            ));
            self.report.first = record.seq;
            self.report.head = record.head();
            return;
        }
        let next = self.report.head.seq + 1;
        if record.seq < next {
            self.late.insert(record.seq);
            self.problem(place, Fault::Reordered, record.seq);
            return;
        }
        if record.seq > next {
            if record.seq - next > unreadable {
                self.gap(place, next + unreadable, record.seq - 1);
            }
        } else if record.prev != self.report.head.hash {
            self.problem(place, Fault::Unchained, record.seq);
        }
        self.report.head = record.head();
    }

    /// A line that is no record counts as the next one, edited.
    fn edited(&mut self, place: &Place<'_>) {
        self.unreadable += 1;
        let seq = self.report.head.seq + self.unreadable;
        self.problem(place, Fault::Edited, seq);
    }

    fn gap(&mut self, place: &Place<'_>, from: u64, to: u64) {
        let whole_file = place.line == 1;
        self.report.problems.push(Problem {
            fault: if whole_file {
                Fault::FileMissing
            } else {
                Fault::Missing
            },
            file: if whole_file {
                super::log::rotated_name(from)
            } else {
                place.file.to_owned()
            },
            line: if whole_file { 0 } else { place.line },
            seq: from,
            last_seq: to,
        });
    }

    /// What only shows when all is read.
    fn ends(&mut self) {
        // A gap whose records all came later is no loss: those records are named as out of place.
        let late = &self.late;
        self.report.problems.retain(|problem| {
            !(matches!(problem.fault, Fault::Missing | Fault::FileMissing)
                && (problem.seq..=problem.last_seq).all(|seq| late.contains(&seq)))
        });
        if let Some((first, file)) = &self.begin
            && *first > self.oldest.max(1)
        {
            self.report.problems.insert(
                0,
                Problem {
                    fault: Fault::Missing,
                    file: file.clone(),
                    line: 1,
                    seq: self.oldest.max(1),
                    last_seq: first - 1,
                },
            );
        }
        let head = self.report.head.seq;
        if !self.report.files.is_empty() && !self.report.files.iter().any(|name| name == CURRENT) {
            self.report.problems.push(Problem {
                fault: Fault::FileMissing,
                file: CURRENT.to_owned(),
                line: 0,
                seq: head + 1,
                last_seq: head + 1,
            });
        }
        if self.expected.hash.is_some() && !self.found {
            self.whole(Fault::HeadMissing, head, head);
        }
        self.compare_with_witness();
    }

    /// Nothing in a chain shows that its end was cut off; what was said of it elsewhere does.
    fn compare_with_witness(&mut self) {
        let witness = self.expected.witness.as_ref().map_or(0, |head| head.seq);
        let end = self.report.head.seq + self.unreadable;
        let named = |problem: &Problem| (problem.seq..=problem.last_seq).contains(&witness);
        if end == 0 {
            if self.expected.begun || witness > 0 {
                self.whole(Fault::LogMissing, 0, witness);
            }
        } else if witness > end {
            self.whole(Fault::EndMissing, end + 1, witness);
        } else if !self.witnessed
            // a rotation may have removed it
            && witness >= self.report.first.max(1)
            && !self.report.problems.iter().any(named)
        {
            self.whole(Fault::Rewritten, witness, witness);
        }
    }

    /// A problem of the log as a whole.
    fn whole(&mut self, fault: Fault, seq: u64, last_seq: u64) {
        self.report.problems.push(Problem {
            fault,
            file: CURRENT.to_owned(),
            line: 0,
            seq,
            last_seq,
        });
    }

    fn problem(&mut self, place: &Place<'_>, fault: Fault, seq: u64) {
        self.report.problems.push(Problem {
            fault,
            file: place.file.to_owned(),
            line: place.line,
            seq,
            last_seq: seq,
        });
    }
}

struct Place<'a> {
    file: &'a str,
    line: u64,
    /// On the first line of a rotated file, the number that its name says.
    first_of: Option<u64>,
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::audit::{AuditLog, Limits};
    use crate::event::{Event, Outcome};

    /// Three files of some records each.
    fn log(dir: &Path) -> Head {
        let limits = Limits {
            max_size: 3000,
            keep: 8,
        };
        let mut log = AuditLog::open(dir, limits).unwrap();
        for number in 0..30 {
            let event =
                Event::new(Code::Submitted, Outcome::Submitted).fact("number", number.to_string());
            log.append(event).unwrap();
            for note in log.take_notes() {
                log.append(note).unwrap();
            }
        }
        assert!(all_files(dir).unwrap().len() >= 3);
        log.head().clone()
    }

    /// Rewrites a file line by line; the number of the first record in it.
    fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<String>)) -> u64 {
        let text = fs::read_to_string(path).unwrap();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let first = Record::read(lines[0].as_bytes()).unwrap().seq;
        change(&mut lines);
        fs::write(path, lines.join("\n") + "\n").unwrap();
        first
    }

    fn found(dir: &Path, hash: Option<&str>) -> Vec<(Fault, String, u64)> {
        let hash = hash.map(str::to_owned);
        problems(
            dir,
            &Expected {
                hash,
                ..Expected::default()
            },
        )
    }

    /// What is found if somebody else says that the log had this head.
    fn witnessed(dir: &Path, witness: &Head) -> Vec<(Fault, String, u64)> {
        let witness = Some(witness.clone());
        problems(
            dir,
            &Expected {
                witness,
                ..Expected::default()
            },
        )
    }

    fn problems(dir: &Path, expected: &Expected) -> Vec<(Fault, String, u64)> {
        verify_against(dir, expected)
            .unwrap()
            .problems
            .into_iter()
            .map(|problem| (problem.fault, problem.file, problem.seq))
            .collect()
    }

    fn nth(dir: &Path, number: usize) -> (std::path::PathBuf, String) {
        let path = all_files(dir).unwrap()[number].clone();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (path, name)
    }

    #[test]
    fn an_untouched_log_has_no_problem() {
        let dir = tempfile::tempdir().unwrap();
        let head = log(dir.path());

        let expected = Expected {
            hash: Some(head.hash.clone()),
            witness: Some(head.clone()),
            begun: true,
        };
        let report = verify_against(dir.path(), &expected).unwrap();

        assert_eq!(report.problems, []);
        assert_eq!(report.head, head);
        assert_eq!(report.first, 1);
    }

    #[test]
    fn an_empty_directory_is_an_empty_log() {
        let dir = tempfile::tempdir().unwrap();

        assert_eq!(found(dir.path(), None), []);
        assert_eq!(
            found(dir.path(), Some("abc")),
            [(Fault::HeadMissing, CURRENT.into(), 0)]
        );
    }

    #[test]
    fn an_edited_record_is_named() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path());
        let (path, name) = nth(dir.path(), 1);

        let first = rewrite(&path, |lines| {
            lines[2] = lines[2].replace("submitted", "swallowed");
        });

        assert_eq!(found(dir.path(), None), [(Fault::Edited, name, first + 2)]);
    }

    #[test]
    fn an_edited_first_record_is_one_problem() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path());
        let (path, name) = nth(dir.path(), 0);

        rewrite(&path, |lines| {
            lines[0] = lines[0].replace("CART-001", "CART-002")
        });

        assert_eq!(found(dir.path(), None), [(Fault::Edited, name, 1)]);
    }

    #[test]
    fn a_record_exchanged_together_with_its_hash_is_found_at_the_next() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path());
        let (path, name) = nth(dir.path(), 1);

        let first = rewrite(&path, |lines| {
            let mut head = Record::read(lines[0].as_bytes()).unwrap().head();
            let event = Event::new(Code::Admitted, Outcome::Admitted);
            let (_, line) = head.link(event, jiff::Timestamp::now()).unwrap();
            head.seq += 1;
            lines[1] = line;
        });

        assert_eq!(
            found(dir.path(), None),
            [(Fault::Unchained, name, first + 2)]
        );
    }

    #[test]
    fn a_line_of_garbage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path());
        let (path, name) = nth(dir.path(), 0);

        rewrite(&path, |lines| lines.insert(2, "garbage \u{0}".into()));

        assert_eq!(found(dir.path(), None), [(Fault::Edited, name, 3)]);
    }

    #[test]
    fn a_cut_out_record_is_named() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path());
        let (path, name) = nth(dir.path(), 1);

        let first = rewrite(&path, |lines| {
            lines.remove(2);
        });

        assert_eq!(found(dir.path(), None), [(Fault::Missing, name, first + 2)]);
    }

    #[test]
    fn the_cut_off_beginning_is_named() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path());
        let (path, name) = nth(dir.path(), 0);

        rewrite(&path, |lines| {
            lines.remove(0);
        });

        assert_eq!(
            found(dir.path(), None),
            [
                (Fault::Missing, name.clone(), 1),
                (Fault::FileMisnamed, name, 2)
            ]
        );
    }

    #[test]
    fn a_cut_off_end_is_found_against_an_expected_head() {
        let dir = tempfile::tempdir().unwrap();
        let head = log(dir.path());
        let (path, name) = nth(dir.path(), all_files(dir.path()).unwrap().len() - 1);

        rewrite(&path, |lines| {
            lines.pop();
        });

        assert_eq!(found(dir.path(), None), []);
        assert_eq!(
            found(dir.path(), Some(&head.hash)),
            [(Fault::HeadMissing, name, head.seq - 1)]
        );
    }

    #[test]
    fn a_cut_off_end_is_found_against_a_witness_and_records_after_it_are_no_problem() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = AuditLog::open(dir.path(), Limits::default()).unwrap();
        let heads: Vec<_> = (0..5)
            .map(|_| {
                let event = Event::new(Code::Submitted, Outcome::Submitted);
                log.append(event).unwrap().head()
            })
            .collect();

        assert_eq!(witnessed(dir.path(), &heads[4]), []);
        assert_eq!(witnessed(dir.path(), &heads[1]), []);
        rewrite(&dir.path().join(CURRENT), |lines| lines.truncate(3));

        assert_eq!(
            witnessed(dir.path(), &heads[4]),
            [(Fault::EndMissing, CURRENT.into(), 4)]
        );
        assert_eq!(witnessed(dir.path(), &heads[1]), []);
        let expected = Expected {
            witness: Some(heads[4].clone()),
            ..Expected::default()
        };
        let report = verify_against(dir.path(), &expected).unwrap();
        let problem = report.problems[0].to_string();
        assert!(
            problem.contains("2 records, 4 to 5, ") && problem.contains("posture report"),
            "{problem}"
        );
    }

    #[test]
    fn a_log_that_was_written_anew_does_not_hold_the_witness() {
        let dir = tempfile::tempdir().unwrap();
        let head = log(dir.path());
        let other = tempfile::tempdir().unwrap();
        log(other.path());

        assert_eq!(
            witnessed(other.path(), &head),
            [(Fault::Rewritten, CURRENT.into(), head.seq)]
        );
    }

    #[test]
    fn a_witness_that_was_edited_or_rotated_away_is_not_named_twice() {
        let dir = tempfile::tempdir().unwrap();
        let head = log(dir.path());
        rewrite(&dir.path().join(CURRENT), |lines| {
            let last = lines.last_mut().unwrap();
            *last = last.replace("CART-", "CARX-");
        });
        assert_eq!(
            witnessed(dir.path(), &head),
            [(Fault::Edited, CURRENT.into(), head.seq)]
        );

        let dir = tempfile::tempdir().unwrap();
        let limits = Limits {
            max_size: 3000,
            keep: 1,
        };
        let mut log = AuditLog::open(dir.path(), limits).unwrap();
        let mut first = None;
        for _ in 0..40 {
            let record = log.append(Event::new(Code::Submitted, Outcome::Submitted));
            first.get_or_insert(record.unwrap().head());
            for note in log.take_notes() {
                log.append(note).unwrap();
            }
        }
        assert_eq!(witnessed(dir.path(), &first.unwrap()), []);
    }

    #[test]
    fn no_log_is_a_problem_where_there_must_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let head = log(dir.path());
        let begun = Expected {
            begun: true,
            ..Expected::default()
        };
        assert_eq!(problems(dir.path(), &begun), []);

        for path in all_files(dir.path()).unwrap() {
            fs::remove_file(path).unwrap();
        }

        for expected in [
            &begun,
            &Expected {
                witness: Some(head.clone()),
                ..begun.clone()
            },
        ] {
            assert_eq!(
                problems(dir.path(), expected),
                [(Fault::LogMissing, CURRENT.into(), 0)]
            );
        }
        fs::write(dir.path().join(CURRENT), "").unwrap();
        assert_eq!(
            problems(dir.path(), &begun),
            [(Fault::LogMissing, CURRENT.into(), 0)]
        );
    }

    #[test]
    fn exchanged_records_are_named_as_reordered_not_as_missing() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path());
        let (path, name) = nth(dir.path(), 1);

        let first = rewrite(&path, |lines| lines.swap(1, 2));

        assert_eq!(
            found(dir.path(), None),
            [(Fault::Reordered, name, first + 1)]
        );
    }

    #[test]
    fn a_record_that_stands_twice_is_named() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path());
        let (path, name) = nth(dir.path(), 1);

        let first = rewrite(&path, |lines| lines.insert(2, lines[1].clone()));

        assert_eq!(
            found(dir.path(), None),
            [(Fault::Reordered, name, first + 1)]
        );
    }

    #[test]
    fn a_missing_rotated_file_is_named_with_its_records() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path());
        let (path, name) = nth(dir.path(), 1);
        let first = rewrite(&path, |_| {});
        fs::remove_file(path).unwrap();

        assert_eq!(found(dir.path(), None), [(Fault::FileMissing, name, first)]);
    }

    #[test]
    fn a_missing_oldest_file_is_found_because_no_rotation_removed_it() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path());
        fs::remove_file(nth(dir.path(), 0).0).unwrap();
        let name = nth(dir.path(), 0).1;

        assert_eq!(found(dir.path(), None), [(Fault::Missing, name, 1)]);
    }

    #[test]
    fn a_missing_current_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path());
        fs::remove_file(dir.path().join(CURRENT)).unwrap();

        let found = found(dir.path(), None);

        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].0, found[0].1.as_str()),
            (Fault::FileMissing, CURRENT)
        );
    }

    #[test]
    fn a_torn_last_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let head = log(dir.path());
        let path = dir.path().join(CURRENT);
        let size = fs::metadata(&path).unwrap().len();
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(size - 9)
            .unwrap();

        assert_eq!(
            found(dir.path(), None),
            [(Fault::Torn, CURRENT.into(), head.seq - 1)]
        );
    }

    #[test]
    fn problems_read_as_sentences_that_name_file_and_record() {
        let problem = Problem {
            fault: Fault::Missing,
            file: CURRENT.into(),
            line: 7,
            seq: 3,
            last_seq: 5,
        };

        assert_eq!(
            problem.to_string(),
            "audit.jsonl:7: records 3 to 5 are missing before this line"
        );
    }
}
