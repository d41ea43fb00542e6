//! `waypost`, the operator's command.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

use std::io;

use clap::Parser;

mod args;
mod commands;
mod logs;
mod output;
mod run;
mod settings;

use args::Args;
use run::Outcome;
use waypost_process::{begin, streams};

fn main() {
    if let Err(error) = begin() {
        streams::say(format_args!("waypost: {:#}", anyhow::Error::new(error)));
        streams::exit(1);
    }
    let args = Args::try_parse_from(args::subcommand_first(std::env::args_os()));
    let args = args.unwrap_or_else(|error| streams::explain(&error));
    // Lines between those of a full screen would tear it.
    if !args.command.takes_screen() {
        logs::start(args.global.verbose, args.global.quiet);
    }
    let code = match execute(args) {
        Ok(outcome) => outcome.code(),
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => {
            streams::say(format_args!("waypost: {error:#}"));
            run::code_of(&error)
        }
    };
    // A thread that waits for a line of standard input, or for room in a pipe, must not keep the program.
    streams::exit(code);
}

fn execute(args: Args) -> anyhow::Result<Outcome> {
    let runtime = waypost_process::runtime()?;
    let outcome = runtime.block_on(commands::run(args));
    runtime.shutdown_background();
    outcome
}

/// Whoever reads our results has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
