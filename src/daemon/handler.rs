//! What the daemon answers over the control socket.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use crate::control::{Peer, RequestHandler};
use crate::daemon::plan::Plan;
use crate::daemon::trail_readers::Readers;
use crate::daemon::trail_requests::answer_about_trail;
use crate::fs::{Fs, Progress};
use crate::fuse::BusyPoll;
use crate::fuse::Connection;
use crate::keys::policy::{Action, Subject};
use crate::keys::{KeyFileMark, MasterKey, Timestamp};
use crate::service::failure::{Context, Exit, Failure, vault_failure};
use crate::service::key_change::KeyChange;
use crate::service::keys::Keys;
use crate::service::request::{FileWork, PolicyChange, Request, TrailRequest};
use crate::service::response::{Listed, Noted, Policies, Response};
use crate::service::status::{FreshnessStatus, Status};
use crate::service::trail_events::{event, keep_events, leaves_trail};
use crate::service::vault;
use crate::store::{Access, VaultError};
use crate::sys::{self, Show};

/// A mounted vault, as its daemon knows it.
pub struct DaemonService {
    vault: PathBuf,
    mountpoint: PathBuf,
    pub(super) fs: Arc<Fs>,
    pub(super) keys: Keys,
    pub(super) connection: Arc<Connection>,
    pub(super) spin: BusyPoll,
    trail_readers: Readers,
    /// Why no trail is kept, where none is.
    no_trail: &'static str,
}

impl DaemonService {
    /// The vault of a plan, mounted.
    pub fn new(plan: &Plan, fs: Arc<Fs>, keys: Keys, connection: Arc<Connection>) -> Self {
        let (vault, mountpoint) = (plan.vault.clone(), plan.mountpoint.path.clone());
        let spin = plan.options.spin;
        let trail_readers = Readers::default();
        let no_trail = if plan.options.trail.off { "--no-trail" } else { "could not be kept" };
        Self { vault, mountpoint, fs, keys, connection, spin, trail_readers, no_trail }
    }

    /// Has the kernel write back what it keeps of the mount, and the vault's filesystem make it durable.
    ///
    /// # Errors
    /// Those of syncfs(2).
    pub fn write_back(&self) -> Result<(), VaultError> {
        self.connection.drop_cached(&self.fs.known_files());
        self.fs.vault().sync()
    }

    /// Writes what there is of the trail, and ends it.
    pub fn end_trail(&self) {
        if let Some(kept) = self.fs.trail() {
            kept.end();
        }
    }

    /// Where the vault lies by now.
    fn vault(&self) -> PathBuf {
        sys::path_of(self.fs.vault()).unwrap_or_else(|| self.vault.clone())
    }

    fn status(&self) -> Status {
        let description = self.fs.vault().description();
        let context = self.fs.vault().context();
        // Before the ring: a change of the keys holds what is known of the vault's age while it waits for
        // the ring.
        let freshness = FreshnessStatus {
            found: self.fs.vault().freshness().map(|found| found.word().to_owned()),
            record: self.fs.vault().record_path().map(|path| path.to_string_lossy().into_owned()),
            failing: self.fs.vault().record_failing(),
        };
        let ring = context.ring();
        Status {
            mounted: true,
            freshness,
            pid: Some(std::process::id()),
            mountpoint: Some(self.mountpoint.to_string_lossy().into_owned()),
            read_only: self.fs.vault().access() == Access::ReadOnly,
            files_sealed: context.files_sealed(),
            bytes_sealed: context.bytes_sealed(),
            spin_us: self.connection.busy_poll().as_micros() as u64,
            confinement: Some(sys::confinement()),
            trail: self.fs.trail().map(|trail| trail.status()),
            no_trail: self.fs.trail().is_none().then(|| self.no_trail.to_owned()),
            operations: self.connection.counters().snapshot(),
            ..Status::at_rest(&self.vault(), &description).with_keys(&self.keys.path, &ring)
        }
    }

