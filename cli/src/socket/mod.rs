//! The local socket of a node, by which `quorate status`, `quorate cat` and other programs on the
//! host communicate with it.
//!
//! It is a Unix stream socket, open to processes of the same user and of root. The client sends a
//! request, which is one line with a JSON object of at most 4096 bytes. The node answers with JSON
//! objects, one per line. A line that starts with `{"event":"error"` is the last one, and its
//! `message` is the error.
//!
//! **Status** is answered once. The field `text` is the output of `quorate status`, and the other
//! fields are those of `quorate status --json`:
//! ```text
//! > {"version":1,"request":"status"}
//! < {"version":1,"node":1,"name":"system1","text":"...","status":{...},"stats":{...},
//!    "notices":[...],"log_lines_lost":0}
//! ```
//! (All on one line.)
//!
//! **Release** is answered once. The node gives up the role of DC, and answers when another node
//! has it, or with the reason why not:
//! ```text
//! > {"version":1,"request":"release"}
//! < {"version":1,"dc":2}
//! ```
//!
//! **Watch** is answered until the client hangs up. The answer starts with the current regular
//! configuration and the status. Each change of them follows, and each pause of the node's process:
//! ```text
//! > {"version":1,"request":"watch"}
//! < {"event":"regular","ring":"1.8","members":[1,2,3],"joined":[3],"left":[],"cause":"..."}
//! < {"event":"status","ring":"1.8","settled":true,"dc":1,...}
//! < {"event":"transitional","ring":"1.c","previous":"1.8","members":[1,2],"left":[3]}
//! < {"event":"stalled","ms":750}
//! ```
//!
//! **Cat** is answered until either side ends it. After the request, the client no longer sends
//! JSON. Each line is the payload of a message, of any bytes except the newline that ends it, and
//! at most 1 MiB. The first line of the answer is the regular configuration at the time of the
//! request. With `"status":true`, the status follows. The client's process joins the group, and
//! receives the group's events in the ring's order from then on:
//! ```text
//! > {"version":1,"request":"cat","group":"orders","guarantee":"safe","status":false}
//! > first payload
//! < {"event":"regular","ring":"1.8","members":[1,2,3],"joined":[3],"left":[],"cause":"..."}
//! < {"event":"group","ring":"1.8","group":"orders","members":[{"node":1,"pid":99}],
//!    "joined":[{"node":1,"pid":99}],"left":[],"reason":"join"}
//! < {"event":"deliver","ring":"1.8","seq":7,"from":1,"pid":99,"guarantee":"safe",
//!    "payload":"first payload"}
//! ```
//! (Each object is on one line.) A message between the lines `transitional` and `regular` has
//! `"transitional":true`. The ring is over, and members that do not come along may never receive
//! it. Clients must apply the message, and must not acknowledge it.
//!
//! The process leaves the group when its last connection to the node ends. The reason is `leave` if
//! everything was written to it, and `procdown` if the connection broke. A second connection of a
//! process that is already in the group receives the group's members in a line without a reason.
//!
//! When the client shuts down its sending side, the answer continues until all of its messages were
//! delivered here, and ends with `{"event":"end","sent":1}`. A connection that closes without that
//! line or an error has been cut.
//!
//! Each line ends with a newline. Bytes behind the last newline are discarded, because a client may
//! have been killed in the middle of a line. A client that still reads receives an error.
//!
//! Backpressure works in both directions, and buffers are bounded. The node reads a client's lines
//! only as fast as the ring accepts them, and pauses while the client has many unread bytes. A
//! client with [`outbox::LIMIT`] unread bytes is disconnected with an error as its next line. If
//! all clients together have [`outbox::TOTAL`] unread bytes, the client with the most is
//! disconnected in the same way.
//!
//! `cat` and `watch` clients each have a limited number of places. One-line requests and
//! connections without a request share other places, and the longest silent connection is closed
//! first. A client that finds no place receives an error. Its writes may already fail before it has
//! read that.
//!
//! A node answers an unknown request or version with an error. Fields may be added to any object,
//! so a client must ignore unknown ones.

