//! When are two replies the same? When their bytes are, except for what may truly differ, listed in [`rule`].

use crate::support::resp::Value;

/// How the replies to a command are compared. Errors are always compared byte for byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    Exact,
    /// The elements in any order: hash tables of two servers are walked in their own order.
    AnyOrder,
    /// As `AnyOrder`, for a flat array of pairs.
    PairsInAnyOrder,
    /// Numbers this far apart: the two servers see a relative deadline some milliseconds apart.
    Near(i64),
    /// The same kind and number of elements: what they are is chance, or a matter of the server's own.
    SameShape,
    /// A map in which only the protocol and the role must agree: the rest names the server and the connection.
    Hello,
}

/// The differences that are allowed, each with its reason.
pub fn rule(args: &[Vec<u8>]) -> Rule {
    let name = args.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
    let second = args.get(1).map(|word| word.to_ascii_uppercase()).unwrap_or_default();
    match (name.as_slice(), second.as_slice()) {
        (b"KEYS" | b"SMEMBERS" | b"SINTER" | b"SUNION" | b"SDIFF" | b"HKEYS" | b"HVALS", _) => Rule::AnyOrder,
        (b"HGETALL", _) | (b"CONFIG", b"GET") => Rule::PairsInAnyOrder,
        // A deadline set by a relative lifetime lies as far apart as the two servers received the command.
        (b"TTL" | b"EXPIRETIME", _) => Rule::Near(3),
        (b"PTTL" | b"PEXPIRETIME", _) => Rule::Near(3_000),
        // Chance: any member is right. SPOP is followed by a DEL in the sequence, so that the sets agree again.
        (b"SPOP" | b"SRANDMEMBER" | b"HRANDFIELD" | b"RANDOMKEY", _) => Rule::SameShape,
        // The clock, the connection's number, seconds since the last access, and how many keys share one object.
        (b"TIME", _) | (b"CLIENT", b"ID") | (b"OBJECT", b"IDLETIME" | b"REFCOUNT") => Rule::SameShape,
        // Cursors are a server's own; what a whole scan finds is compared by `Action::ScanAll`.
        (b"SCAN" | b"SSCAN" | b"HSCAN", _) => Rule::SameShape,
        (b"HELLO", _) => Rule::Hello,
        _ => Rule::Exact,
    }
}

/// True when the replies agree. `queued` are the commands of the transaction that an EXEC has run.
pub fn agree(args: &[Vec<u8>], queued: &[Vec<Vec<u8>>], ours: &Value, theirs: &Value) -> bool {
    if ours == theirs {
        return true;
    }
    if ours.is_error() || theirs.is_error() {
        return false;
    }
    if args[0].eq_ignore_ascii_case(b"EXEC") {
        let (Value::Array(ours), Value::Array(theirs)) = (ours, theirs) else { return false };
        let equal_length = ours.len() == theirs.len() && ours.len() == queued.len();
        return equal_length && (0..ours.len()).all(|i| agree(&queued[i], &[], &ours[i], &theirs[i]));
    }
    match rule(args) {
        Rule::Exact => false,
        Rule::AnyOrder => same_elements(ours, theirs),
        Rule::PairsInAnyOrder => same_pairs(ours, theirs),
        Rule::Near(distance) => match (ours, theirs) {
            (Value::Int(a), Value::Int(b)) => *a >= 0 && *b >= 0 && a.abs_diff(*b) <= distance as u64,
            _ => false,
        },
        Rule::SameShape => shape(ours) == shape(theirs),
        Rule::Hello => ["proto", "role"].iter().all(|key| {
            let (a, b) = (field(ours, key), field(theirs, key));
            a.is_some() && a == b
        }),
    }
}

fn same_elements(ours: &Value, theirs: &Value) -> bool {
    let kinds = std::mem::discriminant(ours) == std::mem::discriminant(theirs);
    let sorted = |value: &Value| {
        let mut items = value.items()?.to_vec();
        items.sort();
        Some(items)
    };
    kinds && sorted(ours).is_some() && sorted(ours) == sorted(theirs)
}

