//! The options of a running node: what CONFIG GET, SET and REWRITE do, and the [`Settings`] that everybody reads.
//!
//! Readers take the settings for one atomic load and never wait. Writers take turns: a change is parsed, checked as a
//! whole, swapped in, and told to those who registered, before the next one begins. A change that fails leaves
//! everything as it was.
//!
//! CONFIG REWRITE writes what differs from what the file gave: options set by CONFIG SET or by a flag. Values from the
//! environment stay out, because secrets are given there in order not to be in a file.

use super::compat::{FIXED, Fixed};
use super::entry::{Entry, Origin};
use super::error::ValueError;
use super::file::{quoted, rewritten};
use super::kind::Value;
use super::layers::{Loaded, Problem, Problems};
use super::settings::{RuleError, Settings};
use super::table::{ALIASES, OPTIONS, Opt};
use crate::base::glob;
use arc_swap::{ArcSwap, Cache, Guard};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The options in force; shared by all threads of the node.
pub struct Config {
    settings: Arc<ArcSwap<Settings>>,
    state: Mutex<State>,
    file: Option<PathBuf>,
}

struct State {
    entries: Vec<Entry>,
    hooks: Vec<Hook>,
}

type Hook = Box<dyn Fn(&Settings) + Send + Sync>;

/// The settings as one thread reads them: a look at one pointer, without a write that other threads notice, as long as
/// nothing changes.
pub struct SettingsReader(RefCell<Cache<Arc<ArcSwap<Settings>>, Arc<Settings>>>);

impl SettingsReader {
    /// What `look`, which does not read them again itself, makes of the settings in force now.
    #[inline]
    pub fn read<T>(&self, look: impl FnOnce(&Settings) -> T) -> T {
        look(self.0.borrow_mut().load())
    }
}

