use proptest::prelude::*;
use serde_json::json;

use super::*;

const NAMES: [&str; 3] = ["alice", "bob", "carol"];

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a name")
}

fn id(number: u64) -> MessageId {
    MessageId::from_u128(u128::from(number) << 80)
}

fn key(sender: &str, number: u64) -> Key {
    Key { id: id(number), sender: node(sender) }
}

fn event(sender: &str, number: u64, change: &Change) -> Event {
    let (kind, body) = change.encode().expect("JSON");
    Event { sender: node(sender), id: id(number), kind: kind.to_owned(), to: None, body, seq: 0 }
}

fn raw(sender: &str, number: u64, kind: &str, body: impl Into<Vec<u8>>) -> Event {
    let kind = kind.to_owned();
    Event { sender: node(sender), id: id(number), kind, to: None, body: body.into(), seq: 0 }
}

fn text(text: &str) -> Change {
    Change::Text(text.to_owned())
}

fn edit(number: u64, text: &str) -> Change {
    Change::Edit { target: id(number), text: text.to_owned() }
}

fn react(target: Key, emoji: &str, on: bool) -> Change {
    Change::React { target, emoji: emoji.to_owned(), on }
}

fn room(events: &[Event]) -> Room {
    let mut room = Room::new(100);
    for event in events {
        // What is refused is counted, and compared.
        let _ = room.handle(event);
    }
    room
}

fn only(room: &Room) -> Post {
    let mut view = room.view();
    assert_eq!(view.len(), 1);
    view.remove(0)
}

#[test]
fn an_edit_that_comes_before_its_message_waits_for_it() {
    let mut room = room(&[event("alice", 2, &edit(1, "better"))]);
    assert!(room.view().is_empty());
    let applied = room.handle(&event("alice", 1, &text("good")));
    assert_eq!(applied, Ok(Applied::New(key("alice", 1))));
    let post = only(&room);
    assert_eq!((post.content, post.edited), (Content::Text("better".to_owned()), true));
}

#[test]
fn only_the_author_edits_or_deletes() {
    let room = room(&[
        event("alice", 1, &text("mine")),
        event("bob", 2, &edit(1, "not yours")),
        event("bob", 3, &Change::Delete { target: id(1) }),
    ]);
    let post = only(&room);
    assert_eq!((post.content, post.edited), (Content::Text("mine".to_owned()), false));
}

#[test]
fn the_latest_edit_stays_and_a_deletion_is_for_good() {
    let first = event("alice", 1, &text("one"));
    let edits = [event("alice", 3, &edit(1, "three")), event("alice", 2, &edit(1, "two"))];
    let mut room = room(&[first, edits[0].clone(), edits[1].clone()]);
    assert_eq!(only(&room).content, Content::Text("three".to_owned()));
    room.handle(&event("bob", 4, &react(key("alice", 1), "👍", true))).expect("a reaction");
    room.handle(&event("alice", 5, &Change::Delete { target: id(1) })).expect("a deletion");
    room.handle(&event("alice", 6, &edit(1, "back"))).expect("an edit");
    let post = only(&room);
    assert_eq!(post.content, Content::Deleted);
    assert!(post.reactions.is_empty() && !post.edited);
}

#[test]
fn reactions_come_and_go_and_read_marks_only_go_on() {
    let mut room = room(&[
        event("alice", 1, &text("hello")),
        event("bob", 2, &react(key("alice", 1), "👍", true)),
        event("carol", 2, &react(key("alice", 1), "👍", true)),
        event("bob", 3, &react(key("alice", 1), "👍", false)),
        event("bob", 4, &Change::Read([(node("alice"), id(1))].into())),
        event("bob", 5, &Change::Read([(node("alice"), id(0))].into())),
    ]);
    let post = only(&room);
    assert_eq!(post.reactions, [("👍".to_owned(), vec![node("carol")])].into());
    assert_eq!(post.read_by, [node("bob")]);
    room.handle(&event("alice", 9, &text("more"))).expect("a text");
    assert!(room.view()[1].read_by.is_empty());
}

