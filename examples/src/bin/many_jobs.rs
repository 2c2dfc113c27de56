//! Twelve jobs, each of which runs on exactly one of three members.
//!
//!     cargo run -p quorate-examples --bin many_jobs 1
//!
//! Run it in three terminals, with 1, 2 and 3. Each prints the jobs that it begins and ends. The
//! end of the input (Ctrl-D) leaves, and the others take over its jobs at once. If a member is
//! killed, they do so when its lease is over.

use std::error::Error;
use std::time::Duration;

use quorate::Node;
use quorate::leaders::{Candidate, Leaders};
use quorate_examples::{lines, member_of_three, number_of_member, say};
use tokio::time::sleep;

/// Runs a job while this member leads for it, for as long as the node is a member.
async fn run(job: Candidate) {
    while let Ok(guard) = job.guard().await {
        say(format_args!("begins {} under term {}", job.name(), guard.term()));
        // A real job hands the term to the resource, which rejects lower ones.
        while guard.check().is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
        say(format_args!("ends {}", job.name()));
        // The guard is dropped here. Now another member may begin.
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = member_of_three(number_of_member()?, 5485);
    let state = std::env::temp_dir().join("quorate-many-jobs");
    let (node, events, dc) = Node::builder(config).state_dir(state).start().await?;
    let leaders = Leaders::open(node.clone(), "jobs".parse()?, &dc, events);
    for job in 1..=12 {
        tokio::spawn(run(leaders.stand(&format!("job {job}"))?));
    }

    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        match leaders.leader(line.trim()) {
            Some(leader) => say(format_args!("{} runs on node {}", line.trim(), leader.node)),
            None => say(format_args!("no member runs {:?}", line.trim())),
        }
    }
    leaders.resign().await;
    node.leave().await;
    Ok(())
}
