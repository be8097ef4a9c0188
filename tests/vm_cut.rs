//! A revocation reaches what the program holds open, and nobody pays for that once the program is gone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use cartouche::control::Standing::{Admitted, Revoked};
use cartouche::enforcer::CUT_PROGRAMS;
use cartouche::event::{Code, Event};
use cartouche::posture::{ReasonCode, Report, RuntimeState};
use daemon::{Daemon, Mark, PINS, Tool};

/// A program that holds `mine` open and reads a line of it for each file that a test makes; at the end
/// it writes down which lines it got.
struct Reader {
    child: Child,
    room: String,
}

impl Reader {
    fn start(tool: &Tool) -> Self {
        let room = tool.room.clone();
        fs::write(tool.file("mine"), "1\n2\n3\n4\n5\n").unwrap();
        for gate in ["go-1", "go-2", "go-3", "end"] {
            let _ = fs::remove_file(tool.file(gate));
        }
        fs::write(tool.file("saw"), "").unwrap();
        // test(1) is stat(2), which a revoked program still has
        let script = format!(
            "exec 3<{room}/mine\nsaw=\necho up >{room}/saw\nfor i in 1 2 3; do\n\
             while [ ! -e {room}/go-$i ]; do :; done\n\
             if read -r line <&3; then saw=\"$saw $line\"; else saw=\"$saw -\"; fi\ndone\n\
             while [ ! -e {room}/end ]; do :; done\necho \"$saw\" >{room}/saw\n\
             while :; do :; done"
        );
        let child = Command::new("nice")
            .args(["-n", "5", &tool.path, "-c", &script])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let reader = Self { child, room };
        daemon::eventually("it has opened what it reads", || {
            (reader.said() == "up").then_some(())
        });
        reader
    }

    /// Lets it read its next line.
    fn reads(&self, number: u32) {
        fs::write(format!("{}/go-{number}", self.room), "").unwrap();
        sleep(Duration::from_millis(500));
    }

    /// The lines that it got, in place of each that it did not get a dash.
    fn saw(&self) -> String {
        fs::write(format!("{}/end", self.room), "").unwrap();
        daemon::eventually("it says what it saw", || {
            let said = self.said();
            (!said.is_empty() && said != "up").then_some(said)
        })
    }

