//! Handlers: they run on the user's runtime, and how they ended comes back to the driver.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::convert::{Body, Held};
use super::inline::{all_inline, call_inline, handle_inline};
use super::jobs::Completion;
use super::outcome::{Results, chain, panic_text};
use super::{Consumer, Driver, inside};
use crate::clock;
use crate::core::Input;
use crate::gate::Gate;
use crate::incoming::{Message, Turn};
use crate::message::{ChannelName, MessageId};
use crate::protocol::inbox::{Done, Source};
use crate::protocol::lifecycle::may_have_stood_still;
use crate::spans;
use crate::store::Store;
use crate::transport::Transport;

/// As long as it takes to be woken on a processor that sleeps.
const MOMENT: Duration = Duration::from_micros(60);

/// To yield the processor takes less than this, unless somebody else wants it.
const OTHERS_RAN: Duration = Duration::from_micros(5);

/// Messages that are being handled, each run of them by a task of its own.
pub(super) struct Handlers {
    runtime: Handle,
    last: u64,
    runs: HashMap<u64, Run>,
    /// The node has begun to stop.
    stopping: CancellationToken,
    whose: Arc<Gate>,
    just_started: bool,
    sender: mpsc::UnboundedSender<Said>,
    said: mpsc::UnboundedReceiver<Said>,
}

struct Run {
    source: Source,
    ceased: Arc<AtomicBool>,
    task: AbortHandle,
}

/// What runs say to the driver.
pub(super) enum Said {
    Ended(Ended),
    /// Whether to begin the next message: the process may have stood still. Answered when the driver has looked, and has had whatever is not to go on
    /// cease.
    MayGoOn(oneshot::Sender<()>),
}

/// A run that has ended, and how its messages did, in order, up to the first that did not end well.
pub(super) struct Ended {
    run: u64,
    results: Results,
}

/// Tells the driver how a run ended, also where its task is aborted, panics or is never run.
struct Finishing {
    run: u64,
    ids: Vec<MessageId>,
    results: Results,
    /// Nothing was cut short.
    whole: bool,
    sender: mpsc::UnboundedSender<Said>,
}

impl Drop for Finishing {
    fn drop(&mut self) {
        let mut results = std::mem::take(&mut self.results);
        if let Some(id) = self.ids.get(results.len()).filter(|_| !self.whole) {
            results.push((*id, Err("the handler was cut short".to_owned())));
        }
        // The node is gone if nobody listens: what is not committed comes again.
        let _ = self.sender.send(Said::Ended(Ended { run: self.run, results }));
    }
}

impl Handlers {
    pub(super) fn new(runtime: Handle, whose: Arc<Gate>) -> Self {
        let (sender, said) = mpsc::unbounded_channel();
        let (runs, stopping) = (HashMap::new(), CancellationToken::new());
        Self { runtime, last: 0, runs, stopping, whose, just_started: false, sender, said }
    }

    /// Streams give back what nobody has looked at.
    pub(super) fn stop(&self) {
        self.stopping.cancel();
    }

