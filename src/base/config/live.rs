//! The options of a running node: what CONFIG GET, SET and REWRITE do, and the [`Settings`] that everybody reads.
//!
//! Readers take the settings for one atomic load and never wait. Writers take turns: a change is parsed, checked as a
//! whole, swapped in, and told to those who registered, before the next one begins. A change that fails leaves
//! everything as it was.
//!
//! CONFIG REWRITE writes what differs from what the file gave: options set by CONFIG SET or by a flag. Values from the
//! environment stay out, because secrets are given there in order not to be in a file.

use super::compat::{FIXED, Fixed, skipped};
use super::entry::{Entry, Origin};
use super::error::ValueError;
use super::file::{quoted, rewritten};
use super::kind::Value;
use super::layers::{Loaded, Problem, Problems};
use super::settings::{RuleError, Settings};
use super::table::{ALIASES, OPTIONS, Opt};
use crate::base::glob;
use crate::base::words::until_nul;
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
    checks: Vec<(&'static str, Check)>,
    hooks: Vec<Hook>,
}

type Check = Box<dyn Fn(&Settings) -> Result<(), String> + Send + Sync>;
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

/// What CONFIG SET has changed: secrets are not shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The option.
    pub option: &'static str,
    /// Its value before.
    pub before: String,
    /// Its value now.
    pub after: String,
}

/// CONFIG SET was refused; nothing changed.
#[derive(Clone, PartialEq, Debug)]
pub struct SetError {
    /// The option that it is about: as it was given, which need not be text, or by its own name if its value is wrong.
    pub name: Vec<u8>,
    /// What is wrong with it.
    pub why: SetRefusal,
}

/// Why CONFIG SET was refused. The texts are Redis's where it has the case.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each one is")]
pub enum SetRefusal {
    #[error("no such option")]
    Unknown,
    #[error("rondo has nothing that this option of Redis would change")]
    Skipped,
    #[error("duplicate parameter")]
    Duplicate,
    #[error("can't set immutable config")]
    Immutable,
    #[error("{0}")]
    Fixed(&'static str),
    #[error("{0}")]
    Value(#[from] ValueError),
    #[error("argument must be text in UTF-8")]
    NotText,
    #[error("{}", all(.0))]
    Rule(Vec<RuleError>),
    #[error("{0}")]
    Machine(String),
}

impl SetError {
    /// About the value of an option that was found.
    fn of(name: &str, why: SetRefusal) -> SetError {
        SetError { name: name.to_ascii_lowercase().into_bytes(), why }
    }

    /// Redis's words, without the leading `ERR`, around the name byte for byte.
    pub fn text(&self) -> Vec<u8> {
        let (before, behind) = match &self.why {
            SetRefusal::Unknown => ("Unknown option or number of arguments for CONFIG SET - '", "'".to_owned()),
            why => ("CONFIG SET failed (possibly related to argument '", format!("') - {why}")),
        };
        [before.as_bytes(), until_nul(&self.name), behind.as_bytes()].concat()
    }
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
        let state = State { entries: loaded.entries, checks: Vec::new(), hooks: Vec::new() };
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

    /// Asks `check` before every CONFIG SET of this option from now on whether the machine can bear the new settings;
    /// what it says otherwise is the refusal.
    pub fn on_check(
        &self,
        option: &'static str,
        check: impl Fn(&Settings) -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.state.lock().checks.push((option, Box::new(check)));
    }

    /// Puts a value in force that the machine can bear instead of the one given, before anything runs; where the option
    /// comes from stays, and no hook is called.
    pub fn correct(&self, name: &str, value: Value) {
        let mut state = self.state.lock();
        let Some((index, _)) = Opt::find(name) else { return };
        let mut entries = state.entries.clone();
        if let Some(entry) = entries.get_mut(index) {
            entry.value = value;
        }
        if let Ok(settings) = Settings::new(&entries) {
            self.settings.store(Arc::new(settings));
            state.entries = entries;
        }
    }

    /// Calls `hook` after every CONFIG SET from now on, with the new settings, in order, before the next CONFIG SET.
    pub fn on_change(&self, hook: impl Fn(&Settings) + Send + Sync + 'static) {
        self.state.lock().hooks.push(Box::new(hook));
    }

    /// CONFIG GET: (name, value) of every option that fits one of the patterns, each once.
    ///
    /// A pattern without wildcards is answered under the name that was asked for, in the case in which that was done
    /// first. `cluster_face` says which of the two faces asks: it decides what `cluster-enabled` is.
    pub fn get<'a, P: AsRef<[u8]> + ?Sized + 'a>(
        &self,
        patterns: impl IntoIterator<Item = &'a P>,
        cluster_face: bool,
    ) -> Vec<(String, String)> {
        let state = self.state.lock();
        let known = all_names();
        let mut found = BTreeMap::new();
        for pattern in patterns.into_iter().map(AsRef::as_ref) {
            let exact = !pattern.iter().any(|byte| b"*?[".contains(byte));
            for name in &known {
                let fits = match exact {
                    true => pattern.eq_ignore_ascii_case(name.as_bytes()),
                    false => glob::matches(pattern, name.as_bytes(), true),
                };
                if fits {
                    let shown = std::str::from_utf8(pattern).ok().filter(|_| exact).unwrap_or(name);
                    let answer = || (shown.to_owned(), self.answer(&state, name, cluster_face));
                    found.entry(*name).or_insert_with(answer);
                }
            }
        }
        found.into_values().collect()
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

    /// CONFIG SET: all of the (name, value) pairs, or none of them. Gives what is another value now, for the log.
    pub fn set(&self, pairs: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)]) -> Result<Vec<Change>, SetError> {
        let mut state = self.state.lock();
        let mut entries = state.entries.clone();
        // As in Redis, what is wrong with a name is told before what is wrong with a value.
        let mut named: Vec<(&str, &[u8])> = Vec::new();
        for (name, given) in pairs {
            let name = name.as_ref();
            let known = settable(name, &named).map_err(|why| SetError { name: name.to_owned(), why })?;
            named.push((known, given.as_ref()));
        }
        for (name, given) in &named {
            set_one(&mut entries, name, given).map_err(|why| SetError::of(name, why))?;
        }
        let settings = Settings::new(&entries).map_err(|broken| {
            let is_broken = |name: &&str| broken.iter().any(|rule| rule.option().eq_ignore_ascii_case(name));
            let mut names = named.iter().map(|(name, _)| *name);
            let first = named.first().map_or("", |(name, _)| *name);
            SetError::of(names.find(is_broken).unwrap_or(first), SetRefusal::Rule(broken))
        })?;
        let is_named = |option: &str| named.iter().any(|(name, _)| name.eq_ignore_ascii_case(option));
        for (option, check) in state.checks.iter().filter(|(option, _)| is_named(option)) {
            check(&settings).map_err(|text| SetError::of(option, SetRefusal::Machine(text)))?;
        }
        self.settings.store(Arc::new(settings));
        let before = std::mem::replace(&mut state.entries, entries);
        let settings = self.settings.load();
        state.hooks.iter().for_each(|hook| hook(&settings));
        Ok(changes(&before, &state.entries))
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
            let value = hidden(opt, &entry.value).unwrap_or_else(|| self.answer(&state, opt.name, false));
            (opt.name, value, entry.origin.clone())
        };
        OPTIONS.iter().zip(&state.entries).map(shown).collect()
    }
}

