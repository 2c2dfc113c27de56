//! The keys that the map has from the start: those of the configuration, and what follows from it.

use std::time::Duration;

use nix::unistd::{Group, User};
use quorate::Config;
use quorate::config::TransportKind;

use crate::services::Value;

/// The settings that corosync keeps as numbers of 32 bits. Others are texts.
const NUMBERS: [&str; 25] = [
    "totem.version",
    "totem.token",
    "totem.token_coefficient",
    "totem.token_retransmit",
    "totem.token_retransmits_before_loss_const",
    "totem.hold",
    "totem.join",
    "totem.send_join",
    "totem.consensus",
    "totem.merge",
    "totem.downcheck",
    "totem.fail_recv_const",
    "totem.seqno_unchanged_const",
    "totem.window_size",
    "totem.max_messages",
    "totem.miss_count_const",
    "totem.netmtu",
    "quorum.expected_votes",
    "quorum.votes",
    "quorum.last_man_standing_window",
    "quorum.device.votes",
    "quorum.device.timeout",
    "quorum.device.sync_timeout",
    "totem.nodeid",
    "totem.max_network_delay",
];

/// The settings that corosync keeps as numbers of 8 bits.
const FLAGS: [&str; 6] = [
    "quorum.two_node",
    "quorum.wait_for_all",
    "quorum.last_man_standing",
    "quorum.auto_tie_breaker",
    "quorum.allow_downscale",
    "quorum.expected_votes_tracking",
];

/// Returns the keys of a node. `entries` are the keys and values of its configuration file, in
/// order; without a file, there are none.
pub fn keys<'a>(
    config: &Config,
    entries: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<(String, Value)> {
    let mut keys = Vec::new();
    for (key, value) in entries {
        if let Some(access) = access(key, value) {
            keys.push((access, Value::u8(1)));
        } else if !key.starts_with("nodelist.") && !key.starts_with("totem.interface.") {
            // Nodes and interfaces have numbers in the map, and follow below.
            keys.push((key.to_owned(), typed(key, value)));
        }
    }
    let mut add = |key: &str, value| keys.push((key.to_owned(), value));
    add("totem.version", Value::u32(2));
    add("totem.transport", Value::text(transport(config.network.transport)));
    if let Some(name) = &config.cluster_name {
        add("totem.cluster_name", Value::text(&name.to_string_lossy()));
    }
    add("quorum.provider", Value::text("corosync_votequorum"));
    add("runtime.votequorum.this_node_id", Value::u32(config.node.get()));
    keys.extend(node_list(config));
    keys.extend(interface(config));
    keys.extend(timeouts(config));
    keys.extend(services());
    keys
}

/// Returns the key that lets a user or a group in, for an entry of a section `uidgid`.
fn access(key: &str, value: &str) -> Option<String> {
    let id = value.parse().ok();
    match key {
        "uidgid.uid" => {
            let id = id.or_else(|| Some(User::from_name(value).ok()??.uid.as_raw()))?;
            Some(format!("uidgid.config.uid.{id}"))
        }
        "uidgid.gid" => {
            let id = id.or_else(|| Some(Group::from_name(value).ok()??.gid.as_raw()))?;
            Some(format!("uidgid.config.gid.{id}"))
        }
        _ => None,
    }
}

fn typed(key: &str, value: &str) -> Value {
    match (value.parse::<u32>(), value.parse::<u8>()) {
        (Ok(number), _) if NUMBERS.contains(&key) => Value::u32(number),
        (_, Ok(flag)) if FLAGS.contains(&key) => Value::u8(flag),
        _ if key == "totem.config_version" => value.parse().map_or_else(|_| Value::text(value), Value::u64),
        _ => Value::text(value),
    }
}

fn transport(kind: TransportKind) -> &'static str {
    match kind {
        TransportKind::Unicast => "udpu",
        TransportKind::Local => "local",
        _ => "udp",
    }
}

