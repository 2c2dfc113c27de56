//! Several leaders in one ring, each for a name: [`Leaders`].
//!
//! Members stand for names, such as `job 17`. Of the members that stand for a name, one leads, and
//! the names are spread evenly. If a member fails or leaves, the others take over its names. If one
//! joins, it gets its share.
//!
//! ```
//! use std::time::Duration;
//!
//! use quorate::leaders::Leaders;
//! use quorate::{Dc, Events, Node, Term};
//!
//! async fn step(job: u32, term: Term) {
//!     // Hand the term to the resource, which rejects lower ones.
//! #   drop((job, term));
//!     tokio::time::sleep(Duration::from_millis(5)).await;
//! }
//!
//! fn run_jobs(node: Node, events: Events, dc: &Dc) -> Result<Leaders, Box<dyn std::error::Error>>
//! {
//!     let leaders = Leaders::open(node, "jobs".parse()?, dc, events);
//!     for job in 0..100 {
//!         let candidate = leaders.stand(&format!("job {job}"))?;
//!         tokio::spawn(async move {
//!             while let Ok(guard) = candidate.guard().await {
//!                 while let Ok(term) = guard.check() {
//!                     step(job, term).await;
//!                 }
//!             }
//!         });
//!     }
//!     Ok(leaders)
//! }
//! ```
//!
//! # What is guaranteed
//! - **No two members may act for a name at the same time,** under the same lease and the same
//!   conditions as the DC ([`quorate_election::assumptions`]). A [`Guard`] is checked just before
//!   each act.
//! - **The terms of one name rise.** A resource that remembers the highest term for a name, and
//!   rejects lower ones, is safe from a leader that acts late. Terms of different names are not to
//!   be compared.
//! - **A name moves when its guards are dropped.** If a name has to move to another member, checks
//!   fail, and the other member may act as soon as the last [`Guard`] is dropped. It waits no
//!   longer than for a lease. Unless the ring changes meanwhile, no act that takes less time than a
//!   lease is still under way when the next leader begins.
//!
//! # How names are spread
//! Of the candidates for a name, those with the highest [priority](Preference::priority) count. Of
//! these, the one with the least to do leads: the sum of the [weights](Preference::weight) of its
//! names decides, and then the lower id. A name moves if a candidate of higher priority appears, or
//! if that makes the busier of the two members less busy. All other names stay where they are.
//!
//! # When no member acts
//! - While the ring changes, and until its members have spoken: some round trips. The guards of the
//!   old ring fail. Those who led continue under a new term, unless a ring in between may have had
//!   other leaders: then all names wait for the leases of that ring.
//! - After a member has failed, its names wait until its lease must be over, as when a DC fails.
//! - Without quorum, or in a ring that has not had a DC with a term.
//!
//! # What is required
//! Each node takes part at most once in a group: of its processes in the group, the one with the
//! lowest id speaks for it. A member that joins the group takes part for as long as it runs, even
//! if it stands for no name: new names wait until all members have spoken
//! ([`LeadersStatus::awaits`]). No program of a corosync daemon may join the group, because it does
//! not speak. The process must not leave the group by itself ([`Node::leave_group`]): drop the
//! [`Leaders`] instead. If a member finds that its node breaks one of these rules, it takes no
//! further part, and the log says why.
//!
//! Before a node leaves, [`Leaders::resign`] hands its names over, so that they need not wait for a
//! lease.
//!
//! [Why no two members act for one name](proof) has the rules and the proof.

mod fold;
mod message;
#[doc = include_str!("../../leaders.md")]
pub mod proof {}
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_election::{Event, NodeLease, Term};
use quorate_membership::{Group, Guarantee, NodeId, Parting};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::error;

use self::fold::{Fold, Now, Tenure};
use crate::{Clock, Dc, Events, Node, Revoked};

type Name = Arc<str>;

/// A name that this member stands for, and the number of that decision. An earlier one has no
/// effect.
#[derive(Clone, Debug)]
struct Stand {
    name: Name,
    number: u64,
}

/// A member's wish to lead for a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preference {
    /// Candidates with a higher value lead before those with a lower one. By default 1. With 0,
    /// this member never leads.
    pub priority: u32,
    /// How much there is to do for the name, compared with others. By default 1, and at most
    /// [`Preference::MAX_WEIGHT`]. All members should give a name the same weight.
    pub weight: u32,
}

impl Preference {
    /// The highest weight.
    pub const MAX_WEIGHT: u32 = 1_000_000;

    fn load(self) -> u64 {
        self.weight.into()
    }
}

