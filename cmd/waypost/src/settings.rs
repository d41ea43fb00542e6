//! One set of settings from the defaults, a file, the environment and the command line, the later winning.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;
use waypost::Auth;
use waypost::Config;
use waypost::inspect::{Exposure, exposure};
use waypost_process::environment::{self, Unknown};

use crate::args::Global;

/// Fields that the command line's own options read from the environment.
const OPTIONS_READ: [&str; 3] = ["id", "nats", "prefix"];
/// Variables that are no field's, of options and of the project's own scripts.
const OTHERS: [&str; 9] = [
    "WAYPOST_BENCH_COMMIT",
    "WAYPOST_BENCH_RUSTC",
    "WAYPOST_CONFIG",
    "WAYPOST_CREDS",
    "WAYPOST_CUTS",
    "WAYPOST_DB",
    "WAYPOST_MODEL",
    "WAYPOST_NATS_SERVER",
    "WAYPOST_PROGRAMS",
];
/// The same, by how they begin.
const OF_TESTS: [&str; 2] = ["WAYPOST_SIM_", "WAYPOST_TEST_"];

/// The settings of this run, valid.
///
/// # Errors
/// They name the file, line and field, or the variable, that is wrong.
pub(crate) fn load(global: &Global) -> anyhow::Result<Config> {
    let mut config = match &global.config {
        Some(path) => {
            let config = read_file(path)?;
            if let Some(exposure) = file_exposure(path) {
                tracing::warn!("{}: {exposure}; take that away with chmod o-rwx", path.display());
            }
            config
        }
        None => Config::default(),
    };
    check_names(&config, std::env::vars_os())?;
    config = overlay(config, |name| std::env::var(name).ok())?;
    if let Some(id) = &global.id {
        config.id = Some(id.clone());
    }
    let given = |servers: &&Vec<String>| servers.iter().any(|server| !server.is_empty());
    if let Some(nats) = global.nats.as_ref().filter(given) {
        config.nats = nats.iter().map(|server| server.trim().to_owned()).collect();
    }
    if let Some(db) = &global.db {
        config.storage = Some(db.clone());
    }
    if let Some(lock_wait) = global.lock_wait {
        config.lock_wait = lock_wait;
    }
    if let Some(prefix) = &global.prefix {
        config.prefix.clone_from(prefix);
    }
    if let Some(creds) = &global.creds {
        config.auth = Auth { creds_file: Some(creds.clone()), ..Auth::default() };
    }
    config.validate().context("these settings do not go together")?;
    // Refuses a path that lacks a name, before a node makes a file of that very name.
    storage(&config)?;
    Ok(config)
}

/// The node's file by these settings, for looking into it without a node.
///
/// # Errors
/// The path holds `{id}` and there is no id.
pub(crate) fn storage(config: &Config) -> anyhow::Result<PathBuf> {
    let Some(path) = &config.storage else {
        let name = config.id.as_ref().map(|id| format!("./waypost-{id}.db"));
        return Ok(name.unwrap_or_else(|| "./waypost.db".to_owned()).into());
    };
    let Some(text) = path.to_str().filter(|text| text.contains("{id}")) else {
        return Ok(path.clone());
    };
    match &config.id {
        Some(id) => Ok(text.replace("{id}", id.as_str()).into()),
        None => bail!("the path {text} holds {{id}}: give the node's name with --id"),
    }
}

/// What every user of the machine may do with a settings file that they should not: read one with secrets, change any.
pub(crate) fn file_exposure(path: &Path) -> Option<Exposure> {
    let exposure = exposure(path)?;
    let config = read_file(path).ok()?;
    let Auth { token, password, nkey, .. } = &config.auth;
    let in_auth = [token, password, nkey].into_iter().any(Option::is_some);
    let in_addresses = config.nats.iter().any(|address| address.contains('@'));
    (exposure != Exposure::Readable || in_auth || in_addresses).then_some(exposure)
}

fn read_file(path: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the settings file {} can't be read", path.display()))?;
    parse(&text, path)
}

/// The settings in the text of this file.
///
/// # Errors
/// They name the file, line and field.
pub(crate) fn parse(text: &str, path: &Path) -> anyhow::Result<Config> {
    toml::from_str(text).map_err(|error| {
        // The message names the line and the field, and shows the line; that could be one with a password.
        let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
        let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
        let field = error.span().and_then(|span| field_at(text, span.start));
        let field = field.map(|field| format!(", {field}")).unwrap_or_default();
        anyhow::anyhow!("settings file {}{line}{field}: {}", path.display(), error.message())
    })
}

