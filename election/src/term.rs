//! The term of a DC, which is its fencing token.

use std::fmt;
use std::str::FromStr;

use quorate_membership::NodeId;
use serde::de::Error as _;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A DC's term of office in one ring, which is also the fencing token. Compared field by field, in
/// this order.
///
/// A new ring has a new term, whether its DC is the same or another, and so does a hand-over within
/// a ring. The term therefore rises with every change of the membership and of the DC. A resource
/// that remembers the highest term it has seen, and rejects lower ones, is never used by two DCs at
/// cross purposes. The crate's front page describes what this rests on.
///
/// # Storing a term
/// A term has 128 bits, which is more than the integers of most databases. Its 16 bytes
/// ([`Term::to_be_bytes`]) compare as terms do. They fit a `BLOB` of SQLite, a `BYTEA` of
/// PostgreSQL, and a value of etcd. As a number ([`Term::as_u128`]) it fits a `NUMERIC(39)`. A
/// decimal text has no fixed length, so texts do not compare as terms do.
///
/// ```
/// use quorate_election::Term;
/// let old: Term = "36893488147419103233".parse()?; // of node 1, in the ring with number 2
/// let new = Term { ring_seq: 10, ..old };
/// assert!(new.to_be_bytes() > old.to_be_bytes());
/// assert!(new.to_string() < old.to_string()); // as texts, in the wrong order
/// assert_eq!(Term::from_be_bytes(new.to_be_bytes())?, new);
/// # Ok::<(), quorate_election::InvalidTerm>(())
/// ```
///
/// # Serde
/// A term is serialised as its fields and `fencing_token`: the term as one integer, written as a
/// decimal string, because numbers in JSON cannot hold it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Term {
    /// The sequence number of the ring that elected the DC.
    pub ring_seq: u64,
    /// The number of hand-overs within that ring.
    pub hand_over: u32,
    /// The DC.
    pub node: NodeId,
}

impl Term {
    /// Returns the term as one integer, which orders as the term does.
    pub fn as_u128(self) -> u128 {
        u128::from(self.ring_seq) << 64 | u128::from(self.hand_over) << 32 | u128::from(self.node.get())
    }

    /// Returns the term as 16 bytes, the highest first, which order as the term does.
    pub fn to_be_bytes(self) -> [u8; 16] {
        self.as_u128().to_be_bytes()
    }

    /// Returns the term with these bytes ([`Term::to_be_bytes`]).
    ///
    /// # Errors
    /// If the last four bytes, the id of the DC, are 0.
    pub fn from_be_bytes(bytes: [u8; 16]) -> Result<Self, InvalidTerm> {
        u128::from_be_bytes(bytes).try_into()
    }
}

impl From<Term> for u128 {
    fn from(term: Term) -> Self {
        term.as_u128()
    }
}

/// Reads [`Term::as_u128`].
impl TryFrom<u128> for Term {
    type Error = InvalidTerm;

    fn try_from(token: u128) -> Result<Self, InvalidTerm> {
        let invalid = || InvalidTerm { text: token.to_string() };
        Ok(Self {
            ring_seq: (token >> 64) as u64,
            hand_over: (token >> 32) as u32,
            node: NodeId::new(token as u32).ok_or_else(invalid)?,
        })
    }
}

/// Prints the term as one decimal integer.
impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_u128(), f)
    }
}

/// Reads what [`Display`](fmt::Display) prints.
impl FromStr for Term {
    type Err = InvalidTerm;

    fn from_str(text: &str) -> Result<Self, InvalidTerm> {
        let token: u128 = text.parse().map_err(|_| InvalidTerm { text: text.to_owned() })?;
        token.try_into()
    }
}

/// The error for a text or a number that is not a term.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is not a term (an integer of 128 bits, of which the last 32 are a node's id and not 0)")]
pub struct InvalidTerm {
    text: String,
}

impl Serialize for Term {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut term = serializer.serialize_struct("Term", 4)?;
        term.serialize_field("ring_seq", &self.ring_seq)?;
        term.serialize_field("hand_over", &self.hand_over)?;
        term.serialize_field("node", &self.node)?;
        term.serialize_field("fencing_token", &self.to_string())?;
        term.end()
    }
}

/// Refuses a term whose `fencing_token` is not that of the other fields.
impl<'de> Deserialize<'de> for Term {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "Term")]
        struct Fields {
            ring_seq: u64,
            hand_over: u32,
            node: NodeId,
            fencing_token: String,
        }
        let Fields { ring_seq, hand_over, node, fencing_token } = Fields::deserialize(deserializer)?;
        let term = Self { ring_seq, hand_over, node };
        let stated: Self = fencing_token.parse().map_err(D::Error::custom)?;
        if stated != term {
            return Err(D::Error::custom(format!(
                "the fencing token {stated} is not that of the term, {term}"
            )));
        }
        Ok(term)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms() -> impl Strategy<Value = Term> {
        let node = (1..=u32::MAX).prop_map(|id| NodeId::new(id).unwrap());
        (any::<u64>(), any::<u32>(), node).prop_map(|(ring_seq, hand_over, node)| Term {
            ring_seq,
            hand_over,
            node,
        })
    }

    proptest! {
        #[test]
        fn a_term_is_read_as_it_was_written(term in terms()) {
            prop_assert_eq!(term.to_string().parse(), Ok(term));
            prop_assert_eq!(Term::try_from(u128::from(term)), Ok(term));
            prop_assert_eq!(Term::from_be_bytes(term.to_be_bytes()), Ok(term));
            let json = serde_json::to_string(&term).unwrap();
            prop_assert_eq!(serde_json::from_str::<Term>(&json).unwrap(), term);
        }

        #[test]
        fn numbers_and_bytes_order_as_terms_do(one in terms(), other in terms()) {
            prop_assert_eq!(one.cmp(&other), one.as_u128().cmp(&other.as_u128()));
            prop_assert_eq!(one.cmp(&other), one.to_be_bytes().cmp(&other.to_be_bytes()));
        }
    }

    #[test]
    fn a_text_that_is_no_term_is_refused() {
        for text in ["", "0", "-1", "4294967296", "1.2", "340282366920938463463374607431768211456"] {
            let error = text.parse::<Term>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is not a term")), "{error}");
        }
        let json = r#"{"ring_seq": 2, "hand_over": 0, "node": 1, "fencing_token": "36893488147419103234"}"#;
        let error = serde_json::from_str::<Term>(json).unwrap_err().to_string();
        assert!(
            error.contains("36893488147419103234 is not that of the term, 36893488147419103233"),
            "{error}"
        );
    }
}
