//! How an event is written: a line for people, or a JSON object.
//!
//! Control bytes in whatever an event carries are written as escapes, so that nothing a client sends can forge a second
//! line. Both name levels by Redis's words.

use crate::base::config::LogLevel;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt::{self, Debug, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

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
pub struct Lines;

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

/// Lines for programs: `{"timestamp": ..., "level": ..., "message": ..., "key": value ..., "target": ...}`.
pub struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let line = serde_json::to_string(&Object(event)).map_err(|_| fmt::Error)?;
        writeln!(out, "{line}")
    }
}

/// An event as an object.
struct Object<'a>(&'a Event<'a>);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time)).map_err(serde::ser::Error::custom)?;
        let metadata = self.0.metadata();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", &time)?;
        map.serialize_entry("level", level_name(*metadata.level()))?;
        let mut members = Members { map, outcome: Ok(()) };
        self.0.record(&mut members);
        members.outcome?;
        members.map.serialize_entry("target", metadata.target())?;
        members.map.end()
    }
}

/// Writes each field of an event as a member of its object.
struct Members<M: SerializeMap> {
    map: M,
    outcome: Result<(), M::Error>,
}

impl<M: SerializeMap> Members<M> {
    fn put(&mut self, field: &Field, value: &(impl Serialize + ?Sized)) {
        if self.outcome.is_ok() {
            self.outcome = self.map.serialize_entry(field.name(), value);
        }
    }
}

impl<M: SerializeMap> Visit for Members<M> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::SubscriberExt;

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

    /// What two events become.
    fn logged(json: bool) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let layer = if json { layer.event_format(JsonLines).boxed() } else { layer.event_format(Lines).boxed() };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(name = %"a\nnotice forged\u{7f}", slots = 5, late = true, "ready\r\n");
            tracing::debug!("second");
        });
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn an_event_is_one_line_whatever_it_carries() {
        let text = logged(false);
        let lines: Vec<_> = text.lines().map(|line| line.split_once("Z ").unwrap().1).collect();
        let expected = [
            "notice cli::logs::lines::tests: ready\\r\\n name=a\\nnotice forged\\u{7f} slots=5 late=true",
            "verbose cli::logs::lines::tests: second",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn an_object_says_the_same_in_the_same_words() {
        let text = logged(true);
        let lines: Vec<_> = text.lines().map(|line| line.split_once("Z\",").unwrap().1).collect();
        let target = r#""target":"rondo::cli::logs::lines::tests"}"#;
        let expected = [
            format!(
                r#""level":"notice","message":"ready\r\n","name":"a\nnotice forged{}","slots":5,"late":true,{target}"#,
                '\u{7f}'
            ),
            format!(r#""level":"verbose","message":"second",{target}"#),
        ];
        assert_eq!(lines, expected);
    }
}
