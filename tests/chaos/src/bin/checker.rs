//! Judges what a run of `chaos` left behind.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use waypost_chaos::check::{Demands, judge};

/// Reports per receiver what was accepted, delivered, lost, unexpected, repeated, out of order and never settled. Ends with 0 if nothing
/// was wrong, with 1 if something was, with 2 if the folder cannot be read.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The folder of the part, with journal.jsonl, sent/, got/ and accounts/
    folder: PathBuf,
    /// Fewest accepted messages for the run to count
    #[arg(long, default_value_t = 1)]
    messages: u64,
    /// Fewest kills for the run to count
    #[arg(long, default_value_t = 0)]
    kills: u64,
    /// Most seconds of calm until everything was settled
    #[arg(long, default_value_t = 300)]
    calm: u64,
    /// The whole verdict as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let demands = Demands { messages: args.messages, kills: args.kills, calm_ms: args.calm * 1000 };
    match judge(&args.folder, demands) {
        Ok(verdict) => {
            if args.json {
                println!("{}", serde_json::to_string(&verdict).expect("verdicts serialize"));
            } else {
                print!("{verdict}");
            }
            ExitCode::from(u8::from(!verdict.is_clean()))
        }
        Err(error) => {
            eprintln!("checker: {}: {error}", args.folder.display());
            ExitCode::from(2)
        }
    }
}
