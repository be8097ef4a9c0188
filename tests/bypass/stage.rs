//! What tricks are played on: files and services beyond the envelope, a process of others, a helper
//! outside. New for each run, so that none finds what another left behind.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::manifest::{Effect, Input};
use crate::guest::{Guest, Program};

/// Where it is set: rules name it.
pub const STAGE: &str = "/srv/t/stage";

/// The program with the tricks.
pub const BYPASS: &str = "/job/bypass";

/// The cgroup that the victim is in.
const CGROUP: &str = "/sys/fs/cgroup/bypass";

/// How long a process that lives takes to answer, at most.
const ANSWER: Duration = Duration::from_secs(2);

/// ROOM/secret is beyond every envelope, as is all in ROOM/shut; ROOM/open is the subject's.
pub struct Stage {
    room: String,
    /// What stands in the secret.
    token: String,
    number: u32,
    uid: u32,
    helpers: RefCell<Vec<Child>>,
    /// Until it is taken back.
    victim: Option<Victim>,
    services: Services,
    /// What was in ROOM/shut.
    before: BTreeMap<String, u64>,
}

impl Stage {
    /// With a victim that an earlier trick has left unharmed, if there is one.
    pub fn set(guest: &Guest, uid: u32, token: &str, victim: Option<Victim>) -> Self {
        let names = [
            "secret",
            "open/",
            "open/file",
            "open/d/",
            "open/d/file",
            "shut/",
            "shut/file",
            "shut/d/",
        ];
        let room = STAGE.to_owned();
        fs::rename(guest.files_of(uid, &names), &room).unwrap();
        let own = |path: &str, mode: u32| {
            chown(path, Some(uid), Some(uid)).unwrap();
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        let secret = format!("{room}/secret");
        for name in ["secret", "shut/secret", "shut/d/secret", "shut/new\nline"] {
            fs::write(format!("{room}/{name}"), token).unwrap();
            own(&format!("{room}/{name}"), 0o666);
        }
        let odd = Path::new(&room).join(OsStr::from_bytes(b"shut/\xff\xfe"));
        fs::write(odd, token).unwrap();
        rustix::fs::setxattr(
            secret.as_str(),
            "user.secret",
            token.as_bytes(),
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
        symlink(token, format!("{room}/points")).unwrap();
        let root_only = format!("{room}/root-only");
        fs::write(&root_only, token).unwrap();
        fs::set_permissions(&root_only, Permissions::from_mode(0o600)).unwrap();
        let set_id = format!("{room}/set-id");
        fs::hard_link(set_id_program(), &set_id).unwrap();
        let services = Services::start(&room);
        let victim = victim.unwrap_or_else(|| Victim::start(&room, uid));
        let before = fingerprint(&room);
        Self {
            room,
            token: token.to_owned(),
            number: guest.number(),
            uid,
            helpers: RefCell::default(),
            victim: Some(victim),
            services,
            before,
        }
    }

    /// What the program is told: where it is, who and where the victim is, and where the service.
    pub fn words(&self, trick: &str) -> Vec<String> {
        vec![
            trick.to_owned(),
            self.room.clone(),
            self.victim().child.id().to_string(),
            self.victim().address.clone(),
            self.services.port.to_string(),
        ]
    }

    pub fn input(&self, input: Input) -> Stdio {
        match input {
            Input::Secret => File::open(format!("{}/secret", self.room)).unwrap().into(),
            Input::Datagrams => OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap()).into(),
            Input::Helper => OwnedFd::from(self.helper()).into(),
            Input::RingHelper => OwnedFd::from(self.ring_helper()).into(),
        }
    }

    /// A socket in which there are five messages: the secret opened, the room as a path, a connection to
    /// the service, one to the unix service, and what the victim is known by.
    fn helper(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let secret = File::open(format!("{}/secret", self.room)).unwrap();
        let room = rustix::fs::open(&self.room, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        let connection = TcpStream::connect(("127.0.0.1", self.services.port)).unwrap();
        let unix = UnixStream::connect(format!("{}/stream", self.room)).unwrap();
        let victim = rustix::process::Pid::from_child(&self.victim().child);
        let victim =
            rustix::process::pidfd_open(victim, rustix::process::PidfdFlags::empty()).unwrap();
        self.services.hold();
        for descriptor in [
            secret.as_fd(),
            room.unwrap().as_fd(),
            connection.as_fd(),
            unix.as_fd(),
            victim.as_fd(),
        ] {
            hand_over(&ours, descriptor);
        }
        theirs
    }

    /// A socket to a process that ends with it; see ring.c.
    fn ring_helper(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut program = Program::from(BYPASS);
        program.uid = self.uid;
        let helper = program
            .command(&["ring-helper", &self.room])
            .stdin(OwnedFd::from(ours))
            .spawn();
        self.helpers.borrow_mut().push(helper.unwrap());
        theirs
    }

    /// Whether that has come about, by what the program has printed and by what is there now.
    pub fn shows(&mut self, effect: Effect, printed: &str) -> bool {
        match effect {
            Effect::Secret => printed.contains(&self.token),
            Effect::Done => printed.lines().last() == Some("done"),
            Effect::Victim => !self.victim().is_well(),
            Effect::Reached => self.services.take() > 0,
            Effect::Changed => fingerprint(&self.room) != self.before,
        }
    }

    fn victim(&self) -> &Victim {
        self.victim.as_ref().unwrap()
    }

    /// The victim, for the next one, if nothing has happened to it.
    pub fn take_victim(&mut self) -> Option<Victim> {
        self.victim.take().filter(Victim::is_well)
    }

    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.room)
    }

