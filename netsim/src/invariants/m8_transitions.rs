//! M8: the protocol's states follow each other in the specified order, only a ring that turns
//! accepts or sends a token, and no node calls itself failed.

use quorate_membership::Phase;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Record, What};

pub(super) struct Transitions;

/// Returns `true` if `to` may follow `from` within one input. A node that gives up any state passes
/// through Gather. A node that is alone commits within the same input.
fn follows(from: Phase, to: Phase) -> bool {
    match (from, to) {
        (Phase::Left, _) => false,
        (_, Phase::Left | Phase::Gather | Phase::Commit) => true,
        (from, Phase::Recovery) => from == Phase::Commit,
        (from, Phase::Operational) => from == Phase::Recovery,
    }
}

impl Online for Transitions {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Inside(inside)) = (record.life, &record.what) else { return Ok(()) };
        let phase = || cluster.place(life).and_then(|place| place.phase);
        let wrong = |what: String| violated("M8", record.at, format!("{life} {what}"));
        match inside {
            Inside::Phase { from, to, .. }
                if phase().is_some_and(|phase| phase != *from) || !follows(*from, *to) =>
            {
                wrong(format!("goes from {from} to {to}, but was in {:?}", phase()))
            }
            Inside::Token(token) => match phase().filter(|phase| !turns(*phase)) {
                Some(phase) => {
                    wrong(format!("accepts token {} of {} in {phase}", token.token_seq, token.ring))
                }
                None => Ok(()),
            },
            // A token from just before the node left is sent just after.
            Inside::TokenSent { token, .. } => {
                match phase().filter(|phase| !turns(*phase) && *phase != Phase::Left) {
                    Some(phase) => {
                        wrong(format!("sends token {} of {} in {phase}", token.token_seq, token.ring))
                    }
                    None => Ok(()),
                }
            }
            Inside::JoinSent(join) if !join.leave && join.failed.contains(&life.node) => {
                wrong(format!("calls itself failed, in {:?}", join.failed))
            }
            _ => Ok(()),
        }
    }
}

fn turns(phase: Phase) -> bool {
    matches!(phase, Phase::Recovery | Phase::Operational)
}

#[cfg(test)]
mod tests {
    use quorate_membership::wire::Join;

    use super::super::story::{Story, id};
    use super::*;

    fn through(phases: &[Phase]) -> Story {
        let mut story = Story::ring(2);
        for step in phases.windows(2) {
            story.phase(1, step[0], step[1]);
        }
        story
    }

    #[test]
    fn states_follow_each_other() {
        use Phase::{Commit, Gather, Left, Operational, Recovery};
        through(&[Gather, Commit, Recovery, Operational, Gather, Commit, Gather, Left]).is_right(Transitions);
        through(&[Gather, Recovery]).is_wrong(Transitions, "1#1 goes from gather to recovery");
        through(&[Commit, Operational]).is_wrong(Transitions, "1#1 goes from commit to operational");
        through(&[Operational, Left, Gather]).is_wrong(Transitions, "1#1 goes from left to gather");
    }

    #[test]
    fn a_state_lasts_until_the_next() {
        let mut story = through(&[Phase::Gather, Phase::Commit]);
        story.phase(1, Phase::Recovery, Phase::Operational);
        story.is_wrong(Transitions, "but was in Some(Commit)");
    }

    #[test]
    fn tokens_are_for_rings_that_turn() {
        let token = || Box::new(Story::token());
        let accept = || What::Inside(Inside::Token(token()));
        let send = || What::Inside(Inside::TokenSent { to: id(2), token: token() });
        for what in [accept(), send()] {
            let mut story = through(&[Phase::Commit, Phase::Recovery]);
            story.record(1, what);
            story.is_right(Transitions);
        }
        for (what, because) in [(accept(), "accepts token 0 of 1.4 in gather"), (send(), "sends token")] {
            let mut story = through(&[Phase::Operational, Phase::Gather]);
            story.record(1, what);
            story.is_wrong(Transitions, because);
        }
    }

    #[test]
    fn a_node_does_not_call_itself_failed() {
        let mut story = Story::ring(2);
        let failed = vec![id(1)];
        let join = Join { from: id(1), leave: false, ring_seq: 4, proc: vec![id(1), id(2)], failed };
        story.record(1, What::Inside(Inside::JoinSent(Box::new(join))));
        story.is_wrong(Transitions, "1#1 calls itself failed");
    }
}
