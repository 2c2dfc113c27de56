//! The node list, and this node's entry in it.

use std::net::{IpAddr, Ipv4Addr};

use super::grammar::Entry;
use super::reader::Reader;
use super::spelling::{flaw, shown};
use super::{Config, Host, IpVersion, Member, Problem, Source, TransportKind, defaults};
use crate::NodeId;

const RING0_ADDR: &str = "nodelist.node.ring0_addr";
const NODEID: &str = "nodelist.node.nodeid";

const FIRST: NodeId = match NodeId::new(1) {
    Some(id) => id,
    None => unreachable!(),
};

/// A listed node, as written in the file.
pub(super) struct Listed {
    pub(super) member: Member,
    /// The operator's preference for this node as DC.
    pub(super) dc_priority: u32,
    /// The line where the node's section starts.
    pub(super) line: u32,
    /// `ring0_addr` as written, which may be a name.
    pub(super) ring0_addr: String,
    /// The address that `ring0_addr` is or resolves to.
    pub(super) address: IpAddr,
    /// Whether `ring0_addr` is the only key of the node's section.
    pub(super) has_address_only: bool,
}

impl Listed {
    /// Returns the name that the user probably uses for the node.
    fn label(&self) -> &str {
        self.member.name.as_deref().unwrap_or(&self.ring0_addr)
    }
}

