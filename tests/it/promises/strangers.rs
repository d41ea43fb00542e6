//! P8: no bytes from the network crash a node, block a queue, acknowledge somebody else's message, or make it allocate without
//! bound. The stranger has the run of the whole NATS server.

use std::time::Duration;

use crate::nodes::wire::{self, frame, keepalive, say, ulid};
use crate::nodes::*;
use crate::support::eventually_async;
use crate::support::nats_server::NatsServer;
use async_nats::Client;
use futures_util::StreamExt;
use serde_json::json;
use tempfile::TempDir;
use waypost::rusqlite::Connection;
use waypost::{Channel, Event, Mode, Node};

/// An honest pair, and a stranger beside it.
struct Scene {
    alice: Node,
    bob: Node,
    out: Channel,
    got: Got,
    stranger: Client,
    sent: usize,
    dir: TempDir,
    server: NatsServer,
}

impl Scene {
    async fn start() -> Self {
        let server = NatsServer::start();
        let dir = tempfile::tempdir().expect("a folder");
        let alice = start(&server, &dir, "alice").await;
        let bob = start(&server, &dir, "bob").await;
        let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
        let out = alice.join("work", Mode::Writer).await.expect("joined");
        reader_is_known(&alice, "work", "bob").await;
        let stranger = wire::stranger(&server).await;
        let mut scene = Self { alice, bob, out, got, stranger, sent: 0, dir, server };
        scene.still_works().await;
        scene
    }

    /// The pair delivers as ever, and nothing but its own messages.
    async fn still_works(&mut self) {
        send_numbers(&self.out, self.sent..self.sent + 5).await;
        self.sent += 5;
        settled(&self.alice).await;
        assert_eq!(seen(&self.got), numbers(0..self.sent));
    }

    async fn refused(&self, node: &Node) -> u64 {
        node.statistics().await.expect("it runs").counters.refused_frames
    }

    /// Waits until the node has refused so many frames, and no more.
    async fn has_refused(&self, node: &Node, count: u64) {
        eventually_async(SOON, "all are refused", async || self.refused(node).await >= count).await;
        assert_eq!(self.refused(node).await, count);
    }

    async fn end(mut self) {
        self.still_works().await;
        self.alice.shutdown().await;
        self.bob.shutdown().await;
        drop(self.server);
    }
}

