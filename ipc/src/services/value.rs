//! The typed values of the map.

use bytes::Bytes;

/// A value of the map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    pub(super) kind: u8,
    pub(super) bytes: Bytes,
}

/// The types of numbers, each with its size in bytes.
const NUMBERS: [(u8, usize); 10] =
    [(1, 1), (U8, 1), (3, 2), (U16, 2), (I32, 4), (U32, 4), (7, 8), (U64, 8), (9, 4), (10, 8)];
const U8: u8 = 2;
const U16: u8 = 4;
const I32: u8 = 5;
const U32: u8 = 6;
const U64: u8 = 8;
const TEXT: u8 = 11;
const BINARY: u8 = 12;

impl Value {
    /// Creates an unsigned 8-bit number.
    pub fn u8(value: u8) -> Self {
        Self { kind: U8, bytes: Bytes::copy_from_slice(&value.to_ne_bytes()) }
    }

    /// Creates an unsigned 16-bit number.
    pub fn u16(value: u16) -> Self {
        Self { kind: U16, bytes: Bytes::copy_from_slice(&value.to_ne_bytes()) }
    }

    /// Creates an unsigned 32-bit number.
    pub fn u32(value: u32) -> Self {
        Self { kind: U32, bytes: Bytes::copy_from_slice(&value.to_ne_bytes()) }
    }

    /// Creates an unsigned 64-bit number.
    pub fn u64(value: u64) -> Self {
        Self { kind: U64, bytes: Bytes::copy_from_slice(&value.to_ne_bytes()) }
    }

    /// Creates a signed 32-bit number.
    pub(super) fn i32(value: i32) -> Self {
        Self { kind: I32, bytes: Bytes::copy_from_slice(&value.to_ne_bytes()) }
    }

    /// Creates a text. C programs receive it with a NUL at its end.
    pub fn text(value: &str) -> Self {
        Self { kind: TEXT, bytes: [value.as_bytes(), b"\0"].concat().into() }
    }

    /// Creates a value that a client has sent, or returns `None` if the type is unknown or the
    /// length does not fit it. A text may come with or without a NUL, and ends at the first one.
    pub(super) fn of_client(kind: u8, bytes: Bytes) -> Option<Self> {
        if kind == TEXT {
            let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            return Some(Self { kind, bytes: [text, b"\0"].concat().into() });
        }
        let fits = match NUMBERS.iter().find(|(number, _)| *number == kind) {
            Some((_, size)) => bytes.len() == *size,
            None => kind == BINARY,
        };
        fits.then_some(Self { kind, bytes })
    }

    /// Returns the number, or `None` if this is not an unsigned 32-bit number.
    pub(super) fn as_u32(&self) -> Option<u32> {
        let bytes = self.bytes.as_ref().try_into().ok().filter(|_| self.kind == U32)?;
        Some(u32::from_ne_bytes(bytes))
    }

    /// Returns the text without its NUL, or `None` if this is not a text in UTF-8.
    pub(super) fn as_text(&self) -> Option<&str> {
        let text = self.bytes.strip_suffix(b"\0").filter(|_| self.kind == TEXT)?;
        std::str::from_utf8(text).ok()
    }

    /// Returns this integer plus `step`, or `None` if this is not an integer.
    pub(super) fn adjusted(&self, step: i32) -> Option<Self> {
        let is_integer = (1..=U64).contains(&self.kind);
        let mut wide = [0; 8];
        wide.get_mut(..self.bytes.len()).filter(|_| is_integer)?.copy_from_slice(&self.bytes);
        // Adding modulo 2^64 is right for all sizes and signs, since the rest is cut off.
        let sum = u64::from_ne_bytes(wide).wrapping_add_signed(i64::from(step)).to_ne_bytes();
        Some(Self { kind: self.kind, bytes: Bytes::copy_from_slice(&sum[..self.bytes.len()]) })
    }
}
