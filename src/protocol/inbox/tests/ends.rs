//! Messages that end the process that handles them.

use super::begun::{ENDED, Note, Slot, Standing};
use super::*;

/// A process with its notes, which outlive it.
struct Life {
    bench: Bench,
    notes: Vec<Option<Note>>,
    last: HashMap<Source, MessageId>,
}

impl Life {
    fn new(handlers: usize) -> Self {
        Self { bench: Bench::new(handlers), notes: Vec::new(), last: HashMap::new() }
    }

    /// The process ends, and another one begins.
    fn ends(&mut self, handlers: usize) {
        let limits = Limits { handlers, held_bytes: 1000 };
        self.bench.inbox = Inbox::new(limits, self.last.clone());
        let noted = std::mem::take(&mut self.notes);
        let noted = self.bench.inbox.noted(noted.into_iter().flatten().collect());
        for (slot, note) in noted {
            self.put(slot, Some(note));
        }
        let consumer = Some(Consumer::Ready);
        self.bench.say(Event::Consumer { channel: channel(), consumer });
    }

    fn put(&mut self, slot: Slot, note: Option<Note>) {
        if self.notes.len() <= slot {
            self.notes.resize(slot + 1, None);
        }
        self.notes[slot] = note;
    }

    fn say(&mut self, event: Event<u128>) -> Vec<Action<u128>> {
        if let Event::Committed { source, id } = &event {
            self.last.insert(source.clone(), *id);
        }
        let actions = self.bench.say_all(event);
        for action in &actions {
            match action {
                Action::Handle { source, messages, note: Some((slot, ends)) } => {
                    let (first, last) = (messages[0].0, messages[messages.len() - 1].0);
                    let (source, ends, standing) = (source.clone(), *ends, Standing::Begun);
                    self.put(*slot, Some(Note { source, first, last, ends, standing }));
                }
                Action::Unnote { slot } => self.put(*slot, None),
                _ => {}
            }
        }
        actions.into_iter().filter_map(without_notes).collect()
    }

    fn frame(&mut self, sender: &str, ids: &[u128]) -> Vec<Action<u128>> {
        let messages = ids.iter().map(|n| Incoming { id: id(*n), bytes: 10, body: *n }).collect();
        let (source, ack_timeout) = (source(sender), Duration::from_secs(9));
        let arrival = Arrival { source, previous: None, skipped: 0, ack_timeout, messages };
        self.say(Event::Frame(arrival))
    }

    fn finish(&mut self, sender: &str, n: u128, result: Result<Done, String>) -> Vec<Action<u128>> {
        let results = vec![(id(n), result)];
        self.say(Event::Finished { source: source(sender), results })
    }

    /// Handles one message that has been handed out, to the end.
    fn take(&mut self, sender: &str, n: u128) -> Vec<Action<u128>> {
        let mut out = self.finish(sender, n, Ok(Done::Handled));
        out.extend(self.say(Event::Committed { source: source(sender), id: id(n) }));
        out
    }
}

fn ended(sender: &str, n: u128, last: Option<u128>) -> Action<u128> {
    answer(sender, n, Verdict::Failed { detail: ENDED.to_owned() }, last)
}

#[test]
fn a_message_that_ends_the_process_is_a_failed_attempt_each_time() {
    let mut life = Life::new(4);
    life.frame("a", &[1]);
    life.take("a", 1);
    for _ in 0..3 {
        assert_eq!(life.frame("a", &[2]), [handle("a", 2)]);
        life.ends(4);
        assert_eq!(life.frame("a", &[2]), [ended("a", 2, Some(1))]);
    }
    // The sender has given it up, and the queue goes on.
    assert_eq!(life.frame("a", &[3]), [handle("a", 3)]);
    life.take("a", 3);
    life.ends(4);
    assert_eq!(life.frame("a", &[4]), [handle("a", 4)]);
}

