//! Every decision, written twice: one line to syslog, one hash-chained record to audit.jsonl.
//! This module joins the sinks; what a decision is belongs to `event`, when it is made to others.

mod chain;
mod fold;
mod health;
mod line;
mod log;
mod syslog;
mod uses;
mod verify;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

pub use chain::{GENESIS, Head, Record};
pub use fold::Fold;
pub use health::SinkState;
pub use line::{Level, level, line, outside, printable};
pub use log::{AuditLog, CURRENT, Limits, each_record};
pub use syslog::{DEV_LOG, Syslog};
pub use uses::{Account, Uses};
pub use verify::{Expected, Fault, Problem, Report, verify, verify_against};

use crate::event::{Code, Event, Outcome};
use health::Health;

/// Name of the file sink in events and in the posture.
pub const FILE_SINK: &str = "audit.jsonl";
/// Name of the syslog sink in events and in the posture.
pub const SYSLOG_SINK: &str = "syslog";

/// Why the audit log cannot be opened, written or read.
#[derive(Debug)]
pub enum Error {
    /// A file of the log could not be opened, read, written or renamed.
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// Another process writes to the same directory.
    Locked { dir: PathBuf },
    /// A record could not be put into JSON.
    Unwritable { source: serde_json::Error },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { doing, path, .. } => {
                write!(f, "The audit log {path:?} could not be {doing}")
            }
            Self::Locked { dir } => write!(
                f,
                "Another process holds the audit log in {dir:?}; only one daemon may write there"
            ),
            Self::Unwritable { .. } => f.write_str("An audit record could not be written as JSON"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Locked { .. } => None,
            Self::Unwritable { source } => Some(source),
        }
    }
}

/// Where the audit goes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of audit.jsonl and its rotated files.
    pub dir: PathBuf,
    pub limits: Limits,
    /// The syslog socket, or `None` when syslog is switched off.
    pub syslog: Option<PathBuf>,
}

/// The JSON schema of one line of audit.jsonl.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Record)
}

/// Both sinks and the fold in front of them.
///
/// Recording never fails and never waits for a reader: a sink that does not take a record counts it,
/// and says so (CART-108) in the other sink at once and in itself once it works again.
#[derive(Debug)]
pub struct Audit {
    log: AuditLog,
    file_health: Health,
    syslog: Option<(Syslog, Health)>,
    fold: Fold,
}

impl Audit {
    /// Opens both sinks and continues the chain. An absent syslog is reported, not an error.
    pub fn open(settings: &Settings) -> Result<Self, Error> {
        let mut audit = Self {
            log: AuditLog::open(&settings.dir, settings.limits)?,
            file_health: Health::new(FILE_SINK),
            syslog: settings
                .syslog
                .as_ref()
                .map(|path| (Syslog::new(path), Health::new(SYSLOG_SINK))),
            fold: Fold::new(fold::WINDOW),
        };
        audit.write_notes();
        Ok(audit)
    }

    /// Records an event; a repeat of a runtime denial is held back and counted, see [`Fold`].
    pub fn record(&mut self, event: Event, now: Instant) {
        for event in self.fold.push(event, now) {
            self.write(event);
        }
    }

    /// When [`Audit::flush_due`] wants to be called, `None` while nothing is held back.
    pub fn next_due(&self) -> Option<Instant> {
        self.fold.next_due()
    }

    /// Writes the folded repeats whose window has passed.
    pub fn flush_due(&mut self, now: Instant) {
        for event in self.fold.due(now) {
            self.write(event);
        }
    }

    /// Writes all that is held back; for the end of the daemon.
    pub fn flush(&mut self) {
        for event in self.fold.drain() {
            self.write(event);
        }
        self.log.sync();
    }

    /// Writes the head of the chain down, in the journal too: a later cut shows against it.
    pub fn record_head(&mut self) {
        let head = self.log.head();
        let event = Event::new(Code::ChainHead, Outcome::Noted)
            .detail("head")
            .fact("head", head.hash.clone())
            .fact("head_seq", head.seq.to_string());
        self.write(event);
    }

    /// The newest record of the chain.
    pub fn head(&self) -> &Head {
        self.log.head()
    }

    /// Records that the complete log did not take since the daemon started.
    pub fn records_lost(&self) -> u64 {
        self.file_health.state().lost
    }

    /// How each sink is, for the posture.
    pub fn sinks(&self) -> Vec<SinkState> {
        let mut sinks = vec![self.file_health.state()];
        sinks.extend(self.syslog.as_ref().map(|(_, health)| health.state()));
        sinks
    }

    fn write(&mut self, event: Event) {
        self.write_one(event);
        self.write_notes();
    }

    /// What the log itself has to say: a torn tail, a rotation, a replaced file.
    fn write_notes(&mut self) {
        for note in self.log.take_notes() {
            self.write_one(note);
        }
    }

