//! Reads a backlog from the file, in pages, on a connection of its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::columns::{lane, parsed};
use super::error::StoreError;
use super::fault::At;
use super::open::SELECT_END_SEQ;
use super::outbox::loaded;
use super::strays;
use super::types::{Loaded, Page, PageRequest, Stray, Topic};
use crate::message::{Priority, TopicId};

/// A page ends after looking at so many rows, wanted or not.
const MAX_ROWS: usize = 50_000;
/// It ends after this time too, as soon as it is noticed.
const MAX_TIME: Duration = Duration::from_millis(5);
const ROWS_BETWEEN_LOOKS_AT_THE_CLOCK: usize = 256;

// The columns that `loaded` reads, and the link.
pub(super) const NORMAL: &str = "SELECT seq, topic, created_ms, id, expires_ms, kind, headers, encoding, crc, payload, previous_seq FROM waypost_outbox WHERE seq > ?1 ORDER BY seq";
// `lane <> 1` stands there for the partial index.
pub(super) const OTHER: &str = "SELECT seq, topic, created_ms, id, expires_ms, kind, headers, encoding, crc, payload, previous_seq FROM waypost_outbox WHERE lane <> 1 AND lane = ?2 AND seq > ?1 ORDER BY seq";
pub(super) const TOPIC: &str =
    "SELECT topic, channel, target, lane, accepted, last_seq FROM waypost_topics WHERE topic = ?1";
pub(super) const TIMES: &str =
    "SELECT seq, topic, created_ms FROM waypost_outbox WHERE seq > ?1 ORDER BY seq";

/// The wanted topics' messages in seq order, from the lowest place that is asked for.
pub(super) fn page(conn: &Connection, request: &PageRequest) -> Result<Page, StoreError> {
    let lowest = request.topics.iter().map(|(_, after)| *after).min().unwrap_or(0);
    // Read first: whatever is committed meanwhile lies behind it. The highest seq ever given out, not the highest that is left:
    // where the last messages were deleted, who waits for them learns that there is nothing up to there.
    let end_seq: u64 = conn
        .prepare_cached(SELECT_END_SEQ)
        .and_then(|mut end| end.query_row([], |row| row.get(0)))
        .at("read a page")?;
    let mut page = Page {
        entries: Vec::new(),
        scanned_to: end_seq.max(lowest),
        end: true,
        strays: Vec::new(),
    };
    let wanted = wanted(conn, request)?;
    let mut links = Links { conn, passed: HashMap::new() };
    if wanted.is_empty() {
        return Ok(page);
    }
    let mut select = match request.lane {
        Priority::Normal => conn.prepare_cached(NORMAL),
        Priority::High | Priority::Low => conn.prepare_cached(OTHER),
    }
    .at("read a page")?;
    let mut rows = match request.lane {
        Priority::Normal => select.query([lowest]),
        lane => select.query(params![lowest, lane.index()]),
    }
    .at("read a page")?;
    let (started, mut seen, mut bytes) = (Instant::now(), 0, 0);
    while let Some(row) = rows.next().at("read a page")? {
        let seq: u64 = row.get(0).at("read a page")?;
        if let Some(loaded) = wanted_row(row, seq, &wanted)? {
            page.strays.extend(links.pass(row, seq, &loaded)?);
            bytes += size(&loaded);
            let full = bytes > request.max_bytes || page.entries.len() >= request.max_messages;
            // One is always taken, so that a message larger than the page is no obstacle.
            if full && !page.entries.is_empty() {
                page.end = false;
                return Ok(page);
            }
            page.entries.push(loaded);
        }
        page.scanned_to = seq;
        seen += 1;
        let late = seen % ROWS_BETWEEN_LOOKS_AT_THE_CLOCK == 0 && started.elapsed() > MAX_TIME;
        if seen == MAX_ROWS || late {
            page.end = false;
            return Ok(page);
        }
    }
    page.scanned_to = page.scanned_to.max(end_seq);
    for (topic, _) in wanted.values() {
        page.strays.extend(links.end(topic, page.scanned_to)?);
    }
    Ok(page)
}

/// Whether each message follows the one that it says it follows.
struct Links<'a> {
    conn: &'a Connection,
    /// The last message of each topic so far.
    passed: HashMap<TopicId, u64>,
}

