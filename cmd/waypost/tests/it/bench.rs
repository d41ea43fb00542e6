//! `waypost bench`, as its user runs it: what it measures, and how it ends when it cannot.

use std::path::Path;
use std::process::Command;

use crate::program::*;
use crate::support::nats_server::NatsServer;
use crate::support::{eventually, not_run};
use rustix::process::Signal;
use serde_json::Value;

const SCENARIOS: [&str; 12] = [
    "one", "many", "live", "drain", "fanout", "latency", "backlog", "scale", "senders", "wear",
    "normal", "outage",
];

/// A server with JetStream, whose files are in this program's folder.
fn with_jetstream() -> (NatsServer, Program) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    let server = NatsServer::with_config(format!("jetstream {{ store_dir: {store:?} }}"));
    let mut here = Program::new(server.url());
    here.folder = folder;
    std::fs::create_dir(here.path("nodes")).expect("a folder");
    (server, here)
}

fn with_server() -> (NatsServer, Program) {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    std::fs::create_dir(here.path("nodes")).expect("a folder");
    (server, here)
}

/// What a run has left in the folder for its nodes.
fn left(here: &Program) -> usize {
    std::fs::read_dir(here.path("nodes")).expect("the folder").count()
}

/// Waits until a node of the run has its file.
fn await_nodes(here: &Program) {
    eventually(PATIENCE, "a node has started", || find(&here.path("nodes"), ".db"));
}

fn find(folder: &Path, name: &str) -> bool {
    // What is there now may be gone when it is looked into.
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        path.file_name().is_some_and(|file| file.to_string_lossy().contains(name))
            || (path.is_dir() && find(&path, name))
    })
}

fn numbers(values: &Value) -> Vec<f64> {
    let values = values.as_array().unwrap_or_else(|| panic!("no list: {values}"));
    values
        .iter()
        .map(|value| value.as_f64().unwrap_or_else(|| panic!("no number: {value}")))
        .collect()
}

#[test]
fn a_quick_run_measures_everything_and_judges_nothing() {
    let (_server, here) = with_jetstream();
    let run = "bench --quick --peer jetstream --dir nodes --json out.json --report page";
    let ended = here.spawn(run).ended_within(3 * PATIENCE).expect_code(0);
    assert!(ended.text().contains("judge nothing"), "{}", ended.text());
    let text = std::fs::read_to_string(here.path("out.json")).expect("the results");
    let results: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&results["quick"], &results["standing"]), (&true.into(), &"not_judged".into()));
    assert_eq!(results["payload_bytes"], 256);
    for field in ["cpu", "kernel", "filesystem", "rustc", "commit"] {
        assert!(results["machine"][field].is_string(), "{field} in {}", results["machine"]);
    }
    let scenarios = results["scenarios"].as_array().expect("a list");
    let names: Vec<_> = scenarios.iter().map(|record| record["scenario"].as_str()).collect();
    assert_eq!(names, SCENARIOS.map(Some));
    let mut items = Vec::new();
    for record in scenarios {
        let figures = record["figures"].as_array().expect("a list");
        assert!(!figures.is_empty(), "{record:#}");
        for figure in figures {
            assert!(figure["what"].is_string() && figure["unit"].is_string(), "{figure}");
            assert_eq!(numbers(&figure["runs"]).len(), 1, "{figure}");
            assert!(figure["min"].as_f64() <= figure["median"].as_f64(), "{figure}");
            assert!(figure["median"].as_f64() <= figure["max"].as_f64(), "{figure}");
        }
        for judgement in record["judgements"].as_array().expect("a list") {
            items.push(judgement["item"].as_u64().expect("a number"));
            let bound = judgement["bound"].as_object().expect("a bound");
            assert!(bound.values().all(Value::is_f64), "{judgement}");
            // The one server that is there does not sync every message.
            let always = judgement["what"].as_str().expect("a text").contains("always");
            // Nor does a folder in memory write anything.
            let always = always || (judgement["item"] == 9 && judgement["why"].is_string());
            let verdict = if always { "not_measured" } else { "not_judged" };
            assert_eq!(judgement["verdict"], verdict, "{judgement}");
            assert_eq!(judgement["why"].is_string(), always, "{judgement}");
            assert_eq!(numbers(&judgement["runs"]).len(), usize::from(!always), "{judgement}");
        }
    }
    items.dedup();
    assert_eq!(items, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let page = std::fs::read_to_string(here.path("page/report.md")).expect("the page");
    for plot in ["receivers", "latency", "backlog", "outage"] {
        assert!(page.contains(&format!("({plot}.svg)")), "{plot}");
        let drawn = std::fs::read_to_string(here.path(&format!("page/{plot}.svg")));
        assert!(drawn.expect("the plot").contains("</svg>"), "{plot}");
    }
    assert_eq!(left(&here), 0);
    assert!(!find(&here.path("store"), "waypost-bench"), "a stream is left");
    assert_eq!(std::fs::read_dir(here.path("page")).expect("the page").count(), 5);
}

