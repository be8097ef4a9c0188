//! Acts of domain cut: using what was opened before. Who is refused that cannot print either, so the outcome
//! goes into memory that was mapped before.

use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr::null;
use std::time::Duration;

use crate::{Done, Errno, outcome, perform as perform_one, sys};

/// How much one call moves.
const SOME: usize = 16;

pub fn perform(words: &[&str]) -> Option<Done> {
    Some(match words {
        // REPORT ROOM PORT GATE…: at each gate, a file that is waited for, all that can be done with a descriptor
        ["hold", report, room, port, gates @ ..] => hold(report, room, port, gates),
        // REPORT FILE: reads on, and counts how often it could
        ["read-on", report, path] => read_on(report, path),
        _ => return None,
    })
}

/// A file in shared memory.
struct Report {
    bytes: &'static mut [u8],
    length: usize,
}

impl Report {
    fn map(path: &str) -> Result<Self, Errno> {
        let file = File::options().read(true).write(true).open(path);
        let file = file.map_err(|_| Errno::last())?;
        let size = file.metadata().map_err(|_| Errno::last())?.len() as usize;
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let fd = file.as_raw_fd();
        let at = sys!(SYS_mmap, 0, size, both, libc::MAP_SHARED, fd, 0)?;
        let bytes = unsafe { std::slice::from_raw_parts_mut(at as *mut u8, size) };
        Ok(Self { bytes, length: 0 })
    }

    fn say(&mut self, text: &str) {
        let end = self.length + text.len();
        self.bytes[self.length..end].copy_from_slice(text.as_bytes());
        self.length = end;
    }
}

/// Everything that is held.
struct Held {
    file: File,
    other: File,
    directory: File,
    pipe: [OwnedFd; 2],
    second_pipe: [OwnedFd; 2],
    pair: (UnixStream, UnixStream),
    tcp: (TcpStream, TcpStream),
    udp: UdpSocket,
    listener: TcpListener,
    /// Connections that nobody has accepted yet.
    _waiting: Vec<TcpStream>,
}

impl Held {
    fn open(room: &str, port: &str, accepts: usize) -> std::io::Result<Self> {
        let both = |name: &str| {
            let path = format!("{room}/{name}");
            File::options().read(true).write(true).open(path)
        };
        let address = format!("127.0.0.1:{port}");
        let listener = TcpListener::bind(&address)?;
        let client = TcpStream::connect(&address)?;
        let server = listener.accept()?.0;
        let waiting = (0..accepts).map(|_| TcpStream::connect(&address));
        let waiting = waiting.collect::<Result<_, _>>()?;
        let udp = UdpSocket::bind(&address)?;
        udp.connect(&address)?;
        let held = Self {
            file: both("file")?,
            other: both("other")?,
            directory: File::open(room)?,
            pipe: pipe(),
            second_pipe: pipe(),
            pair: UnixStream::pair()?,
            tcp: (client, server),
            udp,
            listener,
            _waiting: waiting,
        };
        held.pair.1.set_nonblocking(true)?;
        held.tcp.1.set_nonblocking(true)?;
        held.udp.set_nonblocking(true)?;
        held.listener.set_nonblocking(true)?;
        Ok(held)
    }

