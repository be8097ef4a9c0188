//! The syslog sink: datagrams to /dev/log that never wait and a connection that is made anew after
//! an error, which the `syslog` crate does not do.

use std::fmt;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

use super::Level;

/// Where syslog listens.
pub const DEV_LOG: &str = "/dev/log";

/// Under which name the lines are written.
const TAG: &str = "cartouched";

/// A connection to syslog that lives as long as it works.
pub struct Syslog {
    path: PathBuf,
    connection: Option<Logger<LoggerBackend, Formatter3164>>,
}

impl Syslog {
    /// A sink that connects to the socket at `path` when it is first used.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            connection: None,
        }
    }

    /// Sends one line, at once or not at all; after an error it connects anew and tries once more.
    ///
    /// # Errors
    /// `WouldBlock` if syslog does not read fast enough, else what the socket says.
    pub fn send(&mut self, level: Level, text: &str) -> io::Result<()> {
        if let Some(connection) = &mut self.connection {
            match write(connection, level, text) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => self.connection = None,
            }
        }
        let mut connection = connect(&self.path)?;
        write(&mut connection, level, text)?;
        self.connection = Some(connection);
        Ok(())
    }
}

impl fmt::Debug for Syslog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Syslog")
            .field("path", &self.path)
            .field("connected", &self.connection.is_some())
            .finish()
    }
}

fn connect(path: &Path) -> io::Result<Logger<LoggerBackend, Formatter3164>> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    // No host name: journald takes the tag from the wrong place if there is one.
    let formatter = Formatter3164 {
        facility: Facility::LOG_AUTHPRIV,
        hostname: None,
        process: TAG.to_owned(),
        pid: std::process::id(),
    };
    Ok(Logger::new(LoggerBackend::Unix(socket), formatter))
}

fn write(
    connection: &mut Logger<LoggerBackend, Formatter3164>,
    level: Level,
    text: &str,
) -> io::Result<()> {
    let written = match level {
        Level::Error => connection.err(text),
        Level::Warning => connection.warning(text),
        Level::Notice => connection.notice(text),
        Level::Info => connection.info(text),
        Level::Debug => connection.debug(text),
    };
    written.map_err(|error| match error {
        syslog::Error::Write(error) | syslog::Error::Io(error) => error,
        other => io::Error::other(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn a_line_carries_facility_level_tag_and_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let socket = UnixDatagram::bind(&path).unwrap();

        Syslog::new(&path).send(Level::Notice, "hello").unwrap();

        let text = received(&socket);
        // authpriv is 10, notice 5: 10 × 8 + 5.
        assert!(text.starts_with("<85>"), "{text}");
        let tag = format!(" cartouched[{}]: hello", std::process::id());
        assert!(text.ends_with(&tag), "{text}");
    }

    #[test]
    fn a_syslog_that_was_started_anew_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let first = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::new(&path);
        syslog.send(Level::Info, "one").unwrap();
        drop(first);
        fs::remove_file(&path).unwrap();
        assert!(syslog.send(Level::Info, "lost").is_err());
        let second = UnixDatagram::bind(&path).unwrap();

        syslog.send(Level::Info, "two").unwrap();

        assert!(received(&second).ends_with(": two"));
    }

    #[test]
    fn a_syslog_that_does_not_read_makes_nobody_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::new(&path);

        let failure = (0..10_000).find_map(|_| syslog.send(Level::Info, "x").err());

        assert_eq!(
            failure.map(|error| error.kind()),
            Some(io::ErrorKind::WouldBlock)
        );
        received(&socket);
        syslog.send(Level::Info, "y").unwrap();
    }
}
