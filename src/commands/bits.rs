//! Bits of byte strings, counted, found and combined. Bit 0 is the highest of the first byte.
//!
//! A range of bits is its first and its last byte, with what lies outside the range blotted out, and the whole bytes
//! between, which are taken by the word. Ranges may not reach beyond the bytes; of one that does there is nothing.

use std::ops::Range;

const WORD_BYTES: usize = size_of::<u64>();

/// How many bits of a range are 1.
pub fn count(bytes: &[u8], bits: Range<usize>) -> u64 {
    let Some(cut) = Cut::of(bytes, &bits, false) else { return 0 };
    let (words, rest) = cut.middle.as_chunks::<WORD_BYTES>();
    let words: u64 = words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum();
    let edges = [cut.first, cut.last.unwrap_or(0)];
    words + edges.iter().chain(rest).map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// The position of the first bit of a range that is `wanted`.
pub fn first(bytes: &[u8], bits: Range<usize>, wanted: bool) -> Option<usize> {
    let cut = Cut::of(bytes, &bits, !wanted)?;
    let without = if wanted { 0 } else { 0xff };
    let (behind, byte) = if cut.first != without {
        (0, cut.first)
    } else if let Some((at, byte)) = first_other(cut.middle, without) {
        (1 + at, byte)
    } else {
        (1 + cut.middle.len(), cut.last.filter(|byte| *byte != without)?)
    };
    Some((bits.start / 8 + behind) * 8 + (byte ^ without).leading_zeros() as usize)
}

/// Makes each byte what `operation` makes of it and the other's, as many as the longer of the two has; missing ones are
/// 0.
pub fn combine(bytes: &mut Vec<u8>, other: &[u8], operation: impl Fn(u8, u8) -> u8) {
    bytes.resize(bytes.len().max(other.len()), 0);
    // Two plain loops are what the compiler makes instructions on many bytes of.
    bytes.iter_mut().zip(other).for_each(|(byte, other)| *byte = operation(*byte, *other));
    bytes.iter_mut().skip(other.len()).for_each(|byte| *byte = operation(*byte, 0));
}

/// The bytes of a range.
struct Cut<'b> {
    first: u8,
    middle: &'b [u8],
    /// Unless it is the first.
    last: Option<u8>,
}

impl<'b> Cut<'b> {
    /// The bytes in which these bits are, with every other bit made `fill`; `None` for no bits.
    fn of(bytes: &'b [u8], bits: &Range<usize>, fill: bool) -> Option<Cut<'b>> {
        let bytes = bytes.get(bits.start / 8..bits.end.div_ceil(8)).filter(|_| !bits.is_empty())?;
        let before = !(0xff >> (bits.start % 8));
        let behind = if bits.end.is_multiple_of(8) { 0 } else { 0xff >> (bits.end % 8) };
        let blotted = |byte: u8, outside: u8| if fill { byte | outside } else { byte & !outside };
        let (first, rest) = bytes.split_first()?;
        Some(match rest.split_last() {
            None => Cut { first: blotted(*first, before | behind), middle: rest, last: None },
            Some((last, middle)) => Cut { first: blotted(*first, before), middle, last: Some(blotted(*last, behind)) },
        })
    }
}

/// The first byte that is another than `known`, and its place.
fn first_other(bytes: &[u8], known: u8) -> Option<(usize, u8)> {
    let (words, _) = bytes.as_chunks::<WORD_BYTES>();
    let skipped = words.iter().take_while(|word| **word == [known; WORD_BYTES]).count() * WORD_BYTES;
    bytes.iter().copied().enumerate().skip(skipped).find(|(_, byte)| *byte != known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bit(bytes: &[u8], at: usize) -> bool {
        bytes[at / 8] >> (7 - at % 8) & 1 != 0
    }

    proptest! {
        #[test]
        fn a_range_is_what_it_is_bit_by_bit(
            edge in prop::collection::vec(any::<u8>(), 0..20), same in 0usize..40, of: bool, start: usize, len: usize, wanted: bool,
        ) {
            let mut bytes = vec![if of { 0xff } else { 0 }; same];
            bytes.extend(edge);
            let start = start % (bytes.len() * 8 + 1);
            let end = start + len % (bytes.len() * 8 - start + 1);
            let ones = (start..end).filter(|at| bit(&bytes, *at)).count() as u64;
            prop_assert_eq!(count(&bytes, start..end), ones);
            prop_assert_eq!(first(&bytes, start..end, wanted), (start..end).find(|at| bit(&bytes, *at) == wanted));
        }

        #[test]
        fn what_is_missing_is_zero(a: Vec<u8>, b: Vec<u8>) {
            let mut combined = a.clone();
            combine(&mut combined, &b, |a, b| a ^ !b);
            let at = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or(0);
            let wanted: Vec<u8> = (0..a.len().max(b.len())).map(|n| at(&a, n) ^ !at(&b, n)).collect();
            prop_assert_eq!(combined, wanted);
        }
    }

    #[test]
    fn beyond_the_end_there_is_nothing() {
        assert_eq!((count(&[0xff], 4..9), first(&[0xff], 4..9, true)), (0, None));
    }
}
