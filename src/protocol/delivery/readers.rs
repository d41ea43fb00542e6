//! Who has to be told of what was appended: not those to whom it changes nothing, of whom there can be a thousand.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::message::{NodeId, TopicId};

/// The receivers of each topic.
#[derive(Debug, Default)]
pub struct Readers {
    topics: HashMap<TopicId, Topic>,
    asleep: BTreeMap<NodeId, BTreeSet<TopicId>>,
}

#[derive(Debug, Default)]
struct Topic {
    awake: BTreeSet<NodeId>,
    /// The newest message that those awake were told of.
    end_seq: u64,
}

impl Readers {
    /// This receiver takes the topic's messages; it is told of them.
    pub fn add(&mut self, topic: TopicId, receiver: NodeId) {
        self.forget_sleeper(topic, &receiver);
        self.topics.entry(topic).or_default().awake.insert(receiver);
    }

    pub fn remove(&mut self, topic: TopicId, receiver: &NodeId) {
        self.forget_sleeper(topic, receiver);
        if let Some(topic) = self.topics.get_mut(&topic) {
            topic.awake.remove(receiver);
        }
    }

    /// Messages were appended, the last of each topic with this `seq`: who is to be told.
    pub fn appended(&mut self, ends: impl IntoIterator<Item = (TopicId, u64)>) -> BTreeSet<NodeId> {
        let mut receivers = BTreeSet::new();
        for (topic, seq) in ends {
            let Some(topic) = self.topics.get_mut(&topic) else { continue };
            topic.end_seq = topic.end_seq.max(seq);
            receivers.extend(topic.awake.iter().cloned());
        }
        receivers
    }

    /// This receiver need not be told of the topic's messages before something else happens to it.
    pub fn put_to_sleep(&mut self, topic: TopicId, receiver: &NodeId) {
        if let Some(of_topic) = self.topics.get_mut(&topic)
            && let Some(receiver) = of_topic.awake.take(receiver)
        {
            self.asleep.entry(receiver).or_default().insert(topic);
        }
    }

    /// Something happens to this receiver: what it has to be told first, topics and their newest messages.
    pub fn wake(&mut self, receiver: &NodeId) -> Vec<(TopicId, u64)> {
        let Some((receiver, topics)) = self.asleep.remove_entry(receiver) else {
            return Vec::new();
        };
        let wake = |topic| {
            let of_topic = self.topics.entry(topic).or_default();
            of_topic.awake.insert(receiver.clone());
            (topic, of_topic.end_seq)
        };
        topics.into_iter().map(wake).collect()
    }

    fn forget_sleeper(&mut self, topic: TopicId, receiver: &NodeId) {
        if let Some(topics) = self.asleep.get_mut(receiver) {
            topics.remove(&topic);
            if topics.is_empty() {
                self.asleep.remove(receiver);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TopicId = TopicId(1);
    const B: TopicId = TopicId(2);

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a valid name")
    }

    fn names(receivers: BTreeSet<NodeId>) -> Vec<String> {
        receivers.iter().map(|node| node.to_string()).collect()
    }

    #[test]
    fn who_sleeps_is_told_of_the_newest_when_it_wakes_and_of_nothing_before() {
        let mut readers = Readers::default();
        for (topic, name) in [(A, "bob"), (B, "bob"), (A, "carol")] {
            readers.add(topic, node(name));
        }
        assert_eq!(names(readers.appended([(A, 1), (B, 2)])), ["bob", "carol"]);
        readers.put_to_sleep(A, &node("bob"));
        assert_eq!(names(readers.appended([(A, 3)])), ["carol"]);
        assert_eq!(names(readers.appended([(B, 4)])), ["bob"], "it sleeps in one topic only");
        assert_eq!(readers.wake(&node("bob")), [(A, 3)]);
        assert_eq!(readers.wake(&node("bob")), []);
        assert_eq!(names(readers.appended([(A, 5)])), ["bob", "carol"]);
    }

    #[test]
    fn who_is_gone_does_not_come_back_by_waking() {
        let mut readers = Readers::default();
        readers.add(A, node("bob"));
        readers.put_to_sleep(A, &node("bob"));
        readers.remove(A, &node("bob"));
        assert_eq!(readers.wake(&node("bob")), []);
        assert!(readers.appended([(A, 1)]).is_empty());
        readers.put_to_sleep(A, &node("bob"));
        assert_eq!(readers.wake(&node("bob")), [], "nor by falling asleep");
        readers.add(A, node("bob"));
        readers.put_to_sleep(A, &node("bob"));
        readers.add(A, node("bob"));
        assert_eq!(names(readers.appended([(A, 2)])), ["bob"], "added anew, it is awake");
        assert_eq!(readers.wake(&node("bob")), []);
    }
}
