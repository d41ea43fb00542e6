//! The names under which frames travel: who sends, to whom, and what for.
//!
//! The sender stands in every subject, so that a NATS server's permissions can bind a user to its node id.

use crate::message::NodeId;

/// Where a frame goes, and who sent it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// Messages for one node.
    Message { to: NodeId, from: NodeId },
    /// Answers to messages.
    Ack { to: NodeId, from: NodeId },
    /// A node's broadcast that it is there.
    Keepalive { from: NodeId },
    /// What a node says about who is to be master.
    Election { from: NodeId },
    /// What a node is told to do: a subject of its own, so that a server's permissions can leave it to operators.
    Order { to: NodeId, from: NodeId },
    /// Questions of operators, and the answers; outcomes of orders.
    Management { to: Audience, from: NodeId },
}

/// Whom a management frame is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Audience {
    Node(NodeId),
    All,
}

/// What a connection is for, which decides what it listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Sends and receives messages; may take part in an election.
    Node { elects: bool },
    /// Only looks: keepalives, and answers to its own questions.
    Observer,
}

/// Writes and reads subjects with one prefix.
#[derive(Debug, Clone)]
pub(crate) struct Subjects {
    prefix: String,
}

impl Subjects {
    /// The prefix is one that `Config::validate` has accepted.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(crate) fn render(&self, subject: &Subject) -> String {
        let prefix = &self.prefix;
        match subject {
            Subject::Message { to, from } => format!("{prefix}.msg.{to}.{from}"),
            Subject::Ack { to, from } => format!("{prefix}.ack.{to}.{from}"),
            Subject::Order { to, from } => format!("{prefix}.order.{to}.{from}"),
            Subject::Keepalive { from } => format!("{prefix}.keepalive.{from}"),
            Subject::Election { from } => format!("{prefix}.election.{from}"),
            // A word stands before the node's name, so that a node named `all` is not everybody.
            Subject::Management { to: Audience::Node(to), from } => {
                format!("{prefix}.mgmt.node.{to}.{from}")
            }
            Subject::Management { to: Audience::All, from } => format!("{prefix}.mgmt.all.{from}"),
        }
    }

    /// `None` for whatever [`Subjects::render`] cannot have written.
    pub(crate) fn parse(&self, text: &str) -> Option<Subject> {
        let rest = text.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?;
        let node = |word: &str| NodeId::new(word).ok();
        let mut words = rest.split('.');
        let subject = match words.next()? {
            "msg" => Subject::Message { to: node(words.next()?)?, from: node(words.next()?)? },
            "ack" => Subject::Ack { to: node(words.next()?)?, from: node(words.next()?)? },
            "order" => Subject::Order { to: node(words.next()?)?, from: node(words.next()?)? },
            "keepalive" => Subject::Keepalive { from: node(words.next()?)? },
            "election" => Subject::Election { from: node(words.next()?)? },
            "mgmt" => {
                let to = match words.next()? {
                    "node" => Audience::Node(node(words.next()?)?),
                    "all" => Audience::All,
                    _ => return None,
                };
                Subject::Management { to, from: node(words.next()?)? }
            }
            _ => return None,
        };
        words.next().is_none().then_some(subject)
    }

    /// What a connection in this role subscribes to.
    pub(crate) fn subscriptions(&self, me: &NodeId, role: Role) -> Vec<String> {
        let prefix = &self.prefix;
        let looking = [format!("{prefix}.keepalive.*"), format!("{prefix}.mgmt.node.{me}.*")];
        match role {
            Role::Observer => looking.into(),
            Role::Node { elects } => [
                format!("{prefix}.msg.{me}.*"),
                format!("{prefix}.ack.{me}.*"),
                format!("{prefix}.order.{me}.*"),
                format!("{prefix}.mgmt.all.*"),
            ]
            .into_iter()
            .chain(looking)
            .chain(elects.then(|| format!("{prefix}.election.*")))
            .collect(),
        }
    }
}

impl Subject {
    /// Whether a connection of this name and role is meant.
    pub(crate) fn is_for(&self, me: &NodeId, role: Role) -> bool {
        match self {
            Self::Message { to, .. } | Self::Ack { to, .. } | Self::Order { to, .. } => {
                role != Role::Observer && to == me
            }
            Self::Election { .. } => matches!(role, Role::Node { elects: true }),
            Self::Keepalive { .. } => true,
            Self::Management { to: Audience::Node(to), .. } => to == me,
            Self::Management { to: Audience::All, .. } => role != Role::Observer,
        }
    }

