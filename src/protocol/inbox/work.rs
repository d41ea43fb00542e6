//! The messages of one source that are held: waiting, being handled, being committed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::begun::Slot;
use super::{Action, Incoming, Source};
use crate::message::MessageId;
use crate::protocol::Now;
use crate::protocol::frame::Verdict;

/// The sender is told that we are working three times within its patience.
const WORKING_FRACTION: u32 = 3;
const WORKING_FLOOR: Duration = Duration::from_millis(20);
const WORKING_CAP: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    /// Handed out: being handled, or behind one that is.
    Running,
    /// Handled; its row is being written.
    Committing,
    /// Handled; its row could not be written, and is tried again.
    CommitLater(Instant),
}

#[derive(Debug)]
pub(super) struct Work<B> {
    pub(super) id: MessageId,
    pub(super) bytes: usize,
    pub(super) body: Option<B>,
    pub(super) stage: Stage,
    /// The frame's last message: its commit is what gets the answer.
    pub(super) last_of_frame: bool,
}

/// What was handed out last.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) count: usize,
    /// Where that is noted.
    pub(super) slot: Option<Slot>,
    pub(super) is_suspect: bool,
}

/// A source with messages in work.
#[derive(Debug)]
pub(super) struct State<B> {
    pub(super) work: VecDeque<Work<B>>,
    /// What was handled and is not committed yet because the frame goes on.
    pub(super) handled: Option<MessageId>,
    /// The frame ends early: what to say about the first message that is not taken, once those before it are committed.
    pub(super) then: Option<(MessageId, Verdict)>,
    /// The shell was told to begin none any more of those handed out; what to say about the first that was not begun.
    pub(super) ceased: Option<Verdict>,
    pub(super) handed: Option<Handed>,
    pub(super) working_every: Duration,
    pub(super) working_at: Instant,
}

impl<B> State<B> {
    pub(super) fn new(now: Now) -> Self {
        Self {
            work: VecDeque::new(),
            handled: None,
            then: None,
            ceased: None,
            handed: None,
            working_every: WORKING_CAP,
            working_at: now.mono,
        }
    }

    /// Takes what is new of these messages; returns their bytes.
    pub(super) fn take(
        &mut self,
        now: Now,
        ack_timeout: Duration,
        messages: Vec<Incoming<B>>,
        last: Option<MessageId>,
    ) -> usize {
        self.working_every = (ack_timeout / WORKING_FRACTION).clamp(WORKING_FLOOR, WORKING_CAP);
        self.working_at = now.mono + self.working_every;
        let held = self.work.back().map(|work| work.id).max(last);
        let mut bytes = 0;
        for message in messages.into_iter().filter(|message| Some(message.id) > held) {
            bytes += message.bytes;
            self.work.push_back(Work {
                id: message.id,
                bytes: message.bytes,
                body: Some(message.body),
                stage: Stage::Waiting,
                last_of_frame: false,
            });
        }
        if let Some(work) = self.work.back_mut() {
            work.last_of_frame = true;
        }
        bytes
    }

    /// What is left of the frame at the front, for its handlers; a suspect by itself.
    pub(super) fn hand_out(
        &mut self,
        is_suspect: impl Fn(MessageId) -> bool,
    ) -> Vec<(MessageId, B)> {
        let mut messages = Vec::new();
        let mut alone = false;
        for work in self.work.iter_mut().take_while(|work| work.stage == Stage::Waiting) {
            if alone || (!messages.is_empty() && is_suspect(work.id)) {
                break;
            }
            alone = is_suspect(work.id);
            let Some(body) = work.body.take() else { break };
            work.stage = Stage::Running;
            messages.push((work.id, body));
            if work.last_of_frame {
                break;
            }
        }
        messages
    }

    /// What was handed out and has not ended waits again, without its body: it can only be given back. Whether there is any.
    pub(super) fn take_back(&mut self) -> bool {
        let mut any = false;
        for work in self.work.iter_mut().filter(|work| work.stage == Stage::Running) {
            work.stage = Stage::Waiting;
            any = true;
        }
        any
    }

    /// Lets the shell begin none any more of what was handed out. The one that is being handled may finish.
    pub(super) fn cease(&mut self, source: &Source, verdict: &Verdict, out: &mut Vec<Action<B>>) {
        let handed_out = self.work.iter().filter(|work| work.stage == Stage::Running).count();
        if handed_out > 1 && self.ceased.is_none() {
            self.ceased = Some(verdict.clone());
            out.push(Action::Cease { source: source.clone() });
        }
    }

    pub(super) fn is_committing(&self) -> bool {
        let stage = self.work.front().map(|work| work.stage);
        matches!(stage, Some(Stage::Committing | Stage::CommitLater(_)))
    }
}
