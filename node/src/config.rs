//! The configuration of a node: `corosync.conf`, read from a file for this host.
//!
//! The values and their checks, and the reading of a text, are those of
//! [`quorate_membership::config`].

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

pub use quorate_membership::config::*;

/// Reads a file for a host.
///
/// # Errors
/// As [`parse`], and if the file cannot be read.
pub fn load(path: impl AsRef<Path>, overrides: &Overrides, host: &Host) -> Result<Loaded, Rejected> {
    let path = path.as_ref();
    parse(&path.display().to_string(), &read(path)?, overrides, host)
}

/// Reads a file's text, and at most one byte more than the grammar allows.
///
/// # Errors
/// If the file cannot be read.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, Rejected> {
    let path = path.as_ref();
    let mut text = Vec::new();
    let limit = grammar::MAX_TEXT as u64 + 1;
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut text));
    read.map(|_| text).map_err(|error| {
        let place = Some(Place { file: path.display().to_string(), line: None });
        let error = ConfigError { place, problem: Problem::Unreadable(error.to_string()) };
        Rejected { errors: vec![error], warnings: Vec::new() }
    })
}

/// Returns this host in its current state.
///
/// # Errors
/// If the system does not list its interfaces.
pub fn this_host() -> io::Result<Host> {
    let interfaces = if_addrs::get_if_addrs()?.into_iter().map(|interface| Interface {
        address: interface.ip(),
        prefix: match &interface.addr {
            if_addrs::IfAddr::V4(v4) => v4.prefixlen,
            if_addrs::IfAddr::V6(v6) => v6.prefixlen,
        },
        name: interface.name,
    });
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(Host { name, interfaces: interfaces.collect(), resolve })
}

/// Returns an unknown host. A configuration for it is checked except where it depends on the host.
/// Names are resolved as on this host.
pub fn unknown_host() -> Host {
    Host { name: "unknown".to_owned(), interfaces: Vec::new(), resolve }
}

/// Resolves a name with the system's resolver.
fn resolve(name: &str) -> Vec<IpAddr> {
    (name, 0).to_socket_addrs().map_or_else(|_| Vec::new(), |found| found.map(|a| a.ip()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_file_is_an_error_with_its_name() {
        let check = |path: &str, expect: &str| {
            let error = load(path, &Overrides::default(), &unknown_host()).unwrap_err().to_string();
            assert!(error.starts_with(expect), "{error}");
        };
        check("/nowhere/corosync.conf", "/nowhere/corosync.conf: cannot be read (No such file");
        check("/", "/: cannot be read (");
    }

    #[test]
    fn this_host_has_a_name_and_a_loopback_address() {
        let host = this_host().unwrap();
        assert!(!host.name.is_empty());
        assert!(host.has([127, 0, 0, 1].into()));
    }
}
