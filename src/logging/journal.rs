//! The journal by its own protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): the text of a
//! line, and beside it what the event and its spans know, as `MSRP_` fields.

use std::{
    fmt::{Debug, Write as _},
    fs::File,
    io::{self, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixDatagram,
    },
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg},
    },
    syslog::Facility,
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    fmt::{
        FormatFields as _, FormattedFields,
        format::{DefaultFields, Writer},
    },
    layer::Context,
    registry::{LookupSpan, Scope},
};

use super::{
    IDENTIFIER,
    queue::{Entry, Queue},
    syslog::severity,
};

/// What journald listens on.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// Before the names of fields that are ours.
const PREFIX: &str = "MSRP_";

/// Fails where nobody listens for it. Sends nothing, which could take for ever.
pub(super) fn reach() -> io::Result<()> {
    UnixDatagram::unbound()?.connect(SOCKET)
}

/// Makes entries of events. tracing-journald does that, too, and sends them in the task that logs.
#[derive(Debug)]
pub(super) struct Layer {
    queue: &'static Queue,
}

/// What a span adds to each of its lines.
struct Noted {
    fields: Fields,
    /// For the text: `id="3f..." user=alice@example.com`.
    text: FormattedFields<DefaultFields>,
}

impl Layer {
    pub(super) fn new(queue: &'static Queue) -> Self {
        Self { queue }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Layer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        fields.add("SPAN_NAME", span.name());
        fields.add_place("SPAN_", span.metadata());
        attributes.record(&mut fields);
        let mut text = FormattedFields::new(String::new());
        // A String takes everything.
        let _ = DefaultFields::new().format_fields(text.as_writer(), attributes);
        span.extensions_mut().insert(Noted { fields, text });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(noted) = extensions.get_mut::<Noted>() else { return };
        values.record(&mut noted.fields);
        let _ = DefaultFields::new().add_fields(&mut noted.text, values);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        let mut text = String::new();
        let spans = context.event_scope(event).into_iter().flat_map(Scope::from_root);
        for span in spans {
            text.push_str(span.name());
            if let Some(noted) = span.extensions().get::<Noted>() {
                fields.0.extend_from_slice(&noted.fields.0);
                if !noted.text.is_empty() {
                    let _ = write!(text, "{{{}}}", noted.text.fields);
                }
            }
            text.push(':');
        }
        if !text.is_empty() {
            text.push(' ');
        }
        let _ = DefaultFields::new().format_fields(Writer::new(&mut text), event);
        fields.add_header(event.metadata());
        event.record(&mut fields);
        fields.add("MESSAGE", &text);
        self.queue.push(fields.into_entry(*event.metadata().level()));
    }
}

/// A warning in the form of the other entries.
pub(super) fn warning(text: &str) -> Entry {
    let mut fields = Fields::default();
    fields.add("TARGET", module_path!());
    fields.add("CODE_FILE", file!());
    fields.add("CODE_LINE", &line!().to_string());
    fields.add_sender(Level::WARN);
    fields.add("MESSAGE", text);
    fields.into_entry(Level::WARN)
}

/// Fields in the journal's encoding.
#[derive(Debug, Default)]
struct Fields(Vec<u8>);

impl Fields {
    /// The name on a line, the length of the value in eight octets, the value: it may be any text.
    fn add(&mut self, name: &str, value: &str) {
        let Self(octets) = self;
        octets.extend_from_slice(name.as_bytes());
        octets.push(b'\n');
        octets.extend_from_slice(&(value.len() as u64).to_le_bytes());
        octets.extend_from_slice(value.as_bytes());
        octets.push(b'\n');
    }

    /// Where in the code it is from.
    fn add_place(&mut self, prefix: &str, about: &Metadata<'_>) {
        self.add(&format!("{prefix}TARGET"), about.target());
        if let Some(file) = about.file() {
            self.add(&format!("{prefix}CODE_FILE"), file);
        }
        if let Some(line) = about.line() {
            self.add(&format!("{prefix}CODE_LINE"), &line.to_string());
        }
    }

    fn add_header(&mut self, about: &Metadata<'_>) {
        self.add_place("", about);
        self.add_sender(*about.level());
    }

    fn add_sender(&mut self, level: Level) {
        self.add("PRIORITY", &(severity(level) as i32).to_string());
        self.add("SYSLOG_IDENTIFIER", &IDENTIFIER.to_string_lossy());
        // It counts where journald hands lines on to a syslog daemon.
        self.add("SYSLOG_FACILITY", &(Facility::LOG_DAEMON as i32 >> 3).to_string());
    }

    /// A field of ours; names of fields are ours, too. The message is a part of the text.
    fn add_own(&mut self, field: &Field, value: &str) {
        if field.name() != "message" {
            let name = field.name().to_ascii_uppercase().replace('.', "_");
            self.add(&format!("{PREFIX}{name}"), value);
        }
    }

    fn into_entry(self, severity: Level) -> Entry {
        Entry { severity, text: self.0.into_boxed_slice() }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_own(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add_own(field, &format!("{value:?}"));
    }
}

/// Sends entries to journald. A new one may have bound the socket since the last entry, so it is
/// found by its path each time.
#[derive(Debug)]
pub(super) struct Sender(UnixDatagram);

impl Sender {
    pub(super) fn new() -> io::Result<Self> {
        UnixDatagram::unbound().map(Self)
    }

