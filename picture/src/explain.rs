//! The reason why a datagram was sent, inferred from those before it.

use std::collections::BTreeMap;

use quorate_membership::wire::{CommitToken, HoldCancel, Join, MergeDetect, Message, Multicast, Token};
use quorate_membership::{NodeId, RingId, Seq};

/// From this time on, the time for which a member had the token is worth a word.
const HELD: u64 = 10_000;
/// After this time without a token, a JOIN is said to be caused by that.
const SILENT: u64 = 20_000;
/// Equal datagrams within this time are copies that the network made.
const COPY: u64 = 1000;

/// Follows the datagrams of a ring.
#[derive(Debug, Default)]
pub(crate) struct Explainer(BTreeMap<u32, Known>);

/// The facts known of a node.
#[derive(Debug, Default)]
struct Known {
    /// The token that it last got.
    got: Option<Got>,
    /// The token that it last sent, and when.
    sent: Option<(RingId, Seq, u64)>,
    /// The highest frame number in that token.
    announced: Seq,
    /// The frames that it has sent since it got the token.
    frames: Vec<Seq>,
    /// Frames among them that had been sent before.
    resent: Vec<Seq>,
    /// A member that has asked for the token since this one got it.
    released_by: Option<u32>,
    /// The lists of its last JOIN since it was in a ring.
    lists: Option<(Vec<NodeId>, Vec<NodeId>)>,
    /// The first node whose JOIN has reached it since it was in a ring, and whether that was a
    /// LEAVE.
    asked_by: Option<(u32, bool)>,
    /// A node of another ring that it has heard of since it sent a token.
    met: Option<u32>,
    /// The number of the last commit token that it sent, and its ring.
    commit: Option<(RingId, u32)>,
}

/// A token that a node got.
#[derive(Debug)]
struct Got {
    at: u64,
    ring: RingId,
    token_seq: Seq,
    /// The highest frame number in it.
    seq: Seq,
    /// The frames that it asks for.
    wanted: Vec<Seq>,
}

impl Known {
    /// Returns `true` if it has passed on the token that it last got.
    fn has_passed(&self) -> bool {
        match (&self.got, self.sent) {
            (Some(got), Some((ring, token_seq, _))) => ring == got.ring && is_after(token_seq, got.token_seq),
            _ => true,
        }
    }
}

impl Explainer {
    /// Takes note that a node starts, and knows nothing of earlier rings.
    pub(crate) fn started(&mut self, node: u32) {
        self.0.remove(&node);
    }

    /// Takes note that a datagram reached a node.
    pub(crate) fn arrived(&mut self, at: u64, node: u32, from: Option<u32>, message: &Message) {
        let Some(from) = from.filter(|from| *from != node || matches!(message, Message::Token(_))) else {
            return;
        };
        let known = self.0.entry(node).or_default();
        match message {
            Message::Token(token) => {
                let is_new = known.got.as_ref().is_none_or(|got| match got.ring == token.ring {
                    true => is_after(token.token_seq, got.token_seq),
                    false => token.ring.seq > got.ring.seq,
                });
                if is_new {
                    let wanted = token.rtr.iter().map(|entry| entry.seq).collect();
                    let (ring, token_seq, seq) = (token.ring, token.token_seq, token.seq);
                    known.got = Some(Got { at, ring, token_seq, seq, wanted });
                    known.frames.clear();
                    known.resent.clear();
                    known.released_by = None;
                }
            }
            Message::Join(join) => known.asked_by = known.asked_by.or(Some((from, join.leave))),
            Message::MergeDetect(merge) if known.sent.is_none_or(|(ring, ..)| ring != merge.ring) => {
                known.met = Some(from);
            }
            Message::HoldCancel(cancel) if known.got.as_ref().is_some_and(|got| got.ring == cancel.ring) => {
                known.released_by = Some(from);
            }
            _ => {}
        }
    }