#[test]
fn what_could_not_be_measured_is_no_success() {
    let (_server, here) = with_server();
    let run = "bench --scenario live --runs 1 --seconds 0.05 --dir nodes";
    let ended = here.run(run).expect_code(3);
    assert!(ended.text().contains("not measured"), "{}", ended.text());
    assert!(ended.text().contains("--peer jetstream"), "{}", ended.text());
    // A server without it is not a reason to pass either.
    let ended = here.run(&format!("{run} --peer jetstream")).expect_code(3);
    assert!(ended.text().contains("no JetStream at"), "{}", ended.text());
}

#[test]
fn wrong_usage_is_told_before_anything_is_measured() {
    let here = Program::new(NOWHERE);
    here.run("bench --scenario fast").says(2, "one, many, live");
    here.run("bench --runs 0").says(2, "--runs");
    here.run("bench --seconds soon").says(2, "--seconds");
    here.run("bench --peer kafka").says(2, "jetstream");
}

#[test]
fn without_a_server_it_says_so_and_leaves_nothing() {
    let here = Program::new(NOWHERE);
    std::fs::create_dir(here.path("nodes")).expect("a folder");
    let run = "bench --quick --dir nodes --json out.json --report page";
    let ended = here.run(run).says(1, "no NATS server at nats://127.0.0.1:1");
    assert!(ended.err.contains("scripts/bench"), "{}", ended.err);
    assert_eq!(left(&here), 0);
    assert!(!here.path("out.json").exists() && !here.path("page").exists());
}

#[test]
fn folders_that_cannot_be_used_are_named() {
    let (_server, here) = with_server();
    std::fs::write(here.path("file"), "").expect("written");
    here.run("bench --quick --dir missing").says(1, "missing can't be used");
    here.run("bench --quick --json missing/out.json").says(1, "missing/out.json can't be used");
    here.run("bench --quick --report file").says(1, "file can't be used");
    here.run("bench --quick --json nodes").says(1, "nodes can't be used");
}

#[test]
fn a_server_that_dies_ends_the_run_with_a_word() {
    let (mut server, here) = with_server();
    let bench = here.spawn("bench --scenario normal --seconds 60 --dir nodes --json out.json");
    await_nodes(&here);
    server.kill();
    bench.ended().says(1, "went away during normal: ");
    assert_eq!(left(&here), 0);
    assert!(!here.path("out.json").exists());
}

#[test]
fn a_signal_ends_the_run_and_nothing_is_left() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (_server, here) = with_jetstream();
        let run = "bench --scenario live --peer jetstream --seconds 60 --dir nodes --report page";
        let bench = here.spawn(run);
        eventually(PATIENCE, "a stream is there", || find(&here.path("store"), "waypost-bench"));
        bench.signal(signal);
        bench.ended().expect_code(code);
        assert_eq!(left(&here), 0);
        assert!(!here.path("page").exists());
        assert!(!find(&here.path("store"), "waypost-bench"), "a stream is left");
    }
}

#[test]
fn a_signal_finds_the_nodes_in_other_processes_too() {
    let (_server, here) = with_server();
    for (signal, code) in [(Signal::TERM, Some(143)), (Signal::KILL, None)] {
        let bench = here.spawn("bench --scenario scale --dir nodes");
        let mut nodes = Vec::new();
        eventually(PATIENCE, "a node of its own runs", || {
            nodes = children(bench.id());
            !nodes.is_empty()
        });
        bench.signal(signal);
        // Before its own end, which is not seen as long as a node holds its standard error.
        eventually(PATIENCE, "its node has ended", || {
            nodes.iter().all(|node| !Path::new(&format!("/proc/{node}")).exists())
        });
        assert_eq!(bench.ended().code, code);
        // Whoever is killed cannot clean up.
        assert!(code.is_none() || left(&here) == 0);
    }
}

/// The processes that this one has started.
fn children(process: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
    let lists: Vec<String> = lists.flatten().collect();
    lists.iter().flat_map(|list| list.split_whitespace()).flat_map(str::parse).collect()
}

#[test]
fn a_full_disk_ends_the_run_with_a_word() {
    let script = "\"$0\" bench --scenario senders --seconds 60 --dir small; code=$?; ls -A small; exit $code";
    let mount = "mount -t tmpfs -o size=8m tmpfs small";
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script]).arg(env!("CARGO_BIN_EXE_waypost"));
        command
    };
    let (_server, here) = with_server();
    std::fs::create_dir(here.path("small")).expect("a folder");
    if finish(here.wrap(unshare(mount), ""), b"").code != Some(0) {
        return not_run("this machine lets nobody mount a small disk");
    }
    let ended = finish(here.wrap(unshare(&format!("{mount} && {{ {script}\n}}")), ""), b"");
    let ended = ended.says(1, "is full: choose another with --dir");
    assert!(ended.err.contains("is in memory, where an fsync costs nothing"), "{}", ended.err);
    assert_eq!(ended.text(), "", "something is left");
}
