//! Whole nodes over a network in memory that loses, repeats and reorders.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::{JoinHandle, LocalSet};

use super::{Node, start};
use crate::config::Config;
use crate::driver::Driver;
use crate::fresh;
use crate::message::{Mode, NodeId, Priority};
use crate::protocol::report::Account;
use crate::store::Store;
use crate::transport::Role;
use crate::transport::memory::{Faults, MemoryNetwork};
use crate::{NewMessage, channel::Channel};

const PATIENCE: Duration = Duration::from_secs(60);

struct Running {
    node: Node,
    driver: JoinHandle<()>,
}

/// A node whose driver runs on the current local set.
fn run(network: &MemoryNetwork, folder: &TempDir, id: &str) -> Running {
    let config = Config {
        id: Some(NodeId::new(id).expect("a valid name")),
        storage: Some(folder.path().join("{id}.db")),
        ack_timeout: Duration::from_millis(200),
        retry_delay: Duration::from_millis(20),
        max_retry_delay: Duration::from_millis(200),
        keepalive_interval: Duration::from_secs(1),
        max_attempts: std::num::NonZeroU32::new(1000).expect("not zero"),
        ..Config::default()
    };
    let opened = Store::open(start::options(&config, "host")).expect("the file opens");
    let incarnation = fresh::incarnation();
    let (shared, parts, _) = start::assemble(config, opened, "host".to_owned(), incarnation);
    let transport = network.connect(&shared.id, Role::Node { elects: true });
    let driver = tokio::task::spawn_local(async move {
        Driver::new(parts, transport).run().await;
    });
    Running { node: Node { shared: Arc::new(shared) }, driver }
}

impl Running {
    async fn stop(self) {
        self.node.shutdown().await;
        self.driver.await.expect("the driver ends in order");
    }

    async fn settled(&self) -> Vec<Account> {
        let flushed = self.node.flush(PATIENCE).await.expect("flushed");
        assert!(flushed.is_complete(), "{flushed:?}");
        self.node.statistics().await.expect("statistics").accounts
    }
}

type Got = Arc<Mutex<Vec<(NodeId, String)>>>;

async fn collect(channel: &Channel) -> Got {
    let got = Got::default();
    let seen = got.clone();
    let handler = move |message: crate::Message| {
        let seen = seen.clone();
        async move {
            let text = message.text()?.to_owned();
            seen.lock().expect("not poisoned").push((message.sender().clone(), text));
            Ok(())
        }
    };
    channel.on_message(handler).await.expect("attached");
    got
}

/// What came from this sender, in the order in which it came.
fn from(got: &Got, sender: &str) -> Vec<String> {
    let got = got.lock().expect("not poisoned");
    got.iter().filter(|(who, _)| who.as_str() == sender).map(|(_, text)| text.clone()).collect()
}

#[tokio::test]
async fn p3_p5_over_a_network_that_loses_repeats_and_reorders_everything_arrives_once_and_in_order()
{
    let faults = Faults {
        loss: 0.2,
        duplication: 0.2,
        reordering: 0.2,
        delay: Duration::from_millis(1)..Duration::from_millis(50),
    };
    let network = MemoryNetwork::new(7, faults);
    let folder = tempfile::tempdir().expect("a folder");
    LocalSet::new()
        .run_until(async {
            let names = ["a", "b", "c"];
            let nodes: Vec<Running> = names.iter().map(|id| run(&network, &folder, id)).collect();
            let mut channels = Vec::new();
            let mut got = Vec::new();
            for running in &nodes {
                let channel = running.node.join("c", Mode::ReadWrite).await.expect("joined");
                got.push(collect(&channel).await);
                channels.push(channel);
            }
            for n in 0..40 {
                for channel in &channels {
                    channel.send(format!("m{n}")).await.expect("sent");
                }
                if n == 20 {
                    network.cut(&NodeId::new("b").expect("a valid name"));
                }
            }
            network.heal(&NodeId::new("b").expect("a valid name"));
            network.set_faults(Faults { loss: 0.1, ..Faults::default() });
            for running in &nodes {
                // Two readers are known to each sender once all is settled for both.
                while running.node.subscribers("c").await.expect("readers").len() < 2 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                let accounts = running.settled().await;
                assert!(accounts.iter().all(Account::is_balanced), "{accounts:?}");
            }
            let expected: Vec<String> = (0..40).map(|n| format!("m{n}")).collect();
            for (reader, got) in names.iter().zip(&got) {
                for sender in names.iter().filter(|sender| *sender != reader) {
                    assert_eq!(from(got, sender), expected, "{sender} to {reader}");
                }
            }
            for running in nodes {
                running.stop().await;
            }
        })
        .await;
}

#[tokio::test]
async fn p3_an_urgent_message_overtakes_and_each_lane_keeps_its_order() {
    let network = MemoryNetwork::new(1, Faults::default());
    let folder = tempfile::tempdir().expect("a folder");
    LocalSet::new()
        .run_until(async {
            let sender = run(&network, &folder, "a");
            let channel = sender.node.join("c", Mode::Writer).await.expect("joined");
            for n in 0..5 {
                for priority in [Priority::Low, Priority::Normal, Priority::High] {
                    let message = NewMessage::text(format!("{priority}{n}")).priority(priority);
                    channel.send(message).await.expect("sent");
                }
            }
            let reader = run(&network, &folder, "b");
            let channel = reader.node.join("c", Mode::Reader).await.expect("joined");
            let got = collect(&channel).await;
            while from(&got, "a").len() < 15 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let expected: Vec<String> = Priority::ALL
                .into_iter()
                .flat_map(|priority| (0..5).map(move |n| format!("{priority}{n}")))
                .collect();
            assert_eq!(from(&got, "a"), expected);
            sender.stop().await;
            reader.stop().await;
        })
        .await;
}
