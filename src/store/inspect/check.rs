//! Whether a file is sound: its pages, its messages, its accounts.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row};
use serde::Serialize;

use super::queue::{Cursor, cursors};
use super::{InspectError, Inspector, row};
use crate::message::{MessageId, TopicId};
use crate::store::crc::Stored;
use crate::store::disk::beside;
use crate::store::migrate::user_version;
use crate::store::open::log::{self, Lost};
use crate::store::open::{OpenError, invariants, schema};

pub(super) mod seals;

/// What is checked, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// The write-ahead log, as it would be read after a crash.
    Log,
    /// The structure of the database, with the tables of other programs in it, and the definitions of waypost's own.
    Pages,
    /// What rows of one table say about rows of another.
    References,
    /// Every message: its checksum, its place, its order.
    Messages,
    /// The accounts against the messages that are there.
    Accounts,
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What is being checked.
    pub stage: Stage,
    /// How much of it is done.
    pub done: u64,
    /// How much there is; 0 where that is not known.
    pub total: u64,
}

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What was being checked.
    pub stage: Stage,
    /// What is wrong.
    pub detail: String,
    /// The message that it is about.
    pub id: Option<MessageId>,
}

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// How many messages were checked.
    pub messages: u64,
    /// What was found, at most [`Report::MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// What of the write-ahead log will not be read, where something is missing before its end. After a power cut that is no fault.
    pub log: Option<String>,
    /// How many more findings there were.
    pub further: u64,
}

impl Report {
    /// Most findings that are listed; more are only counted.
    pub const MAX_FINDINGS: usize = 100;

    /// Whether nothing was found.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn add(&mut self, stage: Stage, id: Option<MessageId>, detail: String) {
        if self.findings.len() < Self::MAX_FINDINGS {
            self.findings.push(Finding { stage, detail, id });
        } else {
            self.further += 1;
        }
    }
}

pub(super) const INTEGRITY: &str = "PRAGMA integrity_check(100)";
pub(super) const REFERENCES: &str =
    "SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check
    WHERE \"table\" LIKE 'waypost\\_%' ESCAPE '\\' GROUP BY 1, 2";
pub(super) const COUNT: &str = "SELECT count(*) FROM waypost_outbox";
pub(super) const MESSAGES: &str = "SELECT o.seq, o.id, o.topic, o.lane, o.previous_seq, o.created_ms, o.kind, o.headers, o.encoding,
        o.crc, o.payload, t.lane, t.last_seq, o.expires_ms
    FROM waypost_outbox o LEFT JOIN waypost_topics t USING (topic) WHERE o.seq > ?1 ORDER BY o.seq LIMIT ?2";
pub(super) const IS_THERE: &str = "SELECT 1 FROM waypost_outbox WHERE seq = ?1";
pub(super) const PLACES: &str = "SELECT seq, topic FROM waypost_outbox ORDER BY seq";
pub(super) const TOPICS: &str =
    "SELECT topic, channel, accepted, unclaimed_expired FROM waypost_topics";
pub(super) const META: &str = "SELECT
    (SELECT count(*) FROM waypost_meta),
    (SELECT last_id FROM waypost_meta),
    (SELECT count(*) FROM waypost_stores),
    (SELECT id FROM waypost_outbox ORDER BY seq DESC LIMIT 1),
    (SELECT count(*) FROM waypost_topics)";

/// So many messages are read in one go: a running node's log can be cut back in between.
const CHUNK: u32 = 256;

impl Inspector {
    /// Checks every page, every message and every account, and tells how far it is from time to time. On a large file it
    /// takes as long as reading all of it, and while the accounts are counted a running node's write-ahead log cannot be cut back.
    ///
    /// # Errors
    /// An [`OpenError`] where the file cannot be read at all. Damage is a finding, not an error.
    pub fn check(&self, mut progress: impl FnMut(Progress)) -> Result<Report, InspectError> {
        let mut report = Report::default();
        type Check =
            fn(&Inspector, &mut Report, &mut dyn FnMut(Progress)) -> Result<(), InspectError>;
        let stages: [(Stage, Check); 5] = [
            (Stage::Log, Self::check_log),
            (Stage::Pages, Self::check_pages),
            (Stage::References, Self::check_references),
            (Stage::Messages, Self::check_messages),
            (Stage::Accounts, Self::check_accounts),
        ];
        for (stage, check) in stages {
            progress(Progress { stage, done: 0, total: 0 });
            match check(self, &mut report, &mut progress) {
                Err(InspectError::Open(OpenError::Corrupt { reason, .. })) => {
                    report.add(stage, None, format!("the check ended early: {reason}"));
                }
                done => done?,
            }
        }
        Ok(report)
    }

