//! Redis's glob over bytes, as KEYS, SCAN MATCH, PSUBSCRIBE and CONFIG GET use it.
//!
//! `*` any bytes, `?` one byte, `[a-z]` and `[^a-z]` one byte of (or outside) a class, `\x` the byte x itself. The odd
//! corners are those of redis-server 7.0.15: a class that is never closed ends with the pattern, a range written
//! backwards is turned round, a range takes bytes from 0x80 on for less than all others, as C's `char` does on most
//! machines, an escaped byte inside a class keeps its case even when case is ignored.
//!
//! Redis's own matcher calls itself at every `*` and takes exponential time on patterns such as `*a*a*a*b`
//! (CVE-2022-36021, CVE-2024-31228). This one never recurses and never allocates: when a byte does not fit, only the
//! *last* star is asked to take one byte more, because an earlier star can gain nothing from it (any text that an
//! earlier star could give up, the later one can take as well). The time is at most pattern times text.

/// Most stars that Redis goes through before it gives up, the last sign of a pattern not counted.
const STARS_MAX: usize = 1_000;

/// Whether the whole of `text` fits `pattern`; ASCII letters in either case are equal when `nocase` is set.
pub fn matches(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    let (mut pattern_rest, mut text_rest) = (pattern, text);
    // What to go back to when a byte does not fit: the pattern behind the last star, and the text it began at.
    let mut retry: Option<(&[u8], &[u8])> = None;
    let mut stars = 0;
    loop {
        if let Some((&b'*', after)) = pattern_rest.split_first() {
            if after.is_empty() {
                return true;
            }
            // Stars side by side are one.
            stars += usize::from(after.first() != Some(&b'*'));
            if stars > STARS_MAX {
                return false;
            }
            retry = Some((after, text_rest));
            pattern_rest = after;
            continue;
        }
        let Some((&byte, text_after)) = text_rest.split_first() else {
            return pattern_rest.is_empty();
        };
        if let Some(pattern_after) = take_one(pattern_rest, byte, nocase) {
            (pattern_rest, text_rest) = (pattern_after, text_after);
            continue;
        }
        let Some((after_star, began)) = retry else { return false };
        let Some((_, began)) = began.split_first() else { return false };
        retry = Some((after_star, began));
        (pattern_rest, text_rest) = (after_star, began);
    }
}

/// What remains of `pattern` once its first element has matched `byte`; `None` when it does not match.
fn take_one(pattern: &[u8], byte: u8, nocase: bool) -> Option<&[u8]> {
    let (&first, rest) = pattern.split_first()?;
    match (first, rest.split_first()) {
        (b'?', _) => Some(rest),
        (b'[', _) => take_class(rest, byte, nocase),
        (b'\\', Some((&literal, after))) => same(literal, byte, nocase).then_some(after),
        _ => same(first, byte, nocase).then_some(rest),
    }
}

/// The same for a class, given the pattern behind its `[`.
fn take_class(class: &[u8], byte: u8, nocase: bool) -> Option<&[u8]> {
    let (negated, mut rest) = match class.split_first() {
        Some((b'^', after)) => (true, after),
        _ => (false, class),
    };
    let mut found = false;
    loop {
        rest = match *rest {
            [] => break,
            [b'\\', escaped, ref after @ ..] => {
                found |= escaped == byte;
                after
            }
            [b']', ref after @ ..] => {
                rest = after;
                break;
            }
            [from, b'-', to, ref after @ ..] => {
                let fold = |c: i8| if nocase { c.cast_unsigned().to_ascii_lowercase().cast_signed() } else { c };
                let (from, to) = (from.cast_signed(), to.cast_signed());
                let (low, high) = (from.min(to), from.max(to));
                found |= (fold(low)..=fold(high)).contains(&fold(byte.cast_signed()));
                after
            }
            [single, ref after @ ..] => {
                found |= same(single, byte, nocase);
                after
            }
        };
    }
    (found != negated).then_some(rest)
}

fn same(a: u8, b: u8, nocase: bool) -> bool {
    a == b || (nocase && a.eq_ignore_ascii_case(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_element_means_what_redis_says() {
        let cases: [(&str, &str, bool); 22] = [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[b-a]llo", "hbllo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("[abc", "c", true),
            ("[^", "x", true),
            ("[", "[", false),
            ("[]a]", "]", false),
            ("[\\]]", "]", true),
            ("a\\", "a\\", true),
            ("**a", "ba", true),
            ("a*", "a", true),
            ("*a", "", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), false), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn ranges_compare_bytes_as_signed_numbers() {
        // -128 to 97: all but what is above 'a'.
        for (byte, expected) in [(b'\x80', true), (b'\xff', true), (b'A', true), (b'a', true), (b'b', false)] {
            assert_eq!(matches(b"[a-\x80]", &[byte], false), expected, "{byte}");
        }
        assert!(matches(b"[\x80-\xff]", b"\xc0", false) && !matches(b"[\x80-\xc0]", b"\xc1", false));
    }

    #[test]
    fn case_is_ignored_only_on_request() {
        assert!(matches(b"MAX*", b"maxmemory", true));
        assert!(!matches(b"MAX*", b"maxmemory", false));
        assert!(matches(b"[A-C]x", b"bX", true));
        assert!(!matches(b"[\\B]", b"b", true));
    }

    #[test]
    fn patterns_that_explode_in_a_recursive_matcher_are_cheap_here() {
        let text = "a".repeat(50_000);
        let pattern = "*a".repeat(200) + "b";
        assert!(!matches(pattern.as_bytes(), text.as_bytes(), false));
    }
}
