//! Small programs that teach one thing each: `cargo run -p quorate-examples --bin NAME`.
//!
//! - `by_hand`: three members without sockets, threads and clocks, which is how tests run them.
//! - `chat`: a room to talk in, whose members see who comes and goes.
//! - `counter`: a number that three members add to, and that a member has when it comes back.
//! - `guest`: a member of a ring of corosync daemons.
//! - `leader`: the first program of [`embedding`]: one of three nodes works.
//! - `leader_job`: a web service with one leader, whose late writes a table rejects.
//! - `many_jobs`: twelve jobs, each of which runs on exactly one of three members.
//! - `ordered`: three members send at once, and all deliver the messages in one order.
//! - `only_as_dc`: one member of the group works and the others stand by. When it leaves, another
//!   takes over.
//! - `replicated`: a key-value store on three members that outlives each of them ([`kv`]). Its test
//!   runs it under partitions and crashes.
//! - `singleton`: a virtual address that exactly one of three processes holds ([`singleton`]). It
//!   moves when its holder is killed, paused or cut off. Its test moves it on a simulated network.
//!   `singleton node` and `singleton address` do the same on your own hosts.

#[doc = include_str!("../../docs/embedding.md")]
pub mod embedding {}
pub mod kv;
pub mod singleton;

use quorate::config::Config;
use quorate::{NodeId, TotemConfig};
use std::io::Write;
use std::time::Duration;
use std::{fmt, io};
use tokio::sync::mpsc;

/// Prints a line. `println!` would panic once the reader has closed the pipe (`| head -1`). The
/// nodes here run to the end instead.
pub fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Returns the first argument, the number of one of three members.
///
/// # Errors
/// If it is missing, or is none of 1, 2 and 3.
pub fn number_of_member() -> Result<u8, &'static str> {
    let id = std::env::args().nth(1).and_then(|id| id.parse().ok()).filter(|id| (1..=3).contains(id));
    id.ok_or("say which of the three members this is: 1, 2 or 3")
}

/// Reads the lines of the input in a thread, for which the program does not wait when it ends.
pub fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        let _ = io::stdin().lines().map_while(Result::ok).try_for_each(|line| sender.blocking_send(line));
    });
    lines
}

/// Returns the configuration of a member of a group of three on this host. The members have the
/// loopback addresses 127.0.0.1 to 127.0.0.3, so they do not need root.
pub fn member_of_three(id: u8, port: u16) -> Config {
    let mut config = Config::new(NodeId::new(id.into()).expect("node ids begin with 1"));
    config.name = format!("system{id}");
    config.network.bind = Some([127, 0, 0, id].into());
    config.network.port = Some(port);
    config.quorum.expected_votes = Some(3);
    config.totem = TotemConfig::for_token(Duration::from_millis(300));
    config
}
