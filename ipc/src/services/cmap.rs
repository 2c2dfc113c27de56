//! The service `cmap`: a map from keys to typed values, which clients read, change and track.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::value::Value;
use super::{ConnectionId, Connections, Effect, Order, Step, tell};
use crate::code::Code;
use crate::layout::{Malformed, Message, Request};

/// Which map a connection uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Map {
    #[default]
    Default,
    /// The counters.
    Stats,
}

/// The state of a connection.
#[derive(Default)]
struct Client {
    map: Map,
    iterations: BTreeMap<u64, VecDeque<(String, Value)>>,
    trackers: BTreeMap<u64, Tracker>,
}

/// The key with which an operator ends the wait for all nodes. It falls back to 0.
const CANCEL_WAIT: &str = "quorum.cancel_wait_for_all";

/// The keys with which an operator sets the counters to 0.
pub(super) const CLEAR: &str = "stats.clear.";

struct Tracker {
    key: String,
    types: i32,
    /// The number that the client gave its tracker.
    handle: u64,
    /// The value of a counter that the client was told last.
    told: Option<Value>,
}

/// The changes that a tracker asks for.
const DELETED: i32 = 1;
const MODIFIED: i32 = 2;
const ADDED: i32 = 4;
const PREFIX: i32 = 8;
const COME_AND_GO: i32 = ADDED | DELETED;

/// Returns the kind of a change.
fn change(new: Option<&Value>, old: Option<&Value>) -> i32 {
    match (new, old) {
        (Some(_), Some(_)) => MODIFIED,
        (Some(_), None) => ADDED,
        (None, _) => DELETED,
    }
}

impl Tracker {
    fn wants(&self, key: &str, event: i32) -> bool {
        let is_key = if self.types & PREFIX != 0 { key.starts_with(&self.key) } else { key == self.key };
        is_key && self.types & event != 0
    }

    /// Returns `true` if it tracks the value of one key.
    fn is_of_a_value(&self) -> bool {
        self.types & (PREFIX | MODIFIED) == MODIFIED
    }

    /// Returns the event of a change.
    fn event(&self, key: &str, new: Option<&Value>, old: Option<&Value>) -> Bytes {
        let size = |value: Option<&Value>| value.map_or(0, |value| value.bytes.len());
        let bytes = |value: Option<&Value>| value.map_or_else(Bytes::new, |value| value.bytes.clone());
        Message::new(9, 336 + size(new) + size(old))
            .u64(24, self.handle)
            .key(32, key)
            .i32(296, change(new, old))
            .u8(304, new.map_or(0, |value| value.kind))
            .u8(312, old.map_or(0, |value| value.kind))
            .u64(320, size(new) as u64)
            .u64(328, size(old) as u64)
            .bytes(336, &bytes(new))
            .bytes(336 + size(new), &bytes(old))
            .done()
    }
}

pub(super) struct Cmap {
    values: BTreeMap<String, Value>,
    /// The keys that the configuration has set.
    configured: BTreeSet<String>,
    clients: BTreeMap<ConnectionId, Client>,
    last_handle: u64,
}

