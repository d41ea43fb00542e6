//! What the conductor did and what senders printed.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use super::Demands;
use super::verdict::{Kind, Verdict};
use crate::journal::{self, Event, Role};
use crate::payload::Topic;

/// Characters of an id.
const ID_BYTES: usize = 26;
/// Most messages that one process can have committed without having printed their ids: one commit's worth.
const MOST_UNPRINTED: u64 = 512;
/// SIGKILL and SIGTERM.
const KILLED: i32 = 9;
const TERMINATED: i32 = 15;
/// A process that failed because of its disk may end a little later than the disk works again.
const AFTER_DISK_MS: u64 = 3_000;

/// An id as it was printed.
pub(super) type Id = [u8; ID_BYTES];

/// One start of one node.
#[derive(Debug, Default)]
struct Run {
    start_ms: u64,
    topic: Option<Topic>,
    fed: u64,
    kill_asked: bool,
    stop_asked: bool,
    /// Its output was closed: it may end, and how much it stored is only on its standard error.
    closed: bool,
    end: Option<End>,
}

#[derive(Debug)]
struct End {
    at_ms: u64,
    signal: Option<i32>,
    code: Option<i32>,
}

/// What a file that went back to an older copy may have forgotten.
#[derive(Debug)]
struct Forgotten {
    run: u32,
    printed: u64,
    /// None: the copy was never used.
    to: Option<u32>,
}

/// What one start of a sender sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) sender: String,
    pub(super) run: u32,
    pub(super) topic: Topic,
    /// Same sender, channel, lane and kind of address, whatever the run: what has one order.
    pub(super) stream: usize,
    pub(super) fed: u64,
    /// By number, from 1.
    pub(super) printed: Vec<Id>,
    /// Ids that receivers showed of lines that were in doubt when the process was cut short, by number.
    pub(super) unprinted: BTreeMap<u64, Id>,
    /// Lines above this number may be forgotten, because an older copy took the place of the file.
    pub(super) kept: u64,
    cut: bool,
    /// Nobody read its ids to the end.
    closed: bool,
}

impl Sent {
    /// The last line that was committed for certain: printed, or in a commit with one that was seen.
    pub(super) fn accepted(&self) -> u64 {
        let seen = self.unprinted.last_key_value().map_or(0, |(number, _)| *number);
        seen.max(self.printed.len() as u64)
    }

    /// Most lines that can have been committed without their ids having been printed.
    pub(super) fn most_unprinted(&self) -> u64 {
        match (self.closed, self.cut) {
            (true, _) => self.fed,
            (false, true) => MOST_UNPRINTED,
            (false, false) => 0,
        }
    }

    /// The id of this line, as far as anybody showed it.
    pub(super) fn id(&self, number: u64) -> Option<&Id> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.printed.get(at).or_else(|| self.unprinted.get(&number))
    }

    /// All ids that are known, in order.
    pub(super) fn ids(&self) -> impl DoubleEndedIterator<Item = &Id> {
        self.printed.iter().chain(self.unprinted.values())
    }

    /// Whether this line is for that reader of that channel.
    pub(super) fn is_for(&self, receiver: &str, channel: &str) -> bool {
        self.topic.channel == channel && self.topic.to.as_deref().is_none_or(|to| to == receiver)
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    nodes: BTreeMap<String, (Role, Option<String>)>,
    runs: BTreeMap<(String, u32), Run>,
    /// When whose disk was full, or failed.
    disks: HashMap<String, Vec<(u64, u64)>>,
    /// By node: from which line of which run, up to which run its file may have forgotten what it had accepted.
    forgotten: HashMap<String, Vec<Forgotten>>,
    /// Nothing was broken on purpose, so that nothing is excused.
    is_quiet: bool,
    pub(super) sent: Vec<Sent>,
    pub(super) sent_by: HashMap<(String, u32), usize>,
    caught_up: BTreeMap<String, u64>,
}

