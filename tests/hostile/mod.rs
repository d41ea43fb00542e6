//! A hostile client on the same NATS server, and the honest pair that it attacks: `alice` sends, `bob` receives, each alone in a
//! process of its own. The client may publish and hear whatever it likes; it does everything but repeat, in a node's own name, what
//! only that node's own words can be: who binds users to names with the server's permissions takes that from it too.
// The test and the measurement each use a part of this.
#![allow(dead_code, unreachable_pub)]

pub mod honest;

use async_nats::Client;
use serde_json::{Value, json};

use crate::nodes::wire::{answer, frame, keepalive, message, ulid};

/// A frame and the subject on which it goes out.
pub struct Shot {
    pub subject: String,
    pub bytes: Vec<u8>,
    /// How many of the pair it reaches.
    pub reaches: &'static [&'static str],
}

impl Shot {
    fn to(to: &'static str, kind: &str, from: &str, bytes: Vec<u8>) -> Self {
        let reaches: &[&str] = if to == "alice" { &["alice"] } else { &["bob"] };
        Self { subject: format!("waypost.{kind}.{to}.{from}"), bytes, reaches }
    }

    fn to_all(kind: &str, from: &str, bytes: Vec<u8>) -> Self {
        Self { subject: format!("waypost.{kind}.{from}"), bytes, reaches: &["alice", "bob"] }
    }

    /// Hands it to the client, which sends it in time.
    pub async fn fire(self, client: &Client) {
        client.publish(self.subject, self.bytes.into()).await.expect("published");
    }
}

/// What somebody who overhears the pair knows of it.
#[derive(Clone, Default)]
pub struct Overheard {
    /// A frame of alice's to bob.
    pub whole: Vec<u8>,
    /// Alice's file.
    pub store: String,
    /// Messages of alice's. Bob may have been sent the first: in his name, about that one, an answer is as good as his.
    pub messages: Vec<String>,
}

