//! A room to talk in. Its members see who comes and goes, and read all messages in one order.
//!
//!     cargo run -p quorate-examples --bin chat 1
//!
//! Run it in three terminals, with 1, 2 and 3. The end of the input (Ctrl-D) leaves the room.
//!
//! The members of a group are processes. A node has any number of them, in any number of groups.

use std::error::Error;
use std::io;

use quorate::{Event, Group, Guarantee, Node};
use quorate_examples::{member_of_three, say};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let id = std::env::args().nth(1).and_then(|id| id.parse().ok()).filter(|id| (1..=3).contains(id));
    let id = id.ok_or("say which of the three members this is: 1, 2 or 3")?;
    let config = member_of_three(id, 5455);
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

/// Reads the input in a thread, for which the program does not wait when it ends.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        let _ = io::stdin().lines().map_while(Result::ok).try_for_each(|line| sender.blocking_send(line));
    });
    lines
}
