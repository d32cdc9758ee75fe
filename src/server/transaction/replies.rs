//! What has come of the requests of a transaction: replies, in the order of its groups, to be read in that of requests.
//!
//! A request is left until it is answered. Replies are kept one behind the other, with the place of each; more of them
//! than [`REPLY_BYTES_MAX`] nobody will see, so the rest is only noted as answered.
//!
//! Pure. It does not know who runs what.

use std::ops::Range;

use crate::commands::CommandError;
use crate::protocol::REPLY_BYTES_MAX;
use crate::protocol::client::{ReplyLimits, ReplyScanner};
use crate::server::transaction::groups::Group;

/// See the head of the file.
#[derive(Debug)]
pub struct Replies {
    bytes: Vec<u8>,
    /// For each request where its reply is; `None` for one that is left.
    at: Vec<Option<Range<usize>>>,
    /// No request before this one is left.
    first_left: usize,
    answered: usize,
}

impl Replies {
    /// For so many requests, all of which are left.
    pub fn to(requests: usize) -> Replies {
        Replies { bytes: Vec::new(), at: vec![None; requests], first_left: 0, answered: 0 }
    }

    /// Whether no request is left.
    pub fn are_whole(&self) -> bool {
        self.answered == self.at.len()
    }

    /// How many requests are answered.
    pub fn answered(&self) -> usize {
        self.answered
    }

    /// The places of the requests that are left.
    pub fn left(&self) -> impl Iterator<Item = usize> + Clone {
        let behind = self.at.iter().enumerate().skip(self.first_left);
        behind.filter(|(_, reply)| reply.is_none()).map(|(place, _)| place)
    }

    /// Takes the reply to the request at this place.
    pub fn take(&mut self, place: usize, reply: &[u8]) {
        let from = self.bytes.len();
        if from <= REPLY_BYTES_MAX {
            self.bytes.extend_from_slice(reply);
        }
        if let Some(at @ None) = self.at.get_mut(place) {
            *at = Some(from..self.bytes.len());
            self.answered += 1;
        }
        while matches!(self.at.get(self.first_left), Some(Some(_))) {
            self.first_left += 1;
        }
    }

    /// Takes the answer that another node gave for a group; false, with nothing taken, if it is not one reply for each
    /// request.
    pub fn take_of_other(&mut self, group: &Group, answer: &[u8]) -> bool {
        let Some(replies) = replies_of(answer).filter(|replies| replies.len() == group.places.len()) else {
            return false;
        };
        for (place, reply) in group.places.iter().zip(replies) {
            if group.answers(*place) {
                self.take(*place, reply);
            }
        }
        true
    }

    /// Takes the answer that this node gave for a group. The last request may have had several replies, or none: each
    /// channel of SUBSCRIBE has its own.
    pub fn take_own(&mut self, group: &Group, answer: &[u8]) {
        let (mut rest, mut places) = (answer, group.places.iter().copied());
        if group.stretch().is_some() {
            // They are read as they stand: to find out where each of them ends would be for nothing.
            places.for_each(|place| self.take(place, std::mem::take(&mut rest)));
            return;
        }
        while let Some(place) = places.next() {
            let reply = if places.len() == 0 { rest } else { first_reply(rest).unwrap_or(rest) };
            rest = rest.get(reply.len()..).unwrap_or_default();
            self.take(place, reply);
        }
    }

    /// Appends the replies in the order of the requests.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), CommandError> {
        if self.bytes.len() > REPLY_BYTES_MAX {
            return Err(CommandError::ReplyTooLarge);
        }
        out.reserve(self.bytes.len());
        let replies = self.at.iter().flatten().filter_map(|at| self.bytes.get(at.clone()));
        replies.for_each(|reply| out.extend_from_slice(reply));
        Ok(())
    }
}

/// Cuts replies apart that stand one behind the other; `None` when they are no replies.
fn replies_of(answer: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut rest, mut replies) = (answer, Vec::new());
    while !rest.is_empty() {
        let reply = first_reply(rest)?;
        rest = rest.get(reply.len()..)?;
        replies.push(reply);
    }
    Some(replies)
}

fn first_reply(replies: &[u8]) -> Option<&[u8]> {
    let found = ReplyScanner::new(ReplyLimits::arrived()).scan(replies).ok()??;
    replies.get(..found.consumed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::transaction::queued::tests::with_long_value;

    fn group(places: &[usize], selects: &[usize]) -> Group {
        Group { places: places.to_vec(), selects: selects.to_vec(), ..Group::default() }
    }

    fn written(replies: &Replies) -> String {
        let mut out = Vec::new();
        replies.write(&mut out).expect("few bytes");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn replies_come_in_the_order_of_groups_and_are_read_in_that_of_requests() {
        let mut replies = Replies::to(5);
        assert!(replies.take_of_other(&group(&[0, 1, 4], &[0]), b"+OK\r\n:1\r\n:4\r\n"));
        assert_eq!(replies.left().collect::<Vec<_>>(), [0, 2, 3], "a SELECT is answered elsewhere");
        assert_eq!((replies.answered(), replies.are_whole()), (2, false));
        replies.take_own(&group(&[0, 2, 3], &[]), b"+OK\r\n:2\r\n*1\r\n:3\r\n*1\r\n:33\r\n");
        assert!(replies.are_whole() && replies.left().next().is_none());
        assert_eq!(written(&replies), "+OK\r\n:1\r\n:2\r\n*1\r\n:3\r\n*1\r\n:33\r\n:4\r\n");
    }

    #[test]
    fn our_own_replies_to_requests_in_a_row_are_not_taken_apart() {
        let mut replies = Replies::to(4);
        replies.take_own(&group(&[1, 2], &[]), b"not looked at");
        assert_eq!(replies.left().collect::<Vec<_>>(), [0, 3]);
        replies.take(3, b"!");
        replies.take(0, b"it is ");
        assert_eq!(written(&replies), "it is not looked at!");
    }

    #[test]
    fn an_answer_that_is_not_one_reply_for_each_request_is_not_taken() {
        let mut replies = Replies::to(2);
        for answer in [&b""[..], b"+OK\r\n", b"+OK\r\n+OK\r\n+OK\r\n", b"+OK\r\n:1", b"x"] {
            assert!(!replies.take_of_other(&group(&[0, 1], &[]), answer), "{answer:?}");
        }
        assert_eq!((replies.answered(), replies.left().count()), (0, 2));
        assert!(replies.take_of_other(&group(&[], &[]), b""));
    }

    #[test]
    fn replies_are_cut_apart() {
        assert_eq!(replies_of(b"+OK\r\n*1\r\n:1\r\n$-1\r\n"), Some(vec![&b"+OK\r\n"[..], b"*1\r\n:1\r\n", b"$-1\r\n"]));
        assert_eq!((replies_of(b""), replies_of(b"+OK\r\n:1"), replies_of(b"x")), (Some(vec![]), None, None));
    }

    /// `proto-max-bulk-len` may let a client send values above its default.
    #[test]
    fn values_of_any_length_are_cut_apart() {
        let behind = b"+OK\r\n";
        let (answer, len) = with_long_value("", behind);
        let lengths = replies_of(&answer).map(|replies| replies.iter().map(|reply| reply.len()).collect::<Vec<_>>());
        assert_eq!(lengths, Some(vec![len, behind.len()]));
    }
}
