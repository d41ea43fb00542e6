//! Looking at running nodes and at files: peers, topology, stats, queue, why, db, doctor.

use std::time::{Duration, Instant};

use crate::program::{NOWHERE, Program, field, texts};
use crate::support::nats_server::NatsServer;
use rustix::process::Signal;
use serde_json::Value;

/// Alice has sent two messages, of which bob has taken one and gone; alice is still there.
fn alice_and_bob(here: &Program) -> (crate::program::Running, [String; 2]) {
    let mut alice = here.spawn("send chat --lines --id alice --wait 40s");
    let reader = here.spawn("recv chat --id bob --from all --json --count 1");
    alice.write(b"one\n");
    let first = alice.line();
    assert_eq!(field(reader.ended().expect_code(0).lines()[0], "id"), first);
    alice.write(b"two\n");
    let second = alice.line();
    (alice, [first, second])
}

fn row<'a>(rows: &'a Value, name: &str, value: &str) -> &'a Value {
    let rows_are = || format!("no {name} {value} in {rows}");
    let rows = rows.as_array().expect("a list");
    rows.iter().find(|row| row[name] == value).unwrap_or_else(|| panic!("{}", rows_are()))
}

#[test]
fn running_nodes_tell_who_is_there_and_what_they_did() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let (_alice, _) = alice_and_bob(&here);

    let peers = here.run("peers --json").expect_code(0).json();
    assert_eq!(row(&peers, "node", "alice")["state"], "running");
    assert_eq!(row(&peers, "node", "bob")["state"], "offline");
    let text = here.run("peers").expect_code(0);
    assert!(text.text().starts_with("node\tstate\tuptime\t"), "{}", text.text());

    let topology = here.run("topology --json").expect_code(0).json();
    let members = &row(&topology["channels"], "channel", "chat")["members"];
    assert_eq!(row(members, "node", "alice")["mode"], "writer");
    assert_eq!(row(members, "node", "bob")["mode"], "reader");
    assert_eq!(row(members, "node", "bob")["online"], false);
    let text = here.run("topology").expect_code(0);
    assert!(text.text().contains("chat\tbob (offline)\talice"), "{}", text.text());

    let graph = here.run("topology --dot").expect_code(0);
    assert!(graph.text().starts_with("digraph waypost {\n"), "{}", graph.text());
    for line in [
        "\"bob\" [style=dashed];",
        "\"alice\" -> \"#chat\";",
        "\"alice\" -> \"bob\" [color=red, label=\"1\"];",
    ] {
        assert!(graph.text().contains(line), "{line} in {}", graph.text());
    }
    let stats = here.run("stats --json").expect_code(0).json();
    let counters = &row(&stats, "node", "alice")["counters"];
    assert_eq!((&counters["accepted"], &counters["delivered"]), (&2.into(), &1.into()));
    let one = here.run("stats --node alice --json").expect_code(0).json();
    let account = row(&one["accounts"], "receiver", "bob");
    assert_eq!((&account["pending"], &account["acknowledged"]), (&1.into(), &1.into()));
    let all = here.run("stats --all").expect_code(0);
    assert!(all.text().contains("node alice on ") && all.text().contains("bob\t2\t1"));
    let short = here.run("stats").expect_code(0);
    assert!(short.text().lines().nth(1).is_some_and(|line| line.starts_with("alice\t")));
}

#[test]
fn nodes_that_do_not_answer_are_an_exit_code_of_their_own() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    for question in ["peers", "topology", "stats", "stats --all", "--json peers"] {
        here.run(question).says(4, "no node answered");
    }
    here.run("stats --node zoe").says(4, "node zoe has not answered");
    let nowhere = Program::new(NOWHERE);
    let ended = nowhere.run("peers").says(1, "not connected to NATS (nats://127.0.0.1:1: ");
    assert!(ended.err.contains("start a server there"), "{}", ended.err);
    assert_eq!(ended.err.matches("127.0.0.1").count(), 1, "{}", ended.err);
}

