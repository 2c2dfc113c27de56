//! The driver against a scripted core, over a transport of channels, in tokio's paused time.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::timeout;

use std::net::SocketAddr;

use quorate_membership::{Cause, Config, Group, GroupError, Guarantee, NodeId, Parting, Stats, Totem};

use super::*;
use crate::Memory;

/// A core whose datagrams are commands: `room 2`, `tell x`, `send x`, `pass x`, `due 50`,
/// `again 10`, `store 7`, `unread on`, `sent`, `rest`, `ring 12`, `leaving on`, `linger`. It logs
/// every input and every output except long messages.
#[derive(Default)]
struct Fake {
    log: Log,
    room: usize,
    unread: bool,
    queued: usize,
    /// The token rests here, so multicasts are sent and delivered at once.
    rests: bool,
    transmits: VecDeque<Transmit>,
    events: VecDeque<String>,
    due: Option<Time>,
    again: Option<Duration>,
    to_store: Option<Stored>,
    stats: Stats,
    members: BTreeSet<NodeId>,
    /// The last leave of a process is under way.
    leaving: bool,
    /// Leaving the ring takes a timer.
    lingers: bool,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|noted| *noted == line).count()
    }
}

const LAST: &str = "left";
const COST: usize = 100;
/// Length from which messages are not logged and always find room in the core.
const LONG: usize = 1000;

fn me() -> NodeId {
    NodeId::new(9).unwrap()
}

impl Fake {
    fn obey(&mut self, now: Time, datagram: &Bytes) {
        let text = str::from_utf8(datagram).unwrap();
        self.log.note(format!("heard {text}"));
        for command in text.split(';') {
            let (verb, value) = command.split_once(' ').unwrap_or((command, ""));
            let number = || value.parse().unwrap();
            match verb {
                "room" => self.room = usize::try_from(number()).unwrap(),
                "tell" => self.events.push_back(value.to_owned()),
                "send" => self.transmits.push_back(transmit(value)),
                "pass" => {
                    let to = Destination::Member(me());
                    let datagram = Bytes::copy_from_slice(value.as_bytes());
                    self.transmits.push_back(Transmit { to, datagram });
                }
                "due" => self.due = Some(now + Duration::from_millis(number())),
                "again" => self.again = Some(Duration::from_micros(number())),
                "store" => {
                    self.to_store =
                        Some(Stored { ring_seq: number(), boots: 1, lost: false, ..Stored::default() });
                }
                "unread" => self.unread = value == "on",
                "sent" => self.queued = 0,
                "rest" => self.rests = true,
                "leaving" => self.leaving = value == "on",
                "linger" => self.lingers = true,
                "ring" => {
                    self.stats.rings += 1;
                    self.members = value.chars().map(|id| id.to_string().parse().unwrap()).collect();
                }
                _ => {}
            }
        }
    }
}

