//! Deadlines that are moved on one side while the other writes: which value stays, and until when.

use super::{DEADLINE_MS, Replica, Shape, Step, partitioned, play};

#[test]
fn a_deadline_that_is_moved_brings_no_older_string_back() {
    use Step::{Add, Assign, Delete, Expire, Patch};
    let text = |text: &[u8]| Shape::Text(text.to_vec());
    for touches in [&[Expire(1)][..], &[Expire(1), Expire(2), Expire(3)]] {
        assert_eq!(partitioned(&[Assign(1)], &[Assign(2)], touches), text(b"2"));
        assert_eq!(partitioned(&[Assign(1), Expire(0)], &[Assign(2), Expire(7)], touches), text(b"2"));
        assert_eq!(partitioned(&[Assign(1)], &[Delete], touches), Shape::Deleted);
        let sum = partitioned(&[Assign(1), Expire(0)], &[Add(4)], touches);
        assert!(matches!(&sum, Shape::Sum(1, _, addends) if addends.len() == 1), "{sum:?}");
    }
    assert_eq!(partitioned(&[Assign(1)], &[Assign(2)], &[Expire(1), Patch(0)]), text(b"7"), "written later");
    assert_eq!(partitioned(&[Assign(1)], &[Expire(1)], &[Expire(2)]), text(b"1"));
}

#[test]
fn of_two_deadlines_of_one_string_the_later_given_holds() {
    let mut replicas = Replica::three([0, 3, 0]);
    let steps = [(0, Step::Assign(1)), (1, Step::Sync(0)), (1, Step::Expire(9)), (0, Step::Expire(4))];
    for (at, (who, step)) in steps.iter().enumerate() {
        play(&mut replicas, at, *who, step);
    }
    for (who, from) in [(0, 1), (1, 0)] {
        play(&mut replicas, 10, who, &Step::Sync(from));
        let shown = replicas[who].shown().expect("a state");
        assert_eq!(shown.deadline_ms, DEADLINE_MS + 9, "the second clock is three steps ahead");
        assert_eq!(shown.rest.map(|(_, node)| node), Some(1));
    }
}

#[test]
fn a_deadline_is_lost_to_no_other_change_of_a_collection_or_a_number() {
    let deadline_after = |before: &[Step], left: &[Step], right: &[Step]| {
        let mut replicas = Replica::three([0, 3, 0]);
        let mut at = 0;
        for (who, steps) in [(0, before), (1, &[Step::Sync(0)]), (0, left), (1, right)] {
            for step in steps {
                at += 1;
                play(&mut replicas, at, who, step);
            }
        }
        for (who, from) in [(0, 1), (1, 0)] {
            play(&mut replicas, 90, who, &Step::Sync(from));
        }
        assert_eq!(replicas[0].shown(), replicas[1].shown());
        replicas[0].shown().expect("a state").deadline_ms
    };
    use Step::{Add, AddMember, Assign, Delete, Expire, Put};
    let ahead = |ms: u8| DEADLINE_MS + u64::from(ms);
    for change in [Add(1), Put(1, 1), AddMember(1)] {
        let change = std::slice::from_ref(&change);
        assert_eq!(deadline_after(change, &[Expire(5)], change), ahead(5), "{change:?}");
        assert_eq!(deadline_after(change, change, &[Expire(5)]), ahead(5), "{change:?}");
        let dated = [change, &[Expire(1)]].concat();
        assert_eq!(deadline_after(&dated, &[Expire(5)], change), ahead(5), "{change:?}");
        assert_eq!(deadline_after(&dated, change, change), ahead(1), "{change:?}");
        assert_eq!(deadline_after(change, &[Expire(5)], &[Expire(3)]), ahead(3), "{change:?}: given later");
    }
    // What has begun anew on one side does not get what was given before.
    let anew = [Delete, AddMember(3)];
    assert_eq!(deadline_after(&[AddMember(0), Expire(1)], &[AddMember(2)], &anew), 0);
    assert_eq!(deadline_after(&[Add(1), Expire(1)], &[Add(2)], &[Assign(7), Add(1)]), 0);
}

/// Additions of two coordinators outlive a deletion of the third; one of them has given a deadline since. What a merge
/// with the deletion makes of that depends on who meets whom first.
#[test]
fn a_deadline_of_what_outlives_a_deletion_holds_whoever_meet_first() {
    let meetings = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
    for first in meetings {
        for second in meetings {
            let mut replicas = Replica::three([0, 0, 0]);
            let before = [(0, Step::Assign(1)), (1, Step::Sync(0)), (2, Step::Sync(0)), (1, Step::Delete)];
            let apart = [(0, Step::Add(1)), (2, Step::Add(2)), (2, Step::Expire(5)), (0, Step::Add(4))];
            let met = [first, second].into_iter().chain(meetings).chain(meetings);
            let met = met.map(|(who, from)| (who, Step::Sync(from)));
            for (at, (who, step)) in before.into_iter().chain(apart).chain(met).enumerate() {
                play(&mut replicas, at, who, &step);
            }
            let shown = replicas[0].shown().expect("a state");
            assert!((1..3).all(|who| replicas[who].shown().as_ref() == Some(&shown)), "{first:?} {second:?}");
            let Shape::Sum(base, _, addends) = &shown.content else { panic!("{shown:?}") };
            assert_eq!(base + addends.iter().map(|(_, sum)| sum).sum::<i64>(), 7, "{first:?} {second:?}");
            assert_eq!(shown.deadline_ms, DEADLINE_MS + 5, "{first:?} {second:?}");
        }
    }
}