    fn write_one(&mut self, event: Event) {
        let appended = self.log.append(event.clone());
        for record in self.log.take_written() {
            if let Some((syslog, _)) = &mut self.syslog {
                // The event behind it finds out how syslog is.
                let _ = syslog.send(level(&record.event), &line(&record.event, Some(&record)));
            }
        }
        let change = match &appended {
            Ok(_) => self.file_health.works(),
            Err(error) => self.file_health.failed(error),
        };
        let change_of_syslog = self.send(&event, appended.ok().as_ref());

        // A change of one sink goes to both, without a second look at the sink's health: the
        // report of a failure must not count as another one.
        for event in change.into_iter().chain(change_of_syslog) {
            let record = self.log.append(event.clone()).ok();
            if let Some((syslog, _)) = &mut self.syslog {
                let _ = syslog.send(level(&event), &line(&event, record.as_ref()));
            }
        }
    }

    fn send(&mut self, event: &Event, record: Option<&Record>) -> Option<Event> {
        let (syslog, health) = self.syslog.as_mut()?;
        match syslog.send(level(event), &line(event, record)) {
            Ok(()) => health.works(),
            Err(error) => health.failed(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::event::Runtime;

    fn settings(dir: &std::path::Path) -> Settings {
        Settings {
            dir: dir.join("log"),
            limits: Limits::default(),
            syslog: Some(dir.join("dev-log")),
        }
    }

    fn denial() -> Event {
        let mut event = Event::new(Code::Drift, Outcome::Denied).artifact("exporter");
        event.runtime = Some(Runtime {
            operation: "fs:write".into(),
            object: "/etc/shadow".into(),
            ..Runtime::default()
        });
        event
    }

    fn records(dir: &std::path::Path) -> Vec<Record> {
        let mut records = Vec::new();
        each_record(&dir.join("log"), |record| records.push(record)).unwrap();
        records
    }

    fn codes(dir: &std::path::Path) -> Vec<(Code, u64)> {
        records(dir)
            .iter()
            .map(|record| (record.event.code, record.event.count))
            .collect()
    }

    #[test]
    fn one_event_reaches_both_sinks_with_the_same_seq() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        let socket = UnixDatagram::bind(dir.path().join("dev-log")).unwrap();
        let mut audit = Audit::open(&settings(dir.path())).unwrap();

        audit.record(denial(), Instant::now());

        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(
            text.contains(
                "CART-007 drift denied artifact=exporter op=fs:write object=\"/etc/shadow\" seq=1"
            ),
            "{text}"
        );
        assert_eq!(codes(dir.path()), [(Code::Drift, 1)]);
    }

    #[test]
    fn an_absent_syslog_is_reported_once_and_its_return_with_the_count() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        let mut audit = Audit::open(&settings(dir.path())).unwrap();
        audit.record(Event::new(Code::Started, Outcome::Noted), Instant::now());
        audit.record(Event::new(Code::Stopped, Outcome::Noted), Instant::now());
        assert!(!audit.sinks()[1].working);
        let _socket = UnixDatagram::bind(dir.path().join("dev-log")).unwrap();

        audit.record(Event::new(Code::Started, Outcome::Noted), Instant::now());

        assert!(audit.sinks()[1].working);
        assert_eq!(audit.sinks()[1].lost, 2);
        let records = records(dir.path());
        let changes: Vec<_> = records
            .iter()
            .filter(|record| record.event.code == Code::SinkChanged)
            .collect();
        assert_eq!(changes.len(), 2);
        assert_eq!(changes[0].event.detail.as_deref(), Some("failed"));
        assert_eq!(changes[1].event.detail.as_deref(), Some("restored"));
        assert_eq!(changes[1].event.facts["lost"], "2");
    }

    #[test]
    fn a_stalled_syslog_blocks_nothing_and_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        let _never_read = UnixDatagram::bind(dir.path().join("dev-log")).unwrap();
        let mut audit = Audit::open(&settings(dir.path())).unwrap();

        for _ in 0..2_000 {
            audit.record(
                Event::new(Code::Submitted, Outcome::Submitted),
                Instant::now(),
            );
        }

        assert!(audit.sinks()[1].lost > 0);
        assert!(audit.sinks()[0].working);
        assert!(codes(dir.path()).len() > 2_000);
    }

    #[test]
    fn the_head_that_is_written_down_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        let mut audit = Audit::open(&settings(dir.path())).unwrap();
        audit.record(Event::new(Code::Started, Outcome::Noted), Instant::now());

        audit.record_head();

        let records = records(dir.path());
        let told = &records.last().unwrap().event.facts["head"];
        let report = verify(&dir.path().join("log"), Some(told)).unwrap();
        assert_eq!(report.problems, []);
    }

    #[test]
    fn folded_repeats_add_up_to_the_events() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        let mut audit = Audit::open(&Settings {
            syslog: None,
            ..settings(dir.path())
        })
        .unwrap();
        let start = Instant::now();

        for _ in 0..100 {
            audit.record(denial(), start);
        }
        audit.flush_due(start + fold::WINDOW);

        assert_eq!(codes(dir.path()), [(Code::Drift, 1), (Code::Drift, 99)]);
        assert_eq!(verify(&dir.path().join("log"), None).unwrap().problems, []);
    }
}
