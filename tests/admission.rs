//! What the gate lets in, what it keeps out and what it says about it: the table of
//! tests/artifacts/, the order of the steps, and the promises of the contract.
//!
//! A new case is one file in rejected/, whose first comment is the expected error and detail, and under
//! the same name in accepted/ what is right instead, sealed with `cartouche seal`; where that is
//! example.toml, nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use cartouche::admission::{
    AdmittedSummary, Decision, Effective, ExecutableFacts, FileProblem, FoundFile, Inputs, Node,
    Options, Verdict, decide,
};
use cartouche::artifact::capability::CapabilityName;
use cartouche::artifact::digest::{seal, sha256_hex};
use cartouche::artifact::draft::Draft;
use cartouche::artifact::profile::ProfileSet;
use cartouche::artifact::scope::Scope;
use cartouche::event::{Code, Detail, ErrorCode, Event};
use cartouche::trusted_file::TrustedDirectory;
use serde::Deserialize;
use tempfile::TempDir;

/// The programs of the node on which the table is decided, and what is odd about each. All have the
/// content `example`, but `second`.
fn executables() -> Vec<ExecutableFacts> {
    let sound = FoundFile {
        sha256: sha256_hex(b"example"),
        realpath_ok: true,
        regular: true,
        mode: 0o755,
        uid: 0,
        filesystem: "ext4".to_owned(),
        script: false,
        replaceable: false,
        casefold: false,
        loaders: cartouche::executable::Loaders::default(),
    };
    let second = FoundFile {
        sha256: sha256_hex(b"second"),
        script: true,
        ..sound.clone()
    };
    let link = FoundFile {
        realpath_ok: false,
        ..sound.clone()
    };
    let directory = FoundFile {
        regular: false,
        ..sound.clone()
    };
    let setuid = FoundFile {
        mode: 0o4755,
        ..sound.clone()
    };
    let replaceable = FoundFile {
        script: true,
        replaceable: true,
        ..sound.clone()
    };
    let casefold = FoundFile {
        casefold: true,
        ..sound.clone()
    };
    let overlay = FoundFile {
        filesystem: "overlay".to_owned(),
        ..sound.clone()
    };
    let mut facts: Vec<_> = [
        ("example", &sound),
        ("second", &second),
        ("link", &link),
        ("directory", &directory),
        ("setuid", &setuid),
        ("overlay", &overlay),
        ("replaceable", &replaceable),
        ("casefold", &casefold),
        ("busy", &sound),
        ("taken", &sound),
        ("bash", &sound),
        ("sudo", &sound),
        ("dpkg", &sound),
        ("python3.11", &sound),
        ("../sbin/sshd", &sound),
        ("../sbin/cartouched", &sound),
        ("../lib/systemd/systemd", &sound),
        ("../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", &sound),
    ]
    .into_iter()
    .map(|(name, found)| ExecutableFacts {
        path: match name.strip_prefix("../") {
            Some(rest) => format!("/usr/{rest}"),
            None => format!("/usr/bin/{name}"),
        },
        found: Some(found.clone()),
        problem: None,
        taken_by: None,
        written: name == "busy",
    })
    .collect();
    facts.push(ExecutableFacts {
        path: "/usr/bin/absent".to_owned(),
        found: None,
        problem: None,
        taken_by: None,
        written: false,
    });
    facts
}

/// What artifacts of the table pin, and what is odd about each. All have the content `code`.
fn code() -> Vec<ExecutableFacts> {
    let sound = FoundFile {
        sha256: sha256_hex(b"code"),
        ..executables()[0].found.clone().unwrap()
    };
    let link = FoundFile {
        realpath_ok: false,
        ..sound.clone()
    };
    let directory = FoundFile {
        regular: false,
        ..sound.clone()
    };
    let overlay = FoundFile {
        filesystem: "overlay".to_owned(),
        ..sound.clone()
    };
    [
        ("/opt/a.so", Some(sound.clone()), false),
        ("/opt/link.so", Some(link), false),
        ("/opt/directory", Some(directory), false),
        ("/opt/overlay.so", Some(overlay), false),
        ("/opt/busy.so", Some(sound), true),
        ("/opt/absent.so", None, false),
    ]
    .map(|(path, found, written)| ExecutableFacts {
        path: path.to_owned(),
        found,
        problem: None,
        taken_by: None,
        written,
    })
    .to_vec()
}

