//! The election's shell: its clock, its row in the file, its frames, and what the program sees of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::{broadcast, watch};

use super::callbacks::{Callback, Callbacks};
use super::command::Reply;
use super::{Completion, Driver, Timer};
use crate::clock;
use crate::config::Audit;
use crate::election::{ElectionEvent, HandedState, Stepped, Stopping};
use crate::event::Event as NodeEvent;
use crate::message::NodeId;
use crate::protocol::Now;
use crate::protocol::election::{
    Accession, Action, Election, Event, Frame, Mode, Notice, Record, Said, SetError, Settings,
    State, Term, Token, Version,
};
use crate::protocol::frame::Frame as Wire;
use crate::protocol::report::{ElectionInfo, ReportedState, Role};
use crate::reason::Reason;
use crate::refusal::{HandOverError, SetStateError};
use crate::store::{Entry, StoreError};
use crate::transport::{PublishError, Subject, Transport};

/// Most rows of an election in the audit in a minute; what is beyond them is only logged and told.
const ENTRIES_A_MINUTE: u32 = 60;
const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);
/// What a frame takes besides the state in it, at most.
const FRAME_BYTES: usize = 1024;
/// Largest state that goes into a report.
const REPORTED_BYTES: usize = 256 * 1024;
/// What the audit calls what an election decided.
const ACTION: &str = "election";

/// What handles see of the election without asking the driver.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Standing {
    /// This node's, while it is master.
    token: Option<Token>,
    /// When it is master no longer, if nothing more is heard; by [`clock`]. None: never.
    until: Option<std::time::Instant>,
    /// Who is, as this node knows.
    master: Option<(NodeId, Term)>,
    /// The newest that this node knows.
    term: Term,
    state: State,
}

impl Standing {
    pub(crate) fn nobody() -> Self {
        Self { token: None, until: None, master: None, term: Term::ZERO, state: State::default() }
    }

    /// This node's token, if it is master at this very moment.
    pub(crate) fn token(&self) -> Option<&Token> {
        let holds = self.until.is_none_or(|until| clock::now() < until);
        self.token.as_ref().filter(|_| holds)
    }

    pub(crate) fn master(&self) -> Option<(NodeId, Term)> {
        match (&self.token, self.token()) {
            (_, Some(token)) => Some((token.node.clone(), token.term)),
            // It was this node, and is not.
            (Some(_), None) => None,
            (None, None) => self.master.clone(),
        }
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn term(&self) -> Term {
        self.term
    }

    pub(crate) fn state(&self) -> HandedState {
        self.state.clone().into()
    }
}

/// What a master's state is to become.
#[derive(Debug)]
pub(crate) enum Change {
    Whole(Vec<u8>),
    Field { key: String, value: Value },
}

/// This node's part in an election.
pub(super) struct Office {
    election: Election,
    voters: Vec<NodeId>,
    visible: bool,
    max_state_bytes: usize,
    audit: Audit,
    /// Who waits for a state to be set.
    calls: BTreeMap<u64, Reply<Result<Version, SetStateError>>>,
    last_call: u64,
    handing: Vec<Reply<Result<NodeId, HandOverError>>>,
    /// Rows for the audit in this minute.
    entered: (std::time::Instant, u32),
    /// The other master that people were told of last.
    split: Option<(NodeId, Term)>,
    /// As what it became master, while it is.
    accession: Option<Accession>,
    electors: BTreeSet<NodeId>,
    standing: watch::Sender<Standing>,
    events: broadcast::Sender<ElectionEvent>,
    callbacks: Callbacks,
}

/// What an office is made of besides its settings.
pub(crate) struct Desk {
    pub(crate) standing: watch::Sender<Standing>,
    pub(crate) events: broadcast::Sender<ElectionEvent>,
}

impl Office {
    pub(super) fn new(
        election: Election,
        settings: &Settings,
        audit: Audit,
        desk: Desk,
        callbacks: Callbacks,
    ) -> Self {
        let voters = match &settings.mode {
            Mode::Quorum { voters } => voters.clone(),
            Mode::Visible => Vec::new(),
        };
        let office = Self {
            election,
            voters,
            visible: settings.mode == Mode::Visible,
            max_state_bytes: settings.max_state_bytes,
            audit,
            calls: BTreeMap::new(),
            last_call: 0,
            handing: Vec::new(),
            entered: (std::time::Instant::now(), 0),
            split: None,
            accession: None,
            electors: BTreeSet::new(),
            standing: desk.standing,
            events: desk.events,
            callbacks,
        };
        office.show();
        office
    }

