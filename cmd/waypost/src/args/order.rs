//! Options before or after the subcommand, also those that belong to it.

use std::collections::HashMap;
use std::ffi::OsString;

use clap::CommandFactory;

use super::Args;
use super::values::parse_duration;

/// Moves the subcommand's name to the front, so that its own options may stand before it, and ties the duration of `--wait` to it, so
/// that `send CHANNEL --wait TEXT` is not a wait of TEXT.
pub(crate) fn subcommand_first(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let command = Args::command();
    let takes_value = options(&command);
    let mut at = 1;
    while at < words.len() {
        let Some(word) = words[at].to_str() else { break };
        match takes_value.get(word) {
            Some(true) => at += 1,
            Some(false) if word == "--wait" => at += usize::from(is_duration(words.get(at + 1))),
            Some(false) => {}
            None if word.starts_with('-') && word != "--" => {}
            None => {
                if command.find_subcommand(word).is_some() {
                    words[1..=at].rotate_right(1);
                }
                break;
            }
        }
        at += 1;
    }
    tie_wait(words)
}

/// Every option as it is written, and whether it needs a value in the next word. One that only some subcommands give a value is taken to have
/// none: `--json` before `send` has none, and before `bench` it cannot stand.
fn options(command: &clap::Command) -> HashMap<String, bool> {
    let all = command.get_subcommands().flat_map(clap::Command::get_arguments);
    let mut options = HashMap::new();
    for option in command.get_arguments().chain(all) {
        let takes_value = option.get_action().takes_values() && !option.is_require_equals_set();
        let long = option.get_long().map(|long| format!("--{long}"));
        let short = option.get_short().map(|short| format!("-{short}"));
        for name in long.into_iter().chain(short) {
            *options.entry(name).or_insert(takes_value) &= takes_value;
        }
    }
    options
}

fn is_duration(word: Option<&OsString>) -> bool {
    word.and_then(|word| word.to_str()).is_some_and(|text| parse_duration(text).is_ok())
}

fn tie_wait(words: Vec<OsString>) -> Vec<OsString> {
    let mut tied: Vec<OsString> = Vec::with_capacity(words.len());
    let mut rest = words.into_iter().peekable();
    while let Some(mut word) = rest.next() {
        if word == "--" {
            tied.push(word);
            break;
        }
        if word == "--wait" && is_duration(rest.peek()) {
            word.push("=");
            word.extend(rest.next());
        }
        tied.push(word);
    }
    tied.extend(rest);
    tied
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Command, Wait};
    use clap::Parser;
    use std::time::Duration;

    fn order(text: &str) -> String {
        let words = subcommand_first(text.split(' ').map(OsString::from));
        words.join(&OsString::from(" ")).into_string().expect("text")
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn options_of_a_subcommand_may_stand_before_it() {
        assert_eq!(
            order("waypost --id send -v --kind recv send chat hello"),
            "waypost send --id send -v --kind recv chat hello"
        );
        assert_eq!(order("waypost --db=x db check"), "waypost db --db=x check");
        assert_eq!(order("waypost chat send"), "waypost chat send");
        assert_eq!(order("waypost --version"), "waypost --version");
    }

    #[test]
    fn json_is_a_switch_before_every_command_and_takes_a_file_after_bench() {
        assert_eq!(order("waypost --json send c hi"), "waypost send --json c hi");
        assert_eq!(order("waypost bench --json out"), "waypost bench --json out");
        let parse = |text: &str| {
            Args::try_parse_from(subcommand_first(text.split(' ').map(OsString::from)))
        };
        for text in ["waypost --json peers", "waypost db check --json", "waypost db --json check"] {
            let args = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(args.command.json(), "{text}");
        }
        let Command::Bench(bench) = parse("waypost bench --json out").expect("a bench").command
        else {
            panic!("a bench")
        };
        assert_eq!(bench.json, Some("out".into()));
    }

    #[test]
    fn usage_lines_name_the_arguments_in_the_order_in_which_they_are_taken() {
        let mut command = Args::command();
        command.build();
        let mut looked_at = 0;
        let mut all: Vec<&mut clap::Command> = command.get_subcommands_mut().collect();
        while let Some(command) = all.pop() {
            looked_at += 1;
            let usage = command.render_usage().to_string();
            let names: Vec<String> = command
                .get_positionals()
                .flat_map(|argument| argument.get_value_names().unwrap_or_default())
                .map(|name| format!("{name}>"))
                .collect();
            for usage in usage.lines() {
                let places = names.iter().filter_map(|name| usage.find(name.as_str()));
                assert!(places.is_sorted(), "{names:?} in {usage}");
            }
            all.extend(command.get_subcommands_mut());
        }
        // With those of `db`, `audit` and the like.
        assert!(looked_at > 25, "{looked_at}");
    }

    #[test]
    fn a_wait_takes_a_duration_and_nothing_else() {
        assert_eq!(order("waypost send c --wait hello"), "waypost send c --wait hello");
        assert_eq!(order("waypost send c hi --wait 5s"), "waypost send c hi --wait=5s");
        assert_eq!(order("waypost --wait 5s send c hi"), "waypost send --wait=5s c hi");
        assert_eq!(order("waypost send c -- --wait 5s"), "waypost send c -- --wait 5s");
        let words = subcommand_first("waypost --wait send c hi".split(' ').map(OsString::from));
        let Command::Send(send) = Args::parse_from(words).command else { panic!("a send") };
        assert_eq!((send.wait, send.flush), (Some(Wait::Forever), Duration::from_secs(5)));
    }
}
