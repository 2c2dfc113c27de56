//! libqb's ring buffer in shared memory, which one process writes and another reads.
//!
//! A ring is two files. The header has the indices of the writer and of the reader, in words of
//! four bytes, and a POSIX semaphore that counts the unread chunks. The data file has the chunks: a
//! word with the payload's length, a word that marks the chunk's state, and the payload, padded to
//! a whole word. A chunk may begin at the end of the file and continue at its start.
//!
//! The other side can write anything to the memory. This side keeps its own index, and checks what
//! it reads before it uses it. A client can still truncate its own files, which ends this process
//! with SIGBUS, as it ends corosync. Only permitted users are clients.

use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rustix::thread::futex;
use vm_memory::mmap::{MmapRegion, MmapRegionError};
use vm_memory::{Bytes as _, FileOffset, VolatileMemory, VolatileMemoryError};

/// The size of the header file.
pub(super) const HEADER_SIZE: usize = 8252;

const WRITE_INDEX: usize = 0;
const READ_INDEX: usize = 4;
const WORDS: usize = 8;
const HEADER_PATH: usize = 12;
const DATA_PATH: usize = 4108;
const REFERENCES: usize = 8204;
const SEMAPHORE: usize = 8208;
const WAITERS: usize = 8212;
/// The field of glibc's semaphore that says that it is shared between processes. The futex of a
/// private one would never wake another process.
const SHARED: usize = 8216;

/// The word by which the reader of a ring slows down its writer.
const FLOW: usize = 8240;

/// The states of a chunk.
const BEING_WRITTEN: u32 = 0xA110_CED0;
const COMMITTED: u32 = 0xA1A1_A1A1;
const CONSUMED: u32 = 0xD0D0_D0D0;

/// The room that a writer needs in addition to the payload, in bytes.
const MARGIN: usize = 12;

