//! What a node's file must hold after a power cut, by the marks before it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::FromSql;
use waypost::Priority;
use waypost::error::OpenError;
use waypost::inspect::{InspectError, Inspector};
use waypost_faultfs::Log;

use super::{EXACT, Handled, PLAIN, URGENT};

/// A topic as marks name it.
const TOPIC: &str = "channel || CASE t.lane WHEN 0 THEN '.high' ELSE '' END";

/// What the two had been told when the power failed.
#[derive(Debug, Default)]
pub struct Told {
    /// By channel and lane, in order, what `send` or a transaction said Ok to.
    pub sent: BTreeMap<String, Vec<String>>,
    /// The sender's own rows and their messages.
    pub ordered: BTreeMap<u32, String>,
    /// Which plain messages a handler was given.
    pub handled: BTreeSet<String>,
    /// What `ack_in` said Ok to.
    pub effects: BTreeSet<String>,
    /// What the sender saw acknowledged.
    pub delivered: BTreeSet<String>,
}

impl Told {
    /// By the marks before this place.
    pub fn before(log: &Log, place: usize) -> Self {
        let mut told = Self::default();
        for (_, mark) in log.marks(place) {
            let words: Vec<&str> = mark.split(' ').collect();
            match words[..] {
                ["sent", channel, id] => {
                    told.sent.entry(channel.to_owned()).or_default().push(id.to_owned());
                }
                ["ordered", n, id] => {
                    told.ordered.insert(n.parse().expect("a number"), id.to_owned());
                }
                ["handled", PLAIN, id] => drop(told.handled.insert(id.to_owned())),
                ["effect", EXACT, id] => drop(told.effects.insert(id.to_owned())),
                ["delivered", id] => drop(told.delivered.insert(id.to_owned())),
                ["handled", EXACT, _] | ["dead", _] | ["purged", _] | ["trying"] => {}
                _ => panic!("a mark of a kind unknown: {mark}"),
            }
        }
        told
    }

    /// The last id that was given out, so far as anybody was told.
    pub fn last_id(&self) -> Option<&String> {
        self.sent.values().flatten().max()
    }
}

/// Whether all that the file says of itself is right. A file whose first start was cut short says nothing.
pub fn is_sound(file: &Path) -> Result<(), String> {
    let inspector = match Inspector::open(file) {
        Err(InspectError::NoNode { .. } | InspectError::Open(OpenError::Missing { .. })) => {
            return Ok(());
        }
        opened => opened.map_err(|error| format!("not opened: {error}"))?,
    };
    let report = inspector.check(|_| ()).map_err(|error| format!("not checked: {error}"))?;
    for row in inspector.queue().map_err(|error| format!("no queue: {error}"))? {
        let sum = row.pending + row.acknowledged + row.expired + row.dead + row.purged;
        if row.accepted != sum {
            return Err(format!("an account that does not add up: {row:?}"));
        }
    }
    match report.is_sound() {
        true => Ok(()),
        false => Err(format!("not sound: {:?}", report.findings)),
    }
}

fn texts(sql: &Connection, query: &str) -> Vec<String> {
    let mut statement = sql.prepare(query).expect("a statement");
    let rows = statement.query_map([], |row| row.get(0)).expect("readable");
    rows.collect::<Result<_, _>>().expect("readable")
}

fn has_table(sql: &Connection, name: &str) -> bool {
    let query = "SELECT count(*) FROM sqlite_schema WHERE name = ?1";
    sql.query_row(query, [name], |row| row.get::<_, u64>(0)).expect("readable") == 1
}

/// A message in the sender's file.
#[derive(Debug)]
struct Row {
    seq: u64,
    topic: i64,
    channel: String,
}

