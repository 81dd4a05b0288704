//! From tracing's formatter to the queue: each event becomes one entry.

use std::io::{self, Write};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::queue::{Entry, Queue};

/// Writes to the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines(pub(super) &'static Queue);

/// Collects one event, which goes to the queue when it is dropped.
pub(super) struct Line {
    queue: &'static Queue,
    severity: Level,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { queue: self.0, severity: Level::INFO, text: Vec::new() }
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Line {
        Line { queue: self.0, severity: *about.level(), text: Vec::new() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text).into_boxed_slice();
        self.queue.push(Entry { severity: self.severity, text, event: None });
    }
}
