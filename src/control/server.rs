//! The daemon's end: few connections at a time, root only, bounded lines, no waiting for the slow.
//! It runs inside the daemon's one thread; each request becomes a [`Call`] that the daemon answers
//! when it can.

use std::fs;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use async_std::channel::{Receiver, Sender, bounded};
use async_std::future::timeout;
use async_std::os::unix::net::{UnixListener, UnixStream};
use async_std::prelude::*;
use futures_lite::future::poll_fn;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Request, Response, Why};

/// Longest request, in bytes.
const MAX_REQUEST: usize = 64 << 10;

/// Connections that are served at once; more wait in the socket's queue.
const MAX_CONNECTIONS: usize = 16;

/// For a request to come in, and for an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// For the daemon to answer anything but [`Request::Wait`], which says how long.
const ANSWER: Duration = Duration::from_secs(30);

/// The longest that a [`Request::Wait`] may take.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A request and the way to answer it.
#[derive(Debug)]
pub struct Call {
    pub request: Request,
    /// The process that asks; absent if it is gone.
    pub process: Option<OwnedFd>,
    answer: Sender<Response>,
}

impl Call {
    /// Answers; whether somebody still waits for it.
    pub fn answer(self, response: Response) -> bool {
        self.answer.try_send(response).is_ok()
    }

    /// Whether the other side gave up, so that the call need not be kept.
    pub fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }
}

/// Opens the socket for root alone, in the place of one that an earlier daemon left.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;

    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

/// Serves connections until the receiving end of `calls` is gone.
///
/// # Errors
/// The socket itself failed; a connection that fails ends alone.
pub async fn serve(listener: UnixListener, calls: Sender<Call>) -> io::Result<()> {
    serve_as(listener, calls, |uid| uid == 0).await
}

async fn serve_as(
    listener: UnixListener,
    calls: Sender<Call>,
    permitted: fn(u32) -> bool,
) -> io::Result<()> {
    let mut connections = Connections::default();
    while !calls.is_closed() {
        let full = connections.is_full();
        let accept = async {
            if full {
                return std::future::pending().await;
            }
            listener.accept().await
        };
        // Dropping an unfinished accept loses no connection: it stays in the socket's queue.
        let accepted = connections.run_beside(accept).await;
        match accepted {
            Some(Ok((stream, _))) => {
                let calls = calls.clone();
                connections.add(async move {
                    // A peer that went away or is too slow is its own problem.
                    let _ = converse(stream, &calls, permitted).await;
                });
            }
            Some(Err(error)) if is_transient(&error) => {
                async_std::task::sleep(Duration::from_millis(100)).await;
            }
            Some(Err(error)) => return Err(error),
            None => {}
        }
    }
    Ok(())
}

