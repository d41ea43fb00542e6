//! async-nats request and reply: what the wire, the server and the client do without any storage.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_nats::{Client, Message, Subject};
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::error::BenchError;
use crate::pace;
use crate::payload::Payloads;
use crate::server::Server;
use crate::window::{PATIENCE, Window};

/// A client that asks, and one that answers unless another process does.
pub(crate) struct Requests {
    url: String,
    asking: Client,
    subject: Subject,
    payloads: Arc<Payloads>,
    /// Ends with it.
    _answering: JoinSet<()>,
}

impl Requests {
    /// Connects both, and waits until the answering one is heard.
    ///
    /// # Errors
    /// No server, or no answer.
    pub(crate) async fn open(
        server: &Server,
        subject: String,
        payloads: &Arc<Payloads>,
    ) -> Result<Self, BenchError> {
        let answering = answer(server, &subject, || {}).await?;
        Self::connect(server, subject, payloads, answering).await
    }

    /// Connects the one that asks, and waits until another process answers it.
    ///
    /// # Errors
    /// No server, or no answer.
    pub(crate) async fn to_another(
        server: &Server,
        subject: String,
        payloads: &Arc<Payloads>,
    ) -> Result<Self, BenchError> {
        Self::connect(server, subject, payloads, JoinSet::new()).await
    }

    async fn connect(
        server: &Server,
        subject: String,
        payloads: &Arc<Payloads>,
        answering: JoinSet<()>,
    ) -> Result<Self, BenchError> {
        let requests = Self {
            url: server.url().to_owned(),
            asking: server.client().await?,
            subject: subject.into(),
            payloads: Arc::clone(payloads),
            _answering: answering,
        };
        requests.heard().await?;
        Ok(requests)
    }

    /// A subscription is not live when the client says so: only an answer proves it.
    async fn heard(&self) -> Result<(), BenchError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.asking.request(self.subject.clone(), self.payloads.next()).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(failed(&self.url, &error)),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Requests a second, so many at the same time.
    ///
    /// # Errors
    /// One fails.
    pub(crate) async fn rate(&self, at_once: usize, window: Window) -> Result<f64, BenchError> {
        let answered = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..at_once {
            let (client, subject) = (self.asking.clone(), self.subject.clone());
            let (answered, payloads) = (Arc::clone(&answered), Arc::clone(&self.payloads));
            tasks.spawn(async move {
                loop {
                    match client.request(subject.clone(), payloads.next()).await {
                        Ok(_) => answered.fetch_add(1, Relaxed),
                        Err(error) => return error,
                    };
                }
            });
        }
        tokio::select! {
            rate = window.rate("request and reply", || answered.load(Relaxed)) => rate,
            Some(ended) = tasks.join_next() => Err(failed(&self.url, &ended?)),
        }
    }

    /// The times of so many requests, each at its time.
    ///
    /// # Errors
    /// One fails.
    pub(crate) async fn at_pace(
        &self,
        interval: Duration,
        count: u32,
    ) -> Result<Vec<Duration>, BenchError> {
        let (client, subject) = (self.asking.clone(), self.subject.clone());
        let (payloads, runtime) = (Arc::clone(&self.payloads), Handle::current());
        let requests = tokio::task::spawn_blocking(move || {
            let mut requests = Vec::with_capacity(count as usize);
            pace::keep(interval, count, |meant| {
                let (client, subject, payload) = (client.clone(), subject.clone(), payloads.next());
                requests.push(runtime.spawn(async move {
                    client.request(subject, payload).await.map(|_| meant.elapsed())
                }));
            });
            requests
        });
        let mut times = Vec::with_capacity(count as usize);
        for request in requests.await? {
            times.push(request.await?.map_err(|error| failed(&self.url, &error))?);
        }
        Ok(times)
    }
}

/// Answers each request to this subject with nothing, on a connection of its own, and says so. It ends when dropped.
///
/// # Errors
/// No server.
pub(crate) async fn answer(
    server: &Server,
    subject: &str,
    answered: impl Fn() + Send + 'static,
) -> Result<JoinSet<()>, BenchError> {
    let client = server.client().await?;
    let questions = client.subscribe(subject.to_owned()).await;
    let mut questions = questions.map_err(|error| failed(server.url(), &error))?;
    let mut answering = JoinSet::new();
    answering.spawn(async move {
        while let Some(Message { reply: Some(reply), .. }) = questions.next().await {
            if client.publish(reply, bytes::Bytes::new()).await.is_err() {
                return;
            }
            answered();
        }
    });
    Ok(answering)
}

fn failed(url: &str, error: &dyn std::fmt::Display) -> BenchError {
    BenchError::Request { url: url.to_owned(), reason: error.to_string() }
}
