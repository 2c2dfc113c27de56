//! The places of a node's clients, and which connections give way when none is free.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::Failure;

/// The number of clients of each kind that a node serves at once. The kinds are `cat`, `watch`, and
/// connections with a one-line request or none yet.
const MAX_CLIENTS: usize = 64;

/// Places for clients. Each kind has its own, so that none can exclude another. Idle connections
/// use the places of requests, and are closed when those are needed.
#[derive(Debug)]
pub(crate) struct Places {
    pub(super) each: usize,
    pub(super) cat: Arc<Semaphore>,
    pub(super) watch: Arc<Semaphore>,
    pub(super) door: Arc<Door>,
}

impl Places {
    /// Returns the places that fit into `descriptors` file descriptors.
    pub(crate) fn within(descriptors: u64) -> Result<Self, Failure> {
        let each = usize::try_from(descriptors / 3).unwrap_or(usize::MAX).min(MAX_CLIENTS);
        if each == 0 {
            return Err(Failure::new(
                "cannot serve clients: the limit on open files is too low; raise it (ulimit -n, LimitNOFILE) \
                 to 64 or more",
            ));
        }
        let semaphore = || Arc::new(Semaphore::new(each));
        Ok(Self { each, cat: semaphore(), watch: semaphore(), door: Arc::new(Door::new(each)) })
    }

    /// Takes a place of this kind. The error is the reason why none is free.
    pub(super) fn take(&self, places: &Arc<Semaphore>, kind: &str) -> Result<OwnedSemaphorePermit, String> {
        let each = self.each;
        places.clone().try_acquire_owned().map_err(|_| {
            format!(
                "the node already serves {each} {kind} clients; end one of them, or raise the node's limit \
                 on open files if that is below 1024"
            )
        })
    }
}

/// The connections that have not sent a request yet, or wait for a one-line answer.
#[derive(Debug)]
pub(super) struct Door {
    room: usize,
    state: Mutex<AtDoor>,
    /// Notified when a connection has gone.
    gone: Notify,
}

#[derive(Debug, Default)]
struct AtDoor {
    /// The number of all connections.
    guests: usize,
    next: u64,
    /// The connections without a request, in the order of arrival. Dropping a sender dismisses its
    /// connection.
    silent: BTreeMap<u64, oneshot::Sender<Infallible>>,
    /// The number of connections that wait for an answer.
    asking: usize,
}

impl Door {
    fn new(room: usize) -> Self {
        Self { room, state: Mutex::default(), gone: Notify::new() }
    }

    /// Admits a connection. If there is no room, the longest silent connection is dismissed first.
    /// Returns `None` if all connections wait for an answer.
    pub(super) async fn enter(self: &Arc<Self>) -> Option<Guest> {
        loop {
            {
                let mut state = self.lock();
                if state.guests < self.room {
                    return Some(self.admit(&mut state));
                }
                let leaving = state.guests - state.silent.len() - state.asking;
                if leaving == 0 {
                    state.silent.pop_first()?;
                }
            }
            self.gone.notified().await;
        }
    }

    fn admit(self: &Arc<Self>, state: &mut AtDoor) -> Guest {
        let (sender, dismissed) = oneshot::channel();
        let number = state.next;
        state.next += 1;
        state.guests += 1;
        state.silent.insert(number, sender);
        Guest { door: Arc::clone(self), number, dismissed, asks: false }
    }

    fn lock(&self) -> MutexGuard<'_, AtDoor> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection at the [`Door`].
pub(super) struct Guest {
    door: Arc<Door>,
    number: u64,
    dismissed: oneshot::Receiver<Infallible>,
    asks: bool,
}

impl Guest {
    /// Waits until the connection is dismissed.
    pub(super) async fn dismissed(&mut self) {
        // Nothing can be sent on this channel.
        let _ = (&mut self.dismissed).await;
    }

    /// Marks the connection as waiting for an answer. Returns `true` if it may stay.
    pub(super) fn asks(&mut self) -> bool {
        let mut state = self.door.lock();
        self.asks = state.silent.remove(&self.number).is_some();
        state.asking += usize::from(self.asks);
        self.asks
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut state = self.door.lock();
        state.guests -= 1;
        state.silent.remove(&self.number);
        state.asking -= usize::from(self.asks);
        self.door.gone.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_fit_into_the_available_descriptors() {
        assert!(Places::within(2).unwrap_err().to_string().contains("the limit on open files is too low"));
        assert_eq!(Places::within(3).unwrap().each, 1);
        assert_eq!(Places::within(u64::MAX).unwrap().each, MAX_CLIENTS);
    }
}
