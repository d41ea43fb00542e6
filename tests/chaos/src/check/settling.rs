//! Whether every accepted message ended in one recorded way, by what was seen and by the senders' own accounts.

use std::collections::BTreeMap;

use super::accounts::Accounts;
use super::deliveries::Deliveries;
use super::evidence::{Evidence, Sent, show};
use super::verdict::{Kind, Verdict};

/// What was seen of one sender's messages to one receiver.
#[derive(Debug, Default)]
struct Seen {
    accepted: u64,
    acknowledged: u64,
    dead: u64,
    /// Neither has to be accepted by the file as it is, nor must not: an older copy took its place meanwhile.
    in_doubt: u64,
}

/// Counts what is missing, and compares the senders' accounts with what was seen.
pub(super) fn settle(
    evidence: &Evidence,
    accounts: &Accounts,
    all: Vec<Deliveries>,
    verdict: &mut Verdict,
) {
    for mut deliveries in all {
        let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
        for (at, sent) in evidence.sent.iter().enumerate() {
            if sent.is_for(&deliveries.row.receiver, &deliveries.row.channel) {
                let seen = seen.entry(&sent.sender).or_default();
                count(at, sent, accounts, &mut deliveries, seen, verdict);
            }
        }
        for sender in evidence.senders() {
            let seen = seen.remove(sender.as_str()).unwrap_or_default();
            compare(sender, &seen, accounts, &mut deliveries, verdict);
        }
        if deliveries.row.delivered == 0 {
            let receiver = &deliveries.row.receiver;
            verdict.find(Kind::TooLittle, || format!("{receiver} got nothing at all"));
        }
        verdict.receivers.push(deliveries.row);
    }
}

fn count(
    at: usize,
    sent: &Sent,
    accounts: &Accounts,
    deliveries: &mut Deliveries,
    seen: &mut Seen,
    verdict: &mut Verdict,
) {
    for number in 1..=sent.accepted() {
        let id = sent.id(number);
        let delivered = deliveries.has((at, number));
        if number > sent.kept {
            seen.in_doubt += 1;
            continue;
        }
        let dead = accounts.is_dead(&deliveries.row.receiver, id);
        seen.accepted += 1;
        // A message may have arrived and its acknowledgement not, before it became too large for the server.
        seen.acknowledged += u64::from(delivered && !dead);
        seen.dead += u64::from(dead);
        if !delivered && !dead {
            deliveries.row.lost += 1;
            let (sender, run) = (&sent.sender, sent.run);
            let id = id.map_or("no id known".to_owned(), show);
            verdict.find(Kind::Lost, || {
                format!(
                    "{}: {sender}, run {run}, line {number} ({id}) never came",
                    deliveries.row.receiver
                )
            });
        }
    }
}

fn compare(
    sender: &str,
    seen: &Seen,
    accounts: &Accounts,
    deliveries: &mut Deliveries,
    verdict: &mut Verdict,
) {
    let row = &mut deliveries.row;
    let account = accounts.queues.get(&(sender.to_owned(), row.receiver.clone()));
    let account = account.cloned().unwrap_or_default();
    row.accepted += seen.accepted;
    row.dead += seen.dead;
    row.unsettled += account.pending;
    let who = || format!("{sender} for {}", deliveries.row.receiver);
    verdict.find_many(Kind::Unsettled, account.pending, || {
        format!("{}: {} still wait", who(), account.pending)
    });
    verdict.find_many(Kind::Unsettled, account.expired + account.purged, || {
        format!("{}: {} expired and {} purged", who(), account.expired, account.purged)
    });
    let said = (account.accepted, account.acknowledged, account.dead);
    let was = (seen.accepted, seen.acknowledged, seen.dead);
    let may_be = |said: u64, was: u64| (was..=was + seen.in_doubt).contains(&said);
    let fits = may_be(account.accepted, seen.accepted)
        && account.accepted == account.acknowledged + account.dead + account.pending;
    if said != was && !(seen.in_doubt > 0 && fits) {
        verdict.find(Kind::Account, || {
            format!(
                "{}: accepted, acknowledged, dead are {said:?} by its file, {was:?} were seen",
                who()
            )
        });
    }
}
