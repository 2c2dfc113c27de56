//! corosync 3.1's defaults, and its derivations of one value from others. Times are in
//! milliseconds.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::NodeId;

/// `totem.token`, before the coefficient.
pub const TOKEN: u64 = 3000;
/// `totem.token_coefficient`.
pub const TOKEN_COEFFICIENT: u64 = 650;
/// `totem.token_retransmits_before_loss_const`.
pub const TOKEN_RETRANSMITS_BEFORE_LOSS: u64 = 4;
/// `totem.join`.
pub const JOIN: u64 = 50;
/// `totem.merge`.
pub const MERGE: u64 = 200;
/// `totem.fail_recv_const`, in rotations.
pub const FAIL_RECV: u32 = 2500;
/// `totem.seqno_unchanged_const`, in rotations.
pub const SEQNO_UNCHANGED: u32 = 30;
/// `totem.window_size`, in frames per rotation.
pub const WINDOW_SIZE: u32 = 50;
/// `totem.max_messages`, in frames per visit.
pub const MAX_MESSAGES: u32 = 17;
/// `totem.miss_count_const`, in visits.
pub const MISS_COUNT: u32 = 5;
/// `totem.netmtu` of the udp transport, in bytes.
pub const NETMTU: u32 = 1500;
/// The same over IPv6, whose header is 20 bytes longer, so that full frames are not fragmented.
pub const NETMTU_V6: u32 = NETMTU - 20;
/// `totem.interface.mcastport` of link 0.
pub const PORT: u16 = 5405;
/// The multicast group of a program that neither sets one nor names its cluster. corosync has no
/// such default.
pub const GROUP: Ipv4Addr = Ipv4Addr::new(239, 192, 0, 1);
/// `totem.interface.ttl`.
pub const TTL: u8 = 1;
/// `quorum.last_man_standing_window`, in milliseconds.
pub const LAST_MAN_STANDING_WINDOW: u64 = 10_000;
/// `quorum.device.timeout`, in milliseconds.
pub const DEVICE_TIMEOUT: u64 = 10_000;
/// `quorum.device.sync_timeout`, in milliseconds.
pub const DEVICE_SYNC_TIMEOUT: u64 = 30_000;
/// `quorate.window_size`, in frames per rotation.
pub const LARGEST_WINDOW: u32 = 1024;
/// `quorate.probe`. Two and a half intervals are 20 ms, and a live member shows itself twice in
/// that time.
pub const PROBE: u64 = 8;
/// `quorate.unread_limit`, in bytes.
pub const UNREAD_LIMIT: u32 = 64 << 20;
/// `nodelist.node.dc_priority`.
pub const DC_PRIORITY: u32 = 1;
/// `quorate.dc_deadtime`: Pacemaker's `dc-deadtime`.
pub const DC_DEADTIME: u64 = 20_000;
/// `quorate.rate_error`, in millionths. 1 % is ten times the error of an undisciplined clock.
pub const RATE_ERROR: u32 = 10_000;

/// `quorate.lease`, at most. Another DC acts 0.4 s after one was killed, and a member may be paused
/// for half of that.
pub const LEASE: u64 = 300;
/// Hold times in a lease, if the hold time is derived from it. The lease is renewed after two.
/// Another DC acts within a lease and one hold time, which is 50 ms longer than a lease at most.
pub const HOLDS_OF_LEASE: u32 = 7;
/// Hold times in a lease, if the lease is derived from the hold time.
pub const LEASE_OF_HOLDS: u32 = 5;
/// The fewest hold times in a lease. With all processors under load, no lease of this length was
/// lost, and shorter ones were.
pub const FEWEST_HOLDS: u32 = 4;

/// The shortest timeout. corosync counts on a system timer of 100 Hz.
pub const MIN_TIMEOUT: u64 = 30;
/// The longest effective `totem.token`. `totem.consensus` is derived from it as a signed number of
/// 32 bits.
pub const MAX_TOKEN: u64 = 1_789_569_600;
/// The shortest `totem.hold`.
pub const MIN_HOLD: u64 = 14;

/// Returns the effective token timeout. Every listed node beyond the second adds the coefficient.
pub fn effective_token(token: u64, coefficient: u64, listed_nodes: usize) -> u64 {
    let beyond_two = u64::try_from(listed_nodes).unwrap_or(u64::MAX).saturating_sub(2);
    token.saturating_add(coefficient.saturating_mul(beyond_two))
}

/// Returns corosync's `totem.token_retransmit`. It leaves time for the requested number of
/// retransmissions and for the answer to the last.
pub fn token_retransmit(token: u64, retransmits_before_loss: u64) -> u64 {
    (token as f64 / (retransmits_before_loss as f64 + 0.2)) as u64
}

/// Returns the shortest token timeout with which [`token_retransmit`] is not below [`MIN_TIMEOUT`].
pub fn least_token(retransmits_before_loss: u64) -> u64 {
    // Rounded down, because the division may be rounded either way.
    let about = (MIN_TIMEOUT as f64 * (retransmits_before_loss as f64 + 0.2)) as u64;
    (about..).find(|&token| token_retransmit(token, retransmits_before_loss) >= MIN_TIMEOUT).unwrap_or(about)
}

