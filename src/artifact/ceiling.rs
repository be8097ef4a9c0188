//! Whether an artifact stays below its scope. Subset tests are exact: what they let through lies
//! inside, what they refuse does not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::capability::{Capability, CapabilityName, Transition};
use super::endpoint::covered_by_union;
use super::excluded;
use super::pattern::{Pattern, PatternKind};
use super::scope::Limits;

/// The limits that apply to one artifact.
pub struct Ceiling<'s> {
    /// Each must allow.
    pub(super) levels: Vec<Level<'s>>,
}

/// One section of a scope, ready for comparison.
pub(super) struct Level<'s> {
    pub limits: &'s Limits,
    /// Profiles expanded; absent: no narrowing.
    pub capabilities: Option<Vec<Capability>>,
}

/// What of a capability lies outside the scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// A rule of the capability, or its name if it has none.
    pub rule: String,
    /// A path that the rule allows and the scope does not, if it is another one than the rule.
    pub example: Option<String>,
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.rule)?;
        match &self.example {
            Some(example) => write!(f, " (it allows {example:?})"),
            None => Ok(()),
        }
    }
}

impl Ceiling<'_> {
    /// Whether artifacts may claim this program. `has_unit`: the artifact holds for one unit only.
    pub fn allows_executable(&self, path: &str, has_unit: bool) -> bool {
        let by_name = !excluded::is_excluded(path, has_unit);
        self.levels.iter().all(|level| {
            let except = level
                .limits
                .executables_except
                .iter()
                .any(|p| p.matches(path));
            let listed = level.limits.executables.as_ref().is_none_or(|patterns| {
                patterns.iter().any(|pattern| {
                    pattern.matches(path) && (by_name || pattern.kind() == PatternKind::Exact)
                })
            });
            listed && !except
        })
    }

    /// What of `capability`, which must not be a profile, lies outside; empty if it lies inside.
    pub fn outside(&self, capability: &Capability) -> Vec<Outside> {
        self.levels
            .iter()
            .filter_map(|level| Some(outside(capability, level.capabilities.as_ref()?)))
            .find(|outside| !outside.is_empty())
            .unwrap_or_default()
    }
}

/// What of `capability` the union of `scope` does not hold.
fn outside(capability: &Capability, scope: &[Capability]) -> Vec<Outside> {
    let named = scope.iter().filter(|held| held.name == capability.name);
    if named.clone().next().is_none() {
        return all_rules(capability);
    }
    let same: Vec<&Capability> = named
        .filter(|held| {
            capability.transition != Some(Transition::Artifact)
                || held.transition == Some(Transition::Artifact)
        })
        .collect();
    if same.is_empty() {
        return vec![Outside {
            rule: "transition = artifact".to_owned(),
            example: None,
        }];
    }
    let mut outside = outside_paths(capability, &same);
    let mut refuse = |rule: String| {
        outside.push(Outside {
            rule,
            example: None,
        })
    };
    // reading a pinned file is implied
    let read = scope
        .iter()
        .filter(|held| held.name == CapabilityName::FsRead);
    for path in capability.files.keys() {
        let readable = read.clone().any(|held| held.grants_path(path));
        if !readable || !same.iter().any(|held| held.grants_path(path)) {
            refuse(path.clone());
        }
    }
    for endpoint in &capability.endpoints {
        if !covered_by_union(endpoint, same.iter().flat_map(|held| &held.endpoints)) {
            refuse(endpoint.to_string());
        }
    }
    let words: [(&BTreeSet<String>, Words); 4] = [
        (
            &capability.abstracts,
            Words {
                of: |c| &c.abstracts,
                any: |_| vec!["*".to_owned()],
            },
        ),
        (
            &capability.sockets,
            Words {
                of: |c| &c.sockets,
                any: socket_wildcards,
            },
        ),
        (
            &capability.targets,
            Words {
                of: |c| &c.targets,
                any: |_| vec!["*".to_owned()],
            },
        ),
        (
            &capability.kcaps,
            Words {
                of: |c| &c.kcaps,
                any: |_| Vec::new(),
            },
        ),
    ];
    for (wanted, held) in words {
        for word in wanted {
            let wildcards = (held.any)(word);
            let inside = same.iter().any(|c| {
                let set = (held.of)(c);
                set.contains(word) || wildcards.iter().any(|wildcard| set.contains(wildcard))
            });
            if !inside {
                refuse(word.clone());
            }
        }
    }
    outside
}

/// All rules of a capability, or its name if it has none.
fn all_rules(capability: &Capability) -> Vec<Outside> {
    let paths = capability.paths.iter().map(ToString::to_string);
    let endpoints = capability.endpoints.iter().map(ToString::to_string);
    let words = [
        &capability.abstracts,
        &capability.sockets,
        &capability.targets,
        &capability.kcaps,
    ];
    let mut rules: Vec<String> = paths
        .chain(capability.files.keys().cloned())
        .chain(endpoints)
        .chain(words.into_iter().flatten().cloned())
        .collect();
    if rules.is_empty() {
        rules.push(capability.full_name());
    }
    let outside = |rule| Outside {
        rule,
        example: None,
    };
    rules.into_iter().map(outside).collect()
}

