//! The local socket of a node, by which `quorate status`, `quorate cat` and anything else on the host talk to it.
//!
//! A Unix stream socket, open to processes of the same user and of root. The client sends one line, its request: a JSON
//! object of at most 4096 bytes. What comes back are JSON objects, one a line; a line that starts with
//! `{"event":"error"` is the last one and says what went wrong in its `message`.
//!
//! **Status**, once; `text` is what `quorate status` prints, the rest what it prints with `--json`:
//! ```text
//! > {"version":1,"request":"status"}
//! < {"version":1,"node":1,"name":"system1","text":"...","status":{...},"stats":{...},"notices":[...],"log_lines_lost":0}
//! ```
//!
//! **Release**, once: the node gives up the role of DC, and answers when another has it, or says why not:
//! ```text
//! > {"version":1,"request":"release"}
//! < {"version":1,"dc":2}
//! ```
//!
//! **Watch**, until the client hangs up: the regular configuration that holds, the status, and each change of them; and when
//! the node's process stood still:
//! ```text
//! > {"version":1,"request":"watch"}
//! < {"event":"regular","ring":"1.8","members":[1,2,3],"joined":[3],"left":[],"cause":"node 3 asked to join"}
//! < {"event":"status","ring":"1.8","settled":true,"dc":1,...}
//! < {"event":"transitional","ring":"1.c","previous":"1.8","members":[1,2],"left":[3]}
//! < {"event":"stalled","ms":750}
//! ```
//!
//! **Cat**, until either side ends it. After the request, the client's side is no longer JSON: each line is the payload
//! of a message, any bytes but the newline that ends it, at most 1 MiB. The first line of the answer is the regular
//! configuration that holds when the request is taken (with `"status":true`, followed by the status). The client's
//! process joins the group, and from there on it gets what the group sees, in the ring's order:
//! ```text
//! > {"version":1,"request":"cat","group":"orders","guarantee":"safe","status":false}
//! > first payload
//! < {"event":"regular","ring":"1.8","members":[1,2,3],"joined":[3],"left":[],"cause":"node 3 asked to join"}
//! < {"event":"group","ring":"1.8","group":"orders","members":[{"node":1,"pid":99}],"joined":[{"node":1,"pid":99}],"left":[],"reason":"join"}
//! < {"event":"deliver","ring":"1.8","seq":7,"from":1,"pid":99,"guarantee":"safe","payload":"first payload"}
//! ```
//! A message that comes between the lines `transitional` and `regular` has `"transitional":true`: the ring is over, and
//! members that do not come along may never get it. It has to be made, and must not be acknowledged.
//!
//! The process leaves the group when its last connection to it ends: with reason `leave` if all was written to it, with
//! `procdown` if the connection broke. A second connection of a process that is in the group already gets the group as
//! it is, a line without a reason.
//!
//! When the client shuts down its sending side, the answer goes on until all it sent was delivered here, and ends with
//! `{"event":"end","sent":1}`. A connection that closes without that line or an error has been cut.
//!
//! Each line ends with a newline. What follows the last one is discarded, as a client that was killed in the middle of a line
//! leaves it; a client that still reads gets an error.
//!
//! Pressure goes back both ways and is bounded: the node takes a client's lines no faster than the ring takes them, and
//! none while the client leaves much unread; a client that leaves [`outbox::LIMIT`] unread gets an error as its next
//! line, and no more. So does the one that leaves most, once all clients together leave [`outbox::TOTAL`] unread.
//!
//! `cat` and `watch` clients have a limited number of places each. Questions and connections that have not said what they want
//! share others, and the longest silent connection makes way. A client that finds no place gets an error; it may find the
//! connection closed to its writes before it has read that.
//!
//! A node that does not know a request, or its version, answers with an error; fields may be added to any object, so a
//! client ignores those that it does not know.

pub(crate) mod address;
pub(crate) mod client;
pub(crate) mod clients;
pub(crate) mod json;
pub(crate) mod outbox;
pub(crate) mod server;

use serde::{Deserialize, Serialize};

/// The version of the protocol.
pub(crate) const VERSION: u32 = 1;

/// The longest request, its newline not counted, in bytes.
pub(crate) const MAX_REQUEST: usize = 4096;

/// The first line that a client sends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) wish: Wish,
}

/// What a client wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase")]
pub(crate) enum Wish {
    /// The node's state, once.
    Status,
    /// That the node gives up the role of DC.
    Release,
    /// To see each ring and each change of the status.
    Watch,
    /// To send to a group, and to see what it sees.
    Cat(Cat),
}

/// What a `cat` request says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Cat {
    /// The group's name.
    pub(crate) group: String,
    /// The guarantee for what the client sends.
    #[serde(default)]
    pub(crate) guarantee: GuaranteeName,
    /// Whether to tell of status changes, too.
    #[serde(default)]
    pub(crate) status: bool,
}

/// [`quorate_membership::Guarantee`] in a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GuaranteeName {
    #[default]
    Agreed,
    Safe,
}

impl From<GuaranteeName> for quorate_membership::Guarantee {
    fn from(name: GuaranteeName) -> Self {
        match name {
            GuaranteeName::Agreed => Self::Agreed,
            GuaranteeName::Safe => Self::Safe,
        }
    }
}

impl Request {
    /// A request of this version.
    pub(crate) fn new(wish: Wish) -> Self {
        Self { version: VERSION, wish }
    }

    /// As it is sent, newline included.
    pub(crate) fn line(&self) -> Vec<u8> {
        json::line(self)
    }

    /// Reads a request; an error is a sentence for the client.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, String> {
        /// The version is judged before the rest: a later version may say things that this one cannot read.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let malformed = |error| format!("the request is not understood: {error}");
        let Versioned { version } = serde_json::from_slice(line).map_err(malformed)?;
        if version != VERSION {
            return Err(format!("this node speaks version {VERSION} of the socket protocol, not {version}"));
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
    fn what_a_request_leaves_out_has_a_default() {
        let cat = Cat { group: "g".into(), guarantee: GuaranteeName::Agreed, status: false };
        assert_eq!(parse(r#"{"version":1,"request":"cat","group":"g"}"#), Ok(Wish::Cat(cat)));
    }

    #[test]
    fn fields_from_the_future_are_ignored() {
        assert_eq!(parse(r#"{"version":1,"request":"status","colour":"blue"}"#), Ok(Wish::Status));
    }

    #[test]
    fn a_later_version_is_told_what_is_spoken_here() {
        let error = parse(r#"{"version":2,"request":"levitate"}"#).unwrap_err();
        assert_eq!(error, "this node speaks version 1 of the socket protocol, not 2");
    }

    #[test]
    fn garbage_is_answered_with_a_sentence() {
        for garbage in
            ["", "null", "GET / HTTP/1.1", r#"{"version":1}"#, r#"{"version":1,"request":"levitate"}"#]
        {
            let error = parse(garbage).unwrap_err();
            assert!(error.starts_with("the request is not understood: "), "{error}");
        }
    }
}
