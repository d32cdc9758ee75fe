//! Laying the sources of options over each other.
//!
//! Default, then file (with what it includes), then environment, then flags: the later wins, and every value remembers
//! its origin. A mistake does not end the reading: all of them are collected, so that one start shows everything
//! there is to mend.
//!
//! A file may be included by a name with wildcards, as in Redis: all files that fit, in the order of their names, none
//! if there are none. Which there are is looked up on the disk; what is in a file is asked of `load`'s caller.
//!
//! An environment variable that begins with `RONDO_` and names no option is only warned of: container platforms put
//! variables there that nobody asked for (Kubernetes' `RONDO_SERVICE_HOST` for a service called rondo).

use super::compat::{Fixed, REFUSED, skipped};
use super::entry::{Entry, Origin};
use super::error::ValueError;
use super::file::{SyntaxError, line_words};
use super::kind::Value;
use super::settings::RuleError;
use super::suggest::nearest;
use super::table::{ALIASES, OPTIONS, Opt};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// How deep files may include each other; also what ends a file that includes itself.
const INCLUDE_DEPTH_MAX: usize = 16;

/// Something that keeps the node from starting. The operator's fault; nothing was started.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each one is")]
pub enum Problem {
    #[error("{origin}: unknown option '{name}'{}", did_you_mean(*.nearest))]
    Unknown { origin: Origin, name: String, nearest: Option<&'static str> },
    #[error("{origin}: {name} {given}: {error}")]
    BadValue { origin: Origin, name: &'static str, given: String, error: ValueError },
    #[error("{origin}: {name}: {why}")]
    Refused { origin: Origin, name: &'static str, why: &'static str },
    #[error("{origin}: {error}")]
    Syntax { origin: Origin, error: SyntaxError },
    #[error("cannot read {}: {error}", .path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{origin}: files include each other more than {INCLUDE_DEPTH_MAX} deep")]
    IncludeDepth { origin: Origin },
    #[error("{origin}: include takes one file")]
    IncludeCount { origin: Origin },
    #[error("{0}")]
    Rule(#[from] RuleError),
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(" (did you mean '{name}'?)")).unwrap_or_default()
}

/// Everything that is wrong with the options of one start, one line each.
#[derive(Debug)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// What was given, not yet looked at.
#[derive(Default, Debug)]
pub struct Sources {
    /// The file named on the command line.
    pub file: Option<PathBuf>,
    /// The environment: names and values.
    pub env: Vec<(String, String)>,
    /// Flags in their order: the name without dashes, and its arguments.
    pub flags: Vec<(String, Vec<String>)>,
}

/// All options with their values, ready to be checked against each other.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// One entry per row of [`OPTIONS`], in its order.
    pub entries: Vec<Entry>,
    /// What to log once there is a log.
    pub warnings: Vec<String>,
    /// The file that CONFIG REWRITE writes.
    pub file: Option<PathBuf>,
}

/// Reads all sources; `read` fetches a file's text.
pub fn load(sources: &Sources, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<Loaded, Problems> {
    let mut layers = Layers {
        read,
        entries: defaults(),
        skipped: Vec::new(),
        unmet: Vec::new(),
        strangers: Vec::new(),
        problems: Vec::new(),
    };
    if let Some(path) = &sources.file {
        layers.file(path, 0);
    }
    for (variable, text) in &sources.env {
        layers.env(variable, text);
    }
    for (name, words) in &sources.flags {
        layers.assign(Origin::Flag, name, words);
    }
    if !layers.problems.is_empty() {
        return Err(Problems(layers.problems));
    }
    let warnings = layers.warnings();
    Ok(Loaded { entries: layers.entries, warnings, file: sources.file.clone() })
}

/// The table's own values.
fn defaults() -> Vec<Entry> {
    let parse = |opt: &Opt| match opt.kind.parse_text(opt.default, None) {
        Ok(value) => Entry { value, origin: Origin::Default },
        Err(error) => unreachable!("the default of {} is wrong: {error}", opt.name),
    };
    OPTIONS.iter().map(parse).collect()
}

struct Layers<'a> {
    read: &'a dyn Fn(&Path) -> io::Result<String>,
    entries: Vec<Entry>,
    skipped: Vec<String>,
    /// Asked for something that they cannot be.
    unmet: Vec<&'static Fixed>,
    strangers: Vec<String>,
    problems: Vec<Problem>,
}

impl Layers<'_> {
    fn file(&mut self, path: &Path, depth: usize) {
        let text = match (self.read)(path) {
            Ok(text) => text,
            Err(error) => return self.problems.push(Problem::Unreadable { path: path.to_owned(), error }),
        };
        for (i, line) in text.lines().enumerate() {
            let origin = Origin::File { path: path.to_owned(), line: i + 1 };
            match line_words(line) {
                Err(error) => self.problems.push(Problem::Syntax { origin, error }),
                Ok(words) => match words.split_first() {
                    None => {}
                    Some((name, arguments)) if name.eq_ignore_ascii_case("include") => {
                        self.include(origin, arguments, depth);
                    }
                    Some((name, arguments)) => self.assign(origin, name, arguments),
                },
            }
        }
    }