#[test]
fn what_ended_before_the_process_did_is_not_blamed() {
    let mut life = Life::new(4);
    life.frame("a", &[1]);
    life.take("a", 1);
    life.frame("b", &[1]);
    life.finish("b", 1, Err("no".to_owned()));
    life.frame("c", &[1]);
    life.finish("c", 1, Ok(Done::Returned));
    life.ends(4);
    for sender in ["b", "c"] {
        assert_eq!(life.frame(sender, &[1]), [handle(sender, 1)]);
        life.take(sender, 1);
    }
}

#[test]
fn of_several_that_were_in_work_only_the_one_that_did_it_is_blamed() {
    let mut life = Life::new(4);
    for sender in ["a", "b", "c"] {
        life.frame(sender, &[1]);
    }
    life.ends(4);
    // Each by itself, and nobody else beside it.
    assert_eq!(life.frame("a", &[1]), [handle("a", 1)]);
    assert_eq!(life.frame("b", &[1]), []);
    assert_eq!(life.frame("d", &[1]), []);
    assert_eq!(
        life.take("a", 1),
        [
            Action::Commit { source: source("a"), id: id(1) },
            handle("b", 1),
            answer("a", 1, Verdict::Ack, Some(1)),
        ]
    );
    // It was this one.
    life.ends(4);
    assert_eq!(life.frame("b", &[1]), [ended("b", 1, None)]);
    assert_eq!(life.frame("c", &[1]), [handle("c", 1)]);
    assert_eq!(life.frame("d", &[1]), []);
    assert_eq!(life.take("c", 1).iter().filter(|a| **a == handle("d", 1)).count(), 1);
    life.take("d", 1);
    assert_eq!(life.frame("b", &[1]), [handle("b", 1)]);
    assert_eq!(life.frame("a", &[2]), [handle("a", 2)], "beside it, since nobody is a suspect");
}

#[test]
fn of_a_frame_only_the_message_that_did_it_is_blamed() {
    let mut life = Life::new(4);
    assert_eq!(life.frame("a", &[1, 2, 3]), [handle_all("a", &[1, 2, 3])]);
    life.ends(4);
    // One after the other now.
    assert_eq!(life.frame("a", &[1, 2, 3]), [handle("a", 1)]);
    assert_eq!(life.finish("a", 1, Ok(Done::Handled)), [handle("a", 2)]);
    life.ends(4);
    // What stands before it is taken, and it is asked for by itself.
    assert_eq!(life.frame("a", &[1, 2, 3]), [handle("a", 1)]);
    assert_eq!(life.frame("a", &[1, 2, 3]), [answer("a", 1, Verdict::Working, None)]);
    let actions = life.take("a", 1);
    assert_eq!(actions.last(), Some(&answer("a", 2, AT_ONCE, Some(1))));
    assert_eq!(life.frame("a", &[2, 3]), [ended("a", 2, Some(1))]);
    // The sender gives it up; the last one was in that frame, too, and did nothing.
    assert_eq!(life.frame("a", &[3, 4]), [handle("a", 3)]);
    assert_eq!(life.finish("a", 3, Ok(Done::Handled)), [handle("a", 4)]);
    life.take("a", 4);
    assert_eq!(life.frame("a", &[5, 6]), [handle_all("a", &[5, 6])]);
}

