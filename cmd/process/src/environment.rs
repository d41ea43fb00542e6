//! Variables that look like a program's own and are not.

/// A variable that no setting has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Its name.
    pub name: String,
    /// The variable whose name is nearly the same.
    pub meant: Option<String>,
}

/// Variables of this prefix that are none of those `known`. An empty one counts as not set. Values are not looked at further: they may be secret.
pub fn unknown<'a>(
    prefix: &str,
    known: impl IntoIterator<Item = &'a str>,
    variables: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Vec<Unknown> {
    let known: Vec<&str> = known.into_iter().collect();
    let names = variables.into_iter().filter(|(_, value)| !value.is_empty());
    let names = names.filter_map(|(name, _)| name.into_string().ok());
    let mut unknown: Vec<Unknown> = names
        .filter(|name| name.starts_with(prefix) && !known.contains(&name.as_str()))
        .map(|name| Unknown { meant: nearest(prefix, &known, &name), name })
        .collect();
    unknown.sort_by(|a, b| a.name.cmp(&b.name));
    unknown
}

/// The name from which this one differs in a letter or two, of which there are enough left.
fn nearest(prefix: &str, known: &[&str], name: &str) -> Option<String> {
    let own = |name: &str| name.strip_prefix(prefix).unwrap_or(name).to_owned();
    let written = own(name);
    let distance = |known: &&str| strsim::damerau_levenshtein(&written, &own(known));
    let near = known.iter().map(|known| (distance(known), *known)).min()?;
    let letters = own(near.1).len();
    (near.0 <= 2 && 3 * near.0 <= letters).then(|| near.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] =
        ["APP_ACK_TIMEOUT", "APP_AUTH_TOKEN", "APP_NATS", "APP_ID", "APP_MESSAGE_TTL"];

    fn found(variables: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let unknown = unknown("APP_", KNOWN, variables);
        unknown.into_iter().map(|unknown| (unknown.name, unknown.meant)).collect()
    }

    #[test]
    fn a_misspelt_variable_is_found_with_the_one_that_was_meant() {
        for (name, meant) in [
            ("APP_ACK_TIMEUOT", "APP_ACK_TIMEOUT"),
            ("APP_ACKTIMEOUT", "APP_ACK_TIMEOUT"),
            ("APP_AUTH_TOKENS", "APP_AUTH_TOKEN"),
            ("APP_MESSAGE_TLL", "APP_MESSAGE_TTL"),
            ("APP_NAT", "APP_NATS"),
        ] {
            assert_eq!(found(&[(name, "x")]), [(name.to_owned(), Some(meant.to_owned()))]);
        }
    }

    #[test]
    fn what_resembles_nothing_is_unknown_and_what_is_known_empty_or_anothers_is_not() {
        for name in ["APP_PROGRAMS", "APP_NATS_SERVER", "APP_PORT", "APP_IP", "APP_"] {
            assert_eq!(found(&[(name, "x")]), [(name.to_owned(), None)]);
        }
        assert_eq!(found(&[("APP_ID", "x"), ("APP_IDD", ""), ("OTHER_ID", "x")]), []);
    }
}
