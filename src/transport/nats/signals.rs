//! What the client's callbacks tell, and which server it tries next, and when.
//!
//! Callbacks run in the client's tasks, may come late and may be dropped. So they leave marks here, that are overwritten
//! or capped and never wait for anybody; the transport reads them at every look.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{ClientError, Event, ReconnectToServer, Server, ServerAddr, ServerError};
use tokio::sync::Notify;

use crate::config::mask_url;

const MIN_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(5);
/// Between the tries of a client that is to connect only in order to end.
const ABANDONED_DELAY: Duration = Duration::from_secs(30);
/// Refusals kept until the next look.
const MAX_DENIED: usize = 16;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    Unreachable(String),
    Unauthorized(String),
}

/// The marks of one client's callbacks.
#[derive(Default)]
pub(super) struct Signals {
    /// Wakes the transport for a look.
    pub(super) wake: Notify,
    marks: Mutex<Marks>,
    /// Rounds through the servers since a connection last proved stable. It alone decides the delay: the client's own count
    /// starts again with each connection, and a server that accepts and closes would be stormed.
    rounds: AtomicU32,
    turn: AtomicUsize,
}

/// Taken by the transport at each look.
#[derive(Default)]
pub(super) struct Marks {
    pub(super) trouble: Option<Trouble>,
    /// The last error that is neither a refusal nor a denial: why the connection broke, perhaps.
    pub(super) last_error: Option<String>,
    pub(super) denied: Vec<String>,
    pub(super) slow: bool,
    pub(super) lame_duck: bool,
    /// The server that was tried last.
    pub(super) address: String,
    /// The transport is closed: the client is to try nothing more.
    pub(super) closed: bool,
    /// The transport has another client. This one was deaf; it ends with the first connection that it makes.
    pub(super) abandoned: bool,
}

impl Signals {
    /// For a client that starts with a server of its own choice, so that the nodes of a cluster spread.
    pub(super) fn new() -> Self {
        Self { turn: AtomicUsize::new(fastrand::usize(..1 << 16)), ..Self::default() }
    }

    pub(super) fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection has lasted: the next loss is a new story.
    pub(super) fn stable(&self) {
        // Not zero: only a client's very first try is without a delay.
        self.rounds.store(1, Ordering::Relaxed);
    }