    /// An act of the example subject, which knows no places.
    pub fn filled(&self, act: &str) -> String {
        act.replace("ROOM", &self.room)
            .replace("VICTIM", &self.victim().child.id().to_string())
            .replace("PORT", &self.services.port.to_string())
    }
}

impl Drop for Stage {
    /// What was mounted here goes, and who helped.
    fn drop(&mut self) {
        for helper in self.helpers.get_mut() {
            let _ = helper.kill();
            let _ = helper.wait();
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let here = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for mount in here.filter(|mount| mount.starts_with(&self.room)) {
            let _ = Command::new("umount").args(["-l", mount]).status();
        }
        // its files are as many as a trick has made: removing them would take longer than all else
        let aside = format!("{STAGE}{}", self.number);
        let _ = fs::rename(&self.room, &aside);
    }
}

/// A program of root's that runs as root whoever starts it.
fn set_id_program() -> &'static str {
    let path = "/srv/t/set-id";
    if fs::metadata(path).is_err() {
        fs::copy(BYPASS, path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o4755)).unwrap();
    }
    path
}

fn hand_over(to: &UnixStream, descriptor: BorrowedFd<'_>) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(to, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
}

/// Everything that can be seen of what is in ROOM/shut, and of the secret.
fn fingerprint(room: &str) -> BTreeMap<String, u64> {
    let mut prints = BTreeMap::new();
    let mut left = vec![format!("{room}/shut"), format!("{room}/secret")];
    while let Some(path) = left.pop() {
        // what a trick has made there may have too long a name
        let Ok(data) = fs::symlink_metadata(&path) else {
            prints.insert(path, 0);
            continue;
        };
        let mut hasher = DefaultHasher::new();
        (
            data.mode(),
            data.uid(),
            data.gid(),
            data.nlink(),
            data.size(),
        )
            .hash(&mut hasher);
        (data.ino(), data.mtime(), data.mtime_nsec()).hash(&mut hasher);
        let mut names = vec![0; 1024];
        let length = rustix::fs::llistxattr(path.as_str(), &mut names).unwrap_or(0);
        names[..length].hash(&mut hasher);
        if data.is_dir() {
            for entry in fs::read_dir(&path).unwrap() {
                let name = entry.unwrap().path();
                if let Some(name) = name.to_str() {
                    left.push(name.to_owned());
                }
            }
        } else if data.is_file() {
            fs::read(&path).unwrap().hash(&mut hasher);
        }
        prints.insert(path, hasher.finish());
    }
    prints
}

/// Who listens, beyond every envelope.
struct Services {
    port: u16,
    tcp: TcpListener,
    udp: UdpSocket,
    stream: UnixListener,
    abstract_stream: UnixListener,
    datagram: UnixDatagram,
    /// Ends of connections that a helper has made.
    held: RefCell<Vec<OwnedFd>>,
}