impl Cmap {
    /// Returns the number of things that are kept for clients.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        let of_one = |client: &Client| 1 + client.iterations.len() + client.trackers.len();
        self.clients.values().map(of_one).sum()
    }

    /// The most trackers of a connection, and the most iterations.
    const MAX_TRACKERS: usize = 64;
    const MAX_ITERATIONS: usize = 16;
    /// The most keys, and the longest value that a client may set, in bytes. A notice has two
    /// values.
    const MAX_KEYS: usize = 16_384;
    const MAX_VALUE: usize = 64 << 10;

    pub(super) fn new(keys: impl IntoIterator<Item = (String, Value)>) -> Self {
        let values: BTreeMap<String, Value> = keys.into_iter().collect();
        let configured = values.keys().filter(|key| is_configured(key)).cloned().collect();
        Self { values, configured, clients: BTreeMap::new(), last_handle: 0 }
    }

    /// Replaces the keys of the configuration. Clients that track them are told the changes, and
    /// that a reload begins and ends, in corosync's order.
    pub(super) fn reload(&mut self, keys: Vec<(String, Value)>, connections: &Connections) {
        const IN_PROGRESS: [&str; 2] = ["config.totemconfig_reload_in_progress", "config.reload_in_progress"];
        let keys: BTreeMap<String, Value> = keys.into_iter().filter(|(key, _)| is_configured(key)).collect();
        for key in IN_PROGRESS {
            self.set(key, &Value::u8(1), connections);
        }
        let names = keys.keys().cloned().collect();
        let before = std::mem::replace(&mut self.configured, names);
        for key in before.iter().filter(|key| !keys.contains_key(*key)) {
            if let Some(old) = self.values.remove(key) {
                self.tell(Map::Default, key, None, Some(&old), connections);
            }
        }
        for (key, value) in &keys {
            self.set(key, value, connections);
        }
        for key in IN_PROGRESS {
            self.set(key, &Value::u8(0), connections);
        }
    }

    pub(super) fn close(&mut self, id: ConnectionId) {
        self.clients.remove(&id);
    }

    /// Returns `true` if the map lets a user in. Pacemaker sets the key of its own group.
    pub(super) fn allows(&self, uid: u32, gid: u32) -> bool {
        let one = Value::u8(1);
        let keys = ["", "config."]
            .into_iter()
            .flat_map(|from| [format!("uidgid.{from}uid.{uid}"), format!("uidgid.{from}gid.{gid}")]);
        keys.into_iter().any(|key| self.values.get(&key) == Some(&one))
    }

    /// Returns a number that a client or the configuration has set.
    pub(super) fn number(&self, key: &str) -> Option<u32> {
        self.values.get(key)?.as_u32()
    }

    /// Returns `true` if a key has this text.
    pub(super) fn is_text(&self, key: &str, text: &str) -> bool {
        self.values.get(key) == Some(&Value::text(text))
    }

    /// Sets a key, and tells the clients that track it if that changes it.
    pub(super) fn set(&mut self, key: &str, value: &Value, connections: &Connections) {
        let old = self.values.insert(key.to_owned(), value.clone());
        if old.as_ref() != Some(value) {
            self.tell(Map::Default, key, Some(value), old.as_ref(), connections);
        }
    }

    fn tell(&self, map: Map, key: &str, new: Option<&Value>, old: Option<&Value>, connections: &Connections) {
        let kind = change(new, old);
        for (id, client) in self.clients.iter().filter(|(_, client)| client.map == map) {
            for tracker in client.trackers.values().filter(|tracker| tracker.wants(key, kind)) {
                tell(connections, *id, tracker.event(key, new, old));
            }
        }
    }

    pub(super) fn request(
        &mut self,
        id: ConnectionId,
        request: Request,
        connections: &Connections,
        effects: &mut Vec<Effect>,
    ) -> Result<Step, Malformed> {
        let map = self.clients.entry(id).or_default().map;
        let step = match request.id() {
            9 => Step::Reply(self.choose(id, request.i32(16)?)),
            2 | 4 | 7 if map == Map::Stats => Step::Do(Order::ReadStats(request)),
            0 if map == Map::Stats && request.key(16)?.starts_with(CLEAR) => {
                Step::Do(Order::ReadStats(request))
            }
            changes @ (0 | 1 | 3) if map == Map::Stats => {
                let is_clear = request.key(16)?.starts_with(CLEAR);
                let code = if is_clear { Code::NotSupported } else { Code::Access };
                Step::Reply(Message::status(changes, code))
            }
            0 => Step::Reply(self.client_sets(&request, connections, effects)?),
            1 => Step::Reply(self.client_deletes(&request.key(16)?, connections)),
            2 => {
                let value = self.values.get(&request.key(16)?);
                Step::Reply(get(value, request.u64(280)?))
            }
            3 => Step::Reply(self.client_adjusts(&request.key(16)?, request.i32(280)?, connections)),
            4 => {
                let prefix = request.key(16)?;
                let matching = self.values.iter().filter(|(key, _)| key.starts_with(&prefix));
                let list = matching.map(|(key, value)| (key.clone(), value.clone())).collect();
                Step::Reply(self.iterate(id, list))
            }
            _ => Step::Reply(self.any_map(id, &request)?),
        };
        Ok(step)
    }

    /// Serves the requests that are the same for each map.
    fn any_map(&mut self, id: ConnectionId, request: &Request) -> Result<Bytes, Malformed> {
        let client = self.clients.entry(id).or_default();
        Ok(match request.id() {
            5 => match client.iterations.get_mut(&request.u64(16)?).map(VecDeque::pop_front) {
                Some(Some((key, value))) => Message::new(5, 304)
                    .key(24, &key)
                    .u64(288, value.bytes.len() as u64)
                    .u8(296, value.kind)
                    .done(),
                Some(None) => Message::new(5, 304).code(Code::NoSections).done(),
                None => Message::new(5, 304).code(Code::NotExist).done(),
            },
            6 => {
                let known = client.iterations.remove(&request.u64(16)?).is_some();
                Message::status(6, if known { Code::Ok } else { Code::NotExist })
            }
            7 => self.track(id, request, |_| None)?,
            8 => match client.trackers.remove(&request.u64(16)?) {
                Some(tracker) => Message::new(8, 32).u64(24, tracker.handle).done(),
                None => Message::new(8, 32).code(Code::NotExist).done(),
            },
            _ => return Err(Malformed),
        })
    }

    /// Adds a tracker. `counter` returns the value of a counter.
    fn track(
        &mut self,
        id: ConnectionId,
        request: &Request,
        counter: impl FnOnce(&str) -> Option<Value>,
    ) -> Result<Bytes, Malformed> {
        let (key, types, handle) = (request.key(16)?, request.i32(280)?, request.u64(288)?);
        let client = self.clients.entry(id).or_default();
        let refuse = |code| Ok(Message::new(7, 32).code(code).done());
        // The counters below a prefix come and go, and corosync tells nothing else about them.
        if client.map == Map::Stats && types & PREFIX != 0 && types & COME_AND_GO != COME_AND_GO {
            return refuse(Code::NotSupported);
        }
        if client.trackers.len() >= Self::MAX_TRACKERS {
            return refuse(Code::TryAgain);
        }
        self.last_handle += 1;
        let told = counter(&key);
        client.trackers.insert(self.last_handle, Tracker { key, types, handle, told });
        Ok(Message::new(7, 32).u64(24, self.last_handle).done())
    }

    /// Serves a request to the map of the counters. `value` returns that of a key, and `values`
    /// returns all.
    pub(super) fn stats_request(
        &mut self,
        id: ConnectionId,
        request: &Request,
        value: impl FnOnce(&str) -> Option<Value>,
        values: impl FnOnce() -> BTreeMap<String, Value>,
    ) -> Result<Bytes, Malformed> {
        Ok(match request.id() {
            2 => get(value(&request.key(16)?).as_ref(), request.u64(280)?),
            4 => {
                let prefix = request.key(16)?;
                self.iterate(id, values().into_iter().filter(|(key, _)| key.starts_with(&prefix)).collect())
            }
            7 => self.track(id, request, value)?,
            _ => return Err(Malformed),
        })
    }

    /// Returns `true` if a client tracks the value of a counter.
    pub(super) fn watches_counters(&self) -> bool {
        self.clients
            .values()
            .any(|client| client.map == Map::Stats && client.trackers.values().any(Tracker::is_of_a_value))
    }

    /// Tells the clients that track a counter its value if that has changed.
    pub(super) fn tell_counters(&mut self, values: &BTreeMap<String, Value>, connections: &Connections) {
        for (id, client) in self.clients.iter_mut().filter(|(_, client)| client.map == Map::Stats) {
            for tracker in client.trackers.values_mut().filter(|tracker| tracker.is_of_a_value()) {
                let new = values.get(&tracker.key);
                if new.is_some() && tracker.told.is_some() && new != tracker.told.as_ref() {
                    let event = tracker.event(&tracker.key, new, tracker.told.as_ref());
                    tell(connections, *id, event);
                }
                tracker.told = new.cloned();
            }
        }
    }

    /// Tells the clients that track the counters of connections that some have come or gone.
    pub(super) fn counters_changed(
        &self,
        counters: &BTreeMap<String, Value>,
        added: bool,
        connections: &Connections,
    ) {
        for (key, value) in counters {
            let [new, old] = if added { [Some(value), None] } else { [None, Some(value)] };
            self.tell(Map::Stats, key, new, old, connections);
        }
    }

    fn choose(&mut self, id: ConnectionId, map: i32) -> Bytes {
        let client = self.clients.entry(id).or_default();
        let is_open = !client.iterations.is_empty() || !client.trackers.is_empty();
        let code = match map {
            _ if is_open => Code::Busy,
            0 => {
                client.map = Map::Default;
                Code::Ok
            }
            1 => {
                client.map = Map::Stats;
                Code::Ok
            }
            _ => Code::NotExist,
        };
        Message::status(10, code)
    }

    fn iterate(&mut self, id: ConnectionId, list: VecDeque<(String, Value)>) -> Bytes {
        let client = self.clients.entry(id).or_default();
        if client.iterations.len() >= Self::MAX_ITERATIONS {
            return Message::new(4, 32).code(Code::TryAgain).done();
        }
        self.last_handle += 1;
        client.iterations.insert(self.last_handle, list);
        Message::new(4, 32).u64(24, self.last_handle).done()
    }

    fn client_sets(
        &mut self,
        request: &Request,
        connections: &Connections,
        effects: &mut Vec<Effect>,
    ) -> Result<Bytes, Malformed> {
        let (key, kind) = (request.key(16)?, request.u8(288)?);
        let length = usize::try_from(request.u64(280)?).map_err(|_| Malformed)?;
        let value = Value::of_client(kind, request.bytes(296, length)?);
        let code = match value {
            _ if !is_key(&key) => Code::InvalidParam,
            _ if is_read_only(&key) => Code::Access,
            _ if length > Self::MAX_VALUE => Code::InvalidParam,
            _ if self.values.len() >= Self::MAX_KEYS && !self.values.contains_key(&key) => Code::TryAgain,
            Some(value) => {
                self.set(&key, &value, connections);
                if key == CANCEL_WAIT && value == Value::u8(1) {
                    effects.push(Effect::CancelWaitForAll);
                    self.set(&key, &Value::u8(0), connections);
                }
                Code::Ok
            }
            None => Code::InvalidParam,
        };
        Ok(Message::status(0, code))
    }

    fn client_deletes(&mut self, key: &str, connections: &Connections) -> Bytes {
        let code = if is_read_only(key) {
            Code::Access
        } else if let Some(old) = self.values.remove(key) {
            self.tell(Map::Default, key, None, Some(&old), connections);
            Code::Ok
        } else {
            Code::NotExist
        };
        Message::status(1, code)
    }

    fn client_adjusts(&mut self, key: &str, step: i32, connections: &Connections) -> Bytes {
        let code = match self.values.entry(key.to_owned()) {
            _ if is_read_only(key) => Code::Access,
            Entry::Vacant(_) => Code::NotExist,
            Entry::Occupied(value) => match value.get().adjusted(step) {
                Some(adjusted) => {
                    self.set(key, &adjusted, connections);
                    Code::Ok
                }
                None => Code::InvalidParam,
            },
        };
        Message::status(3, code)
    }
}

