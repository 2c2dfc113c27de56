//! Checks of a configuration's values against each other, wherever they came from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::{Config, ConfigError, MILLION, Problem, TieBreaker, TotemConfig, TransportKind, defaults};

impl Config {
    /// The most nodes in a list, which is the size of corosync's tables.
    pub const MAX_NODES: usize = 384;

    /// Checks the conditions that the protocol relies on. A node checks the
    /// [effective](Self::effective) configuration when it starts.
    ///
    /// # Errors
    /// If the configuration breaks a rule. The error names the value that is out of bounds, or the
    /// two values that disagree.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.problems().into_iter().next().map_or(Ok(()), |problem| Err(problem.into()))
    }

    /// Returns all problems for which [`Config::check`] rejects the configuration.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        self.totem.check(&mut problems);
        self.check_network(&mut problems);
        self.check_votes(&mut problems);
        self.check_lease(&mut problems);
        self.check_names(&mut problems);
        self.check_nodes(&mut problems);
        problems.0
    }

    fn check_network(&self, problems: &mut Problems) {
        let (group, bind) = (self.group(), self.bind());
        if self.port() < 2 {
            let rule = "not be below 2, because the port below it is used too";
            problems.broken("totem.interface.mcastport", &self.port(), rule);
        }
        if self.network.transport == TransportKind::Unicast {
            if self.nodes.is_empty() {
                problems.broken("totem.transport", &"udpu", "have a node list to send to");
            }
        } else if self.network.transport == TransportKind::Local && bind.is_ipv6() {
            problems.broken("totem.transport", &"local", "have IPv4 addresses, such as 127.0.0.1");
        } else if is_within_a_link(group) {
            let rule = "reach beyond a single link, as ff15::1 does";
            problems.broken("totem.interface.mcastaddr", &group, rule);
        } else if !group.is_multicast() {
            problems.broken(
                "totem.interface.mcastaddr",
                &group,
                "be a multicast address, such as 239.192.0.1",
            );
        } else if group.is_ipv4() != bind.is_ipv4() {
            let rule = format!("be of the same family as the node's own address ({bind})");
            problems.broken("totem.interface.mcastaddr", &group, rule);
        }
        if let Some(listed) = self.listed().filter(|listed| listed.address != bind) {
            let rule = format!("be the address of node {} in the node list ({})", listed.id, listed.address);
            problems.broken("totem.interface.bindnetaddr", &bind, rule);
        }
    }

    fn check_votes(&self, problems: &mut Problems) {
        if self.quorum.expected_votes == Some(0) {
            problems.broken("quorum.expected_votes", &0, "not be below 1");
        }
        if !self.nodes.is_empty() && self.listed_votes() == 0 {
            let rule = "give at least one node a vote";
            problems.broken("nodelist.node.quorum_votes", &"0 for each node", rule);
        }
        if let Some(listed) = self.listed().filter(|listed| listed.votes != self.votes()) {
            let rule =
                format!("be the quorum_votes of node {} in the node list ({})", listed.id, listed.votes);
            problems.broken("quorum.votes", &self.votes(), rule);
        }
        // Another length cannot be announced to the other members.
        if let Some(TieBreaker::List(list)) = &self.quorum.auto_tie_breaker
            && !(1..=Self::MAX_NODES).contains(&list.len())
        {
            let rule = format!("have 1 to {} nodes", Self::MAX_NODES);
            problems.broken("quorum.auto_tie_breaker_node", &format_args!("{} nodes", list.len()), rule);
        }
        problems.0.extend(self.device_problems());
        if let Err(ConfigError { problem, .. }) = self.quorum_options() {
            problems.0.push(problem);
        }
    }

    /// Checks the lease. In an idle ring it is two hold times old when it is renewed. The rest
    /// allows for a member that gets no processor for a while. With less than two more hold times,
    /// leases were lost as soon as all processors were busy.
    fn check_lease(&self, problems: &mut Problems) {
        const MOST: u32 = 200_000;
        if self.dc.rate_error > MOST {
            let rule = format!("not be above {MOST} millionths");
            return problems.broken("quorate.rate_error", &self.dc.rate_error, rule);
        }
        let lease = self.dc.lease(&self.totem);
        let least = self.totem.hold.saturating_mul(defaults::FEWEST_HOLDS);
        if lease < least {
            let rule = format!(
                "not be below {} with a totem.hold of {}, or the DC on a busy host loses it without a fault; \
                 write `lease: {}`, or remove totem.hold",
                Millis(least),
                Millis(self.totem.hold),
                least.as_millis(),
            );
            problems.disagree("quorate.lease", &Millis(lease), rule, "totem.hold");
        }
    }

    /// Returns the shortest lease, in whole milliseconds, that is at least `left` after the rate
    /// error is taken off.
    fn least_lease(&self, left: Duration) -> Duration {
        let left = left.as_micros().saturating_mul(MILLION);
        let micros = left.div_ceil(MILLION.saturating_sub(self.dc.rate_error.into()).max(1));
        Duration::from_millis(u64::try_from(micros.div_ceil(1000)).unwrap_or(u64::MAX))
    }

    fn check_names(&self, problems: &mut Problems) {
        let mut check = |key, name: &str| {
            if name.is_empty() {
                problems.broken(key, &"``", "not be empty");
            } else if name.chars().any(char::is_control) {
                let rule = "not contain control characters, such as line breaks";
                problems.broken(key, &name.escape_debug(), rule);
            }
        };
        check("this node's name", &self.name);
        if let Some(name) = &self.cluster_name {
            check("totem.cluster_name", &name.to_string_lossy());
        }
        for name in self.nodes.iter().filter_map(|member| member.name.as_deref()) {
            check("nodelist.node.name", name);
        }
    }

    fn check_nodes(&self, problems: &mut Problems) {
        if self.nodes.len() > Self::MAX_NODES {
            let rule = format!("have at most {} nodes", Self::MAX_NODES);
            return problems.broken("nodelist", &format_args!("{} nodes", self.nodes.len()), rule);
        }
        let mut ids = BTreeSet::new();
        let mut by_socket = BTreeMap::new();
        for member in &self.nodes {
            if !ids.insert(member.id) {
                problems.0.push(Problem::DuplicateNode { id: member.id, first: None });
            }
            if member.known_address().is_none() {
                if member.host.is_none() || member.id == self.node {
                    let rule = "be an address of its host";
                    let node = format_args!("{} of node {}", member.address, member.id);
                    problems.broken("nodelist.node.ring0_addr", &node, rule);
                }
                continue;
            }
            if is_within_a_link(member.address) {
                let rule = "not be an address within a single link; write a global or unique local one";
                let node = format_args!("{} of node {}", member.address, member.id);
                problems.broken("nodelist.node.ring0_addr", &node, rule);
            }
            let bind = self.bind();
            if member.address.is_ipv4() != bind.is_ipv4() {
                let rule = format!("be of the same IP version as this node's own address ({bind})");
                let node = format_args!("{} of node {}", member.address, member.id);
                problems.broken("nodelist.node.ring0_addr", &node, rule);
            }
            let socket = (member.address, member.port.unwrap_or(self.port()));
            if let Some(other) = by_socket.insert(socket, member.id) {
                let rule = format!("differ from the address of node {other}");
                let node = format_args!("{} of node {}", member.address, member.id);
                problems.broken("nodelist.node.ring0_addr", &node, rule);
            }
        }
        if !self.nodes.is_empty() && !ids.contains(&self.node) {
            let listed = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            problems.broken("this node's id", &self.node, format!("be in the node list ({listed})"));
        }
    }

    /// Returns warnings about values that work, but not well. A node logs them when it starts.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.ring_warnings();
        let lease = self.dc.lease(&self.totem);
        let least = self.least_lease(2 * self.totem.hold + self.totem.token_retransmit);
        if lease < least {
            warnings.push(format!(
                "quorate.lease ({}) is too short for resending a lost token (totem.hold {}, \
                 totem.token_retransmit {}): one lost datagram can interrupt the DC; write `lease: {}`, or \
                 remove totem.token_retransmit",
                Millis(lease),
                Millis(self.totem.hold),
                Millis(self.totem.token_retransmit),
                least.as_millis(),
            ));
        }
        let listed = self.nodes.iter().fold(0u32, |sum, node| sum.saturating_add(node.votes));
        let with_device = listed.saturating_add(self.device_votes());
        if let Some(expected) = self.quorum.expected_votes
            && with_device / 2 > expected / 2
        {
            let device = if self.quorum.device.is_some() { " and of the quorum device" } else { "" };
            warnings.push(format!(
                "quorum.expected_votes ({expected}) is below the votes of the node list{device} ({with_device}): two \
                 halves of the cluster could both be quorate; remove quorum.expected_votes"
            ));
        }
        if let Some(expected) = self.expected_votes().filter(|_| !self.nodes.is_empty())
            && listed <= expected / 2
        {
            let needed = expected / 2 + 1;
            warnings.push(match self.device_votes() {
                0 => format!(
                    "quorum.expected_votes ({expected}) needs {needed} votes, but the node list has {listed}: no \
                     partition can be quorate; remove quorum.expected_votes"
                ),
                votes => format!(
                    "quorum.device.votes ({votes}) is too high: {needed} of {expected} votes are needed, and the nodes \
                     have {listed}, with which they can never agree on the voters; give the device fewer votes \
                     than the nodes have"
                ),
            });
        }
        warnings.extend(self.quorum_warnings());
        warnings
    }

    fn ring_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let TotemConfig { token, consensus, token_retransmit, .. } = self.totem;
        // Rounded like the default, which must not cause a warning.
        let least = defaults::consensus(u64::try_from(token.as_millis()).unwrap_or(u64::MAX));
        if consensus < Duration::from_millis(least) {
            warnings.push(format!(
                "totem.consensus ({}) is below 1.2 times totem.token ({}): a slow member can be left out of \
                 a ring without a fault; raise totem.consensus to {least} ms",
                Millis(consensus),
                Millis(token),
            ));
        }
        if token_retransmit >= token {
            warnings.push(format!(
                "totem.token_retransmit ({}) is not below totem.token ({}): a single lost datagram then \
                 breaks the ring; remove totem.token_retransmit",
                Millis(token_retransmit),
                Millis(token),
            ));
        }
        warnings
    }
}

