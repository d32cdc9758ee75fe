//! What a batch remembers of a request: where its bytes and its reply are, what the reply waits for, and why the
//! request is to be run again.
//!
//! Plain values; `batch` keeps them, `retry` acts on them. Stretches of bytes mean something only together with the
//! batch that they were made in.

use crate::base::clock::Hlc;
use crate::peer::frame::Seen;
use crate::protocol::Proto;

/// A stretch of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span {
    /// First byte.
    pub from: usize,
    /// Behind the last byte.
    pub to: usize,
}

/// The bytes of a batch's `requests` that a span means.
pub fn kept(requests: &[u8], span: Span) -> &[u8] {
    requests.get(span.from..span.to).unwrap_or_default()
}

/// What a request was sent with, to be able to run it again.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Where its bytes are in `Batch::requests`.
    pub request: Span,
    /// Its database.
    pub db: u8,
    /// The protocol of its reply.
    pub proto: Proto,
    /// Set when it may have run: then it runs only if its keys have not been written later than this.
    pub fence: Option<Hlc>,
}

/// A reply that replicas have to confirm.
#[derive(Debug)]
pub struct Unconfirmed {
    /// Where the reply is.
    pub reply: ReplyPlace,
    /// The place in `waits` that it depends on.
    pub wait: usize,
    /// Set for a read.
    pub read: Option<Reading>,
    /// Says more than that it is done: what was there before, or is there by it. That is not so if another node has
    /// coordinated the key since.
    pub tells: bool,
}

/// A read that another replica has to confirm.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The number of its verify.
    pub number: u64,
    /// How to run it again.
    pub ask: Ask,
    /// Where its key is in `Batch::requests`.
    pub key: Span,
    /// What it has seen.
    pub seen: Seen,
    /// This node's latest stamp by then: what was asked for behind it is written later.
    pub read_at: Hlc,
}

/// A reply's place in the batch: stays the same however often it is asked for again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ReplyPlace {
    /// The stretch of `out` that it takes the place of; empty when another node gives it.
    pub span: Span,
    /// Tells replies apart that belong to the same empty stretch, in the order of their requests.
    pub number: u32,
}

/// What is to be run again, or confirmed by somebody else.
#[derive(Clone, Debug)]
pub struct Retry {
    /// Where the reply belongs.
    pub reply: ReplyPlace,
    /// The request.
    pub ask: Ask,
    /// What was wrong.
    pub cause: RetryCause,
}

/// Why something is to be run again.
#[derive(Clone, Debug)]
pub enum RetryCause {
    /// Nobody has run it, or nobody knows.
    NotRun,
    /// A replica holds what it had not seen.
    Contradicted(Reading),
    /// Nobody contradicts it, but who was to confirm it takes too long: somebody else is to be asked. Running it again
    /// would show it what its own connection has written since.
    Unconfirmed(Reading),
}

impl Retry {
    /// Adds it to those that are noted: once for a read that several replicas had to confirm, which are told of one
    /// behind the other. A contradiction says more than silence.
    pub fn note(self, retries: &mut Vec<Retry>) {
        let last = retries.last_mut().filter(|last| last.reply == self.reply && last.key() == self.key());
        match (last, &self.cause) {
            (Some(last), RetryCause::Contradicted(_)) => *last = self,
            (Some(_), _) => {}
            (None, _) => retries.push(self),
        }
    }

    /// True for a read that only waits for somebody to confirm it.
    pub fn is_unconfirmed(&self) -> bool {
        matches!(self.cause, RetryCause::Unconfirmed(_))
    }

    /// What was read and is not confirmed.
    pub fn reading(&self) -> Option<&Reading> {
        match &self.cause {
            RetryCause::NotRun => None,
            RetryCause::Contradicted(read) | RetryCause::Unconfirmed(read) => Some(read),
        }
    }

    fn key(&self) -> Option<Span> {
        self.reading().map(|read| read.key)
    }
}

/// Puts what is to be asked for again in the order of its replies, and cuts it by request: what is so of one of the
/// keys that a request has read decides about all of it.
pub fn of_requests(retries: &mut [Retry]) -> impl Iterator<Item = &[Retry]> {
    retries.sort_by_key(|retry| retry.reply);
    retries.chunk_by(|one, next| one.reply == next.reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::version::Version;
    use crate::replication::coordinator::seen_of;

    #[test]
    fn a_read_that_several_did_not_confirm_is_asked_for_once() {
        let span = |from| Span { from, to: from + 1 };
        let ask = Ask { request: span(0), db: 0, proto: Proto::Resp2, fence: None };
        let reading = |key, number| Reading {
            number,
            ask,
            key: span(key),
            seen: seen_of(Version::default(), false),
            read_at: Hlc(0),
        };
        let one = |cause| Retry { reply: ReplyPlace { span: span(0), number: 1 }, ask, cause };
        let mut retries = Vec::new();
        one(RetryCause::Unconfirmed(reading(0, 1))).note(&mut retries);
        one(RetryCause::Contradicted(reading(0, 2))).note(&mut retries);
        one(RetryCause::Unconfirmed(reading(0, 3))).note(&mut retries);
        one(RetryCause::Unconfirmed(reading(1, 4))).note(&mut retries);
        assert!(
            matches!(&retries[..], [Retry { cause: RetryCause::Contradicted(_), .. }, Retry { cause: RetryCause::Unconfirmed(other), .. }]
                if other.number == 4),
            "{retries:?}"
        );
    }

    /// Simulated: an MGET of which one key had been written behind it, by its own client, was refused for that key and
    /// then run again for the other.
    #[test]
    fn all_that_a_request_has_read_is_judged_together() {
        let span = |from| Span { from, to: from + 1 };
        let ask = Ask { request: span(0), db: 0, proto: Proto::Resp2, fence: None };
        let one = |from| Retry { reply: ReplyPlace { span: span(from), number: 1 }, ask, cause: RetryCause::NotRun };
        let mut retries = [5, 2, 5, 9].map(one);
        let cut: Vec<Vec<usize>> =
            of_requests(&mut retries).map(|it| it.iter().map(|one| one.reply.span.from).collect()).collect();
        assert_eq!(cut, [vec![2], vec![5, 5], vec![9]]);
    }
}
