//! What goes wrong, and when.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that happens to nodes or to the network between them. Nodes are named by their numbers, from 1.
///
/// A cut loses what is under way on it, too.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A node stops dead. Its stored record survives, nothing else does. At time 0, it has not been started yet.
    Crash(u32),
    /// A node starts, with the record that its last life left; one that runs crashes first.
    Restart(u32),
    /// The network falls into these parts, whatever it was before; nodes that are not named are a part of their own.
    Partition(Vec<Vec<u32>>),
    /// What one node sends no longer reaches another; the way back stays as it is.
    CutOneWay {
        /// Who is not heard.
        from: u32,
        /// Who does not hear.
        to: u32,
    },
    /// Everybody hears everybody again.
    Heal,
}

impl Fault {
    /// The nodes it names.
    pub(crate) fn nodes(&self) -> Vec<u32> {
        match self {
            Self::Crash(node) | Self::Restart(node) => vec![*node],
            Self::Partition(parts) => parts.concat(),
            Self::CutOneWay { from, to } => vec![*from, *to],
            Self::Heal => Vec::new(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(node) => write!(f, "node {node} crashes"),
            Self::Restart(node) => write!(f, "node {node} starts again"),
            Self::Partition(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| format!("{part:?}")).collect();
                write!(f, "partition {}", parts.join(" | "))
            }
            Self::CutOneWay { from, to } => write!(f, "node {to} no longer hears node {from}"),
            Self::Heal => write!(f, "the network heals"),
        }
    }
}
