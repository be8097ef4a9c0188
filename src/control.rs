//! What the command and the daemon say to each other: one JSON object a line, one request a
//! connection, over a socket that only root can open. The policies directory stays the interface;
//! this is for questions, and for what no file can say.

mod client;
mod server;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use client::{Client, Error};
pub use server::{Call, bind, serve};

use crate::admission::Effective;
use crate::config::Mode;
use crate::event::stable_words;
use crate::posture::{Adoption, Report};

/// What the command asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How is the daemon?
    Status,
    /// Which artifacts are there?
    List,
    /// What is known of one artifact?
    Inspect { id: String },
    /// Change the mode of one artifact, for a time or until it is changed again.
    Mode {
        id: String,
        mode: Mode,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_seconds: Option<u64>,
    },
    /// End a revocation: the program may run outside again.
    Forget { id: String },
    /// Hold the next program of the process that asks to an artifact.
    Run { id: String },
    /// Let the tasks and programs of one artifact be outside.
    Release { id: String },
    /// Take enforcement off this node, and end.
    Detach,
    /// Read the policies directories again.
    Rescan,
    /// Answer once the file of this name in /etc/cartouche/policies.d, with this content, has its
    /// verdict.
    Wait {
        file: String,
        sha256: String,
        timeout_ms: u64,
    },
    /// What does the node really enforce, now?
    Posture,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "kebab-case")]
pub enum Response {
    Status(Status),
    List {
        artifacts: Vec<Listed>,
    },
    Inspect(Box<Inspected>),
    /// Done as asked; a sentence says what is now in force.
    Done {
        message: String,
    },
    Verdict(Verdict),
    Posture(Box<Report>),
    Refused(Refused),
}

/// How the daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// As in the posture report: ENFORCE, AUDIT_FALLBACK or DEGRADED.
    pub state: String,
    /// Why the state is not ENFORCE, as sentences.
    pub reasons: Vec<String>,
    /// Number of artifacts by standing.
    pub artifacts: BTreeMap<Standing, u64>,
    /// Tasks that are subjects.
    pub tasks: u64,
    /// Runtime denials since the daemon started.
    pub denials: u64,
    /// Decisions that were counted but not reported one by one.
    pub lost_events: u64,
    /// Number and hash of the newest audit record.
    pub audit_seq: u64,
    pub audit_head: String,
}

stable_words! {
    /// How an artifact stands.
    Standing {
        Admitted = "admitted",
        /// Rejected only because an executable is missing.
        Waiting = "waiting",
        /// Its program does not run, or an older version of it is in force.
        Rejected = "rejected",
        /// Its file is gone; its program does not run until it is forgotten or admitted again.
        Revoked = "revoked",
        /// An administrator let it go: its program runs outside until it is enforced or admitted again.
        Released = "released",
    }
}

/// One artifact in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Absent for a file from which not even the id could be read.
    pub id: Option<String>,
    pub version: Option<String>,
    pub publisher: Option<String>,
    /// The artifact file.
    pub file: String,
    pub standing: Standing,
    /// What it comes to on this node, which may only audit; absent unless admitted.
    pub mode: Option<Mode>,
    /// When the mode ends by itself: RFC 3339, UTC.
    pub mode_until: Option<String>,
    /// Running tasks that are bound to it.
    pub tasks: u64,
    /// Runtime denials since the daemon started.
    pub denials: u64,
    /// Why it, or its newest version, was rejected: a code, a detail word and sentences.
    pub problem: Option<String>,
}

/// All that is known of one artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    pub listed: Listed,
    /// What is in force; absent unless admitted.
    pub effective: Option<Effective>,
    /// Capability, or capability and pattern → how often it was used since it was put in force.
    pub uses: BTreeMap<String, u64>,
    /// What its processes had open that ran before they were bound to it.
    #[serde(default)]
    pub adopted: Adoption,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub standing: Standing,
    pub id: Option<String>,
    /// `ERR_CART_…`, if it was not admitted.
    pub error: Option<String>,
    pub detail: Option<String>,
    /// Every problem, or what was narrowed away, as sentences.
    pub messages: Vec<String>,
    /// Why nothing is refused to it although it is admitted; absent if it is held to its envelope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unenforced: Option<String>,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub why: Why,
    /// A sentence without a full stop.
    pub message: String,
}

stable_words! {
    /// The kinds of refusal.
    Why {
        /// There is no such artifact.
        NotFound = "not-found",
        /// The request does not fit what is asked about.
        Unfit = "unfit",
        /// The request is not one.
        Malformed = "malformed",
        /// Only root may ask.
        NotPermitted = "not-permitted",
        /// The answer did not come in time.
        TimedOut = "timed-out",
        /// The daemon failed at it, or is ending.
        Failed = "failed",
    }
}

impl Response {
    /// A refusal.
    pub fn refused(why: Why, message: impl Into<String>) -> Self {
        Self::Refused(Refused {
            why,
            message: message.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_one_line_of_json() {
        let request = Request::Mode {
            id: "exporter".into(),
            mode: Mode::Audit,
            for_seconds: Some(3600),
        };

        let line = serde_json::to_string(&request).unwrap();

        assert_eq!(
            line,
            r#"{"request":"mode","id":"exporter","mode":"audit","for_seconds":3600}"#
        );
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
        assert_eq!(
            serde_json::to_string(&Request::Rescan).unwrap(),
            r#"{"request":"rescan"}"#
        );
    }

    #[test]
    fn an_unknown_key_or_request_is_refused() {
        for line in [
            r#"{"request":"forget","id":"a","force":true}"#,
            r#"{"request":"shutdown"}"#,
            "{}",
            "",
        ] {
            assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
        }
    }

    #[test]
    fn every_kind_of_response_reads_back() {
        let responses = [
            Response::List { artifacts: vec![] },
            Response::Done {
                message: "a\nb".into(),
            },
            Response::refused(Why::NotFound, "There is no artifact \"x\""),
            Response::Status(Status {
                version: "1".into(),
                pid: 1,
                started_at: String::new(),
                state: "ENFORCE".into(),
                reasons: vec![],
                artifacts: BTreeMap::from([(Standing::Admitted, 2)]),
                tasks: 0,
                denials: 0,
                lost_events: 0,
                audit_seq: 0,
                audit_head: String::new(),
            }),
        ];
        for response in responses {
            let line = serde_json::to_string(&response).unwrap();

            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Response>(&line).unwrap(), response);
        }
    }
}
