//! The role of DC, for an application that acts only while its node holds it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_election::{Lease, NodeLease, ReleaseError, Status, Term};
use quorate_membership::Time;
use quorate_membership::bug;
use tokio::sync::{mpsc, oneshot, watch};

use crate::Clock;

/// An application's handle to the role of DC. Cheap to clone. Does not keep the node running.
///
/// Three lines are enough to act only while DC, whatever happens to the ring meanwhile:
/// ```
/// # async fn act(_: u128) {}
/// # async fn serve(dc: quorate::Dc) -> Result<(), quorate::Revoked> {
/// let guard = dc.guard().await?; // until this node may act as DC
/// while let Ok(term) = guard.check() {
///     act(term.as_u128()).await; // hand it to the resource, which rejects lower terms
/// }
/// # Ok(())
/// # }
/// ```
///
/// Checking and acting are two steps, and a process can pause between them for any length of time.
/// Only the resource can make this harmless, by rejecting terms lower than the highest it has seen.
#[derive(Clone)]
pub struct Dc {
    clock: Clock,
    latest: watch::Receiver<Status>,
    stands_until: Arc<AtomicU64>,
    /// The token timeout.
    patience: Duration,
    held: watch::Receiver<Option<Held>>,
    node_lease: watch::Receiver<Option<NodeLease>>,
    requests: mpsc::UnboundedSender<Request>,
    beaten_at: Arc<AtomicU64>,
}

/// The right to act under one term. It can end at any time; call [`Guard::check`] before each act.
#[derive(Clone, Debug)]
pub struct Guard {
    dc: Dc,
    term: Term,
}

/// The reason why this node may not, or may no longer, act as DC, or as leader for a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Revoked {
    /// The node no longer has the role under that term, or its lease was not renewed.
    #[error("this node may no longer act under term {0}")]
    Lost(Term),
    /// The node has left the ring for good.
    #[error("this node has left the ring")]
    Left,
}

impl Dc {
    pub(crate) fn new(latest: watch::Receiver<Status>, channel: &DcChannel, clock: Clock) -> Self {
        Self {
            clock,
            latest,
            stands_until: Arc::clone(&channel.stands_until),
            patience: channel.patience,
            held: channel.held.subscribe(),
            node_lease: channel.node_lease.subscribe(),
            requests: channel.sender.clone(),
            beaten_at: Arc::clone(&channel.beaten_at),
        }
    }

    /// Returns the status as of now.
    ///
    /// Reads the clock, so the status is right even if the process has just been paused and has not
    /// noticed yet that the ring continued without it.
    pub fn status(&self) -> Status {
        let latest = self.latest.borrow().clone();
        self.as_of_now(latest)
    }

    /// Returns an earlier status of this node, updated to the current time.
    ///
    /// If no token has come for the token timeout, the result has no quorum. A lease that has ended
    /// is no longer held. If another ring has followed the one in `status`, the node publishes a
    /// newer status.
    pub fn as_of_now(&self, status: Status) -> Status {
        let now = self.clock.now();
        let until = Time::from_micros(self.stands_until.load(Ordering::Relaxed));
        bug!(StaleView: return status; ());
        if status.ring.is_some() && until <= now {
            return status.without_ring(self.patience);
        }
        let held = self.held.borrow().is_some_and(|held| Some(held.term) == status.term && now < held.until);
        match status.lease {
            Lease::Held if !held => Status { lease: Lease::Waiting, ..status },
            _ => status,
        }
    }

