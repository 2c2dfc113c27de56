//! The fields of a message: names and values in a fixed order, as text or as JSON.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use quorate_membership::wire::body::{Body, CpgPart, Source, VoteParameter};
use quorate_membership::wire::{Message, Multicast};
use quorate_membership::{NodeId, RingId};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A list of named values. The value named `kind` says what the others describe. Text output omits
/// the name `kind`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Fields(Vec<(Cow<'static, str>, Value)>);

/// A value. In text, a flag is printed only if it is set, and unknown values are omitted.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Not known, `null` in JSON.
    Unknown,
    /// Yes or no.
    Flag(bool),
    /// A number.
    Number(u64),
    /// A time in seconds.
    Seconds(f64),
    /// Text, which may come from the network. `Display` escapes it.
    Text(String),
    /// Values.
    List(Vec<Value>),
    /// Named values.
    Record(Fields),
}

impl Fields {
    /// Returns a list that begins with this kind.
    pub fn kind(kind: &str) -> Self {
        Self::default().with("kind", kind)
    }

    /// Adds a value.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        self.0.push((name.into(), value.into()));
        self
    }

    /// Returns the value of this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name) == Some(&Value::Flag(true))
    }

    /// Adds all values of another list.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<NodeId> for Value {
    fn from(node: NodeId) -> Self {
        node.get().into()
    }
}

impl From<RingId> for Value {
    fn from(ring: RingId) -> Self {
        Self::Text(ring.to_string())
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        Self::Record(fields)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Unknown, Into::into)
    }
}

impl<T: Into<Value>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unknown => serializer.serialize_none(),
            Self::Flag(flag) => flag.serialize(serializer),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
            Self::Seconds(seconds) => seconds.serialize(serializer),
            Self::List(values) => values.serialize(serializer),
            Self::Record(fields) => fields.serialize(serializer),
        }
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().filter(|(_, value)| !matches!(value, Value::Unknown | Value::Flag(false)));
        for (i, (name, value)) in shown.enumerate() {
            if i > 0 {
                f.write_char(' ')?;
            }
            match value {
                Value::Flag(_) => f.write_str(name)?,
                _ if *name == "kind" => write!(f, "{value}")?,
                _ => write!(f, "{name}={value}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_char('-'),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Seconds(seconds) => write!(f, "{seconds:.6}"),
            // Names come from the network, so they are escaped before they reach a terminal.
            Self::Text(text) if text.is_empty() || !text.chars().all(plain) => write!(f, "{text:?}"),
            Self::Text(text) => f.write_str(text),
            Self::List(values) => {
                f.write_char('[')?;
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i > 0 { " " } else { "" })?;
                }
                f.write_char(']')
            }
            Self::Record(fields) => write!(f, "{{{fields}}}"),
        }
    }
}

fn plain(c: char) -> bool {
    c.is_ascii_graphic() && !"\"\\[]{}=".contains(c)
}

/// Returns the kind of a message.
pub(crate) fn kind_of_message(message: &Message) -> &'static str {
    match message {
        Message::Token(_) => "token",
        Message::Multicast(_) => "multicast",
        Message::MergeDetect(_) => "merge-detect",
        Message::Join(join) if join.leave => "leave",
        Message::Join(_) => "join",
        Message::Commit(_) => "commit",
        Message::HoldCancel(_) => "hold-cancel",
    }
}

/// Returns the fields of a Totem message. For a frame, these are the fields of its header.
pub(crate) fn of_message(message: &Message) -> Fields {
    let fields = Fields::kind(kind_of_message(message));
    match message {
        Message::Token(token) => fields
            .with("node", token.from)
            .with("seq", token.seq.get())
            .with("token_seq", token.token_seq.get())
            .with("aru", token.aru.get())
            .with("aru_addr", token.aru_addr)
            .with("ring", token.ring)
            .with("backlog", token.backlog)
            .with("fcc", token.fcc)
            .with("retrans_flg", token.retrans_flg)
            .with(
                "rtr",
                token
                    .rtr
                    .iter()
                    .map(|entry| Fields::default().with("ring", entry.ring).with("seq", entry.seq.get()))
                    .collect::<Value>(),
            ),
        Message::Multicast(frame) => of_frame(frame),
        Message::MergeDetect(probe) => fields.with("node", probe.from).with("ring", probe.ring),
        Message::Join(join) => fields
            .with("node", join.from)
            .with("ring_seq", join.ring_seq)
            .with("proc", join.proc.iter().copied().collect::<Value>())
            .with("failed", join.failed.iter().copied().collect::<Value>()),
        Message::Commit(commit) => fields
            .with("node", commit.from)
            .with("token_seq", commit.token_seq)
            .with("ring", commit.ring)
            .with("members", commit.members.iter().copied().collect::<Value>())
            .with(
                "entries",
                commit
                    .entries
                    .iter()
                    .map(|entry| {
                        Fields::default()
                            .with("ring", entry.ring)
                            .with("aru", entry.aru.get())
                            .with("high_delivered", entry.high_delivered.get())
                            .with("received", entry.received)
                    })
                    .collect::<Value>(),
            ),
        Message::HoldCancel(cancel) => fields.with("node", cancel.from).with("ring", cancel.ring),
    }
}

