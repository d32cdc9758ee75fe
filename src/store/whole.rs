//! A whole value apart from any key: what RENAME, COPY and the STORE commands put in place of what was there.
//!
//! It is kept as bytes, because a mutation borrows what it carries: a kind, the encoding it is to be shown with, and
//! the string, or the elements behind their number. It says nothing of who wrote an element when: put under a key, all
//! of it is one write of one stamp. Bytes from a peer are walked through once by [`check`] before anything trusts them.
//!
//! [`Encoding`] is what OBJECT ENCODING reports. It is no fact of this store but Redis's word for how a value came
//! about, and it is kept as far as Redis 7.0.15 lets clients see it.

use crate::base::version::Dot;
use crate::base::wire::{Reader, WireError, put_bytes, put_varint};
use crate::store::elements::{Elements, PackLimits};
use crate::store::entry::{Data, Entry, FLAG_RAW, FLAG_TEXT};
use crate::store::hash;
use crate::store::rules::Rules;
use crate::store::value::{Set, Value};

/// The longest string that Redis keeps beside its header, in bytes.
const EMBEDDED_BYTES_MAX: usize = 44;

const STRING: u8 = 0;
const HASH: u8 = 1;
const SET: u8 = 2;

/// How Redis would keep a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// A string that is a whole number.
    Int,
    /// A short string.
    EmbStr,
    /// A long string, or one that was changed in place.
    Raw,
    /// A small hash.
    ListPack,
    /// A large hash or set.
    HashTable,
    /// A small set of whole numbers.
    IntSet,
}

impl Encoding {
    const ALL: [Encoding; 6] =
        [Encoding::Int, Encoding::EmbStr, Encoding::Raw, Encoding::ListPack, Encoding::HashTable, Encoding::IntSet];

    /// The encoding of what an entry holds; `None` for a tombstone.
    pub fn of(entry: &Entry) -> Option<Encoding> {
        Some(match entry.data() {
            Data::Tombstone => return None,
            Data::String(_) if entry.meta().flags & FLAG_RAW != 0 => Encoding::Raw,
            Data::String(bytes) if bytes.len() > EMBEDDED_BYTES_MAX => Encoding::Raw,
            Data::String(_) if entry.meta().flags & FLAG_TEXT != 0 => Encoding::EmbStr,
            Data::String(bytes) if crate::store::canonical_int(bytes).is_some() => Encoding::Int,
            Data::String(_) => Encoding::EmbStr,
            Data::Value(Value::Counter(_)) => Encoding::Int,
            Data::Value(Value::Hash(fields)) if fields.is_packed() => Encoding::ListPack,
            Data::Value(Value::Set(set)) if set.intset => Encoding::IntSet,
            Data::Value(Value::Hash(_) | Value::Set(_)) => Encoding::HashTable,
        })
    }

    /// The name, as OBJECT ENCODING says it.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Int => "int",
            Encoding::EmbStr => "embstr",
            Encoding::Raw => "raw",
            Encoding::ListPack => "listpack",
            Encoding::HashTable => "hashtable",
            Encoding::IntSet => "intset",
        }
    }

    fn code(encoding: Option<Encoding>) -> u8 {
        Self::ALL.iter().position(|known| Some(*known) == encoding).map_or(0, |at| at as u8 + 1)
    }

    fn from_code(code: u8) -> Option<Encoding> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

/// A value made for a key: its content and the entry's flags.
#[derive(Debug)]
pub(super) enum Built<'a> {
    /// A string, and `FLAG_*` bits.
    String(&'a [u8], u8),
    /// Any other type.
    Value(Value),
}

/// A string, shown with `encoding` or with what its bytes ask for.
pub fn string(bytes: &[u8], encoding: Option<Encoding>) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + bytes.len());
    out.extend_from_slice(&[STRING, Encoding::code(encoding)]);
    out.extend_from_slice(bytes);
    out
}

/// A set.
pub fn set<'m>(members: impl ExactSizeIterator<Item = &'m [u8]>, encoding: Option<Encoding>) -> Vec<u8> {
    let mut out = vec![SET, Encoding::code(encoding)];
    put_varint(&mut out, members.len() as u64);
    members.for_each(|member| put_bytes(&mut out, member));
    out
}

