//! Requests of a quorum device to its node.
//!
//! The ring does not count votes. It passes these requests to the layer that does, and carries that
//! layer's messages.

use bytes::Bytes;
use serde::Serialize;

use crate::RingId;
use crate::wire::body::NodeInfo;

/// The state of a node's quorum device, as the node announces it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct DeviceState {
    /// Whether a device is registered.
    pub registered: bool,
    /// Whether the device has polled within its timeout.
    pub alive: bool,
    /// Whether the device gives its votes to this node's ring.
    pub casts: bool,
    /// Whether the device wants its choice to count even against a majority. Members do not follow
    /// this.
    pub master_wins: bool,
}

impl DeviceState {
    /// Returns what a node's flags say of its device ([`NodeInfo::flags`]).
    pub fn of(flags: u32) -> Self {
        Self {
            registered: flags & NodeInfo::QDEVICE_REGISTERED != 0,
            alive: flags & NodeInfo::QDEVICE_ALIVE != 0,
            casts: flags & NodeInfo::QDEVICE_CASTS_VOTE != 0,
            master_wins: flags & NodeInfo::QDEVICE_MASTER_WINS != 0,
        }
    }

    /// Returns the flags that say this.
    pub fn flags(self) -> u32 {
        let Self { registered, alive, casts, master_wins } = self;
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        flag(registered, NodeInfo::QDEVICE_REGISTERED)
            | flag(alive, NodeInfo::QDEVICE_ALIVE)
            | flag(casts, NodeInfo::QDEVICE_CASTS_VOTE)
            | flag(master_wins, NodeInfo::QDEVICE_MASTER_WINS)
    }
}

/// A request of the program that casts the quorum device's votes, such as corosync-qdevice. A name
/// has 1 to 254 bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeviceRequest {
    /// The device is there from now on.
    Register {
        /// The device's name, which is the same on all nodes.
        name: Bytes,
    },
    /// The program that polled has ended. The device stays registered, and its votes do not count
    /// until it polls again.
    Ended,
    /// The device is gone.
    Unregister {
        /// The device's name.
        name: Bytes,
    },
    /// The device has another name from now on.
    Rename {
        /// The name so far.
        old: Bytes,
        /// The new name.
        new: Bytes,
    },
    /// A sign of life, with or without the votes.
    Poll {
        /// The device's name.
        name: Bytes,
        /// The newest ring that the device knows of.
        ring: RingId,
        /// Whether the device gives its votes to this ring.
        casts: bool,
    },
    /// The device's choice of a part counts even against a majority. The node announces this, and
    /// its members do not follow it, because a majority elsewhere would be quorate, too.
    MasterWins {
        /// The device's name.
        name: Bytes,
        /// Whether it does.
        wins: bool,
    },
}

/// The error of a [`DeviceRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The node has no quorum device by its configuration, or has left.
    #[error("this node has no quorum device; write `model: net` in section quorum.device")]
    NoDevice,
    /// A device with another name is registered in the ring.
    #[error("a quorum device with another name is registered")]
    OtherName,
    /// No device is registered with this node.
    #[error("no quorum device is registered")]
    NotRegistered,
    /// The registered device has another name.
    #[error("the registered quorum device has another name")]
    WrongName,
    /// The poll is about an earlier ring.
    #[error("the ring has changed since")]
    OtherRing,
}
