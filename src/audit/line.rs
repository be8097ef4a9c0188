//! One event as one line of text for syslog, in which nothing from outside can forge a line or a key.

use std::fmt::Write;

use super::Record;
use crate::event::{Code, Event, Outcome};

/// How loud an event is; the names and order are syslog's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Not doing our job, or an artifact is not in force.
    Error,
    /// Something was denied, or we carry on differently.
    Warning,
    /// Admitted, revoked, in force again.
    Notice,
    /// Lifecycle.
    Info,
    /// The rest, uses among them.
    Debug,
}

/// Longest value on a line, in characters; the whole of it is in audit.jsonl.
const VALUE: usize = 1024;

/// Longest line, in bytes, as far as syslog daemons are sure to take it.
const LINE: usize = 8192;

/// The level of an event.
pub fn level(event: &Event) -> Level {
    match event.code {
        Code::Rejected if event.detail.as_deref() == Some("waiting") => Level::Warning,
        Code::EventsLost | Code::Rejected => Level::Error,
        Code::SinkChanged if event.detail.as_deref() == Some("failed") => Level::Error,
        Code::FileIgnored | Code::WayOut => Level::Warning,
        Code::ModeChanged if event.detail.as_deref() == Some("audit") => Level::Warning,
        Code::Drift | Code::DigestMismatch if event.outcome == Outcome::Denied => Level::Warning,
        Code::PostureChanged => match event.facts.get("reasons") {
            Some(reasons) if reasons.contains("START_REFUSED") => Level::Error,
            Some(_) => Level::Warning,
            None => Level::Notice,
        },
        Code::Admitted
        | Code::EnvelopeInvalid
        | Code::DigestMismatch
        | Code::Drift
        | Code::Revoked
        | Code::Adopted
        | Code::ModeChanged
        | Code::Forgotten
        | Code::HeldDescriptors
        | Code::SinkChanged => Level::Notice,
        Code::Started | Code::Stopped | Code::ChainHead => Level::Info,
        Code::Submitted
        | Code::CheckPassed
        | Code::EnvelopeValid
        | Code::DigestVerified
        | Code::SchemaValidated => Level::Debug,
    }
}

/// What an event is about, the word after its code.
fn noun(code: Code) -> &'static str {
    match code {
        Code::Submitted | Code::Admitted | Code::Rejected => "admission",
        Code::EnvelopeValid | Code::EnvelopeInvalid => "envelope",
        Code::CheckPassed => "check",
        Code::Drift => "drift",
        Code::DigestVerified | Code::DigestMismatch => "digest",
        Code::SchemaValidated => "schema",
        Code::Revoked => "revocation",
        Code::Adopted => "adoption",
        Code::ModeChanged => "mode",
        Code::Forgotten => "forget",
        Code::EventsLost => "loss",
        Code::PostureChanged => "posture",
        Code::FileIgnored => "file",
        Code::SinkChanged => "sink",
        Code::Started => "start",
        Code::Stopped => "stop",
        Code::ChainHead => "chain",
        Code::HeldDescriptors => "held",
        Code::WayOut => "way-out",
    }
}

/// The line of an event: code, noun and outcome, then `key=value` in a fixed order, then its facts
/// by name. `record` is its place in the log, absent if the log did not take it.
pub fn line(event: &Event, record: Option<&Record>) -> String {
    let mut text = format!("{} {} {}", event.code, noun(event.code), event.outcome);
    let runtime = event.runtime.as_ref();
    let quoted = |value: &str| Some(quote(value)).filter(|_| !value.is_empty());
    let pairs = [
        ("artifact", event.artifact.as_deref().map(bare)),
        ("op", runtime.map(|runtime| bare(&runtime.operation))),
        (
            "object",
            runtime.and_then(|runtime| quoted(&runtime.object)),
        ),
        ("seq", record.map(|record| record.seq.to_string())),
        ("count", Some(event.count.to_string())),
        ("error", event.error.map(|error| error.to_string())),
        ("detail", event.detail.as_deref().map(bare)),
        ("rule", runtime.and_then(|runtime| quoted(&runtime.rule))),
        ("exe", runtime.and_then(|runtime| quoted(&runtime.exe))),
        ("comm", runtime.and_then(|runtime| quoted(&runtime.comm))),
        ("pid", task(event, |runtime| runtime.pid)),
        ("tgid", task(event, |runtime| runtime.tgid)),
        ("uid", task(event, |runtime| runtime.uid)),
        ("message", event.message.as_deref().map(quote)),
    ];
    let facts = event
        .facts
        .iter()
        .map(|(key, value)| (fact_key(key), Some(bare(value))));
    let pairs = pairs.map(|(key, value)| (key.to_owned(), value));
    for (key, value) in pairs.into_iter().chain(facts) {
        let Some(value) = value else { continue };
        if text.len() + key.len() + value.len() + 2 > LINE {
            text.push_str(" …");
            break;
        }
        let _ = write!(text, " {key}={value}");
    }
    text
}

/// A number that says which task it was; uses are of many tasks and have none.
fn task(event: &Event, number: fn(&crate::event::Runtime) -> u32) -> Option<String> {
    let runtime = event.runtime.as_ref()?;
    (event.outcome != Outcome::Allowed || runtime.tgid != 0).then(|| number(runtime).to_string())
}

fn fact_key(key: &str) -> String {
    key.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// A value as it is if it consists of harmless characters only, else quoted.
fn bare(value: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "._:/@+-".contains(c);
    if !value.is_empty() && value.len() <= VALUE && value.chars().all(harmless) {
        value.to_owned()
    } else {
        quote(value)
    }
}

/// A value between quotation marks, with its own and every character that could steer a terminal, a
/// pager or a log reader written as an escape; cut with `…` when too long.
fn quote(value: &str) -> String {
    let mut text = String::from("\"");
    for (number, c) in value.chars().enumerate() {
        if number == VALUE {
            text.push('…');
            break;
        }
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            _ if steers(c) => text.extend(c.escape_unicode()),
            _ => text.push(c),
        }
    }
    text.push('"');
    text
}

