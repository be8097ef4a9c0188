//! The command's end: asks one question, waits so long and no longer.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Refused, Request, Response};

/// Largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// Nobody listens at the socket.
    NotRunning { path: PathBuf, source: io::Error },
    /// The socket belongs to root.
    NotPermitted { path: PathBuf },
    /// The daemon listens and does not answer.
    TimedOut,
    /// The connection broke.
    Broken { source: io::Error },
    /// The answer is none; the daemon is of another version.
    Malformed { source: serde_json::Error },
    /// The daemon refused.
    Refused(Refused),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning { .. } => f.write_str("The daemon is not running"),
            Self::NotPermitted { path } => {
                write!(f, "Only root may talk to the daemon through {path:?}")
            }
            Self::TimedOut => f.write_str("The daemon did not answer in time"),
            Self::Broken { .. } => f.write_str("The connection to the daemon broke"),
            Self::Malformed { .. } => f.write_str(
                "The daemon's answer was not understood; it may be of another version than this command",
            ),
            Self::Refused(refused) => f.write_str(&refused.message),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotRunning { source, .. } | Self::Broken { source } => Some(source),
            Self::Malformed { source } => Some(source),
            Self::NotPermitted { .. } | Self::TimedOut | Self::Refused(_) => None,
        }
    }
}

/// Asks the daemon behind one socket.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
    timeout: Duration,
}

impl Client {
    /// `timeout` is for the whole of each answer.
    pub fn new(path: &Path, timeout: Duration) -> Self {
        Self {
            path: path.to_owned(),
            timeout,
        }
    }

    /// Sends a request and returns its answer, which is never [`Response::Refused`].
    pub fn ask(&self, request: &Request) -> Result<Response, Error> {
        let mut stream = UnixStream::connect(&self.path).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => Error::NotPermitted {
                path: self.path.clone(),
            },
            _ => Error::NotRunning {
                path: self.path.clone(),
                source,
            },
        })?;
        let mut line =
            serde_json::to_string(request).map_err(|source| Error::Malformed { source })?;
        line.push('\n');
        let mut answer = String::new();
        stream
            .set_read_timeout(Some(self.timeout))
            .and_then(|()| stream.set_write_timeout(Some(self.timeout)))
            .and_then(|()| stream.write_all(line.as_bytes()))
            .and_then(|()| (&stream).take(MAX_ANSWER).read_to_string(&mut answer))
            .map_err(|source| match source.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::TimedOut,
                _ => Error::Broken { source },
            })?;
        match serde_json::from_str(&answer) {
            Ok(Response::Refused(refused)) => Err(Error::Refused(refused)),
            Ok(response) => Ok(response),
            Err(source) => Err(Error::Malformed { source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn without_a_daemon_the_error_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::new(&dir.path().join("control.sock"), Duration::from_secs(1));

        let error = client.ask(&Request::Status).unwrap_err();

        assert!(matches!(error, Error::NotRunning { .. }));
        assert!(error.to_string().starts_with("The daemon is not running"));
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let client = Client::new(&path, Duration::from_millis(50));

        assert!(matches!(client.ask(&Request::Status), Err(Error::TimedOut)));
    }
}
