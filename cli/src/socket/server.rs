//! A node's side of the local socket.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate::{Group, Guarantee, Parting, Totem};
use quorate_client::{self as client, MAX_PAYLOAD, MAX_REQUEST, Request};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::claim::Claim;
use super::clients::{ClientId, Clients};
use super::lines;
use super::outbox::Outbox;
use super::places::{Guest, Places};
use super::reader::{Line, LineReader};

const _: () = assert!(MAX_PAYLOAD <= Totem::MAX_PAYLOAD);

/// The error for clients of a stopping node.
const STOPPING: &str = "the node is stopping";

/// The time that a client may take to send its request, or to read one line.
const PATIENCE: Duration = Duration::from_secs(10);

/// The interval between checks that the socket still exists.
const LOOK: Duration = Duration::from_secs(1);

/// The interval between log lines about a continuing problem.
const REMIND: Duration = Duration::from_secs(60);

/// An action of a client on its way to the ring.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) client: ClientId,
    /// The client's process.
    pub(crate) pid: u32,
    pub(crate) group: Group,
    pub(crate) what: What,
}

/// An action of a client.
#[derive(Debug)]
pub(crate) enum What {
    /// The client joins, before everything else.
    Join,
    /// The client sends a message.
    Message { guarantee: Guarantee, payload: Bytes },
    /// The client leaves, after everything else.
    Leave(Parting),
}

/// A request that waits for one line from the node.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) asked: Asked,
    pub(crate) reply: oneshot::Sender<Vec<u8>>,
}

/// The kind of a one-line request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// A request for [`lines::status_answer`].
    Status,
    /// A request for [`lines::release_answer`].
    Release,
}

/// The parts of a node that a connection uses.
pub(crate) struct Front {
    pub(crate) clients: Clients,
    /// All clients' messages, in the order in which the ring gets them. The channel is short, so
    /// that a full ring slows the clients down.
    pub(crate) outgoing: mpsc::Sender<Outgoing>,
    /// Requests that the node answers with one line.
    pub(crate) questions: mpsc::Sender<Question>,
    places: Places,
    /// A sender to which each served client has a receiver.
    served: watch::Sender<()>,
}

impl Front {
    pub(crate) fn new(
        clients: Clients,
        outgoing: mpsc::Sender<Outgoing>,
        questions: mpsc::Sender<Question>,
        places: Places,
    ) -> Self {
        Self { clients, outgoing, questions, places, served: watch::Sender::new(()) }
    }

    /// Waits until no client is served.
    pub(crate) async fn idle(&self) {
        self.served.closed().await;
    }
}

