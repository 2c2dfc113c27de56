//! A node's lines as JSON objects, one per line.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use quorate::{
    Delivery, Group, GroupChange, GroupReason, Guarantee, NodeId, Notice, Process, Regular, RingId, Sighting,
    Stats, Status, Transitional,
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// The beginning of the line that ends a `cat` in order.
pub(crate) const END: &[u8] = br#"{"event":"end""#;

/// The beginning of the line that ends any answer with an error.
pub(crate) const ERROR: &[u8] = br#"{"event":"error""#;

/// Serializes a value by its `Display` form. Ring ids have corosync's form, and can be parsed
/// again.
fn printed<T: std::fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn printed_if_any<T: std::fmt::Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line<'a> {
    Regular {
        #[serde(serialize_with = "printed")]
        ring: RingId,
        members: &'a BTreeSet<NodeId>,
        joined: &'a BTreeSet<NodeId>,
        left: &'a BTreeSet<NodeId>,
        cause: String,
    },
    Transitional {
        #[serde(serialize_with = "printed")]
        ring: RingId,
        #[serde(serialize_with = "printed")]
        previous: RingId,
        members: &'a BTreeSet<NodeId>,
        left: &'a BTreeSet<NodeId>,
    },
    Group {
        #[serde(serialize_with = "printed")]
        ring: RingId,
        #[serde(serialize_with = "printed")]
        group: &'a Group,
        members: Vec<Member>,
        joined: Vec<Member>,
        left: Vec<Member>,
        #[serde(serialize_with = "printed_if_any", skip_serializing_if = "Option::is_none")]
        reason: Option<GroupReason>,
    },
    Deliver {
        #[serde(serialize_with = "printed")]
        ring: RingId,
        seq: u32,
        from: NodeId,
        pid: u32,
        #[serde(serialize_with = "printed")]
        guarantee: Guarantee,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        transitional: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        payload_base64: Option<String>,
    },
    Status(StatusFields),
    Stalled {
        ms: u64,
    },
    End {
        sent: u64,
    },
    Error {
        message: Cow<'a, str>,
    },
}

/// A process in a group.
#[derive(Serialize)]
struct Member {
    node: NodeId,
    pid: u32,
}

fn members(processes: &BTreeSet<Process>) -> Vec<Member> {
    processes.iter().map(|&Process { node, pid }| Member { node, pid }).collect()
}