/// Returns `true` for an IPv6 address that means nothing without an interface.
fn is_within_a_link(address: IpAddr) -> bool {
    const LINK: u16 = 2;
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) if address.is_multicast() => address.segments()[0] & 0xf <= LINK,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

impl TotemConfig {
    /// The largest window. A member's `max_messages`, capped by the window, and the window together
    /// are at most the 16384 frames that corosync can keep. Beyond that it aborts.
    pub(crate) const MAX_WINDOW: u32 = 8192;
    /// The smallest `netmtu`, with room for two frame headers, a packet and a piece of a message.
    const MIN_NETMTU: u32 = 128;
    /// The longest datagram that UDP over IPv4 carries.
    const MAX_NETMTU: u32 = 65_507;

    fn check(&self, problems: &mut Problems) {
        for (key, value, least) in [
            ("totem.token", self.token, defaults::MIN_TIMEOUT),
            ("totem.token_retransmit", self.token_retransmit, defaults::MIN_TIMEOUT),
            ("totem.hold", self.hold, defaults::MIN_HOLD),
            ("totem.join", self.join, defaults::MIN_TIMEOUT),
            ("totem.consensus", self.consensus, defaults::MIN_TIMEOUT),
            ("totem.merge", self.merge, defaults::MIN_TIMEOUT),
        ] {
            if value < Duration::from_millis(least) {
                problems.broken(key, &Millis(value), format!("not be below {least} ms"));
            }
        }
        if self.token > Duration::from_millis(defaults::MAX_TOKEN) {
            let rule = format!(
                "not be above {} ms, coefficient included, because corosync keeps totem.consensus in 32 bits",
                defaults::MAX_TOKEN
            );
            problems.disagree("totem.token", &Millis(self.token), rule, "totem.token_coefficient");
        }
        if self.consensus < self.join {
            let rule = format!("not be below totem.join ({})", Millis(self.join));
            problems.disagree("totem.consensus", &Millis(self.consensus), rule, "totem.join");
        }

        for (key, value, least, most, why) in [
            ("totem.fail_recv_const", self.fail_recv_const, 1, u32::MAX, ""),
            ("totem.seqno_unchanged_const", self.seqno_unchanged_const, 1, u32::MAX, ""),
            ("totem.miss_count_const", self.miss_count_const, 1, u32::MAX, ""),
            ("totem.window_size", self.window_size, 1, Self::MAX_WINDOW, ", or corosync daemons can abort"),
            ("totem.max_messages", self.max_messages, 1, u32::MAX, ""),
            ("quorate.window_size", self.largest_window, 0, Self::MAX_WINDOW, ""),
            ("totem.netmtu", self.netmtu, Self::MIN_NETMTU, Self::MAX_NETMTU, ", the most that UDP carries"),
        ] {
            if value < least {
                problems.broken(key, &value, format!("not be below {least}"));
            } else if value > most {
                problems.broken(key, &value, format!("not be above {most}{why}"));
            }
        }
        if self.unread_limit == 0 {
            problems.broken("quorate.unread_limit", &0, "not be below 1");
        }
    }
}

