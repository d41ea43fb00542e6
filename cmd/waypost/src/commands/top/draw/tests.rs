use super::super::watching::tests::{account, peer, report, see};
use super::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

fn drawn(width: u16, height: u16, watched: &Watch, view: &mut View) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
    let whole = |frame: &mut ratatui::Frame<'_>| {
        let area = frame.area();
        whole(frame.buffer_mut(), area, watched, view, now);
    };
    terminal.draw(whole).expect("drawn");
    text(terminal.backend().buffer()).lines().map(str::to_owned).collect()
}

fn network(nodes: usize) -> Watch {
    let mut watched = Watch::default();
    for look in 1..3_u64 {
        let reports = (0..nodes).map(|n| {
            let fields = json!({
                "now_ms": 100_000,
                "counters": { "accepted": 100 * look, "delivered": 250 * look },
                "accounts": [account("away", n as u64, 40_000)],
                "peers": [peer("away", false), peer("there", true)],
                "latency": { "deliveries": look, "delivery_micros": 1_500 * look },
                "election": { "voters": [], "role": if n == 1 { "master" } else { "voter" }, "term": 7,
                    "master": "n01", "master_term": 7, "state": { "term": 0, "rev": 0 }, "state_bytes": 4 },
            });
            report(&format!("n{n:02}"), 2_000 * look, fields)
        });
        see(&mut watched, reports.collect());
    }
    watched
}

#[test]
fn everything_fits_into_80_by_24() {
    let lines = drawn(80, 24, &network(3), &mut View::new(Duration::from_secs(2)));
    assert_eq!(lines.len(), 24);
    assert_eq!(
        lines[0],
        format!("waypost top  3 of 5 nodes answering  master n01, term 7{:>25}", "00:01:40 UTC")
    );
    assert_eq!(lines[1], "150 in/s  375 out/s  0 taken/s  3 waiting");
    let header = "NODE           STATE       IN/S  OUT/S TOOK/S WAITING  OLDEST LATENCY   PEERS";
    assert_eq!(
        lines[2].split_whitespace().collect::<Vec<_>>(),
        header.split_whitespace().collect::<Vec<_>>()
    );
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&lines[3]), ["away", "offline", "-", "-", "-", "-", "-", "-", "-"]);
    assert_eq!(
        words(&lines[5]),
        ["*", "n01", "up", "50.0", "125", "0", "1", "1m00s", "1.5ms", "1/2"]
    );
    let keys = lines.last().expect("a line");
    for key in ["q quit", "space pause", "sort: name", "every 2.0s", "scroll", "? help"] {
        assert!(keys.contains(key), "{key} is not in {keys:?}");
    }
}

#[test]
fn the_keys_fit_however_long_their_words_are() {
    let mut view = View::new(Duration::from_millis(500));
    view.sort = Sort::Waiting;
    for paused in [false, true] {
        view.paused = paused;
        let lines = drawn(80, 24, &network(1), &mut view);
        assert!(lines[23].ends_with("? help"), "{:?}", lines[23]);
    }
}

#[test]
fn a_wide_terminal_shows_more() {
    let lines = drawn(140, 24, &network(1), &mut View::new(Duration::from_secs(2)));
    assert!(lines[2].contains("FSYNC") && lines[2].contains("HOST"), "{:?}", lines[2]);
    let lines = drawn(80, 24, &network(1), &mut View::new(Duration::from_secs(2)));
    assert!(!lines[2].contains("FSYNC"));
}

#[test]
fn more_nodes_than_lines_can_be_scrolled_and_sorted() {
    let watched = network(60);
    let mut view = View::new(Duration::from_secs(2));
    view.sort = Sort::Waiting;
    assert!(drawn(80, 24, &watched, &mut view)[3].contains("n59"));
    view.scroll(10_000);
    let lines = drawn(80, 24, &watched, &mut view);
    assert!(view.first < 62, "it stays where nodes are");
    assert!(lines[3..17].iter().all(|line| !line.is_empty()), "{lines:?}");
}

