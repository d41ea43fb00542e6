//! Settings: what passes `validate` can be worked with, and what does not says which field is wrong.

use std::time::{Duration, Instant};

use waypost::protocol::Now;
use waypost::protocol::backoff::{Backoff, Jitter};
use waypost::protocol::membership::{Event, Known, Limits, Membership};
use waypost::{Config, Incarnation, NodeId};

/// Any bytes as a file of settings.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(config) = toml::from_str::<Config>(text) {
        valid_or_named(&config);
    }
}

/// Settings that were read from somewhere.
pub fn valid_or_named(config: &Config) {
    hides_secrets(config.clone());
    match config.validate() {
        Ok(()) => can_be_worked_with(config),
        Err(error) => {
            let text = error.to_string();
            let fields = serde_json::to_value(Config::default()).expect("settings serialize");
            let named =
                fields.as_object().expect("an object").keys().any(|f| text.contains(f.as_str()));
            assert!(named && text.len() < 4000, "{text}");
        }
    }
}

/// With secrets of ours in the place of its own, wherever its own may stand.
fn hides_secrets(mut config: Config) {
    const SECRET: &str = "s3cr3t-in-no-setting";
    let auth = &mut config.auth;
    (auth.token, auth.password) = (Some(SECRET.to_owned()), Some(SECRET.to_owned()));
    auth.nkey = Some(SECRET.to_owned());
    let spoken = |server: &mut String| {
        let (scheme, rest) = server.split_once("://").unwrap_or(("nats", server));
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        *server = format!("{scheme}://user:{SECRET}@{host}");
    };
    config.nats.iter_mut().for_each(spoken);
    let shown = format!("{config:?} {:?}", config.validate());
    assert!(!shown.contains(SECRET), "{shown}");
}

/// The deadlines that a node makes of them exist.
fn can_be_worked_with(config: &Config) {
    let text = toml::to_string(config).expect("settings serialize");
    assert_eq!(toml::from_str::<Config>(&text).as_ref(), Ok(config), "{text}");
    let now = Instant::now();
    let limits = Limits {
        interval: config.keepalive_interval,
        offline_after: config.offline_after,
        expiry: config.peer_expiry,
        max_peers: config.max_peers.get(),
    };
    let me = NodeId::new("me").expect("a valid name");
    let known = Known {
        node: NodeId::new("peer").expect("a valid name"),
        incarnation: Incarnation::from_u128(2),
        store: waypost::StoreId::from_u128(3),
        host: String::new(),
        version: String::new(),
        channels: Vec::new(),
        seen_ms: 0,
        linked: Duration::ZERO,
        questions: 0,
    };
    let at = Now { mono: now, file_ms: 0 };
    let mut membership = Membership::new(me, Incarnation::from_u128(1), limits, [known], 1, at);
    membership.handle(at, Event::LinkUp, &mut Vec::new());
    let wake_at = membership.wake_at().expect("a keepalive is due");
    membership.handle(Now { mono: wake_at, file_ms: 0 }, Event::Woke, &mut Vec::new());
    assert!(membership.wake_at().expect("the next one") > wake_at);
    let backoff = Backoff { first: config.retry_delay, cap: config.max_retry_delay };
    for failures in [1, 2, 10, u32::MAX] {
        let pause = backoff.pause(failures, &mut Jitter::new(7));
        assert!(now.checked_add(pause + config.ack_timeout).is_some());
    }
    for time in [config.retention, config.cleanup_interval, config.shutdown_timeout] {
        assert!(now.checked_add(time).is_some(), "{time:?}");
    }
    for time in [config.message_ttl, config.handler_timeout].into_iter().flatten() {
        assert!(time > Duration::ZERO && now.checked_add(time).is_some(), "{time:?}");
    }
}
