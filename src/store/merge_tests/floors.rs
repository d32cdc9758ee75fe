//! The same with nodes that live again and again, and with writes that are known to be stable: versions then say a
//! floor instead of naming what is below it, and nothing else may come out differently.

use proptest::prelude::*;

use super::{KEY, Kind, Replica, Shape, Step, play, step};
use crate::base::clock::Hlc;
use crate::base::ids::ActorId;
use crate::base::ids::slot_of;
use crate::base::version::{ActorTable, Relation, Version};
use crate::base::wire::Reader;
use crate::store::state::State;

/// Most moves of a history.
const MOVES_MAX: usize = 60;
/// Clocks differ by less.
const SKEW_MS: u8 = 4;

#[derive(Clone, Debug)]
enum Move {
    Do(usize, Step),
    /// A node begins its next life, with what it held.
    LiveAgain(usize),
    /// All take in what all hold, and learn up to where that is everything.
    Agree,
}

fn history() -> impl Strategy<Value = Vec<Move>> {
    let of_kind = |kind| {
        let next = prop_oneof![
            8 => (0usize..3, step(kind)).prop_map(|(who, step)| Move::Do(who, step)),
            3 => (0usize..3).prop_map(Move::LiveAgain),
            1 => Just(Move::Agree),
        ];
        prop::collection::vec(next, 1..MOVES_MAX)
    };
    prop_oneof![of_kind(Kind::Register), of_kind(Kind::Hash), of_kind(Kind::Set)]
}

fn meet(replicas: &mut [Replica; 3]) {
    for (who, from) in (0..2).flat_map(|_| [(0, 1), (1, 2), (2, 0), (2, 1), (1, 0), (0, 2)]) {
        let sent = replicas[from].sent();
        replicas[who].receive(sent);
    }
}

fn run(replicas: &mut [Replica; 3], at: usize, next: &Move, floors: bool) {
    match next {
        Move::Do(who, step) => play(replicas, at, *who, step),
        Move::LiveAgain(who) => replicas[*who].live_again(),
        Move::Agree => {
            meet(replicas);
            // Whoever writes from now on does so at a later stamp, whatever its clock says.
            let stable = Hlc::at_ms(replicas.iter().map(|replica| replica.now_ms(at)).min().unwrap_or_default());
            for replica in replicas.iter().filter(|_| floors) {
                replica.store.table(slot_of(KEY)).note_stable(stable);
            }
        }
    }
}

/// What clients can see of a replica.
fn visible(replica: &Replica) -> Option<(u64, String)> {
    let shown = replica.shown()?;
    let content = match shown.content {
        Shape::Deleted => "deleted".to_owned(),
        Shape::Text(text) => format!("{text:?}"),
        Shape::Sum(base, _, addends) => (base + addends.iter().map(|(_, sum)| sum).sum::<i64>()).to_string(),
        Shape::Elements(elements) => {
            format!("{:?}", elements.into_iter().map(|(name, (text, _))| (name, text)).collect::<Vec<_>>())
        }
    };
    Some((shown.deadline_ms, content))
}

/// The versions of all replicas, in one table's short forms.
fn versions(replicas: &[Replica; 3]) -> Vec<Option<Version>> {
    let actors = ActorTable::new(ActorId { node: 9, generation: 1 });
    let read = |sent: Vec<u8>| State::decode(&mut Reader::new(&sent), &actors).expect("a state").version;
    replicas.iter().map(|replica| replica.sent().map(read)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn floors_change_nothing_but_the_length_of_versions(history in history(), skews in [0..SKEW_MS, 0..SKEW_MS, 0..SKEW_MS]) {
        let (mut floored, mut named) = (Replica::three(skews), Replica::three(skews));
        for (at, next) in history.iter().enumerate() {
            run(&mut floored, at, next, true);
            run(&mut named, at, next, false);
            for who in 0..3 {
                prop_assert_eq!(visible(&floored[who]), visible(&named[who]), "replica {} after {} moves", who, at + 1);
            }
            let (short, long) = (versions(&floored), versions(&named));
            for (one, other) in (0..3).flat_map(|one| (0..3).map(move |other| (one, other))) {
                let relation = |versions: &[Option<Version>]| {
                    versions[one].as_ref().zip(versions[other].as_ref()).map(|(one, other)| one.relation(other))
                };
                prop_assert_eq!(relation(&short), relation(&long), "{:?} instead of {:?}", short, long);
                if relation(&short) == Some(Relation::Equal) {
                    prop_assert_eq!(&short[one], &short[other]);
                }
            }
        }
        meet(&mut floored);
        let after = versions(&floored);
        prop_assert!(after.iter().all(|version| *version == after[0]), "{after:?}");
    }
}

#[test]
fn a_version_stays_short_however_often_nodes_live() {
    let mut replicas = Replica::three([0, 0, 0]);
    let mut at = 0;
    let mut go = |replicas: &mut [Replica; 3], next: Move| {
        at += 1;
        run(replicas, at, &next, true);
    };
    for life in 0..300 {
        go(&mut replicas, Move::Do(life % 3, Step::AddMember((life % 5) as u8)));
        go(&mut replicas, Move::Agree);
        go(&mut replicas, Move::LiveAgain(life % 3));
    }
    let longest = versions(&replicas).into_iter().flatten().map(|version| version.context.len()).max();
    assert!(longest.is_some_and(|dots| dots <= 2), "{longest:?}");
}

/// Where dots were just left out, a replica that had missed that write brought the member back.
#[test]
fn what_was_removed_under_a_floor_does_not_come_back_from_who_has_missed_that() {
    let mut replicas = Replica::three([0, 0, 0]);
    let mut at = 0;
    let mut go = |replicas: &mut [Replica; 3], moves: &[Move]| {
        for next in moves {
            at += 1;
            run(replicas, at, next, true);
        }
    };
    for who in [0, 1, 2, 0] {
        go(&mut replicas, &[Move::Do(who, Step::AddMember(who as u8)), Move::Agree, Move::LiveAgain(who)]);
    }
    go(&mut replicas, &[Move::Agree, Move::Do(0, Step::RemoveMember(1)), Move::Do(2, Step::AddMember(7))]);
    let removed = versions(&replicas)[0].clone().expect("a version");
    assert!(removed.floor() > Hlc(0) && removed.context.len() == 1, "{removed:?}");
    meet(&mut replicas);
    assert_eq!(visible(&replicas[0]).map(|(_, content)| content.contains("49")), Some(false));
    assert!(
        visible(&replicas[1]).is_some_and(|(_, content)| content.contains("55")),
        "what was added meanwhile is there"
    );
}
