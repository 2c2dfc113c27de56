//! The node's side of the local socket, by which `quorate status`, `quorate cat` and other programs
//! on the host communicate with it. The crate `quorate_client` describes the protocol.

pub(crate) mod claim;
pub(crate) mod clients;
pub(crate) mod lines;
pub(crate) mod outbox;
pub(crate) mod places;
mod reader;
pub(crate) mod server;
