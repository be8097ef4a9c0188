//! cartouche.toml: five layers, each checked on its own so that a fault has a file, a line and a
//! column, then merged. Where things lie is here too; only tests move them.

mod layer;
mod paths;
mod size;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use figment::Figment;
use figment::providers::Serialized;
use serde::{Deserialize, Serialize};

pub use layer::Layer;
pub use paths::Paths;
pub use size::Size;

use crate::artifact::pattern::Pattern;
use crate::event::stable_words;
use crate::trusted_file;
use layer::{environment_layers, file_layer, layer_files};

stable_words! {
    /// What the daemon does when the node cannot enforce.
    #[derive(schemars::JsonSchema)]
    Gate {
        /// It refuses to start.
        FailClosed = "fail-closed",
        /// It records what it would have refused, and says so in the posture.
        AuditFallback = "audit-fallback",
    }
}

stable_words! {
    /// Whether Cartouche keeps others from its own pins, maps and daemon.
    #[derive(schemars::JsonSchema)]
    Guard {
        /// Root outside any artifact is refused them too; only PID 1 is not.
        On = "on",
        /// Only subjects are.
        Off = "off",
    }
}

stable_words! {
    /// Whether what no envelope declares is refused.
    #[derive(schemars::JsonSchema)]
    Mode {
        /// It is refused.
        Enforce = "enforce",
        /// It is recorded as what would have been refused.
        Audit = "audit",
    }
}

stable_words! {
    /// What becomes of the running tasks of an artifact whose file is removed.
    OnRevoke {
        /// Every hooked operation is refused to them.
        Deny = "deny",
        /// They are ended.
        Kill = "kill",
    }
}

/// How the daemon behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub gate: Gate,
    pub mode: Mode,
    /// Where nothing runs or is mapped executable that no artifact admits.
    pub managed: BTreeSet<Pattern>,
    pub on_revoke: OnRevoke,
    pub guard: Guard,
    pub require: Require,
    pub audit: AuditConfig,
}

/// What must be enforceable whether or not an artifact needs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Require {
    pub network: bool,
    pub exec_identity: bool,
    pub exec_runtime_deps: bool,
    pub ima_appraisal: bool,
}

/// Where the audit goes, beside audit.jsonl.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditConfig {
    pub syslog: bool,
    pub max_size: Size,
    /// How many rotated files are kept.
    pub keep: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            gate: Gate::FailClosed,
            mode: Mode::Enforce,
            managed: BTreeSet::new(),
            on_revoke: OnRevoke::Deny,
            guard: Guard::On,
            require: Require::default(),
            audit: AuditConfig {
                syslog: true,
                max_size: Size(64 << 20),
                keep: 8,
            },
        }
    }
}

/// Why the configuration is not taken.
#[derive(Debug)]
pub enum Error {
    /// A file or directory exists and cannot be read, or others than root may have written it.
    Unreadable { source: trusted_file::Error },
    /// A file is not a configuration.
    Invalid {
        path: PathBuf,
        line: usize,
        column: usize,
        message: String,
    },
    /// A variable of the environment has a value that its key cannot have.
    Variable { name: String, message: String },
    /// The layers are each right, but not together.
    Merge { source: Box<figment::Error> },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { .. } => f.write_str("The configuration could not be read"),
            Self::Invalid {
                path,
                line,
                column,
                message,
            } => write!(f, "{}:{line}:{column}: {message}", path.display()),
            Self::Variable { name, message } => {
                write!(f, "The environment variable {name}: {message}")
            }
            Self::Merge { .. } => {
                f.write_str("The layers of the configuration do not fit together")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source } => Some(source),
            Self::Merge { source } => Some(source.as_ref()),
            Self::Invalid { .. } | Self::Variable { .. } => None,
        }
    }
}

