//! Reads a document's keys without losing any. Each key is either taken for a value or warned
//! about, and each value remembers its source.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::grammar::{Document, Entry};
use super::spelling::{flaw, nearest, oddity, shown};
use super::{Config, ConfigError, Host, Overrides, Place, Problem, remarks};

/// An effective value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Setting {
    /// The setting's name: corosync.conf's path of keys, with nodes numbered from 0
    /// (`nodelist.node.0.name`).
    pub key: String,
    /// The effective value.
    pub value: Value,
    /// The unit of a number (`ms`, `votes`, ...), or an empty string.
    pub unit: &'static str,
    /// The source of the value.
    pub source: Source,
}

/// A value, as represented in JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A number.
    Number(u64),
    /// Any other value.
    Text(String),
}

/// The source of a value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// A line of the file.
    File(Place),
    /// Other values, or the host.
    Derived {
        /// A description of the values it is derived from.
        from: String,
    },
    /// The default, because the value is not set.
    Default,
    /// An option of the command line.
    CommandLine,
}

/// A warning to the user that does not keep a node from starting. Prints as one line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Warning {
    /// The place that the warning is about.
    pub place: Place,
    /// The message.
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

/// A document with the state of reading it: the keys taken so far, and the results.
pub(super) struct Reader<'a> {
    file: &'a str,
    pub(super) document: &'a Document,
    pub(super) overrides: &'a Overrides,
    pub(super) host: &'a Host,
    taken: Vec<bool>,
    /// The sections that have been reported as a whole.
    passed: Vec<usize>,
    /// The paths that were looked for, which are those with a meaning.
    asked: BTreeSet<String>,
    /// The keys whose values were rejected. Values derived from them are not known.
    refused: BTreeSet<String>,
    /// Whether every line is understood and in its place. If not, a key that seems to be missing
    /// may be present.
    pub(super) whole: bool,
    pub(super) settings: Vec<Setting>,
    pub(super) warnings: Vec<Warning>,
    pub(super) errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        file: &'a str,
        document: &'a Document,
        overrides: &'a Overrides,
        host: &'a Host,
    ) -> Self {
        Self {
            file,
            document,
            overrides,
            host,
            taken: vec![false; document.entries.len()],
            passed: Vec::new(),
            asked: BTreeSet::new(),
            refused: BTreeSet::new(),
            whole: true,
            settings: Vec::new(),
            warnings: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Returns the value at this path, in any section of that path, because corosync merges
    /// sections of the same path. If the key is set several times, every value must be valid, and
    /// the last one counts.
    pub(super) fn value<T>(
        &mut self,
        path: &str,
        read: impl FnMut(&mut Self, &'a Entry) -> Option<T>,
    ) -> Option<(T, &'a Entry)> {
        self.asked.insert(path.to_owned());
        self.last(|entry| entry.path == path, read)
    }

    /// Returns the value at this path in this section only.
    pub(super) fn value_within<T>(
        &mut self,
        section: usize,
        path: &str,
        read: impl FnMut(&mut Self, &'a Entry) -> Option<T>,
    ) -> Option<(T, &'a Entry)> {
        self.asked.insert(path.to_owned());
        self.last(|entry| entry.section == Some(section) && entry.path == path, read)
    }

    /// Returns the key at this path, whatever its value.
    pub(super) fn take(&mut self, path: &str) -> Option<&'a Entry> {
        self.value(path, |_, entry| Some(entry)).map(|(entry, _)| entry)
    }

    /// Returns the key at this path in this section only.
    pub(super) fn take_within(&mut self, section: usize, path: &str) -> Option<&'a Entry> {
        self.value_within(section, path, |_, entry| Some(entry)).map(|(entry, _)| entry)
    }

    fn last<T>(
        &mut self,
        matches: impl Fn(&Entry) -> bool,
        mut read: impl FnMut(&mut Self, &'a Entry) -> Option<T>,
    ) -> Option<(T, &'a Entry)> {
        let document = self.document;
        let (mut value, mut last): (_, Option<&Entry>) = (None, None);
        for (index, entry) in document.entries.iter().enumerate().filter(|(_, entry)| matches(entry)) {
            self.taken[index] = true;
            if let Some(earlier) = last.replace(entry) {
                self.warn(
                    Some(earlier.line),
                    format!("{} is set again at line {}, which takes precedence", earlier.path, entry.line),
                );
            }
            value = read(self, entry).map(|value| (value, entry));
        }
        value
    }

    /// Returns `true` if there is a key at this path.
    pub(super) fn is_given(&self, path: &str) -> bool {
        self.document.entries.iter().any(|entry| entry.path == path)
    }

    /// Marks a section and its contents as handled, because one message has been given for all of
    /// them.
    pub(super) fn pass_over(&mut self, section: usize) {
        self.passed.push(section);
        for (entry, taken) in self.document.entries.iter().zip(&mut self.taken) {
            *taken |= self.document.is_within(entry.section, section);
        }
    }

    pub(super) fn number<T>(&mut self, entry: &Entry, range: RangeInclusive<T>) -> Option<T>
    where
        T: Copy + PartialOrd + TryFrom<i64> + Into<u64>,
    {
        if let Some((section, _)) =
            entry.path.rsplit_once('.').filter(|_| self.document.key(entry).contains('.'))
        {
            let what = format!(
                "`{}` is outside section `{section}`, where corosync ignores it",
                self.document.key(entry)
            );
            self.misplaced(entry.line, what, format!("move it into `{section} {{ }}`"));
            return None;
        }
        // As in strtoll, white space and a sign may precede the digits.
        let digits = entry.value.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
        let number = digits.parse::<i64>().ok().and_then(|number| T::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (key, value) = (entry.path.clone(), entry.value.clone());
            let (min, max) = ((*range.start()).into(), (*range.end()).into());
            self.refuse(entry, Problem::Number { key, value, min, max });
        }
        number
    }

    /// Reads a switch that is off unless the file says `yes`.
    pub(super) fn yes_no(&mut self, path: &str) -> bool {
        self.yes_no_else(path, false)
    }

    /// Reads a switch with this default.
    pub(super) fn yes_no_else(&mut self, path: &str, otherwise: bool) -> bool {
        let Some(entry) = self.take(path) else {
            self.show(path, if otherwise { "yes" } else { "no" }, "", Source::Default);
            return otherwise;
        };
        let on = entry.value == "yes";
        if !on && entry.value != "no" {
            let advice = flaw(&entry.value).map(|advice| format!("; {advice}")).unwrap_or_default();
            let text = format!(
                "{path} is `{}`, neither yes nor no; it is taken as no, as in corosync{advice}",
                shown(&entry.value)
            );
            self.warn(Some(entry.line), text);
        }
        self.show(path, if on { "yes" } else { "no" }, "", self.line(entry));
        on
    }

    /// Returns a free text as it is, and warns about oddities in it.
    pub(super) fn text(&mut self, entry: &Entry) -> String {
        if let Some(oddity) = oddity(&entry.value) {
            let text = format!("{} is `{}`: {oddity}", entry.path, shown(&entry.value));
            self.warn(Some(entry.line), text);
        }
        entry.value.clone()
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

    /// Replaces the value shown for a key by the effective one, if they differ.
    pub(super) fn correct(&mut self, key: &str, counts: impl Into<Value>, why: &str) {
        let counts = counts.into();
        let shown = self.settings.iter_mut().find(|setting| setting.key == key);
        if let Some(setting) = shown.filter(|setting| setting.value != counts) {
            let from = match &setting.source {
                Source::File(_) | Source::CommandLine => {
                    format!("{why}, despite {} ({})", setting.value, setting.source)
                }
                _ => why.to_owned(),
            };
            (setting.value, setting.source) = (counts, Source::Derived { from });
        }
    }

    pub(super) fn warn(&mut self, line: Option<u32>, text: impl Into<String>) {
        self.warnings.push(Warning { place: self.place(line), text: text.into() });
    }

    /// Warns about a missing part of the file, unless it may be in lines that were not understood.
    pub(super) fn warn_of_lack(&mut self, text: impl Into<String>) {
        if self.whole {
            self.warn(None, text);
        }
    }

    pub(super) fn error(&mut self, line: Option<u32>, problem: Problem) {
        self.errors.push(ConfigError { place: Some(self.place(line)), problem });
    }

    /// Reports a missing part of a section, unless it may be in lines that were not understood.
    pub(super) fn lack(&mut self, section: &str, line: Option<u32>, problem: Problem) {
        if self.whole && !self.is_doubtful(section) {
            self.error(line, problem);
        }
        self.doubt(section);
    }

    /// Marks a key as doubtful, so that no more problems with it are reported.
    pub(super) fn doubt(&mut self, key: &str) {
        self.refused.insert(key.to_owned());
    }

    /// Rejects a section or a key because of its place.
    pub(super) fn misplaced(&mut self, line: u32, what: String, advice: impl Into<String>) {
        self.whole = false;
        self.error(Some(line), Problem::Misplaced { what, advice: advice.into() });
    }

    /// Rejects a value. A flaw of the word itself is reported in place of this problem.
    pub(super) fn refuse(&mut self, entry: &Entry, problem: Problem) {
        let problem = match flaw(&entry.value) {
            Some(advice) => {
                let (key, value) = (entry.path.clone(), entry.value.clone());
                Problem::Flawed { key, value, advice: advice.to_owned() }
            }
            None => problem,
        };
        self.doubt(&entry.path);
        self.error(Some(entry.line), problem);
    }

    pub(super) fn not_one_of(&mut self, entry: &Entry, expected: &'static str) {
        let (key, value) = (entry.path.clone(), entry.value.clone());
        self.refuse(entry, Problem::Choice { key, value, expected });
    }

    pub(super) fn unsupported(&mut self, entry: &Entry, advice: &'static str) {
        let (key, value) = (entry.path.clone(), entry.value.clone());
        self.refuse(entry, Problem::Unsupported { key, value, advice });
    }

    pub(super) fn advise(&mut self, entry: &Entry, advice: impl Into<String>) {
        let (key, value) = (entry.path.clone(), entry.value.clone());
        self.refuse(entry, Problem::Flawed { key, value, advice: advice.into() });
    }

    /// Reports the problems of [`Config::check`] at the lines that set the values. Leaves out
    /// problems that a rejected value may have caused.
    pub(super) fn check(&mut self, config: &Config) {
        for problem in config.problems() {
            let Problem::Broken { key, mut value, rule, other } = problem else { continue };
            let source =
                |key: &str| self.settings.iter().find(|setting| setting.key == key).map(|s| &s.source);
            let line = |key: &str| match source(key) {
                Some(Source::File(place)) => place.line,
                _ => None,
            };
            let stands_alone = other.is_none() && line(key).is_some() && !self.refused.contains(key);
            // This node's id is determined by the list.
            if key == "this node's id" && self.is_doubtful("nodelist") {
                continue;
            }
            let is_doubtful =
                !self.whole || self.is_doubtful(key) || other.is_some_and(|other| self.is_doubtful(other));
            if is_doubtful && !stands_alone {
                continue;
            }
            if let Some(source @ (Source::Derived { .. } | Source::Default)) = source(key) {
                value = format!("{value}, {source}");
            }
            let line = line(key).or_else(|| line(other?));
            self.error(line, Problem::Broken { key, value, rule, other });
        }
    }

    /// Returns `true` if a value in the same outermost section has been rejected.
    fn is_doubtful(&self, path: &str) -> bool {
        let section = |path: &str| path.split('.').next().map(str::to_owned);
        self.refused.iter().any(|refused| section(refused) == section(path))
    }

    pub(super) fn place(&self, line: Option<u32>) -> Place {
        Place { file: self.file.to_owned(), line }
    }

    pub(super) fn line(&self, entry: &Entry) -> Source {
        Source::File(self.place(Some(entry.line)))
    }

    /// Warns about everything that was not taken. A section without meaning is reported once, with
    /// its keys. A key without meaning in a known section is reported by itself.
    pub(super) fn warn_about_the_rest(&mut self) {
        let document = self.document;
        for (index, section) in document.sections.iter().enumerate() {
            let is_outermost =
                section.parent.is_none_or(|p| remarks::is_known_section(&document.sections[p].path));
            let is_passed = self.passed.iter().any(|&passed| document.is_within(Some(index), passed));
            if remarks::is_known_section(&section.path) || !is_outermost || is_passed {
                continue;
            }
            let entries: Vec<_> = (document.entries.iter().zip(&self.taken))
                .filter(|(entry, taken)| !**taken && document.is_within(entry.section, index))
                .map(|(entry, _)| entry)
                .collect();
            let refused: String = entries.iter().filter_map(|entry| refused_by_corosync(entry)).collect();
            let keys: Vec<_> = entries
                .iter()
                .map(|entry| entry.path.trim_start_matches(&section.path).trim_start_matches('.'))
                .collect();
            let keys = if keys.is_empty() { String::new() } else { format!(" ({})", keys.join(", ")) };
            let text = format!("section `{}`{keys}: {}{refused}", section.path, self.remark(&section.path));
            self.warn(Some(section.line), text);
            self.pass_over(index);
        }
        for (index, entry) in document.entries.iter().enumerate() {
            if !self.taken[index] {
                let refused = refused_by_corosync(entry).unwrap_or_default();
                let text = format!("{}: {}{refused}", entry.path, self.remark(&entry.path));
                self.warn(Some(entry.line), text);
            }
        }
        self.warnings.sort_by_key(|warning| warning.place.line);
    }

    /// Returns the remark on a key or section without effect. If it is unknown, suggests the name
    /// that was probably meant.
    fn remark(&self, path: &str) -> String {
        if let Some(remark) = remarks::on(path) {
            return remark.to_owned();
        }
        let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
        let here = self
            .asked
            .iter()
            .map(String::as_str)
            .filter(|asked| asked.rsplit_once('.').is_some_and(|(other, _)| other == section));
        let alike = nearest(key, here.filter_map(|asked| asked.rsplit('.').next()));
        let elsewhere = self.asked.iter().find(|asked| asked.rsplit('.').next() == Some(key));
        match (alike, elsewhere) {
            (Some(alike), _) => format!("unknown, ignored; did you mean `{alike}`?"),
            (None, Some(elsewhere)) => format!("unknown, ignored; did you mean `{elsewhere}`?"),
            (None, None) => "unknown, ignored; check its spelling and its section".to_owned(),
        }
    }
}

fn refused_by_corosync(entry: &Entry) -> Option<String> {
    let wanted = remarks::refusal(&entry.path, &entry.value)?;
    Some(format!("; corosync would not start with `{}`, {wanted}", shown(&entry.value)))
}
