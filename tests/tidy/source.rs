//! A source file, prepared for searching: read once, then *blanked*, that is, comments and literals become spaces of
//! the same length, so that words can be looked for and braces counted without parsing Rust.

use std::fs;
use std::path::{Path, PathBuf};

/// One source file, read and prepared.
pub struct Source {
    /// Relative to the crate's root, with forward slashes.
    pub path: String,
    pub text: String,
    /// As long as `text`, line for line; comments and literals are spaces.
    pub blank: String,
    /// Byte ranges of inline `#[cfg(test)]` modules.
    pub tests: Vec<(usize, usize)>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let blank = blank(text);
        let tests = test_modules(&blank);
        Source { path: path.to_owned(), text: text.to_owned(), blank, tests }
    }

    fn line_of(&self, at: usize) -> usize {
        self.text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1
    }

    pub fn in_tests(&self, at: usize) -> bool {
        self.tests.iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    pub fn complain(&self, at: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, self.line_of(at))
    }

    /// The module path of this file: `src/store/slot.rs` is `["store", "slot"]`, `src/lib.rs` is `[]`.
    pub fn module(&self) -> Vec<String> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut path: Vec<String> = inner.split('/').map(str::to_owned).collect();
        if matches!(path.last().map(String::as_str), Some("mod" | "lib")) {
            path.pop();
        }
        path
    }
}

/// Replaces comments, strings and characters by spaces; newlines stay, so offsets and lines are the same.
pub fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n").unwrap_or(bytes.len()),
            b'/' if bytes[at..].starts_with(b"/*") => end_of_block_comment(bytes, at),
            b'"' => end_of_string(bytes, at),
            b'r' if !at.checked_sub(1).is_some_and(|before| is_word(bytes[before]) && bytes[before] != b'b') => {
                end_of_raw_string(bytes, at)
            }
            b'\'' => end_of_char(bytes, at),
            _ => at,
        };
        for b in &mut out[at..end] {
            if *b != b'\n' {
                *b = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes[from..].windows(what.len()).position(|w| w == what).map(|p| from + p)
}

pub fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

fn end_of_block_comment(bytes: &[u8], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at.min(bytes.len())
}

fn end_of_string(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// `from` when what stands there is no raw string.
fn end_of_raw_string(bytes: &[u8], from: usize) -> usize {
    let hashes = bytes[from + 1..].iter().take_while(|b| **b == b'#').count();
    if bytes.get(from + 1 + hashes) != Some(&b'"') {
        return from;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    find(bytes, from + 2 + hashes, &close).map_or(bytes.len(), |at| at + close.len())
}

/// `from` when the quote opens a lifetime.
fn end_of_char(bytes: &[u8], from: usize) -> usize {
    match bytes.get(from + 1) {
        Some(b'\\') => find(bytes, from + 3, b"'").map_or(bytes.len(), |at| at + 1),
        Some(_) => {
            let width = (1..=4).find(|n| bytes.get(from + 1 + n) == Some(&b'\''));
            match width {
                Some(n) if n == 1 || !bytes[from + 1].is_ascii() => from + n + 2,
                _ => from,
            }
        }
        None => from,
    }
}

/// Where the brace that opens at or after `from` closes (one past it); `None` when a `;` comes first.
pub fn end_of_block(blank: &str, from: usize) -> Option<usize> {
    let bytes = blank.as_bytes();
    let (mut depth, mut nested) = (0usize, 0usize);
    for (at, b) in bytes.iter().enumerate().skip(from) {
        match b {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested = nested.saturating_sub(1),
            b';' if depth == 0 && nested == 0 => return None,
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Offsets at which `word` stands alone in `text`.
pub fn words(text: &str, word: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let apart = |at: usize| {
        let before = at.checked_sub(1).is_none_or(|i| !is_word(bytes[i]) || !is_word(word.as_bytes()[0]));
        let last = word.as_bytes()[word.len() - 1];
        let after = bytes.get(at + word.len()).is_none_or(|b| !is_word(*b) || !is_word(last));
        before && after
    };
    text.match_indices(word).map(|(at, _)| at).filter(|at| apart(*at)).collect()
}

fn test_modules(blank: &str) -> Vec<(usize, usize)> {
    let marks = blank.match_indices("#[cfg(test)]").map(|(at, mark)| (at, at + mark.len()));
    marks.filter_map(|(at, after)| end_of_block(blank, after).map(|end| (at, end))).collect()
}

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

pub fn read_all(dir: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join(dir), &mut files);
    let relative = |path: &Path| path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
    files.iter().map(|path| Source::new(&relative(path), &fs::read_to_string(path).unwrap())).collect()
}