impl Core for Fake {
    type Event = String;

    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Datagram(_, datagram) => self.obey(now, datagram),
            Input::Refused(node) => self.log.note(format!("refused {node}")),
            Input::Notice(notice, _) => self.log.note(format!("{notice}")),
            Input::Timeout => {
                self.log.note("timeout");
                if self.lingers {
                    self.events.push_back(LAST.to_owned());
                }
                self.due = self.again.map(|again| now + again);
            }
            Input::Stored(stored) => {
                self.log.note(format!("stored {}", stored.ring_seq));
                self.to_store.take_if(|wanted| *wanted == stored);
            }
            Input::Consumed(cost) => {
                self.log.note(format!("consumed {cost}"));
                self.unread = false;
            }
            Input::Kill(node, reason) => self.log.note(format!("kill {node}: {reason}")),
            Input::Reconfigure(order) => self.log.note(format!("{order:?}")),
            Input::Reload(request) => self.log.note(format!("reload {request}")),
            Input::Metadata(metadata) => self.log.note(format!("{metadata:?}")),
            Input::Leave => {
                self.log.note("leave");
                self.transmits.push_back(transmit("LEAVE"));
                if self.lingers {
                    self.due = Some(now + Duration::from_millis(10));
                } else {
                    self.events.push_back(LAST.to_owned());
                }
            }
        }
    }
    fn multicast(
        &mut self,
        _: Time,
        pid: u32,
        _: &Group,
        _: Guarantee,
        payload: &Bytes,
    ) -> Result<(), MulticastError> {
        let full = if self.unread { MulticastError::EventsUnread } else { MulticastError::Full };
        if payload.len() < LONG {
            self.room = self.room.checked_sub(1).ok_or(full)?;
        }
        self.queued += payload.len();
        if payload.len() >= LONG {
            return Ok(());
        }
        let process = if pid == 0 { String::new() } else { format!(" of {pid}") };
        let text = str::from_utf8(payload).unwrap();
        self.log.note(format!("multicast {text}{process}"));
        if self.rests {
            self.transmits.push_back(transmit(text));
            self.events.push_back(text.to_owned());
        }
        Ok(())
    }
    fn change_group(&mut self, _: Time, change: GroupRequest<'_>) -> Result<(), GroupError> {
        match change {
            GroupRequest::Join(..) if self.leaving => Err(GroupError::StillLeaving),
            GroupRequest::Join(pid, group) => {
                self.log.note(format!("{pid} joins {group}"));
                Ok(())
            }
            GroupRequest::Leave(pid, group, parting) => {
                self.log.note(format!("{pid} leaves {group}: {parting:?}"));
                Err(GroupError::NotMember)
            }
        }
    }
    fn must_store(&self) -> Option<Stored> {
        self.to_store.clone()
    }
    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }
    fn poll_event(&mut self) -> Option<String> {
        let event = self.events.pop_front()?;
        self.log.note(format!("told {event}"));
        Some(event)
    }
    fn poll_timeout(&self) -> Option<Time> {
        self.due
    }
    fn view(&self) -> CoreView<'_> {
        CoreView {
            me: me(),
            members: &self.members,
            queued: self.queued,
            window: 50,
            slow: self.unread,
            stats: &self.stats,
        }
    }
    fn cost(event: &String) -> usize {
        if event.starts_with("long") { EVENTS } else { COST }
    }
    fn left(event: &String) -> Option<&Cause> {
        (event == LAST).then_some(&Cause::LeaveRequested)
    }
}

fn transmit(text: &str) -> Transmit {
    Transmit { to: Destination::Everyone, datagram: Bytes::copy_from_slice(text.as_bytes()) }
}

/// Sockets that receive what the test sends into the channel, one datagram per batch. Sent
/// datagrams are logged.
struct Wire {
    log: Log,
    incoming: UnboundedReceiver<&'static str>,
    news: Vec<News>,
}

/// Returns the address of a node.
fn address(node: u8) -> SocketAddr {
    ([127, 0, 0, node], 5405).into()
}

fn path() -> Path {
    let listed = [1, 2, 7, 9].map(|id| (id.into(), address(id).ip().to_string()));
    let mut config = Config::of_cluster("test", 9, listed).unwrap();
    config.network.port = Some(address(9).port());
    Path::new(&config, address(9)).unwrap()
}

impl Sockets for Wire {
    fn home(&self) -> SocketAddr {
        address(9)
    }

    async fn send(&mut self, batch: &mut VecDeque<Packet>) -> io::Result<()> {
        for packet in batch.drain(..) {
            self.log.note(format!("sent {}", str::from_utf8(&packet.datagram).unwrap()));
        }
        Ok(())
    }

    async fn recv(&mut self, batch: &mut Vec<Packet>) -> io::Result<()> {
        match self.incoming.recv().await {
            Some("refused") => self.news.push(News::Refused(address(7).ip())),
            Some(text) => {
                let datagram = Bytes::from_static(text.as_bytes());
                batch.push(Packet { address: address(1), datagram });
            }
            None => return Err(io::Error::other("unplugged")),
        }
        Ok(())
    }

