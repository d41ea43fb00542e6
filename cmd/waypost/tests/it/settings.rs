//! Options, settings, and what is refused.

use std::fs;

use crate::program::{NOWHERE, Program, has_content};
use crate::support::nats_server::NatsServer;
use waypost::rusqlite::Connection;

#[test]
fn options_stand_before_or_after_the_subcommand() {
    let here = Program::new(NOWHERE);
    for arguments in [
        "send chat hi --db a.db --id alice --json --flush 0",
        "--db a.db --id alice --json send chat hi --flush 0",
        "--flush 0 --json --db a.db send --id alice chat hi",
        "--id=alice -q --flush=0 send --db=a.db chat --json hi",
    ] {
        let ended = here.run(arguments).expect_code(0);
        assert!(ended.json()["id"].is_string(), "{ended:?}");
    }
    let rows = here.run("queue --json --db a.db").expect_code(0).json();
    assert_eq!(rows[0]["pending"], 4, "{rows}");
    here.run("--json db check --db a.db").expect_code(0);
    here.run("db --db a.db check").expect_code(0);
    let help = here.run("send --help").expect_code(0);
    assert!(help.text().contains("Examples:") && help.text().contains("--lines"));
    let help = here.run("--help").expect_code(0);
    assert!(help.text().contains("Exit codes:"), "{}", help.text());
}

#[test]
fn the_file_is_named_after_the_node() {
    let here = Program::new(NOWHERE);
    here.run("send chat hi --flush 0").expect_code(0);
    here.run("send chat hi --id alice --flush 0").expect_code(0);
    here.run("send chat hi --id alice --db {id}-2.db --flush 0").expect_code(0);
    for name in ["waypost.db", "waypost-alice.db", "alice-2.db"] {
        assert!(has_content(&here.path(name)), "{name}");
    }
    here.run("send chat hi --db {id}.db").says(2, "give the node's name with --id");
    here.run("queue --id alice").expect_code(0);
}

#[test]
fn the_command_line_wins_over_the_environment_over_the_file_over_the_defaults() {
    let here = Program::new(NOWHERE).with("WAYPOST_CONFIG", "node.toml");
    let text = "storage = \"file.db\"\nmax_payload_bytes = 3\nnats = [\"nats://127.0.0.1:2\"]\n";
    fs::write(here.path("node.toml"), text).expect("a file");
    here.run("send chat four --flush 0").says(1, "4 bytes, limit 3");
    here.run("send chat two --flush 0").expect_code(0);
    assert!(has_content(&here.path("file.db")));

    let here = here.with("WAYPOST_MAX_PAYLOAD_BYTES", "4").with("WAYPOST_DB", "variable.db");
    here.run("send chat hello --flush 0").says(1, "5 bytes, limit 4");
    here.run("send chat four --flush 0").expect_code(0);
    assert!(has_content(&here.path("variable.db")));

    here.run("send chat four --flush 0 --db option.db").expect_code(0);
    assert!(has_content(&here.path("option.db")));
    fs::write(here.path("other.toml"), "max_payload_bytes = 1\n").expect("a file");
    here.run("send chat hello --flush 0 --config other.toml").says(1, "limit 4");
}

