//! What can be seen of a node from outside: its memory, its time on the processor, its file.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use waypost::rusqlite::{Connection, OpenFlags};

use crate::process::Process;

/// A node at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) node: &'static str,
    pub(crate) pid: u32,
    /// All that is resident, shared pages included.
    pub(crate) rss_kib: u64,
    /// The part of it that is the process's own: heap and stacks.
    pub(crate) anon_kib: u64,
    /// Processor time since the process's start.
    pub(crate) cpu: Duration,
    pub(crate) file: FileSize,
    pub(crate) free_bytes: u64,
    /// Places in the log from the first message to the last.
    pub(crate) log_span: u64,
    pub(crate) pending: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FileSize {
    pub(crate) db_bytes: u64,
    pub(crate) wal_bytes: u64,
}

/// Linux counts processor time in hundredths of a second for every program.
const TICK: Duration = Duration::from_millis(10);

const FREE_BYTES: &str =
    "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size";
const LOG_SPAN: &str = "SELECT coalesce(max(seq) - min(seq) + 1, 0) FROM (SELECT min(seq) AS seq FROM waypost_outbox UNION ALL SELECT max(seq) FROM waypost_outbox)";

impl Sample {
    /// Looks at a running node.
    pub(crate) fn take(process: &Process, dir: &Path, at: Duration) -> anyhow::Result<Self> {
        let (rss_kib, anon_kib) = memory(process.pid)?;
        let path = file_path(dir, process.name);
        let (free_bytes, log_span) = inside(&path).unwrap_or_default();
        let told = process.told();
        Ok(Self {
            at,
            node: process.name,
            pid: process.pid,
            rss_kib,
            anon_kib,
            cpu: cpu(process.pid)?,
            file: FileSize::of(&path),
            free_bytes,
            log_span,
            pending: told.pending(),
            sent: told.sent_in_all(),
            received: told.received_in_all(),
        })
    }
}

impl FileSize {
    /// 0 for what is not there.
    pub(crate) fn of(path: &Path) -> Self {
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        Self { db_bytes: bytes(path), wal_bytes: bytes(Path::new(&wal)) }
    }
}

pub(crate) fn file_path(dir: &Path, node: &str) -> PathBuf {
    dir.join(format!("{node}.db"))
}

/// `VmRSS` and `RssAnon`.
fn memory(pid: u32) -> anyhow::Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} cannot be looked at (this needs Linux)"))?;
    let kib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .with_context(|| format!("process {pid} has no {name}: it has ended"))
    };
    Ok((kib("VmRSS:")?, kib("RssAnon:")?))
}

fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // proc(5): the name stands in brackets and may hold anything; user and system time are the 12th and 13th field after it.
    let (_, rest) = stat.rsplit_once(')').context("no name")?;
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    Ok(TICK * ticks.sum::<Result<u32, _>>()?)
}

/// Free bytes and the log's span. None where the file does not exist yet.
fn inside(path: &Path) -> Option<(u64, u64)> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    connection.busy_timeout(Duration::from_secs(5)).ok()?;
    let number = |sql| connection.query_row(sql, [], |row| row.get(0));
    Some((number(FREE_BYTES).ok()?, number(LOG_SPAN).ok()?))
}

/// The samples as a table for other programs, a row each.
pub(crate) struct Table(fs::File);

impl Table {
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let mut file = fs::File::create(path).with_context(|| path.display().to_string())?;
        writeln!(
            file,
            "seconds,node,pid,rss_kib,anon_kib,cpu_ms,db_bytes,wal_bytes,free_bytes,log_span,pending,sent,received"
        )?;
        Ok(Self(file))
    }

    pub(crate) fn add(&mut self, s: &Sample) -> std::io::Result<()> {
        let FileSize { db_bytes, wal_bytes } = s.file;
        writeln!(
            self.0,
            "{:.1},{},{},{},{},{},{db_bytes},{wal_bytes},{},{},{},{},{}",
            s.at.as_secs_f64(),
            s.node,
            s.pid,
            s.rss_kib,
            s.anon_kib,
            s.cpu.as_millis(),
            s.free_bytes,
            s.log_span,
            s.pending,
            s.sent,
            s.received,
        )
    }
}
