//! The table as a page for people: `OPTIONS.md`, which rustdoc shows with this module.
//!
//! A test compares the file with [`markdown`], so the page cannot fall behind the table.

use super::compat::{FIXED, REFUSED};
use super::kind::Kind;
use super::table::{OPTIONS, Opt};
use std::fmt::Write;

const INTRODUCTION: &str = "# Options

Every option is a flag (`--maxmemory 1gb`), a line of a file (`maxmemory 1gb`), an environment variable
(`RONDO_MAXMEMORY=1gb`) and a name for CONFIG GET; those marked *live* may be changed by CONFIG SET. A flag wins over the
environment, the environment over the file, the file over the default.

Sizes may have a unit: `k` `m` `g` are powers of 1000, `kb` `mb` `gb` of 1024. Times are milliseconds, or have one of the
units `ms` `s` `m` `h` `d`. A file is written like redis.conf: comments begin with `#`, words with blanks are quoted,
`include FILE` reads another one.
";

const FIXED_INTRODUCTION: &str = "
## Fixed answers

What clients written for Redis ask with CONFIG GET and what cannot be changed here. Other options of Redis are accepted
and skipped with one warning; those marked *refused* keep the node from starting, because they promise a protection
that it does not have.

| option | answer | why |
|---|---|---|
";

/// The page.
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut section = None;
    for opt in OPTIONS {
        if section != Some(opt.section) {
            section = Some(opt.section);
            let title = opt.section.title();
            page += &format!("\n## {title}\n\n| option | value | default | live | |\n|---|---|---|---|---|\n");
        }
        page += &row(opt);
    }
    page += FIXED_INTRODUCTION;
    for fixed in FIXED {
        page += &format!("| `{}` | {} | {} |\n", fixed.name, code(fixed.value), fixed.why);
    }
    for refused in REFUSED {
        page += &format!("| `{}` | *refused* | {} |\n", refused.name, refused.why);
    }
    page
}

fn row(opt: &Opt) -> String {
    let mut kind = format!("`{}`", opt.kind.placeholder().replace('|', "\\|"));
    if let Kind::Int { min, max } = opt.kind {
        match max {
            _ if max >= i64::from(i32::MAX) => _ = write!(kind, " from {min}"),
            _ => _ = write!(kind, " {min} to {max}"),
        }
    }
    let live = if opt.live { "live" } else { "" };
    format!("| `{}` | {kind} | {} | {live} | {} |\n", opt.name, code(opt.default), opt.help)
}

fn code(text: &str) -> String {
    if text.is_empty() { "empty".to_owned() } else { format!("`{text}`") }
}
