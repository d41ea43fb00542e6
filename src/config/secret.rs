//! Settings that hold secrets, read so that no error repeats them.
//!
//! Serde's own errors show the value that they did not expect: a password of digits without its quotes, an address with a user in it
//! where a list should be.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::Auth;

/// A token, user, password or seed.
pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(from).map_err(|_| D::Error::custom("expected a text in quotes"))
}

/// The servers' addresses.
pub(super) fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Vec::deserialize(from).map_err(|_| {
        D::Error::custom("expected a list of addresses, like [\"nats://localhost:4222\"]")
    })
}

/// The ways to log in. What is wrong inside tells it itself.
pub(super) fn section<'de, D: Deserializer<'de>>(from: D) -> Result<Auth, D::Error> {
    from.deserialize_any(Section)
}

struct Section;

impl Section {
    fn refused<T, E: Error>() -> Result<T, E> {
        Err(E::custom(
            "expected a section with one way to log in, like [auth] and creds_file below it",
        ))
    }
}

impl<'de> Visitor<'de> for Section {
    type Value = Auth;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section with one way to log in")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Auth, A::Error> {
        Auth::deserialize(MapAccessDeserializer::new(map))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Auth, E> {
        Self::refused()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Auth, E> {
        Self::refused()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Auth, E> {
        Self::refused()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Auth, E> {
        Self::refused()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn no_error_repeats_a_secret() {
        for json in [
            r#"{"auth": {"token": 271828}}"#,
            r#"{"auth": {"user": "u", "password": 271828}}"#,
            r#"{"auth": {"nkey": ["271828"]}}"#,
            r#"{"auth": {"nkey": 271828.5}}"#,
            r#"{"auth": "271828"}"#,
            r#"{"auth": 271828}"#,
            r#"{"auth": -271828}"#,
            r#"{"auth": 271828.5}"#,
            r#"{"auth": ["271828"]}"#,
            r#"{"nats": "nats://u:271828@host"}"#,
            r#"{"nats": ["nats://u:271828@host", 271828]}"#,
        ] {
            let error = serde_json::from_str::<Config>(json).expect_err("a refusal").to_string();
            assert!(!error.contains("271828"), "{error}");
            assert!(error.contains("expected"), "{error}");
        }
        let error = serde_json::from_str::<Config>(r#"{"auth": {"pasword": "271828"}}"#);
        assert!(error.expect_err("a refusal").to_string().contains("unknown field `pasword`"));
        let read = r#"{"auth": {"token": null, "nkey": "seed"}, "nats": ["a", "b"]}"#;
        let config: Config = serde_json::from_str(read).expect("settings");
        assert_eq!((config.auth.token, config.auth.nkey.as_deref()), (None, Some("seed")));
        assert_eq!(config.nats, ["a", "b"]);
    }
}
