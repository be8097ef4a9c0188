//! What is wrong with a file, where, and what to do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::{Detail, ErrorCode};

/// More problems than a person reads at once; the rest is counted.
pub const MAX_PROBLEMS: usize = 50;

/// Where something stands in a file. The default is the file as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Counted from 1; 0 for the file as a whole.
    pub line: usize,
    /// In characters, counted from 1; 0 for the file as a whole.
    pub column: usize,
}

/// One fault of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Counted from 1; 0 if the fault is the file as a whole.
    pub line: usize,
    /// In characters, counted from 1; 0 if the fault is the file as a whole.
    pub column: usize,
    /// Absent if the fault is not the file's: a missing executable, a node that cannot enforce.
    pub code: Option<ErrorCode>,
    pub detail: Detail,
    /// What is wrong and what to do, as a sentence without a full stop.
    pub message: String,
}

impl Problem {
    pub fn new(
        place: Place,
        code: impl Into<Option<ErrorCode>>,
        detail: Detail,
        message: impl Into<String>,
    ) -> Self {
        let Place { line, column } = place;
        Self {
            line,
            column,
            code: code.into(),
            detail,
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything wrong at the first step that failed, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems {
    /// The file's name, as messages show it.
    pub name: String,
    /// Whether `schema_version` was read and is known, so that the faults are those of a format.
    pub schema_known: bool,
    /// Never empty, at most fifty.
    pub list: Vec<Problem>,
    /// How many more there are.
    pub omitted: usize,
}

impl Problems {
    /// Sorts by place and cuts what no person reads.
    pub fn new(name: &str, schema_known: bool, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| (problem.line, problem.column));
        let omitted = list.len().saturating_sub(MAX_PROBLEMS);
        list.truncate(MAX_PROBLEMS);
        Self {
            name: name.to_owned(),
            schema_known,
            list,
            omitted,
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            f.write_str(&self.name)?;
            f.write_str(if problem.line > 0 { ", " } else { ": " })?;
            write!(f, "{problem}")?;
        }
        if self.omitted > 0 {
            write!(f, "; and {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
