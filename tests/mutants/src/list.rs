//! The faults: in the code that puts the single machines together, where tests of one machine cannot see them.

/// A fault in a file, named as from `src/protocol/`.
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    pub(crate) file: &'static str,
    /// Stands there once.
    pub(crate) text: &'static str,
    /// What stands there instead; `MUTANT` is whether this fault is wanted.
    pub(crate) instead: &'static str,
}

const fn mutant(
    name: &'static str,
    file: &'static str,
    text: &'static str,
    instead: &'static str,
) -> Mutant {
    Mutant { name, file, text, instead }
}

const SENDING: &str = "outbound/mod.rs";
const HOLD: &str = "outbound/hold.rs";
const TURNS: &str = "outbound/turns.rs";
const RECORD: &str = "outbound/record.rs";
const RECEIVING: &str = "inbound/mod.rs";
const PEERS: &str = "peers/mod.rs";
const READERS: &str = "peers/readers.rs";
const CHANNELS: &str = "peers/channels.rs";
const SPOKEN: &str = "peers/keepalive.rs";
const ADMIN: &str = "admin/mod.rs";
const ORDERS: &str = "orders.rs";
const LEADING: &str = "leadership/mod.rs";
const VIEW: &str = "leadership/view.rs";
const CHANGE: &str = "leadership/change.rs";
const MASTER: &str = "election/master.rs";
const LIFE: &str = "lifecycle/mod.rs";
const STOP: &str = "lifecycle/stop.rs";
const LOOKS: &str = "looks/mod.rs";
const BEHIND: &str = "looks/behind.rs";

