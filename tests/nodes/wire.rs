//! A stranger at the same NATS server: frames made by hand.

use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::nats_server::NatsServer;

/// A ULID with this number in it; bigger numbers are newer.
pub fn ulid(n: u128) -> String {
    waypost::MessageId::from_u128(n).to_string()
}

/// A frame: the preamble, the header, and the bodies.
pub fn frame(header: &Value, bodies: &[u8]) -> Vec<u8> {
    let header = serde_json::to_vec(header).expect("a value is JSON");
    let length = u32::try_from(header.len()).expect("a short header");
    [b"WP\x01\x00", &length.to_be_bytes()[..], &header, bodies].concat()
}

/// A keepalive of this node.
pub fn keepalive(from: &str, incarnation: u128, counter: u64) -> Value {
    json!({
        "t": "keepalive", "from": from, "incarnation": ulid(incarnation), "store": ulid(7), "counter": counter, "session": 1,
        "uptime_ms": 1000, "version": "1", "host": "stranger",
        "channels": [{"name": "work", "mode": "readwrite", "age_ms": 0}],
    })
}

/// A frame with one message, and its header.
pub fn message(from: &str, to: &str, id: u128, text: &str) -> (Value, Vec<u8>) {
    let header = json!({
        "t": "msg", "from": from, "to": to, "store": ulid(7), "ch": "work", "lane": "normal", "try": 1, "wait": 1000,
        "messages": [{"id": ulid(id), "kind": "message", "at": 0, "len": text.len()}],
    });
    let bytes = frame(&header, text.as_bytes());
    (header, bytes)
}

/// An answer to a message.
pub fn answer(from: &str, to: &str, store: &str, id: &str, verdict: &str) -> Vec<u8> {
    let header = json!({
        "t": "answer", "from": from, "to": to, "store": store, "ch": "work", "lane": "normal", "id": id, "v": verdict,
    });
    frame(&header, &[])
}

/// The header of a frame that was overheard.
pub fn header(bytes: &[u8]) -> Value {
    let length = u32::from_be_bytes(bytes[4..8].try_into().expect("four bytes"));
    serde_json::from_slice(&bytes[8..8 + length as usize]).expect("a node's header is JSON")
}

/// Overhears everything from now on that goes over these subjects.
pub async fn overhear(client: &Client, subject: &str) -> Subscriber {
    let heard = client.subscribe(subject.to_owned()).await.expect("subscribed");
    // A round trip, after which the subscription is live.
    client.flush().await.expect("flushed");
    let mut echo = client.subscribe("wire.echo").await.expect("subscribed");
    client.publish("wire.echo", "".into()).await.expect("published");
    echo.next().await.expect("our own echo");
    heard
}

/// A client that is no node.
pub async fn stranger(server: &NatsServer) -> Client {
    async_nats::connect(server.url()).await.expect("connected")
}

/// Publishes, and waits until the server has it.
pub async fn say(client: &Client, subject: &str, bytes: impl Into<Vec<u8>>) {
    client.publish(subject.to_owned(), bytes.into().into()).await.expect("published");
    client.flush().await.expect("flushed");
}

/// A receiver that is worked by hand: it says that it is there, and answers only what the test tells it to.
pub struct Puppet {
    name: String,
    client: Client,
    frames: Subscriber,
    presence: tokio::task::JoinHandle<()>,
}

impl Puppet {
    /// A reader of the channel `work` under this name.
    pub async fn start(server: &NatsServer, name: &str) -> Self {
        let client = stranger(server).await;
        let frames = overhear(&client, &format!("waypost.msg.{name}.*")).await;
        let asked = overhear(&client, &format!("waypost.mgmt.node.{name}.*")).await;
        let presence = tokio::spawn(be_present(client.clone(), name.to_owned(), asked));
        Self { name: name.to_owned(), client, frames, presence }
    }

    /// The header of the next frame for it.
    pub async fn next(&mut self) -> Value {
        let next = tokio::time::timeout(super::SOON, self.frames.next()).await;
        header(&next.expect("a frame comes").expect("the client runs").payload)
    }

    /// Says this about the first message of a frame.
    pub async fn answer(&self, frame: &Value, verdict: &str) {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let (to, store) = (text(&frame["from"]), text(&frame["store"]));
        let bytes = answer(&self.name, &to, &store, &id_of(frame), verdict);
        say(&self.client, &format!("waypost.ack.{to}.{}", self.name), bytes).await;
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.presence.abort();
    }
}

/// The id of the first message of a frame.
pub fn id_of(frame: &Value) -> String {
    frame["messages"][0]["id"].as_str().expect("an id").to_owned()
}

async fn be_present(client: Client, name: String, mut asked: Subscriber) {
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(300));
    let mut counter = 0;
    loop {
        counter += 1;
        let mine = keepalive(&name, 42, counter);
        tokio::select! {
            _ = tick.tick() => {
                say(&client, &format!("waypost.keepalive.{name}"), frame(&mine, &[])).await;
            }
            question = asked.next() => {
                let Some(question) = question else { return };
                let question = header(&question.payload);
                if question["t"] == "hello" {
                    let from = question["keepalive"]["from"].as_str().expect("a name");
                    let welcome = json!({"t": "welcome", "nonce": question["nonce"], "keepalive": mine});
                    let to = format!("waypost.mgmt.node.{from}.{name}");
                    say(&client, &to, frame(&welcome, &[])).await;
                }
            }
        }
    }
}
