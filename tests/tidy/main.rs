//! The rules of this source, as a test.
//!
//! What is checked, over `src/` (and where it makes sense over `tests/`):
//! - parts import strictly downward, by the allow-list [`LAYERS`]; in each folder, files and folders alike import only
//!   those beside them whose `mod` stands before theirs (`orders`), so that there is no circle; nor does a method call
//!   one of its own type that stands where it must not import (`methods`);
//! - every file is reached from `lib.rs` or `main.rs`, opens with a `//!` header and stays within [`FILE_LINES_MAX`];
//! - the table in the head of a folder's `mod.rs` names every file and folder beside it;
//! - no function is longer than [`FUNCTION_LINES_MAX`], and no comment wider than [`COMMENT_COLUMNS_MAX`];
//! - no unfinished work is left behind (`todo!`, notes to self), and nothing of one person's machine;
//! - `unsafe` stands only in [`UNSAFE_FILES`], each use with its proof.
//!
//! How: by searching prepared text (see `source`). Inline test modules are left out of layers and lengths.
//! It deliberately does not judge style: rustfmt and clippy do.

mod methods;
mod orders;
mod rules;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use orders::Orders;
use source::{Source, end_of_block, is_word, read_all, words};

/// Which parts each part may import. What is not listed is refused, so a new part needs its line here.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("protocol", &["base"]),
    ("store", &["base"]),
    ("ring", &["base"]),
    ("membership", &["base"]),
    ("commands", &["base", "protocol", "store"]),
    ("peer", &["base", "store", "ring", "protocol"]),
    ("cluster", &["base", "store", "ring", "membership", "peer"]),
    ("replication", &["base", "protocol", "store", "ring", "membership", "commands", "peer", "cluster"]),
    ("server", &["base", "protocol", "store", "ring", "membership", "commands", "peer", "cluster", "replication"]),
    ("bench", &["base", "protocol", "ring"]),
    (
        "node",
        &["base", "protocol", "store", "ring", "membership", "commands", "peer", "cluster", "replication", "server"],
    ),
    ("cli", &["base", "protocol", "bench", "node", "server"]),
    ("main", &["base", "cli", "bench", "node"]),
];

/// The files that may say `unsafe`, each with a `SAFETY:` comment for every use.
const UNSAFE_FILES: &[&str] = &[
    "src/bench/alarm.rs",
    "src/node/memory.rs",
    "src/node/simulation/os.rs",
    "src/store/entry.rs",
    "src/store/prefetch.rs",
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
/// As `max_width` of rustfmt.toml, which leaves comments as they are.
const COMMENT_COLUMNS_MAX: usize = 120;

/// Words that mark unfinished work.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!", "TODO", "FIXME", "XXX"];

/// What means nothing to a reader elsewhere: paths of one machine, and names that say nothing.
const PRIVATE: &[&str] = &["/work/", "/tmp/", "/root/", "/home/", "helper"];

/// Every `mod name;` of a file: its name and whether it is compiled for tests only.
fn declared_modules(source: &Source) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for at in words(&source.blank, "mod") {
        let rest = &source.blank[at + 3..];
        let Some(end) = rest.find([';', '{']) else { continue };
        if rest.as_bytes()[end] == b';' {
            let before =
                source.blank[..at].trim_end().trim_end_matches("pub(crate)").trim_end_matches("pub").trim_end();
            found.push((rest[..end].trim().to_owned(), before.ends_with("#[cfg(test)]")));
        }
    }
    found
}

/// Module path -> compiled for tests only, for everything that `lib.rs` and `main.rs` reach.
fn reachable(sources: &[Source]) -> BTreeMap<Vec<String>, bool> {
    let by_module: BTreeMap<Vec<String>, &Source> = sources.iter().map(|s| (s.module(), s)).collect();
    let mut reached = BTreeMap::new();
    let mut open = vec![(Vec::new(), false), (vec!["main".to_owned()], false)];
    while let Some((module, test_only)) = open.pop() {
        let Some(source) = by_module.get(&module) else { continue };
        for (name, cfg_test) in declared_modules(source) {
            let parent = if module == ["main"] { &[] } else { module.as_slice() };
            open.push(([parent, &[name]].concat(), test_only || cfg_test));
        }
        reached.insert(module, test_only);
    }
    reached
}

