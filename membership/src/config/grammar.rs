//! The grammar of corosync.conf: lines, sections, keys; no meanings.
//!
//! A line opens a section (`name {`), closes one (`}`), sets a key (`key: value`), or is empty or a comment (first
//! non-blank `#`). There is no quoting, no continuation and no comment behind a value. The rules, their order and their
//! limits are those of corosync 3.1, so that a file means here what it means there; where corosync's development
//! branch has become stricter (empty names), so is this.

use std::fmt;

/// The longest text that is read, in bytes. corosync has no such limit; a real file has a few thousand.
pub const MAX_TEXT: usize = 256 * 1024;
/// The longest line, in bytes without its newline.
pub const MAX_LINE: usize = 510;
/// The longest dotted path of a section or key, in bytes.
pub const MAX_PATH: usize = 254;
/// The shortest dotted path of a key, in bytes.
pub const MIN_PATH: usize = 3;

/// A file that follows the grammar, in the order of its lines.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Document {
    /// Every section, repeated ones as often as they were opened.
    pub sections: Vec<Section>,
    /// Every key, repeated ones as often as they were set.
    pub entries: Vec<Entry>,
}

/// An opening line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    /// Its dotted path, such as `totem.interface`.
    pub path: String,
    /// The line that opens it, from 1.
    pub line: u32,
    /// The section around it, as an index into [`Document::sections`].
    pub parent: Option<usize>,
}

/// A line that sets a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its dotted path, such as `totem.interface.mcastport`.
    pub path: String,
    /// The value, perhaps empty; bytes that are not UTF-8 are replaced.
    pub value: String,
    /// Its line, from 1.
    pub line: u32,
    /// The section it is in, as an index into [`Document::sections`].
    pub section: Option<usize>,
}

impl Document {
    /// Whether `section` is `outer` or lies within it.
    pub fn is_within(&self, section: Option<usize>, outer: usize) -> bool {
        let parent = |&index: &usize| self.sections[index].parent;
        std::iter::successors(section, parent).any(|index| index == outer)
    }
}

/// A line that breaks the grammar.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong with it.
    pub problem: SyntaxProblem,
}

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SyntaxProblem {
    /// The text has more than [`MAX_TEXT`] bytes.
    TextTooLong,
    /// The line has more than [`MAX_LINE`] bytes.
    LineTooLong,
    /// A byte 0.
    Nul,
    /// `{` with no name before it.
    NamelessSection,
    /// Something behind `{`.
    TextAfterOpening,
    /// Something before or behind `}`.
    TextAroundClosing,
    /// `}` with no section open.
    NothingToClose,
    /// The text ends within a section.
    Unclosed {
        /// The section's path.
        path: String,
        /// The line that opened it.
        line: u32,
    },
    /// Neither `{`, `}` nor `:`.
    Unrecognised,
    /// `:` with no key before it.
    NamelessKey,
    /// The path of a section or key is longer than [`MAX_PATH`].
    PathTooLong,
    /// The path of a key is shorter than [`MIN_PATH`].
    PathTooShort {
        /// The path.
        path: String,
    },
    /// The path of a key has a character that none may have.
    PathCharacter {
        /// The path.
        path: String,
        /// The character.
        character: char,
    },
}

impl fmt::Display for SyntaxProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TextTooLong => write!(f, "the file has more than {MAX_TEXT} bytes; is it a corosync.conf?"),
            Self::LineTooLong => write!(f, "the line has more than {MAX_LINE} bytes; shorten it"),
            Self::Nul => write!(f, "the line has a zero byte; is it a corosync.conf?"),
            Self::NamelessSection => write!(f, "`{{` needs a section's name before it"),
            Self::TextAfterOpening => write!(f, "nothing may follow `{{`; put it on a line of its own"),
            Self::TextAroundClosing => write!(f, "`}}` must be alone on its line"),
            Self::NothingToClose => {
                write!(f, "`}}` closes nothing; remove it, or look for a missing `{{` above")
            }
            Self::Unclosed { path, line } => {
                write!(
                    f,
                    "the file ends within section `{path}`, opened at line {line}; add the missing `}}`"
                )
            }
            Self::Unrecognised => write!(f, "the line is neither `section {{` nor `key: value` nor `}}`"),
            Self::NamelessKey => write!(f, "`:` needs a key before it"),
            Self::PathTooLong => write!(f, "the name, with its sections, has more than {MAX_PATH} bytes"),
            Self::PathTooShort { path } => {
                write!(f, "`{path}` is too short for a key; is the section around it missing?")
            }
            Self::PathCharacter { path, character } => write!(
                f,
                "`{path}` has {character:?}, but keys and their sections are made of letters, digits and `_-./:`"
            ),
        }
    }
}

/// Reads a text.
///
/// # Errors
/// At the first line that breaks the grammar.
pub fn parse(text: &[u8]) -> Result<Document, SyntaxError> {
    let mut document = Document::default();
    if text.len() > MAX_TEXT {
        return Err(SyntaxError { line: 1, problem: SyntaxProblem::TextTooLong });
    }
    let mut open = None;
    let mut number = 0;
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        number += 1;
        document.line(line, number, &mut open).map_err(|problem| SyntaxError { line: number, problem })?;
    }
    if let Some(index) = open {
        let Section { path, line, .. } = document.sections.swap_remove(index);
        return Err(SyntaxError { line: number, problem: SyntaxProblem::Unclosed { path, line } });
    }
    Ok(document)
}

