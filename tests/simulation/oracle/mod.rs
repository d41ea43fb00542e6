//! What really happened, noted apart from what the nodes believe, and compared with the promises after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use waypost::protocol::TopicId;
use waypost::protocol::delivery::Settled;
use waypost::protocol::frame::{Stream, Verdict};
use waypost::protocol::inbox::{Done, Source};
use waypost::protocol::settling::Run;
use waypost::{ChannelName, MessageId, NodeId};

use crate::file::{Group, Receipt, Row, Tables, Uid, Work};
use crate::machine::Machine;

mod accounts;
mod elections;
mod last;
mod lives;

use elections::Elections;
use lives::Lives;

/// A message whose `send` has returned `Ok`.
#[derive(Debug, Clone)]
struct Accepted {
    row: Rc<Row>,
    at: Duration,
}

/// A frame that was published.
#[derive(Debug, Default)]
struct Flight {
    /// All that it held.
    frame: Vec<Rc<Row>>,
    /// What of it nobody has settled.
    open: Vec<Rc<Row>>,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    /// The first thing that was not as promised.
    pub(crate) violation: Option<String>,
    names: Vec<NodeId>,
    accepted: Vec<BTreeMap<Uid, Accepted>>,
    /// Every message that ever stood in a file, and whose.
    rows: BTreeMap<Uid, (usize, Rc<Row>)>,
    /// Since when.
    born: BTreeMap<Uid, Duration>,
    /// Receipts that were committed at some time, whatever became of them.
    taken: BTreeSet<(usize, Uid)>,
    /// What a sender's process knows to be acknowledged, in cursors that are open.
    acknowledged: BTreeMap<(usize, NodeId, TopicId), BTreeSet<Uid>>,
    /// Which attempts a sender's process has seen fail, by seq.
    attempts: BTreeMap<(usize, NodeId, u64), u32>,
    /// Messages that a sender has given up for a receiver, whether that is in its file yet or not.
    given_up: BTreeSet<(usize, NodeId, Uid)>,
    /// Nodes whose file gave way to an older copy of itself at some time.
    restored: BTreeSet<usize>,
    /// Messages that ended for a receiver because it was forgotten. If it comes back, it may acknowledge one that it never took, since it is
    /// further.
    pub(crate) forgotten: BTreeSet<(usize, NodeId, Uid)>,
    /// Messages of earlier processes in files that went back to an older copy.
    went_back: BTreeSet<(usize, Uid)>,
    /// Published and not answered.
    flights: BTreeMap<(usize, NodeId), Flight>,
    /// Handlers that run.
    running: BTreeMap<(usize, NodeId, Stream), Uid>,
    /// Handled, and not in the file yet.
    finished: BTreeMap<(usize, Source), Vec<Uid>>,
    /// Since when each node reads each channel without a break.
    joined: BTreeMap<(usize, ChannelName), Duration>,
    /// Transactions of handlers that were told of their commit.
    transactions: BTreeSet<(usize, Uid)>,
    /// Orders that some node began to obey, by who gave them, and whether it did.
    orders: BTreeMap<(NodeId, u64), bool>,
    pub(crate) calls: u64,
    pub(crate) elections: Elections,
    pub(crate) lives: Lives,
}

/// What must outlast a power cut.
#[derive(Debug)]
pub(crate) struct Durable {
    sent: Vec<Uid>,
    effects: Vec<Uid>,
}

impl Oracle {
    pub(crate) fn new(machines: &[Machine]) -> Self {
        Self {
            violation: None,
            names: machines.iter().map(|machine| machine.id.clone()).collect(),
            accepted: vec![BTreeMap::new(); machines.len()],
            rows: BTreeMap::new(),
            born: BTreeMap::new(),
            taken: BTreeSet::new(),
            acknowledged: BTreeMap::new(),
            attempts: BTreeMap::new(),
            given_up: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            restored: BTreeSet::new(),
            went_back: BTreeSet::new(),
            flights: BTreeMap::new(),
            running: BTreeMap::new(),
            finished: BTreeMap::new(),
            joined: BTreeMap::new(),
            transactions: BTreeSet::new(),
            orders: BTreeMap::new(),
            calls: 0,
            elections: Elections::new(machines),
            lives: Lives::default(),
        }
    }

