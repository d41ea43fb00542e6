//! A driver from what the file held.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::FuturesUnordered;

use super::ahead::Ahead;
use super::callbacks::Callbacks;
use super::convert::{HELD_BYTES, delivery_limits, known, received};
use super::handlers::Handlers;
use super::leader::Outlets;
use super::outside::Surroundings;
use super::telling::Told;
use super::{Driver, Parts};
use crate::clock;
use crate::config::Overflow;
use crate::core::{self, Core};
use crate::metering::Flights;
use crate::protocol::Now;
use crate::protocol::admin::Admin;
use crate::protocol::inbound::Inbound;
use crate::protocol::inbox;
use crate::protocol::inbox::begun::{ENDED, Note, Standing};
use crate::protocol::leadership::{Audited, Leadership};
use crate::protocol::lifecycle::Lifecycle;
use crate::protocol::looks::{self, Looks};
use crate::protocol::membership;
use crate::protocol::origin::Origin;
use crate::protocol::outbound::Outbound;
use crate::protocol::peers::{self, Identity, Peers};
use crate::store::{Opened, Restored};
use crate::transport::Transport;

impl<T: Transport> Driver<T> {
    pub(crate) fn new(parts: Parts, transport: T) -> Self {
        let Parts {
            config,
            opened,
            host,
            incarnation,
            tally,
            gate,
            events,
            status,
            commands,
            view,
            elections,
            ..
        } = parts;
        let Opened { store, notices, restored, begun: (begun, noted), .. } = opened;
        let Restored {
            node,
            stores,
            last_id,
            topics,
            cursors,
            peers,
            subscriptions,
            inbox,
            left,
            election,
            draining,
            ..
        } = restored;
        let now = Now { mono: Instant::now(), file_ms: store.now_ms() };
        let me = Identity {
            node: node.clone(),
            incarnation,
            host: host.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            elects: config.election_settings().is_some(),
        };
        let of_peers = membership::Limits {
            interval: config.keepalive_interval,
            offline_after: config.offline_after,
            expiry: config.peer_expiry,
            max_peers: config.max_peers.get(),
        };
        let restored = peers::Restored {
            known: peers.into_iter().map(known).collect(),
            subscriptions: subscriptions.into_iter().map(|s| (s.node, s.channel)).collect(),
            left,
            held: draining.is_some(),
        };
        let peers = Peers::new(me, of_peers, restored, fastrand::u64(..), now);
        let admin = Admin::new(
            node.clone(),
            incarnation,
            config.management.clone(),
            config.audit.management,
            draining,
        );
        let audit = config.audit;
        let audited = Audited { elections: audit.elections, states: audit.states };
        let leadership = config.election_settings().map(|settings| {
            for warning in settings.warnings(&node) {
                tracing::warn!(%node, "{warning}");
            }
            let (me, durable) = ((node.clone(), incarnation), election.unwrap_or_default());
            let (seed, now) = (fastrand::u64(..), Now { mono: clock::now(), ..now });
            Leadership::new(me, settings, durable, audited, seed, now)
        });
        let looks = Looks::new(looks::Limits {
            queue: u64::try_from(config.queue_limit.get()).unwrap_or(u64::MAX),
            rejects: config.overflow == Overflow::Reject,
        });
        let callbacks = Callbacks::new(parts.handlers.clone(), Arc::clone(&gate));
        let limits = inbox::Limits { handlers: config.max_handlers.get(), held_bytes: HELD_BYTES };
        let received = inbox.into_iter().map(received);
        let inbound = Inbound::new(node.clone(), limits, received);
        let core = Core::new(core::Parts {
            me: node.clone(),
            outbound: Outbound::new(
                delivery_limits(&config),
                fastrand::u64(..),
                Origin::new(stores, last_id),
            ),
            inbound,
            peers,
            leadership,
            admin,
            lifecycle: Lifecycle::new(config.cleanup_interval, now.mono, clock::now()),
            looks,
        });
        let runtime = parts.handlers.clone();
        let mut driver = Self {
            me: node,
            host,
            incarnation,
            started: now.mono,
            notices,
            transport,
            tally,
            events,
            status,
            commands,
            contact: Some(parts.contact),
            told: Told::default(),
            core,
            around: Surroundings::new(store.clone(), config.max_payload_bytes, runtime),
            effects: VecDeque::new(),
            performing: false,
            ahead: Ahead::default(),
            flights: Flights::default(),
            settle_waiters: Vec::new(),
            outlets: Outlets::new(view, elections, callbacks),
            begun,
            handlers: Handlers::new(parts.handlers, Arc::clone(&gate)),
            gate,
            consumers: BTreeMap::new(),
            last_consumer: 0,
            askers: HashMap::new(),
            last_ticket: 0,
            ordering: HashMap::new(),
            asking_for_reasons: Vec::new(),
            jobs: FuturesUnordered::new(),
            timers: BTreeSet::new(),
            armed: HashMap::new(),
            stop_reply: None,
            config,
            store,
        };
        driver.take_up(noted);
        let topics = topics.into_iter().map(|topic| (topic.topic, topic.into()));
        let cursors = cursors.into_iter().map(Into::into).collect();
        let at = driver.at();
        driver.core.restore((&driver.around, at), topics, cursors, &mut driver.effects);
        driver
    }

    /// What the last process was at when it ended.
    fn take_up(&mut self, noted: Vec<Note>) {
        let notes = self.core.noted(noted);
        for (_, note) in notes.iter().filter(|(_, note)| note.standing == Standing::Blamed) {
            let (sender, id) = (&note.source.sender, note.first);
            tracing::error!(node = %self.me, %sender, %id, "{ENDED}; that is a failed attempt");
        }
        self.begun.begin_anew(&notes);
    }
}