impl Evidence {
    /// Reads journal and printed ids, and judges how processes ended.
    pub(super) fn read(folder: &Path, verdict: &mut Verdict) -> io::Result<Self> {
        let mut evidence = Self::default();
        for record in journal::read(folder)? {
            evidence.take(record.at_ms, record.event, verdict);
        }
        evidence.judge_ends(verdict);
        evidence.read_ids(folder, verdict)?;
        Ok(evidence)
    }

    fn take(&mut self, at_ms: u64, event: Event, verdict: &mut Verdict) {
        match event {
            Event::Plan { seed, faults } => {
                verdict.seed = seed;
                self.is_quiet = !faults;
            }
            Event::Node { node, role, channel } => {
                self.nodes.insert(node, (role, channel));
            }
            Event::Start { node, run: number, topic, .. } => {
                let run = self.run(node, number);
                (run.start_ms, run.topic) = (at_ms, topic);
            }
            Event::Fed { node, run: number, lines } => self.run(node, number).fed = lines,
            Event::Kill { node, run: number } => {
                self.run(node.clone(), number).kill_asked = true;
                self.count_fault("kill", &node, verdict);
                *verdict.kills.entry(node).or_default() += 1;
            }
            Event::Stop { node, run: number } => self.run(node, number).stop_asked = true,
            Event::Backup { node, run, printed } => {
                let copies = self.forgotten.entry(node).or_default();
                copies.retain(|copy| copy.to.is_some());
                copies.push(Forgotten { run, printed, to: None });
            }
            Event::Restored { node, run } => {
                if let Some(copy) = self.forgotten.entry(node).or_default().last_mut() {
                    copy.to = Some(run);
                }
            }
            Event::Close { node, run: number } => self.run(node, number).closed = true,
            Event::End { node, run: number, signal, code } => {
                self.run(node, number).end = Some(End { at_ms, signal, code });
            }
            Event::Fault { what, node } => {
                self.count_fault(&what, &node, verdict);
                if is_of_disk(&what) {
                    self.disks.entry(node).or_default().push((at_ms, u64::MAX));
                }
            }
            Event::Healed { what, node, felt } => {
                if felt == Some(0) {
                    verdict.faults.entry(what.clone()).or_default().unfelt += 1;
                }
                let times = self.disks.get_mut(&node).filter(|_| is_of_disk(&what));
                if let Some(last) = times.and_then(|times| times.last_mut()) {
                    last.1 = at_ms + AFTER_DISK_MS;
                }
            }
            Event::Calm => verdict.busy_ms = at_ms,
            Event::CaughtUp { node, after_ms } => {
                self.caught_up.insert(node, after_ms);
            }
            Event::Settled { after_ms } => verdict.settled_ms = Some(after_ms),
        }
    }

    fn count_fault(&self, what: &str, node: &str, verdict: &mut Verdict) {
        if self.is_quiet {
            verdict.find(Kind::Process, || format!("{what} of {node} where nothing was to break"));
        }
        let count = verdict.faults.entry(what.to_owned()).or_default();
        match self.nodes.get(node) {
            Some((Role::Sender | Role::Seller, _)) => count.senders += 1,
            Some((Role::Server, _)) => count.server += 1,
            Some((Role::Receiver | Role::Buyer, _)) | None => count.receivers += 1,
        }
    }

    fn run(&mut self, node: String, run: u32) -> &mut Run {
        self.runs.entry((node, run)).or_default()
    }

