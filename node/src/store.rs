//! Storage for the record: a file or, in simulators, memory that survives restarts.
//!
//! The record is the text file `quorate_NODE` in the state directory, with mode 0600:
//!
//! ```text
//! quorate state 1
//! ring_seq 1024
//! boots 3
//! lost yes                      (only if an earlier record was lost)
//! ...                           (data of the layer above the ring; the first line then says
//!                                `quorate state 2`)
//! crc32 0d1c2b3a
//! ```
//!
//! The file is replaced as a whole (temporary file, fsync, rename, fsync of the directory), so a
//! crash leaves either the old or the new record. `quorate_NODE.lock` is locked while a process
//! uses the record. Only regular files are opened, and at most [`MAX_RECORD`] bytes are read, so a
//! pipe or a device in their place cannot make the node hang. The start fails at once instead.
//!
//! All writes happen on one thread, which starts with the store. In a runtime's pool, a write could
//! wait forever for a thread if the host has reached its limit.
//!
//! If the record is missing or damaged, or has a ring number that no ring can have reached, ring
//! numbers continue from the wall clock, in milliseconds since 1970. They rise by 4 with each ring,
//! and the clock by 1000 per second. The clock is therefore ahead of every ring that the lost
//! record could have named, unless it was set back by more than the cluster's age.
//!
//! The node also reports the loss (`Stored::lost`), unless this is its first start. A start after
//! the whole state directory was deleted looks like the first. A record restored from a backup
//! looks intact but is outdated, so remove the record instead of restoring it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quorate_membership::{NodeId, Stored, Totem};
use rustix::fs::{FlockOperation, OFlags};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Maximum number of bytes read from a record. Records are far shorter.
const MAX_RECORD: u64 = 64 << 10;

/// The store of a node's record. Only one process at a time can open it.
#[derive(Clone, Debug)]
pub struct Store(Medium);

#[derive(Clone, Debug)]
enum Medium {
    File(Arc<Record>),
    Memory(Memory),
}

impl Store {
    /// Opens the record of `node` in `state_dir` and reads it. Creates the directory if it does not
    /// exist. Without a usable record, `ring_seq` starts from the wall clock and `boots` from 0.
    ///
    /// Blocks on disk I/O.
    ///
    /// # Errors
    /// If the directory cannot be used, something other than a regular file is in the record's
    /// place, another process of this node runs, the record was written by a later version, or the
    /// host has no thread left for the writes. The message names the path and says what to do.
    pub fn open(state_dir: impl AsRef<Path>, node: NodeId) -> io::Result<(Self, Stored)> {
        let directory = state_dir.as_ref().to_owned();
        let name = format!("quorate_{node}");
        fs::create_dir_all(&directory).map_err(|error| {
            explain(
                &error,
                &directory,
                "created",
                "create it for this user, or choose another state directory",
            )
        })?;
        let lock_path = directory.join(format!("{name}.lock"));
        let lived_before = lock_path.exists();
        let lock = lock(&lock_path, node)?;
        let (writes, pending) = channel();
        let record = Record { path: directory.join(name), directory, lived_before, lock, writes };
        let stored = record.read()?;
        on_a_thread(move || write_all(&pending))?;
        Ok((Self(Medium::File(Arc::new(record))), stored))
    }

    /// Opens the record as [`Store::open`] does, but on a separate thread, so the caller does not
    /// block.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_beside(state_dir: impl AsRef<Path>, node: NodeId) -> io::Result<(Self, Stored)> {
        let directory = state_dir.as_ref().to_owned();
        let (reply, opened) = oneshot::channel();
        on_a_thread(move || {
            // The caller may have given up.
            let _ = reply.send(Self::open(directory, node));
        })?;
        opened.await.map_err(io::Error::other)?
    }

    /// Returns a store in `memory`, for simulators, and the record in it. If there is none, returns
    /// the default record, which counts as lost if a record was stored before.
    pub fn in_memory(memory: &Memory) -> (Self, Stored) {
        let disk = memory.disk();
        let stored = disk.stored.clone().unwrap_or(Stored { lost: disk.written, ..Stored::default() });
        drop(disk);
        (Self(Medium::Memory(memory.clone())), stored)
    }

    /// Makes the record durable. A file is written on the store's thread, without blocking the
    /// caller's thread.
    ///
    /// # Errors
    /// If the record may not be durable. The message names the path.
    pub async fn save(&self, stored: &Stored) -> io::Result<()> {
        match &self.0 {
            Medium::Memory(memory) => memory.save(stored.clone()).await,
            Medium::File(record) => {
                let (done, written) = oneshot::channel();
                let write = Write { record: Arc::clone(record), stored: stored.clone(), done };
                record
                    .writes
                    .send(write)
                    .map_err(|_| io::Error::other("the thread that writes the record has ended"))?;
                written.await.map_err(io::Error::other)?
            }
        }
    }
}

