//! The lines of an artifact that would allow what was denied.

use crate::artifact::capability::{CapabilityName, Qualifier};
use crate::artifact::endpoint::Endpoint;
use crate::artifact::pattern::Pattern;
use crate::event::{Code, Runtime};

/// What would allow it: TOML for the end of the artifact file, or why there is no such thing.
pub(super) fn allow(code: Code, runtime: &Runtime) -> Result<String, String> {
    if code == Code::DigestMismatch {
        return Err(
            "the program is not the one that its artifact names, or its artifact is not admitted; see \"cartouche list\""
                .to_owned(),
        );
    }
    let operation = runtime.operation.as_str();
    let Some((name, _)) = CapabilityName::parse(operation) else {
        return Err(format!("no capability allows {operation:?}"));
    };
    if !name.has_enforcer() {
        return Err(format!("this build cannot grant {operation}"));
    }
    let qualifier = match name.qualifier() {
        Qualifier::None => None,
        Qualifier::Endpoints => {
            let endpoint = Endpoint::parse(&runtime.object).map_err(|error| {
                format!(
                    "the endpoint {:?} cannot be written as a rule: it {error}",
                    runtime.object
                )
            })?;
            Some(("endpoints", endpoint.to_string()))
        }
        _ => Some(("paths", path_rule(&runtime.object)?)),
    };
    let mut text = format!("[[envelope.capability]]\nname          = \"{name}\"\n");
    if let Some((key, rule)) = qualifier {
        let rule = toml::Value::String(rule);
        text.push_str(&format!("{key:<13} = [{rule}]\n"));
    }
    text.push_str("justification = \"\"   # why does the program need it?\n");
    Ok(text)
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

    fn runtime(operation: &str, object: &str) -> Runtime {
        Runtime {
            operation: operation.into(),
            object: object.into(),
            ..Runtime::default()
        }
    }

    #[test]
    fn a_suggestion_at_the_end_of_an_artifact_is_valid() {
        for (operation, object, rule) in [
            ("fs:read", "/etc/shadow", "/etc/shadow"),
            ("fs:write", "/srv/a \"b\"\\c", "/srv/a \"b\"\\c"),
            ("fs:read", "/srv/a\nb/c", "/srv/**"),
            ("fs:read", "/srv/x/a*b", "/srv/x/**"),
            ("process:exec", "/usr/bin/dash", "/usr/bin/dash"),
            ("code:load", "/opt/lib/x.so", "/opt/lib/x.so"),
            ("code:generate", "", ""),
            ("net:connect", "tcp://192.0.2.1:443", "tcp://192.0.2.1:443"),
            ("net:listen", "tcp://[::]:9100", "tcp://[::]:9100"),
        ] {
            let lines = allow(Code::Drift, &runtime(operation, object)).unwrap();
            let text = format!("{DRAFT}\n{}", lines.replace("\"\"   #", "\"it does\" #"));

            let draft =
                Draft::parse(text.as_bytes(), "x").unwrap_or_else(|e| panic!("{e}\n{text}"));

            let last = draft.capabilities.last().unwrap();
            assert_eq!(last.full_name(), operation);
            let rules: Vec<_> = last
                .paths
                .iter()
                .map(ToString::to_string)
                .chain(last.endpoints.iter().map(ToString::to_string))
                .collect();
            assert_eq!(rules.join(""), rule, "{operation}");
            if !last.paths.is_empty() {
                assert!(last.grants_path(object), "{operation} {object}");
            }
        }
    }

    #[test]
    fn what_cannot_be_granted_is_said_to_be() {
        for (code, operation, object) in [
            (Code::Drift, "mount", "/x"),
            (Code::Drift, "process:trace", "7"),
            (Code::Drift, "fs:read", "\n"),
            (Code::Drift, "net:connect", "somewhere"),
            (Code::DigestMismatch, "process:exec", "/usr/bin/x"),
        ] {
            assert!(
                allow(code, &runtime(operation, object)).is_err(),
                "{operation}"
            );
        }
    }
}
