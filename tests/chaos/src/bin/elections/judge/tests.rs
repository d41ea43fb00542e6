//! Logs in which something is wrong: each wrong is found, and nothing else is.

use super::*;
use crate::log::Command;

fn said(evidence: &mut Evidence, node: &str, at_us: u64, what: Said) {
    evidence.said.entry(node.to_owned()).or_default().push(At { at_us, what });
}

fn led(evidence: &mut Evidence, node: &str, term: u64, from_us: u64, to_us: u64) {
    said(evidence, node, to_us, Said::Led { term, from_us, to_us });
}

fn became(evidence: &mut Evidence, node: &str, term: u64, at_us: u64, n: u64) {
    said(evidence, node, at_us, Said::BecameMaster { term, reason: "elected".into(), n });
}

fn acknowledged(evidence: &mut Evidence, node: &str, term: u64, at_us: u64, n: u64) {
    said(evidence, node, at_us, Said::Acknowledged { term, n });
}

fn deed(evidence: &mut Evidence, at_us: u64, what: Deed) {
    evidence.deeds.push(At { at_us, what });
}

fn fault(evidence: &mut Evidence, at_us: u64, kind: Kind, node: &str) {
    deed(evidence, at_us, Deed::Fault { kind, node: node.into() });
}

fn command(term: u64, node: &str) -> At<Command> {
    At { at_us: 0, what: Command { term, node: node.into() } }
}

/// a leads in term 1 and is killed after 10 s, b in term 2 until it hands over after 20 s, to c in term 3.
fn sound() -> Evidence {
    let mut all = Evidence::default();
    let it = &mut all;
    deed(it, 0, Deed::Plan { seed: 7, kills: 1, server: "v2".into() });
    became(it, "a", 1, 1_000_000, 0);
    acknowledged(it, "a", 1, 2_000_000, 1);
    acknowledged(it, "a", 1, 3_000_000, 2);
    led(it, "a", 1, 990_000, 9_000_000);
    led(it, "a", 1, 990_000, 9_999_000);
    fault(it, 10_000_000, Kind::Kill, "a");
    deed(it, 10_000_000, Deed::Kill { node: "a".into() });
    became(it, "b", 2, 13_000_000, 2);
    acknowledged(it, "b", 2, 14_000_000, 3);
    led(it, "b", 2, 12_990_000, 20_010_000);
    fault(it, 20_000_000, Kind::HandOver, "b");
    deed(it, 20_000_000, Deed::Terminate { node: "b".into() });
    let (node, run, cause, code) = ("b".to_owned(), 1, Cause::Asked, Some(0));
    deed(it, 20_050_000, Deed::End { node, run, cause, code });
    became(it, "c", 3, 20_030_000, 3);
    acknowledged(it, "c", 3, 21_000_000, 4);
    led(it, "c", 3, 20_020_000, 30_000_000);
    deed(it, 30_000_000, Deed::Over);
    all.commands = [(1, "a"), (1, "a"), (2, "b"), (3, "c")].map(|(t, n)| command(t, n)).into();
    all
}

/// What is wrong once this was done to a sound run.
fn wrong(doctor: impl FnOnce(&mut Evidence)) -> Vec<Wrong> {
    wrong_of(doctor, Demands::WithTimes)
}

fn wrong_of(doctor: impl FnOnce(&mut Evidence), demands: Demands) -> Vec<Wrong> {
    let mut evidence = sound();
    doctor(&mut evidence);
    judge(&evidence, demands).findings.into_iter().map(|finding| finding.wrong).collect()
}

#[test]
fn a_sound_run_is_clean_and_its_times_are_told() {
    let verdict = judge(&sound(), Demands::WithTimes);
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.kills, verdict.masters, verdict.acknowledged), (1, 3, 4));
    let times = |us| Times { count: 1, p50_us: us, max_us: us };
    let rows = [
        Row { kind: Kind::Kill, faults: 1, times: times(3_000_000) },
        Row { kind: Kind::HandOver, faults: 1, times: times(30_000) },
    ];
    assert_eq!(verdict.rows, rows);
}

#[test]
fn two_masters_in_a_term_are_found_by_whatever_they_did() {
    let found = wrong(|it| became(it, "c", 2, 40_000_000, 3));
    // Its own later term came before.
    assert_eq!(found, [Wrong::TwoInATerm, Wrong::TermFell]);
    assert_eq!(wrong(|it| led(it, "b", 1, 100, 90_000)), [Wrong::TwoInATerm]);
    assert_eq!(wrong(|it| acknowledged(it, "a", 2, 5_000_000, 1)), [Wrong::TwoInATerm]);
    assert_eq!(wrong(|it| it.commands.insert(2, command(1, "c"))), [Wrong::TwoInATerm]);
}

#[test]
fn two_masters_at_one_moment_are_found() {
    // It woke up, and believed in its lease.
    assert_eq!(wrong(|it| led(it, "a", 1, 990_000, 13_000_000)), [Wrong::TwoAtOnce]);
    // For a millisecond at the beginning of the next.
    assert_eq!(wrong(|it| led(it, "c", 3, 20_009_000, 30_000_000)), [Wrong::TwoAtOnce]);
    // One that began and ended while another led, who went on as if nothing had been.
    let within = wrong(|it| led(it, "a", 2, 15_000_000, 15_001_000));
    assert_eq!(within, [Wrong::TwoInATerm, Wrong::TwoAtOnce]);
    // No time at all for certain: it was stopped between question and answer.
    assert_eq!(wrong(|it| led(it, "a", 1, 13_000_000, 9_999_500)), []);
}

