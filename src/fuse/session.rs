//! A session: the kernel's end of a mount, and the threads that answer on it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuser::SessionACL;

use super::handshake::MAX_BACKGROUND;
use super::workers::cpu_pairing::Sharing;
use super::workers::pool::Lookout;
use super::{Adapter, Connection, Settings};
use crate::fs::Fs;

/// As many as the kernel may have requests under way that nobody waits for, and some for the others.
/// Most stand by; what one of them costs is what it has touched of its buffer.
const THREADS: usize = MAX_BACKGROUND as usize + 4;

/// A session after its handshake. The kernel keeps requests waiting until [`Session::run`].
#[derive(Debug)]
pub struct Session {
    inner: fuser::Session<Adapter>,
    connection: Arc<Connection>,
}

impl Session {
    /// Shakes hands on the FUSE device of a mount that was made a moment ago. Whoever made it
    /// also unmounts it: the session never does.
    ///
    /// # Errors
    /// When the kernel does not speak a protocol that is known, or the mount is gone already.
    pub fn start(device: OwnedFd, fs: Arc<Fs>, settings: Settings) -> io::Result<Self> {
        let connection = Arc::new(Connection::default());
        let spin = settings.spin;
        let adapter = Adapter::new(fs, Arc::clone(&connection), settings);
        let device_too = device.try_clone()?;
        let lookout = Lookout::new(device_too, THREADS, adapter.in_memory, spin, Sharing::here());
        let mut config = fuser::Config::default();
        config.n_threads = Some(THREADS);
        // Who may enter is for the kernel to say, by allow_other and default_permissions.
        let inner = fuser::Session::from_fd(adapter, device, SessionACL::All, config)?;
        connection.attach(inner.notifier(), lookout);
        Ok(Self { inner, connection })
    }

    /// What is known of the session from outside.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Answers until the mount is gone.
    ///
    /// # Errors
    /// When a thread can't be started, or the device fails.
    pub fn run(self) -> io::Result<()> {
        let ended = self.inner.run();
        // Work that nobody waits for any more is to end before the vault does.
        self.connection.drain();
        match ended {
            // What a thread reads that was taking a request when the mount went: one that nobody
            // waits for, as the kernel closes and forgets after the program.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
            ended => ended,
        }
    }
}
