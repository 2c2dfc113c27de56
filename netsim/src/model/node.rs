//! A node of the model: the real core with the real election on top, its disk, and what its
//! application has received.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use quorate_election::{Election, Electorate, Event as ElectionEvent, Outcome, Record, Say};
use quorate_membership::config::{Member, TotemConfig};
use quorate_membership::wire::body::Body;
use quorate_membership::wire::{self, Message, Token};
use quorate_membership::{
    Cause, Config, Destination, Event, Group, Guarantee, NodeId, Origin, Phase, RingId, RingView, Seq,
    Service, Snapshot, Stored, Time, Totem, Transmit,
};

use crate::history::{Content, Life, MessageId, What};
use crate::observed;

/// An input of a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input<'a> {
    /// A datagram arrives from the address of the given node.
    Datagram(NodeId, &'a Bytes),
    /// Its next timer fires. If `late`, it fires as late as possible without counting as a stall,
    /// together with all timers that became due meanwhile.
    Timer { late: bool },
    /// Its application sends a message.
    Multicast(Guarantee),
    /// It crashes.
    Crash,
    /// It starts, with its stored record.
    Start,
}

/// The result of an input.
#[derive(Default)]
pub(super) struct Output {
    pub(super) sent: Vec<Transmit>,
    /// The events that its application received, as they print, including causes.
    pub(super) told: Vec<What>,
    /// The token that was accepted.
    pub(super) token: Option<(RingId, Seq)>,
}

#[derive(Clone)]
pub(super) struct Node {
    config: Config,
    starts: u32,
    core: Option<(Totem, Election)>,
    now: Time,
    disk: Stored,
    accepted: u64,
    /// The number of rings that it installed in all its lives.
    pub(super) rings: u8,
    /// The events that its applications received in all its lives. Causes are omitted, because they
    /// are history themselves.
    pub(super) log: Vec<(Life, What)>,
    log_print: u64,
    /// The last token number accepted in each of the latest rings.
    pub(super) tokens: BTreeMap<RingId, Seq>,
    /// The numbers of the frames received in each of the latest rings.
    pub(super) received: BTreeMap<RingId, BTreeSet<u32>>,
}

/// Returns the constants of the model. All timers that a state sets at one time fall within a
/// quarter of the token timeout, so that any of them can be the next to fire. The token is held
/// after as many rotations without news as a ring needs to form.
fn totem() -> TotemConfig {
    let ms = Duration::from_millis;
    let mut totem = TotemConfig::for_token(ms(100)).plain();
    totem.token_retransmit = ms(80);
    totem.hold = ms(78);
    totem.merge = ms(79);
    totem.join = ms(80);
    totem.consensus = ms(100);
    totem.seqno_unchanged_const = 3;
    totem.miss_count_const = 1;
    totem
}

/// The delay of a late timer.
const LATE: Duration = Duration::from_millis(25);

impl Node {
    /// Returns a node that has never been started, of a cluster of `nodes` nodes.
    pub(super) fn new(id: NodeId, nodes: u32) -> Self {
        let mut config = Config::new(id);
        let member = |id: NodeId| Member::new(id, [10, 0, (id.get() >> 8) as u8, id.get() as u8].into());
        config.nodes = (1..=nodes).filter_map(NodeId::new).map(member).collect();
        config.totem = totem();
        config.quorum.expected_votes = Some(nodes);
        // Leases are not checked here. The token is held for longer than a lease derived from its
        // timeout allows.
        config.dc.lease = Some(Duration::from_secs(1));
        // The nodes have long agreed on the voters.
        let kept = Record::of_old(Electorate::of(&config)).text();
        Self {
            config,
            starts: 0,
            core: None,
            now: Time::default(),
            disk: Stored { kept, ..Stored::default() },
            accepted: 0,
            rings: 0,
            log: Vec::new(),
            log_print: 0,
            tokens: BTreeMap::new(),
            received: BTreeMap::new(),
        }
    }

    pub(super) fn id(&self) -> NodeId {
        self.config.node
    }

    fn life(&self) -> Life {
        Life { node: self.id(), start: self.starts }
    }

    pub(super) fn is_up(&self) -> bool {
        self.core.is_some()
    }

