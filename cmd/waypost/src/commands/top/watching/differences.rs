//! What is different in two reports of one node, in words.

use std::collections::BTreeMap;

use waypost::management::{ChannelInfo, Report};

use crate::output::count;

pub(super) fn differences(old: &Report, new: &Report, answered: bool, told: &mut Vec<String>) {
    let node = &new.node;
    if old.incarnation != new.incarnation {
        return told.push(format!("{node} was restarted, on {}", new.host));
    }
    if !answered {
        told.push(format!("{node} answers again"));
    }
    if old.storage != new.storage {
        told.push(format!("{node}: its file is {}", new.storage));
    }
    let more = |of: fn(&Report) -> u64| of(new).saturating_sub(of(old));
    let messages = |n| count(n, "message");
    for (n, what) in [
        (more(|r| r.counters.dead_lettered), "became dead letters"),
        (more(|r| r.counters.expired), "expired"),
        (more(|r| r.counters.dropped), "gave way or were purged"),
        (more(|r| r.counters.failed), "refused by handlers"),
    ] {
        if n > 0 {
            told.push(format!("{node}: {} {what}", messages(n)));
        }
    }
    if more(|r| r.counters.reconnects) > 0 {
        told.push(format!("{node} was cut off and is connected again"));
    }
    channels(old, new, told);
}

fn channels(old: &Report, new: &Report, told: &mut Vec<String>) {
    if old.truncated || new.truncated {
        // What is missing in a list that was cut may be there.
        return;
    }
    let node = &new.node;
    let by_name = |channels: &[ChannelInfo]| -> BTreeMap<_, _> {
        channels.iter().map(|channel| (channel.name.clone(), channel.mode)).collect()
    };
    let (before, now) = (by_name(&old.channels), by_name(&new.channels));
    for (name, mode) in now.iter().filter(|(name, _)| !before.contains_key(name)) {
        told.push(format!("{node} joined {name} ({mode})"));
    }
    for name in before.keys().filter(|name| !now.contains_key(name)) {
        told.push(format!("{node} left {name}"));
    }
}
