//! The command shows no credentials: not in its results, as text or JSON, nor on standard error however much it says, nor in files.

use crate::logins::{Login, NOBODY, assert_silent};
use crate::program::{Ended, NOWHERE, Program};
use crate::support::nats_server::NatsServer;

/// What is run, beside a node that answers.
const COMMANDS: [&str; 11] = [
    "send work hello --flush 300ms",
    "recv work --from all --idle 300ms --id reader",
    "peers",
    "topology",
    "stats --all",
    "queue",
    "doctor",
    "db check",
    "db vacuum",
    "why 01JD3Q5ZK8W7N2YV4R6T0X9ABC",
    "send work hello --kind a*b",
];

/// With these settings in a file, or in the environment.
fn program(login: &Login, port: u16, in_file: bool) -> Program {
    let address = format!("nats://{}127.0.0.1:{port}", login.in_address);
    let auth = [
        ("token", login.auth.token.clone()),
        ("user", login.auth.user.clone()),
        ("password", login.auth.password.clone()),
        ("nkey", login.auth.nkey.clone()),
        ("creds_file", login.auth.creds_file.as_ref().map(|path| path.display().to_string())),
    ];
    let auth = auth.into_iter().filter_map(|(name, value)| Some((name, value?)));
    if !in_file {
        let here = Program::new(address);
        return auth.fold(here, |here, (name, value)| {
            here.with(&format!("WAYPOST_AUTH_{}", name.to_uppercase()), &value)
        });
    }
    let lines: String = auth.map(|(name, value)| format!("{name} = \"{value}\"\n")).collect();
    let text = format!("nats = [\"{address}\"]\n[auth]\n{lines}");
    let here = Program::new("").with("WAYPOST_CONFIG", "bob.toml");
    std::fs::write(here.path("bob.toml"), text).expect("a file");
    here
}

fn is_silent(login: &Login, what: &str, ended: &Ended) {
    let (out, err) = (format!("results of {what}"), format!("standard error of {what}"));
    assert_silent(&login.secrets, [(&out[..], &ended.out[..]), (&err, ended.err.as_bytes())]);
}

fn run_all(login: &Login, here: &Program) {
    for command in COMMANDS {
        for more in ["-vvv", "--json"] {
            let ended = here.run(&format!("{command} {more}"));
            assert_ne!(ended.code, None, "{command}");
            is_silent(login, command, &ended);
        }
    }
}

#[test]
fn no_command_shows_credentials() {
    let keys = tempfile::tempdir().expect("a folder");
    for (n, login) in crate::logins::all(keys.path()).into_iter().enumerate() {
        let mut server = NatsServer::with_config(&login.server);
        let here = program(&login, server.port(), n % 2 == 0);
        let mut node = here.spawn("send work --lines --json --wait 40s --id other -vvv");
        node.write(b"one\n");
        node.line();
        let peers = here.run("peers --json").expect_code(0).json();
        assert_eq!(peers[0]["node"], "other", "{}: {peers}", login.name);
        run_all(&login, &here);
        server.restart_with(NOBODY);
        for command in ["doctor", "peers", "send work hello --flush 300ms"] {
            is_silent(&login, command, &here.run(&format!("{command} -vvv")));
        }
        drop(server);
        is_silent(&login, "send", &here.run("send work hello --flush 300ms -vvv"));
        // Ended by its wait or by the loss of its server, whichever.
        node.signal(rustix::process::Signal::TERM);
        let ended = node.ended();
        assert!(ended.err.contains("DEBUG") && ended.err.contains("WARN"), "{}", ended.err);
        is_silent(&login, "the node", &ended);
        let files = crate::logins::files(here.folder.path());
        let ours = files.iter().filter(|(name, _)| name != "bob.toml");
        assert_silent(&login.secrets, ours.map(|(name, bytes)| (&name[..], &bytes[..])));
    }
}

#[test]
fn what_is_refused_is_not_repeated() {
    let secrets = ["Swordfish-83".to_owned(), "271828".to_owned()];
    let here = Program::new(NOWHERE);
    for text in [
        "nats = \"nats://u:Swordfish-83@host\"\n",
        "nats = [\"http://u:Swordfish-83@host\"]\n",
        "[auth]\nuser = \"u\"\npassword = 271828\n",
        "[auth]\npassword = \"Swordfish-83\"\n",
        "[auth]\nnkey = \"Swordfish-83\"\n",
        "[auth]\ntoken = \"Swordfish-83\"\nnkey = \"Swordfish-83\"\n",
        "auth = \"Swordfish-83\"\n",
    ] {
        std::fs::write(here.path("node.toml"), text).expect("a file");
        let mut command = here.command("send work hi --config node.toml -vvv");
        command.env_remove("WAYPOST_NATS");
        let ended = crate::program::finish(command, b"");
        assert!(matches!(ended.code, Some(1 | 2)), "{text} {ended:?}");
        assert_silent(&secrets, [("standard error", ended.err.as_bytes())]);
    }
    for (name, value) in [
        ("WAYPOST_NATS", "http://u:Swordfish-83@host"),
        ("WAYPOST_NATS", "nats://u:Swordfish-83@host:99999999"),
        ("WAYPOST_AUTH_NKEY", "Swordfish-83"),
        ("WAYPOST_AUTH_PASSWORD", "Swordfish-83"),
    ] {
        let here = Program::new(NOWHERE).with(name, value);
        for command in ["send work hi --flush 0 -vvv", "doctor --json"] {
            let ended = here.run(command);
            assert_ne!(ended.code, Some(0), "{name} {command}");
            assert_silent(&secrets, [("output", &ended.out[..]), ("errors", ended.err.as_bytes())]);
        }
    }
    // The values in the environment are not shown as defaults either.
    let here = Program::new("nats://u:Swordfish-83@host");
    let help = here.run("send --help").expect_code(0);
    assert_silent(&secrets, [("help", &help.out[..])]);
}