    /// Changes a master key. Where files can't be read any more afterwards, the kernel first
    /// writes back what it has of them, and then gives up what it keeps.
    fn change(&self, change: &KeyChange) -> Result<Response, Failure> {
        let drop_cached = || {
            if change.takes_away() {
                self.connection.drop_cached(&self.fs.known_files());
            }
        };
        drop_cached();
        let (key, file) = vault::change(&self.keys, change)?;
        if !change.dry_run {
            vault::adopt(&self.fs, file);
        }
        drop_cached();
        if !change.dry_run {
            log::info!("{}", change.done(&key));
        }
        Ok(key.into())
    }

    /// Changes a policy. A strict mount has the kernel give up what it keeps, where somebody may
    /// use the key no longer.
    fn change_policy(&self, change: &PolicyChange) -> Result<Response, Failure> {
        let drop_cached = || {
            if change.takes_away() && self.fs.is_strict() {
                self.connection.drop_cached(&self.fs.known_files());
            }
        };
        let owner = self.fs.vault_owner();
        let changed = if change.dry_run {
            change.apply(&mut self.fs.vault().context().ring().clone(), owner)?
        } else {
            drop_cached();
            vault::update(&self.keys, &self.fs, |ring| change.apply(ring, owner))?
        };
        drop_cached();
        if !change.dry_run {
            log::info!("{}", change.done(&changed.key));
        }
        Ok(changed.into())
    }

    /// Takes note of what a client has made of the key file. It is believed of those who could write
    /// the file anyway.
    fn note_key_file(&self, mark: &KeyFileMark, peer: &Peer) -> Result<Response, Failure> {
        if peer.subject.uid != 0 && peer.subject.uid != rustix::process::geteuid().as_raw() {
            let message = "only root and the daemon's user can have changed the key file";
            return Err(Failure::new(Exit::Policy, message));
        }
        self.keys.expect(mark);
        if let Err(failure) = vault::reread(&self.keys, &self.fs) {
            // As where the protector is gone that the mount began with.
            log::info!("the key file was changed, and can't be read here any more: {failure}");
        }
        self.fs.vault().note_key_file(mark);
        Ok(Noted.into())
    }

    /// Whether the policy of `key` lets `peer`.
    fn lets(&self, peer: &Peer, action: Action, key: &MasterKey) -> bool {
        let ownership = self.fs.ownership(peer.subject.uid);
        key.policy().decide(&peer.subject, ownership, action, &[], Timestamp::now()).allowed
    }

    /// Whether the policies let `peer` ask for that.
    fn admit(&self, peer: &Peer, request: &Request) -> Result<(), Failure> {
        let ring = self.fs.vault().context().ring();
        let (action, keys): (_, Vec<&MasterKey>) = match request {
            // Each key by itself.
            Request::Keys | Request::Policies => return Ok(()),
            Request::Status | Request::Note(..) | Request::KeyFile(_) => {
                (Action::Describe, vec![ring.default_key()])
            }
            Request::Simulate { .. } => (Action::Describe, ring.keys().collect()),
            Request::Change(change) => match change.policy_action() {
                Action::Create => (Action::Create, vec![ring.default_key()]),
                action => (action, vec![ring.key(&change.name)?]),
            },
            Request::Policy(change) => (Action::PutPolicy, vec![ring.key(&change.name)?]),
            Request::Work(FileWork::Rewrap { .. }) => (Action::Rewrap, ring.keys().collect()),
            Request::Work(FileWork::Retire { name, .. }) => (Action::Retire, vec![ring.key(name)?]),
            Request::Work(FileWork::Assign { name, .. }) => (Action::Assign, vec![ring.key(name)?]),
            Request::Work(FileWork::Count { name }) => {
                (Action::ScheduleDeletion, vec![ring.key(name)?])
            }
            // It hides findings from later readers.
            Request::Trail(TrailRequest::Acknowledge(_)) => {
                (Action::PutPolicy, vec![ring.default_key()])
            }
            Request::Trail(_) => (Action::ReadTrail, vec![ring.default_key()]),
            // It opens every block.
            Request::Verify { .. } => (Action::Decrypt, ring.keys().collect()),
        };
        match keys.into_iter().find(|key| !self.lets(peer, action, key)) {
            None => Ok(()),
            Some(key) => {
                log::info!("user {} may not {action} with `{}`", peer.subject.uid, key.name());
                Err(refusal(action, key.name()))
            }
        }
    }

