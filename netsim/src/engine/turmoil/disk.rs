//! The disk of a host, and what is wrong with it.

use std::time::Duration;

use quorate::{Memory, Store};
use quorate_membership::Stored;

/// A disk that may be slow or full for a while.
pub(super) struct Disk {
    memory: Memory,
    /// The time that a write usually takes.
    latency: Duration,
    /// The time that a write takes, and the time until which it does.
    slow: Option<(Duration, Duration)>,
    full_until: Duration,
}

impl Disk {
    pub(super) fn new(record: Stored, latency: Duration) -> Self {
        let memory = Memory::default();
        memory.set(Some(record));
        memory.set_latency(latency);
        Self { memory, latency, slow: None, full_until: Duration::ZERO }
    }

    pub(super) fn memory(&self) -> Memory {
        self.memory.clone()
    }

    pub(super) fn slow_down(&mut self, now: Duration, each: Duration, lasts: Duration) {
        self.slow = Some((each, now + lasts));
        self.pass(now);
    }

    pub(super) fn fill(&mut self, now: Duration, lasts: Duration) {
        self.full_until = now + lasts;
        self.pass(now);
    }

    pub(super) fn lose(&self) {
        self.memory.set(None);
    }

    /// Ends what is wrong with it.
    pub(super) fn mend(&mut self, now: Duration) {
        self.slow = None;
        self.full_until = now;
        self.pass(now);
    }

    /// Ends what has lasted long enough.
    pub(super) fn pass(&mut self, now: Duration) {
        let each = self.slow.filter(|(_, until)| now < *until).map_or(self.latency, |(each, _)| each);
        self.memory.set_latency(if now < self.full_until { Duration::MAX } else { each });
    }
}

/// Opens the store on a disk, as a real store is opened: a node without a record derives its
/// numbers from the wall clock.
pub(super) fn open(memory: &Memory, now: Duration) -> (Store, Stored) {
    const EPOCH_MS: u64 = 1_700_000_000_000;
    let (store, stored) = Store::in_memory(memory);
    let ring_seq = EPOCH_MS + now.as_millis() as u64;
    let lost = Stored { ring_seq, lost: true, ..Stored::default() };
    (store, if memory.get().is_some() { stored } else { lost })
}
