//! A TOML table read key by key: types, emptiness and control characters are checked here, every fault
//! is collected with its place. What keys there are and what they mean is the caller's.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{MAX_PROBLEMS, Place, Problem, Problems};
use crate::error::toml_fault;
use crate::event::{Detail, ErrorCode};

/// Longest list. Comparing patterns takes the square of their number.
pub const MAX_ELEMENTS: usize = 1024;

/// A value and where it stands in the text. Serialises as the value alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    pub value: T,
    /// In bytes.
    pub span: Range<usize>,
}

impl<T: Serialize> Serialize for At<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// One reading of one file: its text and the faults found so far.
pub struct Reader<'t> {
    name: &'t str,
    text: &'t str,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
    faults: RefCell<Vec<Fault>>,
}

/// A problem whose place is not looked up yet.
struct Fault {
    start: usize,
    code: ErrorCode,
    detail: Detail,
    message: String,
}

impl<'t> Reader<'t> {
    /// A reader of `bytes`, which must be UTF-8; `name` is the file's, for messages.
    pub fn new(name: &'t str, bytes: &'t [u8]) -> Result<Self, Problems> {
        let chunk = bytes.utf8_chunks().next();
        let text = chunk.as_ref().map_or("", |chunk| chunk.valid());
        let newlines = text.match_indices('\n').map(|(newline, _)| newline + 1);
        let lines = std::iter::once(0).chain(newlines).collect();
        let reader = Self {
            name,
            text,
            lines,
            faults: RefCell::default(),
        };
        if text.len() < bytes.len() {
            let message = "the bytes here are not UTF-8; save the file as UTF-8 text";
            reader.invalid(&(text.len()..text.len()), Detail::NotUtf8, message);
            return Err(reader.fail(false));
        }
        Ok(reader)
    }

    /// The TOML of the file, or all of its syntax errors.
    pub fn parse(&self) -> Result<Spanned<DeTable<'t>>, Problems> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let message = toml_fault(error, self.text);
            let message: Vec<&str> = message.lines().collect();
            self.report(
                &error.span().unwrap_or(0..0),
                ErrorCode::InvalidEnvelope,
                Detail::Syntax,
                format!("not TOML: {}", message.join(", ")),
            );
        }
        if errors.is_empty() {
            Ok(table)
        } else {
            Err(self.fail(false))
        }
    }

    /// The root table.
    pub fn root<'a>(&'a self, table: &'a Spanned<DeTable<'t>>) -> Table<'a, 't> {
        Table {
            reader: self,
            table: table.get_ref(),
            name: String::new(),
            span: 0..0,
            known: Vec::new(),
        }
    }

    pub fn report(
        &self,
        span: &Range<usize>,
        code: ErrorCode,
        detail: Detail,
        message: impl Into<String>,
    ) {
        let fault = Fault {
            start: span.start,
            code,
            detail,
            message: message.into(),
        };
        self.faults.borrow_mut().push(fault);
    }

    /// Reports a fault of the format.
    pub fn invalid(&self, span: &Range<usize>, detail: Detail, message: impl Into<String>) {
        self.report(span, ErrorCode::InvalidEnvelope, detail, message);
    }

    pub fn is_clean(&self) -> bool {
        self.faults.borrow().is_empty()
    }

    /// The faults so far.
    pub fn fail(&self, schema_known: bool) -> Problems {
        let mut faults = self.faults.take();
        faults.sort_by_key(|fault| fault.start);
        let omitted = faults.len().saturating_sub(MAX_PROBLEMS);
        let list = faults
            .into_iter()
            .take(MAX_PROBLEMS)
            .map(|f| Problem::new(self.place(f.start), f.code, f.detail, f.message))
            .collect();
        Problems {
            name: self.name.to_owned(),
            schema_known,
            list,
            omitted,
        }
    }

    /// Line and column of a byte.
    pub fn place(&self, byte: usize) -> Place {
        let line = self.lines.partition_point(|start| *start <= byte);
        let start = self
            .lines
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or_default();
        let before = self.text.get(start..byte).unwrap_or_default();
        Place {
            line,
            column: before.chars().count() + 1,
        }
    }
}

