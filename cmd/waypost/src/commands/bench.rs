//! `waypost bench`: what this machine does, beside what its network, its disk and JetStream do.

use waypost::Config;
use waypost_bench::{Options, Run, Standing};

use crate::args::Bench;
use crate::output::Output;
use crate::run::Outcome;
use waypost_process::Signals;

pub(super) async fn run(
    config: Config,
    args: Bench,
    output: &Output,
    mut signals: Signals,
) -> anyhow::Result<Outcome> {
    let options = Options {
        config,
        scenarios: args.scenarios,
        jetstream: args.peer.is_some(),
        jetstream_always: args.jetstream_always,
        runs: args.runs,
        window: args.seconds,
        json: args.json,
        report: args.report,
        dir: args.dir,
        quick: args.quick,
        command: command(),
        part: vec![std::env::current_exe()?.into(), "bench-node".into()],
    };
    let mut caught = None;
    let stop = async { caught = Some(signals.caught().await) };
    match waypost_bench::run(options, stop).await? {
        Run::Stopped => Ok(Outcome::Interrupted(caught.expect("that is what stops it"))),
        Run::Finished(results) => {
            output.print(results.tables()).await?;
            Ok(match results.standing() {
                Standing::Met | Standing::NotJudged | Standing::NoTarget => Outcome::Done,
                Standing::Missed => Outcome::Failed,
                Standing::Undecided => Outcome::Undecided,
            })
        }
    }
}

/// The words of this run, but for the addresses, which may hold passwords.
fn command() -> String {
    let mut words = vec!["waypost".to_owned()];
    let mut hidden = false;
    for word in std::env::args().skip(1) {
        let (option, value) = word.split_once('=').unwrap_or((&word, ""));
        let is_address = ["--nats", "--jetstream-always"].contains(&option);
        words.push(match (hidden, is_address && !value.is_empty()) {
            (true, _) => "URL".to_owned(),
            (false, true) => format!("{option}=URL"),
            (false, false) => word.clone(),
        });
        hidden = is_address && value.is_empty();
    }
    words.join(" ")
}