/// A configuration and what was odd about its sources but no reason to refuse it.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Sentences without full stops.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the five layers: defaults, `cartouche.toml`, `cartouche.toml.d/*.toml` in byte order of
    /// names, the variables `CARTOUCHED_KEY` and `CARTOUCHED_TABLE__KEY`, the command line. A missing
    /// file says nothing; a variable that names no key is only warned about.
    pub fn load(
        paths: &Paths,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        command_line: &Layer,
    ) -> Result<Loaded, Error> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        for (path, bytes) in layer_files(paths)? {
            figment = figment.merge(Serialized::defaults(file_layer(path, bytes)?));
        }
        let mut warnings = Vec::new();
        for layer in environment_layers(environment, &mut warnings)? {
            figment = figment.merge(Serialized::defaults(layer));
        }
        let config = figment
            .merge(Serialized::defaults(command_line))
            .extract()
            .map_err(|error| Error::Merge {
                source: Box::new(error),
            })?;
        Ok(Loaded { config, warnings })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The configuration of a root with these files in etc/cartouche.
    fn load(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Loaded, Error> {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        for (name, text) in files {
            let path = paths.etc.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let variables = variables
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Config::load(&paths, variables, &Layer::default())
    }

    fn fault(text: &str) -> (usize, usize, String) {
        match load(&[("cartouche.toml", text)], &[]) {
            Err(Error::Invalid {
                line,
                column,
                message,
                ..
            }) => (line, column, message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_any_file_the_defaults_hold() {
        let loaded = load(&[], &[("HOME", "/root")]).unwrap();

        assert_eq!(loaded.config, Config::default());
        assert_eq!(loaded.warnings, [""; 0]);
        assert_eq!(
            crate::audit::Limits::default(),
            crate::audit::Limits {
                max_size: loaded.config.audit.max_size.0,
                keep: loaded.config.audit.keep
            }
        );
    }

    #[test]
    fn later_layers_win_key_by_key() {
        let files = [
            (
                "cartouche.toml",
                "gate = \"audit-fallback\"\n[audit]\nkeep = 2\nmax_size = 100_000\nsyslog = false",
            ),
            ("cartouche.toml.d/20-b.toml", "[audit]\nkeep = 4"),
            (
                "cartouche.toml.d/10-a.toml",
                "[audit]\nkeep = 3\nmax_size = \"1 MiB\"",
            ),
            ("cartouche.toml.d/30-c.toml.dpkg-old", "["),
            ("cartouche.toml.d/.30-c.toml", "["),
        ];
        let variables = [
            ("CARTOUCHED_AUDIT__SYSLOG", "true"),
            ("CARTOUCHED_MODE", "audit"),
            ("CARTOUCHED_ON_REVOKE", "kill"),
        ];

        let config = load(&files, &variables).unwrap().config;

        assert_eq!(config.gate, Gate::AuditFallback);
        assert_eq!(config.mode, Mode::Audit);
        assert_eq!(config.on_revoke, OnRevoke::Kill);
        assert_eq!(
            config.audit,
            AuditConfig {
                syslog: true,
                max_size: Size(1 << 20),
                keep: 4
            }
        );
    }

    #[test]
    fn the_command_line_is_the_last_layer() {
        let root = tempfile::tempdir().unwrap();
        let layer = Layer::of_command_line(None, Some(Mode::Audit));
        let variables = [(OsString::from("CARTOUCHED_MODE"), OsString::from("enforce"))];

        let loaded = Config::load(&Paths::under(root.path()), variables, &layer).unwrap();

        assert_eq!(loaded.config.mode, Mode::Audit);
    }

    #[test]
    fn a_fault_has_a_line_and_a_column() {
        assert_eq!(fault("gate = \"fail-closed\"\nmood = 1").0, 2);
        assert_eq!(fault("[audit]\n  keep = \"x\"").0, 2);
        assert_eq!(fault("[audit]\n  keep = \"x\"").1, 10);
        assert_eq!(fault("gate = \"open\"").1, 8);
        assert_eq!(fault("\non_revoke = \"end\"").0, 2);
        assert_eq!(fault("\non_revoke = \"end\"").1, 13);
        assert_eq!(fault("[audit]\nkeep = 0").0, 2);
        assert_eq!(
            fault("[audit]\nmax_size = 5").2,
            "`max_size` must be at least 64 KiB"
        );
        assert!(
            fault("[audit]\nmax_size = \"5 MB\"")
                .2
                .contains("such as \"64 MiB\"")
        );
        assert_eq!(fault("gate =").0, 1);
    }

    #[test]
    fn managed_paths_are_patterns_that_leave_the_system_alone() {
        let managed = "managed = [\"/opt/extensions/**\", \"/usr/bin/tool\"]";
        let config = load(&[("cartouche.toml", managed)], &[]).unwrap().config;
        let written: Vec<_> = config.managed.iter().map(|path| path.as_str()).collect();
        assert_eq!(written, ["/opt/extensions/**", "/usr/bin/tool"]);

        for (text, place, word) in [
            ("managed = [\n \"/opt/*\",\n \"opt\"]", (3, 2), "\"opt\""),
            ("managed = \"/opt/**\"", (1, 11), "sequence"),
            ("managed = [\"/opt/a\", \"/opt/a\"]", (1, 22), "twice"),
            ("managed = [\"/usr/**\"]", (1, 12), "/usr/"),
            ("managed = [\"/**\"]", (1, 12), "/usr/"),
            ("managed = [\"/usr/sbin/*\"]", (1, 12), "/usr/sbin/"),
        ] {
            let (line, column, message) = fault(text);
            assert_eq!((line, column), place, "{message}");
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_not_read() {
        use std::os::unix::fs::PermissionsExt;

        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(&paths.etc).unwrap();
        fs::write(paths.config(), "mode = \"audit\"").unwrap();
        fs::set_permissions(paths.config(), fs::Permissions::from_mode(0o666)).unwrap();

        let loaded = Config::load(&paths, [], &Layer::default());

        assert!(matches!(loaded, Err(Error::Unreadable { .. })));
    }

    #[test]
    fn a_file_that_is_not_text_is_refused_with_its_place() {
        let fault = file_layer("x".into(), b"gate = 1\nmode = \"\xff\"".to_vec());

        assert!(matches!(
            fault,
            Err(Error::Invalid {
                line: 2,
                column: 9,
                ..
            })
        ));
    }

    #[test]
    fn a_setting_of_a_later_build_is_refused_by_name() {
        let (_, _, message) = fault("[admission]\nrequire_signature = true");

        assert!(message.contains("admission.require_signature"), "{message}");
        let variable = load(&[], &[("CARTOUCHED_ADMISSION__REQUIRE_SIGNATURE", "true")]);
        assert!(matches!(variable, Err(Error::Variable { .. })));
    }

    #[test]
    fn a_stray_variable_is_a_warning_and_a_wrong_value_an_error() {
        let loaded = load(&[], &[("CARTOUCHED_LOG_TARGET", "x"), ("CARTOUCHED_", "")]).unwrap();
        assert_eq!(loaded.warnings.len(), 2);

        let error = load(&[], &[("CARTOUCHED_AUDIT__KEEP", "many")]).unwrap_err();

        assert!(
            error.to_string().contains("CARTOUCHED_AUDIT__KEEP"),
            "{error}"
        );
    }

    #[test]
    fn a_value_of_the_environment_cannot_bring_other_keys() {
        let loaded = load(
            &[],
            &[("CARTOUCHED_MODE", "audit\"\ngate = \"audit-fallback")],
        );

        assert!(matches!(loaded, Err(Error::Variable { .. })));
    }

    #[test]
    fn the_shipped_file_shows_every_default_commented_out() {
        let shipped = include_str!("../packaging/cartouche.toml");
        let shown: String = shipped
            .lines()
            .map(|line| {
                line.strip_prefix('#')
                    .filter(|rest| !rest.starts_with(' '))
                    .unwrap_or(line)
            })
            .map(|line| format!("{line}\n"))
            .collect();

        let as_shipped = load(&[("cartouche.toml", shipped)], &[]).unwrap().config;
        assert_eq!(as_shipped, Config::default());
        assert_eq!(as_shipped, load(&[], &[]).unwrap().config);

        let layer = Layer::parse(&shown).unwrap_or_else(|fault| panic!("{}", fault.message));
        assert_eq!(
            serde_json::to_value(&layer).unwrap(),
            serde_json::to_value(Config::default()).unwrap()
        );
    }
}
