//! What comes from the other nodes: written down, taken, shown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use waypost::error::TransactionError;
use waypost::{HandlerResult, Message, NodeId, rusqlite};

use super::{Hub, Notice, TYPING_LASTS};
use crate::history::{self, Recorded};
use crate::room::{Applied, Change, Event, KIND_TYPING, Key, Refusal, TypingBody, Upto};

/// Between two attempts to write down what came.
const RETRY: Duration = Duration::from_secs(1);
/// More who type at the same time are not told of.
const MOST_TYPING: usize = 256;

/// Somebody is typing.
pub(super) struct Typing {
    /// For how long that is believed.
    pub(super) until: Instant,
    /// When it was last told.
    told: Instant,
}

impl Hub {
    pub(super) async fn receive(&self, mut message: Message) -> HandlerResult {
        let mut event = Event {
            sender: message.sender().clone(),
            id: message.id(),
            kind: message.kind().as_str().to_owned(),
            to: message.is_direct().then(|| self.me().clone()),
            body: message.payload().to_vec(),
            seq: 0,
        };
        if event.kind == KIND_TYPING {
            match TypingBody::read(&event.body) {
                Ok(TypingBody { on }) => self.set_typing(event.sender, on),
                Err(refusal) => self.refuse(&event, refusal),
            }
            return Ok(());
        }
        let change = match Change::of(&event) {
            Ok(change) => change,
            Err(refusal) => {
                self.refuse(&event, refusal);
                return Ok(());
            }
        };
        let Recorded { seq, notes } = self.take(&mut message, &event, &change).await?;
        event.seq = seq;
        if matches!(change, Change::Text(_) | Change::File(_) | Change::Edit { .. }) {
            self.set_typing(event.sender.clone(), false);
        }
        for note in notes {
            // It was read before it was written.
            let _ = self.state().room.handle(&note);
        }
        self.apply(&event, change).await;
        Ok(())
    }

    /// Writes a message down and takes it, in one commit. A statement that fails, for lack of space perhaps, is no fault of the message's:
    /// refused, it would become a dead letter in the end, so it is tried again until the node stops.
    async fn take(
        &self,
        message: &mut Message,
        event: &Event,
        change: &Change,
    ) -> Result<Recorded, TransactionError<rusqlite::Error>> {
        loop {
            let (name, row, effect) = (self.channel().to_owned(), event.clone(), change.clone());
            match message.ack_in(move |tx| history::record(tx, &name, &row, &effect)).await {
                Err(TransactionError::User(error)) => {
                    tracing::error!("message {} cannot be written down yet: {error}", event.id);
                    tokio::time::sleep(RETRY).await;
                }
                result => return result,
            }
        }
    }

    fn refuse(&self, event: &Event, refusal: Refusal) {
        tracing::debug!(sender = %event.sender, id = %event.id, kind = event.kind, "ignored: {refusal}");
        self.state().room.refuse(refusal);
    }

    fn set_typing(&self, who: NodeId, on: bool) {
        let now = Instant::now();
        let is_news = {
            let typing = &mut self.state().typing;
            let known = typing.remove(&who).filter(|typing| typing.until > now);
            if typing.len() >= MOST_TYPING {
                typing.retain(|_, typing| typing.until > now);
            }
            let told = known.as_ref().map(|typing| typing.told);
            let is_news = match told {
                // Told again so that pages go on believing it, not at every word of a flood.
                Some(told) => !on || now.duration_since(told) >= TYPING_LASTS / 3,
                None => on,
            };
            if on && typing.len() < MOST_TYPING {
                let told = told.filter(|_| !is_news).unwrap_or(now);
                typing.insert(who.clone(), Typing { until: now + TYPING_LASTS, told });
            }
            is_news
        };
        if is_news {
            self.tell(Notice::Typing(who, on));
        }
    }

    /// Shows what came, or was sent.
    pub(super) async fn apply(&self, event: &Event, change: Change) {
        let (direct, upto) = match &change {
            Change::Read(upto) => (event.to.is_some(), upto.clone()),
            _ => (false, Upto::new()),
        };
        let old = {
            // Told under the lock, so that nobody hears of two changes in the wrong order.
            let mut state = self.state();
            match state.room.apply(event, change) {
                Applied::New(key) => {
                    if let Some(post) = state.room.post(&key) {
                        self.tell(Notice::Said(Arc::new(post)));
                    }
                    None
                }
                Applied::Changed(key) => match state.room.post(&key) {
                    Some(post) => {
                        self.tell(Notice::Changed(Arc::new(post)));
                        None
                    }
                    None => Some(key),
                },
                Applied::Read if event.sender == *self.me() => {
                    self.tell(Notice::Read { direct, upto });
                    None
                }
                Applied::Read => {
                    self.tell_read(&state, upto.get(self.me()).copied());
                    None
                }
                Applied::Nothing => None,
            }
        };
        if let Some(key) = old {
            self.tell_old(key).await;
        }
    }

    /// A message that is no longer in memory has changed; it may still be shown somewhere.
    async fn tell_old(&self, key: Key) {
        match self.old_post(key).await {
            Ok(Some(post)) => self.tell(Notice::Changed(Arc::new(post))),
            // It has not come yet.
            Ok(None) => {}
            Err(error) => tracing::debug!("an old message: {error:#}"),
        }
    }
}
