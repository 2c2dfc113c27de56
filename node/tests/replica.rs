//! A replica on a node with real sockets.

#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use quorate::replica::{Closed, Replica, State, WriteError};
use quorate::{Config, Dc, Events, Node};
use tokio::time::timeout;

/// All bytes that were written.
#[derive(Default)]
struct Text(Vec<u8>);

impl State for Text {
    type Output = usize;

    fn apply(&mut self, write: &[u8]) -> usize {
        self.0.extend(write);
        self.0.len()
    }

    fn snapshot(&self) -> Bytes {
        self.0.clone().into()
    }

    fn restore(snapshot: &[u8]) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self(snapshot.to_vec()))
    }
}

/// Starts the only node of a cluster.
async fn alone(cluster: &str, address: &str, state: &tempfile::TempDir) -> (Node, Events, Dc) {
    let config = Config::of_cluster(cluster, 1, [(1, address)]).unwrap();
    Node::builder(config).state_dir(state.path()).start().await.unwrap()
}

fn open(node: Node, events: Events) -> Replica<Text> {
    Replica::open(node, "text".parse().unwrap(), Text::default(), events)
}

#[tokio::test]
async fn a_node_leaves_with_the_last_handle_to_its_replica() {
    let state = tempfile::tempdir().unwrap();
    let (node, events, dc) = alone("replica-handles", "127.0.0.71", &state).await;
    let replica = open(node, events);
    replica.opened().await.unwrap();
    let other = replica.clone();
    drop(replica);
    assert_eq!(other.write(b"one").await, Ok(3));
    assert_eq!(other.confirm().await, Ok(()));
    assert_eq!(other.read(|text| text.0.clone()), b"one");
    drop(other);
    let mut status = dc.watch();
    let leaves = async { while status.changed().await.is_ok() {} };
    timeout(Duration::from_secs(10), leaves).await.expect("the node leaves");
}

#[tokio::test]
async fn writes_fail_once_the_node_has_left() {
    let state = tempfile::tempdir().unwrap();
    let (node, events, _dc) = alone("replica-left", "127.0.0.72", &state).await;
    let replica = open(node.clone(), events);
    replica.opened().await.unwrap();
    let length = Replica::<Text>::MAX_WRITE + 1;
    assert_eq!(replica.write(vec![0; length]).await, Err(WriteError::TooLong { length }));
    node.leave().await;
    assert_eq!(replica.wait_for(|status| status.closed == Some(Closed::Ended)).await, Err(WriteError::Left));
    assert_eq!(replica.write(b"two").await, Err(WriteError::Left));
    assert_eq!(replica.opened().await, Err(WriteError::Left));
}