#[test]
fn queue_and_why_tell_the_same_of_a_running_node_and_of_one_that_stopped() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let (alice, [first, second]) = alice_and_bob(&here);
    let look = || {
        let rows = here.run("queue --id alice --json").expect_code(0).json();
        let bob = row(&rows, "receiver", "bob");
        assert_eq!((&bob["pending"], &bob["acknowledged"]), (&1.into(), &1.into()), "{bob}");
        assert_eq!(bob["oldest"]["id"], second.as_str());
        let text = here.run("queue --id alice").expect_code(0);
        assert!(text.text().starts_with("receiver\tpending\toldest\t"), "{}", text.text());
        assert!(text.text().contains("bob\t1\t"), "{}", text.text());

        let text = here.run(&format!("why {first} --id alice")).expect_code(0);
        assert!(text.text().contains("bob: acknowledged 20"), "{}", text.text());
        let text = here.run(&format!("why {second} --id alice")).expect_code(0);
        assert!(text.text().contains("on \"chat\""), "{}", text.text());
        assert!(text.text().contains("bob: is next"), "{}", text.text());
        let story = here.run(&format!("why {second} --id alice --json")).expect_code(0).json();
        assert_eq!(story["accepted"]["channel"], "chat");
        assert_eq!(story["receivers"][0]["state"], "next");
    };
    // A cursor is committed lazily, within a fraction of a second.
    crate::support::eventually(
        crate::program::PATIENCE,
        "the acknowledgement is in the file",
        || here.run("queue --id alice --json").json()[0]["acknowledged"] == 1,
    );
    look();
    alice.signal(Signal::TERM);
    alice.ended().expect_code(143);
    look();
    let text = here.run(&format!("why {first} --id bob")).expect_code(0);
    assert!(text.text().contains("received from alice on \"chat\""), "{}", text.text());
    here.run(&format!("why {first} --db missing.db")).says(1, "does not exist");
    here.run("why 01JD3Q5ZK8W7N2YV4R6T0X9ABC --id alice").says(1, "knows nothing of message");
}

/// This run's wall clock shows a time that is off by this much.
#[cfg(target_os = "linux")]
fn at(here: &Program, off: &str, arguments: &str) -> crate::program::Ended {
    let mut faketime = std::process::Command::new("faketime");
    faketime.args(["-f", off, env!("CARGO_BIN_EXE_waypost")]);
    let mut command = here.wrap(faketime, arguments);
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    crate::program::finish(command, b"")
}

