//! The bar on a terminal, and the line at the end.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far a file has come.
pub(crate) struct Meter {
    bar: ProgressBar,
    started: Option<Instant>,
    octets: u64,
}

impl Meter {
    /// Shows nothing yet, and never anything where stderr is no terminal.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(8));
        Self { bar, started: None, octets: 0 }
    }

    /// The file starts.
    pub(crate) fn start(&mut self, total: Option<u64>) {
        self.started = Some(now());
        let template = match total {
            Some(_) => {
                "{bar:30} {percent:>3}%  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left"
            }
            None => "{spinner} {bytes}  {bytes_per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
        self.bar.reset();
    }

    /// So many octets have passed.
    pub(crate) fn set(&mut self, octets: u64) {
        self.octets = octets;
        self.bar.set_position(octets);
    }

    /// How many octets have passed.
    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    /// Whether a file has started.
    pub(crate) fn started(&self) -> bool {
        self.started.is_some()
    }

    /// Writes a line that a bar does not spoil.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// `5.00 MiB in 0.1 s (50.00 MiB/s)`
    pub(crate) fn summary(&self) -> String {
        let elapsed = self.started.map_or(Duration::ZERO, |started| now() - started);
        let seconds = elapsed.as_secs_f64().max(0.001);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate for people"
        )]
        let rate = (self.octets as f64 / seconds) as u64;
        let bytes = self.octets;
        format!("{bytes} bytes ({}) in {seconds:.1} s, {}/s", HumanBytes(bytes), HumanBytes(rate))
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a file took, for people")]
fn now() -> Instant {
    Instant::now()
}
