use super::*;

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

fn channel() -> ChannelName {
    ChannelName::new("c").expect("a valid name")
}

fn waits(receiver: &str, pending: u64, standing: Standing) -> Waiting {
    let receiver = (!receiver.is_empty()).then(|| node(receiver));
    Waiting { receiver, channel: channel(), pending, standing }
}

const AWAY: Standing = Standing::Offline { heard_ms_ago: 0 };

fn names(reasons: &[Reason]) -> Vec<&'static str> {
    reasons.iter().map(Reason::name).collect()
}

fn cut_off() -> Reason {
    Reason::NoServer { said: "refused".to_owned() }
}

fn limit() -> Reason {
    Reason::refused("maximum subscriptions exceeded".to_owned())
}

fn full() -> Reason {
    Reason::DiskFull { path: "a.db".to_owned() }
}

fn offline(receiver: &str) -> Reason {
    Reason::Offline { receiver: node(receiver), waiting: 1, heard_ms_ago: 0 }
}

#[test]
fn the_most_important_reason_comes_first_and_each_once() {
    let id = MessageId::from_u128(1);
    let snapshot = Snapshot {
        node: vec![Reason::Draining { by: node("x") }, full()],
        no_link: false,
        waiting: vec![
            waits("slow", 3, Standing::Unanswered { id, attempts: 2 }),
            waits("away", 2, AWAY),
            Waiting { channel: ChannelName::new("d").expect("a name"), ..waits("away", 5, AWAY) },
            waits("", 1, Standing::Moving),
            waits("well", 9, Standing::Moving),
            waits("idle", 0, AWAY),
        ],
        limit: Some(7),
    };
    let reasons = reasons(snapshot);
    assert_eq!(
        names(&reasons),
        ["disk_full", "draining", "queue_full", "queue_full", "nobody_yet", "offline", "no_answer"]
    );
    let away = Reason::Offline { receiver: node("away"), waiting: 7, heard_ms_ago: 0 };
    assert!(reasons.contains(&away), "both channels are counted together: {reasons:?}");
}

#[test]
fn a_node_that_is_cut_off_says_nothing_of_its_receivers() {
    let waiting = vec![waits("away", 8, AWAY), waits("", 1, Standing::Moving)];
    let snapshot = |why, no_link| {
        let (node, waiting) = (vec![why], waiting.clone());
        names(&reasons(Snapshot { node, no_link, waiting, limit: Some(8) }))
    };
    assert_eq!(snapshot(cut_off(), true), ["no_server", "queue_full"]);
    assert_eq!(snapshot(limit(), true), ["server_limit", "queue_full"]);
    // On a connection that stands it is in nobody's way for certain.
    assert_eq!(snapshot(limit(), false), ["server_limit", "queue_full", "nobody_yet", "offline"]);
}

/// Whether each began, and its name.
fn told(telling: &mut Telling, now: Instant, reasons: &[Reason]) -> Vec<(bool, &'static str)> {
    let news = telling.look(now, false, reasons).into_iter();
    news.map(|news| match news {
        News::Begins(reason) => (true, reason.name()),
        News::Ends(reason) => (false, reason.name()),
    })
    .collect()
}

#[test]
fn a_reason_is_told_once_when_it_begins_and_once_when_it_ends() {
    let (mut telling, start) = (Telling::default(), Instant::now());
    let at = |secs| start + Duration::from_secs(secs);
    assert_eq!(told(&mut telling, at(0), &[full()]), [(true, "disk_full")]);
    assert_eq!(told(&mut telling, at(1), &[full()]), []);
    assert_eq!(told(&mut telling, at(2), &[]), [(false, "disk_full")]);
    assert_eq!(told(&mut telling, at(3), &[]), []);
    assert_eq!(telling.wake_at(), None);
}

#[test]
fn what_comes_and_goes_is_told_once_a_minute() {
    let (mut telling, start) = (Telling::default(), Instant::now());
    let mut news = Vec::new();
    for second in 0..600 {
        let reasons = if second % 2 == 0 { vec![cut_off()] } else { Vec::new() };
        news.extend(told(&mut telling, start + Duration::from_secs(second), &reasons));
    }
    assert_eq!(news.iter().filter(|(begins, _)| *begins).count(), 10);
    assert!(news.chunks(2).all(|pair| pair[0].0 && !pair[1].0), "each has its end: {news:?}");
}

