//! A driver from what the file held.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use super::callbacks::Callbacks;
use super::frames::Ahead;
use super::handlers::Handlers;
use super::inbound::{HELD_BYTES, received};
use super::leader::Outlets;
use super::members::known;
use super::outbound::delivery_limits;
use super::{Driver, Parts};
use crate::clock;
use crate::config::Overflow;
use crate::metering::Flights;
use crate::protocol::Now;
use crate::protocol::admin::Admin;
use crate::protocol::inbound::Inbound;
use crate::protocol::inbox;
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
            link: false,
            max_frame: usize::MAX,
            refusal_told: None,
            dead_letter_told: None,
            dead_letters_untold: 0,
            outbound: Outbound::new(
                delivery_limits(&config),
                fastrand::u64(..),
                Origin::new(stores, last_id),
            ),
            ahead: Ahead::default(),
            flights: Flights::default(),
            settling: store.under_way(),
            settle_waiters: Vec::new(),
            settled: watch::Sender::new(0),
            peers,
            leadership,
            outlets: Outlets::new(view, elections, callbacks),
            inbound,
            begun,
            handlers: Handlers::new(parts.handlers, Arc::clone(&gate)),
            gate,
            admin,
            askers: HashMap::new(),
            looks,
            asking_for_reasons: Vec::new(),
            consumers: BTreeMap::new(),
            last_consumer: 0,
            jobs: FuturesUnordered::new(),
            timers: BTreeSet::new(),
            armed: HashMap::new(),
            lifecycle: Lifecycle::new(config.cleanup_interval, now.mono, clock::now()),
            stop_reply: None,
            config,
            store,
        };
        driver.take_up(noted);
        for topic in topics {
            driver.outbound.know_topic(topic.topic, topic.into());
        }
        let pending = cursors.iter().map(|cursor| (&cursor.receiver, cursor.pending));
        driver.looks.restored(now.mono, pending);
        for cursor in cursors {
            driver.with_outbound(|it, around| it.open(around, cursor.into()));
        }
        driver
    }
}
