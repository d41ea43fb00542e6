//! C2: what is renewed on disk, at the server and here, while a node is connected and while it is away.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use nkeys::KeyPair;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};

use crate::program::{PATIENCE, Program};
use crate::support::eventually;
use crate::support::nats_server::NatsServer;

/// A token as `nsc` makes them.
fn token(claims: Value, issuer: &KeyPair) -> String {
    let part = |value: &Value| BASE64.encode(value.to_string());
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let signed = format!("{}.{}", part(&head), part(&claims));
    let signature = issuer.sign(signed.as_bytes()).expect("a pair with its seed");
    format!("{signed}.{}", BASE64.encode(signature))
}

/// An operator with one account, whose users come and go.
struct Authority {
    operator: KeyPair,
    account: KeyPair,
}

impl Authority {
    fn new() -> Self {
        Self { operator: KeyPair::new_operator(), account: KeyPair::new_account() }
    }

    /// A server's settings.
    fn settings(&self) -> String {
        let operator = self.operator.public_key();
        let account = self.account.public_key();
        let own = json!({ "jti": "o", "iat": now(), "iss": operator, "sub": operator, "name": "o",
            "nats": { "type": "operator", "version": 2 } });
        let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1 });
        let of_account = json!({ "jti": "a", "iat": now(), "iss": operator, "sub": account, "name": "a",
            "nats": { "type": "account", "version": 2, "limits": limits } });
        format!(
            "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {account}: {} }}\n",
            token(own, &self.operator),
            token(of_account, &self.operator)
        )
    }

    /// A credentials file that is good for so long.
    fn creds(&self, lasts: Duration) -> String {
        let user = KeyPair::new_user();
        let claims = json!({ "jti": user.public_key(), "iat": now(), "exp": now() + lasts.as_secs(),
            "iss": self.account.public_key(), "sub": user.public_key(), "name": "u",
            "nats": { "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
                "pub": {}, "sub": {} } });
        let (jwt, seed) = (token(claims, &self.account), user.seed().expect("a new pair"));
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

fn pem(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/support/tls");
    std::fs::read(folder.join(name)).expect("a file of the tests")
}

#[test]
fn certificates_and_credentials_that_are_renewed_on_disk_let_a_running_node_back_in() {
    const LONG: Duration = Duration::from_secs(3_600);
    let authority = Authority::new();
    let here = Program::new("");
    let [cert, key, ca, creds] =
        ["server.pem", "server-key.pem", "ca.pem", "node.creds"].map(|name| here.path(name));
    let write = |path: &std::path::Path, what: &[u8]| std::fs::write(path, what).expect("written");
    let take = |path: &std::path::Path, from: &str| write(path, &pem(from));
    take(&cert, "server.pem");
    take(&key, "server-key.pem");
    take(&ca, "ca.pem");
    // Connected, its credentials run out; new ones lie there before that.
    let (brief, began) = (Duration::from_secs(15), Instant::now());
    write(&creds, authority.creds(brief).as_bytes());
    let encrypted = format!("tls {{ cert_file: {cert:?}, key_file: {key:?} }}");
    let mut server = NatsServer::with_config(format!("{}{encrypted}", authority.settings()));
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let here =
        here.with("WAYPOST_NATS", &server.url()).with("WAYPOST_TLS_ROOT_CERTIFICATES", &text(&ca));
    let other = here.path("other.creds");
    write(&other, authority.creds(LONG).as_bytes());
    let arrives = |what: &str| {
        here.run(&format!("send c {what} --id alice --to bob --wait 35s --creds other.creds"))
            .expect_code(0);
    };
    let mut reader = here.spawn("recv c --id bob --creds node.creds");
    arrives("one");
    assert_eq!(reader.line(), "one");
    write(&creds, authority.creds(LONG).as_bytes());
    // Those of the start are over by then, whatever the machine does meanwhile: a token's times are whole seconds.
    std::thread::sleep((brief + Duration::from_secs(1)).saturating_sub(began.elapsed()));
    arrives("two");
    assert_eq!(reader.line(), "two");

    // Away: those on disk have run out and none follow, which is told; then some come.
    write(&creds, authority.creds(Duration::ZERO).as_bytes());
    server.restart();
    // The same reason in our own words is told once a minute, and was when those of the start ran out.
    let refused = || reader.said().contains("authorization violation");
    eventually(PATIENCE, "it is refused", refused);
    write(&creds, authority.creds(LONG).as_bytes());
    arrives("three");
    assert_eq!(reader.line(), "three");

    // Away: the server's certificate is one of another authority, and it is not trusted; then ours is renewed.
    server.stop();
    take(&cert, "expired.pem");
    take(&key, "expired-key.pem");
    server.restart();
    let wary = || reader.said().contains("no encrypted connection to NATS");
    eventually(PATIENCE, "it does not trust the server", wary);
    take(&cert, "server.pem");
    take(&key, "server-key.pem");
    server.restart();
    arrives("four");
    assert_eq!(reader.line(), "four");

    // Connected: our list of authorities becomes another one, and the right one again before it is needed.
    take(&ca, "expired-ca.pem");
    arrives_not(&here);
    take(&ca, "ca.pem");
    server.restart();
    arrives("five");
    assert_eq!(reader.line(), "five");
    reader.signal(rustix::process::Signal::TERM);
    let ended = reader.ended().expect_code(0);
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
}

/// Whoever starts now does not trust the server.
fn arrives_not(here: &Program) {
    let sent = here.run("send c x --id carol --to nobody --flush 2s --creds other.creds");
    assert!(sent.err.contains("no encrypted connection to NATS"), "{}", sent.err);
}