#[test]
fn a_receiver_that_is_away_for_a_moment_is_not_told() {
    let (mut telling, start) = (Telling::default(), Instant::now());
    let at = |secs| start + Duration::from_secs(secs);
    assert_eq!(told(&mut telling, at(0), &[offline("b")]), []);
    assert_eq!(telling.wake_at(), Some(at(0) + PATIENCE));
    assert_eq!(told(&mut telling, at(9), &[]), []);
    assert_eq!(told(&mut telling, at(9), &[offline("b")]), []);
    assert_eq!(told(&mut telling, at(18), &[offline("b")]), []);
    assert_eq!(told(&mut telling, at(19), &[offline("b")]), [(true, "offline")]);
    assert_eq!(told(&mut telling, at(20), &[]), [(false, "offline")]);
}

#[test]
fn while_the_node_is_cut_off_nothing_begins_or_ends_for_its_receivers() {
    let (mut telling, start) = (Telling::default(), Instant::now());
    let at = |secs| start + Duration::from_secs(secs);
    assert_eq!(told(&mut telling, at(0), &[offline("b")]), []);
    assert_eq!(told(&mut telling, at(10), &[offline("b"), offline("c")]), [(true, "offline")]);
    assert_eq!(told(&mut telling, at(11), &[cut_off()]), [(true, "no_server")]);
    assert_eq!(told(&mut telling, at(50), &[cut_off()]), []);
    let both = [offline("b"), offline("c")];
    assert_eq!(told(&mut telling, at(60), &both), [(false, "no_server")]);
    assert_eq!(told(&mut telling, at(69), &both), [], "c may be heard in a moment");
    assert_eq!(told(&mut telling, at(70), &both), [(true, "offline")]);
}

#[test]
fn a_thousand_receivers_that_are_away_are_not_a_thousand_lines() {
    let (mut telling, start) = (Telling::default(), Instant::now());
    let all: Vec<Reason> = (0..1000).map(|n| offline(&format!("b{n}"))).collect();
    assert_eq!(told(&mut telling, start, &all), []);
    let later = start + PATIENCE;
    assert_eq!(told(&mut telling, later, &all).len(), MOST);
    assert_eq!(told(&mut telling, later + Duration::from_secs(1), &all), []);
    assert_eq!(telling.wake_at(), Some(later + AGAIN_AFTER));
    // The end of what was not told is not told either.
    assert_eq!(told(&mut telling, later + Duration::from_secs(2), &[]).len(), MOST);
}

#[test]
fn a_reason_for_no_connection_that_becomes_another_is_told_and_not_as_a_connection() {
    let (mut telling, now) = (Telling::default(), Instant::now());
    assert_eq!(telling.look(now, false, &[cut_off()]), [News::Begins(cut_off())]);
    let expired = Reason::NoTrust { said: "h:1: invalid peer certificate: Expired".to_owned() };
    let now = now + Duration::from_secs(1);
    let told = telling.look(now, false, std::slice::from_ref(&expired));
    assert_eq!(told, [News::Begins(expired.clone())]);
    assert_eq!(telling.look(now + Duration::from_secs(1), false, &[]), [News::Ends(expired)]);
}

#[test]
fn what_is_asked_of_one_receiver_is_found_among_many_others() {
    let all = || {
        let mut all: Vec<Reason> = (0..1000).map(|n| offline(&format!("b{n}"))).collect();
        all.push(full());
        all.push(Reason::NobodyYet { waiting: 1, channel: channel() });
        all
    };
    let about = |channel: &str, receivers: Vec<NodeId>| {
        let channel = ChannelName::new(channel).expect("a valid name");
        let mut kept = all();
        keep_about(&mut kept, &About { channel, receivers });
        kept
    };
    let nobody_yet = Reason::NobodyYet { waiting: 1, channel: channel() };
    assert_eq!(about("c", vec![node("b900")]), [offline("b900"), full(), nobody_yet.clone()]);
    assert_eq!(about("c", Vec::new()), [full(), nobody_yet]);
    assert_eq!(about("d", vec![node("b7"), node("well")]), [offline("b7"), full()]);
    // A stranger's question costs no more than that.
    let many = (0..1000).map(|n| node(&format!("b{n}"))).collect();
    assert_eq!(about("d", many).len(), About::MOST_RECEIVERS + 1);
}

#[test]
fn a_refusal_is_not_over_because_the_connection_is_lost() {
    let (mut telling, start) = (Telling::default(), Instant::now());
    let at = |secs| start + Duration::from_secs(secs);
    assert_eq!(telling.look(at(0), true, &[limit()]), [News::Begins(limit())]);
    assert_eq!(telling.look(at(1), true, &[cut_off()]), [News::Begins(cut_off())]);
    assert_eq!(telling.look(at(2), false, &[]), [News::Ends(cut_off())]);
}