impl Document {
    /// Takes one line; `open` is the innermost open section.
    fn line(&mut self, line: &[u8], number: u32, open: &mut Option<usize>) -> Result<(), SyntaxProblem> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.len() > MAX_LINE {
            return Err(SyntaxProblem::LineTooLong);
        }
        if line.contains(&0) {
            return Err(SyntaxProblem::Nul);
        }
        let line = String::from_utf8_lossy(line);
        let line = line.strip_suffix('\r').unwrap_or(&line).trim_matches(BLANK);
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        // The order of these tests is corosync's: `key: {` opens a section, `key: }` sets a key.
        if let Some((name, rest)) = line.split_once('{') {
            let name = name.trim_end_matches([' ', '\t', ':']);
            if name.is_empty() {
                return Err(SyntaxProblem::NamelessSection);
            }
            if !rest.is_empty() {
                return Err(SyntaxProblem::TextAfterOpening);
            }
            let path = self.path(*open, name)?;
            self.sections.push(Section { path, line: number, parent: *open });
            *open = Some(self.sections.len() - 1);
        } else if let Some((key, value)) = line.split_once(':') {
            let key = key.trim_end_matches(BLANK);
            if key.is_empty() {
                return Err(SyntaxProblem::NamelessKey);
            }
            let path = self.path(*open, key)?;
            if let Some(character) = path.chars().find(|&c| !is_path_character(c)) {
                return Err(SyntaxProblem::PathCharacter { path, character });
            }
            if path.len() < MIN_PATH {
                return Err(SyntaxProblem::PathTooShort { path });
            }
            let value = value.trim_start_matches(BLANK).to_owned();
            self.entries.push(Entry { path, value, line: number, section: *open });
        } else if line.contains('}') {
            if line != "}" {
                return Err(SyntaxProblem::TextAroundClosing);
            }
            *open = self.sections[open.ok_or(SyntaxProblem::NothingToClose)?].parent;
        } else {
            return Err(SyntaxProblem::Unrecognised);
        }
        Ok(())
    }

    fn path(&self, section: Option<usize>, name: &str) -> Result<String, SyntaxProblem> {
        let path = match section {
            Some(index) => format!("{}.{name}", self.sections[index].path),
            None => name.to_owned(),
        };
        if path.len() > MAX_PATH { Err(SyntaxProblem::PathTooLong) } else { Ok(path) }
    }
}

const BLANK: [char; 2] = [' ', '\t'];

fn is_path_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-./:".contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text's keys as `path=value@line`, or `line: problem`.
    fn check(text: &str, expect: Result<&[&str], &str>) {
        let got = parse(text.as_bytes())
            .map(|d| {
                d.entries.iter().map(|e| format!("{}={}@{}", e.path, e.value, e.line)).collect::<Vec<_>>()
            })
            .map_err(|e| format!("{}: {}", e.line, e.problem));
        match expect {
            Ok(entries) => assert_eq!(got, Ok(entries.iter().map(ToString::to_string).collect()), "{text:?}"),
            Err(problem) => {
                let got = got.expect_err(text);
                assert!(got.contains(problem), "{text:?} gave {got:?}, not {problem:?}");
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
        check("\n{\n}", Err("2: `{` needs a section's name"));
        check(":{\n}", Err("1: `{` needs a section's name"));
        check("foo { # no\n}", Err("1: nothing may follow `{`"));
        check("foo {{\n}", Err("1: nothing may follow `{`"));
        check("foo { key: 1 }", Err("1: nothing may follow `{`"));
        check("foo {\n}}\n", Err("2: `}` must be alone"));
        check("foo {\n}\n}\n", Err("3: `}` closes nothing"));
        check("foo {\nbar {\n}\n\n", Err("4: the file ends within section `foo`, opened at line 1"));
        check("foo\n{\n}", Err("1: the line is neither"));
        check("foo {\n: 1\n}", Err("2: `:` needs a key"));
        check("ab: 1", Err("1: `ab` is too short"));
        check("foo {\nbad key: 1\n}", Err("2: `foo.bad key` has ' '"));
        check("foo bar {\nkey: 1\n}", Err("2: `foo bar.key` has ' '"));
        check("f\u{e4}o: 1", Err("1: `f\u{e4}o` has '\u{e4}'"));
        check("foo: \0", Err("1: the line has a zero byte"));
    }

    #[test]
    fn limits_are_those_of_corosync() {
        let x = |n: usize| "x".repeat(n);
        check(&format!("#{}\n", x(509)), Ok(&[]));
        check(&format!("#{}", x(509)), Ok(&[]));
        check(&format!("#{}\n", x(510)), Err("1: the line has more than 510 bytes"));
        check(&format!("foo {{\n{} {{\n}}\n}}", x(250)), Ok(&[]));
        check(&format!("foo {{\n{} {{\n}}\n}}", x(251)), Err("2: the name, with its sections"));
        check(&format!("foo {{\n{}: 1\n}}", x(251)), Err("2: the name, with its sections"));
        check(&"\n".repeat(MAX_TEXT + 1), Err("1: the file has more than"));
    }

    #[test]
    fn a_value_that_is_not_utf8_is_kept_readable() {
        let document = parse(b"foo: a\xffb\n").unwrap();
        assert_eq!(document.entries[0].value, "a\u{fffd}b");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = parse(&text);
        }

        #[test]
        fn no_mixture_of_its_tokens_makes_it_panic(
            tokens in proptest::collection::vec(
                prop::sample::select(vec!["{", "}", ":", "\n", "\r", "#", " ", "\t", "totem", "ab", "\0", "\u{e4}"]),
                0..400,
            )
        ) {
            if let Ok(document) = parse(tokens.concat().as_bytes()) {
                // What is accepted is consistent: each key lies under its section's path.
                for entry in &document.entries {
                    if let Some(section) = entry.section {
                        prop_assert!(entry.path.starts_with(&document.sections[section].path));
                        prop_assert!(document.sections[section].line < entry.line);
                    }
                }
            }
        }
    }
}
