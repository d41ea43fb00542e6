//! What a hostile client on the same NATS server leaves of an honest pair's throughput. Run by scripts/hostile, whose --help tells more.

#[path = "../tests/hostile/mod.rs"]
mod hostile;
#[path = "../tests/nodes/mod.rs"]
mod nodes;
#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use async_nats::Client;
use futures_util::StreamExt;
use hostile::honest::{Honest, number};
use hostile::{Overheard, Shot};
use nodes::{SOON, wire};
use serde_json::json;
use support::nats_server::NatsServer;

/// The least share of its throughput that the pair keeps.
const LEAST_SHARE: f64 = 0.9;
/// What a node's memory may grow by.
const GROWTH_KB: u64 = 64 * 1024;
/// The hostile client sends what is due this often.
const TICK: Duration = Duration::from_millis(10);
const WARM_UP: Duration = Duration::from_secs(5);

struct Args {
    /// Pairs of windows: one quiet, one under attack.
    windows: u64,
    window: Duration,
    /// Malformed frames in a window, and as many forged answers and keepalives of invented nodes.
    frames: u64,
    json: bool,
}

impl Args {
    fn read() -> Self {
        let mut args =
            Self { windows: 5, window: Duration::from_secs(10), frames: 10_000, json: false };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || {
                let value = words.next().and_then(|word| word.parse().ok());
                value.filter(|n| *n > 0).expect("scripts/hostile checks its arguments")
            };
            match word.as_str() {
                "--windows" => args.windows = number(),
                "--seconds" => args.window = Duration::from_secs(number()),
                "--frames" => args.frames = number(),
                "--json" => args.json = true,
                // Cargo's own.
                _ => {}
            }
        }
        args
    }
}

struct Scene {
    /// Alice and bob.
    pair: [Honest; 2],
    client: Client,
    overheard: Overheard,
    /// The number of the next shot.
    next: u64,
    /// How many malformed frames have reached the pair together.
    reached: u64,
}

fn main() -> ExitCode {
    hostile::honest::run();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(measure(&Args::read()))
}

async fn measure(args: &Args) -> ExitCode {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let bob = Honest::start(&server.url(), &dir, "bob");
    let alice = Honest::start(&server.url(), &dir, "alice");
    let client = wire::stranger(&server).await;
    let mut frames = wire::overhear(&client, "waypost.msg.bob.alice").await;
    let ids = alice.ask("send 1").await;
    let frame = tokio::time::timeout(SOON, frames.next()).await.expect("a frame comes");
    let whole = frame.expect("the client runs").payload.to_vec();
    drop(frames);
    let store = wire::header(&whole)["store"].as_str().expect("a text").to_owned();
    let waiting = serde_json::from_value(ids).expect("a list of ids");
    let overheard = Overheard { whole, store, waiting };
    alice.ask("flow").await;
    tokio::time::sleep(WARM_UP).await;
    let before = [peak(&alice).await, peak(&bob).await];
    let mut scene = Scene { pair: [alice, bob], client, overheard, next: 0, reached: 0 };

    let (mut quiet, mut attacked) = (Vec::new(), Vec::new());
    for n in 0..args.windows {
        // The other way round each time, so that a machine that grows slower or faster favours neither.
        for attack in [n % 2 == 1, n % 2 == 0] {
            let rate = scene.window(args, attack).await;
            eprintln!(
                "{:>6.0} messages a second {}",
                rate,
                if attack { "under attack" } else { "in quiet" }
            );
            if attack { &mut attacked } else { &mut quiet }.push(rate);
        }
    }
    scene.judge(args, before, &quiet, &attacked).await
}

