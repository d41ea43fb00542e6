//! What a server with the configuration of docs/security.md lets nodes and operators do, and what it refuses them.

use std::time::Duration;

use crate::nodes::wire::{self, answer, frame, keepalive, ulid};
use crate::nodes::*;
use crate::security_page::{Guarded, Way};
use crate::support::eventually_async;
use crate::support::nats_server::NatsServer;
use async_nats::{Client, ConnectOptions, Event as ClientEvent, ServerError};
use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;
use waypost::inspect::Inspector;
use waypost::management::{Account, Counters, ObserveError, Observer, PeerInfo, permissions};
use waypost::{Auth, Builder, Channel, Config, MessageId, Mode, NewMessage, Node, NodeId};

fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

/// Settings of this user under this name.
fn config(guarded: &Guarded, user: &str, name: &str) -> Config {
    let mut config = Config::default();
    config.id = Some(id(name));
    config.nats = vec![guarded.server.url()];
    config.auth = guarded.auth(user);
    config.tls = guarded.tls();
    config
}

/// Nodes x and y, which both read and write the channel `work`.
struct Scene {
    x: Node,
    y: Node,
    works: [Channel; 2],
    got: [Got; 2],
    _dir: TempDir,
}

impl Scene {
    async fn of(builders: [Builder; 2], dir: TempDir) -> Self {
        let [x, y] = builders.map(begin);
        let (x, y) = (x.await, y.await);
        let works = [
            x.join("work", Mode::ReadWrite).await.expect("joined"),
            y.join("work", Mode::ReadWrite).await.expect("joined"),
        ];
        let got = [collect(&works[0]).await, collect(&works[1]).await];
        reader_is_known(&x, "work", "y").await;
        reader_is_known(&y, "work", "x").await;
        Self { x, y, works, got, _dir: dir }
    }

    async fn guarded(guarded: &Guarded) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let builders = ["x", "y"].map(|name| {
            builder(&guarded.server, &dir, name).auth(guarded.auth(name)).tls(guarded.tls())
        });
        Self::of(builders, dir).await
    }

    async fn unguarded(server: &NatsServer) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let builders = ["x", "y"].map(|name| builder(server, &dir, name));
        Self::of(builders, dir).await
    }

    /// X takes nothing for now, so that a message of y's waits for it.
    async fn with_a_waiting_message(&self) -> MessageId {
        self.works[0].pause().await.expect("paused");
        let what = "y knows that x takes nothing";
        eventually_async(SOON, what, async || {
            let peers = self.y.peers().await.expect("it runs");
            peers.iter().any(|peer| peer.channels.iter().any(|channel| channel.paused))
        })
        .await;
        self.works[1].send("waits").await.expect("sent")
    }

    async fn standing(&self) -> [Standing; 2] {
        [standing(&self.x).await, standing(&self.y).await]
    }

    async fn end(self) {
        self.x.shutdown().await;
        self.y.shutdown().await;
    }
}

/// What a forged frame could change in a node.
type Standing = (Vec<(NodeId, bool, String, usize)>, Vec<Account>, Counters);

async fn standing(node: &Node) -> Standing {
    let peers = node.peers().await.expect("it runs");
    let peer = |peer: PeerInfo| {
        (peer.node, peer.online, peer.incarnation.to_string(), peer.channels.len())
    };
    let statistics = node.statistics().await.expect("it runs");
    let mut counters = statistics.counters;
    // The honest ones go on all the time.
    (counters.keepalives_sent, counters.keepalives_received) = (0, 0);
    (peers.into_iter().map(peer).collect(), statistics.accounts, counters)
}

/// The store id under which the node's messages travel.
fn store_of(node: &Node) -> String {
    let summary =
        Inspector::open(node.storage()).and_then(|file| file.summary()).expect("its file");
    summary.stores.last().expect("a store id").store_id.to_string()
}

