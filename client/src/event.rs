//! The lines from a node to a client.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::{Guarantee, Status, append_line};

/// A line of a node's answer to [`Request::Watch`](crate::Request::Watch) or
/// [`Request::Cat`](crate::Request::Cat). The line of an error may answer any request.
///
/// Node ids are numbers. Rings are printed as corosync prints them: the representative's id, a
/// point, and the sequence number in hexadecimal digits.
///
/// Nodes make these values, and clients read them. A field that is added does not count as a
/// breaking change, so a pattern should end with `..`. The same holds for all structs of this
/// crate.
///
/// ```
/// use quorate_client::Event;
///
/// let line = br#"{"event":"stalled","ms":750}"#;
/// assert_eq!(Event::parse(line).unwrap(), Event::Stalled { ms: 750 });
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Event<'a> {
    /// A ring was installed. The first line is the current ring.
    Regular {
        /// The ring.
        ring: Cow<'a, str>,
        /// Its members, ascending.
        members: Vec<u32>,
        /// Members that were not in the node's previous ring.
        joined: Vec<u32>,
        /// Members of the previous ring that are not in this one.
        left: Vec<u32>,
        /// Why the ring was formed, as a sentence without a full stop.
        cause: String,
    },
    /// A ring is over. Until the next regular configuration, messages are sure to reach only
    /// `members`.
    Transitional {
        /// The ring that comes next.
        ring: Cow<'a, str>,
        /// The ring that is over.
        previous: Cow<'a, str>,
        /// The members of the previous ring that come along.
        members: Vec<u32>,
        /// The members of the previous ring that do not.
        left: Vec<u32>,
    },
    /// A group has other members.
    Group {
        /// The ring.
        ring: Cow<'a, str>,
        /// The group's name.
        group: Cow<'a, str>,
        /// The group's members, ascending.
        members: Vec<Process>,
        /// The processes that joined with this change.
        joined: Vec<Process>,
        /// The processes that left with this change.
        left: Vec<Process>,
        /// The reason: `join`, `leave`, `nodedown`, `nodeup` or `procdown`. `None` if nothing
        /// changed, which tells a further connection of a process the present members.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Cow<'a, str>>,
    },
    /// A message of the group.
    Deliver(Delivery<'a>),
    /// The node's status: first the present one, then each change.
    Status(Box<Status>),
    /// The node's process was paused.
    Stalled {
        /// The length of the pause in milliseconds.
        ms: u64,
    },
    /// All messages of this client were delivered. No line follows.
    End {
        /// The number of messages.
        sent: u64,
    },
    /// The answer failed. No line follows.
    Error {
        /// The reason.
        message: Cow<'a, str>,
    },
    /// A kind of event that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A process in a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Process {
    /// The id of its node.
    pub node: u32,
    /// Its process id there.
    pub pid: u32,
}

/// A message of a group, at its place in the ring's order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delivery<'a> {
    /// The ring that ordered it.
    pub ring: Cow<'a, str>,
    /// Its number in the ring's order. Several messages may share a frame, and so a number.
    pub seq: u32,
    /// The id of the sender's node.
    pub from: u32,
    /// The sender's process id there.
    pub pid: u32,
    /// Its guarantee.
    pub guarantee: Guarantee,
    /// Whether the ring is over, so that members that do not come along may never receive the
    /// message. The client applies it, and must not acknowledge it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transitional: bool,
    /// The payload, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Cow<'a, str>>,
    /// The payload as base64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
}

impl Delivery<'_> {
    /// Returns the payload; `None` if the line has none that can be decoded.
    ///
    /// ```
    /// use quorate_client::Event;
    ///
    /// let line = br#"{"event":"deliver","ring":"1.8","seq":7,"from":2,"pid":99,
    ///     "guarantee":"safe","payload_base64":"/wAB"}"#;
    /// let Ok(Event::Deliver(message)) = Event::parse(line) else { panic!() };
    /// assert_eq!(message.bytes().unwrap()[..], b"\xff\x00\x01"[..]);
    /// ```
    pub fn bytes(&self) -> Option<Cow<'_, [u8]>> {
        match (&self.payload, &self.payload_base64) {
            (Some(text), _) => Some(Cow::Borrowed(text.as_bytes())),
            (None, Some(encoded)) => BASE64_STANDARD.decode(encoded).ok().map(Cow::Owned),
            (None, None) => None,
        }
    }
}

