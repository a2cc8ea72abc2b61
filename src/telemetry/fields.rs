//! How the fields of a log line and of its spans are written: `name=value`, with spaces between. A text
//! stands in quotes where it needs them.
//!
//! Every request opens a span, so this is on the way of each. Numbers and texts are written as they are,
//! without the formatting machinery.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Under this name a line has its text. It stands there without its name.
const MESSAGE: &str = "message";
/// Bytes that most of them need.
const USUAL_LENGTH: usize = 128;

/// Writes fields as text.
pub(super) struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut fields_writer = FieldsWriter {
            text: String::with_capacity(USUAL_LENGTH),
            written: Ok(()),
        };
        fields.record(&mut fields_writer);
        fields_writer.written?;
        writer.write_str(&fields_writer.text)
    }
}

/// Gathers them, so that what they are written to grows once.
struct FieldsWriter {
    text: String,
    written: fmt::Result,
}

impl FieldsWriter {
    fn write(&mut self, field: &Field, value: impl FnOnce(&mut String) -> fmt::Result) {
        if self.written.is_err() {
            return;
        }
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        if field.name() != MESSAGE {
            self.text.push_str(field.name());
            self.text.push('=');
        }
        self.written = value(&mut self.text);
    }
}

impl Visit for FieldsWriter {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, |text| write!(text, "{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            return self.write(field, |text| text.write_str(value));
        }
        // Nothing that a stranger sends may look like another field or the end of a line, or steer a
        // terminal.
        let is_word =
            |byte: u8| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'\\' | b'=');
        if !value.is_empty() && value.bytes().all(is_word) {
            self.write(field, |text| text.write_str(value));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.write(field, |text| {
            write!(text, "{value}")?;
            let mut source = value.source();
            while let Some(cause) = source {
                write!(text, ": {cause}")?;
                source = cause.source();
            }
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[track_caller]
    fn check(log: impl FnOnce(), expected: &str) {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(TextFields)
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let written = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written.trim(), expected);
    }

    #[test]
    fn fields_stand_behind_their_names_and_the_text_without() {
        check(
            || {
                tracing::info!(
                    count = 3,
                    cause = "stale",
                    why = "too old",
                    is_new = true,
                    "refused {}",
                    7
                )
            },
            r#"INFO refused 7 count=3 cause=stale why="too old" is_new=true"#,
        );
        check(
            || {
                let span = tracing::info_span!("request", path = "/a", of = "", id = %"0f");
                span.in_scope(|| tracing::warn!("slow"));
            },
            r#"WARN request{path=/a of="" id=0f}: slow"#,
        );
    }

    #[test]
    fn a_text_from_outside_stays_on_its_line() {
        check(
            || tracing::info!(path = "/a\nWARN forged \u{1b}[31m\"", other = "a=b", "x"),
            r#"INFO x path="/a\nWARN forged \u{1b}[31m\"" other="a=b""#,
        );
    }

    #[test]
    fn an_error_is_written_with_its_causes() {
        let cause = std::io::Error::other("no disk");
        let error = std::io::Error::other(crate::store::StoreError::Unavailable(cause.to_string()));
        let error: &(dyn std::error::Error + 'static) = &error;
        check(
            || tracing::info!(error, "x"),
            "INFO x error=the store is not available: no disk",
        );
    }
}
