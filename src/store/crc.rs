//! The checksum that stands with each message, so that a flipped bit is never delivered: SQLite's own `integrity_check`
//! does not see one in a payload.

use crate::message::{MessageId, Priority, StoreId, TopicId};
use crate::protocol::life::Record;

/// A message as it stands in its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub(crate) id: MessageId,
    pub(crate) topic: TopicId,
    pub(crate) seq: i64,
    pub(crate) created_ms: i64,
    pub(crate) expires_ms: Option<i64>,
    pub(crate) kind: &'a str,
    /// The text as it stands in the row; a row without headers counts as empty text.
    pub(crate) headers: Option<&'a str>,
    pub(crate) encoding: u8,
    pub(crate) payload: &'a [u8],
}

impl Stored<'_> {
    /// CRC-32 over `id (16 bytes) | topic | length of kind | kind | length of headers | headers | encoding (u8) | seq | created_ms |
    /// expires_ms, 0 for never | payload`; numbers are i64, lengths u32, all little endian. The lengths keep a byte from moving
    /// unnoticed from one field to the next.
    pub(crate) fn crc(&self) -> u32 {
        self.head()
            .number(self.seq)
            .number(self.created_ms)
            .number(self.expires_ms.unwrap_or(0))
            .end(self.payload)
    }

    /// Whether this is the checksum that stands in the row. Files of before schema 2 have some without seq and times.
    pub(crate) fn fits(&self, crc: i64) -> bool {
        i64::from(self.crc()) == crc || i64::from(self.head().end(self.payload)) == crc
    }

    fn head(&self) -> Seal {
        Seal::new(self.id)
            .number(self.topic.0)
            .text(self.kind)
            .text(self.headers.unwrap_or_default())
            .byte(self.encoding)
    }
}

/// A dead letter as it stands in its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredLetter<'a> {
    pub(crate) id: MessageId,
    pub(crate) receiver: &'a str,
    pub(crate) seq: i64,
    pub(crate) channel: &'a str,
    pub(crate) lane: Priority,
    pub(crate) created_ms: i64,
    pub(crate) kind: &'a str,
    pub(crate) headers: Option<&'a str>,
    pub(crate) encoding: u8,
    pub(crate) payload: &'a [u8],
}

impl StoredLetter<'_> {
    /// CRC-32 over the fields in their order, written as those of [`Stored::crc`].
    pub(crate) fn crc(&self) -> u32 {
        Seal::new(self.id)
            .text(self.receiver)
            .number(self.seq)
            .text(self.channel)
            .number(i64::try_from(self.lane.index()).expect("one of three"))
            .number(self.created_ms)
            .text(self.kind)
            .text(self.headers.unwrap_or_default())
            .byte(self.encoding)
            .end(self.payload)
    }
}

/// Up to where a sender's messages are done with, as it stands in its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredInbox<'a> {
    pub(crate) last_id: MessageId,
    pub(crate) sender: &'a str,
    pub(crate) channel: &'a str,
    pub(crate) direct: bool,
    pub(crate) lane: Priority,
    pub(crate) store_id: StoreId,
}

impl StoredInbox<'_> {
    /// CRC-32 over the fields in their order, written as those of [`Stored::crc`].
    pub(crate) fn crc(&self) -> u32 {
        Seal::new(self.last_id)
            .text(self.sender)
            .text(self.channel)
            .byte(u8::from(self.direct))
            .number(i64::try_from(self.lane.index()).expect("one of three"))
            .end(&self.store_id.to_bytes())
    }
}

/// What a node has promised in elections, as it stands in its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredElection<'a> {
    pub(crate) term: u64,
    pub(crate) vote: Option<&'a str>,
    pub(crate) state_term: u64,
    pub(crate) state_rev: u64,
    pub(crate) state: &'a [u8],
}

impl StoredElection<'_> {
    /// CRC-32 over the fields in their order, written as those of [`Stored::crc`], after 16 zeros; no vote as an empty text.
    pub(crate) fn crc(&self) -> u32 {
        // Terms and revisions are far below where an i64 ends.
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Seal::new(MessageId::ZERO)
            .number(number(self.term))
            .text(self.vote.unwrap_or_default())
            .number(number(self.state_term))
            .number(number(self.state_rev))
            .end(self.state)
    }
}

/// The highest fencing token of a resource, as it stands in its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredFence<'a> {
    pub(crate) resource: &'a str,
    pub(crate) term: u64,
    pub(crate) node: &'a str,
}

impl StoredFence<'_> {
    /// CRC-32 over the fields in their order, written as those of [`Stored::crc`], after 16 zeros.
    pub(crate) fn crc(&self) -> u32 {
        Seal::new(MessageId::ZERO)
            .text(self.resource)
            .number(i64::try_from(self.term).unwrap_or(i64::MAX))
            .end(self.node.as_bytes())
    }
}

/// What the file remembers of its clock, as it stands in its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredClock<'a>(pub(crate) &'a Record);

impl StoredClock<'_> {
    /// CRC-32 over the row's numbers in their order, written as those of [`Stored::crc`], after 16 zeros; what is not known as -1.
    pub(crate) fn crc(&self) -> u32 {
        let Record { base_ms, base_up_ms, seen_ms, seen, synchronised_ms } = self.0;
        let machine = seen.machine;
        let known = |hash: Option<u64>| hash.unwrap_or(u64::MAX);
        let numbers = [*base_ms, *base_up_ms, *seen_ms, seen.up_ms, seen.wall_ms, *synchronised_ms];
        let hashes = [known(machine.host), known(machine.boot), machine.time_namespace];
        let seal = Seal::new(MessageId::ZERO).byte(seen.trust.number());
        let seal = numbers
            .iter()
            .chain(&hashes)
            .fold(seal, |seal, number| seal.number(i64::from_le_bytes(number.to_le_bytes())));
        seal.end(&[])
    }
}

