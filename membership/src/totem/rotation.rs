//! The token's circulation on a ring, as seen by one member: the actions of a visit, and the timers
//! between visits.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;

use super::flow::{Flow, Limits, Visited};
use super::outputs::Outputs;
use super::ring::Ring;
use super::window::Window;
use crate::bug;
use crate::config::TotemConfig;
use crate::wire::{self, Draft, Message, Multicast, Order, RtrEntry, Token};
use crate::{NodeId, Refusal, Seq, Time};

/// The rotation of a ring's token.
#[derive(Clone)]
pub(super) struct Rotation {
    me: NodeId,
    representative: bool,
    /// The member from which this node receives the token.
    predecessor: NodeId,
    /// The member to which this node passes the token.
    successor: NodeId,
    /// The number of the last token accepted.
    pub(super) token_seq: Seq,
    /// The `seq` of the last token, as received.
    last_seq: Seq,
    /// The `aru` of the last token, as received.
    last_aru: Seq,
    /// The `aru` of the token before the last.
    aru_before: Seq,
    /// Consecutive rotations in which `seq` did not change.
    unchanged: u32,
    /// Consecutive visits at which nothing was new, no member lacked anything, and no frame was
    /// requested.
    quiet: u32,
    /// Consecutive rotations in which a single member kept `aru` from advancing.
    stuck: u32,
    lacking: Option<Lacking>,
    /// Consecutive rotations in which neither `seq` nor `aru` moved, and this node neither received
    /// nor sent a frame.
    still: u32,
    flow: Flow,
    /// The requested frames that this node sent again at the last visit.
    served: Vec<Served>,
    /// The token as it was last sent or held. It is sent again for lack of a sign of progress.
    last_sent: Bytes,
    /// Whether a member holds the token.
    held: bool,
    /// The member that holds the token of an idle ring.
    pub(super) holder: NodeId,
    /// Whether the holder may be a corosync daemon, which has its own hold time.
    foreign: bool,
    /// The time at which this node last passed the token on, or held it.
    kept_at: Time,
    /// The duration of the last rotation that took less than a hold time.
    turn: Duration,
    /// The time at which the token is due here.
    due_at: Time,
    /// The time by which every member that has not had the token from here yet must have missed it.
    pub(super) missed_at: Time,
    retransmit_at: Time,
    pub(super) loss_at: Time,
    merge_at: Option<Time>,
    /// The time at which the neighbours are probed, if no token has arrived until then.
    probe_at: Option<Time>,
    /// The time at which a corosync daemon is asked for the token that it holds.
    ask_at: Option<Time>,
    pub(super) hold_at: Option<Time>,
    /// The time at which the current token was taken up to be passed on, which is before its first
    /// transmission.
    sent_at: Option<Time>,
    /// The value of `sent_at` for the last token that is known to have completed a rotation.
    whole_since: Option<Time>,
}

/// The result of checking the timers.
pub(super) enum Due {
    Nothing,
    /// The token is lost.
    Lost,
    /// A corosync daemon holds the token for longer than a lease can wait.
    Wanted,
    /// It is time to probe for other rings.
    Merge,
}

impl Rotation {
    /// Idle rotations after which a full window, or a raised recovery flag, is taken for damage.
    /// The number is low enough that a held token takes no longer than a lost one would. It is high
    /// enough that a full window of retransmissions does not get lost each time.
    const WEDGED: u32 = 16;
    /// The time for which a member lacks a frame before an operator is notified.
    const LACKING: Duration = Duration::from_secs(2);

    /// Begins a rotation by sending `token`, which is a commit token or the first token of the
    /// ring.
    pub(super) fn begin(
        me: NodeId,
        members: &BTreeSet<NodeId>,
        token: Bytes,
        now: Time,
        config: &TotemConfig,
        out: &mut Outputs,
    ) -> Self {
        let mut rotation = Self {
            me,
            representative: members.first() == Some(&me),
            predecessor: predecessor(me, members),
            successor: successor(me, members),
            token_seq: Seq::new(u32::MAX),
            last_seq: config.first_seq,
            last_aru: config.first_seq,
            aru_before: config.first_seq,
            unchanged: 0,
            quiet: 0,
            stuck: 0,
            lacking: None,
            still: 0,
            flow: Flow::default(),
            served: Vec::new(),
            last_sent: Bytes::new(),
            held: false,
            holder: members.first().copied().unwrap_or(me),
            foreign: false,
            kept_at: now,
            turn: Duration::ZERO,
            due_at: now,
            missed_at: now,
            retransmit_at: now,
            loss_at: now,
            merge_at: None,
            probe_at: None,
            ask_at: None,
            hold_at: None,
            sent_at: None,
            whole_since: None,
        };
        rotation.send(token, now, config, out);
        rotation
    }