/// A qualifier that is a set of words, and the words that stand for more.
struct Words {
    of: fn(&Capability) -> &BTreeSet<String>,
    any: fn(&str) -> Vec<String>,
}

/// `netlink/route` is also held by `netlink/*` and `*/*`.
fn socket_wildcards(socket: &str) -> Vec<String> {
    let family = socket.split('/').next().unwrap_or(socket);
    vec![format!("{family}/*"), "*/*".to_owned()]
}

/// The path rules of `capability` that allow a path which no member of `scope` allows.
///
/// Which patterns match a path changes only at the patterns' own bases: at a base, at a name that
/// extends it, one level below either, and deeper. So one witness of each kind a base, made with a
/// character that no pattern can hold, stands for all paths.
fn outside_paths(capability: &Capability, scope: &[&Capability]) -> Vec<Outside> {
    if capability.paths.is_empty() {
        return Vec::new();
    }
    let bases: BTreeSet<&str> = std::iter::once(capability)
        .chain(scope.iter().copied())
        .flat_map(|c| c.paths.iter().chain(&c.except))
        .map(Pattern::base)
        .chain(["/"])
        .collect();
    let mut witnesses = BTreeSet::from(["/".to_owned()]);
    for base in bases {
        let base = if base == "/" { "" } else { base };
        for tail in ["", "/\u{1}", "/\u{1}/\u{1}", "\u{1}", "\u{1}/\u{1}"] {
            if !base.is_empty() || tail.starts_with('/') {
                witnesses.insert(format!("{base}{tail}"));
            }
        }
    }
    let mut outside = BTreeMap::new();
    for witness in &witnesses {
        if capability.grants_path(witness) && !scope.iter().any(|held| held.grants_path(witness)) {
            let rule = capability
                .paths
                .iter()
                .filter(|path| path.matches(witness))
                .max_by_key(|path| path.specificity());
            if let Some(rule) = rule {
                outside
                    .entry(rule.as_str())
                    .or_insert_with(|| witness.replace('\u{1}', "…"));
            }
        }
    }
    outside
        .into_iter()
        .map(|(rule, example)| Outside {
            rule: rule.to_owned(),
            example: (example != rule).then_some(example),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::endpoint::Endpoint;
    use proptest::prelude::*;

    fn paths(paths: &[&str], except: &[&str]) -> Capability {
        let patterns = |texts: &[&str]| texts.iter().map(|t| Pattern::parse(t).unwrap()).collect();
        Capability {
            paths: patterns(paths),
            except: patterns(except),
            ..Capability::new(CapabilityName::FsWrite)
        }
    }

    fn rules(capability: &Capability, scope: &[Capability]) -> Vec<String> {
        outside(capability, scope)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_rule_that_contains_an_exception_of_the_scope_is_outside() {
        let scope = [paths(&["/var/**"], &["/var/spool/cron/**"])];

        assert_eq!(
            rules(&paths(&["/var/**"], &[]), &scope),
            ["\"/var/**\" (it allows \"/var/spool/cron\")"]
        );
        assert!(rules(&paths(&["/var/**"], &["/var/spool/cron/**"]), &scope).is_empty());
        assert!(rules(&paths(&["/var/**"], &["/var/spool/**"]), &scope).is_empty());
        assert!(rules(&paths(&["/var/spool/*"], &[]), &scope).len() == 1);
        assert!(rules(&paths(&["/var/lib/x", "/var/spool/mail/**"], &[]), &scope).is_empty());
    }

    #[test]
    fn several_capabilities_of_the_scope_hold_together() {
        let scope = [
            paths(&["/a/**"], &["/a/b/**"]),
            paths(&["/a/b/*", "/a/b"], &[]),
        ];

        assert_eq!(
            rules(&paths(&["/a/**"], &[]), &scope),
            ["\"/a/**\" (it allows \"/a/b/…/…\")"]
        );
        assert!(rules(&paths(&["/a/**"], &["/a/b/c/**"]), &scope).len() == 1);
        assert!(rules(&paths(&["/a/c/**", "/a/b/*"], &[]), &scope).is_empty());
    }

    #[test]
    fn another_capability_of_the_scope_does_not_help() {
        let mut read = paths(&["/**"], &[]);
        read.name = CapabilityName::FsRead;

        assert_eq!(rules(&paths(&["/a"], &[]), &[read]), ["\"/a\""]);
    }

    #[test]
    fn what_the_scope_does_not_speak_of_at_all_is_named_by_its_rules() {
        let trace = Capability {
            targets: ["self".to_owned()].into(),
            ..Capability::new(CapabilityName::ProcessTrace)
        };

        assert_eq!(rules(&trace, &[]), ["\"self\""]);
        assert_eq!(
            rules(&Capability::new(CapabilityName::KernelPerf), &[]),
            ["\"kernel:perf\""]
        );
    }

    #[test]
    fn words_are_held_one_by_one_or_by_a_wildcard() {
        let sockets = |words: &[&str]| Capability {
            sockets: words.iter().map(|w| (*w).to_owned()).collect(),
            ..Capability::new(CapabilityName::NetSocket)
        };
        let wanted = sockets(&["netlink/route", "packet/*"]);

        assert_eq!(rules(&wanted, &[sockets(&["netlink/*"])]), ["\"packet/*\""]);
        assert!(rules(&wanted, &[sockets(&["*/*"])]).is_empty());
        assert!(
            rules(
                &wanted,
                &[sockets(&["netlink/route"]), sockets(&["packet/*"])]
            )
            .is_empty()
        );
        assert_eq!(
            rules(&wanted, &[sockets(&["netlink/route", "packet/all"])]),
            ["\"packet/*\""]
        );
    }

    #[test]
    fn an_endpoint_outside_is_named() {
        let connect = |text: &str| Capability {
            endpoints: BTreeSet::from([Endpoint::parse(text).unwrap()]),
            ..Capability::new(CapabilityName::NetConnect)
        };

        let scope = [connect("tcp://10.0.0.0/8:*")];

        assert!(rules(&connect("tcp://10.1.0.0/16:443"), &scope).is_empty());
        assert_eq!(rules(&connect("tcp://*:443"), &scope), ["\"tcp://*:443\""]);
    }

    #[test]
    fn a_change_of_label_needs_a_scope_that_says_so() {
        let mut wanted = paths(&["/a"], &[]);
        wanted.name = CapabilityName::ProcessExec;
        wanted.transition = Some(Transition::Inherit);
        let inherit = [wanted.clone()];
        wanted.transition = Some(Transition::Artifact);

        assert_eq!(rules(&wanted, &inherit), ["\"transition = artifact\""]);
        assert!(rules(&wanted, &[wanted.clone()]).is_empty());
    }

    #[test]
    fn pinned_code_lies_inside_by_its_path_if_it_may_be_read() {
        let mut pinned = Capability::new(CapabilityName::CodeLoad);
        pinned.files.insert("/opt/a.so".to_owned(), "0".repeat(64));
        let mut scope = paths(&["/usr/**"], &[]);
        scope.name = CapabilityName::CodeLoad;

        let mut read = paths(&["/**"], &[]);
        read.name = CapabilityName::FsRead;

        assert_eq!(
            rules(&pinned, &[scope.clone(), read.clone()]),
            ["\"/opt/a.so\""]
        );
        scope.paths.insert(Pattern::parse("/opt/*").unwrap());
        assert!(rules(&pinned, &[scope.clone(), read.clone()]).is_empty());
        read.except.insert(Pattern::parse("/opt/a.so").unwrap());
        assert_eq!(rules(&pinned, &[scope, read]), ["\"/opt/a.so\""]);
    }

    fn any_capability() -> impl Strategy<Value = Capability> {
        let pattern = || {
            (
                "(/[ab]{1,2}){1,2}",
                prop::sample::select(vec!["", "/*", "/**", "*"]),
            )
                .prop_map(|(base, wildcard)| Pattern::parse(&format!("{base}{wildcard}")).unwrap())
        };
        (
            prop::collection::btree_set(pattern(), 1..4),
            prop::collection::btree_set(pattern(), 0..3),
        )
            .prop_map(|(paths, except)| Capability {
                paths,
                except,
                ..Capability::new(CapabilityName::FsWrite)
            })
    }

    /// Every path of up to three components from an alphabet larger than the patterns', and one below each:
    /// what is below the children of the longest pattern.
    fn all_paths() -> Vec<String> {
        let names = [
            "a", "b", "c", "aa", "ab", "ac", "ba", "bb", "bc", "aac", "abc", "bac", "bbc",
        ];
        let mut paths = vec![String::new()];
        let mut all = vec!["/".to_owned()];
        for _ in 0..3 {
            paths = paths
                .iter()
                .flat_map(|path| names.iter().map(move |name| format!("{path}/{name}")))
                .collect();
            all.extend(paths.iter().cloned());
        }
        all.extend(paths.iter().map(|path| format!("{path}/c")));
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]
        #[test]
        fn the_subset_test_agrees_with_looking_at_every_path(
            wanted in any_capability(), scope in prop::collection::vec(any_capability(), 1..4)
        ) {
            let inside = all_paths().iter().all(|path| {
                !wanted.grants_path(path) || scope.iter().any(|held| held.grants_path(path))
            });

            prop_assert_eq!(outside(&wanted, &scope).is_empty(), inside);
        }
    }
}