/// Frames that say they are from x, with all that a forger could know: the waiting message, the store ids, x's run. Subject and bytes.
fn forgeries(scene: &Scene, waiting: MessageId) -> Vec<(&'static str, Vec<u8>)> {
    let run = scene.x.status().incarnation.to_string();
    let ack = answer("x", "y", &store_of(&scene.y), &waiting.to_string(), "ack");
    let message_to = |to: &str| {
        let (mut header, _) = wire::message("x", to, u128::MAX >> 8, "forged");
        header["store"] = json!(store_of(&scene.x));
        frame(&header, b"forged")
    };
    let mut goodbye = keepalive("x", 1, u64::MAX >> 1);
    goodbye["incarnation"] = json!(run);
    goodbye["store"] = json!(store_of(&scene.x));
    goodbye["goodbye"] = json!(true);
    let mut rival = keepalive("x", 1, 1);
    rival["rival"] = json!(run);
    let vote = json!({"t": "vote", "from": "x", "to": "y", "term": u64::MAX});
    let hello = json!({"t": "hello", "nonce": 1, "keepalive": keepalive("x", 2, 1)});
    let welcome = json!({"t": "welcome", "nonce": 1, "keepalive": keepalive("x", 2, 2)});
    let order =
        json!({"t": "order", "from": "x", "to": "y", "order": 1, "task": {"do": "purge_queue"}});
    let kick = json!({"t": "kick", "from": "x", "node": "y"});
    let query = json!({"t": "query", "from": "x", "query": 1});
    vec![
        ("waypost.ack.y.x", ack),
        ("waypost.msg.y.x", message_to("y")),
        ("waypost.msg.x.x", message_to("x")),
        ("waypost.keepalive.x", frame(&rival, b"")),
        ("waypost.election.x", frame(&vote, b"")),
        ("waypost.order.y.x", frame(&order, b"")),
        ("waypost.mgmt.node.y.x", frame(&hello, b"")),
        ("waypost.mgmt.node.y.x", frame(&welcome, b"")),
        ("waypost.mgmt.node.y.x", frame(&kick, b"")),
        ("waypost.mgmt.node.operator.x", frame(&query, b"")),
        ("waypost.mgmt.all.x", frame(&query, b"")),
        ("waypost.mgmt.all.x", frame(&kick, b"")),
        ("waypost.keepalive.x", frame(&goodbye, b"")),
    ]
}

/// A client that is no node, with somebody's login, and what the server says to it.
struct Intruder {
    client: Client,
    said: mpsc::UnboundedReceiver<String>,
}

impl Intruder {
    async fn with_login_of(guarded: &Guarded, user: &str) -> Self {
        let Auth { user: name, password, nkey, .. } = guarded.auth(user);
        let options = match (name, password, nkey) {
            (Some(name), Some(password), _) => {
                ConnectOptions::with_user_and_password(name, password)
            }
            (_, _, seed) => ConnectOptions::with_nkey(seed.expect("a seed")),
        };
        Self::connect(guarded, options).await.expect("let in")
    }

    async fn connect(guarded: &Guarded, options: ConnectOptions) -> Result<Self, String> {
        let (saying, said) = mpsc::unbounded_channel();
        let authority = guarded.tls().root_certificates.remove(0);
        let client = options
            .add_root_certificates(authority)
            .event_callback(move |event| {
                if let ClientEvent::ServerError(ServerError::Other(text)) = event {
                    // The test may have ended.
                    let _ = saying.send(text);
                }
                async {}
            })
            .connect(guarded.server.url())
            .await
            .map_err(|error| error.to_string())?;
        Ok(Self { client, said })
    }

    /// That the server refuses this, whatever it names it.
    async fn is_refused(&mut self, what: &str, subject: &str) {
        let told = tokio::time::timeout(SOON, self.said.recv()).await;
        let told = told.unwrap_or_else(|_| panic!("{what} to {subject} is not refused"));
        let told = told.expect("the client runs").to_lowercase();
        let wanted = format!("permissions violation for {what} to \"{subject}\"");
        assert!(told.starts_with(&wanted), "{told:?} instead of {wanted:?}");
    }

    async fn may_not_publish(&mut self, subject: &str, bytes: Vec<u8>) {
        wire::say(&self.client, subject, bytes).await;
        self.is_refused("publish", subject).await;
    }

    /// Alone, and as one of a group.
    async fn may_not_hear(&mut self, subject: &str) {
        let alone = self.client.subscribe(subject.to_owned()).await.expect("asked for");
        self.is_refused("subscription", subject).await;
        let group = self.client.queue_subscribe(subject.to_owned(), "group".to_owned());
        let group = group.await.expect("asked for");
        self.is_refused("subscription", subject).await;
        for mut heard in [alone, group] {
            assert!(heard.next().now_or_never().flatten().is_none(), "{subject}");
        }
    }
}

