//! Where to listen.

use std::fmt;
use std::str::FromStr;

/// A host and a port, both written out: there is no default, so that a server listens only where it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

/// What is no such address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The host is missing.
    #[error(
        "{text:?} names no host: write 127.0.0.1:{port} for this machine alone, or 0.0.0.0:{port} for everybody who reaches it"
    )]
    NoHost {
        /// What was written.
        text: String,
        /// The port in it.
        port: u16,
    },
    /// The port is missing, or is no port.
    #[error(
        "{text:?} does not end in a port from 0 to 65535: write HOST:PORT, like 127.0.0.1:9464"
    )]
    NoPort {
        /// What was written.
        text: String,
    },
    /// The host can be none.
    #[error(
        "{text:?} is no HOST:PORT: an address of IPv6 stands in brackets, like [::1]:9464, and there is no http:// and no path"
    )]
    BadHost {
        /// What was written.
        text: String,
    },
}

impl Address {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let owned = || text.to_owned();
        if text.parse::<std::net::SocketAddr>().is_ok() {
            return Ok(Self(owned()));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if !host.chars().all(is_name) {
            return Err(AddressError::BadHost { text: owned() });
        }
        let digits = port.chars().all(|c| c.is_ascii_digit());
        match port.parse::<u16>().ok().filter(|_| digits) {
            None => Err(AddressError::NoPort { text: owned() }),
            Some(port) if host.is_empty() => Err(AddressError::NoHost { text: owned(), port }),
            Some(_) => Ok(Self(owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_both_written_out() {
        for text in
            ["127.0.0.1:9464", "[::1]:0", "0.0.0.0:65535", "localhost:80", "till-7.example:1"]
        {
            assert_eq!(text.parse::<Address>().map(|it| it.to_string()).as_deref(), Ok(text));
        }
        for (text, says) in [
            ("9464", "127.0.0.1:9464"),
            (":9464", "127.0.0.1:9464"),
            ("", "HOST:PORT"),
            ("localhost", "does not end in a port"),
            ("localhost:", "does not end in a port"),
            ("127.0.0.1:65536", "does not end in a port"),
            ("127.0.0.1:+80", "does not end in a port"),
            ("::1:80x", "brackets"),
            ("::1", "brackets"),
            ("http://localhost:80", "no http://"),
            ("localhost:80/metrics", "does not end in a port"),
            ("a b:80", "no HOST:PORT"),
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
