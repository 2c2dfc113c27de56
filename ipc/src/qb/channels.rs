//! The ways of requests, responses and events between this process and a client: libqb's shared
//! memory, or its datagram sockets.

mod broken;
mod datagrams;
mod memory;

use std::io;

use tokio::net::UnixStream;

pub(crate) use self::broken::Broken;
pub(super) use self::datagrams::{CONTROL_SIZE, Datagrams};
pub(super) use self::memory::Memory;

/// An order to a client's library about its multicasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Multicasts {
    Free,
    Refused,
}

impl Multicasts {
    /// Returns libqb's word for it. Only requests that ask for it are refused, so others pass.
    fn word(self) -> u32 {
        match self {
            Self::Free => 0,
            Self::Refused => 2,
        }
    }
}

/// The channels of a connection, in addition to its stream socket. The client has gone when the
/// stream ends.
pub(super) enum Channels {
    Memory(Box<Memory>),
    Datagrams(Box<Datagrams>),
}

impl Channels {
    /// Waits until the client may have sent something, or may have gone. Requests are waited for
    /// only if they can be served now. Cancel safe.
    pub(super) async fn readable(&self, stream: &UnixStream, wants_requests: bool) -> io::Result<()> {
        match self {
            Self::Datagrams(datagrams) if wants_requests => {
                tokio::select! {
                    biased;
                    ready = stream.readable() => ready,
                    ready = datagrams.readable() => ready,
                }
            }
            _ => stream.readable().await,
        }
    }

    /// Waits until there may be room for events that did not find any. Without shared memory, the
    /// system tells. Cancel safe.
    pub(super) async fn room(&self) -> io::Result<()> {
        match self {
            Self::Memory(_) => std::future::pending().await,
            Self::Datagrams(datagrams) => datagrams.room().await,
        }
    }

    /// Reads what is on the stream.
    pub(super) fn read(&mut self, stream: &UnixStream) -> Result<(), Broken> {
        let mut bytes = [0; 256];
        loop {
            match stream.try_read(&mut bytes) {
                Ok(0) => return Err(Broken::Gone),
                Ok(count) => {
                    if let Self::Memory(memory) = self {
                        memory.announced(count)?;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the next request, if there is one now.
    pub(super) fn request(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        match self {
            Self::Memory(memory) => Ok(memory.request()?),
            Self::Datagrams(datagrams) => datagrams.request(),
        }
    }

    /// Sends a response. A client waits for each of its responses, so there is room for it.
    pub(super) fn respond(&mut self, response: &[u8]) -> Result<(), Broken> {
        let sent = match self {
            Self::Memory(memory) => memory.respond(response)?,
            Self::Datagrams(datagrams) => datagrams.respond(response)?,
        };
        sent.then_some(()).ok_or(Broken::ResponsesUnread)
    }

    /// Sends an event. Returns `false` if there is no room for it now.
    pub(super) fn event(&mut self, event: &[u8]) -> Result<bool, Broken> {
        match self {
            Self::Memory(memory) => Ok(memory.event(event)?),
            Self::Datagrams(datagrams) => datagrams.event(event),
        }
    }

    /// Tells the client about events that it has not been told about.
    pub(super) fn tell(&mut self, stream: &UnixStream) -> io::Result<()> {
        match self {
            Self::Memory(memory) => memory.tell(stream),
            Self::Datagrams(_) => Ok(()),
        }
    }

    /// Returns `true` if the client has yet to be told about events.
    pub(super) fn owes(&self) -> bool {
        matches!(self, Self::Memory(memory) if memory.owes())
    }

    /// Tells the client's library whether to refuse multicasts.
    pub(super) fn set_multicasts(&self, multicasts: Multicasts) -> Result<(), Broken> {
        match self {
            Self::Memory(memory) => Ok(memory.set_flow(multicasts.word())?),
            Self::Datagrams(datagrams) => Ok(datagrams.set_flow(multicasts.word())?),
        }
    }
}
