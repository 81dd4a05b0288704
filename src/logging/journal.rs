//! The journal: the text of a line, and beside it what the event and its spans know, as `MSRP_`
//! fields.
//!
//! tracing-journald speaks to journald. It waits while journald does not read, so it works behind the
//! queue, on the thread of the log.

use std::{fmt::Write as _, io, os::unix::net::UnixDatagram, sync::OnceLock};

use nix::syslog::Facility;
use tracing_core::{
    Dispatch, Event, Level, Metadata, Subscriber,
    callsite::DefaultCallsite,
    dispatcher::{self, WeakDispatch},
    metadata::Kind,
    span::{Attributes, Id, Record},
};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{
    fmt::{
        FormatFields as _,
        format::{DefaultFields, Writer},
    },
    layer::Context,
    registry::{LookupSpan, Scope},
};

use super::{
    kept::{KeptEvent, KeptSpan, SpanNotes},
    queue::{Entry, Queue},
    replay::Replay,
    syslog::IDENTIFIER,
};

/// What journald listens on.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Fails where nobody listens for it. Sends nothing, which could take for ever.
pub(super) fn reach() -> io::Result<()> {
    UnixDatagram::unbound()?.connect(SOCKET)
}

/// Makes entries of events.
#[derive(Debug)]
pub(super) struct Layer {
    queue: &'static Queue,
    /// What this is a layer of.
    log: OnceLock<WeakDispatch>,
}

impl Layer {
    pub(super) fn new(queue: &'static Queue) -> Self {
        Self { queue, log: OnceLock::new() }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Layer {
    fn on_register_dispatch(&self, log: &Dispatch) {
        let _ = self.log.set(log.downgrade());
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanNotes::new(attributes));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(notes) = span.extensions_mut().get_mut::<SpanNotes>()
        {
            notes.record(span.metadata(), values);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut text = String::new();
        let spans = context.event_scope(event).into_iter().flat_map(Scope::from_root);
        for span in spans {
            text.push_str(span.name());
            if let Some(notes) = span.extensions().get::<SpanNotes>()
                && !notes.text.is_empty()
            {
                // A String takes everything.
                let _ = write!(text, "{{{}}}", notes.text.fields);
            }
            text.push(':');
        }
        if !text.is_empty() {
            text.push(' ');
        }
        let _ = DefaultFields::new().format_fields(Writer::new(&mut text), event);
        let log = self.log.get().and_then(WeakDispatch::upgrade);
        let span = context.event_span(event).zip(log);
        let span = span.map(|(span, log)| KeptSpan::new(log, &span.id()));
        self.queue.push(Entry {
            severity: *event.metadata().level(),
            text: text.into_bytes().into(),
            event: Some(Box::new(KeptEvent::new(event, span))),
        });
    }
}

/// A warning of the log itself.
pub(super) fn warning(text: &str) -> Entry {
    Entry { severity: Level::WARN, text: text.as_bytes().into(), event: None }
}

/// What the journal takes such a warning for. No level leaves it out.
static WARNING: Metadata<'static> = tracing_core::metadata! {
    name: "warning",
    target: module_path!(),
    level: Level::WARN,
    fields: &["message"],
    callsite: &CALLSITE,
    kind: Kind::EVENT,
};
static CALLSITE: DefaultCallsite = DefaultCallsite::new(&WARNING);

/// Hands entries to journald.
pub(super) struct Sender {
    log: Dispatch,
    warning: KeptEvent,
    /// Once journald has been spoken to.
    journal: Option<Replay<tracing_journald::Layer>>,
}

impl Sender {
    /// Of the log of this process.
    pub(super) fn new() -> Self {
        let log = dispatcher::get_default(Dispatch::clone);
        Self { log, warning: KeptEvent::of_text(&WARNING), journal: None }
    }

    pub(super) fn write(&mut self, entry: &Entry) {
        if self.journal.is_none() {
            self.journal = connect().ok().map(|layer| Replay::new(layer, self.log.clone()));
        }
        // There is nobody to tell that the log does not work.
        if let Some(journal) = &self.journal {
            let event = entry.event.as_deref().unwrap_or(&self.warning);
            journal.event(event, &String::from_utf8_lossy(&entry.text));
        }
    }
}

/// Waits while journald does not read.
fn connect() -> io::Result<tracing_journald::Layer> {
    let priorities = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    // The facility counts where journald hands lines on to a syslog daemon.
    let facility = (Facility::LOG_DAEMON as i32 >> 3).to_string();
    Ok(tracing_journald::layer()?
        .with_syslog_identifier(IDENTIFIER.to_string_lossy().into_owned())
        .with_field_prefix(Some("MSRP".to_owned()))
        .with_custom_fields([("SYSLOG_FACILITY", facility)])
        .with_priority_mappings(priorities))
}

#[cfg(test)]
mod tests {
    use std::{
        fmt::Debug,
        sync::{Arc, Mutex},
    };

    use tracing::{debug, info, info_span};
    use tracing_core::{Field, field::Visit};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::logging::queue::Bounds;

    fn queue(octets: usize) -> &'static Queue {
        Box::leak(Box::new(Queue::new(Bounds { lines: 9, octets }, |_| warning("gap"))))
    }

