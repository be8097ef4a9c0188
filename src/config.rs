//! cartouche.toml: five layers, each checked on its own so that a fault has a file, a line and a
//! column, then merged. Where things lie is here too; only tests move them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use figment::Figment;
use figment::providers::Serialized;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_spanned::Spanned;

use crate::event::stable_words;
use crate::trusted_file::{self, Fault as FileFault, TrustedDirectory};

/// What every variable of the environment layer begins with.
const PREFIX: &str = "CARTOUCHED_";

/// Smallest size at which the audit log may be rotated, in bytes.
const MIN_SIZE: u64 = 64 << 10;

/// Most rotated files that may be kept.
const MAX_KEEP: usize = 999;

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
    /// Whether what no envelope declares is refused.
    #[derive(schemars::JsonSchema)]
    Mode {
        /// It is refused.
        Enforce = "enforce",
        /// It is recorded as what would have been refused.
        Audit = "audit",
    }
}

/// How the daemon behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub gate: Gate,
    pub mode: Mode,
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
            require: Require::default(),
            audit: AuditConfig {
                syslog: true,
                max_size: Size(64 << 20),
                keep: 8,
            },
        }
    }
}

/// A number of bytes, written as such or as `"64 MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in UNITS {
            if self.0 > 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{} {unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl FromStr for Size {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = text[digits.len()..].trim();
        let shift = match unit {
            "" => 0,
            _ => UNITS.iter().find(|(name, _)| *name == unit).ok_or(())?.1,
        };
        let number: u64 = digits.parse().map_err(|_| ())?;
        number.checked_mul(1 << shift).map(Self).ok_or(())
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes or a size such as \"64 MiB\"")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes)
                    .map(Size)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse()
                    .map_err(|()| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Where Cartouche's files lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// What the administrator writes.
    pub etc: PathBuf,
    /// What packages ship.
    pub lib: PathBuf,
    /// What outlives a reboot.
    pub state: PathBuf,
    /// What does not.
    pub run: PathBuf,
    /// The pins.
    pub bpffs: PathBuf,
    /// Where syslog listens.
    pub syslog: PathBuf,
    /// The user to whom the files must belong.
    pub owner: u32,
}

impl Default for Paths {
    fn default() -> Self {
        let mut paths = Self::under(Path::new("/"));
        paths.owner = 0;
        paths
    }
}

impl Paths {
    /// The same layout below another root, with files of this process's own user, for tests.
    pub fn under(root: &Path) -> Self {
        Self {
            etc: root.join("etc/cartouche"),
            lib: root.join("usr/lib/cartouche"),
            state: root.join("var/lib/cartouche"),
            run: root.join("run/cartouche"),
            bpffs: root.join("sys/fs/bpf/cartouche"),
            syslog: root.join("dev/log"),
            owner: rustix::process::geteuid().as_raw(),
        }
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.etc.join("cartouche.toml")
    }

    /// The administrator's artifacts.
    pub fn policies(&self) -> PathBuf {
        self.etc.join("policies.d")
    }

    /// The artifacts that packages ship.
    pub fn shipped_policies(&self) -> PathBuf {
        self.lib.join("policies.d")
    }

    /// What is admitted, revoked and audited.
    pub fn admitted(&self) -> PathBuf {
        self.state.join("admitted.json")
    }

