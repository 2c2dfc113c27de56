//! The ring's interface: its section, this node's address on it, the group and the port.

use std::net::{IpAddr, Ipv4Addr};

use super::nodes::Listed;
use super::reader::Reader;
use super::{ConfigError, Interface, NetworkConfig, Problem, Source, TransportKind, defaults};

const BINDNETADDR: &str = "totem.interface.bindnetaddr";

impl Reader<'_> {
    /// The section of the ring's interface. There is one ring: a second one is left aside with a warning. corosync 3
    /// takes any `interface` without `linknumber` for link 0, the last one winning: nobody means that.
    pub(super) fn interface_section(&mut self) -> Result<Option<usize>, ConfigError> {
        const PATH: &str = "totem.interface";
        let document = self.document;
        let mut rings = Vec::new();
        for (index, section) in
            document.sections.iter().enumerate().filter(|(_, section)| section.path == PATH)
        {
            let link = self.take_within(index, "totem.interface.linknumber");
            let ring = self.take_within(index, "totem.interface.ringnumber");
            let number = link.or(ring).map_or(Ok(0), |entry| self.number(entry, 0..=u8::MAX))?;
            if link.is_some() && number != 0 {
                let text = format!("interface of link {number}: ignored, there is one link, number 0");
                self.warn(Some(section.line), text);
                self.pass_over(index);
            } else {
                rings.push((number, index));
            }
        }
        rings.sort_unstable();
        for pair in rings.windows(2) {
            let [(number, first), (other, second)] = [pair[0], pair[1]];
            let (first, second) = (document.sections[first].line, document.sections[second].line);
            if number == other {
                let which = format!(" of ring {number}");
                let first = self.place(Some(first));
                return Err(self.error(Some(second), Problem::DuplicateSection { path: PATH, which, first }));
            }
        }
        for &(number, index) in rings.iter().skip(1) {
            let text = format!("interface of ring {number}: ignored, there are no redundant rings");
            self.warn(Some(document.sections[index].line), text);
            self.pass_over(index);
        }
        Ok(rings.first().map(|&(_, index)| index))
    }

    /// This node's own address: on the interface that the node list, else `bindnetaddr`, stands for.
    pub(super) fn bind(
        &mut self,
        interface: Option<usize>,
        local: Option<&Listed>,
        transport: TransportKind,
    ) -> Result<Ipv4Addr, ConfigError> {
        let bindnetaddr = interface.and_then(|section| self.take_within(section, BINDNETADDR));
        if let Some(listed) = local {
            if let Some(entry) = bindnetaddr {
                let text =
                    "totem.interface.bindnetaddr: ignored, the node list's ring0_addr counts; remove it";
                self.warn(Some(entry.line), text);
            }
            let IpAddr::V4(address) = listed.member.address else {
                let (key, value) = ("nodelist.node.ring0_addr".to_owned(), listed.ring0_addr.clone());
                let advice = "write the node's IPv4 address";
                return Err(self.error(Some(listed.line), Problem::Unsupported { key, value, advice }));
            };
            let local = transport == TransportKind::Local && address.is_loopback();
            let source = match self.host.at(address.into()) {
                Some(Interface { name, .. }) => format!("this node's ring0_addr, on interface {name}"),
                None if local => "this node's ring0_addr".to_owned(),
                None => {
                    let text = format!(
                        "no interface has this node's address {address}; the node waits for it: bring it up, or \
                         correct ring0_addr"
                    );
                    self.warn(Some(listed.line), text);
                    "this node's ring0_addr, which no interface has".to_owned()
                }
            };
            let source = Source::derived(source);
            self.show(BINDNETADDR, IpAddr::V4(address), "", source);
            return Ok(address);
        }

        let Some(entry) = bindnetaddr else {
            let advice = "write the network of the ring into section totem { interface { } }, such as \
                          `bindnetaddr: 192.168.1.0`, or add a node list";
            let line = interface.map(|section| self.document.sections[section].line);
            return Err(self.error(line, Problem::Missing { key: BINDNETADDR, advice }));
        };
        let Ok(wanted) = entry.value.parse() else {
            let expected = "the address or network of one of this host's interfaces, such as 192.168.1.0";
            return Err(self.not_one_of(entry, expected));
        };
        let (address, name) = self.own_address(BINDNETADDR, wanted, entry.line, transport)?;
        self.warn_of_choice(wanted, address, entry.line);
        let source = if wanted == address {
            self.line(entry)
        } else {
            Source::derived(format!("{wanted} ({}), the network of {name}", self.place(Some(entry.line))))
        };
        self.show(BINDNETADDR, IpAddr::V4(address), "", source);
        Ok(address)
    }

    /// Warns if `bindnetaddr` could mean another address of this host, or means one that this host does not have: the
    /// node's id follows from it.
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
                "bindnetaddr {wanted} is the network of several addresses; the node uses {interface}, not {others}"
            )
        } else {
            return;
        };
        self.warn(
            Some(line),
            format!("{text}; write the address that it is to use, for its id follows from that"),
        );
    }

    /// The address, and the name of the interface, that `wanted` stands for on this host.
    fn own_address(
        &self,
        key: &'static str,
        wanted: IpAddr,
        line: u32,
        transport: TransportKind,
    ) -> Result<(Ipv4Addr, String), ConfigError> {
        if let IpAddr::V4(loopback) = wanted {
            // Nodes on one host have a loopback address each, and none but the first is on an interface's list.
            let is_network = loopback.octets() == [127, 0, 0, 0];
            if transport == TransportKind::Local && loopback.is_loopback() && !is_network {
                return Ok((loopback, "lo".to_owned()));
            }
        }
        match self.host.interface(wanted) {
            Some(Interface { address: IpAddr::V4(address), name, .. }) => Ok((*address, name.clone())),
            Some(_) => {
                let (key, value, advice) = (key.to_owned(), wanted.to_string(), "write an IPv4 address");
                Err(self.error(Some(line), Problem::Unsupported { key, value, advice }))
            }
            None => {
                let is_v4 = |interface: &&Interface| interface.address.is_ipv4();
                let present = self.host.interfaces.iter().filter(is_v4).cloned().collect();
                Err(self.error(Some(line), Problem::NoInterface { key, wanted, present }))
            }
        }
    }

    pub(super) fn cluster_name(&mut self) -> Option<String> {
        let entry = self.take("totem.cluster_name")?;
        self.show("totem.cluster_name", entry.value.as_str(), "", self.line(entry));
        Some(entry.value.clone())
    }

    /// Where datagrams go.
    pub(super) fn network(
        &mut self,
        interface: Option<usize>,
        transport: TransportKind,
        bind: Ipv4Addr,
        cluster_name: Option<&str>,
    ) -> Result<NetworkConfig, ConfigError> {
        const MCASTADDR: &str = "totem.interface.mcastaddr";
        const MCASTPORT: &str = "totem.interface.mcastport";
        const TTL: &str = "totem.interface.ttl";
        let mut take = |path| interface.and_then(|section| self.take_within(section, path));
        let (broadcast, mcastaddr) = (take("totem.interface.broadcast"), take(MCASTADDR));
        let (mcastport, ttl) = (take(MCASTPORT), take(TTL));
        if let Some(entry) = broadcast.filter(|entry| entry.value == "yes") {
            return Err(self.unsupported(entry, "remove it and set mcastaddr, on all nodes"));
        }

        let (group, source) = match (mcastaddr, cluster_name) {
            (Some(entry), _) => match entry.value.parse() {
                Ok(group) => (group, self.line(entry)),
                Err(_) => return Err(self.not_one_of(entry, "a multicast address, such as 239.192.0.1")),
            },
            (None, Some(name)) => {
                (defaults::group(name.as_bytes()).into(), Source::derived("totem.cluster_name"))
            }
            (None, None) => {
                let advice = "write `cluster_name: NAME` into section totem, or `mcastaddr` into totem { interface { } }";
                return Err(self.error(None, Problem::Missing { key: MCASTADDR, advice }));
            }
        };
        self.show(MCASTADDR, group, "", source);

        let (mut port, mut source) = (defaults::PORT, Source::Default);
        if let Some(entry) = mcastport {
            // As with the timeouts, 0 stands for the default.
            let number = self.number(entry, 0..=u16::MAX)?;
            if number != 0 {
                (port, source) = (number, self.line(entry));
            }
        }
        self.show(MCASTPORT, u32::from(port), "", source);

        let (ttl, source) = match ttl {
            Some(entry) => (self.number(entry, 0..=u8::MAX)?, self.line(entry)),
            None => (defaults::TTL, Source::Default),
        };
        self.show(TTL, u32::from(ttl), "hops", source);
        Ok(NetworkConfig { transport, bind: Some(bind.into()), group: Some(group), port: Some(port), ttl })
    }
}
