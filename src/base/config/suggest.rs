//! "Did you mean": the known name nearest to a mistyped one.
//!
//! Distance is Damerau's restricted edit distance (optimal string alignment): insertions, deletions, changes and swaps
//! of neighbours cost one each. A name further away than a third of its length is no suggestion but a guess.

/// The name in `known` that `word` most probably meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let scored = known.into_iter().map(|name| (distance(word.as_bytes(), name.as_bytes()), name));
    let (distance, name) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= word.len().max(name.len()).div_ceil(3)).then_some(name)
}

fn distance(a: &[u8], b: &[u8]) -> usize {
    // Three rows of the usual matrix are enough; row i holds the distances of a[..i] to every b[..j].
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, &y) in b.iter().enumerate() {
            let change = last[j] + usize::from(x != y);
            row[j + 1] = change.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_the_usual_ones() {
        let cases = [("", "abc", 3), ("kitten", "sitting", 3), ("prot", "port", 1), ("same", "same", 0)];
        for (a, b, expected) in cases {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let known = ["maxmemory", "maxmemory-policy", "port"];
        assert_eq!(nearest("MaxMemroy", known), Some("maxmemory"));
        assert_eq!(nearest("prot", known), Some("port"));
        assert_eq!(nearest("colour", known), None);
    }
}
