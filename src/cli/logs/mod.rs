//! The log: one line per event, for people or as JSON, with Redis's words for how much.
//!
//! | file | what it is |
//! |---|---|
//! | `lines` | how an event is written: for people, or as JSON |
//! | `file` | a log's file, which may be opened anew under its name |
//!
//! A line for people is `TIME LEVEL part: message key=value ...`, one of JSON an object of the same ([`lines`]). The
//! level follows CONFIG SET loglevel at once; format and destination are decided at the start, and a file may be opened
//! anew under its name ([`mod@file`]). What the event loop and gossip say of themselves is left out below `warning`: at
//! `debug` it would be nearly all.

mod file;
mod lines;

use crate::base::config::{Config, LogFormat, LogLevel, Settings};
use file::LogFile;
use lines::{JsonLines, Lines};
use std::io;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// Parts that are not ours and tell of every step that they take.
const TALKATIVE: [&str; 2] = ["foca", "mio"];

/// The open log.
#[derive(Debug)]
pub struct Log {
    file: Option<LogFile>,
}

impl Log {
    /// Opens the file anew under its name, if the log goes to one: the file that has been moved away is let go.
    pub fn reopen(&self) {
        match self.file.as_ref().map(LogFile::reopen) {
            None => {}
            Some(Ok(())) => tracing::info!("opened the logfile anew"),
            Some(Err(error)) => tracing::warn!(%error, "cannot open the logfile anew: going on with the one before"),
        }
    }
}

/// Opens the log that `config` asks for and makes its level follow it. Fails when the file cannot be opened, or when
/// the process has a log already.
pub fn open(config: &Config) -> io::Result<Log> {
    let settings = config.settings();
    let (level, handle) = reload::Layer::new(filter(settings.loglevel));
    let file = destination(&settings)?;
    let writer = match file.clone() {
        Some(file) => BoxMakeWriter::new(move || file.clone()),
        None => BoxMakeWriter::new(io::stdout),
    };
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match settings.log_format {
        LogFormat::Text => tracing_subscriber::fmt::layer().event_format(Lines).with_writer(writer).boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer().event_format(JsonLines).with_writer(writer).boxed(),
    };
    let log = tracing_subscriber::registry().with(lines.with_filter(level));
    log.try_init().map_err(|error| io::Error::new(io::ErrorKind::AlreadyExists, error))?;
    config.on_change(move |settings| {
        // Fails only once the process has no log any more.
        _ = handle.modify(|current| *current = filter(settings.loglevel));
    });
    Ok(Log { file })
}

fn destination(settings: &Settings) -> io::Result<Option<LogFile>> {
    (!settings.logfile.is_empty()).then(|| LogFile::open(settings.logfile.as_ref())).transpose()
}

/// What is logged at this level.
fn filter(level: LogLevel) -> Targets {
    let level = level_filter(level);
    let of_others = TALKATIVE.map(|part| (part, level.min(LevelFilter::WARN)));
    Targets::new().with_default(level).with_targets(of_others)
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Verbose => LevelFilter::DEBUG,
        LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn what_others_say_of_themselves_is_left_out() {
        let debug = filter(LogLevel::Debug);
        assert!(debug.would_enable("rondo::node", &Level::TRACE));
        assert!(!debug.would_enable("mio::poll", &Level::INFO) && !debug.would_enable("foca", &Level::DEBUG));
        assert!(debug.would_enable("foca", &Level::WARN));
        assert!(!filter(LogLevel::Warning).would_enable("rondo::node", &Level::INFO));
    }
}
