//! Takes the word of a wall clock that nothing else proves.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::SystemTime;

use serde::Serialize;

use super::{InspectError, Inspector};
use crate::config::{Config, Durability};
use crate::message::NodeId;
use crate::reason::{Reason, span};
use crate::store::clock::{self, TimeSource};
use crate::store::error::StoreError;
use crate::store::job::{Group, Task};
use crate::store::open::StoreOpenError;
use crate::store::writer::Message;
use crate::store::{Options, Store, audit};

/// Who has the file meanwhile, for others who want it.
const HOLDER: &str = "db-believe-clock";
const ACTION: &str = "clock believed";

/// By how much a file's time went ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Believed {
    /// The file.
    pub path: PathBuf,
    /// By so much, in milliseconds. All that waits is older by that.
    pub ahead_ms: u64,
}

/// Believes that the wall clock is right: the file's time goes ahead to it, and with it the age of all that waits, also of what was accepted
/// since the time was last not counted. On record in the audit, and fsynced. What is past its time to live then expires at the next start.
///
/// For time that nothing proves, and that is not counted for that reason: a machine was off for more than 400 days, or its clock was wrong
/// before. No node may have the file open. Blocks.
///
/// # Errors
/// [`InspectError::Clock`] where the wall clock shows what cannot be; [`InspectError::ClockBehind`] where it is behind the file's time;
/// [`OpenError::InUse`](crate::store::open::OpenError::InUse) that names the node which has the file open; whatever else keeps a node from starting
/// with it.
pub fn believe_clock(path: impl AsRef<Path>) -> Result<Believed, InspectError> {
    if let Some(reason) = Reason::of_clock(SystemTime::now()) {
        return Err(InspectError::Clock(reason));
    }
    believe(path.as_ref(), Box::new(clock::SystemTime::default()))
}

pub(super) fn believe(path: &Path, time: Box<dyn TimeSource>) -> Result<Believed, InspectError> {
    // It is not created, and is a node's.
    let path = Inspector::open(path)?.path().to_owned();
    let opened = Store::open_at(options(&path), time).map_err(|error| match error {
        StoreOpenError::Open(error) => InspectError::Open(error),
        StoreOpenError::Storage(error) => InspectError::Storage(error),
        StoreOpenError::WrongNode { path, .. } => InspectError::NoNode { path },
    })?;
    let believed = note(&opened.store);
    opened.store.close_blocking();
    match believed? {
        Ok(ahead_ms) => Ok(Believed { path, ahead_ms }),
        Err(behind_ms) => Err(InspectError::ClockBehind { path, behind_ms }),
    }
}

fn note(store: &Store) -> Result<Result<u64, u64>, StoreError> {
    let ahead_ms = match store.inner.shared.clock.believe() {
        Ok(0) => return Ok(Ok(0)),
        Ok(ahead_ms) => ahead_ms,
        Err(behind_ms) => return Ok(Err(behind_ms)),
    };
    let detail = format!("an operator says that the clock is right: {} more", span(ahead_ms));
    let path = store.path().to_string_lossy().into_owned();
    // The clock itself is noted with every commit that finds news of it.
    let work = move |group: &mut Group<'_>| audit::record(group, ACTION, &path, &detail);
    let (to, from) = mpsc::channel();
    let reply = move |noted: Result<(), StoreError>| drop(to.send(noted));
    let task = Box::new(Task::replying(Durability::Full, work, reply));
    store.inner.jobs.send(Message::Job(task)).map_err(|_| StoreError::Closed)?;
    from.recv().unwrap_or(Err(StoreError::Unanswered))?;
    Ok(Ok(ahead_ms))
}

fn options(path: &Path) -> Options {
    let Config { queue_limit, overflow, retention, audit, .. } = Config::default();
    Options {
        path: path.to_owned(),
        id: None,
        fallback_id: NodeId::new(HOLDER).expect("a valid name"),
        host: gethostname::gethostname().to_string_lossy().into_owned(),
        durability: Durability::Full,
        inbox_durability: Durability::Full,
        queue_limit: queue_limit.get(),
        storage_limit: None,
        overflow,
        retention,
        audit_retention: audit.retention,
        wall_clock: crate::config::WallClock::Auto,
    }
}