    /// Lets everybody see how things stand. Before anything is said to others: whoever gave mastership up is not master in anybody's eyes
    /// by the time that the next one hears of it.
    fn show(&self) {
        let now = clock::now();
        let standing = Standing {
            token: self.election.token(now),
            until: self.election.lease_until(),
            master: self.election.master(now),
            term: self.election.term(),
            state: self.election.state().clone(),
        };
        self.standing.send_if_modified(|shown| {
            let differs = *shown != standing;
            *shown = standing;
            differs
        });
    }

    pub(super) fn info(&self) -> ElectionInfo {
        let now = clock::now();
        let election = &self.election;
        let (master, master_term) = election.master(now).unzip();
        let role = match election.is_voter() {
            _ if election.is_master(now) => Role::Master,
            true => Role::Voter,
            false => Role::Observer,
        };
        let state = election.state();
        ElectionInfo {
            voters: self.voters.clone(),
            role,
            term: election.term(),
            master,
            master_term,
            state: state.version,
            state_bytes: state.json.len() as u64,
            refused: election.refused(),
        }
    }

    /// Whether too few voters are there to elect a master, where there is none.
    pub(super) fn stall(&self, me: &NodeId, is_online: impl Fn(&NodeId) -> bool) -> Option<Reason> {
        if self.visible || self.election.master(clock::now()).is_some() {
            return None;
        }
        let online = self.voters.iter().filter(|voter| *voter == me || is_online(voter)).count();
        let needed = self.voters.len() / 2 + 1;
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        (online < needed).then(|| Reason::NoQuorum {
            online: wide(online),
            voters: wide(self.voters.len()),
            needed: wide(needed),
        })
    }

    /// The newest state, where a report has room for it.
    pub(super) fn state_to_report(&self) -> Option<ReportedState> {
        let state = self.election.state();
        let json = Some(&state.json).filter(|json| json.len() <= REPORTED_BYTES)?;
        Some(ReportedState { version: state.version, value: serde_json::from_slice(json).ok()? })
    }

    /// Whether orders of this node are a master's.
    pub(super) fn obeys(&self, node: &NodeId, term: Option<Term>) -> bool {
        term.is_some_and(|term| self.election.commands(clock::now(), node, term))
    }

    pub(super) fn term_in_office(&self) -> Option<Term> {
        self.election.token(clock::now()).map(|token| token.term)
    }

    /// The whole of the state after this change.
    fn changed(&self, change: Change) -> Result<Vec<u8>, SetStateError> {
        let (key, value) = match change {
            Change::Whole(json) => {
                // What is nested too deeply could be written and never be read.
                serde_json::from_slice::<Value>(&json)?;
                return Ok(json);
            }
            Change::Field { key, value } => (key, value),
        };
        let mut fields = match serde_json::from_slice(&self.election.state().json)? {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            _ => return Err(SetStateError::NotAnObject),
        };
        fields.insert(key, value);
        let json = serde_json::to_vec(&fields)?;
        serde_json::from_slice::<Value>(&json)?;
        Ok(json)
    }

    fn answer(&mut self, ticket: u64, result: Result<Version, SetStateError>) {
        if let Some(reply) = self.calls.remove(&ticket) {
            // Whoever asked may have gone.
            let _ = reply.send(result);
        }
    }

    fn entry(&self, subject: &NodeId, term: Option<Term>, detail: String) -> Entry {
        let (subject, term) = (subject.to_string(), term.map(Term::get));
        Entry { action: ACTION, subject, detail, term }
    }

    /// Whether people know it already: a master of the other side says so with every beat.
    fn is_known(&mut self, notice: &Notice) -> bool {
        let Notice::SplitSeen { other, term } = notice else { return false };
        let seen = Some((other.clone(), *term));
        std::mem::replace(&mut self.split, seen.clone()) == seen
    }

    /// Whether the audit has room for another row: nobody is to fill the disk by claims.
    fn may_enter(&mut self) -> bool {
        let (since, count) = &mut self.entered;
        if since.elapsed() >= MINUTE {
            (*since, *count) = (std::time::Instant::now(), 0);
        }
        *count += 1;
        self.audit.elections && *count <= ENTRIES_A_MINUTE
    }

