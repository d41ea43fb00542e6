//! What one receiver printed, line by line.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use super::evidence::{Evidence, Id, show};
use super::verdict::{Kind, Row, Verdict};
use crate::payload::Line;

/// A message: where its run stands in the evidence, and its number there.
type Place = (usize, u64);

/// What `recv --json` prints, as far as it is judged.
#[derive(Deserialize)]
struct Printed<'a> {
    id: &'a str,
    sender: &'a str,
    channel: &'a str,
    priority: &'a str,
    text: &'a str,
}

/// A process that was cut short between printing and acknowledging may have left these to be printed again.
struct Excuse {
    places: Vec<Place>,
    left: usize,
    /// One of them is excused by the kill; the others, and without a kill all of them, by a full disk.
    by_kill: bool,
}

/// What one receiver has.
pub(super) struct Deliveries {
    pub(super) row: Row,
    /// By run of a sender, a bit a number.
    seen: Vec<Vec<u64>>,
    /// By stream: the last message that was new.
    newest: HashMap<usize, (u32, u64)>,
    excuses: Vec<Excuse>,
}

impl Deliveries {
    pub(super) fn new(receiver: &str, channel: &str, evidence: &Evidence) -> Self {
        let words = |fed: u64| usize::try_from(fed / 64 + 1).expect("lines that were fed");
        let row = Row {
            receiver: receiver.to_owned(),
            channel: channel.to_owned(),
            caught_up_ms: evidence.caught_up_ms(receiver),
            ..Row::default()
        };
        Self {
            row,
            seen: evidence.sent.iter().map(|sent| vec![0; words(sent.fed)]).collect(),
            newest: HashMap::new(),
            excuses: Vec::new(),
        }
    }

    /// Whether this message was printed.
    pub(super) fn has(&self, (run, number): Place) -> bool {
        let word = usize::try_from(number / 64).expect("a number that was fed");
        self.seen[run].get(word).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    fn mark(&mut self, (run, number): Place) {
        let word = usize::try_from(number / 64).expect("a number that was fed");
        self.seen[run][word] |= 1 << (number % 64);
    }

    /// Reads all that the receiver printed, run after run.
    pub(super) fn read(
        &mut self,
        folder: &Path,
        evidence: &mut Evidence,
        verdict: &mut Verdict,
    ) -> io::Result<()> {
        let receiver = self.row.receiver.clone();
        self.row.kills = verdict.kills.get(&receiver).copied().unwrap_or(0);
        for run in evidence.runs_of(&receiver) {
            let path = folder.join("got").join(format!("{receiver}.{run}"));
            let mut from = BufReader::with_capacity(1 << 20, File::open(&path)?);
            let cut = evidence.was_cut(&receiver, run);
            // By stream, and in the order of printing.
            let mut last: Vec<(usize, Place)> = Vec::new();
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line)? > 0 {
                if line.pop_if(|byte| *byte == b'\n').is_none() {
                    verdict.torn += 1;
                    if !cut {
                        verdict.find(Kind::Process, || {
                            format!("{}: the last line is not whole", path.display())
                        });
                    }
                    break;
                }
                if let Some(place) = self.take(&line, evidence, verdict) {
                    let stream = evidence.sent[place.0].stream;
                    last.retain(|(other, _)| *other != stream);
                    last.push((stream, place));
                }
                line.clear();
            }
            if cut {
                // One message, the last one; while its disk was full, one a stream, since none of them could be noted.
                let most = if evidence.had_full_disk(&receiver, run) { last.len() } else { 1 };
                let places: Vec<Place> =
                    last.iter().rev().take(most).map(|(_, place)| *place).collect();
                let by_kill = evidence.was_killed(&receiver, run);
                self.excuses.push(Excuse { left: places.len(), places, by_kill });
            }
        }
        Ok(())
    }

    /// Judges a line. Returns which message it is, if it is one.
    fn take(
        &mut self,
        line: &[u8],
        evidence: &mut Evidence,
        verdict: &mut Verdict,
    ) -> Option<Place> {
        let receiver = self.row.receiver.clone();
        let (place, id) = match self.identify(line, evidence) {
            Ok(found) => found,
            Err(reason) => {
                self.row.unexpected += 1;
                verdict.find(Kind::Unexpected, || format!("{receiver}: {reason}"));
                return None;
            }
        };
        let (run, number) = place;
        let sent = &mut evidence.sent[run];
        if number > sent.printed.len() as u64 {
            sent.unprinted.insert(number, id);
        }
        let named = || {
            format!("{receiver}: {}, run {}, line {number} ({})", sent.sender, sent.run, show(&id))
        };
        if self.has(place) {
            let excuse =
                self.excuses.iter_mut().rev().find(|e| e.left > 0 && e.places.contains(&place));
            if let Some(excuse) = excuse {
                excuse.left -= 1;
                if std::mem::take(&mut excuse.by_kill) {
                    self.row.repeated_by_kill += 1;
                } else {
                    self.row.repeated_by_full_disk += 1;
                }
            } else {
                self.row.repeated += 1;
                verdict.find(Kind::Repeated, || format!("{} came again without a kill", named()));
            }
            return Some(place);
        }
        self.mark(place);
        self.row.delivered += 1;
        let newest = self.newest.entry(sent.stream).or_default();
        if *newest > (sent.run, number) {
            self.row.reordered += 1;
            verdict.find(Kind::Reordered, || {
                format!("{} came after run {}, line {}", named(), newest.0, newest.1)
            });
        } else {
            *newest = (sent.run, number);
        }
        Some(place)
    }

    /// Which message this is; an error where nobody can have sent it so.
    fn identify(&self, line: &[u8], evidence: &Evidence) -> Result<(Place, Id), String> {
        let printed: Printed<'_> = serde_json::from_slice(line).map_err(|error| {
            format!("{error} in {:?}", String::from_utf8_lossy(&line[..line.len().min(80)]))
        })?;
        let id =
            Id::try_from(printed.id.as_bytes()).map_err(|_| format!("no id: {:?}", printed.id))?;
        let said = Line::parse(printed.text)?;
        let wrong =
            |what: &str| format!("{}, run {}, line {}: {what}", said.sender, said.run, said.number);
        let found = evidence.sent_by.get(&(said.sender.clone(), said.run));
        let &run = found.ok_or_else(|| wrong("there was no such run"))?;
        let sent = &evidence.sent[run];
        if !(1..=sent.fed).contains(&said.number) {
            return Err(wrong("it was never fed"));
        }
        if said.topic != sent.topic {
            return Err(wrong("it was fed with another channel, lane or receiver"));
        }
        if !sent.is_for(&self.row.receiver, &self.row.channel) {
            return Err(wrong("it is for somebody else"));
        }
        let envelope = (printed.sender, printed.channel, printed.priority);
        if envelope != (said.sender.as_str(), said.topic.channel.as_str(), said.topic.lane.as_str())
        {
            return Err(wrong(&format!("it came as {envelope:?}")));
        }
        match sent.id(said.number) {
            Some(known) if *known != id => {
                Err(wrong(&format!("its id is {}, not {}", show(known), show(&id))))
            }
            _ => Ok(((run, said.number), id)),
        }
    }
}
