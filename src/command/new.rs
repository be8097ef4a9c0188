//! `cartouche new`: a draft for a program, with what can be seen from outside filled in and what to
//! do next in its comments.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::program::{Form, Linkage, look};
use super::{Answer, Error, symlink, verify};
use crate::artifact::capability::{Capability, CapabilityName};
use crate::artifact::digest::sha256_hex;
use crate::artifact::draft::Draft;
use crate::artifact::profile::ProfileSet;
use crate::artifact::scope::Scope;
use crate::artifact::{is_id, is_short_name};

/// Where a program is looked for that is named without a path, if PATH is not set.
const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Write a draft for a program, with hashes and the profiles that it needs
///
/// The draft goes to standard output. It is a beginning: what the program does with files and the
/// network cannot be seen from outside, and its comments say how to find out.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The program: a path, or a name that is looked for in PATH
    program: PathBuf,

    /// The artifact's id; by default made from the program's name
    #[arg(long, value_parser = id)]
    id: Option<String>,

    /// A library or plugin that it loads, to be pinned: it is mapped as long as it has the content that it
    /// has now. May be repeated
    #[arg(long, value_name = "FILE")]
    pin: Vec<PathBuf>,

    /// Who answers for the artifact
    #[arg(long, default_value = "local", value_parser = publisher)]
    publisher: String,
}

fn id(text: &str) -> Result<String, String> {
    is_id(text)
        .then(|| text.to_owned())
        .ok_or_else(|| "an id is of the form [a-z0-9][a-z0-9._-]{0,62}".to_owned())
}

fn publisher(text: &str) -> Result<String, String> {
    is_short_name(text)
        .then(|| text.to_owned())
        .ok_or_else(|| "a publisher is of the form [a-z0-9][a-z0-9_-]{0,62}".to_owned())
}

/// Libraries in the language of a script, by the beginning of its interpreter's name.
const SCRIPT_LIBRARIES: &[(&str, &[&str])] = &[
    (
        "python3",
        &[
            "/usr/lib/python3/**",
            "/usr/lib/python3.*",
            "/usr/local/lib/python3.*",
        ],
    ),
    (
        "perl",
        &[
            "/etc/perl/**",
            "/usr/share/perl/**",
            "/usr/share/perl5/**",
            "/usr/local/share/perl/**",
        ],
    ),
    (
        "ruby",
        &[
            "/usr/lib/ruby/**",
            "/usr/share/rubygems-integration/**",
            "/var/lib/gems/**",
        ],
    ),
    (
        "node",
        &["/usr/share/nodejs/**", "/usr/lib/node_modules/**"],
    ),
];

pub(super) fn run(args: &Args) -> Result<Answer, Error> {
    let found = find(&args.program)?;
    let path = fs::canonicalize(&found).map_err(Error::file("found", &found))?;
    let metadata = fs::metadata(&path).map_err(Error::file("examined", &path))?;
    let unfit = |message: &str| Error::Unfit {
        message: format!("The program {path:?} {message}"),
    };
    if !metadata.is_file() {
        return Err(unfit("is not a regular file"));
    }
    let Some(text_path) = path.to_str() else {
        return Err(unfit(
            "has a name that is not UTF-8 and cannot stand in an artifact",
        ));
    };
    let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
    let mut draft = Writing::default();
    if found != path {
        draft.notes.push(format!(
            "{} leads to {text_path}; an artifact names the file itself.",
            found.display()
        ));
    }
    if metadata.mode() & 0o6000 != 0 {
        draft.warnings.push(
            "The program has set-id bits and is rejected with them; remove them with chmod ug-s"
                .to_owned(),
        );
    }
    draft.warnings.extend(outside_scope(text_path));
    match look(&bytes, &path) {
        Form::Elf(linkage) => draft.elf(&linkage),
        Form::Script {
            interpreter,
            argument,
        } => {
            draft.warnings.push(verify::by_interpreter(text_path));
            draft.script(&interpreter, argument.as_deref());
        }
        Form::Other => return Err(unfit("is neither an ELF file nor a script with a #! line")),
    }
    draft.pins(&args.pin)?;
    let id = args.id.clone().unwrap_or_else(|| id_of(&found));
    let text = draft.text(&id, &args.publisher, text_path, &sha256_hex(&bytes));
    let warnings: Vec<_> = match Draft::parse(text.as_bytes(), &format!("{id}.toml")) {
        Ok(parsed) => draft
            .warnings
            .into_iter()
            .chain(symlink::warnings(&parsed.capabilities))
            .collect(),
        Err(problems) => {
            return Err(unfit(&format!(
                "cannot be put into an artifact: {problems}"
            )));
        }
    };
    let comments: String = warnings
        .iter()
        .map(|warning| format!("# Warning: {warning}.\n"))
        .collect();
    let json = serde_json::json!({ "id": id, "draft": text, "warnings": warnings });
    Answer::new(comments + &text, &json)
}

