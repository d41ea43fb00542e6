//! The checksum that stands with each message, so that a flipped bit is never delivered: SQLite's own `integrity_check`
//! does not see one in a payload.

use crate::message::{MessageId, TopicId};

/// CRC-32 over `id (16 bytes) | topic (i64, little endian) | length of kind (u32 LE) | kind | length of headers (u32 LE) | headers |
/// encoding (u8) | payload`. `headers` is the text as it stands in the row; a row without headers counts as empty text. The
/// lengths keep a byte from moving unnoticed from one field to the next.
pub(crate) fn row_crc(
    id: MessageId,
    topic: TopicId,
    kind: &str,
    headers: Option<&str>,
    encoding: u8,
    payload: &[u8],
) -> u32 {
    let headers = headers.unwrap_or_default();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&id.to_bytes());
    crc.update(&topic.0.to_le_bytes());
    for text in [kind, headers] {
        // Both are bounded far below 4 GiB; a longer one could only come from a damaged row, which then does not match.
        let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
        crc.update(&bytes.to_le_bytes());
        crc.update(text.as_bytes());
    }
    crc.update(&[encoding]);
    crc.update(payload);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_documented_one() {
        let id = MessageId::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let mut bytes = Vec::from(id.to_bytes());
        bytes.extend(7_i64.to_le_bytes());
        bytes.extend([4, 0, 0, 0]);
        bytes.extend(b"kind");
        bytes.extend([9, 0, 0, 0]);
        bytes.extend(br#"{"a":"b"}"#);
        bytes.push(1);
        bytes.extend(b"payload");
        let crc = row_crc(id, TopicId(7), "kind", Some(r#"{"a":"b"}"#), 1, b"payload");
        assert_eq!(crc, crc32fast::hash(&bytes));
        // Fixed: rows that were written by an older version must go on matching.
        assert_eq!(row_crc(MessageId::ZERO, TopicId(1), "message", None, 0, b"x"), 2_120_376_759);
    }

    #[test]
    fn every_field_and_its_place_counts() {
        let id = MessageId::from_u128(1);
        let all = [
            row_crc(id, TopicId(1), "k", Some("h"), 0, b"p"),
            row_crc(MessageId::from_u128(2), TopicId(1), "k", Some("h"), 0, b"p"),
            row_crc(id, TopicId(2), "k", Some("h"), 0, b"p"),
            row_crc(id, TopicId(1), "K", Some("h"), 0, b"p"),
            row_crc(id, TopicId(1), "k", Some("H"), 0, b"p"),
            row_crc(id, TopicId(1), "k", Some("h"), 1, b"p"),
            row_crc(id, TopicId(1), "k", Some("h"), 0, b"P"),
            row_crc(id, TopicId(1), "kh", Some(""), 0, b"p"),
            row_crc(id, TopicId(1), "", Some("kh"), 0, b"p"),
            row_crc(id, TopicId(1), "k", Some(""), 0, b"hp"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(one), "{at}");
        }
        assert_eq!(
            row_crc(id, TopicId(1), "k", None, 0, b"p"),
            row_crc(id, TopicId(1), "k", Some(""), 0, b"p")
        );
    }
}
