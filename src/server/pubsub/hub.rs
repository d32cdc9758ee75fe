//! Who listens to what on this node, and the delivering, here and to other nodes.
//!
//! Publishing reads; only subscribing writes. Every change is told to the other nodes while the table is locked, so
//! that they hear of changes in the order in which they were made, and a new link begins with exactly what holds.
//!
//! A subscription is confirmed to its client when the nodes that can be reached know of it ([`Hub::announced`]): what
//! is published on any of them from then on arrives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::base::clock::wall_us;
use crate::base::config::{BufferLimit, Config, EventClasses};
use crate::base::glob;
use crate::base::ids::NodeId;
use crate::commands::node_command::TopicKind;
use crate::peer::registry::Peer;
use crate::server::pubsub::events::{announce, ask_for_any, could_hear};
use crate::server::pubsub::mailbox::Mailbox;
use crate::server::pubsub::remote::Remote;
use crate::server::pubsub::topic::{ByKind, Letter};
use crate::server::pubsub::wire::Word;
use crate::store::Event;

/// How long a subscription waits for a node that can be reached and does not answer.
const ANNOUNCE_MAX: Duration = Duration::from_secs(1);
/// How often it looks whether the node can still be reached.
const ANNOUNCE_LOOK: Duration = Duration::from_millis(20);

/// See the head of the file.
pub struct Hub {
    config: Arc<Config>,
    topics: RwLock<Topics>,
    remotes: RwLock<Vec<Arc<Remote>>>,
    wants_events: AtomicBool,
    /// Held by who finds that out.
    looking: Mutex<()>,
    /// Told when a node has heard of something, or a link has opened or closed.
    pub(super) progress: Notify,
}

type Subscribers = BTreeMap<u64, Arc<Mailbox>>;

#[derive(Default)]
struct Topics {
    of: ByKind<BTreeMap<Box<[u8]>, Subscribers>>,
    /// Names that a keyspace event could be published on.
    hearers: usize,
}

impl Topics {
    /// Notes that a name has been added or removed.
    fn count_hearers(&mut self, kind: TopicKind, name: &[u8], is_new: bool, is_gone: bool) {
        if could_hear(kind, name) {
            self.hearers = self.hearers + usize::from(is_new) - usize::from(is_gone);
        }
    }
}

impl Hub {
    /// A hub without listeners; it follows the options in `config`.
    pub fn new(config: Arc<Config>) -> Arc<Hub> {
        let hub = Arc::new(Hub {
            config: config.clone(),
            topics: RwLock::default(),
            remotes: RwLock::default(),
            wants_events: AtomicBool::new(false),
            looking: Mutex::default(),
            progress: Notify::new(),
        });
        let told = Arc::downgrade(&hub);
        config.on_change(move |settings| {
            if let Some(hub) = told.upgrade() {
                hub.tell(&Word::Classes(&settings.notify_keyspace_events.to_string()));
                hub.look_for_hearers(|| settings.notify_keyspace_events);
            }
        });
        hub
    }

    /// Makes a connection listen to a name. False when it did already.
    pub fn subscribe(&self, mailbox: &Arc<Mailbox>, kind: TopicKind, name: &[u8]) -> bool {
        if !mailbox.add(kind, name) {
            return false;
        }
        let mut topics = self.topics.write();
        let subscribers = topics.of.of_mut(kind).entry(name.into()).or_default();
        let is_new = subscribers.is_empty();
        subscribers.insert(mailbox.id, mailbox.clone());
        let count = subscribers.len() as u64;
        topics.count_hearers(kind, name, is_new, false);
        self.tell(&Word::Listen { kind, name, count });
        drop(topics);
        if is_new && could_hear(kind, name) {
            self.refresh_events();
        }
        true
    }

    /// Makes a connection listen to a name no longer. False when it did not.
    pub fn unsubscribe(&self, mailbox: &Mailbox, kind: TopicKind, name: &[u8]) -> bool {
        if !mailbox.remove(kind, name) {
            return false;
        }
        let mut topics = self.topics.write();
        let Some(subscribers) = topics.of.of_mut(kind).get_mut(name) else { return true };
        subscribers.remove(&mailbox.id);
        let count = subscribers.len() as u64;
        if count == 0 {
            topics.of.of_mut(kind).remove(name);
            topics.count_hearers(kind, name, false, true);
        }
        self.tell(&Word::Listen { kind, name, count });
        drop(topics);
        if count == 0 && could_hear(kind, name) {
            self.refresh_events();
        }
        true
    }

