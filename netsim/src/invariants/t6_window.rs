//! T6: a visit of the token sends at most the frames that its member may send and that the window
//! leaves, new and repeated ones together. The token's counts are the sums of its members' last
//! visits.
//!
//! - A member may reset `fcc` only in a ring where nothing has moved for long, because the count
//!   must then be damaged. After that it is no longer a sum.
//! - A window is larger than configured only if all members accept it, and takes effect at the next
//!   visit.
//! - A visit that continues with a held token takes back the frames that its member sent at the
//!   visit before, and may send as many more.

use std::collections::BTreeMap;

use quorate_membership::config::TotemConfig;
use quorate_membership::wire::Token;
use quorate_membership::{NodeId, RingId, Seq};

use super::cluster::{Cluster, Recent, Visit};
use super::{Online, Violation, violated};
use crate::history::{Inside, Record, What};

#[derive(Default)]
pub(super) struct Window {
    shares: BTreeMap<NodeId, Share>,
    /// The limits of each member in its ring, now and from the next visit on.
    limits: BTreeMap<NodeId, (Limits, Limits)>,
    /// The rings whose count has been reset.
    started_over: Recent<RingId, ()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Limits {
    window: u32,
    visit: u32,
}

impl Limits {
    fn configured(totem: &TotemConfig) -> Self {
        Self { window: totem.window_size, visit: totem.max_messages }
    }

    /// Returns the limits if all members have the same configuration.
    fn agreed(totem: &TotemConfig) -> Self {
        let TotemConfig { window_size, max_messages, largest_window, .. } = *totem;
        Self { window: largest_window, visit: largest_window * max_messages / window_size }
    }
}

/// The share of a member in the counts of a ring's token.
struct Share {
    ring: RingId,
    /// The part of `fcc` for frames sent.
    frames: u32,
    /// The part of `fcc` that a slow consumer keeps free of frames.
    charge: u32,
    backlog: u32,
    /// The `seq` and `aru` of the last token that arrived.
    stands_at: (Seq, Seq),
    /// The number of earlier tokens in a row with the same `seq` and `aru`.
    still: u32,
}

impl Window {
    /// The number of visits without progress before the count may be reset.
    const STILL: u32 = 8;

