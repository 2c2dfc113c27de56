//! The lines from a client to a node.

use serde::{Deserialize, Serialize};

use crate::{VERSION, append_line};

/// The first line that a client sends. [`Request::to_line`] adds the version of the protocol, and
/// [`Request::parse`] checks it.
///
/// ```
/// use quorate_client::Request;
///
/// assert_eq!(Request::Watch.to_line(), b"{\"version\":1,\"request\":\"watch\"}\n");
/// assert_eq!(Request::parse(br#"{"version":1,"request":"watch"}"#).unwrap(), Request::Watch);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase")]
pub enum Request {
    /// Returns the node's state, once.
    Status,
    /// Makes the node give up the role of DC.
    Release,
    /// Streams each ring and each change of the status.
    Watch,
    /// Sends messages to a group, and streams the group's events.
    Cat(Cat),
}

/// A client's place in a process group.
///
/// ```
/// use quorate_client::Cat;
///
/// let cat = Cat::new("orders").safe().with_status();
/// # assert_eq!(cat.group, "orders");
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cat {
    /// The group's name, at most 128 bytes.
    pub group: String,
    /// The guarantee for the client's messages. Default: agreed.
    #[serde(default)]
    pub guarantee: Guarantee,
    /// Whether to include changes of the status, at their places in the ring's order. Default: no.
    #[serde(default)]
    pub status: bool,
}

impl Cat {
    /// Returns a place in this group, with agreed messages and without changes of the status.
    pub fn new(group: impl Into<String>) -> Self {
        Self { group: group.into(), guarantee: Guarantee::Agreed, status: false }
    }

    /// Makes the client's messages safe.
    #[must_use]
    pub fn safe(self) -> Self {
        Self { guarantee: Guarantee::Safe, ..self }
    }

    /// Includes changes of the status.
    #[must_use]
    pub fn with_status(self) -> Self {
        Self { status: true, ..self }
    }
}

/// The guarantee under which a message is delivered to the group's processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Guarantee {
    /// Delivered as soon as all messages before it in the ring's order have been.
    #[default]
    Agreed,
    /// Delivered like an agreed message, but only once each member of the ring has received it.
    /// This takes about one more rotation of the token.
    Safe,
}

/// The reason why a request is not understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The line is not a request.
    #[error("invalid request: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The request is of another version of the protocol.
    #[error("this node supports version {VERSION} of the socket protocol, not {0}")]
    Version(u32),
}

impl Request {
    /// Serializes the request with its version, as one line including the newline.
    pub fn to_line(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Versioned<'a> {
            version: u32,
            #[serde(flatten)]
            request: &'a Request,
        }
        let mut line = Vec::new();
        append_line(&mut line, &Versioned { version: VERSION, request: self });
        line
    }

    /// Parses a line.
    ///
    /// # Errors
    /// Fails if the line is not a request of this version. The error is a sentence for the client.
    pub fn parse(line: &[u8]) -> Result<Self, RequestError> {
        /// The version, checked before the rest, which may have unknown content in a later version.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(line)?;
        if version != VERSION {
            return Err(RequestError::Version(version));
        }
        Ok(serde_json::from_slice(line)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, String> {
        Request::parse(line.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_request_reads_as_it_was_written() {
        let cat = Request::Cat(Cat::new("orders").safe().with_status());
        for request in [Request::Status, Request::Release, Request::Watch, cat] {
            assert_eq!(Request::parse(&request.to_line()).unwrap(), request);
        }
    }

    #[test]
    fn omitted_fields_of_a_request_have_defaults() {
        let cat = Request::Cat(Cat::new("g"));
        assert_eq!(parse(r#"{"version":1,"request":"cat","group":"g"}"#), Ok(cat));
    }

    #[test]
    fn fields_from_the_future_are_ignored() {
        assert_eq!(parse(r#"{"version":1,"request":"status","colour":"blue"}"#), Ok(Request::Status));
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
