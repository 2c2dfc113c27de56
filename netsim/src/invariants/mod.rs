//! What must hold in every run, whatever goes wrong. One file a property; the names are the project's.
//!
//! | | |
//! |---|---|
//! | S1 to S14 | what is delivered, and in which order (extended virtual synchrony) |
//! | T1, T7 | the token |
//! | T1, T7 | the token |
//! | M2 to M5 | who is a member of what |
//! | Q1, Q2 | who has quorum |
//! | D1 to D3 | who is the DC |
//! | H1 | nothing panics |
//!
//! Each is a function from a [`History`] to a verdict and knows nothing of how the history came about.

mod d1_one_dc;
mod d2_agreed_dc;
mod d3_terms_rise;
mod h1_no_panic;
mod m2_ring_ids_rise;
mod m3_agreed_members;
mod m4_exact_transitional;
mod m5_representative;
mod q1_quorate_rings_meet;
mod q2_agreed_quorum;
mod s10_causality;
mod s11_agreed_order;
mod s14_safe;
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
mod t7_requests;

use std::fmt;
use std::time::Duration;

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
const ALL: [Property; 21] = [
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
    s8_virtual_synchrony::check,
    s7_self_delivery::check,
    q2_agreed_quorum::check,
    q1_quorate_rings_meet::check,
    d1_one_dc::check,
    d2_agreed_dc::check,
    d3_terms_rise::check,
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
pub(crate) trait Online {
    /// The next line of the history.
    ///
    /// # Errors
    /// If the property no longer holds.
    fn see(&mut self, record: &Record) -> Result<(), Violation>;

    /// The run has ended.
    ///
    /// # Errors
    /// If it then turns out that the property did not hold.
    fn end(&mut self, _ended_at: Duration) -> Result<(), Violation> {
        Ok(())
    }
}

/// All properties that are looked at line by line.
pub(crate) struct Checker {
    properties: Vec<Box<dyn Online>>,
}

impl Default for Checker {
    fn default() -> Self {
        let properties: [Box<dyn Online>; 3] = [
            Box::new(t1_one_token::OneToken::default()),
            Box::new(t7_requests::Requests::default()),
            Box::new(s14_safe::Safe::default()),
        ];
        Self { properties: properties.into() }
    }
}

impl Checker {
    /// One that looks at nothing.
    pub(crate) fn blind() -> Self {
        Self { properties: Vec::new() }
    }

    /// The next line of the history.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub(crate) fn see(&mut self, record: &Record) -> Result<(), Violation> {
        self.properties.iter_mut().try_for_each(|property| property.see(record))
    }

    /// The run has ended.
    ///
    /// # Errors
    /// The first property that did not hold.
    pub(crate) fn end(&mut self, ended_at: Duration) -> Result<(), Violation> {
        self.properties.iter_mut().try_for_each(|property| property.end(ended_at))
    }
}

fn violated(property: &'static str, at: Duration, what: String) -> Result<(), Violation> {
    Err(Violation { property, at, what })
}
