//! The quorum device of one node: a program that asks an arbiter outside of the cluster, and casts
//! votes as the arbiter decides.
//!
//! The device shows that it lives by polling. Its votes count while it lives and casts them. A new
//! ring waits for its first poll, because the arbiter may have decided for another part meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::bug;
use quorate_membership::config::DeviceConfig;
use quorate_membership::wire::body::{Body, NodeInfo};
use quorate_membership::{DeviceError, DeviceRequest, DeviceState, NodeId, RingId, Time};

use super::Quorum;

/// The device that is registered with this node, if one is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Device {
    /// `None` if the configuration has no device.
    config: Option<DeviceConfig>,
    /// The name that a member has registered, whether or not this node has a device.
    pub(super) name: Option<Bytes>,
    state: DeviceState,
    /// The newest ring, whether or not its members have exchanged their state.
    ring: Option<RingId>,
    /// The time at which the device counts as dead unless it polls before.
    dies_at: Option<Time>,
    /// Whether the ring's sync waits for the device.
    is_awaited: bool,
}

/// The consequences of a request of the device, or of its silence.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceOutcome {
    /// The messages to send in the ring's order, even before its sync is done
    /// ([`Totem::announce_votes`](quorate_membership::Totem::announce_votes)).
    pub announces: Vec<Bytes>,
    /// Whether the sync need not wait for the device any more
    /// ([`Totem::end_hold`](quorate_membership::Totem::end_hold)).
    pub goes_on: bool,
}

impl Device {
    pub(super) fn new(config: Option<DeviceConfig>) -> Self {
        Self { config, ..Self::default() }
    }

    pub(super) fn state(&self) -> DeviceState {
        self.state
    }

    /// Notes a new ring. Returns `true` if its sync waits for the device. A device that is
    /// registered but dead is not waited for.
    pub(super) fn begin(&mut self, now: Time, ring: RingId) -> bool {
        self.ring = Some(ring);
        self.is_awaited = self.state.registered && bug!(DeviceNotAwaited: false; self.state.alive);
        if let Some(config) = self.config.filter(|_| self.is_awaited) {
            self.dies_at = Some(now + config.sync_timeout);
        }
        self.is_awaited
    }

    /// Returns how long the sync waits at most, while it does.
    pub(super) fn awaited(&self) -> Option<Duration> {
        Some(self.config.filter(|_| self.is_awaited)?.sync_timeout)
    }

    /// Handles a request. Returns the messages that other members need in addition to this node's
    /// own account. The errors are those of votequorum, in its order.
    pub(super) fn handle(&mut self, now: Time, request: DeviceRequest) -> Result<Vec<Body>, DeviceError> {
        let is_served = matches!(request, DeviceRequest::Unregister { .. } | DeviceRequest::Rename { .. });
        let config = match self.config {
            Some(config) => config,
            None if is_served => return Err(DeviceError::NotRegistered),
            None => return Err(DeviceError::NoDevice),
        };
        let registered = self.state.registered;
        let is_named = |own: &Self, name: &Bytes| own.name.as_ref() == Some(name);
        match request {
            DeviceRequest::Register { name } => {
                if self.name.as_ref().is_some_and(|known| *known != name) {
                    return Err(DeviceError::OtherName);
                }
                if registered {
                    return Ok(Vec::new());
                }
                self.name = Some(name.clone());
                self.state = DeviceState::default();
                self.state.registered = true;
                Ok(vec![Body::Qdevice { registers: true, name }])
            }
            _ if !registered => Err(DeviceError::NotRegistered),
            DeviceRequest::Ended => {
                (self.state.alive, self.state.casts, self.dies_at) = (false, false, None);
                Ok(Vec::new())
            }
            DeviceRequest::Unregister { name } if is_named(self, &name) => {
                (self.state, self.dies_at) = (DeviceState::default(), None);
                Ok(vec![Body::Qdevice { registers: false, name }])
            }
            DeviceRequest::Rename { old, new } if is_named(self, &old) => {
                self.name = Some(new.clone());
                Ok(vec![Body::QdeviceRenamed { old, new }])
            }
            // The ring comes before the name, as with votequorum.
            DeviceRequest::Poll { ring, .. } if self.ring != Some(ring) => Err(DeviceError::OtherRing),
            DeviceRequest::Poll { name, casts, .. } if is_named(self, &name) => {
                (self.state.alive, self.state.casts) = (true, casts);
                self.dies_at = Some(now + config.timeout);
                Ok(Vec::new())
            }
            DeviceRequest::MasterWins { name, wins } if is_named(self, &name) => {
                self.state.master_wins = wins;
                Ok(Vec::new())
            }
            _ => Err(DeviceError::WrongName),
        }
    }

