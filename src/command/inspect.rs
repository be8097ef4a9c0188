//! `cartouche inspect`.

use std::collections::BTreeMap;

use super::absence::Absence;
use super::list::mode;
use super::table::{or_dash, pairs};
use super::{Answer, Error, Exit, ask, hint, snapshot};
use crate::admission::Effective;
use crate::artifact::capability::Capability;
use crate::audit::printable;
use crate::config::Paths;
use crate::control::{Inspected, Listed, Request, Response};
use crate::posture::Adoption;

/// Show all that is known of one artifact: its programs, rules, uses and problems
///
/// Without the daemon, shows what was known when it last ran, and ends with code 5.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The artifact's id
    id: String,
}

pub(super) fn run(args: &Args, paths: &Paths) -> Result<Answer, Error> {
    let id = args.id.clone();
    match ask(paths, &Request::Inspect { id }) {
        Ok(Response::Inspect(inspected)) => Answer::new(text(&inspected), &inspected),
        Ok(_) => Err(Error::OtherAnswer),
        Err(error) if error.exit() == Exit::NotFound => Err(absent(error, &args.id, paths)),
        Err(error) => {
            let artifacts = snapshot::artifacts(error, paths)?;
            let listed = artifacts
                .iter()
                .find(|one| one.id.as_ref() == Some(&args.id))
                .ok_or_else(|| Error::NotFound {
                    message: format!(
                        "The daemon is not running, and when it last was there was no artifact {:?}; {}",
                        args.id,
                        hint_of(&args.id, &artifacts)
                    ),
                })?;
            let text = format!("{}{}", Absence::of(paths).note(), head(listed, None));
            Ok(Answer::new(text, listed)?.exit(Exit::NotRunning))
        }
    }
}

/// The daemon's word that there is no such artifact, with a hint where to look; other errors as they are.
pub(super) fn absent(error: Error, id: &str, paths: &Paths) -> Error {
    if error.exit() != Exit::NotFound {
        return error;
    }
    let artifacts = match ask(paths, &Request::List) {
        Ok(Response::List { artifacts }) => artifacts,
        _ => Vec::new(),
    };
    Error::NotFound {
        message: format!("{error}; {}", hint_of(id, &artifacts)),
    }
}

fn hint_of(id: &str, artifacts: &[Listed]) -> String {
    hint(id, artifacts.iter().filter_map(|one| one.id.as_deref()))
}

fn text(inspected: &Inspected) -> String {
    let effective = inspected.effective.as_ref();
    let mut text = head(&inspected.listed, effective);
    text.push_str(&adopted(&inspected.adopted));
    if let Some(effective) = effective {
        text.push_str(&in_force(effective, &inspected.uses));
    }
    text
}

fn head(listed: &Listed, effective: Option<&Effective>) -> String {
    let mut rows = vec![
        ("Artifact", or_dash(listed.id.as_ref())),
        ("Version", or_dash(listed.version.as_ref())),
        ("Publisher", or_dash(listed.publisher.as_ref())),
        ("File", listed.file.clone()),
        ("Standing", listed.standing.to_string()),
        ("Mode", mode(listed)),
        ("Tasks", listed.tasks.to_string()),
        ("Denials", listed.denials.to_string()),
    ];
    if let Some(effective) = effective {
        rows.push(("Digest", effective.digest.clone()));
    }
    let mut text = pairs(&rows);
    if let Some(problem) = &listed.problem {
        text.push_str(&format!("\nProblem: {}\n", printable(problem)));
    }
    text
}

/// What adopted processes keep open, if any does.
fn adopted(adopted: &Adoption) -> String {
    if adopted.holding_more == 0 {
        return String::new();
    }
    format!(
        "\nOf {} processes that ran before, {} kept {} descriptors that the envelope would not let them \
         open\n",
        adopted.processes, adopted.holding_more, adopted.descriptors
    )
}

