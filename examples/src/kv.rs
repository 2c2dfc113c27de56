//! A replicated key-value store in memory: a map, and how writes change it. The rest is
//! [`quorate::replica`].

use std::collections::BTreeMap;
use std::error::Error;

use bytes::Bytes;
use quorate::replica::{Replica, ReplicaStatus, State, WriteError};
use quorate::{Events, Group, GroupNameError, Node};
use serde::{Deserialize, Serialize};

/// The entries of a store.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Entries(pub BTreeMap<String, String>);

/// A change of one entry. Without a value, the entry is removed.
#[derive(Serialize, Deserialize)]
struct Write {
    key: String,
    value: Option<String>,
}

impl State for Entries {
    /// The previous value.
    type Output = Option<String>;

    fn apply(&mut self, write: &[u8]) -> Option<String> {
        match serde_json::from_slice(write).ok()? {
            Write { key, value: Some(value) } => self.0.insert(key, value),
            Write { key, value: None } => self.0.remove(&key),
        }
    }

    fn snapshot(&self) -> Bytes {
        written(self)
    }

    fn restore(snapshot: &[u8]) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(serde_json::from_slice(snapshot)?)
    }
}

fn written(value: &impl Serialize) -> Bytes {
    // Serialising cannot fail, because it writes to memory and all keys are strings.
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// A member's handle to the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(Replica<Entries>);

impl Store {
    /// Opens this member's copy of the store. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Never: the group's name is short enough.
    pub fn open(node: Node, events: Events) -> Result<Self, GroupNameError> {
        let group: Group = "kv".parse()?;
        Ok(Self(Replica::open(node, group, Entries::default(), events)))
    }

    /// Sets the value of a key, and returns the previous one.
    ///
    /// # Errors
    /// If the write is not acknowledged. It may be tried again.
    pub async fn put(&self, key: &str, value: &str) -> Result<Option<String>, WriteError> {
        let write = Write { key: key.to_owned(), value: Some(value.to_owned()) };
        self.0.write(written(&write)).await
    }

    /// Returns this member's value for a key. It may be stale.
    pub fn get(&self, key: &str) -> Option<String> {
        self.0.read(|entries| entries.0.get(key).cloned())
    }

    /// Returns all entries of this member.
    pub fn entries(&self) -> Entries {
        self.0.read(Entries::clone)
    }

    /// Returns what this member knows of the replicas.
    pub fn status(&self) -> ReplicaStatus {
        self.0.status()
    }

    /// Waits until this store accepts writes, and this number of members has the entries.
    ///
    /// # Errors
    /// If this member leaves before.
    pub async fn opened(&self, members: usize) -> Result<(), WriteError> {
        self.0.wait_for(|status| status.closed.is_none() && status.holders >= members).await
    }
}
