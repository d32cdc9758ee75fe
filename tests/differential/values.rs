//! The random values behind the `$name`s of `table.rs`.
//!
//! Chosen so that keys collide, types collide, encodings change, and numbers hit their edges; and so that both servers
//! must agree: a deadline is far ahead or past, since the two see a command a moment apart, and no offset makes a
//! string of more than a few kilobytes without being refused for its size.

use crate::support::random::Random;
use crate::table::Family;

/// The first deadline that is surely far ahead, in seconds since 1970 (2050).
const FAR: u64 = 2_524_608_000;

/// Spelled oddly, or at the edge of something.
const ODD: &[&[u8]] = &[
    b"",
    b"-1",
    b"0",
    b"-0",
    b"+1",
    b" 1",
    b"1 ",
    b"01",
    b"1.0",
    b"1e2",
    b"0x1f",
    b"nan",
    b"-inf",
    b"abc",
    b"(",
    b"*",
    b"[",
    b"\x00\xff\r\n",
    b"4294967296",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551616",
    b"3.0e-320",
    b"1e400",
    b"NX",
    b"EX",
    b"GET",
    b"HELP",
];

const TAGS: &[&str] = &["{a}", "{b}", "{a b\u{1}}"];

/// Keys without a tag, each of a slot of its own.
const PLAIN_KEYS: &[&[u8]] = &[b"", b"k", b"{}x", b"a{", b"}{", b"with space", b"\x00\xff\xfe\r\n", b"7", b"{x}{y}"];

/// One of few keys, mostly of a type that the command is for.
fn key(random: &mut Random, family: Family) -> Vec<u8> {
    if random.chance(8) {
        return random.pick(PLAIN_KEYS).to_vec();
    }
    let tag = random.pick::<&str>(TAGS);
    let letters: &[&str] = match family {
        Family::String => &["s"],
        Family::Number => &["n", "n", "n", "c"],
        Family::Hash => &["h"],
        Family::Set => &["e"],
        Family::Any => &["s", "h", "e", "n"],
    };
    let letter = if random.chance(6) { *random.pick(&["s", "h", "e", "n", "x"]) } else { *random.pick(letters) };
    format!("{letter}{tag}{}", random.below(3)).into_bytes()
}

/// The kinds that are one of a few texts.
const TEXTS: &[(&str, &[&str])] = &[
    ("f", &["1.5", "-0.25", "0", "3.0e3", "1e10", "1e-5", "123456789.123456789", "1e308", "inf", "abc"]),
    ("b", &["0", "1", "0", "1", "0", "1", "2", "-1", "x"]),
    ("db", &["0", "0", "0", "1", "2", "15", "16", "-1", "abc"]),
    ("fld", &["f0", "f1", "f2", "f3", "f4", "f5", "1", "2", "", "field with space", "\u{0}\r\n"]),
    ("m", &["m0", "m1", "m2", "m3", "m4", "1", "2", "3", "-7", "", "01", "9223372036854775807", "\u{0}"]),
    ("type", &["i5", "u8", "u4", "i8", "i64", "u63", "u1", "i16"]),
    ("wrong type", &["u64", "i0", "i65", "x8", "u", "", "U8", "i-1"]),
    ("place", &["0", "1", "7", "#0", "#1", "#3", "100", "#20"]),
    ("wrong place", &["-1", "#-1", "abc", "#", "", "+1", "4294967296"]),
    (
        "pat",
        &["*", "*{a}*", "s*", "[eh]*", "[^s]*", "s?a?[0-1]", "f?", "m*", "", "\\*", "[a-", "*\u{0}*", "k", "[1-3]"],
    ),
    ("word", &["FOO", "GETT", "set\n", "", "config|get", "HGETALLX", "ZFOO", "a-very-long-name-that-no-command-has"]),
];

/// A value of the kind `name`.
pub fn draw(name: &str, random: &mut Random, family: Family) -> Vec<u8> {
    match name {
        "k" => key(random, family),
        "v" => value(random),
        "ab" => letters(random, b"ab", 40),
        "i" => integer(random),
        "num" => mostly(90, random, 0, 30),
        "off" => mostly(95, random, 0, 80),
        "idx" => mostly(95, random, -30, 30),
        "bit" => mostly(95, random, 0, 300),
        "cnt" => mostly(90, random, -5, 12),
        "sec" => seconds(random),
        "ms" => milliseconds(random),
        "far" => far(random, 1),
        "farms" => far(random, 1000),
        "at" => deadline(random, 1),
        "atms" => deadline(random, 1000),
        "odd" => odd(random),
        "bft" if random.chance(92) => draw("type", random, family),
        "bft" => draw("wrong type", random, family),
        "bfo" if random.chance(92) => draw("place", random, family),
        "bfo" => draw("wrong place", random, family),
        _ => match TEXTS.iter().find(|(kind, _)| *kind == name) {
            Some((_, texts)) => text(random, texts),
            None => panic!("the table says ${name}, which has no values"),
        },
    }
}

