//! What waypost is measured beside: the same wire, the same disk, and JetStream.

pub(crate) mod fsync;
pub(crate) mod jetstream;
pub(crate) mod request;
pub(crate) mod rows;
