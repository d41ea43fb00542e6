//! The NATS servers of a run: clients of our own at them, and word when one goes away.

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use tokio::sync::mpsc;
use waypost::{Auth, Config};

use crate::error::BenchError;

/// One server, and how to log in there.
#[derive(Clone)]
pub(crate) struct Server {
    config: Config,
    /// Without secrets.
    url: String,
}

/// Tells when a server went away: whatever was being measured then is spoilt, also where it comes back.
pub(crate) struct Lost {
    told: mpsc::Receiver<String>,
    /// Kept so that it never ends by itself.
    tell: mpsc::Sender<String>,
    watching: Vec<Client>,
}

impl Server {
    /// The servers of these settings.
    pub(crate) fn new(config: Config) -> Self {
        let url = config.nats.iter().map(|url| masked(url)).collect::<Vec<_>>().join(",");
        Self { config, url }
    }

    /// The same login at another address.
    pub(crate) fn at(&self, url: &str) -> Self {
        let mut config = self.config.clone();
        config.nats = vec![url.to_owned()];
        Self::new(config)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Where its first address leads, if what goes there can be forwarded as it is.
    pub(crate) fn plain_address(&self) -> Option<String> {
        let (scheme, host) = masked(self.config.nats.first()?).split_once("://").map(own)?;
        if scheme != "nats" || self.config.tls.required {
            return None;
        }
        let host = host.trim_end_matches('/');
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Some(if has_port { host.to_owned() } else { format!("{host}:4222") })
    }

    /// A client of its own.
    pub(crate) async fn client(&self) -> Result<Client, BenchError> {
        self.connect(self.login().await?).await
    }

    async fn connect(&self, options: ConnectOptions) -> Result<Client, BenchError> {
        let addresses: Vec<String> = self.config.nats.clone();
        let connected = options.connect(addresses).await;
        let url = self.url.clone();
        connected.map_err(|source| match source.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                BenchError::Refused { url, source }
            }
            _ => BenchError::NoServer { url, source },
        })
    }

    async fn login(&self) -> Result<ConnectOptions, BenchError> {
        let Auth { token, user, password, nkey, creds_file } = &self.config.auth;
        let mut options = ConnectOptions::new().name("waypost bench");
        if let Some(token) = token {
            options = options.token(token.clone());
        } else if let (Some(user), Some(password)) = (user, password) {
            options = options.user_and_password(user.clone(), password.clone());
        } else if let Some(seed) = nkey {
            options = options.nkey(seed.clone());
        } else if let Some(file) = creds_file {
            let file = options.credentials_file(file).await;
            options = file.map_err(BenchError::Credentials)?;
        } else if let Some((user, password)) = self.login_in_address() {
            options = match password {
                Some(password) => options.user_and_password(user, password),
                None => options.token(user),
            };
        }
        let tls = &self.config.tls;
        for file in &tls.root_certificates {
            options = options.add_root_certificates(file.clone());
        }
        if let (Some(certificate), Some(key)) = (&tls.client_certificate, &tls.client_key) {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        Ok(options.require_tls(tls.required))
    }

    /// `nats://user:password@host` or `nats://token@host`: the client ignores them.
    fn login_in_address(&self) -> Option<(String, Option<String>)> {
        let (login, _) = self.config.nats.first()?.rsplit_once('@')?;
        let login = login.split_once("://").map_or(login, |(_, login)| login);
        Some(match login.split_once(':') {
            Some((user, password)) => (user.to_owned(), Some(password.to_owned())),
            None => (login.to_owned(), None),
        })
    }
}

impl Lost {
    pub(crate) fn new() -> Self {
        let (tell, told) = mpsc::channel(4);
        Self { told, tell, watching: Vec::new() }
    }

    /// Watches this server from now on, by a connection for nothing else.
    pub(crate) async fn watch(&mut self, server: &Server) -> Result<Client, BenchError> {
        let (tell, url) = (self.tell.clone(), server.url.clone());
        let options = server.login().await?.event_callback(move |event| {
            if matches!(event, Event::Disconnected | Event::Closed) {
                // One word is enough: a full channel has it already.
                let _ = tell.try_send(url.clone());
            }
            std::future::ready(())
        });
        let client = server.connect(options).await?;
        self.watching.push(client.clone());
        Ok(client)
    }

    /// Waits until one of them goes away; its address.
    pub(crate) async fn lost(&mut self) -> String {
        match self.told.recv().await {
            Some(url) => url,
            None => std::future::pending().await,
        }
    }
}

fn own((scheme, host): (&str, &str)) -> (String, String) {
    (scheme.to_owned(), host.to_owned())
}

/// The address without what stands in it to log in with.
fn masked(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("nats", url), |(s, r)| (s, r));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_in_the_address_is_used_and_never_shown() {
        for (url, login) in [
            ("nats://u:hunter2@host:4222", Some(("u".to_owned(), Some("hunter2".to_owned())))),
            ("tok3n@host", Some(("tok3n".to_owned(), None))),
            ("nats://host", None),
        ] {
            let mut config = Config::default();
            config.nats = vec![url.to_owned()];
            let server = Server::new(config);
            assert_eq!(server.login_in_address(), login);
            assert!(server.url().ends_with("host:4222") || server.url().ends_with("host"));
            assert!(!server.url().contains('@'), "{}", server.url());
        }
    }
}