/// A simulated disk. Clones share it, so a node that restarts finds its record again.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    disk: Arc<Mutex<Disk>>,
    /// Notified when the latency changes.
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Disk {
    stored: Option<Stored>,
    /// Whether a record has ever been stored.
    written: bool,
    latency: Duration,
    failing: bool,
}

impl Memory {
    /// Returns the stored record.
    pub fn get(&self) -> Option<Stored> {
        self.disk().stored.clone()
    }

    /// Replaces the stored record with an older one, or removes it, as if the disk was lost.
    pub fn set(&self, stored: Option<Stored>) {
        self.disk().stored = stored;
    }

    /// Sets the time that a write takes, including a write under way. Initially zero.
    pub fn set_latency(&self, latency: Duration) {
        self.disk().latency = latency;
        self.changed.notify_one();
    }

    /// Sets whether writes fail from now on.
    pub fn set_failing(&self, failing: bool) {
        self.disk().failing = failing;
    }

    async fn save(&self, stored: Stored) -> io::Result<()> {
        let started = Instant::now();
        let left = || self.disk().latency.saturating_sub(started.elapsed());
        while !left().is_zero() {
            // Ends early if the latency changes.
            let _ = tokio::time::timeout(left(), self.changed.notified()).await;
        }
        let mut disk = self.disk();
        if disk.failing {
            return Err(io::Error::other("the simulated disk fails"));
        }
        disk.stored = Some(stored);
        disk.written = true;
        Ok(())
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The record's file.
#[derive(Debug)]
struct Record {
    directory: PathBuf,
    path: PathBuf,
    /// Whether a process of this node has used this directory before.
    lived_before: bool,
    /// Held only because dropping it releases the lock.
    #[expect(dead_code)]
    lock: File,
    /// The channel to the writing thread.
    writes: Sender<Write>,
}

/// A pending write. It keeps the lock until it is done.
#[derive(Debug)]
struct Write {
    record: Arc<Record>,
    stored: Stored,
    done: oneshot::Sender<io::Result<()>>,
}

/// Performs the pending writes until the store is dropped.
fn write_all(pending: &Receiver<Write>) {
    while let Ok(Write { record, stored, done }) = pending.recv() {
        let written = record.write(&stored);
        drop(record);
        // The node may have ended.
        let _ = done.send(written);
    }
}

fn on_a_thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    match thread::Builder::new().name("quorate-record".into()).spawn(work) {
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!(
                "cannot start a thread to read and write the record: {error}; raise the limit on threads"
            ),
        )),
    }
}

impl Record {
    fn read(&self) -> io::Result<Stored> {
        let mut bytes = Vec::new();
        let read = open_regular(&self.path, OpenOptions::new().read(true))
            .and_then(|file| file.take(MAX_RECORD + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.lived_before {
                    tracing::warn!(path = %self.path.display(), "{LOST}");
                }
                return Ok(from_wall_clock(self.lived_before));
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error),
            Err(error) => {
                return Err(explain(&error, &self.path, "read", "run as the user that owns it"));
            }
        }
        match parse(&bytes) {
            Ok(stored) => Ok(stored),
            Err(Unusable::Later) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{}: written by a later version of quorate; run that version, or remove the file",
                    self.path.display()
                ),
            )),
            Err(Unusable::Absurd(number)) => {
                let stored = from_wall_clock(true);
                tracing::warn!(
                    path = %self.path.display(),
                    ring_seq = stored.ring_seq,
                    "impossible ring number {number}: {LOST}"
                );
                Ok(stored)
            }
            Err(Unusable::Damaged) => {
                let stored = from_wall_clock(true);
                tracing::warn!(path = %self.path.display(), ring_seq = stored.ring_seq, "damaged: {LOST}");
                Ok(stored)
            }
        }
    }

    fn write(&self, stored: &Stored) -> io::Result<()> {
        let draft = self.path.with_extension("new");
        let replace = || {
            // A leftover draft is removed, because opening it could block forever if it is a pipe.
            match fs::remove_file(&draft) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(print(stored).as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &self.path)?;
            File::open(&self.directory)?.sync_all()
        };
        replace().map_err(|error| {
            explain(&error, &self.path, "written", "free some space, or correct the directory's owner")
        })
    }
}

