//! A guest in a ring of corosync daemons: it prints the members, and chats in one of their groups.
//!
//!     cargo run -p quorate-examples --bin guest corosync.conf
//!
//! The file is that of the daemons, with this host in its node list. No daemon may run on this
//! host. The guest counts votes with the daemons, and may be the DC, which they know nothing of.
//! Each line of the input goes to the group `guests`, which programs on the daemons' hosts join
//! with libcpg. At the end of the input (Ctrl-D), the guest leaves.

use std::error::Error;

use quorate::config::{self, Overrides};
use quorate::{Event, Group, Guarantee, Node};
use quorate_examples::{lines, say};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("say where the daemons' corosync.conf is")?;
    let loaded = config::load(file, &Overrides::default(), &config::this_host()?)?;
    loaded.warnings.iter().for_each(|warning| say(format_args!("{warning}")));
    let state = std::env::temp_dir().join("quorate-guest");
    let (node, mut events, _dc) = Node::builder(loaded.config).state_dir(state).start().await?;
    let group: Group = "guests".parse()?;
    node.join(&group).await?;

    let sender = node.clone();
    let mut lines = lines();
    let to = group.clone();
    tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            if sender.multicast(&to, Guarantee::Agreed, line.into()).await.is_err() {
                return;
            }
        }
        sender.leave().await;
    });
    while let Some(event) = events.next().await {
        match event {
            Event::Regular(ring) => {
                say(format_args!("ring {}: {:?}, {}", ring.ring, ring.members, ring.why()));
            }
            Event::Status(status) if status.settled => {
                let quorum = if status.quorate { "with" } else { "without" };
                say(format_args!("{} votes, {quorum} quorum", status.total_votes));
            }
            Event::GroupChange(change) if change.group == group => say(change),
            Event::Deliver(message) if message.group == group => {
                say(format_args!("{}: {}", message.from, String::from_utf8_lossy(&message.payload)));
            }
            Event::Left(cause) => say(format_args!("left: {cause}")),
            _ => {}
        }
    }
    Ok(())
}
