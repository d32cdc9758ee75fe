//! Any bytes, split anywhere, mean the same requests; and what was understood can be said again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rondo::protocol::client::encode_command;
use rondo::protocol::{Limits, ProtocolError, Scan, Scanner};

/// What one connection made of its bytes.
#[derive(PartialEq, Eq, Debug, Default)]
struct Heard {
    requests: Vec<Vec<Vec<u8>>>,
    error: Option<ProtocolError>,
    left: usize,
}

/// Feeds `bytes` to one scanner in pieces that end at `ends`, which grow.
fn hear(bytes: &[u8], ends: impl Iterator<Item = usize>, limits: &Limits) -> Heard {
    let (mut scanner, mut start, mut heard) = (Scanner::new(), 0, Heard::default());
    for end in ends {
        loop {
            let buf = &bytes[start..end];
            let consumed = match scanner.scan(buf, limits) {
                Ok(Scan::Incomplete) => break assert!(scanner.missing_bytes() > 0),
                Ok(Scan::Empty { consumed }) => consumed,
                Ok(Scan::Request { consumed }) => {
                    let args = scanner.args(buf);
                    assert!(!args.is_empty() && args.iter().count() == args.len());
                    heard.requests.push(args.iter().map(<[u8]>::to_vec).collect());
                    consumed
                }
                Err(error) => return Heard { error: Some(error), ..heard },
            };
            assert!(0 < consumed && consumed <= buf.len());
            start += consumed;
        }
    }
    heard.left = bytes.len() - start;
    heard
}

fuzz_target!(|input: (Vec<u16>, &[u8])| {
    let (splits, bytes) = input;
    let mut ends: Vec<usize> = splits.iter().map(|split| usize::from(*split) % (bytes.len() + 1)).collect();
    ends.sort_unstable();
    let small =
        Limits { args_max: 4, bulk_bytes_max: 30, inline_bytes_max: 16, request_bytes_max: 80, authenticated: true };
    for limits in [Limits::default(), Limits::unauthenticated(), small] {
        let whole = hear(bytes, [bytes.len()].into_iter(), &limits);
        assert_eq!(hear(bytes, ends.iter().copied().chain([bytes.len()]), &limits), whole);
        assert_eq!(hear(bytes, 0..=bytes.len(), &limits), whole);

        let mut again = Vec::new();
        whole.requests.iter().for_each(|args| encode_command(&mut again, args));
        let said = Heard { requests: whole.requests, error: None, left: 0 };
        assert_eq!(hear(&again, [again.len()].into_iter(), &Limits::default()), said);
    }
});
