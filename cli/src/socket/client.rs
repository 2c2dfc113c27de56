//! A client's side of the socket: requests to a node, and their answers.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::address::Which;
use super::{Request, Wish, json};
use crate::Failure;

/// The time that a node may take to answer. A node answers at once even while it forms a new ring.
/// A hand-over must be complete within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// The answer to a status request: the fields that commands use, and the whole answer for JSON
/// output.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) version: u32,
    pub(crate) node: u32,
    pub(crate) name: String,
    /// The output of `quorate status`.
    pub(crate) text: String,
    pub(crate) status: Status,
    /// The whole answer without the text.
    pub(crate) whole: Value,
}

/// A node's status, with the fields of [`quorate::Status`].
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) ring: Option<String>,
    pub(crate) settled: bool,
    pub(crate) nodes: Vec<Node>,
    pub(crate) dc: Option<u32>,
    pub(crate) term: Option<Term>,
    pub(crate) lease: String,
    pub(crate) vacant: Option<String>,
    pub(crate) quorate: bool,
    pub(crate) inquorate: Option<String>,
    pub(crate) total_votes: u32,
    pub(crate) expected_votes: Option<u32>,
    pub(crate) quorum: Option<u32>,
    pub(crate) flags: Vec<String>,
    pub(crate) cause: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) online: bool,
    pub(crate) votes: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct Term {
    pub(crate) fencing_token: String,
}

impl Status {
    /// Returns a node's name.
    pub(crate) fn name(&self, id: u32) -> String {
        let known = self.nodes.iter().find(|node| node.id == id);
        known.map_or_else(|| format!("node{id}"), |node| node.name.clone())
    }
}

/// Connects to a node and sends a request.
pub(crate) fn open(which: &Which, wish: Wish) -> Result<UnixStream, Failure> {
    let mut stream = which.connect()?;
    match stream.write_all(&Request::new(wish).line()) {
        // It has already hung up. Its reason can still be read.
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
        sent => sent.map_err(|error| Failure::new(format!("the connection to the node broke: {error}")))?,
    }
    Ok(stream)
}

/// Sends a request that is answered in one line.
pub(crate) fn ask(which: &Which, wish: Wish) -> Result<Vec<u8>, Failure> {
    let stream = open(which, wish)?;
    let broken = |error: io::Error| {
        Failure::new(match error.kind() {
            ErrorKind::WouldBlock => format!(
                "the node has not answered for {} s; see its log, or start it again",
                PATIENCE.as_secs()
            ),
            _ => format!("the connection to the node broke: {error}"),
        })
    };
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    let mut line = Vec::new();
    BufReader::new(stream).read_until(b'\n', &mut line).map_err(broken)?;
    checked(line)
}

/// Asks a node for its status.
pub(crate) fn ask_status(which: &Which) -> Result<Answer, Failure> {
    read_status(&ask(which, Wish::Status)?)
}

/// Returns the line if it is an answer and not an error.
fn checked(line: Vec<u8>) -> Result<Vec<u8>, Failure> {
    match json::error_message(&line) {
        Some(message) => Err(Failure::new(message)),
        None if line.is_empty() => {
            Err(Failure::new("the node closed the connection without an answer; see its log"))
        }
        None => Ok(line),
    }
}

fn read_status(line: &[u8]) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Parts {
        version: u32,
        node: u32,
        name: String,
        status: Status,
    }
    let mut whole: Value = read(line)?;
    let text = whole.as_object_mut().and_then(|fields| fields.remove("text"));
    let Parts { version, node, name, status } = Parts::deserialize(&whole).map_err(|e| not_understood(&e))?;
    let text = text.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Answer { version, node, name, text, status, whole })
}

/// Parses a line of a node.
pub(crate) fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(line).map_err(|error| not_understood(&error))
}

fn not_understood(error: &serde_json::Error) -> Failure {
    Failure::new(format!(
        "cannot parse the node's answer ({error}); check that `quorate` and the node have the same version"
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two of three nodes are present, and have quorum.
    pub(crate) fn quorate() -> Answer {
        let line = br#"{"version":1,"node":1,"name":"n1","text":"Current DC: n1\n","status":{"ring":"1.d","settled":true,
            "nodes":[{"id":1,"name":"n1","online":true,"votes":1},{"id":2,"name":"n2","online":false,"votes":1},
            {"id":3,"name":"n3","online":true,"votes":1}],"dc":1,"term":{"ring_seq":13,"hand_over":0,"node":1,
            "fencing_token":"239807672958224171009"},"lease":"held","vacant":null,"quorate":true,"inquorate":null,
            "total_votes":2,"expected_votes":3,"quorum":2,"flags":["Quorate"],"cause":"node 2 left"},"stats":{"tokens":1}}"#;
        read_status(line).unwrap()
    }

    /// Only the first node is present.
    pub(crate) fn inquorate() -> Answer {
        let mut answer = quorate();
        let alone = Status {
            term: None,
            lease: "none".into(),
            quorate: false,
            inquorate: Some("1 of 2 votes needed are present".into()),
            total_votes: 1,
            flags: Vec::new(),
            ..answer.status
        };
        answer.status = alone;
        answer.status.nodes[2].online = false;
        answer
    }

    #[test]
    fn the_text_is_separate_from_the_json() {
        let answer = quorate();
        assert_eq!((answer.text.as_str(), answer.node), ("Current DC: n1\n", 1));
        assert!(answer.whole.get("text").is_none() && answer.whole["stats"]["tokens"] == 1);
        assert_eq!((answer.status.name(3), answer.status.name(9)), ("n3".into(), "node9".into()));
    }

    #[test]
    fn an_error_or_malformed_answer_is_a_failure() {
        let failure = |line: &[u8]| {
            let read = checked(line.to_vec()).and_then(|line| read_status(&line));
            read.err().map(|failure| failure.to_string()).unwrap_or_default()
        };
        assert_eq!(failure(&json::error("the node is stopping")), "the node is stopping");
        assert!(failure(b"").starts_with("the node closed the connection"));
        assert!(failure(b"{}").starts_with("cannot parse the node's answer"));
        assert!(failure(b"\xff").starts_with("cannot parse the node's answer"));
    }
}
