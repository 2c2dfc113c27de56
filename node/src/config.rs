//! The configuration of a node: `corosync.conf`, read from a file for this host.
//!
//! The values and their checks, and the reading of a text, are those of
//! [`quorate_membership::config`].

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use quorate_membership::NodeId;
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

/// Why the environment has no configuration. The message names the variable and says what to do.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {what}")]
pub struct EnvError {
    variable: &'static str,
    what: String,
}

/// As [`Display`](std::fmt::Display), because `main` and `unwrap` print this.
impl std::fmt::Debug for EnvError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Reads the configuration of a node from environment variables, for containers and other programs
/// without a file. The nodes send to each other by unicast (`udpu`).
///
/// | variable | meaning | example |
/// |---|---|---|
/// | `QUORATE_CLUSTER` | the cluster's name | `jobs` |
/// | `QUORATE_NODES` | all nodes, by name or address | `jobs-0.jobs,jobs-1.jobs,jobs-2.jobs` |
/// | `QUORATE_NODE` | this node: its entry, the first label of it, or its id | `jobs-1` |
/// | `QUORATE_ADDRESS` | this node's address; by default its entry's | `10.1.0.7` |
/// | `QUORATE_PORT` | the port; the one below it is used, too; by default 5405 | `5405` |
/// | `QUORATE_TOKEN` | the token timeout in ms; by default corosync's | `500` |
///
/// corosync's token timeout is 1000 ms, and 650 ms more for each node beyond two.
///
/// All nodes have the same values, except for `QUORATE_NODE` and `QUORATE_ADDRESS`.
///
/// The first entry has the id 1, the next one 2, and so on. An entry `7=jobs-6.jobs` has the id 7.
/// Ids must not change while a cluster exists, so new nodes come last. Entries are separated by
/// commas or white space. A variable that is empty counts as missing.
///
/// The names of other nodes are looked up while the node runs, so they may not exist yet, and their
/// addresses may change.
///
/// # Errors
/// If a variable is missing or makes no sense.
pub fn from_env() -> Result<Config, EnvError> {
    from_variables(|variable| std::env::var(variable).ok(), resolve)
}

