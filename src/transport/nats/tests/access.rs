//! Who we are to the server, what it lets us do, and encryption.

use std::path::PathBuf;

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
    up(&mut bob).await;
    for _ in 0..3 {
        let published = bob.publish(&message("eve", "bob"), Bytes::from_static(b"x")).await;
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
            matches!(&told, TransportEvent::Down { reason } if reason.contains("certificate")),
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
    assert_eq!(bob.publish(&message("eve", "bob"), token).await, Err(PublishError::NotConnected));
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
