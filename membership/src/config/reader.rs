//! Reading a document's keys so that none is lost: each is either taken for a value or warned about, and each value
//! remembers where it came from.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::grammar::{Document, Entry};
use super::{ConfigError, Host, Overrides, Place, Problem, remarks};

/// An effective value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Setting {
    /// Its name: corosync.conf's path of keys, nodes numbered from 0 (`nodelist.node.0.name`).
    pub key: String,
    /// What it is.
    pub value: Value,
    /// What a number counts (`ms`, `votes`, ...); empty if nothing.
    pub unit: &'static str,
    /// Where it comes from.
    pub source: Source,
}

/// A value, as JSON has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A number.
    Number(u64),
    /// Anything else.
    Text(String),
}

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// A line of the file.
    File(Place),
    /// Other values, or the host.
    Derived {
        /// From what.
        from: String,
    },
    /// Nobody said otherwise.
    Default,
    /// An option of the command line.
    CommandLine,
}

/// What a user should know, though the node starts. Prints as one line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Warning {
    /// Where it is about.
    pub place: Place,
    /// What it says.
    pub text: String,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(place) => place.fmt(f),
            Self::Derived { from } => write!(f, "derived from {from}"),
            Self::Default => f.write_str("default"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Self {
        Self::Text(address.to_string())
    }
}

impl Source {
    pub(super) fn derived(from: impl Into<String>) -> Self {
        Self::Derived { from: from.into() }
    }
}

