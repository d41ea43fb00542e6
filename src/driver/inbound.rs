//! Receiving: frames to the inbox, and what it decides is done.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::task::JoinError;

use super::{Completion, Consumer, Driver, Timer};
use crate::event::Event;
use crate::incoming::{Content, Message, Receipt};
use crate::message::MessageId;
use crate::protocol::frame::{Answer, Frame, FrameMessage, MessageFrame, Verdict, detail};
use crate::protocol::inbox::{self, Action, Done, Gap, Incoming, Source};
use crate::protocol::membership;
use crate::store::{InboxAdvance, Store};
use crate::transport::{Audience, Subject, Transport, TransportEvent};

/// A message on its way to its handlers.
pub(super) type Held = Arc<Content>;

/// How the messages of a run ended, in order, up to the first that did not end well.
pub(super) type Handled = Vec<(MessageId, Result<Done, String>)>;

/// Messages that were handed out together, being handled.
#[derive(Debug)]
pub(super) struct Run {
    source: Source,
    ids: Vec<MessageId>,
    progress: Arc<Progress>,
}

/// Shared with the task that handles them.
#[derive(Debug, Default)]
struct Progress {
    /// Begin none any more.
    ceased: AtomicBool,
    /// So many have ended well.
    done: AtomicUsize,
}

/// Bytes of messages that handlers may hold together, those waiting for one included; more stays with the senders.
pub(super) const HELD_BYTES: usize = 64 * 1024 * 1024;
/// What a message costs besides its headers and payload, roughly.
const HELD_EACH: usize = 1024;
/// A sender that is no peer yet is asked to come again after this; by then the two have met.
const MEET_FIRST: Duration = Duration::from_millis(250);

impl<T: Transport> Driver<T> {
    pub(super) async fn transport_event(&mut self, event: TransportEvent) {
        match event {
            TransportEvent::Up { server, .. } => self.link_up(server).await,
            TransportEvent::Down { reason } => self.link_down(reason).await,
            TransportEvent::Unauthorized { reason } => self.unauthorized(reason).await,
            TransportEvent::Denied { reason } => {
                tracing::error!(node = %self.me, reason, "the NATS server's permissions are too narrow");
                self.tell(Event::Denied { reason });
            }
            TransportEvent::Slow => {
                tracing::warn!(node = %self.me, "too slow for the frames that arrive; some were dropped");
            }
            TransportEvent::Stray => self.refuse(None, "a subject that is none of ours".to_owned()),
            TransportEvent::Frame { from, bytes } => self.frame(from, &bytes).await,
        }
    }