/// What is wrong with the sender's file. Nothing may run on it.
pub fn wrong_with_sender(file: &Path, told: &Told) -> Vec<String> {
    let sql = Connection::open(file).expect("opened");
    let mut wrong = Vec::new();
    let rows = outbox(&sql);
    let accepted: BTreeMap<String, u64> =
        pairs(&sql, &format!("SELECT {TOPIC}, accepted FROM waypost_topics t"));
    let orders: BTreeMap<u32, String> = match has_table(&sql, "orders") {
        true => pairs(&sql, "SELECT n, id FROM orders"),
        false => BTreeMap::new(),
    };
    for (n, id) in &told.ordered {
        if orders.get(n) != Some(id) {
            wrong.push(format!("order {n} ({id}) is missing"));
        }
    }
    for (channel, ids) in &told.sent {
        let accepted = accepted.get(channel).copied().unwrap_or(0);
        if accepted < ids.len() as u64 {
            wrong.push(format!("{channel}: {accepted} accepted of {}", ids.len()));
        }
        for id in ids.iter().filter(|id| !rows.contains_key(*id)) {
            if !was_cleaned_up(&sql, &rows, channel, id) {
                wrong.push(format!("message {id} of {channel} is missing"));
            }
        }
    }
    let ordered: BTreeSet<&String> = orders.values().collect();
    for (id, _) in rows.iter().filter(|(_, row)| row.channel == EXACT) {
        if !ordered.contains(id) {
            wrong.push(format!("message {id} is there without its order"));
        }
    }
    for id in orders.values() {
        if !rows.contains_key(id) && !was_cleaned_up(&sql, &rows, EXACT, id) {
            wrong.push(format!("an order is there without its message {id}"));
        }
    }
    wrong
}

fn outbox(sql: &Connection) -> BTreeMap<String, Row> {
    let query = format!(
        "SELECT id, seq, topic, {TOPIC} FROM waypost_outbox o JOIN waypost_topics t USING (topic)"
    );
    let mut statement = sql.prepare(&query).expect("a statement");
    let rows = statement.query_map([], |row| {
        let id = waypost::MessageId::from_bytes(row.get(0)?).to_string();
        Ok((id, Row { seq: row.get(1)?, topic: row.get(2)?, channel: row.get(3)? }))
    });
    rows.expect("readable").collect::<Result<_, _>>().expect("readable")
}

fn pairs<K: FromSql + Ord, V: FromSql>(sql: &Connection, query: &str) -> BTreeMap<K, V> {
    let mut statement = sql.prepare(query).expect("a statement");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.expect("readable").collect::<Result<_, _>>().expect("readable")
}

/// Whether a message that is gone was settled before: nothing that waits in its channel was sent before it. (How many were sent and
/// how many of them wait is checked by the accounts.)
fn was_cleaned_up(
    sql: &Connection,
    rows: &BTreeMap<String, Row>,
    channel: &str,
    id: &String,
) -> bool {
    let query = "SELECT topic, acked_seq FROM waypost_cursors WHERE receiver = 'bob'";
    let places: BTreeMap<i64, u64> = pairs(sql, query);
    !places.is_empty()
        && rows
            .iter()
            .filter(|(_, row)| row.channel == channel)
            .filter(|(_, row)| places.get(&row.topic).is_none_or(|acked| row.seq > *acked))
            .all(|(waiting, _)| waiting > id)
}

/// What is wrong with the receiver's file. Nothing may run on it.
pub fn wrong_with_receiver(file: &Path, log: &Log, told: &Told) -> Vec<String> {
    let sql = Connection::open(file).expect("opened");
    let mut wrong = Vec::new();
    let effects = match has_table(&sql, "effects") {
        true => texts(&sql, "SELECT id FROM effects"),
        false => Vec::new(),
    };
    let once: BTreeSet<&String> = effects.iter().collect();
    if once.len() != effects.len() {
        wrong.push(format!("{} effects of {} messages", effects.len(), once.len()));
    }
    // Which channel an id belongs to stands in a mark that may come after the acknowledgement's.
    let all = Told::before(log, log.ops().len());
    let exact: BTreeSet<&String> = all.sent.get(EXACT).into_iter().flatten().collect();
    let acknowledged = told.delivered.iter().filter(|id| exact.contains(id));
    for id in told.effects.iter().chain(acknowledged) {
        if !once.contains(id) {
            wrong.push(format!("the effect of {id} is missing"));
        }
    }
    let counted = texts(
        &sql,
        "SELECT CAST(coalesce(sum(count), 0) AS TEXT) FROM waypost_inbox WHERE channel = 'exact'",
    );
    if counted[0] != effects.len().to_string() {
        wrong.push(format!("{} taken, {} effects", counted[0], effects.len()));
    }
    wrong
}