/// Serves clients forever, at a socket that is created again when its file is removed.
pub(crate) async fn serve(claim: &mut Claim, front: Arc<Front>) -> Infallible {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = Reminder::default();
    loop {
        let listener = match claim.listener().and_then(UnixListener::from_std) {
            Ok(listener) => listener,
            Err(error) => {
                trouble.warn(&format!("cannot listen for clients: {error}"));
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        loop {
            let accepted = tokio::select! {
                biased;
                _ = look.tick() => match claim.restore() {
                    Ok(false) => continue,
                    Ok(true) => {
                        tracing::warn!("the socket was removed and has been created again");
                        break;
                    }
                    Err(failure) => {
                        let what = "the socket was removed, so clients cannot find this node";
                        trouble.warn(&format!("{what}: {failure}"));
                        continue;
                    }
                },
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => receive(stream, front.clone()).await,
                Err(error) => {
                    // Usually out of file descriptors. Clients that end will free some.
                    trouble.warn(&format!("cannot accept a client: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Logs a continuing problem at intervals.
#[derive(Default)]
struct Reminder {
    said: Option<(Instant, String)>,
}

impl Reminder {
    fn warn(&mut self, what: &str) {
        if self.said.as_ref().is_some_and(|(at, said)| at.elapsed() < REMIND && said == what) {
            return;
        }
        tracing::warn!("{what}");
        self.said = Some((Instant::now(), what.to_owned()));
    }
}

/// Serves a client in its own task, once there is room at the door.
async fn receive(stream: UnixStream, front: Arc<Front>) {
    let guest = front.places.door.enter().await;
    tokio::spawn(async move {
        let served = match guest {
            Some(guest) => converse(stream, guest, &front).await,
            None => {
                let each = front.places.each;
                refuse(stream, &format!("the node is already answering {each} requests; try again")).await
            }
        };
        if let Err(error) = served {
            tracing::debug!("a client's connection ended: {error}");
        }
    });
}

async fn converse(stream: UnixStream, mut guest: Guest, front: &Front) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    if peer.uid() != 0 && peer.uid() != rustix::process::geteuid().as_raw() {
        return refuse(stream, "this node belongs to another user; connect as that user or as root").await;
    }
    // A process that is invisible to the node's host counts as the node itself.
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    let (read, mut write) = stream.into_split();
    let mut lines = LineReader::new(BufReader::with_capacity(256 << 10, read));
    let request = tokio::select! {
        biased;
        line = lines.next(MAX_REQUEST) => match line? {
            Line::Whole(line) => Request::parse(&line).map_err(|error| error.to_string()),
            Line::TooLong => Err(format!("the request is longer than {MAX_REQUEST} bytes")),
            Line::Part => Err("the request is incomplete; end it with a newline".into()),
            Line::End => return Ok(()),
        },
        () = guest.dismissed() => {
            Err("no request came, and another client needs the place; connect again to ask".into())
        }
        () = tokio::time::sleep(PATIENCE) => Err(format!("no request came within {} s", PATIENCE.as_secs())),
    };
    let _served = front.served.subscribe();
    let answer = match request {
        Ok(request @ (Request::Status | Request::Release)) => {
            let asked = if request == Request::Release { Asked::Release } else { Asked::Status };
            // If it was dismissed meanwhile, there were too many connections.
            if guest.asks() {
                ask(front, asked).await
            } else {
                lines::error("the node is too busy; try again")
            }
        }
        Ok(Request::Watch) => match front.places.take(&front.places.watch, "watch") {
            Ok(_place) => {
                drop(guest);
                return watch(front, lines, write).await;
            }
            Err(why) => lines::error(&why),
        },
        Ok(Request::Cat(client::Cat { group: name, guarantee, status, .. })) => {
            match (name.parse(), front.places.take(&front.places.cat, "cat")) {
                (Ok(group), Ok(_place)) => {
                    drop(guest);
                    let guarantee = match guarantee {
                        client::Guarantee::Agreed => Guarantee::Agreed,
                        client::Guarantee::Safe => Guarantee::Safe,
                    };
                    return cat(front, Cat { pid, group, guarantee, status }, lines, write).await;
                }
                (Err(error), _) => lines::error(&format!("invalid group name `{name}`: {error}")),
                (_, Err(why)) => lines::error(&why),
            }
        }
        Err(message) => lines::error(&message),
    };
    // A client that does not read its one-line answer must not keep its place.
    tokio::time::timeout(PATIENCE, write.write_all(&answer)).await?
}

async fn refuse(mut stream: UnixStream, why: &str) -> io::Result<()> {
    stream.write_all(&lines::error(why)).await
}

async fn ask(front: &Front, asked: Asked) -> Vec<u8> {
    let (reply, answer) = oneshot::channel();
    let is_asked = front.questions.send(Question { asked, reply }).await.is_ok();
    match answer.await {
        Ok(answer) if is_asked => answer,
        _ => lines::error(STOPPING),
    }
}

/// Serves a client until it goes, or sends anything more.
async fn watch(
    front: &Front,
    mut lines: LineReader<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
) -> io::Result<()> {
    let (client, outbox) = front.clients.watch();
    let written = tokio::select! {
        biased;
        written = write_lines(&outbox, write) => written,
        _ = lines.next(MAX_REQUEST) => Ok(()),
    };
    front.clients.remove(client);
    written
}

/// A `cat` request whose group has a valid name.
struct Cat {
    /// The client's process.
    pid: u32,
    group: Group,
    guarantee: Guarantee,
    /// Whether to include changes of the status.
    status: bool,
}

async fn cat(
    front: &Front,
    Cat { pid, group, guarantee, status }: Cat,
    mut lines: LineReader<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
) -> io::Result<()> {
    let (client, outbox) = front.clients.join(group.clone(), pid, status);
    let outgoing = |what| Outgoing { client, pid, group: group.clone(), what };
    let take = async {
        if front.outgoing.send(outgoing(What::Join)).await.is_ok() {
            let message = |payload| outgoing(What::Message { guarantee, payload });
            take_lines(front, client, &outbox, message, &mut lines).await;
        } else {
            front.clients.fail(client, STOPPING);
        }
        // The answer continues until everything is written.
        std::future::pending::<Infallible>().await
    };
    let written = tokio::select! {
        biased;
        written = write_lines(&outbox, write) => written,
        never = take => match never {},
    };
    front.clients.remove(client);
    let parting = if written.is_ok() { Parting::Left } else { Parting::Died };
    // If nothing receives this any more, the node is stopping, and its processes leave with it.
    let _ = front.outgoing.send(outgoing(What::Leave(parting))).await;
    written
}

/// Reads the client's messages until the last.
async fn take_lines(
    front: &Front,
    client: ClientId,
    outbox: &Outbox,
    message: impl Fn(Bytes) -> Outgoing,
    lines: &mut LineReader<BufReader<OwnedReadHalf>>,
) {
    let mut taken = 0;
    loop {
        outbox.room().await;
        let payload = match lines.next(MAX_PAYLOAD).await {
            Ok(Line::Whole(payload)) => payload,
            Ok(Line::TooLong) => {
                let line = taken + 1;
                let max = MAX_PAYLOAD;
                front
                    .clients
                    .fail(client, &format!("line {line} is longer than {max} bytes; send it in parts"));
                return;
            }
            Ok(Line::Part) => {
                let line = taken + 1;
                return front.clients.fail(
                    client,
                    &format!("line {line} is incomplete and was not sent; end it with a newline"),
                );
            }
            Ok(Line::End) => return front.clients.finish(client, taken),
            Err(error) => {
                return front.clients.fail(client, &format!("cannot read from the client: {error}"));
            }
        };
        if front.outgoing.send(message(payload)).await.is_err() {
            return front.clients.fail(client, STOPPING);
        }
        taken += 1;
    }
}

/// Writes lines to the client, until its last one.
async fn write_lines(outbox: &Outbox, mut write: OwnedWriteHalf) -> io::Result<()> {
    while let Some(chunk) = outbox.next().await {
        write.write_all(&chunk).await?;
        outbox.written(chunk.len());
    }
    write.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use quorate::{Cause, Delivery, Event, GroupChange, GroupReason, NodeId, Process, Regular, Seq};
    use serde_json::Value;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt};

    use super::*;
    /// A node's socket without a ring. Clients' messages come out of `outgoing`, and the test plays
    /// the ring.
    struct Node {
        front: Arc<Front>,
        outgoing: mpsc::Receiver<Outgoing>,
        questions: mpsc::Receiver<Question>,
        path: PathBuf,
        _directory: tempfile::TempDir,
    }

    impl Node {
        fn start() -> Self {
            Self::with_places(64)
        }

        /// Starts a node with `each` places for each kind of client.
        fn with_places(each: u64) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("1.sock");
            let mut claim = Claim::new(&path).unwrap();
            let (outgoing_sender, outgoing) = mpsc::channel(16);
            let (questions_sender, questions) = mpsc::channel(16);
            let clients = Clients::new(NodeId::new(1).unwrap(), |status| status);
            clients.handle(&Event::Regular(Regular {
                ring: "1.4".parse().unwrap(),
                members: BTreeSet::from([NodeId::new(1).unwrap()]),
                joined: BTreeSet::new(),
                left: BTreeSet::new(),
                causes: vec![Cause::Started],
            }));
            let places = Places::within(3 * each).unwrap();
            let front = Arc::new(Front::new(clients, outgoing_sender, questions_sender, places));
            let serving = front.clone();
            tokio::spawn(async move { serve(&mut claim, serving).await });
            Self { front, outgoing, questions, path, _directory: directory }
        }

        async fn connect(&self, request: &[u8]) -> UnixStream {
            let mut stream = UnixStream::connect(&self.path).await.unwrap();
            stream.write_all(request).await.unwrap();
            stream
        }

        async fn cat(&self, guarantee: client::Guarantee) -> UnixStream {
            let mut cat = client::Cat::new("g");
            cat.guarantee = guarantee;
            self.connect(&Request::Cat(cat).to_line()).await
        }

        /// Sends a request and the end of the input, and reads the whole answer.
        async fn ask(&self, request: &[u8]) -> String {
            let mut stream = self.connect(request).await;
            stream.shutdown().await.unwrap();
            rest(stream).await
        }

        /// Orders the next message and everything before it, and returns the message.
        async fn deliver_next(&mut self) -> (Group, Guarantee, Bytes) {
            loop {
                if let Some(message) = self.order_next().await {
                    return message;
                }
            }
        }

        /// Orders a client's next action. If that is a message, returns it.
        async fn order_next(&mut self) -> Option<(Group, Guarantee, Bytes)> {
            let (ring, from) = ("1.4".parse().unwrap(), NodeId::new(1).unwrap());
            let Outgoing { client, pid, group, what } = self.outgoing.recv().await.unwrap();
            let process = BTreeSet::from([Process { node: from, pid }]);
            match what {
                What::Join => {
                    self.front.clients.handle(&Event::GroupChange(GroupChange {
                        ring,
                        group,
                        members: process.clone(),
                        joined: process,
                        left: BTreeSet::new(),
                        reason: GroupReason::Join,
                    }));
                    None
                }
                What::Leave(_) => None,
                What::Message { guarantee, payload } => {
                    let said = (group.clone(), guarantee, payload.clone());
                    let seq = Seq::new(1);
                    let delivery =
                        Delivery { ring, seq, from, pid, group, guarantee, transitional: false, payload };
                    self.front.clients.sending(client, pid);
                    self.front.clients.handle(&Event::Deliver(delivery));
                    Some(said)
                }
            }
        }
    }

    async fn rest(mut stream: UnixStream) -> String {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn error(answer: &str) -> String {
        client::Event::error_message(answer.lines().last().unwrap().as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn lines_go_to_the_ring_and_back_until_the_end() {
        let mut node = Node::start();
        let mut stream = node.cat(client::Guarantee::Safe).await;
        stream.write_all(b"one\n\nthree\n").await.unwrap();
        stream.shutdown().await.unwrap();
        for payload in ["one", "", "three"] {
            let (group, guarantee, said) = node.deliver_next().await;
            assert_eq!((group.to_string().as_str(), guarantee), ("g", Guarantee::Safe));
            assert_eq!(said, payload);
        }
        let answer = rest(stream).await;
        let lines: Vec<Value> = answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["regular", "group", "deliver", "deliver", "deliver", "end"]);
        let me = Value::from(std::process::id());
        assert_eq!((&lines[1]["members"][0]["pid"], &lines[2]["pid"]), (&me, &me));
        assert_eq!(lines[4]["payload"], "three");
        assert_eq!(lines[5]["sent"], 3);
    }

    #[tokio::test]
    async fn an_empty_input_still_gets_configuration_and_group() {
        let mut node = Node::start();
        let mut stream = node.cat(client::Guarantee::Agreed).await;
        stream.shutdown().await.unwrap();
        assert_eq!(node.order_next().await, None);
        let answer = rest(stream).await;
        assert!(answer.starts_with(r#"{"event":"regular""#), "{answer}");
        assert!(answer.ends_with("{\"event\":\"end\",\"sent\":0}\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_line_of_a_mebibyte_passes_and_a_longer_one_is_an_error() {
        let mut node = Node::start();
        let stream = node.cat(client::Guarantee::Agreed).await;
        let (mut read, mut write) = stream.into_split();
        let client = tokio::spawn(async move {
            let mut line = vec![b'x'; MAX_PAYLOAD];
            line.push(b'\n');
            write.write_all(&line).await.unwrap();
            line.insert(0, b'x');
            // The node hangs up in the middle of the line.
            let _ = write.write_all(&line).await;
        });
        assert_eq!(node.deliver_next().await.2.len(), MAX_PAYLOAD);
        let mut answer = Vec::new();
        // A socket that is closed with unread bytes may end with a reset once everything was read.
        let _ = read.read_to_end(&mut answer).await;
        client.await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(error(&answer), "line 2 is longer than 1048576 bytes; send it in parts");
        assert_eq!(answer.lines().count(), 4);
    }

    #[tokio::test]
    async fn a_status_request_gets_the_answer_of_the_node() {
        let mut node = Node::start();
        let mut stream = node.connect(&Request::Status.to_line()).await;
        stream.shutdown().await.unwrap();
        node.questions.recv().await.unwrap().reply.send(b"{\"answer\":42}\n".to_vec()).unwrap();
        assert_eq!(rest(stream).await, "{\"answer\":42}\n");
    }

    #[tokio::test]
    async fn a_watcher_is_served_until_it_hangs_up() {
        let node = Node::start();
        let mut stream = node.connect(&Request::Watch.to_line()).await;
        let mut first = [0; 18];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, br#"{"event":"regular""#);
        drop(stream);
        node.front.idle().await;
    }

    #[tokio::test]
    async fn a_malformed_request_is_answered_with_an_error() {
        let node = Node::start();
        assert!(error(&node.ask(b"hello\n").await).starts_with("invalid request"));
        let long = vec![b' '; MAX_REQUEST + 1];
        assert_eq!(error(&node.ask(&long).await), "the request is longer than 4096 bytes");
        let nameless = node.ask(b"{\"version\":1,\"request\":\"cat\",\"group\":\"\"}\n").await;
        assert!(error(&nameless).starts_with("invalid group name ``"), "{nameless}");
        let half = node.ask(b"{\"version\":1,\"request\":\"release\"}").await;
        assert_eq!(error(&half), "the request is incomplete; end it with a newline");
        assert_eq!(node.ask(b"").await, "");
    }

    #[tokio::test]
    async fn half_a_message_is_discarded() {
        let mut node = Node::start();
        let mut stream = node.cat(client::Guarantee::Agreed).await;
        stream.write_all(b"whole\nhal").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(node.deliver_next().await.2, "whole");
        let why = "line 2 is incomplete and was not sent; end it with a newline";
        assert_eq!(error(&rest(stream).await), why);
        assert!(matches!(node.outgoing.recv().await.unwrap().what, What::Leave(Parting::Left)));

        // Killed in the middle of a line.
        let mut killed = node.cat(client::Guarantee::Agreed).await;
        killed.write_all(b"hal").await.unwrap();
        killed.read_u8().await.unwrap();
        assert!(matches!(node.outgoing.recv().await.unwrap().what, What::Join));
        drop(killed);
        assert!(matches!(node.outgoing.recv().await.unwrap().what, What::Leave(Parting::Died)));
    }

    #[tokio::test]
    async fn a_client_too_many_gets_an_error_until_a_place_is_free() {
        let mut node = Node::with_places(2);
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut stream = node.cat(client::Guarantee::Agreed).await;
            stream.read_u8().await.unwrap();
            held.push(stream);
        }
        let refused = rest(node.cat(client::Guarantee::Agreed).await).await;
        assert!(error(&refused).starts_with("the node already serves 2 cat clients; "), "{refused}");

        let mut last = held.pop().unwrap();
        last.write_all(b"mine\n").await.unwrap();
        last.shutdown().await.unwrap();
        node.deliver_next().await;
        assert!(rest(last).await.contains("mine"));
        loop {
            let mut next = node.cat(client::Guarantee::Agreed).await;
            let mut first = [0; 18];
            next.read_exact(&mut first).await.unwrap();
            // The place is given back right after the connection was closed.
            if &first == br#"{"event":"regular""# {
                break;
            }
        }
    }

    #[tokio::test]
    async fn clients_of_one_kind_do_not_exclude_another() {
        let mut node = Node::with_places(2);
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(node.cat(client::Guarantee::Agreed).await);
            held.push(node.connect(&Request::Watch.to_line()).await);
        }
        for stream in &mut held {
            stream.read_u8().await.unwrap();
        }
        // These connections send nothing at all.
        let mut idle = Vec::new();
        for _ in 0..10 {
            idle.push(UnixStream::connect(&node.path).await.unwrap());
        }
        for request in [Request::Status, Request::Release] {
            let stream = node.connect(&request.to_line()).await;
            node.questions.recv().await.unwrap().reply.send(b"{}\n".to_vec()).unwrap();
            assert_eq!(rest(stream).await, "{}\n");
        }
        let first = rest(idle.remove(0)).await;
        assert_eq!(
            error(&first),
            "no request came, and another client needs the place; connect again to ask"
        );
        let watching = rest(node.connect(&Request::Watch.to_line()).await).await;
        assert!(error(&watching).starts_with("the node already serves 2 watch clients; "), "{watching}");
    }

    #[tokio::test]
    async fn questions_that_are_not_answered_do_not_pile_up() {
        let mut node = Node::with_places(2);
        let asking =
            [node.connect(&Request::Status.to_line()).await, node.connect(&Request::Status.to_line()).await];
        let replies =
            [node.questions.recv().await.unwrap().reply, node.questions.recv().await.unwrap().reply];
        let refused = UnixStream::connect(&node.path).await.unwrap();
        assert_eq!(error(&rest(refused).await), "the node is already answering 2 requests; try again");
        for (stream, reply) in asking.into_iter().zip(replies) {
            reply.send(b"{}\n".to_vec()).unwrap();
            assert_eq!(rest(stream).await, "{}\n");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_removed_socket_is_served_again() {
        let node = Node::start();
        let mut watching = node.connect(&Request::Watch.to_line()).await;
        watching.read_u8().await.unwrap();
        std::fs::remove_file(&node.path).unwrap();
        while UnixStream::connect(&node.path).await.is_err() {
            tokio::time::sleep(LOOK / 4).await;
        }
        assert!(error(&node.ask(b"hello\n").await).starts_with("invalid request"));
        node.front.clients.handle(&Event::Stalled(LOOK));
        let mut seen = String::new();
        let mut lines = BufReader::new(&mut watching);
        while !seen.contains("stalled") {
            assert!(lines.read_line(&mut seen).await.unwrap() > 0, "who was there before is still served");
        }
    }

    #[tokio::test]
    async fn a_full_ring_slows_the_client_and_bounds_the_memory() {
        let node = Node::start();
        let mut stream = node.cat(client::Guarantee::Agreed).await;
        let line = [&[b'x'; 64 << 10][..], b"\n"].concat();
        let mut written = 0usize;
        // Nothing takes the messages, so writing stops when the queue and the socket's buffers are
        // full.
        while tokio::time::timeout(Duration::from_millis(200), stream.write_all(&line)).await.is_ok() {
            written += line.len();
            assert!(written < 32 << 20, "the node took {written} bytes that nobody wanted");
        }
    }

    #[tokio::test]
    async fn the_reason_of_a_stopping_node_reaches_its_clients() {
        let node = Node::start();
        let mut stream = node.cat(client::Guarantee::Agreed).await;
        stream.read_u8().await.unwrap();
        node.front.clients.handle(&Event::Left(Cause::LeaveRequested));
        node.front.idle().await;
        assert!(error(&rest(stream).await).starts_with("the node has left the ring"));
    }
}
