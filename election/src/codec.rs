//! Encoding of our own messages: bincode 2, little-endian, fixed-size integers.
//!
//! No other module uses bincode. Decoding checks the type's size limit before anything is
//! allocated, and rejects trailing bytes. The limit covers neither recursive types nor lists of
//! items that take no bytes, so messages must not contain them.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{Decode, Encode};
use bytes::Bytes;

/// The reason why a message from a peer is rejected.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message is longer than its kind allows.
    #[error("longer than {max} bytes")]
    TooLong {
        /// The limit for messages of its kind.
        max: usize,
    },
    /// The bytes are not a message of this kind.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Bytes follow the end of the message.
    #[error("{0} trailing bytes")]
    TrailingBytes(usize),
    /// The message makes a claim that cannot be true.
    #[error("impossible: {0}")]
    Impossible(&'static str),
}

fn layout<const MAX: usize>() -> Configuration<LittleEndian, Fixint, Limit<MAX>> {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<MAX>()
}

/// Encodes a message.
pub(crate) fn encode(message: &impl Encode) -> Bytes {
    let layout = bincode::config::standard().with_fixed_int_encoding();
    // Encoding to memory fails only for types that bincode cannot express, and ours are plain.
    bincode::encode_to_vec(message, layout).expect("a plain message").into()
}

/// Decodes a message of at most `MAX` bytes.
pub(crate) fn decode<T: Decode<()>, const MAX: usize>(bytes: &[u8]) -> Result<T, DecodeError> {
    match decode_part::<T, MAX>(bytes)? {
        (message, 0) => Ok(message),
        (_, left_over) => Err(DecodeError::TrailingBytes(left_over)),
    }
}

/// Decodes the message at the start of at most `MAX` bytes. Other bytes may follow it.
pub(crate) fn decode_start<T: Decode<()>, const MAX: usize>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode_part::<T, MAX>(bytes).map(|(message, _)| message)
}

/// Returns the message at the start of `bytes`, and the number of bytes that follow it.
fn decode_part<T: Decode<()>, const MAX: usize>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    if bytes.len() > MAX {
        return Err(DecodeError::TooLong { max: MAX });
    }
    let (message, length) = bincode::decode_from_slice(bytes, layout::<MAX>())
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    Ok((message, bytes.len() - length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_count_is_refused_before_anything_is_allocated() {
        for count in [u64::MAX, 1 << 32, 9] {
            let refused = decode::<Vec<u8>, 16>(&count.to_le_bytes());
            assert!(matches!(refused, Err(DecodeError::Malformed(_))), "{count}: {refused:?}");
        }
    }

    #[test]
    fn input_of_the_wrong_length_is_rejected() {
        assert_eq!(decode::<u32, 4>(&[1, 0, 0, 0]), Ok(1));
        assert_eq!(decode::<u32, 8>(&[1, 0, 0, 0, 0]), Err(DecodeError::TrailingBytes(1)));
        assert_eq!(decode::<u32, 4>(&[1, 0, 0, 0, 0]), Err(DecodeError::TooLong { max: 4 }));
        assert!(matches!(decode::<u32, 4>(&[1, 0, 0]), Err(DecodeError::Malformed(_))));
    }
}