#[test]
fn what_is_no_part_of_the_protocol_is_counted_and_changes_nothing() {
    let long = "x".repeat(MAX_TEXT_BYTES + 1);
    let mut events = vec![raw("bob", 1, "chat.poll", "{}"), raw("bob", 1, "image/png", [0xff])];
    let unknown = events.len() as u64;
    for (kind, body) in [
        ("chat.text", b"{\"text\": 7}".to_vec()),
        ("chat.text", b"not JSON".to_vec()),
        ("chat.text", vec![0xff, 0xfe]),
        ("chat.text", b"[".repeat(50_000)),
        ("chat.text", json!({ "text": long }).to_string().into_bytes()),
        ("chat.text", json!({ "text": " \n " }).to_string().into_bytes()),
        ("message", long.clone().into_bytes()),
        ("message", vec![b'x'; 1_000_000]),
        ("message", vec![0xc3, 0x28]),
        ("chat.edit", json!({ "id": id(9), "text": "from the future" }).to_string().into_bytes()),
        ("chat.delete", json!({ "id": "no id" }).to_string().into_bytes()),
        (
            "chat.reaction",
            json!({ "sender": "a.b", "id": id(1), "emoji": "x", "on": true })
                .to_string()
                .into_bytes(),
        ),
        (
            "chat.reaction",
            json!({ "sender": "bob", "id": id(1), "emoji": "a b", "on": true })
                .to_string()
                .into_bytes(),
        ),
        (
            "chat.file",
            json!({ "name": "../../etc/passwd", "size": 1, "type": "text/plain" })
                .to_string()
                .into_bytes(),
        ),
        ("chat.file", json!({ "name": "x", "size": -1, "type": "x" }).to_string().into_bytes()),
        ("chat.read", b"{\"upto\": {}}".to_vec()),
    ] {
        events.push(raw("bob", 5, kind, body));
    }
    let malformed = events.len() as u64 - unknown;
    let room = room(&events);
    assert!(room.view().is_empty());
    assert_eq!(room.ignored(), Ignored { unknown, malformed });
}

#[test]
fn hostile_text_is_just_text() {
    for hostile in ["<img src=x onerror=alert(1)>", "\u{1b}[2J", "\u{202e}gnp.exe", "👩‍👩‍👧‍👦", "a\0b"]
    {
        let room = room(&[event("bob", 1, &text(hostile)), raw("bob", 2, "message", hostile)]);
        let texts = room.view().into_iter().map(|post| post.content).collect::<Vec<_>>();
        assert_eq!(texts, vec![Content::Text(hostile.to_owned()); 2]);
    }
}

#[test]
fn a_full_room_shows_the_newest_whatever_came_last() {
    let mut room = Room::new(3);
    for number in [5, 1, 4, 2, 3] {
        room.handle(&event("bob", number, &text("x"))).expect("a text");
    }
    let shown = room.view().into_iter().map(|post| post.key.id).collect::<Vec<_>>();
    assert_eq!(shown, [id(3), id(4), id(5)]);
}

#[test]
fn a_clock_that_is_ahead_pushes_nothing_out() {
    let mut room = Room::new(3);
    let say = |number: u64, seq: u64| Event { seq, ..event("bob", number, &text("x")) };
    for (number, seq) in [(900, 1), (901, 2), (902, 3), (5, 4), (6, 5)] {
        let applied = room.handle(&say(number, seq));
        assert!(matches!(applied, Ok(Applied::New(_))), "{number}");
    }
    let shown = |posts: Vec<Post>| posts.into_iter().map(|post| post.key.id).collect::<Vec<_>>();
    assert_eq!(shown(room.view()), [id(5), id(6), id(902)], "what came last, by their ids");
    assert_eq!(shown(room.last(2)), [id(5), id(6)]);
}

#[test]
fn what_goes_to_one_node_says_nothing_about_what_went_to_all() {
    let direct = |number: u64, change: &Change| Event {
        to: Some(node("carol")),
        ..event("alice", number, change)
    };
    let delete = |target| Change::Delete { target: id(target) };
    for first in [true, false] {
        let mut events = vec![
            event("alice", 1, &text("to all")),
            direct(2, &text("to carol")),
            direct(3, &delete(1)),
        ];
        events.push(event("alice", 4, &delete(2)));
        if !first {
            events.reverse();
        }
        let contents: Vec<_> = room(&events).view().into_iter().map(|post| post.content).collect();
        let texts = ["to all", "to carol"].map(|text| Content::Text(text.to_owned()));
        assert_eq!(contents, texts);
    }
}

#[test]
fn a_direct_message_is_read_by_the_one_that_it_is_for() {
    let to_carol = Event { to: Some(node("carol")), ..event("alice", 5, &text("secret")) };
    let read = |reader, number, to: Option<&str>| {
        let mark = Change::Read([(node("alice"), id(9))].into());
        Event { to: to.map(node), ..event(reader, number, &mark) }
    };
    let mut room = room(&[to_carol, read("bob", 10, None), read("carol", 10, None)]);
    assert!(only(&room).read_by.is_empty(), "they have read what was said to all");
    room.handle(&read("carol", 11, Some("alice"))).expect("a mark");
    assert_eq!(only(&room).read_by, [node("carol")]);
}

#[test]
fn strangers_cannot_pile_up_notes() {
    let mut room = Room::new(10);
    let long = "x".repeat(MAX_TEXT_BYTES);
    room.handle(&event("a", 1, &text("here"))).expect("a text");
    for number in 1..3000 {
        room.handle(&event("bob", number + 1, &edit(number, &long))).expect("an edit");
        let target = key("nobody", number);
        room.handle(&event("bob", number + 1, &react(target, "x", true))).expect("a reaction");
        let emoji = format!("e{number}");
        let (few, many) = (format!("n{}", number % 3), format!("m{number}"));
        for name in [&few, &many] {
            let reaction = react(key("a", 1), &emoji, true);
            room.handle(&event(name, number, &reaction)).expect("a reaction");
        }
    }
    let (count, bytes) = room.waiting.size();
    assert!(count <= 1024 && bytes <= 1024 * 1024, "{count} {bytes}");
    let reactions = only(&room).reactions;
    assert_eq!(reactions.values().map(Vec::len).sum::<usize>(), MAX_REACTIONS);
    let of = |name: &str| reactions.values().filter(|by| by.contains(&node(name))).count();
    assert!(["n0", "n1", "n2"].into_iter().all(|name| of(name) <= MAX_OWN_REACTIONS));
}

