//! The ring's interface section, this node's address on it, the group and the port.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::grammar::Entry;
use super::nodes::Listed;
use super::reader::Reader;
use super::{Interface, NetworkConfig, Problem, Source, TransportKind, defaults};

const BINDNETADDR: &str = "totem.interface.bindnetaddr";

impl<'a> Reader<'a> {
    /// Returns the section of the ring's interface. Only one ring is supported, and further ones
    /// are ignored with a warning. corosync 3 takes every `interface` without `linknumber` for link
    /// 0, and the last one wins, so a file with two rings has another meaning there.
    pub(super) fn interface_section(&mut self) -> Option<usize> {
        const PATH: &str = "totem.interface";
        let document = self.document;
        let mut rings = Vec::new();
        for (index, section) in
            document.sections.iter().enumerate().filter(|(_, section)| section.path == PATH)
        {
            let mut number = |path| {
                self.value_within(index, path, |reader, entry| reader.number(entry, 0..=u8::MAX))
                    .map(|(number, _)| number)
            };
            let (link, ring) = (number("totem.interface.linknumber"), number("totem.interface.ringnumber"));
            if let Some(number @ 1..) = link {
                let text = format!(
                    "interface of link {number}: ignored, because there is only link 0; corosync would not \
                     start with an address on it"
                );
                self.warn(Some(section.line), text);
                self.pass_over(index);
            } else {
                rings.push((link.or(ring).unwrap_or(0), index));
            }
        }
        rings.sort_unstable();
        for pair in rings.windows(2) {
            let [(number, first), (other, second)] = [pair[0], pair[1]];
            let (first, second) = (document.sections[first].line, document.sections[second].line);
            if number == other {
                let which = format!(" of ring {number}");
                let first = self.place(Some(first));
                self.error(Some(second), Problem::DuplicateSection { path: PATH, which, first });
            }
        }
        // corosync 3 merges the sections, and the last value of each key counts.
        let counting = |path: &str| document.entries.iter().rfind(|entry| entry.path == path);
        let differs = |path: &&str| {
            rings.first().is_some_and(|&(_, ring)| counting(path).is_some_and(|e| e.section != Some(ring)))
        };
        let theirs: Vec<_> = ["mcastaddr", "mcastport", "ttl"]
            .into_iter()
            .filter(|key| differs(&format!("{PATH}.{key}").as_str()))
            .filter_map(|key| Some(format!("{key} {}", counting(&format!("{PATH}.{key}"))?.value)))
            .collect();
        for &(number, index) in rings.iter().skip(1) {
            let corosync = if theirs.is_empty() {
                String::new()
            } else {
                format!(
                    "; corosync 3 ignores ringnumber and uses the last value of each key: {}",
                    theirs.join(", ")
                )
            };
            let text = format!(
                "interface of ring {number}: ignored, because redundant rings are not supported{corosync}"
            );
            self.warn(Some(document.sections[index].line), text);
            self.pass_over(index);
        }
        rings.first().map(|&(_, index)| index)
    }