/// CONFIG SET was refused; nothing changed. The texts are Redis's, without the leading `ERR`.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each one is")]
pub enum SetError {
    #[error("Unknown option or number of arguments for CONFIG SET - '{0}'")]
    Unknown(String),
    #[error("CONFIG SET failed (possibly related to argument '{0}') - duplicate parameter")]
    Duplicate(String),
    #[error("CONFIG SET failed (possibly related to argument '{0}') - can't set immutable config")]
    Immutable(&'static str),
    #[error("CONFIG SET failed (possibly related to argument '{0}') - {1}")]
    Fixed(&'static str, &'static str),
    #[error("CONFIG SET failed (possibly related to argument '{0}') - {1}")]
    Value(&'static str, ValueError),
    #[error("CONFIG SET failed (possibly related to argument '{name}') - argument must be text in UTF-8")]
    NotText { name: String },
    #[error("CONFIG SET failed (possibly related to argument '{name}') - {}", all(broken))]
    Rule { name: String, broken: Vec<RuleError> },
}

fn all(rules: &[RuleError]) -> String {
    rules.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// CONFIG REWRITE did not happen; the file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The node was started without a file.
    #[error("The server is running without a config file")]
    NoFile,
    /// Reading or writing failed: the machine's fault, may be tried again.
    #[error("Rewriting config file: {0}")]
    Io(#[from] std::io::Error),
}

impl Config {
    /// Checks the options against each other and puts them in force.
    pub fn new(loaded: Loaded) -> Result<Config, Problems> {
        let broken = |rules: Vec<RuleError>| Problems(rules.into_iter().map(Problem::Rule).collect());
        let settings = Settings::new(&loaded.entries).map_err(broken)?;
        let state = State { entries: loaded.entries, hooks: Vec::new() };
        Ok(Config { settings: Arc::new(ArcSwap::from_pointee(settings)), state: Mutex::new(state), file: loaded.file })
    }

    /// The settings in force now. Hold the guard for a batch, not for a connection's life.
    pub fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// A way to the settings for a thread that reads them again and again.
    pub fn reader(&self) -> SettingsReader {
        SettingsReader(RefCell::new(Cache::new(self.settings.clone())))
    }

    /// The file that the options were read from.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Calls `hook` after every CONFIG SET from now on, with the new settings, in order, before the next CONFIG SET.
    pub fn on_change(&self, hook: impl Fn(&Settings) + Send + Sync + 'static) {
        self.state.lock().hooks.push(Box::new(hook));
    }

    /// CONFIG GET: (name, value) of every option that fits one of the patterns, each once.
    ///
    /// A pattern without wildcards is answered under the name that was asked for. `cluster_face` says which of the two
    /// faces asks: it decides what `cluster-enabled` is.
    pub fn get<'a>(&self, patterns: impl IntoIterator<Item = &'a str>, cluster_face: bool) -> Vec<(String, String)> {
        let state = self.state.lock();
        let known = all_names();
        let mut found = BTreeMap::new();
        for pattern in patterns {
            let exact = !pattern.contains(['*', '?', '[']);
            for name in &known {
                let fits = match exact {
                    true => pattern.eq_ignore_ascii_case(name),
                    false => glob::matches(pattern.as_bytes(), name.as_bytes(), true),
                };
                if fits {
                    let shown = if exact { pattern } else { name };
                    found.insert(shown.to_owned(), self.answer(&state, name, cluster_face));
                }
            }
        }
        found.into_iter().collect()
    }

    fn answer(&self, state: &State, name: &str, cluster_face: bool) -> String {
        if name == "cluster-enabled" {
            return if cluster_face { "yes" } else { "no" }.to_owned();
        }
        let Some((index, _)) = Opt::find(name) else {
            return Fixed::find(name).map(|fixed| fixed.value.to_owned()).unwrap_or_default();
        };
        match state.entries.get(index).map(|entry| &entry.value) {
            Some(Value::Port(_)) => {
                let ports = self.settings.load().ports.named();
                ports.into_iter().find(|(option, _)| *option == name).map_or(0, |(_, port)| port).to_string()
            }
            // The key of the cluster is nobody's business but the nodes'; Redis shows `requirepass`, so do we.
            Some(Value::Text(secret)) if name == "cluster-secret" && !secret.is_empty() => "(hidden)".to_owned(),
            Some(value) => value.to_string(),
            None => String::new(),
        }
    }

    /// CONFIG SET: all of the (name, value) pairs, or none of them.
    pub fn set(&self, pairs: &[(&str, &str)]) -> Result<(), SetError> {
        let mut state = self.state.lock();
        let mut entries = state.entries.clone();
        let mut seen = Vec::new();
        for (name, text) in pairs {
            if seen.iter().any(|known: &&str| known.eq_ignore_ascii_case(name)) {
                return Err(SetError::Duplicate((*name).to_owned()));
            }
            seen.push(*name);
            set_one(&mut entries, name, text)?;
        }
        let settings = Settings::new(&entries).map_err(|broken| {
            let name = pairs.first().map(|(name, _)| (*name).to_owned()).unwrap_or_default();
            SetError::Rule { name, broken }
        })?;
        self.settings.store(Arc::new(settings));
        state.entries = entries;
        let settings = self.settings.load();
        state.hooks.iter().for_each(|hook| hook(&settings));
        Ok(())
    }

    /// CONFIG REWRITE: puts what differs from the file into it. Waits for the disk.
    pub fn rewrite(&self) -> Result<(), RewriteError> {
        let path = self.file.as_deref().ok_or(RewriteError::NoFile)?;
        let state = self.state.lock();
        let mut values = BTreeMap::new();
        for (opt, entry) in OPTIONS.iter().zip(&state.entries) {
            if matches!(entry.origin, Origin::Runtime | Origin::Flag) {
                let text = entry.value.to_string();
                values.insert(opt.name, if opt.kind.takes_many() && !text.is_empty() { text } else { quoted(&text) });
            }
        }
        let text = rewritten(&std::fs::read_to_string(path)?, &values, |word| Opt::find(word).map(|(_, opt)| opt.name));
        Ok(replace_file(path, &text)?)
    }

    /// Every option with its value and where it comes from, secrets hidden: `rondo server --print-config`.
    pub fn describe(&self) -> Vec<(&'static str, String, Origin)> {
        let state = self.state.lock();
        let shown = |(opt, entry): (&'static Opt, &Entry)| {
            let secret = opt.is_secret() && entry.value != Value::Text(String::new());
            let value = if secret { "(hidden)".to_owned() } else { self.answer(&state, opt.name, false) };
            (opt.name, value, entry.origin.clone())
        };
        OPTIONS.iter().zip(&state.entries).map(shown).collect()
    }
}

fn set_one(entries: &mut [Entry], name: &str, text: &str) -> Result<(), SetError> {
    let Some((index, opt)) = Opt::find(name) else {
        let fixed = Fixed::find(name).ok_or_else(|| SetError::Unknown(name.to_owned()))?;
        let same = text.eq_ignore_ascii_case(fixed.value);
        return if same { Ok(()) } else { Err(SetError::Fixed(fixed.name, fixed.why)) };
    };
    if !opt.live {
        return Err(SetError::Immutable(opt.name));
    }
    let Some(entry) = entries.get_mut(index) else { return Ok(()) };
    let value = opt.kind.parse_text(text, Some(&entry.value)).map_err(|error| SetError::Value(opt.name, error))?;
    *entry = Entry { value, origin: Origin::Runtime };
    Ok(())
}

/// All names that CONFIG GET answers to.
fn all_names() -> Vec<&'static str> {
    let options = OPTIONS.iter().map(|opt| opt.name);
    let old = ALIASES.iter().map(|(old, _)| *old);
    let fixed = FIXED.iter().map(|fixed| fixed.name);
    options.chain(old).chain(fixed).chain(["cluster-enabled"]).collect()
}

/// Replaces a file's text so that a crash leaves the old text or the new one, never half of it.
fn replace_file(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    let write = || {
        let mut file = std::fs::File::create(&beside)?;
        file.set_permissions(std::fs::metadata(path)?.permissions())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().inspect_err(|_| _ = std::fs::remove_file(&beside))
}
