//! The session of the README, word for word: its commands are run, its lines are typed, and what it shows has to come, and nothing else.
//!
//! Only this differs: the program is the one under test instead of an installed one, and the ports 4222 and 8081 to 8084 are free ones, in the
//! commands and in what is shown alike; `scripts/nats` is told its port with `--port`. Times, days, lengths of time, host names and the numbers
//! of `/stats` may be others, and what messages are called, as long as that is the same on every screen.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{Chat, Run};

const README: &str = include_str!("../../../../README.md");
/// The ports of the README: of NATS and of the pages.
const PORTS: [&str; 5] = ["4222", "8081", "8082", "8083", "8084"];

/// What the README has somebody do, or see.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// In a terminal of its own.
    Chat(Vec<String>),
    Nats(String),
    Type(String, String),
    See(Vec<String>, String),
}

/// The section's code blocks, line by line.
fn steps(replace_ports: impl Fn(&str) -> String) -> Vec<Step> {
    let section = README.split("\n## ").find(|section| section.starts_with("The chat\n"));
    let blocks = section.expect("a section on the chat").split("\n```");
    // Every other part is between two fences, and begins with the block's language.
    let blocks = blocks.skip(1).step_by(2).filter(|block| !block.contains("watchdog"));
    let lines = blocks.flat_map(|block| block.lines().skip(1));
    lines.filter_map(|line| step(&replace_ports(line))).collect()
}

fn step(line: &str) -> Option<Step> {
    let command = line.split(" #").next().unwrap_or_default().trim_end();
    if command.is_empty() || line.starts_with('#') || command.starts_with("$ cargo install ") {
        return None;
    }
    if let Some(arguments) = command.strip_prefix("$ chat ") {
        return Some(Step::Chat(arguments.split_whitespace().map(str::to_owned).collect()));
    }
    if let Some(order) = command.strip_prefix("$ scripts/nats ") {
        return Some(Step::Nats(order.to_owned()));
    }
    let (names, text) = line.split_once("  ").expect("names and what they type or see");
    let text = text.trim_start();
    if let Some(typed) = text.strip_prefix("> ") {
        return Some(Step::Type(names.to_owned(), typed.to_owned()));
    }
    let names = match names {
        "all" => vec!["alice", "bob", "lisa", "andy"],
        names => names.split(", ").collect(),
    };
    Some(Step::See(names.into_iter().map(str::to_owned).collect(), text.to_owned()))
}

/// The line without what may be another at each run.
fn lasting(line: &str) -> String {
    if line.starts_with("-- ") && line.ends_with(" --") {
        return "-- day --".to_owned();
    }
    if line.starts_with("* up ") || line.contains(" accepted = ") {
        return line
            .split(|digit: char| digit.is_ascii_digit())
            .filter(|part| !part.is_empty())
            .collect();
    }
    if let Some((before, after)) = line.split_once(" here, after ") {
        let (_, rest) = after.split_once(':').unwrap_or_default();
        return format!("{before} here, after some time:{rest}");
    }
    if let Some((before, _)) = line.split_once("er, on ") {
        return format!("{before}er, on some host");
    }
    match line.as_bytes() {
        [b'0'..=b'9', b'0'..=b'9', b':', b'0'..=b'9', b'0'..=b'9', b' ', ..] => {
            format!("time {}", &line[5..])
        }
        _ => line.to_owned(),
    }
}

/// What a message is called in this line, as `7K3F`.
fn called(line: &str) -> Option<&str> {
    let name = line.split('#').nth(1)?.get(..4)?;
    name.bytes().all(|byte| byte.is_ascii_alphanumeric()).then_some(name)
}

/// The line with another such name, where it has one.
fn renamed(line: &str, name: &str) -> String {
    called(line).map_or_else(|| line.to_owned(), |before| line.replacen(before, name, 1))
}

/// `scripts/nats` with a port and a state of its own; stopped when dropped.
struct Nats {
    state: tempfile::TempDir,
    port: String,
}

impl Nats {
    fn order(&self, order: &str) {
        let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/nats");
        let mut command = Command::new(script);
        command.args([order, "--port", &self.port]).env_remove("WAYPOST_NATS");
        let ended = command.env("XDG_RUNTIME_DIR", self.state.path()).output();
        let ended = ended.expect("the script is there");
        assert!(ended.status.success(), "{order}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return self.order("stop");
        }
        // One panic is enough.
        let _ = std::panic::catch_unwind(|| self.order("stop"));
    }
}

