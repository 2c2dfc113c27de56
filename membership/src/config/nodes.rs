//! The node list, and which of its nodes this one is.

use std::net::{IpAddr, Ipv4Addr};

use super::reader::Reader;
use super::{Config, ConfigError, Host, Member, Problem, Source, TransportKind, defaults};
use crate::NodeId;

const RING0_ADDR: &str = "nodelist.node.ring0_addr";

/// A listed node as the file has it.
pub(super) struct Listed {
    pub(super) member: Member,
    /// How much the operator wants it to be DC.
    pub(super) dc_priority: u32,
    /// Where its section starts.
    pub(super) line: u32,
    /// `ring0_addr` as written, perhaps a name.
    pub(super) ring0_addr: String,
}

impl Listed {
    /// What the user may call it.
    fn label(&self) -> &str {
        self.member.name.as_deref().unwrap_or(&self.ring0_addr)
    }
}

impl Reader<'_> {
    /// The node list, in the order of the file.
    pub(super) fn nodes(
        &mut self,
        transport: TransportKind,
        clear_high_bit: bool,
    ) -> Result<Vec<Listed>, ConfigError> {
        let document = self.document;
        let sections =
            |path| document.sections.iter().enumerate().filter(move |(_, section)| section.path == path);
        if let [(_, first), (_, second), ..] = sections("nodelist").collect::<Vec<_>>()[..] {
            let first = self.place(Some(first.line));
            let problem = Problem::DuplicateSection { path: "nodelist", which: String::new(), first };
            return Err(self.error(Some(second.line), problem));
        }
        // Before each of them is compared with each other.
        if let Some((_, section)) = sections("nodelist.node").nth(Config::MAX_NODES) {
            let rule = format!("have at most {}", Config::MAX_NODES);
            let value = format!("{} nodes", sections("nodelist.node").count());
            let problem = Problem::Broken { key: "nodelist", value, rule, other: None };
            return Err(self.error(Some(section.line), problem));
        }
        let mut nodes: Vec<Listed> = Vec::new();
        for (position, (index, section)) in sections("nodelist.node").enumerate() {
            let member = self.node(position, index, transport, clear_high_bit)?;
            if let Some(first) = nodes.iter().find(|other| other.member.id == member.member.id) {
                let (id, first) = (member.member.id, Some(self.place(Some(first.line))));
                return Err(self.error(Some(section.line), Problem::DuplicateNode { id, first }));
            }
            nodes.push(member);
        }
        if nodes.is_empty() {
            self.warn(
                None,
                "there is no node list, which corosync 3 would refuse: node ids are made of addresses, and peers are \
                 learnt from what they send",
            );
        }
        Ok(nodes)
    }

    /// The node of this section, `position` counting from 0.
    fn node(
        &mut self,
        position: usize,
        section: usize,
        transport: TransportKind,
        clear_high_bit: bool,
    ) -> Result<Listed, ConfigError> {
        let line = self.document.sections[section].line;
        let key = |name: &str| format!("nodelist.node.{position}.{name}");

        let Some(ring0_addr) = self.take_within(section, RING0_ADDR) else {
            let advice = "write the node's address";
            return Err(self.error(Some(line), Problem::Missing { key: RING0_ADDR, advice }));
        };
        let (address, source) = match ring0_addr.value.parse() {
            Ok(IpAddr::V4(address)) => (address, self.line(ring0_addr)),
            Ok(IpAddr::V6(_)) => return Err(self.unsupported(ring0_addr, "write the node's IPv4 address")),
            Err(_) => {
                let name = ring0_addr.value.clone();
                let source = format!("the host name {name} ({})", self.place(Some(ring0_addr.line)));
                let Some(address) = first_ipv4(self.host, &name) else {
                    return Err(self.refuse(ring0_addr, Problem::Unresolvable { key: RING0_ADDR, name }));
                };
                (address, Source::derived(source))
            }
        };
        self.show(key("ring0_addr"), IpAddr::V4(address), "", source);

        let (id, source) = match self.take_within(section, "nodelist.node.nodeid") {
            Some(entry) => (NodeId::new(self.number(entry, 1..=u32::MAX)?), self.line(entry)),
            None => (defaults::node_id(address, clear_high_bit), Source::derived("ring0_addr")),
        };
        let id = id.ok_or_else(|| self.refuse(ring0_addr, no_id(RING0_ADDR, address)))?;
        self.show(key("nodeid"), id.get(), "", source);

        let name = match self.take_within(section, "nodelist.node.name") {
            Some(entry) => {
                self.show(key("name"), entry.value.as_str(), "", self.line(entry));
                Some(entry.value.clone())
            }
            // As Pacemaker has it: a node without a name is called by its address if that is a name.
            None => Some(&ring0_addr.value).filter(|address| address.parse::<IpAddr>().is_err()).cloned(),
        };

        let (votes, source) = match self.take_within(section, "nodelist.node.quorum_votes") {
            Some(entry) => (self.number(entry, 0..=u32::MAX)?, self.line(entry)),
            None => (1, Source::Default),
        };
        self.show(key("quorum_votes"), votes, "votes", source);

        let dc_priority = match self.take_within(section, "nodelist.node.dc_priority") {
            Some(entry) => {
                let priority = self.number(entry, 0..=u32::MAX)?;
                self.show(key("dc_priority"), priority, "", self.line(entry));
                priority
            }
            None => defaults::DC_PRIORITY,
        };

        let port = match self.take_within(section, "nodelist.node.port") {
            Some(entry) if transport == TransportKind::Local => {
                let port = self.number(entry, 2..=u16::MAX)?;
                self.show(key("port"), u32::from(port), "", self.line(entry));
                Some(port)
            }
            Some(entry) => {
                self.warn(Some(entry.line), "nodelist.node.port: ignored, it is for `transport: local` only");
                None
            }
            None => None,
        };
        let host = Some(&ring0_addr.value).filter(|address| address.parse::<IpAddr>().is_err()).cloned();
        let member = Member { id, name, address: address.into(), host, port, votes };
        Ok(Listed { member, dc_priority, line, ring0_addr: ring0_addr.value.clone() })
    }

    /// Which of the listed nodes this one is; `None` only without a list.
    pub(super) fn local<'n>(
        &self,
        nodes: &'n [Listed],
        transport: TransportKind,
    ) -> Result<Option<&'n Listed>, ConfigError> {
        let labels = || nodes.iter().map(Listed::label).collect::<Vec<_>>().join(", ");
        if nodes.is_empty() {
            return Ok(None);
        }
        let host = self.host;
        if let Some(name) = &self.overrides.name {
            let is_called = |listed: &&Listed| {
                listed.label() == name || listed.ring0_addr == *name || listed.member.id.to_string() == *name
            };
            let problem = || Problem::NoSuchNode { name: name.clone(), listed: labels() };
            return nodes.iter().find(is_called).map(Some).ok_or_else(|| self.error(None, problem()));
        }
        if let Some(listed) = find_by_name(nodes, &host.name) {
            return Ok(Some(listed));
        }
        let is_here = |listed: &&Listed| {
            let address = listed.member.address;
            host.has(address) || (transport == TransportKind::Local && address.is_loopback())
        };
        match nodes.iter().filter(is_here).collect::<Vec<_>>()[..] {
            [] => {}
            [_, _, ..] if transport == TransportKind::Local => {
                return Err(self.error(None, Problem::SeveralLocal { listed: labels() }));
            }
            [listed, ..] => return Ok(Some(listed)),
        }
        // What corosync tries last: a node whose name leads to an address of this host.
        let leads_here = |listed: &&Listed| {
            let name = listed.member.name.as_deref().unwrap_or_default();
            !name.is_empty() && (host.resolve)(name).into_iter().any(|address| host.has(address))
        };
        nodes.iter().find(leads_here).map(Some).ok_or_else(|| {
            let addresses =
                host.interfaces.iter().filter(|i| i.address.is_ipv4()).map(|i| i.address.to_string());
            let host = std::iter::once(host.name.clone()).chain(addresses).collect::<Vec<_>>().join(", ");
            self.error(None, Problem::NotListed { host, listed: labels() })
        })
    }

    /// This node's id and name.
    pub(super) fn identity(
        &mut self,
        local: Option<&Listed>,
        bind: Ipv4Addr,
        clear_high_bit: bool,
    ) -> Result<(NodeId, String), ConfigError> {
        let (id, id_source) = match local {
            Some(listed) => (listed.member.id, Source::derived("the node list")),
            None => {
                let id = defaults::node_id(bind, clear_high_bit)
                    .ok_or_else(|| self.error(None, no_id("totem.interface.bindnetaddr", bind)))?;
                let bits = if clear_high_bit { ", as 31 bits" } else { "" };
                (id, Source::derived(format!("the address {bind}{bits}")))
            }
        };
        let (name, name_source) =
            match (local.and_then(|listed| listed.member.name.as_ref()), &self.overrides.name) {
                (Some(name), _) => (name.clone(), Source::derived("the node list")),
                (None, Some(name)) if local.is_none() => (name.clone(), Source::CommandLine),
                (None, _) => (self.host.name.clone(), Source::derived("the host's name")),
            };
        self.show("node.id", id.get(), "", id_source);
        self.show("node.name", name.as_str(), "", name_source);
        Ok((id, name))
    }
}

