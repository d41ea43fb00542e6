//! What keeps a connection from ever being tried.

use std::io;
use std::path::PathBuf;

/// A setting that keeps a connection from ever being tried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// `nats` holds something that is no address.
    #[error(
        "nats: {url:?} is not a server's address: write it like nats://localhost:4222 or tls://host:4222"
    )]
    Server {
        /// The address, without credentials.
        url: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// `nats` holds an address of another protocol.
    #[error("nats: {url:?} has the scheme {scheme}: only nats:// and tls:// are spoken")]
    Scheme {
        /// The address, without credentials.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// Several addresses, or an address and `auth`, name different users.
    #[error(
        "nats: {first} and {second} carry different users or passwords, or auth names another: give one in auth"
    )]
    TwoUsers {
        /// One address, without credentials.
        first: String,
        /// The other.
        second: String,
    },
    /// `auth.nkey` is not a seed.
    #[error("auth.nkey is not a seed: it is one word that begins with SU")]
    Nkey(#[source] io::Error),
    /// `auth.creds_file` cannot be read.
    #[error("auth.creds_file: {path} cannot be read", path = path.display())]
    CredsUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `auth.creds_file` is something else.
    #[error("auth.creds_file: {path} is not a credentials file with a JWT and a seed", path = path.display())]
    CredsInvalid {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("{field}: {path} cannot be used as PEM: {reason}", path = path.display())]
    Pem {
        /// The setting.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The client's certificate and key do not fit.
    #[error("tls.client_certificate and tls.client_key: {reason}")]
    ClientCertificate {
        /// Why.
        reason: String,
    },
    /// The system's certificates, or encryption itself.
    #[error("tls: {reason}")]
    Tls {
        /// Why.
        reason: String,
    },
    /// The client itself.
    #[error("the client refused to start")]
    Client(#[source] async_nats::Error),
}

impl ConnectError {
    /// Whether it is about encryption, rather than about who we are. What else there is was found at the start.
    pub(super) fn is_about_trust(&self) -> bool {
        !matches!(self, Self::Nkey(_) | Self::CredsUnreadable { .. } | Self::CredsInvalid { .. })
    }
}
