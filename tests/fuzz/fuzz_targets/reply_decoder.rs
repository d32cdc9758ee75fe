//! Any bytes that a server may send: no panic, the same end wherever they are split, and a value for each whole reply.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rondo::protocol::client::{ReplyDecoder, ReplyLimits, ReplyScanner};

fuzz_target!(|bytes: &[u8]| {
    let small = ReplyLimits { line_bytes_max: 8, bulk_bytes_max: 20, elements_max: 6, reply_bytes_max: 60 };
    for limits in [ReplyLimits::default(), small] {
        let whole = ReplyScanner::new(limits).scan(bytes);
        let mut scanner = ReplyScanner::new(limits);
        let split = (0..=bytes.len()).map(|end| scanner.scan(&bytes[..end])).find(|found| !matches!(found, Ok(None)));
        assert_eq!(split.unwrap_or(Ok(None)), whole);
        let value = ReplyDecoder::new(limits).decode(bytes);
        assert_eq!(
            value.map(|found| found.map(|(_, consumed)| consumed)),
            whole.map(|found| found.map(|found| found.consumed))
        );
    }
});
