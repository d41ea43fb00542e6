//! Keeps a user's own transaction from ending the group's and from touching what the store relies on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization, TransactionOperation};

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

/// Whether it is the user's statements that are prepared and run.
#[derive(Debug, Default)]
pub(super) struct Guard(AtomicBool);

/// Puts the guard back as it was when it is dropped, panics included.
pub(super) struct Restore<'a>(&'a Guard, bool);

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        self.0.0.store(self.1, Ordering::Relaxed);
    }
}

impl Guard {
    pub(super) fn raise(&self) -> Restore<'_> {
        Restore(self, self.0.swap(true, Ordering::Relaxed))
    }

    pub(super) fn lift(&self) -> Restore<'_> {
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
