//! Pinned `code:load`: which libraries a program maps is a matter of their content. A package that replaces
//! one has it refused until the artifact names the new one; nobody changes one in place.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod daemon;

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;

use cartouche::artifact::digest::sha256_hex;
use cartouche::control::Standing::{Admitted, Rejected, Revoked, Waiting};
use cartouche::event::Code;
use daemon::{Daemon, POLICIES, Tool};

/// A library that every Debian has and a shell does not need.
const LIBRARY: &str = "/lib/x86_64-linux-gnu/libm.so.6";

/// Puts a library among the files of a program, by renaming. `more` makes its content another.
fn put(tool: &Tool, name: &str, more: &str) -> String {
    let path = tool.file(name);
    let content = [fs::read(LIBRARY).unwrap(), more.as_bytes().to_vec()].concat();
    let next = format!("{path}.dpkg-new");
    fs::write(&next, content).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&next, &path).unwrap();
    path
}

fn hash(path: &str) -> String {
    sha256_hex(&fs::read(path).unwrap())
}

/// An artifact that lets a program start itself again and map these files with this content.
fn pinning(tool: &Tool, files: &[(&str, &str)]) -> String {
    let files: String = files
        .iter()
        .map(|(path, hash)| {
            format!("[[envelope.capability.file]]\npath = \"{path}\"\nsha256 = \"{hash}\"\n")
        })
        .collect();
    let text = tool.artifact_that(&[("fs:read", "mine"), ("process:exec", "tool")]);
    let code = "[[envelope.capability]]\nname = \"code:load\"\njustification = \"its plugins\"\n";
    daemon::seal(&format!("{text}\n{code}{files}"))
}

/// Whether a program that is started by itself, which is no change of label, gets a library preloaded.
#[track_caller]
fn loads(tool: &Tool, library: &str) -> bool {
    let act = format!("LD_PRELOAD={library} {} -c 'echo up'", tool.path);
    let output = std::process::Command::new(&tool.path)
        .args(["-c", &act])
        .output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "up\n", "{said}");
    match said.as_str() {
        "" => true,
        refused if refused.contains("cannot be preloaded") => false,
        other => panic!("{other}"),
    }
}

fn writes(path: &str) -> io::Result<()> {
    OpenOptions::new().append(true).open(path).map(drop)
}

#[track_caller]
fn is_kept(path: &str) {
    let error = writes(path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
}

/// Waits until an artifact file has been decided about again.
fn is_decided_again(daemon: &Daemon, mark: daemon::Mark, id: &str) {
    daemon.audit.tells(mark, Code::Submitted, id);
    daemon.settles();
}

#[test]
fn a_library_is_mapped_for_its_content_and_kept_from_changing() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("plugged");
    let (yes, no) = (put(&tool, "yes.so", ""), put(&tool, "no.so", ""));
    tool.drop(&pinning(&tool, &[(&yes, &hash(&yes))]));
    daemon.comes_to("plugged", Admitted);

    assert!(loads(&tool, &yes));
    assert!(!loads(&tool, &no));
    is_kept(&yes);
    writes(&no).unwrap();
    let report = daemon.reports("the pins are read back", |report| {
        let own = report.cartouche.artifacts.get("plugged");
        own.is_some_and(|own| own.envelope_match)
    });
    assert!(report.requirements.verified_exec_runtime_deps_required);

    // an upgrade: the new one is another file, and not mapped before the artifact names it
    let mark = daemon.audit.mark();
    put(&tool, "yes.so", "version 2");
    is_decided_again(&daemon, mark, "plugged");
    let told = daemon.audit.of(mark, Code::DigestMismatch, "plugged");
    assert_eq!(told[0].detail.as_deref(), Some("code-mismatch"));
    assert!(!loads(&tool, &yes));
    tool.is_held();
    let said = daemon::cartouche_ok(&["denials", "plugged"]);
    assert!(said.contains("seal --update-hashes"), "{said}");
    assert!(
        said.contains(&no) && !said.contains(&format!("\"{yes}\"")),
        "{said}"
    );
    let draft = "/tmp/updated.toml";
    fs::write(draft, fs::read(tool.policy()).unwrap()).unwrap();
    daemon::cartouche_ok(&["seal", "--update-hashes", draft]);
    let mark = daemon.audit.mark();
    tool.drop(&fs::read_to_string(draft).unwrap());
    daemon.audit.tells(mark, Code::Admitted, "plugged");
    assert!(loads(&tool, &yes));
    is_kept(&yes);

    tool.remove();
    daemon.comes_to("plugged", Revoked);
    writes(&yes).unwrap();
}

