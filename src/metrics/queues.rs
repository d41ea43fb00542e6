//! Whose queues are told one by one.

use std::cmp::Reverse;

use crate::management::Account;

/// Most receivers that are told one by one, so that a node with thousands of peers makes no thousands of time series.
const MAX_RECEIVERS: usize = 100;
/// No node can have these names.
const OTHER: &str = "(other)";
const NONE: &str = "(none)";

/// What waits for one receiver.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Queue<'a> {
    pub(super) receiver: &'a str,
    pub(super) messages: u64,
    /// When the oldest of them was sent, in milliseconds since 1970.
    pub(super) oldest_ms: Option<u64>,
}

/// The longest queues by name; where there are more, the rest as one.
pub(super) fn longest(accounts: &[Account]) -> Vec<Queue<'_>> {
    let mut queues: Vec<_> = accounts.iter().map(of).collect();
    queues.sort_by_key(|queue| (Reverse(queue.messages), queue.receiver));
    let rest = queues.split_off(MAX_RECEIVERS.min(queues.len()));
    if !rest.is_empty() {
        queues.push(Queue {
            receiver: OTHER,
            messages: rest.iter().fold(0, |sum, queue| sum.saturating_add(queue.messages)),
            oldest_ms: rest.iter().filter_map(|queue| queue.oldest_ms).min(),
        });
    }
    queues
}

fn of(account: &Account) -> Queue<'_> {
    let receiver = account.receiver.as_ref().map_or(NONE, |receiver| receiver.as_str());
    Queue { receiver, messages: account.pending, oldest_ms: account.oldest_pending_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::NodeId;

    fn account(name: Option<&str>, pending: u64, oldest_pending_ms: Option<u64>) -> Account {
        let receiver = name.map(|name| NodeId::new(name).expect("a name"));
        Account { receiver, pending, oldest_pending_ms, ..Account::default() }
    }

    #[test]
    fn a_hundred_receivers_are_told_one_by_one_and_the_rest_as_one() {
        let names: Vec<String> = (0..250).map(|n| format!("n{n:03}")).collect();
        let accounts: Vec<_> = (0_u64..)
            .zip(&names)
            .map(|(n, name)| account(Some(name), n, Some(9_000 - n)))
            .collect();
        let queues = longest(&accounts);
        assert_eq!(queues.len(), 101);
        assert_eq!(queues[0].receiver, "n249");
        let rest = Queue { receiver: "(other)", messages: (0..150).sum(), oldest_ms: Some(8_851) };
        assert_eq!(queues[100], rest);
        assert_eq!(longest(&accounts[..100]).len(), 100);
    }

    #[test]
    fn a_node_called_other_is_not_the_rest() {
        let accounts = [account(Some("other"), 1, Some(5)), account(None, 2, None)];
        let names: Vec<_> =
            longest(&accounts).iter().map(|queue| queue.receiver.to_owned()).collect();
        assert_eq!(names, ["(none)", "other"]);
    }
}
