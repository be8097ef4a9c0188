//! A capability as written: the keys of a `[[…capability]]` table, in artifacts, profiles and scopes
//! alike. Reads them, and turns them into a [`Capability`].

use std::borrow::Cow;
use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use super::capability::{Capability, CapabilityName, QualifierKeys, Transition};
use super::endpoint::Endpoint;
use super::kcap;
use super::pattern::{Pattern, PatternKind};
use super::reader::{At, Table};
use super::schema;
use super::socket::SocketKind;
use super::{is_id, is_sha256};
use crate::event::Detail;

/// Where a capability is declared, and with that what it may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    Artifact,
    Profile,
    /// `*` may stand for any target, abstract socket or socket family.
    Scope,
}

/// The keys of a capability that say what it allows.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, transform = schema::qualify)]
pub struct Rights {
    /// One of the capabilities, or `profile:NAME`.
    #[schemars(schema_with = "schema::names")]
    pub name: At<String>,
    /// `/a/b`, `/a/b*`, `/a/b/*` or `/a/b/**`; for `ipc:unix` also `@name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("uniqueItems" = true), length(min = 1), inner(regex(pattern = r"^[/@]")))]
    pub paths: Option<Vec<At<String>>>,
    /// Patterns carved out of `paths`, each inside one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("uniqueItems" = true), length(min = 1), inner(regex(pattern = r"^/")))]
    pub except: Option<Vec<At<String>>>,
    /// `tcp|udp://ADDRESS[/PREFIX]:PORT[-PORT]`, `*` for any address or port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1),
        extend("uniqueItems" = true),
        inner(regex(pattern = r"^(tcp|udp)://.+:([0-9]+(-[0-9]+)?|\*)$"))
    )]
    pub endpoints: Option<Vec<At<String>>>,
    /// `FAMILY/PROTOCOL`, such as `netlink/route` or `packet/*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("uniqueItems" = true), length(min = 1), inner(regex(pattern = r"^[a-z0-9_*]+/[a-z0-9_*]+$")))]
    pub sockets: Option<Vec<At<String>>>,
    /// `self`, `children` or ids of artifacts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("uniqueItems" = true), length(min = 1), inner(length(min = 1)))]
    pub targets: Option<Vec<At<String>>>,
    /// Linux capabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("uniqueItems" = true), length(min = 1), inner(regex(pattern = r"^CAP_[A-Z_]+$")))]
    pub kcaps: Option<Vec<At<String>>>,
    /// Whose label a program that is run gets; `inherit` unless written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["inherit", "artifact"]))]
    pub transition: Option<At<String>>,
    /// Pinned code, instead of `paths`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub file: Option<Vec<PinnedFile>>,
}

/// A `[[…capability.file]]` of `code:load`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PinnedFile {
    #[schemars(regex(pattern = r"^/"))]
    pub path: At<String>,
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: At<String>,
}

impl Rights {
    /// Reads the keys; the caller asks for its own keys and calls `finish`.
    pub fn read(table: &mut Table<'_, '_>) -> Option<Self> {
        let name = table.required_string("name");
        let paths = table.strings("paths");
        let except = table.strings("except");
        let endpoints = table.strings("endpoints");
        let sockets = table.strings("sockets");
        let targets = table.strings("targets");
        let kcaps = table.strings("kcaps");
        let transition = table.string("transition");
        let file = table
            .tables("file")
            .map(|files| files.into_iter().filter_map(PinnedFile::read).collect());
        Some(Self {
            name: name?,
            paths,
            except,
            endpoints,
            sockets,
            targets,
            kcaps,
            transition,
            file,
        })
    }