/// What an entry holds, with its encoding; `None` for a tombstone.
pub fn of(entry: &Entry) -> Option<Vec<u8>> {
    let encoding = Encoding::of(entry);
    Some(match entry.data() {
        Data::Tombstone => return None,
        Data::String(bytes) => string(bytes, encoding),
        Data::Value(Value::Counter(counter)) => {
            string(itoa::Buffer::new().format(counter.total()).as_bytes(), encoding)
        }
        Data::Value(Value::Set(members)) => {
            let members: Vec<&[u8]> = members.members.iter().map(|element| element.member).collect();
            set(members.into_iter(), encoding)
        }
        Data::Value(Value::Hash(fields)) => {
            let mut out = vec![HASH, Encoding::code(encoding)];
            put_varint(&mut out, fields.len() as u64);
            for element in fields.iter() {
                put_bytes(&mut out, element.member);
                put_bytes(&mut out, &hash::field(element.payload).text());
            }
            out
        }
    })
}

/// Walks through bytes from outside: an error unless they are a value.
pub fn check(whole: &[u8]) -> Result<(), WireError> {
    let mut reader = Reader::new(whole);
    let (kind, _) = (reader.u8()?, reader.u8()?);
    let parts = match kind {
        STRING => return Ok(()),
        HASH => 2,
        SET => 1,
        _ => return Err(WireError),
    };
    let count = reader.varint()?;
    for _ in 0..count.checked_mul(parts).ok_or(WireError)? {
        reader.bytes()?;
    }
    // An empty collection is no value, and nothing may stand behind a full one.
    if count > 0 && reader.is_empty() { Ok(()) } else { Err(WireError) }
}

/// Makes the value, every element under `dot`.
pub(super) fn build<'a>(whole: &'a [u8], dot: Dot, rules: &Rules) -> Result<Built<'a>, WireError> {
    let mut reader = Reader::new(whole);
    let (kind, encoding) = (reader.u8()?, Encoding::from_code(reader.u8()?));
    if kind == STRING {
        let flags = match encoding {
            Some(Encoding::Raw) => FLAG_RAW,
            Some(Encoding::EmbStr) => FLAG_TEXT,
            _ => 0,
        };
        return Ok(Built::String(reader.rest(), flags));
    }
    // What has once become a table stays one under its new name.
    let never = PackLimits { entries_max: 0, member_bytes_max: 0, payload_bytes_max: 0 };
    let limits = match (encoding, kind) {
        (Some(Encoding::HashTable), HASH) => never,
        (_, HASH) => rules.hash,
        _ => rules.set,
    };
    let (mut elements, mut intset) = (Elements::default(), encoding != Some(Encoding::HashTable));
    let count = reader.varint()?;
    for _ in 0..count {
        let member = reader.bytes()?;
        if kind == HASH {
            elements.put(member, dot, &hash::bytes_payload(reader.bytes()?), limits);
        } else {
            elements.put(member, dot, &[], limits);
            intset &= crate::store::canonical_int(member).is_some() && elements.len() <= rules.intset_entries_max;
        }
    }
    Ok(Built::Value(if kind == HASH { Value::Hash(elements) } else { Value::Set(Set { members: elements, intset }) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_made_passes_the_check_and_nonsense_never_panics(members in prop::collection::vec(any::<Vec<u8>>(), 1..9), noise: Vec<u8>) {
            prop_assert!(check(&string(&noise, None)).is_ok());
            let whole = set(members.iter().map(Vec::as_slice), Some(Encoding::HashTable));
            prop_assert!(check(&whole).is_ok());
            prop_assert!(check(&whole[..whole.len() - 1]).is_err() || members.last().is_some_and(Vec::is_empty));
            let _ = check(&noise);
        }
    }

    #[test]
    fn codes_name_encodings() {
        for encoding in Encoding::ALL {
            assert_eq!(Encoding::from_code(Encoding::code(Some(encoding))), Some(encoding));
        }
        assert_eq!((Encoding::from_code(0), Encoding::from_code(99)), (None, None));
    }
}