/// What stands for a secret that must not be shown; none for other values.
fn hidden(opt: &Opt, value: &Value) -> Option<String> {
    (opt.is_secret() && *value != Value::Text(String::new())).then(|| "(hidden)".to_owned())
}

/// The options whose values differ.
fn changes(before: &[Entry], after: &[Entry]) -> Vec<Change> {
    let shown = |opt: &Opt, value: &Value| hidden(opt, value).unwrap_or_else(|| value.to_string());
    let differing = OPTIONS.iter().zip(before.iter().zip(after)).filter(|(_, (old, new))| old.value != new.value);
    differing
        .map(|(opt, (old, new))| Change {
            option: opt.name,
            before: shown(opt, &old.value),
            after: shown(opt, &new.value),
        })
        .collect()
}

/// The name as text, if CONFIG SET may be given it behind those in `before`.
fn settable<'n>(name: &'n [u8], before: &[(&str, &[u8])]) -> Result<&'n str, SetRefusal> {
    let name = std::str::from_utf8(name).map_err(|_| SetRefusal::Unknown)?;
    match Opt::find(name) {
        Some((_, opt)) if !opt.live => Err(SetRefusal::Immutable),
        None if skipped(name).is_some() => Err(SetRefusal::Skipped),
        None if Fixed::find(name).is_none() => Err(SetRefusal::Unknown),
        _ if before.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) => Err(SetRefusal::Duplicate),
        _ => Ok(name),
    }
}

/// Sets one option that is [`settable`]. A value that is no text must not be kept as another that is.
fn set_one(entries: &mut [Entry], name: &str, given: &[u8]) -> Result<(), SetRefusal> {
    let Some((index, opt)) = Opt::find(name) else {
        let fixed = Fixed::find(name).ok_or(SetRefusal::Unknown)?;
        let same = given.eq_ignore_ascii_case(fixed.value.as_bytes());
        return if same { Ok(()) } else { Err(SetRefusal::Fixed(fixed.why)) };
    };
    let Some(entry) = entries.get_mut(index) else { return Ok(()) };
    let text = std::str::from_utf8(given).map_err(|_| SetRefusal::NotText)?;
    let value = opt.kind.parse_text(text, Some(&entry.value))?;
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
