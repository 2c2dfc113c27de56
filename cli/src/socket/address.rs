//! The paths of nodes' sockets: how a node claims its own, and how a client finds one.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate::NodeId;
use rustix::fs::{FlockOperation, OFlags};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::Failure;

/// The node to connect to.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Which {
    /// Socket of the node to ask [default: the only node found on this host]
    #[arg(long, value_name = "PATH", env = "QUORATE_SOCKET", conflicts_with = "node")]
    pub(crate) socket: Option<PathBuf>,
    /// Id of the node to ask, if several run on this host
    #[arg(long, value_name = "ID")]
    pub(crate) node: Option<NodeId>,
}

impl Which {
    /// Connects to the selected node.
    pub(crate) fn connect(&self) -> Result<UnixStream, Failure> {
        match (&self.socket, self.node) {
            (Some(path), _) => connect(path),
            (None, Some(node)) => {
                let path = of_node(node)?;
                if path.exists() { connect(&path) } else { Err(not_here(node, &path, &Found::here())) }
            }
            (None, None) => connect(Found::here().only()?),
        }
    }
}

/// Returns the default path of a node's socket: `/run/quorate/NODE.sock` for root,
/// `$XDG_RUNTIME_DIR/quorate/NODE.sock` for others.
pub(crate) fn of_node(node: NodeId) -> Result<PathBuf, Failure> {
    match directories().into_iter().next() {
        Some(directory) => Ok(directory.join(format!("{node}.sock"))),
        None => Err(Failure::new(
            "XDG_RUNTIME_DIR is not set to an absolute path, so there is no default socket; set it, or name \
             a path with --socket or QUORATE_SOCKET",
        )),
    }
}

/// The directory for nodes that root runs.
const OF_ROOT: &str = "/run/quorate";

/// Returns the directories to search for sockets. A node creates its own in the first.
fn directories() -> Vec<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return vec![PathBuf::from(OF_ROOT)];
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|runtime| Path::new(runtime).is_absolute());
    runtime.map(|runtime| Path::new(&runtime).join("quorate")).into_iter().collect()
}

/// The nodes of this host.
#[derive(Default)]
struct Found {
    searched: Vec<PathBuf>,
    /// Sockets with a listening process.
    live: Vec<PathBuf>,
    /// Whether root has nodes here, which this user may not ask.
    of_root: bool,
}

impl Found {
    fn here() -> Self {
        let of_root = fs::read_dir(OF_ROOT).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        Self { of_root, ..Self::within(directories()) }
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
    fn only(&self) -> Result<&Path, Failure> {
        match self.live.as_slice() {
            [only] => Ok(only),
            [] => {
                let searched: Vec<String> =
                    self.searched.iter().map(|path| path.display().to_string()).collect();
                let place = match (searched.is_empty(), self.of_root) {
                    (false, false) => searched.join(", "),
                    (true, false) => "XDG_RUNTIME_DIR is not set".into(),
                    (_, true) => format!("{OF_ROOT} is for root only; try as root"),
                };
                Err(Failure::new(format!(
                    "no node found ({place}); start one with `quorate node`, or name its socket with \
                     --socket or QUORATE_SOCKET"
                )))
            }
            several => {
                let paths: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
                let count = paths.len();
                Err(Failure::new(format!(
                    "{count} nodes run here; choose one with --socket: {}",
                    paths.join(", ")
                )))
            }
        }
    }
}

/// Returns the error that a node has no socket, with the nodes that have one.
fn not_here(node: NodeId, path: &Path, found: &Found) -> Failure {
    let ids: Vec<String> =
        found.live.iter().filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect();
    let others = match ids.as_slice() {
        [] => "no other node runs here either; start it with `quorate node`".to_owned(),
        ids => format!("nodes that run here: {}", ids.join(", ")),
    };
    let at = path.display();
    Failure::new(format!(
        "no node {node} at {at}: {others}; if it runs elsewhere, name its socket with --socket"
    ))
}

/// The time that a node may take to accept a client.
const PATIENCE: Duration = Duration::from_secs(10);

fn connect(path: &Path) -> Result<UnixStream, Failure> {
    dial(path, PATIENCE).map_err(|error| {
        let at = path.display();
        Failure::new(match error.kind() {
            ErrorKind::NotFound => {
                format!("no node at {at}; start one with `quorate node`, or correct the path")
            }
            ErrorKind::ConnectionRefused => format!("the node at {at} is no longer running; start it again"),
            ErrorKind::PermissionDenied => {
                format!("{at} belongs to another user; connect as that user or as root")
            }
            ErrorKind::WouldBlock => {
                let wait = PATIENCE.as_secs();
                format!(
                    "the node at {at} has not accepted a client for {wait} s; see its log, or start it again"
                )
            }
            _ => format!("cannot connect to {at}: {error}"),
        })
    })
}

/// Connects within a time limit, because a listener with a full queue would block the caller. The
/// error is `WouldBlock` in that case.
fn dial(path: &Path, within: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(within))?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_write_timeout(None)?;
    Ok(socket.into())
}

