//! The hosts of measured members: network namespaces, or this host.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Failure;

/// Hosts for members, removed on drop.
pub(crate) struct Ground {
    /// The prefix of the hosts' names; `None` if all members run on this host, over its loopback
    /// interface.
    namespaces: Option<String>,
    nodes: u32,
    port: u16,
}

/// Lines of the totem section beyond the required ones, each as `key: value`.
pub(crate) type Options = [String];

impl Ground {
    /// Uses this host. This needs no root, and members communicate over the loopback interface.
    pub(crate) fn loopback(nodes: u32) -> Result<Self, Failure> {
        let port = (0..100).find_map(|_| {
            let any = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
            let port = any.ok()?.port();
            let free = |node| {
                [port, port - 1].iter().all(|&port| UdpSocket::bind((loopback_address(node), port)).is_ok())
            };
            (1..=nodes).all(free).then_some(port)
        });
        let port = port.ok_or_else(|| Failure::new("no free port was found on the loopback interface"))?;
        Ok(Self { namespaces: None, nodes, port })
    }

    /// Makes a network namespace for each member, on one bridge. This needs root and iproute2.
    pub(crate) fn namespaces(nodes: u32) -> Result<Self, Failure> {
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::new("hosts of their own need root: run it as root, or with --loopback"));
        }
        let prefix = format!("qb-{}-", std::process::id());
        // From here on, dropping `ground` removes everything made.
        let ground = Self { namespaces: Some(prefix), nodes, port: 5405 };
        let switch = ground.host("switch");
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"])?;
        ip(&["-n", &switch, "link", "set", "br0", "up"])?;
        for node in 1..=nodes {
            let (host, port) = (ground.host(node), format!("v{node}"));
            let address = format!("{}/16", ground.address(node));
            ip(&["netns", "add", &host])?;
            ip(&["-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "e0", "netns", &host])?;
            ip(&["-n", &host, "link", "set", "e0", "address", &hardware_address(node)])?;
            ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"])?;
            ip(&["-n", &host, "address", "add", &address, "dev", "e0"])?;
            ip(&["-n", &host, "link", "set", "lo", "up"])?;
            ip(&["-n", &host, "link", "set", "e0", "up"])?;
            ip(&["-n", &host, "route", "add", "224.0.0.0/4", "dev", "e0"])?;
            ground.introduce(node)?;
        }
        Ok(ground)
    }

    /// Gives a host the hardware addresses of all others.
    ///
    /// Otherwise the hosts resolve them. All hosts on this machine share one neighbour table
    /// (sysctl net.ipv4.neigh.default.gc_thresh3, usually 1024), which forty hosts fill. Sending
    /// fails once it is full.
    fn introduce(&self, node: u32) -> Result<(), Failure> {
        let others = (1..=self.nodes).filter(|&other| other != node);
        let lines = others.map(|other| {
            let (address, hardware) = (self.address(other), hardware_address(other));
            format!("neighbour replace {address} lladdr {hardware} dev e0 nud permanent\n")
        });
        ip_all(&["-n", &self.host(node), "-batch", "-"], &lines.collect::<String>())
    }

    pub(crate) fn name(&self) -> &'static str {
        if self.namespaces.is_some() { "namespaces" } else { "loopback" }
    }

    /// Connects a host to the others, or cuts it off.
    pub(crate) fn plug(&self, node: u32, up: bool) -> Result<(), Failure> {
        let state = if up { "up" } else { "down" };
        ip(&["-n", &self.host("switch"), "link", "set", &format!("v{node}"), state])
    }

    /// Returns a command that runs on the host of this node.
    pub(crate) fn command(&self, node: u32, program: &Path) -> Command {
        match self.namespaces {
            None => Command::new(program),
            Some(_) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &self.host(node)]).arg(program);
                command
            }
        }
    }

    /// Returns the configuration that all members read.
    pub(crate) fn corosync_conf(&self, totem: &Options) -> String {
        let [high, low] = self.port.to_be_bytes();
        let transport = if self.namespaces.is_some() { "udp" } else { "local" };
        let options: String = totem.iter().map(|option| format!("\t{option}\n")).collect();
        let mut conf = format!(
            "totem {{\n\tversion: 2\n\tcluster_name: bench\n\ttransport: {transport}\n\tsecauth: off\n{options}\
             \tinterface {{\n\t\tmcastaddr: 239.255.{high}.{low}\n\t\tmcastport: {}\n\t}}\n}}\nnodelist {{\n",
            self.port
        );
        for node in 1..=self.nodes {
            // Writing to a string cannot fail.
            let _ = writeln!(
                conf,
                "\tnode {{\n\t\tnodeid: {node}\n\t\tname: n{node}\n\t\tring0_addr: {}\n\t}}",
                self.address(node)
            );
        }
        conf + "}\nquorum {\n\tprovider: corosync_votequorum\n}\n"
    }

    fn address(&self, node: u32) -> Ipv4Addr {
        match self.namespaces {
            None => loopback_address(node),
            Some(_) => Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 77, 0, 0)) + node),
        }
    }

    fn host(&self, host: impl std::fmt::Display) -> String {
        format!("{}{host}", self.namespaces.as_deref().unwrap_or_default())
    }
}

fn loopback_address(node: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 77, 0, 0)) + node)
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.namespaces.is_none() {
            return;
        }
        for host in (1..=self.nodes).map(|node| self.host(node)).chain([self.host("switch")]) {
            if fs::exists(format!("/run/netns/{host}")).unwrap_or_default() {
                let _ = ip(&["netns", "delete", &host]);
            }
        }
    }
}

/// Returns a locally administered hardware address.
fn hardware_address(node: u32) -> String {
    let [a, b, c, d] = node.to_be_bytes();
    format!("02:4d:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn ip(arguments: &[&str]) -> Result<(), Failure> {
    ip_all(arguments, "")
}

/// Runs `ip` with `lines` as its input.
fn ip_all(arguments: &[&str], lines: &str) -> Result<(), Failure> {
    let run = || {
        let mut command = Command::new("ip");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn()?;
        // `ip` reads its whole input before it prints anything except errors. If it ends early, its
        // output has the reason.
        let _ = process.stdin.take().map(|mut stdin| stdin.write_all(lines.as_bytes()));
        process.wait_with_output()
    };
    let output =
        run().map_err(|error| Failure::new(format!("cannot run `ip`: {error}: install iproute2")))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("`ip {}` failed: {}", arguments.join(" "), why.trim())))
}
