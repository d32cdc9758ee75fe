//! What holds for all bytes: our scanner against redis-protocol's decoder, our reply writer against its frames, and no
//! outcome that depends on how bytes were split.
//!
//! proptest prints a failing case in its smallest form and keeps its seed in `proptest-regressions/`.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use redis_protocol::resp2::types::OwnedFrame as Frame2;
use redis_protocol::resp3::types::OwnedFrame as Frame3;
use redis_protocol::{resp2, resp3};

use super::client::{ReplyDecoder, ReplyScanner, Value, encode_command};
use super::{Limits, Proto, ProtocolError, Reply, Scan, Scanner};

/// What one connection made of its bytes: the requests in order, the error if there was one, and the bytes left over.
#[derive(PartialEq, Eq, Debug, Default)]
struct Heard {
    requests: Vec<Vec<Vec<u8>>>,
    error: Option<ProtocolError>,
    left: usize,
}

/// Feeds `bytes` to a scanner in pieces that end at `ends` and at the end.
fn hear(bytes: &[u8], ends: &[usize], limits: &Limits) -> Heard {
    let (mut scanner, mut start, mut heard) = (Scanner::new(), 0, Heard::default());
    let mut ends: Vec<usize> = ends.iter().map(|end| end % (bytes.len() + 1)).chain([bytes.len()]).collect();
    ends.sort_unstable();
    for end in ends {
        loop {
            let buf = &bytes[start..end];
            match scanner.scan(buf, limits) {
                Ok(Scan::Incomplete) => break,
                Ok(Scan::Request { consumed }) => {
                    let args = scanner.args(buf);
                    assert!(!args.is_empty() && args.len() == args.iter().count());
                    heard.requests.push(args.iter().map(<[u8]>::to_vec).collect());
                    assert!((1..=buf.len()).contains(&consumed));
                    start += consumed;
                }
                Ok(Scan::Empty { consumed }) => {
                    assert!((1..=buf.len()).contains(&consumed));
                    start += consumed;
                }
                Err(error) => return Heard { error: Some(error), ..heard },
            }
        }
    }
    heard.left = bytes.len() - start;
    heard
}

/// Byte strings, half of them made of what the protocol itself is made of.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..40), vec(prop::sample::select(b"*$\r\n0123 \"'\\x\0".to_vec()), 0..40)]
}

fn command() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(prop_oneof![9 => text(), 1 => vec(Just(b'v'), 0..20_000)], 1..12)
}

/// Streams that are nearly requests.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        command().prop_map(|args| encoded(&[args])),
        "[A-Z]{1,5}( [a-z\"'\\\\x0-9]{0,6}){0,3}\r?\n".prop_map(String::into_bytes),
        "\\*-?[0-9]{0,4}\r\n".prop_map(String::into_bytes),
        "\\$-?[0-9]{0,2}\r\n[a-z]{0,9}\r\n".prop_map(String::into_bytes),
        text(),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn encoded(commands: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for args in commands {
        encode_command(&mut bytes, args);
    }
    bytes
}

/// The same pipeline as redis-protocol reads it.
fn decoded(mut bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut commands = Vec::new();
    while let Some((frame, consumed)) = resp2::decode::decode(bytes).expect("valid requests") {
        let Frame2::Array(args) = frame else { panic!("{frame:?}") };
        let arg = |frame| match frame {
            Frame2::BulkString(arg) => arg,
            other => panic!("{other:?}"),
        };
        commands.push(args.into_iter().map(arg).collect());
        bytes = &bytes[consumed..];
    }
    assert!(bytes.is_empty());
    commands
}

