//! JetStream, used as its documentation shows it: what somebody would take instead.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::stream::{Config, StorageType, Stream};
use async_nats::jetstream::{self, Context};
use futures_util::StreamExt;
use tokio::runtime::Handle;

use crate::error::BenchError;
use crate::flow::Flow;
use crate::pace;
use crate::payload::{Payloads, stamp, stamped};
use crate::server::Server;
use crate::window::{Window, reach};

/// Publications whose acknowledgement has not come.
pub(crate) const WINDOW: usize = 256;
/// Messages in a batch of a consumer.
pub(crate) const BATCH: usize = 256;
/// A server that takes longer to answer a question has no JetStream for us.
const PATIENCE: Duration = Duration::from_secs(5);

/// One server with JetStream.
pub(crate) struct JetStream {
    publishing: Context,
    consuming: Context,
    mark: String,
    /// How many streams it has made.
    made: AtomicU64,
    /// Those that are still there.
    streams: Mutex<Vec<String>>,
}

impl JetStream {
    /// Looks whether the server has it. The inner error says why not.
    ///
    /// # Errors
    /// No server.
    pub(crate) async fn find(
        server: &Server,
        mark: &str,
    ) -> Result<Result<Self, String>, BenchError> {
        let context = |client: Client| {
            let mut context = jetstream::new(client);
            context.set_timeout(PATIENCE);
            context
        };
        let client = server.client().await?;
        if let Some(why) = why_not(&client).await {
            return Ok(Err(format!("no JetStream at {}: {why}", server.url())));
        }
        let (publishing, consuming) = (context(client), context(server.client().await?));
        let (mark, made, streams) = (mark.to_owned(), AtomicU64::new(0), Mutex::default());
        Ok(Ok(Self { publishing, consuming, mark, made, streams }))
    }

    /// Messages a second from a publisher to a pull consumer that work at the same time.
    pub(crate) async fn live(&self, payloads: &Payloads, window: Window) -> Result<f64, String> {
        let stream = self.stream().await?;
        let flow = Flow::default();
        let publish = async {
            let mut outstanding = Outstanding::default();
            loop {
                flow.room().await;
                outstanding.publish(&self.publishing, name(&stream), payloads).await?;
                flow.count_sent();
            }
        };
        let consume = consume(&stream, |_| flow.count_handled());
        let rate = tokio::select! {
            rate = window.rate("JetStream's consumer", || flow.handled()) => rate.map_err(told),
            failed = publish => failed,
            failed = consume => failed,
        };
        self.delete(&stream).await;
        rate
    }

    /// Publishes so many messages into a stream, then drains it. The rates of both.
    pub(crate) async fn drain(
        &self,
        payloads: &Payloads,
        count: u64,
        longest: Duration,
    ) -> Result<(f64, f64), String> {
        let stream = self.stream().await?;
        let begin = tokio::time::Instant::now();
        let mut outstanding = Outstanding::default();
        for _ in 0..count {
            outstanding.publish(&self.publishing, name(&stream), payloads).await?;
        }
        outstanding.settle().await?;
        let published = count as f64 / begin.elapsed().as_secs_f64();
        let flow = Flow::default();
        flow.expect(count);
        let rate = tokio::select! {
            rate = flow.drained("JetStream's consumer", longest) => rate.map_err(told),
            failed = consume(&stream, |_| flow.count_handled()) => failed,
        };
        self.delete(&stream).await;
        Ok((published, rate?))
    }

    /// Publications a second, with so many acknowledgements outstanding.
    pub(crate) async fn publish(
        &self,
        payloads: &Payloads,
        outstanding: usize,
        window: Window,
    ) -> Result<f64, String> {
        let stream = self.stream().await?;
        let acknowledged = AtomicU64::new(0);
        let publish = async {
            let mut outstanding = Outstanding { most: outstanding, ..Outstanding::default() };
            loop {
                outstanding.publish(&self.publishing, name(&stream), payloads).await?;
                acknowledged.store(outstanding.settled, Relaxed);
            }
        };
        let rate = tokio::select! {
            rate = window.rate("JetStream's acknowledgements", || acknowledged.load(Relaxed)) => rate.map_err(told),
            failed = publish => failed,
        };
        self.delete(&stream).await;
        rate
    }