    /// `send` returned `Ok`.
    pub(crate) fn accepted(&mut self, node: usize, rows: &[Rc<Row>], at: Duration) {
        for row in rows {
            self.accepted[node].insert(row.uid, Accepted { row: row.clone(), at });
        }
    }

    pub(crate) fn joined(&mut self, node: usize, channel: &ChannelName, at: Duration) {
        self.joined.entry((node, channel.clone())).or_insert(at);
    }

    pub(crate) fn left(&mut self, node: usize, channel: &ChannelName) {
        self.joined.remove(&(node, channel.clone()));
    }

    /// P5: an order is obeyed once, whatever comes twice and whatever is killed.
    pub(crate) fn order_begins(&mut self, key: (NodeId, u64)) -> Result<(), String> {
        match self.orders.insert(key.clone(), false) {
            Some(_) => Err(format!("P5: the order {key:?} is obeyed twice")),
            None => Ok(()),
        }
    }

    pub(crate) fn order_is_done(&mut self, key: (NodeId, u64)) {
        self.orders.insert(key, true);
    }

    pub(crate) fn order_answered(&self, key: &(NodeId, u64), done: bool) -> Result<(), String> {
        let truly = self.orders.get(key).is_some_and(|done| *done);
        if done && !truly { Err("done, which it is not".to_owned()) } else { Ok(()) }
    }

    pub(crate) fn process_ended(&mut self, node: usize) {
        self.flights.retain(|(sender, _), _| *sender != node);
        self.acknowledged.retain(|(sender, ..), _| *sender != node);
        self.attempts.retain(|(sender, ..), _| *sender != node);
        self.running.retain(|(receiver, ..), _| *receiver != node);
        self.finished.retain(|(receiver, _), _| *receiver != node);
        self.elections.process_ended(node);
        self.lives.process_ended(node);
    }

    /// What a process that is to stop would have to wait for.
    pub(crate) fn is_at_work(&self, node: usize) -> Option<String> {
        if let Some(((.., stream), uid)) = self.running.iter().find(|((of, ..), _)| *of == node) {
            return Some(format!("#{uid} of {} is being handled", stream.channel));
        }
        self.elections.is_told_of_a_stop(node).then(|| "its program is told of it".to_owned())
    }

    /// At an orderly end all that it knows is in its file, if that can be written.
    pub(crate) fn ends(&self, node: usize, file: &Tables, down: bool) -> Result<(), String> {
        self.lives.ends_in_order(node)?;
        if down {
            return Ok(());
        }
        for ((_, receiver, topic), uids) in
            self.acknowledged.iter().filter(|((of, ..), _)| *of == node)
        {
            let key = (receiver.clone(), *topic);
            let fates = file.fates.get(&key).into_iter().flatten();
            let waits = fates
                .filter(|(_, fate)| fate.is_none())
                .filter_map(|(seq, _)| file.outbox.get(seq));
            if let Some(row) = waits.into_iter().find(|row| uids.contains(&row.uid)) {
                let uid = row.uid;
                return Err(format!(
                    "it stops, and #{uid} of {receiver}, which was acknowledged, waits in its file"
                ));
            }
        }
        Ok(())
    }

    /// P4: nothing else may be unanswered.
    pub(crate) fn published(
        &mut self,
        node: usize,
        receiver: &NodeId,
        rows: &[Rc<Row>],
    ) -> Result<(), String> {
        let flight = self.flights.entry((node, receiver.clone())).or_default();
        let other = flight.open.iter().find(|row| !rows.contains(row));
        let result = match other {
            Some(other) => Err(format!(
                "P4: {} sends #{} to {receiver} while #{} has no answer",
                self.names[node], rows[0].uid, other.uid
            )),
            None => Ok(()),
        };
        *flight = Flight { frame: rows.to_vec(), open: rows.to_vec() };
        result
    }

