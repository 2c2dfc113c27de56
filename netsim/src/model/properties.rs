//! Properties that must hold in every state.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_membership::{Guarantee, NodeId, RingId, Seq, Transitional};

use super::node::Node;
use crate::History;
use crate::history::{Delivered, What};
use crate::invariants::Violation;

fn violated(property: &'static str, what: String) -> Result<(), Violation> {
    Err(Violation { property, at: Duration::ZERO, what })
}

/// T1: the number of an accepted token is above all numbers that were accepted in its ring.
pub(super) fn one_token<'a>(
    before: impl Iterator<Item = &'a Node>,
    who: NodeId,
    (ring, seq): (RingId, Seq),
) -> Result<(), Violation> {
    for node in before {
        if let Some(last) = node.tokens.get(&ring)
            && seq.at_or_before(*last)
        {
            let other = node.id();
            let what = format!("{who} accepted token {seq} of {ring} after {other} had accepted {last}");
            return violated("T1", what);
        }
    }
    Ok(())
}

/// Checks the node's deliveries since its log had this length against what the nodes are known to
/// have received.
pub(super) fn deliveries(nodes: &[&Node], index: usize, since: usize) -> Result<(), Violation> {
    let log = &nodes[index].log;
    for (n, (life, what)) in log.iter().enumerate().skip(since) {
        let What::Delivered(delivered) = what else { continue };
        let told = log.iter().take(n).rev().filter(|(other, _)| other == life);
        let configuration = told.map(|(_, what)| what).find_map(|what| match what {
            What::Regular(regular) => Some((&regular.members, None)),
            What::Transitional(change) => Some((&change.members, Some(change))),
            _ => None,
        });
        match configuration {
            Some((members, None)) => regular(nodes, index, members, delivered)?,
            Some((_, Some(change))) => transitional(nodes, index, change, delivered)?,
            None => {}
        }
    }
    Ok(())
}

fn has(node: &Node, ring: RingId, seq: u32) -> bool {
    node.received.get(&ring).is_some_and(|numbers| numbers.contains(&seq))
}

/// S11 and S14: in a ring, nothing is delivered behind a gap, and a safe message is delivered only
/// if all members have received it.
fn regular(
    nodes: &[&Node],
    index: usize,
    members: &BTreeSet<NodeId>,
    delivered: &Delivered,
) -> Result<(), Violation> {
    let Delivered { ring, seq, guarantee, .. } = delivered;
    let (node, id) = (nodes[index], nodes[index].id());
    if let Some(gap) = (1..=seq.get()).find(|&number| !has(node, *ring, number)) {
        return violated("S11", format!("{id} delivered {seq} of {ring} without having received {gap}"));
    }
    let lacks = |other: &&&Node| members.contains(&other.id()) && !has(other, *ring, seq.get());
    match nodes.iter().find(lacks) {
        Some(other) if *guarantee == Guarantee::Safe => {
            let other = other.id();
            violated("S14", format!("{id} delivered {seq} of {ring} as safe, but {other} does not have it"))
        }
        _ => Ok(()),
    }
}

/// S13: in a transitional configuration, a number is passed over only if none of its members has
/// received it.
fn transitional(
    nodes: &[&Node],
    index: usize,
    change: &Transitional,
    delivered: &Delivered,
) -> Result<(), Violation> {
    let Delivered { ring, seq, .. } = delivered;
    let (node, id) = (nodes[index], nodes[index].id());
    for hole in (1..seq.get()).filter(|&number| !has(node, *ring, number)) {
        let along = |other: &&&Node| change.members.contains(&other.id()) && has(other, *ring, hole);
        if let Some(other) = nodes.iter().find(along) {
            let other = other.id();
            return violated("S13", format!("{id} skipped {hole} of {ring}, which {other} has"));
        }
    }
    Ok(())
}

/// Returns what all applications received, in a possible order: a message is delivered after it was
/// accepted.
pub(super) fn history(nodes: &[&Node]) -> History {
    let mut history = History::new(nodes.iter().map(|node| node.id()));
    let mut rest: Vec<_> = nodes.iter().map(|node| node.log.iter().peekable()).collect();
    let mut accepted = BTreeSet::new();
    let mut at = Duration::ZERO;
    let mut stuck = false;
    loop {
        let mut moved = false;
        for log in &mut rest {
            while let Some((life, what)) = log.next_if(|(_, what)| match what {
                What::Delivered(delivered) if !stuck => {
                    delivered.message.is_none_or(|message| accepted.contains(&message))
                }
                _ => true,
            }) {
                if let What::Accepted { message, .. } = what {
                    accepted.insert(*message);
                }
                at += Duration::from_micros(1);
                history.record(at, *life, what.clone());
                moved = true;
            }
        }
        if rest.iter_mut().all(|log| log.peek().is_none()) {
            return history;
        }
        // A message that was never accepted is included all the same, so that S1 detects it.
        stuck = !moved;
    }
}
