//! A room to talk in. Its members see who comes and goes, and read all messages in one order.
//!
//!     cargo run -p quorate-examples --bin chat 1
//!
//! Run it in three terminals, with 1, 2 and 3. The end of the input (Ctrl-D) leaves the room.
//!
//! The members of a group are processes. A node has any number of them, in any number of groups.

use std::error::Error;

use quorate::{Event, Group, Guarantee, Node};
use quorate_examples::{lines, member_of_three, number_of_member, say};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = member_of_three(number_of_member()?, 5455);
    let state = std::env::temp_dir().join("quorate-chat");
    let (node, mut events, _dc) = Node::builder(config).state_dir(state).start().await?;
    let room: Group = "room".parse()?;
    node.join(&room).await?;
    // A message can wait for room in the ring. Meanwhile, events are still taken here.
    tokio::spawn(talk(node, room.clone()));

    while let Some(event) = events.next().await {
        match event {
            Event::GroupChange(change) if change.group == room => {
                let nodes: Vec<_> = change.members.iter().map(|member| member.node.to_string()).collect();
                say(format_args!("({}) in the room: {}", change.reason, nodes.join(" ")));
            }
            Event::Deliver(message) if message.group == room => {
                say(format_args!("{}: {}", message.from, String::from_utf8_lossy(&message.payload)));
            }
            Event::Left(cause) => say(format_args!("({cause})")),
            _ => {}
        }
    }
    Ok(())
}

/// Sends each line of the input, and then leaves.
async fn talk(node: Node, room: Group) {
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        if let Err(error) = node.multicast(&room, Guarantee::Agreed, line.into()).await {
            say(format_args!("(not sent: {error})"));
        }
    }
    node.leave().await;
}
