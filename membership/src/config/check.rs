//! What has to hold between a configuration's values, wherever they came from.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{Config, ConfigError, Problem, TotemConfig, defaults};

impl Config {
    /// The most nodes that a list may have: corosync's tables hold no more.
    pub const MAX_NODES: usize = 384;

    /// Checks what the protocol relies on.
    ///
    /// # Errors
    /// Naming the value that is out of bounds, or the two values that disagree.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.totem.check()?;
        if self.network.port < 2 {
            let rule = "not be below 2, for the port below it is used too";
            return Err(broken("totem.interface.mcastport", &self.network.port, rule));
        }
        if !self.network.group.is_multicast() {
            let rule = "be a multicast address, such as 239.192.0.1";
            return Err(broken("totem.interface.mcastaddr", &self.network.group, rule));
        }
        if self.network.group.is_ipv4() != self.network.bind.is_ipv4() {
            let rule = format!("be of the same family as the node's own address ({})", self.network.bind);
            return Err(broken("totem.interface.mcastaddr", &self.network.group, rule));
        }
        if self.quorum.expected_votes == Some(0) {
            return Err(broken("quorum.expected_votes", &0, "not be below 1"));
        }
        self.quorum_options()?;
        self.check_lease()?;
        self.check_nodes()
    }

    /// The lease outlives two hold periods and a rotation, or the DC of an idle ring would lose it; how long a rotation takes
    /// is not known here, but not nothing.
    fn check_lease(&self) -> Result<(), ConfigError> {
        const MOST: u32 = 200_000;
        if self.dc.rate_error > MOST {
            let rule = format!("not be above {MOST} millionths");
            return Err(broken("quorate.rate_error", &self.dc.rate_error, rule));
        }
        let lease = self.dc.lease(self.totem.token);
        let counts = lease * (1_000_000 - self.dc.rate_error) / 1_000_000;
        if counts <= 2 * self.totem.hold {
            let rule = format!(
                "be more than twice totem.hold ({}) when the rate error of {} millionths is taken off, or the DC of an \
                 idle ring loses it",
                Millis(self.totem.hold),
                self.dc.rate_error
            );
            let other = Some("totem.hold");
            return Err(Problem::Broken {
                key: "quorate.lease",
                value: Millis(lease).to_string(),
                rule,
                other,
            }
            .into());
        }
        Ok(())
    }

    fn check_nodes(&self) -> Result<(), ConfigError> {
        if self.nodes.len() > Self::MAX_NODES {
            let rule = format!("have at most {} nodes", Self::MAX_NODES);
            return Err(broken("nodelist", &format_args!("{} nodes", self.nodes.len()), rule));
        }
        let mut by_id = BTreeMap::new();
        let mut by_socket = BTreeMap::new();
        for member in &self.nodes {
            if by_id.insert(member.id, member.address).is_some() {
                return Err(Problem::DuplicateNode { id: member.id, first: None }.into());
            }
            let socket = (member.address, member.port.unwrap_or(self.network.port));
            if let Some(other) = by_socket.insert(socket, member.id) {
                let rule = format!("not be the address of node {other} too");
                let node = format_args!("{} of node {}", member.address, member.id);
                return Err(broken("nodelist.node.ring0_addr", &node, rule));
            }
        }
        if !self.nodes.is_empty() && !by_id.contains_key(&self.node) {
            let listed = by_id.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let rule = format!("be one of the node list's ({listed})");
            return Err(broken("this node's id", &self.node, rule));
        }
        Ok(())
    }

    /// What works, but not well: to be logged.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let TotemConfig { token, consensus, token_retransmit, .. } = self.totem;
        // Rounded as the default is, which must not be warned about.
        let least = defaults::consensus(u64::try_from(token.as_millis()).unwrap_or(u64::MAX));
        if consensus < Duration::from_millis(least) {
            warnings.push(format!(
                "totem.consensus ({}) is below 1.2 times totem.token ({}): a slow member can be left out of a ring \
                 for no fault; raise totem.consensus to {least} ms",
                Millis(consensus),
                Millis(token),
            ));
        }
        if token_retransmit >= token {
            warnings.push(format!(
                "totem.token_retransmit ({}) is not below totem.token ({}): a single lost datagram then breaks the \
                 ring; leave totem.token_retransmit out",
                Millis(token_retransmit),
                Millis(token),
            ));
        }
        let lease = self.dc.lease(token);
        if lease < 2 * self.totem.hold + token_retransmit {
            warnings.push(format!(
                "quorate.lease ({}) is below twice totem.hold ({}) and totem.token_retransmit ({}): a slow rotation of an \
                 idle ring interrupts the DC; raise quorate.lease or totem.token",
                Millis(lease),
                Millis(self.totem.hold),
                Millis(token_retransmit),
            ));
        }
        let listed = self.nodes.iter().fold(0u32, |sum, node| sum.saturating_add(node.votes));
        if let Some(expected) = self.quorum.expected_votes
            && listed / 2 > expected / 2
        {
            warnings.push(format!(
                "quorum.expected_votes ({expected}) is below the votes of the node list ({listed}): two halves of the \
                 cluster could both be quorate; leave quorum.expected_votes out"
            ));
        }
        warnings.extend(self.quorum_warnings());
        warnings
    }
}