    /// Does everything once, in an order in which nothing waits.
    #[rustfmt::skip]
    fn use_all(&self) -> Vec<(&'static str, Done)> {
        let mut buffer = [7_u8; SOME];
        let bytes = buffer.as_mut_ptr();
        let vector = libc::iovec { iov_base: bytes.cast(), iov_len: SOME };
        let one = &raw const vector;
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = one.cast_mut();
        message.msg_iovlen = 1;
        let message = &raw mut message;
        let (file, other, directory) = (self.file.as_raw_fd(), self.other.as_raw_fd(), self.directory.as_raw_fd());
        let [from, to] = self.pipe.each_ref().map(AsRawFd::as_raw_fd);
        let [_, second_to] = self.second_pipe.each_ref().map(AsRawFd::as_raw_fd);
        let (left, right) = (self.pair.0.as_raw_fd(), self.pair.1.as_raw_fd());
        let (client, server) = (self.tcp.0.as_raw_fd(), self.tcp.1.as_raw_fd());
        let (udp, listener) = (self.udp.as_raw_fd(), self.listener.as_raw_fd());
        let offset = [0_i64; 1];
        let at = offset.as_ptr();
        let read = libc::PROT_READ;
        vec![
            ("pread", sys!(SYS_pread64, file, bytes, SOME, 0).map(drop)),
            ("pwrite", sys!(SYS_pwrite64, file, bytes, SOME, 0).map(drop)),
            ("read", sys!(SYS_read, file, bytes, 1).map(drop)),
            ("write", sys!(SYS_write, file, bytes, 1).map(drop)),
            ("preadv2", sys!(SYS_preadv2, file, one, 1, 0, 0, 0).map(drop)),
            ("pwritev2", sys!(SYS_pwritev2, file, one, 1, 0, 0, 0).map(drop)),
            ("copy_file_range", sys!(SYS_copy_file_range, file, at, other, at, SOME, 0).map(drop)),
            ("sendfile", sys!(SYS_sendfile, to, file, at, SOME).map(drop)),
            ("pipe read", sys!(SYS_read, from, bytes, SOME).map(drop)),
            ("pipe write", sys!(SYS_write, to, bytes, SOME).map(drop)),
            ("splice to a file", sys!(SYS_splice, from, 0, file, at, SOME, 0).map(drop)),
            ("splice from a file", sys!(SYS_splice, file, at, to, 0, SOME, 0).map(drop)),
            ("readv", sys!(SYS_readv, from, one, 1).map(drop)),
            ("getdents", sys!(SYS_getdents64, directory, [0_u8; 512].as_mut_ptr(), 512).map(drop)),
            ("fallocate", sys!(SYS_fallocate, file, 0, 0, SOME).map(drop)),
            ("ftruncate", sys!(SYS_ftruncate, file, 4096).map(drop)),
            ("mmap", sys!(SYS_mmap, 0, 4096, read, libc::MAP_SHARED, file, 0).map(drop)),
            ("send", sys!(SYS_sendto, left, bytes, SOME, 0, 0, 0).map(drop)),
            ("recv", sys!(SYS_recvfrom, right, bytes, SOME, 0, 0, 0).map(drop)),
            ("sendmsg", sys!(SYS_sendmsg, left, message, 0).map(drop)),
            ("recvmsg", sys!(SYS_recvmsg, right, message, 0).map(drop)),
            ("socket write", sys!(SYS_write, client, bytes, SOME).map(drop)),
            ("socket read", sys!(SYS_read, server, bytes, SOME).map(drop)),
            ("tcp send", sys!(SYS_sendto, client, bytes, SOME, 0, 0, 0).map(drop)),
            ("tcp recv", sys!(SYS_recvfrom, server, bytes, SOME, 0, 0, 0).map(drop)),
            ("tcp send again", sys!(SYS_sendto, client, bytes, SOME, 0, 0, 0).map(drop)),
            ("receive by an option", receive_by_option(server)),
            ("getsockopt", option_of(libc::SYS_getsockopt, server)),
            ("setsockopt", option_of(libc::SYS_setsockopt, server)),
            ("sendfile to a socket", sys!(SYS_sendfile, left, file, at, SOME).map(drop)),
            ("recv of a file", sys!(SYS_recvfrom, right, bytes, SOME, 0, 0, 0).map(drop)),
            ("udp send", sys!(SYS_sendto, udp, bytes, SOME, 0, 0, 0).map(drop)),
            ("udp recv", sys!(SYS_recvfrom, udp, bytes, SOME, 0, 0, 0).map(drop)),
            ("accept", sys!(SYS_accept4, listener, 0, 0, 0).map(drop)),
            // these no hook sees
            ("vmsplice", sys!(SYS_vmsplice, to, one, 1, 0).map(drop)),
            ("tee", sys!(SYS_tee, from, second_to, SOME, libc::SPLICE_F_NONBLOCK).map(drop)),
            ("splice of pipes", sys!(SYS_splice, from, null::<i64>(), second_to, null::<i64>(), SOME, 0).map(drop)),
        ]
    }
}

/// TCP_ZEROCOPY_RECEIVE, with a buffer for what fills no page. Nothing came: EAGAIN.
fn receive_by_option(from: i32) -> Done {
    let mut buffer = [0_u8; SOME];
    let mut receive = ZeroCopyReceive {
        buffer: buffer.as_mut_ptr() as u64,
        buffer_length: SOME as i32,
        ..Default::default()
    };
    let mut length = size_of_val(&receive) as libc::socklen_t;
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_ZEROCOPY_RECEIVE);
    let at = &raw mut receive;
    sys!(SYS_getsockopt, from, level, option, at, &raw mut length)?;
    match receive.buffer_length {
        0 => Err(Errno(libc::EAGAIN)),
        _ => Ok(()),
    }
}

/// linux/tcp.h: struct tcp_zerocopy_receive
#[repr(C)]
#[derive(Default)]
struct ZeroCopyReceive {
    address: u64,
    length: u32,
    skip: u32,
    waiting: u32,
    error: i32,
    buffer: u64,
    buffer_length: i32,
    flags: u32,
}

/// Asks for SO_KEEPALIVE, or sets it: the length stands behind the value.
fn option_of(call: libc::c_long, socket: i32) -> Done {
    let mut value = [0_i32, 4];
    let (at, length) = (value.as_mut_ptr(), unsafe { value.as_mut_ptr().add(1) });
    let length = match call {
        libc::SYS_getsockopt => length as libc::c_long,
        _ => 4,
    };
    let (level, option) = (libc::SOL_SOCKET, libc::SO_KEEPALIVE);
    let done = unsafe { libc::syscall(call, socket, level, option, at, length) };
    crate::returned(done).map(drop)
}

fn pipe() -> [OwnedFd; 2] {
    use std::os::fd::FromRawFd;

    let mut ends = [0; 2];
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), flags) }, 0);
    ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) })
}

fn hold(report: &str, room: &str, port: &str, gates: &[&str]) -> Done {
    let mut report = Report::map(report)?;
    let held = Held::open(room, port, gates.len()).map_err(|_| Errno::last())?;
    println!("up");
    for gate in gates {
        let _ = perform_one(&["await", gate]);
        for (name, done) in held.use_all() {
            report.say(&format!("{gate}: {name}: {}\n", outcome(done)));
        }
        report.say(&format!("{gate} is done\n"));
    }
    Ok(())
}

fn read_on(report: &str, path: &str) -> Done {
    // whoever started it ends it: loading all programs beside it takes long in an emulated machine
    unsafe { libc::alarm(0) };
    let report = Report::map(report)?;
    let file = File::open(path).map_err(|_| Errno::last())?;
    println!("up");
    let counters = report.bytes.as_mut_ptr().cast::<u64>();
    let (mut tries, mut times) = (0_u64, 0_u64);
    loop {
        let mut byte = 0_u8;
        let read = sys!(SYS_pread64, file.as_raw_fd(), &raw mut byte, 1, 0);
        tries += 1;
        times += u64::from(read.is_ok());
        unsafe {
            counters.write_volatile(tries);
            counters.add(1).write_volatile(times);
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}
