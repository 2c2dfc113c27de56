//! The files of a connection in `/dev/shm`, and those that a process left behind when it was
//! killed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FallocateFlags, Gid, Mode, OFlags, Uid};
use rustix::process::Pid;

use super::channels::{CONTROL_SIZE, Datagrams};
use super::ring::{Fault, HEADER_SIZE, Ring, data_size};

/// The rings of a connection, as they are called in file names.
const RINGS: [&str; 3] = ["request", "response", "event"];
/// The file that a client reads instead, if messages go over sockets.
const CONTROL: &str = "control";
/// The two files of a ring.
const PARTS: [&str; 2] = ["header", "data"];

/// The user that a client runs as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The directory with the files of a connection. Dropping it removes them.
pub(super) struct Files {
    directory: OwnedFd,
    path: String,
    service: &'static str,
}

/// Why the files of a connection cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    #[error("cannot make a file in {root}: {error}")]
    File { root: String, error: io::Error },
    #[error(transparent)]
    Ring(#[from] Fault),
    #[error("cannot open a datagram socket: {0}")]
    Socket(io::Error),
}

impl Files {
    /// Makes a directory that only this process can use, until [`Files::hand_over`].
    pub(super) fn new(root: &str, service: &'static str, client: u32) -> Result<Self, MakeError> {
        let failed =
            |error: rustix::io::Errno| MakeError::File { root: root.to_owned(), error: error.into() };
        let number = rand::random::<u64>();
        let path = format!("{root}/qb-{}-{client}-{service}-{number:016x}", std::process::id());
        rustix::fs::mkdir(&path, Mode::RWXU).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&path, flags, Mode::empty()).inspect_err(|_| {
            let _ = rustix::fs::rmdir(&path);
        });
        Ok(Self { directory: directory.map_err(failed)?, path, service })
    }

    /// Returns the path that the client knows a ring by. Its files have this path and a suffix.
    fn ring(&self, ring: &str) -> String {
        format!("{}/qb-{ring}-{}", self.path, self.service)
    }

    /// Returns the paths of the rings.
    pub(super) fn rings_at(&self) -> [String; 3] {
        RINGS.map(|ring| self.ring(ring))
    }

    /// Returns the path of the control file, and what the names of the sockets begin with.
    pub(super) fn sockets_at(&self) -> [String; 2] {
        [self.ring(CONTROL), format!("{}/qb-{}", self.path, self.service)]
    }

    /// Makes the control file and opens the sockets.
    pub(super) fn datagrams(&self, max_message: usize, owner: Owner) -> Result<Datagrams, MakeError> {
        let [control, base] = self.sockets_at();
        let file = self.file(&control, CONTROL_SIZE, owner)?;
        Datagrams::new(&base, file, max_message).map_err(MakeError::Socket)
    }

    /// Makes and maps the three rings.
    pub(super) fn rings(&self, max_message: usize, owner: Owner) -> Result<[Ring; 3], MakeError> {
        let make = |ring: &str| -> Result<Ring, MakeError> {
            let [header, data] = PARTS.map(|part| format!("{}-{part}", self.ring(ring)));
            let header_file = self.file(&header, HEADER_SIZE, owner)?;
            let data_file = self.file(&data, data_size(max_message), owner)?;
            Ok(Ring::new(header_file, data_file, [&header, &data], max_message)?)
        };
        let [request, response, event] = RINGS.map(make);
        Ok([request?, response?, event?])
    }

    /// Makes a file of this size, whose memory is allocated now, so that a full `/dev/shm` is an
    /// error here and not a signal later.
    fn file(&self, path: &str, size: usize, owner: Owner) -> Result<File, MakeError> {
        let make = || {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let name = path.rsplit('/').next().unwrap_or(path);
            let file = rustix::fs::openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR)?;
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size as u64)?;
            give(&file, owner)?;
            Ok(File::from(file))
        };
        make().map_err(|error: rustix::io::Errno| MakeError::File {
            root: self.path.clone(),
            error: error.into(),
        })
    }

    /// Gives the directory to the client, which opens the files in it.
    pub(super) fn hand_over(&self, owner: Owner) -> Result<(), MakeError> {
        let all = Mode::RWXU | Mode::RWXG;
        let given = rustix::fs::fchmod(&self.directory, all).and_then(|()| give(&self.directory, owner));
        given.map_err(|error| MakeError::File { root: self.path.clone(), error: error.into() })
    }
}

