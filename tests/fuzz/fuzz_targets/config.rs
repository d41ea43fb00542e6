//! Settings as the library and the command read them: a file, and over it variables, a line each after a zero byte.
#![no_main]

use waypost_fuzz::checks;

/// What the settings of the command know of its arguments.
mod args {
    use std::path::PathBuf;

    pub(crate) struct Global {
        pub(crate) nats: Option<Vec<String>>,
        pub(crate) id: Option<waypost::NodeId>,
        pub(crate) db: Option<PathBuf>,
        pub(crate) prefix: Option<String>,
        pub(crate) creds: Option<PathBuf>,
        pub(crate) config: Option<PathBuf>,
        pub(crate) lock_wait: Option<std::time::Duration>,
    }
}

#[allow(dead_code)]
#[path = "../../../cmd/waypost/src/settings.rs"]
mod settings;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    checks::config::check(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (file, variables) = text.split_once('\0').unwrap_or((text, ""));
    let config = match settings::parse(file, "node.toml".as_ref()) {
        Ok(config) => config,
        Err(error) => return assert!(error.to_string().starts_with("settings file node.toml")),
    };
    let variable = |name: &str| {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        variables.lines().find_map(value)
    };
    match settings::overlay(config, variable) {
        Ok(config) => {
            checks::config::valid_or_named(&config);
            let _ = settings::storage(&config);
        }
        Err(error) => assert!(error.to_string().contains("WAYPOST_"), "{error:#}"),
    }
});
