//! How a client that is behind with its events is slowed down.

use std::time::Duration;

use tokio::time::Instant;

/// Slows a client down while too many events wait for it, since its own messages come back to it.
///
/// Its library refuses its messages by a word in its memory. libcpg then tries a long message,
/// which it sends in parts, again by itself for a second, and its caller cannot read meanwhile. So
/// a long message is refused by the response to its first part, which the caller gets, and a client
/// whose last message was long finds no word.
///
/// Some clients send a message until it succeeds and read their events only then, in one thread.
/// They would wait for themselves. So a client that reads nothing may send again after a while. A
/// client that still reads nothing then overflows its outbox, which ends the connection.
#[derive(Default, Debug)]
pub(crate) struct Pace {
    state: State,
    last_was_long: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum State {
    #[default]
    Free,
    Behind {
        /// The last time at which it read, or could not have.
        since: Instant,
    },
    /// It is behind and may send a message.
    LetGo,
}

impl Pace {
    /// The bytes of unread events above which a client is behind, and below which it no longer is.
    pub(crate) const BOUNDS: (usize, usize) = (16 << 20, 8 << 20);
    /// The time without reading after which a client that is behind may send again.
    const STUCK: Duration = Duration::from_millis(100);

    /// Returns `true` if the client's messages are refused.
    pub(crate) fn is_behind(&self) -> bool {
        matches!(self.state, State::Behind { .. })
    }

    /// Returns `true` if its library is to refuse them.
    pub(crate) fn wants_word(&self) -> bool {
        self.is_behind() && !self.last_was_long
    }

    /// Takes note of the bytes of unread events. `has_read` says whether the client has read some
    /// since the last look, or could not have.
    pub(crate) fn look(&mut self, now: Instant, unread: usize, has_read: bool) {
        self.state = match self.state {
            State::Free if unread > Self::BOUNDS.0 => State::Behind { since: now },
            State::Behind { .. } | State::LetGo if unread < Self::BOUNDS.1 => State::Free,
            State::Behind { .. } if has_read => State::Behind { since: now },
            State::Behind { since } if now - since >= Self::STUCK => State::LetGo,
            state => state,
        };
    }

    /// Takes note of a message that came whole.
    pub(crate) fn short(&mut self, now: Instant) {
        self.last_was_long = false;
        if self.state == State::LetGo {
            self.state = State::Behind { since: now };
        }
    }

    /// Returns `true` if a message that comes in parts may begin.
    pub(crate) fn begins_long(&mut self, now: Instant) -> bool {
        // Otherwise the word may have made libcpg wait, and the caller knows nothing of it.
        let caller_knows = std::mem::replace(&mut self.last_was_long, true);
        match self.state {
            State::Free => true,
            State::Behind { .. } => false,
            State::LetGo => {
                self.state = State::Behind { since: now };
                caller_knows
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = Pace::BOUNDS.0 + 1;

    /// A client with many unread events.
    fn behind() -> (Pace, Instant) {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.look(now, Pace::BOUNDS.0, false);
        assert!(!pace.is_behind());
        pace.look(now, MANY, false);
        assert!(pace.is_behind());
        (pace, now)
    }

    #[test]
    fn a_client_is_behind_until_few_events_wait() {
        let (mut pace, now) = behind();
        pace.look(now, Pace::BOUNDS.1, true);
        assert!(pace.is_behind() && pace.wants_word());
        pace.look(now, Pace::BOUNDS.1 - 1, true);
        assert!(!pace.is_behind() && !pace.wants_word());
    }

    #[test]
    fn a_client_that_does_not_read_may_send_one_message_after_a_while() {
        let (mut pace, start) = behind();
        let at = |ms| start + Duration::from_millis(ms);
        pace.look(at(90), MANY, true);
        pace.look(at(180), MANY, false);
        assert!(pace.wants_word(), "it read 90 ms ago");
        pace.look(at(190), MANY, false);
        assert!(!pace.is_behind());
        pace.look(at(500), MANY, false);
        assert!(!pace.is_behind(), "it has sent nothing");
        pace.short(at(500));
        assert!(pace.wants_word());
        pace.look(at(599), MANY, false);
        assert!(pace.wants_word());
    }

    #[test]
    fn a_long_message_is_refused_by_an_answer() {
        let (mut pace, now) = behind();
        assert!(!pace.begins_long(now));
        assert!(pace.is_behind() && !pace.wants_word(), "its library would try again by itself");
        pace.look(now, 0, true);
        assert!(pace.begins_long(now));
    }

    #[test]
    fn a_long_message_whose_caller_was_not_told_is_refused_after_the_while() {
        let (mut pace, start) = behind();
        let at = |ms| start + Duration::from_millis(ms);
        pace.look(at(100), MANY, false);
        assert!(!pace.is_behind(), "libcpg has waited for the word");
        assert!(!pace.begins_long(at(100)));
        pace.look(at(200), MANY, false);
        assert!(pace.begins_long(at(200)), "the caller knows, and does not read");
        assert!(!pace.begins_long(at(200)), "one message");
    }

    #[test]
    fn a_header_before_each_long_message_changes_nothing() {
        let (mut pace, mut now) = behind();
        for _ in 0..10 {
            pace.short(now);
            now += Duration::from_millis(100);
            pace.look(now, MANY, false);
            assert!(!pace.begins_long(now), "the caller is told each time");
        }
    }
}
