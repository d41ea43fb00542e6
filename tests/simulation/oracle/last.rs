//! At the end, once faults have stopped: everything has ended in a recorded way, and nothing is missing.

use std::time::Duration;

use super::{Accepted, Oracle, accounts};
use crate::file::{Outcome, Tables, Uid};
use crate::machine::Machine;

/// How late a keepalive may come, which says for how long its node has read a channel: a reader begins that much later.
const FRAME_LATE: Duration = Duration::from_secs(31);

impl Oracle {
    /// What still waits somewhere.
    pub(crate) fn waits(machines: &[Machine]) -> Option<String> {
        machines.iter().find_map(|machine| {
            let file = &machine.file.current;
            let waits = |(_, row): &(_, &crate::file::CursorRow)| row.open;
            file.cursors.iter().filter(waits).find_map(|((receiver, topic), row)| {
                let pending = row.pending(file.topics[topic].accepted);
                let id = &machine.id;
                let told = || {
                    format!(
                        "at {id}, {pending} wait for {receiver} {topic:?}: {row:?}, {:?}",
                        file.topics[topic]
                    )
                };
                (pending > 0).then(told)
            })
        })
    }

    /// `exact`: no clock jumped, nobody was forgotten, no file was lost, so that every reader gets what was sent since it joined.
    pub(crate) fn judge(&self, machines: &[Machine], exact: bool) -> Result<(), String> {
        for (node, machine) in machines.iter().enumerate() {
            let file = &machine.file.current;
            accounts::check(file, file.cursors.keys())
                .map_err(|what| format!("P2: at {}: {what}", machine.id))?;
            self.acknowledged_was_taken(node, file)?;
            self.attempts_are_on_record(node, file)?;
            let too_often =
                |&(uid, count): &(&Uid, &u32)| *count > self.may_take_effect(file, *uid);
            if let Some((uid, count)) = file.effects.iter().find(too_often) {
                return Err(format!("P5: #{uid} took effect {count} times at {}", machine.id));
            }
            if !exact {
                continue;
            }
            for accepted in self.accepted[node].values() {
                self.reached_everybody(node, accepted, machines)?;
            }
        }
        Ok(())
    }

    /// Once, and once more for each store id under which a sender whose file went back has sent it again.
    fn may_take_effect(&self, file: &Tables, uid: Uid) -> u32 {
        let Some((sender, row)) = self.rows.get(&uid).filter(|(s, _)| self.restored.contains(s))
        else {
            return 1;
        };
        let came = file.inbox.iter().filter(|(source, last)| {
            let stream = &source.stream;
            source.sender == self.names[*sender]
                && (&stream.channel, stream.direct, stream.lane)
                    == (&row.channel, row.target.is_some(), row.lane)
                && **last >= row.id
        });
        came.count() as u32
    }

    /// What the process that runs has seen fail is in its file, but for what was there longer than the retention.
    fn attempts_are_on_record(&self, node: usize, file: &Tables) -> Result<(), String> {
        let of = self.attempts.iter().filter(|((sender, ..), _)| *sender == node);
        for ((_, receiver, seq), attempt) in
            of.filter(|((.., seq), _)| file.outbox.contains_key(seq))
        {
            let noted = file.attempts.get(&(receiver.clone(), *seq)).map(|(count, _)| *count);
            if noted.is_none_or(|noted| noted < *attempt) && !file.cleaned {
                let name = &self.names[node];
                return Err(format!(
                    "{name} has not noted that attempt {attempt} of seq {seq} to {receiver} failed: {noted:?}"
                ));
            }
        }
        Ok(())
    }

    fn acknowledged_was_taken(&self, node: usize, file: &Tables) -> Result<(), String> {
        for ((receiver, _), fates) in &file.fates {
            let acknowledged = fates.iter().filter(|(_, f)| **f == Some(Outcome::Acknowledged));
            for uid in acknowledged.filter_map(|(seq, _)| file.outbox.get(seq)).map(|row| row.uid) {
                let reader = self.names.iter().position(|name| name == receiver);
                let taken = reader.is_some_and(|reader| self.taken.contains(&(reader, uid)));
                let given_up = file.given_up.contains(&(receiver.clone(), uid))
                    || self.went_back.contains(&(node, uid))
                    || self.forgotten.contains(&(node, receiver.clone(), uid));
                if !taken && !given_up {
                    let name = &self.names[node];
                    return Err(format!("P2: {name} says that {receiver} took #{uid}"));
                }
            }
        }
        Ok(())
    }

    /// Every node that reads the channel since before the message was sent has taken it, or its sender's file says why not.
    fn reached_everybody(
        &self,
        sender: usize,
        accepted: &Accepted,
        machines: &[Machine],
    ) -> Result<(), String> {
        let row = &accepted.row;
        if row.expires_ms.is_some() {
            return Ok(());
        }
        for ((reader, channel), since) in &self.joined {
            let name = &self.names[*reader];
            let meant = *channel == row.channel
                && *reader != sender
                && *since + FRAME_LATE < accepted.at
                && row.target.as_ref().is_none_or(|target| target == name);
            let key = (name.clone(), row.uid);
            let file = &machines[sender].file.current;
            let given_up = file.given_up.contains(&key) || file.unread.contains(&row.uid);
            if meant && !given_up && !self.taken.contains(&(*reader, row.uid)) {
                let from = &self.names[sender];
                return Err(format!("lost: {name} never took #{} of {from}", row.uid));
            }
        }
        Ok(())
    }
}