    /// Ends all that a connection listens to.
    pub fn leave(&self, mailbox: &Mailbox) {
        for kind in TopicKind::ALL {
            mailbox.names(kind).iter().for_each(|name| _ = self.unsubscribe(mailbox, kind, name));
        }
    }

    /// Resolves when every node that can be reached knows what was subscribed to before.
    pub async fn announced(&self) {
        let mut waits: Vec<_> = self.remotes.read().iter().map(|remote| (remote.clone(), None)).collect();
        let heard = async {
            loop {
                let progress = self.progress.notified();
                tokio::pin!(progress);
                progress.as_mut().enable();
                waits.retain_mut(|(remote, goal)| remote.is_reachable() && !remote.outbox.has_reached(goal));
                if waits.is_empty() {
                    return;
                }
                _ = tokio::time::timeout(ANNOUNCE_LOOK, progress).await;
            }
        };
        _ = tokio::time::timeout(ANNOUNCE_MAX, heard).await;
    }

    /// Publishes a message in the whole cluster; gives how many listeners it was sent to, as far as is known here.
    pub fn publish(&self, kind: TopicKind, channel: &[u8], payload: &[u8]) -> u64 {
        let mut count = self.deliver(kind, channel, payload);
        for remote in self.remotes.read().iter() {
            let listeners = remote.interest.lock().known().map(|names| names.listeners(kind, channel));
            if listeners != Some(0) && remote.outbox.put(&Word::Message { kind, channel, payload }) {
                count += listeners.unwrap_or(0);
            }
        }
        count
    }

    /// Gives a message to the listeners of this node; says how many there are.
    pub fn deliver(&self, kind: TopicKind, channel: &[u8], payload: &[u8]) -> u64 {
        let topics = self.topics.read();
        let mut count = 0;
        if let Some(subscribers) = topics.of.of(kind).get(channel) {
            count += self.send(subscribers, &mut Letter::to_channel(kind, channel, payload));
        }
        if kind == TopicKind::Channel {
            let matching = topics.of.of(TopicKind::Pattern).iter().filter(|(it, _)| glob::matches(it, channel, false));
            for (pattern, subscribers) in matching {
                count += self.send(subscribers, &mut Letter::to_pattern(pattern, channel, payload));
            }
        }
        count
    }

    fn send(&self, subscribers: &Subscribers, letter: &mut Letter<'_>) -> u64 {
        let (limit, now_ms) = (self.limit(), wall_us() / 1_000);
        for mailbox in subscribers.values() {
            mailbox.put(letter.bytes(mailbox.proto()), limit, now_ms);
        }
        subscribers.len() as u64
    }

    fn limit(&self) -> BufferLimit {
        self.config.settings().client_output_buffer_limit.pubsub
    }

    /// How many listen to a name on this node, or in the whole cluster.
    pub fn count(&self, kind: TopicKind, name: &[u8], is_whole: bool) -> u64 {
        let own = self.topics.read().of.of(kind).get(name).map_or(0, |subscribers| subscribers.len() as u64);
        let others = self.remotes.read();
        let others = others.iter().filter(|remote| is_whole && remote.is_reachable());
        own + others.map(|it| it.interest.lock().known().map_or(0, |names| names.count(kind, name))).sum::<u64>()
    }

