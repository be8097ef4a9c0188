//! One layer of the configuration: where it comes from, and what it may say.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_spanned::Spanned;

use super::{Error, Gate, Guard, Mode, OnRevoke, Paths, Size};
use crate::artifact::pattern::Pattern;
use crate::error::toml_fault;
use crate::trusted_file::{Fault as FileFault, TrustedDirectory};

/// What every variable of the environment layer begins with.
const PREFIX: &str = "CARTOUCHED_";

/// Smallest size at which the audit log may be rotated, in bytes.
const MIN_SIZE: u64 = 64 << 10;

/// Most rotated files that may be kept.
const MAX_KEEP: usize = 999;

/// One layer: what it says, and nothing of what it does not.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<Gate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    managed: Option<Vec<Spanned<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_revoke: Option<OnRevoke>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guard: Option<Guard>,
    #[serde(skip_serializing_if = "Option::is_none")]
    require: Option<RequireLayer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<AuditLayer>,
    // Keys of the design that no domain of this build honours.
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
    "on_revoke",
    "managed",
    "require.network",
    "require.exec_identity",
    "require.exec_runtime_deps",
    "require.ima_appraisal",
    "audit.syslog",
    "audit.max_size",
    "audit.keep",
    "guard",
    "admission.require_signature",
];

/// What a system needs to run at all, or to be mended: none of it is managed. A sample is enough, because
/// patterns name directories.
const VITAL: &[&str] = &[
    "/usr/bin/sh",
    "/usr/bin/bash",
    "/usr/bin/cartouche",
    "/usr/sbin/cartouched",
    "/usr/sbin/init",
    "/usr/libexec/cartouche/canary",
    "/usr/lib/systemd/systemd",
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "/usr/lib64/libc.so.6",
    "/usr/lib64/ld-linux-x86-64.so.2",
];

/// A fault in a layer: where in its text, if it has one, and what.
pub(super) struct Fault {
    span: Option<std::ops::Range<usize>>,
    pub(super) message: String,
}

impl Layer {
    /// What the daemon's command line may say.
    pub fn of_command_line(gate: Option<Gate>, mode: Option<Mode>) -> Self {
        Self {
            gate,
            mode,
            ..Self::default()
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let layer: Self = toml::from_str(text).map_err(|error| Fault {
            span: error.span(),
            message: toml_fault(&error, text),
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
        if let Some(value) = signature {
            return Err(Fault {
                span: Some(value.span()),
                message: "this build cannot check signatures: remove the key \
                          `admission.require_signature`"
                    .to_owned(),
            });
        }
        self.check_managed()?;
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

impl Layer {
    fn check_managed(&self) -> Result<(), Fault> {
        let mut seen = BTreeSet::new();
        for path in self.managed.iter().flatten() {
            let fault = |message| {
                Err(Fault {
                    span: Some(path.span()),
                    message,
                })
            };
            let text = path.get_ref();
            let pattern = match Pattern::parse(text) {
                Ok(pattern) => pattern,
                Err(error) => return fault(format!("`managed`: {text:?} {error}")),
            };
            if let Some(vital) = VITAL.iter().find(|vital| pattern.matches(vital)) {
                return fault(format!(
                    "`managed`: {text:?} covers {vital:?}, without which nothing runs; name less"
                ));
            }
            if !seen.insert(text) {
                return fault(format!("`managed`: {text:?} stands twice; remove one"));
            }
        }
        Ok(())
    }
}

/// The configuration file and its drop-ins with their bytes, in the order in which they are merged.
pub(super) fn layer_files(paths: &Paths) -> Result<Vec<(PathBuf, Vec<u8>)>, Error> {
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

pub(super) fn file_layer(path: PathBuf, bytes: Vec<u8>) -> Result<Layer, Error> {
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
pub(super) fn environment_layers(
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
