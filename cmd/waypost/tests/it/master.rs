//! Who leads, from a terminal: `master`, `state`, and what `topology` and `audit` say of it.

use crate::program::{PATIENCE, Program, Running};
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use serde_json::json;

fn voter(here: &Program, name: &str) -> Running {
    let mut node = here.spawn(&format!("send chat --lines --id {name} --to nobody --wait 60s"));
    node.write(b"one\n");
    node.line();
    node
}

#[test]
fn the_master_and_its_state_can_be_seen() {
    let server = NatsServer::start();
    let here = Program::new(server.url()).with("WAYPOST_ELECTION", "a,b,c");
    let _nodes = ["a", "b", "watcher"].map(|name| voter(&here, name));
    eventually(PATIENCE, "there is a master", || here.run("master").code == Some(0));
    let whole = here.run("master --json").expect_code(0).json();
    let name = whole["master"].as_str().expect("a name").to_owned();
    assert!(["a", "b"].contains(&name.as_str()), "{whole}");
    let rows = whole["nodes"].as_array().expect("a list");
    let role = |node: &str| {
        let row = rows.iter().find(|row| row["node"] == node);
        row.map(|row| row["role"].as_str().expect("a text").to_owned())
    };
    assert_eq!(role(&name).as_deref(), Some("master"));
    assert_eq!(role("watcher").as_deref(), Some("observer"));
    let text = here.run("master").expect_code(0);
    assert!(text.text().starts_with("node\trole\tterm\tmaster\t"), "{}", text.text());

    assert_eq!(here.run("state").expect_code(0).text(), "null\n");
    let state = here.run("state watcher --json").expect_code(0).json();
    assert_eq!((&state["node"], &state["state"]), (&json!("watcher"), &json!(null)));
    assert_eq!(here.run("topology --json").expect_code(0).json()["master"], name);
    let graph = here.run("topology --dot").expect_code(0);
    assert!(graph.text().contains(&format!("\"{name}\" [style=bold")), "{}", graph.text());
    let rows = here.run(&format!("audit --id {name} --json")).expect_code(0).json();
    let rows = rows.as_array().expect("a list");
    let became = |row: &&serde_json::Value| row["detail"] == "became master, elected";
    let row = rows.iter().find(became).unwrap_or_else(|| panic!("{rows:?}"));
    assert_eq!((&row["action"], &row["term"]), (&json!("election"), &whole["term"]));
}

#[test]
fn a_node_that_is_heard_and_does_not_answer_is_named() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let (alice, bob) = (voter(&here, "alice"), voter(&here, "bob"));
    eventually(PATIENCE, "they know each other", || {
        let peers = here.run("stats alice --json").expect_code(0).json();
        peers["peers"].as_array().is_some_and(|peers| peers.iter().any(|p| p["node"] == "bob"))
    });
    bob.signal(rustix::process::Signal::STOP);
    for question in ["topology", "stats", "stats --all --json", "topology --json", "master"] {
        here.run(question).says(4, "bob is online by others' word");
    }
    here.run("drain --yes bob").says(4, "bob");
    bob.signal(rustix::process::Signal::CONT);
    drop((alice, bob));
}

#[test]
fn where_nobody_leads_that_is_said() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    here.run("master").says(4, "no node answered");
    here.run("state").says(4, "no node");
    let _alice = voter(&here, "alice");
    here.run("master").says(1, "takes part in an election");
    here.run("state").says(1, "no node says that it is master");
    here.run("state alice").says(1, "takes part in no election");
    here.run("state zoe").says(4, "zoe");
    let two = Program::new(server.url()).with("WAYPOST_ELECTION", "a,b");
    let checks = two.run("doctor --json --id a").json();
    let check =
        checks.as_array().expect("a list").iter().find(|check| check["check"] == "election");
    let found = check.expect("it is checked")["found"].as_str().expect("a text").to_owned();
    assert!(found.contains("cannot fail over"), "{found}");
    let wrong = here.with("WAYPOST_ELECTION", "a,b,a");
    wrong.run("master").says(2, "election names a twice");
}