    fn said(&self) -> String {
        let text = fs::read_to_string(format!("{}/saw", self.room)).unwrap();
        text.trim().to_owned()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The records of attaching and letting go.
fn transitions(daemon: &Daemon, mark: Mark) -> Vec<String> {
    let records = daemon.audit.since(mark).into_iter();
    records
        .map(|record| record.event)
        .filter(|event| event.code == Code::HeldDescriptors)
        .map(|event| event.detail.unwrap())
        .collect()
}

fn tells(daemon: &Daemon, mark: Mark, word: &str) -> Event {
    daemon.audit.tells_that(mark, word, |event| {
        event.code == Code::HeldDescriptors && event.detail.as_deref() == Some(word)
    })
}

fn attached(report: &Report) -> usize {
    let hooks = &report.cartouche.hooks;
    CUT_PROGRAMS.iter().filter(|name| hooks[**name]).count()
}

/// A daemon, and a program that may read `mine` and write `saw`.
fn with_reader(id: &str) -> (Daemon, Tool, String) {
    let daemon = daemon::running();
    let tool = Tool::new(id);
    let artifact = tool.artifact_that(&[("fs:read", "mine"), ("fs:write", "saw")]);
    tool.drop(&artifact);
    daemon.comes_to(id, Admitted);
    (daemon, tool, artifact)
}

#[test]
fn what_is_open_is_refused_while_the_artifact_is_gone_and_nobody_pays_after_that() {
    daemon::require_lsm!();
    let (daemon, tool, artifact) = with_reader("cut");
    for _ in 0..2 {
        let mark = daemon.audit.mark();
        let reader = Reader::start(&tool);
        reader.reads(1);
        assert_eq!(attached(&daemon.report()), 0);

        tool.remove();
        daemon.comes_to("cut", Revoked);

        let told = tells(&daemon, mark, "cut");
        assert_eq!(told.facts["tasks"], "1");
        daemon.reports("attached", |report| attached(report) == CUT_PROGRAMS.len());
        reader.reads(2);
        daemon.audit.tells_that(mark, "the refusal", |event| {
            event.runtime.as_ref().is_some_and(|act| {
                act.operation == "held-descriptor" && act.object == tool.file("mine")
            })
        });
        // whoever is held to another artifact, or to nothing, is none the wiser
        let other = Tool::new("cut-other");
        other.drop(&other.artifact());
        daemon.comes_to("cut-other", Admitted);
        other.is_held();
        fs::remove_file(other.policy()).unwrap();

        tool.drop(&artifact);
        daemon.comes_to("cut", Admitted);
        tells(&daemon, mark, "cut-ended");
        daemon.reports("let go", |report| {
            let mut reasons = report.cartouche.reasons.iter();
            attached(report) == 0 && !reasons.any(|one| one.code == ReasonCode::HookMissing)
        });
        reader.reads(3);
        assert_eq!(reader.saw(), "1 - 2");
        assert_eq!(transitions(&daemon, mark), ["cut", "cut-ended"]);
    }
    daemon.audit.is_whole();
}

#[test]
fn it_ends_with_the_last_task_and_outlives_the_daemon() {
    daemon::require_lsm!();
    let (mut daemon, tool, _) = with_reader("cut-lives");
    let mark = daemon.audit.mark();
    let reader = Reader::start(&tool);
    tool.remove();
    daemon.comes_to("cut-lives", Revoked);
    tells(&daemon, mark, "cut");

    assert!(daemon.stop().success());
    let pins = || {
        let pinned = |name: &&&str| Path::new(&format!("{PINS}/links/{name}")).exists();
        CUT_PROGRAMS.iter().filter(pinned).count()
    };
    assert_eq!(pins(), CUT_PROGRAMS.len());
    daemon.start();

    assert_eq!(pins(), CUT_PROGRAMS.len());
    daemon.reports("attached", |report| attached(report) == CUT_PROGRAMS.len());
    assert_eq!(transitions(&daemon, mark), ["cut"]);
    drop(reader);
    tells(&daemon, mark, "cut-ended");
    assert_eq!(pins(), 0);
}

#[test]
fn a_hook_that_cannot_be_attached_is_said_and_attached_as_soon_as_it_can() {
    daemon::require_lsm!();
    let (daemon, tool, _) = with_reader("cut-hindered");
    let mark = daemon.audit.mark();
    let reader = Reader::start(&tool);
    // where the pin belongs
    let hindrance = format!("{PINS}/links/file_permission");
    fs::create_dir(&hindrance).unwrap();

    tool.remove();
    daemon.comes_to("cut-hindered", Revoked);

    let missing = |report: &Report| {
        let mut reasons = report.cartouche.reasons.iter();
        reasons.any(|reason| {
            reason.code == ReasonCode::HookMissing && reason.message.contains("file_permission")
        })
    };
    let report = daemon.reports("HOOK_MISSING", missing);
    assert_eq!(report.runtime_state, RuntimeState::Degraded);
    let told = daemon.audit.tells_that(mark, "why", |event| {
        event.code == Code::SinkChanged && event.detail.as_deref() == Some("cut")
    });
    assert!(told.message.unwrap().contains("file_permission"));
    fs::remove_dir(&hindrance).unwrap();
    daemon.reports("attached", |report| {
        attached(report) == CUT_PROGRAMS.len() && !missing(report)
    });
    drop(reader);
    tells(&daemon, mark, "cut-ended");
}

#[test]
fn an_idle_daemon_sleeps_before_and_after() {
    daemon::require_lsm!();
    let (daemon, tool, _) = with_reader("cut-idle");
    let switches = || {
        let path = format!("/proc/{}/status", daemon.pid().as_raw_nonzero());
        let text = fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with("voluntary"));
        let number = line.unwrap().rsplit('\t').next().unwrap();
        number.parse::<u64>().unwrap()
    };
    let within_three_seconds = || {
        let before = switches();
        sleep(Duration::from_secs(3));
        switches() - before
    };
    // what a change brings is over: the report, the canary
    let becomes_idle = || {
        daemon::eventually("it sleeps", || (within_three_seconds() == 0).then_some(()));
    };
    becomes_idle();
    let mark = daemon.audit.mark();
    let reader = Reader::start(&tool);
    tool.remove();
    daemon.comes_to("cut-idle", Revoked);
    tells(&daemon, mark, "cut");
    drop(reader);
    tells(&daemon, mark, "cut-ended");
    becomes_idle();
}

/// A program that makes others of itself all the time, each of which ends soon.
fn forks_without_end(tool: &Tool) -> Child {
    let script = "while :; do (: ; (i=0; while [ $i -lt 300 ]; do i=$((i+1)); done) & ) & done";
    let child = Command::new("nice")
        .args(["-n", "10", &tool.path, "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    daemon::eventually("it has made others", || (running(tool) > 3).then_some(()));
    child
}

/// How many processes run a program; what has ended and was not waited for runs nothing.
fn running(tool: &Tool) -> usize {
    let processes = fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    processes
        .filter(|path| {
            fs::read_link(path.join("exe")).is_ok_and(|exe| exe == Path::new(&tool.path))
        })
        .count()
}

fn configure(text: &str) {
    fs::create_dir_all("/etc/cartouche/cartouche.toml.d").unwrap();
    fs::write("/etc/cartouche/cartouche.toml.d/50-test.toml", text).unwrap();
}

#[test]
fn killed_is_who_is_revoked_if_the_site_asks_for_it_and_only_then() {
    daemon::require_lsm!();
    for (text, kills) in [
        ("on_revoke = \"kill\"", true),
        ("on_revoke = \"deny\"", false),
    ] {
        let mut daemon = daemon::running();
        configure(text);
        daemon.restart();
        let (tool, bystander) = (Tool::new("forks"), Tool::new("forks-not"));
        for tool in [&tool, &bystander] {
            tool.drop(&tool.artifact());
            daemon.comes_to(&tool.id, Admitted);
        }
        let mut other = bystander.start();
        let mut quiet = tool.start();
        let mut child = forks_without_end(&tool);
        let mark = daemon.audit.mark();

        tool.remove();
        daemon.comes_to("forks", Revoked);

        let killed = || {
            let told = daemon.audit.of(mark, Code::Revoked, "forks");
            let counts = told.iter().filter_map(|event| event.facts.get("processes"));
            counts
                .map(|count| count.parse::<u64>().unwrap())
                .sum::<u64>()
        };
        if kills {
            daemon::eventually("nobody is left", || (running(&tool) == 0).then_some(()));
            // killed, or ended because it could make no others
            assert!(!child.wait().unwrap().success());
            let status = quiet.child.wait().unwrap();
            assert_eq!(
                std::os::unix::process::ExitStatusExt::signal(&status),
                Some(9)
            );
            assert!(
                killed() > 0,
                "{:?}",
                daemon.audit.of(mark, Code::Revoked, "forks")
            );
        } else {
            sleep(Duration::from_secs(3));
            assert!(
                child.try_wait().unwrap().is_none(),
                "it was to be refused, not ended"
            );
            assert!(running(&tool) > 0);
            assert_eq!(killed(), 0);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        // held to another artifact: neither ended nor refused
        assert_eq!(other.reads("mine"), daemon::Outcome::Done);
        assert_eq!(tool.reads("mine"), daemon::Outcome::NotStarted);
        drop((other, quiet));
        fs::remove_file("/etc/cartouche/cartouche.toml.d/50-test.toml").unwrap();
        daemon.audit.is_whole();
        daemon::eventually("the rest ends by itself", || {
            (running(&tool) == 0).then_some(())
        });
    }
}