impl TotemConfig {
    /// A rotation's worth of frames may be missing at a member for some rotations; a corosync aborts at 16384.
    pub(crate) const MAX_WINDOW: u32 = 4096;
    /// Room for two frame headers, a packet and a piece of a message.
    const MIN_NETMTU: u32 = 128;
    /// The longest datagram that is accepted.
    const MAX_NETMTU: u32 = 9000;

    fn check(&self) -> Result<(), ConfigError> {
        let ms = Duration::from_millis;
        let at_least = |key, value: Duration, least: Duration| {
            let rule = format!("not be below {} ms", least.as_millis());
            if value < least { Err(broken(key, &Millis(value), rule)) } else { Ok(()) }
        };
        at_least("totem.token", self.token, ms(defaults::MIN_TIMEOUT))?;
        at_least("totem.token_retransmit", self.token_retransmit, ms(defaults::MIN_TIMEOUT))?;
        at_least("totem.hold", self.hold, ms(defaults::MIN_HOLD))?;
        at_least("totem.join", self.join, ms(defaults::MIN_TIMEOUT))?;
        at_least("totem.consensus", self.consensus, ms(defaults::MIN_TIMEOUT))?;
        at_least("totem.merge", self.merge, ms(defaults::MIN_TIMEOUT))?;
        if self.consensus < self.join {
            return Err(disagree("totem.consensus", self.consensus, "not be below", "totem.join", self.join));
        }

        let within = |key, value: u32, least: u32, most: u32| {
            if value < least {
                Err(broken(key, &value, format!("not be below {least}")))
            } else if value > most {
                Err(broken(key, &value, format!("not be above {most}")))
            } else {
                Ok(())
            }
        };
        within("totem.fail_recv_const", self.fail_recv_const, 1, u32::MAX)?;
        within("totem.seqno_unchanged_const", self.seqno_unchanged_const, 1, u32::MAX)?;
        within("totem.miss_count_const", self.miss_count_const, 1, u32::MAX)?;
        within("totem.window_size", self.window_size, 1, Self::MAX_WINDOW)?;
        within("totem.max_messages", self.max_messages, 1, u32::MAX)?;
        within("quorate.window_size", self.largest_window, 0, Self::MAX_WINDOW)?;
        within("totem.netmtu", self.netmtu, Self::MIN_NETMTU, Self::MAX_NETMTU)?;
        if self.unread_limit == 0 {
            return Err(broken("quorate.unread_limit", &0, "not be below 1"));
        }
        Ok(())
    }
}

struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0.as_millis())
    }
}

fn broken(key: &'static str, value: &impl ToString, rule: impl Into<String>) -> ConfigError {
    Problem::Broken { key, value: value.to_string(), rule: rule.into(), other: None }.into()
}

fn disagree(
    key: &'static str,
    value: Duration,
    rule: &str,
    other: &'static str,
    other_value: Duration,
) -> ConfigError {
    let rule = format!("{rule} {other} ({})", Millis(other_value));
    Problem::Broken { key, value: Millis(value).to_string(), rule, other: Some(other) }.into()
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
        Member { id: NodeId::new(id).unwrap(), name: None, address: address.into(), port: None, votes: 1 }
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_defaults_are_fine() {
        check(|_| (), "fine");
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
        check(|c| c.totem.window_size = 5000, "totem.window_size (5000) must not be above 4096");
        check(|c| c.totem.netmtu = 100, "totem.netmtu (100) must not be below 128");
    }

    #[test]
    fn the_network_must_make_sense() {
        check(
            |c| c.network.port = 1,
            "totem.interface.mcastport (1) must not be below 2, for the port below it is used too",
        );
        check(
            |c| c.network.group = [10, 0, 0, 1].into(),
            "totem.interface.mcastaddr (10.0.0.1) must be a multicast address, such as 239.192.0.1",
        );
    }

    #[test]
    fn nodes_must_be_distinct_and_include_this_one() {
        let nodes = |nodes: Vec<Member>| move |c: &mut Config| c.nodes = nodes;
        check(nodes(vec![member(1, [10, 0, 0, 1]), member(2, [10, 0, 0, 2])]), "fine");
        check(nodes(vec![member(2, [10, 0, 0, 2])]), "this node's id (1) must be one of the node list's (2)");
        check(
            nodes(vec![member(1, [10, 0, 0, 1]), member(1, [10, 0, 0, 2])]),
            "node id 1 appears twice; give each node a nodeid of its own",
        );
        check(
            nodes(vec![member(1, [10, 0, 0, 1]), member(2, [10, 0, 0, 1])]),
            "nodelist.node.ring0_addr (10.0.0.1 of node 2) must not be the address of node 1 too",
        );
        let mut other_port = member(2, [10, 0, 0, 1]);
        other_port.port = Some(6000);
        check(nodes(vec![member(1, [10, 0, 0, 1]), other_port]), "fine");
    }

    #[test]
    fn a_short_consensus_timeout_is_a_warning_only() {
        let mut config = Config::new(NodeId::new(1).unwrap());
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
