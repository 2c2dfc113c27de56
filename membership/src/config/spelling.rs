//! Common misspellings of values and names, and a way to print them so that the mistake is visible.

use std::fmt::Write as _;

/// Returns a text of the file for a message. Invisible characters, and spaces other than the plain
/// one, are shown as `\u{a0}`.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_invisible(character) {
            let _ = write!(shown, "{}", character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

fn is_invisible(character: char) -> bool {
    let has_no_width = matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}' | '\u{feff}');
    has_no_width || (character != ' ' && (character.is_whitespace() || character.is_control()))
}

/// Returns the flaw of a value that is not free text, as advice. Returns `None` if it looks like a
/// word.
pub(super) fn flaw(value: &str) -> Option<&'static str> {
    if value.is_empty() {
        Some("write a value, or remove the line")
    } else if has_comment(value) {
        Some("a comment needs a line of its own")
    } else if value.chars().any(is_invisible) {
        Some("it contains an invisible character; retype the value")
    } else if value.ends_with('}') {
        Some("`}` must be alone on its line")
    } else if value.starts_with(['"', '\'']) {
        Some("quotes are not supported; write the value without them")
    } else {
        None
    }
}

/// Returns the oddity of a free text, such as a name. The text is accepted as it is.
pub(super) fn oddity(text: &str) -> Option<&'static str> {
    let flaw = flaw(text)?;
    let is_quoted = text.starts_with(['"', '\'']);
    Some(match flaw {
        _ if is_quoted => "the quotes are part of the value",
        _ if has_comment(text) => "a comment needs a line of its own; here it is part of the value",
        flaw => flaw,
    })
}

fn has_comment(value: &str) -> bool {
    ["#", "//"].iter().any(|mark| {
        value.starts_with(mark) || value.match_indices(mark).any(|(at, _)| value[..at].ends_with([' ', '\t']))
    })
}

/// Returns the candidate of which `name` is a misspelling. They may differ in case, in up to two
/// letters if there are at least five, and in one letter if there are fewer.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let distance = |candidate: &&str| distance(&name, &candidate.to_lowercase());
    let nearest = candidates.into_iter().min_by_key(distance)?;
    let letters = name.chars().count().min(nearest.chars().count());
    (distance(&nearest) <= if letters < 5 { 1 } else { 2 }).then_some(nearest)
}

/// Returns the number of letters that must be added, removed or replaced (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (i, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in other.chars().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commonest_mistakes_in_a_value_are_named() {
        for (value, expect) in [
            ("5000 # five seconds", "a comment needs a line of its own"),
            ("udp\t// clear text", "a comment needs a line of its own"),
            ("# none", "a comment needs a line of its own"),
            ("", "write a value, or remove the line"),
            ("\u{a0}10.0.0.1", "it contains an invisible character; retype the value"),
            ("50\u{200b}00", "it contains an invisible character; retype the value"),
            ("none }", "`}` must be alone on its line"),
            ("\"udp\"", "quotes are not supported; write the value without them"),
        ] {
            assert_eq!(flaw(value), Some(expect), "{value:?}");
        }
        for fine in ["5000", "10.0.0.1", "web#3", "http://x", "\u{e9}t\u{e9}"] {
            assert_eq!(flaw(fine), None, "{fine:?}");
        }
        assert_eq!(oddity("\"prod\""), Some("the quotes are part of the value"));
    }

    #[test]
    fn invisible_characters_are_shown_by_their_number() {
        assert_eq!(shown("a\u{a0}b\tc \u{feff}\u{e9}"), "a\\u{a0}b\\u{9}c \\u{feff}\u{e9}");
    }

    #[test]
    fn a_misspelt_name_leads_to_the_nearest_one() {
        let check = |name: &str, expect: Option<&str>| {
            assert_eq!(nearest(name, ["totem", "nodelist", "node", "quorum", "token"]), expect, "{name}");
        };
        check("Totem", Some("totem"));
        check("tokn", Some("token"));
        check("nodeslist", Some("nodelist"));
        check("nodes", Some("node"));
        check("logging", None);
        check("qb", None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