/// A checksum that is being made.
struct Seal(crc32fast::Hasher);

impl Seal {
    fn new(id: MessageId) -> Self {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&id.to_bytes());
        Self(crc)
    }

    fn number(mut self, number: i64) -> Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    fn byte(mut self, byte: u8) -> Self {
        self.0.update(&[byte]);
        self
    }

    fn text(mut self, text: &str) -> Self {
        // All texts are bounded far below 4 GiB; a longer one could only come from a damaged row, which then does not match.
        let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.0.update(&bytes.to_le_bytes());
        self.0.update(text.as_bytes());
        self
    }

    fn end(mut self, payload: &[u8]) -> u32 {
        self.0.update(payload);
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Stored<'static> {
        Stored {
            id: MessageId::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
            topic: TopicId(7),
            seq: 8,
            created_ms: 9,
            expires_ms: Some(10),
            kind: "kind",
            headers: Some(r#"{"a":"b"}"#),
            encoding: 1,
            payload: b"payload",
        }
    }

    fn letter() -> StoredLetter<'static> {
        let Stored { id, seq, created_ms, kind, headers, encoding, payload, .. } = stored();
        let (receiver, channel) = ("bob", "work");
        let lane = Priority::Normal;
        StoredLetter {
            id,
            receiver,
            seq,
            channel,
            lane,
            created_ms,
            kind,
            headers,
            encoding,
            payload,
        }
    }

    #[test]
    fn the_checksum_is_the_documented_one() {
        let mut bytes = Vec::from(stored().id.to_bytes());
        bytes.extend(7_i64.to_le_bytes());
        bytes.extend([4, 0, 0, 0]);
        bytes.extend(b"kind");
        bytes.extend([9, 0, 0, 0]);
        bytes.extend(br#"{"a":"b"}"#);
        bytes.push(1);
        let mut old = bytes.clone();
        old.extend(b"payload");
        bytes.extend([8, 9, 10].map(i64::to_le_bytes).concat());
        bytes.extend(b"payload");
        assert_eq!(stored().crc(), crc32fast::hash(&bytes));
        assert!(stored().fits(i64::from(crc32fast::hash(&old))), "as before schema 2");
        assert!(!stored().fits(0));
        let bare = Stored {
            id: MessageId::ZERO,
            topic: TopicId(1),
            kind: "message",
            headers: None,
            encoding: 0,
            payload: b"x",
            ..stored()
        };
        // Fixed: rows that were written by an older version must go on matching.
        assert!(bare.fits(2_120_376_759));
    }

    #[test]
    fn every_field_and_its_place_counts() {
        let one = stored();
        let all = [
            one,
            Stored { id: MessageId::from_u128(2), ..one },
            Stored { topic: TopicId(2), ..one },
            Stored { seq: 2, ..one },
            Stored { created_ms: 2, ..one },
            Stored { expires_ms: Some(2), ..one },
            Stored { expires_ms: None, ..one },
            Stored { kind: "K", ..one },
            Stored { headers: Some("H"), ..one },
            Stored { headers: None, ..one },
            Stored { encoding: 0, ..one },
            Stored { payload: b"P", ..one },
            Stored { kind: r#"kind{"a":"b"}"#, headers: Some(""), ..one },
            Stored { kind: "", headers: Some(r#"kind{"a":"b"}"#), ..one },
        ]
        .map(|stored| stored.crc());
        assert_all_differ(&all);
        assert_eq!(
            Stored { headers: None, ..one }.crc(),
            Stored { headers: Some(""), ..one }.crc()
        );
    }

    #[test]
    fn every_field_of_a_dead_letter_counts() {
        let one = letter();
        let all = [
            one,
            StoredLetter { id: MessageId::from_u128(2), ..one },
            StoredLetter { receiver: "bobw", channel: "ork", ..one },
            StoredLetter { receiver: "rob", ..one },
            StoredLetter { seq: 2, ..one },
            StoredLetter { channel: "walk", ..one },
            StoredLetter { lane: Priority::Low, ..one },
            StoredLetter { created_ms: 2, ..one },
            StoredLetter { kind: "K", ..one },
            StoredLetter { headers: None, ..one },
            StoredLetter { encoding: 0, ..one },
            StoredLetter { payload: b"P", ..one },
        ]
        .map(|letter| letter.crc());
        assert_all_differ(&all);
    }

    #[test]
    fn every_field_of_an_election_counts() {
        let one =
            StoredElection { term: 7, vote: Some("a"), state_term: 6, state_rev: 5, state: b"{}" };
        let all = [
            one,
            StoredElection { term: 8, ..one },
            StoredElection { vote: Some("b"), ..one },
            StoredElection { vote: None, ..one },
            StoredElection { state_term: 7, ..one },
            StoredElection { state_rev: 6, ..one },
            StoredElection { state: b"[]", ..one },
        ];
        assert_all_differ(&all.map(|stored| stored.crc()));
    }

    fn assert_all_differ(all: &[u32]) {
        for (at, one) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(one), "{at}");
        }
    }
}