    async fn frame(&mut self, subject: Subject, bytes: &Bytes) {
        let sender = subject.from().clone();
        let frame = match Frame::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => return self.refuse(Some(sender), error.to_string()),
        };
        if *frame.from() != sender {
            return self
                .refuse(Some(sender), format!("a frame that says it is from {}", frame.from()));
        }
        if self.conflict {
            return;
        }
        match (subject, frame) {
            (Subject::Message { .. }, Frame::Messages(frame)) if frame.to == self.me => {
                self.messages(frame).await;
            }
            (Subject::Ack { .. }, Frame::Answer(answer)) if answer.to == self.me => {
                self.membership.spoke(self.now(), &answer.from);
                self.answered(answer).await;
            }
            (Subject::Keepalive { .. }, Frame::Keepalive(keepalive)) => {
                if keepalive.from != self.me {
                    self.tally.keepalives_received.add(1);
                }
                self.meet(membership::Event::Keepalive(keepalive)).await;
            }
            (
                Subject::Management { to: Audience::Node(_), .. },
                Frame::Hello { nonce, keepalive },
            ) => {
                self.meet(membership::Event::Hello { nonce, keepalive }).await;
            }
            (
                Subject::Management { to: Audience::Node(_), .. },
                Frame::Welcome { nonce, keepalive },
            ) => {
                self.meet(membership::Event::Welcome { nonce, keepalive }).await;
            }
            (Subject::Management { .. }, Frame::Query(query)) => self.report(&query),
            // An operator on this machine asks under our name, and hears it as well.
            (Subject::Management { to: Audience::Node(_), .. }, Frame::Report(_)) => {}
            _ => self
                .refuse(Some(sender), "a frame on a subject where it has no business".to_owned()),
        }
    }

    async fn messages(&mut self, frame: MessageFrame) {
        let source = Source { sender: frame.from, store: frame.store, stream: frame.stream };
        let Some(first) = frame.messages.first().map(|message| message.id) else { return };
        let online = self.membership.spoke(self.now(), &source.sender);
        if !self.membership.is_peer(&source.sender) {
            let retry_ms = MEET_FIRST.as_millis() as u64;
            let sender = source.sender.clone();
            self.answer(source, first, Verdict::Busy { retry_ms }, None).await;
            return self.meet(membership::Event::Unknown(sender)).await;
        }
        if !online {
            self.meet(membership::Event::Unknown(source.sender.clone())).await;
        }
        let mut messages = Vec::with_capacity(frame.messages.len());
        for message in frame.messages {
            let id = message.id;
            match self.content(&source, message, frame.attempt) {
                Ok(incoming) => messages.push(incoming),
                // Those before it are taken; its own turn comes when it is the first.
                Err(_) if !messages.is_empty() => break,
                Err(reason) => {
                    self.refuse(Some(source.sender.clone()), reason.clone());
                    let verdict = Verdict::Refused { detail: detail(&reason) };
                    return self.answer(source, id, verdict, None).await;
                }
            }
        }
        let event = inbox::Event::Frame(inbox::Arrival {
            source,
            previous: frame.previous,
            skipped: frame.skipped,
            ack_timeout: Duration::from_millis(frame.ack_timeout_ms),
            messages,
        });
        self.receive(event).await;
    }

    fn content(
        &self,
        source: &Source,
        message: FrameMessage,
        attempt: u32,
    ) -> Result<Incoming<Held>, String> {
        let limit = self.config.max_payload_bytes;
        let payload = message.body.payload(limit).map_err(|error| error.to_string())?;
        let Source { sender, store, stream } = source;
        let advance = InboxAdvance {
            sender: sender.clone(),
            store_id: *store,
            channel: stream.channel.clone(),
            direct: stream.direct,
            lane: stream.lane,
            id: message.id,
        };
        let content = Content {
            id: message.id,
            sender: sender.clone(),
            channel: stream.channel.clone(),
            direct: stream.direct,
            priority: stream.lane,
            kind: message.kind,
            headers: message.headers,
            payload,
            created_ms: message.created_ms,
            ttl_left_ms: message.ttl_left_ms,
            attempt,
            advance,
            receipt: Receipt::new(self.handlers.clone()),
        };
        let headers: usize =
            content.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let bytes = HELD_EACH + headers + content.payload.len();
        Ok(Incoming { id: content.id, bytes, body: Arc::new(content) })
    }

    /// Says this to the inbox, and does what it decides.
    pub(super) async fn receive(&mut self, event: inbox::Event<Held>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = Vec::new();
            self.inbox.handle(self.now(), event, &mut actions);
            for action in actions {
                events.extend(self.perform_inbox(action).await);
            }
        }
        let wake_at = self.inbox.wake_at();
        self.arm(Timer::Inbox, wake_at);
    }

    async fn perform_inbox(&mut self, action: Action<Held>) -> Option<inbox::Event<Held>> {
        match action {
            Action::Handle { source, messages } => self.start_handlers(source, messages),
            Action::Cease { source } => {
                let runs = self.handling.values().filter(|run| run.source == source);
                runs.for_each(|run| run.progress.ceased.store(true, Ordering::SeqCst));
                None
            }
            Action::Commit { source, id } => {
                let store = self.store.clone();
                let Source { sender, store: store_id, stream } = source.clone();
                let advance = InboxAdvance {
                    sender,
                    store_id,
                    channel: stream.channel,
                    direct: stream.direct,
                    lane: stream.lane,
                    id,
                };
                self.jobs.push(Box::pin(async move {
                    let result = store.accept(advance).await;
                    Completion::Committed { source, id, result }
                }));
                None
            }
            Action::Answer { source, id, verdict, last } => {
                self.answer(source, id, verdict, last).await;
                None
            }
            Action::Gap { source, gap } => {
                let (sender, channel) = (source.sender, source.stream.channel);
                self.tell(match gap {
                    Gap::Skipped(count) => Event::Gap { sender, channel, count },
                    Gap::WeWentBack { sender_says } => {
                        Event::InboxWentBack { sender, channel, sender_says }
                    }
                });
                None
            }
            Action::Repeated { source, id } => {
                self.tally.repeated.add(1);
                self.tell(Event::Repeated { sender: source.sender, id });
                None
            }
        }
    }

    async fn answer(
        &mut self,
        source: Source,
        id: MessageId,
        verdict: Verdict,
        last: Option<MessageId>,
    ) {
        match verdict {
            Verdict::Ack => self.tally.acks_sent.add(1),
            Verdict::Working => {}
            _ => self.tally.nacks_sent.add(1),
        }
        let to = Subject::Ack { to: source.sender.clone(), from: self.me.clone() };
        let answer = Answer {
            from: self.me.clone(),
            to: source.sender,
            store: source.store,
            stream: source.stream,
            id,
            last,
            verdict,
        };
        // An answer that does not leave is asked for again by the sender.
        let _ = self.transport.publish(&to, Frame::Answer(answer).encode()).await;
    }

    fn start_handlers(
        &mut self,
        source: Source,
        messages: Vec<(MessageId, Held)>,
    ) -> Option<inbox::Event<Held>> {
        let first = messages.first().map(|(id, _)| *id)?;
        let consumers: Arc<[Consumer]> = match self.channels.get_mut(&source.stream.channel) {
            Some(joined) => {
                joined.consumers.retain(|(_, consumer)| !consumer.is_gone());
                joined.consumers.iter().map(|(_, consumer)| consumer.clone()).collect()
            }
            None => Arc::default(),
        };
        if consumers.is_empty() {
            let results = vec![(first, Ok(Done::Returned))];
            return Some(inbox::Event::Finished { source, results });
        }
        let ids = messages.iter().map(|(id, _)| *id).collect();
        let progress = Arc::new(Progress::default());
        let (store, timeout) = (self.store.clone(), self.config.handler_timeout);
        let task = handle_all(messages, store, consumers, timeout, Arc::clone(&progress));
        let number = self.running.spawn_on(task, &self.handlers).id();
        self.handling.insert(number, Run { source, ids, progress });
        None
    }

    pub(super) async fn handled(&mut self, ended: Result<(tokio::task::Id, Handled), JoinError>) {
        let number = match &ended {
            Ok((number, _)) => *number,
            Err(error) => error.id(),
        };
        let Some(Run { source, ids, progress }) = self.handling.remove(&number) else { return };
        let results = match ended {
            Ok((_, results)) => results,
            // A panic outside of the handler's own call, or the end of the runtime on which it ran.
            Err(error) => {
                let done = progress.done.load(Ordering::SeqCst);
                let cut = Err(format!("the handler was cut short: {error}"));
                let ends = std::iter::repeat_n(Ok(Done::Handled), done).chain([cut]);
                ids.into_iter().zip(ends).collect()
            }
        };
        let taken =
            |result: &Result<Done, String>| matches!(result, Ok(Done::Handled | Done::Committed));
        if !results.iter().all(|(_, result)| taken(result)) {
            // Where the file failed it, the message must not come again before the inbox knows.
            self.take_notices().await;
        }
        for (id, result) in &results {
            match result {
                Ok(Done::Returned) => {}
                Ok(_) => self.tally.processed.add(1),
                Err(reason) => {
                    self.tally.failed.add(1);
                    tracing::warn!(node = %self.me, %id, sender = %source.sender, reason, "handler failed");
                }
            }
        }
        self.receive(inbox::Event::Finished { source, results }).await;
    }
}

