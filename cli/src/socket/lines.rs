//! A ring's events and a node's status as lines for clients.

use std::collections::BTreeSet;

use quorate::{
    Delivery, Group, GroupChange, Guarantee, Lease, NodeId, Notice, Process, Regular, RingId, Sighting,
    Stats, Status, Transitional,
};
use quorate_client::{self as client, Event};

fn ids(nodes: &BTreeSet<NodeId>) -> Vec<u32> {
    nodes.iter().map(|node| node.get()).collect()
}

fn processes(processes: &BTreeSet<Process>) -> Vec<client::Process> {
    processes.iter().map(|&Process { node, pid }| client::Process { node: node.get(), pid }).collect()
}

/// Returns the line of a regular configuration.
pub(crate) fn regular(regular: &Regular) -> Vec<u8> {
    let event = Event::Regular {
        ring: regular.ring.to_string().into(),
        members: ids(&regular.members),
        joined: ids(&regular.joined),
        left: ids(&regular.left),
        cause: regular.why(),
    };
    event.to_line()
}

/// Returns the line of a transitional configuration.
pub(crate) fn transitional(transitional: &Transitional) -> Vec<u8> {
    let event = Event::Transitional {
        ring: transitional.ring.to_string().into(),
        previous: transitional.previous.to_string().into(),
        members: ids(&transitional.members),
        left: ids(&transitional.left),
    };
    event.to_line()
}

/// Returns the line of a change of a group.
pub(crate) fn group_change(change: &GroupChange) -> Vec<u8> {
    let event = Event::Group {
        ring: change.ring.to_string().into(),
        group: change.group.to_string().into(),
        members: processes(&change.members),
        joined: processes(&change.joined),
        left: processes(&change.left),
        reason: Some(change.reason.to_string().into()),
    };
    event.to_line()
}

/// Returns the line for a process that is already in a group.
pub(crate) fn group(ring: RingId, group: &Group, members: &BTreeSet<Process>) -> Vec<u8> {
    let event = Event::Group {
        ring: ring.to_string().into(),
        group: group.to_string().into(),
        members: processes(members),
        joined: Vec::new(),
        left: Vec::new(),
        reason: None,
    };
    event.to_line()
}

/// Appends the line of a message. `ring` is the text of its ring.
pub(crate) fn append_delivery(to: &mut Vec<u8>, ring: &str, delivery: &Delivery) {
    let (payload, payload_base64) = client::Delivery::encode(&delivery.payload);
    let event = Event::Deliver(client::Delivery {
        ring: ring.into(),
        seq: delivery.seq.get(),
        from: delivery.from.get(),
        pid: delivery.pid,
        guarantee: match delivery.guarantee {
            Guarantee::Agreed => client::Guarantee::Agreed,
            Guarantee::Safe => client::Guarantee::Safe,
        },
        transitional: delivery.transitional,
        payload,
        payload_base64,
    });
    event.append_to(to);
}

/// Returns the line of a status.
pub(crate) fn status_event(status: &Status) -> Vec<u8> {
    Event::Status(Box::new(status_fields(status))).to_line()
}

/// Returns the line that ends any answer with an error.
pub(crate) fn error(message: &str) -> Vec<u8> {
    Event::Error { message: message.into() }.to_line()
}

/// Returns the answer to a status request.
pub(crate) fn status_answer(
    node: NodeId,
    name: &str,
    text: String,
    status: &Status,
    stats: &Stats,
    log_lines_lost: u64,
) -> Vec<u8> {
    let notice = |(notice, sighting): (&Notice, &Sighting)| client::Notice {
        node: notice.peer().map(NodeId::get),
        source: sighting.source.map(|source| source.to_string()),
        count: sighting.count,
        text: notice.to_string(),
    };
    let answer = client::Answer {
        version: client::VERSION,
        node: node.get(),
        name: name.to_owned(),
        text,
        status: status_fields(status),
        stats: client::Stats {
            counters: Stats::COUNTERS
                .iter()
                .map(|counter| (counter.name.to_owned(), counter.of(stats)))
                .collect(),
            refused: stats.refused.iter().map(|(refusal, count)| (refusal.to_string(), *count)).collect(),
        },
        notices: stats.notices.iter().map(notice).collect(),
        log_lines_lost,
    };
    answer.to_line()
}

/// Returns the answer to a release request, with the new DC.
pub(crate) fn release_answer(dc: NodeId) -> Vec<u8> {
    client::Released { version: client::VERSION, dc: dc.get() }.to_line()
}

