//! Frames to bytes and back.

use std::hint::black_box;

use bytes::Bytes;
use waypost::protocol::Body;
use waypost::protocol::frame::{Answer, Frame, FrameMessage, MessageFrame, Stream, Verdict};
use waypost::{ChannelName, Headers, Kind, MessageId, NodeId, Priority, StoreId};

use crate::meter::{Case, Meter};
use crate::{PAYLOAD_BYTES, noise};

const MIB: usize = 1024 * 1024;
const TEXT_BYTES: usize = 64 * 1024;

pub(crate) fn measure(meter: &mut impl Meter) {
    let (small, large) = (Body::new(noise(PAYLOAD_BYTES)), Body::new(noise(MIB)));
    let text = Body::new(readings(TEXT_BYTES));
    assert!(text.clone().compressed().data.len() < TEXT_BYTES / 2, "it compresses well");
    both(meter, "one message of 256 bytes", 1, &messages(1, &small));
    both(meter, "256 messages of 256 bytes", 256, &messages(256, &small));
    both(meter, "one message of 1 MiB", 1, &messages(1, &large));
    both(meter, "an acknowledgement", 1, &acknowledgement());
    compressed(meter, &text);
    let in_vain = Case::one("compress", "256 bytes in vain");
    meter.measure(in_vain, || small.clone(), Body::compressed);
}

fn both(meter: &mut impl Meter, name: &'static str, messages: u64, frame: &Frame) {
    let case = |group| match frame {
        Frame::Messages(_) => Case::large(group, name, messages),
        _ => Case::one(group, name),
    };
    meter.measure(case("encode"), || frame.clone(), Frame::encode);
    let bytes = frame.clone().encode();
    assert_eq!(Frame::decode(&bytes).as_ref(), Ok(frame));
    meter.measure(case("decode"), || bytes.clone(), |bytes| Frame::decode(&bytes));
}

/// As a sender compresses at `send`, and the receiver's handler gets the payload.
fn compressed(meter: &mut impl Meter, text: &Body) {
    let name = "one message of 64 KiB of text, compressed";
    let frame = |body: Body| messages(1, &body.compressed());
    let encode = |body| frame(body).encode();
    meter.measure(Case::large("encode", name, 1), || text.clone(), encode);
    let bytes = frame(text.clone()).encode();
    let decode = |bytes: Bytes| {
        let Ok(Frame::Messages(frame)) = Frame::decode(&bytes) else {
            unreachable!("these bytes are a frame of messages");
        };
        let payload = frame.messages[0].body.payload(MIB).expect("below the limit");
        black_box(payload.len());
        (frame, payload)
    };
    meter.measure(Case::large("decode", name, 1), || bytes.clone(), decode);
}

fn messages(count: u64, body: &Body) -> Frame {
    let messages = (1..=count).map(|seq| FrameMessage {
        id: id(seq),
        kind: Kind::default(),
        headers: Headers::new(),
        created_ms: CREATED_MS,
        ttl_left_ms: Some(86_400_000),
        body: body.clone(),
    });
    Frame::Messages(MessageFrame {
        from: node("alice"),
        to: node("bob"),
        store: STORE,
        stream: stream(),
        previous: Some(id(0)),
        skipped: 0,
        attempt: 1,
        ack_timeout_ms: 10_000,
        messages: messages.collect(),
    })
}

fn acknowledgement() -> Frame {
    Frame::Answer(Answer {
        from: node("bob"),
        to: node("alice"),
        store: STORE,
        stream: stream(),
        id: id(1),
        last: Some(id(1)),
        verdict: Verdict::Ack,
    })
}

const CREATED_MS: u64 = 1_800_000_000_000;
pub(crate) const STORE: StoreId = StoreId::from_u128((CREATED_MS as u128) << 80 | 0x5703);

/// The id of the message at this place of a log.
pub(crate) fn id(seq: u64) -> MessageId {
    MessageId::from_u128(u128::from(CREATED_MS) << 80 | u128::from(seq))
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

pub(crate) fn stream() -> Stream {
    let channel = ChannelName::new("readings").expect("a valid name");
    Stream { channel, direct: false, lane: Priority::Normal }
}

/// JSON as devices send it: the same names again and again, and other numbers.
fn readings(bytes: usize) -> Bytes {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut text = String::from("[");
    while text.len() < bytes {
        let (pump, pressure) = (rng.u8(1..9), rng.u32(10_000..99_999));
        text.push_str(&format!(r#"{{"device":"pump-{pump}","pressure_pa":{pressure}}},"#));
    }
    text.truncate(bytes);
    text.into()
}
