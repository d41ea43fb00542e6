//! The NATS server: reachable, lets us in, lets us do what a node does, takes our largest payload.

use std::collections::BTreeSet;

use waypost::management::{ObserveError, ServerAt, permissions, servers};
use waypost::{Config, NodeId, Reason};

use super::Check;
use crate::output::bytes;

/// Bytes that a frame's header takes beside a payload, at most about that: names, kind and headers.
const HEADER_ROOM: usize = 20 * 1024;
/// Whether the server lets us in.
pub(super) const LOGIN: &str = "login";

pub(super) async fn checks(config: &Config, node: &NodeId) -> Vec<Check> {
    let permissions = match permissions(config, node).await {
        Ok(permissions) => permissions,
        Err(error) => return vec![refused(&error)],
    };
    let mut checks = Vec::new();
    if let Some(server) = &permissions.server {
        let rtt = format!("{:.1} ms", server.rtt.as_secs_f64() * 1000.0);
        let found = format!("{} at {} answers in {rtt}", server.server, server.address);
        checks.push(Check::ok("nats", found));
    }
    checks.push(Check::ok(LOGIN, "the server lets us in"));
    checks.push(match &permissions.refused[..] {
        [] => Check::ok("permissions", format!("enough for a node named {node}")),
        refused => {
            let reason = Reason::refused(refused.join("; "));
            Check::fail("permissions", reason.sentence(), reason.remedy())
        }
    });
    if let Some(server) = permissions.server {
        checks.push(Check::ok("version", server.version));
        checks.push(payload(config.max_payload_bytes, server.max_payload_bytes));
    }
    if config.nats.len() > 1 {
        match servers(config, node).await {
            Ok(found) => checks.extend(cluster(&found)),
            Err(error) => checks.push(refused(&error)),
        }
    }
    checks
}

/// Whether all addresses lead into one cluster.
fn cluster(found: &[ServerAt]) -> Vec<Check> {
    let mut checks: Vec<_> = found.iter().filter_map(unused).collect();
    let groups: BTreeSet<_> = found.iter().filter_map(|at| at.group).collect();
    let reached = found.iter().filter(|at| at.group.is_some()).count();
    if groups.len() > 1 {
        let of_group = |group: &usize| {
            let there: Vec<_> = found.iter().filter(|at| at.group == Some(*group)).collect();
            let addresses: Vec<_> = there.iter().map(|at| at.address.as_str()).collect();
            let nodes: BTreeSet<_> = there.iter().flat_map(|at| &at.nodes).collect();
            let nodes: Vec<_> = nodes.into_iter().map(|node| node.as_str()).collect();
            match &nodes[..] {
                [] => addresses.join(" and "),
                nodes => format!("{} (nodes: {})", addresses.join(" and "), nodes.join(", ")),
            }
        };
        let apart: Vec<_> = groups.iter().map(of_group).collect();
        checks.push(Check::fail(
            "servers",
            format!("no message passes between {}", apart.join(" and ")),
            "name in nats the servers of one cluster only, or join them to one: a node reaches only the peers that are connected to the same cluster",
        ));
    } else if reached > 1 {
        let first = found.iter().find_map(|at| at.server.as_ref());
        let cluster = first.and_then(|server| server.cluster.clone());
        let name = cluster.map(|name| format!(" named {name}")).unwrap_or_default();
        checks
            .push(Check::ok("servers", format!("{reached} addresses lead into one cluster{name}")));
    }
    checks
}

fn unused(at: &ServerAt) -> Option<Check> {
    let trouble = at.trouble.as_ref()?;
    let remedy = "start it, or take its address out of nats: each search for a server tries it too";
    Some(Check::warn("servers", format!("{} cannot be used: {trouble}", at.address), remedy))
}

fn payload(ours: usize, theirs: usize) -> Check {
    let size = |count: usize| bytes(count as u64);
    if theirs < ours {
        return Check::fail(
            "max payload",
            format!("the server takes {}, max_payload_bytes is {}", size(theirs), size(ours)),
            "raise max_payload in the server's configuration, or lower max_payload_bytes: larger messages would become dead letters",
        );
    }
    if theirs < ours + HEADER_ROOM {
        return Check::warn(
            "max payload",
            format!("the server takes {}, max_payload_bytes is {}", size(theirs), size(ours)),
            "leave 20 KiB between them: a message of full size with many headers would not fit",
        );
    }
    Check::ok(
        "max payload",
        format!("the server takes {}, max_payload_bytes is {}", size(theirs), size(ours)),
    )
}

fn refused(error: &ObserveError) -> Check {
    let check = match error {
        ObserveError::NotConnected { .. } => "nats",
        ObserveError::Unauthorized { .. } => LOGIN,
        ObserveError::Denied { .. } => "permissions",
        _ => "settings",
    };
    match error.reason() {
        Some(reason) => Check::fail(check, reason.sentence(), reason.remedy()),
        None => Check::fail(check, chain(error), "correct them"),
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_servers_largest_payload_is_compared_with_ours() {
        assert_eq!(payload(1_000_000, 1_048_576).verdict, Verdict::Ok);
        assert_eq!(payload(1_000_000, 1_010_000).verdict, Verdict::Warn);
        assert_eq!(payload(1_000_000, 999_999).verdict, Verdict::Fail);
    }
}
