use super::*;
use crate::message::Encoding;
use crate::protocol::election::{Said, State, Term, Version};
use crate::protocol::orders::{Done, Task};
use crate::protocol::report::About;
use proptest::prelude::*;

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

fn messages(bodies: &[&'static [u8]]) -> MessageFrame {
    let message = |(n, body): (usize, &&'static [u8])| FrameMessage {
        id: MessageId::from_u128(n as u128 + 10),
        kind: Kind::default(),
        headers: Headers::from([("a".to_owned(), "b".to_owned())]),
        created_ms: 1,
        ttl_left_ms: Some(2),
        body: Body { encoding: Encoding::Raw, data: Bytes::from_static(body) },
    };
    MessageFrame {
        from: node("alice"),
        to: node("bob"),
        store: StoreId::from_u128(1),
        stream: Stream {
            channel: ChannelName::new("c").expect("a valid name"),
            direct: true,
            lane: Priority::High,
        },
        previous: Some(MessageId::from_u128(9)),
        skipped: 3,
        attempt: 2,
        ack_timeout_ms: 10_000,
        messages: bodies.iter().enumerate().map(message).collect(),
    }
}

fn answer(verdict: Verdict) -> Answer {
    let MessageFrame { from, to, store, stream, .. } = messages(&[]);
    let id = MessageId::from_u128(7);
    Answer { from, to, store, stream, id, last: Some(id), verdict }
}

fn keepalive() -> Keepalive {
    Keepalive {
        from: node("alice"),
        incarnation: Incarnation::from_u128(1),
        store: StoreId::from_u128(2),
        counter: 3,
        session: 1,
        uptime_ms: 4,
        version: "0.1.0".to_owned(),
        host: "ship".to_owned(),
        channels: vec![ChannelPresence {
            name: ChannelName::new("c").expect("a valid name"),
            mode: Mode::Reader,
            age_ms: 5,
            paused: true,
            start: StartAt::SinceMs(6),
        }],
        left: vec![ChannelName::new("d").expect("a valid name")],
        draining: true,
        elects: true,
        goodbye: true,
        rival: Some(Incarnation::from_u128(9)),
    }
}

#[test]
fn what_goes_without_saying_is_not_said() {
    let plain = |created_ms| {
        let mut frame = messages(&[b"x"]);
        frame.messages[0].headers.clear();
        frame.messages[0].id = MessageId::from_u128((7 << 80) + 10);
        frame.messages[0].created_ms = created_ms;
        Frame::Messages(frame)
    };
    let text = |frame: &Frame| String::from_utf8_lossy(&frame.clone().encode()).into_owned();
    let (same, other) = (plain(7), plain(8));
    assert!(!text(&same).contains("kind") && !text(&same).contains("\"at\""), "{}", text(&same));
    assert!(text(&other).contains("\"at\":8"));
    for frame in [same, other] {
        assert_eq!(Frame::decode(&frame.clone().encode()), Ok(frame));
    }
}

/// One frame of each kind, and of each answer.
fn all() -> Vec<Frame> {
    let detail = || "no".to_owned();
    let mut frames = vec![
        Frame::Messages(messages(&[b"one", b"", b"three"])),
        Frame::Keepalive(keepalive()),
        Frame::Hello { nonce: u64::MAX, keepalive: keepalive() },
        Frame::Welcome { nonce: 1, keepalive: keepalive() },
        Frame::Query(Query { from: node("alice"), query: 1, state: false, about: None }),
        Frame::Query(Query {
            from: node("alice"),
            query: 1,
            state: true,
            about: Some(About {
                channel: ChannelName::new("c").expect("a valid name"),
                receivers: vec![node("bob")],
            }),
        }),
    ];
    frames.extend(orders());
    frames.extend(elections());
    for verdict in [
        Verdict::Ack,
        Verdict::Working,
        Verdict::Busy { retry_ms: 5 },
        Verdict::Paused,
        Verdict::NotJoined,
        Verdict::Failed { detail: detail() },
        Verdict::Refused { detail: detail() },
    ] {
        frames.push(Frame::Answer(answer(verdict)));
    }
    frames
}

/// Every task, and both ways in which one ends.
fn orders() -> Vec<Frame> {
    let channel = ChannelName::new("c").expect("a valid name");
    let tasks = [
        Task::Kick,
        Task::KickChannel { channel },
        Task::PurgeQueue,
        Task::PurgeSent,
        Task::PurgeAll,
        Task::Forget { node: node("carol") },
        Task::Drain,
        Task::Readmit,
        Task::Unknown,
    ];
    let order = |task| {
        let incarnation = Some(Incarnation::from_u128(3));
        Frame::Order(Order {
            from: node("hq"),
            to: node("bob"),
            order: u64::MAX,
            incarnation,
            term: Some(Term::ZERO),
            task,
        })
    };
    let outcome =
        |result| Frame::Outcome(Outcome { node: node("bob"), to: node("hq"), order: 1, result });
    let ends = [
        OrderVerdict::Done(Done { purged: 3, ..Done::default() }),
        OrderVerdict::Refused("no".to_owned()),
    ];
    tasks.into_iter().map(order).chain(ends.into_iter().map(outcome)).collect()
}

/// With a state behind the header, and without.
fn elections() -> [Frame; 2] {
    let term = Term::new(7).expect("a term");
    let version = Version { term, rev: 3 };
    let state = State { version, json: b"{\"round\":7}".as_slice().into() };
    let frame = |said| {
        let (from, incarnation) = (node("alice"), Incarnation::from_u128(3));
        Frame::Election(election::Frame { from, incarnation, term, voters: 9, said })
    };
    [frame(Said::State(state)), frame(Said::VoteRequest { version, handoff: None })]
}

#[test]
fn a_task_of_a_newer_version_is_read_as_unknown() {
    let header = br#"{"t":"order","from":"hq","to":"bob","order":1,"task":{"do":"dance","how":[1,{"a":2}]}}"#;
    let mut bytes = b"WP\x01\x00\x00\x00\x00".to_vec();
    bytes.push(header.len() as u8);
    bytes.extend(header);
    let Ok(Frame::Order(order)) = Frame::decode(&bytes.into()) else { panic!("no order") };
    assert_eq!(order.task, Task::Unknown);
}

#[test]
fn frames_survive_the_wire() {
    for frame in all() {
        assert_eq!(Frame::decode(&frame.clone().encode()), Ok(frame));
    }
}

#[test]
fn a_frame_truncated_at_any_byte_is_refused() {
    for frame in all() {
        let bytes = frame.encode();
        for end in 0..bytes.len() {
            assert!(Frame::decode(&bytes.slice(..end)).is_err(), "{end} of {}", bytes.len());
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(Frame::decode(&longer.into()).is_err());
    }
}

#[test]
fn another_version_is_named() {
    let mut bytes = Frame::Keepalive(keepalive()).encode().to_vec();
    bytes[2] = 9;
    assert_eq!(Frame::decode(&bytes.into()), Err(FrameError::Version(9)));
}

#[test]
fn a_header_that_declares_4_gib_is_refused_before_it_is_read() {
    let bytes = Bytes::from_static(b"WP\x01\x00\xff\xff\xff\xff");
    assert_eq!(Frame::decode(&bytes), Err(FrameError::HeaderTooLarge(u32::MAX as usize)));
}

#[test]
fn unknown_fields_of_a_header_are_ignored() {
    let header = br#"{"t":"query","from":"alice","query":1,"colour":"blue"}"#;
    let mut bytes = b"WP\x01\x00\x00\x00\x00".to_vec();
    bytes.push(header.len() as u8);
    bytes.extend(header);
    let query = Query { from: node("alice"), query: 1, state: false, about: None };
    assert_eq!(Frame::decode(&bytes.into()), Ok(Frame::Query(query)));
}

#[test]
fn contents_that_no_node_would_send_are_refused() {
    let refused = |frame: Frame| Frame::decode(&frame.encode()).expect_err("a refusal");
    let mut frame = messages(&[b"one", b"two"]);
    frame.messages.swap(0, 1);
    assert_eq!(refused(Frame::Messages(frame)), FrameError::Content("ids do not increase"));
    let mut frame = messages(&[b"one"]);
    frame.previous = Some(MessageId::from_u128(10));
    assert_eq!(refused(Frame::Messages(frame)), FrameError::Content("ids do not increase"));
    refused(Frame::Messages(messages(&[])));
    let mut frame = messages(&[b"one"]);
    frame.messages[0].headers.insert("a b".to_owned(), String::new());
    refused(Frame::Messages(frame));
    let many = ChannelPresence { ..keepalive().channels[0].clone() };
    refused(Frame::Keepalive(Keepalive { channels: vec![many; MAX_CHANNELS + 1], ..keepalive() }));
    refused(Frame::Keepalive(Keepalive { host: "a\nb".to_owned(), ..keepalive() }));
    refused(Frame::Keepalive(Keepalive { version: "x".repeat(256), ..keepalive() }));
    let detail = "x".repeat(MAX_DETAIL_BYTES + 1);
    let result = OrderVerdict::Refused(detail.clone());
    refused(Frame::Answer(answer(Verdict::Failed { detail })));
    refused(Frame::Outcome(Outcome { node: node("b"), to: node("a"), order: 1, result }));
}

#[test]
fn a_body_longer_than_the_frame_is_refused() {
    let bytes = Frame::Messages(messages(&[b"12345678"])).encode().to_vec();
    let text = String::from_utf8(bytes).expect("a small frame is text");
    for length in ["9", "99999999999999999999", "18446744073709551615"] {
        let lying = text.replace("\"len\":8", &format!("\"len\":{length}"));
        let mut lying = lying.into_bytes();
        let header = lying.len() - PREAMBLE - 8;
        lying[4..8].copy_from_slice(&(header as u32).to_be_bytes());
        assert!(Frame::decode(&lying.into()).is_err(), "{length}");
    }
}

#[test]
fn a_reason_is_cut_between_characters() {
    let text = detail(&"é".repeat(1000));
    assert!(text.len() <= MAX_DETAIL_BYTES && text.chars().all(|c| c == 'é'));
    assert_eq!(detail("short"), "short");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Frame::decode(&bytes.into());
    }

    #[test]
    fn no_change_of_a_true_frame_makes_it_panic(
        which in 0_usize..23,
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = all()[which].clone().encode().to_vec();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let _ = Frame::decode(&bytes.into());
    }
}

#[test]
fn a_header_may_say_what_it_is_in_any_place() {
    let answer = Answer {
        from: NodeId::new("bob").expect("a valid name"),
        to: NodeId::new("alice").expect("a valid name"),
        store: StoreId::from_u128(1),
        stream: Stream::nowhere(),
        id: MessageId::from_u128(2),
        last: None,
        verdict: Verdict::Busy { retry_ms: 5 },
    };
    let bytes = Frame::Answer(answer.clone()).encode();
    let header = std::str::from_utf8(&bytes[PREAMBLE..]).expect("JSON");
    let rest = header.strip_prefix(r#"{"t":"answer","#).expect("it comes first");
    let read = |json: &str| {
        let mut frame = bytes[..PREAMBLE].to_vec();
        frame[4..].copy_from_slice(&(json.len() as u32).to_be_bytes());
        frame.extend_from_slice(json.as_bytes());
        Frame::decode(&frame.into())
    };
    let last = format!(r#"{{{},"t":"answer"}}"#, rest.trim_end_matches('}'));
    assert_eq!(read(&last), Ok(Frame::Answer(answer.clone())));
    assert_eq!(read(header), Ok(Frame::Answer(answer)));
    let silent = header.replace(r#","retry_ms":5"#, "");
    assert!(matches!(read(&silent), Err(FrameError::Header(_))), "{silent}");
}
