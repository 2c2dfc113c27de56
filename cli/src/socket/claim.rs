//! A node's claim to its socket: at most one process listens there.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use quorate_client::{default_directory, is_served};
use rustix::fs::{FlockOperation, OFlags};

use crate::Failure;

/// The socket of a running node. Its file is removed on drop.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    /// The listener for clients.
    listener: UnixListener,
    /// The identity of the socket's file.
    file: Identity,
    /// The lock file, locked while the node runs. If two nodes start at once, only one gets it.
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

/// Listens at a path whose lock this process holds.
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
        // Before this call, only the check of each peer's user (`server`) keeps other users out.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok((listener, id(&fs::symlink_metadata(path)?)))
    };
    listen().map_err(|error| cannot("listen at", path, &error))
}

fn private_directory(directory: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    // An existing directory may have wider permissions.
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
        if default_directory().is_some_and(|default| default == directory) {
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
    // Opening a named pipe in its place does not block if it is opened for reading and writing.
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
    use std::os::unix::net::UnixStream;

    use socket2::{Domain, SockAddr, Socket, Type};

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
        UnixStream::connect(&path).unwrap();
        drop(claim);
        assert!(!path.exists());
        UnixStream::connect(&path).unwrap_err();
    }

    #[test]
    fn the_socket_of_a_running_node_is_not_taken_from_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        let _claim = Claim::new(&path).unwrap();
        let error = Claim::new(&path).unwrap_err().to_string();
        assert!(error.starts_with("a node is already running at "), "{error}");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_that_a_stranger_listens_to_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        let _stranger = UnixListener::bind(&path).unwrap();
        assert!(Claim::new(&path).is_err());
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn the_socket_of_a_dead_process_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        drop(UnixListener::bind(&path).unwrap());
        UnixStream::connect(&path).unwrap_err();
        let _claim = Claim::new(&path).unwrap();
        UnixStream::connect(&path).unwrap();
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
            UnixStream::connect(&path).unwrap();
            assert!(Claim::new(&path).unwrap_err().to_string().starts_with("a node is already running at "));
        }
        fs::remove_dir_all(directory.path()).unwrap();
        assert!(claim.restore().unwrap_err().to_string().contains("does not exist"));
        fs::create_dir(directory.path()).unwrap();
        assert!(claim.restore().unwrap());
        UnixStream::connect(&path).unwrap();
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
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_listener_with_a_full_queue_keeps_its_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let _queued = UnixStream::connect(&path).unwrap();
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