    /// Returns why this was sent, in a sentence, and whether the same had been sent before.
    pub(crate) fn sent(&mut self, at: u64, from: u32, to: &[u32], message: &Message) -> (String, bool) {
        match message {
            Message::Token(token) => self.token(at, from, to, token),
            Message::Multicast(frame) => self.frame(from, frame),
            Message::Join(join) if join.leave => {
                let again = self.0.insert(from, Known::default()).is_none_or(|known| known.sent.is_none());
                (format!("Node {from} leaves, so that the others need not wait until they miss it."), again)
            }
            Message::Join(join) => self.join(at, from, join),
            Message::Commit(commit) => self.commit(from, commit),
            Message::MergeDetect(MergeDetect { ring, .. }) => {
                let why = match ring.representative.get() == from {
                    true => format!(
                        "Node {from} represents ring {ring}, and shows it to rings that it could merge with."
                    ),
                    false => {
                        format!("Node {from} shows to a node outside that it is a member of ring {ring}.")
                    }
                };
                (why, false)
            }
            Message::HoldCancel(cancel) => (hold_cancel(from, to, *cancel), false),
        }
    }

    fn token(&mut self, at: u64, from: u32, to: &[u32], token: &Token) -> (String, bool) {
        let known = self.0.entry(from).or_default();
        if let Some((ring, seq, sent_at)) = known.sent
            && (ring, seq) == (token.ring, token.token_seq)
        {
            let silent = at.saturating_sub(sent_at);
            let why = match silent < COPY {
                true => "This is a copy of the datagram before it.".to_owned(),
                false => format!(
                    "Node {from} sends the token again. It has seen no sign of it for {}, so the token may be lost.",
                    ms(silent)
                ),
            };
            return (why, true);
        }
        let got = known.got.take().filter(|got| got.ring == token.ring);
        let (frames, resent) = (std::mem::take(&mut known.frames), std::mem::take(&mut known.resent));
        let released_by = known.released_by;
        // The time at which it had a token counts for as long as it has no other.
        *known = Known {
            sent: Some((token.ring, token.token_seq, at)),
            announced: token.seq,
            got: got.as_ref().map(|got| Got { wanted: Vec::new(), ..*got }),
            ..Known::default()
        };
        if token.token_seq == Seq::new(0) {
            let ring = token.ring;
            return (
                format!("All members have agreed on ring {ring}. Node {from} sends its first token."),
                false,
            );
        }
        let mut why = match to {
            [] => format!("Node {from} passes the token on"),
            _ => format!("Node {from} passes the token on to {}", nodes(to)),
        };
        let new: Vec<Seq> = frames.iter().copied().filter(|seq| !resent.contains(seq)).collect();
        match (new.is_empty(), resent.is_empty()) {
            (true, true) => {}
            (false, true) => why += &format!(", after it has sent {}", numbers(&new)),
            (true, false) => why += &format!(", after it has sent {} again", numbers(&resent)),
            (false, false) => {
                why += &format!(", after it has sent {}, and {} again", numbers(&new), numbers(&resent));
            }
        }
        if let Some(got) = &got {
            let last = new.last().copied().filter(|last| is_after(*last, got.seq)).unwrap_or(got.seq);
            if is_after(token.seq, last) {
                let first = last.next();
                let range = if first == token.seq {
                    format!("frame {first}")
                } else {
                    format!("frames {first} to {}", token.seq)
                };
                why += &format!(". It announces {range}, to be sent right after it");
            }
            let held = at.saturating_sub(got.at);
            let is_idle =
                frames.is_empty() && token.rtr.is_empty() && token.seq == got.seq && token.aru == token.seq;
            if held >= HELD {
                why += &match released_by {
                    Some(other) => {
                        format!(". It had held the token for {}, until node {other} asked for it", ms(held))
                    }
                    None if is_idle => format!(". It had held the token for {}: the ring is idle", ms(held)),
                    None => format!(". It had the token for {}", ms(held)),
                };
            }
        }
        if !token.rtr.is_empty() {
            let wanted: Vec<Seq> = token.rtr.iter().map(|entry| entry.seq).collect();
            why += &format!(". The token asks for {}, which a member has not got", numbers(&wanted));
        }
        if token.retrans_flg {
            why += ". Members still send each other frames of old rings";
        }
        (why + ".", false)
    }

