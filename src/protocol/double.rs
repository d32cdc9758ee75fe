//! Floating-point numbers as Redis 7.0.15 prints them in replies: C's `%.17g`, and `inf`, `-inf`, `nan`.
//!
//! Seventeen significant digits read back as the same double, at the price of texts like `3.1000000000000001`.
//! (Redis 7.2 prints the shortest such text instead. INCRBYFLOAT and HINCRBYFLOAT print by other rules, in commands.)

use std::io::Write as _;

/// Significant digits.
const DIGITS: usize = 17;

/// The longest text: sign, point, 17 digits and `e-308`, or `-0.0001` and 16 more digits.
const TEXT_BYTES_MAX: usize = 32;

/// Whole numbers below this have 16 digits at most and take the short way.
const WHOLE_MAX: f64 = 1e16;

/// Equal to zero, but printed with its sign.
const MINUS_ZERO: u64 = 1 << 63;

/// A double's text, on the stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct DoubleText {
    bytes: [u8; TEXT_BYTES_MAX],
    len: usize,
}

impl DoubleText {
    /// Prints `value`.
    pub(super) fn new(value: f64) -> DoubleText {
        let mut text = DoubleText { bytes: [0; TEXT_BYTES_MAX], len: 0 };
        if value.is_nan() {
            text.push(b"nan");
        } else if value.is_infinite() {
            text.push(if value > 0.0 { b"inf" } else { b"-inf" });
        } else if value.abs() < WHOLE_MAX && value.trunc() == value && value.to_bits() != MINUS_ZERO {
            text.push(itoa::Buffer::new().format(value as i64).as_bytes());
        } else {
            text.push_finite(value);
        }
        text
    }

    /// The text.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// `%.17g`: the digits of `%.16e`, laid out by their exponent, zeros at the end dropped.
    fn push_finite(&mut self, value: f64) {
        let mut scientific = [0; TEXT_BYTES_MAX];
        let mut unused = scientific.as_mut_slice();
        // Cannot fail: "-d.dddddddddddddddde-308" has 24 bytes.
        let _ = write!(unused, "{:.*e}", DIGITS - 1, value.abs());
        let unused_bytes = unused.len();
        let written = scientific.get(..TEXT_BYTES_MAX - unused_bytes).unwrap_or_default();
        let (mantissa, exponent) = split_exponent(written);
        let mut digits = [b'0'; DIGITS];
        for (digit, byte) in digits.iter_mut().zip(mantissa.iter().filter(|byte| byte.is_ascii_digit())) {
            *digit = *byte;
        }
        let significant = digits.iter().rposition(|digit| *digit != b'0').map_or(1, |last| last + 1);
        let digits = digits.get(..significant).unwrap_or_default();

        if value.is_sign_negative() {
            self.push(b"-");
        }
        match exponent {
            ..-4 | 17.. => self.push_scientific(digits, exponent),
            -4..0 => {
                self.push(b"0.");
                self.push_zeros(-1 - exponent);
                self.push(digits);
            }
            _ => self.push_fixed(digits, exponent),
        }
    }

    /// A number of one or more: the point stands behind `exponent` + 1 digits.
    fn push_fixed(&mut self, digits: &[u8], exponent: i32) {
        match digits.split_at_checked(exponent as usize + 1) {
            Some((whole, fraction)) => {
                self.push(whole);
                if !fraction.is_empty() {
                    self.push(b".");
                    self.push(fraction);
                }
            }
            None => {
                self.push(digits);
                self.push_zeros(exponent + 1 - digits.len() as i32);
            }
        }
    }

    fn push_scientific(&mut self, digits: &[u8], exponent: i32) {
        let (first, fraction) = digits.split_at_checked(1).unwrap_or_default();
        self.push(first);
        if !fraction.is_empty() {
            self.push(b".");
            self.push(fraction);
        }
        self.push(if exponent < 0 { b"e-" } else { b"e+" });
        if exponent.abs() < 10 {
            self.push(b"0");
        }
        self.push(itoa::Buffer::new().format(exponent.unsigned_abs()).as_bytes());
    }

    fn push_zeros(&mut self, count: i32) {
        for _ in 0..count {
            self.push(b"0");
        }
    }

    fn push(&mut self, text: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + text.len()) {
            place.copy_from_slice(text);
            self.len += text.len();
        }
    }
}

/// Takes `d.dddde-5` apart.
fn split_exponent(scientific: &[u8]) -> (&[u8], i32) {
    let at = scientific.iter().position(|byte| *byte == b'e').unwrap_or(scientific.len());
    let (mantissa, exponent) = scientific.split_at(at);
    let exponent = super::parse_i64(exponent.get(1..).unwrap_or_default()).unwrap_or(0);
    (mantissa, exponent as i32)
}

#[cfg(test)]
mod tests {
    use super::DoubleText;

    /// Values and what redis-server 7.0.15 printed for them: ZSCORE, and for -0 EVAL with `{double=-0.0}`.
    const PRINTED: &[(f64, &str)] = &[
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (0.1, "0.10000000000000001"),
        (3.1, "3.1000000000000001"),
        (-273.15, "-273.14999999999998"),
        (100.0, "100"),
        (1e16, "10000000000000000"),
        (1e17, "1e+17"),
        (123456789012345678.0, "1.2345678901234568e+17"),
        (12345678901234567.0, "12345678901234568"),
        (1e21, "1e+21"),
        (1e100, "1e+100"),
        (1.5e-5, "1.5e-05"),
        (0.0001, "0.0001"),
        (0.00012, "0.00012"),
        (1e-10, "1e-10"),
        (f64::MAX, "1.7976931348623157e+308"),
        (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
        (5e-324, "4.9406564584124654e-324"),
        (-1.2345678901234567e-300, "-1.2345678901234568e-300"),
        (9007199254740993.0, "9007199254740992"),
        // Ties in the 18th digit, which go to the even side.
        (10_240_000_001.0 / 1024.0, "10000000.000976562"),
        (10_240_000_003.0 / 1024.0, "10000000.002929688"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
    ];

    #[test]
    fn prints_as_redis() {
        for (value, text) in PRINTED {
            assert_eq!(String::from_utf8_lossy(DoubleText::new(*value).as_bytes()), *text);
        }
        assert_eq!(DoubleText::new(f64::NAN).as_bytes(), b"nan");
        assert_eq!(DoubleText::new(-f64::NAN).as_bytes(), b"nan");
    }

    #[test]
    fn reads_back_as_the_same_double() {
        // A walk over all exponents, with mantissas that have nothing in common (a Weyl sequence).
        let mut bits: u64 = 0;
        for _ in 0..100_000 {
            bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let value = f64::from_bits(bits);
            if value.is_finite() {
                let text = DoubleText::new(value);
                let text = std::str::from_utf8(text.as_bytes()).expect("ASCII");
                assert_eq!(text.parse(), Ok(value), "{text}");
            }
        }
    }
}