/// The field that the line with this byte sets.
fn field_at(text: &str, at: usize) -> Option<String> {
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let line = text[start..].lines().next()?;
    let (field, _) = line.split_once('=')?;
    let section = text[..start].lines().rev().find_map(|line| {
        line.trim().strip_prefix('[').and_then(|rest| rest.split(']').next()).map(str::to_owned)
    });
    let field = field.trim();
    Some(section.map_or_else(|| field.to_owned(), |section| format!("{section}.{field}")))
}

/// Lays `WAYPOST_*` variables over the settings, one field at a time, so that an error can name its variable.
///
/// # Errors
/// They name the variable.
pub(crate) fn overlay(
    config: Config,
    variable: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Config> {
    let mut settings = serde_json::to_value(config).context("settings serialize")?;
    let mut auth_is_replaced = false;
    for (section, field) in fields(&settings) {
        if section.is_empty() && OPTIONS_READ.contains(&field.as_str()) {
            continue;
        }
        let name = variable_of(&section, &field);
        let Some(text) = variable(&name).filter(|text| !text.is_empty()) else { continue };
        if section == "auth" && !auth_is_replaced {
            // Another way to log in replaces the file's, it does not come on top of it.
            settings["auth"] =
                serde_json::to_value(Auth::default()).context("settings serialize")?;
            auth_is_replaced = true;
        }
        let place = match section.as_str() {
            "" => &mut settings[&field],
            _ => &mut settings[&section][&field],
        };
        *place = read_as(place, &text);
        if let Err(error) = serde_json::from_value::<Config>(settings.clone()) {
            bail!("the environment variable {name}: {error}");
        }
    }
    serde_json::from_value(settings).context("settings that were checked one by one")
}

/// The variable of a field.
fn variable_of(section: &str, field: &str) -> String {
    format!("WAYPOST_{section}_{field}").to_uppercase().replace("__", "_")
}

/// Refuses a variable whose name is nearly that of a setting, which would be ignored otherwise, and warns of others: they may be somebody else's.
///
/// # Errors
/// They name the variable and the one that was meant.
fn check_names(
    config: &Config,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> anyhow::Result<()> {
    let settings = serde_json::to_value(config).context("settings serialize")?;
    let of_fields = fields(&settings).into_iter();
    let of_fields: Vec<String> =
        of_fields.map(|(part, field)| variable_of(&part, &field)).collect();
    let known = of_fields.iter().map(String::as_str).chain(OTHERS);
    let mut unknown = environment::unknown("WAYPOST_", known, variables);
    unknown.retain(|Unknown { name, .. }| !OF_TESTS.iter().any(|start| name.starts_with(start)));
    for Unknown { name, meant } in &unknown {
        if let Some(meant) = meant {
            bail!(
                "the environment variable {name} is no setting: {meant} is; correct it, or unset it"
            );
        }
    }
    if !unknown.is_empty() {
        let names: Vec<&str> = unknown.iter().map(|unknown| unknown.name.as_str()).collect();
        tracing::warn!("no setting has these environment variables: {}", names.join(", "));
    }
    Ok(())
}

/// All fields, with the section in which they stand.
fn fields(settings: &Value) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    for (name, value) in settings.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(section) => fields.extend(section.keys().map(|f| (name.clone(), f.clone()))),
            None => fields.push((String::new(), name.clone())),
        }
    }
    fields
}