    fn frame(&mut self, from: u32, frame: &Multicast) -> (String, bool) {
        let known = self.0.entry(from).or_default();
        let (number, ring) = (frame.seq, frame.ring);
        let passed = known.has_passed();
        let got = known.got.as_ref().filter(|got| got.ring == ring);
        let was_wanted = got.is_some_and(|got| got.wanted.contains(&number));
        if !passed {
            known.frames.push(number);
        }
        if was_wanted {
            known.resent.push(number);
            return (
                format!("Node {from} sends frame {number} again, because the token asked for it."),
                true,
            );
        }
        if frame.encapsulated {
            let old = frame.inner().map(|inner| format!("frame {} of ring {}", inner.seq, inner.ring));
            let old = old.unwrap_or_else(|_| "a frame of an old ring".to_owned());
            let why = format!(
                "Node {from} passes on {old}, which some members of the new ring may not have got. In ring {ring} it is \
                 frame {number}."
            );
            return (why, false);
        }
        let is_announced =
            known.sent.is_some_and(|(of, ..)| of == ring) && !is_after(number, known.announced);
        let why = match () {
            () if known.got.is_some() && !passed => {
                format!("Node {from} has the token, so it may send: frame {number} of ring {ring}.")
            }
            () if passed && is_announced => {
                format!(
                    "Node {from} had the token, and announced in it what it sends now: frame {number} of ring {ring}."
                )
            }
            () => format!("Node {from} sends frame {number} of ring {ring}."),
        };
        (why, false)
    }

    fn join(&mut self, at: u64, from: u32, join: &Join) -> (String, bool) {
        let wish = format!("It wants a ring of {}", list(&without(&join.proc, &join.failed)));
        let lists = (join.proc.clone(), join.failed.clone());
        let known = self.0.entry(from).or_default();
        // A member of a ring names the others of that ring, at least as failed.
        let knows_nobody = join.proc.len() == 1 && join.failed.is_empty();
        let before = known.lists.replace(lists.clone());
        if before.as_ref() == Some(&lists) {
            let why = format!(
                "Node {from} repeats its JOIN, because not all of these nodes have agreed yet. {wish}."
            );
            return (why, true);
        }
        if knows_nobody {
            *known = Known { lists: Some(lists), ..Known::default() };
            return (format!("Node {from} has started, and looks for others. {wish}."), false);
        }
        let names = |node: u32| join.proc.iter().chain(&join.failed).any(|named| named.get() == node);
        let cause = if let Some((proc, failed)) = before {
            let (new, lost) = (without(&join.proc, &proc), without(&join.failed, &failed));
            match (new.is_empty(), lost.is_empty()) {
                (false, true) => format!("has heard of {}", list(&new)),
                (true, false) => format!("gives up on {}", list(&lost)),
                (false, false) => format!("has heard of {}, and gives up on {}", list(&new), list(&lost)),
                (true, true) => "has changed its lists".to_owned(),
            }
        } else {
            let silent = known.got.as_ref().map(|got| at.saturating_sub(got.at));
            match (known.asked_by.filter(|(other, _)| names(*other)), known.met.filter(|other| names(*other)))
            {
                (Some((other, true)), _) => format!("has got the LEAVE of node {other}"),
                (Some((other, false)), _) => format!("has got a JOIN from node {other}, and answers"),
                _ if !join.failed.is_empty() => format!("takes {} for failed", list(&join.failed)),
                (_, Some(other)) => format!("has heard of the ring of node {other}, and wants to merge"),
                _ => match silent {
                    Some(silent) if silent >= SILENT => {
                        format!(
                            "has had no token for {}, and looks for those who are still there",
                            ms(silent)
                        )
                    }
                    _ => "looks for a ring".to_owned(),
                },
            }
        };
        (format!("Node {from} {cause}. {wish}."), false)
    }

