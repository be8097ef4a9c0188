//! Puts the report where it is read: whole or not at all, and gone after a reboot.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::Report;
use crate::config::Paths;

/// Writes the report to /run and makes the link in /var lead there.
///
/// # Errors
/// The report before it, if any, is still in place.
pub fn publish(report: &Report, paths: &Paths) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    let target = paths.report();
    replace(&target, |new| {
        let mut file = File::create(new)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())
    })?;
    let link = paths.report_link();
    if fs::read_link(&link).is_ok_and(|there| there == target) {
        return Ok(());
    }
    replace(&link, |new| symlink(&target, new))
}

/// Makes a new file beside `path` and moves it into its place.
fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    make(&new)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posture::{History, Observed, evaluate};

    #[test]
    fn the_report_is_read_through_the_link() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(&paths.run).unwrap();
        fs::create_dir_all(&paths.state).unwrap();
        fs::write(paths.report_link(), "stale").unwrap();
        let report = evaluate(&Observed::sound(), &History::default());

        publish(&report, &paths).unwrap();
        publish(&report, &paths).unwrap();

        let text = fs::read_to_string(paths.report_link()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        let mode = fs::metadata(paths.report()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
        assert_eq!(fs::read_link(paths.report_link()).unwrap(), paths.report());
        assert_eq!(fs::read_dir(&paths.run).unwrap().count(), 1);
    }
}
