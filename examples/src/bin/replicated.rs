//! A key-value store on three members that outlives each of them.

use std::error::Error;
use std::path::Path;

use quorate::Node;
use quorate_examples::kv::Store;
use quorate_examples::{member_of_three, say};

async fn start(id: u8, state: &Path) -> Result<(Node, Store), Box<dyn Error>> {
    let config = member_of_three(id, 5435);
    let (node, events, _) = Node::builder(config).state_dir(state).start().await?;
    Ok((node.clone(), Store::open(node, events)?))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let state = tempfile::tempdir()?;
    let (_first, one) = start(1, state.path()).await?;
    let (second, two) = start(2, state.path()).await?;
    let (third, three) = start(3, state.path()).await?;
    for store in [&one, &two, &three] {
        store.opened(3).await?;
    }
    say(format_args!("three members: {:?}", one.put("colour", "green").await));

    third.leave().await;
    say("3 leaves");
    let put = async |value| loop {
        // Repeat until the ring of two takes writes. A failed write may be tried again.
        match two.put("colour", value).await {
            Ok(_) => return,
            Err(why) => say(format_args!("not yet: {why}")),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    put("blue").await;
    say(format_args!("two members: 1 has {:?}", one.get("colour")));

    let (third, three) = start(3, state.path()).await?;
    three.opened(3).await?;
    say(format_args!("3 is back, and has {:?} from a snapshot", three.get("colour")));
    assert_eq!(three.get("colour").as_deref(), Some("blue"));

    second.leave().await;
    third.leave().await;
    say("2 and 3 leave");
    tokio::time::sleep(std::time::Duration::from_millis(1000)).await;
    say(format_args!(
        "one member: {:?}; it still has {:?}",
        one.put("colour", "red").await,
        one.get("colour")
    ));
    assert_eq!(one.get("colour").as_deref(), Some("blue"));
    Ok(())
}