    fn commit(&mut self, from: u32, commit: &CommitToken) -> (String, bool) {
        let CommitToken { ring, members, token_seq, .. } = commit;
        let known = self.0.entry(from).or_default();
        let before = known.commit.replace((*ring, *token_seq));
        known.lists = None;
        known.asked_by = None;
        known.met = None;
        if before == Some((*ring, *token_seq)) {
            return (
                format!("Node {from} sends the commit token again, because it has seen no sign of it."),
                true,
            );
        }
        let is_first_round = usize::try_from(*token_seq).is_ok_and(|hops| hops <= members.len());
        let represents = from == ring.representative.get();
        let all = list(members);
        let why = match (is_first_round, represents) {
            _ if members.len() == 1 => {
                format!(
                    "Node {from} found no other node. It forms ring {ring} alone, and sends itself the commit token."
                )
            }
            (true, true) => format!(
                "All of {all} want the same ring. Node {from} represents it, and sends the commit token of ring {ring} \
                 round, in which each member writes what it has of its old ring."
            ),
            (true, false) => format!(
                "Node {from} has written what it has of its old ring, and passes the commit token of ring {ring} on."
            ),
            (false, true) => format!(
                "Each of {all} has written what it has. The commit token of ring {ring} goes round again, so that all \
                 know."
            ),
            (false, false) => {
                format!(
                    "Node {from} knows now what all have of their old rings, and passes the commit token on."
                )
            }
        };
        (why, false)
    }
}

fn hold_cancel(from: u32, to: &[u32], cancel: HoldCancel) -> String {
    let HoldCancel { ring, .. } = cancel;
    // A ring of number 0 never existed. Quorate nodes use its name to ask for a sign of life, and
    // to give one.
    match (ring.seq, ring.representative.get() == from) {
        (0, true) => format!("Node {from} shows {} that it is alive.", nodes(to)),
        (0, false) => format!(
            "Node {from} asks {} for a sign of life, because a host has refused datagrams.",
            nodes(to)
        ),
        _ => format!(
            "Node {from} asks for the token, which is held: it has something to send, or a lease to renew."
        ),
    }
}

/// Returns `true` if this number is after the other one. Numbers may wrap.
fn is_after(seq: Seq, other: Seq) -> bool {
    seq != other && seq.get().wrapping_sub(other.get()) < 1 << 31
}

fn ms(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{:.1} ms", micros as f64 / 1000.0),
        _ => format!("{} ms", micros / 1000),
    }
}

fn without(nodes: &[NodeId], others: &[NodeId]) -> Vec<NodeId> {
    nodes.iter().copied().filter(|node| !others.contains(node)).collect()
}

fn list(ids: &[NodeId]) -> String {
    nodes(&ids.iter().map(|id| id.get()).collect::<Vec<_>>())
}

/// Returns `node 1`, `nodes 1 and 2`, `nodes 1, 2 and 3`.
pub(crate) fn nodes(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    match &ids[..] {
        [] => "no node".to_owned(),
        [one] => format!("node {one}"),
        [first @ .., last] => format!("nodes {} and {last}", first.join(", ")),
    }
}

/// Returns `frame 5`, `frames 5 to 9`, or `frames 5, 7 and 9`.
fn numbers(frames: &[Seq]) -> String {
    match frames {
        [] => "nothing".to_owned(),
        [one] => format!("frame {one}"),
        [first, .., last] if frames.windows(2).all(|pair| pair[0].next() == pair[1]) => {
            format!("frames {first} to {last}")
        }
        [some @ .., last] => {
            let some: Vec<String> = some.iter().map(ToString::to_string).collect();
            format!("frames {} and {last}", some.join(", "))
        }
    }
}
