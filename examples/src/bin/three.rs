//! The example of README.md: three nodes in one process become quorate and order a message.

use quorate::{Config, Event, Group, Guarantee, Node};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let members = [(1, "127.0.0.1"), (2, "127.0.0.2"), (3, "127.0.0.3")];
    let group: Group = "orders".parse()?;
    let mut nodes = Vec::new();
    for (id, _) in members {
        let config = Config::of_cluster("readme", id, members)?;
        let directory = std::env::temp_dir().join("quorate-readme"); // on a disk, in a service
        nodes.push(Node::builder(config).state_dir(directory).start().await?);
    }
    let (node, events, _dc) = &mut nodes[0];
    while let Some(event) = events.next().await {
        match event {
            Event::Regular(ring) => println!("members {:?}: {}", ring.members, ring.why()),
            Event::Status(status) if status.quorate => {
                node.multicast(&group, Guarantee::Safe, "hello".into()).await?; // waits for room
            }
            Event::Deliver(message) => return Ok(println!("node {}: {:?}", message.from, message.payload)),
            _ => {}
        }
    }
    Ok(())
}
