//! The reasons for which a client can no longer be reached.

use std::io;

use crate::qb::ring::Fault;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the client has gone")]
    Gone,
    #[error("the client does not read its responses")]
    ResponsesUnread,
    #[error("the client announces more requests than its memory has room for")]
    Flood,
    #[error(transparent)]
    Memory(#[from] Fault),
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected, UnexpectedEof};
        // A client that ends with unread bytes resets its connection. Its datagram sockets may be
        // gone before the end of its stream is noticed.
        match error.kind() {
            BrokenPipe | ConnectionRefused | ConnectionReset | NotConnected | UnexpectedEof => Self::Gone,
            _ => Self::Io(error),
        }
    }
}
