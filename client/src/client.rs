//! Requests to a node, and their answers.

use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::path::{Found, default_path, dial};
use crate::{Answer, Cat, Error, Event, MAX_PAYLOAD, Released, Request};

/// The time limit for accepting a client, and for answering a one-line request. A node answers at
/// once, even while it forms a new ring. A hand-over must complete within this limit.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A client of a node on this host. Each request opens its own connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// Returns a client of the node with this socket. The first request shows whether the node
    /// runs.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns a client of the only node whose socket is in this user's [default
    /// directory](crate::default_directory). Environment variables that name a socket are not read.
    ///
    /// # Errors
    /// [`Error::NoNode`] if none runs here, [`Error::SeveralNodes`] if more than one does.
    pub fn find() -> Result<Self, Error> {
        Found::here().only().map(Self::at)
    }

    /// Returns a client of the node with this id, at its default path.
    ///
    /// # Errors
    /// [`Error::NotHere`] if it has no socket there, [`Error::NoDefaultPath`] if there is no
    /// default path.
    pub fn of(node: u32) -> Result<Self, Error> {
        let path = default_path(node)?;
        if path.exists() { Ok(Self::at(path)) } else { Err(Found::here().without(node, path)) }
    }

    /// Returns the path of the node's socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks for the node's status.
    ///
    /// # Errors
    /// Fails if the node cannot be reached, or does not answer within 10 s.
    pub fn status(&self) -> Result<Answer, Error> {
        parse(&self.ask(&Request::Status)?)
    }

    /// Makes the node give up the role of DC. Returns once another node has it.
    ///
    /// # Errors
    /// [`Error::Refused`] if the node is not DC, no other member can take over, or none has taken
    /// over. The other errors are those of [`Client::status`].
    pub fn release(&self) -> Result<Released, Error> {
        parse(&self.ask(&Request::Release)?)
    }

    /// Streams the ring and the status, then each change.
    ///
    /// # Errors
    /// Fails if the node cannot be reached.
    pub fn watch(&self) -> Result<Events, Error> {
        Ok(Events::of(self.open(&Request::Watch)?))
    }

    /// Makes this process a member of a process group. Returns a sender for its messages, and the
    /// group's events in the ring's order. The events include the messages that the process sends.
    ///
    /// **Read the events in another thread than the one that sends.** A node does not read a
    /// client's messages while many of its events are unread, so a thread that sends first and
    /// reads later can wait for itself forever.
    ///
    /// Only [`Event::End`] confirms that all messages were delivered. If the events are dropped
    /// before, messages on their way to the node are lost, and the others see that the process
    /// died.
    ///
    /// ```no_run
    /// use quorate_client::{Cat, Client, Event};
    ///
    /// # fn main() -> Result<(), quorate_client::Error> {
    /// let (mut sender, events) = Client::find()?.join(Cat::new("orders"))?;
    /// std::thread::spawn(move || {
    ///     // If this fails, the events end with the node's reason.
    ///     let _ = sender.send(b"first payload");
    ///     // Dropping the sender announces that no message follows.
    /// });
    /// for event in events {
    ///     if let Event::Deliver(message) = event? {
    ///         println!("from node {}: {:?}", message.from, message.bytes());
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Fails if the node cannot be reached. The reason why the group cannot be joined, such as an
    /// invalid name, comes from the events.
    pub fn join(&self, group: Cat) -> Result<(Sender, Events), Error> {
        let stream = self.open(&Request::Cat(group))?;
        let to_node = stream.try_clone().map_err(Error::Broken)?;
        Ok((Sender { node: BufWriter::new(to_node) }, Events::of(stream)))
    }

    /// Connects to the node and sends a request. Returns the connection, for programs that handle
    /// the lines themselves.
    ///
    /// # Errors
    /// Fails if the node cannot be reached.
    pub fn open(&self, request: &Request) -> Result<UnixStream, Error> {
        let unreachable = |error| Error::Unreachable { path: self.path.clone(), error };
        let mut stream = dial(&self.path, PATIENCE).map_err(unreachable)?;
        match stream.write_all(&request.to_line()) {
            // The node has already hung up. Its reason can still be read.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            sent => sent.map_err(Error::Broken)?,
        }
        Ok(stream)
    }

    /// Sends a request that is answered in one line ([`Request::Status`] or [`Request::Release`]),
    /// and returns that line as the node sent it.
    ///
    /// # Errors
    /// Fails if the node cannot be reached, does not answer within 10 s, or answers with an error.
    pub fn ask(&self, request: &Request) -> Result<Vec<u8>, Error> {
        let stream = self.open(request)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(Error::Broken)?;
        let mut line = Vec::new();
        let read = BufReader::new(stream).read_until(b'\n', &mut line);
        read.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => Error::Silent,
            _ => Error::Broken(error),
        })?;
        checked(&line)?;
        Ok(line)
    }
}

/// Returns an error if the line reports one, or is incomplete.
fn checked(line: &[u8]) -> Result<(), Error> {
    match Event::error_message(line) {
        Some(message) => Err(Error::Refused(message)),
        None if line.ends_with(b"\n") => Ok(()),
        None => Err(Error::Closed),
    }
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(line).map_err(Error::NotUnderstood)
}

/// The events that a node streams. The iterator ends after [`Event::End`] or an error. The node's
/// own error is [`Error::Refused`], not an [`Event::Error`].
///
/// It blocks until the next event. Another thread can end it by shutting down a duplicate of its
/// file descriptor ([`AsFd`]).
#[derive(Debug)]
pub struct Events {
    node: BufReader<UnixStream>,
    line: Vec<u8>,
    ended: bool,
}