/// One message after the other, up to the first that does not end well, or until no more are to be begun.
async fn handle_all(
    messages: Vec<(MessageId, Held)>,
    store: Store,
    consumers: Arc<[Consumer]>,
    timeout: Option<Duration>,
    progress: Arc<Progress>,
) -> Handled {
    let mut results = Vec::with_capacity(messages.len());
    for (id, content) in messages {
        if !results.is_empty() && progress.ceased.load(Ordering::SeqCst) {
            break;
        }
        let all = offer_to_all(&content, &store, &consumers);
        let result = match timeout {
            None => all.await,
            Some(limit) => tokio::time::timeout(limit, all).await.unwrap_or_else(|_| {
                let limit = humantime::format_duration(limit);
                Err(format!("the handler took longer than {limit}"))
            }),
        };
        let result = content.receipt.outcome(result).await;
        let goes_on = matches!(result, Ok(Done::Handled | Done::Committed));
        results.push((id, result));
        if !goes_on {
            break;
        }
        progress.done.fetch_add(1, Ordering::SeqCst);
    }
    results
}

/// One consumer after the other; the message is taken when all have taken it.
async fn offer_to_all(
    content: &Held,
    store: &Store,
    consumers: &[Consumer],
) -> Result<Done, String> {
    for consumer in consumers {
        let (reply, mut answer) = oneshot::channel();
        let message = Message::new(content.clone(), store.clone(), reply);
        let one = match consumer {
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
                if let Err(unsent) = stream.send(message).await {
                    unsent.0.give_back();
                }
                answer
                    .await
                    .map_err(|_| "the message was dropped without an answer".to_owned())??
            }
        };
        if one == Done::Returned {
            return Ok(Done::Returned);
        }
    }
    Ok(Done::Handled)
}

/// The error with its sources.
fn chain(error: &(dyn std::error::Error + Send + Sync)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}