    /// What the keys mean, or `None` after reporting why they mean nothing. `table` is where they stand.
    pub fn understand(&self, table: &Table<'_, '_>, declared: Declared) -> Option<Capability> {
        let reader = table.reader();
        let Some((name, profile)) = CapabilityName::parse(&self.name.value) else {
            let message = format!(
                "{:?} is no capability; write profile:NAME or one of {}",
                self.name.value,
                names().join(", ")
            );
            reader.invalid(&self.name.span, Detail::UnknownCapability, message);
            return None;
        };
        if declared == Declared::Profile && profile.is_some() {
            let message = "a profile cannot name another one; write its capabilities here";
            reader.invalid(&self.name.span, Detail::BadValue, message);
            return None;
        }
        self.check_keys(table, name);
        let mut capability = Capability::new(name);
        capability.profile = profile.map(str::to_owned);
        self.understand_paths(&mut capability, table, declared);
        self.understand_except(&mut capability, table);
        self.understand_words(&mut capability, table, declared);
        Some(capability)
    }

    /// How many rules there are.
    pub fn rules(&self) -> usize {
        let lists = [
            &self.paths,
            &self.except,
            &self.endpoints,
            &self.sockets,
            &self.targets,
            &self.kcaps,
        ];
        lists.into_iter().flatten().map(Vec::len).sum::<usize>()
            + self.file.as_ref().map_or(0, Vec::len)
    }

    /// The keys that are present, with their places.
    fn keys(&self) -> Vec<(&'static str, usize)> {
        let first = |list: &Option<Vec<At<String>>>| {
            list.as_ref()
                .and_then(|list| list.first())
                .map(|first| first.span.start)
        };
        let file = self.file.as_ref().and_then(|file| file.first());
        [
            ("paths", first(&self.paths)),
            ("except", first(&self.except)),
            ("endpoints", first(&self.endpoints)),
            ("sockets", first(&self.sockets)),
            ("targets", first(&self.targets)),
            ("kcaps", first(&self.kcaps)),
            (
                "transition",
                self.transition.as_ref().map(|word| word.span.start),
            ),
            ("file", file.map(|file| file.path.span.start)),
        ]
        .into_iter()
        .filter_map(|(key, start)| Some((key, start?)))
        .collect()
    }

    /// Reports keys of other capabilities, and the lack of an own one.
    fn check_keys(&self, table: &Table<'_, '_>, name: CapabilityName) {
        let QualifierKeys { one_of, beside } = name.qualifier().keys();
        let keys = self.keys();
        for (key, start) in &keys {
            if !one_of.contains(key) && !beside.contains(key) {
                let message = format!("{key} does not belong to {}; remove it", self.name.value);
                table
                    .reader()
                    .invalid(&(*start..*start), Detail::ForeignQualifier, message);
            }
        }
        // A key that is there but could not be read has its own problem already.
        let present = one_of.iter().filter(|key| table.has(key)).count();
        if present == 0 && !one_of.is_empty() {
            let message = format!("{} needs {}; add it", self.name.value, one_of.join(" or "));
            table
                .reader()
                .invalid(&table.span, Detail::MissingQualifier, message);
        }
        if present > 1 {
            let message = format!(
                "{} has {} at once; keep one",
                self.name.value,
                one_of.join(" and ")
            );
            table
                .reader()
                .invalid(&table.span, Detail::ForeignQualifier, message);
        }
    }

    fn understand_paths(
        &self,
        capability: &mut Capability,
        table: &Table<'_, '_>,
        declared: Declared,
    ) {
        for path in self.paths.iter().flatten() {
            match path.value.strip_prefix('@') {
                Some(socket) if capability.name == CapabilityName::IpcUnix => {
                    let any = socket == "*" && declared == Declared::Scope;
                    if socket.is_empty() || (socket.contains('*') && !any) {
                        let message = format!("{:?} names no abstract socket", path.value);
                        table
                            .reader()
                            .invalid(&path.span, Detail::BadValue, message);
                    }
                    capability.abstracts.insert(socket.to_owned());
                }
                _ => capability.paths.extend(pattern(table, path)),
            }
        }
        for file in self.file.iter().flatten() {
            if let Some(path) = exact_path(table, &file.path) {
                check_sha256(table, &file.sha256);
                if capability
                    .files
                    .insert(path, file.sha256.value.clone())
                    .is_some()
                {
                    let message = format!("{:?} is pinned twice; remove one", file.path.value);
                    table
                        .reader()
                        .invalid(&file.path.span, Detail::Duplicate, message);
                }
            }
        }
    }

