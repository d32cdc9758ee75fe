//! What a question says that its asker has seen of its requests' keys (`own_copy`), as it travels.
//!
//! A list behind its length, one item a request: 0 for nothing, or 1 and what was seen, as [`Seen::put`] writes it.

use crate::base::framing;
use crate::base::version::{Actor, ActorTable};
use crate::base::wire::Reader;
use crate::peer::frame::Seen;
use crate::server::forward::wire::QUESTION_BYTES_MAX;

/// What the peer that asks has seen of a request's key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerSeen {
    /// The version.
    pub seen: Seen,
    /// The peer's place in the view.
    pub by: u16,
}

/// What a question says that its asker has seen, request by request; see [`put_all`].
pub struct SeenList<'q> {
    rest: Reader<'q>,
    /// The asker's place in the view, and its short name.
    by: Option<u16>,
    actor: Actor,
}

impl<'q> SeenList<'q> {
    /// The list of a peer; nothing is believed of one that is not in the view.
    pub fn new(bytes: &'q [u8], by: Option<u16>, actor: Actor) -> SeenList<'q> {
        SeenList { rest: Reader::new(bytes), by, actor }
    }

    /// What has been seen of the next request's key; `None` for nothing, and from the first nonsense on.
    pub fn next(&mut self, actors: &ActorTable) -> Option<PeerSeen> {
        let is_there = self.rest.u8() == Ok(1);
        let seen = is_there.then(|| Seen::read(&mut self.rest, self.actor, actors))?;
        match seen {
            Ok(seen) => Some(PeerSeen { seen, by: self.by? }),
            Err(_) => {
                self.rest = Reader::new(&[]);
                None
            }
        }
    }
}

/// Appends a list behind its length: for each request 0, or 1 and what was seen of its key, as [`Seen::put`] wrote it.
pub fn put_all<'s>(out: &mut Vec<u8>, seen: impl Iterator<Item = Option<&'s [u8]>>) {
    let at = framing::begin(out);
    for one in seen {
        out.push(u8::from(one.is_some()));
        out.extend_from_slice(one.unwrap_or_default());
    }
    // Not longer than the question that it is a part of, whose length is looked at.
    _ = framing::end(out, at, QUESTION_BYTES_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Hlc;
    use crate::base::ids::ActorId;
    use crate::base::version::{Dot, Version};

    #[test]
    fn what_was_seen_arrives_request_by_request_and_nonsense_ends_it() {
        let (us, them) = (ActorId { node: 1, generation: 1 }, ActorId { node: 2, generation: 2 });
        let (ours, theirs) = (ActorTable::new(us), ActorTable::new(them));
        let at = |actor| Some(Version::first(Dot { hlc: Hlc(7), actor }));
        let own = Seen { version: at(Actor::SELF), dead: false };
        let none = Seen { version: None, dead: true };
        let written = |seen: &Seen| {
            let mut bytes = Vec::new();
            seen.put(&mut bytes, &ours);
            bytes
        };
        let (first, third) = (written(&own), written(&none));
        let mut bytes = Vec::new();
        put_all(&mut bytes, [Some(&first[..]), None, Some(&third[..])].into_iter());
        let (list, us_there) = (bytes.split_off(4), theirs.intern(us).expect("room"));
        let mut read = SeenList::new(&list, Some(3), us_there);
        let mut next = || read.next(&theirs);
        assert_eq!(next(), Some(PeerSeen { seen: Seen { version: at(us_there), dead: false }, by: 3 }));
        assert_eq!(next(), None);
        assert_eq!(next(), Some(PeerSeen { seen: none, by: 3 }));
        assert_eq!((next(), next()), (None, None));
        let mut cut = SeenList::new(&list[..5], Some(3), us_there);
        assert_eq!((cut.next(&theirs), cut.next(&theirs)), (None, None));
        assert_eq!(SeenList::new(&list, None, us_there).next(&theirs), None, "of a stranger");
    }
}
