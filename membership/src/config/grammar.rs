//! The grammar of corosync.conf: lines, sections and keys, without their meanings.
//!
//! A line opens a section (`name {`), closes one (`}`), sets a key (`key: value`), or is empty or a
//! comment (first non-blank `#`). There is no quoting, no continuation and no comment behind a
//! value.
//!
//! The rules, their order and their limits are those of corosync 3.1, so a file has the same
//! meaning in both. Empty names are rejected, as in corosync's development branch. A line that
//! breaks a rule is reported, and reading continues with its probable meaning, so one run finds all
//! such lines.

use std::fmt;

use super::spelling::shown;

/// The longest text that is read, in bytes. corosync has no such limit. A real file has a few
/// thousand bytes.
pub const MAX_TEXT: usize = 256 * 1024;
/// The longest line, in bytes without its newline.
pub const MAX_LINE: usize = 510;
/// The longest dotted path of a section or key, in bytes.
pub const MAX_PATH: usize = 254;
/// The shortest dotted path of a key, in bytes.
pub const MIN_PATH: usize = 3;
/// The most errors that are reported. A text with more is probably not a corosync.conf.
pub const MAX_ERRORS: usize = 20;

/// The parsed contents of a file, in the order of its lines.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Document {
    /// All sections. A repeated section has an entry for each opening line.
    pub sections: Vec<Section>,
    /// All keys. A repeated key has an entry for each line that sets it.
    pub entries: Vec<Entry>,
}

/// A section, as opened by a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    /// The section's dotted path, such as `totem.interface`.
    pub path: String,
    /// The line that opens the section, from 1.
    pub line: u32,
    /// The enclosing section, as an index into [`Document::sections`].
    pub parent: Option<usize>,
}

/// A line that sets a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The key's dotted path, such as `totem.interface.mcastport`.
    pub path: String,
    /// The value, which may be empty. Bytes that are not UTF-8 are replaced.
    pub value: String,
    /// The bytes of the value.
    pub bytes: Vec<u8>,
    /// The key's line, from 1.
    pub line: u32,
    /// The section that contains the key, as an index into [`Document::sections`].
    pub section: Option<usize>,
}

impl Document {
    /// Returns `true` if `section` is `outer` or lies within it.
    pub fn is_within(&self, section: Option<usize>, outer: usize) -> bool {
        self.around(section).any(|index| index == outer)
    }

    /// Returns a section and its enclosing sections, innermost first.
    pub(super) fn around(&self, section: Option<usize>) -> impl Iterator<Item = usize> {
        std::iter::successors(section, |&index| self.sections[index].parent)
    }

    /// Returns the name of a section as written on its line.
    pub(super) fn name(&self, section: usize) -> &str {
        let Section { path, parent, .. } = &self.sections[section];
        self.within(path, *parent)
    }

    /// Returns the name of a key as written on its line.
    pub(super) fn key<'a>(&'a self, entry: &'a Entry) -> &'a str {
        self.within(&entry.path, entry.section)
    }

    fn within<'a>(&self, path: &'a str, section: Option<usize>) -> &'a str {
        let outer = section.map_or("", |index| &self.sections[index].path);
        path.strip_prefix(outer).map_or(path, |name| name.trim_start_matches('.'))
    }
}

/// A line that breaks the grammar.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: u32,
    /// The problem with the line.
    pub problem: SyntaxProblem,
}

/// A problem with a line.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SyntaxProblem {
    /// The text has more than [`MAX_TEXT`] bytes.
    TextTooLong,
    /// The text begins with the byte order mark that some editors write before UTF-8.
    ByteOrderMark,
    /// The lines of the text end in carriage returns alone.
    CarriageReturns,
    /// There are more than [`MAX_ERRORS`] errors.
    TooManyErrors,
    /// The line has more than [`MAX_LINE`] bytes.
    LineTooLong,
    /// The line contains a zero byte.
    Nul,
    /// `{` has no name before it.
    NamelessSection,
    /// The name of a section has its `{` on the next line.
    BraceApart {
        /// The name.
        name: String,
    },
    /// Text follows `{`.
    TextAfterOpening,
    /// Text that looks like a template's variable follows `{`.
    Template,
    /// Text precedes or follows `}`.
    TextAroundClosing,
    /// `}` has no open section.
    NothingToClose,
    /// The text ends within a section.
    Unclosed {
        /// The section's path.
        path: String,
        /// The line that opened it.
        line: u32,
    },
    /// The line has neither `{`, `}` nor `:`.
    Unrecognised {
        /// The line.
        text: String,
    },
    /// `:` has no key before it.
    NamelessKey,
    /// The path of a section or key is longer than [`MAX_PATH`].
    PathTooLong,
    /// The path of a key is shorter than [`MIN_PATH`].
    PathTooShort {
        /// The path.
        path: String,
    },
    /// The path of a section or key has a character that is not allowed.
    PathCharacter {
        /// The path.
        path: String,
        /// The character.
        character: char,
    },
}

