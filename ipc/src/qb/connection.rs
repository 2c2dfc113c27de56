//! One connection: its handshake, and then requests, responses and events until the client
//! disconnects.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::coop::consume_budget;
use tokio::time::{sleep, timeout};

use super::channels::{Broken, Channels, Memory, Multicasts};
use super::files::{Files, MakeError, Owner};
use super::handshake::{self, Transport};
use crate::front::{Front, Place};
use crate::outbox::{Outbox, Outgoing, Overflow};
use crate::services::{ConnectionId, Peer, Service, Step};

/// The time that a client has for its part of the handshake.
const PATIENCE: Duration = Duration::from_secs(5);
/// The shortest and the longest time until full shared memory is tried again. A client does not
/// report that it has read events.
const AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));
/// The maximum number of requests served before events are sent.
const BATCH: usize = 256;
/// The bounds of the maximum message size. A size that a client requests is clamped to them.
const MAX_MESSAGE: (u32, u32) = (1 << 20, 2 << 20);

/// The reason why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The client has gone, or broke its side of the connection.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The client may not use the services, or has to try again later.
    #[error("turned away: {0}")]
    TurnedAway(Errno),
    /// Too many clients are connected.
    #[error("too many clients are connected")]
    Crowded,
    #[error("no handshake within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("not a handshake of libqb")]
    NotOurs,
    #[error(transparent)]
    Files(#[from] MakeError),
    #[error(transparent)]
    Overflow(#[from] Overflow),
    #[error("the node has ended the connection")]
    Closing,
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

/// Serves a client until it disconnects, or until `closing`.
pub(crate) async fn serve(
    stream: UnixStream,
    service: Service,
    front: Arc<Front>,
    closing: watch::Receiver<bool>,
) -> Ended {
    match greet(stream, service, front, closing).await {
        Ok(connection) => connection.serve().await,
        Err(ended) => ended,
    }
}

/// Performs the handshake, which admits the client or turns it away.
async fn greet(
    mut stream: UnixStream,
    service: Service,
    front: Arc<Front>,
    closing: watch::Receiver<bool>,
) -> Result<Connection, Ended> {
    let peer = stream.peer_cred()?;
    let owner = Owner { uid: peer.uid(), gid: peer.gid() };
    let pid = peer.pid().unwrap_or_default().cast_unsigned();
    // The process may end at any time, and another one may get its id.
    let name = name_of(pid);
    let place = front.place(owner).ok_or(Ended::Crowded)?;
    let mut request = [0; handshake::REQUEST];
    timeout(PATIENCE, stream.read_exact(&mut request)).await.map_err(|_| Ended::Silent)??;
    let max_message = handshake::read(&request).ok_or(Ended::NotOurs)?.clamp(MAX_MESSAGE.0, MAX_MESSAGE.1);
    if let Err(errno) = front.admit(owner, &place) {
        stream.write_all(&handshake::refuse(errno)).await?;
        return Err(Ended::TurnedAway(errno));
    }
    let transport = front.transport();
    let made = Files::new(Front::ROOT, service.name(), pid).and_then(|files| {
        let longest = max_message as usize;
        let channels = match transport {
            Transport::Memory => Channels::Memory(Memory::new(files.rings(longest, owner)?).into()),
            Transport::Sockets => Channels::Datagrams(files.datagrams(longest, owner)?.into()),
        };
        files.hand_over(owner)?;
        Ok((files, channels))
    });
    let (files, channels) = match made {
        Ok(made) => made,
        Err(error) => {
            stream.write_all(&handshake::refuse(Errno::NOMEM)).await?;
            return Err(error.into());
        }
    };
    let paths = match transport {
        Transport::Memory => files.rings_at(),
        Transport::Sockets => {
            let [control, base] = files.sockets_at();
            [control, base, String::new()]
        }
    };
    let paths = paths.each_ref().map(String::as_str);
    stream.write_all(&handshake::accept(transport, max_message, paths)).await?;
    let (id, outbox) = front.open(service, Peer { pid, name });
    let link =
        Link { stream, closing, channels, outbox, waiting: VecDeque::new(), again: AGAIN.0, refused: false };
    Ok(Connection { link, opened: Opened { id, front }, _files: files, _place: place })
}

/// Returns the name of a process, or an empty string if it has ended.
fn name_of(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

struct Connection {
    link: Link,
    opened: Opened,
    _files: Files,
    _place: Place,
}

/// A connection that the services know. Dropping it ends it there, too.
struct Opened {
    id: ConnectionId,
    front: Arc<Front>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.front.close(self.id);
    }
}

impl Connection {
    async fn serve(mut self) -> Ended {
        loop {
            if let Err(ended) = self.turn().await {
                return ended;
            }
        }
    }

    /// Serves pending requests, or waits if there are none.
    async fn turn(&mut self) -> Result<(), Ended> {
        let mut served = 0;
        while served < BATCH
            && let Some(request) = self.link.channels.request()?
        {
            served += 1;
            self.serve_one(request.into()).await?;
        }
        if served == 0 {
            return self.link.wait(true).await;
        }
        self.link.exchange(false)?;
        // A client with many requests must not starve the others.
        consume_budget().await;
        Ok(())
    }

    async fn serve_one(&mut self, request: Bytes) -> Result<(), Ended> {
        let Opened { id, front } = &self.opened;
        let order = match front.request(*id, request) {
            Step::Reply(reply) => return Ok(self.link.channels.respond(&reply)?),
            Step::Silent => return Ok(()),
            Step::Do(order) => order,
            Step::ReplyAndDo(reply, order) => {
                self.link.channels.respond(&reply)?;
                order
            }
        };
        // The client still gets its events while a message waits for room in the ring.
        let mut carrying = pin!(front.carry_out(*id, order));
        let reply = loop {
            tokio::select! {
                biased;
                reply = &mut carrying => break reply,
                exchanged = self.link.wait(false) => exchanged?,
            }
        };
        if let Some(reply) = reply {
            self.link.channels.respond(&reply)?;
        }
        Ok(())
    }
}

/// Waits until the sockets are to be closed.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the handle is gone.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// The channels to a client, with the messages that wait for them.
struct Link {
    stream: UnixStream,
    closing: watch::Receiver<bool>,
    channels: Channels,
    outbox: Arc<Outbox>,
    /// Messages taken from the outbox that the client had no room for.
    waiting: VecDeque<Outgoing>,
    /// The time until a client without room is tried again.
    again: Duration,
    /// Whether the client's library refuses its multicasts.
    refused: bool,
}

impl Link {
    /// Waits until there is something to send or to read, and then sends and reads it. Without
    /// `wants_requests`, no request can be served now, and none is waited for. Cancel safe.
    async fn wait(&mut self, wants_requests: bool) -> Result<(), Ended> {
        let is_waiting = !self.waiting.is_empty();
        let is_stuck = is_waiting || self.channels.owes();
        tokio::select! {
            biased;
            () = self.outbox.news() => {}
            ready = self.channels.readable(&self.stream, wants_requests) => ready?,
            () = closed(&mut self.closing) => {
                self.flush()?;
                return Err(Ended::Closing);
            }
            room = self.channels.room(), if is_waiting => room?,
            () = sleep(self.again), if is_stuck => self.again = (2 * self.again).min(AGAIN.1),
        }
        self.exchange(!wants_requests)
    }

    /// Reads and sends as much as possible without waiting. While an order is carried out
    /// (`is_carrying`), the client may be blocked in a call that waits for it. It then cannot read
    /// events, and does not count as stuck.
    fn exchange(&mut self, is_carrying: bool) -> Result<(), Ended> {
        self.channels.read(&self.stream)?;
        let has_read = self.flush()?;
        self.slow_down(has_read || is_carrying)
    }

    /// Refuses the client's multicasts while it is behind with its events.
    fn slow_down(&mut self, has_read: bool) -> Result<(), Ended> {
        let refused = self.outbox.look(has_read);
        if std::mem::replace(&mut self.refused, refused) != refused {
            self.channels.set_multicasts(if refused { Multicasts::Refused } else { Multicasts::Free })?;
        }
        Ok(())
    }

    /// Sends events while the client has room for them. Returns `true` if any were sent.
    fn flush(&mut self) -> Result<bool, Ended> {
        self.outbox.take(&mut self.waiting)?;
        let mut sent = 0;
        for next in &self.waiting {
            match next {
                Outgoing::Response(response) => self.channels.respond(response)?,
                Outgoing::Event(event) if self.channels.event(event)? => {}
                Outgoing::Event(_) => break,
            }
            sent += 1;
        }
        let has_moved = sent > 0;
        self.outbox.sent(self.waiting.drain(..sent));
        if has_moved || self.waiting.is_empty() {
            self.again = AGAIN.0;
        }
        self.channels.tell(&self.stream)?;
        Ok(has_moved)
    }
}
