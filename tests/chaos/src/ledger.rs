//! The judge of business tables: what sellers' files say was sold against what buyers' files say was bought, row by row.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::path::Path;

use anyhow::Context;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use crate::journal::{self, Event, Role};

/// Findings that are shown; all are counted.
const SHOWN: usize = 20;
const SOLD: &str = "SELECT n, item, amount, buyer FROM sold ORDER BY n";
const BOUGHT: &str = "SELECT n, item, amount, buyer FROM bought WHERE seller = ?1 ORDER BY place";
const FOREIGN: &str =
    "SELECT count(*) FROM bought WHERE seller NOT IN (SELECT value FROM json_each(?1))";

/// What a row says, besides its number.
type Row = (String, i64, Option<String>);

/// What one buyer has of one seller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// Who sold.
    pub seller: String,
    /// Who bought.
    pub buyer: String,
    /// Rows that were sold to this buyer.
    pub sold: u64,
    /// Rows that it has.
    pub bought: u64,
    /// Sold, and not bought.
    pub missing: u64,
    /// Bought again.
    pub double: u64,
    /// Bought, and never sold to it, or sold otherwise.
    pub unexpected: u64,
    /// Bought after a later one that went the same way.
    pub reordered: u64,
}

/// All pairs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Rows that all sellers sold, each counted once.
    pub sold: u64,
    /// Sales that a seller printed and that are not in its file.
    pub forgotten: u64,
    /// Rows of buyers that name nobody who sells.
    pub foreign: u64,
    /// By seller and buyer.
    pub pairs: Vec<Pair>,
    /// The first things that are wrong.
    pub findings: Vec<String>,
}

impl Balance {
    /// Whether both sides agree in every row.
    pub fn is_even(&self) -> bool {
        let even = |pair: &Pair| pair.missing + pair.double + pair.unexpected + pair.reordered == 0;
        self.forgotten + self.foreign == 0 && self.pairs.iter().all(even)
    }

    fn find(&mut self, text: String) {
        if self.findings.len() < SHOWN {
            self.findings.push(text);
        }
    }
}

/// Compares the files of a part.
///
/// # Errors
/// A file cannot be read.
pub fn compare(folder: &Path) -> anyhow::Result<Balance> {
    let (mut sellers, mut buyers, mut runs) =
        (Vec::new(), Vec::new(), BTreeMap::<String, u32>::new());
    for record in journal::read(folder)? {
        match record.event {
            Event::Node { node, role: Role::Seller, .. } => sellers.push(node),
            Event::Node { node, role: Role::Buyer, .. } => buyers.push(node),
            Event::Start { node, run, .. } => {
                runs.insert(node, run);
            }
            _ => {}
        }
    }
    let mut balance = Balance::default();
    for seller in &sellers {
        let sold = sold(&open(folder, seller)?)?;
        balance.sold += sold.len() as u64;
        for run in 1..=runs.get(seller).copied().unwrap_or(0) {
            printed(folder, seller, run, &sold, &mut balance)?;
        }
        for buyer in &buyers {
            pair(folder, seller, buyer, &sold, &mut balance)?;
        }
    }
    let names = serde_json::to_string(&sellers)?;
    for buyer in &buyers {
        balance.foreign += open(folder, buyer)?
            .query_row(FOREIGN, [&names], |row| row.get::<_, i64>(0))?
            .cast_unsigned();
    }
    Ok(balance)
}

fn open(folder: &Path, node: &str) -> anyhow::Result<Connection> {
    let path = folder.join("nodes").join(node).join("node.db");
    Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("opening {}", path.display()))
}

fn sold(connection: &Connection) -> rusqlite::Result<BTreeMap<i64, Row>> {
    let mut statement = connection.prepare(SOLD)?;
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?)));
    statement.query_map([], row)?.collect()
}

/// Whether every sale that was printed is still there: what was said to be committed has to stay.
fn printed(
    folder: &Path,
    seller: &str,
    run: u32,
    sold: &BTreeMap<i64, Row>,
    balance: &mut Balance,
) -> io::Result<()> {
    let text = std::fs::read_to_string(folder.join("sold").join(format!("{seller}.{run}")))?;
    // A last line that is not whole was cut short by a kill.
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        if line.parse().ok().is_none_or(|n: i64| !sold.contains_key(&n)) {
            balance.forgotten += 1;
            balance.find(format!(
                "{seller} printed {line:?} in run {run}, and its file does not have it"
            ));
        }
    }
    Ok(())
}

fn pair(
    folder: &Path,
    seller: &str,
    buyer: &str,
    sold: &BTreeMap<i64, Row>,
    balance: &mut Balance,
) -> anyhow::Result<()> {
    let mut pair = Pair { seller: seller.to_owned(), buyer: buyer.to_owned(), ..Pair::default() };
    let is_for = |row: &Row| row.2.as_deref().is_none_or(|to| to == buyer);
    pair.sold = sold.values().filter(|row| is_for(row)).count() as u64;
    let connection = open(folder, buyer)?;
    let mut statement = connection.prepare(BOUGHT)?;
    let mut rows = statement.query([seller])?;
    let mut seen: HashMap<i64, u32> = HashMap::new();
    // What is for everybody has one order, and what is for this buyer alone has another.
    let mut newest: HashMap<bool, i64> = HashMap::new();
    while let Some(row) = rows.next()? {
        let n: i64 = row.get(0)?;
        let bought: Row = (row.get(1)?, row.get(2)?, row.get(3)?);
        pair.bought += 1;
        if sold.get(&n).is_none_or(|sold| *sold != bought || !is_for(sold)) {
            pair.unexpected += 1;
            balance.find(format!(
                "{buyer} bought number {n} of {seller} as {bought:?}, sold was {:?}",
                sold.get(&n)
            ));
            continue;
        }
        let times = seen.entry(n).or_default();
        *times += 1;
        if *times > 1 {
            pair.double += 1;
            balance.find(format!("{buyer} bought number {n} of {seller} {times} times"));
            continue;
        }
        let newest = newest.entry(bought.2.is_some()).or_default();
        if n < *newest {
            pair.reordered += 1;
            balance.find(format!("{buyer} bought number {n} of {seller} after {newest}"));
        }
        *newest = n.max(*newest);
    }
    for (n, _) in sold.iter().filter(|(n, row)| is_for(row) && !seen.contains_key(n)) {
        pair.missing += 1;
        balance.find(format!("{buyer} never bought number {n} of {seller}"));
    }
    balance.pairs.push(pair);
    Ok(())
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<7} {:<6} {:>8} {:>8} {:>8} {:>7} {:>11} {:>10}",
            "seller", "buyer", "sold", "bought", "missing", "double", "unexpected", "reordered"
        )?;
        for Pair { seller, buyer, sold, bought, missing, double, unexpected, reordered } in
            &self.pairs
        {
            writeln!(
                f,
                "{seller:<7} {buyer:<6} {sold:>8} {bought:>8} {missing:>8} {double:>7} {unexpected:>11} {reordered:>10}"
            )?;
        }
        writeln!(
            f,
            "\n{} sold; printed and forgotten {}; bought of nobody {}",
            self.sold, self.forgotten, self.foreign
        )?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "WRONG {finding}"))
    }
}
