//! The promises of `placement`, over random members, and the published vectors.

use super::*;
use crate::base::ids::{NodeId, SLOT_COUNT, Slot};
use proptest::prelude::*;
use std::fmt::Write;

/// What a load may be off by, as a fraction of what is due, and the slot that rounding costs.
const SPREAD_MAX: f64 = 0.10;
const ROUNDING_SLOTS: f64 = 1.0;
/// What a newcomer may move, as a multiple of what it, or an average member, is due.
const MOVED_MAX: f64 = 1.2;

fn member(zone: &str, weight: f64, id: [u8; 20]) -> Member {
    Member { id: NodeId::from_bytes(id), zone: zone.to_string(), weight }
}

/// 3 to 30 members with weights from 1/2 to 2, on `zones` zones by chance.
fn members(zones: std::ops::RangeInclusive<u8>) -> impl Strategy<Value = Vec<Member>> {
    let one = move |zones: u8| {
        (any::<[u8; 20]>(), 0..zones, 0.5..=2.0).prop_map(|(id, zone, weight)| member(&format!("z{zone}"), weight, id))
    };
    (zones, 3usize..=30).prop_flat_map(move |(zones, len)| prop::collection::vec(one(zones), len))
}

/// Copies and first places of each member, in slots.
fn loads(ring: &Ring) -> (Vec<f64>, Vec<f64>) {
    let (mut copies, mut firsts) = (vec![0.0; ring.members().len()], vec![0.0; ring.members().len()]);
    for slot in Slot::all() {
        for &index in ring.homes(slot) {
            copies[usize::from(index)] += 1.0;
        }
        firsts[usize::from(ring.homes(slot)[0])] += 1.0;
    }
    (copies, firsts)
}

fn assert_spread(ring: &Ring) -> Result<(), TestCaseError> {
    let due = ring.due();
    let (copies, firsts) = loads(ring);
    for (due, load) in due.copies.iter().chain(&due.firsts).zip(copies.iter().chain(&firsts)) {
        prop_assert!((load - due).abs() <= SPREAD_MAX * due + ROUNDING_SLOTS, "{load} slots where {due} are due");
    }
    Ok(())
}

/// Copies that some node must fetch.
fn moved(old: &Ring, new: &Ring) -> f64 {
    let id = |ring: &Ring, index: u16| ring.members()[usize::from(index)].id;
    let is_new = |slot, id: NodeId| old.index_of(&id).is_none_or(|index| !old.homes(slot).contains(&index));
    let gained = |slot| new.homes(slot).iter().filter(|index| is_new(slot, id(new, **index))).count();
    Slot::all().map(gained).sum::<usize>() as f64
}

fn assert_little_moves(members: &[Member], newcomer: &Member, replicas: usize) -> Result<(), TestCaseError> {
    let old = Ring::build(members, replicas);
    let new = Ring::build(&[members, std::slice::from_ref(newcomer)].concat(), replicas);
    let due = new.due().copies[usize::from(new.index_of(&newcomer.id).unwrap())];
    let average = (replicas.min(new.members().len()) * SLOT_COUNT) as f64 / new.members().len() as f64;
    let moved = moved(&old, &new);
    prop_assert!(moved <= MOVED_MAX * due.max(average), "{moved} copies moved where {due} are due");
    Ok(())
}

/// A ring takes a while to build without optimisation: few cases here, as many as `PROPTEST_CASES` says elsewhere.
fn few_cases() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").is_ok();
    if asked { ProptestConfig::default() } else { ProptestConfig::with_cases(12) }
}

proptest! {
    #![proptest_config(few_cases())]

    #[test]
    fn every_load_is_within_a_tenth_of_its_due(members in members(1..=6), replicas in 1usize..=5) {
        assert_spread(&Ring::build(&members, replicas))?;
    }

    #[test]
    fn lists_name_everyone_once_and_zones_in_rounds(members in members(1..=6), replicas in 1usize..=5) {
        let ring = Ring::build(&members, replicas);
        let zone = |index: &u16| ring.members()[usize::from(*index)].zone.clone();
        let zones: std::collections::BTreeSet<String> = members.iter().map(|member| member.zone.clone()).collect();
        for slot in Slot::all() {
            let mut list = ring.preference(slot).to_vec();
            let used: std::collections::BTreeSet<String> = ring.homes(slot).iter().map(zone).collect();
            prop_assert_eq!(used.len(), ring.homes(slot).len().min(zones.len()));
            list.sort_unstable();
            prop_assert!(list.into_iter().eq(0..members.len() as u16));
        }
    }

    #[test]
    fn a_newcomer_moves_little_more_than_its_due(
        members in members(1..=1), id in any::<[u8; 20]>(), weight in 0.5..=2.0, replicas in 1usize..=5,
    ) {
        assert_little_moves(&members, &member("z0", weight, id), replicas)?;
    }

    #[test]
    fn among_equals_a_newcomer_moves_its_part_of_the_copies(ids in prop::collection::vec(any::<[u8; 20]>(), 4..=31)) {
        let equals: Vec<Member> = ids.iter().map(|&id| member("", 1.0, id)).collect();
        let (newcomer, members) = equals.split_last().unwrap();
        assert_little_moves(members, newcomer, 3)?;
        let due = Ring::build(&equals, 3).due().copies[0];
        // So this is 1.2/(n + 1) of all copies.
        prop_assert!((due - (3 * SLOT_COUNT) as f64 / equals.len() as f64).abs() < 0.001);
    }

    #[test]
    fn the_order_of_members_means_nothing(members in members(1..=3).prop_flat_map(|m| (Just(m.clone()), Just(m).prop_shuffle()))) {
        let (sorted, shuffled) = members;
        prop_assert_eq!(Ring::build(&sorted, 3), Ring::build(&shuffled, 3));
    }
}