    /// The sender that the subject names.
    pub(crate) fn from(&self) -> &NodeId {
        match self {
            Self::Message { from, .. }
            | Self::Ack { from, .. }
            | Self::Order { from, .. }
            | Self::Keepalive { from }
            | Self::Election { from }
            | Self::Management { from, .. } => from,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a valid name")
    }

    fn subjects_of(to: &NodeId, from: &NodeId) -> [Subject; 7] {
        let (to, from) = (to.clone(), from.clone());
        [
            Subject::Message { to: to.clone(), from: from.clone() },
            Subject::Ack { to: to.clone(), from: from.clone() },
            Subject::Order { to: to.clone(), from: from.clone() },
            Subject::Keepalive { from: from.clone() },
            Subject::Election { from: from.clone() },
            Subject::Management { to: Audience::Node(to), from: from.clone() },
            Subject::Management { to: Audience::All, from },
        ]
    }

    fn matches(pattern: &str, subject: &str) -> bool {
        let (pattern, subject): (Vec<_>, Vec<_>) =
            (pattern.split('.').collect(), subject.split('.').collect());
        pattern.len() == subject.len()
            && pattern.iter().zip(&subject).all(|(p, s)| *p == "*" || p == s)
    }

    #[test]
    fn a_node_hears_exactly_what_is_meant_for_it() {
        let subjects = Subjects::new("p.q");
        for me in ["bob", "all", "node", "msg"].map(node) {
            for role in [Role::Node { elects: false }, Role::Node { elects: true }, Role::Observer]
            {
                let patterns = subjects.subscriptions(&me, role);
                for to in ["bob", "all", "node", "eve"].map(node) {
                    for subject in subjects_of(&to, &node("alice")) {
                        let text = subjects.render(&subject);
                        let heard = patterns.iter().filter(|p| matches(p, &text)).count();
                        assert_eq!(heard, usize::from(subject.is_for(&me, role)), "{me} {text}");
                    }
                }
            }
        }
    }

    #[test]
    fn subjects_that_are_none_of_ours_are_refused() {
        let subjects = Subjects::new("waypost");
        let long = "x".repeat(300);
        for text in [
            "",
            ".",
            "waypost",
            "waypost.",
            "waypostmsg.a.b",
            "other.msg.a.b",
            "waypost.msg",
            "waypost.msg.a",
            "waypost.msg.a.",
            "waypost.msg..b",
            "waypost.msg.a.b.c",
            "waypost.msg.a.b.",
            "waypost.msg.*.b",
            "waypost.msg.a.>",
            "waypost.msg.a.b c",
            "waypost.msg.a.b\r\nPUB x 0",
            "waypost.msg.a.ü",
            "waypost.keepalive",
            "waypost.keepalive.a.b",
            "waypost.mgmt.a.b",
            "waypost.mgmt.all",
            "waypost.mgmt.all.a.b",
            "waypost.mgmt.node.a",
            "waypost.MSG.a.b",
            "waypost.order.a",
            "waypost.order.a.b.c",
            "waypost.order.all.*",
            "waypost.election",
            "waypost.election.a.b",
            &format!("waypost.msg.a.{long}"),
            &format!("waypost.keepalive.{long}"),
        ] {
            assert_eq!(subjects.parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(to in "[A-Za-z0-9_-]{1,64}", from in "[A-Za-z0-9_-]{1,64}") {
            let subjects = Subjects::new("a.b-c");
            for subject in subjects_of(&node(&to), &node(&from)) {
                prop_assert_eq!(subjects.parse(&subjects.render(&subject)), Some(subject.clone()));
                prop_assert_eq!(subject.from().as_str(), from.as_str());
            }
        }

        #[test]
        fn whatever_is_read_was_written_so(text in "(waypost\\.)?(msg|ack|order|keepalive|election|mgmt|all|node|[a-z.*> ]{0,9}|\\.){0,7}") {
            let subjects = Subjects::new("waypost");
            if let Some(subject) = subjects.parse(&text) {
                prop_assert_eq!(subjects.render(&subject), text);
            }
        }
    }
}
