//! Floating-point numbers of 80 bits, as INCRBYFLOAT and HINCRBYFLOAT compute and print them.
//!
//! Redis adds with C's `long double`, which on x86-64 has a mantissa of 64 bits, and prints `%.17Lf` without the zeros
//! at the end: 3.0 + 0.1 is `3.1` there and would not be with doubles. Rust has no such type, so this is the little of
//! it that is needed: reading a decimal or hexadecimal text as `strtold` does, one addition, and printing.
//!
//! Each of the three is exact up to one rounding to the nearest, ties to even (IEEE 754). A finite value is
//! `mantissa * 2^exponent` with the mantissa's top bit set, or zero. Not done: subnormals keep their full precision
//! here, which no text of 17 decimals can show.

use std::cmp::Ordering;

/// Texts of this many bytes and more are no numbers, as in Redis.
const TEXT_BYTES_MAX: usize = 5 * 1024;

/// The exponent of the largest power of two.
const TOP_EXPONENT_MAX: i32 = 16_383;

/// Values below half of the smallest subnormal, 2^-16445, are zero.
const TOP_EXPONENT_MIN: i32 = -16_446;

/// Decimals that are printed at most.
const DECIMALS: usize = 17;

/// A number that is not NaN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LongDouble {
    /// `mantissa * 2^exponent`.
    Finite {
        /// Below zero.
        negative: bool,
        /// Zero, or with its top bit set.
        mantissa: u64,
        /// The weight of the mantissa's lowest bit.
        exponent: i32,
    },
    /// Infinity, spelt out by whoever wrote it.
    Infinite {
        /// Below zero.
        negative: bool,
    },
}

impl LongDouble {
    /// Zero.
    pub const ZERO: LongDouble = LongDouble::Finite { negative: false, mantissa: 0, exponent: 0 };

    /// The number that `text` spells; `None` for anything else, NaN, and what is too large or too small to hold.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= TEXT_BYTES_MAX {
            return None;
        }
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble::Infinite { negative });
        }
        let value = match digits {
            [b'0', b'x' | b'X', hex @ ..] => parse_hexadecimal(negative, hex),
            decimal => parse_decimal(negative, decimal),
        }?;
        value.is_finite().then_some(value)
    }

    /// False for infinity.
    pub fn is_finite(&self) -> bool {
        matches!(self, LongDouble::Finite { .. })
    }

    /// The sum; `None` when it is not a finite number.
    pub fn plus(self, other: LongDouble) -> Option<LongDouble> {
        let LongDouble::Finite { negative: neg_a, mantissa: a, exponent: exp_a } = self else { return None };
        let LongDouble::Finite { negative: neg_b, mantissa: b, exponent: exp_b } = other else { return None };
        if a == 0 || b == 0 {
            return Some(if a == 0 { other } else { self });
        }
        if exp_a < exp_b {
            return other.plus(self);
        }
        // 62 more bits than the larger needs; what falls off the smaller's end leaves a one there, which is enough to
        // round by, because then the difference loses one bit at most.
        let a = u128::from(a) << 62;
        let wide = u128::from(b) << 62;
        let shift = exp_a.abs_diff(exp_b);
        let b = wide.checked_shr(shift).unwrap_or(0);
        let lost = b.checked_shl(shift) != Some(wide);
        let b = b | u128::from(lost);
        let (negative, sum) = match (neg_a == neg_b, a >= b) {
            (true, _) => (neg_a, a + b),
            (false, true) => (neg_a, a - b),
            (false, false) => (neg_b, b - a),
        };
        Some(rounded(negative, sum, exp_a - 62)).filter(LongDouble::is_finite)
    }

    /// As Redis prints it: up to 17 decimals, without zeros at the end, and never in scientific notation.
    pub fn to_text(self) -> String {
        let (negative, mantissa, exponent) = match self {
            LongDouble::Finite { negative, mantissa, exponent } => (negative, mantissa, exponent),
            LongDouble::Infinite { negative: true } => return "-inf".into(),
            LongDouble::Infinite { negative: false } => return "inf".into(),
        };
        let text = if exponent >= 0 {
            let mut whole = Natural::from(u128::from(mantissa));
            whole.shift_left(exponent.unsigned_abs());
            whole.to_decimal()
        } else {
            let scaled = u128::from(mantissa) * 10u128.pow(DECIMALS as u32);
            let digits = shifted_right(scaled, exponent.unsigned_abs()).to_string();
            let digits = format!("{digits:0>width$}", width = DECIMALS + 1);
            let (whole, fraction) = digits.split_at(digits.len() - DECIMALS);
            let text = format!("{whole}.{fraction}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        if negative && text != "0" { format!("-{text}") } else { text }
    }
}

/// `value / 2^shift`, to the nearest, ties to even.
fn shifted_right(value: u128, shift: u32) -> u128 {
    if shift > 127 {
        return 0;
    }
    let (whole, rest) = (value >> shift, value & ((1u128 << shift) - 1));
    let half = 1u128 << shift >> 1;
    match rest.cmp(&half) {
        _ if shift == 0 => whole,
        Ordering::Less => whole,
        Ordering::Equal => whole + (whole & 1),
        Ordering::Greater => whole + 1,
    }
}

/// `value * 2^exponent` with 64 bits of mantissa.
fn rounded(negative: bool, value: u128, exponent: i32) -> LongDouble {
    let bits = 128 - value.leading_zeros();
    if value == 0 {
        return LongDouble::ZERO;
    }
    let (mut mantissa, mut exponent) = if bits <= 64 {
        (value << (64 - bits), exponent - (64 - bits) as i32)
    } else {
        (shifted_right(value, bits - 64), exponent + (bits - 64) as i32)
    };
    if mantissa >> 64 != 0 {
        (mantissa, exponent) = (mantissa >> 1, exponent + 1);
    }
    if exponent + 63 > TOP_EXPONENT_MAX {
        return LongDouble::Infinite { negative };
    }
    LongDouble::Finite { negative, mantissa: mantissa as u64, exponent }
}

/// A text's digits without the point, how many of them stand behind it, and what follows the digits.
fn split_digits(text: &[u8], is_digit: fn(&u8) -> bool) -> Option<(Vec<u8>, i32, &[u8])> {
    let end_of = |text: &[u8]| text.iter().position(|byte| !is_digit(byte)).unwrap_or(text.len());
    let (whole, rest) = text.split_at(end_of(text));
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => rest.split_at(end_of(rest)),
        rest => (&[][..], rest),
    };
    let digits = [whole, fraction].concat();
    (!digits.is_empty()).then_some((digits, fraction.len() as i32, rest))
}

