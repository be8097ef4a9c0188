//! `cartouche forget`.

use super::mode::done;
use super::{Answer, Error, daemon};
use crate::config::Paths;
use crate::control::Request;

/// End a revocation: the programs of a removed artifact may run again, held to nothing
///
/// Removing an artifact takes all rights away and keeps its programs from being started, also across a
/// reboot. This ends that. To hold the program again, install an artifact for it instead.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The removed artifact's id
    id: String,
}

pub(super) fn run(args: &Args, paths: &Paths) -> Result<Answer, Error> {
    let id = args.id.clone();
    done(daemon(paths).ask(&Request::Forget { id })?)
}