    /// The keys that `peer` may see.
    fn listed(&self, peer: &Peer) -> Result<Listed, Failure> {
        let ring = self.fs.vault().context().ring();
        let mut keys = ring.describe();
        keys.retain(|described| {
            ring.key_by_id(&described.id).is_ok_and(|key| self.lets(peer, Action::Describe, key))
        });
        if keys.is_empty() {
            return Err(refusal(Action::Describe, ring.default_key().name()));
        }
        let key_file = self.keys.path.to_string_lossy().into_owned();
        Ok(Listed { vault_id: ring.vault_id(), key_file, keys })
    }

    fn policies(&self, peer: &Peer) -> Result<Policies, Failure> {
        let ring = self.fs.vault().context().ring();
        let may_see = |key: &MasterKey| self.lets(peer, Action::Describe, key);
        let policies = Policies::of(&ring, self.fs.vault_owner(), may_see);
        if policies.keys.is_empty() {
            return Err(refusal(Action::Describe, ring.default_key().name()));
        }
        Ok(policies)
    }

    fn work(
        &self,
        work: &FileWork,
        subject: &Subject,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<Response, Failure> {
        if work.access() > self.fs.vault().access() {
            let message = format!("the vault {} is mounted read-only", self.vault().shown());
            return Err(Failure::new(Exit::Failed, message));
        }
        vault::reread(&self.keys, &self.fs)?;
        let outcome = work.perform(&self.vault(), &self.fs, (&self.keys, subject), progress)?;
        log::info!("{} ended: {}", work.name(), json!(outcome));
        Ok(outcome)
    }
}

impl RequestHandler for DaemonService {
    fn answer(
        &self,
        request: Request,
        peer: &Peer,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<Response, Failure> {
        let Some(kept) = self.fs.trail() else {
            self.admit(peer, &request)?;
            return self.perform(request, peer, progress);
        };
        let goes_on = self.trail_readers.goes_on(&peer.subject, &request);
        let done = self.admit(peer, &request).and_then(|()| {
            if leaves_trail(&request) && !goes_on {
                kept.check_writable()?;
            }
            self.perform(request.clone(), peer, progress)
        });
        if goes_on && done.is_ok() {
            return done;
        }
        let outcome = done.as_ref().map(|_| ());
        // With no hold on the keys while it is written.
        let event = event(&request, &self.fs.vault().context().ring(), &peer.subject, outcome);
        keep_events(kept, event);
        done
    }
}

impl DaemonService {
    fn perform(
        &self,
        request: Request,
        peer: &Peer,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<Response, Failure> {
        match request {
            Request::Keys => Ok(self.listed(peer)?.into()),
            Request::Policies => Ok(self.policies(peer)?.into()),
            Request::Simulate { uid, gid, groups, path, operation } => {
                let subject = Subject::user(uid, gid, groups);
                let verdict = self.fs.simulate(&path, operation, &subject);
                Ok(verdict.context(Exit::Failed, || path.shown().to_string())?.into())
            }
            Request::Policy(change) => self.change_policy(&change),
            // What it is about, the client does; it is recorded with all that is asked.
            Request::Note(_, mark) => self.keys.require_known(&mark).map(|()| Noted.into()),
            Request::KeyFile(mark) => self.note_key_file(&mark, peer),
            Request::Status => Ok(self.status().into()),
            Request::Change(change) => self.change(&change),
            Request::Work(work) => self.work(&work, &peer.subject, progress),
            Request::Trail(request) => {
                let reader = (&self.trail_readers, &peer.subject);
                answer_about_trail(&request, reader, &self.vault(), &self.fs)
            }
            Request::Verify { path } => {
                let found = self.fs.verify(&path, progress);
                Ok(found.map_err(|error| vault_failure(&self.vault().join(path), error))?.into())
            }
        }
    }
}

fn refusal(action: Action, key: &str) -> Failure {
    Failure::new(
        Exit::Policy,
        format!("the policy of the master key `{key}` does not let you {action}"),
    )
}