/// What the senders do, each event with a number of its own, some for one node alone; targets are earlier or later events of anybody.
pub(crate) fn changes() -> impl Strategy<Value = Vec<Vec<Event>>> {
    let one = (0..7u8, 0..3usize, 1..40u64, "[a-c]{1,2}", any::<bool>());
    prop::collection::vec(prop::collection::vec(one, 0..12), 3).prop_map(|senders| {
        senders
            .into_iter()
            .enumerate()
            .map(|(sender, what)| {
                let name = NAMES[sender];
                what.into_iter()
                    .enumerate()
                    .map(|(at, (kind, whom, target, word, on))| {
                        let number = at as u64 * 3 + sender as u64 + 1;
                        let change = match kind {
                            0 | 1 => text(&word),
                            2 => edit(target, &word),
                            3 => Change::Delete { target: id(target) },
                            4 => react(key(NAMES[whom], target), &word, on),
                            5 => Change::Read([(node(NAMES[whom]), id(target))].into()),
                            _ => return raw(name, number, "chat.text", word.into_bytes()),
                        };
                        // The parity of the word decides, so that changes and messages fit now and then.
                        let to = (word.len() == 2).then(|| node("dora"));
                        Event { to, ..event(name, number, &change) }
                    })
                    .collect()
            })
            .collect()
    })
}

/// One order in which the senders' events can arrive: each sender's own in order.
fn interleaved(senders: &[Vec<Event>], choices: &[usize]) -> Vec<Event> {
    let mut queues: Vec<_> = senders.iter().map(|events| events.iter()).collect();
    let mut order = Vec::new();
    let mut choices = choices.iter().cycle();
    while queues.iter().any(|queue| !queue.as_slice().is_empty()) {
        let choice = choices.next().copied().unwrap_or(0);
        let count = queues.len();
        let next = (0..count).find_map(|at| queues[(choice + at) % count].next());
        order.extend(next.cloned());
    }
    order
}

proptest! {
    #[test]
    fn every_interleaving_gives_the_same_view(
        senders in changes(), choices in prop::collection::vec(0..3usize, 40), limit in 1..30usize,
    ) {
        let one_after_the_other = senders.concat();
        let (mut first, mut second) = (Room::new(limit), Room::new(limit));
        for event in &one_after_the_other { let _ = first.handle(event); }
        for event in &interleaved(&senders, &choices) { let _ = second.handle(event); }
        prop_assert_eq!(first.view(), second.view());
        prop_assert_eq!(first.ignored(), second.ignored());
    }

    /// More than is asked for: messages to one node and to all have orders of their own, so that a sender's can overtake.
    #[test]
    fn every_order_gives_the_same_view(
        senders in changes(), seed in any::<u64>(), limit in 1..30usize,
    ) {
        let events = senders.concat();
        let mut shuffled = events.clone();
        fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
        let (mut first, mut second) = (Room::new(limit), Room::new(limit));
        for event in &events { let _ = first.handle(event); }
        for event in &shuffled { let _ = second.handle(event); }
        prop_assert_eq!(first.view(), second.view());
    }

    #[test]
    fn duplicates_change_nothing(
        senders in changes(), choices in prop::collection::vec(0..3usize, 40), seed in any::<u64>(),
    ) {
        let order = interleaved(&senders, &choices);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut repeated = Room::new(30);
        for (at, event) in order.iter().enumerate() {
            let _ = repeated.handle(event);
            let again = &order[random.usize(..=at)];
            if let Ok(applied) = repeated.handle(again) {
                prop_assert_eq!(applied, Applied::Nothing);
            }
        }
        let mut once = Room::new(30);
        for event in &order { let _ = once.handle(event); }
        prop_assert_eq!(once.view(), repeated.view());
    }

    #[test]
    fn whatever_is_sent_is_read_back(sender in 0..3usize, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut room = Room::new(10);
        for kind in ["chat.text", "chat.file", "chat.edit", "chat.delete", "chat.reaction", "chat.read", "message", ""] {
            let event = raw(NAMES[sender], 7, kind, bytes.clone());
            if let Ok(change) = Change::of(&event) {
                let (kind, body) = change.encode().expect("JSON");
                prop_assert_eq!(Change::of(&raw(NAMES[sender], 7, kind, body)), Ok(change));
            }
            let _ = room.handle(&event);
        }
    }
}
