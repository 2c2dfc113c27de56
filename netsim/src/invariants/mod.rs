//! The properties that must hold in every run, whatever faults occur. Each has its own file. The
//! names are the project's.
//!
//! | properties | subject |
//! |---|---|
//! | S1 to S17 | which messages are delivered, and in which order (extended virtual synchrony) |
//! | G1 | the members of process groups |
//! | T1 to T8 | the token |
//! | M1 to M9 | the members of rings |
//! | Q1 to Q8 | quorum, and its duration |
//! | D1 to D8 | the DC, and the right to act |
//! | H1 to H3, H5 to H7 | panics, memory, work, timers, stored records, silence after leaving |
//! | L1 to L7 | liveness once all is well, checked by the core engine |
//!
//! H4, that the same seed gives the same run, is checked by running it twice.
//!
//! Each property checks a history record by record, during the run or afterwards, and does not
//! depend on how the history came about. Its state does not grow with the length of the run.

mod cluster;
mod d1_one_dc;
mod d2_agreed_dc;
mod d3_terms_rise;
mod d4_one_acts;
mod d5_fenced;
mod d6_right_to_act;
mod d7_elections_end;
mod d8_alive;
mod g1_agreed_groups;
mod h1_no_panic;
mod h2_memory;
mod h3_work;
mod h5_timers;
mod h6_persisted;
mod h7_silent;
mod m1_unique_rings;
mod m2_ring_ids_rise;
mod m3_agreed_members;
mod m4_exact_transitional;
mod m5_representative;
mod m6_no_ghost;
mod m7_isolation;
mod m8_transitions;
mod m9_restored;
mod messages;
mod q1_quorate_rings_meet;
mod q2_agreed_quorum;
mod q3_expected_votes;
mod q4_options_agree;
mod q5_order_of_notices;
mod q6_options_kept;
mod q7_quorum_ends;
mod q8_one_part;
mod s10_causality;
mod s11_agreed_order;
mod s12_total_order;
mod s13_holes;
mod s14_safe;
mod s15_safe_to_the_end;
mod s16_no_loss;
mod s17_acknowledged;
mod s1_no_creation;
mod s2_no_duplication;
mod s3_content;
mod s4_containment;
mod s5_self_inclusion;
mod s6_shape;
mod s7_self_delivery;
mod s8_virtual_synchrony;
mod s9_sender_order;
#[cfg(test)]
mod story;
mod t1_one_token;
mod t2_fields;
mod t3_numbering;
mod t4_stability;
mod t5_retrievable;
mod t6_window;
mod t7_requests;
mod t8_idle_cost;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use quorate_membership::NodeId;
use quorate_membership::config::TotemConfig;

use self::cluster::Cluster;
use crate::history::{Inside, Record, What};
use crate::{Electorate, History};

/// The groups of properties, with their subjects.
pub const GROUPS: [(&str, &str); 8] = [
    ("S", "which messages are delivered, and in which order"),
    ("G", "the members of process groups"),
    ("T", "the token"),
    ("M", "the members of rings"),
    ("Q", "quorum, and its duration"),
    ("D", "the DC, and the right to act"),
    ("H", "panics, memory, work, timers, stored records, silence after leaving"),
    ("L", "liveness, once the scenario is calm"),
];

/// A property that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The name of the property: `S8`.
    pub property: &'static str,
    /// The time since the start of the run.
    pub at: Duration,
    /// The observation, as a sentence without a full stop.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold at {:.3} s: {}", self.property, self.at.as_secs_f64(), self.what)
    }
}

/// Checks a history against all properties of what applications see. The other properties concern
/// the protocol below, and are checked while the core engine runs.
///
/// # Errors
/// The first property that does not hold.
pub fn check(history: &History) -> Result<(), Violation> {
    let mut checker = Checker::outside(history);
    history.records().iter().try_for_each(|record| checker.see(record))?;
    checker.end(history.ended_at())
}

/// A property. Its state must not grow with the length of the run.
trait Online {
    /// Checks the next record of the history against what was known before it.
    ///
    /// # Errors
    /// If the property no longer holds.
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation>;

    /// Checks the property at the end of the run.
    ///
    /// # Errors
    /// If something is missing that should have come.
    fn end(&mut self, _at: Duration) -> Result<(), Violation> {
        Ok(())
    }
}