    fn check_log(
        &self,
        report: &mut Report,
        _: &mut dyn FnMut(Progress),
    ) -> Result<(), InspectError> {
        let wal = beside(&self.path, "-wal");
        let examine = || {
            let examined = log::examine(&wal);
            examined.map(|it| it.lost).map_err(|error| OpenError::io(&wal, "examined", error))
        };
        // A running node may have begun the log again in between: damage is there a second time.
        if let Some(Lost { frame, transactions }) = examine()?
            && examine()?.is_some_and(|again| again.frame == frame)
        {
            let detail = format!(
                "the write-ahead log cannot be read from frame {frame} on, and with it at least {transactions} later \
                 transactions, where the node was or is not stopped in good order: after a power cut, that is so for receipts and \
                 settlements; otherwise the disk has damaged it"
            );
            report.log = Some(detail);
        }
        Ok(())
    }

    fn check_pages(
        &self,
        report: &mut Report,
        _: &mut dyn FnMut(Progress),
    ) -> Result<(), InspectError> {
        self.read("checking its pages", |connection| {
            let mut statement = connection.prepare(INTEGRITY)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let lines = row.get_ref(0)?.as_str()?;
                for line in lines.lines().filter(|line| *line != "ok" && !line.starts_with("***")) {
                    report.add(Stage::Pages, None, line.to_owned());
                }
            }
            // At least 1: only such files are opened.
            let version = u32::try_from(user_version(connection)?).unwrap_or(0);
            if let Some(fault) = schema::fault(connection, version)? {
                report.add(Stage::Pages, None, fault);
            }
            Ok(())
        })
    }

    fn check_references(
        &self,
        report: &mut Report,
        _: &mut dyn FnMut(Progress),
    ) -> Result<(), InspectError> {
        self.read("checking its references", |connection| {
            let mut statement = connection.prepare(REFERENCES)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (table, parent, count): (String, String, u64) =
                    (row.get(0)?, row.get(1)?, row.get(2)?);
                let detail =
                    format!("{count} rows of {table} name rows of {parent} that do not exist");
                report.add(Stage::References, None, detail);
            }
            Ok(())
        })
    }

    fn check_messages(
        &self,
        report: &mut Report,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), InspectError> {
        let operation = "checking its messages";
        let total =
            self.read(operation, |connection| connection.query_row(COUNT, [], |row| row.get(0)))?;
        let mut log = Log::default();
        loop {
            let more = self.read(operation, |connection| log.chunk(connection, report))?;
            progress(Progress { stage: Stage::Messages, done: report.messages, total });
            if !more {
                break;
            }
        }
        self.read("checking its dead letters and its inbox", |connection| {
            seals::check(connection, report)
        })
    }

    fn check_accounts(
        &self,
        report: &mut Report,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), InspectError> {
        self.read("checking its accounts", |connection| {
            check_meta(connection, report)?;
            let total = connection.query_row(COUNT, [], |row| row.get(0))?;
            let mut counts = Counts::of(cursors(connection)?);
            let mut statement = connection.prepare(PLACES)?;
            let mut rows = statement.query([])?;
            let mut done = 0;
            while let Some(row) = rows.next()? {
                counts.see(row.get(0)?, row.get(1)?);
                done += 1;
                if done % 65_536 == 0 {
                    progress(Progress { stage: Stage::Accounts, done, total });
                }
            }
            counts.compare(connection, report)?;
            // Whatever keeps a node from starting is found here, too.
            if report.is_sound() {
                let fault = invariants::fault(connection)?;
                fault.into_iter().for_each(|fault| report.add(Stage::Accounts, None, fault));
            }
            Ok(())
        })
    }
}

/// What was seen of the log so far.
#[derive(Default)]
struct Log {
    seq: i64,
    id: Option<MessageId>,
    created_ms: i64,
    /// The last message of each topic.
    topics: BTreeMap<i64, i64>,
}

impl Log {
    /// Whether there may be more.
    fn chunk(&mut self, connection: &Connection, report: &mut Report) -> rusqlite::Result<bool> {
        let mut statement = connection.prepare_cached(MESSAGES)?;
        let mut rows = statement.query((self.seq, CHUNK))?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += 1;
            report.messages += 1;
            let seq = row.get(0)?;
            // A damaged page may lead back to where it was come from.
            if seq <= self.seq {
                let detail =
                    format!("{seq} follows {}: the check of messages ended there", self.seq);
                report.add(Stage::Messages, None, detail);
                return Ok(false);
            }
            match self.message(connection, row, report) {
                Err(error) if is_of_the_row(&error) => report.add(
                    Stage::Messages,
                    None,
                    format!("at {seq}: it is damaged and will not be delivered ({error})"),
                ),
                read => read?,
            }
            self.seq = seq;
        }
        Ok(count == CHUNK)
    }

    fn message(
        &mut self,
        connection: &Connection,
        row: &Row<'_>,
        report: &mut Report,
    ) -> rusqlite::Result<()> {
        let seq: i64 = row.get(0)?;
        let id = row::id(row, 1)?;
        let topic: i64 = row.get(2)?;
        let (lane, previous_seq, created_ms): (i64, i64, i64) =
            (row.get(3)?, row.get(4)?, row.get(5)?);
        let mut wrong =
            |detail| report.add(Stage::Messages, Some(id), format!("at {seq}: {detail}"));
        if !is_intact(row, id, topic)? {
            wrong("its checksum does not fit: it is damaged and will not be delivered".to_owned());
        }
        if let Some(before) = self.id.filter(|&before| before >= id) {
            wrong(format!("its id is not above {before}, the one before it"));
        }
        if created_ms < self.created_ms {
            wrong("it is older than the message before it".to_owned());
        }
        match (row.get::<_, Option<i64>>(11)?, row.get::<_, Option<i64>>(12)?) {
            (Some(topic_lane), _) if topic_lane != lane => {
                wrong(format!("it is in lane {lane}, its topic {topic} in lane {topic_lane}"));
            }
            (Some(_), Some(last_seq)) if last_seq < seq => {
                wrong(format!("its topic {topic} ends before it, at {last_seq}"));
            }
            (None, _) => wrong(format!("its topic {topic} does not exist")),
            _ => {}
        }
        if let Some(&last) = self.topics.get(&topic).filter(|&&last| last != previous_seq)
            // A running node may have deleted that one since it was seen, and linked this one to the one before.
            && connection.prepare_cached(IS_THERE)?.exists([last])?
        {
            wrong(format!("it follows {previous_seq} of its topic instead of {last}"));
        }
        self.topics.insert(topic, seq);
        (self.id, self.created_ms) = (Some(id), created_ms);
        Ok(())
    }
}

