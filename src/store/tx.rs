//! A user's own transaction: a savepoint in the group's transaction, behind a [`guard`](super::guard).

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;

use super::error::{SendError, StoreError};
use super::fault::{self, At, JobError};
use super::job::Group;
use super::outbox;
use crate::message::{ChannelName, MessageId, Prepared};

pub(super) const SAVEPOINT: &str = "SAVEPOINT waypost_job";
pub(super) const RELEASE: &str = "RELEASE waypost_job";
pub(super) const ROLLBACK: &str = "ROLLBACK TO waypost_job";

/// A transaction that was rolled back: nothing of it was kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError<E> {
    /// The closure said so.
    #[error(transparent)]
    User(E),
    /// The closure panicked.
    #[error("the transaction's closure panicked: {0}")]
    Panicked(String),
    /// The message had been accepted before, so that the closure was not run again.
    #[error("the message has been accepted before: its effects are kept already")]
    AlreadyAccepted,
    /// Other consumers of the channel follow the one that asked.
    #[error(
        "{channel} has consumers that get the message after this one: attach the one that takes messages in a transaction last"
    )]
    NotLast {
        /// The message's channel.
        channel: ChannelName,
    },
    /// The file could not be written.
    #[error(transparent)]
    Storage(StoreError),
}

impl<E> From<StoreError> for TransactionError<E> {
    fn from(error: StoreError) -> Self {
        Self::Storage(error)
    }
}

impl<E: Send + 'static> JobError for TransactionError<E> {
    fn from_store(error: StoreError) -> Self {
        error.into()
    }

    fn into_store(self) -> Result<StoreError, Self> {
        match self {
            Self::Storage(error) => Ok(error),
            other => Err(other),
        }
    }
}

/// An open transaction on the node's file: a [`rusqlite::Connection`] to the program's own tables.
///
/// The tables named `waypost_*` can be read, not written. The transaction is ended by the node: `COMMIT`, `ROLLBACK`,
/// `ATTACH` and changes of pragmas are refused. Savepoints are allowed.
pub struct Tx<'a> {
    conn: &'a Connection,
    group: RefCell<Group<'a>>,
    /// A `send` that failed half-way: whatever the closure makes of it, the transaction cannot be kept.
    broken: RefCell<Option<StoreError>>,
}

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").field("conn", self.conn).finish_non_exhaustive()
    }
}

impl Deref for Tx<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.conn
    }
}

impl Tx<'_> {
    /// Makes the message part of this transaction.
    pub(crate) fn send(&self, message: Prepared) -> Result<MessageId, SendError> {
        let group = &mut *self.group.borrow_mut();
        let _lifted = group.guard.lift();
        outbox::send(group, std::slice::from_ref(&message)).map(|ids| ids[0]).map_err(|error| {
            match error.into_store() {
                Ok(error) => {
                    let error = fault::sorted(error, group.path);
                    self.broken.replace(Some(fault::again(&error)));
                    error.into()
                }
                Err(own) => own,
            }
        })
    }
}

impl Tx<'_> {
    pub(super) fn path(&self) -> PathBuf {
        self.group.borrow().path.to_owned()
    }

    /// Writes to the node's own tables. Where that fails, the transaction cannot be kept.
    pub(super) fn write(
        &self,
        write: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let group = self.group.borrow();
        let _lifted = group.guard.lift();
        let result = write(self.conn);
        if let Err(error) = &result {
            let path = group.path;
            let error = match fault::is_for_want_of_room(error, path) {
                true => StoreError::Full { path: path.to_owned() },
                false => StoreError::Failed { path: path.to_owned(), reason: error.to_string() },
            };
            self.broken.replace(Some(error));
        }
        result
    }
}

/// Runs the closure in a savepoint; what it and `before` did is undone if it fails or panics.
pub(super) fn run<R, E>(
    group: &mut Group<'_>,
    before: impl FnOnce(&mut Group<'_>) -> Result<(), TransactionError<E>>,
    work: impl FnOnce(&Tx<'_>) -> Result<R, E>,
) -> Result<R, TransactionError<E>> {
    let conn = group.conn;
    let execute = |sql| conn.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
    execute(SAVEPOINT).at("begin a savepoint")?;
    let mark = group.ledger.mark();
    let told = group.notices.len();
    let result = before(group).and_then(|()| guarded(group, work));
    if conn.is_autocommit() {
        // The group's transaction is gone with the savepoint: a full disk does that too, and then says so.
        return Err(match result {
            Err(TransactionError::Storage(error)) => TransactionError::Storage(error),
            _ => StoreError::Interrupted.into(),
        });
    }
    match result {
        Ok(value) => {
            execute(RELEASE).at("release a savepoint")?;
            Ok(value)
        }
        Err(error) => {
            group.ledger.roll_back(mark);
            group.notices.truncate(told);
            execute(ROLLBACK).at("roll back to a savepoint")?;
            execute(RELEASE).at("release a savepoint")?;
            Err(error)
        }
    }
}

fn guarded<R, E>(
    group: &mut Group<'_>,
    work: impl FnOnce(&Tx<'_>) -> Result<R, E>,
) -> Result<R, TransactionError<E>> {
    let guard = Arc::clone(group.guard);
    let tx = Tx {
        conn: group.conn,
        group: RefCell::new(Group {
            conn: group.conn,
            ledger: group.ledger,
            notices: group.notices,
            settings: group.settings,
            guard: group.guard,
            path: group.path,
            now_ms: group.now_ms,
            id_ms: group.id_ms,
        }),
        broken: RefCell::new(None),
    };
    let on = guard.raise();
    // Whatever the closure left half done is rolled back with the savepoint, on the file and in the ledger.
    let result = catch_unwind(AssertUnwindSafe(|| work(&tx)));
    drop(on);
    if let Some(error) = tx.broken.take() {
        return Err(error.into());
    }
    match result {
        Ok(result) => result.map_err(TransactionError::User),
        Err(panic) => Err(TransactionError::Panicked(panic_text(panic.as_ref()))),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
