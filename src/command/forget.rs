//! `cartouche forget`.

use super::inspect::absent;
use super::mode::done;
use super::{Answer, Error, Exit, ask};
use crate::config::Paths;
use crate::control::{self, Listed, Refused, Request, Response, Why};

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
    match ask(paths, &Request::Forget { id }) {
        Ok(response) => done(response),
        Err(error) if error.exit() == Exit::NotFound => {
            Err(not_admitted(&args.id, paths).unwrap_or_else(|| absent(error, &args.id, paths)))
        }
        Err(error) => Err(error),
    }
}

/// Why nothing is there to be forgotten of an artifact that was never in force.
fn not_admitted(id: &str, paths: &Paths) -> Option<Error> {
    let Ok(Response::List { artifacts }) = ask(paths, &Request::List) else {
        return None;
    };
    let listed = artifacts
        .into_iter()
        .find(|one| one.id.as_deref() == Some(id))?;
    let source = control::Error::Refused(Refused {
        why: Why::Unfit,
        message: unfit(&listed, id),
    });
    Some(source.into())
}

fn unfit(listed: &Listed, id: &str) -> String {
    format!(
        "The artifact {id:?} is {}, not revoked, so there is nothing to forget; to let its programs run \
         without an envelope, remove its file {:?} from policies.d",
        listed.standing, listed.file
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::list::tests::listed;
    use crate::control::Standing;

    #[test]
    fn what_was_never_in_force_is_called_by_its_standing() {
        let rejected = Listed {
            standing: Standing::Rejected,
            file: "x.toml".into(),
            ..listed()
        };

        let told = unfit(&rejected, "x");

        assert!(told.starts_with("The artifact \"x\" is rejected, not revoked"));
        assert!(told.contains("remove its file \"x.toml\""), "{told}");
    }
}