/// Expands what follows `crate::` (or `rondo::` in `main.rs`) into module paths: `a::{b, c::D}` gives `a::b`,
/// `a::c::D`.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim_start();
    if let Some(inner) = tree.strip_prefix('{') {
        let (mut depth, mut from, mut paths) = (0usize, 0usize, Vec::new());
        for (at, b) in inner.bytes().enumerate() {
            match b {
                b'{' => depth += 1,
                b',' | b'}' if depth == 0 => {
                    paths.extend(expand(&inner[from..at]).into_iter().filter(|p| !p.is_empty()));
                    from = at + 1;
                    if b == b'}' {
                        break;
                    }
                }
                b'}' => depth -= 1,
                _ => {}
            }
        }
        return paths;
    }
    let end = tree.bytes().position(|b| !is_word(b)).unwrap_or(tree.len());
    if end == 0 {
        return vec![Vec::new()];
    }
    let head = tree[..end].to_owned();
    let rests = tree[end..].trim_start().strip_prefix("::").map(expand).unwrap_or_else(|| vec![Vec::new()]);
    rests.into_iter().map(|rest| [vec![head.clone()], rest].concat()).collect()
}

/// What a file imports outside its tests, as (offset, module path from the crate's root).
fn imports(source: &Source) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let roots: &[&str] = if source.path == "src/main.rs" { &["crate::", "rondo::"] } else { &["crate::"] };
    for root in roots {
        for at in words(&source.blank, root).into_iter().filter(|at| !source.in_tests(*at)) {
            found.extend(expand(&source.blank[at + root.len()..]).into_iter().map(|path| (at, path)));
        }
    }
    for at in words(&source.blank, "super::").into_iter().filter(|at| !source.in_tests(*at)) {
        let ups = source.blank[..at].rsplit(|c: char| !is_word(c as u8) && c != ':').next().unwrap_or("");
        if ups.is_empty() {
            let tail = &source.blank[at..];
            let steps = tail.split("::").take_while(|part| *part == "super").count();
            let mut parent = source.module();
            parent.truncate(parent.len().saturating_sub(steps));
            let rests = expand(&tail[steps * "super::".len()..]);
            found.extend(rests.into_iter().map(|rest| (at, [parent.clone(), rest].concat())));
        }
    }
    found
}

fn layer_complaints(sources: &[Source]) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let test_only = reachable(sources);
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|s| !test_only.get(&s.module()).copied().unwrap_or(false)) {
        let module = source.module();
        let Some(part) = module.first() else { continue };
        let Some(may) = allowed.get(part.as_str()) else {
            complaints.push(source.complain(0, &format!("part `{part}` has no line in LAYERS (tests/tidy/main.rs)")));
            continue;
        };
        for (at, path) in imports(source) {
            let Some(used) = path.first().filter(|used| allowed.contains_key(used.as_str()) && *used != part) else {
                continue;
            };
            if !may.contains(&used.as_str()) {
                complaints.push(source.complain(at, &format!("`{part}` must not import `{used}`")));
            }
        }
    }
    complaints
}

/// Imports of what is declared behind the importer, in any folder.
fn order_complaints(sources: &[Source]) -> Vec<String> {
    let (test_only, orders) = (reachable(sources), Orders::of(sources));
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|s| !test_only.get(&s.module()).copied().unwrap_or(false)) {
        let here = source.module();
        for (at, path) in imports(source).into_iter().filter(|(_, path)| orders.is_behind(&here, path)) {
            let what = format!("must not import `{}`, which is declared behind it", path.join("::"));
            complaints.push(source.complain(at, &what));
        }
    }
    complaints
}

/// Calls of methods that stand where the caller must not import from.
fn call_complaints(sources: &[Source]) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let (test_only, orders) = (reachable(sources), Orders::of(sources));
    let above = |here: &[String], there: &[String]| match (here.first(), there.first()) {
        (Some(from), Some(to)) if from == to => orders.is_behind(here, there),
        (Some(from), Some(to)) => !allowed.get(from.as_str()).is_some_and(|may| may.contains(&to.as_str())),
        _ => false,
    };
    let judged = sources.iter().filter(|s| !test_only.get(&s.module()).copied().unwrap_or(false));
    methods::upward_calls(&judged.collect::<Vec<_>>(), above)
}

fn length_complaints(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let in_tests: usize = source.tests.iter().map(|(from, to)| source.text[*from..*to].lines().count()).sum();
    let lines = source.text.lines().count() - in_tests;
    if lines > FILE_LINES_MAX {
        complaints.push(source.complain(0, &format!("{lines} lines, {FILE_LINES_MAX} are allowed")));
    }
    for at in words(&source.blank, "fn").into_iter().filter(|at| !source.in_tests(*at)) {
        let Some(end) = end_of_block(&source.blank, at) else { continue };
        let lines = source.text[at..end].lines().count();
        if lines > FUNCTION_LINES_MAX {
            let what = format!("a function of {lines} lines, {FUNCTION_LINES_MAX} are allowed");
            complaints.push(source.complain(at, &what));
        }
    }
    complaints
}

