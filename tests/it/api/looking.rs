//! Looking around, and an operator's hand: peers, topology, statistics, events, purge, forget.

use std::time::Duration;

use crate::nodes::*;
use crate::support::nats_server::NatsServer;
use waypost::management::Observer;
use waypost::{Config, Event, Health, Mode, NewMessage};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_knows_itself_its_peers_and_who_reads_what() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let bob = start(&server, &dir, "bob").await;
    let eve = start(&server, &dir, "eve").await;
    alice.join("work", Mode::Writer).await.expect("joined");
    bob.join("work", Mode::Reader).await.expect("joined");
    bob.join("play", Mode::ReadWrite).await.expect("joined");
    eve.join("work", Mode::ReadWrite).await.expect("joined");
    for (channel, reader) in [("work", "bob"), ("work", "eve"), ("play", "bob")] {
        reader_is_known(&alice, channel, reader).await;
    }
    let status = alice.status();
    assert_eq!((status.id.as_str(), status.storage), ("alice", Health::Healthy));
    assert!(status.link.is_connected() && status.uptime > Duration::ZERO);
    alice.wait_for(|status| status.peers_online == 2).await.expect("it runs");
    let names = |ids: Vec<waypost::NodeId>| -> Vec<String> {
        let mut names: Vec<_> = ids.iter().map(ToString::to_string).collect();
        names.sort();
        names
    };
    assert_eq!(names(alice.subscribers("work").await.expect("a name")), ["bob", "eve"]);
    assert_eq!(names(alice.subscribers("play").await.expect("a name")), ["bob"]);
    assert!(alice.subscribers("nothing").await.expect("a name").is_empty());
    assert!(alice.subscribers("line\nbreak").await.is_err());
    let topology = alice.topology().await.expect("it runs");
    assert_eq!(topology.node.as_str(), "alice");
    let own: Vec<_> = topology.channels.iter().map(|c| (c.name.as_str(), c.mode)).collect();
    assert_eq!(own, [("work", Mode::Writer)]);
    let peer = topology.peers.iter().find(|peer| peer.node.as_str() == "bob").expect("known");
    assert!(peer.online && !peer.draining);
    assert_eq!(peer.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(peer.host, gethostname::gethostname().to_string_lossy());
    assert_eq!(peer.incarnation, bob.status().incarnation);
    let modes: Vec<_> = peer.channels.iter().map(|c| (c.name.as_str(), c.mode)).collect();
    assert_eq!(modes, [("play", Mode::ReadWrite), ("work", Mode::Reader)]);
    for node in [eve, bob, alice] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_and_events_tell_a_messages_whole_way() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let mut events = alice.events();
    let bob = start(&server, &dir, "bob").await;
    let online = event(&mut events, "online", |event| match event {
        Event::PeerOnline { node, restarted } => Some((node.to_string(), *restarted)),
        _ => None,
    });
    assert_eq!(online.await, ("bob".to_owned(), false));
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    event(&mut events, "joined", |event| matches!(event, Event::ReaderJoined { .. }).then_some(()))
        .await;
    let got = collect(&work).await;
    let id = out.send("0").await.expect("sent");
    for expected in ["sent", "delivered"] {
        let found = event(&mut events, expected, |event| match event {
            Event::Sent { id, count: 1, .. } => Some(("sent", *id)),
            Event::Delivered { id, count: 1, .. } => Some(("delivered", *id)),
            _ => None,
        });
        assert_eq!(found.await, (expected, id));
    }
    send_numbers(&out, 1..10).await;
    settled(&alice).await;
    assert_eq!(seen(&got).len(), 10);
    let stats = alice.statistics().await.expect("it runs");
    let counters = &stats.counters;
    assert_eq!((counters.accepted, counters.sent, counters.delivered), (10, 10, 10));
    assert_eq!((counters.acks_received, counters.redelivered), (10, 0));
    assert_eq!((counters.reconnects, counters.refused_frames, stats.queued), (0, 0, 0));
    assert!(counters.keepalives_sent > 0 && counters.keepalives_received > 0);
    assert!(stats.uptime > Duration::ZERO);
    let at_bob = bob.statistics().await.expect("it runs").counters;
    assert_eq!((at_bob.processed, at_bob.acks_sent, at_bob.failed), (10, 10, 0));
    bob.shutdown().await;
    let offline = event(&mut events, "offline", |event| match event {
        Event::PeerOffline { node, goodbye } => Some((node.to_string(), *goodbye)),
        _ => None,
    });
    assert_eq!(offline.await, ("bob".to_owned(), true));
    let bob = start(&server, &dir, "bob").await;
    let online = event(&mut events, "online", |event| match event {
        Event::PeerOnline { node, restarted } => Some((node.to_string(), *restarted)),
        _ => None,
    });
    assert_eq!(online.await, ("bob".to_owned(), true));
    drop(server);
    event(&mut events, "gone", |event| matches!(event, Event::Disconnected { .. }).then_some(()))
        .await;
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_discards_what_waits_for_one_receiver_in_one_channel_or_in_all() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let (bob, eve) = (start(&server, &dir, "bob").await, start(&server, &dir, "eve").await);
    let mut outs = Vec::new();
    for channel in ["work", "play"] {
        for node in [&bob, &eve] {
            node.join(channel, Mode::Reader).await.expect("joined");
        }
        let out = alice.join(channel, Mode::Writer).await.expect("joined");
        reader_is_known(&alice, channel, "bob").await;
        reader_is_known(&alice, channel, "eve").await;
        send_numbers(&out, 0..3).await;
        outs.push(out);
    }
    outs[0].send(NewMessage::text("direct").to("bob")).await.expect("sent");
    assert_eq!(columns(&alice, "bob").await, [7, 7, 0, 0, 0, 0]);
    assert_eq!(alice.purge("bob", Some("work")).await.expect("purged"), 4);
    assert_eq!(columns(&alice, "bob").await, [7, 3, 0, 0, 0, 4]);
    assert_eq!(alice.purge("bob", None).await.expect("purged"), 3);
    assert_eq!(alice.purge("bob", None).await.expect("nothing left"), 0);
    assert!(alice.purge("no.name", None).await.is_err());
    assert_eq!(columns(&alice, "eve").await, [6, 6, 0, 0, 0, 0]);
    outs[1].send("after").await.expect("sent");
    let at_bob = collect(&bob.join("play", Mode::Reader).await.expect("joined")).await;
    assert_eq!(arrived(&at_bob, 1).await, ["after"]);
    for node in [eve, bob, alice] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_peer_blocks_nobody_and_is_a_new_one_when_it_comes_back() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let bob = start(&server, &dir, "bob").await;
    bob.join("work", Mode::Reader).await.expect("joined");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    send_numbers(&out, 0..5).await;
    bob.shutdown().await;
    peer_is(&alice, "bob", false).await;
    let mut events = alice.events();
    assert_eq!(alice.forget("bob").await.expect("forgotten"), 5);
    event(&mut events, "forgotten", |event| match event {
        Event::PeerForgotten { node, pending: 5 } => (node.as_str() == "bob").then_some(()),
        _ => None,
    })
    .await;
    assert!(alice.peers().await.expect("it runs").is_empty());
    assert!(alice.flush(SOON).await.expect("it runs").is_complete());
    let bob = start(&server, &dir, "bob").await;
    let start = waypost::StartAt::Now;
    let work = bob.join_from("work", Mode::Reader, start).await.expect("joined");
    let got = collect(&work).await;
    event(&mut events, "joined", |event| matches!(event, Event::ReaderJoined { .. }).then_some(()))
        .await;
    out.send("new").await.expect("sent");
    assert_eq!(arrived(&got, 1).await, ["new"]);
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_away_for_too_long_is_forgotten_by_itself() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let expiry = Duration::from_secs(4);
    let alice = begin(builder(&server, &dir, "alice").peer_expiry(expiry)).await;
    let mut events = alice.events();
    let bob = start(&server, &dir, "bob").await;
    bob.join("work", Mode::Reader).await.expect("joined");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    send_numbers(&out, 0..5).await;
    bob.shutdown().await;
    let pending = event(&mut events, "forgotten", |event| match event {
        Event::PeerForgotten { node, pending } => (node.as_str() == "bob").then_some(*pending),
        _ => None,
    });
    assert_eq!(pending.await, 5);
    assert!(alice.peers().await.expect("it runs").is_empty());
    settled(&alice).await;
    alice.shutdown().await;
    let alice = start(&server, &dir, "alice").await;
    assert!(alice.peers().await.expect("it runs").is_empty(), "for good");
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_asks_all_nodes_and_takes_no_part() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let bob = start(&server, &dir, "bob").await;
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    send_numbers(&out, 0..3).await;
    arrived(&got, 3).await;
    settled(&alice).await;
    let mut config = Config::default();
    config.nats = vec![server.url()];
    let mut observer = Observer::connect(&config).await.expect("connected");
    let expected = [alice.id().clone(), bob.id().clone()];
    let reports = observer.reports(SOON, &expected).await.expect("answers");
    let names: Vec<&str> = reports.iter().map(|report| report.node.as_str()).collect();
    assert_eq!(names, ["alice", "bob"]);
    assert_eq!(reports[0].accounts[0].acknowledged, 3);
    assert!(reports[0].accounts[0].is_balanced());
    assert_eq!(reports[1].counters.processed, 3);
    assert!(reports.iter().all(|report| report.storage == "healthy" && !report.truncated));
    observer.close().await;
    assert_eq!(alice.peers().await.expect("it runs").len(), 1, "an observer is no peer");
    bob.shutdown().await;
    alice.shutdown().await;
}