    pub(super) fn snapshot(&self) -> Option<Snapshot<'_>> {
        self.core.as_ref().map(|(totem, _)| totem.snapshot())
    }

    /// Returns the time until its next timer.
    pub(super) fn due_in(&self) -> Option<Duration> {
        let (totem, _) = self.core.as_ref()?;
        totem.poll_timeout().map(|at| at - self.now)
    }

    /// Lets time pass.
    pub(super) fn wait(&mut self, length: Duration) {
        self.now = self.now + length;
    }

    /// Returns a hash that is equal for two nodes if they behave the same from here on and their
    /// applications have received the same.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut state = DefaultHasher::new();
        let Self { config, starts, core, now, disk, accepted, rings: _, log: _, log_print, tokens, received } =
            self;
        (config.node, starts, disk, accepted, log_print, tokens, received).hash(&mut state);
        if let Some((totem, election)) = core {
            totem.fingerprint(*now, &mut state);
            let _ = write!(Hashed(&mut state), "{election:?}");
        }
        core.is_some().hash(&mut state);
        state.finish()
    }

    /// Returns a hash of everything that its applications have received.
    pub(super) fn log_print(&self) -> u64 {
        self.log_print
    }

    pub(super) fn take(&mut self, input: Input<'_>) -> Output {
        let mut output = Output::default();
        match input {
            Input::Start => {
                if self.core.is_none() {
                    self.start(&mut output);
                }
            }
            Input::Crash => {
                if self.core.take().is_some() {
                    self.tell(What::Crashed, &mut output);
                }
            }
            Input::Datagram(from, datagram) => self.hear(from, datagram, &mut output),
            Input::Timer { late } => {
                let Some((totem, _)) = &mut self.core else { return output };
                let Some(at) = totem.poll_timeout() else { return output };
                self.now = if late { at + LATE } else { at };
                totem.handle_timeout(self.now);
            }
            Input::Multicast(guarantee) => self.multicast(guarantee, &mut output),
        }
        self.settle(&mut output);
        output
    }

    fn start(&mut self, output: &mut Output) {
        self.starts += 1;
        self.accepted = 0;
        self.now = Time::default();
        let totem = Totem::new(&self.config, self.disk.clone(), [0; 32], self.now);
        // The model's own configuration is valid.
        let mut totem = totem.unwrap_or_else(|error| panic!("{error}"));
        let election = Election::new(&self.config).with_kept(&self.disk.kept);
        totem.keep(election.kept());
        self.core = Some((totem, election));
        self.tell(What::Started, output);
    }

    fn hear(&mut self, from: NodeId, datagram: &Bytes, output: &mut Output) {
        let Some((totem, _)) = &mut self.core else { return };
        let message = wire::decode(datagram).ok();
        let held = |view: Option<RingView<'_>>| view.map(|ring| (ring.id, ring.held));
        let (ring, forming) = (held(Some(totem.snapshot().ring)), held(totem.snapshot().forming));
        let tokens = totem.stats().tokens;
        totem.handle_datagram(self.now, Origin::of(Some(from)), datagram);
        let snapshot = totem.snapshot();
        let grew = |before: Option<(RingId, usize)>, now: Option<(RingId, usize)>| match (before, now) {
            (Some((id, before)), Some((same, now))) => (id == same && now > before).then_some(id),
            _ => None,
        };
        match message {
            Some(Message::Token(Token { ring, token_seq, .. })) if totem.stats().tokens > tokens => {
                output.token = Some((ring, token_seq));
                self.tokens.insert(ring, token_seq);
            }
            Some(Message::Multicast(frame)) => {
                let taken = [grew(ring, held(Some(snapshot.ring))), grew(forming, held(snapshot.forming))];
                let inner = frame.encapsulated.then(|| frame.inner().ok()).flatten();
                for frame in [Some(frame), inner].into_iter().flatten() {
                    if taken.contains(&Some(frame.ring)) {
                        self.received.entry(frame.ring).or_default().insert(frame.seq.get());
                    }
                }
            }
            _ => {}
        }
    }

    fn multicast(&mut self, guarantee: Guarantee, output: &mut Output) {
        let life = self.life();
        let Some((totem, _)) = &mut self.core else { return };
        let message = MessageId { sender: life, number: self.accepted + 1 };
        let group = Group::new("model").unwrap_or_else(|_| unreachable!("a short name"));
        if totem.multicast(self.now, 0, &group, guarantee, &message.mark(&Bytes::new())).is_ok() {
            self.accepted += 1;
            let content = Content::of(&Bytes::new());
            self.tell(What::Accepted { message, group, guarantee, content }, output);
        }
    }

    /// Does what the core wants. Its record is stored at once, its datagrams are sent, those to
    /// itself arrive, and its events are read.
    fn settle(&mut self, output: &mut Output) {
        let mut rounds = 0;
        loop {
            let now = self.now;
            let me = self.id();
            let Some((totem, election)) = &mut self.core else { return };
            if let Some(stored) = totem.must_store() {
                self.disk = stored.clone();
                let outcome = election.handle_stored(Time::default(), &stored.kept);
                totem.handle_stored(now, stored);
                if let Some(message) = outcome.send {
                    totem.say(Service::Quorate, &message);
                }
            }
            let mut own = Vec::new();
            while let Some(transmit) = totem.poll_transmit() {
                if let Ok(Message::Multicast(frame)) = wire::decode(&transmit.datagram)
                    && frame.from == me
                {
                    self.received.entry(frame.ring).or_default().insert(frame.seq.get());
                }
                if transmit.to == Destination::Member(me) {
                    own.push(transmit.datagram);
                } else {
                    output.sent.push(transmit);
                }
            }
            for datagram in &own {
                rounds += 1;
                assert!(rounds < 1000, "a node alone comes to rest");
                self.hear(me, datagram, output);
            }
            let Some((totem, election)) = &mut self.core else { return };
            let Some(event) = totem.poll_event() else {
                if own.is_empty() {
                    break;
                }
                continue;
            };
            totem.consumed(now, event.cost());
            // This mirrors `quorate_election::Member` without the watchers and the quorum device.
            // The causes of ring changes are omitted, so that a state does not depend on how it was
            // reached.
            let Outcome { say, send, recovered, keep, status, .. } =
                election.handle(Time::default(), &without_causes(&event));
            if let Some(message) = send {
                totem.say(Service::Quorate, &message);
            }
            if recovered {
                totem.recovered();
            }
            if let Some(kept) = keep {
                totem.keep(kept);
            }
            if let Some(Say { node_info, candidacy, .. }) = say {
                totem.set_sync_messages(Service::Votequorum, vec![Body::NodeInfo(node_info).encode()]);
                totem.set_sync_messages(Service::Quorate, vec![candidacy.encode()]);
            }
            if let Some(status) = status.as_ref().filter(|status| status.settled) {
                totem.set_quorate(status.quorate);
            }
            if let Some(mut event) = ElectionEvent::of_ring(event) {
                self.tell(observed::what(&mut event).0, output);
            }
            if let Some(status) = status {
                self.tell(What::Status(Box::new(status)), output);
            }
        }
        const RINGS: usize = 4;
        while self.tokens.len() > RINGS {
            self.tokens.pop_first();
        }
        while self.received.len() > RINGS {
            self.received.pop_first();
        }
    }

    fn tell(&mut self, what: What, output: &mut Output) {
        let kept = match &what {
            What::Regular(regular) => {
                What::Regular(quorate_membership::Regular { causes: vec![Cause::Started], ..regular.clone() })
            }
            what => what.clone(),
        };
        let mut state = DefaultHasher::new();
        self.log_print.hash(&mut state);
        let _ = write!(Hashed(&mut state), "{kept:?}");
        self.log_print = state.finish();
        self.rings = self.rings.saturating_add(matches!(kept, What::Regular(_)).into());
        self.log.push((self.life(), kept));
        output.told.push(what);
    }

    /// Returns `true` if the node is in the installed ring with exactly these nodes, ready for
    /// messages, and with nothing to send.
    pub(super) fn is_settled(&self, members: &BTreeSet<NodeId>) -> bool {
        self.snapshot().is_some_and(|snapshot| {
            snapshot.phase == Phase::Operational
                && snapshot.ring.members == members
                && snapshot.synced
                && snapshot.queued == 0
                && snapshot.queued_control == 0
        })
    }
}

fn without_causes(event: &Event) -> Event {
    match event.clone() {
        Event::Regular(regular) => {
            Event::Regular(quorate_membership::Regular { causes: vec![Cause::Started], ..regular })
        }
        event => event,
    }
}

/// A writer that hashes the text written to it.
struct Hashed<'a>(&'a mut DefaultHasher);

impl Write for Hashed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}
