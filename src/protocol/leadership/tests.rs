use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::message::StoreId;
use crate::protocol::election::{Beat, SetError};
use crate::protocol::frame::{Frame as WireFrame, Keepalive};
use crate::protocol::peers::{self, testing};
use crate::protocol::report::Role;
use crate::protocol::testing::Clock;
use crate::protocol::{election, membership};
use crate::reason::Reason;

const SECOND: Duration = Duration::from_secs(1);
const ALL: Audited = Audited { elections: true, states: true };

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

fn term(number: u64) -> Term {
    Term::new(number).expect("a term")
}

fn quorum(voters: &[&str]) -> Settings {
    Settings::new(Mode::Quorum { voters: voters.iter().copied().map(node).collect() })
}

fn json(text: &str) -> Change {
    Change::Whole(text.as_bytes().to_vec())
}

struct Member {
    it: Leadership,
    peers: Peers,
    durable: Durable,
    wake_at: Option<Instant>,
    /// All that it decided, apart from what a disk and a clock do.
    done: Vec<Effect>,
}

/// Nodes that hear each other at once, and whose disks take no time.
struct World {
    clock: Clock,
    members: Vec<Member>,
    linked: bool,
    max_frame: usize,
}

impl World {
    fn new(settings: &Settings, names: &[&str]) -> Self {
        let clock = Clock::new();
        let members = names.iter().enumerate().map(|(seed, name)| {
            let (seed, me) = (seed as u64, (node(name), Incarnation::from_u128(seed as u128)));
            let (settings, durable, now) = (settings.clone(), Durable::default(), clock.now());
            Member {
                it: Leadership::new(me, settings, durable.clone(), ALL, seed, now),
                peers: testing::peers(now),
                durable,
                wake_at: None,
                done: Vec::new(),
            }
        });
        let members = members.collect();
        let mut world = Self { clock, members, linked: true, max_frame: usize::MAX };
        for at in 0..names.len() {
            world.decide(at, Leadership::woke);
            world.decide(at, Leadership::link_up);
        }
        world
    }

    /// The voters a, b and c, of whom one has been elected, and who that is.
    fn led() -> (Self, usize) {
        let mut world = Self::new(&quorum(&["a", "b", "c"]), &["a", "b", "c"]);
        world.pass(10 * SECOND);
        let master = world.master().expect("one is elected");
        (world, master)
    }

    fn master(&self) -> Option<usize> {
        let now = self.clock.now().mono;
        let leads = |member: &Member| member.it.shown.token(now).is_some();
        let masters: Vec<usize> =
            (0..).zip(&self.members).filter(|(_, m)| leads(m)).map(|(at, _)| at).collect();
        assert!(masters.len() <= 1, "two masters: {masters:?}");
        masters.first().copied()
    }

    /// What this one decides, and then what follows from it everywhere.
    fn decide(
        &mut self,
        at: usize,
        decide: impl FnOnce(&mut Leadership, &mut Around<'_>),
    ) -> &[Effect] {
        let before = self.members[at].done.len();
        let mut frames = self.only(at, decide);
        while let Some((from, frame)) = frames.pop_front() {
            for to in (0..self.members.len()).filter(|to| *to != from) {
                let frame = frame.clone();
                frames.extend(self.only(to, |it, around| it.heard(around, frame)));
            }
        }
        &self.members[at].done[before..]
    }

    /// The same without what others make of it, for whom frames are given back.
    fn only(
        &mut self,
        at: usize,
        decide: impl FnOnce(&mut Leadership, &mut Around<'_>),
    ) -> VecDeque<(usize, Frame)> {
        let mut frames = VecDeque::new();
        let mut effects = VecDeque::from(self.raw(at, decide));
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Save { seq, record, .. } => {
                    self.members[at].durable.write(record);
                    effects.extend(self.raw(at, |it, around| it.saved(around, seq, true)));
                }
                Effect::WakeAt { at: wake_at } => self.members[at].wake_at = wake_at,
                Effect::Say(ref frame) => {
                    frames.push_back((at, frame.clone()));
                    self.members[at].done.push(effect);
                }
                effect => self.members[at].done.push(effect),
            }
        }
        frames
    }

