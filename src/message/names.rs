//! Names and identifiers: newtypes that can only hold what passed their check.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

use super::{MAX_HEADER_BYTES, MAX_HEADERS};

/// Longest node id in bytes.
pub const MAX_NODE_ID_BYTES: usize = 64;
/// Longest channel name in bytes.
pub const MAX_CHANNEL_BYTES: usize = 255;
/// Longest kind in bytes.
pub const MAX_KIND_BYTES: usize = 64;
/// A name, identifier or header that was refused, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A node id that is empty, too long, or has other characters than `A-Z a-z 0-9 _ -`.
    #[error("node id {0:?} is not valid: use 1 to {MAX_NODE_ID_BYTES} of A-Z a-z 0-9 _ -")]
    NodeId(String),
    /// A channel name that is empty, too long, or has control characters.
    #[error(
        "channel {0:?} is not valid: use 1 to {MAX_CHANNEL_BYTES} bytes of UTF-8 without control characters"
    )]
    Channel(String),
    /// A kind that is empty, too long, or has other characters than `A-Z a-z 0-9 _ - . /`.
    #[error("kind {0:?} is not valid: use 1 to {MAX_KIND_BYTES} of A-Z a-z 0-9 _ - . /")]
    Kind(String),
    /// Text that is not a ULID (26 characters of Crockford's base 32).
    #[error("{0:?} is not a message id: it has 26 characters, like 01JD3Q5ZK8W7N2YV4R6T0X9ABC")]
    Id(String),
    /// A header name that is empty, too long, or has other characters than `A-Z a-z 0-9 _ - .`.
    #[error("header name {0:?} is not valid: use 1 to 128 of A-Z a-z 0-9 _ - .")]
    HeaderName(String),
    /// A header value with control characters.
    #[error("the value of header {0:?} has control characters")]
    HeaderValue(String),
    /// More headers than [`MAX_HEADERS`], or more bytes in them than [`MAX_HEADER_BYTES`].
    #[error(
        "{count} headers of {bytes} bytes together: at most {MAX_HEADERS} headers and {MAX_HEADER_BYTES} bytes"
    )]
    HeadersTooLarge {
        /// How many headers there are.
        count: usize,
        /// The bytes of all their names and values.
        bytes: usize,
    },
}

/// At most the first 80 characters, so that an error never repeats an enormous name.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

pub(super) fn only(text: &str, max: usize, extra: &[u8]) -> bool {
    (1..=max).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
}

/// Reads a text without keeping it in between.
struct Text<F>(F);

impl<T, F: FnOnce(&str) -> Result<T, NameError>> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $error:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text and takes it.
            ///
            /// # Errors
            /// A [`NameError`] that says what is allowed.
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                let text = text.as_ref();
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(NameError::$error(excerpt(text)))
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;
            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(Text(|text: &str| Self::new(text)))
            }
        }
    };
}

name!(
    /// A node's name: 1 to 64 of `A-Z a-z 0-9 _ -`, so that it can stand in a NATS subject.
    NodeId, NodeId, |text| only(text, MAX_NODE_ID_BYTES, b"_-")
);
name!(
    /// A channel's name: 1 to 255 bytes of UTF-8 without control characters. It never becomes part of a subject.
    ChannelName, Channel, |text| {
        (1..=MAX_CHANNEL_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
    }
);
name!(
    /// What a message is about, for the receiver to tell messages apart: 1 to 64 of `A-Z a-z 0-9 _ - . /`.
    Kind, Kind, |text| only(text, MAX_KIND_BYTES, b"_-./")
);

impl Default for Kind {
    fn default() -> Self {
        static MESSAGE: LazyLock<Kind> = LazyLock::new(|| Kind(Arc::from("message")));
        MESSAGE.clone()
    }
}

impl Kind {
    /// Whether it is the one of a message whose sender named none.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// The smallest id; it is never given out.
            pub const ZERO: Self = Self(Ulid(0));

            /// The id with this value.
            pub const fn from_u128(value: u128) -> Self {
                Self(Ulid(value))
            }

            /// The id as a number; ids compare as these numbers do.
            pub const fn as_u128(self) -> u128 {
                self.0.0
            }

            /// The 16 bytes, most significant first, so that they sort as the ids do.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.0.to_be_bytes()
            }

            /// The id with these 16 bytes, most significant first.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Ulid(u128::from_be_bytes(bytes)))
            }

            /// The time in the id, in milliseconds since 1970 by the clock of the node that made it.
            pub const fn timestamp_ms(self) -> u64 {
                (self.0.0 >> 80) as u64
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Ulid::from_string(text)
                    .map(Self)
                    .map_err(|_| NameError::Id(excerpt(text)))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                let mut text = [0; ulid::ULID_LEN];
                to.serialize_str(self.0.array_to_str(&mut text))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(Text(|text: &str| text.parse()))
            }
        }
    };
}

id!(
    /// A message's id: a [ULID](https://github.com/ulid/spec), strictly increasing for the node that gave it out, also
    /// across restarts and when its clock goes back.
    MessageId
);
id!(
    /// Made at every start of a node: tells one run of it from the next.
    Incarnation
);
id!(
    /// Made when a node's file is created, and again when the file turns out to be an older copy of itself.
    StoreId
);

impl MessageId {
    /// The next id after `last` at this time: in the time's millisecond with fresh random bits where that is larger than
    /// `last`, else `last` plus one, so that ids grow also when the clock stands still or goes back.
    #[doc(hidden)]
    #[must_use]
    pub fn after(last: Self, now_ms: u64, random: u128) -> Self {
        const RANDOM_BITS: u32 = 80;
        let fresh = (u128::from(now_ms) << RANDOM_BITS) | (random & ((1 << RANDOM_BITS) - 1));
        Self(Ulid(fresh.max(last.0.0.saturating_add(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for bad in ["", "a.b", "a b", "*", ">", "a\nb", "ä", &"x".repeat(65), &"x".repeat(300)] {
            assert_eq!(NodeId::new(bad), Err(NameError::NodeId(excerpt(bad))), "{bad:?}");
        }
        for bad in ["", "a\nb", "a\0", "a\u{85}b", &"x".repeat(256), &"é".repeat(128)] {
            assert!(ChannelName::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "two words", "kind\t", &"x".repeat(65)] {
            assert!(Kind::new(bad).is_err(), "{bad:?}");
        }
        assert!(NodeId::new("x".repeat(64)).is_ok());
        assert!(ChannelName::new("orders.> * ünïcode 🚢").is_ok());
        assert!(ChannelName::new("x".repeat(255)).is_ok());
    }

    #[test]
    fn an_error_about_a_long_name_is_short() {
        let error = NodeId::new("x".repeat(1_000_000)).expect_err("a refusal").to_string();
        assert!(error.len() < 300, "{} bytes", error.len());
    }

    #[test]
    fn ids_grow_when_the_clock_stands_still_or_goes_back() {
        let first = MessageId::after(MessageId::ZERO, 1_000, u128::MAX);
        let same = MessageId::after(first, 1_000, 0);
        let back = MessageId::after(same, 1, 7);
        let later = MessageId::after(back, 2_000, 0);
        assert!(first < same && same < back && back < later);
        assert_eq!(later.timestamp_ms(), 2_000);
        assert_eq!(first.to_string().parse(), Ok(first));
        assert_eq!(MessageId::from_bytes(back.to_bytes()), back);
    }
}
