//! Where to look for some entry of a table at random.
//!
//! The first of the places drawn here that is taken is every entry with the same chance, because each place is drawn
//! independently of what lies beside it. To walk from one drawn place to the next taken one would favour entries that
//! stand behind gaps. In a table that is nearly empty luck may run out; then all places follow in turn, so that an
//! entry is found wherever there is one.

/// How often luck is tried: in tables of which a sixteenth is taken, which is about the emptiest that are left so, it
/// runs out once in some thousand times.
const DRAWS_MAX: usize = 128;

/// The places to look at in a table of so many, chosen by the random number `draw`; every place is among them. No table
/// has more than 2^32 places.
#[inline]
pub(super) fn draws(draw: u64, places: usize) -> impl Iterator<Item = usize> {
    let mut state = draw;
    let drawn = (0..DRAWS_MAX).map(move |_| {
        // The high half of a linear congruential generator (Knuth, The Art of Computer Programming, volume 2, 3.3.4).
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((state >> 32) * places as u64) >> 32) as usize
    });
    drawn.chain(0..places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_found_with_the_same_chance_wherever_it_stands() {
        const DRAWS: usize = 20_000;
        for (places, taken) in [(16, &[0, 1, 2, 3, 4, 9, 15][..]), (64, &[7, 8, 9, 40]), (7, &[0, 6]), (1, &[0])] {
            let mut found = vec![0; places];
            let mut seed = 88_172_645_463_325_252_u64;
            for _ in 0..DRAWS {
                // Xorshift64 (Marsaglia 2003).
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let place = draws(seed, places).find(|place| taken.contains(place)).expect("one is taken");
                found[place] += 1;
            }
            let fair = DRAWS as f64 / taken.len() as f64;
            let chi_square: f64 = taken.iter().map(|place| (f64::from(found[*place]) - fair).powi(2) / fair).sum();
            assert!(chi_square < 30.0, "{places} places, {taken:?}: {chi_square}");
        }
    }

    #[test]
    fn a_lone_entry_of_a_large_table_is_found() {
        assert!((0..50).all(|draw| draws(draw, 1 << 12).any(|place| place == 999)));
    }
}
