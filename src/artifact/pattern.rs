//! Path patterns: the four shapes of a file rule, what each matches and which contains which.
//! Paths are compared byte for byte, as the kernel walker writes them; nothing is normalised.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest rule in bytes; the kernel's prefix trie takes 256 with the NUL of an exact rule.
pub const MAX_LENGTH: usize = 255;

/// The shape of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PatternKind {
    /// `/a/b/**`: `/a/b` itself and all below it.
    Subtree,
    /// `/a/b/*`: what lies directly in `/a/b`.
    Children,
    /// `/a/b*`: the names in `/a` that begin with `b`.
    NamePrefix,
    /// `/a/b`.
    Exact,
}

/// A parsed path pattern. Ordered by its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
}

/// Why a text is no path pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatternError {
    Empty,
    TooLong,
    ControlCharacter,
    NotAbsolute,
    NotCanonical,
    Wildcard,
    ProcessNumber,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty; write an absolute path",
            Self::TooLong => "is longer than 255 bytes; name a directory above it",
            Self::ControlCharacter => {
                "contains a control character; reach such a name by a directory rule"
            }
            Self::NotAbsolute => "does not begin with /; write an absolute path",
            Self::NotCanonical => "is not canonical; write it without //, /./, /../ and trailing /",
            Self::Wildcard => "has a * where none is allowed; write /a/b, /a/b*, /a/b/* or /a/b/**",
            Self::ProcessNumber => {
                "names a process by its number, which never matches; \
                 write /proc/self/… for the task's own or /proc/*/… for others"
            }
        })
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Parses `/a/b`, `/a/b*`, `/a/b/*` or `/a/b/**`.
    ///
    /// A `*` that is the whole component below `/proc` and not the last one is a literal name: the
    /// walker writes other tasks' directories so.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > MAX_LENGTH {
            return Err(PatternError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(PatternError::ControlCharacter);
        }
        let Some(relative) = text.strip_prefix('/') else {
            return Err(PatternError::NotAbsolute);
        };
        if relative.is_empty() {
            return Ok(Self {
                text: text.to_owned(),
            });
        }
        let components: Vec<&str> = relative.split('/').collect();
        let last = components.len() - 1;
        let in_proc = components.first() == Some(&"proc");
        for (index, component) in components.iter().enumerate() {
            if matches!(*component, "" | "." | "..") {
                return Err(PatternError::NotCanonical);
            }
            if in_proc && index == 1 && component.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(PatternError::ProcessNumber);
            }
            let star_allowed = if index == last {
                let literal = component.strip_suffix('*').unwrap_or(component);
                *component == "**" || !literal.contains('*')
            } else {
                !component.contains('*') || (in_proc && index == 1 && *component == "*")
            };
            if !star_allowed {
                return Err(PatternError::Wildcard);
            }
        }
        Ok(Self {
            text: text.to_owned(),
        })
    }

    pub fn kind(&self) -> PatternKind {
        if self.text.ends_with("/**") {
            PatternKind::Subtree
        } else if self.text.ends_with("/*") {
            PatternKind::Children
        } else if self.text.ends_with('*') {
            PatternKind::NamePrefix
        } else {
            PatternKind::Exact
        }
    }

    /// The text without its wildcard: `/a/b` for `/a/b`, `/a/b*`, `/a/b/*` and `/a/b/**`, `/` for
    /// `/*` and `/**`.
    pub fn base(&self) -> &str {
        let base = match self.kind() {
            PatternKind::Subtree => &self.text[..self.text.len() - 3],
            PatternKind::Children => &self.text[..self.text.len() - 2],
            PatternKind::NamePrefix => &self.text[..self.text.len() - 1],
            PatternKind::Exact => &self.text,
        };
        if base.is_empty() { "/" } else { base }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How specific the pattern is; of all that match a path the one with the greatest decides.
    ///
    /// A longer base wins, then the narrower kind; a pattern inside another one is always greater.
    pub fn specificity(&self) -> (usize, PatternKind) {
        (below_root(self.base()).len(), self.kind())
    }

    /// Whether `path`, absolute and canonical, is one of the paths that this pattern means.
    pub fn matches(&self, path: &str) -> bool {
        let Some(rest) = below_root(path).strip_prefix(below_root(self.base())) else {
            return false;
        };
        match self.kind() {
            PatternKind::Exact => rest.is_empty(),
            PatternKind::NamePrefix => !rest.contains('/'),
            PatternKind::Children => rest
                .strip_prefix('/')
                .is_some_and(|name| !name.is_empty() && !name.contains('/')),
            PatternKind::Subtree => rest.is_empty() || rest.starts_with('/'),
        }
    }

    /// Whether every path that `other` matches is matched by this pattern. Exact.
    pub fn covers(&self, other: &Pattern) -> bool {
        let base = other.base();
        match (self.kind(), other.kind()) {
            (_, PatternKind::Exact) => self.matches(base),
            (PatternKind::Exact, _) => false,
            (PatternKind::NamePrefix, PatternKind::NamePrefix) => self.matches(base),
            (PatternKind::NamePrefix, _) => false,
            (PatternKind::Children, PatternKind::NamePrefix) => self.matches(base),
            (PatternKind::Children, PatternKind::Children) => self.base() == base,
            (PatternKind::Children, PatternKind::Subtree) => false,
            (PatternKind::Subtree, PatternKind::NamePrefix) => self.matches(parent(base)),
            (PatternKind::Subtree, _) => self.matches(base),
        }
    }
}