    fn send(&mut self, token: Bytes, now: Time, config: &TotemConfig, out: &mut Outputs) {
        out.unicast(self.successor, token.clone());
        self.keep(token, now, config);
    }

    fn keep(&mut self, token: Bytes, now: Time, config: &TotemConfig) {
        self.last_sent = token;
        self.retransmit_at = now + config.token_retransmit;
        self.loss_at = now + config.token;
        let turn = now - self.kept_at;
        if turn < config.hold {
            self.turn = turn;
        }
        self.kept_at = now;
        self.missed_at = self.due_at;
        let asked = self.held && self.foreign;
        self.ask_at = asked.then(|| now + 2 * config.hold);
        self.due_at = match self.held {
            true if asked => now + 2 * config.hold,
            true => now + config.hold,
            false => now + self.turn,
        };
        self.probe_after(self.due_at, config);
    }

    /// Sets the time of the next probes. The token of a busy ring returns soon, and a held one
    /// after the hold time. A token that does not may have been in a process that is gone.
    fn probe_after(&mut self, due: Time, config: &TotemConfig) {
        let probes = config.failure_evidence && !config.probe.is_zero() && self.successor != self.me;
        self.probe_at = probes.then(|| due + config.probe);
    }

    /// Sends the ring's first token, as its representative. Its aru is one before the first frame,
    /// so that no member lowers it before it has returned.
    pub(super) fn originate(
        &mut self,
        ring: &Ring,
        retrans_flg: bool,
        now: Time,
        config: &TotemConfig,
        out: &mut Outputs,
    ) {
        let token = Token {
            from: self.me,
            seq: config.first_seq,
            token_seq: Seq::new(0),
            aru: config.first_seq.previous(),
            aru_addr: Some(self.me),
            ring: ring.id,
            backlog: 0,
            fcc: 0,
            retrans_flg,
            rtr: Vec::new(),
        };
        self.send(wire::encode(&Message::Token(token), Order::Little), now, config, out);
    }

    /// Returns `true` if this token is new: neither a copy, nor a token meant for another member.
    ///
    /// # Errors
    /// If the token's numbers are impossible on this ring.
    pub(super) fn accept(
        &mut self,
        token: &Token,
        ring: &Ring,
        limits: Limits,
        now: Time,
        config: &TotemConfig,
    ) -> Result<bool, Refusal> {
        if bug!(TokenFromAnybody: false; token.from != self.predecessor) {
            return Ok(false);
        }
        if bug!(CopyOfTokenAccepted: false; token.token_seq.at_or_before(self.token_seq)) {
            return Ok(false);
        }
        let ahead = ring.window.released().distance_to(token.seq);
        if ahead > Window::SLOTS || token.seq.before(ring.window.high()) || token.seq.before(token.aru) {
            return Err(Refusal::OutOfWindow);
        }
        // Each member adds one, so the token that this node sent last has completed a rotation.
        if self.token_seq.distance_to(token.token_seq) as usize == ring.members.len() {
            self.whole_since = bug!(LeaseFromReceipt: Some(now); self.sent_at);
        }
        self.token_seq = token.token_seq;
        self.hold_at = None;
        if token.seq == self.last_seq {
            self.unchanged = self.unchanged.saturating_add(1);
            self.merge_at = self.merge_at.or(Some(now + config.merge));
        } else {
            self.unchanged = 0;
            self.merge_at = None;
        }
        self.last_seq = token.seq;
        let quiet = self.unchanged > 0 && token.aru == token.seq && token.rtr.is_empty();
        self.quiet = if quiet { self.quiet.saturating_add(1) } else { 0 };
        self.holder = limits.ours.then_some(ring.last_sender).flatten().unwrap_or(ring.id.representative);
        self.foreign = bug!(ForeignHoldAwaited: false; !limits.ours && !self.representative);
        // The holder waits one visit longer than the other members expect, since between its visits
        // they have seen what it saw.
        let margin = u32::from(self.holder == self.me);
        let rotations = config.seqno_unchanged_const.saturating_add(margin);
        let held =
            self.unchanged >= rotations || limits.quiet().is_some_and(|quiet| self.quiet >= quiet + margin);
        self.held = bug!(TokenNeverHeld: false; held);
        Ok(true)
    }

