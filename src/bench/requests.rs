//! Writes the load's requests: GET and SET, encoded beforehand but for the key's digits and the value.
//!
//! Values are slices of one block of random bytes, starting at changing places: nothing that compresses or
//! deduplicates, at the price of a copy. One [`Encoder`] serves all connections of a thread; a [`Source`] is one
//! connection's own choice of operations and keys. Where writes are read back later, [`Notes`] gives each SET's value
//! its stamp.

use std::collections::VecDeque;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use super::keys::{DIGITS, Filler, KeySpace, Picker};
use super::ledger::{Ledger, STAMP_BYTES, stamp_of};
use super::options::Mix;
use super::topology::SlotMap;

/// How many different places a value may start at.
const VALUE_STARTS: usize = 64 * 1024;

/// The parts of the requests that never change.
#[derive(Debug)]
pub struct Encoder {
    space: Arc<KeySpace>,
    mix: Mix,
    get_head: Vec<u8>,
    set_head: Vec<u8>,
    /// Between key and value.
    set_middle: Vec<u8>,
    /// After the value.
    set_tail: Vec<u8>,
    values: Vec<u8>,
}

impl Encoder {
    /// An encoder for one thread.
    pub fn new(space: Arc<KeySpace>, mix: Mix, seed: u64) -> Encoder {
        let mut values = vec![0; VALUE_STARTS + mix.value_bytes];
        SmallRng::seed_from_u64(seed).fill_bytes(&mut values);
        let head = |args: usize, name: &str| {
            let key_bytes = space.prefix().len() + DIGITS;
            [format!("*{args}\r\n$3\r\n{name}\r\n${key_bytes}\r\n").as_bytes(), space.prefix()].concat()
        };
        let ttl = mix.ttl_seconds.map(|seconds| seconds.to_string());
        let expiry = ttl.as_ref().map(|ttl| format!("$2\r\nEX\r\n${}\r\n{ttl}\r\n", ttl.len())).unwrap_or_default();
        Encoder {
            get_head: head(2, "GET"),
            set_head: head(if ttl.is_some() { 5 } else { 3 }, "SET"),
            set_middle: format!("\r\n${}\r\n", mix.value_bytes).into_bytes(),
            set_tail: format!("\r\n{expiry}").into_bytes(),
            values,
            space,
            mix,
        }
    }

    fn push_get(&self, key: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.get_head);
        out.extend_from_slice(&self.space.digits(key));
        out.extend_from_slice(b"\r\n");
    }

    fn push_set(&self, key: u64, stamp: Option<[u8; STAMP_BYTES]>, rng: &mut SmallRng, out: &mut Vec<u8>) {
        let start = rng.random_range(0..VALUE_STARTS);
        out.extend_from_slice(&self.set_head);
        out.extend_from_slice(&self.space.digits(key));
        out.extend_from_slice(&self.set_middle);
        let value = self.values.get(start..start + self.mix.value_bytes).unwrap_or_default();
        let stamp = stamp.as_ref().map_or(&[][..], |stamp| stamp);
        out.extend_from_slice(stamp);
        out.extend_from_slice(value.get(stamp.len()..).unwrap_or_default());
        out.extend_from_slice(&self.set_tail);
    }
}

/// What a connection notes of the operations it sends, for reading them back.
#[derive(Debug)]
pub struct Notes<'a> {
    /// Of its thread.
    pub ledger: &'a mut Ledger,
    /// For each operation, in order, the number of its SET; 0 for a GET.
    pub sent: &'a mut VecDeque<u64>,
    /// When they are sent.
    pub now_ns: u64,
}

impl Notes<'_> {
    fn set(&mut self, key: u64) -> [u8; STAMP_BYTES] {
        let number = self.ledger.sent(key, self.now_ns);
        self.sent.push_back(number);
        stamp_of(number)
    }
}

/// One connection's operations. Both kinds are held to the keys of the node that the connection goes to, if any.
#[derive(Debug)]
pub enum Source {
    /// The mix, on keys drawn at random, for ever.
    Mix(Picker),
    /// A SET of each key, once.
    Fill {
        /// Deals the keys to all connections.
        filler: Arc<Filler>,
        /// The node this connection goes to.
        home: Option<(Arc<SlotMap>, u16)>,
        /// Chooses the values.
        rng: SmallRng,
        /// The keys of one batch.
        keys: Vec<u64>,
    },
}

