//! A size in bytes, as a number or as people write it: `500MB`, `2GiB`, `none`.

use std::fmt;
use std::num::NonZeroU64;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

const UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
];

#[allow(clippy::ref_option)] // What serde calls it with.
pub(super) fn serialize<S: Serializer>(
    size: &Option<NonZeroU64>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match size {
        Some(size) => to.serialize_u64(size.get()),
        None => to.serialize_str("none"),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<NonZeroU64>, D::Error> {
    from.deserialize_any(Size)
}

struct Size;

impl Visitor<'_> for Size {
    type Value = Option<NonZeroU64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size above 0 in bytes, or with KB, MB, GB, KiB, MiB or GiB, or none")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<Self::Value, E> {
        let above_zero = NonZeroU64::new(bytes).map(Some);
        above_zero.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Unsigned(bytes), &self))
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<Self::Value, E> {
        match u64::try_from(bytes) {
            Ok(bytes) => self.visit_u64(bytes),
            Err(_) => Err(E::invalid_value(serde::de::Unexpected::Signed(bytes), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if text == "none" {
            return Ok(None);
        }
        let refused = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
        let digits = text.trim().find(|c: char| !c.is_ascii_digit()).unwrap_or(text.trim().len());
        let (number, unit) = text.trim().split_at(digits);
        let unit = unit.trim().to_ascii_lowercase();
        let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
        let bytes = number.parse::<u64>().ok().zip(factor).and_then(|(n, f)| n.checked_mul(*f));
        bytes.and_then(NonZeroU64::new).map(Some).ok_or_else(refused)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn read(value: serde_json::Value) -> Result<Option<u64>, String> {
        let config: Result<Config, _> =
            serde_json::from_value(serde_json::json!({ "storage_limit": value }));
        config.map(|config| config.storage_limit.map(Into::into)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_size_is_a_number_a_text_or_none() {
        for (text, bytes) in [
            ("50000000", 50_000_000),
            ("500 MB", 500_000_000),
            ("2GiB", 2 << 30),
            ("64kib", 65_536),
            ("7 b", 7),
        ] {
            assert_eq!(read(text.into()), Ok(Some(bytes)), "{text}");
        }
        assert_eq!(read(5_000_000.into()), Ok(Some(5_000_000)));
        assert_eq!(read("none".into()), Ok(None));
        for bad in ["", "0", "-1", "1.5GB", "GB", "5 furlongs", "99999999999 GiB"] {
            let error = read(bad.into()).expect_err(bad);
            assert!(error.contains("a size above 0 in bytes"), "{error}");
        }
        for bad in [serde_json::json!(0), serde_json::json!(-5), serde_json::json!([1])] {
            assert!(read(bad).is_err());
        }
        let again = serde_json::to_value(Config::default()).expect("it serializes");
        assert_eq!(again["storage_limit"], "none");
        let limit = std::num::NonZeroU64::new(1_000);
        let error = Config { storage_limit: limit, ..Config::default() }.validate();
        let error = error.expect_err("too small").to_string();
        assert_eq!(error, "storage_limit (1000) must be at least 4194304 bytes");
    }
}
