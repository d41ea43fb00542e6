use super::*;
use serde_json::{Value, json};

/// A report of this node, at this age of its run, with these fields put over the usual ones.
pub(in crate::commands::top) fn report(node: &str, uptime_ms: u64, fields: Value) -> Report {
    let id = "01JD3Q5ZK8W7N2YV4R6T0X9ABC";
    let mut whole = json!({
        "to": "observer", "node": node, "query": 1, "incarnation": id, "store": id, "host": "till",
        "version": "0.1.0", "uptime_ms": uptime_ms, "link": { "state": "connected", "server": "x" },
        "storage": "healthy", "channels": [], "peers": [], "accounts": [], "counters": {},
    });
    for (name, value) in fields.as_object().expect("an object") {
        whole[name] = value.clone();
    }
    serde_json::from_value(whole).expect("a report")
}

pub(in crate::commands::top) fn account(receiver: &str, pending: u64, oldest_ms: u64) -> Value {
    json!({
        "receiver": receiver, "accepted": pending, "pending": pending, "acknowledged": 0, "expired": 0,
        "dead": 0, "purged": 0, "oldest_pending_ms": oldest_ms,
    })
}

pub(in crate::commands::top) fn peer(node: &str, online: bool) -> Value {
    json!({
        "node": node, "online": online, "heard_ms_ago": 5, "incarnation": "01JD3Q5ZK8W7N2YV4R6T0X9ABC",
        "host": "shed", "version": "0.1.0", "draining": false, "channels": [],
    })
}

pub(in crate::commands::top) fn see(watched: &mut Watch, reports: Vec<Report>) {
    watched.take(Ok(reports), Instant::now(), SystemTime::UNIX_EPOCH);
}

fn changes(watched: &Watch) -> Vec<&str> {
    watched.changes().map(|change| change.what.as_str()).collect()
}

#[test]
fn rates_and_latencies_are_those_between_two_reports_of_one_run() {
    let mut watched = Watch::default();
    let at = |ms, count: u64| {
        let counters = json!({ "accepted": count, "delivered": 2 * count, "processed": 3 * count });
        let latency = json!({ "deliveries": count, "delivery_micros": count * count });
        report("a", ms, json!({ "counters": counters, "latency": latency }))
    };
    see(&mut watched, vec![at(1_000, 10)]);
    let row = &watched.rows()[0];
    assert_eq!((row.accepted, row.latency, &row.state), (None, None, &State::Up));
    see(&mut watched, vec![at(3_000, 20)]);
    let row = &watched.rows()[0];
    assert_eq!((row.accepted, row.delivered, row.processed), (Some(5.0), Some(10.0), Some(15.0)));
    assert_eq!(row.latency, Some(Duration::from_micros(30)));
    see(&mut watched, vec![at(5_000, 20)]);
    let row = &watched.rows()[0];
    assert_eq!((row.accepted, row.latency), (Some(0.0), None), "nothing was delivered");
    let other =
        json!({ "incarnation": "01JD3Q5ZK8W7N2YV4R6T0X9ABD", "counters": { "accepted": 3 } });
    see(&mut watched, vec![report("a", 500, other)]);
    assert_eq!(watched.rows()[0].accepted, None, "it was restarted");
    assert_eq!(changes(&watched)[0], "a was restarted, on till");
}

