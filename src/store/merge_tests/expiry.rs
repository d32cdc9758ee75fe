//! The same with deadlines that pass, on clocks that disagree, and with sweepers that leave tombstones.
//!
//! The invariant: what any replica holds at a version is what every other holds at it, but for the tombstone of a
//! sweeper, which stands at the version of a key whose deadline had passed by the sweeper's clock.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Kind, Named, Replica, Shape, Shown, Step, play, show, step};

/// Most steps of a history.
const STEPS_MAX: usize = 40;
/// Deadlines are set so far ahead at most, in milliseconds.
const AHEAD_MS_MAX: u8 = 40;
/// Later than any clock of a history, and than the deadlines that pass.
const OVER_MS: u64 = 2_000;

fn expiring_step(kind: Kind) -> BoxedStrategy<Step> {
    let expiry = prop_oneof![(1..AHEAD_MS_MAX).prop_map(Step::ExpireSoon), Just(Step::Sweep)];
    prop_oneof![5 => step(kind), 2 => expiry].boxed()
}

fn expiring_history() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let of_kind = |kind| prop::collection::vec((0usize..3, expiring_step(kind)), 1..STEPS_MAX);
    prop_oneof![of_kind(Kind::Register), of_kind(Kind::Hash), of_kind(Kind::Set)]
}

/// All that a version has seen, its own dot among it.
fn seen_by(shown: &Shown) -> BTreeSet<Named> {
    shown.seen.iter().copied().chain([shown.dot]).collect()
}

/// Plays a history, has the replicas meet, and looks whether the invariant held all the time.
fn check(history: &[(usize, Step)], skews: [u8; 3]) -> Result<(), TestCaseError> {
    let mut replicas = Replica::three(skews);
    let mut known: Vec<Shown> = Vec::new();
    let rounds = (0..4).flat_map(|_| [(0, 1), (1, 2), (2, 0), (2, 1), (1, 0), (0, 2)]);
    let meet = rounds.map(|(who, from)| (who, Step::Sync(from)));
    for (at, (who, step)) in history.iter().cloned().chain(meet).enumerate() {
        play(&mut replicas, at, who, &step);
        let latest_ms = replicas.iter().map(|replica| replica.now_ms(at)).max().unwrap_or_default();
        let replica = &replicas[who];
        let Some(state) = replica.state() else { continue };
        let shown = show(&state, &replica.store.actors);
        if state.has_expired {
            let holds_at_it = |other: &&Shown| seen_by(other) == seen_by(&shown) && other.content != Shape::Deleted;
            let has_passed = |other: &Shown| (1..=latest_ms).contains(&other.deadline_ms);
            prop_assert!(known.iter().filter(holds_at_it).all(has_passed), "{shown:?} among {known:?}");
            continue;
        }
        match known.iter().find(|other| seen_by(other) == seen_by(&shown)) {
            Some(other) => prop_assert_eq!(&shown, other),
            None => known.push(shown),
        }
    }
    // Who has met holds the same, but for sweeping: what is left is over by every clock.
    let visible = |replica: &Replica| {
        let shown = replica.shown()?;
        let is_over = shown.content == Shape::Deleted || (1..=OVER_MS).contains(&shown.deadline_ms);
        let content = if is_over { Shape::Deleted } else { shown.content.clone() };
        Some((seen_by(&shown), content))
    };
    prop_assert_eq!(visible(&replicas[0]), visible(&replicas[1]));
    prop_assert_eq!(visible(&replicas[1]), visible(&replicas[2]));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn equal_versions_mean_equal_contents_whoevers_deadline_has_passed(
        history in expiring_history(), skews: [u8; 3],
    ) {
        check(&history, skews)?;
    }
}

#[test]
fn a_deadline_beside_a_deletion_is_the_same_in_whatever_order_three_meet() {
    let history = [
        (0, Step::AddMember(2)),
        (2, Step::Sync(0)),
        (1, Step::Sync(0)),
        (2, Step::ExpireSoon(1)),
        (0, Step::AddMember(0)),
        (1, Step::RemoveMember(2)),
    ];
    check(&history, [0, 0, 2]).expect("one deadline at one version");
}