/// Returns the response with a value for a client that has room for `room` bytes.
fn get(value: Option<&Value>, room: u64) -> Bytes {
    const ID: i32 = 2;
    let refuse = |code| Message::new(ID, 40).code(code).done();
    let Some(value) = value else { return refuse(Code::NotExist) };
    let size = value.bytes.len();
    let described = |message: Message| message.u64(24, size as u64).u8(32, value.kind);
    match usize::try_from(room) {
        Ok(0) => described(Message::new(ID, 40)).done(),
        // The client reads as many bytes as it has room for. It has no room for more than a
        // message.
        Ok(room) if size <= room && room <= 1 << 20 => {
            described(Message::new(ID, 40 + room)).bytes(40, &value.bytes).done()
        }
        _ => refuse(Code::InvalidParam),
    }
}

/// Returns `true` for a key that a reload can change, as with corosync. The others say what is in
/// force.
fn is_configured(key: &str) -> bool {
    const SECTIONS: [&str; 5] = ["logging.", "totem.", "nodelist.", "quorum.", "uidgid.config."];
    const IN_FORCE: [&str; 8] = [
        "totem.version",
        "totem.threads",
        "totem.ip_version",
        "totem.rrp_mode",
        "totem.netmtu",
        "totem.transport",
        "totem.cluster_name",
        "quorum.provider",
    ];
    SECTIONS.iter().any(|section| key.starts_with(section))
        && !key.starts_with("totem.interface.")
        && !IN_FORCE.contains(&key)
}