    /// Returns a receiver of each new status, for applications that wait for a change.
    ///
    /// The received value may be out of date when it is read, for instance after the process was
    /// paused. [`Dc::status`] also looks at the clock.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.latest.clone()
    }

    /// Waits until this node may act as DC. Cancel safe.
    ///
    /// # Errors
    /// [`Revoked::Left`] if the node has left the ring.
    pub async fn guard(&self) -> Result<Guard, Revoked> {
        let mut held = self.held.clone();
        loop {
            if let Some(guard) = self.try_guard() {
                return Ok(guard);
            }
            held.changed().await.map_err(|_| Revoked::Left)?;
        }
    }

    /// Returns the right to act, if this node has it now.
    pub fn try_guard(&self) -> Option<Guard> {
        // Asking is a sign of life, whatever the answer.
        self.beat();
        let Held { term, until } = (*self.held.borrow())?;
        (self.clock.now() < until).then(|| Guard { dc: self.clone(), term })
    }

    /// Hands the role over to another member, which acts at once. The hand-over begins within a
    /// tenth of a second.
    ///
    /// If the ring changes before the other members receive the release, the next ring elects its
    /// DC as usual, and this node is among the candidates.
    ///
    /// # Errors
    /// If this node is not DC of a quorate ring, if no other member may be DC, or if a new ring is
    /// being formed. Nothing is given up then.
    pub async fn release(&self) -> Result<(), ReleaseError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Release(reply));
        answer.await.unwrap_or(Err(ReleaseError::NotDc))
    }

    /// Sets how often the application must show that it is alive while this node may act.
    ///
    /// A [`Guard::check`], a request for a guard, and a [`Dc::beat`] each count as a sign of life.
    /// Without one within `every`, this node stops acting and another member becomes DC, as after a
    /// crash. If no other member may be DC, no member acts until this application, or another
    /// member's, is alive again. `None`, the default, disables the check.
    pub fn set_heartbeat(&self, every: Option<Duration>) {
        self.beat();
        self.ask(Request::Heartbeat(every));
    }

    /// Returns how long this node may still act as DC if nothing more is received from the ring.
    /// Zero if it may not act.
    pub fn lease_left(&self) -> Duration {
        let held = *self.held.borrow();
        held.map_or(Duration::ZERO, |held| held.until - self.clock.now())
    }

    /// Reports that the application is alive.
    pub fn beat(&self) {
        self.beaten_at.fetch_max(self.clock.now().micros(), Ordering::Relaxed);
    }

    /// Returns a receiver of what the node may rely on in other roles.
    pub(crate) fn node_lease(&self) -> watch::Receiver<Option<NodeLease>> {
        self.node_lease.clone()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn ask(&self, request: Request) {
        // Sending fails only when the node has left.
        let _ = self.requests.send(request);
    }
}

impl fmt::Debug for Dc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dc").field("held", &*self.held.borrow()).finish_non_exhaustive()
    }
}

impl Guard {
    /// Reads the clock, and returns the term if this node may still act under it. Call this just
    /// before each act. It also counts as a heartbeat.
    ///
    /// # Errors
    /// If this node may not act. If another term has begun, this guard never succeeds again; ask
    /// [`Dc::guard`] for a new one.
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

    /// Returns the term to act under. Only [`Guard::check`] tells whether it still holds.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Waits until the right to act is lost, so that an application can stop background work.
    /// Cancel safe.
    ///
    /// A process that was paused may learn of the loss late, so this is no substitute for
    /// [`Guard::check`].
    pub async fn revoked(&self) {
        let mut held = self.dc.held.clone();
        let term = self.term;
        let lost = |held: &Option<Held>| held.is_none_or(|held| held.term != term);
        // An error means that the node has left.
        let _ = held.wait_for(lost).await;
    }
}

/// A lease as it was last renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    term: Term,
    until: Time,
}

/// A request from an application.
#[derive(Debug)]
pub(crate) enum Request {
    Heartbeat(Option<Duration>),
    Release(oneshot::Sender<Result<(), ReleaseError>>),
}

/// The member's end of the channels to its [`Dc`] handles.
pub(crate) struct DcChannel {
    held: watch::Sender<Option<Held>>,
    node_lease: watch::Sender<Option<NodeLease>>,
    sender: mpsc::UnboundedSender<Request>,
    requests: mpsc::UnboundedReceiver<Request>,
    /// The time until which the ring counts as standing, in microseconds of the member's clock.
    stands_until: Arc<AtomicU64>,
    /// The token timeout.
    patience: Duration,
    /// The application's last sign of life, in microseconds of the member's clock.
    beaten_at: Arc<AtomicU64>,
    pub(crate) heartbeat: Option<Duration>,
    /// The time since which the member may act.
    holds_since: Option<Time>,
    /// The time at which the application was found to hang.
    hung_at: Option<Time>,
}