fn mostly(percent: usize, random: &mut Random, from: i64, to: i64) -> Vec<u8> {
    if random.chance(percent) { small(random, from, to) } else { odd(random) }
}

/// Something that fits nowhere or just barely.
pub fn odd(random: &mut Random) -> Vec<u8> {
    random.pick(ODD).to_vec()
}

fn text(random: &mut Random, from: &[&str]) -> Vec<u8> {
    random.pick(from).as_bytes().to_vec()
}

fn small(random: &mut Random, from: i64, to: i64) -> Vec<u8> {
    (from + random.below((to - from + 1) as usize) as i64).to_string().into_bytes()
}

fn letters(random: &mut Random, of: &[u8], len_max: usize) -> Vec<u8> {
    (0..random.below(len_max + 1)).map(|_| *random.pick(of)).collect()
}

fn integer(random: &mut Random) -> Vec<u8> {
    match random.below(20) {
        0 => text(
            random,
            &["9223372036854775807", "-9223372036854775808", "9223372036854775800", "-9223372036854775800"],
        ),
        1 => odd(random),
        2..=5 => small(random, 9_990, 10_010),
        _ => small(random, -1_000, 1_000),
    }
}

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(40) {
        0 => Vec::new(),
        1..=7 => integer(random),
        8..=10 => text(random, &["3.14", "1e3", "-0.5", "10.0", "5.", "1.7976931348623157e308", "123456789012345678"]),
        // Around the lengths where redis-server changes an encoding.
        11 => vec![b'x'; *random.pick(&[20, 21, 43, 44, 45, 46, 63, 64, 65, 66])],
        12 => (0..random.below(24)).map(|_| random.next() as u8).collect(),
        13 if random.chance(10) => vec![b'y'; 5_000],
        _ => letters(random, b"abcde fgh", 30),
    }
}

fn seconds(random: &mut Random) -> Vec<u8> {
    match random.below(20) {
        0 => text(random, &["0", "-1", "-100", "-9223372036854775808"]),
        1 => text(random, &["9223372036854775807", "9223372036854775", "9223372036854776", "abc", "1.5", ""]),
        _ => small(random, 1_000, 100_000_000),
    }
}

fn milliseconds(random: &mut Random) -> Vec<u8> {
    match random.below(20) {
        0 => text(random, &["0", "-1", "-100", "-9223372036854775808"]),
        1 => text(random, &["9223372036854775807", "abc", "1.5", ""]),
        _ => small(random, 1_000_000, 100_000_000_000),
    }
}

fn deadline(random: &mut Random, per_second: u64) -> Vec<u8> {
    match random.below(20) {
        0 => text(random, &["1", "1000", "0", "-1"]),
        1 => text(random, &["9223372036854775807", "9223372036854775", "abc", ""]),
        _ => far(random, per_second),
    }
}

fn far(random: &mut Random, per_second: u64) -> Vec<u8> {
    ((FAR + random.below(1_000_000_000) as u64) * per_second).to_string().into_bytes()
}

/// Moves a lifetime that chance has put between now and a while ahead to far ahead (see the head of this file).
pub fn keep_lifetimes_far(args: &mut [Vec<u8>]) {
    let Some((name, rest)) = args.split_first_mut() else { return };
    let (first, per_second) = match name.to_ascii_uppercase().as_slice() {
        b"SET" => (2, 1_000),
        b"GETEX" => (1, 1_000),
        b"SETEX" | b"EXPIRE" => (1, 1),
        b"PSETEX" | b"PEXPIRE" => (1, 1_000),
        _ => return,
    };
    for arg in rest.iter_mut().skip(first) {
        let number = std::str::from_utf8(arg).ok().and_then(|text| text.parse::<i64>().ok());
        if number.is_some_and(|n| (1..1_000 * per_second).contains(&n)) {
            // redis-server counts a key that SET stores with a past deadline until it is touched: that far, too.
            arg.extend_from_slice(if first == 2 { b"000000000000" } else { b"000000" });
        }
    }
}