/// Takes the lock that a process of this node holds while it runs.
fn lock(path: &Path, node: NodeId) -> io::Result<File> {
    // Opening a pipe in both directions does not wait for the other end.
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = open_regular(path, &mut options).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => error,
        _ => explain(&error, path, "opened", "run as the user that owns the directory"),
    })?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!(
                "{}: another process runs node {node} with this state directory; stop it, or give this node \
                 another id or state directory",
                path.display()
            ),
        )),
        Err(error) => Err(explain(&error.into(), path, "locked", "choose a state directory on a local disk")),
    }
}

/// Opens a regular file. Fails for anything else, without blocking the caller.
///
/// # Errors
/// Of kind `InvalidInput`, with the path and a remedy, if it is not a regular file.
fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let not_regular = || {
        let text =
            format!("{} is not a regular file; remove it, or choose another state directory", path.display());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    };
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = match options.custom_flags(flags).open(path) {
        Err(_) if fs::metadata(path).is_ok_and(|found| !found.is_file()) => return Err(not_regular()),
        opened => opened?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

const LOST: &str = "the stored record is lost; ring numbers continue from the wall clock, so that none is \
                    used twice; this node does not count for quorum until all votes are present, or a \
                    majority of votes from nodes that kept their records";

fn from_wall_clock(lost: bool) -> Stored {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stored {
        ring_seq: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
        boots: 0,
        lost,
        ..Stored::default()
    }
}

const HEADING: &str = "quorate state ";
/// The latest supported version. A record without data of the layer above has version 1.
const VERSION: u32 = 2;

fn print(stored: &Stored) -> String {
    let Stored { ring_seq, boots, lost, kept } = stored;
    let version = if kept.is_empty() { 1 } else { VERSION };
    let lost = if *lost { "lost yes\n" } else { "" };
    let body = format!("{HEADING}{version}\nring_seq {ring_seq}\nboots {boots}\n{lost}{kept}");
    let crc = crc32(body.as_bytes());
    format!("{body}crc32 {crc:08x}\n")
}

#[derive(PartialEq, Eq, Debug)]
enum Unusable {
    Later,
    /// The ring number is so high that the node could join no ring.
    Absurd(u64),
    Damaged,
}

fn parse(bytes: &[u8]) -> Result<Stored, Unusable> {
    let read = || {
        let text = str::from_utf8(bytes).ok()?;
        let (body, crc) = text.rsplit_once("crc32 ")?;
        if u32::from_str_radix(crc.strip_suffix('\n')?, 16).ok()? != crc32(body.as_bytes()) {
            return None;
        }
        let (version, body) = body.strip_prefix(HEADING)?.split_once('\n')?;
        let version: u32 = version.parse().ok()?;
        if version > VERSION {
            return Some(Err(Unusable::Later));
        }
        let (ring_seq, body) = body.strip_prefix("ring_seq ")?.split_once('\n')?;
        let (boots, body) = body.strip_prefix("boots ")?.split_once('\n')?;
        let rest = body.strip_prefix("lost yes\n");
        let stored = Stored {
            ring_seq: ring_seq.parse().ok()?,
            boots: boots.parse().ok()?,
            lost: rest.is_some(),
            kept: rest.unwrap_or(body).to_owned(),
        };
        Some(if stored.ring_seq > Totem::MAX_RING_SEQ {
            Err(Unusable::Absurd(stored.ring_seq))
        } else {
            Ok(stored)
        })
    };
    read().unwrap_or(Err(Unusable::Damaged))
}

/// The checksum of zip and Ethernet (polynomial 0x04c11db7, reflected).
fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc)))
}

