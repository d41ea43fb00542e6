//! From a node's settings to the client's: servers, who we are, encryption.
//!
//! What can be wrong without any server being asked is found here, so that it fails the start.

use std::future::ready;
use std::io;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};

use super::ConnectError;
use super::files::{Problem, credentials, encryption, sign};
use crate::config::{Auth, Config, Tls, mask_url};
use crate::exposure::warn_of;
use crate::message::NodeId;

/// The client notices a dead link at the third ping that stays unanswered, so after three of these. Only a backstop: see `life`.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// For one server: connecting, encryption and its greeting together.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Commands that may wait in the client, a little more than the outbox gives it.
const CLIENT_CAPACITY: usize = 512;
/// Frames that may wait in one subscription before the client drops them.
const SUBSCRIPTION_CAPACITY: usize = 1_024;

/// The servers to try, and how. What is wrong with a file later on, though not so that it hinders a try, is noted in `problem`.
pub(super) fn options(
    config: &Config,
    me: &NodeId,
    problem: &Problem,
) -> Result<(Vec<ServerAddr>, ConnectOptions), ConnectError> {
    let given = servers(&config.nats)?;
    // A greeting, which comes in the clear, tells of other servers of the cluster, and not how to speak to them: whoever forges one
    // could lead us to a server without encryption.
    let encrypted = config.tls.required || given.iter().all(ServerAddr::tls_required);
    let mut options = authenticated(&config.auth, &given)?
        .name(me)
        .retry_on_initial_connect()
        .max_reconnects(None)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECTION_TIMEOUT)
        .client_capacity(CLIENT_CAPACITY)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .require_tls(encrypted);
    // Otherwise the client makes its own settings, should the server ask for encryption.
    if config.tls != Tls::default() || given.iter().any(ServerAddr::tls_required) {
        options = options.tls_client_config(encryption(&config.tls, problem)?);
    }
    Ok((given.into_iter().map(without_credentials).collect(), options))
}

/// They are given to the client apart: its log lines show addresses as they are.
fn without_credentials(server: ServerAddr) -> ServerAddr {
    let mut url = server.into_inner();
    url.set_username("").and_then(|()| url.set_password(None)).expect("an address with a host");
    ServerAddr::from_url(url).expect("the scheme that it had")
}

fn servers(urls: &[String]) -> Result<Vec<ServerAddr>, ConnectError> {
    let parse = |url: &String| {
        let server: ServerAddr =
            url.parse().map_err(|source| ConnectError::Server { url: mask_url(url), source })?;
        match server.scheme() {
            "nats" | "tls" if !server.host().is_empty() => Ok(server),
            "nats" | "tls" => Err(ConnectError::Server {
                url: mask_url(url),
                source: io::Error::new(io::ErrorKind::InvalidInput, "it has no host"),
            }),
            scheme => Err(ConnectError::Scheme { url: mask_url(url), scheme: scheme.to_owned() }),
        }
    };
    urls.iter().map(parse).collect()
}

fn authenticated(auth: &Auth, servers: &[ServerAddr]) -> Result<ConnectOptions, ConnectError> {
    let auth = &with_credentials_of(servers, auth)?;
    let options = ConnectOptions::new();
    if let Some(token) = &auth.token {
        return Ok(options.token(token.clone()));
    }
    if let (Some(user), Some(password)) = (&auth.user, &auth.password) {
        return Ok(options.user_and_password(user.clone(), password.clone()));
    }
    if let Some(seed) = &auth.nkey {
        let seed = seed.trim();
        nkeys::KeyPair::from_seed(seed).map_err(|e| ConnectError::Nkey(io::Error::other(e)))?;
        return Ok(options.nkey(seed.to_owned()));
    }
    if let Some(path) = auth.creds_file.clone() {
        credentials(&path)?;
        warn_of("auth.creds_file", &path);
        return Ok(ConnectOptions::with_auth_callback(move |nonce| ready(sign(&path, &nonce))));
    }
    Ok(options)
}