    /// Where the daemon listens to the command.
    pub fn control(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// The posture report itself.
    pub fn report(&self) -> PathBuf {
        self.run.join("capabilities.json")
    }

    /// The link to the report that outlives a reboot, but leads nowhere after it.
    pub fn report_link(&self) -> PathBuf {
        self.state.join("capabilities.json")
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

/// One layer: what it says, and nothing of what it does not.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    require: Option<RequireLayer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<AuditLayer>,
    // Keys of the design that no domain of this build honours.
    #[serde(skip_serializing)]
    managed: Option<Spanned<toml::Value>>,
    #[serde(skip_serializing)]
    on_revoke: Option<Spanned<toml::Value>>,
    #[serde(skip_serializing)]
    guard: Option<Spanned<toml::Value>>,
    #[serde(skip_serializing)]
    admission: Option<AdmissionLayer>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequireLayer {
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exec_identity: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exec_runtime_deps: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ima_appraisal: Option<bool>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditLayer {
    #[serde(skip_serializing_if = "Option::is_none")]
    syslog: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_size: Option<Spanned<Size>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<Spanned<usize>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdmissionLayer {
    require_signature: Option<Spanned<toml::Value>>,
}

/// Every key that a layer may hold, those that this build refuses included.
const KEYS: &[&str] = &[
    "gate",
    "mode",
    "require.network",
    "require.exec_identity",
    "require.exec_runtime_deps",
    "require.ima_appraisal",
    "audit.syslog",
    "audit.max_size",
    "audit.keep",
    "managed",
    "on_revoke",
    "guard",
    "admission.require_signature",
];

/// A configuration and what was odd about its sources but no reason to refuse it.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Sentences without full stops.
    pub warnings: Vec<String>,
}

/// A fault in a layer: where in its text, if it has one, and what.
struct Fault {
    span: Option<std::ops::Range<usize>>,
    message: String,
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

impl Layer {
    fn parse(text: &str) -> Result<Self, Fault> {
        let layer: Self = toml::from_str(text).map_err(|error| Fault {
            span: error.span(),
            message: error.message().to_owned(),
        })?;
        layer.check()?;
        Ok(layer)
    }

    /// What the types cannot say: keys of a later build, and limits.
    fn check(&self) -> Result<(), Fault> {
        let signature = self
            .admission
            .as_ref()
            .and_then(|admission| admission.require_signature.as_ref());
        let later = [
            (
                "managed",
                self.managed.as_ref(),
                "hold back unadmitted programs",
            ),
            (
                "on_revoke",
                self.on_revoke.as_ref(),
                "kill what was revoked",
            ),
            ("guard", self.guard.as_ref(), "change how it guards itself"),
            ("admission.require_signature", signature, "check signatures"),
        ];
        for (key, value, what) in later {
            if let Some(value) = value {
                return Err(Fault {
                    span: Some(value.span()),
                    message: format!("this build cannot {what}: remove the key `{key}`"),
                });
            }
        }
        let Some(audit) = &self.audit else {
            return Ok(());
        };
        if let Some(size) = &audit.max_size
            && size.get_ref().0 < MIN_SIZE
        {
            return Err(Fault {
                span: Some(size.span()),
                message: format!("`max_size` must be at least {}", Size(MIN_SIZE)),
            });
        }
        if let Some(keep) = &audit.keep
            && !(1..=MAX_KEEP).contains(keep.get_ref())
        {
            return Err(Fault {
                span: Some(keep.span()),
                message: format!("`keep` must be between 1 and {MAX_KEEP}"),
            });
        }
        Ok(())
    }
}

/// The configuration file and its drop-ins with their bytes, in the order in which they are merged.
fn layer_files(paths: &Paths) -> Result<Vec<(PathBuf, Vec<u8>)>, Error> {
    let drop_ins = paths.etc.join("cartouche.toml.d");
    let mut files = read_files(&paths.etc, paths.owner, |name| name == "cartouche.toml")?;
    files.extend(read_files(&drop_ins, paths.owner, |name| {
        name.ends_with(".toml") && !name.starts_with('.')
    })?);
    Ok(files)
}

/// The wanted files of a directory in byte order of their names; a missing directory holds none, a
/// masked file says nothing.
fn read_files(
    dir: &Path,
    owner: u32,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(PathBuf, Vec<u8>)>, Error> {
    let unreadable = |source| Error::Unreadable { source };
    let dir = match TrustedDirectory::open(dir, owner) {
        Ok(dir) => dir,
        Err(error) if matches!(error.fault, FileFault::Vanished) => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for name in dir.names().map_err(unreadable)? {
        if !wanted(&name.to_string_lossy()) {
            continue;
        }
        match dir.read(&name) {
            Ok(bytes) => files.push((dir.path().join(name), bytes)),
            Err(error) if matches!(error.fault, FileFault::Vanished | FileFault::Masked) => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(files)
}

fn file_layer(path: PathBuf, bytes: Vec<u8>) -> Result<Layer, Error> {
    let fault = match String::from_utf8(bytes) {
        Ok(text) => match Layer::parse(&text) {
            Ok(layer) => return Ok(layer),
            Err(fault) => (
                position(&text, fault.span.map_or(0, |span| span.start)),
                fault.message,
            ),
        },
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            (
                position(&text, valid),
                "the file is not UTF-8 from here".to_owned(),
            )
        }
    };
    let ((line, column), message) = fault;
    Err(Error::Invalid {
        path,
        line,
        column,
        message,
    })
}

/// Line and column of a byte offset, both from 1, the column in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// One layer a variable, so that a fault names its variable.
fn environment_layers(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Layer>, Error> {
    let mut variables = BTreeMap::new();
    for (name, value) in environment {
        let name = name.to_string_lossy().into_owned();
        if let Some(key) = name.strip_prefix(PREFIX) {
            let key = key.replace("__", ".").to_ascii_lowercase();
            if KEYS.contains(&key.as_str()) {
                variables.insert(name, (key, value));
            } else {
                warnings.push(format!(
                    "The environment variable {name} names no setting and is ignored"
                ));
            }
        }
    }
    variables
        .into_iter()
        .map(|(name, (key, value))| {
            let value = value.to_string_lossy();
            let plain = value == "true" || value == "false" || value.parse::<u64>().is_ok();
            let value = if plain {
                value.into_owned()
            } else {
                toml::Value::String(value.into_owned()).to_string()
            };
            Layer::parse(&format!("{key} = {value}")).map_err(|fault| Error::Variable {
                name,
                message: fault.message,
            })
        })
        .collect()
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
        ];

        let config = load(&files, &variables).unwrap().config;

        assert_eq!(config.gate, Gate::AuditFallback);
        assert_eq!(config.mode, Mode::Audit);
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
        let layer = Layer {
            mode: Some(Mode::Audit),
            ..Layer::default()
        };
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
        for (text, key) in [
            ("managed = [\"/opt/**\"]", "managed"),
            ("on_revoke = \"kill\"", "on_revoke"),
            ("guard = false", "guard"),
            (
                "[admission]\nrequire_signature = true",
                "admission.require_signature",
            ),
        ] {
            let (_, _, message) = fault(text);

            assert!(message.starts_with("this build cannot"), "{message}");
            assert!(message.contains(key), "{message}");
        }
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
    fn sizes_read_back_as_they_are_shown() {
        for text in ["64 MiB", "1 GiB", "100 KiB", "65537"] {
            let size: Size = text.parse().unwrap();

            assert_eq!(size.to_string(), text);
        }
        assert_eq!("64MiB".parse(), Ok(Size(64 << 20)));
        assert_eq!("99999999999 GiB".parse::<Size>(), Err(()));
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
