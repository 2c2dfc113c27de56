//! Three members send at once, and all deliver the messages in one order.

use std::error::Error;

use quorate::{Event, Group, Guarantee, Node};
use quorate_examples::{member_of_three, say};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let state = tempfile::tempdir()?;
    let group: Group = "greetings".parse()?;
    let mut members = Vec::new();
    for id in 1..=3 {
        let config = member_of_three(id, 5415);
        members.push((id, Node::builder(config).state_dir(state.path()).start().await?));
    }

    let mut orders = Vec::new();
    let mut tasks = Vec::new();
    for (id, (node, mut events, _)) in members {
        let group = group.clone();
        tasks.push(tokio::spawn(async move {
            let mut order = Vec::new();
            let mut members = 0;
            while let Some(event) = events.next().await {
                match event {
                    Event::Regular(regular) => {
                        say(format_args!("{id}: {:?}, because {}", regular.members, regular.why()));
                        members = regular.members.len();
                    }
                    // Each member sends once all three are in the ring and have synchronised.
                    Event::Synced(_) if members == 3 => {
                        for n in 1..=3 {
                            let text = format!("{n} from {id}");
                            let _ = node.multicast(&group, Guarantee::Safe, text.into()).await;
                        }
                    }
                    Event::Deliver(delivery) => {
                        order.push(String::from_utf8_lossy(&delivery.payload).into_owned());
                        if order.len() == 9 {
                            break;
                        }
                    }
                    _ => {}
                }
            }
            (node, order)
        }));
    }
    let mut nodes = Vec::new();
    for task in tasks {
        let (node, order) = task.await?;
        nodes.push(node);
        say(format_args!("{}", order.join(", ")));
        orders.push(order);
    }
    assert!(orders.windows(2).all(|pair| pair[0] == pair[1]), "one order everywhere");
    Ok(())
}