    fn poll_news(&mut self) -> Option<News> {
        self.news.pop()
    }
}

struct Bed {
    node: Node,
    events: Events<String>,
    network: UnboundedSender<&'static str>,
    log: Log,
    disk: Memory,
}

impl Bed {
    fn new() -> Self {
        Self::with_clock(Clock::tokio())
    }

    fn with_clock(clock: Clock) -> Self {
        let log = Log::default();
        let disk = Memory::default();
        let (network, incoming) = mpsc::unbounded_channel();
        let wire = Wire { log: log.clone(), incoming, news: Vec::new() };
        let core = Fake { log: log.clone(), ..Fake::default() };
        let (node, events) = run(core, path(), wire, Store::in_memory(&disk).0, clock);
        Self { node, events, network, log, disk }
    }

    /// Lets one datagram arrive, and waits until it has been handled.
    async fn hear(&self, text: &'static str) {
        self.network.send(text).unwrap();
        settle().await;
    }

    /// Sends long messages until there is no room for more.
    async fn fill(&self) {
        let group = "orders".parse().unwrap();
        let long = || self.node.multicast(&group, Guarantee::Agreed, vec![0; Totem::QUEUE / 8].into());
        while timeout(Duration::from_millis(1), long()).await.is_ok() {}
        let short = || self.node.multicast(&group, Guarantee::Agreed, vec![0; LONG].into());
        while timeout(Duration::from_millis(1), short()).await.is_ok() {}
    }

    /// Spawns a task that multicasts. When this returns, the multicast has reached the driver or
    /// waits for room.
    async fn multicasting(&self, text: &'static str) -> Sending {
        let node = self.node.clone();
        let task = tokio::spawn(async move { multicast(&node, text).await });
        settle().await;
        task
    }

    async fn multicasting_long(&self) -> Sending {
        self.multicasting(Box::leak(" ".repeat(LONG).into_boxed_str())).await
    }
}

type Sending = tokio::task::JoinHandle<Result<(), MulticastError>>;

async fn multicast(node: &Node, text: &'static str) -> Result<(), MulticastError> {
    let group = "orders".parse().unwrap();
    node.multicast(&group, Guarantee::Agreed, Bytes::from_static(text.as_bytes())).await
}

/// Waits until every task waits.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

async fn is_pending<T>(task: &mut tokio::task::JoinHandle<T>) -> bool {
    timeout(Duration::from_secs(60), task).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn datagrams_do_not_wait_until_all_long_events_are_handed_over() {
    let bed = Bed::new();
    bed.network.send("tell x;tell long a;tell long b").unwrap();
    bed.hear("send token").await;
    let heard = ["heard tell x;tell long a;tell long b", "told x", "told long a", "heard send token"];
    let lines = bed.log.lines();
    assert_eq!(lines[..4], heard);
    assert_eq!(lines[4..6], ["sent token", "told long b"]);
}

#[tokio::test(start_paused = true)]
async fn the_holder_of_a_resting_token_delivers_its_message_first() {
    let Bed { node, mut events, network, log, .. } = Bed::new();
    let taken = log.clone();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            taken.note(format!("taken {event}"));
        }
    });
    network.send("room 2;rest").unwrap();
    settle().await;
    assert_eq!(multicast(&node, "a").await, Ok(()));
    settle().await;
    assert_eq!(log.lines()[1..], ["multicast a", "told a", "taken a", "sent a"]);

    // The datagram that has arrived may be a token that other members wait for.
    network.send("send token").unwrap();
    assert_eq!(multicast(&node, "b").await, Ok(()));
    settle().await;
    let lines = log.lines();
    assert_eq!(lines[5..7], ["heard send token", "sent token"]);
    assert_eq!(lines[lines.len() - 4..], ["multicast b", "sent b", "told b", "taken b"]);
}

