//! Opening the file, starting the driver's thread, meeting the server.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, oneshot, watch};

use super::Node;
use crate::condition::Link;
use crate::config::{Config, Election};
use crate::driver::{Driver, Parts, leader, line};
use crate::election::ElectionEvent;
use crate::event::{Event, Status};
use crate::fresh;
use crate::gate::Gate;
use crate::message::{Incarnation, MAX_NODE_ID_BYTES, NodeId};
use crate::refusal::StartError;
use crate::shared::Shared;
use crate::store::{OpenError, Opened, Options, Store, StoreOpenError};
use crate::transport::Role;
use crate::transport::nats::NatsTransport;

/// Events that a slow listener may be behind.
const EVENTS: usize = 1024;
/// Pause between two looks at a file that somebody else has.
const LOCK_PAUSE_MS: std::ops::Range<u64> = 5..40;
/// Whoever waits this long for the file is told who has it.
const TELL_AFTER: Duration = Duration::from_secs(2);
/// Most threads for what blocks; more work waits.
const MOST_THREADS: usize = 32;
/// None of them ends before the runtime.
const FOR_LIFE: Duration = Duration::from_secs(100 * 365 * 86_400);
/// How long the end of the driver's thread waits for what cannot be interrupted.
const LOOK_UP: Duration = Duration::from_millis(500);

pub(super) async fn start(config: Config) -> Result<Node, StartError> {
    config.validate()?;
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    let incarnation = fresh::incarnation();
    let options = options(&config, &host);
    let opened = open(options, config.lock_wait).await?;
    if config.election != Election::Off && opened.restored.election.is_none() {
        let path = opened.store.path().to_owned();
        opened.store.close().await;
        return Err(StartError::ElectionDamaged { path });
    }
    let (mut shared, parts, contacted) = assemble(config, opened, host, incarnation);
    let (ending, ended) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("waypost-driver".to_owned())
        .spawn(move || {
            drive(parts);
            // Dropped where it panics, too.
            drop::<oneshot::Sender<()>>(ending);
        })
        .map_err(StartError::Thread)?;
    shared.thread = tokio::sync::Mutex::new(Some((thread, ended)));
    let node = Node { shared: Arc::new(shared) };
    let gone = || Err(StartError::Thread(std::io::Error::other("the driver ended")));
    if let Err(error) = contacted.await.unwrap_or_else(|_| gone()) {
        // It ends by itself; this waits until the file is closed, so that another start finds it free.
        let _ = node.shutdown().await;
        return Err(error);
    }
    Ok(node)
}

/// Opens the file, once nobody else has it. Who waits draws its pauses, so that of many that wait none is always late.
async fn open(options: Options, lock_wait: Duration) -> Result<Opened, StartError> {
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        let attempt = options.clone();
        let opened = tokio::task::spawn_blocking(move || Store::open(attempt))
            .await
            .map_err(|error| StartError::Thread(std::io::Error::other(error)))?;
        let waited = begun.elapsed();
        match opened {
            Err(StoreOpenError::Open(error @ OpenError::InUse { .. })) if waited < lock_wait => {
                if waited >= TELL_AFTER && !std::mem::replace(&mut is_told, true) {
                    tracing::warn!("{error}; waiting for up to {lock_wait:?}");
                }
            }
            opened => return Ok(opened?),
        }
        let pause = Duration::from_millis(fastrand::u64(LOCK_PAUSE_MS));
        tokio::time::sleep(pause.min(lock_wait.saturating_sub(waited))).await;
    }
}

/// The handles' part and the driver's part of a node, and what tells that the node has met its server.
pub(super) fn assemble(
    config: Config,
    opened: Opened,
    host: String,
    incarnation: Incarnation,
) -> (Shared, Parts, oneshot::Receiver<Result<(), StartError>>) {
    let (id, store) = (opened.restored.node.clone(), opened.store.clone());
    let tally = store.tally().clone();
    let gate = Arc::new(Gate::new(opened.restored.draining.clone()));
    let (events, listening) = broadcast::channel::<Event>(EVENTS);
    let (line, commands) = line();
    let (status_sender, status) = watch::channel(Status {
        id: id.clone(),
        incarnation,
        link: Link::Connecting,
        storage: store.health(),
        reasons: Vec::new(),
        log_cut: opened.cut,
        kicked: None,
        draining: opened.restored.draining.clone(),
        peers_online: 0,
        uptime: Duration::ZERO,
    });
    let (contact, contacted) = oneshot::channel();
    let (elections, elected) = broadcast::channel::<ElectionEvent>(EVENTS);
    let (view, leader) = leader();
    let parts = Parts {
        config: config.clone(),
        opened,
        host,
        incarnation,
        tally: tally.clone(),
        gate: gate.clone(),
        events,
        status: status_sender,
        commands,
        view,
        elections,
        handlers: tokio::runtime::Handle::current(),
        contact,
    };
    let shared = Shared {
        config,
        store,
        gate,
        tally,
        line,
        first_events: Mutex::new(Some(listening.resubscribe())),
        events: listening,
        status,
        elections: elected,
        leader,
        started: Instant::now(),
        handlers: parts.handlers.clone(),
        id,
        #[cfg(feature = "metrics")]
        named: Default::default(),
        thread: tokio::sync::Mutex::new(None),
    };
    (shared, parts, contacted)
}

