//! Work that blocks, for reload and control.
//!
//! It does not run on the blocking threads of tokio. Their number is limited, and a connection to a
//! database looks up its host on them: clients that log in while DNS is dead could take them all.

use std::thread;

use tokio::sync::oneshot;

/// Runs `work` on a thread of its own. `None` if it panicked, or if there can be no further thread.
/// The thread goes on to its end if the future is dropped.
pub async fn on_own_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (deliver, outcome) = oneshot::channel();
    let run = move || drop(deliver.send(work()));
    thread::Builder::new().name(name.to_owned()).spawn(run).ok()?;
    outcome.await.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use super::*;

    #[tokio::test]
    async fn it_returns_what_the_work_does_and_survives_its_panic() {
        let name = || thread::current().name().map(str::to_owned);
        assert_eq!(on_own_thread("reading", name).await.unwrap().as_deref(), Some("reading"));
        assert_eq!(on_own_thread("reading", || panic!("on purpose")).await, None::<()>);
    }

    /// More of them than tokio has blocking threads.
    #[tokio::test]
    async fn no_thread_waits_for_another() {
        let (_keep, hung): (mpsc::Sender<()>, _) = mpsc::channel();
        let hung = Arc::new(Mutex::new(hung));
        for _ in 0..600 {
            let hung = Arc::clone(&hung);
            tokio::spawn(on_own_thread("hung", move || hung.lock().unwrap().recv().is_ok()));
        }
        assert_eq!(on_own_thread("reading", || 1).await, Some(1));
    }
}