async fn peak(node: &Honest) -> u64 {
    number(&node.report().await["peak_kb"])
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

impl Scene {
    /// Messages a second that bob received in it.
    async fn window(&mut self, args: &Args, attack: bool) -> f64 {
        let shots = if attack { self.shots(args.frames) } else { Vec::new() };
        let (begin, before) = (Instant::now(), number(&self.pair[1].report().await["received"]));
        self.fire(shots, begin, args.window).await;
        tokio::time::sleep_until((begin + args.window).into()).await;
        let after = number(&self.pair[1].report().await["received"]);
        let rate = (after - before) as f64 / begin.elapsed().as_secs_f64();
        // What is left of the attack belongs to no window.
        self.client.flush().await.expect("flushed");
        tokio::time::sleep(Duration::from_millis(500)).await;
        rate
    }

    /// Made before the window begins: the client's own work is not the pair's trouble.
    fn shots(&mut self, frames: u64) -> Vec<Shot> {
        let mut shots = Vec::new();
        for n in self.next..self.next + frames {
            let bad = hostile::malformed(n, &self.overheard);
            self.reached += bad.reaches.len() as u64;
            shots.extend([
                bad,
                hostile::forged_answer(n, &self.overheard),
                hostile::invented_keepalive(n),
            ]);
        }
        self.next += frames;
        shots
    }

    /// Spread evenly over the window.
    async fn fire(&self, shots: Vec<Shot>, begin: Instant, window: Duration) {
        let count = shots.len();
        let mut shots = shots.into_iter();
        while shots.len() > 0 {
            let share = begin.elapsed().as_secs_f64() / window.as_secs_f64();
            let due = ((count as f64 * share) as usize).min(count) + shots.len() - count;
            for shot in shots.by_ref().take(due) {
                shot.fire(&self.client).await;
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn judge(
        self,
        args: &Args,
        before: [u64; 2],
        quiet: &[f64],
        attacked: &[f64],
    ) -> ExitCode {
        let [alice, bob] = &self.pair;
        alice.ask("rest").await;
        let sent = number(&alice.report().await["sent"]);
        bob.is("all arrives", |report| number(&report["received"]) >= sent).await;
        let reports = [alice.report().await, bob.report().await];
        let sum = |of: &dyn Fn(&serde_json::Value) -> u64| reports.iter().map(of).sum::<u64>();
        let refused = sum(&|report| number(&report["statistics"]["counters"]["refused_frames"]));
        let unmatched = number(&reports[0]["statistics"]["counters"]["unmatched_answers"]);
        let panics = sum(&|report| number(&report["panics"]));
        let growth: [u64; 2] =
            std::array::from_fn(|i| number(&reports[i]["peak_kb"]).saturating_sub(before[i]));
        let once = number(&reports[1]["received"]) == sent && reports[1]["wrong"] == 0;
        let share = median(attacked) / median(quiet);
        let bounded = growth.iter().all(|growth| *growth < GROWTH_KB);
        let well = share >= LEAST_SHARE && once && bounded && panics == 0 && refused > 0;
        let hostile = 3.0 * args.frames as f64 / args.window.as_secs_f64();
        if args.json {
            let verdict = json!({
                "well": well, "share": share, "quiet_median": median(quiet), "attacked_median": median(attacked),
                "quiet": quiet, "attacked": attacked, "hostile_frames_a_second": hostile, "messages": sent,
                "in_order_and_once": once, "malformed": self.reached, "refused": refused, "unmatched_answers": unmatched,
                "growth_kib": {"alice": growth[0], "bob": growth[1]}, "panics": panics,
            });
            println!("{verdict}");
        } else {
            println!(
                "quiet      {:>9.0} messages a second, median of {}",
                median(quiet),
                quiet.len()
            );
            println!(
                "attacked   {:>9.0} messages a second, median of {}, under {hostile:.0} hostile frames a second",
                median(attacked),
                attacked.len()
            );
            println!(
                "share      {:>8.1} % of the throughput is left, at least {:.0} % must be",
                share * 100.0,
                LEAST_SHARE * 100.0
            );
            println!(
                "messages   {sent:>9} sent, {}",
                if once { "received in order and once" } else { "NOT received in order and once" }
            );
            println!(
                "refused    {refused:>9} of {} malformed frames counted, the others lost in the client; {unmatched} answers fitted nothing",
                self.reached
            );
            println!(
                "memory     {:>9} KiB more for the sender, {} KiB for the receiver, less than {GROWTH_KB} each may be",
                growth[0], growth[1]
            );
            println!("panics     {panics:>9}");
        }
        if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