impl Links<'_> {
    fn pass(
        &mut self,
        row: &Row<'_>,
        seq: u64,
        loaded: &Loaded,
    ) -> Result<Option<Stray>, StoreError> {
        let topic = match loaded {
            Loaded::Good(entry) => entry.topic,
            Loaded::Damaged { topic, .. } => *topic,
        };
        let passed = self.passed.insert(topic, seq);
        // A damaged link leads nowhere.
        let previous = row.get(10).unwrap_or(0);
        let is_next = match passed {
            Some(passed) => previous <= passed,
            // The page before may have ended between the two.
            None => previous == 0,
        };
        let stray = Stray { seq: previous, topic };
        Ok((!is_next && strays::is_stray(self.conn, stray)?).then_some(stray))
    }

    /// The same for the topic's end, which an earlier page may have passed.
    fn end(&self, topic: &Topic, scanned_to: u64) -> Result<Option<Stray>, StoreError> {
        let seen = self.passed.get(&topic.topic) == Some(&topic.last_seq);
        let is_missing = !seen && topic.last_seq <= scanned_to;
        let stray = Stray { seq: topic.last_seq, topic: topic.topic };
        Ok((is_missing && strays::is_stray(self.conn, stray)?).then_some(stray))
    }
}

/// The topics that were asked for, as the file names them, each with the place after which it is wanted.
fn wanted(
    conn: &Connection,
    request: &PageRequest,
) -> Result<HashMap<TopicId, (Topic, u64)>, StoreError> {
    let mut select = conn.prepare_cached(TOPIC).at("read a topic")?;
    let mut wanted = HashMap::new();
    for (topic, after) in &request.topics {
        let found = select.query_row([topic.0], read_topic).optional().at("read a topic")?;
        if let Some(found) = found {
            wanted.insert(*topic, (found, *after));
        }
    }
    Ok(wanted)
}

fn read_topic(row: &Row<'_>) -> rusqlite::Result<Topic> {
    let target = match row.get_ref(2)?.as_str_or_null()? {
        Some(_) => Some(parsed(row, 2)?),
        None => None,
    };
    Ok(Topic {
        topic: TopicId(row.get(0)?),
        channel: parsed(row, 1)?,
        target,
        lane: lane(row, 3)?,
        accepted: row.get(4)?,
        last_seq: row.get(5)?,
    })
}

fn wanted_row(
    row: &Row<'_>,
    seq: u64,
    wanted: &HashMap<TopicId, (Topic, u64)>,
) -> Result<Option<Loaded>, StoreError> {
    let Ok(topic) = row.get(1) else { return Ok(None) };
    match wanted.get(&TopicId(topic)) {
        Some((topic, after)) if seq > *after => loaded(row, topic).map(Some).at("read a message"),
        _ => Ok(None),
    }
}

fn size(loaded: &Loaded) -> usize {
    match loaded {
        Loaded::Good(entry) => entry.body.data.len(),
        Loaded::Damaged { .. } => 0,
    }
}

/// When the first message past each of these places was created: one pass over those parts of the log that can tell. What it has not come to by
/// `end` is left out.
pub(super) fn first_times(
    conn: &Connection,
    mut places: Vec<(TopicId, u64)>,
    end: Instant,
) -> Result<HashMap<(TopicId, u64), u64>, StoreError> {
    places.sort_unstable_by_key(|(topic, after)| (*after, *topic));
    places.dedup();
    let mut found = HashMap::new();
    let mut upcoming = places.into_iter().peekable();
    let mut open: HashMap<TopicId, Vec<u64>> = HashMap::new();
    let mut select = conn.prepare_cached(TIMES).at("read the oldest messages")?;
    // Where nothing is looked for, the log is passed over.
    while let Some((_, lowest)) = upcoming.peek().copied() {
        let mut rows = select.query([lowest]).at("read the oldest messages")?;
        let (mut read, mut is_passed_over) = (0_usize, false);
        while let Some(row) = rows.next().at("read the oldest messages")? {
            let place = || Ok((row.get(0)?, TopicId(row.get(1)?)));
            let (seq, topic): (u64, TopicId) = place().at("read the oldest messages")?;
            while let Some((topic, after)) = upcoming.next_if(|(_, after)| *after < seq) {
                open.entry(topic).or_default().push(after);
            }
            for after in open.remove(&topic).into_iter().flatten() {
                found.insert((topic, after), row.get(2).at("read the oldest messages")?);
            }
            if open.is_empty() {
                is_passed_over = true;
                break;
            }
            read += 1;
            if read.is_multiple_of(ROWS_BETWEEN_LOOKS_AT_THE_CLOCK) && Instant::now() >= end {
                return Ok(found);
            }
        }
        if !is_passed_over {
            break;
        }
    }
    Ok(found)
}
