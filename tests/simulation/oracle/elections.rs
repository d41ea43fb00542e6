//! P9: who was seen as master when, what was said of it, and what became of the states that were set.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use waypost::NodeId;
use waypost::election::{Term, Version};
use waypost::protocol::election::{Durable, Frame, Mode, Notice, Record, Said, Settings};
use waypost::protocol::leadership::{Call, Change, LeadershipView, ROWS_A_MINUTE, Ticket};

use crate::machine::Machine;

const MINUTE: Duration = Duration::from_secs(60);

type Json = Arc<[u8]>;

/// What one node's process has shown and done.
#[derive(Debug, Default)]
struct Observed {
    /// None: no process runs.
    view: Option<LeadershipView>,
    /// As what the program was called last.
    called_master: bool,
    /// The program's function for a stop runs, and nobody else asked for a hand-over.
    keeps_the_role: bool,
    /// The same, whatever its role is.
    function_runs: bool,
    hands_over: bool,
    /// Which states are being set, and what they were at first.
    setting: BTreeMap<Ticket, Version>,
    /// When rows were put on record.
    entered: Vec<Duration>,
    /// What its file was told to be durable.
    confirmed: Option<Record>,
}

#[derive(Debug)]
pub(crate) struct Elections {
    names: Vec<NodeId>,
    settings: Option<Settings>,
    observed: Vec<Observed>,
    /// Who was seen as master in each term.
    masters: BTreeMap<Term, usize>,
    /// The version with which each state was first seen.
    born: BTreeMap<Json, Version>,
    /// The newest state that was called set, by that version.
    set: Version,
    /// A voter's file was lost, or gave way to an older copy of itself: it may vote twice, and nothing is promised any more.
    forgetful: bool,
    /// How often somebody became master, and a state was set.
    pub(crate) reigns: u64,
    pub(crate) sets: u64,
}

impl Elections {
    pub(crate) fn new(machines: &[Machine]) -> Self {
        let names: Vec<NodeId> = machines.iter().map(|machine| machine.id.clone()).collect();
        let settings = machines.iter().find_map(|machine| machine.settings.election.clone());
        let null = waypost::protocol::election::State::default();
        Self {
            observed: names.iter().map(|_| Observed::default()).collect(),
            names,
            settings,
            masters: BTreeMap::new(),
            born: BTreeMap::from([(null.json, null.version)]),
            set: Version::default(),
            forgetful: false,
            reigns: 0,
            sets: 0,
        }
    }

    /// The voters, where a majority of them elects and none has forgotten anything.
    fn voters(&self) -> Option<&[NodeId]> {
        match &self.settings.as_ref()?.mode {
            Mode::Quorum { voters } if !self.forgetful => Some(voters),
            _ => None,
        }
    }

    pub(super) fn process_ended(&mut self, node: usize) {
        let confirmed = self.observed[node].confirmed.take();
        self.observed[node] = Observed { confirmed, ..Observed::default() };
    }

    /// Its file was lost, or gave way to an older copy of itself.
    pub(super) fn forgets(&mut self, node: usize) {
        self.observed[node].confirmed = None;
        if let Some(Mode::Quorum { voters }) = self.settings.as_ref().map(|it| &it.mode) {
            self.forgetful |= voters.contains(&self.names[node]);
        }
    }

    /// Who is master in somebody's eyes at this moment.
    pub(crate) fn masters(&self, now: Instant) -> impl Iterator<Item = usize> {
        let leads = move |it: &Observed| it.view.as_ref()?.token(now).map(drop);
        let seen = self.observed.iter().enumerate();
        seen.filter(move |(_, it)| leads(it).is_some()).map(|(node, _)| node)
    }

    pub(crate) fn view(&self, node: usize) -> Option<&LeadershipView> {
        self.observed[node].view.as_ref()
    }