/// A message of before the clock was set, and one of after, whichever way: both wait, both are as old as they are, and both arrive.
#[cfg(target_os = "linux")]
#[test]
fn a_clock_that_is_set_takes_no_life_from_what_waits() {
    let server = NatsServer::start();
    for (first, second) in [("-3d", "+0"), ("-20000d", "+0"), ("+0", "-21d"), ("+3650d", "+0")] {
        let here = Program::new(server.url()).with("WAYPOST_MESSAGE_TTL", "1h");
        let send = |off, text: &str| {
            let arguments = format!("send chat {text} --to bob --id alice --flush 0");
            let sent = at(&here, off, &arguments).expect_code(0);
            sent.text().trim().to_owned()
        };
        let ids = [send(first, "one"), send(second, "two")];
        assert!(ids[0] < ids[1], "{ids:?}");
        let row = here.run("queue --id alice --json").expect_code(0).json()[0].clone();
        assert_eq!((&row["pending"], &row["expired"]), (&2.into(), &0.into()), "{row}");
        for id in &ids {
            let story = here.run(&format!("why {id} --id alice")).expect_code(0);
            let shown = story.text();
            assert!(shown.contains("bob: is next") || shown.contains("behind 1"), "{shown}");
            assert!(!shown.contains("day"), "it is some seconds old: {shown}");
        }
        let reader = here.spawn("recv chat --id bob --json --count 3");
        here.run("send chat three --to bob --id alice --wait 30s").expect_code(0);
        let got = reader.ended().expect_code(0);
        assert_eq!(texts(&got.lines()), ["one", "two", "three"], "{first} {second}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn time_goes_on_between_runs_whatever_their_clocks_show() {
    let here = Program::new(NOWHERE).with("WAYPOST_MESSAGE_TTL", "1s");
    at(&here, "-10d", "send chat one --to bob --id alice --flush 0").expect_code(0);
    crate::support::eventually(crate::program::PATIENCE, "it has expired", || {
        at(&here, "-20d", "send chat two --to zoe --id alice --flush 1ms");
        let rows = here.run("queue --id alice --json").expect_code(0).json();
        row(&rows, "receiver", "bob")["expired"] == 1
    });
}

/// A machine that comes back after years, as far as its clock says: nobody believes it until somebody says so.
#[cfg(target_os = "linux")]
#[test]
fn a_clock_is_believed_where_an_operator_says_so() {
    let here = Program::new(NOWHERE);
    let believe = |off| at(&here, off, "db believe-clock --id alice");
    believe("+0").says(1, "does not exist");
    here.run("send chat one --to bob --id alice --flush 0").expect_code(0);
    let right = here.run("db believe-clock --id alice --json").expect_code(0).json();
    // Two clocks, each cut down to milliseconds.
    assert!(right["ahead_ms"].as_u64().is_some_and(|ahead_ms| ahead_ms <= 10), "{right}");
    believe("-20000d").says(1, "which can't be right");
    believe("-2d").says(1, "2days behind the time of");
    let mut alice = here.spawn("send chat --lines --to bob --id alice --wait 40s");
    alice.write(b"two\n");
    alice.line();
    believe("+500d").says(1, "in use by");
    alice.signal(Signal::TERM);
    alice.ended();

    let pending = || here.run("queue --id alice --json").expect_code(0).json()[0].clone();
    assert_eq!((&pending()["pending"], &pending()["expired"]), (&2.into(), &0.into()));
    let believed = believe("+500d").expect_code(0);
    assert!(
        believed.text().starts_with("the clock is believed: 1year 4months"),
        "{}",
        believed.text()
    );
    let told = at(&here, "+500d", "audit --id alice").expect_code(0);
    assert!(told.text().contains("clock believed"), "{}", told.text());
    crate::support::eventually(crate::program::PATIENCE, "both are too old", || {
        at(&here, "+500d", "send chat three --to zoe --id alice --flush 1ms").expect_code(0);
        row(&here.run("queue --id alice --json").json(), "receiver", "bob")["expired"] == 2
    });
    // It never goes back.
    believe("+0").says(1, "behind the time of");
    assert!(here.run("db check --id alice").expect_code(0).text().starts_with("sound"));
}

#[test]
fn a_reader_that_is_gone_is_forgotten_by_runs_that_are_short() {
    let server = NatsServer::start();
    let here = Program::new(server.url())
        .with("WAYPOST_KEEPALIVE_INTERVAL", "200ms")
        .with("WAYPOST_OFFLINE_AFTER", "600ms")
        .with("WAYPOST_PEER_EXPIRY", "3s");
    let reader = here.spawn("recv chat --id bob");
    here.run("send chat hello --id alice --wait 30s --to bob").expect_code(0);
    here.run("send chat hello --id alice --wait 30s").expect_code(0);
    reader.signal(Signal::KILL);
    reader.ended();
    // While it is away, what is known of it stays, and how long ago it was heard.
    let mut alice = here.spawn("send chat --lines --id alice");
    alice.write(b"away\n");
    alice.line();
    let peers = here.run("peers --json").expect_code(0).json();
    let bob = row(&peers, "node", "bob");
    assert_eq!(bob["version"], env!("CARGO_PKG_VERSION"), "{peers}");
    assert_eq!(row(&bob["channels"], "name", "chat")["mode"], "reader", "{peers}");
    let first = bob["heard_ms_ago"].as_u64().expect("a number");
    alice.signal(Signal::TERM);
    alice.ended();
    let mut alice = here.spawn("send chat --lines --id alice");
    alice.write(b"still\n");
    alice.line();
    let peers = here.run("peers --json").expect_code(0).json();
    if let Some(bob) = peers.as_array().and_then(|all| all.iter().find(|it| it["node"] == "bob")) {
        assert!(bob["heard_ms_ago"].as_u64() > Some(first), "it does not begin anew: {peers}");
    }
    alice.signal(Signal::TERM);
    alice.ended();
    crate::support::eventually(crate::program::PATIENCE, "it is forgotten", || {
        here.run("send chat x --id alice --flush 500ms");
        let rows = here.run("queue --id alice --json").expect_code(0).json();
        rows.as_array().is_some_and(|rows| rows.iter().all(|row| row["receiver"] != "bob"))
    });
    let told = here.run("audit --id alice --json").expect_code(0).json();
    assert_eq!(row(&told, "action", "forget")["subject"], "bob");
}

/// A program that cron starts and its machine cuts off: no run ends in good order, and what each found out is kept all the same.
#[test]
fn a_reader_that_is_gone_is_forgotten_by_runs_that_are_short_and_killed() {
    let server = NatsServer::start();
    let here = Program::new(server.url())
        .with("WAYPOST_KEEPALIVE_INTERVAL", "200ms")
        .with("WAYPOST_OFFLINE_AFTER", "600ms")
        .with("WAYPOST_PEER_EXPIRY", "3s");
    let reader = here.spawn("recv chat --id bob");
    here.run("send chat hello --id alice --wait 30s --to bob").expect_code(0);
    here.run("send chat hello --id alice --wait 30s").expect_code(0);
    reader.signal(Signal::KILL);
    reader.ended();
    let end = Instant::now() + crate::program::PATIENCE;
    let forgotten = || {
        let rows = here.run("queue --id alice --json").expect_code(0).json();
        rows.as_array().is_some_and(|rows| rows.iter().all(|row| row["receiver"] != "bob"))
    };
    while !forgotten() {
        assert!(Instant::now() < end, "it is never forgotten");
        let mut alice = here.spawn("send chat --lines --id alice");
        let lives = Instant::now();
        while lives.elapsed() < Duration::from_secs(2) {
            alice.write(b"x\n");
            alice.line();
        }
        alice.signal(Signal::KILL);
        alice.ended();
    }
}

#[test]
fn a_file_is_checked_copied_and_shrunk() {
    let here = Program::new(NOWHERE);
    here.run("send chat one --flush 0").expect_code(0);
    assert_eq!(here.run("db check").expect_code(0).text(), "sound: 1 message checked\n");
    assert_eq!(here.run("db check --json").expect_code(0).json()["sound"], true);
    let copied = here.run("db backup copy.db --json").expect_code(0).json();
    assert!(copied["bytes"].as_u64() > Some(0), "{copied}");
    here.run("db backup copy.db").says(1, "exists already");
    assert_eq!(here.run("queue --db copy.db --json").expect_code(0).json()[0]["pending"], 1);
    let shrunk = here.run("db vacuum --json").expect_code(0).json();
    assert!(shrunk["after_bytes"].as_u64() > Some(0), "{shrunk}");

    let file = waypost::rusqlite::Connection::open(here.path("waypost.db")).expect("a database");
    file.execute("UPDATE waypost_outbox SET kind = 'other'", []).expect("a changed row");
    drop(file);
    let findings = here.run("db check").expect_code(1);
    assert!(findings.text().contains("not sound"), "{}", findings.text());
    assert_eq!(here.run("db check --json").expect_code(1).json()["sound"], false);
}

#[test]
fn the_doctor_finds_all_well_or_tells_what_to_do() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let checks = here.run("doctor --json").expect_code(0).json();
    for check in [
        "nats",
        "login",
        "permissions",
        "version",
        "max payload",
        "clock",
        "sqlite",
        "folder",
        "file",
    ] {
        assert_eq!(row(&checks, "check", check)["verdict"], "ok", "{checks}");
    }
    assert!(!here.path("waypost.db").exists(), "it only looks");

    let nowhere = Program::new(NOWHERE).with("WAYPOST_DB", "missing/a.db");
    let checks = nowhere.run("doctor --json").expect_code(1).json();
    for check in ["nats", "folder"] {
        let row = row(&checks, "check", check);
        assert_eq!(row["verdict"], "fail");
        assert!(row["remedy"].is_string(), "{row}");
    }
    assert!(nowhere.run("doctor").expect_code(1).text().contains("FAIL  nats"));
}

#[test]
fn the_doctor_tells_a_wrong_password_from_permissions_that_are_too_narrow() {
    let server = NatsServer::with_config(
        r#"authorization { users: [
            { user: narrow, password: right, permissions: { publish: "other.>", subscribe: "other.>" } }
        ] }"#,
    );
    let address = server.url().replace("nats://", "");
    let check = |login: &str, name: &str| {
        let here = Program::new(format!("nats://{login}@{address}"));
        let ended = here.run("doctor --json").expect_code(1);
        assert!(!ended.text().contains("hunter2"), "{}", ended.text());
        assert_eq!(row(&ended.json(), "check", name)["verdict"], "fail", "{}", ended.text());
    };
    check("narrow:hunter2", "login");
    check("narrow:right", "permissions");
}