    /// An answer reached the sender.
    pub(crate) fn answered(
        &mut self,
        node: usize,
        receiver: &NodeId,
        topic: TopicId,
        id: MessageId,
        verdict: &Verdict,
    ) {
        let Some(flight) = self.flights.get_mut(&(node, receiver.clone())) else { return };
        match verdict {
            Verdict::Working => {}
            Verdict::Ack => flight.open.retain(|row| row.topic != topic || row.id > id),
            // Also where it names a message that was purged since.
            _ if flight.frame.iter().any(|row| row.topic == topic && row.id == id) => {
                flight.open.clear();
            }
            _ => {}
        }
    }

    /// The file purged, or closed a cursor.
    pub(crate) fn settled_by_file(
        &mut self,
        node: usize,
        receiver: &NodeId,
        topic: TopicId,
        up_to: u64,
    ) {
        if let Some(flight) = self.flights.get_mut(&(node, receiver.clone())) {
            flight.open.retain(|row| row.topic != topic || row.seq > up_to);
        }
    }

    /// Nothing of this topic is in flight any more.
    pub(crate) fn told_anew(&mut self, node: usize, receiver: &NodeId, topic: TopicId) {
        self.settled_by_file(node, receiver, topic, u64::MAX);
    }

    /// A sender's new messages travel under another store id from now on: a frame that held such as well is in flight no more as it was.
    pub(crate) fn store_changed(&mut self, node: usize) {
        self.flights.retain(|(sender, _), _| *sender != node);
    }

