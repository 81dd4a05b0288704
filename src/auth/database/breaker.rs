//! A circuit breaker: while the database is away, look-ups fail at once. From time to time one of
//! them is a trial, which finds out whether the database is back. Pure: the time is an argument.
//!
//! ```text
//!             failed                      answered
//!   closed ------------> open (trials) --------------> closed
//! ```

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::auth::HealthState;

/// The least time between trials, and so the delay until a database that is back is used again.
const TRIAL_PAUSE: Duration = Duration::from_secs(1);

/// The most trials that run at once. Each may last as long as a look-up.
const TRIALS_MAX: u32 = 8;

#[derive(Debug)]
pub(super) struct Breaker {
    pause: Duration,
    circuit: Mutex<Circuit>,
}

#[derive(Debug)]
struct Circuit {
    open: Option<Open>,
    /// When the newest look-up that was answered began.
    answered: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    cause: Arc<str>,
    /// When the first look-up failed.
    since: Instant,
    next_trial: Instant,
}

/// What a look-up may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Ask as usual.
    Pass,
    /// Ask over a new connection, to find out whether the database is back.
    Trial,
    /// Do not ask, for this reason.
    Refuse(Arc<str>),
}

/// What a failure or an answer changed, for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    None,
    /// The database is away, or is away for another reason than before.
    Lost,
    /// The database is back.
    Back,
}

impl Breaker {
    /// A closed circuit, for look-ups that last `timeout` at most.
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            pause: TRIAL_PAUSE.max(timeout / TRIALS_MAX),
            circuit: Mutex::new(Circuit { open: None, answered: None }),
        }
    }

    pub(super) fn admit(&self, now: Instant) -> Admission {
        let pause = self.pause;
        match &mut self.lock().open {
            None => Admission::Pass,
            Some(open) if now >= open.next_trial => {
                open.next_trial = now + pause;
                Admission::Trial
            }
            Some(open) => Admission::Refuse(Arc::clone(&open.cause)),
        }
    }

    /// Why the database is away. `None` if it is not.
    pub(super) fn cause(&self) -> Option<Arc<str>> {
        self.lock().open.as_ref().map(|open| Arc::clone(&open.cause))
    }

    /// Whether the database answers, as far as it was asked.
    pub(super) fn health(&self) -> HealthState {
        let circuit = self.lock();
        match (&circuit.open, circuit.answered) {
            (Some(Open { cause, since, .. }), _) => {
                HealthState::Fails { fault: Arc::clone(cause), since: *since }
            }
            (None, Some(last)) => HealthState::Answers { last },
            (None, None) => HealthState::Unasked,
        }
    }

    /// A look-up that began at `began` failed.
    ///
    /// The next look-up is a trial at once, because the fault may have been this connection's only.
    /// A failure does not count if a look-up that began later has been answered.
    pub(super) fn failed(&self, cause: &Arc<str>, began: Instant, now: Instant) -> News {
        let mut circuit = self.lock();
        if circuit.answered.is_some_and(|answered| began <= answered) {
            return News::None;
        }
        match &mut circuit.open {
            None => {
                let cause = Arc::clone(cause);
                circuit.open = Some(Open { cause, since: now, next_trial: now });
            }
            Some(open) if open.cause == *cause => return News::None,
            Some(open) => open.cause = Arc::clone(cause),
        }
        News::Lost
    }

    /// A look-up that began at `began` was answered.
    pub(super) fn answered(&self, began: Instant) -> News {
        let mut circuit = self.lock();
        circuit.answered = circuit.answered.max(Some(began));
        if circuit.open.take().is_some() { News::Back } else { News::None }
    }

    fn lock(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_opens_it_and_one_look_up_a_second_tries() {
        let (breaker, start) = (Breaker::new(SECOND * 5), start());
        assert_eq!(breaker.admit(start), Admission::Pass);
        assert_eq!(breaker.failed(&cause("refused"), start, start), News::Lost);
        assert_eq!(breaker.admit(start), Admission::Trial);
        for milliseconds in [0, 1, 999] {
            let now = start + Duration::from_millis(milliseconds);
            assert_eq!(breaker.admit(now), Admission::Refuse(cause("refused")));
        }
        assert_eq!(breaker.admit(start + SECOND), Admission::Trial);
        assert_eq!(breaker.admit(start + SECOND), Admission::Refuse(cause("refused")));
    }

    #[test]
    fn an_answer_closes_it() {
        let (breaker, start) = (Breaker::new(SECOND), start());
        breaker.failed(&cause("refused"), start, start);
        assert_eq!(breaker.answered(start + SECOND), News::Back);
        assert_eq!(breaker.answered(start + SECOND), News::None);
        assert_eq!(breaker.admit(start + SECOND), Admission::Pass);
        assert_eq!(breaker.cause(), None);
    }

    #[test]
    fn each_cause_is_told_once() {
        let (breaker, start) = (Breaker::new(SECOND), start());
        for (text, change) in [
            ("refused", News::Lost),
            ("refused", News::None),
            ("no such table", News::Lost),
            ("no such table", News::None),
        ] {
            assert_eq!(breaker.failed(&cause(text), start, start), change, "{text}");
            assert_eq!(breaker.cause(), Some(cause(text)));
        }
    }

    #[test]
    fn an_outage_lasts_from_the_first_failure_and_has_the_newest_cause() {
        let (breaker, start) = (Breaker::new(SECOND), start());
        assert_eq!(breaker.health(), HealthState::Unasked);
        let fails = |text, since| HealthState::Fails { fault: cause(text), since };
        for (text, second) in [("refused", 1), ("refused", 2), ("no such table", 3)] {
            let now = start + SECOND * second;
            breaker.failed(&cause(text), now, now);
            assert_eq!(breaker.health(), fails(text, start + SECOND));
        }
        breaker.answered(start + SECOND * 4);
        assert_eq!(breaker.health(), HealthState::Answers { last: start + SECOND * 4 });
        let now = start + SECOND * 5;
        breaker.failed(&cause("refused"), now, now);
        assert_eq!(breaker.health(), fails("refused", now));
    }

    /// Look-ups that hung when the database went away end after its return.
    #[test]
    fn the_past_does_not_open_it() {
        let (breaker, start) = (Breaker::new(SECOND), start());
        assert_eq!(breaker.answered(start + SECOND), News::None);
        let now = start + SECOND * 2;
        assert_eq!(breaker.failed(&cause("timeout"), start, now), News::None);
        assert_eq!(breaker.failed(&cause("timeout"), start + SECOND, now), News::None);
        assert_eq!(breaker.admit(now), Admission::Pass);
        assert_eq!(breaker.failed(&cause("timeout"), now, now), News::Lost);
    }

    #[test]
    fn trials_that_hang_stay_few() {
        let (breaker, start) = (Breaker::new(SECOND * 60), start());
        breaker.failed(&cause("timeout"), start, start);
        let trials = (0..600)
            .filter(|tenth| {
                breaker.admit(start + Duration::from_millis(tenth * 100)) == Admission::Trial
            })
            .count();
        assert_eq!(trials, TRIALS_MAX as usize);
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn cause(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    #[expect(clippy::disallowed_methods, reason = "any fixed moment will do")]
    fn start() -> Instant {
        Instant::now()
    }
}
