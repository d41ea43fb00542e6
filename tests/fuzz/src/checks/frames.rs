//! Bytes from the network.

use bytes::Bytes;
use waypost::management::Verdict as OrderVerdict;
use waypost::protocol::election::{MAX_STATE_BYTES, Said};
use waypost::protocol::frame::{
    Frame, MAX_CHANNELS, MAX_DETAIL_BYTES, MAX_HEADER_BYTES, MAX_MESSAGES, Verdict,
};
use waypost::{MAX_HEADERS, MessageId};

/// Smaller than a body may declare, so that the refusal of larger ones is met too.
const PAYLOAD_LIMIT: usize = 4096;

/// Bytes that begin as a frame does are taken as they are; others as a header up to a zero byte, and the bodies behind it.
pub fn check(input: &[u8]) {
    if input.starts_with(b"WP") {
        decode(Bytes::copy_from_slice(input));
    } else {
        decode(framed(input));
    }
}

/// The bytes of a frame with this header, up to a zero byte, and the bodies behind it.
pub fn framed(input: &[u8]) -> Bytes {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let bodies = input.get(end + 1..).unwrap_or_default();
    let length = u32::try_from(end).unwrap_or(u32::MAX);
    [b"WP\x01\x00", &length.to_be_bytes()[..], &input[..end], bodies].concat().into()
}

fn decode(bytes: Bytes) {
    let frame = match Frame::decode(&bytes) {
        Ok(frame) => frame,
        Err(error) => {
            // It goes into a log: a stranger must not be able to write there at length, or lines of its own.
            let text = error.to_string();
            assert!(text.len() < 200 && !text.chars().any(char::is_control), "{text}");
            return;
        }
    };
    is_within_bounds(&frame);
    let again = frame.clone().encode();
    assert!(again.len() <= 8 + MAX_HEADER_BYTES * 8 + bytes.len(), "{} bytes", again.len());
    // What it left out may be told at greater length, as a lane by its name; then it is no frame that we would send.
    if again.len() - frame_bodies(&frame) > 8 + MAX_HEADER_BYTES {
        return;
    }
    match Frame::decode(&again) {
        Ok(read) => assert_eq!(read, frame, "what is written reads back"),
        Err(error) => panic!("what is written does not read back: {error}"),
    }
}

fn frame_bodies(frame: &Frame) -> usize {
    match frame {
        Frame::Messages(frame) => frame.messages.iter().map(|m| m.body.data.len()).sum(),
        _ => 0,
    }
}

fn is_within_bounds(frame: &Frame) {
    match frame {
        Frame::Messages(frame) => {
            assert!((1..=MAX_MESSAGES).contains(&frame.messages.len()));
            let mut last = frame.previous.unwrap_or(MessageId::ZERO);
            for (n, message) in frame.messages.iter().enumerate() {
                let grows = message.id > last || (n == 0 && frame.previous.is_none());
                assert!(grows, "ids grow, from the last acknowledged one on");
                last = message.id;
                assert!(message.headers.len() <= MAX_HEADERS);
                if let Ok(payload) = message.body.payload(PAYLOAD_LIMIT) {
                    assert!(payload.len() <= PAYLOAD_LIMIT);
                }
            }
        }
        Frame::Answer(answer) => match &answer.verdict {
            Verdict::Failed { detail } | Verdict::Refused { detail } => {
                assert!(detail.len() <= MAX_DETAIL_BYTES);
            }
            _ => {}
        },
        Frame::Keepalive(keepalive)
        | Frame::Hello { keepalive, .. }
        | Frame::Welcome { keepalive, .. } => {
            assert!(
                keepalive.channels.len() <= MAX_CHANNELS && keepalive.left.len() <= MAX_CHANNELS
            );
            let label = |text: &str| text.len() <= 255 && !text.chars().any(char::is_control);
            assert!(label(&keepalive.host) && label(&keepalive.version));
        }
        Frame::Outcome(outcome) => {
            if let OrderVerdict::Refused(reason) = &outcome.result {
                assert!(reason.len() <= MAX_DETAIL_BYTES);
            }
        }
        Frame::Election(frame) => {
            if let Said::State(state) = &frame.said {
                assert!(state.json.len() <= MAX_STATE_BYTES);
            }
        }
        Frame::Query(_) | Frame::Report(_) | Frame::Order(_) => {}
    }
    assert!((1..=64).contains(&frame.from().as_str().len()));
}