/// Returns the properties of what applications see. Simpler properties come first: if much is
/// wrong, the simplest violation is the most informative.
fn outside() -> Vec<Box<dyn Online>> {
    vec![
        Box::new(h1_no_panic::NoPanic),
        Box::new(s5_self_inclusion::SelfInclusion),
        Box::new(s6_shape::Shape::default()),
        Box::new(m2_ring_ids_rise::RingIdsRise::default()),
        Box::new(m3_agreed_members::AgreedMembers::default()),
        Box::new(m4_exact_transitional::ExactTransitional::default()),
        Box::new(m5_representative::Representative),
        Box::new(s1_no_creation::NoCreation),
        Box::new(s2_no_duplication::NoDuplication),
        Box::new(s3_content::SameContent),
        Box::new(s4_containment::Containment),
        Box::new(s9_sender_order::SenderOrder),
        Box::new(s10_causality::Causality),
        Box::new(s11_agreed_order::AgreedOrder::default()),
        Box::new(s12_total_order::TotalOrder::default()),
        Box::new(s8_virtual_synchrony::VirtualSynchrony::default()),
        Box::new(s15_safe_to_the_end::SafeToTheEnd::default()),
        Box::new(s17_acknowledged::Acknowledged::default()),
        Box::new(s7_self_delivery::SelfDelivery::default()),
        Box::new(g1_agreed_groups::AgreedGroups::default()),
        Box::new(q5_order_of_notices::OrderOfNotices::default()),
        Box::new(q2_agreed_quorum::AgreedQuorum::default()),
        Box::new(q3_expected_votes::ExpectedVotes::default()),
        Box::new(q4_options_agree::OptionsAgree),
        Box::new(q6_options_kept::OptionsKept::default()),
        Box::new(q8_one_part::OnePart::default()),
        Box::new(q1_quorate_rings_meet::QuorateRingsMeet::default()),
        Box::new(d1_one_dc::OneDc::default()),
        Box::new(d2_agreed_dc::AgreedDc::default()),
        Box::new(d3_terms_rise::TermsRise::default()),
        Box::new(d7_elections_end::ElectionsEnd::default()),
    ]
}

/// Returns the properties of the protocol below. Clocks are assumed to err by at most `rate_error`,
/// and applications to give a sign of life every `heartbeat`.
fn inside(rate_error: u32, heartbeat: Duration) -> Vec<Box<dyn Online>> {
    vec![
        Box::new(d4_one_acts::OneActs::new(rate_error)),
        Box::new(d5_fenced::Fenced::new(rate_error)),
        Box::new(d6_right_to_act::RightToAct::default()),
        Box::new(d8_alive::Alive::new(heartbeat)),
        Box::new(q7_quorum_ends::QuorumEnds),
        Box::new(m8_transitions::Transitions),
        Box::new(t1_one_token::OneToken::default()),
        Box::new(t2_fields::Fields::default()),
        Box::new(t3_numbering::Numbering::default()),
        Box::new(t4_stability::Stability),
        Box::new(t5_retrievable::Retrievable),
        Box::new(t6_window::Window::default()),
        Box::new(t7_requests::Requests),
        Box::new(t8_idle_cost::IdleCost::default()),
        Box::new(m1_unique_rings::UniqueRings::default()),
        Box::new(m6_no_ghost::NoGhost),
        Box::new(m7_isolation::Isolation),
        Box::new(m9_restored::Restored::default()),
        Box::new(s13_holes::Holes::default()),
        Box::new(s14_safe::Safe),
        Box::new(s16_no_loss::NoLoss::default()),
        Box::new(h2_memory::Memory),
        Box::new(h3_work::Work),
        Box::new(h5_timers::Timers),
        Box::new(h6_persisted::Persisted::default()),
        Box::new(h7_silent::Silent::default()),
    ]
}

/// Checks a run record by record.
pub(crate) struct Checker {
    outside: Vec<Box<dyn Online>>,
    inside: Vec<Box<dyn Online>>,
    cluster: Cluster,
}

impl Checker {
    /// Returns a checker of all properties.
    ///
    /// All `nodes` have the configuration `totem` and the node list `listed`, and `electorate`
    /// holds their votes. Clocks are assumed to err by at most `rate_error`, and applications to
    /// give a sign of life every `heartbeat`.
    pub(crate) fn new(
        nodes: BTreeSet<NodeId>,
        electorate: Electorate,
        totem: &TotemConfig,
        rate_error: u32,
        heartbeat: Duration,
        listed: Option<BTreeSet<NodeId>>,
    ) -> Self {
        let cluster = Cluster::new(nodes, electorate, totem, listed);
        Self { outside: outside(), inside: inside(rate_error, heartbeat), cluster }
    }

    /// Returns a checker of what applications see.
    fn outside(history: &History) -> Self {
        let (nodes, electorate) = (history.nodes().clone(), history.electorate().clone());
        let cluster = Cluster::new(nodes, electorate, &TotemConfig::default(), None);
        Self { outside: outside(), inside: Vec::new(), cluster }
    }

    /// Returns a checker that checks nothing.
    pub(crate) fn blind() -> Self {
        let cluster = Cluster::new(BTreeSet::new(), Electorate::default(), &TotemConfig::default(), None);
        Self { outside: Vec::new(), inside: Vec::new(), cluster }
    }

    /// Checks the next record of the history.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub(crate) fn see(&mut self, record: &Record) -> Result<(), Violation> {
        if self.outside.is_empty() {
            return Ok(());
        }
        let Self { outside, inside, cluster } = self;
        // An outside observer cannot see whether a ring stands. S7 uses that where it is known.
        if !matches!(record.what, What::Inside(_))
            || matches!(record.what, What::Inside(Inside::Phase { .. }))
        {
            outside.iter_mut().try_for_each(|property| property.see(record, cluster))?;
        }
        inside.iter_mut().try_for_each(|property| property.see(record, cluster))?;
        cluster.learn(record);
        Ok(())
    }

    /// Checks the properties at the end of the run.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub(crate) fn end(&mut self, at: Duration) -> Result<(), Violation> {
        self.outside.iter_mut().chain(&mut self.inside).try_for_each(|property| property.end(at))
    }
}

fn violated(property: &'static str, at: Duration, what: String) -> Result<(), Violation> {
    Err(Violation { property, at, what })
}