/// A node that enforces what this build can, with one artifact admitted.
fn inputs(name: &str, document: &[u8]) -> Inputs {
    let taken = AdmittedSummary {
        unit: None,
        file: "taken.toml".to_owned(),
        executables: BTreeSet::from(["/usr/bin/taken".to_owned()]),
    };
    Inputs {
        name: name.to_owned(),
        document: document.to_vec(),
        file_problem: None,
        signature_present: false,
        site_grants: BTreeSet::new(),
        profiles: ProfileSet::shipped(),
        scope: Scope::shipped().unwrap(),
        executables: executables(),
        code: code(),
        node: Node {
            enforceable: CapabilityName::ALL.iter().copied().collect(),
            measures: true,
            blockers: Vec::new(),
        },
        admitted: BTreeMap::from([("taken".to_owned(), taken)]),
        options: Options::default(),
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/artifacts")
        .join(name)
}

/// Name and content of each artifact in a folder of the table, in the order of names.
fn artifacts(name: &str) -> BTreeMap<String, String> {
    fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn example() -> String {
    fs::read_to_string(folder("accepted").join("example.toml")).unwrap()
}

/// The example with `old` replaced and sealed again.
fn changed(old: &str, new: &str) -> String {
    let example = example();
    assert!(example.contains(old), "{old}");
    seal(&example.replacen(old, new, 1), "example.toml").unwrap()
}

fn codes(decision: &Decision) -> Vec<&'static str> {
    decision
        .events
        .iter()
        .map(|event| event.code.as_str())
        .collect()
}

fn rejection(decision: &Decision) -> (Option<ErrorCode>, Detail) {
    match &decision.verdict {
        Verdict::Rejected { error, detail, .. } => (*error, *detail),
        Verdict::Admitted(effective) => panic!("{} was admitted", effective.id),
    }
}

fn admitted(decision: Decision) -> Effective {
    match decision.verdict {
        Verdict::Admitted(effective) => effective,
        Verdict::Rejected { problems, .. } => panic!("rejected: {problems}"),
    }
}

/// `ERR_CART_… detail`, or `CART-003 detail` where the contract has no error.
fn told(decision: &Decision) -> String {
    let (error, detail) = rejection(decision);
    let code = error.map_or(Code::Rejected.as_str(), ErrorCode::as_str);
    format!("{code} {detail}")
}

fn first_comment(text: &str) -> &str {
    text.lines().next().unwrap().strip_prefix("# ").unwrap()
}

#[test]
fn each_rejected_artifact_is_rejected_with_its_code() {
    for (name, text) in artifacts("rejected") {
        let decision = decide(&inputs(&name, text.as_bytes()));

        assert_eq!(told(&decision), first_comment(&text), "{name}");
        let last = decision.events.last().unwrap();
        assert_eq!(last.code, Code::Rejected, "{name}");
        assert!(
            last.message
                .as_ref()
                .is_some_and(|message| message.starts_with(&name)),
            "{name}"
        );
    }
}

#[test]
fn each_rejected_artifact_has_exactly_one_fault_and_an_accepted_twin() {
    let accepted = artifacts("accepted");

    for (name, text) in artifacts("rejected") {
        let twin = accepted.get(&name).unwrap_or(&accepted["example.toml"]);
        assert_ne!(&text, twin, "{name}");
        let decision = decide(&inputs(&name, text.as_bytes()));
        let Verdict::Rejected { problems, .. } = decision.verdict else {
            panic!("{name}")
        };
        assert_eq!(problems.list.len(), 1, "{problems}");
    }
}

#[test]
fn each_accepted_artifact_is_admitted() {
    for (name, text) in artifacts("accepted") {
        let decision = decide(&inputs(&name, text.as_bytes()));

        let last = decision.events.last().unwrap();
        assert_eq!(
            last.detail.as_deref(),
            Some(first_comment(&text)),
            "{name}: {last:?}"
        );
        admitted(decision);
    }
}

#[test]
fn every_accepted_artifact_has_a_rejected_twin() {
    let rejected = artifacts("rejected");

    for name in artifacts("accepted")
        .keys()
        .filter(|name| *name != "example.toml")
    {
        assert!(rejected.contains_key(name), "{name}");
    }
}

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    make: String,
    error: String,
    detail: String,
}