fn in_force(effective: &Effective, uses: &BTreeMap<String, u64>) -> String {
    let mut text = match &effective.unit {
        Some(unit) => format!("\nEvery process of {}, and its programs\n", printable(unit)),
        None => String::from("\nPrograms\n"),
    };
    for executable in &effective.executables {
        let path = printable(&executable.path);
        text.push_str(&format!("  {path}  sha256:{}\n", executable.sha256));
    }
    text.push_str("\nEnvelope\n");
    for one in &effective.capabilities {
        let name = one.capability.full_name();
        let from = if one.origin == name {
            String::new()
        } else {
            format!("  (from {})", one.origin)
        };
        text.push_str(&format!(
            "  {name}{}{}\n",
            printable(&from),
            used(uses, &name)
        ));
        for rule in rules(&one.capability) {
            let used = used(uses, &format!("{name} {rule}"));
            text.push_str(&format!("    {}{used}\n", printable(&rule)));
        }
        for except in &one.capability.except {
            text.push_str(&format!("    except {}\n", printable(except.as_str())));
        }
    }
    for narrowed in &effective.narrowed {
        text.push_str(&format!("\nNarrowed: {}\n", printable(narrowed)));
    }
    text
}

fn used(uses: &BTreeMap<String, u64>, rule: &str) -> String {
    match uses.get(rule) {
        None => String::new(),
        Some(0) => "  never used".to_owned(),
        Some(1) => "  used once".to_owned(),
        Some(count) => format!("  used {count} times"),
    }
}

/// What a capability names, as artifacts write it.
fn rules(capability: &Capability) -> Vec<String> {
    let paths = capability.paths.iter().map(ToString::to_string);
    let endpoints = capability.endpoints.iter().map(ToString::to_string);
    let abstracts = capability.abstracts.iter().map(|name| format!("@{name}"));
    let rest = [&capability.sockets, &capability.targets, &capability.kcaps];
    paths
        .chain(endpoints)
        .chain(abstracts)
        .chain(rest.into_iter().flatten().cloned())
        .chain(capability.files.keys().cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{BoundExecutable, EffectiveCapability};
    use crate::artifact::capability::CapabilityName;
    use crate::command::list::tests::listed;

    #[test]
    fn an_id_that_is_almost_right_is_answered_with_the_right_one() {
        assert_eq!(
            hint_of("node-exporter", &[listed()]),
            "there is \"exporter\""
        );
        assert_eq!(hint_of("nope", &[listed()]), "\"cartouche list\" shows all");
    }

    #[test]
    fn rules_stand_with_their_origin_and_their_uses() {
        let mut capability = Capability::new(CapabilityName::FsRead);
        capability.paths.insert("/proc/**".parse().unwrap());
        capability.except.insert("/proc/*/environ".parse().unwrap());
        let inspected = Inspected {
            listed: Listed {
                problem: Some("its file was changed".into()),
                ..listed()
            },
            effective: Some(Effective {
                id: "exporter".into(),
                version: "1".into(),
                publisher: "p".into(),
                description: None,
                digest: "sha256:00".into(),
                executables: vec![BoundExecutable {
                    path: "/usr/bin/x".into(),
                    sha256: "11".into(),
                    script: false,
                    measured: std::collections::BTreeSet::new(),
                }],
                capabilities: vec![EffectiveCapability {
                    capability: capability.into(),
                    origin: "profile:base".into(),
                }],
                unit: None,
                narrowed: vec![],
            }),
            uses: BTreeMap::from([("fs:read /proc/**".into(), 3)]),
            adopted: Adoption {
                processes: 3,
                holding_more: 1,
                descriptors: 2,
                ..Adoption::default()
            },
        };

        let text = text(&inspected);

        assert!(text.contains("  fs:read  (from profile:base)\n    /proc/**  used 3 times\n    except /proc/*/environ\n"), "{text}");
        assert!(text.contains("  /usr/bin/x  sha256:11\n"), "{text}");
        assert!(text.contains("Tasks      3\n"), "{text}");
        assert!(
            text.contains("\nOf 3 processes that ran before, 1 kept 2 descriptors"),
            "{text}"
        );
        assert!(
            text.contains("\nDigest     sha256:00\n\nProblem: its file was changed\n\nOf 3"),
            "{text}"
        );
    }
}