    /// Returns this node's own address: that of the node list, else the one on the interface that
    /// `bindnetaddr` refers to. Returns `None` if the address is not known.
    pub(super) fn bind(
        &mut self,
        interface: Option<usize>,
        local: Option<&Listed>,
        transport: TransportKind,
    ) -> Option<IpAddr> {
        let bindnetaddr = interface.and_then(|section| self.take_within(section, BINDNETADDR));
        if let Some(listed) = local {
            if let Some(entry) = bindnetaddr {
                let text =
                    "totem.interface.bindnetaddr: ignored in favour of the node list's ring0_addr; remove it";
                self.warn(Some(entry.line), text);
            }
            let address = listed.address;
            let local = transport == TransportKind::Local && address.is_loopback();
            let source = match self.host.at(address) {
                Some(Interface { name, .. }) => format!("this node's ring0_addr, on interface {name}"),
                None if local || self.host.is_unknown() => "this node's ring0_addr".to_owned(),
                None => {
                    let text = format!(
                        "no interface has this node's address {address}, so the node waits for it; bring the \
                         interface up, or correct ring0_addr"
                    );
                    self.warn(Some(listed.line), text);
                    "this node's ring0_addr, which no interface has".to_owned()
                }
            };
            self.show(BINDNETADDR, address, "", Source::derived(source));
            return Some(address);
        }

        let Some(entry) = bindnetaddr else {
            let advice = "add the ring's network to section totem { interface { } }, such as \
                          `bindnetaddr: 192.168.1.0`, or add a node list";
            let line = interface.map(|section| self.document.sections[section].line);
            self.lack("nodelist", line, Problem::Missing { key: BINDNETADDR, advice });
            return None;
        };
        let Ok(wanted) = entry.value.parse() else {
            let expected = "the address or network of one of this host's interfaces, such as 192.168.1.0";
            self.not_one_of(entry, expected);
            return None;
        };
        let (address, name) = self.own_address(BINDNETADDR, wanted, entry.line, transport)?;
        self.warn_of_choice(wanted, address, entry.line);
        let source = if wanted == address {
            self.line(entry)
        } else {
            Source::derived(format!("{wanted} ({}), the network of {name}", self.place(Some(entry.line))))
        };
        self.show(BINDNETADDR, IpAddr::V4(address), "", source);
        Some(address.into())
    }

    /// Warns if `bindnetaddr` could refer to another address of this host, or refers to one that
    /// this host does not have. The node's id is derived from the address.
    fn warn_of_choice(&mut self, wanted: IpAddr, address: Ipv4Addr, line: u32) {
        let chosen = IpAddr::V4(address);
        let Some(interface) = self.host.at(chosen).filter(|_| chosen != wanted) else { return };
        let others = self.host.in_network_of(wanted).filter(|other| other.address != chosen);
        let others = others.map(|other| other.address.to_string()).collect::<Vec<_>>().join(", ");
        let text = if !interface.is_network(wanted) {
            format!(
                "bindnetaddr {wanted} is not an address of this host; the node uses {interface} of that network"
            )
        } else if !others.is_empty() {
            format!(
                "bindnetaddr {wanted} is the network of several addresses of this host; the node uses \
                 {interface}, not {others}"
            )
        } else {
            return;
        };
        self.warn(
            Some(line),
            format!("{text}; write the exact address, because the node's id is derived from it"),
        );
    }

    /// Returns the address that `wanted` refers to on this host, and the name of its interface.
    fn own_address(
        &mut self,
        key: &'static str,
        wanted: IpAddr,
        line: u32,
        transport: TransportKind,
    ) -> Option<(Ipv4Addr, String)> {
        if let IpAddr::V4(address) = wanted {
            // Each node on one host has a loopback address. Only the first of these is in an
            // interface's list.
            let is_network = address.octets() == [127, 0, 0, 0];
            if transport == TransportKind::Local && address.is_loopback() && !is_network {
                return Some((address, "lo".to_owned()));
            }
            if self.host.is_unknown() {
                return Some((address, "unknown".to_owned()));
            }
        }
        let problem = match self.host.interface(wanted) {
            Some(Interface { address: IpAddr::V4(address), name, .. }) => {
                return Some((*address, name.clone()));
            }
            Some(_) => {
                let (key, value) = (key.to_owned(), wanted.to_string());
                let advice = "write an IPv4 address, or a node list with the IPv6 addresses";
                Problem::Unsupported { key, value, advice }
            }
            None => {
                let is_v4 = |interface: &&Interface| interface.address.is_ipv4();
                let present = self.host.interfaces.iter().filter(is_v4).cloned().collect();
                Problem::NoInterface { key, wanted, present }
            }
        };
        self.error(Some(line), problem);
        None
    }

