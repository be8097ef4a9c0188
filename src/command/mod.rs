//! The command `cartouche`: asks, shows, and moves artifacts to where they count. Only [`main`]
//! prints.

mod absence;
mod audit;
mod denials;
mod detach;
mod exit;
mod forget;
mod inspect;
mod install;
mod list;
mod mode;
mod new;
mod posture;
mod program;
mod release;
mod run;
mod seal;
mod snapshot;
mod status;
mod suggestion;
mod symlink;
mod table;
mod time;
mod verify;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

pub use exit::{Error, Exit};

use absence::Absence;

use crate::config::Paths;
use crate::control::{self, Client, Request, Response};
use crate::error::chain;

/// How long the daemon has for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Hold third-party programs to a declared envelope of capabilities.
///
/// An artifact says who a program is and what it may do. Put into /etc/cartouche/policies.d it is in
/// force within milliseconds; removed, all rights of the program are gone.
#[derive(Debug, Parser)]
#[command(name = "cartouche", version, max_term_width = 100)]
pub struct Cli {
    /// Answer in JSON, errors included
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(new::Args),
    Seal(seal::Args),
    Verify(verify::Args),
    Install(install::Args),
    List(list::Args),
    Status(status::Args),
    Inspect(inspect::Args),
    Denials(denials::Args),
    Mode(mode::Args),
    Forget(forget::Args),
    Run(run::Args),
    Release(release::Args),
    Detach(detach::Args),
    Posture(posture::Args),
    Audit(audit::Args),
}

/// What a subcommand has to say, in both forms.
#[derive(Debug)]
struct Answer {
    text: String,
    json: Value,
    exit: Exit,
}

impl Answer {
    fn new(text: impl Into<String>, json: &impl Serialize) -> Result<Self, Error> {
        Ok(Self {
            text: text.into(),
            json: serde_json::to_value(json).map_err(|source| Error::Json { source })?,
            exit: Exit::Done,
        })
    }

    fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }
}

/// The command line as clap knows it, for help and the man page.
pub fn cli() -> clap::Command {
    Cli::command().after_help(exit::table())
}

/// Runs the command line and prints its answer.
pub fn main() -> std::process::ExitCode {
    let cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return wrong(&error),
    };
    let answer = run(&cli.command, &Paths::default());
    let exit = match &answer {
        Ok(answer) => answer.exit,
        Err(error) => error.exit(),
    };
    let printed = match answer {
        Ok(answer) if cli.json => print(&format!("{:#}\n", answer.json)),
        Ok(answer) => print(&answer.text),
        Err(error) => {
            let text = chain(&error);
            // Nobody to tell if this fails.
            let _ = writeln!(io::stderr(), "cartouche: {text}");
            if cli.json {
                print(&failure(&text, exit.code()))
            } else {
                Ok(())
            }
        }
    };
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            // Nobody to tell if this fails.
            let _ = writeln!(
                io::stderr(),
                "cartouche: The answer could not be written: {error}"
            );
            Exit::Failed.into()
        }
        _ => exit.into(),
    }
}

fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = cli().try_get_matches_from(line)?;
    Cli::from_arg_matches(&matches)
}

/// Ends with what clap has to say: help, the version, or what is wrong with the arguments. The last also in
/// JSON if that was asked for, as far as can be seen without understanding the rest.
fn wrong(error: &clap::Error) -> std::process::ExitCode {
    // Nobody to tell if this fails.
    let _ = error.print();
    let json = std::env::args_os()
        .take_while(|word| word != "--")
        .any(|word| word == "--json");
    let code = u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code());
    if json && code != Exit::Done.code() {
        let _ = print(&failure(&one_sentence(error), code));
    }
    code.into()
}

/// What is wrong with the arguments, without usage and hints.
fn one_sentence(error: &clap::Error) -> String {
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "A subcommand is missing; see --help".to_owned();
    }
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or_default();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

