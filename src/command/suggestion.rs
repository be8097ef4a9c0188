//! The lines of an artifact that would allow what was denied.

use std::collections::{BTreeMap, BTreeSet};

use crate::admission::Effective;
use crate::artifact::capability::{CapabilityName, Qualifier};
use crate::artifact::endpoint::{Endpoint, covered_by_union};
use crate::artifact::kcap;
use crate::artifact::pattern::Pattern;
use crate::artifact::socket::{SocketKind, UDP_SOCKET};
use crate::event::{Code, Event, Runtime};

/// What one capability must declare so that a refusal is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    name: CapabilityName,
    /// The key that it belongs to, and its text; absent if the capability has none.
    qualifier: Option<(&'static str, String)>,
}

/// What to do about a pinned file that was not loaded: any line that allows its path would pin nothing.
pub(super) const OTHER_CONTENT: &str = "The artifact pins it under code:load with another content. If it was updated, \
     \"cartouche seal --update-hashes FILE\" takes its new hash into the artifact";

/// What to do about a udp socket: the kernel does not know yet whom it would speak to.
const UNDECLARED_UDP: &str = "No udp endpoint is declared; write whom it speaks to: name = \"net:connect\", \
     endpoints = [\"udp://ADDRESS:PORT\"]; or what it serves: name = \"net:listen\" with the same";

/// Why it was refused, as a detail word: a power that nothing grants has one word, whichever hook saw it.
pub(super) fn reason(detail: Option<&str>, operation: &str) -> Option<String> {
    let grantable = CapabilityName::parse(operation).is_some();
    match detail {
        Some("no-rule") if !grantable => Some("never-grantable".to_owned()),
        detail => detail.map(str::to_owned),
    }
}

/// What would allow it, or a sentence that says why no line would or what is to be done instead.
pub(super) fn allow(event: &Event, runtime: &Runtime) -> Result<Rule, String> {
    let id = event.artifact.as_deref().unwrap_or("ID");
    if let Some(cure) = cure(event.detail.as_deref().unwrap_or_default(), id) {
        return Err(cure);
    }
    if event.code == Code::DigestMismatch {
        return Err(
            "The program is not the one that its artifact names; see \"cartouche list\". If it was \
             updated, \"cartouche seal --update-hashes FILE\" takes its new hash into the artifact"
                .to_owned(),
        );
    }
    if event.detail.as_deref() == Some("never-grantable") {
        return Err("No line would allow it: no scope can grant it".to_owned());
    }
    if runtime.operation == CapabilityName::NetSocket.as_str() && runtime.object == UDP_SOCKET {
        return Err(UNDECLARED_UDP.to_owned());
    }
    rule(id, runtime).map_err(|why| format!("No line would allow it: {why}"))
}

/// What to do about a refusal that has nothing to do with what is declared; docs/codes.md has the words.
fn cure(detail: &str, id: &str) -> Option<String> {
    let cure = match detail {
        "revoked" => {
            return Some(format!(
                "The artifact was revoked when its file was removed; put the file back into policies.d, \
                 or run \"cartouche forget {id}\""
            ));
        }
        "refused" => "Its artifact is not admitted; \"cartouche list\" tells why",
        "unknown-slot" => "The kernel does not know what it is bound to; start the program again",
        "race" => "Directories were renamed all the while its path was read; try again",
        "memory" => "The kernel had no memory to decide; try again",
        "widens" => {
            "The program would get other rights than it has; start it from outside its envelope"
        }
        "unsafe" => {
            "The task is traced, shares memory with another, or has no_new_privs, a root directory or a \
             personality of its own making; start it on its own, or from outside"
        }
        "script-path" => {
            "The script was run under another name than its artifact's; run it by its own path"
        }
        "no-artifact" => {
            "The rule has it take its own artifact's label, and it has none in force; install one, or let \
             it inherit"
        }
        "managed" => {
            "The configuration lets nothing run there that no artifact admits; install one whose executable \
             it is, or which pins it under code:load"
        }
        "guarded" => {
            "It is Cartouche's own; stop it by systemctl, take it off by \"cartouche detach --all\", or set \
             guard = \"off\" in cartouche.toml"
        }
        "by-loader" => {
            "It is an admitted program, and a dynamic linker was to start it; run it by its own path"
        }
        _ => return None,
    };
    Some(cure.to_owned())
}

