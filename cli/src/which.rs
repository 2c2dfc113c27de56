//! The choice of the node that a command asks.

use std::path::PathBuf;

use quorate::NodeId;
use quorate_client::{Client, Error};

use crate::Failure;

/// The node to connect to.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Socket of the node to ask [default: the only node found on this host]
    #[arg(long, value_name = "PATH", env = "QUORATE_SOCKET", conflicts_with = "node")]
    socket: Option<PathBuf>,
    /// Id of the node to ask, if several run on this host
    #[arg(long, value_name = "ID")]
    node: Option<NodeId>,
}

impl Which {
    /// Returns the selected node.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(match (&self.socket, self.node) {
            (Some(path), _) => Client::at(path),
            (None, Some(node)) => Client::of(node.get())?,
            (None, None) => Client::find()?,
        })
    }
}

/// Adds the flags that help where the library's error cannot name them.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        Self::new(match error {
            Error::NoNode { .. } => format!(
                "{text}; start one with `quorate node`, or name its socket with --socket or QUORATE_SOCKET"
            ),
            Error::SeveralNodes(paths) => {
                let listed: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                format!("{} nodes run here; choose one with --socket: {}", paths.len(), listed.join(", "))
            }
            Error::NotHere { .. } => {
                format!("{text}; if it runs elsewhere, name its socket with --socket")
            }
            Error::NoDefaultPath => {
                format!("{text}; set it, or name a path with --socket or QUORATE_SOCKET")
            }
            _ => text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_the_flags_that_help() {
        let failure = |error: Error| Failure::from(error).to_string();
        let none = failure(Error::NoNode { searched: vec!["/run/quorate".into()], of_root: false });
        assert_eq!(
            none,
            "no node found (/run/quorate); start one with `quorate node`, or name its socket with --socket or \
             QUORATE_SOCKET"
        );
        let several = failure(Error::SeveralNodes(vec!["/1.sock".into(), "/2.sock".into()]));
        assert_eq!(several, "2 nodes run here; choose one with --socket: /1.sock, /2.sock");
        let other = Error::NotHere { node: 7, path: "/7.sock".into(), others: vec!["1".into()] };
        assert_eq!(
            failure(other),
            "no node 7 at /7.sock: nodes that run here: 1; if it runs elsewhere, name its socket with --socket"
        );
        assert!(
            failure(Error::NoDefaultPath)
                .ends_with("; set it, or name a path with --socket or QUORATE_SOCKET")
        );
        assert_eq!(failure(Error::Refused("the node is stopping".into())), "the node is stopping");
    }
}
