//! What a server's own permissions let a node do, and that a node within them works.

mod nodes;
mod support;

use std::time::Duration;

use nodes::*;
use support::nats_server::NatsServer;
use waypost::management::permissions;
use waypost::{Auth, Config, Mode, NodeId};

/// Users that are bound to their node's name: each may say only what comes from it.
const BOUND: &str = r#"
authorization {
  users = [
    { user: alice, password: a, permissions: {
        publish: ["waypost.*.*.alice", "waypost.mgmt.node.*.alice", "waypost.mgmt.all.alice", "waypost.keepalive.alice"],
        subscribe: ["waypost.*.alice.*", "waypost.mgmt.node.alice.*", "waypost.mgmt.all.*", "waypost.keepalive.*"] } },
    { user: bob, password: b, permissions: {
        publish: ["waypost.*.*.bob", "waypost.mgmt.node.*.bob", "waypost.mgmt.all.bob", "waypost.keepalive.bob"],
        subscribe: ["waypost.*.bob.*", "waypost.mgmt.node.bob.*", "waypost.mgmt.all.*", "waypost.keepalive.*"] } },
    { user: mute, password: m, permissions: {
        publish: ["waypost.mgmt.node.*.carol"], subscribe: [">"] } }
  ]
}
"#;

fn login(user: &str, password: &str) -> Auth {
    let (user, password) = (Some(user.to_owned()), Some(password.to_owned()));
    Auth { user, password, ..Auth::default() }
}

fn config(server: &NatsServer, user: &str, password: &str) -> Config {
    let mut config = Config::default();
    config.nats = vec![server.url()];
    config.auth = login(user, password);
    config
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_work_within_permissions_that_bind_them_to_their_names() {
    let server = NatsServer::with_config(BOUND);
    let dir = tempfile::tempdir().expect("a folder");
    let start = async |name: &str, password: &str| {
        let builder = builder(&server, &dir, name).auth(login(name, password));
        builder.start().await.expect("started")
    };
    let (alice, bob) = (start("alice", "a").await, start("bob", "b").await);
    let got = collect(&bob.join("c", Mode::Reader).await.expect("joined")).await;
    let channel = alice.join("c", Mode::Writer).await.expect("joined");
    channel.send("within bounds").await.expect("sent");
    assert!(alice.flush(Duration::from_secs(30)).await.expect("flushed").is_complete());
    assert_eq!(*got.lock().expect("not poisoned"), ["within bounds"]);
    alice.shutdown().await;
    bob.shutdown().await;
}

#[tokio::test]
async fn what_a_server_refuses_a_node_is_found_out_beforehand() {
    let server = NatsServer::with_config(BOUND);
    let enough = permissions(&config(&server, "alice", "a"), &id("alice")).await.expect("asked");
    assert!(enough.refused.is_empty() && enough.server.is_some(), "{enough:?}");
    // Under another name than the one that the user is bound to.
    let other = permissions(&config(&server, "alice", "a"), &id("bob")).await.expect("asked");
    assert!(!other.refused.is_empty(), "{other:?}");
    // May hear everything and say next to nothing.
    let mute = permissions(&config(&server, "mute", "m"), &id("carol")).await.expect("asked");
    for kind in ["waypost.msg.", "waypost.ack.", "waypost.keepalive."] {
        let said = |refusal: &&String| refusal.to_lowercase().contains(kind);
        assert_eq!(mute.refused.iter().filter(said).count(), 1, "{kind} in {mute:?}");
    }
    let wrong = permissions(&config(&server, "alice", "wrong"), &id("alice")).await;
    assert!(matches!(wrong, Err(waypost::management::ObserveError::Unauthorized { .. })));
}