#[test]
fn the_doctor_finds_a_limit_of_subscriptions() {
    let server = NatsServer::with_config("max_subscriptions: 5");
    let here = Program::new(server.url());
    for _ in 0..2 {
        let checks = here.run("doctor --json").expect_code(1).json();
        let row = row(&checks, "check", "permissions");
        assert_eq!(row["verdict"], "fail", "{checks}");
        let found = row["found"].as_str().expect("a text");
        assert!(found.contains("maximum subscriptions exceeded: a node needs 6"), "{found}");
        assert!(row["remedy"].as_str().expect("a text").contains("configuration"), "{row}");
    }
}

/// An election takes one more than a node without.
#[test]
fn the_doctor_counts_the_subscription_of_an_election() {
    for (most, election, verdict) in [
        (6, "off", "ok"),
        (6, "visible", "fail"),
        (6, "a,b,c", "fail"),
        (7, "visible", "ok"),
        (7, "a,b,c", "ok"),
    ] {
        let server = NatsServer::with_config(format!("max_subscriptions: {most}"));
        let here = Program::new(server.url()).with("WAYPOST_ELECTION", election);
        let ended = here.run("doctor --json --id a");
        let checks = ended.json();
        let row = row(&checks, "check", "permissions");
        assert_eq!(row["verdict"], verdict, "{most} {election}: {checks}");
        if verdict == "fail" {
            ended.expect_code(1);
            let found = row["found"].as_str().expect("a text");
            assert!(found.contains("maximum subscriptions exceeded: a node needs 7"), "{found}");
            assert!(row["remedy"].as_str().expect("a text").contains("configuration"), "{row}");
        }
    }
}

