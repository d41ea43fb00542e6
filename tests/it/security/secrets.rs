//! Credentials are seen nowhere: not in log lines of any level, of ours or of the libraries below, not in `Debug`, errors, reports or files.

use std::error::Error;
use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex};

use crate::logins::{Login, NOBODY, assert_silent};
use crate::nodes::*;
use crate::support::nats_server::NatsServer;
use tempfile::TempDir;
use tracing_subscriber::filter::LevelFilter;
use waypost::management::{Observer, permissions};
use waypost::{Auth, Config, Link, Mode, Node, NodeId};

/// All that was logged in this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Takes every line from now on; once a process.
    fn start() -> Self {
        let log = Self::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_ansi(false);
        subscriber.with_writer(move || writer.clone()).init();
        log
    }

    fn text(&self) -> Vec<u8> {
        self.0.lock().expect("not poisoned").clone()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a program could print.
#[derive(Default)]
struct Shown(Vec<String>);

impl Shown {
    fn debug(&mut self, value: &impl Debug) {
        self.0.push(format!("{value:?}\n{value:#?}"));
    }

    fn error(&mut self, error: &(dyn Error + 'static)) {
        let mut next = Some(error);
        while let Some(error) = next {
            self.0.push(format!("{error}\n{error:?}"));
            next = error.source();
        }
    }

    fn json(&mut self, value: &impl serde::Serialize) {
        self.0.push(serde_json::to_string(value).expect("serializes"));
    }

    fn is_silent(&self, secrets: &[String]) {
        assert_silent(secrets, self.0.iter().map(|text| ("what was shown", text.as_bytes())));
    }
}

fn config(login: &Login, port: u16, dir: &TempDir) -> Config {
    let mut config = Config::default();
    config.id = Some(NodeId::new("bob").expect("a valid name"));
    config.nats = vec![format!("nats://{}127.0.0.1:{port}", login.in_address)];
    config.auth = login.auth.clone();
    config.storage = Some(dir.path().join("{id}.db"));
    config
}

/// A node that is let in, works, loses its server and comes back.
async fn let_in(config: &Config, server: &mut NatsServer, shown: &mut Shown) {
    let builder = Node::builder().config(config.clone());
    shown.debug(&builder);
    let node = begin(builder).await;
    connected(&node).await;
    shown.debug(&node);
    let mut events = node.events();
    let work = node.join("work", Mode::ReadWrite).await.expect("joined");
    work.send("hello").await.expect("sent");
    shown.debug(&work);
    server.stop();
    disconnected(&node).await;
    shown.debug(&node.status());
    server.restart();
    connected(&node).await;
    shown.debug(&node.status());
    let mut observer = Observer::connect(config).await.expect("let in");
    shown.debug(&observer);
    shown.debug(&observer.server());
    let reports = observer.reports(SOON, &[node.id().clone()]).await.expect("asked");
    assert_eq!(reports.len(), 1);
    shown.debug(&reports);
    shown.json(&reports);
    observer.close().await;
    let found = permissions(config, node.id()).await.expect("asked");
    assert!(found.refused.is_empty(), "{found:?}");
    shown.debug(&found);
    shown.json(&found);
    node.shutdown().await;
    // It has the other end of the events.
    drop((node, work));
    while let Some(event) = events.next().await {
        shown.debug(&event);
        shown.json(&event);
    }
}

/// A node that is not let in.
async fn refused(config: &Config, shown: &mut Shown) {
    let node = begin(Node::builder().config(config.clone())).await;
    let refused = node.wait_for(|status| matches!(status.link, Link::Unauthorized { .. }));
    tokio::time::timeout(SOON, refused).await.expect("it is told").expect("it runs");
    shown.debug(&node.status());
    shown.error(&Observer::connect(config).await.expect_err("a refusal"));
    shown.error(&permissions(config, node.id()).await.expect_err("a refusal"));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_seen_nowhere() {
    if !child::is_alone(module_path!(), "credentials_are_seen_nowhere") {
        return;
    }
    let log = Log::start();
    let keys = tempfile::tempdir().expect("a folder");
    for login in crate::logins::all(keys.path()) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut server = NatsServer::with_config(&login.server);
        let config = config(&login, server.port(), &dir);
        let mut shown = Shown::default();
        shown.debug(&config);
        shown.debug(&login.auth);
        let_in(&config, &mut server, &mut shown).await;
        server.restart_with(NOBODY);
        refused(&config, &mut shown).await;
        drop(server);
        if !login.in_address.is_empty() {
            // Nobody listens there any more.
            shown.error(&Observer::connect(&config).await.expect_err("no server"));
        }
        shown.is_silent(&login.secrets);
        let files = crate::logins::files(dir.path());
        assert!(files.iter().any(|(name, _)| name == "bob.db"));
        assert_silent(&login.secrets, files.iter().map(|(name, bytes)| (&name[..], &bytes[..])));
        let lines = log.text();
        assert_silent(&login.secrets, [(&*format!("the log, after {}", login.name), &lines[..])]);
    }
    // The log holds what it would stand in.
    let lines = String::from_utf8(log.text()).expect("text");
    for level in ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"] {
        assert!(lines.contains(level), "no line of level {level}");
    }
    for what in
        ["write operation: CONNECT", "callback-selected server connection failed", "waypost"]
    {
        assert!(lines.contains(what), "no {what:?}");
    }
}

/// Settings that are refused, each with a secret in a place where it could be repeated.
#[tokio::test]
async fn no_refusal_of_settings_repeats_a_secret() {
    const SECRET: &str = "Swordfish-83";
    let dir = tempfile::tempdir().expect("a folder");
    let rubbish = dir.path().join("rubbish.creds");
    std::fs::write(&rubbish, SECRET).expect("a file");
    let half = dir.path().join("half.creds");
    std::fs::write(&half, crate::logins::creds(SECRET, SECRET)).expect("a file");
    let some = || Some(SECRET.to_owned());
    let addresses = [
        "http://u:Swordfish-83@host",
        "nats://u:Swordfish-83@host:99999999",
        "nats://u:Swordfish-83@",
        "nats://u:Swordfish-83@ho st",
        "nats://u: Swordfish-83@host",
        "u:Swordfish-83@host:port",
        "//Swordfish-83@host:x",
        "nats://u:Swordfish-83@[::1",
    ];
    let mut settings: Vec<(Vec<&str>, Auth)> =
        addresses.iter().map(|address| (vec![*address], Auth::default())).collect();
    let here = "nats://127.0.0.1:1";
    settings.push((vec!["nats://u:Swordfish-83@a", "nats://u:other@b"], Auth::default()));
    let token = Auth { token: some(), ..Auth::default() };
    settings.push((vec!["nats://u:Swordfish-83@a"], token.clone()));
    settings.push((vec![here], Auth { nkey: some(), ..token }));
    settings.push((vec![here], Auth { password: some(), ..Auth::default() }));
    settings.push((vec![here], Auth { nkey: some(), ..Auth::default() }));
    for creds_file in [rubbish, half] {
        settings.push((vec![here], Auth { creds_file: Some(creds_file), ..Auth::default() }));
    }
    let mut shown = Shown::default();
    for (nats, auth) in settings {
        let builder = Node::builder().nats(nats.clone()).auth(auth.clone());
        let builder = builder.id("bob").storage(dir.path().join("bob.db"));
        shown.debug(&builder);
        let error = builder.start().await.expect_err("a refusal");
        assert!(!error.to_string().is_empty(), "{nats:?}");
        shown.error(&error);
    }
    shown.is_silent(&[SECRET.to_owned()]);
}