    /// The client asks before each try. It has just failed with what the servers' records say.
    pub(super) fn choose(&self, servers: &[Server]) -> Option<ReconnectToServer> {
        let mut marks = self.marks();
        if let Some(trouble) = trouble(servers) {
            marks.trouble = Some(trouble);
            self.wake.notify_one();
        }
        if servers.is_empty() || (marks.closed && !marks.abandoned) {
            return None;
        }
        if marks.abandoned {
            let addr = servers[fastrand::usize(..servers.len())].addr.clone();
            return Some(ReconnectToServer { addr, delay: Some(ABANDONED_DELAY) });
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let server = &servers[turn % servers.len()];
        marks.address = shown(&server.addr);
        let round = if turn.is_multiple_of(servers.len()) {
            self.rounds.fetch_add(1, Ordering::Relaxed)
        } else {
            self.rounds.load(Ordering::Relaxed)
        };
        Some(ReconnectToServer { addr: server.addr.clone(), delay: Some(delay(round)) })
    }

    pub(super) fn on_event(&self, event: Event) {
        let mut marks = self.marks();
        match event {
            Event::LameDuckMode => marks.lame_duck = true,
            Event::SlowConsumer(_) | Event::ServerError(ServerError::SlowConsumer(_)) => {
                marks.slow = true;
            }
            Event::ServerError(ServerError::AuthorizationViolation) => {
                let reason = format!("{}: authorization violation", marks.address);
                marks.trouble = Some(Trouble::Unauthorized(reason));
            }
            Event::ServerError(ServerError::Other(text)) => marks.server_said(text),
            // Only the kind of an error, after a try: of use where the servers' records are silent.
            Event::ClientError(ClientError::Other(text)) if marks.trouble.is_none() => {
                marks.trouble = Some(Trouble::Unreachable(format!("{}: {text}", marks.address)));
            }
            Event::Connected
            | Event::Disconnected
            | Event::Draining
            | Event::Closed
            | Event::ClientError(_) => {}
        }
        drop(marks);
        self.wake.notify_one();
    }
}

impl Marks {
    fn server_said(&mut self, text: String) {
        let lower = text.to_lowercase();
        if lower.starts_with("permissions violation") {
            if self.denied.len() < MAX_DENIED && !self.denied.contains(&text) {
                self.denied.push(text);
            }
        } else if is_refusal(&lower) {
            self.trouble = Some(Trouble::Unauthorized(format!("{}: {text}", self.address)));
            self.last_error = Some(text);
        } else {
            self.last_error = Some(text);
        }
    }
}

/// What a server answers to credentials that it does not, or no longer, accept; and what the client says where it cannot
/// even sign with ours.
fn is_refusal(lower: &str) -> bool {
    ["authorization violation", "authentication expired", "authentication revoked", "signing nonce"]
        .iter()
        .any(|words| lower.contains(words))
}

fn trouble(servers: &[Server]) -> Option<Trouble> {
    let said = |server: &Server| {
        let error = server.last_error.as_deref()?;
        // The client puts its own words for the kind before the server's.
        let words = error.rsplit_once("nats: ").map_or(error, |(_, words)| words);
        Some((is_refusal(&error.to_lowercase()), format!("{}: {words}", shown(&server.addr))))
    };
    let all: Vec<_> = servers.iter().filter_map(said).collect();
    if let Some((_, refusal)) = all.iter().find(|(refused, _)| *refused) {
        return Some(Trouble::Unauthorized(refusal.clone()));
    }
    let texts: Vec<_> = all.into_iter().map(|(_, text)| text).collect();
    (!texts.is_empty()).then(|| Trouble::Unreachable(texts.join("; ")))
}

fn shown(server: &ServerAddr) -> String {
    mask_url(server.as_url_str())
}

/// Exponential from the floor to the cap; the upper half is chance, so that a thousand nodes do not come back at once.
fn delay(round: u32) -> Duration {
    let Some(doublings) = round.checked_sub(1) else { return Duration::ZERO };
    let full = MIN_DELAY.saturating_mul(2_u32.saturating_pow(doublings.min(16) + 1)).min(MAX_DELAY);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_from_the_floor_to_the_cap_and_differ() {
        assert_eq!(delay(0), Duration::ZERO);
        for round in 1..100 {
            for _ in 0..20 {
                assert!((MIN_DELAY..=MAX_DELAY).contains(&delay(round)), "{round}");
            }
        }
        assert!(delay(2) >= 2 * MIN_DELAY && delay(u32::MAX) >= MAX_DELAY / 2);
        assert_ne!(delay(10), delay(10));
    }

    #[test]
    fn a_servers_words_are_sorted_into_refusals_denials_and_the_rest() {
        let signals = Signals::new();
        let say = |text: &str| {
            signals.on_event(Event::ServerError(ServerError::Other(text.to_owned())));
        };
        for _ in 0..3 {
            say("Permissions Violation for Publish to \"waypost.msg.a.b\"");
        }
        say("Stale Connection");
        assert_eq!(signals.marks().denied.len(), 1);
        assert_eq!(signals.marks().last_error.as_deref(), Some("Stale Connection"));
        assert_eq!(signals.marks().trouble, None);
        say("User Authentication Expired");
        assert!(matches!(signals.marks().trouble, Some(Trouble::Unauthorized(_))));
        for n in 0..100 {
            say(&format!("Permissions Violation for Subscription to {n}"));
        }
        assert_eq!(signals.marks().denied.len(), MAX_DENIED);
    }
}
