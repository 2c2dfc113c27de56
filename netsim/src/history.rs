//! The record of what each node saw, and when.

mod fingerprint;
mod line;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem;
use std::time::Duration;

use quorate_election::Status;
use quorate_membership::{Destination, NodeId, Regular, RingId, Transitional, Transmit};

use self::fingerprint::Fingerprint;
pub use self::line::{Content, Delivered, Frame, Holds, Inside, Life, MessageId, Record, Standing, What};
pub(crate) use self::traffic::{Outcome, Sent, Step, Traffic};
use crate::Electorate;

/// Everything that happened in a run, in the order of simulated time. Prints as lines of text.
#[derive(Clone, Default)]
pub struct History {
    nodes: BTreeSet<NodeId>,
    electorate: Box<Electorate>,
    records: Vec<Record>,
    ended_at: Duration,
    datagrams: u64,
    /// The datagrams, if they are kept.
    traffic: Option<Box<Traffic>>,
    hash: Fingerprint,
}

impl History {
    /// Returns an empty history of these nodes, each with one vote.
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        Self { nodes: nodes.into_iter().collect(), ..Self::default() }
    }

    /// Sets the votes of the cluster, and how they count.
    #[must_use]
    pub fn of(mut self, electorate: Electorate) -> Self {
        *self.electorate = electorate;
        self
    }

    /// Keeps all datagrams.
    #[must_use]
    pub(crate) fn with_traffic(mut self) -> Self {
        self.traffic = Some(Box::default());
        self
    }

    /// Adds an event at this time, which must not be before the time of any other record.
    pub fn record(&mut self, at: Duration, life: impl Into<Option<Life>>, what: What) {
        let record = Record { at, life: life.into(), what };
        self.hash.record(&record);
        self.ended_at = self.ended_at.max(at);
        self.push(record);
    }

    /// Counts a record in the [fingerprint](Self::fingerprint) without keeping it.
    pub(crate) fn pass(&mut self, record: &Record) {
        self.hash.record(record);
        self.ended_at = self.ended_at.max(record.at);
    }

    /// Keeps a record that was counted already.
    pub(crate) fn push(&mut self, record: Record) {
        if let Some(traffic) = &mut self.traffic {
            traffic.steps.push(Step::Record(self.records.len()));
        }
        self.records.push(record);
    }

    /// Counts a datagram that was sent in the [fingerprint](Self::fingerprint) without keeping it.
    pub fn sent(&mut self, at: Duration, life: Life, transmit: &Transmit) {
        self.datagrams += 1;
        let to = match transmit.to {
            Destination::Everyone => 0,
            Destination::Member(node) => node.get(),
        };
        self.hash.number(at.as_micros() as u64);
        self.hash.number(u64::from(life.node.get()) << 32 | u64::from(to));
        self.hash.add(&transmit.datagram);
        if let Some(traffic) = &mut self.traffic {
            let receives = |node: &NodeId| match transmit.to {
                Destination::Everyone => *node != life.node,
                Destination::Member(member) => *node == member,
            };
            let to = self.nodes.iter().copied().filter(receives);
            traffic.sent(at, Some(life), transmit.datagram.clone(), to);
        }
    }

    /// Returns the datagrams, if they are kept.
    pub(crate) fn traffic(&mut self) -> Option<&mut Traffic> {
        self.traffic.as_deref_mut()
    }

    /// Takes out the records and the steps so far.
    pub(crate) fn take_steps(&mut self) -> (Vec<Record>, Vec<Step>) {
        let steps = self.traffic.as_mut().map(|traffic| mem::take(&mut traffic.steps));
        (mem::take(&mut self.records), steps.unwrap_or_default())
    }

    /// Returns the datagrams that were kept.
    pub(crate) fn kept_traffic(&self) -> Option<&Traffic> {
        self.traffic.as_deref()
    }

    /// Extends the run to this time.
    pub fn end(&mut self, at: Duration) {
        self.ended_at = self.ended_at.max(at);
    }

    /// Returns all nodes of the cluster, started or not.
    pub fn nodes(&self) -> &BTreeSet<NodeId> {
        &self.nodes
    }

    /// Returns the cluster's votes, and how they count.
    pub fn electorate(&self) -> &Electorate {
        &self.electorate
    }

    /// Returns the records, in ascending order of time.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Returns the time at which the run ended.
    pub fn ended_at(&self) -> Duration {
        self.ended_at
    }

    /// Returns the number of datagrams that were sent. A multicast counts once.
    pub fn datagrams(&self) -> u64 {
        self.datagrams
    }

    /// Returns a hash of every line, of every byte that was sent, and of the times. Two runs have
    /// the same hash only if they were the same.
    pub fn fingerprint(&self) -> u64 {
        self.hash.get()
    }

    /// Returns the records of each life.
    pub fn lives(&self) -> BTreeMap<Life, Vec<&Record>> {
        let mut lives: BTreeMap<Life, Vec<&Record>> = BTreeMap::new();
        for record in &self.records {
            if let Some(life) = record.life {
                lives.entry(life).or_default().push(record);
            }
        }
        lives
    }

    /// Returns the stays in rings of each life, in order.
    pub fn stays(&self) -> BTreeMap<Life, Vec<Stay<'_>>> {
        self.lives().into_iter().map(|(life, records)| (life, Stay::all(&records))).collect()
    }

    /// Returns the statuses of all lives, in ascending order of time, each with the regular
    /// configuration in which it was reported.
    pub fn statuses(&self) -> Vec<Stated<'_>> {
        let mut rings: BTreeMap<Life, &Regular> = BTreeMap::new();
        let mut all = Vec::new();
        for record in &self.records {
            let Some(life) = record.life else { continue };
            match &record.what {
                What::Regular(regular) => drop(rings.insert(life, regular)),
                What::Left(_) => drop(rings.remove(&life)),
                What::Status(status) => {
                    all.push(Stated { at: record.at, life, regular: rings.get(&life).copied(), status });
                }
                _ => {}
            }
        }
        all
    }

    /// Returns the latest status that a node's application had at this time, or `None` if the node
    /// was down or had no status yet.
    pub fn status(&self, node: u32, at: Duration) -> Option<&Status> {
        let until = self.records.partition_point(|record| record.at <= at);
        let records = self.records.iter().take(until).rev();
        let of_node = records.filter(|record| record.life.is_some_and(|life| life.node.get() == node));
        for record in of_node {
            match &record.what {
                What::Status(status) => return Some(status),
                What::Started | What::Crashed | What::Panicked => return None,
                _ => {}
            }
        }
        None
    }

    /// Returns the messages delivered to a node, in order, over all its lives.
    pub fn delivered(&self, node: u32) -> Vec<&Delivered> {
        let of_node =
            self.records.iter().filter(|record| record.life.is_some_and(|life| life.node.get() == node));
        of_node
            .filter_map(|record| match &record.what {
                What::Delivered(delivered) => Some(delivered),
                _ => None,
            })
            .collect()
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.records.iter().try_for_each(|record| writeln!(f, "{record}"))
    }
}