/// Numbers that look like chance and are the same each time.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = seed;
    let next = || {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// The `n`th of the frames that everybody has to refuse: on each kind of subject, under the name of each of the pair and a stranger's.
pub fn malformed(n: u64, overheard: &Overheard) -> Shot {
    let from = ["alice", "eve", "bob"][n as usize % 3];
    let to = if (n / 3).is_multiple_of(2) { "bob" } else { "alice" };
    let bytes = bad(n / 30, from, to, overheard);
    match n / 6 % 5 {
        0 => Shot::to(to, "msg", from, bytes),
        1 => Shot::to(to, "ack", from, bytes),
        2 => Shot::to(to, "mgmt.node", from, bytes),
        3 => Shot::to_all("keepalive", from, bytes),
        _ => Shot::to_all("mgmt.all", from, bytes),
    }
}

fn bad(n: u64, from: &str, to: &str, overheard: &Overheard) -> Vec<u8> {
    let header = |text: &[u8]| {
        let length = u32::try_from(text.len()).expect("short");
        [b"WP\x01\x00", &length.to_be_bytes()[..], text].concat()
    };
    let cut = |share: usize| overheard.whole[..overheard.whole.len() * share / 23].to_vec();
    let (mut one, _) = message(from, to, u128::MAX >> 8, "");
    let mut mine = keepalive(from, 5, 9);
    match n % 20 {
        0 => [vec![0xff], noise(n, 40)].concat(),
        1 => [vec![0xff], noise(n, 2_000)].concat(),
        2 => cut(n as usize / 20 % 23),
        3 => {
            let mut other = overheard.whole.clone();
            other[2] = 2 + (n / 20 % 254) as u8;
            other
        }
        4 => b"WP\x01\x00\xff\xff\xff\xff{}".to_vec(),
        5 => header(b"{\"t\":\"keepalive\","),
        6 => header(&vec![b'['; 20_000]),
        7 => frame(&json!(vec![json!([]); 4_000]), b""),
        8 => message("mallory", to, 1 << 100, "forged").1,
        9 => kick(from, to),
        10 => {
            let t = ["vote", "candidate", "master", "state", "kick"][n as usize / 20 % 5];
            frame(&json!({"t": t, "from": from, "to": to, "term": u64::MAX, "rev": u64::MAX}), b"")
        }
        11 => {
            one["messages"][0]["len"] = json!(u64::MAX);
            frame(&one, b"x")
        }
        12 => {
            one["messages"] = json!([]);
            frame(&one, b"")
        }
        13 => {
            one["messages"] = json!([one["messages"][0], one["messages"][0]]);
            frame(&one, b"")
        }
        14 => {
            one["ch"] = json!("x".repeat(300));
            frame(&one, b"")
        }
        15 => [answer(from, to, &ulid(7), &ulid(7), "ack"), vec![0; 9]].concat(),
        16 => {
            mine["host"] = json!("line\nbreak");
            frame(&mine, b"")
        }
        17 => {
            mine["from"] = json!("waypost.>");
            frame(&mine, b"")
        }
        18 => {
            mine["counter"] = json!(-1);
            frame(&mine, b"")
        }
        _ => {
            let huge = mine.to_string().replacen("\"counter\":9", "\"counter\":1e400", 1);
            header(huge.as_bytes())
        }
    }
}

/// What an operator might send one day; no node knows it.
fn kick(from: &str, to: &str) -> Vec<u8> {
    frame(&json!({"t": "kick", "from": from, "node": to, "reason": "because", "force": true}), b"")
}

/// The `n`th of the answers to alice that fit nothing: about messages that are unknown, beyond all ids, or wait behind the one that bob
/// was sent; from somebody else, about another file, or another stream.
pub fn forged_answer(n: u64, overheard: &Overheard) -> Shot {
    let verdicts = ["ack", "working", "busy", "paused", "not_joined", "failed", "refused"];
    let verdict = verdicts[n as usize % verdicts.len()];
    let any = |of: &[String]| match of.len() {
        0 => ulid(u128::from(n)),
        count => of[n as usize / 49 % count].clone(),
    };
    let (mut from, mut store) = ("bob", overheard.store.clone());
    // The first as often as all others, where something else about the answer is wrong.
    let first = if (n / 49).is_multiple_of(2) { 1 } else { overheard.messages.len() };
    let mut id = any(overheard.messages.get(..first).unwrap_or_default());
    let mut stream = ("work", "normal", false);
    match n / 7 % 7 {
        0 => from = "eve",
        1 => store = ulid(u128::from(n)),
        2 => store = ulid(u128::MAX),
        3 => id = ulid(u128::from(n)),
        4 => id = ulid(u128::MAX - u128::from(n % 3)),
        5 => {
            stream = [("work", "high", false), ("play", "normal", false), ("work", "normal", true)]
                [n as usize % 3]
        }
        // All is right, but that bob cannot have seen it.
        _ => id = any(overheard.messages.get(1..).unwrap_or_default()),
    }
    let last = [Value::Null, json!(ulid(u128::MAX)), json!(id)][n as usize / 49 % 3].clone();
    let header = json!({
        "t": "answer", "from": from, "to": "alice", "store": store, "ch": stream.0, "lane": stream.1, "dir": stream.2, "id": id,
        "last": last, "v": verdict, "retry_ms": u64::MAX, "detail": "because", "term": u64::MAX,
    });
    Shot::to("alice", "ack", from, frame(&header, b""))
}

/// The `n`th node that nobody ever started, with every number at its end.
pub fn invented_keepalive(n: u64) -> Shot {
    let name = format!("invented-{n}");
    Shot::to_all("keepalive", &name, frame(&extreme(&name, n), b""))
}

fn extreme(name: &str, n: u64) -> Value {
    let mut keepalive = keepalive(name, u128::MAX - u128::from(n), u64::MAX);
    for field in ["session", "uptime_ms", "term", "rev"] {
        keepalive[field] = json!(u64::MAX);
    }
    keepalive["store"] = json!(ulid(u128::MAX));
    keepalive["channels"] = json!([
        {"name": "work", "mode": "readwrite", "age_ms": u64::MAX, "start": {"since_ms": u64::MAX}},
        {"name": "ü".repeat(120), "mode": "reader", "age_ms": 0, "start": "all"},
    ]);
    keepalive["left"] = json!(["work", "work"]);
    keepalive
}

/// The `n`th of what an invented node may say, and nobody takes: greetings, welcomes to no question, questions, messages.
pub fn nuisance(n: u64) -> Shot {
    let name = format!("guest-{n}");
    let to = if n.is_multiple_of(2) { "alice" } else { "bob" };
    let mine = extreme(&name, n);
    match n / 2 % 4 {
        0 => {
            let hello = json!({"t": "hello", "nonce": u64::MAX, "keepalive": mine});
            Shot::to(to, "mgmt.node", &name, frame(&hello, b""))
        }
        1 => {
            let welcome = json!({"t": "welcome", "nonce": n, "keepalive": mine});
            Shot::to(to, "mgmt.node", &name, frame(&welcome, b""))
        }
        2 => {
            let query = json!({"t": "query", "from": name, "query": u64::MAX});
            Shot::to_all("mgmt.all", &name, frame(&query, b""))
        }
        _ => Shot::to(to, "msg", &name, message(&name, to, u128::MAX - 1, "nobody's").1),
    }
}

/// A keepalive in the name of one of the pair, from another run of it, or beyond all counters of this one; it is believed by nobody
/// for long.
pub fn forged_keepalive(of: &'static str, incarnation: &str, n: u64) -> Shot {
    let mut forged = extreme(of, n);
    forged["left"] = json!([]);
    match n % 4 {
        0 => forged["incarnation"] = json!(incarnation),
        1 => {
            forged["incarnation"] = json!(incarnation);
            forged["channels"] = json!([]);
        }
        2 => {
            forged["incarnation"] = json!(incarnation);
            forged["goodbye"] = json!(true);
        }
        _ => forged["rival"] = json!(incarnation),
    }
    Shot::to_all("keepalive", of, frame(&forged, b""))
}
