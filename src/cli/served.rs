//! What the daemon answers to those who ask over the control socket.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::fs::{Fs, Progress};
use crate::fuse::Connection;
use crate::keys::DEFAULT_KEY;
use crate::store::Access;

use super::control::{Answers, Request};
use super::exit::{Exit, Failure};
use super::maintain;
use super::mount::Plan;
use super::status::Status;
use super::vault::{self, Keys};

/// A mounted vault, as its daemon knows it.
pub struct Served {
    vault: PathBuf,
    mountpoint: PathBuf,
    fs: Arc<Fs>,
    keys: Keys,
    connection: Arc<Connection>,
}

impl Served {
    /// The vault of a plan, mounted.
    pub fn new(plan: &Plan, fs: Arc<Fs>, keys: Keys, connection: Arc<Connection>) -> Self {
        let (vault, mountpoint) = (plan.vault.clone(), plan.mountpoint.path.clone());
        Self { vault, mountpoint, fs, keys, connection }
    }

    fn status(&self) -> Status {
        let description = self.fs.vault().description();
        let context = self.fs.vault().context();
        let ring = context.ring().read();
        Status {
            mounted: true,
            pid: Some(std::process::id()),
            mountpoint: Some(self.mountpoint.to_string_lossy().into_owned()),
            read_only: self.fs.vault().access() == Access::ReadOnly,
            files_sealed: context.files_sealed(),
            bytes_sealed: context.bytes_sealed(),
            operations: self.connection.counters().snapshot(),
            ..Status::at_rest(&self.vault, &description).with_keys(&self.keys.path, &ring)
        }
    }

    fn rotate(&self) -> Result<Value, Failure> {
        let version = vault::rotate(&self.keys, &self.fs)?;
        log::info!("rotated the master key `{DEFAULT_KEY}` to version {version}");
        Ok(json!(version))
    }

    fn rewrap(&self, progress: &(dyn Fn(Progress) -> bool + Sync)) -> Result<Value, Failure> {
        if self.fs.vault().access() == Access::ReadOnly {
            let sentence = format!("the vault {} is mounted read-only", self.vault.display());
            return Err(Failure::new(Exit::Failed, sentence));
        }
        vault::reread(&self.keys, &self.fs)?;
        let summary = maintain::rewrap(&self.fs, &self.vault, progress)?;
        log::info!("rewrapped {} files, {} could not be", summary.rewrapped, summary.failed.len());
        Ok(json!(summary))
    }
}

impl Answers for Served {
    fn answer(
        &self,
        request: Request,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<Value, Failure> {
        match request {
            Request::Status => Ok(json!(self.status())),
            Request::Rotate => self.rotate(),
            Request::Rewrap => self.rewrap(progress),
            Request::Verify { path } => {
                Ok(json!(maintain::verify(&self.fs, &self.vault, &path, progress)?))
            }
        }
    }
}
