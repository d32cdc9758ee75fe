//! Deadlines: how options and commands say when a key expires.
//!
//! A deadline is an absolute time in milliseconds since 1970; relative ones are made absolute once, at the
//! coordinator, by the time of the batch. One that has already passed deletes the key at once, as in Redis.

use crate::commands::CommandError;
use crate::commands::spec::Cx;
use crate::store::mutation::Mutation;

/// What a command says about the deadline of what it writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deadline {
    /// Never expires.
    None,
    /// As before.
    Keep,
    /// At this time, in milliseconds since 1970.
    At(u64),
}

/// How a command gives a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Seconds from now.
    Ex,
    /// Milliseconds from now.
    Px,
    /// Seconds since 1970.
    ExAt,
    /// Milliseconds since 1970.
    PxAt,
}

impl Unit {
    /// The unit that an option's name, in upper case, stands for.
    pub fn parse(word: &[u8]) -> Option<Unit> {
        Some(match word {
            b"EX" => Unit::Ex,
            b"PX" => Unit::Px,
            b"EXAT" => Unit::ExAt,
            b"PXAT" => Unit::PxAt,
            _ => return None,
        })
    }

    /// `amount` of this unit as a deadline; refused when not positive or beyond 64 bits, in the name of `command`.
    pub fn deadline_ms(self, amount: i64, now_ms: u64, command: &'static str) -> Result<u64, CommandError> {
        let invalid = CommandError::InvalidExpire(command);
        if amount <= 0 {
            return Err(invalid);
        }
        self.absolute_ms(amount, now_ms).map(|ms| ms.max(0) as u64).ok_or(invalid)
    }

    /// `amount` of this unit, of any sign, as a time in milliseconds since 1970; `None` beyond 64 bits.
    pub fn absolute_ms(self, amount: i64, now_ms: u64) -> Option<i64> {
        let ms = match self {
            Unit::Ex | Unit::ExAt => amount.checked_mul(1_000)?,
            Unit::Px | Unit::PxAt => amount,
        };
        match self {
            Unit::Ex | Unit::Px => ms.checked_add(i64::try_from(now_ms).ok()?),
            Unit::ExAt | Unit::PxAt => Some(ms),
        }
    }
}

/// Writes a string with a deadline, 0 for none; with one that has passed the key is gone instead.
pub fn assign(cx: &mut Cx<'_, '_>, key: &[u8], value: &[u8], deadline_ms: u64) {
    if deadline_ms != 0 && deadline_ms <= cx.keys.now_ms() {
        cx.keys.delete(key);
        return;
    }
    cx.keys.write(key, Mutation::Assign { value, deadline_ms });
}
