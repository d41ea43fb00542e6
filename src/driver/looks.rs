//! Looks at what waits and why: does what the part that decides about them wants done.

use std::time::{Instant, SystemTime};

use tokio::sync::oneshot;

use super::{Completion, Driver, Timer};
use crate::clock;
use crate::condition::StorageUse;
use crate::event::Event;
use crate::protocol::looks::{Around, Effect, Filled, Looks, Pending};
use crate::protocol::report::About;
use crate::protocol::stalls::News;
use crate::reason::{Reason, Told};
use crate::store::StoreError;
use crate::transport::Transport;

impl<T: Transport> Driver<T> {
    /// Has it decided what follows from something, and does that.
    pub(super) fn with_looks<R>(
        &mut self,
        decide: impl FnOnce(&mut Looks, &mut Around<'_>) -> R,
    ) -> R {
        let (now, mut out) = (self.now(), Vec::new());
        let connection = self.status.borrow().link.clone();
        let (outbound, store) = (&self.outbound, &self.store);
        let around = &mut Around {
            now,
            counted: clock::now(),
            wall: SystemTime::now(),
            starting: self.lifecycle.is_starting(),
            link: self.link,
            connection: &connection,
            file: &|| store.reasons().collect(),
            apart: &|| store.clock_reason(),
            closed: self.admin.closed(),
            peers: &self.peers,
            leadership: self.leadership.as_ref(),
            standing: &|receiver, topic| outbound.standing(receiver, topic),
            out: &mut out,
        };
        let decided = decide(&mut self.looks, around);
        for effect in out {
            self.perform_for_looks(effect);
        }
        decided
    }

    fn perform_for_looks(&mut self, effect: Effect) {
        match effect {
            Effect::Count => {
                let answer = self.store.pending();
                self.await_job(answer, Completion::Pending);
            }
            Effect::Measure => {
                self.settle();
                let (accounts, storage) = (self.store.accounts(), self.store.storage());
                let found = async {
                    let accounts = accounts.await?;
                    let StorageUse { used_bytes, limit_bytes } = storage.await?;
                    Ok(Filled { accounts, used_bytes, limit_bytes })
                };
                self.await_job(found, Completion::Measured);
            }
            Effect::Expire => {
                let store = self.store.clone();
                self.jobs.push(Box::pin(async move {
                    let begun = Instant::now();
                    let next_ms = store.expire_unclaimed().await.map(|(_, next_ms)| next_ms);
                    Completion::Expired { took: begun.elapsed(), next_ms }
                }));
            }
            Effect::Show(reasons) => self.status.send_modify(|status| status.reasons = reasons),
            Effect::Tell(News::Begins(reason)) => {
                tracing::warn!(node = %self.me, "{reason}");
                self.tell(Event::Stalled { reason });
            }
            Effect::Tell(News::Ends(reason)) => {
                tracing::warn!(node = %self.me, "{}", reason.over());
                self.tell(Event::Resumed { reason });
            }
            Effect::Near(near) => {
                tracing::warn!(node = %self.me, "{}", near.reason());
                self.tell(Event::LimitNear(near));
            }
            Effect::Answer(reasons) => {
                for reply in std::mem::take(&mut self.asking_for_reasons) {
                    let _ = reply.send(reasons.clone());
                }
            }
            Effect::WakeAt(at) => self.arm(Timer::Looks, at),
        }
    }

    pub(super) fn ask_for_reasons(&mut self, reply: oneshot::Sender<Vec<Reason>>) {
        self.asking_for_reasons.push(reply);
        self.with_looks(Looks::ask);
    }

    pub(super) fn denied(&mut self, said: String) {
        self.with_looks(|it, around| it.denied(around, said));
    }

    pub(super) fn storage_changed(&mut self, event: Event) {
        self.tell(event);
        self.tell_stalls();
    }

    /// Tells what has begun or ended since the last time.
    pub(super) fn tell_stalls(&mut self) {
        self.with_looks(Looks::tell);
    }

    pub(super) fn look_for_laggards_soon(&mut self) {
        self.with_looks(Looks::filling);
    }

    pub(super) fn unclaimed_expires(&mut self, at_ms: u64) {
        self.with_looks(|it, around| it.unclaimed_expires(around, at_ms));
    }

    pub(super) fn wake_for_lapses(&mut self) {
        self.with_looks(Looks::wake);
    }

    /// For a report, with what waits now; and how many more there are.
    pub(super) fn told_reasons(
        &mut self,
        pending: Result<Vec<Pending>, StoreError>,
        about: Option<&About>,
    ) -> (Vec<Told>, u64) {
        self.with_looks(|it, around| it.report(around, pending.ok(), about))
    }
}