    /// The times of so many messages from their publication, each at its time, to the consumer.
    pub(crate) async fn at_pace(
        &self,
        interval: Duration,
        count: u32,
    ) -> Result<Vec<Duration>, String> {
        let stream = self.stream().await?;
        let epoch = Instant::now();
        let times = Mutex::new(Vec::with_capacity(count as usize));
        let (context, subject, runtime) =
            (self.publishing.clone(), name(&stream).to_owned(), Handle::current());
        let publish = async {
            let publish = tokio::task::spawn_blocking(move || {
                pace::keep(interval, count, |meant| {
                    let (context, subject) = (context.clone(), subject.clone());
                    let payload = stamped(meant.duration_since(epoch));
                    runtime.spawn(async move { context.publish(subject, payload).await?.await });
                });
            });
            publish.await.map_err(told)?;
            let all = || times.lock().expect("nothing panics with it").len() >= count as usize;
            reach("JetStream's last message", all).await.map_err(told)
        };
        let note = |payload: &[u8]| {
            if let Some(sent) = stamp(payload) {
                let took = epoch.elapsed().saturating_sub(sent);
                times.lock().expect("nothing panics with it").push(took);
            }
        };
        tokio::select! {
            done = publish => done?,
            failed = consume(&stream, note) => failed?,
        }
        self.delete(&stream).await;
        Ok(times.into_inner().expect("nothing panics with it"))
    }

    /// Removes what it left at the server.
    pub(crate) async fn clear(self) {
        let streams = std::mem::take(&mut *self.streams.lock().expect("nothing panics with it"));
        for stream in streams {
            let deleted = self.publishing.delete_stream(&stream);
            if !matches!(tokio::time::timeout(PATIENCE, deleted).await, Ok(Ok(_))) {
                tracing::warn!("the stream {stream} may be left at the server: delete it there");
                // The server is gone, and would be asked in vain for the others too.
                return;
            }
        }
    }

    /// A new one, on a subject of its name.
    async fn stream(&self) -> Result<Stream, String> {
        let name = format!("{}-{}", self.mark, self.made.fetch_add(1, Relaxed));
        self.streams.lock().expect("nothing panics with it").push(name.clone());
        let subjects = vec![name.clone()];
        let config = Config { name, subjects, storage: StorageType::File, ..Config::default() };
        self.consuming.create_stream(config).await.map_err(told)
    }

    async fn delete(&self, stream: &Stream) {
        let name = name(stream);
        if self.publishing.delete_stream(name).await.is_ok() {
            self.streams.lock().expect("nothing panics with it").retain(|kept| kept != name);
        }
    }
}

/// Asked by hand: the client's own question does not understand the answer of a server before 2.10.
async fn why_not(client: &Client) -> Option<String> {
    let asked = client.request("$JS.API.INFO", bytes::Bytes::new());
    let answer = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) => answer.payload,
        Ok(Err(error)) => return Some(error.to_string()),
        Err(_) => return Some("no answer".to_owned()),
    };
    match serde_json::from_slice::<serde_json::Value>(&answer) {
        Ok(answer) => answer.pointer("/error/description").map(ToString::to_string),
        Err(error) => Some(error.to_string()),
    }
}

fn name(stream: &Stream) -> &str {
    &stream.cached_info().config.name
}

/// Publications whose acknowledgements are awaited in their order.
struct Outstanding {
    most: usize,
    acks: VecDeque<PublishAckFuture>,
    settled: u64,
}

impl Default for Outstanding {
    fn default() -> Self {
        Self { most: WINDOW, acks: VecDeque::with_capacity(WINDOW), settled: 0 }
    }
}

impl Outstanding {
    async fn publish(
        &mut self,
        to: &Context,
        subject: &str,
        payloads: &Payloads,
    ) -> Result<(), String> {
        let ack = to.publish(subject.to_owned(), payloads.next()).await.map_err(told)?;
        self.acks.push_back(ack);
        if self.acks.len() >= self.most { self.settle_one().await } else { Ok(()) }
    }

    async fn settle_one(&mut self) -> Result<(), String> {
        if let Some(ack) = self.acks.pop_front() {
            ack.await.map_err(told)?;
            self.settled += 1;
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), String> {
        while !self.acks.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }
}

/// Takes and acknowledges messages until something fails.
async fn consume<R>(stream: &Stream, handled: impl Fn(&[u8])) -> Result<R, String> {
    let config = pull::Config { ack_policy: AckPolicy::Explicit, ..pull::Config::default() };
    let consumer: PullConsumer = stream.create_consumer(config).await.map_err(told)?;
    let mut messages =
        consumer.stream().max_messages_per_batch(BATCH).messages().await.map_err(told)?;
    while let Some(message) = messages.next().await {
        let message = message.map_err(told)?;
        handled(&message.payload);
        message.ack().await.map_err(told)?;
    }
    Err("the consumer ended".to_owned())
}

fn told(error: impl std::fmt::Display) -> String {
    format!("JetStream: {error}")
}
