//! One of three nodes leads and counts; kill it, and another goes on counting from where it was.
//!
//! With a NATS server on localhost:4222 (`scripts/nats start`), in three terminals:
//!
//! ```console
//! $ cargo run --example leader a
//! $ cargo run --example leader b
//! $ cargo run --example leader c
//! ```
//!
//! Ctrl-C hands the role over at once; kill -9 makes the others wait for three seconds.

use std::error::Error;
use std::time::Duration;

use waypost::election::Fence;
use waypost::{Election, Node};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).ok_or("give a name: a, b or c")?;
    let server = std::env::var("WAYPOST_NATS").unwrap_or("nats://localhost:4222".to_owned());
    let node = Node::builder()
        .id(&name)
        .nats([server])
        .storage("leader-{id}.db")
        .election(Election::quorum(["a", "b", "c"])?)
        .start()
        .await?;
    node.on_became_master(|state, reason| async move {
        println!("master ({reason}); the last one got to {}", state.value());
    })
    .await?;
    node.on_became_follower(|info| async move { println!("follower: {}", info.reason) }).await?;

    // Whoever guards what only the master may touch; here, the terminals of this machine.
    let mut fence = Fence::open("leader.fence")?;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            _ = tick.tick() => {}
        }
        let Some(token) = node.fencing_token() else {
            let leader = node.master().map_or("nobody".to_owned(), |(name, _)| name.to_string());
            println!("{leader} leads and is at {}", node.state().value());
            continue;
        };
        let count = node.state().value().as_u64().unwrap_or(0) + 1;
        // A majority has it on disk when this returns; an error says that another took over meanwhile.
        match node.set_state(&count).await {
            Ok(_) => fence.guard("terminal", &token, || println!("{name} counts {count}"))?,
            Err(error) => println!("{error}"),
        }
    }
    node.shutdown().await;
    Ok(())
}