fn from_variables(
    variable: impl Fn(&str) -> Option<String>,
    resolve: impl Fn(&str) -> Vec<IpAddr>,
) -> Result<Config, EnvError> {
    let wrong = |variable: &'static str, what: String| EnvError { variable, what };
    let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let read = |name: &'static str, example: &str| {
        let value = variable(name);
        value.ok_or_else(|| wrong(name, format!("not set; write for example {name}={example}")))
    };
    let number = |name: &'static str, default: u16| match variable(name) {
        None => Ok(default),
        Some(text) => {
            text.trim().parse().map_err(|_| wrong(name, format!("`{text}` is not a number below 65536")))
        }
    };
    let (cluster, nodes, own) = (
        read("QUORATE_CLUSTER", "jobs")?,
        read("QUORATE_NODES", "host1,host2,host3")?,
        read("QUORATE_NODE", "host1")?,
    );
    let own = own.trim();

    let mut members: Vec<(NodeId, &str)> = Vec::new();
    for entry in nodes.split([',', ' ', '\n', '\t', '\r']).filter(|entry| !entry.is_empty()) {
        let (id, host) = match entry.split_once('=') {
            Some((id, host)) => (id.trim().parse().ok(), host.trim()),
            None => (u32::try_from(members.len() + 1).ok(), entry),
        };
        let id = id.and_then(NodeId::new);
        let id =
            id.ok_or_else(|| wrong("QUORATE_NODES", format!("`{entry}` does not begin with an id above 0")))?;
        let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.parse::<IpAddr>().is_err() && (host.is_empty() || !host.chars().all(of_name)) {
            let what =
                format!("`{host}` is not a name or an address; separate nodes by commas, without ports");
            return Err(wrong("QUORATE_NODES", what));
        }
        members.push((id, host));
    }
    let is_own = |(id, host): &(NodeId, &str)| {
        let first_label = host.split('.').next().filter(|_| host.parse::<IpAddr>().is_err());
        *host == own || first_label == Some(own) || own.parse() == Ok(id.get())
    };
    let mine: Vec<_> = members.iter().filter(|entry| is_own(entry)).collect();
    let &[&(id, host)] = &mine[..] else {
        let what = format!("`{own}` is not exactly one of the nodes in QUORATE_NODES={nodes}");
        return Err(wrong("QUORATE_NODE", what));
    };
    let others_are_elsewhere = members.iter().any(|(other, host)| {
        *other != id && host.parse().map_or(*host != "localhost", |address: IpAddr| !address.is_loopback())
    });
    let address: IpAddr = match variable("QUORATE_ADDRESS") {
        Some(text) => text
            .trim()
            .parse()
            .map_err(|_| wrong("QUORATE_ADDRESS", format!("`{text}` is not an address, such as 10.0.0.1")))?,
        None => host.parse().ok().or_else(|| resolve(host).first().copied()).ok_or_else(|| {
            wrong(
                "QUORATE_ADDRESS",
                format!("not set, and this host cannot look up its own name `{host}`; set it"),
            )
        })?,
    };
    if host.parse().is_ok_and(|listed: IpAddr| listed != address) {
        let what =
            format!("{address} is not this node's address in QUORATE_NODES, {host}; correct one of them");
        return Err(wrong("QUORATE_ADDRESS", what));
    }
    if address.is_loopback() && others_are_elsewhere {
        let what = format!("{address} cannot be reached by the other nodes; set it to this host's address");
        return Err(wrong("QUORATE_ADDRESS", what));
    }

    let mut config = Config::new(id);
    config.name = own.to_owned();
    config.cluster_name = Some(cluster.into());
    config.network.transport = TransportKind::Unicast;
    config.network.bind = Some(address);
    config.network.port = Some(number("QUORATE_PORT", 5405)?);
    config.nodes = members
        .iter()
        .map(|&(node, host)| match host.parse() {
            _ if node == id => Member::new(id, address).named(own),
            Ok(address) => Member::new(node, address),
            Err(_) => Member::at_host(node, host).named(host.split('.').next().unwrap_or(host)),
        })
        .collect();
    if variable("QUORATE_TOKEN").is_some() {
        let token = Duration::from_millis(number("QUORATE_TOKEN", 1000)?.into());
        config.totem = TotemConfig::for_token(token);
    }
    config.check().map_err(|error| wrong("the variables QUORATE_*", error.to_string()))?;
    Ok(config)
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

    fn from(variables: &[(&str, &str)]) -> Result<Config, EnvError> {
        let found = |name: &str| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, text)| (*text).to_owned())
        };
        from_variables(found, |_| Vec::new())
    }

    const PODS: [(&str, &str); 4] = [
        ("QUORATE_CLUSTER", "jobs"),
        ("QUORATE_NODES", "jobs-0.jobs, jobs-1.jobs, 7=jobs-2.jobs"),
        ("QUORATE_NODE", "jobs-1"),
        ("QUORATE_ADDRESS", "10.1.0.7"),
    ];

    #[test]
    fn a_container_is_configured_by_its_environment() {
        let config = from(&PODS).unwrap();
        assert_eq!((config.node.get(), config.name.as_str(), config.port()), (2, "jobs-1", 5405));
        assert_eq!(config.bind().to_string(), "10.1.0.7");
        assert_eq!(config.expected_votes(), Some(3));
        let nodes: Vec<_> = config.nodes.iter().map(|node| (node.id.get(), node.host.as_deref())).collect();
        assert_eq!(nodes, [(1, Some("jobs-0.jobs")), (2, None), (7, Some("jobs-2.jobs"))]);
        let nodes = [("QUORATE_CLUSTER", "x"), ("QUORATE_NODES", "10.0.0.1 10.0.0.2"), ("QUORATE_NODE", "2")];
        assert_eq!(from(&nodes).unwrap().bind().to_string(), "10.0.0.2");
        let lines: String = (1..=10).map(|n| format!("10.0.0.{n}\n")).collect();
        let nodes = [("QUORATE_CLUSTER", "x"), ("QUORATE_NODES", &lines), ("QUORATE_NODE", "10")];
        assert_eq!(from(&nodes).unwrap().bind().to_string(), "10.0.0.10", "an id, and not a first label");
    }

    #[test]
    fn a_variable_that_is_missing_or_wrong_is_named() {
        let error = |at: usize, variable: (&'static str, &'static str)| {
            let mut variables = PODS;
            variables[at] = variable;
            from(&variables).unwrap_err().to_string()
        };
        let missing = "QUORATE_CLUSTER: not set; write for example QUORATE_CLUSTER=jobs";
        assert_eq!(error(0, ("", "")), missing);
        assert!(
            error(1, ("QUORATE_NODES", "0=a,b"))
                .starts_with("QUORATE_NODES: `0=a` does not begin with an id")
        );
        assert!(error(2, ("QUORATE_NODE", "jobs-9")).contains("`jobs-9` is not exactly one of the nodes"));
        assert!(error(3, ("", "")).contains("this host cannot look up its own name `jobs-1.jobs`"));
        assert!(error(3, ("QUORATE_ADDRESS", "jobs")).contains("`jobs` is not an address"));
        assert!(error(0, ("QUORATE_PORT", "no")).starts_with("QUORATE_CLUSTER"));
        for nodes in ["jobs-0:5405,jobs-1", "jobs-0;jobs-1", "=jobs-0"] {
            assert!(error(1, ("QUORATE_NODES", nodes)).starts_with("QUORATE_NODES: `"), "{nodes}");
        }
        assert!(error(3, ("QUORATE_ADDRESS", "127.0.1.1")).contains("cannot be reached by the other nodes"));
        let contradiction = [PODS[0], ("QUORATE_NODES", "10.0.0.1,10.0.0.2"), ("QUORATE_NODE", "2"), PODS[3]];
        let error = from(&contradiction).unwrap_err().to_string();
        assert!(error.starts_with("QUORATE_ADDRESS: 10.1.0.7 is not this node's address"), "{error}");
        let variables = [PODS, [PODS[0], PODS[1], PODS[2], ("QUORATE_TOKEN", "5")]].concat();
        let error = from(&variables).unwrap_err().to_string();
        assert!(error.starts_with("the variables QUORATE_*: ") && error.contains("token"), "{error}");
    }

    #[test]
    fn this_host_has_a_name_and_a_loopback_address() {
        let host = this_host().unwrap();
        assert!(!host.name.is_empty());
        assert!(host.has([127, 0, 0, 1].into()));
    }
}
