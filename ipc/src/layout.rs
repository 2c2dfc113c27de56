//! The layout of requests, responses and events: C structs of the host's byte order, whose fields
//! are aligned to 8 bytes. Each reader and writer names the offset of a field.

use bytes::Bytes;

use crate::code::Code;

/// The size of a request's header: its id and its size.
const REQUEST: usize = 16;
/// The size of the header of a response or an event: its id, its size and a code.
pub(crate) const HEADER: usize = 24;
/// The longest name of a key in the map.
const MAX_KEY: usize = 255;
/// The longest name of a group.
const MAX_GROUP: usize = 128;

/// A request does not have the layout that its id requires.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the request is shorter than its kind requires, or than its own lengths claim")]
pub(crate) struct Malformed;

/// A request, whose header states its real size.
pub(crate) struct Request(Bytes);

impl Request {
    pub(crate) fn new(bytes: Bytes) -> Result<Self, Malformed> {
        let request = Self(bytes);
        let stated = usize::try_from(request.i32(8)?).map_err(|_| Malformed)?;
        (stated == request.0.len() && stated >= REQUEST).then_some(request).ok_or(Malformed)
    }

    pub(crate) fn id(&self) -> i32 {
        self.i32(0).unwrap_or(-1)
    }

    fn field<const N: usize>(&self, at: usize) -> Result<[u8; N], Malformed> {
        self.0.get(at..at + N).and_then(|field| field.try_into().ok()).ok_or(Malformed)
    }

    pub(crate) fn u8(&self, at: usize) -> Result<u8, Malformed> {
        self.field(at).map(u8::from_ne_bytes)
    }

    pub(crate) fn u16(&self, at: usize) -> Result<u16, Malformed> {
        self.field(at).map(u16::from_ne_bytes)
    }

    pub(crate) fn u32(&self, at: usize) -> Result<u32, Malformed> {
        self.field(at).map(u32::from_ne_bytes)
    }

    pub(crate) fn i32(&self, at: usize) -> Result<i32, Malformed> {
        self.field(at).map(i32::from_ne_bytes)
    }

    pub(crate) fn u64(&self, at: usize) -> Result<u64, Malformed> {
        self.field(at).map(u64::from_ne_bytes)
    }

    pub(crate) fn bytes(&self, at: usize, length: usize) -> Result<Bytes, Malformed> {
        let end = at.checked_add(length).ok_or(Malformed)?;
        (end <= self.0.len()).then(|| self.0.slice(at..end)).ok_or(Malformed)
    }

    /// Reads the name of a group (`mar_cpg_name_t`).
    pub(crate) fn group(&self, at: usize) -> Result<Bytes, Malformed> {
        let length = self.u32(at)? as usize;
        self.bytes(at + 8, MAX_GROUP)?;
        if length <= MAX_GROUP { self.bytes(at + 8, length) } else { Err(Malformed) }
    }

    /// Reads a key or a prefix of the map (`mar_name_t`). A key that is not UTF-8 does not exist.
    pub(crate) fn key(&self, at: usize) -> Result<String, Malformed> {
        let length = usize::from(self.u16(at)?);
        self.bytes(at + 8, MAX_KEY + 1)?;
        let key = if length <= MAX_KEY { self.bytes(at + 8, length)? } else { return Err(Malformed) };
        Ok(String::from_utf8_lossy(&key).into_owned())
    }
}

