//! What carries frames between nodes: the contract, and what it is made of.
//!
//! A transport promises little: what it takes may be lost, repeated or late, and only an answer of the other node
//! proves anything. It promises two things that the client below does not: nothing is queued while there is no
//! connection, and [`TransportEvent::Up`] comes only when the subscriptions are live.

#[cfg(test)]
pub(crate) mod memory;
pub(crate) mod nats;
pub(crate) mod subjects;

use std::time::Duration;

use bytes::Bytes;

pub(crate) use subjects::{Audience, Role, Subject, Subjects};

use crate::condition::Outage;

/// Carries frames. One loop on a current-thread runtime owns it, so it need not be `Send`.
pub(crate) trait Transport {
    /// The next thing that happened. Cancelling loses nothing, and it never ends before `close`.
    async fn next(&mut self) -> TransportEvent;

    /// Hands a frame to the connection, without waiting. `Ok` means that it was taken, not that it arrived. Frames that are no messages
    /// go ahead of messages.
    ///
    /// # Errors
    /// There is no connection, the frame is larger than the server allows, or the connection takes no more at the moment. In all three
    /// nothing was queued. After [`PublishError::Busy`], [`TransportEvent::Room`] follows, or a `Down`.
    fn try_publish(&mut self, to: &Subject, frame: Bytes) -> Result<(), PublishError>;

    /// Whether the connection takes messages at the moment. Where it does not, [`TransportEvent::Room`] follows, or a `Down`.
    fn has_room(&mut self) -> bool;

    /// Lets what was published reach the server, waiting for `within` at most, then closes.
    async fn close(self, within: Duration);
}

/// What a transport tells its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TransportEvent {
    /// Connected, and every subscription live: an own token, published after them, came back. Told again after each
    /// reconnection.
    Up {
        /// Largest frame in bytes that this server takes.
        max_payload: usize,
        /// Which server it is.
        server: ServerInfo,
        /// What it has refused on this connection already, in its words: told before as [`TransportEvent::Denied`].
        denied: Vec<String>,
    },
    /// The connection is lost, or the first attempt at one failed. Told once an outage, and again where its kind changes, or where it goes on
    /// for another reason that somebody has to remove.
    Down {
        /// What the client or the server said.
        reason: String,
        /// What kind of reason that is.
        outage: Outage,
    },
    /// A server refuses our credentials. It is tried again all the same. Told once a change, not once a try, and only while not up.
    Unauthorized {
        /// What the server said.
        reason: String,
    },
    /// The server refuses a subscription or publication of ours, or has another word of refusal and goes on. Told once a connection and text.
    Denied {
        /// What the server said.
        reason: String,
    },
    /// The connection takes messages again, after it had refused some.
    Room,
    /// Frames for us were dropped because we were too slow to take them.
    Slow,
    /// A frame, whose bytes nobody has looked at yet.
    Frame {
        /// Where it was published: the sender in it is what the server let it say.
        from: Subject,
        /// The frame.
        bytes: Bytes,
    },
    /// Something arrived on a subject that is none of ours.
    Stray,
}

/// A server as it describes itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServerInfo {
    pub(crate) name: String,
    /// Drawn at its start.
    pub(crate) id: String,
    /// None where it is in no cluster.
    pub(crate) cluster: Option<String>,
    pub(crate) version: String,
    /// The address that was connected to, without credentials.
    pub(crate) address: String,
    /// From publishing the token to its return.
    pub(crate) rtt: Duration,
}

/// A frame that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("not connected")]
    NotConnected,
    #[error("a frame of {size} bytes, and the server takes {limit}: raise its max_payload")]
    TooLarge { size: usize, limit: usize },
    #[error("the connection takes nothing more at the moment")]
    Busy,
}
