//! Whole numbers as Redis reads them: the one spelling that Redis itself would print.
//!
//! No leading zero, plus sign, blank or `-0`: what is read as a number can be written back unchanged. Requests and
//! replies announce most of their lengths with a few digits; [`short_header`] reads those quickly and leaves everything
//! else, wrong or merely unusual, to the long way.

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

/// Reads `marker`, one to four digits and a line end at `at`: the number, and the offset behind the line. `None` for
/// anything that is less usual, also for fewer than eight bytes.
#[inline(always)]
pub(super) fn short_header(buf: &[u8], at: usize, marker: u8) -> Option<(usize, usize)> {
    let head: &[u8; 8] = buf.get(at..)?.first_chunk()?;
    let first = usize::from(head[1].wrapping_sub(b'0'));
    if head[0] != marker || first > 9 {
        return None;
    }
    if head[2..4] == *b"\r\n" {
        return Some((first, at + 4));
    }
    let mut value = first;
    if first == 0 {
        return None;
    }
    for width in 2..5 {
        let digit = usize::from(head[width].wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        value = value * 10 + digit;
        if head[width + 1..width + 3] == *b"\r\n" {
            return Some((value, at + width + 3));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{parse_i64, short_header};

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

    #[test]
    fn short_headers_end_behind_their_line() {
        assert_eq!(short_header(b"$0\r\n\r\n..", 0, b'$'), Some((0, 4)));
        assert_eq!(short_header(b"..$7\r\nabcd", 2, b'$'), Some((7, 6)));
        assert_eq!(short_header(b"*10\r\n$3\r\n", 0, b'*'), Some((10, 5)));
        assert_eq!(short_header(b"$999\r\nab", 0, b'$'), Some((999, 6)));
        assert_eq!(short_header(b"$2048\r\na", 0, b'$'), Some((2048, 7)));
    }

    #[test]
    fn everything_else_is_left_to_the_long_way() {
        let left = [
            "$1\r\nab\r",
            "*1\r\nab\r\n",
            "$12345\r\n",
            "$01\r\nab\r\n",
            "$-1\r\nabc",
            "$x\r\nabcd",
            "$1x\r\nabc",
            "$1\rXabcd",
        ];
        for bytes in left {
            assert_eq!(short_header(bytes.as_bytes(), 0, b'$'), None, "{bytes:?}");
        }
        assert_eq!(short_header(b"$1\r\nab\r\n", 9, b'$'), None);
    }
}
