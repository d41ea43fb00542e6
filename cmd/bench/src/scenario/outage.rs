//! The server away for some seconds: what waits meanwhile, and how it is caught up with. Told, not judged.

use std::time::{Duration, Instant};

use crate::crowd::{Crowd, Hands};
use crate::error::BenchError;
use crate::pace;
use crate::proxy::Proxy;
use crate::record::{Plot, Record, Unit};
use crate::scenario::flight::{plain, unbounded};
use crate::stage::Stage;
use crate::window::reach;
use tokio::runtime::Handle;

/// Messages a second that go on being sent.
const A_SECOND: u32 = 2_000;

/// Looks from one point of the drawn rate to the next.
const SMOOTH: usize = 4;

/// Judges nothing.
pub(super) async fn run(stage: &Stage, record: &mut Record) -> Result<(), BenchError> {
    let Some(address) = stage.server.plain_address() else {
        let why = "the wire to the server is encrypted and cannot be cut by a proxy";
        record.miss("outage", why);
        return Ok(());
    };
    for round in 0..stage.sizes.runs {
        stage.progress.step("outage: the server away");
        let proxy = Proxy::start(address.clone()).await;
        let proxy = proxy.map_err(|error| crate::error::unusable("a port".as_ref(), &error))?;
        let told = one(stage, &proxy).await?;
        record.add("outage, wire whole to next delivery", Unit::Seconds, told.resumed);
        record.add("outage, wire whole to nothing waiting", Unit::Seconds, told.caught_up);
        record.add("outage, most messages waiting", Unit::Messages, told.most_waiting);
        if round == 0 {
            record.draw(Plot::Outage, "delivered a second", told.rate);
            record.draw(Plot::Outage, "waiting", told.waiting);
            let [cut, whole] = told.away.map(|at| at.as_secs_f64());
            record.draw(Plot::Outage, "server away", vec![[cut, 0.0], [whole, 0.0]]);
        }
        stage.progress.round_done();
    }
    record.note(format!("{A_SECOND} messages a second go on being sent, one in flight"));
    Ok(())
}

struct Told {
    resumed: f64,
    caught_up: f64,
    most_waiting: f64,
    rate: Vec<[f64; 2]>,
    waiting: Vec<[f64; 2]>,
    away: [Duration; 2],
}

async fn one(stage: &Stage, proxy: &Proxy) -> Result<Told, BenchError> {
    let third = stage.sizes.outage;
    let crowd =
        Crowd::gather_with(stage, 1, (Hands::Inline, Some(proxy)), unbounded(plain)).await?;
    let count = (3.0 * third.as_secs_f64() * f64::from(A_SECOND)) as u32;
    let (out, flow, payloads) = (crowd.out.clone(), crowd.flow.clone(), stage.payloads.clone());
    let runtime = Handle::current();
    let sending = tokio::task::spawn_blocking(move || {
        pace::keep(Duration::from_secs(1) / A_SECOND, count, |_| {
            let (out, flow, payload) = (out.clone(), flow.clone(), payloads.next());
            runtime.spawn(async move {
                if out.send(payload).await.is_ok() {
                    flow.count_sent();
                }
            });
        });
    });
    let begin = Instant::now();
    let mut told = Told {
        resumed: f64::NAN,
        caught_up: f64::NAN,
        most_waiting: 0.0,
        rate: Vec::new(),
        waiting: Vec::new(),
        away: [third, 2 * third],
    };
    watch(&crowd, proxy, begin, third, &mut told).await?;
    sending.await?;
    reach("the end of the outage", || crowd.flow.handled() >= u64::from(count)).await?;
    crowd.part().await;
    Ok(told)
}

/// Looks again and again until nothing waits.
async fn watch(
    crowd: &Crowd<'_>,
    proxy: &Proxy,
    begin: Instant,
    third: Duration,
    told: &mut Told,
) -> Result<(), BenchError> {
    let every = third / 80;
    let (mut drawn, mut cut, mut whole) = ((Duration::ZERO, 0), false, None);
    loop {
        tokio::time::sleep(every).await;
        let (now, handled) = (begin.elapsed(), crowd.flow.handled());
        let waiting = crowd.flow.sent().saturating_sub(handled) as f64;
        if told.waiting.len().is_multiple_of(SMOOTH) {
            let rate = (handled - drawn.1) as f64 / (now - drawn.0).as_secs_f64();
            told.rate.push([now.as_secs_f64(), rate]);
            drawn = (now, handled);
        }
        told.waiting.push([now.as_secs_f64(), waiting]);
        told.most_waiting = told.most_waiting.max(waiting);
        if !cut && now >= third {
            proxy.cut();
            (cut, told.away[0]) = (true, now);
        } else if cut && whole.is_none() && now >= 2 * third {
            proxy.heal();
            told.away[1] = now;
            whole = Some((now, handled));
        } else if let Some((healed, before)) = whole {
            if told.resumed.is_nan() && handled > before {
                told.resumed = (now - healed).as_secs_f64();
            }
            if told.caught_up.is_nan()
                && told.resumed.is_finite()
                && waiting <= f64::from(A_SECOND) / 50.0
            {
                told.caught_up = (now - healed).as_secs_f64();
            }
            if told.caught_up.is_finite() && now >= 3 * third {
                return Ok(());
            }
            if now > 3 * third + crate::window::PATIENCE {
                return Err(crate::window::stalled("the end of the outage"));
            }
        }
    }
}
