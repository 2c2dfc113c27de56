//! One member of the group works, the others stand by; when it goes, another takes over.

use std::error::Error;
use std::time::Duration;

use quorate_election::spawn;
use quorate_examples::member_of_three;
use quorate_membership::transport::Udp;
use tokio::time::{interval, timeout};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let state = tempfile::tempdir()?;
    let mut workers = Vec::new();
    for id in 1..=3 {
        let config = member_of_three(id, 5425);
        let transport = Udp::bind(&config)?;
        let me = config.node;
        // Who only wants to know who is DC drops the events: the latest status is enough.
        let (node, _, status) = spawn(config, transport, state.path()).await?;
        let mut watch = status.clone();
        let work = tokio::spawn(async move {
            let mut tick = interval(Duration::from_millis(100));
            loop {
                tick.tick().await;
                // Looked at again before each act; the resource gets the term, and refuses lower ones.
                if let Some(term) = status.borrow().term.filter(|term| term.node == me) {
                    println!("{me} works under term {term}");
                }
            }
        });
        workers.push((id, node, watch.clone(), work));
        if id == 3 {
            timeout(Duration::from_secs(10), watch.wait_for(|status| status.term.is_some())).await??;
        }
    }

    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (_, _, status, _) = &workers[0];
        let Some(dc) = status.borrow().dc else { break };
        let Some(place) = workers.iter().position(|(id, ..)| u32::from(*id) == dc.get()) else { break };
        let (id, node, _, work) = workers.remove(place);
        println!("{id} leaves");
        node.leave().await;
        work.abort();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    println!("{} is alone: no quorum, nobody works", workers[0].0);
    Ok(())
}
