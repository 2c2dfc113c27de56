//! What an application needs to do something only as DC.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_membership::Time;
use quorate_membership::driver::Clock;
use quorate_membership::mutants::Mutant;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{Lease, ReleaseError, Status, Term};

/// The role of DC, as an application on this node sees it. Cheap to clone; it does not keep the node running.
///
/// To do something only as DC takes three lines, whatever happens to rings meanwhile:
/// ```
/// # async fn act(_: u128) {}
/// # async fn serve(dc: quorate_election::Dc) -> Result<(), quorate_election::Revoked> {
/// let guard = dc.guard().await?; // until this node may act as DC
/// while let Ok(term) = guard.check() {
///     act(term.as_u128()).await; // hand it to whatever is acted on, which refuses lower ones
/// }
/// # Ok(())
/// # }
/// ```
/// No check is one with the act that follows it: a process can stand still between the two for as long as it likes. Only
/// whatever is acted on can make that harmless, by refusing lower terms than the highest it has seen.
#[derive(Clone)]
pub struct Dc {
    clock: Clock,
    latest: watch::Receiver<Status>,
    stands_until: Arc<AtomicU64>,
    /// The token timeout.
    patience: Duration,
    held: watch::Receiver<Option<Held>>,
    requests: mpsc::UnboundedSender<Request>,
    beaten_at: Arc<AtomicU64>,
}

/// The right to act under one term, which may have ended: [`Guard::check`] says so.
#[derive(Clone, Debug)]
pub struct Guard {
    dc: Dc,
    term: Term,
}

/// This node may not act, or not any more, under the term that it held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Revoked {
    /// It is no longer DC under that term, or its lease was not renewed.
    #[error("this node may no longer act as DC under term {0}")]
    Lost(Term),
    /// It has left the ring for good.
    #[error("this node has left")]
    Left,
}

impl Dc {
    pub(crate) fn new(latest: watch::Receiver<Status>, desk: &Desk, clock: Clock) -> Self {
        Self {
            clock,
            latest,
            stands_until: Arc::clone(&desk.stands_until),
            patience: desk.patience,
            held: desk.held.subscribe(),
            requests: desk.sender.clone(),
            beaten_at: Arc::clone(&desk.beaten_at),
        }
    }

    /// The status, by a clock that is read now: a node that has just stood still has not noticed yet that its ring went on
    /// without it, and this says so all the same.
    pub fn status(&self) -> Status {
        let latest = self.latest.borrow().clone();
        self.as_of_now(latest)
    }

    /// What a status that this node gave earlier comes to now: no quorum if no token has come for the token timeout, and no
    /// lease that is over. Of a ring that another has followed since, the node gives a newer status.
    pub fn as_of_now(&self, status: Status) -> Status {
        let now = self.clock.now();
        let until = Time::from_micros(self.stands_until.load(Ordering::Relaxed));
        if Mutant::StaleView.is_active() {
            return status;
        }
        if status.ring.is_some() && until <= now {
            return status.without_ring(self.patience);
        }
        let held = self.held.borrow().is_some_and(|held| Some(held.term) == status.term && now < held.until);
        match status.lease {
            Lease::Held if !held => Status { lease: Lease::Waiting, ..status },
            _ => status,
        }
    }

    /// Each status as it comes, for those who wait for a change. What it says may no longer be true when it is read, after
    /// the process stood still for instance: [`Dc::status`] looks at the clock, too.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.latest.clone()
    }

    /// Waits until this node may act as DC. Cancel safe.
    ///
    /// # Errors
    /// [`Revoked::Left`] if it never will.
    pub async fn guard(&self) -> Result<Guard, Revoked> {
        let mut held = self.held.clone();
        loop {
            if let Some(guard) = self.try_guard() {
                return Ok(guard);
            }
            held.changed().await.map_err(|_| Revoked::Left)?;
        }
    }

    /// The right to act, if this node has it now.
    pub fn try_guard(&self) -> Option<Guard> {
        // To ask is to be alive, whatever the answer.
        self.beat();
        let Held { term, until } = (*self.held.borrow())?;
        (self.clock.now() < until).then(|| Guard { dc: self.clone(), term })
    }

    /// Gives up the role to another member, which acts at once. Takes a tenth of a second at most to begin.
    ///
    /// If the ring changes before the others hear of it, who is DC of the next one is elected anew, this node among the
    /// candidates.
    ///
    /// # Errors
    /// If this node is not DC of a quorate ring, nobody else may be, or the ring is being formed anew. Nothing is given up then.
    pub async fn release(&self) -> Result<(), ReleaseError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Release(reply));
        answer.await.unwrap_or(Err(ReleaseError::NotDc))
    }

    /// From now on, the application has to show that it is alive while this node may act: by a [`Guard::check`], by asking for
    /// a guard or by a [`Dc::beat`], at least this often. If it does not, this node acts no more and another member becomes DC,
    /// as after a crash; where no other may be, none does until the application, or another one, is alive again. `None` (so
    /// it is at first): nobody looks.
    pub fn set_heartbeat(&self, every: Option<Duration>) {
        self.beat();
        self.ask(Request::Heartbeat(every));
    }

    /// The application is alive.
    pub fn beat(&self) {
        self.beaten_at.fetch_max(self.clock.now().micros(), Ordering::Relaxed);
    }

    fn ask(&self, request: Request) {
        // That nobody hears it means that the node has left.
        let _ = self.requests.send(request);
    }
}

