use super::*;

fn refused(change: impl FnOnce(&mut Config)) -> String {
    let mut config = Config::default();
    change(&mut config);
    config.validate().expect_err("a refusal").to_string()
}

#[test]
fn the_defaults_are_valid() {
    assert_eq!(Config::default().validate(), Ok(()));
}

/// "However long the network is away" is how the README begins: what limits it follows in the same paragraph.
#[test]
fn the_defaults_keep_messages_for_a_week_and_up_to_a_million_and_the_readme_says_so() {
    let config = Config::default();
    let week = Duration::from_secs(7 * 24 * 3_600);
    assert_eq!((config.message_ttl, config.peer_expiry), (Some(week), week));
    assert_eq!(config.queue_limit.get(), 1_000_000);
    assert_eq!(config.storage_limit, None, "by how much room there is");
    let readme = include_str!("../../README.md");
    let first = readme.split("\n\n").nth(1).expect("a first paragraph");
    assert_eq!(first.matches("7 days").count(), 2, "{first}");
}

#[test]
fn a_contradiction_names_both_fields_and_values() {
    let text = refused(|c| {
        c.keepalive_interval = Duration::from_secs(5);
        c.offline_after = Duration::from_secs(3);
    });
    assert_eq!(text, "keepalive_interval (5s) must be shorter than offline_after (3s)");
    let text = refused(|c| c.retry_delay = Duration::from_secs(600));
    assert_eq!(text, "retry_delay (10m) must not be longer than max_retry_delay (5m)");
}

#[test]
fn values_that_make_no_sense_are_refused() {
    assert!(refused(|c| c.ack_timeout = Duration::ZERO).contains("ack_timeout"));
    assert!(refused(|c| c.storage = Some("/x/{id}.db".into())).contains("{id}"));
    assert!(refused(|c| c.message_ttl = Some(Duration::ZERO)).contains("message_ttl"));
    assert!(refused(|c| c.handler_timeout = Some(Duration::ZERO)).contains("handler_timeout"));
    let many = NonZeroUsize::new(1_025).expect("not zero");
    assert!(refused(|c| c.batching.max_messages = many).contains("batching.max_messages"));
    let long = Duration::from_secs(11);
    assert!(refused(|c| c.batching.max_wait = long).contains("batching.max_wait"));
    assert!(refused(|c| c.max_payload_bytes = 0).contains("max_payload_bytes"));
    assert!(refused(|c| c.max_payload_bytes = usize::MAX).contains("max_payload_bytes"));
    for prefix in ["", "a..b", "a.*", ">", "a b", &"x".repeat(129)] {
        assert!(refused(|c| c.prefix = prefix.to_owned()).contains("prefix"), "{prefix:?}");
    }
    assert!(refused(|c| c.management = Management::Only(vec![])).contains("management"));
    let quorum = |names: &[&str]| Election::quorum(names).expect("valid names");
    assert!(refused(|c| c.election = quorum(&["none"])).contains("\"none\""));
    assert!(refused(|c| c.election = quorum(&["a", "a"])).contains("a twice"));
    assert!(refused(|c| c.max_state_bytes = 1).contains("max_state_bytes"));
    assert!(refused(|c| c.nats.clear()).contains("nats"));
    assert!(refused(|c| c.nats = vec!["  ".to_owned()]).contains("nats"));
    assert!(refused(|c| c.auth.user = Some("u".to_owned())).contains("auth.password"));
    assert!(
        refused(|c| {
            c.auth.token = Some("t".to_owned());
            c.auth.nkey = Some("s".to_owned());
        })
        .contains("several ways")
    );
    assert!(refused(|c| c.tls.client_key = Some("k".into())).contains("client_certificate"));
}

#[test]
fn times_that_overflow_the_clock_are_refused_wherever_they_stand() {
    let times = Config::default();
    let names: Vec<_> = times.durations().map(|(name, _)| name).collect();
    let settings = serde_json::to_value(&times).expect("settings serialize");
    for (name, value) in settings.as_object().expect("an object") {
        let text = value.as_str().unwrap_or_default();
        assert!(humantime::parse_duration(text).is_err() || names.contains(&&**name), "{name}");
    }
    for name in names.iter().chain(&["handler_timeout"]) {
        let mut settings = settings.clone();
        // What comes before it in a pair that must grow has to give way.
        settings["peer_expiry"] = "100years".into();
        settings["max_retry_delay"] = "100years".into();
        let place = match name.split_once('.') {
            Some((section, field)) => &mut settings[section][field],
            None => &mut settings[*name],
        };
        *place = "584000000000years".into();
        let config: Config = serde_json::from_value(settings).expect("settings");
        let text = config.validate().expect_err("a refusal").to_string();
        assert!(text.starts_with(name) && text.ends_with("must be at most 100years"), "{text}");
    }
}