    /// Returns the number up to which all members have received everything, as two successive
    /// tokens confirm. A single token is not enough: a member visited before the one that raised
    /// aru may have missed frames that were sent meanwhile.
    pub(super) fn note_aru(&mut self, token: &Token) -> Seq {
        self.aru_before = self.last_aru;
        self.last_aru = token.aru;
        let still = self.unchanged > 0 && self.last_aru == self.aru_before;
        self.still = if still { self.still.saturating_add(1) } else { 0 };
        let confirmed = bug!(SafeAfterOneRotation: self.last_aru; self.aru_before);
        self.last_aru.min(confirmed)
    }

    /// Returns the number of frames that this visit may send, including retransmissions.
    pub(super) fn allowance(&mut self, token: &Token, backlog: u32, limits: Limits) -> u32 {
        self.flow.adapt(token, limits);
        let allowance = self.flow.allowance(token, backlog, limits);
        bug!(WindowOffByOne: allowance + 1; allowance)
    }

    /// Returns `true` if another frame may be numbered, which requires that it fits into every
    /// member's window. Retransmissions do not check this, since otherwise a full window could
    /// never empty.
    pub(super) fn has_room(token: &Token, ring: &Ring, limits: Limits) -> bool {
        let span = ring.window.released().distance_to(token.seq);
        span.saturating_add(limits.window) < Window::SLOTS
    }

    /// Sends at most `allowed` of the requested frames that this node has, and requests the frames
    /// that it lacks. Returns the number of frames sent.
    pub(super) fn retransmit(
        &mut self,
        token: &mut Token,
        ring: &mut Ring,
        allowed: u32,
        config: &TotemConfig,
        out: &mut Outputs,
    ) -> u32 {
        let mut sent = 0;
        let wanted = !token.rtr.is_empty();
        let served = std::mem::take(&mut self.served);
        let others = u32::try_from(ring.members.len()).unwrap_or(u32::MAX).saturating_sub(2);
        let others = bug!(SameOneAnswers: 0; others);
        token.rtr.retain(|entry| {
            // All members have the released frames. If one is requested, it has arrived in the
            // meantime, and no member can serve the request any more.
            if entry.ring != ring.id || entry.seq.at_or_before(ring.window.released()) {
                return false;
            }
            if sent >= bug!(QuotaOffByOne: allowed + 1; allowed) {
                return true;
            }
            let Some(frame) = ring.window.get(entry.seq) else {
                return bug!(RequestStruckUnserved: false; true);
            };
            // A member that repeats its request may not hear this node, so other members must
            // answer, for longer each time.
            let before = served.iter().find(|served| served.seq == entry.seq);
            if let Some(before) = before.filter(|before| before.rests > 0) {
                self.served.push(Served { rests: before.rests - 1, ..*before });
                return true;
            }
            let times = before.map_or(0, |before| before.times).saturating_add(1);
            self.served.push(Served { seq: entry.seq, times, rests: times.min(others) });
            let own = || Message::Multicast(Multicast { from: self.me, ..frame.clone() });
            out.multicast(bug!(RetransmittedAsOwn: wire::encode(&own(), Order::Little); frame.raw.clone()));
            sent += 1;
            false
        });
        if bug!(ServedRequestTakesTheRest: sent > 0; false) {
            token.rtr.clear();
        }
        out.stats.retransmits += u64::from(sent);
        if config.cancel_token_hold_on_retransmit && wanted {
            self.held = false;
        }
        let last = bug!(GapsUpToHighestReceived: ring.window.high(); token.seq);
        for seq in ring.window.missing(last, config.miss_count_const) {
            if token.rtr.len() >= Token::MAX_RTR {
                break;
            }
            let entry = RtrEntry { ring: ring.id, seq };
            if bug!(RequestedTwice: true; !token.rtr.contains(&entry)) {
                token.rtr.push(entry);
            }
        }
        sent
    }

    /// Gives a frame the next number, inserts it into this node's own window, and sends it.
    pub(super) fn number(&mut self, token: &mut Token, ring: &mut Ring, draft: Draft, out: &mut Outputs) {
        let frame = draft.numbered(self.me, token.seq.next(), out.frames_originated(), ring.id);
        token.seq = frame.seq;
        // The ring is no longer idle, and safe messages wait for the token. corosync holds it
        // nevertheless.
        self.held = false;
        out.multicast(frame.raw.clone());
        // `accept` and `has_room` have ensured that the number is within the window.
        let _ = ring.insert(frame);
    }