impl SyntaxProblem {
    /// Returns `true` if a brace is missing or surplus. The difference shows only at the end of the
    /// text.
    pub(super) fn is_about_balance(&self) -> bool {
        matches!(self, Self::NothingToClose | Self::Unclosed { .. })
    }
}

impl fmt::Display for SyntaxProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TextTooLong => write!(f, "the file has more than {MAX_TEXT} bytes; is it a corosync.conf?"),
            Self::ByteOrderMark => {
                write!(f, "the file begins with a byte order mark; save it as UTF-8 without one")
            }
            Self::CarriageReturns => {
                write!(f, "the lines end in bare carriage returns; save the file with Unix line endings")
            }
            Self::TooManyErrors => {
                write!(f, "more than {MAX_ERRORS} lines are invalid; is it a corosync.conf?")
            }
            Self::LineTooLong => write!(f, "the line has more than {MAX_LINE} bytes; shorten it"),
            Self::Nul => write!(f, "the line contains a zero byte; is it a corosync.conf?"),
            Self::NamelessSection => write!(f, "`{{` needs a section name before it"),
            Self::BraceApart { name } => {
                write!(
                    f,
                    "`{}` opens a section only with `{{` on its line; move the next line's `{{` up",
                    shown(name)
                )
            }
            Self::TextAfterOpening => {
                write!(f, "nothing may follow `{{` on its line; put the rest on the next line")
            }
            Self::Template => {
                write!(f, "`{{` opens a section, and nothing may follow it; is this an unfilled template?")
            }
            Self::TextAroundClosing => {
                write!(f, "`}}` must be alone on its line; put the rest on another line")
            }
            Self::NothingToClose => {
                write!(f, "`}}` closes nothing; remove it, or look for a missing `{{` above")
            }
            Self::Unclosed { path, line } => {
                write!(
                    f,
                    "the file ends within section `{}`, opened at line {line}; add the missing `}}`",
                    shown(path)
                )
            }
            Self::Unrecognised { text } => {
                let advice = if text.contains('=') {
                    "; write `:` instead of `=`"
                } else if text.contains('\u{ff1a}') {
                    "; write `:` in plain ASCII"
                } else if text.split_whitespace().nth(1).is_some() {
                    "; is a `:` missing after the key?"
                } else {
                    ""
                };
                let text: String = text.chars().take(60).collect();
                write!(
                    f,
                    "the line `{}` is neither `section {{` nor `key: value` nor `}}`{advice}",
                    shown(&text)
                )
            }
            Self::NamelessKey => write!(f, "`:` needs a key before it"),
            Self::PathTooLong => {
                write!(f, "the name, including its sections, has more than {MAX_PATH} bytes; shorten it")
            }
            Self::PathTooShort { path } => {
                write!(f, "`{path}` is too short for a key; is the section around it missing?")
            }
            Self::PathCharacter { path, character } => write!(
                f,
                "`{}` contains {character:?}; names of keys and sections consist of letters, digits and \
                 `_-./:`",
                shown(path)
            ),
        }
    }
}

