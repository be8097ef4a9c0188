//! audit.jsonl and its rotated files: one record a line, the chain running through all of them.
//! What a crash, a full disk or a stranger left behind is mended where possible and always told.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags, flock};

use super::{Error, Head, Record};
use crate::error::chain;
use crate::event::{Code, Event, Outcome};

/// The file that is written to. Rotated ones are `audit.SEQ.jsonl`, SEQ being the 20-digit number of
/// their first record, so that the order of names is the order of records.
pub const CURRENT: &str = "audit.jsonl";

/// Only root writes, its group may read.
const MODE: u32 = 0o640;

/// How much of a torn line is kept in the record that tells of it, in bytes.
const TORN_KEPT: usize = 1024;

/// When the log is rotated and what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size at which audit.jsonl is rotated, in bytes.
    pub max_size: u64,
    /// How many rotated files are kept.
    pub keep: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_size: 64 << 20,
            keep: 8,
        }
    }
}

/// The audit log, open for appending by this process alone.
#[derive(Debug)]
pub struct AuditLog {
    dir: PathBuf,
    limits: Limits,
    /// Holds the lock on the directory.
    _lock: File,
    file: File,
    /// How much of the file is whole records, in bytes.
    size: u64,
    /// Set when a write failed half-way and its bytes could not be taken back yet.
    torn: bool,
    /// Set when a rotation failed, to tell it once.
    oversized: bool,
    /// Number of the first record in the file, 0 while it is empty.
    first: u64,
    head: Head,
    notes: Vec<Event>,
    written: Vec<Record>,
}

