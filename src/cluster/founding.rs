//! Whether a node that belongs to nothing enters a cluster, begins one, or waits. Pure.
//!
//! A node that remembers no cluster (`members`), nor hears of one that others remember, goes by the list of nodes to
//! join: the first of it begins the cluster, and so does a node that has no list. Late, when somebody may be there whom
//! it does not reach.
//!
//! A node that knows of a cluster with others never begins one by its patience: cut off from that cluster it would
//! answer that keys do not exist. It waits for somebody who belongs to it. When nobody does, all may have lost their
//! memory together, and a new cluster begins as follows. What every node remembers is merged, as rows are, so the
//! newest wins. Every node has one vote, at first its own, which it tells whoever asks. Once it reaches a majority of
//! the members, itself included, it gives the vote to the lowest id among them. Who has the votes of a majority begins.
//!
//! Why no two begin: both would have had the vote of one node, for two majorities of the members have a node in common.
//! (So have majorities before and after a node comes or goes, and whoever confirms such a step has it on disk:
//! `members`.) A vote only ever moves to a lower id, and only from who has given its own away. So who has lost it never
//! has it back, and who begins has had its own all the time. Votes are not stored: nodes that lose their memory again
//! while a cluster begins may see two.
//!
//! An operator's word (RONDO.FOUND) begins a cluster whatever is remembered, unless one is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::ids::NodeId;
use crate::peer::control::{ControlError, Unformed};
use crate::ring::{Row, Rows};

/// How long somebody who may begin a cluster looks for one that is there already, while nobody listens at the other
/// addresses.
pub const FOUNDING_PATIENCE: Duration = Duration::from_secs(1);
/// The same while an address says nothing at all: a cluster may be there, and this node be cut off from it.
pub const SILENCE_PATIENCE: Duration = Duration::from_secs(10);

/// What a node that was asked said.
#[derive(Debug)]
pub enum Answer {
    /// It belongs to a cluster of these rows.
    Formed(Rows),
    /// It belongs to one in which nobody owns slots to stay.
    Ownerless,
    /// It belongs to none yet.
    Unformed(Unformed),
    /// It is this node.
    Ourselves,
    /// Nothing.
    Silent(Silence),
}

impl Answer {
    /// Why it said nothing, if that is so.
    pub fn silence(&self) -> Option<&Silence> {
        match self {
            Answer::Silent(why) => Some(why),
            Answer::Formed(_) | Answer::Ownerless | Answer::Unformed(_) | Answer::Ourselves => None,
        }
    }
}

/// Why a node that was asked said nothing, in the words of the log.
#[derive(Debug, thiserror::Error)]
pub enum Silence {
    /// Its name cannot be looked up.
    #[error("the address of a node to join cannot be looked up")]
    Unresolved,
    /// It cannot be reached, or will not talk to this node.
    #[error("the node to join at {addr} cannot be asked: {error}")]
    Failed {
        /// Where.
        addr: SocketAddr,
        /// What went wrong.
        error: ControlError,
    },
    /// Somebody is there and says nothing.
    #[error("the node to join at {0} does not answer: is this its peer-port?")]
    TimedOut(SocketAddr),
}

impl Silence {
    /// How long it takes to believe that nobody is there who could belong to a cluster.
    fn patience(&self) -> Duration {
        match self {
            Silence::Failed { error: ControlError::Io(error), .. } if error.kind() == ErrorKind::ConnectionRefused => {
                FOUNDING_PATIENCE
            }
            Silence::Unresolved | Silence::Failed { .. } | Silence::TimedOut(_) => SILENCE_PATIENCE,
        }
    }
}

/// What a node that belongs to nothing does next.
#[derive(Clone, PartialEq, Debug)]
pub enum Start {
    /// Enter the cluster of these rows.
    Enter(Rows),
    /// Be the first member of a new one.
    Found,
    /// Ask again.
    Wait(Wait),
}

/// What a node waits for that belongs to nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wait {
    /// So many more of these members of the cluster that is remembered.
    Members {
        /// How many.
        more: usize,
        /// Their names.
        of: Vec<String>,
    },
    /// This node, to begin the cluster.
    Beginner(String),
    /// Somebody who does not answer, but may be there.
    Silent,
    /// Any node to join.
    Joined,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Members { more, of } => {
                write!(f, "waiting for {more} more of the cluster that is remembered: {}", of.join(", "))
            }
            Wait::Beginner(node) => write!(f, "waiting for {node}, which is to begin the cluster anew"),
            Wait::Silent => f.write_str("not beginning a cluster yet: one may be where nobody answers"),
            Wait::Joined => f.write_str("waiting for a node of its join list that belongs to a cluster"),
        }
    }
}

