//! Rejects sections and keys in places where they have no effect, or apply to another node.
//!
//! corosync accepts most of them silently. A node that is left out of the list in this way is no
//! longer expected, and the remaining nodes can be quorate without it.

use super::grammar::{Entry, Section, SyntaxError};
use super::reader::Reader;
use super::spelling::{nearest, shown};
use super::{Problem, remarks};

/// The sections that have a meaning, each with its enclosing section.
const HOMES: &[(&str, &str)] = &[
    ("totem", ""),
    ("nodelist", ""),
    ("quorum", ""),
    ("quorate", ""),
    ("logging", ""),
    ("node", "nodelist"),
    ("interface", "totem"),
];

impl Reader<'_> {
    /// Reports the lines that break the grammar, and misplaced sections and keys.
    pub(super) fn structure(&mut self, syntax: Vec<SyntaxError>) {
        self.whole = syntax.is_empty();
        // Sections that lack their `}`, and sections that are rejected with all their contents.
        let (mut unclosed, mut refused): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        let document = self.document;
        for (index, section) in document.sections.iter().enumerate() {
            let is_within_refused = |&outer: &usize| document.is_within(section.parent, outer);
            if refused.iter().any(is_within_refused) {
                continue;
            }
            let Some(Misplacement { what, advice, within }) = self.misplacement(index) else { continue };
            // A missing `}` leaves all enclosing sections open, too. Report it only once.
            let follows = |within| unclosed.iter().any(|&inner| document.is_within(Some(inner), within));
            if !within.is_some_and(follows) {
                self.misplaced(section.line, what, advice);
            }
            unclosed.extend(within);
            refused.push(index);
            self.pass_over(index);
        }
        for entry in &document.entries {
            let is_within_refused = |&outer: &usize| document.is_within(entry.section, outer);
            if is_of_a_node(entry) && !refused.iter().any(is_within_refused) {
                let what = format!("`{}` is outside a section `node`", document.key(entry));
                self.misplaced(entry.line, what, "write `node {` before it, in section `nodelist`");
            }
        }
        for SyntaxError { line, problem } in syntax {
            // The place of the missing `}` is known better by now.
            if unclosed.is_empty() || !problem.is_about_balance() {
                self.error(Some(line), Problem::Syntax(problem));
            }
        }
    }

    /// Returns the reason why a section cannot stand where it does.
    fn misplacement(&self, index: usize) -> Option<Misplacement> {
        let document = self.document;
        let path = |section: usize| document.sections[section].path.as_str();
        let (name, parent) = (document.name(index), document.sections[index].parent);
        let outer = parent.map_or("", path);
        let misplaced = |what, advice| Some(Misplacement { what, advice, within: None });
        if let Some((_, home)) = HOMES.iter().find(|(known, _)| *known == name) {
            if outer == *home {
                return None;
            }
            // Closing the enclosing sections up to its home would put the section in its place.
            let around: Vec<usize> =
                document.around(parent).take_while(|&section| path(section) != *home).collect();
            let is_in_home = home.is_empty() || document.around(parent).any(|section| path(section) == *home);
            if let Some(&within) = around.last().filter(|_| is_in_home) {
                let (outer, line) = (document.name(within), document.sections[within].line);
                return Some(Misplacement {
                    what: format!("section `{name}` is inside section `{outer}`, opened at line {line}"),
                    advice: "close that section with `}` first".to_owned(),
                    within: Some(within),
                });
            }
            let vote = if name == "node" { ": it would have no vote" } else { "" };
            let what = format!("section `{name}` is outside section `{home}`{vote}");
            return misplaced(what, format!("move it into `{home} {{ }}`"));
        }
        let name = shown(name);
        let is_list = |section: &Section| section.path == "nodelist";
        match outer {
            "nodelist" => misplaced(
                format!("section `{name}` in section `nodelist` would have no vote"),
                "name it `node`".to_owned(),
            ),
            "nodelist.node" => misplaced(
                format!("section `{name}` is in section `node`, so corosync takes its keys for the node's"),
                "remove it, or close the node with `}` first".to_owned(),
            ),
            "" if path(index) == "nodelist.node" && document.sections.iter().any(is_list) => misplaced(
                format!("section `{name}` is beside section `nodelist`, so corosync merges their nodes"),
                "make it a section `node` in that section".to_owned(),
            ),
            _ if remarks::is_known_section(path(index)) || remarks::on(path(index)).is_some() => None,
            _ => {
                let here = HOMES.iter().filter(|(_, home)| *home == outer).map(|(known, _)| *known);
                let mut inner = document.sections.iter().filter(|section| section.parent == Some(index));
                let has_nodes = inner.any(|section| section.path.ends_with(".node"));
                let meant = nearest(&name, here).or(has_nodes.then_some("nodelist"))?;
                misplaced(format!("section `{name}` is unknown"), format!("did you mean `{meant}`?"))
            }
        }
    }
}

/// A section in a place where it has no effect, or another one.
struct Misplacement {
    /// The section and its place, as a clause.
    what: String,
    advice: String,
    /// The enclosing section that was probably meant to be closed before this one.
    within: Option<usize>,
}

/// Returns `true` for a key of nodes that stands outside of a node.
fn is_of_a_node(entry: &Entry) -> bool {
    let (section, key) = entry.path.rsplit_once('.').unwrap_or(("", &entry.path));
    let is_address = key
        .strip_prefix("ring")
        .and_then(|key| key.strip_suffix("_addr"))
        .is_some_and(|ring| ring.parse::<u8>().is_ok());
    section != "nodelist.node" && (is_address || key == "quorum_votes")
}
