//! What is typed.

use std::path::PathBuf;

use waypost::NodeId;

/// Lines of history that are shown without a number.
const HISTORY: usize = 20;
/// Most lines of history.
const MAX_HISTORY: usize = 1000;

pub(crate) const HELP: &str = "\
\x20 /to NODE TEXT         only for this node
  /file PATH            tell of a file: its name, size and type
  /edit [#N] TEXT       change your message; without a number the last one
  /delete [#N]          delete your message
  /react [#N] EMOJI     react; the same again takes it back
  /nodes                who is online
  /topology             who takes part in what, and what waits for whom
  /stats                accounts and counters
  /master               who leads
  /history [N]          the last messages
  /quit                 leave
  //TEXT                a message that begins with a slash";

/// The commands, for completion.
pub(crate) const NAMES: [&str; 12] = [
    "/to ",
    "/file ",
    "/edit ",
    "/delete",
    "/react ",
    "/nodes",
    "/topology",
    "/stats",
    "/master",
    "/history",
    "/quit",
    "/help",
];

/// A line, understood. Numbers are those that messages are shown with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Say(String),
    To(NodeId, String),
    File(PathBuf),
    Edit(Option<usize>, String),
    Delete(Option<usize>),
    React(Option<usize>, String),
    Stats,
    Nodes,
    Topology,
    Master,
    History(usize),
    Quit,
    Help,
    Nothing,
}

impl Command {
    /// Understands a line.
    ///
    /// # Errors
    /// Says how the command is written.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return Ok(if line.is_empty() { Self::Nothing } else { Self::Say(line.to_owned()) });
        };
        if command.starts_with('/') {
            return Ok(Self::Say(command.to_owned()));
        }
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        match name {
            "to" => {
                let usage = "/to NODE TEXT";
                let (node, text) = rest.split_once(char::is_whitespace).ok_or(usage)?;
                let node = NodeId::new(node).map_err(|error| error.to_string())?;
                Ok(Self::To(node, text.trim().to_owned()))
            }
            "file" if !rest.is_empty() => Ok(Self::File(rest.into())),
            "file" => Err("/file PATH".to_owned()),
            "edit" => match numbered(rest) {
                (_, "") => Err("/edit [#N] TEXT".to_owned()),
                (number, text) => Ok(Self::Edit(number, text.to_owned())),
            },
            "delete" => match numbered(rest) {
                (number, "") => Ok(Self::Delete(number)),
                _ => Err("/delete [#N]".to_owned()),
            },
            "react" => match numbered(rest) {
                (_, "") => Err("/react [#N] EMOJI".to_owned()),
                (number, emoji) => Ok(Self::React(number, emoji.to_owned())),
            },
            "history" if rest.is_empty() => Ok(Self::History(HISTORY)),
            "history" => match rest.parse() {
                Ok(count @ 1..=MAX_HISTORY) => Ok(Self::History(count)),
                _ => Err(format!("/history [N], at most {MAX_HISTORY}")),
            },
            "stats" => Ok(Self::Stats),
            "nodes" => Ok(Self::Nodes),
            "topology" => Ok(Self::Topology),
            "master" => Ok(Self::Master),
            "quit" | "exit" => Ok(Self::Quit),
            "help" | "?" => Ok(Self::Help),
            _ => Err("there is no such command; /help shows all".to_owned()),
        }
    }
}

fn numbered(text: &str) -> (Option<usize>, &str) {
    let Some(rest) = text.strip_prefix('#') else { return (None, text) };
    let (number, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    match number.parse() {
        Ok(number) => (Some(number), rest.trim()),
        // No message has such a number.
        Err(_) if digits => (Some(usize::MAX), rest.trim()),
        Err(_) => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let parse = |line| Command::parse(line);
        let owned = str::to_owned;
        assert_eq!(parse(" hello "), Ok(Command::Say(owned("hello"))));
        assert_eq!(parse("//help"), Ok(Command::Say(owned("/help"))));
        assert_eq!(parse("   "), Ok(Command::Nothing));
        assert_eq!(parse("/edit #3 new text"), Ok(Command::Edit(Some(3), owned("new text"))));
        assert_eq!(parse("/edit #new text"), Ok(Command::Edit(None, owned("#new text"))));
        let beyond = Ok(Command::Edit(Some(usize::MAX), owned("x")));
        assert_eq!(parse("/edit #99999999999999999999 x"), beyond);
        assert_eq!(parse("/delete"), Ok(Command::Delete(None)));
        assert_eq!(parse("/react 👍"), Ok(Command::React(None, owned("👍"))));
        assert_eq!(parse("/history 5"), Ok(Command::History(5)));
        let bob = NodeId::new("bob").expect("a name");
        assert_eq!(parse("/to bob hi there"), Ok(Command::To(bob, owned("hi there"))));
        for wrong in [
            "/to bob",
            "/to a.b hi",
            "/edit",
            "/edit #3",
            "/history 0",
            "/history x",
            "/nonsense",
            "/react",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
