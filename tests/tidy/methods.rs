//! Calls upwards that no import shows: the `impl` blocks of a type may stand in several layers, and a method in a lower
//! one can call one in a higher one on `self`.
//!
//! How: `self.name(` and `Self::name(` in a block are looked up among the functions of all blocks for a type of that
//! name. A call on anything else is not judged, because its type is not written there; to have a value of a higher
//! layer's type a lower layer has to import it, which is seen.

use std::collections::BTreeMap;

use crate::source::{Source, end_of_block, is_word, words};

/// An `impl` block, of a trait or not.
struct Block<'s> {
    source: &'s Source,
    of: String,
    from: usize,
    to: usize,
}

/// Complains of each call whose function stands in blocks of modules that are all `above` the caller's.
pub fn upward_calls(sources: &[&Source], above: impl Fn(&[String], &[String]) -> bool) -> Vec<String> {
    let blocks: Vec<Block<'_>> = sources.iter().flat_map(|source| blocks(source)).collect();
    let mut homes = BTreeMap::<(String, &str), Vec<Vec<String>>>::new();
    for block in &blocks {
        for at in words(block.text(), "fn") {
            homes.entry((block.of.clone(), word_at(block.text(), at + 2))).or_default().push(block.source.module());
        }
    }
    let mut complaints = Vec::new();
    for block in &blocks {
        let here = block.source.module();
        for (at, name) in block.own_calls() {
            let Some(home) = homes.get(&(block.of.clone(), name)).filter(|all| all.iter().all(|it| above(&here, it)))
            else {
                continue;
            };
            let what = format!("must not call `{}::{name}`, which stands in `{}`", block.of, home[0].join("::"));
            complaints.push(block.source.complain(at, &what));
        }
    }
    complaints
}

impl<'s> Block<'s> {
    fn text(&self) -> &'s str {
        &self.source.blank[self.from..self.to]
    }

    /// What it calls on its own type: where, and the names.
    fn own_calls(&self) -> Vec<(usize, &'s str)> {
        let (text, mut calls) = (self.text(), Vec::new());
        for (word, dot) in [("self", "."), ("Self", "::")] {
            for at in words(text, word) {
                let Some(rest) = text[at + word.len()..].trim_start().strip_prefix(dot) else { continue };
                let name = word_at(rest, 0);
                let behind = &rest[rest.len() - rest.trim_start().len() + name.len()..];
                if behind.starts_with('(') || behind.starts_with("::<") {
                    calls.push((self.from + at, name));
                }
            }
        }
        calls
    }
}

/// The blocks of a file, those of its tests left out.
fn blocks(source: &Source) -> Vec<Block<'_>> {
    let begins_line = |at: &usize| *at == 0 || source.blank[..*at].ends_with('\n');
    let starts = words(&source.blank, "impl").into_iter().filter(|at| begins_line(at) && !source.in_tests(*at));
    let block = |from| {
        let to = end_of_block(&source.blank, from)?;
        let head = source.blank[from..to].split('{').next().unwrap_or_default();
        Some(Block { source, of: type_of(head), from, to })
    };
    starts.filter_map(block).collect()
}

/// The type of a block, the last word of its head outside angle brackets: B for `impl<T: A> B<T>` and `impl<T> A<T> for
/// x::B`.
fn type_of(head: &str) -> String {
    let (mut depth, mut open) = (0, String::new());
    for (at, c) in head.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if !head[..at].ends_with('-') => depth -= 1,
            _ if depth == 0 => open.push(c),
            _ => {}
        }
    }
    let end = words(&open, "where").first().copied().unwrap_or(open.len());
    open[..end].split(|c: char| !is_word(c as u8)).rfind(|word| !word.is_empty()).unwrap_or_default().to_owned()
}

/// The word at an offset or behind the spaces there.
fn word_at(text: &str, at: usize) -> &str {
    let rest = text[at..].trim_start();
    &rest[..rest.bytes().position(|b| !is_word(b)).unwrap_or(rest.len())]
}