/// Returns the fields of a frame's header.
pub(crate) fn of_frame(frame: &Multicast) -> Fields {
    Fields::kind("multicast")
        .with("node", frame.from)
        .with("seq", frame.seq.get())
        .with("this_seqno", frame.this_seqno)
        .with("ring", frame.ring)
        .with("guarantee", frame.guarantee.to_string())
}

/// Returns the kind of a body.
pub(crate) fn kind_of(body: &Body) -> &'static str {
    match body {
        Body::ServiceBuild { .. } => "service-build",
        Body::Barrier { .. } => "barrier",
        Body::Cmap(_) => "cmap",
        Body::RingReenable(_) => "ring-reenable",
        Body::KillNode { .. } => "kill-node",
        Body::Shutdown => "shutdown",
        Body::Reload(_) => "reload",
        Body::CryptoReconfigure { .. } => "crypto-reconfigure",
        Body::CpgJoin(_) => "cpg-join",
        Body::CpgLeave(_) => "cpg-leave",
        Body::CpgJoinList(_) => "cpg-join-list",
        Body::CpgMcast(_) => "cpg-mcast",
        Body::CpgPartial(_) => "cpg-partial",
        Body::CpgDownList { .. } => "cpg-down-list",
        Body::NodeInfo(_) => "node-info",
        Body::Reconfigure(_) => "reconfigure",
        Body::Qdevice { .. } => "qdevice",
        Body::QdeviceRenamed { .. } => "qdevice-renamed",
        Body::ExtraInfo { .. } => "extra-info",
        Body::Quorate(_) => "quorate",
        Body::Capacity { .. } => "capacity",
        Body::Other { .. } => "other",
    }
}

/// Returns the fields of a message from a layer above Totem.
pub(crate) fn of_body(body: &Body) -> Fields {
    let fields = Fields::kind(kind_of(body));
    match body {
        Body::ServiceBuild { ring, services } => {
            fields.with("ring", *ring).with("services", services.iter().copied().collect::<Value>())
        }
        Body::Barrier { ring } => fields.with("ring", *ring),
        Body::Cmap(cmap) => fields.with("changed", cmap.changed).with(
            "items",
            cmap.items
                .iter()
                .map(|item| {
                    Fields::default()
                        .with("key", text(&item.key))
                        .with("type", u32::from(item.kind))
                        .with("value", hex(&item.value))
                })
                .collect::<Value>(),
        ),
        Body::RingReenable(source) | Body::Reload(source) => fields.and(of_source(source)),
        Body::KillNode { node, reason } => fields.with("node", *node).with("reason", text(reason)),
        Body::Shutdown => fields,
        Body::CryptoReconfigure { phase } => fields.with("phase", *phase),
        Body::CpgJoin(process) | Body::CpgLeave(process) => fields
            .with("name", process.group.to_string())
            .with("pid", process.pid)
            .with("reason", process.reason),
        Body::CpgJoinList(members) => fields.with(
            "processes",
            members
                .iter()
                .map(|member| {
                    Fields::default().with("name", member.group.to_string()).with("pid", member.pid)
                })
                .collect::<Value>(),
        ),
        Body::CpgMcast(mcast) => fields
            .with("name", mcast.group.to_string())
            .with("pid", mcast.pid)
            .with("node", mcast.node)
            .with("length", mcast.payload.len()),
        Body::CpgPartial(partial) => fields
            .with("name", partial.group.to_string())
            .with("pid", partial.pid)
            .with("node", partial.node)
            .with(
                "part",
                match partial.part {
                    CpgPart::First => "first",
                    CpgPart::Continued => "continued",
                    CpgPart::Last => "last",
                },
            )
            .with("whole", partial.whole)
            .with("length", partial.payload.len()),
        Body::CpgDownList { old_members, left } => {
            fields.with("old_members", *old_members).with("left", left.iter().copied().collect::<Value>())
        }
        Body::NodeInfo(info) => fields
            .with("node", info.node.map_or(0, NodeId::get))
            .with("votes", info.votes)
            .with("expected_votes", info.expected_votes)
            .with("flags", info.flags),
        Body::Reconfigure(reconfigure) => {
            fields.with("node", reconfigure.node).with("value", reconfigure.value).with(
                "parameter",
                match reconfigure.parameter {
                    VoteParameter::ExpectedVotes => "expected-votes",
                    VoteParameter::Votes => "votes",
                    VoteParameter::CancelWaitForAll => "cancel-wait-for-all",
                },
            )
        }
        Body::Qdevice { registers, name } => fields.with("registers", *registers).with("name", text(name)),
        Body::QdeviceRenamed { old, new } => fields.with("old", text(old)).with("new", text(new)),
        Body::ExtraInfo { node, content } => fields.with("node", *node).with("length", content.len()),
        Body::Quorate(message) => fields.with("length", message.len()),
        Body::Capacity { frames } => fields.with("frames", *frames),
        Body::Other { service, function, content } => fields
            .with("service", u32::from(*service))
            .with("function", u32::from(*function))
            .with("length", content.len()),
    }
}

fn of_source(source: &Source) -> Fields {
    Fields::default().with("node", source.node).with("connection", source.connection)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