#[test]
fn secrets_never_show() {
    let config = Config {
        nats: vec!["nats://user:hunter2@a:4222".to_owned(), "tok3n@b".to_owned()],
        auth: Auth {
            token: Some("tok3n".to_owned()),
            password: Some("hunter2".to_owned()),
            nkey: Some("SUSEED".to_owned()),
            ..Auth::default()
        },
        ..Config::default()
    };
    let shown = format!("{config:?}");
    for secret in ["hunter2", "tok3n", "SUSEED"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.contains("***@a:4222"));
}

#[test]
fn the_documentation_names_every_setting_with_its_default() {
    let page = include_str!("../../docs/configuration.md");
    let settings = serde_json::to_value(Config::default()).expect("settings serialize");
    for (field, default) in settings.as_object().expect("an object") {
        match default {
            serde_json::Value::Object(section) => {
                assert!(page.contains(&format!("`[{field}]`")), "{field}");
                for field in section.keys() {
                    assert!(page.contains(&format!("`{field}`")), "{field}");
                }
            }
            serde_json::Value::Null | serde_json::Value::Array(_) => {
                assert!(page.contains(&format!("| `{field}` | ")), "{field}");
            }
            default => {
                let default = default.to_string().replace('"', "");
                let row = format!("| `{field}` | `{default}` | ");
                assert!(page.contains(&row), "no row begins with {row}");
            }
        }
    }
}

#[test]
fn who_elects_is_a_word_or_names() {
    let read = |json: &str| serde_json::from_str::<Election>(json);
    let quorum = |names: &[&str]| Election::quorum(names).expect("valid names");
    for (text, meant) in [
        (r#""off""#, Election::Off),
        (r#""Visible""#, Election::Visible),
        (r#"["a","b","c"]"#, quorum(&["a", "b", "c"])),
        (r#""a, b,c""#, quorum(&["a", "b", "c"])),
        (r#"["visible"]"#, quorum(&["visible"])),
    ] {
        let found = read(text).expect(text);
        assert_eq!(found, meant);
        let again = serde_json::to_string(&found).expect("it serializes");
        assert_eq!(read(&again).expect("valid"), found);
    }
    for bad in ["7", r#""a b""#, r#"["a",""]"#, "{}", r#""""#] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn who_may_give_orders_is_a_word_or_names() {
    let read = |json: &str| serde_json::from_str::<Management>(json);
    let only =
        Management::Only(vec!["hq".parse().expect("a name"), "ops".parse().expect("a name")]);
    for (text, meant) in [
        (r#""off""#, Management::Off),
        (r#"" Off""#, Management::Off),
        (r#""Master""#, Management::MasterOnly),
        (r#"["off"]"#, Management::Only(vec!["off".parse().expect("a name")])),
        (r#""anyone""#, Management::Anyone),
        (r#"["hq","ops"]"#, only.clone()),
        (r#""hq, ops""#, only),
    ] {
        let found = read(text).expect(text);
        assert_eq!(found, meant);
        let again = serde_json::to_string(&found).expect("it serializes");
        assert_eq!(read(&again).expect("valid"), found);
    }
    for bad in ["7", r#""a b""#, r#"[""]"#, r#"{"only":[]}"#] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn settings_are_read_as_people_write_them() {
    let json = r#"{"id":"alice","ack_timeout":"2s","message_ttl":"none","overflow":"drop_oldest","durability":"normal"}"#;
    let config: Config = serde_json::from_str(json).expect("valid settings");
    assert_eq!(config.ack_timeout, Duration::from_secs(2));
    assert_eq!((config.message_ttl, config.overflow), (None, Overflow::DropOldest));
    let again = serde_json::to_string(&config).expect("settings serialize");
    assert_eq!(serde_json::from_str::<Config>(&again).expect("valid settings"), config);
    for bad in [
        r#"{"ack_timeout":"soon"}"#,
        r#"{"ack_timeuot":"1s"}"#,
        r#"{"queue_limit":0}"#,
        r#"{"id":"a b"}"#,
    ] {
        assert!(serde_json::from_str::<Config>(bad).is_err(), "{bad}");
    }
}
