//! A member on tokio.

use std::path::Path;

use quorate_membership::driver::{self, Clock, Events, Node, SpawnError};
use quorate_membership::transport::Transport;
use quorate_membership::{Config, Store};
use tracing::warn;

use crate::{Dc, Event, Member};

/// Starts a member that takes part in the election: the record in `state_dir`, the boot-time clock, the system's
/// randomness. As [`quorate_membership::driver::spawn`], with statuses in the stream of events; and with the role of DC, for
/// those who act in it or want no more than the latest status, which is kept up to date whether or not the events are taken.
///
/// Logs what of the configuration works but not well ([`Config::warnings`]), such as that nobody says how many votes to expect.
///
/// Has to be called within a tokio runtime with time enabled. Events that are not taken slow the ring down; who does
/// not want them drops [`Events`], which leaves the node running as long as there is a [`Node`].
///
/// # Errors
/// If the configuration contradicts itself or the record cannot be used; the message says what to do.
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
