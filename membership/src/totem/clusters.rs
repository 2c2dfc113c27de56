//! Other clusters on the same group and port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::mutants::Mutant;
use crate::wire::{Announced, ClusterTag, Join};
use crate::{Config, Time};

/// Which sources belong to other clusters.
///
/// A node that has a `cluster_name` announces it in what it says to nodes that it may not know: JOINs, LEAVEs, merge
/// detects. Its other datagrams are known by their source. A corosync daemon announces nothing and is heard.
#[derive(Clone, Debug)]
pub(super) struct Clusters {
    own: Option<ClusterTag>,
    others: BTreeMap<SocketAddr, ClusterTag>,
    /// When this node last announced itself to another cluster.
    answered_at: Option<Time>,
}

impl Clusters {
    /// The shortest time between two announcements to other clusters.
    const BETWEEN: Duration = Duration::from_millis(200);

    pub(super) fn new(config: &Config) -> Self {
        Self { own: config.cluster_tag(), others: BTreeMap::new(), answered_at: None }
    }

    /// The message as it is sent: with the cluster behind it, if this node has one.
    pub(super) fn announce(&self, message: &Bytes) -> Bytes {
        self.own.map_or_else(|| message.clone(), |own| own.announce(message))
    }

    /// The other cluster that a datagram is of. `member`: its source is known as a member of the installed ring, and is
    /// not remembered as another cluster's for what one datagram says.
    pub(super) fn other(
        &mut self,
        source: Option<SocketAddr>,
        member: bool,
        announced: Announced,
    ) -> Option<ClusterTag> {
        let own = self.own.filter(|_| !Mutant::OtherClusterHeard.is_active())?;
        match announced {
            Announced::Cluster(cluster) if cluster != own => {
                if let Some(source) = source.filter(|_| !member) {
                    if self.others.len() >= Join::MAX_NODES && !self.others.contains_key(&source) {
                        self.others.pop_first();
                    }
                    self.others.insert(source, cluster);
                }
                Some(cluster)
            }
            Announced::Silent => self.others.get(&source?).copied(),
            Announced::Cluster(_) | Announced::Nothing => {
                self.others.remove(&source?);
                None
            }
        }
    }

    /// Whether to announce this node to another cluster, which forms a ring: it may have heard a frame of this node, and
    /// would wait for it.
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

    fn of(name: &str) -> Announced {
        Announced::Cluster(ClusterTag::of(name.as_bytes()))
    }

    #[test]
    fn a_source_is_another_clusters_until_it_says_otherwise() {
        let mut clusters = clusters(Some("here"));
        assert_eq!(clusters.other(source(2), false, Announced::Silent), None);
        for told_otherwise in [of("here"), Announced::Nothing] {
            assert!(clusters.other(source(2), false, of("there")).is_some());
            assert!(clusters.other(source(2), false, Announced::Silent).is_some());
            assert_eq!(clusters.other(source(3), false, Announced::Silent), None);
            assert_eq!(clusters.other(source(2), false, told_otherwise), None);
            assert_eq!(clusters.other(source(2), false, Announced::Silent), None);
        }
    }

    #[test]
    fn a_member_is_not_lost_for_what_one_datagram_says() {
        let mut clusters = clusters(Some("here"));
        assert!(clusters.other(source(2), true, of("there")).is_some());
        assert_eq!(clusters.other(source(2), true, Announced::Silent), None);
    }

    #[test]
    fn a_node_without_a_cluster_name_hears_all() {
        assert_eq!(clusters(None).other(source(2), false, of("there")), None);
    }

    #[test]
    fn forged_announcements_fill_no_memory() {
        let mut clusters = clusters(Some("here"));
        for host in 0..10_000_u32 {
            clusters.other(Some((host.to_be_bytes(), 5404).into()), false, of("there"));
        }
        assert_eq!(clusters.others.len(), Join::MAX_NODES);
    }
}
