//! Frames over plain NATS.
//!
//! The client's own word is not taken for anything: its state turns to connected before our subscriptions are sent again,
//! its publish queues without a connection, its events can be lost. So state is read at every look, compared with what
//! we believe, and a connection counts as up when an [`echo`] has come back over it.
//!
//! # What is left after the end
//!
//! A connected client's tasks end when the last handle is dropped, and `close` waits for that. A client that is looking
//! for a server never looks at its handles: its task cannot be ended from outside. After `close`, or drop, it stops trying, for
//! good, and sleeps until its runtime is dropped, as the driver's is right after `close`. Resolving a host name runs on a
//! blocking thread that no runtime can interrupt: end the runtime with `shutdown_timeout`, not with a plain drop.

mod echo;
mod error;
mod files;
mod life;
mod options;
mod outbox;
mod signals;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn, ready};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, Message, PublishErrorKind, Statistics, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout, timeout_at};

use self::echo::{Echo, Token};
pub use self::error::ConnectError;
use self::files::Problem;
use self::life::{Life, Seen};
use self::outbox::{Counts, Outbox, Size};
use self::signals::{Signals, Trouble};
use super::{
    Audience, PublishError, Role, ServerInfo, Subject, Subjects, Transport, TransportEvent,
};
use crate::condition::Outage;
use crate::config::Config;
use crate::message::NodeId;

/// How often the client's state is read, should its events have been lost.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often at most it is looked whether the client has written something, while something waits for that.
const PUMP_INTERVAL: Duration = Duration::from_millis(16);
/// A connection that was up for this long is stable: a loss after it is tried again at once.
const STABLE_AFTER: Duration = Duration::from_secs(5);
/// Before a client that has ended by itself, which it should not, is replaced.
const REOPEN_DELAY: Duration = Duration::from_secs(1);
/// Denials that are remembered, so that each is told once a connection.
const MAX_TOLD_DENIALS: usize = 64;

/// A connection to one of the servers in the settings, or the search for one.
pub(crate) struct NatsTransport {
    config: Config,
    me: NodeId,
    role: Role,
    subjects: Subjects,
    own: Subject,
    open: Open,
    link: Link,
    /// The client's count of connections at the last look: one that was replaced between two looks is noticed by it.
    connects: u64,
    echo: Echo,
    outbox: Outbox,
    life: Life,
    /// How often it was waited for room since there was some.
    waits: u32,
    standing: Standing,
    told_denials: Vec<String>,
    /// Why there is no connection, as far as it was told in this outage.
    told_reasons: Vec<String>,
    /// When the last of them was told.
    told_at: Instant,
    events: VecDeque<TransportEvent>,
    tick: Interval,
    /// When the client has ended by itself: when it is to be replaced.
    reopen_at: Option<Instant>,
}

/// One client with its subscriptions.
struct Open {
    client: Client,
    statistics: Arc<Statistics>,
    subscribers: Vec<Subscriber>,
    /// Whose turn it is, so that no subscription starves another.
    turn: usize,
    signals: Arc<Signals>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Down,
    /// Connected, and the echo is under way.
    Proving,
    Up {
        since: Instant,
    },
}

/// What the owner was told last.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Nothing,
    Up,
    Down(Outage),
    Unauthorized(String),
}

/// What is told of an outage at once. Two reasons that alternate are no stream of events: further ones are told once a minute.
const MAX_TOLD_REASONS: usize = 16;
const TELL_AGAIN: Duration = Duration::from_secs(60);

