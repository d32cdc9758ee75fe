//! The kinds of value an option may have: reading one from words, showing it, and saying what was wrong.
//!
//! Parsers are as strict as those of redis-server 7.0.15 (`hz 05` is not an integer, `1 mb` is not a size), and the
//! error texts are Redis's where Redis has the kind.

use super::error::ValueError;
use super::file::split_words;
use super::types::{Bind, BufferLimits, EventClasses, PeerAddr};
use super::units::{parse_bytes, parse_millis};
use std::fmt;

/// Most bytes of a [`Kind::Name`].
pub const NAME_BYTES_MAX: usize = 255;

/// What values an option takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `yes` or `no`, in any case.
    YesNo,
    /// A whole number in this range.
    Int {
        /// The smallest one allowed.
        min: i64,
        /// The largest one allowed.
        max: i64,
    },
    /// A number of bytes, with or without a unit (`100mb`), in this range.
    Bytes {
        /// The smallest one allowed.
        min: u64,
        /// The largest one allowed.
        max: u64,
    },
    /// A time: milliseconds, or with a unit (`90s`, `3h`).
    Millis {
        /// The shortest one allowed.
        min: u64,
        /// The longest one allowed.
        max: u64,
    },
    /// A number in this range.
    Float {
        /// The smallest one allowed.
        min: f64,
        /// The largest one allowed.
        max: f64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
    /// A short text that other nodes are told: at most [`NAME_BYTES_MAX`] bytes, without blanks, commas and control
    /// characters.
    Name,
    /// Any text, never logged or printed.
    Secret,
    /// A TCP or UDP port; 0 is none; `auto` is the port option plus an offset.
    Port,
    /// Addresses to listen on.
    Binds,
    /// Other nodes, separated by commas or blanks.
    Peers,
    /// Percentiles from 0 to 100.
    Percentiles,
    /// Groups of `class hard soft seconds`.
    BufferLimits,
    /// Letters of event classes.
    Events,
}

/// The value of an option.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "each variant is the value of the kind of the same name")]
pub enum Value {
    YesNo(bool),
    Int(i64),
    Bytes(u64),
    Millis(u64),
    Float(f64),
    Choice(&'static str),
    Text(String),
    /// `None` is `auto`.
    Port(Option<u16>),
    Binds(Vec<Bind>),
    Peers(Vec<PeerAddr>),
    Percentiles(Vec<f64>),
    BufferLimits(BufferLimits),
    Events(EventClasses),
}

impl Kind {
    /// Reads a value from the words of a file line or flag. `before` is the value so far, for kinds that only change
    /// the parts they name.
    pub fn parse(&self, words: &[&str], before: Option<&Value>) -> Result<Value, ValueError> {
        // Several words may stand in quotes together.
        let within = match words {
            [word] if self.takes_many() && !word.is_empty() => split_words(word).ok(),
            _ => None,
        };
        match within {
            Some(words) => self.parse_words(&words.iter().map(String::as_str).collect::<Vec<_>>(), before),
            None => self.parse_words(words, before),
        }
    }

    /// Reads a value that came as one text: an argument of CONFIG SET, or an environment variable. As in Redis, each
    /// blank ends a word there, and quotes are letters like others.
    pub fn parse_text(&self, text: &str, before: Option<&Value>) -> Result<Value, ValueError> {
        match self.takes_many() {
            false => self.parse_word(text),
            true if text.is_empty() => self.parse_words(&[], before),
            true => self.parse_words(&text.split(' ').collect::<Vec<_>>(), before),
        }
    }

    fn parse_words(&self, words: &[&str], before: Option<&Value>) -> Result<Value, ValueError> {
        match self {
            Kind::Binds => parse_binds(words),
            Kind::Peers => {
                let texts = words.iter().flat_map(|word| word.split([',', ' '])).filter(|text| !text.is_empty());
                texts.map(PeerAddr::parse).collect::<Result<_, _>>().map(Value::Peers)
            }
            Kind::Percentiles => parse_percentiles(words),
            Kind::BufferLimits => {
                let before = match before {
                    Some(Value::BufferLimits(limits)) => *limits,
                    _ => BufferLimits::default(),
                };
                BufferLimits::parse(words, before).map(Value::BufferLimits)
            }
            _ => match words {
                [word] => self.parse_word(word),
                _ => Err(ValueError::Count),
            },
        }
    }

    /// Whether a value may be more than one word.
    pub fn takes_many(&self) -> bool {
        matches!(self, Kind::Binds | Kind::Peers | Kind::Percentiles | Kind::BufferLimits)
    }

    /// What stands for the value in help texts.
    pub fn placeholder(&self) -> String {
        match self {
            Kind::YesNo => "yes|no".into(),
            Kind::Int { .. } => "N".into(),
            Kind::Bytes { .. } => "BYTES".into(),
            Kind::Millis { .. } => "MS".into(),
            Kind::Float { .. } => "NUMBER".into(),
            Kind::Choice(words) if words.len() <= 3 => words.join("|"),
            Kind::Choice(_) => "WORD".into(),
            Kind::Text | Kind::Secret => "TEXT".into(),
            Kind::Name => "NAME".into(),
            Kind::Port => "PORT".into(),
            Kind::Binds => "ADDRESS".into(),
            Kind::Peers => "HOST:PORT,..".into(),
            Kind::Percentiles => "PERCENT".into(),
            Kind::BufferLimits => "CLASS HARD SOFT SECONDS".into(),
            Kind::Events => "LETTERS".into(),
        }
    }