impl Services {
    fn start(room: &str) -> Self {
        let tcp = TcpListener::bind("[::]:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let name = SocketAddr::from_abstract_name(format!("bypass-{port}")).unwrap();
        let this = Self {
            port,
            tcp,
            udp: UdpSocket::bind(("::", port)).unwrap(),
            stream: UnixListener::bind(format!("{room}/stream")).unwrap(),
            abstract_stream: UnixListener::bind_addr(&name).unwrap(),
            datagram: UnixDatagram::bind(format!("{room}/datagram")).unwrap(),
            held: RefCell::default(),
        };
        for name in ["stream", "datagram"] {
            fs::set_permissions(format!("{room}/{name}"), Permissions::from_mode(0o777)).unwrap();
        }
        this.tcp.set_nonblocking(true).unwrap();
        this.udp.set_nonblocking(true).unwrap();
        this.stream.set_nonblocking(true).unwrap();
        this.abstract_stream.set_nonblocking(true).unwrap();
        this.datagram.set_nonblocking(true).unwrap();
        this
    }

    /// Takes what was made of a connection until now as nothing that a trick did.
    fn hold(&self) {
        let (tcp, _) = self.tcp.accept().unwrap();
        let (unix, _) = self.stream.accept().unwrap();
        tcp.set_nonblocking(true).unwrap();
        unix.set_nonblocking(true).unwrap();
        self.held.borrow_mut().extend([tcp.into(), unix.into()]);
    }

    /// How many have come since the last question.
    fn take(&self) -> u32 {
        let mut bytes = [0; 64];
        let mut count = 0;
        loop {
            let came =
                self.tcp.accept().is_ok()
                    || self.udp.recv(&mut bytes).is_ok()
                    || self.stream.accept().is_ok()
                    || self.abstract_stream.accept().is_ok()
                    || self.datagram.recv(&mut bytes).is_ok()
                    || self.held.borrow().iter().any(|end| {
                        rustix::io::read(end, &mut bytes).is_ok_and(|length| length > 0)
                    });
            if !came {
                return count;
            }
            count += 1;
        }
    }
}

/// A process outside that has the secret in its memory, among its descriptors and in its queues.
pub struct Victim {
    child: Child,
    input: ChildStdin,
    output: RefCell<BufReader<ChildStdout>>,
    /// An answer was not what it should be: it is not asked again.
    is_harmed: Cell<bool>,
    /// Where in its memory the secret is, and a word that nobody changes.
    address: String,
}

impl Victim {
    fn start(room: &str, uid: u32) -> Self {
        let mut program = Program::from(BYPASS);
        program.uid = uid;
        let mut child = program
            .command(&["victim", room])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        fs::create_dir_all(CGROUP).unwrap();
        fs::write(format!("{CGROUP}/cgroup.procs"), child.id().to_string()).unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut address = String::new();
        output.read_line(&mut address).unwrap();
        assert!(address.starts_with("0x"), "the victim: {address:?}");
        Self {
            child,
            input,
            output: RefCell::new(output),
            is_harmed: Cell::new(false),
            address: address.trim().to_owned(),
        }
    }

    /// Whether it answers, and finds itself as it was.
    fn is_well(&self) -> bool {
        let is_well = !self.is_harmed.get() && self.answers().is_some_and(|a| &a == b"well\n");
        self.is_harmed.set(!is_well);
        is_well
    }

    fn answers(&self) -> Option<[u8; 5]> {
        (&self.input).write_all(b"?").ok()?;
        let mut output = self.output.borrow_mut();
        let end = output.get_ref().as_fd();
        let mut waiting = [PollFd::new(&end, PollFlags::IN)];
        let timeout = Timespec::try_from(ANSWER).unwrap();
        if poll(&mut waiting, Some(&timeout)).unwrap() == 0 {
            return None;
        }
        let mut answer = [0; 5];
        output.read_exact(&mut answer).ok().map(|()| answer)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = fs::write(format!("{CGROUP}/cgroup.freeze"), "0");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