#[test]
fn wrong_settings_are_refused_with_their_place() {
    let here = Program::new(NOWHERE);
    let refused = |text: &str| {
        fs::write(here.path("node.toml"), text).expect("a file");
        here.run("send chat hi --config node.toml").expect_code(2).err
    };
    let error = refused("id = \"a\"\nack_timeuot = \"1s\"\n");
    assert!(error.contains("node.toml, line 2, ack_timeuot"), "{error}");
    let error = refused("ack_timeout = \"soon\"\n");
    assert!(error.contains("line 1, ack_timeout") && error.contains("\"soon\""), "{error}");
    let error = refused("keepalive_interval = \"5s\"\noffline_after = \"3s\"\n");
    assert!(
        error.contains("keepalive_interval (5s) must be shorter than offline_after (3s)"),
        "{error}"
    );
    let error = refused("[auth]\nuser = \"u\"\npassword = hunter2\n");
    assert!(error.contains("line 3") && !error.contains("hunter2"), "{error}");

    here.run("send chat hi --config missing.toml").says(2, "missing.toml can't be read");
    here.run("send chat hi --prefix a..b").says(2, "prefix \"a..b\" is not valid");
    let here = here.with("WAYPOST_ACK_TIMEOUT", "0s");
    here.run("send chat hi").says(2, "ack_timeout (0s) must be at least 1ms");
    assert_eq!(
        fs::read_dir(here.folder.path()).expect("a folder").count(),
        1,
        "nothing was created"
    );
}

#[test]
fn nonsense_about_the_clock_the_space_and_the_wait_for_the_file_is_refused_by_name() {
    let here = Program::new(NOWHERE);
    for (field, value) in [
        ("clock", "\"sometimes\""),
        ("clock", "3"),
        ("storage_limit", "\"lots\""),
        ("storage_limit", "0"),
        ("storage_limit", "-1"),
        ("storage_limit", "1.5"),
        ("lock_wait", "\"soon\""),
        ("lock_wait", "-1"),
    ] {
        fs::write(here.path("node.toml"), format!("{field} = {value}\n")).expect("a file");
        let place = format!("node.toml, line 1, {field}: ");
        here.run("send chat hi --config node.toml").says(2, &place);
    }
    fs::write(here.path("node.toml"), "storage_limit = 1\n").expect("a file");
    let least = "storage_limit (1) must be at least";
    here.run("send chat hi --config node.toml").says(2, least);
    fs::remove_file(here.path("node.toml")).expect("removed");
    for (variable, value) in [
        ("WAYPOST_CLOCK", "sometimes"),
        ("WAYPOST_CLOCK", "Auto"),
        ("WAYPOST_STORAGE_LIMIT", "lots"),
        ("WAYPOST_STORAGE_LIMIT", "0"),
        ("WAYPOST_STORAGE_LIMIT", "-5"),
        ("WAYPOST_LOCK_WAIT", "soon"),
    ] {
        let here = Program::new(NOWHERE).with(variable, value);
        let refused = here.run("send chat hi --flush 0").says(2, variable);
        assert!(refused.err.contains(value), "{variable}={value}: {}", refused.err);
        assert_eq!(fs::read_dir(here.folder.path()).expect("a folder").count(), 0, "{variable}");
    }
    Program::new(NOWHERE).with("WAYPOST_STORAGE_LIMIT", "1").run("send chat hi").says(2, least);
    for value in ["nonsense", "-1s", "5"] {
        here.run(&format!("send chat hi --lock-wait={value}")).says(2, "--lock-wait");
    }
    assert_eq!(fs::read_dir(here.folder.path()).expect("a folder").count(), 0);
}

#[test]
fn a_misspelt_variable_is_named_and_nothing_is_begun() {
    let here = Program::new(NOWHERE).with("WAYPOST_MESSAGE_TLL", "none");
    let ended = here.run("send chat hi --flush 0").says(2, "WAYPOST_MESSAGE_TLL is no setting");
    assert!(ended.err.contains("WAYPOST_MESSAGE_TTL is"), "{}", ended.err);
    assert_eq!(fs::read_dir(here.folder.path()).expect("a folder").count(), 0);
    let here = Program::new(NOWHERE)
        .with("WAYPOST_SERVICE_HOST", "10.0.0.1")
        .with("WAYPOST_PROGRAMS", "/opt");
    let ended = here.run("send chat hi --flush 0").expect_code(0);
    assert!(
        ended.err.contains("no setting has these environment variables: WAYPOST_SERVICE_HOST\n")
    );
    let ended = here.run("send chat hi --flush 0 --quiet").expect_code(0);
    assert!(!ended.err.contains("WAYPOST_"), "{}", ended.err);
}

