//! Requests to a node, and their answers.

use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::path::{Found, default_path, dial};
use crate::{Answer, Error, Event, Guarantee, Released, Request};

/// The time that a node may take to accept a client, or to answer a one-line request. A node
/// answers at once even while it forms a new ring. A hand-over must be complete within this time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A node on this host. Each request opens a connection of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// Returns the node with this socket. Whether it runs shows with the first request.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the only node that this user, or root as root, runs on this host.
    ///
    /// # Errors
    /// [`Error::NoNode`] if none runs here, [`Error::SeveralNodes`] if more than one does.
    pub fn find() -> Result<Self, Error> {
        Found::here().only().map(Self::at)
    }

    /// Returns the node with this id, at its default path.
    ///
    /// # Errors
    /// [`Error::NotHere`] if it has no socket there.
    pub fn of(node: u32) -> Result<Self, Error> {
        let path = default_path(node)?;
        if path.exists() { Ok(Self::at(path)) } else { Err(Found::here().without(node, path)) }
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

    /// Streams the ring and the status, and each change of them.
    ///
    /// # Errors
    /// Fails if the node cannot be reached.
    pub fn watch(&self) -> Result<Events, Error> {
        Ok(Events::of(self.open(&Request::Watch)?))
    }

    /// Joins a process group with this process. Returns the sender of its messages, and the group's
    /// events in the ring's order, which include the messages that it sends.
    ///
    /// The events must be read, or the node stops taking messages and disconnects the client in the
    /// end. The process leaves the group when both are dropped, or at [`Event::End`].
    ///
    /// ```no_run
    /// use quorate_client::{Client, Event, Guarantee};
    ///
    /// # fn main() -> Result<(), quorate_client::Error> {
    /// let (mut sender, events) = Client::find()?.join("orders", Guarantee::Agreed)?;
    /// sender.send(b"first payload")?;
    /// sender.finish()?;
    /// for event in events {
    ///     if let Event::Deliver(message) = event? {
    ///         println!("from node {}: {:?}", message.from, message.payload);
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Fails if the node cannot be reached. The reason why the group cannot be joined, such as an
    /// invalid name, comes from the events.
    pub fn join(&self, group: impl Into<String>, guarantee: Guarantee) -> Result<(Sender, Events), Error> {
        let stream = self.open(&Request::Cat { group: group.into(), guarantee, status: false })?;
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
            // It has already hung up. Its reason can still be read.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            sent => sent.map_err(Error::Broken)?,
        }
        Ok(stream)
    }

    /// Sends a request that is answered in one line, and returns that line.
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

/// Returns an error if the line is one, or is not a whole line.
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

/// The events that a node streams. As an iterator, it ends after [`Event::End`] or an error.
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
    /// Fails if the node ends the answer with an error, or closes the connection.
    pub fn next_line(&mut self) -> Result<&[u8], Error> {
        self.line.clear();
        self.node.read_until(b'\n', &mut self.line).map_err(Error::Broken)?;
        checked(&self.line)?;
        Ok(&self.line)
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

/// The sender of a process's messages to its group.
#[derive(Debug)]
pub struct Sender {
    node: BufWriter<UnixStream>,
}

impl Sender {
    /// Sends a message of at most 1 MiB. Blocks while the ring is full.
    ///
    /// # Errors
    /// [`Error::Newline`] if the payload has a newline, which would end the message.
    /// [`Error::Broken`] if the node has hung up. The events have its reason.
    pub fn send(&mut self, payload: &[u8]) -> Result<(), Error> {
        if payload.contains(&b'\n') {
            return Err(Error::Newline);
        }
        let mut send = || -> io::Result<()> {
            self.node.write_all(payload)?;
            self.node.write_all(b"\n")?;
            self.node.flush()
        };
        send().map_err(Error::Broken)
    }

    /// Announces that no message follows. Once all were delivered, [`Event::End`] ends the events.
    ///
    /// # Errors
    /// [`Error::Broken`] if the node has hung up.
    pub fn finish(self) -> Result<(), Error> {
        self.node.get_ref().shutdown(Shutdown::Write).map_err(Error::Broken)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::status::tests::quorate;

    /// A node that answers each of its clients with the next of these texts, and hangs up. Returns
    /// what the clients wrote.
    fn node(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, Client, thread::JoinHandle<Vec<String>>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let serve = move |answer: Vec<u8>| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut request).unwrap();
            stream.write_all(&answer).unwrap();
            request
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
        let released = Released { version: 1, dc: Some(2) };
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
        let (_, mut events) = client.join("g", Guarantee::Safe).unwrap();
        assert_eq!(events.next().unwrap().unwrap(), Event::Stalled { ms: 1 });
        assert_eq!(events.next().unwrap().unwrap(), end);
        assert!(events.next().is_none());
        let mut events = client.watch().unwrap().skip(1);
        assert_eq!(events.next().unwrap().unwrap_err().to_string(), "no");
        assert!(events.next().is_none());
    }

    #[test]
    fn a_payload_with_a_newline_is_refused() {
        let (_directory, client, node) = node(vec![Event::End { sent: 1 }.to_line()]);
        let (mut sender, _events) = client.join("g", Guarantee::Agreed).unwrap();
        assert!(matches!(sender.send(b"two\nlines"), Err(Error::Newline)));
        sender.send(b"one").unwrap();
        drop(node);
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
