//! A batch: the replies to all requests of one read, and what they wait for.
//!
//! | file | what it is |
//! |---|---|
//! | `window`, `scanned` | requests scanned ahead of the one that runs; those scanned alone |
//! | `ask` | what a batch remembers of a request |
//! | `question` | what other nodes are asked for a batch |
//! | `order` | which requests may not be overtaken |
//! | `resolve` | what a batch waits for turns into replies |
//!
//! Commands write their replies one behind the other. Some replies depend on replicas ([`Waits`]) or come from another
//! node ([`Hole`]); then the whole batch waits, in the order of the connection, until all is known (`resolve`). Nothing
//! is sent before that. A reply on which something is still open has a *place*, a stretch of what is written with a
//! number; what is known of it in the end is a *patch* of that place.
//!
//! What turns out to have to run again is given to whoever waits for the batch, and three do, each in its own way: a
//! client's connection runs it again, and looks at its later batches before it does (`connection`); a job does so too,
//! but may have to run a transaction again as a whole, or not at all (`job`); who answers another node runs nothing
//! twice, because its asker will (`connection::forwarded`).

pub mod ask;
pub mod order;
pub mod scanned;
pub mod question;
pub mod resolve;
pub mod window;

use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smallvec::smallvec;

use crate::base::ids::Slot;
use crate::commands::repeat::RetryPolicy;
use crate::protocol::Proto;
use crate::replication::wait::Waits;
use crate::server::batch::ask::{Ask, ReplyPlace, Span, Unconfirmed, kept};
use crate::server::batch::order::Order;
use crate::server::batch::question::{Hole, Question, RequestKind, Target};
use crate::server::error::RequestError;
use crate::server::forward::call::{AnswerPatience, Call};

/// How long a request that nobody can run may be asked for again before its client is told, and how long a write whose
/// connections broke waits for a lost replica to be handed what it missed.
pub const RETRY_FOR_MAX: Duration = Duration::from_secs(2);

/// A point between two requests of a batch. A place that takes no bytes lies before one and behind one at the same
/// byte, so that only its number says which.
#[derive(Clone, Copy, Default, Debug)]
pub struct ReplyMark {
    from: usize,
    places: u32,
}

/// See the head of the file.
#[derive(Debug)]
pub struct Batch {
    /// Replies.
    pub out: Vec<u8>,
    /// What they wait for.
    pub waits: Waits,
    /// Replies that depend on `waits`.
    pub unconfirmed: Vec<Unconfirmed>,
    /// What other nodes are asked.
    questions: Vec<Question>,
    /// Bytes of requests that may have to be run again.
    pub requests: Vec<u8>,
    /// Replacements for stretches of `out`, each a stretch of `patched`; of several for one place the last one counts.
    patches: Vec<(ReplyPlace, Span)>,
    patched: Vec<u8>,
    /// How many places have been given ([`Batch::place`]).
    places: u32,
    /// The numbers of places whose replies nobody wants, first and last of each run of them, in their order.
    silent: Vec<(u32, u32)>,
    /// What may not be overtaken.
    pub order: Order,
    /// The slots that were written here, one bit for every 64th.
    written: u64,
    /// The same of slots that were read here and are to be confirmed.
    read: u64,
    /// Requests left to other nodes.
    pub forwarded: usize,
    /// The bytes of the largest reply that another node has given.
    pub largest_answer: usize,
    /// When the batch's bytes were read.
    pub started: Instant,
    /// Commands by latency class.
    pub answered: [u64; 3],
    /// Requests sent to other nodes that were not answered.
    pub forward_failures: u64,
    /// Replies that say that a write's outcome is unknown.
    pub unknown_outcomes: u64,
}

/// The bit that a slot shares with every 64th.
fn bit_of(slot: Slot) -> u64 {
    1 << (slot.index() % 64)
}

impl Batch {
    /// An empty batch that starts now.
    pub fn new(started: Instant) -> Batch {
        Batch {
            out: Vec::new(),
            waits: Waits::new(),
            unconfirmed: Vec::new(),
            questions: Vec::new(),
            requests: Vec::new(),
            patches: Vec::new(),
            patched: Vec::new(),
            places: 0,
            silent: Vec::new(),
            order: Order::default(),
            written: 0,
            read: 0,
            forwarded: 0,
            largest_answer: 0,
            started,
            answered: [0; 3],
            forward_failures: 0,
            unknown_outcomes: 0,
        }
    }

