//! The threads that read files for a reload or a renewal of certificates.
//!
//! A file on a network mount whose server is dead is read for ever, and nothing ends that. The
//! reload is given up after a while and its thread is left behind; the next one has a thread of its
//! own and may succeed, for example because the configuration names another file now.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::timeout;

use super::super::on_own_thread;
use crate::{clock, tls::Utc};

/// Time that a reload may read. Names in `address` are looked up in it, too.
pub(super) const READING_TIME: Duration = Duration::from_secs(30);

/// Most threads that read at once, those that were given up included.
const MAX_READERS: usize = 4;

/// The readings under way, those that were given up included.
#[derive(Debug)]
pub(super) struct Readings {
    /// Time for each.
    patience: Duration,
    under_way: UnderWay,
}

type UnderWay = Arc<Mutex<Vec<Reading>>>;

/// What a reload, or a renewal of certificates, is reading.
#[derive(Debug, Clone)]
pub struct Reading {
    kind: &'static str,
    what: String,
    since: SystemTime,
    number: u64,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, what, since, .. } = self;
        write!(f, "a {kind} is still reading {what} since {}", Utc(*since))
    }
}

/// The hand of the thread that reads.
#[derive(Debug)]
pub(super) struct Progress {
    under_way: UnderWay,
    number: u64,
}

/// Why nothing was read.
#[derive(Debug)]
pub(super) enum NotRead {
    /// It is read too long, or too many others are.
    Still(Reading),
    /// The thread panicked or could not be started.
    Broken,
}

impl Readings {
    /// Each may take `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, under_way: UnderWay::default() }
    }

    /// Runs `read` on a thread of its own, and waits for it for a limited time. `kind` says in
    /// messages what it is for.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        kind: &'static str,
        read: impl FnOnce(&Progress) -> T + Send + 'static,
    ) -> Result<T, NotRead> {
        let progress = self.begin(kind).map_err(NotRead::Still)?;
        let number = progress.number;
        let reading = on_own_thread("reading", move || read(&progress));
        if let Ok(read) = timeout(self.patience, reading).await {
            return read.ok_or(NotRead::Broken);
        }
        let under_way = lock(&self.under_way);
        let own = under_way.iter().find(|reading| reading.number == number);
        // None: it has ended in this moment.
        Err(own.map_or(NotRead::Broken, |own| NotRead::Still(own.clone())))
    }

    /// The one that began last.
    pub(super) fn last(&self) -> Option<Reading> {
        lock(&self.under_way).last().cloned()
    }

    fn begin(&self, kind: &'static str) -> Result<Progress, Reading> {
        let mut under_way = lock(&self.under_way);
        let number = under_way.last().map_or(0, |last| last.number + 1);
        if let Some(last) = under_way.get(MAX_READERS - 1) {
            return Err(last.clone());
        }
        let what = "the configuration".to_owned();
        under_way.push(Reading { kind, what, since: clock::wall(), number });
        Ok(Progress { under_way: Arc::clone(&self.under_way), number })
    }
}

impl Progress {
    /// Tells what is read now.
    pub(super) fn reads(&self, what: &dyn fmt::Display) {
        let mut under_way = lock(&self.under_way);
        if let Some(own) = under_way.iter_mut().find(|reading| reading.number == self.number) {
            own.what = what.to_string();
            own.since = clock::wall();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        lock(&self.under_way).retain(|reading| reading.number != self.number);
    }
}

fn lock(under_way: &UnderWay) -> MutexGuard<'_, Vec<Reading>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_reading_that_hangs_is_named_and_left_behind() {
        let readings = Readings::new(Duration::from_millis(50));
        let mut hung = Vec::new();
        for _ in 0..MAX_READERS {
            let (free, wait) = mpsc::channel::<()>();
            let read = readings.run("reload", move |progress| {
                progress.reads(&"/mnt/relay.crt");
                let _ = wait.recv();
            });
            let Err(NotRead::Still(reading)) = read.await else { panic!("it hangs") };
            let text = reading.to_string();
            assert!(text.starts_with("a reload is still reading /mnt/relay.crt since "), "{text}");
            hung.push(free);
        }
        let refused = readings.run("reload", |_| ()).await;
        assert!(matches!(refused, Err(NotRead::Still(_))), "{refused:?}");
        hung.pop();
        while lock(&readings.under_way).len() == MAX_READERS {
            std::thread::yield_now();
        }
        assert_eq!(readings.run("renewal", |_| 1).await.unwrap(), 1);
    }
}