/// Returns `true` for what can be a key.
fn is_key(key: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
    (3..=255).contains(&key.len()) && key.bytes().all(is_allowed)
}

/// Returns `true` for a key that clients cannot change, as with corosync.
fn is_read_only(key: &str) -> bool {
    const PREFIXES: [&str; 7] = [
        "internal_configuration.",
        "runtime.services.",
        "runtime.config.",
        "runtime.totem.",
        "uidgid.config.",
        "system.",
        "nodelist.",
    ];
    const TOTEM: [&str; 15] = [
        "crypto_cipher",
        "crypto_hash",
        "crypto_model",
        "keyfile",
        "key",
        "secauth",
        "ip_version",
        "rrp_mode",
        "transport",
        "cluster_name",
        "netmtu",
        "threads",
        "version",
        "nodeid",
        "clear_node_high_bit",
    ];
    const QUORUM: [&str; 7] = [
        "allow_downscale",
        "wait_for_all",
        "last_man_standing",
        "last_man_standing_window",
        "expected_votes_tracking",
        "auto_tie_breaker",
        "auto_tie_breaker_node",
    ];
    PREFIXES.iter().any(|prefix| key.starts_with(prefix))
        || key.strip_prefix("totem.").is_some_and(|rest| TOTEM.contains(&rest))
        || key.strip_prefix("quorum.").is_some_and(|rest| QUORUM.contains(&rest))
        || ["config.reload_in_progress", "config.totemconfig_reload_in_progress"].contains(&key)
}