fn give(file: impl AsFd, owner: Owner) -> rustix::io::Result<()> {
    rustix::fs::fchown(file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
}

impl Drop for Files {
    fn drop(&mut self) {
        // The client removes the files, too, if it ends first.
        remove_files(&self.directory, self.service);
        let _ = rustix::fs::rmdir(&self.path);
    }
}

fn remove_files(directory: &OwnedFd, service: &str) {
    for (ring, part) in RINGS.iter().flat_map(|ring| PARTS.iter().map(move |part| (ring, part))) {
        let _ = rustix::fs::unlinkat(directory, format!("qb-{ring}-{service}-{part}"), AtFlags::empty());
    }
    let _ = rustix::fs::unlinkat(directory, format!("qb-{CONTROL}-{service}"), AtFlags::empty());
}

/// Removes what processes left behind that have been killed while they served these services.
/// Returns the number of directories.
pub(crate) fn sweep(root: &Path, services: &[&'static str]) -> usize {
    let Ok(entries) = std::fs::read_dir(root) else { return 0 };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| is_abandoned(name) && sweep_one(&root.join(name), services)).count()
}

/// Returns `true` if the server that made the directory no longer runs.
fn is_abandoned(name: &str) -> bool {
    let server = name.strip_prefix("qb-").and_then(|rest| rest.split('-').next()?.parse().ok());
    let server = server.and_then(Pid::from_raw);
    server.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

fn sweep_one(path: &Path, services: &[&'static str]) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(directory) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else { return false };
    // Other programs use libqb, too.
    let is_ours = |service: &&&str| {
        [format!("qb-request-{service}-header"), format!("qb-{CONTROL}-{service}")]
            .iter()
            .any(|name| rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok())
    };
    if let Some(service) = services.iter().find(is_ours) {
        remove_files(&directory, service);
    }
    // Only an empty directory is removed.
    rustix::fs::rmdir(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Owner {
        Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    #[test]
    fn a_connection_has_six_files_and_removes_them() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::new(root.path().to_str().unwrap(), "cpg", 17).unwrap();
        let rings = files.rings(1 << 20, me()).unwrap();
        files.hand_over(me()).unwrap();
        let count = |path: &str| std::fs::read_dir(path).unwrap().count();
        assert_eq!(count(&files.path), 6);
        let [request, ..] = files.rings_at();
        let data = std::fs::metadata(format!("{request}-data")).unwrap();
        assert_eq!(data.len(), 1_052_672);
        drop((rings, files));
        assert_eq!(count(root.path().to_str().unwrap()), 0);
    }

    #[test]
    fn only_directories_of_dead_servers_with_our_services_are_swept() {
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str, file: &str| {
            std::fs::create_dir(root.path().join(name)).unwrap();
            std::fs::write(root.path().join(name).join(file), "").unwrap();
        };
        // The kernel gives out ids below 2^22.
        let dead = 1 << 30;
        make(&format!("qb-{dead}-1-7-abcdef"), "qb-request-cpg-header");
        make(&format!("qb-{dead}-1-7-ghijkl"), "qb-request-attrd-header");
        make(&format!("qb-{}-1-7-abcdef", std::process::id()), "qb-request-cpg-header");
        make(&format!("qb-{dead}-1-7-mnopqr"), "qb-control-cmap");
        make("qb-what", "qb-request-cpg-header");
        std::fs::create_dir(root.path().join(format!("qb-{dead}-1-8-empty"))).unwrap();
        assert_eq!(sweep(root.path(), &["cmap", "cpg"]), 3);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 3);
    }
}