/// The exponent behind `mark`, kept within bounds that no text's length can make up for; 0 for an empty text.
fn parse_exponent(text: &[u8], mark: u8) -> Option<i32> {
    let Some((first, rest)) = text.split_first() else { return Some(0) };
    if first.to_ascii_lowercase() != mark {
        return None;
    }
    let (negative, digits) = match rest {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let limit = 100_000;
    let value = digits.iter().fold(0, |value, digit| (value * 10 + i32::from(digit - b'0')).min(limit));
    Some(if negative { -value } else { value })
}

fn parse_decimal(negative: bool, text: &[u8]) -> Option<LongDouble> {
    let (digits, decimals, rest) = split_digits(text, u8::is_ascii_digit)?;
    let exponent = parse_exponent(rest, b'e')? - decimals;
    let first = digits.iter().position(|digit| *digit != b'0');
    let Some(digits) = first.and_then(|first| digits.get(first..)) else {
        return Some(LongDouble::Finite { negative, mantissa: 0, exponent: 0 });
    };
    // The decimal magnitude alone may tell that the value is out of range.
    match digits.len() as i32 + exponent {
        4_934.. => return Some(LongDouble::Infinite { negative }),
        ..-4_951 => return None,
        _ => {}
    }
    let mut number = Natural::default();
    for digit in digits {
        number.times_plus(10, u32::from(digit - b'0'));
    }
    let mut divisor = Natural::from(1);
    let scaled = if exponent >= 0 { &mut number } else { &mut divisor };
    (0..exponent.unsigned_abs() / 9).for_each(|_| scaled.times_plus(1_000_000_000, 0));
    (0..exponent.unsigned_abs() % 9).for_each(|_| scaled.times_plus(10, 0));
    quotient(negative, number, divisor, 0)
}

fn parse_hexadecimal(negative: bool, text: &[u8]) -> Option<LongDouble> {
    let (digits, behind, rest) = split_digits(text, u8::is_ascii_hexdigit)?;
    let exponent = parse_exponent(rest, b'p')? - 4 * behind;
    let mut number = Natural::default();
    for digit in &digits {
        number.times_plus(16, char::from(*digit).to_digit(16)?);
    }
    if number.bits() == 0 {
        return Some(LongDouble::Finite { negative, mantissa: 0, exponent: 0 });
    }
    quotient(negative, number, Natural::from(1), exponent)
}

/// `number / divisor * 2^exponent`, neither of them zero; `None` when it is too small to hold.
fn quotient(negative: bool, mut number: Natural, mut divisor: Natural, exponent: i32) -> Option<LongDouble> {
    let ahead = number.bits() as i32 - divisor.bits() as i32;
    if ahead >= 0 {
        divisor.shift_left(ahead.unsigned_abs())
    } else {
        number.shift_left(ahead.unsigned_abs())
    }
    // Now both have as many bits, so the quotient is between one half and two: 66 binary digits of it, and whether
    // anything is left.
    let mut digits: u128 = 0;
    for _ in 0..66 {
        digits <<= 1;
        if number.subtract_if_not_less(&divisor) {
            digits |= 1;
        }
        number.shift_left(1);
    }
    let left = u128::from(number.bits() != 0);
    let exponent = ahead + exponent - 66;
    let top = exponent + 127 - (digits << 1).leading_zeros() as i32;
    (top >= TOP_EXPONENT_MIN).then(|| rounded(negative, digits << 1 | left, exponent))
}

/// A whole number of any size, lowest limb first, no zero limb at the end.
#[derive(Clone, Default, Debug)]
struct Natural {
    limbs: Vec<u32>,
}

impl From<u128> for Natural {
    fn from(value: u128) -> Natural {
        let mut number = Natural { limbs: (0..4).map(|limb| (value >> (32 * limb)) as u32).collect() };
        number.trim();
        number
    }
}

impl Natural {
    fn bits(&self) -> u32 {
        self.limbs.last().map_or(0, |top| self.limbs.len() as u32 * 32 - top.leading_zeros())
    }

    fn trim(&mut self) {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
    }

    fn times_plus(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for limb in &mut self.limbs {
            let value = u64::from(*limb) * u64::from(factor) + carry;
            *limb = value as u32;
            carry = value >> 32;
        }
        if carry != 0 {
            self.limbs.push(carry as u32);
        }
    }

    fn shift_left(&mut self, by: u32) {
        if self.limbs.is_empty() {
            return;
        }
        if !by.is_multiple_of(32) {
            self.times_plus(1 << (by % 32), 0);
        }
        self.limbs.splice(0..0, std::iter::repeat_n(0, (by / 32) as usize));
    }

    /// Subtracts `other` unless it is larger; true when it did.
    fn subtract_if_not_less(&mut self, other: &Natural) -> bool {
        let by_length = self.limbs.len().cmp(&other.limbs.len());
        if by_length.then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev())).is_lt() {
            return false;
        }
        let mut borrow = false;
        let others = other.limbs.iter().copied().chain(std::iter::repeat(0));
        for (limb, other) in self.limbs.iter_mut().zip(others) {
            let (value, first) = limb.overflowing_sub(other);
            let (value, second) = value.overflowing_sub(u32::from(borrow));
            *limb = value;
            borrow = first || second;
        }
        self.trim();
        true
    }

    fn to_decimal(&self) -> String {
        let (mut rest, mut groups) = (self.clone(), Vec::new());
        while !rest.limbs.is_empty() {
            let mut remainder = 0u64;
            for limb in rest.limbs.iter_mut().rev() {
                let value = remainder << 32 | u64::from(*limb);
                *limb = (value / 1_000_000_000) as u32;
                remainder = value % 1_000_000_000;
            }
            rest.trim();
            groups.push(remainder);
        }
        let top = groups.pop().unwrap_or(0).to_string();
        groups.iter().rev().fold(top, |text, group| text + &format!("{group:09}"))
    }
}