/// The path as a string that every path below it extends by `/name`: the root becomes empty.
fn below_root(path: &str) -> &str {
    if path == "/" { "" } else { path }
}

/// The directory that holds `path`.
fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(slash) => &path[..slash],
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        Self::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn the_four_kinds_share_one_base() {
        let kinds = [
            ("/a/b", PatternKind::Exact),
            ("/a/b*", PatternKind::NamePrefix),
            ("/a/b/*", PatternKind::Children),
            ("/a/b/**", PatternKind::Subtree),
        ];

        for (text, kind) in kinds {
            assert_eq!(
                (pattern(text).kind(), pattern(text).base()),
                (kind, "/a/b"),
                "{text}"
            );
        }
        assert_eq!(pattern("/**").base(), "/");
        assert_eq!(pattern("/*").base(), "/");
        assert_eq!(pattern("/").base(), "/");
    }

    #[test]
    fn each_broken_pattern_names_its_fault() {
        let long = format!("/{}", "a".repeat(255));
        let cases = [
            ("", PatternError::Empty),
            (long.as_str(), PatternError::TooLong),
            ("/a\nb", PatternError::ControlCharacter),
            ("a/b", PatternError::NotAbsolute),
            ("/a//b", PatternError::NotCanonical),
            ("/a/./b", PatternError::NotCanonical),
            ("/a/../b", PatternError::NotCanonical),
            ("/a/..", PatternError::NotCanonical),
            ("/a/", PatternError::NotCanonical),
            ("//", PatternError::NotCanonical),
            ("/a*b", PatternError::Wildcard),
            ("/a/*/b", PatternError::Wildcard),
            ("/a/**/b", PatternError::Wildcard),
            ("/a/b**", PatternError::Wildcard),
            ("/a/***", PatternError::Wildcard),
            ("/proc/self/*/x", PatternError::Wildcard),
            ("/proc/**/x", PatternError::Wildcard),
            ("/proc/1/environ", PatternError::ProcessNumber),
            ("/proc/1*", PatternError::ProcessNumber),
        ];

        for (text, error) in cases {
            assert_eq!(Pattern::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_star_below_proc_is_the_name_of_other_processes() {
        let others = pattern("/proc/*/environ");

        assert_eq!(
            (others.kind(), others.base()),
            (PatternKind::Exact, "/proc/*/environ")
        );
        assert!(!others.matches("/proc/self/environ"));
        assert!(pattern("/proc/**").covers(&others));
        assert!(pattern("/proc/*/fd/*").matches("/proc/*/fd/3"));
        assert_eq!(pattern("/proc/*").kind(), PatternKind::Children);
    }

    #[test]
    fn each_kind_matches_what_it_says() {
        let table = [
            ("/a/b", &["/a/b"][..], &["/a", "/a/bc", "/a/b/c"][..]),
            ("/a/b*", &["/a/b", "/a/bc"], &["/a/c", "/a/b/c", "/a/bc/d"]),
            ("/a/b/*", &["/a/b/c"], &["/a/b", "/a/b/c/d", "/a/bc"]),
            ("/a/b/**", &["/a/b", "/a/b/c", "/a/b/c/d"], &["/a", "/a/bc"]),
            ("/**", &["/", "/a", "/a/b"], &[]),
            ("/*", &["/a"], &["/", "/a/b"]),
            ("/", &["/"], &["/a"]),
        ];

        for (text, inside, outside) in table {
            for path in inside {
                assert!(pattern(text).matches(path), "{text} {path}");
            }
            for path in outside {
                assert!(!pattern(text).matches(path), "{text} {path}");
            }
        }
    }

    #[test]
    fn a_subtree_does_not_cover_the_names_that_extend_its_own() {
        assert!(!pattern("/a/b/**").covers(&pattern("/a/b*")));
        assert!(pattern("/a/**").covers(&pattern("/a/b*")));
        assert!(!pattern("/a/b*").covers(&pattern("/a/b/*")));
        assert!(!pattern("/a/*").covers(&pattern("/a/**")));
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        let wildcard = prop::sample::select(vec!["", "/*", "/**", "*"]);
        ("(/[ab]{1,2}){1,3}", wildcard)
            .prop_map(|(base, wildcard)| pattern(&format!("{base}{wildcard}")))
    }

    proptest! {
        #[test]
        fn covers_is_exactly_containment_of_the_matched_paths(
            outer in any_pattern(), inner in any_pattern()
        ) {
            // Every distinct behaviour near the two bases has a witness among these.
            let mut witnesses = Vec::new();
            for base in [outer.base(), inner.base()] {
                for tail in ["", "\u{1}", "/\u{1}", "/\u{1}/\u{1}", "\u{1}/\u{1}"] {
                    witnesses.push(format!("{base}{tail}"));
                }
            }

            let contained = witnesses.iter().all(|w| !inner.matches(w) || outer.matches(w));

            prop_assert_eq!(outer.covers(&inner), contained, "{} {}", outer, inner);
        }

        #[test]
        fn a_pattern_inside_another_is_more_specific(a in any_pattern(), b in any_pattern()) {
            if a != b && a.covers(&b) {
                prop_assert!(b.specificity() > a.specificity(), "{} {}", a, b);
            }
        }

        #[test]
        fn text_survives_parsing(p in any_pattern()) {
            prop_assert_eq!(Pattern::parse(p.as_str()), Ok(p.clone()));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            if let Ok(p) = Pattern::parse(&text) {
                prop_assert!(p.base().starts_with('/'));
            }
        }
    }
}