/// A program as a shell finds it.
fn find(program: &Path) -> Result<PathBuf, Error> {
    if program.components().count() > 1 || program.is_absolute() {
        return std::path::absolute(program).map_err(Error::file("found", program));
    }
    let search = std::env::var_os("PATH").unwrap_or_else(|| SEARCH.into());
    std::env::split_paths(&search)
        .map(|dir| dir.join(program))
        .find(|path| path.is_absolute() && path.is_file())
        .ok_or_else(|| Error::NotFound {
            message: format!("There is no program {program:?} in PATH; write its path"),
        })
}

/// A sentence if the shipped scope lets no artifact have this program.
fn outside_scope(path: &str) -> Option<String> {
    let scope = Scope::shipped().ok()?;
    let profiles = ProfileSet::shipped();
    let excluded = !scope
        .ceiling(None, &profiles)
        .allows_executable(path, false);
    excluded.then(|| {
        format!(
            "The shipped scope excludes {path}, because the system or other programs depend on it; the artifact is rejected unless executables in scope.toml names it"
        )
    })
}

/// An id from a file name.
fn id_of(path: &Path) -> String {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let id: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(63)
        .collect();
    if id.is_empty() {
        "program".to_owned()
    } else {
        id
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A draft in the making.
#[derive(Default)]
struct Writing {
    /// Sentences for its beginning.
    notes: Vec<String>,
    /// Its capabilities, in TOML.
    capabilities: String,
    /// Capabilities that the program may need, commented out.
    hints: String,
    warnings: Vec<String>,
}

impl Writing {
    fn elf(&mut self, linkage: &Linkage) {
        if linkage.dynamic {
            self.profile("base", "starts: dynamic linker, C library, time zone");
        } else {
            self.notes.push(
                "It is statically linked; profile:base may be more than it needs.".to_owned(),
            );
            self.profile("base", "starts: what its runtime reads of the system");
        }
        let needs = linkage.needs();
        for need in &needs {
            self.profile(need.profile, &need.why);
        }
        let resolves = needs
            .iter()
            .any(|need| matches!(need.profile, "dns" | "tls"));
        let dirs: Vec<_> = linkage
            .library_dirs
            .iter()
            .filter(|dir| !covered_by_base(dir))
            .map(|dir| format!("{dir}/**"))
            .collect();
        if !dirs.is_empty() {
            let dirs: Vec<_> = dirs.iter().map(String::as_str).collect();
            self.paths("fs:read", &dirs, "its own libraries");
            self.paths("code:load", &dirs, "its own libraries");
        }
        let go = !linkage.go_packages.is_empty();
        if go || linkage.calls(&["listen", "bind"]) {
            self.hint("net:listen", "endpoints = [\"tcp://*:8080\"]");
        }
        if go || linkage.calls(&["connect", "sendto"]) || resolves {
            self.hint("net:connect", "endpoints = [\"tcp://192.0.2.1:443\"]");
        }
        if linkage.calls(&[
            "execve",
            "execv",
            "execvp",
            "execvpe",
            "posix_spawn",
            "posix_spawnp",
            "system",
            "popen",
        ]) {
            self.hint("process:exec", "paths = [\"/usr/bin/…\"]");
        }
        if linkage.calls(&["dlopen"]) {
            self.hint("code:load", "paths = [\"/usr/lib/…/plugins/*\"]");
        }
        self.files();
    }

    fn script(&mut self, interpreter: &str, argument: Option<&str>) {
        let real = |path: &str| fs::canonicalize(path).ok()?.to_str().map(str::to_owned);
        let mut resolved = real(interpreter).unwrap_or_else(|| interpreter.to_owned());
        self.notes.push(format!("It is a script that {resolved} runs; the interpreter may be read and mapped without a rule."));
        self.profile(
            "base",
            "its interpreter starts: dynamic linker, C library, time zone",
        );
        if resolved.ends_with("/env") {
            let program = argument
                .into_iter()
                .flat_map(str::split_whitespace)
                .find(|word| !word.starts_with('-') && !word.contains('='))
                .and_then(|name| find(Path::new(name)).ok())
                .and_then(|path| real(path.to_str()?));
            if let Some(program) = program {
                self.paths("process:exec", &[&program], "env starts the interpreter");
                resolved = program;
            }
        }
        let name = resolved.rsplit('/').next().unwrap_or_default();
        let libraries = SCRIPT_LIBRARIES
            .iter()
            .find(|(start, _)| name.starts_with(start));
        if let Some((_, dirs)) = libraries {
            let dirs: Vec<_> = dirs.iter().flat_map(|dir| expand(dir)).collect();
            let dirs: Vec<_> = dirs.iter().map(String::as_str).collect();
            if !dirs.is_empty() {
                self.paths("fs:read", &dirs, "the language's own library");
                self.paths("code:load", &dirs, "the language's modules in machine code");
            }
        }
        self.hint(
            "process:exec",
            "paths = [\"/usr/bin/…\"]   # every program that the script runs",
        );
        self.files();
    }

    fn files(&mut self) {
        self.hint("fs:read", "paths = [\"/etc/…\", \"/srv/…/**\"]");
        self.hint(
            "fs:write",
            "paths = [\"/var/lib/…/**\"]   # fs:create and fs:delete likewise",
        );
    }

    fn profile(&mut self, profile: &str, why: &str) {
        self.capabilities.push_str(&format!(
            "\n[[envelope.capability]]\nname          = \"profile:{profile}\"\njustification = {}\n",
            quoted(why)
        ));
    }

    fn paths(&mut self, name: &str, paths: &[&str], why: &str) {
        let paths: Vec<_> = paths.iter().map(|path| quoted(path)).collect();
        self.capabilities.push_str(&format!(
            "\n[[envelope.capability]]\nname          = \"{name}\"\npaths         = [{}]\njustification = {}\n",
            paths.join(", "),
            quoted(why)
        ));
    }

    fn pins(&mut self, files: &[PathBuf]) -> Result<(), Error> {
        for (number, file) in files.iter().enumerate() {
            let real = fs::canonicalize(file).map_err(Error::file("found", file))?;
            let bytes = fs::read(&real).map_err(Error::file("read", &real))?;
            let path = real.to_str().ok_or_else(|| Error::Unfit {
                message: format!(
                    "The file {real:?} has a name that is not UTF-8 and cannot stand in an artifact"
                ),
            })?;
            if number == 0 {
                self.capabilities.push_str(
                    "\n[[envelope.capability]]\nname          = \"code:load\"\n\
                     justification = \"its libraries, as they are\"\n",
                );
            }
            self.capabilities.push_str(&format!(
                "\n[[envelope.capability.file]]\npath   = {}\nsha256 = \"{}\"\n",
                quoted(path),
                sha256_hex(&bytes)
            ));
        }
        Ok(())
    }

    fn hint(&mut self, name: &str, rule: &str) {
        self.hints.push_str(&format!(
            "#\n# [[envelope.capability]]\n# name = \"{name}\"\n# {rule}\n# justification = \"…\"\n"
        ));
    }

    fn text(&self, id: &str, publisher: &str, path: &str, sha256: &str) -> String {
        let notes: String = self
            .notes
            .iter()
            .map(|note| format!("# {note}\n"))
            .collect();
        let (capabilities, hints) = (&self.capabilities, &self.hints);
        let (shown, path) = (path, quoted(path));
        format!(
            r#"# Draft for {shown}, to be completed:
#   1. Add what the program needs, each with its reason; at the end stand beginnings. What is not
#      declared is refused.
#   2. cartouche seal {id}.toml       binds the envelope to the program
#   3. cartouche verify {id}.toml     says whether it would be admitted
#   4. cartouche install {id}.toml    puts it into force
#   5. cartouche denials {id}         shows what was refused, and the lines that would allow it
# "cartouche mode {id} audit --for 1h" only records what would be refused, while you find out.
{notes}schema_version = "1.0.0"

[artifact]
id          = "{id}"
version     = "1"          # yours; raise it with each change
publisher   = "{publisher}"
# description = "…"

[[artifact.executable]]
path   = {path}
sha256 = "{sha256}"

[envelope]
{capabilities}
# It may also need some of these:
{hints}"#
        )
    }
}

/// Whether profile:base lets code be loaded from there.
fn covered_by_base(dir: &str) -> bool {
    let profiles = ProfileSet::shipped();
    let mut base = Capability::new(CapabilityName::Profile);
    base.profile = Some("base".to_owned());
    let file = format!("{dir}/x");
    profiles.expand(&base).is_some_and(|capabilities| {
        capabilities
            .iter()
            .any(|one| one.name == CapabilityName::CodeLoad && one.grants_path(&file))
    })
}

/// The directories that a pattern with one `*` at its end names on this machine, as subtrees; any
/// other pattern if what it names exists.
fn expand(pattern: &str) -> Vec<String> {
    if let Some(dir) = pattern.strip_suffix("/**") {
        let there = fs::symlink_metadata(dir).is_ok_and(|metadata| metadata.is_dir());
        return there.then(|| pattern.to_owned()).into_iter().collect();
    }
    let Some((dir, start)) = pattern
        .strip_suffix('*')
        .and_then(|pattern| pattern.rsplit_once('/'))
    else {
        return Vec::new();
    };
    let mut found: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(start))
        .map(|name| format!("{dir}/{name}/**"))
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::artifact::digest::seal;
    use crate::command::Exit;
    use crate::command::verify::tests::verify;

    fn new(program: &Path) -> Result<Answer, Error> {
        new_with(program, &[])
    }

    fn new_with(program: &Path, pin: &[&Path]) -> Result<Answer, Error> {
        run(&Args {
            program: program.to_owned(),
            id: None,
            pin: pin.iter().map(|path| (*path).to_owned()).collect(),
            publisher: "local".into(),
        })
    }

    fn draft(answer: &Answer) -> Draft {
        Draft::parse(answer.text.as_bytes(), "x.toml").unwrap_or_else(|e| panic!("{e}"))
    }

    fn names(draft: &Draft) -> Vec<String> {
        draft
            .capabilities
            .iter()
            .map(Capability::full_name)
            .collect()
    }

    #[test]
    fn a_draft_for_an_elf_program_is_valid_once_sealed() {
        let program = std::env::current_exe().unwrap();

        let answer = new(&program).unwrap();

        let draft = draft(&answer);
        assert_eq!(
            draft.executables[0].path,
            program.canonicalize().unwrap().to_str().unwrap()
        );
        assert!(names(&draft).contains(&"profile:base".to_owned()));
        assert!(answer.text.contains("cartouche seal"));
        let sealed = seal(&answer.text, "x.toml").unwrap();
        let verdict = verify(&sealed, true);
        assert_eq!(verdict.exit, Exit::Done, "{}", verdict.text);
    }

    #[test]
    fn a_script_is_named_itself_and_its_interpreter_in_a_note() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().canonicalize().unwrap().join("Back Up!.sh");
        fs::write(&script, "#!/bin/sh -e\necho\n").unwrap();

        let answer = new(&script).unwrap();

        let draft = draft(&answer);
        assert_eq!(draft.id, "back-up-.sh");
        assert_eq!(draft.executables[0].path, script.to_str().unwrap());
        assert!(
            answer.text.contains("It is a script that "),
            "{}",
            answer.text
        );
        assert!(
            answer.text.contains("runs it without this envelope"),
            "{}",
            answer.text
        );
    }

    #[test]
    fn a_link_is_resolved_and_set_id_bits_are_warned_about() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        fs::write(real.join("tool"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(real.join("tool"), fs::Permissions::from_mode(0o4755)).unwrap();
        symlink("tool", real.join("link")).unwrap();

        let answer = new(&real.join("link")).unwrap();

        assert!(draft(&answer).executables[0].path.ends_with("/tool"));
        assert_eq!(draft(&answer).id, "link", "the name that was asked for");
        assert!(answer.text.contains("/link leads to "), "{}", answer.text);
        assert!(
            answer
                .text
                .contains("# Warning: The program has set-id bits")
        );
    }

    #[test]
    fn a_library_is_pinned_by_its_real_path_and_content() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        fs::write(real.join("tool"), "#!/bin/sh\n").unwrap();
        fs::write(real.join("lib.so.1"), "code").unwrap();
        symlink("lib.so.1", real.join("lib.so")).unwrap();

        let answer = new_with(&real.join("tool"), &[&real.join("lib.so")]).unwrap();

        let draft = draft(&answer);
        assert_eq!(draft.code[0].path, real.join("lib.so.1").to_str().unwrap());
        assert_eq!(draft.code[0].sha256, sha256_hex(b"code"));
        let missing = new_with(&real.join("tool"), &[&real.join("none")]);
        assert_eq!(missing.unwrap_err().exit(), Exit::NotFound);
    }

    #[test]
    fn what_cannot_be_run_or_found_has_no_draft() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("readme");
        fs::write(&text, "hello").unwrap();

        assert_eq!(new(&text).unwrap_err().exit(), Exit::Usage);
        assert_eq!(new(dir.path()).unwrap_err().exit(), Exit::Usage);
        assert_eq!(
            new(&dir.path().join("none")).unwrap_err().exit(),
            Exit::NotFound
        );
        assert_eq!(
            new(Path::new("no-such-program-x")).unwrap_err().exit(),
            Exit::NotFound
        );
    }

    #[test]
    fn ids_are_made_of_any_name() {
        for (name, id) in [
            ("Prometheus", "prometheus"),
            ("_x", "x"),
            ("é", "program"),
            ("a b", "a-b"),
        ] {
            assert_eq!(id_of(Path::new(name)), id);
            assert!(is_id(&id_of(Path::new(name))));
        }
    }

    #[test]
    fn the_system_s_own_programs_are_warned_about() {
        assert!(outside_scope("/usr/bin/dash").is_some());
        assert!(outside_scope("/opt/tool").is_none());
    }
}
