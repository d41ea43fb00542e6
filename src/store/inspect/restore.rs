//! Puts a backup in the place of a node's file, with the old files kept beside it.
//!
//! The backup becomes a file of its own: a new store id from its last message on, so that no receiver takes what the node sends next for
//! something that it had from the file before; and a new generation, so that no log that is left somewhere fits it.
//!
//! Crash-safe by the order of the names: the copy is complete and on disk as `-restoring` before the old files are moved, the database first,
//! then its log; then the copy gets its name. While the database is gone and `-restoring` is there, no node starts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use serde::Serialize;

use super::copy::{Partial, finish};
use super::{InspectError, Inspector, Store, row};
use crate::config::WallClock;
use crate::fresh;
use crate::message::{MessageId, NodeId, StoreId};
use crate::store::audit;
use crate::store::clock::{self, Clock};
use crate::store::disk::{beside, remove_unfinished};
use crate::store::lock::Holder;
use crate::store::meta;
use crate::store::migrate::migrate;
use crate::store::open::look::{self, bytes, resolve};
use crate::store::open::{OpenError, RESTORING, acquire, generation, sync_folder};

/// What may be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Nothing: the backup must hold all that the file holds.
    Nothing,
    /// What only the file holds. It is kept beside the restored file, where no node sends it.
    WhatIsNewer,
}

/// A restored file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Restored {
    /// Where it is.
    pub path: PathBuf,
    /// Whose it is.
    pub node: NodeId,
    /// Its size.
    pub bytes: u64,
    /// Where the file that was there before is kept; its log stands beside it. None where there was none.
    pub kept: Option<PathBuf>,
    /// What only that file holds.
    pub newer: Newer,
}

/// What a file holds and a backup lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Newer {
    /// Messages accepted for sending.
    pub accepted: u64,
    /// Messages received.
    pub received: u64,
    /// The file cannot be read, so that nobody knows.
    pub unknown: bool,
}

impl std::fmt::Display for Newer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.unknown {
            return f.write_str("an unknown number of messages, because it cannot be read");
        }
        write!(f, "{} accepted and {} received messages", self.accepted, self.received)
    }
}

/// From one id to before another.
pub(super) const LATER: &str = "SELECT count(*) FROM waypost_outbox WHERE id >= ?1 AND id < ?2";
pub(super) const LAST_OF: &str = "SELECT max(id) FROM waypost_outbox WHERE id >= ?1 AND id < ?2";
pub(super) const RECEIVED: &str =
    "SELECT sender, store_id, channel, direct, lane, last_id, count FROM waypost_inbox";

/// Puts this backup in the place of the file at `to`, which no node may have open. The backup stays as it is.
///
/// # Errors
/// [`InspectError::NotSound`] where a check of the backup finds anything, [`InspectError::OtherNode`] where the file is another node's,
/// [`InspectError::WouldLose`] where the file holds what the backup lacks, [`OpenError::InUse`] where a node has it open; any other
/// [`OpenError`]. Nothing has changed then; but where an old file could be moved away and not all that belongs to it, the copy stays as
/// `-restoring`, no node starts, and another run does the rest.
pub fn restore(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    replace: Replace,
) -> Result<Restored, InspectError> {
    let (from, to) = (resolve(from.as_ref())?, resolve(to.as_ref())?);
    if from == to {
        return Err(InspectError::TargetExists { path: to });
    }
    let source = Inspector::open(&from)?;
    let node = sound(&source)?;
    let holder = Holder {
        node: "waypost db restore".to_owned(),
        pid: std::process::id(),
        host: gethostname::gethostname().to_string_lossy().into_owned(),
    };
    let lock = acquire(&to, &holder)?;
    let newer = newer(&source, &node, &to)?;
    if newer != Newer::default() && replace == Replace::Nothing {
        return Err(InspectError::WouldLose { path: to, newer });
    }
    let half = beside(&to, RESTORING);
    let aside = Aside::of(&to);
    let mut copy = if half.exists() && !to.exists() {
        // An earlier run that was cut short has moved the old file away: this name keeps nodes from making a new one.
        Partial::again(half)?
    } else {
        remove_unfinished(&half);
        Partial::create_as(half, &to)?
    };
    source.copy_pages(&copy.path)?;
    drop(source);
    begin_anew(&copy.path, &from)?;
    take_owner(&aside.old(&to), &copy.path)?;
    // Its name has to be there before the old file goes.
    sync_folder(&to)?;
    let placed = put_in_place(&copy, &to, &aside);
    if placed.is_err() && !to.exists() {
        copy.keep();
    }
    let kept = placed?;
    drop(copy);
    sync_folder(&to)?;
    drop(lock);
    Ok(Restored { bytes: bytes(&to)?, path: to, node, kept, newer })
}

