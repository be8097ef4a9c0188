//! `cartouche detach`.

use super::mode::done;
use super::{Answer, Error, ask};
use crate::audit::printable;
use crate::config::Paths;
use crate::control::Request;
use crate::way_out;

/// Take all enforcement off this machine: nothing is refused to anybody any more
///
/// Removes the programs and tables below /sys/fs/bpf/cartouche, which stopping the daemon leaves in force. A
/// running daemon does it itself, and ends; without one, this command does it, as root. Either way it
/// is written to the audit log, and the posture says BREAK_GLASS.
///
/// It ends when cartouched is started again, also by the next boot: "systemctl disable cartouched" prevents
/// that. If not even this command runs: rm -r /sys/fs/bpf/cartouche, or boot with cartouche=off on the
/// kernel command line.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Everything, which is all that can be detached
    #[arg(long, required = true)]
    all: bool,
}

pub(super) fn run(_: &Args, paths: &Paths) -> Result<Answer, Error> {
    match ask(paths, &Request::Detach) {
        Ok(response) => done(response),
        Err(Error::NotRunning { .. }) => detach(paths),
        Err(error) => Err(error),
    }
}

fn detach(paths: &Paths) -> Result<Answer, Error> {
    if !rustix::process::geteuid().is_root() && paths.owner == 0 {
        let forbidden = std::io::ErrorKind::PermissionDenied.into();
        return Err(Error::file("removed", &paths.bpffs)(forbidden));
    }
    let way = "an administrator detached enforcement";
    let untold =
        way_out::take_off(paths, "detach", way).map_err(|source| Error::WayOut { source })?;
    let message = "Nothing is enforced any more. That begins again when cartouched is started, also by the next boot.";
    let mut text = format!("{message}\n");
    for one in &untold {
        text.push_str(&format!("warning: {}\n", printable(one)));
    }
    let json = serde_json::json!({ "done": true, "message": message, "warnings": untold });
    Answer::new(text, &json)
}