/// Returns corosync's `totem.hold`. A held token is passed on before the holder's predecessor sends
/// it again.
pub fn hold(token_retransmit: u64) -> u64 {
    (token_retransmit as f64 * 0.8 - 10.0) as u64
}

/// Returns `totem.hold` as in corosync, but short enough for a DC to renew this lease in time.
pub fn hold_for(lease: u64, token_retransmit: u64) -> u64 {
    hold(token_retransmit).min((lease / u64::from(HOLDS_OF_LEASE)).max(MIN_HOLD))
}

/// Returns `totem.token_retransmit` as in corosync, but short enough that a lost token does not
/// cost the DC its lease.
pub fn retransmit_after(hold: u64, token_retransmit: u64) -> u64 {
    token_retransmit.min((hold + hold / 4).max(MIN_TIMEOUT))
}

/// Returns `totem.consensus`.
pub fn consensus(token: u64) -> u64 {
    // corosync rounds to single precision in between, and every node must compute the same value.
    (1.2 * token as f64) as f32 as u64
}

/// Returns `totem.interface.mcastaddr` of link 0, derived from the cluster's name.
pub fn group(cluster_name: &[u8]) -> Ipv4Addr {
    let id = cluster_id(cluster_name);
    // Every corosync computes the remainder by 255 here, a slip for the lower byte.
    Ipv4Addr::new(239, 192, (id >> 8) as u8, (id % 255) as u8)
}

/// Returns the same for IPv6.
pub fn group_v6(cluster_name: &[u8]) -> Ipv6Addr {
    Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, cluster_id(cluster_name))
}

/// Returns the number that corosync makes of a cluster's name.
fn cluster_id(name: &[u8]) -> u16 {
    // corosync adds plain C chars, which are signed on its usual platforms.
    let sum = name.iter().fold(0i32, |sum, &byte| sum.wrapping_mul(2).wrapping_add(i32::from(byte as i8)));
    (sum & 0xffff) as u16
}

/// Returns the port of a cluster that is named in code without a port. It is odd, because the port
/// below it is used too, and outside the system's range for outgoing connections. It is independent
/// of the group, so two names rarely share both.
pub fn port(cluster_name: &[u8]) -> u16 {
    const PORTS: u32 = 11_000;
    // FNV-1a, whose upper half is the better one.
    let hash = cluster_name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    10_001 + 2 * ((hash >> 32) as u32 % PORTS) as u16
}

/// Returns a node's id derived from its address, as a 31-bit number with
/// `totem.clear_node_high_bit`. Returns `None` if that is 0.
pub fn node_id(address: Ipv4Addr, clear_high_bit: bool) -> Option<NodeId> {
    let id = u32::from(address);
    NodeId::new(if clear_high_bit { id & 0x7fff_ffff } else { id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_timeouts_match_a_real_corosync() {
        let token = effective_token(1000, TOKEN_COEFFICIENT, 3);
        assert_eq!(token, 1650);
        assert_eq!(token_retransmit(token, TOKEN_RETRANSMITS_BEFORE_LOSS), 392);
        assert_eq!(hold(392), 303);
        assert_eq!(consensus(token), 1980);
    }

    #[test]
    fn the_coefficient_counts_from_the_third_listed_node_on() {
        for (nodes, token) in [(0, 3000), (1, 3000), (2, 3000), (3, 3650), (5, 4950)] {
            assert_eq!(effective_token(TOKEN, TOKEN_COEFFICIENT, nodes), token, "{nodes} nodes");
        }
    }

    #[test]
    fn the_least_token_timeout_leaves_room_for_its_retransmits() {
        for retransmits in 1..100 {
            let least = least_token(retransmits);
            assert!(token_retransmit(least, retransmits) >= MIN_TIMEOUT, "{retransmits}");
            assert!(token_retransmit(least - 1, retransmits) < MIN_TIMEOUT, "{retransmits}");
        }
    }

    #[test]
    fn extreme_values_do_not_overflow() {
        let token = effective_token(u64::MAX, u64::MAX, usize::MAX);
        assert_eq!(hold(token_retransmit(0, u64::MAX)), 0);
        assert!(consensus(token) >= token);
    }

    #[test]
    fn the_group_follows_from_the_cluster_name_as_corosync_has_it() {
        for (name, group_) in
            [("hacluster", [239, 192, 204, 129]), ("t", [239, 192, 0, 116]), ("debian", [239, 192, 24, 204])]
        {
            assert_eq!(group(name.as_bytes()), Ipv4Addr::from(group_), "{name}");
        }
        assert_eq!(group(b"caf\xe9"), Ipv4Addr::from([239, 192, 5, 86]));
        group(&[0xff; 1000]);
    }

    #[test]
    fn a_node_id_is_its_address_in_network_order() {
        let id = |address: [u8; 4], clear| node_id(address.into(), clear).map(NodeId::get);
        assert_eq!(id([10, 77, 11, 1], false), Some(0x0a4d_0b01));
        assert_eq!(id([192, 0, 2, 2], false), Some(0xc000_0202));
        assert_eq!(id([192, 0, 2, 2], true), Some(0x4000_0202));
        assert_eq!(id([128, 0, 0, 0], true), None);
    }
}
