//! What the nodes' own files say in the end.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Id, show};
use super::verdict::{Kind, Verdict};
use crate::payload::is_large;

/// What stands in the reason where a frame was larger than the server's `max_payload`.
const TOO_LARGE: &str = "the server takes";

/// What the conductor wrote down of one node's file.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What `waypost db check` ended with.
    pub check: i32,
    /// What `waypost queue --json` printed.
    pub queue: Vec<Queue>,
    /// The dead letters.
    pub dead_letters: Vec<DeadLetter>,
}

/// A row of `waypost queue --json`, as far as it is judged.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// For whom; none: nobody is known who reads the channel.
    pub receiver: Option<String>,
    /// Messages ever committed for it.
    pub accepted: u64,
    /// Those that still wait.
    pub pending: u64,
    /// Those that it confirmed.
    pub acknowledged: u64,
    /// Those whose time was over.
    pub expired: u64,
    /// Those that became dead letters.
    pub dead: u64,
    /// Those that were dropped.
    pub purged: u64,
}

/// A dead letter.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Who did not get it.
    pub receiver: String,
    /// The message.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// All files together.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// By sender and receiver.
    pub(super) queues: BTreeMap<(String, String), Queue>,
    /// By receiver and id.
    dead: HashMap<String, HashMap<Id, Unplaced>>,
}

#[derive(Debug)]
struct Unplaced {
    sender: String,
    reason: String,
}

impl Accounts {
    pub(super) fn read(
        folder: &Path,
        evidence: &Evidence,
        verdict: &mut Verdict,
    ) -> io::Result<Self> {
        let mut accounts = Self::default();
        for node in evidence.files() {
            let path = folder.join("accounts").join(format!("{node}.json"));
            let account: Account = serde_json::from_reader(BufReader::new(File::open(&path)?))?;
            if account.check != 0 {
                verdict.find(Kind::Account, || {
                    format!("{node}: `waypost db check` ended with {}", account.check)
                });
            }
            for queue in account.queue {
                match queue.receiver.clone() {
                    Some(receiver) => {
                        accounts.queues.insert((node.clone(), receiver), queue);
                    }
                    None => verdict.find_many(Kind::Unsettled, queue.pending, || {
                        format!("{node}: {} wait for no known reader", queue.pending)
                    }),
                }
            }
            for letter in account.dead_letters {
                let Ok(id) = Id::try_from(letter.id.as_bytes()) else {
                    verdict.find(Kind::Id, || format!("{node}: a dead letter {:?}", letter.id));
                    continue;
                };
                let unplaced = Unplaced { sender: node.clone(), reason: letter.reason };
                accounts.dead.entry(letter.receiver).or_default().insert(id, unplaced);
            }
        }
        Ok(accounts)
    }

    /// Whether this message is a dead letter of that receiver's.
    pub(super) fn is_dead(&self, receiver: &str, id: Option<&Id>) -> bool {
        let dead = self.dead.get(receiver);
        id.is_some_and(|id| dead.is_some_and(|dead| dead.contains_key(id)))
    }

    /// Finds out which lines the dead letters were, and which of them should not be dead. One whose id nobody printed or received is
    /// a large line that was in doubt when its sender was cut short: the first one whose place lies between the ids that are known.
    pub(super) fn place_unknown(&mut self, evidence: &mut Evidence, verdict: &mut Verdict) {
        let mut letters: Vec<(&Id, &String, &Unplaced)> = self
            .dead
            .iter()
            .flat_map(|(receiver, dead)| {
                dead.iter().map(move |(id, letter)| (id, receiver, letter))
            })
            .collect();
        letters.sort_unstable_by_key(|(id, receiver, _)| (**id, (*receiver).clone()));
        let mut places: HashMap<Id, bool> = HashMap::new();
        for sent in &evidence.sent {
            let numbers = 1..=sent.accepted();
            places.extend(numbers.filter_map(|number| Some((*sent.id(number)?, is_large(number)))));
        }
        for (id, receiver, letter) in letters {
            let large = *places.entry(*id).or_insert_with(|| place(*id, &letter.sender, evidence));
            if !large || !letter.reason.contains(TOO_LARGE) {
                verdict.find(Kind::DeadLetter, || {
                    format!("{} of {} for {receiver}: {}", show(id), letter.sender, letter.reason)
                });
            }
        }
    }
}

/// Puts the id where it belongs. Returns whether it can have been a large line.
fn place(id: Id, sender: &str, evidence: &mut Evidence) -> bool {
    let mut runs: Vec<usize> =
        (0..evidence.sent.len()).filter(|at| evidence.sent[*at].sender == sender).collect();
    runs.sort_unstable_by_key(|at| evidence.sent[*at].run);
    for (nth, at) in runs.iter().enumerate() {
        let sent = &evidence.sent[*at];
        let printed = sent.printed.len() as u64;
        let last = sent.fed.min(printed + sent.most_unprinted());
        let in_doubt = (printed + 1..=last).filter(|number| is_large(*number));
        for number in in_doubt.filter(|number| sent.id(*number).is_none()) {
            let earlier =
                || runs[..nth].iter().rev().find_map(|at| evidence.sent[*at].ids().next_back());
            let later = || runs[nth + 1..].iter().find_map(|at| evidence.sent[*at].ids().next());
            let below = sent
                .unprinted
                .range(..number)
                .next_back()
                .map(|(_, id)| id)
                .or_else(|| sent.printed.last())
                .or_else(earlier);
            let above = sent.unprinted.range(number..).next().map(|(_, id)| id).or_else(later);
            if below.is_none_or(|below| *below < id) && above.is_none_or(|above| id < *above) {
                evidence.sent[*at].unprinted.insert(number, id);
                return true;
            }
        }
    }
    false
}