/// The fields of [`Status`] as it serializes them, except for the ring, which has the same form as
/// everywhere.
#[derive(Serialize)]
struct StatusFields {
    ring: Option<String>,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

impl From<&Status> for StatusFields {
    fn from(status: &Status) -> Self {
        let mut others = match serde_json::to_value(status) {
            Ok(Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        others.remove("ring");
        Self { ring: status.ring.map(|ring| ring.to_string()), others }
    }
}

/// Returns the answer to a release request, with the new DC.
pub(crate) fn release_answer(dc: Option<NodeId>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Answer {
        version: u32,
        dc: Option<NodeId>,
    }
    line(&Answer { version: super::VERSION, dc })
}

/// Serializes a value as one line, including the newline.
pub(crate) fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::new();
    append(&mut line, value);
    line
}

fn append(to: &mut Vec<u8>, value: &impl Serialize) {
    // Neither can fail: the writer is memory, and all our keys are strings.
    let written = serde_json::to_writer(&mut *to, value);
    debug_assert!(written.is_ok(), "{written:?}");
    to.push(b'\n');
}

/// Returns the line of a regular configuration.
pub(crate) fn regular(regular: &Regular) -> Vec<u8> {
    line(&Line::Regular {
        ring: regular.ring,
        members: &regular.members,
        joined: &regular.joined,
        left: &regular.left,
        cause: regular.why(),
    })
}

/// Returns the line of a transitional configuration.
pub(crate) fn transitional(transitional: &Transitional) -> Vec<u8> {
    line(&Line::Transitional {
        ring: transitional.ring,
        previous: transitional.previous,
        members: &transitional.members,
        left: &transitional.left,
    })
}

/// Returns the line of a change of a group.
pub(crate) fn group_change(change: &GroupChange) -> Vec<u8> {
    line(&Line::Group {
        ring: change.ring,
        group: &change.group,
        members: members(&change.members),
        joined: members(&change.joined),
        left: members(&change.left),
        reason: Some(change.reason),
    })
}

/// Returns the line for a process that is already in a group.
pub(crate) fn group(ring: RingId, group: &Group, processes: &BTreeSet<Process>) -> Vec<u8> {
    let members = members(processes);
    line(&Line::Group { ring, group, members, joined: Vec::new(), left: Vec::new(), reason: None })
}

/// Appends the line of a message.
pub(crate) fn append_delivery(to: &mut Vec<u8>, delivery: &Delivery) {
    let payload = std::str::from_utf8(&delivery.payload).ok();
    append(
        to,
        &Line::Deliver {
            ring: delivery.ring,
            seq: delivery.seq.get(),
            from: delivery.from,
            pid: delivery.pid,
            guarantee: delivery.guarantee,
            transitional: delivery.transitional,
            payload,
            payload_base64: payload.is_none().then(|| BASE64_STANDARD.encode(&delivery.payload)),
        },
    );
}

/// Returns the line of a status.
pub(crate) fn status_event(status: &Status) -> Vec<u8> {
    line(&Line::Status(status.into()))
}

/// Returns the line of a pause of the node's process.
pub(crate) fn stalled(length: Duration) -> Vec<u8> {
    line(&Line::Stalled { ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX) })
}

/// Returns the line that ends a `cat` in order.
pub(crate) fn end(sent: u64) -> Vec<u8> {
    line(&Line::End { sent })
}

/// Returns the line that ends any answer with an error.
pub(crate) fn error(message: &str) -> Vec<u8> {
    line(&Line::Error { message: message.into() })
}

/// Returns the message of an error line; `None` if the line is something else.
pub(crate) fn error_message(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Error {
        message: String,
    }
    if !line.starts_with(ERROR) {
        return None;
    }
    serde_json::from_slice(line).ok().map(|Error { message }| message)
}

/// Returns the answer to a status request.
pub(crate) fn status_answer(
    node: NodeId,
    name: &str,
    text: &str,
    status: &Status,
    stats: &Stats,
    log_lines_lost: u64,
) -> Vec<u8> {
    #[derive(Serialize)]
    struct Answer<'a> {
        version: u32,
        node: NodeId,
        name: &'a str,
        text: &'a str,
        status: StatusFields,
        stats: StatsFields,
        notices: Vec<NoticeFields>,
        log_lines_lost: u64,
    }
    let notices = stats.notices.iter().map(NoticeFields::from).collect();
    line(&Answer {
        version: super::VERSION,
        node,
        name,
        text,
        status: status.into(),
        stats: stats.into(),
        notices,
        log_lines_lost,
    })
}

/// The counters of [`Stats`], with refusals by name.
#[derive(Serialize)]
struct StatsFields {
    #[serde(flatten)]
    counters: BTreeMap<&'static str, u64>,
    refused: BTreeMap<String, u64>,
}

/// A problem that kept a peer out during the last minute.
#[derive(Serialize)]
struct NoticeFields {
    node: Option<NodeId>,
    source: Option<SocketAddr>,
    count: u64,
    text: String,
}

impl From<(&Notice, &Sighting)> for NoticeFields {
    fn from((notice, sighting): (&Notice, &Sighting)) -> Self {
        Self { node: notice.peer(), source: sighting.source, count: sighting.count, text: notice.to_string() }
    }
}

