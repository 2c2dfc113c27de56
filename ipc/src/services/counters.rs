//! The map of the counters: those of corosync that this node counts too, and its own.

use std::collections::BTreeMap;

use quorate::Stats;

use super::cmap::CLEAR;
use super::value::Value;
use super::{Connection, ConnectionId, Connections};

type Count = fn(&Stats) -> u64;

/// The counters of the ring: those that corosync has, too, with its names, and those that only
/// Quorate has.
const RING: [(&str, Count); 13] = [
    ("srp.orf_token_rx", |stats| stats.tokens),
    ("srp.mcast_tx", |stats| stats.originated),
    ("srp.mcast_retx", |stats| stats.retransmits),
    ("srp.gather_entered", |stats| stats.gathers),
    ("srp.operational_entered", |stats| stats.rings),
    ("quorate.token_retransmits", |stats| stats.token_retransmits),
    ("quorate.delivered", |stats| stats.delivered),
    ("quorate.stalls", |stats| stats.stalls),
    ("quorate.hints", |stats| stats.hints),
    ("quorate.accusations", |stats| stats.accusations),
    ("quorate.unsent", |stats| stats.unsent),
    ("quorate.unaddressed", |stats| stats.unaddressed),
    ("quorate.refused", |stats| stats.refused.values().sum()),
];

/// The counters that belong to no connection, and those of the ring when they were set to 0.
#[derive(Default)]
pub(super) struct Counters {
    /// The counters of the ring when they were set to 0. The node's own counters only rise.
    zero: Stats,
    /// Connections that have ended.
    closed: u64,
}

impl Counters {
    pub(super) fn connection_ended(&mut self) {
        self.closed += 1;
    }

    /// Sets counters to 0, as `corosync-cmapctl -C` asks for by a key. Returns `false` if there is
    /// no such key. Quorate has no counters of knet and of the scheduler.
    pub(super) fn clear(&mut self, key: &str, stats: &Stats, connections: &mut Connections) -> bool {
        let what = key.strip_prefix(CLEAR).unwrap_or_default();
        let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| what.starts_with(prefix));
        if is(&["totem", "all"]) {
            self.zero = stats.clone();
        }
        if is(&["ipc", "all"]) {
            self.closed = 0;
            connections.values_mut().for_each(Connection::clear);
        }
        is(&["totem", "ipc", "knet", "schedmiss", "all"])
    }

    /// Returns the value of a key.
    pub(super) fn value(&self, key: &str, stats: &Stats, connections: &Connections) -> Option<Value> {
        let name = key.strip_prefix("stats.")?;
        if let Some((_, count)) = RING.iter().find(|(of, _)| *of == name) {
            return Some(self.of_ring(*count, stats));
        }
        match name {
            "ipcs.global.active" => Some(Value::u64(connections.len() as u64)),
            "ipcs.global.closed" => Some(Value::u64(self.closed)),
            _ => {
                let number = name.strip_prefix("ipcs.service")?.split('.').nth(2)?.strip_prefix("0x")?;
                let id = ConnectionId(u64::from_str_radix(number, 16).ok()?);
                of_connection(id, connections.get(&id)?).remove(key)
            }
        }
    }

    fn of_ring(&self, count: Count, stats: &Stats) -> Value {
        Value::u64(count(stats).saturating_sub(count(&self.zero)))
    }

    /// Returns the whole map.
    pub(super) fn values(&self, stats: &Stats, connections: &Connections) -> BTreeMap<String, Value> {
        let of_ring = RING.iter().map(|(key, count)| (format!("stats.{key}"), self.of_ring(*count, stats)));
        let active = [("active", connections.len() as u64), ("closed", self.closed)];
        let global = active.map(|(key, count)| (format!("stats.ipcs.global.{key}"), Value::u64(count)));
        let each = connections.iter().flat_map(|(id, connection)| of_connection(*id, connection));
        of_ring.chain(global).chain(each).collect()
    }
}

/// Returns the counters of a connection. corosync's names have the address of the connection in its
/// memory, where these have its number.
pub(super) fn of_connection(id: ConnectionId, connection: &Connection) -> BTreeMap<String, Value> {
    let Connection { service, peer, outbox, requests, responses, malformed } = connection;
    let prefix = format!("stats.ipcs.service{}.{}.{:#x}", service.id(), peer.pid, id.0);
    let sending = outbox.counts();
    let values = [
        ("queueing", Value::i32(i32::from(sending.waiting > 0))),
        ("queued", Value::u32(sending.waiting)),
        ("invalid_request", Value::u64(*malformed)),
        // A client that leaves too many events unread is disconnected.
        ("overload", Value::u64(0)),
        // corosync counts the same events here as in `dispatched`.
        ("sent", Value::u32(u32::try_from(sending.dispatched & u64::from(u32::MAX)).unwrap_or_default())),
        ("procname", Value::text(&peer.name)),
        ("requests", Value::u64(*requests)),
        ("responses", Value::u64(responses + sending.responses)),
        ("dispatched", Value::u64(sending.dispatched)),
        ("send_retries", Value::u64(0)),
        ("recv_retries", Value::u64(0)),
        ("flow_control", Value::u32(u32::from(sending.is_slowed))),
        ("flow_control_count", Value::u64(sending.slowed)),
    ];
    values.into_iter().map(|(key, value)| (format!("{prefix}.{key}"), value)).collect()
}
