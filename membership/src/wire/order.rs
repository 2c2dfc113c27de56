//! Byte order.

/// The order of a message's bytes, which is that of its sender's machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// What this crate sends, and every common machine.
    Little,
    /// Read as well.
    Big,
}
