//! What is kept of events and spans until the journal takes them.

use std::fmt::Debug;

use tracing_core::{
    Dispatch, Event, Field, Metadata,
    field::{FieldSet, Value, ValueSet, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Registry,
    fmt::{FormatFields as _, FormattedFields, format::DefaultFields},
};

/// An event without its message, which is in the text of its entry.
#[derive(Debug)]
pub(super) struct KeptEvent {
    pub(super) metadata: &'static Metadata<'static>,
    pub(super) values: Values,
    /// The innermost span of the event.
    pub(super) span: Option<KeptSpan>,
}

impl KeptEvent {
    pub(super) fn new(event: &Event<'_>, span: Option<KeptSpan>) -> Self {
        let mut kept = Self { span, ..Self::of_text(event.metadata()) };
        event.record(&mut kept.values);
        kept
    }

    /// An event that has a message at most.
    pub(super) fn of_text(metadata: &'static Metadata<'static>) -> Self {
        let mut values = Values::none(metadata.fields());
        values.in_text = metadata.fields().field("message").map(|field| field.index());
        Self { metadata, values, span: None }
    }

    pub(super) fn octets(&self) -> usize {
        self.values.texts.iter().flatten().map(String::len).sum()
    }
}

/// Keeps a span and its parents in the registry of the process.
#[derive(Debug)]
pub(super) struct KeptSpan {
    log: Dispatch,
    id: Id,
}

impl KeptSpan {
    pub(super) fn new(log: Dispatch, id: &Id) -> Self {
        let id = log.clone_span(id);
        Self { log, id }
    }

    pub(super) fn id(&self) -> &Id {
        &self.id
    }

    pub(super) fn registry(&self) -> Option<&Registry> {
        self.log.downcast_ref()
    }
}

impl Drop for KeptSpan {
    fn drop(&mut self) {
        self.log.try_close(self.id.clone());
    }
}

/// What a span adds to each of its lines; an extension of the span.
#[derive(Debug)]
pub(super) struct SpanNotes {
    /// For the text: `id="3f..." user=alice@example.com`.
    pub(super) text: FormattedFields<DefaultFields>,
    /// Until the journal's layer knows the span.
    pub(super) made_with: Option<Values>,
    /// What the journal's layer does not know yet.
    pub(super) recorded: Vec<Values>,
}

impl SpanNotes {
    pub(super) fn new(attributes: &Attributes<'_>) -> Self {
        let mut text = FormattedFields::new(String::new());
        // A String takes everything.
        let _ = DefaultFields::new().format_fields(text.as_writer(), attributes);
        let mut values = Values::none(attributes.fields());
        attributes.record(&mut values);
        Self { text, made_with: Some(values), recorded: Vec::new() }
    }

    pub(super) fn record(&mut self, metadata: &Metadata<'_>, recorded: &Record<'_>) {
        let _ = DefaultFields::new().add_fields(&mut self.text, recorded);
        let mut values = Values::none(metadata.fields());
        recorded.record(&mut values);
        self.recorded.push(values);
    }
}

/// Values of the fields of an event or a span, as the journal shows them.
#[derive(Debug)]
pub(super) struct Values {
    /// By the index of the field.
    texts: Box<[Option<String>]>,
    /// The field whose value is the text of the entry. An event without a message has none: its
    /// entry in the journal has fields only.
    in_text: Option<usize>,
}

impl Values {
    pub(super) fn none(fields: &FieldSet) -> Self {
        Self { texts: vec![None; fields.len()].into(), in_text: None }
    }

    /// Calls `take` with the values in the form in which layers take them.
    pub(super) fn lend(&self, fields: &FieldSet, text: &str, take: impl FnOnce(&ValueSet<'_>)) {
        let mut values: Vec<Option<&dyn Value>> =
            self.texts.iter().map(|text| text.as_ref().map(|text| text as &dyn Value)).collect();
        if let Some(value) = self.in_text.and_then(|index| values.get_mut(index)) {
            *value = Some(&text);
        }
        take(&fields.value_set_all(&values));
    }

    fn keep(&mut self, field: &Field, text: impl FnOnce() -> String) {
        if self.in_text != Some(field.index())
            && let Some(place) = self.texts.get_mut(field.index())
        {
            *place = Some(text());
        }
    }
}

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, || value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.keep(field, || format!("{value:?}"));
    }
}