/// A real frame of alice's to bob.
async fn a_real_frame(scene: &mut Scene) -> Vec<u8> {
    let mut frames = wire::overhear(&scene.stranger, "waypost.msg.bob.alice").await;
    scene.still_works().await;
    frames.next().await.expect("a frame").payload.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_a_frame_cut_at_every_byte_is_refused_and_the_whole_one_recognised() {
    let mut scene = Scene::start().await;
    let whole = a_real_frame(&mut scene).await;
    let mut events = scene.bob.events();
    for end in 0..whole.len() {
        say(&scene.stranger, "waypost.msg.bob.alice", &whole[..end]).await;
    }
    scene.has_refused(&scene.bob, whole.len() as u64).await;
    let from = event(&mut events, "refused", |event| match event {
        Event::Refused { from, .. } => Some(from.clone()),
        _ => None,
    });
    assert_eq!(from.await.expect("a name").as_str(), "alice");
    say(&scene.stranger, "waypost.msg.bob.alice", whole).await;
    event(&mut events, "repeated", |event| matches!(event, Event::Repeated { .. }).then_some(()))
        .await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_garbage_other_versions_and_enormous_declarations_are_refused_and_counted() {
    let mut scene = Scene::start().await;
    let whole = a_real_frame(&mut scene).await;
    let mut version_2 = whole.clone();
    version_2[2] = 2;
    let four_gib_of_header = b"WP\x01\x00\xff\xff\xff\xff{}".to_vec();
    let snappy_of_4_gib = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    let (mut header, _) = wire::message("alice", "bob", u128::MAX >> 8, "");
    header["messages"][0]["len"] = json!(snappy_of_4_gib.len());
    header["messages"][0]["z"] = json!(true);
    let mut lying = header.clone();
    lying["messages"][0]["len"] = json!(u64::MAX);
    let mut many = header.clone();
    many["messages"] = json!(vec![header["messages"][0].clone(); 3000]);
    let mut named = header.clone();
    named["ch"] = json!("x".repeat(300));
    let mut loud = keepalive("alice", 1, 1);
    loud["host"] = json!("line\nbreak");
    let bad = [
        Vec::new(),
        b"hello".to_vec(),
        vec![0xff; 100_000],
        version_2,
        four_gib_of_header,
        frame(&header, &snappy_of_4_gib),
        frame(&lying, b"x"),
        frame(&many, b""),
        frame(&named, &snappy_of_4_gib),
        frame(&loud, b""),
        frame(&json!({"t": "unheard of"}), b""),
        frame(&json!(vec![json!([]); 100_000]), b""),
        b"WP\x01\x00\x00\x01\x00\x00".iter().copied().chain(vec![b'['; 65536]).collect(),
    ];
    for bytes in &bad {
        say(&scene.stranger, "waypost.msg.bob.alice", bytes.clone()).await;
    }
    scene.has_refused(&scene.bob, bad.len() as u64).await;
    let subjects =
        ["waypost.ack.bob.alice", "waypost.keepalive.alice", "waypost.mgmt.node.bob.alice"];
    for subject in subjects.into_iter().chain(["waypost.mgmt.all.alice"]) {
        for bytes in &bad {
            say(&scene.stranger, subject, bytes.clone()).await;
        }
    }
    scene.has_refused(&scene.bob, 5 * bad.len() as u64).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_a_frame_from_another_sender_than_its_subject_says_is_refused() {
    let scene = Scene::start().await;
    let (_, bytes) = wire::message("alice", "bob", u128::MAX >> 8, "forged");
    say(&scene.stranger, "waypost.msg.bob.eve", bytes.clone()).await;
    let (_, for_eve) = wire::message("alice", "eve", u128::MAX >> 8, "forged");
    say(&scene.stranger, "waypost.msg.bob.alice", for_eve).await;
    // A frame where it has no business.
    say(&scene.stranger, "waypost.ack.bob.alice", bytes).await;
    say(&scene.stranger, "waypost.keepalive.eve", frame(&keepalive("alice", 9, 9), b"")).await;
    scene.has_refused(&scene.bob, 4).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_acks_of_unknown_messages_and_from_the_wrong_node_acknowledge_nothing() {
    let mut scene = Scene::start().await;
    let whole = a_real_frame(&mut scene).await;
    let header = wire::header(&whole);
    let store = header["store"].as_str().expect("a text");
    let work = scene.bob.join("work", Mode::Reader).await.expect("joined");
    work.pause().await.expect("paused");
    let id = scene.out.send(scene.sent.to_string()).await.expect("sent").to_string();
    scene.sent += 1;
    let unmatched =
        async || scene.alice.statistics().await.expect("it runs").counters.unmatched_answers;
    let before = unmatched().await;
    for verdict in ["ack", "working", "paused"] {
        let eve = wire::answer("eve", "alice", store, &id, verdict);
        say(&scene.stranger, "waypost.ack.alice.eve", eve).await;
    }
    let bob_about_nothing = wire::answer("bob", "alice", store, &ulid(77), "ack");
    say(&scene.stranger, "waypost.ack.alice.bob", bob_about_nothing).await;
    let other_file = wire::answer("bob", "alice", &ulid(5), &id, "ack");
    say(&scene.stranger, "waypost.ack.alice.bob", other_file).await;
    eventually_async(SOON, "five are unmatched", async || unmatched().await >= before + 5).await;
    let eve_as_bob = wire::answer("bob", "alice", store, &id, "ack");
    say(&scene.stranger, "waypost.ack.alice.eve", eve_as_bob).await;
    scene.has_refused(&scene.alice, 1).await;
    assert_eq!(account(&scene.alice, "bob").await.pending, 1);
    work.resume().await.expect("resumed");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_ten_thousand_invented_nodes_take_no_room_and_push_nobody_out() {
    let scene = Scene::start().await;
    let heard =
        async || scene.bob.statistics().await.expect("it runs").counters.keepalives_received;
    for n in 0..10_000_u128 {
        let name = format!("invented-{n}");
        let bytes = frame(&keepalive(&name, n + 1, 1), b"");
        scene
            .stranger
            .publish(format!("waypost.keepalive.{name}"), bytes.into())
            .await
            .expect("sent");
        if n % 500 == 0 {
            // A welcome that nobody asked for proves nothing.
            let welcome =
                json!({"t": "welcome", "nonce": n as u64, "keepalive": keepalive(&name, n + 1, 2)});
            let subject = format!("waypost.mgmt.node.bob.{name}");
            say(&scene.stranger, &subject, frame(&welcome, b"")).await;
        }
        if n % 100 == 99 {
            // Faster than this, and some would be dropped on the way.
            let count = u64::try_from(n).expect("a small number");
            eventually_async(SOON, "they are heard", async || heard().await >= count).await;
        }
    }
    for (node, peer) in [(&scene.bob, "alice"), (&scene.alice, "bob")] {
        let peers = node.peers().await.expect("it runs");
        let names: Vec<&str> = peers.iter().map(|peer| peer.node.as_str()).collect();
        assert_eq!(names, [peer]);
        assert!(peers[0].online);
        let file = Connection::open(node.storage()).expect("a file");
        let rows = file.query_row("SELECT count(*) FROM waypost_peers", [], |row| row.get(0));
        assert_eq!(rows, Ok(1));
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_messages_of_a_node_that_does_not_answer_are_not_taken() {
    let scene = Scene::start().await;
    let mut answers = wire::overhear(&scene.stranger, "waypost.ack.eve.bob").await;
    for n in 1..=50 {
        let (_, bytes) = wire::message("eve", "bob", n, "from nowhere");
        say(&scene.stranger, "waypost.msg.bob.eve", bytes).await;
        let answer = wire::header(&answers.next().await.expect("an answer").payload);
        assert_eq!(answer["v"], "busy");
    }
    assert_eq!(scene.bob.statistics().await.expect("it runs").counters.processed, 5);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_a_forged_conflict_does_not_stop_a_node_that_is_established() {
    let scene = Scene::start().await;
    eventually_async(SOON, "the time of trial is over", async || {
        scene.alice.status().uptime > Duration::from_millis(2_500)
    })
    .await;
    let mut events = scene.alice.events();
    let mut forged = keepalive("alice", 1, 1);
    forged["uptime_ms"] = json!(u64::MAX);
    forged["rival"] = json!(scene.alice.status().incarnation.to_string());
    for _ in 0..20 {
        say(&scene.stranger, "waypost.keepalive.alice", frame(&forged, b"")).await;
    }
    let stopped = event(&mut events, "conflict", |event| match event {
        Event::Conflict { stopped, .. } => Some(*stopped),
        _ => None,
    });
    assert!(!stopped.await);
    assert!(scene.alice.status().link.is_connected());
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_an_answer_goes_to_its_own_subject_and_never_to_a_reply_subject() {
    let mut scene = Scene::start().await;
    let whole = a_real_frame(&mut scene).await;
    let mut trap = wire::overhear(&scene.stranger, "trap.>").await;
    let mut acks = wire::overhear(&scene.stranger, "waypost.ack.alice.bob").await;
    let to = "waypost.msg.bob.alice";
    scene.stranger.publish_with_reply(to, "trap.here", whole.into()).await.expect("published");
    let ack = acks.next().await.expect("an ack");
    assert_eq!(wire::header(&ack.payload)["v"], "ack");
    say(&scene.stranger, "trap.end", "end").await;
    assert_eq!(trap.next().await.expect("our own").subject.as_str(), "trap.end");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_a_flood_of_questions_and_greetings_keeps_nobody_from_working() {
    let mut scene = Scene::start().await;
    for n in 0..2_000_u64 {
        let name = format!("guest-{n}");
        let query = frame(&json!({"t": "query", "from": name, "query": n}), b"");
        scene
            .stranger
            .publish(format!("waypost.mgmt.all.{name}"), query.into())
            .await
            .expect("sent");
        let hello = json!({"t": "hello", "nonce": n, "keepalive": keepalive(&name, 3, 1)});
        let subject = format!("waypost.mgmt.node.bob.{name}");
        scene.stranger.publish(subject, frame(&hello, b"").into()).await.expect("sent");
        if n % 500 == 0 {
            scene.still_works().await;
        }
    }
    assert_eq!(scene.bob.peers().await.expect("it runs").len(), 1);
    let size = std::fs::metadata(scene.dir.path().join("bob.db")).expect("a file").len();
    assert!(size < 1 << 20, "{size} bytes");
    scene.end().await;
}