fn free_ports() -> Vec<String> {
    let free = PORTS.map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    free.map(|free| free.local_addr().expect("an address").port().to_string()).to_vec()
}

/// Waits for the line, whatever its message is called, and says what that is.
fn called_here(chat: &Chat, line: &str) -> String {
    const ANY: &str = "....";
    let wanted = lasting(&renamed(line, ANY));
    let find = |rows: &[String]| {
        let row = rows.iter().find(|row| lasting(&renamed(row, ANY)) == wanted);
        row.and_then(|row| called(row)).map(str::to_owned)
    };
    chat.expect_rows(line, |rows| find(rows).is_some());
    find(&chat.rows()).expect("it was there")
}

#[test]
fn the_session_of_the_readme_goes_as_it_says() {
    let ports = free_ports();
    let replace_ports = |line: &str| {
        PORTS.iter().zip(&ports).fold(line.to_owned(), |line, (port, free)| {
            let line = line.replace(&format!("--web {port}"), &format!("--web {free}"));
            line.replace(&format!(":{port}"), &format!(":{free}"))
        })
    };
    let folder = tempfile::tempdir().expect("a folder");
    let state = tempfile::tempdir().expect("a folder");
    let nats = Nats { state, port: ports[0].clone() };
    let steps = steps(replace_ports);
    let mut chats: BTreeMap<String, Chat> = BTreeMap::new();
    // What each terminal has to show, in the order of the README.
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // What the messages of the README are called here.
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for step in &steps {
        match step {
            Step::Nats(order) => nats.order(order),
            Step::Chat(arguments) => {
                let run = Run::new(folder.path(), arguments.iter().map(String::as_str));
                let at = arguments.iter().position(|argument| argument == "--node-id");
                let name = arguments[at.expect("a name") + 1].clone();
                chats.insert(name, run.size(110, 100).in_terminal());
            }
            Step::Type(name, line) => {
                chats.get_mut(name).expect("a terminal").write(&format!("{line}\r"));
                if line.starts_with('/') {
                    told.entry(name.clone()).or_default().push(format!("> {line}"));
                }
            }
            Step::See(who, line) => {
                for name in who {
                    let told = told.entry(name.clone()).or_default();
                    let wanted = match called(line) {
                        Some(known) => {
                            let here = names.entry(known.to_owned());
                            let here = here.or_insert_with(|| called_here(&chats[name], line));
                            lasting(&renamed(line, here))
                        }
                        None => lasting(line),
                    };
                    told.push(wanted.clone());
                    let times = told.iter().filter(|line| **line == wanted).count();
                    chats[name].expect_rows(&format!("{name}: {line}"), |rows| {
                        rows.iter().filter(|row| lasting(row) == wanted).count() >= times
                    });
                }
            }
        }
    }
    assert_eq!(chats.len(), 4);
    let alice = chats.get_mut("alice").expect("a terminal");
    assert!(alice.ends().success(), "{}", alice.errors());
    for (name, chat) in &chats {
        let told = &told[name];
        let untold =
            chat.rows().into_iter().find(|row| row != ">" && !told.contains(&lasting(row)));
        assert_eq!(untold, None, "{name} shows what the README does not tell");
    }
}

#[test]
fn the_readme_has_all_that_the_session_needs() {
    let steps = steps(str::to_owned);
    let count = |is: fn(&Step) -> bool| steps.iter().filter(|step| is(step)).count();
    assert_eq!(count(|step| matches!(step, Step::Chat(_))), 4);
    let orders = steps.iter().filter_map(|step| match step {
        Step::Nats(order) => Some(order.as_str()),
        _ => None,
    });
    assert_eq!(orders.collect::<Vec<_>>(), ["start", "stop", "start"]);
    let typed = steps.iter().filter_map(|step| match step {
        Step::Type(name, line) => Some((name.as_str(), line.as_str())),
        _ => None,
    });
    let typed: Vec<_> = typed.collect();
    for command in ["/stats", "/nodes", "/topology", "/quit"] {
        assert!(typed.iter().any(|(_, line)| *line == command), "{command}");
    }
    assert!(typed.iter().filter(|(name, _)| *name == "alice").count() >= 3);
    assert!(count(|step| matches!(step, Step::See(..))) >= 30);
}