fn rule(id: &str, runtime: &Runtime) -> Result<Rule, String> {
    let Runtime {
        operation, object, ..
    } = runtime;
    let Some((name, _)) = CapabilityName::parse(operation) else {
        return Err(format!("no capability allows {operation:?}"));
    };
    let qualifier = match name.qualifier() {
        Qualifier::None => None,
        Qualifier::Endpoints => {
            let endpoint = Endpoint::parse(object).map_err(|error| {
                format!("the endpoint {object:?} cannot be written as a rule: it {error}")
            })?;
            Some(("endpoints", endpoint.to_string()))
        }
        Qualifier::Sockets => match SocketKind::parse(object) {
            Some(kind) => Some(("sockets", kind.to_string())),
            None => return Err(format!("no rule speaks of the socket {object:?}")),
        },
        Qualifier::Targets => Some(("targets", target(id, object)?)),
        Qualifier::Kcaps if kcap::number(object).is_some() => Some(("kcaps", object.clone())),
        Qualifier::Kcaps => return Err(format!("{object:?} is no Linux capability")),
        Qualifier::PathsAndAbstract if object.is_empty() => {
            return Err("the peer has no name".to_owned());
        }
        Qualifier::PathsAndAbstract if object.starts_with('@') => Some(("paths", object.clone())),
        _ => Some(("paths", path_rule(object)?)),
    };
    Ok(Rule { name, qualifier })
}

/// The target that an audit line names: `ID (pid N)`, or only the number of a process of nobody's.
fn target(own: &str, object: &str) -> Result<String, String> {
    match object.split_once(" (pid ") {
        Some((id, _)) if id == own => Ok("self".to_owned()),
        Some((id, _)) => Ok(id.to_owned()),
        None => Err("the process belongs to no artifact, and no envelope reaches there".to_owned()),
    }
}

impl Rule {
    /// The directory all of which the rule allows because `path` has a name that no rule can spell.
    pub(super) fn stands_for_all_of(&self, path: &str) -> Option<&str> {
        let (key, text) = self.qualifier.as_ref()?;
        let directory = text.strip_suffix("/**")?;
        (*key == "paths" && text != path).then_some(directory)
    }
}

/// TOML for the end of an artifact file: one entry a capability, with all that it must declare.
pub(super) fn lines(rules: &BTreeSet<Rule>) -> String {
    let mut entries: BTreeMap<CapabilityName, Vec<&(&str, String)>> = BTreeMap::new();
    for rule in rules {
        entries
            .entry(rule.name)
            .or_default()
            .extend(&rule.qualifier);
    }
    let mut text = String::new();
    for (name, qualifiers) in entries {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!(
            "[[envelope.capability]]\nname          = \"{name}\"\n"
        ));
        let values: Vec<_> = qualifiers
            .iter()
            .map(|(_, value)| toml::Value::String(value.clone()).to_string())
            .collect();
        if let Some((key, _)) = qualifiers.first() {
            match values.as_slice() {
                [one] => text.push_str(&format!("{key:<13} = [{one}]\n")),
                many => text.push_str(&format!(
                    "{key:<13} = [\n    {},\n]\n",
                    many.join(",\n    ")
                )),
            }
        }
        text.push_str("justification = \"\"   # why does the program need it?\n");
    }
    text
}