/// The same as `Display`, because a failed test prints this one.
impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A node's stay in one ring, with its regular configuration and the transitional one that ends it.
/// If a history does not have this shape (S6), the stays contain what fits.
#[derive(Debug)]
pub struct Stay<'a> {
    /// The time at which the ring was installed.
    pub since: Duration,
    /// The time of the last event in it.
    pub until: Duration,
    /// The ring.
    pub regular: &'a Regular,
    /// The time at which the members had exchanged their announcements.
    pub synced_at: Option<Duration>,
    /// The messages delivered in the regular configuration.
    pub in_regular: Vec<&'a Delivered>,
    /// The transitional configuration that ended the stay, if it ended.
    pub transitional: Option<&'a Transitional>,
    /// The messages delivered in the transitional configuration.
    pub in_transitional: Vec<&'a Delivered>,
    /// The ring that was installed next.
    pub next: Option<RingId>,
}

/// A status with the place and time at which it was reported.
#[derive(Clone, Copy, Debug)]
pub struct Stated<'a> {
    /// The time.
    pub at: Duration,
    /// The life whose application received it.
    pub life: Life,
    /// The regular configuration at this point, if any.
    pub regular: Option<&'a Regular>,
    /// The status.
    pub status: &'a Status,
}

impl<'a> Stay<'a> {
    fn all(records: &[&'a Record]) -> Vec<Self> {
        let mut stays: Vec<Self> = Vec::new();
        for record in records {
            if let What::Regular(regular) = &record.what {
                if let Some(last) = stays.last_mut() {
                    last.next = Some(regular.ring);
                }
                stays.push(Self {
                    since: record.at,
                    until: record.at,
                    regular,
                    synced_at: None,
                    in_regular: Vec::new(),
                    transitional: None,
                    in_transitional: Vec::new(),
                    next: None,
                });
            }
            let Some(stay) = stays.last_mut() else { continue };
            stay.until = record.at;
            match &record.what {
                What::Synced(ring) if *ring == stay.regular.ring => stay.synced_at = Some(record.at),
                What::Transitional(transitional) => stay.transitional = Some(transitional),
                What::Delivered(delivered) if stay.transitional.is_some() => {
                    stay.in_transitional.push(delivered);
                }
                What::Delivered(delivered) => stay.in_regular.push(delivered),
                _ => {}
            }
        }
        stays
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Fault;

    fn life(node: u32, start: u32) -> Life {
        Life { node: NodeId::new(node).unwrap(), start }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_history_prints_as_lines() {
        let mut history = History::new([life(2, 1).node]);
        history.record(ms(0), life(2, 1), What::Started);
        history.record(ms(1250), None, What::Network(Fault::Partition(vec![vec![1, 2], vec![3]])));
        history.record(ms(1251), life(2, 1), What::Synced("1.8".parse().unwrap()));
        assert_eq!(
            history.to_string(),
            "    0.000 2#1   started\n    1.250 -     partition [1, 2] | [3]\n    1.251 2#1   synced 1.8\n"
        );
    }

    #[test]
    fn the_fingerprint_covers_every_line_and_every_byte_sent() {
        let base = || {
            let mut history = History::new([life(1, 1).node]);
            history.record(ms(1), life(1, 1), What::Started);
            history
        };
        let send = |byte: u8, at| {
            let mut history = base();
            let transmit = Transmit { to: Destination::Everyone, datagram: Bytes::from(vec![byte]) };
            history.sent(ms(at), life(1, 1), &transmit);
            history.fingerprint()
        };
        let mut longer = base();
        longer.record(ms(1), life(1, 1), What::Crashed);
        let all = [base().fingerprint(), longer.fingerprint(), send(0, 1), send(1, 1), send(0, 2)];
        assert_eq!(BTreeSet::from(all).len(), all.len());
        assert_eq!(base().fingerprint(), base().fingerprint());
    }

    #[test]
    fn a_node_that_is_down_has_no_status() {
        let mut history = History::new([life(1, 1).node]);
        history.record(ms(0), life(1, 1), What::Started);
        history.record(ms(10), life(1, 1), What::Status(Box::default()));
        history.record(ms(20), life(1, 1), What::Crashed);
        history.record(ms(30), life(1, 2), What::Started);
        let known = |at| history.status(1, ms(at)).is_some();
        assert_eq!([5, 10, 19, 20, 30].map(known), [false, true, true, false, false]);
        assert!(history.status(2, ms(10)).is_none());
    }
}