pub(crate) mod address;
pub(crate) mod client;
pub(crate) mod clients;
pub(crate) mod json;
pub(crate) mod outbox;
pub(crate) mod places;
pub(crate) mod server;

use serde::{Deserialize, Serialize};

/// The version of the protocol.
pub(crate) const VERSION: u32 = 1;

/// The longest request in bytes, without its newline.
pub(crate) const MAX_REQUEST: usize = 4096;

/// The first line that a client sends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) wish: Wish,
}

/// The request of a client.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase")]
pub(crate) enum Wish {
    /// Returns the node's state, once.
    Status,
    /// Makes the node give up the role of DC.
    Release,
    /// Streams each ring and each change of the status.
    Watch,
    /// Sends messages to a group, and streams the group's events.
    Cat(Cat),
}

/// The parameters of a `cat` request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Cat {
    /// The group's name.
    pub(crate) group: String,
    /// The guarantee for the client's messages.
    #[serde(default)]
    pub(crate) guarantee: GuaranteeName,
    /// Whether to include changes of the status.
    #[serde(default)]
    pub(crate) status: bool,
}

/// [`quorate::Guarantee`] in a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GuaranteeName {
    #[default]
    Agreed,
    Safe,
}

impl From<GuaranteeName> for quorate::Guarantee {
    fn from(name: GuaranteeName) -> Self {
        match name {
            GuaranteeName::Agreed => Self::Agreed,
            GuaranteeName::Safe => Self::Safe,
        }
    }
}

impl Request {
    /// Creates a request of this version.
    pub(crate) fn new(wish: Wish) -> Self {
        Self { version: VERSION, wish }
    }

    /// Serializes the request, including its newline.
    pub(crate) fn line(&self) -> Vec<u8> {
        json::line(self)
    }

    /// Parses a request. An error is a sentence for the client.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, String> {
        /// The version, checked before the rest, which may have unknown content in a later version.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let malformed = |error| format!("invalid request: {error}");
        let Versioned { version } = serde_json::from_slice(line).map_err(malformed)?;
        if version != VERSION {
            return Err(format!(
                "this node supports version {VERSION} of the socket protocol, not {version}"
            ));
        }
        serde_json::from_slice(line).map_err(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Wish, String> {
        Request::parse(line.as_bytes()).map(|request| request.wish)
    }

    #[test]
    fn a_request_reads_as_it_was_written() {
        let cat = Cat { group: "orders".into(), guarantee: GuaranteeName::Safe, status: true };
        for wish in [Wish::Status, Wish::Release, Wish::Watch, Wish::Cat(cat)] {
            let request = Request::new(wish);
            assert_eq!(Request::parse(&request.line()), Ok(request));
        }
    }

    #[test]
    fn omitted_fields_of_a_request_have_defaults() {
        let cat = Cat { group: "g".into(), guarantee: GuaranteeName::Agreed, status: false };
        assert_eq!(parse(r#"{"version":1,"request":"cat","group":"g"}"#), Ok(Wish::Cat(cat)));
    }

    #[test]
    fn fields_from_the_future_are_ignored() {
        assert_eq!(parse(r#"{"version":1,"request":"status","colour":"blue"}"#), Ok(Wish::Status));
    }

    #[test]
    fn a_later_version_is_rejected_with_the_supported_one() {
        let error = parse(r#"{"version":2,"request":"levitate"}"#).unwrap_err();
        assert_eq!(error, "this node supports version 1 of the socket protocol, not 2");
    }

    #[test]
    fn garbage_is_answered_with_a_sentence() {
        for garbage in
            ["", "null", "GET / HTTP/1.1", r#"{"version":1}"#, r#"{"version":1,"request":"levitate"}"#]
        {
            let error = parse(garbage).unwrap_err();
            assert!(error.starts_with("invalid request: "), "{error}");
        }
    }
}