impl DcChannel {
    /// `patience` is the token timeout.
    pub(crate) fn new(patience: Duration) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        Self {
            held: watch::Sender::new(None),
            node_lease: watch::Sender::new(None),
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

    /// Publishes the lease, if this node holds one, and the time until which the ring counts as
    /// standing.
    pub(crate) fn tell(&self, lease: Option<(Term, Time)>, stands_until: Option<Time>) {
        let until = stands_until.map_or(0, Time::micros);
        self.stands_until.store(until, Ordering::Relaxed);
        let held = lease.map(|(term, until)| Held { term, until });
        replace(&self.held, held);
    }

    /// Publishes what this node may rely on in other roles.
    pub(crate) fn tell_node_lease(&self, lease: Option<NodeLease>) {
        replace(&self.node_lease, lease);
    }

    fn beaten_at(&self) -> Time {
        Time::from_micros(self.beaten_at.load(Ordering::Relaxed))
    }

    /// Returns the time at which the application counts as hung unless it beats before.
    fn hangs_at(&self) -> Option<Time> {
        let since = self.holds_since.filter(|_| self.hung_at.is_none())?;
        Some(self.beaten_at().max(since) + self.heartbeat?)
    }

    /// Returns whether the application hangs, or `None` if that has not changed. `holds` is `true`
    /// if the member may act now.
    pub(crate) fn hangs(&mut self, holds: bool, now: Time) -> Option<bool> {
        if let Some(hung_at) = self.hung_at {
            // A sign of life at exactly that moment came after the check: otherwise the application
            // would not have been found to hang.
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

/// Publishes a value if it is a new one.
fn replace<T: PartialEq>(published: &watch::Sender<T>, value: T) {
    published.send_if_modified(|before| {
        let changed = *before != value;
        *before = value;
        changed
    });
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

    /// Returns a channel, its `Dc`, and the application's clock in microseconds.
    fn channel() -> (DcChannel, Dc, Arc<AtomicU64>) {
        let (channel, clock) = (DcChannel::new(Duration::from_millis(20)), Arc::new(AtomicU64::new(0)));
        let shown = Arc::clone(&clock);
        let now = move || Time::from_micros(shown.load(Ordering::Relaxed));
        let dc = Dc::new(watch::Sender::new(Status::default()).subscribe(), &channel, Clock::new(now));
        (channel, dc, clock)
    }

    #[test]
    fn a_silent_application_hangs_only_while_its_node_may_act() {
        let (mut channel, dc, clock) = channel();
        channel.heartbeat = Some(Duration::from_millis(100));
        assert_eq!(channel.hangs(false, at(500)), None, "its node may not act");
        assert_eq!(channel.hangs(true, at(600)), None);
        assert_eq!(channel.poll_timeout(at(600)), Some(at(700)));
        clock.store(650_000, Ordering::Relaxed);
        dc.beat();
        assert_eq!(channel.hangs(true, at(700)), None);
        assert_eq!(channel.hangs(true, at(750)), Some(true));
        assert_eq!((channel.hangs(false, at(800)), channel.poll_timeout(at(800))), (None, None));
    }

    #[test]
    fn asking_for_a_guard_is_a_sign_of_life() {
        let (mut channel, dc, clock) = channel();
        channel.heartbeat = Some(Duration::from_millis(100));
        channel.hangs(true, at(600));
        assert_eq!(channel.hangs(true, at(700)), Some(true));
        // The request comes at the very moment at which the application was found to hang.
        clock.store(700_000, Ordering::Relaxed);
        assert!(dc.try_guard().is_none());
        assert_eq!(channel.hangs(false, at(700)), Some(false));
        assert_eq!(channel.hangs(false, at(900)), None);
    }

    #[test]
    fn a_guard_holds_for_its_term_until_its_lease_is_over() {
        let (channel, dc, clock) = channel();
        let term = |ring_seq| Term { ring_seq, hand_over: 0, node: NodeId::new(1).unwrap() };
        channel.tell(Some((term(4), at(10))), None);
        let guard = dc.try_guard().unwrap();
        assert_eq!(guard.check(), Ok(term(4)));
        clock.store(10_000, Ordering::Relaxed);
        assert_eq!(guard.check(), Err(Revoked::Lost(term(4))));
        channel.tell(Some((term(8), at(20))), None);
        assert_eq!(guard.check(), Err(Revoked::Lost(term(4))), "a guard is for one term only");
        drop(channel);
        assert_eq!(guard.check(), Err(Revoked::Left));
    }

    #[test]
    fn a_status_is_current_when_it_is_asked_for() {
        let (channel, clock) = (DcChannel::new(Duration::from_millis(20)), Arc::new(AtomicU64::new(0)));
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
        let dc = Dc::new(latest.subscribe(), &channel, Clock::new(now));
        channel.tell(Some((term, at(10))), Some(at(20)));
        assert_eq!(dc.status(), held);
        clock.store(10_000, Ordering::Relaxed);
        assert_eq!(dc.status(), Status { lease: Lease::Waiting, ..held.clone() });
        clock.store(19_999, Ordering::Relaxed);
        assert!(dc.status().quorate);
        clock.store(20_000, Ordering::Relaxed);
        let lost = dc.status();
        assert_eq!((lost.ring, lost.settled, lost.quorate, lost.dc), (None, false, false, None));
        assert_eq!(lost.cause, "no token came for 20 ms");
        assert!(dc.watch().borrow().quorate, "the last published status");
        // A status without a ring keeps its cause.
        let left = Status { cause: "this node was asked to leave".into(), ..Status::default() };
        assert_eq!(dc.as_of_now(left.clone()), left);
    }

    #[test]
    fn release_fails_at_once_after_the_node_left() {
        let (channel, dc, _) = channel();
        let mut asked = pin!(dc.release());
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(asked.as_mut().poll(&mut context), Poll::Pending, "not received yet");
        drop(channel);
        assert_eq!(asked.as_mut().poll(&mut context), Poll::Ready(Err(ReleaseError::NotDc)));
        let again = pin!(dc.release());
        assert_eq!(again.poll(&mut context), Poll::Ready(Err(ReleaseError::NotDc)));
    }
}