fn is_intact(row: &Row<'_>, id: MessageId, topic: i64) -> rusqlite::Result<bool> {
    let (Ok(kind), Ok(headers)) = (row.get_ref(6)?.as_str(), row.get_ref(7)?.as_str_or_null())
    else {
        return Ok(false);
    };
    let stored = Stored {
        id,
        topic: TopicId(topic),
        seq: row.get(0)?,
        created_ms: row.get(5)?,
        expires_ms: row.get(13)?,
        kind,
        headers,
        encoding: row.get(8)?,
        payload: row.get_ref(10)?.as_blob()?,
    };
    Ok(stored.fits(row.get(9)?))
}

/// Whether it is what the row holds that could not be read, and not the row.
fn is_of_the_row(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_none()
}

fn check_meta(connection: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    connection.query_row(META, [], |row| {
        let (owners, stores): (u64, u64) = (row.get(0)?, row.get(2)?);
        let (last_given, last_there) = (row::optional_id(row, 1)?, row::optional_id(row, 3)?);
        let topics: u64 = row.get(4)?;
        let mut wrong = |detail: &str, id| report.add(Stage::Accounts, id, detail.to_owned());
        if owners == 0 && topics > 0 {
            wrong("there are messages, but no row says whose file it is", None);
        }
        if owners > 0 && stores == 0 {
            wrong("no store id is known", None);
        }
        if owners > 0 && last_there > last_given {
            wrong("this message's id is above the last one that was given out", last_there);
        }
        Ok(())
    })
}

/// Counts the messages past each cursor in one pass over the log, in memory that grows with the cursors alone.
struct Counts {
    topics: BTreeMap<i64, TopicCount>,
}

#[derive(Default)]
struct TopicCount {
    /// By their place, the lowest last.
    ahead: Vec<Cursor>,
    /// Those that were passed, with the number of messages up to their place.
    passed: Vec<(Cursor, i64)>,
    messages: i64,
}

impl Counts {
    fn of(mut cursors: Vec<Cursor>) -> Self {
        cursors.sort_by_key(|cursor| std::cmp::Reverse(cursor.acked_seq));
        let mut topics: BTreeMap<i64, TopicCount> = BTreeMap::new();
        for cursor in cursors.into_iter().filter(|cursor| cursor.open) {
            topics.entry(cursor.topic).or_default().ahead.push(cursor);
        }
        Self { topics }
    }

    fn see(&mut self, seq: u64, topic: i64) {
        let count = self.topics.entry(topic).or_default();
        while let Some(cursor) = count.ahead.pop_if(|cursor| cursor.acked_seq < seq) {
            count.passed.push((cursor, count.messages));
        }
        count.messages += 1;
    }

    fn compare(self, connection: &Connection, report: &mut Report) -> rusqlite::Result<()> {
        let mut statement = connection.prepare(TOPICS)?;
        let mut rows = statement.query([])?;
        let mut topics = self.topics;
        while let Some(row) = rows.next()? {
            let count = topics.remove(&row.get(0)?).unwrap_or_default();
            let channel: String = row.get(1)?;
            let (accepted, expired): (i64, i64) = (row.get(2)?, row.get(3)?);
            let mut wrong = |detail: String| {
                report.add(Stage::Accounts, None, format!("{channel:?}: {detail}"))
            };
            if accepted < count.messages + expired {
                wrong(format!(
                    "{accepted} messages were accepted, but {} are there and {expired} expired unread",
                    count.messages
                ));
            }
            let total = count.messages;
            let ahead = count.ahead.into_iter().map(|cursor| (cursor, total));
            for (cursor, before) in count.passed.into_iter().chain(ahead) {
                let (there, pending) = (total - before, cursor.pending);
                if there != pending {
                    let receiver = cursor.receiver;
                    wrong(format!(
                        "{pending} messages should wait for {receiver} by its account, {there} do"
                    ));
                }
            }
        }
        Ok(())
    }
}
