//! A bounded buffer for a client's unread data. Lines go in, and chunks come out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The unread bytes at which a client is disconnected. From half of that on, the node does not read
/// the client's own lines. The front page of the crate `quorate_client` states both limits.
pub(crate) const LIMIT: usize = 64 << 20;

/// The limit of unread bytes of all clients of a node together. Past it, the client with the most
/// is disconnected.
pub(crate) const TOTAL: usize = 256 << 20;

/// The size at which a chunk is closed. One system call then writes many lines, and memory is freed
/// as the client reads.
const CHUNK: usize = 128 << 10;

/// The lines on their way to one client. Adding a line never waits, so no client blocks the ring.
#[derive(Default)]
pub(crate) struct Outbox {
    unread: Mutex<Unread>,
    /// The bytes in all outboxes of the node.
    total: Arc<AtomicUsize>,
    filled: Notify,
    drained: Notify,
}

#[derive(Default)]
struct Unread {
    /// Chunks of whole lines.
    chunks: VecDeque<Vec<u8>>,
    /// The bytes in `chunks` and in the chunk that is being written.
    length: usize,
    ended: bool,
}

impl Outbox {
    /// Creates an empty outbox that counts in `total`.
    pub(crate) fn counted_in(total: Arc<AtomicUsize>) -> Self {
        let mut outbox = Self::default();
        outbox.total = total;
        outbox
    }

    /// Returns the number of unread bytes.
    pub(crate) fn length(&self) -> usize {
        self.lock().length
    }

    /// Adds a line, including its newline. Returns `true` if there was room for it.
    #[must_use]
    pub(crate) fn push(&self, line: &[u8]) -> bool {
        let mut unread = self.lock();
        // Even the longest message must pass to a client that keeps up. If its characters are
        // escaped, its line is longer than the limit.
        if unread.length > LIMIT / 2 && unread.length + line.len() > LIMIT {
            return false;
        }
        self.append(&mut unread, line);
        true
    }

    /// Adds the last line.
    pub(crate) fn end(&self, line: &[u8]) {
        let mut unread = self.lock();
        self.append(&mut unread, line);
        unread.ended = true;
    }

    /// Discards the unwritten chunks, and makes `line` the next and last line. Returns the number
    /// of discarded bytes.
    pub(crate) fn cut(&self, line: &[u8]) -> usize {
        let mut unread = self.lock();
        let forgotten: usize = unread.chunks.iter().map(Vec::len).sum();
        if forgotten == 0 && unread.ended {
            return 0;
        }
        unread.length -= forgotten;
        self.total.fetch_sub(forgotten, Ordering::Relaxed);
        unread.chunks.clear();
        unread.ended = false;
        self.append(&mut unread, line);
        unread.ended = true;
        forgotten
    }

    fn append(&self, unread: &mut Unread, line: &[u8]) {
        if unread.ended {
            return;
        }
        unread.length += line.len();
        self.total.fetch_add(line.len(), Ordering::Relaxed);
        match unread.chunks.back_mut() {
            Some(chunk) if chunk.len() + line.len() <= CHUNK => chunk.extend_from_slice(line),
            _ => unread.chunks.push_back(line.to_vec()),
        }
        self.filled.notify_one();
    }

    /// Waits for the next chunk; `None` after the last. The chunk counts as unread until
    /// [`Outbox::written`].
    pub(crate) async fn next(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut unread = self.lock();
                if let Some(chunk) = unread.chunks.pop_front() {
                    return Some(chunk);
                }
                if unread.ended {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Records that the client has read `length` bytes.
    pub(crate) fn written(&self, length: usize) {
        self.lock().length -= length;
        self.total.fetch_sub(length, Ordering::Relaxed);
        self.drained.notify_one();
    }

    /// Waits until the client has read enough for more of its own lines to be accepted.
    pub(crate) async fn room(&self) {
        while self.lock().length > LIMIT / 2 {
            self.drained.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let length = self.length();
        self.total.fetch_sub(length, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn drain(outbox: &Outbox) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(chunk) = outbox.next().await {
            outbox.written(chunk.len());
            all.extend(chunk);
        }
        all
    }

    #[tokio::test]
    async fn lines_come_out_in_order_and_many_at_once() {
        let outbox = Outbox::default();
        for i in 0..1000 {
            assert!(outbox.push(format!("{i}\n").as_bytes()));
        }
        outbox.end(b"end\n");
        assert!(!outbox.next().await.unwrap().is_empty());
        assert_eq!(outbox.next().await, None, "a thousand short lines are one chunk");
    }

    #[tokio::test]
    async fn a_slow_reader_gets_an_error_and_no_partial_output() {
        let outbox = Outbox::default();
        let line = vec![b'x'; 1 << 20];
        let taken = (0..).take_while(|_| outbox.push(&line)).count();
        assert_eq!(taken, LIMIT >> 20);
        outbox.cut(b"too slow\n");
        assert!(outbox.push(b"late\n"), "nobody minds what comes after the end");
        assert_eq!(drain(&outbox).await, b"too slow\n");
    }

    #[tokio::test]
    async fn the_total_counts_unread_bytes_of_all_outboxes() {
        let total = Arc::new(AtomicUsize::new(0));
        let now = || total.load(Ordering::Relaxed);
        let (read, cut, gone) = [(); 3].map(|()| Outbox::counted_in(total.clone())).into();
        for outbox in [&read, &cut, &gone] {
            assert!(outbox.push(b"0123456789"));
        }
        assert_eq!(now(), 30);
        drain_what_is_there(&read).await;
        assert_eq!(now(), 20);
        assert_eq!(cut.cut(b"why"), 10);
        assert_eq!((now(), cut.length()), (13, 3));
        assert_eq!(cut.cut(b"again"), 3, "the last line is the one that counts");
        drop(gone);
        assert_eq!(now(), 5);
        assert_eq!(drain(&cut).await, b"again");
        assert_eq!(cut.cut(b"too late"), 0);
        assert_eq!(now(), 0);
    }

    async fn drain_what_is_there(outbox: &Outbox) {
        let chunk = outbox.next().await.unwrap();
        outbox.written(chunk.len());
    }

    #[tokio::test]
    async fn a_chunk_that_is_being_written_survives_the_cut() {
        let outbox = Outbox::default();
        assert!(outbox.push(b"first\n"));
        let chunk = outbox.next().await.unwrap();
        assert!(outbox.push(b"second\n"));
        outbox.cut(b"error\n");
        outbox.written(chunk.len());
        assert_eq!(drain(&outbox).await, b"error\n");
        assert_eq!(outbox.lock().length, 0);
    }

    #[tokio::test]
    async fn one_huge_line_passes_an_empty_outbox() {
        let outbox = Outbox::default();
        assert!(outbox.push(&vec![b'x'; LIMIT + 1]));
        assert!(!outbox.push(b"y\n"));
    }

    #[tokio::test]
    async fn there_is_room_again_once_half_was_read() {
        let outbox = Outbox::default();
        let line = vec![b'x'; LIMIT / 2 + 1];
        assert!(outbox.push(&line));
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(20), outbox.room());
        assert!(waiting.await.is_err());
        let chunk = outbox.next().await.unwrap();
        outbox.written(chunk.len());
        outbox.room().await;
    }
}
