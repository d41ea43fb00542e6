//! One file a command.

use anyhow::Context;
use clap::CommandFactory;

use crate::args::{Args, Command, Db};
use crate::output::{Output, STDOUT};
use crate::run::{Outcome, Usage};
use crate::settings;
use orders::Targets;
use waypost::management::Task;
use waypost_process::Signals;

mod audit;
mod bench;
mod db;
mod doctor;
mod master;
mod node;
mod orders;
mod peers;
mod queue;
mod reasons;
mod recv;
mod reports;
mod send;
mod stats;
mod top;
mod topology;
mod why;

/// Runs the command.
pub(crate) async fn run(args: Args) -> anyhow::Result<Outcome> {
    let output = Output::new(args.command.json());
    let config = settings::load(&args.global).map_err(Usage)?;
    match args.command {
        Command::Send(args) => send::run(config, args, &output, Signals::listen()?).await,
        Command::Recv(args) => recv::run(config, args, &output, Signals::listen()?).await,
        Command::Peers(_) => peers::run(&config, &output).await,
        Command::Topology(args) => topology::run(&config, args, &output).await,
        Command::Top(args) => top::run(config, &args, &output).await,
        Command::Stats(args) => stats::run(&config, &args, &output).await,
        Command::Master(_) => master::run(&config, &output).await,
        Command::State { node, .. } => master::state(&config, node, &output).await,
        Command::Kick { node, order } => {
            orders::run(&config, Task::Kick, Targets::These(vec![node]), order, &output).await
        }
        Command::KickChannel { channel, nodes, order } => {
            orders::run(&config, Task::KickChannel { channel }, nodes.into(), order, &output).await
        }
        Command::Purge { what, nodes, order } => {
            orders::run(&config, what.into(), nodes.into(), order, &output).await
        }
        Command::Forget { node, on, order } => {
            let targets = if on.is_empty() { Targets::All } else { Targets::These(on) };
            orders::run(&config, Task::Forget { node }, targets, order, &output).await
        }
        Command::Drain { node, order } => {
            orders::run(&config, Task::Drain, Targets::These(vec![node]), order, &output).await
        }
        Command::Readmit { node, order } => {
            orders::run(&config, Task::Readmit, Targets::These(vec![node]), order, &output).await
        }
        Command::Audit { since, .. } => audit::run(&config, since, &output).await,
        Command::Queue(_) => queue::run(&config, &output).await,
        Command::Why { message, .. } => why::run(&config, message, &output).await,
        Command::Db { action: Db::Check, .. } => db::check(&config, &output).await,
        Command::Db { action: Db::Backup { to }, .. } => db::backup(&config, &to, &output).await,
        Command::Db { action: Db::Restore { from, yes }, .. } => {
            db::restore(&config, from, yes, &output).await
        }
        Command::Db { action: Db::Vacuum, .. } => db::vacuum(&config, &output).await,
        Command::Db { action: Db::Readmit, .. } => db::readmit(config, &output).await,
        Command::Db { action: Db::BelieveClock, .. } => db::believe_clock(&config, &output).await,
        Command::Doctor(_) => doctor::run(&config, args.global.config.as_deref(), &output).await,
        Command::Bench(args) => bench::run(config, args, &output, Signals::listen()?).await,
        Command::BenchNode => {
            waypost_bench::serve_part().await;
            Ok(Outcome::Done)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "waypost", &mut script);
            output.write(script).await.context(STDOUT)?;
            Ok(Outcome::Done)
        }
    }
}
