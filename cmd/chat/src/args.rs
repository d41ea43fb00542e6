//! What can be written on the command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;
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
    /// Whoever opens the web page has to show this token: /?token=TOKEN, once
    #[arg(long, value_name = "TOKEN", env = "CHAT_WEB_TOKEN", hide_env_values = true)]
    pub(crate) web_token: Option<String>,
    /// Another address under which browsers reach the web page, like `https://chat.example.org` behind a proxy, or `http://192.168.1.5:8081`
    #[arg(long, value_name = "ORIGIN")]
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
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
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
