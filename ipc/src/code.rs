//! The result codes of corosync's libraries.

/// A result code (`cs_error_t`) that a server answers with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub(crate) enum Code {
    Ok = 1,
    /// The shutdown vote has timed out.
    Timeout = 5,
    /// The client tries again.
    TryAgain = 6,
    InvalidParam = 7,
    /// A vote was not unanimous, or the map has open iterators.
    Busy = 10,
    Access = 11,
    NotExist = 12,
    NameTooLong = 13,
    Exist = 14,
    /// There is no node whose votes could be changed.
    NameNotFound = 17,
    NotSupported = 19,
    /// There is no such node.
    Failed = 21,
    /// The client knows an earlier ring.
    MessageError = 22,
    TooBig = 26,
    /// An iteration is over.
    NoSections = 27,
}