impl NatsTransport {
    /// Begins to connect, and returns without waiting for a server. The settings have passed `Config::validate`.
    ///
    /// # Errors
    /// What is wrong with the settings themselves: an address, a file that cannot be read or used. A server that is away or
    /// refuses us is no error but an event.
    pub(crate) async fn connect(
        config: &Config,
        me: &NodeId,
        role: Role,
    ) -> Result<Self, ConnectError> {
        let subjects = Subjects::new(&config.prefix);
        let open = Open::new(config, me, &subjects, role).await?;
        let mut tick = interval(LOOK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            config: config.clone(),
            me: me.clone(),
            role,
            subjects,
            own: Subject::Management { to: Audience::Node(me.clone()), from: me.clone() },
            open,
            link: Link::Down,
            connects: 0,
            echo: Echo::new(),
            outbox: Outbox::default(),
            life: Life::new(Instant::now()),
            waits: 0,
            standing: Standing::Nothing,
            told_denials: Vec::new(),
            told_reasons: Vec::new(),
            told_at: Instant::now(),
            events: VecDeque::new(),
            tick,
            reopen_at: None,
        })
    }

    /// Compares what the client says now with what we believe, and takes the callbacks' marks.
    fn look(&mut self) {
        let now = Instant::now();
        self.look_at_state(now);
        self.look_at_signals();
        match self.link {
            Link::Proving if self.echo.is_due(now) => self.send_echo(now),
            Link::Up { since } => {
                if now.duration_since(since) >= STABLE_AFTER {
                    self.open.signals.stable();
                }
                self.look_at_life(now);
            }
            // A subject that is denied to us echoes on no connection.
            Link::Proving if self.told_denials.is_empty() => self.look_at_life(now),
            Link::Down | Link::Proving => {}
        }
    }

    fn look_at_life(&mut self, now: Instant) {
        let counts = self.open.counts();
        self.life.look(
            now,
            Seen {
                in_bytes: self.open.statistics.in_bytes.load(Ordering::Relaxed),
                in_messages: self.open.statistics.in_messages.load(Ordering::Relaxed),
                unwritten: self.outbox.unwritten(counts),
                written: self.outbox.written(counts),
            },
            self.echo.oldest(),
        );
        if self.life.is_over(now, self.echo.oldest()) {
            self.abandon();
        } else if self.life.is_due(now, self.echo.newest()) {
            self.send_echo(now);
        }
    }

    /// The link is dead, whatever the client thinks of it. Asked to connect anew it would first say farewell over that link, where that is
    /// encrypted, and never come back from it.
    fn abandon(&mut self) {
        let time = life::PATIENCE.as_secs();
        self.lost(format!("the server gave no answer for {time} s"));
        self.open.signals.marks().abandoned = true;
        self.open.subscribers.clear();
        self.reopen_at = Some(Instant::now());
    }

    fn look_at_state(&mut self, now: Instant) {
        let connects = self.open.connects();
        let connected = self.open.is_connected();
        if self.link != Link::Down && (!connected || connects != self.connects) {
            let said = self.open.signals.marks().take_last_word();
            self.lost(said.unwrap_or_else(|| "the connection was lost".to_owned()));
        }
        if self.link == Link::Down && connected {
            self.connects = connects;
            self.link = Link::Proving;
            self.life = Life::new(now);
            self.told_denials.clear();
            self.echo.restart(connects);
            self.outbox.restart(self.open.counts());
            self.send_echo(now);
        }
    }

    fn lost(&mut self, reason: String) {
        // A connection that breaks before its proof is news only where nothing was told yet.
        if matches!(self.link, Link::Up { .. }) || self.standing == Standing::Nothing {
            self.tell_down(signals::kind(&reason), reason);
        }
        self.link = Link::Down;
        self.outbox.restart(self.open.counts());
    }

    fn look_at_signals(&mut self) {
        let mut marks = self.open.signals.marks();
        let mut denied = std::mem::take(&mut marks.denied);
        let slow = std::mem::take(&mut marks.slow);
        let lame_duck = std::mem::take(&mut marks.lame_duck);
        if self.link != Link::Down {
            denied.extend(marks.take_word());
        }
        let trouble = match self.link {
            // A refusal comes before the loss that it causes, and is told after it.
            Link::Up { .. } => None,
            Link::Down | Link::Proving => marks.trouble.take(),
        };
        drop(marks);
        for reason in denied {
            if self.told_denials.len() < MAX_TOLD_DENIALS && !self.told_denials.contains(&reason) {
                self.told_denials.push(reason.clone());
                if !matches!(self.link, Link::Up { .. }) {
                    self.standing = Standing::Down(Outage::Refused);
                }
                self.events.push_back(TransportEvent::Denied { reason });
            }
        }
        if slow {
            self.life.excuse(Instant::now());
            self.events.push_back(TransportEvent::Slow);
        }
        if lame_duck && !matches!(self.open.client.force_reconnect().now_or_never(), Some(Ok(()))) {
            self.open.signals.marks().lame_duck = true;
        }
        if let Some(trouble) = trouble {
            self.tell(trouble);
        }
    }

    /// Tells why there is no connection, where that is news: of another kind than what was told last, or in other words of something that
    /// somebody has to remove.
    fn tell(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Unauthorized(reason) => {
                let standing = Standing::Unauthorized(reason.clone());
                if self.standing != standing && self.may_tell() {
                    self.note_told(standing, &reason);
                    self.events.push_back(TransportEvent::Unauthorized { reason });
                }
            }
            Trouble::Unreachable(outage, reason) => {
                tracing::debug!(%reason, "no connection to a NATS server");
                let is_other = self.standing != Standing::Down(outage);
                let is_new = outage != Outage::NoServer && !self.told_reasons.contains(&reason);
                if (is_other || is_new) && self.may_tell() {
                    self.tell_down(outage, reason);
                }
            }
            Trouble::Vague(reason) => {
                if self.standing == Standing::Nothing {
                    self.tell_down(Outage::NoServer, reason);
                }
            }
        }
    }

    fn may_tell(&mut self) -> bool {
        if self.told_reasons.len() >= MAX_TOLD_REASONS && self.told_at.elapsed() >= TELL_AGAIN {
            self.told_reasons.pop();
        }
        self.told_reasons.len() < MAX_TOLD_REASONS
    }

    fn tell_down(&mut self, outage: Outage, reason: String) {
        self.note_told(Standing::Down(outage), &reason);
        self.events.push_back(TransportEvent::Down { reason, outage });
    }

    fn note_told(&mut self, standing: Standing, reason: &str) {
        self.standing = standing;
        self.told_at = Instant::now();
        self.told_reasons.push(reason.to_owned());
    }

    /// A token that does not find room is lost, and sent again in time.
    fn send_echo(&mut self, now: Instant) {
        let token = self.echo.send(now, self.outbox.handed() + 1).to_bytes();
        let to = self.subjects.render(&self.own);
        if self.send(to, token).is_err() {
            tracing::debug!("the client took no echo");
        }
    }

    fn echo_came(&mut self, token: Token) {
        self.look();
        let Some(sent) = self.echo.returned(token) else { return };
        if sent.handed == self.outbox.handed() {
            self.outbox.all_is_written(self.open.counts());
        }
        self.life.proven(sent.at);
        if self.link != Link::Proving {
            return;
        }
        let info = self.open.client.try_server_info().unwrap_or_default();
        let mut marks = self.open.signals.marks();
        // It is of the search that has just ended.
        marks.trouble = None;
        let address = marks.address.clone();
        drop(marks);
        let now = Instant::now();
        let rtt = now.duration_since(sent.at);
        self.link = Link::Up { since: now };
        self.life = Life::new(now);
        self.standing = Standing::Up;
        self.told_reasons.clear();
        self.events.push_back(TransportEvent::Up {
            max_payload: self.open.client.max_payload(),
            server: ServerInfo {
                name: info.server_name,
                id: info.server_id,
                cluster: info.cluster,
                version: info.version,
                address,
                rtt,
            },
            denied: self.told_denials.clone(),
        });
    }

    /// A frame that is no message: at once, or as soon as there is room.
    fn send(&mut self, subject: String, frame: Bytes) -> Result<(), PublishError> {
        let size = Size::of(&subject, &frame);
        if !self.outbox.is_waiting() && self.outbox.fits(self.open.counts(), size) {
            return self.hand_over(subject, frame, size);
        }
        match self.outbox.wait(subject, frame) {
            true => Ok(()),
            false => Err(PublishError::Busy),
        }
    }

    fn send_message(&mut self, subject: String, frame: Bytes) -> Result<(), PublishError> {
        let size = Size::of(&subject, &frame);
        if !self.outbox.fits_message(self.open.counts(), size) {
            return Err(PublishError::Busy);
        }
        let handed = self.hand_over(subject, frame, size);
        if handed == Err(PublishError::Busy) {
            self.outbox.refuse(0);
        }
        handed
    }

    /// Gives a frame to the client, which has a place for it, unless something of an earlier connection is left in its queue.
    fn hand_over(&mut self, subject: String, frame: Bytes, size: Size) -> Result<(), PublishError> {
        let bytes = frame.len();
        let published = self.open.client.publish(subject, frame);
        // The budget of the task would make a client with room look full.
        match tokio::task::unconstrained(published).now_or_never() {
            Some(Ok(())) => {
                self.outbox.gave(size);
                Ok(())
            }
            Some(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(PublishError::TooLarge { size: bytes, limit: self.open.client.max_payload() })
            }
            Some(Err(_)) => Err(PublishError::NotConnected),
            None => Err(PublishError::Busy),
        }
    }

    /// Gives the client what waits and now fits, and tells of room for messages.
    fn pump(&mut self) {
        if !self.outbox.wants_room() {
            return;
        }
        while let Some((subject, frame)) = self.outbox.next_waiting(self.open.counts()) {
            self.waits = 0;
            let size = Size::of(&subject, &frame);
            if let Err(error) = self.hand_over(subject, frame, size) {
                tracing::debug!(%error, "a frame that waited did not leave");
            }
        }
        if self.outbox.take_room(self.open.counts()) {
            self.waits = 0;
            self.events.push_back(TransportEvent::Room);
        }
    }

    fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
            && self.open.is_connected()
            && self.open.connects() == self.connects
    }

    /// `None` for an echo.
    fn sort(&mut self, message: Message) -> Option<TransportEvent> {
        let from = match self.subjects.parse(&message.subject) {
            Some(subject) if subject.is_for(&self.me, self.role) => subject,
            _ => return Some(TransportEvent::Stray),
        };
        if from == self.own
            && let Some(token) = Token::read(&message.payload)
        {
            self.echo_came(token);
            return None;
        }
        if *from.from() == self.me
            && let Some(sent) = self.echo.broadcast_came(&message.payload)
        {
            self.life.proven(sent);
        }
        Some(TransportEvent::Frame { from, bytes: message.payload })
    }

    fn client_ended(&mut self) {
        tracing::error!("the NATS client has ended by itself; it is replaced");
        self.lost("the client ended".to_owned());
        self.open.subscribers.clear();
        self.reopen_at = Some(Instant::now() + REOPEN_DELAY);
    }

    async fn reopen(&mut self) {
        match Open::new(&self.config, &self.me, &self.subjects, self.role).await {
            Ok(open) => {
                self.open = open;
                self.echo = Echo::new();
                self.outbox = Outbox::default();
                self.connects = 0;
                self.reopen_at = None;
            }
            Err(error) => {
                self.reopen_at = Some(Instant::now() + STABLE_AFTER);
                let reason = format!("the NATS client cannot be replaced: {error}");
                self.tell(match error.is_about_trust() {
                    true => Trouble::Unreachable(Outage::NoTrust, reason),
                    false => Trouble::Unauthorized(reason),
                });
            }
        }
    }
}

