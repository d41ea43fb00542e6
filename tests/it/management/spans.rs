//! A message's way as `tracing` spans.

use std::io;
use std::sync::{Arc, Mutex};

use crate::nodes::*;
use crate::support::eventually_async;
use crate::support::nats_server::NatsServer;
use tracing_subscriber::fmt::format::FmtSpan;
use waypost::Mode;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Whether a span of this name, with all of these fields, has ended.
    fn have(&self, name: &str, fields: &[&str]) -> bool {
        let text = self.0.lock().expect("not poisoned");
        let text = String::from_utf8_lossy(&text);
        let ends = text.lines().filter(|line| line.contains("waypost::message: close"));
        let own =
            |line: &str| line.rsplit_once(&format!("{name}{{")).map(|(_, rest)| rest.to_owned());
        ends.filter_map(own).any(|rest| {
            let whole = rest.split('}').next().unwrap_or_default();
            fields.iter().all(|field| whole.split(' ').any(|its| its == *field))
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_leaves_a_span_at_every_step() {
    // What subscribes here hears every thread.
    if !child::is_alone(module_path!(), "a_message_leaves_a_span_at_every_step") {
        return;
    }
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let bob = start(&server, &dir, "bob").await;
    let orders = alice.join("orders", Mode::Writer).await.expect("joined");
    let got = collect(&bob.join("orders", Mode::Reader).await.expect("joined")).await;
    reader_is_known(&alice, "orders", "bob").await;
    let id = orders.send("one").await.expect("sent");
    arrived(&got, 1).await;
    settled(&alice).await;
    let id = format!("id={id}");
    let steps: [(&str, &[&str]); 8] = [
        ("send", &["node=alice", "channel=orders", "count=1"]),
        // With whatever else the node had to write at that moment.
        ("commit", &[]),
        ("publish", &["node=alice", "receiver=bob", "attempt=1"]),
        ("receive", &["node=bob", "sender=alice", "channel=orders"]),
        ("handle", &["sender=alice", "channel=orders", "attempt=1"]),
        ("receipt", &["sender=alice", "channel=orders"]),
        ("ack", &["from=bob", "to=alice", "verdict=\"ack\""]),
        ("ack", &["from=bob", "to=alice"]),
    ];
    for (name, fields) in steps {
        let fields: Vec<&str> = fields.iter().copied().chain([id.as_str()]).collect();
        eventually_async(SOON, name, async || lines.have(name, &fields)).await;
    }
    for node in [bob, alice] {
        node.shutdown().await;
    }
}
