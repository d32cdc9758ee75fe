//! Words of a line, as a person types them: inline requests, lines of redis.conf, values of options that take several.
//!
//! Words are separated by blanks. A word may hold quoted pieces: in double quotes `\n \r \t \b \a \xHH` mean what they
//! mean in C and a backslash makes any other byte itself; in single quotes only `\'` is special. A closing quote must
//! be followed by a blank or the end. These are the rules of `sdssplitargs` in Redis 7.0.15, odd cases included: a
//! vertical tab or form feed is a blank before a word and after a quote, but part of a bare word.
//!
//! The line ends where the slice does, whatever bytes it holds.

/// As much of a text as C sees of it: until its first NUL.
pub fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The same of a `str`.
pub fn text_until_nul(text: &str) -> &str {
    text.get(..until_nul(text.as_bytes()).len()).unwrap_or_default()
}

/// A quote never closes, or something touches a closing quote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unbalanced quotes")]
pub struct UnbalancedQuotes;

/// Splits `line` into words. Their unquoted bytes are appended to `text`; `word` is told where in it each begins and
/// ends.
pub fn split(line: &[u8], text: &mut Vec<u8>, mut word: impl FnMut(usize, usize)) -> Result<(), UnbalancedQuotes> {
    let mut rest = skip_blanks(line);
    while !rest.is_empty() {
        let start = text.len();
        rest = take_word(rest, text)?;
        word(start, text.len());
        rest = skip_blanks(rest);
    }
    Ok(())
}

/// Unquotes the word that `rest` starts with; gives what follows it.
fn take_word<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        match rest {
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Ok(rest),
            [b'"', quoted @ ..] => return take_double_quoted(quoted, text),
            [b'\'', quoted @ ..] => return take_single_quoted(quoted, text),
            [byte, after @ ..] => {
                text.push(*byte);
                rest = after;
            }
        }
    }
}

fn take_double_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        let (byte, after) = match rest {
            [] => return Err(UnbalancedQuotes),
            [b'"', after @ ..] => return after_quote(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex_digit(*high) << 4 | hex_digit(*low), after)
            }
            [b'\\', escaped, after @ ..] => (unescape(*escaped), after),
            [byte, after @ ..] => (*byte, after),
        };
        text.push(byte);
        rest = after;
    }
}

fn take_single_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        let (byte, after) = match rest {
            [] => return Err(UnbalancedQuotes),
            [b'\'', after @ ..] => return after_quote(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
        };
        text.push(byte);
        rest = after;
    }
}

/// A closing quote also closes the word.
fn after_quote(rest: &[u8]) -> Result<&[u8], UnbalancedQuotes> {
    match rest.first() {
        Some(byte) if !is_blank(*byte) => Err(UnbalancedQuotes),
        _ => Ok(rest),
    }
}

fn skip_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|byte| is_blank(**byte)).count();
    line.get(blanks..).unwrap_or_default()
}

/// C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

/// The value of a byte that is known to be a hexadecimal digit.
fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => byte.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
        let (mut text, mut ranges) = (Vec::new(), Vec::new());
        split(line.as_bytes(), &mut text, |from, to| ranges.push(from..to))?;
        Ok(ranges.into_iter().map(|range| text[range].to_vec()).collect())
    }

    fn expect(line: &str, wanted: &[&[u8]]) {
        assert_eq!(words(line), Ok(wanted.iter().map(|word| word.to_vec()).collect()), "{line:?}");
    }

    #[test]
    fn splits_at_blanks() {
        expect("", &[]);
        expect(" \t\x0b\x0c\r", &[]);
        expect("SET key value", &[b"SET", b"key", b"value"]);
        expect("  a\t b\r", &[b"a", b"b"]);
        expect("a\x0bb \x0bc", &[b"a\x0bb", b"c"]);
    }

    #[test]
    fn c_sees_a_text_until_its_first_nul() {
        for (text, seen) in [("", ""), ("\0", ""), ("a\0b\0", "a"), ("\u{e9}\0\u{e9}", "\u{e9}"), ("abc", "abc")] {
            assert_eq!((until_nul(text.as_bytes()), text_until_nul(text)), (seen.as_bytes(), seen), "{text:?}");
        }
    }

    #[test]
    fn unquotes() {
        expect(r#""\x41\x0f\n\r\t\b\a\q\"\\""#, &[b"A\x0f\n\r\t\x08\x07q\"\\"]);
        expect(r#""\x4" "\xzz""#, &[b"x4", b"xzz"]);
        expect(r"'a\'b' '\n'", &[b"a'b", b"\\n"]);
        expect(r#""" ''"#, &[b"", b""]);
        expect(r#"pre"quo ted""#, &[b"prequo ted"]);
        expect("\"a\"\x0bb", &[b"a", b"b"]);
    }

    #[test]
    fn refuses_unbalanced_quotes() {
        for line in ["\"a", "'a", "\"a\"b", "'a'b", "\"", "a\"", "\"a\\\"", "'a\\'", "\"\"\"\""] {
            assert_eq!(words(line), Err(UnbalancedQuotes), "{line:?}");
        }
    }
}
