//! The first program of docs/embedding.md: one of three nodes, which works while it leads.
//!
//!     cargo run -p quorate-examples --bin leader 1
//!
//! Run it in three terminals, with 1, 2 and 3.

use std::error::Error;
use std::time::Duration;

use quorate::{Config, Node};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let id = std::env::args().nth(1).ok_or("say which node this is: 1, 2 or 3")?.parse()?;
    let nodes = [(1, "127.0.0.1"), (2, "127.0.0.2"), (3, "127.0.0.3")];
    let config = Config::of_cluster("my-service", id, nodes)?;
    let state = std::env::temp_dir().join("my-service");
    // `_node`, because a node ends when it is dropped. `_` drops the events, which nothing takes
    // here.
    let (_node, _, dc) = Node::builder(config).state_dir(state).start().await?;
    loop {
        let guard = dc.guard().await?; // waits until this node leads
        while let Ok(term) = guard.check() {
            println!("node {id} leads under term {term}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}
