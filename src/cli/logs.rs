//! The log: one line per event, for people or as JSON, with Redis's words for how much.
//!
//! A line for people is `TIME LEVEL part: message key=value ...`. Control bytes in whatever an event carries are
//! written as escapes, so that nothing a client sends can forge a second line. The level follows CONFIG SET loglevel at
//! once; format and destination are decided at the start.

use crate::base::config::{Config, LogFormat, LogLevel, Settings};
use std::fmt::{self, Write};
use std::fs::OpenOptions;
use std::io;
use std::sync::Mutex;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// Opens the log that `config` asks for and makes its level follow it. Fails when the file cannot be opened, or when the
/// process has a log already.
pub fn open(config: &Config) -> io::Result<()> {
    let settings = config.settings();
    let (level, handle) = reload::Layer::new(level_filter(settings.loglevel));
    let writer = destination(&settings)?;
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match settings.log_format {
        LogFormat::Text => tracing_subscriber::fmt::layer().event_format(Lines).with_writer(writer).boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(writer)
            .boxed(),
    };
    let log = tracing_subscriber::registry().with(lines.with_filter(level));
    log.try_init().map_err(|error| io::Error::new(io::ErrorKind::AlreadyExists, error))?;
    config.on_change(move |settings| {
        // Fails only once the process has no log any more.
        _ = handle.modify(|filter| *filter = level_filter(settings.loglevel));
    });
    Ok(())
}

fn destination(settings: &Settings) -> io::Result<BoxMakeWriter> {
    if settings.logfile.is_empty() {
        return Ok(BoxMakeWriter::new(io::stdout));
    }
    let file = OpenOptions::new().append(true).create(true).open(&settings.logfile)?;
    Ok(BoxMakeWriter::new(Mutex::new(file)))
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Verbose => LevelFilter::DEBUG,
        LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
    }
}

/// Redis's word for a level; it has none for errors, which are warnings to it.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::TRACE => LogLevel::Debug.name(),
        Level::DEBUG => LogLevel::Verbose.name(),
        Level::INFO => LogLevel::Notice.name(),
        _ => LogLevel::Warning.name(),
    }
}

/// Lines for people.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        SystemTime.format_time(&mut out)?;
        let target = event.metadata().target();
        let part = target.strip_prefix("rondo::").unwrap_or(target);
        write!(out, " {} {part}: ", level_name(*event.metadata().level()))?;
        context.format_fields(Writer::new(&mut OneLine(&mut out)), event)?;
        writeln!(out)
    }
}

/// Writes control characters as escapes.
struct OneLine<'a, 'w>(&'a mut Writer<'w>);

impl Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(char::is_control) {
            match piece.char_indices().next_back() {
                Some((at, last)) if last.is_control() => {
                    self.0.write_str(piece.get(..at).unwrap_or_default())?;
                    write!(self.0, "{}", last.escape_default())?;
                }
                _ => self.0.write_str(piece)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_it_carries() {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer().event_format(Lines).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(name = %"a\nnotice forged\u{7f}", "ready\r\n");
            tracing::debug!("second");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().map(|line| line.split_once("Z ").unwrap().1).collect();
        let expected =
            ["notice cli::logs::tests: ready\\r\\n name=a\\nnotice forged\\u{7f}", "verbose cli::logs::tests: second"];
        assert_eq!(lines, expected);
    }
}