/// Whether an envelope declares what was refused.
pub(super) fn is_declared(effective: &Effective, runtime: &Runtime) -> bool {
    let Some((name, _)) = CapabilityName::parse(&runtime.operation) else {
        return false;
    };
    let mut declared = effective
        .capabilities
        .iter()
        .map(|entry| &entry.capability)
        .filter(|capability| capability.name == name);
    match name.qualifier() {
        Qualifier::None => declared.next().is_some(),
        Qualifier::Endpoints => Endpoint::parse(&runtime.object).is_ok_and(|endpoint| {
            covered_by_union(
                &endpoint,
                declared.flat_map(|capability| &capability.endpoints),
            )
        }),
        Qualifier::Sockets => declared.any(|capability| {
            let kinds = capability.sockets.iter();
            let any = format!("{}/*", runtime.object.split('/').next().unwrap_or_default());
            kinds
                .into_iter()
                .any(|kind| *kind == runtime.object || *kind == any)
        }),
        Qualifier::Targets => {
            let own = effective.id.as_str();
            target(own, &runtime.object)
                .is_ok_and(|target| declared.any(|capability| capability.targets.contains(&target)))
        }
        Qualifier::Kcaps => declared.any(|capability| capability.kcaps.contains(&runtime.object)),
        _ => declared.any(|capability| {
            let name = runtime.object.strip_prefix('@');
            capability.grants_path(&runtime.object)
                || name.is_some_and(|name| capability.abstracts.contains(name))
        }),
    }
}

