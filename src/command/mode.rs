//! `cartouche mode`.

use std::time::Duration;

use super::inspect::absent;
use super::{Answer, Error, ask, time};
use crate::audit::printable;
use crate::config::{Mode, Paths};
use crate::control::{Request, Response};

/// Let one artifact only record what it would refuse, or refuse again
///
/// The change is written to the audit log, and the node is not in the state ENFORCE while an artifact
/// is in audit mode.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The artifact's id
    id: String,

    /// What to do with what the envelope does not declare
    #[arg(value_enum)]
    mode: ModeArg,

    /// Change back after this time, such as 1h or 30min
    ///
    /// The daemon changes it back. While that is stopped, audit mode does not end; it ends as soon as
    /// the daemon runs again.
    #[arg(long = "for", value_name = "DURATION", value_parser = time::duration)]
    duration: Option<Duration>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ModeArg {
    /// Record it as what would have been refused
    Audit,
    /// Refuse it
    Enforce,
}

pub(super) fn run(args: &Args, paths: &Paths) -> Result<Answer, Error> {
    if matches!(args.mode, ModeArg::Enforce) && args.duration.is_some() {
        return Err(Error::Unfit {
            message: "Only audit mode ends by itself; leave --for away".to_owned(),
        });
    }
    let request = Request::Mode {
        id: args.id.clone(),
        mode: match args.mode {
            ModeArg::Audit => Mode::Audit,
            ModeArg::Enforce => Mode::Enforce,
        },
        // Never shorter than asked for.
        for_seconds: args
            .duration
            .map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0)),
    };
    done(ask(paths, &request).map_err(|error| absent(error, &args.id, paths))?)
}

/// The answer to a request that changes something.
pub(super) fn done(response: Response) -> Result<Answer, Error> {
    let Response::Done { message } = response else {
        return Err(Error::OtherAnswer);
    };
    let json = serde_json::json!({ "done": true, "message": message });
    Answer::new(format!("{}\n", printable(&message)), &json)
}
