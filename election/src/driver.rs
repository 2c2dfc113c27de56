//! A member on tokio.

use std::path::Path;

use quorate_membership::driver::{self, Clock, Events, Node, SpawnError};
use quorate_membership::transport::Transport;
use quorate_membership::{Config, Store};
use tracing::warn;

use crate::{Dc, Event, Member};

/// Starts a member that takes part in the election, with its record in `state_dir`, the boot-time
/// clock and the system's randomness.
///
/// It works like [`quorate_membership::driver::spawn`], with statuses added to the stream of
/// events. It also returns the role of DC, for applications that act as DC or need only the latest
/// status. [`Dc`] stays up to date whether or not the events are taken.
///
/// Logs the parts of the configuration that work but not well ([`Config::warnings`]), for instance
/// a missing number of expected votes.
///
/// Must be called within a tokio runtime with time enabled. Events that are not taken slow the ring
/// down. An application that does not want them drops [`Events`], and the node keeps running while
/// a [`Node`] exists.
///
/// # Errors
/// If the configuration contradicts itself or the record cannot be used. The message says what to
/// do.
pub async fn spawn(
    mut config: Config,
    transport: impl Transport,
    state_dir: impl AsRef<Path>,
) -> Result<(Node, Events<Event>, Dc), SpawnError> {
    config.totem = config.totem.fitting(transport.receive_buffer());
    let (store, stored) = Store::open_beside(state_dir, config.node).await.map_err(SpawnError::Store)?;
    let entropy = driver::entropy().map_err(SpawnError::Entropy)?;
    let clock = Clock::boot_time();
    let member = Member::new(&config, stored, entropy, clock.now())?;
    let dc = member.dc(clock.clone());
    config.effective()?.warnings().iter().for_each(|warning| warn!("{warning}"));
    let (node, events) = driver::run(member, transport, store, clock);
    Ok((node.of_process(std::process::id()), events, dc))
}
