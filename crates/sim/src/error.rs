//! What can go wrong when a simulator is started or set.

use std::path::PathBuf;

/// Why a simulator could not be started, or a setting not be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address that was asked for.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the state directory could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the state directory does not hold what this simulator writes there.
    #[error("{}: {reason}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A key or a certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS configuration was refused.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A thread of the blind sink could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// A setting has an unknown name or a wrong value; the text names it.
    #[error("settings: {0}")]
    Settings(String),
    /// Making the keys was interrupted, because the runtime is stopping.
    #[error("the runtime stopped before the simulator had started")]
    Stopping,
}

/// The result of starting or setting a simulator.
pub type Result<T> = std::result::Result<T, Error>;