/// What a node that belongs to nothing knows, and whom it lets begin; see the head of the file.
#[derive(Debug)]
pub struct Founding {
    me: NodeId,
    known: Rows,
    vote: NodeId,
    is_told: bool,
    waits: Option<Wait>,
}

impl Founding {
    /// Of a node that remembers these rows.
    pub fn new(me: NodeId, remembered: Rows) -> Founding {
        Founding { me, known: remembered, vote: me, is_told: false, waits: None }
    }

    /// An operator wants this node to begin a cluster.
    pub fn tell(&mut self) {
        self.is_told = true;
    }

    /// What this node tells whoever asks.
    pub fn standing(&self) -> Unformed {
        Unformed { node: self.me, vote: self.vote, remembered: self.known.clone() }
    }

    /// What this node was found to wait for last.
    pub fn waits(&self) -> Option<&Wait> {
        self.waits.as_ref()
    }

    /// Where the other members are that are remembered.
    pub fn addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.members().filter(|row| row.id != self.me).map(|row| row.peer_addr)
    }

    fn members(&self) -> impl Iterator<Item = &Row> {
        self.known.iter().filter(|row| row.state.is_member())
    }

    /// What to do after one round of asking. The answers stand in the order of the list of nodes to join, those of
    /// remembered members behind them.
    pub fn judge(&mut self, answers: &[Answer], waited: Duration) -> Start {
        let mut formed: Option<Rows> = None;
        for answer in answers {
            match answer {
                Answer::Formed(rows) => drop(formed.get_or_insert_with(Rows::new).merge_all(rows)),
                Answer::Unformed(said) => drop(self.known.merge_all(&said.remembered)),
                Answer::Ownerless | Answer::Ourselves | Answer::Silent(_) => {}
            }
        }
        let patience = answers.iter().filter_map(Answer::silence).map(Silence::patience).max().unwrap_or_default();
        let is_patient = waited >= patience;
        let start = match formed {
            Some(rows) => Start::Enter(rows),
            None if self.is_told => Start::Found,
            None if self.members().all(|row| row.id == self.me) => self.by_list(answers, is_patient),
            None => self.by_votes(answers, is_patient),
        };
        self.waits = match &start {
            Start::Wait(wait) => Some(wait.clone()),
            Start::Enter(_) | Start::Found => None,
        };
        start
    }

    /// What to do as long as no cluster of others is remembered. The last of one that all others have left is as the
    /// first of the list: they wait for it.
    fn by_list(&self, answers: &[Answer], is_patient: bool) -> Start {
        let is_last = self.known.len() > 1 && self.known.get(&self.me).is_some_and(|row| row.state.is_member());
        match is_last || matches!(answers.first(), None | Some(Answer::Ourselves)) {
            true if is_patient => Start::Found,
            true => Start::Wait(Wait::Silent),
            false => Start::Wait(Wait::Joined),
        }
    }

    fn by_votes(&mut self, answers: &[Answer], is_patient: bool) -> Start {
        let members: BTreeSet<NodeId> = self.members().map(|row| row.id).collect();
        let mut votes = BTreeMap::from([(self.me, self.vote)]);
        votes.extend(answers.iter().filter_map(|answer| match answer {
            Answer::Unformed(said) if said.node != self.me => Some((said.node, said.vote)),
            _ => None,
        }));
        votes.retain(|node, _| members.contains(node));
        let needed = members.len() / 2 + 1;
        let Some((lowest, _)) = votes.first_key_value().filter(|_| votes.len() >= needed) else {
            let of = members.iter().filter(|id| !votes.contains_key(*id) && **id != self.me);
            let of = of.map(|id| self.name(id)).collect();
            return Start::Wait(Wait::Members { more: needed.saturating_sub(votes.len()), of });
        };
        let given_away = votes.get(&self.vote).is_some_and(|theirs| *theirs != self.vote);
        if *lowest < self.vote && (self.vote == self.me || given_away) {
            self.vote = *lowest;
        }
        let mine = votes.values().filter(|vote| **vote == self.me).count();
        match self.vote == self.me && members.contains(&self.me) {
            true if mine >= needed && is_patient => Start::Found,
            true if mine >= needed => Start::Wait(Wait::Silent),
            true => {
                let of = votes.iter().filter(|(_, vote)| **vote != self.me).map(|(id, _)| self.name(id)).collect();
                Start::Wait(Wait::Members { more: needed - mine, of })
            }
            false => Start::Wait(Wait::Beginner(self.name(if self.vote == self.me { lowest } else { &self.vote }))),
        }
    }

    /// What people call a member.
    fn name(&self, id: &NodeId) -> String {
        match self.known.get(id) {
            Some(row) if row.name.is_empty() => row.peer_addr.to_string(),
            Some(row) => format!("{} ({})", row.name, row.peer_addr),
            None => id.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::row;
    use crate::ring::RowState;

    const LONG: Duration = Duration::from_secs(86_400);

    fn id(number: u8) -> NodeId {
        row(number, RowState::Normal).id
    }

    /// Members of these numbers.
    fn members(numbers: impl IntoIterator<Item = u8>) -> Rows {
        let mut rows = Rows::new();
        numbers.into_iter().for_each(|number| assert!(rows.merge(row(number, RowState::Normal))));
        rows
    }

    fn node(number: u8, remembered: &Rows) -> Founding {
        Founding::new(id(number), remembered.clone())
    }

    fn refused() -> Answer {
        let error = ControlError::Io(ErrorKind::ConnectionRefused.into());
        Answer::Silent(Silence::Failed { addr: SocketAddr::from(([192, 0, 2, 1], 16_379)), error })
    }

    fn unformed(node: u8) -> Answer {
        Answer::Unformed(super::tests::node(node, &Rows::new()).standing())
    }

    /// Rounds of these nodes in turn, each of which reaches those that `reaches` says, until nothing changes; gives who
    /// begins.
    fn beginners(nodes: &mut [Founding], reaches: impl Fn(u8, u8) -> bool) -> Vec<NodeId> {
        let number = |node: &Founding| node.me.as_bytes()[0];
        let mut begun = BTreeSet::new();
        for at in (0..nodes.len()).cycle().take(nodes.len() * 8) {
            let me = number(&nodes[at]);
            let answer = |other: &Founding| match reaches(me, number(other)) {
                // Who has begun would say so: that it is not heard is the worst case.
                true => Answer::Unformed(other.standing()),
                false => Answer::Silent(Silence::Unresolved),
            };
            let answers: Vec<Answer> = nodes.iter().filter(|other| number(other) != me).map(answer).collect();
            if nodes[at].judge(&answers, LONG) == Start::Found {
                begun.insert(nodes[at].me);
            }
        }
        begun.into_iter().collect()
    }

    #[test]
    fn without_memory_only_the_first_of_a_list_begins_and_only_when_nobody_has() {
        let start = |answers: &[Answer], waited| node(1, &Rows::new()).judge(answers, waited);
        let formed = || Answer::Formed(members([7]));
        let (now, later) = (Duration::ZERO, FOUNDING_PATIENCE);
        assert_eq!(start(&[], now), Start::Found);
        assert_eq!(start(&[Answer::Ourselves, unformed(2)], now), Start::Found);
        assert_eq!(start(&[Answer::Ourselves, Answer::Ownerless], now), Start::Found);
        assert_eq!(start(&[Answer::Ourselves, refused(), unformed(2)], now), Start::Wait(Wait::Silent));
        assert_eq!(start(&[Answer::Ourselves, refused()], later), Start::Found);
        assert_eq!(start(&[Answer::Ourselves, refused(), formed()], later), Start::Enter(members([7])));
        assert_eq!(start(&[unformed(2), Answer::Ourselves], later), Start::Wait(Wait::Joined));
        assert_eq!(start(&[refused()], later), Start::Wait(Wait::Joined));
        assert_eq!(start(&[formed()], now), Start::Enter(members([7])));
    }

    #[test]
    fn who_may_only_be_cut_off_is_waited_for_longer_than_who_is_not_there() {
        let addr = SocketAddr::from(([192, 0, 2, 1], 16_379));
        let failed = |error| Answer::Silent(Silence::Failed { addr, error });
        let io = |kind: ErrorKind| failed(ControlError::Io(kind.into()));
        let waits_for = |answer: Answer| {
            let answers = [Answer::Ourselves, refused(), answer, unformed(3)];
            let may = |waited| node(1, &Rows::new()).judge(&answers, waited) == Start::Found;
            assert!(!may(FOUNDING_PATIENCE - Duration::from_millis(1)) && may(SILENCE_PATIENCE));
            if may(FOUNDING_PATIENCE) { FOUNDING_PATIENCE } else { SILENCE_PATIENCE }
        };
        assert_eq!(waits_for(io(ErrorKind::ConnectionRefused)), FOUNDING_PATIENCE);
        assert_eq!(waits_for(io(ErrorKind::HostUnreachable)), SILENCE_PATIENCE);
        assert_eq!(waits_for(failed(ControlError::TimedOut)), SILENCE_PATIENCE);
        assert_eq!(waits_for(Answer::Silent(Silence::TimedOut(addr))), SILENCE_PATIENCE);
        assert_eq!(waits_for(Answer::Silent(Silence::Unresolved)), SILENCE_PATIENCE, "a resolver that is away");
    }

    #[test]
    fn who_remembers_others_never_begins_alone_and_enters_as_soon_as_one_is_found() {
        let three = members(1..=3);
        for first in [Answer::Ourselves, refused()] {
            let mut one = node(1, &three);
            let answers = [first, refused(), Answer::Silent(Silence::Unresolved)];
            let Start::Wait(Wait::Members { more, of }) = one.judge(&answers, LONG) else { panic!("it begins alone") };
            assert_eq!((more, of), (1, vec!["n2 (127.0.0.1:16002)".to_owned(), "n3 (127.0.0.1:16003)".to_owned()]));
            assert_eq!(
                one.judge(&[Answer::Ourselves, Answer::Formed(members(2..=3))], LONG),
                Start::Enter(members(2..=3))
            );
            assert_eq!(one.waits(), None);
        }
        assert!(matches!(node(1, &three).judge(&[], LONG), Start::Wait(_)), "nor without a list");
        assert_eq!(
            node(1, &three).addrs().collect::<Vec<_>>(),
            [row(2, RowState::Normal), row(3, RowState::Normal)].map(|row| row.peer_addr)
        );
    }

    #[test]
    fn after_the_loss_of_all_the_lowest_of_a_majority_begins() {
        let three = members(1..=3);
        let all = || [1, 2, 3].map(|number| node(number, &three));
        assert_eq!(beginners(&mut all(), |_, _| true), [id(1)]);
        assert_eq!(beginners(&mut all()[1..], |_, _| true), [id(2)], "without the first");
        assert_eq!(beginners(&mut all()[2..], |_, _| true), []);
        assert_eq!(beginners(&mut all(), |_, _| false), []);
        let mut two = members(1..=2);
        assert_eq!(beginners(&mut [node(1, &two)], |_, _| true), []);
        assert_eq!(beginners(&mut [node(1, &two), node(2, &two)], |_, _| true), [id(1)]);
        // Who left is asked nothing, and begins nothing.
        assert!(two.merge(Row { version: 2, ..row(1, RowState::Left) }));
        assert_eq!(beginners(&mut [node(1, &two), node(2, &members(1..=2))], |_, _| true), [id(2)]);
        assert_eq!(beginners(&mut [node(1, &two)], |_, _| true), []);
        assert_eq!(beginners(&mut [node(2, &two)], |_, _| true), [id(2)], "all others have left");
    }

    #[test]
    fn nobody_begins_beside_who_may_still_serve_and_is_only_silent() {
        let three = members(1..=3);
        let mut one = node(1, &three);
        let voter = || Answer::Unformed(Unformed { vote: id(1), ..node(2, &three).standing() });
        let silent = || Answer::Silent(Silence::Unresolved);
        assert_eq!(one.judge(&[voter(), silent()], FOUNDING_PATIENCE), Start::Wait(Wait::Silent));
        assert_eq!(one.judge(&[voter(), silent()], SILENCE_PATIENCE), Start::Found);
        assert_eq!(node(1, &three).judge(&[voter(), refused()], FOUNDING_PATIENCE), Start::Found);
        let lets_third = Answer::Unformed(Unformed { vote: id(2), ..node(3, &three).standing() });
        assert_eq!(node(1, &three).judge(&[voter(), lets_third], Duration::ZERO), Start::Found, "all are heard");
    }

    #[test]
    fn two_groups_that_do_not_hear_of_each_other_never_both_begin() {
        let five = members(1..=5);
        for mask in 0u32..1 << 10 {
            // Each link stands or not; who reaches whom goes both ways.
            let pairs: Vec<(u8, u8)> = (1..=5).flat_map(|one| (one + 1..=5).map(move |other| (one, other))).collect();
            let reaches = |one: u8, other: u8| {
                pairs
                    .iter()
                    .position(|pair| *pair == (one.min(other), one.max(other)))
                    .is_some_and(|at| mask & 1 << at != 0)
            };
            for order in [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [3, 5, 1, 4, 2]] {
                let mut nodes = order.map(|number| node(number, &five));
                assert!(beginners(&mut nodes, reaches).len() <= 1, "{mask:010b} {order:?}");
            }
        }
    }

    #[test]
    fn a_vote_that_was_told_goes_to_nobody_else_before_it_is_given_back() {
        let three = members(1..=3);
        let (mut two, mut three_) = (node(2, &three), node(3, &three));
        three_.judge(&[Answer::Unformed(two.standing())], LONG);
        assert_eq!(three_.standing().vote, id(2));
        // Another one that is lower, and does not know of that.
        let one = node(1, &three);
        three_.judge(&[Answer::Unformed(two.standing()), Answer::Unformed(one.standing())], LONG);
        assert_eq!(three_.standing().vote, id(2));
        three_.judge(&[refused(), Answer::Unformed(one.standing())], LONG);
        assert_eq!(three_.standing().vote, id(2), "it may have begun");
        two.judge(&[Answer::Unformed(one.standing())], LONG);
        three_.judge(&[Answer::Unformed(two.standing()), Answer::Unformed(one.standing())], LONG);
        assert_eq!((two.standing().vote, three_.standing().vote), (id(1), id(1)));
        two.judge(&[Answer::Unformed(three_.standing()), refused()], LONG);
        assert_eq!(two.standing().vote, id(1), "what was given away does not come back");
    }

    #[test]
    fn an_older_memory_gives_way_to_a_newer_one() {
        // The cluster grew while the first two were away: they are a majority of what they remember.
        let (old, new) = (members(1..=3), members(1..=6));
        assert_eq!(beginners(&mut [node(1, &old), node(2, &old), node(6, &new)], |_, _| true), []);
        let mut four = [node(1, &old), node(2, &old), node(5, &new), node(6, &new)];
        assert_eq!(beginners(&mut four, |_, _| true), [id(1)]);
        // Whoever confirmed a step remembers it: two majorities, before and after, meet in it.
        let grown = members(1..=4);
        let mut split = [node(1, &old), node(2, &grown), node(3, &grown), node(4, &grown)];
        assert_eq!(beginners(&mut split, |one, other| (one <= 2) == (other <= 2)), [], "two of four on each side");
        // One was given up: what the others remember of it counts, whatever it remembers itself.
        let mut without = members(1..=3);
        assert!(without.mark_gone(&id(1)));
        assert_eq!(beginners(&mut [node(1, &old), node(2, &without)], |_, _| true), []);
        assert_eq!(beginners(&mut [node(1, &old), node(2, &without), node(3, &old)], |_, _| true), [id(2)]);
    }

    #[test]
    fn who_has_no_memory_goes_by_that_of_others() {
        let three = members(1..=3);
        // Its disk is new: it is the member that it was, and first of the list.
        let mut fresh = node(1, &Rows::new());
        let heard = Answer::Unformed(node(2, &three).standing());
        assert!(matches!(fresh.judge(&[Answer::Ourselves, heard], LONG), Start::Wait(_)));
        assert_eq!(beginners(&mut [node(1, &Rows::new()), node(2, &three)], |_, _| true), [id(1)]);
        // One that is new to all leaves it to them.
        assert_eq!(beginners(&mut [node(0, &Rows::new()), node(2, &three), node(3, &three)], |_, _| true), [id(2)]);
        let heard = Answer::Unformed(node(2, &three).standing());
        assert!(matches!(node(0, &Rows::new()).judge(&[Answer::Ourselves, heard], LONG), Start::Wait(_)));
        // Memory of itself alone is none.
        let alone = members([1]);
        assert_eq!(node(1, &alone).judge(&[], Duration::ZERO), Start::Found);
        assert_eq!(node(1, &alone).judge(&[refused()], LONG), Start::Wait(Wait::Joined));
    }

    #[test]
    fn an_operators_word_begins_a_cluster_unless_there_is_one() {
        let mut one = node(1, &members(1..=3));
        one.tell();
        assert_eq!(one.judge(&[Answer::Formed(members(2..=3))], Duration::ZERO), Start::Enter(members(2..=3)));
        assert_eq!(one.judge(&[refused(), refused()], Duration::ZERO), Start::Found);
        let mut last = node(2, &Rows::new());
        last.tell();
        assert_eq!(last.judge(&[refused(), Answer::Ourselves], Duration::ZERO), Start::Found);
    }
}