/// Lets the client's task write; it does not tell when it has.
async fn until_written(waits: &mut u32) {
    match waits.checked_sub(1) {
        None => tokio::task::yield_now().await,
        Some(n) => sleep(Duration::from_millis(1 << n.min(4)).min(PUMP_INTERVAL)).await,
    }
    *waits = waits.saturating_add(1);
}

impl Transport for NatsTransport {
    async fn next(&mut self) -> TransportEvent {
        loop {
            self.pump();
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            if self.reopen_at.is_some_and(|at| at <= Instant::now()) {
                self.reopen().await;
            }
            let signals = Arc::clone(&self.open.signals);
            tokio::select! {
                message = self.open.next_message() => match message {
                    Some(message) => {
                        if let Some(event) = self.sort(message) {
                            return event;
                        }
                    }
                    None => self.client_ended(),
                },
                () = signals.wake.notified() => self.look(),
                _ = self.tick.tick() => self.look(),
                () = until_written(&mut self.waits), if self.outbox.wants_room() => {}
            }
        }
    }

    fn try_publish(&mut self, to: &Subject, frame: Bytes) -> Result<(), PublishError> {
        if !self.is_up() {
            return Err(PublishError::NotConnected);
        }
        let (size, limit) = (frame.len(), self.open.client.max_payload());
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        let subject = self.subjects.render(to);
        match to {
            Subject::Message { .. } => self.send_message(subject, frame),
            Subject::Keepalive { .. } | Subject::Election { .. } => {
                self.echo.broadcast(frame.clone(), Instant::now());
                self.send(subject, frame)
            }
            Subject::Ack { .. } | Subject::Order { .. } | Subject::Management { .. } => {
                self.send(subject, frame)
            }
        }
    }

