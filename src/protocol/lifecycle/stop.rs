//! Stopping: finish what runs, deliver what can be delivered, say goodbye, close the file last.

use std::time::{Duration, Instant};

use super::{Around, Effect, Lifecycle, Stopping};

/// How long the goodbye may take to reach the socket.
const GOODBYE: Duration = Duration::from_millis(500);
/// How long the receipts of what was handled may take.
const COMMITS: Duration = Duration::from_secs(1);
/// How long aborted handlers and callbacks may take to end.
const ABORT: Duration = Duration::from_secs(1);

/// How a stop begins, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Streams give back what nobody has looked at.
    GiveBack,
    /// The inbox takes nothing any more. What is being handled may finish.
    Inbox,
    /// Others are told that this node takes nothing any more.
    Peers,
    /// Whoever waits for the answer to an order or a question learns that there will be none.
    Admin,
    /// What the file has told by now is taken.
    Notices,
    /// The role is handed over, after the program has been told: then [`Lifecycle::handed_over`].
    Leadership,
}

const BEGIN: [Begin; 6] =
    [Begin::GiveBack, Begin::Inbox, Begin::Peers, Begin::Admin, Begin::Notices, Begin::Leadership];

/// What is done at the end: what runs is cut short, and the file learns what it does not know yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// What has changed of all peers is brought into the file.
    NotePeers,
    /// Nobody is to take this node for a master any more. What of the program's was called for that gets this time to end.
    Resign { within: Duration },
    /// A handler that does not end in this time is not waited for. Its message comes again; those before it in the same frame do not.
    CutShort { within: Duration },
    /// The receipts of what was handled are waited for.
    Commit { within: Duration },
    /// What was noted of messages that were handed out is taken back.
    Unnote,
    /// Others hear that this node is gone.
    Goodbye,
    /// What is settled and not on record yet is written.
    Settle,
}

/// What is done after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offline {
    /// What is still to be noted, in the audit above all, is waited for.
    Note { within: Duration },
    /// The file is closed.
    Close,
}

/// The end of a node, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub first: Vec<Last>,
    /// The connection ends, and what was said has this time to leave.
    pub hang_up: Duration,
    pub then: Vec<Offline>,
}

impl Lifecycle {
    /// The node is to stop, and has this time for what is under way. `elects`: whether it has a role to hand over. Returns whether it begins now:
    /// whoever asks again waits for the first one's end.
    pub fn stop(&mut self, around: &mut Around<'_>, within: Duration, elects: bool) -> bool {
        if self.stopping.is_some() {
            return false;
        }
        let by = around.now.mono.checked_add(within);
        self.stopping = Some(Stopping { by, handed_over: !elects });
        around.out.extend(BEGIN.map(Effect::Begin));
        self.wake(around);
        true
    }

    /// As far as the election goes, a node that was told to stop can.
    pub fn handed_over(&mut self) {
        if let Some(stopping) = &mut self.stopping {
            stopping.handed_over = true;
        }
    }

    /// Whether there is nothing left to wait for. `busy`: whether messages are being handled or are under way.
    pub fn is_over(&self, now: Instant, busy: bool) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| {
            let is_idle = stopping.handed_over && !busy;
            is_idle || stopping.by.is_some_and(|by| by <= now)
        })
    }

    /// Whether the node has been told to stop: only then is [`is_over`](Self::is_over) worth asking.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// What is done at the end. A node that nobody holds any more ends at once, without a word, and closes its file in order all the same.
    pub fn end(&self) -> End {
        let has_time = self.stopping.is_some();
        let goodbye = has_time.then_some(Last::Goodbye);
        let first = [
            Last::NotePeers,
            Last::Resign { within: ABORT },
            Last::CutShort { within: ABORT },
            Last::Commit { within: COMMITS },
            Last::Unnote,
        ];
        let first = first.into_iter().chain(goodbye).chain([Last::Settle]).collect();
        let hang_up = if has_time { GOODBYE } else { Duration::ZERO };
        End { first, hang_up, then: vec![Offline::Note { within: COMMITS }, Offline::Close] }
    }
}
