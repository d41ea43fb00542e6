//! The NATS server: reachable, lets us in, lets us do what a node does, takes our largest payload.

use waypost::management::{ObserveError, permissions};
use waypost::{Config, NodeId, Reason};

use super::Check;
use crate::output::bytes;

/// Bytes that a frame's header takes beside a payload, at most about that: names, kind and headers.
const HEADER_ROOM: usize = 20 * 1024;

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
    checks.push(Check::ok("login", "the server lets us in"));
    checks.push(match &permissions.refused[..] {
        [] => Check::ok("permissions", format!("enough for a node named {node}")),
        refused => {
            let reason = Reason::Denied { said: refused.join("; ") };
            Check::fail("permissions", reason.sentence(), reason.remedy())
        }
    });
    if let Some(server) = permissions.server {
        checks.push(Check::ok("version", server.version));
        checks.push(payload(config.max_payload_bytes, server.max_payload_bytes));
    }
    checks
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
        ObserveError::Unauthorized { .. } => "login",
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
