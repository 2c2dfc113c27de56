//! The example of README.md: three nodes in one process become quorate and order a message.

use quorate::{Config, Event, Guarantee, Node};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let members = [(1, "127.0.0.1"), (2, "127.0.0.2"), (3, "127.0.0.3")];
    let mut nodes = Vec::new();
    for (id, _) in members {
        let config = Config::of_cluster("readme", id, members)?;
        nodes.push(Node::builder(config).state_dir(std::env::temp_dir().join("readme")).start().await?);
    }
    let (node, events, _dc) = &mut nodes[0];
    while let Some(event) = events.next().await {
        match event {
            Event::Regular(ring) => println!("members {:?}: {}", ring.members, ring.why()),
            Event::Status(status) if status.quorate => {
                node.multicast(&"orders".parse()?, Guarantee::Safe, "hello".into()).await?; // waits for room
            }
            Event::Deliver(message) => {
                println!("node {}: {:?}", message.from, message.payload);
                break;
            }
            _ => {}
        }
    }
    Ok(())
}