/// A document with a tick at each key that has been taken.
pub(super) struct Reader<'a> {
    file: &'a str,
    pub(super) document: &'a Document,
    pub(super) overrides: &'a Overrides,
    pub(super) host: &'a Host,
    taken: Vec<bool>,
    pub(super) settings: Vec<Setting>,
    pub(super) warnings: Vec<Warning>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        file: &'a str,
        document: &'a Document,
        overrides: &'a Overrides,
        host: &'a Host,
    ) -> Self {
        let taken = vec![false; document.entries.len()];
        Self { file, document, overrides, host, taken, settings: Vec::new(), warnings: Vec::new() }
    }

    /// The key at this path, in whichever sections of one path it stands: they are one to corosync.
    pub(super) fn take(&mut self, path: &str) -> Option<&'a Entry> {
        self.take_last(|entry| entry.path == path)
    }

    /// Whether there is a key at this path.
    pub(super) fn is_given(&self, path: &str) -> bool {
        self.document.entries.iter().any(|entry| entry.path == path)
    }

    /// The key at this path, in this one of several sections.
    pub(super) fn take_within(&mut self, section: usize, path: &str) -> Option<&'a Entry> {
        self.take_last(|entry| entry.section == Some(section) && entry.path == path)
    }

    /// A later key overrides an earlier one, and says so.
    fn take_last(&mut self, matches: impl Fn(&Entry) -> bool) -> Option<&'a Entry> {
        let document = self.document;
        let mut last: Option<&Entry> = None;
        for (index, entry) in document.entries.iter().enumerate().filter(|(_, entry)| matches(entry)) {
            self.taken[index] = true;
            if let Some(earlier) = last.replace(entry) {
                self.warn(
                    Some(earlier.line),
                    format!("{} is set again at line {}, which counts", earlier.path, entry.line),
                );
            }
        }
        last
    }

    /// Ticks all keys of a section, and of those in it, for which one warning has been given.
    pub(super) fn pass_over(&mut self, section: usize) {
        for (entry, taken) in self.document.entries.iter().zip(&mut self.taken) {
            *taken |= self.document.is_within(entry.section, section);
        }
    }

    pub(super) fn number<T>(&self, entry: &Entry, range: RangeInclusive<T>) -> Result<T, ConfigError>
    where
        T: Copy + PartialOrd + TryFrom<i64> + Into<u64>,
    {
        // As strtoll has it: white space and a sign may go before the digits.
        let number = entry.value.trim_start().parse::<i64>().ok().and_then(|number| T::try_from(number).ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (key, value) = (entry.path.clone(), entry.value.clone());
            let (min, max) = (*range.start(), *range.end());
            self.refuse(entry, Problem::Number { key, value, min: min.into(), max: max.into() })
        })
    }

    /// A switch, off unless the file says `yes`.
    pub(super) fn yes_no(&mut self, path: &str) -> bool {
        self.yes_no_else(path, false)
    }

    /// A switch with this default.
    pub(super) fn yes_no_else(&mut self, path: &str, otherwise: bool) -> bool {
        let Some(entry) = self.take(path) else {
            self.show(path, if otherwise { "yes" } else { "no" }, "", Source::Default);
            return otherwise;
        };
        let on = entry.value == "yes";
        if !on && entry.value != "no" {
            let text =
                format!("{path} is `{}`, neither yes nor no; it counts as no, as with corosync", entry.value);
            self.warn(Some(entry.line), text);
        }
        self.show(path, if on { "yes" } else { "no" }, "", self.line(entry));
        on
    }

    pub(super) fn show(
        &mut self,
        key: impl Into<String>,
        value: impl Into<Value>,
        unit: &'static str,
        source: Source,
    ) {
        self.settings.push(Setting { key: key.into(), value: value.into(), unit, source });
    }

    pub(super) fn warn(&mut self, line: Option<u32>, text: impl Into<String>) {
        self.warnings.push(Warning { place: self.place(line), text: text.into() });
    }

    pub(super) fn error(&self, line: Option<u32>, problem: Problem) -> ConfigError {
        ConfigError { place: Some(self.place(line)), problem }
    }

    pub(super) fn refuse(&self, entry: &Entry, problem: Problem) -> ConfigError {
        self.error(Some(entry.line), problem)
    }

    pub(super) fn not_one_of(&self, entry: &Entry, expected: &'static str) -> ConfigError {
        let (key, value) = (entry.path.clone(), entry.value.clone());
        self.refuse(entry, Problem::Choice { key, value, expected })
    }

    pub(super) fn unsupported(&self, entry: &Entry, advice: &'static str) -> ConfigError {
        let (key, value) = (entry.path.clone(), entry.value.clone());
        self.refuse(entry, Problem::Unsupported { key, value, advice })
    }

    pub(super) fn place(&self, line: Option<u32>) -> Place {
        Place { file: self.file.to_owned(), line }
    }

    pub(super) fn line(&self, entry: &Entry) -> Source {
        Source::File(self.place(Some(entry.line)))
    }

    /// Warns about everything that nobody took: a section that means nothing here once, with its keys; a key in a
    /// section that does mean something by itself.
    pub(super) fn warn_about_the_rest(&mut self) {
        let document = self.document;
        for (index, section) in document.sections.iter().enumerate() {
            let is_outermost =
                section.parent.is_none_or(|p| remarks::is_known_section(&document.sections[p].path));
            if remarks::is_known_section(&section.path) || !is_outermost {
                continue;
            }
            let keys: Vec<_> = (document.entries.iter().zip(&self.taken))
                .filter(|(entry, taken)| !**taken && document.is_within(entry.section, index))
                .map(|(entry, _)| entry.path.trim_start_matches(&section.path).trim_start_matches('.'))
                .collect();
            let keys = if keys.is_empty() { String::new() } else { format!(" ({})", keys.join(", ")) };
            let text = format!("section `{}`{keys}: {}", section.path, remarks::on(&section.path));
            self.warn(Some(section.line), text);
            self.pass_over(index);
        }
        for (index, entry) in document.entries.iter().enumerate() {
            if !self.taken[index] {
                self.warn(Some(entry.line), format!("{}: {}", entry.path, remarks::on(&entry.path)));
            }
        }
        self.warnings.sort_by_key(|warning| warning.place.line);
    }
}