/// Whose backup it is, if a check finds nothing.
fn sound(source: &Inspector) -> Result<NodeId, InspectError> {
    let report = source.check(|_| ())?;
    if let Some(first) = report.findings.first() {
        let findings = report.findings.len() as u64 + report.further;
        let (path, first) = (source.path().to_owned(), first.detail.clone());
        return Err(InspectError::NotSound { path, findings, first });
    }
    let path = source.path().to_owned();
    source.summary()?.node.ok_or(InspectError::NoNode { path })
}

/// What the file at this path holds and the backup lacks.
fn newer(source: &Inspector, node: &NodeId, to: &Path) -> Result<Newer, InspectError> {
    let unknown = Newer { unknown: true, ..Newer::default() };
    let is_empty = |path: &Path| Ok::<_, OpenError>(bytes(path)? == 0);
    if is_empty(to)? {
        // A log alone holds what was not yet copied into its database.
        let log_alone = !is_empty(&beside(to, "-wal"))?;
        return Ok(if log_alone { unknown } else { Newer::default() });
    }
    let Ok(target) = Inspector::open(to) else { return Ok(unknown) };
    let Ok(summary) = target.summary() else { return Ok(unknown) };
    if let Some(theirs) = summary.node.filter(|theirs| theirs != node) {
        let path = source.path().to_owned();
        return Err(InspectError::OtherNode {
            path,
            node: node.clone(),
            file: to.to_owned(),
            theirs,
        });
    }
    let spans = source.read("reading its end", ends)?;
    let known = source.read("reading its inbox", received)?;
    let compared = target.read("comparing it with the backup", |it| {
        let accepted = accepted(it, &summary.stores, &spans)?;
        let ahead = |(stream, (last, count)): (&Stream, &(MessageId, u64))| {
            let (known_last, known) = known.get(stream).copied().unwrap_or((MessageId::ZERO, 0));
            // Two that went on from the same state may have received as many, but not the same.
            count.saturating_sub(known).max(u64::from(*last > known_last))
        };
        let received = received(it)?.iter().map(ahead).sum();
        Ok(Newer { accepted, received, unknown: false })
    });
    Ok(compared.unwrap_or(unknown))
}

/// Up to which id the backup knows what was accepted, by store id. A store id after which another one came ends with what is kept
/// under it: where its file turned out to be an old copy of itself, the other one begins later than what it had accepted.
fn ends(backup: &Connection) -> rusqlite::Result<BTreeMap<StoreId, MessageId>> {
    let last: MessageId = backup.query_row(meta::SELECT_META, [], |row| row::id(row, 1))?;
    let mut select = backup.prepare(meta::SELECT_STORES)?;
    let stores = select.query_map([], |row| Ok((row::id(row, 0)?, row.get(1)?)))?;
    let stores: Vec<(MessageId, [u8; 16])> = stores.collect::<Result<_, _>>()?;
    let mut ends = BTreeMap::new();
    for (place, (from, store)) in stores.iter().enumerate() {
        let end = match stores.get(place + 1) {
            None => last,
            Some((next, _)) => {
                let span = params![from.to_bytes(), next.to_bytes()];
                let last = backup.query_row(LAST_OF, span, |row| row::optional_id(row, 0))?;
                last.unwrap_or(*from)
            }
        };
        ends.insert(StoreId::from_bytes(*store), end);
    }
    Ok(ends)
}

/// How many messages a file has accepted under these store ids, and the backup not. By their ids: two files that went on from the same
/// state give the same places to different messages.
fn accepted(
    file: &Connection,
    stores: &[Store],
    known: &BTreeMap<StoreId, MessageId>,
) -> rusqlite::Result<u64> {
    let mut accepted = 0;
    for (place, Store { store_id, from_id }) in stores.iter().enumerate() {
        let until =
            stores.get(place + 1).map_or(MessageId::from_u128(u128::MAX), |next| next.from_id);
        let after = |end: &MessageId| MessageId::from_u128(end.as_u128().saturating_add(1));
        let from = known.get(store_id).map_or(*from_id, |end| after(end).max(*from_id));
        let span = params![from.to_bytes(), until.to_bytes()];
        accepted += file.query_row(LATER, span, |row| row.get::<_, u64>(0))?;
    }
    Ok(accepted)
}

/// Of whom, and which.
type Stream = (String, [u8; 16], String, bool, u8);

/// The last message of each, and how many.
fn received(connection: &Connection) -> rusqlite::Result<BTreeMap<Stream, (MessageId, u64)>> {
    let mut statement = connection.prepare(RECEIVED)?;
    let rows = statement.query_map([], |row| {
        let stream = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        Ok((stream, (row::id(row, 5)?, row.get(6)?)))
    })?;
    rows.collect()
}