#[tokio::test(start_paused = true)]
async fn a_multicast_waits_until_there_is_room() {
    let bed = Bed::new();
    bed.hear("room 1").await;
    bed.fill().await;
    let mut long = bed.multicasting_long().await;
    let short = bed.multicasting("a").await;
    assert!(is_pending(&mut long).await);
    bed.hear("sent").await;
    assert_eq!((long.await.unwrap(), short.await.unwrap()), (Ok(()), Ok(())));
    assert_eq!(bed.log.lines(), ["heard room 1", "heard sent", "multicast a"]);
}

#[tokio::test(start_paused = true)]
async fn a_multicast_that_the_core_has_no_room_for_is_sent_later() {
    let bed = Bed::new();
    assert_eq!(multicast(&bed.node, "a").await, Ok(()));
    bed.hear("room 1").await;
    assert_eq!(bed.log.lines(), ["heard room 1", "multicast a"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_hears_itself_without_the_network() {
    let bed = Bed::new();
    bed.hear("pass room 1;send hello").await;
    assert_eq!(bed.log.lines(), ["heard pass room 1;send hello", "sent hello", "heard room 1"]);
}

#[tokio::test(start_paused = true)]
async fn refusals_of_hosts_come_after_received_datagrams() {
    let bed = Bed::new();
    bed.network.send("room 1").unwrap();
    bed.hear("refused").await;
    assert_eq!(bed.log.lines(), ["heard room 1", "refused 7"]);
}

#[tokio::test(start_paused = true)]
async fn waiting_multicasts_keep_their_order() {
    let bed = Bed::new();
    for text in ["a", "b", "c", "d"] {
        assert_eq!(multicast(&bed.node, text).await, Ok(()));
    }
    bed.hear("room 1").await;
    bed.hear("room 2").await;
    let sent = ["heard room 1", "multicast a", "heard room 2", "multicast b", "multicast c"];
    assert_eq!(bed.log.lines(), sent);
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_multicasts_all_arrive() {
    let bed = Bed::new();
    bed.hear("room 1000").await;
    let sending = futures_of_all((0..500).map(|_| multicast(&bed.node, "x")));
    assert!(sending.await.into_iter().all(|result| result.is_ok()));
    settle().await;
    assert_eq!(bed.log.count("multicast x"), 500);
}

/// Polls all futures to completion, in order.
async fn futures_of_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |context| {
        for (future, output) in &mut waiting {
            if output.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        match waiting.iter().all(|(_, output)| output.is_some()) {
            true => Poll::Ready(waiting.iter_mut().filter_map(|(_, output)| output.take()).collect()),
            false => Poll::Pending,
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_join_waits_until_the_process_has_left() {
    let bed = Bed::new();
    bed.hear("leaving on").await;
    let (node, group) = (bed.node.of_process(7), "orders".parse().unwrap());
    let mut joining = tokio::spawn(async move { node.join(&group).await });
    assert!(is_pending(&mut joining).await);
    bed.hear("leaving off").await;
    assert_eq!(joining.await.unwrap(), Ok(()));
    assert_eq!(bed.log.count("7 joins orders"), 1);
}

#[tokio::test(start_paused = true)]
async fn group_calls_take_effect_in_order_for_the_nodes_process() {
    let bed = Bed::new();
    let group: Group = "orders".parse().unwrap();
    assert_eq!(multicast(&bed.node, "before").await, Ok(()));
    let mut joining = tokio::spawn({
        let (node, group) = (bed.node.of_process(7), group.clone());
        async move {
            node.join(&group).await?;
            assert_eq!(multicast(&node, "member's").await, Ok(()));
            node.leave_group(&group, Parting::Died).await
        }
    });
    settle().await;
    assert!(is_pending(&mut joining).await, "there is no room for what was multicast before");
    bed.hear("room 2").await;
    assert_eq!(joining.await.unwrap(), Err(GroupError::NotMember));
    let expect = ["multicast before", "7 joins orders", "multicast member's of 7", "7 leaves orders: Died"];
    let asked: Vec<String> =
        bed.log.lines().into_iter().filter(|line| expect.contains(&line.as_str())).collect();
    assert_eq!(asked, expect);
    bed.node.leave().await;
    assert_eq!(bed.node.join(&group).await, Err(GroupError::Left));
}

#[tokio::test(start_paused = true)]
async fn unread_events_fail_a_multicast_until_they_are_read() {
    let mut bed = Bed::new();
    bed.fill().await;
    bed.hear("tell x;unread on").await;
    let group = "orders".parse().unwrap();
    let long = || bed.node.multicast(&group, Guarantee::Agreed, vec![0; LONG].into());
    assert_eq!(long().await, Err(MulticastError::EventsUnread));
    assert_eq!(bed.events.next().await.as_deref(), Some("x"));
    bed.hear("sent").await;
    assert_eq!(long().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_sender_waits_until_another_task_has_read_the_events() {
    let mut bed = Bed::new();
    bed.node.caught_up().await;
    bed.fill().await;
    bed.hear("tell x;unread on").await;
    let group = "orders".parse().unwrap();
    let long = || bed.node.multicast(&group, Guarantee::Agreed, vec![0; LONG].into());
    assert_eq!(long().await, Err(MulticastError::EventsUnread));
    let node = bed.node.clone();
    let mut waiting = tokio::spawn(async move { node.caught_up().await });
    assert!(is_pending(&mut waiting).await);
    assert_eq!(bed.events.next().await.as_deref(), Some("x"));
    waiting.await.unwrap();
    bed.hear("sent").await;
    assert_eq!(long().await, Ok(()));

    bed.hear("unread on").await;
    let node = bed.node.clone();
    let mut waiting = tokio::spawn(async move { node.caught_up().await });
    assert!(is_pending(&mut waiting).await);
    bed.node.leave().await;
    waiting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_waiting_multicast_fails_when_events_are_unread() {
    let bed = Bed::new();
    bed.fill().await;
    let mut sending = bed.multicasting_long().await;
    assert!(is_pending(&mut sending).await);
    bed.hear("unread on").await;
    assert_eq!(sending.await.unwrap(), Err(MulticastError::EventsUnread));
}

#[tokio::test(start_paused = true)]
async fn a_too_long_message_fails_at_once_behind_a_waiting_one() {
    let bed = Bed::new();
    bed.fill().await;
    let _waiting = bed.multicasting_long().await;
    let length = Totem::MAX_PAYLOAD + 1;
    let group = "orders".parse().unwrap();
    let sending = bed.node.multicast(&group, Guarantee::Safe, Bytes::from(vec![0; length]));
    assert_eq!(sending.await, Err(MulticastError::TooLong { length }));
}

#[tokio::test(start_paused = true)]
async fn a_message_beyond_the_queue_takes_all_of_its_room() {
    let bed = Bed::new();
    bed.fill().await;
    let mut longest = bed.multicasting(Box::leak(" ".repeat(Totem::MAX_PAYLOAD).into_boxed_str())).await;
    let mut next = bed.multicasting_long().await;
    assert!(is_pending(&mut longest).await);
    bed.hear("sent").await;
    assert_eq!(longest.await.unwrap(), Ok(()));
    assert!(is_pending(&mut next).await, "all room is taken");
    bed.hear("sent").await;
    assert_eq!(next.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_multicast_future_leaves_nothing_behind() {
    let bed = Bed::new();
    bed.hear("room 5").await;
    bed.fill().await;
    let waiting = [bed.multicasting_long().await, bed.multicasting_long().await];
    let third = bed.multicasting("c").await;
    waiting.into_iter().for_each(|waiting| waiting.abort());
    settle().await;
    // The first waiting multicast had been given all the room that was left.
    assert_eq!(third.await.unwrap(), Ok(()));
    assert_eq!(bed.log.lines(), ["heard room 5", "multicast c"]);
}

#[tokio::test(start_paused = true)]
async fn outputs_go_out_in_order_and_before_the_next_input() {
    let bed = Bed::new();
    bed.network.send("tell x;send 1;tell y;send 2").unwrap();
    bed.hear("tell z").await;
    assert_eq!(
        bed.log.lines(),
        [
            "heard tell x;send 1;tell y;send 2",
            "sent 1",
            "sent 2",
            "told x",
            "told y",
            "heard tell z",
            "told z"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn leave_is_ready_when_the_last_event_is_out() {
    let mut bed = Bed::new();
    bed.fill().await;
    let sending = bed.multicasting_long().await;
    bed.node.leave().await;
    assert_eq!(bed.log.lines(), ["leave", "sent LEAVE", "told left"]);
    assert_eq!(bed.events.next().await.as_deref(), Some(LAST));
    assert_eq!(bed.events.next().await, None);

    assert_eq!(sending.await.unwrap(), Err(MulticastError::Left));
    assert_eq!(multicast(&bed.node, "b").await, Err(MulticastError::Left));
    bed.node.leave().await;
    assert_eq!(bed.node.stats().await.window, 50);
}

#[tokio::test(start_paused = true)]
async fn all_handles_hear_why_the_node_has_left() {
    let bed = Bed::new();
    let other = bed.node.clone();
    let waiting = tokio::spawn(async move { other.left().await });
    settle().await;
    assert!(!waiting.is_finished());
    bed.node.leave().await;
    assert_eq!(waiting.await.unwrap(), Some(Cause::LeaveRequested));
    assert_eq!(bed.node.left().await, Some(Cause::LeaveRequested), "after it has left");
}

#[tokio::test(start_paused = true)]
async fn a_node_with_all_handles_dropped_leaves() {
    let bed = Bed::new();
    drop(bed.node);
    settle().await;
    assert_eq!(bed.log.lines(), Vec::<String>::new(), "somebody still listens");
    drop(bed.events);
    settle().await;
    assert_eq!(bed.log.lines(), ["leave", "sent LEAVE", "told left", "consumed 100"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_event_stream_still_sends() {
    let bed = Bed::new();
    bed.hear("tell x;tell y;room 1").await;
    drop(bed.events);
    settle().await;
    bed.network.send("tell z").unwrap();
    settle().await;
    assert_eq!(multicast(&bed.node, "a").await, Ok(()));
    settle().await;
    assert_eq!(
        bed.log.lines()[3..],
        ["consumed 200", "heard tell z", "told z", "consumed 100", "multicast a"]
    );
}

#[tokio::test(start_paused = true)]
async fn taken_events_are_reported_at_once_to_a_slow_core() {
    let mut bed = Bed::new();
    bed.hear("unread on;tell x;tell y").await;
    bed.events.next().await.unwrap();
    bed.events.next().await.unwrap();
    settle().await;
    assert_eq!(bed.log.lines().last().unwrap(), "consumed 200");
}

#[tokio::test(start_paused = true)]
async fn taken_events_are_reported_to_the_core_with_the_next_input() {
    let mut bed = Bed::new();
    bed.hear("tell x").await;
    bed.events.next().await.unwrap();
    settle().await;
    assert_eq!(bed.log.lines().last().unwrap(), "told x");
    bed.hear("nothing").await;
    assert_eq!(bed.log.lines()[2..], ["heard nothing", "consumed 100"]);
}

#[tokio::test(start_paused = true)]
async fn taken_events_are_reported_before_a_batch_is_finished() {
    let mut bed = Bed::new();
    bed.hear("tell a;tell b;tell c;tell d;tell e;tell f;tell g;tell h;tell i;tell j;tell k;tell l").await;
    for _ in 0..10 {
        bed.events.next().await.unwrap();
    }
    bed.hear("nothing").await;
    assert_eq!(bed.log.count("consumed 400"), 1, "four, with eight left: {:?}", bed.log.lines());
}

/// Passes time and lets no other task run, like an application that computes.
fn compute(length: Duration) {
    let _ = pin!(tokio::time::advance(length)).poll(&mut Context::from_waker(Waker::noop()));
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_computes_for_long_lets_the_driver_run() {
    let mut bed = Bed::new();
    bed.hear(["tell x"; 64].join(";").leak()).await;
    bed.network.send("send token").unwrap();
    for taken in 0.. {
        assert!(taken <= 8, "{taken} events");
        bed.events.next().await.unwrap();
        if bed.log.count("sent token") > 0 {
            break;
        }
        compute(TURN);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_after_a_long_wait_is_there_at_once() {
    let mut bed = Bed::new();
    for _ in 0..2 {
        let next = pin!(bed.events.next()).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(next, Poll::Pending);
        compute(2 * TURN);
        bed.hear("tell x").await;
        let next = pin!(bed.events.next()).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(next, Poll::Ready(Some("x".to_owned())));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_delays_nothing() {
    let bed = Bed::new();
    bed.disk.set_latency(Duration::from_secs(10));
    bed.hear("store 7").await;
    bed.hear("room 1;send 1;due 50").await;
    assert_eq!(multicast(&bed.node, "a").await, Ok(()));
    tokio::time::sleep(Duration::from_secs(9)).await;
    let meanwhile = ["heard store 7", "heard room 1;send 1;due 50", "sent 1", "multicast a", "timeout"];
    assert_eq!(bed.log.lines(), meanwhile);
    let waits = async || bed.node.stats().await.notices.iter().any(|(notice, _)| *notice == Notice::Unstored);
    assert!(waits().await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bed.log.lines().last().unwrap(), "stored 7");
    assert!(!waits().await);
    assert_eq!(bed.disk.get(), Some(Stored { ring_seq: 7, boots: 1, lost: false, ..Stored::default() }));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_changed_while_it_was_written_is_written_again() {
    let bed = Bed::new();
    bed.disk.set_latency(Duration::from_secs(1));
    bed.hear("store 7").await;
    bed.hear("store 8").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(bed.log.lines()[2..], ["stored 7", "stored 8"]);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_is_tried_again() {
    let bed = Bed::new();
    bed.disk.set_failing(true);
    bed.hear("store 7").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bed.log.lines(), ["heard store 7"]);
    bed.disk.set_failing(false);
    tokio::time::sleep(STORE_AGAIN).await;
    assert_eq!(bed.log.lines(), ["heard store 7", "stored 7"]);
}

/// The text of a log.
#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn log_lines_of_a_node_have_its_id() {
    let text = Text::default();
    let writer = text.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    let _during = tracing::subscriber::set_default(log.finish());
    let bed = Bed::new();
    bed.disk.set_failing(true);
    bed.hear("store 7").await;
    let text = String::from_utf8(text.0.lock().unwrap().clone()).unwrap();
    let line = text.lines().find(|line| line.contains("cannot store the record")).unwrap();
    assert!(line.contains("ERROR quorate{node=9}: quorate::driver: "), "{line}");
}

#[tokio::test(start_paused = true)]
async fn a_late_timer_first_hears_what_waits_in_the_socket() {
    let late = Arc::new(AtomicU64::new(0));
    let clock = {
        let (late, tokio) = (Arc::clone(&late), Clock::tokio());
        Clock::new(move || tokio.now() + Duration::from_millis(late.load(Ordering::Relaxed)))
    };
    let bed = Bed::with_clock(clock);
    bed.hear("due 1000").await;
    // The process is paused for ten seconds. The token's sign of life is the last of the datagrams
    // that arrived meanwhile.
    late.store(10_000, Ordering::Relaxed);
    bed.network.send("stale").unwrap();
    bed.network.send("stale").unwrap();
    bed.hear("due 1000").await;
    assert_eq!(bed.log.count("timeout"), 0);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(bed.log.count("timeout"), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_suspend_timers_run_although_tokio_slept_through_it() {
    let suspended = Arc::new(AtomicU64::new(0));
    let clock = {
        let (suspended, tokio) = (Arc::clone(&suspended), Clock::tokio());
        Clock::new(move || tokio.now() + Duration::from_millis(suspended.load(Ordering::Relaxed)))
    };
    let bed = Bed::with_clock(clock);
    bed.hear("due 60000").await;
    suspended.store(3_600_000, Ordering::Relaxed);
    tokio::time::sleep(SLEEP_MAX + SLEEP_MIN).await;
    assert_eq!(bed.log.count("timeout"), 1);
}

#[tokio::test(start_paused = true)]
async fn timers_finer_than_tokios_do_not_spin() {
    let bed = Bed::new();
    bed.hear("again 10;due 1").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let timeouts = bed.log.count("timeout");
    assert!((400..=1001).contains(&timeouts), "{timeouts} in a second");
}

#[tokio::test(start_paused = true)]
async fn a_core_whose_timer_is_always_due_does_not_spin() {
    let bed = Bed::new();
    bed.hear("again 0;due 0").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let timeouts = bed.log.count("timeout");
    assert!((400..=1002).contains(&timeouts), "{timeouts} in a second");
}

/// A network that always has a datagram.
struct Flood;

impl Sockets for Flood {
    fn home(&self) -> SocketAddr {
        address(9)
    }

    async fn send(&mut self, batch: &mut VecDeque<Packet>) -> io::Result<()> {
        batch.clear();
        Ok(())
    }

    async fn recv(&mut self, batch: &mut Vec<Packet>) -> io::Result<()> {
        batch.push(Packet { address: address(1), datagram: Bytes::from_static(b"noise") });
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_does_not_starve_timers_commands_or_other_tasks() {
    let reads = AtomicU64::new(0);
    let clock = Clock::new(move || Time::from_micros(reads.fetch_add(1, Ordering::Relaxed)));
    let log = Log::default();
    let core = Fake { log: log.clone(), room: 1, due: Some(Time::from_micros(10_000)), ..Fake::default() };
    let (node, events) = run(core, path(), Flood, Store::in_memory(&Memory::default()).0, clock);
    assert_eq!(multicast(&node, "a").await, Ok(()));
    assert_eq!(node.stats().await.window, 50);
    while log.count("timeout") == 0 {
        tokio::task::yield_now().await;
    }
    drop((node, events));
    while log.count("told left") == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_fails_ends_the_node_with_its_last_event() {
    for lingers in [false, true] {
        let bed = Bed::new();
        if lingers {
            bed.hear("linger").await;
        }
        let Bed { node, mut events, network, .. } = bed;
        drop(network);
        assert_eq!(events.next().await.as_deref(), Some(LAST));
        assert_eq!(events.next().await, None);
        assert_eq!(node.left().await, Some(Cause::LeaveRequested));
        assert_eq!(multicast(&node, "a").await, Err(MulticastError::Left));
    }
}

#[tokio::test]
async fn both_clocks_start_at_zero_and_advance() {
    for clock in [Clock::boot_time(), Clock::tokio()] {
        let early = clock.now();
        assert!(early < Time::from_micros(1_000_000), "{early:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(clock.now() - early >= Duration::from_millis(1));
    }
}

#[test]
fn no_two_nodes_start_with_the_same_randomness() {
    assert_ne!(crate::builder::entropy().unwrap(), crate::builder::entropy().unwrap());
}
