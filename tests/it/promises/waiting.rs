//! Programs that wait, each for something else, as processes of their own: what they cost while they wait.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use waypost::error::SendError;
use waypost::{Auth, Builder, Event, Link, Mode, NewMessage, Node};

use crate::nodes::child::{self, Child};
use crate::nodes::wire::Puppet;
use crate::nodes::*;
use crate::support::nats_server::NatsServer;
use crate::support::{eventually_async, not_run};

/// What a child's role begins with.
const ROLE: &str = "wait ";
/// How long they are watched while they wait.
const WATCHED: Duration = Duration::from_secs(3);
/// The most of a processor that one of them may take: one that looks again and again takes all of it, one that waits less than a hundredth.
const MOST: f64 = 0.05;
/// Ticks a second of the times in /proc.
const TICKS: f64 = 100.0;

/// Waits, where this process was started for that. `false`: it was started for something else.
pub(crate) fn run(role: &str) -> bool {
    let Some(state) = role.strip_prefix(ROLE) else { return false };
    child::block_on(wait(state));
    true
}

/// The child: sends one message, says when it stands in this state, and waits until the message is settled.
async fn wait(state: &str) {
    let id = child::setting("ID");
    let folder = PathBuf::from(child::setting("FOLDER"));
    let mut builder = builder_at(&child::setting("URL"), &folder, &id);
    match state {
        "no-quorum" => builder = voter(builder),
        "laggard" => builder = builder.queue_limit(NonZeroUsize::new(2).expect("above zero")),
        _ => {}
    }
    if let "denied" | "unauthorized" = state {
        let password = if state == "denied" { "right" } else { "wrong" };
        let mut auth = Auth::default();
        log_in(&mut auth, password);
        builder = builder.auth(auth);
    }
    let node = begin(builder).await;
    let mut events = node.events();
    let out = node.join("work", Mode::ReadWrite).await.expect("joined");
    match state {
        // That it is denied was told before the start returned.
        "disconnected" | "denied" => disconnected(&node).await,
        "unauthorized" => {
            let told = node.wait_for(|status| matches!(status.link, Link::Unauthorized { .. }));
            tokio::time::timeout(SOON, told).await.expect("told").expect("it runs");
        }
        "paused" | "silent" | "working" | "laggard" => {
            reader_is_known(&node, "work", "other").await;
        }
        _ => {}
    }
    if state == "full-disk" {
        std::fs::write(folder.join("ballast"), vec![1; 2_000_000]).expect("written");
        let large = || NewMessage::bytes(vec![1; 100_000]).header("n", "1");
        let refused = async || out.send(large()).await.is_err_and(|e| is_full(&e));
        eventually_async(SOON, "the disk is full", refused).await;
    } else if state == "reader" {
        out.on_message(async |_| Ok(())).await.expect("attached");
    } else {
        out.send("x").await.expect("sent");
    }
    if state == "laggard" {
        let near = |event: &Event| matches!(event, Event::LimitNear(_)).then_some(());
        event(&mut events, "it is told", near).await;
    }
    child::write("waits");
    if state == "locked" {
        child::read();
        tokio::spawn(async move {
            while out.send("y").await.is_err() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
    }
    tokio::spawn(async move { while events.next().await.is_some() {} });
    if state == "reader" {
        // Nothing of its own waits.
        node.wait_for(|_| false).await.expect("it runs");
    }
    loop {
        // A full disk is told at once, and is looked at again after a pause, as the command does.
        let flushed = node.flush(Duration::from_secs(3600)).await;
        if flushed.is_ok() {
            return child::write(&format!("waits no more: {flushed:?}"));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn log_in(auth: &mut Auth, password: &str) {
    auth.user = Some("box".to_owned());
    auth.password = Some(password.to_owned());
}

fn is_full(error: &SendError) -> bool {
    matches!(error, SendError::StorageFull { .. })
}

/// A child that waits, and all that keeps it waiting.
pub(crate) struct Waiting {
    state: &'static str,
    child: Child,
    _server: Option<NatsServer>,
    other: Option<Node>,
    _puppet: Option<Puppet>,
    _lock: Option<rusqlite::Connection>,
    _folder: tempfile::TempDir,
}

impl Waiting {
    /// `None`: this machine cannot bring about that state.
    pub(crate) async fn start(state: &'static str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let server = match state {
            "disconnected" | "full-disk" | "locked" => None,
            "denied" | "unauthorized" => Some(NatsServer::with_config(
                "authorization { users = [ { user: box, password: right, permissions: { publish: none, subscribe: none } } ] }",
            )),
            _ => Some(NatsServer::start()),
        };
        let url = server.as_ref().map_or("nats://127.0.0.1:1".to_owned(), NatsServer::url);
        let (mut other, mut puppet) = (None, None);
        match (state, &server) {
            ("paused" | "working" | "laggard", Some(server)) => {
                other = Some(not_finishing(builder(server, &folder, "other"), state).await);
            }
            ("silent", Some(server)) => puppet = Some(Puppet::start(server, "other").await),
            _ => {}
        }
        let (role, id) = (format!("{ROLE}{state}"), "a");
        let mut child = if state == "full-disk" {
            let mount =
                "mount -t tmpfs -o size=3m tmpfs \"$WAYPOST_TEST_FOLDER\" && exec \"$0\" \"$@\"";
            may_mount().then(|| {
                Child::start_by(&["unshare", "-rm", "sh", "-c", mount], &role, &url, &folder, id)
            })?
        } else {
            Child::start(&role, &url, &folder, id)
        };
        child.wrote(1).await;
        let lock = (state == "locked").then(|| {
            let lock = hold(&folder.path().join("a.db"));
            child.tell("it is locked");
            lock
        });
        Some(Self {
            state,
            child,
            _server: server,
            other,
            _puppet: puppet,
            _lock: lock,
            _folder: folder,
        })
    }

    fn cpu_seconds(&self) -> f64 {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).expect("it runs");
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks.map(|text| text.parse::<f64>().expect("a number")).sum::<f64>() / TICKS
    }
}

/// A peer that reads the channel and finishes nothing.
async fn not_finishing(builder: Builder, state: &str) -> Node {
    let node = begin(builder.shutdown_timeout(Duration::from_millis(100))).await;
    let work = node.join("work", Mode::Reader).await.expect("joined");
    if state == "working" {
        let handler = async |_| {
            std::future::pending::<()>().await;
            Ok(())
        };
        work.on_message(handler).await.expect("attached");
    }
    node
}

fn hold(file: &Path) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(file).expect("it can be opened");
    other.busy_timeout(SOON).expect("set");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    other
}

fn may_mount() -> bool {
    let mount = ["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"];
    let tried = std::process::Command::new("unshare").args(mount).output();
    tried.is_ok_and(|output| output.status.success())
}

/// The part of a processor that each takes while all wait.
async fn watch(waiting: &[Waiting]) -> Vec<f64> {
    let begun = std::time::Instant::now();
    let before: Vec<f64> = waiting.iter().map(Waiting::cpu_seconds).collect();
    tokio::time::sleep(WATCHED).await;
    let elapsed = begun.elapsed().as_secs_f64();
    let part = |(one, before): (&Waiting, &f64)| (one.cpu_seconds() - before) / elapsed;
    waiting.iter().zip(&before).map(part).collect()
}

/// Lets a program wait in each of these states, and checks that it costs next to nothing.
pub(crate) async fn costs_nothing(states: &[&'static str]) {
    let mut waiting = Vec::new();
    for state in states {
        match Waiting::start(state).await {
            Some(one) => waiting.push(one),
            None => not_run(&format!("this machine cannot bring about \"{state}\"")),
        }
    }
    let first = watch(&waiting).await;
    // What is left of the start may still be under way the first time.
    let second = watch(&waiting).await;
    for ((one, first), second) in waiting.iter().zip(first).zip(second) {
        eprintln!("{}: {:.1} %, {:.1} %", one.state, first * 100.0, second * 100.0);
        assert_eq!(one.child.lines(), ["waits"], "{} still waits", one.state);
        assert!(
            first.min(second) < MOST,
            "{} takes {:.0} % of a processor",
            one.state,
            second * 100.0
        );
    }
    for one in waiting {
        drop(one.child);
        if let Some(other) = one.other {
            other.shutdown().await;
        }
    }
}