    /// Every process was killed, was asked to end, or had a disk that failed; no other end is allowed.
    fn judge_ends(&self, verdict: &mut Verdict) {
        for ((node, number), run) in &self.runs {
            let who = || format!("{node}, run {number}");
            let Some(end) = &run.end else {
                verdict.find(Kind::Process, || format!("{} was never seen to end", who()));
                continue;
            };
            let asked = match (end.signal, end.code) {
                (None, Some(0 | 1)) if run.closed => true,
                (Some(KILLED), _) => run.kill_asked,
                (Some(TERMINATED), _) | (_, Some(143)) => run.stop_asked,
                (_, Some(0)) => true,
                // The server of the moment took a message of this run for too large.
                (_, Some(5)) => matches!(self.nodes.get(node), Some((Role::Sender, _))),
                (_, Some(1)) if self.is_server(node) => run.stop_asked,
                (_, Some(1)) => self.had_full_disk(node, *number),
                _ => false,
            };
            if !asked {
                let how = format!("signal {:?}, code {:?}", end.signal, end.code);
                verdict.find(Kind::Process, || format!("{} ended by itself: {how}", who()));
            }
        }
    }

    fn read_ids(&mut self, folder: &Path, verdict: &mut Verdict) -> io::Result<()> {
        let mut streams = HashMap::new();
        let mut newest: HashMap<String, Id> = HashMap::new();
        for ((node, number), run) in &self.runs {
            if !matches!(self.nodes.get(node), Some((Role::Sender, _))) {
                continue;
            }
            let Some(topic) = run.topic.clone() else { continue };
            let path = folder.join("sent").join(format!("{node}.{number}"));
            let text = std::fs::read(&path)?;
            let cut = self.was_cut(node, *number);
            let printed = ids(&text, cut, verdict, || format!("{}", path.display()));
            for id in &printed {
                let previous = newest.insert(node.clone(), *id);
                if previous.is_some_and(|previous| previous >= *id) {
                    verdict.find(Kind::Id, || {
                        format!("{node}, run {number}: {} does not grow", show(id))
                    });
                }
            }
            if printed.len() as u64 > run.fed {
                verdict.find(Kind::Id, || {
                    format!("{node}, run {number}: more ids than lines were fed")
                });
            }
            let next = streams.len();
            let key = (
                node.clone(),
                topic.channel.clone(),
                topic.lane.clone(),
                topic.to.clone().map(|_| ()),
            );
            self.sent_by.insert((node.clone(), *number), self.sent.len());
            self.sent.push(Sent {
                sender: node.clone(),
                run: *number,
                stream: *streams.entry(key).or_insert(next),
                topic,
                fed: run.fed,
                printed,
                unprinted: BTreeMap::new(),
                kept: self.kept(node, *number),
                cut,
                closed: run.closed,
            });
        }
        Ok(())
    }

    /// Up to which line of this run nothing was forgotten.
    fn kept(&self, node: &str, run: u32) -> u64 {
        let copies = self.forgotten.get(node).map(Vec::as_slice).unwrap_or_default();
        let kept = copies.iter().filter_map(|copy| match copy.to {
            Some(to) if copy.run < run && run <= to => Some(0),
            Some(to) if copy.run == run && run <= to => Some(copy.printed),
            _ => None,
        });
        kept.min().unwrap_or(u64::MAX)
    }

    /// Readers and what they read.
    pub(super) fn receivers(&self) -> Vec<(String, String)> {
        let receivers = self.nodes.iter().filter(|(_, (role, _))| *role == Role::Receiver);
        receivers
            .map(|(node, (_, channel))| (node.clone(), channel.clone().unwrap_or_default()))
            .collect()
    }

    /// Nodes with a file of their own.
    pub(super) fn files(&self) -> impl Iterator<Item = &String> {
        self.nodes.iter().filter(|(_, (role, _))| *role != Role::Server).map(|(node, _)| node)
    }

    pub(super) fn senders(&self) -> impl Iterator<Item = &String> {
        self.nodes.iter().filter(|(_, (role, _))| *role == Role::Sender).map(|(node, _)| node)
    }

    /// The starts of this node, in order.
    pub(super) fn runs_of(&self, node: &str) -> Vec<u32> {
        let from = (node.to_owned(), 0);
        self.runs
            .range(from..)
            .take_while(|((name, _), _)| name == node)
            .map(|((_, run), _)| *run)
            .collect()
    }

