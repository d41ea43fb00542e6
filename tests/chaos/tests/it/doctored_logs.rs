//! The judge of messages against logs in which something is wrong: each wrong is reported, and nothing else is.

use std::fs;
use std::process::Command;

use crate::doctored::{FED, PRINTED, Scene, id, printed};
use waypost_chaos::check::{Demands, Fault, Kind, judge};
use waypost_chaos::journal::{DISK_FULL, Event};

#[test]
fn a_sound_run_is_clean() {
    let verdict = Scene::new().judged();
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.accepted, verdict.killed(), verdict.nodes), (2 * PRINTED, 2, 3));
    assert!(verdict.receivers.iter().all(|row| row.delivered == 2 * PRINTED && row.lost == 0));
}

#[test]
fn one_lost_message_is_reported() {
    let scene = Scene::new();
    scene.doctor("got/r2.1", |lines| drop(lines.remove(41)));
    // The sender's file says that r2 has acknowledged it, and that is wrong too.
    assert_eq!(scene.wrong(), [(Kind::Lost, 1), (Kind::Account, 1)]);
    let text = scene.judged().to_string();
    assert!(text.contains("r2: s1, run 1, line 42"), "{text}");
}

#[test]
fn a_message_that_nobody_ever_got_is_reported_for_each_receiver() {
    let scene = Scene::new();
    scene.doctor("got/r2.1", |lines| drop(lines.pop()));
    scene.doctor("got/r1.2", |lines| drop(lines.pop()));
    assert_eq!(scene.wrong(), [(Kind::Lost, 2), (Kind::Account, 2)]);
}

#[test]
fn a_receiver_that_got_nothing_is_reported() {
    let scene = Scene::new();
    scene.doctor("got/r2.1", Vec::clear);
    assert!(scene.wrong().contains(&(Kind::TooLittle, 1)), "{:?}", scene.wrong());
}

#[test]
fn two_swapped_messages_are_reported() {
    let scene = Scene::new();
    scene.doctor("got/r2.1", |lines| lines.swap(100, 101));
    assert_eq!(scene.wrong(), [(Kind::Reordered, 1)]);
    // Also across two runs of their sender.
    let scene = Scene::new();
    scene.doctor("got/r2.1", |lines| lines.swap(PRINTED as usize - 1, PRINTED as usize));
    assert_eq!(scene.wrong(), [(Kind::Reordered, 1)]);
}

#[test]
fn a_repeated_message_is_reported_unless_a_kill_explains_it() {
    let scene = Scene::new();
    scene.doctor("got/r2.1", |lines| lines.insert(51, lines[50].clone()));
    assert_eq!(scene.wrong(), [(Kind::Repeated, 1)]);

    // What was printed last before the kill may come again, once.
    let scene = Scene::new();
    scene.doctor("got/r1.2", |lines| lines.insert(0, printed(1, 300)));
    let verdict = scene.judged();
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(verdict.receivers[0].repeated_by_kill, 1);
    scene.doctor("got/r1.2", |lines| lines.insert(0, printed(1, 300)));
    assert_eq!(scene.wrong(), [(Kind::Repeated, 1)]);

    // What was printed before that may not.
    let scene = Scene::new();
    scene.doctor("got/r1.2", |lines| lines.insert(0, printed(1, 299)));
    assert_eq!(scene.wrong(), [(Kind::Repeated, 1)]);
}