/// The text as a value of the kind that stands there now; what does not fit is left for the settings to refuse.
fn read_as(now: &Value, text: &str) -> Value {
    let literal = || serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    match now {
        Value::Bool(_) | Value::Number(_) => literal(),
        Value::Array(_) => text.split(',').map(|item| Value::from(item.trim())).collect(),
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use waypost::Overflow;

    fn with(variables: &[(&str, &str)]) -> anyhow::Result<Config> {
        overlay(Config::default(), |name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_kind_of_field_can_stand_in_the_environment() {
        let config = with(&[
            ("WAYPOST_ACK_TIMEOUT", "2s"),
            ("WAYPOST_QUEUE_LIMIT", "7"),
            ("WAYPOST_COMPRESSION", "false"),
            ("WAYPOST_OVERFLOW", "drop_oldest"),
            ("WAYPOST_MESSAGE_TTL", "none"),
            ("WAYPOST_TLS_ROOT_CERTIFICATES", "a.pem, b.pem"),
            ("WAYPOST_AUTH_TOKEN", "12345"),
        ]);
        let config = config.expect("valid variables");
        assert_eq!(config.ack_timeout, Duration::from_secs(2));
        assert_eq!((config.queue_limit.get(), config.compression), (7, false));
        assert_eq!((config.overflow, config.message_ttl), (Overflow::DropOldest, None));
        assert_eq!(config.tls.root_certificates, [PathBuf::from("a.pem"), "b.pem".into()]);
        assert_eq!(config.auth.token.as_deref(), Some("12345"));
    }

    #[test]
    fn a_wrong_variable_is_named() {
        for (name, value) in [
            ("WAYPOST_ACK_TIMEOUT", "soon"),
            ("WAYPOST_QUEUE_LIMIT", "0"),
            ("WAYPOST_COMPRESSION", "x"),
        ] {
            let error = with(&[(name, value)]).expect_err("a refusal").to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_misspelt_variable_is_refused_and_another_is_let_pass() {
        let check = |name: &str| {
            let variables = [(OsString::from(name), OsString::from("hunter2"))];
            check_names(&Config::default(), variables).map_err(|error| error.to_string())
        };
        for (name, meant) in [
            ("WAYPOST_ACK_TIMEUOT", "WAYPOST_ACK_TIMEOUT"),
            ("WAYPOST_AUTH_PASWORD", "WAYPOST_AUTH_PASSWORD"),
            ("WAYPOST_QUEUELIMIT", "WAYPOST_QUEUE_LIMIT"),
            ("WAYPOST_NAT", "WAYPOST_NATS"),
        ] {
            let error = check(name).expect_err("a refusal");
            assert!(error.contains(name) && error.contains(&format!("{meant} is")), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        // Of a container's neighbours, of scripts, of tests, and the settings themselves.
        for name in [
            "WAYPOST_SERVICE_HOST",
            "WAYPOST_PORT_4222_TCP_ADDR",
            "WAYPOST_PROGRAMS",
            "WAYPOST_NATS_SERVER",
            "WAYPOST_SIM_SEED",
            "WAYPOST_CONFIG",
            "WAYPOST_ACK_TIMEOUT",
            "WAYPOST_AUTH_TOKEN",
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_wrong_file_is_named_with_line_and_field() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("node.toml");
        for (text, place) in [
            ("id = \"a\"\nack_timeuot = \"1s\"\n", "line 2, ack_timeuot"),
            ("\nack_timeout = \"soon\"\n", "line 2, ack_timeout"),
            ("[auth]\npasword = \"hunter2\"\n", "line 2, auth.pasword"),
            ("id = \"a b\"\n", "line 1, id"),
            (
                "[auth]\nuser = \"u\"\npassword = 271828\n",
                "line 3, auth.password: expected a text in quotes",
            ),
            ("nats = \"nats://u:hunter2@host\"\n", "line 1, nats: expected a list"),
            (
                "nats = [\n \"nats://u:hunter2@host\",\n 271828\n]\n",
                "line 1, nats: expected a list",
            ),
            ("auth = \"hunter2\"\n", "line 1, auth: expected a section"),
            ("auth = { token = 271828 }\n", "expected a text in quotes"),
            ("[auth]\ntoken = hunter2\n", "line 2, auth.token"),
            ("[auth]\ntoken = \"hunter2\n", "line 2, auth.token"),
            ("[auth]\ntoken = \"hunter2\"\ntoken = \"hunter2\"\n", "line 3, auth.token"),
            ("[auth]\ntoken = 'hunter2' x\n", "line 2, auth.token"),
            ("[auth]\ntoken = \"hunter2\\q\"\n", "line 2, auth.token"),
            ("[auth]\n[auth.token]\nhunter2 = 271828\n", "expected a text in quotes"),
        ] {
            std::fs::write(&path, text).expect("a file");
            let error = read_file(&path).expect_err("a refusal").to_string();
            assert!(error.contains("node.toml") && error.contains(place), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("271828"), "{error}");
        }
    }

    #[test]
    fn the_file_is_found_by_path_or_name() {
        let mut config = Config::default();
        let path = |config: &Config| storage(config).map(|path| path.display().to_string()).ok();
        assert_eq!(path(&config).as_deref(), Some("./waypost.db"));
        config.storage = Some("/tmp/{id}.db".into());
        assert_eq!(path(&config), None);
        config.id = Some("a".parse().expect("a name"));
        assert_eq!(path(&config).as_deref(), Some("/tmp/a.db"));
        config.storage = None;
        assert_eq!(path(&config).as_deref(), Some("./waypost-a.db"));
    }
}