impl fmt::Debug for Dc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dc").field("held", &*self.held.borrow()).finish_non_exhaustive()
    }
}

impl Guard {
    /// Whether this node may still act, by a clock that is read now: to be called just before each act. Also renews the
    /// heartbeat.
    ///
    /// # Errors
    /// If it may not. It never will again with this guard if another term has begun; ask [`Dc::guard`] for the next.
    pub fn check(&self) -> Result<Term, Revoked> {
        self.dc.beat();
        let held = *self.dc.held.borrow();
        let now = self.dc.clock.now();
        match held {
            Some(held) if held.term == self.term && now < held.until => Ok(self.term),
            _ if self.dc.held.has_changed().is_err() => Err(Revoked::Left),
            _ => Err(Revoked::Lost(self.term)),
        }
    }

    /// The term to act under. Whether it still holds, only [`Guard::check`] says.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Waits until the right to act is lost, to stop what goes on by itself. It may be told late, by a process that stood
    /// still: it is no substitute for [`Guard::check`]. Cancel safe.
    pub async fn revoked(&self) {
        let mut held = self.dc.held.clone();
        let term = self.term;
        let lost = |held: &Option<Held>| held.is_none_or(|held| held.term != term);
        // Without a sender, the node has left.
        let _ = held.wait_for(lost).await;
    }
}

/// A lease as it was last renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    term: Term,
    until: Time,
}

/// What an application wants.
#[derive(Debug)]
pub(crate) enum Request {
    Heartbeat(Option<Duration>),
    Release(oneshot::Sender<Result<(), ReleaseError>>),
}

/// The member's end.
pub(crate) struct Desk {
    held: watch::Sender<Option<Held>>,
    sender: mpsc::UnboundedSender<Request>,
    requests: mpsc::UnboundedReceiver<Request>,
    /// Until when the ring stands, in microseconds of the member's clock.
    stands_until: Arc<AtomicU64>,
    /// The token timeout.
    patience: Duration,
    /// The application's last sign of life, in microseconds of the member's clock.
    beaten_at: Arc<AtomicU64>,
    pub(crate) heartbeat: Option<Duration>,
    /// Since when the member may act.
    holds_since: Option<Time>,
    /// When the application was found to hang.
    hung_at: Option<Time>,
}

