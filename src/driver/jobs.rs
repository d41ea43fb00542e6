//! What the core wants done with the file goes to the store, and what became of it comes back.

use std::pin::Pin;
use std::time::Instant;

use tokio::sync::oneshot;

use super::convert::{Body, entry, noted};
use super::{ConsumerId, Driver};
use crate::condition::StorageUse;
use crate::core::{Answered, Input, Job as It};
use crate::message::{ChannelName, MessageId, NodeId};
use crate::protocol::admin::{Step, Work};
use crate::protocol::election::StaleToken;
use crate::protocol::leadership::Ticket;
use crate::protocol::looks::Filled;
use crate::protocol::orders::Done;
use crate::protocol::outbound::{PageRequest, Read};
use crate::protocol::settling::{Attempt, Run};
use crate::store::{Settlement, Store, StoreError, again};
use crate::transport::Transport;

pub(super) type Job = Pin<Box<dyn Future<Output = Completion>>>;

type Reply<T> = oneshot::Sender<T>;

pub(super) enum Completion {
    /// Nobody waits for it.
    Noted,
    Answered(Answered<Body>),
    /// The same, and whoever asked gets this.
    Asked(Option<Ticket>, Result<u64, StoreError>, Answered<Body>),
    Settled {
        /// Whether there was anything to write.
        wrote: bool,
        result: Result<(), StoreError>,
        waiters: Vec<Reply<Result<(), StoreError>>>,
    },
    Executed {
        work: Box<Work>,
        /// Whom it was to forget, and how many messages waited.
        forgotten: Option<(NodeId, Option<u64>)>,
        done: Option<Done>,
    },
    ToldOfShutdown,
    /// Nobody reads this stream any more.
    Gone {
        channel: ChannelName,
        consumer: ConsumerId,
    },
}

/// The store has told that there is no room or that the disk fails; everything that has to wait for it tries again, twice a second.
pub(super) fn complain(node: &NodeId, what: &str, error: &StoreError) {
    if error.is_told() {
        tracing::debug!(%node, error = error as &dyn std::error::Error, "could not {what}");
    } else {
        tracing::warn!(%node, error = error as &dyn std::error::Error, "could not {what}");
    }
}

impl<T: Transport> Driver<T> {
    /// Has the loop take what comes of something that the store has been given.
    fn await_answer<R>(
        &mut self,
        what: &'static str,
        answer: impl Future<Output = Result<R, StoreError>> + 'static,
        then: impl FnOnce(Result<R, StoreError>) -> Completion + 'static,
    ) {
        let me = self.me.clone();
        self.jobs.push(Box::pin(async move {
            let result = answer.await;
            if let Err(error) = &result {
                complain(&me, what, error);
            }
            then(result)
        }));
    }

    /// The same, where the core is to hear what came of it, or that nothing did.
    pub(super) fn ask<R>(
        &mut self,
        what: &'static str,
        answer: impl Future<Output = Result<R, StoreError>> + 'static,
        then: impl FnOnce(Option<R>) -> Answered<Body> + 'static,
    ) {
        self.await_answer(what, answer, |result| Completion::Answered(then(result.ok())));
    }

    fn note(
        &mut self,
        what: &'static str,
        answer: impl Future<Output = Result<(), StoreError>> + 'static,
    ) {
        self.await_answer(what, answer, |_| Completion::Noted);
    }

