//! One connection: its handshake, and then requests, responses and events until the client goes.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
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
const BATCH: usize = 64;
/// The bytes of events for which a client's own requests wait: what it sends comes back to it.
const BEHIND: usize = 4 << 20;
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
pub(crate) async fn serve(mut stream: UnixStream, service: Service, front: Arc<Front>) -> Ended {
    match greet(&mut stream, service, &front).await {
        Ok(connection) => {
            let id = connection.id;
            let ended = connection.serve(&stream, &front).await;
            front.close(id);
            ended
        }
        Err(ended) => ended,
    }
}

/// Lets a client in, or turns it away.
async fn greet(stream: &mut UnixStream, service: Service, front: &Arc<Front>) -> Result<Connection, Ended> {
    let mut request = [0; handshake::REQUEST];
    timeout(PATIENCE, stream.read_exact(&mut request)).await.map_err(|_| Ended::Silent)??;
    let max_message = handshake::read(&request).ok_or(Ended::NotOurs)?.clamp(MAX_MESSAGE.0, MAX_MESSAGE.1);
    let peer = stream.peer_cred()?;
    let owner = Owner { uid: peer.uid(), gid: peer.gid() };
    let client = peer.pid().unwrap_or_default().cast_unsigned();
    let made = match front.admit(owner) {
        Ok(()) => Files::new(front.root(), service.name(), client).and_then(|files| {
            let rings = files.rings(max_message as usize, owner)?;
            files.hand_over(owner)?;
            Ok((files, rings))
        }),
        Err(errno) => {
            stream.write_all(&handshake::refuse(errno)).await?;
            return Err(Ended::TurnedAway(errno));
        }
    };
    let (files, [requests, responses, events]) = match made {
        Ok(made) => made,
        Err(error) => {
            stream.write_all(&handshake::refuse(Errno::NOMEM)).await?;
            return Err(error.into());
        }
    };
    let [request, response, event] = files.paths();
    let answer = handshake::accept(max_message, [&request, &response, &event]);
    let (id, outbox) = front.open(service);
    let connection = Connection {
        id,
        requests,
        out: Output { responses, events, outbox, waiting: VecDeque::new(), owed: 0 },
        _files: files,
    };
    if let Err(error) = stream.write_all(&answer).await {
        front.close(id);
        return Err(error.into());
    }
    Ok(connection)
}

struct Connection {
    id: ConnectionId,
    requests: Ring,
    out: Output,
    _files: Files,
}

impl Connection {
    async fn serve(mut self, stream: &UnixStream, front: &Arc<Front>) -> Ended {
        loop {
            let behind = self.out.outbox.unsent() > BEHIND;
            let served = tokio::select! {
                biased;
                () = self.out.outbox.news() => Ok(()),
                ready = stream.readable(), if !behind => match ready {
                    Ok(()) => self.take_requests(stream, front).await,
                    Err(error) => Err(error.into()),
                },
                () = sleep(AGAIN), if self.out.is_waiting() => still_there(stream),
            };
            if let Err(ended) = served.and_then(|()| self.out.flush(stream)) {
                return ended;
            }
        }
    }

    /// Serves the requests that the client has announced, one byte each.
    async fn take_requests(&mut self, stream: &UnixStream, front: &Arc<Front>) -> Result<(), Ended> {
        let mut announced = [0; BATCH];
        let count = match stream.try_read(&mut announced) {
            Ok(0) => return Err(Ended::Gone),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for _ in 0..count {
            // A byte without a request means that the client counts in its own way, which harms
            // only itself.
            if let Some(request) = self.requests.read()? {
                self.serve_one(request.into(), stream, front).await?;
            }
        }
        Ok(())
    }

    async fn serve_one(
        &mut self,
        request: Bytes,
        stream: &UnixStream,
        front: &Arc<Front>,
    ) -> Result<(), Ended> {
        let order = match front.request(self.id, request) {
            Step::Reply(reply) => return self.out.respond(&reply),
            Step::Silent => return Ok(()),
            Step::Do(order) => order,
        };
        // The ring may have no room for a message. Meanwhile, events go on.
        let mut carrying = pin!(front.carry_out(self.id, order));
        let reply = loop {
            tokio::select! {
                biased;
                reply = &mut carrying => break reply,
                () = self.out.outbox.news() => self.out.flush(stream)?,
                () = sleep(AGAIN), if self.out.is_waiting() => {
                    still_there(stream)?;
                    self.out.flush(stream)?;
                }
            }
        };
        reply.map_or(Ok(()), |reply| self.out.respond(&reply))
    }
}

/// Checks that the client has not closed its end, which can be seen before what it sent is read.
fn still_there(stream: &UnixStream) -> Result<(), Ended> {
    let mut polled = [PollFd::new(stream, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut polled, Some(&now)) {
        Ok(1..) => Err(Ended::Gone),
        _ => Ok(()),
    }
}

/// The way to the client.
struct Output {
    responses: Ring,
    events: Ring,
    outbox: Arc<Outbox>,
    /// Messages taken from the outbox that the rings had no room for.
    waiting: VecDeque<Outgoing>,
    /// The events in the ring that the client has not been told about. They are counted apart from
    /// the events, since the socket may be full while the ring is not.
    owed: usize,
}

impl Output {
    fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || self.owed > 0
    }

    fn respond(&mut self, response: &[u8]) -> Result<(), Ended> {
        self.responses.write(response)?.then_some(()).ok_or(Ended::ResponsesUnread)
    }

    /// Moves events to the client's memory while there is room, and tells the client.
    fn flush(&mut self, stream: &UnixStream) -> Result<(), Ended> {
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
        self.tell(stream)
    }

    /// Sends the client one byte for each event that is new in its memory.
    fn tell(&mut self, stream: &UnixStream) -> Result<(), Ended> {
        const BYTES: [u8; 256] = [1; 256];
        while self.owed > 0 {
            match stream.try_write(&BYTES[..self.owed.min(BYTES.len())]) {
                Ok(told) => self.owed -= told,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