impl Desk {
    /// `patience` is the token timeout.
    pub(crate) fn new(patience: Duration) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        Self {
            held: watch::Sender::new(None),
            sender,
            requests,
            stands_until: Arc::default(),
            patience,
            beaten_at: Arc::default(),
            heartbeat: None,
            holds_since: None,
            hung_at: None,
        }
    }

    pub(crate) fn next_request(&mut self) -> Option<Request> {
        self.requests.try_recv().ok()
    }

    /// Tells the application what it may do, and until when the ring stands.
    pub(crate) fn tell(&self, lease: Option<(Term, Time)>, stands_until: Option<Time>) {
        let until = stands_until.map_or(0, Time::micros);
        self.stands_until.store(until, Ordering::Relaxed);
        let held = lease.map(|(term, until)| Held { term, until });
        self.held.send_if_modified(|before| {
            let changed = *before != held;
            *before = held;
            changed
        });
    }

    fn beaten_at(&self) -> Time {
        Time::from_micros(self.beaten_at.load(Ordering::Relaxed))
    }

    /// When the application counts as hung if it does not beat.
    fn hangs_at(&self) -> Option<Time> {
        let since = self.holds_since.filter(|_| self.hung_at.is_none())?;
        Some(self.beaten_at().max(since) + self.heartbeat?)
    }

    /// Whether the application hangs, if that has changed; `holds`: the member may act now.
    pub(crate) fn hangs(&mut self, holds: bool, now: Time) -> Option<bool> {
        if let Some(hung_at) = self.hung_at {
            // A sign of life of that very moment came after it: it would not have been found to hang.
            let lives = self.beaten_at() >= hung_at || self.heartbeat.is_none();
            return lives.then(|| {
                self.hung_at = None;
                false
            });
        }
        self.holds_since = if holds { self.holds_since.or(Some(now)) } else { None };
        self.hangs_at().filter(|at| *at <= now)?;
        self.hung_at = Some(now);
        self.holds_since = None;
        Some(true)
    }

    pub(crate) fn is_hung(&self) -> bool {
        self.hung_at.is_some()
    }

    pub(crate) fn poll_timeout(&self, now: Time) -> Option<Time> {
        if self.requests.is_empty() { self.hangs_at() } else { Some(now) }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use quorate_membership::NodeId;

    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    /// A desk, and an application at it whose clock shows this many microseconds.
    fn desk() -> (Desk, Dc, Arc<AtomicU64>) {
        let (desk, clock) = (Desk::new(Duration::from_millis(20)), Arc::new(AtomicU64::new(0)));
        let shown = Arc::clone(&clock);
        let now = move || Time::from_micros(shown.load(Ordering::Relaxed));
        let dc = Dc::new(watch::Sender::new(Status::default()).subscribe(), &desk, Clock::new(now));
        (desk, dc, clock)
    }

    #[test]
    fn an_application_hangs_that_gives_no_sign_of_life_while_its_node_may_act() {
        let (mut desk, dc, clock) = desk();
        desk.heartbeat = Some(Duration::from_millis(100));
        assert_eq!(desk.hangs(false, at(500)), None, "its node may not act");
        assert_eq!(desk.hangs(true, at(600)), None);
        assert_eq!(desk.poll_timeout(at(600)), Some(at(700)));
        clock.store(650_000, Ordering::Relaxed);
        dc.beat();
        assert_eq!(desk.hangs(true, at(700)), None);
        assert_eq!(desk.hangs(true, at(750)), Some(true));
        assert_eq!((desk.hangs(false, at(800)), desk.poll_timeout(at(800))), (None, None));
    }

    #[test]
    fn to_ask_for_a_guard_is_a_sign_of_life_whatever_the_answer() {
        let (mut desk, dc, clock) = desk();
        desk.heartbeat = Some(Duration::from_millis(100));
        desk.hangs(true, at(600));
        assert_eq!(desk.hangs(true, at(700)), Some(true));
        // In the very moment in which it was found to hang.
        clock.store(700_000, Ordering::Relaxed);
        assert!(dc.try_guard().is_none());
        assert_eq!(desk.hangs(false, at(700)), Some(false));
        assert_eq!(desk.hangs(false, at(900)), None);
    }

    #[test]
    fn a_guard_holds_for_its_term_until_its_lease_is_over() {
        let (desk, dc, clock) = desk();
        let term = |ring_seq| Term { ring_seq, hand_over: 0, node: NodeId::new(1).unwrap() };
        desk.tell(Some((term(4), at(10))), None);
        let guard = dc.try_guard().unwrap();
        assert_eq!(guard.check(), Ok(term(4)));
        clock.store(10_000, Ordering::Relaxed);
        assert_eq!(guard.check(), Err(Revoked::Lost(term(4))));
        desk.tell(Some((term(8), at(20))), None);
        assert_eq!(guard.check(), Err(Revoked::Lost(term(4))), "another term is another guard's");
        drop(desk);
        assert_eq!(guard.check(), Err(Revoked::Left));
    }

    #[test]
    fn a_status_says_what_holds_when_it_is_asked() {
        let (desk, clock) = (Desk::new(Duration::from_millis(20)), Arc::new(AtomicU64::new(0)));
        let shown = Arc::clone(&clock);
        let now = move || Time::from_micros(shown.load(Ordering::Relaxed));
        let term = Term { ring_seq: 4, hand_over: 0, node: NodeId::new(1).unwrap() };
        let held = Status {
            ring: Some("1.4".parse().unwrap()),
            settled: true,
            quorate: true,
            dc: Some(term.node),
            term: Some(term),
            lease: Lease::Held,
            ..Status::default()
        };
        let latest = watch::Sender::new(held.clone());
        let dc = Dc::new(latest.subscribe(), &desk, Clock::new(now));
        desk.tell(Some((term, at(10))), Some(at(20)));
        assert_eq!(dc.status(), held);
        clock.store(10_000, Ordering::Relaxed);
        assert_eq!(dc.status(), Status { lease: Lease::Waiting, ..held.clone() });
        clock.store(19_999, Ordering::Relaxed);
        assert!(dc.status().quorate);
        clock.store(20_000, Ordering::Relaxed);
        let lost = dc.status();
        assert_eq!((lost.ring, lost.settled, lost.quorate, lost.dc), (None, false, false, None));
        assert_eq!(lost.cause, "no token came for 20 ms");
        assert!(dc.watch().borrow().quorate, "what it was told last");
        // A node that has no ring keeps its reason.
        let left = Status { cause: "this node was asked to leave".into(), ..Status::default() };
        assert_eq!(dc.as_of_now(left.clone()), left);
    }

    #[test]
    fn who_asks_a_node_that_has_left_to_release_is_answered_at_once() {
        let (desk, dc, _) = desk();
        let mut asked = pin!(dc.release());
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(asked.as_mut().poll(&mut context), Poll::Pending, "the node has not heard it");
        drop(desk);
        assert_eq!(asked.as_mut().poll(&mut context), Poll::Ready(Err(ReleaseError::NotDc)));
        let again = pin!(dc.release());
        assert_eq!(again.poll(&mut context), Poll::Ready(Err(ReleaseError::NotDc)));
    }
}
