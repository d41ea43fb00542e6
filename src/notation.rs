//! How people write what settings hold: durations, and lists of words.

/// A list of words, or a text with commas between them.
pub(crate) mod words {
    use serde::{Deserialize, Deserializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        List(Vec<String>),
    }

    /// A keyword, in small letters, or names: one text without a comma is a keyword where it is one of these, and a list never is.
    pub(crate) enum Words {
        Keyword(&'static str),
        Names(Vec<String>),
    }

    pub(crate) fn read<'de, D: Deserializer<'de>>(
        from: D,
        keywords: &[&'static str],
    ) -> Result<Words, D::Error> {
        let text = match Written::deserialize(from)? {
            Written::List(names) => return Ok(Words::Names(names)),
            Written::Text(text) => text,
        };
        let meant = |keyword: &&&'static str| keyword.eq_ignore_ascii_case(text.trim());
        Ok(match keywords.iter().find(meant) {
            Some(keyword) => Words::Keyword(keyword),
            None => Words::Names(text.split(',').map(|name| name.trim().to_owned()).collect()),
        })
    }
}

/// Durations as people write them: `10s`, `5min`, `1h 30m`.
pub(crate) mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(|error| {
            serde::de::Error::custom(format!(
                "{text:?} is not a duration like 10s, 5min or 24h: {error}"
            ))
        })
    }
}

/// The same; `none` for no limit.
pub(crate) mod optional_duration {
    use std::time::Duration;

    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StringDeserializer};
    use serde::{Deserialize, Deserializer, Serializer};

    use super::duration;

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => duration::serialize(value, to),
            None => to.serialize_str("none"),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(from)?;
        if text == "none" {
            return Ok(None);
        }
        let text: StringDeserializer<Error> = text.into_deserializer();
        duration::deserialize(text).map(Some).map_err(serde::de::Error::custom)
    }
}