proptest! {
    #[test]
    fn requests_are_what_redis_protocol_reads(commands in vec(command(), 1..6), ends in vec(any::<usize>(), 0..20)) {
        let bytes = encoded(&commands);
        let requests = decoded(&bytes);
        prop_assert_eq!(&requests, &commands);
        prop_assert_eq!(hear(&bytes, &ends, &Limits::default()), Heard { requests, error: None, left: 0 });
    }

    #[test]
    fn requests_may_arrive_byte_by_byte(commands in vec(vec(text(), 1..12), 1..4)) {
        let bytes = encoded(&commands);
        let ends: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(hear(&bytes, &ends, &Limits::default()), Heard { requests: commands, error: None, left: 0 });
    }

    #[test]
    fn any_bytes_have_one_outcome(bytes in stream(), ends in vec(any::<usize>(), 0..40)) {
        for limits in [
            Limits::default(),
            Limits::unauthenticated(),
            Limits { args_max: 3, bulk_bytes_max: 20, inline_bytes_max: 12, request_bytes_max: 60, authenticated: true },
        ] {
            prop_assert_eq!(hear(&bytes, &ends, &limits), hear(&bytes, &[], &limits));
        }
    }

    #[test]
    fn quoted_words_come_out_whole(args in vec(text(), 1..6), gap in "[ \t\x0b]{1,3}") {
        let quote = |arg: &Vec<u8>| format!("\"{}\"", arg.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>());
        let line = args.iter().map(quote).collect::<Vec<_>>().join(&gap) + "\r\n";
        prop_assert_eq!(hear(line.as_bytes(), &[], &Limits::default()), Heard { requests: vec![args], error: None, left: 0 });
    }

    #[test]
    fn any_reply_has_one_outcome(bytes in vec(reply_piece(), 0..8), end in any::<usize>()) {
        let bytes = bytes.concat();
        let end = end % (bytes.len() + 1);
        let whole = ReplyScanner::default().scan(&bytes);
        let mut scanner = ReplyScanner::default();
        let split = match scanner.scan(&bytes[..end]) {
            Ok(None) => scanner.scan(&bytes),
            found => found,
        };
        prop_assert_eq!(whole, split);
        if let Ok(Some(found)) = whole {
            prop_assert!((1..=bytes.len()).contains(&found.consumed));
            let value = ReplyDecoder::default().decode(&bytes);
            prop_assert!(matches!(value, Ok(Some((_, consumed))) if consumed == found.consumed), "{:?}", value);
        }
    }

    #[test]
    fn replies_are_what_redis_protocol_reads(model in model()) {
        let mut buf = Vec::new();
        model.write(&mut Reply::new(&mut buf, Proto::Resp2));
        let (frame, consumed) = resp2::decode::decode(&buf).expect("valid RESP2").expect("whole");
        prop_assert_eq!(consumed, buf.len());
        prop_assert!(model.is_resp2(&frame), "{:?}", frame);

        buf.clear();
        model.write(&mut Reply::new(&mut buf, Proto::Resp3));
        let (frame, consumed) = resp3::decode::complete::decode(&buf).expect("valid RESP3").expect("whole");
        prop_assert_eq!(consumed, buf.len());
        prop_assert!(model.is_resp3(&frame), "{:?}", frame);
        prop_assert_eq!(ReplyDecoder::default().decode(&buf), Ok(Some((model.value(), buf.len()))));
    }
}

/// Pieces of replies, most of them right.
fn reply_piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[-+:,(_#][0-9a-z]{0,4}\r\n".prop_map(String::into_bytes),
        "[*%~>|][0-4]\r\n".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..12).prop_map(|text| [format!("${}\r\n", text.len()).as_bytes(), &text, b"\r\n"].concat()),
        text(),
    ]
}

/// A reply as a command means it.
#[derive(Clone, Debug)]
enum Model {
    Ok,
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    BulkInt(i64),
    Null,
    NullArray,
    Double(f64),
    Verbatim(String),
    Array(Vec<Model>),
    Push(Vec<Model>),
    Set(Vec<i64>),
    Map(BTreeMap<Vec<u8>, Model>),
}

fn model() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![
        Just(Model::Ok),
        "[ -~]{0,20}".prop_map(Model::Simple),
        "[A-Z]{1,9} [ -~]{0,20}".prop_map(Model::Error),
        any::<i64>().prop_map(Model::Int),
        (0..100i64).prop_map(Model::Int),
        text().prop_map(Model::Bulk),
        any::<i64>().prop_map(Model::BulkInt),
        Just(Model::Null),
        Just(Model::NullArray),
        any::<f64>().prop_filter("NaN is not equal to itself", |value| !value.is_nan()).prop_map(Model::Double),
        "[ -~\r\n]{0,20}".prop_map(Model::Verbatim),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..12).prop_map(Model::Array),
            vec(inner.clone(), 0..4).prop_map(Model::Push),
            btree_set(any::<i64>(), 0..6).prop_map(|set| Model::Set(set.into_iter().collect())),
            btree_map(text(), inner, 0..6).prop_map(Model::Map),
        ]
    })
}

impl Model {
    fn write(&self, reply: &mut Reply<'_>) {
        match self {
            Model::Ok => reply.ok(),
            Model::Simple(text) => reply.simple(text),
            Model::Error(text) => reply.error(text),
            Model::Int(value) => reply.int(*value),
            Model::Bulk(text) => reply.bulk(text),
            Model::BulkInt(value) => reply.bulk_int(*value),
            Model::Null => reply.null(),
            Model::NullArray => reply.null_array(),
            Model::Double(value) => reply.double(*value),
            Model::Verbatim(text) => reply.verbatim(b"txt", text.as_bytes()),
            Model::Array(models) => {
                reply.array(models.len());
                models.iter().for_each(|model| model.write(reply));
            }
            Model::Push(models) => {
                reply.push(models.len());
                models.iter().for_each(|model| model.write(reply));
            }
            Model::Set(values) => {
                reply.set(values.len());
                values.iter().for_each(|value| reply.int(*value));
            }
            Model::Map(pairs) => {
                reply.map(pairs.len());
                for (key, model) in pairs {
                    reply.bulk(key);
                    model.write(reply);
                }
            }
        }
    }