fn status_fields(status: &Status) -> client::Status {
    let node = |node: &quorate::NodeStatus| client::NodeStatus {
        id: node.id.get(),
        name: node.name.clone(),
        online: node.online,
        votes: node.votes,
        device: node.device.registered.then_some(client::NodeDevice {
            alive: node.device.alive,
            casts: node.device.casts,
            master_wins: node.device.master_wins,
        }),
        metadata: node.metadata.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    };
    let device = |device: &quorate::DeviceStatus| client::Device {
        name: device.name.clone(),
        votes: device.votes,
        casts: device.casts,
    };
    let term = |term: quorate::Term| client::Term {
        ring_seq: term.ring_seq,
        hand_over: term.hand_over,
        node: term.node.get(),
        fencing_token: term.to_string(),
    };
    client::Status {
        ring: status.ring.map(|ring| ring.to_string()),
        settled: status.settled,
        nodes: status.nodes.iter().map(node).collect(),
        dc: status.dc.map(NodeId::get),
        term: status.term.map(term),
        lease: match status.lease {
            Lease::None => client::Lease::None,
            Lease::Waiting => client::Lease::Waiting,
            Lease::Held => client::Lease::Held,
        },
        vacant: status.vacant.as_ref().map(ToString::to_string),
        quorate: status.quorate,
        inquorate: status.inquorate.as_ref().map(ToString::to_string),
        total_votes: status.total_votes,
        expected_votes: status.expected_votes,
        quorum: status.quorum,
        differences: status.differences.clone(),
        flags: status.flags.iter().map(ToString::to_string).collect(),
        device: status.device.as_ref().map(device),
        cause: status.cause.clone(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate::{
        Cause, DeviceState, DeviceStatus, GroupReason, Inquorate, NodeStatus, Refusal, Seq, Term, Vacancy,
    };
    use serde_json::Value;

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
            "1.2a",
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

    fn node(id: NodeId) -> NodeStatus {
        let device = DeviceState::default();
        let metadata = quorate::Metadata::new().with("http", "10.0.0.1:80").unwrap();
        NodeStatus { id, name: "system1".into(), online: true, votes: 1, device, metadata }
    }

    #[test]
    fn a_status_prints_the_ring_as_events_do() {
        let dc = NodeId::new(1).unwrap();
        let status = Status {
            ring: Some("1.2a".parse().unwrap()),
            nodes: vec![node(dc)],
            dc: Some(dc),
            term: Some(Term { ring_seq: 1, hand_over: 0, node: dc }),
            ..Status::default()
        };
        let mut stats = Stats::default();
        stats.tokens = 9;
        stats.refuse(Refusal::Magic);
        let line = status_answer(dc, "system1", "a\nb\n".to_owned(), &status, &stats, 17);
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

    /// A field that is added to the status must also be added for clients.
    #[test]
    fn clients_see_every_field_of_the_status() {
        let dc = NodeId::new(1).unwrap();
        let status = Status {
            nodes: vec![node(dc)],
            dc: Some(dc),
            term: Some(Term { ring_seq: 1, hand_over: 0, node: dc }),
            vacant: Some(Vacancy::NoCandidate),
            inquorate: Some(Inquorate::Unsettled),
            differences: vec!["clause".into()],
            flags: vec!["Quorate"],
            device: Some(DeviceStatus::new(Some("Qdevice".to_owned()), 1, true)),
            ..Status::default()
        };
        let ours = serde_json::to_value(&status).unwrap();
        assert_eq!(ours, serde_json::to_value(status_fields(&status)).unwrap());
    }

    /// Clients see no device where none is registered, and need not be told that one is.
    #[test]
    fn clients_see_the_state_of_a_registered_device() {
        let seen = |flags: u32| {
            let mut node = node(NodeId::new(1).unwrap());
            node.device = DeviceState::of(flags);
            status_fields(&Status { nodes: vec![node], ..Status::default() }).nodes[0].device
        };
        let device = |alive, casts, master_wins| Some(client::NodeDevice { alive, casts, master_wins });
        assert_eq!(seen(0), None);
        assert_eq!(seen(0x10), device(false, false, false));
        assert_eq!(seen(0x30), device(true, false, false));
        assert_eq!(seen(0x70), device(true, true, false));
        assert_eq!(seen(0x90), device(false, false, true));
    }
}