    pub(super) fn give_to_store(&mut self, job: It) {
        let store = self.store.clone();
        match job {
            It::Page { age, request } => self.read_page(age, request),
            It::Settle { runs, attempts } => self.record(runs, attempts),
            It::Subscribe { node, channel, start } => {
                let answer = store.subscribe(node.clone(), channel.clone(), start);
                self.ask("note a reader", answer, |done| Answered::Subscribed {
                    node,
                    channel,
                    taken: done.is_some(),
                });
            }
            It::Unsubscribe { node, channel } => {
                let answer = store.unsubscribe(node.clone(), channel.clone());
                self.ask("note that a reader left", answer, |purged| Answered::Unsubscribed {
                    node,
                    channel,
                    purged,
                });
            }
            It::Forget { node, ticket } => {
                let answer = store.forget(node.clone());
                self.await_answer("forget a peer", answer, move |result| {
                    let result = result.map(|forgotten| forgotten.pending);
                    let pending = result.as_ref().ok().copied();
                    Completion::Asked(ticket, result, Answered::Forgotten { node, pending })
                });
            }
            It::Purge { node, channel, ticket } => {
                let answer = store.purge(node.clone(), channel);
                self.await_answer("purge a queue", answer, move |result| {
                    Completion::Asked(Some(ticket), result, Answered::Purged { node })
                });
            }
            It::Join { channel, how, ticket } => {
                let answer = store.join(channel.clone());
                self.await_answer("join a channel", answer, move |result| {
                    let joined_ms = result.as_ref().ok().copied();
                    // Where the file has it, the core has the last word.
                    let failed = joined_ms.is_none().then_some(ticket);
                    let joined = Answered::Joined { channel, how, ticket, joined_ms };
                    Completion::Asked(failed, result, joined)
                });
            }
            It::Leave { channel, ticket } => {
                let answer = store.leave(vec![channel.clone()]);
                self.await_answer("leave a channel", answer, move |result| {
                    let left = Answered::Left { channel, taken: result.is_ok() };
                    Completion::Asked(ticket, result.map(|()| 0), left)
                });
            }
            It::NoteOrder { order, token, row } => {
                let answer = store.note_order(token, row.map(entry).into_iter().collect());
                self.ask("note an order", answer, |noted| {
                    let stale = |noted: Result<(), StaleToken>| {
                        noted.map_err(|stale| Some(stale.to_string()))
                    };
                    Answered::OrderNoted { order, result: noted.map_or(Err(None), stale) }
                });
            }
            It::SaveElection { seq, record, row } => {
                let rows = row.map(entry).into_iter().collect();
                let answer = store.save_election(record, rows);
                self.ask("keep what was promised in an election", answer, move |done| {
                    Answered::ElectionSaved { seq, taken: done.is_some() }
                });
            }
            It::Execute(work) => self.execute(work),
            It::Waiting => self.ask("count what waits", store.waiting(), Answered::Waiting),
            It::Pending => self.ask("count what waits", store.pending(), Answered::Pending),
            It::Measure => {
                let (accounts, storage) = (store.accounts(), store.storage());
                let found = async {
                    let accounts = accounts.await?;
                    let StorageUse { used_bytes, limit_bytes } = storage.await?;
                    Ok(Filled { accounts, used_bytes, limit_bytes })
                };
                self.ask("see how full the file is", found, Answered::Measured);
            }
            It::Expire => {
                let begun = Instant::now();
                let ended = async move { Ok((store.expire_unclaimed().await?.1, begun.elapsed())) };
                self.ask("note what expired without a reader", ended, move |done| {
                    let took = done.map_or_else(|| begun.elapsed(), |(_, took)| took);
                    Answered::Expired { took, next_ms: done.map(|(next, _)| next).ok_or(()) }
                });
            }
            It::CleanUp => {
                let me = self.me.clone();
                let cleaned = async move {
                    let cleaned = store.cleanup().await?;
                    tracing::debug!(node = %me, ?cleaned, "cleaned up");
                    Ok(())
                };
                self.ask("clean up", cleaned, |_| Answered::CleanedUp);
            }
            It::Report(query) => self.gather_report(&query),
            It::NotePeers(known) => {
                let answer = store.know_peers(known.into_iter().map(noted).collect());
                self.note("note a peer", answer);
            }
            It::Enter(row) => {
                self.note("note an event in the audit", store.enter(vec![entry(row)]))
            }
            It::NoteClock => self.note("note the file's clock", store.watch_clock()),
        }
    }

    fn read_page(&mut self, age: u64, request: PageRequest) {
        let (store, reader) = (self.store.clone(), self.store.clone());
        let (me, asked) = (self.me.clone(), request.clone());
        self.jobs.push(Box::pin(async move {
            let page = tokio::task::spawn_blocking(move || reader.page(&asked)).await;
            let page = page
                .map_err(|error| error.to_string())
                .and_then(|page| page.map_err(|error| error.to_string()));
            let page = match page {
                Ok(page) if !page.strays.is_empty() => match store.put_back(page.strays).await {
                    Ok(()) => Err("messages in it were out of place".to_owned()),
                    Err(error) => Err(error.to_string()),
                },
                page => page,
            };
            if let Err(error) = &page {
                tracing::warn!(node = %me, error, "a backlog could not be read");
            }
            let read = page.ok().map(Read::from);
            Completion::Answered(Answered::Page { age, request, read })
        }));
    }

