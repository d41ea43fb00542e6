//! The run: does what the plan says, and between two faults waits until all voters know one master.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::Signal;
use tokio::time::sleep;
use waypost_chaos::conduct::link::{Link, Wire};

use crate::cluster::Cluster;
use crate::log::{DEEDS, Deed, Log, VOTERS, WATCHER, now_us};
use crate::plan::{Act, Kind, plan};
use crate::process::Process;
use crate::voter::Electorate;

/// The voters have to agree within this time after a fault.
const AGREE_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at the logs.
const LOOK: Duration = Duration::from_millis(10);
/// Between two lines that tell how it goes.
const TELL: Duration = Duration::from_secs(30);

/// How it is run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) folder: PathBuf,
    pub(crate) seed: u64,
    pub(crate) kills: u64,
    pub(crate) long_stop: bool,
    pub(crate) electorate: Electorate,
}

/// Runs the plan. The judge finds what it needs in the folder.
///
/// # Errors
/// Something of the apparatus does not work. What the nodes do wrong is not an error here.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    for folder in ["nodes", "log"] {
        std::fs::create_dir_all(settings.folder.join(folder)).context("making the folder")?;
    }
    let mut run = Run::start(settings).await?;
    let mut acts = plan(settings.seed, settings.kills, settings.long_stop);
    if settings.electorate == Electorate::Visible {
        acts.push(Act::partition());
    }
    let mut told = Instant::now();
    let mut agreed = run.agree().await?;
    for (nth, act) in acts.iter().enumerate() {
        if told.elapsed() >= TELL {
            told = Instant::now();
            eprintln!("elections: {nth} of {} faults", acts.len());
        }
        agreed = run.rest(act.rest).await?;
        let Some(master) = agreed else { break };
        run.act(*act, master).await?;
    }
    if agreed.is_some() {
        // The last master sets some states, too.
        agreed = run.rest(Duration::from_millis(500)).await?;
    }
    if agreed.is_none() {
        eprintln!("elections: the voters do not agree; nothing more is broken");
    }
    run.end().await
}

struct Run {
    deeds: Log,
    electorate: Electorate,
    cluster: Cluster,
    /// By voter.
    links: Vec<Link>,
    voters: Vec<Process>,
    watcher: Process,
    _watchers_link: Link,
}

impl Run {
    async fn start(settings: &Settings) -> anyhow::Result<Self> {
        let folder: &Path = &settings.folder;
        let deeds = Log::open(&folder.join(DEEDS))?;
        let cluster = Cluster::start(folder, &deeds).await?;
        let (seed, kills, server) = (settings.seed, settings.kills, cluster.version.clone());
        deeds.say(Deed::Plan { seed, kills, server });
        let (mut links, mut voters) = (Vec::new(), Vec::new());
        for (at, name) in VOTERS.into_iter().enumerate() {
            let link = cluster.link(at).await?;
            voters.push(Process::new(name, link.url(), folder, settings.electorate));
            links.push(link);
        }
        let watchers_link = cluster.link(0).await?;
        let watcher = Process::new(WATCHER, watchers_link.url(), folder, settings.electorate);
        let electorate = settings.electorate;
        Ok(Self {
            deeds,
            electorate,
            cluster,
            links,
            voters,
            watcher,
            _watchers_link: watchers_link,
        })
    }

    /// Waits until all voters run and know the same master, which knows it too, and until states go from it to all of them: somebody who was
    /// cut off a moment ago may know nothing of it yet. Which voter it is; none where they do not agree in time.
    async fn agree(&mut self) -> anyhow::Result<Option<usize>> {
        let (begun, since_us) = (Instant::now(), now_us());
        while begun.elapsed() < AGREE_WITHIN {
            self.look()?;
            // Who has ended by itself is on record.
            self.start_all()?;
            let fed = self.voters.iter().all(|voter| voter.view.fed_us > since_us);
            if let Some((at, term)) = self.agreed().filter(|_| fed) {
                self.deeds.say(Deed::Agreed { node: self.voters[at].name.clone(), term });
                return Ok(Some(at));
            }
            sleep(LOOK).await;
        }
        self.disagree();
        Ok(None)
    }

    fn disagree(&self) {
        let seen = self.voters.iter().map(|voter| {
            format!("{} leads {:?} and sees {:?}", voter.name, voter.view.leads, voter.view.sees)
        });
        self.deeds.say(Deed::Disagreed { seen: seen.collect::<Vec<_>>().join(", ") });
    }

    /// Lets the master on which all agree lead for a while: the next fault is to hit one that still leads then.
    async fn rest(&mut self, rest: Duration) -> anyhow::Result<Option<usize>> {
        let begun = Instant::now();
        let mut agreed = self.agree().await?;
        while agreed.is_some() && begun.elapsed() < AGREE_WITHIN {
            sleep(rest).await;
            self.look()?;
            if self.agreed().map(|(at, _)| at) == agreed {
                return Ok(agreed);
            }
            agreed = self.agree().await?;
        }
        if agreed.is_some() {
            self.disagree();
        }
        Ok(None)
    }