#[test]
fn who_leads_again_after_a_later_one_led_is_found() {
    let wakes = |it: &mut Evidence| led(it, "a", 1, 20_011_000, 20_019_000);
    assert_eq!(wrong(wakes), [Wrong::LateLeader]);
}

#[test]
fn an_acknowledged_state_that_a_later_master_lacks_is_found() {
    let lost = [Wrong::StateLost];
    assert_eq!(wrong(|it| acknowledged(it, "b", 2, 19_000_000, 4)), lost);
    // Also where only the one after the next lacks it.
    let both = wrong(|it| acknowledged(it, "a", 1, 9_000_000, 9));
    assert_eq!(both, [Wrong::StateLost, Wrong::StateLost]);
    // By term, whatever was written down first.
    assert_eq!(wrong(|it| acknowledged(it, "b", 2, 29_000_000, 4)), lost);
}

#[test]
fn a_term_that_goes_down_is_found() {
    let fell = wrong(|it| {
        became(it, "a", 5, 31_000_000, 9);
        became(it, "a", 4, 32_000_000, 9);
        it.commands.extend([command(5, "a"), command(5, "a")]);
        acknowledged(it, "a", 5, 32_000_000, 10);
    });
    assert_eq!(fell, [Wrong::TermFell]);
}

#[test]
fn a_stale_command_is_found() {
    assert_eq!(wrong(|it| it.commands.push(command(2, "b"))), [Wrong::StaleCommand]);
    assert_eq!(wrong(|it| it.commands.swap(1, 2)), [Wrong::StaleCommand]);
}

#[test]
fn a_leader_without_a_vote_is_found() {
    assert_eq!(wrong(|it| led(it, "watcher", 9, 31_000_000, 32_000_000)), [Wrong::NoVoter]);
}

#[test]
fn voters_that_do_not_agree_and_processes_that_end_by_themselves_are_found() {
    let disagreed = Deed::Disagreed { seen: "nothing".into() };
    assert_eq!(wrong(|it| deed(it, 25_000_000, disagreed)), [Wrong::NoAgreement]);
    let end = |cause, code| Deed::End { node: "a".into(), run: 1, cause, code };
    assert_eq!(wrong(|it| deed(it, 25_000_000, end(Cause::Itself, Some(0)))), [Wrong::Process]);
    assert_eq!(wrong(|it| deed(it, 25_000_000, end(Cause::Asked, Some(2)))), [Wrong::Process]);
    assert_eq!(wrong(|it| deed(it, 25_000_000, end(Cause::Asked, None))), [Wrong::Process]);
    assert_eq!(wrong(|it| deed(it, 25_000_000, end(Cause::Killed, None))), []);
    assert_eq!(wrong(|it| it.torn = 3), [Wrong::Process]);
}

#[test]
fn times_that_are_too_long_are_found_where_they_are_judged() {
    let late = |it: &mut Evidence| {
        let line = it.said.get_mut("b").expect("b said something").first_mut();
        line.expect("a line").at_us = 17_000_000;
    };
    // Half of all and the longest: there is only one.
    assert_eq!(wrong(late), [Wrong::Slow, Wrong::Slow]);
    assert_eq!(wrong_of(late, Demands::Promises), []);
    let late = |it: &mut Evidence| {
        let line = it.said.get_mut("c").expect("c said something").first_mut();
        line.expect("a line").at_us = 21_000_001;
    };
    assert_eq!(wrong(late), [Wrong::Slow]);
}

#[test]
fn a_run_in_which_too_little_happened_does_not_count() {
    let little = [Wrong::TooLittle];
    assert_eq!(wrong(|it| it.commands.truncate(1)), little);
    let plan = Deed::Plan { seed: 7, kills: 2, server: "v2".into() };
    assert_eq!(wrong(|it| it.deeds[0].what = plan), little);
    assert_eq!(wrong(|it| drop(it.deeds.pop())), little);
    let silent = |it: &mut Evidence| {
        let lines = it.said.values_mut();
        lines.for_each(|lines| {
            lines.retain(|line| !matches!(line.what, Said::Acknowledged { .. }));
        });
    };
    assert_eq!(wrong(silent), little);
}

#[test]
fn a_kill_in_a_handing_over_counts_from_the_kill_and_only_where_it_took_the_master() {
    let mut it = sound();
    it.deeds.pop();
    // The successor, before it leads: who leaves was the last master.
    fault(&mut it, 40_000_000, Kind::KillSuccessor, "c");
    deed(&mut it, 40_000_000, Deed::Terminate { node: "c".into() });
    deed(&mut it, 40_010_000, Deed::Kill { node: "a".into() });
    became(&mut it, "b", 4, 44_010_000, 4);
    // The one who leaves, after the next leads.
    fault(&mut it, 50_000_000, Kind::KillLeaving, "b");
    deed(&mut it, 50_000_000, Deed::Terminate { node: "b".into() });
    became(&mut it, "c", 5, 50_020_000, 4);
    deed(&mut it, 50_100_000, Deed::Kill { node: "b".into() });
    deed(&mut it, 60_000_000, Deed::Over);
    let rows = judge(&it, Demands::Promises).rows;
    let of = |kind| rows.iter().find(|row| row.kind == kind).expect("a row").times;
    let expected = Times { count: 1, p50_us: 4_000_000, max_us: 4_000_000 };
    assert_eq!(of(Kind::KillSuccessor), expected);
    assert_eq!(of(Kind::KillLeaving).count, 0);
}
