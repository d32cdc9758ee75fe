//! What the listeners of another node listen to, as that node tells us.
//!
//! It tells all of it when its link to us opens, and every change from then on. While a new account is coming in, the
//! old one holds; before the first is complete nothing is known, and everything has to be sent.

use std::collections::BTreeMap;

use crate::base::glob;
use crate::commands::node_command::TopicKind;
use crate::server::pubsub::events::could_hear;
use crate::server::pubsub::topic::ByKind;

/// How many listen to each name.
#[derive(Debug, Default)]
pub struct Names {
    of: ByKind<BTreeMap<Box<[u8]>, u64>>,
    /// Names that a keyspace event could be published on.
    hearers: usize,
}

impl Names {
    /// Notes how many listen to a name now.
    pub fn set(&mut self, kind: TopicKind, name: &[u8], count: u64) {
        let names = self.of.of_mut(kind);
        let (had, has) = match count {
            0 => (names.remove(name).is_some(), false),
            _ => (names.insert(name.into(), count).is_some(), true),
        };
        if could_hear(kind, name) {
            self.hearers = self.hearers + usize::from(has) - usize::from(had);
        }
    }

    /// How many get a message that is published on `channel`, a channel or shard channel.
    pub fn listeners(&self, kind: TopicKind, channel: &[u8]) -> u64 {
        let exact = self.of.of(kind).get(channel).copied().unwrap_or(0);
        if kind == TopicKind::Shard {
            return exact;
        }
        let matching =
            self.of.of(TopicKind::Pattern).iter().filter(|(pattern, _)| glob::matches(pattern, channel, false));
        exact + matching.map(|(_, count)| count).sum::<u64>()
    }

    /// The names of a kind, and how many listen to each.
    pub fn each(&self, kind: TopicKind) -> impl Iterator<Item = (&[u8], u64)> {
        self.of.of(kind).iter().map(|(name, count)| (&**name, *count))
    }

    /// How many listen to this very name.
    pub fn count(&self, kind: TopicKind, name: &[u8]) -> u64 {
        self.of.of(kind).get(name).copied().unwrap_or(0)
    }
}

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Interest {
    known: Option<Names>,
    coming: Option<Names>,
}

impl Interest {
    /// A new account begins.
    pub fn begin(&mut self) {
        self.coming = Some(Names::default());
    }

    /// It is complete.
    pub fn complete(&mut self) {
        self.known = self.coming.take().or(self.known.take());
    }

    /// A line of the account, or a change.
    pub fn set(&mut self, kind: TopicKind, name: &[u8], count: u64) {
        if let Some(names) = self.coming.as_mut().or(self.known.as_mut()) {
            names.set(kind, name, count);
        }
    }

    /// What is known; `None` before the first account.
    pub fn known(&self) -> Option<&Names> {
        self.known.as_ref()
    }

    /// Whether some listener could get keyspace events.
    pub fn could_hear(&self) -> bool {
        self.known.as_ref().is_none_or(|names| names.hearers != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_holds_until_the_next_is_complete() {
        let mut interest = Interest::default();
        assert!(interest.known().is_none() && interest.could_hear());
        interest.begin();
        interest.set(TopicKind::Channel, b"a", 2);
        interest.set(TopicKind::Pattern, b"a*", 1);
        assert!(interest.known().is_none());
        interest.complete();
        let count = |interest: &Interest| interest.known().expect("an account").listeners(TopicKind::Channel, b"a");
        assert_eq!(count(&interest), 3);
        assert!(!interest.could_hear());
        interest.set(TopicKind::Channel, b"a", 0);
        assert_eq!(count(&interest), 1);
        interest.begin();
        assert_eq!(count(&interest), 1);
        interest.complete();
        assert_eq!(count(&interest), 0);
    }

    #[test]
    fn listeners_of_events_are_counted_once() {
        let mut names = Names::default();
        for count in [1, 2, 5] {
            names.set(TopicKind::Pattern, b"__key*", count);
        }
        assert_eq!(names.hearers, 1);
        names.set(TopicKind::Pattern, b"__key*", 0);
        names.set(TopicKind::Pattern, b"__key*", 0);
        assert_eq!(names.hearers, 0);
        assert_eq!(names.listeners(TopicKind::Shard, b"x"), 0);
    }
}