    /// A sender regards messages as settled: what it calls acknowledged, the receiver must have taken.
    pub(crate) fn settled(
        &mut self,
        node: usize,
        run: &Run,
        file: &Tables,
        (index, writer_is_down): (&BTreeMap<NodeId, usize>, bool),
        now: Option<Duration>,
    ) -> Result<(), String> {
        let Run { receiver, topic, first_seq, last_seq, how, .. } = run;
        self.settled_by_file(node, receiver, *topic, *last_seq);
        if matches!(how, Settled::Dead { .. }) {
            // The frame is given up with it; what came behind it in the frame is sent again.
            self.told_anew(node, receiver, *topic);
        }
        let rows = file.outbox.range(first_seq..=last_seq).map(|(_, row)| row);
        for row in rows.filter(|row| row.topic == *topic) {
            let uid = row.uid;
            // A clock that is wrong and trusted takes life.
            if let (Settled::Expired, Some(now)) = (how, now) {
                self.had_its_time(row, now)?;
            }
            if *how != Settled::Acknowledged {
                self.given_up.insert((node, receiver.clone(), uid));
                continue;
            }
            let forgotten = self.went_back.contains(&(node, uid))
                || self.forgotten.contains(&(node, receiver.clone(), uid));
            let on_record = file.given_up.contains(&(receiver.clone(), uid));
            let closed =
                file.cursors.get(&(receiver.clone(), *topic)).is_none_or(|cursor| !cursor.open);
            if closed && !writer_is_down {
                let name = &self.names[node];
                return Err(format!(
                    "P2: {name} takes an answer for #{uid} of {receiver}, which it has just given up"
                ));
            }
            if !on_record {
                let key = (node, receiver.clone(), *topic);
                self.acknowledged.entry(key).or_default().insert(uid);
            }
            if !on_record && !forgotten && !self.taken.contains(&(index[receiver], uid)) {
                return Err(format!(
                    "P2: {} counts #{uid} as acknowledged by {receiver}, which never took it",
                    self.names[node]
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn attempted(&mut self, node: usize, receiver: &NodeId, seq: u64, attempt: u32) {
        self.attempts.insert((node, receiver.clone(), seq), attempt);
    }

    /// P2: what was acknowledged before a cursor was closed is not purged.
    pub(crate) fn closed(
        &mut self,
        node: usize,
        receiver: &NodeId,
        topic: TopicId,
        file: &Tables,
    ) -> Result<(), String> {
        self.settled_by_file(node, receiver, topic, u64::MAX);
        let known = self.acknowledged.remove(&(node, receiver.clone(), topic)).unwrap_or_default();
        let is_purged = |uid: &Uid| file.given_up.contains(&(receiver.clone(), *uid));
        known.into_iter().find(is_purged).map_or(Ok(()), |uid| {
            let name = &self.names[node];
            Err(format!("P2: at {name}, #{uid} was acknowledged by {receiver}, and is purged"))
        })
    }

    /// P6: whatever clocks show, and however often machines are off, no message expires before its time.
    fn had_its_time(&self, row: &Row, now: Duration) -> Result<(), String> {
        let ttl_ms = row.expires_ms.map_or(u64::MAX, |at| at - row.created_ms);
        let lived = now.saturating_sub(self.born.get(&row.uid).copied().unwrap_or_default());
        // Cut down to whole milliseconds at both ends.
        if (lived.as_millis() as u64).saturating_add(2) >= ttl_ms {
            return Ok(());
        }
        Err(format!("P6: #{} expires after {lived:?} of its {ttl_ms} ms", row.uid))
    }

    /// P3 and P5, at a handler's call.
    pub(crate) fn handles(
        &mut self,
        (receiver, name): (usize, &NodeId),
        source: &Source,
        id: MessageId,
        uid: Uid,
        (file, sender_file): (&Tables, &Tables),
    ) -> Result<(), String> {
        self.calls += 1;
        let Some((sender, row)) = self.rows.get(&uid).cloned() else {
            return Err(format!("{name} handles #{uid}, which nobody sent"));
        };
        let stream = &source.stream;
        let fits = (&row.channel, row.lane, row.id) == (&stream.channel, stream.lane, id);
        if !fits || row.target.as_ref().is_some_and(|target| target != name) {
            return Err(format!("{name} handles #{uid} as another message than was sent"));
        }
        let key = (receiver, source.sender.clone(), stream.clone());
        if let Some(other) = self.running.insert(key, uid) {
            return Err(format!("P3: {name} handles #{uid} while it handles #{other}"));
        }
        // A sender whose file went back takes a new store id and sends again what this run of its made (docs/architecture.md, "Going back").
        let sent_anew = self.restored.contains(&sender) && file.was_taken_elsewhere(source, id);
        if let Some(receipt) = file.receipts.get(&uid).filter(|_| !sent_anew) {
            return Err(format!("P5: {name} handles #{uid} again, after {receipt:?}"));
        }
        if file.inbox.get(source).is_some_and(|last| *last >= id) {
            return Err(format!("P5: {name} handles #{uid}, and its file knows a later one"));
        }
        let fates = sender_file.fates.get(&(name.clone(), row.topic));
        let same_file = sender_file.outbox.get(&row.seq).is_some_and(|other| other.uid == uid);
        for (seq, fate) in
            fates.filter(|_| same_file).into_iter().flat_map(|f| f.range(..row.seq).rev())
        {
            // What lies before a settled one is settled too; `accounts` sees to that.
            if fate.is_some() {
                break;
            }
            let Some(before) = sender_file.outbox.get(seq).map(|row| row.uid) else { continue };
            // Of a frame with several messages, those handled so far are committed with the last one.
            let settled =
                self.finished.get(&(receiver, source.clone())).is_some_and(|f| f.contains(&before))
                    || self.taken.contains(&(receiver, before))
                    || self.given_up.contains(&(sender, name.clone(), before))
                    || self.forgotten.contains(&(sender, name.clone(), before))
                    || self.went_back.contains(&(sender, before));
            if !settled {
                return Err(format!("P3: {name} handles #{uid} before #{before} is settled"));
            }
        }
        Ok(())
    }

    pub(crate) fn handler_ended(
        &mut self,
        node: usize,
        source: &Source,
        result: &Result<Done, String>,
    ) {
        let Some(uid) = self.handler_gone(node, source) else { return };
        if *result == Ok(Done::Handled) {
            self.finished.entry((node, source.clone())).or_default().push(uid);
        }
    }

    pub(crate) fn handler_gone(&mut self, node: usize, source: &Source) -> Option<Uid> {
        self.running.remove(&(node, source.sender.clone(), source.stream.clone()))
    }

    /// What a commit of this source takes: all that was handled since the last one.
    pub(crate) fn take_finished(&self, node: usize, source: &Source) -> Vec<Uid> {
        self.finished.get(&(node, source.clone())).cloned().unwrap_or_default()
    }

    pub(crate) fn taken_with(&self, node: usize, source: &Source, uid: Uid) -> Vec<Uid> {
        let mut taken = self.take_finished(node, source);
        taken.push(uid);
        taken
    }

    pub(crate) fn has_committed(&mut self, node: usize, source: &Source, taken: &[Uid]) {
        if let Some(finished) = self.finished.get_mut(&(node, source.clone())) {
            finished.retain(|uid| !taken.contains(uid));
        }
    }

    pub(crate) fn transaction_answered(&mut self, node: usize, uid: Uid) {
        self.transactions.insert((node, uid));
    }

    /// A node's file gave way to an older copy of itself: what it holds no more was never accepted, as far as anybody can tell.
    pub(crate) fn restored(&mut self, node: usize, file: &Tables) {
        let uids: BTreeSet<Uid> = file.outbox.values().map(|row| row.uid).collect();
        self.accepted[node].retain(|uid, _| uids.contains(uid));
        self.restored.insert(node);
        self.elections.forgets(node);
    }

    /// A file that went back to an older copy has forgotten how its messages ended, and a receiver, which is further, has not. Only what a
    /// process sends itself is sent anew when it learns of it (docs/architecture.md, "Going back").
    pub(crate) fn starts(&mut self, node: usize, file: &Tables) {
        if self.restored.contains(&node) {
            self.went_back.extend(file.outbox.values().map(|row| (node, row.uid)));
        }
    }

    pub(crate) fn wiped(&mut self, node: usize) {
        self.accepted[node].clear();
        self.joined.retain(|(reader, _), _| *reader != node);
        self.elections.forgets(node);
    }

    /// A group stands in the file.
    pub(crate) fn committed(
        &mut self,
        node: usize,
        group: &Group,
        file: &Tables,
        audit: bool,
        now: Duration,
    ) -> Result<(), String> {
        for row in &group.appended {
            self.rows.insert(row.uid, (node, row.clone()));
            self.born.insert(row.uid, now);
        }
        for uid in &group.receipts {
            self.taken.insert((node, *uid));
        }
        for (work, _) in &group.answers {
            if let Work::Forget(peer) = work {
                let ended = file.outbox.values().map(|row| (node, peer.clone(), row.uid));
                self.forgotten.extend(ended);
            }
        }
        if let Some(complaint) = group.complaints.first() {
            return Err(format!("{}: {complaint}", self.names[node]));
        }
        if !audit {
            return Ok(());
        }
        accounts::check(file, &group.touched).map_err(|what| {
            let name = &self.names[node];
            format!("P2: at {name}: {what}")
        })
    }

    /// What a power cut must not take.
    pub(crate) fn durable(&self, node: usize, file: &Tables) -> Durable {
        let in_file =
            |row: &&Rc<Row>| file.outbox.get(&row.seq).is_some_and(|it| it.uid == row.uid);
        let sent = self.accepted[node].values().map(|accepted| &accepted.row);
        let effects = file.receipts.iter().filter(|(_, how)| **how == Receipt::Transaction);
        let waits = |uid: &Uid| self.transactions.contains(&(node, *uid));
        Durable {
            sent: sent.filter(in_file).map(|row| row.uid).collect(),
            effects: effects.map(|(uid, _)| *uid).filter(waits).collect(),
        }
    }

    pub(crate) fn survived(
        &self,
        node: usize,
        before: &Durable,
        file: &Tables,
    ) -> Result<(), String> {
        let name = &self.names[node];
        let left: BTreeSet<Uid> = file.outbox.values().map(|row| row.uid).collect();
        if let Some(uid) = before.sent.iter().find(|uid| !left.contains(uid)) {
            return Err(format!("P1: a power cut takes #{uid} from {name}, after its Ok"));
        }
        if let Some(uid) = before.effects.iter().find(|uid| !file.effects.contains_key(uid)) {
            return Err(format!("P5: a power cut takes the effects of #{uid} from {name}"));
        }
        Ok(())
    }
}