#[test]
fn few_members_none_and_too_many_replicas_are_rings_too() {
    let alone = Ring::build(&[member("", f64::NAN, [7; 20])], 3);
    assert!(Slot::all().all(|slot| alone.homes(slot) == [0]));
    let nobody = Ring::build(&[], 0);
    assert!(Slot::all().all(|slot| nobody.preference(slot).is_empty()));
    let many: Vec<Member> = (0..40).map(|i| member("", 1.0, [i; 20])).collect();
    let widest = Ring::build(&many, usize::MAX);
    assert!(Slot::all().all(|slot| widest.homes(slot).len() == REPLICAS_MAX));
    assert_eq!((nobody.replicas(), nobody.index_of(&NodeId::from_bytes([7; 20]))), (1, None));
}

#[test]
fn a_member_with_all_the_weight_is_bounded_by_one_copy_of_each_slot() {
    let heavy: Vec<Member> = (0..5).map(|i| member("", if i == 0 { 1e300 } else { -1.0 }, [i; 20])).collect();
    let ring = Ring::build(&heavy, 3);
    let (copies, firsts) = loads(&ring);
    assert!(copies[0] > 0.9 * SLOT_COUNT as f64 && firsts[0] > 0.9 * SLOT_COUNT as f64);
    assert_eq!(copies.iter().sum::<f64>(), (3 * SLOT_COUNT) as f64);
}

/// The published vectors: any change of them is a new [`ALGORITHM_VERSION`] and a migration.
const VECTORS: &str = include_str!("vectors.txt");

#[test]
fn published_vectors_hold() {
    let now = vectors();
    let changed = now.lines().zip(VECTORS.lines()).find(|(now, published)| now != published);
    assert_eq!(changed, None, "(now, published)");
    assert_eq!(now.len(), VECTORS.len());
}

/// The vectors of this build, in the form of `vectors.txt`.
fn vectors() -> String {
    let id = |i: u8| std::array::from_fn(|byte| i.wrapping_mul(37).wrapping_add(byte as u8 * 11));
    let flat = |len: u8| (0..len).map(|i| member("", 1.0, id(i))).collect::<Vec<_>>();
    let zoned = |len: u8, zones: u8| {
        let one = |i: u8| member(&format!("z{}", i % zones), [1.0, 0.5, 2.0, 1.5][usize::from(i % 4)], id(i));
        (0..len).map(one).collect::<Vec<_>>()
    };
    let sets = [(flat(1), 3), (flat(3), 3), (flat(5), 3), (zoned(7, 3), 3), (zoned(12, 2), 3), (zoned(30, 5), 2)];
    let mut text = format!(
        "# Preference lists of algorithm {ALGORITHM_VERSION}. Members by ascending id; lists are their indexes.\n"
    );
    for (members, replicas) in sets {
        let ring = Ring::build(&members, replicas);
        writeln!(text, "\nring replicas={replicas} digest={:016x} lists={:016x}", ring.digest(), list_hash(&ring))
            .unwrap();
        for member in ring.members() {
            writeln!(text, "member {} zone={:?} weight={}", member.id, member.zone, member.weight).unwrap();
        }
        for slot in Slot::all().step_by(1_489) {
            writeln!(text, "slot {slot} {:?}", ring.preference(slot)).unwrap();
        }
    }
    text
}

/// A hash of every list, so that the few printed slots stand for all.
fn list_hash(ring: &Ring) -> u64 {
    let bytes: Vec<u8> = Slot::all().flat_map(|slot| ring.preference(slot)).flat_map(|i| i.to_le_bytes()).collect();
    xxhash_rust::xxh3::xxh3_64(&bytes)
}