    /// Writes down what a layer is told, but for messages.
    struct Witness<const OF_THE_PROCESS: bool>(Arc<Mutex<Vec<String>>>);

    /// In each span that the witness knows.
    struct Known<const OF_THE_PROCESS: bool>;

    impl<const P: bool> Witness<P> {
        fn told(&self, what: &str, about: &Metadata<'_>, fields: &Fields) {
            let (file, line) = (about.file().unwrap(), about.line().unwrap());
            let told = format!(
                "{what} {} {} {} {file}:{line} {}",
                about.name(),
                about.level(),
                about.target(),
                fields.others
            );
            self.0.lock().unwrap().push(told);
        }
    }

    impl<const P: bool, S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S>
        for Witness<P>
    {
        fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            self.told("span", attributes.metadata(), &fields);
            context.span(id).unwrap().extensions_mut().insert(Known::<P>);
        }

        fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
            let span = context.span(id).unwrap();
            assert!(span.extensions().get::<Known<P>>().is_some());
            let mut fields = Fields::default();
            values.record(&mut fields);
            self.told("recorded", span.metadata(), &fields);
        }

        fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
            let mut path = "event in".to_owned();
            let current = context.lookup_current();
            for span in current.into_iter().flat_map(|span| span.scope().from_root()) {
                assert!(span.extensions().get::<Known<P>>().is_some());
                path.extend([" ", span.name()]);
            }
            let mut fields = Fields::default();
            event.record(&mut fields);
            self.told(&path, event.metadata(), &fields);
            if !P {
                self.0.lock().unwrap().push(fields.message);
            }
        }
    }

    #[derive(Default)]
    struct Fields {
        message: String,
        others: String,
    }

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.record_str(field, &format!("{value:?}"));
        }

        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == "message" {
                value.clone_into(&mut self.message);
            } else {
                self.others.extend([field.name(), "=", value, ";"]);
            }
        }
    }

    #[test]
    fn the_journal_is_told_later_what_a_layer_of_the_process_is_told() {
        let (at_once, later) = <(Arc<Mutex<_>>, Arc<Mutex<_>>)>::default();
        let queue = queue(9999);
        let log =
            Dispatch::new(tracing_subscriber::registry().with(Layer::new(queue)).with(Witness::<
                true,
            >(
                Arc::clone(&at_once),
            )));
        dispatcher::with_default(&log, || {
            info!(at = ?Some("once"), "outside");
            let span =
                info_span!("session", id = "3\nf", user = %"a@b", late = tracing::field::Empty);
            let _entered = span.enter();
            let _inner = info_span!("inner", octets = 7).entered();
            let error = io::Error::other("a fault");
            info!(octets = 5, is = true, error = &error as &dyn std::error::Error, "two\nlines");
            span.record("late", 7);
            debug!("an end");
            info_span!(parent: None, "other", one = "1", two = ?"2").in_scope(|| info!("other"));
        });
        // The spans are closed.
        let replay = Replay::new(Witness::<false>(Arc::clone(&later)), log);
        while let Some(entry) = queue.try_next() {
            let text = String::from_utf8(entry.text.into()).unwrap();
            replay.event(&entry.event.unwrap(), &text);
        }
        let mut told = later.lock().unwrap().clone();
        let messages = [
            "outside at=Some(\"once\")",
            "session{id=\"3\\nf\" user=a@b}:inner{octets=7}: two\nlines octets=5 is=true error=a fault",
            "session{id=\"3\\nf\" user=a@b late=7}:inner{octets=7}: an end",
            "other{one=\"1\" two=\"2\"}: other",
        ];
        let mut left = messages.to_vec();
        told.retain(|told| {
            let is_next = left.first().is_some_and(|message| message == told);
            left.drain(..usize::from(is_next));
            !is_next
        });
        assert_eq!(left, [""; 0], "{told:#?}");
        told.sort();
        let mut expected = at_once.lock().unwrap().clone();
        expected.sort();
        assert_eq!(told, expected);
        assert_eq!(told.len(), 8, "{told:#?}");
    }

    /// How many of one line are dropped by a queue of as many octets as `room`.
    fn dropped(room: &str) -> u64 {
        let queue = queue(room.len());
        let subscriber = tracing_subscriber::registry().with(Layer::new(queue));
        tracing::subscriber::with_default(subscriber, || {
            info_span!("s", a = 1).in_scope(|| info!(field = "four", "text"));
        });
        queue.dropped()
    }

    #[test]
    fn the_octets_of_fields_count() {
        assert_eq!(dropped("s{a=1}: text field=\"four\"four"), 0);
        assert_eq!(dropped("s{a=1}: text field=\"four\"fou"), 1);
    }

    #[test]
    fn a_warning_of_the_log_itself_is_an_event() {
        let told = Arc::default();
        let replay = Replay::new(Witness::<false>(Arc::clone(&told)), Dispatch::none());
        replay.event(&KeptEvent::of_text(&WARNING), "a gap");
        let told = told.lock().unwrap();
        let expected = format!("event in warning WARN {} {}:", module_path!(), file!());
        assert!(told[0].starts_with(&expected.replace("::tests", "")), "{told:?}");
        assert_eq!(told[1], "a gap");
    }
}
