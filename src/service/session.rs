//! A vault that no daemon has open: its requests are performed here, with its key file.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::fs::Fs;
use crate::keys::KeyRing;
use crate::keys::policy::Subject;
use crate::service::failure::{Context, Exit, Failure, vault_failure};
use crate::service::key_change::KeyChange;
use crate::service::keys::Keys;
use crate::service::mount_lock::MountLock;
use crate::service::request::{FileWork, PolicyChange, ProgressSink, Request, TrailRequest};
use crate::service::response::{Listed, Noted, Policies, Response, Wrapped};
use crate::service::trail_keeping::recorded;
use crate::service::trail_report;
use crate::service::vault::{self, Age};
use crate::store::Access;
use crate::sys::Show;

/// A vault and its open key file.
pub struct Session<'a> {
    vault: &'a Path,
    keys: Keys,
    /// From the first change of a key or a policy on, nobody mounts the vault.
    lock: OnceLock<MountLock>,
}

impl<'a> Session<'a> {
    /// A session of the vault in a directory.
    pub fn new(vault: &'a Path, keys: Keys) -> Self {
        Self { vault, keys, lock: OnceLock::new() }
    }

    /// Performs a request, and records it in the vault's trail.
    ///
    /// # Errors
    /// Those of the request; [`Exit::Busy`] where somebody else has the vault open;
    /// [`Exit::Trail`] where the trail can't be kept and fails closed: nothing was done then.
    pub fn perform(
        &self,
        request: &Request,
        progress: ProgressSink<'_>,
    ) -> Result<Response, Failure> {
        match request {
            Request::Keys => self.list(),
            Request::Policies => self.policies(),
            Request::Simulate { uid, gid, groups, path, operation } => {
                let fs = self.open(Access::ReadOnly)?;
                let subject = Subject::user(*uid, *gid, groups.clone());
                let verdict = fs.simulate(path, *operation, &subject);
                Ok(verdict.context(Exit::Failed, || path.shown().to_string())?.into())
            }
            Request::Change(change) => self.change(request, change),
            Request::Policy(change) => self.change_policy(request, change),
            Request::Work(FileWork::Count { name }) => {
                // Held over the change that the count is for.
                self.lock()?;
                Ok(Wrapped::count_at_rest(self.vault, &self.keys, name, progress)?.into())
            }
            Request::Work(work) => self.work(request, work, progress),
            Request::Note(..) => self.recorded(request, || Ok((Noted, self.ring()?))),
            Request::Verify { path } => {
                let fs = self.open(Access::ReadOnly)?;
                self.recorded(request, || {
                    let found = fs.verify(path, progress);
                    let found =
                        found.map_err(|error| vault_failure(&self.vault.join(path), error))?;
                    Ok((found, fs.vault().context().ring().clone()))
                })
            }
            Request::Trail(TrailRequest::Verify(head)) => {
                let ring = self.ring()?;
                trail_report::verify_at_rest(self.vault, &ring, None, head.as_deref())
                    .map(Into::into)
            }
            Request::Trail(TrailRequest::Acknowledge(reason)) => {
                recorded(self.vault, &self.keys, request, |trail| {
                    let ring = self.ring()?;
                    let report =
                        trail_report::acknowledge_at_rest(self.vault, &ring, trail, reason)?;
                    Ok((report.into(), ring))
                })
            }
            Request::Status
            | Request::KeyFile(_)
            | Request::Trail(
                TrailRequest::Flush | TrailRequest::Lines(_) | TrailRequest::WhoRead(_),
            ) => {
                let message = format!("the vault {} is not mounted", self.vault.shown());
                Err(Failure::new(Exit::Failed, message))
            }
        }
    }

    /// What the key file holds now.
    ///
    /// # Errors
    /// [`Exit::KeyFile`].
    pub fn ring(&self) -> Result<KeyRing, Failure> {
        Ok(self.keys.read()?.ring)
    }

    fn open(&self, access: Access) -> Result<Fs, Failure> {
        vault::open(self.vault, &self.keys, access, Age::default())
    }

    fn lock(&self) -> Result<(), Failure> {
        if self.lock.get().is_none() {
            let lock = MountLock::unused(self.vault)?;
            self.lock.get_or_init(|| lock);
        }
        Ok(())
    }

    fn recorded<T: Into<Response>>(
        &self,
        request: &Request,
        perform: impl FnOnce() -> Result<(T, KeyRing), Failure>,
    ) -> Result<Response, Failure> {
        recorded(self.vault, &self.keys, request, |_| perform()).map(Into::into)
    }

    fn list(&self) -> Result<Response, Failure> {
        let ring = self.ring()?;
        let key_file = self.keys.path.to_string_lossy().into_owned();
        Ok(Listed { vault_id: ring.vault_id(), key_file, keys: ring.describe() }.into())
    }

    fn policies(&self) -> Result<Response, Failure> {
        let owner = self.vault.metadata()?.uid();
        Ok(Policies::of(&self.ring()?, owner, |_| true).into())
    }

    fn change(&self, request: &Request, change: &KeyChange) -> Result<Response, Failure> {
        self.lock()?;
        self.recorded(request, || {
            let (key, file) = vault::change(&self.keys, change)?;
            vault::note_change(self.vault, &file.ring, file.mark());
            Ok((key, file.ring))
        })
    }

    fn change_policy(&self, request: &Request, change: &PolicyChange) -> Result<Response, Failure> {
        self.lock()?;
        let owner = vault::owner(self.vault, &self.keys)?;
        if change.dry_run {
            return Ok(change.apply(&mut self.ring()?, owner)?.into());
        }
        self.recorded(request, || {
            let (changed, file) = self.keys.edit(|file| change.apply(&mut file.ring, owner))?;
            vault::note_change(self.vault, &file.ring, file.mark());
            Ok((changed, file.ring))
        })
    }

    fn work(
        &self,
        request: &Request,
        work: &FileWork,
        progress: ProgressSink<'_>,
    ) -> Result<Response, Failure> {
        let fs = self.open(work.access())?;
        let done = recorded(self.vault, &self.keys, request, |trail| {
            trail.into_iter().for_each(|trail| fs.keep_trail(Arc::clone(trail)));
            vault::reread(&self.keys, &fs)?;
            // What the work does has lines of its own in the trail.
            let noted = fs.vault().note_served(false);
            noted.map_err(|error| vault_failure(self.vault, error))?;
            let done =
                work.perform(self.vault, &fs, (&self.keys, &Subject::this_process()), progress)?;
            Ok((done, fs.vault().context().ring().clone()))
        });
        fs.close().map_err(|error| vault_failure(self.vault, error))?;
        done
    }
}
