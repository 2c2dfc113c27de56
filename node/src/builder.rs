//! Starting a node.

use std::fmt;
use std::io;
use std::path::PathBuf;

use quorate_membership::{Config, ConfigError, Metadata};
use rustix::rand::GetRandomFlags;
use tracing::warn;

use crate::transport::{BindError, Path, PathError, Sockets, Udp};
use crate::{Clock, Dc, DcMember, Events, Node, Store, driver};

/// A node that has not been started. [`Node::builder`] makes one.
///
/// ```no_run
/// # async fn start(config: quorate::Config) -> Result<(), quorate::StartError> {
/// use quorate::Node;
///
/// let (node, events, dc) = Node::builder(config).state_dir("/var/lib/my-service").start().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a node runs once it is started"]
pub struct Builder {
    config: Config,
    state_dir: Option<PathBuf>,
}

/// The reason why a node did not start. The message says what to do.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node's address or port cannot be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The addresses of the nodes cannot be used.
    #[error(transparent)]
    Path(#[from] PathError),
    /// No directory was named for the record.
    #[error("no directory for the node's record; name one that survives restarts, with state_dir")]
    NoStateDir,
    /// The stored record cannot be used.
    #[error(transparent)]
    Store(io::Error),
    /// The system returned no randomness.
    #[error("cannot get random numbers from the system: {0}")]
    Entropy(io::Error),
}

/// As [`Display`](fmt::Display), because `main` and `unwrap` print this.
impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Node {
    /// Prepares a node with this configuration.
    pub fn builder(config: Config) -> Builder {
        Builder { config, state_dir: None }
    }
}

impl Builder {
    /// Keeps the node's record in this directory, which is made if it is missing. It must survive
    /// restarts of the process and of the host. If the record is lost, so is what the node has
    /// promised: it then counts for no quorum until it has met a majority that kept its records.
    pub fn state_dir(self, directory: impl Into<PathBuf>) -> Self {
        Self { state_dir: Some(directory.into()), ..self }
    }

    /// Sets what this node tells the others about itself from the start, such as the address of its
    /// service. [`Node::set_metadata`] changes it.
    ///
    /// Each [`Status`](crate::Status) has what the members tell. A service finds the address of the
    /// DC there:
    /// ```
    /// use quorate::{Builder, Config, Dc, Metadata, MetadataError, Node};
    ///
    /// fn prepare(config: Config) -> Result<Builder, MetadataError> {
    ///     let metadata = Metadata::new().with("http", "10.0.0.1:8080")?;
    ///     Ok(Node::builder(config).metadata(metadata))
    /// }
    ///
    /// fn address_of_dc(dc: &Dc) -> Option<String> {
    ///     let status = dc.status();
    ///     let dc = status.term?.node; // only a DC with a term may act
    ///     let node = status.nodes.iter().find(|node| node.id == dc)?;
    ///     node.metadata.get("http").map(str::to_owned)
    /// }
    /// ```
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.config.metadata = metadata;
        self
    }

    /// Starts the node over the transport that its configuration names. Returns the handle to send
    /// with, the stream of events, and the role of DC, for an application that acts as DC or needs
    /// only the latest status.
    ///
    /// Logs the parts of the configuration that work but not well ([`Config::warnings`]), for
    /// instance a missing number of expected votes.
    ///
    /// Must be called within a tokio runtime with time and IO enabled. Events that are not taken
    /// slow the ring down. An application that does not want them drops [`Events`], and the node
    /// keeps running while a [`Node`] exists. [`Dc`] stays up to date whether or not the events are
    /// taken.
    ///
    /// # Errors
    /// If the configuration contradicts itself, or if the address or the record cannot be used.
    pub async fn start(self) -> Result<(Node, Events, Dc), StartError> {
        let (sockets, path) = Udp::bind(&self.config)?;
        self.run(path, sockets).await
    }

    /// Starts the node as [`start`](Self::start) does, over sockets of the caller's.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_over(self, sockets: impl Sockets) -> Result<(Node, Events, Dc), StartError> {
        let path = Path::new(&self.config, sockets.home())?;
        self.run(path, sockets).await
    }

    async fn run(self, path: Path, sockets: impl Sockets) -> Result<(Node, Events, Dc), StartError> {
        let Self { mut config, state_dir } = self;
        config.totem = config.totem.fitting(sockets.receive_buffer());
        let state_dir = state_dir.ok_or(StartError::NoStateDir)?;
        let (store, stored) = Store::open_beside(state_dir, config.node).await.map_err(StartError::Store)?;
        let entropy = entropy().map_err(StartError::Entropy)?;
        let clock = Clock::boot_time();
        let member = DcMember::new(&config, stored, entropy, clock.now())?;
        config.effective()?.warnings().iter().for_each(|warning| warn!("{warning}"));
        let dc = member.dc(clock.clone());
        let (node, events) = driver::run(member, path, sockets, store, clock);
        Ok((node.of_process(std::process::id()), events, dc))
    }
}

/// Returns randomness from the system.
pub(crate) fn entropy() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    // Requests of up to 256 bytes are filled completely once the system's pool is initialized.
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;

    #[tokio::test]
    async fn an_error_of_main_says_what_to_do() {
        let mut config = Config::new(NodeId::new(1).unwrap());
        // An address for documentation, which no host has.
        config.network.bind = Some([192, 0, 2, 1].into());
        let Err(error) = Node::builder(config).start().await else {
            panic!("it started");
        };
        let printed = format!("{:?}", Box::<dyn std::error::Error>::from(error));
        assert!(printed.starts_with("192.0.2.1 is not a loopback address; "), "{printed}");
    }
}