impl Default for Preference {
    fn default() -> Self {
        Self { priority: 1, weight: 1 }
    }
}

/// Why a member cannot stand for a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StandError {
    /// The name is empty, too long, or has control characters.
    #[error("a name has 1 to {} bytes and no control characters", Leaders::MAX_NAME)]
    Name,
    /// The weight is 0 or too high.
    #[error("a weight is 1 to {}", Preference::MAX_WEIGHT)]
    Weight,
    /// This member stands for the name already.
    #[error("this member already stands for the name; keep the candidate, or drop it first")]
    Stands,
    /// This member stands for too many names.
    #[error("a member stands for at most {} names", Leaders::MAX_NAMES)]
    TooMany,
}

/// The leader for a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leader {
    /// The member.
    pub node: NodeId,
    /// Its term. The member may act under it once earlier leases are over.
    pub term: Term,
}

/// The leaders of a ring, as this member knows them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct LeadersStatus {
    /// The leader for each name that has one. Empty while the members form a ring.
    pub leaders: BTreeMap<String, Leader>,
    /// The members that have not spoken yet. Names without a leader wait for them.
    pub awaits: BTreeSet<NodeId>,
    /// The number of messages in the group that were ignored, because they are not those of a
    /// member that leads for names.
    pub rejected: u64,
    /// Whether this member has left the ring, or takes part no more.
    pub ended: bool,
}

/// A member's part in leading for names. Cheap to clone. Its candidates and guards keep it, too.
#[derive(Clone)]
pub struct Leaders {
    shared: Arc<Shared>,
    /// Also shows that there are handles.
    status: watch::Receiver<LeadersStatus>,
}

struct Shared {
    fold: Mutex<Fold>,
    status: watch::Sender<LeadersStatus>,
    lease: watch::Receiver<Option<NodeLease>>,
    clock: Clock,
    runtime: Handle,
    /// There may be a message to send, or this has ended.
    news: Notify,
    /// Whether this member stands for nothing, and all members know that.
    resigned: watch::Sender<bool>,
}

impl fmt::Debug for Leaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaders").field("status", &*self.status.borrow()).finish_non_exhaustive()
    }
}

impl Leaders {
    /// The longest name, in bytes.
    pub const MAX_NAME: usize = 255;
    /// The most names that one member stands for.
    pub const MAX_NAMES: usize = 2000;

    /// Takes part in leading for the names of a group, and takes the node's events in a task. The
    /// node leaves when the last clone of this, and of `node`, is dropped.
    ///
    /// `dc` and `events` must be those of `node`, and the node must have just started. Must be
    /// called within a tokio runtime.
    pub fn open(node: Node, group: Group, dc: &Dc, mut events: Events) -> Self {
        let (leaders, mut feed) = Self::attach(node, group, dc);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    // No handle is left.
                    _ = &mut feed.speaker => return,
                    event = events.next() => match event {
                        Some(event) => feed.handle(&event),
                        None => return,
                    },
                }
            }
        });
        leaders
    }

    /// Takes part, as [`Leaders::open`] does, and leaves the node's events to the caller. The
    /// caller passes each of them to the [`Feed`]. Must be called within a tokio runtime.
    pub fn attach(node: Node, group: Group, dc: &Dc) -> (Self, Feed) {
        let fold = Fold::new(node.id(), node.pid(), group.clone());
        let (sender, status) = watch::channel(fold.status());
        let shared = Arc::new(Shared {
            fold: Mutex::new(fold),
            status: sender,
            lease: dc.node_lease(),
            clock: dc.clock().clone(),
            runtime: Handle::current(),
            news: Notify::new(),
            resigned: watch::Sender::new(false),
        });
        let speaker = tokio::spawn(speak(Arc::clone(&shared), node, group));
        (Self { shared: Arc::clone(&shared), status }, Feed { shared, speaker })
    }

    /// Stands for a name, with the priority 1 and the weight 1.
    ///
    /// # Errors
    /// If the name is not usable, or this member stands for it already.
    pub fn stand(&self, name: &str) -> Result<Candidate, StandError> {
        self.stand_with(name, Preference::default())
    }

    /// Stands for a name with a preference.
    ///
    /// # Errors
    /// As [`Leaders::stand`], and if the weight is not usable.
    pub fn stand_with(&self, name: &str, preference: Preference) -> Result<Candidate, StandError> {
        if !Self::can_be_name(name) {
            return Err(StandError::Name);
        }
        check_weight(preference)?;
        let (stand, told) = self.shared.change(|fold, _| fold.stand(name, preference))?;
        Ok(Candidate { leaders: self.clone(), stand, told })
    }

    /// Returns `true` if this can be a name: 1 to [`Leaders::MAX_NAME`] bytes, without control
    /// characters.
    pub fn can_be_name(name: &str) -> bool {
        !name.is_empty() && name.len() <= Self::MAX_NAME && !name.chars().any(char::is_control)
    }

    /// Returns the leader for a name, as this member knows it.
    pub fn leader(&self, name: &str) -> Option<Leader> {
        self.status.borrow().leaders.get(name).copied()
    }

    /// Returns the leaders, as this member knows them.
    pub fn status(&self) -> LeadersStatus {
        self.status.borrow().clone()
    }

    /// Waits for such a status. `is` must not use these leaders.
    ///
    /// # Errors
    /// [`Revoked::Left`] if that never happens.
    pub async fn wait_for(&self, mut is: impl FnMut(&LeadersStatus) -> bool) -> Result<(), Revoked> {
        let mut status = self.status.clone();
        match status.wait_for(|status| status.ended || is(status)).await {
            Ok(status) if !status.ended => Ok(()),
            _ => Err(Revoked::Left),
        }
    }

    /// Gives up all names, and stands for none any more. Returns when the other members have taken
    /// note, so that this node can leave. Their guards hold at once.
    ///
    /// Checks fail from now on. A name whose [`Guard`] is not dropped is given up after a lease.
    /// While a ring forms, this waits until it stands.
    pub async fn resign(&self) {
        self.shared.change(Fold::withdraw_all);
        // An error means that there is nothing left to give up.
        let _ = self.shared.resigned.subscribe().wait_for(|resigned| *resigned).await;
    }
}

