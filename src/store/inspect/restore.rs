//! Puts a backup in the place of a node's file, with the old files kept beside it.
//!
//! The backup becomes a file of its own: a new store id from its last message on, so that no receiver takes what the node sends next for
//! something that it had from the file before; and a new generation, so that no log that is left somewhere fits it.
//!
//! Crash-safe by the order of the names: the copy is complete and on disk as `-restoring` before the old files are moved, the database first,
//! then its log; then the copy gets its name. While the database is gone and `-restoring` is there, no node starts.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, params};
use serde::Serialize;

use super::copy::Partial;
use super::{InspectError, Inspector};
use crate::message::{MessageId, NodeId, StoreId};
use crate::store::audit;
use crate::store::lock::{Holder, beside};
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

pub(super) const END: &str = meta::SELECT_END_SEQ;
pub(super) const LATER: &str = "SELECT count(*) FROM waypost_outbox WHERE seq > ?1";
pub(super) const RECEIVED: &str =
    "SELECT sender, store_id, channel, direct, lane, count FROM waypost_inbox";

/// Puts this backup in the place of the file at `to`, which no node may have open. The backup stays as it is.
///
/// # Errors
/// [`InspectError::NotSound`] where a check of the backup finds anything, [`InspectError::OtherNode`] where the file is another node's,
/// [`InspectError::WouldLose`] where the file holds what the backup lacks, [`OpenError::InUse`] where a node has it open; any other
/// [`OpenError`]. Nothing has changed then.
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
    // What an earlier run that was cut short has left.
    let _ = fs::remove_file(beside(&to, RESTORING));
    let copy = Partial::create_as(beside(&to, RESTORING), &to)?;
    source.copy_pages(&copy.path)?;
    drop(source);
    begin_anew(&copy.path, &from)?;
    take_owner(&to, &copy.path)?;
    let kept = move_aside(&to)?;
    fs::rename(&copy.path, &to).map_err(|error| OpenError::io(&to, "given its name", error))?;
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
    let end: u64 = source.read("reading its end", |it| it.query_row(END, [], |row| row.get(0)))?;
    let known = source.read("reading its inbox", received)?;
    let compared = target.read("comparing it with the backup", |it| {
        let accepted = it.query_row(LATER, [end], |row| row.get(0))?;
        let ahead = |(stream, count): (&Stream, &u64)| {
            count.saturating_sub(known.get(stream).copied().unwrap_or(0))
        };
        let received = received(it)?.iter().map(ahead).sum();
        Ok(Newer { accepted, received, unknown: false })
    });
    Ok(compared.unwrap_or(unknown))
}

/// Of whom, and which.
type Stream = (String, [u8; 16], String, bool, u8);

fn received(connection: &Connection) -> rusqlite::Result<std::collections::BTreeMap<Stream, u64>> {
    let mut statement = connection.prepare(RECEIVED)?;
    let rows = statement.query_map([], |row| {
        Ok(((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?), row.get(5)?))
    })?;
    rows.collect()
}

/// Lets what is sent from now on travel under a new store id, and puts that on record.
fn begin_anew(copy: &Path, from: &Path) -> Result<(), InspectError> {
    let sql = |error| OpenError::sql(copy, "giving it a new store id", error);
    let mut connection = look::open(copy, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sql)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    migrate(&mut connection).map_err(|error| OpenError::Migration {
        path: copy.to_owned(),
        name: error.name,
        source: error.source,
    })?;
    let write = |connection: &mut Connection| {
        generation::make_own(connection)?;
        let transaction = connection.transaction()?;
        let last: MessageId = transaction
            .query_row(meta::SELECT_META, [], |row| row.get(1).map(MessageId::from_bytes))?;
        let first = MessageId::from_u128(last.as_u128().saturating_add(1));
        let store = StoreId::generate();
        transaction.execute(meta::INSERT_STORE, params![first.to_bytes(), store.to_bytes()])?;
        let detail = format!("from {}, for messages after {last}", from.display());
        let row = params![now_ms, "restored", store.to_string(), detail, None::<u64>];
        transaction.execute(audit::INSERT, row)?;
        transaction.commit()
    };
    write(&mut connection).map_err(sql)?;
    // The copy has a log of its own from here on; it is emptied and removed with the last connection.
    connection.close().map_err(|(_, error)| sql(error))?;
    fs::File::open(copy)
        .and_then(|file| file.sync_all())
        .map_err(|error| OpenError::io(copy, "written to disk", error).into())
}

/// The restored file belongs to whom the old one belongs to, so that the node can open it whoever restores.
fn take_owner(to: &Path, copy: &Path) -> Result<(), InspectError> {
    let (Ok(old), Ok(new)) = (fs::metadata(to), fs::metadata(copy)) else { return Ok(()) };
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        chown(copy, Some(old.uid()), Some(old.gid()))
            .map_err(|error| OpenError::io(copy, "given to the owner of the old file", error))?;
    }
    fs::set_permissions(copy, old.permissions())
        .map_err(|error| OpenError::io(copy, "given the old file's permissions", error).into())
}

/// Moves the database away, then what belongs to it.
fn move_aside(to: &Path) -> Result<Option<PathBuf>, InspectError> {
    let there: Vec<&str> = ["", "-wal", "-shm", "-journal", "-begun"]
        .into_iter()
        .filter(|suffix| beside(to, suffix).exists())
        .collect();
    if there.is_empty() {
        return Ok(None);
    }
    let aside = (1..)
        .map(|number| beside(to, &format!("-replaced-{number}")))
        .find(|path| ["", "-wal"].iter().all(|suffix| !beside(path, suffix).exists()))
        .expect("numbers do not end");
    for suffix in there {
        let (old, new) = (beside(to, suffix), beside(&aside, suffix));
        fs::rename(&old, &new).map_err(|error| OpenError::io(&old, "moved away", error))?;
    }
    sync_folder(to)?;
    Ok(Some(aside))
}
