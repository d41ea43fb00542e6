//! What can be written on the command line.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use clap::{CommandFactory, Parser};
use waypost_process::environment;

use waypost::{Auth, ChannelName, Config, Election, Mode, NodeId};

const AFTER_HELP: &str = "\
Without a terminal, each line of standard input is a message or a command. When it ends, the node goes on as long as its web page is on;
with --web 0 it delivers for at most 5 s more, says how many messages still wait, and ends.

The conversation is kept in the node's file. Two nodes need two names, two files and two web ports.

Exit codes: 0: done, also after SIGINT or SIGTERM. 1: it failed; standard error says why. 2: the command line is wrong.";

/// Chats on a channel, in the terminal and on a web page, and loses nothing while the network is away.
// No `Debug`: an address or the token may be secret.
#[derive(Parser)]
#[command(name = "chat", version, after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// This node's name [default: the one kept in the file, or the host's]
    #[arg(long, value_name = "NODE", env = "CHAT_NODE_ID")]
    pub(crate) node_id: Option<NodeId>,
    /// How this node takes part
    #[arg(long, value_enum, default_value = "rw")]
    pub(crate) mode: Part,
    /// The channel
    #[arg(long, default_value = "chat")]
    pub(crate) channel: ChannelName,
    /// NATS servers, tried in turn
    #[arg(long, value_name = "URL[,URL]", value_delimiter = ',', default_value = "localhost:4222")]
    #[arg(env = "CHAT_NATS", hide_env_values = true)]
    pub(crate) nats: Vec<String>,
    /// The port of the web page; 0 for none
    #[arg(long, value_name = "PORT", default_value_t = 8081)]
    pub(crate) web: u16,
    /// The address at which the web page is served; any other than this machine's own needs --web-token, and 0.0.0.0 or :: a --web-origin for
    /// each name by which others reach it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) web_listen: IpAddr,
    /// Whoever opens the web page has to show this token, once: /?token=TOKEN. 8 to 128 letters, digits, - and _; nothing slows down who guesses, so
    /// take a random one: `openssl rand -hex 16`
    #[arg(long, value_name = "TOKEN", env = "CHAT_WEB_TOKEN", hide_env_values = true)]
    pub(crate) web_token: Option<String>,
    /// Another address under which browsers reach the web page, like `https://chat.example.org` behind a proxy, or `http://192.168.1.5:8081`
    #[arg(long, value_name = "ORIGIN", value_parser = parse_origin)]
    pub(crate) web_origin: Vec<String>,
    /// Open the web page in the browser; a --web-token can be seen in the list of processes for that moment
    #[arg(long)]
    pub(crate) open: bool,
    /// The node's file; `{id}` stands for its name [default: ./chat.db, with --node-id ./chat-NODE.db]
    #[arg(long, value_name = "PATH", env = "CHAT_DB")]
    pub(crate) db: Option<PathBuf>,
    /// The first part of every subject; nodes with different prefixes do not see each other
    #[arg(long, default_value = "waypost", env = "CHAT_PREFIX")]
    pub(crate) prefix: String,
    /// A .creds file for the NATS server
    #[arg(long, value_name = "FILE", env = "CHAT_CREDS")]
    pub(crate) creds: Option<PathBuf>,
    /// Elect a master: `visible` among the nodes that see each other, or the names of the voters, as every node is told them [default: none
    /// is elected]
    #[arg(long, value_name = "visible|NODE,NODE,NODE", value_parser = parse_election)]
    pub(crate) election: Option<Election>,
    #[command(flatten)]
    pub(crate) http: waypost_http::Options,
    /// Say more on standard error; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// How a node takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Receives only
    Reader,
    /// Sends only
    Writer,
    /// Sends and receives
    Rw,
}

impl From<Part> for Mode {
    fn from(part: Part) -> Self {
        match part {
            Part::Reader => Self::Reader,
            Part::Writer => Self::Writer,
            Part::Rw => Self::ReadWrite,
        }
    }
}

impl Args {
    /// Whether the settings fit together.
    ///
    /// # Errors
    /// They do not, and why.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !self.web_listen.is_loopback() && self.web != 0 && self.web_token.is_none() {
            let address = self.web_listen;
            return Err(format!(
                "--web-listen {address} opens the page to others: give a --web-token too"
            ));
        }
        if self.web_token.as_ref().is_some_and(|token| !is_token(token)) {
            return Err("--web-token takes 8 to 128 letters, digits, - and _".to_owned());
        }
        let is_other = |server: &&String| {
            server
                .split_once("://")
                .is_some_and(|(scheme, _)| !["nats", "tls"].contains(&scheme.trim()))
        };
        if self.nats.iter().any(|server| is_other(&server)) {
            // Without the address: it may hold a password.
            return Err("--nats takes HOST:PORT, nats://HOST:PORT or tls://HOST:PORT".to_owned());
        }
        self.config().validate().map_err(|error| error.to_string())
    }

    /// The node's settings.
    pub(crate) fn config(&self) -> Config {
        let named = |server: &String| match server.trim() {
            server if server.contains("://") => server.to_owned(),
            server => format!("nats://{server}"),
        };
        let file = if self.node_id.is_some() { "./chat-{id}.db" } else { "./chat.db" };
        let mut config = Config::default();
        config.id = self.node_id.clone();
        config.nats = self.nats.iter().map(named).collect();
        config.storage = Some(self.db.clone().unwrap_or_else(|| file.into()));
        config.prefix.clone_from(&self.prefix);
        if let Some(election) = &self.election {
            config.election = election.clone();
        }
        if let Some(creds) = &self.creds {
            config.auth = Auth { creds_file: Some(creds.clone()), ..Auth::default() };
        }
        config
    }
}