    pub(crate) fn shown(
        &mut self,
        node: usize,
        now: Instant,
        view: LeadershipView,
    ) -> Result<(), String> {
        let state = view.state();
        let version = *self.born.entry(state.json.clone()).or_insert(state.version);
        let token = view.token(now).cloned();
        let before = self.observed[node].view.replace(view);
        let led = before.is_some_and(|before| before.token(now) == token.as_ref());
        self.reigns += u64::from(token.is_some() && !led);
        let (Some(token), Some(_)) = (token, self.voters()) else { return Ok(()) };
        let name = &self.names[node];
        if token.node != *name {
            return Err(format!("P9: {name} shows the token {token}"));
        }
        let masters: Vec<&NodeId> = self.masters(now).map(|node| &self.names[node]).collect();
        if masters.len() > 1 {
            return Err(format!("P9: {masters:?} are masters at one moment"));
        }
        let first = *self.masters.entry(token.term).or_insert(node);
        if first != node {
            let first = &self.names[first];
            return Err(format!("P9: {first} and {name} are masters in term {}", token.term));
        }
        if version < self.set {
            let set = self.set;
            return Err(format!("P9: {name} leads with the state {version}, and {set} was set"));
        }
        Ok(())
    }

    /// `file`: what is surely on its disk.
    pub(crate) fn said(
        &mut self,
        node: usize,
        now: Instant,
        frame: &Frame,
        file: &Durable,
    ) -> Result<(), String> {
        let (name, it) = (&self.names[node], &self.observed[node]);
        let says = |what: &str| Err(format!("P9: {name} says {:?} {what}", frame.said));
        let Some(view) = &it.view else { return says("and takes part in no election") };
        if frame.term > view.term() {
            return says("of a term that it has not shown");
        }
        if matches!(frame.said, Said::Handoff { .. } | Said::Resign) {
            if view.token(now).is_some() {
                return says("while it is seen as master");
            }
            if it.keeps_the_role && !it.hands_over && matches!(frame.said, Said::Handoff { .. }) {
                return says("while its program makes use of the role");
            }
        }
        let voted =
            |for_whom: &NodeId| file.term == frame.term && file.vote.as_ref() == Some(for_whom);
        let stored = |version: Version| file.term == frame.term && file.state.version >= version;
        let durable = match &frame.said {
            Said::VoteAnswer { to, granted: true } => voted(to),
            Said::VoteRequest { .. } => voted(name),
            Said::BeatAnswer { version, .. } | Said::StateStored { version, .. } => {
                stored(*version)
            }
            _ => true,
        };
        if durable { Ok(()) } else { says(&format!("which is not on its disk: {file:?}")) }
    }