/// The driver's runtime, with threads for what blocks that last as long as it does: a system that gives no more of them later, for want of memory or by a
/// limit, must not end the node.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MOST_THREADS)
        .thread_keep_alive(FOR_LIFE)
        .build()?;
    // The runtime would panic where it gets none.
    let probe = || std::thread::Builder::new().spawn(|| ());
    for thread in [probe()?, probe()?] {
        // It does nothing.
        let _ = thread.join();
    }
    // The first waits until the second is there: one may be held up by a look-up of a server's address.
    let (go, gone) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || gone.recv());
    runtime.spawn_blocking(|| ());
    drop(go);
    Ok(runtime)
}

/// The body of the driver's thread.
fn drive(parts: Parts) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = parts.contact.send(Err(StartError::Thread(error)));
            return;
        }
    };
    runtime.block_on(async {
        let node = parts.opened.restored.node.clone();
        let role = Role::Node { elects: parts.config.election != Election::Off };
        match NatsTransport::connect(&parts.config, &node, role).await {
            Ok(transport) => Driver::new(parts, transport).run().await,
            Err(error) => {
                parts.opened.store.close().await;
                let _ = parts.contact.send(Err(StartError::Connect(error)));
            }
        }
    });
    // A look-up of a server's address cannot be interrupted; it is not waited for.
    runtime.shutdown_timeout(LOOK_UP);
}

pub(super) fn options(config: &Config, host: &str) -> Options {
    Options {
        path: path(config),
        id: config.id.clone(),
        fallback_id: id_from_host(host),
        host: host.to_owned(),
        durability: config.durability,
        inbox_durability: config.inbox_durability,
        queue_limit: config.queue_limit.get(),
        storage_limit: config.storage_limit.map(NonZeroU64::get),
        overflow: config.overflow,
        retention: config.retention,
        audit_retention: config.audit.retention,
        wall_clock: config.clock,
    }
}

/// Where the node's file is.
fn path(config: &Config) -> PathBuf {
    match (&config.storage, &config.id) {
        (Some(path), Some(id)) => match path.to_str() {
            Some(text) => PathBuf::from(text.replace("{id}", id.as_str())),
            None => path.clone(),
        },
        (Some(path), None) => path.clone(),
        (None, Some(id)) => PathBuf::from(format!("waypost-{id}.db")),
        (None, None) => PathBuf::from("waypost.db"),
    }
}

/// The host's name with what no id may have replaced.
fn id_from_host(host: &str) -> NodeId {
    let id: String = host
        .chars()
        .take(MAX_NODE_ID_BYTES)
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' })
        .collect();
    NodeId::new(&id).unwrap_or_else(|_| NodeId::new("node").expect("a valid name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_becomes_an_id() {
        assert_eq!(id_from_host("ship-7.example.org").as_str(), "ship-7-example-org");
        assert_eq!(id_from_host("").as_str(), "node");
        assert_eq!(id_from_host(&"ü".repeat(300)).as_str(), "-".repeat(64));
    }

    #[test]
    fn the_file_is_named_after_the_node() {
        let at = |id: Option<&str>, storage: Option<&str>| {
            path(&Config {
                id: id.map(|id| NodeId::new(id).expect("a valid name")),
                storage: storage.map(PathBuf::from),
                ..Config::default()
            })
        };
        assert_eq!(at(None, None), PathBuf::from("waypost.db"));
        assert_eq!(at(Some("a"), None), PathBuf::from("waypost-a.db"));
        assert_eq!(at(Some("a"), Some("/x/{id}/{id}.db")), PathBuf::from("/x/a/a.db"));
        assert_eq!(at(Some("a"), Some("b.db")), PathBuf::from("b.db"));
    }
}
