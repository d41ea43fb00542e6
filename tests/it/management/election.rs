//! The election, over a real server, with real files and processes that are killed and stopped. Its rules are tested and checked exhaustively
//! elsewhere: `src/protocol/election/tests`, `tests/election_model.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::nodes::child::Child;
use crate::nodes::wire::{frame, say, stranger, ulid};
use crate::nodes::*;
use crate::support::eventually_async;
use crate::support::nats_server::NatsServer;
use crate::support::tcp_proxy::TcpProxy;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use waypost::election::{Accession, Deposed, ElectionEvent, Fence, Role, Term, Token};
use waypost::error::{FenceError, HandOverError, OrderError, SetStateError, StartError};
use waypost::inspect::Inspector;
use waypost::rusqlite::Connection;
use waypost::{Election, ElectionTimes, Management, Mode, NewMessage, Node, NodeId};

fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

async fn start_voter(server: &NatsServer, dir: &TempDir, name: &str) -> Node {
    begin(voter(builder(server, dir, name))).await
}

/// Waits until all of these know the same master; who it is.
async fn master_of(nodes: &[&Node]) -> (NodeId, Term) {
    eventually_async(SOON, "all know one master", async || {
        let first = nodes[0].master();
        first.is_some() && nodes.iter().all(|node| node.master() == first)
    })
    .await;
    nodes[0].master().expect("it was there a moment ago")
}

/// Waits until one of these is master in a term above this one; which.
async fn next_master<'a>(nodes: &[&'a Node], after: Term) -> (&'a Node, Term) {
    let found = std::cell::Cell::new(None);
    eventually_async(SOON, "another is master", async || {
        found.set(nodes.iter().find_map(|node| {
            let token = node.fencing_token().filter(|token| token.term > after)?;
            Some((*node, token.term))
        }));
        found.get().is_some()
    })
    .await;
    found.get().expect("it was found")
}

/// Three voters, the master first, and its term.
async fn three(server: &NatsServer, dir: &TempDir) -> (Vec<Node>, Term) {
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        nodes.push(start_voter(server, dir, name).await);
    }
    let (master, term) = master_of(&nodes.iter().collect::<Vec<_>>()).await;
    nodes.sort_by_key(|node| *node.id() != master);
    (nodes, term)
}

async fn has_state(node: &Node, value: &Value) {
    eventually_async(SOON, "the state arrives", async || node.state().value() == *value).await;
}

async fn stop(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_voters_leads_all_know_it_and_have_its_state() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (nodes, _) = three(&server, &dir).await;
    let watcher = start_voter(&server, &dir, "watcher").await;
    let (master, others) = nodes.split_first().expect("three");
    let mut events = others[0].election_events();
    master.set_state(&json!({"round": 1})).await.expect("it is master");
    let version = master.set_state_field("round", 2).await.expect("it is master");
    let fields = (0..20).map(|n| master.set_state_field(format!("f{n}"), n));
    for set in futures_util::future::join_all(fields).await {
        assert!(set.expect("it is master") > version);
    }
    assert_eq!(master.state_field("f7"), Some(json!(7)), "calls at once do not undo each other");
    master_of(&[master, &watcher]).await;
    for node in others.iter().chain([&watcher]) {
        has_state(node, &master.state().value()).await;
        assert!(!node.is_master() && node.fencing_token().is_none());
        let refused = node.set_state(&1).await;
        let named = matches!(&refused, Err(SetStateError::NotMaster { master: Some((node, _)) }) if node == master.id());
        assert!(named, "{refused:?}");
    }
    let of = |node: &Node| {
        let node = node.clone();
        async move { node.topology().await.expect("it runs").election.expect("there is one").role }
    };
    assert_eq!(of(master).await, Role::Master);
    assert_eq!(of(&others[0]).await, Role::Voter);
    assert_eq!(of(&watcher).await, Role::Observer);
    let changed =
        event_of(&mut events, |event| matches!(event, ElectionEvent::StateChanged { .. }));
    changed.await;
    for name in ["watcher", "nobody", master.id().as_str()] {
        let refused = master.hand_over(Some(name)).await;
        assert!(
            matches!(&refused, Err(HandOverError::NoVoter { node }) if node.as_str() == name),
            "{refused:?}"
        );
    }
    assert!(master.is_master(), "it keeps what nobody can take");
    stop(nodes.into_iter().chain([watcher])).await;
}