    fn start_all(&mut self) -> anyhow::Result<()> {
        for voter in &mut self.voters {
            voter.start(&self.deeds)?;
        }
        // Where all that are seen elect, nobody only looks on.
        if self.electorate == Electorate::Quorum {
            self.watcher.start(&self.deeds)?;
        }
        Ok(())
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let mut nodes = self.voters.iter_mut().chain([&mut self.watcher]);
        nodes.try_for_each(|node| node.look(&self.deeds))
    }

    fn agreed(&self) -> Option<(usize, u64)> {
        let (master, term) = self.voters[0].view.sees.as_ref()?;
        let at = self.voters.iter().position(|voter| voter.name == *master)?;
        let all = self.voters.iter().all(|voter| {
            voter.is_running() && voter.view.sees.as_ref() == Some(&(master.clone(), *term))
        });
        (all && self.voters[at].view.leads == Some(*term)).then_some((at, *term))
    }

    async fn act(&mut self, act: Act, master: usize) -> anyhow::Result<()> {
        let others: Vec<usize> = (0..VOTERS.len()).filter(|at| *at != master).collect();
        let at = act.at_other.map_or(master, |nth| others[nth]);
        match act.kind {
            Kind::Kill => {
                self.fault(act.kind, master);
                self.voters[master].kill(&self.deeds).await?;
                sleep(act.away).await;
                self.voters[master].start(&self.deeds)?;
            }
            Kind::HandOver => {
                self.fault(act.kind, master);
                self.voters[master].terminate(&self.deeds)?;
                self.voters[master].wait(&self.deeds).await?;
                sleep(act.away).await;
                self.voters[master].start(&self.deeds)?;
            }
            Kind::KillLeaving | Kind::KillSuccessor => self.kill_in_handover(act, master).await?,
            Kind::Freeze | Kind::LongFreeze => {
                self.fault(act.kind, master);
                self.voters[master].signal(Signal::STOP)?;
                sleep(act.hold).await;
                self.healed(act.kind, master, None);
                self.voters[master].signal(Signal::CONT)?;
                self.wait_for_waking(master).await?;
            }
            Kind::ClusterCut | Kind::ClusterHeld => {
                let wire = if act.kind == Kind::ClusterCut { Wire::Cut } else { Wire::Held };
                self.fault(act.kind, at);
                self.cluster.set(at, wire);
                sleep(act.hold).await;
                let felt = self.cluster.set(at, Wire::Whole);
                self.healed(act.kind, at, Some(felt));
            }
            Kind::LinkCut | Kind::LinkHeld => {
                let wire = if act.kind == Kind::LinkCut { Wire::Cut } else { Wire::Held };
                self.fault(act.kind, at);
                self.links[at].felt();
                self.links[at].set(wire);
                sleep(act.hold).await;
                let felt = self.links[at].felt();
                self.links[at].set(Wire::Whole);
                self.healed(act.kind, at, Some(felt));
            }
        }
        Ok(())
    }

    async fn kill_in_handover(&mut self, act: Act, master: usize) -> anyhow::Result<()> {
        self.fault(act.kind, master);
        self.voters[master].terminate(&self.deeds)?;
        sleep(act.hold).await;
        let victim = if act.kind == Kind::KillLeaving {
            master
        } else {
            self.look()?;
            self.successor(master, act)
        };
        self.voters[victim].kill(&self.deeds).await?;
        self.voters[master].wait(&self.deeds).await?;
        sleep(act.away).await;
        for at in [master, victim] {
            self.voters[at].start(&self.deeds)?;
        }
        Ok(())
    }

    /// Who leads already, or is named by the one who leaves, or may be the one.
    fn successor(&self, leaving: usize, act: Act) -> usize {
        let others: Vec<usize> = (0..VOTERS.len()).filter(|at| *at != leaving).collect();
        let named = self.voters[leaving].view.successor.as_ref();
        let leads = others.iter().find(|at| self.voters[**at].view.leads.is_some());
        let named = others.iter().find(|at| Some(&self.voters[**at].name) == named);
        *leads.or(named).unwrap_or(&others[act.at_other.unwrap_or(0)])
    }

    /// A node that has just woken up has to look around before what its log says is of now.
    async fn wait_for_waking(&mut self, node: usize) -> anyhow::Result<()> {
        sleep(Duration::from_millis(100)).await;
        self.voters[node].look(&self.deeds)
    }

    fn fault(&self, kind: Kind, at: usize) {
        self.deeds.say(Deed::Fault { kind, node: self.voters[at].name.clone() });
    }

    fn healed(&self, kind: Kind, at: usize, felt: Option<u64>) {
        self.deeds.say(Deed::Healed { kind, node: self.voters[at].name.clone(), felt });
    }

    async fn end(mut self) -> anyhow::Result<()> {
        self.deeds.say(Deed::Over);
        let running = self.voters.iter_mut().chain([&mut self.watcher]);
        for node in running.filter(|node| node.is_running()) {
            node.terminate(&self.deeds)?;
        }
        for node in self.voters.iter_mut().chain([&mut self.watcher]) {
            node.wait(&self.deeds).await?;
        }
        Ok(())
    }
}