#[test]
fn what_waits_is_told_at_both_ends() {
    let mut watched = Watch::default();
    let accounts = json!([account("b", 3, 9_000), account("c", 4, 7_000)]);
    let peers = [peer("b", true), peer("c", false)];
    let fields = json!({ "now_ms": 10_000, "accounts": accounts, "peers": peers });
    see(&mut watched, vec![report("a", 1, fields), report("b", 1, json!({}))]);
    let rows = watched.rows();
    let names: Vec<_> = rows.iter().map(|row| row.node.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!((rows[0].waiting, rows[0].peers), (7, Some((1, 2))));
    assert_eq!(rows[0].oldest, Some(Duration::from_secs(3)), "by the node's clock");
    assert_eq!((rows[1].owed, rows[2].owed), (3, 4));
    assert_eq!((&rows[2].state, rows[2].host.as_str()), (&State::Offline, "shed"));
}

#[test]
fn changes_are_told_once_and_nothing_of_the_first_look_is_one() {
    let mut watched = Watch::default();
    let voter = |role: &str, term: u64| {
        json!({ "election": { "voters": [], "role": role, "term": term, "master": null, "master_term": term,
            "state": { "term": 0, "rev": 0 }, "state_bytes": 4 } })
    };
    see(&mut watched, vec![report("a", 1, voter("master", 1)), report("b", 1, json!({}))]);
    assert_eq!(changes(&watched), Vec::<&str>::new());
    see(&mut watched, vec![report("b", 2, voter("master", 2))]);
    assert_eq!(changes(&watched), ["b is master, in term 2", "a does not answer"]);
    let rows = watched.rows();
    assert_eq!((&rows[0].state, rows[1].master), (&State::Silent, true));
    let now = json!({ "storage": "full", "counters": { "dead_lettered": 2, "reconnects": 1 },
        "channels": [{ "name": "c", "mode": "reader", "paused": false, "age_ms": 1 }] });
    see(&mut watched, vec![report("a", 3, now), report("b", 3, voter("master", 2))]);
    let now = changes(&watched);
    let expected = [
        "a joined c (reader)",
        "a was cut off and is connected again",
        "a: 2 messages became dead letters",
        "a: its file is full",
        "a answers again",
    ];
    assert_eq!(now[..5], expected);
    assert_eq!(watched.rows()[0].state, State::Trouble("disk full".to_owned()));
}

#[test]
fn an_outage_is_told_once_with_its_end() {
    let mut watched = Watch::default();
    see(&mut watched, vec![report("a", 1, json!({}))]);
    for _ in 0..3 {
        watched.take(Err("no \u{1b}server".to_owned()), Instant::now(), SystemTime::UNIX_EPOCH);
    }
    assert_eq!(watched.trouble(), Some("no \u{fffd}server"));
    assert_eq!(watched.rows().len(), 1, "what was known stays");
    see(&mut watched, vec![report("a", 2, json!({}))]);
    assert_eq!(watched.trouble(), None);
    let told = ["nodes can be asked again", "nobody can be asked: no \u{fffd}server"];
    assert_eq!(changes(&watched), told);
}

#[test]
fn no_number_of_a_stranger_is_too_large() {
    let mut watched = Watch::default();
    let most = u64::MAX;
    for look in 1..3_u64 {
        let counters = json!({ "accepted": most, "delivered": most - look, "failed": most });
        let latency = json!({ "deliveries": look, "delivery_micros": most, "fsyncs": most, "fsync_micros": 1 });
        let fields = json!({
            "now_ms": look, "counters": counters, "latency": latency,
            "accounts": [account("b", most, most), account("b", most, 0), account("c", most, most)],
        });
        let reports = ["a", "b", "d"].map(|node| report(node, most - 2 + look, fields.clone()));
        see(&mut watched, reports.into());
    }
    let rows = watched.rows();
    assert_eq!((rows[0].waiting, rows[1].owed), (most, most));
    assert_eq!(rows[0].uptime, Some(Duration::from_millis(most)));
}

#[test]
fn a_node_that_tells_no_time_has_no_age_of_what_waits() {
    let mut watched = Watch::default();
    let fields = json!({ "accounts": [account("b", 1, 7_000)] });
    see(&mut watched, vec![report("a", 1, fields)]);
    assert_eq!((watched.rows()[0].waiting, watched.rows()[0].oldest), (1, None));
}

#[test]
fn in_a_full_table_the_node_that_is_silent_longest_gives_way_and_none_that_answers() {
    let mut watched = Watch::default();
    let start = Instant::now();
    let mut look = |number: u64, names: &[String]| {
        let reports = names.iter().map(|name| report(name, number, json!({}))).collect();
        watched.take(Ok(reports), start + Duration::from_secs(number), SystemTime::UNIX_EPOCH);
        let shown = watched.rows().iter().map(|row| row.node.to_string()).collect::<BTreeSet<_>>();
        (shown, watched.left_out())
    };
    let mut names: Vec<String> = (0..NODES).map(|n| format!("n{n:04}")).collect();
    assert_eq!(look(1, &names).1, (0, false));
    let last = names.pop().expect("a name");
    look(2, &names);
    let first = names.remove(0);
    look(3, &names);
    // The one that answers again in the same look is not taken for silent.
    names.insert(0, "x1".to_owned());
    names.push(first.clone());
    let (shown, left_out) = look(4, &names);
    assert!(shown.contains("x1") && shown.contains(&first) && !shown.contains(&last));
    assert_eq!((shown.len(), left_out), (NODES, (0, false)));
    names.extend(["x2".to_owned(), "x3".to_owned()]);
    let (shown, left_out) = look(5, &names);
    assert!(!shown.contains("x2") && !shown.contains("x3"), "nobody is silent");
    assert_eq!((shown.len(), left_out), (NODES, (2, false)));
}

#[test]
fn nodes_that_others_know_are_left_out_first_and_counted() {
    let mut watched = Watch::default();
    let known: Vec<_> = (0..NODES + 5).map(|n| peer(&format!("p{n:04}"), false)).collect();
    let reports = [("a", &known[..NODES]), ("b", &known[5..])];
    let reports = reports.map(|(node, peers)| report(node, 1, json!({ "peers": peers })));
    see(&mut watched, reports.into());
    assert_eq!((watched.rows().len(), watched.left_out()), (NODES, (7, false)));
    assert!(
        ["a", "b"].iter().all(|name| watched.rows().iter().any(|row| row.node.as_str() == *name))
    );
}

#[test]
fn channels_beyond_the_end_of_a_cut_list_are_not_told_as_left() {
    let mut watched = Watch::default();
    let channels = |names: &[&str], truncated: bool| {
        let channels = names
            .iter()
            .map(|name| json!({ "name": name, "mode": "reader", "paused": false, "age_ms": 1 }));
        report("a", 1, json!({ "channels": channels.collect::<Vec<_>>(), "truncated": truncated }))
    };
    see(&mut watched, vec![channels(&["b", "c"], false)]);
    see(&mut watched, vec![channels(&["a", "b"], true)]);
    see(&mut watched, vec![channels(&["b", "c"], false)]);
    assert_eq!(changes(&watched), Vec::<&str>::new());
    see(&mut watched, vec![channels(&["c", "d"], false)]);
    assert_eq!(changes(&watched), ["a left b", "a joined d (reader)"]);
}