async fn nodes_and_an_operator_work(way: Way) {
    let guarded = Guarded::start(way);
    for name in ["x", "y"] {
        let found = permissions(&config(&guarded, name, name), &id(name)).await.expect("asked");
        assert!(found.refused.is_empty() && found.server.is_some(), "{found:?}");
    }
    let scene = Scene::guarded(&guarded).await;
    let mut events = [scene.x.events(), scene.y.events()];
    for (node, work) in [(&scene.x, &scene.works[0]), (&scene.y, &scene.works[1])] {
        work.send(format!("to all from {}", node.id())).await.expect("sent");
    }
    scene.works[0].send(NewMessage::text("to y from x").to("y")).await.expect("sent");
    settled(&scene.x).await;
    settled(&scene.y).await;
    assert_eq!(seen(&scene.got[0]), ["to all from y"]);
    assert_eq!(seen(&scene.got[1]), ["to all from x", "to y from x"]);

    let operator = config(&guarded, "operator", "operator");
    let mut observer = Observer::connect(&operator).await.expect("let in");
    let reports = observer.reports(SOON, &[id("x"), id("y")]).await.expect("asked");
    assert_eq!(reports.len(), 2, "{reports:?}");
    let readmit = waypost::management::Task::Readmit;
    let answers = observer.order(&[id("x"), id("y")], &readmit, SOON).await.expect("let through");
    assert!(answers.iter().all(|answer| answer.result.is_ok()), "{answers:?}");
    observer.close().await;
    for (name, report) in ["x", "y"].into_iter().zip(&reports) {
        assert_eq!((report.node.as_str(), report.peers.len()), (name, 1));
        assert_eq!(report.counters.refused_frames, 0, "{report:?}");
    }
    scene.end().await;
    for events in &mut events {
        while let Some(event) = events.next().await {
            assert!(!matches!(event, waypost::Event::Denied { .. }), "{event:?}");
        }
    }
}

async fn nothing_that_y_says_as_x_gets_through(way: Way) {
    let guarded = Guarded::start(way);
    let scene = Scene::guarded(&guarded).await;
    let mut eve = Intruder::with_login_of(&guarded, "y").await;
    let waiting = scene.with_a_waiting_message().await;
    // The question at which a node's answer, if it had any, would come back: it knows by then what the server let through.
    let operator = config(&guarded, "operator", "operator");
    let mut observer = Observer::connect(&operator).await.expect("let in");
    observer.reports(SOON, &[id("x"), id("y")]).await.expect("asked");
    let before = scene.standing().await;
    for (subject, bytes) in forgeries(&scene, waiting) {
        eve.may_not_publish(subject, bytes).await;
    }
    for subject in [
        "waypost.order.x.operator",
        "waypost.order.x.y",
        "waypost.order.x.x",
        "waypost.mgmt.all.operator",
        "waypost.mgmt.all.y",
        "waypost.mgmt.node.x.operator",
    ] {
        eve.may_not_publish(subject, b"any".to_vec()).await;
    }
    let reports = observer.reports(SOON, &[id("x"), id("y")]).await.expect("asked");
    assert_eq!(reports.len(), 2);
    observer.close().await;
    assert_eq!(scene.standing().await, before);
    assert_eq!(account(&scene.y, "x").await.pending, 1);
    assert!(scene.x.status().link.is_connected() && scene.y.status().link.is_connected());

    scene.works[0].resume().await.expect("resumed");
    settled(&scene.y).await;
    assert_eq!(seen(&scene.got[0]), ["waits"]);
    assert!(seen(&scene.got[1]).is_empty());
    scene.end().await;
}

async fn only_x_hears_what_is_for_x(way: Way) {
    let guarded = Guarded::start(way);
    let scene = Scene::guarded(&guarded).await;
    for user in ["y", "operator"] {
        let mut eve = Intruder::with_login_of(&guarded, user).await;
        for subject in [
            "waypost.msg.x.*",
            "waypost.msg.x.y",
            "waypost.*.x.*",
            "waypost.msg.>",
            "waypost.ack.x.*",
            "waypost.order.x.*",
            "waypost.mgmt.node.x.*",
            "waypost.mgmt.>",
            "waypost.>",
            ">",
        ] {
            eve.may_not_hear(subject).await;
        }
    }
    scene.works[1].send(NewMessage::text("for x alone").to("x")).await.expect("sent");
    assert_eq!(arrived(&scene.got[0], 1).await, ["for x alone"]);
    scene.end().await;
}

async fn an_operator_only_asks(way: Way) {
    let guarded = Guarded::start(way);
    let mut eve = Intruder::with_login_of(&guarded, "operator").await;
    for subject in [
        "waypost.msg.x.y",
        "waypost.msg.x.operator",
        "waypost.ack.x.operator",
        "waypost.keepalive.operator",
        "waypost.keepalive.x",
        "waypost.election.operator",
        "waypost.order.x.y",
        "waypost.mgmt.all.x",
        "waypost.mgmt.node.y.x",
    ] {
        eve.may_not_publish(subject, b"any".to_vec()).await;
    }
    // Under another name than the one that the permissions name.
    for name in [Some("x"), None] {
        let mut config = config(&guarded, "operator", "operator");
        config.id = name.map(id);
        let refused = Observer::connect(&config).await;
        assert!(matches!(refused, Err(ObserveError::Denied { .. })), "{refused:?}");
    }
    // A node's login is none of an operator's.
    let mut observer = Observer::connect(&config(&guarded, "x", "x")).await.expect("let in");
    let refused = observer.reports(SOON, &[]).await;
    assert!(matches!(refused, Err(ObserveError::Denied { .. })), "{refused:?}");
    observer.close().await;
}