/// The path itself, or the directory over it if it has a name that no rule can spell.
fn path_rule(path: &str) -> Result<String, String> {
    let spelled = |text: &str| Pattern::parse(text).is_ok_and(|pattern| pattern.matches(path));
    let mut candidate = path.to_owned();
    let mut directory = path;
    while !spelled(&candidate) {
        directory = directory
            .rsplit_once('/')
            .map(|(directory, _)| directory)
            .filter(|directory| !directory.is_empty())
            .ok_or_else(|| format!("the path {path:?} cannot be written as a rule"))?;
        candidate = format!("{directory}/**");
    }
    Ok(candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::draft::Draft;
    use crate::command::verify::tests::DRAFT;
    use crate::event::Outcome;

    fn runtime(operation: &str, object: &str) -> Runtime {
        Runtime {
            operation: operation.into(),
            object: object.into(),
            ..Runtime::default()
        }
    }

    fn refused(code: Code) -> Event {
        Event::new(code, Outcome::Denied).artifact("tool")
    }

    #[test]
    fn rules_of_one_capability_are_one_entry() {
        let rules = [
            ("fs:read", "/sys/b"),
            ("net:listen", "tcp://[::]:9100"),
            ("fs:read", "/sys/a"),
        ]
        .map(|(operation, object)| {
            allow(&refused(Code::Drift), &runtime(operation, object)).unwrap()
        });

        let lines = lines(&BTreeSet::from(rules));

        assert_eq!(lines.matches("[[envelope.capability]]").count(), 2);
        let text = format!("{DRAFT}\n{}", lines.replace("\"\"   #", "\"it does\" #"));
        let draft = Draft::parse(text.as_bytes(), "x").unwrap();
        let read = &draft.capabilities[draft.capabilities.len() - 2];
        assert!(read.grants_path("/sys/a") && read.grants_path("/sys/b"));
    }

    #[test]
    fn what_a_revoked_artifact_was_refused_has_another_cure() {
        let event = refused(Code::Drift).detail("revoked");

        let why = allow(&event, &runtime("exec", "/usr/bin/tool")).unwrap_err();

        assert!(why.contains("cartouche forget tool"), "{why}");
    }

    #[test]
    fn a_program_whose_artifact_is_not_admitted_is_told_where_to_look() {
        let event = refused(Code::Drift).detail("refused");

        let why = allow(&event, &runtime("exec", "/usr/bin/tool")).unwrap_err();

        assert!(why.contains("not admitted") && why.contains("cartouche list"));
        assert!(!why.contains("line"), "{why}");
    }

    #[test]
    fn what_nothing_grants_has_one_reason() {
        for (detail, operation, reads) in [
            ("no-rule", "mount", "never-grantable"),
            ("never-grantable", "net:socket", "never-grantable"),
            ("no-rule", "net:socket", "no-rule"),
            ("no-rule", "fs:read", "no-rule"),
            ("revoked", "net:socket", "revoked"),
        ] {
            assert_eq!(reason(Some(detail), operation).as_deref(), Some(reads));
        }
        assert_eq!(reason(None, "mount"), None);
    }

    #[test]
    fn a_rule_for_a_name_that_cannot_be_written_is_known_to_be_wider() {
        let rule = |path: &str| allow(&refused(Code::Drift), &runtime("fs:read", path)).unwrap();

        assert_eq!(rule("/tmp/a*b").stands_for_all_of("/tmp/a*b"), Some("/tmp"));
        assert_eq!(rule("/tmp/a").stands_for_all_of("/tmp/a"), None);
        let listen = allow(
            &refused(Code::Drift),
            &runtime("net:listen", "tcp://[::]:9100"),
        );
        assert_eq!(listen.unwrap().stands_for_all_of("tcp://[::]:9100"), None);
    }

    #[test]
    fn a_suggestion_at_the_end_of_an_artifact_is_valid() {
        for (operation, object, spelled) in [
            ("fs:read", "/etc/shadow", "/etc/shadow"),
            ("fs:write", "/srv/a \"b\"\\c", "/srv/a \"b\"\\c"),
            ("fs:read", "/srv/a\nb/c", "/srv/**"),
            ("fs:read", "/srv/x/a*b", "/srv/x/**"),
            ("process:exec", "/usr/bin/dash", "/usr/bin/dash"),
            ("code:load", "/opt/lib/x.so", "/opt/lib/x.so"),
            ("code:generate", "", ""),
            ("net:connect", "tcp://192.0.2.1:443", "tcp://192.0.2.1:443"),
            ("net:listen", "tcp://[::]:9100", "tcp://[::]:9100"),
            ("net:socket", "netlink/route", "netlink/route"),
            ("ipc:unix", "/run/x.sock", "/run/x.sock"),
            ("ipc:unix", "@x", "x"),
            ("ipc:receive", "", ""),
            ("process:signal", "other (pid 7)", "other"),
            ("process:trace", "tool (pid 7)", "self"),
            ("kernel:capability", "CAP_CHOWN", "CAP_CHOWN"),
            ("kernel:io_uring", "", ""),
        ] {
            let rule = allow(&refused(Code::Drift), &runtime(operation, object)).unwrap();
            let lines = lines(&BTreeSet::from([rule]));
            let text = format!("{DRAFT}\n{}", lines.replace("\"\"   #", "\"it does\" #"));

            let draft =
                Draft::parse(text.as_bytes(), "x").unwrap_or_else(|e| panic!("{e}\n{text}"));

            let last = draft.capabilities.last().unwrap();
            assert_eq!(last.full_name(), operation);
            let written: Vec<_> = last
                .paths
                .iter()
                .map(ToString::to_string)
                .chain(last.endpoints.iter().map(ToString::to_string))
                .chain(last.abstracts.iter().cloned())
                .chain(last.sockets.iter().chain(&last.targets).cloned())
                .chain(last.kcaps.iter().cloned())
                .collect();
            assert_eq!(written.join(""), spelled, "{operation}");
            if !last.paths.is_empty() {
                assert!(last.grants_path(object), "{operation} {object}");
            }
        }
    }

    #[test]
    fn for_what_no_rule_is_about_it_is_said_what_else_to_do() {
        let guarded = refused(Code::Drift).detail("guarded");

        let own = allow(&guarded, &runtime("guard", "/sys/fs/bpf/cartouche/slots")).unwrap_err();
        let udp = allow(&refused(Code::Drift), &runtime("net:socket", UDP_SOCKET)).unwrap_err();

        assert!(
            own.contains("detach --all") && own.contains("guard = \"off\""),
            "{own}"
        );
        assert!(
            udp.contains("endpoints = [\"udp://ADDRESS:PORT\"]"),
            "{udp}"
        );
        for told in [own, udp] {
            assert!(!told.contains("No line would allow it"), "{told}");
        }
    }

    #[test]
    fn what_cannot_be_granted_is_said_to_be() {
        for (code, operation, object) in [
            (Code::Drift, "mount", "/x"),
            (Code::Drift, "process:trace", "pid 7"),
            (Code::Drift, "net:socket", UDP_SOCKET),
            (Code::Drift, "ipc:unix", ""),
            (Code::Drift, "fs:read", "\n"),
            (Code::Drift, "net:connect", "somewhere"),
            (Code::DigestMismatch, "process:exec", "/usr/bin/x"),
        ] {
            assert!(
                allow(&refused(code), &runtime(operation, object)).is_err(),
                "{operation}"
            );
        }
    }
}