    /// Writes this visit and the frames received here into the token. Returns the member that has
    /// held back aru for too many rotations, if there is one.
    pub(super) fn account(
        &mut self,
        token: &mut Token,
        ring: &Ring,
        visit: &Visited,
        limits: Limits,
        config: &TotemConfig,
    ) -> Option<NodeId> {
        // Members fill the window by sending. If a member lacks nothing and receives no frames, no
        // member sent what `fcc` counts: a bit was flipped in transit (F7). Uncorrected, it would
        // keep all members from sending forever.
        if visit.sent > 0 {
            self.still = 0;
        }
        let lacks_nothing = ring.window.aru() == token.seq;
        let wedged = self.still >= Self::WEDGED && lacks_nothing && token.fcc >= limits.window;
        self.flow.account(token, visit, bug!(FullWindowBelieved: false; wedged), limits);
        let aru = ring.window.aru();
        let lower = bug!(AruNotLowered: false; aru.before(token.aru));
        let mine = bug!(AruRaisedByAnybody: true; token.aru_addr == Some(self.me));
        if lower || mine || token.aru_addr.is_none() {
            token.aru = aru;
            token.aru_addr = (token.aru != token.seq).then_some(self.me);
        }
        let stuck = token.aru == self.aru_before && token.aru_addr.is_some();
        self.stuck = if stuck { self.stuck.saturating_add(1) } else { 0 };
        token.aru_addr.filter(|_| self.stuck > config.fail_recv_const)
    }

    /// Returns a member that has lacked the same frame for long, and the frame's number. The result
    /// is repeated at a limited rate.
    pub(super) fn lacks(&mut self, token: &Token, now: Time) -> Option<(NodeId, Seq)> {
        let Some(node) = token.aru_addr else {
            self.lacking = None;
            return None;
        };
        let (since, visits) = match self.lacking {
            Some(Lacking { node: same, aru, since, visits }) if (same, aru) == (node, token.aru) => {
                (since, visits.saturating_add(1))
            }
            _ => (now, 0),
        };
        // A ring that paused has lost time rather than a frame.
        let long = now - since >= Self::LACKING && visits >= Self::WEDGED;
        let (since, visits) = if long { (now, 0) } else { (since, visits) };
        self.lacking = Some(Lacking { node, aru: token.aru, since, visits });
        long.then_some((node, token.aru.next()))
    }

    /// Returns `true` once every `WEDGED` idle rotations, on the representative only.
    pub(super) fn stands_still(&mut self) -> bool {
        let stands = self.representative && self.still >= Self::WEDGED;
        if stands {
            self.still = 0;
        }
        stands
    }

    /// Passes the token on ahead of the last `late` frames of its visit. If the ring is idle and
    /// this node is the holder, holds the token for a while instead.
    pub(super) fn forward(
        &mut self,
        mut token: Token,
        late: usize,
        now: Time,
        config: &TotemConfig,
        out: &mut Outputs,
    ) {
        token.token_seq = token.token_seq.next();
        token.from = self.me;
        self.sent_at = Some(now);
        let token = wire::encode(&Message::Token(token), Order::Little);
        if self.held && self.holder == self.me {
            self.hold_at = Some(now + config.hold);
        } else {
            out.unicast_before(late, self.successor, token.clone());
        }
        self.keep(token, now, config);
    }

    /// Handles a frame of the ring, new or not.
    pub(super) fn hear(&mut self) {
        self.still = 0;
    }

    /// Takes back the token if it is held here, all members have everything, and its visit sent
    /// nothing. The visit can then continue, since no member has seen what it wrote.
    pub(super) fn take_up(&mut self) -> Option<Token> {
        let here = bug!(SentTokenTakenUp: true; self.hold_at.is_some());
        if bug!(HoldNeverCancelled: true; !here) {
            return None;
        }
        let Ok(Message::Token(mut token)) = wire::decode(&self.last_sent) else { return None };
        if token.aru != token.seq || !token.rtr.is_empty() || self.flow.has_sent() {
            return None;
        }
        token.token_seq = token.token_seq.previous();
        (self.unchanged, self.quiet) = (0, 0);
        self.held = false;
        self.hold_at = None;
        Some(token)
    }

    /// Releases a held token because this node has something to send. Returns `true` if its holder
    /// must be asked.
    pub(super) fn nudge(&mut self, out: &mut Outputs) -> bool {
        if bug!(HoldNeverCancelled: true; !self.held) {
            return false;
        }
        self.release(out);
        self.holder != self.me
    }

