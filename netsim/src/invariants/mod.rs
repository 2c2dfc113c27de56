//! What must hold in every run, whatever goes wrong. One file a property; the names are the project's.
//!
//! | | |
//! |---|---|
//! | S1 to S16 | what is delivered, and in which order (extended virtual synchrony) |
//! | T1 to T8 | the token |
//! | M1 to M9 | who is a member of what |
//! | Q1, Q2, Q3, Q5 | who has quorum |
//! | D1 to D7 | who is the DC, and who may act |
//! | H1 to H3, H5 to H7 | no node panics, swells, toils, falls asleep, forgets, or goes on after its end |
//! | L1 to L6 | what is reached once all is well: the core engine looks at that |
//!
//! H4, that the same seed is the same run, is for whoever runs it twice. Q4 and Q6 are about options that members may have
//! (two_node, wait_for_all): there are none yet, so there is nothing to look at.
//!
//! Each is a function from a [`History`] to a verdict, or looks at it line by line while the run goes on, and knows nothing
//! of how the history came about.

mod cluster;
mod d1_one_dc;
mod d2_agreed_dc;
mod d3_terms_rise;
mod d4_one_acts;
mod d5_fenced;
mod d6_right_to_act;
mod d7_elections_end;
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
mod q1_quorate_rings_meet;
mod q2_agreed_quorum;
mod q3_expected_votes;
mod q5_order_of_notices;
mod s10_causality;
mod s11_agreed_order;
mod s12_total_order;
mod s13_holes;
mod s14_safe;
mod s15_safe_to_the_end;
mod s16_no_loss;
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
use crate::History;
use crate::history::Record;

/// An invariant did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Its name: `S8`.
    pub property: &'static str,
    /// When, since the start of the run.
    pub at: Duration,
    /// What was seen, as a sentence without a full stop.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold at {:.3} s: {}", self.property, self.at.as_secs_f64(), self.what)
    }
}

type Property = fn(&History) -> Result<(), Violation>;

/// The simpler a property, the sooner it is looked at: when much is wrong, the simplest tells most.
const ALL: [Property; 26] = [
    h1_no_panic::check,
    s5_self_inclusion::check,
    s6_shape::check,
    m2_ring_ids_rise::check,
    m3_agreed_members::check,
    m4_exact_transitional::check,
    m5_representative::check,
    s1_no_creation::check,
    s2_no_duplication::check,
    s3_content::check,
    s4_containment::check,
    s9_sender_order::check,
    s10_causality::check,
    s11_agreed_order::check,
    s12_total_order::check,
    s8_virtual_synchrony::check,
    s15_safe_to_the_end::check,
    s7_self_delivery::check,
    q5_order_of_notices::check,
    q2_agreed_quorum::check,
    q3_expected_votes::check,
    q1_quorate_rings_meet::check,
    d1_one_dc::check,
    d2_agreed_dc::check,
    d3_terms_rise::check,
    d7_elections_end::check,
];

/// Checks a history against all of them.
///
/// # Errors
/// The first that does not hold.
pub fn check(history: &History) -> Result<(), Violation> {
    ALL.iter().try_for_each(|holds| holds(history))
}

/// A property that is looked at line by line while the run goes on. What it remembers must not grow with the length of
/// the run.
trait Online {
    /// The next line of the history, and what was known before it.
    ///
    /// # Errors
    /// If the property no longer holds.
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation>;
}

/// All properties that are looked at line by line.
pub(crate) struct Checker {
    properties: Vec<Box<dyn Online>>,
    cluster: Cluster,
}

impl Checker {
    /// One of a cluster whose nodes have all this configuration, which takes clocks to be this wrong at most, and this node
    /// list.
    pub(crate) fn new(totem: &TotemConfig, rate_error: u32, listed: Option<BTreeSet<NodeId>>) -> Self {
        let properties: [Box<dyn Online>; 24] = [
            Box::new(d4_one_acts::OneActs::new(rate_error)),
            Box::new(d5_fenced::Fenced::new(rate_error)),
            Box::new(d6_right_to_act::RightToAct::default()),
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
        ];
        Self { properties: properties.into(), cluster: Cluster::new(totem, listed) }
    }

    /// One that looks at nothing.
    pub(crate) fn blind() -> Self {
        Self { properties: Vec::new(), cluster: Cluster::new(&TotemConfig::default(), None) }
    }

    /// The next line of the history.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub(crate) fn see(&mut self, record: &Record) -> Result<(), Violation> {
        if self.properties.is_empty() {
            return Ok(());
        }
        self.properties.iter_mut().try_for_each(|property| property.see(record, &self.cluster))?;
        self.cluster.learn(record);
        Ok(())
    }
}

fn violated(property: &'static str, at: Duration, what: String) -> Result<(), Violation> {
    Err(Violation { property, at, what })
}