    fn account(
        &mut self,
        node: NodeId,
        visit: &Visit,
        token: &Token,
        Limits { window, visit: max }: Limits,
    ) -> Result<(), String> {
        let (came, sent) = (&visit.token, visit.numbered + visit.resent.len() as u32);
        let share = self.shares.get(&node).filter(|share| share.ring == token.ring);
        let (frames, charge, backlog) =
            share.map_or((0, 0, 0), |share| (share.frames, share.charge, share.backlog));
        let taken_back = if visit.taken_up { frames + charge } else { 0 };
        let room = window.saturating_sub(came.fcc.saturating_sub(taken_back)).min(max);
        if sent > room {
            return Err(format!("sends {sent} frames, but has room for {room}"));
        }
        let stands_at = (came.seq, came.aru);
        let still = share.filter(|share| share.stands_at == stands_at).map_or(0, |share| share.still + 1);
        if self.started_over.get(&token.ring).is_some() {
            return Ok(());
        }
        let others = came.fcc.checked_sub(frames + charge);
        let others = others.ok_or_else(|| format!("gets frame count {}, its own is {frames}", came.fcc))?;
        let others_wait = came.backlog.checked_sub(backlog);
        let others_wait =
            others_wait.ok_or_else(|| format!("gets backlog {}, but its own is {backlog}", came.backlog))?;
        let wedged = came.fcc >= window && still >= Self::STILL;
        if wedged && token.fcc < others + sent {
            self.started_over.entry(token.ring, || ());
            return Ok(());
        }
        let charge = token.fcc.checked_sub(others + sent);
        let charge = charge.filter(|&charge| charge == 0 || token.fcc == window.saturating_sub(1));
        let charge = charge.ok_or_else(|| {
            format!("passes on frame count {} after {others} of the others and {sent} of its own", token.fcc)
        })?;
        let backlog = token.backlog.checked_sub(others_wait).ok_or_else(|| {
            format!("passes on backlog {} after {others_wait} of the others", token.backlog)
        })?;
        self.shares.insert(node, Share { ring: token.ring, frames: sent, charge, backlog, stands_at, still });
        Ok(())
    }
}

impl Online for Window {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        let configured = Limits::configured(&cluster.totem);
        match record.what {
            What::Started => drop(self.limits.remove(&life.node)),
            What::Inside(Inside::Limits { ring, window, visit }) => {
                let limits = Limits { window, visit };
                if limits != configured && limits != Limits::agreed(&cluster.totem) {
                    let what = format!("{life} has {window} frames a rotation and {visit} a visit in {ring}");
                    return violated("T6", record.at, what);
                }
                self.limits.entry(life.node).or_insert((configured, configured)).1 = limits;
            }
            What::Inside(Inside::Token(_)) => {
                if let Some((now, next)) = self.limits.get_mut(&life.node) {
                    *now = *next;
                }
            }
            What::Inside(Inside::TokenSent { ref token, .. }) => {
                let Some(visit) = cluster.visit(life, token.ring) else { return Ok(()) };
                // A ring in recovery has another window.
                let here = cluster.regular(life).is_some_and(|regular| regular.ring == token.ring);
                let agreed = self.limits.get(&life.node).filter(|_| here);
                let limits =
                    agreed.map_or(configured, |&(now, next)| if visit.taken_up { next } else { now });
                return self.account(life.node, visit, token, limits).or_else(|why| {
                    let what = format!("{life} at token {} of {}: {why}", token.token_seq, token.ring);
                    violated("T6", record.at, what)
                });
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, id, ring};
    use super::*;

    /// A visit at node 2: the token arrives with the count `came`, these frames are sent, and it
    /// leaves with the count `went`.
    fn visit(story: &mut Story, came: u32, frames: std::ops::Range<u32>, went: u32) {
        let token = |fcc| {
            let mut token = Story::token();
            token.fcc = fcc;
            Box::new(token)
        };
        story.record(2, What::Inside(Inside::Token(token(came))));
        for n in frames {
            story.record_at_once(2, What::Inside(Inside::Numbered(Story::frame(2, n))));
        }
        story.record_at_once(2, What::Inside(Inside::TokenSent { to: id(1), token: token(went) }));
    }

    #[test]
    fn a_visit_takes_back_what_the_last_one_added() {
        let mut story = Story::ring(2);
        visit(&mut story, 10, 0..5, 15);
        visit(&mut story, 20, 5..6, 16);
        story.is_right(Window::default());
    }

    #[test]
    fn the_count_may_be_reset_without_progress() {
        let mut story = Story::ring(2);
        for _ in 0..=Window::STILL {
            visit(&mut story, 99, 0..0, 99);
        }
        visit(&mut story, 99, 0..0, 0);
        story.is_right(Window::default());
        let mut story = Story::ring(2);
        visit(&mut story, 99, 0..0, 99);
        visit(&mut story, 99, 0..0, 0);
        story.is_wrong(Window::default(), "passes on frame count 0 after 99 of the others");
    }

    #[test]
    fn a_visit_sends_what_the_window_leaves() {
        let mut story = Story::ring(2);
        visit(&mut story, 45, 0..5, 50);
        story.is_right(Window::default());
        let mut story = Story::ring(2);
        visit(&mut story, 45, 0..6, 51);
        story.is_wrong(Window::default(), "sends 6 frames, but has room for 5");
    }

    /// The token is held at node 2, which has sent five frames at the visit before, and then sends
    /// `more` frames.
    fn held(more: u32) -> Story {
        let mut story = Story::ring(2);
        visit(&mut story, 40, 0..5, 45);
        let token = |fcc| Box::new(Token { fcc, ..Story::token() });
        story.record(2, What::Inside(Inside::Token(token(45))));
        for n in 0..more {
            story.record(2, What::Inside(Inside::Numbered(Story::frame(2, 5 + n))));
        }
        story.record(2, What::Inside(Inside::TokenSent { to: id(1), token: token(40 + more) }));
        story
    }

    #[test]
    fn a_held_token_takes_back_the_frames_of_the_last_visit() {
        held(10).is_right(Window::default());
        held(11).is_wrong(Window::default(), "sends 11 frames, but has room for 10");
    }

    #[test]
    fn a_visit_sends_at_most_max_messages() {
        let mut story = Story::ring(2);
        visit(&mut story, 0, 0..18, 18);
        story.is_wrong(Window::default(), "sends 18 frames, but has room for 17");
    }

    #[test]
    fn the_count_is_what_was_sent() {
        let mut story = Story::ring(2);
        visit(&mut story, 10, 0..5, 15);
        visit(&mut story, 15, 5..5, 15);
        story.is_wrong(Window::default(), "passes on frame count 15 after 10 of the others and 0 of its own");
    }

    #[test]
    fn a_slow_consumer_leaves_one_frame_of_the_window() {
        let mut story = Story::ring(2);
        visit(&mut story, 10, 0..5, 49);
        visit(&mut story, 49, 5..5, 10);
        story.is_right(Window::default());
    }

    /// Announces a window larger than the configured one, with the same share per visit.
    fn agree(story: &mut Story, node: u32, window: u32, visit: u32) {
        story.record(node, What::Inside(Inside::Limits { ring: ring("1.4"), window, visit }));
    }

    #[test]
    fn an_agreed_window_counts_from_the_next_visit() {
        let mut story = Story::ring(2);
        agree(&mut story, 2, 1024, 348);
        visit(&mut story, 45, 0..300, 345);
        story.is_right(Window::default());
        visit(&mut story, 1000, 300..325, 725);
        story.is_wrong(Window::default(), "sends 25 frames, but has room for 24");
    }

    #[test]
    fn a_window_must_be_configured_or_agreed() {
        let mut story = Story::ring(2);
        agree(&mut story, 2, 1025, 348);
        story.is_wrong(Window::default(), "2#1 has 1025 frames a rotation and 348 a visit in 1.4");
    }
}