    fn record(&mut self, runs: Vec<Run>, attempts: Vec<Attempt>) {
        let waiters = std::mem::take(&mut self.settle_waiters);
        let wrote = !runs.is_empty() || !attempts.is_empty();
        if !wrote {
            let settled = Completion::Settled { wrote, result: Ok(()), waiters };
            return self.jobs.push(Box::pin(std::future::ready(settled)));
        }
        let settlements = runs.into_iter().map(Settlement::from).collect();
        let answer = self.store.settle(settlements, attempts);
        self.await_answer("note what has been settled", answer, move |result| {
            Completion::Settled { wrote, result, waiters }
        });
    }

    /// Messages of this run travel under a new store id.
    pub(super) fn take_new_store(&mut self, from: MessageId, newest: MessageId) {
        let answer = self.store.new_store(from, newest);
        self.ask("take a new store id", answer, move |store| Answered::NewStore { from, store });
    }

    fn execute(&mut self, work: Box<Work>) {
        let (reply, settled) = oneshot::channel();
        self.settle_waiters.push(reply);
        let (store, me) = (self.store.clone(), self.me.clone());
        self.jobs.push(Box::pin(async move {
            // Whatever comes of it, its deliveries stand still no longer.
            let mut forgotten = work.steps().iter().find_map(|step| match step {
                Step::Forget(node) => Some((node.clone(), None)),
                _ => None,
            });
            let result = obey(&store, &work, settled, &mut forgotten).await;
            let entered = match result.as_ref().ok().and_then(|done| work.row(done)) {
                Some(row) => store.enter(vec![entry(row.into())]).await,
                None => Ok(()),
            };
            if let Err(error) = &entered {
                let error = error as &dyn std::error::Error;
                tracing::warn!(error, "an order was obeyed, and is missing in the audit");
            }
            if let Err(error) = &result {
                complain(&me, "obey an order", error);
            }
            Completion::Executed { work, forgotten, done: result.ok() }
        }));
    }

    /// What the store told with its commits came before its answers, and is taken first.
    pub(super) fn completed(&mut self, completion: Completion) {
        self.take_notices();
        match completion {
            Completion::Noted => {}
            Completion::Answered(answered) => self.say(Input::Answered(answered)),
            Completion::Asked(ticket, result, answered) => {
                self.say(Input::Answered(answered));
                if let Some(ticket) = ticket {
                    self.answer_asker(ticket, result);
                }
            }
            Completion::Settled { wrote, result, waiters } => {
                // Who waits for a change looks again, and each look asks for what is not on record: to call that a change would never end.
                if wrote && result.is_ok() {
                    self.around.accounts_changed();
                }
                self.say(Input::Answered(Answered::Settled { taken: result.is_ok() }));
                for waiter in waiters {
                    let _ = waiter.send(result.as_ref().map_err(again).copied());
                }
            }
            Completion::Executed { work, forgotten, done } => {
                if let Some((node, pending)) = forgotten {
                    self.say(Input::Answered(Answered::Forgotten { node, pending }));
                }
                self.say(Input::Answered(Answered::Executed { work, done }));
            }
            Completion::ToldOfShutdown => self.say(Input::ToldOfShutdown),
            Completion::Gone { channel, consumer } => self.detach(channel, consumer),
        }
    }
}

/// Does what an order asks of the file, one step after the other; what was under way to it before that is waited for.
async fn obey(
    store: &Store,
    work: &Work,
    settled: oneshot::Receiver<Result<(), StoreError>>,
    forgotten: &mut Option<(NodeId, Option<u64>)>,
) -> Result<Done, StoreError> {
    let (mut done, mut settled) = (Done::default(), Some(settled));
    for step in work.steps() {
        match step {
            Step::Forget(node) => {
                done.purged = store.forget(node.clone()).await?.pending;
                *forgotten = Some((node.clone(), Some(done.purged)));
            }
            Step::Settle => {
                let Some(settled) = settled.take() else { continue };
                settled.await.unwrap_or(Err(StoreError::Closed))?;
            }
            Step::Leave(channels) => {
                store.leave(channels.clone()).await?;
                done.left = channels.len() as u64;
            }
            Step::Drain(by) => store.set_draining(by.clone()).await?,
            Step::PurgeQueue => done.purged = store.purge_queue().await?,
            Step::PurgeSent { before_ms } => {
                let before_ms = before_ms.unwrap_or_else(|| store.now_ms() + 1);
                let cleaned = store.purge_sent(before_ms).await?;
                (done.deleted, done.records) = (cleaned.messages, cleaned.records);
            }
            Step::Count => done.waiting = store.waiting().await?,
        }
    }
    Ok(done)
}