    /// Forgets everything but the memory that it was in.
    pub fn clear(&mut self) {
        let Batch { out, waits, unconfirmed, questions, requests, patches, patched, silent, order, .. } = self;
        out.clear();
        waits.clear();
        unconfirmed.clear();
        questions.clear();
        requests.clear();
        patches.clear();
        patched.clear();
        silent.clear();
        order.clear();
        (self.places, self.forwarded, self.largest_answer) = (0, 0, 0);
        (self.written, self.read) = (0, 0);
        (self.answered, self.forward_failures, self.unknown_outcomes) = ([0; 3], 0, 0);
    }

    /// Bytes of memory that it holds for the next one, beside its replies.
    pub fn spare_bytes(&self) -> usize {
        self.requests.capacity()
            + self.patched.capacity()
            + self.unconfirmed.capacity() * size_of::<Unconfirmed>()
            + self.patches.capacity() * size_of::<(ReplyPlace, Span)>()
            + self.questions.capacity() * size_of::<Question>()
            + self.silent.capacity() * size_of::<(u32, u32)>()
    }

    /// True when the replies may go out as they are.
    pub fn is_resolved(&self) -> bool {
        self.waits.is_empty() && self.questions.is_empty()
    }

    /// Notes that a request of the batch has written to a slot here.
    pub fn note_written(&mut self, slot: Slot) {
        self.written |= bit_of(slot);
    }

    /// Whether a request of the batch may have written to a slot here.
    pub fn may_have_written(&self, slot: Slot) -> bool {
        self.written & bit_of(slot) != 0
    }

    /// Notes that a request of the batch has read a slot here.
    pub fn note_read(&mut self, slot: Slot) {
        self.read |= bit_of(slot);
    }

    /// Whether a request of the batch may have read a slot here.
    pub fn may_have_read(&self, slot: Slot) -> bool {
        self.read & bit_of(slot) != 0
    }

    /// The bytes of a request that was kept.
    pub fn kept(&self, span: Span) -> &[u8] {
        kept(&self.requests, span)
    }

