//! Proof that subscriptions are live: a token that we publish to ourselves, after them, on the same connection.
//!
//! A server works a connection off in order, so that the token's return shows everything before it done. Nothing else
//! does: neither the client's state nor its `flush`.

use std::time::{Duration, Instant};

use bytes::Bytes;

/// No frame begins with a zero byte.
const MAGIC: &[u8; 14] = b"\0waypost-echo\0";
/// A token that has not come back after this time is sent again.
const RETRY: Duration = Duration::from_millis(500);
/// Tokens whose time of sending is remembered. A return that takes longer than all their retries measures no time.
const MAX_SENT: usize = 32;

/// A token as it stands in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    client: u128,
    connection: u64,
    number: u64,
}

/// The tokens of one client.
pub(super) struct Echo {
    /// Tells our tokens from those of another process with our name.
    client: u128,
    connection: u64,
    next_number: u64,
    sent: Vec<(u64, Instant)>,
}

impl Echo {
    pub(super) fn new() -> Self {
        Self { client: fastrand::u128(..), connection: 0, next_number: 0, sent: Vec::new() }
    }

    /// A new connection: what was sent on an earlier one proves nothing any more.
    pub(super) fn restart(&mut self, connection: u64) {
        self.connection = connection;
        self.sent.clear();
    }

    /// Whether it is time for a token.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.sent.last().is_none_or(|(_, sent)| now.duration_since(*sent) >= RETRY)
    }

    /// The next token, to be published now.
    pub(super) fn send(&mut self, now: Instant) -> Token {
        let number = self.next_number;
        self.next_number += 1;
        if self.sent.len() == MAX_SENT {
            self.sent.remove(0);
        }
        self.sent.push((number, now));
        Token { client: self.client, connection: self.connection, number }
    }

    /// How long the token was under way; `None` if it proves nothing about this connection.
    pub(super) fn returned(&self, token: Token, now: Instant) -> Option<Duration> {
        let ours = token.client == self.client && token.connection == self.connection;
        let (_, sent) = self.sent.iter().find(|(number, _)| ours && *number == token.number)?;
        Some(now.duration_since(*sent))
    }
}

impl Token {
    pub(super) fn to_bytes(self) -> Bytes {
        let mut bytes = Vec::with_capacity(MAGIC.len() + 32);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.client.to_be_bytes());
        bytes.extend_from_slice(&self.connection.to_be_bytes());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.into()
    }

    /// `None` for anything else.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (client, rest) = rest.split_first_chunk()?;
        let (connection, rest) = rest.split_first_chunk()?;
        let number = rest.try_into().ok()?;
        Some(Self {
            client: u128::from_be_bytes(*client),
            connection: u64::from_be_bytes(*connection),
            number: u64::from_be_bytes(number),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_of_this_connection_proves_it() {
        let now = Instant::now();
        let mut echo = Echo::new();
        echo.restart(1);
        assert!(echo.is_due(now));
        let first = echo.send(now);
        assert!(!echo.is_due(now) && echo.is_due(now + RETRY));
        let again = echo.send(now + RETRY);
        assert_ne!(first, again);
        let back = Token::read(&first.to_bytes()).expect("a token");
        assert_eq!(echo.returned(back, now + RETRY), Some(RETRY));
        echo.restart(2);
        assert_eq!(echo.returned(first, now), None);
        assert!(echo.is_due(now));
        let foreign = Echo::new().send(now);
        assert_eq!(echo.returned(foreign, now), None);
    }

    #[test]
    fn what_is_no_token_is_not_read_as_one() {
        let token = Echo::new().send(Instant::now()).to_bytes();
        for end in 0..token.len() {
            assert_eq!(Token::read(&token[..end]), None);
        }
        assert_eq!(Token::read(&[&token[..], b"x"].concat()), None);
    }
}
