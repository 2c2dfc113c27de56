//! The core's representation of time.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Microseconds since the node started.
///
/// The core never reads a clock. The driver takes the time from the boot-time clock, and a
/// simulator from its own.
///
/// ```
/// use quorate_membership::Time;
/// use std::time::Duration;
/// let start = Time::default();
/// let later = start + Duration::from_millis(5);
/// assert_eq!(later.micros(), 5000);
/// assert_eq!(later - start, Duration::from_millis(5));
/// assert_eq!(start - later, Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// Returns the time `micros` microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since the start.
    pub const fn micros(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(length.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Returns the time from `earlier` to `self`, or zero if `earlier` is the later one.
impl Sub for Time {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}