    fn understand_except(&self, capability: &mut Capability, table: &Table<'_, '_>) {
        if !table.has("paths") {
            // Elsewhere than beside pinned files, `except` or the lack of paths is reported already.
            if self.except.is_some() && table.has("file") {
                let message = "except stands only beside paths; remove it";
                let span = table.key_span("except");
                table
                    .reader()
                    .invalid(&span, Detail::ForeignQualifier, message);
            }
            return;
        }
        for text in self.except.iter().flatten() {
            let Some(except) = pattern(table, text) else {
                continue;
            };
            let inside = capability.paths.iter().any(|path| path.covers(&except));
            // If a path could not be read, its fault is reported and this one may be its echo.
            let all_read =
                table.length("paths") == capability.paths.len() + capability.abstracts.len();
            if capability.paths.contains(&except) {
                let message = format!("{except} is also in paths; remove one");
                table
                    .reader()
                    .invalid(&text.span, Detail::BadExcept, message);
            } else if !inside && all_read {
                let message =
                    format!("{except} lies inside none of the paths, so it carves nothing out");
                table
                    .reader()
                    .invalid(&text.span, Detail::BadExcept, message);
            }
            capability.except.insert(except);
        }
    }

    fn understand_words(
        &self,
        capability: &mut Capability,
        table: &Table<'_, '_>,
        declared: Declared,
    ) {
        let reader = table.reader();
        for text in self.endpoints.iter().flatten() {
            match Endpoint::parse(&text.value) {
                Ok(endpoint) => {
                    if !capability.endpoints.insert(endpoint.clone()) {
                        let message = format!("{endpoint} stands twice in endpoints; remove one");
                        reader.invalid(&text.span, Detail::Duplicate, message);
                    }
                }
                Err(error) => {
                    let message = format!("{:?} {error}", text.value);
                    reader.invalid(&text.span, Detail::BadEndpoint, message);
                }
            }
        }
        let in_scope = declared == Declared::Scope;
        type What = fn(&str) -> Cow<'static, str>;
        let words = |texts: &Option<Vec<At<String>>>, valid: fn(&str, bool) -> bool, what: What| {
            let mut set = BTreeSet::new();
            for text in texts.iter().flatten() {
                if !valid(&text.value, in_scope) {
                    let message = format!("{:?} is {}", text.value, what(&text.value));
                    reader.invalid(&text.span, Detail::BadValue, message);
                }
                set.insert(text.value.clone());
            }
            set
        };
        capability.sockets = words(&self.sockets, is_socket, |_| {
            "no kind of socket; write FAMILY/PROTOCOL, such as netlink/route, inet/icmp or packet/*"
                .into()
        });
        capability.targets = words(&self.targets, is_target, |_| {
            "no target; write self, children or an artifact's id".into()
        });
        capability.kcaps = words(
            &self.kcaps,
            |name, _| kcap::is_known(name),
            |name| match kcap::spelled(name) {
                Some(known) => format!("no Linux capability; write {known}").into(),
                None => "no Linux capability; see capabilities(7)".into(),
            },
        );
        if let Some(word) = &self.transition {
            let known = Transition::ALL.iter().find(|t| t.as_str() == word.value);
            match known {
                Some(transition) if capability.transition.is_some() => {
                    capability.transition = Some(*transition);
                }
                Some(_) => {}
                None => {
                    let message =
                        format!("transition is {:?}; write inherit or artifact", word.value);
                    reader.invalid(&word.span, Detail::BadValue, message);
                }
            }
        }
    }
}

impl PinnedFile {
    fn read(mut table: Table<'_, '_>) -> Option<Self> {
        let path = table.required_string("path");
        let sha256 = table.required_string("sha256");
        table.finish();
        Some(Self {
            path: path?,
            sha256: sha256?,
        })
    }
}

/// Every name but `profile:…`.
fn names() -> Vec<&'static str> {
    CapabilityName::ALL
        .iter()
        .filter(|name| **name != CapabilityName::Profile)
        .map(|name| name.as_str())
        .collect()
}