/// An error as programs read it.
fn failure(text: &str, exit: u8) -> String {
    format!("{:#}\n", json!({ "error": text, "exit": exit }))
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn run(command: &Command, paths: &Paths) -> Result<Answer, Error> {
    match command {
        Command::New(args) => new::run(args),
        Command::Seal(args) => seal::run(args),
        Command::Verify(args) => verify::run(args, paths),
        Command::Install(args) => install::run(args, paths),
        Command::List(_) => list::run(paths),
        Command::Status(_) => status::run(paths),
        Command::Inspect(args) => inspect::run(args, paths),
        Command::Denials(args) => denials::run(args, paths),
        Command::Mode(args) => mode::run(args, paths),
        Command::Forget(args) => forget::run(args, paths),
        Command::Run(args) => run::run(args, paths),
        Command::Release(args) => release::run(args, paths),
        Command::Detach(args) => detach::run(args, paths),
        Command::Posture(_) => posture::run(paths),
        Command::Audit(args) => audit::run(args, paths),
    }
}

/// Fails if there is no such directory, which "make install" or the daemon makes.
fn require(directory: &Path) -> Result<(), Error> {
    match directory.try_exists() {
        Ok(false) => Err(Error::NotInstalled {
            path: directory.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Asks the daemon of this machine. Where Cartouche never ran, the error says that rather than that the
/// daemon does not run.
fn ask(paths: &Paths, request: &Request) -> Result<Response, Error> {
    let client = Client::new(&paths.control(), PATIENCE);
    client
        .ask(request)
        .map_err(|error| unanswered(error, paths))
}

fn unanswered(error: control::Error, paths: &Paths) -> Error {
    match error {
        control::Error::NotRunning { .. } => match require(&paths.state) {
            Err(never) => never,
            Ok(()) => Error::NotRunning {
                absence: Absence::of(paths),
                source: error,
            },
        },
        other => other.into(),
    }
}

/// Where to look for an artifact that is not there.
fn hint<'a>(id: &str, ids: impl Iterator<Item = &'a str>) -> String {
    let similar: BTreeSet<_> = ids
        .filter(|other| !other.is_empty() && (other.contains(id) || id.contains(other)))
        .map(|other| format!("{other:?}"))
        .collect();
    if similar.is_empty() {
        "\"cartouche list\" shows all".to_owned()
    } else {
        let similar: Vec<_> = similar.into_iter().collect();
        format!("there is {}", similar.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a command line in a root, as [`main`] would without printing.
    fn run_in(paths: &Paths, line: &[&str]) -> Result<Answer, Error> {
        let words = ["cartouche"].iter().chain(line);
        run(&Cli::try_parse_from(words).unwrap().command, paths)
    }

    #[test]
    fn the_command_line_is_well_formed_and_help_names_the_exit_codes() {
        cli().debug_assert();

        let help = cli().render_long_help().to_string();

        for exit in Exit::ALL {
            assert!(help.contains(exit.meaning()), "{help}");
        }
    }

    #[test]
    fn every_subcommand_takes_json_and_has_a_description() {
        let mut cli = cli();
        cli.build();

        for command in cli.get_subcommands().filter(|c| c.get_name() != "help") {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            assert!(
                command.get_arguments().any(|arg| arg.get_id() == "json"),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_the_arguments_is_one_sentence() {
        let told = |line: &[&str]| {
            let words = ["cartouche"].iter().chain(line).map(OsString::from);
            let error = parse(words).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(Exit::Usage.code()), "{line:?}");
            one_sentence(&error)
        };

        assert_eq!(
            told(&["list", "--wrong"]),
            "unexpected argument '--wrong' found"
        );
        assert_eq!(
            told(&["forget"]),
            "the following required arguments were not provided: <ID>"
        );
        assert!(told(&["mode", "a", "off"]).starts_with("invalid value 'off' for '<MODE>'"));
        assert_eq!(told(&[]), "A subcommand is missing; see --help");
        let error = |text: &str| serde_json::from_str::<Value>(&failure(text, 2)).unwrap();
        assert_eq!(error("a\nb"), json!({ "error": "a\nb", "exit": 2 }));
    }

    #[test]
    fn where_cartouche_never_was_that_is_said() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());

        for line in [
            &["denials"][..],
            &["audit", "verify"],
            &["list"],
            &["status"],
            &["inspect", "a"],
            &["mode", "a", "audit"],
            &["forget", "a"],
            &["release", "a"],
            &["detach", "--all"],
            &["posture"],
        ] {
            let error = run_in(&paths, line).unwrap_err();

            assert_eq!(error.exit(), Exit::NotRunning, "{line:?}");
            assert!(chain(&error).contains("is not installed"), "{line:?}");
        }
    }

    #[test]
    fn without_a_daemon_questions_end_with_their_own_code() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        std::fs::create_dir_all(&paths.state).unwrap();

        for line in [
            &["list"][..],
            &["status"],
            &["inspect", "a"],
            &["mode", "a", "audit"],
            &["forget", "a"],
            &["release", "a"],
            &["posture"],
        ] {
            let error = run_in(&paths, line).unwrap_err();

            assert_eq!(error.exit(), Exit::NotRunning, "{line:?}");
            assert!(chain(&error).contains("is not running"), "{line:?}");
        }
    }
}