/// Control characters, line separators, invisible and direction-changing characters.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Bytes of an outside origin, such as a file name, as text: as they are if they are UTF-8, else with
/// `\xNN` for each byte that is not and `\\` for a backslash.
pub fn outside(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Text of an outside origin for a person's terminal: as it is, but steering characters escaped.
pub fn printable(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if steers(c) {
            text.extend(c.escape_unicode());
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::audit::Head;
    use crate::event::{ErrorCode, Runtime};

    fn denial(object: &str) -> Event {
        let mut event = Event::new(Code::Drift, Outcome::Denied)
            .artifact("exporter")
            .error(ErrorCode::DriftDetected);
        event.runtime = Some(Runtime {
            pid: 12,
            tgid: 11,
            comm: "cat".into(),
            exe: "/usr/bin/cat".into(),
            uid: 0,
            operation: "fs:write".into(),
            object: object.into(),
            rule: String::new(),
        });
        event
    }

    #[test]
    fn a_denial_reads_as_documented() {
        let event = denial("/etc/shadow");
        let (record, _) = Head::genesis()
            .link(event.clone(), Timestamp::UNIX_EPOCH)
            .unwrap();

        assert_eq!(
            line(&event, Some(&record)),
            "CART-007 drift denied artifact=exporter op=fs:write object=\"/etc/shadow\" seq=1 \
             count=1 error=ERR_CART_DRIFT_DETECTED exe=\"/usr/bin/cat\" comm=\"cat\" pid=12 \
             tgid=11 uid=0"
        );
    }

    #[test]
    fn a_path_cannot_forge_a_line_or_a_key() {
        let event = denial("/tmp/x\" seq=9\nCART-002 admission admitted artifact=evil \u{202e}\\");

        assert_eq!(
            line(&event, None).split(" count=").next(),
            Some(
                "CART-007 drift denied artifact=exporter op=fs:write object=\"/tmp/x\\\" \
                 seq=9\\u{a}CART-002 admission admitted artifact=evil \\u{202e}\\\\\""
            )
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_written_as_numbers() {
        assert_eq!(outside("/a\\b\n\u{e9}".as_bytes()), "/a\\b\n\u{e9}");
        assert_eq!(outside(b"/a\\b\xff\xfe\n"), "/a\\\\b\\xff\\xfe\n");
    }

    #[test]
    fn an_artifact_with_a_forged_id_is_quoted() {
        let event = Event::new(Code::Rejected, Outcome::Rejected).artifact("a seq=1");

        assert_eq!(
            line(&event, None),
            "CART-003 admission rejected artifact=\"a seq=1\" count=1"
        );
    }

    #[test]
    fn a_long_path_does_not_push_the_other_keys_off_the_line() {
        let text = line(&denial(&"\u{1}".repeat(5000)), None);

        assert!(text.contains("…\" count=1"), "{text}");
        assert!(text.ends_with("uid=0"), "{text}");
        assert!(text.len() <= LINE + 4);
    }

    #[test]
    fn every_code_has_a_level_and_a_noun() {
        for &code in Code::ALL {
            let event = Event::new(code, Outcome::Noted);

            assert!(level(&event) != Level::Debug || !noun(code).is_empty());
        }
        let told = |code, outcome| level(&Event::new(code, outcome));
        assert_eq!(level(&denial("/")), Level::Warning);
        assert_eq!(told(Code::Drift, Outcome::WouldDeny), Level::Notice);
        assert_eq!(told(Code::Rejected, Outcome::Rejected), Level::Error);
        assert_eq!(told(Code::CheckPassed, Outcome::Allowed), Level::Debug);
        let posture = |reasons| {
            level(&Event::new(Code::PostureChanged, Outcome::Noted).fact("reasons", reasons))
        };
        assert_eq!(posture("START_REFUSED,BLOCKED"), Level::Error);
        assert_eq!(posture("SINK_LOST"), Level::Warning);
    }

    /// Splits a line into its pairs as a reader would; `None` if it is not well formed.
    fn keys(text: &str) -> Option<Vec<String>> {
        let mut rest = text.splitn(4, ' ').nth(3)?;
        let mut keys = Vec::new();
        while !rest.is_empty() {
            let (key, value) = rest.split_once('=')?;
            keys.push(key.to_owned());
            let end = if let Some(quoted) = value.strip_prefix('"') {
                let mut escaped = false;
                1 + quoted.find(|c| {
                    let end = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    end
                })? + 1
            } else {
                value.find(' ').unwrap_or(value.len())
            };
            rest = value[end..].trim_start_matches(' ');
        }
        Some(keys)
    }

    proptest! {
        #[test]
        fn no_outside_text_changes_the_keys(
            object in any::<String>(), comm in any::<String>(), id in any::<String>(),
            message in any::<String>(), fact in any::<String>(),
        ) {
            let mut event = denial(&format!("/{object}")).artifact(id).message(message).fact("k", fact);
            if let Some(runtime) = &mut event.runtime {
                runtime.comm = format!("c{comm}");
            }

            let text = line(&event, None);

            prop_assert!(!text.chars().any(char::is_control));
            let expected = ["artifact", "op", "object", "count", "error", "exe", "comm", "pid",
                "tgid", "uid", "message", "k"];
            prop_assert_eq!(keys(&text).unwrap(), expected);
        }
    }
}
