//! Who is away, for how long, and what follows from it: rules without a socket, told the time.
//!
//! Deletions are forgotten without a member that is away for longer than the *horizon* (`stability`): it is *left out*,
//! and what it still holds of their keys must not come back. So a node that saw no majority for so long is *outdated*:
//! it gives what it holds only to those who say that they have not left it out, and when it sees a majority again it
//! asks everybody. If somebody has left it out, it starts over (`start_over`). If nobody has, there was no other side
//! that went on, and what it holds may be all that there is: it goes on.
//!
//! Only who sees a majority without a break for all that time leaves others out, and it says so before it does. Any two
//! majorities have a member in common, so who asks a majority asks somebody who knows; whoever fills up from others
//! takes over what they say (`start_over`).
//!
//! Where deletions take more memory than they may, a member is waited for no longer than [`HURRIED`]. Each node decides
//! that by itself, and whoever comes back does not know of it: so a node is outdated, and asks, after the shortest
//! absence that others may have been content with. Left out is left out: that there is room again changes nothing.
//!
//! The time is that of the monotonic clock: a step of the wall clock never makes a whole cluster throw its data away.
//! It stands still while a whole machine sleeps, and what such a sleep hides is not found here. What was written before
//! an absence is told by a stamp of the node's own that it was given when the absence began, whatever clocks are set to
//! meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::clock::Hlc;
use crate::base::ids::NodeId;

/// What somebody said of himself is believed for so long.
const HEARD_FOR: Duration = Duration::from_secs(5);
/// However much memory deletions take, a member is waited for that long.
const HURRIED: Duration = Duration::from_secs(300);
/// How long a node that is back waits for members that seem alive and do not say whether they have left it out.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// One life of a node.
pub(super) type Life = (NodeId, u64);

/// Another member as this node sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Member {
    /// Which life of whom.
    pub life: Life,
    /// It does not answer.
    pub is_down: bool,
    /// It holds what it ever held in this life.
    pub is_warm: bool,
}

/// What a member said when it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Heard {
    at: Instant,
    is_warm: bool,
    has_left_us_out: bool,
}

/// How long a member that is away is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// While there is room for the deletions that it misses: `tombstone-horizon-ms`.
    pub horizon: Duration,
    /// They take more than they may.
    pub is_short_of_room: bool,
}

impl Patience {
    /// The absence after which a member is left out.
    fn now(self) -> Duration {
        if self.is_short_of_room { self.shortest() } else { self.horizon }
    }

    /// The shortest absence after which somebody may have been left out.
    fn shortest(self) -> Duration {
        self.horizon.min(HURRIED)
    }

    /// How long before it is done others say that they leave somebody out.
    fn notice(self) -> Duration {
        self.shortest() / 8
    }
}

/// A member that is down, a majority of the others being there all the time.
#[derive(Clone, Copy, Debug)]
struct Down {
    since: Instant,
    /// Since when this node says that it leaves it out.
    announced: Option<Instant>,
    /// Deletions are forgotten without it.
    is_left_out: bool,
}

/// What an outdated node is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Ask again: no majority is there, or too few have answered.
    Wait,
    /// Nobody has forgotten anything without this node.
    GoOn,
    /// These have.
    StartOver(BTreeSet<NodeId>),
}

/// A moment, by the clock that measures and by the one that stamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Moment {
    /// When it was.
    pub at: Instant,
    /// Later than whatever this node held then, and earlier than whatever it wrote afterwards.
    pub stamp: Hlc,
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Absence {
    /// When a majority of the members was last seen.
    majority: Moment,
    /// The members that are down.
    down: BTreeMap<NodeId, Down>,
    /// Lives without which deletions may have been forgotten, here or where this node has what it holds from.
    /// Whether they certainly have been: else that is about to be.
    left_out: BTreeMap<Life, bool>,
    /// What others have said since this node became outdated.
    heard: BTreeMap<NodeId, Heard>,
    /// Since when an outdated node sees a majority again.
    back_since: Option<Instant>,
}