/// A table of the file; remembers which keys were asked for, so that all others are unknown.
pub struct Table<'a, 't> {
    reader: &'a Reader<'t>,
    table: &'a DeTable<'t>,
    /// As its header writes it, without brackets; empty for the root.
    name: String,
    pub span: Range<usize>,
    known: Vec<&'static str>,
}

impl<'a, 't> Table<'a, 't> {
    pub fn reader(&self) -> &'a Reader<'t> {
        self.reader
    }

    /// How messages call this table.
    pub fn title(&self) -> String {
        match self.name.as_str() {
            "" => "the file".to_owned(),
            name => format!("[{name}]"),
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where `key` is written, or where the table begins.
    pub fn key_span(&self, key: &str) -> Range<usize> {
        self.table
            .get_key_value(key)
            .map_or(self.span.clone(), |(key, _)| key.span())
    }

    /// Reads `schema_version`, which comes before anything else.
    pub fn schema_version(&mut self, known: &[&str]) -> Result<At<String>, Problems> {
        let reader = self.reader;
        let (detail, fault) = match self.string("schema_version") {
            Some(version) if known.contains(&version.value.as_str()) => return Ok(version),
            Some(version) => {
                let fault = format!(
                    "schema_version {:?} is unknown to this version",
                    version.value
                );
                (Detail::SchemaUnknown, fault)
            }
            None if self.has("schema_version") => {
                // Its type or content is wrong; it is one fault, under the schema's own code.
                let faults = reader.faults.take();
                let fault = faults.into_iter().next().map(|fault| fault.message);
                (Detail::SchemaUnknown, fault.unwrap_or_default())
            }
            None => (
                Detail::SchemaMissing,
                "there is no schema_version".to_owned(),
            ),
        };
        let message = format!(
            "{fault}; write schema_version = \"{}\"",
            known.join("\" or \"")
        );
        let span = self.key_span("schema_version");
        reader.report(&span, ErrorCode::SchemaUnknown, detail, message);
        Err(reader.fail(false))
    }

    /// A string that is neither empty nor holds control characters.
    pub fn string(&mut self, key: &'static str) -> Option<At<String>> {
        let value = self.value(key)?;
        self.check_string(key, value)
    }

    pub fn required_string(&mut self, key: &'static str) -> Option<At<String>> {
        self.require(key);
        self.string(key)
    }

    pub fn boolean(&mut self, key: &'static str) -> Option<At<bool>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(boolean) => Some(At {
                value: *boolean,
                span: value.span(),
            }),
            other => self.wrong_type(key, &value.span(), "true or false", other),
        }
    }

    /// A list of strings, none twice.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<At<String>>> {
        let value = self.value(key)?;
        let strings: Vec<_> = self
            .list(key, value)?
            .iter()
            // one that is none has its own problem; the others may have theirs
            .filter_map(|element| self.check_string(key, element))
            .collect();
        let mut seen = BTreeSet::new();
        for string in &strings {
            if !seen.insert(&string.value) {
                let message = format!("{:?} stands twice in {key}; remove one", string.value);
                self.reader
                    .invalid(&string.span, Detail::Duplicate, message);
            }
        }
        Some(strings)
    }

    /// A string, or a list of strings.
    pub fn string_or_strings(&mut self, key: &'static str) -> Option<Vec<At<String>>> {
        match self.value(key)?.get_ref() {
            DeValue::Array(_) => self.strings(key),
            _ => Some(vec![self.string(key)?]),
        }
    }

    /// How many elements the list at `key` has, those that could not be read included.
    pub fn length(&self, key: &str) -> usize {
        let list = self.table.get(key).and_then(|at| at.get_ref().as_array());
        list.map_or(0, |list| list.len())
    }

    /// Whether `key` holds a list.
    pub fn is_list(&self, key: &str) -> bool {
        self.table
            .get(key)
            .is_some_and(|value| value.get_ref().is_array())
    }

    pub fn table(&mut self, key: &'static str) -> Option<Table<'a, 't>> {
        let value = self.value(key)?;
        self.check_table(key, value)
    }

    /// `[[key]]`, at least one.
    pub fn tables(&mut self, key: &'static str) -> Option<Vec<Table<'a, 't>>> {
        let value = self.value(key)?;
        self.list(key, value)?
            .iter()
            .map(|element| self.check_table(key, element))
            .collect()
    }

    /// The tables of a table whose keys are names of the user's choice.
    pub fn named_tables(&mut self) -> Vec<(At<String>, Table<'a, 't>)> {
        let mut named = Vec::new();
        for (key, value) in self.table {
            if let Some(table) = self.check_table(key.get_ref(), value) {
                named.push((
                    At {
                        value: key.get_ref().to_string(),
                        span: key.span(),
                    },
                    table,
                ));
            }
        }
        named
    }

    /// Reports `key` if it is absent.
    pub fn require(&self, key: &str) {
        if !self.has(key) {
            let message = format!("{} has no {key}; add it", self.title());
            self.reader.invalid(&self.span, Detail::MissingKey, message);
        }
    }

    /// Reports every key that was not asked for.
    pub fn finish(&self) {
        for key in self.table.keys() {
            let word: &str = key.get_ref();
            if !self.known.contains(&word) {
                let message = format!(
                    "{} has no key {word:?}; it has {}",
                    self.title(),
                    self.known.join(", ")
                );
                self.reader
                    .invalid(&key.span(), Detail::UnknownKey, message);
            }
        }
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'t>>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key)
    }

    fn list(
        &self,
        key: &str,
        value: &'a Spanned<DeValue<'t>>,
    ) -> Option<&'a [Spanned<DeValue<'t>>]> {
        match value.get_ref() {
            DeValue::Array(list) if list.is_empty() => {
                let message = format!("{key} is an empty list; fill it or remove it");
                self.reader
                    .invalid(&value.span(), Detail::EmptyValue, message);
                None
            }
            DeValue::Array(list) if list.len() > MAX_ELEMENTS => {
                let message = format!(
                    "{key} has {} elements; the most is {MAX_ELEMENTS}",
                    list.len()
                );
                self.reader.invalid(&value.span(), Detail::TooMany, message);
                None
            }
            DeValue::Array(list) => Some(list),
            other => self.wrong_type(key, &value.span(), "a list", other),
        }
    }

    fn check_string(&self, key: &str, value: &Spanned<DeValue<'t>>) -> Option<At<String>> {
        let span = value.span();
        let DeValue::String(text) = value.get_ref() else {
            return self.wrong_type(key, &span, "a string", value.get_ref());
        };
        if text.is_empty() {
            let message = format!("{key} holds an empty string; fill it or remove it");
            self.reader.invalid(&span, Detail::EmptyValue, message);
            return None;
        }
        if let Some(control) = text.chars().find(|c| c.is_control()) {
            let message = format!(
                "{key} holds the control character U+{:04X}; write it on one line of plain text",
                u32::from(control)
            );
            self.reader
                .invalid(&span, Detail::ControlCharacter, message);
            return None;
        }
        Some(At {
            value: text.to_string(),
            span,
        })
    }

    fn check_table(&self, key: &str, value: &'a Spanned<DeValue<'t>>) -> Option<Table<'a, 't>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Table {
                reader: self.reader,
                table,
                name: match self.name.as_str() {
                    "" => key.to_owned(),
                    name => format!("{name}.{key}"),
                },
                span: value.span(),
                known: Vec::new(),
            }),
            other => self.wrong_type(key, &value.span(), "a table", other),
        }
    }

    fn wrong_type<T>(
        &self,
        key: &str,
        span: &Range<usize>,
        wanted: &str,
        found: &DeValue<'t>,
    ) -> Option<T> {
        let message = format!("{key} must be {wanted}, not {}", article(found.type_str()));
        self.reader.invalid(span, Detail::WrongType, message);
        None
    }
}

/// The type with its article.
fn article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {kind}")
}