/// Returns `true` if a process listens at this socket.
fn is_served(path: &Path) -> bool {
    match dial(path, Duration::from_millis(1)) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// The socket of a running node. Its file is removed on drop.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    /// The listener for clients.
    listener: UnixListener,
    /// The identity of the socket's file.
    file: Identity,
    /// The lock file, locked as long as the node runs. Of two nodes that start at once, one wins.
    lock: File,
}

/// The device and inode of a file, which distinguish it from another file of the same name.
type Identity = (u64, u64);

impl Claim {
    /// Listens at `path`. A socket left over from a dead process is replaced, and one in use by a
    /// live process is an error. The default directory is created if it does not exist. Any other
    /// directory must exist.
    pub(crate) fn new(path: &Path) -> Result<Self, Failure> {
        let lock = lock(path)?;
        let (listener, file) = listen(path)?;
        Ok(Self { path: path.to_owned(), listener, file, lock })
    }

    /// Returns the listener for the runtime.
    pub(crate) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Listens again if the socket's file was removed. Returns `true` if it was.
    pub(crate) fn restore(&mut self) -> Result<bool, Failure> {
        let lock_is_there =
            self.lock.metadata().is_ok_and(|ours| identity(&lock_path(&self.path)) == Some(id(&ours)));
        if !lock_is_there {
            self.lock = lock(&self.path)?;
        }
        if identity(&self.path) == Some(self.file) {
            return Ok(false);
        }
        (self.listener, self.file) = listen(&self.path)?;
        Ok(true)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The lock file stays. Removing it would let two processes lock two files of the same name.
        if identity(&self.path) == Some(self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().as_ref().map(id)
}

fn id(file: &fs::Metadata) -> Identity {
    (file.dev(), file.ino())
}

/// Listens at a path whose lock this process has.
fn listen(path: &Path) -> Result<(UnixListener, Identity), Failure> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Failure::new(format!(
                "{} exists and is not a socket; remove it, or name another path with --socket",
                path.display()
            )));
        }
        Ok(_) if is_served(path) => return Err(in_use(path)),
        Ok(_) => fs::remove_file(path).map_err(|error| cannot("replace", path, &error))?,
        Err(_) => {}
    }
    let listen = || {
        let listener = UnixListener::bind(path)?;
        // Until here, only the check of each peer's user (`server`) keeps others out.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok((listener, id(&fs::symlink_metadata(path)?)))
    };
    listen().map_err(|error| cannot("listen at", path, &error))
}

fn private_directory(directory: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    // An existing directory may have more permissions than ours.
    made.and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o700)))
        .map_err(|error| cannot("create the directory", directory, &error))
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn lock(path: &Path) -> Result<File, Failure> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    if let Some(directory) = directory {
        if directories().iter().any(|default| default == directory) {
            private_directory(directory)?;
        } else if !directory.exists() {
            return Err(Failure::new(format!(
                "cannot listen at {}: directory {} does not exist; create it, or name another path with \
                 --socket",
                path.display(),
                directory.display()
            )));
        }
    }
    let name = lock_path(path);
    // A named pipe in its place does not block when it is opened for both directions.
    let mut options = OpenOptions::new();
    options.create(true).read(true).write(true).truncate(false).mode(0o600);
    options.custom_flags(i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default());
    let lock = options.open(&name).map_err(|error| cannot("write", &name, &error))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(in_use(path)),
        Err(error) => Err(cannot("lock", &name, &error.into())),
    }
}

