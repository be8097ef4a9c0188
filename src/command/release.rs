//! `cartouche release`.

use super::inspect::absent;
use super::mode::done;
use super::{Answer, Error, ask};
use crate::config::Paths;
use crate::control::Request;

/// Let one artifact's programs and running tasks be outside, held to nothing, until you end it
///
/// Written to the audit log; the node is in the state DEGRADED with the reason BREAK_GLASS as long as it lasts, also
/// across restarts and reboots. It ends by "cartouche mode ID enforce", or when a changed artifact file
/// is admitted; tasks that were started meanwhile under another program stay outside.
///
/// The daemon must run. Without it, "cartouche detach --all" is the way out.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The artifact's id
    id: String,
}

pub(super) fn run(args: &Args, paths: &Paths) -> Result<Answer, Error> {
    let id = args.id.clone();
    done(ask(paths, &Request::Release { id }).map_err(|error| absent(error, &args.id, paths))?)
}
