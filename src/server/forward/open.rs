//! The questions of a link that are open, each under its number, and which of them an answer is to.
//!
//! Both ends count a connection's questions from 0 on, and an answer names the number of its question. Mostly it is the
//! oldest that is answered, so the numbers that follow each other are no more than a queue; what an answer to a later
//! one has overtaken is moved beside it, once, and looked up there by halves.
//!
//! Bounded by what is asked and not answered: an answered question leaves nothing behind, however many older ones are
//! open. The other end leaves only so many open as it has read (`connection::pending`).
//!
//! What has become of a call is not looked at here: one that was given up stays until its answer comes, or the link
//! ends.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use crate::server::forward::call::Call;

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct OpenCalls {
    /// The number of the first in the queue.
    first: u64,
    queue: VecDeque<Rc<Call>>,
    /// Those with lower numbers, in ascending order.
    overtaken: VecDeque<(u64, Rc<Call>)>,
    /// When the latest question that has been answered was asked.
    answered_up_to: Option<Instant>,
}

impl OpenCalls {
    /// Notes the next question.
    pub(super) fn push(&mut self, call: Rc<Call>) {
        self.queue.push_back(call);
    }

    /// The question that is answered under this number; `None` for one that was not asked, or answered before.
    pub(super) fn take(&mut self, number: u64) -> Option<Rc<Call>> {
        let Some(before) = number.checked_sub(self.first) else {
            let at = self.overtaken.binary_search_by_key(&number, |(number, _)| *number).ok()?;
            return self.overtaken.remove(at).map(|(_, call)| call);
        };
        let before = usize::try_from(before).ok().filter(|before| *before < self.queue.len())?;
        if before > 0 {
            self.overtaken.extend((self.first..).zip(self.queue.drain(..before)));
        }
        let call = self.queue.pop_front()?;
        self.first = number + 1;
        self.answered_up_to = Some(call.sent_at);
        Some(call)
    }

    /// The oldest.
    pub(super) fn oldest(&self) -> Option<&Rc<Call>> {
        self.iter().next()
    }

    /// When the latest question that has been answered was asked: the other end had not answered by then what is open
    /// and older, because answers arrive in the order in which they are given.
    pub(super) fn answered_up_to(&self) -> Option<Instant> {
        self.answered_up_to
    }

    /// All, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Rc<Call>> {
        self.overtaken.iter().map(|(_, call)| call).chain(&self.queue)
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.overtaken.len() + self.queue.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.overtaken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_is_found_once_by_its_number_whatever_was_answered_before() {
        let (calls, mut open) = ([(); 6].map(|()| Call::of_our_own()), OpenCalls::default());
        calls[..5].iter().for_each(|call| open.push(call.clone()));
        for (number, left) in [(2, 4), (0, 3), (4, 2), (3, 1)] {
            let found = open.take(number).expect("it is open");
            assert!(Rc::ptr_eq(&found, &calls[number as usize]) && open.len() == left, "{number}");
            assert_eq!(open.answered_up_to(), Some(calls[if number < 3 { 2 } else { 4 }].sent_at));
            assert!(open.take(number).is_none(), "{number} again");
        }
        assert!(open.take(5).is_none() && open.take(u64::MAX).is_none(), "nobody has asked that");
        open.push(calls[5].clone());
        assert!(open.oldest().is_some_and(|oldest| Rc::ptr_eq(oldest, &calls[1])));
        assert!(open.take(5).is_some() && open.take(1).is_some() && open.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_open_is_what_was_asked_and_not_answered(steps in prop::collection::vec(0..8u64, 0..60)) {
            let (mut open, mut asked) = (OpenCalls::default(), Vec::new());
            for step in steps {
                if step > 3 {
                    asked.push(Some(Call::of_our_own()));
                    open.push(asked.last().cloned().flatten().expect("just made"));
                } else {
                    let number = (asked.len() as u64).wrapping_sub(step);
                    let expected = asked.get_mut(number as usize).and_then(Option::take);
                    prop_assert_eq!(open.take(number).map(|it| Rc::as_ptr(&it)), expected.map(|it| Rc::as_ptr(&it)));
                }
                let left: Vec<_> = asked.iter().flatten().map(Rc::as_ptr).collect();
                prop_assert_eq!((open.len(), open.is_empty()), (left.len(), left.is_empty()));
                prop_assert_eq!(open.iter().map(Rc::as_ptr).collect::<Vec<_>>(), left);
            }
        }
    }
}