    fn parse_word(&self, word: &str) -> Result<Value, ValueError> {
        match self {
            Kind::YesNo => match word.to_ascii_lowercase().as_str() {
                "yes" => Ok(Value::YesNo(true)),
                "no" => Ok(Value::YesNo(false)),
                _ => Err(ValueError::YesNo),
            },
            Kind::Int { min, max } => {
                let number = parse_int(word).ok_or(ValueError::NotInteger)?;
                in_range(number, *min, *max).map(Value::Int)
            }
            Kind::Bytes { min, max } => {
                let number = parse_bytes(word).ok_or(ValueError::NotBytes)?;
                in_range(number, *min, *max).map(Value::Bytes)
            }
            Kind::Millis { min, max } => {
                let number = parse_millis(word).ok_or(ValueError::NotMillis)?;
                in_range(number, *min, *max).map(Value::Millis)
            }
            Kind::Float { min, max } => {
                let number: f64 = word.parse().map_err(|_| ValueError::NotFloat)?;
                in_range(number, *min, *max).map(Value::Float)
            }
            Kind::Choice(words) => {
                let found = words.iter().find(|known| known.eq_ignore_ascii_case(word));
                found.map(|known| Value::Choice(known)).ok_or(ValueError::NotChoice(words))
            }
            Kind::Text | Kind::Secret => Ok(Value::Text(word.to_owned())),
            Kind::Name if is_name(word) => Ok(Value::Text(word.to_owned())),
            Kind::Name => Err(ValueError::NotName),
            Kind::Port if word.eq_ignore_ascii_case("auto") => Ok(Value::Port(None)),
            Kind::Port => {
                let number = parse_int(word).ok_or(ValueError::NotInteger)?;
                let number = in_range(number, 0, i64::from(u16::MAX))?;
                Ok(Value::Port(u16::try_from(number).ok()))
            }
            Kind::Events => EventClasses::parse(word).map(Value::Events),
            Kind::Binds | Kind::Peers | Kind::Percentiles | Kind::BufferLimits => self.parse_words(&[word], None),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::YesNo(true) => f.write_str("yes"),
            Value::YesNo(false) => f.write_str("no"),
            Value::Int(number) => number.fmt(f),
            Value::Bytes(number) | Value::Millis(number) => number.fmt(f),
            Value::Float(number) => number.fmt(f),
            Value::Choice(word) => f.write_str(word),
            Value::Text(text) => f.write_str(text),
            Value::Port(Some(port)) => port.fmt(f),
            Value::Port(None) => f.write_str("auto"),
            Value::Binds(binds) => join(f, binds, " "),
            Value::Peers(peers) => join(f, peers, ","),
            Value::Percentiles(percentiles) => join(f, percentiles, " "),
            Value::BufferLimits(limits) => limits.fmt(f),
            Value::Events(classes) => classes.fmt(f),
        }
    }
}

/// Whether a text may be the value of a [`Kind::Name`]; none at all may.
pub fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && !text.chars().any(|c| c.is_control() || c.is_whitespace() || c == ',')
}

fn join<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T], separator: &str) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if i == 0 { "" } else { separator })?;
    }
    Ok(())
}

fn in_range<T: PartialOrd + fmt::Display>(number: T, min: T, max: T) -> Result<T, ValueError> {
    if number >= min && number <= max {
        Ok(number)
    } else {
        Err(ValueError::OutOfRange { min: min.to_string(), max: max.to_string() })
    }
}

/// A whole number in the one way of writing it: no sign but `-`, no blanks, no leading zeros.
fn parse_int(word: &str) -> Option<i64> {
    let number: i64 = word.parse().ok()?;
    (number.to_string() == word).then_some(number)
}

fn parse_binds(words: &[&str]) -> Result<Value, ValueError> {
    let texts = words.iter().flat_map(|word| word.split_ascii_whitespace());
    let binds = texts.map(Bind::parse).collect::<Result<Vec<_>, _>>()?;
    if binds.is_empty() { Err(ValueError::NoAddress) } else { Ok(Value::Binds(binds)) }
}

fn parse_percentiles(words: &[&str]) -> Result<Value, ValueError> {
    let mut percentiles = Vec::new();
    // An empty word alone stands for none.
    for word in words.iter().filter(|_| words != [""]) {
        let number: f64 = word.parse().ok().filter(|number: &f64| !number.is_nan()).ok_or(ValueError::Percentile)?;
        if !(0.0..=100.0).contains(&number) {
            return Err(ValueError::PercentileRange);
        }
        percentiles.push(number);
    }
    Ok(Value::Percentiles(percentiles))
}