impl Source {
    /// Appends up to `count` requests to `out` and returns how many; fewer only when there are no more. `notes` are
    /// taken of a mix, not of a fill.
    pub fn push(&mut self, encoder: &Encoder, count: usize, mut notes: Option<Notes<'_>>, out: &mut Vec<u8>) -> usize {
        match self {
            Source::Mix(picker) => {
                let Mix { gets, sets, .. } = encoder.mix;
                for _ in 0..count {
                    let key = picker.next_key();
                    let get = sets == 0 || (gets > 0 && picker.rng().random_range(0..gets + sets) < gets);
                    if get {
                        notes.iter_mut().for_each(|notes| notes.sent.push_back(0));
                        encoder.push_get(key, out);
                    } else {
                        let stamp = notes.as_mut().map(|notes| notes.set(key));
                        encoder.push_set(key, stamp, picker.rng(), out);
                    }
                }
                count
            }
            Source::Fill { filler, home, rng, keys } => {
                keys.clear();
                filler.take(home.as_ref(), count, keys);
                keys.iter().for_each(|key| encoder.push_set(*key, None, rng, out));
                keys.len()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(gets: u32, sets: u32, ttl_seconds: Option<u64>) -> Mix {
        Mix { gets, sets, value_bytes: 4, ttl_seconds }
    }

    #[test]
    fn requests_are_what_a_redis_client_sends() {
        let space = Arc::new(KeySpace::new("u:", 100));
        let (mut out, mut rng) = (Vec::new(), SmallRng::seed_from_u64(1));
        let encoder = Encoder::new(space.clone(), mix(1, 1, Some(1800)), 1);
        encoder.push_get(42, &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$14\r\nu:000000000042\r\n");
        out.clear();
        encoder.push_set(42, None, &mut rng, &mut out);
        let (head, tail) =
            (&b"*5\r\n$3\r\nSET\r\n$14\r\nu:000000000042\r\n$4\r\n"[..], &b"\r\n$2\r\nEX\r\n$4\r\n1800\r\n"[..]);
        assert!(out.starts_with(head) && out.ends_with(tail) && out.len() == head.len() + 4 + tail.len());
        out.clear();
        Encoder::new(space, mix(1, 1, None), 1).push_set(7, None, &mut rng, &mut out);
        let head = &b"*3\r\n$3\r\nSET\r\n$14\r\nu:000000000007\r\n$4\r\n"[..];
        assert!(out.starts_with(head) && out.ends_with(b"\r\n") && out.len() == head.len() + 4 + 2);
    }

    #[test]
    fn the_mix_keeps_its_ratio() {
        let space = Arc::new(KeySpace::new("k", 1_000));
        for (gets, sets, expected) in [(5, 1, 0.8333), (1, 0, 1.0), (0, 1, 0.0), (1, 9, 0.1)] {
            let encoder = Encoder::new(space.clone(), mix(gets, sets, None), 1);
            let mut source = Source::Mix(Picker::new(space.clone(), 0.0, 1, None));
            let mut out = Vec::new();
            assert_eq!(source.push(&encoder, 60_000, None, &mut out), 60_000);
            let got = out.windows(5).filter(|window| window == b"GET\r\n").count() as f64 / 60_000.0;
            assert!((got - expected).abs() < 0.01, "{gets}:{sets} gave {got}");
        }
    }

    #[test]
    fn writes_that_are_noted_carry_their_numbers() {
        let space = Arc::new(KeySpace::new("k", 3));
        let encoder = Encoder::new(space.clone(), Mix { value_bytes: 20, ..mix(1, 1, None) }, 1);
        let mut source = Source::Mix(Picker::new(space, 0.0, 1, None));
        let (mut ledger, mut sent, mut out) = (Ledger::new(0, 0), VecDeque::new(), Vec::new());
        let notes = Notes { ledger: &mut ledger, sent: &mut sent, now_ns: 5 };
        assert_eq!(source.push(&encoder, 100, Some(notes), &mut out), 100);
        let numbers: Vec<u64> = sent.iter().copied().filter(|number| *number > 0).collect();
        assert!(sent.len() == 100 && numbers.len() > 20 && numbers.is_sorted());
        for number in numbers {
            let value = [&b"$20\r\n"[..], &stamp_of(number)].concat();
            assert_eq!(out.windows(value.len()).filter(|window| *window == value).count(), 1);
        }
    }

    #[test]
    fn a_fill_ends_after_its_last_key() {
        let space = Arc::new(KeySpace::new("k", 10));
        let encoder = Encoder::new(space.clone(), mix(1, 1, None), 1);
        let (filler, rng) = (Arc::new(Filler::new(space)), SmallRng::seed_from_u64(1));
        let mut source = Source::Fill { filler, home: None, rng, keys: Vec::new() };
        let counts: Vec<_> = (0..3).map(|_| source.push(&encoder, 8, None, &mut Vec::new())).collect();
        assert_eq!(counts, [8, 2, 0]);
    }
}
