//! `cartouche verify`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Answer, Error, Exit, symlink};
use crate::admission::{
    Decision, ExecutableFacts, FileProblem, Inputs, Node, Options, Verdict, decide,
};
use crate::artifact::capability::CapabilityName;
use crate::artifact::draft::{Claimed, Draft};
use crate::artifact::problem::Problems;
use crate::audit::printable;
use crate::config::Paths;
use crate::event::Detail;
use crate::executable;
use crate::site::Site;
use crate::trusted_file::{Fault, MAX_SIZE, TrustedDirectory};

/// Say what admission would say of an artifact, without the daemon
///
/// Ends with code 0 if it would be admitted and with 3 if not. Left to the daemon is whether the id or a
/// program is taken by another artifact, and whether this node can enforce at all. Whether only root can
/// have written the file is judged if it lies in a policies directory; what "cartouche install" puts there
/// is root's.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The artifact
    file: PathBuf,

    /// Do not compare the content of programs and pinned files, for a machine on which they are not
    /// installed
    #[arg(long)]
    no_executables: bool,
}

/// An artifact file and what the gate says of it.
pub(super) struct Checked {
    pub(super) bytes: Vec<u8>,
    pub(super) decision: Decision,
    /// What is no reason to reject it, as sentences.
    pub(super) warnings: Vec<String>,
}

pub(super) fn run(args: &Args, paths: &Paths) -> Result<Answer, Error> {
    let options = Options {
        executables: !args.no_executables,
        ..Options::default()
    };
    let untrusted = untrusted(&args.file, paths);
    judge(&args.file, untrusted, options, paths)?.answer(&args.file)
}

/// Runs the gate on a file that is to be copied, whoever wrote it.
pub(super) fn check(path: &Path, options: Options, paths: &Paths) -> Result<Checked, Error> {
    judge(path, None, options, paths)
}

/// Why the daemon would not trust a file that lies in one of its directories.
fn untrusted(path: &Path, paths: &Paths) -> Option<FileProblem> {
    let name = path.file_name()?;
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let parent = fs::canonicalize(parent.unwrap_or(Path::new("."))).ok()?;
    let directory = [paths.policies(), paths.shipped_policies()]
        .into_iter()
        .find(|directory| fs::canonicalize(directory).is_ok_and(|real| real == parent))?;
    let error = TrustedDirectory::open(&directory, paths.owner)
        .and_then(|directory| directory.read(name))
        .err()?;
    // what this user cannot read is not what the daemon cannot
    (!matches!(error.fault, Fault::System(_))).then(|| FileProblem::from(&error))
}

fn judge(
    path: &Path,
    untrusted: Option<FileProblem>,
    options: Options,
    paths: &Paths,
) -> Result<Checked, Error> {
    let (bytes, too_large) = read(path)?;
    let file_problem = untrusted.or(too_large);
    let site = Site::read(paths).map_err(|source| Error::Site { source })?;
    let mut warnings = site.problems;
    if let Ok(draft) = Draft::parse(&bytes, &path.to_string_lossy()) {
        warnings.extend(symlink::warnings(&draft.capabilities));
    }
    let claimed = Claimed::of(&bytes);
    let examine = |paths: &[String]| -> Vec<ExecutableFacts> {
        let paths = paths.iter().filter(|_| options.executables);
        paths.map(|path| executable::examine(path)).collect()
    };
    let (executables, code) = (examine(&claimed.paths), examine(&claimed.code));
    warnings.extend(executables.iter().filter_map(script_warning));
    let mut inputs = Inputs {
        name: path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        document: bytes.clone(),
        file_problem,
        signature_present: beside(path, ".minisig").exists(),
        site_grants: site_grants(&beside(path, ".d")),
        profiles: site.profiles,
        scope: site.scope,
        executables,
        code,
        node: Node {
            enforceable: CapabilityName::ALL.iter().copied().collect(),
            measures: true,
            blockers: Vec::new(),
        },
        admitted: BTreeMap::new(),
        options,
    };
    let mut decision = decide(&inputs);
    if let Verdict::Rejected {
        detail: Detail::Unsealed,
        problems,
        ..
    } = &mut decision.verdict
    {
        inputs.options.as_if_sealed = true;
        add_faults(problems, decide(&inputs));
    }
    if let Verdict::Admitted(effective) = &decision.verdict {
        warnings.extend(effective.loader_warnings(&inputs.executables));
    }
    Ok(Checked {
        bytes,
        decision,
        warnings,
    })
}

