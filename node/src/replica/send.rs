//! Sending a replica's messages. Each kind has a task of its own, so that events are still taken
//! while the ring has no room, and so that the parts of a snapshot do not delay other messages.

use std::sync::Arc;

use bytes::Bytes;
use quorate_membership::{Group, Guarantee};
use tokio::sync::{Semaphore, mpsc, watch};

use super::fold::PART;
use super::message::{Message, Transfer};
use crate::Node;

/// The parts of a snapshot that are under way at the same time, at most.
const WINDOW: usize = 4;

/// The ends of the sending tasks. They end when this is dropped.
pub(super) struct Sender {
    said: mpsc::UnboundedSender<Bytes>,
    job: watch::Sender<Option<Job>>,
    window: Arc<Semaphore>,
}

/// A snapshot to send.
#[derive(Clone)]
struct Job {
    transfer: Transfer,
    snapshot: Bytes,
    first: u32,
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A task that waits for a part to be delivered ends.
        self.window.close();
    }
}

impl Sender {
    pub(super) fn spawn(node: &Node, group: &Group) -> Self {
        let (said, words) = mpsc::unbounded_channel();
        let (job, jobs) = watch::channel(None);
        let window = Arc::new(Semaphore::new(WINDOW));
        tokio::spawn(speak(node.clone(), group.clone(), words));
        tokio::spawn(send_parts(node.clone(), group.clone(), jobs, Arc::clone(&window)));
        Self { said, job, window }
    }

    /// Multicasts a message.
    pub(super) fn say(&self, message: Bytes) {
        // An error means that this node has left.
        let _ = self.said.send(message);
    }

    /// Multicasts the parts of a snapshot, from this index on, instead of those of another one.
    pub(super) fn send(&self, transfer: Transfer, snapshot: Bytes, first: u32) {
        self.job.send_replace(Some(Job { transfer, snapshot, first }));
    }

    /// Stops sending a snapshot.
    pub(super) fn stop(&self) {
        self.job.send_replace(None);
    }

    /// A part has been delivered.
    pub(super) fn sent(&self) {
        self.window.add_permits(1);
    }
}

/// Sends control messages. They are safe: a member that acts on one before the ring breaks knows
/// that all other members get it, too.
async fn speak(node: Node, group: Group, mut words: mpsc::UnboundedReceiver<Bytes>) {
    while let Some(message) = words.recv().await {
        if node.multicast_beside_reader(&group, Guarantee::Safe, message).await.is_err() {
            return;
        }
    }
}

/// Sends the parts of snapshots. A part is an agreed message: if the ring breaks, the members that
/// move along know how many they have.
async fn send_parts(
    node: Node,
    group: Group,
    mut jobs: watch::Receiver<Option<Job>>,
    window: Arc<Semaphore>,
) {
    'jobs: loop {
        let Ok(job) = jobs.wait_for(Option::is_some).await.map(|job| job.clone()) else { return };
        let Some(Job { transfer, snapshot, first }) = job else { continue };
        let count = u32::try_from(snapshot.len().div_ceil(PART).max(1)).unwrap_or(u32::MAX);
        for index in first..count {
            let Ok(permit) = window.acquire().await else { return };
            if !matches!(jobs.has_changed(), Ok(false)) {
                continue 'jobs;
            }
            // The permit comes back when the part is delivered.
            permit.forget();
            let at = index as usize * PART;
            let part = snapshot.slice(at..snapshot.len().min(at + PART));
            let message = Message::Part { transfer, index, is_last: index + 1 == count }.encode(&part);
            if node.multicast_beside_reader(&group, Guarantee::Agreed, message).await.is_err() {
                return;
            }
        }
        if jobs.changed().await.is_err() {
            return;
        }
    }
}
