//! What the writer is asked to do.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::error::StoreError;
use super::fault::{self, JobError};
use super::guard::Guard;
use super::ledger::Ledger;
use super::room::Whose;
use super::types::{Notice, UnderWay};
use crate::config::{Durability, Overflow};

/// A page of the file, at most.
pub(super) const PAGE_BYTES: usize = 4_096;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) queue_limit: u64,
    pub(super) overflow: Overflow,
    pub(super) retention_ms: u64,
    pub(super) audit_retention_ms: u64,
    pub(super) under_way: UnderWay,
}

/// The open transaction of a group of jobs.
pub(super) struct Group<'a> {
    pub(super) conn: &'a Connection,
    pub(super) ledger: &'a mut Ledger,
    /// Told once it is committed.
    pub(super) notices: &'a mut Vec<Notice>,
    pub(super) settings: &'a Settings,
    pub(super) guard: &'a Arc<Guard>,
    pub(super) path: &'a Path,
    pub(super) now_ms: u64,
    /// The time for new ids.
    pub(super) id_ms: u64,
}

pub(super) trait Job: Send {
    /// Does it in the group's transaction. `Err`: the group cannot be committed any more.
    fn run(&mut self, group: &mut Group<'_>) -> Result<(), StoreError>;
    /// Whether it can be run, or run again after the group was rolled back.
    fn can_run(&self) -> bool;
    /// What its commit must survive.
    fn durability(&self) -> Durability;
    /// How much it holds in memory.
    fn bytes(&self) -> usize;
    /// How much it writes to the log, roughly.
    fn written_bytes(&self) -> usize;
    /// Whether it brings something new, or keeps the house.
    fn whose(&self) -> Whose;
    /// The group was committed.
    fn answer(self: Box<Self>);
    fn fail(self: Box<Self>, error: StoreError);
}

pub(super) struct Task<R, E, F> {
    work: F,
    /// A closure of the user's can be called only once.
    once: bool,
    ran: bool,
    durability: Durability,
    pub(super) bytes: usize,
    /// What it takes up until it is answered.
    pub(super) permits: Vec<OwnedSemaphorePermit>,
    result: Option<Result<R, E>>,
    reply: Reply<R, E>,
}

/// Called on the writer's thread after the commit, or when there is none: short, and waits for nothing.
type Reply<R, E> = Box<dyn FnOnce(Result<R, E>) + Send>;

impl<R, E, F> Task<R, E, F>
where
    R: Send + 'static,
    E: JobError,
    F: FnMut(&mut Group<'_>) -> Result<R, E> + Send + 'static,
{
    pub(super) fn new(durability: Durability, work: F) -> (Self, oneshot::Receiver<Result<R, E>>) {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may have gone; what was done stays done.
        let reply = |result| drop(reply.send(result));
        (Self::replying(durability, work, reply), answer)
    }

    /// The same, with somebody who does not wait for it.
    pub(super) fn replying(
        durability: Durability,
        work: F,
        reply: impl FnOnce(Result<R, E>) + Send + 'static,
    ) -> Self {
        Self {
            work,
            once: false,
            ran: false,
            durability,
            bytes: 0,
            permits: Vec::new(),
            result: None,
            reply: Box::new(reply),
        }
    }

    pub(super) fn once(mut self) -> Self {
        self.once = true;
        self
    }
}

impl<R, E, F> Job for Task<R, E, F>
where
    R: Send + 'static,
    E: JobError,
    F: FnMut(&mut Group<'_>) -> Result<R, E> + Send + 'static,
{
    fn run(&mut self, group: &mut Group<'_>) -> Result<(), StoreError> {
        self.ran = true;
        let mut broken = None;
        let result = (self.work)(group).map_err(|error| match error.into_store() {
            Ok(error) => {
                let error = fault::sorted(error, group.path);
                broken = Some(fault::again(&error));
                E::from_store(error)
            }
            Err(own) => own,
        });
        self.result = Some(result);
        broken.map_or(Ok(()), Err)
    }

    fn can_run(&self) -> bool {
        !(self.once && self.ran)
    }

    fn durability(&self) -> Durability {
        self.durability
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn written_bytes(&self) -> usize {
        // Nobody knows what a closure of the user's writes.
        if self.once { usize::MAX / 2 } else { 2 * PAGE_BYTES + self.bytes }
    }

    fn whose(&self) -> Whose {
        if self.once || self.bytes > 0 { Whose::New } else { Whose::Upkeep }
    }

    fn answer(self: Box<Self>) {
        let Self { result, reply, permits, .. } = *self;
        drop(permits);
        reply(result.unwrap_or_else(|| Err(E::from_store(StoreError::Unanswered))));
    }

    fn fail(self: Box<Self>, error: StoreError) {
        let Self { reply, permits, .. } = *self;
        drop(permits);
        reply(Err(E::from_store(error)));
    }
}
