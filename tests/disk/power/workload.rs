//! A sender and a receiver at work on a recorded disk.

use std::path::Path;
use std::time::Duration;

use waypost::{Channel, Event, Mode, NewMessage, Node, Priority};
use waypost_faultfs::{Disk, Log};

use super::{
    EXACT, Handled, PLAIN, POISON, SLOW, URGENT, create_orders, join, order, quick, receive,
};
use crate::nodes::{account_is, begin, reader_is_known};
use crate::support::nats_server::NatsServer;

const ROUNDS: u32 = 12;
/// In this round the sender restarts, in the next the receiver.
const RESTART: u32 = 5;
/// Does not compress, and takes several pages.
const LARGE_BYTES: usize = 12_000;
/// So short that messages are deleted while the two work.
const RETENTION: Duration = Duration::from_millis(250);

/// What happened, and to what.
pub struct Recorded {
    pub log: Log,
}

struct Sender {
    node: Node,
    plain: Channel,
    exact: Channel,
    poison: Channel,
    slow: Channel,
    told: tokio::task::JoinHandle<()>,
}

/// Lets the two work, and gives the log of all that they did to their disk.
pub async fn record(server: &NatsServer) -> Recorded {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::watch(folder.path());
    let handled = Handled::default();
    let mut bob = start_receiver(server, folder.path(), &handled, &disk).await;
    let mut alice = Sender::start(server, folder.path(), &disk).await;
    for channel in [PLAIN, EXACT, POISON, SLOW] {
        reader_is_known(&alice.node, channel, "bob").await;
    }
    for round in 0..ROUNDS {
        alice.round(round, &disk).await;
        if round == RESTART {
            alice.stop().await;
            alice = Sender::start(server, folder.path(), &disk).await;
        }
        if round == RESTART + 1 {
            bob.shutdown().await;
            bob = start_receiver(server, folder.path(), &handled, &disk).await;
        }
    }
    alice.purge(&disk).await;
    // What is still under way when the two stop is as good a case as any.
    alice.stop().await;
    bob.shutdown().await;
    Recorded { log: disk.log() }
}

async fn start_receiver(
    server: &NatsServer,
    folder: &Path,
    handled: &Handled,
    disk: &Disk,
) -> Node {
    let bob = begin(quick(&server.url(), "record", folder, "bob").retention(RETENTION)).await;
    receive(&bob, handled, Some(disk)).await;
    bob
}

impl Sender {
    async fn start(server: &NatsServer, folder: &Path, disk: &Disk) -> Self {
        let builder = quick(&server.url(), "record", folder, "alice").retention(RETENTION);
        let node = begin(builder).await;
        let told = tokio::spawn(mark_settled(node.events(), disk.clone()));
        create_orders(&node).await;
        let plain = join(&node, PLAIN, Mode::Writer).await;
        let exact = join(&node, EXACT, Mode::Writer).await;
        let poison = join(&node, POISON, Mode::Writer).await;
        let slow = join(&node, SLOW, Mode::Writer).await;
        Self { node, plain, exact, poison, slow, told }
    }

    async fn stop(self) {
        self.node.shutdown().await;
        let told = self.told;
        // Events end with the last handle.
        drop((self.node, self.plain, self.exact, self.poison, self.slow));
        told.await.expect("told");
    }

    async fn round(&self, round: u32, disk: &Disk) {
        for n in 0..2 {
            self.send(&self.plain, NewMessage::text(format!("{round} {n}")), disk).await;
            let n = round * 10 + n;
            let id = order(&self.node, &self.exact, n).await.expect("ordered");
            disk.mark(format!("sent {EXACT} {id}"));
            disk.mark(format!("ordered {n} {id}"));
        }
        let mut batch: Vec<NewMessage> =
            (0..4).map(|n| NewMessage::text(format!("{round} of a batch {n}"))).collect();
        batch[2] = NewMessage::text("urgent").priority(Priority::High);
        for (n, id) in self.plain.send_all(batch).await.expect("sent").iter().enumerate() {
            disk.mark(format!("sent {} {id}", if n == 2 { URGENT } else { PLAIN }));
        }
        self.send(&self.slow, NewMessage::text("for nobody"), disk).await;
        match round {
            1 | 7 => self.send(&self.poison, NewMessage::text("poison"), disk).await,
            2 => self.send(&self.plain, NewMessage::bytes(noise(LARGE_BYTES)), disk).await,
            3 | 9 => self.purge(disk).await,
            _ => {}
        }
        let sent = u64::from(round) * 6;
        account_is(&self.node, "bob", |account| account.acknowledged >= sent).await;
    }

    async fn send(&self, channel: &Channel, message: NewMessage, disk: &Disk) {
        let id = channel.send(message).await.expect("sent");
        disk.mark(format!("sent {} {id}", channel.name()));
    }

    async fn purge(&self, disk: &Disk) {
        let purged = self.node.purge("bob", Some(SLOW)).await.expect("purged");
        disk.mark(format!("purged {purged}"));
    }
}

/// Marks what the sender saw settled.
async fn mark_settled(mut events: waypost::Events, disk: Disk) {
    while let Some(event) = events.next().await {
        match event {
            Event::Delivered { id, .. } => disk.mark(format!("delivered {id}")),
            Event::DeadLettered { id, .. } => disk.mark(format!("dead {id}")),
            _ => {}
        }
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut dice = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| dice.u8(..)).take(bytes).collect()
}