#[test]
fn no_size_and_no_text_from_the_network_upsets_it() {
    let mut watched = network(3);
    let host = "\u{1b}[2J\u{202e}\n";
    see(&mut watched, vec![report("evil", 1, json!({ "host": host, "storage": "\u{1b}c" }))]);
    for (width, height) in
        [(0, 0), (0, 9), (9, 0), (1, 1), (2, 5), (5, 2), (20, 6), (80, 4), (300, 90)]
    {
        let mut view = View { help: true, ..View::new(Duration::from_secs(2)) };
        let lines = drawn(width, height, &watched, &mut view).concat();
        assert!(!lines.contains(|c: char| c.is_control()), "{lines:?}");
    }
}

#[test]
fn an_outage_is_shown_above_what_was_known() {
    let mut watched = network(1);
    let now = std::time::Instant::now();
    watched.take(Err("no NATS server".to_owned()), now, SystemTime::UNIX_EPOCH);
    let lines = drawn(80, 24, &watched, &mut View::new(Duration::from_secs(2)));
    assert!(lines[1].starts_with("no answers, last ") && lines[1].ends_with("no NATS server"));
    let lines = drawn(80, 24, &Watch::default(), &mut View::new(Duration::from_secs(2)));
    assert_eq!(lines[1], "asking ...");
}

#[test]
fn whoever_wants_no_colour_gets_none() {
    let mut buffer = once(&network(2), Some(80), SystemTime::UNIX_EPOCH);
    assert!(buffer.content.iter().any(|cell| cell.fg != Color::Reset));
    without_color(&mut buffer);
    assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset));
}

#[test]
fn printed_once_it_is_cut_to_a_terminal_and_to_nothing_else() {
    let long = "n".repeat(60);
    let fields = json!({
        "election": { "voters": [], "role": "master", "term": 7, "master": long, "master_term": 7,
            "state": { "term": 0, "rev": 0 }, "state_bytes": 4 },
    });
    let mut watched = network(2);
    see(&mut watched, vec![report(&long, 1, fields)]);
    let lines = |width| -> Vec<String> {
        let printed = text(&once(&watched, width, SystemTime::UNIX_EPOCH));
        printed.lines().map(str::to_owned).collect()
    };
    let whole = lines(None);
    assert_eq!(whole.len(), 3 + watched.rows().len());
    assert!(whole[0].contains(&format!("master {long}, term 7 ")), "{whole:?}");
    assert!(whole[0].ends_with("00:00:00 UTC"), "{whole:?}");
    assert!(whole.iter().any(|line| line.contains(&format!("* {long} "))), "{whole:?}");
    assert!(!whole[2].contains("HOST"), "the same columns, however long names are");
    for width in [1, 40, 80] {
        let width_of = |line: &String| line.chars().count();
        let widest = lines(Some(width)).iter().map(width_of).max().expect("lines");
        assert!(widest <= usize::from(width), "{widest}");
    }
    assert!(lines(Some(140))[2].contains("HOST"));
    assert!(
        text(&once(&network(1), None, SystemTime::UNIX_EPOCH)).lines().all(|line| line.len() <= 80)
    );
}

#[test]
fn what_a_cut_report_leaves_open_is_marked() {
    let mut watched = Watch::default();
    let fields = json!({
        "now_ms": 70_000, "truncated": true,
        "accounts": [account("there", 1_200, 10_000)], "peers": [peer("there", true)],
    });
    see(&mut watched, vec![report("a", 1, fields), report("there", 1, json!({}))]);
    let lines = drawn(140, 24, &watched, &mut View::new(Duration::from_secs(2)));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(lines[1].ends_with("1200+ waiting"), "{:?}", lines[1]);
    let a = words(&lines[3]);
    assert_eq!(a[..9], ["a", "up", "-", "-", "-", "1200+", "1m00s+", "-", "1/1+"]);
    assert_eq!(a[10], "0", "its own report is no part of what others owe it");
    assert_eq!(words(&lines[4])[10], "1200+");
}

#[test]
fn a_mean_below_a_millisecond_is_not_told_in_microseconds() {
    let mut watched = Watch::default();
    for look in 1..3_u64 {
        let latency = json!({ "deliveries": 4 * look, "delivery_micros": 1_000 * look,
            "fsyncs": look, "fsync_micros": 250 * look });
        see(&mut watched, vec![report("a", look, json!({ "latency": latency }))]);
    }
    let lines = drawn(140, 24, &watched, &mut View::new(Duration::from_secs(2)));
    assert!(lines[3].contains(" <1ms ") && lines[3].contains(" 250us "), "{:?}", lines[3]);
}