/// The client ignores a user, password or token in an address; people write them there all the same.
fn with_credentials_of(servers: &[ServerAddr], auth: &Auth) -> Result<Auth, ConnectError> {
    let mut found: Option<(&ServerAddr, Auth)> = None;
    for server in servers {
        let Some(user) = server.username().map(decode_percent) else { continue };
        let own = match server.password().map(decode_percent) {
            Some(password) => {
                Auth { user: Some(user), password: Some(password), ..Auth::default() }
            }
            None => Auth { token: Some(user), ..Auth::default() },
        };
        let first = found.get_or_insert_with(|| (server, own.clone()));
        if first.1 != own || (*auth != Auth::default() && *auth != own) {
            return Err(ConnectError::TwoUsers {
                first: mask_url(first.0.as_url_str()),
                second: mask_url(server.as_url_str()),
            });
        }
    }
    Ok(found.map_or_else(|| auth.clone(), |(_, own)| own))
}

fn decode_percent(text: &str) -> String {
    let hex = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let (mut rest, mut decoded) = (text.as_bytes(), Vec::with_capacity(text.len()));
    while let [first, tail @ ..] = rest {
        match tail.get(..2).filter(|_| *first == b'%').and_then(hex) {
            Some(byte) => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        let me = NodeId::new("alice").expect("a valid name");
        options(&config, &me, &Problem::default()).map(|_| ()).expect_err("a refusal").to_string()
    }

    #[test]
    fn what_is_wrong_before_any_server_is_asked_names_field_and_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let rubbish = folder.path().join("rubbish.pem");
        std::fs::write(&rubbish, "not a certificate").expect("a file");
        let missing = folder.path().join("missing");

        let text = refused(|c| c.auth.creds_file = Some(missing.clone()));
        assert!(text.contains("auth.creds_file") && text.contains("missing"), "{text}");
        let text = refused(|c| c.auth.creds_file = Some(rubbish.clone()));
        assert!(text.contains("auth.creds_file") && text.contains("rubbish.pem"), "{text}");
        let text = refused(|c| c.auth.nkey = Some("SUnonsense".to_owned()));
        assert!(text.contains("auth.nkey") && !text.contains("nonsense"), "{text}");
        for path in [&missing, &rubbish] {
            let name = path.file_name().expect("a name").to_str().expect("text");
            let text = refused(|c| c.tls.root_certificates = vec![path.clone()]);
            assert!(text.contains("tls.root_certificates") && text.contains(name), "{text}");
            let text = refused(|c| {
                c.tls.client_certificate = Some(path.clone());
                c.tls.client_key = Some(path.clone());
            });
            assert!(text.contains("tls.client_certificate") && text.contains(name), "{text}");
        }
    }

    #[test]
    fn addresses_that_cannot_be_tried_are_refused_without_their_passwords() {
        for url in ["http://u:secret@host:1", "ws://u:secret@host", "nats://u:secret@host:99999999"]
        {
            let text = refused(|c| c.nats = vec![url.to_owned()]);
            assert!(text.starts_with("nats: ") && !text.contains("secret"), "{text}");
        }
        let text = refused(|c| c.nats = vec!["nats://a:1@x".into(), "nats://b:2@y".into()]);
        assert!(text.contains("different") && !text.contains("b:2"), "{text}");
        let text = refused(|c| {
            c.nats = vec!["nats://a:1@x".into()];
            c.auth.token = Some("t".into());
        });
        assert!(text.contains("auth"), "{text}");
    }

    #[test]
    fn the_client_gets_addresses_without_credentials() {
        let urls = [
            "nats://us%40er:p%3Aw%@h:2",
            "nats://us%40er:p%3Aw%@[::1]:2",
            "nats://us%40er:p%3Aw%@h",
        ];
        let config = Config { nats: urls.map(str::to_owned).into(), ..Config::default() };
        let me = NodeId::new("alice").expect("a valid name");
        let (servers, _) = options(&config, &me, &Problem::default()).expect("valid settings");
        let shown: Vec<_> = servers.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(shown, ["nats://h:2", "nats://[::1]:2", "nats://h"]);
    }

    #[test]
    fn a_user_in_an_address_counts() {
        let parse = |url: &str| url.parse::<ServerAddr>().expect("an address");
        let auth = |urls: &[&str]| {
            let servers: Vec<_> = urls.iter().map(|url| parse(url)).collect();
            with_credentials_of(&servers, &Auth::default()).expect("one user")
        };
        let found = auth(&["nats://h:1", "nats://us%40er:p%3Aw%@h:2"]);
        assert_eq!(found.user.as_deref(), Some("us@er"));
        assert_eq!(found.password.as_deref(), Some("p:w%"));
        assert_eq!(auth(&["nats://secret@h:2"]).token.as_deref(), Some("secret"));
        assert_eq!(auth(&["nats://h:2"]), Auth::default());
    }
}