impl<'a> Delivery<'a> {
    /// Returns the fields `payload` and `payload_base64` for these bytes.
    pub fn encode(payload: &'a [u8]) -> (Option<Cow<'a, str>>, Option<String>) {
        match std::str::from_utf8(payload) {
            Ok(text) => (Some(Cow::Borrowed(text)), None),
            Err(_) => (None, Some(BASE64_STANDARD.encode(payload))),
        }
    }
}

impl Event<'_> {
    /// The beginning of the line of [`Event::End`].
    pub const END: &'static [u8] = br#"{"event":"end""#;

    /// The beginning of the line of [`Event::Error`].
    pub const ERROR: &'static [u8] = br#"{"event":"error""#;

    /// Serializes the event as one line, including the newline.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = Vec::new();
        self.append_to(&mut line);
        line
    }

    /// Appends the event as one line, including the newline.
    pub fn append_to(&self, to: &mut Vec<u8>) {
        append_line(to, self);
    }

    /// Returns the message of an error's line; `None` if the line is something else.
    pub fn error_message(line: &[u8]) -> Option<String> {
        if !line.starts_with(Self::ERROR) {
            return None;
        }
        match Event::parse(line) {
            Ok(Event::Error { message }) => Some(message.into_owned()),
            _ => None,
        }
    }
}

impl Event<'static> {
    /// Parses a line.
    ///
    /// # Errors
    /// Fails if the line is not an event.
    pub fn parse(line: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(event: &Event<'_>) -> String {
        String::from_utf8(event.to_line()).unwrap()
    }

    #[test]
    fn an_event_reads_as_it_was_written() {
        let process = Process { node: 1, pid: 70 };
        let delivery = |bytes: &'static [u8]| {
            let (payload, payload_base64) = Delivery::encode(bytes);
            let (ring, guarantee) = ("1.2a".into(), Guarantee::Agreed);
            Event::Deliver(Delivery {
                ring,
                seq: 7,
                from: 2,
                pid: 4711,
                guarantee,
                transitional: true,
                payload,
                payload_base64,
            })
        };
        for event in [
            Event::Regular {
                ring: "1.4".into(),
                members: vec![1],
                joined: vec![],
                left: vec![],
                cause: "so".into(),
            },
            Event::Transitional {
                ring: "1.8".into(),
                previous: "1.4".into(),
                members: vec![1],
                left: vec![2],
            },
            Event::Group {
                ring: "1.8".into(),
                group: "g".into(),
                members: vec![process],
                joined: vec![process],
                left: vec![],
                reason: Some("join".into()),
            },
            delivery(b"text"),
            delivery(b""),
            delivery(b"\xff\x00\x01"),
            Event::Status(Box::default()),
            Event::Stalled { ms: 750 },
            Event::End { sent: 3 },
            Event::Error { message: "no \"such\" thing".into() },
        ] {
            assert_eq!(Event::parse(&event.to_line()).unwrap(), event);
        }
    }

    #[test]
    fn a_payload_is_text_if_it_can_be() {
        assert_eq!(Delivery::encode("grüß".as_bytes()), (Some("grüß".into()), None));
        assert_eq!(Delivery::encode(b"\xff\x00\x01"), (None, Some("/wAB".into())));
    }

    #[test]
    fn an_error_line_is_known_by_its_beginning() {
        let error = Event::Error { message: "no \"such\" thing".into() };
        assert!(error.to_line().starts_with(Event::ERROR));
        assert_eq!(Event::error_message(&error.to_line()).as_deref(), Some("no \"such\" thing"));
        let end = Event::End { sent: 3 };
        assert!(end.to_line().starts_with(Event::END));
        assert_eq!(Event::error_message(&end.to_line()), None);
        assert_eq!(text(&end), "{\"event\":\"end\",\"sent\":3}\n");
    }

    #[test]
    fn unknown_events_and_fields_are_ignored() {
        assert_eq!(Event::parse(br#"{"event":"eclipse","of":"the sun"}"#).unwrap(), Event::Unknown);
        let stalled = Event::parse(br#"{"event":"stalled","ms":1,"colour":"blue"}"#).unwrap();
        assert_eq!(stalled, Event::Stalled { ms: 1 });
    }
}