    /// Whether this process had no chance to finish what it was doing.
    pub(super) fn was_cut(&self, node: &str, run: u32) -> bool {
        if self.is_quiet {
            return false;
        }
        let Some(run) = self.runs.get(&(node.to_owned(), run)) else { return false };
        run.closed || run.end.as_ref().is_some_and(|end| end.code != Some(0))
    }

    /// Whether this process was killed.
    pub(super) fn was_killed(&self, node: &str, run: u32) -> bool {
        let end = self.runs.get(&(node.to_owned(), run)).and_then(|run| run.end.as_ref());
        end.is_some_and(|end| end.signal == Some(KILLED))
    }

    /// Whether this node's disk was full while this process ran.
    pub(super) fn had_full_disk(&self, node: &str, run: u32) -> bool {
        let Some(run) = self.runs.get(&(node.to_owned(), run)) else { return false };
        let end_ms = run.end.as_ref().map_or(u64::MAX, |end| end.at_ms);
        let times = self.disks.get(node).map(Vec::as_slice).unwrap_or_default();
        times.iter().any(|(from, to)| *from <= end_ms && run.start_ms <= *to)
    }

    pub(super) fn caught_up_ms(&self, node: &str) -> Option<u64> {
        self.caught_up.get(node).copied()
    }

    fn is_server(&self, node: &str) -> bool {
        matches!(self.nodes.get(node), Some((Role::Server, _)))
    }

    /// The sums over all, and whether they are enough.
    pub(super) fn sum_up(&self, demands: Demands, verdict: &mut Verdict) {
        verdict.nodes = self.files().count() as u64;
        for sent in &self.sent {
            let unprinted = sent.accepted() - sent.printed.len() as u64;
            verdict.accepted += sent.accepted();
            verdict.accepted_unprinted += unprinted;
            let most = sent.most_unprinted();
            if unprinted > most {
                let (sender, run) = (&sent.sender, sent.run);
                verdict.find(Kind::Unprinted, || {
                    format!(
                        "{sender}, run {run}: {unprinted} committed and not printed, {most} allowed"
                    )
                });
            }
        }
        let (accepted, kills) = (verdict.accepted, verdict.killed());
        if accepted < demands.messages || kills < demands.kills {
            verdict.find(Kind::TooLittle, || {
                format!(
                    "{accepted} messages and {kills} kills, {} and {} wanted",
                    demands.messages, demands.kills
                )
            });
        }
        match verdict.settled_ms {
            Some(ms) if ms <= demands.calm_ms => {}
            settled => verdict.find(Kind::Unsettled, || {
                format!("settled after {settled:?} ms of calm, at most {} allowed", demands.calm_ms)
            }),
        }
    }
}

fn is_of_disk(fault: &str) -> bool {
    [journal::DISK_FULL, journal::WRITES_FAIL].contains(&fault)
}

/// The ids that stand in these bytes, a line each.
fn ids(text: &[u8], cut: bool, verdict: &mut Verdict, place: impl Fn() -> String) -> Vec<Id> {
    let mut ids = Vec::with_capacity(text.len() / (ID_BYTES + 1));
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else {
            verdict.torn += 1;
            if !cut {
                verdict.find(Kind::Process, || format!("{}: the last line is not whole", place()));
            }
            break;
        };
        match Id::try_from(line) {
            Ok(id) if id.iter().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()) => {
                ids.push(id)
            }
            _ => {
                verdict
                    .find(Kind::Id, || format!("{}: {:?}", place(), String::from_utf8_lossy(line)));
                // What follows could not be counted any more.
                break;
            }
        }
    }
    ids
}

/// An id as text.
pub(super) fn show(id: &Id) -> String {
    String::from_utf8_lossy(id).into_owned()
}
