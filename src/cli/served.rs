//! What the daemon does when asked over the control socket, or when it is time.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fs::{Fs, Progress};
use crate::fuse::Connection;
use crate::keys::Timestamp;
use crate::store::Access;

use super::control::{Answers, Request};
use super::exit::{Exit, Failure};
use super::key::{FileWork, KeyChange};
use super::mount::Plan;
use super::spin::Spin;
use super::status::Status;
use super::vault::{self, Keys};

/// How often the daemon looks whether a key is due, and whether the machine is on battery.
const RHYTHM: Duration = Duration::from_secs(10);

/// A mounted vault, as its daemon knows it.
pub struct Served {
    vault: PathBuf,
    mountpoint: PathBuf,
    fs: Arc<Fs>,
    keys: Keys,
    connection: Arc<Connection>,
    spin: Spin,
}

impl Served {
    /// The vault of a plan, mounted.
    pub fn new(plan: &Plan, fs: Arc<Fs>, keys: Keys, connection: Arc<Connection>) -> Self {
        let (vault, mountpoint) = (plan.vault.clone(), plan.mountpoint.path.clone());
        let spin = plan.options.spin;
        Self { vault, mountpoint, fs, keys, connection, spin }
    }

    /// Rotates the keys whose time has come, and destroys those, now and as long as the process
    /// lives.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub fn keep_schedule(self: &Arc<Self>) -> std::io::Result<()> {
        let mut told = self.catch_up(String::new());
        let served = Arc::clone(self);
        let watch = move || {
            loop {
                thread::sleep(RHYTHM);
                served.connection.spin_for(served.spin.now());
                told = served.catch_up(std::mem::take(&mut told));
            }
        };
        thread::Builder::new().name("schedule".to_owned()).spawn(watch).map(drop)
    }

    /// Does what is due. What failed is logged once, not at every look: returns it.
    fn catch_up(&self, told: String) -> String {
        let now = Timestamp::now();
        let context = self.fs.vault().context();
        let is_due = |now| {
            let ring = context.ring();
            !ring.rotation_due(now).is_empty() || !ring.deletion_due(now).is_empty()
        };
        if !is_due(now) {
            return String::new();
        }
        let done = vault::update(&self.keys, &self.fs, |ring| {
            let due: Vec<_> =
                ring.rotation_due(now).iter().map(|key| key.name().to_owned()).collect();
            for name in &due {
                ring.rotate(name)?;
            }
            Ok((due, ring.destroy_due(now)))
        });
        match done {
            Ok((rotated, destroyed)) => {
                rotated
                    .iter()
                    .for_each(|name| log::info!("rotated the master key `{name}`: it was due"));
                destroyed.iter().for_each(|name| {
                    log::warn!("destroyed the master key `{name}`: its time was up")
                });
                String::new()
            }
            Err(failure) => {
                if failure.sentence != told {
                    log::error!("a master key is due and could not be changed: {failure}");
                }
                failure.sentence
            }
        }
    }

    fn status(&self) -> Status {
        let description = self.fs.vault().description();
        let context = self.fs.vault().context();
        let ring = context.ring();
        Status {
            mounted: true,
            pid: Some(std::process::id()),
            mountpoint: Some(self.mountpoint.to_string_lossy().into_owned()),
            read_only: self.fs.vault().access() == Access::ReadOnly,
            files_sealed: context.files_sealed(),
            bytes_sealed: context.bytes_sealed(),
            spin_us: self.connection.spins_for().as_micros() as u64,
            operations: self.connection.counters().snapshot(),
            ..Status::at_rest(&self.vault, &description).with_keys(&self.keys.path, &ring)
        }
    }

    /// Changes a master key. Where files can't be read any more afterwards, the kernel first
    /// writes back what it has of them, and then gives up what it keeps.
    fn change(&self, change: &KeyChange) -> Result<Value, Failure> {
        let drop_cached = || {
            if change.takes_away() {
                self.connection.drop_cached(&self.fs.known_files());
            }
        };
        drop_cached();
        let (key, ring) = vault::change(&self.keys, change)?;
        self.fs.vault().context().replace_ring(ring);
        drop_cached();
        if !change.dry_run {
            log::info!("{}", change.done(&key));
        }
        Ok(json!(key))
    }

    fn work(
        &self,
        work: &FileWork,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<Value, Failure> {
        if work.access() > self.fs.vault().access() {
            let sentence = format!("the vault {} is mounted read-only", self.vault.display());
            return Err(Failure::new(Exit::Failed, sentence));
        }
        vault::reread(&self.keys, &self.fs)?;
        let outcome = json!(work.perform(&self.vault, &self.fs, &self.keys, progress)?);
        log::info!("{} ended: {outcome}", work.name());
        Ok(outcome)
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
            Request::Change(change) => self.change(&change),
            Request::Work(work) => self.work(&work, progress),
            Request::Verify { path } => {
                let found = self.fs.verify(&path, progress);
                Ok(json!(found.map_err(|error| vault::failure(&self.vault.join(path), error))?))
            }
        }
    }
}
