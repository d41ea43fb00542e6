//! Proof that subscriptions are live, and that the link still is: a token that we publish to ourselves, after them, on the same connection.
//!
//! A server works a connection off in order, so that the token's return shows everything before it done. Nothing else
//! does: neither the client's state nor its `flush`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// No frame begins with a zero byte.
const MAGIC: &[u8; 5] = b"\0echo";
/// A token that has not come back after this time is sent again.
const RETRY: Duration = Duration::from_millis(500);
/// Tokens whose time of sending is remembered. A return that takes longer than all their retries proves nothing.
const MAX_SENT: usize = 32;

/// A token as it stands in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    client: u64,
    connection: u64,
    number: u64,
}

/// The tokens of one client.
pub(super) struct Echo {
    /// Tells our tokens from those of another process with our name.
    client: u64,
    connection: u64,
    next_number: u64,
    /// Without an answer, the oldest first.
    sent: VecDeque<Sent>,
    /// Our last broadcast: it comes back as well.
    broadcast: Option<(Bytes, Instant)>,
}

/// A token that has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    number: u64,
    pub(super) at: Instant,
    /// How many frames the client had been given, this one included.
    pub(super) handed: u64,
}

impl Echo {
    pub(super) fn new() -> Self {
        Self {
            client: fastrand::u64(..),
            connection: 0,
            next_number: 0,
            sent: VecDeque::new(),
            broadcast: None,
        }
    }

    /// A new connection: what was sent on an earlier one proves nothing any more.
    pub(super) fn restart(&mut self, connection: u64) {
        self.connection = connection;
        self.sent.clear();
        self.broadcast = None;
    }

    /// Whether it is time for a token.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.newest().is_none_or(|sent| now.duration_since(sent) >= RETRY)
    }

    /// When the oldest token left that has no answer.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.sent.front().map(|sent| sent.at)
    }

    /// When the newest token left that has no answer.
    pub(super) fn newest(&self) -> Option<Instant> {
        self.sent.back().map(|sent| sent.at)
    }

    /// The next token, to be published now as the so-manyth frame.
    pub(super) fn send(&mut self, at: Instant, handed: u64) -> Token {
        let number = self.next_number;
        self.next_number += 1;
        if self.sent.len() == MAX_SENT {
            // The oldest keeps its place: how long it has been waited for counts.
            self.sent.remove(1);
        }
        self.sent.push_back(Sent { number, at, handed });
        Token { client: self.client, connection: self.connection, number }
    }

    /// The token that came back, whose sending it proves, and that of all before it; `None` if it proves nothing about this connection.
    pub(super) fn returned(&mut self, token: Token) -> Option<Sent> {
        let ours = token.client == self.client && token.connection == self.connection;
        let place = self.sent.iter().position(|sent| ours && sent.number == token.number)?;
        self.sent.drain(..=place).next_back()
    }

    /// A frame leaves that the server sends to us as well.
    pub(super) fn broadcast(&mut self, frame: Bytes, at: Instant) {
        self.broadcast = Some((frame, at));
    }

    /// When our last broadcast left, if this is it.
    pub(super) fn broadcast_came(&mut self, frame: &Bytes) -> Option<Instant> {
        self.broadcast.take_if(|(own, _)| own == frame).map(|(_, at)| at)
    }
}

impl Token {
    pub(super) fn to_bytes(self) -> Bytes {
        let mut bytes = Vec::with_capacity(MAGIC.len() + 24);
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
            client: u64::from_be_bytes(*client),
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
        let first = echo.send(now, 1);
        assert!(!echo.is_due(now) && echo.is_due(now + RETRY));
        let again = echo.send(now + RETRY, 2);
        assert_ne!(first, again);
        let back = Token::read(&first.to_bytes()).expect("a token");
        assert_eq!(echo.returned(back).expect("ours").at, now);
        assert_eq!(echo.returned(back), None);
        assert_eq!(echo.oldest(), Some(now + RETRY));
        echo.restart(2);
        assert_eq!(echo.returned(again), None);
        assert!(echo.is_due(now));
        let foreign = Echo::new().send(now, 1);
        assert_eq!(echo.returned(foreign), None);
    }

    #[test]
    fn a_token_proves_those_before_it_and_the_oldest_is_remembered() {
        let now = Instant::now();
        let mut echo = Echo::new();
        let tokens: Vec<_> = (0..100).map(|n| echo.send(now + n * RETRY, 0)).collect();
        assert_eq!((echo.sent.len(), echo.oldest()), (MAX_SENT, Some(now)));
        assert!(echo.returned(tokens[98]).is_some());
        assert_eq!((echo.oldest(), echo.sent.len()), (Some(now + 99 * RETRY), 1));
        let frame = Bytes::from_static(b"k");
        echo.broadcast(frame.clone(), now);
        assert_eq!(echo.broadcast_came(&Bytes::from_static(b"another's")), None);
        assert_eq!((echo.broadcast_came(&frame), echo.broadcast_came(&frame)), (Some(now), None));
    }

    #[test]
    fn what_is_no_token_is_not_read_as_one() {
        let token = Echo::new().send(Instant::now(), 1).to_bytes();
        for end in 0..token.len() {
            assert_eq!(Token::read(&token[..end]), None);
        }
        assert_eq!(Token::read(&[&token[..], b"x"].concat()), None);
    }
}
