//! `waypost top`: all running nodes on the whole terminal, asked again and again.

use std::time::{Duration, Instant, SystemTime};

use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use waypost::Config;
use waypost::management::{Observer, Report};

use super::reports::{self, WITHIN};
use crate::args::{FASTEST, SLOWEST, Top};
use crate::output::Output;
use crate::run::{Outcome, Usage};
use screen::Screen;
use view::{Sort, View};
use watching::Watch;
use waypost_process::Signals;

mod draw;
mod numbers;
mod screen;
mod view;
mod watching;

/// Between the two looks of `--once`, from which rates are made.
const ONCE: Duration = Duration::from_secs(1);

pub(super) async fn run(config: Config, args: &Top, output: &Output) -> anyhow::Result<Outcome> {
    if args.once {
        return once(&config, output).await;
    }
    if !output.terminal() {
        let what = "standard output is no terminal: `waypost top --once` prints once";
        return Err(Usage(anyhow::anyhow!(what)).into());
    }
    let mut signals = Signals::listen()?;
    let mut screen = Screen::open(signals.clone()).map_err(|error| {
        let what = "the terminal can't be used: `waypost top --once` needs none";
        Usage(anyhow::Error::new(error).context(what))
    })?;
    let (pace, paces) = watch::channel(Pace { every: args.interval, paused: false });
    let (samples, mut seen) = mpsc::channel(1);
    let asking = tokio::spawn(ask(config, samples, paces));
    let shown = show(&mut screen, &pace, &mut seen, &mut signals).await;
    drop(screen);
    asking.abort();
    shown
}

/// How often is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    every: Duration,
    paused: bool,
}

type Sample = Result<Vec<Report>, String>;

/// Asks all nodes at this pace, over a connection that is made anew where it fails. Ends with whoever listens.
async fn ask(config: Config, samples: mpsc::Sender<Sample>, mut paces: watch::Receiver<Pace>) {
    let mut connected: Option<Observer> = None;
    loop {
        let sample = match connected.take() {
            Some(observer) => Ok(observer),
            None => Observer::connect(&config).await,
        };
        let sample = match sample {
            Ok(mut observer) => {
                let reports = observer.reports(WITHIN, &[]).await;
                match &reports {
                    Ok(_) => connected = Some(observer),
                    Err(_) => observer.close().await,
                }
                reports
            }
            Err(error) => Err(error),
        };
        if samples.send(sample.map_err(|error| error.to_string())).await.is_err() {
            return;
        }
        let asked = tokio::time::Instant::now();
        loop {
            let Pace { every, paused } = *paces.borrow_and_update();
            let next = async {
                match paused {
                    true => std::future::pending().await,
                    false => tokio::time::sleep_until(asked + every).await,
                }
            };
            tokio::select! {
                () = next => break,
                changed = paces.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Until the user or a signal ends it.
async fn show(
    screen: &mut Screen,
    pace: &watch::Sender<Pace>,
    seen: &mut mpsc::Receiver<Sample>,
    signals: &mut Signals,
) -> anyhow::Result<Outcome> {
    let mut keys = EventStream::new();
    let mut watched = Watch::default();
    let mut view = View::new(pace.borrow().every);
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    loop {
        screen.draw(&watched, &mut view)?;
        tokio::select! {
            number = signals.caught() => return Ok(Outcome::Interrupted(number)),
            Some(sample) = seen.recv() => watched.take(sample, Instant::now(), SystemTime::now()),
            key = keys.next() => match key {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    if pressed(key, &mut view, pace) {
                        return Ok(Outcome::Done);
                    }
                }
                // Another size; it is drawn anew.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                // The terminal is gone.
                None => return Ok(Outcome::Done),
            },
            _ = clock.tick() => {}
        }
    }
}

/// Does what a key says. True: it is the end.
fn pressed(key: KeyEvent, view: &mut View, pace: &watch::Sender<Pace>) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'd') if control => return true,
        KeyCode::Esc if view.help => view.help = false,
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('?' | 'h') => view.help = !view.help,
        KeyCode::Char(' ' | 'p') => view.paused = !view.paused,
        KeyCode::Char('s') => view.sort = view.sort.next(),
        KeyCode::Char('n') => view.sort = Sort::Name,
        KeyCode::Char('w') => view.sort = Sort::Waiting,
        KeyCode::Char('r') => view.sort = Sort::Rate,
        KeyCode::Char('+' | '=') => view.every = (view.every / 2).max(FASTEST),
        KeyCode::Char('-') => view.every = (view.every * 2).min(SLOWEST),
        KeyCode::Up | KeyCode::Char('k') => view.scroll(-1),
        KeyCode::Down | KeyCode::Char('j') => view.scroll(1),
        KeyCode::PageUp => view.scroll(-10),
        KeyCode::PageDown => view.scroll(10),
        KeyCode::Home => view.first = 0,
        _ => {}
    }
    let now = Pace { every: view.every, paused: view.paused };
    pace.send_if_modified(|pace| std::mem::replace(pace, now) != now);
    false
}

/// Two looks, and what they show as lines.
async fn once(config: &Config, output: &Output) -> anyhow::Result<Outcome> {
    let mut observer = Observer::connect(config).await.map_err(reports::refused)?;
    let mut watched = Watch::default();
    let first = observer.reports(WITHIN, &[]).await.map_err(reports::refused)?;
    if first.is_empty() {
        observer.close().await;
        return Ok(reports::unanswered("no node"));
    }
    watched.take(Ok(first), Instant::now(), SystemTime::now());
    tokio::time::sleep(ONCE).await;
    let second = observer.reports(WITHIN, &[]).await;
    observer.close().await;
    watched.take(Ok(second.map_err(reports::refused)?), Instant::now(), SystemTime::now());
    let width = output.terminal().then(|| {
        let size = crossterm::terminal::size().ok().filter(|(columns, _)| *columns > 0);
        size.map_or(draw::WIDTH, |(columns, _)| columns)
    });
    output.print(draw::text(&draw::once(&watched, width, SystemTime::now()))).await?;
    Ok(Outcome::Done)
}