fn in_use(path: &Path) -> Failure {
    Failure::new(format!(
        "a node is already running at {}; stop it, or name another path with --socket",
        path.display()
    ))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot {what} {}: {error}; name another path with --socket", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_socket_is_private_and_removed_with_its_node() {
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
        assert!(error.starts_with("a node is already running at "), "{error}");
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
    fn a_file_that_is_not_a_socket_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("precious.txt");
        fs::write(&path, "data").unwrap();
        let error = Claim::new(&path).unwrap_err().to_string();
        assert!(error.contains("is not a socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"data");
    }

    #[test]
    fn a_missing_directory_is_an_error_that_says_what_to_do() {
        let error = Claim::new(Path::new("/nonexistent/1.sock")).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot listen at /nonexistent/1.sock: directory /nonexistent does not exist; create it, or name \
             another path with --socket"
        );
    }

    #[test]
    fn the_only_live_node_is_found_and_several_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        let places = vec![directory.path().to_owned(), directory.path().join("missing")];
        let find = || Found::within(places.clone()).only().map(Path::to_owned);
        let missing = NodeId::new(77).unwrap();
        let not_here = || not_here(missing, Path::new("77.sock"), &Found::within(places.clone())).to_string();
        assert!(
            not_here().starts_with("no node 77 at 77.sock: no other node runs here either"),
            "{}",
            not_here()
        );
        assert!(find().unwrap_err().to_string().starts_with("no node found ("));

        drop(UnixListener::bind(directory.path().join("9.sock")).unwrap());
        fs::write(directory.path().join("8.sock"), "").unwrap();
        let _one = Claim::new(&directory.path().join("1.sock")).unwrap();
        assert_eq!(find().unwrap(), directory.path().join("1.sock"));

        let _two = Claim::new(&directory.path().join("2.sock")).unwrap();
        let error = find().unwrap_err().to_string();
        assert!(error.starts_with("2 nodes run here; choose one with --socket: "), "{error}");
        assert!(error.contains("/1.sock, ") && error.ends_with("/2.sock"), "{error}");
        assert!(
            not_here().starts_with("no node 77 at 77.sock: nodes that run here: 1, 2; "),
            "{}",
            not_here()
        );
    }

    #[test]
    fn the_nodes_of_root_are_named_to_other_users() {
        let found = Found { of_root: true, ..Found::default() };
        let error = found.only().unwrap_err().to_string();
        assert!(error.starts_with("no node found (/run/quorate is for root only; try as root); "), "{error}");
    }

    #[test]
    fn a_removed_socket_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        let mut claim = Claim::new(&path).unwrap();
        assert!(!claim.restore().unwrap());
        for remove in [vec!["1.sock"], vec!["1.sock.lock"], vec!["1.sock", "1.sock.lock"]] {
            for name in &remove {
                fs::remove_file(directory.path().join(name)).unwrap();
            }
            assert_eq!(claim.restore().unwrap(), remove[0] == "1.sock");
            assert!(!claim.restore().unwrap());
            assert_eq!(mode(&path), 0o600);
            connect(&path).unwrap();
            assert!(Claim::new(&path).unwrap_err().to_string().starts_with("a node is already running at "));
        }
        fs::remove_dir_all(directory.path()).unwrap();
        assert!(claim.restore().unwrap_err().to_string().contains("does not exist"));
        fs::create_dir(directory.path()).unwrap();
        assert!(claim.restore().unwrap());
        connect(&path).unwrap();
    }

    #[test]
    fn a_socket_taken_over_is_neither_replaced_nor_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        let mut claim = Claim::new(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::remove_file(directory.path().join("1.sock.lock")).unwrap();
        let _other = Claim::new(&path).unwrap();
        assert!(claim.restore().unwrap_err().to_string().starts_with("a node is already running at "));
        drop(claim);
        connect(&path).unwrap();
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
        assert!(Claim::new(&path).unwrap_err().to_string().starts_with("a node is already running at "));
    }

    #[test]
    fn a_pipe_in_the_place_of_the_lock_does_not_hang_the_start() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("1.sock.lock");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        Claim::new(&directory.path().join("1.sock")).unwrap();
    }
}