fn same_pairs(ours: &Value, theirs: &Value) -> bool {
    let sorted = |value: &Value| {
        let mut pairs: Vec<(Value, Value)> = match value {
            Value::Map(pairs) => pairs.clone(),
            Value::Array(items) if items.len() % 2 == 0 => {
                items.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
            }
            _ => return None,
        };
        pairs.sort();
        Some(pairs)
    };
    let kinds = std::mem::discriminant(ours) == std::mem::discriminant(theirs);
    kinds && sorted(ours).is_some() && sorted(ours) == sorted(theirs)
}

/// Kind and number of elements, two levels deep.
fn shape(value: &Value) -> (u8, Option<usize>, Vec<u8>) {
    let inner = value.items().unwrap_or_default().iter().map(kind).collect();
    (kind(value), value.items().map(<[Value]>::len), inner)
}

fn kind(value: &Value) -> u8 {
    match value {
        Value::Simple(_) => b'+',
        Value::Error(_) => b'-',
        Value::Int(_) => b':',
        Value::Bulk(_) => b'$',
        Value::Null(kind) => kind.as_bytes()[0].wrapping_add(128),
        Value::Array(_) => b'*',
        Value::Map(_) => b'%',
        Value::Set(_) => b'~',
        Value::Push(_) => b'>',
        Value::Double(_) => b',',
        Value::Bool(_) => b'#',
        Value::Verbatim(_) => b'=',
        Value::BigNumber(_) => b'(',
    }
}

fn field(value: &Value, key: &str) -> Option<String> {
    match value {
        Value::Map(pairs) => pairs.iter().find(|(k, _)| k.text().as_deref() == Some(key)).and_then(|(_, v)| v.text()),
        Value::Array(items) => {
            let at = items.iter().position(|item| item.text().as_deref() == Some(key))?;
            items.get(at + 1)?.text()
        }
        _ => None,
    }
}

/// The comparison can say no.
#[test]
fn only_what_may_differ_is_forgiven() {
    let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
    let args = |line: &str| line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    let one_two = Value::Array(vec![bulk("1"), bulk("2")]);
    let two_one = Value::Array(vec![bulk("2"), bulk("1")]);
    assert!(agree(&args("SMEMBERS k"), &[], &one_two, &two_one));
    assert!(!agree(&args("MGET k j"), &[], &one_two, &two_one));
    assert!(!agree(&args("HGETALL k"), &[], &one_two, &two_one));
    assert!(!agree(&args("SMEMBERS k"), &[], &one_two, &Value::Set(vec![bulk("2"), bulk("1")])));
    assert!(agree(&args("TTL k"), &[], &Value::Int(100), &Value::Int(99)));
    assert!(!agree(&args("TTL k"), &[], &Value::Int(0), &Value::Int(-1)));
    assert!(!agree(&args("TTL k"), &[], &Value::Int(100), &Value::Int(90)));
    assert!(agree(&args("SPOP k"), &[], &bulk("a"), &bulk("b")));
    assert!(!agree(&args("SPOP k"), &[], &bulk("a"), &Value::Null("_")));
    assert!(!agree(&args("SPOP k"), &[], &Value::Null("$-1"), &Value::Null("*-1")));
    assert!(!agree(&args("GET k"), &[], &Value::Null("$-1"), &Value::Null("*-1")));
    assert!(!agree(&args("GET k"), &[], &Value::Error(b"ERR a".to_vec()), &Value::Error(b"ERR b".to_vec())));
    let exec = |first: &Value| Value::Array(vec![first.clone(), Value::Int(1)]);
    let queued = [args("SMEMBERS k"), args("SCARD k")];
    assert!(agree(&args("EXEC"), &queued, &exec(&one_two), &exec(&two_one)));
    assert!(!agree(&args("EXEC"), &[args("MGET a b"), args("SCARD k")], &exec(&one_two), &exec(&two_one)));
}