impl Absence {
    /// Of a node that begins now.
    pub fn new(now: Moment) -> Absence {
        Absence {
            majority: now,
            down: BTreeMap::new(),
            left_out: BTreeMap::new(),
            heard: BTreeMap::new(),
            back_since: None,
        }
    }

    /// Takes in how the other members look now; gives those that are left out from now on.
    pub fn look(&mut self, members: &[Member], patience: Patience, moment: Moment) -> Vec<NodeId> {
        let now = moment.at;
        let down = || members.iter().filter(|member| member.is_down);
        let sees_majority = is_majority(1 + members.len() - down().count(), 1 + members.len());
        match (self.is_outdated(patience, now), sees_majority) {
            (false, true) => self.go_on(moment),
            (true, true) => drop(self.back_since.get_or_insert(now)),
            (_, false) => self.back_since = None,
        }
        self.down.retain(|id, _| sees_majority && down().any(|member| member.life.0 == *id));
        let mut new = Vec::new();
        for member in down().filter(|_| sees_majority) {
            let begins = Down { since: now, announced: None, is_left_out: false };
            let it = self.down.entry(member.life.0).or_insert(begins);
            if now.duration_since(it.since) > patience.now() - patience.notice() {
                it.announced.get_or_insert(now);
            }
            let Some(announced) = it.announced else { continue };
            if !it.is_left_out && now.duration_since(announced) > patience.notice() {
                it.is_left_out = true;
                new.push(member.life.0);
            }
            *self.left_out.entry(member.life).or_default() |= it.is_left_out;
        }
        // Who has begun another life, also by starting over, has nothing left that could come back; and without one
        // that is back in time nothing was forgotten.
        self.left_out.retain(|life, is_certain| {
            members.iter().any(|member| member.life == *life && (*is_certain || member.is_down))
        });
        new
    }

    /// Nothing is in doubt: a majority is there.
    pub fn go_on(&mut self, now: Moment) {
        self.majority = now;
        self.back_since = None;
        self.heard.clear();
    }

    /// How long ago a majority was last seen.
    pub fn away(&self, now: Instant) -> Duration {
        now.duration_since(self.majority.at)
    }

    /// The stamp that tells what was written before a majority was last seen, or when it was: earlier ones.
    pub fn began(&self) -> Hlc {
        self.majority.stamp
    }

    /// Whether others may have left this node out. Begins before they do, so that it is never taken for complete when
    /// it comes back in between.
    pub fn is_outdated(&self, patience: Patience, now: Instant) -> bool {
        self.away(now) > patience.shortest() - patience.notice()
    }

    /// The members without which this node forgets deletions: they have been down for too long.
    pub fn to_leave_out(&self) -> BTreeSet<NodeId> {
        self.down.iter().filter(|(_, it)| it.is_left_out).map(|(id, _)| *id).collect()
    }

