//! Test programs that were written for another security module, and what becomes of them here: the table of
//! rows, and how each is started outside, with an honest envelope and with a narrower one.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

mod cast;
mod ended;
mod room;

use std::collections::BTreeSet;

use serde::Deserialize;

pub use cast::{Part, Who, scope};
pub use ended::Ended;

/// Where all of the programs lie, also those that the others start.
pub const PEERS: &str = "/job/peers";

/// See rows.toml.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    program: String,
    #[serde(rename = "for")]
    what: Option<String>,
    #[serde(default)]
    arguments: String,
    command: Option<String>,
    #[serde(default)]
    files: Vec<String>,
    before: Option<String>,
    after: Option<String>,
    #[serde(default)]
    envelope: Vec<String>,
    without: Option<String>,
    #[serde(default)]
    instead: Vec<String>,
    #[serde(default)]
    pub always: bool,
    #[serde(default)]
    pub passes: bool,
    #[serde(default)]
    pub told: BTreeSet<String>,
    #[serde(default)]
    leaves: Vec<String>,
}

impl Row {
    pub fn name(&self) -> String {
        match &self.what {
            Some(what) => format!("{}-{what}", self.program),
            None => self.program.clone(),
        }
    }

    fn command(&self) -> String {
        let ordinary = || format!("SELF {}", self.arguments);
        self.command.clone().unwrap_or_else(ordinary)
    }

    /// Whether one of its envelopes refuses it something.
    pub fn is_refused(&self) -> bool {
        self.always || self.without.is_some()
    }

    /// Programs that play in it.
    pub fn programs(&self) -> impl Iterator<Item = String> {
        let command = self.command();
        let others = command
            .split(' ')
            .filter_map(|word| word.strip_prefix("PEERS/"));
        let others: Vec<_> = others.map(str::to_owned).collect();
        std::iter::once(self.program.clone()).chain(others)
    }

    /// What is wrong with how it is written down.
    fn problems(&self) -> Vec<String> {
        let missing = |line: &String| !self.envelope.contains(line);
        let checks = [
            (
                self.without.as_ref().is_some_and(missing),
                "takes away what is not there",
            ),
            (
                self.is_refused() == self.told.is_empty(),
                "told if refused, and only then",
            ),
            (
                self.always && (self.without.is_some() || !self.envelope.is_empty()),
                "has an envelope, and no envelope grants it",
            ),
        ];
        let problems = checks.into_iter().filter(|(is_wrong, _)| *is_wrong);
        problems
            .map(|(_, what)| format!("{}: {what}", self.name()))
            .collect()
    }
}

/// The whole table.
pub fn rows() -> Vec<Row> {
    #[derive(Deserialize)]
    struct Table {
        row: Vec<Row>,
    }
    let table: Table = toml::from_str(include_str!("rows.toml")).unwrap();
    table.row
}

/// What is wrong with the table, given the programs that there are.
pub fn problems(there: &BTreeSet<String>) -> Vec<String> {
    let rows = rows();
    let mut problems: Vec<String> = rows.iter().flat_map(Row::problems).collect();
    let playing: BTreeSet<String> = rows.iter().flat_map(Row::programs).collect();
    for name in playing.symmetric_difference(there) {
        problems.push(format!(
            "{name} is in the table or in the image, but not in both"
        ));
    }
    let mut names = BTreeSet::new();
    for row in &rows {
        if !names.insert(row.name()) {
            problems.push(format!("{} is there twice", row.name()));
        }
    }
    problems
}
