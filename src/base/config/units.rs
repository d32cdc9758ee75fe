//! Numbers with units, as redis.conf writes them: amounts of bytes and times.

/// A number of bytes: digits, then nothing, `b`, or one of `k` `m` `g` (powers of 1000) `kb` `mb` `gb` (of 1024).
pub fn parse_bytes(word: &str) -> Option<u64> {
    let (digits, unit) = split_unit(word);
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
    digits.parse::<u64>().ok()?.checked_mul(factor)
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