    /// Returns the cluster's name.
    pub(super) fn cluster_name(&mut self) -> Option<OsString> {
        const KEY: &str = "totem.cluster_name";
        let entry = self.take(KEY)?;
        let mut shown = self.text(entry);
        if shown.as_bytes() != entry.bytes {
            let text = format!("{KEY} is not UTF-8; its bytes determine the group, as in corosync");
            self.warn(Some(entry.line), text);
            // Names that differ must look different.
            shown = entry.bytes.escape_ascii().to_string();
        }
        self.show(KEY, shown.as_str(), "", self.line(entry));
        Some(OsString::from_vec(entry.bytes.to_vec()))
    }

    /// Returns the addresses and ports that datagrams use.
    pub(super) fn network(
        &mut self,
        interface: Option<usize>,
        transport: TransportKind,
        bind: Option<IpAddr>,
        cluster_name: Option<&OsStr>,
    ) -> NetworkConfig {
        const MCASTADDR: &str = "totem.interface.mcastaddr";
        const MCASTPORT: &str = "totem.interface.mcastport";
        const TTL: &str = "totem.interface.ttl";
        let mut take = |path| interface.and_then(|section| self.take_within(section, path));
        let (broadcast, mcastaddr) = (take("totem.interface.broadcast"), take(MCASTADDR));
        let is_broadcast = broadcast.filter(|entry| entry.value == "yes");
        if let Some(entry) = is_broadcast {
            self.unsupported(entry, "remove it and set mcastaddr on all nodes");
        }

        let group = match (mcastaddr, cluster_name) {
            (given, _) if transport == TransportKind::Unicast => {
                if let Some(entry) = given {
                    self.warn(Some(entry.line), format!("{MCASTADDR}: ignored, transport udpu has no group"));
                }
                None
            }
            (Some(entry), _) => {
                let group: Option<IpAddr> = entry.value.parse().ok();
                match group {
                    Some(group) => self.show(MCASTADDR, group, "", self.line(entry)),
                    None => self.not_one_of(entry, "a multicast address, such as 239.192.0.1"),
                }
                group
            }
            (None, Some(name)) => {
                let group: IpAddr = match bind {
                    Some(IpAddr::V6(_)) => defaults::group_v6(name.as_bytes()).into(),
                    _ => defaults::group(name.as_bytes()).into(),
                };
                self.show(MCASTADDR, group, "", Source::derived("totem.cluster_name"));
                Some(group)
            }
            (None, None) => {
                let advice = "add `cluster_name: NAME` to section totem, or `mcastaddr` to \
                              totem { interface { } }";
                if is_broadcast.is_none() {
                    self.lack(MCASTADDR, None, Problem::Missing { key: MCASTADDR, advice });
                }
                None
            }
        };

        // As with the timeouts, 0 selects the default.
        let port =
            self.interface_number(interface, MCASTPORT, |reader, entry| reader.number(entry, 0..=u16::MAX));
        let (port, source) = match port {
            Some((port @ 1.., entry)) => (port, self.line(entry)),
            _ => (defaults::PORT, Source::Default),
        };
        self.show(MCASTPORT, u32::from(port), "", source);

        let ttl = self.interface_number(interface, TTL, |reader, entry| reader.number(entry, 0..=u8::MAX));
        let (ttl, source) = match ttl {
            Some((ttl, entry)) => (ttl, self.line(entry)),
            None => (defaults::TTL, Source::Default),
        };
        self.show(TTL, u32::from(ttl), "hops", source);
        NetworkConfig { transport, bind, group, port: Some(port), ttl }
    }

    fn interface_number<T>(
        &mut self,
        interface: Option<usize>,
        path: &str,
        read: impl FnMut(&mut Self, &'a Entry) -> Option<T>,
    ) -> Option<(T, &'a Entry)> {
        self.value_within(interface?, path, read)
    }
}
