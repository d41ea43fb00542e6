//! Asks a node every few milliseconds whether it is master, whom it takes for one, and which state it has.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use waypost::Node;

use crate::log::{Log, Said, now_us};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two lines about the same time as master, and between two about states.
const WRITE_EVERY_US: u64 = 200_000;

/// A time in which every answer was yes, in one term.
#[derive(Debug, Clone, Copy)]
struct Time {
    term: u64,
    from_us: u64,
    to_us: u64,
    /// Zero before the first line: who is killed early has said that it led.
    written_us: u64,
}

/// Until it is over.
pub(crate) fn run(node: &Node, log: &Log, over: &AtomicBool) {
    let mut time: Option<Time> = None;
    let mut seen = None;
    let (mut version, mut told_us) = (node.state().version(), 0);
    while !over.load(Ordering::Relaxed) {
        let asked_us = now_us();
        let term =
            node.is_master().then(|| node.fencing_token()).flatten().map(|token| token.term.get());
        let answered_us = now_us();
        match (&mut time, term) {
            (Some(time), Some(term)) if time.term == term => {
                time.to_us = asked_us;
                if asked_us - time.written_us >= WRITE_EVERY_US {
                    write(log, time);
                }
            }
            (_, term) => {
                if let Some(mut ended) = time.take() {
                    write(log, &mut ended);
                }
                time = term.map(|term| Time {
                    term,
                    from_us: answered_us,
                    to_us: asked_us,
                    written_us: 0,
                });
            }
        }
        let sees = node.master();
        if seen.as_ref() != Some(&sees) {
            let (master, term) = sees.clone().unzip();
            let (master, term) = (master.map(|id| id.to_string()), term.map(|term| term.get()));
            log.say(Said::Sees { master, term });
            seen = Some(sees);
        }
        let newest = node.state().version();
        if newest != version && asked_us - told_us >= WRITE_EVERY_US {
            log.say(Said::Has { term: newest.term.get(), rev: newest.rev });
            (version, told_us) = (newest, asked_us);
        }
        std::thread::sleep(PAUSE);
    }
    if let Some(mut time) = time {
        write(log, &mut time);
    }
}

fn write(log: &Log, time: &mut Time) {
    let Time { term, from_us, to_us, .. } = *time;
    log.say(Said::Led { term, from_us, to_us });
    time.written_us = to_us;
}
