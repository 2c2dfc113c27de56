//! Small programs that teach one thing each: `cargo run -p quorate-examples --bin NAME`.
//!
//! - `ordered`: three members send at once, all see one order.
//! - `only_as_dc`: one member of the group works, the others stand by; when it goes, another takes over.
//! - `replicated`: a key-value store on three members, which outlives each of them ([`kv`]). The test beside it runs it under
//!   partitions and crashes, and finds what is wrong with it if something is.
//! - `singleton`: a virtual address that exactly one of three processes holds, moved by killing, pausing and cutting off its
//!   holder ([`singleton`]). The test beside it moves it in the laboratory. `singleton node` and `singleton address` do the same on
//!   hosts of one's own.

pub mod kv;
pub mod singleton;

use quorate_membership::config::Config;
use quorate_membership::{NodeId, TotemConfig};
use std::io::Write;
use std::time::Duration;
use std::{fmt, io};

/// Prints a line. `println!` would panic when its reader has seen enough (`| head -1`); the nodes here then go on to their end.
pub fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A member of a group of three on this host: loopback addresses 127.0.0.1 to .3, no root needed.
///
/// # Panics
/// If `id` is 0.
pub fn member_of_three(id: u8, port: u16) -> Config {
    let mut config = Config::new(NodeId::new(id.into()).expect("node ids begin with 1"));
    config.name = format!("system{id}");
    config.network.bind = Some([127, 0, 0, id].into());
    config.network.port = Some(port);
    config.quorum.expected_votes = Some(3);
    config.totem = TotemConfig::for_token(Duration::from_millis(300));
    config
}