#[test]
fn nothing_is_excused_where_nothing_was_broken() {
    let quiet = |lines: &mut Vec<String>| {
        lines
            .iter_mut()
            .for_each(|line| *line = line.replace(r#""faults":true"#, r#""faults":false"#));
    };
    // A kill is one thing that is wrong, the process that it ended another.
    let scene = Scene::new();
    scene.doctor("journal.jsonl", quiet);
    assert_eq!(scene.wrong(), [(Kind::Process, 2)]);
    // The same without kills, and with a repetition that a kill would excuse.
    scene.doctor("journal.jsonl", |lines| {
        lines.retain(|line| !line.contains(r#""kill""#));
        let ended = r#""signal":9,"code":null"#;
        lines.iter_mut().for_each(|line| *line = line.replace(ended, r#""signal":null,"code":0"#));
    });
    assert_eq!(scene.wrong(), []);
    scene.doctor("got/r1.2", |lines| lines.insert(0, printed(1, 300)));
    assert_eq!(scene.wrong(), [(Kind::Repeated, 1)]);
}

#[test]
fn a_full_disk_excuses_one_repetition_a_stream_and_is_counted_apart() {
    let full = Event::Fault { what: DISK_FULL.into(), node: "r1".into() };
    let scene = Scene::with_faults(&[full]);
    // Printed last in its stream before the kill, and the only stream: one repetition, which the kill excuses.
    scene.doctor("got/r1.2", |lines| lines.insert(0, printed(1, 300)));
    let row = &scene.judged().receivers[0];
    assert_eq!((row.repeated, row.repeated_by_kill, row.repeated_by_full_disk), (0, 1, 0));
    // Ended by its disk instead.
    scene.doctor("journal.jsonl", |lines| {
        lines.retain(|line| !(line.contains(r#""kill""#) && line.contains(r#""r1""#)));
        let ended =
            lines.iter_mut().filter(|line| line.contains(r#""end""#) && line.contains(r#""r1""#));
        ended.for_each(|line| {
            *line = line.replace(r#""signal":9,"code":null"#, r#""signal":null,"code":1"#)
        });
    });
    let verdict = scene.judged();
    let row = &verdict.receivers[0];
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((row.repeated, row.repeated_by_kill, row.repeated_by_full_disk), (0, 0, 1));
}

#[test]
fn what_was_broken_is_counted_by_whom_it_struck() {
    let fault = |what: &str, node: &str| Event::Fault { what: what.into(), node: node.into() };
    let healed =
        |what: &str, node: &str, felt| Event::Healed { what: what.into(), node: node.into(), felt };
    let scene = Scene::new();
    scene.journal(&[
        fault("cut", "s1"),
        healed("cut", "s1", Some(2)),
        fault("cut", "r1"),
        healed("cut", "r1", Some(0)),
        fault("freeze", "r2"),
        healed("freeze", "r2", None),
    ]);
    let faults = scene.judged().faults;
    let count = |senders, receivers, unfelt| Fault { senders, receivers, server: 0, unfelt };
    assert_eq!(faults["cut"], count(1, 1, 1));
    assert_eq!(faults["freeze"], count(0, 1, 0));
    assert_eq!(faults["kill"], count(1, 1, 0));
}

#[test]
fn foreign_and_changed_messages_are_reported() {
    let never_fed = printed(1, FED + 1);
    let other_run = printed(3, 1);
    let changed = printed(1, 10).replace("orders|normal", "orders|high");
    let elsewhere = printed(1, 10).replace(r#""channel":"orders""#, r#""channel":"readings""#);
    let other_id = printed(1, 10).replace(&id(1, 10), &id(1, 11));
    let bytes = printed(1, 499).replacen("|*|", "|*|x", 1);
    for line in [never_fed, other_run, changed, elsewhere, other_id, bytes, "noise".to_owned()] {
        let scene = Scene::new();
        scene.doctor("got/r2.1", |lines| lines.push(line.clone()));
        assert_eq!(scene.wrong(), [(Kind::Unexpected, 1)], "{line:.200}");
    }
}

#[test]
fn a_message_for_somebody_else_is_reported() {
    let scene = Scene::new();
    // Everything was for r1 alone, and r2 has it too.
    let journal = fs::read_to_string(scene.path("journal.jsonl")).expect("text");
    fs::write(scene.path("journal.jsonl"), journal.replace(r#""to":null"#, r#""to":"r1""#))
        .expect("written");
    assert!(scene.wrong().contains(&(Kind::Unexpected, 4 * PRINTED)), "{:?}", scene.wrong());
}

#[test]
fn what_still_waits_is_reported() {
    let scene = Scene::new();
    let mut account = scene.sums([("r1", 2 * PRINTED, 0), ("r2", 2 * PRINTED, 0)]);
    (account.queue[1].pending, account.queue[1].acknowledged) = (1, 2 * PRINTED - 1);
    scene.account("s1", &account);
    assert_eq!(scene.wrong(), [(Kind::Unsettled, 1), (Kind::Account, 1)]);
    account.queue[1].acknowledged = 2 * PRINTED;
    account.queue[1].expired = 3;
    scene.account("s1", &account);
    assert_eq!(scene.wrong(), [(Kind::Unsettled, 4)]);
}

#[test]
fn a_calm_that_was_too_short_is_reported() {
    let scene = Scene::new();
    let hasty = Demands { calm_ms: 999, ..Demands::default() };
    let verdict = judge(scene.folder(), hasty).expect("a verdict");
    assert_eq!(verdict.wrong.into_iter().collect::<Vec<_>>(), [(Kind::Unsettled, 1)]);
    scene.doctor("journal.jsonl", |lines| drop(lines.pop()));
    assert_eq!(scene.wrong(), [(Kind::Unsettled, 1)]);
}

#[test]
fn committed_lines_that_a_killed_sender_did_not_print_count_as_accepted() {
    // Ten more than the first run printed arrive at both.
    let more = |lines: &mut Vec<String>, at: usize| {
        lines.splice(at..at, (1..=10).map(|n| printed(1, PRINTED + n)));
    };
    let scene = Scene::new();
    scene.doctor("got/r1.2", |lines| more(lines, 300));
    scene.doctor("got/r2.1", |lines| more(lines, PRINTED as usize));
    let sums = scene.sums([("r1", 2 * PRINTED + 10, 0), ("r2", 2 * PRINTED + 10, 0)]);
    scene.account("s1", &sums);
    let verdict = scene.judged();
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.accepted, verdict.accepted_unprinted), (2 * PRINTED + 10, 10));

    // One of them is missing at one of the two.
    scene.doctor("got/r1.2", |lines| drop(lines.remove(304)));
    assert_eq!(scene.wrong(), [(Kind::Lost, 1), (Kind::Account, 1)]);

    // A run that was not killed has no business to commit what it does not print.
    let scene = Scene::new();
    for got in ["got/r1.2", "got/r2.1"] {
        scene.doctor(got, |lines| lines.push(printed(2, PRINTED + 1)));
    }
    scene.account("s1", &scene.sums([("r1", 2 * PRINTED + 1, 0), ("r2", 2 * PRINTED + 1, 0)]));
    assert_eq!(scene.wrong(), [(Kind::Unprinted, 1)]);
}

#[test]
fn only_large_messages_may_die_of_the_servers_limit() {
    let reason = "the frame is 11852 bytes, the server takes 8192";
    let dead = |number: u64, at: usize, reason: &str| {
        let scene = Scene::new();
        scene.doctor("got/r2.1", |lines| drop(lines.remove(at)));
        let mut sums = scene.sums([("r1", 2 * PRINTED, 0), ("r2", 2 * PRINTED - 1, 1)]);
        sums.dead_letters.push(Scene::dead("r2", id(1, number), reason));
        scene.account("s1", &sums);
        scene.wrong()
    };
    assert_eq!(dead(499, 498, reason), []);
    assert_eq!(dead(499, 498, "no answer to 10 attempts"), [(Kind::DeadLetter, 1)]);
    assert_eq!(dead(100, 99, reason), [(Kind::DeadLetter, 1)]);
}

#[test]
fn a_process_that_ended_by_itself_is_reported_unless_its_disk_was_full() {
    let crash = |lines: &mut Vec<String>| {
        let last = lines.iter_mut().rev().find(|line| line.contains("\"r2\"")).expect("an end");
        *last = last.replace(r#""code":0"#, r#""code":1"#);
    };
    let scene = Scene::new();
    scene.doctor("journal.jsonl", crash);
    assert_eq!(scene.wrong(), [(Kind::Process, 1)]);
    let full = Event::Fault { what: DISK_FULL.into(), node: "r2".into() };
    let scene = Scene::with_faults(&[full]);
    scene.doctor("journal.jsonl", crash);
    assert_eq!(scene.wrong(), []);
}

#[test]
fn a_line_that_is_not_whole_counts_as_not_printed_after_a_kill_only() {
    let scene = Scene::new();
    let cut = |name: &str, bytes: usize| {
        let text = fs::read_to_string(scene.path(name)).expect("text");
        fs::write(scene.path(name), &text[..text.len() - bytes]).expect("written");
    };
    // The last line of the killed run came again.
    cut("got/r1.1", 5);
    scene.doctor("got/r1.2", |lines| lines.insert(0, printed(1, 300)));
    cut("sent/s1.1", 3);
    let verdict = scene.judged();
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.torn, verdict.accepted_unprinted), (2, 1));
    cut("got/r2.1", 5);
    assert!(scene.wrong().contains(&(Kind::Process, 1)));
}

#[test]
fn ids_that_do_not_grow_and_files_that_are_damaged_are_reported() {
    let scene = Scene::new();
    scene.doctor("sent/s1.2", |lines| lines[0] = id(1, 1));
    scene.doctor("got/r2.1", |lines| {
        lines[PRINTED as usize] = printed(2, 1).replace(&id(2, 1), &id(1, 1))
    });
    scene.doctor("got/r1.2", |lines| lines[300] = printed(2, 1).replace(&id(2, 1), &id(1, 1)));
    assert_eq!(scene.wrong(), [(Kind::Id, 1)]);
    let scene = Scene::new();
    scene.account("r1", &waypost_chaos::check::Account { check: 1, ..Default::default() });
    assert_eq!(scene.wrong(), [(Kind::Account, 1)]);
}

/// Lets the program itself judge; its exit code and the kinds that it found.
fn program(scene: &Scene, more: &[&str]) -> (Option<i32>, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_checker"));
    let output = command.arg(scene.folder()).arg("--json").args(more).output().expect("it runs");
    let verdict = serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_default();
    let wrong = verdict["wrong"].as_object().into_iter().flat_map(|wrong| wrong.keys().cloned());
    (output.status.code(), wrong.collect())
}

#[test]
fn the_program_ends_with_one_where_something_is_wrong() {
    let scene = Scene::new();
    assert_eq!(program(&scene, &[]), (Some(0), vec![]));
    assert_eq!(program(&scene, &["--kills", "3"]), (Some(1), vec!["too_little".to_owned()]));
    fs::remove_file(scene.path("got/r2.1")).expect("removed");
    assert_eq!(program(&scene, &[]).0, Some(2));

    type Change = fn(&mut Vec<String>);
    let wrongs: [(&str, &str, Change); 6] = [
        ("lost", "got/r2.1", |lines| drop(lines.remove(41))),
        ("unexpected", "got/r2.1", |lines| lines.push(printed(3, 1))),
        ("repeated", "got/r2.1", |lines| lines.insert(51, lines[50].clone())),
        ("reordered", "got/r2.1", |lines| lines.swap(100, 101)),
        ("unsettled", "journal.jsonl", |lines| drop(lines.pop())),
        ("unsettled", "accounts/s1.json", |lines| {
            lines[0] = lines[0].replacen(r#""pending":0"#, r#""pending":1"#, 1);
        }),
    ];
    for (kind, file, change) in wrongs {
        let scene = Scene::new();
        scene.doctor(file, change);
        let (code, found) = program(&scene, &[]);
        assert_eq!(code, Some(1), "{kind}");
        assert!(found.iter().any(|found| found == kind), "{kind}: {found:?}");
    }
}
