//! Which keyspace events are wanted, and what they are called.
//!
//! The node that coordinates a key publishes what happens to it, so every event is published once. An event is wanted
//! when its class is in `notify-keyspace-events` of any node of the cluster, and when somebody in the cluster listens
//! to a name that could match: else nothing is even collected, and a command pays for looking at one flag.

use crate::base::config::EventClasses;
use crate::commands::node_command::TopicKind;
use crate::store::Event;

/// How all channels of keyspace events begin.
const PREFIX: &[u8] = b"__key";

/// Whether whoever listens to this could get a keyspace event.
pub fn could_hear(kind: TopicKind, name: &[u8]) -> bool {
    match kind {
        TopicKind::Channel => name.starts_with(PREFIX),
        TopicKind::Pattern => {
            let literal = name.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(name.len());
            let literal = name.get(..literal).unwrap_or_default();
            literal.starts_with(PREFIX) || PREFIX.starts_with(literal)
        }
        TopicKind::Shard => false,
    }
}

/// Whether these classes ask for anything: some class of events, and one of the two kinds of channels.
pub fn ask_for_any(classes: EventClasses) -> bool {
    classes.has('K') || classes.has('E')
}

/// Gives `publish` the channels and messages of an event, as far as these classes ask for them.
pub fn announce(event: &Event, classes: EventClasses, mut publish: impl FnMut(&[u8], &[u8])) {
    if !classes.has(char::from(event.class)) {
        return;
    }
    if classes.has('K') {
        let channel = [format!("__keyspace@{}__:", event.db).as_bytes(), &event.key].concat();
        publish(&channel, event.name.as_bytes());
    }
    if classes.has('E') {
        publish(format!("__keyevent@{}__:{}", event.db, event.name).as_bytes(), &event.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_could_hear_events_is_told_from_the_name() {
        for pattern in ["*", "__key*", "__keyevent@0__:expired", "_?key*", "__[k]ey*", "__keyspace@0__:a\\*"] {
            assert!(could_hear(TopicKind::Pattern, pattern.as_bytes()), "{pattern}");
        }
        for pattern in ["news.*", "__ke_*", "_x*", "k*"] {
            assert!(!could_hear(TopicKind::Pattern, pattern.as_bytes()), "{pattern}");
        }
        assert!(could_hear(TopicKind::Channel, b"__keyevent@0__:del") && !could_hear(TopicKind::Channel, b"news"));
        assert!(!could_hear(TopicKind::Shard, b"__keyevent@0__:del"));
    }

    #[test]
    fn an_event_has_two_channels_as_far_as_they_are_asked_for() {
        let event = Event { class: b'$', name: "set", db: 3, key: b"k"[..].into() };
        let told = |classes: &str| {
            let mut told = Vec::new();
            let classes = EventClasses::parse(classes).expect("letters");
            announce(&event, classes, |channel, message| {
                told.push(format!("{} {}", channel.escape_ascii(), message.escape_ascii()));
            });
            told
        };
        assert_eq!(told("KEA"), ["__keyspace@3__:k set", "__keyevent@3__:set k"]);
        assert_eq!(told("E$"), ["__keyevent@3__:set k"]);
        assert!(told("KEg").is_empty() && told("A").is_empty());
        assert!(!ask_for_any(EventClasses::parse("A").expect("letters")));
    }
}
