//! One sending node and the nodes that read what it sends.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use waypost::error::SendError;
use waypost::{Channel, Config, Mode, Node};

use crate::error::BenchError;
use crate::flow::Flow;
use crate::payload::Payloads;
use crate::proxy::Proxy;
use crate::stage::{Place, Stage};
use crate::window::{PATIENCE, stalled};

/// The channel of all nodes.
pub(crate) const CHANNEL: &str = "bench";
/// Messages that are committed together where only the backlog matters, not how it came to be.
const BATCH: u64 = 1_000;
const FILLING_TASKS: u64 = 64;

/// One sending node and the nodes that read what it sends.
pub(crate) struct Crowd<'a> {
    stage: &'a Stage,
    place: Place,
    pub(crate) sender: Node,
    pub(crate) out: Channel,
    readers: Vec<Channel>,
    pub(crate) flow: Arc<Flow>,
}

/// Where the readers' handlers run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hands {
    /// In the node's own thread, as the anchors' are in their client's task.
    Inline,
    Runtime,
}

impl<'a> Crowd<'a> {
    /// Starts them, and waits until the sender knows its readers.
    ///
    /// # Errors
    /// A node fails, or they do not find each other.
    pub(crate) async fn gather(
        stage: &'a Stage,
        readers: usize,
        tune: impl Fn(&mut Config),
    ) -> Result<Self, BenchError> {
        Self::gather_with(stage, readers, (Hands::Inline, None), tune).await
    }

    /// The same, with handlers there, and the sender behind this wire.
    ///
    /// # Errors
    /// As [`Crowd::gather`].
    pub(crate) async fn gather_with(
        stage: &'a Stage,
        readers: usize,
        (hands, wire): (Hands, Option<&Proxy>),
        tune: impl Fn(&mut Config),
    ) -> Result<Self, BenchError> {
        let place = stage.place()?;
        let flow = Arc::new(Flow::default());
        let behind = |config: &mut Config| {
            tune(config);
            if let Some(wire) = wire {
                config.nats = vec![wire.url()];
            }
        };
        let sender = stage.node(&place, "sender", behind).await?;
        let out = sender.join(CHANNEL, Mode::Writer).await?;
        let mut channels = Vec::with_capacity(readers);
        for n in 0..readers {
            let node = stage.node(&place, &format!("reader-{n}"), &tune).await?;
            let channel = node.join(CHANNEL, Mode::Reader).await?;
            let handled = Arc::clone(&flow);
            let handler = move || {
                handled.count_handled();
                Ok(())
            };
            match hands {
                Hands::Inline => channel.on_message_inline(move |_| handler()).await?,
                Hands::Runtime => {
                    channel.on_message(move |_| std::future::ready(handler())).await?;
                }
            }
            channels.push(channel);
        }
        let crowd = Self { stage, place, sender, out, readers: channels, flow };
        crowd.acquainted().await?;
        Ok(crowd)
    }

    async fn acquainted(&self) -> Result<(), BenchError> {
        let deadline = Instant::now() + PATIENCE;
        while self.sender.subscribers(CHANNEL).await?.len() < self.readers.len() {
            if Instant::now() > deadline {
                return Err(stalled("the nodes do not find each other"));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Nobody takes anything until [`Crowd::resume`].
    ///
    /// # Errors
    /// A node fails.
    pub(crate) async fn pause(&self) -> Result<(), BenchError> {
        for reader in &self.readers {
            reader.pause().await?;
        }
        Ok(())
    }

    /// Ends a [`Crowd::pause`].
    ///
    /// # Errors
    /// A node fails.
    pub(crate) async fn resume(&self) -> Result<(), BenchError> {
        for reader in &self.readers {
            reader.resume().await?;
        }
        Ok(())
    }

    /// Sends so many messages, fast.
    ///
    /// # Errors
    /// One is refused.
    pub(crate) async fn fill(&self, count: u64) -> Result<(), BenchError> {
        fill(&self.out, &self.stage.payloads, count).await
    }

    /// What `work` comes to while so many tasks send.
    ///
    /// # Errors
    /// A message is refused, or what `work` says.
    pub(crate) async fn while_sending<R>(
        &self,
        tasks: usize,
        pace: Pace,
        work: impl Future<Output = Result<R, BenchError>>,
    ) -> Result<R, BenchError> {
        let senders = Senders { out: &self.out, payloads: &self.stage.payloads, flow: &self.flow };
        senders.work(tasks, pace, work).await
    }

    /// Where its nodes are.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Stops the nodes and removes their files.
    pub(crate) async fn part(self) {
        let Self { stage, place, .. } = self;
        stage.leave(place).await;
    }
}

/// Sends so many messages, fast: in large transactions, from many tasks.
///
/// # Errors
/// One is refused.
pub(crate) async fn fill(
    out: &Channel,
    payloads: &Arc<Payloads>,
    count: u64,
) -> Result<(), BenchError> {
    let mut tasks = JoinSet::new();
    for task in 0..FILLING_TASKS {
        let share = count / FILLING_TASKS + u64::from(task < count % FILLING_TASKS);
        let (out, payloads) = (out.clone(), Arc::clone(payloads));
        tasks.spawn(async move {
            let mut left = share;
            while left > 0 {
                let batch = left.min(BATCH);
                out.send_all((0..batch).map(|_| payloads.next().into()).collect()).await?;
                left -= batch;
            }
            Ok::<_, SendError>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// What tasks that send need.
pub(crate) struct Senders<'a> {
    pub(crate) out: &'a Channel,
    pub(crate) payloads: &'a Arc<Payloads>,
    pub(crate) flow: &'a Arc<Flow>,
}

impl Senders<'_> {
    /// What `work` comes to while so many tasks send, each its next message when its last one is committed. They wait while `pace` says so.
    ///
    /// # Errors
    /// A message is refused, or what `work` says.
    pub(crate) async fn work<R>(
        &self,
        tasks: usize,
        pace: Pace,
        work: impl Future<Output = Result<R, BenchError>>,
    ) -> Result<R, BenchError> {
        let mut senders = JoinSet::new();
        for _ in 0..tasks {
            let (out, payloads) = (self.out.clone(), Arc::clone(self.payloads));
            senders.spawn(send_on(out, payloads, Arc::clone(self.flow), pace));
        }
        tokio::select! {
            done = work => {
                senders.shutdown().await;
                done
            }
            Some(ended) = senders.join_next() => Err(ended?.into()),
        }
    }
}

/// What senders look at before each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Nothing.
    Free,
    /// How many messages wait for their reader.
    ByReader,
}

/// Sends until a message is refused.
async fn send_on(out: Channel, payloads: Arc<Payloads>, flow: Arc<Flow>, pace: Pace) -> SendError {
    loop {
        if pace == Pace::ByReader {
            flow.room().await;
        }
        if let Err(error) = out.send(payloads.next()).await {
            return error;
        }
        flow.count_sent();
    }
}
