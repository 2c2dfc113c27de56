//! A number that three members add to. A member that comes later has the sum, too.
//!
//!     cargo run -p quorate-examples --bin counter 1
//!
//! Run it in three terminals, with 1, 2 and 3. Each line of the input is a number to add. The end
//! of the input (Ctrl-D) leaves. The first time, all three have to be there; after that, two are
//! enough.

use std::error::Error;

use bytes::Bytes;
use quorate::Node;
use quorate::replica::{Replica, State};
use quorate_examples::{lines, member_of_three, number_of_member, say};

/// The sum.
#[derive(Default)]
struct Counter(i64);

impl State for Counter {
    type Output = i64;

    fn apply(&mut self, write: &[u8]) -> i64 {
        self.0 += write.try_into().map_or(0, i64::from_le_bytes);
        self.0
    }

    fn snapshot(&self) -> Bytes {
        self.0.to_le_bytes().to_vec().into()
    }

    fn restore(snapshot: &[u8]) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self(i64::from_le_bytes(snapshot.try_into()?)))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = member_of_three(number_of_member()?, 5465);
    let state = std::env::temp_dir().join("quorate-counter");
    let (node, events, _dc) = Node::builder(config).state_dir(state).start().await?;
    let counter = Replica::open(node.clone(), "counter".parse()?, Counter::default(), events);
    counter.opened().await?;
    say(format_args!("the sum is {}", counter.read(|counter| counter.0)));

    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        match line.trim().parse::<i64>() {
            Err(error) => say(format_args!("{line:?}: {error}")),
            Ok(number) => match counter.write(number.to_le_bytes()).await {
                Ok(sum) => say(format_args!("{number} more makes {sum}")),
                Err(why) => say(format_args!("{number}: {why}")),
            },
        }
    }
    node.leave().await;
    Ok(())
}
