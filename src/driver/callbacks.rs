//! The program's functions that are called when mastership changes: on its own runtime, one at a time, in the order of what happened.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::inside;
use crate::election::{Accession, HandedState, Stepped, Stopping};
use crate::gate::Gate;
use crate::protocol::leadership::Moment;

/// What a callback's call gives.
pub(crate) type CallFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

type Call = Box<dyn FnOnce() -> CallFuture + Send>;
type OnMaster = Arc<dyn Fn(HandedState, Accession) -> CallFuture + Send + Sync>;
type OnFollower = Arc<dyn Fn(Stepped) -> CallFuture + Send + Sync>;
type OnShutdown = Arc<dyn Fn(Stopping) -> CallFuture + Send + Sync>;

/// A function of the program's, and for what it is.
#[derive(Clone)]
pub(crate) enum Callback {
    BecameMaster(OnMaster),
    BecameFollower(OnFollower),
    Shutdown(OnShutdown),
}

impl Callback {
    pub(super) fn moment(&self) -> Moment {
        match self {
            Self::BecameMaster(_) => Moment::BecameMaster,
            Self::BecameFollower(_) => Moment::BecameFollower,
            Self::Shutdown(_) => Moment::Shutdown,
        }
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BecameMaster(_) => "BecameMaster",
            Self::BecameFollower(_) => "BecameFollower",
            Self::Shutdown(_) => "Shutdown",
        })
    }
}

/// At most one function of each kind; the latest counts.
pub(super) struct Callbacks {
    runtime: Handle,
    whose: Arc<Gate>,
    master: Option<OnMaster>,
    follower: Option<OnFollower>,
    shutdown: Option<OnShutdown>,
    /// Who calls them, from the first registration on.
    caller: Option<(mpsc::UnboundedSender<Call>, JoinHandle<()>)>,
}

impl Callbacks {
    pub(super) fn new(runtime: Handle, whose: Arc<Gate>) -> Self {
        Self { runtime, whose, master: None, follower: None, shutdown: None, caller: None }
    }

    pub(super) fn register(&mut self, callback: Callback) {
        match callback {
            Callback::BecameMaster(function) => self.master = Some(function),
            Callback::BecameFollower(function) => self.follower = Some(function),
            Callback::Shutdown(function) => self.shutdown = Some(function),
        }
    }

    pub(super) fn became_master(&mut self, state: HandedState, reason: Accession) {
        if let Some(function) = self.master.clone() {
            self.call(Box::new(move || function(state, reason)));
        }
    }

    pub(super) fn became_follower(&mut self, info: Stepped) {
        if let Some(function) = self.follower.clone() {
            self.call(Box::new(move || function(info)));
        }
    }

    /// The answer comes once it, and all before it, have returned; none where there is nothing to call.
    pub(super) fn shutting_down(&mut self, info: Stopping) -> Option<oneshot::Receiver<()>> {
        let function = self.shutdown.clone()?;
        let (done, is_done) = oneshot::channel();
        self.call(Box::new(move || {
            let call = function(info);
            Box::pin(async move {
                call.await;
                // Nobody waits any more where the time for it is over.
                let _ = done.send(());
            })
        }));
        Some(is_done)
    }

    fn call(&mut self, call: Call) {
        let runtime = &self.runtime;
        let (calls, _) = self.caller.get_or_insert_with(|| {
            let (calls, queue) = mpsc::unbounded_channel();
            (calls, runtime.spawn(inside::scope(&self.whose, run(queue))))
        });
        // It ends only with the runtime.
        let _ = calls.send(call);
    }

    /// Lets what runs end, for so long.
    pub(super) async fn end(&mut self, within: Duration) {
        let Some((calls, mut caller)) = self.caller.take() else { return };
        drop(calls);
        if tokio::time::timeout(within, &mut caller).await.is_err() {
            caller.abort();
            if tokio::time::timeout(within, caller).await.is_err() {
                tracing::warn!("a callback of the election does not end; it is left behind");
            }
        }
    }
}

async fn run(mut queue: mpsc::UnboundedReceiver<Call>) {
    while let Some(call) = queue.recv().await {
        // The function itself may panic, or what it returns.
        let called = AssertUnwindSafe(async move { call().await }).catch_unwind().await;
        if called.is_err() {
            tracing::error!("a callback of the election panicked");
        }
    }
}