    /// The names of a kind that anybody listens to, on this node or in the whole cluster, in order.
    pub fn names(&self, kind: TopicKind, is_whole: bool) -> Vec<Box<[u8]>> {
        let mut names: Vec<Box<[u8]>> = self.topics.read().of.of(kind).keys().cloned().collect();
        for remote in self.remotes.read().iter().filter(|remote| is_whole && remote.is_reachable()) {
            if let Some(known) = remote.interest.lock().known() {
                names.extend(known.each(kind).map(|(name, _)| name.into()));
            }
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether anybody wants keyspace events: the one look that costs commands anything.
    #[inline]
    pub fn wants_events(&self) -> bool {
        self.wants_events.load(Ordering::Relaxed)
    }

    /// Publishes what happened to keys that this node coordinates.
    pub fn publish_events(&self, events: &[Event]) {
        let classes = self.classes(self.config.settings().notify_keyspace_events);
        for event in events {
            announce(event, classes, |channel, message| _ = self.publish(TopicKind::Channel, channel, message));
        }
    }

    /// The classes of events that any node asks for.
    fn classes(&self, own: EventClasses) -> EventClasses {
        self.remotes.read().iter().fold(own, |all, remote| all.union(*remote.classes.lock()))
    }

    /// Finds out anew whether anybody wants keyspace events.
    pub(super) fn refresh_events(&self) {
        self.look_for_hearers(|| self.config.settings().notify_keyspace_events);
    }

    /// One at a time, the option included: what was found first must not be noted last.
    fn look_for_hearers(&self, own: impl FnOnce() -> EventClasses) {
        let _looking = self.looking.lock();
        let heard = self.topics.read().hearers != 0
            || self.remotes.read().iter().any(|remote| remote.is_reachable() && remote.interest.lock().could_hear());
        self.wants_events.store(heard && ask_for_any(self.classes(own())), Ordering::Relaxed);
    }

    /// The node called so.
    pub(super) fn remote(&self, id: NodeId) -> Arc<Remote> {
        if let Some(known) = self.remotes.read().iter().find(|remote| remote.id == id) {
            return known.clone();
        }
        let mut remotes = self.remotes.write();
        if let Some(known) = remotes.iter().find(|remote| remote.id == id) {
            return known.clone();
        }
        let remote = Arc::new(Remote::new(id));
        remotes.push(remote.clone());
        remote
    }

    /// Notes where a node is; gives it back when it is new and its link needs a task ([`super::link::keep`]).
    pub fn meet(&self, peer: &Arc<Peer>) -> Option<Arc<Remote>> {
        let remote = self.remote(peer.id);
        remote.meet(peer.clone()).then_some(remote)
    }

    /// Forgets a node that takes no part any more, with what it listened to; false, with nothing done, if it does.
    pub(super) fn forget(&self, remote: &Arc<Remote>) -> bool {
        let mut remotes = self.remotes.write();
        if !remote.part() {
            return false;
        }
        remotes.retain(|known| !Arc::ptr_eq(known, remote));
        drop(remotes);
        self.refresh_events();
        true
    }

    /// Opens the link to a node with an account of all that is listened to here.
    pub(super) fn open(&self, remote: &Remote) {
        let topics = self.topics.read();
        remote.outbox.open(|tell| {
            tell(&Word::Classes(&self.config.settings().notify_keyspace_events.to_string()));
            tell(&Word::Begin);
            for kind in TopicKind::ALL {
                for (name, subscribers) in topics.of.of(kind) {
                    tell(&Word::Listen { kind, name, count: subscribers.len() as u64 });
                }
            }
            tell(&Word::Complete);
        });
        drop(topics);
        self.progress.notify_waiters();
        self.refresh_events();
    }

    fn tell(&self, word: &Word<'_>) {
        self.remotes.read().iter().for_each(|remote| _ = remote.outbox.put(word));
    }

    /// Takes in what another node says.
    pub(super) fn hear(&self, remote: &Remote, word: Word<'_>) {
        match word {
            Word::Begin => remote.interest.lock().begin(),
            Word::Complete => remote.interest.lock().complete(),
            Word::Listen { kind, name, count } => remote.interest.lock().set(kind, name, count),
            Word::Classes(text) => *remote.classes.lock() = EventClasses::parse(text).unwrap_or_default(),
            Word::Message { kind, channel, payload } => _ = self.deliver(kind, channel, payload),
            Word::Alive => {}
        }
        if !matches!(word, Word::Message { .. } | Word::Alive | Word::Begin) {
            self.refresh_events();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::{Sources, load};
    use crate::peer::registry::Peers;
    use crate::server::pubsub::mailbox::Delivery;

    fn hub() -> Arc<Hub> {
        let no_file = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        Hub::new(Arc::new(Config::new(load(&Sources::default(), &no_file).expect("defaults")).expect("defaults")))
    }

    fn mail(mailbox: &Mailbox) -> String {
        let mut bytes = Vec::new();
        mailbox.take(&mut bytes, None);
        String::from_utf8(bytes).expect("text").replace("\r\n", " ")
    }

    #[test]
    fn a_message_goes_to_the_channel_and_to_every_pattern_that_matches() {
        let hub = hub();
        let [one, two] = [1, 2].map(|id| Arc::new(Mailbox::new(id)));
        assert!(hub.subscribe(&one, TopicKind::Channel, b"a") && !hub.subscribe(&one, TopicKind::Channel, b"a"));
        assert!(hub.subscribe(&one, TopicKind::Pattern, b"?") && hub.subscribe(&two, TopicKind::Shard, b"a"));
        assert_eq!((hub.publish(TopicKind::Channel, b"a", b"x"), hub.publish(TopicKind::Channel, b"bb", b"x")), (2, 0));
        assert_eq!(mail(&one), "*3 $7 message $1 a $1 x *4 $8 pmessage $1 ? $1 a $1 x ");
        assert_eq!(hub.publish(TopicKind::Shard, b"a", b"y"), 1);
        assert_eq!((mail(&one), mail(&two)), (String::new(), "*3 $8 smessage $1 a $1 y ".into()));
        assert_eq!(hub.names(TopicKind::Channel, true), [b"a"[..].into()]);
        hub.leave(&one);
        assert_eq!((hub.publish(TopicKind::Channel, b"a", b"x"), hub.count(TopicKind::Channel, b"a", true)), (0, 0));
        assert!(hub.names(TopicKind::Pattern, false).is_empty());
    }

    #[test]
    fn a_node_that_takes_no_part_any_more_is_forgotten_and_met_anew() {
        let (hub, peers, id) = (hub(), Peers::new(1, 1 << 20), NodeId::from_bytes([7; 20]));
        let addr = "127.0.0.1:1".parse().expect("an address");
        let (peer, _) = peers.get_or_add(id, addr);
        let remote = hub.meet(&peer).expect("a new one");
        hub.hear(&remote, Word::Classes("KEA"));
        let asks = || ask_for_any(hub.classes(EventClasses::default()));
        assert!(hub.meet(&peer).is_none() && !hub.forget(&remote) && asks());
        let (moved, _) = peers.get_or_add(id, "127.0.0.1:2".parse().expect("an address"));
        assert!(hub.meet(&moved).is_none() && !hub.forget(&remote) && asks(), "it is elsewhere, and takes part");
        peers.retain(|_| false);
        assert!(hub.forget(&remote) && !asks());
        assert!(hub.meet(&peers.get_or_add(id, addr).0).is_some_and(|new| !Arc::ptr_eq(&new, &remote)));
    }

    #[test]
    fn another_node_is_sent_only_what_it_listens_to() {
        let hub = hub();
        let remote = hub.remote(NodeId::from_bytes([7; 20]));
        hub.open(&remote);
        remote.outbox.take();
        assert_eq!(hub.publish(TopicKind::Channel, b"a", b"unknown"), 0);
        assert!(!remote.outbox.take().is_empty(), "nothing is known yet: everything is sent");
        let account = [Word::Begin, Word::Listen { kind: TopicKind::Pattern, name: b"a*", count: 3 }, Word::Complete];
        account.into_iter().for_each(|word| hub.hear(&remote, word));
        assert_eq!((hub.publish(TopicKind::Channel, b"b", b"x"), remote.outbox.take().len()), (0, 0));
        assert_eq!(hub.publish(TopicKind::Channel, b"ab", b"x"), 3);
        let sent = remote.outbox.take();
        let expected = Word::Message { kind: TopicKind::Channel, channel: b"ab", payload: b"x" };
        assert_eq!(Word::next(&sent).expect("own words").map(|(word, _)| word), Some(expected));
        let listener = Arc::new(Mailbox::new(1));
        hub.subscribe(&listener, TopicKind::Channel, b"ab");
        hub.hear(&remote, expected);
        assert!(mail(&listener).contains("message"));
    }

    #[test]
    fn events_are_wanted_when_classes_are_set_somewhere_and_somebody_could_hear_them() {
        let hub = hub();
        let remote = hub.remote(NodeId::from_bytes([7; 20]));
        let listener = Arc::new(Mailbox::new(1));
        hub.subscribe(&listener, TopicKind::Channel, b"news");
        hub.hear(&remote, Word::Classes("Kx"));
        assert!(!hub.wants_events());
        hub.subscribe(&listener, TopicKind::Pattern, b"__key*");
        assert!(hub.wants_events());
        let expired = Event { class: b'x', name: "expired", db: 0, key: b"k"[..].into() };
        let deleted = Event { class: b'g', name: "del", ..expired.clone() };
        hub.publish_events(&[deleted, expired]);
        assert_eq!(mail(&listener), "*4 $8 pmessage $6 __key* $16 __keyspace@0__:k $7 expired ");
        hub.hear(&remote, Word::Classes(""));
        assert!(!hub.wants_events());
        hub.config.set(&[("notify-keyspace-events", "KEA")]).expect("an option");
        assert!(hub.wants_events());
        hub.leave(&listener);
        assert!(!hub.wants_events());
        assert_eq!(Mailbox::new(2).take(&mut Vec::new(), None), Delivery::Nothing);
    }
}
