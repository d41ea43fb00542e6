//! The transport against a real server, and against a wire that fails.

mod access;
#[path = "../../../tests/support/mod.rs"]
mod support;

use tokio::time::Instant as Clock;

use self::support::nats_server::NatsServer;
use self::support::tcp_proxy::TcpProxy;
use self::support::{eventually, eventually_async};
use super::*;

const SOON: Duration = Duration::from_secs(15);

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

fn message(to: &str, from: &str) -> Subject {
    Subject::Message { to: node(to), from: node(from) }
}

fn config(url: &str) -> Config {
    Config { nats: vec![url.to_owned()], ..Config::default() }
}

async fn connect(config: &Config, name: &str) -> NatsTransport {
    NatsTransport::connect(config, &node(name), Role::Node { elects: true })
        .await
        .expect("valid settings")
}

async fn next(transport: &mut NatsTransport) -> TransportEvent {
    timeout(SOON, transport.next()).await.expect("something happens in time")
}

async fn up(transport: &mut NatsTransport) -> (usize, ServerInfo) {
    match next(transport).await {
        TransportEvent::Up { max_payload, server, .. } => (max_payload, server),
        other => panic!("{other:?} instead of Up"),
    }
}

/// Passes over what else happens.
async fn until(
    transport: &mut NatsTransport,
    within: Duration,
    wanted: impl Fn(&TransportEvent) -> bool,
) -> TransportEvent {
    let found = async {
        loop {
            let event = transport.next().await;
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(within, found).await.expect("the event comes in time")
}

fn is_up(event: &TransportEvent) -> bool {
    matches!(event, TransportEvent::Up { .. })
}

fn is_down(event: &TransportEvent) -> bool {
    matches!(event, TransportEvent::Down { .. })
}

/// Drives the transport while the other future runs.
async fn while_driven<T>(transport: &mut NatsTransport, other: impl Future<Output = T>) -> T {
    let mut other = std::pin::pin!(other);
    loop {
        tokio::select! {
            done = &mut other => return done,
            _ = transport.next() => {}
        }
    }
}

async fn stranger(server: &NatsServer) -> Client {
    async_nats::connect(server.url()).await.expect("a server that runs")
}

#[tokio::test]
async fn up_means_that_not_one_frame_is_missed() {
    let server = NatsServer::start();
    let stranger = stranger(&server).await;
    for round in 0..5 {
        let me = format!("bob{round}");
        let mut bob = connect(&config(&server.url()), &me).await;
        let (max_payload, info) = up(&mut bob).await;
        assert_eq!((max_payload, info.address), (1_048_576, server.url()));
        assert!(!info.name.is_empty() && !info.version.is_empty());
        for n in 0..1_000_u32 {
            let bytes = Bytes::copy_from_slice(&n.to_be_bytes());
            stranger.publish(format!("waypost.msg.{me}.eve"), bytes).await.expect("published");
        }
        for n in 0..1_000_u32 {
            let from = message(&me, "eve");
            let bytes = Bytes::copy_from_slice(&n.to_be_bytes());
            assert_eq!(next(&mut bob).await, TransportEvent::Frame { from, bytes });
        }
    }
}

#[tokio::test]
async fn every_kind_of_subject_arrives_once_as_it_was_published() {
    let server = NatsServer::start();
    let (mut alice, mut bob) = (
        connect(&config(&server.url()), "alice").await,
        connect(&config(&server.url()), "bob").await,
    );
    up(&mut alice).await;
    up(&mut bob).await;
    let (to, from) = (node("bob"), node("alice"));
    for subject in [
        message("bob", "alice"),
        Subject::Ack { to: to.clone(), from: from.clone() },
        Subject::Keepalive { from: from.clone() },
        Subject::Management { to: Audience::Node(to), from: from.clone() },
        Subject::Management { to: Audience::All, from },
    ] {
        alice.try_publish(&subject, Bytes::from_static(b"x")).expect("connected");
        let expected = TransportEvent::Frame { from: subject, bytes: Bytes::from_static(b"x") };
        assert_eq!(next(&mut bob).await, expected);
    }
    // Our own broadcasts come back, so that a second node with our name is heard.
    until(&mut alice, SOON, |event| {
        matches!(event, TransportEvent::Frame { from: Subject::Keepalive { .. }, .. })
    })
    .await;
}

#[tokio::test]
async fn a_killed_server_is_told_and_its_return_doubles_nothing() {
    let mut server = NatsServer::start();
    let mut bob = connect(&config(&server.url()), "bob").await;
    up(&mut bob).await;
    for round in 0..2 {
        server.kill();
        let down = next(&mut bob).await;
        assert!(is_down(&down), "{down:?}");
        let refused = bob.try_publish(&message("eve", "bob"), Bytes::from_static(b"x"));
        assert_eq!(refused, Err(PublishError::NotConnected));
        server.restart();
        up(&mut bob).await;
        let stranger = stranger(&server).await;
        for n in 0..100 {
            let bytes = Bytes::from(vec![round, n]);
            stranger.publish("waypost.msg.bob.eve", bytes).await.expect("published");
        }
        for n in 0..100 {
            let bytes = Bytes::from(vec![round, n]);
            let from = message("bob", "eve");
            assert_eq!(next(&mut bob).await, TransportEvent::Frame { from, bytes });
        }
    }
}

#[tokio::test]
async fn a_server_that_appears_later_is_found() {
    let mut server = NatsServer::start();
    server.stop();
    let mut bob = connect(&config(&server.url()), "bob").await;
    let refused = bob.try_publish(&message("eve", "bob"), Bytes::from_static(b"x"));
    assert_eq!(refused, Err(PublishError::NotConnected));
    match next(&mut bob).await {
        TransportEvent::Down { reason, .. } => assert!(reason.contains(&server.url()), "{reason}"),
        other => panic!("{other:?} instead of Down"),
    }
    server.restart();
    up(&mut bob).await;
}

#[tokio::test]
async fn another_server_takes_over() {
    let mut servers = [NatsServer::start(), NatsServer::start()];
    let nats = servers.iter().map(NatsServer::url).collect();
    let mut bob = connect(&Config { nats, ..Config::default() }, "bob").await;
    let (_, first) = up(&mut bob).await;
    let used = servers.iter_mut().find(|server| server.url() == first.address);
    used.expect("one of the two").kill();
    assert!(is_down(&next(&mut bob).await));
    let (_, second) = up(&mut bob).await;
    assert_ne!(second.address, first.address);
}

#[tokio::test]
async fn a_frozen_server_is_noticed() {
    let server = NatsServer::start();
    let mut bob = connect(&config(&server.url()), "bob").await;
    up(&mut bob).await;
    server.pause();
    until(&mut bob, Duration::from_secs(30), is_down).await;
    server.resume();
    until(&mut bob, Duration::from_secs(30), is_up).await;
}

#[tokio::test]
async fn a_half_open_link_is_noticed_and_a_cut_one_at_once() {
    let server = NatsServer::start();
    let proxy = TcpProxy::start(server.port());
    let mut bob = connect(&config(&proxy.url()), "bob").await;
    up(&mut bob).await;
    proxy.cut();
    until(&mut bob, Duration::from_secs(2), is_down).await;
    proxy.heal();
    up(&mut bob).await;
    proxy.half_open();
    until(&mut bob, Duration::from_secs(30), is_down).await;
    proxy.heal();
    until(&mut bob, Duration::from_secs(30), is_up).await;
}

/// Something comes in all the time, which the client takes for life.
async fn chatter(stranger: Client) {
    loop {
        stranger.publish("waypost.msg.bob.eve", Bytes::from_static(b"x")).await.expect("published");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_dead_way_out_is_noticed_whatever_comes_in() {
    let server = NatsServer::start();
    let proxy = TcpProxy::start(server.port());
    let mut bob = connect(&config(&proxy.url()), "bob").await;
    up(&mut bob).await;
    let chatter = tokio::spawn(chatter(stranger(&server).await));
    proxy.one_way();
    let told = until(&mut bob, Duration::from_secs(25), is_down).await;
    assert!(
        matches!(&told, TransportEvent::Down { reason, .. } if reason.contains("no answer")),
        "{told:?}"
    );
    proxy.heal();
    until(&mut bob, Duration::from_secs(30), is_up).await;
    // For longer than it takes to notice.
    let quiet = timeout(Duration::from_secs(16), until(&mut bob, Duration::MAX, is_down)).await;
    assert!(quiet.is_err(), "a link that is well is left alone: {quiet:?}");
    chatter.abort();
}

#[tokio::test]
async fn publishing_never_waits_and_a_stuck_client_is_replaced() {
    let server = NatsServer::start();
    let proxy = TcpProxy::start(server.port());
    let mut bob = connect(&config(&proxy.url()), "bob").await;
    up(&mut bob).await;
    let chatter = tokio::spawn(chatter(stranger(&server).await));
    proxy.one_way();
    let (big, keepalive) =
        (Bytes::from(vec![1; 900_000]), Subject::Keepalive { from: node("bob") });
    let mut taken = 0;
    // More than the buffers of all sockets on the way hold. A client with so much before it hears nothing any more.
    let stuck = async {
        loop {
            match bob.try_publish(&message("eve", "bob"), big.clone()) {
                Ok(()) => taken += 1,
                Err(PublishError::Busy) => {
                    assert!(!bob.has_room());
                    let room = timeout(Duration::from_secs(1), async {
                        while bob.next().await != TransportEvent::Room {}
                    });
                    if room.await.is_err() {
                        return;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    timeout(SOON, stuck).await.expect("at some time nothing fits any more");
    assert!((1..100).contains(&taken), "{taken}");
    // Frames that are no messages are taken, and wait; of them, too, not without end.
    for _ in 0..100 {
        bob.try_publish(&keepalive, Bytes::from_static(b"k")).expect("there is room for these");
    }
    let heavy = Bytes::from(vec![2; 500_000]);
    let full = (0..10).any(|_| bob.try_publish(&keepalive, heavy.clone()).is_err());
    assert!(full, "what waits is bounded");
    let signals = Arc::downgrade(&bob.open.signals);
    until(&mut bob, Duration::from_secs(25), is_down).await;
    let refused = bob.try_publish(&message("eve", "bob"), Bytes::from_static(b"x"));
    assert_eq!(refused, Err(PublishError::NotConnected));
    proxy.heal();
    until(&mut bob, Duration::from_secs(30), is_up).await;
    assert!(!signals.upgrade().is_some_and(|signals| Arc::ptr_eq(&signals, &bob.open.signals)));
    bob.try_publish(&message("bob", "bob"), Bytes::from_static(b"x")).expect("connected");
    let own = message("bob", "bob");
    until(
        &mut bob,
        SOON,
        |event| matches!(event, TransportEvent::Frame { from, .. } if *from == own),
    )
    .await;
    chatter.abort();
}

#[tokio::test]
async fn closing_a_stuck_connection_takes_no_longer_than_it_may() {
    let server = NatsServer::start();
    let proxy = TcpProxy::start(server.port());
    let mut bob = connect(&config(&proxy.url()), "bob").await;
    up(&mut bob).await;
    proxy.one_way();
    for _ in 0..20 {
        // What does not fit is refused.
        let _ = bob.try_publish(&message("eve", "bob"), Bytes::from(vec![1; 900_000]));
        let _ = timeout(Duration::from_millis(50), bob.next()).await;
    }
    timeout(SOON, bob.close(Duration::from_millis(500))).await.expect("closed");
}

#[tokio::test]
async fn what_is_unwritten_is_told_by_the_clients_counters() {
    let server = NatsServer::start();
    let mut bob = connect(&config(&server.url()), "bob").await;
    up(&mut bob).await;
    for round in 0..20_usize {
        for n in 0..40_usize {
            let frame = Bytes::from(vec![0; round * n + n]);
            bob.try_publish(&message("eve", "bob"), frame).expect("room for some small ones");
        }
        assert!(bob.outbox.unwritten(bob.open.counts()) > 0);
        let written = async {
            while bob.outbox.unwritten(bob.open.counts()) > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(SOON, written).await.expect("all of it is written, to the byte");
    }
}

#[tokio::test]
async fn a_frame_over_the_servers_limit_is_refused_and_the_limit_is_learnt_anew() {
    let mut server = NatsServer::with_config("max_payload: 1000");
    let mut bob = connect(&config(&server.url()), "bob").await;
    assert_eq!(up(&mut bob).await.0, 1_000);
    let frame = |size| Bytes::from(vec![0; size]);
    bob.try_publish(&message("bob", "bob"), frame(1_000)).expect("just fits");
    let refused = bob.try_publish(&message("bob", "bob"), frame(1_001));
    assert_eq!(refused, Err(PublishError::TooLarge { size: 1_001, limit: 1_000 }));
    server.restart_with("max_payload: 2000");
    let back = until(&mut bob, SOON, is_up).await;
    assert!(matches!(back, TransportEvent::Up { max_payload: 2_000, .. }), "{back:?}");
    bob.try_publish(&message("bob", "bob"), frame(1_001)).expect("fits now");
}

#[tokio::test]
async fn strangers_subjects_and_payloads_do_no_harm() {
    let server = NatsServer::start();
    let mut bob = connect(&config(&server.url()), "bob").await;
    up(&mut bob).await;
    let stranger = stranger(&server).await;
    let own = "waypost.mgmt.node.bob.bob";
    let foreign = Echo::new().send(Instant::now(), 1).to_bytes();
    for subject in [
        "waypost.msg.bob.".to_owned() + &"x".repeat(300),
        "waypost.msg.bob.ü".to_owned(),
        "waypost.keepalive.a$b".to_owned(),
    ] {
        stranger.publish(subject, Bytes::new()).await.expect("published");
        assert_eq!(next(&mut bob).await, TransportEvent::Stray);
    }
    // Another process with our name, or somebody who plays it: no frame, and no proof of anything.
    stranger.publish(own, foreign).await.expect("published");
    for bytes in [Bytes::new(), Bytes::from_static(b"\0echo"), vec![0xff; 1 << 20].into()] {
        stranger.publish(own, bytes.clone()).await.expect("published");
        assert_eq!(next(&mut bob).await, TransportEvent::Frame { from: bob.own.clone(), bytes });
    }
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Expected-Stream", "x");
    let subject = "waypost.ack.bob.eve";
    let published = stranger.publish_with_headers(subject, headers, Bytes::from_static(b"h")).await;
    published.expect("published");
    let from = Subject::Ack { to: node("bob"), from: node("eve") };
    let bytes = Bytes::from_static(b"h");
    assert_eq!(next(&mut bob).await, TransportEvent::Frame { from, bytes });
}

#[tokio::test]
async fn who_does_not_take_its_frames_is_told_and_the_rest_comes() {
    let server = NatsServer::start();
    let mut bob = connect(&config(&server.url()), "bob").await;
    up(&mut bob).await;
    let stranger = stranger(&server).await;
    for _ in 0..5_000 {
        stranger.publish("waypost.msg.bob.eve", Bytes::from_static(b"x")).await.expect("published");
    }
    let statistics = Arc::clone(&bob.open.statistics);
    eventually_async(SOON, "the client has read all of it", || {
        let seen = statistics.in_messages.load(Ordering::Relaxed);
        ready(seen >= 5_000)
    })
    .await;
    until(&mut bob, SOON, |event| *event == TransportEvent::Slow).await;
    let frame = |event: &TransportEvent| matches!(event, TransportEvent::Frame { .. });
    until(&mut bob, SOON, frame).await;
}

#[tokio::test]
async fn a_server_in_lame_duck_mode_is_left() {
    let mut server =
        NatsServer::with_config("lame_duck_duration: 40s, lame_duck_grace_period: 10s");
    let mut bob = connect(&config(&server.url()), "bob").await;
    up(&mut bob).await;
    server.lame_duck();
    // Well before the server would have thrown us out.
    until(&mut bob, Duration::from_secs(8), is_down).await;
    server.kill();
    server.restart();
    until(&mut bob, SOON, is_up).await;
}

#[tokio::test]
async fn a_server_that_accepts_and_closes_is_not_stormed() {
    let server = NatsServer::start();
    let proxy = TcpProxy::start(server.port());
    proxy.cut();
    let mut bob = connect(&config(&proxy.url()), "bob").await;
    while_driven(&mut bob, sleep(Duration::from_secs(3))).await;
    let count = proxy.accepted();
    assert!((3..=10).contains(&count), "{count} connections in 3 s");
}

#[tokio::test]
async fn a_server_that_drops_each_connection_after_greeting_is_not_stormed() {
    let server = NatsServer::start();
    let proxy = TcpProxy::start(server.port());
    let mut bob = connect(&config(&proxy.url()), "bob").await;
    let end = Clock::now() + Duration::from_secs(3);
    while let Ok(event) = tokio::time::timeout_at(end, bob.next()).await {
        if is_up(&event) {
            proxy.cut();
        } else if is_down(&event) {
            proxy.heal();
        }
    }
    let count = proxy.accepted();
    assert!((3..=10).contains(&count), "{count} connections in 3 s");
}

#[tokio::test]
async fn closing_lets_the_last_frames_arrive_and_leaves_no_task() {
    let server = NatsServer::start();
    let (mut alice, mut bob) = (
        connect(&config(&server.url()), "alice").await,
        connect(&config(&server.url()), "bob").await,
    );
    up(&mut alice).await;
    up(&mut bob).await;
    for n in 0..200 {
        alice.try_publish(&message("bob", "alice"), Bytes::from(vec![n])).expect("connected");
    }
    let signals = Arc::downgrade(&alice.open.signals);
    alice.close(Duration::from_secs(5)).await;
    assert!(signals.upgrade().is_none(), "a task of the client lives on");
    for n in 0..200 {
        let from = message("bob", "alice");
        assert_eq!(next(&mut bob).await, TransportEvent::Frame { from, bytes: vec![n].into() });
    }
}

#[test]
fn closed_without_a_server_it_tries_no_more_and_ends_with_its_runtime() {
    let server = NatsServer::start();
    let proxy = TcpProxy::start(server.port());
    proxy.cut();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (signals, marks_closed) = runtime.block_on(async {
        let mut bob = connect(&config(&proxy.url()), "bob").await;
        assert!(is_down(&next(&mut bob).await));
        let signals = Arc::clone(&bob.open.signals);
        bob.close(Duration::from_secs(5)).await;
        let closed = signals.marks().closed;
        (signals, closed)
    });
    assert!(marks_closed);
    let before = proxy.accepted();
    proxy.heal();
    // One try may have been under way; were the search alive, there would be several in this time.
    runtime.block_on(async { sleep(Duration::from_secs(2)).await });
    assert!(proxy.accepted() <= before + 1, "it still tries");
    runtime.shutdown_timeout(Duration::from_secs(5));
    eventually(SOON, "nothing of the client is left", || Arc::strong_count(&signals) == 1);
}

#[test]
fn a_dropped_runtime_leaves_nothing() {
    let server = NatsServer::start();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (bob, signals) = runtime.block_on(async {
        let mut bob = connect(&config(&server.url()), "bob").await;
        up(&mut bob).await;
        let signals = Arc::downgrade(&bob.open.signals);
        (bob, signals)
    });
    drop(runtime);
    drop(bob);
    assert!(signals.upgrade().is_none(), "something of the client lives on");
}

#[tokio::test]
async fn a_client_that_ends_by_itself_is_replaced() {
    let server = NatsServer::start();
    let mut bob = connect(&config(&server.url()), "bob").await;
    up(&mut bob).await;
    bob.open.client.drain().await.expect("the client runs");
    assert!(is_down(&until(&mut bob, SOON, is_down).await));
    up(&mut bob).await;
    bob.try_publish(&message("bob", "bob"), Bytes::from_static(b"x")).expect("connected");
    assert!(matches!(next(&mut bob).await, TransportEvent::Frame { .. }));
}