fn check_weight(preference: Preference) -> Result<(), StandError> {
    let fits = (1..=Preference::MAX_WEIGHT).contains(&preference.weight);
    fits.then_some(()).ok_or(StandError::Weight)
}

/// A name that this member stands for. Dropping it gives the name up.
pub struct Candidate {
    leaders: Leaders,
    stand: Stand,
    told: watch::Receiver<Option<Tenure>>,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("name", &self.stand.name).finish_non_exhaustive()
    }
}

impl Candidate {
    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.stand.name
    }

    /// Changes the preference. A leader of lower priority than another candidate gives up the name.
    ///
    /// # Errors
    /// If the weight is not usable.
    pub fn prefer(&self, preference: Preference) -> Result<(), StandError> {
        check_weight(preference)?;
        self.leaders.shared.change(|fold, now| fold.prefer(&self.stand, preference, now));
        Ok(())
    }

    /// Waits until this member may act for the name. Cancel safe.
    ///
    /// # Errors
    /// [`Revoked::Left`] if the node has left the ring, this member has
    /// [resigned](Leaders::resign), or it could not take part, which the log explains.
    pub async fn guard(&self) -> Result<Guard, Revoked> {
        let (mut told, mut lease) = (self.told.clone(), self.leaders.shared.lease.clone());
        loop {
            let tenure = *told.borrow_and_update();
            lease.mark_unchanged();
            if let Some(guard) = self.try_guard() {
                return Ok(guard);
            }
            let stands = self.leaders.shared.fold().stands_for(&self.stand);
            if self.leaders.status.borrow().ended || !stands {
                return Err(Revoked::Left);
            }
            let now = self.leaders.shared.now();
            let begins_at = tenure.and_then(|tenure| tenure.begins_at(now));
            let wait = begins_at.map(|at| at - now.time).unwrap_or_default();
            tokio::select! {
                biased;
                changed = told.changed() => changed.map_err(|_| Revoked::Left)?,
                changed = lease.changed(), if tenure.is_some() && begins_at.is_none() => {
                    changed.map_err(|_| Revoked::Left)?;
                }
                () = tokio::time::sleep(wait), if begins_at.is_some() => {}
            }
        }
    }

    /// Returns the right to act, if this member has it now.
    pub fn try_guard(&self) -> Option<Guard> {
        let now = self.leaders.shared.now();
        let tenure = self.leaders.shared.fold().take_guard(&self.stand, now)?;
        let (leaders, name, told) = (self.leaders.clone(), Name::clone(&self.stand.name), self.told.clone());
        Some(Guard { leaders, name, term: tenure.term, told })
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.leaders.shared.change(|fold, now| fold.withdraw(&self.stand, now));
    }
}

/// The right to act for a name under one term. It can end at any time: call [`Guard::check`] before
/// each act, and drop the guard when a check fails.
pub struct Guard {
    leaders: Leaders,
    name: Name,
    term: Term,
    told: watch::Receiver<Option<Tenure>>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("name", &self.name).field("term", &self.term).finish_non_exhaustive()
    }
}

