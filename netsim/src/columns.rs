//! A history side by side: each node has a column, and time runs downwards.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use quorate_membership::NodeId;

use crate::history::{Delivered, Inside, Record, What};

/// Records as columns. Events at several nodes in the same moment share a line.
pub(crate) struct Columns<'a>(pub(crate) &'a [Record]);

/// A line of the table.
enum Line {
    Nodes(Duration, Vec<String>),
    Across(Duration, String),
}

/// The widest cell. Longer text is cut.
const WIDEST: usize = 38;

impl Columns<'_> {
    fn lines(&self, nodes: &[NodeId]) -> Vec<Line> {
        let mut lines = Vec::new();
        for Record { at, life, what } in self.0 {
            let place = life.and_then(|life| nodes.binary_search(&life.node).ok());
            let Some(place) = place else {
                lines.push(Line::Across(*at, what.to_string()));
                continue;
            };
            let text = match what {
                What::Started => format!("started ({})", life.map_or(0, |life| life.start)),
                what => brief(what),
            };
            match lines.last_mut() {
                Some(Line::Nodes(of, cells)) if of == at && cells[place..].iter().all(String::is_empty) => {
                    cells[place] = text;
                }
                _ => {
                    let mut cells = vec![String::new(); nodes.len()];
                    cells[place] = text;
                    lines.push(Line::Nodes(*at, cells));
                }
            }
        }
        lines
    }
}

impl fmt::Display for Columns<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: BTreeSet<NodeId> = self.0.iter().filter_map(|record| Some(record.life?.node)).collect();
        let nodes: Vec<NodeId> = nodes.into_iter().collect();
        let lines = self.lines(&nodes);
        let mut widths: Vec<usize> = nodes.iter().map(|id| format!("node {id}").len()).collect();
        for line in &lines {
            if let Line::Nodes(_, cells) = line {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = cell.chars().count().min(WIDEST).max(*width);
                }
            }
        }
        let row = |f: &mut fmt::Formatter<'_>, time: String, cells: Vec<String>| {
            let mut line = format!("{time:>9}");
            for (width, cell) in widths.iter().zip(cells) {
                let cell = match cell.char_indices().nth(WIDEST) {
                    Some(_) => cell.chars().take(WIDEST - 1).chain(['…']).collect(),
                    None => cell,
                };
                line += &format!("  {cell:<width$}");
            }
            writeln!(f, "{}", line.trim_end())
        };
        row(f, "seconds".to_owned(), nodes.iter().map(|id| format!("node {id}")).collect())?;
        let mut last = None;
        for line in lines {
            let (at, cells) = match line {
                Line::Nodes(at, cells) => (at, cells),
                Line::Across(at, text) => {
                    writeln!(f, "{:>9.4}  --- {text}", at.as_secs_f64())?;
                    last = Some(at);
                    continue;
                }
            };
            let time = if last == Some(at) { String::new() } else { format!("{:.4}", at.as_secs_f64()) };
            last = Some(at);
            row(f, time, cells)?;
        }
        Ok(())
    }
}

/// Returns a record in a few words. The whole line is in the history.
fn brief(what: &What) -> String {
    match what {
        What::Accepted { message, guarantee, .. } => format!("takes {message} {guarantee}"),
        What::Delivered(Delivered { message, seq, ring, .. }) => match message {
            Some(message) => format!("gets {message} at {seq} of {ring}"),
            None => format!("gets an unknown message at {seq} of {ring}"),
        },
        What::Transitional(change) => format!("TRANS to {} {:?}", change.ring, change.members),
        What::Regular(regular) => format!("RING {} {:?}", regular.ring, regular.members),
        What::Status(status) => {
            let quorate = if status.quorate { "quorate" } else { "not quorate" };
            match status.dc {
                Some(dc) => format!("{quorate}, dc {dc}"),
                None => format!("{quorate}, no dc"),
            }
        }
        What::Inside(inside) => match inside {
            Inside::Numbered(frame) => format!("sends {} of {}", frame.seq, frame.ring),
            Inside::Received(frame) => format!("has {} of {}", frame.seq, frame.ring),
            Inside::Resent(frame) => format!("resends {} of {}", frame.seq, frame.ring),
            Inside::Stable { ring, safe, .. } => format!("safe to {safe} of {ring}"),
            Inside::Limits { ring, window, .. } => format!("{window} frames a rotation of {ring}"),
            Inside::Token(token) => format!("token {} aru {} of {}", token.token_seq, token.aru, token.ring),
            Inside::TokenSent { to, token } => format!("token {} aru {} to {to}", token.token_seq, token.aru),
            Inside::CommitSent { to, token } => format!("commit of {} to {to}", token.ring),
            Inside::JoinSent(join) => {
                let what = if join.leave { "leave" } else { "join" };
                format!("{what} {:?} without {:?}", join.proc, join.failed)
            }
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fault;
    use crate::history::Life;

    #[test]
    fn nodes_have_columns_and_simultaneous_events_share_a_line() {
        let record = |ms, node: Option<u32>, what| Record {
            at: Duration::from_millis(ms),
            life: node.and_then(NodeId::new).map(|node| Life { node, start: 1 }),
            what,
        };
        let records = [
            record(0, Some(1), What::Started),
            record(0, Some(7), What::Started),
            record(1250, None, What::Network(Fault::Heal)),
            record(1250, Some(7), What::Synced("1.8".parse().unwrap())),
            record(1250, Some(1), What::Crashed),
        ];
        assert_eq!(
            Columns(&records).to_string(),
            "  seconds  node 1       node 7\n   \
                0.0000  started (1)  started (1)\n   \
                1.2500  --- the network heals\n                        \
                        synced 1.8\n           crashed\n"
        );
    }
}
