//! One tab's socket: what happens goes to it, what it asks for is done, within limits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::wire::{Order, Told};
use crate::hub::Hub;
use crate::room::Change;

/// Tabs that can be open at the same time.
const MAX_TABS: u32 = 64;
/// How long a tab may take to hear that its connection ends.
const GOODBYES: Duration = Duration::from_secs(2);
/// Orders that a tab may give at once, and a second.
const BURST: f64 = 40.0;
const PER_SECOND: f64 = 10.0;
/// Longest name of an order.
const MAX_NONCE_BYTES: usize = 64;
/// Messages in one order that says what was seen.
const MAX_SEEN: usize = 500;
/// Orders that are remembered.
const REMEMBERED: usize = 2000;
/// The same for all tabs together: a new socket is no way around.
const BURST_OF_ALL: f64 = 400.0;
const PER_SECOND_OF_ALL: f64 = 100.0;
/// A tab that takes nothing, or says nothing, for this long is gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a tab is told that the program is there.
const BEAT_INTERVAL: Duration = Duration::from_secs(10);

/// What the sockets of all tabs share.
pub(crate) struct Tabs {
    orders: Orders,
    pace: Mutex<Pace>,
    places: Arc<Semaphore>,
    /// The program ends.
    ending: CancellationToken,
}

impl Tabs {
    pub(super) fn new() -> Self {
        Self {
            orders: Orders::default(),
            pace: Mutex::new(Pace::new(BURST_OF_ALL, PER_SECOND_OF_ALL, Instant::now())),
            places: Arc::new(Semaphore::new(MAX_TABS as usize)),
            ending: CancellationToken::new(),
        }
    }

    /// A tab's place, for as long as it is held; none where all are taken.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Tells every tab that the program ends, and returns when they have been told: their sockets are tasks of their own, which would go with the
    /// program before they had said it. A tab that takes nothing is not waited for for long.
    pub(crate) async fn close(&self) {
        self.ending.cancel();
        let _ = timeout(GOODBYES + GOODBYES / 2, self.places.acquire_many(MAX_TABS)).await;
    }

    fn allow(&self, now: Instant) -> bool {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).allows(now)
    }
}

/// The orders of all tabs that were carried out, so that one that is repeated after a lost connection is not carried out twice. Held
/// while one is carried out: orders come one after the other.
#[derive(Default)]
struct Orders {
    done: tokio::sync::Mutex<VecDeque<(String, Option<String>)>>,
}

/// Allows bursts, and a steady pace after them.
struct Pace {
    burst: f64,
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Pace {
    fn new(burst: f64, per_second: f64, now: Instant) -> Self {
        Self { burst, per_second, left: burst, at: now }
    }

    fn allows(&mut self, now: Instant) -> bool {
        let gained = now.duration_since(self.at).as_secs_f64() * self.per_second;
        self.left = (self.left + gained).min(self.burst);
        self.at = now;
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= 1.0;
        }
        allowed
    }
}

/// Runs until the tab or the program goes.
pub(super) async fn run(hub: &Arc<Hub>, tabs: &Tabs, mut socket: WebSocket) {
    let mut notices = hub.notices();
    let mut pace = Pace::new(BURST, PER_SECOND, Instant::now());
    let mut beats = interval(BEAT_INTERVAL);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let mut told = Some(Told::hello(hub));
    loop {
        if let Some(told) = told.take()
            && !send(&mut socket, &told).await
        {
            return;
        }
        tokio::select! {
            () = tabs.ending.cancelled() => {
                return close(&mut socket, close_code::AWAY, "the program ends").await;
            }
            notice = notices.recv() => match notice {
                Ok(notice) => told = Some(Told::of(hub, notice)),
                // The page begins anew.
                Err(RecvError::Lagged(_)) => {
                    notices = hub.notices();
                    told = Some(Told::hello(hub));
                }
                Err(RecvError::Closed) => return,
            },
            frame = socket.recv() => {
                heard = Instant::now();
                match order(frame) {
                    Heard::Order(_) if !pace.allows(heard) || !tabs.allow(heard) => {
                        return close(&mut socket, close_code::POLICY, "too many orders").await;
                    }
                    Heard::Order(order) => told = carry_out(hub, &tabs.orders, *order).await,
                    Heard::Nothing => {}
                    Heard::Nonsense(code, why) => return close(&mut socket, code, why).await,
                    Heard::End => return,
                }
                // What failed because the program ends is given again to the next one.
                if tabs.ending.is_cancelled() {
                    told = None;
                }
            }
            _ = beats.tick() => {
                let ping = timeout(PATIENCE, socket.send(Message::Ping(Bytes::new()))).await;
                if !matches!(ping, Ok(Ok(()))) || heard.elapsed() > BEAT_INTERVAL + PATIENCE {
                    return;
                }
                told = Some(Told::Beat);
            }
        }
    }
}