/// Returns the error with the path, the operation that failed, and a remedy.
fn explain(error: &io::Error, path: &Path, what: &str, advice: &str) -> io::Error {
    // The callers' advice, on owners, modes and space, does not help here.
    let (what, advice) = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => ("written", "mount its file system for writing"),
        _ => (what, advice),
    };
    io::Error::new(error.kind(), format!("{} cannot be {what} ({error}); {advice}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    #[tokio::test]
    async fn a_saved_record_survives_a_restart_with_owner_only_mode() {
        let state = tempfile::tempdir().unwrap();
        let stored = Stored { ring_seq: 1024, boots: 7, lost: false, ..Stored::default() };
        let (store, _) = Store::open(state.path(), node(3)).unwrap();
        store.save(&stored).await.unwrap();
        drop(store);

        assert_eq!(Store::open(state.path(), node(3)).unwrap().1, stored);
        let mode = fs::metadata(state.path().join("quorate_3")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!state.path().join("quorate_3.new").exists());
    }

    #[test]
    fn anything_but_a_regular_file_is_refused_at_once() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let pipe = |path: &Path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let directory = |path: &Path| fs::create_dir(path).unwrap();
        let socket = |path: &Path| drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        let device = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
        for name in ["quorate_1", "quorate_1.lock"] {
            for make in [&pipe as &dyn Fn(&Path), &directory, &socket, &device] {
                let state = tempfile::tempdir().unwrap();
                let path = state.path().join(name);
                make(&path);
                let error = Store::open(state.path(), node(1)).unwrap_err().to_string();
                let path = path.display();
                assert_eq!(
                    error,
                    format!("{path} is not a regular file; remove it, or choose another state directory")
                );
            }
        }
    }

    #[tokio::test]
    async fn a_pipe_in_the_place_of_the_draft_is_replaced() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let state = tempfile::tempdir().unwrap();
        let draft = state.path().join("quorate_1.new");
        mknodat(CWD, &draft, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let (store, stored) = Store::open_beside(state.path(), node(1)).await.unwrap();
        store.save(&Stored { boots: 4, ..stored }).await.unwrap();
        drop(store);
        assert_eq!(Store::open(state.path(), node(1)).unwrap().1.boots, 4);
    }

    #[test]
    fn a_record_with_an_absurd_ring_number_counts_as_lost() {
        for ring_seq in [Totem::MAX_RING_SEQ + 1, 1 << 62, 1 << 63, u64::MAX] {
            let state = tempfile::tempdir().unwrap();
            let record = Stored { ring_seq, boots: 3, lost: false, ..Stored::default() };
            assert_eq!(parse(print(&record).as_bytes()), Err(Unusable::Absurd(ring_seq)));
            fs::write(state.path().join("quorate_1"), print(&record)).unwrap();
            let (_store, stored) = Store::open(state.path(), node(1)).unwrap();
            assert!(stored.lost && stored.ring_seq < Totem::MAX_RING_SEQ, "{stored:?}");
        }
    }

    #[test]
    fn a_huge_record_counts_as_damaged_and_is_not_read_whole() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("quorate_1");
        // A sparse file of a terabyte, which would take long to read whole.
        fs::write(&path, print(&Stored { ring_seq: 5, boots: 1, lost: false, ..Stored::default() })).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        let (_store, stored) = Store::open(state.path(), node(1)).unwrap();
        assert!(stored.lost && stored.ring_seq > 5, "{stored:?}");
    }

    #[test]
    fn without_a_record_ring_numbers_start_at_the_wall_clock() {
        let state = tempfile::tempdir().unwrap();
        let (_store, stored) = Store::open(state.path().join("made/when/needed"), node(1)).unwrap();
        let year_2025 = 1_735_689_600_000;
        assert!(stored.ring_seq > year_2025, "{stored:?}");
    }

    #[test]
    fn a_torn_record_counts_as_lost() {
        let state = tempfile::tempdir().unwrap();
        let whole = print(&Stored { ring_seq: 5, boots: 1, lost: false, ..Stored::default() });
        for length in 0..whole.len() {
            fs::write(state.path().join("quorate_1"), &whole[..length]).unwrap();
            let (_store, stored) = Store::open(state.path(), node(1)).unwrap();
            assert!(stored.ring_seq > 5, "cut after {length} bytes");
        }
    }

    #[test]
    fn only_a_record_that_existed_before_counts_as_lost() {
        let state = tempfile::tempdir().unwrap();
        let open = || Store::open(state.path(), node(1)).unwrap().1;
        assert!(!open().lost, "the first start");
        assert!(open().lost, "a second start without a record");
        let kept = Stored { ring_seq: 5, boots: 1, lost: false, ..Stored::default() };
        fs::write(state.path().join("quorate_1"), print(&kept)).unwrap();
        assert_eq!(open(), kept);
        let known = Stored { lost: true, ..kept.clone() };
        fs::write(state.path().join("quorate_1"), print(&known)).unwrap();
        assert_eq!(open(), known, "the loss stays on record");
        fs::remove_file(state.path().join("quorate_1")).unwrap();
        assert!(open().lost);
    }

    #[test]
    fn a_record_of_a_later_version_is_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("quorate_1");
        let body = "quorate state 3\nsomething else\n";
        let text = format!("{body}crc32 {:08x}\n", crc32(body.as_bytes()));
        fs::write(&path, &text).unwrap();
        let error = Store::open(state.path(), node(1)).unwrap_err().to_string();
        assert!(error.contains("quorate_1: written by a later version"), "{error}");
        assert_eq!(fs::read_to_string(path).unwrap(), text);
    }

    #[test]
    fn a_record_of_the_first_version_is_read() {
        let body = "quorate state 1\nring_seq 5\nboots 1\nlost yes\n";
        let text = format!("{body}crc32 {:08x}\n", crc32(body.as_bytes()));
        let stored = Stored { ring_seq: 5, boots: 1, lost: true, ..Stored::default() };
        assert_eq!(parse(text.as_bytes()).ok(), Some(stored.clone()));
        assert_eq!(print(&stored), text, "also written while `kept` is empty");
    }

    #[test]
    fn two_processes_of_one_node_cannot_share_its_record() {
        let state = tempfile::tempdir().unwrap();
        let first = Store::open(state.path(), node(1)).unwrap();
        let error = Store::open(state.path(), node(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert!(error.to_string().contains("another process runs node 1"), "{error}");
        Store::open(state.path(), node(2)).unwrap();
        drop(first);
        Store::open(state.path(), node(1)).unwrap();
    }

    #[test]
    fn a_state_path_that_is_a_file_is_named_in_the_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Store::open(file.path(), node(1)).unwrap_err().to_string();
        assert!(error.contains(file.path().to_str().unwrap()) && error.contains("choose another"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_disk_outlives_the_node_and_can_fail() {
        let memory = Memory::default();
        let stored = Stored { ring_seq: 9, boots: 2, lost: false, ..Stored::default() };
        let (store, fresh) = Store::in_memory(&memory);
        assert_eq!(fresh, Stored::default());
        memory.set_latency(Duration::from_secs(5));
        store.save(&stored).await.unwrap();
        memory.set_failing(true);
        store.save(&Stored::default()).await.unwrap_err();
        memory.set_failing(false);
        memory.set_latency(Duration::MAX);
        let began = Instant::now();
        let recovers = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            memory.set_latency(Duration::from_secs(1));
        };
        tokio::join!(store.save(&stored), recovers).0.unwrap();
        assert!(began.elapsed() < Duration::from_secs(4), "the write under way ends");
        assert_eq!(Store::in_memory(&memory).1, stored);
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    proptest! {
        #[test]
        fn printed_records_parse(
            ring_seq in ..=Totem::MAX_RING_SEQ, boots: u64, lost: bool, kept in "([a-z][a-z0-9 ]{0,20}\n){0,3}",
        ) {
            let stored = Stored { ring_seq, boots, lost, kept };
            prop_assert_eq!(parse(print(&stored).as_bytes()).ok(), Some(stored));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic_the_record_parser(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
