//! Effects that happen exactly once at either end: a row and a message in one commit, a message and a row in one commit.
//!
//! `cargo run --example exactly_once` with a NATS server on localhost:4222, or WAYPOST_NATS set. Kill it, run it again: the two tables
//! always agree in the end.

use std::time::Duration;

use waypost::error::SendError;
use waypost::{Mode, Node, rusqlite};

const COUNT_SOLD: &str = "SELECT count(*) FROM sold";
const COUNT_SHIPPED: &str = "SELECT count(*) FROM shipped";

#[derive(Debug, thiserror::Error)]
enum SaleError {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error(transparent)]
    Send(#[from] SendError),
}

async fn count(node: &Node, sql: &'static str) -> Result<u64, Box<dyn std::error::Error>> {
    Ok(node.transaction(move |tx| tx.query_row(sql, [], |row| row.get(0))).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::var("WAYPOST_NATS").unwrap_or("nats://localhost:4222".to_owned());
    let shop = Node::builder().id("shop").nats([&server]).start().await?;
    let depot = Node::builder().id("depot").nats([&server]).start().await?;
    shop.transaction(|tx| tx.execute_batch("CREATE TABLE IF NOT EXISTS sold (item TEXT) STRICT"))
        .await?;
    depot
        .transaction(|tx| tx.execute_batch("CREATE TABLE IF NOT EXISTS shipped (item TEXT) STRICT"))
        .await?;

    depot
        .join("orders", Mode::Reader)
        .await?
        .on_message(|mut message| async move {
            let item = message.text()?.to_owned();
            let ship = "INSERT INTO shipped (item) VALUES (?1)";
            message.ack_in(move |tx| tx.execute(ship, [item])).await?;
            Ok(())
        })
        .await?;

    let orders = shop.join("orders", Mode::Writer).await?;
    for n in 0..100 {
        let orders = orders.clone();
        shop.transaction(move |tx| -> Result<(), SaleError> {
            let item = format!("crate {n}");
            tx.execute("INSERT INTO sold (item) VALUES (?1)", [&item])?;
            orders.send_in(tx, item)?;
            Ok(())
        })
        .await?;
    }
    let flushed = shop.flush(Duration::from_secs(30)).await?;
    let (sold, shipped) = (count(&shop, COUNT_SOLD).await?, count(&depot, COUNT_SHIPPED).await?);
    println!("{sold} sold, {shipped} shipped, waiting: {:?}", flushed.waiting);
    shop.shutdown().await;
    depot.shutdown().await;
    Ok(())
}
