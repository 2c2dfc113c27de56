//! cmap: comparison of configuration versions.
//!
//! Service 0:
//!
//! | fn | message | size | off | field |
//! |---:|---------|-----:|----:|-------|
//! |  0 | version | 48.. |  16 | reason (1): 0 sync, 1 new version |
//! |    |         |      |  24 | number of items (1) |
//! |    |         |      |  48 | items: key length (2), @8 key\[256\], @264 value type (1) |
//! |    |         |      |     | @272 value length (8), @280 value, padded to 8 |

use bytes::Bytes;

use super::{header, id};
use crate::Refusal;
use crate::wire::order::{Reader, Writer, capped};

const SERVICE: u16 = 0;

pub(super) const VERSION: u32 = id(SERVICE, 0);

const KEY: usize = 256;
const ITEM: usize = 280;

/// A configuration's version, as cmap compares it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cmap {
    /// Whether it is sent because the version changed, rather than in a sync.
    pub changed: bool,
    /// The values, at most 255. Currently always one, `totem.config_version`.
    pub items: Vec<CmapItem>,
}

impl Cmap {
    pub(super) fn read(mut reader: Reader<'_>, body: &Bytes) -> Result<Self, Refusal> {
        let changed = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Refusal::Field),
        };
        reader.bytes(7)?;
        let count = usize::from(reader.u8()?);
        reader.bytes(23)?;
        let items = reader.list(count, |reader| CmapItem::read(reader, body))?;
        reader.exactly(0)?;
        Ok(Self { changed, items })
    }

    pub(super) fn write(&self) -> Bytes {
        let items = capped(&self.items, usize::from(u8::MAX));
        let size = items.iter().fold(48, |size: usize, item| size.saturating_add(item.size()));
        let mut writer = header(VERSION, size);
        writer.u8(u8::from(self.changed));
        writer.zeros(7);
        writer.u8(u8::try_from(items.len()).unwrap_or(u8::MAX));
        writer.zeros(23);
        for item in items {
            item.write(&mut writer);
        }
        writer.finish()
    }
}

/// A key of corosync's configuration map and its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CmapItem {
    /// The key, at most 256 bytes.
    pub key: Bytes,
    /// The type of the value. 0 is no value, and 8 is a `u64`.
    pub kind: u8,
    /// The value in the sender's byte order.
    pub value: Bytes,
}

impl CmapItem {
    /// Returns the size of the item in bytes, padding included.
    fn size(&self) -> usize {
        self.value.len().saturating_add(ITEM).next_multiple_of(8)
    }

    fn read(reader: &mut Reader<'_>, body: &Bytes) -> Result<Self, Refusal> {
        let key_length = usize::from(reader.u16()?);
        reader.bytes(6)?;
        let key = reader.bytes(KEY)?.get(..key_length).ok_or(Refusal::TooMany)?;
        let kind = reader.u8()?;
        reader.bytes(7)?;
        let length = usize::try_from(reader.u64()?).map_err(|_| Refusal::Truncated)?;
        let value = reader.bytes(length)?;
        reader.bytes(length.wrapping_neg() & 7)?;
        Ok(Self { key: body.slice_ref(key), kind, value: body.slice_ref(value) })
    }

    fn write(&self, writer: &mut Writer) {
        let end = writer.written().saturating_add(self.size());
        let key = capped(&self.key, KEY);
        writer.short_count(key.len());
        writer.zeros(6);
        writer.bytes(key);
        writer.zeros(KEY.saturating_sub(key.len()));
        writer.u8(self.kind);
        writer.zeros(7);
        writer.u64(u64::try_from(self.value.len()).unwrap_or(u64::MAX));
        writer.bytes(&self.value);
        writer.zeros(end.saturating_sub(writer.written()));
    }
}
