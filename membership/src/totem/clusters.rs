//! Other clusters on the same group and port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::bug;
use crate::wire::{Announcement, ClusterTag, Join};
use crate::{Config, Time};

/// The sources that belong to other clusters.
///
/// A node that has a `cluster_name` announces it in the messages that may reach unknown nodes:
/// JOINs, LEAVEs and merge detects. Its other datagrams are recognized by their source. A corosync
/// daemon announces nothing, and its datagrams are accepted.
#[derive(Clone, Debug)]
pub(super) struct Clusters {
    pub(super) own: Option<ClusterTag>,
    others: BTreeMap<SocketAddr, ClusterTag>,
    /// The time at which this node last announced itself to another cluster.
    answered_at: Option<Time>,
}

impl Clusters {
    /// The shortest time between two announcements to other clusters.
    const BETWEEN: Duration = Duration::from_millis(200);

    pub(super) fn new(config: &Config) -> Self {
        Self { own: config.cluster_tag(), others: BTreeMap::new(), answered_at: None }
    }

    /// Returns the other cluster that a datagram belongs to, if any. With `member`, the source is a
    /// member of the installed ring, and a single datagram does not mark it as another cluster's.
    /// Without an announcement, the datagram is of a kind that has none.
    pub(super) fn other(
        &mut self,
        source: Option<SocketAddr>,
        member: bool,
        announced: Option<&Announcement>,
    ) -> Option<ClusterTag> {
        let own = bug!(OtherClusterHeard: None; self.own)?;
        let Some(announced) = announced else {
            return self.others.get(&source?).copied();
        };
        match announced.cluster {
            Some(cluster) if cluster != own => {
                if let Some(source) = source.filter(|_| !member) {
                    if self.others.len() >= Join::MAX_NODES && !self.others.contains_key(&source) {
                        self.others.pop_first();
                    }
                    self.others.insert(source, cluster);
                }
                Some(cluster)
            }
            _ => {
                self.others.remove(&source?);
                None
            }
        }
    }

    /// Returns `true` if this node may announce itself to another cluster that forms a ring. The
    /// other cluster may have heard a frame of this node and would wait for it.
    pub(super) fn may_answer(&mut self, now: Time) -> bool {
        let may = self.answered_at.is_none_or(|at| now - at >= Self::BETWEEN);
        if may {
            self.answered_at = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;

    fn source(host: u8) -> Option<SocketAddr> {
        Some(([10, 0, 0, host], 5404).into())
    }

    fn clusters(name: Option<&str>) -> Clusters {
        let mut config = Config::new(NodeId::new(1).unwrap());
        config.cluster_name = name.map(Into::into);
        Clusters::new(&config)
    }

    fn of(name: &str) -> Announcement {
        Announcement { cluster: Some(ClusterTag::of(name.as_bytes())), ..Announcement::default() }
    }

    #[test]
    fn a_source_belongs_to_a_cluster_until_it_announces_another() {
        let mut clusters = clusters(Some("here"));
        assert_eq!(clusters.other(source(2), false, None), None);
        for told_otherwise in [of("here"), Announcement::default()] {
            assert!(clusters.other(source(2), false, Some(&of("there"))).is_some());
            assert!(clusters.other(source(2), false, None).is_some());
            assert_eq!(clusters.other(source(3), false, None), None);
            assert_eq!(clusters.other(source(2), false, Some(&told_otherwise)), None);
            assert_eq!(clusters.other(source(2), false, None), None);
        }
    }

    #[test]
    fn a_member_is_not_lost_for_one_announcement() {
        let mut clusters = clusters(Some("here"));
        assert!(clusters.other(source(2), true, Some(&of("there"))).is_some());
        assert_eq!(clusters.other(source(2), true, None), None);
    }

    #[test]
    fn a_node_without_a_cluster_name_hears_all() {
        assert_eq!(clusters(None).other(source(2), false, Some(&of("there"))), None);
    }

    #[test]
    fn forged_announcements_use_bounded_memory() {
        let mut clusters = clusters(Some("here"));
        for host in 0..10_000_u32 {
            clusters.other(Some((host.to_be_bytes(), 5404).into()), false, Some(&of("there")));
        }
        assert_eq!(clusters.others.len(), Join::MAX_NODES);
    }
}