/// Adds to the missing digest what else is wrong.
fn add_faults(problems: &mut Problems, sealed: Decision) {
    if let Verdict::Rejected { problems: more, .. } = sealed.verdict {
        problems.list.extend(more.list);
        problems.omitted += more.omitted;
    }
}

/// A sentence if a program is a script: what else starts it is not known as it.
fn script_warning(executable: &ExecutableFacts) -> Option<String> {
    let script = executable.found.as_ref().is_some_and(|found| found.script);
    script.then(|| by_interpreter(&executable.path))
}

/// What an artifact cannot hold of a script.
pub(super) fn by_interpreter(path: &str) -> String {
    format!(
        "{path} is a script and is held only if it is run by its own path; an interpreter that is given it \
         as its argument (\"INTERPRETER {path}\") runs it without this envelope"
    )
}

/// The bytes of a file, none of them if it is too large to be an artifact.
fn read(path: &Path) -> Result<(Vec<u8>, Option<FileProblem>), Error> {
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Error::Unfit {
            message: format!("{path:?} is not a regular file"),
        });
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SIZE + 1).read_to_end(&mut bytes))
        .map_err(Error::file("read", path))?;
    if bytes.len() as u64 <= MAX_SIZE {
        return Ok((bytes, None));
    }
    let problem = FileProblem {
        detail: Detail::TooLarge,
        message: format!("the file is larger than {MAX_SIZE} bytes"),
    };
    Ok((Vec::new(), Some(problem)))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn site_grants(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".toml") && !name.starts_with('.'))
        .collect()
}

impl Checked {
    /// The verdict for people and programs.
    pub(super) fn answer(&self, path: &Path) -> Result<Answer, Error> {
        let file = printable(&path.to_string_lossy());
        let mut text = String::new();
        let (json, exit) = match &self.decision.verdict {
            Verdict::Admitted(effective) => {
                text.push_str(&format!(
                    "{file}: would be admitted: {} {} of {}, {}\n",
                    effective.id,
                    printable(&effective.version),
                    effective.publisher,
                    effective.digest
                ));
                for narrowed in &effective.narrowed {
                    text.push_str(&format!("{file}: narrowed: {}\n", printable(narrowed)));
                }
                let json = serde_json::json!({
                    "admissible": true,
                    "effective": effective,
                    "warnings": self.warnings,
                });
                (json, Exit::Done)
            }
            Verdict::Rejected {
                error,
                detail,
                waiting,
                problems,
            } => {
                for problem in &problems.list {
                    text.push_str(&format!("{file}: {}\n", printable(&problem.to_string())));
                }
                if problems.omitted > 0 {
                    text.push_str(&format!("{file}: and {} more\n", problems.omitted));
                }
                let code = error.map(|code| format!("{code}, ")).unwrap_or_default();
                let standing = if *waiting {
                    "would wait"
                } else {
                    "would be rejected"
                };
                text.push_str(&format!("{file}: {standing}: {code}{detail}\n"));
                let json = serde_json::json!({
                    "admissible": false,
                    "waiting": waiting,
                    "error": error,
                    "detail": detail,
                    "problems": problems,
                    "warnings": self.warnings,
                });
                (json, Exit::No)
            }
        };
        for warning in &self.warnings {
            text.push_str(&format!("{file}: warning: {}\n", printable(warning)));
        }
        Ok(Answer::new(text, &json)?.exit(exit))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::artifact::digest::seal;

    pub(in crate::command) const DRAFT: &str = r#"# a comment
schema_version = "1.0.0"

[artifact]
id        = "tool"
version   = "1"
publisher = "local"

[[artifact.executable]]
path   = "/opt/tool/bin/tool"
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

[envelope]

[[envelope.capability]]
name          = "fs:read"
paths         = ["/srv/tool/**"]
justification = "its data"
"#;

    pub(in crate::command) fn verify(text: &str, no_executables: bool) -> Answer {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("tool.toml");
        fs::write(&file, text).unwrap();
        let args = Args {
            file,
            no_executables,
        };
        run(&args, &Paths::under(root.path())).unwrap()
    }

    #[test]
    fn a_sealed_artifact_would_be_admitted() {
        let answer = verify(&seal(DRAFT, "tool.toml").unwrap(), true);

        assert_eq!(answer.exit, Exit::Done, "{}", answer.text);
        assert!(
            answer
                .text
                .contains("would be admitted: tool 1 of local, sha256:")
        );
        assert_eq!(answer.json["admissible"], true);
    }

    #[test]
    fn an_unsealed_draft_and_a_missing_program_are_a_no() {
        let unsealed = verify(DRAFT, true);
        let missing = verify(&seal(DRAFT, "tool.toml").unwrap(), false);

        assert_eq!(unsealed.exit, Exit::No);
        assert_eq!(unsealed.json["error"], "ERR_CART_DIGEST_MISMATCH");
        assert_eq!(missing.exit, Exit::No);
        assert_eq!(missing.json["waiting"], true, "{}", missing.text);
    }

    #[test]
    fn a_missing_digest_hides_no_other_fault() {
        let beyond = DRAFT.replace(
            "name          = \"fs:read\"",
            "name          = \"fs:setuid\"",
        );

        let answer = verify(&beyond, true);

        assert_eq!(answer.json["detail"], "unsealed");
        assert!(answer.text.contains("has no digest"), "{}", answer.text);
        assert!(answer.text.contains("beyond the scope"), "{}", answer.text);
    }

    #[test]
    fn faults_stand_with_file_line_column_and_code() {
        let answer = verify(&DRAFT.replace("fs:read", "fs:raed"), true);

        assert_eq!(answer.exit, Exit::No);
        assert!(
            answer.text.contains("tool.toml: line 16, column "),
            "{}",
            answer.text
        );
        assert!(
            answer.text.contains("ERR_CART_INVALID_ENVELOPE"),
            "{}",
            answer.text
        );
    }

    #[test]
    fn in_a_policies_directory_only_what_its_owner_alone_can_change_would_be_admitted() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        for directory in [paths.policies(), paths.shipped_policies()] {
            fs::create_dir_all(&directory).unwrap();
            let file = directory.join("tool.toml");
            fs::write(&file, seal(DRAFT, "tool.toml").unwrap()).unwrap();
            let verified = |mode: u32| {
                fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
                let args = Args {
                    file: file.clone(),
                    no_executables: true,
                };
                run(&args, &paths).unwrap()
            };

            let sound = verified(0o644);
            let open = verified(0o666);
            fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
            let open_directory = verified(0o644);

            assert_eq!(sound.exit, Exit::Done, "{}", sound.text);
            for answer in [open, open_directory] {
                assert_eq!(answer.exit, Exit::No);
                assert_eq!(answer.json["detail"], "untrusted", "{}", answer.text);
                assert!(answer.text.contains("chmod go-w"), "{}", answer.text);
            }
        }
    }

