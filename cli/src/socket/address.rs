//! Where the sockets of nodes are: how a node claims its own, how a client finds one.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use quorate_membership::NodeId;
use rustix::fs::FlockOperation;

use crate::Failure;

/// Which node to talk to.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Which {
    /// The socket of the node to ask [default: the only node found on this host]
    #[arg(long, value_name = "PATH", env = "QUORATE_SOCKET", conflicts_with = "node")]
    pub(crate) socket: Option<PathBuf>,
    /// The id of the node to ask, where several run on this host
    #[arg(long, value_name = "ID")]
    pub(crate) node: Option<NodeId>,
}

impl Which {
    /// Connects to the node meant.
    pub(crate) fn connect(&self) -> Result<UnixStream, Failure> {
        match (&self.socket, self.node) {
            (Some(path), _) => connect(path),
            (None, Some(node)) => connect(&of_node(node)?),
            (None, None) => only(&directories(), &mut live(&directories())),
        }
    }
}

/// Where a node's socket is unless `--socket` says otherwise: `/run/quorate/NODE.sock` for root,
/// `$XDG_RUNTIME_DIR/quorate/NODE.sock` for others.
pub(crate) fn of_node(node: NodeId) -> Result<PathBuf, Failure> {
    match directories().into_iter().next() {
        Some(directory) => Ok(directory.join(format!("{node}.sock"))),
        None => Err(Failure::new(
            "there is no XDG_RUNTIME_DIR to keep the socket in: set it, or name a path with --socket",
        )),
    }
}

/// Where to look for sockets; in the first, an own one is made.
fn directories() -> Vec<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return vec![PathBuf::from("/run/quorate")];
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|runtime| Path::new(runtime).is_absolute());
    runtime.map(|runtime| Path::new(&runtime).join("quorate")).into_iter().collect()
}

/// The sockets there that somebody listens to.
fn live(directories: &[PathBuf]) -> Vec<(PathBuf, UnixStream)> {
    let entries = directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten();
    let sockets =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "sock"));
    let mut live: Vec<_> =
        sockets.filter_map(|path| UnixStream::connect(&path).ok().map(|stream| (path, stream))).collect();
    live.sort_by(|(a, _), (b, _)| a.cmp(b));
    live
}

fn only(searched: &[PathBuf], live: &mut Vec<(PathBuf, UnixStream)>) -> Result<UnixStream, Failure> {
    match (live.pop(), live.len()) {
        (Some((_, stream)), 0) => Ok(stream),
        (Some((last, _)), _) => {
            let mut paths: Vec<String> = live.iter().map(|(path, _)| path.display().to_string()).collect();
            paths.push(last.display().to_string());
            Err(Failure::new(format!(
                "{} nodes run here: choose one with --socket: {}",
                paths.len(),
                paths.join(", ")
            )))
        }
        (None, _) => {
            let searched: Vec<String> = searched.iter().map(|path| path.display().to_string()).collect();
            let place = if searched.is_empty() {
                "no XDG_RUNTIME_DIR to look in".into()
            } else {
                searched.join(", ")
            };
            Err(Failure::new(format!(
                "no node runs here ({place}): start one with `quorate node`, or name its socket with --socket"
            )))
        }
    }
}

fn connect(path: &Path) -> Result<UnixStream, Failure> {
    UnixStream::connect(path).map_err(|error| {
        let at = path.display();
        Failure::new(match error.kind() {
            ErrorKind::NotFound => {
                format!("no node at {at}: start one with `quorate node`, or correct the path")
            }
            ErrorKind::ConnectionRefused => format!("the node of {at} is no longer running: start it again"),
            ErrorKind::PermissionDenied => {
                format!("{at} belongs to another user: ask as that user, or as root")
            }
            _ => format!("cannot connect to {at}: {error}"),
        })
    })
}

/// The socket of a running node. Its file goes with it.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    /// Locked for as long as the node runs: of two that start at once, one wins.
    _lock: File,
}