impl AuditLog {
    /// Opens the log in `dir` (which exists) and continues its chain, or begins one.
    ///
    /// A last line that a crash tore is cut off, a last record that cannot be read is skipped; both
    /// become events, see [`AuditLog::take_notes`].
    pub fn open(dir: &Path, limits: Limits) -> Result<Self, Error> {
        let lock = File::open(dir).map_err(failed("opened", dir))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| Error::Locked {
            dir: dir.to_owned(),
        })?;
        let path = dir.join(CURRENT);
        let mut log = Self {
            dir: dir.to_owned(),
            limits,
            _lock: lock,
            file: open_for_append(&path).map_err(failed("opened", &path))?,
            size: 0,
            torn: false,
            oversized: false,
            first: 0,
            head: Head::genesis(),
            notes: Vec::new(),
            written: Vec::new(),
        };
        log.resume(&path).map_err(failed("read", &path))?;
        Ok(log)
    }

    /// Appends an event; its record is on its way to the disk when this returns.
    ///
    /// # Errors
    /// The record is not in the log, and the next one takes its place in the chain.
    pub fn append(&mut self, event: Event) -> Result<Record, Error> {
        let path = self.dir.join(CURRENT);
        self.follow_file(&path).map_err(failed("opened", &path))?;
        let (_, line) = self.link(event.clone())?;
        if self.size > 0 && self.size + line.len() as u64 >= self.limits.max_size {
            self.rotate(&path);
        }
        self.put(event)
    }

    fn link(&self, event: Event) -> Result<(Record, String), Error> {
        self.head
            .link(event, Timestamp::now())
            .map_err(|source| Error::Unwritable { source })
    }

    /// Appends without a look at the file's place or size.
    fn put(&mut self, event: Event) -> Result<Record, Error> {
        let (record, mut line) = self.link(event)?;
        line.push('\n');
        let path = self.dir.join(CURRENT);
        self.write(line.as_bytes())
            .map_err(failed("written", &path))?;
        if self.first == 0 {
            self.first = record.seq;
        }
        self.head = record.head();
        Ok(record)
    }

    /// Records that the log wrote of its own accord since the last call: the beginnings of new files.
    pub fn take_written(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.written)
    }

    /// What the log has to tell of itself since the last call, to be appended by the caller.
    pub fn take_notes(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.notes)
    }

    /// The newest record.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Waits until all records are on the disk; a disk that cannot is told by the next append.
    pub fn sync(&self) {
        let _ = self.file.sync_data();
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.size)?;
            self.torn = false;
        }
        if let Err(error) = self.file.write_all(line) {
            self.torn = self.file.set_len(self.size).is_err();
            return Err(error);
        }
        self.size += line.len() as u64;
        Ok(())
    }

    /// Finds the head of what is there, newest file first, and mends the end of the current file.
    fn resume(&mut self, path: &Path) -> io::Result<()> {
        self.size = self.file.metadata()?.len();
        let mut end = End::of(&mut self.file)?;
        if let Some(record) = end.unterminated.take() {
            self.write(b"\n")?;
            end.last = Some(record);
        } else if !end.torn.is_empty() {
            self.size -= end.torn.len() as u64;
            self.file.set_len(self.size)?;
            self.notes.push(torn_tail(&end.torn));
        }
        if let Some(record) = first_record(path)? {
            self.first = record.seq;
        }
        let mut skipped = end.skipped.then(|| path.to_owned());
        let mut last = end.last;
        for rotated in rotated_files(&self.dir)?.into_iter().rev() {
            if last.is_some() {
                break;
            }
            let end = End::of(&mut open_for_reading(&rotated.path)?)?;
            if end.skipped || !end.torn.is_empty() {
                skipped = skipped.or(Some(rotated.path));
            }
            last = end.last.or(end.unterminated);
        }
        if let Some(record) = last {
            self.head = record.head();
        }
        if self.first == 0 && self.size > 0 {
            self.first = self.head.seq + 1;
        }
        if let Some(path) = skipped {
            self.notes.push(chain_broken(&path, &self.head));
        }
        Ok(())
    }

    /// Goes on in a new file if somebody took the old one away.
    fn follow_file(&mut self, path: &Path) -> io::Result<()> {
        let ours = self.file.metadata()?;
        match fs::symlink_metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.file = open_for_append(path)?;
        self.size = self.file.metadata()?.len();
        self.torn = false;
        self.first = 0;
        self.notes.push(
            Event::new(Code::EventsLost, Outcome::Noted)
                .detail("log-replaced")
                .fact("head", self.head.hash.clone())
                .fact("head_seq", self.head.seq.to_string())
                .message(format!(
                    "Somebody moved or removed {path:?} while it was written; the log continues in a new file"
                )),
        );
        Ok(())
    }

    /// Puts the file aside and begins the next; if that fails, goes on in the old one.
    fn rotate(&mut self, path: &Path) {
        let aside = self.dir.join(rotated_name(self.first));
        match self.begin_next(path, &aside) {
            Ok(old) => {
                self.oversized = false;
                // A crash before this leaves a file too many, never one that is missed.
                for file in old {
                    // It is tried again at the next rotation.
                    let _ = fs::remove_file(file.path);
                }
            }
            Err(error) if !self.oversized => {
                self.oversized = true;
                self.notes.push(
                    Event::new(Code::SinkChanged, Outcome::Noted)
                        .detail("not-rotated")
                        .message(format!(
                            "The audit log could not be rotated to {aside:?} ({}); it grows beyond its limit",
                            chain(&error)
                        )),
                );
            }
            Err(_) => {}
        }
    }

    /// Begins a new file with a record that says what the chain's head is and which file is the oldest
    /// to be kept; those that are older are returned.
    fn begin_next(&mut self, path: &Path, aside: &Path) -> Result<Vec<Rotated>, Error> {
        rustix::fs::renameat_with(CWD, path, CWD, aside, RenameFlags::NOREPLACE)
            .map_err(|error| failed("renamed", path)(error.into()))?;
        self.file = open_for_append(path).map_err(failed("opened", path))?;
        self.size = 0;
        self.torn = false;
        self.first = 0;
        let mut old = rotated_files(&self.dir).map_err(failed("listed", &self.dir))?;
        let kept = old.split_off(old.len().saturating_sub(self.limits.keep));
        let oldest = kept.first().map_or(self.head.seq + 1, |file| file.first);
        let event = Event::new(Code::ChainHead, Outcome::Noted)
            .detail("rotated")
            .fact("oldest", oldest.to_string())
            .fact("head", self.head.hash.clone())
            .fact("head_seq", self.head.seq.to_string());
        let record = self.put(event)?;
        self.written.push(record);
        Ok(old)
    }
}

/// Hands all records of a log to `each`, oldest first. They are read as they say of themselves, lines
/// that are no records left out; whether they are what was written is `verify`'s matter.
pub fn each_record(dir: &Path, mut each: impl FnMut(Record)) -> Result<(), Error> {
    for path in all_files(dir).map_err(failed("listed", dir))? {
        let file = open_for_reading(&path).map_err(failed("opened", &path))?;
        for line in BufReader::new(file).split(b'\n') {
            let line = line.map_err(failed("read", &path))?;
            if let Ok(record) = serde_json::from_slice(&line) {
                each(record);
            }
        }
    }
    Ok(())
}

/// A rotated file and the number of its first record according to its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rotated {
    pub(super) first: u64,
    pub(super) path: PathBuf,
}

/// The rotated files of a log, oldest first.
pub(super) fn rotated_files(dir: &Path) -> io::Result<Vec<Rotated>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let digits = name
            .to_str()
            .and_then(|name| name.strip_prefix("audit."))
            .and_then(|name| name.strip_suffix(".jsonl"))
            .filter(|digits| digits.len() == 20);
        if let Some(first) = digits.and_then(|digits| digits.parse().ok()) {
            files.push(Rotated {
                first,
                path: entry.path(),
            });
        }
    }
    files.sort();
    Ok(files)
}

