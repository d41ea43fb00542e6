//! Who we are to the server, what it lets us do, and encryption.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

#[tokio::test]
async fn a_wrong_password_is_told_once_until_it_is_right() {
    let with = |password: &str| format!("authorization {{ user: bob, password: {password} }}");
    let mut server = NatsServer::with_config(with("right"));
    let mut settings = config(&server.url());
    settings.auth.user = Some("bob".to_owned());
    settings.auth.password = Some("wrong".to_owned());
    let mut bob = connect(&settings, "bob").await;
    let told = next(&mut bob).await;
    assert!(
        matches!(&told, TransportEvent::Unauthorized { reason }
        if reason.to_lowercase().contains("authorization violation") && !reason.contains("wrong")),
        "{told:?}"
    );
    let tries = || server.log().matches("authentication error").count();
    let (before, silent) = (tries(), Clock::now() + SOON);
    while tries() < before + 3 {
        assert!(Clock::now() < silent, "the server is tried again: {}", server.log());
        let told = timeout(Duration::from_millis(50), bob.next()).await;
        assert!(told.is_err(), "{told:?} although nothing changed");
    }
    server.restart_with(with("wrong"));
    up(&mut bob).await;
    server.restart_with(with("other"));
    assert!(is_down(&next(&mut bob).await));
    assert!(matches!(next(&mut bob).await, TransportEvent::Unauthorized { .. }));
}

#[tokio::test]
async fn tokens_nkeys_and_users_in_addresses_are_accepted() {
    let pair = nkeys::KeyPair::new_user();
    let seed = pair.seed().expect("a new pair has its seed");
    let nkey = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", pair.public_key());
    let user = "authorization { user: bob, password: \"p:w\" }".to_owned();
    let token = "authorization { token: secret }".to_owned();
    for (text, url, seed, token) in [
        (nkey, "nats://", Some(seed), None),
        (user, "nats://bob:p%3Aw@", None, None),
        (token.clone(), "nats://secret@", None, None),
        (token, "nats://", None, Some("secret".to_owned())),
    ] {
        let server = NatsServer::with_config(text);
        let mut settings = config(&format!("{url}127.0.0.1:{}", server.port()));
        settings.auth.nkey = seed;
        settings.auth.token = token;
        let mut bob = connect(&settings, "bob").await;
        let (_, info) = up(&mut bob).await;
        assert!(!info.address.contains("secret") && !info.address.contains("p%3Aw"));
    }
}

#[tokio::test]
async fn a_denied_subject_is_told_once() {
    let text = r#"authorization { users: [ { user: bob, password: b, permissions: {
        publish: "waypost.mgmt.>", subscribe: { deny: "waypost.msg.>" } } } ] }"#;
    let server = NatsServer::with_config(text);
    let mut settings = config(&server.url());
    settings.auth.user = Some("bob".to_owned());
    settings.auth.password = Some("b".to_owned());
    let mut bob = connect(&settings, "bob").await;
    let denied = |event: &TransportEvent, word: &str| matches!(event, TransportEvent::Denied { reason } if reason.contains(word));
    // Before Up, which is not the whole truth without this subscription.
    let told = next(&mut bob).await;
    assert!(denied(&told, "waypost.msg.bob.*"), "{told:?}");
    match next(&mut bob).await {
        // Nor is it forgotten there.
        TransportEvent::Up { denied, .. } => {
            assert!(denied.len() == 1 && denied[0].contains("waypost.msg.bob.*"), "{denied:?}");
        }
        other => panic!("{other:?} instead of Up"),
    }
    for _ in 0..3 {
        let published = bob.try_publish(&message("eve", "bob"), Bytes::from_static(b"x"));
        published.expect("taken by the client");
    }
    let told = next(&mut bob).await;
    assert!(denied(&told, "waypost.msg.eve.bob"), "{told:?}");
    let again = timeout(4 * LOOK_INTERVAL, bob.next()).await;
    assert!(again.is_err(), "{again:?}");
}