/// Whether a variable has nearly the name of one that is read here, and would be ignored.
///
/// # Errors
/// It has; which was meant.
pub(crate) fn check_variables(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), String> {
    let command = Args::command();
    let known = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
    let unknown = environment::unknown("CHAT_", known, variables);
    match unknown.into_iter().find_map(|unknown| unknown.meant.map(|meant| (unknown.name, meant))) {
        Some((name, meant)) => Err(format!(
            "the environment variable {name} is not read: {meant} is; correct it, or unset it"
        )),
        None => Ok(()),
    }
}

/// An origin as browsers write it: scheme, host, perhaps a port, and no path.
fn parse_origin(text: &str) -> Result<String, String> {
    let origin = text.trim_end_matches('/').to_ascii_lowercase();
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let is_host = |host: &str| {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse::<u16>().is_ok()),
            _ => (host, true),
        };
        let inside = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let is_name = |name: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
            !name.is_empty() && name.chars().all(fits)
        };
        port && inside.map_or_else(|| is_name(name), |ip| ip.parse::<Ipv6Addr>().is_ok())
    };
    match host.is_some_and(is_host) {
        true => Ok(origin),
        false => Err("write it as a browser does, like https://chat.example.org or http://192.168.1.5:8081, with nothing after it".to_owned()),
    }
}

/// Whether a token can stand in an address and a cookie as it is.
fn is_token(token: &str) -> bool {
    (8..=128).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn parse_election(text: &str) -> Result<Election, String> {
    match text {
        "visible" => Ok(Election::Visible),
        voters => {
            Election::quorum(voters.split(',').map(str::trim)).map_err(|error| error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_do() {
        for (text, origin) in [
            ("https://Chat.example.org/", "https://chat.example.org"),
            ("http://192.168.1.5:8081", "http://192.168.1.5:8081"),
            ("http://[::1]:80", "http://[::1]:80"),
            ("http://[::1]", "http://[::1]"),
        ] {
            assert_eq!(parse_origin(text).as_deref(), Ok(origin), "{text}");
        }
        for text in [
            "",
            "nonsense",
            "chat.example.org",
            "https://a.example/path",
            "https://*",
            "http://",
            "http://a:99999",
            "http://a b",
            "http://[x]",
            "ftp://a",
        ] {
            assert!(parse_origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_that_do_not_fit_together_are_told() {
        let check = |more: &[&str]| Args::parse_from([&["chat"], more].concat()).check();
        assert_eq!(check(&[]), Ok(()));
        assert!(check(&["--web-listen", "0.0.0.0"]).is_err());
        assert_eq!(check(&["--web-listen", "0.0.0.0", "--web", "0"]), Ok(()));
        assert_eq!(check(&["--web-listen", "0.0.0.0", "--web-token", "12345678"]), Ok(()));
        assert!(check(&["--web-token", "short"]).is_err());
        assert!(check(&["--nats", "http://x:1"]).is_err());
        assert!(check(&["--prefix", "a b"]).is_err());
    }

    #[test]
    fn a_token_is_long_enough_and_plain() {
        assert!(is_token("secret-token") && !is_token("short") && !is_token("with space"));
    }

    #[test]
    fn a_misspelt_variable_is_refused_and_anothers_is_let_pass() {
        let check = |name: &str| check_variables([(name.into(), "hunter2".into())]);
        let error = check("CHAT_NODEID").expect_err("a refusal");
        assert!(error.contains("CHAT_NODEID") && error.contains("CHAT_NODE_ID is"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        for name in ["CHAT_NODE_ID", "CHAT_WEB_TOKEN", "CHAT_SERVICE_HOST", "CHATTER"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn servers_need_no_scheme() {
        let line = ["chat", "--nats", "localhost:4222,tls://b:1", "--node-id", "alice"];
        let config = Args::parse_from(line).config();
        assert_eq!(config.nats, ["nats://localhost:4222", "tls://b:1"]);
        config.validate().expect("valid settings");
    }
}
