//! Who is adopted keeps what is open: the audit and the posture say what of it is beyond the envelope.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use cartouche::control::Standing::Admitted;
use cartouche::event::{Code, Event};
use cartouche::posture::Adoption;
use daemon::{Daemon, Tool};

/// Puts a tool's artifact in force; what is told of its adoption.
fn adoption(daemon: &Daemon, tool: &Tool) -> Event {
    let mark = daemon.audit.mark();
    tool.drop(&tool.artifact());
    let told = daemon.audit.tells(mark, Code::Adopted, &tool.id);
    daemon.comes_to(&tool.id, Admitted);
    told
}

/// What the posture says of it.
fn reported(daemon: &Daemon, tool: &Tool) -> Adoption {
    let report = daemon.reports("the adoption", |report| {
        let artifacts = &report.cartouche.artifacts;
        artifacts
            .get(&tool.id)
            .is_some_and(|artifact| artifact.adopted.processes > 0)
    });
    report.cartouche.artifacts[&tool.id].adopted
}

fn held(told: &Event) -> Vec<&str> {
    let held = told
        .facts
        .iter()
        .filter(|(key, _)| key.starts_with("held_"));
    held.map(|(_, value)| value.as_str()).collect()
}

#[test]
fn descriptors_beyond_the_envelope_are_told_of_each_adopted_process() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("keeps");
    let (mut more, mut both, mut none) = (tool.start(), tool.start(), tool.start());
    let (mine, other) = (tool.file("mine"), tool.file("other"));
    let opens = |descriptors: &str| format!("exec {descriptors}; echo open");
    assert_eq!(more.tell(&opens(&format!("3<{other} 4<{mine}"))), "open");
    assert_eq!(both.tell(&opens(&format!("5<>{other} 6>>{mine}"))), "open");
    assert_eq!(none.tell(&opens(&format!("3<{mine}"))), "open");

    let told = adoption(&daemon, &tool);

    let (first, second) = (more.child.id(), both.child.id());
    let mut expected = vec![
        format!("{first} fd 3: read {other}"),
        format!("{second} fd 5: read,write {other}"),
        format!("{second} fd 6: write {mine}"),
    ];
    expected.sort();
    let mut held = held(&told);
    held.sort_unstable();
    assert_eq!(held, expected, "{told:?}");
    assert_eq!(told.detail.as_deref(), Some("holds-more"));
    let facts = ["processes", "holding_more", "descriptors"].map(|key| told.facts[key].as_str());
    assert_eq!(facts, ["3", "2", "3"]);
    let adopted = reported(&daemon, &tool);
    assert_eq!(
        (
            adopted.processes,
            adopted.holding_more,
            adopted.descriptors,
            adopted.not_examined
        ),
        (3, 2, 3, 0)
    );
    let said = daemon::cartouche_ok(&["inspect", &tool.id]);
    assert!(
        said.contains("Of 3 processes that ran before, 2 kept 3 descriptors"),
        "{said}"
    );
    // it is told, and not taken away
    assert_eq!(more.tell("read -r line <&3 && echo \"$line\""), "content");
}

#[test]
fn of_processes_that_hold_no_more_nothing_is_told() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("modest");
    let mut running = tool.start();
    let mine = tool.file("mine");
    assert_eq!(
        running.tell(&format!("exec 3<{mine} 4>/dev/null; echo open")),
        "open"
    );

    let told = adoption(&daemon, &tool);

    assert_eq!(told.facts["processes"], "1");
    assert_eq!((held(&told), &told.detail), (vec![], &None));
    let adopted = reported(&daemon, &tool);
    assert_eq!((adopted.holding_more, adopted.descriptors), (0, 0));
    let said = daemon::cartouche_ok(&["inspect", &tool.id]);
    assert!(!said.contains("that ran before"), "{said}");
}

#[test]
fn many_descriptors_are_counted_and_the_first_of_them_named() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("hoards");
    let other = tool.file("other");
    let opens: Vec<_> = (3..10).map(|fd| format!("{fd}<{other}")).collect();
    let mut hoards: Vec<_> = (0..5).map(|_| tool.start()).collect();
    for running in &mut hoards {
        assert_eq!(
            running.tell(&format!("exec {}; echo open", opens.join(" "))),
            "open"
        );
    }

    let told = adoption(&daemon, &tool);

    assert_eq!(told.facts["processes"], "5", "{told:?}");
    assert_eq!(told.facts["descriptors"], "35");
    assert_eq!(held(&told).len(), 16);
}