    /// Returns `true`, once, if the ring's sync waits for the device and need not any more: the
    /// device has polled, is gone, or has been silent for too long.
    pub(super) fn ends_wait(&mut self, polled: bool) -> bool {
        let done = polled || !self.state.alive;
        self.is_awaited && done && std::mem::take(&mut self.is_awaited)
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.dies_at
    }

    /// Returns `true` if the device has been silent for too long, and counts as dead from now on.
    pub(super) fn expires(&mut self, now: Time) -> bool {
        let expires = self.dies_at.take_if(|at| *at <= now).is_some();
        if expires {
            (self.state.alive, self.state.casts) = (false, false);
        }
        expires
    }

    /// Handles a member's message that its device is there, or is gone. `is_left` is `true` if no
    /// member has one.
    pub(super) fn hear(&mut self, registers: bool, name: &Bytes, is_left: bool) {
        if registers {
            self.name.get_or_insert_with(|| name.clone());
        } else if is_left {
            self.forget_name();
        }
    }

    /// Forgets the name, because no member has a device. A device of this node keeps it.
    pub(super) fn forget_name(&mut self) {
        if !self.state.registered {
            self.name = None;
        }
    }

    /// Handles a member's new name for its device.
    pub(super) fn hear_renamed(&mut self, old: &Bytes, new: &Bytes) {
        if self.name.as_ref() == Some(old) {
            self.name = Some(new.clone());
        }
    }
}

impl Quorum {
    /// Returns what this node sends of the quorum device in the sync stage of votequorum, after its
    /// own account. Empty without a device.
    pub fn device_infos(&self) -> Vec<Body> {
        let votes = self.device_votes();
        let info = NodeInfo { node: None, votes, expected_votes: 0, flags: 0 };
        let info = (votes > 0).then_some(Body::NodeInfo(info));
        let name = self.device.name.clone().filter(|_| info.is_some());
        info.into_iter().chain(name.map(|name| Body::Qdevice { registers: true, name })).collect()
    }

    /// Returns the votes of the quorum device; 0 if there is none.
    pub fn device_votes(&self) -> u32 {
        let agreed = self.record.agreed.as_ref().map(|agreed| &agreed.electorate);
        agreed.unwrap_or(&self.file).device
    }

    /// Returns what this node says of its quorum device.
    pub fn device_state(&self) -> DeviceState {
        self.device.state()
    }

    /// Returns the name that a member has registered for the quorum device.
    pub fn device_name(&self) -> Option<&Bytes> {
        self.device.name.as_ref()
    }

    /// Notes that a ring begins, which the quorum device then has to poll for. Returns how long the
    /// ring's sync waits at most for this node's device, if it waits.
    pub fn begin_ring(&mut self, now: Time, ring: RingId) -> Option<Duration> {
        self.device.begin(now, ring);
        self.device.awaited()
    }

    /// Handles a request of this node's quorum device.
    ///
    /// # Errors
    /// If the request does not fit what this node knows of its device.
    pub fn handle_device(&mut self, now: Time, request: DeviceRequest) -> Result<DeviceOutcome, DeviceError> {
        let (before, polls) = (self.device.state(), matches!(request, DeviceRequest::Poll { .. }));
        let leaves = matches!(request, DeviceRequest::Unregister { .. });
        let messages = self.device.handle(now, request)?;
        let info = (self.device.state() != before).then(|| Body::NodeInfo(self.node_info()));
        // A device is announced before its first account, and its last account before its end.
        let mut announces: Vec<Bytes> = messages.iter().chain(&info).map(Body::encode).collect();
        if leaves {
            announces.reverse();
        }
        Ok(DeviceOutcome { announces, goes_on: self.device.ends_wait(polls) })
    }

