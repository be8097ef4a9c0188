//! One trick on one stage, by a program outside or by a subject.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use cartouche::enforcer::{Mode, SlotState};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, Signal, kill_process_group};

use super::manifest::{Meanwhile, Start, Trick};
use super::stage::{BYPASS, STAGE, Stage, Victim};
use crate::guest::{Guest, Program, ROOM, Subject};

/// The program ends itself earlier, unless something holds it.
const PATIENCE: Duration = Duration::from_secs(45);

/// How often what goes on meanwhile happens.
const PACE: Duration = Duration::from_millis(10);

/// How a trick ended.
pub struct Ended {
    /// Its effect was there.
    pub worked: bool,
    /// What the program said at the end.
    pub said: String,
    /// What the kernel side refused; 0 for a program outside.
    pub refused: u64,
}

/// Where a program of its own is for each trick that needs one.
const OWN: &str = "/srv/t/own";

/// Who plays. Binding a program takes its time: an envelope that several tricks need is bound once.
pub struct Cast<'g> {
    guest: &'g Guest,
    outsider: Program,
    /// What stands in every secret.
    token: String,
    /// Of each user, while nothing has happened to it.
    victims: RefCell<BTreeMap<u32, Victim>>,
    subjects: RefCell<BTreeMap<String, Subject<'g>>>,
}

impl<'g> Cast<'g> {
    pub fn new(guest: &'g Guest) -> Self {
        Self {
            guest,
            outsider: Program::copy_of(BYPASS, "/srv/t/outsider"),
            token: format!("token-{}", std::process::id()),
            victims: RefCell::default(),
            subjects: RefCell::default(),
        }
    }

    fn stage(&self, uid: u32) -> Stage {
        let victim = self.victims.borrow_mut().remove(&uid);
        Stage::set(self.guest, uid, &self.token, victim)
    }

    fn end(
        &self,
        mut stage: Stage,
        trick: &Trick,
        uid: u32,
        running: &Running,
        refused: u64,
    ) -> Ended {
        let ended = running.ended(trick, &mut stage, refused);
        let victim = stage.take_victim();
        self.victims
            .borrow_mut()
            .extend(victim.map(|victim| (uid, victim)));
        ended
    }

    /// By a program outside: must work, or the trick itself is broken.
    pub fn outside(&self, trick: &Trick, uid: u32) -> Ended {
        let stage = self.stage(uid);
        let path = match trick.is_alone() {
            true => fresh(trick, OWN).path,
            false => self.outsider.path.clone(),
        };
        let mut running = Running::start(trick, &stage, &Program { path, uid });
        if trick.start == Start::Before {
            running.is_up();
            fs::write(stage.path("open/gate"), "").unwrap();
        }
        running.ends(|_| others_move(trick, &stage));
        self.end(stage, trick, uid, &running, 0)
    }

    /// By a subject.
    pub fn confined(&self, trick: &Trick, uid: u32) -> Ended {
        if trick.is_alone() {
            return self.confined_alone(trick, uid);
        }
        let stage = self.stage(uid);
        let mut subjects = self.subjects.borrow_mut();
        let envelope = trick.envelope();
        let subject = subjects.entry(envelope.clone()).or_insert_with(|| {
            let path = format!("{ROOM}/bypass{}", self.guest.number());
            let program = Program::copy_of(BYPASS, &path);
            let envelope = envelope.replace("SELF", &path);
            Subject::of(self.guest, program, &envelope, Mode::Enforce)
        });
        let before = subject.totals().denied;
        let path = subject.path.clone();
        let mut running = Running::start(trick, &stage, &Program { path, uid });
        running.ends(|_| others_move(trick, &stage));
        let refused = subject.totals().denied - before;
        self.end(stage, trick, uid, &running, refused)
    }

    /// The same with a program that no other trick uses.
    fn confined_alone(&self, trick: &Trick, uid: u32) -> Ended {
        let stage = self.stage(uid);
        let program = fresh(trick, OWN);
        let path = program.path.clone();
        let envelope = trick.envelope().replace("SELF", &path);
        let (subject, mut running);
        if trick.start == Start::Before {
            running = Running::start(trick, &stage, &Program { path, uid });
            running.is_up();
            subject = Subject::of(self.guest, program, &envelope, Mode::Enforce);
            self.guest.kernel.borrow().adopt().unwrap();
            fs::write(stage.path("open/gate"), "").unwrap();
        } else {
            subject = Subject::of(self.guest, program, &envelope, Mode::Enforce);
            running = Running::start(trick, &stage, &Program { path, uid });
        }
        running.ends(|turn| {
            others_move(trick, &stage);
            match trick.meanwhile {
                Some(Meanwhile::EnvelopesChange) => {
                    let more = ["", "\nfs:read /etc/hostname"][turn as usize % 2];
                    subject.changes_to(&format!("{envelope}{more}"), Mode::Enforce);
                }
                Some(Meanwhile::RevokedAndAdmitted) if turn % 2 == 0 => {
                    subject.closes(SlotState::Revoked);
                }
                Some(Meanwhile::RevokedAndAdmitted) => {
                    subject.changes_to(&envelope, Mode::Enforce);
                }
                _ => {}
            }
        });
        let refused = subject.totals().denied;
        self.end(stage, trick, uid, &running, refused)
    }
}

