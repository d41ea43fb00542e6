//! Handlers that are called in the node's own thread.

use std::panic::AssertUnwindSafe;

use super::convert::Held;
use super::outcome::{Results, chain, panic_text};
use super::{Consumer, Inline};
use crate::clock;
use crate::incoming::Message;
use crate::message::MessageId;
use crate::protocol::inbox::Done;
use crate::protocol::lifecycle::may_have_stood_still;
use crate::spans;
use crate::store::Store;

/// The functions, where all consumers are called in the node's own thread.
pub(super) fn all_inline(consumers: &[Consumer]) -> Option<Vec<&Inline>> {
    consumers.iter().map(Consumer::inline).collect()
}

/// One message after the other, up to the first that does not end well; and none, where the process may have stood still since the first began: those
/// come again.
pub(super) fn handle_inline(
    messages: &[(MessageId, Held)],
    store: &Store,
    handlers: &[&Inline],
) -> Results {
    let mut results = Vec::with_capacity(messages.len());
    let begun = clock::now();
    for (id, content) in messages {
        if may_have_stood_still(begun, clock::now()) {
            break;
        }
        let _span = spans::handle(content).entered();
        let message = Message::shown(content.clone(), store.clone());
        let result = handlers.iter().try_for_each(|handler| call_inline(handler, &message));
        let goes_on = result.is_ok();
        results.push((*id, result.map(|()| Done::Handled)));
        if !goes_on {
            break;
        }
    }
    results
}

pub(super) fn call_inline(handler: &Inline, message: &Message) -> Result<(), String> {
    match std::panic::catch_unwind(AssertUnwindSafe(|| handler(message))) {
        Ok(result) => result.map_err(|error| chain(&*error)),
        Err(panic) => Err(format!("panicked: {}", panic_text(&*panic))),
    }
}