enum Heard {
    Order(Box<Order>),
    Nothing,
    Nonsense(u16, &'static str),
    End,
}

fn order(frame: Option<Result<Message, axum::Error>>) -> Heard {
    match frame {
        Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
            Ok(order) => Heard::Order(Box::new(order)),
            Err(_) => Heard::Nonsense(close_code::INVALID, "that is no order"),
        },
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Heard::Nothing,
        Some(Ok(Message::Binary(_))) => Heard::Nonsense(close_code::UNSUPPORTED, "that is no text"),
        Some(Ok(Message::Close(_)) | Err(_)) | None => Heard::End,
    }
}

async fn send(socket: &mut WebSocket, told: &Told) -> bool {
    let Ok(text) = serde_json::to_string(told) else { return false };
    matches!(timeout(PATIENCE, socket.send(Message::Text(text.into()))).await, Ok(Ok(())))
}

/// Says why, and reads on until the tab has heard it: a connection that ends with unread bytes takes what was said last with it.
async fn close(socket: &mut WebSocket, code: u16, reason: &'static str) {
    let frame = CloseFrame { code, reason: reason.into() };
    let said = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    // It may take nothing, or never stop.
    let _ = timeout(GOODBYES, said).await;
}

async fn carry_out(hub: &Arc<Hub>, orders: &Orders, order: Order) -> Option<Told> {
    let warn = |error: anyhow::Error| Told::Warning { text: format!("{error:#}") };
    let (nonce, work) = match order {
        Order::Read { keys } => {
            return hub.mark_read(keys.into_iter().take(MAX_SEEN)).await.err().map(warn);
        }
        Order::Typing { on } => {
            let hub = hub.clone();
            tokio::spawn(async move { hub.tell_typing(on).await });
            return None;
        }
        Order::Before { seq } => return Some(Told::before(hub, seq).await.unwrap_or_else(warn)),
        Order::Health => return Some(Told::Health { samples: hub.samples() }),
        Order::Network => {
            let picture = hub.picture().await;
            return Some(picture.map_or_else(warn, |picture| Told::Network { picture }));
        }
        Order::Say { text, to, nonce } => (nonce, (None, Change::Text(text), to)),
        Order::File { file, to, nonce } => (nonce, (None, Change::File(file), to)),
        Order::Edit { key, text, nonce } => {
            let target = key.id;
            (nonce, (Some(key), Change::Edit { target, text }, None))
        }
        Order::Delete { key, nonce } => {
            let target = key.id;
            (nonce, (Some(key), Change::Delete { target }, None))
        }
        Order::React { key, emoji, on, nonce } => {
            (nonce, (Some(key.clone()), Change::React { target: key, emoji, on }, None))
        }
    };
    if nonce.is_empty() || nonce.len() > MAX_NONCE_BYTES {
        return Some(Told::Warning { text: "an order without a name".to_owned() });
    }
    let mut done = orders.done.lock().await;
    if let Some((_, error)) = done.iter().find(|(known, _)| *known == nonce) {
        return Some(Told::Done { nonce, error: error.clone() });
    }
    let result = match work {
        (Some(key), change, _) => hub.change(&key, change, Some(nonce.clone())).await,
        (None, change, to) => hub.say_once(change, to, nonce.clone()).await,
    };
    let error = result.err().map(|error| format!("{error:#}"));
    done.push_back((nonce.clone(), error.clone()));
    if done.len() > REMEMBERED {
        done.pop_front();
    }
    Some(Told::Done { nonce, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_allowed_and_a_flood_is_not() {
        let start = Instant::now();
        let mut pace = Pace::new(BURST, PER_SECOND, start);
        assert_eq!((0..100).filter(|_| pace.allows(start)).count(), 40);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| pace.allows(later)).count(), 10);
    }
}
