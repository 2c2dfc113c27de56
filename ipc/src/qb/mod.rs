//! libqb's IPC: the handshake on an abstract stream socket, and the shared memory over which
//! requests, responses and events then go.

pub(crate) mod connection;
mod files;
mod handshake;
mod ring;

pub(crate) use self::files::{Owner, sweep};
