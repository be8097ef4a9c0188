//! Rule paths that can never match, because the kernel sees resolved paths only.

use std::fs;
use std::path::{Path, PathBuf};

use crate::artifact::capability::Capability;
use crate::artifact::pattern::{Pattern, PatternKind};

/// A sentence for each rule of `capabilities` whose path goes through a symbolic link on this machine.
pub(super) fn warnings(capabilities: &[Capability]) -> Vec<String> {
    capabilities
        .iter()
        .flat_map(|capability| capability.paths.iter().chain(&capability.except))
        .filter_map(|pattern| warning(pattern, Path::new("/")))
        .collect()
}

fn warning(pattern: &Pattern, root: &Path) -> Option<String> {
    let text = pattern.as_str();
    // What each task sees differently has no one answer.
    if text.starts_with("/proc/self") || text.starts_with("/proc/*") {
        return None;
    }
    let fixed = match pattern.kind() {
        PatternKind::Exact => text,
        PatternKind::Subtree => text.strip_suffix("/**")?,
        PatternKind::Children => text.strip_suffix("/*")?,
        PatternKind::NamePrefix => text.rsplit_once('/')?.0,
    };
    let link = first_link(fixed, root)?;
    let resolved = fs::canonicalize(root.join(fixed.trim_start_matches('/'))).ok();
    let rest = text.get(fixed.len()..).unwrap_or_default();
    let instead = resolved.as_deref().and_then(Path::to_str).map_or_else(
        || "write the path that it leads to".to_owned(),
        |path| format!("write \"{path}{rest}\""),
    );
    Some(format!(
        "The rule {text:?} goes through the symbolic link {link:?} and never matches; {instead}"
    ))
}

/// The first component of an absolute path that is a symbolic link.
fn first_link(path: &str, root: &Path) -> Option<PathBuf> {
    let mut walked = PathBuf::from("/");
    for component in path.split('/').filter(|component| !component.is_empty()) {
        walked.push(component);
        let there = root.join(walked.strip_prefix("/").ok()?);
        if fs::symlink_metadata(there).ok()?.is_symlink() {
            return Some(walked);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_through_a_link_is_told_with_the_path_to_write() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("usr/lib/x")).unwrap();
        std::os::unix::fs::symlink("usr/lib", root.join("lib")).unwrap();

        let told = |text: &str| warning(&text.parse().unwrap(), &root);

        for text in ["/lib/x/**", "/lib/x/*", "/lib/x/a*", "/lib/x", "/lib/**"] {
            let message = told(text).unwrap();
            assert!(message.contains("symbolic link \"/lib\""), "{message}");
            let rest = text.strip_prefix("/lib").unwrap();
            assert!(message.ends_with(&format!("usr/lib{rest}\"")), "{message}");
        }
        for text in [
            "/usr/lib/x/**",
            "/missing/x",
            "/l*",
            "/*",
            "/**",
            "/proc/self/exe",
        ] {
            assert_eq!(told(text), None, "{text}");
        }
    }
}
