use super::*;

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

#[test]
fn a_reason_says_what_is_the_matter_and_what_to_do() {
    let offline = Reason::Offline { receiver: node("b"), waiting: 1, heard_ms_ago: 3_725_000 };
    assert_eq!(
        offline.to_string(),
        "1 message waits for b, which is offline, last heard 1h 2m ago: start it, or look at its network; \
         `waypost forget` gives up what waits"
    );
    assert_eq!(Told::from(&offline).to_string(), offline.to_string());
    let nobody = Reason::QueueFull { receiver: None, waiting: 5, limit: 5 };
    assert_eq!(nobody.sentence(), "5 messages wait for a first reader, limit 5");
}

#[test]
fn clocks_that_are_two_days_apart_but_for_a_moment_are_two_days_apart() {
    let by = |by_ms| Reason::ClockApart { by_ms }.sentence();
    assert_eq!(by(172_799_999), "the wall clock is 2days ahead of what is known to have passed");
    assert_eq!(by(-172_780_000), "the wall clock is 2days behind what is known to have passed");
    assert_eq!(by(i64::MAX).split(' ').nth(4), Some("292271023years"));
}

#[test]
fn a_clock_that_was_never_set_is_noticed() {
    let name = |at: SystemTime| Reason::of_clock(at).map(|reason| reason.name());
    let epoch = SystemTime::UNIX_EPOCH;
    assert_eq!(name(epoch - EARLIEST), Some("clock_wrong"));
    assert_eq!(name(epoch), Some("clock_wrong"));
    assert_eq!(name(epoch + EARLIEST), None);
    assert_eq!(name(epoch + LATEST), Some("clock_wrong"));
    assert_eq!(name(epoch + 100 * LATEST), Some("clock_wrong"));
    let never_set = Reason::of_clock(epoch).expect("1970").sentence();
    assert_eq!(never_set, "the clock says 1970-01-01T00:00:00Z, which can't be right");
}

#[test]
fn what_another_node_tells_is_read_whatever_its_name() {
    let reason = Reason::Denied { said: "x".to_owned() };
    let json = serde_json::to_string(&reason).expect("texts");
    let told: Told = serde_json::from_str(&json).expect("the same fields");
    assert_eq!(told, Told::from(&reason));
    let newer = r#"{"reason":"of_tomorrow","sentence":"s","remedy":"r","more":1}"#;
    let told: Told = serde_json::from_str(newer).expect("unknown fields are ignored");
    assert_eq!(told.to_string(), "s: r");
}

/// A text as the table has it: values in italics.
fn in_markdown(text: &str) -> String {
    text.replace(":?}", "}").replace(['{', '}'], "*")
}

#[test]
fn the_table_of_reasons_says_what_the_code_says() {
    let page = include_str!("../../docs/troubleshooting.md");
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells.get(3)?.strip_prefix('`')?.strip_suffix('`')?;
        Some((name, cells[2].to_owned()))
    });
    let rows: std::collections::BTreeMap<&str, String> = rows.collect();
    for Template { name, sentence, remedy, .. } in Reason::ALL {
        let text = format!("{}: {}", in_markdown(sentence), in_markdown(remedy));
        assert_eq!(rows.get(name), Some(&text), "the row of {name}");
    }
    assert_eq!(rows.len(), Reason::ALL.len(), "a row for a reason that there is not");
}

#[test]
fn names_are_unique_and_texts_are_short_sentences() {
    for (index, template) in Reason::ALL.iter().enumerate() {
        let Template { name, sentence, remedy, over } = *template;
        assert!(Reason::ALL[..index].iter().all(|other| other.name != name), "{name} twice");
        for text in [sentence, remedy, over] {
            assert!(!text.is_empty() && !text.ends_with('.'), "{name}: {text}");
            assert!(text.split_whitespace().count() <= 25, "{name}: {text}");
        }
    }
}
