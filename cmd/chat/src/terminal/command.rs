//! What is typed.

use std::path::PathBuf;

use waypost::NodeId;

use super::paint::CALLED;

/// Lines of history that are shown without a number.
const HISTORY: usize = 20;
/// Most lines of history.
const MAX_HISTORY: usize = 1000;

pub(crate) const HELP: &str = "\
\x20 /to NODE TEXT         only for this node
  /file PATH            tell of a file: its name, size and type
  /edit [#ID] TEXT      change your message; without an id the last one
  /delete [#ID]         delete your message
  /react [#ID] EMOJI    react; the same again takes it back
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

/// A line, understood. Messages are named by what they are called: see [`called`](super::paint::called).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Say(String),
    To(NodeId, String),
    File(PathBuf),
    Edit(Option<String>, String),
    Delete(Option<String>),
    React(Option<String>, String),
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
            "edit" => match named(rest) {
                (_, "") => Err("/edit [#ID] TEXT".to_owned()),
                (name, text) => Ok(Self::Edit(name, text.to_owned())),
            },
            "delete" => match named(rest) {
                (name, "") => Ok(Self::Delete(name)),
                _ => Err("/delete [#ID]".to_owned()),
            },
            "react" => match named(rest) {
                (_, "") => Err("/react [#ID] EMOJI".to_owned()),
                (name, emoji) => Ok(Self::React(name, emoji.to_owned())),
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

/// What a message is called, where the text begins with that, and the rest.
fn named(text: &str) -> (Option<String>, &str) {
    let Some(rest) = text.strip_prefix('#') else { return (None, text) };
    let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let is_name = name.len() == CALLED && name.bytes().all(is_of_an_id);
    // Nobody's text begins like that, but for a slip of whoever names a message.
    let is_meant = name.bytes().any(|byte| byte.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match is_name || is_meant {
        true => (Some(name.to_ascii_uppercase()), rest.trim()),
        false => (None, text),
    }
}

/// Whether ids have this character, in either case.
fn is_of_an_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() && !b"ILOU".contains(&byte.to_ascii_uppercase())
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
        let named = |name: &str| Some(name.to_owned());
        let edit = Ok(Command::Edit(named("7K3F"), owned("new text")));
        assert_eq!(parse("/edit #7K3F new text"), edit);
        assert_eq!(parse("/edit #7k3f  new text"), edit);
        assert_eq!(parse("/edit #new text"), Ok(Command::Edit(None, owned("#new text"))));
        // Not taken for a new text of the last message.
        assert_eq!(parse("/edit #2 x"), Ok(Command::Edit(named("2"), owned("x"))));
        assert_eq!(parse("/delete #7k3"), Ok(Command::Delete(named("7K3"))));
        assert_eq!(parse("/delete"), Ok(Command::Delete(None)));
        assert_eq!(parse("/react 👍"), Ok(Command::React(None, owned("👍"))));
        assert_eq!(parse("/history 5"), Ok(Command::History(5)));
        let bob = NodeId::new("bob").expect("a name");
        assert_eq!(parse("/to bob hi there"), Ok(Command::To(bob, owned("hi there"))));
        for wrong in [
            "/to bob",
            "/to a.b hi",
            "/edit",
            "/edit #7K3F",
            "/history 0",
            "/history x",
            "/nonsense",
            "/react",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
