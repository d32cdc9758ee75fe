//! Figures for people, short enough for a column.

/// Bytes in powers of 1024: `0B`, `1.5MiB`.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, 1_024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// A number in powers of 1000: `7`, `12.3k`.
pub fn number(number: f64) -> String {
    scaled(number, 1_000.0, &["", "k", "M", "G"])
}

/// A time: `64us`, `1.2ms`, `3.0s`; a dash for none.
pub fn micros(us: u64) -> String {
    if us == 0 { "-".into() } else { scaled(us as f64, 1_000.0, &["us", "ms", "s"]) }
}

/// Seconds in the two largest units: `3d 4h`, `12m 5s`.
pub fn seconds(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// A ratio as per cent; a dash when nothing happened.
pub fn percent(ratio: Option<f64>) -> String {
    ratio.map_or("-".into(), |ratio| format!("{:.1}", ratio * 100.0))
}

/// At most three digits where the unit lets it; one decimal for what is small and not whole.
fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let (mut value, mut at) = (value, 0);
    // What would be shown as a thousand belongs to the next unit.
    while value >= step - 0.5 && at + 1 < units.len() {
        value /= step;
        at += 1;
    }
    let unit = units.get(at).copied().unwrap_or_default();
    if at == 0 || value >= 99.95 { format!("{value:.0}{unit}") } else { format!("{value:.1}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_have_their_unit() {
        assert_eq!([bytes(0), bytes(1_023), bytes(1_536), bytes(5 << 30)], ["0B", "1023B", "1.5KiB", "5.0GiB"]);
        assert_eq!([number(0.4), number(999.0), number(12_345.0), number(123_456.0)], ["0", "999", "12.3k", "123k"]);
        assert_eq!([number(999.6), number(999_999.0)], ["1.0k", "1.0M"]);
        assert_eq!([micros(0), micros(64), micros(8_192), micros(3_000_000)], ["-", "64us", "8.2ms", "3.0s"]);
        assert_eq!([seconds(59), seconds(125), seconds(7_300), seconds(280_000)], ["59s", "2m 5s", "2h 1m", "3d 5h"]);
        assert_eq!([percent(None), percent(Some(0.987))], ["-", "98.7"]);
    }
}