impl From<&Stats> for StatsFields {
    fn from(stats: &Stats) -> Self {
        Self {
            counters: Stats::COUNTERS.iter().map(|counter| (counter.name, counter.of(stats))).collect(),
            refused: stats.refused.iter().map(|(refusal, count)| (refusal.to_string(), *count)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate::{Cause, Refusal, Seq};
    use quorate::{NodeStatus, Term};

    use super::*;

    fn nodes(ids: &[u32]) -> BTreeSet<NodeId> {
        ids.iter().filter_map(|id| NodeId::new(*id)).collect()
    }

    fn text(line: &[u8]) -> &str {
        std::str::from_utf8(line).unwrap().strip_suffix('\n').unwrap()
    }

    fn delivery(payload: &'static [u8]) -> String {
        let mut line = Vec::new();
        append_delivery(
            &mut line,
            &Delivery {
                ring: "1.2a".parse().unwrap(),
                seq: Seq::new(7),
                from: NodeId::new(2).unwrap(),
                pid: 4711,
                group: "g".parse().unwrap(),
                guarantee: Guarantee::Agreed,
                transitional: false,
                payload: Bytes::from_static(payload),
            },
        );
        text(&line).to_owned()
    }

    #[test]
    fn a_regular_configuration_names_members_and_cause() {
        let line = regular(&Regular {
            ring: "1.2a".parse().unwrap(),
            members: nodes(&[1, 2, 3]),
            joined: nodes(&[3]),
            left: nodes(&[]),
            causes: vec![Cause::JoinFrom { node: NodeId::new(3).unwrap() }],
        });
        assert_eq!(
            text(&line),
            r#"{"event":"regular","ring":"1.2a","members":[1,2,3],"joined":[3],"left":[],"cause":"node 3 asked to join"}"#
        );
    }

    #[test]
    fn a_transitional_configuration_names_both_rings() {
        let line = transitional(&Transitional {
            ring: "1.30".parse().unwrap(),
            previous: "1.2c".parse().unwrap(),
            members: nodes(&[1, 2]),
            left: nodes(&[3]),
        });
        assert_eq!(
            text(&line),
            r#"{"event":"transitional","ring":"1.30","previous":"1.2c","members":[1,2],"left":[3]}"#
        );
    }

    #[test]
    fn a_group_change_names_the_change_and_the_members() {
        let process = |node, pid| Process { node: NodeId::new(node).unwrap(), pid };
        let change = GroupChange {
            ring: "1.2a".parse().unwrap(),
            group: "g".parse().unwrap(),
            members: [process(1, 70), process(2, 5)].into(),
            joined: [process(2, 5)].into(),
            left: BTreeSet::new(),
            reason: GroupReason::NodeUp,
        };
        let start = r#"{"event":"group","ring":"1.2a","group":"g","members":[{"node":1,"pid":70},{"node":2,"pid":5}],"#;
        assert_eq!(
            text(&group_change(&change)),
            format!(r#"{start}"joined":[{{"node":2,"pid":5}}],"left":[],"reason":"nodeup"}}"#)
        );
        assert_eq!(
            text(&group(change.ring, &change.group, &change.members)),
            format!(r#"{start}"joined":[],"left":[]}}"#)
        );
    }

    #[test]
    fn a_payload_of_text_is_a_string() {
        assert_eq!(
            delivery("say \"grüß\"\t".as_bytes()),
            r#"{"event":"deliver","ring":"1.2a","seq":7,"from":2,"pid":4711,"guarantee":"agreed","payload":"say \"grüß\"\t"}"#
        );
        assert!(delivery(b"").ends_with(r#""payload":""}"#));
    }

    #[test]
    fn a_payload_that_is_not_text_is_base64() {
        assert!(delivery(b"\xff\x00\x01").ends_with(r#""guarantee":"agreed","payload_base64":"/wAB"}"#));
    }

    #[test]
    fn an_error_line_is_known_by_its_beginning() {
        let line = error("no \"such\" thing");
        assert!(line.starts_with(ERROR));
        assert_eq!(error_message(&line).as_deref(), Some("no \"such\" thing"));
        assert!(end(3).starts_with(END));
        assert_eq!(error_message(&end(3)), None);
    }

    #[test]
    fn a_status_prints_the_ring_as_events_do() {
        let dc = NodeId::new(1).unwrap();
        let status = Status {
            ring: Some("1.2a".parse().unwrap()),
            nodes: vec![NodeStatus { id: dc, name: "system1".into(), online: true, votes: 1 }],
            dc: Some(dc),
            term: Some(Term { ring_seq: 1, hand_over: 0, node: dc }),
            ..Status::default()
        };
        let mut stats = Stats { tokens: 9, ..Stats::default() };
        stats.refuse(Refusal::Magic);
        let line = status_answer(dc, "system1", "a\nb\n", &status, &stats, 17);
        let answer: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(answer["text"], "a\nb\n");
        assert_eq!(answer["status"]["ring"], "1.2a");
        assert_eq!(answer["status"]["term"]["node"], 1);
        assert_eq!(answer["status"]["nodes"][0]["name"], "system1");
        assert_eq!(answer["stats"]["tokens"], 9);
        assert_eq!(answer["stats"]["refused"]["not a Totem message"], 1);
        assert_eq!(answer["notices"], Value::Array(Vec::new()));

        let event = status_event(&status);
        assert!(event.starts_with(br#"{"event":"status","ring":"1.2a","#), "{}", text(&event));
        let none: Value = serde_json::from_slice(&status_event(&Status::default())).unwrap();
        assert_eq!(none["ring"], Value::Null);
        assert_eq!(none["dc"], Value::Null);
    }
}
