//! One connection: its handshake, and then requests, responses and events until the client goes.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::coop::consume_budget;
use tokio::time::{sleep, timeout};

use super::files::{Files, MakeError, Owner};
use super::handshake;
use super::ring::{Fault, Ring};
use crate::front::Front;
use crate::outbox::{Outbox, Outgoing, Overflow};
use crate::services::{ConnectionId, Service, Step};

/// The time that a client has for its part of the handshake.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time until a full event ring is tried again. A client does not tell when it has read events.
const AGAIN: Duration = Duration::from_millis(1);
/// The most requests that are served before events are sent.
const BATCH: usize = 256;
/// The bytes of events for which a client's own requests wait: what it sends comes back to it.
const BEHIND: usize = 4 << 20;
/// The most requests that a client may announce before they are served. Its memory has no room for
/// as many.
const MAX_ANNOUNCED: usize = 1 << 20;
/// The least and the most that a client may ask for as the longest message.
const MAX_MESSAGE: (u32, u32) = (4096, 2 << 20);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The client has gone.
    #[error("the client has gone")]
    Gone,
    /// The client may not use the services, or has to try again later.
    #[error("turned away: {0}")]
    TurnedAway(Errno),
    #[error("no handshake within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("not a handshake of libqb")]
    NotOurs,
    #[error(transparent)]
    Files(#[from] MakeError),
    #[error(transparent)]
    Memory(#[from] Fault),
    #[error(transparent)]
    Overflow(#[from] Overflow),
    #[error("the client does not read its responses")]
    ResponsesUnread,
    #[error("the client announces more requests than its memory has room for")]
    Flood,
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        // A client that ends with unread bytes resets its connection.
        match error.kind() {
            BrokenPipe | ConnectionReset | UnexpectedEof => Self::Gone,
            _ => Self::Io(error),
        }
    }
}

/// Serves a client until it goes.
pub(crate) async fn serve(stream: UnixStream, service: Service, front: Arc<Front>) -> Ended {
    match greet(stream, service, &front).await {
        Ok(connection) => {
            let id = connection.id;
            let ended = connection.serve(&front).await;
            front.close(id);
            ended
        }
        Err(ended) => ended,
    }
}

/// Lets a client in, or turns it away.
async fn greet(mut stream: UnixStream, service: Service, front: &Front) -> Result<Connection, Ended> {
    let mut request = [0; handshake::REQUEST];
    timeout(PATIENCE, stream.read_exact(&mut request)).await.map_err(|_| Ended::Silent)??;
    let max_message = handshake::read(&request).ok_or(Ended::NotOurs)?.clamp(MAX_MESSAGE.0, MAX_MESSAGE.1);
    let peer = stream.peer_cred()?;
    let owner = Owner { uid: peer.uid(), gid: peer.gid() };
    if let Err(errno) = front.admit(owner) {
        stream.write_all(&handshake::refuse(errno)).await?;
        return Err(Ended::TurnedAway(errno));
    }
    let client = peer.pid().unwrap_or_default().cast_unsigned();
    let made = Files::new(front.root(), service.name(), client).and_then(|files| {
        let rings = files.rings(max_message as usize, owner)?;
        files.hand_over(owner)?;
        Ok((files, rings))
    });
    let (files, [requests, responses, events]) = match made {
        Ok(made) => made,
        Err(error) => {
            stream.write_all(&handshake::refuse(Errno::NOMEM)).await?;
            return Err(error.into());
        }
    };
    let [request, response, event] = files.paths();
    stream.write_all(&handshake::accept(max_message, [&request, &response, &event])).await?;
    let (id, outbox) = front.open(service);
    let link = Link { stream, announced: 0, responses, events, outbox, waiting: VecDeque::new(), owed: 0 };
    Ok(Connection { id, requests, link, _files: files })
}

struct Connection {
    id: ConnectionId,
    requests: Ring,
    link: Link,
    _files: Files,
}

impl Connection {
    async fn serve(mut self, front: &Arc<Front>) -> Ended {
        loop {
            if let Err(ended) = self.turn(front).await {
                return ended;
            }
        }
    }

    /// Serves requests, if there are any and the client is not behind, or waits.
    async fn turn(&mut self, front: &Arc<Front>) -> Result<(), Ended> {
        if self.link.announced == 0 || self.link.is_behind() {
            return self.link.wait().await;
        }
        for _ in 0..self.link.announced.min(BATCH) {
            self.link.announced -= 1;
            // A byte without a request means that the client counts in its own way, which harms
            // only itself.
            if let Some(request) = self.requests.read()? {
                self.serve_one(request.into(), front).await?;
            }
        }
        self.link.exchange()?;
        // A client with many requests lets the others have their turn.
        consume_budget().await;
        Ok(())
    }

    async fn serve_one(&mut self, request: Bytes, front: &Arc<Front>) -> Result<(), Ended> {
        let order = match front.request(self.id, request) {
            Step::Reply(reply) => return self.link.respond(&reply),
            Step::Silent => return Ok(()),
            Step::Do(order) => order,
        };
        // The ring may have no room for a message. Meanwhile, events go on.
        let mut carrying = pin!(front.carry_out(self.id, order));
        let reply = loop {
            tokio::select! {
                biased;
                reply = &mut carrying => break reply,
                exchanged = self.link.wait() => exchanged?,
            }
        };
        reply.map_or(Ok(()), |reply| self.link.respond(&reply))
    }
}

/// The socket, and the way to the client.
struct Link {
    stream: UnixStream,
    /// The requests that the client has announced and that have not been served. Its bytes are read
    /// at once, even if its requests have to wait: a client whose socket is full spins.
    announced: usize,
    responses: Ring,
    events: Ring,
    outbox: Arc<Outbox>,
    /// Messages taken from the outbox that the rings had no room for.
    waiting: VecDeque<Outgoing>,
    /// The events in the ring that the client has not been told about. They are counted apart from
    /// the events, since the socket may be full while the ring is not.
    owed: usize,
}

impl Link {
    /// Returns `true` if the client has left so much unread that its own requests have to wait.
    fn is_behind(&self) -> bool {
        self.outbox.unsent() > BEHIND
    }

    /// Waits until there is something to send or to read, and does so. Cancel safe.
    async fn wait(&mut self) -> Result<(), Ended> {
        let is_waiting = !self.waiting.is_empty() || self.owed > 0;
        tokio::select! {
            biased;
            () = self.outbox.news() => {}
            ready = self.stream.readable() => ready?,
            () = sleep(AGAIN), if is_waiting => {}
        }
        self.exchange()
    }

    /// Reads and sends what can be read and sent without waiting.
    fn exchange(&mut self) -> Result<(), Ended> {
        self.read()?;
        self.flush()
    }

    /// Reads the bytes that announce requests.
    fn read(&mut self) -> Result<(), Ended> {
        let mut bytes = [0; BATCH];
        loop {
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return Err(Ended::Gone),
                Ok(count) => self.announced += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            // The rest is read in the next turn. More than the ring can hold is never announced.
            if self.announced > MAX_ANNOUNCED {
                return Err(Ended::Flood);
            }
        }
    }

    fn respond(&mut self, response: &[u8]) -> Result<(), Ended> {
        self.responses.write(response)?.then_some(()).ok_or(Ended::ResponsesUnread)
    }

    /// Moves events to the client's memory while there is room, and tells the client.
    fn flush(&mut self) -> Result<(), Ended> {
        self.outbox.take(&mut self.waiting)?;
        while let Some(next) = self.waiting.pop_front() {
            match &next {
                Outgoing::Response(response) => self.respond(response)?,
                Outgoing::Event(event) if self.events.write(event)? => self.owed += 1,
                Outgoing::Event(_) => {
                    self.waiting.push_front(next);
                    break;
                }
            }
            self.outbox.sent(&next);
        }
        self.tell()
    }

    /// Sends the client one byte for each event that is new in its memory.
    fn tell(&mut self) -> Result<(), Ended> {
        const BYTES: [u8; 256] = [1; 256];
        while self.owed > 0 {
            match self.stream.try_write(&BYTES[..self.owed.min(BYTES.len())]) {
                Ok(told) => self.owed -= told,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