/// Files and folders beside a `mod.rs` that the table in its head does not name; those of tests need not be named.
fn listing_complaints(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for root in sources {
        let Some(folder) = root.path.strip_suffix("/mod.rs") else { continue };
        let head = root.text.lines().take_while(|line| line.starts_with("//!"));
        let cells = head.filter_map(|line| line.strip_prefix("//! | ")?.split(" |").next());
        let named: BTreeSet<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        let paths = sources.iter().filter_map(|s| s.path.strip_prefix(folder)?.strip_prefix('/'));
        let names = paths.filter_map(|path| path.strip_suffix("/mod.rs").or_else(|| path.strip_suffix(".rs")));
        let judged = names.filter(|name| !name.contains('/') && !name.ends_with("tests"));
        for name in judged.filter(|name| !matches!(*name, "mod" | "properties") && !named.contains(name)) {
            complaints.push(root.complain(0, &format!("the table of `{folder}` does not name `{name}`")));
        }
    }
    complaints
}

/// Comments keep to the width that code is laid out in; rows of tables, which cannot be broken, excepted.
fn width_complaints(source: &Source) -> Vec<String> {
    let is_wide = |line: &&str| line.chars().count() > COMMENT_COLUMNS_MAX;
    let is_prose = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("//") && !line.trim_start_matches(['/', '!', ' ']).starts_with('|')
    };
    let wide = source.text.lines().enumerate().filter(|(_, line)| is_prose(line) && is_wide(line));
    let complain =
        |at: usize| format!("{}:{}: a comment of more than {COMMENT_COLUMNS_MAX} columns", source.path, at + 1);
    wide.map(|(at, _)| complain(at)).collect()
}

fn word_complaints(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (list, why) in [(UNFINISHED, "unfinished work"), (PRIVATE, "says nothing to a reader elsewhere")] {
        for word in list {
            let found = words(&source.text, word);
            complaints.extend(found.into_iter().map(|at| source.complain(at, &format!("`{word}`: {why}"))));
        }
    }
    complaints
}

fn unsafe_complaints(source: &Source, allowed: &[&str]) -> Vec<String> {
    let uses = words(&source.blank, "unsafe");
    let proofs = source.text.matches("SAFETY:").count();
    let Some(first) = uses.first() else { return Vec::new() };
    if !allowed.contains(&source.path.as_str()) {
        return vec![source.complain(*first, "`unsafe` outside UNSAFE_FILES (tests/tidy/main.rs)")];
    }
    if proofs < uses.len() {
        return vec![source.complain(*first, &format!("{} `unsafe` but {proofs} `SAFETY:`", uses.len()))];
    }
    Vec::new()
}

fn insist(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints:\n{}\n", complaints.len(), complaints.join("\n"));
}

#[test]
fn parts_import_strictly_downward() {
    insist(layer_complaints(&read_all("src")));
}

#[test]
fn within_each_folder_nobody_imports_what_is_declared_behind_it() {
    insist(order_complaints(&read_all("src")));
}

#[test]
fn nobody_calls_a_method_of_its_type_that_stands_in_a_higher_layer() {
    insist(call_complaints(&read_all("src")));
}

#[test]
fn every_file_is_reached() {
    let sources = read_all("src");
    let reached = reachable(&sources);
    let lost = sources.iter().filter(|s| !reached.contains_key(&s.module()));
    insist(lost.map(|s| s.complain(0, "no `mod` declares this file")).collect());
}

#[test]
fn every_file_opens_with_a_header() {
    let sources = read_all("src").into_iter().chain(read_all("tests")).filter(|s| !s.text.starts_with("//!"));
    insist(sources.map(|s| s.complain(0, "no `//!` header on the first line")).collect());
}

#[test]
fn every_folder_lists_its_files() {
    insist(listing_complaints(&read_all("src")));
}

#[test]
fn comments_keep_to_the_width_of_the_code() {
    let sources = read_all("src").into_iter().chain(read_all("tests"));
    insist(sources.flat_map(|s| width_complaints(&s)).collect());
}

#[test]
fn files_and_functions_stay_short() {
    let sources = read_all("src").into_iter().chain(read_all("tests"));
    insist(sources.flat_map(|s| length_complaints(&s)).collect());
}

#[test]
fn nothing_unfinished_or_private_is_left() {
    insist(read_all("src").iter().flat_map(word_complaints).collect());
}

#[test]
fn unsafe_stands_where_it_is_proven() {
    insist(read_all("src").iter().flat_map(|s| unsafe_complaints(s, UNSAFE_FILES)).collect());
}