#[cfg(test)]
mod tests {
    use super::LongDouble;
    use proptest::prelude::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        Some(LongDouble::parse(a.as_bytes())?.plus(LongDouble::parse(b.as_bytes())?)?.to_text())
    }

    /// Sums and what redis-server 7.0.15 answered: SET k a, INCRBYFLOAT k b.
    const SUMS: &[(&str, &str, &str)] = &[
        ("3.0", "0.1", "3.1"),
        ("10.50", "0.1", "10.6"),
        ("5.0e3", "2.0e2", "5200"),
        ("0.1", "0.2", "0.3"),
        ("1", "-1", "0"),
        ("-0", "0", "0"),
        ("-1e-30", "0", "0"),
        ("1e-17", "0", "0.00000000000000001"),
        ("1e-18", "0", "0"),
        ("5e-18", "0", "0"),
        ("1.5e-17", "0", "0.00000000000000002"),
        ("-5e-18", "0", "0"),
        ("0x10", "0x1.8p1", "19"),
        ("0X.8", "1", "1.5"),
        ("1.", ".5", "1.5"),
        ("+2", "3", "5"),
        ("123456789012345678901234567890", "1", "123456789012345678899921813504"),
        ("1e300", "-1e300", "0"),
        ("18446744073709551615", "1", "18446744073709551616"),
        ("18446744073709551617", "2", "18446744073709551618"),
        ("9223372036854775807", "0.5", "9223372036854775807.5"),
        ("3.14159265358979323846", "0", "3.14159265358979324"),
        ("2.71828182845904523536", "1e18", "1000000000000000002.6875"),
        ("-1234.5678", "0.0022", "-1234.56559999999999999"),
        ("1e-4940", "1", "1"),
        ("0.3", "-0.1", "0.2"),
        ("1e19", "1e-1", "10000000000000000000"),
        ("100", "1e-20", "100"),
        ("1.0000000000000000001", "0", "1"),
    ];

    #[test]
    fn adds_and_prints_as_redis() {
        for (a, b, text) in SUMS {
            assert_eq!(sum(a, b).as_deref(), Some(*text), "{a} + {b}");
            assert_eq!(sum(b, a).as_deref(), Some(*text), "{b} + {a}");
        }
    }

    #[test]
    fn large_numbers_are_printed_whole() {
        let text = sum("1e4932", "0").expect("in range");
        assert_eq!(text.len(), 4_933);
        assert!(text.starts_with("1000000000000000000006018949387963891") && text.ends_with("418113791886622720"));
        assert_eq!(sum("1e4932", "1e4932"), None);
    }

    #[test]
    fn refuses_what_is_no_number() {
        let refused = [
            "",
            " 1",
            "1 ",
            "x",
            "1x",
            "1e",
            "1e+",
            "--1",
            "+-1",
            ".",
            "0x",
            "0x.p1",
            "1e5000",
            "-1e5000",
            "nan",
            "-nan",
            "1e-5000",
            "0x1p-16447",
            "1_0",
            "e5",
            "infi",
        ];
        for text in refused {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text}");
        }
        assert!(LongDouble::parse(&[b'1'; 5 * 1024]).is_none());
        for text in ["inf", "-Infinity", "+INF"] {
            let value = LongDouble::parse(text.as_bytes()).expect("infinity");
            assert!(!value.is_finite() && value.plus(LongDouble::ZERO).is_none());
        }
    }

    /// A decimal number of up to seventeen decimals, in units of the last of them.
    fn in_units(text: &str) -> u128 {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        format!("{whole}{decimals:0<17}").parse().expect("digits")
    }

    proptest! {
        #[test]
        fn whole_numbers_add_exactly(a in any::<i32>(), b in any::<i64>()) {
            let expected = i128::from(a) + i128::from(b);
            if expected.unsigned_abs() < 1 << 63 {
                prop_assert_eq!(sum(&a.to_string(), &b.to_string()), Some(expected.to_string()));
            }
        }

        #[test]
        fn a_text_of_up_to_nineteen_digits_reads_back(mantissa in 0u64..1_000_000_000_000_000_000, decimals in 0u32..18) {
            let scale = 10u64.pow(decimals);
            let text = format!("{}.{:0width$}", mantissa / scale, mantissa % scale, width = decimals as usize);
            let shown = LongDouble::parse(text.as_bytes()).expect("a number").to_text();
            let (given, shown) = (in_units(&text), in_units(&shown));
            // Half of the last bit of 64, and what is rounded off behind the last decimal.
            prop_assert!(given.abs_diff(shown) <= (given >> 64) + 1, "{text}: {given} {shown}");
        }

        #[test]
        fn nonsense_never_panics(text in "[-+0-9a-fA-FxXpPeE. infatyINFN]{0,24}") {
            if let Some(value) = LongDouble::parse(text.as_bytes()) {
                let _ = value.to_text();
            }
        }
    }
}