    pub(super) fn write(&self, entry: &Entry) {
        // There is nobody to tell that the log does not work.
        let _ = self.send(&entry.text, SOCKET);
    }

    fn send(&self, octets: &[u8], path: &str) -> io::Result<()> {
        match self.0.send_to(octets, path) {
            Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
                self.send_as_file(octets, path)
            }
            sent => sent.map(drop),
        }
    }

    /// What no datagram can hold is sent as a file in memory, sealed, so that journald may map it.
    fn send_as_file(&self, octets: &[u8], path: &str) -> io::Result<()> {
        let file = memory_file(octets)?;
        let descriptors = [file.as_raw_fd()];
        let passed = ControlMessage::ScmRights(&descriptors);
        let address = UnixAddr::new(path)?;
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg(self.0.as_raw_fd(), &[], &[passed], flags, Some(&address))?;
        Ok(())
    }
}

/// All that journald asks for.
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE)
    .union(SealFlag::F_SEAL_SEAL);

fn memory_file(octets: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create("msrprelay", flags)?);
    file.write_all(octets)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::io::{IoSliceMut, Read as _};

    use nix::sys::socket::{ControlMessageOwned, recvmsg};
    use tracing::{info, info_span};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::logging::queue::Bounds;

    fn fields(octets: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        let mut rest = octets;
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
            let name = String::from_utf8(rest[..end].to_vec()).unwrap();
            let (length, value) = rest[end + 1..].split_at(8);
            let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
            fields.push((name, String::from_utf8(value[..length].to_vec()).unwrap()));
            assert_eq!(value[length], b'\n');
            rest = &value[length + 1..];
        }
        fields
    }

    fn queue() -> &'static Queue {
        Box::leak(Box::new(Queue::new(Bounds { lines: 9, octets: 9999 }, |_| warning("gap"))))
    }

    /// The same fields as those of tracing-journald 0.3, and the spans in the text.
    #[test]
    fn an_entry_has_the_fields_of_its_spans_and_names_them_in_its_text() {
        let queue = queue();
        let subscriber = tracing_subscriber::registry().with(Layer::new(queue));
        tracing::subscriber::with_default(subscriber, || {
            let span =
                info_span!("session", id = "3f", user = %"a@b", late = tracing::field::Empty);
            let _entered = span.enter();
            let _inner = info_span!("inner").entered();
            span.record("late", 7);
            info!(octets = 5, "two\nlines");
        });
        let entry = queue.try_next().unwrap();
        let fields = fields(&entry.text);
        let of = |name: &str| -> Vec<&str> {
            fields.iter().filter(|(known, _)| known == name).map(|(_, text)| &**text).collect()
        };
        assert_eq!(of("SPAN_NAME"), ["session", "inner"]);
        assert_eq!(of("MSRP_ID"), ["3f"]);
        assert_eq!(of("MSRP_USER"), ["a@b"]);
        assert_eq!(of("MSRP_LATE"), ["7"]);
        assert_eq!(of("MSRP_OCTETS"), ["5"]);
        assert_eq!(of("PRIORITY"), ["6"]);
        assert_eq!(of("SYSLOG_IDENTIFIER"), ["msrprelay"]);
        assert_eq!(of("SYSLOG_FACILITY"), ["3"]);
        assert_eq!(of("TARGET"), [module_path!()]);
        assert_eq!(of("SPAN_TARGET"), [module_path!(); 2]);
        assert_eq!(of("CODE_FILE"), [file!()]);
        assert_eq!(of("SPAN_CODE_FILE"), [file!(); 2]);
        assert_eq!((of("CODE_LINE").len(), of("SPAN_CODE_LINE").len()), (1, 2));
        let text = "session{id=\"3f\" user=a@b late=7}:inner: two\nlines octets=5";
        assert_eq!(of("MESSAGE"), [text]);
        assert_eq!(fields.len(), 19, "{fields:?}");
    }

    #[test]
    fn an_entry_that_is_too_long_for_a_datagram_is_sent_as_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let octets = b"MESSAGE=long\n".repeat(100_000);
        Sender::new().unwrap().send(&octets, path.to_str().unwrap()).unwrap();
        let mut space = nix::cmsg_space!([i32; 1]);
        let mut body = [0; 16];
        let mut slices = [IoSliceMut::new(&mut body)];
        let flags = MsgFlags::empty();
        let received =
            recvmsg::<()>(journal.as_raw_fd(), &mut slices, Some(&mut space), flags).unwrap();
        let Some(ControlMessageOwned::ScmRights(descriptors)) = received.cmsgs().unwrap().next()
        else {
            panic!("no file");
        };
        let mut file = File::open(format!("/proc/self/fd/{}", descriptors[0])).unwrap();
        let seals = fcntl(&file, FcntlArg::F_GET_SEALS).unwrap();
        assert_eq!(SealFlag::from_bits_retain(seals), SEALS);
        let mut arrived = Vec::new();
        file.read_to_end(&mut arrived).unwrap();
        assert!(arrived == octets, "{} octets", arrived.len());
    }
}
