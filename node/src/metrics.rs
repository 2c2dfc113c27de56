//! The counters and gauges of a node, through the facade of the crate `metrics` (feature
//! `metrics`).
//!
//! [`publish`] updates them. The exporter that the program installs shows them, for instance that
//! of `metrics-exporter-prometheus`. Each has the label `node`, the id of the node, so that several
//! nodes of one process can be told apart. Names and labels are stable. Counters begin at 0, those
//! of each reason and each cause, too.
//!
//! | counter | labels | meaning |
//! |---|---|---|
//! | `quorate_tokens_total` and the others of [`Stats::COUNTERS`] | | as in that table |
//! | `quorate_refused_total` | `reason` | datagrams that were rejected |
//! | `quorate_ring_changes_total` | `cause` | rings, by [`Cause::kind`](crate::Cause::kind) |
//!
//! | gauge | meaning |
//! |---|---|
//! | `quorate_members` | members of the ring; 0 without one |
//! | `quorate_quorate` | 1 with quorum, otherwise 0 |
//! | `quorate_votes`, `..._needed`, `..._expected` | votes present, needed, of all nodes |
//! | `quorate_is_dc` | 1 if this node is the DC, otherwise 0 |
//! | `quorate_lease_left_seconds` | how long this node may still act as DC |
//! | `quorate_rotation_seconds` | mean time of a rotation (idle: the hold time); 0 without a ring |
//! | `quorate_queue_bytes` | messages that wait to be sent |
//! | `quorate_window_frames` | frames that all members together may send in a rotation |
//! | `quorate_notices` | problems of the last minute that keep peers out |

use std::mem;
use std::time::Duration;

use metrics::{Counter, SharedString, counter, describe_counter, describe_gauge, gauge};
use tokio::time::Instant;

use crate::{Cause, Dc, Node, Refusal, Stats, Status};

/// Updates the counters and gauges of a node, once in each `every`, until the node has left.
///
/// This has a handle to the node, which therefore runs until [`Node::leave`] is called. Cancel
/// safe: dropping the future stops the updates. 1 s is a usual interval. A shorter one shows
/// shorter rotations, and costs a message to the node's task each time.
pub async fn publish(node: Node, dc: Dc, every: Duration) {
    describe();
    let id = node.id().to_string();
    // Kept with the node: this future may be dropped, and the function called again.
    let mut counted = node.published().clone();
    let mut measured_at = Instant::now();
    loop {
        let (stats, now) = (node.stats().await, Instant::now());
        let (status, tokens) = (dc.status(), stats.tokens - counted.tokens);
        // Tokens of different rings, and the time between rings, tell nothing.
        let stands = status.ring.is_some() && stats.rings == counted.rings;
        if !stands || tokens > 0 {
            let rotation = if stands { (now - measured_at).as_secs_f64() / tokens as f64 } else { 0.0 };
            gauge!("quorate_rotation_seconds", "node" => id.clone()).set(rotation);
            measured_at = now;
        }
        count(&id, &stats, &mem::replace(&mut *node.published(), stats.clone()));
        counted = stats;
        show(&id, &status, dc.lease_left());
        tokio::select! {
            biased;
            _ = node.left() => break,
            () = tokio::time::sleep(every) => {}
        }
    }
    let stats = node.stats().await;
    count(&id, &stats, &mem::replace(&mut *node.published(), stats.clone()));
    show(&id, &dc.status(), Duration::ZERO);
}

/// Gives each name its meaning.
fn describe() {
    for counter in Stats::COUNTERS {
        describe_counter!(format!("quorate_{}_total", counter.name), counter.help);
    }
    describe_counter!("quorate_refused_total", "Datagrams that were rejected, by reason");
    describe_counter!("quorate_ring_changes_total", "Rings installed, by the first cause of the change");
    describe_gauge!("quorate_members", "Members of the ring");
    describe_gauge!("quorate_quorate", "1 with quorum, otherwise 0");
    describe_gauge!("quorate_votes", "Votes present");
    describe_gauge!("quorate_votes_needed", "Votes needed for quorum");
    describe_gauge!("quorate_votes_expected", "Votes of all nodes");
    describe_gauge!("quorate_is_dc", "1 if this node is the DC, otherwise 0");
    describe_gauge!("quorate_lease_left_seconds", "How long this node may still act as DC");
    describe_gauge!("quorate_rotation_seconds", "Mean time of a rotation of the token");
    describe_gauge!("quorate_queue_bytes", "Messages that wait to be sent");
    describe_gauge!("quorate_window_frames", "Frames that all members together may send in a rotation");
    describe_gauge!("quorate_notices", "Problems of the last minute that keep peers out");
}

