//! The time that a core is given.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quorate_membership::Time;
use rustix::time::ClockId;
use tokio::time::Instant;

/// A function that returns the core's `now`.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Time + Send + Sync>);

impl Clock {
    /// Creates a clock from any function that never goes back.
    pub fn new(now: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the time since this call by the clock that includes suspends (`CLOCK_BOOTTIME`). For
    /// production, where a lease must not outlive a closed lid.
    pub fn boot_time() -> Self {
        let now = || {
            let now = rustix::time::clock_gettime(ClockId::Boottime);
            Duration::try_from(now).unwrap_or_default()
        };
        let start = now();
        Self::new(move || Time::default() + now().saturating_sub(start))
    }

    /// Returns the time since this call by tokio's clock. For simulators and tests that pause it.
    pub fn tokio() -> Self {
        let start = Instant::now();
        Self::new(move || Time::default() + start.elapsed())
    }

    /// Returns the current time.
    pub fn now(&self) -> Time {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