#[test]
fn wrong_names_and_values_are_refused_before_anything_is_created() {
    let here = Program::new(NOWHERE);
    let long = "x".repeat(300);
    for (arguments, what) in [
        ("send chat hi --id a.b", "node id \"a.b\" is not valid"),
        ("send chat hi --id *", "is not valid"),
        (&format!("send chat hi --id {long}"), "is not valid"),
        (&format!("send {long} hi"), "channel"),
        ("send chat hi --to a.b", "node id \"a.b\" is not valid"),
        ("send chat hi --kind a*b", "kind \"a*b\" is not valid"),
        ("send chat hi --ttl 0s", "a time to live of zero"),
        ("send chat hi --ttl soon", "not a duration"),
        ("send chat hi --priority urgent", "not one of high, normal, low"),
        ("send chat hi --lines", "cannot be used with"),
        ("recv chat --count 0", "invalid value"),
        ("recv chat --from yesterday", "like 10m"),
        ("why 123", "is not a message id"),
        ("frobnicate", "unrecognized subcommand"),
    ] {
        here.run(arguments).says(2, what);
    }
    let mut command = here.command("send");
    command.args(["a\nb", "hi"]);
    crate::program::finish(command, b"").says(2, "without control characters");
    assert_eq!(fs::read_dir(here.folder.path()).expect("a folder").count(), 0);
}

#[test]
fn a_payload_over_the_limit_is_refused_with_both_sizes() {
    let here = Program::new(NOWHERE).with("WAYPOST_MAX_PAYLOAD_BYTES", "4");
    here.feed("send chat", b"12345").says(1, "payload is 5 bytes, limit 4");
    let ended = here.feed("send chat --lines", b"one\n12345\nnever\n");
    let ended = ended.says(1, "line 2 has 5 bytes");
    assert!(ended.err.contains("1 message committed"), "{}", ended.err);
    assert_eq!(ended.lines().len(), 1, "the first line is sent");
}

#[test]
fn files_that_are_not_a_nodes_own_are_refused_and_left_as_they_are() {
    let here = Program::new(NOWHERE);
    fs::write(
        here.path("text.db"),
        "this is no database, only some text that is long enough\n".repeat(9),
    )
    .expect("a file");
    let other = Connection::open(here.path("other.db")).expect("a database");
    other.execute_batch("CREATE TABLE birds (name TEXT)").expect("a table");
    drop(other);
    here.run("send chat hi --db newer.db --flush 0").expect_code(0);
    let newer = Connection::open(here.path("newer.db")).expect("a database");
    newer.pragma_update(None, "user_version", 999).expect("a newer schema");
    drop(newer);
    for (db, what) in [
        ("text.db", "is not an SQLite database"),
        ("other.db", "is another program's database"),
        ("newer.db", "has schema 999"),
    ] {
        let before = fs::read(here.path(db)).expect("the file");
        here.run(&format!("send chat hi --db {db}")).says(1, what);
        here.run(&format!("queue --db {db}")).says(1, what);
        assert!(fs::read(here.path(db)).expect("the file") == before, "{db} was changed");
    }
    here.run("send chat hi --db missing/a.db").says(1, "does not exist");
    here.run("send chat hi --db .").says(1, "is not a regular file");
    here.run("queue --db missing.db").says(1, "does not exist");
    assert!(!here.path("missing.db").exists());
}

#[test]
fn a_file_serves_one_node_at_a_time_and_always_the_same() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let mut first = here.spawn("send chat --lines --id alice --db a.db");
    first.write(b"one\n");
    first.line();
    here.run("recv chat --id alice --db a.db --lock-wait 100ms").says(1, "is in use by");
    here.run("db vacuum --db a.db").says(1, "is in use by");
    here.run("recv chat --id alice --db b.db").says(1, "alice");
    drop(first);
    here.run("recv chat --id bob --db a.db").says(1, "belongs to node");
}
