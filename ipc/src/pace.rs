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
    /// Whether a long message was refused, and no message has been accepted since.
    is_told: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum State {
    #[default]
    Free,
    /// The client is behind, and its messages are refused.
    Refused {
        /// The last time at which it read, or could not have.
        since: Instant,
    },
    /// The client is behind, and may send a message.
    LetGo,
}

impl Pace {
    /// The bytes of unread events above which a client is behind, and below which it no longer is.
    const BOUNDS: (usize, usize) = (16 << 20, 8 << 20);
    /// The time without reading after which a client that is behind may send again.
    const STUCK: Duration = Duration::from_millis(100);

    /// Returns `true` if the client's messages are refused.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused { .. })
    }

    /// Returns `true` if its library is to refuse them.
    pub(crate) fn wants_word(&self) -> bool {
        self.is_refused() && !self.last_was_long
    }

    /// Takes note of the bytes of unread events. `has_read` says whether the client has read some
    /// since the last look, or could not have.
    pub(crate) fn look(&mut self, now: Instant, unread: usize, has_read: bool) {
        self.state = match self.state {
            State::Free if unread > Self::BOUNDS.0 => State::Refused { since: now },
            State::Refused { .. } | State::LetGo if unread < Self::BOUNDS.1 => State::Free,
            State::Refused { .. } if has_read => State::Refused { since: now },
            State::Refused { since } if now - since >= Self::STUCK => State::LetGo,
            state => state,
        };
    }

    /// Takes note of a message that came whole. It cannot be refused any more.
    pub(crate) fn short(&mut self, now: Instant) {
        (self.last_was_long, self.is_told) = (false, false);
        if self.state == State::LetGo {
            self.state = State::Refused { since: now };
        }
    }

    /// Returns `true` if a message that comes in parts may begin. One is refused before another is
    /// accepted, so that the caller has had a chance to read.
    pub(crate) fn begins_long(&mut self, now: Instant) -> bool {
        self.last_was_long = true;
        let accepted = match self.state {
            State::Free => true,
            State::Refused { .. } => false,
            State::LetGo => {
                self.state = State::Refused { since: now };
                self.is_told
            }
        };
        self.is_told = !accepted;
        accepted
    }

    /// Takes note of a part of a message that has begun. The caller cannot read before the last.
    pub(crate) fn goes_on(&mut self, now: Instant) {
        if let State::Refused { since } = &mut self.state {
            *since = now;
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
        assert!(!pace.is_refused());
        pace.look(now, MANY, false);
        assert!(pace.is_refused());
        (pace, now)
    }

    #[test]
    fn a_client_is_behind_until_few_events_wait() {
        let (mut pace, now) = behind();
        pace.look(now, Pace::BOUNDS.1, true);
        assert!(pace.is_refused() && pace.wants_word());
        pace.look(now, Pace::BOUNDS.1 - 1, true);
        assert!(!pace.is_refused() && !pace.wants_word());
    }

    #[test]
    fn a_client_that_reads_nothing_may_send_after_a_while() {
        let (mut pace, start) = behind();
        let at = |ms| start + Duration::from_millis(ms);
        pace.look(at(90), MANY, true);
        pace.look(at(180), MANY, false);
        assert!(pace.wants_word(), "it read 90 ms ago");
        pace.look(at(190), MANY, false);
        assert!(!pace.is_refused());
        pace.look(at(500), MANY, false);
        assert!(!pace.is_refused(), "it has sent nothing");
        pace.short(at(500));
        assert!(pace.wants_word());
        pace.look(at(599), MANY, false);
        assert!(pace.wants_word());
    }

    #[test]
    fn a_long_message_is_refused_by_an_answer() {
        let (mut pace, now) = behind();
        assert!(!pace.begins_long(now));
        assert!(pace.is_refused() && !pace.wants_word(), "its library would try again by itself");
        pace.look(now, 0, true);
        assert!(pace.begins_long(now));
    }

    #[test]
    fn a_caller_that_was_not_told_is_refused_after_the_while() {
        let (mut pace, start) = behind();
        let at = |ms| start + Duration::from_millis(ms);
        pace.look(at(100), MANY, false);
        assert!(!pace.is_refused(), "libcpg has waited for the word");
        assert!(!pace.begins_long(at(100)));
        pace.look(at(200), MANY, false);
        assert!(pace.begins_long(at(200)), "the caller knows, and does not read");
        assert!(!pace.begins_long(at(200)), "one message");
    }

    #[test]
    fn a_long_message_is_refused_before_the_next_is_accepted() {
        let (mut pace, mut now) = behind();
        for _ in 0..10 {
            assert!(!pace.begins_long(now));
            now += Pace::STUCK;
            pace.look(now, MANY, false);
            assert!(pace.begins_long(now));
            // Its parts take long.
            now += Pace::STUCK / 2;
            pace.goes_on(now);
            now += Pace::STUCK / 2;
            pace.look(now, MANY, false);
            assert!(pace.is_refused(), "it could not read meanwhile");
            now += Pace::STUCK;
            pace.look(now, MANY, false);
            assert!(!pace.is_refused(), "it could have");
        }
    }

    #[test]
    fn a_header_before_each_long_message_changes_nothing() {
        let (mut pace, mut now) = behind();
        for _ in 0..10 {
            pace.short(now);
            now += Pace::STUCK;
            pace.look(now, MANY, false);
            assert!(!pace.begins_long(now), "the caller is told each time");
        }
    }
}
