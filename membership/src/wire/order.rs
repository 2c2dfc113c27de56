//! Byte order: a bounds-checked reader and a writer for both orders.

use bytes::Bytes;

use crate::{NodeId, Refusal, RingId, Seq};

/// The byte order of a message, which is that of its sender's machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// The order in which this crate sends, and that of all common machines.
    Little,
    /// Accepted in received messages.
    Big,
}

/// The unread rest of a byte slice. Every method takes bytes from the front, or returns a refusal.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    order: Order,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], order: Order) -> Self {
        Self { rest: bytes, order }
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Takes `n` bytes.
    pub(super) fn bytes(&mut self, n: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Refusal::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Refusal::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Refusal> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Refusal> {
        let bytes = self.array()?;
        Ok(match self.order {
            Order::Little => u16::from_le_bytes(bytes),
            Order::Big => u16::from_be_bytes(bytes),
        })
    }

    pub(super) fn u32(&mut self) -> Result<u32, Refusal> {
        let bytes = self.array()?;
        Ok(match self.order {
            Order::Little => u32::from_le_bytes(bytes),
            Order::Big => u32::from_be_bytes(bytes),
        })
    }

    pub(super) fn u64(&mut self) -> Result<u64, Refusal> {
        let bytes = self.array()?;
        Ok(match self.order {
            Order::Little => u64::from_le_bytes(bytes),
            Order::Big => u64::from_be_bytes(bytes),
        })
    }

    pub(super) fn seq(&mut self) -> Result<Seq, Refusal> {
        self.u32().map(Seq::new)
    }

    /// Reads a node id where a node is required.
    pub(super) fn node(&mut self) -> Result<NodeId, Refusal> {
        NodeId::new(self.u32()?).ok_or(Refusal::NoNode)
    }

    /// Reads a ring id of 12 bytes: representative, sequence number.
    pub(super) fn ring(&mut self) -> Result<RingId, Refusal> {
        let representative = self.node()?;
        Ok(RingId { representative, seq: self.u64()? })
    }

    /// Reads a `u32` that is 0 or 1.
    pub(super) fn flag(&mut self) -> Result<bool, Refusal> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Refusal::Field),
        }
    }

    /// Reads the number of the entries that follow, a `u32`. It is signed in corosync, and a
    /// negative number is too many here.
    pub(super) fn count(&mut self, cap: usize) -> Result<usize, Refusal> {
        match usize::try_from(self.u32()?) {
            Ok(count) if count <= cap => Ok(count),
            _ => Err(Refusal::TooMany),
        }
    }

    /// Checks that exactly `n` bytes are left.
    pub(super) fn exactly(&self, n: usize) -> Result<(), Refusal> {
        match self.rest.len() {
            left if left < n => Err(Refusal::Truncated),
            left if left > n => Err(Refusal::TrailingBytes),
            _ => Ok(()),
        }
    }

    /// Reads `count` items with `item`. The caller has checked that `count` is within its limit.
    pub(super) fn list<T>(
        &mut self,
        count: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, Refusal>,
    ) -> Result<Vec<T>, Refusal> {
        // `collect` into a `Result` cannot preallocate.
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Returns the unread bytes as a slice of `whole`, the bytes that this reader was created from.
    pub(super) fn rest_of(self, whole: &Bytes) -> Bytes {
        whole.slice_ref(self.rest)
    }
}

/// A buffer for bytes being written. It is created with its final size, so that it is allocated
/// once.
pub(super) struct Writer {
    bytes: Vec<u8>,
    order: Order,
}

impl Writer {
    pub(super) fn new(capacity: usize, order: Order) -> Self {
        Self { bytes: Vec::with_capacity(capacity), order }
    }

    /// Creates a writer that appends to these bytes. [`Writer::into_vec`] returns the buffer.
    pub(super) fn behind(bytes: Vec<u8>, order: Order) -> Self {
        Self { bytes, order }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn zeros(&mut self, n: usize) {
        self.bytes.resize(self.bytes.len().saturating_add(n), 0);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes(&match self.order {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        });
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&match self.order {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        });
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(&match self.order {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        });
    }

    pub(super) fn seq(&mut self, seq: Seq) {
        self.u32(seq.get());
    }

    pub(super) fn node(&mut self, node: NodeId) {
        self.u32(node.get());
    }

    pub(super) fn ring(&mut self, ring: RingId) {
        self.node(ring.representative);
        self.u64(ring.seq);
    }

    /// Writes a number of entries. Lists are [`capped`] before they are counted, so it always fits.
    pub(super) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Writes a number like [`Writer::count`], for the two-byte counts and lengths of the packing
    /// layer.
    pub(super) fn short_count(&mut self, count: usize) {
        self.u16(u16::try_from(count).unwrap_or(u16::MAX));
    }

    pub(super) fn written(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn finish(self) -> Bytes {
        self.bytes.into()
    }

    pub(super) fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}

/// Returns at most `cap` items. Peers reject longer lists, and corosync 3.1.7 overruns its stack.
pub(super) fn capped<T>(list: &[T], cap: usize) -> &[T] {
    list.get(..cap).unwrap_or(list)
}