    fn include(&mut self, origin: Origin, arguments: &[String], depth: usize) {
        match arguments {
            // Once is enough: files that include all of their folder would go on for ever.
            _ if self.problems.iter().any(|problem| matches!(problem, Problem::IncludeDepth { .. })) => {}
            _ if depth + 1 >= INCLUDE_DEPTH_MAX => self.problems.push(Problem::IncludeDepth { origin }),
            [pattern] if pattern.contains(['*', '?', '[']) => {
                files_like(pattern).iter().for_each(|path| self.file(path, depth + 1));
            }
            [path] => self.file(Path::new(path), depth + 1),
            _ => self.problems.push(Problem::IncludeCount { origin }),
        }
    }

    fn env(&mut self, variable: &str, text: &str) {
        let Some((index, opt)) = OPTIONS.iter().enumerate().find(|(_, opt)| env_name(opt.name) == variable) else {
            if variable.starts_with("RONDO_") {
                self.strangers.push(variable.to_owned());
            }
            return;
        };
        let parsed = opt.kind.parse_text(text, self.entries.get(index).map(|entry| &entry.value));
        self.put(Origin::Env(variable.to_owned()), index, opt, parsed, text);
    }

    fn assign(&mut self, origin: Origin, name: &str, words: &[String]) {
        if let Some((index, opt)) = Opt::find(name) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let parsed = opt.kind.parse(&words, self.entries.get(index).map(|entry| &entry.value));
            return self.put(origin, index, opt, parsed, &words.join(" "));
        }
        if let Some(fixed) = Fixed::find(name) {
            let asks_for_nothing = words.join(" ").eq_ignore_ascii_case(fixed.value);
            if !asks_for_nothing && REFUSED.iter().any(|refused| refused.name == fixed.name) {
                self.problems.push(Problem::Refused { origin, name: fixed.name, why: fixed.why });
            } else if !asks_for_nothing && !self.unmet.iter().any(|known| known.name == fixed.name) {
                self.unmet.push(fixed);
            }
            return;
        }
        match skipped(name) {
            Some(known) => self.skip(known),
            None => {
                let known = OPTIONS.iter().map(|opt| opt.name).chain(ALIASES.iter().map(|(old, _)| *old));
                let nearest = nearest(name, known);
                self.problems.push(Problem::Unknown { origin, name: name.to_owned(), nearest });
            }
        }
    }

    fn put(&mut self, origin: Origin, index: usize, opt: &'static Opt, parsed: Result<Value, ValueError>, given: &str) {
        match parsed {
            Err(error) => {
                let given = if opt.is_secret() { "(hidden)" } else { given };
                self.problems.push(Problem::BadValue {
                    origin,
                    name: opt.name,
                    given: super::file::quoted(given),
                    error,
                });
            }
            Ok(value) => {
                if let Some(entry) = self.entries.get_mut(index) {
                    *entry = Entry { value, origin };
                }
            }
        }
    }

    fn skip(&mut self, name: &str) {
        if !self.skipped.iter().any(|known| known == name) {
            self.skipped.push(name.to_owned());
        }
    }

    fn warnings(&self) -> Vec<String> {
        let unmet = |it: &&Fixed| format!("{} stays '{}': {}", it.name, it.value, it.why);
        let mut warnings: Vec<String> = self.unmet.iter().map(unmet).collect();
        if !self.skipped.is_empty() {
            warnings.push(format!("options of Redis that change nothing here: {}", self.skipped.join(", ")));
        }
        if !self.strangers.is_empty() {
            warnings.push(format!("environment variables that name no option: {}", self.strangers.join(", ")));
        }
        warnings
    }
}

/// The files whose names fit, by the rules of C's `glob`: hidden ones only if the pattern says so. A pattern that makes
/// no sense fits nothing.
fn files_like(pattern: &str) -> Vec<PathBuf> {
    let rules = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let found = glob::glob_with(pattern, rules).into_iter().flatten().filter_map(Result::ok);
    found.filter(|path| path.is_file()).collect()
}

/// The environment variable of an option: `RONDO_MAXMEMORY_POLICY` for `maxmemory-policy`.
pub fn env_name(option: &str) -> String {
    format!("RONDO_{}", option.to_ascii_uppercase().replace('-', "_"))
}
