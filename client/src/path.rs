//! Where nodes' sockets are, and which of them are in use.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::Error;

/// The directory for nodes that root runs.
pub(crate) const OF_ROOT: &str = "/run/quorate";

/// Returns the default path of a node's socket: `/run/quorate/NODE.sock` for root,
/// `$XDG_RUNTIME_DIR/quorate/NODE.sock` for others.
///
/// # Errors
/// Fails for users other than root if `XDG_RUNTIME_DIR` is not set to an absolute path.
pub fn default_path(node: u32) -> Result<PathBuf, Error> {
    default_directory().map(|directory| directory.join(format!("{node}.sock"))).ok_or(Error::NoDefaultPath)
}

/// Returns the directory of the sockets of this user's nodes: `/run/quorate` for root,
/// `$XDG_RUNTIME_DIR/quorate` for others. `None` if that is not set to an absolute path.
pub fn default_directory() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from(OF_ROOT));
    }
    let runtime = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    runtime.is_absolute().then(|| runtime.join("quorate"))
}

/// Returns `true` if a process listens at this socket.
pub fn is_served(path: &Path) -> bool {
    match dial(path, Duration::from_millis(1)) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// The nodes of this host.
#[derive(Default)]
pub(crate) struct Found {
    searched: Vec<PathBuf>,
    /// Sockets with a listening process.
    live: Vec<PathBuf>,
    /// Whether root has nodes here, which this user may not ask.
    of_root: bool,
}

impl Found {
    pub(crate) fn here() -> Self {
        let of_root = fs::read_dir(OF_ROOT).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        Self { of_root, ..Self::within(default_directory().into_iter().collect()) }
    }

    fn within(searched: Vec<PathBuf>) -> Self {
        let entries =
            searched.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten();
        let sockets =
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "sock"));
        let mut live: Vec<_> = sockets.filter(|path| is_served(path)).collect();
        live.sort();
        Self { searched, live, of_root: false }
    }

    /// Returns the path of the only node here.
    pub(crate) fn only(mut self) -> Result<PathBuf, Error> {
        match self.live.len() {
            0 => Err(Error::NoNode { searched: self.searched, of_root: self.of_root }),
            1 => Ok(self.live.remove(0)),
            _ => Err(Error::SeveralNodes(self.live)),
        }
    }

    /// Returns the error that a node has no socket, with the nodes that have one.
    pub(crate) fn without(self, node: u32, path: PathBuf) -> Error {
        let id = |path: PathBuf| Some(path.file_stem()?.to_string_lossy().into_owned());
        Error::NotHere { node, path, others: self.live.into_iter().filter_map(id).collect() }
    }
}

/// Connects within a time limit, because a listener with a full queue would block the caller. The
/// error is `WouldBlock` in that case.
pub(crate) fn dial(path: &Path, within: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(within))?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_write_timeout(None)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_only_live_node_is_found_and_several_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        let places = vec![directory.path().to_owned(), directory.path().join("missing")];
        let find = || Found::within(places.clone()).only();
        let not_here = || Found::within(places.clone()).without(77, PathBuf::from("77.sock")).to_string();
        assert!(
            not_here().starts_with("no node 77 at 77.sock: no other node runs here either"),
            "{}",
            not_here()
        );
        assert!(find().unwrap_err().to_string().starts_with("no node found ("));

        drop(UnixListener::bind(directory.path().join("9.sock")).unwrap());
        fs::write(directory.path().join("8.sock"), "").unwrap();
        let _one = UnixListener::bind(directory.path().join("1.sock")).unwrap();
        assert_eq!(find().unwrap(), directory.path().join("1.sock"));

        let _two = UnixListener::bind(directory.path().join("2.sock")).unwrap();
        let error = find().unwrap_err().to_string();
        assert!(error.starts_with("2 nodes run here: "), "{error}");
        assert!(error.contains("/1.sock, ") && error.ends_with("/2.sock"), "{error}");
        assert_eq!(not_here(), "no node 77 at 77.sock: nodes that run here: 1, 2");
    }

    #[test]
    fn the_nodes_of_root_are_named_to_other_users() {
        let found = Found { of_root: true, ..Found::default() };
        let error = found.only().unwrap_err().to_string();
        assert_eq!(error, "no node found (/run/quorate is for root only; try as root)");
    }

    #[test]
    fn a_listener_with_a_full_queue_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let _queued = dial(&path, Duration::from_millis(50)).unwrap();
        assert_eq!(dial(&path, Duration::from_millis(50)).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(is_served(&path));
    }
}