    pub(crate) fn told(&self, node: usize, notice: &Notice) -> Result<(), String> {
        match (notice, self.voters()) {
            (Notice::SplitSeen { other, term }, Some(_)) => {
                let name = &self.names[node];
                Err(format!("P9: {name} meets {other}, a master of term {term} like itself"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn entered(&mut self, node: usize, now: Duration) -> Result<(), String> {
        let entered = &mut self.observed[node].entered;
        entered.retain(|at| *at + MINUTE > now);
        entered.push(now);
        // A minute begins with its first row: two of them may touch.
        if entered.len() <= 2 * ROWS_A_MINUTE as usize {
            return Ok(());
        }
        Err(format!("P7: {} puts {} rows on record in a minute", self.names[node], entered.len()))
    }

    pub(crate) fn called(&mut self, node: usize, now: Instant, call: &Call) -> Result<(), String> {
        let (name, it) = (&self.names[node], &mut self.observed[node]);
        let token = it.view.as_ref().and_then(|view| view.token(now));
        let fits = match call {
            Call::BecameMaster { .. } => {
                token.is_some() && !std::mem::replace(&mut it.called_master, true)
            }
            Call::BecameFollower { .. } => token.is_none() && std::mem::take(&mut it.called_master),
            Call::ShuttingDown { token: told } => {
                (it.keeps_the_role, it.function_runs) = (told.is_some(), true);
                token == told.as_ref()
            }
        };
        if fits {
            Ok(())
        } else {
            Err(format!("P9: {name}'s program is told {call:?}, with {token:?}"))
        }
    }

    /// Whether its program was told of a stop, and has not returned.
    pub(crate) fn is_told_of_a_stop(&self, node: usize) -> bool {
        self.observed[node].function_runs
    }

    pub(crate) fn hands_over(&mut self, node: usize) {
        self.observed[node].hands_over = true;
    }

    /// The program's function for a stop has returned.
    pub(crate) fn function_returned(&mut self, node: usize) {
        let it = &mut self.observed[node];
        (it.keeps_the_role, it.function_runs) = (false, false);
    }

    /// What the program sees.
    pub(crate) fn state(&self, node: usize) -> Json {
        let view = self.observed[node].view.as_ref();
        view.map(|view| view.state().json.clone()).unwrap_or_default()
    }

    /// The state that it has now is what this ticket's call made of it.
    pub(crate) fn setting(
        &mut self,
        node: usize,
        ticket: Ticket,
        before: &[u8],
        change: Change,
    ) -> Result<(), String> {
        let (name, it) = (&self.names[node], &mut self.observed[node]);
        let Some(view) = &it.view else { return Ok(()) };
        it.setting.insert(ticket, view.state().version);
        let read = |json: &[u8]| serde_json::from_slice::<Value>(json).unwrap_or_default();
        let wanted = match &change {
            Change::Whole(json) => read(json),
            Change::Field { key, value } => {
                let mut fields = read(before).as_object().cloned().unwrap_or_default();
                fields.insert(key.clone(), value.clone());
                fields.into()
            }
        };
        let is = read(&view.state().json);
        if is == wanted {
            return Ok(());
        }
        Err(format!("{name} changes its state by {change:?}, and has {is}"))
    }

    /// A state is set, or it is not. `disks`: what each node's disk surely holds.
    pub(crate) fn set<'a>(
        &mut self,
        node: usize,
        ticket: Ticket,
        done: bool,
        disks: impl Iterator<Item = (&'a NodeId, &'a Durable)>,
    ) -> Result<(), String> {
        let Some(version) = self.observed[node].setting.remove(&ticket).filter(|_| done) else {
            return Ok(());
        };
        self.sets += 1;
        let Some(voters) = self.voters() else { return Ok(()) };
        let has = |file: &Durable| self.born.get(&file.state.json).is_some_and(|it| *it >= version);
        let count = disks.filter(|(name, file)| voters.contains(name) && has(file)).count();
        if count <= voters.len() / 2 {
            let name = &self.names[node];
            return Err(format!("P9: {name} calls state {version} set, and {count} disks have it"));
        }
        self.set = self.set.max(version);
        Ok(())
    }

    /// Its file has answered that this is durable.
    pub(crate) fn confirmed(&mut self, node: usize, record: &Record) {
        self.observed[node].confirmed = Some(record.clone());
    }

    /// What was durable is what a process begins with. Before it shows anything, nobody is master.
    pub(crate) fn starts(
        &mut self,
        node: usize,
        elects: bool,
        file: &Durable,
    ) -> Result<(), String> {
        self.observed[node].view = elects.then(LeadershipView::default);
        let Some(Record { term, vote, .. }) = &self.observed[node].confirmed else { return Ok(()) };
        let forgot_vote = file.term == *term && vote.is_some() && file.vote != *vote;
        if file.term < *term || forgot_vote {
            let name = &self.names[node];
            return Err(format!(
                "P9: {name} had {vote:?} in term {term}, and begins with {file:?}"
            ));
        }
        Ok(())
    }

    /// Why it cannot be said that all nodes have one master, and its state.
    pub(crate) fn unsettled(&self, now: Instant) -> Option<String> {
        self.settings.as_ref().filter(|_| !self.forgetful)?;
        let masters: Vec<usize> = self.masters(now).collect();
        let [master] = masters[..] else {
            return Some(format!("there are {} masters", masters.len()));
        };
        let leads = self.view(master)?;
        let follows = |view: &LeadershipView| {
            view.master(now) == leads.master(now) && view.state() == leads.state()
        };
        let seen =
            (0..).zip(&self.observed).filter_map(|(node, it)| Some((node, it.view.as_ref()?)));
        let other = seen.into_iter().find(|(_, view)| !follows(view));
        other.map(|(node, view): (usize, _)| {
            let (name, of) = (&self.names[node], &self.names[master]);
            format!("{name} has not all of its master {of}: {view:?}, {leads:?}")
        })
    }
}
