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
        assert_eq!(shown.written.map(|(_, node)| node), Some(1));
    }
}