    /// What of a notice goes on record.
    fn record(&self, me: &NodeId, notice: &Notice) -> Option<Entry> {
        let entry = |subject, term: &Term, detail| Some(self.entry(subject, Some(*term), detail));
        match notice {
            Notice::BecameMaster { term, reason, .. } => {
                entry(me, term, format!("became master, {reason}"))
            }
            Notice::BecameFollower { term, reason } => {
                entry(me, term, format!("is master no longer: {reason}"))
            }
            Notice::MasterChanged { master, term } => entry(master, term, "is master".to_owned()),
            Notice::MasterLost { master, term } => {
                entry(master, term, "is not heard any more".to_owned())
            }
            Notice::SplitSeen { other, term } => {
                entry(other, term, "is master too: two sides have met".to_owned())
            }
            Notice::OtherVoters { node } => {
                Some(self.entry(node, None, "names other voters".to_owned()))
            }
            Notice::StateChanged { .. } => None,
        }
    }

    /// What of a writing goes on record.
    fn record_of_state(&self, me: &NodeId, record: &Record) -> Option<Entry> {
        let state = record.state.as_ref().filter(|_| self.audit.states)?;
        let detail = format!("state {}, {} bytes", state.version, state.json.len());
        let master = self.election.master(clock::now()).map(|(master, _)| master);
        Some(self.entry(master.as_ref().unwrap_or(me), Some(state.version.term), detail))
    }
}

impl<T: Transport> Driver<T> {
    /// Says this to the election, and does what it decides.
    pub(super) fn elect(&mut self, event: Event) {
        let now = Now { mono: clock::now(), file_ms: self.store.now_ms() };
        let Some(office) = &mut self.office else { return };
        let mut actions = Vec::new();
        office.election.handle(now, event, &mut actions);
        office.show();
        let wake_at = office.election.wake_at();
        for action in actions {
            self.perform_election(action);
        }
        self.arm(Timer::Election, wake_at.map(clock::timer_at));
    }

    fn perform_election(&mut self, action: Action) {
        let Some(office) = &mut self.office else { return };
        match action {
            Action::Persist { seq, record } => {
                let entries = office.record_of_state(&self.me, &record).into_iter().collect();
                let answer = self.store.save_election(record, entries);
                self.await_job(answer, move |result| Completion::ElectionSaved { seq, result });
            }
            Action::Send(frame) => self.say_election(frame),
            Action::Notice(notice) => self.election_notice(notice),
            Action::SetDone { ticket, version } => office.answer(ticket, Ok(version)),
            Action::SetFailed { ticket, why } => office.answer(ticket, Err(why.into())),
            Action::HandoffDone { to } => {
                for reply in office.handing.drain(..) {
                    let _ = reply.send(to.clone().ok_or(HandOverError::NobodyTookOver));
                }
                if let Some(stopping) = &mut self.stopping {
                    stopping.handed_over = true;
                }
            }
        }
    }

    /// A lost one is made good: whatever matters is said again.
    fn say_election(&mut self, frame: Frame) {
        if self.peers.has_stood_back() || !self.link {
            return;
        }
        let to = Subject::Election { from: self.me.clone() };
        let sent = self.transport.try_publish(&to, Wire::Election(frame).encode());
        if let Err(error @ PublishError::TooLarge { .. }) = sent {
            tracing::error!(node = %self.me, %error, "the master's state does not fit through the NATS server: raise its max_payload");
            self.tell(NodeEvent::Denied { reason: format!("the state does not fit: {error}") });
        }
    }

    pub(super) fn heard_election(&mut self, frame: Frame) {
        if frame.from == self.me && frame.incarnation == self.incarnation {
            return;
        }
        // Whoever is behind asks; strangers are not sent anything.
        let asks = matches!(frame.said, Said::StateRequest { .. });
        if asks && !self.peers.is_peer(&frame.from) {
            return;
        }
        self.elect(Event::Frame(frame));
    }

    fn election_notice(&mut self, notice: Notice) {
        let Some(office) = &mut self.office else { return };
        if office.is_known(&notice) {
            return;
        }
        let event = ElectionEvent::from(&notice);
        let entry = office.record(&self.me, &notice).filter(|_| office.may_enter());
        tracing::info!(node = %self.me, ?event, "election");
        match notice {
            Notice::BecameMaster { reason, state, .. } => {
                office.accession = Some(reason);
                office.callbacks.became_master(state.into(), reason);
            }
            Notice::BecameFollower { term, reason } => {
                office.accession = None;
                office.callbacks.became_follower(Stepped { term, reason });
            }
            Notice::OtherVoters { node } => {
                tracing::warn!(node = %self.me, other = %node, "its settings name other voters: give all nodes the same list");
            }
            _ => {}
        }
        let _ = office.events.send(event.clone());
        if let Some(entry) = entry {
            let answer = self.store.enter(vec![entry]);
            self.await_job(answer, Completion::Noted);
        }
        self.tell(NodeEvent::Election(event));
    }