#[test]
fn a_suspect_that_takes_long_keeps_nobody_waiting_for_good() {
    let mut life = Life::new(4);
    life.frame("a", &[1]);
    life.frame("b", &[1]);
    life.ends(4);
    assert_eq!(life.frame("a", &[1]), [handle("a", 1)]);
    assert_eq!(life.frame("c", &[1]), []);
    life.bench.clock.pass(Duration::from_secs(10));
    assert!(life.say(Event::Woke).contains(&handle("c", 1)));
    // Nor does it wait for good until the others have ended.
    assert_eq!(life.frame("b", &[1]), []);
    assert_eq!(life.frame("d", &[1]), []);
    life.bench.clock.pass(Duration::from_secs(10));
    let begun = life.say(Event::Woke);
    assert!(begun.contains(&handle("b", 1)) && begun.contains(&handle("d", 1)), "{begun:?}");
    // Where so many processes ended while it was in work, each time beside others, it is taken to be the one.
    for ends in 2..8 {
        life.ends(4);
        assert_eq!(life.frame("a", &[1]), [handle("a", 1)]);
        let other = format!("other-{ends}");
        assert_eq!(life.frame(&other, &[1]), []);
        life.bench.clock.pass(Duration::from_secs(640));
        assert!(life.say(Event::Woke).contains(&handle(&other, 1)));
    }
    life.ends(4);
    assert_eq!(life.frame("a", &[1]), [ended("a", 1, None)]);
}

#[test]
fn what_takes_minutes_is_not_blamed_for_another_that_ends_the_process_at_once() {
    let mut life = Life::new(4);
    let alone = |ends| Duration::from_secs(10) * 2_u32.pow(ends);
    life.frame("slow", &[1]);
    life.frame("deadly", &[1]);
    for ends in 0..4 {
        life.ends(4);
        assert_eq!(life.frame("slow", &[1]), [handle("slow", 1)], "after {ends}");
        assert_eq!(life.frame("deadly", &[1]), []);
        for has_waited in [false, true] {
            life.bench.clock.pass(alone(ends));
            let begun = life.say(Event::Woke).contains(&handle("deadly", 1));
            assert_eq!(
                begun, has_waited,
                "it waits for the other to end, as long as that was alone"
            );
        }
    }
    life.ends(4);
    life.frame("slow", &[1]);
    life.frame("deadly", &[1]);
    life.bench.clock.pass(Duration::from_secs(150));
    assert!(life.take("slow", 1).contains(&handle("deadly", 1)));
    life.ends(4);
    assert_eq!(life.frame("deadly", &[1]), [ended("deadly", 1, None)]);
}

#[test]
fn an_orderly_end_forgets_what_it_cut_short_and_nothing_else() {
    let mut life = Life::new(4);
    life.frame("a", &[1]);
    life.ends(4);
    assert_eq!(life.frame("b", &[1]), [handle("b", 1)]);
    let left = life.bench.inbox.noted_at_end();
    life.notes = left.into_iter().map(|(_, note)| Some(note)).collect();
    life.ends(4);
    assert_eq!(life.frame("b", &[1]), [handle("b", 1)]);
    assert_eq!(life.frame("a", &[1]), [ended("a", 1, None)]);
}

#[test]
fn while_the_channel_is_paused_nothing_is_held_against_anybody() {
    let mut life = Life::new(4);
    life.frame("a", &[1]);
    life.ends(4);
    let mut consumer = |consumer| {
        life.say(Event::Consumer { channel: channel(), consumer });
        life.frame("a", &[1])
    };
    let paused = answer("a", 1, Verdict::Paused, None);
    assert_eq!(consumer(Some(Consumer::Paused)), [paused]);
    assert_eq!(consumer(Some(Consumer::Ready)), [ended("a", 1, None)]);
    assert_eq!(consumer(Some(Consumer::Ready)), [handle("a", 1)]);
}

#[test]
fn p8_what_is_noted_is_bounded() {
    let mut life = Life::new(10_000);
    for n in 0..5_000 {
        life.say(Event::Frame(Arrival {
            source: source(&format!("s{n}")),
            previous: None,
            skipped: 0,
            ack_timeout: Duration::from_secs(9),
            messages: vec![Incoming { id: id(1), bytes: 0, body: 1 }],
        }));
    }
    assert_eq!(life.notes.len(), super::begun::MAX_NOTES);
    life.ends(10_000);
    assert!(life.notes.iter().flatten().count() <= super::begun::MAX_NOTES);
}