impl Guard {
    /// Reads the clock, and returns the term if this member may still act under it. Call this just
    /// before each act.
    ///
    /// # Errors
    /// If this member may not act, or has to give up the name. This guard may succeed again only if
    /// the lease is renewed under the same term.
    pub fn check(&self) -> Result<Term, Revoked> {
        // The clock comes last. If this thread is paused before that, the lease that it has read is
        // over before the name can have moved.
        let lease = *self.leaders.shared.lease.borrow();
        let tenure = (*self.told.borrow()).filter(|tenure| tenure.term == self.term);
        let now = Now { time: self.leaders.shared.clock.now(), lease };
        match tenure {
            Some(tenure) if tenure.holds(now) => Ok(self.term),
            _ if self.leaders.status.borrow().ended => Err(Revoked::Left),
            _ => Err(Revoked::Lost(self.term)),
        }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the term to act under. Only [`Guard::check`] tells whether it still holds.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Waits until this member has to stop acting under this term, so that an application can stop
    /// background work. If the name moves, that is at once, and if the ring is lost or changes, at
    /// most a lease later. Cancel safe.
    ///
    /// A process that was paused may learn of this late, so this is no substitute for
    /// [`Guard::check`].
    pub async fn revoked(&self) {
        let mut told = self.told.clone();
        loop {
            told.mark_unchanged();
            if self.check().is_err() {
                return;
            }
            // The lease is usually renewed by then.
            let now = self.leaders.shared.now();
            let left = now.lease.map(|lease| lease.until - now.time).unwrap_or_default();
            tokio::select! {
                biased;
                changed = told.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.leaders.shared.change(|fold, now| fold.drop_guard(&self.name, now));
    }
}

/// The end of [`Leaders`] that takes the node's events.
pub struct Feed {
    shared: Arc<Shared>,
    /// The task that sends this member's messages.
    speaker: JoinHandle<()>,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

impl Feed {
    /// Handles an event of the node. All of them must be passed on, from the first, in their order.
    pub fn handle(&mut self, event: &Event) {
        self.shared.change(|fold, now| fold.handle(event, now));
        if matches!(event, Event::Left(_)) {
            self.shared.end();
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Shared {
    fn fold(&self) -> MutexGuard<'_, Fold> {
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        let lease = *self.lease.borrow();
        Now { time: self.clock.now(), lease }
    }

    /// Changes the fold, and does what follows from that.
    fn change<R>(self: &Arc<Self>, change: impl FnOnce(&mut Fold, Now) -> R) -> R {
        let now = self.now();
        let mut fold = self.fold();
        let result = change(&mut fold, now);
        let (ending, speaks) = (fold.take_ending(), fold.has_message());
        // Within the lock, so that no older status follows.
        let resigned = fold.has_resigned();
        self.resigned.send_if_modified(|before| mem::replace(before, resigned) != resigned);
        if let Some(status) = fold.changed() {
            self.status.send_if_modified(|before| {
                let is_new = *before != status;
                *before = status;
                is_new
            });
        }
        drop(fold);
        if speaks {
            self.news.notify_one();
        }
        for (name, tenure) in ending {
            self.release_later(name, tenure);
        }
        result
    }

    /// Gives up a name whose guards are not dropped, once its lease is over.
    fn release_later(self: &Arc<Self>, name: Name, tenure: Tenure) {
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            tokio::time::sleep(tenure.wait).await;
            shared.change(|fold, now| fold.release(&name, tenure.term, now));
        });
    }

    /// No event follows.
    fn end(self: &Arc<Self>) {
        self.change(|fold, _| fold.end());
        self.news.notify_one();
    }
}

/// Sends the messages of a member, which takes part as long as there are handles. They are safe: a
/// member that acts on one before the ring breaks knows that all other members get it, too.
async fn speak(shared: Arc<Shared>, node: Node, group: Group) {
    if let Err(why) = node.join(&group).await {
        error!(%group, "this node cannot take part in leading: {why}");
        return shared.end();
    }
    loop {
        let message = shared.fold().next_message();
        match message {
            Some(message) => {
                if node.multicast_beside_reader(&group, Guarantee::Safe, message).await.is_err() {
                    return;
                }
            }
            None if shared.status.borrow().ended => break,
            None => tokio::select! {
                biased;
                () = shared.news.notified() => {}
                () = shared.status.closed() => break,
            },
        }
    }
    // Nothing is done any more when the others learn of it.
    shared.end();
    // An error means that the node has left.
    let _ = node.leave_group(&group, Parting::Died).await;
}