    /// True while other nodes have been asked and have not answered.
    pub fn asks_others(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Keeps a request's bytes in case it has to be run again.
    pub fn keep(&mut self, request: &[u8], db: u8, proto: Proto) -> Ask {
        let from = self.requests.len();
        self.requests.extend_from_slice(request);
        Ask { request: Span { from, to: self.requests.len() }, db, proto, fence: None }
    }

    /// Keeps what was seen of a request's key, which `write` appends.
    pub fn keep_seen(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let from = self.requests.len();
        write(&mut self.requests);
        Span { from, to: self.requests.len() }
    }

    /// Where the next request's reply will begin.
    #[inline]
    pub fn mark(&self) -> ReplyMark {
        ReplyMark { from: self.out.len(), places: self.places }
    }

    /// A place for the reply that begins at `from` and ends at the end of what is written.
    pub fn place(&mut self, from: usize) -> ReplyPlace {
        self.places += 1;
        ReplyPlace { span: Span { from, to: self.out.len() }, number: self.places }
    }

    /// Leaves a hole for a request that nobody has run, so that it will be asked for again.
    pub fn leave_for_retry(&mut self, request: &[u8], db: u8, proto: Proto) {
        let ask = self.keep(request, db, proto);
        let kind = RequestKind { retry_policy: RetryPolicy::Always, writes: true, is_long: false };
        self.leave_hole(None, ask, kind);
    }

    /// Waits for a reply that something on this node will give.
    pub fn wait_for(&mut self, reply: ReplyPlace, ask: Ask, call: Rc<Call>) {
        let kind = RequestKind { retry_policy: RetryPolicy::Never, writes: true, is_long: false };
        let hole = Hole { reply, ask, seen: None, kind };
        self.questions.push(Question { target: None, call: Some(call), holes: smallvec![hole] });
    }

    /// Replaces a reply.
    pub fn patch(&mut self, reply: ReplyPlace, bytes: &[u8]) {
        let from = self.patched.len();
        self.patched.extend_from_slice(bytes);
        self.put(reply, Span { from, to: self.patched.len() });
    }

    /// Replaces a reply by this stretch of `patched`. Where its client does not want it nothing takes its place.
    fn put(&mut self, reply: ReplyPlace, span: Span) {
        if !self.is_silent(reply) {
            self.patches.push((reply, span));
        }
    }

    /// Whether the client does not want this reply.
    fn is_silent(&self, reply: ReplyPlace) -> bool {
        let before = self.silent.partition_point(|(_, last)| *last < reply.number);
        self.silent.get(before).is_some_and(|(first, _)| *first <= reply.number)
    }

    /// Answers that a write's outcome is unknown.
    pub fn leave_unknown(&mut self, reply: ReplyPlace) {
        self.unknown_outcomes += u64::from(!self.is_silent(reply));
        self.patch(reply, format!("-{}\r\n", RequestError::UnknownOutcome.text()).as_bytes());
    }

    /// Leaves a place for a reply that `target` will give. Requests for one target go together; those for one node stay
    /// in their order. Without a target the request was put off, and will be asked for again.
    pub fn leave_hole(&mut self, target: Option<Target>, ask: Ask, kind: RequestKind) {
        let reply = self.place(self.out.len());
        self.leave(target, Hole { reply, ask, seen: None, kind });
    }

    /// Leaves a reply that begins at `from`, to a read, to be confirmed or replaced by `target`; `seen` is what
    /// [`Batch::keep_seen`] gave.
    pub fn leave_reply(&mut self, target: Target, ask: Ask, from: usize, seen: Span) {
        let (reply, seen) = (self.place(from), Some(seen));
        let kind = RequestKind { retry_policy: RetryPolicy::Always, writes: false, is_long: false };
        self.leave(Some(target), Hole { reply, ask, seen, kind });
    }

    /// Whether a request for `target` would go beside what the same node is asked, and not with it: then that node may
    /// run the one and leave the other out.
    pub fn goes_apart(&self, target: Target) -> bool {
        self.last_for(Some(target)).is_some_and(|at| self.questions.get(at).is_some_and(|it| it.target != Some(target)))
    }

    fn last_for(&self, target: Option<Target>) -> Option<usize> {
        let peer = |target: Option<Target>| target.map(|target| target.peer);
        self.questions.iter().rposition(|question| peer(question.target) == peer(target))
    }

    fn leave(&mut self, target: Option<Target>, hole: Hole) {
        self.forwarded += 1;
        let last = self.last_for(target).and_then(|at| self.questions.get_mut(at));
        if target.is_none() || last.as_ref().is_some_and(|question| question.target != target) {
            self.order.divide();
        }
        match last.filter(|question| question.target == target && question.call.is_none()) {
            Some(question) => question.holes.push(hole),
            None => self.questions.push(Question { target, call: None, holes: smallvec![hole] }),
        }
    }

    /// Has every question asked that was not asked yet. `ask` is given who to ask, how long to wait for the answer, and
    /// what appends the requests.
    pub fn ask(&mut self, ask: impl Fn(Target, AnswerPatience, &mut dyn FnMut(&mut Vec<u8>)) -> Rc<Call>) {
        for question in self.questions.iter_mut().filter(|question| question.call.is_none()) {
            let Some(target) = question.asked_as() else { continue };
            let mut write = |out: &mut Vec<u8>| question.write(&self.requests, out);
            let call = ask(target, question.patience(), &mut write);
            question.call = Some(call);
        }
    }

    /// Takes back what the last request has written from `from` on, and what it waits for.
    pub fn forget_from(&mut self, from: usize) {
        self.out.truncate(from);
        self.unconfirmed.retain(|unconfirmed| unconfirmed.reply.span.from != from || unconfirmed.reply.span.to <= from);
    }

    /// Takes back the replies behind `mark`: their client does not want them. What was done stays done.
    pub fn silence(&mut self, mark: ReplyMark) {
        self.out.truncate(mark.from);
        self.unconfirmed.retain(|unconfirmed| unconfirmed.reply.number <= mark.places);
        if self.places > mark.places {
            let first = mark.places + 1;
            self.silent.retain(|(from, _)| *from < first);
            match self.silent.last_mut().filter(|(_, last)| last + 1 >= first) {
                Some((_, last)) => *last = self.places,
                None => self.silent.push((first, self.places)),
            }
        }
    }

    /// Whether replies lie elsewhere than in `out`.
    pub fn is_patched(&self) -> bool {
        !self.patches.is_empty()
    }

    /// Appends the replies with everything put in its place. The batch is over then.
    pub fn finish(&mut self, to: &mut Vec<u8>) {
        if to.is_empty() && !self.is_patched() {
            // The usual case: the batch's own buffer is the output.
            return std::mem::swap(to, &mut self.out);
        }
        self.sort_patches();
        self.write(0..self.out.len(), to);
    }

    /// Readies the batch for [`Batch::write`].
    pub fn sort_patches(&mut self) {
        self.patches.sort_by_key(|(place, _)| *place);
    }

    /// Appends the replies in this stretch of `out`, which cuts none in two, with everything put in its place.
    pub fn write(&self, range: Range<usize>, to: &mut Vec<u8>) {
        let first = self.patches.partition_point(|(place, _)| place.span.from < range.start);
        let mut patches = self.patches.iter().skip(first).peekable();
        let mut at = range.start;
        while let Some((place, span)) = patches.next_if(|(place, _)| place.span.to <= range.end) {
            if patches.peek().is_some_and(|(next, _)| next == place) {
                continue;
            }
            to.extend_from_slice(self.out.get(at..place.span.from).unwrap_or_default());
            to.extend_from_slice(self.patched.get(span.from..span.to).unwrap_or_default());
            at = place.span.to;
        }
        to.extend_from_slice(self.out.get(at..range.end).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::server::forward::call::Outcome;
    use crate::server::forward::wire::{Manner, answer_of};

    const NEVER_AGAIN: RequestKind = RequestKind { retry_policy: RetryPolicy::Never, writes: true, is_long: false };

    /// A batch that leaves these requests to another node, silent where they begin with a `-`, and what it answers.
    fn replies(requests: &[&str]) -> String {
        let (mut batch, call) = (Batch::new(Instant::now()), Call::of_our_own());
        let target = Target { peer: 1, manner: Manner::default(), fence: None };
        let mut answer = Vec::new();
        for request in requests {
            let mark = batch.mark();
            if request.contains("here") {
                batch.out.extend_from_slice(request.as_bytes());
            } else {
                let ask = batch.keep(request.as_bytes(), 0, Proto::Resp2);
                batch.leave_hole(Some(target), ask, NEVER_AGAIN);
                answer.extend(answer_of(request.as_bytes()));
            }
            if request.starts_with('-') {
                batch.silence(mark);
            }
        }
        batch.ask(|_, _, _| call.clone());
        call.complete(Outcome::Replied(answer));
        let mut out = Vec::new();
        assert!(batch.poll(&Context::from_waker(Waker::noop()), &mut Vec::new()));
        batch.finish(&mut out);
        String::from_utf8(out).expect("text")
    }

    /// HSETNX and, behind a HELLO, HVALS: the node that was asked for both left out the first and ran the second.
    #[test]
    fn what_is_asked_in_another_manner_goes_apart_from_what_the_same_node_is_asked_before() {
        let mut batch = Batch::new(Instant::now());
        let target = |peer, db| Target { peer, manner: Manner { db, ..Manner::default() }, fence: None };
        assert!(!batch.goes_apart(target(1, 0)));
        let ask = batch.keep(b"HSETNX", 0, Proto::Resp2);
        batch.leave_hole(Some(target(1, 0)), ask, NEVER_AGAIN);
        assert!(!batch.goes_apart(target(1, 0)) && !batch.goes_apart(target(2, 5)));
        assert!(batch.goes_apart(target(1, 5)));
    }

    #[test]
    fn a_write_that_nobody_ran_is_asked_for_again_also_when_its_reply_is_not_wanted() {
        let (mut batch, call) = (Batch::new(Instant::now()), Call::of_our_own());
        let target = Target { peer: 1, manner: Manner::default(), fence: None };
        for (request, writes) in [("SET", true), ("GET", false)] {
            let mark = batch.mark();
            let ask = batch.keep(request.as_bytes(), 0, Proto::Resp2);
            batch.leave_hole(
                Some(target),
                ask,
                RequestKind { retry_policy: RetryPolicy::Always, writes, is_long: false },
            );
            batch.silence(mark);
        }
        batch.ask(|_, _, _| call.clone());
        call.complete(Outcome::NotRun);
        let mut retries = Vec::new();
        assert!(!batch.poll(&Context::from_waker(Waker::noop()), &mut retries));
        let asked: Vec<&[u8]> = retries.iter().map(|retry| batch.kept(retry.ask.request)).collect();
        assert_eq!(asked, [b"SET"]);
        let mut one = Batch::new(Instant::now());
        one.out.extend_from_slice(b"+OK");
        batch.adopt(retries[0].reply, one);
        batch.leave_unknown(retries[0].reply);
        let mut out = Vec::new();
        assert!(batch.poll(&Context::from_waker(Waker::noop()), &mut Vec::new()));
        batch.finish(&mut out);
        assert_eq!((out, batch.unknown_outcomes), (Vec::new(), 0));
    }

    #[test]
    fn who_wants_no_reply_takes_none_from_the_requests_before_it() {
        assert_eq!(replies(&["a;", "b;", "-here;", "c;"]), "a;b;c;");
        assert_eq!(replies(&["a;", "-b;", "-here;", "here;"]), "a;here;");
        assert_eq!(replies(&["here;", "a;", "-here;", "-b;", "here;"]), "here;a;here;");
    }
}