impl Events {
    fn of(stream: UnixStream) -> Self {
        Self { node: BufReader::with_capacity(64 << 10, stream), line: Vec::new(), ended: false }
    }

    /// Waits for the next line, and returns it as the node sent it.
    ///
    /// # Errors
    /// Fails if the node ends the answer with an error, or closes the connection, as it does after
    /// [`Event::End`].
    pub fn next_line(&mut self) -> Result<&[u8], Error> {
        self.line.clear();
        self.node.read_until(b'\n', &mut self.line).map_err(Error::Broken)?;
        checked(&self.line)?;
        Ok(&self.line)
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.node.get_ref().as_fd()
    }
}

impl Iterator for Events {
    type Item = Result<Event<'static>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let event = self.next_line().and_then(parse);
        self.ended = matches!(event, Ok(Event::End { .. }) | Err(_));
        Some(event)
    }
}

/// The sender of a process's messages to its group. Dropping it announces that no message follows.
/// Once all were delivered, [`Event::End`] ends the events. A process that wants to stay in the
/// group keeps its sender.
#[derive(Debug)]
pub struct Sender {
    node: BufWriter<UnixStream>,
}

impl Sender {
    /// Gives a message of at most [`MAX_PAYLOAD`] bytes to the node. Blocks while the ring is full,
    /// and while many events are unread.
    ///
    /// # Errors
    /// [`Error::Newline`] if the payload has a newline, which would end the message, and
    /// [`Error::TooLong`]. Neither is sent. [`Error::Broken`] if the node has hung up. The events
    /// have its reason.
    pub fn send(&mut self, payload: &[u8]) -> Result<(), Error> {
        if payload.contains(&b'\n') {
            return Err(Error::Newline);
        }
        if payload.len() > MAX_PAYLOAD {
            return Err(Error::TooLong(payload.len()));
        }
        let mut send = || -> io::Result<()> {
            self.node.write_all(payload)?;
            self.node.write_all(b"\n")?;
            self.node.flush()
        };
        send().map_err(Error::Broken)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // The node may have hung up. The events have its reason.
        let _ = self.node.get_ref().shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::status::tests::quorate;

    /// A node that answers each of its clients with the next of these texts, and hangs up once the
    /// client has sent everything. Returns what the clients wrote.
    fn node(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, Client, thread::JoinHandle<Vec<String>>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let serve = move |answer: Vec<u8>| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut said = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            lines.read_line(&mut said).unwrap();
            stream.write_all(&answer).unwrap();
            if said.contains("cat") {
                lines.read_to_string(&mut said).unwrap();
            }
            said
        };
        let thread = thread::spawn(move || answers.into_iter().map(serve).collect());
        (directory, Client::at(path), thread)
    }

    fn error(answer: &[u8]) -> String {
        let (_directory, client, _node) = node(vec![answer.to_vec()]);
        client.status().unwrap_err().to_string()
    }

    #[test]
    fn one_line_requests_are_answered() {
        let released = Released { version: 1, dc: 2 };
        let (_directory, client, node) = node(vec![quorate().to_line(), released.to_line()]);
        assert_eq!(client.status().unwrap(), quorate());
        assert_eq!(client.release().unwrap(), released);
        let asked = node.join().unwrap();
        assert_eq!(asked[1], "{\"version\":1,\"request\":\"release\"}\n");
    }

    #[test]
    fn an_error_or_malformed_answer_is_an_error() {
        let stopping = Event::Error { message: "the node is stopping".into() };
        assert_eq!(error(&stopping.to_line()), "the node is stopping");
        assert!(error(b"").starts_with("the node closed the connection"));
        assert!(error(b"{\"version\":1,").starts_with("the node closed the connection"));
        assert!(error(b"{}\n").starts_with("cannot parse the node's answer"));
        assert!(error(b"\xff\n").starts_with("cannot parse the node's answer"));
    }

    #[test]
    fn events_end_with_the_end_or_with_the_reason() {
        let lines = |last: &Event<'_>| [Event::Stalled { ms: 1 }.to_line(), last.to_line()].concat();
        let end = Event::End { sent: 0 };
        let (_directory, client, _node) =
            node(vec![lines(&end), lines(&Event::Error { message: "no".into() })]);
        let (sender, mut events) = client.join(Cat::new("g").safe()).unwrap();
        assert_eq!(events.next().unwrap().unwrap(), Event::Stalled { ms: 1 });
        assert_eq!(events.next().unwrap().unwrap(), end);
        assert!(events.next().is_none());
        drop(sender);
        let mut events = client.watch().unwrap().skip(1);
        assert_eq!(events.next().unwrap().unwrap_err().to_string(), "no");
        assert!(events.next().is_none());
    }

    #[test]
    fn a_payload_that_is_no_line_is_refused_and_the_others_are_sent() {
        let (_directory, client, node) = node(vec![Event::End { sent: 2 }.to_line()]);
        let (mut sender, events) = client.join(Cat::new("g")).unwrap();
        sender.send(b"one").unwrap();
        assert!(matches!(sender.send(b"two\nlines"), Err(Error::Newline)));
        assert!(matches!(sender.send(&[b'x'; MAX_PAYLOAD + 1]), Err(Error::TooLong(_))));
        sender.send(b"").unwrap();
        drop(sender);
        assert_eq!(events.count(), 1);
        let said = node.join().unwrap().remove(0);
        assert!(said.ends_with("}\none\n\n"), "{said}");
    }

    #[test]
    fn a_node_that_is_gone_is_told_from_one_that_never_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        let ask = || Client::at(&path).status().unwrap_err().to_string();
        assert!(ask().starts_with("no node at "), "{}", ask());
        drop(UnixListener::bind(&path).unwrap());
        assert!(ask().ends_with("is no longer running; start it again"), "{}", ask());
    }
}