/// Parses a text, and reports every line that breaks the grammar, in their order.
pub fn parse(text: &[u8]) -> (Document, Vec<SyntaxError>) {
    const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
    let mut parser = Parser::default();
    if text.len() > MAX_TEXT {
        parser.number = 1;
        parser.report(SyntaxProblem::TextTooLong);
        return (parser.document, parser.errors);
    }
    let marked = text.strip_prefix(BYTE_ORDER_MARK);
    let text = marked.unwrap_or(text);
    let only_returns = text.contains(&b'\r') && !text.contains(&b'\n');
    for line in text.split_inclusive(|&byte| byte == if only_returns { b'\r' } else { b'\n' }) {
        parser.number += 1;
        if parser.number == 1 && marked.is_some() {
            parser.report(SyntaxProblem::ByteOrderMark);
        }
        if parser.number == 1 && only_returns {
            parser.report(SyntaxProblem::CarriageReturns);
        }
        if let Err(problem) = parser.line(line) {
            let ends = matches!(problem, SyntaxProblem::Nul);
            parser.report(problem);
            if ends {
                return (parser.document, parser.errors);
            }
        }
        if parser.errors.len() > MAX_ERRORS {
            parser.errors.truncate(MAX_ERRORS);
            parser.report(SyntaxProblem::TooManyErrors);
            return (parser.document, parser.errors);
        }
    }
    if let Some(index) = parser.open.filter(|_| !parser.unbalanced) {
        let section = &parser.document.sections[index];
        let swallowed = parser
            .document
            .entries
            .iter()
            .rfind(|entry| parser.document.is_within(entry.section, index) && entry.value.ends_with('}'));
        let (line, problem) = match swallowed {
            Some(entry) => (entry.line, SyntaxProblem::TextAroundClosing),
            None => {
                (parser.number, SyntaxProblem::Unclosed { path: section.path.clone(), line: section.line })
            }
        };
        parser.errors.push(SyntaxError { line, problem });
        parser.errors.sort_by_key(|error| error.line);
    }
    (parser.document, parser.errors)
}

/// The state of parsing a text.
#[derive(Default)]
struct Parser {
    document: Document,
    errors: Vec<SyntaxError>,
    /// The number of the current line, from 1.
    number: u32,
    /// The innermost open section.
    open: Option<usize>,
    /// Whether a `{` was not understood, so that braces can no longer be matched.
    unbalanced: bool,
    /// The previous line, if it was a single word. It may be the name of a section whose `{` stands
    /// on this line.
    word: Option<String>,
}

impl Parser {
    fn report(&mut self, problem: SyntaxProblem) {
        self.errors.push(SyntaxError { line: self.number, problem });
    }

    fn line(&mut self, line: &[u8]) -> Result<(), SyntaxProblem> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.len() > MAX_LINE {
            return Err(SyntaxProblem::LineTooLong);
        }
        if line.contains(&0) {
            return Err(SyntaxProblem::Nul);
        }
        let line = trimmed(line.strip_suffix(b"\r").unwrap_or(line));
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(());
        }
        let word = self.word.take();
        let text = String::from_utf8_lossy(line).into_owned();
        // The order of these checks is corosync's. `key: {` opens a section, and `key: }` sets a
        // key.
        if let Some((name, rest)) = text.split_once('{') {
            let name = name.trim_end_matches([' ', '\t', ':']);
            self.opening(name, rest, word).inspect_err(|_| self.unbalanced = true)
        } else if let Some((key, value)) = split_at_colon(line) {
            self.entry(&String::from_utf8_lossy(key), value)
        } else if text.contains('}') {
            match self.open {
                Some(open) => self.open = self.parent(open),
                None if self.unbalanced => {}
                None => return Err(SyntaxProblem::NothingToClose),
            }
            if text == "}" { Ok(()) } else { Err(SyntaxProblem::TextAroundClosing) }
        } else {
            if !text.contains(char::is_whitespace) {
                self.word = Some(text.clone());
            }
            Err(SyntaxProblem::Unrecognised { text })
        }
    }

    fn opening(&mut self, name: &str, rest: &str, word: Option<String>) -> Result<(), SyntaxProblem> {
        if let Some(name) = name.strip_prefix('}') {
            // `} quorum {`
            self.report(SyntaxProblem::TextAroundClosing);
            self.open = self.open.and_then(|open| self.parent(open));
            return self.opening(name.trim_start_matches(BLANK), rest, None);
        }
        if name.is_empty() {
            let Some(name) = word.filter(|_| rest.is_empty()) else {
                return Err(SyntaxProblem::NamelessSection);
            };
            if let Some(error) = self.errors.last_mut() {
                error.problem = SyntaxProblem::BraceApart { name: name.clone() };
            }
            return self.section(&name);
        }
        if name.ends_with(['$', '@']) || (rest.starts_with(['{', '%']) && rest.contains('}')) {
            return Err(SyntaxProblem::Template);
        }
        if !rest.is_empty() {
            // A section on a single line closes on that line.
            if !rest.contains('}') {
                self.section(name)?;
            }
            return Err(SyntaxProblem::TextAfterOpening);
        }
        self.section(name)
    }

    fn section(&mut self, name: &str) -> Result<(), SyntaxProblem> {
        let path = self.path(name);
        let fits = check_path(&path, name);
        self.document.sections.push(Section { path, line: self.number, parent: self.open });
        self.open = Some(self.document.sections.len() - 1);
        fits
    }

    fn entry(&mut self, key: &str, value: &[u8]) -> Result<(), SyntaxProblem> {
        let key = key.trim_end_matches(BLANK);
        if key.is_empty() {
            return Err(SyntaxProblem::NamelessKey);
        }
        if key.starts_with('}') {
            // `} # what it closes: a section`
            self.open = self.open.and_then(|open| self.parent(open));
            return Err(SyntaxProblem::TextAroundClosing);
        }
        let path = self.path(key);
        check_path(&path, key)?;
        if path.len() < MIN_PATH {
            return Err(SyntaxProblem::PathTooShort { path });
        }
        let bytes = trimmed(value).to_vec();
        let value = String::from_utf8_lossy(&bytes).into_owned();
        self.document.entries.push(Entry { path, value, bytes, line: self.number, section: self.open });
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        match self.open {
            Some(index) => format!("{}.{name}", self.document.sections[index].path),
            None => name.to_owned(),
        }
    }

    fn parent(&self, section: usize) -> Option<usize> {
        self.document.sections[section].parent
    }
}

