//! Programs that hang only while they are needed, because everybody would pay for them: attached when the
//! need arises, let go when it is over. Pinned like all others.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Error, pin};
use crate::bpf::link::Link;
use crate::bpf::object::Program;

/// The longest that the kernel takes to end a link.
const LET_GO: Duration = Duration::from_secs(5);

/// Attaches those of the programs that are not there if they are `wanted`, or lets all go. Whether
/// anything changed. What can be done is done, also if something fails.
pub(super) fn settle(
    wanted: bool,
    programs: &[&str],
    links: &Path,
    attach: impl Fn(&str) -> Result<Link, Error>,
) -> Result<bool, Error> {
    let (mut changed, mut failure) = (false, None);
    for name in programs {
        let path = links.join(name);
        // a directory is no pin: attaching fails and says so
        let settled = match (wanted, path.is_file()) {
            (true, false) => attach(name).and_then(|link| pin(link, links, name)),
            (false, true) => std::fs::remove_file(&path).map_err(|source| Error::Pin {
                path: path.clone(),
                source,
            }),
            _ => continue,
        };
        changed |= settled.is_ok();
        failure = failure.or(settled.err());
    }
    failure.map_or(Ok(changed), Err)
}

/// Attaches a program that may have been let go a moment ago: its link ends some time after the pin is
/// gone, and while it lives, the program cannot be attached once more.
pub(super) fn attach_again(program: &Program<'_>) -> Result<Link, Error> {
    let begun = Instant::now();
    loop {
        match program.attach() {
            Err(error) if error.errno() == libc::EBUSY && begun.elapsed() < LET_GO => {
                std::thread::sleep(Duration::from_millis(10));
            }
            attached => return Ok(attached?),
        }
    }
}