/// The next event of this kind.
async fn event_of(
    events: &mut waypost::ElectionEvents,
    is_it: impl Fn(&ElectionEvent) -> bool,
) -> ElectionEvent {
    let next = async {
        loop {
            let event = events.next().await.expect("the node runs");
            if is_it(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(SOON, next).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_killed_is_followed_by_one_with_its_state() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let b = start_voter(&server, &dir, "b").await;
    let c = start_voter(&server, &dir, "c").await;
    let mut after = Term::ZERO;
    for round in 0..3 {
        let child = Child::start("vote", &server.url(), &dir, "a");
        child.wrote(1).await;
        eventually_async(SOON, "the state is set", async || {
            let (leader, _) = next_master(&[&b, &c], after).await;
            leader.set_state(&json!({"round": round})).await.is_ok()
        })
        .await;
        takes_over(&child, [&b, &c]).await;
        let (name, term) = master_of(&[&b, &c]).await;
        assert_eq!(name, id("a"));
        let said = child.kill();
        let state = json!({"round": round}).to_string();
        assert!(said.iter().any(|line| line.ends_with(&state)), "{said:?}");
        let (leader, next) = next_master(&[&b, &c], term).await;
        assert_eq!(leader.state().value(), json!({"round": round}));
        after = Term::new(next.get() - 1).expect("above zero");
    }
    stop([b, c]).await;
}

/// Has the child, once it follows, take over from whichever of these leads.
async fn takes_over(child: &Child, others: [&Node; 2]) {
    eventually_async(SOON, "the child takes over", async || {
        for leader in others {
            if leader.is_master() {
                let _ = leader.hand_over(Some("a")).await;
            }
        }
        lines(child, "master") > 0
    })
    .await;
}

fn lines(child: &Child, start: &str) -> usize {
    child.lines().iter().filter(|line| line.starts_with(start)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_was_set_outlives_the_crash_of_its_master_right_after() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (mut nodes, _) = three(&server, &dir).await;
    for round in 0..4 {
        let master = nodes.remove(0);
        let term = master.fencing_token().expect("it is master").term;
        let set = master.set_state(&json!(round)).await;
        set.expect("a majority has it");
        let name = master.id().to_string();
        // Without a word: as if it were killed.
        drop(master);
        let (leader, _) = next_master(&[&nodes[0], &nodes[1]], term).await;
        assert_eq!(leader.state().value(), json!(round));
        let leader = leader.id().clone();
        nodes.push(start_voter(&server, &dir, &name).await);
        nodes.sort_by_key(|node| *node.id() != leader);
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_hands_the_role_over_after_the_program_had_its_last_word() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (nodes, term) = three(&server, &dir).await;
    let (master, others) = nodes.split_first().expect("three");
    let mut events = master.election_events();
    let of = master.clone();
    master
        .on_shutdown(move |info| {
            let of = of.clone();
            async move {
                assert!(info.token.is_some() && of.is_master(), "it still is");
                of.set_state(&json!("the last word")).await.expect("it is master");
            }
        })
        .await
        .expect("it runs");
    master.shutdown().await;
    assert!(!master.is_master());
    let left = event_of(&mut events, |e| matches!(e, ElectionEvent::BecameFollower { .. })).await;
    let ElectionEvent::BecameFollower { reason: Deposed::HandedOver { to }, .. } = left else {
        panic!("{left:?}")
    };
    let (next, new_term) = next_master(&[&others[0], &others[1]], term).await;
    assert_eq!(
        (next.id(), new_term.get()),
        (&to, term.get() + 1),
        "at once, without an election between"
    );
    assert_eq!(next.state().value(), json!("the last word"));
    assert!(matches!(master.set_state(&1).await, Err(SetStateError::ShutDown)));
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_stood_still_steps_down_at_once_and_its_commands_are_fenced() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let child = Child::start("vote", &server.url(), &dir, "a");
    child.wrote(1).await;
    let b = start_voter(&server, &dir, "b").await;
    let c = start_voter(&server, &dir, "c").await;
    let (name, _) = master_of(&[&b, &c]).await;
    if name != id("a") {
        takes_over(&child, [&b, &c]).await;
    }
    eventually_async(SOON, "the child is master", async || lines(&child, "master") > 0).await;
    let (_, term) = master_of(&[&b, &c]).await;
    let mut fence = Fence::open(dir.path().join("fence.db")).expect("opened");
    let old = Token { term, node: id("a") };
    fence.admit("valve", &old).expect("the master's");

    child.signal(Signal::STOP);
    let (leader, _) = next_master(&[&b, &c], term).await;
    fence.admit("valve", &leader.fencing_token().expect("it is master")).expect("a later one");
    child.signal(Signal::CONT);
    eventually_async(SOON, "it steps down", async || lines(&child, "follower") > 0).await;
    assert!(matches!(fence.admit("valve", &old), Err(FenceError::Stale(_))));
    let said = child.kill();
    let masters = said.iter().filter(|line| line.starts_with("master")).count();
    assert_eq!(masters, 1, "{said:?}");
    stop([b, c]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_cut_off_resigns_before_another_is_elected_and_comes_back_quietly() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let proxies: BTreeMap<&str, TcpProxy> =
        ["a", "b", "c"].map(|name| (name, TcpProxy::start(server.port()))).into();
    let mut nodes = Vec::new();
    for (name, proxy) in &proxies {
        nodes.push(begin(voter(builder_at(&proxy.url(), &dir, name))).await);
    }
    let (master, term) = master_of(&nodes.iter().collect::<Vec<_>>()).await;
    nodes.sort_by_key(|node| *node.id() != master);
    let (cut_off, others) = nodes.split_first().expect("three");
    let set = cut_off.set_state(&json!("before")).await;
    set.expect("it is master");
    proxies[master.as_str()].cut();
    let lost = cut_off.set_state(&json!("lost")).await;
    assert!(matches!(lost, Err(SetStateError::Unknown)), "{lost:?}");
    eventually_async(SOON, "another is master", async || {
        // In this order: whoever is master now was preceded by one that was none any more.
        let another = others.iter().any(Node::is_master);
        assert!(!(another && cut_off.is_master()), "two masters");
        another
    })
    .await;
    assert_eq!(cut_off.master(), None, "it knows that it knows of none");
    let (leader, next) = next_master(&[&others[0], &others[1]], term).await;
    assert_eq!(leader.state().value(), json!("before"));
    proxies[master.as_str()].heal();
    let all: Vec<&Node> = nodes.iter().collect();
    assert_eq!(master_of(&all).await, (leader.id().clone(), next), "nobody is unseated");
    has_state(cut_off, &json!("before")).await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terms_and_the_state_outlive_a_restart_of_all() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (nodes, term) = three(&server, &dir).await;
    nodes[0].set_state(&json!([1, 2])).await.expect("it is master");
    for node in &nodes {
        has_state(node, &json!([1, 2])).await;
    }
    drop(nodes);
    let (nodes, next) = three(&server, &dir).await;
    assert!(next > term, "{next} after {term}");
    for node in &nodes {
        assert_eq!(node.state().value(), json!([1, 2]));
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_each_side_has_a_master_and_one_stays() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let proxy = TcpProxy::start(server.port());
    let visible = |url: &str, name| {
        voter(builder_at(url, &dir, name))
            .election(Election::Visible)
            .offline_after(Duration::from_secs(2))
    };
    let a = begin(visible(&proxy.url(), "a")).await;
    let b = begin(visible(&server.url(), "b")).await;
    peer_is(&a, "b", true).await;
    peer_is(&b, "a", true).await;
    let (master, _) = master_of(&[&a, &b]).await;
    let leader = if master == id("a") { &a } else { &b };
    leader.set_state(&json!("whole")).await.expect("it is master");
    for node in [&a, &b] {
        has_state(node, &json!("whole")).await;
    }
    proxy.cut();
    eventually_async(SOON, "both are masters", async || a.is_master() && b.is_master()).await;
    a.set_state(&json!("of a")).await.expect("its side's");
    b.set_state(&json!("of b")).await.expect("its side's");
    proxy.heal();
    let (master, _) = master_of(&[&a, &b]).await;
    let state = if master == id("a") { json!("of a") } else { json!("of b") };
    for node in [&a, &b] {
        has_state(node, &state).await;
    }
    stop([a, b]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_voter_is_master_at_once_without_a_server() {
    let dir = tempfile::tempdir().expect("a folder");
    let alone = || {
        builder_at("nats://127.0.0.1:1", &dir, "a")
            .election(Election::quorum(["a"]).expect("a name"))
    };
    let node = begin(alone()).await;
    next_master(&[&node], Term::ZERO).await;
    let (told, tells) = tokio::sync::oneshot::channel();
    let told = std::sync::Mutex::new(Some(told));
    node.on_became_master(move |state, reason| {
        let told = told.lock().expect("not poisoned").take();
        async move {
            let _ = told.expect("called once").send((state.value(), reason));
        }
    })
    .await
    .expect("it runs");
    let (state, reason) = tells.await.expect("called although it came late");
    assert_eq!((state, reason), (Value::Null, Accession::OnlyNode));
    node.set_state(&json!({"a": 1})).await.expect("it is master");
    assert!(matches!(node.hand_over(None).await, Err(HandOverError::NobodyTookOver)));
    next_master(&[&node], Term::ZERO).await;
    node.shutdown().await;
    let rows = Inspector::open(node.storage()).and_then(|file| file.audit(1)).expect("its file");
    assert_eq!(rows[0].detail, "is master no longer: it resigned", "the last word is on record");
    let mut events = node.election_events();
    assert_eq!(events.next().await, None, "they end with the node");
    let node = begin(alone()).await;
    assert_eq!(node.state_field("a"), Some(json!(1)));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn states_that_are_none_are_refused_and_nothing_changes() {
    let dir = tempfile::tempdir().expect("a folder");
    let url = "nats://127.0.0.1:1";
    let alone = builder_at(url, &dir, "a").election(Election::quorum(["a"]).expect("a name"));
    let node = begin(alone.max_state_bytes(100)).await;
    next_master(&[&node], Term::ZERO).await;
    node.set_state(&json!([1])).await.expect("it is master");
    let version = node.state().version();
    let large = node.set_state(&"x".repeat(100)).await;
    assert!(matches!(large, Err(SetStateError::TooLarge { actual: 102, limit: 100 })), "{large:?}");
    let keys: BTreeMap<(i32, i32), i32> = [((1, 2), 3)].into();
    let no_json = node.set_state(&keys).await;
    assert!(matches!(no_json, Err(SetStateError::NotJson(_))), "{no_json:?}");
    let no_object = node.set_state_field("a", 1).await;
    assert!(matches!(no_object, Err(SetStateError::NotAnObject)), "{no_object:?}");
    assert_eq!((node.state().version(), node.state().value()), (version, json!([1])));
    let nobody = node.hand_over(Some("a b")).await;
    assert!(matches!(nobody, Err(HandOverError::Name(_))), "{nobody:?}");
    node.shutdown().await;

    let off = begin(builder_at(url, &dir, "off")).await;
    assert!(matches!(off.set_state(&1).await, Err(SetStateError::Off)));
    assert!(matches!(off.hand_over(None).await, Err(HandOverError::Off)));
    assert_eq!((off.is_master(), off.master(), off.state().value()), (false, None, Value::Null));
    off.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_contradict_each_other_and_damaged_promises_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let with = |election: Election, times: ElectionTimes| {
        builder_at("nats://127.0.0.1:1", &dir, "a").election(election).election_times(times)
    };
    let refused = async |election, times| match with(election, times).start().await {
        Err(StartError::Config(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let times = ElectionTimes::default();
    let quorum = |names: &[&str]| Election::quorum(names).expect("valid names");
    assert!(refused(quorum(&["a", "b", "a"]), times).await.contains("a twice"));
    assert!(refused(quorum(&[]), times).await.contains("nobody"));
    let mut short = times;
    short.lost_after = Duration::from_secs(2);
    let text = refused(quorum(&["a"]), short).await;
    assert!(text.contains("lost_after") && text.contains("beat"), "{text}");
    Election::quorum(["a b"]).expect_err("no name");
    assert!(!dir.path().join("a.db").exists(), "nothing was made");

    let node = begin(with(quorum(&["a"]), times)).await;
    next_master(&[&node], Term::ZERO).await;
    node.shutdown().await;
    let file = Connection::open(dir.path().join("a.db")).expect("its file");
    file.execute("UPDATE waypost_election SET vote = 'b'", []).expect("damaged");
    drop(file);
    let error = with(quorum(&["a"]), times).start().await.expect_err("it could vote twice");
    assert!(matches!(error, StartError::ElectionDamaged { .. }), "{error:?}");
    let check = Inspector::open(dir.path().join("a.db")).and_then(|file| file.check(|_| ()));
    let findings = check.expect("checked").findings;
    assert!(findings.iter().any(|finding| finding.detail.contains("elections")), "{findings:?}");
    let node = begin(with(Election::Off, times)).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_forged_frames_of_an_election_change_nothing() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (nodes, term) = three(&server, &dir).await;
    nodes[0].set_state(&json!("whole")).await.expect("it is master");
    let client = stranger(&server).await;
    let before = nodes[1].statistics().await.expect("it runs").counters.refused_frames;
    let said = |from: &str, term: u64, what: Value| {
        let mut header = json!({
            "t": "election", "from": from, "incarnation": ulid(9), "term": term, "voters": 0
        });
        header.as_object_mut().expect("an object").extend(what.as_object().expect("one").clone());
        header
    };
    let version = |term: u64, rev: u64| json!({"term": term, "rev": rev});
    let beat =
        |term: u64| json!({"say": "beat", "number": 1, "version": version(term, 0), "ready": true});
    let state = json!({"say": "state", "version": version(term.get() + 1, 5), "bytes": 3});
    // Of nobody who has a vote, of terms that no election leads to, of the past.
    for (subject, header, body) in [
        ("waypost.election.eve", said("eve", term.get() + 1, beat(term.get() + 1)), ""),
        ("waypost.election.eve", said("eve", term.get() + 1, state.clone()), "666"),
        ("waypost.election.b", said("b", 1 << 62, beat(1 << 62)), ""),
        ("waypost.election.b", said("b", 0, beat(0)), ""),
    ] {
        say(&client, subject, frame(&header, body.as_bytes())).await;
    }
    // Of somebody else's name, beyond the last term, no JSON, of another length.
    let bad = [
        ("waypost.election.eve", said("b", term.get() + 1, beat(term.get() + 1)), ""),
        ("waypost.election.b", said("b", u64::MAX, beat(0)), ""),
        ("waypost.election.b", said("b", term.get() + 1, state.clone()), "{{{"),
        ("waypost.election.b", said("b", term.get() + 1, state.clone()), "66"),
        ("waypost.mgmt.node.a.b", said("b", term.get() + 1, beat(term.get() + 1)), ""),
        ("waypost.mgmt.node.b.b", said("b", term.get() + 1, beat(term.get() + 1)), ""),
        ("waypost.mgmt.node.c.b", said("b", term.get() + 1, beat(term.get() + 1)), ""),
    ];
    for (subject, header, body) in bad {
        say(&client, subject, frame(&header, body.as_bytes())).await;
    }
    eventually_async(SOON, "they are refused", async || {
        nodes[1].statistics().await.expect("it runs").counters.refused_frames >= before + 5
    })
    .await;
    let all: Vec<&Node> = nodes.iter().collect();
    assert_eq!(master_of(&all).await, (nodes[0].id().clone(), term));
    for node in &nodes {
        has_state(node, &json!("whole")).await;
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_can_obey_the_master_alone_and_fence_what_it_is_told() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (nodes, term) = three(&server, &dir).await;
    let obeys = voter(builder(&server, &dir, "pump")).management(Management::MasterOnly);
    let pump = begin(obeys).await;
    let (master, others) = nodes.split_first().expect("three");
    for node in &nodes {
        peer_is(node, "pump", true).await;
        reader_can_be_known(&pump, node).await;
    }
    master_of(&[master, &pump]).await;
    let refused = others[0].drain("pump").await;
    assert!(
        matches!(&refused, Err(OrderError::Refused { reason, .. }) if reason.contains("master only")),
        "{refused:?}"
    );
    master.drain("pump").await.expect("of the master");
    master.readmit_node("pump").await.expect("of the master");

    // Commands as messages: the receiver's file remembers the highest token, and the command and its fence are one commit.
    let table = "CREATE TABLE commands (what TEXT NOT NULL)";
    pump.transaction(move |tx| tx.execute(table, [])).await.expect("a table");
    let mut commands = pump
        .join("commands", Mode::Reader)
        .await
        .expect("joined")
        .messages()
        .await
        .expect("a stream");
    let send = async |node: &Node, token: &Token, what: &str| {
        let channel = node.join("commands", Mode::Writer).await.expect("joined");
        channel.send(NewMessage::text(what).fenced(token).to("pump")).await.expect("sent");
    };
    let old = master.fencing_token().expect("it is master");
    send(master, &old, "open").await;
    let next = master.hand_over(None).await.expect("handed over");
    let next = others.iter().find(|node| *node.id() == next).expect("one of them");
    let (_, new_term) = next_master(&[next], term).await;
    assert!(new_term > term);
    let mut taken = Vec::new();
    let mut take = async |sender: &NodeId| {
        let next = tokio::time::timeout(SOON, commands.next()).await.expect("in time");
        let mut message = next.expect("a command");
        assert_eq!(message.sender(), sender);
        let (token, what) = (message.fencing_token(), message.text().expect("a text").to_owned());
        let result = message.ack_in(move |tx| -> Result<bool, waypost::rusqlite::Error> {
            let Some(token) = token else { return Ok(false) };
            if tx.fence("pump", &token).is_err() {
                return Ok(false);
            }
            tx.execute("INSERT INTO commands VALUES (?1)", [what]).map(|_| true)
        });
        taken.push(result.await.expect("committed"));
    };
    take(master.id()).await;
    send(next, &next.fencing_token().expect("it is master"), "close").await;
    take(next.id()).await;
    send(master, &old, "open again").await;
    take(master.id()).await;
    // Another's token is none.
    send(master, &next.fencing_token().expect("it is master"), "stolen").await;
    take(master.id()).await;
    assert_eq!(taken, [true, true, false, false]);
    let file = Connection::open(pump.storage()).expect("its file");
    let done: String = file
        .query_row("SELECT group_concat(what) FROM commands", [], |row| row.get(0))
        .expect("rows");
    assert_eq!(done, "open,close");
    stop(nodes.into_iter().chain([pump])).await;
}

async fn reader_can_be_known(node: &Node, other: &Node) {
    peer_is(node, other.id().as_str(), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_led_and_why_stands_in_the_audit() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let mut audit = waypost::Audit::default();
    audit.states = true;
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        nodes.push(begin(voter(builder(&server, &dir, name)).audit(audit)).await);
    }
    let (master, term) = master_of(&nodes.iter().collect::<Vec<_>>()).await;
    nodes.sort_by_key(|node| *node.id() != master);
    nodes[0].set_state(&json!("x")).await.expect("it is master");
    let next = nodes[0].hand_over(None).await.expect("handed over");
    let rows = |node: &Node| {
        let rows = Inspector::open(node.storage()).and_then(|file| file.audit(100));
        let rows = rows.expect("its file").into_iter().filter(|row| row.action == "election");
        rows.map(|row| (row.subject, row.term, row.detail)).collect::<Vec<_>>()
    };
    let of =
        |subject: &NodeId, term: u64, detail: String| (subject.to_string(), Some(term), detail);
    let was = term.get();
    let expected = [
        of(&master, was, "became master, elected".to_owned()),
        of(&master, was, format!("state {was}.1, 3 bytes")),
        of(&master, was, format!("is master no longer: handed over to {next}")),
        of(&next, was + 1, "is master".to_owned()),
    ];
    for row in expected {
        eventually_async(SOON, &format!("{row:?}"), async || rows(&nodes[0]).contains(&row)).await;
    }
    let follower = nodes.iter().find(|node| *node.id() == next).expect("one of them");
    let became = of(&next, was + 1, "became master, handed over".to_owned());
    eventually_async(SOON, "the next one's", async || rows(follower).contains(&became)).await;
    stop(nodes).await;
}
