//! Numbers with units, as redis.conf writes them: amounts of bytes and times.

use crate::base::words::text_until_nul;

/// Redis takes no more digits than fit into its buffer.
const DIGITS_MAX: usize = 127;

/// A number of bytes: digits, then nothing, `b`, or one of `k` `m` `g` (powers of 1000) `kb` `mb` `gb` (of 1024).
///
/// As `memtoull` of Redis 7.0.15 reads it: no digits at all are 0, a number of more than 64 bits is the largest of 64,
/// and what a unit makes of it wraps around.
pub fn parse_bytes(word: &str) -> Option<u64> {
    let (digits, unit) = split_unit(text_until_nul(word));
    let factor: u64 = match unit.as_str() {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    let number = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) };
    (digits.len() <= DIGITS_MAX).then_some(number.wrapping_mul(factor))
}

/// A number of seconds, as Redis 7.0.15 reads that of a soft limit: C's `strtoll`, of which it keeps 32 bits; then no
/// less than 0.
pub fn parse_soft_seconds(word: &str) -> Option<u64> {
    let word = text_until_nul(word);
    let signed = word.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let digits = signed.strip_prefix(['-', '+']).unwrap_or(signed);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.is_empty() != word.is_empty() {
        return None;
    }
    let number = match (digits, signed.starts_with('-')) {
        ("", _) => 0,
        (_, true) => signed.parse().unwrap_or(i64::MIN),
        (_, false) => digits.parse().unwrap_or(i64::MAX),
    };
    u64::try_from(number as i32).ok()
}

/// A time in milliseconds: digits, then nothing, `ms`, `s`, `m`, `h` or `d`.
pub fn parse_millis(word: &str) -> Option<u64> {
    let (digits, unit) = split_unit(word);
    let factor: u64 = match unit.as_str() {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn split_unit(word: &str) -> (&str, String) {
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (digits, unit) = word.split_at(end);
    (digits, unit.to_ascii_lowercase())
}