fn node_list(config: &Config) -> Vec<(String, Value)> {
    let mut keys = Vec::new();
    for (position, node) in config.nodes.iter().enumerate() {
        let mut add = |key: &str, value| keys.push((format!("nodelist.node.{position}.{key}"), value));
        add("nodeid", Value::u32(node.id.get()));
        add("ring0_addr", Value::text(&node.host.clone().unwrap_or_else(|| node.address.to_string())));
        if let Some(name) = &node.name {
            add("name", Value::text(name));
        }
        if node.votes != 1 {
            add("quorum_votes", Value::u32(node.votes));
        }
        if node.id == config.node {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            keys.push(("nodelist.local_node_pos".to_owned(), Value::u32(position)));
        }
    }
    keys
}

fn interface(config: &Config) -> Vec<(String, Value)> {
    let key = |key: &str, value| (format!("totem.interface.0.{key}"), value);
    let mut keys = vec![key("bindnetaddr", Value::text(&config.bind().to_string()))];
    if config.network.transport == TransportKind::Multicast {
        keys.push(key("mcastaddr", Value::text(&config.group().to_string())));
    }
    keys.push(key("mcastport", Value::u16(config.port())));
    keys
}

/// The effective timeouts.
fn timeouts(config: &Config) -> Vec<(String, Value)> {
    let Ok(effective) = config.effective() else { return Vec::new() };
    let totem = &effective.totem;
    let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let values = [
        ("token", ms(totem.token)),
        ("token_retransmit", ms(totem.token_retransmit)),
        ("hold", ms(totem.hold)),
        ("join", ms(totem.join)),
        ("send_join", ms(totem.send_join)),
        ("consensus", ms(totem.consensus)),
        ("merge", ms(totem.merge)),
        ("fail_recv_const", totem.fail_recv_const),
        ("seqno_unchanged_const", totem.seqno_unchanged_const),
        ("window_size", totem.window_size),
        ("max_messages", totem.max_messages),
        ("miss_count_const", totem.miss_count_const),
        ("cancel_token_hold_on_retransmit", u32::from(totem.cancel_token_hold_on_retransmit)),
    ];
    let named = values.map(|(key, value)| (format!("runtime.config.totem.{key}"), Value::u32(value)));
    named.into_iter().collect()
}

/// The services that clients can connect to, by corosync's numbers.
fn services() -> Vec<(String, Value)> {
    let numbered = [("cmap", 0), ("cfg", 1), ("cpg", 2), ("quorum", 3), ("votequorum", 5)];
    let keys = numbered.into_iter().flat_map(|(name, number)| {
        [
            (
                format!("internal_configuration.service.{number}.name"),
                Value::text(&format!("corosync_{name}")),
            ),
            (format!("internal_configuration.service.{number}.ver"), Value::u32(0)),
            (format!("runtime.services.{name}.service_id"), Value::u16(number)),
        ]
    });
    keys.collect()
}

#[cfg(test)]
mod tests {
    use quorate::NodeId;

    use super::*;

    #[test]
    fn a_section_uidgid_lets_users_in_by_number_and_by_name() {
        let config = Config::new(NodeId::new(1).unwrap());
        let entries = [("uidgid.uid", "root"), ("uidgid.gid", "77"), ("uidgid.uid", "no such user")];
        let keys = keys(&config, entries);
        let has = |key: &str| keys.contains(&(key.to_owned(), Value::u8(1)));
        assert!(has("uidgid.config.uid.0") && has("uidgid.config.gid.77"));
    }

    #[test]
    fn settings_have_the_types_that_clients_check() {
        let config = Config::new(NodeId::new(1).unwrap());
        let entries = [
            ("totem.token", "1000"),
            ("quorum.two_node", "1"),
            ("totem.config_version", "7"),
            ("quorum.device.net.port", "5403"),
        ];
        let keys = keys(&config, entries);
        for expected in [
            ("totem.token", Value::u32(1000)),
            ("quorum.two_node", Value::u8(1)),
            ("totem.config_version", Value::u64(7)),
            ("quorum.device.net.port", Value::text("5403")),
        ] {
            assert!(keys.contains(&(expected.0.to_owned(), expected.1)), "{}", expected.0);
        }
    }
}