fn pem(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support/tls").join(name)
}

#[tokio::test]
async fn encryption_with_our_own_authority_and_certificate() {
    let text = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        pem("server.pem"),
        pem("server-key.pem"),
        pem("ca.pem")
    );
    let server = NatsServer::with_config(text);
    for url in [server.url(), format!("tls://localhost:{}", server.port())] {
        let mut settings = config(&url);
        settings.tls.root_certificates = vec![pem("ca.pem")];
        settings.tls.client_certificate = Some(pem("client.pem"));
        settings.tls.client_key = Some(pem("client-key.pem"));
        let mut bob = connect(&settings, "bob").await;
        up(&mut bob).await;
        bob.close(SOON).await;

        settings.tls.root_certificates.clear();
        let mut bob = connect(&settings, "bob").await;
        let told = next(&mut bob).await;
        assert!(
            matches!(&told, TransportEvent::Down { reason, .. } if reason.contains("certificate")),
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn encryption_that_we_require_is_not_done_without() {
    let server = NatsServer::start();
    let mut settings = config(&server.url());
    settings.tls.required = true;
    let mut bob = connect(&settings, "bob").await;
    assert!(is_down(&next(&mut bob).await));
    let token = Bytes::from_static(b"x");
    assert_eq!(bob.try_publish(&message("eve", "bob"), token), Err(PublishError::NotConnected));
}

/// Passes a connection on to a server, whose greeting, which always comes in the clear, it makes tell of another server; ends it
/// as soon as that is done.
async fn meddle(listener: &TcpListener, server: u16, other: SocketAddr) {
    let (mut client, _) = listener.accept().await.expect("a connection");
    let mut server =
        BufReader::new(TcpStream::connect(("127.0.0.1", server)).await.expect("it runs"));
    let mut greeting = String::new();
    server.read_line(&mut greeting).await.expect("a greeting");
    let told = format!("INFO {{\"connect_urls\":[\"{other}\"],");
    client.write_all(greeting.replace("INFO {", &told).as_bytes()).await.expect("written");
    let copying = tokio::io::copy_bidirectional(&mut client, &mut server);
    // Long enough for the handshake; if it was not, the client comes again.
    let _ = timeout(Duration::from_millis(500), copying).await;
}

/// The first byte that a client says to a server that pretends to know no encryption.
async fn trap(listener: &TcpListener) -> u8 {
    let (mut client, _) = listener.accept().await.expect("a connection");
    let greeting = b"INFO {\"server_id\":\"x\",\"version\":\"2.10.0\",\"max_payload\":1000,\"headers\":true}\r\n";
    client.write_all(greeting).await.expect("written");
    let mut first = [0; 1];
    client.read_exact(&mut first).await.expect("an answer");
    first[0]
}

#[tokio::test]
async fn somebody_on_the_path_cannot_lead_us_to_a_server_without_encryption() {
    let server = NatsServer::with_config(format!(
        "tls {{ cert_file: {:?}, key_file: {:?} }}",
        pem("server.pem"),
        pem("server-key.pem")
    ));
    let path = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let other = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = |listener: &TcpListener| listener.local_addr().expect("a bound socket");
    let mut settings = config(&format!("tls://localhost:{}", address(&path).port()));
    settings.tls.root_certificates = vec![pem("ca.pem")];
    settings.auth.user = Some("bob".to_owned());
    settings.auth.password = Some("hunter2".to_owned());
    let mut bob = connect(&settings, "bob").await;
    let first = tokio::select! {
        first = timeout(SOON, trap(&other)) => first.expect("the other server is tried"),
        () = async { loop { meddle(&path, server.port(), address(&other)).await } } => unreachable!(),
        () = async { loop { bob.next().await; } } => unreachable!(),
    };
    // So begins a TLS handshake, which comes to nothing there; CONNECT, with the password, begins with a letter.
    assert_eq!(first, 22);
}

#[tokio::test]
async fn a_credentials_file_is_sent_signed() {
    let seed = nkeys::KeyPair::new_user().seed().expect("a new pair has its seed");
    let creds = format!(
        "-----BEGIN NATS USER JWT-----\neyJhbGciOiJlZDI1NTE5In0.e30.c2ln\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bob.creds");
    std::fs::write(&file, creds).expect("a file");
    // Who gave out the token is the server's business: one without credentials lets everybody in, with a valid form.
    let server = NatsServer::start();
    let mut settings = config(&server.url());
    settings.auth.creds_file = Some(file);
    let mut bob = connect(&settings, "bob").await;
    up(&mut bob).await;
}

fn says(event: &TransportEvent, words: &[&str]) -> bool {
    matches!(event, TransportEvent::Down { reason, .. } | TransportEvent::Unauthorized { reason }
        if words.iter().all(|word| reason.contains(word)))
}

/// A folder with files that are replaced while a node uses them.
struct Renewed(tempfile::TempDir);

impl Renewed {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    fn take(&self, name: &str, from: &str) {
        self.write(name, std::fs::read(pem(from)).expect("a file of the tests"));
    }
}

#[tokio::test]
async fn certificates_that_are_renewed_on_disk_are_used_at_the_next_try() {
    let files = Renewed(tempfile::tempdir().expect("a folder"));
    let mut server = NatsServer::with_config(format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        pem("server.pem"),
        pem("server-key.pem"),
        pem("ca.pem")
    ));
    files.take("ca.pem", "ca.pem");
    files.take("own.pem", "server.pem");
    files.take("own-key.pem", "server-key.pem");
    let mut settings = config(&server.url());
    settings.tls.root_certificates = vec![files.path("ca.pem")];
    settings.tls.client_certificate = Some(files.path("own.pem"));
    settings.tls.client_key = Some(files.path("own-key.pem"));
    let mut bob = connect(&settings, "bob").await;
    let is_trust = |event: &TransportEvent| {
        matches!(event, TransportEvent::Down { outage: Outage::NoTrust, .. })
    };
    // No server takes another server's certificate from a client.
    assert!(is_down(&next(&mut bob).await));
    // A renewal replaces one file after the other.
    files.take("own.pem", "client.pem");
    until(&mut bob, SOON, |event| says(event, &["tls.client_certificate", "tls.client_key"])).await;
    files.take("own-key.pem", "client-key.pem");
    until(&mut bob, SOON, is_up).await;

    files.write("ca.pem", "half a fi");
    server.restart();
    let told =
        until(&mut bob, SOON, |event| says(event, &["tls.root_certificates", "ca.pem"])).await;
    assert!(is_trust(&told), "{told:?}");
    // With the server gone that is not the reason any more.
    server.stop();
    let gone = until(&mut bob, SOON, is_down).await;
    assert!(says(&gone, &["refused"]) && !says(&gone, &["ca.pem"]) && !is_trust(&gone), "{gone:?}");
    server.restart();
    // An authority that is none of the server's.
    files.take("ca.pem", "client.pem");
    until(&mut bob, SOON, |event| says(event, &["invalid peer certificate"])).await;
    files.take("ca.pem", "ca.pem");
    until(&mut bob, SOON, is_up).await;
}

/// What a client says to a server that greets and listens.
async fn first_words(listener: &TcpListener) -> String {
    let (client, _) = listener.accept().await.expect("a connection");
    let mut client = BufReader::new(client);
    let greeting = b"INFO {\"server_id\":\"x\",\"version\":\"2.10.0\",\"max_payload\":1000,\"headers\":true,\"auth_required\":true,\"nonce\":\"abc\"}\r\n";
    client.write_all(greeting).await.expect("written");
    let mut words = String::new();
    client.read_line(&mut words).await.expect("an answer");
    words
}

#[tokio::test]
async fn credentials_that_are_renewed_on_disk_are_used_at_the_next_try() {
    let files = Renewed(tempfile::tempdir().expect("a folder"));
    let creds = |jwt: &str| {
        let seed = nkeys::KeyPair::new_user().seed().expect("a new pair has its seed");
        format!("---BEGIN---\n{jwt}\n---END---\n\n---BEGIN---\n{seed}\n---END---\n")
    };
    files.write("bob.creds", creds("first.jwt"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut settings = config(&format!("nats://{}", listener.local_addr().expect("bound")));
    settings.auth.creds_file = Some(files.path("bob.creds"));
    let mut bob = connect(&settings, "bob").await;
    let words = while_driven(&mut bob, first_words(&listener)).await;
    assert!(words.starts_with("CONNECT ") && words.contains("first.jwt"), "{words}");
    std::fs::remove_file(files.path("bob.creds")).expect("it was there");
    let told = tokio::select! {
        told = until(&mut bob, SOON, |event| says(event, &["auth.creds_file", "bob.creds"])) => told,
        () = async { loop { first_words(&listener).await; } } => unreachable!(),
    };
    assert!(matches!(told, TransportEvent::Unauthorized { .. }), "{told:?}");
    files.write("bob.creds", creds("second.jwt"));
    let second = async { while !first_words(&listener).await.contains("second.jwt") {} };
    timeout(SOON, while_driven(&mut bob, second)).await.expect("the new one is sent");
}

#[tokio::test]
async fn a_limit_of_subscriptions_is_told_like_a_denial() {
    for limit in [5, 6] {
        let mut server = NatsServer::with_config(format!("max_subscriptions: {limit}"));
        let mut bob = connect(&config(&server.url()), "bob").await;
        let denied = |event: &TransportEvent| {
            matches!(event, TransportEvent::Denied { reason }
            if reason.starts_with("maximum subscriptions exceeded: a node needs 7")
                && reason.contains("waypost.election.*"))
        };
        until(&mut bob, SOON, denied).await;
        server.restart_with("max_subscriptions: 7");
        until(&mut bob, SOON, is_up).await;
    }
}

#[tokio::test]
async fn a_servers_last_words_are_told() {
    let server = NatsServer::with_config("max_connections: 1");
    let mut first = connect(&config(&server.url()), "first").await;
    // The one connection may still be that of whoever looked whether the server is there.
    until(&mut first, SOON, is_up).await;
    let mut bob = connect(&config(&server.url()), "bob").await;
    let told = until(&mut bob, SOON, is_down).await;
    assert!(says(&told, &["maximum connections exceeded"]), "{told:?}");
    first.close(SOON).await;
    until(&mut bob, SOON, is_up).await;
}

#[tokio::test]
async fn a_client_that_cannot_be_replaced_is_told_once() {
    let files = Renewed(tempfile::tempdir().expect("a folder"));
    let server = NatsServer::start();
    files.take("ca.pem", "ca.pem");
    let mut settings = config(&server.url());
    settings.tls.root_certificates = vec![files.path("ca.pem")];
    let mut bob = connect(&settings, "bob").await;
    up(&mut bob).await;
    files.write("ca.pem", "half a fi");
    bob.client_ended();
    assert!(says(&next(&mut bob).await, &["the client ended"]));
    let told = next(&mut bob).await;
    assert!(says(&told, &["cannot be replaced", "tls.root_certificates", "ca.pem"]), "{told:?}");
    assert!(matches!(told, TransportEvent::Down { outage: Outage::NoTrust, .. }), "{told:?}");
    bob.reopen_at = Some(Instant::now());
    assert!(timeout(4 * LOOK_INTERVAL, bob.next()).await.is_err(), "the same is told once");
    files.take("ca.pem", "ca.pem");
    bob.reopen_at = Some(Instant::now());
    until(&mut bob, SOON, is_up).await;
}
