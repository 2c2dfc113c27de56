//! One member of the group works and the others stand by. When it leaves, another takes over.

use std::error::Error;
use std::time::Duration;

use quorate::{Dc, Node, Revoked};
use quorate_examples::{member_of_three, say};
use tokio::time::{sleep, timeout};

/// Works whenever this node may act as DC, for as long as it is a member.
async fn work(id: u8, dc: Dc) -> Revoked {
    loop {
        let guard = match dc.guard().await {
            Ok(guard) => guard,
            Err(left) => return left,
        };
        // Check the guard before each act. A real resource gets the term and refuses lower ones.
        while let Ok(term) = guard.check() {
            say(format_args!("{id} works under term {term}"));
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let state = tempfile::tempdir()?;
    let mut workers = Vec::new();
    for id in 1..=3 {
        let config = member_of_three(id, 5425);
        // An application that only wants to act as DC drops the events.
        let (node, _, dc) = Node::builder(config).state_dir(state.path()).start().await?;
        tokio::spawn(work(id, dc.clone()));
        workers.push((id, node, dc));
    }
    let mut statuses = workers[0].2.watch();
    timeout(Duration::from_secs(30), statuses.wait_for(|status| status.term.is_some())).await??;

    for _ in 0..2 {
        sleep(Duration::from_secs(1)).await;
        let Some(dc) = workers[0].2.status().dc else { break };
        let Some(place) = workers.iter().position(|(id, ..)| u32::from(*id) == dc.get()) else { break };
        let (id, node, _) = workers.remove(place);
        say(format_args!("{id} leaves"));
        node.leave().await;
    }
    sleep(Duration::from_secs(1)).await;
    say(format_args!("{} is alone, has no quorum, and stops working", workers[0].0));
    Ok(())
}
