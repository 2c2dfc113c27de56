//! The quorum device of this node, as far as the election passes it on and shows it.

use bytes::Bytes;
use quorate_membership::wire::body::Body;
use quorate_membership::{DeviceError, DeviceRequest, DeviceState, Time};

use super::{Election, Outcome};
use crate::{DeviceStatus, Inquorate};

impl Election {
    /// Handles a request of this node's quorum device.
    ///
    /// # Errors
    /// As [`Quorum::handle_device`](crate::Quorum::handle_device).
    pub fn handle_device(&mut self, now: Time, request: DeviceRequest) -> Result<Outcome, DeviceError> {
        self.now = now;
        let before = self.standing;
        let device = self.quorum.handle_device(now, request)?;
        let mut changed = self.note_devices();
        if device.goes_on {
            self.judged.inquorate = Some(Inquorate::Unsettled);
            changed = true;
        }
        let outcome = self.review();
        let status = outcome.status.or_else(|| changed.then(|| self.judged.clone()));
        Ok(self.tell(before, Outcome { device, status, ..outcome }))
    }

    /// Returns what this node says of its quorum device.
    pub fn device_state(&self) -> DeviceState {
        self.quorum.device_state()
    }

    /// Returns the messages that this node now sends in the sync stage of votequorum.
    pub fn vote_messages(&self) -> Vec<Body> {
        let own = Body::NodeInfo(self.quorum.node_info());
        std::iter::once(own).chain(self.quorum.device_infos()).collect()
    }

    /// Applies what the members say of their quorum devices to the status. Returns `true` if the
    /// status has changed.
    pub(super) fn note_devices(&mut self) -> bool {
        self.learn_devices();
        let mut status = self.judged.clone();
        for shown in &mut status.nodes {
            shown.device = self.nodes.get(&shown.id).map(|node| node.device).unwrap_or_default();
        }
        let casts = status.device.as_ref().is_some_and(|device| device.casts);
        status.device = self.device_status(casts);
        let changed = status != self.judged;
        self.judged = status;
        changed
    }

    /// Takes over what the members of the ring say of their quorum devices.
    pub(super) fn learn_devices(&mut self) {
        let devices = self.quorum.devices();
        for (id, node) in &mut self.nodes {
            node.device = devices.get(id).copied().unwrap_or_default();
        }
    }

    pub(super) fn device_status(&self, casts: bool) -> Option<DeviceStatus> {
        // A control character could forge a line where the name is shown.
        let shown = |name: &Bytes| String::from_utf8_lossy(name).replace(char::is_control, "?");
        let name = self.quorum.device_name().map(shown);
        let votes = self.quorum.device_votes();
        (votes > 0 || name.is_some()).then_some(DeviceStatus { name, votes, casts })
    }
}
