//! Whether an artifact stays below its scope. Subset tests are exact: what they let through lies
//! inside, what they refuse does not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::capability::{Capability, Transition};
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
    let same: Vec<&Capability> = scope
        .iter()
        .filter(|held| held.name == capability.name)
        .filter(|held| {
            capability.transition != Some(Transition::Artifact)
                || held.transition == Some(Transition::Artifact)
        })
        .collect();
    if same.is_empty() {
        return vec![Outside {
            rule: capability.full_name(),
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
    for path in capability.files.keys() {
        if !same.iter().any(|held| held.grants_path(path)) {
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
