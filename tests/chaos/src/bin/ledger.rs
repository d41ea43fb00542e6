//! Compares the business tables that a run of `chaos` left in the files of sellers and buyers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Reports for each seller and buyer what was sold, bought, missing, double, unexpected and out of order. Ends with 0 if both sides agree in
/// every row, with 1 if not or if too little was sold, with 2 if a file cannot be read.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The folder of the part, with journal.jsonl, sold/ and nodes/
    folder: PathBuf,
    /// Fewest sales for the run to count
    #[arg(long, default_value_t = 1)]
    messages: u64,
    /// Everything as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let balance = match waypost_chaos::ledger::compare(&args.folder) {
        Ok(balance) => balance,
        Err(error) => {
            eprintln!("ledger: {error:#}");
            return ExitCode::from(2);
        }
    };
    if args.json {
        println!("{}", serde_json::to_string(&balance).expect("balances serialize"));
    } else {
        print!("{balance}");
    }
    let is_enough = balance.sold >= args.messages;
    if !is_enough {
        eprintln!("ledger: {} were sold, {} wanted", balance.sold, args.messages);
    }
    ExitCode::from(u8::from(!(balance.is_even() && is_enough)))
}
