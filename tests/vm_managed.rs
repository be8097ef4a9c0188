//! `managed` in cartouche.toml: at these paths nothing runs, whoever tries, until an artifact admits it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use std::fs;
use std::process::Command;

use cartouche::control::Listed;
use cartouche::control::Standing::{Admitted, Revoked};
use cartouche::event::{Code, Event, Outcome};
use cartouche::posture::ReasonCode;
use daemon::Outcome::NotStarted;
use daemon::{Daemon, Mark, Tool};

const DROP_IN: &str = "/etc/cartouche/cartouche.toml.d/50-managed.toml";

fn managed(text: &str) {
    fs::create_dir_all("/etc/cartouche/cartouche.toml.d").unwrap();
    daemon::rename_into(DROP_IN, text.as_bytes()).unwrap();
}

/// The first refusal that belongs to no artifact.
fn told(daemon: &Daemon, mark: Mark) -> Event {
    daemon.audit.tells_that(mark, "what is managed", |event| {
        event.detail.as_deref() == Some("managed")
    })
}

#[test]
fn what_is_managed_runs_when_an_artifact_admits_it() {
    daemon::require_lsm!();
    let mut daemon = daemon::running();
    let (tool, beside) = (Tool::new("extension"), Tool::new("neighbour"));
    tool.is_free();
    managed(&format!("managed = [\"{}/**\"]\n", tool.room));
    let mark = daemon.audit.mark();

    daemon.restart();

    assert_eq!(tool.reads("mine"), NotStarted);
    beside.is_free();
    let event = told(&daemon, mark);
    assert_eq!((event.code, event.outcome), (Code::Drift, Outcome::Denied));
    assert_eq!(event.artifact, None);
    let runtime = event.runtime.unwrap();
    assert_eq!(
        (runtime.operation.as_str(), &runtime.object),
        ("exec", &tool.path)
    );
    assert_eq!(runtime.rule, format!("managed {}/**", tool.room));
    let listed = daemon::cartouche_ok(&["denials"]);
    assert!(
        listed.contains("-  denied  exec /srv/node/extension/tool"),
        "{listed}"
    );
    assert!(
        listed.contains("nothing run there that no artifact admits"),
        "{listed}"
    );
    // a file that is not even TOML has nothing to do with what was refused
    daemon::rename_into("/etc/cartouche/policies.d/prose.toml", b"not an artifact").unwrap();
    daemon.settles();
    let answer: Vec<Listed> =
        serde_json::from_str(&daemon::cartouche_ok(&["list", "--json"])).unwrap();
    let prose = answer.iter().find(|one| one.file == "prose.toml").unwrap();
    assert_eq!((prose.id.as_ref(), prose.denials), (None, 0));
    fs::remove_file("/etc/cartouche/policies.d/prose.toml").unwrap();
    let linker = "/lib64/ld-linux-x86-64.so.2";
    let run = Command::new(linker).args([&tool.path, "-c", ":"]).status();
    assert!(!run.unwrap().success());
    let run = Command::new(linker)
        .args([&beside.path, "-c", ":"])
        .status();
    assert!(run.unwrap().success());

    tool.drop(&tool.artifact());
    daemon.comes_to("extension", Admitted);
    tool.is_held();
    tool.remove();
    daemon.comes_to("extension", Revoked);
    daemon::cartouche_ok(&["forget", "extension"]);
    assert_eq!(tool.reads("mine"), NotStarted);

    // without a daemon, and with the next one, as long as it is configured
    assert!(daemon.stop().success());
    assert_eq!(tool.reads("mine"), NotStarted);
    daemon.start();
    assert_eq!(tool.reads("mine"), NotStarted);
    daemon.reports("no drift", |report| {
        let mut reasons = report.cartouche.reasons.iter();
        reasons.all(|reason| reason.code != ReasonCode::EnvelopeDrift)
    });
    fs::remove_file(DROP_IN).unwrap();
    daemon.restart();
    tool.is_free();
}

#[test]
fn a_node_that_only_audits_tells_what_it_would_not_let_run() {
    daemon::require_lsm!();
    let mut daemon = daemon::running();
    let tool = Tool::new("watched");
    managed(&format!(
        "mode = \"audit\"\nmanaged = [\"{}\"]\n",
        tool.path
    ));
    let mark = daemon.audit.mark();

    daemon.restart();

    tool.is_free();
    assert_eq!(told(&daemon, mark).outcome, Outcome::WouldDeny);
    fs::remove_file(DROP_IN).unwrap();
    daemon.restart();
}

#[test]
fn managed_paths_that_the_system_needs_are_refused_with_their_place() {
    daemon::require_lsm!();
    let mut daemon = daemon::running();
    assert!(daemon.stop().success());
    managed("managed = [\n  \"/opt/*\",\n  \"/usr/**\",\n]\n");

    let (code, said) = daemon.start_in_vain(&["--check"]);

    assert_ne!(code, Some(0));
    assert!(
        said.contains("50-managed.toml:3:3: `managed`: \"/usr/**\" covers"),
        "{said}"
    );
    fs::remove_file(DROP_IN).unwrap();
    daemon.start();
}
