//! A program to be confined, with files of its own and files of others. It is a copy of the shell, which
//! can be told step by step what to do, also while it runs.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::{POLICIES, cartouche_ok, rename_into};

/// Where programs and their files lie.
const ROOM: &str = "/srv/node";

/// One program, its artifact and its files.
pub struct Tool {
    pub id: String,
    /// Its directory.
    pub room: String,
    /// The program.
    pub path: String,
}

/// What came of an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// The kernel refused it.
    Refused,
    /// The program itself was not let run.
    NotStarted,
    /// It says nothing any more: its rights have ended, and what it holds open is refused.
    Silenced,
    /// Anything that a test does not expect.
    Other(String),
}

impl Outcome {
    fn of(text: &str) -> Self {
        match text {
            text if text.ends_with("Operation not permitted") => Self::Refused,
            "content" => Self::Done,
            "" => Self::Silenced,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl Tool {
    /// A program of that name, and beside it the files `mine` and `other`, which anybody may use.
    pub fn new(id: &str) -> Self {
        let room = format!("{ROOM}/{id}");
        let _ = fs::remove_dir_all(&room);
        fs::create_dir_all(&room).unwrap();
        for name in ["mine", "other"] {
            fs::write(format!("{room}/{name}"), "content\n").unwrap();
        }
        let tool = Self {
            id: id.to_owned(),
            path: format!("{room}/tool"),
            room,
        };
        tool.install("");
        tool
    }

    /// Puts the program there by renaming, as a package manager does. `more` makes its content another.
    pub fn install(&self, more: &str) {
        let next = format!("{}.dpkg-new", self.path);
        let content = [fs::read("/bin/dash").unwrap(), more.as_bytes().to_vec()].concat();
        fs::write(&next, content).unwrap();
        fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&next, &self.path).unwrap();
    }

    pub fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.room)
    }

    /// The path of its artifact.
    pub fn policy(&self) -> String {
        format!("{POLICIES}/{}.toml", self.id)
    }

    /// A sealed artifact that lets it start and read `mine`.
    pub fn artifact(&self) -> String {
        self.artifact_that(&[("fs:read", "mine")])
    }

    /// A sealed artifact that lets it start, and these capabilities on its own files.
    pub fn artifact_that(&self, may: &[(&str, &str)]) -> String {
        let mut text = cartouche_ok(&["new", &self.path, "--id", &self.id]);
        for (capability, name) in may {
            let path = match name.starts_with('/') {
                true => (*name).to_owned(),
                false => self.file(name),
            };
            text += &format!(
                "\n[[envelope.capability]]\nname = \"{capability}\"\npaths = [\"{path}\"]\n\
                 justification = \"tested\"\n"
            );
        }
        seal(&text)
    }

    /// Puts an artifact into force as a careful administrator does: by renaming.
    pub fn drop(&self, artifact: &str) {
        rename_into(&self.policy(), artifact.as_bytes()).unwrap();
    }

    /// Puts an artifact into force as `cp` does.
    pub fn drop_by_copy(&self, artifact: &str) {
        fs::write(self.policy(), artifact).unwrap();
    }

    pub fn remove(&self) {
        fs::remove_file(self.policy()).unwrap();
    }

    /// Starts it to read one of its files.
    pub fn reads(&self, name: &str) -> Outcome {
        let act = read(&self.file(name));
        match Command::new(&self.path).args(["-c", &act]).output() {
            Ok(output) => {
                let said = [output.stdout, output.stderr].concat();
                Outcome::of(String::from_utf8_lossy(&said).trim_end())
            }
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Outcome::NotStarted,
            Err(error) => Outcome::Other(error.to_string()),
        }
    }

    /// Asserts that it is held to its envelope.
    #[track_caller]
    pub fn is_held(&self) {
        assert_eq!(self.reads("mine"), Outcome::Done);
        assert_eq!(self.reads("other"), Outcome::Refused);
    }

    /// Asserts that it is held to nothing.
    #[track_caller]
    pub fn is_free(&self) {
        assert_eq!(self.reads("mine"), Outcome::Done);
        assert_eq!(self.reads("other"), Outcome::Done);
    }

    /// Starts it to try `mine` and `other` until it is stopped.
    pub fn hammer(&self) -> Hammer {
        let (mine, other, stop) = (self.file("mine"), self.file("other"), self.file("stop"));
        let script = format!(
            "n=0 through=0 lost=0\n\
             while [ ! -e {stop} ]; do\n\
               n=$((n + 1))\n\
               read -r line 2>/dev/null <{other} && through=$((through + 1))\n\
               read -r line 2>/dev/null <{mine} || lost=$((lost + 1))\n\
             done\n\
             echo $n $through $lost"
        );
        // the daemon goes first where they share one processor: it sleeps often enough
        let child = Command::new("nice")
            .args(["-n", "5", &self.path, "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Hammer { child, stop }
    }

    /// Starts it, to be told later what to do.
    pub fn start(&self) -> Running {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("exec {} 2>&1", self.path)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut running = Running {
            lines: BufReader::new(child.stdout.take().unwrap()),
            orders: child.stdin.take().unwrap(),
            child,
            room: self.room.clone(),
        };
        assert_eq!(running.tell("echo content"), "content");
        running
    }
}

/// What a program saw that tried the same two things all the time.
#[derive(Debug, PartialEq, Eq)]
pub struct Hammered {
    pub tries: u64,
    /// How often it could read `other`.
    pub through: u64,
    /// How often it could not read `mine`.
    pub lost: u64,
}

/// A program that tries to read `mine` and `other` without a pause.
pub struct Hammer {
    child: Child,
    stop: String,
}

impl Hammer {
    /// Ends it; what it saw.
    pub fn stop(mut self) -> Hammered {
        fs::write(&self.stop, "").unwrap();
        let mut said = String::new();
        let stdout = self.child.stdout.as_mut().unwrap();
        stdout.read_to_string(&mut said).unwrap();
        let numbers: Vec<u64> = said
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        fs::remove_file(&self.stop).unwrap();
        Hammered {
            tries: numbers[0],
            through: numbers[1],
            lost: numbers[2],
        }
    }
}

impl Drop for Hammer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seals an artifact's text.
pub fn seal(text: &str) -> String {
    let path = Path::new("/tmp/draft.toml");
    fs::write(path, text).unwrap();
    cartouche_ok(&["seal", path.to_str().unwrap()]);
    fs::read_to_string(path).unwrap()
}

/// One line, whether it is read or refused.
fn read(path: &str) -> String {
    format!("read -r line <{path} && echo \"$line\"")
}

/// A program that runs and does what it is told.
pub struct Running {
    pub child: Child,
    lines: BufReader<ChildStdout>,
    orders: ChildStdin,
    room: String,
}

impl Running {
    /// Tells it a command that answers with one line.
    pub fn tell(&mut self, command: &str) -> String {
        // may be gone: then it answers nothing
        let _ = writeln!(self.orders, "{command}");
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn reads(&mut self, name: &str) -> Outcome {
        let act = read(&format!("{}/{name}", self.room));
        Outcome::of(&self.tell(&act))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
