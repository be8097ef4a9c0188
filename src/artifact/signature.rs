//! Detached signatures: `NAME.toml.minisig` beside `NAME.toml`. This version verifies none, and
//! therefore admits no artifact that has one: a signature that is not checked must not look like one
//! that is.

/// What follows an artifact's file name in that of its signature.
pub const SUFFIX: &str = ".minisig";

/// The file name of the signature of the artifact `name`.
pub fn file_name(name: &str) -> String {
    format!("{name}{SUFFIX}")
}

/// The artifact that the file `name` is a signature of.
pub fn signed_name(name: &str) -> Option<&str> {
    name.strip_suffix(SUFFIX)
        .filter(|artifact| artifact.ends_with(".toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_and_its_artifact_name_each_other() {
        assert_eq!(file_name("a.toml"), "a.toml.minisig");
        assert_eq!(signed_name("a.toml.minisig"), Some("a.toml"));
        assert_eq!(signed_name("a.minisig"), None);
        assert_eq!(signed_name("a.toml"), None);
    }
}
