//! Orders to running nodes: kick, kick-channel, purge, forget, drain, readmit; and the audit of them.

use crate::program::{NOWHERE, Program};
use crate::support::nats_server::NatsServer;

#[test]
fn a_running_node_obeys_and_its_audit_says_so() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let mut alice = here.spawn("send chat --lines --id alice --to bob --wait 40s");
    alice.write(b"one\n");
    alice.line();
    let stats = here.run("stats alice --json").expect_code(0).json();
    assert_eq!(stats["accounts"][0]["pending"], 1, "{stats}");
    let rows = here.run("purge queue alice --yes --json").expect_code(0).json();
    assert_eq!((&rows[0]["node"], &rows[0]["done"]["purged"]), (&"alice".into(), &1.into()));
    let text = here.run("purge all --all --yes").expect_code(0);
    assert!(text.text().starts_with("node\tleft\tpurged\t") && text.text().contains("\nalice\t"));
    here.run("forget bob --yes").expect_code(0);
    let rows = here.run("drain alice -y --json").expect_code(0).json();
    assert_eq!(rows[0]["done"]["waiting"], 0, "{rows}");
    here.run("readmit alice -y").expect_code(0);
    let rows = here.run("kick-channel chat --all --yes --json").expect_code(0).json();
    assert_eq!(rows[0]["done"]["left"], 1, "{rows}");
    here.run("kick alice --yes").expect_code(0);

    let rows = here.run("audit --id alice --json").expect_code(0).json();
    let orders: Vec<&str> = rows
        .as_array()
        .expect("a list")
        .iter()
        .filter(|row| row["action"] == "order")
        .map(|row| row["detail"].as_str().expect("a text").split(':').next().expect("a word"))
        .collect();
    let given = [
        "kick",
        "kick-channel \"chat\"",
        "readmit",
        "drain",
        "forget bob",
        "purge all",
        "purge queue",
    ];
    assert_eq!(orders, given);
    let text = here.run("audit --id alice --since 1h").expect_code(0);
    assert!(text.text().starts_with("time\taction\tabout\tterm\tdetail\n"), "{}", text.text());
    let none = here.run("audit --id alice --since 2999-01-01T00:00:00Z --json").expect_code(0);
    assert!(none.json().as_array().is_some_and(Vec::is_empty), "{}", none.text());
}

#[test]
fn an_order_without_yes_and_without_a_terminal_is_refused_before_anything_happens() {
    let here = Program::new(NOWHERE);
    for order in
        ["kick a", "kick-channel c a", "purge all --all", "forget a", "drain a", "readmit a"]
    {
        here.run(order).says(2, "--yes");
    }
    here.run("purge queue --yes").says(2, "required");
    here.run("purge some --all --yes").says(2, "queue");
    here.run("kick a --yes").says(1, "not connected to NATS");
    let help = here.run("kick --help").expect_code(0);
    assert!(help.text().contains("Exit codes"), "{}", help.text());
}

#[test]
fn a_node_that_is_not_there_or_refuses_is_named() {
    let server = NatsServer::start();
    let here = Program::new(server.url()).with("WAYPOST_MANAGEMENT", "hq,ops");
    let mut alice = here.spawn("send chat --lines --id alice --wait 40s");
    alice.write(b"one\n");
    alice.line();
    here.run("kick zoe --yes").says(4, "zoe is not online");
    here.run("kick alice --yes --id eve").says(1, "alice refused: this node's settings let eve");
    here.run("kick alice --yes --id hq").expect_code(0);
    here.run("purge queue alice zoe --yes --id hq").says(4, "zoe");
}

#[test]
fn a_reader_that_is_kicked_says_why_it_ends_and_by_whom() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    for (order, why) in [
        ("kick bob --yes --id hq", "hq kicked this node from all channels"),
        (
            "kick-channel chat bob --yes --id hq",
            "hq kicked this node from \"chat\": ask who did it",
        ),
    ] {
        let mut reader = here.spawn("recv chat --id bob --from all");
        here.run("send chat hello --id alice --to bob --wait 30s").expect_code(0);
        assert_eq!(reader.line(), "hello");
        here.run(order).expect_code(0);
        let ended = reader.ended().expect_code(1);
        assert!(ended.err.contains(why), "{}", ended.err);
    }
}

#[test]
fn a_drained_file_takes_nothing_in_any_run_until_it_is_readmitted() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let mut alice = here.spawn("send chat --lines --id alice --wait 40s");
    alice.write(b"one\n");
    alice.line();
    here.run("drain alice --yes --id hq").expect_code(0);
    alice.write(b"two\n");
    let ended = alice.ended().expect_code(1);
    assert!(ended.err.contains("drained by hq"), "{}", ended.err);
    for _ in 0..2 {
        here.run("send chat three --id alice --flush 0").says(1, "drained by hq");
    }
    here.run("readmit alice --yes --id hq").says(4, "alice is not online");
    let said = here.run("db readmit --id alice").expect_code(0);
    assert_eq!(said.text(), "no longer drained, as hq had ordered\n");
    here.run("send chat three --id alice --flush 0").expect_code(0);
    assert_eq!(here.run("db readmit --id alice").expect_code(0).text(), "it was not drained\n");
    here.run("db readmit --id zoe").says(1, "no file");
    assert!(!here.path("waypost-zoe.db").exists());
}