    fn raw(
        &mut self,
        at: usize,
        decide: impl FnOnce(&mut Leadership, &mut Around<'_>),
    ) -> Vec<Effect> {
        let (now, link, max_frame) = (self.clock.now(), self.linked, self.max_frame);
        let (Member { it, peers, .. }, mut out) = (&mut self.members[at], Vec::new());
        decide(it, &mut Around { now, peers, link, max_frame, out: &mut out });
        let is_shown = |effect: &Effect| matches!(effect, Effect::Show(_));
        let is_said = |effect: &Effect| matches!(effect, Effect::Say(_));
        if let (Some(shown), Some(said)) =
            (out.iter().rposition(is_shown), out.iter().position(is_said))
        {
            assert!(shown < said, "it is shown before it is said: {out:?}");
        }
        out
    }

    fn pass(&mut self, time: Duration) {
        let end = self.clock.now().mono + time;
        loop {
            let wakes = |at: usize| self.members[at].wake_at.map(|wake_at| (wake_at, at));
            let next = (0..self.members.len()).filter_map(wakes).min();
            let Some((wake_at, at)) = next.filter(|(wake_at, _)| *wake_at <= end) else { break };
            self.clock.pass(wake_at.saturating_duration_since(self.clock.now().mono));
            self.decide(at, Leadership::woke);
        }
        self.clock.pass(end - self.clock.now().mono);
    }

    fn set(&mut self, at: usize, change: Change) -> Result<Version, NotSet> {
        let ticket = Ticket(self.members[at].done.len() as u64);
        self.decide(at, |it, around| it.set_state(around, ticket, change));
        let answer = self.members[at].done.iter().rposition(
            |effect| matches!(effect, Effect::StateSet { ticket: other, .. } if *other == ticket),
        );
        match self.members[at].done.remove(answer.expect("an answer")) {
            Effect::StateSet { result, .. } => result,
            _ => unreachable!("it was looked for"),
        }
    }

    fn state(&self, at: usize) -> String {
        String::from_utf8(self.members[at].it.shown.state().json.to_vec()).expect("JSON")
    }

    fn register(&mut self, at: usize, moment: Moment) -> Vec<Call> {
        calls(self.decide(at, |it, around| it.registered(around, moment)))
    }
}

fn calls(effects: &[Effect]) -> Vec<Call> {
    let calls = effects.iter().filter_map(|effect| match effect {
        Effect::Call(call) => Some(call.clone()),
        _ => None,
    });
    calls.collect()
}

fn said(effects: &[Effect]) -> Vec<&Said> {
    let frames = effects.iter().filter_map(|effect| match effect {
        Effect::Say(frame) => Some(&frame.said),
        _ => None,
    });
    frames.collect()
}

fn handed_over(effects: &[Effect]) -> Vec<(Ticket, Result<NodeId, NotHandedOver>)> {
    let answers = effects.iter().filter_map(|effect| match effect {
        Effect::HandedOver { ticket, result } => Some((*ticket, result.clone())),
        _ => None,
    });
    answers.collect()
}

#[test]
fn nobody_sees_a_master_that_says_it_gave_the_role_up() {
    let (mut world, master) = World::led();
    let now = world.clock.now().mono;
    let effects = world.raw(master, |it, around| it.hand_over(around, Ticket(1), None));
    let handed = effects.iter().position(
        |effect| matches!(effect, Effect::Say(frame) if matches!(frame.said, Said::Handoff { .. })),
    );
    let handed = handed.expect("it hands over at once");
    let Some(Effect::Show(view)) = effects.first() else { panic!("{effects:?}") };
    assert!(handed > 0 && view.token(now).is_none() && view.master(now).is_none());
}

#[test]
fn what_is_shown_ends_with_the_lease() {
    let (mut world, master) = World::led();
    let view = world.members[master].it.shown.clone();
    let name = world.members[master].it.me.clone();
    let now = world.clock.now().mono;
    assert_eq!(view.token(now), Some(&Token { term: view.term(), node: name.clone() }));
    assert_eq!(view.master(now), Some((name, view.term())));
    // The process stands still.
    let later = world.clock.pass(3 * SECOND).mono;
    assert_eq!((view.token(later), view.master(later)), (None, None));
}

#[test]
fn a_state_that_is_set_is_everybodys() {
    let (mut world, master) = World::led();
    world.set(master, json(r#"{"a":1}"#)).expect("set");
    let value = serde_json::json!([true]);
    let change = Change::Field { key: "b".to_owned(), value };
    let version = world.set(master, change).expect("set");
    for at in 0..3 {
        assert_eq!(world.state(at), r#"{"a":1,"b":[true]}"#);
        assert_eq!(world.members[at].durable.state.version, version);
    }
    let reported = world.members[0].it.state_to_report().expect("small enough");
    assert_eq!(reported.value["a"], 1);
}

#[test]
fn a_state_that_cannot_be_is_refused() {
    let (mut world, master) = World::led();
    let field = || Change::Field { key: "a".to_owned(), value: serde_json::Value::Null };
    let other = (master + 1) % 3;
    let refused = world.set(other, json("not JSON, and that is the smaller problem"));
    assert!(matches!(refused, Err(NotSet::Refused(SetError::NotMaster { master: Some(_) }))));

    assert!(matches!(world.set(master, json("{")), Err(NotSet::NotJson(_))));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert!(matches!(world.set(master, json(&deep)), Err(NotSet::NotJson(_))));
    world.set(master, json("[1]")).expect("set");
    assert!(matches!(world.set(master, field()), Err(NotSet::NotAnObject)));

    world.max_frame = 1024 + 10;
    world.set(master, json(r#""12345678""#)).expect("it just fits");
    let large = world.set(master, json(r#""123456789""#));
    let Err(NotSet::Refused(SetError::TooLarge { actual: 11, limit: 10 })) = large else {
        panic!("{large:?}")
    };
    assert_eq!(world.state(other), r#""12345678""#);
}

#[test]
fn all_who_ask_for_a_hand_over_get_the_same_answer() {
    let (mut world, master) = World::led();
    let others = [(master + 1) % 3, (master + 2) % 3];
    let to = world.members[others[0]].it.me.clone();
    // Nobody answers.
    let frames = world.only(master, |it, around| {
        it.hand_over(around, Ticket(1), Some(node("stranger")));
        it.hand_over(around, Ticket(2), Some(it.me.clone()));
        it.hand_over(around, Ticket(3), Some(to.clone()));
    });
    let done = &world.members[master].done;
    let no_voter = |name: NodeId| Err(NotHandedOver::NoVoter(name));
    let me = world.members[master].it.me.clone();
    assert_eq!(
        handed_over(done),
        [(Ticket(1), no_voter(node("stranger"))), (Ticket(2), no_voter(me))]
    );
    for at in others {
        for (_, frame) in &frames {
            let frame = frame.clone();
            let answers = world.only(at, |it, around| it.heard(around, frame));
            for (_, answer) in answers {
                for to in (0..3).filter(|to| *to != at) {
                    let answer = answer.clone();
                    world.only(to, |it, around| it.heard(around, answer));
                }
            }
        }
    }
    world.pass(2 * SECOND);
    let done = &world.members[master].done;
    assert_eq!(handed_over(done)[2..], [(Ticket(3), Ok(to.clone()))]);
    assert!(done.iter().any(|effect| matches!(effect, Effect::Free)));
    assert_eq!(world.master(), Some(others[0]));

    let effects = world.decide(master, |it, around| it.hand_over(around, Ticket(4), Some(to)));
    assert_eq!(handed_over(effects), [(Ticket(4), Err(NotHandedOver::NotMaster))]);
}

#[test]
fn a_hand_over_that_nobody_takes_is_answered() {
    let (mut world, master) = World::led();
    let others: Vec<Member> = std::mem::take(&mut world.members);
    world.members = others.into_iter().skip(master).take(1).collect();
    world.pass(SECOND / 2);
    let state = json("1");
    world.decide(0, |it, around| it.set_state(around, Ticket(1), state));
    world.decide(0, |it, around| it.hand_over(around, Ticket(2), None));
    world.decide(0, |it, around| it.hand_over(around, Ticket(3), None));
    world.pass(5 * SECOND);
    let answers = handed_over(&world.members[0].done);
    assert_eq!(answers, [2, 3].map(|n| (Ticket(n), Err(NotHandedOver::Nobody))));
    let unknown = world.members[0].done.iter().any(|effect| {
        let Effect::StateSet { ticket: Ticket(1), result } = effect else { return false };
        matches!(result, Err(NotSet::Refused(SetError::Unknown)))
    });
    assert!(unknown, "{:?}", world.members[0].done);
}

#[test]
fn functions_are_called_when_they_are_there_and_it_is_so() {
    let (mut world, master) = World::led();
    let other = (master + 1) % 3;
    assert_eq!(world.register(other, Moment::BecameMaster), []);
    assert_eq!(world.register(master, Moment::BecameFollower), []);
    let state = world.members[master].it.shown.state().clone();
    let reason = Accession::Elected;
    let called = [Call::BecameMaster { reason, state }];
    assert_eq!(world.register(master, Moment::BecameMaster), called);

    let before = world.members[master].done.len();
    world.decide(master, |it, around| it.hand_over(around, Ticket(1), None));
    world.pass(2 * SECOND);
    let called = calls(&world.members[master].done[before..]);
    assert!(matches!(called[..], [Call::BecameFollower { .. }]), "{called:?}");
}

/// A process that stood still is asked before its timer goes off.
#[test]
fn a_function_is_not_called_for_a_lease_that_is_over() {
    let (mut world, master) = World::led();
    world.register(master, Moment::BecameFollower);
    world.clock.pass(10 * SECOND);
    let called = world.register(master, Moment::BecameMaster);
    assert!(matches!(called[..], [Call::BecameFollower { .. }]), "{called:?}");
}

#[test]
fn the_program_is_told_of_a_stop_before_the_role_is_given_away() {
    let (mut world, master) = World::led();
    world.register(master, Moment::Shutdown);
    let token = world.members[master].it.shown.token(world.clock.now().mono).cloned();
    let effects = world.decide(master, Leadership::stop);
    assert_eq!(calls(effects), [Call::ShuttingDown { token: token.clone() }]);
    world.pass(2 * SECOND);
    assert_eq!(world.master(), Some(master), "it keeps the role meanwhile");
    world.set(master, json(r#""the last one""#)).expect("and can set the state that it leaves");

    world.decide(master, Leadership::told_of_shutdown);
    world.pass(2 * SECOND);
    let is_free = world.members[master].done.iter().any(|effect| matches!(effect, Effect::Free));
    let next = world.master().expect("another one has it");
    assert!(is_free && next != master);
    assert_eq!(world.state(next), r#""the last one""#);
}

#[test]
fn a_stop_waits_for_the_program_also_where_the_role_was_given_away_before() {
    let (mut world, master) = World::led();
    world.register(master, Moment::Shutdown);
    world.decide(master, Leadership::stop);
    world.decide(master, |it, around| it.hand_over(around, Ticket(1), None));
    world.pass(5 * SECOND);
    assert_ne!(world.master(), Some(master));
    let is_free = |world: &World| {
        world.members[master].done.iter().any(|effect| matches!(effect, Effect::Free))
    };
    assert!(!is_free(&world), "its function runs");
    world.decide(master, Leadership::told_of_shutdown);
    world.pass(2 * SECOND);
    assert!(is_free(&world));
}

#[test]
fn a_stop_of_which_nobody_wants_to_hear_goes_on_at_once() {
    let (mut world, master) = World::led();
    let follower = (master + 1) % 3;
    let effects = world.decide(follower, Leadership::stop);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Free)));
    assert_eq!(calls(effects), []);
}

#[test]
fn the_end_shows_no_master_and_the_last_state() {
    let (mut world, master) = World::led();
    world.set(master, json("7")).expect("set");
    let effects = world.raw(master, Leadership::close);
    let [Effect::Show(view)] = &effects[..] else { panic!("{effects:?}") };
    let now = world.clock.now().mono;
    assert_eq!((view.token(now), view.master(now)), (None, None));
    assert_eq!(&*view.state().json, b"7");
}

#[test]
fn without_a_connection_nothing_is_said() {
    let (mut world, master) = World::led();
    world.linked = false;
    let before = world.members[master].done.len();
    world.decide(master, Leadership::link_down);
    world.pass(2 * SECOND);
    assert_eq!(said(&world.members[master].done[before..]), [] as [&Said; 0]);
}

/// Its name has one vote, and the other one uses it.
#[test]
fn whoever_stands_back_is_master_no_longer() {
    let (mut world, master) = World::led();
    world.decide(master, Leadership::stand_back);
    world.pass(10 * SECOND);
    let next = world.master().expect("another one");
    assert_ne!(next, master);
}

fn heard(from: &str, in_term: u64, said: Said, settings: &Settings) -> Frame {
    let voters = settings.voters_hash();
    Frame {
        from: node(from),
        incarnation: Incarnation::from_u128(9),
        term: term(in_term),
        voters,
        said,
    }
}

/// This one becomes a peer that elects.
fn meet(peers: &mut Peers, now: Now, name: &str) {
    testing::handle(peers, now, membership::Event::LinkUp);
    let asked = testing::handle(peers, now, membership::Event::Unknown(node(name)));
    let nonce = asked.iter().find_map(|effect| match effect {
        peers::Effect::Say { frame, .. } => match **frame {
            WireFrame::Hello { nonce, .. } => Some(nonce),
            _ => None,
        },
        _ => None,
    });
    let nonce = nonce.expect("a stranger is asked who it is");
    let keepalive = Keepalive {
        from: node(name),
        incarnation: Incarnation::from_u128(9),
        store: StoreId::from_u128(9),
        counter: 1,
        session: 1,
        uptime_ms: 60_000,
        version: "1".to_owned(),
        host: "there".to_owned(),
        channels: Vec::new(),
        left: Vec::new(),
        draining: false,
        goodbye: false,
        elects: true,
        rival: None,
    };
    testing::handle(peers, now, membership::Event::Welcome { nonce, keepalive });
}

#[test]
fn only_peers_that_are_behind_are_sent_the_state() {
    let mut world = World::new(&quorum(&["a"]), &["a"]);
    world.pass(5 * SECOND);
    assert_eq!(world.master(), Some(0));
    let settings = quorum(&["a"]);
    let asks = Said::StateRequest { to: node("a"), have: Version::default() };
    let frame = heard("far", 1, asks, &settings);
    let effects = world.decide(0, |it, around| it.heard(around, frame.clone()));
    assert_eq!(said(effects), [] as [&Said; 0], "a stranger");
    let now = world.clock.now();
    meet(&mut world.members[0].peers, now, "far");
    let effects = world.decide(0, |it, around| it.heard(around, frame));
    assert!(matches!(said(effects)[..], [Said::State(_)]), "{effects:?}");
}

#[test]
fn what_a_node_said_itself_is_not_refused() {
    let settings = quorum(&["a", "b"]);
    let mut world = World::new(&settings, &["a"]);
    let mut own = heard("a", 1, Said::Resign, &settings);
    own.incarnation = Incarnation::from_u128(0);
    world.decide(0, |it, around| it.heard(around, own.clone()));
    assert_eq!(world.members[0].it.election.refused().own_name, 0);
    own.incarnation = Incarnation::from_u128(5);
    world.decide(0, |it, around| it.heard(around, own));
    assert_eq!(world.members[0].it.election.refused().own_name, 1);
}

#[test]
fn electors_are_told_anew_when_they_are_others() {
    let settings = Settings::new(Mode::Visible);
    let mut world = World::new(&settings, &["a"]);
    assert!(world.raw(0, Leadership::peers_changed).is_empty(), "nobody is there");
    let now = world.clock.now();
    meet(&mut world.members[0].peers, now, "b");
    assert!(!world.raw(0, Leadership::peers_changed).is_empty());
    assert!(world.raw(0, Leadership::peers_changed).is_empty(), "the same as before");

    // Now b has a say.
    let term = world.members[0].it.election.term().get() + 5;
    let beat = Beat { number: 1, version: Version::default(), ready: true, handing_over: false };
    let frame = heard("b", term, Said::Beat(beat), &settings);
    world.decide(0, |it, around| it.heard(around, frame));
    let now = world.clock.now().mono;
    assert_eq!(world.members[0].it.info(now).master, Some(node("b")));
}

/// A master of the other side says with every beat that it is one.
#[test]
fn two_sides_that_meet_are_told_once() {
    let mut world = World::new(&Settings::new(Mode::Visible), &["m"]);
    world.pass(20 * SECOND);
    assert_eq!(world.master(), Some(0), "it sees nobody else");
    let now = world.clock.now();
    meet(&mut world.members[0].peers, now, "b");
    world.decide(0, Leadership::peers_changed);
    let settings = Settings::new(Mode::Visible);
    let before = world.members[0].done.len();
    for number in 1..4 {
        let beat = Beat { number, version: Version::default(), ready: true, handing_over: false };
        let frame = heard("b", 1, Said::Beat(beat), &settings);
        world.only(0, |it, around| it.heard(around, frame));
    }
    let told = world.members[0].done[before..]
        .iter()
        .filter(|effect| matches!(effect, Effect::Tell(Notice::SplitSeen { .. })));
    assert_eq!(told.count(), 1);
}

#[test]
fn what_is_decided_goes_on_record_and_no_more_than_so_much() {
    let (world, master) = World::led();
    let me = world.members[master].it.me.clone();
    let entered = world.members[master].done.iter().find_map(|effect| match effect {
        Effect::Enter(entry) => Some(entry.clone()),
        _ => None,
    });
    let detail = "became master, elected".to_owned();
    let term = Some(world.members[master].it.shown.term());
    assert_eq!(entered, Some(Entry { subject: me.clone(), term, detail }));

    let mut clock = Clock::new();
    let mut journal = Journal::new(ALL);
    let notice = Notice::OtherVoters { node: node("b") };
    let mut rows = |clock: &Clock, count: u32| {
        let now = clock.now().mono;
        (0..count).filter(|_| journal.of_notice(now, &me, &notice).is_some()).count()
    };
    assert_eq!(rows(&clock, 100), ROWS_A_MINUTE as usize);
    clock.pass(59 * SECOND);
    assert_eq!(rows(&clock, 100), 0);
    clock.pass(SECOND);
    assert_eq!(rows(&clock, 1), 1);
}

#[test]
fn what_is_not_to_be_on_record_is_not() {
    let now = Clock::new().now().mono;
    let record = |version| Record {
        term: term(1),
        vote: None,
        state: Some(State { version, ..State::default() }),
    };
    let mut silent = Journal::new(Audited::default());
    assert_eq!(silent.of_notice(now, &node("a"), &Notice::OtherVoters { node: node("b") }), None);
    assert_eq!(silent.of_state(&node("a"), &record(Version::default())), None);
    let all = Journal::new(ALL);
    let entry = all.of_state(&node("a"), &record(Version { term: term(3), rev: 2 }));
    let entry = entry.expect("states are kept");
    assert_eq!((entry.term, &*entry.detail), (Some(term(3)), "state 3.2, 4 bytes"));
}

#[test]
fn too_few_voters_are_a_reason_where_there_is_no_master() {
    let settings = quorum(&["a", "b", "c"]);
    let mut world = World::new(&settings, &["a"]);
    let stall = |world: &World| {
        let member = &world.members[0];
        member.it.stall(world.clock.now().mono, &member.peers)
    };
    assert_eq!(stall(&world), Some(Reason::NoQuorum { online: 1, voters: 3, needed: 2 }));
    let now = world.clock.now();
    meet(&mut world.members[0].peers, now, "b");
    assert_eq!(stall(&world), None);
    let (world, master) = World::led();
    let member = &world.members[(master + 1) % 3];
    assert_eq!(member.it.stall(world.clock.now().mono, &member.peers), None, "there is a master");
}

#[test]
fn a_report_says_who_leads_and_orders_are_the_masters() {
    let (world, master) = World::led();
    let now = world.clock.now().mono;
    let of = |at: usize| world.members[at].it.info(now);
    let (leads, follows) = (of(master), of((master + 1) % 3));
    assert_eq!((leads.role, follows.role), (Role::Master, Role::Voter));
    assert_eq!(leads.master, follows.master);
    assert_eq!(follows.voters, ["a", "b", "c"].map(node));

    let follower = &world.members[(master + 1) % 3].it;
    let name = &world.members[master].it.me;
    assert!(follower.obeys(now, name, Some(leads.term)));
    assert!(!follower.obeys(now, name, None));
    assert!(!follower.obeys(now, &node("stranger"), Some(leads.term)));
    assert_eq!(world.members[master].it.term_in_office(now), Some(leads.term));
    assert_eq!(follower.term_in_office(now), None);
}

/// The process that wrote it may have been killed before its fsync. Found by the simulation.
#[test]
fn what_a_run_finds_in_its_file_is_saved_before_anything_rests_on_it() {
    let (settings, clock) = (quorum(&["a"]), Clock::new());
    let state = State { version: Version::first_of(term(3)), ..State::default() };
    let durable = Durable { term: term(3), vote: Some(node("a")), state };
    let me = (node("a"), Incarnation::from_u128(2));
    let it = Leadership::new(me, settings.clone(), durable, ALL, 1, clock.now());
    let mut world = World::new(&settings, &["a"]);
    world.members[0].it = it;
    let effects = world.raw(0, Leadership::woke);
    let saved = effects.iter().find_map(|effect| match effect {
        Effect::Save { seq, record, .. } => Some((*seq, record.clone())),
        _ => None,
    });
    let (seq, record) = saved.expect("it is saved once more");
    assert!(record.term == term(3) && record.vote == Some(node("a")) && record.state.is_some());
    assert_eq!(said(&effects), [] as [&Said; 0]);
    // The only voter goes on at once.
    world.decide(0, |it, around| it.saved(around, seq, true));
    assert_eq!(world.members[0].it.term_in_office(world.clock.now().mono), Some(term(4)));
}

#[test]
fn what_nobody_knows_to_be_durable_ends_a_mastership() {
    let (mut world, master) = World::led();
    let effects = world.raw(master, |it, around| it.set_state(around, Ticket(1), json("1")));
    let seq = effects.iter().find_map(|effect| match effect {
        Effect::Save { seq, .. } => Some(*seq),
        _ => None,
    });
    let seq = seq.expect("the state is saved");
    let effects = world.raw(master, |it, around| it.saved(around, seq, false));
    let deposed = effects.iter().any(|effect| {
        matches!(
            effect,
            Effect::Tell(Notice::BecameFollower { reason: election::Deposed::Disk, .. })
        )
    });
    assert!(deposed && world.members[master].it.term_in_office(world.clock.now().mono).is_none());
}
