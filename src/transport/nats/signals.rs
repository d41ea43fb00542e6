//! What the client's callbacks tell, and which server it tries next, and when.
//!
//! Callbacks run in the client's tasks, may come late and may be dropped. So they leave marks here, that are overwritten
//! or capped and never wait for anybody; the transport reads them at every look.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{ClientError, Event, ReconnectToServer, Server, ServerAddr, ServerError};
use tokio::sync::Notify;

use super::files::Problem;
use crate::condition::Outage;
use crate::config::mask_url;

const MIN_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(5);
/// Between the tries of a client that is to connect only in order to end.
const ABANDONED_DELAY: Duration = Duration::from_secs(30);
/// A server that ends a connection says why just before.
const FAREWELL: Duration = Duration::from_millis(500);
/// Refusals kept until the next look.
const MAX_DENIED: usize = 16;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    Unreachable(Outage, String),
    Unauthorized(String),
    /// The kind of an error only, of a try of which somebody may say more.
    Vague(String),
}

/// The marks of one client's callbacks.
#[derive(Default)]
pub(super) struct Signals {
    /// Wakes the transport for a look.
    pub(super) wake: Notify,
    marks: Mutex<Marks>,
    /// Rounds through the servers since a connection last proved stable. It alone decides the delay: the client's own count
    /// starts again with each connection, and a server that accepts and closes would be stormed.
    rounds: AtomicU32,
    turn: AtomicUsize,
    /// The servers in the settings. The others are only what some server tells of.
    configured: Vec<ServerAddr>,
    /// What is wrong with a file that is needed for a connection.
    problem: Problem,
    /// What the client subscribes to.
    subscriptions: Vec<String>,
}

/// Taken by the transport at each look.
#[derive(Default)]
pub(super) struct Marks {
    pub(super) trouble: Option<Trouble>,
    /// The server's last word that is neither a refusal nor a denial, and when it came: why the connection broke, perhaps.
    last_error: Option<(String, Instant)>,
    pub(super) denied: Vec<String>,
    pub(super) slow: bool,
    pub(super) lame_duck: bool,
    /// The server that was tried last.
    pub(super) address: String,
    /// When the client asked whom to try last.
    tried_at: Option<Instant>,
    /// The transport is closed: the client is to try nothing more.
    pub(super) closed: bool,
    /// The transport has another client. This one was deaf; it ends with the first connection that it makes.
    pub(super) abandoned: bool,
}

impl Signals {
    /// For a client that starts with a server of its own choice, so that the nodes of a cluster spread.
    pub(super) fn new(
        configured: Vec<ServerAddr>,
        problem: Problem,
        subscriptions: Vec<String>,
    ) -> Self {
        let turn = AtomicUsize::new(fastrand::usize(..1 << 16) * (configured.len() + 1));
        turn.fetch_add(fastrand::usize(..configured.len().max(1)), Ordering::Relaxed);
        Self { turn, configured, problem, subscriptions, ..Self::default() }
    }

    pub(super) fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection has lasted: the next loss is a new story.
    pub(super) fn stable(&self) {
        // Not zero: only a client's very first try is without a delay.
        self.rounds.store(1, Ordering::Relaxed);
    }

    /// The client asks before each try. It has just failed with what the servers' records say.
    pub(super) fn choose(&self, servers: &[Server]) -> Option<ReconnectToServer> {
        let mut marks = self.marks();
        let problem = self.problem.since(marks.tried_at.replace(Instant::now()));
        if let Some(trouble) = trouble(servers, problem) {
            marks.trouble = Some(trouble);
            self.wake.notify_one();
        }
        if servers.is_empty() || (marks.closed && !marks.abandoned) {
            return None;
        }
        if marks.abandoned {
            let addr = servers[fastrand::usize(..servers.len())].addr.clone();
            return Some(ReconnectToServer { addr, delay: Some(ABANDONED_DELAY) });
        }
        let (server, begins) = self.next(servers);
        marks.address = shown(&server.addr);
        let round = match begins {
            true => self.rounds.fetch_add(1, Ordering::Relaxed),
            false => self.rounds.load(Ordering::Relaxed),
        };
        Some(ReconnectToServer { addr: server.addr.clone(), delay: Some(delay(round)) })
    }

