//! A user's own transaction: a savepoint in the group's transaction, behind a guard that keeps it from ending the group or
//! touching what the store relies on.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization, TransactionOperation};

use super::error::{SendError, StoreError};
use super::fault::{self, At, JobError};
use super::job::Group;
use super::outbox;
use crate::message::{ChannelName, MessageId, Prepared};

pub(super) const SAVEPOINT: &str = "SAVEPOINT waypost_job";
pub(super) const RELEASE: &str = "RELEASE waypost_job";
pub(super) const ROLLBACK: &str = "ROLLBACK TO waypost_job";

const OWN_PREFIX: &str = "waypost_";
/// Pragmas that only read, and only without a value where they could be given one.
const READING_PRAGMAS: [&str; 12] = [
    "application_id",
    "data_version",
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
    "foreign_keys",
];
/// Of these, the ones whose value is an argument, not a new setting.
const PRAGMAS_WITH_ARGUMENT: [&str; 8] = [
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "table_info",
    "table_list",
    "table_xinfo",
];

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

/// Whether it is the user's statements that are prepared and run.
#[derive(Debug, Default)]
pub(super) struct Guard(AtomicBool);

/// Puts the guard back as it was when it is dropped, panics included.
struct Restore<'a>(&'a Guard, bool);

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        self.0.0.store(self.1, Ordering::Relaxed);
    }
}

impl Guard {
    fn raise(&self) -> Restore<'_> {
        Restore(self, self.0.swap(true, Ordering::Relaxed))
    }

    fn lift(&self) -> Restore<'_> {
        Restore(self, self.0.swap(false, Ordering::Relaxed))
    }

    fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Makes SQLite ask this guard, once for the connection's life: setting an authorizer expires every prepared statement.
    pub(super) fn install(self: &Arc<Self>, conn: &Connection) -> rusqlite::Result<()> {
        let guard = Arc::clone(self);
        conn.authorizer(Some(move |context: AuthContext<'_>| {
            if guard.is_up() && !is_allowed(&context.action) {
                Authorization::Deny
            } else {
                Authorization::Allow
            }
        }))?;
        // After an ON CONFLICT ROLLBACK the rest of a closure would commit statement by statement.
        let guard = Arc::clone(self);
        conn.commit_hook(Some(move || guard.is_up()))
    }
}

fn is_own(name: &str) -> bool {
    name.get(..OWN_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX))
}

fn is_allowed(action: &AuthAction<'_>) -> bool {
    use AuthAction::{
        AlterTable, Analyze, Attach, CreateIndex, CreateTable, CreateTempIndex, CreateTempTable,
        CreateTempTrigger, CreateTempView, CreateTrigger, CreateView, CreateVtable, Delete, Detach,
        DropIndex, DropTable, DropTempTable, DropTrigger, DropView, DropVtable, Insert, Pragma,
        Savepoint, Transaction, Unknown, Update,
    };
    match *action {
        Transaction { .. } | Attach { .. } | Detach { .. } | Unknown { .. } => false,
        Savepoint { operation: TransactionOperation::Unknown, .. } => false,
        Savepoint { savepoint_name, .. } => !is_own(savepoint_name),
        Pragma { pragma_name, pragma_value } => {
            let known = |list: &[&str]| list.iter().any(|p| p.eq_ignore_ascii_case(pragma_name));
            known(&PRAGMAS_WITH_ARGUMENT) || (pragma_value.is_none() && known(&READING_PRAGMAS))
        }
        Insert { table_name }
        | Update { table_name, .. }
        | Delete { table_name }
        | CreateTable { table_name }
        | CreateTempTable { table_name }
        | DropTable { table_name }
        | DropTempTable { table_name }
        | AlterTable { table_name, .. }
        | Analyze { table_name }
        | CreateVtable { table_name, .. }
        | DropVtable { table_name, .. } => !is_own(table_name),
        CreateView { view_name } | CreateTempView { view_name } | DropView { view_name } => {
            !is_own(view_name)
        }
        CreateIndex { index_name, table_name }
        | CreateTempIndex { index_name, table_name }
        | DropIndex { index_name, table_name } => !is_own(index_name) && !is_own(table_name),
        CreateTrigger { trigger_name, table_name }
        | CreateTempTrigger { trigger_name, table_name }
        | DropTrigger { trigger_name, table_name } => !is_own(trigger_name) && !is_own(table_name),
        _ => true,
    }
}
