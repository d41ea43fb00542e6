//! Names: whatever is taken can stand where it is going to stand.

use waypost::{ChannelName, Kind, MessageId, NewMessage, NodeId, Priority};

use super::frames::framed;

/// Any bytes as every kind of name, and as the value of a header.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let word = |extra: &[u8]| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
    };
    let node = NodeId::new(text);
    assert_eq!(node.is_ok(), word(b"_-"), "a node's name is one word of a subject");
    if let Err(error) = node {
        is_short(&error.to_string());
    }
    let kind = Kind::new(text);
    assert_eq!(kind.is_ok(), word(b"_-./"));
    let channel = ChannelName::new(text);
    let printable = !text.chars().any(char::is_control);
    assert_eq!(channel.is_ok(), printable && (1..=255).contains(&text.len()));
    if let Err(error) = channel {
        is_short(&error.to_string());
    }
    match text.parse::<MessageId>() {
        Ok(id) => {
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(MessageId::from_bytes(id.to_bytes()), id);
        }
        Err(error) => is_short(&error.to_string()),
    }
    if let Err(error) = text.parse::<Priority>() {
        is_short(&error);
    }
    header(text);
    // Builders take anything, and leave the refusal to `send`.
    let _ = NewMessage::text(text).kind(text).to(text).header(text, text);
}

/// As a name and as a value of a header that comes in a frame.
fn header(text: &str) {
    let frame = serde_json::json!({
        "t": "msg", "from": "a", "to": "b", "store": "00000000000000000000000007", "ch": "c", "try": 1, "wait": 1,
        "messages": [{"id": "00000000000000000000000007", "kind": "k", "hdr": {text: text}, "at": 0, "len": 0}],
    });
    let bytes = framed(frame.to_string().as_bytes());
    if let Ok(waypost::protocol::frame::Frame::Messages(frame)) =
        waypost::protocol::frame::Frame::decode(&bytes)
    {
        for (name, value) in &frame.messages[0].headers {
            assert!(!name.is_empty() && name.len() <= 128 && name.is_ascii());
            assert!(!name.chars().chain(value.chars()).any(char::is_control));
        }
    }
}

/// An error may repeat a part of a name, quoted, and never all of an enormous one.
fn is_short(error: &str) {
    assert!(error.len() < 1500 && !error.chars().any(char::is_control), "{error}");
}