    fn is_resp2(&self, frame: &Frame2) -> bool {
        let all = |models: &[Model], frames: &[Frame2]| {
            models.len() == frames.len() && models.iter().zip(frames).all(|(model, frame)| model.is_resp2(frame))
        };
        match (self, frame) {
            (Model::Ok, Frame2::SimpleString(read)) => read == b"OK",
            (Model::Simple(text), Frame2::SimpleString(read)) => read == text.as_bytes(),
            (Model::Error(text), Frame2::Error(read)) => read == text,
            (Model::Int(value), Frame2::Integer(read)) => read == value,
            (Model::Bulk(text), Frame2::BulkString(read)) => read == text,
            (Model::BulkInt(value), Frame2::BulkString(read)) => *read == value.to_string().into_bytes(),
            (Model::Verbatim(text), Frame2::BulkString(read)) => read == text.as_bytes(),
            (Model::Double(value), Frame2::BulkString(read)) => {
                String::from_utf8_lossy(read).parse::<f64>().is_ok_and(|read| read == *value)
            }
            (Model::Null | Model::NullArray, Frame2::Null) => true,
            (Model::Array(models) | Model::Push(models), Frame2::Array(frames)) => all(models, frames),
            (Model::Set(values), Frame2::Array(frames)) => {
                values.iter().map(|value| Frame2::Integer(*value)).eq(frames.iter().cloned())
            }
            (Model::Map(pairs), Frame2::Array(frames)) => {
                let flat: Vec<Model> =
                    pairs.iter().flat_map(|(key, model)| [Model::Bulk(key.clone()), model.clone()]).collect();
                all(&flat, frames)
            }
            _ => false,
        }
    }

    fn is_resp3(&self, frame: &Frame3) -> bool {
        let all = |models: &[Model], frames: &[Frame3]| {
            models.len() == frames.len() && models.iter().zip(frames).all(|(model, frame)| model.is_resp3(frame))
        };
        let key_of = |key: &[u8]| Frame3::BlobString { data: key.to_vec(), attributes: None };
        match (self, frame) {
            (Model::Ok, Frame3::SimpleString { data, .. }) => data == b"OK",
            (Model::Simple(text), Frame3::SimpleString { data, .. }) => data == text.as_bytes(),
            (Model::Error(text), Frame3::SimpleError { data, .. }) => data == text,
            (Model::Int(value), Frame3::Number { data, .. }) => data == value,
            (Model::Bulk(text), Frame3::BlobString { data, .. }) => data == text,
            (Model::BulkInt(value), Frame3::BlobString { data, .. }) => *data == value.to_string().into_bytes(),
            (Model::Verbatim(text), Frame3::VerbatimString { data, .. }) => data == text.as_bytes(),
            (Model::Double(value), Frame3::Double { data, .. }) => data == value,
            (Model::Null | Model::NullArray, Frame3::Null) => true,
            (Model::Array(models), Frame3::Array { data, .. }) => all(models, data),
            (Model::Push(models), Frame3::Push { data, .. }) => all(models, data),
            (Model::Set(values), Frame3::Set { data, .. }) => {
                let has = |value: &i64| data.contains(&Frame3::Number { data: *value, attributes: None });
                values.len() == data.len() && values.iter().all(has)
            }
            (Model::Map(pairs), Frame3::Map { data, .. }) => {
                let has =
                    |(key, model): (&Vec<u8>, &Model)| data.get(&key_of(key)).is_some_and(|read| model.is_resp3(read));
                pairs.len() == data.len() && pairs.iter().all(has)
            }
            _ => false,
        }
    }

    /// What our own decoder should make of it.
    fn value(&self) -> Value {
        let values = |models: &[Model]| models.iter().map(Model::value).collect();
        match self {
            Model::Ok => Value::Simple(b"OK".to_vec()),
            Model::Simple(text) => Value::Simple(text.clone().into_bytes()),
            Model::Error(text) => Value::Error(text.clone().into_bytes()),
            Model::Int(value) => Value::Int(*value),
            Model::Bulk(text) => Value::Bulk(text.clone()),
            Model::BulkInt(value) => Value::Bulk(value.to_string().into_bytes()),
            Model::Null | Model::NullArray => Value::Null,
            Model::Double(value) => Value::Double(*value),
            Model::Verbatim(text) => Value::Verbatim { format: *b"txt", text: text.clone().into_bytes() },
            Model::Array(models) => Value::Array(values(models)),
            Model::Push(models) => Value::Push(values(models)),
            Model::Set(set) => Value::Set(set.iter().map(|value| Value::Int(*value)).collect()),
            Model::Map(pairs) => {
                Value::Map(pairs.iter().map(|(key, model)| (Value::Bulk(key.clone()), model.value())).collect())
            }
        }
    }
}