/// The memory does not hold what it has to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("cannot map a file: {0}")]
    Map(#[from] MmapRegionError),
    #[error("a place outside of the mapping: {0}")]
    Place(#[from] VolatileMemoryError),
    #[error("a place outside of the mapping: {0}")]
    Access(#[from] vm_memory::GuestMemoryError),
    #[error("a chunk is marked {0:#x} instead of as committed")]
    Mark(u32),
    #[error("a chunk of {0} bytes does not fit into the ring")]
    Length(usize),
    #[error("the other side's index {0} is beyond the ring's end")]
    Index(u32),
}

/// Returns the size of a data file for messages of up to this size. The client computes the same.
pub(super) fn data_size(max_message: usize) -> usize {
    (max_message + 13).next_multiple_of(4096)
}

/// One side of a ring, mapped into this process.
pub(super) struct Ring {
    header: MmapRegion,
    data: MmapRegion,
    words: u32,
    /// The longest payload.
    longest: usize,
    /// This side's index: of the next chunk to write, or to read.
    index: u32,
}

impl Ring {
    /// Maps two new files and writes the header. `paths` are those of the header and the data file,
    /// which the client opens by them.
    pub(super) fn new(header: File, data: File, paths: [&str; 2], max_message: usize) -> Result<Self, Fault> {
        let size = data_size(max_message);
        let header = MmapRegion::from_file(FileOffset::new(header, 0), HEADER_SIZE)?;
        let data = MmapRegion::from_file(FileOffset::new(data, 0), size)?;
        let words = u32::try_from(size / 4).unwrap_or(u32::MAX);
        let ring = Self { header, data, words, longest: size - MARGIN, index: 0 };
        let header = ring.header.as_volatile_slice();
        for (path, at) in paths.into_iter().zip([HEADER_PATH, DATA_PATH]) {
            header.write_slice(path.as_bytes(), at)?;
        }
        ring.atomic(WORDS)?.store(words, Ordering::Relaxed);
        ring.atomic(SHARED)?.store(128, Ordering::Relaxed);
        ring.atomic(REFERENCES)?.store(1, Ordering::Release);
        Ok(ring)
    }

    fn atomic(&self, at: usize) -> Result<&AtomicU32, VolatileMemoryError> {
        self.header.get_atomic_ref(at)
    }

    /// The word at an index, which may be beyond the end by less than the ring's size.
    fn word(&self, index: u32) -> Result<&AtomicU32, VolatileMemoryError> {
        self.data.get_atomic_ref(4 * (index % self.words) as usize)
    }

    /// Returns the index after a chunk.
    fn after(&self, index: u32, length: usize) -> u32 {
        let words = u32::try_from(length.div_ceil(4)).unwrap_or(u32::MAX);
        (index + 2 + words) % self.words
    }

    /// Tells the client how to send: 0 stands for freely. With 2, its library refuses multicasts
    /// and lets other requests through.
    pub(super) fn set_flow(&self, word: u32) -> Result<(), Fault> {
        self.atomic(FLOW)?.store(word, Ordering::Release);
        Ok(())
    }

    /// Writes a chunk. Returns `false` if the ring has no room for it now.
    pub(super) fn write(&mut self, payload: &[u8]) -> Result<bool, Fault> {
        if payload.len() > self.longest {
            return Err(Fault::Length(payload.len()));
        }
        let read = self.atomic(READ_INDEX)?.load(Ordering::Acquire);
        if read >= self.words {
            return Err(Fault::Index(read));
        }
        let unread = self.atomic(SEMAPHORE)?.load(Ordering::Acquire) > 0;
        let free = match self.index {
            at if at == read => {
                if unread {
                    0
                } else {
                    self.words
                }
            }
            at => (read + self.words - at) % self.words - 1,
        };
        if 4 * (free as usize) < payload.len() + MARGIN {
            return Ok(false);
        }
        let at = self.index;
        self.word(at)?.store(0, Ordering::Relaxed);
        self.word(at + 1)?.store(BEING_WRITTEN, Ordering::Relaxed);
        let data = self.data.as_volatile_slice();
        let start = 4 * ((at + 2) % self.words) as usize;
        let (first, rest) = payload.split_at(payload.len().min(data.len() - start));
        data.write_slice(first, start)?;
        data.write_slice(rest, 0)?;
        self.word(at)?.store(u32::try_from(payload.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.index = self.after(at, payload.len());
        self.atomic(WRITE_INDEX)?.store(self.index, Ordering::Relaxed);
        self.word(at + 1)?.store(COMMITTED, Ordering::Release);
        self.post()?;
        Ok(true)
    }

    /// Counts a chunk as unread, and wakes the other side if it waits.
    fn post(&self) -> Result<(), Fault> {
        let semaphore = self.atomic(SEMAPHORE)?;
        semaphore.fetch_add(1, Ordering::Release);
        // A waiter counts itself and then looks at the count. It sees the chunk, or it is seen
        // here.
        fence(Ordering::SeqCst);
        if self.atomic(WAITERS)?.load(Ordering::Relaxed) > 0 {
            // A failure means that the client has unmapped the file, so it does not wait.
            let _ = futex::wake(semaphore, futex::Flags::empty(), 1);
        }
        Ok(())
    }

    /// Reads a chunk, or returns `None` if there is none.
    pub(super) fn read(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let semaphore = self.atomic(SEMAPHORE)?;
        let take = |count: u32| count.checked_sub(1);
        if semaphore.fetch_update(Ordering::Acquire, Ordering::Relaxed, take).is_err() {
            return Ok(None);
        }
        let at = self.index;
        let mark = self.word(at + 1)?.load(Ordering::Acquire);
        if mark != COMMITTED {
            return Err(Fault::Mark(mark));
        }
        let length = self.word(at)?.load(Ordering::Relaxed) as usize;
        if length > self.longest {
            return Err(Fault::Length(length));
        }
        let mut payload = vec![0; length];
        let data = self.data.as_volatile_slice();
        let start = 4 * ((at + 2) % self.words) as usize;
        let (first, rest) = payload.split_at_mut(length.min(data.len() - start));
        data.read_slice(first, start)?;
        data.read_slice(rest, 0)?;
        self.word(at)?.store(0, Ordering::Relaxed);
        self.word(at + 1)?.store(CONSUMED, Ordering::Relaxed);
        self.index = self.after(at, length);
        self.atomic(READ_INDEX)?.store(self.index, Ordering::Release);
        Ok(Some(payload))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// Both ends of a ring for messages of up to 4000 bytes.
    fn ring() -> (Ring, Ring, File) {
        let [header, data] = [HEADER_SIZE, data_size(4000)].map(|size| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(size as u64).unwrap();
            file
        });
        let map = || {
            let [header, data] = [&header, &data].map(|file| file.try_clone().unwrap());
            Ring::new(header, data, ["/header", "/data"], 4000).unwrap()
        };
        (map(), map(), header.try_clone().unwrap())
    }

    proptest! {
        #[test]
        fn chunks_are_read_as_they_were_written(steps in prop::collection::vec(prop::option::of(0usize..4000), 1..400)) {
            let (mut writer, mut reader, _) = ring();
            let mut unread = VecDeque::new();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Some(length) => {
                        let payload: Vec<u8> = (0..length).map(|at| (at * 31 + n) as u8).collect();
                        if writer.write(&payload).unwrap() {
                            unread.push_back(payload);
                        } else {
                            prop_assert!(!unread.is_empty(), "an empty ring has room");
                        }
                    }
                    None => prop_assert_eq!(reader.read().unwrap(), unread.pop_front()),
                }
            }
        }

        #[test]
        fn damaged_memory_is_an_error_and_no_panic(damage in prop::collection::vec((0usize..2063, any::<u32>()), 1..20)) {
            let (mut writer, mut reader, _) = ring();
            writer.write(&[1; 100]).unwrap();
            for (word, value) in damage {
                writer.header.get_atomic_ref::<AtomicU32>(4 * word).unwrap().store(value, Ordering::Relaxed);
                writer.word(word as u32).unwrap().store(value, Ordering::Relaxed);
                let _ = reader.read();
                let _ = writer.write(&[2; 50]);
            }
        }
    }

    #[test]
    fn a_full_ring_takes_more_once_a_chunk_is_read() {
        let (mut writer, mut reader, _) = ring();
        let written = (0..100).take_while(|_| writer.write(&[7; 1000]).unwrap()).count();
        assert_eq!(written, 4, "of 4096 bytes");
        reader.read().unwrap().unwrap();
        assert!(writer.write(&[7; 1000]).unwrap());
    }

    #[test]
    fn the_header_has_what_the_client_reads() {
        use std::os::unix::fs::FileExt;
        let (_, _, header) = ring();
        let mut bytes = [0; HEADER_SIZE];
        header.read_exact_at(&mut bytes, 0).unwrap();
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!([0, 4, 8, REFERENCES, SEMAPHORE, SHARED].map(word), [0, 0, 1024, 1, 0, 128]);
        assert!(bytes[HEADER_PATH..].starts_with(b"/header\0"));
        assert!(bytes[DATA_PATH..].starts_with(b"/data\0"));
    }
}
