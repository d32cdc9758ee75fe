//! What clients asked and were answered, in the order in which they asked; `judge` says what that must be like.

use crate::protocol::client::Value;

/// What is asked of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    Set(u64),
    /// The same, if nothing is there.
    SetNew(u64),
    /// The same, if nobody has written since the register was watched and read.
    Swap(u64),
    /// The same, for so many milliseconds.
    SetFor(u64, u64),
    /// The register takes over this value of a source.
    Copy(u64),
    /// The same, and the source is gone.
    Rename(u64),
    /// The key shall be there for so many milliseconds.
    Expire(u64),
    /// The same, and the value is read.
    GetFor(u64),
    /// The key shall be there for good.
    Persist,
    Delete,
    Get,
    Increment,
    Count,
    Add(u64),
    Remove(u64),
    Members,
    /// All keys are deleted.
    Flush,
}

/// From this number on, what has members is a hash: its fields are the members.
pub const HASHES: u64 = 2;
/// Behind this number are registers to copy from: this much and the value that is to be copied.
pub const SOURCES: u64 = 1_000_000;
/// The same for registers that a source is renamed to.
pub const TARGETS: u64 = 2_000_000;
/// From this number on, registers are locks: given a value only if they have none.
pub const LOCKS: u64 = 500;
/// From this number on, each even register and the next are a pair: written and read together, in a transaction.
pub const PAIRS: u64 = 600;
const PAIRS_END: u64 = 700;
/// From this number on, registers are guarded: watched, read, and only then written.
pub const GUARDED: u64 = 800;

/// A request: what, and of which key of its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    pub what: What,
    pub of: u64,
}

impl Asked {
    /// The key's name.
    pub fn key(&self) -> String {
        let kind = match self.what {
            What::Increment | What::Count => "counter",
            What::Add(_) | What::Remove(_) | What::Members if self.of >= HASHES => "hash",
            What::Add(_) | What::Remove(_) | What::Members => "set",
            What::Flush => "all",
            _ if self.is_of_pair() => return format!("{{pair{}}}{}", self.of / 2, self.of % 2),
            _ => "register",
        };
        format!("{kind}{}", self.of)
    }

    /// The value that it gives a register.
    pub fn value(&self) -> Option<u64> {
        match self.what {
            What::Set(value)
            | What::SetNew(value)
            | What::Swap(value)
            | What::SetFor(value, _)
            | What::Copy(value)
            | What::Rename(value) => Some(value),
            _ => None,
        }
    }

    /// True for the registers of pairs.
    pub fn is_of_pair(&self) -> bool {
        (PAIRS..PAIRS_END).contains(&self.of)
    }

    /// True for what makes a register's value another one, or none.
    pub fn replaces(&self) -> bool {
        self.value().is_some() || matches!(self.what, What::Delete | What::Flush)
    }

    /// True for what changes its key.
    fn writes(&self) -> bool {
        !matches!(self.what, What::Get | What::Count | What::Members)
    }

    /// True for what reads a register.
    pub fn reads_register(&self) -> bool {
        matches!(self.what, What::Get | What::GetFor(_))
    }
}

/// How a key came to be asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// By a command about this key alone.
    Alone,
    /// By a command that is about other keys too: one error is the answer for all of them.
    Together,
    /// By one command of a transaction.
    Queued,
}

/// A request and what became of it.
#[derive(Clone, Debug)]
pub struct Event {
    pub asked: Asked,
    pub client: u64,
    pub node: usize,
    /// The connection, and a number that is greater for what was sent later on it.
    pub order: (u64, usize),
    pub manner: Manner,
    /// The place of the first event of the same request.
    pub first: usize,
    pub began_us: u64,
    /// When the answer came.
    pub ended_us: Option<u64>,
    /// The answer; none came as long as there is none.
    pub answer: Option<Value>,
}

