//! When and how often an entry was used, in one word.
//!
//! 24 bits are seconds (the last use) and 8 bits frequency (a logarithmic counter that decays, Morris 1978; Redis's
//! `evict.c`, 7.0). A use writes the word only when it changes, so that hot keys do not dirty their cache line.
//!
//! Who goes because of it is decided in `eviction`.

use crate::store::entry::Entry;

const FREQUENCY_NEW: u8 = 5;
const SECONDS_MASK: u32 = 0x00ff_ffff;

/// A use of a key at a certain time, ready to be noted on entries.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    seconds: u32,
    lfu: Option<(u32, u32)>,
}

impl Access {
    /// A use at `now_ms`. Where use is counted, `lfu` says how: `lfu-log-factor`, and `lfu-decay-time` in minutes.
    #[inline]
    pub fn at(now_ms: u64, lfu: Option<(u32, u32)>) -> Access {
        Access { seconds: (now_ms / 1_000) as u32 & SECONDS_MASK, lfu }
    }

    /// Notes the use.
    #[inline]
    pub fn touch(self, entry: &mut Entry) {
        let old = entry.access();
        let new = self.after(old);
        if new != old {
            entry.set_access(new);
        }
    }

    /// What an entry's use is noted as, given what was noted of it before; 0 for an entry that is being made.
    #[inline]
    pub fn after(self, old: u32) -> u32 {
        let mut frequency = old as u8;
        if old == 0 {
            frequency = FREQUENCY_NEW;
        } else if let Some((log_factor, decay_minutes)) = self.lfu {
            frequency = self.decayed(old, decay_minutes);
            frequency = after_use(frequency, log_factor, rand::random());
        }
        self.seconds << 8 | u32::from(frequency)
    }

    /// True when the policy chooses by frequency of use.
    pub fn is_lfu(self) -> bool {
        self.lfu.is_some()
    }

    /// Seconds since the entry's last use.
    pub fn idle_s(self, entry: &Entry) -> u32 {
        self.seconds.wrapping_sub(entry.access() >> 8) & SECONDS_MASK
    }

    /// The entry's frequency now, 0 to 255, logarithmic.
    pub fn frequency(self, entry: &Entry) -> u8 {
        self.decayed(entry.access(), self.lfu.map_or(1, |(_, decay_minutes)| decay_minutes))
    }

    fn decayed(self, access: u32, decay_minutes: u32) -> u8 {
        let idle_minutes = (self.seconds.wrapping_sub(access >> 8) & SECONDS_MASK) / 60;
        let periods = idle_minutes.checked_div(decay_minutes).unwrap_or(0);
        (access as u8).saturating_sub(u8::try_from(periods).unwrap_or(u8::MAX))
    }
}

/// A counter one use later: grows with probability 1 / (above-new * factor + 1).
fn after_use(frequency: u8, log_factor: u32, draw: u32) -> u8 {
    let above = f64::from(frequency.saturating_sub(FREQUENCY_NEW));
    let chance = 1.0 / (above * f64::from(log_factor) + 1.0);
    frequency.saturating_add(u8::from(f64::from(draw) < chance * f64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequency_grows_slowly_and_decays() {
        let counted = (0..100_000u32).fold(FREQUENCY_NEW, |f, n| after_use(f, 10, n.wrapping_mul(2_654_435_761)));
        assert!((80..=200).contains(&counted), "{counted}");
        let access = Access { seconds: 600, lfu: Some((10, 1)) };
        assert_eq!(access.decayed(u32::from(counted), 1), counted - 10);
    }
}