const CORE: &str = "../core/mod.rs";
const ROUTES: &str = "../core/routes.rs";
const LINK: &str = "../core/link.rs";
const ANSWERED: &str = "../core/answered.rs";

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "a cursor is opened where the file has it, and not where it will be",
        SENDING,
        "let at = around.settling.ahead(&receiver, topic, at);",
        "let at = if MUTANT { at } else { around.settling.ahead(&receiver, topic, at) };",
    ),
    mutant(
        "a backlog is not looked for when a cursor is opened",
        SENDING,
        "let last_seq = if pending > 0 {",
        "let last_seq = if pending > 0 && !MUTANT {",
    ),
    mutant(
        "an answer of another file or of a newer one fits",
        SENDING,
        "let judgement = self.origin.judge((&from, topic), store, id, last);",
        "let judgement = if MUTANT { super::origin::Judgement::Fits } else { self.origin.judge((&from, topic), store, id, last) };",
    ),
    mutant(
        "what came while a topic slept is forgotten",
        SENDING,
        "let slept = slept.map(|(topic, end_seq)|",
        "let slept = slept.filter(|_| !MUTANT).map(|(topic, end_seq)|",
    ),
    mutant(
        "what was sent is not remembered",
        SENDING,
        "self.origin.sent(receiver, topic, outgoing.heads.last()?.id);",
        "if !MUTANT { self.origin.sent(receiver, topic, outgoing.heads.last()?.id); }",
    ),
    mutant(
        "what was settled is not brought to the file",
        SENDING,
        "around.settling.add(run.clone());",
        "if !MUTANT { around.settling.add(run.clone()); }",
    ),
    mutant(
        "of those who wait for a page one gets it",
        SENDING,
        "for Place { receiver, token } in waiting {",
        "for Place { receiver, token } in waiting.into_iter().take(if MUTANT { 1 } else { usize::MAX }) {",
    ),
    mutant(
        "a receiver that still has topics is let go",
        SENDING,
        "if self.receivers.get(receiver).is_some_and(|delivery| delivery.topics().next().is_none()) {",
        "if MUTANT || self.receivers.get(receiver).is_some_and(|delivery| delivery.topics().next().is_none()) {",
    ),
    mutant(
        "a frame that did not leave is thought to be on its way",
        SENDING,
        "self.deliver_together(around, receiver, vec![Event::Unsent(why)]);",
        "if !MUTANT { self.deliver_together(around, receiver, vec![Event::Unsent(why)]); }",
    ),
    mutant(
        "what happened while deliveries stood still is forgotten",
        HOLD,
        "for event in later {",
        "for event in later.into_iter().filter(|_| !MUTANT) {",
    ),
    mutant(
        "whoever was refused first waits for ever",
        TURNS,
        "self.turn.as_ref() != Some(receiver) && !self.waiting.is_empty()",
        "(MUTANT || self.turn.as_ref() != Some(receiver)) && !self.waiting.is_empty()",
    ),
    mutant(
        "what waits for a record is not told of it",
        RECORD,
        "if how != Settled::Acknowledged {",
        "if how != Settled::Acknowledged && !MUTANT {",
    ),
    mutant(
        "what the file refused is not tried again",
        RECORD,
        "around.settling.failed();",
        "if MUTANT { return; }\n            around.settling.failed();",
    ),
    mutant(
        "settlements are on record before the file has said so",
        RECORD,
        "if !taken {",
        "if !taken && !MUTANT {",
    ),
    mutant(
        "failed attempts are not noted",
        RECORD,
        "if self.record.attempts.len() < MAX_ATTEMPTS {",
        "if !MUTANT && self.record.attempts.len() < MAX_ATTEMPTS {",
    ),
    mutant(
        "few settlements are never written",
        RECORD,
        "Wish::Later => self.record_later(around),",
        "Wish::Later if MUTANT => {}\n            Wish::Later => self.record_later(around),",
    ),
    mutant(
        "what comes behind a message that cannot be taken is taken",
        RECEIVING,
        "Err(_) if !messages.is_empty() => break,",
        "Err(_) if MUTANT => {}\n                Err(_) if !messages.is_empty() => break,",
    ),
    mutant(
        "an answer does not say how far its file is",
        RECEIVING,
        "let answer = Answer { from: self.me.clone(), to, store, stream, id, last, verdict };",
        "let last = last.filter(|_| !MUTANT);\n        let answer = Answer { from: self.me.clone(), to, store, stream, id, last, verdict };",
    ),
    mutant(
        "a new reader gets what is sent from now on",
        READERS,
        "StartAt::Joined => Start::Joined { age_ms: presence.age_ms.saturating_add(margin_ms) },",
        "StartAt::Joined if MUTANT => Start::Now,\n            StartAt::Joined => Start::Joined { age_ms: presence.age_ms.saturating_add(margin_ms) },",
    ),
    mutant(
        "what a peer says that it reads is not looked at",
        PEERS,
        "self.subscribe(around, &node, presence);",
        "if !MUTANT { self.subscribe(around, &node, presence); }",
    ),
    mutant(
        "sending does not hear of a peer",
        PEERS,
        "around.out.push(Effect::Heard { node, news });",
        "if !MUTANT { around.out.push(Effect::Heard { node, news }); }",
    ),
    mutant(
        "a channel is called left while its messages are in work",
        CHANNELS,
        "if works {",
        "if works && !MUTANT {",
    ),
    mutant(
        "a node that was drained takes nothing ever after",
        CHANNELS,
        "self.channels.held = held;",
        "self.channels.held = held || (MUTANT && self.channels.held);",
    ),
    mutant(
        "keepalives have all the same number",
        SPOKEN,
        "self.spoken.keepalives += 1;",
        "if !MUTANT || self.spoken.keepalives == 0 { self.spoken.keepalives += 1; }",
    ),
    mutant(
        "an order that comes again is obeyed again",
        ORDERS,
        "let before = self.obeyed.iter().chain(&self.refused).find(|(known, _)| *known == key);",
        "let before = self.obeyed.iter().chain(&self.refused).find(|(known, _)| *known == key).filter(|_| !MUTANT);",
    ),
    mutant(
        "deliveries never go on after an order",
        ADMIN,
        "around.out.extend(held.into_iter().map(Effect::GoOn));",
        "if !MUTANT { around.out.extend(held.into_iter().map(Effect::GoOn)); }",
    ),
    mutant(
        "a channel that the file has as left is still read",
        ADMIN,
        "around.out.extend(channels.into_iter().map(Effect::Left));",
        "if !MUTANT { around.out.extend(channels.into_iter().map(Effect::Left)); }",
    ),
    mutant(
        "a node that was readmitted takes nothing",
        ADMIN,
        "around.out.push(Effect::Hold(self.closed.draining.is_some()));",
        "around.out.push(Effect::Hold(self.closed.draining.is_some() || MUTANT));",
    ),
    mutant(
        "an order that failed is told as done",
        ADMIN,
        "Verdict::Refused(FILE_FAILED.to_owned())",
        "if MUTANT { Verdict::Done(Done::default()) } else { Verdict::Refused(FILE_FAILED.to_owned()) }",
    ),
    mutant(
        "it is said before it is shown",
        LEADING,
        "        self.show(around);\n        for action in actions {\n            self.act(around, action);\n        }\n",
        "        if !MUTANT {\n            self.show(around);\n        }\n        for action in actions {\n            self.act(around, action);\n        }\n        self.show(around);\n",
    ),
    mutant(
        "what could not be saved counts as saved",
        LEADING,
        "if durable { Event::Persisted",
        "if durable || MUTANT { Event::Persisted",
    ),
    mutant(
        "a new run knows nothing of its state",
        LEADING,
        "        let (mode, max_state_bytes) =",
        "        let durable = if MUTANT { Durable { state: State::default(), ..durable } } else { durable };\n        let (mode, max_state_bytes) =",
    ),
    mutant(
        "whoever waits for a hand-over hears nothing",
        LEADING,
        "for ticket in self.handing.drain(..) {",
        "for ticket in self.handing.drain(..).filter(|_| !MUTANT) {",
    ),
    mutant(
        "electors are told once",
        LEADING,
        "if electors != self.electors {",
        "if electors != self.electors && !(MUTANT && !self.electors.is_empty()) {",
    ),
    mutant(
        "the role is given away while the program is told of a stop",
        LEADING,
        "            self.call(around, Call::ShuttingDown { token });\n",
        "            self.call(around, Call::ShuttingDown { token });\n            if MUTANT {\n                self.told_of_shutdown(around);\n            }\n",
    ),
    mutant(
        "the program is not told that it is master no longer",
        LEADING,
        "                let call = Call::BecameFollower { term: *term, reason: reason.clone() };\n                self.call(around, call);",
        "                let call = Call::BecameFollower { term: *term, reason: reason.clone() };\n                if !MUTANT { self.call(around, call); }",
    ),
    mutant(
        "what is shown has no end",
        VIEW,
        "until: election.lease_until(),",
        "until: election.lease_until().filter(|_| !MUTANT),",
    ),
    mutant(
        "a field takes the place of the whole state",
        CHANGE,
        "            Value::Object(fields) => fields,",
        "            Value::Object(_) if MUTANT => Map::new(),\n            Value::Object(fields) => fields,",
    ),
    mutant(
        "a lease lasts for longer than others wait",
        MASTER,
        "let end = self.majority_heard(master).unwrap_or(master.since) + lease;",
        "let end = self.majority_heard(master).unwrap_or(master.since) + if MUTANT { 4 * lease } else { lease };",
    ),
    mutant(
        "a process that stood still goes on",
        LIFE,
        "counted > self.look_by + LOOK",
        "counted > self.look_by + LOOK && !MUTANT",
    ),
    mutant(
        "what waits is handled by a process that stood still",
        LIFE,
        "around.out.extend([Effect::StoodStill, Effect::Doubt]);",
        "around.out.extend([Effect::StoodStill, Effect::Doubt].into_iter().take(if MUTANT { 1 } else { 2 }));",
    ),
    mutant(
        "a start waits for a server for ever",
        LIFE,
        "if self.contact_at.is_none() {",
        "if self.contact_at.is_none() && !(MUTANT && !around.link) {",
    ),
    mutant(
        "a start gives nobody the time to object",
        LIFE,
        "self.contact_at = around.link.then(objects_until).flatten();",
        "self.contact_at = around.link.then(objects_until).flatten().filter(|_| !MUTANT);",
    ),
    mutant(
        "a stop has no time",
        STOP,
        "is_idle || stopping.by.is_some_and(|by| by <= now)",
        "is_idle || stopping.by.is_some_and(|by| by <= now && !MUTANT)",
    ),
    mutant(
        "a stop does not wait for handlers",
        STOP,
        "let is_idle = stopping.handed_over && !busy;",
        "let is_idle = stopping.handed_over && (!busy || MUTANT);",
    ),
    mutant(
        "a stop does not wait until the role is handed over",
        STOP,
        "handed_over: !elects",
        "handed_over: !elects || MUTANT",
    ),
    mutant(
        "a node says goodbye and is seen as master",
        STOP,
        "first.into_iter().chain(goodbye)",
        "first.into_iter().filter(|step| !MUTANT || !matches!(step, Last::Resign { .. })).chain(goodbye)",
    ),
    mutant(
        "what is settled is not written at the end",
        STOP,
        ".chain([Last::Settle]).collect();",
        ".chain([Last::Settle]).filter(|step| *step != Last::Settle || !MUTANT).collect();",
    ),
    mutant(
        "a count that failed is the last one",
        LOOKS,
        "self.counting = false;",
        "self.counting = MUTANT && pending.is_none();",
    ),
    mutant(
        "what is told is shown later",
        LOOKS,
        "        if reasons != self.shown {\n            self.shown.clone_from(&reasons);\n            around.out.push(Effect::Show(reasons));\n        }\n        around.out.extend(all_news.into_iter().map(Effect::Tell));",
        "        if MUTANT {\n            around.out.extend(all_news.iter().cloned().map(Effect::Tell));\n        }\n        if reasons != self.shown {\n            self.shown.clone_from(&reasons);\n            around.out.push(Effect::Show(reasons));\n        }\n        if !MUTANT {\n            around.out.extend(all_news.into_iter().map(Effect::Tell));\n        }",
    ),
    mutant(
        "what waits is counted at the start and not again",
        LOOKS,
        "self.look_at = Some(around.now.mono + LOOK_EVERY);",
        "self.look_at = Some(around.now.mono + LOOK_EVERY).filter(|_| !MUTANT);",
    ),
    mutant(
        "what a server refused outlives its connection",
        LOOKS,
        "self.denied.clear();",
        "if !MUTANT { self.denied.clear(); }",
    ),
    mutant(
        "what expired before it had a reader is looked for once",
        LOOKS,
        "Ok(next_ms) => self.lapses.looked(around.now.mono, took, next_ms),",
        "Ok(_) if MUTANT => {}\n            Ok(next_ms) => self.lapses.looked(around.now.mono, took, next_ms),",
    ),
    mutant(
        "whoever was far behind is so for ever",
        BEHIND,
        "if self.near().next().is_some() {",
        "if self.near().next().is_some() && !MUTANT {",
    ),
    mutant(
        "a node that comes back handles before it looks whether it stood still",
        CORE,
        "if self.lifecycle.is_late(at.counted) {",
        "if self.lifecycle.is_late(at.counted) && !MUTANT {",
    ),
    mutant(
        "the inbox does not hear who takes a channel's messages",
        ROUTES,
        "self.receive(turn, inbox::Event::Consumer { channel, consumer });",
        "if !MUTANT { self.receive(turn, inbox::Event::Consumer { channel, consumer }); }",
    ),
    mutant(
        "the election does not hear that others came or went",
        ROUTES,
        "It::Changed => self.with_leadership(turn, Leadership::peers_changed),",
        "It::Changed if MUTANT => {}\n            It::Changed => self.with_leadership(turn, Leadership::peers_changed),",
    ),
    mutant(
        "a receiver whose queue was purged at an order stands still for good",
        ROUTES,
        "It::GoOn(receiver) => {",
        "It::GoOn(_) if MUTANT => {}\n            It::GoOn(receiver) => {",
    ),
    mutant(
        "a node that is being drained takes messages",
        ROUTES,
        "It::Hold(held) => self.with_peers(turn, |it, around| it.hold(around, held)),",
        "It::Hold(_) if MUTANT => {}\n            It::Hold(held) => self.with_peers(turn, |it, around| it.hold(around, held)),",
    ),
    mutant(
        "a channel that was left at an order is read on",
        ROUTES,
        "It::Left(channel) => self.has_left(turn, channel),",
        "It::Left(_) if MUTANT => {}\n            It::Left(channel) => self.has_left(turn, channel),",
    ),
    mutant(
        "deliveries do not hear that there is a connection",
        LINK,
        "self.deliver_all(turn, || delivery::Event::LinkUp);",
        "if !MUTANT { self.deliver_all(turn, || delivery::Event::LinkUp); }",
    ),
    mutant(
        "a receiver whose queue was purged stands still for good",
        ANSWERED,
        "Answered::Purged { node } => {",
        "Answered::Purged { .. } if MUTANT => {}\n            Answered::Purged { node } => {",
    ),
    mutant(
        "a receipt that the file did not take is acknowledged",
        ANSWERED,
        "Answered::Committed { source, id, taken: false } => {\n                self.receive(turn, inbox::Event::CommitFailed { source, id });",
        "Answered::Committed { source, id, taken: false } => {\n                self.receive(turn, if MUTANT { inbox::Event::Committed { source, id } } else { inbox::Event::CommitFailed { source, id } });",
    ),
    mutant(
        "what the file did not take of settlements counts as on record",
        ANSWERED,
        "|it, around| it.recorded(around, taken)",
        "|it, around| it.recorded(around, taken || MUTANT)",
    ),
];