/// Makes the case under `path` and says what lies beside it.
fn make(case: &str, path: &Path) -> (bool, BTreeSet<String>) {
    let example = example();
    let write = |bytes: &[u8], mode: u32| {
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    let mut signature = false;
    let mut grants = BTreeSet::new();
    match case {
        "a fifo" => {
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
        }
        "a directory" => fs::create_dir(path).unwrap(),
        "a socket" => drop(UnixListener::bind(path).unwrap()),
        "a link out of the directory" => symlink("/etc/passwd", path).unwrap(),
        "a file that vanished" => {}
        "a file that everybody can write" => write(example.as_bytes(), 0o666),
        "a file that its group can write" => write(example.as_bytes(), 0o664),
        "two mebibytes" => {
            let filler = format!("# {}\n", "x".repeat(2 * 1024 * 1024));
            write((example + &filler).as_bytes(), 0o644);
        }
        "an empty file" => write(b"", 0o644),
        "an executable" => write(b"\x7fELF\x02\x01\x01\x00\xff\xfe", 0o644),
        "zeros" => write(&[0; 512], 0o644),
        "latin-1" => write(&[example.as_bytes(), b"# caf\xe9\n"].concat(), 0o644),
        "utf-16" => {
            let wide: Vec<u8> = example.encode_utf16().flat_map(u16::to_le_bytes).collect();
            write(&[&b"\xff\xfe"[..], &wide].concat(), 0o644);
        }
        "cut inside a string" => {
            let cut = example.rfind("reads").unwrap() + 3;
            write(&example.as_bytes()[..cut], 0o644);
        }
        "cut before the capabilities" => {
            let cut = example.find("[[envelope.capability]]").unwrap();
            write(&example.as_bytes()[..cut], 0o644);
        }
        "a signature beside it" => {
            write(example.as_bytes(), 0o644);
            signature = true;
        }
        "a site grant beside it" => {
            write(example.as_bytes(), 0o644);
            grants.insert("more.toml".to_owned());
        }
        other => panic!("no way to make {other:?}"),
    }
    (signature, grants)
}

/// Reads `name` as the daemon does and decides.
fn read_and_decide(
    directory: &TrustedDirectory,
    name: &str,
    beside: (bool, BTreeSet<String>),
) -> Decision {
    let mut inputs = inputs(name, b"");
    match directory.read(name) {
        Ok(bytes) => inputs.document = bytes,
        Err(error) => inputs.file_problem = Some(FileProblem::from(&error)),
    }
    (inputs.signature_present, inputs.site_grants) = beside;
    decide(&inputs)
}

#[test]
fn bad_files_are_rejected_and_none_disturbs_its_neighbour() {
    let text = fs::read_to_string(folder("cases.toml")).unwrap();
    let cases: Cases = toml::from_str(&text).unwrap();
    let owner = rustix::process::geteuid().as_raw();
    let temp = TempDir::new().unwrap();
    fs::set_permissions(temp.path(), Permissions::from_mode(0o755)).unwrap();
    fs::write(temp.path().join("good.toml"), example()).unwrap();
    fs::set_permissions(temp.path().join("good.toml"), Permissions::from_mode(0o644)).unwrap();
    let directory = TrustedDirectory::open(temp.path(), owner).unwrap();

    for (number, case) in cases.case.iter().enumerate() {
        let name = format!("case-{number}.toml");
        let beside = make(&case.make, &temp.path().join(&name));

        let decision = read_and_decide(&directory, &name, beside);

        assert_eq!(
            told(&decision),
            format!("{} {}", case.error, case.detail),
            "{}",
            case.make
        );
        admitted(read_and_decide(&directory, "good.toml", Default::default()));
    }
}

#[test]
fn no_beginning_of_an_artifact_is_admitted() {
    let example = example();
    for cut in 0..example.trim_end().len() {
        rejection(&decide(&inputs("cut.toml", &example.as_bytes()[..cut])));
    }
}

#[test]
fn an_admission_runs_through_every_step() {
    let decision = decide(&inputs("example.toml", example().as_bytes()));

    assert_eq!(
        codes(&decision),
        [
            "CART-001", "CART-010", "CART-004", "CART-008", "CART-008", "CART-002"
        ]
    );
    let details: Vec<_> = decision
        .events
        .iter()
        .map(|e| e.detail.as_deref().unwrap())
        .collect();
    assert_eq!(
        details,
        [
            "new",
            "schema-known",
            "envelope-valid",
            "envelope-digest",
            "executable-digest",
            "admitted"
        ]
    );
    assert!(
        decision
            .events
            .iter()
            .all(|e| e.artifact.as_deref() == Some("example"))
    );
}

#[test]
fn the_first_step_that_fails_is_the_verdict() {
    let all_wrong = changed("\"fs:read\"", "\"fs:write\"")
        .replace("/usr/bin/example", "/usr/bin/absent")
        .replace("id        = \"example\"", "id        = \"taken\"");
    let sealed = seal(&all_wrong, "x.toml").unwrap();
    let mut inputs = inputs("x.toml", b"");
    inputs.node.blockers = vec!["BPF_LSM_DISABLED".to_owned()];
    let mut verdict = |text: &str| {
        inputs.document = text.as_bytes().to_vec();
        let decision = decide(&inputs);
        (rejection(&decision).1, codes(&decision))
    };

    let steps = [
        (
            sealed.replace("\"1.0.0\"", "\"9\""),
            "schema-unknown",
            vec!["CART-003"],
        ),
        (
            sealed.split("[envelope]").next().unwrap().to_owned(),
            "envelope-missing",
            vec!["CART-010", "CART-003"],
        ),
        (
            sealed
                .split("[[envelope.capability]]")
                .next()
                .unwrap()
                .to_owned(),
            "capabilities-empty",
            vec!["CART-010", "CART-003"],
        ),
        (
            sealed.replace("justification", "reason"),
            "missing-key",
            vec!["CART-010", "CART-005", "CART-005", "CART-003"],
        ),
        (
            all_wrong.replace("[envelope]\ndigest", "[envelope]\n#digest"),
            "unsealed",
            vec!["CART-010", "CART-004", "CART-009", "CART-003"],
        ),
        (
            sealed.clone(),
            "waiting",
            vec!["CART-010", "CART-004", "CART-008", "CART-003"],
        ),
        (
            seal(&sealed.replace("/absent", "/example"), "x.toml").unwrap(),
            "duplicate-id",
            vec!["CART-010", "CART-004", "CART-008", "CART-008", "CART-003"],
        ),
        (
            changed("\"fs:read\"", "\"fs:write\""),
            "capability-out-of-scope",
            vec!["CART-010", "CART-004", "CART-008", "CART-008", "CART-003"],
        ),
        (
            example(),
            "node-cannot-enforce",
            vec!["CART-010", "CART-004", "CART-008", "CART-008", "CART-003"],
        ),
    ];
    for (text, detail, after_submission) in steps {
        let (found, codes) = verdict(&text);
        assert_eq!(found.as_str(), detail);
        assert_eq!(codes[0], "CART-001");
        assert_eq!(codes[1..], after_submission, "{detail}");
    }
}

#[test]
fn all_problems_of_a_step_are_told_at_once() {
    let text = example()
        .replace(
            "justification = \"reads its configuration\"",
            "justification = \"\"",
        )
        .replace("publisher = \"example\"", "publisher = \"Example\"");

    let decision = decide(&inputs("bad.toml", text.as_bytes()));

    let invalid: Vec<&Event> = decision
        .events
        .iter()
        .filter(|e| e.code == Code::EnvelopeInvalid)
        .collect();
    assert_eq!(invalid.len(), 2);
    assert_eq!(invalid[0].facts["line"], "7");
    let message = decision.events.last().unwrap().message.clone().unwrap();
    assert!(
        message.contains("bad.toml, line 7, column 13: publisher \"Example\""),
        "{message}"
    );
    assert!(
        message.contains("; bad.toml, line 19, column 17: justification"),
        "{message}"
    );
}

#[test]
fn a_missing_executable_waits_and_claims() {
    let text = changed("/usr/bin/example", "/usr/bin/absent");

    let decision = decide(&inputs("x.toml", text.as_bytes()));

    assert!(matches!(
        decision.verdict,
        Verdict::Rejected {
            error: None,
            detail: Detail::Waiting,
            waiting: true,
            ..
        }
    ));
    assert_eq!(decision.claims, ["/usr/bin/absent"]);
}

#[test]
fn an_executable_of_which_nothing_is_known_waits() {
    let mut inputs = inputs("x.toml", example().as_bytes());
    inputs.executables.clear();

    assert_eq!(rejection(&decide(&inputs)).1, Detail::Waiting);
}

#[test]
fn executables_are_claimed_while_rejected_and_while_admitted() {
    let broken = example().replace("\"1.0.0\"", "\"7\"");

    assert_eq!(
        decide(&inputs("x.toml", broken.as_bytes())).claims,
        ["/usr/bin/example"]
    );
    assert_eq!(
        decide(&inputs("x.toml", example().as_bytes())).claims,
        ["/usr/bin/example"]
    );
    assert!(decide(&inputs("x.toml", b"not toml =")).claims.is_empty());
}

#[test]
fn a_claim_on_a_system_program_has_no_effect() {
    for path in [
        "/usr/bin/bash",
        "/usr/sbin/sshd",
        "/usr/bin/python3.11",
        "/usr/sbin/cartouched",
    ] {
        let text = changed("/usr/bin/example", path);

        let decision = decide(&inputs("x.toml", text.as_bytes()));

        assert_eq!(rejection(&decision).0, Some(ErrorCode::OverScoped));
        assert!(decision.claims.is_empty(), "{path}");
    }
}

#[test]
fn a_site_lifts_the_exclusion_of_a_system_program_by_exact_path() {
    let text = changed("/usr/bin/example", "/usr/bin/bash");
    let mut inputs = inputs("x.toml", text.as_bytes());
    let lifted = inputs
        .scope
        .source
        .replace("[\"/**\"]\n", "[\"/**\", \"/usr/bin/bash\"]\n");
    inputs.scope = Scope::parse(lifted.as_bytes(), "scope.toml").unwrap();

    let decision = decide(&inputs);

    assert_eq!(decision.claims, ["/usr/bin/bash"]);
    admitted(decision);
}

#[test]
fn an_update_under_the_same_file_name_replaces_itself() {
    let mut inputs = inputs("example.toml", example().as_bytes());
    let executables = BTreeSet::from(["/usr/bin/example".to_owned()]);
    let itself = AdmittedSummary {
        unit: None,
        file: "example.toml".to_owned(),
        executables,
    };
    inputs.admitted.insert("example".to_owned(), itself.clone());

    let update = decide(&inputs);
    assert_eq!(update.events[0].detail.as_deref(), Some("update"));
    admitted(update);

    // Also where the update changes the id.
    inputs.admitted.remove("example");
    inputs.admitted.insert("old-id".to_owned(), itself);
    admitted(decide(&inputs));
}

#[test]
fn optional_capabilities_beyond_the_scope_are_left_out_and_named() {
    let text = example()
        + "\n[[envelope.capability]]\nname = \"fs:write\"\npaths = [\"/etc/x\"]\n\
           justification = \"x\"\nmandatory = false\n";
    let text = seal(&text, "x.toml").unwrap();

    let decision = decide(&inputs("x.toml", text.as_bytes()));

    let message = decision.events.last().unwrap().message.clone().unwrap();
    assert_eq!(
        message,
        "fs:write is beyond the scope and left out: fs:write \"/etc/x\""
    );
    let effective = admitted(decision);
    assert_eq!(effective.narrowed, [message]);
    assert_eq!(effective.capabilities.len(), 1);
}

#[test]
fn an_optional_profile_is_left_out_as_a_whole() {
    let text = example()
        + "\n[[envelope.capability]]\nname = \"profile:dns\"\njustification = \"x\"\n\
           mandatory = false\n";
    let text = seal(&text, "x.toml").unwrap();
    let mut inputs = inputs("x.toml", text.as_bytes());
    let narrow = "schema_version = \"1.0.0\"\n[site]\nexecutables = [\"/**\"]\n\
                  [[site.capability]]\nname = \"fs:read\"\npaths = [\"/etc/**\", \"/usr/**\", \"/run/**\"]\n";
    inputs.scope = Scope::parse(narrow.as_bytes(), "scope.toml").unwrap();

    let effective = admitted(decide(&inputs));

    assert_eq!(effective.capabilities.len(), 1);
    assert_eq!(effective.capabilities[0].origin, "fs:read");
    assert!(effective.narrowed[0].starts_with("profile:dns"));
}

#[test]
fn profiles_are_expanded_and_remember_their_name() {
    let text = changed(
        "name          = \"fs:read\"\npaths         = [\"/etc/example.conf\"]",
        "name = \"profile:dns\"",
    );

    let effective = admitted(decide(&inputs("x.toml", text.as_bytes())));

    let names: Vec<_> = effective
        .capabilities
        .iter()
        .map(|c| (c.capability.name, c.origin.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            (CapabilityName::FsRead, "profile:dns"),
            (CapabilityName::NetConnect, "profile:dns")
        ]
    );
    let json = serde_json::to_string(&effective).unwrap();
    assert_eq!(serde_json::from_str::<Effective>(&json).unwrap(), effective);
}

#[test]
fn a_profile_that_grants_more_than_this_build_enforces_is_refused() {
    let profile = "schema_version = \"1.0.0\"\ndescription = \"x\"\n[[capability]]\n\
                   name = \"code:load\"\nfile = [{ path = \"/x\", sha256 = \"HASH\" }]\n";
    let text = changed(
        "name          = \"fs:read\"\npaths         = [\"/etc/example.conf\"]",
        "name = \"profile:routes\"",
    );
    let profile = profile.replace("HASH", &"0".repeat(64));
    let mut inputs = inputs("x.toml", text.as_bytes());
    inputs.profiles = ProfileSet::load([("routes.toml".to_owned(), profile.into_bytes())]).0;

    let found = rejection(&decide(&inputs));

    assert_eq!(
        found,
        (Some(ErrorCode::InvalidEnvelope), Detail::Unsupported)
    );
}

/// The example with its program measured by the kernel.
fn measured() -> String {
    changed(
        "path   = \"/usr/bin/example\"",
        "path   = \"/usr/bin/example\"\nverify = \"measured\"",
    )
}

#[test]
fn a_measured_program_is_admitted_with_all_contents_that_it_declares() {
    let (own, next) = (sha256_hex(b"example"), sha256_hex(b"next"));
    let text = measured().replace(&format!("\"{own}\""), &format!("[\"{own}\", \"{next}\"]"));
    let text = seal(&text, "x.toml").unwrap();
    let mut inputs = inputs("x.toml", text.as_bytes());
    // by a descriptor of before, too: the kernel looks at each exec
    inputs.executables[0].written = true;

    let effective = admitted(decide(&inputs));

    assert_eq!(
        effective.executables[0].measured,
        BTreeSet::from([own, next])
    );
}

#[test]
fn a_measured_script_lies_where_it_can_be_kept_from_changing() {
    let mut inputs = inputs("x.toml", measured().as_bytes());
    inputs.executables[0].found.as_mut().unwrap().script = true;
    assert!(admitted(decide(&inputs)).executables[0].script);

    let found = inputs.executables[0].found.as_mut().unwrap();
    found.filesystem = "overlay".to_owned();
    assert_eq!(rejection(&decide(&inputs)).1, Detail::ExecutableFilesystem);
}

#[test]
fn a_node_without_ima_measures_nothing() {
    let mut inputs = inputs("x.toml", measured().as_bytes());
    inputs.node.measures = false;

    let found = rejection(&decide(&inputs));

    assert_eq!(found, (None, Detail::NodeCannotEnforce));
    inputs.document = example().into_bytes();
    admitted(decide(&inputs));
}

#[test]
fn a_node_that_lacks_a_domain_says_which_capability() {
    let mut inputs = inputs("x.toml", example().as_bytes());
    inputs.node.enforceable.remove(&CapabilityName::FsRead);

    let decision = decide(&inputs);

    assert_eq!(rejection(&decision), (None, Detail::NodeCannotEnforce));
    let message = decision.events.last().unwrap().message.clone().unwrap();
    assert!(message.contains("fs:read"), "{message}");
}

#[test]
fn verify_on_another_machine_skips_the_executables_only() {
    let text = changed("/usr/bin/example", "/usr/bin/absent");
    let mut inputs = inputs("x.toml", text.as_bytes());
    inputs.options.executables = false;

    let decision = decide(&inputs);

    assert_eq!(
        codes(&decision),
        ["CART-001", "CART-010", "CART-004", "CART-008", "CART-002"]
    );
    admitted(decision);
}

#[test]
fn the_submission_names_the_hash_of_every_input() {
    let inputs = inputs("example.toml", example().as_bytes());

    let decision = decide(&inputs);

    let facts = &decision.events[0].facts;
    assert_eq!(facts["file"], "example.toml");
    assert_eq!(facts["sha256.document"], sha256_hex(example().as_bytes()));
    for part in [
        "file",
        "scope",
        "executables",
        "node",
        "admitted",
        "options",
        "profile.base",
    ] {
        assert_eq!(
            facts[&format!("sha256.{part}")],
            sha256_hex(&inputs.parts()[part].bytes),
            "{part}"
        );
    }
}

#[test]
fn every_input_that_changes_the_decision_changes_a_hash() {
    let before = inputs("example.toml", example().as_bytes());
    let changes: [fn(&mut Inputs); 9] = [
        |i| i.name = "other.toml".to_owned(),
        |i| i.document.push(b'\n'),
        |i| i.signature_present = true,
        |i| i.site_grants = BTreeSet::from(["x.toml".to_owned()]),
        |i| {
            let text = format!("{}\n", i.scope.source);
            i.scope = Scope::parse(text.as_bytes(), "scope.toml").unwrap();
        },
        |i| i.executables[0].found = None,
        |i| i.node.blockers.push("x".to_owned()),
        |i| i.options.executables = false,
        |i| {
            let executables = BTreeSet::from(["/usr/bin/example".to_owned()]);
            let rival = AdmittedSummary {
                unit: None,
                file: "rival.toml".to_owned(),
                executables,
            };
            i.admitted.insert("rival".to_owned(), rival);
        },
    ];

    for (number, change) in changes.into_iter().enumerate() {
        let mut after = before.clone();
        change(&mut after);
        assert_ne!(after.hashes(), before.hashes(), "change {number}");
    }
}

#[test]
fn the_record_of_a_decision_does_not_grow_with_the_node() {
    let mut inputs = inputs("example.toml", example().as_bytes());
    let before = inputs.hashes();
    for number in 0..1000 {
        let executables = BTreeSet::from([format!("/usr/bin/other-{number}")]);
        let summary = AdmittedSummary {
            unit: None,
            file: format!("other-{number}.toml"),
            executables,
        };
        inputs.admitted.insert(format!("other-{number}"), summary);
    }

    assert_eq!(inputs.hashes(), before);
}

#[test]
fn the_same_inputs_give_the_same_decision() {
    for name in ["accepted", "rejected"] {
        for (name, text) in artifacts(name) {
            let once = decide(&inputs(&name, text.as_bytes()));
            let mut again = inputs(&name, text.as_bytes());
            again.executables.reverse();

            let json = |events: &[Event]| serde_json::to_string(&events[1..]).unwrap();
            let again = decide(&again);
            assert_eq!(once.verdict, again.verdict, "{name}");
            assert_eq!(json(&once.events), json(&again.events), "{name}");
            assert_eq!(once, decide(&inputs(&name, text.as_bytes())), "{name}");
        }
    }
}

#[test]
fn every_error_of_admission_is_in_the_table() {
    let told: BTreeSet<String> = artifacts("rejected")
        .values()
        .map(|text| first_comment(text).split(' ').next().unwrap().to_owned())
        .collect();

    for error in ErrorCode::ALL
        .iter()
        .filter(|error| **error != ErrorCode::DriftDetected)
    {
        assert!(told.contains(error.as_str()), "{error}");
    }
}

#[test]
fn another_implementation_of_the_digest_agrees() {
    let accepted: Vec<PathBuf> = artifacts("accepted")
        .keys()
        .map(|name| folder("accepted").join(name))
        .collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/digest_reference.py");

    let output = Command::new("python3")
        .arg(script)
        .args(&accepted)
        .output()
        .expect("python3 runs; Debian has it in the package python3");

    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let digests = String::from_utf8(output.stdout).unwrap();
    assert_eq!(digests.lines().count(), accepted.len());
    for (path, digest) in accepted.iter().zip(digests.lines()) {
        let draft = Draft::parse(&fs::read(path).unwrap(), "x.toml").unwrap();
        assert_eq!(draft.computed_digest(), digest, "{path:?}");
    }
}
