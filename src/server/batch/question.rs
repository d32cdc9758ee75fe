//! What other nodes are asked for a batch: requests for one of them, in one frame, and where their replies belong.
//!
//! Requests for one node stay in their order. `batch` asks and fills in what comes; here is only what a question is
//! made of.

use std::rc::Rc;

use smallvec::SmallVec;

use crate::base::clock::Hlc;
use crate::commands::repeat::RetryPolicy;
use crate::server::batch::ask::{Ask, ReplyPlace, Retry, RetryCause, Span, kept};
use crate::server::forward::call::{AnswerPatience, Call};
use crate::server::forward::seen::put_all;
use crate::server::forward::wire::{Manner, QuestionKind};

/// Who is asked, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The node, by its place in the view.
    pub peer: u16,
    /// How its requests are to be run.
    pub manner: Manner,
    /// As [`Ask::fence`].
    pub fence: Option<Hlc>,
}

/// See the head of the file.
#[derive(Debug)]
pub struct Question {
    /// `None` when nobody could be asked: then the requests have to be run again.
    pub target: Option<Target>,
    /// Set once it has been asked.
    pub call: Option<Rc<Call>>,
    /// Its requests, of which there is mostly one.
    pub holes: SmallVec<[Hole; 1]>,
}

/// A reply that another node will give.
#[derive(Debug)]
pub struct Hole {
    /// Where it belongs.
    pub reply: ReplyPlace,
    /// The request.
    pub ask: Ask,
    /// What was seen of its key, in the batch's requests, if the reply is there already, on condition that the other
    /// node has seen the same.
    pub seen: Option<Span>,
    /// What kind of request it is.
    pub kind: RequestKind,
}

/// What decides how a request's answer is waited for, and what becomes of it without one.
#[derive(Clone, Copy, Debug)]
pub struct RequestKind {
    /// When it may be asked for again although nobody knows whether it ran (`commands::repeat`).
    pub retry_policy: RetryPolicy,
    /// May change something.
    pub writes: bool,
    /// May itself take long: by its command (`flag::LONG`), or having very many arguments.
    pub is_long: bool,
}

impl Question {
    /// Who is to be asked, and how, in full.
    pub fn asked_as(&self) -> Option<Target> {
        let mut target = self.target?;
        if self.has_seen() {
            target.manner.kind = QuestionKind::EachIfNotSeen;
        }
        Some(target)
    }

    /// How long its answer is waited for: not long if all of it may be asked again elsewhere while who was asked is
    /// silent.
    pub fn patience(&self) -> AnswerPatience {
        let kinds = || self.holes.iter().map(|hole| hole.kind);
        match () {
            () if kinds().any(|kind| kind.is_long) => AnswerPatience::Long,
            () if kinds().all(|kind| kind.retry_policy == RetryPolicy::Always) => AnswerPatience::Brief,
            () => AnswerPatience::Ordinary,
        }
    }

    /// Appends the requests, which lie in the batch's `requests`, and what was seen of their keys.
    pub fn write(&self, requests: &[u8], out: &mut Vec<u8>) {
        if self.has_seen() {
            put_all(out, self.holes.iter().map(|hole| hole.seen.map(|seen| kept(requests, seen))));
        }
        self.holes.iter().for_each(|hole| out.extend_from_slice(kept(requests, hole.ask.request)));
    }

    fn has_seen(&self) -> bool {
        self.holes.iter().any(|hole| hole.seen.is_some())
    }
}

impl Hole {
    /// The request, to be run again.
    pub fn retry(&self) -> Retry {
        Retry { reply: self.reply, ask: self.ask, cause: RetryCause::NotRun }
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::protocol::Proto;

    #[test]
    fn an_answer_is_waited_for_as_long_as_the_slowest_request_needs() {
        use RetryPolicy::{Always, Never};
        let patience = |kinds: &[(RetryPolicy, bool)]| {
            let mut question = Question { target: None, call: None, holes: smallvec![] };
            for (retry_policy, is_long) in kinds.iter().copied() {
                let span = Span { from: 0, to: 0 };
                let ask = Ask { request: span, db: 0, proto: Proto::Resp2, fence: None };
                let kind = RequestKind { retry_policy, writes: false, is_long };
                question.holes.push(Hole { reply: ReplyPlace { span, number: 1 }, ask, seen: None, kind });
            }
            question.patience()
        };
        assert_eq!(patience(&[(Always, false), (Always, false)]), AnswerPatience::Brief);
        assert_eq!(patience(&[(Always, false), (Never, false)]), AnswerPatience::Ordinary);
        assert_eq!(patience(&[(Always, false), (Always, true), (Never, false)]), AnswerPatience::Long);
    }
}
