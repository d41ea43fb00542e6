//! The judge of ledgers against files in which something is wrong: each wrong is reported, and nothing else is.

use std::fs;
use std::process::Command;

use rusqlite::Connection;
use tempfile::TempDir;
use waypost_chaos::journal::{Event, Journal, Role};
use waypost_chaos::ledger::{Balance, compare};

const TABLES: [(&str, &str); 3] = [
    (
        "a1",
        "CREATE TABLE sold (n INTEGER PRIMARY KEY, item TEXT, amount INTEGER, buyer TEXT) STRICT",
    ),
    ("b1", BOUGHT),
    ("b2", BOUGHT),
];
const BOUGHT: &str = "CREATE TABLE bought (place INTEGER PRIMARY KEY, seller TEXT, n INTEGER, item TEXT, amount INTEGER, buyer TEXT) STRICT";
const SALES: i64 = 60;

/// What puts a sale into this node's table, if it takes part in it.
fn row(node: &str, n: i64) -> Option<String> {
    let buyer = ["NULL", "'b1'", "'b2'"][usize::try_from(n % 3).expect("small")];
    let (table, names, values) = match node {
        "a1" => ("sold", "n, item, amount, buyer", String::new()),
        _ => ("bought", "seller, n, item, amount, buyer", "'a1', ".to_owned()),
    };
    let takes_part = node == "a1" || n % 3 == 0 || buyer.contains(node);
    takes_part.then(|| {
        format!("INSERT INTO {table} ({names}) VALUES ({values}{n}, 'crate {n}', {n}, {buyer});")
    })
}

/// One seller and two buyers: every third sale is for all, the others are for one of the two. Everything is as it should be.
struct Trade(TempDir);

impl Trade {
    fn new() -> Self {
        let trade = Self(tempfile::tempdir().expect("a folder"));
        let journal = Journal::create(trade.0.path()).expect("a journal");
        for (node, role) in [("a1", Role::Seller), ("b1", Role::Buyer), ("b2", Role::Buyer)] {
            journal.note(Event::Node { node: node.to_owned(), role, channel: None });
            journal.note(Event::Start { node: node.to_owned(), run: 1, pid: 1, topic: None });
        }
        for (node, table) in TABLES {
            fs::create_dir_all(trade.0.path().join("nodes").join(node)).expect("a folder");
            trade.change(node, table);
        }
        for (node, _) in TABLES {
            let rows: String = (1..=SALES).filter_map(|n| row(node, n)).collect();
            trade.change(node, &format!("BEGIN; {rows} COMMIT"));
        }
        fs::create_dir(trade.0.path().join("sold")).expect("a folder");
        let printed: String = (1..=SALES).map(|n| format!("{n}\n")).collect();
        trade.print(&printed);
        trade
    }

    fn change(&self, node: &str, sql: &str) {
        let file = self.0.path().join("nodes").join(node).join("node.db");
        Connection::open(file).and_then(|file| file.execute_batch(sql)).expect("sound SQL");
    }

    /// What the seller printed.
    fn print(&self, text: &str) {
        fs::write(self.0.path().join("sold").join("a1.1"), text).expect("written");
    }

    fn judged(&self) -> Balance {
        compare(self.0.path()).expect("a folder that can be judged")
    }

    /// Missing, double, unexpected and out of order, of both buyers; then forgotten and foreign.
    fn wrong(&self) -> [u64; 6] {
        let balance = self.judged();
        let sum =
            |which: fn(&waypost_chaos::ledger::Pair) -> u64| balance.pairs.iter().map(which).sum();
        [
            sum(|pair| pair.missing),
            sum(|pair| pair.double),
            sum(|pair| pair.unexpected),
            sum(|pair| pair.reordered),
            balance.forgotten,
            balance.foreign,
        ]
    }

    /// What the program ends with.
    fn code(&self, more: &[&str]) -> Option<i32> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ledger"));
        command.arg(self.0.path()).args(more).output().expect("it runs").status.code()
    }
}

#[test]
fn even_ledgers_are_clean() {
    let trade = Trade::new();
    assert!(trade.judged().is_even(), "{}", trade.judged());
    assert_eq!(trade.judged().sold, SALES.cast_unsigned());
    assert_eq!((trade.code(&[]), trade.code(&["--messages", "60"])), (Some(0), Some(0)));
    assert_eq!(trade.code(&["--messages", "61"]), Some(1));
    // A number that a kill cut short was not printed.
    trade.print("1\n2\n6");
    assert!(trade.judged().is_even());
}

#[test]
fn every_row_that_differs_is_reported() {
    let again = "INSERT INTO bought (seller, n, item, amount, buyer) SELECT seller, n, item, amount, buyer FROM bought WHERE n = 9";
    let foreign =
        "INSERT INTO bought (seller, n, item, amount, buyer) VALUES ('a9', 1, 'crate 1', 1, NULL)";
    let never_sold = "INSERT INTO bought (seller, n, item, amount, buyer) VALUES ('a1', 61, 'crate 61', 61, NULL)";
    let for_b1 =
        "INSERT INTO bought (seller, n, item, amount, buyer) VALUES ('a1', 1, 'crate 1', 1, 'b1')";
    for (node, sql, wrong) in [
        ("b1", "DELETE FROM bought WHERE n = 9", [1, 0, 0, 0, 0, 0]),
        ("b2", "DELETE FROM bought WHERE n = 60", [1, 0, 0, 0, 0, 0]),
        ("b1", "DELETE FROM bought", [40, 0, 0, 0, 0, 0]),
        ("b1", again, [0, 1, 0, 0, 0, 0]),
        ("b2", never_sold, [0, 0, 1, 0, 0, 0]),
        ("b2", for_b1, [0, 0, 1, 0, 0, 0]),
        // Bought otherwise than it was sold: then what was sold was not bought either.
        ("b1", "UPDATE bought SET amount = amount + 1 WHERE n = 9", [1, 0, 1, 0, 0, 0]),
        ("b1", "UPDATE bought SET place = 1000 WHERE n = 9", [0, 0, 0, 1, 0, 0]),
        ("b2", foreign, [0, 0, 0, 0, 0, 1]),
        // A sale that was printed and is not in the seller's file; both who bought it have bought what nobody sold.
        ("a1", "DELETE FROM sold WHERE n = 9", [0, 0, 2, 0, 1, 0]),
    ] {
        let trade = Trade::new();
        trade.change(node, sql);
        let found = trade.wrong();
        // One row too late is out of order against each of the rows behind it, or they against it.
        let found = [found[0], found[1], found[2], found[3].min(1), found[4], found[5]];
        assert_eq!(found, wrong, "{node}: {sql}");
        assert_eq!(trade.code(&[]), Some(1), "{node}: {sql}");
    }
}

#[test]
fn a_file_that_is_missing_cannot_be_judged() {
    let trade = Trade::new();
    fs::remove_file(trade.0.path().join("nodes/b2/node.db")).expect("removed");
    assert_eq!(trade.code(&[]), Some(2));
}
