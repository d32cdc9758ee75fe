//! Whole numbers as Redis reads them: the one spelling that Redis itself would print.
//!
//! No leading zero, plus sign, blank or `-0`: what is read as a number can be written back unchanged.

/// Longest text of an `i64`: a sign and 19 digits.
const TEXT_BYTES_MAX: usize = 20;

/// The number that `text` spells in canonical decimal; `None` for any other text and outside `i64`.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if text.len() <= TEXT_BYTES_MAX => {}
        _ => return None,
    }
    let mut value: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Built downwards, because only the negative side holds i64::MIN.
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

#[cfg(test)]
mod tests {
    use super::parse_i64;

    #[test]
    fn reads_what_it_would_print() {
        for number in [0, 1, -1, 9, 10, 1_048_576, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1] {
            assert_eq!(parse_i64(number.to_string().as_bytes()), Some(number));
        }
    }

    #[test]
    fn refuses_every_other_spelling() {
        let refused = ["", "-", "+1", "-0", "00", "01", "-01", " 1", "1 ", "1a", "a", "0x1", "1.0", "--1"];
        for text in refused {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
        }
        for text in ["9223372036854775808", "-9223372036854775809", "12345678901234567890123"] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
    }
}