/// The pattern that `text` is, or a report why it is none.
pub fn pattern(table: &Table<'_, '_>, text: &At<String>) -> Option<Pattern> {
    match Pattern::parse(&text.value) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let message = format!("{:?} {error}", text.value);
            table.reader().invalid(&text.span, Detail::BadPath, message);
            None
        }
    }
}

/// The path that `text` is, or a report why it is none.
pub fn exact_path(table: &Table<'_, '_>, text: &At<String>) -> Option<String> {
    let pattern = pattern(table, text)?;
    if pattern.kind() != PatternKind::Exact {
        let message = format!("{:?} has a wildcard; name one file", text.value);
        table.reader().invalid(&text.span, Detail::BadPath, message);
        return None;
    }
    Some(text.value.clone())
}

/// Reports a text that is no SHA-256.
pub fn check_sha256(table: &Table<'_, '_>, text: &At<String>) {
    if !is_sha256(&text.value) {
        let message = format!(
            "{:?} is no SHA-256; write 64 lower-case hex digits",
            text.value
        );
        table
            .reader()
            .invalid(&text.span, Detail::BadValue, message);
    }
}

/// In a scope, `*/*` stands for every kind.
fn is_socket(text: &str, in_scope: bool) -> bool {
    SocketKind::parse(text).is_some() || (text == "*/*" && in_scope)
}

/// `self` and `children` are ids by their form.
fn is_target(text: &str, in_scope: bool) -> bool {
    is_id(text) || (text == "*" && in_scope)
}

#[cfg(test)]
mod tests {
    use crate::artifact::capability::CapabilityName;
    use crate::artifact::problem::Problems;
    use crate::artifact::scope::Scope;
    use crate::event::Detail;

    /// A scope takes every capability of the format.
    fn parse(keys: &str) -> Result<Scope, Problems> {
        let text = format!(
            "schema_version = \"1.0.0\"\n[site]\nexecutables = [\"/**\"]\n[[site.capability]]\n{keys}\n"
        );
        Scope::parse(text.as_bytes(), "scope.toml")
    }

    fn details(keys: &str) -> Vec<Detail> {
        let Err(problems) = parse(keys) else {
            return Vec::new();
        };
        problems.list.iter().map(|problem| problem.detail).collect()
    }

    #[test]
    fn an_empty_string_hides_no_other_fault_of_its_list_and_brings_no_false_one() {
        let keys = "name = \"fs:read\"\npaths = [\"\", \"a\", \"b\"]\nexcept = [\"/a/b\"]";

        let found = details(keys);

        assert_eq!(found.iter().filter(|d| **d == Detail::BadPath).count(), 2);
        assert!(!found.contains(&Detail::BadExcept), "{found:?}");
    }

    const LINES: [(&str, &str); 8] = [
        ("paths", "[\"/a\", \"/b/**\"]"),
        ("except", "[\"/b/c\"]"),
        ("endpoints", "[\"tcp://*:1\"]"),
        ("sockets", "[\"netlink/route\"]"),
        ("targets", "[\"self\"]"),
        ("kcaps", "[\"CAP_CHOWN\"]"),
        ("transition", "\"inherit\""),
        ("file", ""),
    ];

    fn line(key: &str) -> String {
        let hash = "0".repeat(64);
        let value = LINES.iter().find(|(k, _)| *k == key).unwrap().1;
        match key {
            "file" => format!("file = [{{ path = \"/x\", sha256 = \"{hash}\" }}]\n"),
            _ => format!("{key} = {value}\n"),
        }
    }

