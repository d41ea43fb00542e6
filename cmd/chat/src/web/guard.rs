//! Who may use the page: requests for our hosts, sockets from our own pages, holders of the token.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use axum::http::header::{COOKIE, HOST, ORIGIN};

/// Knows our own addresses and the token.
pub(crate) struct Guard {
    /// Origins of our pages, exactly as browsers write them.
    origins: Vec<String>,
    /// One cookie a port: browsers send cookies of a host to all its ports.
    cookie: String,
    token: Option<String>,
}

impl Guard {
    /// For a page served here, and under these origins besides.
    pub(crate) fn new(address: SocketAddr, token: Option<String>, more: &[String]) -> Self {
        let port = address.port();
        let mut hosts = vec![host(address.ip())];
        if address.ip().is_loopback() || address.ip().is_unspecified() {
            hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        }
        let own = hosts.into_iter().map(|host| match port {
            80 => format!("http://{host}"),
            _ => format!("http://{host}:{port}"),
        });
        let more = more.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase());
        Self { origins: own.chain(more).collect(), cookie: format!("chat-token-{port}"), token }
    }

    /// Whether a request names one of our hosts. A page of another site whose name was made to lead here has that name in it.
    pub(crate) fn is_our_host(&self, headers: &HeaderMap) -> bool {
        let Some(host) = only(headers, &HOST) else { return false };
        let host = host.to_ascii_lowercase();
        let is_ours =
            |origin: &String| origin.split_once("://").is_some_and(|(_, own)| own == host);
        self.origins.iter().any(is_ours)
    }

    /// Whether a socket is opened by one of our own pages.
    pub(crate) fn is_our_origin(&self, headers: &HeaderMap) -> bool {
        only(headers, &ORIGIN).is_some_and(|origin| self.origins.iter().any(|own| own == origin))
    }

    /// Whether the token was shown, where there is one.
    pub(crate) fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookies.flat_map(|cookies| cookies.split(';')).any(|cookie| {
            let (name, value) = cookie.trim().split_once('=').unwrap_or_default();
            name == self.cookie && is_same(value, token)
        })
    }

    /// The cookie for whoever shows the right token.
    pub(crate) fn cookie(&self, shown: &str) -> Option<String> {
        let token = self.token.as_ref().filter(|token| is_same(shown, token))?;
        Some(format!("{}={token}; Path=/; HttpOnly; SameSite=Strict", self.cookie))
    }
}

/// An address as it stands in a URL.
pub(crate) fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &axum::http::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Takes as long wherever the first difference is.
fn is_same(shown: &str, token: &str) -> bool {
    let differences = shown.bytes().zip(token.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    shown.len() == token.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    fn here(token: Option<&str>) -> Guard {
        let address = "127.0.0.1:8081".parse().expect("an address");
        Guard::new(address, token.map(str::to_owned), &["https://Chat.example.org/".to_owned()])
    }

    #[test]
    fn only_our_own_pages_open_a_socket() {
        let guard = here(None);
        let is_ours = |origin| guard.is_our_origin(&headers(&[("origin", origin)]));
        for ours in ["http://127.0.0.1:8081", "http://localhost:8081", "https://chat.example.org"] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in [
            "http://127.0.0.1:8082",
            "http://127.0.0.1",
            "https://127.0.0.1:8081",
            "null",
            "",
            "http://evil.example",
            "http://127.0.0.1:8081.evil.example",
            "http://evil.example/http://127.0.0.1:8081",
            "http://localhost:80811",
        ] {
            assert!(!is_ours(other), "{other}");
        }
        assert!(!guard.is_our_origin(&headers(&[])));
        let twice = [("origin", "http://localhost:8081"), ("origin", "http://localhost:8081")];
        assert!(!guard.is_our_origin(&headers(&twice)));
    }

    #[test]
    fn a_name_that_was_made_to_lead_here_is_refused() {
        let guard = here(None);
        assert!(guard.is_our_host(&headers(&[("host", "LOCALHOST:8081")])));
        assert!(!guard.is_our_host(&headers(&[("host", "evil.example:8081")])));
        assert!(!guard.is_our_host(&headers(&[])));
    }

    #[test]
    fn whoever_showed_the_token_is_known() {
        let guard = here(Some("secret-token"));
        assert!(!guard.knows(&headers(&[])));
        assert_eq!(guard.cookie("secret-tokem"), None);
        let cookie = guard.cookie("secret-token").expect("a cookie");
        let shown = cookie.split(';').next().expect("a value");
        assert!(guard.knows(&headers(&[("cookie", &format!("a=b; {shown}"))])));
        assert!(!guard.knows(&headers(&[("cookie", "chat-token-8081=secret")])));
        assert!(here(None).knows(&headers(&[])));
    }
}
