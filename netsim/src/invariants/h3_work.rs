//! H3: the work of one input is bounded. It sends at most one visit's share of frames, or the
//! datagrams that waited for the disk, and delivers at most one window of events.

use quorate_membership::config::TotemConfig;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Record, What};

pub(super) struct Work;

/// Datagrams that may have waited for the disk.
const WAITED: u32 = 64;
/// Datagrams sent in addition to frames: a token, a JOIN, a probe.
const BESIDE: u32 = 8;
/// Sequence numbers in a window.
const SLOTS: u32 = 16_384;
/// The fewest bytes of a frame that a message takes.
const SMALLEST: u32 = 100;

impl Online for Work {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Inside(Inside::Worked { sent, told })) = (record.life, &record.what) else {
            return Ok(());
        };
        let TotemConfig { max_messages, window_size, largest_window, .. } = cluster.totem;
        let visit = max_messages.max(largest_window.max(window_size) * max_messages / window_size);
        let most_sent = visit.max(WAITED) + BESIDE;
        let most_told = SLOTS * (cluster.totem.netmtu / SMALLEST + 1);
        if *sent > most_sent || *told > most_told {
            let what = format!(
                "{life} sent {sent} datagrams (at most {most_sent}) and {told} events (at most {most_told})"
            );
            return violated("H3", record.at, what);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    fn worked(sent: u32, told: u32) -> Story {
        let mut story = Story::ring(1);
        story.record(1, What::Inside(Inside::Worked { sent, told }));
        story
    }

    #[test]
    fn the_work_of_one_input_is_bounded() {
        worked(350, 1000).is_right(Work);
        worked(360, 0).is_wrong(Work, "1#1 sent 360 datagrams (at most 356)");
        worked(0, 1_000_000).is_wrong(Work, "and 1000000 events");
    }
}