    /// What a capability must have, and what it may have besides; from the design's table.
    fn own_keys(name: CapabilityName) -> (&'static str, &'static [&'static str]) {
        match name.as_str().split_once(':').unwrap_or((name.as_str(), "")) {
            ("fs", _) | ("code", "load") | ("ipc", "unix") => ("paths", &["except"]),
            ("process", "exec") => ("paths", &["except", "transition"]),
            ("net", "socket") => ("sockets", &[]),
            ("net", _) => ("endpoints", &[]),
            ("process", _) => ("targets", &[]),
            ("kernel", "capability") => ("kcaps", &[]),
            _ => ("", &[]),
        }
    }

    #[test]
    fn each_capability_has_its_own_keys_and_no_other() {
        for name in CapabilityName::ALL {
            let word = match name {
                CapabilityName::Profile => "profile:base",
                other => other.as_str(),
            };
            let (needed, allowed) = own_keys(*name);
            let base = match needed {
                "" => format!("name = \"{word}\"\n"),
                key => format!("name = \"{word}\"\n{}", line(key)),
            };

            assert_eq!(details(&base), [], "{base}");
            if !needed.is_empty() {
                let alone = format!("name = \"{word}\"\n");
                assert_eq!(details(&alone), [Detail::MissingQualifier], "{alone}");
            }
            for (key, _) in LINES.iter().filter(|(key, _)| *key != needed) {
                let both = base.clone() + &line(key);
                let foreign = details(&both).contains(&Detail::ForeignQualifier);
                assert_eq!(foreign, !allowed.contains(key), "{both}");
            }
        }
    }

    #[test]
    fn code_is_loaded_by_rule_or_pinned_but_not_both() {
        let name = "name = \"code:load\"\n".to_owned();

        assert_eq!(details(&(name.clone() + &line("file"))), []);
        assert_eq!(
            details(&(name + &line("file") + &line("paths"))),
            [Detail::ForeignQualifier]
        );
    }

    #[test]
    fn an_exception_lies_inside_the_paths() {
        let table = [
            ("[\"/a/**\"]", "[\"/a/b\"]", None),
            ("[\"/proc/**\"]", "[\"/proc/*/environ\"]", None),
            ("[\"/a/**\"]", "[\"/b\"]", Some(Detail::BadExcept)),
            ("[\"/a/*\"]", "[\"/a/**\"]", Some(Detail::BadExcept)),
            ("[\"/a/**\"]", "[\"/a/**\"]", Some(Detail::BadExcept)),
            ("[\"/a/**\"]", "[\"/a/*b\"]", Some(Detail::BadPath)),
            ("[\"/a**\"]", "[\"/a/b\"]", Some(Detail::BadPath)),
        ];

        for (paths, except, expected) in table {
            let keys = format!("name = \"fs:read\"\npaths = {paths}\nexcept = {except}");
            assert_eq!(
                details(&keys),
                expected.into_iter().collect::<Vec<_>>(),
                "{keys}"
            );
        }
        assert_eq!(
            details("name = \"fs:read\"\nexcept = [\"/a\"]"),
            [Detail::MissingQualifier]
        );
    }

    #[test]
    fn words_that_name_nothing_are_refused() {
        let table = [
            ("net:socket", "sockets", "netlink"),
            ("net:socket", "sockets", "netlink/"),
            ("net:socket", "sockets", "*/route"),
            ("net:socket", "sockets", "Netlink/route"),
            ("net:socket", "sockets", "unix/0"),
            ("net:socket", "sockets", "packet/3"),
            ("process:signal", "targets", "Nobody"),
            ("kernel:capability", "kcaps", "CAP_EVERYTHING"),
            ("kernel:capability", "kcaps", "cap_chown"),
        ];

        for (name, key, word) in table {
            let keys = format!("name = \"{name}\"\n{key} = [\"{word}\"]");
            assert_eq!(details(&keys), [Detail::BadValue], "{keys}");
        }
        let transition = "name = \"process:exec\"\npaths = [\"/a\"]\ntransition = \"keep\"";
        assert_eq!(details(transition), [Detail::BadValue]);
    }

    #[test]
    fn an_abstract_socket_belongs_to_ipc_unix_only() {
        assert_eq!(
            details("name = \"ipc:unix\"\npaths = [\"@x\", \"@*\", \"/run/x\"]"),
            []
        );
        assert_eq!(
            details("name = \"ipc:unix\"\npaths = [\"@\"]"),
            [Detail::BadValue]
        );
        assert_eq!(
            details("name = \"ipc:unix\"\npaths = [\"@x*\"]"),
            [Detail::BadValue]
        );
        assert_eq!(
            details("name = \"fs:read\"\npaths = [\"@x\"]"),
            [Detail::BadPath]
        );
    }
}