    /// The next run that ends or asks. Cancel-safe.
    pub(super) async fn said(&mut self) -> Said {
        match self.said.recv().await {
            Some(said) => said,
            // The other end is our own.
            None => std::future::pending().await,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.runs.is_empty()
    }

    /// A run that ends within a moment. Blocks for that long, and only where a single run is under way and the processor has nothing else to
    /// do: to sleep and to be woken takes longer than most handlers.
    pub(super) fn said_soon(&mut self) -> Option<Said> {
        if !std::mem::take(&mut self.just_started) || self.runs.len() != 1 {
            return None;
        }
        let begun = Instant::now();
        let mut last = begun;
        loop {
            std::thread::yield_now();
            if let Ok(said) = self.said.try_recv() {
                return Some(said);
            }
            let now = Instant::now();
            if now - last > OTHERS_RAN || now - begun >= MOMENT {
                return None;
            }
            last = now;
        }
    }

    /// Lets no message any more begin of those that were handed out of this source.
    pub(super) fn cease(&self, source: &Source) {
        let runs = self.runs.values().filter(|run| run.source == *source);
        runs.for_each(|run| run.ceased.store(true, Ordering::SeqCst));
    }

    fn start(&mut self, source: Source, batch: Batch) {
        self.last += 1;
        let finishing = Finishing {
            run: self.last,
            ids: batch.messages.iter().map(|(id, _)| *id).collect(),
            results: Vec::with_capacity(batch.messages.len()),
            whole: false,
            sender: self.sender.clone(),
        };
        let ceased = Arc::clone(&batch.ceased);
        let run = inside::scope(&self.whose, batch.run(finishing));
        let task = self.runtime.spawn(run).abort_handle();
        self.runs.insert(self.last, Run { source, ceased, task });
        self.just_started = true;
    }

    /// Cuts all runs short: what had ended well of them before that. A handler that is stuck in code that does not wait cannot be cut short, and is
    /// left in `runs`.
    pub(super) async fn abort(&mut self, within: Duration) -> Vec<(Source, Results)> {
        self.runs.values().for_each(|run| run.task.abort());
        let mut done = Vec::new();
        let all = async {
            while !self.runs.is_empty() {
                // Whoever asks begins nothing any more.
                let Said::Ended(Ended { run, mut results }) = self.said().await else { continue };
                results.retain(|(_, result)| result.is_ok());
                done.extend(self.runs.remove(&run).map(|run| (run.source, results)));
            }
        };
        // What is stuck is seen by its owner.
        let _ = tokio::time::timeout(within, all).await;
        done.retain(|(_, results)| !results.is_empty());
        done
    }
}

/// What one task handles.
struct Batch {
    messages: Vec<(MessageId, Held)>,
    store: Store,
    consumers: Arc<[Consumer]>,
    timeout: Option<Duration>,
    /// Begin none any more.
    ceased: Arc<AtomicBool>,
    /// When the driver last looked whether the process stood still, by a clock that goes on while the machine is suspended.
    looked: Instant,
    stopping: CancellationToken,
    /// Others run beside it: their receipts share a commit.
    beside_others: bool,
}

impl Batch {
    /// One message after the other, up to the first that does not end well. Where all did and others run beside it, the writer is asked for the
    /// receipt at once: the way over the driver would cost two changes of thread more.
    async fn run(self, mut finishing: Finishing) {
        let mut last = None;
        let mut looked = self.looked;
        for (id, content) in self.messages {
            if may_have_stood_still(looked, clock::now()) {
                let (reply, answer) = oneshot::channel();
                // What happens while the driver answers is not seen by its look.
                looked = clock::now();
                let _ = finishing.sender.send(Said::MayGoOn(reply));
                if answer.await.is_err() {
                    break;
                }
            }
            if self.ceased.load(Ordering::SeqCst) {
                break;
            }
            let all = offer_to_all(&content, &self.store, &self.consumers, &self.stopping);
            let all = all.instrument(spans::handle(&content));
            let result = match self.timeout {
                None => all.await,
                Some(limit) => tokio::time::timeout(limit, all).await.unwrap_or_else(|_| {
                    let limit = humantime::format_duration(limit);
                    Err(format!("the handler took longer than {limit}"))
                }),
            };
            let result = content.receipt.outcome(result).await;
            let goes_on = matches!(result, Ok(Done::Handled | Done::Committed));
            finishing.results.push((id, result));
            last = Some(content);
            if !goes_on {
                break;
            }
        }
        finishing.whole = true;
        let Some((_, Ok(Done::Handled))) = finishing.results.last() else { return };
        if !self.beside_others {
            return;
        }
        let Some(advance) = last.map(|content| content.advance.clone()) else { return };
        let committed = move |committed: Result<(), _>| {
            // Where the file did not take it, the inbox tries again.
            if let (Ok(()), Some((_, result))) = (committed, finishing.results.last_mut()) {
                *result = Ok(Done::Committed);
            }
        };
        self.store.accept_then(advance, committed);
    }
}

impl<T: Transport> Driver<T> {
    pub(super) fn start_handlers(
        &mut self,
        source: Source,
        messages: Vec<(MessageId, Held)>,
        beside_others: bool,
    ) -> Option<Input<Body>> {
        let first = messages.first().map(|(id, _)| *id)?;
        let consumers = self.consumers_of(&source.stream.channel);
        if consumers.is_empty() {
            let results = vec![(first, Ok(Done::Returned))];
            return Some(Input::Finished { source, results });
        }
        if let Some(inline) = all_inline(&consumers) {
            let results = handle_inline(&messages, &self.store, &inline);
            self.count(&source, &results);
            return Some(Input::Finished { source, results });
        }
        let (store, timeout) = (self.store.clone(), self.config.handler_timeout);
        let (ceased, stopping) = (Arc::default(), self.handlers.stopping.clone());
        let looked = clock::now();
        let batch =
            Batch { messages, store, consumers, timeout, ceased, looked, stopping, beside_others };
        self.handlers.start(source, batch);
        None
    }