    fn has_room(&mut self) -> bool {
        // Without a connection the answer is another one.
        !self.is_up() || self.outbox.has_room(self.open.counts())
    }

    async fn close(mut self, within: Duration) {
        let deadline = tokio::time::Instant::now() + within;
        self.open.signals.marks().closed = true;
        if matches!(self.link, Link::Up { .. }) {
            // The echo's return shows that all before it reached the server, which no flush does.
            let token = self.echo.send(Instant::now(), 0);
            let to = self.subjects.render(&self.own);
            let proof = async {
                if self.send(to, token.to_bytes()).is_err() {
                    return;
                }
                while self.open.is_connected() {
                    self.pump();
                    let wait = if self.outbox.wants_room() { PUMP_INTERVAL } else { LOOK_INTERVAL };
                    let message = timeout(wait, self.open.next_message()).await;
                    match message {
                        Ok(Some(message)) if Token::read(&message.payload) == Some(token) => return,
                        Ok(None) => return,
                        Ok(Some(_)) | Err(_) => {}
                    }
                }
            };
            // What an observer asked was answered, or is of no use any more.
            if timeout_at(deadline, proof).await.is_err() && self.role != Role::Observer {
                tracing::warn!("closing without proof that the last frames reached the server");
            }
        }
        let connected = self.open.is_connected();
        let signals = Arc::clone(&self.open.signals);
        drop(self);
        // The client's tasks hold the other references.
        let ended = async {
            while Arc::strong_count(&signals) > 1 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        if connected && timeout_at(deadline, ended).await.is_err() {
            tracing::warn!("the NATS client's tasks have not ended yet");
        }
    }
}

impl Open {
    async fn new(
        config: &Config,
        me: &NodeId,
        subjects: &Subjects,
        role: Role,
    ) -> Result<Self, ConnectError> {
        let problem = Problem::default();
        let (servers, options) = options::options(config, me, &problem)?;
        let subscriptions = subjects.subscriptions(me, role);
        let configured = servers.clone();
        let signals = Arc::new(Signals::new(configured, problem, subscriptions.clone()));
        let (choosing, hearing) = (Arc::clone(&signals), Arc::clone(&signals));
        let client = options
            .reconnect_to_server_callback(move |servers, _| {
                let choice = choosing.choose(&servers);
                async move {
                    match choice {
                        Some(choice) => Some(choice),
                        // Closed. An answer, whichever, would go on with the search.
                        None => pending().await,
                    }
                }
            })
            .event_callback(move |event| {
                hearing.on_event(event);
                ready(())
            })
            .connect(servers)
            .await
            .map_err(|error| ConnectError::Client(error.into()))?;
        let mut subscribers = Vec::new();
        for subject in subscriptions {
            let subscriber = client.subscribe(subject).await;
            subscribers.push(subscriber.map_err(|error| ConnectError::Client(error.into()))?);
        }
        let statistics = client.statistics();
        Ok(Self { client, statistics, subscribers, turn: 0, signals })
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    fn connects(&self) -> u64 {
        self.statistics.connects.load(Ordering::Relaxed)
    }

    fn counts(&self) -> Counts {
        Counts {
            messages: self.statistics.out_messages.load(Ordering::Relaxed),
            bytes: self.statistics.out_bytes.load(Ordering::Relaxed),
        }
    }

    /// The next message of any subscription; `None` when the client has ended. Cancelling loses nothing.
    fn next_message(&mut self) -> impl Future<Output = Option<Message>> {
        poll_fn(|context| {
            let count = self.subscribers.len();
            for _ in 0..count {
                self.turn = (self.turn + 1) % count;
                if let Poll::Ready(message) = self.subscribers[self.turn].poll_next_unpin(context) {
                    return Poll::Ready(message);
                }
            }
            Poll::Pending
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.signals.marks().closed = true;
    }
}
