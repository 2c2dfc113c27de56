//! Sync: the members of a new ring agree on their services, and wait for each other.
//!
//! Group `sync`, where the id identifies the message:
//!
//! | id | message       | size | off | field |
//! |---:|---------------|-----:|----:|-------|
//! |  0 | barrier       |   32 |  16 | ring id (12) |
//! |  1 | service build |  552 |  16 | ring id (12) |
//! |    |               |      |  32 | number of services, at most 128 |
//! |    |               |      |  40 | 128 service ids, unused ones 0 |

use bytes::Bytes;

use super::{Body, fill, header, padded_count};
use crate::wire::order::{Reader, capped};
use crate::{Refusal, RingId};

pub(super) const BARRIER: u32 = 0;
pub(super) const SERVICE_BUILD: u32 = 1;

const MAX_SERVICES: usize = 128;

pub(super) fn read_barrier(mut reader: Reader<'_>) -> Result<Body, Refusal> {
    let ring = reader.ring()?;
    reader.exactly(4)?;
    Ok(Body::Barrier { ring })
}

pub(super) fn write_barrier(ring: RingId) -> Bytes {
    let mut writer = header(BARRIER, 32);
    writer.ring(ring);
    fill(writer, 32)
}

pub(super) fn read_service_build(mut reader: Reader<'_>) -> Result<Body, Refusal> {
    let ring = reader.ring()?;
    reader.bytes(4)?;
    let count = reader.count(MAX_SERVICES)?;
    reader.bytes(4)?;
    reader.exactly(MAX_SERVICES.saturating_mul(4))?;
    Ok(Body::ServiceBuild { ring, services: reader.list(count, Reader::u32)? })
}

pub(super) fn write_service_build(ring: RingId, services: &[u32]) -> Bytes {
    let services = capped(services, MAX_SERVICES);
    let mut writer = header(SERVICE_BUILD, 552);
    writer.ring(ring);
    writer.zeros(4);
    padded_count(&mut writer, services.len());
    for service in services {
        writer.u32(*service);
    }
    fill(writer, 552)
}