const BLANK: [char; 2] = [' ', '\t'];

fn trimmed(line: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = line.iter().take_while(|byte| is_blank(byte)).count();
    let end = line[start..].iter().rev().take_while(|byte| is_blank(byte)).count();
    &line[start..line.len() - end]
}

fn split_at_colon(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    Some((&line[..colon], &line[colon + 1..]))
}

/// Checks a path and the characters of its last name. The names before it have been checked.
fn check_path(path: &str, name: &str) -> Result<(), SyntaxProblem> {
    if path.len() > MAX_PATH {
        return Err(SyntaxProblem::PathTooLong);
    }
    name.chars()
        .find(|&character| !is_path_character(character))
        .map_or(Ok(()), |character| Err(SyntaxProblem::PathCharacter { path: path.to_owned(), character }))
}

fn is_path_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-./:".contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Checks the text's keys as `path=value@line`, or its only problem as `line: problem`.
    fn check(text: &str, expect: Result<&[&str], &str>) {
        let (document, errors) = parse(text.as_bytes());
        let errors: Vec<_> = errors.iter().map(|e| format!("{}: {}", e.line, e.problem)).collect();
        match expect {
            Ok(expect) => {
                let entry = |e: &Entry| format!("{}={}@{}", e.path, e.value, e.line);
                let entries: Vec<_> = document.entries.iter().map(entry).collect();
                assert_eq!(errors, Vec::<String>::new(), "{text:?}");
                assert_eq!(entries, expect, "{text:?}");
            }
            Err(problem) => {
                let fits = errors.len() == 1 && errors[0].contains(problem);
                assert!(fits, "{text:?} gave {errors:?}, not {problem:?}");
            }
        }
    }

    #[test]
    fn keys_are_stored_under_the_path_of_their_sections() {
        check(
            "totem {\n\ttoken:  5000 \n interface {\nmcastport:1\n }\n}\n",
            Ok(&["totem.token=5000@2", "totem.interface.mcastport=1@4"]),
        );
    }

    #[test]
    fn dos_lines_and_a_missing_last_newline_are_fine() {
        check("totem {\r\ntoken: 5\r\n}", Ok(&["totem.token=5@2"]));
        check("foo {\nkey: 5\r\r\n}", Ok(&["foo.key=5\r@2"]));
    }

    #[test]
    fn a_hash_starts_a_comment_only_at_the_start_of_a_line() {
        check("  # x { }\nfoo: 2 # two\n", Ok(&["foo=2 # two@2"]));
    }

    #[test]
    fn a_value_may_be_empty_and_may_hold_colons_and_closing_braces() {
        check("foo:\nbar: fe80::1\nbaz: }\n", Ok(&["foo=@1", "bar=fe80::1@2", "baz=}@3"]));
    }

    #[test]
    fn an_opening_brace_wins_over_a_colon() {
        check("foo: {\nkey: 1\n}", Ok(&["foo.key=1@2"]));
        check("a:b {\nc: 1\n}", Ok(&["a:b.c=1@2"]));
    }

    #[test]
    fn repeated_sections_and_keys_are_all_kept() {
        check(
            "foo {\nkey: 1\n}\nfoo {\nkey: 2\nkey: 3\n}",
            Ok(&["foo.key=1@2", "foo.key=2@5", "foo.key=3@6"]),
        );
    }

    #[test]
    fn every_error_names_its_line_and_problem() {
        check("\n{\n}", Err("2: `{` needs a section name"));
        check(":{\n}", Err("1: `{` needs a section name"));
        check("foo { # no\n}", Err("1: nothing may follow `{`"));
        check("foo {{\n}", Err("1: nothing may follow `{`"));
        check(
            "foo {\nkey: {{ x }}\n}",
            Err("2: `{` opens a section, and nothing may follow it; is this an unfilled"),
        );
        check(
            "foo {\nkey: ${x}\n}",
            Err("2: `{` opens a section, and nothing may follow it; is this an unfilled"),
        );
        check("foo { key: 1 }", Err("1: nothing may follow `{`"));
        check("foo {\n}}\n", Err("2: `}` must be alone"));
        check("foo {\n}\n}\n", Err("3: `}` closes nothing"));
        check("foo {\nbar {\n}\n\n", Err("4: the file ends within section `foo`, opened at line 1"));
        check("foo {\nkey: 1 }\n", Err("2: `}` must be alone"));
        check("foo {\n} bar {\n}", Err("2: `}` must be alone"));
        check("foo {\n} # foo: the end", Err("2: `}` must be alone"));
        check("\nfoo\n\n{\n}", Err("2: `foo` opens a section only with `{` on its line"));
        check("foo", Err("1: the line `foo` is neither `section {` nor `key: value` nor `}`"));
        check(
            "foo = 1",
            Err("1: the line `foo = 1` is neither `section {` nor `key: value` nor `}`; write `:` instead"),
        );
        check("foo 1", Err("nor `}`; is a `:` missing after the key?"));
        check("foo\u{ff1a} 1", Err("nor `}`; write `:` in plain ASCII"));
        check("\u{feff}# x\n", Err("1: the file begins with a byte order mark"));
        check("# x\r# y\r", Err("1: the lines end in bare carriage returns"));
        check("foo {\n: 1\n}", Err("2: `:` needs a key"));
        check("ab: 1", Err("1: `ab` is too short"));
        check("foo {\nbad key: 1\n}", Err("2: `foo.bad key` contains ' '"));
        check("foo bar {\nkey: 1\n}", Err("1: `foo bar` contains ' '"));
        check("f\u{e4}o: 1", Err("1: `f\u{e4}o` contains '\u{e4}'"));
        check("foo: \0", Err("1: the line contains a zero byte"));
    }

    #[test]
    fn limits_are_those_of_corosync() {
        let x = |n: usize| "x".repeat(n);
        check(&format!("#{}\n", x(509)), Ok(&[]));
        check(&format!("#{}", x(509)), Ok(&[]));
        check(&format!("#{}\n", x(510)), Err("1: the line has more than 510 bytes"));
        check(&format!("foo {{\n{} {{\n}}\n}}", x(250)), Ok(&[]));
        check(&format!("foo {{\n{} {{\n}}\n}}", x(251)), Err("2: the name, including its sections"));
        check(&format!("foo {{\n{}: 1\n}}", x(251)), Err("2: the name, including its sections"));
        check(&"\n".repeat(MAX_TEXT + 1), Err("1: the file has more than"));
    }

    #[test]
    fn a_value_that_is_not_utf8_is_kept_as_text_and_bytes() {
        let (document, _) = parse(b"foo:  a\xffb \n");
        assert_eq!(document.entries[0].value, "a\u{fffd}b");
        assert_eq!(document.entries[0].bytes, b"a\xffb");
    }

    #[test]
    fn one_run_finds_every_line_that_breaks_the_grammar() {
        let (document, errors) = parse(b"foo {\nbad key: 1\nkey = 2\nkey: 3\n} }\nbar\n{\nkey: 4\n}\n");
        assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [2, 3, 5, 6]);
        let entries: Vec<_> = document.entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(entries, ["foo.key", "bar.key"]);
        let (_, errors) = parse("<x>\n".repeat(1000).as_bytes());
        assert_eq!(errors.len(), MAX_ERRORS + 1);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(text in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = parse(&text);
        }

        #[test]
        fn arbitrary_token_mixtures_do_not_panic(
            tokens in proptest::collection::vec(
                prop::sample::select(vec!["{", "}", ":", "\n", "\r", "#", " ", "\t", "totem", "ab", "\0", "\u{e4}"]),
                0..400,
            )
        ) {
            let (document, _) = parse(tokens.concat().as_bytes());
            // The parsed part must be consistent: each key lies under its section's path.
            for entry in &document.entries {
                if let Some(section) = entry.section {
                    prop_assert!(entry.path.starts_with(&document.sections[section].path));
                    prop_assert!(document.sections[section].line < entry.line);
                }
            }
        }
    }
}
