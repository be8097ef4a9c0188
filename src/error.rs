//! How errors are told: the sentence of each, from the outermost to its first cause.

use std::error::Error;

/// The error and its causes on one line, joined by ": ".
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What is wrong with a TOML text, with the key's name where the parser says only that one stands twice.
pub fn toml_fault(error: &toml::de::Error, text: &str) -> String {
    match error.span().and_then(|span| text.get(span)) {
        Some(key) if error.message() == "duplicate key" => format!("duplicate key {key:?}"),
        _ => error.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::io::Error);

    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("The file could not be read")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn causes_follow_the_sentence() {
        let error = Outer(std::io::Error::other("disk on fire"));

        assert_eq!(chain(&error), "The file could not be read: disk on fire");
    }

    #[test]
    fn a_key_that_stands_twice_is_named() {
        let text = "a = 1\n[t]\nkey = 1\nkey = 2\n";

        let error = toml::from_str::<toml::Table>(text).unwrap_err();

        assert_eq!(toml_fault(&error, text), "duplicate key \"key\"");
    }
}
