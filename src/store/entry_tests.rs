//! Tests of the entry's memory layout. They run under valgrind too (`scripts/test` does), which sees what `assert`
//! cannot.

use crate::base::clock::Hlc;
use crate::base::version::{Actor, Dot, Version};
use crate::store::counter::Counter;
use crate::store::entry::{Data, Entry, Meta, Payload};
use crate::store::size::size_class;
use crate::store::value::Value;

fn dot(actor: u16, at: u64) -> Dot {
    Dot { hlc: Hlc(at), actor: Actor(actor) }
}

fn string(entry: &Entry) -> &[u8] {
    match entry.data() {
        Data::String(bytes) => bytes,
        other => panic!("not a string: {other:?}"),
    }
}

#[test]
fn an_entry_gives_back_what_was_put_in() {
    let version = Version::first(dot(3, 7)).advanced(dot(4, 9)).advanced(dot(5, 11));
    let meta = Meta { deadline_ms: 99, created_s: 5, access: 6, flags: 1, rest: None };
    let entry = Entry::new(2, b"key", Payload::String(b"some value"), &version, meta);
    assert_eq!((entry.db(), entry.key(), string(&entry)), (2, &b"key"[..], &b"some value"[..]));
    assert_eq!(entry.version(), version);
    assert_eq!((entry.deadline_ms(), entry.meta().created_s, entry.access()), (99, 5, 6));
    assert!(entry.is_expired(99) && !entry.is_expired(98));
}

#[test]
fn a_string_knows_the_write_that_it_is_of_whatever_is_changed_beside_it() {
    let version = Version::first(dot(3, 7)).advanced(dot(4, 9));
    let mut entry = Entry::new(0, b"key", Payload::String(b"value"), &version, Meta::default());
    assert_eq!(entry.written(), dot(4, 9));
    assert!(!entry.move_dot(dot(4, 10), dot(4, 9)), "no room");
    let touched = version.advanced(dot(4, 10));
    entry.rebuild(&touched, entry.meta());
    assert_eq!((entry.version(), entry.written(), entry.context_is_empty()), (touched, dot(4, 9), false));
    assert!(entry.move_dot(dot(4, 11), dot(4, 9)) && entry.overwrite(b"other"));
    assert_eq!((entry.dot(), entry.written(), string(&entry)), (dot(4, 11), dot(4, 9), &b"other"[..]));
    entry.set_dot(dot(4, 12));
    assert_eq!((entry.dot(), entry.written(), entry.key()), (dot(4, 12), dot(4, 12), &b"key"[..]));
    let before = entry.memory_bytes();
    entry.rebuild(&Version::first(dot(4, 12)), entry.meta());
    assert!(entry.context_is_empty() && entry.memory_bytes() < before);
    let mut plain = Entry::new(0, b"key", Payload::String(b"v"), &Version::first(dot(0, 1)), Meta::default());
    plain.rebuild(&Version::first(dot(0, 2)), plain.meta());
    assert_eq!((plain.context_is_empty(), plain.written()), (true, dot(0, 1)));
}

#[test]
fn a_value_of_the_same_rounded_size_is_overwritten_in_place_and_no_other() {
    let version = Version::first(dot(0, 1));
    let mut entry = Entry::new(0, b"k", Payload::String(&[b'a'; 20]), &version, Meta::default());
    assert!(entry.overwrite(&[b'b'; 22]));
    assert_eq!(string(&entry), [b'b'; 22]);
    assert!(!entry.overwrite(b"b"), "a short value must not keep a long one's memory");
    assert!(!entry.overwrite(&[b'c'; 2000]));
    assert_eq!(string(&entry), [b'b'; 22]);
    entry.string_mut().expect("a string").fill(b'z');
    assert_eq!(string(&entry), [b'z'; 22]);
}

#[test]
fn a_large_string_grows_where_it_is_until_its_size_class_is_full() {
    let version = Version::first(dot(0, 1));
    let mut entry = Entry::new(0, b"k", Payload::String(&[b'a'; 5_000]), &version, Meta::default());
    let before = entry.memory_bytes();
    let mut len = 5_000;
    while entry.grow(len + 1) {
        len += 1;
    }
    assert_eq!((string(&entry).len(), entry.memory_bytes()), (len, before));
    assert!(len > 5_000 && len < 5_000 * 9 / 8 + 64, "{len}");
    assert!(string(&entry)[..5_000] == [b'a'; 5_000] && string(&entry)[5_000..].iter().all(|byte| *byte == 0));
    assert!(!entry.grow(4_000), "growing does not shrink");
}

#[test]
fn empty_and_large_parts_work() {
    let big = vec![7; 1 << 20];
    let version = Version::first(dot(0, 1));
    let entry = Entry::new(0, b"", Payload::String(&big), &version, Meta::default());
    assert_eq!((entry.key().len(), string(&entry).len()), (0, 1 << 20));
    assert!(Entry::new(0, b"", Payload::Tombstone, &version, Meta::default()).is_tombstone());
}

#[test]
fn a_boxed_value_moves_with_a_rebuild_and_is_dropped_once() {
    let version = Version::first(dot(0, 1));
    let counter = Value::Counter(Counter::on_base(5, version.dot));
    let mut entry = Entry::new(0, b"n", Payload::Value(Box::new(counter)), &version, Meta::default());
    assert!(!entry.overwrite(b"x") && entry.string_mut().is_none());
    entry.set_dot(dot(0, 2));
    let newer = entry.version().advanced(dot(1, 3));
    entry.rebuild(&newer, Meta { deadline_ms: 1, ..Meta::default() });
    assert_eq!(entry.version(), newer);
    match entry.value_mut() {
        Some(Value::Counter(counter)) => assert_eq!(counter.total(), 5),
        other => panic!("lost the value: {other:?}"),
    }
}

#[test]
fn the_benchmark_key_stays_within_one_size_class() {
    let entry = Entry::new(0, &[b'k'; 17], Payload::String(&[0; 100]), &Version::default(), Meta::default());
    assert_eq!(entry.memory_bytes(), 160);
    assert_eq!((size_class(0), size_class(1), size_class(9), size_class(40)), (0, 8, 16, 48));
    assert_eq!((size_class(65), size_class(113), size_class(129), size_class(2_100)), (80, 128, 160, 2_560));
}