/// All files of a log, oldest first; the current one last, if it is there.
pub(super) fn all_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let rotated = rotated_files(dir)?.into_iter().map(|file| file.path);
    let current = Some(dir.join(CURRENT)).filter(|path| path.exists());
    Ok(rotated.chain(current).collect())
}

pub(super) fn rotated_name(first: u64) -> String {
    format!("audit.{first:020}.jsonl")
}

pub(super) fn open_for_reading(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

fn open_for_append(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(MODE)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    Ok(file)
}

fn first_record(path: &Path) -> io::Result<Option<Record>> {
    let mut line = Vec::new();
    BufReader::new(open_for_reading(path)?).read_until(b'\n', &mut line)?;
    Ok(Record::read(line.strip_suffix(b"\n").unwrap_or(&line)))
}

/// What the end of a file holds.
#[derive(Debug, Default)]
struct End {
    /// The last whole line that is a record.
    last: Option<Record>,
    /// Whether lines that are no records follow it.
    skipped: bool,
    /// A whole record that only lacks its newline.
    unterminated: Option<Record>,
    /// Bytes behind the last newline that are no record.
    torn: Vec<u8>,
}

impl End {
    /// Reads backwards until a record is found.
    fn of(file: &mut File) -> io::Result<Self> {
        let size = file.seek(SeekFrom::End(0))?;
        let mut window = 64 << 10;
        loop {
            let start = size.saturating_sub(window);
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            Read::by_ref(file)
                .take(size - start)
                .read_to_end(&mut bytes)?;
            let end = Self::in_bytes(&bytes, start == 0);
            if end.last.is_some() || start == 0 {
                return Ok(end);
            }
            window = window.saturating_mul(4);
        }
    }

    /// `whole` says that the bytes begin with a line.
    fn in_bytes(bytes: &[u8], whole: bool) -> Self {
        let mut end = Self::default();
        let mut lines: Vec<_> = bytes.split(|&byte| byte == b'\n').collect();
        let tail = lines.pop().unwrap_or_default();
        end.unterminated = Record::read(tail);
        if end.unterminated.is_none() {
            end.torn = tail.to_vec();
        }
        let first_whole = usize::from(!whole).min(lines.len());
        for line in lines.drain(first_whole..).rev() {
            end.last = Record::read(line);
            if end.last.is_some() {
                break;
            }
            end.skipped = true;
        }
        end
    }
}

fn torn_tail(torn: &[u8]) -> Event {
    let kept = torn.get(..TORN_KEPT).unwrap_or(torn);
    Event::new(Code::EventsLost, Outcome::Noted)
        .detail("torn-record")
        .fact("bytes", torn.len().to_string())
        .fact("torn", String::from_utf8_lossy(kept))
        .message("The last line of the audit log was incomplete, as after a crash; it was cut off and its text is kept here")
}

fn chain_broken(path: &Path, head: &Head) -> Event {
    Event::new(Code::EventsLost, Outcome::Noted)
        .detail("chain-broken")
        .fact("head", head.hash.clone())
        .fact("head_seq", head.seq.to_string())
        .message(format!(
            "The end of {path:?} is not what was written; the chain continues behind its last whole record, run \"cartouche audit verify\""
        ))
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verify;

    fn event(number: u64) -> Event {
        Event::new(Code::Submitted, Outcome::Submitted).fact("number", number.to_string())
    }

    fn open(dir: &Path) -> AuditLog {
        AuditLog::open(dir, Limits::default()).unwrap()
    }

    fn append(log: &mut AuditLog, numbers: std::ops::Range<u64>) {
        for number in numbers {
            log.append(event(number)).unwrap();
            for note in log.take_notes() {
                log.append(note).unwrap();
            }
        }
    }

    fn details(log: &mut AuditLog) -> Vec<String> {
        log.take_notes()
            .into_iter()
            .filter_map(|event| event.detail)
            .collect()
    }

    #[test]
    fn a_log_that_is_opened_again_continues_its_chain() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        append(&mut log, 0..3);
        let head = log.head().clone();
        drop(log);

        let mut log = open(dir.path());
        assert_eq!(log.head(), &head);
        append(&mut log, 3..5);

        assert_eq!(log.head().seq, 5);
        let report = verify(dir.path(), Some(&head.hash)).unwrap();
        assert_eq!(report.problems, []);
        assert_eq!(report.records, 5);
    }

    #[test]
    fn only_root_and_its_group_may_read_it() {
        let dir = tempfile::tempdir().unwrap();

        append(&mut open(dir.path()), 0..1);

        let mode = fs::metadata(dir.path().join(CURRENT)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o640);
    }

    #[test]
    fn a_second_writer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = open(dir.path());

        let second = AuditLog::open(dir.path(), Limits::default());

        assert!(matches!(second, Err(Error::Locked { .. })));
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_told() {
        let dir = tempfile::tempdir().unwrap();
        append(&mut open(dir.path()), 0..3);
        let path = dir.path().join(CURRENT);
        let size = fs::metadata(&path).unwrap().len();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(size - 20).unwrap();
        assert!(!verify(dir.path(), None).unwrap().problems.is_empty());

        let mut log = open(dir.path());
        let notes = log.take_notes();
        for note in notes.clone() {
            log.append(note).unwrap();
        }

        assert_eq!(notes[0].detail.as_deref(), Some("torn-record"));
        assert!(notes[0].facts["torn"].contains("\"number\":\"2\""));
        assert_eq!(log.head().seq, 3);
        assert_eq!(verify(dir.path(), None).unwrap().problems, []);
    }

    #[test]
    fn a_record_that_only_lacks_its_newline_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        append(&mut open(dir.path()), 0..3);
        let path = dir.path().join(CURRENT);
        let size = fs::metadata(&path).unwrap().len();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(size - 1).unwrap();

        let mut log = open(dir.path());

        assert_eq!(details(&mut log), [""; 0]);
        assert_eq!(log.head().seq, 3);
        append(&mut log, 3..4);
        assert_eq!(verify(dir.path(), None).unwrap().problems, []);
    }

    #[test]
    fn garbage_at_the_end_stays_as_evidence_and_the_chain_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        append(&mut open(dir.path()), 0..3);
        let path = dir.path().join(CURRENT);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"garbage\n").unwrap();

        let mut log = open(dir.path());

        assert_eq!(details(&mut log), ["chain-broken"]);
        append(&mut log, 3..4);
        assert_eq!(log.head().seq, 4);
        assert_eq!(verify(dir.path(), None).unwrap().problems.len(), 1);
    }

    #[test]
    fn rotation_keeps_so_many_files_and_one_chain() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits {
            max_size: 4096,
            keep: 3,
        };
        let mut log = AuditLog::open(dir.path(), limits).unwrap();

        append(&mut log, 0..200);
        drop(log);
        let mut log = AuditLog::open(dir.path(), limits).unwrap();
        append(&mut log, 200..250);

        let files = all_files(dir.path()).unwrap();
        assert_eq!(files.len(), 4);
        for path in &files {
            assert!(fs::metadata(path).unwrap().len() <= limits.max_size);
        }
        let report = verify(dir.path(), None).unwrap();
        assert_eq!(report.problems, []);
        assert_eq!(report.head, *log.head());
        assert!(report.first > 1);
    }

    #[test]
    fn a_crash_between_rotation_and_removal_is_no_fault() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits {
            max_size: 4096,
            keep: 1,
        };
        let mut log = AuditLog::open(dir.path(), limits).unwrap();
        let oldest = dir.path().join(rotated_name(1));
        append(&mut log, 0..1);
        while !oldest.exists() {
            append(&mut log, 1..2);
        }
        let kept = fs::read(&oldest).unwrap();
        while oldest.exists() {
            append(&mut log, 1..2);
        }

        fs::write(&oldest, kept).unwrap();

        let report = verify(dir.path(), None).unwrap();
        assert_eq!((report.first, report.problems), (1, vec![]));
    }

    #[test]
    fn a_log_right_after_a_rotation_continues_its_chain() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        append(&mut log, 0..3);
        let head = log.head().clone();
        drop(log);
        let aside = dir.path().join(rotated_name(1));
        fs::rename(dir.path().join(CURRENT), aside).unwrap();

        let log = open(dir.path());

        assert_eq!(log.head(), &head);
    }

    #[test]
    fn a_file_taken_away_while_it_is_written_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        append(&mut log, 0..3);
        fs::remove_file(dir.path().join(CURRENT)).unwrap();

        log.append(event(3)).unwrap();

        assert_eq!(details(&mut log), ["log-replaced"]);
        let mut records = 0;
        each_record(dir.path(), |_| records += 1).unwrap();
        assert_eq!(records, 1);
        assert!(!verify(dir.path(), None).unwrap().problems.is_empty());
    }

    #[test]
    fn a_failed_write_leaves_whole_records_and_the_next_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        append(&mut log, 0..2);
        let path = dir.path().join(CURRENT);
        // A descriptor without the right to write stands for a full disk.
        let good = std::mem::replace(&mut log.file, File::open(&path).unwrap());

        assert!(log.append(event(2)).is_err());
        log.file = good;
        let record = log.append(event(3)).unwrap();

        assert_eq!(record.seq, 3);
        assert_eq!(verify(dir.path(), None).unwrap().problems, []);
    }

    #[test]
    fn a_link_in_place_of_the_log_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join(CURRENT)).unwrap();

        let opened = AuditLog::open(dir.path(), Limits::default());

        assert!(matches!(opened, Err(Error::File { .. })));
    }
}