/// The problems, in the order in which they are found.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn broken(&mut self, key: &'static str, value: &impl ToString, rule: impl Into<String>) {
        self.0.push(Problem::Broken { key, value: value.to_string(), rule: rule.into(), other: None });
    }

    fn disagree(&mut self, key: &'static str, value: &impl ToString, rule: String, other: &'static str) {
        self.0.push(Problem::Broken { key, value: value.to_string(), rule, other: Some(other) });
    }
}

struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::*;
    use crate::NodeId;

    fn check(change: impl FnOnce(&mut Config), expect: &str) {
        let mut config = Config::new(NodeId::new(1).unwrap());
        change(&mut config);
        let got = config.check().map_or_else(|error| error.to_string(), |()| "fine".to_owned());
        assert_eq!(got, expect);
    }

    fn member(id: u32, address: [u8; 4]) -> Member {
        Member {
            id: NodeId::new(id).unwrap(),
            name: None,
            address: address.into(),
            host: None,
            port: None,
            votes: 1,
        }
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_defaults_are_fine() {
        check(|_| (), "fine");
    }

    #[test]
    fn a_cluster_is_described_by_its_nodes() {
        let nodes = |address| [(1, "127.0.0.1"), (2, address)];
        let config = Config::of_cluster("shop", 2, nodes("127.0.0.2")).unwrap();
        assert_eq!(
            (config.bind().to_string(), config.network.transport),
            ("127.0.0.2".into(), TransportKind::Local)
        );
        let config = Config::of_cluster("shop", 2, nodes("10.0.0.2")).unwrap();
        assert_eq!((config.expected_votes(), config.network.transport), (Some(2), TransportKind::Multicast));
        let error = |me, address| Config::of_cluster("shop", me, nodes(address)).unwrap_err().to_string();
        assert_eq!(error(0, "10.0.0.2"), "a node's id (0) must not be 0");
        assert_eq!(error(1, "two"), "a node's address (two) must be an address, such as 10.0.0.1");
        assert_eq!(error(3, "10.0.0.2"), "this node's id (3) must be in the node list (1, 2)");
    }

    #[test]
    fn ipv6_addresses_reach_beyond_a_link_and_fit_a_packet() {
        let nodes = |address| [(1, address), (2, "fd00::2")];
        let config = Config::of_cluster("shop", 2, nodes("fd00::1")).unwrap();
        assert_eq!(config.effective().unwrap().totem.netmtu, 1480);
        let error = Config::of_cluster("shop", 2, nodes("fe80::1")).unwrap_err().to_string();
        assert!(error.contains("(fe80::1 of node 1) must not be an address within a single link"), "{error}");
        let error = Config::of_cluster("shop", 2, nodes("10.0.0.1")).unwrap_err().to_string();
        assert!(error.contains("(10.0.0.1 of node 1) must be of the same IP version"), "{error}");
        let mut config = config;
        config.network.group = Some("ff02::1".parse().unwrap());
        let error = config.check().unwrap_err().to_string();
        assert_eq!(
            error,
            "totem.interface.mcastaddr (ff02::1) must reach beyond a single link, as ff15::1 does"
        );
    }

    #[test]
    fn a_disagreement_names_both_values() {
        check(
            |c| (c.totem.consensus, c.totem.join) = (ms(1000), ms(2000)),
            "totem.consensus (1000 ms) must not be below totem.join (2000 ms)",
        );
    }

    #[test]
    fn limits_are_those_of_corosync() {
        let token = |token| move |c: &mut Config| c.totem = TotemConfig::for_token(ms(token));
        check(token(29), "totem.token (29 ms) must not be below 30 ms");
        check(token(125), "totem.token_retransmit (29 ms) must not be below 30 ms");
        check(token(126), "fine");
        check(|c| c.totem.hold = ms(13), "totem.hold (13 ms) must not be below 14 ms");
        check(|c| c.totem.join = ms(29), "totem.join (29 ms) must not be below 30 ms");
        check(|c| c.totem.merge = ms(29), "totem.merge (29 ms) must not be below 30 ms");
        check(|c| c.totem.consensus = ms(29), "totem.consensus (29 ms) must not be below 30 ms");
        check(|c| c.totem.window_size = 0, "totem.window_size (0) must not be below 1");
        check(
            |c| c.totem.window_size = 8193,
            "totem.window_size (8193) must not be above 8192, or corosync daemons can abort",
        );
        check(|c| c.totem.netmtu = 100, "totem.netmtu (100) must not be below 128");
    }

    /// A member with another list would announce a ballot that no member can read, and have no
    /// votes.
    #[test]
    fn a_list_of_tie_breakers_can_be_announced() {
        let list = |nodes: usize| {
            move |config: &mut Config| {
                let id = NodeId::new(1).unwrap();
                config.quorum.auto_tie_breaker = Some(TieBreaker::List(vec![id; nodes]));
            }
        };
        let error = "quorum.auto_tie_breaker_node";
        check(list(0), &format!("{error} (0 nodes) must have 1 to 384 nodes"));
        check(list(385), &format!("{error} (385 nodes) must have 1 to 384 nodes"));
        check(list(384), "fine");
    }

    #[test]
    fn the_network_must_make_sense() {
        check(
            |c| c.network.port = Some(1),
            "totem.interface.mcastport (1) must not be below 2, because the port below it is used too",
        );
        check(
            |c| c.network.group = Some([10, 0, 0, 1].into()),
            "totem.interface.mcastaddr (10.0.0.1) must be a multicast address, such as 239.192.0.1",
        );
    }

    #[test]
    fn nodes_must_be_distinct_and_include_this_one() {
        let nodes = |nodes: Vec<Member>| move |c: &mut Config| c.nodes = nodes;
        check(nodes(vec![member(1, [10, 0, 0, 1]), member(2, [10, 0, 0, 2])]), "fine");
        check(nodes(vec![member(2, [10, 0, 0, 2])]), "this node's id (1) must be in the node list (2)");
        check(
            nodes(vec![member(1, [10, 0, 0, 1]), member(1, [10, 0, 0, 2])]),
            "node id 1 appears twice; give each node a nodeid of its own",
        );
        check(
            nodes(vec![member(1, [10, 0, 0, 1]), member(2, [10, 0, 0, 1])]),
            "nodelist.node.ring0_addr (10.0.0.1 of node 2) must differ from the address of node 1",
        );
        let mut other_port = member(2, [10, 0, 0, 1]);
        other_port.port = Some(6000);
        check(nodes(vec![member(1, [10, 0, 0, 1]), other_port]), "fine");
    }

    #[test]
    fn values_that_contradict_the_node_list_are_refused() {
        let listed = |change: fn(&mut Config)| {
            move |c: &mut Config| {
                c.nodes = vec![member(1, [10, 0, 0, 1]), member(2, [10, 0, 0, 2])];
                change(c);
            }
        };
        check(listed(|c| c.network.bind = Some([10, 0, 0, 1].into())), "fine");
        check(
            listed(|c| c.network.bind = Some([127, 0, 0, 1].into())),
            "totem.interface.bindnetaddr (127.0.0.1) must be the address of node 1 in the node list (10.0.0.1)",
        );
        check(listed(|c| c.quorum.votes = Some(1)), "fine");
        check(
            listed(|c| c.quorum.votes = Some(3)),
            "quorum.votes (3) must be the quorum_votes of node 1 in the node list (1)",
        );
        check(
            listed(|c| c.nodes.iter_mut().for_each(|member| member.votes = 0)),
            "nodelist.node.quorum_votes (0 for each node) must give at least one node a vote",
        );
    }

    #[test]
    fn a_name_that_would_garble_a_line_is_refused() {
        check(|c| c.name.clear(), "this node's name (``) must not be empty");
        check(
            |c| c.name = "a\nb".to_owned(),
            "this node's name (a\\nb) must not contain control characters, such as line breaks",
        );
        check(|c| c.cluster_name = Some("".into()), "totem.cluster_name (``) must not be empty");
        check(
            |c| {
                c.nodes = vec![Member { name: Some("\t".to_owned()), ..member(1, [127, 0, 0, 1]) }];
            },
            "nodelist.node.name (\\t) must not contain control characters, such as line breaks",
        );
    }

    #[test]
    fn a_node_list_in_code_counts_as_one_in_a_file_does() {
        let mut config = Config::new(NodeId::new(2).unwrap());
        config.nodes =
            (1..=3).map(|n: u8| Member { votes: n.into(), ..member(n.into(), [10, 0, 0, n]) }).collect();
        assert_eq!(config.expected_votes(), Some(6));
        assert_eq!(config.votes(), 2);
        assert_eq!(config.bind(), IpAddr::from([10, 0, 0, 2]));
        let totem = config.effective().unwrap().totem;
        assert_eq!(totem, TotemConfig::for_token(ms(3650)));
        assert_eq!(config.effective().unwrap().effective().unwrap().totem, totem, "once is enough");
        config.totem.hold = ms(100);
        config.totem.token_coefficient = ms(1000);
        let totem = config.effective().unwrap().totem;
        assert_eq!((totem.token, totem.hold, totem.consensus), (ms(4000), ms(100), ms(4800)));
        config.totem = TotemConfig::for_token(ms(300));
        assert_eq!(config.effective().unwrap().totem.token, ms(300), "the effective value as it is");
    }

    #[test]
    fn clusters_of_different_names_share_neither_group_nor_port() {
        let named = |name: &str| {
            let mut config = Config::new(NodeId::new(1).unwrap());
            config.cluster_name = Some(name.into());
            (config.group().to_string(), config.port())
        };
        assert_eq!(named("orders"), ("239.192.27.38".to_owned(), 19_205));
        assert_eq!(named("billing"), ("239.192.50.217".to_owned(), 25_557));
        let ports = (0..1000).map(|n| named(&n.to_string()).1);
        assert!(ports.into_iter().all(|port| port % 2 == 1 && (10_001..32_000).contains(&port)));
        let unnamed = Config::new(NodeId::new(1).unwrap());
        assert_eq!((unnamed.group(), unnamed.port()), (IpAddr::from([239, 192, 0, 1]), 5405));
    }

    #[test]
    fn the_default_lease_outlasts_an_idle_rotation() {
        let mut config = Config::new(NodeId::new(1).unwrap());
        config.quorum.expected_votes = Some(1);
        for retransmits in 1..=20 {
            config.totem.token_retransmit = ms(defaults::token_retransmit(3000, retransmits));
            config.totem.hold = ms(defaults::hold(defaults::token_retransmit(3000, retransmits)));
            assert_eq!((config.check(), config.warnings()), (Ok(()), Vec::new()), "{retransmits}");
        }
    }

    #[test]
    fn a_short_consensus_timeout_is_a_warning_only() {
        let mut config = Config::new(NodeId::new(1).unwrap());
        config.quorum.expected_votes = Some(1);
        for token in [1650, 2076, 3000, 5000] {
            config.totem = TotemConfig::for_token(ms(token));
            assert_eq!(config.warnings(), Vec::<String>::new(), "{token}");
        }
        config.totem = TotemConfig::default();
        config.totem.consensus = config.totem.token;
        assert_eq!(config.check(), Ok(()));
        assert!(
            config.warnings()[0]
                .starts_with("totem.consensus (3000 ms) is below 1.2 times totem.token (3000 ms)")
        );
    }
}
