//! Three rings in shared memory. Each side announces what it has written by a byte on the stream.

use std::io;

use tokio::net::UnixStream;

use super::broken::Broken;
use crate::qb::ring::{Fault, Ring};

/// The most requests that a client may announce before they are served. Its memory has no room for
/// as many.
const MAX_ANNOUNCED: usize = 1 << 20;

pub(in crate::qb) struct Memory {
    requests: Ring,
    responses: Ring,
    events: Ring,
    /// The requests that the client has announced and that have not been served. Its bytes are read
    /// at once, even if its requests have to wait: a client whose socket is full spins.
    announced: usize,
    /// The events in the ring that the client has not been told about. They are counted apart from
    /// the events, since the socket may be full while the ring is not.
    owed: usize,
}

impl Memory {
    pub(in crate::qb) fn new([requests, responses, events]: [Ring; 3]) -> Self {
        Self { requests, responses, events, announced: 0, owed: 0 }
    }

    pub(super) fn announced(&mut self, count: usize) -> Result<(), Broken> {
        self.announced += count;
        if self.announced > MAX_ANNOUNCED { Err(Broken::Flood) } else { Ok(()) }
    }

    pub(super) fn request(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        while self.announced > 0 {
            self.announced -= 1;
            // A byte without a request means that the client counts in its own way, which harms
            // only itself.
            if let Some(request) = self.requests.read()? {
                return Ok(Some(request));
            }
        }
        Ok(None)
    }

    pub(super) fn respond(&mut self, response: &[u8]) -> Result<bool, Fault> {
        self.responses.write(response)
    }

    pub(super) fn event(&mut self, event: &[u8]) -> Result<bool, Fault> {
        let written = self.events.write(event)?;
        self.owed += usize::from(written);
        Ok(written)
    }

    /// Sends the client one byte for each event that is new in its memory.
    pub(super) fn tell(&mut self, stream: &UnixStream) -> io::Result<()> {
        const BYTES: [u8; 256] = [1; 256];
        while self.owed > 0 {
            match stream.try_write(&BYTES[..self.owed.min(BYTES.len())]) {
                Ok(told) => self.owed -= told,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn owes(&self) -> bool {
        self.owed > 0
    }

    pub(super) fn set_flow(&self, word: u32) -> Result<(), Fault> {
        self.requests.set_flow(word)
    }
}
