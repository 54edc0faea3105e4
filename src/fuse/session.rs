//! A session: the kernel's end of a mount, and the threads that answer on it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuser::SessionACL;

use super::handshake::MAX_BACKGROUND;
use super::workers::cpu_pairing::CpuPairing;
use super::workers::pool::{PoolSettings, WorkerPool};
use super::{Adapter, Connection, Settings};
use crate::fs::Fs;

/// One for each background request of the kernel, and some for the others. Most stand by, and cost the
/// memory that they have touched of their buffers.
const THREADS: usize = MAX_BACKGROUND as usize + 4;

/// A session after its handshake. The kernel keeps requests waiting until [`Session::run`].
#[derive(Debug)]
pub struct Session {
    inner: fuser::Session<Adapter>,
    connection: Arc<Connection>,
}

impl Session {
    /// Makes the handshake on the FUSE device of a new mount. The session never unmounts it: its caller
    /// does.
    ///
    /// # Errors
    /// When the kernel's version of the protocol is not supported, or the mount is gone already.
    pub fn start(device: OwnedFd, fs: Arc<Fs>, settings: Settings) -> io::Result<Self> {
        let connection = Arc::new(Connection::default());
        let busy_poll = settings.busy_poll;
        let adapter = Adapter::new(fs, Arc::clone(&connection), settings);
        let in_memory = adapter.in_memory;
        let pool = PoolSettings { threads: THREADS, in_memory, busy_poll };
        let pool = WorkerPool::new(device.try_clone()?, pool, CpuPairing::detect());
        let mut config = fuser::Config::default();
        config.n_threads = Some(THREADS);
        // The kernel checks which users may enter, by allow_other and default_permissions.
        let inner = fuser::Session::from_fd(adapter, device, SessionACL::All, config)?;
        connection.attach(inner.notifier(), pool);
        Ok(Self { inner, connection })
    }

    /// The part of the session that the daemon keeps.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Answers until the mount is gone.
    ///
    /// # Errors
    /// When a thread can't be started, or the device fails.
    pub fn run(self) -> io::Result<()> {
        let ended = self.inner.run();
        // Work whose caller is gone has to end before the vault is closed.
        self.connection.drain();
        match ended {
            // A read of the device ends so when the mount goes during it. No program waits for that
            // request: the kernel sends its releases and forgets after the programs are gone.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
            ended => ended,
        }
    }
}
