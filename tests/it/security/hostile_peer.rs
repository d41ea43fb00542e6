//! P8: a hostile client on the same NATS server, with all that it can think of, while an honest pair works. Each of the pair is
//! alone in its process, so that its memory and its panics are its own. How much of the pair's throughput is left is measured by
//! scripts/hostile.

use crate::hostile::honest::{Honest, number};
use crate::hostile::{Overheard, Shot};
use crate::nodes::{SOON, wire};
use crate::support::nats_server::NatsServer;
use async_nats::Client;
use futures_util::StreamExt;
use serde_json::Value;
use tempfile::TempDir;

/// What a node's memory may grow by under attack.
const GROWTH_KB: u64 = 64 * 1024;
const NAMES: [&str; 2] = ["alice", "bob"];
/// The client's subscriptions hold about a thousand frames: more at once and some would be lost, and not be counted.
const AT_ONCE: u64 = 100;

/// The pair, at work, and the client.
struct Scene {
    /// Alice and bob.
    pair: [Honest; 2],
    client: Client,
    overheard: Overheard,
    /// Each one's peak of memory before the attack.
    before_kb: [u64; 2],
    _dir: TempDir,
    _server: NatsServer,
}

impl Scene {
    async fn start() -> Self {
        let server = NatsServer::start();
        let dir = tempfile::tempdir().expect("a folder");
        let bob = Honest::start(&server.url(), &dir, "bob");
        let alice = Honest::start(&server.url(), &dir, "alice");
        let client = wire::stranger(&server).await;
        let mut frames = wire::overhear(&client, "waypost.msg.bob.alice").await;
        alice.ask("send 1").await;
        let frame = tokio::time::timeout(SOON, frames.next()).await.expect("a frame comes");
        let whole = frame.expect("the client runs").payload.to_vec();
        let store = wire::header(&whole)["store"].as_str().expect("a text").to_owned();
        let overheard = Overheard { whole, store, messages: Vec::new() };
        // Until the pair's memory is what their work takes.
        alice.ask("flow").await;
        bob.is("the pair works", |report| number(&report["received"]) > 500).await;
        let pair = [alice, bob];
        let mut before_kb = [0; 2];
        for (before, node) in before_kb.iter_mut().zip(&pair) {
            *before = number(&node.report().await["peak_kb"]);
        }
        Self { pair, client, overheard, before_kb, _dir: dir, _server: server }
    }

    /// Fires shots until each node's counter has grown by as many as reached it. How much it grew by.
    async fn fire(
        &self,
        count: u64,
        counter: &str,
        shot: impl Fn(u64, &Overheard) -> Shot,
    ) -> [(u64, u64); 2] {
        let [alice, bob] = &self.pair;
        let before = [alice.counter(counter).await, bob.counter(counter).await];
        let mut reached = [0; 2];
        for n in 0..count {
            let shot = shot(n, &self.overheard);
            for (reached, name) in reached.iter_mut().zip(NAMES) {
                *reached += u64::from(shot.reaches.contains(&name));
            }
            shot.fire(&self.client).await;
            if n % AT_ONCE < AT_ONCE - 1 && n < count - 1 {
                continue;
            }
            for i in 0..2 {
                let goal = before[i] + reached[i];
                let what = format!("{}'s {counter} are {goal}", NAMES[i]);
                let enough =
                    |report: &Value| number(&report["statistics"]["counters"][counter]) >= goal;
                self.pair[i].is(&what, enough).await;
            }
        }
        let after = [alice.counter(counter).await, bob.counter(counter).await];
        std::array::from_fn(|i| (reached[i], after[i] - before[i]))
    }

    /// All that alice has sent has arrived, in order and once, nobody panicked, nobody was believed, and memory is bounded.
    async fn end(self) {
        let [alice, bob] = &self.pair;
        alice.ask("rest").await;
        let sent = number(&alice.report().await["sent"]);
        bob.is("all arrives", |report| number(&report["received"]) >= sent).await;
        alice.is("all is settled", |report| report["statistics"]["queued"] == 0).await;
        let received = bob.report().await;
        assert_eq!((number(&received["received"]), number(&received["wrong"])), (sent, 0));
        assert_eq!(received["statistics"]["counters"]["processed"], sent);
        for (node, before) in self.pair.iter().zip(self.before_kb) {
            let report = node.report().await;
            assert_eq!((number(&report["panics"]), &report["connected"]), (0, &true.into()));
            assert_eq!(report["peers"].as_array().map(Vec::len), Some(1), "{report}");
            let growth = number(&report["peak_kb"]).saturating_sub(before);
            assert!(growth < GROWTH_KB, "memory grew by {growth} KiB");
            println!("memory grew by {growth} KiB from {before} KiB");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_ten_thousand_malformed_frames_are_refused_and_counted_one_by_one() {
    let scene = Scene::start().await;
    for (reached, refused) in scene.fire(10_000, "refused_frames", crate::hostile::malformed).await
    {
        assert!(reached > 5_000);
        assert_eq!(refused, reached);
    }
    scene.end().await;
}

/// Alice's account with bob.
fn account(report: &Value) -> &Value {
    let accounts = report["statistics"]["accounts"].as_array().expect("a list");
    accounts.iter().find(|account| account["receiver"] == "bob").expect("an account with bob")
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_forged_answers_settle_nothing() {
    let mut scene = Scene::start().await;
    let [alice, bob] = &scene.pair;
    alice.ask("rest").await;
    alice.is("all is settled", |report| report["statistics"]["queued"] == 0).await;
    bob.ask("pause").await;
    alice.is("bob pauses", |report| report["peers"][0]["channels"][0]["paused"] == true).await;
    let ids: Vec<String> =
        serde_json::from_value(alice.ask("send 100").await).expect("a list of ids");
    let report = alice.report().await;
    let (sent, before) = (number(&report["sent"]), account(&report).clone());
    assert_eq!(before["pending"], 100);
    scene.overheard.messages = ids.clone();
    scene.fire(5_000, "unmatched_answers", crate::hostile::forged_answer).await;
    let [alice, bob] = &scene.pair;
    assert_eq!(account(&alice.report().await), &before, "nothing is settled");
    bob.ask("resume").await;
    alice.ask("flow").await;
    bob.is("they arrive", |report| number(&report["received"]) >= sent).await;
    // And about what bob has taken already.
    scene.overheard.messages = ids;
    scene.fire(2_000, "unmatched_answers", crate::hostile::forged_answer).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_ten_thousand_invented_nodes_and_all_that_they_say_are_nobody() {
    let scene = Scene::start().await;
    scene.fire(10_000, "keepalives_received", |n, _| crate::hostile::invented_keepalive(n)).await;
    for n in 0..4_000 {
        crate::hostile::nuisance(n).fire(&scene.client).await;
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_keepalives_in_the_names_of_the_pair_hold_it_up_and_stop_nothing() {
    let scene = Scene::start().await;
    for (name, node) in NAMES.into_iter().zip(&scene.pair) {
        // In its first seconds a node gives way to an older one of its name.
        let settled_in = |report: &Value| number(&report["statistics"]["uptime"]["secs"]) >= 3;
        node.is("it is there for a while", settled_in).await;
        let incarnation = node.report().await["incarnation"].clone();
        let incarnation = incarnation.as_str().expect("a text");
        for n in 0..200 {
            crate::hostile::forged_keepalive(name, incarnation, n).fire(&scene.client).await;
        }
    }
    scene.client.flush().await.expect("flushed");
    scene.end().await;
}