fn is_transient(error: &io::Error) -> bool {
    use rustix::io::Errno;

    let transient = [
        Errno::CONNABORTED,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::INTR,
    ];
    transient
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The conversations that go on now. They need no executor: whoever serves runs them all.
#[derive(Default)]
struct Connections {
    running: Vec<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Connections {
    fn is_full(&self) -> bool {
        self.running.len() >= MAX_CONNECTIONS
    }

    fn add(&mut self, connection: impl Future<Output = ()> + 'static) {
        self.running.push(Box::pin(connection));
    }

    /// Runs the conversations until `other` is ready, or, `None`, until one of them has ended.
    async fn run_beside<T>(&mut self, other: impl Future<Output = T>) -> Option<T> {
        let mut other = std::pin::pin!(other);
        let running = &mut self.running;
        poll_fn(move |context| {
            let before = running.len();
            running.retain_mut(|connection| connection.as_mut().poll(context).is_pending());
            if let Poll::Ready(value) = other.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            if running.len() < before {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await
    }
}

/// One request, one answer.
async fn converse(
    mut stream: UnixStream,
    calls: &Sender<Call>,
    permitted: fn(u32) -> bool,
) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(&stream)?;
    let process = process_of(&stream, peer.pid);
    // Read also what is not answered: closing over unread bytes would take the answer back.
    let request = async_std::io::timeout(PATIENCE, read_line(&mut stream)).await?;
    let response = if permitted(peer.uid.as_raw()) {
        respond(&request, process, calls).await
    } else {
        Response::refused(Why::NotPermitted, "Only root may ask the daemon")
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    async_std::io::timeout(PATIENCE, stream.write_all(&line)).await
}

/// The process at the other end. Its number may be another's by now, but not while it holds its end open.
fn process_of(stream: &UnixStream, pid: Pid) -> Option<OwnedFd> {
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let mut ends = [PollFd::new(stream, PollFlags::empty())];
    let now = Timespec::default();
    rustix::event::poll(&mut ends, Some(&now)).ok()?;
    (!ends[0].revents().contains(PollFlags::HUP)).then_some(process)
}

async fn respond(line: &[u8], process: Option<OwnedFd>, calls: &Sender<Call>) -> Response {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => {
            return Response::refused(
                Why::Malformed,
                format!("The request was not understood: {error}"),
            );
        }
    };
    let patience = match &request {
        Request::Wait { timeout_ms, .. } => Duration::from_millis(*timeout_ms).min(LONGEST_WAIT),
        _ => ANSWER,
    };
    let (answer, answered): (_, Receiver<Response>) = bounded(1);
    let call = Call {
        request,
        process,
        answer,
    };
    if calls.send(call).await.is_err() {
        return Response::refused(Why::Failed, "The daemon is ending");
    }
    match timeout(patience, answered.recv()).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => Response::refused(Why::Failed, "The daemon gave no answer"),
        Err(_) => Response::refused(Why::TimedOut, "The daemon has no answer yet"),
    }
}

/// Reads up to the first newline, or to the end of what the peer sends.
async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return Ok(line);
        };
        let end = bytes.iter().position(|&byte| byte == b'\n');
        line.extend_from_slice(bytes.get(..end.unwrap_or(length)).unwrap_or(bytes));
        if line.len() > MAX_REQUEST {
            return Err(io::Error::other("the request is too long"));
        }
        if end.is_some() {
            return Ok(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream as Blocking;
    use std::thread;

    use futures_lite::future::or;

    use super::*;
    use crate::control::{Client, Error};

    /// A daemon that answers each call by `answer`, while `ask` runs in another thread.
    fn daemon<T: Send + 'static>(
        permitted: fn(u32) -> bool,
        answer: fn(Call, &mut Vec<Call>),
        ask: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> T {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let listener = bind(&path).unwrap();
        let (calls, called) = bounded(1);
        let asking = thread::spawn({
            let path = path.clone();
            move || ask(&path)
        });
        let answering = async {
            let mut kept = Vec::new();
            while let Ok(call) = called.recv().await {
                answer(call, &mut kept);
            }
        };
        let serving = async {
            serve_as(listener, calls, permitted).await.unwrap();
        };
        let asked = async {
            while !asking.is_finished() {
                async_std::task::sleep(Duration::from_millis(5)).await;
            }
        };
        async_io::block_on(or(asked, or(serving, answering)));
        asking.join().unwrap()
    }

    fn done(call: Call, _: &mut Vec<Call>) {
        let message = format!("{:?}", call.request);
        call.answer(Response::Done { message });
    }

    fn client(path: &Path) -> Client {
        Client::new(path, Duration::from_secs(5))
    }

    #[test]
    fn a_request_is_answered() {
        let response = daemon(
            |_| true,
            done,
            |path| {
                assert_eq!(
                    fs::metadata(path).unwrap().permissions().mode() & 0o777,
                    0o600
                );
                client(path).ask(&Request::Forget { id: "a".into() })
            },
        );

        let message = "Forget { id: \"a\" }".to_owned();
        assert_eq!(response.unwrap(), Response::Done { message });
    }

    #[test]
    fn who_is_not_root_is_refused() {
        let response = daemon(|_| false, done, |path| client(path).ask(&Request::Status));

        match response {
            Err(Error::Refused(refused)) => assert_eq!(refused.why, Why::NotPermitted),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_slow_peer_and_a_long_wait_hold_nobody_up() {
        let answer = |call: Call, kept: &mut Vec<Call>| match call.request {
            Request::Wait { .. } => kept.push(call),
            _ => done(call, kept),
        };

        let (waited, quick) = daemon(
            |_| true,
            answer,
            |path| {
                let _silent: Vec<_> = (0..10).map(|_| Blocking::connect(path).unwrap()).collect();
                let waiting = thread::spawn({
                    let client = client(path);
                    move || {
                        client.ask(&Request::Wait {
                            file: "x.toml".into(),
                            sha256: String::new(),
                            timeout_ms: 300,
                        })
                    }
                });
                let quick = client(path).ask(&Request::Rescan);
                (waiting.join().unwrap(), quick)
            },
        );

        assert!(matches!(quick, Ok(Response::Done { .. })));
        match waited {
            Err(Error::Refused(refused)) => assert_eq!(refused.why, Why::TimedOut),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn garbage_and_an_endless_line_do_not_end_the_service() {
        let (garbage, response) = daemon(
            |_| true,
            done,
            |path| {
                let mut peer = Blocking::connect(path).unwrap();
                peer.write_all(b"\xff{\n").unwrap();
                let mut garbage = String::new();
                peer.read_to_string(&mut garbage).unwrap();
                let mut peer = Blocking::connect(path).unwrap();
                // The other side hangs up; whether this write still succeeds does not matter.
                let _ = peer.write_all(&[b'x'; 4 * MAX_REQUEST]);
                (garbage, client(path).ask(&Request::Rescan))
            },
        );

        assert!(garbage.contains("malformed"), "{garbage}");
        assert!(matches!(response, Ok(Response::Done { .. })));
    }

    #[test]
    fn more_peers_than_places_are_all_served() {
        let served = daemon(
            |_| true,
            done,
            |path| {
                let peers: Vec<_> = (0..3 * MAX_CONNECTIONS)
                    .map(|_| {
                        let client = client(path);
                        thread::spawn(move || client.ask(&Request::Rescan).is_ok())
                    })
                    .collect();
                peers
                    .into_iter()
                    .filter(|_| true)
                    .map(|peer| peer.join().unwrap())
                    .filter(|ok| *ok)
                    .count()
            },
        );

        assert_eq!(served, 3 * MAX_CONNECTIONS);
    }

    #[test]
    fn a_daemon_that_ends_says_so() {
        let response = daemon(
            |_| true,
            |call, _| drop(call),
            |path| client(path).ask(&Request::Rescan),
        );

        match response {
            Err(Error::Refused(refused)) => assert_eq!(refused.why, Why::Failed),
            other => panic!("{other:?}"),
        }
    }
}