/// The last message of each lane of a channel that the receiver's file knows to have been taken.
pub fn taken(file: &Path, channel: &str) -> BTreeMap<Priority, String> {
    let sql = Connection::open(file).expect("opened");
    if !has_table(&sql, "waypost_inbox") {
        return BTreeMap::new();
    }
    let query = "SELECT lane, max(last_id) FROM waypost_inbox WHERE channel = ?1 GROUP BY lane";
    let mut statement = sql.prepare(query).expect("a statement");
    let rows = statement.query_map([channel], |row| {
        let lane: usize = row.get(0)?;
        let id = waypost::MessageId::from_bytes(row.get(1)?).to_string();
        Ok(([Priority::High, Priority::Normal, Priority::Low][lane], id))
    });
    rows.expect("readable").collect::<Result<_, _>>().expect("readable")
}

/// What is not settled in the sender's file, or not as it should be. Nothing may run on it.
pub fn unsettled(file: &Path) -> Vec<String> {
    let sql = Connection::open(file).expect("opened");
    let query = "SELECT t.channel || ' ' || t.lane || ': ' || t.accepted || ' accepted, ' || c.acknowledged || ' acknowledged, '
            || c.dead || ' dead, ' || c.purged || ' purged'
        FROM waypost_topics t JOIN waypost_cursors c USING (topic)
        WHERE t.accepted <> c.base + c.acknowledged + c.dead + c.purged
            OR c.acknowledged > 0 AND t.channel IN ('poison', 'slow')
            OR c.dead > 0 AND t.channel <> 'poison'
            OR c.purged > 0 AND t.channel <> 'slow'";
    texts(&sql, query)
}

/// What is wrong with what the handlers of plain messages were given before and after a cut: all that was sent, in order, and nothing
/// again that the file knew to have been taken.
pub fn wrong_with_handling(
    told: &Told,
    handled: &Handled,
    taken: &BTreeMap<Priority, String>,
) -> Vec<String> {
    let after = plain(handled);
    let ever: BTreeSet<&String> =
        told.handled.iter().chain(after.iter().map(|(_, id)| id)).collect();
    let mut wrong = never_arrived(told, &ever);
    let mut last: BTreeMap<Priority, &String> =
        taken.iter().map(|(lane, id)| (*lane, id)).collect();
    for (lane, id) in &after {
        if let Some(last) = last.insert(*lane, id).filter(|last| *last >= id) {
            wrong.push(format!("{id} arrived after {last}"));
        }
    }
    wrong
}

/// The same in one run, where a receipt that could not be written makes a message come again at once.
pub fn wrong_with_handling_of_retries(told: &Told, handled: &Handled) -> Vec<String> {
    let all = plain(handled);
    let mut wrong = never_arrived(told, &all.iter().map(|(_, id)| id).collect());
    let mut last: BTreeMap<Priority, &String> = BTreeMap::new();
    for (lane, id) in &all {
        if let Some(last) = last.insert(*lane, id).filter(|last| *last > id) {
            wrong.push(format!("{id} arrived after {last}"));
        }
    }
    wrong
}

fn plain(handled: &Handled) -> Vec<(Priority, String)> {
    let all = handled.all().into_iter().filter(|(channel, ..)| channel == PLAIN);
    all.map(|(_, lane, id)| (lane, id.to_string())).collect()
}

fn never_arrived(told: &Told, ever: &BTreeSet<&String>) -> Vec<String> {
    let sent = [PLAIN, URGENT].into_iter().filter_map(|channel| told.sent.get(channel)).flatten();
    sent.filter(|id| !ever.contains(id)).map(|id| format!("{id} never arrived")).collect()
}