    /// Whose turn it is, and whether a round begins with it: all servers in the settings, then one of the others. What a server tells of may
    /// be out of reach for us, and each try at such a one takes seconds.
    fn next<'a>(&self, servers: &'a [Server]) -> (&'a Server, bool) {
        let is_given = |server: &&Server| self.configured.contains(&server.addr);
        let given: Vec<_> = servers.iter().filter(is_given).collect();
        let told: Vec<_> = servers.iter().filter(|server| !is_given(server)).collect();
        let length = given.len() + usize::from(!told.is_empty());
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (round, place) = (turn / length, turn % length);
        let server = given.get(place).copied().unwrap_or_else(|| told[round % told.len()]);
        (server, place == 0)
    }

    pub(super) fn on_event(&self, event: Event) {
        let mut marks = self.marks();
        match event {
            Event::LameDuckMode => marks.lame_duck = true,
            Event::SlowConsumer(_) | Event::ServerError(ServerError::SlowConsumer(_)) => {
                marks.slow = true;
            }
            Event::ServerError(ServerError::AuthorizationViolation) => {
                let reason = format!("{}: authorization violation", marks.address);
                marks.trouble = Some(Trouble::Unauthorized(reason));
            }
            Event::ServerError(ServerError::Other(text)) => {
                marks.server_said(text, &self.subscriptions);
            }
            // Only the kind of an error, after a try: of use where the servers' records are silent.
            Event::ClientError(ClientError::Other(text)) if marks.trouble.is_none() => {
                marks.trouble = Some(Trouble::Vague(format!("{}: {text}", marks.address)));
            }
            // What was said before was the farewell of the connection before.
            Event::Connected => marks.last_error = None,
            Event::Disconnected | Event::Draining | Event::Closed | Event::ClientError(_) => {}
        }
        drop(marks);
        self.wake.notify_one();
    }
}

impl Marks {
    /// The server's last word, if a connection broke now.
    pub(super) fn take_last_word(&mut self) -> Option<String> {
        self.last_error.take().map(|(text, _)| text)
    }

    /// A word that is no farewell, since the connection stands for a while after it.
    pub(super) fn take_word(&mut self) -> Option<String> {
        let over = |(_, at): &mut (String, Instant)| at.elapsed() >= FAREWELL;
        self.last_error.take_if(over).map(|(text, _)| text)
    }

    fn server_said(&mut self, mut text: String, subscriptions: &[String]) {
        let lower = text.to_lowercase();
        let too_many = lower.starts_with("maximum subscriptions");
        if too_many {
            // Which of them is not said.
            let (count, all) = (subscriptions.len(), subscriptions.join(", "));
            text = format!("{text}: a node needs {count} ({all})");
        }
        if too_many || lower.starts_with("permissions violation") {
            if self.denied.len() < MAX_DENIED && !self.denied.contains(&text) {
                self.denied.push(text);
            }
        } else if is_refusal(&lower) {
            self.trouble = Some(Trouble::Unauthorized(format!("{}: {text}", self.address)));
            self.last_error = Some((text, Instant::now()));
        } else {
            self.last_error = Some((text, Instant::now()));
        }
    }
}

/// What a server answers to credentials that it does not, or no longer, accept; and what the client says where it cannot
/// even sign with ours.
fn is_refusal(lower: &str) -> bool {
    ["authorization violation", "authentication expired", "authentication revoked", "signing nonce"]
        .iter()
        .any(|words| lower.contains(words))
}

/// What kind of reason these words are for a connection that is not there. They must not hold an address, which says what it likes.
pub(super) fn kind(words: &str) -> Outage {
    let lower = words.to_lowercase();
    if ["certificate", "tls", "alert", "handshake"].iter().any(|word| lower.contains(word)) {
        Outage::NoTrust
    } else if lower.starts_with("maximum ") || lower.starts_with("permissions violation") {
        Outage::Refused
    } else if lower.starts_with("too many open files") {
        Outage::NoFiles
    } else {
        Outage::NoServer
    }
}

/// Of several servers, what somebody has to remove counts before what passes by itself. `problem`: what the last try found wrong with a file
/// that an encrypted connection needs.
fn trouble(servers: &[Server], problem: Option<String>) -> Option<Trouble> {
    let mut texts = Vec::new();
    let mut outage = None;
    for server in servers {
        let Some(error) = server.last_error.as_deref() else { continue };
        let words = plain(error);
        let text = format!("{}: {words}", shown(&server.addr));
        if is_refusal(&error.to_lowercase()) {
            return Some(Trouble::Unauthorized(text));
        }
        texts.push(text);
        outage = match (outage, kind(words)) {
            (Some(Outage::NoTrust), _) | (_, Outage::NoTrust) => Some(Outage::NoTrust),
            (Some(Outage::Refused), _) | (_, Outage::Refused) => Some(Outage::Refused),
            (Some(Outage::NoFiles), _) | (_, Outage::NoFiles) => Some(Outage::NoFiles),
            (_, other) => Some(other),
        };
    }
    let mut outage = outage?;
    if let Some(problem) = problem {
        // Not every server says why it ends a handshake.
        outage = Outage::NoTrust;
        texts.push(problem);
    }
    Some(Trouble::Unreachable(outage, texts.join("; ")))
}