async fn nobody_is_let_in_without_a_login(way: Way) {
    let guarded = Guarded::start(way);
    let wrong = ConnectOptions::with_user_and_password("x".to_owned(), "wrong".to_owned());
    let stranger = nkeys::KeyPair::new_user().seed().expect("a new pair has its seed");
    for options in [ConnectOptions::new(), wrong, ConnectOptions::with_nkey(stranger)] {
        let refused = Intruder::connect(&guarded, options).await.map(|_| ());
        let refused = refused.expect_err("a refusal");
        assert!(refused.contains("authorization violation"), "{refused}");
    }
}

macro_rules! both_ways {
    ($($name:ident),+) => {
        mod with_passwords {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Way::Passwords).await;
            })+
        }
        mod with_nkeys {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Way::Nkeys).await;
            })+
        }
    };
}

both_ways!(
    nodes_and_an_operator_work,
    nothing_that_y_says_as_x_gets_through,
    only_x_hears_what_is_for_x,
    an_operator_only_asks,
    nobody_is_let_in_without_a_login
);

/// Shows that the forgeries are good ones: what the tests above call refused would otherwise do harm.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_forgeries_do_harm_where_a_server_has_no_permissions() {
    let server = NatsServer::start();
    let scene = Scene::unguarded(&server).await;
    let waiting = scene.with_a_waiting_message().await;
    let eve = wire::stranger(&server).await;
    let mut events = scene.y.events();
    for (subject, bytes) in forgeries(&scene, waiting) {
        wire::say(&eve, subject, bytes).await;
    }
    let offline = event(&mut events, "x is offline", |event| {
        matches!(event, waypost::Event::PeerOffline { .. }).then_some(())
    });
    offline.await;
    assert_eq!(arrived(&scene.got[1], 1).await, ["forged"]);
    account_is(&scene.y, "x", |account| account.acknowledged == 1 && account.pending == 0).await;
    scene.works[0].resume().await.expect("resumed");
    settled(&scene.y).await;
    assert!(seen(&scene.got[0]).is_empty(), "the message is lost");
    scene.end().await;
}

/// What a permitted sender says in another's name inside its frames is found out by the node itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_names_x_under_ys_subject_is_refused_by_the_node() {
    let guarded = Guarded::start(Way::Passwords);
    let scene = Scene::guarded(&guarded).await;
    let eve = Intruder::with_login_of(&guarded, "y").await;
    let (_, forged) = wire::message("operator", "x", 1, "forged");
    wire::say(&eve.client, "waypost.msg.x.y", forged).await;
    let ack = answer("operator", "x", &store_of(&scene.x), &ulid(1), "ack");
    wire::say(&eve.client, "waypost.ack.x.y", ack).await;
    let presence = frame(&keepalive("operator", 1, 1), b"");
    wire::say(&eve.client, "waypost.keepalive.y", presence).await;
    eventually_async(Duration::from_secs(45), "three are refused", async || {
        scene.x.statistics().await.expect("it runs").counters.refused_frames == 3
    })
    .await;
    assert!(seen(&scene.got[0]).is_empty());
    scene.end().await;
}

#[tokio::test]
async fn what_a_server_refuses_a_node_is_found_out_beforehand() {
    let guarded = Guarded::start(Way::Passwords);
    // Under another name than the one that the user is bound to.
    let other = permissions(&config(&guarded, "x", "y"), &id("y")).await.expect("asked");
    assert!(!other.refused.is_empty(), "{other:?}");
    let mut wrong = config(&guarded, "x", "x");
    wrong.auth.password = Some("wrong".to_owned());
    let wrong = permissions(&wrong, &id("x")).await;
    assert!(matches!(wrong, Err(ObserveError::Unauthorized { .. })));

    // May hear everything and say next to nothing.
    let server = NatsServer::with_config(
        r#"authorization { users: [ { user: mute, password: m, permissions: {
            publish: ["waypost.mgmt.node.*.carol"], subscribe: [">"] } } ] }"#,
    );
    let mut config = Config::default();
    config.nats = vec![server.url().replace("//", "//mute:m@")];
    let mute = permissions(&config, &id("carol")).await.expect("asked");
    for kind in ["waypost.msg.", "waypost.ack.", "waypost.keepalive."] {
        let said = |refusal: &&String| refusal.to_lowercase().contains(kind);
        assert_eq!(mute.refused.iter().filter(said).count(), 1, "{kind} in {mute:?}");
    }
}