impl Reader<'_> {
    /// Returns the node list, in the order of the file.
    pub(super) fn nodes(
        &mut self,
        transport: TransportKind,
        version: IpVersion,
        clear_high_bit: bool,
    ) -> Vec<Listed> {
        let document = self.document;
        let sections =
            |path| document.sections.iter().enumerate().filter(move |(_, section)| section.path == path);
        if let [(_, first), (_, second), ..] = sections("nodelist").collect::<Vec<_>>()[..] {
            let first = self.place(Some(first.line));
            let problem = Problem::DuplicateSection { path: "nodelist", which: String::new(), first };
            self.error(Some(second.line), problem);
        }
        // Checked first, because each node is compared with all others below.
        if let Some((_, section)) = sections("nodelist.node").nth(Config::MAX_NODES) {
            let rule = format!("have at most {}", Config::MAX_NODES);
            let value = format!("{} nodes", sections("nodelist.node").count());
            let problem = Problem::Broken { key: "nodelist", value, rule, other: None };
            self.error(Some(section.line), problem);
            self.doubt("nodelist");
        }
        let mut nodes: Vec<Listed> = Vec::new();
        for (position, (index, section)) in sections("nodelist.node").take(Config::MAX_NODES).enumerate() {
            let Some(listed) = self.node(position, index, transport, version, clear_high_bit) else {
                continue;
            };
            if let Some(first) = nodes.iter().find(|other| other.member.id == listed.member.id) {
                let (id, first) = (listed.member.id, Some(self.place(Some(first.line))));
                self.error(Some(section.line), Problem::DuplicateNode { id, first });
                self.doubt(NODEID);
            }
            let named = |listed: &Listed| listed.member.name.clone();
            if let Some(first) =
                nodes.iter().find(|other| named(other).is_some() && named(other) == named(&listed))
            {
                let text = format!(
                    "the name `{}` appears twice, first at {}; give each node a name of its own",
                    shown(listed.label()),
                    self.place(Some(first.line))
                );
                self.warn(Some(section.line), text);
            }
            let is_its_socket =
                |other: &&Listed| (other.address, other.member.port) == (listed.address, listed.member.port);
            if let Some(first) = nodes.iter().find(is_its_socket) {
                let (address, first) = (listed.member.address, self.place(Some(first.line)));
                self.error(Some(section.line), Problem::DuplicateAddress { address, first });
                self.doubt(RING0_ADDR);
            }
            nodes.push(listed);
        }
        if sections("nodelist.node").next().is_none() {
            self.warn_of_lack(
                "there is no node list, so node ids are derived from addresses and peers are learned from \
                 their messages; corosync 3 would not start without one",
            );
            if transport == TransportKind::Unicast {
                let advice = "transport udpu sends to its nodes: list all of them, each with its ring0_addr";
                self.lack("nodelist", None, Problem::Missing { key: "nodelist", advice });
            }
        }
        if transport != TransportKind::Local {
            self.refuse_loopback(&nodes);
        }
        nodes
    }

    /// Rejects loopback addresses, at which other hosts cannot reach a node.
    fn refuse_loopback(&mut self, nodes: &[Listed]) {
        let all = nodes.iter().all(|listed| listed.address.is_loopback());
        for listed in nodes.iter().filter(|listed| listed.address.is_loopback() && nodes.len() > 1) {
            let is_name = listed.ring0_addr.parse::<IpAddr>().is_err();
            let entry = self.document.entries.iter().find(|entry| {
                entry.path == RING0_ADDR && entry.value == listed.ring0_addr && entry.line > listed.line
            });
            let Some(entry) = entry.filter(|_| is_name || !all) else { continue };
            let advice = if is_name {
                format!(
                    "on this host it resolves to the loopback address {}, perhaps by /etc/hosts; write the \
                     node's address",
                    listed.address
                )
            } else {
                "its peers cannot reach it at a loopback address; write the node's address".to_owned()
            };
            self.advise(entry, advice);
        }
    }

    /// Returns the node of this section. `position` counts from 0.
    fn node(
        &mut self,
        position: usize,
        section: usize,
        transport: TransportKind,
        version: IpVersion,
        clear_high_bit: bool,
    ) -> Option<Listed> {
        let document = self.document;
        let line = document.sections[section].line;
        let key = |name: &str| format!("nodelist.node.{position}.{name}");

        let ring0_addr = self.take_within(section, RING0_ADDR);
        if ring0_addr.is_none() {
            self.lack(
                RING0_ADDR,
                Some(line),
                Problem::Missing { key: RING0_ADDR, advice: "write the node's address" },
            );
        }
        let address = ring0_addr.and_then(|entry| self.address(entry, &key("ring0_addr"), version));

        let nodeid = self.value_within(section, NODEID, |reader, entry| reader.number(entry, 1..=u32::MAX));
        let id = match nodeid {
            Some((id, entry)) => NodeId::new(id).map(|id| (id, self.line(entry))),
            None => address.zip(ring0_addr).and_then(|(address, entry)| {
                let id = derived_id(address, clear_high_bit);
                if id.is_none() {
                    self.refuse(entry, no_id(RING0_ADDR, address));
                }
                id.map(|id| (id, Source::derived("ring0_addr")))
            }),
        };
        if let Some((id, source)) = &id {
            self.show(key("nodeid"), id.get(), "", source.clone());
        }

        let name = match self.take_within(section, "nodelist.node.name") {
            Some(entry) => {
                let name = self.text(entry);
                if name.is_empty() {
                    self.refuse(
                        entry,
                        Problem::Missing { key: "nodelist.node.name", advice: "write the node's name" },
                    );
                }
                self.show(key("name"), name.as_str(), "", self.line(entry));
                Some(name)
            }
            // As in Pacemaker, a node without a name is called by its address if that is a name.
            None => ring0_addr
                .map(|entry| &entry.value)
                .filter(|address| address.parse::<IpAddr>().is_err())
                .cloned(),
        };

        let votes = self.value_within(section, "nodelist.node.quorum_votes", |reader, entry| {
            reader.number(entry, 0..=u32::MAX)
        });
        let (votes, source) = match votes {
            Some((votes, entry)) => {
                if votes == 0 {
                    let text = "nodelist.node.quorum_votes is 0: this node does not count for quorum";
                    self.warn(Some(entry.line), text);
                }
                (votes, self.line(entry))
            }
            None => (1, Source::Default),
        };
        self.show(key("quorum_votes"), votes, "votes", source);

        let dc_priority = self.value_within(section, "nodelist.node.dc_priority", |reader, entry| {
            reader.number(entry, 0..=u32::MAX)
        });
        if let Some((priority, entry)) = dc_priority {
            self.show(key("dc_priority"), priority, "", self.line(entry));
        }

        let port = match transport {
            TransportKind::Local => self.value_within(section, "nodelist.node.port", |reader, entry| {
                reader.number(entry, 2..=u16::MAX)
            }),
            TransportKind::Multicast | TransportKind::Unicast => {
                if let Some(entry) = self.take_within(section, "nodelist.node.port") {
                    let text = "nodelist.node.port: ignored, because it is for `transport: local` only";
                    self.warn(Some(entry.line), text);
                }
                None
            }
        };
        if let Some((port, entry)) = port {
            self.show(key("port"), u32::from(port), "", self.line(entry));
        }

        let (address, (id, _), ring0_addr) = (address?, id?, ring0_addr?.value.clone());
        let host = Some(&ring0_addr).filter(|address| address.parse::<IpAddr>().is_err()).cloned();
        let port = port.map(|(port, _)| port);
        Some(Listed {
            member: Member { id, name, address, host, port, votes },
            dc_priority: dc_priority.map_or(defaults::DC_PRIORITY, |(priority, _)| priority),
            line,
            ring0_addr,
            address,
            has_address_only: document
                .entries
                .iter()
                .all(|entry| entry.section != Some(section) || entry.path == RING0_ADDR),
        })
    }

    /// Returns the address that `ring0_addr` is or resolves to.
    fn address(&mut self, entry: &Entry, key: &str, version: IpVersion) -> Option<IpAddr> {
        let (address, source) = match entry.value.parse::<IpAddr>() {
            Ok(address) if version.allows(address) => (address, self.line(entry)),
            Ok(_) => {
                let advice = "totem.ip_version does not allow this address; change one of the two";
                self.advise(entry, advice.to_owned());
                return None;
            }
            Err(_) => {
                let name = entry.value.clone();
                let first_word = name.split(['/', ':', ' ', ',', ';']).next().unwrap_or_default();
                if flaw(&name).is_none() && first_word != name && first_word.parse::<Ipv4Addr>().is_ok() {
                    self.advise(entry, "write a single address, such as ".to_owned() + first_word);
                    return None;
                }
                let found = if flaw(&name).is_some() { None } else { resolved(self.host, &name, version) };
                let Some(address) = found else {
                    self.refuse(
                        entry,
                        Problem::Unresolvable { key: RING0_ADDR, name, version: version.named() },
                    );
                    return None;
                };
                if name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
                    let text = format!(
                        "{RING0_ADDR} is `{name}`, which is {address}, because a leading 0 makes a number \
                         octal; write {address}"
                    );
                    self.warn(Some(entry.line), text);
                }
                (address, Source::derived(format!("the host name {name} ({})", self.place(Some(entry.line)))))
            }
        };
        self.show(key, address, "", source);
        Some(address)
    }

    /// Returns this node's entry in the list. Returns `None` without a list, or if the entry cannot
    /// be determined.
    pub(super) fn local<'n>(&mut self, nodes: &'n [Listed], transport: TransportKind) -> Option<&'n Listed> {
        let first = nodes.first()?;
        match self.find_local(first, nodes, transport) {
            Ok(listed) => Some(listed),
            Err(problem) => {
                self.lack("nodelist", None, problem);
                None
            }
        }
    }

    fn find_local<'n>(
        &self,
        first: &'n Listed,
        nodes: &'n [Listed],
        transport: TransportKind,
    ) -> Result<&'n Listed, Problem> {
        let labels = || nodes.iter().map(Listed::label).collect::<Vec<_>>().join(", ");
        let host = self.host;
        if let Some(name) = &self.overrides.name {
            let is_called = |listed: &&Listed| {
                listed.label() == name || listed.ring0_addr == *name || listed.member.id.to_string() == *name
            };
            let problem = || Problem::NoSuchNode { name: name.clone(), listed: labels() };
            return nodes.iter().find(is_called).ok_or_else(problem);
        }
        if host.is_unknown() {
            return Ok(first);
        }
        if let Some(listed) = find_by_name(nodes, &host.name) {
            return Ok(listed);
        }
        let is_here = |listed: &&Listed| {
            let address = listed.member.address;
            host.has(address) || (transport == TransportKind::Local && address.is_loopback())
        };
        match nodes.iter().filter(is_here).collect::<Vec<_>>()[..] {
            [] => {}
            [_, _, ..] if transport == TransportKind::Local => {
                return Err(Problem::SeveralLocal { listed: labels() });
            }
            [listed, ..] => return Ok(listed),
        }
        // corosync's last attempt: a node whose name resolves to an address of this host.
        let leads_here = |listed: &&Listed| {
            let name = listed.member.name.as_deref().unwrap_or_default();
            !name.is_empty() && (host.resolve)(name).into_iter().any(|address| host.has(address))
        };
        nodes.iter().find(leads_here).ok_or_else(|| {
            let addresses =
                host.interfaces.iter().filter(|i| i.address.is_ipv4()).map(|i| i.address.to_string());
            let host = std::iter::once(host.name.clone()).chain(addresses).collect::<Vec<_>>().join(", ");
            Problem::NotListed { host, listed: labels() }
        })
    }

    /// Returns this node's id and name.
    pub(super) fn identity(
        &mut self,
        local: Option<&Listed>,
        bind: Option<IpAddr>,
        clear_high_bit: bool,
    ) -> (NodeId, String) {
        let id = match (local, bind) {
            (Some(listed), _) => Some((listed.member.id, Source::derived("the node list"))),
            (None, Some(bind)) => {
                let id = derived_id(bind, clear_high_bit);
                if id.is_none() {
                    self.error(None, no_id("totem.interface.bindnetaddr", bind));
                }
                let bits = if clear_high_bit { ", as 31 bits" } else { "" };
                id.map(|id| (id, Source::derived(format!("the address {bind}{bits}"))))
            }
            (None, None) => None,
        };
        let (name, name_source) =
            match (local.and_then(|listed| listed.member.name.as_ref()), &self.overrides.name) {
                (Some(name), _) => (name.clone(), Source::derived("the node list")),
                (None, Some(name)) if local.is_none() => (name.clone(), Source::CommandLine),
                (None, _) => (self.host.name.clone(), Source::derived("the host's name")),
            };
        let Some((id, id_source)) = id else {
            // Errors have been reported, so any id serves for the remaining checks.
            self.doubt("this node's id");
            return (FIRST, name);
        };
        self.show("node.id", id.get(), "", id_source);
        self.show("node.name", name.as_str(), "", name_source);
        (id, name)
    }
}

/// Returns the listed node with this host's name. As in corosync, the host's whole name is tried
/// first, then without the last part of its domain, and so on, and at last both names without any
/// domain. Only names are shortened, never addresses.
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

/// Returns the address of a name, of the first wanted version that has one.
fn resolved(host: &Host, name: &str, version: IpVersion) -> Option<IpAddr> {
    let found = (host.resolve)(name);
    let first_of = |v4: &bool| found.iter().find(|address| address.is_ipv4() == *v4).copied();
    version.v4_in_order().iter().find_map(first_of)
}

/// Returns the id that is made of an address. There is none for IPv6.
fn derived_id(address: IpAddr, clear_high_bit: bool) -> Option<NodeId> {
    match address {
        IpAddr::V4(address) => defaults::node_id(address, clear_high_bit),
        IpAddr::V6(_) => None,
    }
}

fn no_id(key: &'static str, address: IpAddr) -> Problem {
    let rule = match address {
        IpAddr::V4(_) => "give a node id other than 0; add a node list with a nodeid for each node",
        IpAddr::V6(_) => {
            "have a nodeid beside it, because none can be derived from IPv6; write one for each node"
        }
    };
    let rule = rule.to_owned();
    Problem::Broken { key, value: address.to_string(), rule, other: None }
}