impl Claim {
    /// Listens at `path`, which may be left over from a dead process, but not in use by a live one. The directory is
    /// made if it is the default one; whoever names another has made it.
    pub(crate) fn new(path: &Path) -> Result<Self, Failure> {
        if let Some(directory) = path.parent().filter(|parent| directories().iter().any(|d| d == parent)) {
            private_directory(directory)?;
        }
        let lock = lock(path)?;
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(Failure::new(format!(
                    "{} is there already and is no socket: remove it, or name another path with --socket",
                    path.display()
                )));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(in_use(path)),
            Ok(_) => fs::remove_file(path).map_err(|error| cannot("replace", path, &error))?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(|error| cannot("listen at", path, &error))?;
        let claim = Self { listener, path: path.to_owned(), _lock: lock };
        // Until here, the check of each peer's user (`server`) is what keeps others out.
        fs::set_permissions(path, Permissions::from_mode(0o600))
            .and_then(|()| claim.listener.set_nonblocking(true))
            .map_err(|error| cannot("listen at", path, &error))?;
        Ok(claim)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The lock file stays: to remove it would let two processes lock two files of the same name.
        let _ = fs::remove_file(&self.path);
    }
}

fn private_directory(directory: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    // It may be there from elsewhere, more open than ours.
    made.and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o700)))
        .map_err(|error| cannot("make the directory", directory, &error))
}

fn lock(path: &Path) -> Result<File, Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(Path::new(&name));
    let lock = lock.map_err(|error| cannot("write", Path::new(&name), &error))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(in_use(path)),
        Err(error) => Err(cannot("lock", Path::new(&name), &error.into())),
    }
}

fn in_use(path: &Path) -> Failure {
    Failure::new(format!(
        "a node is running at {} already: stop it, or name another path with --socket",
        path.display()
    ))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot {what} {}: {error}: name another path with --socket", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_socket_is_for_its_owner_only_and_goes_with_the_node() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        let claim = Claim::new(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        connect(&path).unwrap();
        drop(claim);
        assert!(!path.exists());
        assert!(connect(&path).unwrap_err().to_string().starts_with("no node at "));
    }

    #[test]
    fn the_socket_of_a_running_node_is_not_taken_from_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        let _claim = Claim::new(&path).unwrap();
        let error = Claim::new(&path).unwrap_err().to_string();
        assert!(error.starts_with("a node is running at "), "{error}");
        connect(&path).unwrap();
    }

    #[test]
    fn a_socket_that_a_stranger_listens_to_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        let _stranger = UnixListener::bind(&path).unwrap();
        assert!(Claim::new(&path).is_err());
        connect(&path).unwrap();
    }

    #[test]
    fn the_socket_of_a_dead_process_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(connect(&path).unwrap_err().to_string().contains("no longer running"));
        let _claim = Claim::new(&path).unwrap();
        connect(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("precious.txt");
        fs::write(&path, "data").unwrap();
        let error = Claim::new(&path).unwrap_err().to_string();
        assert!(error.contains("is no socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"data");
    }

    #[test]
    fn a_missing_directory_is_an_error_that_says_what_to_do() {
        let error = Claim::new(Path::new("/nonexistent/1.sock")).unwrap_err().to_string();
        assert!(error.starts_with("cannot write /nonexistent/1.sock.lock: No such file"), "{error}");
        assert!(error.ends_with("name another path with --socket"), "{error}");
    }

    #[test]
    fn the_only_live_node_is_found_and_several_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        let places = [directory.path().to_owned(), directory.path().join("missing")];
        let find = || only(&places, &mut live(&places));
        assert!(find().unwrap_err().to_string().starts_with("no node runs here ("));

        drop(UnixListener::bind(directory.path().join("9.sock")).unwrap());
        fs::write(directory.path().join("8.sock"), "").unwrap();
        let _one = Claim::new(&directory.path().join("1.sock")).unwrap();
        find().unwrap();

        let _two = Claim::new(&directory.path().join("2.sock")).unwrap();
        let error = find().unwrap_err().to_string();
        assert!(error.starts_with("2 nodes run here: choose one with --socket: "), "{error}");
        assert!(error.contains("/1.sock, ") && error.ends_with("/2.sock"), "{error}");
    }
}