/// A fresh copy of the program: of this directory's, or of the example subject.
fn fresh(trick: &Trick, path: &str) -> Program {
    match trick.act {
        Some(_) => Program::copy(path),
        None => Program::copy_of(BYPASS, path),
    }
}

/// What others do around the program.
fn others_move(trick: &Trick, stage: &Stage) {
    if trick.meanwhile == Some(Meanwhile::DirectoriesMove) {
        let (one, other) = (stage.path("shut/d"), stage.path("shut/e"));
        let _ = fs::create_dir(&other);
        renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
    }
}

/// The program on its way, and what it has printed.
struct Running {
    child: Child,
    lines: Receiver<String>,
    printed: String,
}

impl Running {
    fn start(trick: &Trick, stage: &Stage, program: &Program) -> Self {
        let mut command = command(trick, stage, program);
        let mut child = command
            .current_dir("/")
            .process_group(0)
            .stdin(stage.input(trick.input))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", trick.name));
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = channel();
        thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                let _ = tell.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Self {
            child,
            lines,
            printed: String::new(),
        }
    }

    /// Waits until it says that it waits.
    fn is_up(&mut self) {
        let line = self.lines.recv_timeout(PATIENCE);
        assert_eq!(line.as_deref(), Ok("up"));
    }

    /// Waits until it has ended with all that it started, and does something all the while.
    fn ends(&mut self, turn: impl Fn(u32)) {
        let begun = Instant::now();
        let (mut turns, mut last) = (0, begun);
        loop {
            // it has started, and said so
            if !self.printed.is_empty() && last.elapsed() >= PACE {
                turn(turns);
                turns += 1;
                last = Instant::now();
            }
            match self.lines.recv_timeout(PACE) {
                Ok(line) => self.printed += &(line + "\n"),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if begun.elapsed() < PATIENCE => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.printed += "took too long\n";
                    break;
                }
            }
        }
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let status = self.child.wait().unwrap();
        if !status.success() && !self.printed.ends_with('\n') {
            self.printed += &format!("{status}\n");
        }
    }

    fn ended(&self, trick: &Trick, stage: &mut Stage, refused: u64) -> Ended {
        let printed = match trick.act {
            Some(_) => self.printed.replace("ok\n", "done\n"),
            None => self.printed.clone(),
        };
        Ended {
            worked: stage.shows(trick.effect, &printed),
            said: printed.lines().last().unwrap_or_default().to_owned(),
            refused,
        }
    }
}

/// How the program is run.
fn command(trick: &Trick, stage: &Stage, program: &Program) -> Command {
    let mut words = match &trick.act {
        Some(act) => stage.filled(act).split(' ').map(str::to_owned).collect(),
        None => stage.words(trick.function()),
    };
    let alias = stage.path("alias");
    let path = match trick.start {
        Start::Itself | Start::Before => program.path.clone(),
        Start::HardLink => {
            fs::hard_link(&program.path, &alias).unwrap();
            alias
        }
        Start::SymbolicLink => {
            symlink(&program.path, &alias).unwrap();
            alias
        }
        Start::BindMount => {
            fs::write(&alias, "").unwrap();
            let mounted = Command::new("mount")
                .args(["--bind", &program.path, &alias])
                .status();
            assert!(mounted.is_ok_and(|status| status.success()));
            alias
        }
        Start::Replaced => {
            fs::rename(&program.path, &alias).unwrap();
            fs::copy("/usr/bin/true", &program.path).unwrap();
            alias
        }
        Start::RingStarter => {
            let before = ["ring-starter", STAGE, &program.path].map(str::to_owned);
            words.splice(..0, before);
            BYPASS.to_owned()
        }
        Start::Linker => {
            words.insert(0, program.path.clone());
            "/lib64/ld-linux-x86-64.so.2".to_owned()
        }
    };
    let mut command = Command::new(path);
    command.args(words);
    if program.uid != 0 {
        command.uid(program.uid).gid(program.uid);
    }
    command
}