    /// Releases a held token because a member has something to send.
    pub(super) fn release(&mut self, out: &mut Outputs) {
        (self.unchanged, self.quiet) = (0, 0);
        self.held = false;
        // The other members may still wait for as long as the token would have been held.
        self.missed_at = self.due_at;
        if self.hold_at.take().is_some() {
            out.unicast(self.successor, self.last_sent.clone());
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Time, config: &TotemConfig, out: &mut Outputs) -> Due {
        if now >= self.loss_at {
            return Due::Lost;
        }
        if self.hold_at.is_some_and(|at| now >= at) {
            self.hold_at = None;
            out.unicast(self.successor, self.last_sent.clone());
        }
        if now >= self.retransmit_at {
            self.retransmit_at = now + config.token_retransmit;
            if bug!(TokenNotRetransmitted: false; self.hold_at.is_none()) {
                out.stats.token_retransmits += 1;
                bug!(LeaseFromResend: self.sent_at = Some(now); ());
                out.unicast(self.successor, self.last_sent.clone());
                bug!(RetransmissionDefersLoss: self.loss_at = now + config.token; ());
            }
        }
        if self.merge_at.is_some_and(|at| now >= at) {
            self.merge_at = None;
            if bug!(MergeDetectNeverSent: false; self.representative) {
                return Due::Merge;
            }
        }
        if self.ask_at.is_some_and(|at| now >= at) {
            self.ask_at = Some(now + config.hold);
            return Due::Wanted;
        }
        Due::Nothing
    }

    /// Returns the neighbours that are due for a probe. A probed neighbour also learns that this
    /// member is up, whatever its host reports.
    pub(super) fn due_for_probes(
        &mut self,
        now: Time,
        config: &TotemConfig,
    ) -> impl Iterator<Item = NodeId> + use<> {
        let due = self.probe_at.is_some_and(|at| now >= at);
        if due {
            self.probe_after(now, config);
        }
        let both = bug!(ProbesGoOneWay: false; self.predecessor != self.successor);
        [due.then_some(self.successor), (due && both).then_some(self.predecessor)].into_iter().flatten()
    }

    /// Returns `true` if a member is next to this one on the ring. Such a member probes this node
    /// when it misses the token.
    pub(super) fn is_neighbour(&self, node: NodeId) -> bool {
        [self.predecessor, self.successor].contains(&node)
    }

    /// Returns a time after which every member has had this ring's token: just before the first
    /// transmission of the last token whose whole rotation this node has seen. Neither its
    /// retransmission nor its receipt would prove that.
    pub(super) fn whole_since(&self) -> Option<Time> {
        self.whole_since
    }

    pub(super) fn poll_timeout(&self) -> Time {
        let optional = [self.hold_at, self.merge_at, self.probe_at, self.ask_at].into_iter().flatten().min();
        let fixed = self.loss_at.min(self.retransmit_at);
        optional.map_or(fixed, |at| at.min(fixed))
    }

    /// See [`super::Totem::fingerprint`].
    pub(super) fn fingerprint(&self, now: Time, state: &mut impl Hasher) {
        let Self { me: _, representative, predecessor, successor, token_seq, last_seq, last_aru, .. } = self;
        let Self {
            aru_before, unchanged, quiet, stuck, still, flow, served, last_sent, held, holder, ..
        } = self;
        let Self { foreign, kept_at, turn, due_at, missed_at, .. } = self;
        let Self { retransmit_at, loss_at, merge_at, probe_at, ask_at, hold_at, .. } = self;
        (representative, predecessor, successor, token_seq, last_seq, last_aru).hash(state);
        (aru_before, unchanged, quiet.min(&(Limits::QUIET + 1)), stuck).hash(state);
        (still.min(&Self::WEDGED), flow, served, last_sent, held, holder, foreign, turn).hash(state);
        (now - *kept_at, *due_at - now, *missed_at - now).hash(state);
        (*retransmit_at - now, *loss_at - now).hash(state);
        [merge_at, probe_at, ask_at, hold_at].map(|at| at.map(|at| at - now)).hash(state);
    }
}

/// A frame that this node sent again, and may have to send once more.
#[derive(Clone, Copy, Hash)]
struct Served {
    seq: Seq,
    /// The number of times that this node has sent the frame again.
    times: u32,
    /// The number of token visits at which this node leaves the frame to others.
    rests: u32,
}

/// A member that does not receive a frame.
#[derive(Clone, Copy)]
struct Lacking {
    node: NodeId,
    /// The value at which the member holds aru.
    aru: Seq,
    since: Time,
    /// The number of token visits since then.
    visits: u32,
}

/// Returns the member after `me` on a ring.
pub(super) fn successor(me: NodeId, members: &BTreeSet<NodeId>) -> NodeId {
    let after = (std::ops::Bound::Excluded(me), std::ops::Bound::Unbounded);
    members.range(after).next().or(members.first()).copied().unwrap_or(me)
}

/// Returns the member before `me` on a ring.
fn predecessor(me: NodeId, members: &BTreeSet<NodeId>) -> NodeId {
    members.range(..me).next_back().or(members.last()).copied().unwrap_or(me)
}