/// Free ports, for servers that have to know of each other before they start.
fn free_ports<const N: usize>() -> [u16; N] {
    let sockets = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
    sockets.map(|socket| socket.local_addr().expect("bound").port())
}

#[test]
fn the_doctor_tells_servers_that_are_no_cluster_from_a_cluster() {
    let (one, other) = (NatsServer::start(), NatsServer::start());
    let urls = [one.url(), other.url()];
    let here = Program::new(urls.join(","));
    let apart = Program::new(other.url());
    let _reader = apart.spawn("recv work --id far");
    let row_of = |checks: &Value| row(checks, "check", "servers").clone();
    let told = || {
        let checks = here.run("doctor --json").expect_code(1).json();
        let servers = row_of(&checks);
        assert_eq!(servers["verdict"], "fail", "{checks}");
        let found = servers["found"].as_str().expect("a text");
        assert!(urls.iter().all(|url| found.contains(url)), "{found}");
        found.contains(&format!("{} (nodes: far)", urls[1]))
    };
    crate::support::eventually(
        crate::program::PATIENCE,
        "the node at the other server is named",
        told,
    );

    // Twice the same one.
    let here = Program::new(format!("{},nats://localhost:{}", urls[0], one.port()));
    let checks = here.run("doctor --json").expect_code(0).json();
    assert_eq!(row_of(&checks)["verdict"], "ok", "{checks}");

    // One that is not there.
    let here = Program::new(format!("{},{NOWHERE}", urls[0]));
    let checks = here.run("doctor --json").expect_code(0).json();
    assert_eq!(row_of(&checks)["verdict"], "warn", "{checks}");

    let ports = free_ports::<2>();
    let member = |own: u16, route: u16| {
        NatsServer::with_config(format!(
            "cluster {{ name: field, listen: \"127.0.0.1:{own}\", routes: [\"nats://127.0.0.1:{route}\"] }}"
        ))
    };
    let cluster = [member(ports[0], ports[1]), member(ports[1], ports[0])];
    let here = Program::new(cluster.each_ref().map(NatsServer::url).join(","));
    let settled = || {
        let checks = here.run("doctor --json").json();
        let servers = row_of(&checks);
        servers["verdict"] == "ok" && servers["found"].as_str().expect("a text").contains("field")
    };
    crate::support::eventually(
        crate::program::PATIENCE,
        "the two have met, and are one cluster",
        settled,
    );
}

#[test]
fn a_server_that_takes_less_than_our_largest_payload_is_found() {
    let server = NatsServer::with_config("max_payload: 4096");
    let here = Program::new(server.url());
    let checks = here.run("doctor --json").expect_code(1).json();
    assert_eq!(row(&checks, "check", "max payload")["verdict"], "fail");
    let here = here.with("WAYPOST_MAX_PAYLOAD_BYTES", "1000");
    let checks = here.run("doctor --json").expect_code(0).json();
    assert_eq!(row(&checks, "check", "max payload")["verdict"], "warn");
}
