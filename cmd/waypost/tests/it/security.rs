//! The command within the permissions of docs/security.md, what it keeps to itself, and whom its files are for.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::program::{NOWHERE, Program, field};
use crate::security_page::{Guarded, Way, block};
use crate::support::nats_server::NatsServer;
use serde_json::Value;

fn check<'a>(checks: &'a Value, name: &str) -> &'a Value {
    let mut rows = checks.as_array().expect("a list").iter();
    rows.find(|row| row["check"] == name).unwrap_or_else(|| panic!("no {name} in {checks}"))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .permissions()
        .mode()
        & 0o777
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
}

/// The page's settings for x, with the server and its authority where they are here.
fn settings_of_x(guarded: &Guarded, here: &Program) -> String {
    let ca = guarded.folder.path().join("ca.pem");
    let text = block("toml")
        .replace("nats.example.org:4222", &format!("localhost:{}", guarded.server.port()))
        .replace("/etc/waypost/ca.pem", ca.to_str().expect("text"))
        .replace("/var/lib/waypost", here.folder.path().to_str().expect("text"));
    fs::write(here.path("x.toml"), &text).expect("a file");
    text
}

#[test]
fn nodes_and_operators_work_with_the_settings_of_the_page() {
    let guarded = Guarded::start(Way::Passwords);
    // All settings stand in files.
    let here = Program::new("");
    let x = settings_of_x(&guarded, &here);
    set(&here.path("x.toml"), 0o600);
    for user in ["y", "operator"] {
        let password = guarded.auth(user).password.expect("a password");
        let text = x
            .replace("id = \"x\"", &format!("id = \"{user}\""))
            .replace("user = \"x\"", &format!("user = \"{user}\""))
            .replace("the-password-of-x", &password);
        fs::write(here.path(&format!("{user}.toml")), text).expect("a file");
        set(&here.path(&format!("{user}.toml")), 0o600);
    }
    let mut y = here.spawn("recv work --json --config y.toml");
    let mut x = here.spawn("send work --lines --wait 40s --config x.toml");
    x.write(b"one\n");
    x.line();
    assert_eq!(field(&y.line(), "text"), "one");

    let run = |arguments: &str| here.run(&format!("{arguments} --config operator.toml --json"));
    let peers = run("peers").expect_code(0).json();
    let names: Vec<_> = peers.as_array().expect("rows").iter().map(|row| &row["node"]).collect();
    assert_eq!(names, ["x", "y"]);
    let topology = run("topology").expect_code(0).json();
    assert_eq!(topology["channels"][0]["channel"], "work", "{topology}");
    let stats = run("stats --all").expect_code(0).json();
    assert_eq!(stats.as_array().map(Vec::len), Some(2), "{stats}");
    assert_eq!(run("stats --node y").expect_code(0).json()["node"], "y");
    for user in ["x", "y"] {
        let checks = here.run(&format!("doctor --json --config {user}.toml")).expect_code(0).json();
        for name in ["nats", "login", "permissions", "private"] {
            assert_eq!(check(&checks, name)["verdict"], "ok", "{checks}");
        }
    }
    // With the user of a node, or under no name that permissions could bind.
    here.run("peers --config x.toml").says(1, "permissions are too narrow");
    here.run("peers --config operator.toml --id other").says(1, "docs/security.md");
    let checks = here.run("doctor --json --config x.toml --id z").expect_code(1).json();
    let refused = check(&checks, "permissions");
    assert!(refused["remedy"].as_str().expect("a text").contains("docs/security.md"), "{refused}");
}

#[test]
fn files_are_for_their_owner_alone() {
    let here = Program::new(NOWHERE);
    let mut sender = here.spawn("send work --lines --wait 40s --db a.db");
    sender.write(b"one\n");
    sender.line();
    here.run("db backup copy.db --db a.db").expect_code(0);
    for name in ["a.db", "a.db-wal", "a.db-shm", "a.db-lock", "copy.db"] {
        assert_eq!(mode(&here.path(name)), 0o600, "{name}");
    }
    drop(sender);
    // A copy of a file that others can read is private all the same.
    set(&here.path("a.db"), 0o644);
    here.run("db vacuum --db a.db").expect_code(0);
    here.run("db backup copy-2.db --db a.db").expect_code(0);
    assert_eq!((mode(&here.path("a.db")), mode(&here.path("copy-2.db"))), (0o644, 0o600));
}

/// A server that lets everybody in, and files as careless users leave them.
#[test]
fn files_that_others_can_read_are_warned_of() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    set(here.folder.path(), 0o755);
    let seed = nkeys::KeyPair::new_user().seed().expect("a new pair has its seed");
    fs::write(here.path("x.creds"), creds(&seed)).expect("a file");
    fs::write(here.path("x.toml"), "[auth]\ncreds_file = \"x.creds\"\n").expect("a file");
    fs::write(here.path("secret.toml"), format!("[auth]\nnkey = \"{seed}\"\n")).expect("a file");
    let files = ["waypost.db", "x.creds", "x.toml", "secret.toml"].map(|name| here.path(name));
    let send = |config: &str| {
        here.run(&format!("send work hi --flush 0 --config {config}")).expect_code(0).err
    };
    let look = |config: &str| {
        let checks = here.run(&format!("doctor --json --config {config}")).expect_code(0).json();
        check(&checks, "private").clone()
    };
    send("x.toml");
    for file in &files {
        set(file, 0o640);
    }
    for config in ["x.toml", "secret.toml"] {
        let said = send(config);
        assert!(!said.contains("every user"), "{said}");
        assert_eq!(look(config)["verdict"], "ok");
    }
    for file in &files {
        set(file, 0o644);
    }
    // Settings without a secret are everybody's.
    for (config, exposed) in
        [("x.toml", ["waypost.db", "x.creds"]), ("secret.toml", ["waypost.db", "secret.toml"])]
    {
        let (said, found) = (send(config), look(config));
        assert_eq!(found["verdict"], "warn", "{found}");
        for name in ["waypost.db", "x.creds", "x.toml", "secret.toml"] {
            let is_named = |text: &str| {
                text.contains(&format!("{name}: ")) || text.contains(&format!("{name}\n"))
            };
            let wanted = exposed.contains(&name);
            assert_eq!(said.contains(name), wanted, "{name} in {said}");
            assert_eq!(
                is_named(found["found"].as_str().expect("a text")),
                wanted,
                "{name} in {found}"
            );
        }
        assert!(said.contains("every user of this machine can read it"), "{said}");
        assert!(found["remedy"].as_str().expect("a text").starts_with("chmod o-rwx "), "{found}");
    }
    set(&files[2], 0o646);
    assert!(send("x.toml").contains("can change it"));
    set(here.folder.path(), 0o777);
    assert!(look("x.toml")["found"].as_str().expect("a text").contains(".: every user"));
}

/// A credentials file, as `nsc` makes them, with a JWT that nobody has signed.
fn creds(seed: &str) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\neyJhbGciOiJlZDI1NTE5In0.e30.c2lnbmF0dXJl\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}
