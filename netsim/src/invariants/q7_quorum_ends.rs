//! Q7: quorum ends with its ring. A node that has received no token of its installed ring for the
//! token timeout reports no ring, no quorum and no right to act whenever it is asked for its
//! status. The last status delivered to its application is the same.

use quorate_election::Lease;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Record, What};

pub(super) struct QuorumEnds;

impl Online for QuorumEnds {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Inside(inside)) = (record.life, &record.what) else { return Ok(()) };
        let wrong = |what: String| violated("Q7", record.at, format!("{life} {what}"));
        match inside {
            Inside::Asked { ring, quorate, lease, silent } if *silent >= cluster.totem.token => {
                if ring.is_none() && !quorate && *lease == Lease::None {
                    return Ok(());
                }
                wrong(format!(
                    "answers {ring:?}, quorate {quorate}, lease {lease:?}, after {silent:?} of silence"
                ))
            }
            Inside::Unaware => wrong("answers with a status that it has not reported".to_owned()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_membership::config::TotemConfig;

    use super::super::story::{Story, ring};
    use super::*;

    fn asked(here: Option<&str>, quorate: bool, lease: Lease, silent: Duration) -> Story {
        let mut story = Story::ring(3);
        let ring = here.map(ring);
        story.record(1, What::Inside(Inside::Asked { ring, quorate, lease, silent }));
        story
    }

    #[test]
    fn a_node_without_a_token_for_the_token_timeout_has_no_quorum() {
        let token = TotemConfig::default().token;
        let before = token - Duration::from_micros(1);
        asked(Some("1.4"), true, Lease::Held, before).is_right(QuorumEnds);
        asked(None, false, Lease::None, token).is_right(QuorumEnds);
        asked(Some("1.4"), false, Lease::None, token).is_wrong(QuorumEnds, "1#1 answers Some(1.4)");
        asked(None, true, Lease::None, token).is_wrong(QuorumEnds, "quorate true");
        asked(None, false, Lease::Held, token).is_wrong(QuorumEnds, "lease Held");
    }

    #[test]
    fn a_node_delivers_the_status_that_it_answers() {
        let mut story = Story::ring(3);
        story.record(1, What::Inside(Inside::Unaware));
        story.is_wrong(QuorumEnds, "1#1 answers with a status that it has not reported");
    }
}
