//! Mounts without a vault: keys and a record of epochs, from which each mount has its context.

use std::sync::Arc;

use atrest::format::VaultId;
use atrest::keys::KeyRing;
use atrest::store::{Context, EpochRecord};

/// A vault's keys and mounts so far, the running one included.
#[derive(Clone)]
pub struct Mounts {
    ring: KeyRing,
    record: EpochRecord,
}

impl Mounts {
    /// The first mount of a new vault.
    pub fn first() -> Self {
        let ring = KeyRing::create(VaultId::random());
        Self { ring, record: EpochRecord::default().begin() }
    }

    /// What the running mount's files share.
    pub fn context(&self) -> Arc<Context> {
        Arc::new(Context::new(self.ring.clone(), self.record.clone()))
    }

    /// The running mount ends cleanly and another begins.
    pub fn after_clean_end(&self) -> Self {
        Self { record: self.record.end().begin(), ..self.clone() }
    }

    /// The running mount has recovered all files and ends cleanly, and another begins.
    pub fn after_recovery(&self) -> Self {
        Self { record: self.record.end().recovered().begin(), ..self.clone() }
    }

    /// The running mount dies and another begins.
    pub fn after_crash(&self) -> Self {
        Self { record: self.record.clone().begin(), ..self.clone() }
    }

    /// The running mount dies, and somebody mounts the vault for reading alone.
    pub fn looked_at(&self) -> Self {
        Self { record: self.record.clone().observe(), ..self.clone() }
    }

    /// Takes over the keys of a running mount, which have been rotated.
    pub fn learn(&mut self, context: &Context) {
        self.ring = context.ring().clone();
    }
}
