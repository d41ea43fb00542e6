//! A run that never was: a small, sound folder of a part, which tests then doctor.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use waypost_chaos::check::{Account, DeadLetter, Demands, Kind, Queue, Verdict, judge};
use waypost_chaos::journal::{Event, Journal, Role};
use waypost_chaos::payload::{Line, Topic};

/// Lines of a run whose ids were printed, and lines that were fed.
pub(crate) const PRINTED: u64 = 600;
pub(crate) const FED: u64 = 700;

/// One sender with two runs, the first one killed, and two receivers of its channel: r1 is killed after its first 300 lines.
pub(crate) struct Scene {
    folder: TempDir,
}

pub(crate) fn topic() -> Topic {
    Topic { channel: "orders".into(), lane: "normal".into(), to: None }
}

fn event(node: &str, make: impl FnOnce(String) -> Event) -> Event {
    make(node.to_owned())
}

/// What `send` prints for this line.
pub(crate) fn id(run: u32, number: u64) -> String {
    format!("01M7Z07HEB{run:04}{number:012}")
}

/// What `recv --json` prints for this line.
pub(crate) fn printed(run: u32, number: u64) -> String {
    let line = Line { sender: "s1".into(), run, number, topic: topic() };
    let id = id(run, number);
    format!(
        r#"{{"id":"{id}","sender":"s1","channel":"orders","priority":"normal","attempt":1,"text":"{line}"}}"#
    )
}

fn lines(run: u32, numbers: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = String> {
    numbers.map(move |number| printed(run, number))
}

impl Scene {
    /// In order, with the end of the first run of r1 as given.
    pub(crate) fn new() -> Self {
        Self::with_faults(&[])
    }

    /// With more in the journal, before the first process is started.
    pub(crate) fn with_faults(faults: &[Event]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        for part in ["sent", "got", "accounts"] {
            fs::create_dir(path.join(part)).expect("a folder");
        }
        let journal = Journal::create(path).expect("a journal");
        faults.iter().for_each(|fault| journal.note(fault.clone()));
        journal.note(Event::Plan { seed: 7, faults: true });
        for (node, role, channel) in [
            ("s1", Role::Sender, None),
            ("r1", Role::Receiver, Some("orders")),
            ("r2", Role::Receiver, Some("orders")),
        ] {
            let channel = channel.map(str::to_owned);
            journal.note(event(node, |node| Event::Node { node, role, channel }));
        }
        let start =
            |node, run, topic| event(node, |node| Event::Start { node, run, pid: 1, topic });
        let end =
            |node, run, signal, code| event(node, |node| Event::End { node, run, signal, code });
        for run in [1, 2] {
            journal.note(start("s1", run, Some(topic())));
            journal.note(event("s1", |node| Event::Fed { node, run, lines: FED }));
        }
        for (node, run) in [("r1", 1), ("r1", 2), ("r2", 1)] {
            journal.note(start(node, run, None));
        }
        for node in ["s1", "r1"] {
            journal.note(event(node, |node| Event::Kill { node, run: 1 }));
            journal.note(end(node, 1, Some(9), None));
        }
        for (node, run) in [("s1", 2), ("r1", 2), ("r2", 1)] {
            journal.note(end(node, run, None, Some(0)));
        }
        journal.note(Event::Calm);
        journal.note(Event::Settled { after_ms: 1_000 });

        let scene = Self { folder };
        for run in [1, 2] {
            scene.write(&format!("sent/s1.{run}"), (1..=PRINTED).map(|number| id(run, number)));
        }
        scene.write("got/r1.1", lines(1, 1..=300));
        scene.write("got/r1.2", lines(1, 301..=PRINTED).chain(lines(2, 1..=PRINTED)));
        scene.write("got/r2.1", lines(1, 1..=PRINTED).chain(lines(2, 1..=PRINTED)));
        for node in ["r1", "r2"] {
            scene.account(node, &Account::default());
        }
        scene.account("s1", &scene.sums(["r1", "r2"].map(|receiver| (receiver, 2 * PRINTED, 0))));
        scene
    }

    /// A sender's account, by receiver with what it acknowledged and what died.
    pub(crate) fn sums<const N: usize>(&self, receivers: [(&str, u64, u64); N]) -> Account {
        let queue = receivers.map(|(receiver, acknowledged, dead)| Queue {
            receiver: Some(receiver.to_owned()),
            accepted: acknowledged + dead,
            acknowledged,
            dead,
            ..Queue::default()
        });
        Account { queue: queue.to_vec(), ..Account::default() }
    }

    pub(crate) fn dead(receiver: &str, id: String, reason: &str) -> DeadLetter {
        DeadLetter { receiver: receiver.to_owned(), id, reason: reason.to_owned() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn account(&self, node: &str, account: &Account) {
        let text = serde_json::to_string(account).expect("accounts serialize");
        fs::write(self.path(&format!("accounts/{node}.json")), text).expect("written");
    }

    pub(crate) fn write(&self, name: &str, lines: impl IntoIterator<Item = String>) {
        let text: String = lines.into_iter().map(|line| line + "\n").collect();
        fs::write(self.path(name), text).expect("written");
    }

    /// Puts more into the journal, before the calm.
    pub(crate) fn journal(&self, events: &[Event]) {
        let more = TempDir::new().expect("a folder");
        let journal = Journal::create(more.path()).expect("a journal");
        events.iter().for_each(|event| journal.note(event.clone()));
        let text = fs::read_to_string(more.path().join("journal.jsonl")).expect("text");
        self.doctor("journal.jsonl", |lines| {
            let calm = lines.len() - 2;
            lines.splice(calm..calm, text.lines().map(str::to_owned));
        });
    }

    /// Changes the lines of a file.
    pub(crate) fn doctor(&self, name: &str, change: impl FnOnce(&mut Vec<String>)) -> &Self {
        let text = fs::read_to_string(self.path(name)).expect("text");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        change(&mut lines);
        self.write(name, lines);
        self
    }

    pub(crate) fn judged(&self) -> Verdict {
        judge(self.folder(), Demands::default()).expect("a folder that can be judged")
    }

    /// The kinds of what is wrong, and how often.
    pub(crate) fn wrong(&self) -> Vec<(Kind, u64)> {
        self.judged().wrong.into_iter().collect()
    }
}
