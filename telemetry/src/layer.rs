//! From a `tracing` event to an owned [`Entry`], with the fields of the spans around it.
//!
//! Runs on the thread that logs, which may be a shard: it collects, and leaves all formatting to the writer's thread.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::entry::{Entry, Fields, Value};
use crate::writer::Writer;

/// The layer.
pub(crate) struct Entries {
    writer: Writer,
}

impl Entries {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { writer }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Entries {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut collect = Collect::with_room(attributes.fields().len());
        attributes.record(&mut collect);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(collect.fields);
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut collect = Collect::default();
        record.record(&mut collect);
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            // Made anew, so that a span that is told much in its life does not keep all of it.
            let mut fresh = collect.fields;
            fresh.add_missing(fields);
            *fields = fresh;
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut collect = Collect::with_room(event.metadata().fields().len());
        event.record(&mut collect);
        if let Some(scope) = context.event_scope(event) {
            for span in scope {
                if let Some(fields) = span.extensions().get::<Fields>() {
                    collect.fields.add_missing(fields);
                }
            }
        }
        // Records of the `log` crate arrive with their true target in fields.
        let own = event.metadata();
        let (target, level) = match event.normalized_metadata() {
            Some(metadata) => (Cow::Owned(metadata.target().to_owned()), *metadata.level()),
            None => (Cow::Borrowed(own.target()), *own.level()),
        };
        self.writer.send(Entry {
            at: SystemTime::now(),
            level,
            target,
            file: own.file(),
            line: own.line(),
            message: collect.message,
            fields: collect.fields,
        });
    }
}

#[derive(Default)]
struct Collect {
    message: String,
    fields: Fields,
}

impl Collect {
    fn with_room(fields: usize) -> Self {
        Self { message: String::new(), fields: Fields::with_room(fields) }
    }

    fn text(&mut self, field: &Field, write: impl FnOnce(&mut String)) {
        match field.name() {
            "message" => write(&mut self.message),
            name if name.starts_with("log.") => {}
            name => self.fields.write(name, write),
        }
    }

    fn value(&mut self, field: &Field, value: Value<'_>) {
        if !field.name().starts_with("log.") {
            self.fields.push(field.name(), value);
        }
    }
}

impl Visit for Collect {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, |text| {
            // Writing into memory does not fail.
            let _ = write!(text, "{value:?}");
        });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, |text| text.push_str(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut told = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let next = error.to_string();
            if !told.contains(&next) {
                told.push_str(": ");
                told.push_str(&next);
            }
            cause = error.source();
        }
        self.text(field, |text| text.push_str(&told));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.value(field, Value::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.value(field, Value::Uint(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.value(field, Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.value(field, Value::Bool(value));
    }
}
