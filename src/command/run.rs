//! `cartouche run`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::inspect::absent;
use super::{Answer, Error, ask};
use crate::config::Paths;
use crate::control::{Request, Response};

/// Run a command under an artifact's envelope
///
/// Whatever the command is, it and all that it starts are held to the artifact, as its own programs are: for
/// interpreters, containers of a runtime, and trials. The command need not be declared; programs that it
/// starts must be. It runs as the user who asks, in this terminal, in place of this process. Only root may
/// ask; to run it as another user, let it be setpriv(1), and declare that with process:exec and
/// kernel:capability.
///
/// It ends as the command ends. If that does not run: with 127 if there is none, with 126 if it cannot be
/// executed, and before it is tried with the codes of all subcommands, such as 4 for an artifact that is not
/// there, or 5 without the daemon.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The artifact's id
    id: String,

    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Comes back only if the command does not run.
pub(super) fn run(args: &Args, paths: &Paths) -> Result<Answer, Error> {
    let id = args.id.clone();
    let response =
        ask(paths, &Request::Run { id }).map_err(|error| absent(error, &args.id, paths))?;
    let Response::Done { .. } = response else {
        return Err(Error::OtherAnswer);
    };
    let (program, arguments) = args.command.split_first().ok_or_else(|| Error::Unfit {
        message: "There is no command to run".to_owned(),
    })?;
    let error = Command::new(program).args(arguments).exec();
    Err(Error::NotRun {
        program: program.into(),
        source: error,
    })
}
