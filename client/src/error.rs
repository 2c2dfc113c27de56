//! The reasons why a request fails.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::MAX_PAYLOAD;
use crate::client::PATIENCE;

/// The reason why a request to a node failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No node runs here.
    #[error("no node found ({})", searched_places(searched, *of_root))]
    NoNode {
        /// The directories that were searched.
        searched: Vec<PathBuf>,
        /// Whether root's nodes have a directory here that this user may not read.
        of_root: bool,
    },
    /// Several nodes run here, at these sockets.
    #[error("{} nodes run here: {}", .0.len(), list(.0))]
    SeveralNodes(Vec<PathBuf>),
    /// The node has no socket at its default path.
    #[error("no node {node} at {}: {}", path.display(), others_here(others))]
    NotHere {
        /// The node's id.
        node: u32,
        /// Its default path.
        path: PathBuf,
        /// The ids of the nodes that run here.
        others: Vec<String>,
    },
    /// There is no default path, because `XDG_RUNTIME_DIR` is not set to an absolute path.
    #[error("XDG_RUNTIME_DIR is not set to an absolute path, so there is no default socket")]
    NoDefaultPath,
    /// The socket cannot be reached.
    #[error("{}", unreachable(path, error))]
    Unreachable {
        /// The path of the socket.
        path: PathBuf,
        /// The operating system's reason. `WouldBlock` means that the node accepted no client for
        /// 10 s.
        error: io::Error,
    },
    /// The node did not answer a one-line request within 10 s.
    #[error("the node has not answered for {} s; see its log, or start it again", PATIENCE.as_secs())]
    Silent,
    /// The node closed the connection without a reason.
    #[error("the node closed the connection; see its log")]
    Closed,
    /// The connection broke.
    #[error("the connection to the node broke: {0}")]
    Broken(io::Error),
    /// The node's reason for not answering, or for ending its answer.
    #[error("{0}")]
    Refused(String),
    /// The node's answer cannot be parsed.
    #[error(
        "cannot parse the node's answer ({0}); check that this program and the node have the same version"
    )]
    NotUnderstood(serde_json::Error),
    /// A payload with a newline cannot be sent, because a newline ends a message.
    #[error("a message with a newline cannot be sent; encode it, for example as base64")]
    Newline,
    /// A payload is longer than [`MAX_PAYLOAD`](crate::MAX_PAYLOAD).
    #[error("a message of {0} bytes is longer than {MAX_PAYLOAD} bytes; send it in parts")]
    TooLong(usize),
}

/// As [`Display`](fmt::Display), because `main` and `unwrap` print this.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn searched_places(searched: &[PathBuf], of_root: bool) -> String {
    match (searched.is_empty(), of_root) {
        (false, false) => list(searched),
        (true, false) => "XDG_RUNTIME_DIR is not set".into(),
        (_, true) => format!("{} is for root only; try as root", crate::path::OF_ROOT),
    }
}

fn others_here(others: &[String]) -> String {
    match others {
        [] => "no other node runs here either; start it with `quorate node`".to_owned(),
        ids => format!("nodes that run here: {}", ids.join(", ")),
    }
}

fn unreachable(path: &std::path::Path, error: &io::Error) -> String {
    let at = path.display();
    match error.kind() {
        ErrorKind::NotFound => {
            format!("no node at {at}; start one with `quorate node`, or correct the path")
        }
        ErrorKind::ConnectionRefused => format!("the node at {at} is no longer running; start it again"),
        ErrorKind::PermissionDenied => {
            format!("{at} belongs to another user; connect as that user or as root")
        }
        ErrorKind::WouldBlock => {
            let wait = PATIENCE.as_secs();
            format!("the node at {at} has not accepted a client for {wait} s; see its log, or start it again")
        }
        _ => format!("cannot connect to {at}: {error}"),
    }
}