    /// Lives that this node has left out, or is about to.
    pub fn left_out(&self) -> impl Iterator<Item = Life> + '_ {
        self.left_out.keys().copied()
    }

    /// Takes over what a node says that this one has its data from: whom it has left out, and when it saw a majority.
    pub fn inherit(&mut self, left_out: impl IntoIterator<Item = Life>, majority: Moment) {
        self.left_out.extend(left_out.into_iter().map(|life| (life, true)));
        if majority.at < self.majority.at {
            self.majority = majority;
        }
    }

    /// Notes what a member says: whether it is warm, and whether it has left this node out.
    pub fn hear(&mut self, from: NodeId, is_warm: bool, has_left_us_out: bool, now: Instant) {
        self.heard.insert(from, Heard { at: now, is_warm, has_left_us_out });
    }

    /// Whether this member may be given what an outdated node holds: it has forgotten nothing without us.
    pub fn is_in_step_with(&self, id: &NodeId, now: Instant) -> bool {
        self.latest(id, now).is_some_and(|heard| heard.is_warm && !heard.has_left_us_out)
    }

    /// What an outdated node is to do that sees these members.
    pub fn verdict(&self, members: &[Member], now: Instant) -> Verdict {
        let Some(back_since) = self.back_since else { return Verdict::Wait };
        let present = || members.iter().filter(|member| !member.is_down).map(|member| member.life.0);
        let answers: BTreeMap<NodeId, Heard> = present().filter_map(|id| Some((id, self.latest(&id, now)?))).collect();
        let have_all_answered = answers.len() == present().count();
        let is_late = now.duration_since(back_since) > ANSWER_PATIENCE;
        let is_enough = have_all_answered || is_late && is_majority(1 + answers.len(), 1 + members.len());
        if !is_enough {
            return Verdict::Wait;
        }
        let by = answers.iter().filter(|(_, heard)| heard.is_warm && heard.has_left_us_out).map(|(id, _)| *id);
        let by: BTreeSet<NodeId> = by.collect();
        if by.is_empty() { Verdict::GoOn } else { Verdict::StartOver(by) }
    }

    fn latest(&self, id: &NodeId, now: Instant) -> Option<Heard> {
        self.heard.get(id).copied().filter(|heard| now.duration_since(heard.at) < HEARD_FOR)
    }
}

/// Whether so many of so many members, this node among both, are a majority.
fn is_majority(present: usize, members: usize) -> bool {
    present * 2 > members
}

#[cfg(test)]
mod tests {
    use super::*;

    const HORIZON: Duration = Duration::from_secs(80);
    const PATIENCE: Patience = Patience { horizon: HORIZON, is_short_of_room: false };

    fn id(number: u8) -> NodeId {
        NodeId::from_bytes([number; 20])
    }

    fn up(number: u8) -> Member {
        Member { life: (id(number), 1), is_down: false, is_warm: true }
    }

    fn down(number: u8) -> Member {
        Member { is_down: true, ..up(number) }
    }

    fn cold(number: u8) -> Member {
        Member { is_warm: false, ..up(number) }
    }

    /// A node to which the other members looked like this from second to second, and the moment after that.
    fn seen(spans: &[(u64, &[Member])]) -> (Absence, Instant) {
        let now = moment(Instant::now(), 0);
        let (mut absence, mut at) = (Absence::new(now), now);
        spans.iter().for_each(|(seconds, members)| at = look_on(&mut absence, *seconds, members, PATIENCE, at));
        (absence, at.at)
    }

    /// So many seconds go by, with a look in each; gives the moment after that.
    fn look_on(absence: &mut Absence, seconds: u64, members: &[Member], patience: Patience, from: Moment) -> Moment {
        (0..seconds).fold(from, |now, _| {
            let now = moment(now.at + Duration::from_secs(1), now.stamp.0 + 1);
            absence.look(members, patience, now);
            now
        })
    }

    fn moment(at: Instant, stamp: u64) -> Moment {
        Moment { at, stamp: Hlc(stamp) }
    }

    #[test]
    fn what_was_written_before_an_absence_is_told_by_what_was_stamped_when_it_began() {
        let alone = [down(2), down(3)];
        let (mut absence, now) = seen(&[(9, &[up(2), up(3)]), (500, &alone)]);
        assert_eq!(absence.began(), Hlc(9));
        absence.look(&[up(2), up(3)], PATIENCE, moment(now, 510));
        assert_eq!(absence.began(), Hlc(9), "until it is decided what the absence means");
        absence.go_on(moment(now, 511));
        assert_eq!(absence.began(), Hlc(511));
        absence.inherit([], moment(now + Duration::from_secs(1), 7));
        assert_eq!(absence.began(), Hlc(511), "its source was there longer");
        absence.inherit([], moment(now - Duration::from_secs(1), 8));
        assert_eq!(absence.began(), Hlc(8));
    }