    /// Who takes a channel's messages. A stream that nobody reads any more may not have said so.
    fn consumers_of(&mut self, channel: &ChannelName) -> Arc<[Consumer]> {
        let Some(consumers) = self.consumers.get_mut(channel) else { return Arc::default() };
        for (consumer, _) in consumers.extract_if(.., |(_, consumer)| consumer.is_gone()) {
            let gone = Completion::Gone { channel: channel.clone(), consumer };
            self.jobs.push(Box::pin(std::future::ready(gone)));
        }
        consumers.iter().map(|(_, consumer)| consumer.clone()).collect()
    }

    pub(super) fn handled(&mut self, said: Said) {
        let Ended { run, results } = match said {
            Said::Ended(ended) => ended,
            Said::MayGoOn(reply) => {
                self.say(Input::Look);
                // It may have been cut short.
                let _ = reply.send(());
                return;
            }
        };
        let Some(Run { source, .. }) = self.handlers.runs.remove(&run) else { return };
        let taken =
            |result: &Result<Done, String>| matches!(result, Ok(Done::Handled | Done::Committed));
        if !results.iter().all(|(_, result)| taken(result)) {
            // Where the file failed it, the message must not come again before the inbox knows.
            self.take_notices();
        }
        self.count(&source, &results);
        self.say(Input::Finished { source, results });
    }

    pub(super) fn count(&self, source: &Source, results: &Results) {
        for (id, result) in results {
            match result {
                Ok(Done::Returned) => {}
                Ok(_) => self.tally.processed.add(1),
                Err(reason) => {
                    self.tally.failed.add(1);
                    tracing::warn!(node = %self.me, %id, sender = %source.sender, reason, "handler failed");
                }
            }
        }
    }
}

/// One consumer after the other; the message is taken when all have taken it.
async fn offer_to_all(
    content: &Held,
    store: &Store,
    consumers: &[Consumer],
    stopping: &CancellationToken,
) -> Result<Done, String> {
    for (at, consumer) in consumers.iter().enumerate() {
        let (reply, mut answer) = oneshot::channel();
        let turn = if at + 1 == consumers.len() { Turn::Last } else { Turn::OthersFollow };
        let message = Message::new(content.clone(), store.clone(), reply, turn);
        let one = match consumer {
            Consumer::Inline(handler) => {
                call_inline(handler, &message)?;
                Done::Handled
            }
            Consumer::Handler(handler) => {
                let call = async move { handler(message).await.map_err(|error| chain(&*error)) };
                let call = AssertUnwindSafe(call);
                match call.catch_unwind().await {
                    // A refusal that it spoke itself counts; else its result does.
                    Ok(Ok(())) => answer.try_recv().unwrap_or(Ok(Done::Handled))?,
                    Ok(Err(error)) => return Err(error),
                    Err(panic) => return Err(format!("panicked: {}", panic_text(&*panic))),
                }
            }
            Consumer::Stream(stream) => {
                let (message, looked) = message.queued();
                let queued = tokio::select! {
                    biased;
                    queued = stream.send(message) => queued,
                    // Nobody takes what is in the stream, and this one is not even in it.
                    () = stopping.cancelled() => return Ok(Done::Returned),
                };
                if let Err(unsent) = queued {
                    unsent.0.give_back();
                }
                let answered = tokio::select! {
                    biased;
                    answered = &mut answer => answered,
                    () = stopping.cancelled() => {
                        if looked.give_back() {
                            return Ok(Done::Returned);
                        }
                        let (sender, id) = (&content.sender, content.id);
                        tracing::warn!(%sender, %id, "the node stops, and waits for the answer to this message, which was taken from a stream");
                        answer.await
                    }
                };
                answered.map_err(|_| "the message was dropped without an answer".to_owned())??
            }
        };
        if one == Done::Returned {
            return Ok(Done::Returned);
        }
    }
    Ok(Done::Handled)
}
