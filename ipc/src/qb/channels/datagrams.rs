//! Two datagram sockets, and a file from which the client reads whether it may send. Nothing is
//! announced.

use std::fs::File;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};

use rustix::net::{SendFlags, SocketAddrUnix, connect, send, sockopt};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::broken::Broken;

/// The size of the control file: for requests, responses and events, the number of messages that
/// wait, and a word that slows down their sender. Only clients use the numbers.
pub(in crate::qb) const CONTROL_SIZE: usize = 24;
/// The place of the word for requests.
const FLOW: u64 = 4;
/// The length of a name, without the NUL that it begins with. Clients use the whole address.
const NAME: usize = 107;

pub(in crate::qb) struct Datagrams {
    /// Requests come in here, and responses leave from here.
    requests: UnixDatagram,
    events: UnixDatagram,
    /// The names of the client's two sockets. It opens them after the handshake. They are connected
    /// once it has sent a request.
    clients: [Vec<u8>; 2],
    is_connected: bool,
    control: File,
    buffer: Vec<u8>,
}

impl Datagrams {
    /// Opens the sockets whose names begin with `base`, for messages of up to this size.
    pub(in crate::qb) fn new(base: &str, control: File, max_message: usize) -> io::Result<Self> {
        let open = |suffix: &str| {
            let socket = StdDatagram::bind_addr(&SocketAddr::from_abstract_name(name(base, suffix)?)?)?;
            socket.set_nonblocking(true)?;
            // Root may exceed the system's limits, and a message must fit.
            sockopt::set_socket_send_buffer_size_force(&socket, max_message)
                .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, max_message))?;
            UnixDatagram::from_std(socket)
        };
        Ok(Self {
            requests: open("-request")?,
            events: open("-event-tx")?,
            clients: [name(base, "-response")?, name(base, "-event")?],
            is_connected: false,
            control,
            buffer: vec![0; max_message],
        })
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.requests.readable().await
    }

    pub(super) async fn room(&self) -> io::Result<()> {
        if self.is_connected { self.events.writable().await } else { std::future::pending().await }
    }

    pub(super) fn request(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        loop {
            let (length, from) = match self.requests.try_recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            // Any process of the host can send to this address until it is connected.
            if from.as_abstract_name() != Some(&self.clients[0]) {
                continue;
            }
            if !self.is_connected {
                for (socket, name) in [&self.requests, &self.events].into_iter().zip(&self.clients) {
                    let address = SocketAddrUnix::new_abstract_name(name).map_err(io::Error::from)?;
                    connect(socket, &address).map_err(io::Error::from)?;
                }
                self.is_connected = true;
            }
            return Ok(Some(self.buffer[..length].to_vec()));
        }
    }

    pub(super) fn respond(&mut self, response: &[u8]) -> Result<bool, Broken> {
        sent(&self.requests, response)
    }

    pub(super) fn event(&mut self, event: &[u8]) -> Result<bool, Broken> {
        if self.is_connected { sent(&self.events, event) } else { Ok(false) }
    }

    pub(super) fn set_flow(&self, word: u32) -> io::Result<()> {
        self.control.write_all_at(&word.to_ne_bytes(), FLOW)
    }
}

/// Sends a datagram. Returns `false` if the client's socket has no room.
fn sent(socket: &UnixDatagram, message: &[u8]) -> Result<bool, Broken> {
    let sent = socket.try_io(Interest::WRITABLE, || Ok(send(socket, message, SendFlags::DONTWAIT)?));
    match sent {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns the name of a socket, in the length that clients use.
fn name(base: &str, suffix: &str) -> io::Result<Vec<u8>> {
    let mut name = [base.as_bytes(), suffix.as_bytes()].concat();
    if name.len() > NAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name of a socket is too long"));
    }
    name.resize(NAME, 0);
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that is bound to this name, and sends to the other.
    fn client(base: &str, suffix: &str, to: &str) -> StdDatagram {
        let address = |suffix| SocketAddr::from_abstract_name(name(base, suffix).unwrap()).unwrap();
        let socket = StdDatagram::bind_addr(&address(suffix)).unwrap();
        socket.connect_addr(&address(to)).unwrap();
        socket
    }

    #[tokio::test]
    async fn only_the_client_is_heard_and_gets_what_it_has_room_for() {
        let base = format!("/dev/shm/quorate-datagrams-{}", std::process::id());
        let mut server = Datagrams::new(&base, tempfile::tempfile().unwrap(), 1 << 20).unwrap();
        client(&base, "-stranger", "-request").send(b"not mine").unwrap();
        let requests = client(&base, "-response", "-request");
        let events = client(&base, "-event", "-event-tx");
        assert!(!server.event(b"too early").unwrap(), "the client may not have opened its sockets yet");

        requests.send(b"request").unwrap();
        server.readable().await.unwrap();
        assert_eq!(server.request().unwrap().as_deref(), Some(&b"request"[..]));
        assert_eq!(server.request().unwrap(), None);
        assert!(server.respond(&[7; 1 << 20]).unwrap(), "the longest message fits");
        let mut buffer = vec![0; 1 << 20];
        assert_eq!(requests.recv(&mut buffer).unwrap(), 1 << 20);

        let sent = (0..10_000).take_while(|_| server.event(b"event").unwrap()).count();
        assert!((1..10_000).contains(&sent), "{sent}");
        // The system tells of room once most of it is free.
        for _ in 0..sent {
            events.recv(&mut buffer).unwrap();
        }
        server.room().await.unwrap();
        assert!(server.event(b"event").unwrap());

        drop((requests, events));
        assert!(matches!(server.event(b"event"), Err(Broken::Gone)));
    }

    #[test]
    fn the_flow_word_is_where_clients_read_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let base = format!("/dev/shm/quorate-flow-{}", std::process::id());
        let control = tempfile::tempfile().unwrap();
        let server = Datagrams::new(&base, control.try_clone().unwrap(), 1 << 20).unwrap();
        server.set_flow(2).unwrap();
        let mut word = [0; 4];
        control.read_exact_at(&mut word, 4).unwrap();
        assert_eq!(u32::from_ne_bytes(word), 2);
    }
}