    #[test]
    fn elsewhere_a_file_is_judged_by_its_content() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("tool.toml");
        fs::write(&file, seal(DRAFT, "tool.toml").unwrap()).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        let args = Args {
            file,
            no_executables: true,
        };

        let answer = run(&args, &Paths::under(root.path())).unwrap();

        assert_eq!(answer.exit, Exit::Done, "{}", answer.text);
    }

    #[test]
    fn the_exporter_of_the_readme_and_of_the_demo_would_be_admitted_once_sealed() {
        let readme = include_str!("../../README.md");
        let (_, example) = readme.split_once("```toml\n").unwrap();
        let (example, _) = example.split_once("```\n").unwrap();
        let demo = include_str!("../../tests/demo/node-exporter.toml.in");
        let demo = demo.replace("@SHA256@", &"0".repeat(64));

        for text in [example, &demo] {
            let answer = verify(&seal(text, "tool.toml").unwrap(), true);

            assert_eq!(answer.exit, Exit::Done, "{}", answer.text);
            assert!(text.contains("/usr/lib/os-release"));
        }
    }

    #[test]
    fn a_script_is_warned_about() {
        let root = tempfile::tempdir().unwrap();
        let script = root.path().canonicalize().unwrap().join("script");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        let script = script.to_str().unwrap();

        let answer = verify(&DRAFT.replace("/opt/tool/bin/tool", script), false);

        let told = format!("warning: {script} is a script and is held only");
        assert!(answer.text.contains(&told), "{}", answer.text);
    }

    #[test]
    fn a_file_that_is_too_large_is_rejected_like_the_daemon_would() {
        let answer = verify(&"#".repeat(2 << 20), true);

        assert_eq!(answer.json["detail"], "too-large");
    }
}
