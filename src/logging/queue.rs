//! The lines between those who write them, who never wait, and the thread that hands them to the log.
//!
//! A line that has no room is dropped and counted. From then on all are, until half of the queue is
//! free; there a line with the number takes the place of those that are missing. So a log that is
//! read slowly gets one such line for each gap of that size, not one for every other line.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tracing::Level;

use super::kept::KeptEvent;

/// What may wait for the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Lines. Each takes a slot, however short it is.
    pub(super) lines: usize,
    /// Octets of all lines: a peer or an operator can make one long.
    pub(super) octets: usize,
}

/// A line in the form in which its target takes it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) severity: Level,
    pub(super) text: Box<[u8]>,
    /// For a target that takes more of an event than its text.
    pub(super) event: Option<Box<KeptEvent>>,
}

impl Entry {
    fn octets(&self) -> usize {
        self.text.len() + self.event.as_ref().map_or(0, |event| event.octets())
    }
}

/// First in, first out.
#[derive(Debug)]
pub(super) struct Queue {
    bounds: Bounds,
    /// Makes the line that says how many were dropped.
    notice: fn(u64) -> Entry,
    state: Mutex<State>,
    /// Wakes the thread that writes.
    filled: Condvar,
    /// Wakes those who flush.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    octets: usize,
    /// An entry has been taken out and may not be written yet.
    writing: bool,
    /// The writer waits for an entry.
    waiting: bool,
    /// Dropped lines that no line tells of yet.
    untold: u64,
    /// Dropped lines since the start.
    dropped: u64,
}

impl Queue {
    pub(super) fn new(bounds: Bounds, notice: fn(u64) -> Entry) -> Self {
        Self {
            bounds,
            notice,
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        }
    }

    /// Appends an entry, or drops it. Never waits for the log.
    pub(super) fn push(&self, entry: Entry) {
        let mut state = self.lock();
        self.tell_dropped(&mut state);
        let fits = state.entries.len() < self.bounds.lines
            && state.octets + entry.octets() <= self.bounds.octets;
        if fits && state.untold == 0 {
            state.push(entry);
        } else {
            state.untold += 1;
            state.dropped += 1;
        }
        let wake = std::mem::take(&mut state.waiting);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    /// Waits for the next entry; the one before is written. For one thread only.
    pub(super) fn next(&self) -> Entry {
        let mut state = self.lock();
        loop {
            if let Some(entry) = self.take(&mut state) {
                return entry;
            }
            state.waiting = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The same without waiting, where there is no thread for it.
    pub(super) fn try_next(&self) -> Option<Entry> {
        self.take(&mut self.lock())
    }

    /// Waits until all is written, for as long as `limit`. Tells whether it is.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let unwritten = |state: &mut State| !state.is_written();
        let waited = self.emptied.wait_timeout_while(self.lock(), limit, unwritten);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_written()
    }

    /// Lines dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn take(&self, state: &mut State) -> Option<Entry> {
        self.tell_dropped(state);
        let entry = state.entries.pop_front();
        state.octets -= entry.as_ref().map_or(0, Entry::octets);
        state.writing = entry.is_some();
        if state.is_written() {
            self.emptied.notify_all();
        }
        entry
    }

    /// Puts the number of dropped lines where they are missing, once half of the queue is free.
    fn tell_dropped(&self, state: &mut State) {
        let has_room =
            state.entries.len() <= self.bounds.lines / 2 && state.octets <= self.bounds.octets / 2;
        if state.untold > 0 && has_room {
            let untold = std::mem::take(&mut state.untold);
            state.push((self.notice)(untold));
        }
    }

    /// Nothing here panics while it has the lock, and each state of it is a good one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, entry: Entry) {
        self.octets += entry.octets();
        self.entries.push_back(entry);
    }