/// A response or an event that is being written. Other bytes are zero.
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Creates a message of this size with [`Code::Ok`].
    pub(crate) fn new(id: i32, size: usize) -> Self {
        let size = size.max(HEADER);
        let stated = i32::try_from(size).unwrap_or(i32::MAX);
        Self(vec![0; size]).i32(0, id).i32(8, stated).code(Code::Ok)
    }

    /// Creates a response that is only a header.
    pub(crate) fn status(id: i32, code: Code) -> Bytes {
        Self::new(id, HEADER).code(code).done()
    }

    pub(crate) fn code(self, code: Code) -> Self {
        self.i32(16, code as i32)
    }

    /// Writes bytes. Bytes beyond the message's size are cut off.
    pub(crate) fn bytes(mut self, at: usize, bytes: &[u8]) -> Self {
        if let Some(room) = self.0.get_mut(at..) {
            let length = bytes.len().min(room.len());
            room[..length].copy_from_slice(&bytes[..length]);
        }
        self
    }

    pub(crate) fn u8(self, at: usize, value: u8) -> Self {
        self.bytes(at, &[value])
    }

    pub(crate) fn u32(self, at: usize, value: u32) -> Self {
        self.bytes(at, &value.to_ne_bytes())
    }

    pub(crate) fn i32(self, at: usize, value: i32) -> Self {
        self.bytes(at, &value.to_ne_bytes())
    }

    pub(crate) fn u64(self, at: usize, value: u64) -> Self {
        self.bytes(at, &value.to_ne_bytes())
    }

    /// Writes an array of numbers.
    pub(crate) fn u32s(self, at: usize, values: impl IntoIterator<Item = u32>) -> Self {
        values.into_iter().enumerate().fold(self, |message, (n, value)| message.u32(at + 4 * n, value))
    }

    /// Writes the name of a group (`mar_cpg_name_t`).
    pub(crate) fn group(self, at: usize, name: &[u8]) -> Self {
        let name = &name[..name.len().min(MAX_GROUP)];
        self.u32(at, length(name)).bytes(at + 8, name)
    }

    /// Writes a key of the map (`mar_name_t`).
    pub(crate) fn key(self, at: usize, key: &str) -> Self {
        let key = &key.as_bytes()[..key.len().min(MAX_KEY)];
        self.bytes(at, &u16::try_from(key.len()).unwrap_or_default().to_ne_bytes()).bytes(at + 8, key)
    }

    pub(crate) fn done(self) -> Bytes {
        self.0.into()
    }
}

/// Returns a length as C programs store it. Lengths here are below 4 GiB.
pub(crate) fn length<T>(of: &[T]) -> u32 {
    u32::try_from(of.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(size: usize, stated: i32) -> Result<Request, Malformed> {
        let mut bytes = vec![0; size];
        if let Some(field) = bytes.get_mut(8..12) {
            field.copy_from_slice(&stated.to_ne_bytes());
        }
        Request::new(bytes.into())
    }

    #[test]
    fn a_request_whose_size_is_wrong_is_malformed() {
        for (size, stated) in [(0, 0), (8, 8), (15, 15), (16, 15), (16, 17), (24, -1), (24, 16)] {
            assert!(request(size, stated).is_err(), "{stated} of {size}");
        }
        assert!(request(16, 16).is_ok());
    }

    #[test]
    fn a_field_beyond_the_end_is_malformed() {
        let request = request(24, 24).unwrap();
        assert_eq!(request.u64(16), Ok(0));
        assert_eq!(request.u64(17), Err(Malformed));
        assert_eq!(request.bytes(24, 0).map(|bytes| bytes.len()), Ok(0));
        assert_eq!(request.bytes(16, usize::MAX), Err(Malformed));
        assert_eq!((request.group(16), request.key(16)), (Err(Malformed), Err(Malformed)));
    }

    #[test]
    fn names_are_no_longer_than_their_field() {
        let mut bytes = Message::new(0, 16 + 136).group(16, b"crmd\0").done().to_vec();
        let group = |bytes: &[u8]| Request::new(bytes.to_vec().into()).unwrap().group(16);
        assert_eq!(group(&bytes).as_deref(), Ok(&b"crmd\0"[..]));
        bytes[16..20].copy_from_slice(&129u32.to_ne_bytes());
        assert_eq!(group(&bytes), Err(Malformed));
    }

    #[test]
    fn a_message_states_its_size_and_cuts_what_is_too_long() {
        let message = Message::new(5, 28).code(Code::Busy).u32(24, 7).bytes(26, &[1; 9]).done();
        assert_eq!(message.len(), 28);
        assert_eq!(message[8..12], 28i32.to_ne_bytes());
        assert_eq!(message[16..20], 10i32.to_ne_bytes());
        assert_eq!(message[24..], [7, 0, 1, 1]);
    }
}