/// Lets what is sent from now on travel under a new store id, and puts that on record.
fn begin_anew(copy: &Path, from: &Path) -> Result<(), InspectError> {
    let sql = |error| OpenError::sql(copy, "giving it a new store id", error);
    let mut connection = look::open(copy, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sql)?;
    migrate(&mut connection).map_err(|error| OpenError::Migration {
        path: copy.to_owned(),
        name: error.name,
        source: error.source,
    })?;
    let write = |connection: &mut Connection| {
        let at_ms = file_ms(connection)?;
        generation::make_own(connection)?;
        let transaction = connection.transaction()?;
        let last: MessageId = transaction
            .query_row(meta::SELECT_META, [], |row| row.get(1).map(MessageId::from_bytes))?;
        let first = MessageId::from_u128(last.as_u128().saturating_add(1));
        let store = fresh::store_id();
        transaction.execute(meta::INSERT_STORE, params![first.to_bytes(), store.to_bytes()])?;
        let detail = format!("from {}, for messages after {last}", from.display());
        let row = params![at_ms, "restored", store.to_string(), detail, None::<u64>];
        transaction.execute(audit::INSERT, row)?;
        transaction.commit()
    };
    write(&mut connection).map_err(sql)?;
    finish(connection, copy)
}

/// The time of the file's own clock now, by which its rows are dated.
fn file_ms(connection: &Connection) -> rusqlite::Result<u64> {
    let youngest =
        connection.query_row(meta::SELECT_LAST_CREATED, [], |row| row.get(0)).optional()?;
    let source = Box::new(clock::SystemTime(WallClock::Auto));
    let kept = clock::rows::read(connection)?;
    Ok(Clock::start(source, kept, youngest.unwrap_or(0)).0.now_ms())
}

/// The restored file belongs to whom the old one belongs to, so that the node can open it whoever restores.
fn take_owner(old: &Path, copy: &Path) -> Result<(), InspectError> {
    let (Ok(old), Ok(new)) = (fs::metadata(old), fs::metadata(copy)) else { return Ok(()) };
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        chown(copy, Some(old.uid()), Some(old.gid()))
            .map_err(|error| OpenError::io(copy, "given to the owner of the old file", error))?;
    }
    fs::set_permissions(copy, old.permissions())
        .map_err(|error| OpenError::io(copy, "given the old file's permissions", error).into())
}

/// The database, and what may stand beside it.
const FILES: [&str; 5] = ["", "-wal", "-shm", "-journal", "-begun"];

/// Where the old files are kept.
enum Aside {
    /// No run has moved anything yet.
    New(PathBuf),
    /// An earlier run that was cut short has moved the database there, and maybe more.
    Begun(PathBuf),
}

impl Aside {
    fn of(to: &Path) -> Self {
        let path = |number: u32| beside(to, &format!("-replaced-{number}"));
        let is_free = |path: &Path| ["", "-wal"].iter().all(|it| !beside(path, it).exists());
        let free = (1..).find(|number| is_free(&path(*number))).expect("numbers do not end");
        let is_begun = !to.exists() && beside(to, RESTORING).exists();
        let last = (1..free).rev().map(path).find(|_| is_begun);
        match last.filter(|last| last.exists()) {
            // What it did not move belongs to the database that it did move.
            Some(last) if !(beside(to, "-wal").exists() && beside(&last, "-wal").exists()) => {
                Self::Begun(last)
            }
            _ => Self::New(path(free)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::New(path) | Self::Begun(path) => path,
        }
    }

    /// Where the old database is now.
    fn old(&self, to: &Path) -> PathBuf {
        match self {
            Self::New(_) => to.to_owned(),
            Self::Begun(path) => path.clone(),
        }
    }
}

/// Moves the old files away, the database first, and gives the copy its name. Where the old database is kept, if there was one.
fn put_in_place(copy: &Partial, to: &Path, aside: &Aside) -> Result<Option<PathBuf>, InspectError> {
    let mut kept = match aside {
        Aside::New(_) => None,
        Aside::Begun(path) => Some(path.clone()),
    };
    for suffix in FILES {
        let (old, new) = (beside(to, suffix), beside(aside.path(), suffix));
        if old.exists() {
            fs::rename(&old, &new).map_err(|error| OpenError::io(&old, "moved away", error))?;
            kept = Some(aside.path().to_owned());
        }
    }
    if kept.is_some() {
        sync_folder(to)?;
    }
    fs::rename(&copy.path, to).map_err(|error| OpenError::io(to, "given its name", error))?;
    Ok(kept)
}
