//! Ids that are new, from the clock and by chance.

use ulid::Ulid;

use crate::message::{Incarnation, StoreId};

/// For a start of a node.
pub(crate) fn incarnation() -> Incarnation {
    Incarnation::from_u128(Ulid::generate().0)
}

/// For a file.
pub(crate) fn store_id() -> StoreId {
    StoreId::from_u128(Ulid::generate().0)
}