#[test]
fn what_several_artifacts_pin_is_kept_until_the_last_goes() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let (one, two) = (Tool::new("first"), Tool::new("second"));
    let library = put(&one, "shared.so", "");
    for tool in [&one, &two] {
        tool.drop(&pinning(tool, &[(&library, &hash(&library))]));
        daemon.comes_to(&tool.id, Admitted);
    }
    assert!(loads(&one, &library) && loads(&two, &library));

    one.remove();
    daemon.comes_to("first", Revoked);

    is_kept(&library);
    assert!(loads(&two, &library));
    two.drop(&two.artifact());
    daemon::eventually("it is let go", || writes(&library).ok());
}

#[test]
fn the_program_of_one_can_be_the_library_of_another() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let (program, user) = (Tool::new("program"), Tool::new("user"));
    let path = &program.path;
    user.drop(&pinning(&user, &[(path, &hash(path))]));
    daemon.comes_to("user", Admitted);
    // nobody's program by that
    program.is_free();
    program.drop(&program.artifact());
    daemon.comes_to("program", Admitted);
    program.is_held();

    user.remove();
    daemon.comes_to("user", Revoked);
    is_kept(path);
    program.is_held();

    // and the other way round
    let user = Tool::new("user");
    daemon::cartouche_ok(&["forget", "user"]);
    user.drop(&pinning(&user, &[(path, &hash(path))]));
    daemon.comes_to("user", Admitted);
    program.remove();
    daemon.comes_to("program", Revoked);
    daemon::cartouche_ok(&["forget", "program"]);
    is_kept(path);
    program.is_free();
    user.remove();
    daemon.comes_to("user", Revoked);
    writes(path).unwrap();
}

#[test]
fn an_artifact_waits_for_a_library_and_takes_no_other() {
    daemon::require_lsm!();
    let daemon = daemon::running();
    let tool = Tool::new("expecting");
    let path = put(&tool, "late.so", "");
    let right = hash(&path);
    fs::remove_file(&path).unwrap();
    tool.drop(&pinning(&tool, &[(&path, &right)]));
    daemon.comes_to("expecting", Waiting);
    assert_eq!(tool.reads("mine"), daemon::Outcome::NotStarted);

    put(&tool, "late.so", "other");
    daemon.comes_to("expecting", Rejected);
    let listed = daemon.listed("expecting").unwrap();
    assert!(listed.problem.unwrap().contains("code-mismatch"));
    writes(&path).unwrap();

    put(&tool, "late.so", "");
    daemon.comes_to("expecting", Admitted);
    assert!(loads(&tool, &path));
}

#[test]
fn what_was_replaced_while_no_daemon_ran_is_not_mapped_and_the_old_file_let_go() {
    daemon::require_lsm!();
    let mut daemon = daemon::running();
    let tool = Tool::new("resumed");
    let (kept, other) = (put(&tool, "kept.so", ""), put(&tool, "other.so", ""));
    let files = [(kept.as_str(), hash(&kept)), (other.as_str(), hash(&other))];
    let files: Vec<_> = files
        .iter()
        .map(|(path, hash)| (*path, hash.as_str()))
        .collect();
    tool.drop(&pinning(&tool, &files));
    daemon.comes_to("resumed", Admitted);
    assert!(daemon.stop().success());
    assert!(loads(&tool, &kept) && loads(&tool, &other));
    let aside = format!("{other}.old");
    fs::rename(&other, &aside).unwrap();
    put(&tool, "other.so", "version 2");

    daemon.start();

    assert!(loads(&tool, &kept));
    assert!(!loads(&tool, &other));
    is_kept(&kept);
    writes(&aside).unwrap();
    tool.is_held();
    fs::remove_file(format!("{POLICIES}/resumed.toml")).unwrap();
    daemon.comes_to("resumed", Revoked);
    writes(&kept).unwrap();
}