    /// Handles a member's message about the quorum device, other than its account.
    pub fn hear_device(&mut self, message: &Body) {
        let is_left = self
            .judgement
            .as_ref()
            .is_some_and(|judgement| judgement.devices.values().all(|device| !device.registered));
        match message {
            Body::Qdevice { registers, name } => self.device.hear(*registers, name, is_left),
            Body::QdeviceRenamed { old, new } => self.device.hear_renamed(old, new),
            _ => {}
        }
    }

    /// Returns what the members of the judged ring last said of their quorum devices. This node
    /// knows its own before the ring does.
    pub fn devices(&self) -> BTreeMap<NodeId, DeviceState> {
        let mut devices =
            self.judgement.as_ref().map(|judgement| judgement.devices.clone()).unwrap_or_default();
        devices.insert(self.me, self.device.state());
        devices
    }

    /// Handles the possible silence of this node's quorum device. `None` if nothing follows.
    pub fn handle_device_timeout(&mut self, now: Time) -> Option<DeviceOutcome> {
        if !self.device.expires(now) {
            return None;
        }
        let announces = vec![Body::NodeInfo(self.node_info()).encode()];
        Some(DeviceOutcome { announces, goes_on: self.device.ends_wait(false) })
    }

    /// Returns when [`Quorum::handle_device_timeout`] must be called.
    pub fn poll_device_timeout(&self) -> Option<Time> {
        self.device.poll_timeout()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(seq: u64) -> RingId {
        RingId { seq, representative: NodeId::new(1).unwrap() }
    }

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    fn name(name: &'static str) -> Bytes {
        Bytes::from_static(name.as_bytes())
    }

    fn device() -> Device {
        let mut device = Device::new(Some(DeviceConfig::default()));
        device.begin(at(0), ring(4));
        device
    }

    fn poll(who: &'static str, seq: u64, casts: bool) -> DeviceRequest {
        DeviceRequest::Poll { name: name(who), ring: ring(seq), casts }
    }

    fn flags(device: &Device) -> u32 {
        device.state().flags()
    }

    /// The walk through all calls that a real corosync 3.1.7 answered in the same way.
    #[test]
    fn a_device_walks_through_its_calls_as_with_corosync() {
        let mut device = device();
        let register = |who| DeviceRequest::Register { name: name(who) };
        let unregister = |who| DeviceRequest::Unregister { name: name(who) };
        let wins = |wins| DeviceRequest::MasterWins { name: name("A"), wins };
        let rename = |old, new| DeviceRequest::Rename { old: name(old), new: name(new) };
        for request in [poll("A", 4, true), wins(true), rename("A", "B"), unregister("A")] {
            assert_eq!(device.handle(at(1), request), Err(DeviceError::NotRegistered));
        }
        assert_eq!(device.handle(at(1), register("A")).map(|said| said.len()), Ok(1));
        assert_eq!(device.handle(at(1), register("A")), Ok(vec![]), "the same process or another");
        assert_eq!(device.handle(at(1), register("B")), Err(DeviceError::OtherName));
        assert_eq!(flags(&device), 0x10);
        assert_eq!(device.handle(at(1), poll("A", 9, true)), Err(DeviceError::OtherRing));
        assert_eq!(
            device.handle(at(1), poll("Z", 9, true)),
            Err(DeviceError::OtherRing),
            "the ring is first"
        );
        assert_eq!(device.handle(at(1), poll("Z", 4, true)), Err(DeviceError::WrongName));
        let mut steps = vec![];
        for request in [poll("A", 4, true), poll("A", 4, false), wins(true), poll("A", 4, true), wins(false)]
        {
            assert_eq!(device.handle(at(1), request), Ok(vec![]));
            steps.push(flags(&device));
        }
        assert_eq!(steps, [0x70, 0x30, 0xb0, 0xf0, 0x70]);
        assert_eq!(device.handle(at(1), rename("Z", "B")), Err(DeviceError::WrongName));
        assert_eq!(device.handle(at(1), rename("A", "B")).map(|said| said.len()), Ok(1));
        assert_eq!(device.handle(at(1), poll("A", 4, true)), Err(DeviceError::WrongName));
        assert_eq!(device.handle(at(1), poll("B", 4, true)), Ok(vec![]));
        assert_eq!(device.handle(at(1), unregister("A")), Err(DeviceError::WrongName));
        assert_eq!(device.handle(at(1), unregister("B")).map(|said| said.len()), Ok(1));
        assert_eq!(flags(&device), 0);
    }

    #[test]
    fn a_silent_device_dies_after_its_timeout() {
        let mut device = device();
        device.handle(at(0), DeviceRequest::Register { name: name("A") }).unwrap();
        assert_eq!(device.poll_timeout(), None, "it has not polled");
        device.handle(at(500), poll("A", 4, true)).unwrap();
        assert_eq!(device.poll_timeout(), Some(at(10_500)));
        assert!(!device.expires(at(10_499)));
        device.handle(at(10_000), poll("A", 4, true)).unwrap();
        assert!(!device.expires(at(10_500)), "a poll is a sign of life");
        assert!(device.expires(at(20_000)));
        assert_eq!(flags(&device), 0x10);
        device.handle(at(30_000), poll("A", 4, true)).unwrap();
        assert_eq!(flags(&device), 0x70, "the next poll brings it back");
    }

    #[test]
    fn the_votes_of_a_program_that_has_ended_do_not_count() {
        let mut device = device();
        assert_eq!(device.handle(at(0), DeviceRequest::Ended), Err(DeviceError::NotRegistered));
        device.handle(at(0), DeviceRequest::Register { name: name("A") }).unwrap();
        device.handle(at(0), poll("A", 4, true)).unwrap();
        device.begin(at(1), ring(8));
        assert_eq!(device.handle(at(2), DeviceRequest::Ended), Ok(vec![]));
        assert_eq!((flags(&device), device.poll_timeout()), (0x10, None));
        assert!(device.ends_wait(false));
        device.handle(at(3), poll("A", 8, true)).unwrap();
        assert_eq!(flags(&device), 0x70, "it has been started again");
    }

    #[test]
    fn a_ring_waits_for_a_living_device_only() {
        let mut device = device();
        device.handle(at(0), DeviceRequest::Register { name: name("A") }).unwrap();
        assert!(!device.begin(at(1), ring(8)), "it has not polled yet");
        device.handle(at(2), poll("A", 8, false)).unwrap();
        assert!(device.begin(at(3), ring(12)));
        assert_eq!(device.poll_timeout(), Some(at(30_003)), "the other timeout counts now");
        assert_eq!(device.awaited(), Some(Duration::from_secs(30)));
        assert!(!device.ends_wait(false));
        assert_eq!(device.handle(at(4), poll("A", 8, true)), Err(DeviceError::OtherRing));
        device.handle(at(5), poll("A", 12, false)).unwrap();
        assert!(device.ends_wait(true), "a poll without votes ends it, too");
        assert!(!device.ends_wait(true), "it ends once");
        assert!(device.begin(at(6), ring(16)));
        assert!(device.expires(at(30_006)) && device.ends_wait(false));
        assert!(!device.begin(at(30_007), ring(20)), "it is dead");
    }

    #[test]
    fn a_node_without_a_device_serves_none() {
        let mut device = Device::new(None);
        device.begin(at(0), ring(4));
        assert_eq!(
            device.handle(at(0), DeviceRequest::Register { name: name("A") }),
            Err(DeviceError::NoDevice)
        );
        assert_eq!(device.handle(at(0), poll("A", 4, true)), Err(DeviceError::NoDevice));
    }

    #[test]
    fn the_first_name_counts_until_no_member_has_a_device() {
        let mut device = device();
        device.hear(true, &name("A"), false);
        device.hear(true, &name("B"), false);
        assert_eq!(
            device.handle(at(0), DeviceRequest::Register { name: name("B") }),
            Err(DeviceError::OtherName)
        );
        device.hear_renamed(&name("A"), &name("C"));
        device.hear(false, &name("C"), false);
        assert_eq!(device.name, Some(name("C")), "another member still has one");
        device.hear(false, &name("C"), true);
        assert_eq!(device.name, None);
    }
}
