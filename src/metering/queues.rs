//! Whose queues are told one by one.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::protocol::report::Account;

/// Most receivers that are told one by one, so that a node with thousands of peers makes no thousands of time series.
const MAX_RECEIVERS: usize = 100;
/// No node can have these names.
const OTHER: &str = "(other)";
const NONE: &str = "(none)";

/// What waits for one receiver.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Queue<'a> {
    pub(crate) receiver: &'a str,
    pub(crate) messages: u64,
    /// When the oldest of them was sent, in milliseconds since 1970.
    pub(crate) oldest_ms: Option<u64>,
}

/// Who was told of by name last. Whoever has been keeps its name as long as something waits for it: where many queues are about equally long, others would be the
/// longest at each look, and the series would never end.
#[derive(Debug, Default)]
pub(crate) struct Named(Mutex<BTreeSet<String>>);

impl Named {
    /// The longest queues by name; where there are more, the rest as one.
    pub(crate) fn longest<'a>(&self, accounts: &'a [Account]) -> Vec<Queue<'a>> {
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let queues =
            longest(accounts, |queue| queue.messages > 0 && named.contains(queue.receiver));
        *named = queues.iter().map(|queue| queue.receiver.to_owned()).collect();
        queues
    }
}

fn longest<'a>(accounts: &'a [Account], stays: impl Fn(&Queue<'_>) -> bool) -> Vec<Queue<'a>> {
    let mut queues: Vec<_> = accounts.iter().map(of).collect();
    queues.sort_by_cached_key(|queue| (!stays(queue), Reverse(queue.messages), queue.receiver));
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
        let queues = longest(&accounts, |_| false);
        assert_eq!(queues.len(), 101);
        assert_eq!(queues[0].receiver, "n249");
        let rest = Queue { receiver: "(other)", messages: (0..150).sum(), oldest_ms: Some(8_851) };
        assert_eq!(queues[100], rest);
        assert_eq!(longest(&accounts[..100], |_| false).len(), 100);
    }

    #[test]
    fn whoever_was_told_of_by_name_keeps_it_while_something_waits_for_it() {
        let names: Vec<String> = (0..101).map(|n| format!("n{n:03}")).collect();
        let told = |waiting: &dyn Fn(usize) -> u64, named: &Named| {
            let account = |(n, name): (usize, &String)| account(Some(name), waiting(n), None);
            let accounts: Vec<_> = names.iter().enumerate().map(account).collect();
            let queues = named.longest(&accounts);
            let is_told = |name: &str| queues.iter().any(|queue| queue.receiver == name);
            (is_told("n000"), is_told("n100"))
        };
        let named = Named::default();
        assert_eq!(told(&|n| if n == 100 { 1 } else { 2 }, &named), (true, false));
        assert_eq!(told(&|n| if n == 0 { 1 } else { 2 }, &named), (true, false), "it has its name");
        assert_eq!(
            told(&|n| if n == 0 { 0 } else { 2 }, &named),
            (false, true),
            "nothing waits for it"
        );
    }

    #[test]
    fn a_node_called_other_is_not_the_rest() {
        let accounts = [account(Some("other"), 1, Some(5)), account(None, 2, None)];
        let names: Vec<_> =
            longest(&accounts, |_| false).iter().map(|queue| queue.receiver.to_owned()).collect();
        assert_eq!(names, ["(none)", "other"]);
    }
}
