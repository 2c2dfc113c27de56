//! libqb's IPC: the handshake on an abstract stream socket, and the shared memory or the datagram
//! sockets over which requests, responses and events then go.

mod channels;
pub(crate) mod connection;
mod files;
mod handshake;
mod ring;

pub(crate) use self::channels::Broken;
pub(crate) use self::files::{Owner, sweep};
pub(crate) use self::handshake::Transport;
