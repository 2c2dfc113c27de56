//! The changes between events, one sentence each.

use crate::{Event, Lease, Status};

/// Turns the events of [`Client::watch`](crate::Client::watch) into sentences: each ring, and each
/// change of quorum, DC and lease.
///
/// ```
/// use quorate_client::{Event, text::Changes};
///
/// let mut changes = Changes::default();
/// let sentences = changes.of(Event::Stalled { ms: 750 });
/// assert_eq!(sentences, ["this node's process was paused for 750 ms"]);
/// ```
#[derive(Debug, Default)]
pub struct Changes {
    /// The status that has been told.
    status: Option<Box<Status>>,
}

impl Changes {
    /// Returns the changes that an event brings. The first status tells everything.
    pub fn of(&mut self, event: Event<'_>) -> Vec<String> {
        match event {
            Event::Regular { ring, members, joined, left, cause } => {
                let (members, joined, left) = (list(&members), list(&joined), list(&left));
                vec![format!("ring {ring}: members {members}, joined {joined}, left {left}: {cause}")]
            }
            Event::Transitional { previous, members, left, .. } => {
                vec![format!("ring {previous} ends: remaining {}, left {}", list(&members), list(&left))]
            }
            Event::Status(status) => self.of_status(status),
            Event::Stalled { ms } => vec![format!("this node's process was paused for {ms} ms")],
            Event::Group { .. }
            | Event::Deliver(_)
            | Event::End { .. }
            | Event::Error { .. }
            | Event::Unknown => Vec::new(),
        }
    }

    fn of_status(&mut self, status: Box<Status>) -> Vec<String> {
        let before = self.status.as_deref();
        let mut sentences = Vec::new();
        let mut tell = |tell: fn(&Status) -> String| {
            let sentence = tell(&status);
            if Some(&sentence) != before.map(tell).as_ref() {
                sentences.push(sentence);
            }
        };
        // A node without a ring has no quorum. While a new ring is being formed, its quorum and DC
        // are not known yet.
        let known = status.settled || status.ring.is_none();
        if known {
            tell(quorum);
            tell(dc);
        }
        tell(lease);
        if known || before.is_none() {
            self.status = Some(status);
        } else if let Some(before) = &mut self.status {
            before.lease = status.lease;
        }
        sentences
    }
}

fn quorum(status: &Status) -> String {
    let number = |votes: Option<u32>| votes.map_or_else(|| "unknown".to_owned(), |votes| votes.to_string());
    let (expected, needed) = (number(status.expected_votes), number(status.quorum));
    let votes = format!("votes {} of {expected}, needed {needed}", status.total_votes);
    match &status.inquorate {
        None => format!("quorum: {votes}"),
        Some(why) if status.ring.is_none() => format!("NO quorum: {why}"),
        Some(why) => format!("NO quorum: {votes}: {why}"),
    }
}

fn dc(status: &Status) -> String {
    match (status.dc, &status.term, &status.vacant) {
        (Some(dc), Some(term), _) => {
            format!("DC: node {dc} ({}), term {}", status.name(dc), term.fencing_token)
        }
        (Some(dc), None, why) => {
            let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("DC: node {dc} ({}), no term{why}", status.name(dc))
        }
        (None, _, Some(why)) => format!("DC: NONE: {why}"),
        (None, _, None) => "DC: NONE".to_owned(),
    }
}

fn lease(status: &Status) -> String {
    match status.lease {
        Lease::Held => "lease: this node may act as DC",
        Lease::Waiting => "lease: waiting (this node is DC, but may not act now)",
        Lease::None | Lease::Unknown => "lease: none",
    }
    .to_owned()
}

fn list(nodes: &[u32]) -> String {
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    format!("[{}]", nodes.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{inquorate, quorate};

    #[test]
    fn only_changes_are_told() {
        let mut changes = Changes::default();
        let mut told = |status: Status| changes.of(Event::Status(Box::new(status)));
        let first = quorate().status;
        let whole = [
            "quorum: votes 2 of 3, needed 2",
            "DC: node 1 (n1), term 239807672958224171009",
            "lease: this node may act as DC",
        ];
        assert_eq!(told(first.clone()), whole);
        assert!(told(first.clone()).is_empty());
        // On the way to the next ring, the only known fact is that the node may not act.
        let between = Status { settled: false, dc: None, term: None, lease: Lease::None, ..first.clone() };
        assert_eq!(told(between), ["lease: none"]);
        let alone = [
            "NO quorum: votes 1 of 3, needed 2: 1 of 2 votes needed are present",
            "DC: node 1 (n1), no term",
        ];
        assert_eq!(told(inquorate().status), alone);
        let why = "this node is in no ring: no token came for 1650 ms".to_owned();
        let lost = Status {
            ring: None,
            settled: false,
            dc: None,
            inquorate: Some(why.clone()),
            ..inquorate().status
        };
        assert_eq!(told(lost.clone()), [format!("NO quorum: {why}"), "DC: NONE".to_owned()]);
        assert!(told(lost).is_empty());
        assert_eq!(told(first), whole);
    }

    #[test]
    fn rings_have_their_cause_and_unknown_events_are_skipped() {
        let mut changes = Changes::default();
        let mut told = |line: &str| changes.of(Event::parse(line.as_bytes()).unwrap());
        let ring = r#"{"event":"regular","ring":"1.8","members":[1,2],"joined":[2],"left":[],"cause":"node 2 asked to join"}"#;
        assert_eq!(told(ring), ["ring 1.8: members [1 2], joined [2], left []: node 2 asked to join"]);
        let end = r#"{"event":"transitional","ring":"1.c","previous":"1.8","members":[1],"left":[2]}"#;
        assert_eq!(told(end), ["ring 1.8 ends: remaining [1], left [2]"]);
        assert_eq!(told(r#"{"event":"stalled","ms":750}"#), ["this node's process was paused for 750 ms"]);
        assert!(told(r#"{"event":"eclipse","of":"the sun"}"#).is_empty());
    }
}