/// What the encryption says in words that nobody outside it knows, and what it means.
const MEANS: [(&str, &str); 2] = [
    (
        "CaUsedAsEndEntity",
        "the server's certificate is an authority's own (self-signed): give it one with basicConstraints=CA:FALSE, which an authority that is trusted \
         here has signed",
    ),
    ("InvalidContentType", "what answers there speaks no TLS"),
];

/// The client and the encryption put their own words for the kind before what somebody said.
fn plain(error: &str) -> &str {
    let mut words = error.rsplit_once("nats: ").map_or(error, |(_, words)| words);
    for kind in ["failed signing nonce: ", "IO error: ", "TLS error: ", "unexpected error: "] {
        words = words.strip_prefix(kind).unwrap_or(words);
    }
    if let Some((_, means)) = MEANS.iter().find(|(said, _)| words.contains(said)) {
        return means;
    }
    words.strip_prefix("AuthError(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(words)
}

fn shown(server: &ServerAddr) -> String {
    mask_url(server.as_url_str())
}

/// Exponential from the floor to the cap; the upper half is chance, so that a thousand nodes do not come back at once.
fn delay(round: u32) -> Duration {
    let Some(doublings) = round.checked_sub(1) else { return Duration::ZERO };
    let full = MIN_DELAY.saturating_mul(2_u32.saturating_pow(doublings.min(16) + 1)).min(MAX_DELAY);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_from_the_floor_to_the_cap_and_differ() {
        assert_eq!(delay(0), Duration::ZERO);
        for round in 1..100 {
            for _ in 0..20 {
                assert!((MIN_DELAY..=MAX_DELAY).contains(&delay(round)), "{round}");
            }
        }
        assert!(delay(2) >= 2 * MIN_DELAY && delay(u32::MAX) >= MAX_DELAY / 2);
        assert_ne!(delay(10), delay(10));
    }

    #[test]
    fn a_servers_words_are_sorted_into_refusals_denials_and_the_rest() {
        let signals = Signals::default();
        let say = |text: &str| {
            signals.on_event(Event::ServerError(ServerError::Other(text.to_owned())));
        };
        for _ in 0..3 {
            say("Permissions Violation for Publish to \"waypost.msg.a.b\"");
        }
        say("Stale Connection");
        assert_eq!(signals.marks().denied.len(), 1);
        assert_eq!(signals.marks().take_word(), None, "it may be a farewell");
        assert_eq!(signals.marks().take_last_word().as_deref(), Some("Stale Connection"));
        assert_eq!(signals.marks().trouble, None);
        say("User Authentication Expired");
        assert!(matches!(signals.marks().trouble, Some(Trouble::Unauthorized(_))));
        for n in 0..100 {
            say(&format!("Permissions Violation for Subscription to {n}"));
        }
        assert_eq!(signals.marks().denied.len(), MAX_DENIED);
    }

    fn server(address: &str, error: Option<&str>) -> Server {
        Server {
            addr: address.parse().expect("an address"),
            failed_attempts: 0,
            did_connect: false,
            is_discovered: false,
            last_error: error.map(str::to_owned),
        }
    }

    #[test]
    fn the_servers_of_the_settings_are_tried_in_every_round() {
        for given in 1..4 {
            let address = |n| format!("nats://given-{n}:4222");
            let addresses: Vec<_> = (0..given).map(|n| server(&address(n), None).addr).collect();
            let signals = Signals::new(addresses.clone(), Problem::default(), Vec::new());
            let mut servers: Vec<_> = (0..given).map(|n| server(&address(n), None)).collect();
            // What is told of comes later, and not in order.
            for n in 0..8 {
                servers.insert(n % (given + 1), server(&format!("nats://told-{n}:4222"), None));
            }
            let tried: Vec<_> =
                (0..100).map(|_| signals.choose(&servers).expect("a choice").addr).collect();
            for some in tried.windows(given + 1) {
                let told = some.iter().filter(|address| !addresses.contains(address)).count();
                assert_eq!(told, 1, "{some:?}");
                assert!(addresses.iter().all(|address| some.contains(address)), "{some:?}");
            }
            assert!(servers.iter().all(|server| tried.contains(&server.addr)), "{tried:?}");
        }
    }

    #[test]
    fn limits_and_unknown_words_of_a_server_are_told() {
        let subscriptions = vec!["p.msg.a.*".to_owned(), "p.ack.a.*".to_owned()];
        let signals = Signals::new(Vec::new(), Problem::default(), subscriptions);
        let say = |text: &str| {
            signals.on_event(Event::ServerError(ServerError::Other(text.to_owned())));
        };
        say("maximum subscriptions exceeded");
        let denied = signals.marks().denied.clone();
        assert_eq!(
            denied,
            ["maximum subscriptions exceeded: a node needs 2 (p.msg.a.*, p.ack.a.*)"]
        );
        say("a word of the year 2030");
        signals.marks().last_error.as_mut().expect("it was said").1 -= FAREWELL;
        assert_eq!(signals.marks().take_word().as_deref(), Some("a word of the year 2030"));
        assert_eq!(signals.marks().take_word(), None);
    }

    #[test]
    fn why_a_try_failed_is_told_in_the_words_of_whoever_knows() {
        let words = |error: &str, problem: Option<&str>| {
            let servers = [server("nats://h:1", Some(error))];
            match trouble(&servers, problem.map(str::to_owned)).expect("a reason") {
                Trouble::Unreachable(outage, text) => (text, Some(outage)),
                Trouble::Unauthorized(text) => (text, None),
                Trouble::Vague(text) => panic!("{text}"),
            }
        };
        let (trust, refused) = (Some(Outage::NoTrust), Some(Outage::Refused));
        let tls = "IO error: invalid peer certificate: Expired";
        let problem = Some("tls.client_key: x cannot be used");
        let expected =
            "nats://h:1: invalid peer certificate: Expired; tls.client_key: x cannot be used";
        assert_eq!(words(tls, problem), (expected.to_owned(), trust));
        assert_eq!(words("IO error: connection reset", problem).1, trust);
        let gone = "nats://h:1: Connection refused (os error 111)".to_owned();
        let said = words("IO error: Connection refused (os error 111)", None);
        assert_eq!(said, (gone, Some(Outage::NoServer)));
        let files = "Too many open files (os error 24)";
        let told = (format!("nats://h:1: {files}"), Some(Outage::NoFiles));
        assert_eq!(words(&format!("IO error: {files}"), None), told);
        let file = "failed signing nonce: AuthError(auth.creds_file: x cannot be read: gone)";
        let told = ("nats://h:1: auth.creds_file: x cannot be read: gone".to_owned(), None);
        assert_eq!(words(file, None), told);
        let limit = "IO error: nats: maximum connections exceeded";
        assert_eq!(words(limit, None).1, refused);
        let own = "IO error: invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))";
        let (text, outage) = words(own, None);
        assert!(text.contains("self-signed") && outage == trust, "{text}");
        let (text, outage) =
            words("IO error: received corrupt message of type InvalidContentType", None);
        assert!(text.ends_with("what answers there speaks no TLS") && outage == trust, "{text}");
    }

    #[test]
    fn a_hosts_name_decides_nothing() {
        let gone = "IO error: Connection refused (os error 111)";
        for host in ["nats-tls.example.org", "certificates.alert", "maximum.auth.handshake"] {
            for scheme in ["nats", "tls"] {
                let servers = [server(&format!("{scheme}://{host}:4222"), Some(gone))];
                let found = trouble(&servers, None);
                assert!(
                    matches!(found, Some(Trouble::Unreachable(Outage::NoServer, _))),
                    "{found:?}"
                );
            }
        }
        // Of several, the one that somebody has to look after counts.
        let servers = [
            server("nats://a:1", Some(gone)),
            server("nats://b:1", Some("IO error: invalid peer certificate: Expired")),
            server("nats://c:1", Some("IO error: nats: maximum connections exceeded")),
        ];
        let found = trouble(&servers, None);
        assert!(matches!(found, Some(Trouble::Unreachable(Outage::NoTrust, _))), "{found:?}");
        assert_eq!(trouble(&[server("nats://a:1", None)], Some("x".to_owned())), None);
    }

    #[test]
    fn what_an_earlier_handshake_found_is_not_why_a_later_try_failed() {
        let problem = Problem::default();
        let signals = Signals::new(Vec::new(), problem.clone(), Vec::new());
        let told = |error: &str| {
            signals.choose(&[server("tls://h:1", Some(error))]);
            signals.marks().trouble.take()
        };
        problem.set(Some("tls.client_key: x".to_owned()));
        let found = told("IO error: received fatal alert: BadCertificate");
        assert!(
            matches!(&found, Some(Trouble::Unreachable(Outage::NoTrust, text)) if text.ends_with("; tls.client_key: x")),
            "{found:?}"
        );
        let gone =
            Trouble::Unreachable(Outage::NoServer, "tls://h:1: Connection refused".to_owned());
        assert_eq!(told("IO error: Connection refused"), Some(gone));
    }

    #[test]
    fn the_farewell_of_one_connection_is_no_word_of_the_next() {
        let signals = Signals::default();
        let stale = ServerError::Other("Stale Connection".to_owned());
        signals.on_event(Event::ServerError(stale));
        signals.on_event(Event::Disconnected);
        signals.on_event(Event::Connected);
        assert_eq!(signals.marks().take_last_word(), None);
    }
}