impl Event {
    /// True when it was said that nothing was done.
    pub fn is_refused(&self) -> bool {
        match &self.answer {
            Some(Value::Int(0)) => matches!(self.asked.what, What::Copy(_)),
            Some(Value::Null) => self.found_something() || matches!(self.asked.what, What::Swap(_)),
            // Some slots may have been emptied, some keys written, before another could not be.
            _ if self.asked.what == What::Flush || self.manner == Manner::Together => false,
            Some(Value::Error(text)) => {
                let is_queued = self.manner == Manner::Queued;
                text.starts_with(b"CLUSTERDOWN") || is_queued && !text.starts_with(b"TIMEOUT")
            }
            _ => false,
        }
    }

    /// True when it was said that there is nothing to copy.
    pub fn found_no_source(&self) -> bool {
        match (self.asked.what, &self.answer) {
            (What::Copy(_), Some(Value::Int(0))) => true,
            (What::Rename(_), Some(Value::Error(text))) => text.starts_with(b"ERR no such key"),
            _ => false,
        }
    }

    /// True when it was said that something was there already.
    pub fn found_something(&self) -> bool {
        matches!((self.asked.what, &self.answer), (What::SetNew(_), Some(Value::Null)))
    }

    /// True when it is known to have taken effect before the other: it was done before that was asked for, or it was
    /// sent before it on one connection, and not both only read.
    pub fn precedes(&self, other: &Event) -> bool {
        let (connection, sent) = self.order;
        let is_sent_before = connection == other.order.0 && sent < other.order.1;
        let keeps_order = || is_sent_before && (self.asked.writes() || other.asked.writes());
        self.done_us().is_some_and(|us| us < other.began_us || keeps_order())
    }

    /// When it was known to be done; `None` when that is not known, or it was not.
    pub fn done_us(&self) -> Option<u64> {
        match self.answer {
            Some(Value::Error(_)) | None => None,
            Some(_) if self.is_refused() => None,
            Some(_) => self.ended_us,
        }
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let answer = match &self.answer {
            None => "no answer".to_owned(),
            Some(Value::Error(text)) => format!("-{}", String::from_utf8_lossy(text)),
            Some(Value::Bulk(text) | Value::Simple(text)) => String::from_utf8_lossy(text).into_owned(),
            Some(value) => format!("{value:?}"),
        };
        let ended = self.ended_us.map_or("never".to_owned(), |us| format!("{:.6}", us as f64 / 1e6));
        let (began, key) = (self.began_us as f64 / 1e6, self.asked.key());
        write!(
            f,
            "{began:.6}..{ended} client {} node {} {key} {:?}: {answer}",
            self.client,
            self.node + 1,
            self.asked.what
        )
    }
}

/// All that was asked.
#[derive(Default)]
pub struct History {
    pub(super) events: Vec<Event>,
}

impl History {
    /// Notes that something is asked; gives its place.
    pub fn note(&mut self, event: Event) -> usize {
        self.events.push(event);
        self.events.len() - 1
    }

    /// Notes the answer.
    pub fn answer(&mut self, place: usize, now_us: u64, value: Value) {
        let event = &mut self.events[place];
        (event.ended_us, event.answer) = (Some(now_us), Some(value));
        tracing::debug!("{event}");
    }

    /// True when the last request was done.
    pub fn last_is_answered(&self) -> bool {
        self.events.last().is_some_and(|event| event.done_us().is_some())
    }

    /// How many were asked, and how many done.
    pub fn counts(&self) -> (usize, usize) {
        (self.events.len(), self.events.iter().filter(|event| event.done_us().is_some()).count())
    }

    /// A number that differs when anything in it does.
    pub fn digest(&self) -> u64 {
        let text: String = self.events.iter().map(|event| event.to_string()).collect();
        xxhash_rust::xxh3::xxh3_64(text.as_bytes())
    }
}

/// The number that a reply gives.
pub fn text_of(value: &Value) -> Option<u64> {
    match value {
        Value::Bulk(bytes) | Value::Simple(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}
