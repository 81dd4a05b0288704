//! Gives a layer what was kept of events and spans, as if it were a part of the process's log.
//!
//! It is none: that would have it called in the tasks that log, and its interest would count in the
//! level of the whole process. So the layer gets a subscriber of its own, which no dispatcher knows.
//! The spans in it are those of the process; what the layer notes of a span lives as long as the span.

use std::{cell::RefCell, mem};

use tracing_core::{
    Dispatch, Event, Metadata, Subscriber,
    span::{Attributes, Current, Id, Record},
};
use tracing_subscriber::{
    Layer, Registry,
    layer::Layered,
    registry::{LookupSpan, SpanData as _},
};

use super::kept::{KeptEvent, KeptSpan, SpanNotes};

/// A layer and the subscriber below it.
pub(super) struct Replay<L>(Layered<L, Spans>);

impl<L: Layer<Spans>> Replay<L> {
    /// `log` is that of the process: its spans are kept there.
    pub(super) fn new(layer: L, log: Dispatch) -> Self {
        Self(layer.with_subscriber(Spans { log, entered: RefCell::default() }))
    }

    pub(super) fn event(&self, event: &KeptEvent, text: &str) {
        if let Some(span) = &event.span {
            self.scope(span);
            self.0.enter(span.id());
        }
        event.values.lend(event.metadata.fields(), text, |values| {
            self.0.event(&Event::new(event.metadata, values));
        });
        if let Some(span) = &event.span {
            self.0.exit(span.id());
        }
    }

    /// Tells the layer what it does not know of a span and its parents. A value that was recorded
    /// after an event may so be known before the event.
    fn scope(&self, innermost: &KeptSpan) {
        let innermost = innermost.registry().and_then(|registry| registry.span(innermost.id()));
        for span in innermost.into_iter().flat_map(|span| span.scope().from_root()) {
            let (id, metadata) = (span.id(), span.metadata());
            // The layer has extensions, too: they are not locked while it is called.
            let (made_with, recorded) = match span.extensions_mut().get_mut::<SpanNotes>() {
                Some(notes) => (notes.made_with.take(), mem::take(&mut notes.recorded)),
                None => continue,
            };
            if let Some(values) = made_with {
                self.0.enter(&id);
                values.lend(metadata.fields(), "", |values| {
                    self.0.new_span(&Attributes::new_root(metadata, values));
                });
                self.0.exit(&id);
            }
            for values in recorded {
                values.lend(metadata.fields(), "", |values| {
                    self.0.record(&id, &Record::new(values));
                });
            }
        }
    }
}

/// The spans of the process, of which one at most is entered.
pub(super) struct Spans {
    log: Dispatch,
    entered: RefCell<Option<Id>>,
}

impl<'a> LookupSpan<'a> for Spans {
    type Data = <Registry as LookupSpan<'a>>::Data;

    fn span_data(&'a self, id: &Id) -> Option<Self::Data> {
        self.log.downcast_ref::<Registry>()?.span_data(id)
    }
}

impl Subscriber for Spans {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    /// Makes none: it is the one that is entered.
    fn new_span(&self, _attributes: &Attributes<'_>) -> Id {
        self.entered.borrow().clone().expect("a span is entered before the layer is told of it")
    }

    fn current_span(&self) -> Current {
        let entered = self.entered.borrow();
        let known = entered.as_ref().and_then(|id| {
            let metadata = self.span_data(id)?.metadata();
            Some(Current::new(id.clone(), metadata))
        });
        known.unwrap_or_else(Current::none)
    }

    fn enter(&self, id: &Id) {
        self.entered.replace(Some(id.clone()));
    }

    fn exit(&self, _id: &Id) {
        self.entered.replace(None);
    }

    /// Layers have what follows.
    fn event(&self, _event: &Event<'_>) {}

    fn record(&self, _id: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _id: &Id, _follows: &Id) {}
}
