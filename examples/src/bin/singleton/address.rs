//! `singleton address`.

use std::error::Error;
use std::net::UdpSocket;

use quorate_examples::singleton::{Address, Claim};

use crate::lines::{Line, now_us, print};

/// Run the address: accept claims, and refuse those under lower terms than the highest so far
///
/// Prints a line for each new holder or term, and for each refused claim, with the number of
/// refused claims under its term.
#[derive(clap::Args, Debug)]
pub(crate) struct AddressArgs {
    /// UDP address on which claims arrive
    #[arg(long, value_name = "HOST:PORT")]
    listen: String,
}

/// Runs until the process is killed, or until its output is closed.
pub(crate) fn run(args: &AddressArgs) -> Result<(), Box<dyn Error>> {
    let listen = &args.listen;
    let socket = UdpSocket::bind(listen).map_err(|error| {
        format!("cannot listen at {listen}: {error}; name an address of this host with --listen")
    })?;
    let mut address = Address::default();
    let mut malformed = 0;
    // Longer than any claim, so that a longer datagram is not truncated to a valid one.
    let mut datagram = [0; 128];
    loop {
        let (length, from) = socket.recv_from(&mut datagram)?;
        let at = now_us();
        let claim = std::str::from_utf8(&datagram[..length]).ok().and_then(|text| text.parse::<Claim>().ok());
        let Some(claim) = claim else {
            malformed += 1;
            print(at, Line::Malformed { from, malformed })?;
            continue;
        };
        let (before, Claim { node, term }) = (address.held(), claim);
        if !address.claim(claim) {
            let refused = address.refused_under(term);
            print(at, Line::Refused { node, term: term.to_string(), refused })?;
        } else if before != Some(claim) {
            print(at, Line::Accepted { node, term: term.to_string() })?;
        }
    }
}