    #[test]
    fn only_an_unbroken_majority_leaves_out_and_says_so_before() {
        let left_out = |spans: &[(u64, &[Member])]| {
            let (absence, _) = seen(spans);
            (absence.left_out().count(), absence.to_leave_out().len())
        };
        assert_eq!(left_out(&[(60, &[up(2), down(3)])]), (0, 0));
        assert_eq!(left_out(&[(75, &[up(2), down(3)])]), (1, 0));
        assert_eq!(left_out(&[(85, &[up(2), down(3)])]), (1, 1));
        assert_eq!(left_out(&[(500, &[down(2), down(3)])]), (0, 0), "alone of three");
        assert_eq!(left_out(&[(500, &[down(2)])]), (0, 0), "alone of two");
        assert_eq!(left_out(&[(75, &[up(2), down(3)]), (1, &[down(2), down(3)]), (60, &[up(2), down(3)])]), (1, 0));
        assert_eq!(
            left_out(&[(500, &[down(2), down(3)]), (9, &[up(2), down(3)])]),
            (0, 0),
            "what came before counts not"
        );
        let next_life = Member { life: (id(3), 2), ..up(3) };
        assert_eq!(left_out(&[(85, &[up(2), down(3)]), (1, &[up(2), next_life])]), (0, 0));
        assert_eq!(left_out(&[(85, &[up(2), down(3)]), (1, &[up(2), up(3)])]), (1, 0), "it must still start over");
        assert_eq!(left_out(&[(75, &[up(2), down(3)]), (1, &[up(2), up(3)])]), (0, 0), "nothing was forgotten yet");
        assert_eq!(
            left_out(&[(85, &[up(2), Member { is_down: true, ..cold(3) }])]),
            (1, 1),
            "it may have fetched some"
        );
    }

    #[test]
    fn without_room_for_deletions_a_member_is_left_out_earlier_and_stays_so() {
        let (others, horizon) = ([up(2), down(3)], Duration::from_secs(86_400));
        let [patient, hurried] = [false, true].map(|is_short_of_room| Patience { horizon, is_short_of_room });
        let start = moment(Instant::now(), 0);
        let mut absence = Absence::new(start);
        let said = |absence: &Absence| (absence.left_out().count(), absence.to_leave_out().len());
        let now = look_on(&mut absence, 250, &others, hurried, start);
        assert_eq!(said(&absence), (0, 0), "too early, however little room there is");
        let now = look_on(&mut absence, 1_000, &others, patient, now);
        assert_eq!(said(&absence), (0, 0), "there is room");
        let now = look_on(&mut absence, 30, &others, hurried, now);
        assert_eq!(said(&absence), (1, 0), "it is said before it is done");
        let now = look_on(&mut absence, 10, &others, hurried, now);
        assert_eq!(said(&absence), (1, 1));
        let now = look_on(&mut absence, 100, &others, patient, now);
        assert_eq!(said(&absence), (1, 1), "there is room again: what is forgotten is forgotten");
        look_on(&mut absence, 1, &[up(2), up(3)], patient, now);
        assert_eq!(said(&absence), (1, 0), "it is back, and has to start over");
    }

    #[test]
    fn whoever_may_have_been_left_out_early_asks() {
        let patience = Patience { horizon: Duration::from_secs(86_400), is_short_of_room: false };
        let start = moment(Instant::now(), 0);
        let mut absence = Absence::new(start);
        let now = look_on(&mut absence, 260, &[down(2), down(3)], patience, start);
        assert!(!absence.is_outdated(patience, now.at));
        let now = look_on(&mut absence, 5, &[down(2), down(3)], patience, now);
        assert!(absence.is_outdated(patience, now.at), "before anybody can have left it out");
        let now = look_on(&mut absence, 1, &[up(2), up(3)], patience, now);
        [2, 3].into_iter().for_each(|number| absence.hear(id(number), true, false, now.at));
        assert_eq!(absence.verdict(&[up(2), up(3)], now.at), Verdict::GoOn, "nobody was short of room");
    }