/// Adds what was counted since `before`. Another node with this id may have run in this process,
/// and counted from 0.
fn count(id: &str, stats: &Stats, before: &Stats) {
    for counter in Stats::COUNTERS {
        let more = counter.of(stats).saturating_sub(counter.of(before));
        counter!(format!("quorate_{}_total", counter.name), "node" => id.to_owned()).increment(more);
    }
    // Prometheus takes the first value that it reads for a counter's beginning. If that were not 0,
    // the first datagram or ring would not be seen.
    Refusal::REASONS.iter().for_each(|reason| refused(id, *reason).increment(0));
    for (reason, count) in &stats.refused {
        let more = count - before.refused.get(reason).unwrap_or(&0);
        refused(id, reason.to_string()).increment(more);
    }
    Cause::KINDS.iter().for_each(|cause| ring_changes(id, cause).increment(0));
    for (cause, count) in &stats.ring_changes {
        let more = count - before.ring_changes.get(cause).unwrap_or(&0);
        ring_changes(id, cause).increment(more);
    }
    let set = |name: &'static str, value: f64| gauge!(name, "node" => id.to_owned()).set(value);
    set("quorate_queue_bytes", stats.queued as f64);
    set("quorate_window_frames", stats.window.into());
    set("quorate_notices", stats.notices.iter().count() as f64);
}

fn refused(id: &str, reason: impl Into<SharedString>) -> Counter {
    counter!("quorate_refused_total", "node" => id.to_owned(), "reason" => reason)
}

fn ring_changes(id: &str, cause: &'static str) -> Counter {
    counter!("quorate_ring_changes_total", "node" => id.to_owned(), "cause" => cause)
}

fn show(id: &str, status: &Status, lease_left: Duration) {
    let set = |name: &'static str, value: f64| gauge!(name, "node" => id.to_owned()).set(value);
    let members = status.nodes.iter().filter(|node| node.online).count();
    set("quorate_members", members as f64);
    set("quorate_quorate", f64::from(u8::from(status.quorate)));
    set("quorate_votes", status.total_votes.into());
    set("quorate_votes_needed", status.quorum.unwrap_or_default().into());
    set("quorate_votes_expected", status.expected_votes.unwrap_or_default().into());
    let is_dc = status.dc.is_some_and(|dc| dc.to_string() == id);
    set("quorate_is_dc", f64::from(u8::from(is_dc)));
    set("quorate_lease_left_seconds", lease_left.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    /// Returns the counters as Prometheus reads them, after a node has counted this.
    fn counters(stats: &Stats) -> BTreeMap<String, String> {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || count("1", stats, &Stats::default()));
        let text = recorder.handle().render();
        let samples = text.lines().filter_map(|line| line.rsplit_once(' '));
        let counters = samples.filter(|(series, _)| series.contains("_total{"));
        counters.map(|(series, value)| (series.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn before_any_event_each_reason_and_cause_counts_0() {
        let series = |name: &str, label: String| format!("quorate_{name}_total{{node=\"1\"{label}}}");
        let plain = Stats::COUNTERS.iter().map(|counter| series(counter.name, String::new()));
        let reasons = Refusal::REASONS.iter().map(|word| series("refused", format!(",reason=\"{word}\"")));
        let causes = Cause::KINDS.iter().map(|word| series("ring_changes", format!(",cause=\"{word}\"")));
        let expected = plain.chain(reasons).chain(causes).map(|series| (series, "0".to_owned()));
        assert_eq!(counters(&Stats::default()), expected.collect());
    }

    #[test]
    fn an_event_raises_a_counter_that_was_there() {
        let mut stats = Stats::default();
        stats.refuse(Refusal::Impostor);
        stats.ring_changes.insert(Cause::Started.kind(), 2);
        let mut expected = counters(&Stats::default());
        let reason = "sender's id and address do not belong together";
        for (series, value) in [
            (format!("quorate_refused_total{{node=\"1\",reason=\"{reason}\"}}"), "1"),
            ("quorate_ring_changes_total{node=\"1\",cause=\"started\"}".to_owned(), "2"),
        ] {
            *expected.get_mut(&series).unwrap() = value.to_owned();
        }
        assert_eq!(counters(&stats), expected);
    }
}
