//! Tries what its built-in artifact forbids, and tells by its exit status what was refused; see
//! `src/node/canary.rs`. Run by cartouched.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::process::{Command, ExitCode};

use cartouche::node::{ANSWERED, CONNECT_REFUSED, EXEC_REFUSED, OPEN_REFUSED};

/// Refused by a rule, and not because it is not there or by file permissions.
fn refused<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
}

fn main() -> ExitCode {
    let mut answer = ANSWERED;
    // exists everywhere, and no profile grants it
    if refused(File::open("/")) {
        answer |= OPEN_REFUSED;
    }
    // nobody listens on port 1; the refusal comes before the attempt
    if refused(TcpStream::connect(("127.0.0.1", 1))) {
        answer |= CONNECT_REFUSED;
    }
    if refused(Command::new("/usr/libexec/cartouche/canary").spawn()) {
        answer |= EXEC_REFUSED;
    }
    ExitCode::from(answer)
}
