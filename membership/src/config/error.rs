//! What can be wrong with a configuration, in one line that says where, what, and what to do.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::grammar::SyntaxProblem;
use super::spelling::shown;
use super::{Interface, Warning};
use crate::NodeId;

/// A place in a file, printed as `FILE:LINE`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Place {
    /// The file, as the user named it.
    pub file: String,
    /// The line, from 1; `None` for the file as a whole.
    pub line: Option<u32>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// Everything that is wrong with a file, in the order of its lines. Prints a line each.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Rejected {
    /// What has to be mended; one at least.
    pub errors: Vec<ConfigError>,
    /// What the user should know besides.
    pub warnings: Vec<Warning>,
}

/// What is wrong with a configuration; prints as one line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}{problem}", place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default())]
pub struct ConfigError {
    /// Where, if it came from a file.
    pub place: Option<Place>,
    /// What.
    pub problem: Problem,
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self { place: None, problem }
    }
}

/// What is wrong with a configuration, wherever it came from.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot be read ({0}); name the configuration with -c FILE, and let this user read it")]
    Unreadable(String),
    /// A line breaks the grammar.
    #[error("{0}")]
    Syntax(SyntaxProblem),
    /// A value is not a number, or one out of range.
    #[error("{key} must be a whole number from {min} to {max}, not `{}`", shown(value))]
    Number {
        /// The key.
        key: String,
        /// What the file says.
        value: String,
        /// The lowest that may be.
        min: u64,
        /// The highest that may be.
        max: u64,
    },
    /// A value is none of those that the key may have.
    #[error("{key} must be {expected}, not `{}`", shown(value))]
    Choice {
        /// The key.
        key: String,
        /// What the file says.
        value: String,
        /// What it may say, as a clause.
        expected: &'static str,
    },
    /// A key that has to be there is not.
    #[error("{key} is missing; {advice}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What to write.
        advice: &'static str,
    },
    /// A value is empty, or has what does not belong to it.
    #[error(
        "{key} is {}; {advice}",
        if value.is_empty() { "empty".to_owned() } else { format!("`{}`", shown(value)) }
    )]
    Flawed {
        /// The key.
        key: String,
        /// What the file says.
        value: String,
        /// What is wrong, and what to do.
        advice: String,
    },
    /// A section or a key stands where it does not count.
    #[error("{what}; {advice}")]
    Misplaced {
        /// What stands where, as a clause.
        what: String,
        /// What to do.
        advice: String,
    },
    /// Good for corosync, not for this program.
    #[error("{key}: {} is not supported; {advice}", shown(value))]
    Unsupported {
        /// The key.
        key: String,
        /// What the file says.
        value: String,
        /// What to write instead.
        advice: &'static str,
    },
    /// No interface of this host has this address or network.
    #[error("no interface of this host is in the network of {wanted} ({key}); there are {}", list(present))]
    NoInterface {
        /// The key that names it.
        key: &'static str,
        /// The address or network.
        wanted: IpAddr,
        /// The interfaces there are.
        present: Vec<Interface>,
    },
    /// A host's name that has no IPv4 address.
    #[error(
        "`{}` ({key}) has no IPv4 address; write the address, or make the name resolvable on this host",
        shown(name)
    )]
    Unresolvable {
        /// The key.
        key: &'static str,
        /// The name.
        name: String,
    },
    /// Two nodes have one address.
    #[error("the address {address} appears twice, first at {first}; give each node an address of its own")]
    DuplicateAddress {
        /// The address.
        address: IpAddr,
        /// Where it appears first.
        first: Place,
    },
    /// Two nodes have one id.
    #[error(
        "node id {id} appears twice{}; give each node a nodeid of its own",
        first.as_ref().map(|place| format!(", first at {place}")).unwrap_or_default()
    )]
    DuplicateNode {
        /// The id.
        id: NodeId,
        /// Where the id appears first.
        first: Option<Place>,
    },
    /// A second section where one is expected, and corosync would mix the two.
    #[error(
        "a second section `{path}`{which}, the first is at {first}; corosync would mix the two: make them one"
    )]
    DuplicateSection {
        /// The section's path.
        path: &'static str,
        /// Which of several sections of this path, as a continuation; perhaps empty.
        which: String,
        /// Where the first one is.
        first: Place,
    },
    /// None of the listed nodes is this host.
    #[error(
        "this host ({host}) is not in the node list ({listed}); add a node with its name or address, or choose one \
         with --name"
    )]
    NotListed {
        /// The host's name and addresses.
        host: String,
        /// The nodes.
        listed: String,
    },
    /// No listed node has the name that the command line gave.
    #[error("no node of the list is called `{name}`; --name may be one of {listed}")]
    NoSuchNode {
        /// The name.
        name: String,
        /// The nodes.
        listed: String,
    },
    /// With the local transport, several listed nodes could be this process.
    #[error("several listed nodes live on this host; choose one with --name: {listed}")]
    SeveralLocal {
        /// The nodes.
        listed: String,
    },
    /// A value breaks a rule, by itself or because of another value.
    #[error("{key} ({value}) must {rule}")]
    Broken {
        /// The key.
        key: &'static str,
        /// Its value, with its unit.
        value: String,
        /// What it must do, with the value that it disagrees with.
        rule: String,
        /// The key that it disagrees with.
        other: Option<&'static str>,
    },
}

fn list(interfaces: &[Interface]) -> String {
    let names: Vec<_> = interfaces.iter().map(ToString::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
