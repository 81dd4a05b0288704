//! The progress bar on a terminal, and the summary at the end.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Progress of one file.
pub(crate) struct Meter {
    bar: ProgressBar,
    started: Option<Instant>,
    octets: u64,
}

impl Meter {
    /// Shows nothing before [`start`](Self::start), and nothing at all if stderr is not a terminal.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(8));
        Self { bar, started: None, octets: 0 }
    }

    /// Starts the clock and the bar, for a file of `total` octets.
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

    /// Sets how many octets have been transferred.
    pub(crate) fn set(&mut self, octets: u64) {
        self.octets = octets;
        self.bar.set_position(octets);
    }

    /// Octets transferred so far.
    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    pub(crate) fn started(&self) -> bool {
        self.started.is_some()
    }

    /// Prints a line without disturbing the bar.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Removes the bar.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// For example `5242880 bytes (5.00 MiB) in 0.1 s, 50.00 MiB/s`.
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