    fn is_written(&self) -> bool {
        self.entries.is_empty() && !self.writing && self.untold == 0
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    const BOUNDS: Bounds = Bounds { lines: 4, octets: 100 };
    const NO_TIME: Duration = Duration::from_millis(20);
    const AMPLE: Duration = Duration::from_secs(20);

    fn entry(text: &str) -> Entry {
        Entry { severity: Level::INFO, text: text.as_bytes().into(), event: None }
    }

    fn queue() -> Queue {
        Queue::new(BOUNDS, |dropped| entry(&format!("{dropped} dropped")))
    }

    fn push(queue: &Queue, lines: &[&str]) {
        for line in lines {
            queue.push(entry(line));
        }
    }

    fn take(queue: &Queue) -> Option<String> {
        let entry = queue.try_next()?;
        Some(String::from_utf8(entry.text.into()).unwrap())
    }

    fn rest(queue: &Queue) -> Vec<String> {
        std::iter::from_fn(|| take(queue)).collect()
    }

    #[test]
    fn lines_keep_their_order() {
        let queue = queue();
        push(&queue, &["a", "b"]);
        assert_eq!(take(&queue).as_deref(), Some("a"));
        push(&queue, &["c"]);
        assert_eq!(rest(&queue), ["b", "c"]);
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn the_number_of_lines_is_bounded_and_the_gap_is_told_in_its_place() {
        let queue = queue();
        push(&queue, &["a", "b", "c", "d", "e", "f"]);
        assert_eq!(queue.dropped(), 2);
        // Room for one line is no reason to begin again.
        assert_eq!(take(&queue).as_deref(), Some("a"));
        push(&queue, &["g"]);
        assert_eq!(queue.dropped(), 3);
        assert_eq!(take(&queue).as_deref(), Some("b"));
        push(&queue, &["h"]);
        assert_eq!(rest(&queue), ["c", "d", "3 dropped", "h"]);
        assert_eq!(queue.dropped(), 3);
    }

    #[test]
    fn the_number_of_octets_is_bounded() {
        let queue = queue();
        let long = "x".repeat(60);
        push(&queue, &[&long, &"y".repeat(40), "z"]);
        assert_eq!(queue.dropped(), 1);
        assert_eq!(take(&queue), Some(long));
        assert_eq!(rest(&queue), ["y".repeat(40), "1 dropped".to_owned()]);
    }

    #[test]
    fn a_line_longer_than_the_queue_is_told_of_too() {
        let queue = queue();
        push(&queue, &["a", &"x".repeat(101), "b"]);
        assert_eq!(rest(&queue), ["a", "1 dropped", "b"]);
        push(&queue, &[&"x".repeat(101)]);
        assert_eq!(rest(&queue), ["1 dropped"]);
        assert_eq!(queue.dropped(), 2);
    }

    #[test]
    fn each_gap_is_told_once() {
        let queue = queue();
        push(&queue, &["a"; 7]);
        assert_eq!(rest(&queue)[4..], ["3 dropped"]);
        assert_eq!(rest(&queue), [""; 0]);
        push(&queue, &["b"; 5]);
        assert_eq!(rest(&queue)[4..], ["1 dropped"]);
        assert_eq!(queue.dropped(), 4);
    }

    #[test]
    fn a_flush_waits_for_the_line_that_is_being_written_but_not_for_ever() {
        let queue = queue();
        assert!(queue.flush(NO_TIME), "nothing was written");
        push(&queue, &["a"]);
        assert!(!queue.flush(NO_TIME));
        assert_eq!(take(&queue).as_deref(), Some("a"));
        assert!(!queue.flush(NO_TIME), "the line may not be written yet");
        assert_eq!(take(&queue), None);
        assert!(queue.flush(NO_TIME));
    }

    #[test]
    fn a_writer_that_waits_is_woken_and_a_flush_sees_its_work() {
        let queue = Arc::new(queue());
        let (tell, told) = std::sync::mpsc::channel();
        let writer = Arc::clone(&queue);
        thread::spawn(move || while tell.send(writer.next()).is_ok() {});
        for text in ["a", "b", &"x".repeat(101), "c"] {
            push(&queue, &[text]);
            assert!(queue.flush(AMPLE));
        }
        let texts: Vec<_> = told.try_iter().map(|entry| entry.text).collect();
        let expected = [&b"a"[..], b"b", b"1 dropped", b"c"];
        assert_eq!(texts, expected.map(Box::<[u8]>::from));
    }
}
