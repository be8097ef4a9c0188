//! The artifact: who a program is and what it may do, as written and as understood.
//! Whether it is let in is `admission`'s; what the kernel is told is `plan`'s.

pub mod capability;
pub mod ceiling;
pub mod digest;
pub mod draft;
pub mod endpoint;
mod entry;
pub mod excluded;
mod file;
pub mod kcap;
pub mod pattern;
pub mod problem;
pub mod profile;
pub mod protected;
mod reader;
mod schema;
pub mod scope;
pub mod signature;
pub mod socket;
pub mod unit;

/// Whether `text` can be an artifact's id: `[a-z0-9][a-z0-9._-]{0,62}`.
pub fn is_id(text: &str) -> bool {
    is_name(text, "._-")
}

/// Whether `text` can name a publisher or a profile: `[a-z0-9][a-z0-9_-]{0,62}`, no dot, because
/// file names such as `PUBLISHER.2.pub` begin with it.
pub fn is_short_name(text: &str) -> bool {
    is_name(text, "_-")
}

fn is_name(text: &str, punctuation: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 63
        && text.starts_with(plain)
        && text.chars().all(|c| plain(c) || punctuation.contains(c))
}

/// Whether `text` is a SHA-256 in 64 lower-case hex digits.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_form_of_the_design() {
        let longest = "a".repeat(63);
        for id in ["a", "0", "node-exporter", "a.b_c-d", &longest] {
            assert!(is_id(id), "{id}");
        }
        for id in ["", "A", ".a", "-a", "a b", "ä", "a/b", &"a".repeat(64)] {
            assert!(!is_id(id), "{id}");
        }
        assert!(is_short_name("example_org-2"));
        assert!(!is_short_name("example.org"));
    }

    #[test]
    fn a_sha256_has_64_lower_case_hex_digits() {
        assert!(is_sha256(&"0af9".repeat(16)));
        assert!(!is_sha256(&"0AF9".repeat(16)));
        assert!(!is_sha256(&"0".repeat(63)));
        assert!(!is_sha256(&"g".repeat(64)));
    }
}