/// The listed node with this host's name, by corosync's steps: the whole name, then without the last part of its
/// domain, and so on, then both without any domain. Only names are cut, never addresses.
fn find_by_name<'n>(nodes: &'n [Listed], host: &str) -> Option<&'n Listed> {
    let names = |listed: &'n Listed| {
        listed.member.name.iter().map(String::as_str).chain([listed.ring0_addr.as_str()])
    };
    let ends = host.rmatch_indices('.').map(|(end, _)| end);
    for candidate in std::iter::once(host.len()).chain(ends).map(|end| &host[..end]) {
        let found =
            nodes.iter().find(|listed| names(listed).any(|name| !name.is_empty() && name == candidate));
        if found.is_some() {
            return found;
        }
    }
    let short = first_part(host);
    nodes.iter().find(|listed| {
        names(listed)
            .any(|name| !short.is_empty() && name.parse::<IpAddr>().is_err() && first_part(name) == short)
    })
}

fn first_part(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

fn first_ipv4(host: &Host, name: &str) -> Option<Ipv4Addr> {
    (host.resolve)(name).into_iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    })
}

fn no_id(key: &'static str, address: Ipv4Addr) -> Problem {
    let rule = "give a node id other than 0; list the nodes, each with a nodeid".to_owned();
    Problem::Broken { key, value: address.to_string(), rule, other: None }
}