    pub(super) fn election_saved(&mut self, seq: u64, result: Result<(), StoreError>) {
        let event = match result {
            Ok(()) => Event::Persisted { seq },
            Err(error) => {
                self.complain("keep what was promised in an election", &error);
                Event::PersistFailed { seq }
            }
        };
        self.elect(event);
    }

    /// The peers have changed.
    pub(super) fn look_around(&mut self) {
        let Some(office) = &mut self.office else { return };
        if !office.visible {
            return;
        }
        let electors: BTreeSet<NodeId> = self.peers.electors().cloned().collect();
        if electors != office.electors {
            office.electors.clone_from(&electors);
            self.elect(Event::Visible(electors));
        }
    }

    pub(super) fn set_state(
        &mut self,
        change: Change,
        reply: Reply<Result<Version, SetStateError>>,
    ) {
        let Some(office) = &mut self.office else {
            let _ = reply.send(Err(SetStateError::Off));
            return;
        };
        // Whoever is not master is told so, whatever the change is.
        let json = match office.term_in_office().map(|_| office.changed(change)) {
            None => b"null".to_vec(),
            Some(Ok(json)) => json,
            Some(Err(error)) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        let fits = self.max_frame.saturating_sub(FRAME_BYTES);
        let limit = office.max_state_bytes.min(fits);
        if json.len() > limit {
            let _ = reply.send(Err(SetStateError::TooLarge { actual: json.len(), limit }));
            return;
        }
        office.last_call += 1;
        let ticket = office.last_call;
        office.calls.insert(ticket, reply);
        self.elect(Event::SetState { ticket, json: Arc::from(json) });
    }

    pub(super) fn hand_over(
        &mut self,
        to: Option<NodeId>,
        reply: Reply<Result<NodeId, HandOverError>>,
    ) {
        let Some(office) = &mut self.office else {
            let _ = reply.send(Err(HandOverError::Off));
            return;
        };
        if office.term_in_office().is_none() {
            let _ = reply.send(Err(HandOverError::NotMaster));
            return;
        }
        if let Some(node) = to.as_ref().filter(|node| !office.election.may_lead(node)) {
            let _ = reply.send(Err(HandOverError::NoVoter { node: node.clone() }));
            return;
        }
        office.handing.push(reply);
        if office.handing.len() == 1 {
            self.elect(Event::HandOver { to });
        }
    }

    /// From now on this is called. A node that is master already says so at once.
    pub(super) fn register(&mut self, callback: Callback) {
        let Some(office) = &mut self.office else { return };
        let late = matches!(callback, Callback::BecameMaster(_));
        office.callbacks.register(callback);
        if let Some(reason) = office.accession.filter(|_| late) {
            let state = office.election.state().clone();
            office.callbacks.became_master(state.into(), reason);
        }
    }

    /// The program is told first, and keeps the role as long as it needs it.
    pub(super) fn leave_office(&mut self) {
        let Some(office) = &mut self.office else { return };
        let token = office.election.token(clock::now());
        match office.callbacks.shutting_down(Stopping { token }) {
            Some(done) => self.jobs.push(Box::pin(async move {
                // It panicked, or its runtime is gone.
                let _ = done.await;
                Completion::ToldOfShutdown
            })),
            None => self.elect(Event::Stop),
        }
    }

    /// Nobody is to take this node for a master any more.
    pub(super) async fn close_office(&mut self) {
        if let Some(mut office) = self.office.take() {
            let state = office.election.state().clone();
            office.standing.send_replace(Standing { state, ..Standing::nobody() });
            office.callbacks.end(super::stopping::ABORT).await;
        }
    }
}

impl From<SetError> for SetStateError {
    fn from(error: SetError) -> Self {
        match error {
            SetError::NotMaster { master } => Self::NotMaster { master },
            SetError::HandingOver => Self::HandingOver,
            SetError::TooLarge { actual, limit } => Self::TooLarge { actual, limit },
            SetError::Busy { limit } => Self::Busy { limit },
            SetError::Unknown => Self::Unknown,
        }
    }
}
