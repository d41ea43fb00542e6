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
use serde::Serialize;
use serde_json::Value;
use support::nats_server::NatsServer;

/// The least share of its throughput that the pair keeps.
const LEAST_SHARE: f64 = 0.9;
/// What a node's memory may grow by.
const GROWTH_KB: u64 = 64 * 1024;
/// The hostile client sends what is due this often.
const TICK: Duration = Duration::from_millis(10);
const WARM_UP: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Malformed,
    Answers,
    Keepalives,
}

struct Args {
    /// Pairs of windows: one quiet, one under attack.
    windows: u64,
    window: Duration,
    /// Hostile frames a second.
    rate: u64,
    kinds: Vec<Kind>,
    json: bool,
}

impl Args {
    fn read() -> Self {
        let mut args = Self {
            windows: 60,
            window: Duration::from_secs(1),
            rate: 1_000,
            kinds: vec![Kind::Malformed, Kind::Answers, Kind::Keepalives],
            json: false,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || {
                let value = words.next().and_then(|word| word.parse().ok());
                value.filter(|n| *n > 0).expect("scripts/hostile checks its arguments")
            };
            match word.as_str() {
                "--windows" => args.windows = number(),
                "--seconds" => args.window = Duration::from_secs(number()),
                "--rate" => args.rate = number(),
                "malformed" => args.kinds = vec![Kind::Malformed],
                "answers" => args.kinds = vec![Kind::Answers],
                "keepalives" => args.kinds = vec![Kind::Keepalives],
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

/// What was seen in one.
struct Window {
    attack: bool,
    /// Messages a second that bob received.
    rate: f64,
    /// Processors that the pair used.
    busy: f64,
}

fn main() -> ExitCode {
    if nodes::child::role().is_some_and(|role| hostile::honest::run(&role)) {
        return ExitCode::SUCCESS;
    }
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
    let messages = serde_json::from_value(ids).expect("a list of ids");
    let overheard = Overheard { whole, store, messages };
    alice.ask("flow").await;
    tokio::time::sleep(WARM_UP).await;
    let before = [peak(&alice).await, peak(&bob).await];
    let mut scene = Scene { pair: [alice, bob], client, overheard, next: 0, reached: 0 };

    let mut windows = Vec::new();
    for n in 0..args.windows {
        // The other way round each time, so that a machine that grows slower or faster favours neither.
        for attack in [n % 2 == 1, n % 2 == 0] {
            let window = scene.window(args, attack).await;
            let how = if attack { "under attack" } else { "in quiet" };
            eprintln!(
                "{:>6.0} messages a second {how}, {:.2} processors",
                window.rate, window.busy
            );
            windows.push(window);
        }
    }
    scene.judge(args, before, &windows).await
}

async fn peak(node: &Honest) -> u64 {
    number(&node.report().await["peak_kb"])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

impl Scene {
    async fn window(&mut self, args: &Args, attack: bool) -> Window {
        let shots = if attack { self.shots(args) } else { Vec::new() };
        let ticks = self.ticks().await;
        let (begin, before) = (Instant::now(), number(&self.pair[1].report().await["received"]));
        self.fire(shots, begin, args.window).await;
        tokio::time::sleep_until((begin + args.window).into()).await;
        let after = number(&self.pair[1].report().await["received"]);
        let seconds = begin.elapsed().as_secs_f64();
        let rate = (after - before) as f64 / seconds;
        let busy = (self.ticks().await - ticks) as f64 / 100.0 / seconds;
        // What is left of the attack belongs to no window.
        self.client.flush().await.expect("flushed");
        tokio::time::sleep(Duration::from_millis(100)).await;
        Window { attack, rate, busy }
    }

    /// Processor time of the pair, in hundredths of a second.
    async fn ticks(&self) -> u64 {
        let mut ticks = 0;
        for node in &self.pair {
            ticks += number(&node.report().await["processor_ticks"]);
        }
        ticks
    }

    /// Made before the window begins: the client's own work is not the pair's trouble.
    fn shots(&mut self, args: &Args) -> Vec<Shot> {
        let count = args.rate * args.window.as_secs() / args.kinds.len() as u64;
        let mut shots = Vec::new();
        for n in self.next..self.next + count {
            for kind in &args.kinds {
                shots.push(match kind {
                    Kind::Malformed => hostile::malformed(n, &self.overheard),
                    Kind::Answers => hostile::forged_answer(n, &self.overheard),
                    Kind::Keepalives => hostile::invented_keepalive(n),
                });
                if *kind == Kind::Malformed {
                    self.reached += shots.last().map_or(0, |shot| shot.reaches.len() as u64);
                }
            }
        }
        self.next += count;
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

    async fn judge(self, args: &Args, before: [u64; 2], windows: &[Window]) -> ExitCode {
        let [alice, bob] = &self.pair;
        alice.ask("rest").await;
        let sent = number(&alice.report().await["sent"]);
        bob.is("all arrives", |report| number(&report["received"]) >= sent).await;
        let reports = [alice.report().await, bob.report().await];
        let sum = |of: &dyn Fn(&Value) -> u64| reports.iter().map(of).sum::<u64>();
        let of = |attack: bool, value: fn(&Window) -> f64| {
            median(windows.iter().filter(|window| window.attack == attack).map(value).collect())
        };
        let (quiet, attacked) = (of(false, |w| w.rate), of(true, |w| w.rate));
        let verdict = Verdict {
            quiet,
            attacked,
            share: attacked / quiet,
            quiet_processors: of(false, |w| w.busy),
            attacked_processors: of(true, |w| w.busy),
            hostile_frames_a_second: args.rate,
            sent,
            received: number(&reports[1]["received"]),
            out_of_turn: number(&reports[1]["wrong"]),
            malformed: self.reached,
            refused: sum(&|report| number(&report["statistics"]["counters"]["refused_frames"])),
            unmatched_answers: number(&reports[0]["statistics"]["counters"]["unmatched_answers"]),
            growth_kib: std::array::from_fn(|i| {
                number(&reports[i]["peak_kb"]).saturating_sub(before[i])
            }),
            panics: sum(&|report| number(&report["panics"])),
        };
        if args.json {
            println!("{}", serde_json::to_string(&verdict).expect("numbers"));
        } else {
            verdict.print();
        }
        if verdict.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[derive(Serialize)]
struct Verdict {
    /// Medians, in messages a second.
    quiet: f64,
    attacked: f64,
    share: f64,
    quiet_processors: f64,
    attacked_processors: f64,
    hostile_frames_a_second: u64,
    sent: u64,
    received: u64,
    out_of_turn: u64,
    /// As often as they reached one of the pair.
    malformed: u64,
    refused: u64,
    unmatched_answers: u64,
    /// Of alice and bob.
    growth_kib: [u64; 2],
    panics: u64,
}

impl Verdict {
    fn is_well(&self) -> bool {
        self.share >= LEAST_SHARE
            && (self.received, self.out_of_turn, self.panics) == (self.sent, 0, 0)
            && self.growth_kib.iter().all(|growth| *growth < GROWTH_KB)
            && self.refused == self.malformed
    }

    fn print(&self) {
        let row = |name: &str, value: f64, text: String| println!("{name:<11} {value:>9.0} {text}");
        let used = |processors: f64| format!("messages a second, {processors:.2} processors used");
        row("quiet", self.quiet, used(self.quiet_processors));
        row("attacked", self.attacked, used(self.attacked_processors));
        let least = LEAST_SHARE * 100.0;
        row(
            "share",
            self.share * 100.0,
            format!("% of the throughput is left; at least {least:.0}"),
        );
        let rate = self.hostile_frames_a_second as f64;
        row("hostile", rate, "frames a second in a window under attack".to_owned());
        row("received", self.received as f64, format!("messages of {}", self.sent));
        row("out of turn", self.out_of_turn as f64, "messages; none may be".to_owned());
        let reached = self.malformed;
        row("refused", self.refused as f64, format!("malformed frames of {reached} counted"));
        row("unmatched", self.unmatched_answers as f64, "forged answers counted".to_owned());
        for (node, growth) in ["sender", "receiver"].into_iter().zip(self.growth_kib) {
            row("memory", growth as f64, format!("KiB more in the {node}; less than {GROWTH_KB}"));
        }
        row("panics", self.panics as f64, "of a node; none may be".to_owned());
    }
}