    #[test]
    fn who_holds_the_last_copies_never_starts_over() {
        // Its only fellow died, and comes back empty.
        let (mut absence, now) = seen(&[(500, &[down(2)]), (1, &[cold(2)])]);
        assert!(absence.is_outdated(PATIENCE, now));
        assert_eq!(absence.verdict(&[cold(2)], now), Verdict::Wait);
        absence.hear(id(2), false, false, now);
        assert_eq!(absence.verdict(&[cold(2)], now), Verdict::GoOn);
        assert!(!absence.is_in_step_with(&id(2), now), "not before that is decided");
        // The same, one of two that died.
        let (mut absence, now) = seen(&[(500, &[down(2), down(3)]), (1, &[cold(2), down(3)])]);
        absence.hear(id(2), false, false, now);
        assert_eq!(absence.verdict(&[cold(2), down(3)], now), Verdict::GoOn);
    }

    #[test]
    fn three_that_were_cut_off_from_each_other_all_keep_what_they_hold_in_whatever_order_they_meet() {
        let (alone, both) = ([down(2), down(3)], [up(2), up(3)]);
        // One sees the others one after the other, and one of them has gone on already.
        let (mut absence, now) = seen(&[(500, &alone), (2, &[up(2), down(3)]), (1, &both)]);
        assert!(absence.left_out().next().is_none(), "what it would tell them");
        absence.hear(id(2), true, false, now);
        absence.hear(id(3), true, false, now);
        assert_eq!(absence.verdict(&both, now), Verdict::GoOn);
        absence.go_on(moment(now, 600));
        assert!(!absence.is_outdated(PATIENCE, now));
    }

    #[test]
    fn who_was_left_out_starts_over_even_if_a_minority_does_not_say_so() {
        let others = [up(2), up(3), down(4), up(5)];
        let (mut absence, now) = seen(&[(500, &[down(2), down(3), down(4), down(5)]), (1, &others)]);
        absence.hear(id(2), true, false, now);
        absence.hear(id(3), true, true, now);
        assert_eq!(absence.verdict(&others, now), Verdict::Wait, "the fifth has not answered");
        let later = now + ANSWER_PATIENCE + Duration::from_secs(1);
        assert_eq!(absence.verdict(&others, later), Verdict::Wait, "what was heard is too old");
        absence.hear(id(2), true, false, later);
        assert_eq!(absence.verdict(&others, later), Verdict::Wait, "two of five have no say");
        absence.hear(id(3), true, true, later);
        assert_eq!(absence.verdict(&others, later), Verdict::StartOver(BTreeSet::from([id(3)])));
        assert!(absence.is_in_step_with(&id(2), later) && !absence.is_in_step_with(&id(3), later));
        assert!(!absence.is_in_step_with(&id(5), later), "it says nothing");
    }

    #[test]
    fn without_a_majority_nothing_is_decided_and_equals_go_on_together() {
        let half = [up(2), down(3), down(4)];
        let (mut absence, now) = seen(&[(500, &half)]);
        absence.hear(id(2), true, false, now);
        assert_eq!(absence.verdict(&half, now), Verdict::Wait);
        assert!(absence.is_outdated(PATIENCE, now) && absence.is_in_step_with(&id(2), now));
    }

    #[test]
    fn what_its_source_left_out_a_node_that_filled_up_has_left_out_too() {
        let now = Instant::now();
        let mut absence = Absence::new(moment(now, 1));
        absence.inherit([(id(3), 1), (id(9), 1)], moment(now, 1));
        absence.look(&[up(2), down(3)], PATIENCE, moment(now, 2));
        assert_eq!(absence.left_out().collect::<Vec<_>>(), [(id(3), 1)]);
        let later = now + 3 * HORIZON;
        absence.go_on(moment(later, 3));
        absence.inherit([], moment(later - 2 * HORIZON, 2));
        assert!(absence.is_outdated(PATIENCE, later), "as its source was");
    }
}
