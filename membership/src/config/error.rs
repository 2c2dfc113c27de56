//! Configuration errors. Each prints as one line with its place, the problem and a remedy.

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

/// The problems found in a file, in line order. Prints each error on its own line.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Rejected {
    /// The errors, at least one.
    pub errors: Vec<ConfigError>,
    /// The warnings about the file.
    pub warnings: Vec<Warning>,
}

/// As [`Display`](fmt::Display), because `main` and `unwrap` print this.
impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A problem of a configuration and its place. Prints as one line.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default())]
pub struct ConfigError {
    /// The place, if the configuration came from a file.
    pub place: Option<Place>,
    /// The problem.
    pub problem: Problem,
}

/// As [`Display`](fmt::Display), because `main` and `unwrap` print this.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self { place: None, problem }
    }
}

/// A problem of a configuration, which need not come from a file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot be read ({0}); name the configuration with -c FILE, and let this user read it")]
    Unreadable(String),
    /// A line breaks the grammar.
    #[error("{0}")]
    Syntax(SyntaxProblem),
    /// A value is not a number, or is out of range.
    #[error("{key} must be a whole number from {min} to {max}, not `{}`", shown(value))]
    Number {
        /// The key.
        key: String,
        /// The value in the file.
        value: String,
        /// The lowest allowed value.
        min: u64,
        /// The highest allowed value.
        max: u64,
    },
    /// A value is not among those that the key allows.
    #[error("{key} must be {expected}, not `{}`", shown(value))]
    Choice {
        /// The key.
        key: String,
        /// The value in the file.
        value: String,
        /// The allowed values, worded to follow "must be".
        expected: &'static str,
    },
    /// A required key is missing.
    #[error("{key} is missing; {advice}")]
    Missing {
        /// The key.
        key: &'static str,
        /// The text to write.
        advice: &'static str,
    },
    /// A value is empty or contains invalid characters.
    #[error(
        "{key} is {}; {advice}",
        if value.is_empty() { "empty".to_owned() } else { format!("`{}`", shown(value)) }
    )]
    Flawed {
        /// The key.
        key: String,
        /// The value in the file.
        value: String,
        /// The flaw and the remedy.
        advice: String,
    },
    /// A section or key is in a place where it has no effect.
    #[error("{what}; {advice}")]
    Misplaced {
        /// The section or key and its place, as a clause.
        what: String,
        /// The remedy.
        advice: String,
    },
    /// A value that corosync supports and this program does not.
    #[error("{key}: {} is not supported; {advice}", shown(value))]
    Unsupported {
        /// The key.
        key: String,
        /// The value in the file.
        value: String,
        /// The value to write instead.
        advice: &'static str,
    },
    /// No interface of this host has this address or network.
    #[error(
        "no interface of this host is in the network of {wanted} ({key}); this host has {}",
        list(present)
    )]
    NoInterface {
        /// The key that names the address or network.
        key: &'static str,
        /// The address or network.
        wanted: IpAddr,
        /// The interfaces of this host.
        present: Vec<Interface>,
    },
    /// A host name has no address of an accepted IP version.
    #[error(
        "`{}` ({key}) has no {version} address; write the address, or make the name resolvable on this host",
        shown(name)
    )]
    Unresolvable {
        /// The key.
        key: &'static str,
        /// The name.
        name: String,
        /// The accepted IP versions.
        version: &'static str,
    },
    /// Two nodes have the same address.
    #[error("the address {address} appears twice, first at {first}; give each node an address of its own")]
    DuplicateAddress {
        /// The address.
        address: IpAddr,
        /// The place where it appears first.
        first: Place,
    },
    /// Two nodes have the same id.
    #[error(
        "node id {id} appears twice{}; give each node a nodeid of its own",
        first.as_ref().map(|place| format!(", first at {place}")).unwrap_or_default()
    )]
    DuplicateNode {
        /// The id.
        id: NodeId,
        /// The place where it appears first, if known.
        first: Option<Place>,
    },
    /// A section appears twice, and corosync would merge the two.
    #[error(
        "section `{path}`{which} appears twice, first at {first}; corosync would merge the two: make them one"
    )]
    DuplicateSection {
        /// The section's path.
        path: &'static str,
        /// The section's number among several of this path, worded to follow it. May be empty.
        which: String,
        /// The place of the first section.
        first: Place,
    },
    /// This host is not among the listed nodes.
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
    #[error("no listed node is called `{name}`; choose one with --name: {listed}")]
    NoSuchNode {
        /// The name.
        name: String,
        /// The nodes.
        listed: String,
    },
    /// Several listed nodes could be this process. Only with the local transport.
    #[error("several listed nodes run on this host; choose one with --name: {listed}")]
    SeveralLocal {
        /// The nodes.
        listed: String,
    },
    /// A value breaks a rule, alone or in combination with another value.
    #[error("{key} ({value}) must {rule}")]
    Broken {
        /// The key.
        key: &'static str,
        /// The key's value, with its unit.
        value: String,
        /// The rule, worded to follow "must", with the conflicting value if there is one.
        rule: String,
        /// The key of the other value, if any.
        other: Option<&'static str>,
    },
}

fn list(interfaces: &[Interface]) -> String {
    let names: Vec<_> = interfaces.iter().map(ToString::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
