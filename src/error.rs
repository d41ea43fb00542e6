//! What can go wrong at the crate's boundaries: one enum each, defined beside what returns it.

pub use crate::config::ConfigError;
pub use crate::incoming::AckError;
pub use crate::message::{InvalidMessage, NameError};
pub use crate::protocol::election::StaleToken;
pub use crate::refusal::{
    ChannelError, HandOverError, NodeError, OrderError, SetStateError, StartError,
};
pub use crate::store::inspect::InspectError;
pub use crate::store::{
    FenceError, OpenError, RedriveError, SendError, StoreError, StoreOpenError, TransactionError,
};
pub use crate::transport::nats::ConnectError;
